/* The queue, on threads and on io_uring, over devices with and without a descriptor. */
#include "queue_test.h"

#include <limits.h>
#include <stdio.h>
#include <unistd.h>

enum { SIZE = 300000, JOBS = 150, JOB_BYTES = 2000 };

struct subject {
    const char *name;
    enum cellar_io io;
    enum support_device kind;
    bool wrapped;
    uint64_t transfer_bytes_max, interrupt_every;
    const char *runs_on; /* of the queue; NULL: depends on the kernel */
};

static const struct subject subjects[] = {
    {.name = "threads, pread", .io = CELLAR_IO_THREADS, .kind = SUPPORT_DEVICE_PREAD, .runs_on = "threads"},
    {.name = "threads, memory", .io = CELLAR_IO_THREADS, .kind = SUPPORT_DEVICE_MEMORY, .runs_on = "threads"},
    {.name = "threads, short interrupted pread",
     .io = CELLAR_IO_THREADS,
     .kind = SUPPORT_DEVICE_PREAD,
     .wrapped = true,
     .transfer_bytes_max = 101,
     .interrupt_every = 3,
     .runs_on = "threads"},
    {.name = "io_uring, pread", .io = CELLAR_IO_URING, .kind = SUPPORT_DEVICE_PREAD, .runs_on = "io_uring"},
    {.name = "io_uring, file", .io = CELLAR_IO_URING, .kind = SUPPORT_DEVICE_FILE, .runs_on = "io_uring"},
    {.name = "io_uring, memory", .io = CELLAR_IO_URING, .kind = SUPPORT_DEVICE_MEMORY, .runs_on = "io_uring"},
    {.name = "io_uring, short interrupted pread",
     .io = CELLAR_IO_URING,
     .kind = SUPPORT_DEVICE_PREAD,
     .wrapped = true,
     .transfer_bytes_max = 101,
     .interrupt_every = 3,
     .runs_on = "io_uring"},
    {.name = "auto, pread", .io = CELLAR_IO_AUTO, .kind = SUPPORT_DEVICE_PREAD},
    {.name = "auto, memory", .io = CELLAR_IO_AUTO, .kind = SUPPORT_DEVICE_MEMORY},
};

struct stage {
    const struct subject *subject;
    char *folder;
    struct fault_device fault;
    struct cellar_device *device;
};

static int setup(void **state)
{
    struct stage *stage = calloc(1, sizeof *stage);

    assert_non_null(stage);
    stage->subject = *state != NULL ? *state : &subjects[0];
    stage->folder = support_folder_make();
    stage->device = support_device_open(stage->subject->kind, stage->folder, "device", SIZE, SIZE);
    if (stage->subject->wrapped) {
        stage->fault.inner = stage->device;
        stage->fault.transfer_bytes_max = stage->subject->transfer_bytes_max;
        stage->fault.interrupt_every = stage->subject->interrupt_every;
        assert_done(fault_device_open(&stage->fault, &stage->device));
    }
    *state = stage;
    return 0;
}

static int teardown(void **state)
{
    struct stage *stage = *state;

    assert_done(cellar_device_close(stage->device));
    support_folder_remove(stage->folder);
    free(stage);
    return 0;
}

/* ---- on every subject ---- */

/* Submits the jobs in lists of 1 to 9, and takes them all; each must succeed. */
static void run_all(struct cellar_queue *queue, struct job *jobs, size_t count)
{
    uint64_t seed = count;
    size_t length;

    for (size_t at = 0; at < count; at += length) {
        length = 1 + support_random_below(&seed, 9);
        if (length > count - at)
            length = count - at;
        cellar_queue_submit(queue, jobs_link(jobs + at, length));
    }
    assert_int_equal(cellar_queue_outstanding(queue), count);
    jobs_take(queue, count);
    assert_int_equal(cellar_queue_outstanding(queue), 0);
    for (size_t i = 0; i < count; i++)
        assert_done(jobs[i].request.result);
}

static void test_round_trip(void **state)
{
    static const unsigned depths[] = {1, 4, 64};
    static struct job jobs[JOBS];
    static unsigned char image[SIZE];
    struct stage *stage = *state;

    for (size_t d = 0; d < SUPPORT_COUNT(depths); d++) {
        struct cellar_device_counters before = cellar_device_counters(stage->device), after;
        struct cellar_queue *queue;
        uint64_t seed = d, sum = 0;

        open_or_skip(depths[d], stage->subject->io, &queue);
        if (stage->subject->runs_on != NULL)
            assert_string_equal(cellar_queue_name(queue), stage->subject->runs_on);
        assert_done(cellar_device_read(stage->device, image, SIZE, 0));
        for (size_t i = 0; i < JOBS; i++) {
            size_t length = 1 + support_random_below(&seed, JOB_BYTES);

            job_make(&jobs[i], stage->device, true, i * JOB_BYTES, length,
                     1 + (int)support_random_below(&seed, JOB_PARTS_MAX));
            support_bytes(d * JOBS + i, jobs[i].bytes, length);
            memcpy(image + i * JOB_BYTES, jobs[i].bytes, length);
            sum += length;
        }
        run_all(queue, jobs, JOBS);
        for (size_t i = 0; i < JOBS; i++) {
            size_t length = jobs[i].length_bytes;

            job_free(&jobs[i]);
            job_make(&jobs[i], stage->device, false, i * JOB_BYTES, length,
                     1 + (int)support_random_below(&seed, JOB_PARTS_MAX));
        }
        run_all(queue, jobs, JOBS);
        for (size_t i = 0; i < JOBS; i++) {
            assert_memory_equal(jobs[i].bytes, image + i * JOB_BYTES, jobs[i].length_bytes);
            assert_int_equal(jobs[i].bytes[jobs[i].length_bytes], 0);
            job_free(&jobs[i]);
        }
        after = cellar_device_counters(stage->device);
        assert_int_equal(after.writes - before.writes, JOBS);
        assert_int_equal(after.bytes_written - before.bytes_written, sum);
        assert_int_equal(after.reads - before.reads, JOBS + 1);
        assert_int_equal(after.bytes_read - before.bytes_read, sum + SIZE);
        cellar_queue_close(queue);
    }
}

static struct cellar_device_counters count_since(struct cellar_device *device, struct cellar_device_counters before)
{
    struct cellar_device_counters now = cellar_device_counters(device);

    now.reads -= before.reads;
    now.bytes_read -= before.bytes_read;
    now.writes -= before.writes;
    now.bytes_written -= before.bytes_written;
    now.retries -= before.retries;
    return now;
}

/* Each row gives what the direct call gives, and counts the same. */
static void test_as_direct(void **state)
{
    static const struct {
        uint64_t offset;
        size_t length_bytes;
        int part_count, read, write;
    } rows[] = {
        {0, 0, 1, 0, 0},
        {0, 1, 1, 0, 0},
        {0, 1, 5, 0, 0},
        {0, SIZE, 1, 0, 0},
        {1, SIZE - 1, 3, 0, 0},
        {SIZE - 1, 1, 1, 0, 0},
        {SIZE, 0, 1, 0, 0},
        {SIZE, 0, 2, 0, 0},
        {0, SIZE + 1, 1, CELLAR_EBOUNDS, CELLAR_EBOUNDS},
        {0, SIZE + 100, 4, CELLAR_EBOUNDS, CELLAR_EBOUNDS},
        {SIZE - 1, 2, 1, CELLAR_EBOUNDS, CELLAR_EBOUNDS},
        {SIZE - 1, 2, 2, CELLAR_EBOUNDS, CELLAR_EBOUNDS},
        {SIZE, 1, 1, CELLAR_EBOUNDS, CELLAR_EBOUNDS},
        {SIZE + 1, 0, 1, CELLAR_EBOUNDS, CELLAR_EBOUNDS},
        {SIZE + 1, 1, 1, CELLAR_EBOUNDS, CELLAR_EBOUNDS},
        {INT64_MAX, 1, 1, CELLAR_EBOUNDS, CELLAR_EBOUNDS},
        {UINT64_MAX, 0, 1, CELLAR_EBOUNDS, CELLAR_EBOUNDS},
        {UINT64_MAX, 2, 1, CELLAR_EBOUNDS, CELLAR_EBOUNDS},
    };
    struct stage *stage = *state;
    struct cellar_queue *queue;

    open_or_skip(2, stage->subject->io, &queue);
    for (size_t i = 0; i < SUPPORT_COUNT(rows); i++) {
        for (int writes = 0; writes <= 1; writes++) {
            int expected = writes ? rows[i].write : rows[i].read;
            struct cellar_device_counters before = cellar_device_counters(stage->device), direct, queued;
            struct job job;

            job_make(&job, stage->device, writes, rows[i].offset, rows[i].length_bytes, rows[i].part_count);
            assert_result(writes ? cellar_device_write(stage->device, job.parts, rows[i].part_count, rows[i].offset)
                                 : cellar_device_read(stage->device, job.bytes, rows[i].length_bytes, rows[i].offset),
                          expected);
            direct = count_since(stage->device, before);
            before = cellar_device_counters(stage->device);
            assert_result(job_run(queue, &job), expected);
            queued = count_since(stage->device, before);
            assert_int_equal(queued.reads, direct.reads);
            assert_int_equal(queued.bytes_read, direct.bytes_read);
            assert_int_equal(queued.writes, direct.writes);
            assert_int_equal(queued.bytes_written, direct.bytes_written);
            if (rows[i].part_count == 1 && !stage->subject->wrapped)
                assert_int_equal(queued.retries, direct.retries);
            job_free(&job);
        }
    }
    cellar_queue_close(queue);
}

static void test_bad_part_counts(void **state)
{
    static const int part_counts[] = {0, -1, IOV_MAX + 1};
    struct stage *stage = *state;
    struct cellar_queue *queue;

    open_or_skip(1, stage->subject->io, &queue);
    for (size_t i = 0; i < SUPPORT_COUNT(part_counts); i++) {
        struct job job;

        job_make(&job, stage->device, false, 0, 10, 1);
        job.request.part_count = part_counts[i];
        cellar_queue_submit(queue, jobs_link(&job, 1));
        assert_true(is_readable(cellar_queue_descriptor(queue), 0));
        assert_ptr_equal(cellar_queue_take(queue, false), &job.request);
        assert_result(job.request.result, -EINVAL);
        job_free(&job);
    }
    cellar_queue_close(queue);
}

enum { SUBMITTERS = 4, SUBMITTER_JOBS = 100 };

struct submitter {
    struct cellar_queue *queue;
    struct job *jobs;
};

static void *submit_jobs(void *user)
{
    struct submitter *submitter = user;

    for (size_t i = 0; i < SUBMITTER_JOBS; i += 4)
        cellar_queue_submit(submitter->queue, jobs_link(submitter->jobs + i, 4));
    return NULL;
}

/* Several threads submit while this one takes. */
static void test_many_submitters(void **state)
{
    static struct job jobs[SUBMITTERS * SUBMITTER_JOBS];
    static unsigned char bytes[SIZE];
    struct stage *stage = *state;
    struct submitter submitters[SUBMITTERS];
    pthread_t threads[SUBMITTERS];
    struct cellar_queue *queue;
    size_t taken = 0;

    open_or_skip(8, stage->subject->io, &queue);
    support_bytes(7, bytes, SIZE);
    assert_done(support_device_write(stage->device, bytes, SIZE, 0));
    for (size_t i = 0; i < SUPPORT_COUNT(jobs); i++)
        job_make(&jobs[i], stage->device, false, i * 613, 512 + i, 1 + (int)(i % JOB_PARTS_MAX));
    for (size_t i = 0; i < SUBMITTERS; i++) {
        submitters[i] = (struct submitter){.queue = queue, .jobs = jobs + i * SUBMITTER_JOBS};
        assert_int_equal(pthread_create(&threads[i], NULL, submit_jobs, &submitters[i]), 0);
    }
    while (taken < SUPPORT_COUNT(jobs)) {
        for (struct cellar_request *done = cellar_queue_take(queue, true); done != NULL; done = done->next) {
            assert_done(done->result);
            taken++;
        }
    }
    for (size_t i = 0; i < SUBMITTERS; i++)
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    for (size_t i = 0; i < SUPPORT_COUNT(jobs); i++) {
        assert_memory_equal(jobs[i].bytes, bytes + i * 613, jobs[i].length_bytes);
        job_free(&jobs[i]);
    }
    assert_null(cellar_queue_take(queue, true));
    cellar_queue_close(queue);
}

/* Nothing outstanding: take gives nothing, at once, and there is nothing to poll for. */
static void test_idle(void **state)
{
    struct stage *stage = *state;
    struct cellar_queue *queue;
    struct job job;

    open_or_skip(4, stage->subject->io, &queue);
    cellar_queue_submit(queue, NULL);
    assert_null(cellar_queue_take(queue, false));
    assert_null(cellar_queue_take(queue, true));
    assert_int_equal(cellar_queue_outstanding(queue), 0);
    assert_false(is_readable(cellar_queue_descriptor(queue), 0));
    for (int i = 0; i < 50; i++) {
        job_make(&job, stage->device, i % 2 == 0, 0, 5000, 2);
        cellar_queue_submit(queue, jobs_link(&job, 1));
        assert_int_equal(cellar_queue_outstanding(queue), 1);
        do
            assert_true(is_readable(cellar_queue_descriptor(queue), WAIT_SECONDS * 1000));
        while (cellar_queue_take(queue, false) == NULL);
        assert_done(job.request.result);
        assert_false(is_readable(cellar_queue_descriptor(queue), 0));
        job_free(&job);
    }
    cellar_queue_close(queue);
}

/* Close with requests that were never taken: all that began was done. */
static void test_close_busy(void **state)
{
    static struct job jobs[JOBS];
    struct stage *stage = *state;

    for (unsigned depth = 1; depth <= 64; depth *= 8) {
        struct cellar_queue *queue;

        open_or_skip(depth, stage->subject->io, &queue);
        for (size_t i = 0; i < JOBS; i++)
            job_make(&jobs[i], stage->device, i % 2 == 0, i * JOB_BYTES, JOB_BYTES, 3);
        cellar_queue_submit(queue, jobs_link(jobs, JOBS));
        cellar_queue_close(queue);
        for (size_t i = 0; i < JOBS; i++)
            job_free(&jobs[i]);
    }
}

/* ---- once ---- */

static void test_read_only(void **state)
{
    static const enum cellar_io ios[] = {CELLAR_IO_THREADS, CELLAR_IO_AUTO};
    struct stage *stage = *state;
    struct cellar_device *device;

    assert_done(cellar_device_open_pread(support_path(stage->folder, "device"), CELLAR_OPEN_READ, 0, &device));
    for (size_t i = 0; i < SUPPORT_COUNT(ios); i++) {
        struct cellar_queue *queue;
        struct job job;

        assert_done(cellar_queue_open(1, ios[i], &queue));
        job_make(&job, device, true, 0, 10, 1);
        assert_result(job_run(queue, &job), -EROFS);
        assert_int_equal(cellar_device_counters(device).writes, 0);
        job_free(&job);
        cellar_queue_close(queue);
    }
    assert_done(cellar_device_close(device));
}

static void test_open_refuses(void **state)
{
    struct cellar_queue *queue = NULL;

    (void)state;
    assert_result(cellar_queue_open(0, CELLAR_IO_AUTO, &queue), -EINVAL);
    assert_result(cellar_queue_open(4097, CELLAR_IO_AUTO, &queue), -EINVAL);
    assert_result(cellar_queue_open(1, (enum cellar_io)99, &queue), -EINVAL);
    assert_null(queue);
    assert_done(cellar_queue_open(4096, CELLAR_IO_AUTO, &queue));
    print_message("AUTO runs on %s here\n", cellar_queue_name(queue));
    cellar_queue_close(queue);
    cellar_queue_close(NULL);
}

int main(void)
{
    static const struct {
        const char *name;
        CMUnitTestFunction run;
    } each[] = {
        {"round_trip", test_round_trip},
        {"as_direct", test_as_direct},
        {"bad_part_counts", test_bad_part_counts},
        {"many_submitters", test_many_submitters},
        {"idle", test_idle},
        {"close_busy", test_close_busy},
    };
    static struct CMUnitTest on_each[SUPPORT_COUNT(each) * SUPPORT_COUNT(subjects)];
    static char names[SUPPORT_COUNT(on_each)][80];
    const struct CMUnitTest others[] = {
        cmocka_unit_test_setup_teardown(test_read_only, setup, teardown),
        cmocka_unit_test(test_open_refuses),
    };
    int failed;

    for (size_t i = 0; i < SUPPORT_COUNT(on_each); i++) {
        const struct subject *subject = &subjects[i / SUPPORT_COUNT(each)];

        snprintf(names[i], sizeof names[i], "%s: %s", each[i % SUPPORT_COUNT(each)].name, subject->name);
        on_each[i] = (struct CMUnitTest){.name = names[i],
                                         .test_func = each[i % SUPPORT_COUNT(each)].run,
                                         .setup_func = setup,
                                         .teardown_func = teardown,
                                         .initial_state = (void *)(uintptr_t)subject};
    }
    failed = cmocka_run_group_tests_name("queue, on each", on_each, NULL, NULL);
    return failed + cmocka_run_group_tests_name("queue", others, NULL, NULL);
}
