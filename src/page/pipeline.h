/* pipeline.h - the inside of a pipeline, for the files of this room. The outside is <cellar/pipeline.h>. */
#ifndef CELLAR_PAGE_PIPELINE_H
#define CELLAR_PAGE_PIPELINE_H

#include "page/load.h"
#include "page/pending.h"
#include <cellar/pipeline.h>

struct cellar_pipeline {
    struct cellar_pipeline_front front; /* first: the inline gets of <cellar/pipeline.h> know it */
    struct cellar_source source;        /* what the cache reads; here it fills the gaps between pending bytes */
    struct cellar_pipeline_functions functions;
    uint64_t size_bytes; /* of the device, when it was asked last; it may be larger by now */
    size_t block_bytes;
    bool writable;
    struct cellar_pending_set pending;
    uint64_t fault_address;
    struct iovec *parts;    /* one for each page of a run */
    unsigned char *gap;     /* a page: what the device has there */
    unsigned char *ends[2]; /* pages: the first and the last of a run, where blocks reach past what is to go out */
};

/* Sends the pending bytes in [start, end) and cleans them. */
int cellar_pipeline_send(struct cellar_pipeline *pipeline, uint64_t start, uint64_t end);

#endif
