#include "base/bytes.h"
#include "base/hash.h"
#include "format/format.h"

#include <errno.h>
#include <string.h>

const char *cellar_slot_label(enum cellar_slot_name name)
{
    static const char *const labels[CELLAR_SLOT_COUNT] = {
        "disk-sync #1",
        "disk-sync #2",
        "process-sync #1",
        "process-sync #2",
    };
    return labels[name];
}

void cellar_config_decode(const void *bytes, struct cellar_config *ret_config)
{
    const unsigned char *b = bytes;

    memcpy(ret_config->head, b + CELLAR_AT_HEAD, CELLAR_HEAD_BYTES);
    ret_config->bytes_per_cell = cellar_load_le32(b + CELLAR_AT_BYTES_PER_CELL);
    ret_config->max_index = cellar_load_le32(b + CELLAR_AT_MAX_INDEX);
    ret_config->version = cellar_load_le32(b + CELLAR_AT_VERSION);
}

void cellar_config_encode(const struct cellar_config *config, void *ret_bytes)
{
    unsigned char *b = ret_bytes;

    memcpy(b + CELLAR_AT_HEAD, config->head, CELLAR_HEAD_BYTES);
    cellar_store_le32(b + CELLAR_AT_BYTES_PER_CELL, config->bytes_per_cell);
    cellar_store_le32(b + CELLAR_AT_MAX_INDEX, config->max_index);
    cellar_store_le32(b + CELLAR_AT_VERSION, config->version);
}

int cellar_config_check(const struct cellar_config *config, uint64_t *ret_at, const char **ret_expected)
{
    uint64_t at;
    const char *expected;

    if (config->bytes_per_cell < CELLAR_BYTES_PER_CELL_MIN || config->bytes_per_cell > CELLAR_BYTES_PER_CELL_MAX) {
        at = CELLAR_AT_BYTES_PER_CELL;
        expected = "bytes per cell from 4 to 65535";
    } else if (config->max_index < cellar_start_index(config->bytes_per_cell)) {
        at = CELLAR_AT_MAX_INDEX;
        expected = "a max index that leaves room for the header's cells";
    } else {
        return 0;
    }
    if (ret_at != NULL)
        *ret_at = at;
    if (ret_expected != NULL)
        *ret_expected = expected;
    return -EINVAL;
}

bool cellar_config_equal(const struct cellar_config *a, const struct cellar_config *b)
{
    return memcmp(a->head, b->head, CELLAR_HEAD_BYTES) == 0 && a->bytes_per_cell == b->bytes_per_cell &&
           a->max_index == b->max_index && a->version == b->version;
}

uint32_t cellar_config_hash(const void *header)
{
    unsigned char hash[CELLAR_HASH_BYTES];
    uint32_t check;

    cellar_hash96(NULL, 0, header, CELLAR_AT_VERSION, hash);
    check = cellar_load_le32(hash);
    return check != 0 ? check : 1;
}

void cellar_record_encode(const struct cellar_record *record, void *ret_bytes)
{
    unsigned char *b = ret_bytes;

    cellar_store_le32(b + CELLAR_RECORD_AT_FROM, record->from_index);
    cellar_store_le32(b + CELLAR_RECORD_AT_ROOT, record->state.root_index);
    cellar_store_le32(b + CELLAR_RECORD_AT_NEXT, record->state.next_index);
    cellar_store_le64(b + CELLAR_RECORD_AT_HASH, record->hash);
}

struct cellar_record cellar_record_decode(const void *bytes)
{
    const unsigned char *b = bytes;

    return (struct cellar_record){.from_index = cellar_load_le32(b + CELLAR_RECORD_AT_FROM),
                                  .state = {.next_index = cellar_load_le32(b + CELLAR_RECORD_AT_NEXT),
                                            .root_index = cellar_load_le32(b + CELLAR_RECORD_AT_ROOT)},
                                  .hash = cellar_load_le64(b + CELLAR_RECORD_AT_HASH)};
}

struct cellar_extension cellar_extension_decode(const void *header)
{
    const unsigned char *b = header;

    return (struct cellar_extension){.word = {.next_index = cellar_load_le32(b + CELLAR_AT_WORD + 4),
                                              .root_index = cellar_load_le32(b + CELLAR_AT_WORD)},
                                     .epoch = cellar_load_le32(b + CELLAR_AT_EPOCH),
                                     .boot_mark = cellar_load_le64(b + CELLAR_AT_BOOT_MARK),
                                     .binding = cellar_load_le64(b + CELLAR_AT_BINDING),
                                     .flags = cellar_load_le32(b + CELLAR_AT_FLAGS),
                                     .config_check = cellar_load_le32(b + CELLAR_AT_CONFIG_CHECK),
                                     .confirmed_next = cellar_load_le32(b + CELLAR_AT_CONFIRMED)};
}

void cellar_slot_encode(const struct cellar_state *state, const struct cellar_key *key, void *ret_bytes)
{
    unsigned char *b = ret_bytes;
    unsigned char *fields = b + CELLAR_SLOT_AT_ROOT;

    cellar_store_le32(b + CELLAR_SLOT_AT_ROOT, state->root_index);
    cellar_store_le32(b + CELLAR_SLOT_AT_NEXT, state->next_index);
    cellar_hash96(NULL, 0, fields, 8, b + CELLAR_SLOT_AT_HASH);
    if (key != NULL)
        cellar_hash96(key->bytes, CELLAR_KEY_BYTES, fields, 8, b + CELLAR_SLOT_AT_KEYED_HASH);
    else
        memcpy(b + CELLAR_SLOT_AT_KEYED_HASH, b + CELLAR_SLOT_AT_HASH, CELLAR_HASH_BYTES);
}

struct cellar_state cellar_slot_state(const void *bytes)
{
    const unsigned char *b = bytes;

    return (struct cellar_state){.next_index = cellar_load_le32(b + CELLAR_SLOT_AT_NEXT),
                                 .root_index = cellar_load_le32(b + CELLAR_SLOT_AT_ROOT)};
}

struct cellar_slot cellar_slot_decode(const void *bytes)
{
    const unsigned char *b = bytes;
    unsigned char hash[CELLAR_HASH_BYTES];
    struct cellar_slot slot = {.state = cellar_slot_state(bytes),
                               .keyed = cellar_load_le64(b + CELLAR_SLOT_AT_KEYED_HASH)};

    cellar_hash96(NULL, 0, b + CELLAR_SLOT_AT_ROOT, 8, hash);
    slot.valid = memcmp(hash, b + CELLAR_SLOT_AT_HASH, CELLAR_HASH_BYTES) == 0;
    return slot;
}

bool cellar_slot_has_key(const void *bytes, const struct cellar_key *key)
{
    const unsigned char *b = bytes;
    unsigned char hash[CELLAR_HASH_BYTES];

    cellar_hash96(key->bytes, CELLAR_KEY_BYTES, b + CELLAR_SLOT_AT_ROOT, 8, hash);
    return memcmp(hash, b + CELLAR_SLOT_AT_KEYED_HASH, CELLAR_HASH_BYTES) == 0;
}

enum cellar_key_verdict cellar_slot_key(const void *bytes, const struct cellar_key *key)
{
    if (key == NULL || !cellar_slot_decode(bytes).valid)
        return CELLAR_KEY_UNKNOWN;
    return cellar_slot_has_key(bytes, key) ? CELLAR_KEY_GOOD : CELLAR_KEY_BAD;
}

int cellar_slot_pick(const struct cellar_slot *first, const struct cellar_slot *second)
{
    if (first->valid)
        return 0;
    return second->valid ? 1 : -1;
}
