#include "simdisk.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static const unsigned char *newest(const struct sector *sector)
{
    return sector->versions[sector->version_count - 1];
}

void simdisk_init(struct simdisk *disk)
{
    memset(disk, 0, sizeof *disk);
    for (int i = 0; i < SIMDISK_SECTORS; i++) {
        disk->sectors[i].versions = calloc(SECTOR_VERSIONS_MAX, SECTOR_BYTES);
        if (disk->sectors[i].versions == NULL)
            abort();
        disk->sectors[i].version_count = 1;
    }
}

void simdisk_load(struct simdisk *disk, const unsigned char *bytes, uint64_t size_bytes)
{
    disk->size_bytes = disk->unsynced_size_bytes = size_bytes;
    for (int i = 0; i < SIMDISK_SECTORS; i++) {
        memset(disk->sectors[i].versions[0], 0, SECTOR_BYTES);
        disk->sectors[i].version_count = 1;
    }
    for (uint64_t at = 0; at < size_bytes; at++)
        disk->sectors[at / SECTOR_BYTES].versions[0][at % SECTOR_BYTES] = bytes[at];
}

void simdisk_free(struct simdisk *disk)
{
    for (int i = 0; i < SIMDISK_SECTORS; i++)
        free(disk->sectors[i].versions);
}

uint64_t simdisk_random(uint64_t *state)
{
    uint64_t z = *state += 0x9e3779b97f4a7c15U;

    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9U;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebU;
    return z ^ (z >> 31);
}

static void notify(struct simdisk *disk)
{
    if (disk->event != NULL)
        disk->event(disk->user);
}

static int sim_size(void *state, uint64_t *ret_size_bytes)
{
    *ret_size_bytes = ((struct simdisk *)state)->size_bytes;
    return 0;
}

static ssize_t sim_read(void *state, void *buffer, size_t length_bytes, uint64_t offset)
{
    const struct simdisk *disk = state;
    unsigned char *to = buffer;

    if (offset >= disk->size_bytes)
        return 0;
    if (length_bytes > disk->size_bytes - offset)
        length_bytes = (size_t)(disk->size_bytes - offset);
    for (size_t i = 0; i < length_bytes; i++)
        to[i] = newest(&disk->sectors[(offset + i) / SECTOR_BYTES])[(offset + i) % SECTOR_BYTES];
    return (ssize_t)length_bytes;
}

/* A new version of the sector that the test may change. */
static unsigned char *change(struct sector *sector)
{
    if (sector->version_count == SECTOR_VERSIONS_MAX) /* forgets one in the middle: fewer images, none wrong */
        memmove(sector->versions[1], sector->versions[2], (size_t)(SECTOR_VERSIONS_MAX - 2) * SECTOR_BYTES);
    else
        sector->version_count++;
    memcpy(sector->versions[sector->version_count - 1], sector->versions[sector->version_count - 2], SECTOR_BYTES);
    return sector->versions[sector->version_count - 1];
}

/* The part of a write that falls into one sector: once half done, as the disk may catch it, then whole. What it writes
 * again as it is can't be half done. */
static void write_sector(struct sector *sector, size_t at, const unsigned char *from, size_t length_bytes)
{
    const unsigned char *now = newest(sector) + at;
    size_t first = 0, half_bytes;

    while (first < length_bytes && from[first] == now[first])
        first++;
    while (length_bytes > first && from[length_bytes - 1] == now[length_bytes - 1])
        length_bytes--;
    half_bytes = (first + (length_bytes - first) / 2) / 8 * 8;
    if (half_bytes > first)
        memcpy(change(sector) + at, from, half_bytes);
    if (length_bytes > first)
        memcpy(change(sector) + at, from, length_bytes);
}

static ssize_t sim_write(void *state, uint64_t token, const struct iovec *parts, int part_count, uint64_t offset)
{
    struct simdisk *disk = state;
    uint64_t at = offset;

    (void)token;
    for (int part = 0; part < part_count; part++) {
        const unsigned char *from = parts[part].iov_base;
        size_t left = parts[part].iov_len;

        while (left > 0) {
            size_t in_sector = (size_t)(at % SECTOR_BYTES);
            size_t step = SECTOR_BYTES - in_sector < left ? SECTOR_BYTES - in_sector : left;

            write_sector(&disk->sectors[at / SECTOR_BYTES], in_sector, from, step);
            at += step;
            from += step;
            left -= step;
        }
    }
    notify(disk);
    return (ssize_t)(at - offset);
}

static int sim_sync(void *state, uint64_t token, uint64_t offset, uint64_t length_bytes)
{
    struct simdisk *disk = state;

    (void)token;
    if (disk->fail_sync > 0 && --disk->fail_sync == 0)
        return -EIO;
    if (disk->drop_barriers)
        return 0;
    for (uint64_t i = offset / SECTOR_BYTES; i <= (offset + length_bytes - 1) / SECTOR_BYTES; i++) {
        struct sector *sector = &disk->sectors[i];

        memmove(sector->versions[0], newest(sector), SECTOR_BYTES);
        sector->version_count = 1;
    }
    notify(disk);
    return 0;
}

static ssize_t sim_write_durable(void *state, uint64_t token, const struct iovec *parts, int part_count,
                                 uint64_t offset)
{
    ssize_t put = sim_write(state, token, parts, part_count, offset);
    int error = sim_sync(state, token, offset, (uint64_t)put);

    return error != 0 ? error : put;
}

static uint32_t sim_block_bytes(void *state)
{
    const struct simdisk *disk = state;

    return disk->block_bytes > 0 ? disk->block_bytes : 1;
}

static int sim_grow(void *state, uint64_t token, uint64_t allocate_from, uint64_t size_bytes)
{
    struct simdisk *disk = state;
    uint32_t block_bytes = sim_block_bytes(state);

    (void)token;
    (void)allocate_from;
    size_bytes = (size_bytes + block_bytes - 1) / block_bytes * block_bytes;
    if (size_bytes > SIMDISK_BYTES_MAX)
        return -ENOSPC;
    if (size_bytes <= disk->size_bytes)
        return 0;
    disk->unsynced_size_bytes = disk->size_bytes;
    disk->size_bytes = size_bytes;
    notify(disk);
    disk->unsynced_size_bytes = size_bytes;
    notify(disk);
    return 0;
}

static int sim_close(void *state)
{
    (void)state;
    return 0;
}

int simdisk_open(struct simdisk *disk, struct cellar_device **ret_device)
{
    disk->ops = (struct cellar_device_ops){
        .name = "simulated",
        .block_bytes = sim_block_bytes,
        .size = sim_size,
        .read = sim_read,
        .write = sim_write,
        .write_durable = disk->durable_writes ? sim_write_durable : NULL,
        .sync = sim_sync,
        .grow = sim_grow,
        .close = sim_close,
    };

    return cellar_device_open(&disk->ops, disk, ret_device);
}

uint64_t simdisk_image_count(const struct simdisk *disk)
{
    uint64_t count = disk->size_bytes != disk->unsynced_size_bytes ? 2 : 1;

    for (int i = 0; i < SIMDISK_SECTORS; i++) {
        count *= (uint64_t)disk->sectors[i].version_count;
        if (count > (uint64_t)1 << 40)
            return UINT64_MAX;
    }
    return count;
}

void simdisk_image(const struct simdisk *disk, uint64_t number, uint64_t *random, unsigned char *bytes,
                   uint64_t *ret_size_bytes)
{
    bool two_sizes = disk->size_bytes != disk->unsynced_size_bytes;
    uint64_t draw = random != NULL ? simdisk_random(random) : number;

    *ret_size_bytes = two_sizes && draw % 2 == 1 ? disk->unsynced_size_bytes : disk->size_bytes;
    if (two_sizes)
        number /= 2;
    for (int i = 0; i < SIMDISK_SECTORS; i++) {
        const struct sector *sector = &disk->sectors[i];
        uint64_t count = (uint64_t)sector->version_count;
        uint64_t pick = random != NULL && count > 1 ? simdisk_random(random) % count : number % count;

        number /= count;
        memcpy(bytes + (size_t)i * SECTOR_BYTES, sector->versions[pick], SECTOR_BYTES);
    }
}
