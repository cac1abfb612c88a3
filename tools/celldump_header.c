/* celldump_header.c - celldump header: every field of the header with its offset, as bytes and as what it means. */
#include "celldump.h"

#include "base/bytes.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* How a field is read. */
enum field_kind { FIELD_BYTES, FIELD_TEXT, FIELD_NUMBER, FIELD_ROOT };

struct field {
    const char *name;
    enum field_kind kind;
    unsigned offset, length_bytes; /* inside the header, or inside a slot */
};

static const struct field config_fields[] = {
    {"head string", FIELD_TEXT, CELLAR_AT_HEAD, CELLAR_HEAD_BYTES},
    {"bytes per cell", FIELD_NUMBER, CELLAR_AT_BYTES_PER_CELL, 4},
    {"max index", FIELD_NUMBER, CELLAR_AT_MAX_INDEX, 4},
    {"version", FIELD_NUMBER, CELLAR_AT_VERSION, 4},
};

static const struct field slot_fields[] = {
    {"hash", FIELD_BYTES, CELLAR_SLOT_AT_HASH, CELLAR_HASH_BYTES},
    {"hash with key", FIELD_BYTES, CELLAR_SLOT_AT_KEYED_HASH, CELLAR_HASH_BYTES},
    {"root index", FIELD_ROOT, CELLAR_SLOT_AT_ROOT, 4},
    {"next index", FIELD_NUMBER, CELLAR_SLOT_AT_NEXT, 4},
};

/* The bytes 160..255, which the original leaves zero. */
static const struct field extension_fields[] = {
    {"published root", FIELD_ROOT, CELLAR_AT_WORD, 4},
    {"published next", FIELD_NUMBER, CELLAR_AT_WORD + 4, 4},
    {"boot mark", FIELD_BYTES, CELLAR_AT_BOOT_MARK, 8},
    {"writer epoch", FIELD_NUMBER, CELLAR_AT_EPOCH, 4},
    {"generation", FIELD_NUMBER, CELLAR_AT_EPOCH + 4, 4},
    {"binding", FIELD_BYTES, CELLAR_AT_BINDING, 8},
    {"flags", FIELD_BYTES, CELLAR_AT_FLAGS, 4},
    {"wait word", FIELD_NUMBER, CELLAR_AT_WAIT, 4},
    {"config check", FIELD_BYTES, CELLAR_AT_CONFIG_CHECK, 4},
    {"checksum file", FIELD_BYTES, CELLAR_AT_CHECKSUM_ID, 4},
    {"record 1 from", FIELD_NUMBER, CELLAR_AT_RECORDS + CELLAR_RECORD_AT_FROM, 4},
    {"record 1 root", FIELD_NUMBER, CELLAR_AT_RECORDS + CELLAR_RECORD_AT_ROOT, 4},
    {"record 1 next", FIELD_NUMBER, CELLAR_AT_RECORDS + CELLAR_RECORD_AT_NEXT, 4},
    {"record 1 hash", FIELD_BYTES, CELLAR_AT_RECORDS + CELLAR_RECORD_AT_HASH, 8},
    {"record 2 from", FIELD_NUMBER, CELLAR_AT_RECORDS + CELLAR_RECORD_BYTES + CELLAR_RECORD_AT_FROM, 4},
    {"record 2 root", FIELD_NUMBER, CELLAR_AT_RECORDS + CELLAR_RECORD_BYTES + CELLAR_RECORD_AT_ROOT, 4},
    {"record 2 next", FIELD_NUMBER, CELLAR_AT_RECORDS + CELLAR_RECORD_BYTES + CELLAR_RECORD_AT_NEXT, 4},
    {"record 2 hash", FIELD_BYTES, CELLAR_AT_RECORDS + CELLAR_RECORD_BYTES + CELLAR_RECORD_AT_HASH, 8},
    {"confirmed next", FIELD_NUMBER, CELLAR_AT_CONFIRMED, 4},
    {"reserved", FIELD_BYTES, CELLAR_AT_CONFIRMED + 4, 4},
};

enum { RAW_COLUMN_DIGITS = 2 * CELLAR_HEAD_BYTES };

/* One line, without its end: offset, length, name, the bytes, and what they mean. False if the file ends before. */
static bool print_field(const struct cellar_dump *dump, unsigned base, const struct field *field)
{
    const unsigned char *bytes = dump->header + base + field->offset;

    printf("%6u %6u  %-14s  ", base + field->offset, field->length_bytes, field->name);
    if (!cellar_dump_has(dump, base + field->offset, field->length_bytes)) {
        fputs("beyond the end of the file", stdout);
        return false;
    }
    cellar_dump_print_hex(stdout, bytes, field->length_bytes);
    for (unsigned i = 2 * field->length_bytes; i < RAW_COLUMN_DIGITS; i++)
        putchar(' ');
    if (field->kind == FIELD_TEXT) {
        fputs("  ", stdout);
        cellar_dump_print_quoted(stdout, bytes, field->length_bytes);
    } else if (field->kind == FIELD_NUMBER) {
        printf("  %" PRIu32, cellar_load_le32(bytes));
    } else if (field->kind == FIELD_ROOT) {
        printf("  %s", cellar_dump_root_text(cellar_load_le32(bytes)));
    }
    return true;
}

static void print_fields(const struct cellar_dump *dump, const struct field *fields, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        print_field(dump, 0, &fields[i]);
        putchar('\n');
    }
}

/* What the second hash says: in a disk-sync slot it repeats the first, in a process-sync slot it tells the key. */
static const char *second_hash_text(const struct cellar_dump *dump, enum cellar_slot_name name)
{
    const unsigned char *slot = dump->header + cellar_slot_offset(name);

    if (name < CELLAR_PROCESS_1)
        return memcmp(slot, slot + CELLAR_SLOT_AT_KEYED_HASH, CELLAR_HASH_BYTES) == 0
                   ? "repeats the hash"
                   : "does not repeat the hash; never checked";
    switch (dump->slots[name].key) {
    case CELLAR_KEY_GOOD:
        return "key good";
    case CELLAR_KEY_BAD:
        return "key bad";
    default:
        return "key unknown";
    }
}

static void print_slot(const struct cellar_dump *dump, enum cellar_slot_name name)
{
    const struct cellar_dump_slot *slot = &dump->slots[name];
    bool in_force = ((int)name == dump->disk && dump->record < 0) || (int)name == dump->process;

    printf("%s: %s%s\n", cellar_slot_label(name),
           slot->slot.valid ? "valid"
           : slot->present  ? "BROKEN"
                            : "not whole in the file",
           in_force ? ", in force" : "");
    for (size_t i = 0; i < sizeof slot_fields / sizeof slot_fields[0]; i++) {
        const struct field *field = &slot_fields[i];

        if (print_field(dump, (unsigned)cellar_slot_offset(name), field) && slot->present) {
            if (field->offset == CELLAR_SLOT_AT_HASH)
                fputs(slot->slot.valid ? "  valid" : "  not the hash of root and next", stdout);
            else if (field->offset == CELLAR_SLOT_AT_KEYED_HASH)
                printf("  %s", second_hash_text(dump, name));
        }
        putchar('\n');
    }
}

int cellar_dump_header(struct cellar_dump *dump, const struct cellar_dump_options *options)
{
    (void)options;
    cellar_dump_print_problems(dump);
    printf("offset  bytes  %-14s  %-*s  %s\n", "field", RAW_COLUMN_DIGITS, "raw", "decoded");
    print_fields(dump, config_fields, sizeof config_fields / sizeof config_fields[0]);
    for (int i = 0; i < CELLAR_SLOT_COUNT; i++)
        print_slot(dump, (enum cellar_slot_name)i);
    puts("extension bytes: zero in files of the original");
    print_fields(dump, extension_fields, sizeof extension_fields / sizeof extension_fields[0]);
    printf("state: %s\n", cellar_dump_state_name(dump->state));
    return cellar_dump_exit_code(dump);
}
