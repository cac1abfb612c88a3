/*
 * cells.h - the bytes of cells, the one way for both data paths: through the window, or through the pipeline (a writer)
 * or the cache (a reader). Offsets are bytes of the file.
 */
#ifndef CELLAR_CELL_CELLS_H
#define CELLAR_CELL_CELLS_H

#include "base/check.h"
#include "base/fork.h"
#include "cell/stage.h"
#include "device/device.h"

#include <cellar/cache.h>
#include <cellar/device.h>
#include <cellar/pipeline.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

/* A reader's threads each have a handle of their own on the pages, as far as there are enough. */
enum { CELLAR_CELLS_HANDLES = 16 };

/* Pages of the pages path: the size that the kernel's own page cache works in. */
enum { CELLAR_CELLS_PAGE_BYTES = 4096 };

struct cellar_cells_handle {
    pthread_mutex_t lock;       /* held while the cache is used */
    atomic_uintptr_t thread;    /* who came first; 0: nobody yet */
    struct cellar_cache *cache; /* NULL: not made yet, but for the first */
    bool lock_ready;
};

struct cellar_cells {
    uint32_t bytes_per_cell;
    unsigned char *window;               /* NULL: the pages path */
    const struct cellar_device *by_page; /* the device of a window that is read by page; NULL: of none */
    struct cellar_pipeline *pipeline;    /* a writer's, on the pages path; under handles[0].lock */
    struct cellar_cells_handle *handles; /* on the pages path: a reader's CELLAR_CELLS_HANDLES, a writer's one */
    int handle_count;
    const struct cellar_fork_page *fork_page; /* the handle's; NULL: not watched */
    atomic_int failure;                       /* what every read gives; 0: bytes */
    struct cellar_stage stage;                /* a writer's, with a window */
};

/* Without a window every call in a child after fork is CELLAR_EFORKED: a lock may have been held by a thread that is
 * not there. */

/* window NULL: opens a pipeline (writer) or a cache of about cache_bytes. A writer with eager_writes sends pages that
 * cellar_cells_set_committed says nobody has yet before commit, so many at a time. 0, -ENOMEM, ... */
int cellar_cells_open(struct cellar_cells *cells, struct cellar_device *device, uint32_t bytes_per_cell, void *window,
                      uint64_t cache_bytes, bool writer, unsigned eager_writes);
/* A reader's, on the pages path: hooks look at each page as it is loaded. A validate that gives -EAGAIN has the page
 * loaded again, some times; in the end that is -EIO. */
int cellar_cells_open_checked(struct cellar_cells *cells, struct cellar_device *device, uint32_t bytes_per_cell,
                              uint64_t cache_bytes, const struct cellar_cache_hooks *hooks, void *user);
/* Pending writes are dropped. An all-zero struct is fine. */
void cellar_cells_close(struct cellar_cells *cells);

/* A writer's cells of a window that lies over a file: those of a commit beyond threshold_bytes go there by large writes
 * (cell/stage.h). UINT64_MAX: none. */
void cellar_cells_gather(struct cellar_cells *cells, struct cellar_device *device, uint64_t threshold_bytes);

/* Cells below this offset are committed. Before anything is written. */
void cellar_cells_set_committed(struct cellar_cells *cells, uint64_t offset);

int cellar_cells_read(struct cellar_cells *cells, uint64_t offset, void *buffer, size_t length_bytes);
int cellar_cells_write(struct cellar_cells *cells, uint64_t offset, const void *bytes, size_t length_bytes);
/* The same of cells that may have been written, or lent, before. */
int cellar_cells_rewrite(struct cellar_cells *cells, uint64_t offset, const void *bytes, size_t length_bytes);
/* What a writer wrote can be read in the window. On failure that is so below *ret_end only. */
int cellar_cells_settle(struct cellar_cells *cells, uint64_t *ret_end);

/*
 * The place of the next 64 bytes that a writer with a window appends, at offset, in the window or among what is
 * gathered; they are to be put there at once. NULL: cellar_cells_write knows.
 */
static inline unsigned char *cellar_cells_place(struct cellar_cells *cells, uint64_t offset)
{
    struct cellar_stage *stage = &cells->stage;
    unsigned char *place;

    if (CELLAR_LIKELY(offset < stage->from))
        return cells->window != NULL ? cells->window + offset : NULL;
    if (offset != stage->begin + stage->length_bytes || stage->end_bytes - stage->length_bytes < 64)
        return NULL;
    place = stage->bytes + stage->length_bytes;
    stage->length_bytes += 64;
    return place;
}

/* Whether all that was written, up to end_offset, is in the file: then that is committed, and may be published. False:
 * cellar_cells_commit. */
static inline bool cellar_cells_commit_small(struct cellar_cells *cells, uint64_t end_offset)
{
    return cells->window != NULL && cellar_stage_commit_small(&cells->stage, end_offset);
}

/* These bytes are about to be read, at once: where that would wait for the disk once for each page, it waits once. */
static inline void cellar_cells_expect(const struct cellar_cells *cells, uint64_t offset, size_t length_bytes)
{
    if (length_bytes > CELLAR_CELLS_PAGE_BYTES && CELLAR_UNLIKELY(cells->by_page != NULL))
        cellar_device_expect(cells->by_page, offset, length_bytes);
}

/* Writes zeros. */
int cellar_cells_zero(struct cellar_cells *cells, uint64_t offset, size_t length_bytes);

/* A writer's cells lack what was to be written: from now on every read gives error, until it is 0 again. */
void cellar_cells_fail(struct cellar_cells *cells, int error);

/* What was written, up to end_offset, reaches the device (not yet the disk), as publishing it needs. */
int cellar_cells_commit(struct cellar_cells *cells, uint64_t end_offset);
/* What was written since the last commit is dropped. */
void cellar_cells_discard(struct cellar_cells *cells);

/* A reader moves on: the page with this byte may hold cells that were not there when it was cached. */
void cellar_cells_forget(struct cellar_cells *cells, uint64_t offset);

#endif
