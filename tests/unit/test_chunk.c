/* Values as chains of chunks, written and walked, against an image that the test makes itself. */
#include "device_fault.h"
#include "support.h"

#include "cell/chunk.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { CHUNK_MAX = 65535, VALUE_MAX = 5 * CHUNK_MAX + 10, FIRST_EXTRA = 3 };

/* Cells over a device of the test's, through its window or by pages. */
struct stage {
    struct cellar_device *device;
    unsigned char *bytes;
    struct cellar_cells cells;
    uint64_t size_bytes;
};

static void open_stage(struct stage *stage, uint32_t bytes_per_cell, uint64_t size_bytes, bool with_window)
{
    uint64_t capacity_bytes;
    void *base;

    assert_done(cellar_device_open_memory(NULL, size_bytes, size_bytes, &stage->device));
    assert_done(cellar_device_window(stage->device, size_bytes, true, &base, &capacity_bytes));
    stage->bytes = base;
    stage->size_bytes = size_bytes;
    memset(stage->bytes, 0xcc, size_bytes);
    assert_done(
        cellar_cells_open(&stage->cells, stage->device, bytes_per_cell, with_window ? base : NULL, 1 << 20, true, 0));
}

static void close_stage(struct stage *stage)
{
    cellar_cells_close(&stage->cells);
    assert_done(cellar_device_close(stage->device));
}

/* One chunk after the other as the format says; returns the next free cell. */
static uint32_t make_image(unsigned char *image, uint32_t bytes_per_cell, uint32_t first, const unsigned char *value,
                           size_t size_bytes)
{
    uint32_t cdr = 0;

    for (;;) {
        size_t part = size_bytes < CHUNK_MAX ? size_bytes : CHUNK_MAX;
        uint32_t cells = (uint32_t)((part + 6 + bytes_per_cell - 1) / bytes_per_cell);
        unsigned char *footer = image + (uint64_t)(first + cells) * bytes_per_cell - 6;

        memset(image + (uint64_t)first * bytes_per_cell, 0, (size_t)cells * bytes_per_cell); /* padding is zeros */
        memcpy(image + (uint64_t)first * bytes_per_cell, value, part);
        for (int i = 0; i < 2; i++)
            footer[i] = (unsigned char)(part >> (8 * i));
        for (int i = 0; i < 4; i++)
            footer[2 + i] = (unsigned char)(cdr >> (8 * i));
        first += cells;
        cdr = first - 1;
        value += part;
        size_bytes -= part;
        if (size_bytes == 0)
            return first;
    }
}

/* The bytes of a value put together from its chain: it must be what was written. */
static void check_walk(struct stage *stage, uint32_t index, uint32_t next, const unsigned char *value,
                       size_t size_bytes)
{
    struct cellar_chain chain;
    struct cellar_chunk chunk = {.cdr = 1};
    size_t left = size_bytes, chunks = 0;
    uint32_t last = index;
    int result;

    cellar_chain_begin(&chain, &stage->cells, index, next);
    while ((result = cellar_chain_step(&chain, &chunk)) == 0) {
        assert_int_equal(chunk.last_index, last);
        assert_true(chunk.size_bytes <= left);
        left -= chunk.size_bytes;
        if (chunk.size_bytes > 0) /* an empty value may have no address */
            assert_memory_equal(stage->bytes + (uint64_t)chunk.first_index * stage->cells.bytes_per_cell, value + left,
                                chunk.size_bytes);
        last = chunk.cdr;
        chunks++;
    }
    assert_result(result, CELLAR_NONE);
    assert_result(cellar_chain_step(&chain, &chunk), CELLAR_NONE);
    assert_int_equal(left, 0);
    assert_int_equal(last, 0);
    assert_int_equal(chunks, size_bytes == 0 ? 1 : (size_bytes + CHUNK_MAX - 1) / CHUNK_MAX);
}

static void check_value(uint32_t bytes_per_cell, const unsigned char *value, size_t size_bytes, bool with_window)
{
    uint32_t first = cellar_start_index(bytes_per_cell) + FIRST_EXTRA, index = 0;
    uint64_t cells = cellar_value_cells(bytes_per_cell, size_bytes);
    uint64_t total = (first + cells + 2) * bytes_per_cell;
    struct iovec part = {.iov_base = (void *)(uintptr_t)value, .iov_len = size_bytes};
    unsigned char *image = malloc(total);
    struct stage stage;

    assert_non_null(image);
    memset(image, 0xcc, total);
    open_stage(&stage, bytes_per_cell, total, with_window);
    assert_int_equal(make_image(image, bytes_per_cell, first, value, size_bytes), first + cells);
    assert_done(cellar_chunk_write(&stage.cells, first, &part, 1, &index));
    assert_int_equal(index, first + cells - 1);
    assert_done(cellar_cells_commit(&stage.cells, 0));
    assert_memory_equal(stage.bytes, image, total); /* and nothing else was touched */
    check_walk(&stage, index, (uint32_t)(first + cells), value, size_bytes);
    close_stage(&stage);
    free(image);
}

static void test_sizes_and_cells(void **state)
{
    static const uint32_t cell_sizes[] = {4,   5,   6,   7,    8,    9,    10,   31,    32,    33,    64,   100,
                                          255, 256, 257, 1000, 4095, 4096, 4097, 32768, 65529, 65530, 65535};
    static const size_t sizes[] = {
        0,         1,        2,    3,     4,     5,     6,     7,     26,        27,         250,
        251,       4090,     4091, 65529, 65530, 65534, 65535, 65536, 2 * 65535, 131071 + 6, 4 * 65535 - 1,
        5 * 65535, VALUE_MAX};
    static unsigned char value[VALUE_MAX];

    (void)state;
    support_bytes(71, value, sizeof value);
    for (size_t i = 0; i < SUPPORT_COUNT(cell_sizes); i++) {
        for (size_t j = 0; j < SUPPORT_COUNT(sizes); j++) {
            check_value(cell_sizes[i], value, sizes[j], true);
            if (i % 4 == 0 || sizes[j] < 300)
                check_value(cell_sizes[i], value, sizes[j], false);
        }
    }
}

/* A value in parts of any length, empty ones and ones without an address too, is the value in one. */
static void test_parts(void **state)
{
    static unsigned char value[200000];
    uint64_t random = 72;

    (void)state;
    support_bytes(73, value, sizeof value);
    for (int round = 0; round < 60; round++) {
        size_t size = (size_t)support_random_below(&random, round % 3 == 0 ? sizeof value : 100), at = 0;
        uint32_t bytes_per_cell = 4 + (uint32_t)support_random_below(&random, 60), index, again;
        uint64_t cells = cellar_value_cells(bytes_per_cell, size), total = (64 + cells) * bytes_per_cell;
        struct stage whole, parted;
        struct iovec one = {.iov_base = value, .iov_len = size}, parts[12];
        int count = 0;

        while (count < 11) {
            size_t step = count % 3 == 1 ? 0 : (size_t)support_random_below(&random, size - at + 1);

            parts[count++] = (struct iovec){.iov_base = step == 0 ? NULL : value + at, .iov_len = step};
            at += step;
        }
        parts[count++] = (struct iovec){.iov_base = value + at, .iov_len = size - at};
        open_stage(&whole, bytes_per_cell, total, true);
        open_stage(&parted, bytes_per_cell, total, round % 2 == 0);
        assert_done(cellar_chunk_write(&whole.cells, 64, &one, 1, &index));
        assert_done(cellar_chunk_write(&parted.cells, 64, parts, count, &again));
        assert_done(cellar_cells_commit(&parted.cells, 0));
        assert_int_equal(index, again);
        assert_memory_equal(whole.bytes, parted.bytes, total);
        close_stage(&whole);
        close_stage(&parted);
    }
}

static void test_no_parts(void **state)
{
    struct stage stage;
    uint32_t index = 0;

    (void)state;
    open_stage(&stage, 32, 320, true);
    assert_done(cellar_chunk_write(&stage.cells, 8, NULL, 0, &index));
    assert_int_equal(index, 8);
    check_walk(&stage, 8, 9, NULL, 0);
    close_stage(&stage);
}

static void test_sum_of_parts(void **state)
{
    struct iovec parts[3] = {{.iov_len = 5}, {.iov_len = 0}, {.iov_len = 7}};

    (void)state;
    assert_int_equal(cellar_parts_bytes(NULL, 0), 0);
    assert_int_equal(cellar_parts_bytes(NULL, -1), 0);
    assert_int_equal(cellar_parts_bytes(parts, 3), 12);
    parts[1].iov_len = INT64_MAX - 12;
    assert_true(cellar_parts_bytes(parts, 3) == INT64_MAX);
    parts[1].iov_len++;
    assert_true(cellar_parts_bytes(parts, 3) == UINT64_MAX);
    parts[0].iov_len = SIZE_MAX;
    assert_true(cellar_parts_bytes(parts, 3) == UINT64_MAX);
}

/* Several values in a row: each index names its own. */
static void test_many_values(void **state)
{
    enum { VALUES = 300 };
    static unsigned char values[VALUES][700];
    uint32_t indices[VALUES], next = 37;
    uint64_t random = 74;
    size_t sizes[VALUES];
    struct stage stage;

    (void)state;
    open_stage(&stage, 7, 7 * (37 + VALUES * 102), true);
    for (int i = 0; i < VALUES; i++) {
        struct iovec part = {.iov_base = values[i]};

        sizes[i] = part.iov_len = (size_t)support_random_below(&random, sizeof values[i]);
        support_bytes((uint64_t)i, values[i], sizes[i]);
        assert_done(cellar_chunk_write(&stage.cells, next, &part, 1, &indices[i]));
        next += (uint32_t)cellar_value_cells(7, sizes[i]);
        assert_int_equal(indices[i], next - 1);
    }
    for (int i = 0; i < VALUES; i++)
        check_walk(&stage, indices[i], indices[i] + 1, values[i], sizes[i]);
    close_stage(&stage);
}

/* Errors of the device below, at every write and every read. */
static void test_errors(void **state)
{
    static unsigned char value[70000];
    struct iovec part = {.iov_base = value, .iov_len = sizeof value};
    struct fault_device fault = {.without = FAULT_BIT(FAULT_LOAD)};
    struct cellar_device *device;
    struct cellar_cells cells;
    struct cellar_chain chain;
    struct cellar_chunk chunk = {.cdr = 77};
    uint32_t index = 5;

    (void)state;
    assert_done(cellar_device_open_memory(NULL, 80000, 80000, &fault.inner));
    assert_done(fault_device_open(&fault, &device));
    assert_done(cellar_cells_open(&cells, device, 100, NULL, 0, true, 0));
    assert_done(cellar_chunk_write(&cells, 3, &part, 1, &index));
    assert_done(cellar_cells_commit(&cells, 0));
    cellar_cells_close(&cells);
    assert_done(cellar_cells_open(&cells, device, 100, NULL, 0, false, 0));
    cellar_chain_begin(&chain, &cells, index, index + 1);
    fault_fail(&fault, FAULT_READ, 1, 1, -EIO);
    assert_result(cellar_chain_step(&chain, &chunk), -EIO);
    assert_int_equal(chunk.cdr, 77);
    assert_done(cellar_chain_step(&chain, &chunk)); /* asked again it goes on where it was */
    assert_int_equal(chunk.last_index, index);
    fault_fail(&fault, FAULT_READ, 1, 1, -ENODEV);
    assert_result(cellar_chain_step(&chain, &chunk), -ENODEV);
    assert_done(cellar_chain_step(&chain, &chunk));
    assert_result(cellar_chain_step(&chain, &chunk), CELLAR_NONE);
    cellar_cells_close(&cells);
    assert_done(cellar_device_close(device));
}

/* Cells that are not there: of the data, of the footer. The index is not set. */
static void test_no_room(void **state)
{
    static unsigned char value[1000];
    struct iovec part = {.iov_base = value};
    struct stage stage;
    uint32_t index = 5;

    (void)state;
    open_stage(&stage, 100, 1000, false);
    part.iov_len = 800;
    assert_result(cellar_chunk_write(&stage.cells, 3, &part, 1, &index), CELLAR_EBOUNDS);
    part.iov_len = 700;
    assert_result(cellar_chunk_write(&stage.cells, 3, &part, 1, &index), CELLAR_EBOUNDS);
    assert_int_equal(index, 5);
    part.iov_len = 694;
    assert_done(cellar_chunk_write(&stage.cells, 3, &part, 1, &index));
    assert_int_equal(index, 9);
    close_stage(&stage);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sizes_and_cells), cmocka_unit_test(test_parts),       cmocka_unit_test(test_no_parts),
        cmocka_unit_test(test_sum_of_parts),    cmocka_unit_test(test_many_values), cmocka_unit_test(test_errors),
        cmocka_unit_test(test_no_room),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
