/*
 * cache_test.h - what the tests of the shared cache have in common: a device with known bytes whose reads can be held,
 * counted and failed, and threads that call the cache.
 */
#ifndef CACHE_TEST_H
#define CACHE_TEST_H

#include "queue_test.h"

#include <cellar/cache.h>
#include <pthread.h>
#include <sched.h>

enum { PAGE = 64, BED_PAGES = 128, BED_BYTES = BED_PAGES * PAGE - 10 };

/* The last page is short. Reads pass the gate, which is open at first. */
struct bed {
    struct fault_device fault;
    struct gate gate;
    struct cellar_device *device;
    unsigned char bytes[2 * BED_PAGES * PAGE];
};

static inline void bed_open(struct bed *bed)
{
    memset(bed, 0, sizeof *bed);
    support_bytes(11, bed->bytes, sizeof bed->bytes);
    gate_make(&bed->gate, true);
    bed->fault.without = FAULT_BIT(FAULT_LOAD) | FAULT_BIT(FAULT_WINDOW);
    bed->fault.before = gate_pass;
    bed->fault.before_user = &bed->gate;
    assert_done(cellar_device_open_memory(bed->bytes, BED_BYTES, sizeof bed->bytes, &bed->fault.inner));
    assert_done(fault_device_open(&bed->fault, &bed->device));
}

static inline void bed_close(struct bed *bed)
{
    assert_done(cellar_device_close(bed->device));
    gate_end(&bed->gate);
}

static inline void bed_hold(struct bed *bed)
{
    pthread_mutex_lock(&bed->gate.lock);
    bed->gate.open = false;
    pthread_mutex_unlock(&bed->gate.lock);
}

/* Reads that the device was asked for. */
static inline unsigned bed_reads(struct bed *bed)
{
    return (unsigned)fault_calls(&bed->fault, FAULT_BIT(FAULT_READ));
}

static inline struct cellar_cache *bed_cache(struct bed *bed, const struct cellar_cache_options *options)
{
    struct cellar_cache_options complete = *options;
    struct cellar_cache *cache;

    if (complete.page_bytes == 0)
        complete.page_bytes = PAGE;
    assert_done(cellar_cache_open_with(bed->device, &complete, &cache));
    return cache;
}

static inline struct cellar_cache *bed_share(struct cellar_cache *cache)
{
    struct cellar_cache *other;

    assert_done(cellar_cache_share(cache, &other));
    return other;
}

/* What is cached can't be foretold in the debug mode. */
#define skip_in_debug()                                                                                                \
    do {                                                                                                               \
        if (support_cache_debug())                                                                                     \
            support_skip("the debug mode of the cache gives pages up at once");                                        \
    } while (0)

static inline void assert_bytes(const struct bed *bed, const void *bytes, uint64_t address, size_t length)
{
    assert_memory_equal(bytes, bed->bytes + address, length);
}

static inline void assert_read(struct bed *bed, struct cellar_cache *cache, uint64_t address, size_t length)
{
    unsigned char buffer[1024];

    assert_true(length <= sizeof buffer);
    assert_done(cellar_cache_read(cache, address, buffer, length));
    assert_bytes(bed, buffer, address, length);
}

/* ---- a read by another thread ---- */

struct reading {
    struct cellar_cache *cache;
    uint64_t address;
    size_t length;
    unsigned char bytes[PAGE];
    int result;
    pthread_t thread;
};

static inline void *reading_run(void *user)
{
    struct reading *reading = user;

    reading->result = cellar_cache_read(reading->cache, reading->address, reading->bytes, reading->length);
    return NULL;
}

static inline void reading_start(struct reading *reading, struct cellar_cache *cache, uint64_t address, size_t length)
{
    *reading = (struct reading){.cache = cache, .address = address, .length = length, .result = 12345};
    assert_int_equal(pthread_create(&reading->thread, NULL, reading_run, reading), 0);
}

static inline int reading_end(struct reading *reading)
{
    assert_int_equal(pthread_join(reading->thread, NULL), 0);
    return reading->result;
}

/* Until so many frames are pinned: who waits for a load pins its frame. */
static inline void wait_for_pins(const struct cellar_cache *cache, size_t count)
{
    while (cellar_cache_counters(cache).pinned < count)
        sched_yield();
}

/* ---- asynchronous loads ---- */

struct waited {
    unsigned calls;
    int error;
};

static inline void note_done(void *user, int error)
{
    struct waited *waited = user;

    waited->calls++;
    waited->error = error;
}

/* Polls until all done functions of the handle have been called. */
static inline void poll_all(struct cellar_cache *cache)
{
    while (cellar_cache_awaited(cache) > 0)
        assert_done(cellar_cache_poll(cache, true));
}

/* An asynchronous load, and its answer. */
static inline int load_and_wait(struct cellar_cache *cache, uint64_t address, size_t length)
{
    struct waited waited = {.error = 12345};

    assert_done(cellar_cache_load_async(cache, address, length, note_done, &waited));
    poll_all(cache);
    assert_int_equal(waited.calls, 1);
    return waited.error;
}

#endif
