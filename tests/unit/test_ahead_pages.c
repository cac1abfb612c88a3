/* What the helper ahead of the writer does, a step at a time, by hand: pages that are populated and written. */
#include "ahead_stage.h"

#include <errno.h>

/* Pages are brought in while cells come fast: ahead of the writer, below what is ready, never twice. */
static void test_populates(void **state)
{
    struct stage stage;
    uint64_t done = 0;

    (void)state;
    open_stage(&stage, CELLAR_AHEAD_POPULATES);
    append(&stage, 3 * MIB, 1);
    assert_true(cellar_ahead_is_due(&stage.ahead));
    while (cellar_ahead_step(&stage.ahead) == 0) {
        assert_true(stage.populated.from >= done && stage.populated.end - stage.populated.from <= MIB / 2);
        assert_true(stage.populated.from % 4096 == 0 && stage.populated.end % 4096 == 0);
        done = stage.populated.end;
    }
    assert_int_equal(done, STEP_BYTES); /* START * CELL bytes more are ready, which are no whole page */
    assert_false(cellar_ahead_is_due(&stage.ahead));
    stage.populates = 0;
    append(&stage, 30 * MIB, 1); /* it is left behind */
    run_all(&stage);
    assert_true(stage.populates > 0);
    assert_int_equal(stage.populated.end, 3 * STEP_BYTES);
    append(&stage, MIB, 10);
    assert_false(cellar_ahead_is_due(&stage.ahead)); /* not woken for every mark */
    stage.populates = 0;
    append(&stage, 2 * MIB, 1000); /* not fast any more */
    append(&stage, 8 * MIB, 1000);
    run_all(&stage);
    assert_int_equal(stage.populates, 0);
    close_stage(&stage);
}

/* A writer that is further than the helper finds it a block ahead, not at its heels. */
static void test_populates_ahead(void **state)
{
    struct stage stage;

    (void)state;
    open_stage(&stage, CELLAR_AHEAD_POPULATES);
    append(&stage, 4 * MIB, 1);
    assert_done(cellar_ahead_step(&stage.ahead));
    assert_true(stage.populated.from > atomic_load(&stage.ahead.position_bytes));
    close_stage(&stage);
}

/* A helper is not woken until half of its span is used up. */
static void test_populates_when_due(void **state)
{
    struct stage stage;

    (void)state;
    open_stage_at(&stage, CELLAR_AHEAD_POPULATES, 2 * STEP, 6 * STEP, STEP);
    append(&stage, 3 * MIB, 1);
    run_all(&stage);
    assert_int_equal(stage.populated.end, 2 * STEP_BYTES + 2 * MIB + 16 * MIB); /* from the last mark */
    append(&stage, 6 * MIB, 1);
    assert_false(cellar_ahead_is_due(&stage.ahead));
    append(&stage, 3 * MIB, 1);
    assert_true(cellar_ahead_is_due(&stage.ahead));
    close_stage(&stage);
}

/* How fast cells come is counted from mark to mark, however large the store is; and one that went back isn't fast. */
static void test_slow(void **state)
{
    struct stage stage;

    (void)state;
    open_stage_at(&stage, CELLAR_AHEAD_POPULATES, STEP, 6 * STEP, STEP);
    append(&stage, 8 * MIB, 30);
    assert_result(cellar_ahead_step(&stage.ahead), CELLAR_NONE);
    append(&stage, 2 * MIB, 1);
    run_all(&stage);
    assert_true(stage.populates > 0);
    stage.populates = 0;
    stage.alloc.next_index -= MIB / CELL; /* rolled back */
    stage.now_ns += 1000;
    cellar_ahead_pass(&stage.ahead, &stage.alloc, stage.alloc.next_index + 1, stage.now_ns);
    assert_int_equal(atomic_load(&stage.ahead.populate_to), 0);
    close_stage(&stage);
}

/* Cells that are gathered are not stored into the window: only where some were, since the last mark, it is worth it. */
static void test_gathered(void **state)
{
    struct stage stage;

    (void)state;
    open_stage_at(&stage, CELLAR_AHEAD_POPULATES, STEP, 6 * STEP, STEP);
    stage.ahead.stores = stage.ahead.stores_always = false;
    append(&stage, 4 * MIB, 1);
    assert_result(cellar_ahead_step(&stage.ahead), CELLAR_NONE);
    stage.ahead.stores = true;
    append(&stage, MIB, 1);
    assert_done(cellar_ahead_step(&stage.ahead));
    append(&stage, MIB, 1);
    assert_result(cellar_ahead_step(&stage.ahead), CELLAR_NONE);
    close_stage(&stage);
}

static void flush_by(struct stage *stage, int count, uint64_t bytes, uint64_t byte_ns)
{
    for (int i = 0; i < count; i++) {
        append(stage, bytes, byte_ns);
        cellar_ahead_note_flush(&stage->ahead, stage->alloc.next_index);
    }
}

static void flush(struct stage *stage, int count, uint64_t bytes)
{
    flush_by(stage, count, bytes, 1000);
}

/* Pages are written once flushes are many and small, as far ahead as they go in a while. */
static void test_writes(void **state)
{
    struct stage stage;
    uint64_t done = 0;

    (void)state;
    open_stage(&stage, CELLAR_AHEAD_WRITES);
    flush(&stage, 127, 4096);
    assert_result(cellar_ahead_step(&stage.ahead), CELLAR_NONE);
    flush(&stage, 1, 4096);
    assert_true(cellar_ahead_is_due(&stage.ahead));
    while (cellar_ahead_step(&stage.ahead) == 0) {
        assert_true(stage.written.from >= done && stage.written.from > position_bytes(&stage));
        assert_true(stage.written.end - stage.written.from <= MIB / 4);
        assert_true(stage.written.from % 4096 == 0 && stage.written.end % 4096 == 0);
        done = stage.written.end;
    }
    assert_in_range(done, position_bytes(&stage) + MIB - 4096, position_bytes(&stage) + MIB);
    flush(&stage, 20, 4096);
    assert_false(cellar_ahead_is_due(&stage.ahead));
    flush(&stage, 120, 4096);
    assert_true(cellar_ahead_is_due(&stage.ahead));
    stage.writes = 0;
    flush(&stage, 8, 6 * MIB); /* large ones do without */
    run_all(&stage);
    assert_int_equal(stage.writes, 0);
    close_stage(&stage);
}

/* At least 256 KiB ahead, however small flushes are, and at most 4 MiB; one that is large changes nothing. */
static void test_span_of_writes(void **state)
{
    struct stage stage;

    (void)state;
    open_stage_at(&stage, CELLAR_AHEAD_WRITES, STEP, 6 * STEP, STEP);
    flush(&stage, 128, 512);
    run_all(&stage);
    assert_in_range(stage.written.end, position_bytes(&stage) + MIB / 4 - 4096, position_bytes(&stage) + MIB / 4);
    close_stage(&stage);
    open_stage_at(&stage, CELLAR_AHEAD_WRITES, STEP, 6 * STEP, STEP);
    flush(&stage, 128, 64 << 10);
    run_all(&stage);
    assert_in_range(stage.written.end, position_bytes(&stage) + 4 * MIB - 4096, position_bytes(&stage) + 4 * MIB);
    flush(&stage, 1, 300 << 10);
    assert_done(cellar_ahead_step(&stage.ahead));
    close_stage(&stage);
}

/* While pages are written ahead none are populated beside that; when flushes get large, or no helper's, they are. */
static void test_writes_or_populates(void **state)
{
    struct stage stage;

    (void)state;
    open_stage_at(&stage, CELLAR_AHEAD_POPULATES | CELLAR_AHEAD_WRITES, STEP, 30 * STEP, STEP);
    flush_by(&stage, 200, 4096, 1);
    run_all(&stage);
    assert_true(stage.writes > 0);
    append(&stage, 3 * MIB, 1);
    run_all(&stage);
    assert_int_equal(stage.populates, 0);
    flush_by(&stage, 8, 6 * MIB, 1);
    append(&stage, 2 * MIB, 1);
    run_all(&stage);
    assert_true(stage.populates > 0);
    close_stage(&stage);
    open_stage_at(&stage, CELLAR_AHEAD_POPULATES, STEP, 6 * STEP, STEP);
    flush_by(&stage, 200, 4096, 1);
    append(&stage, 3 * MIB, 1);
    run_all(&stage);
    assert_true(stage.populates > 0);
    assert_int_equal(stage.writes, 0);
    close_stage(&stage);
}

/* Flushes of nothing are none. */
static void test_flushes_of_nothing(void **state)
{
    struct stage stage;

    (void)state;
    open_stage(&stage, CELLAR_AHEAD_WRITES);
    cellar_ahead_note_flush(&stage.ahead, stage.alloc.next_index);
    flush(&stage, 127, 512);
    for (int i = 0; i < 1000; i++)
        cellar_ahead_note_flush(&stage.ahead, stage.alloc.next_index);
    assert_result(cellar_ahead_step(&stage.ahead), CELLAR_NONE);
    flush(&stage, 1, 512);
    assert_done(cellar_ahead_step(&stage.ahead));
    close_stage(&stage);
    open_stage(&stage, CELLAR_AHEAD_WRITES); /* and tiny ones are not worth it */
    flush(&stage, 1000, 448);
    assert_result(cellar_ahead_step(&stage.ahead), CELLAR_NONE);
    close_stage(&stage);
}

/* What can't be had is tried once. */
static void test_gives_up(void **state)
{
    struct stage stage;

    (void)state;
    open_stage(&stage, CELLAR_AHEAD_POPULATES | CELLAR_AHEAD_WRITES);
    stage.populate_error = stage.write_error = -ENOTSUP;
    append(&stage, 4 * MIB, 1);
    run_all(&stage);
    append(&stage, 4 * MIB, 1);
    run_all(&stage);
    assert_int_equal(stage.populates, 1);
    flush(&stage, 200, 4096);
    run_all(&stage);
    flush(&stage, 200, 4096);
    run_all(&stage);
    assert_int_equal(stage.writes, 1);
    close_stage(&stage);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_populates),          cmocka_unit_test(test_populates_ahead),
        cmocka_unit_test(test_populates_when_due), cmocka_unit_test(test_slow),
        cmocka_unit_test(test_gathered),           cmocka_unit_test(test_writes),
        cmocka_unit_test(test_span_of_writes),     cmocka_unit_test(test_writes_or_populates),
        cmocka_unit_test(test_flushes_of_nothing), cmocka_unit_test(test_gives_up),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
