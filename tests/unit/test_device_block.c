/*
 * Block devices of the system. Where this machine gives no loop device (that takes root, and /dev/loop-control), the
 * tests that need one are skipped.
 */
#include "support.h"

#include <cellar/store.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/loop.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

enum { DISK_BYTES = 4 << 20 };

struct disk {
    char *folder;
    char path[32]; /* /dev/loopN */
    int loop;      /* -1: there is none; the device lets go of its file when this and the last user have closed it */
};

/* ---- loop devices ---- */

/* Binds a free loop device to a file of zeros. False: this machine has none for us. */
static bool bind_loop(struct disk *disk, unsigned sector_bytes)
{
    struct loop_config config = {.block_size = sector_bytes, .info.lo_flags = LO_FLAGS_AUTOCLEAR};
    int control = open("/dev/loop-control", O_RDWR | O_CLOEXEC);
    int file = open(support_path(disk->folder, "disk"), O_RDWR | O_CREAT | O_CLOEXEC, 0600);

    assert_true(file >= 0);
    assert_int_equal(ftruncate(file, DISK_BYTES), 0);
    config.fd = (unsigned)file;
    for (int attempt = 0; control >= 0 && disk->loop < 0 && attempt < 20; attempt++) {
        int number = ioctl(control, LOOP_CTL_GET_FREE);

        if (number < 0)
            break;
        snprintf(disk->path, sizeof disk->path, "/dev/loop%d", number);
        disk->loop = open(disk->path, O_RDWR | O_CLOEXEC);
        if (disk->loop >= 0 && ioctl(disk->loop, LOOP_CONFIGURE, &config) != 0) { /* somebody else was faster, or it is
                                                                                       not for us */
            close(disk->loop);
            disk->loop = -1;
        }
    }
    if (control >= 0)
        close(control);
    close(file);
    return disk->loop >= 0;
}

static int setup(void **state)
{
    struct disk *disk = calloc(1, sizeof *disk);

    assert_non_null(disk);
    disk->folder = support_folder_make();
    disk->loop = -1;
    *state = disk;
    return 0;
}

static int teardown(void **state)
{
    struct disk *disk = *state;

    if (disk->loop >= 0)
        close(disk->loop); /* autoclear: with the last descriptor of the device */
    support_folder_remove(disk->folder);
    free(disk);
    return 0;
}

static struct disk *need_loop(void **state, unsigned sector_bytes)
{
    struct disk *disk = *state;

    if (!bind_loop(disk, sector_bytes))
        support_skip("this machine gives no loop device");
    return disk;
}

static uint64_t size_of(struct cellar_device *device)
{
    uint64_t size_bytes = 0;

    assert_done(cellar_device_size(device, &size_bytes));
    return size_bytes;
}

/* ---- the device ---- */

static void test_no_block_devices(void **state)
{
    struct disk *disk = *state;
    const char *path = support_path(disk->folder, "file");
    struct cellar_device *device = NULL;

    support_file_write(path, "file", 4);
    assert_result(cellar_device_open_block(path, CELLAR_OPEN_WRITE, &device), -ENOTBLK);
    assert_result(cellar_device_open_block(path, CELLAR_OPEN_READ | CELLAR_OPEN_DIRECT, &device), -ENOTBLK);
    assert_result(cellar_device_open_block(disk->folder, CELLAR_OPEN_READ, &device), -ENOTBLK);
    assert_result(cellar_device_open_block("/dev/null", CELLAR_OPEN_READ, &device), -ENOTBLK);
    assert_result(cellar_device_open_block(support_path(disk->folder, "none"), CELLAR_OPEN_READ, &device), -ENOENT);
    assert_result(cellar_device_open_block(path, CELLAR_OPEN_WRITE | CELLAR_OPEN_CREATE, &device), -EINVAL);
    assert_result(cellar_device_open_block(path, CELLAR_OPEN_RANDOM << 1, &device), -EINVAL);
    assert_null(device);
}

static void check_device(struct disk *disk, int flags, uint32_t block_bytes)
{
    static unsigned char bytes[8192], got[8192];
    struct cellar_device *device, *reader;
    uint32_t align = 0;

    support_bytes(block_bytes + (unsigned)flags, bytes, sizeof bytes);
    assert_done(cellar_device_open_block(disk->path, CELLAR_OPEN_WRITE | flags, &device));
    assert_done(cellar_device_open_block(disk->path, CELLAR_OPEN_READ | flags, &reader));
    assert_int_equal(cellar_device_block_bytes(device), block_bytes);
    assert_string_equal(cellar_device_name(device), flags != 0 ? "block direct" : "block");
    assert_false(cellar_device_writable(reader));
    assert_int_equal(size_of(device), DISK_BYTES);
    assert_done(support_device_write(device, bytes, sizeof bytes, 0));
    assert_done(support_device_write(device, bytes, sizeof bytes, DISK_BYTES - sizeof bytes));
    assert_done(
        cellar_device_write_durable(device, &(struct iovec){.iov_base = bytes, .iov_len = 4096}, 1, 4 * sizeof bytes));
    assert_result(support_device_write(device, bytes, sizeof bytes, DISK_BYTES - 4096), CELLAR_EBOUNDS);
    assert_result(support_device_write(reader, bytes, sizeof bytes, 0), -EROFS);
    assert_done(cellar_device_sync(device, 0, DISK_BYTES));
    assert_done(cellar_device_read(device, got, sizeof got, DISK_BYTES - sizeof got));
    assert_memory_equal(got, bytes, sizeof bytes);
    assert_done(cellar_device_read(reader, got, 4096, 4 * sizeof bytes));
    assert_memory_equal(got, bytes, 4096);
    assert_result(cellar_device_read(reader, got, sizeof got, DISK_BYTES - 4096), CELLAR_EBOUNDS);
    assert_done(cellar_device_grow(device, 0, DISK_BYTES));
    assert_result(cellar_device_grow(device, 0, DISK_BYTES + 1), -ENOSPC);
    assert_result(cellar_device_trim(device, 4096), -ENOTSUP);
    assert_true(cellar_device_descriptor(device, &align) >= 0);
    assert_true(align == 1 || flags != 0);
    assert_int_equal(pread(cellar_device_descriptor(reader, &align), got, 0, 0), 0);
    assert_done(cellar_device_lock(device, CELLAR_LOCK_WRITER)); /* with the lock that all files have */
    assert_done(cellar_device_close(reader));
    assert_done(cellar_device_open_block(disk->path, CELLAR_OPEN_WRITE, &reader));
    assert_result(cellar_device_lock(reader, CELLAR_LOCK_WRITER), CELLAR_EBUSY);
    assert_done(cellar_device_unlock(device, CELLAR_LOCK_WRITER));
    assert_done(cellar_device_lock(reader, CELLAR_LOCK_WRITER));
    assert_done(cellar_device_close(reader));
    assert_done(cellar_device_lock(device, CELLAR_LOCK_WRITER));
    assert_done(cellar_device_close(device));
}

static void test_device(void **state)
{
    struct disk *disk = need_loop(state, 512);

    check_device(disk, 0, 1);
    check_device(disk, CELLAR_OPEN_DIRECT, 512);
}

static void test_large_sectors(void **state)
{
    struct disk *disk = need_loop(state, 4096);

    check_device(disk, 0, 1);
    check_device(disk, CELLAR_OPEN_DIRECT, 4096);
}

/* What the system has taken for itself is not opened for writing. */
static void test_mounted(void **state)
{
    struct disk *disk = need_loop(state, 512);
    struct cellar_device *device;
    int taken = open(disk->path, O_RDONLY | O_EXCL | O_CLOEXEC); /* as a mount does */

    assert_true(taken >= 0);
    assert_result(cellar_device_open_block(disk->path, CELLAR_OPEN_WRITE, &device), -EBUSY);
    assert_result(cellar_device_open_block(disk->path, CELLAR_OPEN_WRITE | CELLAR_OPEN_DIRECT, &device), -EBUSY);
    assert_done(cellar_device_open_block(disk->path, CELLAR_OPEN_READ, &device));
    assert_done(cellar_device_close(device));
    close(taken);
    assert_done(cellar_device_open_block(disk->path, CELLAR_OPEN_WRITE, &device));
    assert_done(cellar_device_close(device));
}

/* ---- a store on it ---- */

static void check_store(struct disk *disk, int flags)
{
    struct cellar_config config = {.bytes_per_cell = 100, .max_index = 1 << 20, .version = 1};
    struct cellar_diagnostic diagnostic;
    struct cellar_writer_options options = {.diagnostic = &diagnostic};
    struct cellar_device *device, *other;
    struct cellar_snapshot snapshot;
    struct cellar_writer *writer, *second;
    struct cellar_reader *reader;
    unsigned char value[20000], got[20000];
    uint32_t index;
    size_t got_bytes;

    support_bytes(5, value, sizeof value);
    assert_done(cellar_device_open_block(disk->path, CELLAR_OPEN_WRITE | flags, &device));
    assert_done(cellar_device_open_block(disk->path, CELLAR_OPEN_WRITE, &other));
    assert_done(cellar_writer_create_on(device, &config, &options, &writer));
    assert_result(cellar_writer_open_on(other, &options, &second), CELLAR_EBUSY);
    assert_done(cellar_writer_write_value(writer, value, sizeof value, &index));
    assert_done(cellar_writer_set_root(writer, index));
    assert_done(cellar_writer_flush(writer));
    cellar_writer_abandon(writer);
    assert_result(cellar_writer_create_on(device, &config, &options, &writer), -EEXIST);
    assert_done(cellar_reader_open_on(other, NULL, &reader));
    snapshot = cellar_reader_snapshot(reader);
    assert_done(cellar_snapshot_read_value(&snapshot, snapshot.root_index, got, sizeof got, &got_bytes));
    assert_int_equal(got_bytes, sizeof value);
    assert_memory_equal(got, value, sizeof value);
    cellar_reader_close(reader);
    assert_done(cellar_writer_open_on(device, &options, &writer));
    while (cellar_writer_write_value(writer, value, sizeof value, &index) == 0)
        continue; /* until the device is full */
    assert_true(cellar_writer_next(writer) > (DISK_BYTES - 21000) / 100);
    assert_result(cellar_writer_write_value(writer, value, sizeof value, &index), -ENOSPC);
    assert_done(cellar_writer_close(writer));
    assert_done(cellar_writer_open_on(other, &options, &writer)); /* by the page cache what was written past it */
    assert_int_equal(cellar_writer_root(writer), snapshot.root_index);
    assert_done(cellar_writer_close(writer));
    assert_done(cellar_device_close(other));
    assert_done(cellar_device_close(device));
    assert_result(cellar_writer_open(disk->path, &options, &writer), -EINVAL);
    assert_non_null(strstr(diagnostic.message, "cellar_device_open_block"));
    assert_result(cellar_reader_open(disk->path, &(struct cellar_reader_options){.diagnostic = &diagnostic}, &reader),
                  -EINVAL);
    assert_non_null(strstr(diagnostic.message, "cellar_device_open_block"));
    assert_result(cellar_writer_create(disk->path, &config, &options, &writer), -EEXIST);
}

static void test_store(void **state)
{
    check_store(need_loop(state, 512), 0);
}

static void test_store_direct(void **state)
{
    check_store(need_loop(state, 512), CELLAR_OPEN_DIRECT);
}

static void test_store_direct_large_sectors(void **state)
{
    check_store(need_loop(state, 4096), CELLAR_OPEN_DIRECT);
}

#define BLOCK_TEST(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        BLOCK_TEST(test_no_block_devices),
        BLOCK_TEST(test_device),
        BLOCK_TEST(test_large_sectors),
        BLOCK_TEST(test_mounted),
        BLOCK_TEST(test_store),
        BLOCK_TEST(test_store_direct),
        BLOCK_TEST(test_store_direct_large_sectors),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
