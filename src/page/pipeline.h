/* pipeline.h - the inside of a pipeline, for the files of this room. The outside is <cellar/pipeline.h>. */
#ifndef CELLAR_PAGE_PIPELINE_H
#define CELLAR_PAGE_PIPELINE_H

#include "page/load.h"
#include "page/pending.h"
#include <cellar/pipeline.h>
#include <pthread.h>

struct cellar_queue;
struct cellar_eager_write;

/* Pages on their way before commit: pipeline_eager.c. */
struct cellar_eager {
    struct cellar_queue *queue; /* NULL before the first one */
    struct cellar_eager_write *writes, *writes_free;
    unsigned under_way;
    size_t sending_pages;          /* of those that are under way */
    size_t pages_max;              /* of one write */
    uint64_t first_page, end_page; /* complete pages, one behind the other, that have not been started */
    uint64_t sent_end;             /* behind the last byte that was sent, since the last commit */
    bool stopped;                  /* there are no threads to be had: no more is begun */
};

struct cellar_pipeline {
    struct cellar_pipeline_front front; /* first: the inline gets of <cellar/pipeline.h> know it */
    struct cellar_source source;        /* what the cache reads; here it fills the gaps between pending bytes */
    struct cellar_pipeline_functions functions;
    struct cellar_pipeline_options options;
    uint64_t size_bytes; /* of the device, when it was asked last; it may be larger by now */
    size_t block_bytes;
    bool writable;
    struct cellar_pending_set pending;
    uint64_t fault_address;
    struct iovec *parts;      /* one for each page of a run */
    unsigned char *gap;       /* a page: what the device has there */
    unsigned char *ends[2];   /* pages: the first and the last of a run, where blocks reach past what is to go out */
    size_t fixed;             /* fixes of write frames */
    int poison;               /* the first error of an eager write */
    uint64_t committed_bytes; /* UINT64_MAX: all that the device has is in versions */
    struct cellar_eager eager;
    pthread_mutex_t commit_lock; /* between a commit and who takes a snapshot */
    bool commit_lock_ready;
};

/* Sends the pending bytes in [start, end) and cleans them. */
int cellar_pipeline_send(struct cellar_pipeline *pipeline, uint64_t start, uint64_t end);

/* The same where new versions lie elsewhere: count pages of pending.order, whole. */
int cellar_pipeline_send_placed(struct cellar_pipeline *pipeline, size_t count, uint64_t version);

/* Reads length bytes of the page at address, without what is pending, to gap; where new versions lie elsewhere, what
 * the version before doesn't have is zero. */
int cellar_pipeline_read_gap(struct cellar_pipeline *pipeline, uint64_t address, size_t length);

/* CELLAR_EBOUNDS where [address, address + length) is not all on the device. */
int cellar_pipeline_check_bounds(struct cellar_pipeline *pipeline, uint64_t address, size_t length);

/* ---- pipeline_eager.c ---- */

/* Checks the options. */
int cellar_eager_open(struct cellar_pipeline *pipeline);
/* Waits for what is on its way. */
void cellar_eager_close(struct cellar_pipeline *pipeline);

/* The pages of [address, address + length) have been written, or were fixed: those that are complete may go out.
 * Returns the poison. */
int cellar_eager_notice(struct cellar_pipeline *pipeline, uint64_t address, uint64_t length);

/* How much of a write to take at a time, so that pending_bytes_max is kept. */
size_t cellar_eager_piece(const struct cellar_pipeline *pipeline, size_t length);

/* The pages of the range are about to change: waits for those that are on their way. Returns the poison. */
int cellar_eager_settle(struct cellar_pipeline *pipeline, uint64_t address, uint64_t length);

/* Takes in what is done. Returns the poison. */
int cellar_eager_look(struct cellar_pipeline *pipeline);

/* Sends what is complete, and waits for all. Returns the poison. */
int cellar_eager_finish(struct cellar_pipeline *pipeline);

/* Waits for all that is on its way. Returns the poison. */
int cellar_eager_drain(struct cellar_pipeline *pipeline);

#endif
