/* Tables that are incomplete, or that fail: what the strict side makes of them. */
#include "device_fault.h"
#include "support.h"

#include "device/device.h"

#include <errno.h>
#include <string.h>

/* ---- a table of the test's own: it keeps what it is called with ---- */

struct made {
    uint32_t block_bytes;
    int close_result, closed;
    ssize_t write_result;
    uint64_t lock_token, token_seen;
    int unlocks;
};

static uint32_t made_block_bytes(void *state)
{
    return ((struct made *)state)->block_bytes;
}

static int made_size(void *state, uint64_t *ret_size_bytes)
{
    (void)state;
    *ret_size_bytes = 4096;
    return 0;
}

static ssize_t made_read(void *state, void *buffer, size_t length_bytes, uint64_t offset)
{
    (void)state;
    (void)offset;
    memset(buffer, 'r', length_bytes);
    return (ssize_t)length_bytes;
}

static int made_load(void *state, uint64_t offset, size_t length_bytes, const void **ret_bytes)
{
    (void)state;
    (void)offset;
    (void)length_bytes;
    (void)ret_bytes;
    return -EIO;
}

static void made_release(void *state, const void *bytes, size_t length_bytes)
{
    (void)state;
    (void)bytes;
    (void)length_bytes;
}

static ssize_t made_write(void *state, uint64_t token, const struct iovec *parts, int part_count, uint64_t offset)
{
    struct made *made = state;
    ssize_t sum = 0;

    (void)offset;
    made->token_seen = token;
    for (int i = 0; i < part_count; i++)
        sum += (ssize_t)parts[i].iov_len;
    return made->write_result <= 0 ? made->write_result : sum;
}

static int made_grow(void *state, uint64_t token, uint64_t allocate_from, uint64_t size_bytes)
{
    (void)allocate_from;
    (void)size_bytes;
    ((struct made *)state)->token_seen = token;
    return 0;
}

static int made_trim(void *state, uint64_t token, uint64_t size_bytes)
{
    (void)size_bytes;
    ((struct made *)state)->token_seen = token;
    return 0;
}

static int made_sync(void *state, uint64_t token, uint64_t offset, uint64_t length_bytes)
{
    (void)offset;
    (void)length_bytes;
    ((struct made *)state)->token_seen = token;
    return 0;
}

static int made_lock(void *state, enum cellar_device_lock lock, uint64_t *ret_token)
{
    (void)lock;
    *ret_token = ((struct made *)state)->lock_token;
    return 0;
}

static int made_unlock(void *state, enum cellar_device_lock lock, uint64_t token)
{
    struct made *made = state;

    (void)lock;
    made->token_seen = token;
    made->unlocks++;
    return 0;
}

static int made_close(void *state)
{
    struct made *made = state;

    made->closed++;
    return made->close_result;
}

static const struct cellar_device_ops least = {
    .name = "least", .size = made_size, .read = made_read, .close = made_close};

static struct cellar_device_ops all_ops(void)
{
    return (struct cellar_device_ops){
        .name = "all",
        .block_bytes = made_block_bytes,
        .size = made_size,
        .read = made_read,
        .load = made_load,
        .release = made_release,
        .write = made_write,
        .sync = made_sync,
        .grow = made_grow,
        .trim = made_trim,
        .lock = made_lock,
        .unlock = made_unlock,
        .close = made_close,
    };
}

/* ---- tests ---- */

static void expect_refused(const struct cellar_device_ops *ops, uint32_t block_bytes)
{
    struct made made = {.block_bytes = block_bytes};
    struct cellar_device *device = NULL;

    assert_result(cellar_device_open(ops, &made, &device), -EINVAL);
    assert_null(device);
    assert_int_equal(made.closed, ops->close != NULL); /* the state went with the call */
}

static void test_incomplete_tables(void **state)
{
    struct cellar_device_ops ops;

    (void)state;
    ops = all_ops();
    ops.size = NULL;
    expect_refused(&ops, 1);
    ops = all_ops();
    ops.read = NULL;
    expect_refused(&ops, 1);
    ops = all_ops();
    ops.close = NULL;
    expect_refused(&ops, 1);
    ops = all_ops();
    ops.load = NULL;
    expect_refused(&ops, 1);
    ops = all_ops();
    ops.release = NULL;
    expect_refused(&ops, 1);
    ops = all_ops();
    expect_refused(&ops, 0);
    expect_refused(&ops, 3);
    expect_refused(&ops, 513);
}

/* A device that can only be read: every other call says what it can't. */
static void test_the_least_table(void **state)
{
    struct made made = {.close_result = -EIO};
    struct cellar_device *device;
    char buffer[10];
    const void *lent;
    void *base;
    uint64_t capacity_bytes;

    (void)state;
    assert_done(cellar_device_open(&least, &made, &device));
    assert_false(cellar_device_writable(device));
    assert_false(cellar_device_lends(device));
    assert_string_equal(cellar_device_name(device), "least");
    assert_int_equal(cellar_device_block_bytes(device), 1);
    assert_done(cellar_device_read(device, buffer, sizeof buffer, 0));
    assert_memory_equal(buffer, "rrrrrrrrrr", 10);
    assert_done(cellar_device_load(device, 0, 10, &lent));
    assert_memory_equal(lent, "rrrrrrrrrr", 10);
    cellar_device_release(device, lent, 10);
    assert_result(support_device_write(device, buffer, 1, 0), -EROFS);
    assert_result(cellar_device_grow(device, 0, 10000), -EROFS);
    assert_result(cellar_device_trim(device, 0), -EROFS);
    assert_result(cellar_device_window(device, 4096, false, &base, &capacity_bytes), CELLAR_NONE);
    assert_result(cellar_device_window(device, 4096, true, &base, &capacity_bytes), -EROFS);
    assert_done(cellar_device_sync(device, 0, 4096));
    assert_done(cellar_device_lock(device, CELLAR_LOCK_WRITER));
    assert_done(cellar_device_unlock(device, CELLAR_LOCK_WRITER));
    cellar_device_forget(device);
    assert_int_equal(made.closed, 0);
    assert_result(cellar_device_close(device), -EIO);
    assert_int_equal(made.closed, 1);
    assert_done(cellar_device_close(NULL));
}

static void test_fixed_size(void **state)
{
    struct cellar_device_ops ops = all_ops();
    struct made made = {.block_bytes = 1, .write_result = 1};
    struct cellar_device *device;

    (void)state;
    ops.grow = NULL;
    ops.trim = NULL;
    assert_done(cellar_device_open(&ops, &made, &device));
    assert_done(cellar_device_grow(device, 0, 10));
    assert_done(cellar_device_grow(device, 0, 4096)); /* it has all its space */
    assert_result(cellar_device_grow(device, 0, 4096 + 1), -ENOSPC);
    assert_result(cellar_device_grow(device, 0, (uint64_t)INT64_MAX + 1), -EFBIG);
    assert_int_equal(cellar_device_counters(device).grows, 0);
    assert_result(cellar_device_trim(device, 10), -ENOTSUP);
    assert_done(cellar_device_close(device));
}

static void test_blocks(void **state)
{
    static const unsigned char bytes[4096];
    struct iovec parts[2] = {{.iov_base = (void *)(uintptr_t)bytes, .iov_len = 100},
                             {.iov_base = (void *)(uintptr_t)bytes, .iov_len = 412}};
    struct cellar_device_ops ops = all_ops();
    struct made made = {.block_bytes = 512, .write_result = 1};
    struct cellar_device *device;

    (void)state;
    assert_done(cellar_device_open(&ops, &made, &device));
    assert_int_equal(cellar_device_block_bytes(device), 512);
    assert_done(support_device_write(device, bytes, 512, 0));
    assert_done(support_device_write(device, bytes, 1024, 3072));
    assert_done(cellar_device_write(device, parts, 2, 512)); /* their sum counts */
    assert_result(support_device_write(device, bytes, 511, 0), -EINVAL);
    assert_result(support_device_write(device, bytes, 512, 1), -EINVAL);
    assert_done(cellar_device_grow(device, 0, 513)); /* how long it becomes is its own business */
    assert_done(cellar_device_grow(device, 0, 1024));
    assert_done(cellar_device_close(device));
}

/* A table whose write does nothing would be called for ever. */
static void test_write_that_does_nothing(void **state)
{
    struct cellar_device_ops ops = all_ops();
    struct made made = {.block_bytes = 1, .write_result = 0};
    struct cellar_device *device;

    (void)state;
    assert_done(cellar_device_open(&ops, &made, &device));
    assert_result(support_device_write(device, "x", 1, 0), -EIO);
    assert_done(cellar_device_close(device));
}

static void test_token(void **state)
{
    struct cellar_device_ops ops = all_ops();
    struct made made = {.block_bytes = 1, .write_result = 1, .lock_token = 77};
    struct cellar_device *device;

    (void)state;
    assert_done(cellar_device_open(&ops, &made, &device));
    made.token_seen = 5;
    assert_done(support_device_write(device, "x", 1, 0));
    assert_int_equal(made.token_seen, 0);
    assert_done(cellar_device_lock(device, CELLAR_LOCK_WRITER));
    made.lock_token = 88;
    assert_done(cellar_device_lock(device, CELLAR_LOCK_HEADER_EXCLUSIVE)); /* not the writer's token */
    assert_done(support_device_write(device, "x", 1, 0));
    assert_int_equal(made.token_seen, 77);
    made.token_seen = 0;
    assert_done(cellar_device_sync(device, 0, 1));
    assert_int_equal(made.token_seen, 77);
    made.token_seen = 0;
    assert_done(cellar_device_grow(device, 0, 4096));
    assert_int_equal(made.token_seen, 77);
    made.token_seen = 0;
    assert_done(cellar_device_trim(device, 4095));
    assert_int_equal(made.token_seen, 77);
    made.token_seen = 0;
    assert_done(cellar_device_unlock(device, CELLAR_LOCK_WRITER));
    assert_int_equal(made.token_seen, 77);
    assert_done(support_device_write(device, "x", 1, 0));
    assert_int_equal(made.token_seen, 0);
    assert_done(cellar_device_close(device));
    assert_int_equal(made.unlocks, 1);
}

/* close gives the lock back; in a child it must not. */
static void test_close_unlocks(void **state)
{
    struct cellar_device_ops ops = all_ops();
    struct made made = {.block_bytes = 1, .lock_token = 1};
    struct cellar_device *device;

    (void)state;
    assert_done(cellar_device_open(&ops, &made, &device));
    assert_done(cellar_device_lock(device, CELLAR_LOCK_WRITER));
    assert_done(cellar_device_close(device));
    assert_int_equal(made.unlocks, 1);
    assert_done(cellar_device_open(&ops, &made, &device));
    assert_done(cellar_device_lock(device, CELLAR_LOCK_WRITER));
    cellar_device_forget(device);
    assert_done(cellar_device_close(device));
    assert_int_equal(made.unlocks, 1);
}

static void test_state(void **state)
{
    struct made made = {0};
    struct cellar_device *device, *memory;

    (void)state;
    assert_done(cellar_device_open(&least, &made, &device));
    assert_done(cellar_device_open_memory(NULL, 0, 10, &memory));
    assert_ptr_equal(cellar_device_state(device, made_close), &made);
    assert_null(cellar_device_state(memory, made_close));
    assert_done(cellar_device_close(memory));
    assert_done(cellar_device_close(device));
}

static void test_load_error_is_passed_on(void **state)
{
    struct cellar_device_ops ops = all_ops();
    struct made made = {.block_bytes = 1};
    struct cellar_device *device;
    const void *lent;

    (void)state;
    assert_done(cellar_device_open(&ops, &made, &device));
    assert_result(cellar_device_load(device, 0, 1, &lent), -EIO);
    ops.load = NULL;
    ops.release = NULL;
    assert_result(cellar_device_load(device, 0, 4097, &lent), CELLAR_EBOUNDS);
    assert_done(cellar_device_close(device));
}

/* A window that is there already is too small for a device that has outgrown what is asked for. */
static void test_window_of_a_grown_device(void **state)
{
    struct fault_device fault = {.without = 0};
    struct cellar_device *device;
    uint64_t capacity_bytes;
    void *base;

    (void)state;
    assert_done(cellar_device_open_memory(NULL, 1000, 4096, &fault.inner));
    assert_done(fault_device_open(&fault, &device));
    assert_done(cellar_device_window(device, 1000, true, &base, &capacity_bytes));
    assert_done(cellar_device_grow(device, 1000, 2000));
    assert_result(cellar_device_window(device, 1999, true, &base, &capacity_bytes), CELLAR_EWINDOW);
    assert_done(cellar_device_window(device, 2000, true, &base, &capacity_bytes));
    assert_int_equal(fault_calls(&fault, FAULT_BIT(FAULT_WINDOW)), 1);
    fault_fail(&fault, FAULT_SIZE, 1, 1, -EIO);
    assert_result(cellar_device_window(device, 2000, true, &base, &capacity_bytes), -EIO);
    assert_done(cellar_device_close(device));
}

static int odd_window(void *state, uint64_t capacity_bytes, bool writable, void **ret_base,
                      uint64_t *ret_capacity_bytes)
{
    static uint64_t words[8];

    (void)state;
    (void)writable;
    *ret_base = (unsigned char *)words + 4;
    *ret_capacity_bytes = capacity_bytes;
    return 0;
}

/* The header's words are stored whole, which takes a window that begins at a multiple of 8. */
static void test_window_at_an_odd_address(void **state)
{
    struct cellar_device_ops ops = all_ops();
    struct made made = {.block_bytes = 1};
    struct cellar_device *device;
    uint64_t capacity_bytes;
    void *base = NULL;

    (void)state;
    ops.window = odd_window;
    assert_done(cellar_device_open(&ops, &made, &device));
    for (int i = 0; i < 2; i++)
        assert_result(cellar_device_window(device, 4096, true, &base, &capacity_bytes), -EINVAL);
    assert_null(base);
    assert_done(cellar_device_close(device));
}

static int load_all(void *user)
{
    const void *lent;

    return cellar_device_load(user, 0, 64 << 20, &lent);
}

/* A copy that there is no memory for. */
static void test_no_memory(void **state)
{
    struct fault_device fault = {.without = FAULT_BIT(FAULT_LOAD)};
    struct cellar_device *device;

    (void)state;
    if (SUPPORT_SANITIZED)
        support_skip("sanitizers end a process without memory");
    assert_done(cellar_device_open_memory(NULL, 64 << 20, 64 << 20, &fault.inner));
    assert_done(fault_device_open(&fault, &device));
    assert_result(support_without_memory(load_all, device), -ENOMEM);
    assert_int_equal(fault_calls(&fault, FAULT_BIT(FAULT_READ)), 0);
    assert_done(cellar_device_close(device));
}

/* Every call passes the error of its table on, counts, and the next one works. */
static void test_faults_are_passed_on(void **state)
{
    struct fault_device fault = {.without = FAULT_BIT(FAULT_LOAD)};
    struct cellar_device *device;
    uint64_t size_bytes;
    char buffer[8] = "";
    const void *lent;
    void *base;

    (void)state;
    assert_done(cellar_device_open_memory("01234567", 8, 4096, &fault.inner));
    assert_done(fault_device_open(&fault, &device));
    fault_fail(&fault, FAULT_SIZE, 1, 1, -EIO);
    assert_result(cellar_device_size(device, &size_bytes), -EIO);
    fault_fail(&fault, FAULT_READ, 1, 2, -ENODEV);
    assert_result(cellar_device_read(device, buffer, 8, 0), -ENODEV);
    assert_result(cellar_device_load(device, 0, 8, &lent), -ENODEV);
    assert_done(cellar_device_read(device, buffer, 8, 0));
    fault_heal(&fault);
    fault_fail(&fault, FAULT_WRITE, 2, 1, CELLAR_EUNKNOWN);
    assert_done(support_device_write(device, "ab", 2, 0));
    assert_result(support_device_write(device, "cd", 2, 0), CELLAR_EUNKNOWN);
    fault_fail(&fault, FAULT_SYNC, 1, 1, -EIO);
    assert_result(cellar_device_sync(device, 0, 1), -EIO);
    assert_done(cellar_device_sync(device, 0, 1));
    fault_fail(&fault, FAULT_GROW, 1, 0, -ENOSPC);
    assert_result(cellar_device_grow(device, 8, 100), -ENOSPC);
    assert_result(cellar_device_grow(device, 8, 100), -ENOSPC);
    fault_fail(&fault, FAULT_TRIM, 1, 1, -EPERM);
    assert_result(cellar_device_trim(device, 4), -EPERM);
    fault_heal(&fault);
    fault_fail(&fault, FAULT_LOCK, 1, 1, -ENOLCK);
    assert_result(cellar_device_lock(device, CELLAR_LOCK_WRITER), -ENOLCK);
    assert_done(cellar_device_lock(device, CELLAR_LOCK_WRITER));
    fault_fail(&fault, FAULT_UNLOCK, 1, 1, -EIO);
    assert_result(cellar_device_unlock(device, CELLAR_LOCK_WRITER), -EIO);
    fault_fail(&fault, FAULT_WINDOW, 1, 1, -EACCES);
    assert_result(cellar_device_window(device, 4096, true, &base, &size_bytes), -EACCES);
    assert_done(cellar_device_window(device, 4096, true, &base, &size_bytes));
    fault_fail(&fault, FAULT_CLOSE, 1, 1, -EDQUOT);
    assert_result(cellar_device_close(device), -EDQUOT);
    assert_int_equal(fault.failures, 12);
}

/* A write that fails midway has written what came before; the error is the result. */
static void test_torn_write(void **state)
{
    struct fault_device fault = {.torn_bytes = 3};
    struct cellar_device *device;
    char buffer[8];

    (void)state;
    assert_done(cellar_device_open_memory("........", 8, 8, &fault.inner));
    assert_done(fault_device_open(&fault, &device));
    fault_fail(&fault, FAULT_WRITE, 1, 1, -EIO);
    assert_result(support_device_write(device, "abcdef", 6, 1), -EIO);
    assert_done(cellar_device_read(device, buffer, 8, 0));
    assert_memory_equal(buffer, ".abc....", 8);
    assert_int_equal(cellar_device_counters(device).writes, 1);
    assert_int_equal(cellar_device_counters(device).bytes_written, 0);
    assert_done(cellar_device_close(device));
}

/* One retry for every interrupt and every transfer that was continued. */
static void test_retries_are_counted(void **state)
{
    struct fault_device fault = {.transfer_bytes_max = 10};
    struct cellar_device *device;
    unsigned char bytes[100] = "";

    (void)state;
    assert_done(cellar_device_open_memory(NULL, 100, 100, &fault.inner));
    assert_done(fault_device_open(&fault, &device));
    assert_done(support_device_write(device, bytes, 100, 0));
    assert_int_equal(cellar_device_counters(device).retries, 9);
    assert_done(cellar_device_read(device, bytes, 95, 0));
    assert_int_equal(cellar_device_counters(device).retries, 18);
    fault_heal(&fault);
    fault.interrupt_every = 2;
    assert_done(cellar_device_read(device, bytes, 100, 0));
    assert_done(support_device_write(device, bytes, 100, 0)); /* this one is interrupted */
    assert_int_equal(cellar_device_counters(device).retries, 19);
    fault.interrupt_every = 1; /* for ever, were it not healed */
    fault_heal(&fault);
    assert_done(cellar_device_read(device, bytes, 100, 0));
    assert_int_equal(cellar_device_counters(device).retries, 19);
    assert_done(cellar_device_close(device));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_incomplete_tables),
        cmocka_unit_test(test_the_least_table),
        cmocka_unit_test(test_fixed_size),
        cmocka_unit_test(test_blocks),
        cmocka_unit_test(test_write_that_does_nothing),
        cmocka_unit_test(test_token),
        cmocka_unit_test(test_close_unlocks),
        cmocka_unit_test(test_state),
        cmocka_unit_test(test_load_error_is_passed_on),
        cmocka_unit_test(test_faults_are_passed_on),
        cmocka_unit_test(test_window_of_a_grown_device),
        cmocka_unit_test(test_window_at_an_odd_address),
        cmocka_unit_test(test_no_memory),
        cmocka_unit_test(test_torn_write),
        cmocka_unit_test(test_retries_are_counted),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
