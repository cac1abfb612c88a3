/* A value in parts that lie apart from each other, and that end where no chunk does. */
#include "support.h"

#include "cell/chunk.h"

#include <stdlib.h>
#include <string.h>

enum { CHUNK_MAX = 65535, CELL = 32, PART_MAX = 3 * CHUNK_MAX, SIZE = 1 << 20, START = 128 };

/* What a chain that ends at index has, from its last byte to its first. */
static size_t collect(struct cellar_cells *cells, uint32_t index, uint32_t next_index, unsigned char *value)
{
    struct cellar_chain chain;
    struct cellar_chunk chunk;
    size_t size_bytes = 0;
    int error;

    cellar_chain_begin(&chain, cells, index, next_index);
    while ((error = cellar_chain_step(&chain, &chunk)) == 0) {
        memmove(value + chunk.size_bytes, value, size_bytes);
        assert_done(cellar_cells_read(cells, (uint64_t)chunk.first_index * CELL, value, chunk.size_bytes));
        size_bytes += chunk.size_bytes;
    }
    assert_result(error, CELLAR_NONE);
    return size_bytes;
}

static void test_parts_apart(void **state)
{
    static const size_t lengths[][3] = {
        {70000, 70000, 0},
        {70000, 1, 70000},
        {CHUNK_MAX, 10, CHUNK_MAX},
        {CHUNK_MAX + 1, 10, 10},
        {2 * CHUNK_MAX + 5, 2 * CHUNK_MAX + 7, 9},
        {0, 140000, 0},
        {10, 0, 131070},
    };
    unsigned char *expected = malloc(3 * PART_MAX), *got = malloc(3 * PART_MAX), *memory[3];
    struct cellar_device *device;
    uint64_t capacity_bytes;
    void *base;

    (void)state;
    assert_true(expected != NULL && got != NULL);
    assert_done(cellar_device_open_memory(NULL, SIZE, SIZE, &device));
    assert_done(cellar_device_window(device, SIZE, true, &base, &capacity_bytes));
    for (int with_window = 0; with_window < 2; with_window++) {
        for (size_t row = 0; row < SUPPORT_COUNT(lengths); row++) {
            struct cellar_cells cells;
            struct iovec parts[3];
            size_t sum = 0;
            uint32_t index;

            for (int i = 0; i < 3; i++) { /* each with bytes behind it that are no part of the value */
                memory[i] = malloc(lengths[row][i] + 2 * CHUNK_MAX);
                assert_non_null(memory[i]);
                support_bytes(row * 3 + (size_t)i, memory[i], lengths[row][i] + 2 * CHUNK_MAX);
                parts[i] = (struct iovec){.iov_base = memory[i], .iov_len = lengths[row][i]};
                memcpy(expected + sum, memory[i], lengths[row][i]);
                sum += lengths[row][i];
            }
            assert_int_equal(cellar_parts_bytes(parts, 3), sum);
            assert_done(cellar_cells_open(&cells, device, CELL, with_window ? base : NULL, 1 << 20, true, 0));
            assert_done(cellar_chunk_write(&cells, START, parts, 3, &index));
            assert_int_equal(collect(&cells, index, SIZE / CELL, got), sum);
            assert_memory_equal(got, expected, sum);
            cellar_cells_close(&cells);
            for (int i = 0; i < 3; i++)
                free(memory[i]);
        }
    }
    assert_done(cellar_device_close(device));
    free(expected);
    free(got);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_parts_apart),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
