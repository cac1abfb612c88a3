/* A device that fails under the writer: the first failed write or sync is the last thing it does; a full disk is not.
 */
#include "device_fault.h"
#include "store_fixture.h"

#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

enum { BYTES_PER_CELL = 32, MAX_INDEX = 5000 };

struct rig {
    struct store_fixture *f;
    struct fault_device fault;
    struct cellar_device *device;
    struct cellar_writer *writer;
    uint32_t committed_next, flushed_next;             /* of the last call that succeeded */
    uint64_t last_offset;                              /* of the call that failed */
    uint32_t committed_root, flushed_root, tried_root; /* tried: of a flush that may or may not have got there */
};

static struct cellar_writer_options rig_options(struct rig *rig)
{
    struct cellar_writer_options options = store_options(rig->f);

    options.two_barriers = true;     /* close syncs nothing then; test_writer_checked.c */
    options.resize_step_bytes = 640; /* growth at every few appends */
    options.initial_cells = 10;
    return options;
}

/* A new store in memory behind a device that can fail. */
static void rig_create(struct rig *rig, struct store_fixture *f)
{
    struct cellar_config config = store_config(BYTES_PER_CELL, MAX_INDEX);
    struct cellar_writer_options options;

    *rig = (struct rig){.f = f, .committed_next = 8, .flushed_next = 8};
    options = rig_options(rig);
    assert_done(cellar_device_open_memory(NULL, 0, 1 << 20, &rig->fault.inner));
    rig->fault.keep_inner = true;
    assert_done(fault_device_open(&rig->fault, &rig->device));
    assert_done(cellar_writer_create_on(rig->device, &config, &options, &rig->writer));
}

static void rig_remove(struct rig *rig)
{
    cellar_device_close(rig->device);
    cellar_device_close(rig->fault.inner);
}

/* ---- poison ---- */

static int append_cells(struct rig *rig, uint32_t cell_count)
{
    unsigned char cells[64 * BYTES_PER_CELL];
    uint32_t index, next = cellar_writer_next(rig->writer);
    int error;

    for (uint32_t i = 0; i < cell_count; i++)
        store_cell_bytes(next + i, cells + BYTES_PER_CELL * (size_t)i, BYTES_PER_CELL);
    error = cellar_writer_append(rig->writer, cells, cell_count, &index);
    if (error == 0 && cell_count > 1)
        error = cellar_writer_set_root(rig->writer, index + 1);
    return error;
}

/* One step of the script; a negative error where the device failed under it. */
static int step(struct rig *rig, int number)
{
    int error;

    rig->tried_root = rig->flushed_root;
    switch (number % 4) {
    case 0:
        return append_cells(rig, 5 + (uint32_t)number % 20);
    case 1:
        rig->tried_root = cellar_writer_root(rig->writer);
        error = cellar_writer_commit(rig->writer);
        if (error == 0) {
            rig->committed_next = cellar_writer_next(rig->writer);
            rig->committed_root = cellar_writer_root(rig->writer);
        }
        return error;
    case 2:
        return append_cells(rig, 1);
    default:
        rig->tried_root = cellar_writer_root(rig->writer);
        error = cellar_writer_flush(rig->writer);
        if (error == 0) {
            rig->committed_next = rig->flushed_next = cellar_writer_next(rig->writer);
            rig->committed_root = rig->flushed_root = cellar_writer_root(rig->writer);
        }
        return error;
    }
}

/* Every call says the same, and none reaches the device. */
static void assert_poisoned(struct rig *rig, int error)
{
    unsigned changing = FAULT_BIT(FAULT_WRITE) | FAULT_BIT(FAULT_SYNC) | FAULT_BIT(FAULT_GROW) | FAULT_BIT(FAULT_TRIM);
    uint64_t calls = fault_calls(&rig->fault, changing);
    uint32_t next = cellar_writer_next(rig->writer), index = 77;
    unsigned char cell[BYTES_PER_CELL] = {0};
    struct iovec part = {cell, sizeof cell};
    void *cells = NULL;

    assert_result(cellar_writer_append(rig->writer, cell, 1, &index), error);
    assert_result(cellar_writer_append(rig->writer, cell, 0, &index), error);
    assert_result(cellar_writer_append_bytes(rig->writer, cell, 1, &index), error);
    assert_result(cellar_writer_reserve(rig->writer, 1, &index, &cells), error);
    assert_result(cellar_writer_rewrite(rig->writer, next - 1, cell, 1), error);
    assert_result(cellar_writer_write_value(rig->writer, cell, 1, &index), error);
    assert_result(cellar_writer_write_value_parts(rig->writer, &part, 1, &index), error);
    assert_result(cellar_writer_set_root(rig->writer, CELLAR_ROOT_NONE), error);
    assert_result(cellar_writer_commit(rig->writer), error);
    assert_result(cellar_writer_rollback(rig->writer), error);
    assert_result(cellar_writer_flush(rig->writer), error);
    assert_result(cellar_writer_flush_committed(rig->writer), error);
    assert_result(cellar_writer_override_version(rig->writer, 3), error);
    assert_result(cellar_writer_truncate(rig->writer, 0), error);
    assert_int_equal(index, 77);
    assert_null(cells);
    assert_result(cellar_writer_close(rig->writer), error);
    assert_int_equal(fault_calls(&rig->fault, changing), calls);
}

/* What was flushed is there; what came after is there whole or not at all. */
static void assert_recovers(struct rig *rig)
{
    struct cellar_writer_options options = rig_options(rig);
    struct cellar_snapshot snapshot;
    struct cellar_writer *writer = NULL;

    assert_done(cellar_writer_open_on(rig->fault.inner, &options, &writer));
    snapshot = cellar_writer_snapshot(writer);
    assert_true(snapshot.next_index >= rig->committed_next);
    assert_true(snapshot.root_index == rig->flushed_root || snapshot.root_index == rig->committed_root ||
                snapshot.root_index == rig->tried_root);
    assert_true(store_cells_hold(&snapshot, 8, rig->committed_next - 8));
    store_close(writer);
}

static const int errors[] = {-EIO, -ENOSPC, CELLAR_EUNKNOWN};

static void note_failing(void *user, enum fault_call call, uint64_t offset, uint64_t length_bytes)
{
    struct rig *rig = user;

    (void)call;
    (void)length_bytes;
    if (rig->fault.failures == 0)
        rig->last_offset = offset;
}

/* Growing stores its flag before and after; where that finds the disk full, less is grown, and the writer goes on. */
static bool was_harmless(const struct rig *rig, int expected)
{
    return rig->fault.failures > 0 && expected == -ENOSPC && rig->last_offset == CELLAR_AT_FLAGS;
}

/* The device's nth write or sync fails, for every n that the script has. */
static void test_poison(void **state)
{
    enum { STEPS = 40 };
    struct store_fixture *f = *state;
    uint64_t nth = 1, failures, harmless = 0;
    int number;

    do {
        struct rig rig;
        int error = 0, expected = errors[nth % SUPPORT_COUNT(errors)];

        rig_create(&rig, f);
        rig.fault.before_user = &rig;
        rig.fault.before = note_failing;
        fault_fail_any(&rig.fault, FAULT_BIT(FAULT_WRITE) | FAULT_BIT(FAULT_SYNC), nth, 1, expected);
        rig.fault.torn_bytes = nth % 3 * 16;
        for (number = 0; number < STEPS && error == 0; number++)
            error = step(&rig, number);
        failures = rig.fault.failures;
        if (error == 0) {
            assert_true(failures == 0 || was_harmless(&rig, expected));
            harmless += failures;
            store_close(rig.writer);
        } else {
            assert_int_equal(error, expected);
            fault_heal(&rig.fault); /* a retry that succeeds would prove nothing */
            assert_poisoned(&rig, expected);
        }
        assert_recovers(&rig);
        rig_remove(&rig);
        nth++;
    } while (failures > 0);
    assert_true(nth > 9 && harmless < nth / 3);
}

/* A failure in a thread that flushes is the writer's, too; and the version is no exception. */
static void test_poison_from_others(void **state)
{
    struct store_fixture *f = *state;
    struct rig rig;

    rig_create(&rig, f);
    assert_done(append_cells(&rig, 5));
    assert_done(cellar_writer_commit(rig.writer));
    assert_done(append_cells(&rig, 5));
    fault_fail(&rig.fault, FAULT_SYNC, 1, 1, -EIO);
    assert_result(cellar_writer_flush_committed(rig.writer), -EIO);
    assert_poisoned(&rig, -EIO);
    rig_remove(&rig);

    rig_create(&rig, f);
    assert_done(append_cells(&rig, 5));
    fault_fail(&rig.fault, FAULT_SYNC, 1, 1, -EIO);
    assert_result(cellar_writer_override_version(rig.writer, 9), -EIO);
    assert_poisoned(&rig, -EIO);
    rig_remove(&rig);
}

/* A failed growth that is no full disk came from making the size durable. */
static void test_poison_from_growth(void **state)
{
    struct store_fixture *f = *state;
    struct rig rig;

    rig_create(&rig, f);
    assert_done(append_cells(&rig, 2));
    fault_fail(&rig.fault, FAULT_GROW, 1, 1, -EIO);
    assert_result(append_cells(&rig, 5), -EIO);
    assert_poisoned(&rig, -EIO);
    assert_recovers(&rig);
    rig_remove(&rig);
}

/* ---- two syncs at the same time ---- */

struct beside {
    struct cellar_writer *writer;
    pthread_t flusher;
    sem_t syncing; /* the flush is about to sync */
    int result;
};

static void *flush_beside(void *user)
{
    struct beside *beside = user;

    beside->result = cellar_writer_flush_committed(beside->writer);
    return NULL;
}

/* In the middle of growing another thread flushes, and gets as far as its barrier. */
static void begin_flush(void *user, enum fault_call call, uint64_t offset, uint64_t length_bytes)
{
    struct beside *beside = user;

    (void)offset;
    (void)length_bytes;
    if (call == FAULT_SYNC)
        sem_post(&beside->syncing);
    if (call != FAULT_GROW)
        return;
    assert_int_equal(pthread_create(&beside->flusher, NULL, flush_beside, beside), 0);
    while (sem_wait(&beside->syncing) != 0)
        continue;
}

/*
 * The system tells one caller of pages that it could not write: growing, which syncs too, gets the error of cells that
 * a flush beside it waits for, and the flush hears of nothing. It must not succeed.
 */
static void test_growth_hears_of_the_failure_of_a_flush(void **state)
{
    struct beside beside = {.result = 1};
    struct cellar_snapshot snapshot;
    struct cellar_reader *reader = NULL;
    struct rig rig;

    rig_create(&rig, *state);
    assert_done(append_cells(&rig, 5));
    assert_done(cellar_writer_flush(rig.writer));
    assert_done(append_cells(&rig, 3));
    assert_done(cellar_writer_commit(rig.writer));
    assert_int_equal(sem_init(&beside.syncing, 0, 0), 0);
    beside.writer = rig.writer;
    rig.fault.before_user = &beside;
    rig.fault.before = begin_flush;
    fault_fail(&rig.fault, FAULT_GROW, 1, 1, -EIO);
    assert_result(append_cells(&rig, 60), -EIO);
    assert_int_equal(pthread_join(beside.flusher, NULL), 0);
    rig.fault.before = NULL;
    assert_result(beside.result, -EIO);
    assert_result(cellar_writer_commit(rig.writer), -EIO);
    cellar_writer_abandon(rig.writer);
    assert_done(cellar_reader_open_on(rig.fault.inner, NULL, &reader));
    snapshot = cellar_reader_snapshot(reader);
    assert_int_equal(snapshot.next_index, 13); /* of the first flush */
    cellar_reader_close(reader);
    sem_destroy(&beside.syncing);
    rig_remove(&rig);
}

/* On the pages path the writer's own reads can fail. They poison nothing. */
static void test_failed_reads(void **state)
{
    struct store_fixture *f = *state;
    struct cellar_snapshot snapshot;
    unsigned char cell[BYTES_PER_CELL];
    struct rig rig;

    rig_create(&rig, f);
    assert_done(append_cells(&rig, 30));
    assert_done(cellar_writer_commit(rig.writer));
    fault_fail_any(&rig.fault, FAULT_BIT(FAULT_READ) | FAULT_BIT(FAULT_LOAD), 1, 0, -EIO);
    snapshot = cellar_writer_snapshot(rig.writer);
    assert_result(cellar_snapshot_read(&snapshot, 8, 0, cell, sizeof cell), -EIO);
    fault_heal(&rig.fault);
    assert_done(cellar_snapshot_read(&snapshot, 8, 0, cell, sizeof cell));
    assert_done(append_cells(&rig, 3));
    store_close(rig.writer);
    rig_remove(&rig);
}

/* Reserved cells go out with the commit; where that fails, or memory for it does, it is said. */
static void test_reserved_cells_of_a_failing_device(void **state)
{
    struct store_fixture *f = *state;
    uint32_t index;
    void *cells;
    struct rig rig;

    rig_create(&rig, f);
    assert_done(cellar_writer_reserve(rig.writer, 2, &index, &cells));
    memset(cells, 1, 2 * BYTES_PER_CELL);
    fault_fail(&rig.fault, FAULT_WRITE, 1, 1, -EIO);
    assert_result(cellar_writer_commit(rig.writer), -EIO);
    assert_poisoned(&rig, -EIO);
    rig_remove(&rig);
}

/* ---- a full disk ---- */

static void test_full_disk(void **state)
{
    static const int full[] = {-ENOSPC, -EFBIG, -EDQUOT};
    struct store_fixture *f = *state;

    for (size_t i = 0; i < SUPPORT_COUNT(full); i++) {
        unsigned char bytes[40 * BYTES_PER_CELL] = {0};
        uint32_t index = 77, next;
        struct cellar_info info;
        struct rig rig;
        void *cells;

        rig_create(&rig, f);
        assert_done(append_cells(&rig, 20));
        next = cellar_writer_next(rig.writer);
        fault_fail(&rig.fault, FAULT_GROW, 1, 0, full[i]);
        assert_result(cellar_writer_append(rig.writer, bytes, 40, &index), full[i]);
        assert_result(cellar_writer_append_bytes(rig.writer, bytes, sizeof bytes, &index), full[i]);
        assert_result(cellar_writer_reserve(rig.writer, 40, &index, &cells), full[i]);
        assert_result(cellar_writer_write_value(rig.writer, bytes, sizeof bytes, &index), full[i]);
        assert_int_equal(index, 77);
        assert_int_equal(cellar_writer_next(rig.writer), next);
        cellar_writer_info(rig.writer, &info);
        while (cellar_writer_next(rig.writer) < info.file_bytes / BYTES_PER_CELL)
            assert_done(append_cells(&rig, 1)); /* it goes on with what it has */
        assert_result(append_cells(&rig, 1), full[i]);
        assert_done(cellar_writer_flush(rig.writer));
        fault_heal(&rig.fault);
        assert_done(append_cells(&rig, 40));
        rig.committed_next = cellar_writer_next(rig.writer);
        rig.flushed_root = cellar_writer_root(rig.writer);
        store_close(rig.writer);
        assert_recovers(&rig);
        rig_remove(&rig);
    }
}

/* Where a whole step does not fit any more, what is needed may. */
static void test_nearly_full_disk(void **state)
{
    struct store_fixture *f = *state;
    struct cellar_info info;
    struct rig rig;

    rig_create(&rig, f);
    fault_fail(&rig.fault, FAULT_GROW, 1, 1, -ENOSPC);
    assert_done(append_cells(&rig, 7));
    cellar_writer_info(rig.writer, &info);
    assert_int_equal(info.file_bytes, 15 * BYTES_PER_CELL);
    assert_done(append_cells(&rig, 1));
    cellar_writer_info(rig.writer, &info);
    assert_int_equal(info.file_bytes, 35 * BYTES_PER_CELL);
    store_close(rig.writer);
    rig_remove(&rig);
}

/* The limit of a process's files would kill it with a signal; it is an error instead. */
static int meet_file_limit(void *user)
{
    struct store_fixture *f = user;
    struct cellar_config config = store_config(4096, 5000);
    struct cellar_writer_options options = store_options(f);
    struct rlimit limit = {.rlim_cur = 100 * 4096, .rlim_max = 100 * 4096};
    static unsigned char cells[100 * 4096];
    struct cellar_writer *writer = NULL;
    struct cellar_snapshot snapshot;
    uint32_t index = 0;

    SUPPORT_CHILD_NEEDS(setrlimit(RLIMIT_FSIZE, &limit) == 0);
    options.initial_cells = 101;
    SUPPORT_CHILD_NEEDS(cellar_writer_create(f->path, &config, &options, &writer) == -EFBIG);
    SUPPORT_CHILD_NEEDS(store_folder_entries(f) == 0);
    options.initial_cells = 16;
    SUPPORT_CHILD_NEEDS(cellar_writer_create(f->path, &config, &options, &writer) == 0);
    SUPPORT_CHILD_NEEDS(cellar_writer_truncate(writer, 101) == -EFBIG);
    for (uint32_t i = 0; i < 98; i++)
        store_cell_bytes(1 + i, cells + 4096 * (size_t)i, 4096);
    SUPPORT_CHILD_NEEDS(cellar_writer_append(writer, cells, 100, &index) == -EFBIG);
    SUPPORT_CHILD_NEEDS(cellar_writer_append(writer, cells, 98, &index) == 0);
    SUPPORT_CHILD_NEEDS(cellar_writer_append(writer, cells, 2, &index) == -EFBIG);
    SUPPORT_CHILD_NEEDS(cellar_writer_flush(writer) == 0);
    snapshot = cellar_writer_snapshot(writer);
    SUPPORT_CHILD_NEEDS(store_cells_hold(&snapshot, 1, 98));
    SUPPORT_CHILD_NEEDS(cellar_writer_close(writer) == 0);
    return 0;
}

static void test_file_limit(void **state)
{
    struct store_fixture *f = *state;
    struct cellar_writer *writer;

    assert_int_equal(support_child(meet_file_limit, f), 0);
    writer = store_again(f);
    assert_int_equal(cellar_writer_next(writer), 99);
    store_close(writer);
}

/* ---- a file that others cut ---- */

/* Found where the file would grow: what was committed is gone, and nothing is stored any more. */
static void test_cut_file(void **state)
{
    struct store_fixture *f = *state;
    struct cellar_writer *writer = store_new(f, 4096, 500);
    unsigned char *cells = calloc(40, 4096);
    uint32_t index = 77;

    assert_non_null(cells);
    store_append(writer, 10);
    assert_done(cellar_writer_flush(writer));
    assert_int_equal(truncate(f->path, 5 * 4096), 0);
    assert_result(cellar_writer_append(writer, cells, 40, &index), CELLAR_ECORRUPT);
    assert_int_equal(index, 77);
    assert_result(cellar_writer_commit(writer), CELLAR_ECORRUPT);
    assert_result(cellar_writer_close(writer), CELLAR_ECORRUPT);
    assert_int_equal(support_file_size(f->path), 5 * 4096);
    free(cells);
}

/* ---- slow and strange devices ---- */

/* Interrupted calls and short transfers are nobody's failure. */
static void test_interrupted_device(void **state)
{
    struct store_fixture *f = *state;
    struct rig rig;

    rig_create(&rig, f);
    rig.fault.interrupt_every = 2;
    rig.fault.transfer_bytes_max = 13;
    for (int number = 0; number < 40; number++)
        assert_done(step(&rig, number));
    assert_done(cellar_writer_flush(rig.writer));
    rig.committed_next = cellar_writer_next(rig.writer);
    rig.flushed_root = rig.tried_root = cellar_writer_root(rig.writer);
    store_close(rig.writer);
    assert_recovers(&rig);
    rig_remove(&rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        STORE_ON(test_poison, STORE_MEMORY_MAPPED),
        STORE_ON(test_poison, STORE_MEMORY_PAGES),
        STORE_ON(test_poison_from_others, STORE_MEMORY_MAPPED),
        STORE_ON(test_poison_from_others, STORE_MEMORY_PAGES),
        STORE_ON(test_poison_from_growth, STORE_MEMORY_MAPPED),
        STORE_ON(test_poison_from_growth, STORE_MEMORY_PAGES),
        STORE_ON(test_growth_hears_of_the_failure_of_a_flush, STORE_MEMORY_MAPPED),
        STORE_ON(test_growth_hears_of_the_failure_of_a_flush, STORE_MEMORY_PAGES),
        STORE_ON(test_failed_reads, STORE_MEMORY_PAGES),
        STORE_ON(test_reserved_cells_of_a_failing_device, STORE_MEMORY_PAGES),
        STORE_ON(test_full_disk, STORE_MEMORY_MAPPED),
        STORE_ON(test_full_disk, STORE_MEMORY_PAGES),
        STORE_ON(test_nearly_full_disk, STORE_MEMORY_MAPPED),
        STORE_ON(test_nearly_full_disk, STORE_MEMORY_PAGES),
        STORE_ON_FILES(test_file_limit),
        STORE_ON_FILES(test_cut_file),
        STORE_ON(test_interrupted_device, STORE_MEMORY_MAPPED),
        STORE_ON(test_interrupted_device, STORE_MEMORY_PAGES),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
