/*
 * queue.c - which requests are waiting, under way and done.
 *
 *     submit -> waiting -> under way: the ring, or the threads -> done -> take
 *                                     the ring -> the threads     what the ring left unfinished
 *
 * 1. under_way <= depth, and less only while nothing is waiting, or take has yet to look at the ring.
 * 2. event_fd is readable exactly while done is not empty or take was nudged; the ring's descriptor says the rest.
 * 3. A request is touched by nobody but its runner while it is under way, and by nobody once take gave it back.
 * 4. No device and no ring is called with the lock held.
 */
#include "device/device.h"
#include "device/queue_internal.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <unistd.h>

enum { DEPTH_MAX = 4096 };

struct cellar_queue {
    unsigned depth;
    pid_t process; /* that opened it */
    int event_fd;
    int poll_fd;              /* an epoll of event_fd and the ring; -1 without a ring */
    struct cellar_ring *ring; /* NULL: none */
    struct cellar_threads *threads;
    atomic_uint outstanding;

    pthread_mutex_t lock; /* for all below, and to change outstanding */
    unsigned under_way;
    struct cellar_requests waiting, done;
    bool nudged; /* take is not to wait, once */
};

/* Appends what may start now to start; under the lock. */
static void admit(struct cellar_queue *queue, struct cellar_requests *start)
{
    while (queue->under_way < queue->depth && queue->waiting.count > 0) {
        cellar_requests_append(start, cellar_requests_pop(&queue->waiting));
        queue->under_way++;
    }
}

static void complete(struct cellar_requests *done, struct cellar_request *request, int result)
{
    request->result = result;
    cellar_requests_append(done, request);
}

/* A write past RLIMIT_FSIZE is a signal that kills; the device's own write knows that and gives -EFBIG. */
static bool is_over_size_limit(const struct cellar_request *request)
{
    struct rlimit limit;
    uint64_t end = request->offset;

    if (!request->writes || getrlimit(RLIMIT_FSIZE, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY)
        return false;
    for (int i = 0; i < request->part_count; i++) {
        if (request->parts[i].iov_len > UINT64_MAX - end)
            return true;
        end += request->parts[i].iov_len;
    }
    return end > limit.rlim_cur;
}

/* Whether the ring can do this one. */
static bool suits_ring(const struct cellar_queue *queue, struct cellar_request *request)
{
    uint32_t align_bytes = 1, block_bytes = cellar_device_block_bytes(request->device);

    if (queue->ring == NULL || !cellar_ring_works(queue->ring))
        return false;
    request->descriptor = cellar_device_descriptor(request->device, &align_bytes);
    if (request->descriptor < 0 || is_over_size_limit(request))
        return false;
    if (align_bytes == 1 && block_bytes == 1)
        return true;
    for (int i = 0; i < request->part_count; i++) {
        if (((uintptr_t)request->parts[i].iov_base & (align_bytes - 1)) != 0 ||
            (request->parts[i].iov_len & (block_bytes - 1)) != 0)
            return false;
    }
    return true;
}

static void give_threads(struct cellar_queue *queue, struct cellar_requests *requests, struct cellar_requests *done)
{
    struct cellar_request *request;
    int error = cellar_threads_give(queue->threads, requests);

    while ((request = cellar_requests_pop(requests)) != NULL) {
        request->untouched = request->moved_bytes == 0;
        complete(done, request, error);
    }
}

/* Starts all of start, each where it belongs; what ends at once goes to done. */
static void launch(struct cellar_queue *queue, struct cellar_requests *start, struct cellar_requests *done)
{
    struct cellar_requests to_ring = {0}, to_threads = {0};
    struct cellar_request *request;

    while ((request = cellar_requests_pop(start)) != NULL) {
        int error = 0;

        request->begun = request->untouched = false;
        request->moved_bytes = 0;
        if (request->part_count < 1 || request->part_count > IOV_MAX) {
            complete(done, request, -EINVAL);
        } else if (!suits_ring(queue, request)) {
            cellar_requests_append(&to_threads, request);
        } else {
            error = cellar_device_begin(request->device, request->writes, request->parts, request->part_count,
                                        request->offset, &request->total_bytes);
            request->begun = error == 0;
            if (error != 0 || request->total_bytes == 0)
                complete(done, request, error);
            else
                cellar_requests_append(&to_ring, request);
        }
    }
    if (to_ring.count > 0)
        cellar_ring_push(queue->ring, &to_ring);
    cellar_requests_move(&to_threads, &to_ring); /* what the ring refused */
    give_threads(queue, &to_threads, done);
}

/* Takes note of requests that were submitted and of requests that are done, and starts what may start then: until
 * nothing more is done by that. Both lists are empty afterwards. */
static void advance(struct cellar_queue *queue, struct cellar_requests *submitted, struct cellar_requests *done)
{
    do {
        struct cellar_requests start = {0};

        pthread_mutex_lock(&queue->lock);
        atomic_fetch_add(&queue->outstanding, submitted->count);
        cellar_requests_move(&queue->waiting, submitted);
        if (queue->done.count == 0 && !queue->nudged && done->count > 0)
            eventfd_write(queue->event_fd, 1);
        queue->under_way -= done->count;
        cellar_requests_move(&queue->done, done);
        admit(queue, &start);
        pthread_mutex_unlock(&queue->lock);
        launch(queue, &start, done);
    } while (done->count > 0);
}

/* On a thread of the pool. */
static void note_done(void *user, struct cellar_request *request)
{
    struct cellar_requests submitted = {0}, done = {0};

    cellar_requests_append(&done, request);
    advance(user, &submitted, &done);
}

/* 0 without a ring, too, where threads will do. */
static int open_ring(struct cellar_queue *queue, enum cellar_io io)
{
    struct epoll_event event = {.events = EPOLLIN};
    int error = io != CELLAR_IO_THREADS ? cellar_ring_open(queue->depth, &queue->ring) : 0;

    if (error != 0 && io != CELLAR_IO_AUTO)
        return error;
    if (queue->ring == NULL)
        return 0;
    queue->poll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (queue->poll_fd < 0 || epoll_ctl(queue->poll_fd, EPOLL_CTL_ADD, queue->event_fd, &event) != 0 ||
        epoll_ctl(queue->poll_fd, EPOLL_CTL_ADD, cellar_ring_descriptor(queue->ring), &event) != 0)
        return -errno;
    return 0;
}

int cellar_queue_open(unsigned depth, enum cellar_io io, struct cellar_queue **ret_queue)
{
    struct cellar_queue *queue;
    int error = 0;

    if (depth < 1 || depth > DEPTH_MAX || (io != CELLAR_IO_AUTO && io != CELLAR_IO_URING && io != CELLAR_IO_THREADS))
        return -EINVAL;
    queue = calloc(1, sizeof *queue);
    if (queue == NULL)
        return -ENOMEM;
    queue->depth = depth;
    queue->process = getpid();
    queue->poll_fd = -1;
    pthread_mutex_init(&queue->lock, NULL);
    queue->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (queue->event_fd < 0)
        error = -errno;
    if (error == 0)
        error = cellar_threads_open(depth, note_done, queue, &queue->threads);
    if (error == 0)
        error = open_ring(queue, io);
    if (error != 0) {
        cellar_queue_close(queue);
        return error;
    }
    *ret_queue = queue;
    return 0;
}

/* What waits is dropped; what is under way, taken. */
static void drain(struct cellar_queue *queue)
{
    pthread_mutex_lock(&queue->lock);
    atomic_fetch_sub(&queue->outstanding, queue->waiting.count);
    queue->waiting = (struct cellar_requests){0};
    pthread_mutex_unlock(&queue->lock);
    while (cellar_queue_outstanding(queue) > 0)
        cellar_queue_take(queue, true);
}

void cellar_queue_close(struct cellar_queue *queue)
{
    if (queue == NULL)
        return;
    if (queue->process == getpid()) {
        drain(queue);
        cellar_threads_close(queue->threads);
        cellar_ring_close(queue->ring);
        pthread_mutex_destroy(&queue->lock);
    } else {
        cellar_threads_forget(queue->threads);
        cellar_ring_forget(queue->ring);
    }
    if (queue->poll_fd >= 0)
        close(queue->poll_fd);
    if (queue->event_fd >= 0)
        close(queue->event_fd);
    free(queue);
}

void cellar_queue_submit(struct cellar_queue *queue, struct cellar_request *requests)
{
    struct cellar_requests submitted = {0}, done = {0};
    struct cellar_request *next;

    for (struct cellar_request *request = requests; request != NULL; request = next) {
        next = request->next;
        cellar_requests_append(&submitted, request);
    }
    if (submitted.count > 0)
        advance(queue, &submitted, &done);
}

void cellar_queue_nudge(struct cellar_queue *queue)
{
    pthread_mutex_lock(&queue->lock);
    if (queue->done.count == 0 && !queue->nudged)
        eventfd_write(queue->event_fd, 1);
    queue->nudged = true;
    pthread_mutex_unlock(&queue->lock);
}

/* Moves all that is done now to taken, and starts what may start then. True: it was nudged. */
static bool collect(struct cellar_queue *queue, struct cellar_requests *taken)
{
    bool nudged;

    struct cellar_requests rest = {0}, start = {0}, submitted = {0}, done = {0};

    if (queue->ring != NULL)
        cellar_ring_reap(queue->ring, taken, &rest);
    give_threads(queue, &rest, &done);
    pthread_mutex_lock(&queue->lock);
    queue->under_way -= taken->count;
    nudged = queue->nudged;
    queue->nudged = false;
    if (queue->done.count > 0 || nudged) {
        eventfd_t value;

        eventfd_read(queue->event_fd, &value);
        cellar_requests_move(taken, &queue->done);
    }
    admit(queue, &start);
    atomic_fetch_sub(&queue->outstanding, taken->count);
    pthread_mutex_unlock(&queue->lock);
    launch(queue, &start, &done);
    if (done.count > 0)
        advance(queue, &submitted, &done);
    return nudged;
}

/* Waits until there may be something to collect. */
static void await(struct cellar_queue *queue)
{
    struct pollfd fds[2] = {{.fd = queue->event_fd, .events = POLLIN}, {.fd = -1, .events = POLLIN}};

    if (queue->ring != NULL)
        fds[1].fd = cellar_ring_descriptor(queue->ring);
    poll(fds, 2, -1); /* EINTR: the caller looks and waits again */
}

struct cellar_request *cellar_queue_take(struct cellar_queue *queue, bool wait)
{
    struct cellar_requests taken = {0};

    bool nudged = collect(queue, &taken);

    while (taken.count == 0 && wait && !nudged && cellar_queue_outstanding(queue) > 0) {
        await(queue);
        nudged = collect(queue, &taken);
    }
    return taken.first;
}

unsigned cellar_queue_outstanding(const struct cellar_queue *queue)
{
    return atomic_load(&queue->outstanding);
}

int cellar_queue_descriptor(const struct cellar_queue *queue)
{
    return queue->poll_fd >= 0 ? queue->poll_fd : queue->event_fd;
}

const char *cellar_queue_name(const struct cellar_queue *queue)
{
    return queue->ring != NULL && cellar_ring_works(queue->ring) ? "io_uring" : "threads";
}
