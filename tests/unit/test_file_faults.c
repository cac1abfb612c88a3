/* Files under a system whose calls fail. */
#include "system_fault.h"

#include "device/file.h"

#include <stdlib.h>

static char *path; /* of the running test's file */

static int setup(void **state)
{
    support_folder_setup(state);
    path = support_path(*state, "file");
    system_heal();
    return 0;
}

static int teardown(void **state)
{
    system_heal();
    return support_folder_teardown(state);
}

/* A device of 10000 bytes 'o'. */
static struct cellar_device *open_filled(bool mapped)
{
    static unsigned char bytes[10000];
    struct cellar_device *device;

    memset(bytes, 'o', sizeof bytes);
    support_file_write(path, bytes, sizeof bytes);
    assert_done(cellar_file_open(path, CELLAR_OPEN_WRITE, 0, mapped ? CELLAR_FILE_MAPPED : CELLAR_FILE_PREAD, &device));
    return device;
}

static void make_window(struct cellar_device *device)
{
    uint64_t capacity_bytes;
    void *base;

    assert_done(cellar_device_window(device, 1 << 20, true, &base, &capacity_bytes));
}

static void assert_byte(struct cellar_device *device, uint64_t offset, char expected)
{
    char byte;

    assert_done(cellar_device_read(device, &byte, 1, offset));
    assert_int_equal(byte, expected);
}

static void test_open(void **state)
{
    struct cellar_device *device = NULL;
    int next_fd = dup(0), same_fd;

    (void)state;
    close(next_fd);
    support_file_write(path, "x", 1);
    system_fail(SYSTEM_FSTAT, 1, 1, EIO);
    assert_result(cellar_device_open_file(path, CELLAR_OPEN_READ, 0, &device), -EIO);
    system_fail(SYSTEM_OPEN, 1, 1, EMFILE);
    assert_result(cellar_device_open_file(path, CELLAR_OPEN_READ, 0, &device), -EMFILE);
    assert_null(device);
    same_fd = dup(0);
    assert_int_equal(same_fd, next_fd); /* the descriptor is not left open */
    close(same_fd);
}

static void test_size(void **state)
{
    struct cellar_device *device = open_filled(true);
    uint64_t size_bytes = 5;
    void *base;
    const void *lent;

    (void)state;
    system_fail(SYSTEM_FSTAT, 1, 5, EIO);
    assert_result(cellar_device_size(device, &size_bytes), -EIO);
    assert_int_equal(size_bytes, 5);
    assert_result(support_device_write(device, "x", 1, 0), -EIO);
    assert_result(cellar_device_load(device, 0, 1, &lent), -EIO);
    assert_result(cellar_device_grow(device, 0, 20000), -EIO);
    assert_result(cellar_device_window(device, 20000, true, &base, &size_bytes), -EIO);
    assert_done(cellar_device_size(device, &size_bytes));
    assert_int_equal(size_bytes, 10000);
    assert_byte(device, 0, 'o');
    assert_done(cellar_device_close(device));
}

static void test_transfers(void **state)
{
    struct cellar_device *device = open_filled(false);
    char buffer[4];

    (void)state;
    system_fail(SYSTEM_PREAD, 1, 3, EINTR);
    assert_done(cellar_device_read(device, buffer, 4, 0));
    assert_int_equal(cellar_device_counters(device).retries, 3);
    system_fail(SYSTEM_PREAD, 1, 1, EIO);
    assert_result(cellar_device_read(device, buffer, 4, 0), -EIO);
    system_fail(SYSTEM_PWRITEV, 1, 2, EINTR);
    assert_done(support_device_write(device, "abcd", 4, 6));
    assert_int_equal(cellar_device_counters(device).retries, 5);
    assert_byte(device, 9, 'd');
    system_fail(SYSTEM_PWRITEV, 1, 1, ENOSPC);
    assert_result(support_device_write(device, "efgh", 4, 6), -ENOSPC);
    assert_byte(device, 9, 'd');
    assert_done(cellar_device_close(device));
}

/* A sync that failed is asked for once: a second one would say that all is well. */
static void test_sync_is_not_tried_again(void **state)
{
    struct cellar_device *device = open_filled(true);

    (void)state;
    system_fail(SYSTEM_FDATASYNC, 1, 1, EIO);
    assert_result(cellar_device_sync(device, 0, 1), -EIO);
    assert_int_equal(system_calls(SYSTEM_FDATASYNC), 1);
    make_window(device);
    system_fail(SYSTEM_MSYNC, 1, 1, EIO);
    assert_result(cellar_device_sync(device, 5000, 1), -EIO);
    assert_int_equal(system_calls(SYSTEM_MSYNC), 1);
    assert_int_equal(system_calls(SYSTEM_FDATASYNC), 1);
    assert_done(cellar_device_sync(device, 5000, 1));
    assert_done(cellar_device_close(device));
}

/* Where fallocate is interrupted it is asked again. */
static void test_grow_is_interrupted(void **state)
{
    struct cellar_device *device = open_filled(true);

    (void)state;
    system_fail(SYSTEM_FALLOCATE, 1, 3, EINTR);
    assert_done(cellar_device_grow(device, 10000, 30000));
    assert_int_equal(system_calls(SYSTEM_FALLOCATE), 4);
    system_fail(SYSTEM_FTRUNCATE, 1, 1, EINTR);
    assert_done(cellar_device_grow(device, 30000, 40000));
    assert_int_equal(support_file_size(path), 40000);
    assert_done(cellar_device_close(device));
}

/* Where there is no fallocate, zeros are written, and everything from allocate_from on is really there. */
/* A length that was found is nobody's promise: it is synced once, before cells in it are used. */
static void test_grow_within_a_length_that_was_found(void **state)
{
    static const struct {
        uint64_t size_bytes;
        bool trims;
        int syncs;
    } steps[] = {{20000, false, 1}, {20000, false, 0}, {15000, false, 0}, {40000, false, 0}, {30000, false, 0},
                 {50000, false, 0}, {60000, false, 1}, {10000, true, 0},  {10000, false, 0}, {50000, false, 1}};

    (void)state;
    for (int mapped = 0; mapped < 2; mapped++) {
        struct cellar_device *device = NULL;
        void *base;
        uint64_t capacity_bytes;

        support_file_write(path, "cells", 5);
        assert_int_equal(truncate(path, 50000), 0);
        assert_done(mapped ? cellar_device_open_file(path, CELLAR_OPEN_WRITE, 0, &device)
                           : cellar_device_open_pread(path, CELLAR_OPEN_WRITE, 0, &device));
        if (mapped && cellar_device_window(device, 1 << 20, true, &base, &capacity_bytes) != 0)
            support_skip("no window here");
        for (size_t i = 0; i < SUPPORT_COUNT(steps); i++) {
            system_heal();
            assert_done(steps[i].trims ? cellar_device_trim(device, steps[i].size_bytes)
                                       : cellar_device_grow(device, 5, steps[i].size_bytes));
            assert_int_equal(system_calls(mapped ? SYSTEM_MSYNC : SYSTEM_FSYNC), steps[i].syncs);
        }
        cellar_device_close(device);
    }
}

static void test_grow_without_fallocate(void **state)
{
    static const int reasons[] = {EOPNOTSUPP, ENOSYS};

    (void)state;
    for (size_t i = 0; i < SUPPORT_COUNT(reasons); i++) {
        struct cellar_device *device = open_filled(true);
        struct stat status;

        system_fail(SYSTEM_FALLOCATE, 1, 1, reasons[i]);
        system_fail(SYSTEM_PWRITEV, 1, 1, EINTR);
        assert_done(cellar_device_grow(device, 9000, 1000001));
        assert_int_equal(stat(path, &status), 0);
        assert_int_equal(status.st_size, 1000001);
        assert_true((uint64_t)status.st_blocks * 512 >= 1000001);
        assert_byte(device, 0, 'o');
        assert_byte(device, 8999, 'o');
        assert_byte(device, 10000, 0);
        assert_byte(device, 1000000, 0);
        assert_done(cellar_device_close(device));
    }
}

/* Growing that fails at any step leaves the size, and the bytes, as they were. */
static void test_grow_fails(void **state)
{
    static const struct {
        enum system_call call;
        int nth, error, expected;
        bool no_fallocate, window;
    } rows[] = {
        {SYSTEM_FALLOCATE, 1, ENOSPC, ENOSPC, false, false},
        {SYSTEM_FALLOCATE, 1, EIO, EIO, false, true},
        {SYSTEM_FTRUNCATE, 1, EPERM, EPERM, false, false},
        {SYSTEM_FTRUNCATE, 1, EFBIG, EFBIG, true, false},
        {SYSTEM_PWRITEV, 2, ENOSPC, ENOSPC, true, false},
        {SYSTEM_PWRITE, 1, EDQUOT, EDQUOT, true, true},
        {SYSTEM_FSYNC, 1, EIO, EIO, false, false},
        {SYSTEM_FSYNC, 1, EROFS, EROFS, true, false},
        {SYSTEM_MSYNC, 1, EIO, EIO, false, true},
        /* A sync may speak of bytes written before: that is more than a growth that did not happen. */
        {SYSTEM_FSYNC, 1, ENOSPC, EIO, false, false},
        {SYSTEM_FSYNC, 1, EDQUOT, EIO, false, false},
        {SYSTEM_FSYNC, 1, EFBIG, EIO, true, false},
        {SYSTEM_MSYNC, 1, ENOSPC, EIO, false, true},
        {SYSTEM_MSYNC, 1, ENOMEM, EIO, true, true},
    };

    (void)state;
    for (size_t i = 0; i < SUPPORT_COUNT(rows); i++) {
        struct cellar_device *device = open_filled(true);

        if (rows[i].window)
            make_window(device);
        if (rows[i].no_fallocate)
            system_fail(SYSTEM_FALLOCATE, 1, 1, EOPNOTSUPP);
        system_fail(rows[i].call, rows[i].nth, 1, rows[i].error);
        assert_result(cellar_device_grow(device, 10000, 200001), -rows[i].expected);
        assert_int_equal(support_file_size(path), 10000);
        assert_byte(device, 0, 'o');
        assert_byte(device, 9999, 'o');
        system_heal();
        assert_done(cellar_device_grow(device, 10000, 200001));
        assert_byte(device, 200000, 0);
        assert_done(cellar_device_close(device));
    }
}

/* The way back may fail, too; the first error is the one to know. */
static void test_grow_fails_twice(void **state)
{
    struct cellar_device *device = open_filled(true);

    (void)state;
    system_fail(SYSTEM_FSYNC, 1, 1, EIO);
    system_fail(SYSTEM_FTRUNCATE, 2, 1, ENOSPC);
    assert_result(cellar_device_grow(device, 10000, 20000), -EIO);
    assert_byte(device, 9999, 'o');
    assert_done(cellar_device_close(device));
}

static void test_trim_fails(void **state)
{
    struct cellar_device *device = open_filled(true);

    (void)state;
    system_fail(SYSTEM_FTRUNCATE, 1, 1, EIO);
    assert_result(cellar_device_trim(device, 1), -EIO);
    assert_int_equal(support_file_size(path), 10000);
    assert_done(cellar_device_close(device));
}

/* Holes are filled without a byte or the size changing; where there are none, nothing is asked for. */
static void test_fill_holes(void **state)
{
    struct cellar_device *device = open_filled(true);
    struct stat status;

    (void)state;
    assert_done(cellar_file_fill_holes(device, 0, UINT64_MAX));
    assert_int_equal(system_calls(SYSTEM_FALLOCATE), 0);
    assert_int_equal(truncate(path, 70 << 20), 0);
    system_fail(SYSTEM_FSTAT, 1, 1, EIO);
    assert_result(cellar_file_fill_holes(device, 0, UINT64_MAX), -EIO);
    system_fail(SYSTEM_FALLOCATE, 2, 1, ENOSPC);
    assert_result(cellar_file_fill_holes(device, 0, UINT64_MAX), -ENOSPC);
    system_fail(SYSTEM_FALLOCATE, 1, 2, EINTR);
    assert_done(cellar_file_fill_holes(device, 0, UINT64_MAX));
    assert_int_equal(stat(path, &status), 0);
    assert_int_equal(status.st_size, 70 << 20);
    assert_true((uint64_t)status.st_blocks * 512 >= 70 << 20);
    assert_byte(device, 0, 'o');
    assert_byte(device, 9999, 'o');
    assert_byte(device, 10000, 0);
    assert_done(cellar_device_close(device));
}

static void test_locks_fail(void **state)
{
    struct cellar_device *device = open_filled(true);

    (void)state;
    system_fail(SYSTEM_FCNTL, 1, 1, ENOLCK);
    assert_result(cellar_device_lock(device, CELLAR_LOCK_WRITER), -ENOLCK);
    system_fail(SYSTEM_FCNTL, 1, 1, EACCES);
    assert_result(cellar_device_lock(device, CELLAR_LOCK_WRITER), CELLAR_EBUSY);
    system_fail(SYSTEM_FCNTL, 1, 2, EINTR);
    assert_done(cellar_device_lock(device, CELLAR_LOCK_HEADER_EXCLUSIVE));
    system_fail(SYSTEM_FCNTL, 1, 1, ENOLCK);
    assert_result(cellar_device_unlock(device, CELLAR_LOCK_HEADER_EXCLUSIVE), -ENOLCK);
    assert_done(cellar_device_unlock(device, CELLAR_LOCK_HEADER_EXCLUSIVE));
    assert_done(cellar_device_close(device));
    /* The lock's own open: by the descriptor, else by the path, else not at all. */
    device = open_filled(true);
    system_fail(SYSTEM_OPEN, 1, 2, EMFILE);
    assert_result(cellar_device_lock(device, CELLAR_LOCK_WRITER), -EMFILE);
    system_fail(SYSTEM_FSTAT, 1, 2, EIO);
    assert_result(cellar_device_lock(device, CELLAR_LOCK_WRITER), -EIO);
    system_fail(SYSTEM_FSTAT, 2, 1, EIO);
    assert_result(cellar_device_lock(device, CELLAR_LOCK_WRITER), -EIO);
    system_fail(SYSTEM_OPEN, 1, 1, ENOENT);
    assert_done(cellar_device_lock(device, CELLAR_LOCK_WRITER));
    assert_done(cellar_device_close(device));
}

/* Without /proc the lock's description comes by the path, which may name another file by then, or none. */
static void test_lock_without_proc(void **state)
{
    const char *moved = support_path(*state, "moved");
    struct cellar_device *device = open_filled(true);
    int next_fd = dup(0), same_fd;

    close(next_fd);
    assert_int_equal(rename(path, moved), 0);
    system_fail(SYSTEM_OPEN, 1, 1, ENOENT);
    assert_result(cellar_device_lock(device, CELLAR_LOCK_WRITER), -ESTALE);
    support_file_write(path, "another", 7);
    system_fail(SYSTEM_OPEN, 1, 1, ENOENT);
    assert_result(cellar_device_lock(device, CELLAR_LOCK_WRITER), -ESTALE);
    same_fd = dup(0);
    assert_int_equal(same_fd, next_fd); /* nothing of it is left open */
    close(same_fd);
    assert_done(cellar_device_unlock(device, CELLAR_LOCK_WRITER)); /* nothing is held, nothing is wrong */
    assert_done(cellar_device_lock(device, CELLAR_LOCK_WRITER));
    assert_done(cellar_device_close(device));
}

static void test_close_fails(void **state)
{
    struct cellar_device *device = open_filled(true);

    (void)state;
    system_fail(SYSTEM_CLOSE, 1, 1, EIO);
    assert_result(cellar_device_close(device), -EIO);
    device = open_filled(true);
    system_fail(SYSTEM_CLOSE, 1, 1, EINTR); /* it is closed all the same */
    assert_done(cellar_device_close(device));
    device = open_filled(true);
    make_window(device);
    system_fail(SYSTEM_MUNMAP, 1, 1, ENOMEM);
    system_fail(SYSTEM_CLOSE, 1, 1, EIO);
    assert_result(cellar_device_close(device), -ENOMEM); /* the first error */
}

/* ---- the window ---- */

static void test_no_window_where_the_file_system_copies(void **state)
{
    static const long kinds[] = {0x9123683e, 0x2fc12fc1, 0xca451a4e, (long)(int32_t)0x9123683e};

    (void)state;
    for (size_t i = 0; i < SUPPORT_COUNT(kinds); i++) {
        struct cellar_device *device = open_filled(true);
        uint64_t capacity_bytes = 7;
        const void *lent;
        void *base = NULL;

        system_kind = kinds[i];
        assert_result(cellar_device_window(device, 1 << 20, true, &base, &capacity_bytes), CELLAR_NONE);
        assert_null(base);
        assert_done(cellar_device_load(device, 9999, 1, &lent)); /* reading by mapping is fine */
        assert_memory_equal(lent, "o", 1);
        cellar_device_release(device, lent, 1);
        system_kind = 0xef53; /* ext4 */
        assert_done(cellar_device_window(device, 1 << 20, true, &base, &capacity_bytes));
        assert_done(cellar_device_close(device));
    }
}

static void test_window_takes_what_fits(void **state)
{
    struct cellar_device *device;
    uint64_t capacity_bytes;
    const void *lent;
    void *base;

    (void)state;
    for (int failures = 0; failures <= 5; failures++) {
        device = open_filled(true);
        system_fail(SYSTEM_MMAP, 1, failures, ENOMEM);
        assert_done(cellar_device_window(device, 1 << 18, true, &base, &capacity_bytes));
        /* Halves, down to the whole pages of the file. */
        assert_int_equal(capacity_bytes, failures <= 4 ? (1 << 18) >> failures : 12288);
        assert_done(cellar_device_close(device));
    }
    device = open_filled(true);
    system_fail(SYSTEM_MMAP, 1, 100, ENOMEM);
    assert_result(cellar_device_window(device, 1 << 18, true, &base, &capacity_bytes), CELLAR_NONE);
    assert_true(system_calls(SYSTEM_MMAP) < 50); /* it gave up when no less would do */
    system_fail(SYSTEM_MMAP, 1, 1, ENODEV);
    assert_result(cellar_device_window(device, 1 << 18, true, &base, &capacity_bytes), CELLAR_NONE);
    system_fail(SYSTEM_MMAP, 1, 100, ENOMEM);
    assert_result(cellar_device_load(device, 0, 10, &lent), -ENOMEM);
    system_fail(SYSTEM_MMAP, 1, 1, ENODEV); /* no mapping for all loads, but one for this */
    assert_done(cellar_device_load(device, 0, 10, &lent));
    cellar_device_release(device, lent, 10);
    assert_done(cellar_device_close(device));
}

int main(void)
{
#define FAULT_TEST(test) cmocka_unit_test_setup_teardown(test, setup, teardown)
    const struct CMUnitTest tests[] = {
        FAULT_TEST(test_open),
        FAULT_TEST(test_size),
        FAULT_TEST(test_transfers),
        FAULT_TEST(test_sync_is_not_tried_again),
        FAULT_TEST(test_grow_within_a_length_that_was_found),
        FAULT_TEST(test_grow_is_interrupted),
        FAULT_TEST(test_grow_without_fallocate),
        FAULT_TEST(test_grow_fails),
        FAULT_TEST(test_grow_fails_twice),
        FAULT_TEST(test_trim_fails),
        FAULT_TEST(test_fill_holes),
        FAULT_TEST(test_locks_fail),
        FAULT_TEST(test_lock_without_proc),
        FAULT_TEST(test_close_fails),
        FAULT_TEST(test_no_window_where_the_file_system_copies),
        FAULT_TEST(test_window_takes_what_fits),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
