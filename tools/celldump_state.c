/* celldump_state.c - what the header says, and what is wrong with it. No I/O. */
#include "celldump.h"

#include "base/bytes.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

bool cellar_dump_has(const struct cellar_dump *dump, size_t offset, size_t length_bytes)
{
    return offset + length_bytes <= dump->header_bytes;
}

void cellar_dump_add_problem(struct cellar_dump *dump, enum cellar_dump_state state, uint64_t file_offset,
                             const char *format, ...)
{
    struct cellar_dump_problem *problem;
    va_list arguments;

    if (state > dump->state)
        dump->state = state;
    if (dump->problem_count == CELLAR_DUMP_PROBLEMS_MAX)
        return;
    problem = &dump->problems[dump->problem_count++];
    problem->file_offset = file_offset;
    va_start(arguments, format);
    vsnprintf(problem->text, sizeof problem->text, format, arguments);
    va_end(arguments);
}

const struct cellar_state *cellar_dump_state_of(const struct cellar_dump *dump, int slot)
{
    return slot < 0 ? NULL : &dump->slots[slot].slot.state;
}

const struct cellar_state *cellar_dump_flushed(const struct cellar_dump *dump)
{
    return dump->record >= 0 ? &dump->recorded : cellar_dump_state_of(dump, dump->disk);
}

const struct cellar_state *cellar_dump_committed(const struct cellar_dump *dump)
{
    return dump->by_word ? &dump->word : cellar_dump_state_of(dump, dump->process);
}

static void decode(struct cellar_dump *dump)
{
    unsigned char whole[CELLAR_HEADER_BYTES] = {0};

    /* What the file does not have reads as zero here; nobody uses it. */
    memcpy(whole, dump->header, dump->header_bytes);
    cellar_config_decode(whole, &dump->config);
    dump->cells_known = cellar_dump_has(dump, CELLAR_AT_BYTES_PER_CELL, 4) &&
                        dump->config.bytes_per_cell >= CELLAR_BYTES_PER_CELL_MIN &&
                        dump->config.bytes_per_cell <= CELLAR_BYTES_PER_CELL_MAX;
    if (dump->cells_known) {
        dump->start_index = cellar_start_index(dump->config.bytes_per_cell);
        dump->cell_count = dump->file_bytes / dump->config.bytes_per_cell;
    }
    for (int i = 0; i < CELLAR_SLOT_COUNT; i++) {
        size_t offset = (size_t)cellar_slot_offset((enum cellar_slot_name)i);
        struct cellar_dump_slot *slot = &dump->slots[i];

        slot->present = cellar_dump_has(dump, offset, CELLAR_SLOT_BYTES);
        if (slot->present)
            slot->slot = cellar_slot_decode(whole + offset);
        if (slot->present && i >= CELLAR_PROCESS_1)
            slot->key = cellar_slot_key(whole + offset, dump->key);
    }
    dump->disk = cellar_slot_pick(&dump->slots[CELLAR_DISK_1].slot, &dump->slots[CELLAR_DISK_2].slot);
    dump->process = cellar_slot_pick(&dump->slots[CELLAR_PROCESS_1].slot, &dump->slots[CELLAR_PROCESS_2].slot);
    if (dump->process >= 0)
        dump->process += CELLAR_PROCESS_1;
}

static void examine_config(struct cellar_dump *dump)
{
    const struct cellar_config *config = &dump->config;
    const char *expected;
    uint64_t at;

    if (cellar_config_check(config, &at, &expected) == 0 || !cellar_dump_has(dump, at, 4))
        return;
    if (at == CELLAR_AT_BYTES_PER_CELL)
        cellar_dump_add_problem(dump, CELLAR_DUMP_CORRUPT, at, "found %" PRIu32 " bytes per cell, expected %s",
                                config->bytes_per_cell, expected);
    else
        cellar_dump_add_problem(dump, CELLAR_DUMP_CORRUPT, at, "found max index %" PRIu32 ", expected %s",
                                config->max_index, expected);
}

/* The check of the config, where there is one, and the mark of a failed sync. */
static void examine_marks(struct cellar_dump *dump)
{
    struct cellar_extension extension;

    if (!cellar_dump_has(dump, 0, CELLAR_HEADER_BYTES))
        return;
    extension = cellar_extension_decode(dump->header);
    if (extension.config_check != 0 && extension.config_check != cellar_config_hash(dump->header))
        cellar_dump_add_problem(dump, CELLAR_DUMP_CORRUPT, CELLAR_AT_CONFIG_CHECK,
                                "found check %08" PRIx32 " of the config, expected %08" PRIx32
                                ", that of the bytes 0..27 there",
                                extension.config_check, cellar_config_hash(dump->header));
    if ((extension.flags & CELLAR_FLAG_SUSPECT) != 0)
        cellar_dump_add_problem(dump, CELLAR_DUMP_RECOVERABLE, CELLAR_AT_FLAGS,
                                "found the mark of a failed sync: what was not flushed is not trusted");
}

static void examine_size(struct cellar_dump *dump)
{
    uint32_t bytes_per_cell = dump->config.bytes_per_cell;

    if (dump->file_bytes < CELLAR_HEADER_BYTES)
        cellar_dump_add_problem(dump, CELLAR_DUMP_CORRUPT, dump->file_bytes,
                                "found the end of the file, expected %d bytes of header", CELLAR_HEADER_BYTES);
    if (!dump->cells_known)
        return;
    if (dump->file_bytes % bytes_per_cell != 0)
        cellar_dump_add_problem(dump, CELLAR_DUMP_CORRUPT, dump->cell_count * bytes_per_cell,
                                "found %" PRIu64 " bytes behind the last whole cell, expected a whole number of cells "
                                "of %" PRIu32 " bytes",
                                dump->file_bytes % bytes_per_cell, bytes_per_cell);
    if (cellar_dump_has(dump, CELLAR_AT_MAX_INDEX, 4) && dump->cell_count > dump->config.max_index)
        cellar_dump_add_problem(dump, CELLAR_DUMP_CORRUPT, CELLAR_AT_MAX_INDEX,
                                "found max index %" PRIu32 ", expected at least %" PRIu64 ", the cells of the file",
                                dump->config.max_index, dump->cell_count);
}

static void examine_slot(struct cellar_dump *dump, enum cellar_slot_name name)
{
    char found[2 * CELLAR_HASH_BYTES + 1], expected[2 * CELLAR_HASH_BYTES + 1];
    const struct cellar_dump_slot *slot = &dump->slots[name];
    uint64_t offset = cellar_slot_offset(name);
    unsigned char good[CELLAR_SLOT_BYTES];

    if (slot->slot.valid)
        return;
    if (!slot->present) {
        cellar_dump_add_problem(dump, CELLAR_DUMP_RECOVERABLE, offset,
                                "found the end of the file at %" PRIu64 ", expected %s", dump->file_bytes,
                                cellar_slot_label(name));
        return;
    }
    cellar_slot_encode(&slot->slot.state, NULL, good);
    cellar_dump_add_problem(dump, CELLAR_DUMP_RECOVERABLE, offset,
                            "found hash %s in %s, expected %s, that of root %" PRIu32 " and next %" PRIu32,
                            cellar_dump_hex(dump->header + offset, CELLAR_HASH_BYTES, found), cellar_slot_label(name),
                            cellar_dump_hex(good, CELLAR_HASH_BYTES, expected), slot->slot.state.root_index,
                            slot->slot.state.next_index);
}

/* Two whole slots that differ are a state that an update cut short leaves behind: #1 is in force, and that is all. */
static void examine_pair(struct cellar_dump *dump, enum cellar_slot_name first)
{
    enum cellar_slot_name second = (enum cellar_slot_name)(first + 1);
    const struct cellar_slot *a = &dump->slots[first].slot, *b = &dump->slots[second].slot;

    examine_slot(dump, first);
    examine_slot(dump, second);
    if (!a->valid && !b->valid)
        cellar_dump_add_problem(
            dump, first == CELLAR_DISK_1 && dump->record < 0 ? CELLAR_DUMP_CORRUPT : CELLAR_DUMP_RECOVERABLE,
            cellar_slot_offset(first), "found %s and #2 broken, expected at least one whole slot",
            cellar_slot_label(first));
    if (a->valid && b->valid &&
        (a->state.next_index != b->state.next_index || a->state.root_index != b->state.root_index))
        cellar_dump_add_problem(dump, CELLAR_DUMP_CLEAN, cellar_slot_offset(second) + CELLAR_SLOT_AT_ROOT,
                                "found root %" PRIu32 " and next %" PRIu32 " in %s, expected root %" PRIu32
                                " and next %" PRIu32 " as in #1, which is in force",
                                b->state.root_index, b->state.next_index, cellar_slot_label(second),
                                a->state.root_index, a->state.next_index);
}

/* The state in force of a pair against the cells of the file. */
static void examine_state(struct cellar_dump *dump, int slot)
{
    const struct cellar_state *state = cellar_dump_state_of(dump, slot);
    uint64_t offset = slot < 0 ? 0 : cellar_slot_offset((enum cellar_slot_name)slot);

    if (state == NULL || !dump->cells_known)
        return;
    if (state->next_index < dump->start_index)
        cellar_dump_add_problem(dump, CELLAR_DUMP_CORRUPT, offset + CELLAR_SLOT_AT_NEXT,
                                "found next index %" PRIu32 ", expected at least %" PRIu32 ", the first usable cell",
                                state->next_index, dump->start_index);
    else if (state->next_index > dump->cell_count)
        cellar_dump_add_problem(dump, CELLAR_DUMP_CORRUPT, offset + CELLAR_SLOT_AT_NEXT,
                                "found next index %" PRIu32 ", expected at most %" PRIu64 ", the cells of the file",
                                state->next_index, dump->cell_count);
    if (state->root_index != CELLAR_ROOT_NONE &&
        (state->root_index < dump->start_index || state->root_index >= state->next_index))
        cellar_dump_add_problem(dump, CELLAR_DUMP_CLEAN, offset + CELLAR_SLOT_AT_ROOT,
                                "found root index %" PRIu32 ", expected 0 (none) or a cell from %" PRIu32
                                " to the one before next index %" PRIu32,
                                state->root_index, dump->start_index, state->next_index);
}

static void examine_sync(struct cellar_dump *dump)
{
    const struct cellar_state *disk = cellar_dump_flushed(dump);
    const struct cellar_state *process = cellar_dump_committed(dump);
    uint64_t offset;

    if (disk == NULL || process == NULL)
        return;
    offset = dump->by_word ? CELLAR_AT_WORD + 4
                           : cellar_slot_offset((enum cellar_slot_name)dump->process) + CELLAR_SLOT_AT_NEXT;
    if (disk->next_index > process->next_index)
        cellar_dump_add_problem(dump, CELLAR_DUMP_RECOVERABLE, offset,
                                "found process-sync next index %" PRIu32 ", expected at least %" PRIu32
                                ", the disk-sync one",
                                process->next_index, disk->next_index);
    else if ((disk->next_index != process->next_index || disk->root_index != process->root_index) &&
             dump->state == CELLAR_DUMP_CLEAN)
        dump->state = CELLAR_DUMP_UNFLUSHED;
}

void cellar_dump_examine(struct cellar_dump *dump)
{
    decode(dump);
    examine_size(dump);
    examine_config(dump);
    examine_marks(dump);
    examine_pair(dump, CELLAR_DISK_1);
    examine_pair(dump, CELLAR_PROCESS_1);
    examine_state(dump, dump->disk);
    examine_state(dump, dump->process);
    if (dump->wild_word)
        cellar_dump_add_problem(dump, CELLAR_DUMP_CORRUPT, CELLAR_AT_WORD + 4,
                                "found next index %" PRIu32 " in the published word, expected at most %" PRIu64
                                ", the cells of the file",
                                dump->word.next_index, dump->cell_count);
    examine_sync(dump);
}

uint32_t cellar_dump_bound(const struct cellar_dump *dump)
{
    const struct cellar_state *states[] = {cellar_dump_flushed(dump), cellar_dump_committed(dump)};
    uint32_t bound = 0;

    for (size_t i = 0; i < sizeof states / sizeof states[0]; i++) {
        const struct cellar_state *state = states[i];

        if (state != NULL && state->next_index >= dump->start_index && state->next_index <= dump->cell_count &&
            state->next_index > bound)
            bound = state->next_index;
    }
    if (bound > 0)
        return bound;
    return dump->cell_count < UINT32_MAX ? (uint32_t)dump->cell_count : UINT32_MAX;
}

bool cellar_dump_is_retired(const struct cellar_dump *dump)
{
    return cellar_dump_has(dump, CELLAR_AT_FLAGS, 4) &&
           (cellar_load_le32(dump->header + CELLAR_AT_FLAGS) & CELLAR_FLAG_RETIRED) != 0;
}

const char *cellar_dump_state_name(enum cellar_dump_state state)
{
    switch (state) {
    case CELLAR_DUMP_UNFLUSHED:
        return "unflushed";
    case CELLAR_DUMP_RECOVERABLE:
        return "recoverable";
    case CELLAR_DUMP_CORRUPT:
        return "corrupt";
    default:
        return "clean";
    }
}

int cellar_dump_exit_code(const struct cellar_dump *dump)
{
    switch (dump->state) {
    case CELLAR_DUMP_RECOVERABLE:
        return CELLAR_EXIT_RECOVERABLE;
    case CELLAR_DUMP_CORRUPT:
        return CELLAR_EXIT_CORRUPT;
    default:
        return CELLAR_EXIT_DONE;
    }
}

void cellar_dump_print_problems(const struct cellar_dump *dump)
{
    for (size_t i = 0; i < dump->problem_count; i++)
        cellar_tool_error(dump->path, dump->problems[i].file_offset, "%s", dump->problems[i].text);
}
