#include "cell/cells.h"

#include "base/check.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* LOADS_MAX: so often a page is loaded again because validate wants it. */
enum { CACHE_BYTES_DEFAULT = 8 << 20, PAGES_MAX = 1 << 28, LOADS_MAX = 100 };

/* The power of two of pages that fit into cache_bytes, at least four. */
static size_t page_count(uint64_t cache_bytes)
{
    size_t count = 4;

    if (cache_bytes == 0)
        cache_bytes = CACHE_BYTES_DEFAULT;
    while (count < PAGES_MAX && (uint64_t)count * 2 * CELLAR_CELLS_PAGE_BYTES <= cache_bytes)
        count *= 2;
    return count;
}

static CELLAR_COLD int open_handles(struct cellar_cells *cells, int count)
{
    cells->handles = calloc((size_t)count, sizeof *cells->handles);
    if (cells->handles == NULL)
        return -ENOMEM;
    cells->handle_count = count;
    for (int i = 0; i < count; i++) {
        if (pthread_mutex_init(&cells->handles[i].lock, NULL) != 0)
            return -ENOMEM;
        cells->handles[i].lock_ready = true;
    }
    return 0;
}

CELLAR_COLD int cellar_cells_open_checked(struct cellar_cells *cells, struct cellar_device *device,
                                          uint32_t bytes_per_cell, uint64_t cache_bytes,
                                          const struct cellar_cache_hooks *hooks, void *user)
{
    struct cellar_cache_options options = {.page_bytes = CELLAR_CELLS_PAGE_BYTES,
                                           .page_count = page_count(cache_bytes),
                                           .copy = true, /* what was looked at is what is seen */
                                           .hooks = *hooks,
                                           .user = user};
    int error;

    *cells = (struct cellar_cells){.bytes_per_cell = bytes_per_cell};
    error = open_handles(cells, CELLAR_CELLS_HANDLES);
    if (error == 0)
        error = cellar_cache_open_with(device, &options, &cells->handles[0].cache);
    if (error != 0)
        cellar_cells_close(cells);
    return error;
}

CELLAR_COLD int cellar_cells_open(struct cellar_cells *cells, struct cellar_device *device, uint32_t bytes_per_cell,
                                  void *window, uint64_t cache_bytes, bool writer, unsigned eager_writes)
{
    struct cellar_pipeline_options options = {
        .cache = {.page_bytes = CELLAR_CELLS_PAGE_BYTES, .page_count = page_count(cache_bytes)},
        .eager_writes = eager_writes};
    int error;

    *cells = (struct cellar_cells){.bytes_per_cell = bytes_per_cell,
                                   .window = window,
                                   .stage = {.from = UINT64_MAX, .threshold_bytes = UINT64_MAX}};
    if (window != NULL) {
        cells->by_page = cellar_device_reads_by_page(device) ? device : NULL;
        return 0;
    }
    error = open_handles(cells, writer ? 1 : CELLAR_CELLS_HANDLES);
    if (error == 0 && writer)
        error = cellar_pipeline_open_with(device, &options, &cells->pipeline);
    else if (error == 0)
        error = cellar_cache_open_with(device, &options.cache, &cells->handles[0].cache);
    if (error != 0)
        cellar_cells_close(cells);
    return error;
}

CELLAR_COLD void cellar_cells_close(struct cellar_cells *cells)
{
    cellar_stage_close(&cells->stage);
    cellar_pipeline_close(cells->pipeline);
    for (int i = 0; i < cells->handle_count; i++) {
        cellar_cache_close(cells->handles[i].cache);
        if (cells->handles[i].lock_ready)
            pthread_mutex_destroy(&cells->handles[i].lock);
    }
    free(cells->handles);
    *cells = (struct cellar_cells){.window = NULL};
}

void cellar_cells_gather(struct cellar_cells *cells, struct cellar_device *device, uint64_t threshold_bytes)
{
    cellar_stage_open(&cells->stage, device, cells->window, threshold_bytes);
}

void cellar_cells_set_committed(struct cellar_cells *cells, uint64_t offset)
{
    if (cells->stage.device != NULL)
        cellar_stage_begin(&cells->stage, offset);
    if (cells->pipeline != NULL)
        cellar_pipeline_set_committed(cells->pipeline, offset);
}

static inline int check_fork(const struct cellar_cells *cells)
{
    return cells->fork_page != NULL && cellar_forked(cells->fork_page) ? CELLAR_EFORKED : 0;
}

/* Takes the writer's lock; CELLAR_EFORKED in a child. */
static int enter(struct cellar_cells *cells)
{
    int error = check_fork(cells);

    if (error == 0)
        pthread_mutex_lock(&cells->handles[0].lock);
    return error;
}

static void leave(struct cellar_cells *cells)
{
    pthread_mutex_unlock(&cells->handles[0].lock);
}

/* A handle that this thread took before, or the first that nobody did; where all are taken, one that isn't in use. */
static struct cellar_cells_handle *choose(struct cellar_cells *cells)
{
    static _Thread_local char here;
    uintptr_t self = (uintptr_t)&here;

    for (int i = 0; i < cells->handle_count; i++) {
        uintptr_t thread = atomic_load_explicit(&cells->handles[i].thread, memory_order_relaxed);

        if (thread == 0 && atomic_compare_exchange_strong(&cells->handles[i].thread, &thread, self))
            thread = self;
        if (thread == self) {
            pthread_mutex_lock(&cells->handles[i].lock);
            return &cells->handles[i];
        }
    }
    for (int i = 0; i < cells->handle_count; i++) {
        if (pthread_mutex_trylock(&cells->handles[i].lock) == 0)
            return &cells->handles[i];
    }
    pthread_mutex_lock(&cells->handles[0].lock);
    return &cells->handles[0];
}

/* The handle's cache, which shares the pages of the first. */
static int make_cache(struct cellar_cells *cells, struct cellar_cells_handle *handle)
{
    int error;

    if (handle->cache != NULL)
        return 0;
    pthread_mutex_lock(&cells->handles[0].lock); /* a handle that holds two locks isn't the first, and has no cache */
    error = cellar_cache_share(cells->handles[0].cache, &handle->cache);
    pthread_mutex_unlock(&cells->handles[0].lock);
    return error;
}

static int read_pages(struct cellar_cells *cells, uint64_t offset, void *buffer, size_t length_bytes)
{
    struct cellar_cells_handle *handle = choose(cells);
    int error = make_cache(cells, handle);

    if (error == 0)
        error = cellar_cache_read(handle->cache, offset, buffer, length_bytes);
    for (int i = 0; error == -EAGAIN && i < LOADS_MAX; i++)
        error = cellar_cache_read(handle->cache, offset, buffer, length_bytes);
    pthread_mutex_unlock(&handle->lock);
    return error == -EAGAIN ? -EIO : error;
}

int cellar_cells_read(struct cellar_cells *cells, uint64_t offset, void *buffer, size_t length_bytes)
{
    int error;

    if (length_bytes == 0)
        return 0;
    if (cells->window != NULL) {
        cellar_cells_expect(cells, offset, length_bytes);
        memcpy(buffer, cells->window + offset, length_bytes);
        return 0;
    }
    error = check_fork(cells);
    if (error == 0)
        error = atomic_load_explicit(&cells->failure, memory_order_relaxed);
    if (error != 0)
        return error;
    if (cells->pipeline == NULL)
        return read_pages(cells, offset, buffer, length_bytes);
    pthread_mutex_lock(&cells->handles[0].lock);
    error = cellar_pipeline_read(cells->pipeline, offset, buffer, length_bytes);
    leave(cells);
    return error;
}

void cellar_cells_fail(struct cellar_cells *cells, int error)
{
    atomic_store_explicit(&cells->failure, error, memory_order_relaxed);
}

int cellar_cells_write(struct cellar_cells *cells, uint64_t offset, const void *bytes, size_t length_bytes)
{
    int error;

    if (length_bytes == 0)
        return 0;
    if (cells->window != NULL) {
        if (offset >= cells->stage.from)
            return cellar_stage_write(&cells->stage, offset, bytes, length_bytes);
        memmove(cells->window + offset, bytes, length_bytes); /* the bytes may be those cells, lent */
        return 0;
    }
    error = enter(cells);
    if (error != 0)
        return error;
    error = cellar_pipeline_write(cells->pipeline, offset, bytes, length_bytes);
    leave(cells);
    return error;
}

int cellar_cells_settle(struct cellar_cells *cells, uint64_t *ret_end)
{
    int error = cellar_stage_flush(&cells->stage);

    if (error != 0)
        *ret_end = cells->stage.begin;
    return error;
}

int cellar_cells_rewrite(struct cellar_cells *cells, uint64_t offset, const void *bytes, size_t length_bytes)
{
    int error;

    if (cells->window == NULL)
        return cellar_cells_write(cells, offset, bytes, length_bytes);
    error = cellar_stage_flush(&cells->stage);
    if (error == 0)
        memmove(cells->window + offset, bytes, length_bytes);
    return error;
}

int cellar_cells_zero(struct cellar_cells *cells, uint64_t offset, size_t length_bytes)
{
    static unsigned char zeros[512]; /* never written; not const: the library's file needn't hold them */
    int error = 0;

    while (error == 0 && length_bytes > 0) {
        size_t step = length_bytes < sizeof zeros ? length_bytes : sizeof zeros;

        error = cellar_cells_write(cells, offset, zeros, step);
        offset += step;
        length_bytes -= step;
    }
    return error;
}

int cellar_cells_commit(struct cellar_cells *cells, uint64_t end_offset)
{
    int error;

    if (cells->window != NULL) {
        if (cells->stage.device == NULL)
            return 0;
        return cellar_stage_commit(&cells->stage, end_offset);
    }
    error = enter(cells);
    if (error != 0)
        return error;
    error = cellar_pipeline_commit(cells->pipeline);
    leave(cells);
    return error;
}

void cellar_cells_discard(struct cellar_cells *cells)
{
    cellar_stage_drop(&cells->stage);
    if (cells->window != NULL || enter(cells) != 0)
        return;
    cellar_pipeline_discard(cells->pipeline);
    leave(cells);
}

void cellar_cells_forget(struct cellar_cells *cells, uint64_t offset)
{
    if (cells->window != NULL || enter(cells) != 0)
        return;
    cellar_cache_invalidate(cells->handles[0].cache, offset, 1);
    leave(cells);
}
