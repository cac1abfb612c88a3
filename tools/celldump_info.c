/* celldump_info.c - celldump info: what a store is and stands at. */
#include "celldump.h"

#include <inttypes.h>
#include <stdio.h>

static const char *verdict_name(enum cellar_key_verdict verdict)
{
    switch (verdict) {
    case CELLAR_KEY_GOOD:
        return "good";
    case CELLAR_KEY_BAD:
        return "bad";
    default:
        return "unknown";
    }
}

/* ---- JSON ---- */

static json_t *number_if(bool there, uint64_t number)
{
    return there ? json_integer((json_int_t)number) : json_null();
}

static json_t *root_if(bool there, uint32_t root_index)
{
    return number_if(there && root_index != CELLAR_ROOT_NONE, root_index);
}

static json_t *slot_json(const struct cellar_dump *dump, enum cellar_slot_name name)
{
    const struct cellar_dump_slot *slot = &dump->slots[name];
    json_t *json = json_object();

    json_object_set_new(json, "valid", json_boolean(slot->slot.valid));
    json_object_set_new(json, "next_index", number_if(slot->present, slot->slot.state.next_index));
    json_object_set_new(json, "root_index", root_if(slot->present, slot->slot.state.root_index));
    if (name >= CELLAR_PROCESS_1)
        json_object_set_new(json, "key", json_string(verdict_name(slot->key)));
    return json;
}

static json_t *pair_json(const struct cellar_dump *dump, enum cellar_slot_name first)
{
    json_t *json = json_array();

    json_array_append_new(json, slot_json(dump, first));
    json_array_append_new(json, slot_json(dump, (enum cellar_slot_name)(first + 1)));
    return json;
}

/* The record that says what is flushed; null: the disk-sync pair does. */
static json_t *record_json(const struct cellar_dump *dump)
{
    json_t *json = dump->record >= 0 ? json_object() : json_null();

    if (dump->record < 0)
        return json;
    json_object_set_new(json, "number", json_integer(dump->record + 1));
    json_object_set_new(json, "next_index", number_if(true, dump->recorded.next_index));
    json_object_set_new(json, "root_index", root_if(true, dump->recorded.root_index));
    return json;
}

/* The published word, where it stands in place of the process-sync pair. */
static json_t *word_json(const struct cellar_dump *dump)
{
    json_t *json;

    if (!dump->by_word)
        return json_null();
    json = json_object();
    json_object_set_new(json, "next_index", number_if(true, dump->word.next_index));
    json_object_set_new(json, "root_index", root_if(true, dump->word.root_index));
    return json;
}

static json_t *info_json(const struct cellar_dump *dump)
{
    const struct cellar_config *config = &dump->config;
    const struct cellar_state *state = cellar_dump_flushed(dump);
    char head[2 * CELLAR_HEAD_BYTES + 1];
    json_t *json = json_object();

    if (cellar_dump_has(dump, CELLAR_AT_HEAD, CELLAR_HEAD_BYTES))
        json_object_set_new(json, "head_string", json_string(cellar_dump_hex(config->head, CELLAR_HEAD_BYTES, head)));
    else
        json_object_set_new(json, "head_string", json_null());
    json_object_set_new(json, "bytes_per_cell",
                        number_if(cellar_dump_has(dump, CELLAR_AT_BYTES_PER_CELL, 4), config->bytes_per_cell));
    json_object_set_new(json, "max_index", number_if(cellar_dump_has(dump, CELLAR_AT_MAX_INDEX, 4), config->max_index));
    json_object_set_new(json, "version", number_if(cellar_dump_has(dump, CELLAR_AT_VERSION, 4), config->version));
    json_object_set_new(json, "start_index", number_if(dump->cells_known, dump->start_index));
    json_object_set_new(json, "file_bytes", number_if(true, dump->file_bytes));
    json_object_set_new(json, "cells", number_if(dump->cells_known, dump->cell_count));
    json_object_set_new(json, "disk_sync", pair_json(dump, CELLAR_DISK_1));
    json_object_set_new(json, "process_sync", pair_json(dump, CELLAR_PROCESS_1));
    json_object_set_new(json, "record", record_json(dump));
    json_object_set_new(json, "word", word_json(dump));
    json_object_set_new(json, "state", json_string(cellar_dump_state_name(dump->state)));
    json_object_set_new(json, "next_index", number_if(state != NULL, state != NULL ? state->next_index : 0));
    json_object_set_new(json, "root_index", root_if(state != NULL, state != NULL ? state->root_index : 0));
    json_object_set_new(json, "problems", cellar_dump_problems_json(dump));
    return json;
}

/* ---- text ---- */

static void print_config(const struct cellar_dump *dump)
{
    const struct cellar_config *config = &dump->config;

    printf("file             %s\n", dump->path);
    printf("size             %" PRIu64 " bytes", dump->file_bytes);
    if (dump->cells_known)
        printf(", %" PRIu64 " cells of %" PRIu32 " bytes, the first usable one %" PRIu32, dump->cell_count,
               config->bytes_per_cell, dump->start_index);
    putchar('\n');
    if (cellar_dump_has(dump, CELLAR_AT_HEAD, CELLAR_HEAD_BYTES)) {
        fputs("head string      ", stdout);
        cellar_dump_print_quoted(stdout, config->head, CELLAR_HEAD_BYTES);
        putchar('\n');
    }
    if (cellar_dump_has(dump, CELLAR_AT_BYTES_PER_CELL, 4))
        printf("bytes per cell   %" PRIu32 "\n", config->bytes_per_cell);
    if (cellar_dump_has(dump, CELLAR_AT_MAX_INDEX, 4))
        printf("max index        %" PRIu32 "\n", config->max_index);
    if (cellar_dump_has(dump, CELLAR_AT_VERSION, 4))
        printf("version          %" PRIu32 "\n", config->version);
}

static void print_slot(const struct cellar_dump *dump, enum cellar_slot_name name)
{
    const struct cellar_dump_slot *slot = &dump->slots[name];

    if (!slot->present) {
        printf("%-16s not in the file\n", cellar_slot_label(name));
        return;
    }
    printf("%-16s %s, next %" PRIu32 ", root %s", cellar_slot_label(name), slot->slot.valid ? "valid" : "BROKEN",
           slot->slot.state.next_index, cellar_dump_root_text(slot->slot.state.root_index));
    if (name >= CELLAR_PROCESS_1 && dump->key != NULL)
        printf(", key %s", verdict_name(slot->key));
    putchar('\n');
}

static void print_state(const struct cellar_dump *dump)
{
    const struct cellar_state *disk = cellar_dump_flushed(dump);
    const struct cellar_state *process = cellar_dump_committed(dump);

    if (dump->record >= 0)
        printf("record %d         holds, next %" PRIu32 ", root %s: newer than the disk-sync slots\n", dump->record + 1,
               dump->recorded.next_index, cellar_dump_root_text(dump->recorded.root_index));
    if (dump->by_word)
        printf("published word   next %" PRIu32 ", root %s: in place of the process-sync slots\n",
               dump->word.next_index, cellar_dump_root_text(dump->word.root_index));
    if (disk != NULL)
        printf("flushed          next %" PRIu32 ", root %s: what a reader without key sees\n", disk->next_index,
               cellar_dump_root_text(disk->root_index));
    if (disk != NULL && process != NULL && dump->state == CELLAR_DUMP_UNFLUSHED)
        printf("unflushed        %" PRIu32 " cells, root %s\n", process->next_index - disk->next_index,
               cellar_dump_root_text(process->root_index));
    if (cellar_dump_is_retired(dump))
        puts("retired          truncate put another file in this one's place");
    printf("state            %s\n", cellar_dump_state_name(dump->state));
}

int cellar_dump_info(struct cellar_dump *dump, const struct cellar_dump_options *options)
{
    cellar_dump_print_problems(dump);
    if (options->json)
        return cellar_dump_print_json(info_json(dump)) != 0 ? CELLAR_EXIT_SYSTEM : cellar_dump_exit_code(dump);
    print_config(dump);
    for (int i = 0; i < CELLAR_SLOT_COUNT; i++)
        print_slot(dump, (enum cellar_slot_name)i);
    print_state(dump);
    return cellar_dump_exit_code(dump);
}
