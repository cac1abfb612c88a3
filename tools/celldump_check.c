/* celldump_check.c - celldump check: walks what can be walked, and says everything that is wrong. */
#include "celldump.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { NOTES_MAX = 24 };

/* What was found and is no problem, as text. */
struct notes {
    char texts[NOTES_MAX][CELLAR_DUMP_TEXT_BYTES];
    size_t count;
};

static void note(struct notes *notes, const char *format, ...) CELLAR_TOOL_PRINTF(2, 3);

static void note(struct notes *notes, const char *format, ...)
{
    va_list arguments;

    if (notes->count == NOTES_MAX)
        return;
    va_start(arguments, format);
    vsnprintf(notes->texts[notes->count++], CELLAR_DUMP_TEXT_BYTES, format, arguments);
    va_end(arguments);
}

static void note_header(const struct cellar_dump *dump, struct notes *notes)
{
    if (dump->cells_known)
        note(notes,
             "size: %" PRIu64 " bytes, %" PRIu64 " whole cells of %" PRIu32 " bytes, the first usable one %" PRIu32,
             dump->file_bytes, dump->cell_count, dump->config.bytes_per_cell, dump->start_index);
    else
        note(notes, "size: %" PRIu64 " bytes", dump->file_bytes);
    for (int i = 0; i < CELLAR_SLOT_COUNT; i++) {
        enum cellar_slot_name name = (enum cellar_slot_name)i;
        const struct cellar_dump_slot *slot = &dump->slots[i];
        const unsigned char *bytes = dump->header + cellar_slot_offset(name);

        if (!slot->slot.valid)
            continue;
        note(notes, "offset %" PRIu64 ": %s is valid: next %" PRIu32 ", root %s%s", cellar_slot_offset(name),
             cellar_slot_label(name), slot->slot.state.next_index, cellar_dump_root_text(slot->slot.state.root_index),
             (i == dump->disk && dump->record < 0) || i == dump->process ? ", in force" : "");
        if (i < CELLAR_PROCESS_1 && memcmp(bytes, bytes + CELLAR_SLOT_AT_KEYED_HASH, CELLAR_HASH_BYTES) != 0)
            note(notes, "offset %" PRIu64 ": the second hash of %s does not repeat the first; it is never checked",
                 cellar_slot_offset(name) + CELLAR_SLOT_AT_KEYED_HASH, cellar_slot_label(name));
    }
}

static void note_record(const struct cellar_dump *dump, struct notes *notes)
{
    if (dump->record >= 0)
        note(notes,
             "offset %" PRIu64 ": record %d of a checked flush holds: next %" PRIu32
             ", root %s, in force; a power loss came before its slots were on the disk",
             cellar_record_offset(dump->record), dump->record + 1, dump->recorded.next_index,
             cellar_dump_root_text(dump->recorded.root_index));
}

/* The bytes that the original leaves zero. */
static void note_extension(const struct cellar_dump *dump, struct notes *notes)
{
    size_t used = 0, first = 0;

    for (size_t at = CELLAR_AT_EXTENSION; at < dump->header_bytes; at++) {
        if (dump->header[at] != 0 && used++ == 0)
            first = at;
    }
    if (used > 0)
        note(notes, "offset %zu: %zu of the extension bytes %d..%d are in use", first, used, CELLAR_AT_EXTENSION,
             CELLAR_HEADER_BYTES - 1);
    else if (dump->header_bytes == CELLAR_HEADER_BYTES)
        note(notes, "offset %d: the extension bytes %d..%d are zero", CELLAR_AT_EXTENSION, CELLAR_AT_EXTENSION,
             CELLAR_HEADER_BYTES - 1);
    if (cellar_dump_is_retired(dump))
        note(notes, "offset %d: the file is retired: truncate put another in its place", CELLAR_AT_FLAGS);
}

/* Whether a reader can reach what the root of this state names, as far as the format says what that is. ret_chain: of
 * its value, where it is one. */
static void note_reach(const struct cellar_dump *dump, const struct cellar_state *state, const char *label,
                       bool is_value, const struct cellar_dump_chain *chain, struct notes *notes)
{
    uint32_t root_index = state->root_index;

    if (root_index < dump->start_index || root_index >= dump->cell_count || root_index >= state->next_index)
        note(notes, "the %s root %" PRIu32 " cannot be reached: it is no cell in use", label, root_index);
    else if (is_value && chain->broken)
        note(notes, "the %s root %" PRIu32 " cannot be reached: its chain of chunks is broken", label, root_index);
    else
        note(notes, "the %s root %" PRIu32 " can be reached", label, root_index);
}

/* Walks the value at the root of a state in force. 0, or a negative error (said why). */
static int walk_root(struct cellar_dump *dump, const struct cellar_state *state, const char *label, struct notes *notes)
{
    struct cellar_dump_chain chain = {.broken = false};
    bool is_value;
    int error;

    if (state->root_index == CELLAR_ROOT_NONE) {
        note(notes, "the %s root is none", label);
        return 0;
    }
    if (state->root_index < dump->start_index || state->root_index >= dump->cell_count) {
        note_reach(dump, state, label, false, &chain, notes); /* it is among the problems of the header */
        return 0;
    }
    error = cellar_dump_is_value(dump, state->root_index, &is_value);
    if (error != 0)
        return error;
    if (!is_value) {
        note(notes, "the %s root %" PRIu32 " names a cell that cannot be told to end a value", label,
             state->root_index);
        note_reach(dump, state, label, false, &chain, notes);
        return 0;
    }
    error = cellar_dump_chain_walk(dump, state->root_index, false, &chain);
    if (error == 0 && !chain.broken)
        note(notes,
             "the %s root %" PRIu32 " names a value of %" PRIu64 " bytes in %" PRIu64 " chunk%s, cells %" PRIu32
             "..%" PRIu32,
             label, state->root_index, chain.size_bytes, chain.chunk_count, chain.chunk_count == 1 ? "" : "s",
             chain.first_index, state->root_index);
    if (error == 0)
        note_reach(dump, state, label, true, &chain, notes);
    return error;
}

static int walk_roots(struct cellar_dump *dump, struct notes *notes)
{
    const struct cellar_state *disk = cellar_dump_flushed(dump);
    const struct cellar_state *process = cellar_dump_committed(dump);
    int error = 0;

    if (!dump->cells_known)
        return 0;
    if (disk != NULL && process != NULL && process->root_index == disk->root_index)
        return walk_root(dump, process, "committed", notes); /* which is the flushed one, too */
    if (disk != NULL)
        error = walk_root(dump, disk, "flushed", notes);
    if (error == 0 && process != NULL)
        error = walk_root(dump, process, "committed", notes);
    return error;
}

/* The checksums, where the store has them. */
static int check_sums(struct cellar_dump *dump, struct notes *notes)
{
    struct cellar_sums_report report;
    int error = cellar_dump_sums(dump, &report);

    if (error != 0)
        return error == CELLAR_NONE ? 0 : error;
    note(notes,
         "checksums: %" PRIu64 " bytes compared, %" PRIu64 " rotten block%s; %" PRIu64 " flushed bytes have none",
         report.verified_bytes, report.rotten_blocks, report.rotten_blocks == 1 ? "" : "s", report.uncovered_bytes);
    return 0;
}

static int print_json(const struct cellar_dump *dump, const struct notes *notes)
{
    json_t *json = json_object(), *texts = json_array();

    for (size_t i = 0; i < notes->count; i++)
        json_array_append_new(texts, json_string(notes->texts[i]));
    json_object_set_new(json, "state", json_string(cellar_dump_state_name(dump->state)));
    json_object_set_new(json, "problems", cellar_dump_problems_json(dump));
    json_object_set_new(json, "notes", texts);
    return cellar_dump_print_json(json);
}

static void print_text(const struct cellar_dump *dump, const struct notes *notes)
{
    for (size_t i = 0; i < notes->count; i++)
        printf("note     %s\n", notes->texts[i]);
    for (size_t i = 0; i < dump->problem_count; i++)
        printf("problem  offset %" PRIu64 ": %s\n", dump->problems[i].file_offset, dump->problems[i].text);
    printf("state    %s, %zu problem%s\n", cellar_dump_state_name(dump->state), dump->problem_count,
           dump->problem_count == 1 ? "" : "s");
}

int cellar_dump_check(struct cellar_dump *dump, const struct cellar_dump_options *options)
{
    struct notes notes = {.count = 0};
    int error;

    note_header(dump, &notes);
    note_record(dump, &notes);
    note_extension(dump, &notes);
    error = walk_roots(dump, &notes);
    if (error == 0)
        error = check_sums(dump, &notes);
    /* Where both go to one terminal, once is enough. */
    if (options->json || !isatty(STDOUT_FILENO) || !isatty(STDERR_FILENO))
        cellar_dump_print_problems(dump);
    if (options->json) {
        if (print_json(dump, &notes) != 0)
            return CELLAR_EXIT_SYSTEM;
    } else {
        print_text(dump, &notes);
    }
    return error != 0 ? CELLAR_EXIT_SYSTEM : cellar_dump_exit_code(dump);
}
