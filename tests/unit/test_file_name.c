/* A file appears under its name whole, or not at all. */
#include "support.h"

#include "device/file.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* The hidden name of "store". */
#define HIDDEN ".store.cellar-new"

static bool is_there(const char *path)
{
    struct stat status;

    return lstat(path, &status) == 0;
}

static void assert_content(const char *path, const char *expected)
{
    size_t length_bytes;
    unsigned char *bytes = support_file_read(path, &length_bytes);

    assert_int_equal(length_bytes, strlen(expected));
    assert_memory_equal(bytes, expected, length_bytes);
    free(bytes);
}

static void fill(struct cellar_device *device, const char *text)
{
    assert_done(cellar_device_grow(device, 0, strlen(text)));
    assert_done(support_device_write(device, text, strlen(text), 0));
}

static void test_make_and_publish(void **state)
{
    const char *path = support_path(*state, "store"), *hidden = support_path(*state, HIDDEN);
    struct cellar_device *device;
    struct stat status;
    mode_t mask = umask(022);
    bool renamed = false;

    for (int mapped = 0; mapped < 2; mapped++) {
        assert_done(cellar_file_create_hidden(path, 0660, mapped ? CELLAR_FILE_MAPPED : CELLAR_FILE_PREAD, &device));
        assert_string_equal(cellar_device_name(device), mapped ? "file" : "pread");
        assert_false(is_there(path));
        assert_int_equal(stat(hidden, &status), 0);
        assert_int_equal(status.st_mode & 0777, 0640);
        assert_int_equal(status.st_size, 0);
        fill(device, "whole");
        assert_false(is_there(path));
        assert_int_equal(cellar_file_is_at(device, path), CELLAR_NONE);
        assert_int_equal(cellar_file_is_at(device, hidden), 0);
        assert_done(cellar_file_publish(device, path, NULL, &renamed));
        assert_true(renamed);
        assert_false(is_there(hidden));
        assert_content(path, "whole");
        assert_int_equal(cellar_file_is_at(device, path), 0);
        assert_done(cellar_device_close(device));
        assert_int_equal(unlink(path), 0);
    }
    umask(mask);
}

static void test_never_over_what_is_there(void **state)
{
    const char *path = support_path(*state, "store"), *hidden = support_path(*state, HIDDEN);
    struct cellar_device *device;
    bool renamed = true;

    support_file_write(path, "old", 3);
    assert_done(cellar_file_create_hidden(path, 0644, CELLAR_FILE_MAPPED, &device));
    fill(device, "new");
    assert_result(cellar_file_publish(device, path, NULL, &renamed), -EEXIST);
    assert_false(renamed);
    assert_content(path, "old");
    cellar_file_discard_hidden(path);
    assert_false(is_there(hidden));
    assert_content(path, "old");
    assert_done(cellar_device_close(device));
    cellar_file_discard_hidden(path); /* nothing there: nothing to do */
}

/* Another file than the one that is to give way has the name: it stays, and so does the hidden one. */
static void test_replace_no_other(void **state)
{
    const char *path = support_path(*state, "store"), *moved = support_path(*state, "moved");
    struct cellar_device *old_one, *new_one;
    bool renamed = true;

    support_file_write(path, "old", 3);
    assert_done(cellar_device_open_file(path, CELLAR_OPEN_WRITE, 0, &old_one));
    assert_done(cellar_file_create_hidden(path, 0644, CELLAR_FILE_MAPPED, &new_one));
    fill(new_one, "new");
    assert_int_equal(rename(path, moved), 0);
    assert_result(cellar_file_publish(new_one, path, old_one, &renamed), -ESTALE);
    assert_false(renamed);
    support_file_write(path, "precious", 8);
    assert_result(cellar_file_publish(new_one, path, old_one, &renamed), -ESTALE);
    assert_false(renamed);
    assert_content(path, "precious");
    assert_content(moved, "old");
    assert_content(support_path(*state, HIDDEN), "new");
    assert_done(cellar_device_close(old_one));
    assert_done(cellar_device_close(new_one));
}

static void test_replace(void **state)
{
    const char *path = support_path(*state, "store");
    struct cellar_device *old_one, *new_one;
    char buffer[3];
    bool renamed = false;

    support_file_write(path, "old", 3);
    assert_done(cellar_device_open_file(path, CELLAR_OPEN_WRITE, 0, &old_one));
    assert_done(cellar_device_lock(old_one, CELLAR_LOCK_WRITER));
    assert_done(cellar_file_create_hidden(path, 0644, CELLAR_FILE_MAPPED, &new_one));
    fill(new_one, "new");
    assert_done(cellar_file_publish(new_one, path, old_one, &renamed));
    assert_true(renamed);
    assert_content(path, "new");
    assert_int_equal(cellar_file_is_at(old_one, path), CELLAR_NONE);
    assert_int_equal(cellar_file_is_at(new_one, path), 0);
    assert_done(cellar_device_read(old_one, buffer, 3, 0));
    assert_memory_equal(buffer, "old", 3); /* who has it open still has it */
    assert_done(cellar_device_close(old_one));
    assert_done(cellar_device_close(new_one));
}

/* The new file's lock is the store's: it is held from the first moment, through the rename. */
static int lock_at(void *user)
{
    struct cellar_device *device;
    int error = cellar_device_open_file(user, CELLAR_OPEN_WRITE, 0, &device);

    if (error == 0) {
        error = cellar_device_lock(device, CELLAR_LOCK_WRITER);
        cellar_device_close(device);
    }
    return error;
}

static int make_hidden(void *user)
{
    struct cellar_device *device;
    int error = cellar_file_create_hidden(user, 0644, CELLAR_FILE_MAPPED, &device);

    if (error == 0)
        cellar_device_close(device);
    return error;
}

static void test_two_makers(void **state)
{
    char *path = support_path(*state, "store"), *hidden = support_path(*state, HIDDEN);
    struct cellar_device *device, *second = NULL;
    bool renamed;

    assert_done(cellar_file_create_hidden(path, 0644, CELLAR_FILE_MAPPED, &device));
    fill(device, "whole");
    assert_result(cellar_file_create_hidden(path, 0644, CELLAR_FILE_MAPPED, &second), CELLAR_EBUSY);
    assert_null(second);
    assert_result(support_child(make_hidden, path), CELLAR_EBUSY);
    assert_content(hidden, "whole"); /* nobody emptied it */
    assert_result(support_child(lock_at, hidden), CELLAR_EBUSY);
    assert_done(cellar_file_publish(device, path, NULL, &renamed));
    assert_result(support_child(lock_at, path), CELLAR_EBUSY);
    /* Now the hidden name is free for another. */
    assert_done(cellar_file_create_hidden(path, 0644, CELLAR_FILE_MAPPED, &second));
    assert_result(cellar_file_publish(second, path, NULL, &renamed), -EEXIST);
    assert_content(path, "whole");
    assert_done(cellar_device_close(second));
    assert_done(cellar_device_close(device));
    assert_done(support_child(lock_at, path));
}

/* What a maker left is out of the way. */
static void test_leftover(void **state)
{
    char *path = support_path(*state, "store"), *hidden = support_path(*state, HIDDEN);
    struct cellar_device *device;
    uint64_t size_bytes;
    char buffer[20];
    bool renamed;

    support_file_write(hidden, "left over by somebody", 21);
    assert_done(cellar_file_create_hidden(path, 0644, CELLAR_FILE_MAPPED, &device));
    assert_done(cellar_device_size(device, &size_bytes));
    assert_int_equal(size_bytes, 0);
    assert_done(cellar_device_grow(device, 0, 20));
    assert_done(cellar_device_read(device, buffer, 20, 0));
    assert_memory_equal(buffer, "\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 20);
    fill(device, "mine");
    assert_done(cellar_device_trim(device, 4));
    assert_done(cellar_file_publish(device, path, NULL, &renamed));
    assert_content(path, "mine");
    assert_done(cellar_device_close(device));
}

static void test_folders(void **state)
{
    struct cellar_device *device = NULL;
    const char *path = support_path(*state, "no folder/store");
    bool renamed = true;

    assert_result(cellar_file_create_hidden(path, 0644, CELLAR_FILE_MAPPED, &device), -ENOENT);
    assert_null(device);
    /* A folder under the hidden name is no leftover. */
    path = support_path(*state, "store");
    assert_int_equal(mkdir(support_path(*state, HIDDEN), 0700), 0);
    assert_result(cellar_file_create_hidden(path, 0644, CELLAR_FILE_MAPPED, &device), -EISDIR);
    assert_int_equal(rmdir(support_path(*state, HIDDEN)), 0);
    /* The hidden name is gone when it shall be given the true one. */
    assert_done(cellar_file_create_hidden(path, 0644, CELLAR_FILE_MAPPED, &device));
    assert_int_equal(unlink(support_path(*state, HIDDEN)), 0);
    assert_result(cellar_file_publish(device, path, NULL, &renamed), -ENOENT);
    assert_false(renamed);
    assert_result(cellar_file_publish(device, path, device, &renamed), -ESTALE);
    assert_false(renamed);
    assert_int_equal(cellar_file_is_at(device, path), CELLAR_NONE);
    assert_int_equal(cellar_file_is_at(device, support_path(*state, "store/below/nothing")), CELLAR_NONE);
    support_file_write(path, "x", 1);
    assert_int_equal(cellar_file_is_at(device, support_path(*state, "store/below")), -ENOTDIR);
    assert_done(cellar_device_close(device));
}

/* A link under the hidden name leads to somebody else's file: it is not followed. */
static void test_no_link_is_followed(void **state)
{
    const char *path = support_path(*state, "store"), *victim = support_path(*state, "victim");
    struct cellar_device *device = NULL;

    support_file_write(victim, "precious", 8);
    assert_int_equal(symlink(victim, support_path(*state, HIDDEN)), 0);
    assert_result(cellar_file_create_hidden(path, 0644, CELLAR_FILE_MAPPED, &device), -ELOOP);
    assert_null(device);
    assert_content(victim, "precious");
}

/*
 * Where rename can't refuse to replace, a file is published by a second link, and a crash can leave both names: the
 * hidden one is then no leftover to be emptied, but a whole store's, which may have been moved since.
 */
static void test_hidden_name_of_a_whole_file(void **state)
{
    const char *path = support_path(*state, "store"), *moved = support_path(*state, "moved");
    struct cellar_device *device;
    bool renamed;

    support_file_write(moved, "precious", 8);
    for (int in_use = 0; in_use < 2; in_use++) {
        struct cellar_device *writer;

        assert_done(cellar_device_open_file(moved, CELLAR_OPEN_WRITE, 0, &writer));
        if (in_use)
            assert_done(cellar_device_lock(writer, CELLAR_LOCK_WRITER));
        assert_int_equal(link(moved, support_path(*state, HIDDEN)), 0);
        assert_done(cellar_file_create_hidden(path, 0644, CELLAR_FILE_MAPPED, &device));
        fill(device, "new");
        (void)!unlink(path);
        assert_done(cellar_file_publish(device, path, NULL, &renamed));
        assert_content(moved, "precious");
        assert_content(path, "new");
        assert_done(cellar_device_close(device));
        assert_done(cellar_device_close(writer));
    }
}

/* A name without a folder in it, and one through a link. */
static int publish_bare_name(void *user)
{
    struct cellar_device *device;
    bool renamed = false;

    SUPPORT_CHILD_NEEDS(chdir(user) == 0);
    SUPPORT_CHILD_NEEDS(cellar_file_create_hidden("bare", 0644, CELLAR_FILE_PREAD, &device) == 0);
    SUPPORT_CHILD_NEEDS(cellar_file_publish(device, "bare", NULL, &renamed) == 0 && renamed);
    SUPPORT_CHILD_NEEDS(cellar_file_is_at(device, "./bare") == 0);
    SUPPORT_CHILD_NEEDS(symlink("bare", "link") == 0);
    SUPPORT_CHILD_NEEDS(cellar_file_is_at(device, "link") == 0);
    SUPPORT_CHILD_NEEDS(cellar_device_close(device) == 0);
    return 0;
}

static void test_bare_name(void **state)
{
    assert_int_equal(support_child(publish_bare_name, *state), 0);
    assert_true(is_there(support_path(*state, "bare")));
}

/* The longest name that a file can have: the hidden one is a hash of it. */
static void test_long_names(void **state)
{
    char name[256], other[256];

    for (size_t length = 238; length <= 255; length++) {
        const char *path, *other_path;
        struct cellar_device *device, *second;
        bool renamed;

        memset(name, 'n', length);
        name[length] = '\0';
        memcpy(other, name, length + 1);
        other[length - 1] = 'm';
        path = support_path(*state, name);
        other_path = support_path(*state, other);
        assert_done(cellar_file_create_hidden(path, 0644, CELLAR_FILE_MAPPED, &device));
        assert_result(cellar_file_create_hidden(path, 0644, CELLAR_FILE_MAPPED, &second), CELLAR_EBUSY);
        assert_done(
            cellar_file_create_hidden(other_path, 0644, CELLAR_FILE_MAPPED, &second)); /* another name, another maker */
        assert_done(cellar_file_publish(device, path, NULL, &renamed));
        cellar_file_discard_hidden(other_path);
        assert_int_equal(cellar_file_is_at(device, path), 0);
        assert_false(is_there(other_path));
        assert_done(cellar_device_close(second));
        assert_done(cellar_device_close(device));
    }
}

static void test_only_files_have_names(void **state)
{
    const char *path = support_path(*state, "store");
    struct cellar_device *device;
    bool renamed = true;

    support_file_write(support_path(*state, HIDDEN), "x", 1);
    assert_done(cellar_device_open_memory(NULL, 0, 10, &device));
    assert_result(cellar_file_is_at(device, path), -ENOTSUP);
    assert_result(cellar_file_publish(device, path, NULL, &renamed), -ENOTSUP);
    assert_false(renamed);
    assert_false(is_there(path));
    assert_done(cellar_device_close(device));
}

static void test_copy_mode(void **state)
{
    const char *from_path = support_path(*state, "from"), *to_path = support_path(*state, "to");
    struct cellar_device *from, *to, *memory;
    struct stat status;

    support_file_write(from_path, "x", 1);
    support_file_write(to_path, "y", 1);
    assert_int_equal(chmod(from_path, 0604), 0);
    assert_int_equal(chmod(to_path, 0660), 0);
    if (geteuid() == 0)
        assert_int_equal(chown(from_path, 1234, 5678), 0);
    assert_done(cellar_device_open_file(from_path, CELLAR_OPEN_READ, 0, &from));
    assert_done(cellar_device_open_pread(to_path, CELLAR_OPEN_WRITE, 0, &to));
    assert_done(cellar_device_open_memory(NULL, 0, 10, &memory));
    assert_done(cellar_file_copy_mode(from, to));
    assert_int_equal(stat(to_path, &status), 0);
    assert_int_equal(status.st_mode & 07777, 0604);
    if (geteuid() == 0) {
        assert_int_equal(status.st_uid, 1234);
        assert_int_equal(status.st_gid, 5678);
    }
    assert_result(cellar_file_copy_mode(memory, to), -ENOTSUP);
    assert_result(cellar_file_copy_mode(from, memory), -ENOTSUP);
    assert_done(cellar_device_close(memory));
    assert_done(cellar_device_close(to));
    assert_done(cellar_device_close(from));
}

/* Who may not give files away keeps his own; the mode is copied all the same. */
struct two_paths {
    const char *from, *to;
};

static int copy_mode_as_nobody(void *user)
{
    const struct two_paths *paths = user;
    struct cellar_device *from, *to;
    struct stat status;

    if (!support_drop_root())
        return -1;
    SUPPORT_CHILD_NEEDS(cellar_device_open_file(paths->from, CELLAR_OPEN_READ, 0, &from) == 0);
    SUPPORT_CHILD_NEEDS(cellar_device_open_file(paths->to, CELLAR_OPEN_WRITE | CELLAR_OPEN_CREATE, 0600, &to) == 0);
    SUPPORT_CHILD_NEEDS(cellar_file_copy_mode(from, to) == 0);
    SUPPORT_CHILD_NEEDS(stat(paths->to, &status) == 0 && (status.st_mode & 07777) == 0644);
    SUPPORT_CHILD_NEEDS(status.st_uid == geteuid());
    SUPPORT_CHILD_NEEDS(cellar_device_close(to) == 0 && cellar_device_close(from) == 0);
    return 0;
}

static void test_copy_mode_of_others(void **state)
{
    struct two_paths paths = {.from = support_path(*state, "from"), .to = support_path(*state, "to")};
    int result;

    support_file_write(paths.from, "x", 1);
    assert_int_equal(chmod(paths.from, 0644), 0);
    assert_int_equal(chmod(*state, 0777), 0);
    result = support_child(copy_mode_as_nobody, &paths);
    if (result == -1)
        support_skip("root can't become another user here");
    assert_int_equal(result, 0);
}

/* A maker that dies midway leaves its hidden file, and no lock. */
static int die_while_making(void *user)
{
    struct cellar_device *device;

    SUPPORT_CHILD_NEEDS(cellar_file_create_hidden(user, 0644, CELLAR_FILE_MAPPED, &device) == 0);
    SUPPORT_CHILD_NEEDS(cellar_device_grow(device, 0, 100000) == 0);
    SUPPORT_CHILD_NEEDS(support_device_write(device, "left over", 9, 5) == 0);
    raise(SIGKILL);
    return __LINE__;
}

static void test_death_of_a_maker(void **state)
{
    char *path = support_path(*state, "store");
    struct cellar_device *device;
    uint64_t size_bytes;

    assert_int_equal(support_child(die_while_making, path), -SIGKILL);
    assert_true(is_there(support_path(*state, HIDDEN)));
    assert_int_equal(support_file_size(support_path(*state, HIDDEN)), 100000);
    assert_done(cellar_file_create_hidden(path, 0644, CELLAR_FILE_MAPPED, &device));
    assert_done(cellar_device_size(device, &size_bytes));
    assert_int_equal(size_bytes, 0);
    assert_done(cellar_device_close(device));
}

int main(void)
{
#define WITH_FOLDER(test) cmocka_unit_test_setup_teardown(test, support_folder_setup, support_folder_teardown)
    const struct CMUnitTest tests[] = {
        WITH_FOLDER(test_make_and_publish),
        WITH_FOLDER(test_never_over_what_is_there),
        WITH_FOLDER(test_replace),
        WITH_FOLDER(test_replace_no_other),
        WITH_FOLDER(test_two_makers),
        WITH_FOLDER(test_leftover),
        WITH_FOLDER(test_folders),
        WITH_FOLDER(test_no_link_is_followed),
        WITH_FOLDER(test_hidden_name_of_a_whole_file),
        WITH_FOLDER(test_bare_name),
        WITH_FOLDER(test_long_names),
        WITH_FOLDER(test_copy_mode),
        WITH_FOLDER(test_copy_mode_of_others),
        WITH_FOLDER(test_only_files_have_names),
        WITH_FOLDER(test_death_of_a_maker),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
