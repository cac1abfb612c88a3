/*
 * stage.h - cells of a large commit on their way into a mapped file: gathered, and written by large writes.
 *
 * A store into a page of a mapping that was not touched before is a page fault, of about the price of copying the page
 * several times; a write of many pages at once makes the kernel allocate them in large folios and copies. So the first
 * bytes of a commit are stored into the window, as small commits are, and what comes after threshold_bytes is gathered
 * here and written when the buffer is full, or when somebody needs it: at commit, before it
 * is published, and when the writer takes a snapshot. Both ways end in the same pages of the page cache.
 *
 * The appending thread's alone. What is staged is not committed, so that nobody else looks at its place in the file.
 */
#ifndef CELLAR_CELL_STAGE_H
#define CELLAR_CELL_STAGE_H

#include <cellar/device.h>
#include <stdbool.h>
#include <stdint.h>

/* After a commit of so much nothing of the next is stored into the window: the kernel reads ahead of a fault, and pages
 * that it brought in so are small. */
enum { CELLAR_STAGE_LARGE_BYTES = 1 << 20 };

struct cellar_stage {
    struct cellar_device *device;
    unsigned char *window;
    uint64_t threshold_bytes;
    uint64_t base;        /* what is before this is committed */
    uint64_t from;        /* what is written from this offset on is gathered; UINT64_MAX: nothing */
    unsigned char *bytes; /* NULL: not needed yet */
    uint64_t begin;       /* the offset of what is gathered, */
    size_t length_bytes;  /* so much */
    size_t end_bytes;     /* it goes when it is so much */
};

/* threshold_bytes: UINT64_MAX is never. */
void cellar_stage_open(struct cellar_stage *stage, struct cellar_device *device, void *window,
                       uint64_t threshold_bytes);
/* What is gathered is dropped. An all-zero struct is fine. */
void cellar_stage_close(struct cellar_stage *stage);

/* Everything below offset is committed. Nothing is gathered. */
void cellar_stage_begin(struct cellar_stage *stage, uint64_t offset);

/* What is gathered goes to the file, and everything below end_offset is committed. */
int cellar_stage_commit(struct cellar_stage *stage, uint64_t end_offset);

/* The same where nothing is gathered, and the commit is not a large one; else false, and nothing was done. */
static inline bool cellar_stage_commit_small(struct cellar_stage *stage, uint64_t end_offset)
{
    if (stage->length_bytes != 0 || end_offset - stage->base >= CELLAR_STAGE_LARGE_BYTES)
        return false;
    stage->base = end_offset;
    stage->from = stage->threshold_bytes == UINT64_MAX ? UINT64_MAX : end_offset + stage->threshold_bytes;
    return true;
}

/* Takes bytes that go to offset, at or after stage->from. Errors of the device: what was gathered may be lost. */
int cellar_stage_write(struct cellar_stage *stage, uint64_t offset, const void *bytes, size_t length_bytes);

/* What is gathered goes to the file. */
int cellar_stage_flush(struct cellar_stage *stage);

/* What is gathered is dropped. */
void cellar_stage_drop(struct cellar_stage *stage);

#endif
