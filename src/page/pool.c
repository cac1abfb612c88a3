/*
 * pool.c - frames, and the pages in them.
 *
 *                     begin                    arrive
 *              FREE ----------> LOADING ------------------------> CACHED --------------> OLD
 *               ^ ^                |                               |   ^   kept for       |
 *               | |                | failed, or overwritten        |   |   a snapshot     | no snapshot needs it,
 *               | |                | meanwhile                     |   +------------------+ or it was not overwritten
 *               | |                v                               v
 *               | +-- nobody waits, nobody pins: evicted, invalidated, outgrown, superseded
 *               |                  |                               |
 *               |                  v          else                 v
 *               +-- last unpin -- STALE <--------------------------+
 *
 * 1. A frame is in the queue of the eviction if and only if it is CACHED; in the table if it is LOADING, CACHED or OLD.
 *    Its tag is not 0 only while it is CACHED or OLD.
 * 2. Of the frames of a page in the table no two that are CACHED or OLD are for the same version.
 * 3. A STALE frame is pinned, waited for or a hazard. Its bytes stay where they are; no lookup finds them.
 * 4. CACHED and STALE frames together are page_count at most, OLD ones old_pages at most. Those beyond are for loads: a
 *    load that fails puts its frame back, and only after it has succeeded, or where none is free, is a page given up.
 * 5. A line of a handle's front table with a length shows the bytes of a CACHED or OLD frame; only the handle of a pool
 *    that isn't shared has such lines. Who takes a frame out of the table empties its line.
 * 6. The line with number i only holds pages whose number is i modulo CELLAR_CACHE_LINES, empty ones included: the
 *    single comparison of cellar_cache_peek rests on it.
 *
 * Hits of a shared pool take no lock (cache.c): a thread finds a frame by its tag, makes it a hazard of its handle, and
 * looks at the tag again. Who wants to give a frame up takes its tag away, and then looks for it among the hazards.
 * Each does its two steps in the one order that all agree on (sequentially consistent), so one of the two sees the
 * other: Michael, "Hazard Pointers: Safe Memory Reclamation for Lock-Free Objects", IEEE TPDS 15(6), 2004. What a tag
 * guards (page, bytes, length) is written before it is set and not again before it is 0 and no hazard is left. A chain
 * may lead a thread without the lock into another one, whose frames have moved; then it finds nothing, and comes
 * again with the lock.
 */
#include "page/pool.h"

#include "base/check.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* Frames for loads beside those for pages: for one thread, and for many. */
enum { LOAD_FRAMES_ALONE = 1, LOAD_FRAMES_SHARED = 9, DEBUG_PAGES = 4 };

static bool debug_wanted(void)
{
    const char *value = secure_getenv("CELLAR_CACHE_DEBUG");

    return value != NULL && strcmp(value, "1") == 0;
}

static int open_table(struct cellar_pool *pool)
{
    size_t count = 16;

    if (pool->frame_count > SIZE_MAX / 4 / sizeof *pool->frames)
        return -ENOMEM;
    while (count < 2 * pool->frame_count)
        count *= 2;
    pool->heads_shift = 64 - (unsigned)__builtin_ctzll(count);
    pool->heads = calloc(count, sizeof *pool->heads);
    /* One more for the alignment: memory from calloc is not touched before it is used. */
    pool->frames_memory = calloc(pool->frame_count + 1, sizeof *pool->frames);
    if (pool->heads == NULL || pool->frames_memory == NULL)
        return -ENOMEM;
    pool->frames =
        (void *)(((uintptr_t)pool->frames_memory + CELLAR_FRAME_ALIGN - 1) / CELLAR_FRAME_ALIGN * CELLAR_FRAME_ALIGN);
    return 0;
}

/* It is held for a fraction of a microsecond at a time: who finds it taken does well to look again before it sleeps. */
static int open_lock(struct cellar_pool *pool)
{
    pthread_mutexattr_t kind;
    int error = pthread_mutexattr_init(&kind);

    if (error == 0) {
        (void)pthread_mutexattr_settype(&kind, PTHREAD_MUTEX_ADAPTIVE_NP);
        error = pthread_mutex_init(&pool->lock, &kind);
        pthread_mutexattr_destroy(&kind);
    }
    return -error;
}

int cellar_pool_open(const struct cellar_source *source, const struct cellar_cache_options *options,
                     struct cellar_pool **ret_pool)
{
    struct cellar_pool *pool = aligned_alloc(alignof(struct cellar_pool), sizeof *pool);
    int error;

    if (pool == NULL)
        return -ENOMEM;
    memset(pool, 0, sizeof *pool);
    pool->process = getpid();
    pool->options = *options;
    pool->source = *source;
    pool->debug = debug_wanted();
    if (pool->debug && options->page_count > DEBUG_PAGES)
        pool->options.page_count = DEBUG_PAGES;
    if (pool->debug || options->depth > 0 || options->old_pages > 0 || options->hooks.place != NULL)
        pool->options.copy = true;
    pool->source.lends = source->device == NULL || (!pool->options.copy && cellar_device_lends(source->device));
    pool->page_bytes = options->page_bytes;
    pool->page_count = pool->options.page_count;
    pool->page_shift = (unsigned)__builtin_ctzll(pool->page_bytes);
    pool->frame_count = pool->page_count + LOAD_FRAMES_SHARED + options->old_pages;
    pool->stalled_end = &pool->stalled;
    cellar_buffers_open(&pool->buffers, pool->page_bytes, pool->frame_count, pool->debug);
    error = open_lock(pool);
    if (error != 0) {
        free(pool);
        return error;
    }
    pthread_cond_init(&pool->changed, NULL);
    error = open_table(pool);
    if (error == 0)
        error = cellar_evict_find(options->eviction)->open(pool->page_count, &pool->evict_state);
    if (error == 0)
        pool->evict = cellar_evict_find(options->eviction);
    if (error == 0 && options->depth > 0)
        error = cellar_pool_open_queue(pool);
    if (error != 0) {
        cellar_pool_close(pool);
        return error;
    }
    *ret_pool = pool;
    return 0;
}

void cellar_pool_close(struct cellar_pool *pool)
{
    cellar_pool_close_queue(pool);
    for (size_t i = 0; i < pool->frames_touched; i++) {
        if (pool->frames[i].state != CELLAR_FRAME_FREE)
            cellar_source_release(&pool->source, &pool->frames[i]);
    }
    if (pool->evict != NULL)
        pool->evict->close(pool->evict_state);
    cellar_buffers_close(&pool->buffers, pool->frames, pool->frames_touched);
    free((void *)pool->heads);
    free(pool->frames_memory);
    if (pool->process == getpid()) { /* a child would wait for threads that it doesn't have */
        pthread_cond_destroy(&pool->changed);
        pthread_mutex_destroy(&pool->lock);
    }
    free(pool);
}

/* ---- the table ---- */

static bool is_for(const struct cellar_frame *frame, uint64_t version)
{
    return atomic_load_explicit(&frame->from, memory_order_relaxed) <= version &&
           version < atomic_load_explicit(&frame->until, memory_order_relaxed);
}

struct cellar_frame *cellar_pool_lookup(const struct cellar_pool *pool, uint64_t page, uint64_t version)
{
    struct cellar_frame *frame = atomic_load_explicit(cellar_pool_head(pool, page), memory_order_relaxed);

    while (frame != NULL && (frame->page != page || !is_for(frame, version)))
        frame = atomic_load_explicit(&frame->chain, memory_order_relaxed);
    return frame;
}

static void link_frame(struct cellar_pool *pool, struct cellar_frame *frame)
{
    struct cellar_frame *_Atomic *head = cellar_pool_head(pool, frame->page);

    atomic_store_explicit(&frame->chain, atomic_load_explicit(head, memory_order_relaxed), memory_order_relaxed);
    atomic_store_explicit(head, frame, memory_order_release);
}

static void unlink_frame(struct cellar_pool *pool, struct cellar_frame *frame)
{
    struct cellar_frame *_Atomic *at = cellar_pool_head(pool, frame->page);
    struct cellar_frame *next;

    while ((next = atomic_load_explicit(at, memory_order_relaxed)) != frame) {
        CELLAR_CHECK(next != NULL);
        at = &next->chain;
    }
    atomic_store_explicit(at, atomic_load_explicit(&frame->chain, memory_order_relaxed), memory_order_release);
}

/* Nobody finds the frame without the lock from here on; who found it before is among the hazards. */
static void take_tag(struct cellar_pool *pool, struct cellar_frame *frame)
{
    if (pool->shared)
        atomic_store_explicit(&frame->tag, 0, memory_order_seq_cst);
    else
        atomic_store_explicit(&frame->tag, 0, memory_order_relaxed);
}

static void give_tag(struct cellar_frame *frame)
{
    atomic_store_explicit(&frame->tag, frame->page + 1, memory_order_release);
}

/* Hazard 0 comes first: a pin is copied from there, and stands before 0 is overwritten. */
bool cellar_pool_is_hazard(const struct cellar_pool *pool, const struct cellar_frame *frame)
{
    if (!pool->shared)
        return false;
    for (const struct cellar_cache *handle = pool->handles; handle != NULL; handle = handle->next_handle) {
        for (int i = 0; i < CELLAR_HAZARDS; i++) {
            if (atomic_load_explicit(&handle->hazards[i], memory_order_seq_cst) == frame)
                return true;
        }
    }
    return false;
}

/* ---- lists ---- */

static void push(struct cellar_frame **list, struct cellar_frame *frame)
{
    frame->newer = NULL;
    frame->older = *list;
    if (*list != NULL)
        (*list)->newer = frame;
    *list = frame;
}

static void remove_from(struct cellar_frame **list, struct cellar_frame *frame)
{
    if (frame->newer != NULL)
        frame->newer->older = frame->older;
    else
        *list = frame->older;
    if (frame->older != NULL)
        frame->older->newer = frame->newer;
    frame->newer = frame->older = NULL;
}

void cellar_pool_to_old(struct cellar_pool *pool, struct cellar_frame *frame)
{
    pool->evict->remove(pool->evict_state, frame);
    pool->cached--;
    frame->state = CELLAR_FRAME_OLD;
    push(&pool->old, frame);
    pool->old_count++;
}

void cellar_pool_put_free(struct cellar_pool *pool, struct cellar_frame *frame)
{
    struct cellar_frame **place = &pool->free;

    cellar_source_release(&pool->source, frame);
    cellar_buffers_hide(&pool->buffers, frame);
    frame->state = CELLAR_FRAME_FREE;
    frame->error = 0;
    while (pool->debug && *place != NULL) /* to the end: it stays inaccessible for as long as can be */
        place = &(*place)->older;
    push(place, frame);
}

static void retire(struct cellar_pool *pool, struct cellar_frame *frame, int error)
{
    frame->state = CELLAR_FRAME_STALE;
    frame->error = error;
    pool->stale_count++;
    push(&pool->stale, frame);
}

static void free_stale(struct cellar_pool *pool, struct cellar_frame *frame)
{
    remove_from(&pool->stale, frame);
    pool->stale_count--;
    cellar_pool_put_free(pool, frame);
}

/* A hazard goes without a word; so the STALE frames are looked through when one is needed. */
static bool reclaim(struct cellar_pool *pool)
{
    struct cellar_frame *next;
    bool any = false;

    for (struct cellar_frame *frame = pool->stale; frame != NULL; frame = next) {
        next = frame->older;
        if (frame->pins == 0 && !cellar_pool_is_hazard(pool, frame)) {
            free_stale(pool, frame);
            any = true;
        }
    }
    return any;
}

void cellar_pool_detach(struct cellar_pool *pool, struct cellar_frame *frame)
{
    take_tag(pool, frame);
    unlink_frame(pool, frame);
    if (!pool->shared && pool->handles != NULL)
        cellar_cache_clear_line(pool->handles, frame->page);
    if (frame->state == CELLAR_FRAME_OLD) {
        remove_from(&pool->old, frame);
        pool->old_count--;
    } else {
        pool->evict->remove(pool->evict_state, frame);
        pool->cached--;
    }
    if (frame->pins > 0 || cellar_pool_is_hazard(pool, frame))
        retire(pool, frame, 0);
    else
        cellar_pool_put_free(pool, frame);
}

/* A frame that nothing holds, its tag taken; NULL: none. Those that turn out to be hazards are pinned until it is
 * found. */
static struct cellar_frame *find_victim(struct cellar_pool *pool)
{
    struct cellar_frame *passed = NULL, *frame;

    while ((frame = pool->evict->choose(pool->evict_state)) != NULL) {
        take_tag(pool, frame);
        if (!cellar_pool_is_hazard(pool, frame))
            break;
        give_tag(frame);
        frame->pins++;
        frame->passed = passed;
        passed = frame;
    }
    for (; passed != NULL; passed = passed->passed)
        passed->pins--;
    return frame;
}

/* Gives up one page that nothing holds. */
static bool evict_one(struct cellar_pool *pool)
{
    struct cellar_frame *frame = find_victim(pool);

    if (frame == NULL)
        return false;
    cellar_pool_detach(pool, frame);
    pool->evictions++;
    return true;
}

bool cellar_pool_has_room(struct cellar_pool *pool)
{
    struct cellar_frame *frame;

    if (pool->cached + pool->stale_count < pool->page_count || reclaim(pool))
        return true;
    frame = find_victim(pool);
    if (frame != NULL)
        give_tag(frame);
    return frame != NULL;
}

void cellar_pool_sweep(struct cellar_pool *pool)
{
    for (size_t i = 0; i < pool->frames_touched; i++) {
        struct cellar_frame *frame = &pool->frames[i];

        if (frame->state == CELLAR_FRAME_CACHED && frame->pins == 0 && !cellar_pool_is_hazard(pool, frame))
            cellar_pool_detach(pool, frame);
    }
    reclaim(pool);
}

/* ---- loads ---- */

int cellar_pool_take(struct cellar_pool *pool, struct cellar_frame **ret_frame)
{
    size_t most = pool->frame_count - (pool->shared ? 0 : LOAD_FRAMES_SHARED - LOAD_FRAMES_ALONE);
    struct cellar_frame *frame;

    while (pool->free == NULL && pool->frames_touched >= most) {
        if (!reclaim(pool) && !evict_one(pool))
            return CELLAR_EPINNED;
    }
    frame = &pool->frames[pool->frames_touched];
    if (pool->free != NULL && (!pool->debug || pool->frames_touched >= most))
        frame = pool->free;
    if (!pool->source.lends && cellar_buffers_give(&pool->buffers, frame) != 0)
        return -ENOMEM;
    if (frame == pool->free)
        pool->free = frame->older;
    else
        pool->frames_touched++;
    *ret_frame = frame;
    return 0;
}

void cellar_pool_begin(struct cellar_pool *pool, struct cellar_frame *frame, uint64_t page, uint64_t from,
                       uint64_t until)
{
    frame->state = CELLAR_FRAME_LOADING;
    frame->page = page;
    frame->doomed = false;
    cellar_frame_set_ahead(frame, false);
    frame->fetch = NULL;
    frame->waits = NULL;
    atomic_store_explicit(&frame->from, from, memory_order_relaxed);
    atomic_store_explicit(&frame->until, until, memory_order_relaxed);
    link_frame(pool, frame);
    pool->loading++;
}

/* Another frame than this one that has the page for the same versions, CACHED. */
static struct cellar_frame *find_twin(const struct cellar_pool *pool, const struct cellar_frame *frame)
{
    uint64_t from = atomic_load_explicit(&frame->from, memory_order_relaxed);
    struct cellar_frame *twin = atomic_load_explicit(cellar_pool_head(pool, frame->page), memory_order_relaxed);

    while (twin != NULL &&
           (twin == frame || twin->page != frame->page || twin->state == CELLAR_FRAME_LOADING || !is_for(twin, from)))
        twin = atomic_load_explicit(&twin->chain, memory_order_relaxed);
    return twin;
}

/* Room for one more CACHED frame. */
static int make_room(struct cellar_pool *pool)
{
    while (pool->cached + pool->stale_count >= pool->page_count) {
        if (!reclaim(pool) && !evict_one(pool))
            return CELLAR_EPINNED;
    }
    return 0;
}

/* Room for one more CACHED frame, in the place of twin, which may be NULL and stays where there is none. */
static int replace(struct cellar_pool *pool, struct cellar_frame *twin)
{
    int error = 0;

    if (twin == NULL)
        return make_room(pool);
    if (twin->pins > 0 || cellar_pool_is_hazard(pool, twin)) { /* it will go on to take up room */
        twin->pins++;
        error = make_room(pool);
        twin->pins--;
    }
    if (error == 0)
        cellar_pool_detach(pool, twin);
    return error;
}

int cellar_pool_arrive(struct cellar_pool *pool, struct cellar_frame *frame, int error)
{
    struct cellar_frame *twin = find_twin(pool, frame);

    pool->loading--;
    frame->fetch = NULL;
    if (error == 0 && frame->doomed)
        error = CELLAR_POOL_AGAIN;
    /* What is kept for a snapshot stays until it has been overwritten, however long the page has become. */
    if (error == 0 && twin != NULL && (twin->length >= frame->length || twin->state == CELLAR_FRAME_OLD))
        error = CELLAR_POOL_UNCHANGED;
    if (error == 0 && frame->length == 0)
        error = CELLAR_NONE;
    if (error == 0)
        error = replace(pool, twin);
    if (error == 0) {
        frame->state = CELLAR_FRAME_CACHED;
        pool->cached++;
        pool->arrivals++;
        pool->evict->insert(pool->evict_state, frame);
        give_tag(frame);
    } else {
        unlink_frame(pool, frame);
        if (frame->pins > 0)
            retire(pool, frame, error);
        else
            cellar_pool_put_free(pool, frame);
    }
    if (pool->shared)
        pthread_cond_broadcast(&pool->changed);
    return error;
}

void cellar_pool_pin(struct cellar_pool *pool, struct cellar_frame *frame)
{
    if (frame->pins++ == 0)
        pool->pinned++;
}

void cellar_pool_unpin(struct cellar_pool *pool, struct cellar_frame *frame)
{
    CELLAR_CHECK(frame->pins > 0);
    if (pool->debug && frame->pins == 0)
        abort();
    if (--frame->pins > 0)
        return;
    pool->pinned--;
    if (frame->state == CELLAR_FRAME_STALE && !cellar_pool_is_hazard(pool, frame))
        free_stale(pool, frame);
}

/* ---- forgetting ---- */

static void forget(struct cellar_pool *pool, struct cellar_frame *frame)
{
    if (frame->state == CELLAR_FRAME_CACHED)
        cellar_pool_detach(pool, frame);
    else if (frame->state == CELLAR_FRAME_LOADING)
        frame->doomed = true;
}

static void forget_page(struct cellar_pool *pool, uint64_t page)
{
    struct cellar_frame *next;

    for (struct cellar_frame *frame = atomic_load_explicit(cellar_pool_head(pool, page), memory_order_relaxed);
         frame != NULL; frame = next) {
        next = atomic_load_explicit(&frame->chain, memory_order_relaxed);
        if (frame->page == page)
            forget(pool, frame);
    }
}

void cellar_pool_invalidate(struct cellar_pool *pool, uint64_t first_page, uint64_t last_page)
{
    if (last_page - first_page < pool->cached + pool->loading) {
        for (uint64_t left = last_page - first_page + 1; left > 0; left--)
            forget_page(pool, first_page + left - 1);
        return;
    }
    for (size_t i = 0; i < pool->frames_touched; i++) {
        struct cellar_frame *frame = &pool->frames[i];

        if (frame->page >= first_page && frame->page <= last_page)
            forget(pool, frame);
    }
}
