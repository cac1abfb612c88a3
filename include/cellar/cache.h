/*
 * cache.h - a page cache over any source of bytes.
 *
 * A cache keeps up to page_count pages of page_bytes bytes of a device (or of whatever a map function reads) and
 * answers reads from them: whole pages without a copy, integers of every size and byte order, ranges of any length.
 * Page k holds the bytes [k * page_bytes, (k + 1) * page_bytes); the last page of a source may be short. A page that
 * no frame holds is loaded with one load of the source; the page to give up for it is chosen by SIEVE.
 *
 *     struct cellar_cache *cache;
 *     uint32_t value;
 *     int error = cellar_cache_open(device, 4096, 1024, &cache);
 *     if (error == 0)
 *         error = cellar_cache_get_u32_le(cache, 1000, &value);
 *     cellar_cache_close(cache);
 *
 * What a cached page shows. Where the device lends its memory (cellar_device_lends), a page is that memory: it shows
 * the device as it is now, and nothing is copied. Elsewhere a page is a copy, made when it was loaded: it shows the
 * device as it was then, until it is invalidated or given up. Who writes to the device past the cache invalidates
 * what it wrote.
 *
 * Growth. A source may grow while the cache is open. A short last page stays as it was loaded for as long as that is
 * enough; a call that needs bytes past its end asks for the size of the source (calls the map function) again, and
 * loads the page anew if there is more by now. A call that finds its bytes in the cache never asks. A device may be
 * trimmed only below nothing that is cached: invalidate first.
 *
 * Addresses are bytes from the start of the source. There is nothing at 2^63 and beyond.
 *
 * Memory: page_bytes * (page_count + 1) bytes at most where pages are copies (the one more is where a page is loaded
 * to before another one is given up for it), allocated as they are first needed; and about 100 bytes for each page.
 *
 * Threads: one thread at a time for one cache. Two caches share nothing, also over the same device; a map function is
 * then called from both threads. No call may be made from within a map or unmap function; from within the functions
 * that iterate calls, every one but close may.
 *
 * Errors, besides those named below: those of the device or of the map function, and -ENOMEM. A load that failed
 * leaves no trace: no page is given up for it, and the next call tries again.
 */
#ifndef CELLAR_CACHE_H
#define CELLAR_CACHE_H

#include <cellar/device.h>
#include <cellar/error.h>
#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#ifdef __cplusplus
extern "C" {
#endif

struct cellar_cache;

/* Bytes of the source that stand in memory. Belongs to the call that made it, which says how long bytes is valid. */
struct cellar_slice {
    uint64_t address;  /* of the first byte, in the source */
    const void *bytes; /* may be NULL where length is 0 */
    size_t length;     /* bytes */
};

/* Bytes that stay where they are until cellar_cache_unfix. Only slice is for you; a zeroed one holds nothing. */
struct cellar_fixed {
    struct cellar_slice slice;
    void *frame;       /* private: the pinned page */
    const void *run;   /* private: a run that is not in the cache */
    size_t run_length; /* private */
};

/* Since open, or copy. A lookup is the question for one page: a get that straddles two pages makes two. */
struct cellar_cache_counters {
    uint64_t hits;      /* lookups that the cache answered */
    uint64_t misses;    /* lookups that it couldn't, failed ones included, and maps of several pages */
    uint64_t evictions; /* pages given up for others; invalidated ones are not counted */
    size_t pages;       /* pages in the cache now */
    size_t pinned;      /* frames pinned now, those of invalidated pages included */
};

/*
 * Reads up to length bytes (> 0) at position, both multiples of the page size. Gives as much as there is, but
 * never more than length (-EINVAL for the call that led to it); nothing (*ret_length 0) past the end is no error.
 * The bytes stay valid, and where they are, until unmap; without an unmap, until the cache is closed. Returns 0 or a
 * negative error, which is handed on as it is.
 */
typedef int cellar_map_function(void *user, uint64_t position, size_t length, const void **ret_bytes,
                                size_t *ret_length);

/* Takes back what a map function gave: the same bytes and length, once for each call that gave more than 0. */
typedef void cellar_unmap_function(void *user, const void *bytes, size_t length);

/*
 * Makes an empty cache over a device, which is borrowed: it must stay open until the cache is closed.
 * page_bytes, page_count: powers of two from 1 to 2^30, else -EINVAL. -ENOMEM.
 */
CELLAR_API CELLAR_MUST_CHECK int cellar_cache_open(struct cellar_device *device, size_t page_bytes, size_t page_count,
                                                   struct cellar_cache **ret_cache);

/* The same over a bare function, with user handed to it. unmap may be NULL; map may not (-EINVAL). */
CELLAR_API CELLAR_MUST_CHECK int cellar_cache_open_map(cellar_map_function *map, cellar_unmap_function *unmap,
                                                       void *user, size_t page_bytes, size_t page_count,
                                                       struct cellar_cache **ret_cache);

/* An independent cache of the same source and geometry: no pages, counters at zero. */
CELLAR_API CELLAR_MUST_CHECK int cellar_cache_copy(const struct cellar_cache *cache, struct cellar_cache **ret_cache);

/* Gives everything back; slices and fixed pages become invalid. NULL is fine. */
CELLAR_API void cellar_cache_close(struct cellar_cache *cache);

CELLAR_API size_t cellar_cache_page_bytes(const struct cellar_cache *cache);
CELLAR_API size_t cellar_cache_page_count(const struct cellar_cache *cache);
CELLAR_API struct cellar_cache_counters cellar_cache_counters(const struct cellar_cache *cache);

/* After CELLAR_EBOUNDS: the first address of the range asked for at which there is nothing. Valid until the next call
 * that fails. */
CELLAR_API uint64_t cellar_cache_fault_address(const struct cellar_cache *cache);

/*
 * Pages.
 */

/*
 * Finds, or loads, the page of address. The slice is the whole page, short if it is the last one, and stays valid
 * until the next call on this cache. CELLAR_NONE: fewer than length bytes are there from address to the end of
 * the page. -EINVAL: length is larger than a page. length 0 asks for the page alone: its slice has no bytes where the
 * source has none. CELLAR_EPINNED: not cached, and every frame is pinned.
 */
CELLAR_API CELLAR_MUST_CHECK int cellar_cache_load(struct cellar_cache *cache, uint64_t address, size_t length,
                                                   struct cellar_slice *ret_slice);

/* The page after slice (from cellar_cache_load or this). CELLAR_NONE: the source ends before it. */
CELLAR_API CELLAR_MUST_CHECK int cellar_cache_next(struct cellar_cache *cache, const struct cellar_slice *slice,
                                                   struct cellar_slice *ret_slice);

/*
 * One step of a walk to the end: gives what is there from *address to the end of its page, valid until the next
 * call on this cache, and moves *address behind it. CELLAR_NONE at the end of the source, *address unchanged: called
 * again after the source has grown, the walk goes on.
 */
CELLAR_API CELLAR_MUST_CHECK int cellar_cache_walk(struct cellar_cache *cache, uint64_t *address,
                                                   struct cellar_slice *ret_slice);

/* The rest of a slice from an address inside it; the address right behind it gives an empty rest. -EINVAL for any
 * other. Valid as long as slice is. */
static inline CELLAR_MUST_CHECK int cellar_slice_rest(const struct cellar_slice *slice, uint64_t address,
                                                      struct cellar_slice *ret_rest);

/*
 * Pins the page of address: as load, but the page stays where it is, and is never given up for another, until as many
 * unfix as fix were made. Invalidating it, or its growing, makes later calls load it anew; what is fixed stays as it
 * was.
 */
CELLAR_API CELLAR_MUST_CHECK int cellar_cache_fix(struct cellar_cache *cache, uint64_t address, size_t length,
                                                  struct cellar_fixed *ret_fixed);

/* Ends one fix or map and zeroes *fixed; a zeroed one is fine. */
CELLAR_API void cellar_cache_unfix(struct cellar_cache *cache, struct cellar_fixed *fixed);

/*
 * The bytes [address, address + length) in one piece, as many of them as there are (none at all is no error), until
 * cellar_cache_unfix. Where the range lies in one page this fixes that page in the cache; otherwise one load of the
 * source brings all its pages, past the cache. CELLAR_EPINNED as load, for one page only.
 */
CELLAR_API CELLAR_MUST_CHECK int cellar_cache_map(struct cellar_cache *cache, uint64_t address, size_t length,
                                                  struct cellar_fixed *ret_fixed);

/* True while the page of address is in the cache. Counts nothing. */
CELLAR_API bool cellar_cache_is_cached(const struct cellar_cache *cache, uint64_t address);

/* Forgets every page with a byte in [address, address + length); the length may reach past any end. */
CELLAR_API void cellar_cache_invalidate(struct cellar_cache *cache, uint64_t address, uint64_t length);

/* The most loads of the source that reading [address, address + length) can cost: those of an empty cache. Loads
 * nothing. */
CELLAR_API uint64_t cellar_cache_loads_needed(const struct cellar_cache *cache, uint64_t address, uint64_t length);

/*
 * Ranges.
 */

/*
 * Copies [address, address + length) into buffer, one lookup for each page. CELLAR_EBOUNDS: the range reaches past
 * the end; on any failure the content of buffer is undefined. length 0 is fine at any address.
 */
CELLAR_API CELLAR_MUST_CHECK int cellar_cache_read(struct cellar_cache *cache, uint64_t address, void *buffer,
                                                   size_t length);

/* As a length for iterate: to the end of the source. */
#define CELLAR_CACHE_TO_END UINT64_MAX

/*
 * Calls run for each piece (never empty, within one page, in order) of [address, address + length). The piece is pinned
 * during the call, so that run may use the cache, with one frame less. A value other than 0 that run returns stops, and
 * is returned. CELLAR_EBOUNDS: the range reaches past the end; run has had everything up to there. With
 * CELLAR_CACHE_TO_END the end, wherever it is, is no error. length 0 calls nothing and returns 0.
 */
CELLAR_API CELLAR_MUST_CHECK int
cellar_cache_iterate(struct cellar_cache *cache, uint64_t address, uint64_t length,
                     int (*run)(void *user, uint64_t address, const void *bytes, size_t length), void *user);

/* The same, byte by byte. */
CELLAR_API CELLAR_MUST_CHECK int cellar_cache_iterate_bytes(struct cellar_cache *cache, uint64_t address,
                                                            uint64_t length, int (*each)(void *user, uint8_t byte),
                                                            void *user);

/*
 * Integers, at any address: aligned or not, across pages.
 *
 *     int cellar_cache_get_NAME(struct cellar_cache *cache, uint64_t address, TYPE *ret_value);
 *
 *     i8  u8
 *     i16_le i16_be i16_ne   u16_le u16_be u16_ne
 *     i32_le i32_be i32_ne   u32_le u32_be u32_ne
 *     i64_le i64_be i64_ne   u64_le u64_be u64_ne
 *
 * le: least significant byte first; be: most significant byte first; ne: as this machine has it. NAME i32_be has the
 * TYPE int32_t. CELLAR_EBOUNDS: not all of its bytes are there.
 *
 *     int cellar_cache_get_128(struct cellar_cache *cache, uint64_t address, uint8_t ret_bytes[16]);
 *
 * gives 128 bits as the 16 bytes that they are.
 *
 * A get within one page that was used recently is inline, and costs one index, one comparison, one load and the two
 * stores that keep the counters and the eviction right. Every other one is one lookup for each page that it touches.
 */

/*
 * Private, but part of the binary interface, as the gets are inline. Every struct cellar_cache begins with it: a small
 * direct-mapped table in front of the page table. Line i only ever holds a page whose number is i modulo
 * CELLAR_CACHE_LINES, and has length 0 while it holds none.
 */
#define CELLAR_CACHE_LINES 64

struct cellar_cache_line {
    uint64_t address; /* of the page */
    const unsigned char *bytes;
    size_t length;
    unsigned char *visited; /* the frame's mark for the eviction */
};

struct cellar_cache_front {
    uint64_t hits;
    unsigned page_shift; /* log2 of page_bytes */
    struct cellar_cache_line lines[CELLAR_CACHE_LINES];
};

/*
 * Private: the bytes at address if a line has width of them, counted as a hit; else NULL. width is at most 16, or ends
 * within the page of address. The sum can't wrap to something small: that takes an address less than width before the
 * line's page, but the 63 pages before a page belong to other lines.
 */
static inline const unsigned char *cellar_cache_peek(struct cellar_cache *cache, uint64_t address, size_t width)
{
    struct cellar_cache_front *front = (struct cellar_cache_front *)cache;
    struct cellar_cache_line *line = &front->lines[(address >> front->page_shift) % CELLAR_CACHE_LINES];
    uint64_t offset = address - line->address;

    if (offset + width > line->length)
        return NULL;
    front->hits++;
    *line->visited = 1;
    return line->bytes + offset;
}

/* Private: integers from bytes. Compilers make one load of each, and a byte swap where needed. */
static inline uint8_t cellar_decode_8(const unsigned char *b)
{
    return b[0];
}

static inline uint16_t cellar_decode_16_le(const unsigned char *b)
{
    return (uint16_t)((unsigned)b[0] | (unsigned)b[1] << 8);
}

static inline uint16_t cellar_decode_16_be(const unsigned char *b)
{
    return (uint16_t)((unsigned)b[0] << 8 | (unsigned)b[1]);
}

static inline uint16_t cellar_decode_16_ne(const unsigned char *b)
{
    uint16_t value;
    memcpy(&value, b, sizeof value);
    return value;
}

static inline uint32_t cellar_decode_32_le(const unsigned char *b)
{
    return (uint32_t)b[0] | (uint32_t)b[1] << 8 | (uint32_t)b[2] << 16 | (uint32_t)b[3] << 24;
}

static inline uint32_t cellar_decode_32_be(const unsigned char *b)
{
    return (uint32_t)b[0] << 24 | (uint32_t)b[1] << 16 | (uint32_t)b[2] << 8 | (uint32_t)b[3];
}

static inline uint32_t cellar_decode_32_ne(const unsigned char *b)
{
    uint32_t value;
    memcpy(&value, b, sizeof value);
    return value;
}

static inline uint64_t cellar_decode_64_le(const unsigned char *b)
{
    return (uint64_t)b[0] | (uint64_t)b[1] << 8 | (uint64_t)b[2] << 16 | (uint64_t)b[3] << 24 | (uint64_t)b[4] << 32 |
           (uint64_t)b[5] << 40 | (uint64_t)b[6] << 48 | (uint64_t)b[7] << 56;
}

static inline uint64_t cellar_decode_64_be(const unsigned char *b)
{
    return (uint64_t)b[0] << 56 | (uint64_t)b[1] << 48 | (uint64_t)b[2] << 40 | (uint64_t)b[3] << 32 |
           (uint64_t)b[4] << 24 | (uint64_t)b[5] << 16 | (uint64_t)b[6] << 8 | (uint64_t)b[7];
}

static inline uint64_t cellar_decode_64_ne(const unsigned char *b)
{
    uint64_t value;
    memcpy(&value, b, sizeof value);
    return value;
}

#define CELLAR_CACHE_GET(name, type, decode)                                                                           \
    static inline CELLAR_MUST_CHECK int cellar_cache_get_##name(struct cellar_cache *cache, uint64_t address,          \
                                                                type *ret_value)                                       \
    {                                                                                                                  \
        unsigned char copy[sizeof(type)];                                                                              \
        const unsigned char *bytes = cellar_cache_peek(cache, address, sizeof copy);                                   \
        if (!bytes) {                                                                                                  \
            int error = cellar_cache_read(cache, address, copy, sizeof copy);                                          \
            if (error)                                                                                                 \
                return error;                                                                                          \
            bytes = copy;                                                                                              \
        }                                                                                                              \
        *ret_value = (type)decode(bytes);                                                                              \
        return 0;                                                                                                      \
    }

CELLAR_CACHE_GET(i8, int8_t, cellar_decode_8)
CELLAR_CACHE_GET(u8, uint8_t, cellar_decode_8)
CELLAR_CACHE_GET(i16_le, int16_t, cellar_decode_16_le)
CELLAR_CACHE_GET(i16_be, int16_t, cellar_decode_16_be)
CELLAR_CACHE_GET(i16_ne, int16_t, cellar_decode_16_ne)
CELLAR_CACHE_GET(u16_le, uint16_t, cellar_decode_16_le)
CELLAR_CACHE_GET(u16_be, uint16_t, cellar_decode_16_be)
CELLAR_CACHE_GET(u16_ne, uint16_t, cellar_decode_16_ne)
CELLAR_CACHE_GET(i32_le, int32_t, cellar_decode_32_le)
CELLAR_CACHE_GET(i32_be, int32_t, cellar_decode_32_be)
CELLAR_CACHE_GET(i32_ne, int32_t, cellar_decode_32_ne)
CELLAR_CACHE_GET(u32_le, uint32_t, cellar_decode_32_le)
CELLAR_CACHE_GET(u32_be, uint32_t, cellar_decode_32_be)
CELLAR_CACHE_GET(u32_ne, uint32_t, cellar_decode_32_ne)
CELLAR_CACHE_GET(i64_le, int64_t, cellar_decode_64_le)
CELLAR_CACHE_GET(i64_be, int64_t, cellar_decode_64_be)
CELLAR_CACHE_GET(i64_ne, int64_t, cellar_decode_64_ne)
CELLAR_CACHE_GET(u64_le, uint64_t, cellar_decode_64_le)
CELLAR_CACHE_GET(u64_be, uint64_t, cellar_decode_64_be)
CELLAR_CACHE_GET(u64_ne, uint64_t, cellar_decode_64_ne)

#undef CELLAR_CACHE_GET

static inline CELLAR_MUST_CHECK int cellar_cache_get_128(struct cellar_cache *cache, uint64_t address,
                                                         uint8_t ret_bytes[16])
{
    unsigned char copy[16];
    const unsigned char *bytes = cellar_cache_peek(cache, address, sizeof copy);
    if (!bytes) {
        int error = cellar_cache_read(cache, address, copy, sizeof copy);
        if (error)
            return error;
        bytes = copy;
    }
    memcpy(ret_bytes, bytes, sizeof copy);
    return 0;
}

static inline int cellar_slice_rest(const struct cellar_slice *slice, uint64_t address, struct cellar_slice *ret_rest)
{
    uint64_t offset = address - slice->address;
    struct cellar_slice rest;

    if (address < slice->address || offset > slice->length)
        return -EINVAL;
    rest.address = address;
    rest.bytes = offset ? (const unsigned char *)slice->bytes + offset : slice->bytes;
    rest.length = slice->length - (size_t)offset;
    *ret_rest = rest;
    return 0;
}

#ifdef __cplusplus
}
#endif
#endif
