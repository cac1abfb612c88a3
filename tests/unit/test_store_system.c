/* The store where the system fails it: every call of every kind, one after the other; and races for a file's name. */
#include "store_fixture.h"
#include "system_fault.h"

#include "base/fork.h"

static const long BTRFS = 0x9123683e;

/* What rename gives instead of renaming; 0: it renames. */
static int rename_error;

int rename(const char *from, const char *to)
{
    if (rename_error == 0)
        return renameat2(AT_FDCWD, from, AT_FDCWD, to, 0);
    errno = rename_error;
    return -1;
}

/* ---- file systems that give no window ---- */

static void assert_path_taken(struct cellar_writer *writer, enum cellar_data_path data_path, const char *device_name)
{
    struct cellar_info info;

    cellar_writer_info(writer, &info);
    assert_int_equal(info.data_path, data_path);
    assert_string_equal(info.device_name, device_name);
}

/* Where the file system copies on write the store runs on pages, and says so; who insists on a window is refused. */
static void test_copying_file_system(void **state)
{
    struct store_fixture *f = *state;
    struct cellar_config config = store_config(32, 5000);
    struct cellar_writer_options options = store_options(f), insisting = store_options(f);
    struct cellar_reader_options reader_options = {.device = CELLAR_DEVICE_MAPPED};
    struct cellar_writer *writer = NULL;
    struct cellar_reader *reader = NULL;
    struct cellar_info info;

    options.device = CELLAR_DEVICE_AUTO;
    insisting.device = CELLAR_DEVICE_MAPPED;
    system_kind = BTRFS;
    assert_result(cellar_writer_create(f->path, &config, &insisting, &writer), -ENOTSUP);
    assert_int_equal(store_folder_entries(f), 0);
    assert_done(cellar_writer_create(f->path, &config, &options, &writer));
    assert_path_taken(writer, CELLAR_PATH_PAGES, "pread");
    store_append(writer, 20);
    assert_done(cellar_writer_truncate(writer, 0));
    assert_path_taken(writer, CELLAR_PATH_PAGES, "pread");
    store_append(writer, 10);
    store_close(writer);
    assert_result(cellar_writer_open(f->path, &insisting, &writer), -ENOTSUP);
    assert_result(cellar_reader_open(f->path, &reader_options, &reader), -ENOTSUP);
    assert_done(cellar_writer_open_or_create(f->path, &config, &options, &writer));
    assert_path_taken(writer, CELLAR_PATH_PAGES, "pread");
    assert_done(cellar_reader_open(f->path, NULL, &reader));
    cellar_reader_info(reader, &info);
    assert_int_equal(info.data_path, CELLAR_PATH_PAGES);
    assert_string_equal(info.device_name, "pread");
    assert_int_equal(cellar_reader_snapshot(reader).next_index, 18);
    cellar_reader_close(reader);
    store_close(writer);
    system_heal();
    assert_done(cellar_writer_open(f->path, &options, &writer)); /* on another one: mapped */
    assert_path_taken(writer, CELLAR_PATH_WINDOW, "file");
    store_close(writer);
}

/* The same where there are no addresses left. */
static void test_no_address_space(void **state)
{
    struct store_fixture *f = *state;
    struct cellar_config config = store_config(32, 5000);
    struct cellar_writer_options options = store_options(f);
    struct cellar_writer *writer = NULL;
    struct cellar_reader *reader = NULL;
    const struct cellar_fork_page *page; /* the process's, and there before; test_fork.c has it fail */
    struct cellar_info info;

    assert_done(cellar_fork_page_take(&page));
    options.device = CELLAR_DEVICE_AUTO;
    system_fail(SYSTEM_MMAP, 1, 1000, ENOMEM);
    assert_done(cellar_writer_create(f->path, &config, &options, &writer));
    assert_path_taken(writer, CELLAR_PATH_PAGES, "pread");
    system_fail(SYSTEM_MMAP, 1, 1000, ENOMEM);
    assert_done(cellar_reader_open(f->path, NULL, &reader));
    cellar_reader_info(reader, &info);
    assert_int_equal(info.data_path, CELLAR_PATH_PAGES);
    cellar_reader_close(reader);
    store_close(writer);
    system_heal();
}

/* ---- every call fails once ---- */

static const enum system_call kinds[] = {
    SYSTEM_OPEN,      SYSTEM_FSTAT,     SYSTEM_FSTATFS, SYSTEM_PREAD,     SYSTEM_PWRITE,
    SYSTEM_PWRITEV,   SYSTEM_PWRITEV2,  SYSTEM_FSYNC,   SYSTEM_FDATASYNC, SYSTEM_MSYNC,
    SYSTEM_FALLOCATE, SYSTEM_FTRUNCATE, SYSTEM_FCNTL,   SYSTEM_RENAMEAT2, SYSTEM_UNLINK,
    SYSTEM_FCHOWN,    SYSTEM_FCHMOD,    SYSTEM_MMAP,    SYSTEM_MUNMAP,    SYSTEM_CLOSE,
};

enum { CALLS_MAX = 60 };

/* The store can be opened and holds that many cells, or (0) it may be missing. */
static void assert_sound(struct store_fixture *f, uint32_t cells)
{
    struct cellar_writer_options options = store_options(f);
    struct cellar_snapshot snapshot;
    struct cellar_writer *writer = NULL;
    int error = store_open(f, &options, &writer);

    if (error == -ENOENT && cells == 0)
        return;
    assert_int_equal(error, 0);
    snapshot = cellar_writer_snapshot(writer);
    assert_int_equal(snapshot.next_index, 8 + cells);
    store_assert_cells(&snapshot);
    store_close(writer);
}

/* An error is one of the system's or of the device's, and it is explained. */
static void assert_explained(int error, const struct cellar_diagnostic *diagnostic)
{
    assert_true(error < 0);
    assert_int_equal(diagnostic->error, error);
    assert_true(strlen(diagnostic->message) > 0);
}

static void test_failing_create(void **state)
{
    struct store_fixture *f = *state;
    struct cellar_config config = store_config(32, 5000);
    struct cellar_writer_options options = store_options(f);
    struct cellar_diagnostic diagnostic;
    unsigned failures = 0;

    options.diagnostic = &diagnostic;
    for (size_t i = 0; i < SUPPORT_COUNT(kinds); i++) {
        for (int nth = 1; nth <= CALLS_MAX; nth++) {
            struct cellar_writer *writer = NULL;
            int error, calls;

            system_fail(kinds[i], nth, 1, EIO);
            error = cellar_writer_create(f->path, &config, &options, &writer);
            calls = system_calls(kinds[i]);
            system_heal();
            if (error != 0) {
                failures++;
                assert_null(writer);
                assert_explained(error, &diagnostic);
                assert_true(store_folder_entries(f) <= 1);
            } else {
                store_append(writer, 3);
                assert_done(cellar_writer_rollback(writer));
                store_close(writer);
            }
            assert_sound(f, 0);
            if (access(f->path, F_OK) == 0)
                store_remove(f);
            if (calls < nth)
                break;
        }
    }
    assert_true(failures > 10);
}

static void test_failing_open(void **state)
{
    struct store_fixture *f = *state;
    struct cellar_writer_options options = store_options(f);
    struct cellar_writer *writer = store_new(f, 32, 5000);
    struct cellar_diagnostic diagnostic;
    unsigned failures = 0;

    store_append(writer, 30);
    store_close(writer);
    options.diagnostic = &diagnostic;
    for (size_t i = 0; i < SUPPORT_COUNT(kinds); i++) {
        for (int nth = 1; nth <= CALLS_MAX; nth++) {
            int error, calls;

            writer = NULL;
            store_break_slot(f, CELLAR_DISK_1);
            store_break_slot(f, CELLAR_PROCESS_1);
            system_heal();
            system_fail(kinds[i], nth, 1, EIO);
            error = store_open(f, &options, &writer);
            calls = system_calls(kinds[i]);
            system_heal();
            if (error != 0) {
                failures++;
                assert_null(writer);
                assert_explained(error, &diagnostic);
            } else {
                cellar_writer_abandon(writer);
            }
            assert_sound(f, 30);
            if (calls < nth)
                break;
        }
    }
    assert_true(failures > 8);
}

static void test_failing_reader(void **state)
{
    struct store_fixture *f = *state;
    struct cellar_reader_options options = store_reader_options(f);
    struct cellar_writer *writer = store_new(f, 32, 5000);
    struct cellar_diagnostic diagnostic;
    struct store_image image;
    unsigned failures = 0;

    store_append(writer, 30);
    store_close(writer);
    image = store_image_take(f);
    options.diagnostic = &diagnostic;
    options.key = &f->key;
    for (size_t i = 0; i < SUPPORT_COUNT(kinds); i++) {
        for (int nth = 1; nth <= CALLS_MAX; nth++) {
            struct cellar_reader *reader = NULL;
            int error, calls;

            system_heal();
            system_fail(kinds[i], nth, 1, EIO);
            error = store_read(f, &options, &reader);
            calls = system_calls(kinds[i]);
            system_heal();
            if (error != 0) {
                failures++;
                assert_null(reader);
                assert_explained(error, &diagnostic);
            } else {
                struct cellar_snapshot snapshot = cellar_reader_snapshot(reader);

                assert_int_equal(snapshot.next_index, 38);
                store_assert_cells(&snapshot);
                cellar_reader_close(reader);
            }
            if (calls < nth)
                break;
        }
    }
    store_image_compare(f, image);
    assert_true(failures > 4);
}

/* Before the rename the store is as it was, uncommitted cells and all; after it the new one is in place, poisoned. */
static void test_failing_truncate(void **state)
{
    struct store_fixture *f = *state;
    unsigned before = 0, after = 0;

    for (size_t i = 0; i < SUPPORT_COUNT(kinds); i++) {
        for (int nth = 1; nth <= CALLS_MAX; nth++) {
            struct cellar_writer *writer = store_new(f, 32, 5000);
            struct cellar_snapshot snapshot;
            struct cellar_reader *reader;
            int error, calls;

            store_append(writer, 20);
            assert_done(cellar_writer_flush(writer));
            store_append(writer, 10);
            system_heal();
            system_fail(kinds[i], nth, 1, EIO);
            error = cellar_writer_truncate(writer, 100);
            calls = system_calls(kinds[i]);
            system_heal();
            /* A hidden name may stay behind where it failed early; the next one takes it over. */
            assert_true(store_folder_entries(f) <= 2);
            if (error == 0) {
                store_close(writer);
                assert_sound(f, 0);
            } else if (cellar_writer_next(writer) == 8) {
                after++;
                assert_result(cellar_writer_commit(writer), error);
                assert_result(cellar_writer_close(writer), error);
                assert_sound(f, 0);
            } else {
                before++;
                assert_int_equal(store_append(writer, 5), 38);
                assert_done(cellar_writer_flush(writer));
                reader = store_reader(f, NULL);
                snapshot = cellar_reader_snapshot(reader);
                assert_int_equal(snapshot.next_index, 43);
                store_assert_cells(&snapshot);
                cellar_reader_close(reader);
                assert_done(cellar_writer_truncate(writer, 0));
                store_close(writer);
                assert_int_equal(store_folder_entries(f), 1);
            }
            store_remove(f);
            if (calls < nth)
                break;
        }
    }
    assert_true(before > 5);
    assert_true(after > 0);
}

/* What closing meets at the very end it returns; the handle is gone, and what was flushed is there. */
static void test_failing_close(void **state)
{
    static const enum system_call closing[] = {SYSTEM_FTRUNCATE, SYSTEM_MUNMAP, SYSTEM_CLOSE};
    struct store_fixture *f = *state;
    unsigned failures = 0;

    for (size_t i = 0; i < SUPPORT_COUNT(closing); i++) {
        for (int nth = 1; nth <= 3; nth++) {
            struct cellar_writer *writer = store_new(f, 32, 5000);

            store_append(writer, 30);
            assert_done(cellar_writer_flush(writer));
            system_heal();
            system_fail(closing[i], nth, 1, EIO);
            failures += cellar_writer_close(writer) == -EIO;
            system_heal();
            assert_sound(f, 30);
            store_remove(f);
        }
    }
    assert_true(failures >= 2);
}

/* ---- somebody else is quicker ---- */

static struct {
    struct store_fixture *f;
    const char *other; /* a path */
    struct cellar_writer *writer;
} race;

static void put_other_in_place(void)
{
    assert_int_equal(rename(race.other, race.f->path), 0);
}

static void remove_store(void)
{
    assert_int_equal(unlink(race.f->path), 0);
}

static void truncate_now(void)
{
    assert_done(cellar_writer_truncate(race.writer, 0));
}

/* A store of that many cells at race.other. */
static void make_other(struct store_fixture *f, uint32_t cells)
{
    const char *path = f->path;
    struct cellar_writer *writer;

    race.f = f;
    race.other = support_path(f->folder, "other");
    f->path = race.other;
    writer = store_new(f, 32, 5000);
    store_append(writer, cells);
    store_close(writer);
    f->path = path;
}

/* The new file is whole, but can't have the name; or only by a plain rename, where names can't be exchanged. */
static void test_truncate_and_rename(void **state)
{
    static const int no_exchange[] = {EINVAL, ENOSYS};
    struct store_fixture *f = *state;
    struct cellar_writer *writer = store_new(f, 32, 5000);

    store_append(writer, 20);
    system_heal();
    system_fail(SYSTEM_RENAMEAT2, 1, 1, EACCES);
    assert_result(cellar_writer_truncate(writer, 0), -EACCES);
    system_fail(SYSTEM_RENAMEAT2, 1, 1, EINVAL);
    rename_error = EACCES;
    assert_result(cellar_writer_truncate(writer, 0), -EACCES);
    rename_error = 0;
    assert_int_equal(store_folder_entries(f), 1);
    assert_int_equal(store_append(writer, 5), 28);
    for (size_t i = 0; i < SUPPORT_COUNT(no_exchange); i++) {
        system_fail(SYSTEM_RENAMEAT2, 1, 1, no_exchange[i]);
        assert_done(cellar_writer_truncate(writer, 0));
        assert_int_equal(store_folder_entries(f), 1);
        assert_int_equal(store_append(writer, 7), 8);
    }
    system_heal();
    store_close(writer);
    assert_sound(f, 7);
}

/* Somebody puts another store in place in the very moment: it is not lost. */
static void test_truncate_and_replaced(void **state)
{
    struct store_fixture *f = *state;
    struct cellar_writer *writer = store_new(f, 32, 5000);

    store_append(writer, 20);
    make_other(f, 9);
    system_heal();
    system_before(SYSTEM_RENAMEAT2, 1, put_other_in_place);
    assert_result(cellar_writer_truncate(writer, 0), -ESTALE);
    system_heal();
    assert_int_equal(store_folder_entries(f), 1);
    assert_int_equal(cellar_writer_next(writer), 28);
    cellar_writer_abandon(writer);
    assert_sound(f, 9);
}

/* Between opening the file and locking it the name has gone over to another file: that one is the store. */
static void test_replaced_while_opening(void **state)
{
    static const enum system_call moments[] = {SYSTEM_FCNTL, SYSTEM_FSTAT, SYSTEM_FSTAT};
    static const int nths[] = {1, 2, 3};
    struct store_fixture *f = *state;

    for (size_t i = 0; i < SUPPORT_COUNT(moments); i++) {
        struct cellar_writer *writer = store_new(f, 32, 5000);

        store_append(writer, 5);
        store_close(writer);
        make_other(f, 9);
        system_heal();
        system_before(moments[i], nths[i], put_other_in_place);
        writer = store_again(f);
        system_heal();
        assert_int_equal(cellar_writer_next(writer), 17);
        store_close(writer);
        store_remove(f);
    }
}

/* Between opening and locking it was removed: there is no store. */
static void test_removed_while_opening(void **state)
{
    struct store_fixture *f = *state;
    struct cellar_writer_options options = store_options(f);
    struct cellar_config config = store_config(32, 5000);
    struct cellar_writer *writer = NULL;

    race.f = f;
    store_close(store_new(f, 32, 5000));
    system_heal();
    system_before(SYSTEM_FCNTL, 1, remove_store);
    assert_result(store_open(f, &options, &writer), -ENOENT);
    store_close(store_new(f, 32, 5000));
    system_heal();
    system_before(SYSTEM_FCNTL, 1, remove_store);
    assert_done(cellar_writer_open_or_create(f->path, &config, &options, &writer)); /* then it is made again */
    system_heal();
    store_close(writer);
}

/* A reader that opened the file just before it was truncated finds the new store, not a retired one. */
static void test_truncated_while_reading(void **state)
{
    struct store_fixture *f = *state;
    struct cellar_reader *reader;

    race.writer = store_new(f, 32, 5000);
    store_append(race.writer, 5);
    assert_done(cellar_writer_flush(race.writer));
    system_heal();
    system_before(SYSTEM_PREAD, 1, truncate_now);
    reader = store_reader(f, NULL);
    system_heal();
    assert_int_equal(cellar_reader_snapshot(reader).next_index, 8);
    store_append(race.writer, 2);
    assert_done(cellar_writer_flush(race.writer));
    assert_done(cellar_reader_refresh(reader)); /* it follows the new one */
    assert_int_equal(cellar_reader_snapshot(reader).next_index, 10);
    cellar_reader_close(reader);
    store_close(race.writer);
}

/* Made by somebody else between looking for it and giving the own one its name. */
static void test_made_meanwhile(void **state)
{
    struct store_fixture *f = *state;
    struct cellar_writer_options options = store_options(f);
    struct cellar_config config = store_config(32, 5000);
    struct cellar_writer *writer = NULL;

    make_other(f, 9);
    system_heal();
    system_before(SYSTEM_RENAMEAT2, 1, put_other_in_place);
    assert_result(cellar_writer_create(f->path, &config, &options, &writer), -EEXIST);
    assert_int_equal(store_folder_entries(f), 1);
    assert_sound(f, 9);
    store_remove(f);
    make_other(f, 9);
    system_heal();
    system_before(SYSTEM_RENAMEAT2, 1, put_other_in_place);
    assert_done(cellar_writer_open_or_create(f->path, &config, &options, &writer));
    system_heal();
    assert_int_equal(cellar_writer_next(writer), 17);
    store_close(writer);
    assert_int_equal(store_folder_entries(f), 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        STORE_ON(test_copying_file_system, STORE_MAPPED),
        STORE_ON(test_no_address_space, STORE_MAPPED),
        STORE_ON_FILES(test_failing_create),
        STORE_ON_FILES(test_failing_open),
        STORE_ON_FILES(test_failing_reader),
        STORE_ON_FILES(test_failing_truncate),
        STORE_ON_FILES(test_truncate_and_rename),
        STORE_ON_FILES(test_truncate_and_replaced),
        STORE_ON_FILES(test_failing_close),
        STORE_ON_FILES(test_replaced_while_opening),
        STORE_ON_FILES(test_removed_while_opening),
        STORE_ON_FILES(test_truncated_while_reading),
        STORE_ON_FILES(test_made_meanwhile),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
