/*
 * evict.h - which page to give up: one table for each way of choosing.
 *
 * The cache tells a policy which frames hold pages; use of a page is not told, but marked in frame->visited, so
 * that a hit costs one load, or one store. A page is marked when it is used again after a look at another page: the
 * many reads of one pass over a page count as one use. The links newer and older of a frame, and queue, belong to the
 * policy from insert to remove; page and pins are the cache's, to be read. All calls come under the lock of the pool.
 */
#ifndef CELLAR_PAGE_EVICT_H
#define CELLAR_PAGE_EVICT_H

#include "page/frame.h"
#include <cellar/cache.h>

struct cellar_evict_ops {
    const char *name;

    /* For a cache of page_count pages. 0 or -ENOMEM. */
    int (*open)(size_t page_count, void **ret_state);
    void (*close)(void *state);

    /* frame holds page frame->page from now on; its mark is taken away. */
    void (*insert)(void *state, struct cellar_frame *frame);

    /* frame, inserted before, holds none any more, whether it was chosen or not. */
    void (*remove)(void *state, struct cellar_frame *frame);

    /* The frame to give up, never one with pins; NULL where all have some. remove follows, or choose again. */
    struct cellar_frame *(*choose)(void *state);
};

extern const struct cellar_evict_ops cellar_evict_sieve, cellar_evict_s3fifo, cellar_evict_clock;

/* NULL: no such policy. */
const struct cellar_evict_ops *cellar_evict_find(enum cellar_eviction eviction);

#endif
