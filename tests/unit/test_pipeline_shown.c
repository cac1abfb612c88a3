/* Pages that a commit has written: those that were cached are so afterwards, as they are now. */
#include "versions_test.h"

enum { PAGES = 8, SIZE = PAGES * PAGE };

static bool is_cached(struct stage *stage, uint64_t page)
{
    return cellar_cache_is_cached(cellar_pipeline_cache(stage->pipeline), page * PAGE);
}

static void open_copies(struct stage *stage, unsigned kept_max)
{
    struct cellar_pipeline_options options = {.cache = {.copy = true, .page_count = 16, .old_pages = kept_max}};

    if (support_cache_debug())
        support_skip("the debug mode of the cache gives pages up at once");
    stage_open(stage, SIZE, &options);
}

/* Known before: nothing needs to be read again, not even what lies between the bytes that go out. */
static void test_shown_at_once(void **state)
{
    struct stage stage = {0};
    uint64_t reads;

    (void)state;
    open_copies(&stage, 0);
    expect_seen(&stage, 0, 3 * PAGE, 0);
    reads = count_reads(&stage);
    assert_int_equal(reads, 3);
    assert_done(put(&stage, 10, PAGE - 10, 1)); /* page 0 lacks ten bytes of one write with 1, 2 and 3 */
    assert_done(put(&stage, PAGE, 3 * PAGE, 2));
    assert_done(cellar_pipeline_commit(stage.pipeline));
    assert_int_equal(count_writes(&stage), 1);
    assert_true(is_cached(&stage, 0));
    assert_true(is_cached(&stage, 1));
    assert_true(is_cached(&stage, 2));
    assert_false(is_cached(&stage, 3)); /* nobody has asked for it */
    expect_seen(&stage, 0, 10, 0);
    expect_seen(&stage, 10, PAGE - 10, 1);
    expect_seen(&stage, PAGE, 2 * PAGE, 2);
    assert_int_equal(count_reads(&stage), reads);
    expect_seen(&stage, 3 * PAGE, PAGE, 2);
    assert_int_equal(count_reads(&stage), reads + 1);
    expect_device(&stage, 0, 10, 0);
    expect_device(&stage, 10, PAGE - 10, 1);
    expect_device(&stage, PAGE, 3 * PAGE, 2);
    stage_close(&stage);
}

/* A write that failed may have done anything. */
static void test_not_shown_after_a_failure(void **state)
{
    struct stage stage = {0};

    (void)state;
    open_copies(&stage, 0);
    expect_seen(&stage, 0, PAGE, 0);
    fault_fail(&stage.fault, FAULT_WRITE, 1, 1, -EIO);
    assert_result(put_commit(&stage, 0, PAGE, 1), -EIO);
    assert_false(is_cached(&stage, 0));
    expect(cellar_pipeline_cache(stage.pipeline), 0, PAGE, 0);
    assert_done(cellar_pipeline_commit(stage.pipeline));
    assert_true(is_cached(&stage, 0));
    expect(cellar_pipeline_cache(stage.pipeline), 0, PAGE, 1);
    stage_close(&stage);
}

/* A page that isn't cached can't be put together: nothing has been written, and no cached page shows what was to be. */
static void test_not_shown_before_a_failure(void **state)
{
    struct stage stage = {0};

    (void)state;
    open_copies(&stage, 0);
    expect_seen(&stage, 0, PAGE, 0);
    assert_done(put(&stage, 0, PAGE, 1));
    assert_done(put(&stage, PAGE, 1, 1));
    assert_done(put(&stage, PAGE + 9, 1, 1));
    fault_fail(&stage.fault, FAULT_READ, 1, 1, -EIO);
    assert_result(cellar_pipeline_commit(stage.pipeline), -EIO);
    assert_int_equal(count_writes(&stage), 0);
    expect(cellar_pipeline_cache(stage.pipeline), 0, PAGE, 0);
    expect_seen(&stage, 0, PAGE, 1);
    assert_done(cellar_pipeline_commit(stage.pipeline));
    expect(cellar_pipeline_cache(stage.pipeline), 0, PAGE, 1);
    expect_device(&stage, 0, PAGE + 1, 1);
    expect_device(&stage, PAGE + 1, 8, 0);
    stage_close(&stage);
}

/* Of a page that goes out in part, the cache shows that part alone. */
static void test_shown_in_part(void **state)
{
    struct stage stage = {0};
    struct cellar_cache *cache;

    (void)state;
    open_copies(&stage, 0);
    cache = cellar_pipeline_cache(stage.pipeline);
    expect_seen(&stage, 0, PAGE, 0);
    assert_done(put(&stage, 0, 4, 1));
    assert_done(put(&stage, 8, 8, 1));
    assert_done(put(&stage, 24, 3, 1));
    assert_done(put(&stage, 40, 8, 1));
    assert_done(cellar_pipeline_persist(stage.pipeline, 2, 20));
    expect(cache, 0, 4, 1);
    expect(cache, 4, 4, 0);
    expect(cache, 8, 8, 1);
    expect(cache, 16, PAGE - 16, 0);
    expect_device(&stage, 16, PAGE - 16, 0);
    expect_seen(&stage, 24, 3, 1);
    cellar_pipeline_discard(stage.pipeline);
    expect_seen(&stage, 16, PAGE - 16, 0);
    stage_close(&stage);
}

/* What lies between the bytes that go out isn't read where threads share the cache, either. */
static void test_between_from_a_shared_cache(void **state)
{
    struct stage stage = {0};
    uint64_t reads;

    (void)state;
    open_copies(&stage, 4);
    expect_seen(&stage, 0, PAGE, 0);
    reads = count_reads(&stage);
    assert_done(put(&stage, 5, 1, 1));
    assert_done(put_commit(&stage, PAGE - 5, 1, 1));
    assert_int_equal(count_reads(&stage), reads);
    expect_device(&stage, 0, 5, 0);
    expect_device(&stage, 5, 1, 1);
    expect_device(&stage, 6, PAGE - 11, 0);
    expect_device(&stage, PAGE - 5, 1, 1);
    stage_close(&stage);
}

/* The last page was cached when it was shorter than what goes out now, or what lies between. */
static void test_shown_after_growth(void **state)
{
    const uint64_t old_size = SIZE - PAGE + 4;

    (void)state;
    for (unsigned kept_max = 0; kept_max <= 4; kept_max += 4) {
        struct cellar_pipeline_options options = {.cache = {.copy = true, .page_count = 16, .old_pages = kept_max}};
        struct iovec part = {.iov_base = "\7\7\7\7", .iov_len = 4};
        struct stage stage = {0};

        stage_open(&stage, old_size, &options);
        expect_seen(&stage, SIZE - PAGE, 4, 0);
        assert_done(cellar_device_grow(stage.fault.inner, old_size, SIZE));
        assert_done(cellar_device_write(stage.fault.inner, &part, 1, SIZE - 8));
        assert_done(put(&stage, SIZE - 10, 1, 1));
        assert_done(put_commit(&stage, SIZE - 2, 1, 1));
        expect_device(&stage, SIZE - 10, 1, 1);
        expect_device(&stage, SIZE - 8, 4, 7);
        expect_device(&stage, SIZE - 2, 1, 1);
        expect_seen(&stage, SIZE - 8, 4, 7);
        stage_close(&stage);
    }
}

/* Beside what is kept for a snapshot; each sees its own, without the device. */
static void test_shown_beside_what_is_kept(void **state)
{
    struct stage stage = {0};
    struct cellar_cache *first, *second;
    uint64_t reads;

    (void)state;
    open_copies(&stage, 4);
    expect_seen(&stage, 0, PAGE, 0);
    first = take_snapshot(&stage);
    reads = count_reads(&stage);
    assert_done(put_commit(&stage, 0, PAGE, 1));
    second = take_snapshot(&stage);
    assert_done(put_commit(&stage, 0, PAGE, 2));
    expect(first, 0, PAGE, 0);
    expect(second, 0, PAGE, 1);
    expect_seen(&stage, 0, PAGE, 2);
    expect(first, 0, PAGE, 0);
    assert_int_equal(count_reads(&stage), reads);
    assert_int_equal(old_pages(&stage), 2);
    cellar_cache_close(first);
    cellar_cache_close(second);
    stage_close(&stage);
}

/* Where every page of the cache is fixed there is no room to show it, and the commit is none the worse. */
static void test_no_room_to_show(void **state)
{
    struct cellar_pipeline_options options = {.cache = {.copy = true, .page_count = 2}};
    struct cellar_fixed fixed[2];
    struct stage stage = {0};
    struct cellar_cache *cache;

    (void)state;
    if (support_cache_debug())
        support_skip("the debug mode of the cache has four pages");
    stage_open(&stage, SIZE, &options);
    cache = cellar_pipeline_cache(stage.pipeline);
    for (uint64_t page = 0; page < 2; page++)
        assert_done(cellar_cache_fix(cache, page * PAGE, 1, &fixed[page]));
    assert_done(put_commit(&stage, 0, PAGE, 1)); /* the fix keeps what it shows, and the room of it */
    assert_bytes(fixed[0].slice.bytes, PAGE, 0);
    assert_false(is_cached(&stage, 0));
    assert_true(is_cached(&stage, 1));
    for (uint64_t page = 0; page < 2; page++)
        cellar_cache_unfix(cache, &fixed[page]);
    expect_seen(&stage, 0, PAGE, 1);
    stage_close(&stage);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_shown_at_once),
        cmocka_unit_test(test_not_shown_after_a_failure),
        cmocka_unit_test(test_not_shown_before_a_failure),
        cmocka_unit_test(test_shown_in_part),
        cmocka_unit_test(test_shown_after_growth),
        cmocka_unit_test(test_between_from_a_shared_cache),
        cmocka_unit_test(test_shown_beside_what_is_kept),
        cmocka_unit_test(test_no_room_to_show),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
