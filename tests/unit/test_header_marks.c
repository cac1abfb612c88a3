/*
 * What a writer notes in the header beside its slots: flags, the binding, the confirmed next index; what a barrier
 * covers and what its failure leaves; and the lock of compat mode, which is free again after every call. pthread's
 * functions that make and end a lock are replaced here: they are counted, and one can fail.
 */
#include "header_stage.h"

#include "base/bytes.h"

#include <dlfcn.h>
#include <errno.h>

static int locks_made, locks_ended;
static int lock_fails_at; /* counted from 1; 0: none */

int pthread_mutex_init(pthread_mutex_t *lock, const pthread_mutexattr_t *attributes)
{
    static int (*real)(pthread_mutex_t *, const pthread_mutexattr_t *);

    if (real == NULL) {
        void *symbol = dlsym(RTLD_NEXT, "pthread_mutex_init");

        memcpy(&real, &symbol, sizeof real);
    }
    if (lock_fails_at > 0 && locks_made + 1 == lock_fails_at)
        return ENOMEM;
    locks_made++;
    return real(lock, attributes);
}

int pthread_mutex_destroy(pthread_mutex_t *lock)
{
    static int (*real)(pthread_mutex_t *);

    if (real == NULL) {
        void *symbol = dlsym(RTLD_NEXT, "pthread_mutex_destroy");

        memcpy(&real, &symbol, sizeof real);
    }
    locks_ended++;
    return real(lock);
}

static uint32_t flags_in_file(const struct stage *stage)
{
    return cellar_load_le32(stage->bytes + CELLAR_AT_FLAGS);
}

/* ---- open and close ---- */

/* Each of its locks fails once; those before it are ended. */
static void test_locks_of_a_header(void **state)
{
    struct stage *stage = open_stage(true, true);
    struct cellar_header other;
    int result = -ENOMEM;

    (void)state;
    for (int nth = 1; result != 0; nth++) {
        locks_made = locks_ended = 0;
        lock_fails_at = nth;
        result = cellar_header_open(&other, stage->device, NULL, true);
        lock_fails_at = 0;
        assert_int_equal(locks_made, nth - 1);
        if (result == 0) {
            assert_true(locks_made > 0 && locks_ended == 0);
            cellar_header_close(&other);
        } else {
            assert_result(result, -ENOMEM);
        }
        assert_int_equal(locks_ended, locks_made);
    }
    close_stage(stage);
}

/* ---- marks ---- */

/* Whatever its blocks, a device that is no file past the kernel's page cache may lose what was written. */
static void test_starts_as_told(void **state)
{
    static const uint32_t blocks[] = {1, 2, 512};

    (void)state;
    for (size_t i = 0; i < SUPPORT_COUNT(blocks); i++) {
        struct stage *stage = calloc(1, sizeof *stage);

        assert_non_null(stage);
        assert_done(cellar_device_open_memory(NULL, 4096, 4096, &stage->fault.inner));
        stage->fault.block_bytes = blocks[i];
        assert_done(fault_device_open(&stage->fault, &stage->device));
        assert_done(cellar_header_open(&stage->header, stage->device, NULL, false));
        assert_false(stage->header.disk_pending);
        cellar_header_start_marks(&stage->header, 77, CELLAR_FLAG_RETIRED);
        assert_int_equal(stage->header.incarnation, 77);
        assert_int_equal(stage->header.flags, CELLAR_FLAG_RETIRED);
        assert_true(stage->header.disk_pending); /* nobody knows what the last writer left */
        assert_true(stage->header.through_cache);
        close_stage(stage);
    }
}

static void test_announces_a_sync(void **state)
{
    static const struct {
        uint64_t incarnation;
        bool through_cache, announced;
    } rows[] = {{0, true, false}, {1, true, true}, {1, false, false}, {UINT64_MAX, true, true}, {0, false, false}};

    (void)state;
    for (size_t i = 0; i < 2 * SUPPORT_COUNT(rows); i++) {
        struct stage *stage = open_stage(i % 2 == 0, false);
        uint32_t flags = CELLAR_FLAG_RETIRED, expected;

        cellar_header_start_marks(&stage->header, rows[i / 2].incarnation, flags);
        stage->header.through_cache = rows[i / 2].through_cache;
        cellar_store_le32(stage->bytes + CELLAR_AT_FLAGS, flags);
        expected = rows[i / 2].announced ? flags | CELLAR_FLAG_SYNCING : flags;
        assert_done(cellar_header_begin_sync(&stage->header));
        assert_int_equal(stage->header.flags, expected);
        assert_int_equal(flags_in_file(stage), expected);
        assert_done(cellar_header_confirm(&stage->header, 4711));
        assert_done(cellar_header_end_sync(&stage->header));
        assert_int_equal(stage->header.flags, flags);
        assert_int_equal(flags_in_file(stage), flags);
        assert_int_equal(cellar_load_le64(stage->bytes + CELLAR_AT_CONFIRMED), rows[i / 2].incarnation != 0 ? 4711 : 0);
        close_stage(stage);
    }
}

/* A store that fails is reported, and what could not be stored is not taken to be there. */
static void test_marks_that_fail(void **state)
{
    struct stage *stage = open_stage(false, false);

    (void)state;
    cellar_header_start_marks(&stage->header, 1, 0);
    fault_fail(&stage->fault, FAULT_WRITE, 1, 1, -EIO);
    assert_result(cellar_header_begin_sync(&stage->header), -EIO);
    assert_int_equal(stage->header.flags, 0);
    assert_done(cellar_header_begin_sync(&stage->header));
    fault_fail(&stage->fault, FAULT_WRITE, 1, 1, -EIO);
    assert_result(cellar_header_confirm(&stage->header, 5), -EIO);
    fault_fail(&stage->fault, FAULT_WRITE, 1, 1, -EIO);
    assert_result(cellar_header_end_sync(&stage->header), -EIO);
    assert_int_equal(stage->header.flags, CELLAR_FLAG_SYNCING);
    assert_int_equal(flags_in_file(stage), CELLAR_FLAG_SYNCING);
    assert_done(cellar_header_end_sync(&stage->header));
    assert_int_equal(flags_in_file(stage), 0);
    fault_fail(&stage->fault, FAULT_WRITE, 1, 1, -EIO); /* no growth is begun that the file does not tell of */
    assert_result(cellar_header_begin_growth(&stage->header), -EIO);
    assert_done(cellar_header_begin_growth(&stage->header));
    assert_int_equal(flags_in_file(stage), CELLAR_FLAG_SYNCING);
    assert_done(cellar_header_end_growth(&stage->header, 0));
    assert_int_equal(flags_in_file(stage), 0);
    close_stage(stage);
}

/* The file says SYNCING until the last of those that run beside each other has ended, in whatever order. */
static void test_syncs_beside_each_other(void **state)
{
    (void)state;
    for (int first = 0; first < 2; first++) {
        struct stage *stage = open_stage(true, false);

        cellar_header_start_marks(&stage->header, 1, CELLAR_FLAG_RETIRED);
        assert_done(cellar_header_begin_sync(&stage->header));
        assert_done(cellar_header_begin_growth(&stage->header));
        assert_done(first == 0 ? cellar_header_end_sync(&stage->header) : cellar_header_end_growth(&stage->header, 0));
        assert_int_equal(flags_in_file(stage), CELLAR_FLAG_RETIRED | CELLAR_FLAG_SYNCING);
        assert_done(first != 0 ? cellar_header_end_sync(&stage->header) : cellar_header_end_growth(&stage->header, 0));
        assert_int_equal(flags_in_file(stage), CELLAR_FLAG_RETIRED);
        close_stage(stage);
    }
}

/* Flags come and go by themselves; the others stay. */
static void test_changes_flags(void **state)
{
    struct stage *stage = open_stage(true, false);

    (void)state;
    cellar_header_start_marks(&stage->header, 1, CELLAR_FLAG_CHECKSUMS);
    assert_done(cellar_header_change_flags(&stage->header, CELLAR_FLAG_RETIRED, 0));
    assert_int_equal(flags_in_file(stage), CELLAR_FLAG_CHECKSUMS | CELLAR_FLAG_RETIRED);
    assert_done(cellar_header_change_flags(&stage->header, CELLAR_FLAG_SUSPECT, CELLAR_FLAG_RETIRED));
    assert_int_equal(flags_in_file(stage), CELLAR_FLAG_CHECKSUMS | CELLAR_FLAG_SUSPECT);
    assert_int_equal(stage->header.flags, CELLAR_FLAG_CHECKSUMS | CELLAR_FLAG_SUSPECT);
    close_stage(stage);
}

/* A growth that fails leaves both marks, and no barrier after it holds. */
static void test_growth_that_fails(void **state)
{
    struct stage *stage = open_stage(true, false);

    (void)state;
    cellar_header_start_marks(&stage->header, 1, 0);
    assert_done(cellar_header_begin_growth(&stage->header));
    assert_done(cellar_header_end_growth(&stage->header, -EIO));
    assert_int_equal(flags_in_file(stage), CELLAR_FLAG_SUSPECT | CELLAR_FLAG_SYNCING);
    assert_result(cellar_header_settle(&stage->header), -EIO);
    assert_int_equal(flags_in_file(stage), CELLAR_FLAG_SUSPECT | CELLAR_FLAG_SYNCING);
    close_stage(stage);
}

/* The binding is stored between the slots, where marks are kept. */
static void test_binding(void **state)
{
    struct cellar_key key = key_of(1);
    struct cellar_state put = state_of(10, 1);
    static const uint64_t incarnations[] = {0, 1, UINT64_MAX};

    (void)state;
    for (size_t i = 0; i < SUPPORT_COUNT(incarnations); i++) {
        struct stage *stage = open_stage(false, false);
        unsigned char slot[CELLAR_SLOT_BYTES], zeros[8] = {0};
        bool marked = incarnations[i] != 0;

        cellar_header_start_marks(&stage->header, incarnations[i], 0);
        cellar_slot_encode(&put, &key, slot);
        assert_done(cellar_header_publish(&stage->header, &put, &key));
        assert_memory_equal(stage->bytes + CELLAR_AT_BINDING, marked ? slot + CELLAR_SLOT_AT_KEYED_HASH : zeros, 8);
        assert_int_equal(fault_calls(&stage->fault, FAULT_BIT(FAULT_WRITE)), marked ? 3 : 2);
        close_stage(stage);
    }
}

/* ---- barriers ---- */

struct synced {
    uint64_t offset, length_bytes;
    int calls;
};

static void note_sync(void *user, enum fault_call call, uint64_t offset, uint64_t length_bytes)
{
    struct synced *synced = user;

    if (call != FAULT_SYNC)
        return;
    synced->calls++;
    synced->offset = offset;
    synced->length_bytes = length_bytes;
}

/* From the first byte on: the header is a part of it. */
static void test_barrier(void **state)
{
    struct stage *stage = open_stage(true, false);
    struct synced synced = {.calls = 0};

    (void)state;
    cellar_header_start_marks(&stage->header, 1, CELLAR_FLAG_RETIRED);
    stage->fault.before_user = &synced;
    stage->fault.before = note_sync;
    assert_done(cellar_header_barrier(&stage->header, 4096));
    assert_true(synced.calls == 1 && synced.offset == 0 && synced.length_bytes == 4096);
    assert_false(stage->header.disk_pending);
    assert_int_equal(stage->header.flags, CELLAR_FLAG_RETIRED);
    stage->header.disk_pending = true;
    fault_fail(&stage->fault, FAULT_SYNC, 1, 1, -EIO);
    assert_result(cellar_header_barrier(&stage->header, 4096), -EIO);
    assert_true(stage->header.disk_pending);
    assert_int_equal(flags_in_file(stage), CELLAR_FLAG_RETIRED | CELLAR_FLAG_SUSPECT);
    close_stage(stage);
}

/* Of the two slots the first is durable before the second is stored, and the second is pending after. */
static void test_persist(void **state)
{
    struct cellar_state put = state_of(10, 1);
    unsigned char slot[CELLAR_SLOT_BYTES], zeros[CELLAR_SLOT_BYTES] = {0};

    (void)state;
    cellar_slot_encode(&put, NULL, slot);
    for (int way = 0; way < 3; way++) { /* a window, calls, calls in compat mode */
        struct stage *stage = open_stage(way == 0, way == 2);
        struct synced synced = {.calls = 0};

        stage->fault.before_user = &synced;
        stage->fault.before = note_sync;
        assert_done(cellar_header_persist(&stage->header, &put));
        assert_true(stage->header.disk_pending);
        assert_memory_equal(stage->bytes + 32, slot, CELLAR_SLOT_BYTES);
        assert_memory_equal(stage->bytes + 64, slot, CELLAR_SLOT_BYTES);
        assert_int_equal(synced.calls, 1);
        close_stage(stage);
        stage = open_stage(way == 0, way == 2);
        fault_fail(&stage->fault, FAULT_SYNC, 1, 1, -EIO);
        assert_result(cellar_header_persist(&stage->header, &put), -EIO);
        assert_false(stage->header.disk_pending);
        assert_memory_equal(stage->bytes + 32, slot, CELLAR_SLOT_BYTES);
        assert_memory_equal(stage->bytes + 64, zeros, CELLAR_SLOT_BYTES);
        assert_int_equal(flags_in_file(stage), CELLAR_FLAG_SUSPECT);
        close_stage(stage);
    }
}

/* ---- compat mode ---- */

struct watched {
    struct stage *stage;
    int calls, free_calls;
};

static void look_at_the_lock(void *user, enum fault_call call, uint64_t offset, uint64_t length_bytes)
{
    struct watched *watched = user;

    (void)offset;
    (void)length_bytes;
    if (call != FAULT_LOCK && call != FAULT_WRITE && call != FAULT_UNLOCK)
        return;
    watched->calls++;
    if (pthread_mutex_trylock(&watched->stage->header.compat_lock) == 0) {
        pthread_mutex_unlock(&watched->stage->header.compat_lock);
        watched->free_calls++;
    }
}

static void expect_free(struct watched *watched, int calls)
{
    assert_int_equal(watched->calls, calls);
    assert_int_equal(watched->free_calls, 0);
    assert_int_equal(pthread_mutex_trylock(&watched->stage->header.compat_lock), 0);
    pthread_mutex_unlock(&watched->stage->header.compat_lock);
    watched->calls = 0;
}

/* The threads of a handle share the device's lock, so each holds the handle's own around it. */
static void test_compat_lock_of_threads(void **state)
{
    struct stage *stage = open_stage(false, true);
    struct watched watched = {.stage = stage};
    struct cellar_state put = state_of(10, 1);
    struct cellar_key key = key_of(1);
    unsigned char slot[CELLAR_SLOT_BYTES];

    (void)state;
    cellar_slot_encode(&put, NULL, slot);
    stage->fault.before_user = &watched;
    stage->fault.before = look_at_the_lock;
    assert_done(cellar_header_publish(&stage->header, &put, &key));
    expect_free(&watched, 4);
    assert_done(cellar_header_repair(&stage->header, CELLAR_DISK_2, slot));
    expect_free(&watched, 3);
    fault_fail(&stage->fault, FAULT_WRITE, 1, 1, -EIO);
    assert_result(cellar_header_repair(&stage->header, CELLAR_DISK_2, slot), -EIO);
    expect_free(&watched, 3);
    fault_fail(&stage->fault, FAULT_LOCK, 1, 2, -ENOLCK);
    assert_result(cellar_header_repair(&stage->header, CELLAR_DISK_2, slot), -ENOLCK);
    expect_free(&watched, 1);
    assert_result(cellar_header_publish(&stage->header, &put, &key), -ENOLCK);
    expect_free(&watched, 1);
    close_stage(stage);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_locks_of_a_header),
        cmocka_unit_test(test_starts_as_told),
        cmocka_unit_test(test_announces_a_sync),
        cmocka_unit_test(test_marks_that_fail),
        cmocka_unit_test(test_syncs_beside_each_other),
        cmocka_unit_test(test_growth_that_fails),
        cmocka_unit_test(test_changes_flags),
        cmocka_unit_test(test_binding),
        cmocka_unit_test(test_barrier),
        cmocka_unit_test(test_persist),
        cmocka_unit_test(test_compat_lock_of_threads),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
