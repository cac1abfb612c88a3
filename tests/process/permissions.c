/* What a process may do to the file decides what it may open; a reader needs to read, and changes nothing. */
#include "store_fixture.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { CANNOT_DROP = -1000 };

static int read_as_anybody(void *user)
{
    struct store_fixture *f = user;
    struct cellar_config config = store_config(32, 5000);
    struct cellar_reader_options options = store_reader_options(f);
    struct cellar_writer_options writer_options = store_options(f);
    struct cellar_reader *reader = NULL;
    struct cellar_writer *writer = NULL;
    struct cellar_snapshot snapshot;

    if (!support_drop_root())
        return CANNOT_DROP;
    SUPPORT_CHILD_NEEDS(cellar_writer_open(f->path, &writer_options, &writer) == -EACCES);
    SUPPORT_CHILD_NEEDS(cellar_writer_open_or_create(f->path, &config, &writer_options, &writer) == -EACCES);
    options.key = &f->key;
    SUPPORT_CHILD_NEEDS(cellar_reader_open(f->path, &options, &reader) == 0);
    snapshot = cellar_reader_snapshot(reader);
    SUPPORT_CHILD_NEEDS(snapshot.next_index == 508);
    SUPPORT_CHILD_NEEDS(store_cells_hold(&snapshot, 8, 500));
    SUPPORT_CHILD_NEEDS(cellar_reader_refresh(reader) == CELLAR_NONE);
    SUPPORT_CHILD_NEEDS(cellar_reader_check(reader) == 0);
    SUPPORT_CHILD_NEEDS(cellar_reader_check_key(reader, &f->key) == 0);
    cellar_reader_close(reader);
    return 0;
}

static void test_read_permission_is_enough(void **state)
{
    struct store_fixture *f = *state;
    struct cellar_writer *writer = store_new(f, 32, 5000);
    struct store_image image;
    struct stat before, after;
    int line;

    store_append(writer, 500);
    store_close(writer);
    assert_int_equal(chmod(f->path, 0444), 0);
    assert_int_equal(chmod(f->folder, 0555), 0);
    image = store_image_take(f);
    assert_int_equal(stat(f->path, &before), 0);
    line = support_child(read_as_anybody, f);
    assert_int_equal(chmod(f->folder, 0755), 0);
    if (line == CANNOT_DROP)
        support_skip("file modes mean nothing to this user");
    assert_int_equal(line, 0);
    assert_int_equal(stat(f->path, &after), 0);
    assert_memory_equal(&before.st_mtim, &after.st_mtim, sizeof before.st_mtim);
    assert_memory_equal(&before.st_ctim, &after.st_ctim, sizeof before.st_ctim);
    assert_int_equal(before.st_blocks, after.st_blocks);
    store_image_compare(f, image);
}

static int read_in_vain(void *user)
{
    struct store_fixture *f = user;
    struct cellar_config config = store_config(32, 5000);
    const char *other = support_path(f->folder, "other");
    struct cellar_diagnostic diagnostic = {.error = 0};
    struct cellar_reader_options options = store_reader_options(f);
    struct cellar_reader *reader = NULL;
    struct cellar_writer *writer = NULL;

    if (!support_drop_root())
        return CANNOT_DROP;
    options.diagnostic = &diagnostic;
    SUPPORT_CHILD_NEEDS(cellar_reader_open(f->path, &options, &reader) == -EACCES);
    SUPPORT_CHILD_NEEDS(diagnostic.error == -EACCES);
    SUPPORT_CHILD_NEEDS(strstr(diagnostic.message, f->path) != NULL);
    SUPPORT_CHILD_NEEDS(cellar_writer_create(other, &config, NULL, &writer) == -EACCES);
    SUPPORT_CHILD_NEEDS(cellar_writer_open_or_create(other, &config, NULL, &writer) == -EACCES);
    return 0;
}

static void test_no_permission(void **state)
{
    struct store_fixture *f = *state;
    int line;

    store_close(store_new(f, 32, 5000));
    assert_int_equal(chmod(f->path, 0200), 0);
    assert_int_equal(chmod(f->folder, 0555), 0);
    line = support_child(read_in_vain, f);
    assert_int_equal(chmod(f->folder, 0755), 0);
    if (line == CANNOT_DROP)
        support_skip("file modes mean nothing to this user");
    assert_int_equal(line, 0);
    assert_int_equal(store_folder_entries(f), 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        STORE_ON_FILES(test_read_permission_is_enough),
        STORE_ON_FILES(test_no_permission),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
