/* Cells that are filled where they lie: seen by the writer at once, by readers once they are committed. */
#include "store_fixture.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static void fill(void *cells, uint32_t first_index, uint32_t cell_count, uint32_t bytes_per_cell)
{
    for (uint32_t i = 0; i < cell_count; i++)
        store_cell_bytes(first_index + i, (unsigned char *)cells + (size_t)i * bytes_per_cell, bytes_per_cell);
}

static void test_reserve(void **state)
{
    static const uint32_t cell_bytes[] = {4, 7, 32, 100, 4096, 65535};
    struct store_fixture *f = *state;

    for (size_t i = 0; i < SUPPORT_COUNT(cell_bytes); i++) {
        struct cellar_writer *writer = store_new(f, cell_bytes[i], 400);
        struct cellar_reader *reader = store_reader(f, &f->key);
        struct cellar_snapshot snapshot;
        uint32_t first = 0, second = 0;
        void *cells, *more;

        store_append(writer, 3);
        assert_done(cellar_writer_reserve(writer, 50, &first, &cells));
        store_append(writer, 2); /* appending goes on before it is filled */
        assert_done(cellar_writer_reserve(writer, 1, &second, &more));
        assert_int_equal(second, first + 52);
        fill(more, second, 1, cell_bytes[i]);
        fill(cells, first, 20, cell_bytes[i]);
        snapshot = cellar_writer_snapshot(writer); /* what is filled so far is there */
        assert_true(store_cells_hold(&snapshot, first, 20));
        assert_true(store_cells_hold(&snapshot, second, 1));
        fill((unsigned char *)cells + 20 * (size_t)cell_bytes[i], first + 20, 30, cell_bytes[i]);
        snapshot = cellar_writer_snapshot(writer); /* and what came after */
        store_assert_cells(&snapshot);
        assert_result(cellar_reader_refresh(reader), CELLAR_NONE);
        assert_done(cellar_writer_commit(writer));
        snapshot = cellar_writer_snapshot(writer);
        store_assert_cells(&snapshot);
        assert_done(cellar_reader_refresh(reader));
        snapshot = cellar_reader_snapshot(reader);
        assert_int_equal(snapshot.next_index, second + 1);
        store_assert_cells(&snapshot);
        cellar_reader_close(reader);
        store_close(writer);
        writer = store_again(f);
        snapshot = cellar_writer_snapshot(writer);
        store_assert_cells(&snapshot);
        store_close(writer);
        store_remove(f);
    }
}

/* Filled after a snapshot was taken, committed without another one. */
static void test_stores_up_to_the_commit_count(void **state)
{
    struct store_fixture *f = *state;
    struct cellar_writer *writer = store_new(f, 32, 4000);
    struct cellar_snapshot snapshot;
    uint32_t first = 0;
    void *cells;

    assert_done(cellar_writer_reserve(writer, 300, &first, &cells));
    memset(cells, 0xdd, 300 * 32);
    (void)cellar_writer_snapshot(writer);
    fill(cells, first, 300, 32);
    assert_done(cellar_writer_flush(writer));
    cellar_writer_abandon(writer);
    writer = store_again(f);
    snapshot = cellar_writer_snapshot(writer);
    assert_int_equal(snapshot.next_index, 308);
    store_assert_cells(&snapshot);
    store_close(writer);
}

/* Closing commits what was filled in place, too. */
static void test_close_commits_reservations(void **state)
{
    struct store_fixture *f = *state;
    struct cellar_writer *writer = store_new(f, 32, 4000);
    struct cellar_snapshot snapshot;
    uint32_t first = 0;
    void *cells;

    assert_done(cellar_writer_reserve(writer, 10, &first, &cells));
    fill(cells, first, 10, 32);
    store_close(writer);
    writer = store_again(f);
    snapshot = cellar_writer_snapshot(writer);
    assert_int_equal(snapshot.next_index, 18);
    store_assert_cells(&snapshot);
    assert_done(cellar_writer_reserve(writer, 10, &first, &cells));
    cellar_writer_abandon(writer); /* gives the memory back */
}

static void test_reserve_limits(void **state)
{
    static const struct {
        uint32_t bytes_per_cell, most;
    } cases[] = {{4, 65538}, {5, 65538}, {6, 65538}, {7, 65537}, {32, 65537}, {65535, 65537}};
    struct store_fixture *f = *state;
    struct cellar_snapshot snapshot;
    struct cellar_writer *writer;
    uint32_t first = 77, most;
    void *cells = NULL;

    for (size_t i = 0; i < SUPPORT_COUNT(cases); i++)
        assert_int_equal(cellar_writer_reserve_max(cases[i].bytes_per_cell), cases[i].most);
    writer = store_new(f, 4, 400000);
    most = cellar_writer_reserve_max(4);
    assert_result(cellar_writer_reserve(writer, 0, &first, &cells), -EINVAL);
    assert_result(cellar_writer_reserve(writer, most + 1, &first, &cells), -EINVAL);
    assert_result(cellar_writer_reserve(writer, UINT32_MAX, &first, &cells), -EINVAL);
    assert_int_equal(first, 77);
    assert_null(cells);
    assert_int_equal(cellar_writer_next(writer), 64);
    assert_done(cellar_writer_reserve(writer, most, &first, &cells));
    assert_int_equal(first, 64);
    fill(cells, first, most, 4);
    assert_done(cellar_writer_commit(writer));
    snapshot = cellar_writer_snapshot(writer);
    store_assert_cells(&snapshot);
    store_close(writer);
}

/* A rewrite over reserved cells and those beside them: the later store wins, whichever way it came. */
static void test_rewrite_reserved(void **state)
{
    struct store_fixture *f = *state;
    struct cellar_writer *writer = store_new(f, 32, 4000);
    struct cellar_snapshot snapshot;
    unsigned char expected[8 * 32], bytes[6 * 32], got[8 * 32];
    uint32_t first = 0, second = 0;
    void *cells, *more;

    store_append(writer, 2); /* 8, 9; reserved: 10..12; 13; reserved: 14, 15 */
    assert_done(cellar_writer_reserve(writer, 3, &first, &cells));
    store_append(writer, 1);
    assert_done(cellar_writer_reserve(writer, 2, &second, &more));
    fill(cells, first, 3, 32);
    fill(more, second, 2, 32);
    for (uint32_t i = 0; i < 8; i++)
        store_cell_bytes(8 + i, expected + 32 * (size_t)i, 32);
    support_bytes(1234, bytes, sizeof bytes);
    assert_done(cellar_writer_rewrite(writer, 9, bytes, 5 * 32 + 9)); /* 9..14 */
    memcpy(expected + 32, bytes, 5 * 32 + 9);
    snapshot = cellar_writer_snapshot(writer);
    assert_done(cellar_snapshot_read(&snapshot, 8, 0, got, sizeof got));
    assert_memory_equal(got, expected, sizeof got);
    memset((unsigned char *)cells + 40, 0x17, 5); /* in place, over what was rewritten */
    memset(expected + 2 * 32 + 40, 0x17, 5);
    assert_done(cellar_writer_rewrite(writer, 15, bytes, 32));
    memcpy(expected + 7 * 32, bytes, 32);
    assert_done(cellar_writer_commit(writer));
    snapshot = cellar_writer_snapshot(writer);
    assert_done(cellar_snapshot_read(&snapshot, 8, 0, got, sizeof got));
    assert_memory_equal(got, expected, sizeof got);
    store_close(writer);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        STORE_ON_ALL(test_reserve),
        STORE_ON_ALL(test_stores_up_to_the_commit_count),
        STORE_ON_ALL(test_close_commits_reservations),
        STORE_ON_ALL(test_reserve_limits),
        STORE_ON_ALL(test_rewrite_reserved),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
