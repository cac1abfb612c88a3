/* fuzz_cache.h - what the parts of the fuzzer of the cache share: a source of bytes that may answer wrongly, and the
 * handles that read it. */
#ifndef CELLAR_TESTS_FUZZ_CACHE_H
#define CELLAR_TESTS_FUZZ_CACHE_H

#include "fuzz_device.h"

#include <cellar/cache.h>

enum { CACHE_BYTES_MAX = 2048, CACHE_HANDLES_MAX = 4, CACHE_PINS_MAX = 3, CACHE_PLACE_VERSIONS = 4 };

struct cache_pin {
    struct cellar_fixed fixed;
    unsigned char bytes[CACHE_BYTES_MAX]; /* what it showed */
    bool checked;                         /* it is a copy, and must show that for ever */
};

struct cache_handle {
    struct cellar_cache *cache; /* NULL: none */
    uint64_t limit_bytes, version;
    struct cache_pin pins[CACHE_PINS_MAX];
};

struct cache_world {
    struct fuzz_input *input;
    struct fuzz_device fuzz;
    struct cellar_device *device;
    struct cellar_cache_options options;
    bool mapped; /* the source is a map function */
    bool placed; /* pages lie where the place hook says, in versions; each CACHE_BYTES_MAX */
    bool lies;   /* wrong answers may have come: results need not be the expected ones */

    /* What is at each address; of each version one behind the other, where there are versions. */
    unsigned char bytes[CACHE_PLACE_VERSIONS * CACHE_BYTES_MAX];
    uint64_t size_bytes;
    struct cache_handle handles[CACHE_HANDLES_MAX];
    int mapped_count;       /* map calls without an unmap */
    unsigned pins;          /* pages that are fixed, or mapped, now */
    unsigned refusals;      /* calls that found all pages fixed: they wait for long, so few are enough */
    unsigned loads, loaded; /* load_async that were made, and done functions called */
};

/* ---- fuzz_cache_source.c ---- */

/* Opens the source and one handle, as the input says. */
void cache_world_open(struct cache_world *world, struct fuzz_input *input);
void cache_world_close(struct cache_world *world);

/* Where the handle's source ends. */
uint64_t cache_end(const struct cache_world *world, const struct cache_handle *handle);

/* Whether [address, address + length) of the handle's version is these bytes. */
bool cache_holds(const struct cache_world *world, uint64_t version, uint64_t address, const void *bytes, size_t length);

#endif
