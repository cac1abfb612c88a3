/* What a new writer takes from its options, and what a new store is made of: header, marks, order, failures. */
#include "device_fault.h"
#include "medium.h"
#include "store_fixture.h"

#include "base/bytes.h"
#include "store_internal.h"

#include <errno.h>
#include <string.h>

enum { CELL = 96, START = 3, MAX_INDEX = 5000 };

/* ---- what comes past ---- */

static bool mapped_to_write, opened_to_write, opened_compat;
static uint64_t mapped_limit, opened_cache_bytes;
static unsigned opened_eager_writes;

int __real_cellar_ground_map(struct cellar_ground *ground, const struct cellar_config *config, uint64_t limit_bytes,
                             enum cellar_device_choice choice, bool writable);
int __wrap_cellar_ground_map(struct cellar_ground *ground, const struct cellar_config *config, uint64_t limit_bytes,
                             enum cellar_device_choice choice, bool writable);
int __real_cellar_ground_open(struct cellar_ground *ground, uint32_t bytes_per_cell, uint64_t cache_bytes, bool writer,
                              unsigned eager_writes, bool compat);
int __wrap_cellar_ground_open(struct cellar_ground *ground, uint32_t bytes_per_cell, uint64_t cache_bytes, bool writer,
                              unsigned eager_writes, bool compat);

int __wrap_cellar_ground_map(struct cellar_ground *ground, const struct cellar_config *config, uint64_t limit_bytes,
                             enum cellar_device_choice choice, bool writable)
{
    mapped_limit = limit_bytes;
    mapped_to_write = writable;
    return __real_cellar_ground_map(ground, config, limit_bytes, choice, writable);
}

int __wrap_cellar_ground_open(struct cellar_ground *ground, uint32_t bytes_per_cell, uint64_t cache_bytes, bool writer,
                              unsigned eager_writes, bool compat)
{
    opened_cache_bytes = cache_bytes;
    opened_to_write = writer;
    opened_eager_writes = eager_writes;
    opened_compat = compat;
    return __real_cellar_ground_open(ground, bytes_per_cell, cache_bytes, writer, eager_writes, compat);
}

enum { FAIL_LOCK = 1, FAIL_KEY, FAIL_FORK_PAGE, FAIL_GROUND, FAIL_NONE };

static int failing; /* which of these does */

int __real_pthread_mutex_init(pthread_mutex_t *lock, const pthread_mutexattr_t *attributes);
int __wrap_pthread_mutex_init(pthread_mutex_t *lock, const pthread_mutexattr_t *attributes);
int __real_cellar_key_make(struct cellar_key *ret_key);
int __wrap_cellar_key_make(struct cellar_key *ret_key);
int __real_cellar_fork_page_take(const struct cellar_fork_page **ret_page);
int __wrap_cellar_fork_page_take(const struct cellar_fork_page **ret_page);
int __real_cellar_ground_new(const struct cellar_fork_page *fork_page, struct cellar_ground **ret_ground);
int __wrap_cellar_ground_new(const struct cellar_fork_page *fork_page, struct cellar_ground **ret_ground);

int __wrap_pthread_mutex_init(pthread_mutex_t *lock, const pthread_mutexattr_t *attributes)
{
    return failing == FAIL_LOCK ? EAGAIN : __real_pthread_mutex_init(lock, attributes);
}

int __wrap_cellar_key_make(struct cellar_key *ret_key)
{
    return failing == FAIL_KEY ? -ENOMEM : __real_cellar_key_make(ret_key);
}

int __wrap_cellar_fork_page_take(const struct cellar_fork_page **ret_page)
{
    return failing == FAIL_FORK_PAGE ? -ENOMEM : __real_cellar_fork_page_take(ret_page);
}

int __wrap_cellar_ground_new(const struct cellar_fork_page *fork_page, struct cellar_ground **ret_ground)
{
    return failing == FAIL_GROUND ? -ENOMEM : __real_cellar_ground_new(fork_page, ret_ground);
}

/* ---- options ---- */

static void expect_defaults(const struct cellar_writer *writer)
{
    assert_int_equal(writer->resize_step_bytes, 16 << 20);
    assert_int_equal(writer->initial_cells, 0);
    assert_int_equal(writer->window_limit, 0);
    assert_int_equal(writer->cache_bytes, 0);
    assert_int_equal(writer->eager_writes, 4);
    assert_int_equal(writer->gather_bytes, 64 << 10);
    assert_int_equal(writer->choice, CELLAR_DEVICE_AUTO);
    assert_int_equal(writer->file_mode, 0644);
    assert_false(writer->compat || writer->two_barriers || writer->words_wanted);
    assert_int_equal(writer->ahead_options, 0);
}

static void test_defaults(void **state)
{
    static const struct cellar_writer_options none;
    struct cellar_writer *writer, *other;

    (void)state;
    assert_done(cellar_writer_new(NULL, NULL, &writer));
    assert_done(cellar_writer_new("a name", &none, &other));
    expect_defaults(writer);
    expect_defaults(other);
    assert_null(writer->path);
    assert_string_equal(other->path, "a name");
    assert_null(other->real_path);
    assert_memory_not_equal(&writer->key, &other->key, sizeof writer->key); /* each has a fresh one */
    cellar_writer_free(writer);
    cellar_writer_free(other);
}

static void test_what_is_asked_for(void **state)
{
    struct cellar_key key = store_key(3);
    struct cellar_writer_options options = {.key = &key,
                                            .resize_step_bytes = 4711,
                                            .initial_cells = 17,
                                            .window_bytes = 1 << 20,
                                            .cache_bytes = 12345,
                                            .eager_writes = 9,
                                            .gather_bytes = 777,
                                            .device = CELLAR_DEVICE_PAGES,
                                            .file_mode = 0600,
                                            .two_barriers = true,
                                            .publish = CELLAR_PUBLISH_WORD,
                                            .ahead = CELLAR_AHEAD_NO_GROWTH};
    struct cellar_writer *writer;

    (void)state;
    assert_done(cellar_writer_new(NULL, &options, &writer));
    assert_memory_equal(&writer->key, &key, sizeof key);
    assert_int_equal(writer->resize_step_bytes, 4711);
    assert_int_equal(writer->initial_cells, 17);
    assert_int_equal(writer->window_limit, 1 << 20);
    assert_int_equal(writer->cache_bytes, 12345);
    assert_int_equal(writer->eager_writes, 9);
    assert_int_equal(writer->gather_bytes, 777);
    assert_int_equal(writer->choice, CELLAR_DEVICE_PAGES);
    assert_int_equal(writer->file_mode, 0600);
    assert_true(writer->two_barriers && writer->words_wanted && !writer->compat);
    assert_int_equal(writer->ahead_options, CELLAR_AHEAD_NO_GROWTH);
    cellar_writer_free(writer);
    options = (struct cellar_writer_options){
        .eager_writes = CELLAR_EAGER_NONE, .gather_bytes = CELLAR_GATHER_NONE, .compat = true};
    assert_done(cellar_writer_new(NULL, &options, &writer));
    assert_int_equal(writer->eager_writes, 0);
    assert_true(writer->gather_bytes == UINT64_MAX);
    assert_true(writer->compat && !writer->two_barriers && !writer->words_wanted);
    cellar_writer_free(writer);
}

/* Whatever a writer can't have, it isn't made without. */
static void test_nothing_is_done_without(void **state)
{
    struct cellar_writer *writer = NULL;

    (void)state;
    for (failing = FAIL_LOCK; failing < FAIL_NONE; failing++) {
        assert_result(cellar_writer_new("a name", NULL, &writer), -ENOMEM);
        assert_null(writer);
    }
    failing = 0;
    assert_done(cellar_writer_new("a name", NULL, &writer));
    cellar_writer_free(writer);
}

/* ---- the header ---- */

static struct cellar_writer_options small_steps(enum cellar_publish publish)
{
    return (struct cellar_writer_options){.resize_step_bytes = 4096, .publish = publish};
}

/* All of the header is there before the first sync, which is of all that was allocated; nothing waits for another. */
static void test_header_is_durable(void **state)
{
    (void)state;
    for (int words = 0; words < 2; words++) {
        struct cellar_writer_options options = small_steps(words ? CELLAR_PUBLISH_WORD : CELLAR_PUBLISH_SLOTS);
        struct cellar_config config = store_config(CELL, MAX_INDEX), found;
        struct medium *medium = medium_new(true);
        struct cellar_writer *writer = NULL;
        struct cellar_extension extension;

        assert_done(cellar_writer_create_on(medium->device, &config, &options, &writer));
        assert_int_equal(medium->sync_count, 1);
        assert_int_equal(medium->ends_bytes[0], medium->memory_size_bytes);
        cellar_config_decode(medium->headers[0], &found);
        assert_true(cellar_config_equal(&config, &found));
        extension = cellar_extension_decode(medium->headers[0]);
        assert_true(extension.boot_mark == medium->incarnation);
        assert_true(extension.binding != 0);
        assert_int_equal(extension.confirmed_next, START);
        assert_int_equal(extension.flags, 0);
        assert_false(writer->ground->header.disk_pending);
        extension = cellar_extension_decode(medium->memory);
        assert_int_equal(extension.flags, words ? CELLAR_FLAG_WORD : 0);
        assert_int_equal(extension.epoch, words);
        assert_int_equal(extension.word.next_index, words ? START : 0);
        assert_int_equal(extension.word.root_index, 0);
        assert_int_equal(cellar_load_le32(medium->memory + CELLAR_AT_CHECKSUM_ID), 0);
        cellar_writer_abandon(writer);
        medium_free(medium);
    }
}

/* A device that can't tell one boot from the next has a store without marks. */
static void test_no_incarnation(void **state)
{
    struct cellar_writer_options options = small_steps(CELLAR_PUBLISH_SLOTS);
    struct cellar_config config = store_config(CELL, MAX_INDEX);
    struct medium *medium = medium_new(true);
    struct cellar_writer *writer = NULL;
    struct cellar_extension extension;

    (void)state;
    medium->incarnation = 0;
    assert_done(cellar_writer_create_on(medium->device, &config, &options, &writer));
    extension = cellar_extension_decode(medium->memory);
    assert_true(extension.boot_mark == 0 && extension.binding == 0 && extension.confirmed_next == 0);
    cellar_writer_abandon(writer);
    medium_free(medium);
    medium = medium_new(true); /* and one that fails to has none */
    medium->incarnation_error = -EMFILE;
    assert_result(cellar_writer_create_on(medium->device, &config, &options, &writer), -EMFILE);
    medium_free(medium);
}

/* Without a window there is no word, whatever is wanted. */
static void test_no_window(void **state)
{
    struct cellar_writer_options options = small_steps(CELLAR_PUBLISH_WORD);
    struct cellar_config config = store_config(CELL, MAX_INDEX);
    struct medium *medium = medium_new(false);
    struct cellar_writer *writer = NULL;
    struct cellar_extension extension;

    (void)state;
    assert_done(cellar_writer_create_on(medium->device, &config, &options, &writer));
    extension = cellar_extension_decode(medium->memory);
    assert_int_equal(extension.flags, 0);
    assert_true(extension.epoch == 0 && extension.word.next_index == 0);
    cellar_writer_abandon(writer);
    medium_free(medium);
}

/* The options reach the window and the cells of the new store. */
static void test_options_go_on(void **state)
{
    struct cellar_config config = store_config(CELL, MAX_INDEX);

    (void)state;
    for (int compat = 0; compat < 2; compat++) {
        struct cellar_writer_options options = {.resize_step_bytes = 4096,
                                                .window_bytes = 128 << 10,
                                                .cache_bytes = 64 << 10,
                                                .eager_writes = 7,
                                                .compat = compat == 1};
        struct medium *medium = medium_new(compat == 0);
        struct cellar_writer *writer = NULL;

        assert_done(cellar_writer_create_on(medium->device, &config, &options, &writer));
        assert_true(mapped_to_write && opened_to_write);
        assert_int_equal(mapped_limit, 128 << 10);
        assert_int_equal(opened_cache_bytes, 64 << 10);
        assert_int_equal(opened_eager_writes, 7);
        assert_int_equal(opened_compat, compat);
        cellar_writer_abandon(writer);
        medium_free(medium);
    }
}

/* A full disk takes a smaller store where no length was asked for; any other error is one. */
static void test_growth_fails(void **state)
{
    static const struct {
        int error;
        uint32_t initial_cells;
        int result;
    } rows[] = {{-ENOSPC, 0, 0}, {-EDQUOT, 0, 0}, {-EFBIG, 0, 0}, {-ENOSPC, 10, -ENOSPC}, {-EIO, 0, -EIO}};
    struct cellar_config config = store_config(CELL, MAX_INDEX);

    (void)state;
    for (size_t i = 0; i < SUPPORT_COUNT(rows); i++) {
        struct cellar_writer_options options = {.initial_cells = rows[i].initial_cells, .device = CELLAR_DEVICE_PAGES};
        struct fault_device fault = {.block_bytes = 0};
        struct cellar_writer *writer = NULL;
        struct cellar_device *device;
        struct cellar_info info;

        assert_done(cellar_device_open_memory(NULL, 0, 1 << 20, &fault.inner));
        assert_done(fault_device_open(&fault, &device));
        fault_fail(&fault, FAULT_GROW, 1, 1, rows[i].error);
        assert_result(cellar_writer_create_on(device, &config, &options, &writer), rows[i].result);
        if (rows[i].result == 0) {
            cellar_writer_info(writer, &info);
            assert_int_equal(info.file_bytes, START * CELL);
            store_close(writer);
        }
        assert_done(cellar_device_close(device));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_defaults),
        cmocka_unit_test(test_what_is_asked_for),
        cmocka_unit_test(test_nothing_is_done_without),
        cmocka_unit_test(test_header_is_durable),
        cmocka_unit_test(test_no_incarnation),
        cmocka_unit_test(test_no_window),
        cmocka_unit_test(test_options_go_on),
        cmocka_unit_test(test_growth_fails),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
