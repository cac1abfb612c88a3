/*
 * cache.h - a page cache over any source of bytes: a small buffer manager.
 *
 * A cache keeps up to page_count pages of page_bytes bytes of a device (or of whatever a map function reads) and
 * answers reads from them: whole pages without a copy, integers of every size and byte order, ranges of any length.
 * Page k holds the bytes [k * page_bytes, (k + 1) * page_bytes); the last page of a source may be short. A page that
 * no frame holds is loaded with one load of the source; which page is given up for it is chosen by a policy.
 *
 *     struct cellar_cache *cache;
 *     uint32_t value;
 *     int error = cellar_cache_open(device, 4096, 1024, &cache);
 *     if (error == 0)
 *         error = cellar_cache_get_u32_le(cache, 1000, &value);
 *     cellar_cache_close(cache);
 *
 * What a cached page shows. Where the device lends its memory (cellar_device_lends), a page is that memory: it shows
 * the device as it is now, and nothing is copied. Elsewhere, and where the options ask for it, a page is a copy, made
 * when it was loaded: it shows the device as it was then, until it is invalidated or given up. Who writes to the
 * device past the cache invalidates what it wrote, after the write.
 *
 * Growth. A source may grow while the cache is open. A short last page stays as it was loaded for as long as that is
 * enough; a call that needs bytes past its end asks for the size of the source (calls the map function) again, and
 * loads the page anew if there is more by now. A call that finds its bytes in the cache never asks. A device may be
 * trimmed only below nothing that is cached: invalidate first.
 *
 * Addresses are bytes from the start of the source. There is nothing at 2^63 and beyond.
 *
 * Memory: page_bytes * (page_count + old_pages + 1) bytes at most where pages are copies (the one more is where a page
 * is loaded to before another one is given up for it; 8 more where threads share the cache), allocated as they are
 * first needed; and about 200 bytes for each page.
 *
 * Threads: a struct cellar_cache is a handle on frames, for one thread at a time. cellar_cache_share makes another
 * handle on the same frames, for another thread: then any number of handles may be used at once. Two that miss the same
 * page cause one load; a hit takes no lock and writes nothing that threads share. Caches that were opened, or copied,
 * one by one share nothing, also over the same device. No call may be made from within a map or unmap function, or from
 * validate or place; from within loaded, wait, done and the functions that iterate calls every one but close may.
 *
 * fork: a cache with background loads, or shared by threads, can only be closed in the child (asynchronous loads are
 * CELLAR_EFORKED there, all else is undefined).
 *
 * Errors, besides those named below: those of the device, the map function or a hook, and -ENOMEM. A load that failed
 * leaves no trace: all who waited for it get its error, and the next call tries again.
 *
 * Debugging: in a process with CELLAR_CACHE_DEBUG=1 in its environment every cache has four pages at most, gives up a
 * page as soon as nothing holds it, never lends a device's memory, and makes what it has given up inaccessible, so that
 * a use of a page after its time, a forgotten fix or an unfix too many crashes where it is.
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
    unsigned slot;     /* private: where the pin stands */
    const void *run;   /* private: a run that is not in the cache */
    size_t run_length; /* private */
};

/* Which page is given up for another one. docs/eviction.md has what each is good at, measured. */
enum cellar_eviction {
    CELLAR_EVICT_DEFAULT = 0, /* S3-FIFO */
    CELLAR_EVICT_SIEVE,
    CELLAR_EVICT_S3FIFO,
    CELLAR_EVICT_CLOCK,
};

/* Where a version of a page lies. */
struct cellar_place {
    uint64_t version;             /* of the page that is there: the newest one not newer than what was asked for */
    struct cellar_device *device; /* borrowed, open until the cache is closed */
    uint64_t offset;              /* bytes; a multiple of the device's blocks */
};

/* What a cache asks others. Each may be NULL; user of the options is handed to all. */
struct cellar_cache_hooks {
    /*
     * Where the page at page_address lies for those who read at version; it may be in another device than the one that
     * the cache was opened with, but it is as long as what is there, a page at most. The answer for a version must
     * never change, and name no newer one (-EINVAL). CELLAR_NONE: there is no such page. NULL: the device of the cache,
     * the same address, one version. Any thread that has a handle, with a lock of the cache held: it is to be quick.
     */
    int (*place)(void *user, uint64_t version, uint64_t page_address, struct cellar_place *ret_place);

    /*
     * Looks at a page when it has come from the device, before anybody sees it. 0, or a negative error: the load fails
     * with it, cellar_cache_fault_address is the page's address, and the page is not cached. length ends where the
     * source or the limit of the handle does that loads the page. Any thread, several at once.
     */
    int (*validate)(void *user, uint64_t version, uint64_t page_address, const void *bytes, size_t length);

    /* Called after each load that a call had to wait for, by its thread: the place to let others run. Never on a hit.
     */
    void (*loaded)(void *user);

    /*
     * Called, again and again, while a call must wait for a load, instead of blocking: returns when it wants to look
     * again. The place where a scheduler runs other tasks, which may use the same handle, and cellar_cache_poll when
     * none can run. Needs depth; loads then go on in the background, as many at a time as that.
     */
    void (*wait)(void *user);
};

/* All zero is fine: then it is a cache of 1024 pages of 4096 bytes, for one thread, without anything in the background.
 */
struct cellar_cache_options {
    size_t page_bytes; /* a power of two from 1 to 2^30; 0: 4096 */
    size_t page_count; /* a power of two from 1 to 2^30; 0: 1024 */
    enum cellar_eviction eviction;
    bool copy;         /* pages are copies, also where the device could lend its memory */
    unsigned depth;    /* loads in the background at a time, 0 to 4096; 0: none. More than 0 implies copy. */
    enum cellar_io io; /* what they run on */
    /* The most pages to read ahead of who reads one after the other, and a quarter of the cache at most; 0: none. Needs
     * depth. */
    unsigned read_ahead_pages;
    unsigned old_pages; /* overwritten pages kept for snapshots at a time, see pipeline.h; implies copy */
    struct cellar_cache_hooks hooks;
    void *user;
};

/* A version newer than all others: where a handle stands unless told otherwise. */
#define CELLAR_VERSION_NEWEST (UINT64_MAX - 1)

/*
 * Since open, or copy. A lookup is the question for one page: a get that straddles two pages makes two. Hits and misses
 * are the handle's own, the rest is about all that share the frames.
 */
struct cellar_cache_counters {
    uint64_t hits;      /* lookups that the cache answered */
    uint64_t misses;    /* lookups that it couldn't, failed ones included, and maps of several pages */
    uint64_t evictions; /* pages given up for others; invalidated ones are not counted */
    size_t pages;       /* pages in the cache now */
    size_t pinned;      /* frames pinned now, those of invalidated pages included */
    size_t old_pages;   /* overwritten pages kept for snapshots now */
    uint64_t ahead;     /* pages that were read ahead or prefetched */
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
 * page_bytes, page_count: powers of two from 1 to 2^30, a page at least a block of the device, else -EINVAL. -ENOMEM.
 */
CELLAR_API CELLAR_MUST_CHECK int cellar_cache_open(struct cellar_device *device, size_t page_bytes, size_t page_count,
                                                   struct cellar_cache **ret_cache);

/* The same over a bare function, with user handed to it. unmap may be NULL; map may not (-EINVAL). */
CELLAR_API CELLAR_MUST_CHECK int cellar_cache_open_map(cellar_map_function *map, cellar_unmap_function *unmap,
                                                       void *user, size_t page_bytes, size_t page_count,
                                                       struct cellar_cache **ret_cache);

/*
 * The same with options, which are copied. -EINVAL: a number out of its range, read_ahead_pages or wait without depth,
 * a place hook together with a page that is no multiple of the device's blocks. -ENOTSUP: no io_uring where it is asked
 * for. Errors of making threads, rings and descriptors.
 */
CELLAR_API CELLAR_MUST_CHECK int cellar_cache_open_with(struct cellar_device *device,
                                                        const struct cellar_cache_options *options,
                                                        struct cellar_cache **ret_cache);

/*
 * Another handle on the same frames, for another thread; it stands at the same version and limit. Each handle keeps the
 * page that it used last: where there are no more frames than handles, CELLAR_EPINNED may come with nothing fixed.
 * Handles are closed in any order, the frames go with the last. Call it with a handle that no other thread uses at that
 * moment. From then on the frames are shared: hits cost some nanoseconds more, for good. -ENOTSUP on a cache of a map
 * function.
 */
CELLAR_API CELLAR_MUST_CHECK int cellar_cache_share(struct cellar_cache *cache, struct cellar_cache **ret_cache);

/* An independent cache of the same source and options: no pages, counters at zero. */
CELLAR_API CELLAR_MUST_CHECK int cellar_cache_copy(const struct cellar_cache *cache, struct cellar_cache **ret_cache);

/* Gives everything back; slices become invalid. What was fixed or mapped by this handle is unfixed before. NULL is
 * fine.
 */
CELLAR_API void cellar_cache_close(struct cellar_cache *cache);

/*
 * Versions and limits. A handle reads at a version: of the versions of a page it is given the newest that is not newer.
 * Without a place hook and without the snapshots of a pipeline there is one version of everything. Slices from before
 * become invalid, fixed pages stay. What this gives is that handle's alone; set by its thread. What
 * overwritten pages were is kept for snapshots alone: a handle that is none, set to a version from before, is given a
 * newer one, or -ESTALE.
 */
CELLAR_API void cellar_cache_set_version(struct cellar_cache *cache, uint64_t version);
CELLAR_API uint64_t cellar_cache_version(const struct cellar_cache *cache);

/*
 * For sources that are appended to: the handle sees nothing at limit_bytes and beyond, as if the source ended there,
 * and what lies below must never change again. Handles with different limits share all pages; a last page that one of
 * them cached short is loaded anew when another needs more of it, so that raising the limit never shows what was there
 * before.
 */
CELLAR_API void cellar_cache_set_limit(struct cellar_cache *cache, uint64_t limit_bytes);

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

/* Ends one fix or map of this handle and zeroes *fixed; a zeroed one is fine. */
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
 * Loads in the background. They need options.depth; without it prefetch does nothing, and load_async and descriptor are
 * -ENOTSUP.
 */

/* Starts loading those pages of [address, address + length) that are not in the cache, as far as there is room for more
 * loads and frames to give up: a hint, whose failures are silent. Pages that follow each other are one request. */
CELLAR_API void cellar_cache_prefetch(struct cellar_cache *cache, uint64_t address, uint64_t length);

/*
 * Loads the pages of [address, address + length), at least one byte, and then calls done, once, from within a later
 * cellar_cache_poll on this handle (never from within this call): with 0, CELLAR_EBOUNDS where the range reaches past
 * the end, or the error of the first load that failed. The pages are in the cache then, but not fixed: in a cache that
 * is smaller than all that is under way they may have been given up again. Loads beyond depth wait their turn.
 */
CELLAR_API CELLAR_MUST_CHECK int cellar_cache_load_async(struct cellar_cache *cache, uint64_t address, size_t length,
                                                         void (*done)(void *user, int error), void *user);

/*
 * Takes in the loads that have arrived, starts others in their place, and calls the done functions of this handle.
 * wait: waits until there is one to call, or none is to come. 0; CELLAR_NONE: none was called.
 */
CELLAR_API int cellar_cache_poll(struct cellar_cache *cache, bool wait);

/* How many done functions of this handle are still to be called. */
CELLAR_API size_t cellar_cache_awaited(const struct cellar_cache *cache);

/* A descriptor that is readable (POLLIN) when poll has something to do: for poll(2), epoll and event loops. It belongs
 * to the handle; do not read from it. Negative: -ENOTSUP, errors of epoll_create1 and eventfd. */
CELLAR_API CELLAR_MUST_CHECK int cellar_cache_descriptor(struct cellar_cache *cache);

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

/* Integers from bytes, for slices and fixed pages. Compilers make one load of each, and a byte swap where needed. */
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
