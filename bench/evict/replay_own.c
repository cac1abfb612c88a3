/*
 * replay_own.c - the library's policies: the very code that its cache runs, told what its cache would tell it. This is
 * the one program of the bench that looks inside the library, as no public call can replay a trace without loading
 * pages, and beside these policies in one process.
 */
#include "page/evict.h"
#include "replay.h"

#include <errno.h>
#include <stdlib.h>

struct cache {
    const struct cellar_evict_ops *ops;
    void *state;
    struct cellar_frame *frames;
    size_t held, page_count;
    struct cellar_frame **frame_of; /* by page; NULL: not cached */
};

static void cache_close(struct cache *cache)
{
    if (cache->state != NULL)
        cache->ops->close(cache->state);
    free(cache->frames);
    free(cache->frame_of);
}

static int cache_open(struct cache *cache, enum cellar_eviction eviction, const struct evict_trace *trace,
                      size_t page_count)
{
    *cache = (struct cache){.ops = cellar_evict_find(eviction), .page_count = page_count};
    cache->frames = calloc(page_count, sizeof *cache->frames);
    cache->frame_of = calloc(trace->page_count, sizeof(struct cellar_frame *));
    if (cache->frames == NULL || cache->frame_of == NULL)
        return -ENOMEM;
    return cache->ops->open(page_count, &cache->state);
}

static struct cellar_frame *take_frame(struct cache *cache, const uint32_t *page_of)
{
    struct cellar_frame *frame;

    if (cache->held < cache->page_count)
        return &cache->frames[cache->held++];
    frame = cache->ops->choose(cache->state);
    cache->ops->remove(cache->state, frame);
    cache->frame_of[page_of[frame - cache->frames]] = NULL;
    return frame;
}

static int replay(enum cellar_eviction eviction, const struct evict_trace *trace, size_t page_count,
                  uint64_t *ret_misses)
{
    uint32_t *page_of = calloc(page_count, sizeof *page_of);
    struct cache cache;
    uint64_t misses = 0;
    int status = cache_open(&cache, eviction, trace, page_count);

    if (page_of == NULL)
        status = -ENOMEM;
    for (size_t i = 0; i < trace->use_count && status == 0; i++) {
        const uint32_t page = trace->uses[i];
        struct cellar_frame *frame = cache.frame_of[page];

        if (frame != NULL) {
            if (page != trace->uses[i - 1])
                cellar_frame_mark(frame, true);
            continue;
        }
        misses++;
        frame = take_frame(&cache, page_of);
        frame->page = trace->pages[page];
        page_of[frame - cache.frames] = page;
        cache.frame_of[page] = frame;
        cache.ops->insert(cache.state, frame);
    }
    cache_close(&cache);
    free(page_of);
    if (status == 0)
        *ret_misses = misses;
    return status;
}

static int replay_sieve(const struct evict_trace *trace, size_t page_count, uint64_t *ret_misses)
{
    return replay(CELLAR_EVICT_SIEVE, trace, page_count, ret_misses);
}

static int replay_s3fifo(const struct evict_trace *trace, size_t page_count, uint64_t *ret_misses)
{
    return replay(CELLAR_EVICT_S3FIFO, trace, page_count, ret_misses);
}

static int replay_clock(const struct evict_trace *trace, size_t page_count, uint64_t *ret_misses)
{
    return replay(CELLAR_EVICT_CLOCK, trace, page_count, ret_misses);
}

const struct evict_policy evict_sieve = {"sieve", "SIEVE", replay_sieve};
const struct evict_policy evict_s3fifo = {"s3fifo", "S3-FIFO", replay_s3fifo};
const struct evict_policy evict_clock = {"clock", "CLOCK", replay_clock};
