/* Truncating: an empty store in place of a full one, while readers keep what they have. */
#include "store_fixture.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static void test_truncate(void **state)
{
    struct store_fixture *f = *state;
    struct cellar_config config = store_config(32, 5000);
    struct cellar_writer *writer = store_new(f, 32, 5000);
    struct cellar_snapshot snapshot;
    struct cellar_info info;
    uint32_t index;
    void *cells;

    store_append(writer, 500);
    assert_done(cellar_writer_set_root(writer, 300));
    assert_done(cellar_writer_flush(writer));
    store_append(writer, 20); /* not committed: gone, too */
    assert_done(cellar_writer_reserve(writer, 2, &index, &cells));
    assert_done(cellar_writer_truncate(writer, 100));
    cellar_writer_info(writer, &info);
    assert_true(cellar_config_equal(&info.config, &config));
    assert_int_equal(info.next_index, 8);
    assert_int_equal(info.flushed_next_index, 8);
    assert_int_equal(info.root_index, CELLAR_ROOT_NONE);
    assert_int_equal(info.file_bytes, 3200);
    assert_int_equal(support_file_size(f->path), 3200);
    assert_int_equal(store_folder_entries(f), 1);
    store_assert_pair(f, CELLAR_DISK_1, 8, CELLAR_ROOT_NONE);
    store_assert_pair(f, CELLAR_PROCESS_1, 8, CELLAR_ROOT_NONE);

    assert_int_equal(store_append(writer, 60), 8);
    assert_done(cellar_writer_set_root(writer, 40));
    assert_done(cellar_writer_flush(writer));
    snapshot = cellar_writer_snapshot(writer);
    store_assert_cells(&snapshot);
    assert_done(cellar_writer_truncate(writer, 0)); /* and again, to the first length of a new store */
    cellar_writer_info(writer, &info);
    assert_int_equal(info.file_bytes, 65536);
    store_append(writer, 3);
    store_close(writer);
    writer = store_again(f);
    assert_int_equal(cellar_writer_next(writer), 11);
    assert_int_equal(cellar_writer_root(writer), CELLAR_ROOT_NONE);
    snapshot = cellar_writer_snapshot(writer);
    store_assert_cells(&snapshot);
    store_close(writer);
}

/* Whoever writes goes on under the same key, and still alone. */
static void test_truncate_keeps_the_lock(void **state)
{
    struct store_fixture *f = *state;
    struct cellar_writer_options options = store_options(f);
    struct cellar_writer *writer = store_new(f, 32, 5000), *second = NULL;
    struct cellar_reader *reader;

    store_append(writer, 10);
    assert_done(cellar_writer_truncate(writer, 0));
    assert_result(store_open(f, &options, &second), CELLAR_EBUSY);
    reader = store_reader(f, &f->key);
    store_append(writer, 2);
    assert_done(cellar_writer_commit(writer));
    assert_done(cellar_reader_refresh(reader));
    assert_int_equal(cellar_reader_snapshot(reader).next_index, 10);
    cellar_reader_close(reader);
    cellar_writer_abandon(writer);
    store_close(store_again(f));
}

static void test_readers_of_a_truncated_store(void **state)
{
    struct store_fixture *f = *state;
    struct cellar_writer *writer = store_new(f, 32, 5000);
    struct cellar_snapshot snapshot, same;
    struct cellar_reader *reader, *with_key, *fresh;

    store_append(writer, 700);
    assert_done(cellar_writer_set_root(writer, 300));
    assert_done(cellar_writer_flush(writer));
    reader = store_reader(f, NULL);
    with_key = store_reader(f, &f->key);
    snapshot = cellar_reader_snapshot(reader);
    assert_done(cellar_writer_truncate(writer, 0));
    store_append(writer, 900);
    assert_done(cellar_writer_flush(writer));

    store_assert_cells(&snapshot); /* stays true */
    assert_result(cellar_reader_refresh(reader), CELLAR_ERETIRED);
    assert_int_equal(cellar_reader_diagnostic(reader)->error, CELLAR_ERETIRED);
    assert_int_equal(cellar_reader_diagnostic(reader)->file_offset, CELLAR_AT_FLAGS);
    assert_result(cellar_reader_refresh(reader), CELLAR_ERETIRED);
    assert_result(cellar_reader_refresh(with_key), CELLAR_ERETIRED);
    assert_result(cellar_reader_check(reader), CELLAR_ERETIRED);
    same = cellar_reader_snapshot(reader);
    assert_int_equal(same.next_index, 708);
    assert_int_equal(same.root_index, 300);
    store_assert_cells(&same);
    fresh = store_reader(f, NULL);
    assert_int_equal(cellar_reader_snapshot(fresh).next_index, 908);
    cellar_reader_close(fresh);
    cellar_reader_close(reader);
    cellar_reader_close(with_key);
    store_close(writer);
}

/* The old file may have another name: under that it is a store still. Only who had it open under this one is told. */
static void test_old_file_under_another_name(void **state)
{
    struct store_fixture *f = *state;
    const char *path = f->path, *other = support_path(f->folder, "other-name");
    struct cellar_writer *writer = store_new(f, 32, 5000), *second;
    struct cellar_reader *before, *after;
    struct cellar_snapshot snapshot;

    assert_int_equal(link(path, other), 0);
    store_append(writer, 10);
    assert_done(cellar_writer_flush(writer));
    before = store_reader(f, NULL);
    assert_done(cellar_writer_truncate(writer, 0));
    f->path = other;
    after = store_reader(f, NULL);
    assert_int_equal(cellar_reader_snapshot(after).next_index, 18);
    assert_result(cellar_reader_refresh(after), CELLAR_NONE);
    assert_result(cellar_reader_refresh(before), CELLAR_ERETIRED);
    second = store_again(f);
    snapshot = cellar_writer_snapshot(second);
    assert_int_equal(snapshot.next_index, 18);
    store_assert_cells(&snapshot);
    store_append(second, 5);
    assert_done(cellar_writer_flush(second));
    assert_done(cellar_reader_refresh(after));
    assert_int_equal(cellar_reader_snapshot(after).next_index, 23);
    assert_done(cellar_writer_truncate(second, 0)); /* this one it is told */
    assert_result(cellar_reader_refresh(after), CELLAR_ERETIRED);
    cellar_reader_close(before);
    cellar_reader_close(after);
    store_close(second);
    f->path = path;
    assert_int_equal(cellar_writer_next(writer), 8);
    store_close(writer);
}

/* A store that was moved away, or replaced by another one, is not there to be replaced. */
static void test_truncate_a_moved_store(void **state)
{
    struct store_fixture *f = *state;
    const char *path = f->path, *moved = support_path(f->folder, "moved");
    struct cellar_writer *writer = store_new(f, 32, 5000);
    struct store_image image;

    store_append(writer, 10);
    assert_done(cellar_writer_flush(writer));
    assert_int_equal(rename(path, moved), 0);
    assert_result(cellar_writer_truncate(writer, 0), -ESTALE);
    assert_int_equal(store_folder_entries(f), 1);
    store_close(store_new(f, 32, 5000)); /* somebody else's, under the old name */
    image = store_image_take(f);
    assert_result(cellar_writer_truncate(writer, 0), -ESTALE);
    store_image_compare(f, image);
    assert_int_equal(store_folder_entries(f), 2);
    assert_int_equal(store_append(writer, 3), 18); /* it goes on where it is */
    store_close(writer);
    f->path = moved;
    writer = store_again(f);
    assert_int_equal(cellar_writer_next(writer), 21);
    store_close(writer);
    f->path = path;
}

/* Where it can't be done the store, and what was appended to it, is as it was. */
static void test_truncate_fails(void **state)
{
    struct store_fixture *f = *state;
    struct cellar_writer *writer = store_new(f, 32, 5000);
    struct cellar_snapshot snapshot;
    void *cells;
    uint32_t index;

    store_append(writer, 10);
    assert_done(cellar_writer_commit(writer));
    store_append(writer, 5);
    assert_done(cellar_writer_set_root(writer, 22));
    assert_done(cellar_writer_reserve(writer, 1, &index, &cells));
    assert_result(cellar_writer_truncate(writer, 7), -EINVAL); /* less than the header */
    store_cell_bytes(index, cells, 32);
    assert_int_equal(cellar_writer_next(writer), 24);
    assert_int_equal(cellar_writer_root(writer), 22);
    assert_int_equal(store_folder_entries(f), 1);
    assert_done(cellar_writer_flush(writer));
    snapshot = cellar_writer_snapshot(writer);
    assert_int_equal(snapshot.next_index, 24);
    store_assert_cells(&snapshot);
    store_close(writer);
}

/* Who may read the store is not changed by emptying it. */
static void test_truncate_keeps_the_mode(void **state)
{
    struct store_fixture *f = *state;
    struct cellar_writer *writer = store_new(f, 32, 5000);
    struct stat status;

    store_close(writer);
    assert_int_equal(chmod(f->path, 0600), 0);
    writer = store_again(f); /* its options say nothing of modes */
    assert_done(cellar_writer_truncate(writer, 0));
    assert_int_equal(stat(f->path, &status), 0);
    assert_int_equal(status.st_mode & 07777, 0600);
    store_close(writer);
}

static void test_truncate_not_supported(void **state)
{
    struct store_fixture *f = *state;
    struct cellar_config config = store_config(32, 5000);
    struct cellar_writer_options options = store_options(f);
    struct cellar_writer *writer = NULL;

    options.compat = !f->way->memory; /* in compat mode, and on a device of the caller's */
    assert_done(store_create(f, &config, &options, &writer));
    store_append(writer, 10);
    assert_result(cellar_writer_truncate(writer, 0), -ENOTSUP);
    assert_int_equal(cellar_writer_next(writer), 18);
    store_close(writer);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        STORE_ON_FILES(test_truncate),
        STORE_ON_FILES(test_truncate_keeps_the_lock),
        STORE_ON_FILES(test_readers_of_a_truncated_store),
        STORE_ON_FILES(test_old_file_under_another_name),
        STORE_ON_FILES(test_truncate_a_moved_store),
        STORE_ON_FILES(test_truncate_fails),
        STORE_ON_FILES(test_truncate_keeps_the_mode),
        STORE_ON_ALL(test_truncate_not_supported),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
