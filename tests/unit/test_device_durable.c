/* Durable writes: by the table's own, by write and sync where it has none, or none for what is asked. */
#include "system_fault.h"

#include "device_fault.h"
#include "support.h"

#include <errno.h>
#include <string.h>

enum { SIZE = 8192 };

/* ---- a table of the test's own: it writes down what it is called for ---- */

struct call {
    char what; /* w, d (durable), s */
    uint64_t offset, length_bytes;
};

struct made {
    struct call calls[200];
    size_t call_count;
    size_t most_bytes;    /* of one write; 0: no limit */
    int durable_error;    /* of write_durable from its nth call on */
    size_t durable_after; /* that n, less one */
    int write_error, sync_error;
};

static int made_size(void *state, uint64_t *ret_size_bytes)
{
    (void)state;
    *ret_size_bytes = SIZE;
    return 0;
}

static ssize_t made_read(void *state, void *buffer, size_t length_bytes, uint64_t offset)
{
    (void)state;
    (void)offset;
    memset(buffer, 0, length_bytes);
    return (ssize_t)length_bytes;
}

static ssize_t note_write(struct made *made, char what, const struct iovec *parts, int part_count, uint64_t offset)
{
    size_t sum = 0;

    for (int i = 0; i < part_count; i++)
        sum += parts[i].iov_len;
    if (made->most_bytes > 0 && sum > made->most_bytes)
        sum = made->most_bytes;
    made->calls[made->call_count++] = (struct call){what, offset, sum};
    return (ssize_t)sum;
}

static ssize_t made_write(void *state, uint64_t token, const struct iovec *parts, int part_count, uint64_t offset)
{
    struct made *made = state;

    (void)token;
    return made->write_error != 0 ? made->write_error : note_write(made, 'w', parts, part_count, offset);
}

static ssize_t made_write_durable(void *state, uint64_t token, const struct iovec *parts, int part_count,
                                  uint64_t offset)
{
    struct made *made = state;

    (void)token;
    if (made->durable_error != 0 && made->call_count >= made->durable_after)
        return made->durable_error;
    return note_write(made, 'd', parts, part_count, offset);
}

static int made_sync(void *state, uint64_t token, uint64_t offset, uint64_t length_bytes)
{
    struct made *made = state;

    (void)token;
    made->calls[made->call_count++] = (struct call){'s', offset, length_bytes};
    return made->sync_error;
}

static int made_close(void *state)
{
    (void)state;
    return 0;
}

static const struct cellar_device_ops all = {.name = "all",
                                             .size = made_size,
                                             .read = made_read,
                                             .write = made_write,
                                             .write_durable = made_write_durable,
                                             .sync = made_sync,
                                             .close = made_close};

static void assert_calls(const struct made *made, const struct call *calls, size_t count)
{
    assert_int_equal(made->call_count, count);
    for (size_t i = 0; i < count; i++) {
        assert_int_equal(made->calls[i].what, calls[i].what);
        assert_int_equal(made->calls[i].offset, calls[i].offset);
        assert_int_equal(made->calls[i].length_bytes, calls[i].length_bytes);
    }
}

static int write_durable(struct cellar_device *device, size_t length_bytes, uint64_t offset)
{
    static unsigned char bytes[SIZE];
    struct iovec parts[2] = {{.iov_base = bytes, .iov_len = length_bytes / 3},
                             {.iov_base = bytes, .iov_len = length_bytes - length_bytes / 3}};

    return cellar_device_write_durable(device, parts, 2, offset);
}

/* ---- tests ---- */

static void test_own(void **state)
{
    static const struct call whole[] = {{'d', 100, 300}};
    static const struct call pieces[] = {{'d', 100, 128}, {'d', 228, 128}, {'d', 356, 44}};
    struct cellar_device_counters counters;
    struct made made = {.call_count = 0};
    struct cellar_device *device;

    (void)state;
    assert_done(cellar_device_open(&all, &made, &device));
    assert_done(write_durable(device, 300, 100));
    assert_calls(&made, whole, 1);
    made = (struct made){.most_bytes = 128};
    assert_done(write_durable(device, 300, 100)); /* each piece is durable, so all of it is */
    assert_calls(&made, pieces, 3);
    counters = cellar_device_counters(device);
    assert_int_equal(counters.writes, 2); /* it counts as a write and a sync */
    assert_int_equal(counters.syncs, 2);
    assert_int_equal(counters.bytes_written, 600);
    assert_int_equal(counters.retries, 2);
    made = (struct made){.call_count = 0};
    assert_done(write_durable(device, 0, 100));
    assert_int_equal(made.call_count, 0);
    assert_result(write_durable(device, 300, SIZE - 299), CELLAR_EBOUNDS);
    assert_done(cellar_device_close(device));
}

static void test_without(void **state)
{
    static const struct call calls[] = {{'w', 100, 300}, {'s', 100, 300}};
    struct cellar_device_ops ops = all;
    struct made made = {.call_count = 0};
    struct cellar_device *device;

    (void)state;
    ops.write_durable = NULL;
    assert_done(cellar_device_open(&ops, &made, &device));
    assert_done(write_durable(device, 300, 100));
    assert_calls(&made, calls, 2);
    assert_int_equal(cellar_device_counters(device).writes, 1);
    assert_int_equal(cellar_device_counters(device).syncs, 1);
    made = (struct made){.sync_error = -EIO};
    assert_result(write_durable(device, 300, 100), -EIO);
    made = (struct made){.write_error = -ENOSPC};
    assert_result(write_durable(device, 300, 100), -ENOSPC);
    assert_int_equal(made.call_count, 0); /* what was not written is not synced */
    assert_done(cellar_device_close(device));
    ops.sync = NULL; /* nothing is ever durable here */
    made = (struct made){.call_count = 0};
    assert_done(cellar_device_open(&ops, &made, &device));
    assert_done(write_durable(device, 300, 100));
    assert_calls(&made, calls, 1);
    assert_int_equal(cellar_device_counters(device).syncs, 0);
    assert_done(cellar_device_close(device));
    ops.write = NULL;
    assert_done(cellar_device_open(&ops, &made, &device));
    assert_result(write_durable(device, 300, 100), -EROFS);
    assert_done(cellar_device_close(device));
}

/* A table may find out late that it can't, also midway: then all of it is written and synced. */
static void test_not_supported(void **state)
{
    static const struct call at_once[] = {{'w', 100, 300}, {'s', 100, 300}};
    static const struct call midway[] = {{'d', 100, 200}, {'w', 100, 200}, {'w', 300, 100}, {'s', 100, 300}};
    struct made made = {.durable_error = -ENOTSUP};
    struct cellar_device *device;

    (void)state;
    assert_done(cellar_device_open(&all, &made, &device));
    assert_done(write_durable(device, 300, 100));
    assert_calls(&made, at_once, 2);
    made = (struct made){.durable_error = -ENOTSUP, .durable_after = 1, .most_bytes = 200};
    assert_done(write_durable(device, 300, 100));
    assert_calls(&made, midway, 4);
    made = (struct made){.durable_error = -EIO};
    assert_result(write_durable(device, 300, 100), -EIO); /* any other error is one */
    assert_int_equal(made.call_count, 0);
    assert_done(cellar_device_close(device));
}

/* The files do it by RWF_DSYNC, and by a sync where the kernel or the file system has none. */
static void test_files(void **state)
{
    static const int unsupported[] = {EOPNOTSUPP, ENOSYS};
    unsigned char got[5];

    for (int kind = SUPPORT_DEVICE_FILE; kind <= SUPPORT_DEVICE_PREAD; kind++) {
        const char *name = kind == SUPPORT_DEVICE_FILE ? "file" : "pread";
        struct cellar_device *device = support_device_open((enum support_device)kind, *state, name, SIZE, SIZE);
        struct iovec part = {.iov_base = (void *)(uintptr_t) "bytes", .iov_len = 5};

        system_heal();
        assert_done(cellar_device_write_durable(device, &part, 1, 100));
        assert_int_equal(system_calls(SYSTEM_PWRITEV2), 1);
        assert_int_equal(system_calls(SYSTEM_FDATASYNC), 0);
        for (size_t i = 0; i < SUPPORT_COUNT(unsupported); i++) {
            system_heal();
            system_fail(SYSTEM_PWRITEV2, 1, 1, unsupported[i]);
            assert_done(cellar_device_write_durable(device, &part, 1, 200));
            assert_int_equal(system_calls(SYSTEM_PWRITEV), 1);
            assert_int_equal(system_calls(SYSTEM_FDATASYNC), 1);
        }
        system_heal();
        system_fail(SYSTEM_PWRITEV2, 1, 1, EINTR);
        assert_done(cellar_device_write_durable(device, &part, 1, 300));
        assert_int_equal(system_calls(SYSTEM_PWRITEV2), 2);
        system_fail(SYSTEM_PWRITEV2, 1, 1, EIO);
        assert_result(cellar_device_write_durable(device, &part, 1, 300), -EIO);
        system_heal();
        for (uint64_t at = 100; at <= 300; at += 100) {
            assert_done(cellar_device_read(device, got, 5, at));
            assert_memory_equal(got, "bytes", 5);
        }
        assert_done(cellar_device_close(device));
    }
}

/* O_DIRECT: the block that a file ends within goes through the page cache, and waits for the disk however it is
 * written: nobody says SYNCING of it. */
static void test_last_block_of_direct(void **state)
{
    static const int unsupported[] = {EOPNOTSUPP, ENOSYS};
    struct cellar_device *device = NULL;
    unsigned char *block;
    uint32_t block_bytes;

    if (!support_has_direct(*state))
        support_skip("no O_DIRECT on the file system of %s", (const char *)*state);
    assert_done(cellar_device_open_pread(support_path(*state, "direct"),
                                         CELLAR_OPEN_WRITE | CELLAR_OPEN_DIRECT | CELLAR_OPEN_CREATE, 0600, &device));
    block_bytes = cellar_device_block_bytes(device);
    block = calloc(1, block_bytes);
    assert_non_null(block);
    memset(block, 7, 300);
    assert_done(cellar_device_grow(device, 0, 2 * (uint64_t)block_bytes + 300));
    system_heal();
    assert_done(support_device_write(device, block, block_bytes, 2 * (uint64_t)block_bytes));
    assert_int_equal(system_calls(SYSTEM_PWRITEV2), 1);
    assert_int_equal(system_calls(SYSTEM_PWRITEV), 0);
    for (size_t i = 0; i < SUPPORT_COUNT(unsupported); i++) {
        system_heal();
        system_fail(SYSTEM_PWRITEV2, 1, 1, unsupported[i]);
        assert_done(support_device_write(device, block, block_bytes, 2 * (uint64_t)block_bytes));
        assert_int_equal(system_calls(SYSTEM_PWRITEV), 1);
        assert_int_equal(system_calls(SYSTEM_FDATASYNC), 1);
        system_heal();
        system_fail(SYSTEM_PWRITEV2, 1, 1, unsupported[i]);
        system_fail(SYSTEM_FDATASYNC, 1, 1, EIO);
        assert_result(support_device_write(device, block, block_bytes, 2 * (uint64_t)block_bytes), -EIO);
    }
    system_heal();
    system_fail(SYSTEM_PWRITEV2, 1, 1, EIO);
    assert_result(support_device_write(device, block, block_bytes, 2 * (uint64_t)block_bytes), -EIO);
    system_heal();
    assert_done(support_device_write(device, block, block_bytes, block_bytes));
    assert_int_equal(system_calls(SYSTEM_PWRITEV2) + system_calls(SYSTEM_FDATASYNC), 0); /* the others don't */
    free(block);
    assert_done(cellar_device_close(device));
}

/* The tests' own wrapper: a durable write is a write and a sync, and either can fail. */
static void test_wrapper(void **state)
{
    struct fault_device fault = {.durable_writes = true, .transfer_bytes_max = 100};
    struct cellar_device *device;

    (void)state;
    assert_done(cellar_device_open_memory(NULL, SIZE, SIZE, &fault.inner));
    assert_done(fault_device_open(&fault, &device));
    assert_done(write_durable(device, 300, 100));
    assert_int_equal(fault_calls(&fault, FAULT_BIT(FAULT_WRITE)), 3);
    assert_int_equal(fault_calls(&fault, FAULT_BIT(FAULT_SYNC)), 3);
    fault_fail(&fault, FAULT_SYNC, 2, 1, -EIO);
    assert_result(write_durable(device, 300, 100), -EIO);
    assert_int_equal(fault_calls(&fault, FAULT_BIT(FAULT_WRITE)), 5);
    fault_fail(&fault, FAULT_WRITE, 1, 1, -ENOSPC);
    assert_result(write_durable(device, 300, 100), -ENOSPC);
    assert_int_equal(fault_calls(&fault, FAULT_BIT(FAULT_SYNC)), 5);
    assert_done(cellar_device_close(device));
}

/* So many parts that one call's worth of them doesn't fill a block. */
static void test_parts_smaller_than_a_block(void **state)
{
    enum { PARTS = 4096, BLOCK = 8192 };
    static unsigned char bytes[2 * PARTS], got[2 * PARTS];
    static struct iovec parts[PARTS];
    struct fault_device fault = {.block_bytes = BLOCK};
    struct cellar_device *device;

    (void)state;
    support_bytes(12, bytes, sizeof bytes);
    for (size_t i = 0; i < PARTS; i++)
        parts[i] = (struct iovec){.iov_base = bytes + 2 * i, .iov_len = 2};
    assert_done(cellar_device_open_memory(NULL, 4 * BLOCK, 4 * BLOCK, &fault.inner));
    assert_done(fault_device_open(&fault, &device));
    assert_done(cellar_device_write(device, parts, PARTS, BLOCK));
    assert_done(cellar_device_read(device, got, sizeof got, BLOCK));
    assert_memory_equal(got, bytes, sizeof got);
    assert_done(cellar_device_close(device));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_parts_smaller_than_a_block),
        cmocka_unit_test(test_own),
        cmocka_unit_test(test_without),
        cmocka_unit_test(test_not_supported),
        cmocka_unit_test_setup_teardown(test_files, support_folder_setup, support_folder_teardown),
        cmocka_unit_test_setup_teardown(test_last_block_of_direct, support_folder_setup, support_folder_teardown),
        cmocka_unit_test(test_wrapper),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
