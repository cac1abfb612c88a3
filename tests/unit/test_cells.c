/* The bytes of cells on both data paths: the window, and pages through pipeline or cache. */
#include "device_fault.h"
#include "support.h"

#include "cell/cells.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

enum { SIZE = 50000, CACHE_BYTES = 64 * 1024 };

enum way { WINDOW, PAGES_WRITER, PAGES_READER };

struct stage {
    struct fault_device fault;
    struct cellar_device *device;
    unsigned char *bytes; /* where the device keeps them */
    struct cellar_cells cells;
};

static struct stage *open_stage(enum way way)
{
    struct stage *stage = calloc(1, sizeof *stage);
    uint64_t capacity_bytes;
    void *base;

    assert_non_null(stage);
    stage->fault.without = FAULT_BIT(FAULT_LOAD); /* pages are copies */
    assert_done(cellar_device_open_memory(NULL, SIZE, SIZE, &stage->fault.inner));
    assert_done(cellar_device_window(stage->fault.inner, SIZE, true, &base, &capacity_bytes));
    stage->bytes = base;
    support_bytes(61, stage->bytes, SIZE);
    assert_done(fault_device_open(&stage->fault, &stage->device));
    assert_done(cellar_cells_open(&stage->cells, stage->device, 32, way == WINDOW ? base : NULL, CACHE_BYTES,
                                  way == PAGES_WRITER, 0));
    return stage;
}

static void close_stage(struct stage *stage)
{
    cellar_cells_close(&stage->cells);
    assert_done(cellar_device_close(stage->device));
    free(stage);
}

static void test_reads(void **state)
{
    static unsigned char expected[SIZE], got[SIZE];

    (void)state;
    support_bytes(61, expected, SIZE);
    for (int way = WINDOW; way <= PAGES_READER; way++) {
        struct stage *stage = open_stage((enum way)way);
        uint64_t random = 62;

        for (int round = 0; round < 500; round++) {
            uint64_t offset = support_random_below(&random, SIZE);
            size_t length =
                (size_t)support_random_below(&random, round % 2 == 0 ? SIZE - offset + 1 : (SIZE - offset) % 100 + 1);

            assert_done(cellar_cells_read(&stage->cells, offset, got, length));
            assert_memory_equal(got, expected + offset, length);
        }
        assert_done(cellar_cells_read(&stage->cells, 0, got, SIZE));
        assert_memory_equal(got, expected, SIZE);
        if (way != WINDOW) {
            assert_result(cellar_cells_read(&stage->cells, SIZE - 1, got, 2), CELLAR_EBOUNDS);
            assert_result(cellar_cells_read(&stage->cells, SIZE + 10000, got, 1), CELLAR_EBOUNDS);
        }
        close_stage(stage);
    }
}

/* A writer reads what it wrote at once; the device has it after commit at the latest. */
static void test_writes(void **state)
{
    static unsigned char model[SIZE], fresh[SIZE], got[SIZE];

    (void)state;
    for (int way = WINDOW; way <= PAGES_WRITER; way++) {
        struct stage *stage = open_stage((enum way)way);
        uint64_t random = 63;

        support_bytes(61, model, SIZE);
        for (int round = 0; round < 400; round++) {
            uint64_t offset = support_random_below(&random, SIZE);
            size_t length = (size_t)support_random_below(&random, (SIZE - offset) % 9000 + 1);

            support_bytes((uint64_t)round, fresh, length);
            assert_done(cellar_cells_write(&stage->cells, offset, fresh, length));
            memcpy(model + offset, fresh, length);
            assert_done(cellar_cells_read(&stage->cells, offset / 2, got, SIZE / 2));
            assert_memory_equal(got, model + offset / 2, SIZE / 2);
            if (round % 7 == 0) {
                assert_done(cellar_cells_commit(&stage->cells, SIZE));
                assert_memory_equal(stage->bytes, model, SIZE);
            }
        }
        close_stage(stage);
    }
}

static void test_pages_wait_for_commit(void **state)
{
    struct stage *stage = open_stage(PAGES_WRITER);
    unsigned char before[40], got[40];

    (void)state;
    memcpy(before, stage->bytes + 4080, sizeof before);
    assert_done(cellar_cells_write(&stage->cells, 4080, "a value over the edge of two pages......", 40));
    assert_memory_equal(stage->bytes + 4080, before, 40);
    cellar_cells_discard(&stage->cells); /* as if it had not been */
    assert_done(cellar_cells_read(&stage->cells, 4080, got, 40));
    assert_memory_equal(got, before, 40);
    assert_done(cellar_cells_commit(&stage->cells, SIZE));
    assert_memory_equal(stage->bytes + 4080, before, 40);
    assert_int_equal(fault_calls(&stage->fault, FAULT_BIT(FAULT_WRITE)), 0);
    assert_done(cellar_cells_write(&stage->cells, 0, "", 0));
    assert_done(cellar_cells_write(&stage->cells, 4090, "kept", 4));
    assert_done(cellar_cells_commit(&stage->cells, SIZE));
    assert_memory_equal(stage->bytes + 4090, "kept", 4);
    assert_done(cellar_cells_write(&stage->cells, 4090, "lost", 4));
    cellar_cells_close(&stage->cells);
    assert_memory_equal(stage->bytes + 4090, "kept", 4);
    close_stage(stage); /* closed twice: the second time it is empty */
}

/* With a window everything is where it belongs at once, and these have nothing to do. */
static void test_window_waits_for_nothing(void **state)
{
    struct stage *stage = open_stage(WINDOW);

    (void)state;
    assert_done(cellar_cells_write(&stage->cells, 4090, "at once", 7));
    assert_memory_equal(stage->bytes + 4090, "at once", 7);
    cellar_cells_discard(&stage->cells);
    cellar_cells_forget(&stage->cells, 4090);
    assert_done(cellar_cells_commit(&stage->cells, SIZE));
    assert_memory_equal(stage->bytes + 4090, "at once", 7);
    assert_int_equal(fault_calls(&stage->fault, FAULT_BIT(FAULT_READ) | FAULT_BIT(FAULT_WRITE)), 0);
    close_stage(stage);
}

/* A reader's page is a copy of the time when it was loaded, until it is told to forget it. */
static void test_reader_forgets(void **state)
{
    struct stage *stage = open_stage(PAGES_READER);
    unsigned char got[5], before[5];

    (void)state;
    if (support_cache_debug())
        support_skip("the debug mode of the cache gives pages up at once");
    memcpy(before, stage->bytes + 8192, 5);
    assert_done(cellar_cells_read(&stage->cells, 8192, got, 5));
    memcpy(stage->bytes + 8192, "fresh", 5);
    assert_done(cellar_cells_read(&stage->cells, 8192, got, 5));
    assert_memory_equal(got, before, 5);
    cellar_cells_forget(&stage->cells, 8191); /* the page before */
    assert_done(cellar_cells_read(&stage->cells, 8192, got, 5));
    assert_memory_equal(got, before, 5);
    cellar_cells_forget(&stage->cells, 12287); /* the last byte of this one */
    assert_done(cellar_cells_read(&stage->cells, 8192, got, 5));
    assert_memory_equal(got, "fresh", 5);
    close_stage(stage);
}

/* The bytes may lie in the window themselves: a reservation is written back where it was lent from, or beside. */
static void test_write_over_itself(void **state)
{
    struct stage *stage = open_stage(WINDOW);
    unsigned char expected[100];

    (void)state;
    memcpy(expected, stage->bytes + 1000, 100);
    assert_done(cellar_cells_write(&stage->cells, 1000, stage->bytes + 1000, 100));
    assert_memory_equal(stage->bytes + 1000, expected, 100);
    assert_done(cellar_cells_write(&stage->cells, 1010, stage->bytes + 1000, 100));
    assert_memory_equal(stage->bytes + 1010, expected, 100);
    close_stage(stage);
}

/* In a child the lock may be held by a thread that is not there: pages are not touched, a window may be. */
static void test_child(void **state)
{
    struct cellar_fork_page in_a_child = {.alive = 0};
    const struct cellar_fork_page *here;
    unsigned char got[4];

    (void)state;
    assert_done(cellar_fork_page_take(&here));
    for (int way = WINDOW; way <= PAGES_READER; way++) {
        struct stage *stage = open_stage((enum way)way);
        int expected = way == WINDOW ? 0 : CELLAR_EFORKED;

        stage->cells.fork_page = here;
        assert_done(cellar_cells_read(&stage->cells, 0, got, 4));
        stage->cells.fork_page = &in_a_child;
        assert_result(cellar_cells_read(&stage->cells, 0, got, 4), expected);
        if (way != PAGES_READER) {
            assert_result(cellar_cells_write(&stage->cells, 0, got, 4), expected);
            assert_result(cellar_cells_commit(&stage->cells, SIZE), expected);
            cellar_cells_discard(&stage->cells);
        } else {
            cellar_cells_forget(&stage->cells, 0);
        }
        close_stage(stage);
    }
}

static void test_errors(void **state)
{
    struct stage *stage = open_stage(PAGES_READER);
    unsigned char got[10];

    (void)state;
    fault_fail(&stage->fault, FAULT_READ, 1, 1, -EIO);
    assert_result(cellar_cells_read(&stage->cells, 100, got, 10), -EIO);
    assert_done(cellar_cells_read(&stage->cells, 100, got, 10));
    close_stage(stage);
    stage = open_stage(PAGES_WRITER);
    assert_result(cellar_cells_write(&stage->cells, SIZE - 5, got, 6), CELLAR_EBOUNDS);
    assert_done(cellar_cells_write(&stage->cells, 100, got, 10));
    fault_fail(&stage->fault, FAULT_WRITE, 1, 1, -EIO);
    assert_result(cellar_cells_commit(&stage->cells, SIZE), -EIO);
    close_stage(stage);
}

/* About so many bytes: the power of two of pages that fits, and never less than four. */
static void test_size_of_the_cache(void **state)
{
    static const struct {
        uint64_t cache_bytes;
        size_t pages;
    } rows[] = {{0, 2048}, {1, 4}, {4 * 4096, 4}, {8 * 4096 - 1, 4}, {8 * 4096, 8}, {100 * 4096, 64}, {1 << 20, 256}};
    struct cellar_device *device;

    (void)state;
    if (support_cache_debug())
        support_skip("the debug mode of the cache gives pages up at once");
    assert_done(cellar_device_open_memory(NULL, SIZE, SIZE, &device));
    for (size_t i = 0; i < SUPPORT_COUNT(rows); i++) {
        struct cellar_cells cells;

        assert_done(cellar_cells_open(&cells, device, 32, NULL, rows[i].cache_bytes, false, 0));
        assert_int_equal(cellar_cache_page_count(cells.handles[0].cache), rows[i].pages);
        cellar_cells_close(&cells);
        assert_done(cellar_cells_open(&cells, device, 32, NULL, rows[i].cache_bytes, true, 0));
        assert_int_equal(cellar_cache_page_count(cellar_pipeline_cache(cells.pipeline)), rows[i].pages);
        cellar_cells_close(&cells);
    }
    assert_done(cellar_device_close(device));
}

struct opening {
    struct cellar_device *device;
    struct cellar_cells cells;
    bool writer;
};

static int open_large(void *user)
{
    struct opening *opening = user;

    return cellar_cells_open(&opening->cells, opening->device, 32, NULL, UINT64_C(1) << 34, opening->writer, 0);
}

static void test_no_memory(void **state)
{
    struct opening opening = {.writer = false};

    (void)state;
    if (SUPPORT_SANITIZED || support_under_valgrind())
        support_skip("sanitizers and valgrind end a process without memory");
    if (support_cache_debug())
        support_skip("the debug mode of the cache has four pages");
    assert_done(cellar_device_open_memory(NULL, SIZE, SIZE, &opening.device));
    for (int writer = 0; writer < 2; writer++) {
        opening.writer = writer;
        assert_result(support_without_memory(open_large, &opening), -ENOMEM);
        cellar_cells_close(&opening.cells); /* nothing is left to close */
    }
    assert_done(cellar_device_close(opening.device));
}

static void test_close_takes_zeros(void **state)
{
    struct cellar_cells cells = {.window = NULL};

    (void)state;
    cellar_cells_close(&cells);
}

/* ---- threads ---- */

struct worker {
    struct stage *stage;
    const unsigned char *expected;
    uint64_t seed;
    int failed;
};

static void *read_at_random(void *user)
{
    struct worker *worker = user;
    unsigned char got[200];

    for (int round = 0; round < 2000 && !worker->failed; round++) {
        uint64_t offset = support_random(&worker->seed) % (SIZE - 8 - sizeof got);

        worker->failed = cellar_cells_read(&worker->stage->cells, offset, got, sizeof got) != 0 ||
                         memcmp(got, worker->expected + offset, sizeof got) != 0;
    }
    return NULL;
}

/* The main thread's part: a writer appends and commits past what the others read. */
static void write_meanwhile(struct stage *stage)
{
    for (int round = 0; round < 200; round++) {
        uint64_t value = (uint64_t)round;

        assert_done(cellar_cells_write(&stage->cells, SIZE - 8, &value, 8));
        if (round % 10 == 3)
            cellar_cells_discard(&stage->cells);
        if (round % 10 == 7)
            assert_done(cellar_cells_commit(&stage->cells, SIZE));
    }
}

static void forget_meanwhile(struct stage *stage)
{
    for (uint64_t round = 0; round < 1000; round++)
        cellar_cells_forget(&stage->cells, round * 4096 % SIZE);
}

/* Snapshots are read by any number of threads, beside their handle; the pages below are for one at a time. */
static void test_reading_threads(void **state)
{
    static unsigned char expected[SIZE];

    (void)state;
    support_bytes(61, expected, SIZE);
    for (int way = WINDOW; way <= PAGES_READER; way++) {
        struct stage *stage = open_stage((enum way)way);
        struct worker workers[3];
        pthread_t threads[3];

        for (size_t i = 0; i < 3; i++) {
            workers[i] = (struct worker){.stage = stage, .expected = expected, .seed = i};
            assert_int_equal(pthread_create(&threads[i], NULL, read_at_random, &workers[i]), 0);
        }
        if (way == PAGES_READER)
            forget_meanwhile(stage);
        else
            write_meanwhile(stage);
        for (size_t i = 0; i < 3; i++) {
            assert_int_equal(pthread_join(threads[i], NULL), 0);
            assert_int_equal(workers[i].failed, 0);
        }
        close_stage(stage);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_reads),
        cmocka_unit_test(test_writes),
        cmocka_unit_test(test_pages_wait_for_commit),
        cmocka_unit_test(test_window_waits_for_nothing),
        cmocka_unit_test(test_reader_forgets),
        cmocka_unit_test(test_write_over_itself),
        cmocka_unit_test(test_child),
        cmocka_unit_test(test_errors),
        cmocka_unit_test(test_size_of_the_cache),
        cmocka_unit_test(test_no_memory),
        cmocka_unit_test(test_close_takes_zeros),
        cmocka_unit_test(test_reading_threads),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
