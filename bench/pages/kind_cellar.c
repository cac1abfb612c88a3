/* kind_cellar.c - a cellar_cache, private or shared by threads. */
#include "kind_cellar.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

void cached_close(void *reader)
{
    struct cached *cached = reader;

    for (unsigned i = 0; i < cached->handle_count; i++)
        cellar_cache_close(cached->handles[i]);
    cellar_device_close(cached->device);
    free(cached);
}

/* One handle for each thread; a shared cache has two at least. */
static int open_handles(const struct pages_run *run, const struct pages_setup *setup, struct cached *cached,
                        unsigned wanted)
{
    const struct cellar_cache_options options = {
        .page_bytes = PAGES_BYTES,
        .page_count = setup->page_count != 0 ? setup->page_count : (size_t)run->scale->cached_pages,
        .eviction = setup->eviction,
        .copy = setup->copy,
        .depth = setup->depth,
        .io = setup->io,
        .read_ahead_pages = setup->read_ahead_pages,
    };
    int error = cellar_cache_open_with(cached->device, &options, &cached->handles[0]);

    if (error != 0)
        return error == -ENOTSUP ? PAGES_SKIP : error;
    cached->handle_count = 1;
    for (; cached->handle_count < wanted && error == 0; cached->handle_count += error == 0)
        error = cellar_cache_share(cached->handles[0], &cached->handles[cached->handle_count]);
    return error;
}

int cached_open(const struct pages_run *run, const struct pages_setup *setup, unsigned thread_count, void **ret_reader)
{
    unsigned wanted = setup->shared && thread_count < 2 ? 2 : thread_count;
    struct cached *cached = calloc(1, sizeof *cached + wanted * sizeof cached->handles[0]);
    int error;

    if (cached == NULL)
        return -ENOMEM;
    cached->depth = setup->depth;
    error = pages_device_open(run, setup->device, &cached->device);
    if (error == 0)
        error = open_handles(run, setup, cached, wanted);
    if (error != 0) {
        cached_close(cached);
        return error;
    }
    *ret_reader = cached;
    return 0;
}

int cached_empty(void *reader)
{
    struct cached *cached = reader;

    cellar_cache_invalidate(cached->handles[0], 0, UINT64_MAX);
    return 0;
}

static int cached_get(void *reader, unsigned thread, const struct pages_batch *batch, uint64_t *ret_sum)
{
    struct cellar_cache *cache = ((struct cached *)reader)->handles[thread];
    uint64_t sum = 0;
    int error = 0;

    for (size_t i = 0; i < batch->count && error == 0; i++) {
        uint64_t word = 0;

        error = cellar_cache_get_u64_ne(cache, batch->addresses[i], &word);
        sum += word;
    }
    *ret_sum = sum;
    return error;
}

static int cached_fix(void *reader, unsigned thread, const struct pages_batch *batch, uint64_t *ret_sum)
{
    struct cellar_cache *cache = ((struct cached *)reader)->handles[thread];
    uint64_t sum = 0;

    for (size_t i = 0; i < batch->count; i++) {
        struct cellar_fixed fixed;
        int error = cellar_cache_fix(cache, batch->addresses[i], sizeof(uint64_t), &fixed);

        if (error != 0)
            return error > 0 ? -EIO : error;
        sum += pages_load_word((const unsigned char *)fixed.slice.bytes + (batch->addresses[i] - fixed.slice.address));
        cellar_cache_unfix(cache, &fixed);
    }
    *ret_sum = sum;
    return 0;
}

static int cached_read(void *reader, unsigned thread, const struct pages_batch *batch, uint64_t *ret_sum)
{
    struct cellar_cache *cache = ((struct cached *)reader)->handles[thread];
    uint64_t sum = 0;
    int error = 0;

    for (size_t i = 0; i < batch->count && error == 0; i++) {
        error = cellar_cache_read(cache, batch->addresses[i], batch->buffer, batch->length);
        sum += pages_load_word(batch->buffer);
    }
    *ret_sum = sum;
    return error;
}

static void cached_count(void *reader)
{
    struct cached *cached = reader;

    cached->before = cellar_cache_counters(cached->handles[0]);
}

static void cached_see(void *reader, char *text, size_t capacity_bytes)
{
    const struct cached *cached = reader;
    struct cellar_cache_counters now = cellar_cache_counters(cached->handles[0]);
    double hits = (double)(now.hits - cached->before.hits);
    double misses = (double)(now.misses - cached->before.misses);

    if (hits + misses > 0.0)
        snprintf(text, capacity_bytes, "hits %.1f %%", 100.0 * hits / (hits + misses));
}

const struct pages_kind kind_cellar = {
    .open = cached_open,
    .close = cached_close,
    .operate = {[PAGES_GET] = cached_get, [PAGES_FIX] = cached_fix, [PAGES_READ] = cached_read},
    .empty = cached_empty,
    .count = cached_count,
    .see = cached_see,
};
