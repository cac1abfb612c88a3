/*
 * What opening makes of the marks in the extension bytes: the boot mark and its binding, SUSPECT, SYNCING, the check of
 * the config.
 */
#include "device_fault.h"
#include "store_fixture.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { BYTES_PER_CELL = 32, MAX_INDEX = 5000 };

static struct cellar_recovery reopen(struct store_fixture *f, struct cellar_writer **ret_writer)
{
    struct cellar_recovery recovery;

    *ret_writer = store_again(f);
    cellar_writer_recovery(*ret_writer, &recovery);
    return recovery;
}

static struct cellar_extension extension_of(struct store_fixture *f)
{
    size_t length_bytes;
    unsigned char *bytes = store_bytes(f, &length_bytes);
    struct cellar_extension extension = cellar_extension_decode(bytes);

    free(bytes);
    return extension;
}

static void put_u32(struct store_fixture *f, uint64_t offset, uint32_t value)
{
    unsigned char bytes[4];

    cellar_store_le32(bytes, value);
    store_patch(f, offset, bytes, sizeof bytes);
}

/* A store with a flushed state (next 12, root 10) and a committed one (next 17, and a root); its writer is gone. */
static void leave_committed(struct store_fixture *f, uint32_t root)
{
    struct cellar_writer *writer = store_new(f, BYTES_PER_CELL, MAX_INDEX);

    store_append(writer, 4);
    assert_done(cellar_writer_set_root(writer, 10));
    assert_done(cellar_writer_flush(writer));
    store_append(writer, 5);
    assert_done(cellar_writer_set_root(writer, root));
    assert_done(cellar_writer_commit(writer));
    store_append(writer, 3);
    cellar_writer_abandon(writer);
}

static void assert_cells(struct cellar_writer *writer, uint32_t next_index, uint32_t root_index)
{
    struct cellar_snapshot snapshot = cellar_writer_snapshot(writer);

    assert_int_equal(snapshot.next_index, next_index);
    assert_int_equal(snapshot.root_index, root_index);
    store_assert_cells(&snapshot);
}

/* ---- the process died, the machine stayed up ---- */

static void test_nothing_committed_is_lost(void **state)
{
    static const uint32_t roots[] = {16, 10, 9, CELLAR_ROOT_NONE};
    struct store_fixture *f = *state;

    for (size_t i = 0; i < SUPPORT_COUNT(roots); i++) {
        struct cellar_writer *writer;
        struct cellar_recovery recovery;

        leave_committed(f, roots[i]);
        if (!store_has_mark(f))
            return;
        recovery = reopen(f, &writer);
        assert_int_equal(recovery.found, CELLAR_FOUND_COMMITTED);
        assert_int_equal(recovery.disk_next_index, 12);
        assert_int_equal(recovery.disk_root_index, 10);
        assert_int_equal(recovery.skipped_cells, 0);
        assert_false(recovery.root_dropped);
        assert_cells(writer, 17, roots[i]);
        store_assert_pair(f, CELLAR_DISK_1, 12, 10); /* what is durable has not changed by that */
        store_assert_pair(f, CELLAR_PROCESS_1, 17, roots[i]);
        cellar_writer_abandon(writer); /* once more: still committed, still there */
        recovery = reopen(f, &writer);
        assert_int_equal(recovery.found, CELLAR_FOUND_COMMITTED);
        assert_done(cellar_writer_flush(writer));
        store_assert_pair(f, CELLAR_DISK_1, 17, roots[i]);
        store_append(writer, 1);
        store_close(writer);
        store_remove(f);
    }
}

/* Each store of a commit is a moment to die at: before #1 is whole the state before, from then on the new one. */
static void test_death_in_a_commit(void **state)
{
    struct store_fixture *f = *state;

    for (int stage = 0; stage < 4; stage++) {
        size_t length_bytes;
        unsigned char *before, *after, binding[8];
        struct cellar_writer *writer;
        struct cellar_recovery recovery;

        leave_committed(f, 16);
        if (!store_has_mark(f))
            return;
        before = store_bytes(f, &length_bytes);
        writer = store_again(f);
        assert_done(cellar_writer_commit(writer));
        free(before);
        before = store_bytes(f, &length_bytes);
        store_append(writer, 2);
        assert_done(cellar_writer_set_root(writer, 18));
        assert_done(cellar_writer_commit(writer));
        cellar_writer_abandon(writer);
        after = store_bytes(f, &length_bytes);
        memcpy(binding, before + CELLAR_AT_BINDING, sizeof binding);
        if (stage < 3) /* #2 not yet */
            store_patch(f, cellar_slot_offset(CELLAR_PROCESS_2), before + cellar_slot_offset(CELLAR_PROCESS_2), 32);
        if (stage < 2) /* nor the binding */
            store_patch(f, CELLAR_AT_BINDING, binding, sizeof binding);
        if (stage < 1) /* half of #1 */
            store_patch(f, cellar_slot_offset(CELLAR_PROCESS_1) + 16,
                        before + cellar_slot_offset(CELLAR_PROCESS_1) + 16, 16);
        recovery = reopen(f, &writer);
        assert_int_equal(recovery.found, CELLAR_FOUND_COMMITTED);
        assert_cells(writer, stage < 1 ? 17 : 19, stage < 1 ? 16 : 18);
        store_close(writer);
        store_remove(f);
        free(before);
        free(after);
    }
}

/* The mark says nothing after the machine went down, on a copy, or where the original published in between. */
static void test_void_marks(void **state)
{
    static const unsigned char zeros[96];
    struct store_fixture *f = *state;
    struct cellar_key original = store_key(7);

    for (int what = 0; what < 4; what++) {
        struct cellar_writer *writer;
        struct cellar_recovery recovery;
        unsigned char binding[8] = {1, 2, 3};

        leave_committed(f, 16);
        if (what == 0)
            store_lose_power(f);
        else if (what == 1) /* truncated by the original and written anew: no extension bytes */
            store_patch(f, CELLAR_AT_EXTENSION, zeros, sizeof zeros);
        else if (what == 2)
            store_patch(f, CELLAR_AT_BINDING, binding, sizeof binding);
        for (int name = CELLAR_PROCESS_1; what == 3 && name <= CELLAR_PROCESS_2; name++)
            store_put_slot(f, (enum cellar_slot_name)name, 17, 16, &original);
        recovery = reopen(f, &writer);
        assert_int_equal(recovery.found, CELLAR_FOUND_UNFLUSHED);
        assert_int_equal(recovery.skipped_cells, 5);
        assert_true(recovery.root_dropped);
        assert_int_equal(recovery.rewritten_cells, 0);
        assert_cells(writer, 17, 10);
        store_assert_pair(f, CELLAR_DISK_1, 17, 10);
        store_append(writer, 2); /* from now on there is a mark again */
        assert_done(cellar_writer_set_root(writer, 18));
        assert_done(cellar_writer_commit(writer));
        cellar_writer_abandon(writer);
        recovery = reopen(f, &writer);
        assert_int_equal(recovery.found, store_has_mark(f) ? CELLAR_FOUND_COMMITTED : CELLAR_FOUND_UNFLUSHED);
        store_close(writer);
        store_remove(f);
    }
}

/* ---- syncs that failed, or never ended ---- */

/* A store in memory behind a device whose nth sync from the flush on fails; the writer is gone. */
static void fail_a_flush(struct store_fixture *f, uint64_t nth)
{
    struct fault_device fault = {.keep_inner = true};
    struct cellar_writer_options options = store_options(f);
    struct cellar_writer *writer = NULL;
    struct cellar_device *device;

    options.two_barriers = true;
    leave_committed(f, 16);
    fault.inner = f->memory;
    assert_done(fault_device_open(&fault, &device));
    assert_done(cellar_writer_open_on(device, &options, &writer));
    store_append(writer, 3);
    assert_done(cellar_writer_set_root(writer, 19));
    assert_done(cellar_writer_commit(writer));
    fault_fail(&fault, FAULT_SYNC, nth, 1, -EIO);
    assert_result(cellar_writer_flush(writer), -EIO);
    assert_result(cellar_writer_flush(writer), -EIO); /* poisoned */
    cellar_writer_abandon(writer);
    cellar_device_close(device);
}

static void test_suspect(void **state)
{
    struct store_fixture *f = *state;

    for (uint64_t nth = 1; nth <= 2; nth++) {
        struct cellar_writer *writer;
        struct cellar_recovery recovery;

        fail_a_flush(f, nth);
        assert_true((extension_of(f).flags & CELLAR_FLAG_SUSPECT) != 0);
        recovery = reopen(f, &writer);
        assert_true(recovery.suspect);
        /* At the second barrier disk-sync #1 has the new state, and its cells are durable. */
        assert_int_equal(recovery.found, nth == 1 ? CELLAR_FOUND_UNFLUSHED : CELLAR_FOUND_CLEAN);
        assert_cells(writer, 20, nth == 1 ? 10 : 19);
        /* Nothing is known to be durable but what the flush confirmed; all the rest was written again. */
        assert_true(recovery.rewritten_cells >= (nth == 1 ? 8 : 0));
        assert_int_equal(extension_of(f).flags & ~(uint32_t)CELLAR_FLAG_CHECKED, 0); /* which a flush ends */
        assert_int_equal(extension_of(f).confirmed_next, store_has_mark(f) ? 20 : 0);
        store_append(writer, 1);
        store_close(writer);
        recovery = reopen(f, &writer);
        assert_int_equal(recovery.found, CELLAR_FOUND_CLEAN);
        assert_false(recovery.suspect);
        store_close(writer);
        store_remove(f);
    }
}

/* The writer died while it waited for the disk: what it was flushing is written once more, and adopted. */
static void test_died_in_a_sync(void **state)
{
    struct store_fixture *f = *state;
    struct cellar_writer *writer;
    struct cellar_recovery recovery;

    leave_committed(f, 16);
    if (!store_has_mark(f))
        return;
    assert_int_equal(extension_of(f).confirmed_next, 12);
    put_u32(f, CELLAR_AT_FLAGS, CELLAR_FLAG_SYNCING);
    recovery = reopen(f, &writer);
    assert_int_equal(recovery.found, CELLAR_FOUND_COMMITTED);
    assert_int_equal(recovery.rewritten_cells, 5);
    assert_cells(writer, 17, 16);
    assert_int_equal(extension_of(f).flags, 0);
    assert_int_equal(extension_of(f).confirmed_next, 17);
    store_close(writer);
}

/* The flag of a machine that is down by now says nothing. */
static void test_died_in_a_sync_with_the_machine(void **state)
{
    struct store_fixture *f = *state;
    struct cellar_writer *writer;
    struct cellar_recovery recovery;

    leave_committed(f, 16);
    store_lose_power(f);
    put_u32(f, CELLAR_AT_FLAGS, CELLAR_FLAG_SYNCING);
    recovery = reopen(f, &writer);
    assert_int_equal(recovery.found, CELLAR_FOUND_UNFLUSHED);
    assert_int_equal(recovery.rewritten_cells, 0);
    assert_int_equal(extension_of(f).flags, 0);
    store_close(writer);
}

/* Syncs that fail while a SUSPECT file is opened: it stays SUSPECT, and nothing is adopted. */
static void test_suspect_and_failing_again(void **state)
{
    struct store_fixture *f = *state;
    struct fault_device fault = {.keep_inner = true};
    struct cellar_writer_options options = store_options(f);
    struct cellar_writer *writer = NULL;
    struct cellar_device *device;
    struct cellar_recovery recovery;

    fail_a_flush(f, 1);
    fault.inner = f->memory;
    assert_done(fault_device_open(&fault, &device));
    fault_fail(&fault, FAULT_SYNC, 1, 1, -EIO);
    assert_result(cellar_writer_open_on(device, &options, &writer), -EIO);
    cellar_device_close(device);
    assert_true((extension_of(f).flags & CELLAR_FLAG_SUSPECT) != 0);
    recovery = reopen(f, &writer);
    assert_true(recovery.suspect);
    assert_cells(writer, 20, 10);
    store_close(writer);
}

/* A device that can't tell its incarnation, under a file that has been on one that could (a copy of it): what was
 * confirmed then says nothing of this one, also if one of its syncs fails. */
static void test_unmarked_writer_confirms_nothing(void **state)
{
    struct store_fixture *f = *state;
    struct fault_device fault = {.keep_inner = true};
    struct cellar_writer_options options = store_options(f);
    struct cellar_recovery recovery;
    struct cellar_writer *writer = NULL;
    struct cellar_device *device;

    leave_committed(f, 16);
    assert_int_equal(extension_of(f).confirmed_next, 12);
    fault.inner = f->memory;
    assert_done(fault_device_open(&fault, &device));
    fault.ops.incarnation = NULL;
    assert_done(cellar_writer_open_on(device, &options, &writer));
    assert_int_equal(extension_of(f).confirmed_next, 0);
    fault_fail(&fault, FAULT_SYNC, 1, 1, -EIO);
    assert_result(cellar_writer_flush(writer), -EIO);
    cellar_writer_abandon(writer);
    cellar_device_close(device);
    recovery = reopen(f, &writer);
    assert_true(recovery.suspect);
    assert_int_equal(recovery.rewritten_cells, 17 - 8); /* all of them */
    store_close(writer);
}

/* ---- what an opening waits for ---- */

/* Opens the store in f's memory, and closes it again; how many syncs the opening took. */
static uint64_t syncs_of_opening(struct store_fixture *f)
{
    struct fault_device fault = {.keep_inner = true, .inner = f->memory};
    struct cellar_writer_options options = store_options(f);
    struct cellar_writer *writer = NULL;
    struct cellar_device *device;
    uint64_t syncs;

    assert_done(fault_device_open(&fault, &device));
    assert_done(cellar_writer_open_on(device, &options, &writer));
    syncs = fault_calls(&fault, FAULT_BIT(FAULT_SYNC));
    cellar_writer_abandon(writer);
    cellar_device_close(device);
    return syncs;
}

/* None where the last writer died, one where it died while it waited for the disk and one after a power loss, however
 * the disk-sync slots stand. */
static void test_barriers_of_an_opening(void **state)
{
    static const struct {
        bool power, syncing, half_flushed;
        uint64_t syncs;
    } cases[] = {
        {false, false, false, 0}, {false, true, false, 1}, {false, true, true, 1}, {false, false, true, 1},
        {true, false, false, 1},  {true, true, false, 1},  {true, true, true, 1},  {true, false, true, 1},
    };
    struct store_fixture *f = *state;

    for (size_t i = 0; i < SUPPORT_COUNT(cases); i++) {
        leave_committed(f, 16);
        if (cases[i].syncing)
            put_u32(f, CELLAR_AT_FLAGS, CELLAR_FLAG_SYNCING);
        if (cases[i].half_flushed) /* the flush of what is committed had got to disk-sync #1 */
            store_put_slot(f, CELLAR_DISK_1, cases[i].power ? 15 : 17, 10, NULL);
        if (cases[i].power)
            store_lose_power(f);
        assert_int_equal(syncs_of_opening(f), cases[i].syncs);
        assert_int_equal(syncs_of_opening(f), 0); /* it left all in order */
        store_remove(f);
    }
}

/* ---- the check of the config ---- */

static void test_config_check(void **state)
{
    struct store_fixture *f = *state;
    struct cellar_writer_options options = store_options(f);
    struct cellar_reader_options reader_options = store_reader_options(f);
    struct cellar_diagnostic diagnostic;
    struct cellar_writer *writer = store_new(f, BYTES_PER_CELL, MAX_INDEX);
    struct cellar_reader *reader = NULL;
    unsigned char byte = 'x';

    store_append(writer, 4);
    assert_done(cellar_writer_override_version(writer, 77)); /* not covered */
    store_close(writer);
    store_close(store_again(f));
    put_u32(f, CELLAR_AT_CONFIG_CHECK, 0); /* a file of the original has none: the next writer adds it */
    store_close(store_again(f));
    assert_int_not_equal(extension_of(f).config_check, 0);
    store_patch(f, 5, &byte, 1);
    options.diagnostic = reader_options.diagnostic = &diagnostic;
    assert_result(store_open(f, &options, &writer), CELLAR_ECORRUPT);
    assert_int_equal(diagnostic.file_offset, CELLAR_AT_CONFIG_CHECK);
    assert_non_null(strstr(diagnostic.message, "expected"));
    assert_result(store_read(f, &reader_options, &reader), CELLAR_ECORRUPT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        STORE_ON_ALL(test_nothing_committed_is_lost),
        STORE_ON_ALL(test_death_in_a_commit),
        STORE_ON_ALL(test_void_marks),
        STORE_ON(test_suspect, STORE_MEMORY_MAPPED),
        STORE_ON(test_suspect, STORE_MEMORY_PAGES),
        STORE_ON_ALL(test_died_in_a_sync),
        STORE_ON_ALL(test_died_in_a_sync_with_the_machine),
        STORE_ON(test_suspect_and_failing_again, STORE_MEMORY_MAPPED),
        STORE_ON(test_suspect_and_failing_again, STORE_MEMORY_PAGES),
        STORE_ON(test_unmarked_writer_confirms_nothing, STORE_MEMORY_MAPPED),
        STORE_ON(test_unmarked_writer_confirms_nothing, STORE_MEMORY_PAGES),
        STORE_ON(test_barriers_of_an_opening, STORE_MEMORY_MAPPED),
        STORE_ON(test_barriers_of_an_opening, STORE_MEMORY_PAGES),
        STORE_ON_ALL(test_config_check),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
