/*
 * evict.h - which page to give up: one table for each way of choosing.
 *
 * The cache tells a policy which frames hold pages; use of a page is not told, but marked in frame->visited, so
 * that a hit costs one store. The links newer and older of a cached frame belong to the policy; page, pins and the rest
 * are the cache's, to be read.
 */
#ifndef CELLAR_PAGE_EVICT_H
#define CELLAR_PAGE_EVICT_H

#include "page/frame.h"

struct cellar_evict_ops {
    const char *name;

    /* For a cache of page_count pages. 0 or -ENOMEM. */
    int (*open)(size_t page_count, void **ret_state);
    void (*close)(void *state);

    /* frame holds a page from now on. */
    void (*insert)(void *state, struct cellar_frame *frame);

    /* frame, inserted before, holds none any more, whether it was chosen or not. */
    void (*remove)(void *state, struct cellar_frame *frame);

    /* The frame to give up, never a pinned one; at least one that was inserted isn't pinned. remove follows. */
    struct cellar_frame *(*choose)(void *state);
};

extern const struct cellar_evict_ops cellar_evict_sieve;

#endif
