/*
 * queue_ring.c - the io_uring of a queue.
 *
 * Order. A request goes to the kernel on one thread and comes back on another, and the kernel is no lock that the
 * language knows of: entered is counted up (release) before each entry, and loaded (acquire) before a request that came
 * back is touched. From the entry on nothing of a request is looked at on the way in, since it may be taken already.
 *
 * The submission side is empty whenever its lock is free, unless the ring has been refused. As no more than depth
 * requests are under way, neither side ever overflows.
 */
#include "device/queue_internal.h"

#include <errno.h>
#include <stdlib.h>

#if CELLAR_HAVE_URING

#include "device/device.h"

#include <liburing.h>
#include <pthread.h>
#include <stdatomic.h>
#include <unistd.h>

struct cellar_ring {
    struct io_uring uring;
    atomic_bool refused;
    atomic_uint entered;
    pthread_mutex_t lock;            /* for the submission side, and pushed */
    struct cellar_request *pushed[]; /* during an entry: what it takes, in that order */
};

/* Whether the kernel knows, and we may use, what is asked of a ring here. */
static bool has_all(struct io_uring *uring)
{
    struct io_uring_probe *probe = io_uring_get_probe_ring(uring);
    bool has = probe != NULL && io_uring_opcode_supported(probe, IORING_OP_READV) != 0 &&
               io_uring_opcode_supported(probe, IORING_OP_WRITEV) != 0;

    io_uring_free_probe(probe);
    return has;
}

int cellar_ring_open(unsigned depth, struct cellar_ring **ret_ring)
{
    struct cellar_ring *ring = calloc(1, sizeof *ring + depth * sizeof ring->pushed[0]);
    int error;

    if (ring == NULL)
        return -ENOMEM;
    error = io_uring_queue_init(depth, &ring->uring, 0);
    if (error == 0 && !has_all(&ring->uring)) {
        io_uring_queue_exit(&ring->uring);
        error = -ENOTSUP;
    }
    if (error != 0) {
        free(ring);
        return error == -ENOSYS || error == -EPERM || error == -EACCES ? -ENOTSUP : error;
    }
    io_uring_ring_dontfork(&ring->uring);
    pthread_mutex_init(&ring->lock, NULL);
    *ret_ring = ring;
    return 0;
}

static void prepare(struct io_uring_sqe *sqe, struct cellar_request *request)
{
    unsigned part_count = (unsigned)request->part_count;

    if (request->writes)
        io_uring_prep_writev(sqe, request->descriptor, request->parts, part_count, request->offset);
    else
        io_uring_prep_readv(sqe, request->descriptor, request->parts, part_count, request->offset);
    io_uring_sqe_set_data(sqe, request);
}

/* Enters the kernel until it has looked at all that is prepared; false: it refuses to. */
static bool enter(struct cellar_ring *ring)
{
    atomic_fetch_add_explicit(&ring->entered, 1, memory_order_release);
    while (io_uring_sq_ready(&ring->uring) > 0) {
        int result = io_uring_submit(&ring->uring);

        if (result == 0 || (result < 0 && result != -EINTR))
            return false;
    }
    return true;
}

void cellar_ring_push(struct cellar_ring *ring, struct cellar_requests *requests)
{
    struct cellar_request *request;
    struct io_uring_sqe *sqe;
    unsigned count = 0, left = 0;

    pthread_mutex_lock(&ring->lock);
    while (cellar_ring_works(ring) && requests->count > 0 && (sqe = io_uring_get_sqe(&ring->uring)) != NULL) {
        request = cellar_requests_pop(requests);
        prepare(sqe, request);
        ring->pushed[count++] = request;
    }
    if (count > 0 && !enter(ring)) {
        /* Short of memory, or forbidden from here on. What it hasn't looked at it never will: nobody enters again. */
        atomic_store(&ring->refused, true);
        left = io_uring_sq_ready(&ring->uring);
    }
    for (unsigned i = count - left; i < count; i++)
        cellar_requests_append(requests, ring->pushed[i]);
    pthread_mutex_unlock(&ring->lock);
}

bool cellar_ring_works(const struct cellar_ring *ring)
{
    return !atomic_load_explicit(&ring->refused, memory_order_relaxed);
}

/* Whether a thread may have more luck than the ring: the kernel gave up before anything was transferred. */
static bool is_passing(int result)
{
    return result == -EINTR || result == -EAGAIN || result == -ECANCELED || result == -EOPNOTSUPP;
}

/* What became of a request: true, it is done; false, a thread must finish it. */
static bool settle(struct cellar_request *request, int moved)
{
    uint32_t block_bytes = cellar_device_block_bytes(request->device);

    if (moved == 0)
        request->result = request->writes ? -EIO : CELLAR_EBOUNDS;
    else if (moved < 0 && !is_passing(moved))
        request->result = moved;
    else if (moved > 0 && (uint64_t)moved == request->total_bytes)
        request->result = cellar_device_finish(request->device, request->writes, request->parts, request->part_count,
                                               request->offset, request->total_bytes, request->total_bytes);
    else {
        request->moved_bytes = moved > 0 ? (uint64_t)moved & ~(uint64_t)(block_bytes - 1) : 0;
        cellar_device_count_retry(request->device);
        return false;
    }
    return true;
}

void cellar_ring_reap(struct cellar_ring *ring, struct cellar_requests *done, struct cellar_requests *rest)
{
    struct io_uring_cqe *cqe;
    unsigned head, count = 0;

    io_uring_for_each_cqe(&ring->uring, head, cqe)
    {
        struct cellar_request *request;

        (void)atomic_load_explicit(&ring->entered, memory_order_acquire);
        request = io_uring_cqe_get_data(cqe);
        cellar_requests_append(settle(request, cqe->res) ? done : rest, request);
        count++;
    }
    io_uring_cq_advance(&ring->uring, count);
}

int cellar_ring_descriptor(const struct cellar_ring *ring)
{
    return ring->uring.ring_fd;
}

void cellar_ring_close(struct cellar_ring *ring)
{
    if (ring == NULL)
        return;
    io_uring_queue_exit(&ring->uring);
    pthread_mutex_destroy(&ring->lock);
    free(ring);
}

/* The mappings didn't come along (dontfork): something else may be in their place. */
void cellar_ring_forget(struct cellar_ring *ring)
{
    if (ring == NULL)
        return;
    close(ring->uring.ring_fd);
    free(ring);
}

#else

/* Built without liburing: there is never a ring. */
int cellar_ring_open(unsigned depth, struct cellar_ring **ret_ring)
{
    (void)depth;
    (void)ret_ring;
    return -ENOTSUP;
}

void cellar_ring_push(struct cellar_ring *ring, struct cellar_requests *requests)
{
    (void)ring;
    (void)requests;
}

bool cellar_ring_works(const struct cellar_ring *ring)
{
    (void)ring;
    return false;
}

void cellar_ring_reap(struct cellar_ring *ring, struct cellar_requests *done, struct cellar_requests *rest)
{
    (void)ring;
    (void)done;
    (void)rest;
}

int cellar_ring_descriptor(const struct cellar_ring *ring)
{
    (void)ring;
    return -1;
}

void cellar_ring_close(struct cellar_ring *ring)
{
    (void)ring;
}

void cellar_ring_forget(struct cellar_ring *ring)
{
    (void)ring;
}

#endif
