/* fuzz_pipeline_world.c - the world of the fuzzer of the pipeline: opening it, its hooks, what must hold in it. */
#include "fuzz_pipeline.h"
#include "fuzz_queue.h"

#include "page/bits.h"
#include "page/pipeline.h"

#include <errno.h>
#include <string.h>

bool pipe_is_pending(const struct pipe_world *world, uint64_t address)
{
    size_t page_bytes = world->options.cache.page_bytes;
    const struct cellar_pending *pending = cellar_pending_find(&world->pipeline->pending, address / page_bytes);

    return pending != NULL && cellar_bits_test(pending->dirty, address % page_bytes);
}

bool pipe_is_fixed(const struct pipe_world *world)
{
    for (int i = 0; i < PIPE_FRAMES_MAX; i++) {
        if (world->frames[i].page != NULL)
            return true;
    }
    return false;
}

bool pipe_may_be_pinned(const struct pipe_world *world)
{
    size_t pinned = world->options.cache.depth;

    for (int i = 0; i < PIPE_SNAPSHOTS_MAX; i++)
        pinned += world->snapshots[i].cache != NULL;
    return pinned >= world->options.cache.page_count;
}

bool pipe_went_well(struct pipe_world *world, int result, int expected)
{
    bool excused = world->lies && (fuzz_device_may_say(result) || result == CELLAR_EBOUNDS || result == CELLAR_NONE ||
                                   result == -EROFS);

    if (world->lies && world->fuzz.cut && result == 0 && expected != 0) /* it was told of more than there is */
        world->lost = true;
    if (result == CELLAR_EPINNED && pipe_may_be_pinned(world))
        excused = true;
    if (world->placed && result == -ENOSPC) /* the second device is full */
        excused = true;
    if (result != expected && !excused && !world->lost)
        fprintf(stderr, "result %d, expected %d\n", result, expected);
    FUZZ_NEEDS(result == expected || excused || world->lost);
    if (world->eager && world->pipeline->poison != 0)
        world->lost = true;
    return result == 0 && !world->lost;
}

/* ---- where versions lie ---- */

static int place(void *user, uint64_t version, uint64_t page_address, struct cellar_place *ret_place)
{
    struct pipe_world *world = user;

    *ret_place = (struct cellar_place){.version = 0, .device = world->device, .offset = page_address};
    for (int i = 0; i < world->place_count; i++) {
        const struct pipe_place *at = &world->places[i];

        if (at->page_address == page_address && at->version <= version && at->version >= ret_place->version)
            *ret_place =
                (struct cellar_place){.version = at->version, .device = world->second_device, .offset = at->offset};
    }
    return 0;
}

static int place_new(void *user, uint64_t version, uint64_t page_address, struct cellar_place *ret_place)
{
    struct pipe_world *world = user;

    if (world->place_count == PIPE_PLACES_MAX || world->next_offset >= PIPE_PLACES_BYTES)
        return -ENOSPC;
    world->places[world->place_count++] =
        (struct pipe_place){.version = version, .page_address = page_address, .offset = world->next_offset};
    *ret_place =
        (struct cellar_place){.version = version, .device = world->second_device, .offset = world->next_offset};
    world->next_offset += world->options.cache.page_bytes;
    return 0;
}

void pipe_drop_places(struct pipe_world *world)
{
    uint64_t version = cellar_pipeline_version(world->pipeline);

    for (int i = 0; i < world->place_count; i++) {
        if (world->places[i].version > version)
            world->places[i--] = world->places[--world->place_count];
    }
}

/* ---- opening ---- */

static void read_options(struct pipe_world *world, unsigned shape, unsigned extras)
{
    static const size_t page_bytes[] = {16, 1, 8, 32, 64, 128, 256, 1024};
    struct cellar_pipeline_options *options = &world->options;

    *options = (struct cellar_pipeline_options){.cache = {.page_bytes = page_bytes[shape % 8],
                                                          .page_count = (size_t)1 << shape / 8 % 8,
                                                          .eviction = (enum cellar_eviction)(shape / 64),
                                                          .old_pages = extras / 16,
                                                          .user = world}};
    switch (extras & 7) {
    case 1:
    case 2:
        world->eager = true;
        options->eager_writes = 1 + extras / 64;
        options->eager_bytes = (1 + (extras & 8) / 4) * options->cache.page_bytes;
        options->pending_bytes_max = (extras & 32) != 0 ? 4 * options->eager_bytes : 0;
        break;
    case 3:
        world->placed = true;
        options->cache.hooks.place = place;
        options->place_new = place_new;
        break;
    case 4:
        options->cache.depth = 1 + extras / 64;
        options->cache.read_ahead_pages = (extras & 8) / 4;
        break;
    default:
        break;
    }
}

static void open_devices(struct pipe_world *world, unsigned source)
{
    uint32_t block_bytes = (source & 8) != 0 && world->options.cache.page_bytes >= 8 ? 8 : 1;

    world->size_bytes = 8 * (uint64_t)(1 + pipe_below(world, PIPE_BYTES_MAX / 8));
    if (world->options.cache.page_bytes == 1) /* many pages take much time */
        world->size_bytes = 8 + world->size_bytes % 64;
    if (world->placed) /* pages are as long there as they are here */
        world->size_bytes = (world->size_bytes + world->options.cache.page_bytes - 1) &
                            ~(uint64_t)(world->options.cache.page_bytes - 1);
    world->fuzz = (struct fuzz_device){.capacity_bytes = PIPE_BYTES_MAX,
                                       .size_bytes = world->size_bytes,
                                       .lends = (source & 2) != 0,
                                       /* Where pages lie elsewhere, what the version before lacks is zero. */
                                       .cut = (source & 4) != 0 && !world->placed,
                                       .block_bytes = block_bytes,
                                       .answers = fuzz_take(world->input, world->lies ? 24 : 0)};
    fuzz_queue_schedule(fuzz_take(world->input, world->eager || world->options.cache.depth > 0 ? 16 : 0));
    fuzz_fill(world->held, (size_t)world->size_bytes, source);
    memcpy(world->seen, world->held, sizeof world->seen);
    memset(world->known, true, sizeof world->known);
    world->device = fuzz_device_open(&world->fuzz);
    memcpy(world->fuzz.bytes, world->held, (size_t)world->size_bytes);
    if (!world->placed)
        return;
    world->second = (struct fuzz_device){.capacity_bytes = PIPE_PLACES_BYTES + PIPE_BYTES_MAX,
                                         .size_bytes = PIPE_PLACES_BYTES + PIPE_BYTES_MAX,
                                         .block_bytes = block_bytes,
                                         .answers = world->fuzz.answers};
    world->second_device = fuzz_device_open(&world->second);
}

void pipe_open(struct pipe_world *world, struct fuzz_input *input)
{
    unsigned shape = fuzz_byte(input), extras = fuzz_byte(input), source = fuzz_byte(input);

    memset(world, 0, sizeof *world);
    world->input = input;
    world->lies = (source & 1) != 0;
    read_options(world, shape, extras);
    open_devices(world, source);
    world->fuzz.honest = true; /* a wrong size now would be the pipeline's for ever */
    FUZZ_NEEDS(cellar_pipeline_open_with(world->device, &world->options, &world->pipeline) == 0);
    if (world->eager || (source & 16) != 0)
        cellar_pipeline_set_committed(world->pipeline, pipe_below(world, world->size_bytes));
    world->fuzz.honest = false;
}

void pipe_close(struct pipe_world *world)
{
    for (int i = 0; i < PIPE_FRAMES_MAX; i++)
        cellar_pipeline_unfix_write(world->pipeline, &world->frames[i]);
    for (int i = 0; i < PIPE_SNAPSHOTS_MAX; i++)
        cellar_cache_close(world->snapshots[i].cache);
    if (!world->lost)
        FUZZ_NEEDS(cellar_cache_counters(cellar_pipeline_cache(world->pipeline)).old_pages == 0);
    cellar_pipeline_close(world->pipeline);
    FUZZ_NEEDS(cellar_device_close(world->device) == 0);
    if (world->placed)
        FUZZ_NEEDS(cellar_device_close(world->second_device) == 0);
}

/* ---- what must hold ---- */

void pipe_check_seen(const struct pipe_world *world, uint64_t address, const unsigned char *got, size_t length)
{
    for (size_t i = 0; i < length; i++)
        FUZZ_NEEDS(!world->known[address + i] || got[i] == world->seen[address + i]);
}

void pipe_check_device(struct pipe_world *world)
{
    uint64_t end = world->size_bytes;

    if (world->lost || world->placed)
        return;
    if (world->eager && world->pipeline->committed_bytes < end) /* what lies behind may be on its way */
        end = world->pipeline->committed_bytes;
    FUZZ_NEEDS(memcmp(world->fuzz.bytes, world->held, (size_t)end) == 0);
    for (uint64_t at = 0; at < end; at++)
        FUZZ_NEEDS(!world->known[at] || world->held[at] == world->seen[at] || pipe_is_pending(world, at));
}

void pipe_note_sent(struct pipe_world *world)
{
    uint64_t version = cellar_pipeline_version(world->pipeline);

    FUZZ_NEEDS(version == world->version || version == world->version + 1);
    world->version = version;
    for (uint64_t at = 0; at < world->size_bytes; at++) {
        if (world->placed && !pipe_is_pending(world, at))
            world->held[at] = world->seen[at];
        else if (!world->placed && world->fuzz.bytes[at] != world->held[at])
            world->held[at] = world->fuzz.bytes[at];
    }
    pipe_check_device(world);
}

static void check_snapshot(struct pipe_world *world, struct pipe_snapshot *snapshot)
{
    unsigned char bytes[PIPE_BYTES_MAX], byte;
    int error;

    if (snapshot->cache == NULL)
        return;
    error = cellar_cache_read(snapshot->cache, 0, bytes, (size_t)snapshot->limit_bytes);
    if (pipe_went_well(world, error, 0))
        FUZZ_NEEDS(memcmp(bytes, snapshot->image, (size_t)snapshot->limit_bytes) == 0);
    error = cellar_cache_read(snapshot->cache, snapshot->limit_bytes, &byte, 1);
    FUZZ_NEEDS(error == CELLAR_EBOUNDS || world->lies || world->lost);
}

void pipe_check_all(struct pipe_world *world)
{
    unsigned char bytes[PIPE_BYTES_MAX];

    if (pipe_went_well(world, cellar_pipeline_read(world->pipeline, 0, bytes, (size_t)world->size_bytes), 0))
        pipe_check_seen(world, 0, bytes, (size_t)world->size_bytes);
    for (int i = 0; i < PIPE_SNAPSHOTS_MAX; i++)
        check_snapshot(world, &world->snapshots[i]);
    pipe_check_device(world);
}
