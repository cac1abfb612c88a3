/*
 * fuzz_cache.c - the cache over sources that answer wrongly, in every way that they may: whatever it gives without an
 * error are the bytes that are there. Several handles on the same pages and on pages of their own, pins, versions,
 * limits, loads in the background, growth, writes past the cache.
 */
#include "fuzz_cache.h"
#include "fuzz_room.h"

#include <errno.h>
#include <string.h>

enum { CALLS_MAX = 400, REFUSALS_MAX = 4 };

static uint32_t below(struct cache_world *world, uint64_t limit)
{
    return fuzz_below(world->input, (uint32_t)limit);
}

static uint64_t some_address(struct cache_world *world)
{
    return below(world, world->size_bytes + 40);
}

/* Every frame may be pinned: by pins, by the page that another handle used last, by a load in the background. */
static bool may_be_pinned(const struct cache_world *world)
{
    size_t pinned = world->pins + world->options.depth;

    for (int i = 0; i < CACHE_HANDLES_MAX; i++)
        pinned += world->handles[i].cache != NULL;
    return pinned > world->options.page_count; /* not by the handle that asks */
}

/* What a call gave against what it should have given, were all answers right. */
static bool went_well(struct cache_world *world, int result, int expected)
{
    bool excused = (result == CELLAR_EPINNED && may_be_pinned(world)) ||
                   (world->lies && (fuzz_device_may_say(result) || result == CELLAR_EBOUNDS || result == CELLAR_NONE ||
                                    result == -EINVAL));

    world->refusals += result == CELLAR_EPINNED;
    if (result != expected && !excused)
        fprintf(stderr, "result %d, expected %d\n", result, expected);
    FUZZ_NEEDS(result == expected || excused);
    return result == 0;
}

static int range_result(const struct cache_world *world, const struct cache_handle *handle, uint64_t address,
                        uint64_t length)
{
    return length == 0 || address + length <= cache_end(world, handle) ? 0 : CELLAR_EBOUNDS;
}

static void do_read(struct cache_world *world, struct cache_handle *handle)
{
    unsigned char got[2 * CACHE_BYTES_MAX];
    uint64_t address = some_address(world);
    size_t length = below(world, below(world, 4) == 0 ? sizeof got : 20);

    if (went_well(world, cellar_cache_read(handle->cache, address, got, length),
                  range_result(world, handle, address, length)))
        FUZZ_NEEDS(cache_holds(world, handle->version, address, got, length));
}

static void do_get(struct cache_world *world, struct cache_handle *handle)
{
    uint64_t address = some_address(world);
    unsigned char bytes[16];
    uint32_t number;
    uint8_t small;

    if (went_well(world, cellar_cache_get_u8(handle->cache, address, &small), range_result(world, handle, address, 1)))
        FUZZ_NEEDS(cache_holds(world, handle->version, address, &small, 1));
    if (went_well(world, cellar_cache_get_u32_ne(handle->cache, address, &number),
                  range_result(world, handle, address, 4)))
        FUZZ_NEEDS(cache_holds(world, handle->version, address, &number, 4));
    if (went_well(world, cellar_cache_get_128(handle->cache, address, bytes), range_result(world, handle, address, 16)))
        FUZZ_NEEDS(cache_holds(world, handle->version, address, bytes, 16));
}

static void check_slice(struct cache_world *world, const struct cache_handle *handle, const struct cellar_slice *slice)
{
    FUZZ_NEEDS(slice->length == 0 || slice->address + slice->length <= cache_end(world, handle));
    FUZZ_NEEDS(slice->length <= world->options.page_bytes);
    FUZZ_NEEDS(cache_holds(world, handle->version, slice->address, slice->bytes, slice->length));
}

/* The page must reach up to the address, also where no byte of it is asked for. */
static int page_result(const struct cache_world *world, const struct cache_handle *handle, uint64_t address,
                       size_t length)
{
    uint64_t in_page = address % world->options.page_bytes;

    if (length > world->options.page_bytes)
        return -EINVAL;
    if (in_page + length > world->options.page_bytes)
        return CELLAR_NONE;
    return in_page + length == 0 || address + length <= cache_end(world, handle) ? 0 : CELLAR_NONE;
}

static void do_load(struct cache_world *world, struct cache_handle *handle)
{
    uint64_t address = some_address(world);
    size_t length = below(world, world->options.page_bytes + 2);
    struct cellar_slice slice, next, rest;

    if (!went_well(world, cellar_cache_load(handle->cache, address, length, &slice),
                   page_result(world, handle, address, length)))
        return;
    FUZZ_NEEDS(slice.address == address / world->options.page_bytes * world->options.page_bytes);
    FUZZ_NEEDS(length == 0 || slice.length >= address % world->options.page_bytes + length);
    check_slice(world, handle, &slice);
    if (cellar_slice_rest(&slice, address, &rest) == 0)
        check_slice(world, handle, &rest);
    if (slice.length > 0 && cellar_cache_next(handle->cache, &slice, &next) == 0) {
        FUZZ_NEEDS(next.address == slice.address + world->options.page_bytes && next.length > 0);
        check_slice(world, handle, &next);
    }
}

static void do_walk(struct cache_world *world, struct cache_handle *handle)
{
    uint64_t address = some_address(world);
    struct cellar_slice slice;

    for (int i = 0; i < 5; i++) {
        uint64_t before = address;
        int result = cellar_cache_walk(handle->cache, &address, &slice);

        if (!went_well(world, result, address < cache_end(world, handle) || result == 0 ? 0 : CELLAR_NONE)) {
            FUZZ_NEEDS(address == before);
            return;
        }
        FUZZ_NEEDS(slice.address == before && slice.length > 0 && address == before + slice.length);
        check_slice(world, handle, &slice);
    }
}

/* Fixes a page or a range of them, or unfixes: a page that is a copy still shows what it showed. */
static void do_pin(struct cache_world *world, struct cache_handle *handle)
{
    struct cache_pin *pin = &handle->pins[below(world, CACHE_PINS_MAX)];
    uint64_t address = some_address(world);
    size_t length = below(world, 40);
    bool run = below(world, 3) == 0;
    int result;

    if (pin->fixed.frame != NULL || pin->fixed.run != NULL) {
        if (pin->checked)
            FUZZ_NEEDS(memcmp(pin->fixed.slice.bytes, pin->bytes, pin->fixed.slice.length) == 0);
        cellar_cache_unfix(handle->cache, &pin->fixed);
        world->pins--;
        return;
    }
    if (run)
        result = cellar_cache_map(handle->cache, address, length, &pin->fixed);
    else
        result = cellar_cache_fix(handle->cache, address, length, &pin->fixed);
    if (!went_well(world, result, run ? 0 : page_result(world, handle, address, length))) {
        memset(&pin->fixed, 0, sizeof pin->fixed);
        return;
    }
    if (pin->fixed.frame == NULL && pin->fixed.run == NULL) {
        FUZZ_NEEDS(pin->fixed.slice.length == 0);
        cellar_cache_unfix(handle->cache, &pin->fixed);
        return;
    }
    world->pins++;
    FUZZ_NEEDS(pin->fixed.slice.length == 0 ||
               pin->fixed.slice.address + pin->fixed.slice.length <= cache_end(world, handle));
    FUZZ_NEEDS(
        cache_holds(world, handle->version, pin->fixed.slice.address, pin->fixed.slice.bytes, pin->fixed.slice.length));
    if (run && !world->lies && pin->fixed.slice.length < length)
        FUZZ_NEEDS(address + pin->fixed.slice.length == cache_end(world, handle) || pin->fixed.slice.length == 0);
    pin->checked = !world->fuzz.lends && pin->fixed.slice.length <= sizeof pin->bytes;
    if (pin->checked && pin->fixed.slice.length > 0)
        memcpy(pin->bytes, pin->fixed.slice.bytes, pin->fixed.slice.length);
}

struct iteration {
    struct cache_world *world;
    struct cache_handle *handle;
    uint64_t next;
    bool nested;
};

static int run_piece(void *user, uint64_t address, const void *bytes, size_t length)
{
    struct iteration *iteration = user;
    uint8_t byte;

    FUZZ_NEEDS(address == iteration->next && length > 0);
    FUZZ_NEEDS(cache_holds(iteration->world, iteration->handle->version, address, bytes, length));
    iteration->next += length;
    if (iteration->nested && iteration->world->refusals < REFUSALS_MAX) { /* another page, with one frame less */
        uint64_t other = (address * 7) % (iteration->world->size_bytes + 1);

        iteration->world->pins++;
        (void)went_well(iteration->world, cellar_cache_get_u8(iteration->handle->cache, other, &byte),
                        range_result(iteration->world, iteration->handle, other, 1));
        iteration->world->pins--;
        FUZZ_NEEDS(cache_holds(iteration->world, iteration->handle->version, address, bytes, length));
    }
    return 0;
}

static void do_iterate(struct cache_world *world, struct cache_handle *handle)
{
    struct iteration iteration = {
        .world = world, .handle = handle, .next = some_address(world), .nested = below(world, 2) == 0};
    uint64_t first = iteration.next, length = below(world, 200), end = cache_end(world, handle);
    int result;

    if (length == 199)
        length = CELLAR_CACHE_TO_END;
    result = cellar_cache_iterate(handle->cache, first, length, run_piece, &iteration);
    if (!went_well(world, result, length == CELLAR_CACHE_TO_END ? 0 : range_result(world, handle, first, length)))
        return;
    if (length != CELLAR_CACHE_TO_END)
        FUZZ_NEEDS(iteration.next == first + length);
    else if (!world->lies)
        FUZZ_NEEDS(iteration.next == (first > end ? first : end));
}

static void forget(struct cache_world *world, uint64_t address, uint64_t length)
{
    for (int i = 0; i < CACHE_HANDLES_MAX; i++) {
        if (world->handles[i].cache != NULL)
            cellar_cache_invalidate(world->handles[i].cache, address, length);
    }
}

/* Writes past the cache, and tells it. */
static void do_write(struct cache_world *world, struct cache_handle *handle)
{
    uint64_t address = below(world, world->size_bytes + 1);
    size_t length = below(world, 60), there = (size_t)(world->size_bytes - address);

    (void)handle;
    if (length > there)
        length = there;
    if (world->placed || length == 0)
        return;
    pthread_mutex_lock(&world->fuzz.lock);
    fuzz_fill(world->bytes + address, length, below(world, 256));
    memcpy(world->fuzz.bytes + address, world->bytes + address, length);
    pthread_mutex_unlock(&world->fuzz.lock);
    forget(world, address, length);
}

/* Grows, or is cut where nothing is cached. */
static void do_resize(struct cache_world *world, struct cache_handle *handle)
{
    uint64_t size_bytes = 8 * (uint64_t)below(world, CACHE_BYTES_MAX / 8 + 1);

    (void)handle;
    if (world->options.page_bytes == 1)
        size_bytes %= 256;
    if (world->placed || (size_bytes < world->size_bytes && (world->pins > 0 || world->options.depth > 0)))
        return;
    if (size_bytes < world->size_bytes) {
        forget(world, size_bytes / world->options.page_bytes * world->options.page_bytes, UINT64_MAX);
        memset(world->bytes + size_bytes, 0, (size_t)(world->size_bytes - size_bytes));
    }
    fuzz_device_resize(&world->fuzz, size_bytes);
    world->size_bytes = size_bytes;
}

static void do_invalidate(struct cache_world *world, struct cache_handle *handle)
{
    uint64_t address = some_address(world), length = below(world, 300);

    cellar_cache_invalidate(handle->cache, address, length == 299 ? UINT64_MAX : length);
}

static void do_limit(struct cache_world *world, struct cache_handle *handle)
{
    if (world->mapped)
        return;
    handle->limit_bytes = below(world, 4) == 0 ? UINT64_MAX : some_address(world);
    cellar_cache_set_limit(handle->cache, handle->limit_bytes);
}

static void do_version(struct cache_world *world, struct cache_handle *handle)
{
    uint64_t version = below(world, 20);

    if (!world->placed)
        return;
    handle->version = version == 19 ? CELLAR_VERSION_NEWEST : version;
    cellar_cache_set_version(handle->cache, handle->version);
    FUZZ_NEEDS(cellar_cache_version(handle->cache) == handle->version);
}

static void unpin_all(struct cache_world *world, struct cache_handle *handle)
{
    for (int i = 0; i < CACHE_PINS_MAX; i++) {
        struct cellar_fixed *fixed = &handle->pins[i].fixed;

        world->pins -= fixed->frame != NULL || fixed->run != NULL;
        cellar_cache_unfix(handle->cache, fixed);
    }
}

/* Closes a handle, but not the last, or makes another one: on the same pages, or on its own. */
static void do_handle(struct cache_world *world, struct cache_handle *handle)
{
    struct cache_handle *other = &world->handles[below(world, CACHE_HANDLES_MAX)];
    bool share = below(world, 2) == 0;

    if (other == handle)
        return;
    if (other->cache != NULL) {
        unpin_all(world, other);
        cellar_cache_close(other->cache);
        memset(other, 0, sizeof *other);
    } else if (share && !world->mapped) {
        FUZZ_NEEDS(cellar_cache_share(handle->cache, &other->cache) == 0);
        other->limit_bytes = handle->limit_bytes;
        other->version = handle->version;
    } else {
        FUZZ_NEEDS(cellar_cache_copy(handle->cache, &other->cache) == 0);
        other->limit_bytes = UINT64_MAX;
        other->version = cellar_cache_version(other->cache);
        cellar_cache_set_limit(other->cache, other->limit_bytes);
    }
}

static void note_loaded(void *user, int error)
{
    struct cache_world *world = user;

    FUZZ_NEEDS(error == 0 || error == CELLAR_EBOUNDS || error == CELLAR_EPINNED || world->lies);
    world->loaded++;
}

static void do_async(struct cache_world *world, struct cache_handle *handle)
{
    uint64_t address = some_address(world);
    size_t length = 1 + below(world, 100);
    int result;

    cellar_cache_prefetch(handle->cache, address, length);
    result = cellar_cache_load_async(handle->cache, address, length, note_loaded, world);
    FUZZ_NEEDS(result == 0 || (result == -ENOTSUP && world->options.depth == 0));
    world->loads += result == 0;
    if (result == 0 && below(world, 4) != 0) { /* all of them */
        while (cellar_cache_awaited(handle->cache) > 0)
            (void)cellar_cache_poll(handle->cache, true);
    }
    FUZZ_NEEDS(world->loaded <= world->loads);
}

static void do_look(struct cache_world *world, struct cache_handle *handle)
{
    struct cellar_cache_counters counters = cellar_cache_counters(handle->cache);

    FUZZ_NEEDS(counters.pages <= cellar_cache_page_count(handle->cache));
    FUZZ_NEEDS(counters.pinned <= world->options.page_count + world->options.depth);
    FUZZ_NEEDS(cellar_cache_page_bytes(handle->cache) == world->options.page_bytes);
    (void)cellar_cache_is_cached(handle->cache, some_address(world));
    (void)cellar_cache_loads_needed(handle->cache, some_address(world), below(world, 200));
    (void)cellar_cache_fault_address(handle->cache);
}

static void do_turn_honest(struct cache_world *world, struct cache_handle *handle)
{
    (void)handle;
    pthread_mutex_lock(&world->fuzz.lock);
    world->fuzz.honest = !world->fuzz.honest;
    pthread_mutex_unlock(&world->fuzz.lock);
}

static void (*const calls[])(struct cache_world *world, struct cache_handle *handle) = {
    do_read,  do_get,        do_load,  do_walk, do_pin, do_iterate,     do_write, do_resize, do_version, do_handle,
    do_async, do_invalidate, do_limit, do_look, do_pin, do_turn_honest, do_read,  do_get,    do_version};

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length_bytes)
{
    struct fuzz_input input = {.bytes = bytes, .length_bytes = length_bytes};
    static struct cache_world world;

    cache_world_open(&world, &input);
    for (int i = 0; i < CALLS_MAX && fuzz_more(&input) && world.refusals < REFUSALS_MAX; i++) {
        unsigned which = fuzz_byte(&input);
        struct cache_handle *handle = &world.handles[which / 64];

        if (handle->cache == NULL)
            handle = &world.handles[0];
        for (int next = 1; handle->cache == NULL; next++)
            handle = &world.handles[next];
        calls[which % 64 % FUZZ_COUNT(calls)](&world, handle);
    }
    for (int i = 0; i < CACHE_HANDLES_MAX; i++) {
        if (world.handles[i].cache != NULL)
            unpin_all(&world, &world.handles[i]);
    }
    cache_world_close(&world);
    FUZZ_NEEDS(fuzz_rooms_taken() == 0);
    return 0;
}
