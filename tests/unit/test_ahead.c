/* What the helper ahead of the writer does, a step at a time, by hand: space, and its marks. */
#include "ahead_stage.h"

#include <errno.h>

/* Nothing to do, and nothing done, for a writer that was just opened. */
static void test_idle(void **state)
{
    struct stage stage;

    (void)state;
    open_stage(&stage, CELLAR_AHEAD_POPULATES | CELLAR_AHEAD_WRITES);
    append(&stage, CELL, 1);
    assert_result(cellar_ahead_step(&stage.ahead), CELLAR_NONE);
    assert_false(cellar_ahead_is_due(&stage.ahead));
    close_stage(&stage);
    open_stage(&stage, 0);
    append(&stage, 20 * MIB, 1);
    assert_int_equal(stage.alloc.mark_index, stage.alloc.ready_index); /* no marks for nobody */
    assert_result(cellar_ahead_step(&stage.ahead), CELLAR_NONE);
    assert_int_equal(stage.grows, 2);
    close_stage(&stage);
}

/* Marks are a quarter of a resize step apart, at most 1 MiB; the first is so far from where the writer begins. */
static void test_marks(void **state)
{
    static const struct {
        uint32_t step_bytes, mark_bytes;
    } rows[] = {{MIB, MIB / 4}, {4 * MIB, MIB}, {64 * MIB, MIB}, {4096, 1024}};
    struct stage stage;

    (void)state;
    for (size_t i = 0; i < SUPPORT_COUNT(rows); i++) {
        open_stage_at(&stage, CELLAR_AHEAD_POPULATES, 2 * STEP, 6 * STEP, rows[i].step_bytes / CELL);
        assert_int_equal(stage.alloc.mark_index, 2 * STEP + rows[i].mark_bytes / CELL);
        append(&stage, (uint64_t)rows[i].mark_bytes + CELL, 1);
        assert_int_equal(stage.alloc.mark_index, 2 * STEP + 2 * rows[i].mark_bytes / CELL + 1);
        close_stage(&stage);
        assert_int_equal(stage.alloc.mark_index, 6 * STEP);
    }
}

/* A helper that has ended, or was left behind by a fork, knows nothing more. */
static void test_ended(void **state)
{
    struct stage stage;

    (void)state;
    for (int forked = 0; forked < 2; forked++) {
        open_stage_at(&stage, CELLAR_AHEAD_GROWS, STEP, STEP, STEP);
        run_all(&stage);
        assert_int_equal(stage.grows, 1);
        if (forked)
            cellar_ahead_forget(&stage.ahead);
        else
            cellar_ahead_end(&stage.ahead, &stage.alloc);
        assert_int_equal(stage.alloc.ready_index, forked ? STEP : 2 * STEP);
        stage.alloc.ready_index = STEP; /* the file was trimmed */
        cellar_ahead_learn(&stage.ahead, &stage.alloc);
        cellar_ahead_begin_growth(&stage.ahead, &stage.alloc);
        cellar_ahead_end_growth(&stage.ahead, &stage.alloc);
        assert_int_equal(stage.alloc.ready_index, STEP);
        assert_result(cellar_ahead_step(&stage.ahead), CELLAR_NONE);
        close_stage(&stage);
    }
}

/* With a helper the writer never grows the file itself but for the first time. */
static void test_grows_before_need(void **state)
{
    struct stage stage;

    (void)state;
    open_stage(&stage, CELLAR_AHEAD_GROWS);
    append(&stage, CELL, 1);
    assert_int_equal(stage.grows, 1);
    for (int i = 0; i < 400; i++) {
        int grows;

        run_all(&stage);
        assert_true(ready_bytes(&stage) > position_bytes(&stage) + STEP_BYTES / 2);
        grows = stage.grows;
        append(&stage, MIB, 1);
        assert_int_equal(stage.grows, grows);
    }
    /* Steps at first, then a quarter of what there is: 4 steps from 256 MiB on, which is the most here. */
    assert_in_range(stage.grows, 12, 16);
    while (cellar_ahead_step(&stage.ahead) != 0)
        append(&stage, MIB, 1);
    assert_true(stage.alloc.ready_index < atomic_load(&stage.ahead.ready_index)); /* what nobody has asked for yet */
    close_stage(&stage);
    assert_int_equal(stage.alloc.ready_index, atomic_load(&stage.ahead.ready_index));
    assert_int_equal(stage.alloc.mark_index, stage.alloc.ready_index);
}

/* A writer that isn't fast has half a stretch, not two. */
static void test_bound_of_growth(void **state)
{
    struct stage stage;

    (void)state;
    open_stage(&stage, CELLAR_AHEAD_GROWS);
    append(&stage, 7 * MIB, 1000);
    run_all(&stage);
    assert_int_equal(stage.grows, 1);
    assert_false(cellar_ahead_is_due(&stage.ahead));
    append(&stage, 3 * MIB, 1000);
    assert_true(cellar_ahead_is_due(&stage.ahead));
    run_all(&stage);
    assert_int_equal(stage.grows, 2);
    assert_int_equal(ready_bytes(&stage), 2 * STEP_BYTES + START * CELL);
    close_stage(&stage);
}

/* A large store is opened: the helper looks from where the writer is. */
static void test_begins_far_on(void **state)
{
    struct stage stage;

    (void)state;
    open_stage_at(&stage, CELLAR_AHEAD_GROWS, 4 * STEP, 4 * STEP, STEP);
    run_all(&stage);
    assert_int_equal(stage.grows, 1);
    assert_int_equal(ready_bytes(&stage), 5 * STEP_BYTES);
    close_stage(&stage);
}

/* No room for a stretch: the helper takes nothing, and leaves it at that until the writer has grown. */
static void test_full(void **state)
{
    struct stage stage;

    (void)state;
    open_stage(&stage, CELLAR_AHEAD_GROWS);
    append(&stage, 10 * MIB, 1000);
    stage.grow_error = -ENOSPC;
    run_all(&stage);
    assert_int_equal(stage.grows, 2);
    assert_int_equal(ready_bytes(&stage), STEP_BYTES + START * CELL);
    append(&stage, 5 * MIB, 1000);
    run_all(&stage);
    assert_int_equal(stage.grows, 2);
    append(&stage, 2 * MIB, 1000); /* now the writer has to */
    assert_int_equal(stage.grows, 3);
    append(&stage, 8 * MIB, 1000);
    run_all(&stage);
    assert_int_equal(stage.grows, 4);
    assert_int_equal(stage.losses, 0);
    close_stage(&stage);
}

/* A sync that fails in the helper's growth: barriers fail from then on, and the writer is told. */
static void test_growth_lost(void **state)
{
    struct stage stage;

    (void)state;
    open_stage(&stage, CELLAR_AHEAD_GROWS);
    append(&stage, 10 * MIB, 1000);
    stage.grow_error = -EIO;
    run_all(&stage);
    assert_int_equal(stage.losses, 1);
    assert_int_equal(stage.header.sync_error, -EIO);
    assert_result(cellar_header_barrier(&stage.header, CELLAR_HEADER_BYTES), -EIO);
    append(&stage, 6 * MIB - 2 * CELL, 1000);
    assert_result(cellar_ahead_step(&stage.ahead), CELLAR_NONE);
    close_stage(&stage);
    open_stage(&stage, CELLAR_AHEAD_GROWS | CELLAR_AHEAD_POPULATES); /* nor does it do anything else */
    append(&stage, 10 * MIB, 1000);
    stage.grow_error = -EIO;
    run_all(&stage);
    append(&stage, 4 * MIB, 1);
    assert_result(cellar_ahead_step(&stage.ahead), CELLAR_NONE);
    assert_int_equal(stage.losses, 1);
    close_stage(&stage);
}

/* A file that others cut: the writer finds it, the helper leaves it at that. */
static void test_cut(void **state)
{
    struct stage stage;

    (void)state;
    open_stage(&stage, CELLAR_AHEAD_GROWS);
    append(&stage, 10 * MIB, 1000);
    stage.size_bytes = MIB;
    run_all(&stage);
    assert_int_equal(stage.grows, 1);
    assert_int_equal(stage.losses, 0);
    assert_false(cellar_ahead_is_due(&stage.ahead));
    assert_result(cellar_alloc_prepare(&stage.alloc, STEP), CELLAR_ECORRUPT);
    close_stage(&stage);
}

/* Nothing is asked for beyond max index. */
static void test_end_of_index(void **state)
{
    struct stage stage;

    (void)state;
    open_stage(&stage, CELLAR_AHEAD_GROWS);
    stage.alloc.max_index = stage.ahead.grow.max_index = 2 * STEP;
    append(&stage, 30 * MIB, 1000);
    assert_false(cellar_ahead_is_due(&stage.ahead));
    run_all(&stage);
    assert_int_equal(ready_bytes(&stage), 2 * STEP_BYTES);
    assert_int_equal(stage.grows, 2);
    assert_false(cellar_ahead_is_due(&stage.ahead));
    close_stage(&stage);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_idle),
        cmocka_unit_test(test_marks),
        cmocka_unit_test(test_ended),
        cmocka_unit_test(test_grows_before_need),
        cmocka_unit_test(test_bound_of_growth),
        cmocka_unit_test(test_begins_far_on),
        cmocka_unit_test(test_full),
        cmocka_unit_test(test_growth_lost),
        cmocka_unit_test(test_cut),
        cmocka_unit_test(test_end_of_index),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
