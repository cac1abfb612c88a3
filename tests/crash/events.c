/* events.c - at every event of a disk or a folder: what could be left now, each looked at. */
#include "folder.h"
#include "world.h"

#include <stdlib.h>
#include <string.h>

enum {
    EXHAUSTIVE_MAX = 4096, /* old and new of 12 blocks */
    MIXED_MAX = 1024,      /* every version of the header's lines, old and new of the others */
    SAMPLES_MIXED = 48,    /* beside old and new of every block */
    SAMPLES = 96,          /* where blocks are too many */
    SAMPLES_EVENT = 2,     /* after a store */
    SECOND_EVERY = 24,
    MOUNT_EVERY = 8,
    OTHER_MOUNT = 2, /* in the lower half of an incarnation */
};

/* True where this crash, or one of so many such, is worth a world that goes on after it. */
static bool draw_second(struct world *world, uint32_t every)
{
    if (!world->created || world->depth + 1 >= DEPTH_MAX || world->second_budget == 0 ||
        !random_once_in(&world->random, every))
        return false;
    world->second_budget--;
    return true;
}

static void check_lost(struct world *world, int file, uint64_t size_bytes)
{
    bool again = draw_second(world, SECOND_EVERY);
    struct state disk;

    if (again)
        memcpy(world->scratch, world->image, size_bytes);
    world->run->images++;
    if (check_image(world, &world->files[file], world->image, size_bytes, false, &disk) && again)
        second_from_image(world, file, world->scratch, size_bytes, disk);
}

static void lose_power_of(struct world *world, int file, uint32_t samples)
{
    const struct simdisk *disk = &world->files[file].disk;
    struct simdisk_choices choices = simdisk_choices(disk);

    if (samples == 0 && choices.all <= MIXED_MAX) {
        for (uint64_t i = 0; i < choices.all && !run_stopped(world->run); i++)
            check_lost(world, file, simdisk_image_all(disk, i, world->image));
        return;
    }
    if (samples == 0 && choices.ends <= EXHAUSTIVE_MAX) {
        for (uint64_t i = 0; i < choices.ends && !run_stopped(world->run); i++)
            check_lost(world, file, simdisk_image_ends(disk, i, world->image));
        samples = SAMPLES_MIXED;
    }
    if (samples == 0)
        samples = SAMPLES;
    for (uint32_t i = 0; i < samples && !run_stopped(world->run); i++)
        check_lost(world, file, simdisk_image_drawn(disk, &world->random, world->image));
}

/* The file that the store's name leads to may be this one. */
static bool check_named(struct world *world, int file)
{
    if (file == FOLDER_NOBODY) {
        if (world->created)
            fail(world->run, "the store's name is gone", 0, 0);
        return false;
    }
    if (!world->files[file].may_be_named)
        fail(world->run, "the store's name leads to a file that was replaced, or isn't whole", 0, (uint64_t)file);
    return world->files[file].may_be_named;
}

/* Every file that may be found under the store's name, once. */
static void lose_power_by_name(struct world *world, uint32_t samples)
{
    bool done[FILES_MAX] = {false};
    int names[FOLDER_NAMES];

    for (uint32_t i = 0; i < folder_image_count(world->folder) && !run_stopped(world->run); i++) {
        folder_image(world->folder, i, names);
        if (!check_named(world, names[FOLDER_STORE]) || done[names[FOLDER_STORE]])
            continue;
        done[names[FOLDER_STORE]] = true;
        simdisk_notice(&world->files[names[FOLDER_STORE]].disk);
        lose_power_of(world, names[FOLDER_STORE], samples);
    }
}

void world_lose_power(struct world *world, uint32_t samples)
{
    bool quiet = world->quiet;

    world->quiet = true;
    if (world->folder != NULL) {
        lose_power_by_name(world, samples);
    } else {
        simdisk_notice(&world->files[world->current].disk);
        lose_power_of(world, world->current, samples);
    }
    world->quiet = quiet;
}

/* The next process has the file by another mount, on the same boot: the caches are the same, and it can't know. */
static void mount_again(struct world_file *file)
{
    file->disk.incarnation ^= OTHER_MOUNT;
    file->model.bound = false;
}

static void die(struct world *world, uint32_t second_every)
{
    int current = world->folder != NULL ? world->folder->now[FOLDER_STORE] : world->current;
    struct world_file *file;
    bool moves, bound;
    uint64_t size_bytes;
    struct state disk;

    if (world->folder != NULL ? !check_named(world, current) : !world->created)
        return;
    file = &world->files[current];
    size_bytes = simdisk_size(&file->disk);
    moves = ++world->run->deaths % (second_every == 1 ? 2 : MOUNT_EVERY) == 0 && file->disk.kind.has_incarnation;
    bound = file->model.bound;
    if (moves)
        mount_again(file);
    memcpy(world->image, file->disk.view, size_bytes);
    if (check_image(world, file, world->image, size_bytes, true, &disk) && draw_second(world, second_every))
        second_from_death(world);
    if (moves)
        file->disk.incarnation ^= OTHER_MOUNT;
    file->model.bound = bound;
}

void world_die(struct world *world)
{
    die(world, SECOND_EVERY);
}

void world_event(void *user, enum simdisk_event what)
{
    struct world *world = user;

    if (world->quiet || run_stopped(world->run))
        return;
    if (world->in_flush && what != SIMDISK_STORED && random_once_in(&world->random, 2))
        world_help(world, 1);
    world->quiet = true;
    if (what == SIMDISK_STORED) {
        world_follow(world);
        world_lose_power(world, SAMPLES_EVENT);
        world_die(world);
    } else if (what == SIMDISK_LOST) {
        world_lose_power(world, SAMPLES_EVENT);
        die(world, 1);
    } else {
        world_lose_power(world, 0);
    }
    world->quiet = false;
}
