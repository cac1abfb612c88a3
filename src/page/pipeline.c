/*
 * pipeline.c - what is pending, and reads that see it. How it goes out: pipeline_send.c.
 *
 * 1. front.pending_pages is the number of pages in the pending set: a get looks there first.
 * 2. A byte is either clean, and then the device has what a read gives, or dirty, and then its pending page has.
 * 3. Every dirty byte lies below size_bytes, which is a size that the device had.
 */
#include "page/pipeline.h"

#include "page/bits.h"
#include <errno.h>
#include <limits.h>
#include <stdlib.h>

static int open_buffers(struct cellar_pipeline *pipeline, size_t page_bytes)
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

/* Takes the pipeline over, also where it fails. */
static int open_pipeline(struct cellar_pipeline *pipeline, size_t page_bytes, size_t page_count,
                         struct cellar_pipeline **ret_pipeline)
{
    const struct cellar_source *source = &pipeline->source;
    int error;

    if (source->device != NULL)
        error = cellar_cache_open(source->device, page_bytes, page_count, &pipeline->front.cache);
    else
        error = cellar_cache_open_map(source->map, source->unmap, source->user, page_bytes, page_count,
                                      &pipeline->front.cache);
    if (error == 0 &&
        (pipeline->block_bytes > page_bytes || (pipeline->block_bytes & (pipeline->block_bytes - 1)) != 0))
        error = -EINVAL;
    if (error == 0) {
        cellar_pending_open(&pipeline->pending, page_bytes, page_count);
        error = open_buffers(pipeline, page_bytes);
    }
    if (error != 0) {
        cellar_pipeline_close(pipeline);
        return error;
    }
    *ret_pipeline = pipeline;
    return 0;
}

int cellar_pipeline_open(struct cellar_device *device, size_t page_bytes, size_t page_count,
                         struct cellar_pipeline **ret_pipeline)
{
    struct cellar_pipeline *pipeline = calloc(1, sizeof *pipeline);

    if (pipeline == NULL)
        return -ENOMEM;
    pipeline->source.device = device;
    pipeline->block_bytes = cellar_device_block_bytes(device);
    pipeline->writable = cellar_device_writable(device);
    return open_pipeline(pipeline, page_bytes, page_count, ret_pipeline);
}

int cellar_pipeline_open_functions(const struct cellar_pipeline_functions *functions, void *user, size_t page_bytes,
                                   size_t page_count, struct cellar_pipeline **ret_pipeline)
{
    struct cellar_pipeline *pipeline;

    if (functions->map == NULL || functions->size == NULL)
        return -EINVAL;
    pipeline = calloc(1, sizeof *pipeline);
    if (pipeline == NULL)
        return -ENOMEM;
    pipeline->functions = *functions;
    pipeline->source = (struct cellar_source){.map = functions->map, .unmap = functions->unmap, .user = user};
    pipeline->block_bytes = functions->block_bytes != 0 ? functions->block_bytes : 1;
    pipeline->writable = functions->write != NULL;
    return open_pipeline(pipeline, page_bytes, page_count, ret_pipeline);
}

void cellar_pipeline_close(struct cellar_pipeline *pipeline)
{
    if (pipeline == NULL)
        return;
    cellar_pending_close(&pipeline->pending);
    cellar_cache_close(pipeline->front.cache);
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

/* CELLAR_EBOUNDS where [address, address + length) is not all on the device; asks for its size only where it must. */
static int check_bounds(struct cellar_pipeline *pipeline, uint64_t address, size_t length)
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

int cellar_pipeline_write(struct cellar_pipeline *pipeline, uint64_t address, const void *bytes, size_t length)
{
    int error;

    if (!pipeline->writable)
        return -EROFS;
    if (length == 0)
        return 0;
    error = check_bounds(pipeline, address, length);
    if (error == 0)
        error = cellar_pending_write(&pipeline->pending, address, bytes, length);
    pipeline->front.pending_pages = pipeline->pending.table.count;
    return error;
}

/* A piece within one page: through the cache unless all of it is pending, then what is pending over it. */
static int read_piece(struct cellar_pipeline *pipeline, uint64_t address, unsigned char *buffer, size_t length)
{
    size_t page_bytes = pipeline->pending.page_bytes;
    const struct cellar_pending *pending =
        cellar_pending_find(&pipeline->pending, address >> pipeline->pending.page_shift);
    size_t offset = (size_t)(address & (page_bytes - 1));
    int error = 0;

    if (pending == NULL || cellar_bits_next(pending->dirty, false, offset, offset + length) != CELLAR_BITS_NONE)
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

    while (length > 0) {
        size_t left = page_bytes - (size_t)(address & (page_bytes - 1));
        size_t part = left < length ? left : length;
        int error = read_piece(pipeline, address, to, part);

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

    if (address > CELLAR_SOURCE_END || pipeline->front.pending_pages == 0)
        return 0;
    end = length < CELLAR_SOURCE_END - address ? address + length : CELLAR_SOURCE_END;
    cellar_pending_widen(&pipeline->pending, &start, &end);
    return cellar_pipeline_send(pipeline, start, end);
}

void cellar_pipeline_discard(struct cellar_pipeline *pipeline)
{
    cellar_pending_discard(&pipeline->pending);
    pipeline->front.pending_pages = 0;
}
