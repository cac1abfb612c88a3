/* Eager writes and what is cached of their pages, and how the requests that carry them are used again. */
#include "queue_test.h"
#include "versions_test.h"

#include <sched.h>

enum { PAGES = 64, SIZE = PAGES * PAGE };

/* Writes to this page wait at the gate. */
struct eager {
    struct stage stage;
    struct gate gate;
    uint64_t held_page;
};

static void hold_one_page(void *user, enum fault_call call, uint64_t offset, uint64_t length_bytes)
{
    struct eager *eager = user;

    if (call == FAULT_WRITE && offset == eager->held_page * PAGE)
        gate_pass(&eager->gate, call, offset, length_bytes);
}

/* Pages are copies. One at a time goes out, two times at once. */
static void eager_open(struct eager *eager, uint64_t held_page)
{
    struct cellar_pipeline_options options = {.cache = {.page_count = 64, .io = CELLAR_IO_THREADS},
                                              .eager_writes = 2,
                                              .eager_bytes = PAGE,
                                              .committed_bytes = PAGE};

    memset(eager, 0, sizeof *eager);
    eager->held_page = held_page;
    gate_make(&eager->gate, false);
    eager->stage.fault.before = hold_one_page;
    eager->stage.fault.before_user = eager;
    eager->stage.fault.without = FAULT_BIT(FAULT_LOAD) | FAULT_BIT(FAULT_WINDOW);
    stage_open(&eager->stage, SIZE, &options);
}

static void eager_close(struct eager *eager)
{
    gate_open(&eager->gate);
    stage_close(&eager->stage);
    gate_end(&eager->gate);
}

/* Reads until no more than this is pending. */
static void await_pending(struct stage *stage, uint64_t most)
{
    unsigned char byte;

    while (cellar_pipeline_pending_bytes(stage->pipeline) > most) {
        assert_done(cellar_pipeline_read(stage->pipeline, 0, &byte, 1));
        sched_yield();
    }
}

/* What was cached before is not what is read afterwards; the pages beside stay cached. */
static void test_pages_cached_before(void **state)
{
    struct eager eager;
    struct stage *stage = &eager.stage;
    struct cellar_cache *cache;
    uint64_t reads;

    (void)state;
    eager_open(&eager, UINT64_MAX);
    cache = cellar_pipeline_cache(stage->pipeline);
    expect_seen(stage, 7 * PAGE, 6 * PAGE, 0);
    reads = count_reads(stage);
    assert_done(put_commit(stage, 8 * PAGE, 4 * PAGE, 5));
    assert_int_equal(count_writes(stage), 4); /* each by itself, eagerly */
    for (uint64_t page = 8; page < 12; page++)
        assert_false(cellar_cache_is_cached(cache, page * PAGE));
    expect_seen(stage, 8 * PAGE, 4 * PAGE, 5);
    expect_device(stage, 8 * PAGE, 4 * PAGE, 5);
    if (!support_cache_debug()) {
        assert_true(cellar_cache_is_cached(cache, 7 * PAGE));
        assert_true(cellar_cache_is_cached(cache, 12 * PAGE));
        assert_int_equal(count_reads(stage), reads + 4);
    }
    eager_close(&eager);
}

/* A request that is done is used again, the one that is still on its way is not. */
static void test_request_that_is_done(void **state)
{
    struct eager eager;
    struct stage *stage = &eager.stage;

    (void)state;
    for (uint64_t held = 1; held <= 2; held++) {
        eager_open(&eager, held);
        for (uint64_t page = 1; page <= 2; page++)
            assert_done(put(stage, page * PAGE, PAGE, (int)page));
        assert_true(gate_wait(&eager.gate, 1));
        await_pending(stage, PAGE);
        for (uint64_t page = 3; page <= 5; page++)
            assert_done(put(stage, page * PAGE, PAGE, (int)page));
        gate_open(&eager.gate);
        assert_done(cellar_pipeline_commit(stage->pipeline));
        assert_int_equal(cellar_pipeline_pending_bytes(stage->pipeline), 0);
        for (uint64_t page = 1; page <= 5; page++)
            expect_device(stage, page * PAGE, PAGE, (int)page);
        assert_int_equal(count_writes(stage), 5);
        eager_close(&eager);
    }
}

/* A get that finds its byte at hand gives the error of a write all the same, also when nothing is pending any more. */
static void test_error_comes_before_what_is_at_hand(void **state)
{
    struct eager eager;
    struct stage *stage = &eager.stage;
    uint8_t byte;
    int error = 0;

    (void)state;
    eager_open(&eager, UINT64_MAX);
    assert_done(cellar_pipeline_get_u8(stage->pipeline, 0, &byte));
    fault_fail(&stage->fault, FAULT_WRITE, 1, 1, -ENOSPC);
    assert_done(put(stage, PAGE, PAGE, 1));
    while (error == 0) /* until the thread has put it down */
        error = cellar_pipeline_read(stage->pipeline, 0, &byte, 1);
    assert_int_equal(error, -ENOSPC);
    cellar_pipeline_discard(stage->pipeline);
    assert_int_equal(cellar_pipeline_pending_bytes(stage->pipeline), 0);
    assert_result(cellar_pipeline_get_u8(stage->pipeline, 0, &byte), -ENOSPC);
    eager_close(&eager);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_pages_cached_before),
        cmocka_unit_test(test_request_that_is_done),
        cmocka_unit_test(test_error_comes_before_what_is_at_hand),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
