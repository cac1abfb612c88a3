/* What the helper ahead of the writer does, a step at a time, by hand: no thread. */
#include "support.h"

#include "cell/ahead.h"

#include <errno.h>
#include <string.h>

enum { CELL = 64, START = 4, MIB = 1 << 20, STEP_BYTES = 16 * MIB, STEP = STEP_BYTES / CELL, MAX = 1 << 26 };

struct range {
    uint64_t from, end;
};

/* A helper on a device that has a size and nothing else, and what it asked for last. */
struct stage {
    uint64_t size_bytes;
    int grow_error; /* of the next growth; 0: none */
    struct cellar_device *device;
    struct cellar_header header;
    struct cellar_alloc alloc; /* the writer's */
    struct cellar_ahead ahead;
    struct range populated, written;
    int grows, populates, writes, losses;
    int populate_error, write_error;
    uint64_t now_ns;
};

static int populate(void *user, uint64_t offset, uint64_t length_bytes)
{
    struct stage *stage = user;

    stage->populates++;
    stage->populated = (struct range){.from = offset, .end = offset + length_bytes};
    return stage->populate_error;
}

static int write_out(void *user, uint64_t offset, uint64_t length_bytes)
{
    struct stage *stage = user;

    stage->writes++;
    stage->written = (struct range){.from = offset, .end = offset + length_bytes};
    return stage->write_error;
}

static void lost(void *user, int error)
{
    struct stage *stage = user;

    assert_int_equal(error, -EIO);
    stage->losses++;
}

static int stage_size(void *state, uint64_t *ret_size_bytes)
{
    *ret_size_bytes = ((const struct stage *)state)->size_bytes;
    return 0;
}

static ssize_t stage_read(void *state, void *buffer, size_t length_bytes, uint64_t offset)
{
    (void)state;
    (void)offset;
    memset(buffer, 0, length_bytes);
    return (ssize_t)length_bytes;
}

static ssize_t stage_write(void *state, uint64_t token, const struct iovec *parts, int part_count, uint64_t offset)
{
    (void)state;
    (void)token;
    (void)part_count;
    (void)offset;
    return (ssize_t)parts[0].iov_len;
}

static int stage_grow(void *state, uint64_t token, uint64_t allocate_from, uint64_t size_bytes)
{
    struct stage *stage = state;
    int error = stage->grow_error;

    (void)token;
    assert_true(allocate_from <= stage->size_bytes && size_bytes > stage->size_bytes);
    stage->grow_error = 0;
    stage->grows++;
    if (error == 0)
        stage->size_bytes = size_bytes;
    return error;
}

static int stage_close(void *state)
{
    (void)state;
    return 0;
}

static void open_stage(struct stage *stage, unsigned parts)
{
    static const struct cellar_device_ops ops = {.name = "stage",
                                                 .size = stage_size,
                                                 .read = stage_read,
                                                 .write = stage_write,
                                                 .grow = stage_grow,
                                                 .close = stage_close};
    struct cellar_ahead_ways ways = {.populate = populate, .write_out = write_out, .lost = lost, .user = stage};

    *stage = (struct stage){.size_bytes = START * CELL, .now_ns = 1000};
    assert_done(cellar_device_open(&ops, stage, &stage->device));
    assert_done(cellar_header_open(&stage->header, stage->device, NULL, false));
    stage->alloc = (struct cellar_alloc){.device = stage->device,
                                         .header = &stage->header,
                                         .bytes_per_cell = CELL,
                                         .next_index = START,
                                         .mark_index = START,
                                         .ready_index = START,
                                         .max_index = MAX,
                                         .step_cells = STEP,
                                         .most_cells = 4 * STEP,
                                         .file_bytes = START * CELL};
    cellar_ahead_begin(&stage->ahead, parts, &stage->alloc, &ways);
    atomic_store(&stage->ahead.thread_state, CELLAR_AHEAD_FAILED); /* no thread can be had */
}

static void close_stage(struct stage *stage)
{
    cellar_ahead_end(&stage->ahead, &stage->alloc);
    cellar_header_close(&stage->header);
    assert_done(cellar_device_close(stage->device));
}

/* The writer takes cells, each byte_ns per byte, and comes to its marks as writer_ahead.c does. */
static void append(struct stage *stage, uint64_t bytes, uint64_t byte_ns)
{
    struct cellar_alloc *alloc = &stage->alloc;
    uint32_t first;

    for (uint64_t done = 0; done < bytes; done += CELL) {
        stage->now_ns += byte_ns * CELL;
        if (alloc->next_index == alloc->mark_index) {
            cellar_ahead_begin_growth(&stage->ahead, alloc);
            assert_done(cellar_alloc_prepare(alloc, 1));
            cellar_ahead_end_growth(&stage->ahead, alloc);
            cellar_ahead_pass(&stage->ahead, alloc, alloc->next_index + 1, stage->now_ns);
        }
        assert_done(cellar_alloc_take(alloc, 1, &first));
        assert_true(alloc->next_index <= alloc->mark_index && alloc->mark_index <= alloc->ready_index);
    }
}

static void run_all(struct stage *stage)
{
    for (int i = 0; cellar_ahead_step(&stage->ahead) == 0; i++)
        assert_true(i < 1000);
}

static uint64_t ready_bytes(const struct stage *stage)
{
    return atomic_load(&stage->ahead.ready_index) * CELL;
}

static uint64_t position_bytes(const struct stage *stage)
{
    return (uint64_t)stage->alloc.next_index * CELL;
}

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
    assert_result(cellar_ahead_step(&stage.ahead), CELLAR_NONE);
    assert_int_equal(stage.grows, 2);
    close_stage(&stage);
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
    close_stage(&stage);
    assert_int_equal(stage.alloc.ready_index, atomic_load(&stage.ahead.ready_index));
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
    append(&stage, 3 * MIB, 1000);
    run_all(&stage);
    assert_int_equal(stage.grows, 2);
    assert_int_equal(ready_bytes(&stage), 2 * STEP_BYTES + START * CELL);
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
}

/* Nothing is asked for beyond max index. */
static void test_end_of_index(void **state)
{
    struct stage stage;

    (void)state;
    open_stage(&stage, CELLAR_AHEAD_GROWS);
    stage.alloc.max_index = stage.ahead.grow.max_index = 2 * STEP;
    append(&stage, 30 * MIB, 1000);
    run_all(&stage);
    assert_int_equal(ready_bytes(&stage), 2 * STEP_BYTES);
    assert_int_equal(stage.grows, 2);
    assert_false(cellar_ahead_is_due(&stage.ahead));
    close_stage(&stage);
}

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
        assert_true(stage.populated.from >= done);
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

static void flush(struct stage *stage, int count, uint64_t bytes)
{
    for (int i = 0; i < count; i++) {
        append(stage, bytes, 1000);
        cellar_ahead_note_flush(&stage->ahead, stage->alloc.next_index);
    }
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
        assert_true(stage.written.from >= done && stage.written.from > position_bytes(&stage) - 4096);
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

/* Flushes of nothing are none. */
static void test_flushes_of_nothing(void **state)
{
    struct stage stage;

    (void)state;
    open_stage(&stage, CELLAR_AHEAD_WRITES);
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
        cmocka_unit_test(test_idle),
        cmocka_unit_test(test_grows_before_need),
        cmocka_unit_test(test_bound_of_growth),
        cmocka_unit_test(test_full),
        cmocka_unit_test(test_growth_lost),
        cmocka_unit_test(test_end_of_index),
        cmocka_unit_test(test_populates),
        cmocka_unit_test(test_populates_ahead),
        cmocka_unit_test(test_writes),
        cmocka_unit_test(test_flushes_of_nothing),
        cmocka_unit_test(test_gives_up),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
