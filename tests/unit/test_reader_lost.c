/* Readers with the key after a power loss: what was committed and not flushed may not be there, whatever the slots and
 * the word say, until a writer has opened the store. */
#include "medium.h"
#include "store_fixture.h"

#include "format/format.h"

#include <errno.h>
#include <string.h>

enum { BYTES_PER_CELL = 64, MAX_INDEX = 8000, START = 4 };

static struct medium *medium;
static struct cellar_writer *writer;
static struct cellar_key key;

static void open_writer(bool create, enum cellar_publish publish, bool same_key)
{
    struct cellar_writer_options options = {.key = &key, .resize_step_bytes = 4096, .publish = publish};
    struct cellar_config config = store_config(BYTES_PER_CELL, MAX_INDEX);

    if (!same_key)
        assert_done(cellar_key_make(&key));
    assert_done(create ? cellar_writer_create_on(medium->device, &config, &options, &writer)
                       : cellar_writer_open_on(medium->device, &options, &writer));
}

static void abandon(void)
{
    cellar_writer_abandon(writer);
    medium->locked = false;
}

static void commit_cells(uint32_t count)
{
    assert_done(cellar_writer_set_root(writer, store_append(writer, count)));
    assert_done(cellar_writer_commit(writer));
}

/* A store of which 5 cells were flushed and 3 more committed, before its writer died. */
static void leave_a_commit(bool window, enum cellar_publish publish)
{
    medium = medium_new(window);
    open_writer(true, publish, false);
    commit_cells(5);
    assert_done(cellar_writer_flush(writer));
    assert_done(cellar_writer_override_version(writer, 7)); /* a barrier for the slots */
    commit_cells(3);
    abandon();
}

/* The disk gets the header as it is, and no cell more. */
static void lose_cells(void)
{
    medium_write_back(medium, 0, CELLAR_HEADER_BYTES);
    medium_lose_power(medium);
}

static struct cellar_reader *open_reader(struct cellar_device **ret_device)
{
    struct cellar_reader_options options = {.key = &key};
    struct cellar_reader *reader;

    *ret_device = medium_open(medium);
    assert_done(cellar_reader_open_on(*ret_device, &options, &reader));
    return reader;
}

static void close_reader(struct cellar_reader *reader, struct cellar_device *device)
{
    cellar_reader_close(reader);
    assert_done(cellar_device_close(device));
}

static void assert_stands(struct cellar_reader *reader, uint32_t next_index, uint32_t root_index)
{
    struct cellar_snapshot snapshot = cellar_reader_snapshot(reader);

    assert_int_equal(snapshot.next_index, next_index);
    assert_int_equal(snapshot.root_index, root_index);
}

static void test_disk_sync_until_a_writer_comes(void **state)
{
    (void)state;
    for (int way = 0; way < 8; way++) {
        bool window = way % 2 == 1, same_key = way / 4 == 1;
        enum cellar_publish publish = way / 2 % 2 == 1 ? CELLAR_PUBLISH_WORD : CELLAR_PUBLISH_SLOTS;
        struct cellar_snapshot snapshot;
        struct cellar_device *device;
        struct cellar_reader *reader;

        leave_a_commit(window, publish);
        lose_cells();
        reader = open_reader(&device);
        assert_stands(reader, START + 5, START);
        snapshot = cellar_reader_snapshot(reader);
        store_assert_cells(&snapshot);
        assert_result(cellar_reader_refresh(reader), CELLAR_NONE);
        open_writer(false, CELLAR_PUBLISH_SLOTS, same_key);
        assert_done(cellar_reader_refresh(reader));
        assert_stands(reader, START + 8, START);
        commit_cells(2);
        assert_done(cellar_reader_refresh(reader));
        assert_stands(reader, START + 10, START + 8);
        assert_result(cellar_reader_refresh(reader), CELLAR_NONE);
        cellar_reader_disable_process_sync(reader);
        (void)!cellar_reader_refresh(reader);
        assert_stands(reader, START + 8, START); /* as the opening left it */
        close_reader(reader, device);
        abandon();
        medium_free(medium);
    }
}

/* A writer by the word comes next. */
static void test_followed_by_the_word(void **state)
{
    struct cellar_device *device;
    struct cellar_reader *reader;

    (void)state;
    leave_a_commit(true, CELLAR_PUBLISH_WORD);
    lose_cells();
    reader = open_reader(&device);
    assert_stands(reader, START + 5, START);
    open_writer(false, CELLAR_PUBLISH_WORD, false);
    commit_cells(2);
    assert_done(cellar_reader_refresh(reader));
    assert_stands(reader, START + 10, START + 8);
    commit_cells(1);
    assert_done(cellar_reader_refresh(reader));
    assert_stands(reader, START + 11, START + 10);
    close_reader(reader, device);
    abandon();
    medium_free(medium);
}

/* An opening that dies after its slots were mended has published nothing; nor has one that says just what was lost. */
static void test_openings_that_die(void **state)
{
    struct cellar_device *device;
    struct cellar_reader *reader;

    (void)state;
    leave_a_commit(true, CELLAR_PUBLISH_SLOTS);
    memset(medium->memory + cellar_slot_offset(CELLAR_PROCESS_1), 0, CELLAR_SLOT_BYTES);
    lose_cells();
    reader = open_reader(&device);
    assert_stands(reader, START + 5, START);
    memcpy(medium->memory + cellar_slot_offset(CELLAR_PROCESS_1), medium->memory + cellar_slot_offset(CELLAR_PROCESS_2),
           CELLAR_SLOT_BYTES);
    assert_result(cellar_reader_refresh(reader), CELLAR_NONE);
    assert_stands(reader, START + 5, START);
    open_writer(false, CELLAR_PUBLISH_SLOTS, true); /* adopts this next and the flushed root, and publishes it */
    abandon();
    medium_write_back(medium, cellar_slot_offset(CELLAR_PROCESS_1), 2 * CELLAR_SLOT_BYTES);
    medium_lose_power(medium);
    close_reader(reader, device);
    reader = open_reader(&device);
    assert_stands(reader, START + 5, START);
    assert_result(cellar_reader_refresh(reader), CELLAR_NONE);
    open_writer(false, CELLAR_PUBLISH_SLOTS, true); /* stores the same once more */
    (void)!cellar_reader_refresh(reader);
    assert_stands(reader, START + 8, START);
    close_reader(reader, device);
    abandon();
    medium_free(medium);
}

/* On the same boot everything that was committed is there; also by another mount. Nor is anything lost where nothing
 * says of which boot it is. */
static void test_what_is_there_is_followed(void **state)
{
    (void)state;
    for (int way = 0; way < 4; way++) {
        struct cellar_device *device;
        struct cellar_reader *reader;

        leave_a_commit(true, way % 2 == 1 ? CELLAR_PUBLISH_WORD : CELLAR_PUBLISH_SLOTS);
        if (way / 2 == 1)
            medium_mount_again(medium);
        reader = open_reader(&device);
        assert_stands(reader, START + 8, START + 5);
        close_reader(reader, device);
        medium->incarnation_error = -EMFILE;
        reader = open_reader(&device);
        assert_stands(reader, START + 8, START + 5);
        close_reader(reader, device);
        medium_free(medium);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_disk_sync_until_a_writer_comes),
        cmocka_unit_test(test_followed_by_the_word),
        cmocka_unit_test(test_openings_that_die),
        cmocka_unit_test(test_what_is_there_is_followed),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
