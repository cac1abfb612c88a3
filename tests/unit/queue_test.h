/* queue_test.h - what the tests of the queue share: requests with memory of their own, and a gate that holds them. */
#ifndef QUEUE_TEST_H
#define QUEUE_TEST_H

#include "device/queue.h"
#include "device_fault.h"
#include "support.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { JOB_PARTS_MAX = 5, WAIT_SECONDS = 120 };

/* A request, its parts and their bytes, which lie apart from each other. */
struct job {
    struct cellar_request request;
    struct iovec parts[JOB_PARTS_MAX];
    unsigned char *bytes;
    size_t length_bytes;
    bool taken;
};

/* Cuts length_bytes into part_count parts of about the same length. */
static inline void job_make(struct job *job, struct cellar_device *device, bool writes, uint64_t offset,
                            size_t length_bytes, int part_count)
{
    size_t at = 0;

    memset(job, 0, sizeof *job);
    job->bytes = calloc(1, length_bytes + 1);
    assert_non_null(job->bytes);
    job->length_bytes = length_bytes;
    for (int i = 0; i < part_count; i++) {
        size_t end = length_bytes * (size_t)(i + 1) / (size_t)part_count;

        job->parts[i] = (struct iovec){.iov_base = job->bytes + at, .iov_len = end - at};
        at = end;
    }
    job->request = (struct cellar_request){.device = device,
                                           .writes = writes,
                                           .parts = job->parts,
                                           .part_count = part_count,
                                           .offset = offset,
                                           .user = job,
                                           .result = 12345};
}

static inline void job_free(struct job *job)
{
    free(job->bytes);
}

/* Links jobs into one list. */
static inline struct cellar_request *jobs_link(struct job *jobs, size_t count)
{
    for (size_t i = 0; i < count; i++)
        jobs[i].request.next = i + 1 < count ? &jobs[i + 1].request : NULL;
    return &jobs[0].request;
}

/* Takes, waiting, until count more requests were done; each once. */
static inline void jobs_take(struct cellar_queue *queue, size_t count)
{
    while (count > 0) {
        struct cellar_request *done = cellar_queue_take(queue, true);

        assert_non_null(done);
        for (; done != NULL; done = done->next) {
            struct job *job = done->user;

            assert_ptr_equal(done, &job->request);
            assert_false(job->taken);
            job->taken = true;
            assert_true(count > 0);
            count--;
        }
    }
}

static inline int job_run(struct cellar_queue *queue, struct job *job)
{
    cellar_queue_submit(queue, jobs_link(job, 1));
    jobs_take(queue, 1);
    assert_int_equal(cellar_queue_outstanding(queue), 0);
    return job->request.result;
}

/* Opens the queue; skips the test where there is no io_uring. */
#define open_or_skip(depth, io, ret_queue)                                                                             \
    do {                                                                                                               \
        int opened_ = cellar_queue_open((depth), (io), (ret_queue));                                                   \
        if ((io) == CELLAR_IO_URING && opened_ == -ENOTSUP)                                                            \
            support_skip("no io_uring here");                                                                          \
        assert_done(opened_);                                                                                          \
    } while (0)

static inline bool is_readable(int fd, int timeout_ms)
{
    struct pollfd pollfd = {.fd = fd, .events = POLLIN};
    int result = poll(&pollfd, 1, timeout_ms);

    assert_true(result >= 0);
    return result == 1 && (pollfd.revents & POLLIN) != 0;
}

/* ---- a gate in the hook of a fault device: reads and writes wait before it ---- */

struct gate {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool open;
    unsigned inside, inside_most, passed;
    uint64_t offsets[64]; /* of those that came, in their order */
};

static inline void gate_make(struct gate *gate, bool open)
{
    memset(gate, 0, sizeof *gate);
    pthread_mutex_init(&gate->lock, NULL);
    pthread_cond_init(&gate->changed, NULL);
    gate->open = open;
}

static inline void gate_end(struct gate *gate)
{
    pthread_cond_destroy(&gate->changed);
    pthread_mutex_destroy(&gate->lock);
}

/* For fault_device.before. */
static inline void gate_pass(void *user, enum fault_call call, uint64_t offset, uint64_t length_bytes)
{
    struct gate *gate = user;

    (void)length_bytes;
    if (call != FAULT_READ && call != FAULT_WRITE)
        return;
    pthread_mutex_lock(&gate->lock);
    if (gate->passed + gate->inside < SUPPORT_COUNT(gate->offsets))
        gate->offsets[gate->passed + gate->inside] = offset;
    gate->inside++;
    if (gate->inside > gate->inside_most)
        gate->inside_most = gate->inside;
    pthread_cond_broadcast(&gate->changed);
    while (!gate->open)
        pthread_cond_wait(&gate->changed, &gate->lock);
    gate->inside--;
    gate->passed++;
    pthread_mutex_unlock(&gate->lock);
}

static inline void gate_open(struct gate *gate)
{
    pthread_mutex_lock(&gate->lock);
    gate->open = true;
    pthread_cond_broadcast(&gate->changed);
    pthread_mutex_unlock(&gate->lock);
}

/* Waits until so many are held; false: they never came. */
static inline bool gate_wait(struct gate *gate, unsigned inside)
{
    struct timespec end;
    bool held;

    clock_gettime(CLOCK_REALTIME, &end);
    end.tv_sec += WAIT_SECONDS;
    pthread_mutex_lock(&gate->lock);
    while (gate->inside < inside && pthread_cond_timedwait(&gate->changed, &gate->lock, &end) == 0)
        ;
    held = gate->inside >= inside;
    pthread_mutex_unlock(&gate->lock);
    return held;
}

#endif
