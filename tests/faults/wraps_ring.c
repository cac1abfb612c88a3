/* wraps_ring.c - io_uring of the library: there or not, and failing. Only where it was built with it. */
#include "wraps.h"

#include "plan.h"

#include <errno.h>

struct io_uring;

int __real_io_uring_queue_init(unsigned entries, struct io_uring *ring, unsigned flags);
int __real_io_uring_submit(struct io_uring *ring);
int __wrap_io_uring_queue_init(unsigned entries, struct io_uring *ring, unsigned flags);
int __wrap_io_uring_submit(struct io_uring *ring);

static bool ring_allowed;

void wraps_allow_ring(bool on)
{
    ring_allowed = on;
}

int __wrap_io_uring_queue_init(unsigned entries, struct io_uring *ring, unsigned flags)
{
    const struct fault *fault = plan_meet(SITE_RING_INIT);

    if (fault != NULL)
        return -fault->error;
    return ring_allowed ? __real_io_uring_queue_init(entries, ring, flags) : -EPERM;
}

int __wrap_io_uring_submit(struct io_uring *ring)
{
    const struct fault *fault = plan_meet(SITE_RING_SUBMIT);

    return fault != NULL ? -fault->error : __real_io_uring_submit(ring);
}
