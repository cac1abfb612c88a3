/*
 * pipeline_eager.c - pages that no version has yet, on their way to the device before they are committed.
 *
 *     pending, complete --> in the stretch --> sending --> on the device, no longer pending
 *
 * 1. A page is sent only if it begins at or past committed_bytes, all of it is pending, and it isn't fixed.
 * 2. While a page is sending nobody changes it, and no commit begins: cellar_eager_settle and _drain wait for it.
 * 3. The stretch is the longest run of such pages that ends with the last one noticed. Whoever appends makes one long
 *    stretch; pages that were complete before it was begun anew elsewhere wait for commit.
 */
#include "page/cache.h"
#include "page/pipeline.h"

#include "base/check.h"
#include "device/queue.h"
#include <errno.h>
#include <limits.h>
#include <stdlib.h>

enum { EAGER_BYTES_DEFAULT = 256 * 1024, EAGER_WRITES_MAX = 1024 };

struct cellar_eager_write {
    struct cellar_request request;
    struct cellar_eager_write *next; /* of the free ones */
    uint64_t first_page;
    size_t page_count;
    struct iovec *parts;
};

int cellar_eager_open(struct cellar_pipeline *pipeline)
{
    const struct cellar_pipeline_options *options = &pipeline->options;
    size_t pages = (options->eager_bytes > 0 ? options->eager_bytes : EAGER_BYTES_DEFAULT) / options->cache.page_bytes;

    if (options->eager_writes > EAGER_WRITES_MAX)
        return -EINVAL;
    if (options->eager_writes == 0 || pipeline->source.device == NULL || !pipeline->writable)
        return 0;
    pipeline->eager.pages_max = pages < 1 ? 1 : pages > IOV_MAX ? IOV_MAX : pages;
    return 0;
}

/* Threads and memory come with the first write. */
static int prepare(struct cellar_pipeline *pipeline)
{
    struct cellar_eager *eager = &pipeline->eager;
    unsigned count = pipeline->options.eager_writes;

    if (eager->stopped)
        return -EAGAIN;
    if (eager->queue != NULL)
        return 0;
    if (eager->writes == NULL) {
        eager->writes = calloc(count, sizeof *eager->writes);
        if (eager->writes == NULL)
            return -ENOMEM;
        for (unsigned i = 0; i < count; i++) {
            eager->writes[i].next = eager->writes_free;
            eager->writes_free = &eager->writes[i];
        }
    }
    return cellar_queue_open(count, pipeline->options.cache.io, &eager->queue);
}

void cellar_eager_close(struct cellar_pipeline *pipeline)
{
    struct cellar_eager *eager = &pipeline->eager;

    cellar_queue_close(eager->queue);
    for (unsigned i = 0; i < pipeline->options.eager_writes && eager->writes != NULL; i++)
        free(eager->writes[i].parts);
    free(eager->writes);
}

/* Takes in what is done. wait: at least one, if any is under way. */
static void take_in(struct cellar_pipeline *pipeline, bool wait)
{
    struct cellar_eager *eager = &pipeline->eager;
    struct cellar_request *request, *next;

    if (eager->under_way == 0)
        return;
    for (request = cellar_queue_take(eager->queue, wait); request != NULL; request = next) {
        struct cellar_eager_write *write = request->user;
        uint64_t end = (write->first_page + write->page_count) << pipeline->pending.page_shift;

        next = request->next;
        if (request->untouched) {
            eager->stopped = true; /* as it was pending before, it waits for commit */
        } else if (request->result != 0 && pipeline->poison == 0) {
            pipeline->poison = request->result;
            cellar_cache_clear_lines(pipeline->front.cache); /* the inline gets are not to answer any more */
        }
        for (size_t i = 0; i < write->page_count; i++) {
            struct cellar_pending *pending = cellar_pending_find(&pipeline->pending, write->first_page + i);

            pending->sending = false;
            if (request->result == 0)
                cellar_pending_clean(&pipeline->pending, pending, 0, pipeline->pending.page_bytes);
        }
        cellar_cache_invalidate(pipeline->front.cache, write->first_page << pipeline->pending.page_shift,
                                (uint64_t)write->page_count << pipeline->pending.page_shift);
        if (request->result == 0 && end > eager->sent_end)
            eager->sent_end = end;
        write->next = eager->writes_free;
        eager->writes_free = write;
        eager->under_way--;
        eager->sending_pages -= write->page_count;
    }
    pipeline->front.pending_pages = pipeline->pending.table.count;
}

/* Sends the first pages of the stretch, pages_max at most. */
static int start(struct cellar_pipeline *pipeline)
{
    struct cellar_eager *eager = &pipeline->eager;
    struct cellar_eager_write *write = eager->writes_free;
    size_t page_count = eager->pages_max;

    if (eager->stopped)
        return -EAGAIN;
    if (write->parts == NULL)
        write->parts = malloc(eager->pages_max * sizeof *write->parts);
    if (write->parts == NULL)
        return -ENOMEM;
    if (eager->end_page - eager->first_page < page_count)
        page_count = (size_t)(eager->end_page - eager->first_page);
    for (size_t i = 0; i < page_count; i++) {
        struct cellar_pending *pending = cellar_pending_find(&pipeline->pending, eager->first_page + i);

        CELLAR_CHECK(pending != NULL && pending->dirty_count == pipeline->pending.page_bytes && pending->pins == 0);
        pending->sending = true;
        write->parts[i] = (struct iovec){.iov_base = pending->bytes, .iov_len = pipeline->pending.page_bytes};
    }
    eager->writes_free = write->next;
    eager->under_way++;
    eager->sending_pages += page_count;
    write->first_page = eager->first_page;
    write->page_count = page_count;
    eager->first_page += page_count;
    write->request = (struct cellar_request){
        .device = pipeline->source.device,
        .writes = true,
        .parts = write->parts,
        .part_count = (int)page_count,
        .offset = write->first_page << pipeline->pending.page_shift,
        .user = write,
    };
    cellar_queue_submit(eager->queue, &write->request);
    return 0;
}

static bool may_go(const struct cellar_pipeline *pipeline, uint64_t page)
{
    const struct cellar_pending *pending = cellar_pending_find(&pipeline->pending, page);

    return pending != NULL && pending->dirty_count == pipeline->pending.page_bytes && pending->pins == 0 &&
           !pending->sending && page << pipeline->pending.page_shift >= pipeline->committed_bytes;
}

/* Puts complete pages of the range into the stretch. */
static void stretch(struct cellar_pipeline *pipeline, uint64_t address, uint64_t length)
{
    struct cellar_eager *eager = &pipeline->eager;
    uint64_t last = (address + length - 1) >> pipeline->pending.page_shift;

    for (uint64_t page = address >> pipeline->pending.page_shift; page <= last; page++) {
        if (page >= eager->first_page && page < eager->end_page)
            continue;
        if (!may_go(pipeline, page))
            continue;
        if (page != eager->end_page)
            eager->first_page = page;
        eager->end_page = page + 1;
    }
}

/*
 * More is pending than shall be, and sending helps. Where what waits for commit takes up the whole of that already, one
 * write's worth is let be beside it.
 */
static bool is_over(const struct cellar_pipeline *pipeline)
{
    const struct cellar_eager *eager = &pipeline->eager;
    unsigned shift = pipeline->pending.page_shift;
    uint64_t going = (eager->sending_pages + (eager->end_page - eager->first_page)) << shift;
    uint64_t waiting = pipeline->pending.byte_count - going, most = pipeline->options.pending_bytes_max;

    return most > 0 && going > (waiting < most ? most - waiting : (uint64_t)eager->pages_max << shift);
}

int cellar_eager_notice(struct cellar_pipeline *pipeline, uint64_t address, uint64_t length)
{
    struct cellar_eager *eager = &pipeline->eager;

    if (eager->pages_max == 0 || pipeline->committed_bytes == UINT64_MAX || length == 0 || pipeline->poison != 0)
        return pipeline->poison;
    stretch(pipeline, address, length);
    if (eager->end_page - eager->first_page < eager->pages_max && !is_over(pipeline))
        return 0;
    take_in(pipeline, false);
    if (prepare(pipeline) != 0)
        return 0; /* no threads, no memory: all of it waits for commit */
    while (pipeline->poison == 0) {
        bool full = eager->end_page - eager->first_page >= eager->pages_max, over = is_over(pipeline);

        if (over && eager->under_way > 0 && (!full || eager->writes_free == NULL))
            take_in(pipeline, true);
        else if ((!full && !over) || eager->writes_free == NULL || start(pipeline) != 0)
            break;
    }
    return pipeline->poison;
}

/* The part of the stretch from the page on is not complete any more, or will be looked at again. */
static void cut_stretch(struct cellar_eager *eager, uint64_t page)
{
    if (page < eager->end_page)
        eager->end_page = page > eager->first_page ? page : eager->first_page;
}

size_t cellar_eager_piece(const struct cellar_pipeline *pipeline, size_t length)
{
    size_t most = pipeline->eager.pages_max * pipeline->pending.page_bytes;
    uint64_t bound = pipeline->options.pending_bytes_max;

    return bound == 0 || most == 0 || length <= most ? length : most;
}

int cellar_eager_settle(struct cellar_pipeline *pipeline, uint64_t address, uint64_t length)
{
    uint64_t last = (address + length - 1) >> pipeline->pending.page_shift;

    if (pipeline->eager.pages_max == 0)
        return 0;
    take_in(pipeline, false);
    for (uint64_t page = address >> pipeline->pending.page_shift; page <= last; page++) {
        const struct cellar_pending *pending;

        if (page >= pipeline->eager.first_page && page < pipeline->eager.end_page)
            cut_stretch(&pipeline->eager, page);
        while ((pending = cellar_pending_find(&pipeline->pending, page)) != NULL && pending->sending)
            take_in(pipeline, true);
    }
    return pipeline->poison;
}

int cellar_eager_look(struct cellar_pipeline *pipeline)
{
    take_in(pipeline, false);
    return pipeline->poison;
}

/* Several writes at a time are faster than the commit's one after the other, so what is left of the stretch goes the
 * same way, but for less than a whole write. */
int cellar_eager_finish(struct cellar_pipeline *pipeline)
{
    struct cellar_eager *eager = &pipeline->eager;

    while (pipeline->poison == 0 && eager->pages_max > 0 && eager->end_page - eager->first_page >= eager->pages_max &&
           prepare(pipeline) == 0) {
        if (eager->writes_free == NULL)
            take_in(pipeline, true);
        else if (start(pipeline) != 0)
            break;
    }
    return cellar_eager_drain(pipeline);
}

int cellar_eager_drain(struct cellar_pipeline *pipeline)
{
    while (pipeline->eager.under_way > 0)
        take_in(pipeline, true);
    return pipeline->poison;
}
