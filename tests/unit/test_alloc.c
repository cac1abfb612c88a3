/* Indices in order, and their space really there before anybody gets one. */
#include "device_fault.h"
#include "support.h"

#include "cell/alloc.h"

#include <errno.h>
#include <string.h>

enum { CELL = 10, START = 26 };

/* An allocator over a memory device that holds the header alone. */
struct stage {
    struct fault_device fault;
    struct cellar_device *device;
    struct cellar_alloc alloc;
};

static void open_stage(struct stage *stage, uint64_t file_cells, uint64_t capacity_cells, uint32_t step_cells)
{
    assert_done(cellar_device_open_memory(NULL, file_cells * CELL, capacity_cells * CELL, &stage->fault.inner));
    assert_done(fault_device_open(&stage->fault, &stage->device));
    stage->alloc = (struct cellar_alloc){
        .device = stage->device,
        .bytes_per_cell = CELL,
        .next_index = START,
        .ready_index = START,
        .max_index = 1000,
        .step_cells = step_cells,
        .file_bytes = file_cells * CELL,
    };
}

static void close_stage(struct stage *stage)
{
    assert_done(cellar_device_close(stage->device));
}

static uint64_t device_bytes(struct stage *stage)
{
    uint64_t size_bytes = 0;

    assert_done(cellar_device_size(stage->device, &size_bytes));
    return size_bytes;
}

/* The invariants of alloc.h. */
static void check_invariants(struct stage *stage)
{
    const struct cellar_alloc *alloc = &stage->alloc;

    assert_true(alloc->next_index <= alloc->ready_index && alloc->ready_index <= alloc->max_index);
    assert_true((uint64_t)alloc->ready_index * CELL <= alloc->file_bytes);
    assert_int_equal(alloc->file_bytes, device_bytes(stage));
}

/* A take that fails changes nothing. */
static void expect_refused(struct stage *stage, uint64_t cell_count, int error)
{
    struct cellar_alloc before = stage->alloc;
    uint32_t first = 4711;

    assert_result(cellar_alloc_take(&stage->alloc, cell_count, &first), error);
    assert_int_equal(first, 4711);
    assert_int_equal(stage->alloc.next_index, before.next_index);
    check_invariants(stage);
}

static uint32_t take(struct stage *stage, uint64_t cell_count)
{
    uint32_t first = 0;

    assert_done(cellar_alloc_take(&stage->alloc, cell_count, &first));
    check_invariants(stage);
    return first;
}

static void test_in_order(void **state)
{
    struct stage stage = {.fault.keep_inner = false};
    uint32_t expected = START;
    uint64_t random = 51;

    (void)state;
    open_stage(&stage, START, 1000, 16);
    while (expected < 900) {
        uint32_t count = 1 + (uint32_t)support_random_below(&random, 40);

        assert_int_equal(take(&stage, count), expected);
        expected += count;
        assert_int_equal(stage.alloc.next_index, expected);
    }
    close_stage(&stage);
}

/* The file grows by whole steps, as many as are needed and no more, and only when it must. */
static void test_steps(void **state)
{
    struct stage stage = {.fault.keep_inner = false};

    (void)state;
    open_stage(&stage, START, 1000, 16);
    assert_int_equal(take(&stage, 1), START);
    assert_int_equal(stage.alloc.ready_index, START + 16);
    assert_int_equal(device_bytes(&stage), (START + 16) * CELL);
    take(&stage, 15);
    assert_int_equal(fault_calls(&stage.fault, FAULT_BIT(FAULT_GROW)), 1);
    take(&stage, 16); /* exactly a step */
    assert_int_equal(stage.alloc.ready_index, START + 32);
    take(&stage, 17);
    assert_int_equal(stage.alloc.ready_index, START + 64);
    take(&stage, 15);
    assert_int_equal(fault_calls(&stage.fault, FAULT_BIT(FAULT_GROW)), 3);
    take(&stage, 33);
    assert_int_equal(stage.alloc.ready_index, START + 64 + 48);
    close_stage(&stage);
}

/* A file that is longer already is allocated step by step all the same, and never cut. */
static void test_longer_file(void **state)
{
    struct stage stage = {.fault.keep_inner = false};

    (void)state;
    open_stage(&stage, 500, 1000, 16);
    take(&stage, 1);
    assert_int_equal(fault_calls(&stage.fault, FAULT_BIT(FAULT_GROW)), 1);
    assert_int_equal(stage.alloc.ready_index, START + 16);
    assert_int_equal(stage.alloc.file_bytes, 500 * CELL);
    take(&stage, 480);
    assert_int_equal(stage.alloc.ready_index, START + 496);
    assert_int_equal(stage.alloc.file_bytes, (START + 496) * CELL);
    close_stage(&stage);
}

/* Every cell below max index can be used, and not one more. */
static void test_max_index(void **state)
{
    static const uint32_t steps[] = {1, 7, 16, 974, 1000, UINT32_MAX};

    (void)state;
    for (size_t i = 0; i < SUPPORT_COUNT(steps); i++) {
        struct stage stage = {.fault.keep_inner = false};

        open_stage(&stage, START, 2000, steps[i]);
        expect_refused(&stage, 1000 - START + 1, CELLAR_EINDEXFULL);
        expect_refused(&stage, UINT32_MAX, CELLAR_EINDEXFULL);
        expect_refused(&stage, (uint64_t)UINT32_MAX + 1, CELLAR_EINDEXFULL);
        expect_refused(&stage, UINT64_MAX, CELLAR_EINDEXFULL);
        take(&stage, 900);
        assert_int_equal(take(&stage, 1000 - START - 900), START + 900);
        assert_int_equal(stage.alloc.ready_index, 1000);
        assert_int_equal(device_bytes(&stage), 1000 * CELL);
        expect_refused(&stage, 1, CELLAR_EINDEXFULL);
        close_stage(&stage);
    }
}

/* A device that is as long as it is asked to be. */
static int endless_size(void *state, uint64_t *ret_size_bytes)
{
    *ret_size_bytes = *(uint64_t *)state;
    return 0;
}

static ssize_t endless_read(void *state, void *buffer, size_t length_bytes, uint64_t offset)
{
    (void)state;
    (void)offset;
    memset(buffer, 0, length_bytes);
    return (ssize_t)length_bytes;
}

static ssize_t endless_write(void *state, uint64_t token, const struct iovec *parts, int part_count, uint64_t offset)
{
    (void)state;
    (void)token;
    (void)parts;
    (void)part_count;
    (void)offset;
    return -EIO;
}

static int endless_grow(void *state, uint64_t token, uint64_t allocate_from, uint64_t size_bytes)
{
    (void)token;
    assert_true(allocate_from < size_bytes);
    *(uint64_t *)state = size_bytes;
    return 0;
}

static int endless_close(void *state)
{
    (void)state;
    return 0;
}

/* No index and no size overflows at the end of 32 bits, with the largest cells. */
static void test_largest_max_index(void **state)
{
    static const struct cellar_device_ops ops = {.name = "endless",
                                                 .size = endless_size,
                                                 .read = endless_read,
                                                 .write = endless_write,
                                                 .grow = endless_grow,
                                                 .close = endless_close};
    uint64_t size_bytes = (uint64_t)(UINT32_MAX - 10) * 65535;
    struct cellar_alloc alloc = {.bytes_per_cell = 65535,
                                 .next_index = UINT32_MAX - 10,
                                 .ready_index = UINT32_MAX - 10,
                                 .max_index = UINT32_MAX,
                                 .step_cells = UINT32_MAX,
                                 .file_bytes = size_bytes};
    uint32_t first = 0;

    (void)state;
    assert_done(cellar_device_open(&ops, &size_bytes, &alloc.device));
    assert_result(cellar_alloc_take(&alloc, 11, &first), CELLAR_EINDEXFULL);
    assert_done(cellar_alloc_take(&alloc, 10, &first));
    assert_int_equal(first, UINT32_MAX - 10);
    assert_int_equal(alloc.next_index, UINT32_MAX);
    assert_int_equal(alloc.ready_index, UINT32_MAX);
    assert_true(size_bytes == (uint64_t)UINT32_MAX * 65535 && alloc.file_bytes == size_bytes);
    assert_result(cellar_alloc_take(&alloc, 1, &first), CELLAR_EINDEXFULL);
    assert_done(cellar_device_close(alloc.device));
}

/* Others cut the file: no cell is given out above what is lost. */
static void test_file_was_cut(void **state)
{
    struct stage stage = {.fault.keep_inner = false};
    uint32_t first = 4711;

    (void)state;
    open_stage(&stage, START, 1000, 16);
    take(&stage, 16);
    assert_done(cellar_device_trim(stage.fault.inner, START * CELL));
    assert_result(cellar_alloc_take(&stage.alloc, 1, &first), CELLAR_ECORRUPT);
    assert_int_equal(first, 4711);
    assert_int_equal(stage.alloc.next_index, START + 16);
    fault_fail(&stage.fault, FAULT_SIZE, 1, 1, -EIO);
    assert_result(cellar_alloc_take(&stage.alloc, 1, &first), -EIO);
    assert_int_equal(device_bytes(&stage), START * CELL);
    close_stage(&stage);
}

static void test_window(void **state)
{
    struct stage stage = {.fault.keep_inner = false};

    (void)state;
    open_stage(&stage, START, 1000, 16);
    stage.alloc.window_bytes = (START + 40) * CELL + CELL - 1; /* the last cell is not whole */
    take(&stage, 33);
    assert_int_equal(stage.alloc.ready_index, START + 40); /* not the whole third step */
    expect_refused(&stage, 8, CELLAR_EWINDOW);
    assert_int_equal(take(&stage, 7), START + 33);
    expect_refused(&stage, 1, CELLAR_EWINDOW);
    assert_int_equal(device_bytes(&stage), (START + 40) * CELL);
    close_stage(&stage);
}

/* Where a whole step does not fit any more, what is needed is enough. */
static void test_full_disk(void **state)
{
    struct stage stage = {.fault.keep_inner = false};

    (void)state;
    open_stage(&stage, START, START + 20, 16);
    take(&stage, 16);
    assert_int_equal(take(&stage, 3), START + 16);
    assert_int_equal(stage.alloc.ready_index, START + 19);
    assert_int_equal(take(&stage, 1), START + 19);
    expect_refused(&stage, 1, -ENOSPC);
    expect_refused(&stage, 100, -ENOSPC);
    close_stage(&stage);
}

static void test_errors_of_growing(void **state)
{
    static const int full[] = {-ENOSPC, -EFBIG, -EDQUOT};
    static const int other[] = {-EIO, CELLAR_EFORKED, -EPERM};

    (void)state;
    for (size_t i = 0; i < SUPPORT_COUNT(full); i++) {
        struct stage stage = {.fault.keep_inner = false};

        open_stage(&stage, START, 1000, 16);
        fault_fail(&stage.fault, FAULT_GROW, 1, 1, full[i]);
        take(&stage, 5);
        assert_int_equal(stage.alloc.ready_index, START + 5); /* the second try was smaller */
        fault_fail(&stage.fault, FAULT_GROW, 1, 2, full[i]);
        expect_refused(&stage, 5, full[i]);
        assert_true(cellar_alloc_is_full(full[i]));
        assert_int_equal(take(&stage, 5), START + 5);
        fault_fail(&stage.fault, FAULT_GROW, 1, 2, full[i]);
        expect_refused(&stage, 16 + 11, full[i]); /* a whole number of steps: there is no less to ask for */
        assert_int_equal(fault_calls(&stage.fault, FAULT_BIT(FAULT_GROW)), 5 + 1);
        close_stage(&stage);
    }
    for (size_t i = 0; i < SUPPORT_COUNT(other); i++) {
        struct stage stage = {.fault.keep_inner = false};

        open_stage(&stage, START, 1000, 16);
        fault_fail(&stage.fault, FAULT_GROW, 1, 1, other[i]);
        assert_false(cellar_alloc_is_full(other[i]));
        expect_refused(&stage, 5, other[i]);
        assert_int_equal(fault_calls(&stage.fault, FAULT_BIT(FAULT_GROW)), 1); /* no second try */
        assert_int_equal(take(&stage, 5), START);
        close_stage(&stage);
    }
}

/* A device of fixed size: all its cells can be used, whatever the step, and no more. */
static void test_fixed_device(void **state)
{
    static const uint32_t steps[] = {1, 16, 64, 100000};

    (void)state;
    for (size_t i = 0; i < SUPPORT_COUNT(steps); i++) {
        struct stage stage = {.fault.without = FAULT_BIT(FAULT_GROW)};

        open_stage(&stage, 100, 100, steps[i]);
        assert_int_equal(take(&stage, 70), START);
        assert_int_equal(take(&stage, 100 - START - 70), START + 70);
        assert_int_equal(stage.alloc.next_index, 100);
        expect_refused(&stage, 1, -ENOSPC);
        close_stage(&stage);
    }
}

static void test_step_cells(void **state)
{
    (void)state;
    assert_int_equal(cellar_alloc_step_cells(0, 32), 1);
    assert_int_equal(cellar_alloc_step_cells(31, 32), 1);
    assert_int_equal(cellar_alloc_step_cells(32, 32), 1);
    assert_int_equal(cellar_alloc_step_cells(100, 32), 3);
    assert_int_equal(cellar_alloc_step_cells(16 << 20, 32), 524288);
    assert_int_equal(cellar_alloc_step_cells(16 << 20, 65535), 256);
    assert_int_equal(cellar_alloc_step_cells(UINT64_MAX, 4), UINT32_MAX);
    assert_int_equal(cellar_alloc_step_cells((uint64_t)UINT32_MAX * 4 + 3, 4), UINT32_MAX);
    assert_int_equal(cellar_alloc_step_cells((uint64_t)UINT32_MAX * 4 - 1, 4), UINT32_MAX - 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_in_order),
        cmocka_unit_test(test_steps),
        cmocka_unit_test(test_longer_file),
        cmocka_unit_test(test_max_index),
        cmocka_unit_test(test_largest_max_index),
        cmocka_unit_test(test_file_was_cut),
        cmocka_unit_test(test_window),
        cmocka_unit_test(test_full_disk),
        cmocka_unit_test(test_errors_of_growing),
        cmocka_unit_test(test_fixed_device),
        cmocka_unit_test(test_step_cells),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
