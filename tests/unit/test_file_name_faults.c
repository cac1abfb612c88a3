/* Names under a system whose calls fail, and other makers between any two of them. */
#include "system_fault.h"

#include "device/file.h"

static char *path, *hidden; /* of the running test's file */

static int setup(void **state)
{
    support_folder_setup(state);
    path = support_path(*state, "file");
    hidden = support_path(*state, ".file.cellar-new");
    system_heal();
    return 0;
}

static int teardown(void **state)
{
    system_heal();
    return support_folder_teardown(state);
}

static struct cellar_device *make(void)
{
    struct cellar_device *device;

    assert_done(cellar_file_create_hidden(path, 0644, CELLAR_FILE_MAPPED, &device));
    return device;
}

static bool is_there(const char *name)
{
    return access(name, F_OK) == 0;
}

static void assert_content(const char *name, const char *expected)
{
    size_t length_bytes;
    unsigned char *bytes = support_file_read(name, &length_bytes);

    assert_int_equal(length_bytes, strlen(expected));
    assert_memory_equal(bytes, expected, length_bytes);
    free(bytes);
}

static void test_publish_without_renameat2(void **state)
{
    static const int reasons[] = {EINVAL, ENOSYS};

    (void)state;
    for (size_t i = 0; i < SUPPORT_COUNT(reasons); i++) {
        struct cellar_device *device = make();
        bool renamed = false;

        support_file_write(path, "there", 5);
        system_fail(SYSTEM_RENAMEAT2, 1, 2, reasons[i]);
        assert_result(cellar_file_publish(device, path, NULL, &renamed), -EEXIST);
        assert_false(renamed);
        assert_content(path, "there");
        assert_int_equal(unlink(path), 0);
        assert_done(cellar_file_publish(device, path, NULL, &renamed));
        assert_true(renamed);
        assert_false(is_there(hidden));
        assert_int_equal(cellar_file_is_at(device, path), 0);
        assert_done(cellar_device_close(device));
        assert_int_equal(unlink(path), 0);
    }
}

/* Both names are there: the file has its name, so nobody may take it for one that failed. */
static void test_publish_leaves_the_hidden_name(void **state)
{
    struct cellar_device *device = make(), *next;
    bool renamed = false;

    (void)state;
    system_fail(SYSTEM_RENAMEAT2, 1, 1, ENOSYS);
    system_fail(SYSTEM_UNLINK, 1, 1, EIO);
    assert_done(cellar_file_publish(device, path, NULL, &renamed));
    assert_true(renamed);
    assert_int_equal(cellar_file_is_at(device, path), 0);
    assert_int_equal(cellar_file_is_at(device, hidden), 0);
    next = make(); /* the second name is in nobody's way */
    assert_int_equal(cellar_file_is_at(device, path), 0);
    assert_int_equal(cellar_file_is_at(device, hidden), CELLAR_NONE);
    assert_done(cellar_device_close(next));
    assert_done(cellar_device_close(device));
}

/* Replacing on a file system that can't exchange names: the name is looked at, then taken over. */
static void test_replace_without_exchange(void **state)
{
    static const int reasons[] = {EINVAL, ENOSYS};

    (void)state;
    for (size_t i = 0; i < SUPPORT_COUNT(reasons); i++) {
        struct cellar_device *device = make(), *old;
        bool renamed = true;

        support_file_write(path, "old", 3);
        assert_done(cellar_device_open_file(path, CELLAR_OPEN_WRITE, 0, &old));
        system_fail(SYSTEM_RENAMEAT2, 1, 2, reasons[i]);
        assert_result(cellar_file_publish(device, path, device, &renamed), -ESTALE); /* not the one that is there */
        assert_false(renamed);
        assert_content(path, "old");
        assert_done(cellar_file_publish(device, path, old, &renamed));
        assert_true(renamed);
        assert_int_equal(cellar_file_is_at(device, path), 0);
        assert_false(is_there(hidden));
        assert_done(cellar_device_close(old));
        assert_done(cellar_device_close(device));
        assert_int_equal(unlink(path), 0);
    }
}

/* Another file got the name: both names are what they were. If the way back fails, its error is the result. */
static void test_replace_another(void **state)
{
    struct cellar_device *device = make(), *old;
    bool renamed = true;

    (void)state;
    support_file_write(path, "old", 3);
    assert_done(cellar_device_open_file(path, CELLAR_OPEN_WRITE, 0, &old));
    assert_int_equal(unlink(path), 0);
    support_file_write(path, "another", 7);
    assert_result(cellar_file_publish(device, path, old, &renamed), -ESTALE);
    assert_false(renamed);
    assert_content(path, "another");
    assert_int_equal(cellar_file_is_at(device, hidden), 0);
    system_fail(SYSTEM_RENAMEAT2, 2, 1, EIO);
    assert_result(cellar_file_publish(device, path, old, &renamed), -EIO);
    system_heal();
    assert_int_equal(unlink(path), 0);
    assert_result(cellar_file_publish(device, path, old, &renamed), -ESTALE); /* no name to take over */
    assert_done(cellar_device_close(old));
    assert_done(cellar_device_close(device));
}

static void test_publish_fails(void **state)
{
    struct cellar_device *device = make();
    bool renamed = true;

    (void)state;
    system_fail(SYSTEM_RENAMEAT2, 1, 2, EACCES);
    assert_result(cellar_file_publish(device, path, NULL, &renamed), -EACCES);
    assert_result(cellar_file_publish(device, path, device, &renamed), -EACCES);
    assert_false(renamed);
    system_fail(SYSTEM_OPEN, 1, 1, EMFILE); /* of the folder: then no name is given */
    assert_result(cellar_file_publish(device, path, NULL, &renamed), -EMFILE);
    assert_false(renamed);
    assert_false(is_there(path));
    system_fail(SYSTEM_FSYNC, 1, 1, EIO); /* of the folder: the name was given */
    assert_result(cellar_file_publish(device, path, NULL, &renamed), -EIO);
    assert_true(renamed);
    assert_int_equal(cellar_file_is_at(device, path), 0);
    assert_done(cellar_device_close(device));
    assert_int_equal(unlink(path), 0);
    device = make();
    system_fail(SYSTEM_FSYNC, 1, 1, EINVAL); /* a folder that can't be synced */
    assert_done(cellar_file_publish(device, path, NULL, &renamed));
    system_fail(SYSTEM_FSTAT, 1, 1, EIO);
    assert_result(cellar_file_is_at(device, path), -EIO);
    assert_done(cellar_device_close(device));
}

static void test_copy_mode_fails(void **state)
{
    struct cellar_device *from, *to;

    support_file_write(path, "x", 1);
    assert_done(cellar_device_open_file(path, CELLAR_OPEN_READ, 0, &from));
    assert_done(cellar_device_open_file(support_path(*state, "to"), CELLAR_OPEN_WRITE | CELLAR_OPEN_CREATE, 0600, &to));
    for (int nth = 1; nth <= 2; nth++) {
        system_fail(SYSTEM_FSTAT, nth, 1, EIO);
        assert_result(cellar_file_copy_mode(from, to), -EIO);
    }
    system_fail(SYSTEM_FCHMOD, 1, 1, EROFS);
    assert_result(cellar_file_copy_mode(from, to), -EROFS);
    if (geteuid() == 0) {
        assert_int_equal(chown(path, 1234, 5678), 0);
        system_fail(SYSTEM_FCHOWN, 1, 1, EIO);
        assert_result(cellar_file_copy_mode(from, to), -EIO);
        system_fail(SYSTEM_FCHOWN, 1, 1, EPERM);
        assert_done(cellar_file_copy_mode(from, to));
    }
    assert_done(cellar_file_copy_mode(from, to));
    assert_done(cellar_device_close(to));
    assert_done(cellar_device_close(from));
}

/* Making fails at every call there is, with a leftover in the way; then it works, so no lock and no name was left. */
static void test_create_fails(void **state)
{
    static const struct {
        enum system_call call;
        int error, expected;
    } rows[] = {
        {SYSTEM_OPEN, EMFILE, -EMFILE},       {SYSTEM_FSTAT, EIO, -EIO},      {SYSTEM_FCNTL, ENOLCK, -ENOLCK},
        {SYSTEM_FCNTL, EAGAIN, CELLAR_EBUSY}, {SYSTEM_UNLINK, EROFS, -EROFS},
    };

    (void)state;
    for (size_t i = 0; i < SUPPORT_COUNT(rows); i++) {
        int failures = 0;

        for (int nth = 1; nth <= 12; nth++) {
            struct cellar_device *device = NULL;
            int result;

            support_file_write(hidden, "left over", 9);
            system_fail(rows[i].call, nth, 1, rows[i].error);
            result = cellar_file_create_hidden(path, 0644, CELLAR_FILE_MAPPED, &device);
            system_heal();
            if (result != 0) { /* some can be done without, or are tried anew */
                assert_result(result, rows[i].expected);
                assert_null(device);
                failures++;
                device = make();
            }
            assert_int_equal(support_file_size(hidden), 0);
            assert_done(cellar_device_close(device));
        }
        assert_true(failures > 0);
    }
}

/*
 * Another maker, who comes first, publishes its file and goes while this one stands before one of its calls: it has
 * opened the hidden file, has opened it again for the lock, holds the lock of a file that has another name by now.
 */
static struct cellar_device *other;

static void other_publishes(void)
{
    bool renamed;

    assert_done(cellar_file_publish(other, path, NULL, &renamed));
    assert_done(support_device_write(other, "other", 5, 0));
    assert_done(cellar_device_close(other));
    other = NULL;
}

static void race(enum system_call call, int nth)
{
    struct cellar_device *device;
    int result;

    other = make();
    assert_done(cellar_device_grow(other, 0, 5));
    system_before(call, nth, other_publishes);
    result = cellar_file_create_hidden(path, 0644, CELLAR_FILE_MAPPED, &device);
    system_heal();
    if (other != NULL) { /* it was asked whether it is at work, and was */
        assert_result(result, CELLAR_EBUSY);
        other_publishes();
        device = make();
    } else {
        assert_result(result, 0);
    }
    assert_int_equal(cellar_file_is_at(device, hidden), 0);
    assert_int_equal(cellar_file_is_at(device, path), CELLAR_NONE);
    assert_content(path, "other"); /* nobody emptied it, or took its name away */
    assert_done(cellar_device_close(device));
    assert_int_equal(unlink(hidden), 0);
    assert_int_equal(unlink(path), 0);
}

static void test_two_makers_race(void **state)
{
    (void)state;
    for (int nth = 1; nth <= 8; nth++) {
        race(SYSTEM_FSTAT, nth);
        race(SYSTEM_OPEN, nth);
    }
    race(SYSTEM_FCNTL, 1);
    race(SYSTEM_UNLINK, 1);
}

/* The other way round: another maker clears this one's file away before it is locked. */
static void clear_away(void)
{
    assert_int_equal(unlink(hidden), 0);
}

static void test_cleared_away(void **state)
{
    (void)state;
    for (int nth = 1; nth <= 5; nth++) {
        struct cellar_device *device;
        int result;

        if (nth <= 4)
            system_before(SYSTEM_FSTAT, nth, clear_away);
        else
            system_before(SYSTEM_FCNTL, 1, clear_away);
        result = cellar_file_create_hidden(path, 0644, CELLAR_FILE_MAPPED, &device);
        system_heal();
        assert_result(result, 0); /* it began anew */
        assert_int_equal(cellar_file_is_at(device, hidden), 0);
        assert_done(cellar_device_close(device));
        assert_int_equal(unlink(hidden), 0);
    }
}

int main(void)
{
#define FAULT_TEST(test) cmocka_unit_test_setup_teardown(test, setup, teardown)
    const struct CMUnitTest tests[] = {
        FAULT_TEST(test_publish_without_renameat2),
        FAULT_TEST(test_publish_leaves_the_hidden_name),
        FAULT_TEST(test_replace_without_exchange),
        FAULT_TEST(test_replace_another),
        FAULT_TEST(test_publish_fails),
        FAULT_TEST(test_copy_mode_fails),
        FAULT_TEST(test_create_fails),
        FAULT_TEST(test_two_makers_race),
        FAULT_TEST(test_cleared_away),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
