/* Pages that are brought in or written ahead of need: which calls are made of the system for that, what their failures
 * mean, and that no byte changes. */
#include "support.h"

#include "device/file.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { PAGE = 4096, PAGES = 64, SIZE = PAGES * PAGE, POPULATE_WRITE = 23 };

/* ---- what comes past ---- */

struct call {
    void *address;
    size_t length_bytes;
    int number; /* of the advice, of the flags */
    int count;
};

static struct call advised, synced, mapped, unmapped;
static int mapped_fd;
static off_t mapped_offset;
static int advise_error, sync_error, map_error; /* of the next */

static void note(struct call *call, void *address, size_t length_bytes, int number)
{
    *call = (struct call){.address = address, .length_bytes = length_bytes, .number = number, .count = call->count + 1};
}

/* -1, with errno, where the next call is to fail. */
static int meets(int *error)
{
    int failed = *error;

    *error = 0;
    errno = failed;
    return failed != 0 ? -1 : 0;
}

int __real_madvise(void *address, size_t length_bytes, int advice);
int __wrap_madvise(void *address, size_t length_bytes, int advice);
int __real_msync(void *address, size_t length_bytes, int flags);
int __wrap_msync(void *address, size_t length_bytes, int flags);
int __real_munmap(void *address, size_t length_bytes);
int __wrap_munmap(void *address, size_t length_bytes);
void *__real_mmap64(void *address, size_t length_bytes, int protection, int flags, int fd, off_t offset);
void *__wrap_mmap64(void *address, size_t length_bytes, int protection, int flags, int fd, off_t offset);

int __wrap_madvise(void *address, size_t length_bytes, int advice)
{
    note(&advised, address, length_bytes, advice);
    return meets(&advise_error) != 0 ? -1 : __real_madvise(address, length_bytes, advice);
}

int __wrap_msync(void *address, size_t length_bytes, int flags)
{
    note(&synced, address, length_bytes, flags);
    return meets(&sync_error) != 0 ? -1 : __real_msync(address, length_bytes, flags);
}

int __wrap_munmap(void *address, size_t length_bytes)
{
    note(&unmapped, address, length_bytes, 0);
    return __real_munmap(address, length_bytes);
}

void *__wrap_mmap64(void *address, size_t length_bytes, int protection, int flags, int fd, off_t offset)
{
    void *pages =
        meets(&map_error) != 0 ? MAP_FAILED : __real_mmap64(address, length_bytes, protection, flags, fd, offset);

    note(&mapped, pages, length_bytes, flags);
    mapped_fd = fd;
    mapped_offset = offset;
    return pages;
}

static void forget_calls(void)
{
    advised = synced = mapped = unmapped = (struct call){.count = 0};
}

/* ---- files ---- */

static bool kernel_populates(void)
{
    void *page = __real_mmap64(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    bool result = page != MAP_FAILED && __real_madvise(page, PAGE, POPULATE_WRITE) == 0;

    __real_munmap(page, PAGE);
    return result;
}

/* A file of bytes, none of whose pages is zero, with its window. */
static struct cellar_device *open_file(char *folder, unsigned char **ret_window)
{
    struct cellar_device *device = support_device_open(SUPPORT_DEVICE_FILE, folder, "file", SIZE, SIZE);
    static unsigned char bytes[SIZE];
    uint64_t window_bytes;
    void *window;

    if (sysconf(_SC_PAGESIZE) != PAGE || !kernel_populates())
        support_skip("pages of 4096 bytes that the kernel can populate are needed");
    support_bytes(9, bytes, sizeof bytes);
    assert_done(support_device_write(device, bytes, sizeof bytes, 0));
    assert_done(cellar_device_window(device, SIZE, true, &window, &window_bytes));
    assert_int_equal(window_bytes, SIZE);
    *ret_window = window;
    return device;
}

static void assert_unchanged(const unsigned char *window)
{
    static unsigned char bytes[SIZE];

    support_bytes(9, bytes, sizeof bytes);
    assert_memory_equal(window, bytes, SIZE);
}

/* ---- populate ---- */

static void test_populates(void **state)
{
    static const struct {
        uint64_t offset, length_bytes;
        bool done;
    } rows[] = {
        {0, PAGE, true},
        {3 * PAGE, 5 * PAGE, true},
        {SIZE - PAGE, PAGE, true},
        {0, SIZE, true},
        {SIZE - PAGE, 2 * PAGE, false},
        {SIZE + PAGE, PAGE, false},
        {2 * PAGE, UINT64_MAX - PAGE + 1, false}, /* whose sum is small */
        {UINT64_MAX - PAGE + 1, 2 * PAGE, false},
    };
    unsigned char *window;
    struct cellar_device *device = open_file(*state, &window);

    for (size_t i = 0; i < SUPPORT_COUNT(rows); i++) {
        forget_calls();
        assert_result(cellar_file_populate(device, rows[i].offset, rows[i].length_bytes), rows[i].done ? 0 : -ENOTSUP);
        assert_int_equal(advised.count, rows[i].done ? 1 : 0);
        if (!rows[i].done)
            continue;
        assert_ptr_equal(advised.address, window + rows[i].offset);
        assert_int_equal(advised.length_bytes, rows[i].length_bytes);
        assert_int_equal(advised.number, POPULATE_WRITE);
    }
    assert_unchanged(window);
    assert_done(cellar_device_close(device));
}

/* Older kernels don't know how; what else is wrong is told. */
static void test_populate_fails(void **state)
{
    static const struct {
        int error, result;
    } rows[] = {{EINVAL, -ENOTSUP}, {EFAULT, -EFAULT}, {ENOMEM, -ENOMEM}};
    unsigned char *window;
    struct cellar_device *device = open_file(*state, &window);

    for (size_t i = 0; i < SUPPORT_COUNT(rows); i++) {
        advise_error = rows[i].error;
        assert_result(cellar_file_populate(device, 0, PAGE), rows[i].result);
    }
    assert_done(cellar_device_close(device));
}

/* Where there is no file, or no window. */
static void test_neither(void **state)
{
    struct cellar_device *device = support_device_open(SUPPORT_DEVICE_MEMORY, *state, "none", SIZE, SIZE);
    int fd = -1;

    assert_result(cellar_file_populate(device, 0, PAGE), -ENOTSUP);
    assert_result(cellar_file_write_out(device, &fd, 0, PAGE), -ENOTSUP);
    assert_int_equal(fd, -1);
    assert_done(cellar_device_close(device));
    device = support_device_open(SUPPORT_DEVICE_FILE, *state, "file", SIZE, SIZE);
    assert_result(cellar_file_populate(device, 0, 0), -ENOTSUP);
    assert_done(cellar_device_close(device));
}

/* ---- write out ---- */

/* Through a mapping of its own, of a description of its own, that stands for the next time. */
static void test_writes_out(void **state)
{
    unsigned char *window;
    struct cellar_device *device = open_file(*state, &window);
    int fd = -1, first_fd;

    forget_calls();
    assert_done(cellar_file_write_out(device, &fd, 8 * PAGE, 4 * PAGE));
    assert_true(fd >= 0 && fd != cellar_file_of(device)->fd);
    assert_int_equal(mapped_fd, fd);
    assert_int_equal(mapped_offset, 8 * PAGE);
    assert_int_equal(mapped.number, MAP_SHARED);
    assert_ptr_not_equal(mapped.address, window + 8 * PAGE);
    assert_ptr_equal(advised.address, mapped.address);
    assert_int_equal(advised.number, POPULATE_WRITE);
    assert_ptr_equal(synced.address, mapped.address);
    assert_int_equal(synced.number, MS_SYNC);
    assert_ptr_equal(unmapped.address, mapped.address);
    assert_int_equal(mapped.length_bytes, 4 * PAGE);
    assert_int_equal(advised.length_bytes, 4 * PAGE);
    assert_int_equal(synced.length_bytes, 4 * PAGE);
    assert_int_equal(unmapped.length_bytes, 4 * PAGE);
    first_fd = fd;
    assert_done(cellar_file_write_out(device, &fd, 0, PAGE));
    assert_int_equal(fd, first_fd);
    assert_int_equal(unmapped.count, 2);
    assert_unchanged(window);
    close(fd);
    assert_done(cellar_device_close(device));
}

/* A sync that fails is no matter of space: cells may lie in those pages by now. */
static void test_sync_fails(void **state)
{
    static const struct {
        int error, result;
    } rows[] = {{EIO, -EIO}, {ENOSPC, -EIO}, {EDQUOT, -EIO}, {ENOMEM, -EIO}, {EFBIG, -EIO}, {EREMOTEIO, -EREMOTEIO}};
    unsigned char *window;
    struct cellar_device *device = open_file(*state, &window);
    int fd = -1;

    for (size_t i = 0; i < SUPPORT_COUNT(rows); i++) {
        forget_calls();
        sync_error = rows[i].error;
        assert_result(cellar_file_write_out(device, &fd, 0, PAGE), rows[i].result);
        assert_ptr_equal(unmapped.address, mapped.address);
    }
    close(fd);
    assert_done(cellar_device_close(device));
}

/* Whatever fails before pages were touched is nobody's loss. */
static void test_nothing_was_written(void **state)
{
    static const int errors[] = {EINVAL, EFAULT, ENOMEM};
    unsigned char *window;
    struct cellar_device *device = open_file(*state, &window);
    int fd = -1;

    for (size_t i = 0; i < SUPPORT_COUNT(errors); i++) {
        forget_calls();
        advise_error = errors[i];
        assert_result(cellar_file_write_out(device, &fd, 0, PAGE), -ENOTSUP);
        assert_int_equal(synced.count, 0);
        assert_ptr_equal(unmapped.address, mapped.address);
        map_error = errors[i];
        assert_result(cellar_file_write_out(device, &fd, 0, PAGE), -ENOTSUP);
        assert_int_equal(advised.count, 1);
        assert_int_equal(unmapped.count, 1);
    }
    close(fd);
    assert_done(cellar_device_close(device));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_populates, support_folder_setup, support_folder_teardown),
        cmocka_unit_test_setup_teardown(test_populate_fails, support_folder_setup, support_folder_teardown),
        cmocka_unit_test_setup_teardown(test_neither, support_folder_setup, support_folder_teardown),
        cmocka_unit_test_setup_teardown(test_writes_out, support_folder_setup, support_folder_teardown),
        cmocka_unit_test_setup_teardown(test_sync_fails, support_folder_setup, support_folder_teardown),
        cmocka_unit_test_setup_teardown(test_nothing_was_written, support_folder_setup, support_folder_teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
