/*
 * cells.h - the bytes of cells, the one way for both data paths: through the window, or through the pipeline (a writer)
 * or the cache (a reader). Offsets are bytes of the file.
 */
#ifndef CELLAR_CELL_CELLS_H
#define CELLAR_CELL_CELLS_H

#include "base/fork.h"

#include <cellar/cache.h>
#include <cellar/device.h>
#include <cellar/pipeline.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

struct cellar_cells {
    uint32_t bytes_per_cell;
    unsigned char *window;            /* NULL: the pages path */
    struct cellar_pipeline *pipeline; /* a writer's, on the pages path */
    struct cellar_cache *cache;       /* a reader's, on the pages path */
    pthread_mutex_t lock;             /* over pipeline and cache, which are each for one thread at a time */
    bool lock_ready;
    const struct cellar_fork_page *fork_page; /* the handle's; NULL: not watched */
};

/* Without a window every call in a child after fork is CELLAR_EFORKED: the lock may have been held by a thread that is
 * not there. */

/* window NULL: opens a pipeline (writer) or a cache of about cache_bytes. 0, -ENOMEM, ... */
int cellar_cells_open(struct cellar_cells *cells, struct cellar_device *device, uint32_t bytes_per_cell, void *window,
                      uint64_t cache_bytes, bool writer);
/* Pending writes are dropped. An all-zero struct is fine. */
void cellar_cells_close(struct cellar_cells *cells);

int cellar_cells_read(struct cellar_cells *cells, uint64_t offset, void *buffer, size_t length_bytes);
int cellar_cells_write(struct cellar_cells *cells, uint64_t offset, const void *bytes, size_t length_bytes);

/* What was written reaches the device (not yet the disk), as publishing it needs. Nothing to do with a window. */
int cellar_cells_commit(struct cellar_cells *cells);
/* What was written since the last commit is dropped. Nothing to do with a window: it is overwritten later. */
void cellar_cells_discard(struct cellar_cells *cells);

/* A reader moves on: the page with this byte may hold cells that were not there when it was cached. */
void cellar_cells_forget(struct cellar_cells *cells, uint64_t offset);

#endif
