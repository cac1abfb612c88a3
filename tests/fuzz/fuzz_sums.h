/* fuzz_sums.h - what the fuzzer of checksum files and the test of their flipped bits share: files in memory. */
#ifndef CELLAR_TESTS_FUZZ_SUMS_H
#define CELLAR_TESTS_FUZZ_SUMS_H

#include "fuzz.h"

#include "sum/sum_format.h"

#include <cellar/store.h>

/*
 * This program's library has no other files than those in memory: what it opens, makes, renames and removes under these
 * names is there. All of them are closed and gone with fuzz_files_clear.
 */
#define FUZZ_STORE "/cellar-in-memory"
#define FUZZ_STORE_SUMS FUZZ_STORE ".cellar-sums"
#define FUZZ_STORE_FRESH FUZZ_STORE ".cellar-sums-new"
#define FUZZ_MADE "/cellar-in-memory-made"
#define FUZZ_MADE_SUMS FUZZ_MADE ".cellar-sums"
#define FUZZ_MADE_FRESH FUZZ_MADE ".cellar-sums-new"

/* Every store that is made here has this identity. */
enum { FUZZ_IDENTITY = 0x5eed };

/* Some bytes. Owned by whoever got them. */
struct fuzz_bytes {
    unsigned char *bytes;
    size_t length_bytes;
};

/* Makes a file of zero bytes, in place of what has the name. Returns the bytes, as fuzz_file_look does. */
unsigned char *fuzz_file_make(const char *path, size_t length_bytes);

/* Makes a file of a copy of the bytes. */
void fuzz_file_put(const char *path, const void *bytes, size_t length_bytes);

/* Makes the file shorter. */
void fuzz_file_cut(const char *path, size_t length_bytes);

/* The bytes of the file, which belong to it, until it is changed; none where it is not there. */
struct fuzz_bytes fuzz_file_look(const char *path);

/* A copy of them, in a room of fuzz_room.h. */
struct fuzz_bytes fuzz_file_copy(const char *path);

/* Removes all files; none may be open. */
void fuzz_files_clear(void);

/* ---- the stores of the fuzzer ---- */

enum { FUZZ_SUMS_STORES = 4, FUZZ_SUMS_BYTES_PER_CELL = 32, FUZZ_SUMS_MAX_INDEX = 20000 };

/* A store and its true checksum file, as a writer left them. Number 1 went on to be number 2. */
struct fuzz_sums_store {
    struct fuzz_bytes store, sums;
};

/* Any number names one of them. */
const struct fuzz_sums_store *fuzz_sums_store(uint32_t number);

/* The options of every writer here. */
struct cellar_writer_options fuzz_sums_options(void);

/*
 * An input is choices, and then the sectors of a checksum file: two heads, eight copies, sums. The bytes of the file
 * between them are zero, and nobody reads them.
 */
enum {
    FUZZ_SUMS_CHOICES = 8,
    FUZZ_SUMS_AT_STORE = 0, /* which of the stores */
    FUZZ_SUMS_AT_DEED = 1,  /* what is done with it, see fuzz_sums.c */
    FUZZ_SUMS_AT_PLACE = 2, /* 24 bits: where the store is changed */
    FUZZ_SUMS_AT_CHANGE = 5,
    FUZZ_SUMS_AT_CUT = 6, /* 16 bits: so many bytes are missing at the end of the checksum file */
    FUZZ_SUMS_SUM_AT = FUZZ_SUMS_CHOICES + (CELLAR_SUM_HEAD_COUNT + CELLAR_SUM_COPY_COUNT) * CELLAR_SUM_SECTOR_BYTES,
};

/* Where in the file the input's sector of that number lies. */
static inline uint64_t fuzz_sums_offset(size_t sector)
{
    if (sector < CELLAR_SUM_HEAD_COUNT)
        return cellar_sum_head_offset((int)sector);
    sector -= CELLAR_SUM_HEAD_COUNT;
    if (sector < CELLAR_SUM_COPY_COUNT)
        return cellar_sum_copy_offset((uint32_t)sector);
    return cellar_sum_sector_offset((uint32_t)(sector - CELLAR_SUM_COPY_COUNT));
}

#endif
