/* queue_internal.h - what a queue is made of: lists of requests, a pool of threads, a ring. For queue*.c alone. */
#ifndef CELLAR_DEVICE_QUEUE_INTERNAL_H
#define CELLAR_DEVICE_QUEUE_INTERNAL_H

#include "device/queue.h"

/* A list of requests, first in, first out; all zero is empty. */
struct cellar_requests {
    struct cellar_request *first, *last;
    unsigned count;
};

static inline void cellar_requests_append(struct cellar_requests *requests, struct cellar_request *request)
{
    request->next = NULL;
    if (requests->last != NULL)
        requests->last->next = request;
    else
        requests->first = request;
    requests->last = request;
    requests->count++;
}

/* NULL: none is left. */
static inline struct cellar_request *cellar_requests_pop(struct cellar_requests *requests)
{
    struct cellar_request *request = requests->first;

    if (request == NULL)
        return NULL;
    requests->first = request->next;
    if (requests->first == NULL)
        requests->last = NULL;
    requests->count--;
    request->next = NULL;
    return request;
}

/* Moves all of from behind those of to. */
static inline void cellar_requests_move(struct cellar_requests *to, struct cellar_requests *from)
{
    if (from->first == NULL)
        return;
    if (to->last != NULL)
        to->last->next = from->first;
    else
        to->first = from->first;
    to->last = from->last;
    to->count += from->count;
    *from = (struct cellar_requests){0};
}

/*
 * A pool of threads, each of which runs one request at a time by the device's own calls: all of it, or, of one that the
 * ring has begun, what comes after moved_bytes. Give may be called on any thread.
 */
struct cellar_threads;

/* At most count_max threads, none at first. done is called on the thread that ran the request, with result set and no
 * lock held; it may give more. -ENOMEM. */
int cellar_threads_open(unsigned count_max, void (*done)(void *user, struct cellar_request *request), void *user,
                        struct cellar_threads **ret_threads);

/* Takes all of the requests, in their order. Where no thread could be started at all they stay in requests: the error
 * of pthread_create. */
int cellar_threads_give(struct cellar_threads *threads, struct cellar_requests *requests);

/* Runs what was given, and ends the threads. NULL is fine. */
void cellar_threads_close(struct cellar_threads *threads);

/* In a child after fork: frees the memory alone. NULL is fine. */
void cellar_threads_forget(struct cellar_threads *threads);

/* An io_uring. Push may be called on any thread, reap on one at a time. */
struct cellar_ring;

/* For at most depth requests at a time. -ENOTSUP: the library was built without io_uring, or the kernel has none for
 * us. Other errors of io_uring_setup, -ENOMEM. */
int cellar_ring_open(unsigned depth, struct cellar_ring **ret_ring);

/* Starts requests that have begun, on their descriptors. Those that the kernel refused to look at are left in requests,
 * and from then on the ring is of no more use. */
void cellar_ring_push(struct cellar_ring *ring, struct cellar_requests *requests);

/* False once the kernel has refused. What it took before comes back all the same. */
bool cellar_ring_works(const struct cellar_ring *ring);

/* Appends what the ring has done: to done with its result; to rest what is left for a thread to finish. */
void cellar_ring_reap(struct cellar_ring *ring, struct cellar_requests *done, struct cellar_requests *rest);

/* Readable while there is something to reap. */
int cellar_ring_descriptor(const struct cellar_ring *ring);

/* With nothing under way. NULL is fine. */
void cellar_ring_close(struct cellar_ring *ring);

/* In a child after fork: closes the descriptor and frees the memory, and leaves what is shared with the parent alone.
 * NULL is fine. */
void cellar_ring_forget(struct cellar_ring *ring);

#endif
