/*
 * pipeline_place.c - commits whose pages go to new places, so that their older versions stay where they are.
 *
 * Each page goes out whole: what is pending over what the version before has. Pages whose places follow each other are
 * one write. The versions before need nothing kept in memory: their places still hold them.
 */
#include "page/pipeline.h"
#include "page/pool.h"

#include <errno.h>
#include <limits.h>

/* Pages whose places lie one behind the other on one device. */
struct batch {
    struct cellar_device *device;
    uint64_t offset, length;
    int part_count;
};

/* The pending page becomes whole. *ret_length: how much of it there is. */
static int complete(struct cellar_pipeline *pipeline, struct cellar_pending *pending, size_t *ret_length)
{
    size_t page_bytes = pipeline->pending.page_bytes, length = page_bytes;
    uint64_t address = pending->page << pipeline->pending.page_shift;
    int error;

    if (pipeline->size_bytes - address < page_bytes)
        length = (size_t)(pipeline->size_bytes - address);
    *ret_length = length;
    if (pending->dirty_count == length)
        return 0;
    error = cellar_pipeline_read_gap(pipeline, address, length);
    if (error == 0 && cellar_pending_fill(&pipeline->pending, pending->page, pipeline->gap, length) == NULL)
        error = -ENOMEM;
    return error;
}

static int write_batch(struct cellar_pipeline *pipeline, struct batch *batch)
{
    int error = 0;

    if (batch->part_count > 0)
        error = cellar_device_write(batch->device, pipeline->parts, batch->part_count, batch->offset);
    batch->part_count = 0;
    batch->length = 0;
    return error;
}

static int send_page(struct cellar_pipeline *pipeline, struct cellar_pending *pending, uint64_t version,
                     struct batch *batch)
{
    struct cellar_place place = {.version = version};
    size_t length;
    int error = complete(pipeline, pending, &length);

    if (error == 0)
        error = pipeline->options.place_new(pipeline->options.cache.user, version,
                                            pending->page << pipeline->pending.page_shift, &place);
    if (error > 0)
        error = -EIO;
    if (error == 0 && (place.device != batch->device || place.offset != batch->offset + batch->length ||
                       batch->part_count == IOV_MAX))
        error = write_batch(pipeline, batch);
    if (error != 0)
        return error;
    if (batch->part_count == 0) {
        batch->device = place.device;
        batch->offset = place.offset;
    }
    pipeline->parts[batch->part_count++] = (struct iovec){.iov_base = pending->bytes, .iov_len = length};
    batch->length += length;
    return 0;
}

int cellar_pipeline_send_placed(struct cellar_pipeline *pipeline, size_t count, uint64_t version)
{
    struct cellar_pending **order = pipeline->pending.order;
    struct batch batch = {.part_count = 0};
    int error = 0;

    for (size_t i = 0; i < count && error == 0; i++)
        error = send_page(pipeline, order[i], version, &batch);
    if (error == 0)
        error = write_batch(pipeline, &batch);
    if (error != 0) /* nothing of the version that failed is in any place that is read */
        return error;
    for (size_t i = 0; i < count; i++) {
        uint64_t end = (order[i]->page + 1) << pipeline->pending.page_shift;

        if (end > pipeline->size_bytes)
            end = pipeline->size_bytes;
        if (pipeline->committed_bytes < end)
            pipeline->committed_bytes = end;
        cellar_pending_clean(&pipeline->pending, order[i], 0, pipeline->pending.page_bytes);
    }
    return 0;
}
