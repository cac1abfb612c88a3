/* The edges of the pipeline: snapshots while the device grows, hooks within commits, bounds, misuse and fork. */
#include "queue_test.h"
#include "versions_test.h"

#include "page/pipeline.h"
#include <malloc.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>

/* ---- snapshots ---- */

enum { TAIL_BYTES = 10 };

/* A reader that has seen a short tail asks for the size; the device grows while the commit writes to the tail. */
struct growing {
    struct stage stage;
    struct gate gate;
    struct cellar_cache *reader;
    pthread_t thread;
    int result;
};

static _Thread_local bool asks_late;

static void grow_meanwhile(void *user, enum fault_call call, uint64_t offset, uint64_t length_bytes)
{
    struct growing *growing = user;

    if (call == FAULT_SIZE && asks_late)
        gate_pass(&growing->gate, FAULT_READ, offset, length_bytes);
    if (call != FAULT_WRITE)
        return;
    /* Between what the commit keeps and what it overwrites: the reader goes on, to its end. */
    if (cellar_device_grow(growing->stage.fault.inner, 0, PAGE) != 0)
        abort();
    gate_open(&growing->gate);
    pthread_join(growing->thread, NULL);
}

static void *read_past_tail(void *user)
{
    struct growing *growing = user;
    unsigned char byte;

    asks_late = true;
    growing->result = cellar_cache_read(growing->reader, 2 * TAIL_BYTES, &byte, 1);
    return NULL;
}

static void test_kept_tail_stays(void **state)
{
    struct cellar_pipeline_options options = {.cache.old_pages = 4};
    struct growing growing = {.result = 12345};
    struct stage *stage = &growing.stage;
    struct cellar_cache *snapshot;

    (void)state;
    if (support_cache_debug())
        support_skip("the debug mode of the cache gives the tail up at once");
    gate_make(&growing.gate, false);
    stage_open(stage, TAIL_BYTES, &options);
    assert_done(put_commit(stage, 0, TAIL_BYTES, 1));
    snapshot = take_snapshot(stage);
    assert_done(cellar_cache_share(cellar_pipeline_cache(stage->pipeline), &growing.reader));
    expect(snapshot, 0, TAIL_BYTES, 1);
    assert_done(put(stage, 0, TAIL_BYTES, 2));
    stage->fault.before_user = &growing;
    stage->fault.before = grow_meanwhile;
    assert_int_equal(pthread_create(&growing.thread, NULL, read_past_tail, &growing), 0);
    assert_true(gate_wait(&growing.gate, 1));
    assert_done(cellar_pipeline_commit(stage->pipeline));
    stage->fault.before = NULL;
    expect(snapshot, 0, TAIL_BYTES, 1);
    assert_int_equal(old_pages(stage), 1);
    assert_result(growing.result, CELLAR_EBOUNDS); /* what is kept doesn't grow while it is the page */
    expect_seen(stage, 0, TAIL_BYTES, 2);
    expect(growing.reader, 2 * TAIL_BYTES, 1, 0);
    cellar_cache_close(snapshot);
    assert_int_equal(old_pages(stage), 0);
    cellar_cache_close(growing.reader);
    stage_close(stage);
    gate_end(&growing.gate);
}

/* A reader's load is on its way, for no snapshot, when a commit overwrites its page. */
struct meeting {
    struct stage stage;
    struct gate gate;
    struct cellar_cache *reader, *watcher;
    atomic_bool met;
    int result;
    unsigned char byte;
};

static void meet_reads(void *user, enum fault_call call, uint64_t offset, uint64_t length_bytes)
{
    struct meeting *meeting = user;

    if (call == FAULT_READ)
        gate_pass(&meeting->gate, call, offset, length_bytes);
    if (call != FAULT_WRITE)
        return;
    pthread_mutex_lock(&meeting->gate.lock);
    if (meeting->gate.inside > 0)
        meeting->met = true;
    pthread_mutex_unlock(&meeting->gate.lock);
}

static void *read_first_page(void *user)
{
    struct meeting *meeting = user;

    meeting->result = cellar_cache_read(meeting->reader, 0, &meeting->byte, 1);
    return NULL;
}

/* Lets the load end when the commit waits for it, or has not. */
static void *end_load(void *user)
{
    struct meeting *meeting = user;

    while (!meeting->met && cellar_cache_counters(meeting->watcher).pinned == 0)
        sched_yield();
    gate_open(&meeting->gate);
    return NULL;
}

static void test_commit_waits_for_loads(void **state)
{
    struct cellar_pipeline_options options = {.cache.old_pages = 4};
    struct meeting meeting = {.result = 12345};
    struct stage *stage = &meeting.stage;
    pthread_t reader, ender;

    (void)state;
    gate_make(&meeting.gate, false);
    stage->fault.without = FAULT_BIT(FAULT_LOAD) | FAULT_BIT(FAULT_WINDOW);
    stage->fault.before = meet_reads;
    stage->fault.before_user = &meeting;
    stage_open(stage, 4 * PAGE, &options);
    assert_done(cellar_cache_share(cellar_pipeline_cache(stage->pipeline), &meeting.reader));
    assert_done(cellar_cache_share(cellar_pipeline_cache(stage->pipeline), &meeting.watcher));
    assert_done(put(stage, 0, PAGE, 1));
    assert_int_equal(pthread_create(&reader, NULL, read_first_page, &meeting), 0);
    assert_true(gate_wait(&meeting.gate, 1));
    assert_int_equal(pthread_create(&ender, NULL, end_load, &meeting), 0);
    assert_done(cellar_pipeline_commit(stage->pipeline));
    assert_int_equal(pthread_join(ender, NULL), 0);
    assert_int_equal(pthread_join(reader, NULL), 0);
    assert_false(meeting.met);
    assert_done(meeting.result);
    assert_int_equal(meeting.byte, 0);
    expect(meeting.reader, 0, PAGE, 1);
    cellar_cache_close(meeting.watcher);
    cellar_cache_close(meeting.reader);
    stage_close(stage);
    gate_end(&meeting.gate);
}

/* What a hook finds that a commit calls: it is this thread that holds the versions. */
struct asking {
    struct stage stage;
    bool asks;
    unsigned calls;
    int snapshot_result;
    uint64_t version;
};

static void ask_within(void *user)
{
    struct asking *asking = user;
    struct cellar_cache *snapshot;

    if (!asking->asks)
        return;
    asking->calls++;
    asking->version = cellar_pipeline_version(asking->stage.pipeline);
    asking->snapshot_result = cellar_pipeline_snapshot(asking->stage.pipeline, &snapshot);
}

static void test_snapshot_within_commit(void **state)
{
    struct asking asking = {.snapshot_result = 12345, .version = 12345};
    struct cellar_pipeline_options options = {.cache = {.old_pages = 4, .hooks.loaded = ask_within, .user = &asking}};
    struct stage *stage = &asking.stage;
    struct cellar_cache *snapshot, *next;

    (void)state;
    stage_open(stage, 4 * PAGE, &options);
    assert_done(put_commit(stage, 0, 1, 1));
    snapshot = take_snapshot(stage);
    assert_done(put(stage, 2 * PAGE, PAGE, 2));
    asking.asks = true;
    assert_done(cellar_pipeline_commit(stage->pipeline)); /* loads the page first, to keep it */
    asking.asks = false;
    assert_int_equal(asking.calls, 1);
    assert_result(asking.snapshot_result, -EDEADLK);
    assert_int_equal(asking.version, 1);
    expect(snapshot, 2 * PAGE, PAGE, 0);
    next = take_snapshot(stage); /* afterwards it works */
    expect(next, 2 * PAGE, PAGE, 2);
    cellar_cache_close(next);
    cellar_cache_close(snapshot);
    stage_close(stage);
}

static void note_error(void *user, int error)
{
    *(int *)user = error;
}

/* The result of an asynchronous load of the first page. */
static int load_first_page(struct cellar_cache *cache)
{
    int result = 12345;

    assert_done(cellar_cache_load_async(cache, 0, PAGE, note_error, &result));
    while (cellar_cache_awaited(cache) > 0)
        (void)cellar_cache_poll(cache, true);
    return result;
}

/* Handles that are no snapshots are given what is kept for those, as long as it is. */
static void test_old_version_of_a_handle(void **state)
{
    struct cellar_pipeline_options options = {.cache = {.old_pages = 4, .depth = 2}};
    struct cellar_cache *first, *second, *handle;
    unsigned char byte;
    struct stage stage = {0};

    (void)state;
    stage_open(&stage, 4 * PAGE, &options);
    assert_done(cellar_cache_share(cellar_pipeline_cache(stage.pipeline), &handle));
    assert_done(put_commit(&stage, 0, PAGE, 1));
    first = take_snapshot(&stage);
    assert_done(put_commit(&stage, 0, PAGE, 2));
    second = take_snapshot(&stage);
    assert_done(put_commit(&stage, 0, PAGE, 3));
    for (uint64_t version = 1; version <= 3; version++) {
        cellar_cache_set_version(handle, version);
        expect(handle, 0, PAGE, (int)version);
        assert_done(load_first_page(handle));
    }
    cellar_cache_close(first);
    cellar_cache_set_version(handle, 1);
    assert_result(cellar_cache_read(handle, 0, &byte, 1), -ESTALE);
    assert_int_equal(cellar_cache_fault_address(handle), 0);
    assert_result(load_first_page(handle), -ESTALE);
    expect(handle, PAGE, PAGE, 0); /* another page */
    cellar_cache_set_version(handle, 2);
    expect(handle, 0, PAGE, 2);
    assert_done(load_first_page(handle));
    cellar_cache_set_version(handle, CELLAR_VERSION_NEWEST);
    expect(handle, 0, PAGE, 3);
    expect(second, 0, PAGE, 2);
    cellar_cache_close(handle);
    cellar_cache_close(second);
    stage_close(&stage);
}

/* Thousands of pages kept at once, some of them for two snapshots, are found and given back. */
static void test_many_kept_pages(void **state)
{
    enum { COUNT = 2000 };
    struct cellar_pipeline_options options = {.cache = {.page_count = 64, .old_pages = COUNT + COUNT / 2}};
    struct cellar_cache *first, *second;
    struct stage stage = {0};

    (void)state;
    stage_open(&stage, (uint64_t)COUNT * PAGE, &options);
    assert_done(put_commit(&stage, 0, (size_t)COUNT * PAGE, 1));
    first = take_snapshot(&stage);
    assert_done(put_commit(&stage, 0, (size_t)COUNT * PAGE, 2));
    assert_int_equal(old_pages(&stage), COUNT);
    second = take_snapshot(&stage);
    for (uint64_t page = 0; page < COUNT; page += 2)
        assert_done(put(&stage, page * PAGE, PAGE, 3));
    assert_done(cellar_pipeline_commit(stage.pipeline));
    assert_int_equal(old_pages(&stage), COUNT + COUNT / 2);
    expect(first, 0, (size_t)COUNT * PAGE, 1);
    expect(second, 0, (size_t)COUNT * PAGE, 2);
    assert_done(put(&stage, 0, PAGE, 4)); /* one more would be too many, but none is needed */
    assert_done(cellar_pipeline_commit(stage.pipeline));
    assert_done(put(&stage, PAGE, PAGE, 4));
    assert_result(cellar_pipeline_commit(stage.pipeline), CELLAR_EOLDPAGES);
    cellar_cache_close(first);
    assert_int_equal(old_pages(&stage), COUNT / 2);
    assert_done(cellar_pipeline_commit(stage.pipeline));
    assert_int_equal(old_pages(&stage), COUNT / 2 + 1);
    expect(second, 0, (size_t)COUNT * PAGE, 2);
    cellar_cache_close(second);
    assert_int_equal(old_pages(&stage), 0);
    expect_seen(&stage, 0, 2 * PAGE, 4);
    expect_device(&stage, 2 * PAGE, PAGE, 3);
    expect_device(&stage, 3 * PAGE, PAGE, 2);
    stage_close(&stage);
}

/* ---- bounds ---- */

/* One write of far more than may be pending goes in pieces, the rest at once when it is within the bound: no more pages
 * than twice that are ever made. */
static void test_large_write_keeps_the_bound(void **state)
{
    enum { PAGES = 64, BOUND_PAGES = 4, WRITE_PAGES = 2 };
    struct cellar_pipeline_options options = {.cache = {.page_count = PAGES, .io = CELLAR_IO_THREADS},
                                              .eager_writes = 2,
                                              .eager_bytes = WRITE_PAGES * PAGE,
                                              .pending_bytes_max = BOUND_PAGES * PAGE,
                                              .committed_bytes = PAGE};
    struct stage stage = {0};

    (void)state;
    stage_open(&stage, PAGES * PAGE, &options);
    assert_done(put(&stage, PAGE, (PAGES - 1) * PAGE, 1));
    assert_true(cellar_pipeline_pending_bytes(stage.pipeline) <= BOUND_PAGES * PAGE);
    expect_seen(&stage, PAGE, (PAGES - 1) * PAGE, 1);
    assert_done(cellar_pipeline_commit(stage.pipeline));
    expect_device(&stage, PAGE, (PAGES - 1) * PAGE, 1);
    /* All that was ever pending is kept for the next time, as the cache is so large. */
    assert_true(stage.pipeline->pending.spare_count > 0);
    assert_true(stage.pipeline->pending.spare_count <= BOUND_PAGES + WRITE_PAGES);
    /* Not at the start of a page, and with what must wait for commit in front. */
    assert_done(put(&stage, 10, PAGES * PAGE - 10, 2));
    expect_seen(&stage, 10, PAGES * PAGE - 10, 2);
    assert_done(cellar_pipeline_commit(stage.pipeline));
    expect_device(&stage, 0, 10, 0);
    expect_device(&stage, 10, PAGES * PAGE - 10, 2);
    stage_close(&stage);
}

#if defined(__GLIBC__) && __GLIBC_PREREQ(2, 33)
/* What malloc has from the system. */
static size_t heap_bytes(void)
{
    struct mallinfo2 info = mallinfo2();

    return info.arena + info.hblkhd;
}
#endif

/* What is pending costs its own size, and a little. */
static void test_pending_memory(void **state)
{
    (void)state;
#if defined(__GLIBC__) && __GLIBC_PREREQ(2, 33)
    enum { PAGE_BYTES = 4096, COUNT = 4096 };
    struct cellar_pipeline_options options = {.cache = {.page_bytes = PAGE_BYTES, .page_count = 8}};
    struct stage stage = {0};
    size_t before, after, pages_bytes = (size_t)COUNT * PAGE_BYTES;

    if (SUPPORT_SANITIZED || support_cache_debug())
        support_skip("another malloc, or mappings");
    stage_open(&stage, pages_bytes, &options);
    before = heap_bytes();
    for (uint64_t page = 0; page < COUNT; page++)
        assert_done(put(&stage, page * PAGE_BYTES, 1, 1));
    after = heap_bytes();
    stage_close(&stage);
    if (after < before + pages_bytes / 2)
        support_skip("another malloc");
    assert_true((after - before) * 10 < pages_bytes * 14);
#else
    support_skip("no mallinfo2");
#endif
}

static void test_write_start_out_of_range(void **state)
{
    static const int values[] = {-1, CELLAR_WRITE_NEW + 1, 77};
    struct cellar_pipeline_options options = {0};
    struct cellar_write_frame frame = {0};
    struct stage stage = {0};

    (void)state;
    stage_open(&stage, 4 * PAGE, &options);
    for (size_t i = 0; i < SUPPORT_COUNT(values); i++) {
        enum cellar_write_start start;

        memcpy(&start, &values[i], sizeof start);
        assert_result(cellar_pipeline_fix_write(stage.pipeline, PAGE, start, &frame), -EINVAL);
        assert_null(frame.bytes);
    }
    assert_int_equal(cellar_pipeline_pending_bytes(stage.pipeline), 0);
    assert_done(cellar_pipeline_commit(stage.pipeline)); /* nothing is fixed */
    stage_close(&stage);
}

/* ---- the debug mode ---- */

enum misuse { USE_AFTER_UNFIX, UNFIX_TWICE, UNFIX_TWICE_AFTER_DISCARD, NO_MISUSE };

static volatile unsigned char sink;

static int misuse_frame(void *user)
{
    const enum misuse *how = user;
    struct cellar_write_frame frame, same;
    struct cellar_pipeline *pipeline;
    struct cellar_device *device;

    signal(SIGSEGV, SIG_DFL); /* a sanitizer's report of the fault is no news */
    signal(SIGBUS, SIG_DFL);
    signal(SIGABRT, SIG_DFL);
    SUPPORT_CHILD_NEEDS(setenv("CELLAR_CACHE_DEBUG", "1", 1) == 0);
    SUPPORT_CHILD_NEEDS(cellar_device_open_memory(NULL, 4 * PAGE, 4 * PAGE, &device) == 0);
    SUPPORT_CHILD_NEEDS(cellar_pipeline_open(device, PAGE, 8, &pipeline) == 0);
    SUPPORT_CHILD_NEEDS(cellar_pipeline_fix_write(pipeline, PAGE, CELLAR_WRITE_AS_IS, &frame) == 0);
    SUPPORT_CHILD_NEEDS(cellar_pipeline_fix_write(pipeline, PAGE, CELLAR_WRITE_AS_IS, &same) == 0);
    cellar_pipeline_unfix_write(pipeline, &same);
    memset(frame.bytes, 1, frame.length); /* there is another fix of it */
    same = frame;
    cellar_pipeline_unfix_write(pipeline, &frame);
    cellar_pipeline_unfix_write(pipeline, &frame); /* a zeroed one is fine */
    if (*how == UNFIX_TWICE_AFTER_DISCARD)
        cellar_pipeline_discard(pipeline);
    if (*how == USE_AFTER_UNFIX)
        sink = *(const unsigned char *)same.bytes;
    if (*how == UNFIX_TWICE || *how == UNFIX_TWICE_AFTER_DISCARD)
        cellar_pipeline_unfix_write(pipeline, &same);
    if (*how != NO_MISUSE)
        return 78;
    SUPPORT_CHILD_NEEDS(cellar_pipeline_commit(pipeline) == 0);
    cellar_pipeline_close(pipeline);
    return cellar_device_close(device) == 0 ? 77 : 79;
}

static void test_debug_write_frames(void **state)
{
    (void)state;
    assert_int_equal(support_child(misuse_frame, &(enum misuse){NO_MISUSE}), 77);
    assert_int_equal(support_child(misuse_frame, &(enum misuse){USE_AFTER_UNFIX}), -SIGSEGV);
    assert_int_equal(support_child(misuse_frame, &(enum misuse){UNFIX_TWICE}), -SIGABRT);
    assert_int_equal(support_child(misuse_frame, &(enum misuse){UNFIX_TWICE_AFTER_DISCARD}), -SIGABRT);
}

/* ---- fork ---- */

static void pass_writes(void *user, enum fault_call call, uint64_t offset, uint64_t length_bytes)
{
    if (call == FAULT_WRITE)
        gate_pass(user, call, offset, length_bytes);
}

/* What is on its way is so in the parent alone. */
static int commit_in_child(void *user)
{
    struct stage *stage = user;

    SUPPORT_CHILD_NEEDS(cellar_pipeline_commit(stage->pipeline) == CELLAR_EFORKED);
    SUPPORT_CHILD_NEEDS(cellar_pipeline_persist(stage->pipeline, 0, PAGE) == CELLAR_EFORKED);
    cellar_pipeline_close(stage->pipeline);
    return 0;
}

static void test_fork_after_eager_writes(void **state)
{
    struct cellar_pipeline_options options = {
        .cache.io = CELLAR_IO_THREADS, .eager_writes = 2, .eager_bytes = PAGE, .committed_bytes = PAGE};
    struct stage stage = {0};
    struct gate gate;

    (void)state;
    gate_make(&gate, true);
    stage.fault.before = pass_writes;
    stage.fault.before_user = &gate;
    stage_open(&stage, 8 * PAGE, &options);
    assert_done(put(&stage, PAGE, PAGE, 1));
    assert_done(cellar_pipeline_commit(stage.pipeline));
    assert_done(put(&stage, 0, PAGE, 1)); /* pending, but not on its way */
    assert_int_equal(support_child(commit_in_child, &stage), 0);
    assert_done(cellar_pipeline_commit(stage.pipeline));
    pthread_mutex_lock(&gate.lock);
    gate.open = false;
    pthread_mutex_unlock(&gate.lock);
    assert_done(put(&stage, 2 * PAGE, PAGE, 1));
    assert_true(gate_wait(&gate, 1));
    assert_int_equal(support_child(commit_in_child, &stage), 0);
    gate_open(&gate);
    assert_done(cellar_pipeline_commit(stage.pipeline));
    expect_device(&stage, 0, 3 * PAGE, 1);
    stage_close(&stage);
    gate_end(&gate);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_pending_memory), /* first: nothing that was freed before is used again */
        cmocka_unit_test(test_kept_tail_stays),          cmocka_unit_test(test_commit_waits_for_loads),
        cmocka_unit_test(test_snapshot_within_commit),   cmocka_unit_test(test_old_version_of_a_handle),
        cmocka_unit_test(test_many_kept_pages),          cmocka_unit_test(test_large_write_keeps_the_bound),
        cmocka_unit_test(test_write_start_out_of_range), cmocka_unit_test(test_debug_write_frames),
        cmocka_unit_test(test_fork_after_eager_writes),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
