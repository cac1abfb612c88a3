/* Readers: opening, following flushes and commits, keys, and what they say when the file is not what it was. */
#include "store_fixture.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static uint32_t next_of(struct cellar_reader *reader)
{
    return cellar_reader_snapshot(reader).next_index;
}

static void test_open(void **state)
{
    struct store_fixture *f = *state;
    struct cellar_config config = store_config(32, 5000);
    struct cellar_writer *writer = store_new(f, 32, 5000);
    struct cellar_reader_options wrong = {.device = (enum cellar_device_choice)77};
    struct cellar_snapshot snapshot;
    struct cellar_reader *reader;
    struct cellar_info info;

    assert_result(store_read(f, &wrong, &reader), -EINVAL);
    store_append(writer, 20);
    assert_done(cellar_writer_set_root(writer, 15));
    assert_done(cellar_writer_flush(writer));
    store_append(writer, 7);
    assert_done(cellar_writer_set_root(writer, 33));
    assert_done(cellar_writer_commit(writer));

    reader = store_reader(f, NULL); /* stands at the disk-sync state */
    cellar_reader_info(reader, &info);
    assert_int_equal(info.mode, CELLAR_MODE_READER);
    assert_int_equal(info.data_path, f->way->window ? CELLAR_PATH_WINDOW : CELLAR_PATH_PAGES);
    if (f->way->memory)
        assert_null(info.path);
    else
        assert_string_equal(info.path, f->path);
    assert_true(cellar_config_equal(&info.config, &config));
    assert_int_equal(info.start_index, 8);
    assert_int_equal(info.next_index, 28);
    assert_int_equal(info.root_index, 15);
    assert_int_equal(info.flushed_next_index, 28);
    assert_int_equal(info.size_bytes, 28 * 32);
    assert_int_equal(info.file_bytes, f->way->fixed ? 160000 : 65536); /* what max index lets be used, or the length */
    assert_int_equal(info.window_bytes, f->way->window ? 160000 : 0);
    assert_int_equal(info.resize_step_cells, 0);
    assert_false(info.has_key);
    assert_false(info.other_writer);
    snapshot = cellar_reader_snapshot(reader);
    assert_int_equal(snapshot.bytes_per_cell, 32);
    assert_int_equal(snapshot.start_index, 8);
    assert_int_equal(snapshot.next_index, 28);
    assert_int_equal(snapshot.root_index, 15);
    store_assert_cells(&snapshot);
    assert_int_equal(cellar_reader_diagnostic(reader)->error, 0);
    assert_string_equal(cellar_reader_diagnostic(reader)->message, "");
    cellar_reader_close(reader);

    reader = store_reader(f, &f->key); /* with a key: at the process-sync state */
    cellar_reader_info(reader, &info);
    assert_int_equal(info.next_index, 35);
    assert_int_equal(info.root_index, 33);
    assert_int_equal(info.flushed_next_index, 28);
    assert_true(info.has_key);
    snapshot = cellar_reader_snapshot(reader);
    store_assert_cells(&snapshot);
    cellar_reader_close(reader);
    cellar_reader_close(NULL);
    store_close(writer);
}

static void test_open_with_defaults(void **state)
{
    struct store_fixture *f = *state;
    struct cellar_reader *reader = NULL;
    struct cellar_snapshot snapshot;
    struct cellar_writer *writer = store_new(f, 100, 500);

    store_append(writer, 9);
    store_close(writer);
    assert_done(cellar_reader_open(f->path, NULL, &reader));
    snapshot = cellar_reader_snapshot(reader);
    assert_int_equal(snapshot.next_index, 12);
    store_assert_cells(&snapshot);
    cellar_reader_close(reader);
}

static void test_open_fails(void **state)
{
    struct store_fixture *f = *state;
    struct cellar_diagnostic diagnostic = {.error = 99};
    struct cellar_reader_options options = store_reader_options(f);
    struct cellar_key key = store_key(2);
    struct cellar_reader *reader = NULL;

    options.diagnostic = &diagnostic;
    assert_result(cellar_reader_open(f->path, &options, &reader), -ENOENT);
    assert_int_equal(diagnostic.error, -ENOENT);
    assert_non_null(strstr(diagnostic.message, f->path));
    assert_int_equal(store_folder_entries(f), 0);
    store_close(store_new(f, 32, 100));
    options.key = &key;
    assert_result(cellar_reader_open(f->path, &options, &reader), CELLAR_EBADKEY);
    assert_int_equal(diagnostic.error, CELLAR_EBADKEY);
    assert_int_equal(diagnostic.file_offset, 96 + 12);
    store_break_slot(f, CELLAR_PROCESS_1);
    store_break_slot(f, CELLAR_PROCESS_2);
    assert_result(cellar_reader_open(f->path, &options, &reader), CELLAR_ECORRUPT);
    assert_int_equal(diagnostic.error, CELLAR_ECORRUPT);
    assert_int_equal(diagnostic.file_offset, 96);
    assert_null(reader);
}

static void test_follows_flushes(void **state)
{
    struct store_fixture *f = *state;
    struct cellar_writer *writer = store_new(f, 32, 50000);
    struct cellar_reader *reader = store_reader(f, NULL);
    struct cellar_snapshot snapshot, first;
    struct cellar_info info;

    assert_result(cellar_reader_refresh(reader), CELLAR_NONE);
    first = cellar_reader_snapshot(reader);
    assert_int_equal(first.next_index, 8);
    for (uint32_t round = 1; round <= 20; round++) {
        store_append(writer, 400); /* the file grows, past what the reader has seen of it */
        assert_done(cellar_writer_commit(writer));
        assert_result(cellar_reader_refresh(reader), CELLAR_NONE);
        assert_done(cellar_writer_set_root(writer, 400 * round));
        assert_done(cellar_writer_flush(writer));
        assert_done(cellar_reader_refresh(reader));
        assert_result(cellar_reader_refresh(reader), CELLAR_NONE);
        snapshot = cellar_reader_snapshot(reader);
        assert_int_equal(snapshot.next_index, 8 + 400 * round);
        assert_int_equal(snapshot.root_index, 400 * round);
        cellar_reader_info(reader, &info);
        assert_int_equal(info.flushed_next_index, snapshot.next_index);
        assert_true(info.file_bytes >= info.size_bytes);
        if (round % 5 == 0)
            store_assert_cells(&snapshot);
        if (round == 3)
            first = snapshot;
    }
    assert_int_equal(first.next_index, 1208); /* an old snapshot is still what it was */
    store_assert_cells(&first);
    assert_done(cellar_writer_set_root(writer, CELLAR_ROOT_NONE)); /* the root alone */
    assert_done(cellar_writer_flush(writer));
    assert_done(cellar_reader_refresh(reader));
    assert_int_equal(cellar_reader_snapshot(reader).root_index, CELLAR_ROOT_NONE);
    cellar_reader_close(reader);
    store_close(writer);
}

static void test_follows_commits(void **state)
{
    struct store_fixture *f = *state;
    struct cellar_writer *writer = store_new(f, 33, 50000);
    struct cellar_reader *reader = store_reader(f, &f->key);
    struct cellar_snapshot snapshot;

    for (uint32_t round = 1; round <= 60; round++) {
        store_append(writer, 1 + round % 7);
        assert_result(cellar_reader_refresh(reader), CELLAR_NONE);
        assert_done(cellar_writer_commit(writer));
        assert_done(cellar_reader_refresh(reader));
        assert_result(cellar_reader_refresh(reader), CELLAR_NONE);
        snapshot = cellar_reader_snapshot(reader);
        assert_int_equal(snapshot.next_index, cellar_writer_next(writer));
        store_assert_cells(&snapshot);
    }
    cellar_reader_close(reader);
    store_close(writer);
}

static void test_keys(void **state)
{
    struct store_fixture *f = *state;
    struct cellar_writer *writer = store_new(f, 32, 5000);
    struct cellar_reader *reader = store_reader(f, NULL);
    struct cellar_key wrong = store_key(2);
    struct cellar_info info;

    store_append(writer, 20);
    assert_done(cellar_writer_commit(writer));
    assert_done(cellar_reader_check_key(reader, &f->key));
    assert_result(cellar_reader_check_key(reader, &wrong), CELLAR_EBADKEY);
    assert_int_equal(cellar_reader_diagnostic(reader)->error, CELLAR_EBADKEY);
    assert_int_equal(cellar_reader_diagnostic(reader)->file_offset, 96 + 12);
    assert_result(cellar_reader_refresh(reader), CELLAR_NONE); /* checking enables nothing */

    assert_result(cellar_reader_enable_process_sync(reader, &wrong), CELLAR_EBADKEY);
    cellar_reader_info(reader, &info);
    assert_false(info.has_key);
    assert_result(cellar_reader_refresh(reader), CELLAR_NONE);
    assert_done(cellar_reader_enable_process_sync(reader, &f->key));
    cellar_reader_info(reader, &info);
    assert_true(info.has_key);
    assert_int_equal(info.next_index, 8); /* from the next refresh on */
    assert_done(cellar_reader_refresh(reader));
    assert_int_equal(next_of(reader), 28);

    assert_result(cellar_reader_enable_process_sync(reader, &wrong), CELLAR_EBADKEY); /* the good one stays */
    store_append(writer, 1);
    assert_done(cellar_writer_commit(writer));
    assert_done(cellar_reader_refresh(reader));
    assert_int_equal(next_of(reader), 29);
    cellar_reader_info(reader, &info);
    assert_true(info.has_key);
    assert_false(info.other_writer);

    cellar_reader_disable_process_sync(reader); /* back to what is durable */
    cellar_reader_info(reader, &info);
    assert_false(info.has_key);
    assert_done(cellar_reader_refresh(reader));
    assert_int_equal(next_of(reader), 8);
    assert_done(cellar_writer_flush(writer));
    assert_done(cellar_reader_refresh(reader));
    assert_int_equal(next_of(reader), 29);
    cellar_reader_close(reader);
    store_close(writer);
}

/* Every opening for write makes a new key. A reader follows, and says whom. */
static void test_another_writer(void **state)
{
    struct store_fixture *f = *state;
    struct cellar_writer *writer = store_new(f, 32, 5000);
    struct cellar_reader *reader = store_reader(f, &f->key);
    struct cellar_writer_options options = store_options(f);
    struct cellar_key other = store_key(2);
    struct cellar_snapshot snapshot;
    struct cellar_info info;

    store_append(writer, 4);
    store_close(writer);
    assert_done(cellar_reader_refresh(reader));
    cellar_reader_info(reader, &info);
    assert_false(info.other_writer);
    options.key = &other;
    assert_done(store_open(f, &options, &writer));
    assert_result(cellar_reader_refresh(reader), CELLAR_NONE); /* the same state, under another key */
    cellar_reader_info(reader, &info);
    assert_true(info.other_writer);
    assert_true(info.has_key);
    assert_result(cellar_reader_check_key(reader, &f->key), CELLAR_EBADKEY);
    store_append(writer, 5);
    assert_done(cellar_writer_commit(writer));
    assert_done(cellar_reader_refresh(reader));
    cellar_reader_info(reader, &info);
    assert_true(info.other_writer);
    snapshot = cellar_reader_snapshot(reader);
    assert_int_equal(snapshot.next_index, 17);
    store_assert_cells(&snapshot);
    assert_done(cellar_reader_enable_process_sync(reader, &other));
    cellar_reader_info(reader, &info);
    assert_false(info.other_writer);
    store_append(writer, 1);
    assert_done(cellar_writer_commit(writer));
    assert_done(cellar_reader_refresh(reader));
    cellar_reader_info(reader, &info);
    assert_false(info.other_writer);
    store_close(writer);
    writer = store_again(f); /* the first key is back */
    cellar_reader_close(reader);
    reader = store_reader(f, &f->key);
    cellar_reader_info(reader, &info);
    assert_false(info.other_writer);
    cellar_reader_close(reader);
    store_close(writer);
}

/* ---- a file that others spoil ---- */

/* One slot of a pair is enough; without both the reader stays where it was, and goes on once one is back. */
static void test_broken_slots(void **state)
{
    static const enum cellar_slot_name pairs[] = {CELLAR_DISK_1, CELLAR_PROCESS_1};
    struct store_fixture *f = *state;

    for (size_t i = 0; i < SUPPORT_COUNT(pairs); i++) {
        enum cellar_slot_name first = pairs[i], second = (enum cellar_slot_name)((int)pairs[i] + 1);
        struct cellar_writer *writer = store_new(f, 32, 5000);
        const struct cellar_key *key = i == 0 ? NULL : &f->key;
        struct cellar_reader *reader = store_reader(f, key);

        store_append(writer, 32);
        assert_done(cellar_writer_flush(writer));
        assert_done(cellar_reader_refresh(reader));
        store_break_slot(f, first);
        assert_result(cellar_reader_refresh(reader), CELLAR_NONE); /* #2 says the same */
        assert_result(cellar_reader_refresh(reader), CELLAR_NONE);
        store_put_slot(f, second, 40, 20, key); /* #2 speaks while #1 is broken */
        assert_done(cellar_reader_refresh(reader));
        assert_int_equal(cellar_reader_snapshot(reader).root_index, 20);
        assert_result(cellar_reader_refresh(reader), CELLAR_NONE);
        store_break_slot(f, second);
        assert_result(cellar_reader_refresh(reader), CELLAR_ECORRUPT);
        assert_int_equal(cellar_reader_diagnostic(reader)->error, CELLAR_ECORRUPT);
        assert_int_equal(cellar_reader_diagnostic(reader)->file_offset, i == 0 ? 32 : 96);
        assert_int_equal(cellar_reader_snapshot(reader).root_index, 20);
        if (i == 1) {
            assert_result(cellar_reader_check_key(reader, key), CELLAR_ECORRUPT);
            assert_result(cellar_reader_enable_process_sync(reader, key), CELLAR_ECORRUPT);
        }
        store_append(writer, 1);
        assert_done(cellar_writer_flush(writer));
        assert_done(cellar_reader_refresh(reader));
        assert_int_equal(next_of(reader), 41);
        cellar_reader_close(reader);
        store_close(writer);
        store_remove(f);
    }
}

/* What no writer publishes: the reader stays where it is, says what it found, and goes on when sense is back. */
static void test_impossible_states(void **state)
{
    static const struct {
        uint32_t next_index;
        bool of_file; /* the offset is the end of the file, not of the slot */
    } cases[] = {{7, false}, {0, false}, {39, false}, {60, true}, {4000, true}, {UINT32_MAX, true}};
    struct store_fixture *f = *state;

    for (int keyed = 0; keyed < 2; keyed++) {
        struct cellar_writer *writer = store_new(f, 32, 5000);
        enum cellar_slot_name slot = keyed ? CELLAR_PROCESS_1 : CELLAR_DISK_1;
        const struct cellar_key *key = keyed ? &f->key : NULL;
        struct cellar_snapshot snapshot;
        struct cellar_reader *reader;
        uint64_t file_bytes;

        store_append(writer, 32);
        assert_done(cellar_writer_set_root(writer, 9));
        store_close(writer);
        file_bytes = f->way->fixed ? 160000 : f->way->memory ? 65536 : 40 * 32;
        reader = store_reader(f, key);
        for (size_t i = 0; i < SUPPORT_COUNT(cases); i++) {
            if (cases[i].next_index == 60 && f->way->memory)
                continue;
            if (cases[i].next_index == 4000 && f->way->fixed)
                continue; /* the device has these cells: nothing tells that nobody wrote them */
            store_put_slot(f, slot, cases[i].next_index, 9, key);
            assert_result(cellar_reader_refresh(reader), CELLAR_ECORRUPT);
            assert_result(cellar_reader_refresh(reader), CELLAR_ECORRUPT);
            assert_int_equal(cellar_reader_diagnostic(reader)->error, CELLAR_ECORRUPT);
            if (cases[i].of_file)
                assert_int_equal(cellar_reader_diagnostic(reader)->file_offset, file_bytes);
            snapshot = cellar_reader_snapshot(reader);
            assert_int_equal(snapshot.next_index, 40);
            store_assert_cells(&snapshot);
        }
        store_put_slot(f, slot, 40, 30, key);
        assert_done(cellar_reader_refresh(reader));
        assert_int_equal(cellar_reader_snapshot(reader).root_index, 30);
        assert_done(cellar_reader_check(reader));
        cellar_reader_close(reader);
        store_remove(f);
    }
}

/* refresh is no system call and can't see that the file was cut; check asks. */
static void test_cut_file(void **state)
{
    struct store_fixture *f = *state;
    struct cellar_writer *writer = store_new(f, 4096, 500);
    struct cellar_reader *reader;

    store_append(writer, 20);
    store_close(writer);
    reader = store_reader(f, NULL);
    assert_done(cellar_reader_check(reader));
    assert_int_equal(truncate(f->path, 21 * 4096), 0);
    assert_done(cellar_reader_check(reader));
    assert_int_equal(truncate(f->path, 20 * 4096), 0);
    assert_result(cellar_reader_check(reader), CELLAR_ECORRUPT);
    assert_int_equal(cellar_reader_diagnostic(reader)->error, CELLAR_ECORRUPT);
    assert_int_equal(cellar_reader_diagnostic(reader)->file_offset, 20 * 4096);
    cellar_reader_close(reader);
}

/* ---- the window ---- */

static void test_outgrown_window(void **state)
{
    struct store_fixture *f = *state;
    struct cellar_config config = store_config(32, 50000);
    struct cellar_writer_options options = store_options(f);
    struct cellar_reader_options reader_options = store_reader_options(f);
    struct cellar_writer *writer = NULL;
    struct cellar_reader *reader = NULL;
    struct cellar_snapshot snapshot;
    struct cellar_info info;

    options.initial_cells = 128;
    assert_done(store_create(f, &config, &options, &writer));
    reader_options.window_bytes = 8192; /* 256 cells */
    assert_done(store_read(f, &reader_options, &reader));
    cellar_reader_info(reader, &info);
    assert_int_equal(info.window_bytes, 8192);
    store_append(writer, 248);
    assert_done(cellar_writer_flush(writer));
    assert_done(cellar_reader_refresh(reader)); /* the file is longer by now, the cells are not */
    snapshot = cellar_reader_snapshot(reader);
    assert_int_equal(snapshot.next_index, 256);
    store_assert_cells(&snapshot);
    store_append(writer, 1);
    assert_done(cellar_writer_flush(writer));
    assert_result(cellar_reader_refresh(reader), CELLAR_EWINDOW);
    assert_int_equal(cellar_reader_diagnostic(reader)->error, CELLAR_EWINDOW);
    assert_result(cellar_reader_refresh(reader), CELLAR_EWINDOW);
    snapshot = cellar_reader_snapshot(reader);
    assert_int_equal(snapshot.next_index, 256);
    store_assert_cells(&snapshot);
    cellar_reader_close(reader);
    assert_result(store_read(f, &reader_options, &reader), CELLAR_EWINDOW);
    reader = store_reader(f, NULL);
    assert_int_equal(next_of(reader), 257);
    cellar_reader_close(reader);
    store_close(writer);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        STORE_ON_ALL(test_open),
        STORE_ON_FILES(test_open_with_defaults),
        STORE_ON_FILES(test_open_fails),
        STORE_ON_ALL(test_follows_flushes),
        STORE_ON_ALL(test_follows_commits),
        STORE_ON_ALL(test_keys),
        STORE_ON_ALL(test_another_writer),
        STORE_ON_ALL(test_broken_slots),
        STORE_ON_ALL(test_impossible_states),
        STORE_ON_FILES(test_cut_file),
        STORE_ON(test_outgrown_window, STORE_MAPPED),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
