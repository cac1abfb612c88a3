/*
 * queue.h - reads and writes of devices that go on in the background, up to a depth at a time.
 *
 * A queue runs requests on io_uring, where the kernel gives one and the device has a descriptor for it, and on a pool
 * of threads that call the device everywhere else; which one is chosen for each request. What the ring leaves undone (a
 * transfer that was cut short, or that the kernel dropped because the thread that submitted it ended) a thread
 * finishes. A request that has been submitted belongs to the queue until cellar_queue_take gives it back; they come
 * back in any order. At most depth requests are under way; those submitted beyond wait their turn in the order in which
 * they came.
 *
 *     cellar_queue_open(32, CELLAR_IO_AUTO, &queue);
 *     cellar_queue_submit(queue, &request);
 *     done = cellar_queue_take(queue, true);          the requests that are done, linked by next
 *
 * What waits its turn is started when a thread finishes a request, and by take when the ring did.
 *
 * Threads: submit and the accessors on any number of threads at once; take on one at a time (it may wait while others
 * submit); close beside nothing else. Threads are started by the requests that need them, at most depth, with all
 * signals blocked but those that a thread's own fault raises, and end with close.
 *
 * fork: a child has none of the threads, and the ring is its parent's. There close only frees memory and descriptors;
 * no other call may be made.
 */
#ifndef CELLAR_DEVICE_QUEUE_H
#define CELLAR_DEVICE_QUEUE_H

#include <cellar/device.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

struct cellar_queue;

/* Fill in what stands above result; all of it but next, and the bytes, stays as it is until the request is taken. */
struct cellar_request {
    struct cellar_device *device;
    bool writes;
    const struct iovec *parts; /* read into, or written from, one behind the other; not changed */
    int part_count;            /* 1 to IOV_MAX */
    uint64_t offset;
    void *user; /* the submitter's own */

    struct cellar_request *next; /* submit: the next one, NULL ends the list; take gives a list alike */

    /* As cellar_device_read (all of it, or an error: CELLAR_EBOUNDS at the end of the device) or cellar_device_write;
     * each part of a read is of whole blocks. Bounds of a write are checked before it starts. Counted in the device's
     * counters as those calls are. */
    int result;
    bool untouched; /* nothing of it was even tried: there was no thread for it (the result says why) */

    /* The queue's own. */
    bool begun;           /* cellar_device_begin said that it may */
    int descriptor;       /* on the ring */
    uint64_t moved_bytes; /* by the ring, before it was cut short */
    uint64_t total_bytes; /* of all parts, once begun */
};

/* depth 1 to 4096, else -EINVAL. io CELLAR_IO_URING: -ENOTSUP where there is none (also where the library was built
 * without it). -ENOMEM, errors of io_uring_setup and eventfd. */
int cellar_queue_open(unsigned depth, enum cellar_io io, struct cellar_queue **ret_queue);

/* Waits for what is under way (what waited its turn is dropped, as is what was done and not taken). Afterwards the
 * queue touches no request and no memory of one. NULL is fine. */
void cellar_queue_close(struct cellar_queue *queue);

/* Submits a list of requests, linked by next, in its order; those for the ring reach the kernel in one call. NULL is
 * fine. Never waits for a transfer, never fails: what can't be started is done at once with that error as its result.
 * (Whether a device with a descriptor may be written to, and how long it is, is asked here; on Linux a read of bytes
 * that the kernel has in memory is done here, too.) */
void cellar_queue_submit(struct cellar_queue *queue, struct cellar_request *requests);

/* The requests that are done, linked by next; NULL: none. wait: waits until at least one is, or none is left that was
 * submitted and not taken. */
struct cellar_request *cellar_queue_take(struct cellar_queue *queue, bool wait);

/* The take that waits now, or the next one, returns soon, perhaps with NULL: something else has happened. Any thread.
 */
void cellar_queue_nudge(struct cellar_queue *queue);

/* Submitted and not taken yet. */
unsigned cellar_queue_outstanding(const struct cellar_queue *queue);

/* Readable (POLLIN) while something is there for take, and else not: a request that is done, or one that the ring left
 * for a thread to finish (take may then give NULL). The queue's own, for poll alone; level-triggered. */
int cellar_queue_descriptor(const struct cellar_queue *queue);

/* "io_uring", or "threads" where there is no ring, or the kernel has begun to refuse it (a sandbox entered later). */
const char *cellar_queue_name(const struct cellar_queue *queue);

#endif
