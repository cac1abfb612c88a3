/* What a ring can do to a request: on time, late, short, dropped, refused. */
#include "queue_spy.h"

#include <fcntl.h>

static int setup_blocks(void **state)
{
    return open_stage(state, BLOCK, BLOCK);
}

static void test_by_ring(void **state)
{
    struct stage *stage = *state;
    struct cellar_device_counters counters;
    struct job job;

    open_or_skip(2, CELLAR_IO_URING, &stage->queue);
    fill_pipe(stage, 30);
    job_make(&job, stage->device, false, 100, 30, 4);
    assert_done(job_run(stage->queue, &job));
    assert_true(has_bytes(&job, 30));
    counters = cellar_device_counters(stage->device);
    assert_int_equal(counters.reads, 1);
    assert_int_equal(counters.bytes_read, 30);
    assert_int_equal(counters.retries, 0);
    assert_int_equal(stage->spy.reads, 0);
    job_free(&job);
    stage->spy.descriptor = stage->spy.pipe[1];
    job_make(&job, stage->device, true, 100, 30, 3);
    memset(job.bytes, 'w', 30);
    assert_done(job_run(stage->queue, &job));
    assert_int_equal(read(stage->spy.pipe[0], job.bytes, 31), 30);
    assert_int_equal(job.bytes[29], 'w');
    assert_int_equal(stage->spy.writes, 0);
    assert_int_equal(cellar_device_counters(stage->device).bytes_written, 30);
    job_free(&job);
}

/* A queue of threads never looks at the descriptor. */
static void test_threads_alone(void **state)
{
    struct stage *stage = *state;
    struct job job;

    assert_done(cellar_queue_open(2, CELLAR_IO_THREADS, &stage->queue));
    fill_pipe(stage, 30);
    job_make(&job, stage->device, false, 100, 30, 1);
    assert_done(job_run(stage->queue, &job));
    assert_true(has_bytes(&job, 0));
    job_free(&job);
}

/* The ring's part of a transfer stays, a thread does the rest. */
static void test_short(void **state)
{
    struct stage *stage = *state;
    struct cellar_device_counters counters;
    struct job job;

    open_or_skip(2, CELLAR_IO_URING, &stage->queue);
    for (size_t by_ring = 1; by_ring < 30; by_ring++) {
        fill_pipe(stage, by_ring);
        job_make(&job, stage->device, false, 100, 30, 1 + (int)(by_ring % JOB_PARTS_MAX));
        assert_done(job_run(stage->queue, &job));
        assert_true(has_bytes(&job, by_ring));
        job_free(&job);
    }
    counters = cellar_device_counters(stage->device);
    assert_int_equal(counters.reads, 29);
    assert_int_equal(counters.bytes_read, 29 * 30);
    assert_int_equal(counters.retries, 29);
}

static void test_short_write(void **state)
{
    struct stage *stage = *state;
    struct job job;
    unsigned char byte;
    size_t space = (size_t)fcntl(stage->spy.pipe[1], F_SETPIPE_SZ, 4096);

    open_or_skip(2, CELLAR_IO_URING, &stage->queue);
    assert_int_equal(space, 4096);
    assert_int_equal(fcntl(stage->spy.pipe[1], F_SETFL, O_NONBLOCK), 0);
    stage->spy.descriptor = stage->spy.pipe[1];
    job_make(&job, stage->device, true, 0, 5000, 5);
    memset(job.bytes, 'w', 5000);
    assert_done(job_run(stage->queue, &job));
    assert_int_equal(stage->spy.writes, 1);
    assert_int_equal(stage->spy.offset, 4096);
    assert_done(cellar_device_read(stage->spy.inner, &byte, 1, 4095));
    assert_int_equal(byte, 'f');
    assert_done(cellar_device_read(stage->spy.inner, &byte, 1, 4999));
    assert_int_equal(byte, 'w');
    assert_int_equal(cellar_device_counters(stage->device).bytes_written, 5000);
    job_free(&job);
}

/* With blocks, a thread goes on at the block in which the ring stopped. */
static void test_short_blocks(void **state)
{
    struct stage *stage = *state;
    struct iovec part = {.iov_len = 2 * BLOCK};
    struct job job;
    void *memory;

    open_or_skip(2, CELLAR_IO_URING, &stage->queue);
    assert_int_equal(posix_memalign(&memory, BLOCK, 2 * BLOCK), 0);
    memset(memory, 0, 2 * BLOCK);
    part.iov_base = memory;
    fill_pipe(stage, BLOCK + 100);
    job_make(&job, stage->device, false, BLOCK, 1, 1);
    job.request.parts = &part;
    assert_done(job_run(stage->queue, &job));
    assert_int_equal(((unsigned char *)memory)[BLOCK - 1], 'p');
    assert_int_equal(((unsigned char *)memory)[BLOCK], 'f');
    assert_int_equal(stage->spy.offset, 2 * BLOCK);
    assert_int_equal(stage->spy.reads, 1);
    job_free(&job);
    free(memory);
}

/* Memory and parts that the descriptor can't have go to a thread; whole blocks are asked for all the same. */
static void test_alignment(void **state)
{
    static const struct {
        uint32_t align_bytes;
        size_t skew, first_bytes, second_bytes;
        bool writes, by_ring;
        int result;
    } rows[] = {
        {BLOCK, 0, BLOCK, BLOCK, false, true, 0},
        {BLOCK, 0, 2 * BLOCK, 0, false, true, 0},
        {BLOCK, 1, BLOCK, BLOCK, false, false, 0},
        {BLOCK, 8, BLOCK, BLOCK, false, false, 0},
        {8, 8, BLOCK, BLOCK, false, true, 0},
        {8, 4, BLOCK, BLOCK, false, false, 0},
        {8, 0, 104, 2 * BLOCK - 104, true, false, 0},
        {BLOCK, 0, 100, 2 * BLOCK - 100, true, false, 0},
        {BLOCK, 0, 100, 2 * BLOCK - 100, false, false, -EINVAL},
        {BLOCK, 0, BLOCK, 100, true, false, -EINVAL},
    };
    struct stage *stage = *state;
    unsigned char *bytes;
    void *memory;

    open_or_skip(2, CELLAR_IO_URING, &stage->queue);
    assert_int_equal(posix_memalign(&memory, BLOCK, 3 * BLOCK), 0);
    memset(memory, 0, 3 * BLOCK);
    for (size_t i = 0; i < SUPPORT_COUNT(rows); i++) {
        struct iovec parts[2];
        struct job job;

        if (rows[i].by_ring)
            fill_pipe(stage, 2 * BLOCK);
        stage->spy.align_bytes = rows[i].align_bytes;
        bytes = (unsigned char *)memory + rows[i].skew;
        parts[0] = (struct iovec){.iov_base = bytes, .iov_len = rows[i].first_bytes};
        parts[1] = (struct iovec){.iov_base = bytes + rows[i].first_bytes, .iov_len = rows[i].second_bytes};
        job_make(&job, stage->device, rows[i].writes, 0, 1, 1);
        job.request.parts = parts;
        job.request.part_count = 2;
        assert_result(job_run(stage->queue, &job), rows[i].result);
        if (rows[i].result == 0 && !rows[i].writes)
            assert_int_equal(bytes[2 * BLOCK - 1], rows[i].by_ring ? 'p' : 'f');
        job_free(&job);
    }
    free(memory);
}

/* An error is an error, and an end an end; no thread tries again. */
static void test_results(void **state)
{
    struct stage *stage = *state;
    struct job job;

    open_or_skip(2, CELLAR_IO_URING, &stage->queue);
    job_make(&job, stage->device, false, 0, 30, 1);
    stage->spy.descriptor = 1 << 20;
    assert_result(job_run(stage->queue, &job), -EBADF);
    job.taken = false;
    stage->spy.descriptor = stage->spy.pipe[0];
    close(stage->spy.pipe[1]);
    stage->spy.pipe[1] = -1;
    assert_result(job_run(stage->queue, &job), CELLAR_EBOUNDS);
    assert_int_equal(cellar_device_counters(stage->device).reads, 2);
    assert_int_equal(cellar_device_counters(stage->device).bytes_read, 0);
    assert_int_equal(cellar_device_counters(stage->device).retries, 0);
    assert_int_equal(stage->spy.reads, 0);
    job_free(&job);
}

/* Two under way on an empty pipe, three waiting: each end of one lets another start, by take alone. */
static void test_held(void **state)
{
    struct stage *stage = *state;
    struct job jobs[5];

    open_or_skip(2, CELLAR_IO_URING, &stage->queue);
    for (unsigned i = 0; i < 5; i++)
        job_make(&jobs[i], stage->device, false, 0, 10, 2);
    cellar_queue_submit(stage->queue, jobs_link(jobs, 5));
    assert_int_equal(cellar_device_counters(stage->device).reads, 2);
    for (unsigned left = 5; left > 0; left--) {
        assert_null(cellar_queue_take(stage->queue, false));
        assert_false(is_readable(cellar_queue_descriptor(stage->queue), 0));
        assert_int_equal(cellar_queue_outstanding(stage->queue), left);
        fill_pipe(stage, 10);
        assert_true(is_readable(cellar_queue_descriptor(stage->queue), WAIT_SECONDS * 1000));
        jobs_take(stage->queue, 1);
        assert_int_equal(cellar_device_counters(stage->device).reads, left > 3 ? 8 - left : 5);
    }
    assert_int_equal(stage->spy.reads, 0);
    for (unsigned i = 0; i < 5; i++) {
        assert_true(has_bytes(&jobs[i], 10));
        job_free(&jobs[i]);
    }
}

static void *fill_pipe_for_two(void *user)
{
    fill_pipe(user, 20);
    return NULL;
}

/* Close waits for the two that are under way, and starts none of the others, which only a take would. */
static void test_close_held(void **state)
{
    struct stage *stage = *state;
    struct job jobs[5];
    pthread_t filler;

    open_or_skip(2, CELLAR_IO_URING, &stage->queue);
    for (unsigned i = 0; i < 5; i++)
        job_make(&jobs[i], stage->device, false, 0, 10, 1);
    cellar_queue_submit(stage->queue, jobs_link(jobs, 5));
    assert_int_equal(pthread_create(&filler, NULL, fill_pipe_for_two, stage), 0);
    cellar_queue_close(stage->queue);
    stage->queue = NULL;
    assert_int_equal(pthread_join(filler, NULL), 0);
    assert_int_equal(cellar_device_counters(stage->device).reads, 2);
    assert_int_equal(cellar_device_counters(stage->device).bytes_read, 20);
    for (unsigned i = 0; i < 5; i++)
        job_free(&jobs[i]);
}

static int close_in_child(void *user)
{
    struct stage *stage = user;
    int fd = cellar_queue_descriptor(stage->queue);

    cellar_queue_close(stage->queue);
    SUPPORT_CHILD_NEEDS(fcntl(fd, F_GETFD) < 0 && errno == EBADF);
    return 0;
}

/* A child closes while two are under way: the parent's end as if nothing had been. */
static void test_fork(void **state)
{
    struct stage *stage = *state;
    struct job jobs[5];

    open_or_skip(2, CELLAR_IO_URING, &stage->queue);
    for (unsigned i = 0; i < 5; i++)
        job_make(&jobs[i], stage->device, false, 0, 10, 1);
    cellar_queue_submit(stage->queue, jobs_link(jobs, 5));
    assert_int_equal(support_child(close_in_child, stage), 0);
    assert_false(is_readable(cellar_queue_descriptor(stage->queue), 0));
    fill_pipe(stage, 50);
    jobs_take(stage->queue, 5);
    assert_int_equal(stage->spy.reads, 0);
    for (unsigned i = 0; i < 5; i++) {
        assert_done(jobs[i].request.result);
        assert_true(has_bytes(&jobs[i], 10));
        job_free(&jobs[i]);
    }
}

struct submitter {
    struct cellar_queue *queue;
    struct cellar_request *requests;
};

static void *submit_and_end(void *user)
{
    struct submitter *submitter = user;

    cellar_queue_submit(submitter->queue, submitter->requests);
    return NULL;
}

/* The thread that submitted ends before they do: the kernel may drop them, and then threads do them. */
static void test_submitter_ends(void **state)
{
    struct stage *stage = *state;
    struct submitter submitter;
    struct job jobs[5];
    pthread_t thread;

    open_or_skip(2, CELLAR_IO_URING, &stage->queue);
    for (unsigned i = 0; i < 5; i++)
        job_make(&jobs[i], stage->device, false, 0, 10, 1);
    submitter = (struct submitter){.queue = stage->queue, .requests = jobs_link(jobs, 5)};
    assert_int_equal(pthread_create(&thread, NULL, submit_and_end, &submitter), 0);
    assert_int_equal(pthread_join(thread, NULL), 0);
    fill_pipe(stage, 50);
    jobs_take(stage->queue, 5);
    for (unsigned i = 0; i < 5; i++) {
        assert_done(jobs[i].request.result);
        job_free(&jobs[i]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_by_ring, setup, teardown),
        cmocka_unit_test_setup_teardown(test_threads_alone, setup, teardown),
        cmocka_unit_test_setup_teardown(test_short, setup, teardown),
        cmocka_unit_test_setup_teardown(test_short_write, setup, teardown),
        cmocka_unit_test_setup_teardown(test_short_blocks, setup_blocks, teardown),
        cmocka_unit_test_setup_teardown(test_alignment, setup_blocks, teardown),
        cmocka_unit_test_setup_teardown(test_results, setup, teardown),
        cmocka_unit_test_setup_teardown(test_held, setup, teardown),
        cmocka_unit_test_setup_teardown(test_close_held, setup, teardown),
        cmocka_unit_test_setup_teardown(test_fork, setup, teardown),
        cmocka_unit_test_setup_teardown(test_submitter_ends, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
