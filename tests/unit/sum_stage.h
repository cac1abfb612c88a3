/*
 * sum_stage.h - a store and its sums file in memory, for the tests of src/sum: the store's bytes are an array that the
 * test writes, the sums file lies on a memory device whose bytes can be taken as an image and put back.
 */
#ifndef CELLAR_TESTS_SUM_STAGE_H
#define CELLAR_TESTS_SUM_STAGE_H

#include "support.h"

#include "sum/sum_file.h"

#include <stdlib.h>
#include <string.h>

enum { STAGE_STORE_BYTES = 40 << 20, STAGE_SUMS_BYTES = 1 << 20, STAGE_BYTES_PER_CELL = 32 };

struct sum_stage {
    struct cellar_device *store; /* STAGE_STORE_BYTES */
    unsigned char *bytes;        /* its window */
    struct cellar_sum_owner owner;
    struct cellar_device *sums; /* the device of file, which owns it */
    struct cellar_sum_file *file;
    uint64_t flushed_bytes;
};

/* What is in a sums file. */
struct sum_image {
    unsigned char *bytes;
    size_t length_bytes;
};

static inline struct cellar_device *stage_device(const void *bytes, uint64_t size_bytes)
{
    struct cellar_device *device;

    assert_done(cellar_device_open_memory(bytes, size_bytes, STAGE_SUMS_BYTES, &device));
    return device;
}

static inline void stage_open(struct sum_stage *stage)
{
    void *base;
    uint64_t capacity_bytes;

    *stage = (struct sum_stage){.owner = {.identity = 77, .bytes_per_cell = STAGE_BYTES_PER_CELL, .max_index = 1 << 20},
                                .flushed_bytes = CELLAR_SUM_FIRST_BYTE};
    assert_done(cellar_device_open_memory(NULL, STAGE_STORE_BYTES, STAGE_STORE_BYTES, &stage->store));
    assert_done(cellar_device_window(stage->store, STAGE_STORE_BYTES, true, &base, &capacity_bytes));
    stage->bytes = base;
    support_bytes(99, stage->bytes, CELLAR_HEADER_BYTES);
    stage->sums = stage_device(NULL, 0);
    assert_done(cellar_sum_create_on(stage->sums, &stage->owner, stage->bytes, &stage->file));
}

static inline void stage_close(struct sum_stage *stage)
{
    cellar_sum_close(stage->file, false);
    cellar_device_close(stage->store);
}

/* So many more bytes are flushed; seed names them. */
static inline void stage_append(struct sum_stage *stage, uint64_t length_bytes, uint64_t seed)
{
    support_bytes(seed, stage->bytes + stage->flushed_bytes, (size_t)length_bytes);
    stage->flushed_bytes += length_bytes;
}

static inline void stage_extend(struct sum_stage *stage)
{
    assert_done(cellar_sum_extend(stage->file, stage->store, stage->flushed_bytes, stage->bytes));
    assert_true(stage->file->covered_bytes == stage->flushed_bytes);
}

/* A stage on which so many bytes have been flushed, and summed. */
static inline void stage_open_with(struct sum_stage *stage, uint64_t length_bytes)
{
    stage_open(stage);
    stage_append(stage, length_bytes, 1);
    stage_extend(stage);
}

static inline struct sum_image stage_image(const struct sum_stage *stage)
{
    uint64_t size_bytes;
    struct sum_image image;

    assert_done(cellar_device_size(stage->sums, &size_bytes));
    image = (struct sum_image){.bytes = malloc((size_t)size_bytes), .length_bytes = (size_t)size_bytes};
    assert_non_null(image.bytes);
    assert_done(cellar_device_read(stage->sums, image.bytes, image.length_bytes, 0));
    return image;
}

/* The sums file is closed, and opened again with these bytes. */
static inline int stage_reopen(struct sum_stage *stage, const struct sum_image *image)
{
    cellar_sum_close(stage->file, false);
    stage->file = NULL;
    stage->sums = stage_device(image->bytes, image->length_bytes);
    return cellar_sum_open_on(stage->sums, &stage->owner, &stage->file);
}

/* As stage_reopen, and reads all of it. */
static inline void stage_put_back(struct sum_stage *stage, const struct sum_image *image)
{
    assert_done(stage_reopen(stage, image));
    assert_done(cellar_sum_scan(stage->file));
}

/* Closed and opened with what is in it. */
static inline void stage_again(struct sum_stage *stage)
{
    struct sum_image image = stage_image(stage);

    stage_put_back(stage, &image);
    free(image.bytes);
}

/* What verify says about the block with this byte; *ret_covered: it has a sum. */
static inline int stage_verify(struct sum_stage *stage, uint64_t offset, bool *ret_covered)
{
    uint64_t address = offset - offset % CELLAR_SUM_BLOCK_BYTES, before = stage->file->unverified;
    int error = cellar_sum_verify(stage->file, stage->store, address, stage->bytes + address, CELLAR_SUM_BLOCK_BYTES);

    *ret_covered = stage->file->unverified == before;
    return error;
}

/* No block gives an alarm. Returns how many bytes up to the flushed ones are covered in whole blocks (or up to the end
 * of the flushed ones). */
static inline uint64_t stage_assert_no_alarm(struct sum_stage *stage)
{
    uint64_t covered_bytes = 0;

    for (uint64_t at = 0; at < stage->flushed_bytes; at += CELLAR_SUM_BLOCK_BYTES) {
        bool covered;

        assert_done(stage_verify(stage, at, &covered));
        covered_bytes += covered ? CELLAR_SUM_BLOCK_BYTES : 0;
    }
    return covered_bytes;
}

#endif
