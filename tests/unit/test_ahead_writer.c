/* Writers with a helper, its thread and all, on real files: what they append is there, whatever it does. */
#include "store_fixture.h"
#include "support.h"

#include "store_internal.h"

#include <signal.h>
#include <string.h>
#include <sys/stat.h>

enum { CELL = 64, MIB = 1 << 20, CELLS_MAX = 24 * MIB / CELL, BATCH = 1000 };

static struct cellar_writer_options options_of(const struct store_fixture *f, unsigned ahead)
{
    struct cellar_writer_options options = store_options(f);

    options.resize_step_bytes = MIB;
    options.ahead = ahead;
    return options;
}

static struct cellar_writer *make(struct store_fixture *f, unsigned ahead)
{
    struct cellar_writer_options options = options_of(f, ahead);
    struct cellar_config config = store_config(CELL, CELLS_MAX);
    struct cellar_writer *writer;

    assert_done(store_create(f, &config, &options, &writer));
    return writer;
}

static void append_to(struct cellar_writer *writer, uint32_t next_index)
{
    while (cellar_writer_next(writer) < next_index) {
        uint32_t left = next_index - cellar_writer_next(writer);

        store_append(writer, left < BATCH ? left : BATCH);
        if (cellar_writer_next(writer) % 7 == 0)
            assert_done(cellar_writer_commit(writer));
    }
    assert_done(cellar_writer_commit(writer));
}

static struct stat status_of(const struct store_fixture *f)
{
    struct stat status;

    assert_int_equal(stat(f->path, &status), 0);
    return status;
}

/* All is as it was appended, and the file is as long as its cells. */
static void check_closed(struct store_fixture *f, uint32_t next_index)
{
    struct cellar_reader *reader = store_reader(f, NULL);
    struct cellar_snapshot snapshot = cellar_reader_snapshot(reader);

    assert_int_equal(snapshot.next_index, next_index);
    store_assert_cells(&snapshot);
    cellar_reader_close(reader);
    assert_int_equal(status_of(f).st_size, (uint64_t)next_index * CELL);
}

static bool has_thread(struct cellar_writer *writer)
{
    return atomic_load(&writer->ahead.thread_state) == CELLAR_AHEAD_RUNS;
}

static void test_append_beside_it(void **state)
{
    static const unsigned options[] = {0, CELLAR_AHEAD_NONE, CELLAR_AHEAD_NO_GROWTH, CELLAR_AHEAD_NO_POPULATION,
                                       CELLAR_AHEAD_NO_WRITES};
    struct store_fixture *f = *state;

    for (size_t i = 0; i < sizeof options / sizeof options[0]; i++) {
        struct cellar_writer *writer = make(f, options[i]);

        append_to(writer, 12 * MIB / CELL);
        assert_int_equal(has_thread(writer), options[i] != CELLAR_AHEAD_NONE && f->way == &store_ways[STORE_MAPPED]);
        store_close(writer);
        check_closed(f, 12 * MIB / CELL);
        writer = store_again(f);
        append_to(writer, 20 * MIB / CELL);
        store_close(writer);
        check_closed(f, 20 * MIB / CELL);
        store_remove(f);
    }
}

/* Up to the last cell that there may be. */
static void test_to_the_end(void **state)
{
    struct store_fixture *f = *state;
    struct cellar_writer *writer = make(f, 0);
    unsigned char cell[CELL] = {0};
    uint32_t index;

    append_to(writer, CELLS_MAX);
    assert_result(cellar_writer_append(writer, cell, 1, &index), CELLAR_EINDEXFULL);
    store_close(writer);
    check_closed(f, CELLS_MAX);
}

/* A store that is small has no thread. */
static void test_small(void **state)
{
    struct store_fixture *f = *state;
    struct cellar_writer *writer = make(f, 0);

    append_to(writer, MIB / CELL);
    for (int i = 0; i < 100; i++) {
        store_append(writer, 1);
        assert_done(cellar_writer_flush(writer));
    }
    assert_false(has_thread(writer));
    store_close(writer);
}

/* Small flushes: the helper writes pages that are being stored into. */
static void test_flush_beside_it(void **state)
{
    struct store_fixture *f = *state;
    struct cellar_writer *writer = make(f, 0);
    uint32_t next;

    for (int i = 0; i < 600; i++) {
        store_append(writer, 1 + (uint32_t)i % 64);
        assert_done(cellar_writer_flush(writer));
    }
    assert_true(has_thread(writer));
    next = cellar_writer_next(writer);
    store_close(writer);
    check_closed(f, next);
}

/* Whatever the writer does next, the helper is gone before. */
static void test_truncate_rollback_abandon(void **state)
{
    struct store_fixture *f = *state;
    struct cellar_writer *writer = make(f, 0);
    uint32_t next;

    append_to(writer, 6 * MIB / CELL);
    assert_done(cellar_writer_truncate(writer, 0));
    assert_false(has_thread(writer));
    append_to(writer, 5 * MIB / CELL);
    assert_true(has_thread(writer));
    next = cellar_writer_next(writer);
    store_append(writer, 3 * MIB / CELL);
    assert_done(cellar_writer_rollback(writer));
    assert_int_equal(cellar_writer_next(writer), next);
    append_to(writer, 7 * MIB / CELL);
    assert_done(cellar_writer_flush(writer));
    cellar_writer_abandon(writer);
    writer = store_again(f);
    assert_int_equal(cellar_writer_next(writer), 7 * MIB / CELL);
    append_to(writer, 9 * MIB / CELL);
    store_close(writer);
    check_closed(f, 9 * MIB / CELL);
}

static int close_in_child(void *user)
{
    struct cellar_writer *writer = user;
    unsigned char cell[CELL] = {0};
    uint32_t index;

    SUPPORT_CHILD_NEEDS(cellar_writer_append(writer, cell, 1, &index) == CELLAR_EFORKED);
    SUPPORT_CHILD_NEEDS(cellar_writer_close(writer) == 0);
    return 0;
}

/* A child has no helper to wait for. */
static void test_fork(void **state)
{
    struct store_fixture *f = *state;
    struct cellar_writer *writer = make(f, 0);

    append_to(writer, 6 * MIB / CELL);
    assert_true(has_thread(writer));
    assert_int_equal(support_child(close_in_child, writer), 0);
    append_to(writer, 9 * MIB / CELL);
    store_close(writer);
    check_closed(f, 9 * MIB / CELL);
}

enum { KILLED_AT = 9 * MIB / CELL };

static int append_and_die(void *user)
{
    struct store_fixture *f = user;
    struct cellar_writer_options options = options_of(f, 0);
    unsigned char cell[CELL];
    struct cellar_writer *writer = NULL;
    uint32_t index = 0;

    SUPPORT_CHILD_NEEDS(store_open(f, &options, &writer) == 0);
    while (index < KILLED_AT - 1) {
        store_cell_bytes(cellar_writer_next(writer), cell, sizeof cell);
        SUPPORT_CHILD_NEEDS(cellar_writer_append(writer, cell, 1, &index) == 0);
        if (index % BATCH == 0 || index == KILLED_AT - 1)
            SUPPORT_CHILD_NEEDS(cellar_writer_commit(writer) == 0);
    }
    SUPPORT_CHILD_NEEDS(has_thread(writer));
    raise(SIGKILL);
    return 0;
}

/* The helper dies in the middle of a step, whichever: what was committed is there, and the next writer goes on. */
static void test_killed(void **state)
{
    struct store_fixture *f = *state;
    struct cellar_writer *writer = make(f, 0);
    struct cellar_snapshot snapshot;

    store_close(writer);
    assert_int_equal(support_child(append_and_die, f), -SIGKILL);
    writer = store_again(f);
    assert_int_equal(cellar_writer_next(writer), KILLED_AT);
    snapshot = cellar_writer_snapshot(writer);
    store_assert_cells(&snapshot);
    append_to(writer, 12 * MIB / CELL);
    store_close(writer);
    check_closed(f, 12 * MIB / CELL);
}

/* Others may have the file mapped: it stays as it is. */
static void test_compat_has_none(void **state)
{
    struct store_fixture *f = *state;
    struct cellar_writer_options options = options_of(f, 0);
    struct cellar_config config = store_config(CELL, CELLS_MAX);
    struct cellar_writer *writer;

    options.compat = true;
    assert_done(store_create(f, &config, &options, &writer));
    append_to(writer, 6 * MIB / CELL);
    assert_false(has_thread(writer));
    store_close(writer);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        STORE_ON_FILES(test_append_beside_it),
        STORE_ON(test_to_the_end, STORE_MAPPED),
        STORE_ON(test_small, STORE_MAPPED),
        STORE_ON(test_flush_beside_it, STORE_MAPPED),
        STORE_ON(test_truncate_rollback_abandon, STORE_MAPPED),
        STORE_ON(test_fork, STORE_MAPPED),
        STORE_ON(test_killed, STORE_MAPPED),
        STORE_ON(test_compat_has_none, STORE_MAPPED),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
