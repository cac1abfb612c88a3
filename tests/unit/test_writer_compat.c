/* Compat mode: the original's lock is held around every store into a slot, and at no other time. */
#include "device_fault.h"
#include "store_fixture.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static struct cellar_writer_options compat_options(const struct store_fixture *f)
{
    struct cellar_writer_options options = store_options(f);

    options.compat = true;
    return options;
}

static void test_info_and_contents(void **state)
{
    struct store_fixture *f = *state;
    struct cellar_writer_options options = compat_options(f);
    struct cellar_config config = store_config(32, 5000);
    struct cellar_writer *writer = NULL;
    struct cellar_snapshot snapshot;
    struct cellar_reader *reader;
    struct cellar_info info;

    assert_done(store_create(f, &config, &options, &writer));
    cellar_writer_info(writer, &info);
    assert_true(info.compat);
    reader = store_reader(f, &f->key);
    store_append(writer, 20);
    assert_done(cellar_writer_commit(writer));
    assert_done(cellar_reader_refresh(reader));
    assert_int_equal(cellar_reader_snapshot(reader).next_index, 28);
    store_append(writer, 20);
    assert_done(cellar_writer_set_root(writer, 30));
    assert_done(cellar_writer_flush(writer));
    cellar_reader_close(reader);
    store_close(writer);
    if (!f->way->memory)
        assert_int_equal(support_file_size(f->path), 65536); /* the original may have it mapped: not cut */
    store_assert_pair(f, CELLAR_DISK_1, 48, 30);
    store_assert_pair(f, CELLAR_PROCESS_1, 48, 30);
    assert_done(store_open(f, &options, &writer));
    snapshot = cellar_writer_snapshot(writer);
    store_assert_cells(&snapshot);
    store_close(writer);
}

/* ---- every write and lock of the device ---- */

struct watched {
    struct fault_device fault;
    struct cellar_device *device;
    int locks; /* held now, the writer's own included */
    unsigned disk_writes, process_writes, slot_writes_without_lock, other_writes_with_lock, locks_taken;
};

static void watch(void *user, enum fault_call call, uint64_t offset, uint64_t length_bytes)
{
    struct watched *watched = user;
    bool slots = offset < 160 && offset + length_bytes > 32;
    bool binding = offset == CELLAR_AT_BINDING; /* between the process-sync slots */

    if (call == FAULT_LOCK) {
        watched->locks++;
        watched->locks_taken++;
    } else if (call == FAULT_UNLOCK) {
        watched->locks--;
    } else if (call == FAULT_WRITE && slots) {
        *(offset < 96 ? &watched->disk_writes : &watched->process_writes) += 1;
        watched->slot_writes_without_lock += watched->locks != 2;
    } else if (call == FAULT_WRITE && !binding) {
        watched->other_writes_with_lock += watched->locks != 1;
    } else if (call == FAULT_SYNC) {
        watched->other_writes_with_lock += watched->locks != 1; /* nobody waits for a disk */
    }
}

/* A store in memory, and a device in front of it that watches. */
static void watched_open(struct store_fixture *f, struct watched *watched)
{
    *watched = (struct watched){.fault = {.inner = f->memory, .keep_inner = true, .before = watch}};
    watched->fault.before_user = watched;
    assert_done(fault_device_open(&watched->fault, &watched->device));
}

static void test_lock_around_slot_writes(void **state)
{
    struct store_fixture *f = *state;
    struct cellar_writer_options options = compat_options(f);
    struct cellar_writer *writer = store_new(f, 32, 5000);
    struct watched watched;

    store_append(writer, 10);
    store_close(writer);
    watched_open(f, &watched);
    assert_done(cellar_writer_open_on(watched.device, &options, &writer));
    for (int i = 0; i < 10; i++) {
        store_append(writer, 3);
        assert_done(cellar_writer_commit(writer));
        assert_done(cellar_writer_set_root(writer, cellar_writer_next(writer) - 1));
        assert_done(cellar_writer_flush(writer));
        assert_int_equal(watched.locks, 1);
    }
    store_close(writer);
    assert_int_equal(watched.locks, 0);
    assert_true(watched.process_writes >= 40);
    assert_true(watched.disk_writes >= 20);
    assert_int_equal(watched.slot_writes_without_lock, 0);
    assert_int_equal(watched.other_writes_with_lock, 0);
    /* Once for the process-sync pair; disk-sync slots one at a time, with a barrier between them. */
    assert_int_equal(watched.locks_taken, 1 + watched.process_writes / 2 + watched.disk_writes);
    cellar_device_close(watched.device);
}

/* Repairing is storing into slots, too. */
static void test_lock_around_repairs(void **state)
{
    struct store_fixture *f = *state;
    struct cellar_writer_options options = compat_options(f);
    struct cellar_writer *writer = store_new(f, 32, 5000);
    struct cellar_recovery recovery;
    struct watched watched;

    store_append(writer, 10);
    store_close(writer);
    store_break_slot(f, CELLAR_DISK_1);
    store_break_slot(f, CELLAR_PROCESS_2);
    watched_open(f, &watched);
    assert_done(cellar_writer_open_on(watched.device, &options, &writer));
    cellar_writer_recovery(writer, &recovery);
    assert_int_equal(recovery.repaired_slots, CELLAR_SLOT_DISK_1 | CELLAR_SLOT_PROCESS_2);
    store_close(writer);
    assert_int_equal(watched.slot_writes_without_lock, 0);
    assert_int_equal(watched.locks, 0);
    cellar_device_close(watched.device);
}

/* Without compat mode there is one lock, the writer's. */
static void test_no_lock_otherwise(void **state)
{
    struct store_fixture *f = *state;
    struct cellar_writer_options options = store_options(f);
    struct cellar_writer *writer = store_new(f, 32, 5000);
    struct watched watched;

    store_close(writer);
    watched_open(f, &watched);
    assert_done(cellar_writer_open_on(watched.device, &options, &writer));
    store_append(writer, 10);
    assert_done(cellar_writer_flush(writer));
    store_close(writer);
    assert_int_equal(watched.locks_taken, 1);
    assert_int_equal(watched.locks, 0);
    cellar_device_close(watched.device);
}

/* A lock that can't be had is a failed write. */
static void test_lock_fails(void **state)
{
    struct store_fixture *f = *state;
    struct cellar_writer_options options = compat_options(f);
    struct cellar_writer *writer = store_new(f, 32, 5000);
    struct watched watched;

    store_close(writer);
    watched_open(f, &watched);
    assert_done(cellar_writer_open_on(watched.device, &options, &writer));
    store_append(writer, 1);
    fault_fail(&watched.fault, FAULT_LOCK, 1, 1, -ENOLCK);
    assert_result(cellar_writer_commit(writer), -ENOLCK);
    assert_result(cellar_writer_commit(writer), -ENOLCK);
    assert_result(cellar_writer_close(writer), -ENOLCK);
    store_assert_pair(f, CELLAR_PROCESS_1, 8, CELLAR_ROOT_NONE);
    cellar_device_close(watched.device);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        STORE_ON_ALL(test_info_and_contents),
        STORE_ON(test_lock_around_slot_writes, STORE_MEMORY_PAGES),
        STORE_ON(test_lock_around_repairs, STORE_MEMORY_PAGES),
        STORE_ON(test_no_lock_otherwise, STORE_MEMORY_PAGES),
        STORE_ON(test_no_lock_otherwise, STORE_MEMORY_MAPPED),
        STORE_ON(test_lock_fails, STORE_MEMORY_PAGES),
        STORE_ON(test_lock_fails, STORE_MEMORY_MAPPED),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
