/* Write frames of a pipeline: what they begin as, who sees what is written to them, and when they are in the way. */
#include "versions_test.h"

enum { PAGES = 8, SIZE = PAGES * PAGE };

static const struct cellar_pipeline_options versioned = {.cache.old_pages = 8};

static void fix(struct stage *stage, uint64_t address, enum cellar_write_start start, struct cellar_write_frame *frame)
{
    assert_done(cellar_pipeline_fix_write(stage->pipeline, address, start, frame));
    assert_int_equal(frame->address % PAGE, 0);
    assert_true(frame->address <= address && address - frame->address < PAGE);
}

static void test_frames_as_they_are(void **state)
{
    struct stage stage = {0};
    struct cellar_cache *snapshot;
    struct cellar_write_frame frame, again;
    uint64_t reads;

    (void)state;
    stage_open(&stage, SIZE, &versioned);
    assert_done(put_commit(&stage, 0, SIZE, 1));
    snapshot = take_snapshot(&stage);
    assert_done(put(&stage, PAGE + 10, 5, 2));
    fix(&stage, PAGE + 20, CELLAR_WRITE_AS_IS, &frame);
    assert_int_equal(frame.length, PAGE);
    assert_bytes(frame.bytes, 10, 1);
    assert_bytes((unsigned char *)frame.bytes + 10, 5, 2);
    assert_bytes((unsigned char *)frame.bytes + 15, PAGE - 15, 1);
    assert_int_equal(cellar_pipeline_pending_bytes(stage.pipeline), PAGE);
    fix(&stage, PAGE, CELLAR_WRITE_NEW, &again); /* the same bytes, which stay as they are */
    assert_ptr_equal(again.bytes, frame.bytes);
    memset(frame.bytes, 3, PAGE / 2);
    assert_done(put(&stage, PAGE + PAGE / 2, 1, 4));
    assert_int_equal(((unsigned char *)frame.bytes)[PAGE / 2], 4);
    expect_seen(&stage, PAGE, PAGE / 2, 3); /* at once */
    expect(snapshot, PAGE, PAGE, 1);
    expect(cellar_pipeline_cache(stage.pipeline), PAGE, PAGE, 1);
    assert_result(cellar_pipeline_commit(stage.pipeline), CELLAR_EPINNED);
    assert_result(cellar_pipeline_persist(stage.pipeline, 0, 1), CELLAR_EPINNED);
    cellar_pipeline_unfix_write(stage.pipeline, &frame);
    assert_result(cellar_pipeline_commit(stage.pipeline), CELLAR_EPINNED);
    cellar_pipeline_unfix_write(stage.pipeline, &again);
    cellar_pipeline_unfix_write(stage.pipeline, &again); /* zeroed */
    reads = count_reads(&stage);
    fix(&stage, PAGE, CELLAR_WRITE_AS_IS, &frame); /* all of it is pending: nothing to load */
    assert_int_equal(count_reads(&stage), reads);
    memset(frame.bytes, 5, PAGE);
    cellar_pipeline_unfix_write(stage.pipeline, &frame);
    assert_done(cellar_pipeline_commit(stage.pipeline));
    expect(snapshot, PAGE, PAGE, 1);
    expect(cellar_pipeline_cache(stage.pipeline), PAGE, PAGE, 5);
    expect_device(&stage, PAGE, PAGE, 5);
    cellar_cache_close(snapshot);
    stage_close(&stage);
}

/* A page that will be overwritten is not loaded. */
static void test_frames_anew(void **state)
{
    struct cellar_pipeline_options options = {0};
    struct stage stage = {0};
    struct cellar_write_frame frame;

    (void)state;
    stage_open(&stage, SIZE, &options);
    assert_done(put_commit(&stage, 0, SIZE, 1));
    cellar_cache_invalidate(cellar_pipeline_cache(stage.pipeline), 0, SIZE);
    fault_fail(&stage.fault, FAULT_READ, 1, 0, -EIO);
    fault_fail(&stage.fault, FAULT_LOAD, 1, 0, -EIO);
    assert_result(cellar_pipeline_fix_write(stage.pipeline, 0, CELLAR_WRITE_AS_IS, &frame), -EIO);
    assert_int_equal(cellar_pipeline_pending_bytes(stage.pipeline), 0);
    assert_done(cellar_pipeline_commit(stage.pipeline)); /* what failed fixes nothing */
    fix(&stage, 0, CELLAR_WRITE_NEW, &frame);
    assert_bytes(frame.bytes, PAGE, 0);
    memset(frame.bytes, 7, PAGE / 2);
    cellar_pipeline_unfix_write(stage.pipeline, &frame);
    assert_done(cellar_pipeline_commit(stage.pipeline));
    fault_heal(&stage.fault);
    expect_seen(&stage, 0, PAGE / 2, 7);
    expect_seen(&stage, PAGE / 2, PAGE / 2, 0);
    expect_seen(&stage, PAGE, PAGE, 1);
    stage_close(&stage);
}

/* The last page is as long as the device is, and longer when it has grown. */
static void test_frames_at_the_end(void **state)
{
    struct stage stage = {0};
    struct cellar_write_frame frame, longer;

    (void)state;
    stage_open(&stage, PAGE + 20, &versioned);
    assert_result(cellar_pipeline_fix_write(stage.pipeline, PAGE + 20, CELLAR_WRITE_NEW, &frame), CELLAR_EBOUNDS);
    assert_int_equal(cellar_pipeline_fault_address(stage.pipeline), PAGE + 20);
    assert_result(cellar_pipeline_fix_write(stage.pipeline, UINT64_MAX, CELLAR_WRITE_NEW, &frame), CELLAR_EBOUNDS);
    fix(&stage, PAGE + 19, CELLAR_WRITE_AS_IS, &frame);
    assert_int_equal(frame.length, 20);
    memset(frame.bytes, 1, frame.length);
    assert_done(cellar_device_grow(stage.device, PAGE + 50, PAGE + 50));
    fix(&stage, PAGE, CELLAR_WRITE_AS_IS, &longer);
    assert_int_equal(longer.length, 50);
    assert_ptr_equal(longer.bytes, frame.bytes);
    assert_bytes(longer.bytes, 20, 1);
    assert_bytes((unsigned char *)longer.bytes + 20, 30, 0);
    memset(longer.bytes, 2, longer.length);
    cellar_pipeline_unfix_write(stage.pipeline, &longer);
    cellar_pipeline_unfix_write(stage.pipeline, &frame);
    assert_done(cellar_pipeline_commit(stage.pipeline));
    expect_device(&stage, PAGE, 50, 2);
    expect_seen(&stage, PAGE, 50, 2);
    stage_close(&stage);
}

/* A device that has been cut since its size was asked for. */
static void test_frames_behind_a_cut(void **state)
{
    struct cellar_pipeline_options options = {0};
    struct stage stage = {0};
    struct cellar_write_frame frame;

    (void)state;
    stage_open(&stage, PAGE + 36, &options);
    assert_done(put(&stage, 0, 1, 1));
    assert_done(cellar_device_trim(stage.device, PAGE - 14));
    assert_result(cellar_pipeline_fix_write(stage.pipeline, PAGE + 6, CELLAR_WRITE_NEW, &frame), CELLAR_EBOUNDS);
    assert_int_equal(cellar_pipeline_pending_bytes(stage.pipeline), 1);
    assert_done(cellar_pipeline_commit(stage.pipeline));
    stage_close(&stage);
}

/* What is fixed when all is forgotten can still be touched, and goes nowhere. */
static void test_frames_that_are_discarded(void **state)
{
    struct stage stage = {0};
    struct cellar_write_frame first, second, third;

    (void)state;
    stage_open(&stage, SIZE, &versioned);
    fix(&stage, 0, CELLAR_WRITE_NEW, &first);
    fix(&stage, 0, CELLAR_WRITE_NEW, &second);
    cellar_pipeline_discard(stage.pipeline);
    assert_int_equal(cellar_pipeline_pending_bytes(stage.pipeline), 0);
    memset(first.bytes, 1, PAGE);
    expect_seen(&stage, 0, PAGE, 0);
    fix(&stage, 0, CELLAR_WRITE_AS_IS, &third);
    assert_ptr_not_equal(third.bytes, first.bytes);
    memset(third.bytes, 3, PAGE);
    cellar_pipeline_unfix_write(stage.pipeline, &first);
    memset(second.bytes, 2, PAGE);
    cellar_pipeline_unfix_write(stage.pipeline, &second);
    expect_seen(&stage, 0, PAGE, 3);
    cellar_pipeline_discard(stage.pipeline);
    cellar_pipeline_unfix_write(stage.pipeline, &third);
    assert_done(cellar_pipeline_commit(stage.pipeline));
    expect_device(&stage, 0, PAGE, 0);
    assert_int_equal(cellar_pipeline_version(stage.pipeline), 0);
    stage_close(&stage);
}

static void test_frames_of_what_is_only_read(void **state)
{
    struct cellar_pipeline_options options = {0};
    struct stage stage = {.fault.without = FAULT_BIT(FAULT_WRITE)};
    struct cellar_write_frame frame;

    (void)state;
    stage_open(&stage, SIZE, &options);
    assert_result(cellar_pipeline_fix_write(stage.pipeline, 0, CELLAR_WRITE_NEW, &frame), -EROFS);
    stage_close(&stage);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_frames_as_they_are),        cmocka_unit_test(test_frames_anew),
        cmocka_unit_test(test_frames_at_the_end),         cmocka_unit_test(test_frames_behind_a_cut),
        cmocka_unit_test(test_frames_that_are_discarded), cmocka_unit_test(test_frames_of_what_is_only_read),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
