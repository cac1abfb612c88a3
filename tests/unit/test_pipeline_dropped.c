/* A write frame whose page is discarded while it is fixed: its memory is nobody else's until it is unfixed. */
#include "versions_test.h"

enum { PAGES = 8, SIZE = PAGES * PAGE };

static void test_dropped_while_fixed(void **state)
{
    (void)state;
    for (int fixes = 1; fixes <= 3; fixes++) {
        struct cellar_pipeline_options options = {0};
        struct cellar_write_frame frames[3];
        struct stage stage = {0};

        stage_open(&stage, SIZE, &options);
        assert_done(put_commit(&stage, 0, SIZE, 1));
        for (int i = 0; i < fixes; i++)
            assert_done(cellar_pipeline_fix_write(stage.pipeline, PAGE, CELLAR_WRITE_AS_IS, &frames[i]));
        cellar_pipeline_discard(stage.pipeline);
        assert_int_equal(cellar_pipeline_pending_bytes(stage.pipeline), 0);
        assert_done(put(&stage, 3 * PAGE, PAGE, 2));
        memset(frames[0].bytes, 9, PAGE); /* too late for the file, and nobody else's */
        expect_seen(&stage, 3 * PAGE, PAGE, 2);
        expect_seen(&stage, PAGE, PAGE, 1);
        for (int i = 0; i < fixes; i++)
            cellar_pipeline_unfix_write(stage.pipeline, &frames[i]);
        expect_seen(&stage, PAGE, PAGE, 1);
        assert_done(cellar_pipeline_commit(stage.pipeline));
        expect_device(&stage, PAGE, PAGE, 1);
        expect_device(&stage, 3 * PAGE, PAGE, 2);
        stage_close(&stage);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_dropped_while_fixed),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
