/* Eager writes: what goes out before commit and what doesn't, how much at a time, who waits, and what an error does. */
#include "queue_test.h"
#include "versions_test.h"

#include <sched.h>

enum { PAGES = 64, SIZE = PAGES * PAGE };

struct eager {
    struct stage stage;
    struct gate gate;
};

static void pass_writes(void *user, enum fault_call call, uint64_t offset, uint64_t length_bytes)
{
    if (call == FAULT_WRITE)
        gate_pass(user, call, offset, length_bytes);
}

/* Two pages go out together, two times at a time; the gate is open or not. */
static void eager_open(struct eager *eager, bool open, struct cellar_pipeline_options options)
{
    memset(eager, 0, sizeof *eager);
    gate_make(&eager->gate, open);
    eager->stage.fault.before = pass_writes;
    eager->stage.fault.before_user = &eager->gate;
    eager->stage.fault.without = FAULT_BIT(FAULT_LOAD) | FAULT_BIT(FAULT_WINDOW);
    if (options.eager_writes == 0)
        options.eager_writes = 2;
    if (options.eager_bytes == 0)
        options.eager_bytes = 2 * PAGE;
    if (options.committed_bytes == 0)
        options.committed_bytes = PAGE;
    options.cache.io = CELLAR_IO_THREADS;
    stage_open(&eager->stage, SIZE, &options);
}

static void eager_close(struct eager *eager)
{
    gate_open(&eager->gate);
    stage_close(&eager->stage);
    gate_end(&eager->gate);
}

static unsigned arrived(struct gate *gate)
{
    unsigned count;

    pthread_mutex_lock(&gate->lock);
    count = gate->inside + gate->passed;
    pthread_mutex_unlock(&gate->lock);
    return count;
}

/* Waits until so many writes have passed in all: one that has passed has not returned yet. */
static void wait_passed(struct gate *gate, unsigned passed)
{
    bool done = false;

    while (!done) {
        pthread_mutex_lock(&gate->lock);
        done = gate->passed >= passed;
        pthread_mutex_unlock(&gate->lock);
        sched_yield();
    }
}

static void test_eager_goes_out_before_commit(void **state)
{
    struct eager eager;
    struct stage *stage = &eager.stage;

    (void)state;
    eager_open(&eager, false, (struct cellar_pipeline_options){0});
    assert_done(put(stage, PAGE, PAGE, 1));
    assert_int_equal(arrived(&eager.gate), 0);
    assert_done(put(stage, 2 * PAGE, PAGE, 1));
    assert_true(gate_wait(&eager.gate, 1));
    assert_int_equal(eager.gate.offsets[0], PAGE);
    expect_seen(stage, PAGE, 2 * PAGE, 1); /* on its way */
    expect_device(stage, PAGE, 2 * PAGE, 0);
    assert_int_equal(cellar_pipeline_version(stage->pipeline), 0);
    gate_open(&eager.gate);
    assert_done(cellar_pipeline_commit(stage->pipeline));
    assert_int_equal(cellar_pipeline_version(stage->pipeline), 1);
    assert_int_equal(cellar_pipeline_pending_bytes(stage->pipeline), 0);
    expect_device(stage, PAGE, 2 * PAGE, 1);
    expect_seen(stage, PAGE, 2 * PAGE, 1);
    assert_int_equal(count_writes(stage), 1); /* once */
    eager_close(&eager);
}

static void test_eager_so_many_at_a_time(void **state)
{
    struct eager eager;
    struct stage *stage = &eager.stage;

    (void)state;
    eager_open(&eager, false, (struct cellar_pipeline_options){.eager_writes = 3});
    for (int page = 1; page < PAGES; page++)
        assert_done(put(stage, (uint64_t)page * PAGE, PAGE, page));
    assert_true(gate_wait(&eager.gate, 3));
    assert_int_equal(arrived(&eager.gate), 3);
    for (int page = 1; page < PAGES; page++)
        expect_seen(stage, (uint64_t)page * PAGE, PAGE, page);
    gate_open(&eager.gate);
    wait_passed(&eager.gate, 3);
    assert_done(cellar_pipeline_commit(stage->pipeline));
    assert_int_equal(eager.gate.inside_most, 3);
    for (int page = 1; page < PAGES; page++)
        expect_device(stage, (uint64_t)page * PAGE, PAGE, page);
    eager_close(&eager);
}

/* Neither what versions have, nor what isn't complete, nor what is fixed. */
static void test_eager_leaves_the_rest(void **state)
{
    struct eager eager;
    struct stage *stage = &eager.stage;
    struct cellar_write_frame frame;

    (void)state;
    eager_open(&eager, true, (struct cellar_pipeline_options){.committed_bytes = 4 * PAGE + 1});
    assert_done(put(stage, 0, 5 * PAGE, 1)); /* the last one of them has a byte that versions have */
    assert_done(put(stage, 5 * PAGE, PAGE, 1));
    assert_done(put(stage, 6 * PAGE, PAGE - 1, 1)); /* a byte is missing */
    assert_done(put(stage, 7 * PAGE, PAGE, 1));
    assert_done(cellar_pipeline_fix_write(stage->pipeline, 8 * PAGE, CELLAR_WRITE_NEW, &frame));
    memset(frame.bytes, 1, PAGE);
    assert_done(put(stage, 9 * PAGE, PAGE, 1));
    assert_done(put(stage, 8 * PAGE, 2 * PAGE, 1));
    assert_int_equal(arrived(&eager.gate), 0);
    cellar_pipeline_unfix_write(stage->pipeline, &frame);
    assert_int_equal(arrived(&eager.gate), 0); /* 8 alone: 9 was looked at before it */
    assert_done(put(stage, 9 * PAGE, PAGE, 1));
    wait_passed(&eager.gate, 1);
    assert_int_equal(eager.gate.offsets[0], 8 * PAGE);
    assert_done(put(stage, 7 * PAGE - 1, 1, 1));
    assert_int_equal(arrived(&eager.gate), 1);
    assert_done(put(stage, 5 * PAGE, 3 * PAGE, 1));
    assert_done(cellar_pipeline_commit(stage->pipeline));
    expect_device(stage, 0, 10 * PAGE, 1);
    eager_close(&eager);
}

/* Nor what is fixed after it was complete, however long the stretch behind it becomes. */
static void test_eager_leaves_what_is_fixed_again(void **state)
{
    struct eager eager;
    struct stage *stage = &eager.stage;
    struct cellar_write_frame frame;

    (void)state;
    eager_open(&eager, true, (struct cellar_pipeline_options){0});
    assert_done(put(stage, PAGE, PAGE, 1));
    assert_done(cellar_pipeline_fix_write(stage->pipeline, PAGE, CELLAR_WRITE_AS_IS, &frame));
    assert_done(put(stage, 2 * PAGE, PAGE, 1));
    assert_int_equal(arrived(&eager.gate), 0);
    assert_done(put(stage, 3 * PAGE, PAGE, 1));
    wait_passed(&eager.gate, 1);
    assert_int_equal(eager.gate.offsets[0], 2 * PAGE);
    memset(frame.bytes, 2, PAGE);
    cellar_pipeline_unfix_write(stage->pipeline, &frame);
    assert_done(cellar_pipeline_commit(stage->pipeline));
    expect_device(stage, PAGE, PAGE, 2);
    expect_device(stage, 2 * PAGE, 2 * PAGE, 1);
    eager_close(&eager);
}

/* The bytes of a page on its way are not touched: who wants to change it waits. */
static void *release_later(void *user)
{
    struct gate *gate = user;

    if (!gate_wait(gate, 1))
        abort();
    for (int i = 0; i < 1000; i++)
        sched_yield();
    gate_open(gate);
    return NULL;
}

static void test_eager_and_a_write_to_the_same_page(void **state)
{
    for (int fixes = 0; fixes < 2; fixes++) {
        struct eager eager;
        struct stage *stage = &eager.stage;
        struct cellar_write_frame frame;
        pthread_t thread;

        (void)state;
        eager_open(&eager, false, (struct cellar_pipeline_options){0});
        assert_done(put(stage, PAGE, 2 * PAGE, 1));
        assert_int_equal(pthread_create(&thread, NULL, release_later, &eager.gate), 0);
        if (fixes) {
            assert_done(cellar_pipeline_fix_write(stage->pipeline, 2 * PAGE, CELLAR_WRITE_AS_IS, &frame));
            assert_bytes(frame.bytes, PAGE, 1);
            memset(frame.bytes, 2, 5);
            cellar_pipeline_unfix_write(stage->pipeline, &frame);
        } else {
            assert_done(put(stage, 2 * PAGE, 5, 2));
        }
        expect_device(stage, PAGE, 2 * PAGE, 1); /* it was done by then, with what it was started with */
        expect_seen(stage, 2 * PAGE, 5, 2);
        expect_seen(stage, 2 * PAGE + 5, PAGE - 5, 1);
        assert_int_equal(pthread_join(thread, NULL), 0);
        assert_done(cellar_pipeline_commit(stage->pipeline));
        expect_device(stage, PAGE, PAGE, 1);
        expect_device(stage, 2 * PAGE, 5, 2);
        expect_device(stage, 2 * PAGE + 5, PAGE - 5, 1);
        eager_close(&eager);
    }
}

/* A commit waits for all, and writes nothing before. */
static void test_eager_commit_waits(void **state)
{
    struct eager eager;
    struct stage *stage = &eager.stage;
    pthread_t thread;

    (void)state;
    eager_open(&eager, false, (struct cellar_pipeline_options){0});
    assert_done(put(stage, 0, 1, 7));
    assert_done(put(stage, PAGE, 5 * PAGE, 1));
    assert_true(gate_wait(&eager.gate, 2));
    assert_int_equal(pthread_create(&thread, NULL, release_later, &eager.gate), 0);
    assert_done(cellar_pipeline_commit(stage->pipeline));
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_int_equal(eager.gate.passed, 4); /* two eager ones, the first page, the last one */
    assert_int_equal(eager.gate.offsets[2], 0);
    assert_int_equal(eager.gate.offsets[3], 5 * PAGE);
    expect_device(stage, PAGE, 5 * PAGE, 1);
    expect_device(stage, 0, 1, 7);
    eager_close(&eager);
}

/* The error of the second write in the background ends all but close. */
static void test_eager_errors(void **state)
{
    struct eager eager;
    struct stage *stage = &eager.stage;
    struct cellar_write_frame frame;
    unsigned char byte;

    (void)state;
    eager_open(&eager, true, (struct cellar_pipeline_options){0});
    fault_fail(&stage->fault, FAULT_WRITE, 1, 1, -ENOSPC);
    assert_done(put(stage, PAGE, 2 * PAGE, 1));
    wait_passed(&eager.gate, 1);
    assert_result(cellar_pipeline_commit(stage->pipeline), -ENOSPC);
    for (int round = 0; round < 2; round++) {
        assert_result(put(stage, 0, 1, 1), -ENOSPC);
        assert_result(put(stage, 9 * PAGE, 4 * PAGE, 1), -ENOSPC);
        assert_result(cellar_pipeline_write(stage->pipeline, 0, "", 0), -ENOSPC);
        assert_result(cellar_pipeline_read(stage->pipeline, 0, &byte, 1), -ENOSPC);
        assert_result(cellar_pipeline_get_u8(stage->pipeline, 0, &byte), -ENOSPC);
        assert_result(cellar_pipeline_fix_write(stage->pipeline, 0, CELLAR_WRITE_NEW, &frame), -ENOSPC);
        assert_result(cellar_pipeline_commit(stage->pipeline), -ENOSPC);
        assert_result(cellar_pipeline_persist(stage->pipeline, 0, 1), -ENOSPC);
        assert_int_equal(cellar_pipeline_version(stage->pipeline), 0);
        cellar_pipeline_discard(stage->pipeline);
    }
    assert_int_equal(count_writes(stage), 1);
    eager_close(&eager);
}

/* It is the next call's, whatever that is. */
static void test_eager_errors_reach_all_calls(void **state)
{
    for (int writes = 0; writes < 2; writes++) {
        struct eager eager;
        struct stage *stage = &eager.stage;
        unsigned char byte;
        int error = 0;

        (void)state;
        eager_open(&eager, true, (struct cellar_pipeline_options){0});
        fault_fail(&stage->fault, FAULT_WRITE, 1, 1, -EIO);
        assert_done(put(stage, PAGE, 2 * PAGE, 1));
        while (error == 0) /* until the thread has put it down */
            error = writes ? put(stage, 20 * PAGE, 1, 1) : cellar_pipeline_read(stage->pipeline, 10 * PAGE, &byte, 1);
        assert_int_equal(error, -EIO);
        assert_int_equal(cellar_pipeline_persist(stage->pipeline, UINT64_MAX, 1), -EIO); /* of nothing, too */
        eager_close(&eager);
    }
}

static void test_eager_close_waits(void **state)
{
    struct eager eager;
    pthread_t thread;

    (void)state;
    eager_open(&eager, false, (struct cellar_pipeline_options){0});
    assert_done(put(&eager.stage, PAGE, 8 * PAGE, 1));
    assert_true(gate_wait(&eager.gate, 2));
    assert_int_equal(pthread_create(&thread, NULL, release_later, &eager.gate), 0);
    stage_close(&eager.stage);
    assert_int_equal(pthread_join(thread, NULL), 0);
    gate_end(&eager.gate);
}

/* Writers wait for room, which there is as soon as something is done. */
static void test_eager_pending_is_bounded(void **state)
{
    struct eager eager;
    struct stage *stage = &eager.stage;

    (void)state;
    eager_open(&eager, true, (struct cellar_pipeline_options){.pending_bytes_max = 6 * PAGE});
    for (int page = 1; page < PAGES; page++) {
        assert_done(put(stage, (uint64_t)page * PAGE, PAGE, page));
        assert_true(cellar_pipeline_pending_bytes(stage->pipeline) <= 6 * PAGE);
    }
    assert_done(cellar_pipeline_commit(stage->pipeline));
    for (int page = 1; page < PAGES; page++)
        expect_device(stage, (uint64_t)page * PAGE, PAGE, page);
    eager_close(&eager);
    /* Also where that is less than what goes out together, and for one write of much. */
    eager_open(&eager, true, (struct cellar_pipeline_options){.pending_bytes_max = PAGE, .eager_bytes = 8 * PAGE});
    for (int page = 1; page < 10; page++) {
        assert_done(put(stage, (uint64_t)page * PAGE, PAGE, page));
        assert_true(cellar_pipeline_pending_bytes(stage->pipeline) <= PAGE);
    }
    assert_done(put(stage, 10 * PAGE, 30 * PAGE, 1));
    assert_true(cellar_pipeline_pending_bytes(stage->pipeline) <= PAGE);
    eager_close(&eager);
    /* Beside what must wait for commit, which counts. */
    eager_open(&eager, true,
               (struct cellar_pipeline_options){
                   .pending_bytes_max = 6 * PAGE, .eager_bytes = 8 * PAGE, .committed_bytes = 2 * PAGE});
    assert_done(put(stage, 0, 2 * PAGE, 1));
    for (int page = 2; page < PAGES; page++) {
        assert_done(put(stage, (uint64_t)page * PAGE, PAGE, page));
        assert_true(cellar_pipeline_pending_bytes(stage->pipeline) <= 6 * PAGE);
    }
    eager_close(&eager);
    /* What can't go is not waited for. */
    eager_open(&eager, true, (struct cellar_pipeline_options){.pending_bytes_max = PAGE, .eager_bytes = 8 * PAGE});
    assert_done(put(stage, 0, PAGE, 1));
    assert_done(put(stage, 50 * PAGE, 2 * PAGE - 1, 1));
    assert_int_equal(cellar_pipeline_pending_bytes(stage->pipeline), 3 * PAGE - 1);
    eager_close(&eager);
}

/* What was sent and then discarded is no part of the next version. */
static void test_eager_discard(void **state)
{
    struct eager eager;
    struct stage *stage = &eager.stage;
    struct cellar_cache *snapshot;
    unsigned char byte;

    (void)state;
    eager_open(&eager, true, (struct cellar_pipeline_options){.cache.old_pages = 4});
    assert_done(put(stage, PAGE, 4 * PAGE, 1));
    cellar_pipeline_discard(stage->pipeline);
    assert_int_equal(cellar_pipeline_pending_bytes(stage->pipeline), 0);
    assert_done(cellar_pipeline_commit(stage->pipeline));
    assert_int_equal(cellar_pipeline_version(stage->pipeline), 0);
    snapshot = take_snapshot(stage);
    assert_result(cellar_cache_read(snapshot, PAGE, &byte, 1), CELLAR_EBOUNDS);
    cellar_cache_close(snapshot);
    assert_done(put_commit(stage, PAGE, 10, 2));
    snapshot = take_snapshot(stage);
    expect(snapshot, PAGE, 10, 2);
    assert_result(cellar_cache_read(snapshot, PAGE + 10, &byte, 1), CELLAR_EBOUNDS);
    cellar_cache_close(snapshot);
    eager_close(&eager);
}

/* What is below the end of the versions from now on waits, also where it was about to go. */
static void test_eager_when_the_end_moves(void **state)
{
    struct eager eager;
    struct stage *stage = &eager.stage;
    struct cellar_cache *snapshot;

    (void)state;
    eager_open(&eager, true, (struct cellar_pipeline_options){.cache.old_pages = 4});
    assert_done(put(stage, PAGE, PAGE, 1));
    cellar_pipeline_set_committed(stage->pipeline, 2 * PAGE);
    snapshot = take_snapshot(stage);
    assert_done(put(stage, 2 * PAGE, 3 * PAGE, 1));
    expect(snapshot, PAGE, PAGE, 0);
    expect_device(stage, PAGE, PAGE, 0);
    assert_done(cellar_pipeline_commit(stage->pipeline));
    expect_device(stage, PAGE, 4 * PAGE, 1);
    expect(snapshot, PAGE, PAGE, 0);
    cellar_cache_close(snapshot);
    eager_close(&eager);
}

/* What went out early is seen by snapshots of the next version, and not by those before. */
static void test_eager_versions(void **state)
{
    struct eager eager;
    struct stage *stage = &eager.stage;
    struct cellar_cache *before, *between, *after;
    unsigned char byte;

    (void)state;
    eager_open(&eager, true, (struct cellar_pipeline_options){.cache.old_pages = 4});
    before = take_snapshot(stage);
    assert_done(put(stage, PAGE, 2 * PAGE, 1));
    wait_passed(&eager.gate, 1);
    between = take_snapshot(stage);
    assert_result(cellar_cache_read(between, PAGE, &byte, 1), CELLAR_EBOUNDS);
    assert_done(cellar_pipeline_commit(stage->pipeline)); /* all of it has gone already: a version all the same */
    assert_int_equal(cellar_pipeline_version(stage->pipeline), 1);
    after = take_snapshot(stage);
    expect(after, PAGE, 2 * PAGE, 1);
    assert_result(cellar_cache_read(after, 3 * PAGE, &byte, 1), CELLAR_EBOUNDS);
    assert_done(put(stage, PAGE, 4 * PAGE, 2)); /* versions have two of these now */
    wait_passed(&eager.gate, 2);
    assert_int_equal(eager.gate.offsets[arrived(&eager.gate) - 1], 3 * PAGE);
    expect(after, PAGE, 2 * PAGE, 1);
    assert_done(cellar_pipeline_commit(stage->pipeline));
    expect(after, PAGE, 2 * PAGE, 1);
    expect(before, 0, PAGE, 0);
    assert_result(cellar_cache_read(before, PAGE, &byte, 1), CELLAR_EBOUNDS);
    cellar_cache_close(before);
    cellar_cache_close(between);
    cellar_cache_close(after);
    assert_int_equal(old_pages(stage), 0);
    eager_close(&eager);
}

/* ---- much data ---- */

struct tally {
    pthread_mutex_t lock;
    uint64_t bytes;
};

static void count_bytes(void *user, enum fault_call call, uint64_t offset, uint64_t length_bytes)
{
    struct tally *tally = user;

    (void)offset;
    if (call != FAULT_WRITE)
        return;
    pthread_mutex_lock(&tally->lock);
    tally->bytes += length_bytes;
    pthread_mutex_unlock(&tally->lock);
}

/* Of 64 MiB less than a tenth is left to write when commit is called. */
static void test_eager_leaves_commit_little(void **state)
{
    const size_t total = (size_t)64 << 20, part = (size_t)64 << 10;
    struct cellar_pipeline_options options = {
        .cache = {.page_bytes = 4096, .page_count = 64}, .eager_writes = 8, .pending_bytes_max = 4 << 20};
    struct tally tally = {.lock = PTHREAD_MUTEX_INITIALIZER};
    struct stage stage = {.fault = {.before = count_bytes, .before_user = &tally}};
    uint64_t before_commit;

    (void)state;
    stage_open(&stage, total, &options);
    cellar_pipeline_set_committed(stage.pipeline, 0);
    for (size_t at = 0; at < total; at += part)
        assert_done(put(&stage, at, part, 5));
    pthread_mutex_lock(&tally.lock);
    before_commit = tally.bytes;
    pthread_mutex_unlock(&tally.lock);
    assert_true(total - before_commit < total / 10);
    assert_done(cellar_pipeline_commit(stage.pipeline));
    assert_int_equal(tally.bytes, total); /* each byte once */
    expect_device(&stage, total - part, part, 5);
    stage_close(&stage);
    pthread_mutex_destroy(&tally.lock);
}

static void test_eager_options(void **state)
{
    struct stage stage = {0};
    struct cellar_pipeline_options options = {.eager_writes = 1025};

    (void)state;
    assert_done(cellar_device_open_memory(NULL, SIZE, SIZE, &stage.device));
    assert_result(cellar_pipeline_open_with(stage.device, &options, &stage.pipeline), -EINVAL);
    options.eager_writes = 1024;
    options.eager_bytes = 1; /* a page at least */
    assert_done(cellar_pipeline_open_with(stage.device, &options, &stage.pipeline));
    cellar_pipeline_close(stage.pipeline);
    assert_done(cellar_device_close(stage.device));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_eager_goes_out_before_commit),
        cmocka_unit_test(test_eager_so_many_at_a_time),
        cmocka_unit_test(test_eager_leaves_the_rest),
        cmocka_unit_test(test_eager_leaves_what_is_fixed_again),
        cmocka_unit_test(test_eager_and_a_write_to_the_same_page),
        cmocka_unit_test(test_eager_commit_waits),
        cmocka_unit_test(test_eager_errors),
        cmocka_unit_test(test_eager_errors_reach_all_calls),
        cmocka_unit_test(test_eager_close_waits),
        cmocka_unit_test(test_eager_pending_is_bounded),
        cmocka_unit_test(test_eager_discard),
        cmocka_unit_test(test_eager_when_the_end_moves),
        cmocka_unit_test(test_eager_versions),
        cmocka_unit_test(test_eager_leaves_commit_little),
        cmocka_unit_test(test_eager_options),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
