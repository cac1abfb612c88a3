/*
 * The device contract: one suite, run on every device of the library, and on a wrapper over each that gives short
 * transfers, interrupts, and nothing to lend.
 */
#include "device_fault.h"
#include "support.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SIZE = 10000, CAPACITY = 1 << 20 };

struct subject {
    const char *name;
    enum support_device kind;
    bool wrapped;
    unsigned without;
    uint64_t transfer_bytes_max, interrupt_every;
};

static const struct subject subjects[] = {
    {.name = "file", .kind = SUPPORT_DEVICE_FILE},
    {.name = "pread", .kind = SUPPORT_DEVICE_PREAD},
    {.name = "memory", .kind = SUPPORT_DEVICE_MEMORY},
    {.name = "direct", .kind = SUPPORT_DEVICE_DIRECT},
    {.name = "short direct", .kind = SUPPORT_DEVICE_DIRECT, .wrapped = true, .transfer_bytes_max = 1001},
    {.name = "wrapped file", .kind = SUPPORT_DEVICE_FILE, .wrapped = true},
    {.name = "short pread", .kind = SUPPORT_DEVICE_PREAD, .wrapped = true, .transfer_bytes_max = 7},
    {.name = "interrupted pread", .kind = SUPPORT_DEVICE_PREAD, .wrapped = true, .interrupt_every = 2},
    {.name = "short interrupted file",
     .kind = SUPPORT_DEVICE_FILE,
     .wrapped = true,
     .transfer_bytes_max = 101,
     .interrupt_every = 3},
    {.name = "short interrupted memory",
     .kind = SUPPORT_DEVICE_MEMORY,
     .wrapped = true,
     .transfer_bytes_max = 1,
     .interrupt_every = 5},
    {.name = "bare memory",
     .kind = SUPPORT_DEVICE_MEMORY,
     .wrapped = true,
     .without = FAULT_BIT(FAULT_LOAD) | FAULT_BIT(FAULT_WINDOW) | FAULT_BIT(FAULT_LOCK) | FAULT_BIT(FAULT_SYNC)},
};

struct stage {
    const struct subject *subject;
    char *folder;
    struct fault_device fault;
    struct cellar_device *device;
};

static int setup(void **state)
{
    struct stage *stage = calloc(1, sizeof *stage);

    assert_non_null(stage);
    stage->subject = *state;
    stage->folder = support_folder_make();
    stage->device = support_device_open(stage->subject->kind, stage->folder, "device", SIZE, CAPACITY);
    if (stage->subject->wrapped) {
        stage->fault.inner = stage->device;
        stage->fault.without = stage->subject->without;
        stage->fault.transfer_bytes_max = stage->subject->transfer_bytes_max;
        stage->fault.interrupt_every = stage->subject->interrupt_every;
        assert_done(fault_device_open(&stage->fault, &stage->device));
    }
    *state = stage;
    return 0;
}

static int teardown(void **state)
{
    struct stage *stage = *state;

    assert_done(cellar_device_close(stage->device));
    support_folder_remove(stage->folder);
    free(stage);
    return 0;
}

static bool can_map(enum support_device kind)
{
    return kind != SUPPORT_DEVICE_PREAD && kind != SUPPORT_DEVICE_DIRECT;
}

static bool lacks(const struct stage *stage, enum fault_call call)
{
    return (stage->subject->without & FAULT_BIT(call)) != 0;
}

static uint64_t size_of(struct cellar_device *device)
{
    uint64_t size_bytes = 0;

    assert_done(cellar_device_size(device, &size_bytes));
    return size_bytes;
}

/* The device holds exactly these bytes from offset on. */
static void assert_holds(struct cellar_device *device, const unsigned char *expected, size_t length_bytes,
                         uint64_t offset)
{
    unsigned char *got = malloc(length_bytes + 1);

    assert_non_null(got);
    memset(got, 0x5a, length_bytes + 1);
    assert_done(cellar_device_read(device, got, length_bytes, offset));
    assert_memory_equal(got, expected, length_bytes);
    assert_int_equal(got[length_bytes], 0x5a);
    free(got);
}

static void test_read_bounds(void **state)
{
    static const struct {
        uint64_t offset;
        size_t length_bytes;
        int result;
    } rows[] = {
        {0, 0, 0},
        {0, 1, 0},
        {0, SIZE, 0},
        {1, SIZE - 1, 0},
        {SIZE - 1, 1, 0},
        {SIZE, 0, 0},
        {0, SIZE + 1, CELLAR_EBOUNDS},
        {SIZE - 1, 2, CELLAR_EBOUNDS},
        {SIZE, 1, CELLAR_EBOUNDS},
        {SIZE + 1, 0, CELLAR_EBOUNDS},
        {SIZE + 1, 1, CELLAR_EBOUNDS},
        {INT64_MAX, 1, CELLAR_EBOUNDS},
        {UINT64_MAX, 0, CELLAR_EBOUNDS},
        {UINT64_MAX, 2, CELLAR_EBOUNDS},
    };
    struct stage *stage = *state;
    static unsigned char buffer[SIZE + 2];
    const void *lent;

    for (size_t i = 0; i < SUPPORT_COUNT(rows); i++) {
        assert_result(cellar_device_read(stage->device, buffer, rows[i].length_bytes, rows[i].offset), rows[i].result);
        lent = buffer;
        assert_result(cellar_device_load(stage->device, rows[i].offset, rows[i].length_bytes, &lent), rows[i].result);
        if (rows[i].result == 0)
            cellar_device_release(stage->device, lent, rows[i].length_bytes);
        else
            assert_ptr_equal(lent, buffer);
    }
}

static void test_write_bounds(void **state)
{
    static unsigned char bytes[SIZE + 1], zeros[SIZE];
    struct stage *stage = *state;
    struct iovec parts[3] = {{.iov_base = bytes, .iov_len = SIZE_MAX}, {.iov_base = bytes, .iov_len = SIZE_MAX}};

    memset(bytes, 0xee, sizeof bytes);
    assert_result(support_device_write(stage->device, bytes, SIZE + 1, 0), CELLAR_EBOUNDS);
    assert_result(support_device_write(stage->device, bytes, 1, SIZE), CELLAR_EBOUNDS);
    assert_result(support_device_write(stage->device, bytes, 2, SIZE - 1), CELLAR_EBOUNDS);
    assert_result(support_device_write(stage->device, bytes, 0, SIZE + 1), CELLAR_EBOUNDS);
    assert_result(support_device_write(stage->device, bytes, 1, UINT64_MAX), CELLAR_EBOUNDS);
    assert_result(support_device_write(stage->device, bytes, SIZE, UINT64_MAX - 5), CELLAR_EBOUNDS);
    assert_result(cellar_device_write(stage->device, parts, 2, 0), CELLAR_EBOUNDS); /* their sum wraps */
    assert_holds(stage->device, zeros, SIZE, 0);
    assert_done(support_device_write(stage->device, bytes, 0, SIZE));
    assert_done(cellar_device_write(stage->device, NULL, 0, 0));
    assert_done(support_device_write(stage->device, bytes, SIZE, 0));
    assert_holds(stage->device, bytes, SIZE, 0);
    assert_int_equal(size_of(stage->device), SIZE);
}

/* Random reads, loads and gathered writes against a plain array. */
static void test_random_transfers(void **state)
{
    static unsigned char model[SIZE], fresh[SIZE];
    struct stage *stage = *state;
    uint64_t random = 7;

    memset(model, 0, sizeof model);
    for (int round = 0; round < 300; round++) {
        uint64_t offset = support_random_below(&random, SIZE);
        size_t length_bytes = (size_t)support_random_below(&random, SIZE - offset < 3000 ? SIZE - offset + 1 : 3000);
        struct iovec parts[5];
        size_t at = 0;
        const void *lent;

        support_bytes(support_random(&random), fresh, length_bytes);
        for (size_t i = 0; i < SUPPORT_COUNT(parts); i++) {
            size_t step = i + 1 == SUPPORT_COUNT(parts) ? length_bytes - at
                                                        : (size_t)support_random_below(&random, length_bytes - at + 1);

            parts[i] = (struct iovec){.iov_base = fresh + at, .iov_len = step};
            at += step;
        }
        assert_done(cellar_device_write(stage->device, parts, SUPPORT_COUNT(parts), offset));
        memcpy(model + offset, fresh, length_bytes);
        offset = support_random_below(&random, SIZE);
        length_bytes = (size_t)support_random_below(&random, SIZE - offset + 1);
        assert_holds(stage->device, model + offset, length_bytes, offset);
        assert_done(cellar_device_load(stage->device, offset, length_bytes, &lent));
        assert_memory_equal(lent, model + offset, length_bytes);
        cellar_device_release(stage->device, lent, length_bytes);
    }
    assert_holds(stage->device, model, SIZE, 0);
}

/* More parts than one call of a table gets, and than one system call takes; some of them empty. */
static void test_many_parts(void **state)
{
    static const int counts[] = {1, 63, 64, 65, 128, 129, 1023, 1024, 1025, 3000};
    static unsigned char bytes[SIZE], zeros[SIZE];
    static struct iovec parts[3000], before[3000];
    struct stage *stage = *state;

    support_bytes(11, bytes, sizeof bytes);
    for (size_t i = 0; i < SUPPORT_COUNT(counts); i++) {
        size_t at = 0;

        for (int j = 0; j < counts[i]; j++) {
            parts[j] = (struct iovec){.iov_base = j % 5 == 4 ? NULL : bytes + at, .iov_len = (size_t)(j % 5 + 1) % 5};
            at += parts[j].iov_len;
        }
        memcpy(before, parts, sizeof parts);
        assert_done(support_device_write(stage->device, zeros, SIZE, 0));
        assert_done(cellar_device_write(stage->device, parts, counts[i], 3));
        assert_memory_equal(parts, before, sizeof parts);
        assert_holds(stage->device, bytes, at, 3);
        assert_holds(stage->device, zeros, SIZE - 3 - at, 3 + at);
    }
}

/* What is lent by the device shows later writes; what had to be copied doesn't. */
static void test_load_lends_or_copies(void **state)
{
    struct stage *stage = *state;
    bool lends = can_map(stage->subject->kind) && !lacks(stage, FAULT_LOAD);
    const void *lent, *empty;

    assert_int_equal(cellar_device_lends(stage->device), lends);
    assert_done(support_device_write(stage->device, "old", 3, 4099));
    assert_done(cellar_device_load(stage->device, 4099, 3, &lent));
    assert_done(cellar_device_load(stage->device, 5, 0, &empty));
    assert_non_null(empty);
    assert_memory_equal(lent, "old", 3);
    assert_done(support_device_write(stage->device, "new", 3, 4099));
    assert_memory_equal(lent, lends ? "new" : "old", 3);
    cellar_device_release(stage->device, lent, 3);
    cellar_device_release(stage->device, empty, 0);
}

static void test_grow(void **state)
{
    static unsigned char bytes[SIZE], zeros[50000];
    struct stage *stage = *state;

    support_bytes(12, bytes, sizeof bytes);
    assert_done(support_device_write(stage->device, bytes, SIZE, 0));
    assert_done(cellar_device_grow(stage->device, SIZE, 60000));
    assert_int_equal(size_of(stage->device), 60000);
    assert_holds(stage->device, bytes, SIZE, 0);
    assert_holds(stage->device, zeros, 50000, SIZE);
    /* At or below the size only allocates. */
    assert_done(cellar_device_grow(stage->device, 60000, 60000));
    assert_done(cellar_device_grow(stage->device, 60000, 100));
    assert_done(cellar_device_grow(stage->device, SIZE, 20000));
    assert_int_equal(size_of(stage->device), 60000);
    assert_holds(stage->device, bytes, SIZE, 0);
    assert_done(support_device_write(stage->device, bytes, SIZE, 50000));
    assert_holds(stage->device, bytes, SIZE, 50000);
    assert_result(cellar_device_grow(stage->device, 0, (uint64_t)INT64_MAX + 1), -EFBIG);
    assert_int_equal(size_of(stage->device), 60000);
    if (stage->subject->kind == SUPPORT_DEVICE_MEMORY) {
        assert_done(cellar_device_grow(stage->device, 60000, CAPACITY));
        assert_result(cellar_device_grow(stage->device, 60000, CAPACITY + 1), -ENOSPC);
        assert_int_equal(size_of(stage->device), CAPACITY);
    }
}

static void test_trim(void **state)
{
    static unsigned char bytes[SIZE], zeros[SIZE], one;
    struct stage *stage = *state;

    support_bytes(13, bytes, sizeof bytes);
    assert_done(support_device_write(stage->device, bytes, SIZE, 0));
    assert_done(cellar_device_trim(stage->device, 4097));
    assert_int_equal(size_of(stage->device), 4097);
    assert_result(cellar_device_read(stage->device, &one, 1, 4097), CELLAR_EBOUNDS);
    assert_result(support_device_write(stage->device, &one, 1, 4097), CELLAR_EBOUNDS);
    assert_done(cellar_device_grow(stage->device, 4097, SIZE));
    assert_holds(stage->device, bytes, 4097, 0);
    assert_holds(stage->device, zeros, SIZE - 4097, 4097);
    assert_done(cellar_device_trim(stage->device, 0));
    assert_int_equal(size_of(stage->device), 0);
    assert_result(cellar_device_read(stage->device, &one, 1, 0), CELLAR_EBOUNDS);
}

/* To trim is never to grow: what is past the end has not been allocated. */
static void test_trim_never_grows(void **state)
{
    struct stage *stage = *state;

    assert_done(cellar_device_trim(stage->device, SIZE));
    (void)!cellar_device_trim(stage->device, SIZE + 1);
    assert_int_equal(size_of(stage->device), SIZE);
}

static void test_window(void **state)
{
    struct stage *stage = *state;
    bool has = can_map(stage->subject->kind) && !lacks(stage, FAULT_WINDOW);
    void *base = NULL, *again = NULL;
    uint64_t capacity_bytes = 0, capacity_again = 0;
    unsigned char bytes[100], *window;
    const void *lent;

    support_bytes(14, bytes, sizeof bytes);
    if (!has) {
        assert_result(cellar_device_window(stage->device, CAPACITY, true, &base, &capacity_bytes), CELLAR_NONE);
        assert_null(base);
        return;
    }
    assert_result(cellar_device_window(stage->device, SIZE - 1, true, &base, &capacity_bytes), CELLAR_EWINDOW);
    assert_null(base);
    assert_done(cellar_device_window(stage->device, CAPACITY, true, &base, &capacity_bytes));
    assert_true(capacity_bytes >= SIZE);
    assert_done(cellar_device_window(stage->device, SIZE, false, &again, &capacity_again));
    assert_ptr_equal(again, base);
    assert_int_equal(capacity_again, capacity_bytes);
    window = base;
    memcpy(window + 4090, bytes, sizeof bytes);
    assert_holds(stage->device, bytes, sizeof bytes, 4090);
    assert_done(cellar_device_sync(stage->device, 4090, sizeof bytes));
    assert_done(support_device_write(stage->device, "written", 7, 33));
    assert_memory_equal(window + 33, "written", 7);
    assert_done(cellar_device_load(stage->device, 33, 7, &lent));
    assert_ptr_equal(lent, window + 33);
    cellar_device_release(stage->device, lent, 7);
    assert_memory_equal(window + 33, "written", 7); /* releasing takes nothing of the window away */
}

static void test_window_never_moves(void **state)
{
    struct stage *stage = *state;
    void *base = NULL, *again = NULL;
    uint64_t capacity_bytes = 0;
    int result = cellar_device_window(stage->device, CAPACITY, true, &base, &capacity_bytes);

    if (result == CELLAR_NONE)
        return;
    assert_done(result);
    for (uint64_t size = SIZE; size < CAPACITY; size += 77777) {
        unsigned char *window = base;

        assert_done(cellar_device_grow(stage->device, size_of(stage->device), size));
        assert_done(cellar_device_window(stage->device, CAPACITY, true, &again, &capacity_bytes));
        assert_ptr_equal(again, base);
        assert_int_equal(window[size - 1], 0);
        window[size - 1] = (unsigned char)size;
    }
    for (uint64_t size = SIZE; size < CAPACITY; size += 77777) {
        unsigned char byte = (unsigned char)size;

        assert_holds(stage->device, &byte, 1, size - 1);
    }
}

/* A reader's question comes first: the window is as writable as the device all the same. */
static void test_window_for_reading_first(void **state)
{
    struct stage *stage = *state;
    void *base, *again;
    uint64_t capacity_bytes;
    int result = cellar_device_window(stage->device, CAPACITY, false, &base, &capacity_bytes);

    if (result == CELLAR_NONE)
        return;
    assert_done(result);
    assert_int_equal((uintptr_t)base % 8, 0);
    assert_done(cellar_device_window(stage->device, CAPACITY, true, &again, &capacity_bytes));
    assert_ptr_equal(again, base);
    memcpy((unsigned char *)base + 20, "stored", 6);
    assert_holds(stage->device, (const unsigned char *)"stored", 6, 20);
}

static void test_lock_of_one_handle(void **state)
{
    struct stage *stage = *state;

    assert_done(cellar_device_lock(stage->device, CELLAR_LOCK_WRITER));
    assert_done(cellar_device_lock(stage->device, CELLAR_LOCK_HEADER_EXCLUSIVE));
    assert_done(cellar_device_unlock(stage->device, CELLAR_LOCK_HEADER_EXCLUSIVE));
    assert_done(cellar_device_lock(stage->device, CELLAR_LOCK_HEADER_SHARED));
    assert_done(cellar_device_unlock(stage->device, CELLAR_LOCK_HEADER_SHARED));
    assert_done(cellar_device_unlock(stage->device, CELLAR_LOCK_WRITER));
    assert_done(cellar_device_lock(stage->device, CELLAR_LOCK_WRITER));
}

/* The writer's lock is for one writer, also where two share the handle. */
static void test_lock_twice(void **state)
{
    struct stage *stage = *state;

    assert_done(cellar_device_lock(stage->device, CELLAR_LOCK_WRITER));
    assert_result(cellar_device_lock(stage->device, CELLAR_LOCK_WRITER), CELLAR_EBUSY);
    assert_done(cellar_device_unlock(stage->device, CELLAR_LOCK_WRITER));
    assert_done(cellar_device_lock(stage->device, CELLAR_LOCK_WRITER));
}

static void test_sync(void **state)
{
    struct stage *stage = *state;
    bool durable = stage->subject->wrapped ? !lacks(stage, FAULT_SYNC) : stage->subject->kind != SUPPORT_DEVICE_MEMORY;

    assert_done(support_device_write(stage->device, "bytes", 5, 100));
    assert_done(cellar_device_sync(stage->device, 100, 5));
    assert_done(cellar_device_sync(stage->device, 0, SIZE));
    assert_done(cellar_device_sync(stage->device, 100, 0));
    assert_int_equal(cellar_device_counters(stage->device).syncs, durable ? 2 : 0);
}

static void test_counters(void **state)
{
    static unsigned char bytes[SIZE];
    struct stage *stage = *state;
    struct cellar_device_counters before = cellar_device_counters(stage->device), after;
    const void *lent;

    assert_done(support_device_write(stage->device, bytes, SIZE, 0));
    assert_done(cellar_device_read(stage->device, bytes, SIZE - 1, 1));
    assert_done(cellar_device_grow(stage->device, SIZE, SIZE + 100));
    after = cellar_device_counters(stage->device);
    assert_int_equal(after.writes - before.writes, 1);
    assert_int_equal(after.bytes_written - before.bytes_written, SIZE);
    assert_int_equal(after.reads - before.reads, 1);
    assert_int_equal(after.bytes_read - before.bytes_read, SIZE - 1);
    assert_int_equal(after.grows - before.grows, 1);
    assert_int_equal(after.loads, before.loads);
    if (stage->subject->transfer_bytes_max > 0)
        assert_true(after.retries >= 2 * (SIZE / stage->subject->transfer_bytes_max - 1));
    else
        assert_int_equal(after.retries > 0, stage->subject->interrupt_every > 0);
    assert_done(cellar_device_load(stage->device, 0, 10, &lent));
    cellar_device_release(stage->device, lent, 10);
    assert_int_equal(cellar_device_counters(stage->device).loads, after.loads + 1);
}

static void test_forget(void **state)
{
    struct stage *stage = *state;
    unsigned char byte = 1;

    assert_done(cellar_device_lock(stage->device, CELLAR_LOCK_WRITER));
    cellar_device_forget(stage->device);
    cellar_device_forget(stage->device);
    assert_result(support_device_write(stage->device, &byte, 1, 0), CELLAR_EFORKED);
    assert_result(cellar_device_sync(stage->device, 0, 1), CELLAR_EFORKED);
    assert_result(cellar_device_grow(stage->device, SIZE, SIZE + 1), CELLAR_EFORKED);
    assert_result(cellar_device_trim(stage->device, 1), CELLAR_EFORKED);
    assert_result(cellar_device_unlock(stage->device, CELLAR_LOCK_WRITER), CELLAR_EFORKED);
    if (stage->subject->wrapped)
        assert_true(stage->fault.forgotten);
    assert_done(cellar_device_read(stage->device, &byte, 1, 0));
    assert_int_equal(byte, 0);
}

/* A child that has let go of the locks can't take them anew: it would be another writer. */
static void test_no_lock_after_forget(void **state)
{
    struct stage *stage = *state;

    cellar_device_forget(stage->device);
    assert_result(cellar_device_lock(stage->device, CELLAR_LOCK_WRITER), CELLAR_EFORKED);
    assert_result(cellar_device_lock(stage->device, CELLAR_LOCK_HEADER_SHARED), CELLAR_EFORKED);
}

static void test_what_it_is(void **state)
{
    static const char *const names[] = {"file", "pread", "memory", "direct"};
    struct stage *stage = *state;

    assert_string_equal(cellar_device_name(stage->device),
                        stage->subject->wrapped ? "fault" : names[stage->subject->kind]);
    assert_int_equal(cellar_device_block_bytes(stage->device), 1);
    assert_true(cellar_device_writable(stage->device));
}

struct contract {
    const char *name;
    CMUnitTestFunction test;
};

#define CONTRACT(test)                                                                                                 \
    {                                                                                                                  \
#test, test                                                                                                    \
    }

static const struct contract contracts[] = {
    CONTRACT(test_read_bounds),
    CONTRACT(test_write_bounds),
    CONTRACT(test_random_transfers),
    CONTRACT(test_many_parts),
    CONTRACT(test_load_lends_or_copies),
    CONTRACT(test_grow),
    CONTRACT(test_trim),
    CONTRACT(test_trim_never_grows),
    CONTRACT(test_window),
    CONTRACT(test_window_never_moves),
    CONTRACT(test_window_for_reading_first),
    CONTRACT(test_lock_of_one_handle),
    CONTRACT(test_lock_twice),
    CONTRACT(test_sync),
    CONTRACT(test_counters),
    CONTRACT(test_forget),
    CONTRACT(test_no_lock_after_forget),
    CONTRACT(test_what_it_is),
};

int main(void)
{
    static struct CMUnitTest tests[SUPPORT_COUNT(contracts) * SUPPORT_COUNT(subjects)];
    static char names[SUPPORT_COUNT(tests)][80];

    for (size_t i = 0; i < SUPPORT_COUNT(tests); i++) {
        const struct subject *subject = &subjects[i / SUPPORT_COUNT(contracts)];
        const struct contract *contract = &contracts[i % SUPPORT_COUNT(contracts)];

        snprintf(names[i], sizeof names[i], "%s on %s", contract->name, subject->name);
        tests[i] = (struct CMUnitTest){.name = names[i],
                                       .test_func = contract->test,
                                       .setup_func = setup,
                                       .teardown_func = teardown,
                                       .initial_state = (void *)(uintptr_t)subject};
    }
    return cmocka_run_group_tests_name("device", tests, NULL, NULL);
}
