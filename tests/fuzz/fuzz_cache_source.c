/* fuzz_cache_source.c - the sources that the fuzzer of the cache reads: a device, a map function, places. */
#include "fuzz_cache.h"

#include "fuzz_queue.h"

#include <errno.h>
#include <string.h>

uint64_t cache_end(const struct cache_world *world, const struct cache_handle *handle)
{
    return handle->limit_bytes < world->size_bytes ? handle->limit_bytes : world->size_bytes;
}

/* The version of a page that readers at version are given: not every version has changed every page. */
static uint64_t place_version(const struct cache_world *world, uint64_t version, uint64_t address)
{
    uint64_t page = address / world->options.page_bytes;

    return version - version % (page % 3 + 1);
}

static uint64_t place_offset(uint64_t version, uint64_t address)
{
    return version % CACHE_PLACE_VERSIONS * CACHE_BYTES_MAX + address;
}

bool cache_holds(const struct cache_world *world, uint64_t version, uint64_t address, const void *bytes, size_t length)
{
    const unsigned char *got = bytes;

    if (!world->placed)
        return length == 0 || memcmp(world->bytes + address, bytes, length) == 0;
    for (size_t i = 0; i < length; i++) {
        if (got[i] != world->bytes[place_offset(place_version(world, version, address + i), address + i)])
            return false;
    }
    return true;
}

/* ---- hooks ---- */

static int place(void *user, uint64_t version, uint64_t page_address, struct cellar_place *ret_place)
{
    struct cache_world *world = user;
    uint64_t place = place_version(world, version, page_address);

    if (page_address >= world->size_bytes)
        return CELLAR_NONE;
    *ret_place =
        (struct cellar_place){.version = place, .device = world->device, .offset = place_offset(place, page_address)};
    return 0;
}

/* What comes from the source is what is there. */
static int validate(void *user, uint64_t version, uint64_t page_address, const void *bytes, size_t length)
{
    struct cache_world *world = user;

    FUZZ_NEEDS(page_address % world->options.page_bytes == 0 && length <= world->options.page_bytes);
    if (world->options.depth == 0)
        FUZZ_NEEDS(cache_holds(world, version, page_address, bytes, length));
    return world->lies && !world->fuzz.honest && (page_address / world->options.page_bytes) % 5 == 4 ? -EIO : 0;
}

/* Nothing else is there to be run: the cache looks again. */
static void wait_for_load(void *user)
{
    struct cache_world *world = user;

    FUZZ_NEEDS(world->options.depth > 0);
}

static void loaded(void *user)
{
    struct cache_world *world = user;

    FUZZ_NEEDS(world->size_bytes <= CACHE_BYTES_MAX);
}

/* ---- a map function ---- */

static int map(void *user, uint64_t position, size_t length, const void **ret_bytes, size_t *ret_length)
{
    struct cache_world *world = user;
    uint64_t there = position < world->size_bytes ? world->size_bytes - position : 0;
    unsigned answer = 0;
    unsigned char *bytes;

    FUZZ_NEEDS(length > 0 && position % world->options.page_bytes == 0 && length % world->options.page_bytes == 0);
    if (!world->fuzz.honest && world->fuzz.answers.length_bytes > 0)
        answer = world->fuzz.answers.bytes[world->fuzz.next_answer++ % world->fuzz.answers.length_bytes];
    if (answer >= 240)
        return -EIO;
    if (there > length)
        there = length;
    if (answer >= 200 && there > 0)
        there = 1 + answer % there; /* as if the source ended there */
    *ret_length = answer >= 190 && answer < 200 ? length + answer : (size_t)there;
    if (*ret_length == 0)
        return 0;
    bytes = malloc(*ret_length);
    FUZZ_NEEDS(bytes != NULL);
    memcpy(bytes, world->bytes + position, (size_t)there);
    *ret_bytes = bytes;
    world->mapped_count++;
    return 0;
}

static void unmap(void *user, const void *bytes, size_t length)
{
    struct cache_world *world = user;

    FUZZ_NEEDS(length > 0 && world->mapped_count > 0);
    world->mapped_count--;
    free((void *)(uintptr_t)bytes);
}

/* ---- opening ---- */

static void read_options(struct cache_world *world, unsigned shape, unsigned extras)
{
    static const size_t page_bytes[] = {16, 1, 2, 8, 32, 64, 256, 1024};
    static const size_t page_counts[] = {4, 1, 2, 8, 16, 64, 3 + 1, 32};
    struct cellar_cache_options *options = &world->options;

    *options = (struct cellar_cache_options){.page_bytes = page_bytes[shape % 8],
                                             .page_count = page_counts[shape / 8 % 8],
                                             .eviction = (enum cellar_eviction)(shape / 64 % 4),
                                             .copy = (extras & 1) != 0,
                                             .user = world};
    if ((extras & 14) == 2 || (extras & 14) == 8) { /* loads in the background */
        options->depth = 1 + extras / 16 % 4;
        options->io = CELLAR_IO_THREADS;
        options->read_ahead_pages = (unsigned)(extras / 64);
        options->hooks.wait = (extras & 128) != 0 ? wait_for_load : NULL;
    }
    if ((extras & 14) == 4) {
        world->placed = true;
        options->hooks.place = place;
    }
    if ((extras & 16) != 0)
        options->hooks.validate = validate;
    if ((extras & 32) != 0)
        options->hooks.loaded = loaded;
    world->mapped = (extras & 14) == 6;
}

void cache_world_open(struct cache_world *world, struct fuzz_input *input)
{
    unsigned shape = fuzz_byte(input), extras = fuzz_byte(input), source = fuzz_byte(input);
    struct cellar_cache **cache = &world->handles[0].cache;

    memset(world, 0, sizeof *world);
    world->input = input;
    read_options(world, shape, extras);
    world->lies = (source & 1) != 0;
    world->size_bytes = 8 * fuzz_below(input, CACHE_BYTES_MAX / 8);
    if (world->options.page_bytes == 1) /* many pages take much time */
        world->size_bytes %= 128;
    if (world->placed)
        world->size_bytes = CACHE_BYTES_MAX;
    world->fuzz = (struct fuzz_device){.capacity_bytes = world->placed ? sizeof world->bytes : CACHE_BYTES_MAX,
                                       .size_bytes = world->placed ? sizeof world->bytes : world->size_bytes,
                                       .lends = (source & 2) != 0,
                                       .cut = (source & 4) != 0,
                                       .block_bytes = (source & 8) != 0 && world->options.page_bytes >= 8 ? 8 : 1,
                                       .answers = fuzz_take(input, world->lies ? 24 : 0)};
    fuzz_queue_schedule(fuzz_take(input, world->options.depth > 0 ? 16 : 0));
    fuzz_fill(world->bytes, (size_t)world->fuzz.size_bytes, source);
    world->device = fuzz_device_open(&world->fuzz);
    memcpy(world->fuzz.bytes, world->bytes, (size_t)world->fuzz.size_bytes);
    world->handles[0].limit_bytes = UINT64_MAX;
    world->handles[0].version = CELLAR_VERSION_NEWEST;
    if (world->mapped)
        FUZZ_NEEDS(
            cellar_cache_open_map(map, unmap, world, world->options.page_bytes, world->options.page_count, cache) == 0);
    else
        FUZZ_NEEDS(cellar_cache_open_with(world->device, &world->options, cache) == 0);
}

void cache_world_close(struct cache_world *world)
{
    for (int i = 0; i < CACHE_HANDLES_MAX; i++)
        cellar_cache_close(world->handles[i].cache);
    FUZZ_NEEDS(world->mapped_count == 0);
    FUZZ_NEEDS(cellar_device_close(world->device) == 0); /* what was lent must have been released */
}
