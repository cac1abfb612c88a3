/*
 * pipeline.h - pending writes over a cache over a device.
 *
 * A pipeline remembers writes to existing bytes of a device and sends them when told to. Reads through the pipeline see
 * what was written to it, the last write of each byte, over what the device holds; the device sees nothing until
 * commit (everything) or persist (a range and what belongs to it).
 *
 *     set/write -> pending -> commit, persist -> device          get/read <- pending over cache over device
 *
 * What goes out. The pending bytes that are to go out are taken page by page; pages that follow each other make one
 * run, and each run goes out by one gathered write (more where it has over IOV_MAX pages), in the order of the
 * addresses. A write begins at the first pending byte of its run and ends behind the last one, widened to whole
 * blocks of the device: bytes before and behind are not written. Bytes in between that are not pending are written
 * back as they are: as the cache has them, and where it hasn't, they are read from the device first. So nobody else
 * should be writing to those at that time, and who wrote to them before, past the cache, must have invalidated them
 * (cellar_cache_invalidate). After each write, not before, the cache shows the new pages.
 *
 * Versions. A commit, or a persist, that sends anything makes a new version of what is on the device. A snapshot is a
 * cache handle that goes on seeing the version that it was taken of: before a page that it may need is overwritten, the
 * page as it was is kept in memory (loaded first, if it isn't cached), for exactly as long as a snapshot needs it, and
 * old_pages of the cache's options at most at a time: where that is not enough, commit and persist fail, not the
 * readers, before anything is written. Pages that are only appended to are kept for nobody.
 *
 * Eager writes. Where the options allow it, pages that no version has yet (they begin at or past committed_bytes) go to
 * the device in the background as soon as a stretch of them is complete, so that a commit of much data waits for the
 * rest alone. They become part of a version with the next commit all the same. Pages that versions have wait for commit
 * or persist. An error in the background is the result of the next call, and of all after it but close: what is on the
 * device past the last version is not known then.
 *
 * Failure. What had reached the device by complete writes is no longer pending; the run that failed and what lies
 * behind it still are, and reads go on seeing them. Of the failed run any part may be on the device. Nothing here makes
 * anything durable: that is cellar_device_sync, after commit or persist, by the caller.
 *
 * Cost. A get, set, read or write looks up each page that it touches in a table or two, however much is pending. A
 * commit sorts the pending pages once; a persist looks at the pages of its range, or at all pending ones where these
 * are fewer. Memory: a little over page_bytes for each page with something pending, on top of the cache's; pages that
 * went out are kept for reuse, page_count of them at most.
 *
 * The device may grow at any time. Trimmed below something that is pending, it refuses that when it is to go out.
 *
 * Pending bytes are the process's own: they are lost with it, and with close. After fork, a pipeline with eager writes
 * or snapshots can only be closed in the child; commit and persist after eager writes are CELLAR_EFORKED there.
 *
 * Threads: one thread, and one task of a thread, at a time for one pipeline and its cache together: from within hooks
 * of the cache, and place_new, no call on the pipeline may be made but version. From within a write of the device none
 * on its handle of the cache (cellar_pipeline_cache) either: what is being written may lie in the cache's pages.
 * cellar_pipeline_snapshot on any thread. Snapshots are for other threads, each for one at a time.
 */
#ifndef CELLAR_PIPELINE_H
#define CELLAR_PIPELINE_H

#include <cellar/cache.h>
#include <cellar/device.h>
#include <cellar/error.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/uio.h>

#ifdef __cplusplus
extern "C" {
#endif

struct cellar_pipeline;

/* A block device as bare functions, instead of a cellar_device. */
struct cellar_pipeline_functions {
    cellar_map_function *map;     /* see cache.h */
    cellar_unmap_function *unmap; /* may be NULL */

    /* The size now, in bytes. 0 or a negative error. */
    int (*size)(void *user, uint64_t *ret_size_bytes);

    /* Writes all of the parts, one behind the other, at position: 0, or a negative error. It lies within the size.
     * NULL: read-only. */
    int (*write)(void *user, uint64_t position, const struct iovec *parts, int part_count);

    /* Position and length of every write are multiples of this, a power of two, as the size must be; 0 stands for 1. */
    uint32_t block_bytes;
};

/*
 * Makes a pipeline with nothing pending, and its cache, over a device; the device is borrowed and must stay open.
 * page_bytes, page_count: as for cellar_cache_open; -EINVAL also where a block of the device is larger than a page.
 */
CELLAR_API CELLAR_MUST_CHECK int cellar_pipeline_open(struct cellar_device *device, size_t page_bytes,
                                                      size_t page_count, struct cellar_pipeline **ret_pipeline);

/* The same over bare functions, which are copied. map and size must be there (-EINVAL). */
CELLAR_API CELLAR_MUST_CHECK int cellar_pipeline_open_functions(const struct cellar_pipeline_functions *functions,
                                                                void *user, size_t page_bytes, size_t page_count,
                                                                struct cellar_pipeline **ret_pipeline);

/* All zero is fine: then it is the pipeline that cellar_pipeline_open makes with a cache of that kind. */
struct cellar_pipeline_options {
    struct cellar_cache_options cache;
    uint64_t first_version; /* the version of what is there; commits count up from here */

    unsigned eager_writes; /* the most writes in the background at a time, up to 1024; 0: none */
    size_t eager_bytes;    /* how much one of them takes, in whole pages; 0: 256 KiB */
    /* With eager writes: where more than this is pending, writing waits for what is on its way, and then goes on. One
     * write's worth (eager_bytes) more may be there for a moment, and whatever must wait for commit. 0: no bound. */
    uint64_t pending_bytes_max;
    uint64_t committed_bytes; /* versions have nothing at or past this; 0: they have all that the device has */

    /*
     * Where the page's new version, which is about to be written, goes: anywhere but where an older version lies that
     * somebody may still read. NULL: to where the page lies now. Needs cache.hooks.place, which from the end of the
     * commit on answers this place for that version, and those that follow. Pages are written whole then, keep their
     * old place in their old versions, and none is kept in memory for snapshots. A version whose commit failed is asked
     * for again by the next one: what was answered for it is in no version. Called by the thread that commits.
     */
    int (*place_new)(void *user, uint64_t version, uint64_t page_address, struct cellar_place *ret_place);
};

/*
 * The same with options, which are copied; the user of cache is handed to place_new. Errors as cellar_cache_open_with;
 * -EINVAL: place_new without place or with eager writes, or numbers out of their range.
 */
CELLAR_API CELLAR_MUST_CHECK int cellar_pipeline_open_with(struct cellar_device *device,
                                                           const struct cellar_pipeline_options *options,
                                                           struct cellar_pipeline **ret_pipeline);

/* Ends the pipeline and its cache, after what is on its way in the background. What is pending is dropped. Snapshots
 * are closed, and write frames unfixed, before. NULL is fine. */
CELLAR_API void cellar_pipeline_close(struct cellar_pipeline *pipeline);

/* The cache underneath, for all that it can do; it belongs to the pipeline. It shows the device, without what is
 * pending. */
CELLAR_API struct cellar_cache *cellar_pipeline_cache(struct cellar_pipeline *pipeline);

/* How many bytes are pending: each counts once, however often it was written. */
CELLAR_API uint64_t cellar_pipeline_pending_bytes(const struct cellar_pipeline *pipeline);

/* After CELLAR_EBOUNDS: the first address of the range asked for at which there is nothing. Valid until the next call
 * that fails. */
CELLAR_API uint64_t cellar_pipeline_fault_address(const struct cellar_pipeline *pipeline);

/*
 * Makes bytes pending at [address, address + length); they are copied. All or nothing: -EROFS on a read-only device;
 * CELLAR_EBOUNDS where the range reaches past the size of the device, which is asked for when it was not known to
 * be that large; -ENOMEM; the error of asking for the size. length 0 writes nothing, at any address. With
 * pending_bytes_max, more than eager_bytes at once goes in pieces: the first may be written when the next is -ENOMEM.
 */
CELLAR_API CELLAR_MUST_CHECK int cellar_pipeline_write(struct cellar_pipeline *pipeline, uint64_t address,
                                                       const void *bytes, size_t length);

/*
 * Copies [address, address + length) into buffer: what is pending, elsewhere what the cache has or loads. Errors as
 * cellar_cache_read. Bytes that are pending are there, and are read without asking the device where a whole page's part
 * of the range is pending.
 */
CELLAR_API CELLAR_MUST_CHECK int cellar_pipeline_read(struct cellar_pipeline *pipeline, uint64_t address, void *buffer,
                                                      size_t length);

/* Sends everything that is pending to the device, as described above. Nothing pending: nothing happens. Errors: those
 * of the device (read and write). */
CELLAR_API CELLAR_MUST_CHECK int cellar_pipeline_commit(struct cellar_pipeline *pipeline);

/*
 * Sends what is pending in [address, address + length) to the device, and with it all that hangs together with it: a
 * stretch of pending bytes that overlaps the range, or touches it at either end, goes out whole. Pending bytes hang
 * together when they follow each other, or when a single byte that is not pending lies between them. Everything
 * else stays pending. The range may reach past the end of the device. Errors as commit.
 */
CELLAR_API CELLAR_MUST_CHECK int cellar_pipeline_persist(struct cellar_pipeline *pipeline, uint64_t address,
                                                         uint64_t length);

/* Forgets everything that is pending; waits for what is on its way in the background first. What eager writes have
 * brought to the device stays there: at and past the end of the last version reads may give that, or what was there
 * before. */
CELLAR_API void cellar_pipeline_discard(struct cellar_pipeline *pipeline);

/*
 * Versions.
 */

/* That of what is on the device now, and what snapshots see that are taken now. */
CELLAR_API uint64_t cellar_pipeline_version(struct cellar_pipeline *pipeline);

/*
 * A handle on the pipeline's cache that sees the version of now, without what is pending, for as long as it is open: to
 * be closed with cellar_cache_close, before the pipeline. Its limit is the end of that version, and may be lowered; its
 * version is not to be changed. Any thread; waits for a commit that is under way; -EDEADLK from within a hook that this
 * thread's own commit has called. -ENOMEM. -ENOTSUP: a pipeline of bare
 * functions, or without old_pages and place_new, where nothing could be kept for it.
 */
CELLAR_API CELLAR_MUST_CHECK int cellar_pipeline_snapshot(struct cellar_pipeline *pipeline,
                                                          struct cellar_cache **ret_cache);

/* Versions have nothing at or past this: what is written there may go out before commit. Commits raise it to the end of
 * what they send. */
CELLAR_API void cellar_pipeline_set_committed(struct cellar_pipeline *pipeline, uint64_t committed_bytes);

/*
 * Write frames.
 */

enum cellar_write_start {
    CELLAR_WRITE_AS_IS, /* the page begins as what it is: loaded, and copied, unless all of it is pending already */
    CELLAR_WRITE_NEW,   /* all of the page will be written: nothing is loaded, what isn't pending begins as zeros */
};

/* A page that can be written in place. */
struct cellar_write_frame {
    uint64_t address; /* of the page */
    void *bytes;
    size_t length; /* a page, or what there is of the last one */
    void *page;    /* private */
};

/*
 * Makes the whole page of address pending, and lends its bytes, to be read and written until unfix; they stay where
 * they are. Reads of the pipeline see what is written at once, snapshots after the commit. A page that is fixed twice
 * is the same bytes. Commit and persist are CELLAR_EPINNED while a page is fixed. Errors as cellar_pipeline_write and
 * _read.
 */
CELLAR_API CELLAR_MUST_CHECK int cellar_pipeline_fix_write(struct cellar_pipeline *pipeline, uint64_t address,
                                                           enum cellar_write_start start,
                                                           struct cellar_write_frame *ret_frame);

/* Ends one fix and zeroes *frame; a zeroed one is fine. The page may go out eagerly from here on. */
CELLAR_API void cellar_pipeline_unfix_write(struct cellar_pipeline *pipeline, struct cellar_write_frame *frame);

/*
 * Integers, at any address: aligned or not, across pages.
 *
 *     int cellar_pipeline_get_NAME(struct cellar_pipeline *pipeline, uint64_t address, TYPE *ret_value);
 *     int cellar_pipeline_set_NAME(struct cellar_pipeline *pipeline, uint64_t address, TYPE value);
 *
 *     i8  u8
 *     i16_le i16_be i16_ne   u16_le u16_be u16_ne
 *     i32_le i32_be i32_ne   u32_le u32_be u32_ne
 *     i64_le i64_be i64_ne   u64_le u64_be u64_ne
 *
 * with the meanings of cache.h; errors as cellar_pipeline_read and cellar_pipeline_write.
 *
 *     int cellar_pipeline_get_128(struct cellar_pipeline *pipeline, uint64_t address, uint8_t ret_bytes[16]);
 *     int cellar_pipeline_set_128(struct cellar_pipeline *pipeline, uint64_t address, const uint8_t bytes[16]);
 *
 * are 128 bits as the 16 bytes that they are. While nothing is pending a get is the cache's, and as fast.
 */

/* Private, but part of the binary interface, as the gets are inline. Every struct cellar_pipeline begins with it. */
struct cellar_pipeline_front {
    struct cellar_cache *cache;
    size_t pending_pages;
};

/* Private: the bytes at address if nothing is pending and the cache has them at hand; else NULL. */
static inline const unsigned char *cellar_pipeline_peek(struct cellar_pipeline *pipeline, uint64_t address,
                                                        size_t width)
{
    struct cellar_pipeline_front *front = (struct cellar_pipeline_front *)pipeline;

    return front->pending_pages ? NULL : cellar_cache_peek(front->cache, address, width);
}

/* Private: integers to bytes. Compilers make one store of each. */
static inline void cellar_encode_8(unsigned char *b, uint8_t value)
{
    b[0] = value;
}

static inline void cellar_encode_16_le(unsigned char *b, uint16_t value)
{
    b[0] = (unsigned char)value;
    b[1] = (unsigned char)(value >> 8);
}

static inline void cellar_encode_16_be(unsigned char *b, uint16_t value)
{
    b[0] = (unsigned char)(value >> 8);
    b[1] = (unsigned char)value;
}

static inline void cellar_encode_16_ne(unsigned char *b, uint16_t value)
{
    memcpy(b, &value, sizeof value);
}

static inline void cellar_encode_32_le(unsigned char *b, uint32_t value)
{
    b[0] = (unsigned char)value;
    b[1] = (unsigned char)(value >> 8);
    b[2] = (unsigned char)(value >> 16);
    b[3] = (unsigned char)(value >> 24);
}

static inline void cellar_encode_32_be(unsigned char *b, uint32_t value)
{
    b[0] = (unsigned char)(value >> 24);
    b[1] = (unsigned char)(value >> 16);
    b[2] = (unsigned char)(value >> 8);
    b[3] = (unsigned char)value;
}

static inline void cellar_encode_32_ne(unsigned char *b, uint32_t value)
{
    memcpy(b, &value, sizeof value);
}

static inline void cellar_encode_64_le(unsigned char *b, uint64_t value)
{
    b[0] = (unsigned char)value;
    b[1] = (unsigned char)(value >> 8);
    b[2] = (unsigned char)(value >> 16);
    b[3] = (unsigned char)(value >> 24);
    b[4] = (unsigned char)(value >> 32);
    b[5] = (unsigned char)(value >> 40);
    b[6] = (unsigned char)(value >> 48);
    b[7] = (unsigned char)(value >> 56);
}

static inline void cellar_encode_64_be(unsigned char *b, uint64_t value)
{
    b[0] = (unsigned char)(value >> 56);
    b[1] = (unsigned char)(value >> 48);
    b[2] = (unsigned char)(value >> 40);
    b[3] = (unsigned char)(value >> 32);
    b[4] = (unsigned char)(value >> 24);
    b[5] = (unsigned char)(value >> 16);
    b[6] = (unsigned char)(value >> 8);
    b[7] = (unsigned char)value;
}

static inline void cellar_encode_64_ne(unsigned char *b, uint64_t value)
{
    memcpy(b, &value, sizeof value);
}

#define CELLAR_PIPELINE_INTEGER(name, type, utype, code)                                                               \
    static inline CELLAR_MUST_CHECK int cellar_pipeline_get_##name(struct cellar_pipeline *pipeline, uint64_t address, \
                                                                   type *ret_value)                                    \
    {                                                                                                                  \
        unsigned char copy[sizeof(type)];                                                                              \
        const unsigned char *bytes = cellar_pipeline_peek(pipeline, address, sizeof copy);                             \
        if (!bytes) {                                                                                                  \
            int error = cellar_pipeline_read(pipeline, address, copy, sizeof copy);                                    \
            if (error)                                                                                                 \
                return error;                                                                                          \
            bytes = copy;                                                                                              \
        }                                                                                                              \
        *ret_value = (type)cellar_decode_##code(bytes);                                                                \
        return 0;                                                                                                      \
    }                                                                                                                  \
    static inline CELLAR_MUST_CHECK int cellar_pipeline_set_##name(struct cellar_pipeline *pipeline, uint64_t address, \
                                                                   type value)                                         \
    {                                                                                                                  \
        unsigned char copy[sizeof(type)];                                                                              \
        cellar_encode_##code(copy, (utype)value);                                                                      \
        return cellar_pipeline_write(pipeline, address, copy, sizeof copy);                                            \
    }

CELLAR_PIPELINE_INTEGER(i8, int8_t, uint8_t, 8)
CELLAR_PIPELINE_INTEGER(u8, uint8_t, uint8_t, 8)
CELLAR_PIPELINE_INTEGER(i16_le, int16_t, uint16_t, 16_le)
CELLAR_PIPELINE_INTEGER(i16_be, int16_t, uint16_t, 16_be)
CELLAR_PIPELINE_INTEGER(i16_ne, int16_t, uint16_t, 16_ne)
CELLAR_PIPELINE_INTEGER(u16_le, uint16_t, uint16_t, 16_le)
CELLAR_PIPELINE_INTEGER(u16_be, uint16_t, uint16_t, 16_be)
CELLAR_PIPELINE_INTEGER(u16_ne, uint16_t, uint16_t, 16_ne)
CELLAR_PIPELINE_INTEGER(i32_le, int32_t, uint32_t, 32_le)
CELLAR_PIPELINE_INTEGER(i32_be, int32_t, uint32_t, 32_be)
CELLAR_PIPELINE_INTEGER(i32_ne, int32_t, uint32_t, 32_ne)
CELLAR_PIPELINE_INTEGER(u32_le, uint32_t, uint32_t, 32_le)
CELLAR_PIPELINE_INTEGER(u32_be, uint32_t, uint32_t, 32_be)
CELLAR_PIPELINE_INTEGER(u32_ne, uint32_t, uint32_t, 32_ne)
CELLAR_PIPELINE_INTEGER(i64_le, int64_t, uint64_t, 64_le)
CELLAR_PIPELINE_INTEGER(i64_be, int64_t, uint64_t, 64_be)
CELLAR_PIPELINE_INTEGER(i64_ne, int64_t, uint64_t, 64_ne)
CELLAR_PIPELINE_INTEGER(u64_le, uint64_t, uint64_t, 64_le)
CELLAR_PIPELINE_INTEGER(u64_be, uint64_t, uint64_t, 64_be)
CELLAR_PIPELINE_INTEGER(u64_ne, uint64_t, uint64_t, 64_ne)

#undef CELLAR_PIPELINE_INTEGER

static inline CELLAR_MUST_CHECK int cellar_pipeline_get_128(struct cellar_pipeline *pipeline, uint64_t address,
                                                            uint8_t ret_bytes[16])
{
    unsigned char copy[16];
    const unsigned char *bytes = cellar_pipeline_peek(pipeline, address, sizeof copy);
    if (!bytes) {
        int error = cellar_pipeline_read(pipeline, address, copy, sizeof copy);
        if (error)
            return error;
        bytes = copy;
    }
    memcpy(ret_bytes, bytes, sizeof copy);
    return 0;
}

static inline CELLAR_MUST_CHECK int cellar_pipeline_set_128(struct cellar_pipeline *pipeline, uint64_t address,
                                                            const uint8_t bytes[16])
{
    return cellar_pipeline_write(pipeline, address, bytes, 16);
}

#ifdef __cplusplus
}
#endif
#endif
