#include "cell/cells.h"

#include <errno.h>
#include <string.h>

/* Pages of the pages path: the size that the kernel's own page cache works in. */
enum { PAGE_BYTES = 4096, CACHE_BYTES_DEFAULT = 8 << 20, PAGES_MAX = 1 << 28 };

/* The power of two of pages that fit into cache_bytes, at least four. */
static size_t page_count(uint64_t cache_bytes)
{
    size_t count = 4;

    if (cache_bytes == 0)
        cache_bytes = CACHE_BYTES_DEFAULT;
    while (count < PAGES_MAX && (uint64_t)count * 2 * PAGE_BYTES <= cache_bytes)
        count *= 2;
    return count;
}

int cellar_cells_open(struct cellar_cells *cells, struct cellar_device *device, uint32_t bytes_per_cell, void *window,
                      uint64_t cache_bytes, bool writer)
{
    int error = 0;

    *cells = (struct cellar_cells){.bytes_per_cell = bytes_per_cell, .window = window};
    if (window != NULL)
        return 0;
    if (pthread_mutex_init(&cells->lock, NULL) != 0)
        return -ENOMEM;
    cells->lock_ready = true;
    if (writer)
        error = cellar_pipeline_open(device, PAGE_BYTES, page_count(cache_bytes), &cells->pipeline);
    else
        error = cellar_cache_open(device, PAGE_BYTES, page_count(cache_bytes), &cells->cache);
    if (error != 0)
        cellar_cells_close(cells);
    return error;
}

void cellar_cells_close(struct cellar_cells *cells)
{
    cellar_pipeline_close(cells->pipeline);
    cellar_cache_close(cells->cache);
    if (cells->lock_ready)
        pthread_mutex_destroy(&cells->lock);
    *cells = (struct cellar_cells){.window = NULL};
}

/* Takes the lock; CELLAR_EFORKED in a child. */
static int enter(struct cellar_cells *cells)
{
    if (cells->fork_page != NULL && cellar_forked(cells->fork_page))
        return CELLAR_EFORKED;
    pthread_mutex_lock(&cells->lock);
    return 0;
}

int cellar_cells_read(struct cellar_cells *cells, uint64_t offset, void *buffer, size_t length_bytes)
{
    int error;

    if (length_bytes == 0)
        return 0;
    if (cells->window != NULL) {
        memcpy(buffer, cells->window + offset, length_bytes);
        return 0;
    }
    error = enter(cells);
    if (error != 0)
        return error;
    if (cells->pipeline != NULL)
        error = cellar_pipeline_read(cells->pipeline, offset, buffer, length_bytes);
    else
        error = cellar_cache_read(cells->cache, offset, buffer, length_bytes);
    pthread_mutex_unlock(&cells->lock);
    return error;
}

int cellar_cells_write(struct cellar_cells *cells, uint64_t offset, const void *bytes, size_t length_bytes)
{
    int error;

    if (length_bytes == 0)
        return 0;
    if (cells->window != NULL) {
        memmove(cells->window + offset, bytes, length_bytes); /* the bytes may be those cells, lent */
        return 0;
    }
    error = enter(cells);
    if (error != 0)
        return error;
    error = cellar_pipeline_write(cells->pipeline, offset, bytes, length_bytes);
    pthread_mutex_unlock(&cells->lock);
    return error;
}

int cellar_cells_commit(struct cellar_cells *cells)
{
    int error;

    if (cells->window != NULL)
        return 0;
    error = enter(cells);
    if (error != 0)
        return error;
    error = cellar_pipeline_commit(cells->pipeline);
    pthread_mutex_unlock(&cells->lock);
    return error;
}

void cellar_cells_discard(struct cellar_cells *cells)
{
    if (cells->window != NULL || enter(cells) != 0)
        return;
    cellar_pipeline_discard(cells->pipeline);
    pthread_mutex_unlock(&cells->lock);
}

void cellar_cells_forget(struct cellar_cells *cells, uint64_t offset)
{
    if (cells->window != NULL || enter(cells) != 0)
        return;
    cellar_cache_invalidate(cells->cache, offset, 1);
    pthread_mutex_unlock(&cells->lock);
}
