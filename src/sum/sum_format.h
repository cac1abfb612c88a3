/*
 * sum_format.h - what the bytes of a sums file mean: pure functions, no I/O, no allocation. docs/checksums.md says the
 * same in words. All integers are little endian.
 *
 * The file consists of sectors of 512 bytes, each with a check of its own (the hash of its first 504 bytes in its last
 * 8), so that a power loss leaves each of them old or new and never breaks one that was whole; both speak the truth.
 */
#ifndef CELLAR_SUM_SUM_FORMAT_H
#define CELLAR_SUM_SUM_FORMAT_H

#include <cellar/error.h>
#include <cellar/store.h>
#include <stdbool.h>
#include <stdint.h>

enum {
    CELLAR_SUM_FORMAT = 1,
    CELLAR_SUM_SECTOR_BYTES = 512,
    CELLAR_SUM_BLOCK_BYTES = 4096, /* the store's bytes that one sum is of */
    CELLAR_SUM_PER_SECTOR = 61,
    CELLAR_SUM_SPAN_BYTES = CELLAR_SUM_PER_SECTOR * CELLAR_SUM_BLOCK_BYTES, /* that one sector's sums are of */
    CELLAR_SUM_FIRST_BYTE = CELLAR_HEADER_BYTES,                            /* the first byte that is summed */

    CELLAR_SUM_HEAD_COUNT = 2,
    CELLAR_SUM_COPY_COUNT = 8,
    CELLAR_SUM_COPY_BYTES = 480, /* in each copy sector; all of them hold bytes 256..4095 */

    CELLAR_SUM_AT_HEADS = 0, /* each in a page of its own */
    CELLAR_SUM_AT_COPIES = 8192,
    CELLAR_SUM_AT_SUMS = 12288,
};

/* What makes a sums file that of one store. */
struct cellar_sum_owner {
    uint32_t identity; /* random, never 0 */
    uint32_t bytes_per_cell;
    uint32_t max_index;
};

struct cellar_sum_head {
    struct cellar_sum_owner owner;
    uint64_t sequence;                         /* of two whole heads the higher one is in force */
    uint64_t covered_bytes;                    /* all of the store below this had sums when the head was written */
    uint64_t settled_bytes;                    /* and the sectors with those below this were durable then */
    unsigned char header[CELLAR_HEADER_BYTES]; /* the store's first bytes, as of its last flush */
};

/* A part of the store's bytes 256..4095, kept against the loss of its first sector. */
struct cellar_sum_copy {
    uint32_t length_bytes; /* as many of them as were flushed */
    unsigned char bytes[CELLAR_SUM_COPY_BYTES];
};

/* The sums of up to 61 blocks that follow each other. */
struct cellar_sum_sector {
    uint32_t number;     /* the blocks are number * 61 and those after it */
    uint32_t count;      /* of sums */
    uint32_t tail_bytes; /* of the last one's block, this many from its begin are covered; 4096 in any other */
    uint64_t sums[CELLAR_SUM_PER_SECTOR];
};

static inline uint64_t cellar_sum_head_offset(int which)
{
    return CELLAR_SUM_AT_HEADS + (uint64_t)which * CELLAR_SUM_BLOCK_BYTES;
}

static inline uint64_t cellar_sum_copy_offset(uint32_t number)
{
    return CELLAR_SUM_AT_COPIES + (uint64_t)number * CELLAR_SUM_SECTOR_BYTES;
}

static inline uint64_t cellar_sum_sector_offset(uint32_t number)
{
    return CELLAR_SUM_AT_SUMS + (uint64_t)number * CELLAR_SUM_SECTOR_BYTES;
}

/* The sector with the sum of the store's byte at offset. */
static inline uint32_t cellar_sum_sector_of(uint64_t offset)
{
    return (uint32_t)(offset / CELLAR_SUM_SPAN_BYTES);
}

/* The first byte of a block that its sum covers: the header, which changes, lies in none. */
static inline uint64_t cellar_sum_block_begin(uint64_t block)
{
    uint64_t begin = block * CELLAR_SUM_BLOCK_BYTES;

    return begin < CELLAR_SUM_FIRST_BYTE ? CELLAR_SUM_FIRST_BYTE : begin;
}

static inline uint64_t cellar_sum_max(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

static inline uint64_t cellar_sum_min(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

/* Each takes or gives a whole sector. Decoding: 0; CELLAR_NONE: nothing was written there (zeros); CELLAR_ECORRUPT: it
 * is torn, rotten, or what another owner or another place has. -ENOTSUP (heads): of a later format. */
void cellar_sum_head_encode(const struct cellar_sum_head *head, void *ret_bytes);
int cellar_sum_head_decode(const void *bytes, struct cellar_sum_head *ret_head);
void cellar_sum_copy_encode(const struct cellar_sum_copy *copy, uint32_t identity, uint32_t number, void *ret_bytes);
int cellar_sum_copy_decode(const void *bytes, uint32_t identity, uint32_t number, struct cellar_sum_copy *ret_copy);
void cellar_sum_sector_encode(const struct cellar_sum_sector *sector, uint32_t identity, void *ret_bytes);
int cellar_sum_sector_decode(const void *bytes, uint32_t identity, uint32_t number,
                             struct cellar_sum_sector *ret_sector);

/* The store's bytes from *ret_begin to *ret_end are what sum number i (< count) of the sector is of. */
static inline void cellar_sum_range(const struct cellar_sum_sector *sector, uint32_t i, uint64_t *ret_begin,
                                    uint64_t *ret_end)
{
    uint64_t block = (uint64_t)sector->number * CELLAR_SUM_PER_SECTOR + i;

    *ret_begin = cellar_sum_block_begin(block);
    *ret_end = block * CELLAR_SUM_BLOCK_BYTES +
               (i + 1 < sector->count ? (uint32_t)CELLAR_SUM_BLOCK_BYTES : sector->tail_bytes);
}

/* Where the covered bytes of the sector end; its begin where it has no sums. */
uint64_t cellar_sum_sector_end(const struct cellar_sum_sector *sector);

/*
 * What to think of a sums file whose owner is the store's, where the store's flushed bytes end at flushed_bytes (asked
 * after the sums were read), all below covered_bytes have sums, and the last sum of all ends at claimed_bytes. STALE:
 * sums of bytes that the store does not have.
 */
enum cellar_sums_state cellar_sum_judge(uint64_t covered_bytes, uint64_t claimed_bytes, uint64_t flushed_bytes);

#endif
