/* What the options of a pipeline mean in pages: how much an eager write takes, and when frames are shared. */
#include "queue_test.h"
#include "versions_test.h"

#include "page/pipeline.h"
#include "page/pool.h"
#include <limits.h>

/* The pages of the writes that are made of so many complete ones, none of which any version has; commit sends less than
 * a whole write by itself. */
static void check_writes(size_t page_bytes, size_t eager_bytes, size_t page_count, size_t expected_pages)
{
    struct cellar_pipeline_options options = {.cache = {.page_bytes = page_bytes, .io = CELLAR_IO_THREADS},
                                              .eager_writes = 1,
                                              .eager_bytes = eager_bytes,
                                              .committed_bytes = 1};
    struct stage stage = {0};
    size_t writes = (page_count + expected_pages - 1) / expected_pages;

    stage_open(&stage, (page_count + 1) * page_bytes, &options);
    assert_done(put(&stage, page_bytes, (expected_pages - 1) * page_bytes, 1));
    assert_int_equal(cellar_pipeline_pending_bytes(stage.pipeline), (expected_pages - 1) * page_bytes);
    assert_done(put_commit(&stage, expected_pages * page_bytes, (page_count + 1 - expected_pages) * page_bytes, 1));
    assert_int_equal(count_writes(&stage), writes);
    assert_int_equal(cellar_device_counters(stage.device).bytes_written, page_count * page_bytes);
    stage_close(&stage);
}

static void test_bytes_of_an_eager_write(void **state)
{
    (void)state;
    check_writes(32768, 0, 8, 8); /* 256 KiB */
    check_writes(32768, 0, 20, 8);
    check_writes(32768, 65536, 8, 2);
    check_writes(32768, 98303, 8, 2);
    check_writes(32768, 98304, 9, 3);
    check_writes(32768, 1, 3, 1); /* a page at least */
    check_writes(4, 1 << 20, 2 * IOV_MAX + 1, IOV_MAX);
}

static int find_place(void *user, uint64_t version, uint64_t page_address, struct cellar_place *ret_place)
{
    (void)version;
    *ret_place = (struct cellar_place){.device = ((struct stage *)user)->device, .offset = page_address};
    return 0;
}

/* Where a snapshot may be taken by another thread, at any time, the frames are shared from the beginning. */
static void test_frames_that_are_shared(void **state)
{
    (void)state;
    for (unsigned kept = 0; kept <= 2; kept++) {
        for (int placed = 0; placed < 2; placed++) {
            struct cellar_pipeline_options options = {.cache.old_pages = kept};
            struct stage stage = {0};

            if (placed) {
                options.cache.hooks.place = options.place_new = find_place;
                options.cache.user = &stage;
            }
            stage_open(&stage, 4 * PAGE, &options);
            assert_int_equal(stage.pipeline->front.cache->pool->shared, kept > 0 || placed);
            stage_close(&stage);
        }
    }
}

/* What the first snapshot sees stays, however few pages may be kept. */
static void test_one_page_is_kept(void **state)
{
    struct cellar_pipeline_options options = {.cache.old_pages = 1};
    struct stage stage = {0};
    struct cellar_cache *snapshot;

    (void)state;
    stage_open(&stage, 4 * PAGE, &options);
    snapshot = take_snapshot(&stage);
    assert_done(put_commit(&stage, PAGE, PAGE, 1));
    assert_int_equal(old_pages(&stage), 1);
    assert_result(put_commit(&stage, 2 * PAGE, PAGE, 2), CELLAR_EOLDPAGES);
    expect(snapshot, 0, 4 * PAGE, 0);
    cellar_cache_set_limit(snapshot, PAGE + 1); /* it still needs a byte of the page */
    assert_int_equal(old_pages(&stage), 1);
    cellar_cache_set_limit(snapshot, PAGE);
    assert_int_equal(old_pages(&stage), 0);
    assert_done(cellar_pipeline_commit(stage.pipeline));
    expect(snapshot, 0, PAGE, 0);
    cellar_cache_close(snapshot);
    stage_close(&stage);
}

struct cut {
    struct stage *stage;
    bool loaded; /* what is left of the page */
};

/* Others make it as long as it was, once the short page has been loaded. */
static void grow_again(void *user, enum fault_call call, uint64_t offset, uint64_t length_bytes)
{
    struct cut *cut = user;

    (void)offset;
    if (cut->loaded)
        assert_done(cellar_device_grow(cut->stage->fault.inner, PAGE, PAGE));
    cut->loaded = cut->loaded || (call == FAULT_READ && length_bytes == PAGE / 4);
}

/* A page of which the device has less than is to be overwritten can't be kept. */
static void test_a_page_that_is_cut_is_not_kept(void **state)
{
    struct cellar_pipeline_options options = {.cache.old_pages = 1};
    struct stage stage = {0};
    struct cut cut = {.stage = &stage};
    struct cellar_cache *snapshot;

    (void)state;
    stage_open(&stage, PAGE, &options);
    snapshot = take_snapshot(&stage);
    assert_done(put(&stage, 0, PAGE / 2, 1));
    stage.fault.before = grow_again;
    stage.fault.before_user = &cut;
    assert_done(cellar_device_trim(stage.fault.inner, PAGE / 4));
    assert_result(cellar_pipeline_commit(stage.pipeline), CELLAR_EBOUNDS);
    assert_true(cut.loaded);
    assert_int_equal(count_writes(&stage), 0);
    cellar_cache_close(snapshot);
    stage_close(&stage);
}

/* A commit of nothing makes no version, also where no version has anything yet. */
static void test_commits_of_nothing(void **state)
{
    struct cellar_pipeline_options options = {.cache.io = CELLAR_IO_THREADS, .eager_writes = 1, .eager_bytes = PAGE};
    struct stage stage = {0};

    (void)state;
    stage_open(&stage, 4 * PAGE, &options);
    cellar_pipeline_set_committed(stage.pipeline, 0);
    for (int round = 0; round < 2; round++) {
        assert_done(cellar_pipeline_commit(stage.pipeline));
        assert_done(cellar_pipeline_commit(stage.pipeline));
        assert_int_equal(cellar_pipeline_version(stage.pipeline), 0);
        cellar_pipeline_discard(stage.pipeline);
    }
    assert_done(put(&stage, 0, PAGE, 1)); /* eagerly */
    cellar_pipeline_discard(stage.pipeline);
    assert_done(cellar_pipeline_commit(stage.pipeline));
    assert_int_equal(cellar_pipeline_version(stage.pipeline), 0);
    assert_done(put_commit(&stage, 0, PAGE, 1));
    assert_int_equal(cellar_pipeline_version(stage.pipeline), 1);
    assert_int_equal(count_writes(&stage), 2);
    stage_close(&stage);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bytes_of_an_eager_write), cmocka_unit_test(test_frames_that_are_shared),
        cmocka_unit_test(test_one_page_is_kept),        cmocka_unit_test(test_a_page_that_is_cut_is_not_kept),
        cmocka_unit_test(test_commits_of_nothing),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
