/* Which copies in the cache a commit may put together what goes out in: those alone that nobody else looks at. */
#include "page_test.h"
#include "queue_test.h"
#include "versions_test.h"

enum { PAGES = 8, SIZE = PAGES * PAGE };

static const struct cellar_pipeline_options copies = {.cache = {.copy = true, .page_count = 16}};

/* In whichever handle, and however the fix is kept: what is fixed stays as it was. */
static void test_fixed_stays(void **state)
{
    (void)state;
    for (int shared = 0; shared < 2; shared++) {
        struct stage stage = {0};
        struct cellar_cache *cache, *other = NULL;
        struct cellar_fixed fixed;

        stage_open(&stage, SIZE, &copies);
        cache = cellar_pipeline_cache(stage.pipeline);
        if (shared)
            assert_done(cellar_cache_share(cache, &other));
        assert_done(cellar_cache_fix(shared ? other : cache, PAGE, PAGE, &fixed));
        assert_done(put(&stage, PAGE + 4, 4, 1));
        assert_done(put_commit(&stage, PAGE + 40, 4, 1));
        assert_bytes(fixed.slice.bytes, PAGE, 0);
        expect(cache, PAGE, 4, 0);
        expect(cache, PAGE + 4, 4, 1);
        expect(cache, PAGE + 40, 4, 1);
        expect_device(&stage, PAGE + 8, 32, 0);
        expect_device(&stage, PAGE + 40, 4, 1);
        cellar_cache_unfix(shared ? other : cache, &fixed);
        cellar_cache_close(other);
        stage_close(&stage);
    }
}

/* A frame that held a copy once holds what the device has lent now: what lies between comes from there. */
static void test_lent_after_a_copy(void **state)
{
    struct trial *trial = new_trial(SIZE, 5);
    struct cellar_device *device = open_trial(trial, TRIAL_LENDS);
    struct cellar_pipeline *pipeline;
    unsigned char expected[PAGE], got[PAGE];

    (void)state;
    assert_done(cellar_pipeline_open(device, PAGE, 1, &pipeline));
    trial->load_error = -ENOMEM; /* nothing to lend with */
    assert_done(cellar_pipeline_read(pipeline, 0, got, PAGE));
    trial->load_error = 0;
    cellar_cache_invalidate(cellar_pipeline_cache(pipeline), 0, PAGE);
    memset(trial->bytes, 7, PAGE);
    assert_done(cellar_pipeline_read(pipeline, 0, got, PAGE));
    memset(expected, 7, PAGE);
    assert_memory_equal(got, expected, PAGE);
    assert_done(cellar_pipeline_write(pipeline, 3, "a", 1));
    assert_done(cellar_pipeline_write(pipeline, 60, "b", 1));
    expected[3] = 'a';
    expected[60] = 'b';
    assert_done(cellar_pipeline_commit(pipeline));
    assert_memory_equal(trial->bytes, expected, PAGE);
    assert_done(cellar_pipeline_read(pipeline, 0, got, PAGE));
    assert_memory_equal(got, expected, PAGE);
    cellar_pipeline_close(pipeline);
    assert_int_equal(trial->lent, 0);
    assert_done(cellar_device_close(device));
    free(trial);
}

/* Frames of pages that were loaded one after the other: one part. One page that goes out of elsewhere: each its own,
 * and that one is shown as it is. */
static void test_parts(void **state)
{
    struct cellar_pipeline_options options = copies;
    struct trial *trial = new_trial(SIZE, 6);
    struct cellar_device *device = open_trial(trial, TRIAL_COPIES);
    struct cellar_pipeline *pipeline;
    struct cellar_fixed fixed;
    unsigned char bytes[SIZE], got[SIZE];

    (void)state;
    if (support_cache_debug())
        support_skip("the debug mode of the cache gives pages up at once");
    options.cache.page_bytes = PAGE;
    assert_done(cellar_pipeline_open_with(device, &options, &pipeline));
    assert_done(cellar_pipeline_read(pipeline, 0, got, SIZE));
    for (int round = 0; round < 3; round++) {
        fill_random(bytes, sizeof bytes, 100 + (uint64_t)round);
        if (round == 2)
            assert_done(cellar_cache_fix(cellar_pipeline_cache(pipeline), 2 * PAGE, PAGE, &fixed));
        assert_done(cellar_pipeline_write(pipeline, 0, bytes, SIZE));
        trial->writes = 0;
        assert_done(cellar_pipeline_commit(pipeline));
        assert_int_equal(trial->writes, 1);
        assert_int_equal(trial->log[0].length, SIZE);
        assert_int_equal(trial->log[0].parts, round < 2 ? 1 : PAGES);
        assert_memory_equal(trial->bytes, bytes, SIZE);
        trial->reads = 0;
        assert_done(cellar_cache_read(cellar_pipeline_cache(pipeline), 0, got, SIZE));
        assert_memory_equal(got, bytes, SIZE);
        assert_int_equal(trial->reads, 0);
    }
    cellar_cache_unfix(cellar_pipeline_cache(pipeline), &fixed);
    cellar_pipeline_close(pipeline);
    assert_done(cellar_device_close(device));
    free(trial);
}

static void hold_reads(void *user, enum fault_call call, uint64_t offset, uint64_t length_bytes)
{
    struct gate *gate = user;

    if (call == FAULT_READ && offset == 0 && length_bytes == 2 * PAGE)
        gate_pass(gate, call, offset, length_bytes);
}

static void note_done(void *user, int error)
{
    int *result = user;

    *result = error;
}

/* A load that is under way: its memory is nothing to take bytes from, nor to put any into. */
static void test_under_way(void **state)
{
    struct cellar_pipeline_options options = copies;
    struct stage stage = {0};
    struct gate gate;
    int result = 1;

    (void)state;
    options.cache.depth = 1;
    options.cache.io = CELLAR_IO_THREADS;
    gate_make(&gate, false);
    stage.fault.before = hold_reads;
    stage.fault.before_user = &gate;
    stage.fault.without = FAULT_BIT(FAULT_LOAD) | FAULT_BIT(FAULT_WINDOW);
    stage_open(&stage, SIZE, &options);
    assert_done(put_commit(&stage, 0, SIZE, 5)); /* nothing is cached */
    assert_done(cellar_cache_load_async(cellar_pipeline_cache(stage.pipeline), 0, 2 * PAGE, note_done, &result));
    assert_done(put(&stage, 10, 1, 6));
    assert_done(put_commit(&stage, PAGE + 50, 1, 6));
    expect_device(&stage, 0, 10, 5);
    expect_device(&stage, 10, 1, 6);
    expect_device(&stage, 11, PAGE + 39, 5);
    expect_device(&stage, PAGE + 50, 1, 6);
    gate_open(&gate);
    while (result > 0)
        (void)cellar_cache_poll(cellar_pipeline_cache(stage.pipeline), true);
    assert_done(result);
    expect(cellar_pipeline_cache(stage.pipeline), 0, 10, 5);
    expect(cellar_pipeline_cache(stage.pipeline), 10, 1, 6);
    expect(cellar_pipeline_cache(stage.pipeline), PAGE + 50, 1, 6);
    stage_close(&stage);
    gate_end(&gate);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_fixed_stays),
        cmocka_unit_test(test_lent_after_a_copy),
        cmocka_unit_test(test_parts),
        cmocka_unit_test(test_under_way),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
