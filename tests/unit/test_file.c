/* Files as devices: what may be opened, what a reader may not, growth to the limits, the window over the end. */
#include "support.h"

#include "device/file.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

typedef int open_function(const char *path, int flags, unsigned mode, struct cellar_device **ret_device);

static open_function *const openers[] = {cellar_device_open_file, cellar_device_open_pread};

static void test_flags(void **state)
{
    struct cellar_device *device = NULL;
    const char *path = support_path(*state, "file");

    support_file_write(path, "", 0);
    for (size_t i = 0; i < SUPPORT_COUNT(openers); i++) {
        for (int flags = -1; flags < 16; flags++) {
            if (flags >= CELLAR_OPEN_DIRECT && openers[i] == cellar_device_open_pread)
                continue; /* see test_device_direct.c */
            bool valid = flags == CELLAR_OPEN_READ || flags == CELLAR_OPEN_WRITE ||
                         flags == (CELLAR_OPEN_WRITE | CELLAR_OPEN_CREATE);
            bool exclusive = flags == (CELLAR_OPEN_WRITE | CELLAR_OPEN_CREATE | CELLAR_OPEN_EXCLUSIVE);

            assert_result(openers[i](path, flags, 0644, &device), valid ? 0 : exclusive ? -EEXIST : -EINVAL);
            if (valid) {
                assert_int_equal(cellar_device_writable(device), flags != CELLAR_OPEN_READ);
                assert_done(cellar_device_close(device));
                device = NULL;
            }
            assert_null(device);
        }
    }
}

static void test_create(void **state)
{
    struct cellar_device *device;
    const char *path = support_path(*state, "new");
    struct stat status;
    mode_t mask = umask(026);

    for (size_t i = 0; i < SUPPORT_COUNT(openers); i++) {
        assert_result(openers[i](path, CELLAR_OPEN_READ, 0, &device), -ENOENT);
        assert_result(openers[i](path, CELLAR_OPEN_WRITE, 0666, &device), -ENOENT);
        assert_done(openers[i](path, CELLAR_OPEN_WRITE | CELLAR_OPEN_CREATE | CELLAR_OPEN_EXCLUSIVE, 0666, &device));
        assert_int_equal(stat(path, &status), 0);
        assert_int_equal(status.st_mode & 0777, 0640);
        assert_int_equal(status.st_size, 0);
        assert_done(cellar_device_close(device));
        assert_int_equal(unlink(path), 0);
    }
    umask(mask);
    assert_result(cellar_device_open_file(support_path(*state, "no/folder"), CELLAR_OPEN_WRITE | CELLAR_OPEN_CREATE,
                                          0644, &device),
                  -ENOENT);
}

/* A link to a regular file is as good as the file. */
static void test_link(void **state)
{
    const char *path = support_path(*state, "file"), *link_path = support_path(*state, "link");
    struct cellar_device *device;

    support_file_write(path, "linked", 6);
    assert_int_equal(symlink("file", link_path), 0);
    for (size_t i = 0; i < SUPPORT_COUNT(openers); i++) {
        char buffer[6];

        assert_done(openers[i](link_path, CELLAR_OPEN_WRITE, 0, &device));
        assert_done(cellar_device_read(device, buffer, 6, 0));
        assert_memory_equal(buffer, "linked", 6);
        assert_done(cellar_device_lock(device, CELLAR_LOCK_WRITER));
        assert_done(cellar_device_close(device));
        assert_result(
            cellar_file_open(link_path, CELLAR_OPEN_WRITE | CELLAR_FILE_NO_LINK, 0, CELLAR_FILE_MAPPED, &device),
            -ELOOP);
    }
}

/* Whatever is no regular file is refused at once: none of these opens waits for somebody at the other end. */
static int open_odd_things(void *user)
{
    const char *folder = user;
    static const char *const names[] = {"fifo", "link to fifo", "socket", "folder", "."};
    struct cellar_device *device;
    char path[4096];

    alarm(60); /* ends a child that hangs */
    for (size_t i = 0; i < SUPPORT_COUNT(openers) * SUPPORT_COUNT(names); i++) {
        snprintf(path, sizeof path, "%s/%s", folder, names[i / SUPPORT_COUNT(openers)]);
        for (int flags = CELLAR_OPEN_READ; flags <= (CELLAR_OPEN_WRITE | CELLAR_OPEN_CREATE); flags++) {
            int result = openers[i % SUPPORT_COUNT(openers)](path, flags, 0644, &device);

            SUPPORT_CHILD_NEEDS(result < 0 && result > -4096);
        }
    }
    snprintf(path, sizeof path, "%s/fifo", folder);
    SUPPORT_CHILD_NEEDS(cellar_device_open_file(path, CELLAR_OPEN_READ, 0, &device) == -EINVAL);
    SUPPORT_CHILD_NEEDS(cellar_device_open_file(path, CELLAR_OPEN_WRITE, 0, &device) == -EINVAL);
    SUPPORT_CHILD_NEEDS(cellar_device_open_pread("/dev/zero", CELLAR_OPEN_READ, 0, &device) == -EINVAL);
    SUPPORT_CHILD_NEEDS(cellar_device_open_file(folder, CELLAR_OPEN_READ, 0, &device) == -EISDIR);
    SUPPORT_CHILD_NEEDS(cellar_device_open_file(folder, CELLAR_OPEN_WRITE, 0, &device) == -EISDIR);
    return 0;
}

static void test_no_regular_file(void **state)
{
    const char *fifo = support_path(*state, "fifo");
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    assert_int_equal(mkfifo(fifo, 0600), 0);
    assert_int_equal(symlink(fifo, support_path(*state, "link to fifo")), 0);
    assert_int_equal(mkdir(support_path(*state, "folder"), 0700), 0);
    assert_true(strlen(*state) + 10 < sizeof address.sun_path);
    strcpy(address.sun_path, support_path(*state, "socket"));
    assert_int_equal(bind(listener, (struct sockaddr *)&address, sizeof address), 0);
    assert_int_equal(support_child(open_odd_things, *state), 0);
    close(listener);
}

/* Every descriptor that is open is closed by an exec, and gone after close. */
static int count_open(bool *ret_all_close_on_exec)
{
    int count = 0;

    *ret_all_close_on_exec = true;
    for (int fd = 0; fd < 256; fd++) {
        int flags = fcntl(fd, F_GETFD);

        if (flags < 0)
            continue;
        count++;
        if (fd > 2 && (flags & FD_CLOEXEC) == 0)
            *ret_all_close_on_exec = false;
    }
    return count;
}

static int open_and_count(void *user)
{
    struct cellar_device *device;
    bool closed_before, closed_after;
    int before = count_open(&closed_before);

    for (size_t i = 0; i < SUPPORT_COUNT(openers); i++) {
        SUPPORT_CHILD_NEEDS(openers[i](user, CELLAR_OPEN_WRITE | CELLAR_OPEN_CREATE, 0644, &device) == 0);
        SUPPORT_CHILD_NEEDS(cellar_device_lock(device, CELLAR_LOCK_WRITER) == 0);
        SUPPORT_CHILD_NEEDS(count_open(&closed_after) == before + 2);
        SUPPORT_CHILD_NEEDS(closed_after == closed_before);
        SUPPORT_CHILD_NEEDS(cellar_device_close(device) == 0);
        SUPPORT_CHILD_NEEDS(count_open(&closed_after) == before);
    }
    SUPPORT_CHILD_NEEDS(openers[0]("/", CELLAR_OPEN_READ, 0, &device) < 0);
    SUPPORT_CHILD_NEEDS(count_open(&closed_after) == before);
    return 0;
}

static void test_descriptors(void **state)
{
    assert_int_equal(support_child(open_and_count, support_path(*state, "file")), 0);
}

/* A file with mode 0444, and a user to whom that means something. */
static int read_as_nobody(void *user)
{
    const char *path = user;

    if (!support_drop_root())
        return -1;
    for (size_t i = 0; i < SUPPORT_COUNT(openers); i++) {
        struct cellar_device *device;
        char buffer[6];
        const void *lent;
        void *base;
        uint64_t capacity_bytes;

        SUPPORT_CHILD_NEEDS(openers[i](path, CELLAR_OPEN_WRITE, 0, &device) == -EACCES);
        SUPPORT_CHILD_NEEDS(openers[i](path, CELLAR_OPEN_READ, 0, &device) == 0);
        SUPPORT_CHILD_NEEDS(!cellar_device_writable(device));
        SUPPORT_CHILD_NEEDS(cellar_device_read(device, buffer, 6, 0) == 0 && memcmp(buffer, "a file", 6) == 0);
        SUPPORT_CHILD_NEEDS(cellar_device_load(device, 2, 4, &lent) == 0 && memcmp(lent, "file", 4) == 0);
        cellar_device_release(device, lent, 4);
        SUPPORT_CHILD_NEEDS(support_device_write(device, "x", 1, 0) == -EROFS);
        SUPPORT_CHILD_NEEDS(cellar_device_grow(device, 0, 100) == -EROFS);
        SUPPORT_CHILD_NEEDS(cellar_device_trim(device, 0) == -EROFS);
        SUPPORT_CHILD_NEEDS(cellar_device_sync(device, 0, 6) == 0);
        SUPPORT_CHILD_NEEDS(cellar_device_window(device, 4096, true, &base, &capacity_bytes) == -EROFS);
        if (openers[i] == cellar_device_open_file) {
            SUPPORT_CHILD_NEEDS(cellar_device_window(device, 4096, false, &base, &capacity_bytes) == 0);
            SUPPORT_CHILD_NEEDS(memcmp(base, "a file", 6) == 0);
        }
        SUPPORT_CHILD_NEEDS(cellar_device_lock(device, CELLAR_LOCK_HEADER_SHARED) == 0);
        SUPPORT_CHILD_NEEDS(cellar_device_unlock(device, CELLAR_LOCK_HEADER_SHARED) == 0);
        SUPPORT_CHILD_NEEDS(cellar_device_lock(device, CELLAR_LOCK_WRITER) < 0);
        SUPPORT_CHILD_NEEDS(cellar_device_close(device) == 0);
    }
    return 0;
}

static void test_read_permission_is_enough(void **state)
{
    const char *path = support_path(*state, "file");
    struct stat before, after;
    int result;

    support_file_write(path, "a file", 6);
    assert_int_equal(chmod(path, 0444), 0);
    assert_int_equal(chmod(*state, 0755), 0);
    assert_int_equal(stat(path, &before), 0);
    result = support_child(read_as_nobody, (void *)(uintptr_t)path);
    if (result == -1)
        support_skip("root can't become another user here");
    assert_int_equal(result, 0);
    assert_int_equal(stat(path, &after), 0);
    assert_memory_equal(&before.st_mtim, &after.st_mtim, sizeof before.st_mtim);
    assert_memory_equal(&before.st_ctim, &after.st_ctim, sizeof before.st_ctim);
    assert_int_equal(after.st_size, 6);
}

/* Passing RLIMIT_FSIZE is an error code; the signal that the system has for it would end the child. */
static int grow_past_limit(void *user)
{
    struct rlimit limit = {.rlim_cur = 100000, .rlim_max = 100000};

    SUPPORT_CHILD_NEEDS(setrlimit(RLIMIT_FSIZE, &limit) == 0);
    for (size_t i = 0; i < SUPPORT_COUNT(openers); i++) {
        struct cellar_device *device;
        uint64_t size_bytes;

        unlink(user);
        SUPPORT_CHILD_NEEDS(openers[i](user, CELLAR_OPEN_WRITE | CELLAR_OPEN_CREATE, 0644, &device) == 0);
        SUPPORT_CHILD_NEEDS(cellar_device_grow(device, 0, 50000) == 0);
        SUPPORT_CHILD_NEEDS(cellar_device_grow(device, 50000, 100001) == -EFBIG);
        SUPPORT_CHILD_NEEDS(cellar_device_grow(device, 50000, (uint64_t)1 << 40) == -EFBIG);
        SUPPORT_CHILD_NEEDS(cellar_device_size(device, &size_bytes) == 0 && size_bytes == 50000);
        SUPPORT_CHILD_NEEDS(cellar_device_grow(device, 50000, 100000) == 0);
        SUPPORT_CHILD_NEEDS(support_device_write(device, "x", 1, 99999) == 0);
        SUPPORT_CHILD_NEEDS(cellar_device_trim(device, 50000) == 0);
        SUPPORT_CHILD_NEEDS(cellar_device_close(device) == 0);
    }
    return 0;
}

/* A file that was longer before the limit came: writing beyond it is an error code, too. */
static int write_past_limit(void *user)
{
    struct rlimit limit = {.rlim_cur = 100000, .rlim_max = 100000};

    SUPPORT_CHILD_NEEDS(setrlimit(RLIMIT_FSIZE, &limit) == 0);
    for (size_t i = 0; i < SUPPORT_COUNT(openers); i++) {
        struct cellar_device *device;

        SUPPORT_CHILD_NEEDS(openers[i](user, CELLAR_OPEN_WRITE, 0, &device) == 0);
        SUPPORT_CHILD_NEEDS(support_device_write(device, "xy", 2, 150000) == -EFBIG);
        SUPPORT_CHILD_NEEDS(support_device_write(device, "xy", 2, 99999) == -EFBIG);
        SUPPORT_CHILD_NEEDS(support_device_write(device, "xy", 2, 99998) == 0);
        SUPPORT_CHILD_NEEDS(cellar_device_grow(device, 0, 200000) == -EFBIG);
        SUPPORT_CHILD_NEEDS(cellar_device_close(device) == 0);
    }
    return 0;
}

static void test_file_size_limit(void **state)
{
    const char *longer = support_path(*state, "longer");

    support_file_write(longer, "", 0);
    assert_int_equal(truncate(longer, 200000), 0);
    assert_int_equal(support_child(write_past_limit, (void *)(uintptr_t)longer), 0);
    assert_int_equal(support_file_size(longer), 200000);
    assert_int_equal(support_child(grow_past_limit, support_path(*state, "file")), 0);
}

/* Grows to the end of a full disk: grow fails, nothing that is there does. */
static int fill_disk_with(open_function *open_it, const char *path)
{
    static unsigned char bytes[300000];
    struct cellar_device *device;
    void *base;
    uint64_t size_bytes, capacity_bytes;

    support_bytes(21, bytes, sizeof bytes);
    SUPPORT_CHILD_NEEDS(open_it(path, CELLAR_OPEN_WRITE | CELLAR_OPEN_CREATE, 0644, &device) == 0);
    SUPPORT_CHILD_NEEDS(cellar_device_grow(device, 0, 300000) == 0);
    SUPPORT_CHILD_NEEDS(support_device_write(device, bytes, sizeof bytes, 0) == 0);
    SUPPORT_CHILD_NEEDS(cellar_device_grow(device, 300000, 3000000) == -ENOSPC);
    SUPPORT_CHILD_NEEDS(cellar_device_size(device, &size_bytes) == 0 && size_bytes == 300000);
    SUPPORT_CHILD_NEEDS(cellar_device_grow(device, 300000, 900000) == 0);
    SUPPORT_CHILD_NEEDS(cellar_device_grow(device, 900000, 1200000) == -ENOSPC);
    SUPPORT_CHILD_NEEDS(cellar_device_window(device, 2000000, true, &base, &capacity_bytes) >= 0);
    if (open_it == cellar_device_open_file)
        memset((unsigned char *)base + 300000, 7, 600000); /* no SIGBUS: the space is there */
    SUPPORT_CHILD_NEEDS(cellar_device_sync(device, 0, 900000) == 0);
    SUPPORT_CHILD_NEEDS(cellar_device_close(device) == 0);
    SUPPORT_CHILD_NEEDS(unlink(path) == 0);
    return 0;
}

static int fill_disk(void *user)
{
    char path[4096];

    if (unshare(CLONE_NEWNS) != 0 || mount("none", "/", "none", MS_REC | MS_PRIVATE, NULL) != 0 ||
        mount("cellar", user, "tmpfs", 0, "size=1m") != 0)
        return -1;
    snprintf(path, sizeof path, "%s/file", (const char *)user);
    for (size_t i = 0; i < SUPPORT_COUNT(openers); i++) {
        int result = fill_disk_with(openers[i], path);

        if (result != 0)
            return result;
    }
    return 0;
}

static void test_full_disk(void **state)
{
    int result = support_child(fill_disk, *state);

    if (result == -1)
        support_skip("no file system may be mounted here");
    assert_int_equal(result, 0);
}

/* Little address space: the window is the largest that fits, and never less than the file. */
static int window_in_little_space(void *user)
{
    enum { MIB = 1 << 20 };
    struct cellar_device *device;
    unsigned long pages_now = 0;
    uint64_t capacity_bytes;
    struct rlimit limit;
    FILE *statm = fopen("/proc/self/statm", "re");
    void *base;

    SUPPORT_CHILD_NEEDS(statm != NULL && fscanf(statm, "%lu", &pages_now) == 1);
    fclose(statm);
    limit.rlim_cur = limit.rlim_max = (rlim_t)pages_now * (rlim_t)sysconf(_SC_PAGESIZE) + 64 * MIB;
    SUPPORT_CHILD_NEEDS(cellar_device_open_file(user, CELLAR_OPEN_WRITE | CELLAR_OPEN_CREATE, 0644, &device) == 0);
    SUPPORT_CHILD_NEEDS(cellar_device_grow(device, 0, 3 * MIB) == 0);
    if (setrlimit(RLIMIT_AS, &limit) != 0)
        return -1;
    SUPPORT_CHILD_NEEDS(cellar_device_window(device, UINT64_MAX, true, &base, &capacity_bytes) == 0);
    SUPPORT_CHILD_NEEDS(capacity_bytes >= 3 * MIB && capacity_bytes <= 64 * MIB);
    SUPPORT_CHILD_NEEDS(capacity_bytes <= limit.rlim_cur / 2 + MIB); /* something is left for others */
    memset(base, 1, 3 * MIB);
    SUPPORT_CHILD_NEEDS(cellar_device_close(device) == 0);
    /* A file that does not fit has none. */
    SUPPORT_CHILD_NEEDS(cellar_device_open_file(user, CELLAR_OPEN_WRITE, 0, &device) == 0);
    SUPPORT_CHILD_NEEDS(cellar_device_grow(device, 128 * MIB, 128 * MIB) == 0);
    SUPPORT_CHILD_NEEDS(cellar_device_window(device, 1024 * MIB, true, &base, &capacity_bytes) == CELLAR_NONE);
    SUPPORT_CHILD_NEEDS(cellar_device_close(device) == 0);
    return 0;
}

static void test_window_in_little_space(void **state)
{
    assert_int_equal(support_child(window_in_little_space, support_path(*state, "file")), 0);
}

/* A core dump of a process would otherwise be as large as all its stores. */
static void test_window_and_core_dumps(void **state)
{
    const char *path = support_path(*state, "file");
    struct cellar_device *device;
    uint64_t capacity_bytes;
    void *base;

    support_file_write(path, "x", 1);
    assert_done(cellar_device_open_file(path, CELLAR_OPEN_READ, 0, &device));
    assert_done(cellar_device_window(device, 1 << 20, false, &base, &capacity_bytes));
    assert_true(support_is_mapped_with(base, "dd"));
    assert_false(support_is_mapped_with(&base, "dd"));
    assert_done(cellar_device_close(device));
}

/* A file that can't be mapped is still a device. */
static void test_no_mapping(void **state)
{
    struct cellar_device *device;
    const void *lent = NULL;
    uint64_t capacity_bytes;
    void *base;

    (void)state;
    if (cellar_device_open_file("/proc/self/status", CELLAR_OPEN_READ, 0, &device) != 0)
        support_skip("no /proc");
    assert_result(cellar_device_window(device, 4096, false, &base, &capacity_bytes), CELLAR_NONE);
    assert_result(cellar_device_load(device, 0, 1, &lent), CELLAR_EBOUNDS); /* it says that it has no bytes */
    assert_done(cellar_device_close(device));
}

/* Runs lent before there was a window, or past it, are mappings of their own. */
/* Without a window all loads are lent from one mapping, that has room for the file to grow; what lies past it is mapped
 * for itself, and unmapped at release. */
static void test_load_from_one_mapping(void **state)
{
    const char *path = support_path(*state, "file");
    struct cellar_device *device;
    const void *first, *second, *grown, *past;

    support_file_write(path, "first second", 12);
    assert_done(cellar_device_open_file(path, CELLAR_OPEN_READ, 0, &device));
    assert_done(cellar_device_load(device, 0, 5, &first));
    assert_done(cellar_device_load(device, 6, 6, &second));
    assert_ptr_equal(second, (const unsigned char *)first + 6);
    cellar_device_release(device, first, 5);
    assert_memory_equal(second, "second", 6); /* a release is not the end of the others */
    assert_int_equal(truncate(path, (off_t)3 << 30), 0);
    support_file_patch(path, 100 << 20, "grown", 5);
    support_file_patch(path, (uint64_t)5 << 29, "past", 4);
    assert_done(cellar_device_load(device, 100 << 20, 5, &grown));
    assert_ptr_equal(grown, (const unsigned char *)first + (100 << 20));
    assert_memory_equal(grown, "grown", 5);
    assert_done(cellar_device_load(device, (uint64_t)5 << 29, 4, &past));
    assert_memory_equal(past, "past", 4);
    cellar_device_release(device, past, 4);
    assert_true(support_is_unmapped(past));
    cellar_device_release(device, second, 6);
    cellar_device_release(device, grown, 5);
    assert_done(cellar_device_close(device));
    assert_true(support_is_unmapped(first));
}

static void test_load_beside_the_window(void **state)
{
    static unsigned char bytes[20000];
    const char *path = support_path(*state, "file");
    struct cellar_device *device, *reader;
    const void *before, *inside, *past;
    uint64_t capacity_bytes;
    void *base;

    support_bytes(22, bytes, sizeof bytes);
    support_file_write(path, bytes, 5000);
    assert_done(cellar_device_open_file(path, CELLAR_OPEN_WRITE, 0, &device));
    assert_done(cellar_device_load(device, 4095, 905, &before));
    assert_done(cellar_device_window(device, 5000, true, &base, &capacity_bytes));
    assert_int_equal(capacity_bytes, 8192); /* whole pages */
    assert_done(cellar_device_grow(device, 5000, 20000));
    assert_done(support_device_write(device, bytes + 5000, 15000, 5000));
    assert_done(cellar_device_load(device, 100, 8000, &inside));
    assert_ptr_equal(inside, (unsigned char *)base + 100);
    assert_done(cellar_device_load(device, 8191, 2, &past));
    assert_memory_equal(past, bytes + 8191, 2);
    assert_memory_equal(before, bytes + 4095, 905);
    assert_done(cellar_device_sync(device, 0, 20000)); /* past the window: the whole file */
    cellar_device_release(device, past, 2);
    cellar_device_release(device, before, 905);
    assert_ptr_equal((const unsigned char *)past - 8191,
                     (const unsigned char *)before - 4095); /* one mapping for all */
    assert_memory_equal(inside, bytes + 100, 8000);
    assert_done(cellar_device_open_file(path, CELLAR_OPEN_READ, 0, &reader));
    assert_done(cellar_device_load(reader, 12289, 7711, &past));
    assert_memory_equal(past, bytes + 12289, 7711);
    cellar_device_release(reader, past, 7711);
    assert_done(cellar_device_close(reader));
    assert_done(cellar_device_close(device));
}

/* A mapping that reaches beyond the end shows what another handle appends there. */
static void test_window_shows_growth_by_others(void **state)
{
    const char *path = support_path(*state, "file");
    struct cellar_device *writer, *reader;
    uint64_t capacity_bytes;
    void *base;

    support_file_write(path, "begin", 5);
    assert_done(cellar_device_open_pread(path, CELLAR_OPEN_WRITE, 0, &writer));
    assert_done(cellar_device_open_file(path, CELLAR_OPEN_READ, 0, &reader));
    assert_done(cellar_device_window(reader, 100000, false, &base, &capacity_bytes));
    assert_done(cellar_device_grow(writer, 5, 100000));
    assert_done(support_device_write(writer, "end", 3, 99997));
    assert_memory_equal((unsigned char *)base + 99997, "end", 3);
    assert_memory_equal(base, "begin\0\0\0", 8);
    assert_done(cellar_device_close(reader));
    assert_done(cellar_device_close(writer));
}

/* Only what is asked for is allocated, nothing at once where there are no holes, and no byte and no size changes. */
static void test_holes_of_a_range(void **state)
{
    const char *path = support_path(*state, "sparse");
    struct cellar_device *device;
    struct stat before, after;
    unsigned char byte = 1;

    support_file_write(path, "begin", 5);
    assert_int_equal(truncate(path, 64 << 20), 0);
    assert_done(cellar_device_open_file(path, CELLAR_OPEN_WRITE, 0, &device));
    assert_int_equal(stat(path, &before), 0);
    if (before.st_blocks * 512 >= before.st_size)
        skip(); /* a file system without holes */
    assert_done(cellar_file_fill_holes(device, 60 << 20, 1 << 20));
    assert_int_equal(stat(path, &after), 0);
    assert_int_equal(after.st_size, before.st_size);
    assert_true((after.st_blocks - before.st_blocks) * 512 >= 1 << 20);
    assert_true((after.st_blocks - before.st_blocks) * 512 < 8 << 20);
    assert_done(cellar_file_fill_holes(device, 64 << 20, 1 << 20)); /* past the end: nothing */
    assert_done(cellar_file_fill_holes(device, 63 << 20, UINT64_MAX));
    assert_int_equal(stat(path, &after), 0);
    assert_int_equal(after.st_size, before.st_size);
    assert_done(cellar_device_read(device, &byte, 1, 60 << 20));
    assert_int_equal(byte, 0);
    assert_done(cellar_device_read(device, &byte, 1, 0));
    assert_int_equal(byte, 'b');
    assert_done(cellar_device_close(device));
}

static void test_only_files_have_holes(void **state)
{
    struct cellar_device *device;

    (void)state;
    assert_done(cellar_device_open_memory(NULL, 0, 10, &device));
    assert_result(cellar_file_fill_holes(device, 0, UINT64_MAX), -ENOTSUP);
    assert_done(cellar_device_close(device));
}

static void test_which_file_systems_copy(void **state)
{
    int fd = open("/proc/self/status", O_RDONLY | O_CLOEXEC);

    (void)state;
    assert_false(cellar_file_system_copies(-1));
    if (fd >= 0) {
        assert_false(cellar_file_system_copies(fd));
        close(fd);
    }
}

int main(void)
{
#define WITH_FOLDER(test) cmocka_unit_test_setup_teardown(test, support_folder_setup, support_folder_teardown)
    const struct CMUnitTest tests[] = {
        WITH_FOLDER(test_flags),
        WITH_FOLDER(test_create),
        WITH_FOLDER(test_link),
        WITH_FOLDER(test_no_regular_file),
        WITH_FOLDER(test_descriptors),
        WITH_FOLDER(test_read_permission_is_enough),
        WITH_FOLDER(test_file_size_limit),
        WITH_FOLDER(test_full_disk),
        WITH_FOLDER(test_window_in_little_space),
        WITH_FOLDER(test_window_and_core_dumps),
        WITH_FOLDER(test_no_mapping),
        WITH_FOLDER(test_load_from_one_mapping),
        WITH_FOLDER(test_load_beside_the_window),
        WITH_FOLDER(test_window_shows_growth_by_others),
        WITH_FOLDER(test_holes_of_a_range),
        WITH_FOLDER(test_only_files_have_holes),
        WITH_FOLDER(test_which_file_systems_copy),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
