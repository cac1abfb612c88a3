/*
 * kind_async.c - one thread that keeps as many loads of a cellar_cache under way as its depth: each load that arrives
 * is read from, and starts the next one.
 */
#include "kind_cellar.h"

#include <errno.h>

struct flight;

/* A load that is under way. */
struct lane {
    struct flight *flight;
    uint64_t address;
};

struct flight {
    struct cellar_cache *cache;
    const struct pages_batch *batch;
    size_t next; /* in the batch */
    uint64_t sum;
    int error;
};

enum { LANES_MAX = 256 };

static void arrived(void *user, int error);

static void start_next(struct lane *lane)
{
    struct flight *flight = lane->flight;
    int error;

    if (flight->error != 0 || flight->next == flight->batch->count)
        return;
    lane->address = flight->batch->addresses[flight->next++];
    error = cellar_cache_load_async(flight->cache, lane->address, sizeof(uint64_t), arrived, lane);
    if (error != 0)
        flight->error = error;
}

static void arrived(void *user, int error)
{
    struct lane *lane = user;
    struct flight *flight = lane->flight;
    uint64_t word = 0;

    if (error == 0)
        error = cellar_cache_get_u64_ne(flight->cache, lane->address, &word);
    flight->sum += word;
    if (error != 0)
        flight->error = error;
    start_next(lane);
}

static int async_get(void *reader, unsigned thread, const struct pages_batch *batch, uint64_t *ret_sum)
{
    struct cached *cached = reader;
    struct flight flight = {.cache = cached->handles[thread], .batch = batch};
    struct lane lanes[LANES_MAX];

    for (size_t i = 0; i < cached->depth && i < LANES_MAX; i++) {
        lanes[i] = (struct lane){.flight = &flight};
        start_next(&lanes[i]);
    }
    while (cellar_cache_awaited(flight.cache) > 0) {
        int error = cellar_cache_poll(flight.cache, true);

        if (error < 0)
            return error;
    }
    *ret_sum = flight.sum;
    return flight.error;
}

const struct pages_kind kind_async = {
    .open = cached_open,
    .close = cached_close,
    .operate = {[PAGES_GET] = async_get},
    .empty = cached_empty,
};
