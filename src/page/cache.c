/*
 * cache.c - frames, and the pages in them.
 *
 *                                load
 *              FREE ---------------------------------> CACHED
 *               ^ ^                                      | |
 *               | | evicted (never while pinned),        | | invalidated or outgrown, pinned
 *               | |  invalidated or outgrown, not pinned | v
 *               | +--------------------------------------+ STALE
 *               +--------------------------------------------+
 *                                last unfix
 *
 * 1. A frame is in the page table, and in the queue of the eviction, if and only if it is CACHED.
 * 2. A STALE frame is pinned. Its bytes stay where they are; no lookup finds them.
 * 3. At most page_count frames are not FREE, so one of the page_count + 1 is always there to load into. A load that
 *    fails puts it back: nothing else has changed by then. Only after it has succeeded is another page given up.
 * 4. If page_count frames are not FREE and fewer are pinned, a CACHED one is not pinned (by 2), and can be given up.
 * 5. A line of the front table with a length shows the bytes of a CACHED frame. Who takes a frame out of CACHED
 *    empties its line.
 * 6. The line with number i only holds pages whose number is i modulo CELLAR_CACHE_LINES, empty ones included: the
 *    single comparison of cellar_cache_peek rests on it.
 */
#include "page/cache.h"

#include "base/check.h"
#include <errno.h>
#include <stdlib.h>

enum { PAGE_BYTES_MAX = 1 << 30, PAGE_COUNT_MAX = 1 << 30 };

static bool is_power_of_two(size_t value)
{
    return value != 0 && (value & (value - 1)) == 0;
}

static void open_front(struct cellar_cache *cache)
{
    cache->front.page_shift = (unsigned)__builtin_ctzll(cache->page_bytes);
    for (uint64_t i = 0; i < CELLAR_CACHE_LINES; i++)
        cache->front.lines[i].address = i << cache->front.page_shift;
}

static int open_source(const struct cellar_source *source, size_t page_bytes, size_t page_count,
                       struct cellar_cache **ret_cache)
{
    struct cellar_cache *cache;
    int error;

    if (!is_power_of_two(page_bytes) || !is_power_of_two(page_count) || page_bytes > PAGE_BYTES_MAX ||
        page_count > PAGE_COUNT_MAX)
        return -EINVAL;
    cache = calloc(1, sizeof *cache);
    if (cache == NULL)
        return -ENOMEM;
    cache->source = *source;
    cache->page_bytes = page_bytes;
    cache->page_count = page_count;
    open_front(cache);
    cellar_buffers_open(&cache->buffers, page_bytes, page_count + 1);
    cache->frames = calloc(page_count + 1, sizeof *cache->frames);
    error = cache->frames == NULL ? -ENOMEM : cellar_table_reserve(&cache->table, page_count);
    if (error == 0)
        error = cellar_evict_sieve.open(page_count, &cache->evict_state);
    if (error != 0) {
        cellar_cache_close(cache);
        return error;
    }
    cache->evict = &cellar_evict_sieve;
    *ret_cache = cache;
    return 0;
}

int cellar_cache_open(struct cellar_device *device, size_t page_bytes, size_t page_count,
                      struct cellar_cache **ret_cache)
{
    struct cellar_source source = {.device = device};

    return open_source(&source, page_bytes, page_count, ret_cache);
}

int cellar_cache_open_map(cellar_map_function *map, cellar_unmap_function *unmap, void *user, size_t page_bytes,
                          size_t page_count, struct cellar_cache **ret_cache)
{
    struct cellar_source source = {.map = map, .unmap = unmap, .user = user};

    if (map == NULL)
        return -EINVAL;
    return open_source(&source, page_bytes, page_count, ret_cache);
}

int cellar_cache_copy(const struct cellar_cache *cache, struct cellar_cache **ret_cache)
{
    return open_source(&cache->source, cache->page_bytes, cache->page_count, ret_cache);
}

void cellar_cache_close(struct cellar_cache *cache)
{
    if (cache == NULL)
        return;
    for (size_t i = 0; i < cache->frames_touched; i++) {
        if (cache->frames[i].state != CELLAR_FRAME_FREE)
            cellar_source_release(&cache->source, &cache->frames[i]);
    }
    if (cache->evict != NULL)
        cache->evict->close(cache->evict_state);
    cellar_table_clear(&cache->table);
    cellar_buffers_close(&cache->buffers);
    free(cache->frames);
    free(cache);
}

size_t cellar_cache_page_bytes(const struct cellar_cache *cache)
{
    return cache->page_bytes;
}

size_t cellar_cache_page_count(const struct cellar_cache *cache)
{
    return cache->page_count;
}

struct cellar_cache_counters cellar_cache_counters(const struct cellar_cache *cache)
{
    return (struct cellar_cache_counters){
        .hits = cache->front.hits,
        .misses = cache->misses,
        .evictions = cache->evictions,
        .pages = cache->table.count,
        .pinned = cache->pinned,
    };
}

uint64_t cellar_cache_fault_address(const struct cellar_cache *cache)
{
    return cache->fault_address;
}

static struct cellar_cache_line *line_of(struct cellar_cache *cache, uint64_t page_address)
{
    return &cache->front.lines[(page_address >> cache->front.page_shift) % CELLAR_CACHE_LINES];
}

static void show_in_line(struct cellar_cache *cache, struct cellar_frame *frame)
{
    struct cellar_cache_line *line = line_of(cache, frame->address);

    line->address = frame->address;
    line->bytes = frame->bytes;
    line->length = frame->length;
    line->visited = &frame->visited;
}

/* FREE, taken out of the list. There is one: invariant 3. */
static struct cellar_frame *take_free(struct cellar_cache *cache)
{
    struct cellar_frame *frame = cache->free;

    if (frame != NULL) {
        cache->free = frame->older;
        return frame;
    }
    CELLAR_CHECK(cache->frames_touched <= cache->page_count);
    return &cache->frames[cache->frames_touched++];
}

static void put_free(struct cellar_cache *cache, struct cellar_frame *frame)
{
    cellar_source_release(&cache->source, frame);
    frame->state = CELLAR_FRAME_FREE;
    frame->older = cache->free;
    cache->free = frame;
}

/* CACHED to STALE if it is pinned, else to FREE. */
static void detach(struct cellar_cache *cache, struct cellar_frame *frame)
{
    struct cellar_cache_line *line = line_of(cache, frame->address);

    if (line->address == frame->address)
        line->length = 0;
    cellar_table_remove(&cache->table, frame->address >> cache->front.page_shift);
    cache->evict->remove(cache->evict_state, frame);
    if (frame->pins > 0) {
        frame->state = CELLAR_FRAME_STALE;
        return;
    }
    cache->held--;
    put_free(cache, frame);
}

/* A loaded frame to CACHED; gives up another page where that makes one too many. */
static void attach(struct cellar_cache *cache, struct cellar_frame *frame, uint64_t page_address)
{
    if (cache->held == cache->page_count) {
        detach(cache, cache->evict->choose(cache->evict_state));
        cache->evictions++;
    }
    frame->address = page_address;
    frame->state = CELLAR_FRAME_CACHED;
    cellar_table_insert(&cache->table, page_address >> cache->front.page_shift, frame);
    cache->evict->insert(cache->evict_state, frame);
    cache->held++;
    show_in_line(cache, frame);
}

/*
 * Loads the page into a free frame, and attaches it if it is longer than old, the short page that is cached (may be
 * NULL), in its place. CELLAR_NONE: it isn't longer, and everything is as it was.
 */
static int load_page(struct cellar_cache *cache, uint64_t page_address, struct cellar_frame *old,
                     struct cellar_frame **ret_frame)
{
    struct cellar_frame *frame = take_free(cache);
    int error = cellar_source_load(&cache->source, &cache->buffers, page_address, cache->page_bytes, frame);

    if (error == 0 && frame->length <= (old != NULL ? old->length : 0))
        error = CELLAR_NONE;
    else if (error == 0 && cache->pinned == cache->page_count)
        error = CELLAR_EPINNED;
    if (error != 0) {
        put_free(cache, frame);
        return error;
    }
    if (old != NULL)
        detach(cache, old);
    attach(cache, frame, page_address);
    *ret_frame = frame;
    return 0;
}

/* A page that is cached, but short of what is needed: the source may have grown. Gives the old or the new frame. */
static int find_longer(struct cellar_cache *cache, struct cellar_frame *old, struct cellar_frame **ret_frame)
{
    bool reaches;
    int error = cellar_source_reaches(&cache->source, old->address + old->length, &reaches);

    if (error == 0)
        error = reaches ? load_page(cache, old->address, old, ret_frame) : CELLAR_NONE;
    if (error != CELLAR_NONE) {
        cache->misses++;
        return error;
    }
    cache->front.hits++;
    *ret_frame = old;
    return 0;
}

int cellar_cache_find(struct cellar_cache *cache, uint64_t page_address, size_t need, struct cellar_frame **ret_frame)
{
    struct cellar_frame *frame = cellar_table_find(&cache->table, page_address >> cache->front.page_shift);

    if (frame == NULL) {
        cache->misses++;
        if (page_address >= CELLAR_SOURCE_END)
            return CELLAR_NONE;
        if (cache->pinned == cache->page_count)
            return CELLAR_EPINNED;
        return load_page(cache, page_address, NULL, ret_frame);
    }
    frame->visited = 1;
    if (frame->length < need)
        return find_longer(cache, frame, ret_frame);
    cache->front.hits++;
    show_in_line(cache, frame);
    *ret_frame = frame;
    return 0;
}

void cellar_cache_pin(struct cellar_cache *cache, struct cellar_frame *frame)
{
    if (frame->pins++ == 0)
        cache->pinned++;
}

void cellar_cache_unpin(struct cellar_cache *cache, struct cellar_frame *frame)
{
    CELLAR_CHECK(frame->pins > 0);
    if (--frame->pins > 0)
        return;
    cache->pinned--;
    if (frame->state == CELLAR_FRAME_STALE) {
        cache->held--;
        put_free(cache, frame);
    }
}

bool cellar_cache_is_cached(const struct cellar_cache *cache, uint64_t address)
{
    return cellar_table_find(&cache->table, address >> cache->front.page_shift) != NULL;
}

void cellar_cache_invalidate(struct cellar_cache *cache, uint64_t address, uint64_t length)
{
    uint64_t first = address >> cache->front.page_shift, last;

    if (length == 0)
        return;
    last = (length - 1 > UINT64_MAX - address ? UINT64_MAX : address + length - 1) >> cache->front.page_shift;
    if (last - first < cache->table.count) {
        for (uint64_t page = first; page <= last; page++) {
            struct cellar_frame *frame = cellar_table_find(&cache->table, page);

            if (frame != NULL)
                detach(cache, frame);
        }
        return;
    }
    for (size_t i = 0; i < cache->frames_touched; i++) {
        struct cellar_frame *frame = &cache->frames[i];

        if (frame->state == CELLAR_FRAME_CACHED && frame->address >> cache->front.page_shift >= first &&
            frame->address >> cache->front.page_shift <= last)
            detach(cache, frame);
    }
}
