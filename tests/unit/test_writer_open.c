/* Creating and opening a store for write: options, config, exclusion, and what is left alone where it fails. */
#include "store_fixture.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static void test_create(void **state)
{
    struct store_fixture *f = *state;
    struct cellar_config config = store_config(32, 5000);
    struct cellar_writer *writer = store_new(f, 32, 5000);
    struct cellar_recovery recovery;
    struct cellar_info info;
    struct cellar_key key;

    cellar_writer_info(writer, &info);
    assert_int_equal(info.mode, CELLAR_MODE_WRITER);
    assert_int_equal(info.data_path, f->way->window ? CELLAR_PATH_WINDOW : CELLAR_PATH_PAGES);
    assert_string_equal(info.device_name, strcmp(f->way->name, "nbd") == 0         ? "nbd"
                                          : f->way->fixed                          ? "fault"
                                          : f->way->memory                         ? "memory"
                                          : f->way->window                         ? "file"
                                          : f->way->device == CELLAR_DEVICE_DIRECT ? "direct"
                                                                                   : "pread");
    if (f->way->memory)
        assert_null(info.path);
    else
        assert_string_equal(info.path, f->path);
    assert_true(cellar_config_equal(&info.config, &config));
    assert_int_equal(info.start_index, 8);
    assert_int_equal(info.next_index, 8);
    assert_int_equal(info.flushed_next_index, 8);
    assert_int_equal(info.root_index, CELLAR_ROOT_NONE);
    assert_int_equal(info.size_bytes, 256);
    assert_int_equal(info.file_bytes, 65536);
    assert_int_equal(info.window_bytes, f->way->window ? 5000 * 32 : 0);
    assert_int_equal(info.resize_step_cells, 2048);
    assert_true(info.has_key);
    assert_false(info.other_writer);
    assert_false(info.compat);
    assert_int_equal(cellar_writer_next(writer), 8);
    assert_int_equal(cellar_writer_root(writer), CELLAR_ROOT_NONE);
    cellar_writer_key(writer, &key);
    assert_memory_equal(key.bytes, f->key.bytes, CELLAR_KEY_BYTES);

    cellar_writer_recovery(writer, &recovery);
    assert_int_equal(recovery.found, CELLAR_FOUND_NOTHING);
    assert_int_equal(recovery.next_index, 8);
    assert_int_equal(recovery.root_index, CELLAR_ROOT_NONE);
    assert_int_equal(recovery.repaired_slots, 0);
    assert_int_equal(recovery.skipped_cells, 0);
    assert_false(recovery.root_dropped);
    store_close(writer);
}

/* The header of a new store, byte for byte, as docs/format.md says. */
static void test_create_header(void **state)
{
    struct store_fixture *f = *state;
    unsigned char expected[CELLAR_HEADER_BYTES] = {0};
    struct cellar_config config = store_config(100, 70);
    struct cellar_state empty = {.next_index = 3};
    size_t length_bytes;
    unsigned char *bytes;

    store_close(store_new(f, 100, 70));
    cellar_config_encode(&config, expected);
    cellar_slot_encode(&empty, NULL, expected + 32);
    cellar_slot_encode(&empty, NULL, expected + 64);
    cellar_slot_encode(&empty, &f->key, expected + 96);
    cellar_slot_encode(&empty, &f->key, expected + 128);
    bytes = store_bytes(f, &length_bytes);
    /* A file is cut to what is used at close; a device of the caller's is left alone. */
    assert_int_equal(length_bytes, f->way->fixed ? STORE_FIXED_BYTES : f->way->memory ? 7000 : 300);
    assert_memory_equal(bytes, expected, CELLAR_AT_EXTENSION);
    store_assert_marks(bytes);
    for (size_t i = CELLAR_HEADER_BYTES; i < length_bytes; i++)
        assert_int_equal(bytes[i], 0);
    free(bytes);
}

static void test_default_options(void **state)
{
    struct store_fixture *f = *state;
    struct cellar_config config = store_config(64, 1000);
    struct cellar_writer *writer = NULL;
    struct cellar_key key, other;
    struct cellar_info info;

    assert_done(cellar_writer_create(f->path, &config, NULL, &writer));
    cellar_writer_info(writer, &info);
    assert_int_equal(info.resize_step_cells, (16 << 20) / 64);
    assert_int_equal(info.file_bytes, 64000); /* the last step ends at max index */
    cellar_writer_key(writer, &key);
    store_close(writer);
    assert_done(cellar_writer_open(f->path, NULL, &writer));
    cellar_writer_key(writer, &other);
    assert_memory_not_equal(key.bytes, other.bytes, sizeof key.bytes); /* every opening makes one */
    store_close(writer);
}

static void test_first_length(void **state)
{
    static const struct {
        uint32_t bytes_per_cell, max_index, initial_cells;
        uint64_t step_bytes, file_cells;
    } cases[] = {
        {32, 100000, 0, 3200, 100}, {32, 100000, 8, 3200, 8},       {32, 100000, 77, 3200, 77}, {32, 50, 0, 3200, 50},
        {32, 50, 51, 3200, 50},     {32, 50, UINT32_MAX, 3200, 50}, {7, 1000, 0, 70, 37},       {7, 1000, 40, 1, 40},
        {4096, 9, 0, 1, 1},         {65535, 9, 2, 1 << 20, 2},      {4, 70, 0, UINT64_MAX, 70}, {100, 2000, 0, 250, 3},
    };
    struct store_fixture *f = *state;

    for (size_t i = 0; i < SUPPORT_COUNT(cases); i++) {
        struct cellar_config config = store_config(cases[i].bytes_per_cell, cases[i].max_index);
        struct cellar_writer_options options = store_options(f);
        struct cellar_writer *writer = NULL;
        struct cellar_info info;

        options.initial_cells = cases[i].initial_cells;
        options.resize_step_bytes = cases[i].step_bytes;
        assert_done(store_create(f, &config, &options, &writer));
        cellar_writer_info(writer, &info);
        assert_int_equal(info.file_bytes, cases[i].file_cells * cases[i].bytes_per_cell);
        if (!f->way->memory)
            assert_int_equal(support_file_size(f->path), info.file_bytes);
        store_close(writer);
        store_remove(f);
    }
}

static void assert_not_created(struct store_fixture *f, const struct cellar_config *config,
                               const struct cellar_writer_options *options, int expected)
{
    struct cellar_writer_options with = *options;
    struct cellar_writer *writer = NULL;
    struct cellar_diagnostic diagnostic = {.error = 99};

    with.diagnostic = &diagnostic;
    assert_result(cellar_writer_create(f->path, config, &with, &writer), expected);
    assert_null(writer);
    assert_int_equal(diagnostic.error, expected);
    assert_non_null(strstr(diagnostic.message, f->path));
    assert_int_equal(store_folder_entries(f), 0);
    assert_result(cellar_writer_open_or_create(f->path, config, &with, &writer), expected);
    assert_int_equal(diagnostic.error, expected);
    assert_int_equal(store_folder_entries(f), 0);
}

static void test_create_out_of_range(void **state)
{
    struct store_fixture *f = *state;
    struct cellar_writer_options options = store_options(f);
    struct cellar_config config = store_config(3, 1000);

    assert_not_created(f, &config, &options, -EINVAL);
    config = store_config(65536, 1000);
    assert_not_created(f, &config, &options, -EINVAL);
    config = store_config(32, 7);
    assert_not_created(f, &config, &options, -EINVAL);
    config = store_config(32, 0);
    assert_not_created(f, &config, &options, -EINVAL);
    config = store_config(32, 1000);
    options.initial_cells = 7; /* not even the header */
    assert_not_created(f, &config, &options, -EINVAL);
    options.initial_cells = 0;
    options.device = (enum cellar_device_choice)77;
    assert_not_created(f, &config, &options, -EINVAL);
}

/* A store with no room for a single cell: the file format allows it. */
static void test_create_smallest(void **state)
{
    struct store_fixture *f = *state;
    unsigned char cell[32] = {0};
    uint32_t index = 99;
    struct cellar_writer *writer = store_new(f, 32, 9);

    assert_done(cellar_writer_append(writer, cell, 1, &index));
    assert_int_equal(index, 8);
    assert_result(cellar_writer_append(writer, cell, 1, &index), CELLAR_EINDEXFULL);
    store_close(writer);
    writer = store_again(f);
    assert_int_equal(cellar_writer_next(writer), 9);
    assert_result(cellar_writer_append(writer, cell, 1, &index), CELLAR_EINDEXFULL);
    store_close(writer);
}

static void test_create_where_something_is(void **state)
{
    struct store_fixture *f = *state;
    struct cellar_config config = store_config(32, 1000);
    struct cellar_writer_options options = store_options(f);
    struct cellar_writer *writer = NULL;
    struct store_image image;

    store_close(store_new(f, 32, 1000));
    image = store_image_take(f);
    assert_result(store_create(f, &config, &options, &writer), -EEXIST);
    assert_null(writer);
    store_image_compare(f, image);
    writer = store_again(f); /* and it is not locked */
    assert_result(store_create(f, &config, &options, &writer), f->way->memory ? CELLAR_EBUSY : -EEXIST);
    store_close(writer);
    if (!f->way->memory)
        assert_int_equal(store_folder_entries(f), 1);
}

static void test_create_in_no_folder(void **state)
{
    struct store_fixture *f = *state;
    struct cellar_config config = store_config(32, 1000);
    struct cellar_writer *writer = NULL;
    const char *path = support_path(f->folder, "nowhere/store");

    assert_result(cellar_writer_create(path, &config, NULL, &writer), -ENOENT);
    assert_result(cellar_writer_open_or_create(path, &config, NULL, &writer), -ENOENT);
    assert_result(cellar_writer_open(path, NULL, &writer), -ENOENT);
    assert_int_equal(store_folder_entries(f), 0);
}

static void test_open_missing(void **state)
{
    struct store_fixture *f = *state;
    struct cellar_diagnostic diagnostic;
    struct cellar_writer_options options = store_options(f);
    struct cellar_writer *writer = NULL;

    options.diagnostic = &diagnostic;
    assert_result(cellar_writer_open(f->path, &options, &writer), -ENOENT);
    assert_null(writer);
    assert_int_equal(diagnostic.error, -ENOENT);
    assert_int_equal(diagnostic.file_offset, CELLAR_OFFSET_NONE);
    assert_non_null(strstr(diagnostic.message, f->path));
    assert_non_null(strstr(diagnostic.message, "No such file"));
    assert_int_equal(store_folder_entries(f), 0);
}

static void test_open_or_create(void **state)
{
    struct store_fixture *f = *state;
    struct cellar_config config = store_config(32, 1000);
    struct cellar_writer_options options = store_options(f);
    struct cellar_writer *writer = NULL;
    struct cellar_recovery recovery;
    struct cellar_snapshot snapshot;

    assert_done(cellar_writer_open_or_create(f->path, &config, &options, &writer));
    cellar_writer_recovery(writer, &recovery);
    assert_int_equal(recovery.found, CELLAR_FOUND_NOTHING);
    store_append(writer, 5);
    assert_done(cellar_writer_set_root(writer, 9));
    store_close(writer);

    assert_done(cellar_writer_open_or_create(f->path, &config, &options, &writer));
    cellar_writer_recovery(writer, &recovery);
    assert_int_equal(recovery.found, CELLAR_FOUND_CLEAN);
    assert_int_equal(cellar_writer_next(writer), 13);
    assert_int_equal(cellar_writer_root(writer), 9);
    snapshot = cellar_writer_snapshot(writer);
    store_assert_cells(&snapshot);
    store_close(writer);
}

/* Every field of the config must be the file's; the refusal names its offset, and changes nothing. */
static void test_config_mismatch(void **state)
{
    static const uint64_t offsets[] = {CELLAR_AT_HEAD, CELLAR_AT_BYTES_PER_CELL, CELLAR_AT_MAX_INDEX,
                                       CELLAR_AT_VERSION};
    struct store_fixture *f = *state;
    struct cellar_writer *writer = store_new(f, 32, 1000);

    store_append(writer, 5);
    store_close(writer);
    store_break_slot(f, CELLAR_DISK_2); /* what an opening that succeeds would change */
    for (size_t field = 0; field < SUPPORT_COUNT(offsets); field++) {
        struct cellar_config config = store_config(32, 1000);
        struct cellar_writer_options options = store_options(f);
        struct cellar_diagnostic diagnostic;
        struct store_image image = store_image_take(f);

        config.head[19] = (unsigned char)(config.head[19] + (field == 0));
        config.bytes_per_cell += field == 1;
        config.max_index += field == 2;
        config.version += field == 3;
        options.diagnostic = &diagnostic;
        assert_result(cellar_writer_open_or_create(f->path, &config, &options, &writer), CELLAR_ECONFIG);
        assert_int_equal(diagnostic.error, CELLAR_ECONFIG);
        assert_int_equal(diagnostic.file_offset, offsets[field]);
        assert_non_null(strstr(diagnostic.message, "found"));
        assert_non_null(strstr(diagnostic.message, "expected"));
        store_image_compare(f, image);
    }
    store_close(store_again(f)); /* nobody holds its lock */
}

/* Head bytes may be anything; a message is one line all the same. */
static void test_config_mismatch_message(void **state)
{
    struct store_fixture *f = *state;
    struct cellar_config config = store_config(32, 1000);
    struct cellar_diagnostic diagnostic;
    struct cellar_writer_options options = store_options(f);
    struct cellar_writer *writer = NULL;

    memcpy(config.head, "one\ntwo\r\x1b[2J\x7f\x01", 15);
    assert_done(store_create(f, &config, &options, &writer));
    store_close(writer);
    config = store_config(32, 1000);
    options.diagnostic = &diagnostic;
    assert_result(cellar_writer_open_or_create(f->path, &config, &options, &writer), CELLAR_ECONFIG);
    for (const char *at = diagnostic.message; *at != '\0'; at++)
        assert_true((unsigned char)*at >= ' ' && *at != 0x7f);
}

static void test_open_again(void **state)
{
    struct store_fixture *f = *state;
    struct cellar_config config = store_config(48, 3000);
    struct cellar_writer *writer = store_new(f, 48, 3000);
    struct cellar_recovery recovery;
    struct cellar_snapshot snapshot;
    struct cellar_info info;

    store_append(writer, 700);
    assert_done(cellar_writer_set_root(writer, 300));
    store_close(writer);
    if (!f->way->memory)
        assert_int_equal(support_file_size(f->path), 706 * 48);
    store_assert_pair(f, CELLAR_DISK_1, 706, 300);
    store_assert_pair(f, CELLAR_PROCESS_1, 706, 300);

    writer = store_again(f);
    cellar_writer_info(writer, &info);
    assert_true(cellar_config_equal(&info.config, &config));
    assert_int_equal(info.next_index, 706);
    assert_int_equal(info.flushed_next_index, 706);
    assert_int_equal(info.root_index, 300);
    cellar_writer_recovery(writer, &recovery);
    assert_int_equal(recovery.found, CELLAR_FOUND_CLEAN);
    assert_int_equal(recovery.disk_next_index, 706);
    assert_int_equal(recovery.disk_root_index, 300);
    assert_int_equal(recovery.process_next_index, 706);
    assert_int_equal(recovery.process_root_index, 300);
    assert_int_equal(recovery.next_index, 706);
    assert_int_equal(recovery.root_index, 300);
    assert_int_equal(recovery.repaired_slots, 0);
    store_append(writer, 1);
    snapshot = cellar_writer_snapshot(writer);
    store_assert_cells(&snapshot);
    store_close(writer);
}

static void test_opened_twice(void **state)
{
    struct store_fixture *f = *state;
    struct cellar_writer_options options = store_options(f);
    struct cellar_diagnostic diagnostic;
    struct cellar_writer *writer = store_new(f, 32, 1000), *second = NULL;
    struct store_image image;

    options.diagnostic = &diagnostic;
    image = store_image_take(f);
    assert_result(store_open(f, &options, &second), CELLAR_EBUSY);
    assert_null(second);
    assert_int_equal(diagnostic.error, CELLAR_EBUSY);
    assert_non_null(strstr(diagnostic.message, "another writer"));
    options.device = CELLAR_DEVICE_PAGES; /* the lock is one for all paths */
    assert_result(store_open(f, &options, &second), CELLAR_EBUSY);
    store_image_compare(f, image);
    store_append(writer, 3); /* the first goes on */
    assert_done(cellar_writer_flush(writer));
    store_close(writer);
    store_close(store_again(f));
}

/* A POSIX lock would end when any descriptor of the file is closed. */
static void test_unrelated_close_keeps_lock(void **state)
{
    struct store_fixture *f = *state;
    struct cellar_writer_options options = store_options(f);
    struct cellar_writer *writer = store_new(f, 32, 1000), *second = NULL;
    int fd = open(f->path, O_RDWR | O_CLOEXEC);

    assert_true(fd >= 0);
    close(fd);
    cellar_reader_close(store_reader(f, NULL));
    assert_result(store_open(f, &options, &second), CELLAR_EBUSY);
    store_close(writer);
}

/* A reader on the same device of the caller's must not take the writer's lock with it. */
static void test_reader_close_keeps_lock(void **state)
{
    struct store_fixture *f = *state;
    struct cellar_writer_options options = store_options(f);
    struct cellar_reader_options wrong = store_reader_options(f);
    struct cellar_writer *writer = store_new(f, 32, 1000), *second = NULL;
    struct cellar_key key = store_key(2);
    struct cellar_reader *reader;

    cellar_reader_close(store_reader(f, NULL));
    assert_result(store_open(f, &options, &second), CELLAR_EBUSY);
    wrong.key = &key; /* an opening that fails */
    assert_result(store_read(f, &wrong, &reader), CELLAR_EBADKEY);
    assert_result(store_open(f, &options, &second), CELLAR_EBUSY);
    store_close(writer);
}

static void test_abandon_and_close_nothing(void **state)
{
    struct store_fixture *f = *state;
    struct cellar_writer *writer = store_new(f, 32, 1000);

    cellar_writer_abandon(NULL);
    assert_done(cellar_writer_close(NULL));
    cellar_writer_abandon(writer);
    store_close(store_again(f)); /* the lock is free */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        STORE_ON_ALL(test_create),
        STORE_ON_ALL(test_create_header),
        STORE_ON(test_default_options, STORE_MAPPED),
        STORE_ON_ALL(test_first_length),
        STORE_ON_FILES(test_create_out_of_range),
        STORE_ON_ALL(test_create_smallest),
        STORE_ON_ALL(test_create_where_something_is),
        STORE_ON(test_create_in_no_folder, STORE_MAPPED),
        STORE_ON_FILES(test_open_missing),
        STORE_ON_FILES(test_open_or_create),
        STORE_ON_FILES(test_config_mismatch),
        STORE_ON(test_config_mismatch_message, STORE_MAPPED),
        STORE_ON_ALL(test_open_again),
        STORE_ON_ALL(test_opened_twice),
        STORE_ON_FILES(test_unrelated_close_keeps_lock),
        STORE_ON_ALL(test_reader_close_keeps_lock),
        STORE_ON_ALL(test_abandon_and_close_nothing),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
