/* Appending, rewriting, reserving, rolling back, the root, committing, and how the file grows. */
#include "store_fixture.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* ---- appending ---- */

static void test_append(void **state)
{
    struct store_fixture *f = *state;
    struct cellar_writer *writer = store_new(f, 32, 3000);
    struct cellar_snapshot snapshot;
    unsigned char cell[32] = {0};
    uint32_t index = 77;

    assert_result(cellar_writer_append(writer, cell, 0, &index), -EINVAL);
    assert_int_equal(index, 77);
    assert_int_equal(store_append(writer, 1), 8);
    assert_int_equal(store_append(writer, 1), 9);
    assert_int_equal(store_append(writer, 500), 10);
    assert_int_equal(store_append(writer, 129), 510);
    assert_int_equal(cellar_writer_next(writer), 639);
    snapshot = cellar_writer_snapshot(writer);
    assert_int_equal(snapshot.next_index, 639);
    assert_int_equal(snapshot.start_index, 8);
    assert_int_equal(snapshot.bytes_per_cell, 32);
    store_assert_cells(&snapshot);
    store_close(writer);
    writer = store_again(f);
    snapshot = cellar_writer_snapshot(writer);
    assert_int_equal(snapshot.next_index, 639);
    store_assert_cells(&snapshot);
    store_close(writer);
}

/* The rest of the last cell is zero, also where other bytes stood before. */
static void test_append_bytes(void **state)
{
    static const uint32_t cell_bytes[] = {4, 5, 7, 32, 100, 4096, 65535};
    struct store_fixture *f = *state;

    for (size_t i = 0; i < SUPPORT_COUNT(cell_bytes); i++) {
        uint32_t bytes_per_cell = cell_bytes[i], index = 77;
        size_t lengths[] = {1,
                            bytes_per_cell - 1,
                            bytes_per_cell,
                            bytes_per_cell + 1,
                            3 * (size_t)bytes_per_cell,
                            3 * (size_t)bytes_per_cell + 2};
        struct cellar_writer *writer = store_new(f, bytes_per_cell, 200);
        unsigned char *bytes = malloc(8 * (size_t)bytes_per_cell), *got = malloc(8 * (size_t)bytes_per_cell);

        assert_non_null(bytes);
        assert_non_null(got);
        assert_result(cellar_writer_append_bytes(writer, bytes, 0, &index), -EINVAL);
        assert_int_equal(index, 77);
        store_append(writer, 40);
        assert_done(cellar_writer_rollback(writer));
        for (size_t k = 0; k < SUPPORT_COUNT(lengths); k++) {
            uint32_t cells = (uint32_t)((lengths[k] + bytes_per_cell - 1) / bytes_per_cell);
            uint32_t before = cellar_writer_next(writer);
            struct cellar_snapshot snapshot;

            support_bytes(k, bytes, lengths[k]);
            assert_done(cellar_writer_append_bytes(writer, bytes, lengths[k], &index));
            assert_int_equal(index, before);
            assert_int_equal(cellar_writer_next(writer), before + cells);
            memset(bytes + lengths[k], 0, (size_t)cells * bytes_per_cell - lengths[k]);
            snapshot = cellar_writer_snapshot(writer);
            assert_done(cellar_snapshot_read(&snapshot, index, 0, got, (size_t)cells * bytes_per_cell));
            assert_memory_equal(got, bytes, (size_t)cells * bytes_per_cell);
        }
        free(bytes);
        free(got);
        store_close(writer);
        store_remove(f);
    }
}

/* Nothing is taken where not everything fits. */
static void test_index_full(void **state)
{
    struct store_fixture *f = *state;
    struct cellar_writer *writer = store_new(f, 32, 20);
    unsigned char bytes[13 * 32] = {0};
    struct iovec parts[2] = {{bytes, 300}, {bytes, 200}};
    struct cellar_snapshot snapshot;
    void *cells = bytes;
    uint32_t index = 77;

    store_append(writer, 2);
    assert_result(cellar_writer_append(writer, bytes, 11, &index), CELLAR_EINDEXFULL);
    assert_result(cellar_writer_append(writer, bytes, UINT32_MAX, &index), CELLAR_EINDEXFULL);
    assert_result(cellar_writer_append_bytes(writer, bytes, 10 * 32 + 1, &index), CELLAR_EINDEXFULL);
    assert_result(cellar_writer_append_bytes(writer, bytes, SIZE_MAX, &index), CELLAR_EINDEXFULL);
    assert_result(cellar_writer_reserve(writer, 11, &index, &cells), CELLAR_EINDEXFULL);
    assert_result(cellar_writer_write_value(writer, bytes, 10 * 32 - 5, &index), CELLAR_EINDEXFULL);
    assert_result(cellar_writer_write_value(writer, bytes, SIZE_MAX, &index), CELLAR_EINDEXFULL);
    assert_result(cellar_writer_write_value_parts(writer, parts, 2, &index), CELLAR_EINDEXFULL);
    assert_int_equal(index, 77);
    assert_ptr_equal(cells, bytes);
    assert_int_equal(cellar_writer_next(writer), 10);
    store_append(writer, 9);
    assert_done(cellar_writer_append(writer, bytes, 1, &index));
    assert_int_equal(index, 19); /* max index - 1 */
    assert_result(cellar_writer_append(writer, bytes, 1, &index), CELLAR_EINDEXFULL);
    assert_done(cellar_writer_set_root(writer, 19));
    assert_done(cellar_writer_flush(writer));
    snapshot = cellar_writer_snapshot(writer);
    assert_true(store_cells_hold(&snapshot, 8, 11));
    store_close(writer);
    store_assert_pair(f, CELLAR_DISK_1, 20, 19);
}

/* ---- how the file grows ---- */

static uint64_t file_cells(const struct cellar_writer *writer)
{
    struct cellar_info info;

    cellar_writer_info(writer, &info);
    assert_int_equal(info.file_bytes % info.config.bytes_per_cell, 0);
    return info.file_bytes / info.config.bytes_per_cell;
}

/* What is needed, rounded up to a step; the last step ends at max index, and every cell below it can be used. */
static void test_growth(void **state)
{
    static const struct {
        uint32_t bytes_per_cell, max_index, step_cells;
    } cases[] = {{32, 100, 10}, {32, 100, 1}, {7, 200, 64}, {100, 83, 40}, {4, 1000, 500}, {5000, 30, 7}};
    struct store_fixture *f = *state;

    for (size_t i = 0; i < SUPPORT_COUNT(cases); i++) {
        struct cellar_config config = store_config(cases[i].bytes_per_cell, cases[i].max_index);
        struct cellar_writer_options options = store_options(f);
        struct cellar_writer *writer = NULL;
        struct cellar_snapshot snapshot;
        struct cellar_info info;
        uint64_t expected, seed = i;

        options.resize_step_bytes = (uint64_t)cases[i].step_cells * cases[i].bytes_per_cell + 1;
        options.ahead = CELLAR_AHEAD_NO_GROWTH; /* else by more, the longer the file is */
        assert_done(store_create(f, &config, &options, &writer));
        cellar_writer_info(writer, &info);
        assert_int_equal(info.resize_step_cells, cases[i].step_cells);
        expected = file_cells(writer);
        while (cellar_writer_next(writer) < cases[i].max_index) {
            uint32_t left = cases[i].max_index - cellar_writer_next(writer);
            uint32_t count = 1 + (uint32_t)support_random_below(&seed, left < 25 ? left : 25);

            store_append(writer, count);
            while (expected < cellar_writer_next(writer))
                expected += cases[i].step_cells;
            if (expected > cases[i].max_index)
                expected = cases[i].max_index;
            assert_int_equal(file_cells(writer), expected);
            if (!f->way->memory)
                assert_int_equal(support_file_size(f->path), expected * cases[i].bytes_per_cell);
        }
        store_close(writer);
        writer = store_again(f);
        assert_int_equal(cellar_writer_next(writer), cases[i].max_index);
        snapshot = cellar_writer_snapshot(writer);
        store_assert_cells(&snapshot);
        store_close(writer);
        store_remove(f);
    }
}

/* An exact multiple of the step maps no step too many; a large append takes as many steps as it needs at once. */
static void test_growth_by_exact_steps(void **state)
{
    struct store_fixture *f = *state;
    struct cellar_config config = store_config(32, 1000);
    struct cellar_writer_options options = store_options(f);
    struct cellar_writer *writer = NULL;

    options.initial_cells = 8;
    options.resize_step_bytes = 320;
    assert_done(store_create(f, &config, &options, &writer));
    assert_int_equal(file_cells(writer), 8);
    store_append(writer, 10);
    assert_int_equal(file_cells(writer), 18);
    store_append(writer, 30);
    assert_int_equal(file_cells(writer), 48);
    store_append(writer, 31);
    assert_int_equal(file_cells(writer), 88);
    store_append(writer, 9);
    assert_int_equal(file_cells(writer), 88);
    store_close(writer);
}

/* The window is a limit of its own; what lies below it can all be used. */
static void test_growth_past_the_window(void **state)
{
    struct store_fixture *f = *state;
    struct cellar_config config = store_config(32, 100000);
    struct cellar_writer_options options = store_options(f);
    struct cellar_writer *writer = NULL;
    unsigned char cells[2 * 32] = {0};
    struct cellar_snapshot snapshot;
    struct cellar_info info;
    uint32_t index = 77;
    void *reserved;

    options.window_bytes = 32 * 1000 + 31; /* the last cell would not be whole */
    assert_done(store_create(f, &config, &options, &writer));
    cellar_writer_info(writer, &info);
    assert_int_equal(info.window_bytes, 32 * 1000 + 31);
    store_append(writer, 991);
    assert_result(cellar_writer_append(writer, cells, 2, &index), CELLAR_EWINDOW);
    assert_result(cellar_writer_reserve(writer, 2, &index, &reserved), CELLAR_EWINDOW);
    assert_result(cellar_writer_write_value(writer, cells, 32, &index), CELLAR_EWINDOW);
    assert_result(cellar_writer_append_bytes(writer, cells, 33, &index), CELLAR_EWINDOW);
    assert_int_equal(index, 77);
    store_append(writer, 1);
    assert_result(cellar_writer_append(writer, cells, 1, &index), CELLAR_EWINDOW);
    assert_done(cellar_writer_flush(writer)); /* no poison */
    store_close(writer);
    options.window_bytes = 32 * 999; /* less than the file: said at once */
    assert_result(store_open(f, &options, &writer), CELLAR_EWINDOW);
    writer = store_again(f); /* and a wider one goes on */
    store_append(writer, 500);
    snapshot = cellar_writer_snapshot(writer);
    store_assert_cells(&snapshot);
    store_close(writer);
}

/* ---- rewriting ---- */

static void test_rewrite(void **state)
{
    struct store_fixture *f = *state;
    struct cellar_writer *writer = store_new(f, 32, 3000);
    struct cellar_snapshot snapshot;
    unsigned char expected[4 * 32], got[4 * 32], bytes[4 * 32];

    store_append(writer, 3);
    assert_done(cellar_writer_commit(writer));
    store_append(writer, 4); /* 11..14 may be rewritten */
    support_bytes(99, bytes, sizeof bytes);
    assert_result(cellar_writer_rewrite(writer, 10, bytes, 1), -EINVAL);
    assert_result(cellar_writer_rewrite(writer, 8, bytes, 1), -EINVAL);
    assert_result(cellar_writer_rewrite(writer, 7, bytes, 1), CELLAR_EBOUNDS);
    assert_result(cellar_writer_rewrite(writer, 0, bytes, 1), CELLAR_EBOUNDS);
    assert_result(cellar_writer_rewrite(writer, 15, bytes, 1), CELLAR_EBOUNDS);
    assert_result(cellar_writer_rewrite(writer, UINT32_MAX, bytes, 1), CELLAR_EBOUNDS);
    assert_result(cellar_writer_rewrite(writer, 14, bytes, 33), CELLAR_EBOUNDS);
    assert_result(cellar_writer_rewrite(writer, 11, bytes, SIZE_MAX), CELLAR_EBOUNDS);
    snapshot = cellar_writer_snapshot(writer);
    store_assert_cells(&snapshot);

    for (uint32_t i = 0; i < 4; i++)
        store_cell_bytes(11 + i, expected + 32 * (size_t)i, 32);
    assert_done(cellar_writer_rewrite(writer, 12, bytes, 40)); /* over a cell's end */
    memcpy(expected + 32, bytes, 40);
    assert_done(cellar_writer_rewrite(writer, 14, bytes, 0));
    assert_done(cellar_writer_rewrite(writer, 14, bytes + 7, 1));
    expected[3 * 32] = bytes[7];
    snapshot = cellar_writer_snapshot(writer);
    assert_done(cellar_snapshot_read(&snapshot, 11, 0, got, sizeof got));
    assert_memory_equal(got, expected, sizeof got);
    assert_done(cellar_writer_commit(writer));
    assert_result(cellar_writer_rewrite(writer, 12, bytes, 1), -EINVAL);
    snapshot = cellar_writer_snapshot(writer);
    assert_done(cellar_snapshot_read(&snapshot, 11, 0, got, sizeof got));
    assert_memory_equal(got, expected, sizeof got);
    assert_true(store_cells_hold(&snapshot, 8, 3));
    store_close(writer);
}

/* ---- rolling back ---- */

static void test_rollback(void **state)
{
    struct store_fixture *f = *state;
    struct cellar_writer *writer = store_new(f, 32, 3000);
    struct cellar_snapshot snapshot;
    unsigned char others[40 * 32];
    uint32_t index;
    void *cells;

    assert_done(cellar_writer_rollback(writer)); /* nothing to undo */
    store_append(writer, 3);
    assert_done(cellar_writer_set_root(writer, 9));
    assert_done(cellar_writer_commit(writer));
    support_bytes(5, others, sizeof others);
    assert_done(cellar_writer_append(writer, others, 40, &index));
    assert_done(cellar_writer_reserve(writer, 3, &index, &cells));
    memset(cells, 0xee, 96);
    assert_done(cellar_writer_write_value(writer, others, 1000, &index));
    assert_done(cellar_writer_set_root(writer, index));
    assert_done(cellar_writer_rollback(writer));
    assert_int_equal(cellar_writer_next(writer), 11);
    assert_int_equal(cellar_writer_root(writer), 9);
    assert_int_equal(store_append(writer, 60), 11); /* the indices are used again */
    assert_done(cellar_writer_commit(writer));
    snapshot = cellar_writer_snapshot(writer);
    store_assert_cells(&snapshot);
    assert_done(cellar_writer_set_root(writer, CELLAR_ROOT_NONE));
    assert_done(cellar_writer_rollback(writer));
    assert_int_equal(cellar_writer_root(writer), 9);
    store_close(writer);
    store_assert_pair(f, CELLAR_DISK_1, 71, 9);
    writer = store_again(f);
    snapshot = cellar_writer_snapshot(writer);
    store_assert_cells(&snapshot);
    store_close(writer);
}

/* ---- the root, committing, the version ---- */

/* No byte of a value is what was there before: its padding is zeros. */
static void test_padding(void **state)
{
    static const size_t sizes[] = {0, 1, 5, 58, 59, 90, 1000, 65535, 65600};
    struct store_fixture *f = *state;
    struct cellar_writer *writer = store_new(f, 64, 5000);
    unsigned char *value = malloc(65600), cells[64];
    uint32_t index, first;

    assert_non_null(value);
    memset(value, 0xee, 65600);
    for (size_t i = 0; i < SUPPORT_COUNT(sizes); i++) {
        uint64_t padding = 64 - (sizes[i] % 65535 + CELLAR_FOOTER_BYTES) % 64;
        struct cellar_snapshot snapshot;

        for (int n = 0; n < 1100; n++) /* what is rolled back leaves its bytes in a window */
            assert_done(cellar_writer_append_bytes(writer, value, 64, &first));
        assert_done(cellar_writer_rollback(writer));
        assert_done(cellar_writer_write_value(writer, value, sizes[i], &index));
        snapshot = cellar_writer_snapshot(writer);
        assert_done(cellar_snapshot_read(&snapshot, index, 0, cells, 64));
        for (uint64_t at = 64 - CELLAR_FOOTER_BYTES - padding % 64; at < 64 - CELLAR_FOOTER_BYTES; at++)
            assert_int_equal(cells[at], 0);
        assert_done(cellar_writer_commit(writer));
    }
    free(value);
    store_close(writer);
}

static void test_root(void **state)
{
    struct store_fixture *f = *state;
    struct cellar_writer *writer = store_new(f, 32, 3000);
    struct cellar_key key;

    assert_done(cellar_writer_set_root(writer, CELLAR_ROOT_NONE));
    assert_result(cellar_writer_set_root(writer, 8), CELLAR_EBOUNDS);
    store_append(writer, 3);
    assert_result(cellar_writer_set_root(writer, 7), CELLAR_EBOUNDS);
    assert_result(cellar_writer_set_root(writer, 1), CELLAR_EBOUNDS);
    assert_result(cellar_writer_set_root(writer, 11), CELLAR_EBOUNDS);
    assert_result(cellar_writer_set_root(writer, UINT32_MAX), CELLAR_EBOUNDS);
    assert_int_equal(cellar_writer_root(writer), CELLAR_ROOT_NONE);
    assert_done(cellar_writer_set_root(writer, 10)); /* not committed yet, and that's fine */
    assert_int_equal(cellar_writer_root(writer), 10);
    store_assert_pair(f, CELLAR_PROCESS_1, 8, CELLAR_ROOT_NONE);
    assert_done(cellar_writer_commit(writer));
    store_assert_pair(f, CELLAR_PROCESS_1, 11, 10);
    assert_done(cellar_writer_set_root(writer, 8)); /* back */
    assert_done(cellar_writer_commit(writer));
    store_assert_pair(f, CELLAR_PROCESS_1, 11, 8);
    assert_done(cellar_writer_set_root(writer, 9)); /* forward */
    assert_done(cellar_writer_flush(writer));
    store_assert_pair(f, CELLAR_DISK_1, 11, 9);
    assert_done(cellar_writer_set_root(writer, CELLAR_ROOT_NONE)); /* to none */
    assert_done(cellar_writer_commit(writer));
    store_assert_pair(f, CELLAR_PROCESS_1, 11, CELLAR_ROOT_NONE);
    store_assert_pair(f, CELLAR_DISK_1, 11, 9);
    cellar_writer_key(writer, &key);
    store_close(writer);
    store_assert_pair(f, CELLAR_DISK_1, 11, CELLAR_ROOT_NONE);
}

static void test_commit(void **state)
{
    struct store_fixture *f = *state;
    struct cellar_writer *writer = store_new(f, 32, 3000);
    struct cellar_reader *with_key = store_reader(f, &f->key), *without = store_reader(f, NULL);
    struct cellar_snapshot snapshot;
    struct store_image image;

    store_append(writer, 30);
    assert_result(cellar_reader_refresh(with_key), CELLAR_NONE); /* appended is not committed */
    assert_done(cellar_writer_commit(writer));
    assert_done(cellar_reader_refresh(with_key));
    assert_result(cellar_reader_refresh(without), CELLAR_NONE); /* committed is not flushed */
    snapshot = cellar_reader_snapshot(with_key);
    assert_int_equal(snapshot.next_index, 38);
    store_assert_cells(&snapshot);
    image = store_image_take(f);
    assert_done(cellar_writer_commit(writer)); /* nothing to publish: nothing is stored */
    store_image_compare(f, image);
    assert_result(cellar_reader_refresh(with_key), CELLAR_NONE);
    assert_done(cellar_writer_flush(writer));
    assert_done(cellar_reader_refresh(without));
    snapshot = cellar_reader_snapshot(without);
    assert_int_equal(snapshot.next_index, 38);
    store_assert_cells(&snapshot);
    cellar_reader_close(with_key);
    cellar_reader_close(without);
    store_close(writer);
}

/* Only the version changes, durably, and every handle of later sees it. */
static void test_override_version(void **state)
{
    struct store_fixture *f = *state;
    struct cellar_writer *writer = store_new(f, 32, 3000);
    unsigned char *before, *after;
    struct cellar_reader *reader;
    struct cellar_info info;
    size_t length_bytes;

    store_append(writer, 5);
    assert_done(cellar_writer_flush(writer));
    before = store_bytes(f, &length_bytes);
    assert_done(cellar_writer_override_version(writer, 0xa1b2c3d4));
    after = store_bytes(f, &length_bytes);
    memcpy(before + CELLAR_AT_VERSION, "\xd4\xc3\xb2\xa1", 4);
    assert_memory_equal(before, after, length_bytes);
    cellar_writer_info(writer, &info);
    assert_int_equal(info.config.version, 0xa1b2c3d4);
    cellar_writer_abandon(writer);
    reader = store_reader(f, NULL);
    cellar_reader_info(reader, &info);
    assert_int_equal(info.config.version, 0xa1b2c3d4);
    cellar_reader_close(reader);
    writer = store_again(f);
    cellar_writer_info(writer, &info);
    assert_int_equal(info.config.version, 0xa1b2c3d4);
    store_close(writer);
    free(before);
    free(after);
}

/* Closing commits and flushes; a file is then as long as its cells. */
static void test_close_flushes(void **state)
{
    struct store_fixture *f = *state;
    struct cellar_writer *writer = store_new(f, 32, 3000);

    store_append(writer, 30);
    assert_done(cellar_writer_set_root(writer, 30));
    store_close(writer);
    store_assert_pair(f, CELLAR_PROCESS_1, 38, 30);
    store_assert_pair(f, CELLAR_DISK_1, 38, 30);
    if (!f->way->memory)
        assert_int_equal(support_file_size(f->path), 38 * 32);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        STORE_ON_ALL(test_append),
        STORE_ON_ALL(test_append_bytes),
        STORE_ON_ALL(test_index_full),
        STORE_ON_ALL(test_growth),
        STORE_ON_ALL(test_growth_by_exact_steps),
        STORE_ON(test_growth_past_the_window, STORE_MAPPED),
        STORE_ON(test_growth_past_the_window, STORE_MEMORY_MAPPED),
        STORE_ON_ALL(test_rewrite),
        STORE_ON_ALL(test_rollback),
        STORE_ON_ALL(test_padding),
        STORE_ON_ALL(test_root),
        STORE_ON_ALL(test_commit),
        STORE_ON_ALL(test_override_version),
        STORE_ON_ALL(test_close_flushes),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
