/*
 * steps_page.c - the page room by itself: a cache and a pipeline over a device of their own that holds known bytes.
 *
 * A read gives the right bytes or an error. A commit that fails leaves what it had to send pending, and may be made
 * again: then the device has all of it.
 */
#include "world.h"

#include <cellar/cache.h>
#include <cellar/pipeline.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { LENGTH = 60000, PAGE = 512 };

/* It takes the place of the world's writer. */
struct room {
    struct world *world;
    struct cellar_writer *writer; /* the world's, which is its again afterwards */
    struct cellar_device *device;
    unsigned char expected[LENGTH];
};

static int first_write(struct room *room)
{
    struct iovec part = {room->expected, LENGTH};

    return cellar_device_write(room->device, &part, 1, 0);
}

static struct cellar_device *open_other(struct world *world)
{
    struct cellar_device *device = NULL, *bytes = NULL;
    int error;

    if (!world->way->file) {
        sim_begin(world->copy, &world->way->traits);
        error = sim_open(world->copy, true, &device);
    } else if (world->way->choice == CELLAR_DEVICE_MAPPED) {
        error = cellar_device_open_file(world->other_path, CELLAR_OPEN_WRITE | CELLAR_OPEN_CREATE, 0600, &device);
    } else {
        int direct = world->way->choice == CELLAR_DEVICE_DIRECT ? CELLAR_OPEN_DIRECT : 0;

        error =
            cellar_device_open_pread(world->other_path, CELLAR_OPEN_WRITE | CELLAR_OPEN_CREATE | direct, 0600, &device);
    }
    if (error == 0 && cellar_device_block_bytes(device) > 1) {
        error = cellar_device_open_bytes(device, &bytes);
        device = error == 0 ? bytes : NULL;
    }
    if (error != 0 || (world->way->traits.fixed_bytes == 0 && cellar_device_grow(device, 0, LENGTH) != 0))
        abort();
    return device;
}

static struct room *room_open(struct world *world)
{
    struct room *room = calloc(1, sizeof *room);

    if (room == NULL)
        abort();
    room->world = world;
    room->writer = world->writer;
    world->writer = NULL;
    room->device = open_other(world);
    memcpy(room->expected, model_bytes(model_random(&world->random), LENGTH), LENGTH);
    if (first_write(room) != 0)
        abort();
    return room;
}

static void room_close(struct room *room)
{
    if (cellar_device_close(room->device) != 0)
        abort();
    room->world->writer = room->writer;
    free(room);
}

static void check_bytes(struct room *room, const unsigned char *got, uint64_t at, size_t length, int error,
                        const char *what)
{
    WORLD_NEEDS(room->world, error != 0 || memcmp(got, room->expected + at, length) == 0, "%s gives wrong bytes", what);
    (void)world_judge(room->world, error);
    room->world->fired_before = plan_fired_count();
}

/* ---- a cache ---- */

struct answers {
    int calls, error;
};

static void take_answer(void *user, int error)
{
    struct answers *answers = user;

    answers->calls++;
    if (error != 0)
        answers->error = error;
}

static void load_behind(struct room *room, struct cellar_cache *cache)
{
    struct answers answers = {0};
    unsigned char got[4000];
    int error;

    WORLD_ARMED(error, cellar_cache_load_async(cache, 20000, 4000, take_answer, &answers));
    if (!world_judge(room->world, error))
        return;
    plan_arm();
    while (cellar_cache_awaited(cache) > 0)
        (void)cellar_cache_poll(cache, true);
    error = answers.error != 0 ? answers.error : cellar_cache_read(cache, 20000, got, sizeof got);
    plan_disarm();
    WORLD_NEEDS(room->world, answers.calls == 1, "a load in the background was answered %d times", answers.calls);
    check_bytes(room, got, 20000, sizeof got, error, "a load in the background");
}

static void use_cache(struct room *room, struct cellar_cache *cache)
{
    static const uint64_t places[] = {0, 511, 1024, 40000, 5000, 0, 59000, 12345};
    struct cellar_cache *other = NULL;
    unsigned char got[1000];
    int error;

    for (size_t i = 0; i < sizeof places / sizeof places[0]; i++) {
        WORLD_ARMED(error, cellar_cache_read(cache, places[i], got, sizeof got));
        check_bytes(room, got, places[i], sizeof got, error, "cellar_cache_read");
    }
    load_behind(room, cache);
    WORLD_ARMED(error, cellar_cache_share(cache, &other));
    WORLD_NEEDS(room->world, (error == 0) == (other != NULL), "cellar_cache_share gave %d", error);
    if (world_judge(room->world, error)) {
        WORLD_ARMED(error, cellar_cache_read(other, 7777, got, sizeof got));
        check_bytes(room, got, 7777, sizeof got, error, "a shared cache");
    }
    cellar_cache_close(other);
}

void world_cache(struct world *world)
{
    struct cellar_cache_options options = {
        .page_bytes = PAGE, .page_count = 8, .depth = 4, .read_ahead_pages = 2, .copy = true};
    struct cellar_cache *cache = NULL;
    struct room *room = room_open(world);
    int error;

    WORLD_ARMED(error, cellar_cache_open_with(room->device, &options, &cache));
    WORLD_NEEDS(world, (error == 0) == (cache != NULL), "cellar_cache_open_with gave %d", error);
    if (world_judge(world, error))
        use_cache(room, cache);
    plan_arm();
    cellar_cache_close(cache);
    plan_disarm();
    room_close(room);
}

/* ---- a pipeline ---- */

/* Pending from now on, unless it fails: then nothing of it is. */
static void put(struct room *room, struct cellar_pipeline *pipeline, uint64_t at, size_t length)
{
    uint64_t seed = model_random(&room->world->random);
    int error;

    WORLD_ARMED(error, cellar_pipeline_write(pipeline, at, model_bytes(seed, (uint32_t)length), length));
    if (world_judge(room->world, error))
        memcpy(room->expected + at, model_bytes(seed, (uint32_t)length), length);
    room->world->fired_before = plan_fired_count();
}

/* Until it is done: what failed has left all that is to be sent. Not after a failure in the background, which is the
 * result of every call from then on: true where there was one. */
static bool send(struct room *room, struct cellar_pipeline *pipeline)
{
    int error = -1, again = 0;

    for (int attempt = 0; error != 0 && error != again && attempt <= PLAN_TARGETS_MAX + 1; attempt++) {
        again = attempt > 0 ? error : 0;
        WORLD_ARMED(error, cellar_pipeline_commit(pipeline));
        (void)world_judge(room->world, error);
        room->world->fired_before = plan_fired_count();
    }
    if (error != 0) {
        WORLD_NEEDS(room->world, cellar_pipeline_write(pipeline, 0, "", 1) == error,
                    "cellar_pipeline_commit never works, but a write does");
        return true;
    }
    WORLD_NEEDS(room->world, cellar_pipeline_pending_bytes(pipeline) == 0, "a commit leaves bytes pending");
    return false;
}

static void use_pipeline(struct room *room, struct cellar_pipeline *pipeline)
{
    static unsigned char before[LENGTH], got[LENGTH];
    struct cellar_cache *snapshot = NULL;
    bool broken;
    int error, taken;

    put(room, pipeline, 100, 3000);
    put(room, pipeline, 9000, 10);
    (void)send(room, pipeline);
    memcpy(before, room->expected, LENGTH);
    WORLD_ARMED(taken, cellar_pipeline_snapshot(pipeline, &snapshot));
    (void)world_judge(room->world, taken);
    room->world->fired_before = plan_fired_count();
    put(room, pipeline, 1000, 5000);
    for (uint64_t at = 30000; at < 50000; at += 1000)
        put(room, pipeline, at, 1000);
    WORLD_ARMED(error, cellar_pipeline_read(pipeline, 900, got, 6000));
    check_bytes(room, got, 900, 6000, error, "cellar_pipeline_read");
    broken = send(room, pipeline);
    if (taken == 0) {
        WORLD_ARMED(error, cellar_cache_read(snapshot, 900, got, 6000));
        WORLD_NEEDS(room->world, error != 0 || memcmp(got, before + 900, 6000) == 0, "a snapshot has changed");
        (void)world_judge(room->world, error);
        cellar_cache_close(snapshot);
    }
    if (cellar_device_read(room->device, got, LENGTH, 0) != 0)
        abort();
    WORLD_NEEDS(room->world, broken || memcmp(got, room->expected, LENGTH) == 0,
                "the device has other bytes than the pipeline");
}

void world_pipeline(struct world *world)
{
    struct cellar_pipeline_options options = {
        .cache = {.page_bytes = PAGE, .page_count = 16, .copy = true, .old_pages = 64},
        .eager_writes = 2,
        .eager_bytes = 4096,
        .committed_bytes = 30000,
    };
    struct cellar_pipeline *pipeline = NULL;
    struct room *room = room_open(world);
    int error;

    WORLD_ARMED(error, cellar_pipeline_open_with(room->device, &options, &pipeline));
    WORLD_NEEDS(world, (error == 0) == (pipeline != NULL), "cellar_pipeline_open_with gave %d", error);
    if (world_judge(world, error))
        use_pipeline(room, pipeline);
    plan_arm();
    cellar_pipeline_close(pipeline);
    plan_disarm();
    room_close(room);
}
