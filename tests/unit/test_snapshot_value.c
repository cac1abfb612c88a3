/* Values: written whole or in parts, read in every way, from 0 bytes to several MiB; and chains that nobody wrote. */
#include "store_fixture.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static const uint32_t cell_sizes[] = {4, 5, 6, 7, 32, 33, 64, 100, 4096, 65535};

/* The cells of a value, counted chunk by chunk. */
static uint32_t cells_of(uint32_t bytes_per_cell, size_t length_bytes)
{
    uint32_t cells = 0;

    do {
        size_t part = length_bytes < 65535 ? length_bytes : 65535;

        cells += (uint32_t)((part + 6 + bytes_per_cell - 1) / bytes_per_cell);
        length_bytes -= part;
    } while (length_bytes > 0);
    return cells;
}

static void write_and_check(struct cellar_writer *writer, uint32_t bytes_per_cell, const unsigned char *bytes,
                            size_t length_bytes)
{
    uint32_t before = cellar_writer_next(writer), index = 0;
    struct cellar_snapshot snapshot;

    assert_done(cellar_writer_write_value(writer, bytes, length_bytes, &index));
    assert_int_equal(cellar_writer_next(writer), before + cells_of(bytes_per_cell, length_bytes));
    assert_int_equal(index, cellar_writer_next(writer) - 1); /* named by its last cell */
    snapshot = cellar_writer_snapshot(writer);
    store_assert_value(&snapshot, index, bytes, length_bytes);
}

static void test_values(void **state)
{
    struct store_fixture *f = *state;
    size_t most = 5 << 20; /* 81 chunks */
    unsigned char *bytes = malloc(most);

    assert_non_null(bytes);
    support_bytes(3, bytes, most);
    for (size_t i = 0; i < SUPPORT_COUNT(cell_sizes); i++) {
        size_t b = cell_sizes[i];
        size_t lengths[] = {0,      1,     b - 1, b,     b + 1,         2 * b - 6, 2 * b - 5,     65528,
                            65534,  65535, 65536, 65537, 2 * 65535 - 1, 2 * 65535, 2 * 65535 + 1, 65535 * 5 + 77,
                            1 << 20};
        uint32_t max_index = (uint32_t)((8 << 20) / b + 400);
        struct cellar_writer *writer;

        if (f->way->fixed && b > 10000)
            continue; /* they take more than the device has */
        writer = store_new(f, cell_sizes[i], max_index);
        for (size_t k = 0; k < SUPPORT_COUNT(lengths); k++)
            write_and_check(writer, cell_sizes[i], bytes + k, lengths[k]);
        if (b == 4 || b == 32 || b == 65535)
            write_and_check(writer, cell_sizes[i], bytes, most);
        store_close(writer);
        store_remove(f);
    }
    free(bytes);
}

/* Values stay what they were: after commits, through readers, after opening again. */
static void test_values_last(void **state)
{
    enum { VALUES = 40 };
    struct store_fixture *f = *state;
    struct cellar_writer *writer = store_new(f, 33, 100000);
    struct cellar_reader *reader = store_reader(f, &f->key);
    struct cellar_snapshot snapshot;
    static unsigned char bytes[VALUES][20000];
    uint32_t indices[VALUES];
    size_t lengths[VALUES];
    uint64_t seed = 11;

    for (size_t i = 0; i < VALUES; i++) {
        lengths[i] = (size_t)support_random_below(&seed, sizeof bytes[i]);
        support_bytes(i, bytes[i], lengths[i]);
        assert_done(cellar_writer_write_value(writer, bytes[i], lengths[i], &indices[i]));
        if (i % 3 == 0)
            assert_done(cellar_writer_commit(writer));
        if (i % 7 == 0)
            assert_done(cellar_writer_flush(writer));
        if (cellar_reader_refresh(reader) == 0) {
            snapshot = cellar_reader_snapshot(reader);
            for (size_t k = 0; k <= i; k++)
                store_assert_value(&snapshot, indices[k], bytes[k], lengths[k]);
        }
    }
    cellar_reader_close(reader);
    store_close(writer);
    reader = store_reader(f, NULL);
    snapshot = cellar_reader_snapshot(reader);
    for (size_t i = 0; i < VALUES; i++)
        store_assert_value(&snapshot, indices[i], bytes[i], lengths[i]);
    cellar_reader_close(reader);
}

/* The same value, however it is cut. */
static void test_values_in_parts(void **state)
{
    static const size_t cuts[] = {1, 6, 7, 100, 65529, 65535, 65536, 131070};
    enum { LENGTH = 200000 };
    struct store_fixture *f = *state;
    struct cellar_writer *writer = store_new(f, 7, 400000);
    unsigned char *bytes = malloc(LENGTH);
    struct iovec *parts = calloc(LENGTH + 8, sizeof *parts);
    struct cellar_snapshot snapshot;
    uint32_t index = 77;

    assert_non_null(bytes);
    assert_non_null(parts);
    support_bytes(8, bytes, LENGTH);
    for (size_t i = 0; i < SUPPORT_COUNT(cuts); i++) {
        int part_count = 0;

        parts[part_count++] = (struct iovec){bytes, 0}; /* empty ones anywhere change nothing */
        for (size_t at = 0; at < LENGTH; at += cuts[i]) {
            parts[part_count++] = (struct iovec){bytes + at, LENGTH - at < cuts[i] ? LENGTH - at : cuts[i]};
            if (at == 65535 || at == 131070)
                parts[part_count++] = (struct iovec){NULL, 0};
        }
        parts[part_count++] = (struct iovec){NULL, 0};
        assert_done(cellar_writer_write_value_parts(writer, parts, part_count, &index));
        assert_int_equal(index, cellar_writer_next(writer) - 1);
        snapshot = cellar_writer_snapshot(writer);
        store_assert_value(&snapshot, index, bytes, LENGTH);
        assert_done(cellar_writer_rollback(writer));
    }
    assert_result(cellar_writer_write_value_parts(writer, parts, -1, &index), -EINVAL);
    assert_done(cellar_writer_write_value_parts(writer, NULL, 0, &index));
    snapshot = cellar_writer_snapshot(writer);
    store_assert_value(&snapshot, index, NULL, 0);
    parts[0].iov_len = parts[1].iov_len = SIZE_MAX / 2; /* a sum that no store can hold */
    assert_result(cellar_writer_write_value_parts(writer, parts, 2, &index), CELLAR_EINDEXFULL);
    free(bytes);
    free(parts);
    store_close(writer);
}

/* A value of several chunks that does not fit: nothing of it is left behind. */
static void test_all_or_nothing(void **state)
{
    struct store_fixture *f = *state;
    struct cellar_writer *writer = store_new(f, 64, 4000);
    unsigned char *bytes = malloc(300000);
    uint32_t before, index = 77;

    assert_non_null(bytes);
    support_bytes(4, bytes, 300000);
    store_append(writer, 10);
    before = cellar_writer_next(writer);
    assert_result(cellar_writer_write_value(writer, bytes, 300000, &index), CELLAR_EINDEXFULL);
    assert_int_equal(index, 77);
    assert_int_equal(cellar_writer_next(writer), before);
    write_and_check(writer, 64, bytes, 3 * 65535);
    free(bytes);
    store_close(writer);
}

/* As large as the store can hold, to the last cell. */
static void test_value_fills_the_store(void **state)
{
    struct store_fixture *f = *state;

    for (size_t i = 0; i < SUPPORT_COUNT(cell_sizes); i++) {
        uint32_t bytes_per_cell = cell_sizes[i], start = cellar_start_index(bytes_per_cell), index = 77;
        uint32_t chunk = cells_of(bytes_per_cell, 65535);
        size_t length_bytes = 65535 * 3 + (9 * (size_t)bytes_per_cell - 6);
        struct cellar_writer *writer;
        unsigned char *bytes;

        if (length_bytes - 65535 * 3 > 65535)
            length_bytes = 65535 * 4;
        bytes = malloc(length_bytes + 1);
        assert_non_null(bytes);
        support_bytes(i, bytes, length_bytes + 1);
        writer = store_new(f, bytes_per_cell, start + 3 * chunk + cells_of(bytes_per_cell, length_bytes - 65535 * 3));
        if (length_bytes < 65535 * 4)
            assert_result(cellar_writer_write_value(writer, bytes, length_bytes + 1, &index), CELLAR_EINDEXFULL);
        write_and_check(writer, bytes_per_cell, bytes, length_bytes);
        assert_result(cellar_writer_write_value(writer, bytes, 0, &index), CELLAR_EINDEXFULL);
        free(bytes);
        store_close(writer);
        store_remove(f);
    }
}

/* ---- the caller's buffer ---- */

static void test_read_value_into_less(void **state)
{
    struct store_fixture *f = *state;
    struct cellar_writer *writer = store_new(f, 32, 10000);
    unsigned char bytes[1000], buffer[1001];
    struct cellar_snapshot snapshot;
    struct cellar_piece piece = {.length_bytes = 7};
    size_t got = 77, count = 77;
    uint32_t index = 0, empty = 0;
    unsigned char *large = malloc(200000);

    assert_non_null(large);
    support_bytes(1, bytes, sizeof bytes);
    assert_done(cellar_writer_write_value(writer, bytes, sizeof bytes, &index));
    snapshot = cellar_writer_snapshot(writer);
    memset(buffer, 0x33, sizeof buffer);
    assert_result(cellar_snapshot_read_value(&snapshot, index, buffer, 999, &got), -ERANGE);
    assert_result(cellar_snapshot_read_value(&snapshot, index, NULL, 0, &got), -ERANGE);
    assert_int_equal(got, 77);
    for (size_t i = 0; i < sizeof buffer; i++)
        assert_int_equal(buffer[i], 0x33); /* nothing is copied */
    assert_done(cellar_snapshot_read_value(&snapshot, index, buffer, 1000, &got));
    assert_int_equal(got, 1000);
    assert_int_equal(buffer[1000], 0x33);
    assert_memory_equal(buffer, bytes, 1000);
    assert_done(cellar_writer_write_value(writer, NULL, 0, &empty));
    snapshot = cellar_writer_snapshot(writer);
    assert_done(cellar_snapshot_read_value(&snapshot, empty, NULL, 0, &got));
    assert_int_equal(got, 0);

    support_bytes(2, large, 200000);
    assert_done(cellar_writer_write_value(writer, large, 200000, &index));
    snapshot = cellar_writer_snapshot(writer);
    if (snapshot.window != NULL) {
        assert_result(cellar_snapshot_value_pieces(&snapshot, index, &piece, 1, &count), -ERANGE);
        assert_int_equal(count, 4); /* says how many there are */
        assert_int_equal(piece.length_bytes, 7);
        assert_result(cellar_snapshot_value_pieces(&snapshot, index, NULL, 0, &count), -ERANGE);
        assert_result(cellar_snapshot_value_pieces(&snapshot, snapshot.next_index, &piece, 1, &count), CELLAR_EBOUNDS);
    }
    free(large);
    store_close(writer);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        STORE_ON_ALL(test_values),
        STORE_ON_ALL(test_values_last),
        STORE_ON_ALL(test_values_in_parts),
        STORE_ON_ALL(test_all_or_nothing),
        STORE_ON_ALL(test_value_fills_the_store),
        STORE_ON_ALL(test_read_value_into_less),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
