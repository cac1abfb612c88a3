/* The file of a store and its name: how it appears, what happens to what lies beside it, links, modes, devices. */
#include "device_fault.h"
#include "store_fixture.h"

#include "device/file.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* A maker died: what it left is neither in the way nor left behind. */
static void test_leftover_is_taken_over(void **state)
{
    struct store_fixture *f = *state;
    unsigned char garbage[5000];
    struct cellar_snapshot snapshot;
    struct cellar_writer *writer;
    struct cellar_device *leftover;

    assert_done(cellar_file_create_hidden(f->path, 0644, CELLAR_FILE_PREAD, &leftover));
    support_bytes(1, garbage, sizeof garbage);
    assert_done(cellar_device_grow(leftover, 0, sizeof garbage));
    assert_done(support_device_write(leftover, garbage, sizeof garbage, 0));
    assert_done(cellar_device_close(leftover));
    assert_int_equal(store_folder_entries(f), 1);
    writer = store_new(f, 32, 1000);
    assert_int_equal(store_folder_entries(f), 1);
    store_append(writer, 3);
    store_close(writer);
    writer = store_again(f);
    assert_int_equal(cellar_writer_next(writer), 11);
    snapshot = cellar_writer_snapshot(writer);
    store_assert_cells(&snapshot);
    store_close(writer);
}

/* Two makers at once: the second finds the first one's lock. */
static void test_making_at_the_same_time(void **state)
{
    struct store_fixture *f = *state;
    struct cellar_config config = store_config(32, 1000);
    struct cellar_writer *writer = NULL;
    struct cellar_device *other;

    assert_done(cellar_file_create_hidden(f->path, 0644, CELLAR_FILE_PREAD, &other));
    assert_result(cellar_writer_create(f->path, &config, NULL, &writer), CELLAR_EBUSY);
    assert_result(cellar_writer_open_or_create(f->path, &config, NULL, &writer), CELLAR_EBUSY);
    assert_int_equal(store_folder_entries(f), 1); /* the other one's file is still there */
    assert_done(cellar_device_close(other));
    assert_done(cellar_writer_create(f->path, &config, NULL, &writer));
    store_close(writer);
}

/* The same when a store is truncated: it stays as it is. */
static void test_truncating_at_the_same_time(void **state)
{
    struct store_fixture *f = *state;
    struct cellar_writer *writer = store_new(f, 32, 1000);
    struct cellar_snapshot snapshot;
    struct cellar_device *other;

    store_append(writer, 3);
    assert_done(cellar_file_create_hidden(f->path, 0644, CELLAR_FILE_PREAD, &other));
    assert_result(cellar_writer_truncate(writer, 0), CELLAR_EBUSY);
    assert_int_equal(cellar_writer_next(writer), 11);
    snapshot = cellar_writer_snapshot(writer);
    store_assert_cells(&snapshot);
    assert_done(cellar_device_close(other));
    assert_done(cellar_writer_truncate(writer, 0));
    assert_int_equal(cellar_writer_next(writer), 8);
    store_close(writer);
}

/* A store of somebody's with a name that ends like a new one is not a leftover. */
static void test_neighbour_is_left_alone(void **state)
{
    struct store_fixture *f = *state;
    struct cellar_config config = store_config(32, 1000);
    struct cellar_writer *writer = NULL;
    struct store_image image;
    const char *path = f->path;

    f->path = support_path(f->folder, "store.new");
    writer = store_new(f, 32, 1000);
    store_append(writer, 9);
    store_close(writer);
    image = store_image_take(f);
    assert_done(cellar_writer_create(path, &config, NULL, &writer));
    assert_done(cellar_writer_truncate(writer, 0));
    store_close(writer);
    store_image_compare(f, image);
}

static void test_modes(void **state)
{
    static const struct {
        unsigned file_mode, umask, expected;
    } cases[] = {{0, 022, 0644}, {0, 077, 0600}, {0600, 0, 0600}, {0664, 002, 0664}, {0666, 027, 0640}};
    struct store_fixture *f = *state;
    struct cellar_config config = store_config(32, 1000);

    for (size_t i = 0; i < SUPPORT_COUNT(cases); i++) {
        struct cellar_writer_options options = store_options(f);
        struct cellar_writer *writer = NULL;
        struct stat status;
        mode_t before = umask((mode_t)cases[i].umask);

        options.file_mode = cases[i].file_mode;
        assert_done(cellar_writer_create(f->path, &config, &options, &writer));
        umask(before);
        assert_int_equal(stat(f->path, &status), 0);
        assert_int_equal(status.st_mode & 07777, cases[i].expected);
        store_close(writer);
        store_remove(f);
    }
}

static void test_links(void **state)
{
    struct store_fixture *f = *state;
    struct cellar_config config = store_config(32, 1000);
    const char *folder_link = support_path(f->folder, "folder-link");
    const char *store_link = support_path(f->folder, "store-link");
    const char *path_by_link = support_path(f->folder, "folder-link/store");
    struct cellar_writer *writer = NULL, *second = NULL;

    assert_int_equal(symlink(".", folder_link), 0);
    assert_int_equal(symlink("store", store_link), 0);
    assert_done(cellar_writer_create(path_by_link, &config, NULL, &writer));
    assert_result(cellar_writer_open(store_link, NULL, &second), CELLAR_EBUSY);
    store_append(writer, 4);
    assert_done(cellar_writer_flush(writer));
    assert_done(cellar_writer_truncate(writer, 0)); /* the folder's file, not the link */
    store_close(writer);
    assert_int_equal(store_folder_entries(f), 3);
    assert_done(cellar_writer_open(store_link, NULL, &writer));
    assert_int_equal(cellar_writer_next(writer), 8);
    store_append(writer, 2);
    assert_done(cellar_writer_truncate(writer, 0)); /* the store that the link names, and it stays a link */
    store_append(writer, 1);
    store_close(writer);
    assert_int_equal(store_folder_entries(f), 3);
    writer = store_again(f);
    assert_int_equal(cellar_writer_next(writer), 9);
    store_close(writer);
}

static int open_in_child(void *user)
{
    struct cellar_config config = store_config(32, 1000);
    struct cellar_writer *writer = NULL;

    alarm(10); /* ends a child that goes round in circles */
    return cellar_writer_open_or_create(user, &config, NULL, &writer);
}

/* A link to nothing: neither there nor free. It ends, with an error. */
static void test_dangling_link(void **state)
{
    struct store_fixture *f = *state;
    struct cellar_config config = store_config(32, 1000);
    struct cellar_writer *writer = NULL;
    int error;

    assert_int_equal(symlink("nothing", f->path), 0);
    assert_result(cellar_writer_open(f->path, NULL, &writer), -ENOENT);
    assert_result(cellar_writer_create(f->path, &config, NULL, &writer), -EEXIST);
    error = support_child(open_in_child, (void *)(uintptr_t)f->path);
    assert_true(error == -EEXIST || error == -ENOENT);
    error = support_child(open_in_child, support_path(f->folder, "store/"));
    assert_true(error == -EEXIST || error == -ENOENT || error == -ENOTDIR || error == -EISDIR);
    assert_int_equal(store_folder_entries(f), 1);
}

/* No name at all is the name of nothing. */
static void test_empty_path(void **state)
{
    struct cellar_config config = store_config(32, 1000);
    struct cellar_writer *writer = NULL;
    struct cellar_reader *reader = NULL;

    (void)state;
    assert_result(cellar_writer_open("", NULL, &writer), -ENOENT);
    assert_result(cellar_writer_create("", &config, NULL, &writer), -ENOENT);
    assert_result(support_child(open_in_child, (void *)(uintptr_t) ""), -ENOENT);
    assert_result(cellar_reader_open("", NULL, &reader), -ENOENT);
}

static void test_no_regular_file(void **state)
{
    struct store_fixture *f = *state;
    struct cellar_config config = store_config(32, 1000);
    struct cellar_writer *writer = NULL;
    struct cellar_reader *reader = NULL;

    assert_int_equal(mkdir(f->path, 0755), 0);
    assert_result(cellar_writer_open(f->path, NULL, &writer), -EISDIR);
    assert_result(cellar_reader_open(f->path, NULL, &reader), -EISDIR);
    assert_result(cellar_writer_open_or_create(f->path, &config, NULL, &writer), -EISDIR);
    assert_int_equal(rmdir(f->path), 0);
    assert_int_equal(mkfifo(f->path, 0644), 0); /* nobody is held up by it */
    assert_result(cellar_writer_open(f->path, NULL, &writer), -EINVAL);
    assert_result(cellar_reader_open(f->path, NULL, &reader), -EINVAL);
    assert_result(cellar_writer_open_or_create(f->path, &config, NULL, &writer), -EINVAL);
    assert_null(writer);
    assert_null(reader);
}

static void test_names_are_relative(void **state)
{
    struct store_fixture *f = *state;
    struct cellar_config config = store_config(32, 1000);
    struct cellar_writer *writer = NULL;
    struct cellar_info info;
    char *before = getcwd(NULL, 0);

    assert_non_null(before);
    assert_int_equal(chdir(f->folder), 0);
    assert_done(cellar_writer_create("store", &config, NULL, &writer));
    cellar_writer_info(writer, &info);
    assert_string_equal(info.path, "store");
    assert_int_equal(chdir(before), 0);
    store_append(writer, 1);
    assert_done(cellar_writer_truncate(writer, 0)); /* still the same store */
    store_append(writer, 2);
    store_close(writer);
    writer = store_again(f);
    assert_int_equal(cellar_writer_next(writer), 10);
    store_close(writer);
    free(before);
}

/* ---- devices of the caller's ---- */

static void test_create_on_needs_an_empty_device(void **state)
{
    struct cellar_config config = store_config(32, 1000);
    struct cellar_writer *writer = NULL;
    struct cellar_device *device;
    struct cellar_diagnostic diagnostic;
    struct cellar_writer_options options = {.diagnostic = &diagnostic};

    (void)state;
    assert_done(cellar_device_open_memory("x", 1, 1 << 20, &device));
    assert_result(cellar_writer_create_on(device, &config, &options, &writer), -EEXIST);
    assert_int_equal(diagnostic.error, -EEXIST);
    assert_done(cellar_device_lock(device, CELLAR_LOCK_WRITER)); /* it has let go of it */
    assert_done(cellar_device_trim(device, 0));
    assert_result(cellar_writer_create_on(device, &config, &options, &writer), CELLAR_EBUSY);
    assert_done(cellar_device_unlock(device, CELLAR_LOCK_WRITER));
    config.bytes_per_cell = 1;
    assert_result(cellar_writer_create_on(device, &config, &options, &writer), -EINVAL);
    assert_int_equal(diagnostic.error, -EINVAL);
    config.bytes_per_cell = 32;
    assert_done(cellar_writer_create_on(device, &config, &options, &writer));
    assert_result(cellar_writer_truncate(writer, 0), -ENOTSUP);
    store_append(writer, 1);
    store_close(writer);
    cellar_device_close(device);
}

static void test_read_only_device(void **state)
{
    struct store_fixture *f = *state;
    struct cellar_config config = store_config(32, 1000);
    struct cellar_writer *writer = store_new(f, 32, 1000);
    struct cellar_reader *reader = NULL;
    struct cellar_device *device;
    struct store_image image;

    store_append(writer, 5);
    store_close(writer);
    image = store_image_take(f);
    assert_done(cellar_device_open_file(f->path, CELLAR_OPEN_READ, 0, &device));
    assert_result(cellar_writer_open_on(device, NULL, &writer), -EROFS);
    assert_result(cellar_writer_create_on(device, &config, NULL, &writer), -EROFS);
    assert_done(cellar_reader_open_on(device, NULL, &reader));
    cellar_reader_close(reader);
    cellar_device_close(device);
    store_image_compare(f, image);
}

/* One handle of a device has one writer, whatever its lock thinks of that. */
static void test_two_writers_on_one_device(void **state)
{
    struct store_fixture *f = *state;
    struct cellar_writer *writer = NULL, *second = NULL;
    struct cellar_device *device;

    store_close(store_new(f, 32, 1000));
    assert_done(cellar_device_open_file(f->path, CELLAR_OPEN_WRITE, 0, &device));
    assert_done(cellar_writer_open_on(device, NULL, &writer));
    assert_result(cellar_writer_open_on(device, NULL, &second), CELLAR_EBUSY);
    store_close(writer);
    assert_done(cellar_writer_open_on(device, NULL, &writer));
    store_close(writer);
    cellar_device_close(device);
}

/* What a device can't, the store does without, or says so. */
static void test_poor_devices(void **state)
{
    struct cellar_config config = store_config(32, 1000);
    struct fault_device fault = {.without = FAULT_BIT(FAULT_WINDOW) | FAULT_BIT(FAULT_LOCK) | FAULT_BIT(FAULT_SYNC)};
    struct cellar_writer_options mapped = {.device = CELLAR_DEVICE_MAPPED};
    struct cellar_reader_options mapped_reader = {.device = CELLAR_DEVICE_MAPPED};
    struct cellar_writer *writer = NULL;
    struct cellar_reader *reader = NULL;
    struct cellar_device *device;
    struct cellar_info info;

    (void)state;
    assert_done(cellar_device_open_memory(NULL, 0, 1 << 20, &fault.inner));
    assert_done(fault_device_open(&fault, &device));
    assert_result(cellar_writer_create_on(device, &config, &mapped, &writer), -ENOTSUP);
    assert_done(cellar_device_trim(device, 0));
    assert_done(cellar_writer_create_on(device, &config, NULL, &writer));
    cellar_writer_info(writer, &info);
    assert_int_equal(info.data_path, CELLAR_PATH_PAGES); /* said, not silent */
    assert_int_equal(info.window_bytes, 0);
    assert_string_equal(info.device_name, "fault");
    store_append(writer, 5);
    store_close(writer);
    assert_result(cellar_reader_open_on(device, &mapped_reader, &reader), -ENOTSUP);
    assert_result(cellar_writer_open_on(device, &mapped, &writer), -ENOTSUP);
    assert_done(cellar_reader_open_on(device, NULL, &reader));
    cellar_reader_info(reader, &info);
    assert_int_equal(info.data_path, CELLAR_PATH_PAGES);
    cellar_reader_close(reader);
    cellar_device_close(device);
}

/* A device that is as long as its store and can't grow is a store that doesn't, either. */
static void test_fixed_size_device(void **state)
{
    struct cellar_config config = store_config(32, 1000);
    struct fault_device fault = {.without = FAULT_BIT(FAULT_GROW)};
    struct cellar_writer_options options = {.initial_cells = 10, .device = CELLAR_DEVICE_PAGES};
    struct cellar_writer *writer = NULL;
    struct cellar_device *device, *inner;
    unsigned char cells[3 * 32] = {0};
    uint32_t index;

    (void)state;
    assert_done(cellar_device_open_memory(NULL, 0, 1 << 20, &inner));
    fault.inner = inner;
    fault.keep_inner = true;
    assert_done(fault_device_open(&fault, &device));
    assert_result(cellar_writer_create_on(device, &config, &options, &writer), -ENOSPC);
    assert_done(cellar_writer_create_on(inner, &config, &options, &writer));
    store_close(writer);
    assert_done(cellar_writer_open_on(device, &options, &writer));
    assert_result(cellar_writer_append(writer, cells, 3, &index), -ENOSPC);
    assert_done(cellar_writer_append(writer, cells, 2, &index));
    assert_result(cellar_writer_append(writer, cells, 1, &index), -ENOSPC);
    assert_done(cellar_writer_flush(writer)); /* it goes on with what it has */
    store_close(writer);
    cellar_device_close(device);
    cellar_device_close(inner);
}

/* ---- the space of an existing file ---- */

/* With a window the file ends at its last cell, and has no holes below: no store into it meets a full disk. */
static void test_space_is_secured(void **state)
{
    struct store_fixture *f = *state;
    struct cellar_writer *writer = store_new(f, 4096, 1000);
    struct cellar_snapshot snapshot;
    unsigned char *bytes;
    size_t length_bytes;
    struct stat status;

    store_append(writer, 200);
    assert_done(cellar_writer_flush(writer));
    cellar_writer_abandon(writer); /* a crash: the file is longer than its cells, which lie in a sparse one */
    bytes = support_file_read(f->path, &length_bytes);
    assert_int_equal(unlink(f->path), 0);
    support_file_write(f->path, bytes, 256);
    assert_int_equal(truncate(f->path, 300 * 4096), 0);
    support_file_patch(f->path, 100 * 4096, bytes + 100 * 4096, 4096);
    writer = store_again(f);
    assert_int_equal(cellar_writer_next(writer), 201);
    assert_int_equal(stat(f->path, &status), 0);
    assert_int_equal(status.st_size, 201 * 4096);
    assert_true(status.st_blocks * 512 >= 201 * 4096);
    snapshot = cellar_writer_snapshot(writer);
    assert_true(store_cells_hold(&snapshot, 100, 1)); /* what was there is as it was */
    store_append(writer, 5);
    store_close(writer);
    writer = store_again(f);
    snapshot = cellar_writer_snapshot(writer);
    assert_true(store_cells_hold(&snapshot, 201, 5));
    store_close(writer);
    free(bytes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        STORE_ON_FILES(test_leftover_is_taken_over),
        STORE_ON_FILES(test_making_at_the_same_time),
        STORE_ON_FILES(test_truncating_at_the_same_time),
        STORE_ON(test_neighbour_is_left_alone, STORE_MAPPED),
        STORE_ON_FILES(test_modes),
        STORE_ON(test_links, STORE_MAPPED),
        STORE_ON(test_dangling_link, STORE_MAPPED),
        cmocka_unit_test(test_empty_path),
        STORE_ON(test_no_regular_file, STORE_MAPPED),
        STORE_ON(test_names_are_relative, STORE_MAPPED),
        cmocka_unit_test(test_create_on_needs_an_empty_device),
        STORE_ON(test_read_only_device, STORE_MAPPED),
        STORE_ON(test_two_writers_on_one_device, STORE_MAPPED),
        cmocka_unit_test(test_poor_devices),
        cmocka_unit_test(test_fixed_size_device),
        STORE_ON(test_space_is_secured, STORE_MAPPED),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
