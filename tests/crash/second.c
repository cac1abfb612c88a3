/* second.c - what comes after a crash: the store is opened on what is left, goes on, and crashes again. */
#include "folder.h"
#include "world.h"

#include <stdlib.h>
#include <string.h>

enum { STEPS = 4 };

static struct world *seconds[DEPTH_MAX];

/* A world for what comes after a crash of this one; its files are still those of the last time. */
static struct world *prepare(struct world *world)
{
    struct world *second = seconds[world->depth + 1];

    if (second == NULL) {
        second = seconds[world->depth + 1] = calloc(1, sizeof *second);
        if (second == NULL)
            abort();
        world_init(second, world->run, 0, world->depth + 1);
    }
    second->run = world->run;
    second->random = random_next(&world->random);
    second->follow_random = ~second->random;
    second->created = world->created;
    second->quiet = false;
    for (int i = 0; i < FILES_MAX; i++)
        second->files[i].may_be_named = false;
    if (second->folder != NULL)
        folder_init(second->folder);
    return second;
}

/* Opens, works, flushes; with all events. */
static void go_on(struct world *second, bool died)
{
    struct world *before = second->folder != NULL ? folder_enter(second) : NULL;
    const char *doing = second->run->doing;

    if (second->folder == NULL && simdisk_open(&second->files[second->current].disk, &second->device) != 0)
        abort();
    if (world_open(second, died)) {
        world_work(second, STEPS);
        world_abandon(second);
    }
    world_leave_followers(second);
    if (second->folder == NULL)
        cellar_device_close(second->device);
    else
        folder_enter(before);
    second->run->doing = doing;
}

/* The names as a power loss leaves them that leads to file; what is under the hidden one is any image. */
static void lose_names(struct world *world, int file, struct world *second)
{
    int names[FOLDER_NAMES], hidden;

    folder_image_drawn(world->folder, file, &world->random, names);
    hidden = names[FOLDER_HIDDEN];
    second->folder->now[FOLDER_STORE] = second->folder->durable[FOLDER_STORE] = 0;
    if (world->run->mode->sums && world->sums_name != FOLDER_NAMES) { /* the one that the image was checked with */
        world_use_file(second, 2);
        second->files[2].disk.kind.capacity_bytes = SIMDISK_BYTES_MAX;
        simdisk_load(&second->files[2].disk, world->sums, world->sums_bytes);
        second->folder->now[world->sums_name] = second->folder->durable[world->sums_name] = 2;
    }
    if (hidden == FOLDER_NOBODY)
        return;
    second->folder->now[FOLDER_HIDDEN] = second->folder->durable[FOLDER_HIDDEN] = hidden == file ? 0 : 1;
    if (hidden != file) {
        const struct simdisk *disk = &world->files[hidden].disk;
        uint64_t size_bytes = simdisk_image_drawn(disk, &world->random, world->image);

        world_use_file(second, 1);
        simdisk_load(&second->files[1].disk, world->image, size_bytes);
    }
}

void second_from_image(struct world *world, int file, const unsigned char *image, uint64_t size_bytes,
                       struct state disk)
{
    struct world *second = prepare(world);

    world_use_file(second, 0);
    second->files[0].disk.kind = world->files[file].disk.kind;
    model_copy(&second->files[0].model, &world->files[file].model);
    simdisk_load(&second->files[0].disk, image, size_bytes);
    model_lose_power(&second->files[0].model, disk);
    second->files[0].may_be_named = true;
    second->current = 0;
    if (world->folder != NULL)
        lose_names(world, file, second);
    go_on(second, false);
}

void second_from_death(struct world *world)
{
    struct world *second = prepare(world);

    if (world->folder != NULL)
        *second->folder = *world->folder;
    for (int i = 0; i < FILES_MAX; i++) {
        if (!world->files[i].used || (world->folder != NULL && !folder_knows(world->folder, i)))
            continue;
        world_use_file(second, i);
        simdisk_copy(&second->files[i].disk, &world->files[i].disk);
        model_copy(&second->files[i].model, &world->files[i].model);
        second->files[i].may_be_named = world->files[i].may_be_named;
    }
    second->current = world->folder != NULL ? world->folder->now[FOLDER_STORE] : world->current;
    go_on(second, true);
}

void second_free(void)
{
    for (int depth = 0; depth < DEPTH_MAX; depth++) {
        if (seconds[depth] != NULL)
            world_free(seconds[depth]);
        free(seconds[depth]);
        seconds[depth] = NULL;
    }
}
