/*
 * pipeline_send.c - pending bytes on their way to the device.
 *
 * What is to go out is cut into runs: pages that follow each other, at most as many as one gathered write takes. Of a
 * run, the bytes from its first to its last dirty one go out, widened to whole blocks. In between, what is clean, or
 * dirty but not to go out, is as on the device. That differs from the pending page only where the widening reaches
 * past [start, end), which is in the first and the last page of a run: those are then put together in a page of their
 * own.
 *
 * A page that the cache has a copy of, which nobody else looks at, is put together there, from what is dirty alone, and
 * goes out from there: the copy is then what the device has. If the write fails it is forgotten, as all pages of the
 * run are.
 */
#include "page/pipeline.h"

#include "page/bits.h"
#include "page/pool.h"
#include <errno.h>
#include <limits.h>
#include <string.h>
#include <unistd.h>

struct run {
    struct cellar_pending **pages;
    size_t page_count;
    uint64_t start, end; /* the dirty bytes to go out lie in [start, end) */
    uint64_t from, to;   /* the write: [from, to) */
};

/* The part of a range that lies in the page, as offsets in the page. */
static void part_in_page(const struct cellar_pipeline *pipeline, const struct cellar_pending *pending, uint64_t start,
                         uint64_t end, size_t *ret_from, size_t *ret_to)
{
    size_t page_bytes = pipeline->pending.page_bytes;
    uint64_t address = pending->page << pipeline->pending.page_shift;

    *ret_from = start > address ? (size_t)(start - address) : 0;
    *ret_to = end - address < page_bytes ? (size_t)(end - address) : page_bytes;
}

/* Copies what the device has of the bytes [from, to) of the page to gap + from: from the cache, if it has them; else it
 * is read, and in whole blocks. */
static int read_gap(struct cellar_pipeline *pipeline, const struct cellar_pending *pending, size_t from, size_t to)
{
    size_t block_mask = pipeline->block_bytes - 1;

    if (cellar_pool_copy(pipeline->front.cache->pool, pending->page, from, to, pipeline->gap))
        return 0;
    return cellar_source_copy(&pipeline->source, pending->page << pipeline->pending.page_shift,
                              pipeline->pending.page_bytes, from & ~block_mask, (to + block_mask) & ~block_mask,
                              pipeline->gap);
}

/* What is clean of the bytes [from, to) of the page becomes as on the device. */
static int fill_gaps(struct cellar_pipeline *pipeline, struct cellar_pending *pending, size_t from, size_t to)
{
    size_t first = cellar_bits_next(pending->dirty, false, from, to), end;
    int error;

    if (first == CELLAR_BITS_NONE)
        return 0;
    error = read_gap(pipeline, pending, first, cellar_bits_last(pending->dirty, false, from, to) + 1);
    if (error != 0)
        return error;
    for (size_t at = first; cellar_bits_run(pending->dirty, false, &at, to, &end); at = end)
        memcpy(pending->bytes + at, pipeline->gap + at, end - at);
    return 0;
}

/* Makes part number index of the run's write. */
static int prepare_part(struct cellar_pipeline *pipeline, const struct run *run, size_t index)
{
    struct cellar_pending *pending = run->pages[index];
    unsigned char *bytes = pending->bytes;
    size_t from, to, dirty_from, dirty_to;
    int error;

    part_in_page(pipeline, pending, run->from, run->to, &from, &to);
    part_in_page(pipeline, pending, run->start, run->end, &dirty_from, &dirty_to);
    if (from >= dirty_from && to <= dirty_to) {
        error = fill_gaps(pipeline, pending, from, to);
    } else {
        bytes = pipeline->ends[index > 0];
        error = read_gap(pipeline, pending, from, to);
        if (error == 0) {
            memcpy(bytes + from, pipeline->gap + from, to - from);
            cellar_pending_overlay(pending, dirty_from, dirty_to, bytes + dirty_from);
        }
    }
    pipeline->parts[index] = (struct iovec){.iov_base = bytes + from, .iov_len = to - from};
    return error;
}

/* The page's copy in the cache, where it may become what the device is to have, and go out itself; else NULL. */
static unsigned char *find_cached(struct cellar_pipeline *pipeline, const struct run *run, size_t index)
{
    const struct cellar_pending *pending = run->pages[index];
    size_t from, to;
    unsigned char *bytes;

    if (index + 2 < run->page_count)
        cellar_pending_fetch_bits(&pipeline->pending, run->pages[index + 2]);
    part_in_page(pipeline, pending, run->from, run->to, &from, &to);
    bytes = cellar_pool_own(pipeline->front.cache->pool, pending->page, to);
    if (bytes == NULL)
        return NULL;
    part_in_page(pipeline, pending, run->start, run->end, &from, &to);
    cellar_pending_fetch(pending, from, to, bytes + from);
    return bytes;
}

static void use_cached(struct cellar_pipeline *pipeline, const struct run *run, size_t index, unsigned char *bytes)
{
    const struct cellar_pending *pending = run->pages[index];
    size_t from, to;

    part_in_page(pipeline, pending, run->start, run->end, &from, &to);
    cellar_pending_overlay(pending, from, to, bytes + from);
    part_in_page(pipeline, pending, run->from, run->to, &from, &to);
    pipeline->parts[index] = (struct iovec){.iov_base = bytes + from, .iov_len = to - from};
}

/* The bytes to write: from the first dirty byte of the run to the last, in whole blocks. */
static void find_span(const struct cellar_pipeline *pipeline, struct run *run)
{
    const struct cellar_pending *first = run->pages[0], *last = run->pages[run->page_count - 1];
    unsigned shift = pipeline->pending.page_shift;
    uint64_t block_mask = pipeline->block_bytes - 1;
    size_t from, to;

    part_in_page(pipeline, first, run->start, run->end, &from, &to);
    run->from = (first->page << shift) + cellar_bits_next(first->dirty, true, from, to);
    run->from &= ~block_mask;
    part_in_page(pipeline, last, run->start, run->end, &from, &to);
    run->to = (last->page << shift) + cellar_bits_last(last->dirty, true, from, to) + 1;
    run->to = (run->to + block_mask) & ~block_mask;
}

/* Neighbours in the cache are neighbours in its memory, mostly. */
static int join_parts(struct iovec *parts, int part_count)
{
    int joined = 1;

    for (int i = 1; i < part_count; i++) {
        struct iovec *last = &parts[joined - 1];

        if ((unsigned char *)last->iov_base + last->iov_len == parts[i].iov_base)
            last->iov_len += parts[i].iov_len;
        else
            parts[joined++] = parts[i];
    }
    return joined;
}

/* joins: the parts are not looked at afterwards. */
static int write_parts(struct cellar_pipeline *pipeline, const struct run *run, bool joins)
{
    int error, part_count = (int)run->page_count;

    if (joins)
        part_count = join_parts(pipeline->parts, part_count);
    if (pipeline->source.device != NULL)
        return cellar_device_write(pipeline->source.device, pipeline->parts, part_count, run->from);
    error = pipeline->functions.write(pipeline->source.user, run->from, pipeline->parts, part_count);
    return error > 0 ? -EIO : error;
}

/* Where a page of a run was before it went out. */
enum found { NOT_CACHED, CACHED, CHANGED /* cached, and changed there */ };

/* *ret_changed: all of it is CHANGED. */
static int prepare_run(struct cellar_pipeline *pipeline, const struct run *run, unsigned char *ret_found,
                       bool *ret_changed)
{
    struct cellar_cache *cache = pipeline->front.cache;
    unsigned char *bytes, *next = find_cached(pipeline, run, 0);
    size_t done = 0;
    bool changed = true;
    int error = 0;

    for (size_t i = 0; i < run->page_count && error == 0; done = ++i) {
        bytes = next;
        if (i + 1 < run->page_count)
            next = find_cached(pipeline, run, i + 1); /* its memory comes meanwhile */
        if (bytes != NULL) {
            use_cached(pipeline, run, i, bytes);
            ret_found[i] = CHANGED;
        } else {
            changed = false;
            error = prepare_part(pipeline, run, i);
            ret_found[i] = cellar_cache_is_cached(cache, run->pages[i]->page << pipeline->pending.page_shift);
        }
    }
    for (size_t i = 0; i < done && error != 0; i++) {
        if (ret_found[i] == CHANGED) /* to what isn't written */
            cellar_pool_invalidate(cache->pool, run->pages[i]->page, run->pages[i]->page);
    }
    *ret_changed = changed;
    return error;
}

/* The cache knows that the run has been written, or perhaps, if it failed. Pages that were cached, and are known whole,
 * are cached again as they are now. */
static void show_run(struct cellar_pipeline *pipeline, const struct run *run, uint64_t version, bool failed,
                     const unsigned char *found)
{
    struct cellar_cache *cache = pipeline->front.cache;
    size_t next;

    for (size_t i = 0; i < run->page_count; i = next) {
        next = i + 1;
        if (found[i] == CHANGED && !failed)
            continue;
        while (next < run->page_count && (found[next] != CHANGED || failed))
            next++;
        cellar_pool_supersede(cache->pool, run->pages[i]->page, run->pages[next - 1]->page, version);
    }
    for (size_t i = 0; i < run->page_count && !failed; i++) {
        if (found[i] == CACHED && pipeline->parts[i].iov_len == pipeline->pending.page_bytes)
            cellar_pool_put(cache, run->pages[i]->page, pipeline->parts[i].iov_base);
    }
}

/* *tried becomes true where something of it may be on the device. */
static int send_run(struct cellar_pipeline *pipeline, struct run *run, uint64_t version, bool *tried)
{
    unsigned char found[IOV_MAX];
    bool changed;
    int error;

    find_span(pipeline, run);
    error = prepare_run(pipeline, run, found, &changed);
    if (error != 0)
        return error;
    *tried = true;
    error = write_parts(pipeline, run, changed);
    show_run(pipeline, run, version, error != 0, found);
    if (error != 0)
        return error;
    for (size_t i = 0; i < run->page_count; i++) {
        size_t from, to;

        part_in_page(pipeline, run->pages[i], run->start, run->end, &from, &to);
        cellar_pending_clean(&pipeline->pending, run->pages[i], from, to);
    }
    if (pipeline->committed_bytes < run->to)
        pipeline->committed_bytes = run->to;
    return 0;
}

/* What snapshots will need of the pages that are to be overwritten is in memory from here on, or nothing is written. */
static int keep_pages(struct cellar_pipeline *pipeline, size_t count, uint64_t start, uint64_t end)
{
    int error = 0;

    if (!pipeline->front.cache->pool->shared)
        return 0; /* there are none */
    for (size_t i = 0; i < count && error == 0; i++) {
        const struct cellar_pending *pending = pipeline->pending.order[i];
        uint64_t address = pending->page << pipeline->pending.page_shift;
        size_t from, to;

        part_in_page(pipeline, pending, start, end, &from, &to);
        error = cellar_pool_keep(pipeline->front.cache, pending->page,
                                 address + cellar_bits_next(pending->dirty, true, from, to),
                                 address + cellar_bits_last(pending->dirty, true, from, to) + 1);
    }
    return error;
}

static int send_runs(struct cellar_pipeline *pipeline, size_t count, uint64_t start, uint64_t end, uint64_t version,
                     bool *tried)
{
    struct cellar_pending **order = pipeline->pending.order;
    size_t next;
    int error = 0;

    for (size_t i = 0; i < count && error == 0; i = next) {
        struct run run = {.pages = order + i, .start = start, .end = end};

        next = i + 1;
        while (next < count && next - i < IOV_MAX && order[next]->page == order[next - 1]->page + 1)
            next++;
        run.page_count = next - i;
        error = send_run(pipeline, &run, version, tried);
    }
    return error;
}

/* What went out eagerly is part of the versions from here on. */
static bool adopt_eager(struct cellar_pipeline *pipeline)
{
    bool any = pipeline->eager.sent_end > pipeline->committed_bytes;

    if (any)
        pipeline->committed_bytes = pipeline->eager.sent_end;
    pipeline->eager.sent_end = 0;
    pipeline->eager.first_page = pipeline->eager.end_page = 0;
    return any;
}

int cellar_pipeline_send(struct cellar_pipeline *pipeline, uint64_t start, uint64_t end)
{
    struct cellar_pool *pool = pipeline->front.cache->pool;
    uint64_t version = pool->version;
    size_t count;
    bool any = false;
    int error = pipeline->fixed > 0 ? CELLAR_EPINNED : 0;

    if (error == 0 && pipeline->eager.queue != NULL && pool->process != getpid())
        error = CELLAR_EFORKED;
    if (error == 0)
        error = cellar_eager_finish(pipeline);
    if (error != 0)
        return error;
    pthread_mutex_lock(&pipeline->commit_lock);
    count = cellar_pending_collect(&pipeline->pending, start, end);
    if (pipeline->options.place_new != NULL) {
        if (count > 0)
            error = cellar_pipeline_send_placed(pipeline, count, version + 1);
    } else {
        error = keep_pages(pipeline, count, start, end);
        if (error == 0) { /* else nothing has happened, and what went out eagerly is in no version either */
            any = adopt_eager(pipeline);
            error = send_runs(pipeline, count, start, end, version + 1, &any);
        }
    }
    any = any || (count > 0 && error == 0);
    if (any || pool->shared)
        cellar_pool_publish(pool, any ? version + 1 : version);
    if (any && pipeline->options.place_new != NULL)
        cellar_cache_set_version(pipeline->front.cache, version + 1);
    pipeline->front.pending_pages = pipeline->pending.table.count;
    pthread_mutex_unlock(&pipeline->commit_lock);
    return error;
}
