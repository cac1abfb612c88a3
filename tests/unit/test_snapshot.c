/* Snapshots: the bounds of every way to a cell, and chains of chunks that nobody wrote. */
#include "base/bytes.h"
#include "store_fixture.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* ---- cells ---- */

static void test_get(void **state)
{
    struct store_fixture *f = *state;
    struct cellar_writer *writer = store_new(f, 32, 5000);
    struct cellar_snapshot snapshot;
    static const uint32_t outside[] = {0, 7, 40, 41, 5000, UINT32_MAX};
    unsigned char expected[32], scratch[32];
    const void *cell = scratch;

    store_append(writer, 32); /* 8..39 */
    snapshot = cellar_writer_snapshot(writer);
    for (size_t i = 0; i < SUPPORT_COUNT(outside); i++) {
        assert_result(cellar_snapshot_get(&snapshot, outside[i], scratch, &cell), CELLAR_EBOUNDS);
        assert_null(cellar_snapshot_cell(snapshot, outside[i]));
    }
    assert_ptr_equal(cell, scratch);
    for (uint32_t index = 8; index < 40; index++) {
        store_cell_bytes(index, expected, 32);
        memset(scratch, 0, sizeof scratch);
        assert_done(cellar_snapshot_get(&snapshot, index, scratch, &cell));
        assert_memory_equal(cell, expected, 32);
        if (!f->way->window) {
            assert_ptr_equal(cell, scratch);
            assert_result(cellar_snapshot_get(&snapshot, index, NULL, &cell), -EINVAL);
            assert_null(cellar_snapshot_cell(snapshot, index));
        } else {
            assert_ptr_equal(cell, snapshot.window + 32 * (size_t)index); /* no copy */
            assert_done(cellar_snapshot_get(&snapshot, index, NULL, &cell));
            assert_ptr_equal(cellar_snapshot_cell(snapshot, index), cell);
        }
    }
    store_close(writer);
}

static void test_run(void **state)
{
    struct store_fixture *f = *state;
    struct cellar_writer *writer = store_new(f, 32, 5000);
    struct cellar_snapshot snapshot;
    const unsigned char *run;
    unsigned char expected[32];

    store_append(writer, 32);
    snapshot = cellar_writer_snapshot(writer);
    assert_null(cellar_snapshot_run(snapshot, 7, 1));
    assert_null(cellar_snapshot_run(snapshot, 8, 33));
    assert_null(cellar_snapshot_run(snapshot, 39, 2));
    assert_null(cellar_snapshot_run(snapshot, 40, 0));
    assert_null(cellar_snapshot_run(snapshot, 40, 1));
    assert_null(cellar_snapshot_run(snapshot, 39, UINT32_MAX));
    assert_null(cellar_snapshot_run(snapshot, UINT32_MAX, UINT32_MAX));
    run = cellar_snapshot_run(snapshot, 8, 32);
    if (!f->way->window) {
        assert_null(run);
    } else {
        assert_non_null(run);
        for (uint32_t i = 0; i < 32; i++) {
            store_cell_bytes(8 + i, expected, 32);
            assert_memory_equal(run + 32 * (size_t)i, expected, 32);
        }
        assert_ptr_equal(cellar_snapshot_run(snapshot, 39, 1), run + 31 * 32);
    }
    store_close(writer);
}

static void test_read(void **state)
{
    struct store_fixture *f = *state;
    struct cellar_writer *writer = store_new(f, 7, 5000);
    unsigned char all[100 * 7], got[100 * 7];
    struct cellar_snapshot snapshot;
    uint64_t seed = 4;

    store_append(writer, 100); /* 37..136 */
    for (uint32_t i = 0; i < 100; i++)
        store_cell_bytes(37 + i, all + 7 * (size_t)i, 7);
    snapshot = cellar_writer_snapshot(writer);
    for (int i = 0; i < 500; i++) {
        uint32_t from = (uint32_t)support_random_below(&seed, 700);
        size_t length_bytes = (size_t)support_random_below(&seed, 701 - from);
        uint32_t back = (uint32_t)support_random_below(&seed, from / 7 + 1); /* any cell before, and bytes on */

        memset(got, 0, sizeof got);
        assert_done(cellar_snapshot_read(&snapshot, 37 + from / 7 - back, from % 7 + 7 * back, got, length_bytes));
        assert_memory_equal(got, all + from, length_bytes);
    }
    memset(got, 0x44, sizeof got);
    assert_result(cellar_snapshot_read(&snapshot, 36, 0, got, 1), CELLAR_EBOUNDS);
    assert_result(cellar_snapshot_read(&snapshot, 36, 7, got, 1), CELLAR_EBOUNDS);
    assert_result(cellar_snapshot_read(&snapshot, 0, 0, got, 1), CELLAR_EBOUNDS);
    assert_result(cellar_snapshot_read(&snapshot, 137, 0, got, 1), CELLAR_EBOUNDS);
    assert_result(cellar_snapshot_read(&snapshot, 136, 0, got, 8), CELLAR_EBOUNDS);
    assert_result(cellar_snapshot_read(&snapshot, 136, 6, got, 2), CELLAR_EBOUNDS);
    assert_result(cellar_snapshot_read(&snapshot, 37, 701, got, 0), CELLAR_EBOUNDS);
    assert_result(cellar_snapshot_read(&snapshot, 37, 0, got, SIZE_MAX), CELLAR_EBOUNDS);
    assert_result(cellar_snapshot_read(&snapshot, 37, UINT32_MAX, got, 1), CELLAR_EBOUNDS);
    assert_result(cellar_snapshot_read(&snapshot, UINT32_MAX, UINT32_MAX, got, 1), CELLAR_EBOUNDS);
    for (size_t i = 0; i < sizeof got; i++)
        assert_int_equal(got[i], 0x44); /* no byte is copied */
    assert_done(cellar_snapshot_read(&snapshot, 37, 700, NULL, 0));
    assert_done(cellar_snapshot_read(&snapshot, 37, 0, NULL, 0));
    store_close(writer);
}

/* A snapshot ends at its own next, however far the store has come since. */
static void test_old_snapshot(void **state)
{
    struct store_fixture *f = *state;
    struct cellar_writer *writer = store_new(f, 32, 5000);
    struct cellar_snapshot empty = cellar_writer_snapshot(writer), snapshot;
    unsigned char cell[32];
    uint64_t size_bytes;
    uint32_t index;

    store_append(writer, 10);
    assert_done(cellar_writer_set_root(writer, 12));
    snapshot = cellar_writer_snapshot(writer);
    store_append(writer, 10);
    assert_done(cellar_writer_write_value(writer, "value", 5, &index));
    assert_done(cellar_writer_set_root(writer, 20));
    assert_done(cellar_writer_commit(writer));
    assert_int_equal(snapshot.next_index, 18);
    assert_int_equal(snapshot.root_index, 12);
    store_assert_cells(&snapshot);
    assert_result(cellar_snapshot_read(&snapshot, 18, 0, cell, 1), CELLAR_EBOUNDS);
    assert_result(cellar_snapshot_value_size(&snapshot, index, &size_bytes), CELLAR_EBOUNDS);
    assert_result(cellar_snapshot_read(&empty, 8, 0, cell, 1), CELLAR_EBOUNDS);
    assert_done(cellar_snapshot_read(&empty, 8, 0, cell, 0));
    store_close(writer);
}

/* ---- chains ---- */

/* A footer at the end of cell index, stored by rewriting. */
static void put_footer(struct cellar_writer *writer, uint32_t bytes_per_cell, uint32_t index, uint16_t size_bytes,
                       uint32_t cdr)
{
    uint32_t cells = (5 + bytes_per_cell) / bytes_per_cell; /* as many as the footer spans */
    unsigned char bytes[2 * 64 + 6];
    struct cellar_snapshot snapshot = cellar_writer_snapshot(writer);

    assert_done(cellar_snapshot_read(&snapshot, index + 1 - cells, 0, bytes, (size_t)cells * bytes_per_cell));
    cellar_store_le16(bytes + cells * bytes_per_cell - 6, size_bytes);
    cellar_store_le32(bytes + cells * bytes_per_cell - 4, cdr);
    assert_done(cellar_writer_rewrite(writer, index + 1 - cells, bytes, (size_t)cells * bytes_per_cell));
}

/* The value at index is refused by every call, with this offset in the diagnostic. */
static void assert_broken(struct cellar_writer *writer, uint32_t index, uint64_t file_offset, const char *expected)
{
    struct cellar_snapshot snapshot = cellar_writer_snapshot(writer);
    struct cellar_diagnostic diagnostic = {.error = 0};
    struct cellar_piece pieces[4];
    unsigned char buffer[4096];
    uint64_t size_bytes = 77;
    size_t got = 77, count = 77;
    void *copy = buffer;

    assert_result(cellar_snapshot_value_size(&snapshot, index, &size_bytes), CELLAR_ECORRUPT);
    assert_result(cellar_snapshot_read_value(&snapshot, index, buffer, sizeof buffer, &got), CELLAR_ECORRUPT);
    assert_result(cellar_snapshot_copy_value(&snapshot, index, &copy, &got), CELLAR_ECORRUPT);
    assert_result(cellar_snapshot_value_piece_count(&snapshot, index, &count), CELLAR_ECORRUPT);
    assert_result(cellar_snapshot_value_pieces(&snapshot, index, pieces, 4, &count),
                  snapshot.window != NULL ? CELLAR_ECORRUPT : -ENOTSUP);
    assert_result(cellar_snapshot_check_value(&snapshot, index, &diagnostic), CELLAR_ECORRUPT);
    assert_int_equal(diagnostic.error, CELLAR_ECORRUPT);
    assert_int_equal(diagnostic.file_offset, file_offset);
    assert_non_null(strstr(diagnostic.message, expected));
    assert_int_equal(size_bytes, 77);
    assert_int_equal(got, 77);
    assert_int_equal(count, 77);
    assert_ptr_equal(copy, buffer);
}

static uint64_t footer_at(uint32_t bytes_per_cell, uint32_t index)
{
    return ((uint64_t)index + 1) * bytes_per_cell - 6;
}

/* Footers that no writer leaves, at every size of cells that makes them lie differently. */
static void test_hostile_footers(void **state)
{
    static const uint32_t cell_sizes[] = {4, 5, 6, 7, 32, 64};
    struct store_fixture *f = *state;

    for (size_t i = 0; i < SUPPORT_COUNT(cell_sizes); i++) {
        uint32_t b = cell_sizes[i], start = cellar_start_index(b), last = start + 30;
        uint32_t one = (b + 6 + b - 1) / b; /* the cells of a chunk of b bytes */
        struct cellar_writer *writer = store_new(f, b, 400);
        struct cellar_snapshot snapshot;
        uint64_t size_bytes = 77;
        uint32_t cdrs[] = {
            last, last + 1, UINT32_MAX, 1, start - 1, last - one + 1, last + 40, 0x80000000, last - one + 1 + 0x10000};

        store_append(writer, 60);
        /* A cdr must name an earlier usable cell: no chain goes round, forward, or into the header. */
        for (size_t k = 0; k < SUPPORT_COUNT(cdrs); k++) {
            put_footer(writer, b, last, (uint16_t)b, cdrs[k]);
            assert_broken(writer, last, footer_at(b, last), "cdr");
        }
        put_footer(writer, b, last, (uint16_t)b, start); /* a cell, but no room for its footer or chunk */
        if (b < 6) {
            assert_broken(writer, last, (uint64_t)start * b, "chunk");
            assert_broken(writer, start, (uint64_t)start * b, "chunk");
        }
        /* A chunk must begin at or after the first usable cell. */
        put_footer(writer, b, last, (uint16_t)(31 * b - 6), 0);
        snapshot = cellar_writer_snapshot(writer);
        assert_done(cellar_snapshot_value_size(&snapshot, last, &size_bytes));
        assert_int_equal(size_bytes, 31 * b - 6);
        put_footer(writer, b, last, (uint16_t)(31 * b - 5), 0);
        assert_broken(writer, last, footer_at(b, last), "begins");
        put_footer(writer, b, last, 65535, 0);
        assert_broken(writer, last, footer_at(b, last), "begins");
        /* The same in the middle of a chain. */
        put_footer(writer, b, last + 10, (uint16_t)b, last);
        assert_broken(writer, last + 10, footer_at(b, last), "begins");
        put_footer(writer, b, last, 0, last + 10);
        assert_broken(writer, last + 10, footer_at(b, last), "cdr");
        /* And a chain that holds after all. */
        put_footer(writer, b, last, 1, 0);
        snapshot = cellar_writer_snapshot(writer);
        assert_done(cellar_snapshot_value_size(&snapshot, last + 10, &size_bytes));
        assert_int_equal(size_bytes, b + 1);
        store_close(writer);
        store_remove(f);
    }
}

/* Indices that are no cells of the snapshot. */
static void test_values_out_of_bounds(void **state)
{
    static const uint32_t outside[] = {0, 1, 7, 40, 41, UINT32_MAX};
    struct store_fixture *f = *state;
    struct cellar_writer *writer = store_new(f, 32, 5000);
    struct cellar_snapshot snapshot;

    store_append(writer, 32);
    snapshot = cellar_writer_snapshot(writer);
    for (size_t i = 0; i < SUPPORT_COUNT(outside); i++) {
        struct cellar_diagnostic diagnostic = {.error = 0};
        uint64_t size_bytes;
        size_t got;
        void *copy;

        assert_result(cellar_snapshot_value_size(&snapshot, outside[i], &size_bytes), CELLAR_EBOUNDS);
        assert_result(cellar_snapshot_read_value(&snapshot, outside[i], NULL, 0, &got), CELLAR_EBOUNDS);
        assert_result(cellar_snapshot_copy_value(&snapshot, outside[i], &copy, &got), CELLAR_EBOUNDS);
        assert_result(cellar_snapshot_value_piece_count(&snapshot, outside[i], &got), CELLAR_EBOUNDS);
        assert_result(cellar_snapshot_check_value(&snapshot, outside[i], &diagnostic), CELLAR_EBOUNDS);
        assert_int_equal(diagnostic.error, CELLAR_EBOUNDS);
        assert_true(strlen(diagnostic.message) > 0);
    }
    store_close(writer);
}

/* Any bytes whatever: each index gives a value or an error, and the walk ends. */
static void test_random_chains(void **state)
{
    static const uint32_t cell_sizes[] = {4, 5, 7, 32};
    struct store_fixture *f = *state;
    uint64_t seed = 42;
    unsigned values = 0, broken = 0;

    for (size_t i = 0; i < SUPPORT_COUNT(cell_sizes); i++) {
        uint32_t b = cell_sizes[i], start = cellar_start_index(b);
        struct cellar_writer *writer = store_new(f, b, 1000);
        struct cellar_snapshot snapshot;

        store_append(writer, 600);
        for (int k = 0; k < 700; k++) /* footers near to good ones, so that chains come about */
            put_footer(writer, b, start + 2 + (uint32_t)support_random_below(&seed, 598),
                       (uint16_t)support_random_below(&seed, 3 * b),
                       support_random_below(&seed, 3) == 0 ? 0 : start + (uint32_t)support_random_below(&seed, 600));
        snapshot = cellar_writer_snapshot(writer);
        for (uint32_t index = start; index < start + 600; index++) {
            struct cellar_diagnostic diagnostic;
            uint64_t size_bytes = 0;
            size_t got = 0;
            void *copy = NULL;
            int error = cellar_snapshot_value_size(&snapshot, index, &size_bytes);

            assert_true(error == 0 || error == CELLAR_ECORRUPT);
            assert_result(cellar_snapshot_check_value(&snapshot, index, &diagnostic), error);
            assert_result(cellar_snapshot_copy_value(&snapshot, index, &copy, &got), error);
            if (error == 0) {
                assert_int_equal(got, size_bytes);
                assert_true(size_bytes <= (uint64_t)600 * b);
                free(copy);
            }
            values += error == 0;
            broken += error != 0;
        }
        store_close(writer);
        store_remove(f);
    }
    assert_true(values > 50 && broken > 50);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        STORE_ON_ALL(test_get),
        STORE_ON_ALL(test_run),
        STORE_ON_ALL(test_read),
        STORE_ON_ALL(test_old_snapshot),
        STORE_ON_ALL(test_hostile_footers),
        STORE_ON_ALL(test_values_out_of_bounds),
        STORE_ON_ALL(test_random_chains),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
