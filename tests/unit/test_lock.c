/* The locks of files, between handles and between processes. */
#include "support.h"

#include "device/file.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

enum { HEADER_BYTES = 256 };

static struct cellar_device *open_one(const char *path, bool mapped)
{
    struct cellar_device *device;

    assert_done(cellar_file_open(path, CELLAR_OPEN_WRITE | CELLAR_OPEN_CREATE, 0644,
                                 mapped ? CELLAR_FILE_MAPPED : CELLAR_FILE_PREAD, &device));
    return device;
}

/* What a process of its own gets when it asks for the writer's lock. */
static int lock_as_other(void *user)
{
    struct cellar_device *device;
    int error = cellar_device_open_pread(user, CELLAR_OPEN_WRITE, 0, &device);

    if (error == 0) {
        error = cellar_device_lock(device, CELLAR_LOCK_WRITER);
        cellar_device_close(device);
    }
    return error;
}

static int ask_other(const char *path)
{
    return support_child(lock_as_other, (void *)(uintptr_t)path);
}

static void test_two_handles(void **state)
{
    const char *path = support_path(*state, "file");

    for (int kinds = 0; kinds < 4; kinds++) {
        struct cellar_device *first = open_one(path, (kinds & 1) != 0), *second = open_one(path, (kinds & 2) != 0);

        assert_done(cellar_device_lock(first, CELLAR_LOCK_WRITER));
        assert_result(cellar_device_lock(second, CELLAR_LOCK_WRITER), CELLAR_EBUSY);
        assert_done(cellar_device_unlock(first, CELLAR_LOCK_WRITER));
        assert_done(cellar_device_lock(second, CELLAR_LOCK_WRITER));
        assert_result(cellar_device_lock(first, CELLAR_LOCK_WRITER), CELLAR_EBUSY);
        assert_done(cellar_device_close(second));
        assert_done(cellar_device_lock(first, CELLAR_LOCK_WRITER));
        assert_done(cellar_device_close(first));
    }
}

static void test_two_processes(void **state)
{
    const char *path = support_path(*state, "file");

    for (int mapped = 0; mapped < 2; mapped++) {
        struct cellar_device *device = open_one(path, mapped);
        uint64_t capacity_bytes;
        void *base;

        assert_done(cellar_device_grow(device, 0, 4096));
        if (mapped)
            assert_done(cellar_device_window(device, 4096, true, &base, &capacity_bytes));
        assert_done(ask_other(path));
        assert_done(cellar_device_lock(device, CELLAR_LOCK_WRITER));
        assert_result(ask_other(path), CELLAR_EBUSY);
        assert_done(cellar_device_unlock(device, CELLAR_LOCK_WRITER));
        assert_done(ask_other(path));
        assert_done(cellar_device_lock(device, CELLAR_LOCK_WRITER));
        assert_done(cellar_device_close(device)); /* the lock goes with it */
        assert_done(ask_other(path));
    }
}

/* POSIX locks vanish when any descriptor of the file is closed; this one must not. */
static void test_unrelated_descriptors(void **state)
{
    const char *path = support_path(*state, "file");
    struct cellar_device *device = open_one(path, true), *other = open_one(path, false);
    int fd = open(path, O_RDWR | O_CLOEXEC);

    assert_true(fd >= 0);
    assert_done(cellar_device_lock(device, CELLAR_LOCK_WRITER));
    assert_result(cellar_device_lock(other, CELLAR_LOCK_WRITER), CELLAR_EBUSY);
    close(fd);
    assert_done(cellar_device_close(other));
    free(support_file_read(path, &(size_t){0}));
    assert_result(ask_other(path), CELLAR_EBUSY);
    assert_done(cellar_device_close(device));
    assert_done(ask_other(path));
}

/* The lock's description is never mapped: a mapping would keep the lock for as long as it lives. */
static void test_mapping_does_not_keep_the_lock(void **state)
{
    const char *path = support_path(*state, "file");
    struct cellar_device *device = open_one(path, true);
    uint64_t capacity_bytes;
    const void *lent;
    void *base;

    assert_done(cellar_device_grow(device, 0, 8192));
    assert_done(cellar_device_lock(device, CELLAR_LOCK_WRITER));
    assert_done(cellar_device_load(device, 0, 8192, &lent)); /* a mapping that outlives the device */
    assert_done(cellar_device_window(device, 8192, true, &base, &capacity_bytes));
    assert_done(cellar_device_close(device));
    assert_done(ask_other(path));
    munmap((void *)(uintptr_t)lent, 8192);
}

/* A child that lets go of its copy takes nothing of the parent's lock with it. */
static int child_forgets(void *user)
{
    struct cellar_device *device = user;

    cellar_device_forget(device);
    SUPPORT_CHILD_NEEDS(cellar_device_unlock(device, CELLAR_LOCK_WRITER) == CELLAR_EFORKED);
    SUPPORT_CHILD_NEEDS(cellar_device_close(device) == 0);
    return 0;
}

static int child_only_ends(void *user)
{
    (void)user;
    return 0;
}

static void test_child_leaves_the_lock(void **state)
{
    const char *path = support_path(*state, "file");

    for (int mapped = 0; mapped < 2; mapped++) {
        struct cellar_device *device = open_one(path, mapped);

        assert_done(cellar_device_lock(device, CELLAR_LOCK_WRITER));
        assert_int_equal(support_child(child_forgets, device), 0);
        assert_result(ask_other(path), CELLAR_EBUSY);
        assert_int_equal(support_child(child_only_ends, device), 0);
        assert_result(ask_other(path), CELLAR_EBUSY);
        assert_done(cellar_device_close(device));
        assert_done(ask_other(path));
    }
}

/*
 * And keeps nothing of it: a writer that is killed gives its lock up, though a child of its that has forgotten lives
 * on. The test is the grandparent; the child ends when the test closes the pipe that it waits for.
 */
struct family {
    const char *path;
    int ready[2], wait_for[2];
};

static int live_on(const struct family *family, struct cellar_device *device)
{
    char byte = 0;

    close(family->wait_for[1]);
    cellar_device_forget(device);
    if (write(family->ready[1], &byte, 1) != 1)
        return 1;
    return read(family->wait_for[0], &byte, 1) == 0 ? 0 : 2;
}

static int die_with_the_lock(void *user)
{
    const struct family *family = user;
    struct cellar_device *device;
    uint64_t capacity_bytes;
    void *base;
    char byte;
    pid_t child;

    SUPPORT_CHILD_NEEDS(cellar_device_open_file(family->path, CELLAR_OPEN_WRITE | CELLAR_OPEN_CREATE, 0644, &device) ==
                        0);
    SUPPORT_CHILD_NEEDS(cellar_device_grow(device, 0, 8192) == 0);
    SUPPORT_CHILD_NEEDS(cellar_device_window(device, 8192, true, &base, &capacity_bytes) == 0); /* inherited, too */
    SUPPORT_CHILD_NEEDS(cellar_device_lock(device, CELLAR_LOCK_WRITER) == 0);
    child = fork();
    if (child == 0)
        _exit(live_on(family, device));
    SUPPORT_CHILD_NEEDS(child > 0 && read(family->ready[0], &byte, 1) == 1);
    raise(SIGKILL);
    return __LINE__;
}

static void test_living_child_keeps_nothing(void **state)
{
    struct family family = {.path = support_path(*state, "file")};

    assert_int_equal(pipe2(family.ready, O_CLOEXEC), 0);
    assert_int_equal(pipe2(family.wait_for, O_CLOEXEC), 0);
    assert_int_equal(support_child(die_with_the_lock, &family), -SIGKILL);
    assert_done(ask_other(family.path));
    for (int i = 0; i < 2; i++) {
        close(family.wait_for[i]);
        close(family.ready[i]);
    }
}

/* ---- the original's lock of the header ---- */

/* What a POSIX lock of the header's bytes, as the original takes it, would meet: F_UNLCK is nothing. */
struct question {
    const char *path;
    short type;
};

static int ask_posix(void *user)
{
    const struct question *question = user;
    struct flock range = {.l_type = question->type, .l_whence = SEEK_SET, .l_start = 0, .l_len = HEADER_BYTES};
    int fd = open(question->path, O_RDWR | O_CLOEXEC);

    SUPPORT_CHILD_NEEDS(fd >= 0 && fcntl(fd, F_GETLK, &range) == 0);
    return range.l_type == F_UNLCK ? -1 : -2;
}

static bool posix_is_free(const char *path, short type)
{
    struct question question = {.path = path, .type = type};
    int result = support_child(ask_posix, &question);

    assert_true(result == -1 || result == -2);
    return result == -1;
}

static void test_header_locks_meet_the_originals(void **state)
{
    const char *path = support_path(*state, "file");
    struct cellar_device *device = open_one(path, true), *other = open_one(path, false);

    assert_done(cellar_device_lock(device, CELLAR_LOCK_WRITER));
    assert_true(posix_is_free(path, F_WRLCK)); /* the writer's lock lies elsewhere */
    assert_done(cellar_device_lock(device, CELLAR_LOCK_HEADER_SHARED));
    assert_done(cellar_device_lock(other, CELLAR_LOCK_HEADER_SHARED));
    assert_true(posix_is_free(path, F_RDLCK));
    assert_false(posix_is_free(path, F_WRLCK));
    assert_done(cellar_device_unlock(other, CELLAR_LOCK_HEADER_SHARED));
    assert_false(posix_is_free(path, F_WRLCK));
    assert_done(cellar_device_unlock(device, CELLAR_LOCK_HEADER_SHARED));
    assert_done(cellar_device_lock(device, CELLAR_LOCK_HEADER_EXCLUSIVE));
    assert_false(posix_is_free(path, F_RDLCK));
    assert_done(cellar_device_unlock(device, CELLAR_LOCK_HEADER_EXCLUSIVE));
    assert_true(posix_is_free(path, F_WRLCK));
    assert_result(ask_other(path), CELLAR_EBUSY); /* the writer's lock is still there */
    assert_done(cellar_device_close(other));
    assert_done(cellar_device_close(device));
}

/* Header locks wait: whoever gets the lock sees that the other had given it back. (In a process of its own: tools that
 * run one thread at a time do not know this call for one that waits.) */
static int wait_for_header(struct cellar_device *device, const atomic_int *free_now)
{
    if (cellar_device_lock(device, CELLAR_LOCK_HEADER_EXCLUSIVE) != 0)
        return 1;
    return atomic_load(free_now) == 1 ? 0 : 2;
}

static void test_header_locks_wait(void **state)
{
    const char *path = support_path(*state, "file");
    struct cellar_device *first = open_one(path, true), *second = open_one(path, true);
    atomic_int *free_now = mmap(NULL, sizeof *free_now, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    pid_t child;
    int status;

    assert_true(free_now != MAP_FAILED);
    assert_done(cellar_device_lock(first, CELLAR_LOCK_HEADER_EXCLUSIVE));
    fflush(NULL);
    child = fork();
    assert_true(child >= 0);
    if (child == 0)
        _exit(wait_for_header(second, free_now));
    for (int i = 0; i < 100; i++)
        sched_yield();
    atomic_store(free_now, 1);
    assert_done(cellar_device_unlock(first, CELLAR_LOCK_HEADER_EXCLUSIVE));
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    munmap(free_now, sizeof *free_now);
    assert_done(cellar_device_close(second));
    assert_done(cellar_device_close(first));
}

/* ---- the name under the lock ---- */

/* The path names another file, or nothing, by the time that the lock is asked for: the lock is the open file's. */
static void test_file_was_replaced(void **state)
{
    const char *path = support_path(*state, "file"), *other = support_path(*state, "other");
    const char *moved = support_path(*state, "moved");

    for (int mapped = 0; mapped < 2; mapped++) {
        struct cellar_device *device = open_one(path, mapped);

        support_file_write(other, "x", 1);
        assert_int_equal(rename(path, moved), 0);
        assert_int_equal(rename(other, path), 0);
        assert_done(cellar_device_lock(device, CELLAR_LOCK_WRITER));
        assert_done(ask_other(path)); /* another file */
        assert_result(ask_other(moved), CELLAR_EBUSY);
        assert_done(cellar_device_close(device));
        device = open_one(path, mapped);
        assert_int_equal(unlink(path), 0);
        assert_done(cellar_device_lock(device, CELLAR_LOCK_WRITER));
        assert_done(cellar_device_close(device));
    }
}

/* Once it is there the lock's description stays, wherever the name goes. */
static void test_lock_outlives_the_name(void **state)
{
    const char *path = support_path(*state, "file"), *moved = support_path(*state, "moved");
    struct cellar_device *device = open_one(path, true);

    assert_done(cellar_device_lock(device, CELLAR_LOCK_WRITER));
    assert_int_equal(rename(path, moved), 0);
    assert_result(ask_other(moved), CELLAR_EBUSY);
    assert_done(cellar_device_lock(device, CELLAR_LOCK_HEADER_SHARED));
    assert_done(cellar_device_unlock(device, CELLAR_LOCK_HEADER_SHARED));
    assert_done(cellar_device_close(device));
    assert_done(ask_other(moved));
}

int main(void)
{
#define WITH_FOLDER(test) cmocka_unit_test_setup_teardown(test, support_folder_setup, support_folder_teardown)
    const struct CMUnitTest tests[] = {
        WITH_FOLDER(test_two_handles),
        WITH_FOLDER(test_two_processes),
        WITH_FOLDER(test_unrelated_descriptors),
        WITH_FOLDER(test_mapping_does_not_keep_the_lock),
        WITH_FOLDER(test_child_leaves_the_lock),
        WITH_FOLDER(test_living_child_keeps_nothing),
        WITH_FOLDER(test_header_locks_meet_the_originals),
        WITH_FOLDER(test_header_locks_wait),
        WITH_FOLDER(test_file_was_replaced),
        WITH_FOLDER(test_lock_outlives_the_name),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
