/*
 * The threads of a queue, held by a gate before each read and write: how many run at once, in which order, and what
 * close, fork and errors do to them.
 */
#include "queue_test.h"

#include <signal.h>
#include <unistd.h>

enum { SIZE = 100000 };

struct stage {
    char *folder;
    struct fault_device fault;
    struct gate gate;
    struct cellar_device *device;
};

/* A pread device behind a fault device: no descriptor, so threads run it. */
static int setup(void **state)
{
    struct stage *stage = calloc(1, sizeof *stage);

    assert_non_null(stage);
    stage->folder = support_folder_make();
    gate_make(&stage->gate, false);
    stage->fault.inner = support_device_open(SUPPORT_DEVICE_PREAD, stage->folder, "device", SIZE, SIZE);
    stage->fault.before = gate_pass;
    stage->fault.before_user = &stage->gate;
    assert_done(fault_device_open(&stage->fault, &stage->device));
    *state = stage;
    return 0;
}

static int teardown(void **state)
{
    struct stage *stage = *state;

    assert_done(cellar_device_close(stage->device));
    gate_end(&stage->gate);
    support_folder_remove(stage->folder);
    free(stage);
    return 0;
}

static void moment(void)
{
    struct timespec time = {.tv_nsec = 1000000};

    nanosleep(&time, NULL);
}

struct hopeless {
    struct cellar_queue *queue;
    struct job *jobs;
};

static int submit_two(void *user)
{
    struct hopeless *hopeless = user;

    cellar_queue_submit(hopeless->queue, jobs_link(hopeless->jobs, 2));
    return 0;
}

/* The first test: no thread has ended yet whose stack could be used again. */
static void test_no_thread(void **state)
{
    struct stage *stage = *state;
    struct cellar_queue *queue;
    struct job jobs[2];

    if (SUPPORT_SANITIZED)
        support_skip("a sanitizer doesn't survive a failed pthread_create");
    gate_open(&stage->gate);
    assert_done(cellar_queue_open(4, CELLAR_IO_THREADS, &queue));
    for (unsigned i = 0; i < 2; i++)
        job_make(&jobs[i], stage->device, false, 0, 10, 1);
    support_without_memory(submit_two, &(struct hopeless){.queue = queue, .jobs = jobs});
    assert_true(is_readable(cellar_queue_descriptor(queue), 0));
    jobs_take(queue, 2);
    assert_int_equal(stage->gate.passed, 0);
    for (unsigned i = 0; i < 2; i++) {
        assert_result(jobs[i].request.result, -EAGAIN);
        jobs[i].taken = false;
    }
    cellar_queue_submit(queue, jobs_link(jobs, 2)); /* and with memory again it works */
    jobs_take(queue, 2);
    for (unsigned i = 0; i < 2; i++) {
        assert_done(jobs[i].request.result);
        job_free(&jobs[i]);
    }
    cellar_queue_close(queue);
}

/* ---- signals ---- */

static volatile sig_atomic_t signals_on_us, signals_elsewhere;
static pthread_t us;

static void note_signal(int number)
{
    (void)number;
    if (pthread_equal(pthread_self(), us))
        signals_on_us = signals_on_us + 1;
    else
        signals_elsewhere = signals_elsewhere + 1;
}

/* Signals of the process reach none of the threads: with ours blocking it, nobody takes it until we do. */
static void test_signals(void **state)
{
    struct sigaction action = {.sa_handler = note_signal}, before;
    struct stage *stage = *state;
    struct cellar_queue *queue;
    struct job job;
    sigset_t set;

    us = pthread_self();
    signals_on_us = signals_elsewhere = 0;
    sigemptyset(&action.sa_mask);
    assert_int_equal(sigaction(SIGUSR1, &action, &before), 0);
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    assert_done(cellar_queue_open(1, CELLAR_IO_THREADS, &queue));
    job_make(&job, stage->device, false, 0, 10, 1);
    cellar_queue_submit(queue, jobs_link(&job, 1));
    assert_true(gate_wait(&stage->gate, 1));
    assert_int_equal(pthread_sigmask(SIG_BLOCK, &set, NULL), 0);
    assert_int_equal(kill(getpid(), SIGUSR1), 0);
    gate_open(&stage->gate);
    jobs_take(queue, 1);
    cellar_queue_close(queue);
    assert_int_equal(signals_on_us + signals_elsewhere, 0);
    assert_int_equal(pthread_sigmask(SIG_UNBLOCK, &set, NULL), 0);
    assert_int_equal(signals_on_us, 1);
    assert_int_equal(signals_elsewhere, 0);
    assert_int_equal(sigaction(SIGUSR1, &before, NULL), 0);
    job_free(&job);
}

/* Exactly depth run at once, the others wait, and they start without a take; polled, not taken, until all are done. */
static void test_depth(void **state)
{
    static const unsigned depths[] = {1, 4, 64};
    static struct job jobs[200];
    struct stage *stage = *state;

    for (size_t d = 0; d < SUPPORT_COUNT(depths); d++) {
        struct gate *gate = &stage->gate;
        struct cellar_queue *queue;
        unsigned count = 3 * depths[d];

        gate_end(gate);
        gate_make(gate, false);
        assert_done(cellar_queue_open(depths[d], CELLAR_IO_AUTO, &queue));
        for (unsigned i = 0; i < count; i++)
            job_make(&jobs[i], stage->device, i % 2 == 0, i * 100, 100, 1);
        cellar_queue_submit(queue, jobs_link(jobs, count));
        assert_true(gate_wait(gate, depths[d]));
        assert_null(cellar_queue_take(queue, false));
        assert_false(is_readable(cellar_queue_descriptor(queue), 0));
        assert_int_equal(cellar_queue_outstanding(queue), count);
        gate_open(gate);
        pthread_mutex_lock(&gate->lock);
        while (gate->passed < count) {
            pthread_mutex_unlock(&gate->lock);
            moment();
            pthread_mutex_lock(&gate->lock);
        }
        pthread_mutex_unlock(&gate->lock);
        assert_int_equal(cellar_queue_outstanding(queue), count);
        jobs_take(queue, count);
        assert_int_equal(gate->inside_most, depths[d]);
        for (unsigned i = 0; i < count; i++) {
            assert_done(jobs[i].request.result);
            job_free(&jobs[i]);
        }
        cellar_queue_close(queue);
    }
}

/* Those that wait start in the order in which they were submitted. */
static void test_order(void **state)
{
    struct stage *stage = *state;
    struct cellar_queue *queue;
    struct job jobs[30];

    assert_done(cellar_queue_open(1, CELLAR_IO_AUTO, &queue));
    for (unsigned i = 0; i < 30; i++)
        job_make(&jobs[i], stage->device, false, (i * 7919) % 1000, 10, 1);
    for (unsigned i = 0; i < 30; i += 10)
        cellar_queue_submit(queue, jobs_link(jobs + i, 10));
    gate_open(&stage->gate);
    jobs_take(queue, 30);
    for (unsigned i = 0; i < 30; i++) {
        assert_int_equal(stage->gate.offsets[i], (i * 7919) % 1000);
        job_free(&jobs[i]);
    }
    cellar_queue_close(queue);
}

static void *close_queue(void *user)
{
    cellar_queue_close(user);
    return NULL;
}

/* Close waits for what is under way and drops what waits its turn. */
static void test_close_held(void **state)
{
    struct stage *stage = *state;
    struct cellar_queue *queue;
    struct job jobs[9];
    pthread_t closer;

    assert_done(cellar_queue_open(3, CELLAR_IO_THREADS, &queue));
    for (unsigned i = 0; i < 9; i++) {
        job_make(&jobs[i], stage->device, true, i * 10, 10, 1);
        memset(jobs[i].bytes, 'x', 10);
    }
    cellar_queue_submit(queue, jobs_link(jobs, 9));
    assert_true(gate_wait(&stage->gate, 3));
    assert_int_equal(pthread_create(&closer, NULL, close_queue, queue), 0);
    while (cellar_queue_outstanding(queue) > 3)
        moment(); /* the others are not dropped yet */
    gate_open(&stage->gate);
    assert_int_equal(pthread_join(closer, NULL), 0);
    assert_int_equal(fault_calls(&stage->fault, FAULT_BIT(FAULT_WRITE)), 3);
    for (unsigned i = 0; i < 9; i++)
        job_free(&jobs[i]);
}

/* Takes while nothing is done, until the gate opens. */
static void *open_gate_when_one_waits(void *user)
{
    struct gate *gate = user;

    if (gate_wait(gate, 1))
        gate_open(gate);
    return NULL;
}

static void test_take_waits(void **state)
{
    struct stage *stage = *state;
    struct cellar_queue *queue;
    pthread_t opener;
    struct job job;

    assert_done(cellar_queue_open(2, CELLAR_IO_AUTO, &queue));
    job_make(&job, stage->device, false, 0, 10, 1);
    cellar_queue_submit(queue, jobs_link(&job, 1));
    assert_null(cellar_queue_take(queue, false));
    assert_int_equal(pthread_create(&opener, NULL, open_gate_when_one_waits, &stage->gate), 0);
    assert_ptr_equal(cellar_queue_take(queue, true), &job.request);
    assert_int_equal(pthread_join(opener, NULL), 0);
    assert_int_equal(stage->gate.passed, 1);
    cellar_queue_close(queue);
    job_free(&job);
}

/* The device's errors arrive, each with the request that met it. */
static void test_errors(void **state)
{
    struct stage *stage = *state;
    struct cellar_queue *queue;
    struct job jobs[10];

    gate_open(&stage->gate);
    assert_done(cellar_queue_open(1, CELLAR_IO_AUTO, &queue));
    fault_fail(&stage->fault, FAULT_READ, 3, 2, -EIO);
    fault_fail(&stage->fault, FAULT_WRITE, 2, 1, -ENOSPC);
    for (unsigned i = 0; i < 10; i++)
        job_make(&jobs[i], stage->device, i >= 5, i * 10, 10, 1);
    cellar_queue_submit(queue, jobs_link(jobs, 10));
    jobs_take(queue, 10);
    for (unsigned i = 0; i < 10; i++) {
        assert_result(jobs[i].request.result, i == 2 || i == 3 ? -EIO : i == 6 ? -ENOSPC : 0);
        job_free(&jobs[i]);
    }
    assert_int_equal(cellar_device_counters(stage->device).reads, 5);
    assert_int_equal(cellar_device_counters(stage->device).bytes_read, 30);
    assert_int_equal(cellar_device_counters(stage->device).bytes_written, 40);
    cellar_queue_close(queue);
}

static int close_in_child(void *user)
{
    struct cellar_queue *queue = user;
    int fd = cellar_queue_descriptor(queue);
    struct pollfd pollfd = {.fd = fd, .events = POLLIN};

    cellar_queue_close(queue);
    SUPPORT_CHILD_NEEDS(poll(&pollfd, 1, 0) == 1 && (pollfd.revents & POLLNVAL) != 0);
    return 0;
}

/* A child closes its copy while requests are under way and waiting; the parent's go on. */
static void test_fork(void **state)
{
    struct stage *stage = *state;
    struct cellar_queue *queue;
    struct job jobs[9];

    assert_done(cellar_queue_open(3, CELLAR_IO_AUTO, &queue));
    for (unsigned i = 0; i < 9; i++)
        job_make(&jobs[i], stage->device, true, i * 10, 10, 1);
    cellar_queue_submit(queue, jobs_link(jobs, 9));
    assert_true(gate_wait(&stage->gate, 3));
    assert_int_equal(support_child(close_in_child, queue), 0);
    gate_open(&stage->gate);
    jobs_take(queue, 9);
    for (unsigned i = 0; i < 9; i++) {
        assert_done(jobs[i].request.result);
        job_free(&jobs[i]);
    }
    cellar_queue_close(queue);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_no_thread, setup, teardown),
        cmocka_unit_test_setup_teardown(test_signals, setup, teardown),
        cmocka_unit_test_setup_teardown(test_depth, setup, teardown),
        cmocka_unit_test_setup_teardown(test_order, setup, teardown),
        cmocka_unit_test_setup_teardown(test_close_held, setup, teardown),
        cmocka_unit_test_setup_teardown(test_take_waits, setup, teardown),
        cmocka_unit_test_setup_teardown(test_errors, setup, teardown),
        cmocka_unit_test_setup_teardown(test_fork, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
