/* pool_load.c - a page that isn't at hand: wait for who loads it already, or load it. */
#include "page/pool.h"

#include "base/check.h"
#include "device/queue.h"
#include <errno.h>
#include <sched.h>

/* So often a thread whose page finds no frame lets others run, who may only be looking at a page for a moment. */
enum { PATIENCE = 1000 };

uint64_t cellar_pool_from(const struct cellar_pool *pool, uint64_t page)
{
    uint64_t from = 0;

    for (const struct cellar_frame *frame = atomic_load_explicit(cellar_pool_head(pool, page), memory_order_relaxed);
         frame != NULL; frame = atomic_load_explicit(&frame->chain, memory_order_relaxed)) {
        uint64_t until = atomic_load_explicit(&frame->until, memory_order_relaxed);

        if (frame->page == page && frame->state == CELLAR_FRAME_OLD && until != UINT64_MAX && until > from)
            from = until;
    }
    return from;
}

/*
 * The place hook has said that the page's version for those here is one that a frame has already: it is good for them,
 * too.
 */
static bool extend(struct cellar_pool *pool, uint64_t page, uint64_t from, uint64_t version)
{
    struct cellar_frame *frame = cellar_pool_lookup(pool, page, from);

    if (frame == NULL || atomic_load_explicit(&frame->from, memory_order_relaxed) != from)
        return false;
    if (version < atomic_load_explicit(&frame->until, memory_order_relaxed))
        return false;
    atomic_store_explicit(&frame->until, version + 1, memory_order_release);
    return true;
}

/* What the hook answers, held to its contract. */
static int ask_place(const struct cellar_pool *pool, uint64_t page, uint64_t version, struct cellar_place *place)
{
    int error = pool->options.hooks.place(pool->options.user, version, page << pool->page_shift, place);

    if (error > 0 && error != CELLAR_NONE)
        return -EIO;
    if (error == 0 && (place->version > version || cellar_device_block_bytes(place->device) > pool->page_bytes))
        return -EINVAL;
    return error;
}

int cellar_pool_locate(struct cellar_pool *pool, uint64_t page, uint64_t version, struct cellar_place *ret_place)
{
    struct cellar_place place = {.device = pool->source.device, .offset = page << pool->page_shift};

    if (pool->options.hooks.place == NULL) {
        place.version = cellar_pool_from(pool, page);
        if (place.version > version)
            return -ESTALE; /* of a handle that is no snapshot: its version of the page was not kept */
    } else {
        int error = ask_place(pool, page, version, &place);

        if (error != 0)
            return error;
        if (extend(pool, page, place.version, version))
            return CELLAR_POOL_AGAIN;
    }
    *ret_place = place;
    return 0;
}

static int validate(const struct cellar_pool *pool, uint64_t page, uint64_t version, const struct cellar_frame *frame)
{
    if (pool->options.hooks.validate == NULL || frame->length == 0)
        return 0;
    return pool->options.hooks.validate(pool->options.user, version, page << pool->page_shift, frame->bytes,
                                        frame->length);
}

int cellar_pool_validate(const struct cellar_pool *pool, struct cellar_frame *frame)
{
    uint64_t from = atomic_load_explicit(&frame->from, memory_order_relaxed);
    int error = validate(pool, frame->page, from, frame);

    return error > 0 ? -EIO : error;
}

/* Without the lock: what there is of the page, room bytes at most, into a frame that is LOADING. */
static int bring(struct cellar_pool *pool, struct cellar_frame *frame, const struct cellar_place *place, size_t room)
{
    size_t length = pool->source.device != NULL ? room : pool->page_bytes;
    int error = cellar_source_load(&pool->source, place, frame->page << pool->page_shift, length, frame);

    if (error == -ENOMEM && pool->source.lends && pool->source.device != NULL && frame->buffer == NULL) {
        cellar_pool_enter(pool);
        error = cellar_buffers_give(&pool->buffers, frame);
        cellar_pool_leave(pool);
        if (error == 0)
            error = cellar_source_load(&pool->source, place, frame->page << pool->page_shift, length, frame);
    }
    if (error != 0)
        return error;
    error = cellar_pool_validate(pool, frame);
    if (error != 0)
        cellar_source_release(&pool->source, frame);
    return error;
}

/* Leaves the lock until something has changed: a load has come, by whichever thread, or the hook says so. */
static void wait_a_while(struct cellar_pool *pool)
{
    if (pool->options.hooks.wait != NULL) {
        cellar_pool_leave(pool);
        pool->options.hooks.wait(pool->options.user);
        cellar_pool_enter(pool);
        cellar_pool_settle(pool, false);
    } else if (cellar_pool_is_fetching(pool)) {
        cellar_pool_settle(pool, true);
    } else {
        CELLAR_CHECK(pool->shared); /* one thread doesn't load twice at a time */
        pthread_cond_wait(&pool->changed, &pool->lock);
    }
}

/* Without the lock: the hook after a load that a call had to wait for. The frame is pinned. */
static void tell_loaded(struct cellar_pool *pool)
{
    if (pool->options.hooks.loaded == NULL)
        return;
    cellar_pool_leave(pool);
    pool->options.hooks.loaded(pool->options.user);
    cellar_pool_enter(pool);
}

/* Waits until a frame that is LOADING isn't any more. 0: look again; else its error. */
static int wait_for(struct cellar_pool *pool, struct cellar_frame *frame)
{
    int error;

    cellar_pool_pin(pool, frame);
    while (frame->state == CELLAR_FRAME_LOADING)
        wait_a_while(pool);
    error = frame->state == CELLAR_FRAME_STALE ? frame->error : 0;
    if (error == 0)
        tell_loaded(pool);
    cellar_pool_unpin(pool, frame);
    return error;
}

void cellar_pool_await(struct cellar_pool *pool, struct cellar_frame *frame)
{
    cellar_pool_pin(pool, frame);
    while (frame->state == CELLAR_FRAME_LOADING)
        wait_a_while(pool);
    cellar_pool_unpin(pool, frame);
}

/* A frame for a load, or POOL_AGAIN after a wait for one. */
static int take_frame(struct cellar_pool *pool, struct cellar_frame **ret_frame)
{
    int error = cellar_pool_take(pool, ret_frame);

    if (error != CELLAR_EPINNED || pool->loading == 0)
        return error;
    wait_a_while(pool);
    return CELLAR_POOL_AGAIN;
}

/*
 * No page could be given up: true, after others have run, where it may be that they held the pages for a moment only.
 * It isn't where they are fixed; and they are not while others find room.
 */
static bool be_patient(struct cellar_pool *pool, int *patience, uint64_t *arrivals)
{
    if (!pool->shared && pool->options.hooks.wait == NULL)
        return false;
    if (*arrivals != pool->arrivals)
        *patience = PATIENCE;
    *arrivals = pool->arrivals;
    if ((*patience)-- <= 0)
        return false;
    if (pool->options.hooks.wait != NULL) {
        wait_a_while(pool);
    } else {
        cellar_pool_leave(pool);
        sched_yield();
        cellar_pool_enter(pool);
    }
    return true;
}

/* Loads the page in this thread. 0: it is there, in *ret_frame. */
static int load_here(struct cellar_cache *cache, uint64_t page, size_t room, struct cellar_frame **ret_frame)
{
    struct cellar_pool *pool = cache->pool;
    struct cellar_place place;
    struct cellar_frame *frame;
    uint64_t until = pool->options.hooks.place != NULL ? cache->version + 1 : UINT64_MAX;
    int error = cellar_pool_locate(pool, page, cache->version, &place);

    if (error != 0)
        return error;
    error = take_frame(pool, &frame);
    if (error != 0)
        return error;
    cellar_pool_begin(pool, frame, page, place.version, until);
    cellar_pool_leave(pool);
    error = bring(pool, frame, &place, room);
    cellar_pool_enter(pool);
    cellar_pool_pin(pool, frame);
    error = cellar_pool_arrive(pool, frame, error);
    cellar_pool_wake(pool, frame, error);
    cellar_pool_retry(pool);
    if (pool->taking)
        cellar_queue_nudge(pool->queue); /* who takes may wait for this load, or its frame, as well */
    if (error == 0)
        tell_loaded(pool);
    *ret_frame = frame;
    cellar_pool_unpin(pool, frame);
    return error == 0 && frame->state != CELLAR_FRAME_CACHED && frame->state != CELLAR_FRAME_OLD ? CELLAR_POOL_AGAIN
                                                                                                 : error;
}

/* Loads the page: here, or in the background where a hook wants to run others meanwhile. */
static int load(struct cellar_cache *cache, uint64_t page, size_t room, struct cellar_frame **ret_frame)
{
    struct cellar_pool *pool = cache->pool;
    int error;

    if (pool->options.hooks.wait == NULL)
        return load_here(cache, page, room, ret_frame);
    error = cellar_pool_start(cache, page, 1, cache->version, false);
    if (error == CELLAR_POOL_BUSY) /* those that have the requests, or the frames for loads, give them back */
        wait_a_while(pool);
    return error == 0 || error == CELLAR_POOL_BUSY ? CELLAR_POOL_AGAIN : error;
}

/* Whether the source may have more by now than the short page that is cached. */
static int may_be_longer(struct cellar_pool *pool, struct cellar_frame *frame, bool *ret_longer)
{
    uint64_t end = (frame->page << pool->page_shift) + frame->length;
    int error;

    if (pool->options.hooks.place != NULL) {
        *ret_longer = true;
        return 0;
    }
    cellar_pool_pin(pool, frame);
    cellar_pool_leave(pool);
    error = cellar_source_reaches(&pool->source, end, ret_longer);
    cellar_pool_enter(pool);
    cellar_pool_unpin(pool, frame);
    return error;
}

/* One look under the lock. POOL_AGAIN: it has to be another one. tight: the last one found all pages held. */
static int look(struct cellar_cache *cache, uint64_t page, size_t need, size_t room, bool tight, bool *ret_missed,
                bool *final, struct cellar_frame **ret_frame)
{
    struct cellar_pool *pool = cache->pool;
    struct cellar_frame *frame = cellar_pool_lookup(pool, page, cache->version);
    bool longer = false;
    int error;

    if (frame != NULL && frame->state != CELLAR_FRAME_LOADING) {
        *ret_frame = frame;
        /* What is kept doesn't grow: it is all that its versions have. */
        if (frame->length >= need || *final || frame->state == CELLAR_FRAME_OLD)
            return 0;
        error = may_be_longer(pool, frame, &longer);
        if (error != 0)
            return error;
        if (cellar_pool_lookup(pool, page, cache->version) != frame)
            return CELLAR_POOL_AGAIN;
        if (!longer || frame->state == CELLAR_FRAME_OLD)
            return 0;
    } else if (frame != NULL) {
        bool first = !*ret_missed;

        *ret_missed = true;
        error = wait_for(pool, frame);
        if (error == CELLAR_NONE && first)
            return CELLAR_POOL_AGAIN; /* that load may have asked for the size before this call began */
        if (error == CELLAR_POOL_UNCHANGED)
            *final = true;
        return error == 0 || error == CELLAR_POOL_UNCHANGED || error == CELLAR_POOL_SPLIT ? CELLAR_POOL_AGAIN : error;
    } else {
        *ret_missed = true;
    }
    if (!pool->shared && pool->loading == 0 && pool->pinned >= pool->page_count && frame == NULL)
        return CELLAR_EPINNED;
    if (tight && !cellar_pool_has_room(pool))
        return CELLAR_EPINNED; /* not another load for nothing */
    error = load(cache, page, room, ret_frame);
    if (error == 0)
        *ret_missed = true;
    if (error != CELLAR_POOL_UNCHANGED && (error != CELLAR_NONE || frame == NULL))
        return error;
    *final = true; /* the short page is all there is; it may have to be looked up again */
    return CELLAR_POOL_AGAIN;
}

int cellar_pool_get(struct cellar_cache *cache, uint64_t page, size_t need, size_t room,
                    struct cellar_frame **ret_frame)
{
    struct cellar_pool *pool = cache->pool;
    struct cellar_frame *frame = NULL;
    bool missed = false, final = false, cut = false;
    int patience = PATIENCE, error;
    uint64_t arrivals = 0;

    cellar_pool_enter(pool);
    do {
        error = look(cache, page, need, room, patience < PATIENCE, &missed, &final, &frame);
        if (error == CELLAR_EPINNED && be_patient(pool, &patience, &arrivals))
            error = CELLAR_POOL_AGAIN;
        if (error == CELLAR_POOL_CUT) {
            error = cut ? -EIO : CELLAR_POOL_AGAIN; /* as where this thread loads */
            cut = true;
        }
    } while (error == CELLAR_POOL_AGAIN);
    if (error < 0)
        cache->fault_address = page << pool->page_shift;
    if (missed || error != 0)
        cache->misses++;
    else
        cache->front.hits++;
    if (error == 0) {
        if (pool->shared)
            atomic_store_explicit(&cache->hazards[0], frame, memory_order_release);
        if (missed || cellar_frame_is_ahead(frame)) { /* its first use */
            cache->fresh = frame;
            cache->fresh_page = page;
            cellar_pool_pin(pool, frame); /* not given up for what is read ahead */
            cellar_pool_read_ahead(cache, page, missed);
            cellar_pool_unpin(pool, frame);
        }
        cellar_frame_set_ahead(frame, false);
        *ret_frame = frame;
    }
    cellar_pool_leave(pool);
    return error;
}
