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
    bool lends;          /* pages may be lent; else they are copies */
    uint64_t size_bytes; /* of the device, when it was asked last; it may be larger by now. Any thread. */
};

/* The buffers of a cache's frames, carved from slabs; a buffer stays with its frame for the life of the cache. */
struct cellar_buffers {
    size_t page_bytes, pages_left; /* pages_left: not yet in any slab */
    bool guarded;                  /* each is a mapping of its own, inaccessible while its frame is free */
    unsigned char *next;           /* of the newest slab */
    size_t next_pages;
    void **slabs;
    size_t slab_count;
};

void cellar_buffers_open(struct cellar_buffers *buffers, size_t page_bytes, size_t page_count, bool guarded);
/* frames: those that may have buffers. */
void cellar_buffers_close(struct cellar_buffers *buffers, const struct cellar_frame *frames, size_t frame_count);

/* The frame has a buffer, which can be written. 0 or -ENOMEM. */
int cellar_buffers_give(struct cellar_buffers *buffers, struct cellar_frame *frame);

/* The frame is free: nobody should look at its buffer. */
void cellar_buffers_hide(const struct cellar_buffers *buffers, const struct cellar_frame *frame);

/* The debug mode's: a mapping that nobody should look into any more. Its memory goes, its addresses are not used again.
 */
void cellar_bury(void *bytes, size_t length);

/*
 * Loads up to length bytes, as many as there are now, into frame: bytes, length and lent are set. place says where, and
 * page_address is what a map function is asked for. length 0 (nothing there) leaves nothing to release. On failure the
 * frame is as it was. Takes no lock. Errors: the source's; -ENOMEM, also where a device has no more memory to lend and
 * the frame no buffer; -EIO from a device that refuses bytes which lie within its size.
 */
int cellar_source_load(struct cellar_source *source, const struct cellar_place *place, uint64_t page_address,
                       size_t length, struct cellar_frame *frame);
void cellar_source_release(const struct cellar_source *source, struct cellar_frame *frame);

/* What a read of length bytes at place must ask for: whole blocks. A limit may lie within one. */
static inline size_t cellar_place_read_bytes(const struct cellar_place *place, size_t length)
{
    size_t block_mask = cellar_device_block_bytes(place->device) - 1;

    return (length + block_mask) & ~block_mask;
}

/* How many of length bytes at place a device has now. */
int cellar_source_available(struct cellar_source *source, const struct cellar_place *place, size_t length,
                            size_t *ret_length);

/* The device has been cut: its size is asked for again. */
void cellar_source_forget_size(struct cellar_source *source);

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
