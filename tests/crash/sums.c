/* sums.c - a store's file and its checksum file after a crash: what was flushed is never called rotten. */
#include "folder.h"
#include "image.h"
#include "world.h"

#include "cell/record.h"
#include "format/format.h"
#include "sum/sum_file.h"

#include <stdlib.h>
#include <string.h>

/* Of a checksum file: what the next process sees, what a power loss could leave, what it must. */
enum left { LEFT_BY_DEATH, LEFT_BY_CHANCE, LEFT_DURABLE };

/* What a crash leaves of the checksum file that has the name goes to world->sums. False: nobody has the name. */
static bool take_file(struct world *world, const int names[FOLDER_NAMES], enum folder_name name, enum left left)
{
    struct simdisk *disk;

    if (names[name] == FOLDER_NOBODY)
        return false;
    disk = &world->files[names[name]].disk;
    if (left == LEFT_BY_CHANCE) {
        world->sums_bytes = simdisk_image_drawn(disk, &world->random, world->sums);
    } else {
        world->sums_bytes = left == LEFT_BY_DEATH ? simdisk_size(disk) : disk->sizes[0];
        memcpy(world->sums, left == LEFT_BY_DEATH ? disk->view : disk->durable, world->sums_bytes);
    }
    world->sums_name = (int)name;
    return true;
}

/* Opens the file that the library would: the one of the store's identity, under either name. NULL: there is none. */
static struct cellar_sum_file *find_file(struct world *world, const struct cellar_sum_owner *owner, struct image *image,
                                         const int names[FOLDER_NAMES], enum left left)
{
    static const enum folder_name order[] = {FOLDER_SUMS, FOLDER_SUMS_FRESH};
    struct cellar_sum_file *file;
    struct cellar_device *device;

    world->sums_name = FOLDER_NAMES;
    for (int i = 0; i < 2; i++) {
        if (!take_file(world, names, order[i], left))
            continue;
        image->bytes = world->sums;
        image->size_bytes = world->sums_bytes;
        if (image_open(image, &device) != 0)
            abort();
        if (cellar_sum_open_on(device, owner, &file) == 0)
            return file;
    }
    return NULL;
}

static void check_blocks(struct run *run, struct cellar_sum_file *file, struct cellar_device *store,
                         uint64_t flushed_bytes)
{
    unsigned char block[CELLAR_SUM_BLOCK_BYTES];

    for (uint64_t at = 0; at < flushed_bytes && !run_stopped(run); at += sizeof block) {
        size_t length_bytes = (size_t)cellar_sum_min(sizeof block, flushed_bytes - at);
        int error = cellar_device_read(store, block, length_bytes, at);

        if (error == 0)
            error = cellar_sum_verify(file, store, at, block, length_bytes);
        if (error != 0)
            fail(run, "cells that were flushed are not what their checksum says", error, at);
    }
}

static void check_file(struct run *run, struct cellar_sum_file *file, struct cellar_device *store,
                       uint64_t flushed_bytes)
{
    int error = cellar_sum_scan(file);
    enum cellar_sums_state state;

    if (error != 0) {
        fail(run, "the checksum file can't be scanned", error, 0);
        return;
    }
    state = cellar_sum_judge(file->covered_bytes, file->claimed_bytes, flushed_bytes);
    if (state == CELLAR_SUMS_STALE)
        fail(run, "checksums of cells that are not flushed", 0, file->claimed_bytes);
    else if ((error = cellar_sum_match(file, store)) != 0)
        fail(run, "the last checksum does not hold", error, file->covered_bytes);
    else
        check_blocks(run, file, store, flushed_bytes);
}

bool check_sums(struct world *world, const struct world_file *file, const unsigned char *bytes, uint64_t size_bytes,
                bool died)
{
    int number = (int)(file - world->files), names[FOLDER_NAMES];
    uint64_t failures = world->run->failures, flushed_bytes;
    struct cellar_sum_owner owner = {.identity = cellar_load_le32(bytes + CELLAR_AT_CHECKSUM_ID),
                                     .bytes_per_cell = world->run->config.bytes_per_cell,
                                     .max_index = world->run->config.max_index};
    struct image image = {.kind = &file->disk.kind}, store_image = image;
    struct cellar_sum_file *sums;
    struct cellar_device *store;
    struct cellar_evidence evidence;
    struct cellar_pick pick;

    store_image.bytes = (unsigned char *)(uintptr_t)bytes; /* only read */
    store_image.size_bytes = size_bytes;
    store_image.incarnation = died ? file->disk.incarnation : simdisk_new_incarnation();
    if (image_open(&store_image, &store) != 0)
        abort();
    if (cellar_evidence_gather(store, bytes, owner.bytes_per_cell, size_bytes / owner.bytes_per_cell, false,
                               &evidence) != 0 ||
        cellar_pick_disk(&evidence, &pick, NULL) != 0) {
        cellar_device_close(store);
        return true; /* who opens it says so */
    }
    flushed_bytes = (uint64_t)pick.disk.next_index * owner.bytes_per_cell;
    if (died)
        memcpy(names, world->folder->now, sizeof names);
    else
        folder_image_drawn(world->folder, number, &world->random, names);
    sums = find_file(world, &owner, &image, names, died ? LEFT_BY_DEATH : LEFT_BY_CHANCE);
    /* The image tears sectors: it may have torn both heads. */
    if (sums == NULL && !died)
        sums = find_file(world, &owner, &image, names, LEFT_DURABLE);
    if (sums == NULL) {
        fail(world->run, "the store's checksum file is gone", 0, owner.identity);
        cellar_device_close(store);
        return false;
    }
    check_file(world->run, sums, store, flushed_bytes);
    cellar_device_close(store);
    cellar_sum_close(sums, false);
    return world->run->failures == failures;
}
