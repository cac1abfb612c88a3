/*
 * What a writer and its helper have of each other: which parts there are, what is told of a sync and of its failure,
 * who makes room, and how it ends. The helper's steps are taken by hand. Some functions of the library come past here.
 */
#include "store_fixture.h"
#include "system_fault.h"

#include "store_internal.h"

#include <time.h>

enum { CELL = 64, MIB = 1 << 20, CELLS_MAX = 64 * MIB / CELL, STEP_BYTES = 4 * MIB };

/* ---- what comes past ---- */

static struct cellar_writer *watched;
static int restored, begun, joined;
static bool restored_rightly, fd_was_open;
static uint64_t populated_offset, populated_bytes;
static uint64_t clock_ns; /* 0: the system's */

void __real_cellar_header_restore_slots(struct cellar_header *header);
void __wrap_cellar_header_restore_slots(struct cellar_header *header);
void __real_cellar_ahead_begin_growth(struct cellar_ahead *ahead, struct cellar_alloc *alloc);
void __wrap_cellar_ahead_begin_growth(struct cellar_ahead *ahead, struct cellar_alloc *alloc);
int __real_cellar_file_populate(const struct cellar_device *device, uint64_t offset, uint64_t length_bytes);
int __wrap_cellar_file_populate(const struct cellar_device *device, uint64_t offset, uint64_t length_bytes);
int __real_pthread_join(pthread_t thread, void **ret_result);
int __wrap_pthread_join(pthread_t thread, void **ret_result);
int __real_clock_gettime(clockid_t clock, struct timespec *ret_time);
int __wrap_clock_gettime(clockid_t clock, struct timespec *ret_time);

/* Under the lock of flushes, and when every barrier knows already. */
void __wrap_cellar_header_restore_slots(struct cellar_header *header)
{
    restored++;
    restored_rightly = header->sync_error != 0 && watched != NULL && pthread_mutex_trylock(&watched->flush_lock) != 0;
    __real_cellar_header_restore_slots(header);
}

void __wrap_cellar_ahead_begin_growth(struct cellar_ahead *ahead, struct cellar_alloc *alloc)
{
    begun++;
    __real_cellar_ahead_begin_growth(ahead, alloc);
}

int __wrap_cellar_file_populate(const struct cellar_device *device, uint64_t offset, uint64_t length_bytes)
{
    populated_offset = offset;
    populated_bytes = length_bytes;
    return __real_cellar_file_populate(device, offset, length_bytes);
}

/* Of a helper that is none. */
int __wrap_pthread_join(pthread_t thread, void **ret_result)
{
    if (watched == NULL)
        return __real_pthread_join(thread, ret_result);
    joined++;
    fd_was_open = fcntl(watched->ahead_fd, F_GETFD) >= 0;
    return 0;
}

int __wrap_clock_gettime(clockid_t clock, struct timespec *ret_time)
{
    if (clock_ns == 0)
        return __real_clock_gettime(clock, ret_time);
    *ret_time = (struct timespec){.tv_sec = (time_t)(clock_ns / 1000000000), .tv_nsec = (long)(clock_ns % 1000000000)};
    return 0;
}

/* ---- writers ---- */

static struct cellar_writer *make_with(struct store_fixture *f, struct cellar_writer_options options)
{
    struct cellar_config config = store_config(CELL, CELLS_MAX);
    struct cellar_writer *writer;

    system_heal();
    restored = begun = joined = 0;
    restored_rightly = fd_was_open = false;
    options.resize_step_bytes = STEP_BYTES;
    assert_done(store_create(f, &config, &options, &writer));
    atomic_store(&writer->ahead.thread_state, CELLAR_AHEAD_FAILED); /* no thread can be had */
    watched = writer;
    return writer;
}

static struct cellar_writer *make(struct store_fixture *f)
{
    return make_with(f, store_options(f));
}

static void end(struct cellar_writer *writer, int error)
{
    assert_result(cellar_writer_close(writer), error);
    watched = NULL;
    clock_ns = 0;
    system_heal();
}

/* So many flushes that the helper has pages to write. */
static void flush_often(struct cellar_writer *writer)
{
    for (int i = 0; i < 128; i++) {
        store_append(writer, 16);
        assert_done(cellar_writer_flush(writer));
    }
}

static uint32_t flags_of(const struct cellar_writer *writer)
{
    uint32_t flags;

    assert_done(cellar_header_flags(&writer->ground->header, &flags));
    return flags;
}

/* ---- what there is of it ---- */

static void test_parts(void **state)
{
    enum { GROWS = CELLAR_AHEAD_GROWS, POPULATES = CELLAR_AHEAD_POPULATES, WRITES = CELLAR_AHEAD_WRITES };
    static const struct {
        unsigned options, parts;
    } rows[] = {
        {0, GROWS | POPULATES | WRITES},
        {CELLAR_AHEAD_NONE, 0},
        {CELLAR_AHEAD_NO_GROWTH, POPULATES | WRITES},
        {CELLAR_AHEAD_NO_POPULATION, GROWS | WRITES},
        {CELLAR_AHEAD_NO_WRITES, GROWS | POPULATES},
        {CELLAR_AHEAD_NO_GROWTH | CELLAR_AHEAD_NO_WRITES, POPULATES},
        {CELLAR_AHEAD_NONE | CELLAR_AHEAD_NO_WRITES, 0},
    };
    struct store_fixture *f = *state;

    for (size_t i = 0; i < 2 * SUPPORT_COUNT(rows); i++) {
        struct cellar_writer_options options = store_options(f);
        struct cellar_writer *writer;

        options.ahead = rows[i / 2].options;
        options.gather_bytes = i % 2 == 0 ? 0 : CELLAR_GATHER_NONE;
        writer = make_with(f, options);
        assert_int_equal(writer->ahead.parts, rows[i / 2].parts);
        assert_int_equal(writer->alloc.most_cells, (rows[i / 2].parts & GROWS) != 0 ? (256 << 20) / CELL : 0);
        if (rows[i / 2].parts != 0) /* what is gathered is not stored into the window */
            assert_true(writer->ahead.stores == (i % 2 == 1) && writer->ahead.stores_always == (i % 2 == 1));
        end(writer, 0);
        store_remove(f);
    }
}

/* A device of the caller's may be anything: its file is left as it is. */
static void test_device_of_the_caller(void **state)
{
    struct store_fixture *f = *state;
    struct cellar_config config = store_config(CELL, CELLS_MAX);
    struct cellar_writer *writer = NULL;
    struct cellar_device *device =
        support_device_open(SUPPORT_DEVICE_FILE, f->folder, "device", 0, (uint64_t)CELLS_MAX * CELL);

    assert_done(cellar_writer_create_on(device, &config, NULL, &writer));
    assert_non_null(writer->ground->window);
    assert_int_equal(writer->ahead.parts, 0);
    assert_done(cellar_writer_close(writer));
    assert_done(cellar_device_close(device));
}

static void test_populates_there(void **state)
{
    struct store_fixture *f = *state;
    struct cellar_writer *writer = make(f);

    (void)!writer->ahead.ways.populate(writer->ahead.ways.user, 5 * 4096, 3 * 4096);
    assert_int_equal(populated_offset, 5 * 4096);
    assert_int_equal(populated_bytes, 3 * 4096);
    end(writer, 0);
}

/* 20 ns for a byte, or less, is fast; from one second to the next, too. */
static void test_is_fast(void **state)
{
    static const struct {
        uint64_t from_ns, each_ns;
        bool fast;
    } rows[] = {{5999000000, 19 * MIB, true}, {5000000000, 21 * MIB, false}, {5999999000, 2000000000, false}};
    struct store_fixture *f = *state;

    for (size_t i = 0; i < SUPPORT_COUNT(rows); i++) {
        struct cellar_writer *writer = make(f);

        clock_ns = rows[i].from_ns;
        for (int mark = 0; mark < 3; mark++) {
            store_append(writer, MIB / CELL + 1);
            clock_ns += rows[i].each_ns;
        }
        assert_int_equal(atomic_load(&writer->ahead.fast), rows[i].fast);
        end(writer, 0);
        store_remove(f);
    }
}

/* ---- syncs ---- */

static uint32_t flags_at_sync;

static void note_flags(void)
{
    flags_at_sync = flags_of(watched);
}

/* While pages are written the file says so, and after that no more; also where they can't be. */
static void test_says_syncing(void **state)
{
    struct store_fixture *f = *state;
    struct cellar_writer *writer = make(f);

    flush_often(writer);
    flags_at_sync = 0;
    system_before(SYSTEM_MSYNC, 1, note_flags);
    assert_done(cellar_ahead_step(&writer->ahead));
    assert_int_equal(flags_at_sync & CELLAR_FLAG_SYNCING, CELLAR_FLAG_SYNCING);
    assert_int_equal(flags_of(writer) & CELLAR_FLAG_SYNCING, 0);
    flush_often(writer);
    flush_often(writer);
    system_fail(SYSTEM_MMAP, 1, 1, ENOMEM);
    assert_done(cellar_ahead_step(&writer->ahead));
    assert_int_equal(flags_of(writer) & (CELLAR_FLAG_SYNCING | CELLAR_FLAG_SUSPECT), 0);
    assert_int_equal(atomic_load(&writer->ahead.undone), CELLAR_AHEAD_WRITES);
    end(writer, 0);
}

static void expect_lost(struct cellar_writer *writer)
{
    assert_int_equal(restored, 1);
    assert_true(restored_rightly);
    assert_int_equal(pthread_mutex_trylock(&writer->flush_lock), 0);
    pthread_mutex_unlock(&writer->flush_lock);
    assert_int_equal(flags_of(writer) & CELLAR_FLAG_SUSPECT, CELLAR_FLAG_SUSPECT);
    assert_int_equal(flags_of(writer) & CELLAR_FLAG_SYNCING, CELLAR_FLAG_SYNCING); /* nobody knows what came of it */
    assert_result(cellar_writer_commit(writer), -EIO);
}

/* The slots of the last checked flush are stored once more, in turn with flushes. */
static void test_sync_of_pages_fails(void **state)
{
    struct store_fixture *f = *state;
    struct cellar_writer *writer = make(f);

    flush_often(writer);
    system_fail(SYSTEM_MSYNC, 1, 1, EIO);
    assert_done(cellar_ahead_step(&writer->ahead));
    expect_lost(writer);
    end(writer, -EIO);
}

static void test_sync_of_growth_fails(void **state)
{
    struct store_fixture *f = *state;

    for (int by_writer = 0; by_writer < 2; by_writer++) {
        struct cellar_writer *writer = make(f);
        unsigned char cell[CELL] = {0};
        uint32_t index;

        store_append(writer, 3 * MIB / CELL);
        assert_done(cellar_writer_flush(writer));
        if (by_writer)
            store_append(writer, writer->alloc.ready_index - cellar_writer_next(writer));
        system_fail(SYSTEM_MSYNC, 1, 1, EIO);
        if (by_writer)
            assert_result(cellar_writer_append(writer, cell, 1, &index), -EIO);
        else
            assert_done(cellar_ahead_step(&writer->ahead));
        expect_lost(writer);
        end(writer, -EIO);
        store_remove(f);
    }
}

/* A file that others cut may have no header any more: nothing is stored there. */
static void test_cut(void **state)
{
    struct store_fixture *f = *state;
    struct cellar_writer *writer = make(f);
    unsigned char *cells = calloc(1, STEP_BYTES + CELL);
    uint32_t index;

    assert_non_null(cells);
    store_append(writer, 100);
    assert_done(cellar_writer_flush(writer));
    assert_int_equal(truncate(f->path, 4096), 0);
    assert_result(cellar_writer_append(writer, cells, STEP_BYTES / CELL + 1, &index), CELLAR_ECORRUPT);
    assert_int_equal(restored, 0);
    free(cells);
    end(writer, CELLAR_ECORRUPT);
}

/* ---- room ---- */

/* What the helper has made ready is entered as it is; what the writer makes is told to the helper. */
static void test_room(void **state)
{
    struct store_fixture *f = *state;
    struct cellar_writer *writer = make(f);
    uint32_t ready;

    store_append(writer, 3 * MIB / CELL);
    begun = 0;
    assert_done(cellar_ahead_step(&writer->ahead));
    assert_int_equal(begun, 0); /* within its own file it comes past nothing */
    ready = (uint32_t)atomic_load(&writer->ahead.ready_index);
    assert_true(ready > writer->alloc.ready_index);
    assert_done(cellar_writer_make_room(writer, ready - cellar_writer_next(writer)));
    assert_int_equal(begun, 0);
    assert_int_equal(writer->alloc.ready_index, ready);
    assert_done(cellar_writer_make_room(writer, ready - cellar_writer_next(writer) + 1));
    assert_int_equal(begun, 1);
    assert_true(writer->alloc.ready_index > ready);
    assert_int_equal(atomic_load(&writer->ahead.ready_index), writer->alloc.ready_index);
    end(writer, 0);
}

/* ---- the end ---- */

/* Its descriptor is closed when its thread has ended, whatever number it has. */
static void test_end(void **state)
{
    struct store_fixture *f = *state;

    for (int lowest = 0; lowest < 2; lowest++) {
        int before = support_open_descriptors(), kept = -1;
        struct cellar_writer *writer = make(f);

        flush_often(writer);
        if (lowest) {
            kept = dup(STDIN_FILENO);
            close(STDIN_FILENO);
        }
        assert_done(cellar_ahead_step(&writer->ahead));
        assert_true(lowest ? writer->ahead_fd == STDIN_FILENO : writer->ahead_fd > 0);
        atomic_store(&writer->ahead.thread_state, CELLAR_AHEAD_RUNS);
        end(writer, 0);
        assert_int_equal(joined, 1);
        assert_true(fd_was_open);
        if (lowest) {
            assert_int_equal(fcntl(STDIN_FILENO, F_GETFD), -1);
            assert_int_equal(dup2(kept, STDIN_FILENO), STDIN_FILENO);
            close(kept);
        }
        assert_int_equal(support_open_descriptors(), before);
        store_remove(f);
    }
}

static int close_in_child(void *user)
{
    SUPPORT_CHILD_NEEDS(cellar_writer_close(user) == 0);
    SUPPORT_CHILD_NEEDS(joined == 0);
    return 0;
}

/* A child has no thread to wait for, and a descriptor of its own to close. */
static void test_end_in_child(void **state)
{
    struct store_fixture *f = *state;
    struct cellar_writer *writer = make(f);

    flush_often(writer);
    assert_done(cellar_ahead_step(&writer->ahead));
    atomic_store(&writer->ahead.thread_state, CELLAR_AHEAD_RUNS);
    assert_int_equal(support_child(close_in_child, writer), 0);
    end(writer, 0);
    assert_int_equal(joined, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        STORE_ON(test_parts, STORE_MAPPED),
        STORE_ON(test_device_of_the_caller, STORE_MAPPED),
        STORE_ON(test_populates_there, STORE_MAPPED),
        STORE_ON(test_is_fast, STORE_MAPPED),
        STORE_ON(test_says_syncing, STORE_MAPPED),
        STORE_ON(test_sync_of_pages_fails, STORE_MAPPED),
        STORE_ON(test_sync_of_growth_fails, STORE_MAPPED),
        STORE_ON(test_cut, STORE_MAPPED),
        STORE_ON(test_room, STORE_MAPPED),
        STORE_ON(test_end, STORE_MAPPED),
        STORE_ON(test_end_in_child, STORE_MAPPED),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
