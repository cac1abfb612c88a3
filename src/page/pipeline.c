/*
 * pipeline.c - what is pending, and reads that see it. How it goes out: pipeline_send.c.
 *
 * 1. front.pending_pages is the number of pages in the pending set: a get looks there first.
 * 2. A byte is either clean, and then the device has what a read gives, or dirty, and then its pending page has.
 * 3. Every dirty byte lies below size_bytes, which is a size that the device had.
 */
#include "page/pipeline.h"

#include "base/check.h"
#include "page/bits.h"
#include "page/pool.h"
#include <errno.h>
#include <limits.h>
#include <stdlib.h>

static CELLAR_COLD int open_buffers(struct cellar_pipeline *pipeline, size_t page_bytes)
{
    /* The ends are only needed where a block is larger than a byte. */
    size_t pages = pipeline->block_bytes > 1 ? 3 : 1;

    pipeline->parts = malloc(IOV_MAX * sizeof *pipeline->parts);
    pipeline->gap = malloc(pages * page_bytes);
    if (pipeline->parts == NULL || pipeline->gap == NULL)
        return -ENOMEM;
    if (pages == 3) {
        pipeline->ends[0] = pipeline->gap + page_bytes;
        pipeline->ends[1] = pipeline->gap + 2 * page_bytes;
    }
    return 0;
}

static CELLAR_COLD int check_geometry(const struct cellar_pipeline *pipeline)
{
    const struct cellar_pipeline_options *options = &pipeline->options;
    size_t page_bytes = options->cache.page_bytes;

    if (pipeline->block_bytes > page_bytes || (pipeline->block_bytes & (pipeline->block_bytes - 1)) != 0)
        return -EINVAL;
    if (options->place_new != NULL && (options->cache.hooks.place == NULL || options->eager_writes > 0))
        return -EINVAL;
    if (options->place_new == NULL && options->cache.hooks.place != NULL)
        return -EINVAL;
    return options->first_version < CELLAR_VERSION_NEWEST / 2 ? 0 : -EINVAL;
}

static CELLAR_COLD int open_cache(struct cellar_pipeline *pipeline)
{
    const struct cellar_source *source = &pipeline->source;
    const struct cellar_cache_options *options = &pipeline->options.cache;
    int error;

    if (source->device == NULL)
        return cellar_cache_open_map(source->map, source->unmap, source->user, options->page_bytes, options->page_count,
                                     &pipeline->front.cache);
    error = cellar_cache_open_with(source->device, options, &pipeline->front.cache);
    if (error != 0)
        return error;
    pipeline->front.cache->pool->version = pipeline->options.first_version;
    /* A snapshot may come from another thread at any time, so the frames are shared from the beginning. */
    pipeline->front.cache->pool->shared = options->old_pages > 0 || pipeline->options.place_new != NULL;
    if (options->hooks.place != NULL)
        cellar_cache_set_version(pipeline->front.cache, pipeline->options.first_version);
    return 0;
}

/* A hook that a commit calls may ask for a snapshot: that is to be an error, not a thread that waits for itself. */
static CELLAR_COLD int open_commit_lock(struct cellar_pipeline *pipeline)
{
    pthread_mutexattr_t kind;
    int error = pthread_mutexattr_init(&kind);

    if (error == 0) {
        (void)pthread_mutexattr_settype(&kind, PTHREAD_MUTEX_ERRORCHECK);
        error = pthread_mutex_init(&pipeline->commit_lock, &kind);
        pthread_mutexattr_destroy(&kind);
    }
    pipeline->commit_lock_ready = error == 0;
    return -error;
}

/* Takes the pipeline over, also where it fails. */
static CELLAR_COLD int open_pipeline(struct cellar_pipeline *pipeline, struct cellar_pipeline **ret_pipeline)
{
    struct cellar_pipeline_options *options = &pipeline->options;
    int error = open_cache(pipeline);

    if (error == 0) {
        options->cache.page_bytes = cellar_cache_page_bytes(pipeline->front.cache);
        options->cache.page_count = cellar_cache_page_count(pipeline->front.cache);
        error = check_geometry(pipeline);
    }
    if (error == 0)
        error = cellar_eager_open(pipeline);
    if (error == 0)
        error = open_commit_lock(pipeline);
    if (error == 0) {
        pipeline->committed_bytes = options->committed_bytes > 0 ? options->committed_bytes : UINT64_MAX;
        cellar_pending_open(&pipeline->pending, options->cache.page_bytes, options->cache.page_count);
        pipeline->pending.guarded = pipeline->front.cache->pool->debug;
        error = open_buffers(pipeline, options->cache.page_bytes);
    }
    if (error != 0) {
        cellar_pipeline_close(pipeline);
        return error;
    }
    *ret_pipeline = pipeline;
    return 0;
}

CELLAR_COLD int cellar_pipeline_open_with(struct cellar_device *device, const struct cellar_pipeline_options *options,
                                          struct cellar_pipeline **ret_pipeline)
{
    struct cellar_pipeline *pipeline = calloc(1, sizeof *pipeline);

    if (pipeline == NULL)
        return -ENOMEM;
    pipeline->options = *options;
    pipeline->source.device = device;
    pipeline->block_bytes = cellar_device_block_bytes(device);
    pipeline->writable = cellar_device_writable(device);
    return open_pipeline(pipeline, ret_pipeline);
}

CELLAR_COLD int cellar_pipeline_open(struct cellar_device *device, size_t page_bytes, size_t page_count,
                                     struct cellar_pipeline **ret_pipeline)
{
    struct cellar_pipeline_options options = {.cache = {.page_bytes = page_bytes, .page_count = page_count}};

    return page_bytes == 0 || page_count == 0 ? -EINVAL : cellar_pipeline_open_with(device, &options, ret_pipeline);
}

CELLAR_COLD int cellar_pipeline_open_functions(const struct cellar_pipeline_functions *functions, void *user,
                                               size_t page_bytes, size_t page_count,
                                               struct cellar_pipeline **ret_pipeline)
{
    struct cellar_pipeline *pipeline;

    if (functions->map == NULL || functions->size == NULL)
        return -EINVAL;
    pipeline = calloc(1, sizeof *pipeline);
    if (pipeline == NULL)
        return -ENOMEM;
    pipeline->functions = *functions;
    pipeline->options.cache.page_bytes = page_bytes;
    pipeline->options.cache.page_count = page_count;
    pipeline->source = (struct cellar_source){.map = functions->map, .unmap = functions->unmap, .user = user};
    pipeline->block_bytes = functions->block_bytes != 0 ? functions->block_bytes : 1;
    pipeline->writable = functions->write != NULL;
    return open_pipeline(pipeline, ret_pipeline);
}

CELLAR_COLD void cellar_pipeline_close(struct cellar_pipeline *pipeline)
{
    if (pipeline == NULL)
        return;
    cellar_eager_close(pipeline);
    cellar_pending_close(&pipeline->pending);
    cellar_cache_close(pipeline->front.cache);
    if (pipeline->commit_lock_ready)
        pthread_mutex_destroy(&pipeline->commit_lock);
    free(pipeline->parts);
    free(pipeline->gap);
    free(pipeline);
}

struct cellar_cache *cellar_pipeline_cache(struct cellar_pipeline *pipeline)
{
    return pipeline->front.cache;
}

uint64_t cellar_pipeline_pending_bytes(const struct cellar_pipeline *pipeline)
{
    return pipeline->pending.byte_count;
}

uint64_t cellar_pipeline_fault_address(const struct cellar_pipeline *pipeline)
{
    return pipeline->fault_address;
}

/* Asks for the size only where it must. */
int cellar_pipeline_check_bounds(struct cellar_pipeline *pipeline, uint64_t address, size_t length)
{
    if (pipeline->size_bytes < length || pipeline->size_bytes - length < address) {
        uint64_t size_bytes;
        int error = pipeline->source.device != NULL ? cellar_device_size(pipeline->source.device, &size_bytes)
                                                    : pipeline->functions.size(pipeline->source.user, &size_bytes);

        if (error != 0)
            return error > 0 ? -EIO : error;
        pipeline->size_bytes = size_bytes < CELLAR_SOURCE_END ? size_bytes : CELLAR_SOURCE_END;
    }
    if (pipeline->size_bytes < length || pipeline->size_bytes - length < address) {
        pipeline->fault_address = address > pipeline->size_bytes ? address : pipeline->size_bytes;
        return CELLAR_EBOUNDS;
    }
    return 0;
}

static int write_piece(struct cellar_pipeline *pipeline, uint64_t address, const void *bytes, size_t length)
{
    int error = cellar_eager_settle(pipeline, address, length);

    if (error == 0)
        error = cellar_pending_write(&pipeline->pending, address, bytes, length);
    return error == 0 ? cellar_eager_notice(pipeline, address, length) : error;
}

int cellar_pipeline_write(struct cellar_pipeline *pipeline, uint64_t address, const void *bytes, size_t length)
{
    int error;

    if (!pipeline->writable)
        return -EROFS;
    if (length == 0)
        return pipeline->poison;
    error = cellar_pipeline_check_bounds(pipeline, address, length);
    for (const unsigned char *from = bytes; length > 0 && error == 0;) {
        size_t piece = cellar_eager_piece(pipeline, length);

        error = write_piece(pipeline, address, from, piece);
        address += piece;
        from += piece;
        length -= piece;
    }
    pipeline->front.pending_pages = pipeline->pending.table.count;
    return error;
}

/* A piece within one page: what is pending, or through the cache and then what is pending over it. */
static int read_piece(struct cellar_pipeline *pipeline, uint64_t address, unsigned char *buffer, size_t length)
{
    size_t page_bytes = pipeline->pending.page_bytes;
    size_t offset = (size_t)(address & (page_bytes - 1));
    const struct cellar_pending *pending = cellar_pending_find_at(&pipeline->pending, address);
    int error;

    if (pending != NULL && cellar_bits_next(pending->dirty, false, offset, offset + length) == CELLAR_BITS_NONE) {
        memcpy(buffer, pending->bytes + offset, length);
        return 0;
    }
    error = cellar_cache_read(pipeline->front.cache, address, buffer, length);
    if (error == CELLAR_EBOUNDS)
        pipeline->fault_address = cellar_cache_fault_address(pipeline->front.cache);
    if (error == 0 && pending != NULL)
        cellar_pending_overlay(pending, offset, offset + length, buffer);
    return error;
}

int cellar_pipeline_read(struct cellar_pipeline *pipeline, uint64_t address, void *buffer, size_t length)
{
    size_t page_bytes = pipeline->pending.page_bytes;
    unsigned char *to = buffer;
    int error = cellar_eager_look(pipeline);

    if (error != 0)
        return error;
    while (length > 0) {
        size_t left = page_bytes - (size_t)(address & (page_bytes - 1));
        size_t part = left < length ? left : length;

        error = read_piece(pipeline, address, to, part);
        if (error != 0)
            return error;
        to += part;
        address += part;
        length -= part;
    }
    return 0;
}

int cellar_pipeline_commit(struct cellar_pipeline *pipeline)
{
    return cellar_pipeline_send(pipeline, 0, CELLAR_SOURCE_END);
}

int cellar_pipeline_persist(struct cellar_pipeline *pipeline, uint64_t address, uint64_t length)
{
    uint64_t start = address, end;

    if (address > CELLAR_SOURCE_END)
        return pipeline->poison;
    end = length < CELLAR_SOURCE_END - address ? address + length : CELLAR_SOURCE_END;
    cellar_pending_widen(&pipeline->pending, &start, &end);
    return cellar_pipeline_send(pipeline, start, end);
}

void cellar_pipeline_discard(struct cellar_pipeline *pipeline)
{
    (void)cellar_eager_drain(pipeline);
    pipeline->eager.first_page = pipeline->eager.end_page = 0;
    pipeline->eager.sent_end = 0; /* no commit makes it part of a version */
    cellar_pending_discard(&pipeline->pending);
    pipeline->front.pending_pages = 0;
}

/* ---- versions ---- */

uint64_t cellar_pipeline_version(struct cellar_pipeline *pipeline)
{
    struct cellar_pool *pool = pipeline->front.cache->pool;
    uint64_t version;

    cellar_pool_enter(pool);
    version = pool->version;
    cellar_pool_leave(pool);
    return version;
}

int cellar_pipeline_snapshot(struct cellar_pipeline *pipeline, struct cellar_cache **ret_cache)
{
    struct cellar_cache *cache = pipeline->front.cache;
    uint64_t limit_bytes;
    int error = 0;

    if (pipeline->source.device == NULL ||
        (pipeline->options.cache.old_pages == 0 && pipeline->options.place_new == NULL))
        return -ENOTSUP;
    error = -pthread_mutex_lock(&pipeline->commit_lock);
    if (error != 0)
        return error;
    limit_bytes = pipeline->committed_bytes;
    if (limit_bytes == UINT64_MAX)
        error = cellar_device_size(pipeline->source.device, &limit_bytes);
    if (error == 0)
        error = cellar_cache_share_at(cache, cache->pool->version, limit_bytes, true, ret_cache);
    pthread_mutex_unlock(&pipeline->commit_lock);
    return error;
}

void cellar_pipeline_set_committed(struct cellar_pipeline *pipeline, uint64_t committed_bytes)
{
    pthread_mutex_lock(&pipeline->commit_lock);
    pipeline->committed_bytes = committed_bytes;
    pthread_mutex_unlock(&pipeline->commit_lock);
    pipeline->eager.first_page = pipeline->eager.end_page = 0; /* some of them may be in versions now */
}

/* ---- write frames ---- */

int cellar_pipeline_read_gap(struct cellar_pipeline *pipeline, uint64_t address, size_t length)
{
    struct cellar_cache *cache = pipeline->front.cache;
    int error = cellar_cache_read(cache, address, pipeline->gap, length);

    if (error != CELLAR_EBOUNDS)
        return error;
    pipeline->fault_address = cellar_cache_fault_address(cache);
    if (pipeline->options.place_new == NULL)
        return error;
    /* The version before ends before: what it lacks is zero. */
    memset(pipeline->gap, 0, length);
    if (pipeline->fault_address <= address || pipeline->fault_address - address >= length)
        return 0;
    return cellar_cache_read(cache, address, pipeline->gap, (size_t)(pipeline->fault_address - address));
}

/* What the page is without what is pending, where that matters: in *ret_base, or NULL. */
static int load_base(struct cellar_pipeline *pipeline, uint64_t address, size_t length, enum cellar_write_start start,
                     const unsigned char **ret_base)
{
    const struct cellar_pending *pending =
        cellar_pending_find(&pipeline->pending, address >> pipeline->pending.page_shift);

    *ret_base = NULL;
    if (start == CELLAR_WRITE_NEW || (pending != NULL && pending->dirty_count >= length))
        return 0;
    *ret_base = pipeline->gap;
    return cellar_pipeline_read_gap(pipeline, address, length);
}

int cellar_pipeline_fix_write(struct cellar_pipeline *pipeline, uint64_t address, enum cellar_write_start start,
                              struct cellar_write_frame *ret_frame)
{
    size_t page_bytes = pipeline->pending.page_bytes, length;
    uint64_t page_address = address & ~(uint64_t)(page_bytes - 1);
    const unsigned char *base;
    struct cellar_pending *pending;
    int error;

    if (start != CELLAR_WRITE_AS_IS && start != CELLAR_WRITE_NEW)
        return -EINVAL;
    if (!pipeline->writable)
        return -EROFS;
    /* Asks for the size again where the page would be a short one: it may have grown. */
    (void)!cellar_pipeline_check_bounds(pipeline, page_address, page_bytes);
    error = cellar_pipeline_check_bounds(pipeline, address, 1);
    if (error != 0)
        return error;
    length =
        pipeline->size_bytes - page_address < page_bytes ? (size_t)(pipeline->size_bytes - page_address) : page_bytes;
    error = cellar_eager_settle(pipeline, page_address, length);
    if (error == 0)
        error = load_base(pipeline, page_address, length, start, &base);
    if (error != 0)
        return error;
    pending = cellar_pending_fill(&pipeline->pending, page_address >> pipeline->pending.page_shift, base, length);
    if (pending == NULL)
        return -ENOMEM;
    pending->pins++;
    pipeline->fixed++;
    pipeline->front.pending_pages = pipeline->pending.table.count;
    *ret_frame = (struct cellar_write_frame){page_address, pending->bytes, length, pending};
    return 0;
}

void cellar_pipeline_unfix_write(struct cellar_pipeline *pipeline, struct cellar_write_frame *frame)
{
    if (frame->page != NULL) {
        struct cellar_pending *pending = frame->page;
        bool dropped = pending->dropped;

        if (pipeline->pending.guarded && pending->pins == 0)
            abort(); /* an unfix too many */
        pipeline->fixed--;
        cellar_pending_unpin(&pipeline->pending, pending);
        if (!dropped) /* an error waits for the next call that can return it */
            (void)cellar_eager_notice(pipeline, frame->address, frame->length);
    }
    *frame = (struct cellar_write_frame){0};
}
