/*
 * Random operations on a store against a model of it in plain memory: after every one of them the store, and two
 * readers that follow it, must say what the model says. The same seed gives the same operations.
 */
#include "store_fixture.h"

#include <stdlib.h>
#include <string.h>

enum { STEPS = 1200, VALUES_MAX = 256, VALUE_BYTES_MAX = 200000 };

struct value {
    uint32_t index;
    size_t length_bytes;
    uint64_t seed;
};

struct model {
    struct store_fixture *f;
    uint64_t seed;
    struct cellar_config config;
    uint32_t start, step_cells;

    /* What is in the cells. defined: 0 for bytes that hold whatever was there, until they are committed. */
    unsigned char *bytes, *defined;
    struct cellar_state now, committed, flushed;
    struct value values[VALUES_MAX]; /* in the order of their indices */
    size_t value_count;
    uint32_t plain_first, plain_count; /* the last cells that were appended as such, to be rewritten */
    unsigned truncations, crashes, overflows;

    struct cellar_writer *writer;
    struct cellar_reader *follower, *durable; /* of commits, of flushes */
    unsigned char *buffer;                    /* VALUE_BYTES_MAX + 1 cell */
};

static uint32_t below(struct model *m, uint32_t limit)
{
    return (uint32_t)support_random_below(&m->seed, limit);
}

static unsigned char *at(unsigned char *bytes, const struct model *m, uint32_t index)
{
    return bytes + (size_t)index * m->config.bytes_per_cell;
}

static void define(struct model *m, size_t offset, const void *bytes, size_t length_bytes)
{
    if (length_bytes > 0)
        memcpy(m->bytes + offset, bytes, length_bytes);
    memset(m->defined + offset, 1, length_bytes);
}

static void undefine(struct model *m, uint32_t first_index, uint32_t cell_count)
{
    memset(at(m->defined, m, first_index), 0, (size_t)cell_count * m->config.bytes_per_cell);
}

/* Whether that many cells still fit; the store must say the same. */
static bool fits(struct model *m, uint64_t cell_count)
{
    return cell_count <= m->config.max_index - m->now.next_index;
}

static int expected_result(struct model *m, uint64_t cell_count)
{
    m->overflows += !fits(m, cell_count);
    return fits(m, cell_count) ? 0 : CELLAR_EINDEXFULL;
}

/* ---- appending ---- */

static void do_append(struct model *m)
{
    uint32_t most = VALUE_BYTES_MAX / m->config.bytes_per_cell;
    uint32_t count = 1 + below(m, below(m, 8) == 0 && most > 40 ? 40 : 3), index = 0;
    size_t length_bytes = (size_t)count * m->config.bytes_per_cell;
    int expected = expected_result(m, count);

    support_bytes(support_random(&m->seed), m->buffer, length_bytes);
    assert_result(cellar_writer_append(m->writer, m->buffer, count, &index), expected);
    if (expected != 0)
        return;
    assert_int_equal(index, m->now.next_index);
    define(m, (size_t)index * m->config.bytes_per_cell, m->buffer, length_bytes);
    m->plain_first = index;
    m->plain_count = count;
    m->now.next_index += count;
}

static void do_append_bytes(struct model *m)
{
    uint32_t b = m->config.bytes_per_cell, index = 0;
    size_t length_bytes = 1 + below(m, 3 * b);
    uint32_t count = (uint32_t)((length_bytes + b - 1) / b);
    int expected = expected_result(m, count);

    support_bytes(support_random(&m->seed), m->buffer, length_bytes);
    assert_result(cellar_writer_append_bytes(m->writer, m->buffer, length_bytes, &index), expected);
    if (expected != 0)
        return;
    memset(m->buffer + length_bytes, 0, (size_t)count * b - length_bytes);
    define(m, (size_t)index * b, m->buffer, (size_t)count * b);
    m->now.next_index += count;
}

/* Some of the reserved bytes are filled. */
static void do_reserve(struct model *m)
{
    uint32_t b = m->config.bytes_per_cell, count = 1 + below(m, 5), index = 0;
    size_t offset = below(m, b), length_bytes = below(m, (count - 1) * b + 1);
    int expected = expected_result(m, count);
    void *cells = NULL;

    assert_result(cellar_writer_reserve(m->writer, count, &index, &cells), expected);
    if (expected != 0)
        return;
    if (below(m, 2) == 0) {
        offset = 0;
        length_bytes = (size_t)count * b;
    }
    support_bytes(support_random(&m->seed), m->buffer, length_bytes);
    memcpy((unsigned char *)cells + offset, m->buffer, length_bytes);
    undefine(m, index, count);
    define(m, (size_t)index * b + offset, m->buffer, length_bytes);
    m->now.next_index += count;
}

static void do_rewrite(struct model *m)
{
    uint32_t b = m->config.bytes_per_cell, cell;
    size_t length_bytes;

    if (m->plain_count == 0)
        return;
    cell = below(m, m->plain_count);
    length_bytes = below(m, (m->plain_count - cell) * b + 1);
    support_bytes(support_random(&m->seed), m->buffer, length_bytes);
    assert_done(cellar_writer_rewrite(m->writer, m->plain_first + cell, m->buffer, length_bytes));
    define(m, (size_t)(m->plain_first + cell) * b, m->buffer, length_bytes);
}

/* The chunks of a value, as docs/format.md has them; returns its index. */
static uint32_t define_value(struct model *m, const unsigned char *bytes, size_t length_bytes)
{
    uint32_t b = m->config.bytes_per_cell, cdr = 0;

    do {
        size_t part = length_bytes < 65535 ? length_bytes : 65535;
        uint32_t cells = (uint32_t)((part + 6 + b - 1) / b), first = m->now.next_index;
        unsigned char footer[6] = {(unsigned char)part,       (unsigned char)(part >> 8), (unsigned char)cdr,
                                   (unsigned char)(cdr >> 8), (unsigned char)(cdr >> 16), (unsigned char)(cdr >> 24)};

        undefine(m, first, cells);
        define(m, (size_t)first * b, bytes, part);
        define(m, (size_t)(first + cells) * b - 6, footer, 6);
        m->now.next_index += cells;
        cdr = m->now.next_index - 1;
        bytes += part;
        length_bytes -= part;
    } while (length_bytes > 0);
    return cdr;
}

static uint64_t value_cells(const struct model *m, size_t length_bytes)
{
    uint32_t b = m->config.bytes_per_cell;
    uint64_t cells = (uint64_t)(length_bytes / 65535) * ((65535 + 6 + b - 1) / b);

    if (length_bytes % 65535 != 0 || length_bytes == 0)
        cells += (length_bytes % 65535 + 6 + b - 1) / b;
    return cells;
}

static void do_value(struct model *m)
{
    static const uint32_t most[] = {10, 300, 300, 5000, 66000, VALUE_BYTES_MAX};
    struct value value = {.length_bytes = below(m, most[below(m, SUPPORT_COUNT(most))]),
                          .seed = support_random(&m->seed)};
    int expected = expected_result(m, value_cells(m, value.length_bytes));
    size_t cut = below(m, (uint32_t)value.length_bytes + 1);
    struct iovec parts[2] = {{m->buffer, cut}, {m->buffer + cut, value.length_bytes - cut}};

    support_bytes(value.seed, m->buffer, value.length_bytes);
    if (below(m, 2) == 0)
        assert_result(cellar_writer_write_value(m->writer, m->buffer, value.length_bytes, &value.index), expected);
    else
        assert_result(cellar_writer_write_value_parts(m->writer, parts, 2, &value.index), expected);
    if (expected != 0)
        return;
    assert_int_equal(define_value(m, m->buffer, value.length_bytes), value.index);
    if (m->value_count == VALUES_MAX)
        memmove(m->values, m->values + 1, --m->value_count * sizeof m->values[0]);
    m->values[m->value_count++] = value;
}

static void do_set_root(struct model *m)
{
    uint32_t root = below(m, 8) == 0 ? CELLAR_ROOT_NONE : m->start + below(m, m->config.max_index - m->start);
    bool good = root == CELLAR_ROOT_NONE || root < m->now.next_index;

    assert_result(cellar_writer_set_root(m->writer, root), good ? 0 : CELLAR_EBOUNDS);
    if (good)
        m->now.root_index = root;
}

/* ---- states ---- */

/* Bytes that nobody defined are what they are from now on. */
static void settle_bytes(struct model *m, uint32_t from_index)
{
    struct cellar_snapshot snapshot = cellar_writer_snapshot(m->writer);
    uint32_t b = m->config.bytes_per_cell;
    unsigned char cell[CELLAR_BYTES_PER_CELL_MAX];

    for (uint32_t index = from_index; index < m->now.next_index; index++) {
        assert_done(cellar_snapshot_read(&snapshot, index, 0, cell, b));
        for (uint32_t i = 0; i < b; i++) {
            if (at(m->defined, m, index)[i] == 0)
                at(m->bytes, m, index)[i] = cell[i];
        }
        memset(at(m->defined, m, index), 1, b);
    }
}

static void note_commit(struct model *m)
{
    settle_bytes(m, m->committed.next_index);
    m->committed = m->now;
    m->plain_count = 0;
}

static void do_commit(struct model *m)
{
    assert_done(cellar_writer_commit(m->writer));
    note_commit(m);
}

static void do_flush(struct model *m)
{
    if (below(m, 3) == 0) {
        assert_done(cellar_writer_flush_committed(m->writer));
    } else {
        assert_done(cellar_writer_flush(m->writer));
        note_commit(m);
    }
    m->flushed = m->committed;
}

static void forget_values(struct model *m)
{
    while (m->value_count > 0 && m->values[m->value_count - 1].index >= m->now.next_index)
        m->value_count--;
    m->plain_count = 0;
}

static void do_rollback(struct model *m)
{
    assert_done(cellar_writer_rollback(m->writer));
    m->now = m->committed;
    forget_values(m);
}

static void open_writer(struct model *m)
{
    struct cellar_writer_options options = store_options(m->f);

    options.resize_step_bytes = (uint64_t)m->step_cells * m->config.bytes_per_cell;
    options.cache_bytes = 1;
    assert_done(store_open(m->f, &options, &m->writer));
}

static void do_close(struct model *m)
{
    struct cellar_recovery recovery;

    note_commit(m); /* closing commits */
    m->flushed = m->committed;
    assert_done(cellar_writer_close(m->writer));
    open_writer(m);
    cellar_writer_recovery(m->writer, &recovery);
    assert_int_equal(recovery.found, CELLAR_FOUND_CLEAN);
}

static void do_abandon(struct model *m)
{
    bool same = m->committed.next_index == m->flushed.next_index && m->committed.root_index == m->flushed.root_index;
    struct cellar_recovery recovery;
    bool machine = (m->crashes & 1) != 0 || !store_has_mark(m->f); /* every other crash is the machine's */

    cellar_writer_abandon(m->writer);
    if (machine)
        store_lose_power(m->f);
    open_writer(m);
    cellar_writer_recovery(m->writer, &recovery);
    assert_false(recovery.suspect);
    assert_int_equal(recovery.rewritten_cells, 0);
    if (!machine) {
        assert_int_equal(recovery.found, same ? CELLAR_FOUND_CLEAN : CELLAR_FOUND_COMMITTED);
        assert_int_equal(recovery.skipped_cells, 0);
        assert_false(recovery.root_dropped);
        m->now = m->committed;
        forget_values(m);
        m->crashes++;
        return;
    }
    assert_int_equal(recovery.found, same ? CELLAR_FOUND_CLEAN : CELLAR_FOUND_UNFLUSHED);
    assert_int_equal(recovery.skipped_cells, m->committed.next_index - m->flushed.next_index);
    assert_int_equal(recovery.root_dropped, m->committed.root_index != m->flushed.root_index);
    assert_int_equal(recovery.repaired_slots, 0);
    m->now = (struct cellar_state){.next_index = m->committed.next_index, .root_index = m->flushed.root_index};
    m->committed = m->flushed = m->now;
    forget_values(m);
    m->crashes++;
}

static void open_readers(struct model *m)
{
    struct cellar_reader_options options = store_reader_options(m->f);

    options.cache_bytes = 1;
    assert_done(store_read(m->f, &options, &m->durable));
    options.key = &m->f->key;
    assert_done(store_read(m->f, &options, &m->follower));
}

static void do_truncate(struct model *m)
{
    struct cellar_state empty = {.next_index = m->start};

    if (m->f->way->memory || (fits(m, 100) && below(m, 10) != 0))
        return;
    assert_done(cellar_writer_truncate(m->writer, m->start + below(m, 50)));
    assert_result(cellar_reader_refresh(m->follower), CELLAR_ERETIRED);
    assert_result(cellar_reader_refresh(m->durable), CELLAR_ERETIRED);
    cellar_reader_close(m->follower);
    cellar_reader_close(m->durable);
    m->now = m->committed = m->flushed = empty;
    forget_values(m);
    m->truncations++;
    open_readers(m);
}

static void do_override_version(struct model *m)
{
    m->config.version = below(m, UINT32_MAX);
    assert_done(cellar_writer_override_version(m->writer, m->config.version));
}

/* ---- looking ---- */

static void check_cells(struct model *m, const struct cellar_snapshot *snapshot, uint32_t first, uint32_t count)
{
    uint32_t b = m->config.bytes_per_cell;
    unsigned char scratch[CELLAR_BYTES_PER_CELL_MAX];

    for (uint32_t index = first; index < first + count; index++) {
        const unsigned char *expected = at(m->bytes, m, index), *defined = at(m->defined, m, index), *got;
        const void *cell = NULL;

        assert_done(cellar_snapshot_get(snapshot, index, scratch, &cell));
        got = cell;
        for (uint32_t i = 0; i < b; i++) {
            if (defined[i] != 0 && got[i] != expected[i])
                fail_msg("cell %u byte %u is %u, not %u", index, i, got[i], expected[i]);
        }
    }
}

static void check_snapshot(struct model *m, const struct cellar_snapshot *snapshot, const struct cellar_state *state,
                           bool all)
{
    uint32_t cells = state->next_index - m->start;

    assert_int_equal(snapshot->next_index, state->next_index);
    assert_int_equal(snapshot->root_index, state->root_index);
    assert_int_equal(snapshot->start_index, m->start);
    if (cells == 0)
        return;
    if (all)
        check_cells(m, snapshot, m->start, cells);
    else
        check_cells(m, snapshot, m->start + below(m, cells), 1);
    check_cells(m, snapshot, state->next_index - 1, 1);
    if (m->value_count > 0) {
        const struct value *value = &m->values[below(m, (uint32_t)m->value_count)];

        support_bytes(value->seed, m->buffer, value->length_bytes);
        if (value->index < state->next_index)
            store_assert_value(snapshot, value->index, m->buffer, value->length_bytes);
    }
}

static void check_reader(struct model *m, struct cellar_reader *reader, const struct cellar_state *state, bool all)
{
    struct cellar_snapshot before = cellar_reader_snapshot(reader), now;
    bool same = before.next_index == state->next_index && before.root_index == state->root_index;

    assert_result(cellar_reader_refresh(reader), same ? CELLAR_NONE : 0);
    now = cellar_reader_snapshot(reader);
    check_snapshot(m, &now, state, all);
}

static void check(struct model *m, int step)
{
    struct cellar_snapshot snapshot = cellar_writer_snapshot(m->writer);
    bool all = step % 250 == 0;

    check_snapshot(m, &snapshot, &m->now, all);
    assert_int_equal(cellar_writer_next(m->writer), m->now.next_index);
    assert_int_equal(cellar_writer_root(m->writer), m->now.root_index);
    if (step % 3 == 0)
        check_reader(m, m->follower, &m->committed, all);
    if (step % 5 == 0)
        check_reader(m, m->durable, &m->flushed, all);
}

/* The file of a closed store is what the model says, byte for byte. */
static void check_file(struct model *m)
{
    unsigned char expected[CELLAR_HEADER_BYTES] = {0};
    size_t length_bytes, used = (size_t)m->now.next_index * m->config.bytes_per_cell;
    size_t start = (size_t)m->start * m->config.bytes_per_cell;
    unsigned char *bytes = store_bytes(m->f, &length_bytes);

    cellar_config_encode(&m->config, expected);
    for (int name = 0; name < CELLAR_SLOT_COUNT; name++)
        cellar_slot_encode(&m->now, name < CELLAR_PROCESS_1 ? NULL : &m->f->key, expected + 32 + 32 * name);
    assert_true(length_bytes >= used);
    if (!m->f->way->memory)
        assert_int_equal(length_bytes, used);
    assert_memory_equal(bytes, expected, CELLAR_AT_EXTENSION);
    store_assert_marks(bytes);
    if (used > start)
        assert_memory_equal(bytes + start, m->bytes + start, used - start);
    free(bytes);
}

/* ---- the run ---- */

static void (*const operations[])(struct model *m) = {
    do_append, do_append, do_append,   do_append,   do_append_bytes, do_reserve,  do_reserve,  do_rewrite, do_rewrite,
    do_value,  do_value,  do_value,    do_set_root, do_set_root,     do_set_root, do_commit,   do_commit,  do_commit,
    do_flush,  do_flush,  do_rollback, do_close,    do_abandon,      do_abandon,  do_truncate,
};

static void begin(struct model *m, struct store_fixture *f, uint32_t bytes_per_cell, uint64_t seed)
{
    struct cellar_writer_options options = store_options(f);
    uint32_t start = cellar_start_index(bytes_per_cell);
    uint32_t max_index = start + 4000000 / bytes_per_cell;
    size_t length_bytes = (size_t)max_index * bytes_per_cell;

    *m = (struct model){.f = f, .seed = seed, .config = store_config(bytes_per_cell, max_index), .start = start};
    m->now = m->committed = m->flushed = (struct cellar_state){.next_index = start};
    m->step_cells = 1 + below(m, 100);
    m->bytes = malloc(length_bytes);
    m->defined = calloc(1, length_bytes);
    m->buffer = malloc(VALUE_BYTES_MAX + 4 * CELLAR_BYTES_PER_CELL_MAX);
    assert_true(m->bytes != NULL && m->defined != NULL && m->buffer != NULL);
    options.resize_step_bytes = (uint64_t)m->step_cells * bytes_per_cell;
    options.cache_bytes = 1;
    assert_done(store_create(f, &m->config, &options, &m->writer));
    open_readers(m);
}

static void end(struct model *m)
{
    cellar_reader_close(m->follower);
    cellar_reader_close(m->durable);
    note_commit(m);
    store_close(m->writer);
    check_file(m);
    store_remove(m->f);
    free(m->bytes);
    free(m->defined);
    free(m->buffer);
}

static void test_model(void **state)
{
    static const uint32_t cell_sizes[] = {4, 7, 32, 100, 5000};
    struct store_fixture *f = *state;
    unsigned truncations = 0, crashes = 0, overflows = 0;

    for (size_t i = 0; i < SUPPORT_COUNT(cell_sizes); i++) {
        struct model m;

        if (store_takes_slice(f) && cell_sizes[i] != 100)
            continue;
        begin(&m, f, cell_sizes[i], 1000 + i);
        for (int step = 1; step <= STEPS; step++) {
            operations[below(&m, SUPPORT_COUNT(operations))](&m);
            if (step % 100 == 0)
                do_override_version(&m);
            check(&m, step);
        }
        truncations += m.truncations;
        crashes += m.crashes;
        overflows += m.overflows;
        end(&m);
    }
    if (!store_takes_slice(f)) {
        assert_true(crashes > 200); /* the operations that matter have been met */
        assert_true(overflows > 0 || truncations > 10);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {STORE_ON_ALL(test_model)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
