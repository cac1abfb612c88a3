/* cache.c - handles: opening, sharing, and the hits. The misses are pool_load.c's, what reads is in cache_read.c. */
#include "page/cache.h"

#include "base/check.h"
#include "page/pool.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
    PAGE_BYTES_MAX = 1 << 30,
    PAGE_COUNT_MAX = 1 << 30,
    PAGE_BYTES_DEFAULT = 4096,
    PAGE_COUNT_DEFAULT = 1024,
    DEPTH_MAX = 4096,
    OLD_PAGES_MAX = 1 << 30,
    CHAIN_MAX = 64, /* frames that a look without the lock passes before it gives up */
};

static bool is_power_of_two(size_t value)
{
    return value != 0 && (value & (value - 1)) == 0;
}

static CELLAR_COLD int check_options(const struct cellar_source *source, struct cellar_cache_options *options)
{
    if (options->page_bytes == 0)
        options->page_bytes = PAGE_BYTES_DEFAULT;
    if (options->page_count == 0)
        options->page_count = PAGE_COUNT_DEFAULT;
    if (!is_power_of_two(options->page_bytes) || !is_power_of_two(options->page_count) ||
        options->page_bytes > PAGE_BYTES_MAX || options->page_count > PAGE_COUNT_MAX || options->depth > DEPTH_MAX ||
        options->old_pages > OLD_PAGES_MAX || cellar_evict_find(options->eviction) == NULL ||
        options->io < CELLAR_IO_AUTO || options->io > CELLAR_IO_THREADS)
        return -EINVAL;
    if (options->depth == 0 && (options->read_ahead_pages > 0 || options->hooks.wait != NULL))
        return -EINVAL;
    if (source->device != NULL && options->page_bytes < cellar_device_block_bytes(source->device))
        return -EINVAL;
    return 0;
}

static void clear_front(struct cellar_cache *cache)
{
    for (uint64_t i = 0; i < CELLAR_CACHE_LINES; i++)
        cache->front.lines[i] = (struct cellar_cache_line){.address = i << cache->front.page_shift};
}

static CELLAR_COLD int new_handle(struct cellar_pool *pool, struct cellar_cache **ret_cache)
{
    struct cellar_cache *cache = aligned_alloc(alignof(struct cellar_cache), sizeof *cache);

    if (cache == NULL)
        return -ENOMEM;
    memset(cache, 0, sizeof *cache);
    cache->pool = pool;
    cache->front.page_shift = pool->page_shift;
    cache->version = CELLAR_VERSION_NEWEST;
    cache->limit_bytes = UINT64_MAX;
    cache->finished_end = &cache->finished;
    cache->event = cache->epoll = -1;
    clear_front(cache);
    *ret_cache = cache;
    return 0;
}

static CELLAR_COLD int open_source(const struct cellar_source *source, const struct cellar_cache_options *wanted,
                                   struct cellar_cache **ret_cache)
{
    struct cellar_cache_options options = *wanted;
    struct cellar_pool *pool;
    int error = check_options(source, &options);

    if (error == 0)
        error = cellar_pool_open(source, &options, &pool);
    if (error != 0)
        return error;
    error = new_handle(pool, ret_cache);
    if (error != 0)
        cellar_pool_close(pool);
    else
        pool->handles = *ret_cache;
    return error;
}

int cellar_cache_open_with(struct cellar_device *device, const struct cellar_cache_options *options,
                           struct cellar_cache **ret_cache)
{
    struct cellar_source source = {.device = device};

    return open_source(&source, options, ret_cache);
}

int cellar_cache_open(struct cellar_device *device, size_t page_bytes, size_t page_count,
                      struct cellar_cache **ret_cache)
{
    struct cellar_cache_options options = {.page_bytes = page_bytes, .page_count = page_count};

    return page_bytes == 0 || page_count == 0 ? -EINVAL : cellar_cache_open_with(device, &options, ret_cache);
}

int cellar_cache_open_map(cellar_map_function *map, cellar_unmap_function *unmap, void *user, size_t page_bytes,
                          size_t page_count, struct cellar_cache **ret_cache)
{
    struct cellar_source source = {.map = map, .unmap = unmap, .user = user};
    struct cellar_cache_options options = {.page_bytes = page_bytes, .page_count = page_count};

    if (map == NULL || page_bytes == 0 || page_count == 0)
        return -EINVAL;
    return open_source(&source, &options, ret_cache);
}

int cellar_cache_copy(const struct cellar_cache *cache, struct cellar_cache **ret_cache)
{
    const struct cellar_pool *pool = cache->pool;
    struct cellar_source source = {
        .device = pool->source.device, .map = pool->source.map, .unmap = pool->source.unmap, .user = pool->source.user};

    return open_source(&source, &pool->options, ret_cache);
}

CELLAR_COLD int cellar_cache_share_at(struct cellar_cache *cache, uint64_t version, uint64_t limit_bytes, bool snapshot,
                                      struct cellar_cache **ret_cache)
{
    struct cellar_pool *pool = cache->pool;
    struct cellar_cache *other;
    int error = pool->source.device == NULL ? -ENOTSUP : new_handle(pool, &other);

    if (error != 0)
        return error;
    other->version = version;
    other->limit_bytes = limit_bytes;
    other->snapshot = snapshot;
    if (!pool->shared) {
        cellar_cache_clear_lines(cache);
        pool->shared = true;
    }
    cellar_pool_enter(pool);
    other->next_handle = pool->handles;
    pool->handles = other;
    cellar_pool_leave(pool);
    *ret_cache = other;
    return 0;
}

int cellar_cache_share(struct cellar_cache *cache, struct cellar_cache **ret_cache)
{
    return cellar_cache_share_at(cache, cache->version, cache->limit_bytes, cache->snapshot, ret_cache);
}

CELLAR_COLD void cellar_cache_close(struct cellar_cache *cache)
{
    struct cellar_pool *pool;
    struct cellar_cache **link;
    bool last;

    if (cache == NULL)
        return;
    pool = cache->pool;
    if (pool->process == getpid())
        cellar_pool_enter(pool);
    cellar_pool_abandon(cache);
    for (link = &pool->handles; *link != cache; link = &(*link)->next_handle)
        ;
    *link = cache->next_handle;
    last = pool->handles == NULL;
    if (!last && cache->snapshot)
        cellar_pool_release_old(pool);
    if (pool->process == getpid())
        cellar_pool_leave(pool);
    if (last)
        cellar_pool_close(pool);
    if (cache->epoll >= 0)
        close(cache->epoll);
    if (cache->event >= 0)
        close(cache->event);
    free(cache);
}

/* Under the lock: what is kept for a snapshot depends on both. */
static CELLAR_COLD void set_view(struct cellar_cache *cache, uint64_t version, uint64_t limit_bytes)
{
    cellar_cache_clear_lines(cache);
    cellar_cache_let_go(cache);
    cellar_pool_enter(cache->pool);
    cache->version = version;
    cache->limit_bytes = limit_bytes;
    if (cache->snapshot)
        cellar_pool_release_old(cache->pool);
    cellar_pool_leave(cache->pool);
}

void cellar_cache_set_version(struct cellar_cache *cache, uint64_t version)
{
    set_view(cache, version < CELLAR_VERSION_NEWEST ? version : CELLAR_VERSION_NEWEST, cache->limit_bytes);
}

uint64_t cellar_cache_version(const struct cellar_cache *cache)
{
    return cache->version;
}

void cellar_cache_set_limit(struct cellar_cache *cache, uint64_t limit_bytes)
{
    set_view(cache, cache->version, limit_bytes);
}

size_t cellar_cache_page_bytes(const struct cellar_cache *cache)
{
    return cache->pool->page_bytes;
}

size_t cellar_cache_page_count(const struct cellar_cache *cache)
{
    return cache->pool->page_count;
}

/* True if the frame stands in a hazard that comes before that slot of that handle. */
static CELLAR_COLD bool is_fixed_before(const struct cellar_pool *pool, const struct cellar_cache *last, int last_slot,
                                        const struct cellar_frame *frame)
{
    for (const struct cellar_cache *handle = pool->handles;; handle = handle->next_handle) {
        for (int slot = 1; slot < (handle == last ? last_slot : CELLAR_HAZARDS); slot++) {
            if (atomic_load_explicit(&handle->hazards[slot], memory_order_acquire) == frame)
                return true;
        }
        if (handle == last)
            return false;
    }
}

/* Fixes that stand in hazards, each frame once, and not those that have pins too. Under the lock. */
static CELLAR_COLD size_t count_hazards(const struct cellar_pool *pool)
{
    size_t count = 0;

    for (const struct cellar_cache *handle = pool->handles; handle != NULL; handle = handle->next_handle) {
        for (int slot = 1; slot < CELLAR_HAZARDS; slot++) {
            const struct cellar_frame *frame = atomic_load_explicit(&handle->hazards[slot], memory_order_acquire);

            count += frame != NULL && frame->pins == 0 && !is_fixed_before(pool, handle, slot, frame);
        }
    }
    return count;
}

CELLAR_COLD struct cellar_cache_counters cellar_cache_counters(const struct cellar_cache *cache)
{
    struct cellar_pool *pool = cache->pool;
    struct cellar_cache_counters counters = {.hits = cache->front.hits, .misses = cache->misses};

    cellar_pool_enter(pool);
    counters.evictions = pool->evictions;
    counters.pages = pool->cached;
    counters.pinned = pool->pinned + count_hazards(pool);
    counters.old_pages = pool->old_count;
    counters.ahead = pool->ahead;
    cellar_pool_leave(pool);
    return counters;
}

uint64_t cellar_cache_fault_address(const struct cellar_cache *cache)
{
    return cache->fault_address;
}

/* ---- lines ---- */

static struct cellar_cache_line *line_of(struct cellar_cache *cache, uint64_t page)
{
    return &cache->front.lines[page % CELLAR_CACHE_LINES];
}

void cellar_cache_clear_lines(struct cellar_cache *cache)
{
    clear_front(cache);
    cache->fresh = NULL;
}

void cellar_cache_clear_line(struct cellar_cache *cache, uint64_t page)
{
    struct cellar_cache_line *line = line_of(cache, page);

    if (line->address == page << cache->front.page_shift)
        line->length = 0;
}

static void show_in_line(struct cellar_cache *cache, const struct cellar_view *view)
{
    struct cellar_cache_line *line = line_of(cache, view->frame->page);

    line->address = view->address;
    line->bytes = view->bytes;
    line->length = view->length;
    line->visited = view->frame == cache->fresh ? &cache->sink : &view->frame->visited;
}

/* Another page than the fresh one is looked at: what is used of the fresh one from now on is a second use. */
static void settle_fresh(struct cellar_cache *cache)
{
    struct cellar_cache_line *line = line_of(cache, cache->fresh_page);

    if (line->length > 0 && line->visited == &cache->sink)
        line->visited = &cache->fresh->visited;
    cache->fresh = NULL;
}

/* ---- looking up ---- */

static inline bool holds(const struct cellar_frame *frame, uint64_t page, uint64_t version, memory_order order)
{
    return atomic_load_explicit(&frame->tag, order) == page + 1 &&
           atomic_load_explicit(&frame->from, memory_order_relaxed) <= version &&
           version < atomic_load_explicit(&frame->until, memory_order_relaxed);
}

static struct cellar_frame *walk_chain(const struct cellar_cache *cache, uint64_t page)
{
    struct cellar_frame *frame = atomic_load_explicit(cellar_pool_head(cache->pool, page), memory_order_acquire);

    for (int steps = 0; frame != NULL && steps < CHAIN_MAX; steps++) {
        if (holds(frame, page, cache->version, memory_order_acquire))
            return frame;
        frame = atomic_load_explicit(&frame->chain, memory_order_acquire);
    }
    return NULL;
}

/* See the end of the comment on top of pool.c. */
static struct cellar_frame *find_shared(struct cellar_cache *cache, uint64_t page)
{
    struct cellar_frame *frame = walk_chain(cache, page);

    if (frame == NULL || atomic_load_explicit(&cache->hazards[0], memory_order_relaxed) == frame)
        return frame;
    atomic_store_explicit(&cache->hazards[0], frame, memory_order_seq_cst);
    if (holds(frame, page, cache->version, memory_order_seq_cst))
        return frame;
    cellar_cache_let_go(cache);
    return NULL;
}

void cellar_cache_let_go(struct cellar_cache *cache)
{
    if (cache->pool->shared)
        atomic_store_explicit(&cache->hazards[0], NULL, memory_order_release);
}

static void sweep(struct cellar_cache *cache)
{
    cellar_cache_let_go(cache);
    cellar_pool_enter(cache->pool);
    cellar_pool_sweep(cache->pool);
    cellar_pool_leave(cache->pool);
}

int cellar_cache_find(struct cellar_cache *cache, uint64_t page_address, size_t need, struct cellar_view *ret_view)
{
    struct cellar_pool *pool = cache->pool;
    uint64_t page = page_address >> cache->front.page_shift;
    size_t room = pool->page_bytes;
    struct cellar_frame *frame;

    if (page_address >= cache->limit_bytes || page_address >= CELLAR_SOURCE_END) {
        cache->misses++;
        return CELLAR_NONE;
    }
    if (cache->limit_bytes - page_address < room)
        room = (size_t)(cache->limit_bytes - page_address);
    if (need > room)
        need = room;
    if (pool->debug)
        sweep(cache);
    if (cache->fresh != NULL && page != cache->fresh_page)
        settle_fresh(cache);
    frame = pool->shared ? find_shared(cache, page) : walk_chain(cache, page);
    if (frame != NULL && frame->length >= need && !cellar_frame_is_ahead(frame)) {
        cache->front.hits++;
        if (frame != cache->fresh)
            cellar_frame_mark(frame, true);
    } else {
        int error;

        cellar_cache_let_go(cache);
        error = cellar_pool_get(cache, page, need, room, &frame);
        if (error != 0)
            return error;
    }
    ret_view->frame = frame;
    ret_view->address = page_address;
    ret_view->bytes = frame->bytes;
    ret_view->length = frame->length < room ? frame->length : room;
    if (!pool->shared && !pool->debug)
        show_in_line(cache, ret_view);
    return 0;
}

/* ---- pins ---- */

void cellar_cache_pin(struct cellar_cache *cache, struct cellar_frame *frame, unsigned *ret_slot)
{
    struct cellar_pool *pool = cache->pool;

    if (pool->shared && cache->hazards_used != (UINT32_C(1) << CELLAR_HAZARDS) - 2) {
        unsigned slot = (unsigned)__builtin_ctz(~(cache->hazards_used | 1));

        cache->hazards_used |= UINT32_C(1) << slot;
        atomic_store_explicit(&cache->hazards[slot], frame, memory_order_release);
        *ret_slot = slot;
        return;
    }
    cellar_pool_enter(pool);
    cellar_pool_pin(pool, frame);
    cellar_pool_leave(pool);
    *ret_slot = 0;
}

void cellar_cache_unpin(struct cellar_cache *cache, struct cellar_frame *frame, unsigned slot)
{
    struct cellar_pool *pool = cache->pool;

    if (slot > 0) {
        if (pool->debug && atomic_load_explicit(&cache->hazards[slot], memory_order_relaxed) != frame)
            abort(); /* an unfix too many */
        atomic_store_explicit(&cache->hazards[slot], NULL, memory_order_release);
        cache->hazards_used &= ~(UINT32_C(1) << slot);
    }
    if (slot > 0 && !pool->debug)
        return;
    cellar_pool_enter(pool);
    if (slot == 0)
        cellar_pool_unpin(pool, frame);
    if (pool->debug) /* what is used after this crashes here */
        cellar_pool_sweep(pool);
    cellar_pool_leave(pool);
}

bool cellar_cache_is_cached(const struct cellar_cache *cache, uint64_t address)
{
    const struct cellar_frame *frame;
    bool cached;

    if (address >= cache->limit_bytes)
        return false;
    cellar_pool_enter(cache->pool);
    frame = cellar_pool_lookup(cache->pool, address >> cache->front.page_shift, cache->version);
    cached = frame != NULL && frame->state != CELLAR_FRAME_LOADING;
    cellar_pool_leave(cache->pool);
    return cached;
}

void cellar_cache_invalidate(struct cellar_cache *cache, uint64_t address, uint64_t length)
{
    uint64_t last;

    if (length == 0)
        return;
    last = length - 1 > UINT64_MAX - address ? UINT64_MAX : address + length - 1;
    cellar_cache_let_go(cache);
    cellar_pool_enter(cache->pool);
    cellar_pool_invalidate(cache->pool, address >> cache->front.page_shift, last >> cache->front.page_shift);
    cellar_pool_leave(cache->pool);
}
