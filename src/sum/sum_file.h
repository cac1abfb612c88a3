/*
 * sum_file.h - a sums file that is open: made, looked at, extended, asked. It lies beside its store, in a file of its
 * own; whoever extends it has the store's writer lock.
 *
 * What could lie, and why nothing does. A false alarm is a sum of bytes that the store later writes anew; a silent miss
 * is a block that had a sum and has none any more, or one that was summed again after it had rotted.
 *   1. Only what is durable is summed: cells below a next index that a flush of this very writer has brought to the
 *      disk, header included. No crash takes the store back behind it, so no cell that has a sum is ever used again. A
 *      state that was merely found in the file at open may not be durable, so opening extends nothing.
 *   2. Sectors are written in place, without order and barrier: a power loss leaves each of them old or new. The old
 *      one has fewer sums, and each is as true as before. (Mixed bytes within a sector fail its check.)
 *   3. A sum that is there is never replaced unseen: the sum of a block's first part is checked before that of a longer
 *      part takes its place, and whole sectors that a gap left behind are kept as they are.
 *   4. Sums of bytes beyond the flushed ones mean that the store went back (an older copy was put in its place) or the
 *      disk lied: STALE. So does a last sum that does not hold: the store went back and was written since by somebody
 *      who does not know of sums. Nothing is verified, extended or repaired then.
 *   5. What others wrote to the store meanwhile lies behind what has sums, as cells never change: it is BEHIND, and
 *      summed by the next flush.
 *   6. The identity in every sector is the store's; truncate makes a new one.
 *
 * The store's bytes are read by calls of its device, never through a window: where the disk can't give them that is an
 * error here, and no SIGBUS.
 *
 * Threads: one at a time, but for cellar_sum_verify, which any number may call beside each other on a file that is open
 * for reading.
 */
#ifndef CELLAR_SUM_SUM_FILE_H
#define CELLAR_SUM_SUM_FILE_H

#include "sum/sum_format.h"

#include <cellar/device.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct cellar_sum_file {
    struct cellar_device *device; /* owned */
    struct cellar_sum_owner owner;
    struct cellar_sum_head head; /* in force */
    int head_place;              /* 0 or 1: where it stands */
    uint64_t file_bytes;
    uint64_t covered_bytes;  /* from settled_bytes (or the first byte) to here every byte has a sum */
    uint64_t claimed_bytes;  /* where the last sum ends, after scan */
    uint64_t settled_bytes;  /* the sectors with the sums of all bytes below are durable */
    uint32_t known_sectors;  /* so many were in the file when it was opened: they are read before they are written */
    uint64_t renewed_blocks; /* those of sectors that were broken, summed again */
    struct cellar_sum_sector tail;
    bool tail_ready;
    bool copies_ready;      /* the store's first 4096 bytes are all there as copies */
    unsigned char *cells;   /* CELLAR_SUM_SPAN_BYTES of the store */
    unsigned char *sectors; /* to be written together */
    uint32_t first_sector, sector_count;
    atomic_uint_fast64_t verified, unverified; /* pages that verify has looked at */
};

/*
 * Makes a file that was not there, with no sums and header as the store's first bytes; not durable yet. mode as
 * cellar_device_open_file's. -EEXIST, -ENOSPC, ...
 */
int cellar_sum_create(const char *path, unsigned mode, const struct cellar_sum_owner *owner,
                      const unsigned char header[CELLAR_HEADER_BYTES], struct cellar_sum_file **ret_file);

/* The same on an empty device that grows, which is the file's from here on, also where this fails. */
int cellar_sum_create_on(struct cellar_device *device, const struct cellar_sum_owner *owner,
                         const unsigned char header[CELLAR_HEADER_BYTES], struct cellar_sum_file **ret_file);

/*
 * Opens the file and takes the head in force. owner NULL: any. CELLAR_ECORRUPT: no head is whole. CELLAR_ESUMS: another
 * store's. -ENOTSUP: of a later format. -ENOENT, ...
 */
int cellar_sum_open(const char *path, bool writable, const struct cellar_sum_owner *owner,
                    struct cellar_sum_file **ret_file);
int cellar_sum_open_on(struct cellar_device *device, const struct cellar_sum_owner *owner,
                       struct cellar_sum_file **ret_file);

/* Finds out how far the sums reach: reads the sectors from settled_bytes on. Sets covered_bytes and claimed_bytes. */
int cellar_sum_scan(struct cellar_sum_file *file);

/* Whether the last sum below covered_bytes holds. 0; CELLAR_ECHECKSUM: it does not; errors of the devices. After scan,
 * and only where covered_bytes is not beyond the store's flushed ones. */
int cellar_sum_match(struct cellar_sum_file *file, struct cellar_device *store);

/*
 * Sums the store's bytes from covered_bytes to to_bytes, which are durable, and keeps header, its first bytes. No
 * barrier, but where the file grows. CELLAR_ECHECKSUM: a sum that was there does not hold. After any failure the file
 * can only be closed; what is in it remains true.
 */
int cellar_sum_extend(struct cellar_sum_file *file, struct cellar_device *store, uint64_t to_bytes,
                      const unsigned char header[CELLAR_HEADER_BYTES]);

/* Makes all of it durable. */
int cellar_sum_sync(struct cellar_sum_file *file);

/* Gives back the space that is not needed (a file open for writing). */
int cellar_sum_trim(struct cellar_sum_file *file);

/* The sector of that number. 0; CELLAR_NONE: nothing was written there; CELLAR_ECORRUPT: it is broken. Read again for a
 * moment before it is called broken: it may be being written. */
int cellar_sum_read_sector(struct cellar_sum_file *file, uint32_t number, struct cellar_sum_sector *ret_sector);

/* As many sectors as the file has room for. */
uint32_t cellar_sum_sector_count(const struct cellar_sum_file *file);

/*
 * Whether a block of the store that was read, length_bytes (up to 4096) from address (a multiple of 4096) on, is what
 * was written, as far as it has a sum. 0; CELLAR_ECHECKSUM: it is not; -EAGAIN: it was read before the sum was made,
 * read it again; errors of the devices.
 */
int cellar_sum_verify(struct cellar_sum_file *file, struct cellar_device *store, uint64_t address, const void *bytes,
                      size_t length_bytes);

/* forked: this is a child, whose parent goes on with the file. NULL is fine. */
void cellar_sum_close(struct cellar_sum_file *file, bool forked);

#endif
