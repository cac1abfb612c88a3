/* Flushing: the order that durability stands on, what it costs, and other threads that flush beside the writer's. */
#include "device_fault.h"
#include "store_fixture.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

/* ---- the order ---- */

struct event {
    enum fault_call call;
    uint64_t offset, length_bytes;
};

struct watched {
    struct fault_device fault;
    struct cellar_device *device;
    struct event events[64];
    size_t event_count;
};

static void note_event(void *user, enum fault_call call, uint64_t offset, uint64_t length_bytes)
{
    struct watched *watched = user;

    if ((call == FAULT_WRITE || call == FAULT_SYNC) && watched->event_count < SUPPORT_COUNT(watched->events))
        watched->events[watched->event_count++] = (struct event){call, offset, length_bytes};
}

/* A new store in memory whose writes and syncs are written down from here on. Its flushes have two barriers;
 * test_writer_checked.c has those of one. */
static struct cellar_writer *watched_open(struct store_fixture *f, struct watched *watched)
{
    struct cellar_writer_options options = store_options(f);
    struct cellar_config config = store_config(32, 5000);
    struct cellar_writer *writer = NULL;

    options.two_barriers = true;
    *watched = (struct watched){.event_count = 0};
    assert_done(cellar_device_open_memory(NULL, 0, 1 << 20, &watched->fault.inner));
    assert_done(fault_device_open(&watched->fault, &watched->device));
    assert_done(cellar_writer_create_on(watched->device, &config, &options, &writer));
    watched->fault.before_user = watched;
    watched->fault.before = note_event;
    return writer;
}

static void assert_events(struct watched *watched, const struct event *expected, size_t count)
{
    assert_int_equal(watched->event_count, count);
    for (size_t i = 0; i < count; i++) {
        assert_int_equal(watched->events[i].call, expected[i].call);
        assert_int_equal(watched->events[i].offset, expected[i].offset);
        assert_int_equal(watched->events[i].length_bytes, expected[i].length_bytes);
    }
    watched->event_count = 0;
}

/* On the pages path every step is a call of the device. */
static void test_order_of_writes(void **state)
{
    static const struct event commit[] = {
        {FAULT_WRITE, 256, 160}, {FAULT_WRITE, 96, 32}, {FAULT_WRITE, 184, 8}, {FAULT_WRITE, 128, 32}};
    static const struct event flush[] = {{FAULT_WRITE, 192, 4}, /* SYNCING */
                                         {FAULT_SYNC, 0, 416},  /* the cells, and disk-sync #2 of the flush before */
                                         {FAULT_WRITE, 32, 32}, {FAULT_SYNC, 32, 32}, {FAULT_WRITE, 64, 32},
                                         {FAULT_WRITE, 248, 8}, {FAULT_WRITE, 192, 4}};
    static const struct event root_only[] = {{FAULT_WRITE, 96, 32}, {FAULT_WRITE, 184, 8}, {FAULT_WRITE, 128, 32},
                                             {FAULT_WRITE, 192, 4}, {FAULT_SYNC, 0, 416},  {FAULT_WRITE, 32, 32},
                                             {FAULT_SYNC, 32, 32},  {FAULT_WRITE, 64, 32}, {FAULT_WRITE, 248, 8},
                                             {FAULT_WRITE, 192, 4}};
    static const struct event version[] = {
        {FAULT_WRITE, 28, 4}, {FAULT_WRITE, 192, 4}, {FAULT_SYNC, 0, 256}, {FAULT_WRITE, 192, 4}};
    struct store_fixture *f = *state;
    struct watched watched;
    struct cellar_writer *writer = watched_open(f, &watched);

    store_append(writer, 5);
    assert_events(&watched, NULL, 0); /* nothing goes out before it is committed */
    assert_done(cellar_writer_commit(writer));
    assert_events(&watched, commit, SUPPORT_COUNT(commit)); /* cells, then the slots that publish them */
    assert_done(cellar_writer_flush_committed(writer));
    assert_events(&watched, flush, SUPPORT_COUNT(flush));
    assert_done(cellar_writer_set_root(writer, 9));
    assert_done(cellar_writer_flush(writer));
    assert_events(&watched, root_only, SUPPORT_COUNT(root_only));
    assert_done(cellar_writer_commit(writer)); /* nothing new: nothing is done */
    assert_done(cellar_writer_flush(writer));
    assert_done(cellar_writer_flush_committed(writer));
    assert_events(&watched, NULL, 0);
    store_append(writer, 5); /* what was rolled back never goes out */
    assert_done(cellar_writer_rollback(writer));
    assert_done(cellar_writer_set_root(writer, 10));
    assert_done(cellar_writer_flush(writer));
    assert_events(&watched, root_only, SUPPORT_COUNT(root_only));
    assert_done(cellar_writer_override_version(writer, 8));
    assert_events(&watched, version, SUPPORT_COUNT(version));
    store_close(writer);
    assert_events(&watched, NULL, 0);
    cellar_device_close(watched.device);
}

/* With a window appending and committing are no calls at all, and a flush is two barriers. */
static void test_cost_with_a_window(void **state)
{
    static const struct event flush[] = {{FAULT_SYNC, 0, 416}, {FAULT_SYNC, 0, 256}};
    struct store_fixture *f = *state;
    struct watched watched;
    struct cellar_writer *writer = watched_open(f, &watched);
    uint64_t calls = fault_calls(&watched.fault, FAULT_ALL_BITS);
    uint32_t index;
    void *cells;

    store_append(writer, 3);
    assert_done(cellar_writer_reserve(writer, 1, &index, &cells));
    assert_done(cellar_writer_write_value(writer, "value", 5, &index));
    assert_done(cellar_writer_set_root(writer, index));
    assert_done(cellar_writer_commit(writer));
    assert_done(cellar_writer_rollback(writer));
    assert_int_equal(fault_calls(&watched.fault, FAULT_ALL_BITS), calls);
    assert_done(cellar_writer_flush(writer));
    assert_events(&watched, flush, SUPPORT_COUNT(flush));
    assert_done(cellar_writer_set_root(writer, 8));
    assert_done(cellar_writer_flush(writer));
    assert_events(&watched, flush, SUPPORT_COUNT(flush));
    assert_done(cellar_writer_flush(writer));
    assert_done(cellar_writer_flush_committed(writer));
    assert_int_equal(fault_calls(&watched.fault, FAULT_ALL_BITS), calls + 4);
    store_close(writer);
    cellar_device_close(watched.device);
}

/* ---- a sync that is under way ---- */

struct sync_watch {
    const unsigned char *bytes; /* of the store */
    int calls[FAULT_CALL_COUNT], untold;
};

/* A call that syncs, or may, while the file does not say so. */
static void watch_sync(void *user, enum fault_call call, uint64_t offset, uint64_t length_bytes)
{
    struct sync_watch *watch = user;

    (void)offset;
    (void)length_bytes;
    watch->calls[call]++;
    if ((call == FAULT_SYNC || call == FAULT_GROW) &&
        (cellar_load_le32(watch->bytes + CELLAR_AT_FLAGS) & CELLAR_FLAG_SYNCING) == 0)
        watch->untold++;
}

/* Whoever dies in one leaves the flag to the next writer, whatever the sync was for. */
static void test_every_sync_is_told(void **state)
{
    struct store_fixture *f = *state;
    struct cellar_writer_options options = store_options(f);
    struct cellar_config config = store_config(32, 5000);
    struct fault_device fault = {.keep_inner = false};
    struct sync_watch watch = {.untold = 0};
    struct cellar_writer *writer = NULL;
    struct cellar_device *device;
    uint64_t capacity_bytes;
    void *base;

    options.two_barriers = true;
    options.initial_cells = 10;
    options.resize_step_bytes = 640;
    assert_done(cellar_device_open_memory(NULL, 0, 1 << 20, &fault.inner));
    assert_done(fault_device_open(&fault, &device));
    assert_done(cellar_writer_create_on(device, &config, &options, &writer));
    assert_done(cellar_device_window(fault.inner, 1 << 20, true, &base, &capacity_bytes));
    watch.bytes = base;
    fault.before_user = &watch;
    fault.before = watch_sync;
    store_append(writer, 50);
    assert_int_equal(watch.calls[FAULT_GROW], 1);
    assert_done(cellar_writer_override_version(writer, 8));
    assert_int_equal(watch.calls[FAULT_SYNC], 1);
    assert_done(cellar_writer_flush(writer));
    assert_int_equal(watch.calls[FAULT_SYNC], 3);
    assert_int_equal(watch.untold, 0);
    assert_int_equal(cellar_load_le32(watch.bytes + CELLAR_AT_FLAGS), 0);
    fault_fail(&fault, FAULT_GROW, 1, 1, -ENOSPC); /* nothing was lost */
    store_append(writer, 50);
    assert_int_equal(cellar_load_le32(watch.bytes + CELLAR_AT_FLAGS), 0);
    store_close(writer);
    cellar_device_close(device);
}

/* What is not committed is not flushed by flush_committed. */
static void test_flush_committed(void **state)
{
    struct store_fixture *f = *state;
    struct cellar_writer *writer = store_new(f, 32, 5000);
    struct cellar_info info;

    assert_done(cellar_writer_flush_committed(writer));
    store_append(writer, 5);
    assert_done(cellar_writer_set_root(writer, 10));
    assert_done(cellar_writer_flush_committed(writer));
    store_assert_pair(f, CELLAR_DISK_1, 8, CELLAR_ROOT_NONE);
    store_assert_pair(f, CELLAR_PROCESS_1, 8, CELLAR_ROOT_NONE);
    assert_done(cellar_writer_commit(writer));
    store_append(writer, 5);
    cellar_writer_info(writer, &info);
    assert_int_equal(info.flushed_next_index, 8);
    assert_done(cellar_writer_flush_committed(writer));
    store_assert_pair(f, CELLAR_DISK_1, 13, 10);
    store_assert_pair(f, CELLAR_PROCESS_1, 13, 10);
    cellar_writer_info(writer, &info);
    assert_int_equal(info.flushed_next_index, 13);
    assert_done(cellar_writer_rollback(writer));
    assert_int_equal(cellar_writer_next(writer), 13);
    store_close(writer);
}

/* ---- several threads that flush ---- */

/* The first sync waits at the gate until it is opened. */
struct gate {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool reached, open;
};

static void wait_at_gate(void *user, enum fault_call call, uint64_t offset, uint64_t length_bytes)
{
    struct gate *gate = user;

    (void)offset;
    (void)length_bytes;
    if (call != FAULT_SYNC)
        return;
    pthread_mutex_lock(&gate->lock);
    gate->reached = true;
    pthread_cond_broadcast(&gate->changed);
    while (!gate->open)
        pthread_cond_wait(&gate->changed, &gate->lock);
    pthread_mutex_unlock(&gate->lock);
}

static void *flush_once(void *user)
{
    return cellar_writer_flush_committed(user) == 0 ? NULL : user;
}

/* While one flush is under way the writer goes on, and all who ask meanwhile share the next one. */
static void test_flushes_share_a_barrier(void **state)
{
    enum { FLUSHERS = 8 };
    struct store_fixture *f = *state;
    struct gate gate = {.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};
    struct watched watched;
    struct cellar_writer *writer = watched_open(f, &watched);
    pthread_t first, others[FLUSHERS];
    struct cellar_info info;
    uint64_t syncs = fault_calls(&watched.fault, FAULT_BIT(FAULT_SYNC));
    void *failed = NULL;

    watched.fault.before_user = &gate;
    watched.fault.before = wait_at_gate;
    store_append(writer, 5);
    assert_done(cellar_writer_commit(writer));
    assert_int_equal(pthread_create(&first, NULL, flush_once, writer), 0);
    pthread_mutex_lock(&gate.lock);
    while (!gate.reached)
        pthread_cond_wait(&gate.changed, &gate.lock);
    pthread_mutex_unlock(&gate.lock);

    for (int i = 0; i < 10; i++) { /* nobody is held up by the barrier */
        store_append(writer, 3);
        assert_done(cellar_writer_set_root(writer, cellar_writer_next(writer) - 1));
        assert_done(cellar_writer_commit(writer));
    }
    for (int i = 0; i < FLUSHERS; i++)
        assert_int_equal(pthread_create(&others[i], NULL, flush_once, writer), 0);
    pthread_mutex_lock(&gate.lock);
    gate.open = true;
    pthread_cond_broadcast(&gate.changed);
    pthread_mutex_unlock(&gate.lock);
    pthread_join(first, &failed);
    assert_null(failed);
    for (int i = 0; i < FLUSHERS; i++) {
        pthread_join(others[i], &failed);
        assert_null(failed);
    }
    assert_int_equal(fault_calls(&watched.fault, FAULT_BIT(FAULT_SYNC)), syncs + 4);
    cellar_writer_info(writer, &info);
    assert_int_equal(info.flushed_next_index, 43);
    store_close(writer);
    cellar_device_close(watched.device);
}

/* ---- everybody at once ---- */

struct crowd {
    struct cellar_writer *writer;
    atomic_bool done;
};

struct member {
    struct crowd *crowd;
    struct cellar_reader *reader;
    int error; /* 0: nothing was wrong */
    uint64_t rounds;
};

static void *flush_on_and_on(void *user)
{
    struct member *member = user;

    do {
        member->error = cellar_writer_flush_committed(member->crowd->writer);
        member->rounds++;
    } while (member->error == 0 && !atomic_load(&member->crowd->done));
    return NULL;
}

/* Everything that the reader moves on to is whole; its root is its last cell. */
static void *follow(void *user)
{
    struct member *member = user;
    uint32_t known = 8;
    bool last;

    do {
        struct cellar_snapshot snapshot;

        last = atomic_load(&member->crowd->done);
        member->error = cellar_reader_refresh(member->reader);
        if (member->error != 0 && member->error != CELLAR_NONE)
            return NULL;
        snapshot = cellar_reader_snapshot(member->reader);
        member->error = 1000;
        if (snapshot.next_index < known)
            return NULL;
        member->error++;
        if (snapshot.next_index > 8 && snapshot.root_index != snapshot.next_index - 1)
            return NULL;
        member->error++;
        if (!store_cells_hold(&snapshot, known, snapshot.next_index - known))
            return NULL;
        member->error = 0;
        member->rounds += snapshot.next_index > known;
        known = snapshot.next_index;
    } while (!last);
    return NULL;
}

static void test_everybody_at_once(void **state)
{
    enum { FLUSHERS = 2 };
    struct store_fixture *f = *state;
    int commits = store_takes_slice(f) ? 300 : 1500;
    struct crowd crowd = {.writer = store_new(f, 32, 60000)};
    struct member members[FLUSHERS + 2];
    pthread_t threads[FLUSHERS + 2];
    struct cellar_snapshot snapshot;
    uint64_t seed = 17;

    for (int i = 0; i < FLUSHERS + 2; i++) {
        members[i] = (struct member){.crowd = &crowd};
        if (i >= FLUSHERS)
            members[i].reader = store_reader(f, i == FLUSHERS ? &f->key : NULL);
        assert_int_equal(pthread_create(&threads[i], NULL, i < FLUSHERS ? flush_on_and_on : follow, &members[i]), 0);
    }
    for (int i = 0; i < commits; i++) {
        store_append(crowd.writer, 1 + (uint32_t)support_random_below(&seed, 30));
        assert_done(cellar_writer_set_root(crowd.writer, cellar_writer_next(crowd.writer) - 1));
        assert_done(i % 100 == 99 ? cellar_writer_flush(crowd.writer) : cellar_writer_commit(crowd.writer));
        if (i % 16 == 0)
            sched_yield();
    }
    assert_done(cellar_writer_flush(crowd.writer));
    atomic_store(&crowd.done, true);
    for (int i = 0; i < FLUSHERS + 2; i++) {
        pthread_join(threads[i], NULL);
        assert_int_equal(members[i].error, 0);
        assert_true(members[i].rounds > 0);
        if (i >= FLUSHERS) {
            snapshot = cellar_reader_snapshot(members[i].reader);
            assert_int_equal(snapshot.next_index, cellar_writer_next(crowd.writer));
            store_assert_cells(&snapshot);
            cellar_reader_close(members[i].reader);
        }
    }
    store_close(crowd.writer);
}

/* ---- one snapshot, many threads ---- */

struct sharing {
    struct cellar_snapshot snapshot;
    uint64_t seed;
    bool good;
};

static void *read_shared(void *user)
{
    struct sharing *sharing = user;
    const struct cellar_snapshot *snapshot = &sharing->snapshot;

    sharing->good = true;
    for (int i = 0; i < 2000 && sharing->good; i++) {
        uint32_t cells = snapshot->next_index - snapshot->start_index;
        uint32_t index = snapshot->start_index + (uint32_t)(support_random(&sharing->seed) % cells);

        sharing->good = store_cells_hold(snapshot, index, 1);
    }
    return NULL;
}

/* A reader's and the writer's own, while the writer appends and the reader moves on. */
static void test_shared_snapshots(void **state)
{
    enum { THREADS = 4 };
    struct store_fixture *f = *state;
    struct cellar_writer *writer = store_new(f, 100, 20000);
    struct cellar_reader *reader;
    struct sharing sharing[THREADS];
    pthread_t threads[THREADS];

    store_append(writer, 2000);
    assert_done(cellar_writer_commit(writer));
    reader = store_reader(f, &f->key);
    for (int i = 0; i < THREADS; i++) {
        sharing[i] =
            (struct sharing){.snapshot = i % 2 == 0 ? cellar_reader_snapshot(reader) : cellar_writer_snapshot(writer),
                             .seed = (uint64_t)i};
        assert_int_equal(pthread_create(&threads[i], NULL, read_shared, &sharing[i]), 0);
    }
    for (int i = 0; i < 200; i++) {
        store_append(writer, 20);
        assert_done(cellar_writer_commit(writer));
        assert_done(cellar_reader_refresh(reader));
    }
    for (int i = 0; i < THREADS; i++) {
        pthread_join(threads[i], NULL);
        assert_true(sharing[i].good);
    }
    cellar_reader_close(reader);
    store_close(writer);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        STORE_ON(test_order_of_writes, STORE_MEMORY_PAGES),
        STORE_ON(test_every_sync_is_told, STORE_MEMORY_MAPPED),
        STORE_ON(test_every_sync_is_told, STORE_MEMORY_PAGES),
        STORE_ON(test_cost_with_a_window, STORE_MEMORY_MAPPED),
        STORE_ON_ALL(test_flush_committed),
        STORE_ON(test_flushes_share_a_barrier, STORE_MEMORY_MAPPED),
        STORE_ON(test_flushes_share_a_barrier, STORE_MEMORY_PAGES),
        STORE_ON_FILES(test_everybody_at_once),
        STORE_ON(test_everybody_at_once, STORE_MEMORY_MAPPED),
        STORE_ON_FILES(test_shared_snapshots),
        STORE_ON(test_shared_snapshots, STORE_MEMORY_MAPPED),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
