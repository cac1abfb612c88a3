/* fuzz_ops_model.c - the store of the fuzzer of operations against its model. */
#include "fuzz_ops_model.h"
#include "fuzz_room.h"

#include <errno.h>
#include <string.h>

enum { AREA_BYTES = 100000, LONG_BYTES = 8192, LONG_LOOKS = 8 };

static const struct cellar_key writer_key = {.bytes = {9, 8, 7}};

static unsigned char *at(unsigned char *bytes, const struct ops_model *m, uint32_t index)
{
    return bytes + (size_t)index * m->config.bytes_per_cell;
}

void ops_define(struct ops_model *m, uint64_t offset, const void *bytes, size_t length_bytes)
{
    if (length_bytes == 0)
        return;
    memcpy(m->bytes + offset, bytes, length_bytes);
    memset(m->defined + offset, 1, length_bytes);
}

void ops_undefine(struct ops_model *m, uint32_t first_index, uint32_t cell_count)
{
    memset(at(m->defined, m, first_index), 0, (size_t)cell_count * m->config.bytes_per_cell);
}

/* Whether the bytes that are defined are the expected ones. */
static bool is_as_defined(const unsigned char *got, const unsigned char *expected, const unsigned char *defined,
                          size_t length_bytes)
{
    const unsigned char *end = defined + length_bytes;

    while (defined < end) {
        const unsigned char *gap = memchr(defined, 0, (size_t)(end - defined)), *next;
        size_t run = (size_t)((gap != NULL ? gap : end) - defined);

        if (memcmp(got, expected, run) != 0)
            return false;
        next = gap != NULL ? memchr(gap, 1, (size_t)(end - gap)) : NULL;
        if (next == NULL)
            return true;
        got += next - defined;
        expected += next - defined;
        defined = next;
    }
    return true;
}

static void settle_bytes(struct ops_model *m, uint32_t from_index)
{
    struct cellar_snapshot snapshot = cellar_writer_snapshot(m->writer);
    uint32_t cells = m->now.next_index - from_index;
    size_t length_bytes = (size_t)cells * m->config.bytes_per_cell;
    unsigned char *expected = at(m->bytes, m, from_index), *defined = at(m->defined, m, from_index), *got;

    if (cells == 0 || memchr(defined, 0, length_bytes) == NULL)
        return;
    got = malloc(length_bytes);
    FUZZ_NEEDS(got != NULL && cellar_snapshot_read(&snapshot, from_index, 0, got, length_bytes) == 0);
    FUZZ_NEEDS(is_as_defined(got, expected, defined, length_bytes));
    memcpy(expected, got, length_bytes);
    memset(defined, 1, length_bytes);
    free(got);
}

void ops_note_commit(struct ops_model *m)
{
    bool honest = m->fuzz.honest;

    m->fuzz.honest = true;
    settle_bytes(m, m->committed.next_index);
    m->fuzz.honest = honest;
    m->committed = m->now;
}

void ops_forget_values(struct ops_model *m)
{
    while (m->value_count > 0 && m->values[m->value_count - 1].index >= m->now.next_index)
        m->value_count--;
}

bool ops_went_well(struct ops_model *m, int result, int expected)
{
    if (result == expected)
        return result == 0;
    if (m->fuzz.honest || !(fuzz_device_may_say(result) || result == CELLAR_EBOUNDS))
        fprintf(stderr, "result %d, expected %d\n", result, expected);
    /* Wrong answers may come to light as the errors that they are, or as an end of the device that it has not. */
    FUZZ_NEEDS(!m->fuzz.honest && (fuzz_device_may_say(result) || result == CELLAR_EBOUNDS));
    m->failed = true;
    return false;
}

/* ---- opening ---- */

static void open_readers(struct ops_model *m)
{
    struct cellar_reader_options options = {.cache_bytes = 1};

    FUZZ_NEEDS(cellar_reader_open_on(m->device, &options, &m->durable) == 0);
    options.key = &writer_key;
    FUZZ_NEEDS(cellar_reader_open_on(m->device, &options, &m->follower) == 0);
}

static bool was_tried(const struct ops_model *m, uint32_t root_index)
{
    for (unsigned i = 0; i < OPS_TRIED_MAX && i < m->tried_count; i++) {
        if (m->tried_roots[i] == root_index)
            return true;
    }
    return false;
}

/*
 * The state that was adopted is one that a crash here may lead to: everything committed, and what was being committed
 * when the device failed as a whole or not at all; the root of one of the states, too. Without failures the root is the
 * committed one, where the device says that nothing was lost, and else the flushed one.
 */
static void take_state(struct ops_model *m)
{
    bool whole = m->fuzz.incarnation != 0 && !m->lost_boot;
    uint32_t root = whole ? m->committed.root_index : m->flushed.root_index;
    struct cellar_snapshot snapshot = cellar_writer_snapshot(m->writer), flushed;
    struct cellar_state state = {.next_index = snapshot.next_index, .root_index = snapshot.root_index};

    FUZZ_NEEDS(state.next_index == m->committed.next_index || (m->failed && state.next_index == m->now.next_index));
    FUZZ_NEEDS(state.root_index == root || (!whole && was_tried(m, state.root_index)) ||
               (m->failed && (state.root_index == m->flushed.root_index ||
                              state.root_index == m->committed.root_index || state.root_index == m->now.root_index)));
    m->now = state;
    ops_check_cells(m, &snapshot, m->start, state.next_index - m->start);
    settle_bytes(m, m->committed.next_index);
    FUZZ_NEEDS(cellar_reader_refresh(m->durable) >= 0);
    flushed = cellar_reader_snapshot(m->durable);
    FUZZ_NEEDS(flushed.next_index == m->flushed.next_index || flushed.next_index == state.next_index ||
               (m->failed && flushed.next_index == m->committed.next_index));
    m->committed = state;
    m->flushed = (struct cellar_state){.next_index = flushed.next_index, .root_index = flushed.root_index};
    m->failed = m->lost_boot = false;
    ops_forget_values(m);
}

void ops_open_again(struct ops_model *m)
{
    cellar_writer_abandon(m->writer);
    m->writer = NULL;
    if (ops_below(m, 4) == 0) { /* once more, on a device that fails meanwhile */
        if (!m->failed)
            m->now = m->committed;
        m->failed = true;
        m->fuzz.honest = false;
        if (cellar_writer_open_on(m->device, &m->options, &m->writer) != 0)
            m->writer = NULL;
    }
    m->fuzz.honest = true;
    cellar_writer_abandon(m->writer);
    FUZZ_NEEDS(cellar_writer_open_on(m->device, &m->options, &m->writer) == 0);
    take_state(m);
}

static unsigned char *take_room(size_t length_bytes)
{
    unsigned char *room = fuzz_room_take(length_bytes);

    fuzz_room_show(room, length_bytes);
    return room;
}

void ops_begin(struct ops_model *m, struct fuzz_input *input)
{
    static const uint32_t cell_bytes[] = {32, 4, 5, 7, 64, 100, 256, 1000};
    uint32_t b = cell_bytes[fuzz_below(input, FUZZ_COUNT(cell_bytes))], start = cellar_start_index(b);
    uint32_t most = (AREA_BYTES - CELLAR_HEADER_BYTES) / b - 1, choice = fuzz_byte(input);

    *m = (struct ops_model){.input = input, .start = start};
    m->config = (struct cellar_config){.bytes_per_cell = b, .max_index = start + 1 + fuzz_below(input, most - 1)};
    if ((choice & 64) != 0 && m->config.max_index > start + 40)
        m->config.max_index = start + 40; /* it will be full soon */
    m->limit_bytes = (choice & 32) != 0 ? (uint64_t)(start + 30) * b : (uint64_t)m->config.max_index * b;
    m->fuzz = (struct fuzz_device){.capacity_bytes = (size_t)m->limit_bytes,
                                   .has_window = (choice & 3) < 2,
                                   .lends = (choice & 2) != 0,
                                   .block_bytes = (choice & 12) == 12 ? 16 : 1,
                                   .incarnation = fuzz_below(input, 4) == 3 ? 0 : UINT64_C(7) << 32 | 1,
                                   .honest = true,
                                   .answers = fuzz_take(input, (choice & 128) != 0 ? 16 : 0)};
    if (m->fuzz.block_bytes > 1) {
        m->fuzz.fixed = true;
        m->fuzz.capacity_bytes = (m->fuzz.capacity_bytes + 15) / 16 * 16;
        m->fuzz.size_bytes = m->limit_bytes = m->fuzz.capacity_bytes;
    }
    m->options = (struct cellar_writer_options){.key = &writer_key,
                                                .resize_step_bytes = 1 + fuzz_below(input, 8) * 4 * b,
                                                .initial_cells = start,
                                                .cache_bytes = 1,
                                                .eager_writes = CELLAR_EAGER_NONE,
                                                .compat = (choice & 16) != 0};
    m->now = m->committed = m->flushed = (struct cellar_state){.next_index = start};
    m->bytes = take_room((size_t)m->config.max_index * b);
    m->defined = take_room((size_t)m->config.max_index * b);
    m->buffer = take_room(OPS_WRITE_BYTES_MAX + 4 * (size_t)b);
    memset(m->defined, 0, (size_t)m->config.max_index * b);
    m->device = fuzz_device_open(&m->fuzz);
    FUZZ_NEEDS(cellar_writer_create_on(m->device, &m->config, &m->options, &m->writer) == 0);
    open_readers(m);
}

/* ---- looking ---- */

void ops_check_cells(struct ops_model *m, const struct cellar_snapshot *snapshot, uint32_t first, uint32_t count)
{
    size_t length_bytes = (size_t)count * m->config.bytes_per_cell;
    const unsigned char *expected = at(m->bytes, m, first), *defined = at(m->defined, m, first);
    unsigned char *got = malloc(length_bytes + 1);

    FUZZ_NEEDS(got != NULL);
    if (count > 0)
        FUZZ_NEEDS(cellar_snapshot_read(snapshot, first, 0, got, length_bytes) == 0);
    FUZZ_NEEDS(is_as_defined(got, expected, defined, length_bytes));
    free(got);
}

static void check_value(struct ops_model *m, const struct cellar_snapshot *snapshot, const struct ops_value *value)
{
    uint64_t size_bytes = 0;
    size_t got = 0;
    void *bytes = NULL;

    if (value->index >= snapshot->next_index) {
        FUZZ_NEEDS(cellar_snapshot_value_size(snapshot, value->index, &size_bytes) == CELLAR_EBOUNDS);
        return;
    }
    FUZZ_NEEDS(cellar_snapshot_value_size(snapshot, value->index, &size_bytes) == 0);
    FUZZ_NEEDS(size_bytes == value->length_bytes);
    FUZZ_NEEDS(cellar_snapshot_copy_value(snapshot, value->index, &bytes, &got) == 0 && got == size_bytes);
    fuzz_fill(m->buffer, got, value->number);
    FUZZ_NEEDS(memcmp(bytes, m->buffer, got) == 0);
    free(bytes);
}

static void check_snapshot(struct ops_model *m, const struct cellar_snapshot *snapshot,
                           const struct cellar_state *state)
{
    uint32_t cells = state->next_index - m->start;

    FUZZ_NEEDS(snapshot->next_index == state->next_index && snapshot->root_index == state->root_index);
    FUZZ_NEEDS(snapshot->start_index == m->start && snapshot->bytes_per_cell == m->config.bytes_per_cell);
    if (cells == 0)
        return;
    ops_check_cells(m, snapshot, m->start + ops_below(m, cells), 1);
    ops_check_cells(m, snapshot, state->next_index - 1, 1);
    if (m->value_count > 0) {
        const struct ops_value *value = &m->values[ops_below(m, (uint32_t)m->value_count)];

        /* A long one takes as long as many operations. */
        if (value->length_bytes < LONG_BYTES || m->long_looks++ % LONG_LOOKS == 0)
            check_value(m, snapshot, value);
    }
}

static void check_reader(struct ops_model *m, struct cellar_reader *reader, const struct cellar_state *state)
{
    struct cellar_snapshot before = cellar_reader_snapshot(reader), now;
    bool same = before.next_index == state->next_index && before.root_index == state->root_index;

    FUZZ_NEEDS(cellar_reader_refresh(reader) == (same ? CELLAR_NONE : 0));
    now = cellar_reader_snapshot(reader);
    check_snapshot(m, &now, state);
    if (ops_below(m, 4) == 0)
        m->old[ops_below(m, OPS_SNAPSHOTS_MAX)] = now;
}

/* What a reader has seen once it sees for ever. */
static void check_old(struct ops_model *m)
{
    const struct cellar_snapshot *old = &m->old[ops_below(m, OPS_SNAPSHOTS_MAX)];

    if (old->bytes_per_cell != 0 && old->next_index > m->start)
        ops_check_cells(m, old, m->start + ops_below(m, old->next_index - m->start), 1);
}

void ops_check(struct ops_model *m)
{
    bool honest = m->fuzz.honest;
    struct cellar_snapshot snapshot;

    m->fuzz.honest = true;
    snapshot = cellar_writer_snapshot(m->writer);
    check_snapshot(m, &snapshot, &m->now);
    FUZZ_NEEDS(cellar_writer_next(m->writer) == m->now.next_index);
    FUZZ_NEEDS(cellar_writer_root(m->writer) == m->now.root_index);
    switch (ops_below(m, 4)) {
    case 0:
        check_reader(m, m->follower, &m->committed);
        break;
    case 1:
        check_reader(m, m->durable, &m->flushed);
        break;
    case 2:
        check_old(m);
        break;
    default:
        break;
    }
    m->fuzz.honest = honest;
}

void ops_check_all(struct ops_model *m)
{
    struct cellar_snapshot snapshot = cellar_writer_snapshot(m->writer);

    ops_check_cells(m, &snapshot, m->start, m->now.next_index - m->start);
    for (size_t i = 0; i < m->value_count; i++)
        check_value(m, &snapshot, &m->values[i]);
    for (int i = 0; i < OPS_SNAPSHOTS_MAX; i++) {
        if (m->old[i].bytes_per_cell != 0)
            ops_check_cells(m, &m->old[i], m->start, m->old[i].next_index - m->start);
    }
    check_reader(m, m->follower, &m->committed);
    check_reader(m, m->durable, &m->flushed);
}

/* The bytes of a closed store are what the model says, slots included. */
static void check_file(struct ops_model *m)
{
    unsigned char expected[CELLAR_AT_EXTENSION];
    size_t from = (size_t)m->start * m->config.bytes_per_cell;
    size_t used = (size_t)m->now.next_index * m->config.bytes_per_cell;

    cellar_config_encode(&m->config, expected);
    for (int name = 0; name < CELLAR_SLOT_COUNT; name++)
        cellar_slot_encode(&m->now, name < CELLAR_PROCESS_1 ? NULL : &writer_key, expected + 32 + 32 * name);
    FUZZ_NEEDS(m->fuzz.size_bytes >= used && memcmp(m->fuzz.bytes, expected, sizeof expected) == 0);
    FUZZ_NEEDS(used == from || memcmp(m->fuzz.bytes + from, m->bytes + from, used - from) == 0);
}

void ops_end(struct ops_model *m)
{
    m->fuzz.honest = true;
    if (m->failed)
        ops_open_again(m);
    ops_check_all(m);
    ops_note_commit(m); /* closing commits */
    FUZZ_NEEDS(cellar_writer_close(m->writer) == 0);
    m->flushed = m->committed;
    check_reader(m, m->durable, &m->flushed);
    check_file(m);
    cellar_reader_close(m->follower);
    cellar_reader_close(m->durable);
    FUZZ_NEEDS(cellar_device_close(m->device) == 0);
    fuzz_room_give(m->bytes);
    fuzz_room_give(m->defined);
    fuzz_room_give(m->buffer);
}
