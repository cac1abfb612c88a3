/* load.h - where the pages of a cache come from: a device, or a map function; and the memory for copies of them. */
#ifndef CELLAR_PAGE_LOAD_H
#define CELLAR_PAGE_LOAD_H

#include "page/frame.h"
#include <cellar/cache.h>
#include <cellar/device.h>

/* Addresses from here on are never asked for: nothing is there. */
#define CELLAR_SOURCE_END ((uint64_t)1 << 63)

struct cellar_source {
    struct cellar_device *device; /* NULL: the functions */
    cellar_map_function *map;
    cellar_unmap_function *unmap; /* may be NULL */
    void *user;
    uint64_t size_bytes; /* of the device, when it was asked last; it may be larger by now */
};

/* The buffers of a cache's frames, carved from slabs; a buffer stays with its frame for the life of the cache. */
struct cellar_buffers {
    size_t page_bytes, pages_left; /* pages_left: not yet in any slab */
    unsigned char *next;           /* of the newest slab */
    size_t next_pages;
    void **slabs;
    size_t slab_count;
};

void cellar_buffers_open(struct cellar_buffers *buffers, size_t page_bytes, size_t page_count);
void cellar_buffers_close(struct cellar_buffers *buffers);

/*
 * Loads up to length bytes at address, as many as there are now, into frame: bytes, length, lent and, where it is a
 * copy, buffer are set. length 0 (nothing there) leaves nothing to release. On failure the frame is as it was.
 * Errors: the source's; -ENOMEM; -EIO from a device that refuses bytes which lie within its size.
 */
int cellar_source_load(struct cellar_source *source, struct cellar_buffers *buffers, uint64_t address, size_t length,
                       struct cellar_frame *frame);
void cellar_source_release(const struct cellar_source *source, struct cellar_frame *frame);

/* True if more than [0, address) may be there now: asks a device for its size; a map function can't tell. */
int cellar_source_reaches(struct cellar_source *source, uint64_t address, bool *ret_reaches);

/* Lends up to length bytes at address in one piece, as many as there are, until end_run. */
int cellar_source_run(struct cellar_source *source, uint64_t address, size_t length, const void **ret_bytes,
                      size_t *ret_length);
void cellar_source_end_run(const struct cellar_source *source, const void *bytes, size_t length);

/* Copies the bytes [from, to) of the page at page_address to buffer + from: all of them, or CELLAR_EBOUNDS. A map
 * function is asked for the whole page. */
int cellar_source_copy(struct cellar_source *source, uint64_t page_address, size_t page_bytes, size_t from, size_t to,
                       unsigned char *buffer);

#endif
