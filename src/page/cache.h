/* cache.h - the inside of a cache, for the files of this room. The outside is <cellar/cache.h>. */
#ifndef CELLAR_PAGE_CACHE_H
#define CELLAR_PAGE_CACHE_H

#include "page/evict.h"
#include "page/frame.h"
#include "page/load.h"
#include "page/table.h"
#include <cellar/cache.h>

struct cellar_cache {
    struct cellar_cache_front front; /* first: the inline gets of <cellar/cache.h> know it */
    struct cellar_source source;
    struct cellar_buffers buffers;
    struct cellar_table table; /* page address >> page_shift -> frame */
    const struct cellar_evict_ops *evict;
    void *evict_state;
    struct cellar_frame *frames; /* page_count + 1: one is free to load into while all others hold pages */
    struct cellar_frame *free;   /* frames that were used before, linked by older */
    size_t frames_touched;       /* the frames from here on have never been used */
    size_t page_bytes, page_count;
    size_t held;   /* frames that are cached or stale */
    size_t pinned; /* frames with pins > 0 */
    uint64_t misses, evictions;
    uint64_t fault_address;
};

static inline uint64_t cellar_cache_page_of(const struct cellar_cache *cache, uint64_t address)
{
    return address & ~(uint64_t)(cache->page_bytes - 1);
}

/*
 * Finds or loads the page at page_address, with at least need bytes (0 to page_bytes) if the source has them by now:
 * the caller compares frame->length. The frame is valid until the next call on the cache unless it is pinned.
 * CELLAR_NONE: the source ends at or before page_address.
 */
int cellar_cache_find(struct cellar_cache *cache, uint64_t page_address, size_t need, struct cellar_frame **ret_frame);

void cellar_cache_pin(struct cellar_cache *cache, struct cellar_frame *frame);
void cellar_cache_unpin(struct cellar_cache *cache, struct cellar_frame *frame);

#endif
