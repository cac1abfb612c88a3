/*
 * pool_versions.c - what an overwritten page was, for as long as a snapshot needs it.
 *
 * A frame has its page for the versions from <= version < until. Before a page is overwritten by the commit that makes
 * version w, cellar_pool_keep sees to it that what it was is in memory, as an OLD frame with until = UINT64_MAX: still
 * the one that everybody finds, so that nobody asks the device for the page while it is being written. When it has been
 * written, until becomes w: from then on those at w and later miss, and load what the device has now, from w
 * (cellar_pool_from); those before find the OLD frame. It goes when no snapshot has a version in [from, until).
 *
 * A load that is under way when the page is written may see anything: keep waits for those that it finds, whoever they
 * are for; one that begins later (nobody keeps the page, then) is doomed (cellar_pool_supersede), and done again.
 */
#include "page/pool.h"

#include <string.h>

/* A snapshot that will read bytes of the page at or past first_byte, in the version that begins with from. */
static bool is_needed(const struct cellar_pool *pool, uint64_t from, uint64_t until, uint64_t first_byte)
{
    for (const struct cellar_cache *handle = pool->handles; handle != NULL; handle = handle->next_handle) {
        if (handle->snapshot && handle->version >= from && handle->version < until && handle->limit_bytes > first_byte)
            return true;
    }
    return false;
}

/* The frame ends before what is to be overwritten does, as the device said: that has been cut, or says what is not so.
 * What is missing snapshots would read from the device, later, as it is then. */
static bool ends_early(const struct cellar_pool *pool, const struct cellar_frame *frame, uint64_t end_byte)
{
    uint64_t end = (frame->page << pool->page_shift) + frame->length;

    return end < end_byte && is_needed(pool, atomic_load_explicit(&frame->from, memory_order_relaxed), UINT64_MAX, end);
}

int cellar_pool_keep(struct cellar_cache *cache, uint64_t page, uint64_t first_byte, uint64_t end_byte)
{
    struct cellar_pool *pool = cache->pool;
    struct cellar_frame *loaded = NULL;
    bool kept = false;
    int error = 0;

    if (!pool->shared)
        return 0; /* no snapshot was ever taken */
    while (error == 0 && !kept) {
        struct cellar_frame *frame;

        pthread_mutex_lock(&pool->lock);
        /* A load that is under way, of a reader that has gone perhaps, is not to meet the write. */
        while ((frame = cellar_pool_lookup(pool, page, CELLAR_VERSION_NEWEST)) != NULL &&
               frame->state == CELLAR_FRAME_LOADING)
            cellar_pool_await(pool, frame);
        if ((frame != NULL && frame->state == CELLAR_FRAME_OLD) ||
            !is_needed(pool, cellar_pool_from(pool, page), UINT64_MAX, first_byte)) {
            kept = true;
        } else if (pool->old_count >= pool->options.old_pages) {
            error = CELLAR_EOLDPAGES;
        } else if (frame != NULL && frame == loaded && frame->state == CELLAR_FRAME_CACHED) {
            kept = !ends_early(pool, frame, end_byte);
            if (kept)
                cellar_pool_to_old(pool, frame);
            else
                error = CELLAR_EBOUNDS;
        }
        pthread_mutex_unlock(&pool->lock);
        /* All of it that there is, whatever limit those have who cached it. Afterwards it may have gone again. */
        if (error == 0 && !kept)
            error = cellar_pool_get(cache, page, pool->page_bytes, pool->page_bytes, &loaded);
    }
    cellar_cache_let_go(cache);
    return error == CELLAR_NONE ? CELLAR_EBOUNDS : error; /* not a byte of it is there */
}

void cellar_pool_supersede(struct cellar_pool *pool, uint64_t first_page, uint64_t last_page, uint64_t version)
{
    cellar_pool_enter(pool);
    for (uint64_t page = first_page; page <= last_page && pool->old != NULL; page++) {
        for (struct cellar_frame *frame = atomic_load_explicit(cellar_pool_head(pool, page), memory_order_relaxed);
             frame != NULL; frame = atomic_load_explicit(&frame->chain, memory_order_relaxed)) {
            if (frame->page == page && frame->state == CELLAR_FRAME_OLD &&
                atomic_load_explicit(&frame->until, memory_order_relaxed) == UINT64_MAX)
                atomic_store_explicit(&frame->until, version, memory_order_release);
        }
    }
    cellar_pool_invalidate(pool, first_page, last_page);
    cellar_pool_leave(pool);
}

bool cellar_pool_copy(struct cellar_pool *pool, uint64_t page, size_t from, size_t to, unsigned char *buffer)
{
    const struct cellar_frame *frame;
    bool there;

    cellar_pool_enter(pool);
    frame = cellar_pool_lookup(pool, page, CELLAR_VERSION_NEWEST);
    there = frame != NULL && frame->state != CELLAR_FRAME_LOADING && frame->length >= to;
    if (there)
        memcpy(buffer + from, frame->bytes + from, to - from);
    cellar_pool_leave(pool);
    return there;
}

unsigned char *cellar_pool_own(const struct cellar_pool *pool, uint64_t page, size_t length)
{
    const struct cellar_frame *frame =
        pool->shared || pool->debug ? NULL : cellar_pool_lookup(pool, page, CELLAR_VERSION_NEWEST);

    if (frame == NULL || frame->state != CELLAR_FRAME_CACHED || frame->lent || frame->pins > 0 ||
        frame->length < length)
        return NULL;
    return frame->buffer;
}

void cellar_pool_put(struct cellar_cache *cache, uint64_t page, const void *bytes)
{
    struct cellar_pool *pool = cache->pool;
    struct cellar_frame *frame;

    cellar_pool_enter(pool);
    if (!pool->source.lends && cellar_pool_lookup(pool, page, CELLAR_VERSION_NEWEST) == NULL &&
        cellar_pool_take(pool, &frame) == 0) {
        memcpy(frame->buffer, bytes, pool->page_bytes);
        frame->bytes = frame->buffer;
        frame->length = pool->page_bytes;
        cellar_pool_begin(pool, frame, page, cellar_pool_from(pool, page), UINT64_MAX);
        (void)cellar_pool_arrive(pool, frame, 0);
    }
    cellar_pool_leave(pool);
}

void cellar_pool_release_old(struct cellar_pool *pool)
{
    struct cellar_frame *next;

    for (struct cellar_frame *frame = pool->old; frame != NULL; frame = next) {
        uint64_t until = atomic_load_explicit(&frame->until, memory_order_relaxed);

        next = frame->older;
        if (until != UINT64_MAX && !is_needed(pool, atomic_load_explicit(&frame->from, memory_order_relaxed), until,
                                              frame->page << pool->page_shift))
            cellar_pool_detach(pool, frame);
    }
}

void cellar_pool_publish(struct cellar_pool *pool, uint64_t version)
{
    struct cellar_frame *next;

    cellar_pool_enter(pool);
    pool->version = version;
    for (struct cellar_frame *frame = pool->old; frame != NULL; frame = next) {
        next = frame->older;
        if (atomic_load_explicit(&frame->until, memory_order_relaxed) == UINT64_MAX)
            cellar_pool_detach(pool, frame); /* kept for a write that was never tried */
    }
    cellar_pool_release_old(pool);
    cellar_pool_leave(pool);
}
