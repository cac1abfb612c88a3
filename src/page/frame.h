/* frame.h - what holds one page of the cache. See the states on top of cache.c. */
#ifndef CELLAR_PAGE_FRAME_H
#define CELLAR_PAGE_FRAME_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum cellar_frame_state {
    CELLAR_FRAME_FREE,   /* holds nothing */
    CELLAR_FRAME_CACHED, /* in the page table and in the queue of the eviction */
    CELLAR_FRAME_STALE,  /* in neither any more, but pinned */
};

struct cellar_frame {
    unsigned char
        visited;         /* first, as the lines of <cellar/cache.h> point at it: used since the eviction looked last */
    unsigned char state; /* enum cellar_frame_state */
    bool lent;           /* bytes are the source's, to be released; else they stand in buffer */
    uint32_t pins;
    uint64_t address; /* of the page, in bytes */
    const unsigned char *bytes;
    size_t length;         /* 1 to page_bytes; less than a page for the last one only */
    unsigned char *buffer; /* page_bytes of its own, or NULL before they are needed; stays with the frame */
    struct cellar_frame *newer, *older; /* for the eviction; older also links the free frames */
};

#endif
