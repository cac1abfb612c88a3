/* frame.h - what holds one page of the cache. See the states on top of pool.c. */
#ifndef CELLAR_PAGE_FRAME_H
#define CELLAR_PAGE_FRAME_H

#include <stdalign.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct cellar_async;
struct cellar_fetch;

/* A line of the processor's cache. */
enum { CELLAR_FRAME_ALIGN = 64 };

enum cellar_frame_state {
    CELLAR_FRAME_FREE,    /* holds nothing */
    CELLAR_FRAME_LOADING, /* in the table for those who hold the pool's lock; its bytes are on their way */
    CELLAR_FRAME_CACHED,  /* in the table, and in the queue of the eviction */
    CELLAR_FRAME_OLD,     /* in the table, for versions before a commit; kept for a snapshot */
    CELLAR_FRAME_STALE,   /* no longer in the table, but pinned */
};

/*
 * A frame never ceases to be one: threads that look at it without a lock may meet it in any state, and read only tag,
 * from and until, until they have made sure that it stays (see pool.c).
 */
struct cellar_frame {
    /* The first 64 bytes, one line of the processor's cache, are all that a hit looks at. */

    /* First, as the lines of <cellar/cache.h> point at it: used since the eviction looked last. Any thread sets it. */
    alignas(CELLAR_FRAME_ALIGN) unsigned char visited;
    unsigned char state;  /* enum cellar_frame_state */
    bool lent;            /* bytes are the source's, to be released; else they stand in buffer */
    bool ahead;           /* was read ahead, and nobody has asked for it yet */
    bool doomed;          /* LOADING: what it loads has been overwritten; who waits for it looks again */
    unsigned char queue;  /* CACHED: which of its queues the eviction has it in */
    uint32_t pins;        /* only changed under the pool's lock; one for each fix and for each call that waits */
    int error;            /* STALE: of the load that failed, for those who waited; else 0 */
    _Atomic uint64_t tag; /* page number + 1 where the frame may be used without a lock; else 0 */
    /* The page is this one for the versions from <= version < until; until is UINT64_MAX for the newest. */
    _Atomic uint64_t from, until;
    struct cellar_frame *_Atomic chain; /* the next frame of the same slot of the table */
    const unsigned char *bytes;
    size_t length; /* 1 to page_bytes; less than a page for the last one only */

    uint64_t page;                      /* its number: address / page_bytes */
    unsigned char *buffer;              /* page_bytes of its own, or NULL before they are needed */
    struct cellar_fetch *fetch;         /* LOADING: the request that brings it; NULL: a thread does */
    struct cellar_async *waits;         /* LOADING: asynchronous loads that go on when it has come */
    struct cellar_frame *newer, *older; /* CACHED: the eviction's; FREE, STALE, OLD: those of their lists */
    struct cellar_frame *passed;        /* CACHED: the one that a search for a page to give up has passed before */
};

/* Marks are set and looked at by many threads, and may be lost. */
static inline bool cellar_frame_visited(const struct cellar_frame *frame)
{
    return __atomic_load_n(&frame->visited, __ATOMIC_RELAXED) != 0;
}

/* Writes only what changes, so that a page that many threads use stays in the caches of all. */
static inline void cellar_frame_mark(struct cellar_frame *frame, bool visited)
{
    if (cellar_frame_visited(frame) != visited)
        __atomic_store_n(&frame->visited, visited, __ATOMIC_RELAXED);
}

static inline bool cellar_frame_is_ahead(const struct cellar_frame *frame)
{
    return __atomic_load_n(&frame->ahead, __ATOMIC_RELAXED);
}

static inline void cellar_frame_set_ahead(struct cellar_frame *frame, bool ahead)
{
    __atomic_store_n(&frame->ahead, ahead, __ATOMIC_RELAXED);
}

#endif
