/*
 * sums.h - checksums of a store's cells, kept beside it.
 *
 * A store that was made with the writer's option checksums has a file STORE.cellar-sums: a checksum (XXH3, 64 bits) of
 * every 4096 bytes of flushed cells, and a copy of the store's first 4096 bytes. Writers extend it at every flush,
 * without a further barrier; readers that ask for it (option verify) compare each page when they first load it. Here is
 * what looks after it: check, rebuild, add, restore. docs/checksums.md has the file's format and what is promised.
 *
 * The store's own format is what it always was: who does not know of checksums reads and writes the store, and what he
 * appends is covered from the next flush of a writer who does.
 *
 * Threads: each call is for itself; any thread.
 */
#ifndef CELLAR_SUMS_H
#define CELLAR_SUMS_H

#include <cellar/error.h>
#include <cellar/store.h>
#include <stdbool.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Bytes of the store that are not those that were written. */
struct cellar_sums_rot {
    uint64_t offset_bytes, length_bytes; /* the block: its checksum does not hold */
    uint32_t first_index, last_index;    /* the cells that have bytes in it */
    bool unreadable;                     /* the file ends before it, or the disk gives an error */
    bool located;                        /* it is one flipped bit, this one: */
    uint64_t bit_offset_bytes;           /* the byte with it */
    unsigned bit;                        /* 0: the lowest of that byte */
    uint32_t bit_index;                  /* the cell with it */
};

/* All-zero means defaults, and so does NULL. No pointer is kept after the call. */
struct cellar_sums_options {
    /* Called now and then, with the bytes of the store that have been looked at and all there are. May be NULL. */
    void (*progress)(void *user, uint64_t done_bytes, uint64_t total_bytes);
    /* check: called for each block that is rotten, in the order of the file. May be NULL. */
    void (*rotten)(void *user, const struct cellar_sums_rot *rot);
    void *user;
    bool force; /* rebuild: also where checksums say that cells are rotten; they are summed as they are now */
    struct cellar_diagnostic *diagnostic; /* filled on failure; may be NULL */
};

/* What a check found. */
struct cellar_sums_report {
    enum cellar_sums_state state;
    struct cellar_diagnostic why; /* LOST and STALE: what is the matter; else empty */
    uint64_t flushed_bytes;       /* of the store: what can have checksums ends here; it begins at byte 256 */
    uint64_t verified_bytes;      /* compared with their checksums, rotten ones included */
    uint64_t uncovered_bytes;     /* flushed, without a checksum */
    uint64_t broken_sectors;      /* of the checksum file: rotten themselves */
    uint64_t rotten_blocks;
    bool tail_rotten; /* the last block is among them: where all blocks from one on are, an older copy of the store may
                         have been put in its place and written by somebody who does not know of checksums */
};

/*
 * Compares all flushed cells with their checksums; changes nothing, and may run beside a writer. 0: it was done, the
 * report says what was found. A file that is LOST or STALE is not trusted: nothing is compared then. CELLAR_ECORRUPT:
 * the store's header is broken (cellar_sums_restore). Errors of the system.
 */
CELLAR_API CELLAR_MUST_CHECK int cellar_sums_check(const char *path, const struct cellar_sums_options *options,
                                                   struct cellar_sums_report *ret_report);

/*
 * Makes the checksums of a store that has them anew, from its cells as they are now: where they are LOST or STALE. The
 * store is opened for write and flushed; the new file takes the old one's place when it is durable. CELLAR_ECHECKSUM:
 * the old ones can be trusted, and say that cells are rotten (see force). -ENOTSUP: the store was made without.
 * CELLAR_EBUSY, and the other errors of cellar_writer_open.
 */
CELLAR_API CELLAR_MUST_CHECK int cellar_sums_rebuild(const char *path, const struct cellar_sums_options *options);

/* Gives checksums to a store that was made without. -EEXIST: it has them. Errors as rebuild. */
CELLAR_API CELLAR_MUST_CHECK int cellar_sums_add(const char *path, const struct cellar_sums_options *options);

/*
 * Makes a store of one whose first bytes (up to 4096) are lost: a new file at new_path with those of the copy, at the
 * flushed state that the copy knows and no cell that has a checksum unused again; and its checksum file beside it. The
 * file at path may have any bytes there, or give errors. Nothing of it is changed; check the new one. -EEXIST: there
 * is something at new_path. CELLAR_ESUMS: no checksum file, or no copy in it. CELLAR_ECORRUPT: the store is shorter
 * than the state of the copy. Errors of the system.
 */
CELLAR_API CELLAR_MUST_CHECK int cellar_sums_restore(const char *path, const char *new_path,
                                                     const struct cellar_sums_options *options,
                                                     struct cellar_config *ret_config, uint32_t *ret_next_index,
                                                     uint32_t *ret_root_index);

#ifdef __cplusplus
}
#endif
#endif
