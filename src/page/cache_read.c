/* cache_read.c - everything that reads through a cache: pages, walks, ranges, maps. */
#include "page/cache.h"
#include "page/pool.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>

/* As the slot of a fix without a frame. */
enum { RUN_IS_A_COPY = 1, RUN_IS_A_MAPPING = 2 };

/* Of a run that is copied, at first: it may be asked for more than there is. */
enum { COPY_BYTES = 256 * 1024 };

int cellar_cache_load(struct cellar_cache *cache, uint64_t address, size_t length, struct cellar_slice *ret_slice)
{
    uint64_t page_address = cellar_cache_page_of(cache, address);
    size_t offset = (size_t)(address - page_address);
    struct cellar_view view;
    int error;

    if (length > cellar_cache_page_size(cache))
        return -EINVAL;
    if (offset + length > cellar_cache_page_size(cache))
        return CELLAR_NONE;
    error = cellar_cache_find(cache, page_address, offset + length, &view);
    if (error == CELLAR_NONE && offset + length == 0) {
        *ret_slice = (struct cellar_slice){.address = page_address};
        return 0;
    }
    if (error != 0)
        return error;
    if (view.length < offset + length)
        return CELLAR_NONE;
    *ret_slice = (struct cellar_slice){page_address, view.bytes, view.length};
    return 0;
}

int cellar_cache_next(struct cellar_cache *cache, const struct cellar_slice *slice, struct cellar_slice *ret_slice)
{
    uint64_t page_address = cellar_cache_page_of(cache, slice->address);

    if (page_address >= CELLAR_SOURCE_END)
        return CELLAR_NONE;
    return cellar_cache_load(cache, page_address + cellar_cache_page_size(cache), 1, ret_slice);
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

/* One page's part of a read. */
static int read_part(struct cellar_cache *cache, uint64_t address, unsigned char *to, size_t part)
{
    uint64_t page_address = cellar_cache_page_of(cache, address);
    size_t offset = (size_t)(address - page_address);
    struct cellar_view view;
    int error = cellar_cache_find(cache, page_address, offset + part, &view);

    if (error == CELLAR_NONE)
        return fault(cache, address, cache->limit_bytes < page_address ? cache->limit_bytes : 0);
    if (error != 0)
        return error;
    if (view.length < offset + part)
        error = fault(cache, address, page_address + view.length);
    else
        memcpy(to, view.bytes + offset, part);
    cellar_cache_let_go(cache);
    return error;
}

int cellar_cache_read(struct cellar_cache *cache, uint64_t address, void *buffer, size_t length)
{
    size_t page_bytes = cellar_cache_page_size(cache);
    unsigned char *to = buffer;

    while (length > 0) {
        size_t left = page_bytes - (size_t)(address - cellar_cache_page_of(cache, address));
        size_t part = left < length ? left : length;
        const unsigned char *bytes = cellar_cache_peek(cache, address, part);

        if (bytes != NULL) {
            memcpy(to, bytes, part);
        } else {
            int error = read_part(cache, address, to, part);

            if (error != 0)
                return error;
        }
        to += part;
        address += part;
        length -= part;
    }
    return 0;
}

/* A page that is pinned, and where the pin stands. */
struct pin {
    struct cellar_frame *frame;
    unsigned slot;
};

/*
 * Pins the page of address and gives what it has from address on, at least 1 byte and at most length; length bytes if
 * the source has them in this page. CELLAR_EBOUNDS: nothing is there.
 */
static int pin_piece(struct cellar_cache *cache, uint64_t address, size_t length, struct pin *ret_pin,
                     struct cellar_slice *ret_piece)
{
    size_t offset = (size_t)(address - cellar_cache_page_of(cache, address)), there;
    struct cellar_view view;
    int error = cellar_cache_find(cache, address - offset, offset + length, &view);

    if (error == CELLAR_NONE)
        return fault(cache, address, 0);
    if (error != 0)
        return error;
    if (view.length <= offset)
        return fault(cache, address, view.address + view.length);
    cellar_cache_pin(cache, view.frame, &ret_pin->slot);
    cellar_cache_let_go(cache);
    there = view.length - offset;
    ret_pin->frame = view.frame;
    *ret_piece = (struct cellar_slice){address, view.bytes + offset, there < length ? there : length};
    return 0;
}

int cellar_cache_iterate(struct cellar_cache *cache, uint64_t address, uint64_t length,
                         int (*run)(void *user, uint64_t address, const void *bytes, size_t length), void *user)
{
    bool to_end = length == CELLAR_CACHE_TO_END;

    while (length > 0) {
        size_t left = (size_t)(cellar_cache_page_of(cache, address) + cellar_cache_page_size(cache) - address);
        struct cellar_slice piece;
        struct pin pin;
        int result = pin_piece(cache, address, left < length ? left : (size_t)length, &pin, &piece);

        if (result != 0)
            return result == CELLAR_EBOUNDS && to_end ? 0 : result;
        result = run(user, piece.address, piece.bytes, piece.length);
        cellar_cache_unpin(cache, pin.frame, pin.slot);
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
    uint64_t page_address = cellar_cache_page_of(cache, address);
    size_t offset = (size_t)(address - page_address);
    struct cellar_fixed fixed = {.slice.address = page_address};
    struct cellar_view view;
    int error;

    if (length > cellar_cache_page_size(cache))
        return -EINVAL;
    if (offset + length > cellar_cache_page_size(cache))
        return CELLAR_NONE;
    error = cellar_cache_find(cache, page_address, offset + length, &view);
    if (error == CELLAR_NONE && offset + length == 0) {
        *ret_fixed = fixed;
        return 0;
    }
    if (error != 0)
        return error;
    if (view.length < offset + length) {
        cellar_cache_let_go(cache);
        return CELLAR_NONE;
    }
    cellar_cache_pin(cache, view.frame, &fixed.slot);
    cellar_cache_let_go(cache);
    fixed.slice = (struct cellar_slice){page_address, view.bytes, view.length};
    fixed.frame = view.frame;
    *ret_fixed = fixed;
    return 0;
}

void cellar_cache_unfix(struct cellar_cache *cache, struct cellar_fixed *fixed)
{
    if (fixed->frame != NULL)
        cellar_cache_unpin(cache, fixed->frame, fixed->slot);
    else if (fixed->slot == RUN_IS_A_COPY)
        free((void *)(uintptr_t)fixed->run);
    else if (fixed->frame == NULL && fixed->slot == RUN_IS_A_MAPPING)
        cellar_bury((void *)(uintptr_t)fixed->run, fixed->run_length);
    else
        cellar_source_end_run(&cache->pool->source, fixed->run, fixed->run_length);
    *fixed = (struct cellar_fixed){0};
}

/* Whether what the source has now may not be what the handle should see, or must not be lent. */
static bool must_copy(const struct cellar_cache *cache)
{
    const struct cellar_cache_options *options = &cache->pool->options;

    return (cache->pool->debug && cache->pool->source.device != NULL) || options->old_pages > 0 ||
           options->hooks.place != NULL || options->hooks.validate != NULL;
}

/* A copy that becomes as long as what is there. */
struct copy {
    unsigned char *bytes;
    size_t length, room;
};

static int copy_piece(void *user, uint64_t address, const void *bytes, size_t length)
{
    struct copy *copy = user;

    (void)address;
    if (length > copy->room - copy->length) {
        size_t room = copy->room > SIZE_MAX / 4 ? SIZE_MAX / 2 : 2 * copy->room + length;
        unsigned char *larger = realloc(copy->bytes, room);

        if (larger == NULL)
            return -ENOMEM;
        copy->bytes = larger;
        copy->room = room;
    }
    memcpy(copy->bytes + copy->length, bytes, length);
    copy->length += length;
    return 0;
}

/* Puts the copy into a mapping of its own: it is used no longer than until its unfix. */
static void guard_run(struct cellar_fixed *fixed)
{
    size_t length = fixed->slice.length;
    void *bytes = mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (bytes == MAP_FAILED)
        return;
    memcpy(bytes, fixed->run, length);
    free((void *)(uintptr_t)fixed->run);
    fixed->run = bytes;
    fixed->run_length = length;
    fixed->slot = RUN_IS_A_MAPPING;
}

/* The same bytes through the cache, page by page, into memory of their own. */
static int copy_run(struct cellar_cache *cache, uint64_t address, uint64_t end, struct cellar_fixed *fixed)
{
    struct copy copy = {.room = end - address < COPY_BYTES ? (size_t)(end - address) : COPY_BYTES};
    int error;

    copy.bytes = malloc(copy.room);
    if (copy.bytes == NULL)
        return -ENOMEM;
    error = cellar_cache_iterate(cache, address, end - address, copy_piece, &copy);
    if (error != 0 && error != CELLAR_EBOUNDS) {
        free(copy.bytes);
        return error;
    }
    fixed->run = copy.bytes;
    fixed->slot = RUN_IS_A_COPY;
    fixed->slice.length = copy.length;
    if (cache->pool->debug && copy.length > 0)
        guard_run(fixed);
    fixed->slice.bytes = fixed->run;
    return 0;
}

/* The pages from page_address up to the one that ends at or behind end, in one load of their own. */
static int map_run(struct cellar_cache *cache, uint64_t address, uint64_t end, struct cellar_fixed *fixed)
{
    uint64_t page_address = cellar_cache_page_of(cache, address);
    uint64_t span = cellar_cache_page_of(cache, end - 1) + cellar_cache_page_size(cache) - page_address;
    size_t offset = (size_t)(address - page_address), there;
    int error;

    if (span > SIZE_MAX / 2)
        span = cellar_cache_page_of(cache, SIZE_MAX / 2);
    cache->misses++;
    error = cellar_source_run(&cache->pool->source, page_address, (size_t)span, &fixed->run, &fixed->run_length);
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

    if (address < CELLAR_SOURCE_END) {
        uint64_t end = length < CELLAR_SOURCE_END - address ? address + length : CELLAR_SOURCE_END;

        if (end > cache->limit_bytes)
            end = cache->limit_bytes;
        if (end <= address) {
            *ret_fixed = fixed;
            return 0;
        }
        if (cellar_cache_page_of(cache, address) == cellar_cache_page_of(cache, end - 1)) {
            struct pin pin;

            error = pin_piece(cache, address, (size_t)(end - address), &pin, &fixed.slice);
            if (error == 0) {
                fixed.frame = pin.frame;
                fixed.slot = pin.slot;
            } else if (error == CELLAR_EBOUNDS) {
                error = 0;
            }
        } else if (must_copy(cache)) {
            error = copy_run(cache, address, end, &fixed);
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
    uint64_t mask = cellar_cache_page_size(cache) - 1;

    return (length >> cache->front.page_shift) +
           (((address & mask) + (length & mask) + mask) >> cache->front.page_shift);
}
