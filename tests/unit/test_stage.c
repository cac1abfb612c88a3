/* Gathering cells of large commits: what reaches the file, when, and by how many writes. */
#include "cell/cells.h"
#include "device_fault.h"
#include "support.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { SIZE = 4 << 20, BLOCK = 256 << 10, THRESHOLD = 64 << 10, LARGE = 1 << 20 };

struct bed {
    struct fault_device fault;
    struct cellar_device *device;
    unsigned char *window;
    struct cellar_cells cells;
    unsigned char model[SIZE];
};

static struct bed *bed_open(uint64_t committed)
{
    struct bed *bed = calloc(1, sizeof *bed);
    uint64_t window_bytes;
    void *window;

    assert_non_null(bed);
    assert_done(cellar_device_open_memory(NULL, SIZE, SIZE, &bed->fault.inner));
    assert_done(fault_device_open(&bed->fault, &bed->device));
    assert_done(cellar_device_window(bed->fault.inner, SIZE, true, &window, &window_bytes));
    bed->window = window;
    assert_done(cellar_cells_open(&bed->cells, bed->device, 64, window, 0, true, 0));
    cellar_cells_gather(&bed->cells, bed->device, THRESHOLD);
    cellar_cells_set_committed(&bed->cells, committed);
    return bed;
}

static void bed_close(struct bed *bed)
{
    cellar_cells_close(&bed->cells);
    assert_done(cellar_device_close(bed->device));
    free(bed);
}

static uint64_t writes_of(struct bed *bed)
{
    return fault_calls(&bed->fault, FAULT_BIT(FAULT_WRITE));
}

/* Bytes that the offset and a number name go to the cells and to the model. */
static void put_by(struct bed *bed, int (*way)(struct cellar_cells *, uint64_t, const void *, size_t), uint64_t offset,
                   size_t length_bytes, unsigned number)
{
    unsigned char *bytes = malloc(length_bytes);

    assert_non_null(bytes);
    support_bytes(offset * 31 + number, bytes, length_bytes);
    assert_done(way(&bed->cells, offset, bytes, length_bytes));
    memcpy(bed->model + offset, bytes, length_bytes);
    free(bytes);
}

static void put(struct bed *bed, uint64_t offset, size_t length_bytes, unsigned number)
{
    put_by(bed, cellar_cells_write, offset, length_bytes, number);
}

static void assert_there(const struct bed *bed, uint64_t from, uint64_t end)
{
    assert_memory_equal(bed->window + from, bed->model + from, end - from);
}

/* A small commit is stored at once. Of a large one what comes after the threshold waits, and goes in whole blocks. */
static void test_what_waits(void **state)
{
    struct bed *bed = bed_open(256);
    uint64_t at = 256;

    (void)state;
    for (; at < 256 + THRESHOLD; at += 64)
        put(bed, at, 64, 0);
    assert_there(bed, 256, at);
    put(bed, at, 64, 0);
    assert_memory_not_equal(bed->window + at, bed->model + at, 64);
    for (at += 64; at < 3 * BLOCK + 128; at += 64)
        put(bed, at, 64, 0);
    assert_int_equal(writes_of(bed), 3);
    assert_there(bed, 256, 3 * BLOCK);
    assert_memory_not_equal(bed->window + 3 * BLOCK, bed->model + 3 * BLOCK, 128);
    assert_done(cellar_cells_commit(&bed->cells, at));
    assert_int_equal(writes_of(bed), 4);
    assert_there(bed, 256, at);
    put(bed, at, 64, 0); /* that was no large one: the threshold counts from here again */
    assert_there(bed, 256, at + 64);
    assert_int_equal(writes_of(bed), 4);
    bed_close(bed);
}

/* After a large commit all of the next is gathered, until one is small. */
static void test_after_a_large_commit(void **state)
{
    struct bed *bed = bed_open(256);
    uint64_t at = 256;

    (void)state;
    put(bed, at, LARGE, 0); /* one call, which the threshold does not cut */
    at += LARGE;
    assert_done(cellar_cells_commit(&bed->cells, at));
    put(bed, at, 64, 0);
    assert_memory_not_equal(bed->window + at, bed->model + at, 64);
    at += 64;
    assert_done(cellar_cells_commit(&bed->cells, at));
    assert_there(bed, 256, at);
    put(bed, at, 64, 0);
    assert_there(bed, 256, at + 64);
    bed_close(bed);
}

static void test_settle_drop_rewrite(void **state)
{
    struct bed *bed = bed_open(0);
    uint64_t at = THRESHOLD, end;

    (void)state;
    put(bed, at, 640, 0);
    assert_memory_not_equal(bed->window + at, bed->model + at, 640);
    assert_done(cellar_cells_settle(&bed->cells, &end));
    assert_there(bed, at, at + 640);
    put(bed, at + 640, 640, 0);
    assert_done(cellar_cells_rewrite(&bed->cells, at + 600, "written over the edge of both", 29));
    memcpy(bed->model + at + 600, "written over the edge of both", 29);
    assert_there(bed, at, at + 640);
    assert_done(cellar_cells_settle(&bed->cells, &end));
    assert_there(bed, at, at + 1280);
    put(bed, at + 1280, 640, 1);
    cellar_cells_discard(&bed->cells); /* and the same place again */
    put(bed, at + 1280, 64, 2);
    assert_done(cellar_cells_commit(&bed->cells, at + 1344));
    assert_there(bed, at, at + 1344);
    assert_memory_not_equal(bed->window + at + 1344, bed->model + at + 1344, 576);
    bed_close(bed);
}

/* Any order of places and lengths ends in the same bytes. */
static void test_any_order(void **state)
{
    uint64_t random = 7;

    (void)state;
    for (int round = 0; round < 6; round++) {
        struct bed *bed = bed_open(0);
        uint64_t at = 0;

        for (unsigned i = 0; at < SIZE - 300000 && i < 400; i++) {
            size_t length = 1 + (size_t)support_random_below(&random, i % 16 == 0 ? 300000 : 5000);

            put(bed, at, length, i);
            at += length;
            if (i % 9 == 3) { /* a part of what was written before */
                uint64_t back = support_random_below(&random, at);

                put_by(bed, cellar_cells_rewrite, back, (size_t)(1 + support_random_below(&random, at - back)), i);
            }
            if (support_random_below(&random, 30) == 0)
                at += support_random_below(&random, 100);
            if (support_random_below(&random, 20) == 0) {
                assert_done(cellar_cells_commit(&bed->cells, at));
                assert_there(bed, 0, SIZE);
            }
        }
        assert_done(cellar_cells_commit(&bed->cells, at));
        assert_there(bed, 0, SIZE);
        bed_close(bed);
    }
}

/* A write that fails is told to whoever made it necessary, and where the readable part ends. */
static void test_failing(void **state)
{
    struct bed *bed = bed_open(0);
    unsigned char bytes[64] = {1};
    uint64_t end = 0;

    (void)state;
    put(bed, THRESHOLD, 640, 0);
    fault_fail(&bed->fault, FAULT_WRITE, 1, 0, -EIO);
    assert_result(cellar_cells_settle(&bed->cells, &end), -EIO);
    assert_int_equal(end, THRESHOLD);
    assert_result(cellar_cells_write(&bed->cells, THRESHOLD + 9999, bytes, sizeof bytes), -EIO);
    assert_result(cellar_cells_rewrite(&bed->cells, 0, bytes, sizeof bytes), -EIO);
    assert_result(cellar_cells_commit(&bed->cells, THRESHOLD + 640), -EIO);
    bed_close(bed);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_waits),
        cmocka_unit_test(test_after_a_large_commit),
        cmocka_unit_test(test_settle_drop_rewrite),
        cmocka_unit_test(test_any_order),
        cmocka_unit_test(test_failing),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
