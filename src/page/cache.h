/* cache.h - the inside of a handle, for the files of this room. The outside is <cellar/cache.h>. */
#ifndef CELLAR_PAGE_CACHE_H
#define CELLAR_PAGE_CACHE_H

#include "page/frame.h"
#include <cellar/cache.h>
#include <stdalign.h>

struct cellar_pool;

/* Hazard 0 is the page that the handle looked at last; the others are fixed pages. */
enum { CELLAR_HAZARDS = 16 };

struct cellar_cache {
    struct cellar_cache_front front; /* first: the inline gets of <cellar/cache.h> know it */
    struct cellar_pool *pool;
    struct cellar_cache *next_handle;
    uint64_t version;
    uint64_t limit_bytes;
    bool snapshot; /* a pipeline's: overwritten pages are kept for it */
    uint64_t misses;
    uint64_t fault_address;

    /* The page that was loaded last, as long as no other one has been looked at: its uses are one, see evict.h. */
    struct cellar_frame *fresh;
    uint64_t fresh_page;
    unsigned char sink; /* takes the marks of a fresh page's line */

    /* Reading in order: the page that would be next, how far ahead is read, and up to where it has been. */
    uint64_t next_page, ahead_page;
    unsigned ahead_window;

    /* Asynchronous loads of this handle: those that are done, and how many there are. Under the pool's lock. */
    struct cellar_async *finished, **finished_end;
    size_t awaited;
    int event; /* eventfd: finished is not empty; -1 before the descriptor is asked for */
    int epoll;

    /* What the handle protects from being given up, of a pool that is shared. Its thread writes, all read. */
    alignas(64) struct cellar_frame *_Atomic hazards[CELLAR_HAZARDS];
    uint32_t hazards_used;
};

/* A page as a handle sees it: what there is below its limit. */
struct cellar_view {
    struct cellar_frame *frame;
    uint64_t address; /* of the page */
    const unsigned char *bytes;
    size_t length;
};

static inline size_t cellar_cache_page_size(const struct cellar_cache *cache)
{
    return (size_t)1 << cache->front.page_shift;
}

static inline uint64_t cellar_cache_page_of(const struct cellar_cache *cache, uint64_t address)
{
    return address >> cache->front.page_shift << cache->front.page_shift;
}

/*
 * Finds or loads the page at page_address, with at least need bytes (0 to a page) if the source has them by now: the
 * caller compares the view's length. Valid until the next call on the handle, or cellar_cache_let_go, unless it is
 * pinned. CELLAR_NONE: the source ends at or before page_address.
 */
int cellar_cache_find(struct cellar_cache *cache, uint64_t page_address, size_t need, struct cellar_view *ret_view);

/* The page found last may go. */
void cellar_cache_let_go(struct cellar_cache *cache);

/* Pins the frame found last; *ret_slot goes with it to unpin. */
void cellar_cache_pin(struct cellar_cache *cache, struct cellar_frame *frame, unsigned *ret_slot);
void cellar_cache_unpin(struct cellar_cache *cache, struct cellar_frame *frame, unsigned slot);

/* Empties the lines, or the one that shows the page. */
void cellar_cache_clear_lines(struct cellar_cache *cache);
void cellar_cache_clear_line(struct cellar_cache *cache, uint64_t page);

/* The rest of share, for a snapshot too: at this version and limit. */
int cellar_cache_share_at(struct cellar_cache *cache, uint64_t version, uint64_t limit_bytes, bool snapshot,
                          struct cellar_cache **ret_cache);

#endif
