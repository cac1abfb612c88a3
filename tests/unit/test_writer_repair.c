/*
 * Opening a store whose slots need repair, while the device fails under it, again and again: at every moment each pair
 * holds a whole slot, so the next opening finds the state that it should.
 */
#include "device_fault.h"
#include "store_fixture.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { BYTES_PER_CELL = 32, MAX_INDEX = 5000, CELLS = 40 };

/* The slots before: of the disk pair next 20, root 12; of the process pair next 30, root 25. older: 14 and 9. */
struct before {
    const char *what;
    bool broken[CELLAR_SLOT_COUNT];
    bool older[CELLAR_SLOT_COUNT];
    unsigned repaired_slots;
};

static const struct before cases[] = {
    {"whole", {false, false, false, false}, {false, false, false, false}, 0},
    {"disk #1 torn", {true, false, false, false}, {false, false, false, false}, CELLAR_SLOT_DISK_1},
    {"disk #2 torn", {false, true, false, false}, {false, false, false, false}, CELLAR_SLOT_DISK_2},
    {"disk #2 older", {false, false, false, false}, {false, true, false, false}, CELLAR_SLOT_DISK_2},
    {"process #1 torn", {false, false, true, false}, {false, false, false, false}, CELLAR_SLOT_PROCESS_1},
    {"process #2 torn", {false, false, false, true}, {false, false, false, false}, CELLAR_SLOT_PROCESS_2},
    {"both seconds older",
     {false, false, false, false},
     {false, true, false, true},
     CELLAR_SLOT_DISK_2 | CELLAR_SLOT_PROCESS_2},
    {"both firsts torn",
     {true, false, true, false},
     {false, false, false, false},
     CELLAR_SLOT_DISK_1 | CELLAR_SLOT_PROCESS_1},
    {"process pair broken",
     {false, false, true, true},
     {false, false, false, false},
     CELLAR_SLOT_PROCESS_1 | CELLAR_SLOT_PROCESS_2},
};

static void put_before(struct store_fixture *f, const struct before *before)
{
    struct cellar_writer *writer = store_new(f, BYTES_PER_CELL, MAX_INDEX);
    struct cellar_key key = store_key(2);

    store_append(writer, CELLS - 8);
    store_close(writer);
    for (int name = 0; name < CELLAR_SLOT_COUNT; name++) {
        bool disk = name < CELLAR_PROCESS_1;
        uint32_t next = before->older[name] ? 14 : disk ? 20 : 30;
        uint32_t root = before->older[name] ? 9 : disk ? 12 : 25;

        store_put_slot(f, (enum cellar_slot_name)name, next, root, disk ? NULL : &key);
        if (before->broken[name])
            store_break_slot(f, (enum cellar_slot_name)name);
    }
}

/* Opens on a device whose nth write or sync fails for good (the machine is gone). 0: it was opened all the same. */
static int open_and_crash(struct store_fixture *f, uint64_t nth, uint64_t torn_bytes)
{
    struct cellar_writer_options options = store_options(f);
    struct fault_device fault = {.inner = f->memory, .keep_inner = true};
    struct cellar_writer *writer = NULL;
    struct cellar_device *device;
    int error;

    assert_done(fault_device_open(&fault, &device));
    fault.torn_bytes = torn_bytes;
    fault_fail_any(&fault, FAULT_BIT(FAULT_WRITE) | FAULT_BIT(FAULT_SYNC), nth, 1, -EIO);
    fault_fail_any(&fault, FAULT_BIT(FAULT_WRITE) | FAULT_BIT(FAULT_SYNC), nth + 1, 0, -EROFS);
    error = cellar_writer_open_on(device, &options, &writer);
    if (error == 0)
        cellar_writer_abandon(writer);
    else
        assert_int_equal(error, -EIO);
    cellar_device_close(device);
    return error;
}

/* Readers and the next writer find what they should, whatever was done. */
static void assert_sound(struct store_fixture *f, const struct before *before)
{
    uint32_t next = before->broken[2] && before->broken[3] ? 20 : 30;
    struct cellar_snapshot snapshot;
    struct cellar_reader *reader;
    struct cellar_writer *writer;

    reader = store_reader(f, NULL);
    snapshot = cellar_reader_snapshot(reader);
    assert_true(snapshot.next_index == 20 || snapshot.next_index == next);
    assert_int_equal(snapshot.root_index, 12);
    store_assert_cells(&snapshot);
    cellar_reader_close(reader);
    writer = store_again(f);
    assert_int_equal(cellar_writer_next(writer), next);
    assert_int_equal(cellar_writer_root(writer), 12);
    cellar_writer_abandon(writer);
    store_assert_pair(f, CELLAR_DISK_1, next, 12);
    store_assert_pair(f, CELLAR_PROCESS_1, next, 12);
}

static void test_repair(void **state)
{
    struct store_fixture *f = *state;

    for (size_t i = 0; i < SUPPORT_COUNT(cases); i++) {
        struct cellar_recovery recovery;
        struct cellar_writer *writer;

        put_before(f, &cases[i]);
        writer = store_again(f);
        cellar_writer_recovery(writer, &recovery);
        assert_int_equal(recovery.repaired_slots, cases[i].repaired_slots);
        cellar_writer_abandon(writer);
        assert_sound(f, &cases[i]);
        store_remove(f);
    }
}

/* One crash at every call, then another at every call of the opening that follows. */
static void test_two_crashes_in_a_row(void **state)
{
    static const uint64_t torn[] = {0, 4, 12, 24, 28, 31};
    struct store_fixture *f = *state;
    unsigned crashes = 0;

    for (size_t i = 0; i < SUPPORT_COUNT(cases); i++) {
        bool first_done = false;

        for (uint64_t first = 1; !first_done; first++) {
            bool second_done = false;

            for (uint64_t second = 1; !second_done; second++) {
                for (size_t k = 0; k < SUPPORT_COUNT(torn); k++) {
                    put_before(f, &cases[i]);
                    first_done = open_and_crash(f, first, torn[k]) == 0;
                    second_done = open_and_crash(f, second, torn[(k + 3) % SUPPORT_COUNT(torn)]) == 0;
                    crashes += !first_done && !second_done;
                    assert_sound(f, &cases[i]);
                    store_remove(f);
                }
            }
        }
    }
    assert_true(crashes > (!f->way->window ? 100 : 10));
}

/* Of the disk pair the repaired slot is durable before the other one is touched. */
struct syncs {
    struct store_fixture *f;
    unsigned char durable[CELLAR_HEADER_BYTES]; /* the header as it was at the last sync */
    bool sound;
};

static void look_at_sync(void *user, enum fault_call call, uint64_t offset, uint64_t length_bytes)
{
    struct syncs *syncs = user;
    unsigned char now[CELLAR_HEADER_BYTES];
    bool changed[2];

    (void)offset;
    (void)length_bytes;
    if (call != FAULT_SYNC)
        return;
    assert_done(cellar_device_read(syncs->f->memory, now, sizeof now, 0));
    for (int which = 0; which < 2; which++)
        changed[which] = memcmp(now + 32 + 32 * which, syncs->durable + 32 + 32 * which, 32) != 0;
    /* Any mixture of what was durable and what is now may be found: a whole slot must be among what did not change. */
    if (changed[0] && changed[1])
        syncs->sound = syncs->sound && cellar_slot_decode(syncs->durable + 32).valid &&
                       cellar_slot_decode(syncs->durable + 64).valid;
    else if (changed[0] || changed[1])
        syncs->sound = syncs->sound && cellar_slot_decode(syncs->durable + (changed[0] ? 64 : 32)).valid;
    memcpy(syncs->durable, now, sizeof now);
}

static void test_repair_is_durable_first(void **state)
{
    struct store_fixture *f = *state;

    for (size_t i = 0; i < SUPPORT_COUNT(cases); i++) {
        struct cellar_writer_options options = store_options(f);
        struct syncs syncs = {.f = f, .sound = true};
        struct fault_device fault = {.keep_inner = true, .before = look_at_sync, .before_user = &syncs};
        struct cellar_writer *writer = NULL;
        struct cellar_device *device;

        put_before(f, &cases[i]);
        assert_done(cellar_device_read(f->memory, syncs.durable, sizeof syncs.durable, 0));
        fault.inner = f->memory;
        assert_done(fault_device_open(&fault, &device));
        assert_done(cellar_writer_open_on(device, &options, &writer));
        cellar_writer_abandon(writer);
        assert_true(syncs.sound);
        cellar_device_close(device);
        store_remove(f);
    }
}

/* Every other call of the device that opening and creating make fails once: its error, and a store that opens later. */
static void test_failing_opens(void **state)
{
    unsigned all = FAULT_ALL_BITS & ~(FAULT_BIT(FAULT_CLOSE) | FAULT_BIT(FAULT_UNLOCK));
    struct store_fixture *f = *state;
    struct cellar_writer_options options = store_options(f);
    struct cellar_diagnostic diagnostic;
    struct fault_device fault = {.keep_inner = true};
    struct cellar_writer *writer = NULL;
    struct cellar_device *device;
    int error = -1;

    options.diagnostic = &diagnostic;
    put_before(f, &cases[7]);
    fault.inner = f->memory;
    assert_done(fault_device_open(&fault, &device));
    for (uint64_t nth = 1; error != 0; nth++) {
        fault_fail_any(&fault, all, nth, 1, -EIO);
        error = cellar_writer_open_on(device, &options, &writer);
        fault_heal(&fault);
        if (error != 0) {
            assert_int_equal(error, -EIO);
            assert_int_equal(diagnostic.error, -EIO);
            assert_null(writer);
        }
    }
    cellar_writer_abandon(writer);
    assert_sound(f, &cases[7]);
    cellar_device_close(device);
}

static void test_failing_creates(void **state)
{
    unsigned all = FAULT_ALL_BITS & ~(FAULT_BIT(FAULT_CLOSE) | FAULT_BIT(FAULT_UNLOCK) | FAULT_BIT(FAULT_TRIM));
    struct store_fixture *f = *state;
    struct cellar_config config = store_config(BYTES_PER_CELL, MAX_INDEX);
    struct cellar_writer_options options = store_options(f);
    struct fault_device fault = {.keep_inner = false};
    struct cellar_writer *writer = NULL;
    struct cellar_device *device;
    int error = -1;

    assert_done(cellar_device_open_memory(NULL, 0, 1 << 20, &fault.inner));
    assert_done(fault_device_open(&fault, &device));
    for (uint64_t nth = 1; error != 0; nth++) {
        uint64_t size_bytes = 77;

        fault_fail_any(&fault, all, nth, 1, -EIO);
        error = cellar_writer_create_on(device, &config, &options, &writer);
        fault_heal(&fault);
        if (error != 0) {
            assert_int_equal(error, -EIO);
            assert_null(writer);
            assert_done(cellar_device_size(device, &size_bytes));
            assert_int_equal(size_bytes, 0); /* as empty as it was */
        }
    }
    store_append(writer, 3);
    store_close(writer);
    cellar_device_close(device);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        STORE_ON(test_repair, STORE_MEMORY_MAPPED),
        STORE_ON(test_repair, STORE_MEMORY_PAGES),
        STORE_ON(test_two_crashes_in_a_row, STORE_MEMORY_PAGES),
        STORE_ON(test_two_crashes_in_a_row, STORE_MEMORY_MAPPED),
        STORE_ON(test_repair_is_durable_first, STORE_MEMORY_MAPPED),
        STORE_ON(test_repair_is_durable_first, STORE_MEMORY_PAGES),
        STORE_ON(test_failing_opens, STORE_MEMORY_MAPPED),
        STORE_ON(test_failing_opens, STORE_MEMORY_PAGES),
        STORE_ON(test_failing_creates, STORE_MEMORY_MAPPED),
        STORE_ON(test_failing_creates, STORE_MEMORY_PAGES),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
