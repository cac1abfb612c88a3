/* Write frames that are held when their pipeline ends, and what fixing a page again costs. */
#include "versions_test.h"

enum { SIZE = 8 * PAGE };

/* What is fixed goes with the pipeline; a program that searches for leaks finds it if it doesn't. */
static void test_close_with_frames(void **state)
{
    struct cellar_pipeline_options options = {0};

    (void)state;
    for (uint64_t fixes = 1; fixes <= 3; fixes++) {
        struct stage stage = {0};
        struct cellar_write_frame frame;

        stage_open(&stage, SIZE, &options);
        for (uint64_t i = 0; i < fixes; i++)
            assert_done(cellar_pipeline_fix_write(stage.pipeline, i / 2 * PAGE, CELLAR_WRITE_NEW, &frame));
        stage_close(&stage);
    }
}

/* A page of which every byte is pending is not looked for on the device. */
static void test_fix_of_what_is_all_pending(void **state)
{
    static const uint64_t sizes[] = {SIZE, SIZE - 10};
    struct cellar_pipeline_options options = {.cache.copy = true};

    (void)state;
    for (size_t i = 0; i < SUPPORT_COUNT(sizes); i++) {
        struct stage stage = {0};
        struct cellar_write_frame frame;

        stage_open(&stage, sizes[i], &options);
        assert_done(put(&stage, 7 * PAGE, (size_t)(sizes[i] - 7 * PAGE), 1));
        assert_done(cellar_pipeline_fix_write(stage.pipeline, 7 * PAGE, CELLAR_WRITE_AS_IS, &frame));
        assert_int_equal(count_reads(&stage), 0);
        assert_int_equal(frame.length, sizes[i] - 7 * PAGE);
        assert_bytes(frame.bytes, frame.length, 1);
        cellar_pipeline_unfix_write(stage.pipeline, &frame);
        assert_done(put(&stage, 5 * PAGE, PAGE - 1, 1)); /* but for its last byte */
        assert_done(cellar_pipeline_fix_write(stage.pipeline, 5 * PAGE, CELLAR_WRITE_AS_IS, &frame));
        assert_int_equal(count_reads(&stage), 1);
        cellar_pipeline_unfix_write(stage.pipeline, &frame);
        stage_close(&stage);
    }
}

/* What is written to a frame is what every read gives, at once: those too that have the page at hand. */
static void test_seen_at_once(void **state)
{
    struct cellar_pipeline_options options = {.cache.copy = true};
    struct cellar_write_frame frame;
    struct stage stage = {0};
    uint8_t byte;

    (void)state;
    stage_open(&stage, SIZE, &options);
    for (int round = 0; round < 2; round++) {
        assert_done(cellar_pipeline_get_u8(stage.pipeline, PAGE + 5, &byte));
        assert_int_equal(byte, 0);
    }
    assert_done(cellar_pipeline_fix_write(stage.pipeline, PAGE, CELLAR_WRITE_AS_IS, &frame));
    memset(frame.bytes, 7, frame.length);
    assert_done(cellar_pipeline_get_u8(stage.pipeline, PAGE + 5, &byte));
    assert_int_equal(byte, 7);
    cellar_pipeline_unfix_write(stage.pipeline, &frame);
    assert_done(cellar_pipeline_get_u8(stage.pipeline, PAGE + 5, &byte));
    assert_int_equal(byte, 7);
    stage_close(&stage);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_close_with_frames),
        cmocka_unit_test(test_fix_of_what_is_all_pending),
        cmocka_unit_test(test_seen_at_once),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
