/*
 * fuzz_pipeline.c - the pipeline over a device that answers wrongly: what is read through it is what was written to it,
 * whatever fails; the device has what was sent and nothing else; snapshots go on seeing what they saw. With eager
 * writes, versions in places of their own, write frames, loads in the background, growth.
 */
#include "fuzz_pipeline.h"
#include "fuzz_room.h"

#include "page/pipeline.h"

#include <errno.h>
#include <string.h>

enum { CALLS_MAX = 300 };

static void remember(struct pipe_world *world, uint64_t address, const void *bytes, size_t length)
{
    if (length == 0)
        return;
    memcpy(world->seen + address, bytes, length);
    memset(world->known + address, true, length);
}

static void do_write(struct pipe_world *world)
{
    unsigned char bytes[PIPE_BYTES_MAX];
    uint64_t address = pipe_below(world, world->size_bytes + 4);
    size_t length = pipe_below(world, pipe_below(world, 4) == 0 ? 300 : 20);
    int expected = length == 0 || address + length <= world->size_bytes ? 0 : CELLAR_EBOUNDS, result;

    fuzz_fill(bytes, length, pipe_below(world, 256));
    result = cellar_pipeline_write(world->pipeline, address, bytes, length);
    if (pipe_went_well(world, result, expected))
        remember(world, address, bytes, length);
    else if (expected == 0 && world->options.pending_bytes_max > 0)
        world->lost = true; /* it may have gone in pieces, of which the first are there */
}

static void do_integer(struct pipe_world *world)
{
    uint64_t address = pipe_below(world, world->size_bytes + 4);
    uint32_t value = pipe_below(world, 70000), got = 0;
    int expected = address + sizeof value <= world->size_bytes ? 0 : CELLAR_EBOUNDS;

    if (pipe_went_well(world, cellar_pipeline_set_u32_ne(world->pipeline, address, value), expected))
        remember(world, address, &value, sizeof value);
    else if (expected == 0 && world->options.pending_bytes_max > 0)
        world->lost = true;
    if (pipe_went_well(world, cellar_pipeline_get_u32_ne(world->pipeline, address, &got), expected))
        pipe_check_seen(world, address, (const unsigned char *)&got, sizeof got);
}

static void do_read(struct pipe_world *world)
{
    unsigned char bytes[PIPE_BYTES_MAX];
    uint64_t address = pipe_below(world, world->size_bytes + 4);
    size_t length = pipe_below(world, 100);
    int expected = length == 0 || address + length <= world->size_bytes ? 0 : CELLAR_EBOUNDS;

    if (pipe_went_well(world, cellar_pipeline_read(world->pipeline, address, bytes, length), expected))
        pipe_check_seen(world, address, bytes, length);
}

/* What is under the pipeline shows what was sent, and not what is pending. */
static void do_read_under(struct pipe_world *world)
{
    unsigned char bytes[PIPE_BYTES_MAX];
    struct cellar_cache *cache = cellar_pipeline_cache(world->pipeline);
    uint64_t address = pipe_below(world, world->size_bytes);
    size_t length = pipe_below(world, 100);
    int expected = address + length <= world->size_bytes ? 0 : CELLAR_EBOUNDS;

    if (world->eager && address + length > world->pipeline->committed_bytes)
        return;
    if (pipe_went_well(world, cellar_cache_read(cache, address, bytes, length), length == 0 ? 0 : expected))
        FUZZ_NEEDS(length == 0 || memcmp(bytes, world->held + address, length) == 0);
}

/* Takes a frame, or writes to one and lets it go. */
static void do_frame(struct pipe_world *world)
{
    struct cellar_write_frame *frame = &world->frames[pipe_below(world, PIPE_FRAMES_MAX)];
    enum cellar_write_start start = pipe_below(world, 2) == 0 ? CELLAR_WRITE_NEW : CELLAR_WRITE_AS_IS;
    uint64_t address = pipe_below(world, world->size_bytes), from, to;
    bool pending[PIPE_BYTES_MAX];

    if (frame->page != NULL) {
        size_t offset = address % frame->length, length = pipe_below(world, frame->length - offset + 1);

        fuzz_fill((unsigned char *)frame->bytes + offset, length, (uint32_t)address);
        remember(world, frame->address + offset, (unsigned char *)frame->bytes + offset, length);
        cellar_pipeline_unfix_write(world->pipeline, frame);
        return;
    }
    from = address - address % world->options.cache.page_bytes;
    to = from + world->options.cache.page_bytes;
    if (to > world->size_bytes)
        to = world->size_bytes;
    for (uint64_t at = from; at < to; at++)
        pending[at] = pipe_is_pending(world, at);
    if (!pipe_went_well(world, cellar_pipeline_fix_write(world->pipeline, address, start, frame), 0)) {
        if (frame->page != NULL) /* it was lost before */
            cellar_pipeline_unfix_write(world->pipeline, frame);
        return;
    }
    if (world->eager) { /* what was pending may have gone out meanwhile, and be no more */
        remember(world, frame->address, frame->bytes, frame->length);
        return;
    }
    FUZZ_NEEDS(frame->address == from && (frame->length == to - from || (world->lies && world->fuzz.cut)));
    if (frame->length != to - from) { /* it was told of more than there is, or less */
        world->lost = true;
        return;
    }
    for (uint64_t at = from; at < from + frame->length; at++) {
        if (start == CELLAR_WRITE_NEW && !pending[at]) {
            world->seen[at] = 0;
            world->known[at] = true;
        }
    }
    pipe_check_seen(world, from, frame->bytes, frame->length);
}

/* A failure leaves what is known: what had not reached the device for sure is still pending. */
static void note_failed_send(struct pipe_world *world)
{
    if (world->placed)
        pipe_drop_places(world);
    if (!world->lost && !world->eager)
        pipe_note_sent(world);
    if (world->eager)
        world->lost = true;
}

static void do_send(struct pipe_world *world)
{
    bool whole = pipe_below(world, 2) == 0;
    uint64_t address = pipe_below(world, world->size_bytes), length = whole ? 0 : pipe_below(world, 100);
    uint64_t writes = world->fuzz.writes + world->second.writes;
    bool fixed = pipe_is_fixed(world);
    int error =
        whole ? cellar_pipeline_commit(world->pipeline) : cellar_pipeline_persist(world->pipeline, address, length);

    if (error == CELLAR_EOLDPAGES || error == CELLAR_EPINNED) {
        if (!world->lost) {
            FUZZ_NEEDS(error == CELLAR_EPINNED ? fixed || pipe_may_be_pinned(world) : !fixed);
            FUZZ_NEEDS(world->eager || world->fuzz.writes + world->second.writes == writes);
            FUZZ_NEEDS(cellar_pipeline_version(world->pipeline) == world->version);
        }
        return;
    }
    if (!pipe_went_well(world, error, 0)) {
        note_failed_send(world);
        return;
    }
    FUZZ_NEEDS(!fixed);
    pipe_note_sent(world);
    if (whole) {
        FUZZ_NEEDS(cellar_pipeline_pending_bytes(world->pipeline) == 0);
        for (uint64_t at = 0; at < world->size_bytes; at++)
            FUZZ_NEEDS(!world->known[at] || world->held[at] == world->seen[at]);
    }
}

static void do_discard(struct pipe_world *world)
{
    cellar_pipeline_discard(world->pipeline);
    for (int i = 0; i < PIPE_FRAMES_MAX; i++) /* what is written to them from here on goes nowhere */
        cellar_pipeline_unfix_write(world->pipeline, &world->frames[i]);
    if (world->lost)
        return;
    FUZZ_NEEDS(cellar_pipeline_pending_bytes(world->pipeline) == 0);
    memcpy(world->seen, world->held, sizeof world->seen);
    if (!world->eager)
        return;
    for (uint64_t at = world->pipeline->committed_bytes; at < PIPE_BYTES_MAX; at++)
        world->known[at] = false; /* as it was, or as an eager write has made it */
    memcpy(world->held, world->fuzz.bytes, (size_t)world->size_bytes);
    if (world->pipeline->poison != 0)
        world->lost = true;
}

static void do_grow(struct pipe_world *world)
{
    uint64_t size_bytes = world->size_bytes + 8 * (uint64_t)pipe_below(world, 8);

    if (size_bytes > PIPE_BYTES_MAX || pipe_is_fixed(world) || world->placed)
        return;
    fuzz_device_resize(&world->fuzz, size_bytes);
    for (uint64_t at = world->size_bytes; at < size_bytes; at++) {
        world->seen[at] = world->held[at] = 0;
        world->known[at] = true;
    }
    world->size_bytes = size_bytes;
}

static void do_snapshot(struct pipe_world *world)
{
    struct pipe_snapshot *snapshot = &world->snapshots[pipe_below(world, PIPE_SNAPSHOTS_MAX)], *from = snapshot;
    uint64_t committed = world->pipeline->committed_bytes;
    int expected = world->options.cache.old_pages > 0 || world->placed ? 0 : -ENOTSUP;

    if (snapshot->cache != NULL && pipe_below(world, 3) != 0) {
        cellar_cache_close(snapshot->cache);
        snapshot->cache = NULL;
        return;
    }
    if (snapshot->cache != NULL) { /* another handle on the same version */
        snapshot = &world->snapshots[pipe_below(world, PIPE_SNAPSHOTS_MAX)];
        if (snapshot->cache != NULL)
            return;
        FUZZ_NEEDS(cellar_cache_share(from->cache, &snapshot->cache) == 0);
        snapshot->version = from->version;
        snapshot->limit_bytes = from->limit_bytes;
        memcpy(snapshot->image, from->image, sizeof snapshot->image);
        return;
    }
    world->fuzz.honest = true; /* a wrong size would be its limit */
    if (!pipe_went_well(world, cellar_pipeline_snapshot(world->pipeline, &snapshot->cache), expected)) {
        if (expected != 0)
            snapshot->cache = NULL;
        world->fuzz.honest = false;
        return;
    }
    world->fuzz.honest = false;
    snapshot->version = world->version;
    snapshot->limit_bytes = committed < world->size_bytes ? committed : world->size_bytes;
    memcpy(snapshot->image, world->held, sizeof snapshot->image);
    FUZZ_NEEDS(cellar_cache_version(snapshot->cache) == world->version);
}

/* Reads something of a snapshot, in one of the ways that there are. */
static void do_look(struct pipe_world *world)
{
    struct pipe_snapshot *snapshot = &world->snapshots[pipe_below(world, PIPE_SNAPSHOTS_MAX)];
    uint64_t address = pipe_below(world, world->size_bytes), there;
    size_t length = pipe_below(world, 100);
    unsigned char bytes[PIPE_BYTES_MAX];
    struct cellar_fixed fixed;
    int error;

    if (snapshot->cache == NULL)
        return;
    there = address < snapshot->limit_bytes ? snapshot->limit_bytes - address : 0;
    switch (address % 3) {
    case 0:
        error = cellar_cache_read(snapshot->cache, address, bytes, length);
        if (pipe_went_well(world, error, length == 0 || length <= there ? 0 : CELLAR_EBOUNDS) && length > 0)
            FUZZ_NEEDS(memcmp(bytes, snapshot->image + address, length) == 0);
        break;
    case 1:
        error = cellar_cache_map(snapshot->cache, address, length, &fixed);
        if (error == CELLAR_EPINNED || error != 0)
            break;
        if (!world->lost) {
            FUZZ_NEEDS(fixed.slice.length <= there);
            FUZZ_NEEDS(world->lies || fixed.slice.length == (length < there ? length : there));
            if (fixed.slice.length > 0)
                FUZZ_NEEDS(memcmp(fixed.slice.bytes, snapshot->image + address, fixed.slice.length) == 0);
        }
        cellar_cache_unfix(snapshot->cache, &fixed);
        break;
    default:
        cellar_cache_prefetch(snapshot->cache, address, length);
    }
}

static void do_invalidate(struct pipe_world *world)
{
    cellar_cache_invalidate(cellar_pipeline_cache(world->pipeline), pipe_below(world, world->size_bytes), 100);
}

static void (*const calls[])(struct pipe_world *world) = {
    do_write, do_write, do_write,    do_integer, do_read,       do_frame, do_frame,      do_send,  do_send,
    do_send,  do_grow,  do_snapshot, do_look,    do_read_under, do_look,  do_invalidate, do_write, do_discard};

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length_bytes)
{
    struct fuzz_input input = {.bytes = bytes, .length_bytes = length_bytes};
    static struct pipe_world world;

    pipe_open(&world, &input);
    for (int i = 0; i < CALLS_MAX && fuzz_more(&input); i++) {
        calls[fuzz_byte(&input) % FUZZ_COUNT(calls)](&world);
        pipe_check_device(&world);
    }
    pipe_check_all(&world);
    pipe_close(&world);
    FUZZ_NEEDS(fuzz_rooms_taken() == 0);
    return 0;
}
