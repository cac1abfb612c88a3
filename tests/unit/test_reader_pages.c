/* Readers on the pages path: what is cached is never older than the snapshot; and what a failing device comes to. */
#include "device_fault.h"
#include "store_fixture.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* The page at the end of what a reader stands at holds cells that are still to come: it is read again then. */
static void test_last_page_is_read_again(void **state)
{
    struct store_fixture *f = *state;
    struct cellar_writer *writer = store_new(f, 48, 50000);
    struct cellar_reader *reader = store_reader(f, &f->key);
    struct cellar_snapshot snapshot;

    for (uint32_t round = 0; round < 300; round++) {
        store_append(writer, 1 + round % 3);
        assert_done(cellar_writer_commit(writer));
        assert_done(cellar_reader_refresh(reader));
        snapshot = cellar_reader_snapshot(reader);
        assert_true(store_cells_hold(&snapshot, snapshot.next_index - 1, 1));
    }
    store_assert_cells(&snapshot);
    cellar_reader_close(reader);
    store_close(writer);
}

/* The same where the reader went back to the durable state in between: next had been higher already. */
static void test_pages_of_a_higher_next(void **state)
{
    struct store_fixture *f = *state;
    struct cellar_writer *writer = store_new(f, 32, 50000);
    struct cellar_reader *reader = store_reader(f, &f->key);
    struct cellar_snapshot snapshot;

    store_append(writer, 200);
    assert_done(cellar_writer_commit(writer));
    assert_done(cellar_reader_refresh(reader));
    snapshot = cellar_reader_snapshot(reader);
    store_assert_cells(&snapshot); /* cached: the page of cells 128..255, of which 208.. are not written yet */
    cellar_reader_disable_process_sync(reader);
    assert_done(cellar_reader_refresh(reader));
    assert_int_equal(cellar_reader_snapshot(reader).next_index, 8);
    store_append(writer, 300);
    assert_done(cellar_writer_commit(writer));
    assert_done(cellar_reader_enable_process_sync(reader, &f->key));
    assert_done(cellar_reader_refresh(reader));
    snapshot = cellar_reader_snapshot(reader);
    assert_int_equal(snapshot.next_index, 508);
    store_assert_cells(&snapshot);
    cellar_reader_close(reader);
    store_close(writer);
}

/* A cache of the smallest size gives pages up for others all the time. */
static void test_small_cache(void **state)
{
    struct store_fixture *f = *state;
    struct cellar_reader_options options = store_reader_options(f);
    struct cellar_writer_options writer_options = store_options(f);
    struct cellar_config config = store_config(100, 20000);
    struct cellar_writer *writer = NULL;
    struct cellar_reader *reader = NULL;
    struct cellar_snapshot snapshot, own;
    uint64_t seed = 5;

    options.cache_bytes = writer_options.cache_bytes = 1;
    assert_done(store_create(f, &config, &writer_options, &writer));
    store_append(writer, 10000);
    assert_done(cellar_writer_flush(writer));
    assert_done(store_read(f, &options, &reader));
    snapshot = cellar_reader_snapshot(reader);
    own = cellar_writer_snapshot(writer);
    for (int i = 0; i < 3000; i++) {
        uint32_t index = 3 + (uint32_t)support_random_below(&seed, 10000);

        assert_true(store_cells_hold(&snapshot, index, 1));
        assert_true(store_cells_hold(&own, index, 1));
    }
    cellar_reader_close(reader);
    store_close(writer);
}

/* ---- a device that fails ---- */

struct failing {
    struct fault_device fault;
    struct cellar_device *device;
};

/* A store of 60 cells in memory, behind a device that can fail. */
static void failing_open(struct store_fixture *f, struct failing *failing)
{
    struct cellar_writer *writer = store_new(f, 32, 5000);

    store_append(writer, 52);
    assert_done(cellar_writer_set_root(writer, 20));
    store_close(writer);
    *failing = (struct failing){.fault = {.inner = f->memory, .keep_inner = true}};
    assert_done(fault_device_open(&failing->fault, &failing->device));
}

/* Every call of the device that opening makes fails once: an error, the device's own, and nothing is lost. */
static void test_open_on_failing_device(void **state)
{
    struct store_fixture *f = *state;
    struct cellar_reader_options options = store_reader_options(f);
    struct cellar_diagnostic diagnostic;
    struct failing failing;
    struct cellar_reader *reader = NULL;
    uint64_t nth;

    failing_open(f, &failing);
    options.key = &f->key;
    options.diagnostic = &diagnostic;
    for (nth = 1;; nth++) {
        int error;

        fault_fail_any(&failing.fault, FAULT_BIT(FAULT_READ) | FAULT_BIT(FAULT_SIZE) | FAULT_BIT(FAULT_WINDOW), nth, 1,
                       -EIO);
        error = cellar_reader_open_on(failing.device, &options, &reader);
        fault_heal(&failing.fault);
        if (error == 0)
            break;
        assert_int_equal(error, -EIO);
        assert_int_equal(diagnostic.error, -EIO);
        assert_true(strlen(diagnostic.message) > 0);
        assert_null(reader);
    }
    assert_true(nth > 3);
    assert_int_equal(cellar_reader_snapshot(reader).next_index, 60);
    cellar_reader_close(reader);
    cellar_device_close(failing.device);
}

/* A refresh that fails leaves the reader where it was, and the reader says what went wrong at the last failure. */
static void test_refresh_on_failing_device(void **state)
{
    struct store_fixture *f = *state;
    struct cellar_reader_options options = store_reader_options(f);
    struct cellar_key wrong = store_key(2);
    struct failing failing;
    struct cellar_snapshot snapshot;
    struct cellar_reader *reader = NULL;
    unsigned char cell[32];

    failing_open(f, &failing);
    assert_done(cellar_reader_open_on(failing.device, &options, &reader));
    assert_result(cellar_reader_check_key(reader, &wrong), CELLAR_EBADKEY);
    fault_fail(&failing.fault, FAULT_READ, 1, 0, -EIO);
    fault_fail(&failing.fault, FAULT_SIZE, 1, 0, -EIO);
    assert_result(cellar_reader_check(reader), -EIO);
    assert_int_equal(cellar_reader_diagnostic(reader)->error, -EIO);
    if (!f->way->window) {
        snapshot = cellar_reader_snapshot(reader);
        assert_result(cellar_snapshot_read(&snapshot, 8, 0, cell, 32), -EIO);
        fault_heal(&failing.fault);
        assert_result(cellar_reader_check_key(reader, &wrong), CELLAR_EBADKEY);
        fault_fail(&failing.fault, FAULT_READ, 1, 0, -EIO);
        assert_result(cellar_reader_refresh(reader), -EIO);
        assert_int_equal(cellar_reader_diagnostic(reader)->error, -EIO);
        fault_heal(&failing.fault);
        fault_fail(&failing.fault, FAULT_READ, 2, 0, -EIO); /* the flags can be read, the slots can't */
        assert_result(cellar_reader_refresh(reader), -EIO);
        fault_heal(&failing.fault);
        fault_fail(&failing.fault, FAULT_READ, 1, 0, -ENOMEM);
        assert_result(cellar_reader_check_key(reader, &f->key), -ENOMEM);
        assert_int_equal(cellar_reader_diagnostic(reader)->error, -ENOMEM);
        assert_result(cellar_reader_enable_process_sync(reader, &f->key), -ENOMEM);
        assert_int_equal(cellar_reader_snapshot(reader).next_index, 60);
    }
    fault_heal(&failing.fault);
    assert_result(cellar_reader_refresh(reader), CELLAR_NONE);
    snapshot = cellar_reader_snapshot(reader);
    assert_int_equal(snapshot.root_index, 20);
    store_assert_cells(&snapshot);
    cellar_reader_close(reader);
    cellar_device_close(failing.device);
}

/* ---- a slot that changes between two looks ---- */

struct looks {
    struct store_fixture *f;
    bool broken; /* both slots, else one under another key */
    unsigned first_slot_reads;
};

/* The process-sync slots as a reader may find them while they are being stored, and whole again at its next look. */
static void change_slots(void *user, enum fault_call call, uint64_t offset, uint64_t length_bytes)
{
    struct looks *looks = user;
    struct cellar_key other = store_key(2);

    (void)length_bytes;
    if (call != FAULT_READ || offset != cellar_slot_offset(CELLAR_PROCESS_1))
        return;
    looks->first_slot_reads++;
    store_put_slot(looks->f, CELLAR_PROCESS_1, 60, 30, looks->first_slot_reads == 1 ? &other : &looks->f->key);
    store_put_slot(looks->f, CELLAR_PROCESS_2, 60, 30, &looks->f->key);
    if (looks->first_slot_reads == 1 && looks->broken) {
        store_break_slot(looks->f, CELLAR_PROCESS_1);
        store_break_slot(looks->f, CELLAR_PROCESS_2);
    }
}

/* Neither a broken pair nor another writer is concluded from one look. */
static void test_one_look_proves_nothing(void **state)
{
    for (int broken = 0; broken < 2; broken++) {
        struct store_fixture *f = *state;
        struct cellar_reader_options options = store_reader_options(f);
        struct looks looks = {.f = f, .broken = broken != 0};
        struct cellar_reader *reader = NULL;
        struct failing failing;
        struct cellar_info info;

        failing_open(f, &failing);
        options.key = &f->key;
        assert_done(cellar_reader_open_on(failing.device, &options, &reader));
        failing.fault.before_user = &looks;
        failing.fault.before = change_slots;
        assert_done(cellar_reader_refresh(reader));
        cellar_reader_info(reader, &info);
        assert_int_equal(info.root_index, 30);
        assert_false(info.other_writer);
        assert_true(looks.first_slot_reads >= 2);
        looks.first_slot_reads = 0;
        assert_done(cellar_reader_check_key(reader, &f->key));
        cellar_reader_close(reader);
        cellar_device_close(failing.device);
        store_remove(f);
    }
}

/* How pages are brought: lent, or in the cache's debug mode read. */
#define LOADS (FAULT_BIT(FAULT_LOAD) | FAULT_BIT(FAULT_READ))

/* A value that can't be read is an error, wherever the device fails, and it can be read once that is over. */
static void test_values_on_failing_device(void **state)
{
    static const uint64_t nths[] = {1, 2, 40, 100, 700};
    static const size_t lengths[] = {200000, 5 << 20};
    struct store_fixture *f = *state;
    unsigned char *bytes = malloc(lengths[1]), *buffer = malloc(lengths[1]);
    struct cellar_writer *writer = store_new(f, 64, 200000);
    struct failing failing = {.fault = {.inner = f->memory, .keep_inner = true}};
    struct cellar_reader_options options = store_reader_options(f);
    struct cellar_reader *reader = NULL;
    struct cellar_snapshot snapshot;
    uint32_t indices[2];

    assert_non_null(bytes);
    assert_non_null(buffer);
    support_bytes(6, bytes, lengths[1]);
    for (size_t i = 0; i < SUPPORT_COUNT(lengths); i++)
        assert_done(cellar_writer_write_value(writer, bytes, lengths[i], &indices[i]));
    store_close(writer);
    assert_done(fault_device_open(&failing.fault, &failing.device));
    options.cache_bytes = 1;
    assert_done(cellar_reader_open_on(failing.device, &options, &reader));
    snapshot = cellar_reader_snapshot(reader);
    for (size_t i = 0; i < SUPPORT_COUNT(lengths); i++) {
        for (size_t k = 0; k < SUPPORT_COUNT(nths); k++) {
            struct cellar_diagnostic diagnostic = {.error = 0};
            size_t got = 77;
            void *copy = NULL;

            if (nths[k] > lengths[i] / 5000)
                continue; /* not so many pages */
            fault_fail_any(&failing.fault, LOADS, nths[k], 0, -EIO);
            assert_result(cellar_snapshot_read_value(&snapshot, indices[i], buffer, lengths[i], &got), -EIO);
            fault_heal(&failing.fault);
            fault_fail_any(&failing.fault, LOADS, nths[k], 0, -EIO);
            assert_result(cellar_snapshot_copy_value(&snapshot, indices[i], &copy, &got), -EIO);
            fault_heal(&failing.fault);
            assert_int_equal(got, 77);
            assert_null(copy);
            fault_fail_any(&failing.fault, LOADS, 1, 0, -EIO);
            assert_result(cellar_snapshot_check_value(&snapshot, indices[i], &diagnostic), -EIO);
            fault_heal(&failing.fault);
            assert_int_equal(diagnostic.error, -EIO);
        }
        store_assert_value(&snapshot, indices[i], bytes, lengths[i]);
    }
    cellar_reader_close(reader);
    cellar_device_close(failing.device);
    free(bytes);
    free(buffer);
}

/* With a window a refresh that finds nothing new asks the device nothing; one after growth asks for the size, once. */
static void test_refresh_calls(void **state)
{
    struct store_fixture *f = *state;
    struct cellar_reader_options options = store_reader_options(f);
    struct cellar_writer *writer;
    struct cellar_reader *reader = NULL;
    struct failing failing;
    uint64_t calls;

    failing_open(f, &failing);
    options.key = &f->key;
    writer = store_again(f);
    assert_done(cellar_reader_open_on(failing.device, &options, &reader));
    calls = fault_calls(&failing.fault, FAULT_ALL_BITS);
    for (int i = 0; i < 100; i++)
        assert_result(cellar_reader_refresh(reader), CELLAR_NONE);
    store_append(writer, 3);
    assert_done(cellar_writer_commit(writer));
    assert_done(cellar_reader_refresh(reader));
    assert_int_equal(fault_calls(&failing.fault, FAULT_ALL_BITS), calls);
    store_append(writer, 3000); /* past the first 64 KiB */
    assert_done(cellar_writer_commit(writer));
    fault_fail(&failing.fault, FAULT_SIZE, 1, 1, -EIO);
    assert_result(cellar_reader_refresh(reader), -EIO);
    assert_int_equal(cellar_reader_snapshot(reader).next_index, 63);
    assert_done(cellar_reader_refresh(reader));
    assert_int_equal(cellar_reader_snapshot(reader).next_index, 3063);
    assert_int_equal(fault_calls(&failing.fault, FAULT_ALL_BITS), calls + 2);
    assert_int_equal(fault_calls(&failing.fault, FAULT_BIT(FAULT_WRITE) | FAULT_BIT(FAULT_LOCK)), 0);
    cellar_reader_close(reader);
    cellar_device_close(failing.device);
    store_close(writer);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        STORE_ON_ALL(test_last_page_is_read_again),
        STORE_ON_ALL(test_pages_of_a_higher_next),
        STORE_ON_ALL(test_small_cache),
        STORE_ON(test_open_on_failing_device, STORE_MEMORY_MAPPED),
        STORE_ON(test_open_on_failing_device, STORE_MEMORY_PAGES),
        STORE_ON(test_refresh_on_failing_device, STORE_MEMORY_MAPPED),
        STORE_ON(test_refresh_on_failing_device, STORE_MEMORY_PAGES),
        STORE_ON(test_one_look_proves_nothing, STORE_MEMORY_PAGES),
        STORE_ON(test_values_on_failing_device, STORE_MEMORY_PAGES),
        STORE_ON(test_refresh_calls, STORE_MEMORY_MAPPED),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
