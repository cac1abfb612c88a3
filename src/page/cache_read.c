/* cache_read.c - everything that reads through a cache: pages, walks, ranges, maps. */
#include "page/cache.h"

#include <errno.h>

int cellar_cache_load(struct cellar_cache *cache, uint64_t address, size_t length, struct cellar_slice *ret_slice)
{
    uint64_t page_address = cellar_cache_page_of(cache, address);
    size_t offset = (size_t)(address - page_address);
    struct cellar_frame *frame;
    int error;

    if (length > cache->page_bytes)
        return -EINVAL;
    if (offset + length > cache->page_bytes)
        return CELLAR_NONE;
    error = cellar_cache_find(cache, page_address, offset + length, &frame);
    if (error == CELLAR_NONE && offset + length == 0) {
        *ret_slice = (struct cellar_slice){.address = page_address};
        return 0;
    }
    if (error != 0)
        return error;
    if (frame->length < offset + length)
        return CELLAR_NONE;
    *ret_slice = (struct cellar_slice){page_address, frame->bytes, frame->length};
    return 0;
}

int cellar_cache_next(struct cellar_cache *cache, const struct cellar_slice *slice, struct cellar_slice *ret_slice)
{
    uint64_t page_address = cellar_cache_page_of(cache, slice->address);

    if (page_address >= CELLAR_SOURCE_END)
        return CELLAR_NONE;
    return cellar_cache_load(cache, page_address + cache->page_bytes, 1, ret_slice);
}

int cellar_cache_walk(struct cellar_cache *cache, uint64_t *address, struct cellar_slice *ret_slice)
{
    struct cellar_slice page, rest;
    int error = cellar_cache_load(cache, *address, 1, &page);

    if (error == 0)
        error = cellar_slice_rest(&page, *address, &rest);
    if (error != 0)
        return error;
    *address = rest.address + rest.length;
    *ret_slice = rest;
    return 0;
}

/* CELLAR_EBOUNDS, with the first address from address on that is not there. */
static int fault(struct cellar_cache *cache, uint64_t address, uint64_t end)
{
    cache->fault_address = address > end ? address : end;
    return CELLAR_EBOUNDS;
}

int cellar_cache_read(struct cellar_cache *cache, uint64_t address, void *buffer, size_t length)
{
    unsigned char *to = buffer;

    while (length > 0) {
        size_t offset = (size_t)(address - cellar_cache_page_of(cache, address));
        size_t part = cache->page_bytes - offset < length ? cache->page_bytes - offset : length;
        const unsigned char *bytes = cellar_cache_peek(cache, address, part);

        if (bytes == NULL) {
            struct cellar_frame *frame;
            int error = cellar_cache_find(cache, address - offset, offset + part, &frame);

            if (error == CELLAR_NONE)
                return fault(cache, address, 0);
            if (error != 0)
                return error;
            if (frame->length < offset + part)
                return fault(cache, address, frame->address + frame->length);
            bytes = frame->bytes + offset;
        }
        memcpy(to, bytes, part);
        to += part;
        address += part;
        length -= part;
    }
    return 0;
}

/*
 * Pins the page of address and gives what it has from address on, at least 1 byte and at most length; length bytes if
 * the source has them in this page. CELLAR_EBOUNDS: nothing is there.
 */
static int pin_piece(struct cellar_cache *cache, uint64_t address, size_t length, struct cellar_frame **ret_frame,
                     struct cellar_slice *ret_piece)
{
    size_t offset = (size_t)(address - cellar_cache_page_of(cache, address)), there;
    struct cellar_frame *frame;
    int error = cellar_cache_find(cache, address - offset, offset + length, &frame);

    if (error == CELLAR_NONE)
        return fault(cache, address, 0);
    if (error != 0)
        return error;
    if (frame->length <= offset)
        return fault(cache, address, frame->address + frame->length);
    cellar_cache_pin(cache, frame);
    there = frame->length - offset;
    *ret_frame = frame;
    *ret_piece = (struct cellar_slice){address, frame->bytes + offset, there < length ? there : length};
    return 0;
}

int cellar_cache_iterate(struct cellar_cache *cache, uint64_t address, uint64_t length,
                         int (*run)(void *user, uint64_t address, const void *bytes, size_t length), void *user)
{
    bool to_end = length == CELLAR_CACHE_TO_END;

    while (length > 0) {
        size_t left = (size_t)(cellar_cache_page_of(cache, address) + cache->page_bytes - address);
        struct cellar_frame *frame;
        struct cellar_slice piece;
        int result = pin_piece(cache, address, left < length ? left : (size_t)length, &frame, &piece);

        if (result != 0)
            return result == CELLAR_EBOUNDS && to_end ? 0 : result;
        result = run(user, piece.address, piece.bytes, piece.length);
        cellar_cache_unpin(cache, frame);
        if (result != 0)
            return result;
        address += piece.length;
        if (!to_end)
            length -= piece.length;
    }
    return 0;
}

struct each_byte {
    int (*each)(void *user, uint8_t byte);
    void *user;
};

static int run_each_byte(void *user, uint64_t address, const void *bytes, size_t length)
{
    const struct each_byte *each_byte = user;
    const uint8_t *from = bytes;

    (void)address;
    for (size_t i = 0; i < length; i++) {
        int result = each_byte->each(each_byte->user, from[i]);

        if (result != 0)
            return result;
    }
    return 0;
}

int cellar_cache_iterate_bytes(struct cellar_cache *cache, uint64_t address, uint64_t length,
                               int (*each)(void *user, uint8_t byte), void *user)
{
    struct each_byte each_byte = {each, user};

    return cellar_cache_iterate(cache, address, length, run_each_byte, &each_byte);
}

int cellar_cache_fix(struct cellar_cache *cache, uint64_t address, size_t length, struct cellar_fixed *ret_fixed)
{
    struct cellar_fixed fixed = {0};
    int error = cellar_cache_load(cache, address, length, &fixed.slice);

    if (error != 0)
        return error;
    if (fixed.slice.length > 0) {
        struct cellar_frame *frame = cellar_table_find(&cache->table, fixed.slice.address >> cache->front.page_shift);

        cellar_cache_pin(cache, frame);
        fixed.frame = frame;
    }
    *ret_fixed = fixed;
    return 0;
}

void cellar_cache_unfix(struct cellar_cache *cache, struct cellar_fixed *fixed)
{
    if (fixed->frame != NULL)
        cellar_cache_unpin(cache, fixed->frame);
    cellar_source_end_run(&cache->source, fixed->run, fixed->run_length);
    *fixed = (struct cellar_fixed){0};
}

/* The pages from page_address up to the one that ends at or behind end, in one load of their own. */
static int map_run(struct cellar_cache *cache, uint64_t address, uint64_t end, struct cellar_fixed *fixed)
{
    uint64_t page_address = cellar_cache_page_of(cache, address);
    uint64_t span = cellar_cache_page_of(cache, end - 1) + cache->page_bytes - page_address;
    size_t offset = (size_t)(address - page_address), there;
    int error;

    if (span > SIZE_MAX / 2)
        span = cellar_cache_page_of(cache, SIZE_MAX / 2);
    cache->misses++;
    error = cellar_source_run(&cache->source, page_address, (size_t)span, &fixed->run, &fixed->run_length);
    if (error != 0)
        return error;
    if (fixed->run_length <= offset) {
        cellar_cache_unfix(cache, fixed);
        fixed->slice.address = address;
        return 0;
    }
    there = fixed->run_length - offset;
    fixed->slice.bytes = (const unsigned char *)fixed->run + offset;
    fixed->slice.length = there < end - address ? there : (size_t)(end - address);
    return 0;
}

int cellar_cache_map(struct cellar_cache *cache, uint64_t address, size_t length, struct cellar_fixed *ret_fixed)
{
    struct cellar_fixed fixed = {.slice.address = address};
    int error = 0;

    if (length > 0 && address < CELLAR_SOURCE_END) {
        uint64_t end = length < CELLAR_SOURCE_END - address ? address + length : CELLAR_SOURCE_END;

        if (cellar_cache_page_of(cache, address) == cellar_cache_page_of(cache, end - 1)) {
            struct cellar_frame *frame;

            error = pin_piece(cache, address, (size_t)(end - address), &frame, &fixed.slice);
            if (error == 0)
                fixed.frame = frame;
            else if (error == CELLAR_EBOUNDS)
                error = 0;
        } else {
            error = map_run(cache, address, end, &fixed);
        }
    }
    if (error == 0)
        *ret_fixed = fixed;
    return error;
}

uint64_t cellar_cache_loads_needed(const struct cellar_cache *cache, uint64_t address, uint64_t length)
{
    uint64_t mask = cache->page_bytes - 1;

    return (length >> cache->front.page_shift) +
           (((address & mask) + (length & mask) + mask) >> cache->front.page_shift);
}
