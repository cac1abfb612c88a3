/* Since when nothing written to a device has been lost: who can tell, and what makes the number another. */
#include "device_fault.h"
#include "support.h"

#include "base/bytes.h"
#include "base/hash.h"
#include "device/device.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static uint64_t incarnation_by(int (*open_it)(const char *, int, unsigned, struct cellar_device **), const char *path,
                               int flags)
{
    struct cellar_device *device;
    uint64_t number;

    assert_done(open_it(path, flags, 0600, &device));
    assert_done(cellar_device_incarnation(device, &number));
    assert_done(cellar_device_close(device));
    return number;
}

static void test_files(void **state)
{
    char folder[] = "/var/tmp/cellar-XXXXXX", one[64], two[64], linked[64];
    uint64_t number;

    (void)state;
    assert_non_null(mkdtemp(folder));
    snprintf(one, sizeof one, "%s/one", folder);
    snprintf(two, sizeof two, "%s/two", folder);
    snprintf(linked, sizeof linked, "%s/linked", folder);
    number = incarnation_by(cellar_device_open_file, one, CELLAR_OPEN_WRITE | CELLAR_OPEN_CREATE);
    assert_true(number != 0);
    assert_true(incarnation_by(cellar_device_open_file, one, CELLAR_OPEN_READ) == number);
    assert_true(incarnation_by(cellar_device_open_pread, one, CELLAR_OPEN_WRITE) == number);
    assert_int_equal(link(one, linked), 0);
    assert_true(incarnation_by(cellar_device_open_pread, linked, CELLAR_OPEN_READ) == number);
    assert_int_equal(rename(one, two), 0); /* its name has no part in it */
    assert_true(incarnation_by(cellar_device_open_file, two, CELLAR_OPEN_READ) == number);
    assert_int_equal(unlink(two), 0);
    assert_int_equal(unlink(linked), 0);
    for (int i = 0; i < 20; i++) { /* the inode's number is soon another file's: that one is another all the same */
        uint64_t other = incarnation_by(cellar_device_open_file, one, CELLAR_OPEN_WRITE | CELLAR_OPEN_CREATE);

        assert_true(other != number);
        assert_true(other >> 32 == number >> 32); /* the same boot */
        assert_int_equal(unlink(one), 0);
    }
    assert_int_equal(rmdir(folder), 0);
}

/* The number as docs/format.md says, computed once more. */
static void test_boot_mark(void **state)
{
    char path[] = "/var/tmp/cellar-XXXXXX";
    unsigned char known[76] = {0};
    struct statx status;
    FILE *boot_id = fopen("/proc/sys/kernel/random/boot_id", "r");
    int fd = mkstemp(path);
    uint64_t number;

    (void)state;
    assert_true(fd >= 0);
    assert_non_null(boot_id);
    assert_int_equal(fread(known, 1, 36, boot_id), 36);
    fclose(boot_id);
    number = incarnation_by(cellar_device_open_file, path, CELLAR_OPEN_READ);
    assert_int_equal(statx(fd, "", AT_EMPTY_PATH, STATX_BASIC_STATS | STATX_BTIME | STATX_MNT_ID | 0x4000, &status), 0);
    cellar_store_le32(known + 36, status.stx_dev_major);
    cellar_store_le32(known + 40, status.stx_dev_minor);
    cellar_store_le64(known + 44, status.stx_ino);
    cellar_store_le64(known + 52, (uint64_t)status.stx_btime.tv_sec);
    cellar_store_le64(known + 60, status.stx_btime.tv_nsec);
    cellar_store_le64(known + 68, status.stx_mnt_id);
    assert_true(number >> 32 == cellar_hash64(known, 36) >> 32);
    assert_true((uint32_t)number == (uint32_t)cellar_hash64(known, sizeof known));
    close(fd);
    unlink(path);
}

static uint64_t number_of(const struct cellar_device *device)
{
    uint64_t number;

    assert_done(cellar_device_incarnation(device, &number));
    return number;
}

static void test_memory(void **state)
{
    struct cellar_device *one, *two, *bytes;
    uint64_t number;

    (void)state;
    assert_done(cellar_device_open_memory(NULL, 0, 4096, &one));
    assert_done(cellar_device_open_memory(NULL, 0, 4096, &two));
    number = number_of(one);
    assert_true(number != 0);
    assert_true(number == number_of(one));
    assert_true(number != number_of(two));
    assert_done(cellar_device_open_bytes_over(one, &bytes)); /* what stands on it says the same */
    assert_true(number == number_of(bytes));
    assert_done(cellar_device_close(bytes));
    assert_done(cellar_device_close(one));
    assert_done(cellar_device_close(two));
}

static int refuses(void *state, uint64_t *ret_incarnation)
{
    (void)state;
    (void)ret_incarnation;
    return -EIO;
}

static int says_none(void *state, uint64_t *ret_incarnation)
{
    (void)state;
    *ret_incarnation = 0;
    return 0;
}

static int no_size(void *state, uint64_t *ret_size_bytes)
{
    (void)state;
    *ret_size_bytes = 0;
    return 0;
}

static ssize_t no_bytes(void *state, void *buffer, size_t length_bytes, uint64_t offset)
{
    (void)state;
    (void)buffer;
    (void)length_bytes;
    (void)offset;
    return 0;
}

static int no_close(void *state)
{
    (void)state;
    return 0;
}

static void test_devices_that_cannot_tell(void **state)
{
    struct cellar_device_ops ops = {.name = "mute", .size = no_size, .read = no_bytes, .close = no_close};
    int (*const answers[])(void *, uint64_t *) = {NULL, refuses, says_none};

    (void)state;
    for (size_t i = 0; i < SUPPORT_COUNT(answers); i++) {
        struct cellar_device *device;
        uint64_t number = 7;

        ops.incarnation = answers[i];
        assert_done(cellar_device_open(&ops, NULL, &device));
        assert_result(cellar_device_incarnation(device, &number), answers[i] == refuses ? -EIO : 0);
        assert_true(number == (answers[i] == refuses ? 7 : 0));
        assert_done(cellar_device_close(device));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_files),
        cmocka_unit_test(test_boot_mark),
        cmocka_unit_test(test_memory),
        cmocka_unit_test(test_devices_that_cannot_tell),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
