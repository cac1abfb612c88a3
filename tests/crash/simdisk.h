/*
 * simdisk.h - a disk that remembers what a power loss could leave of it.
 *
 * It is a device under the public table, without a window. Each sector of 512 bytes keeps every content that it has had
 * since it was last made durable: the system may have written any of them back, so after a power loss the sector holds
 * any one of them, independently of the others; a write that was half into a sector counts as a content too. That
 * covers writes that are lost, reordered and torn. A change of size is durable when grow returns, as the contract says,
 * and may be lost before. It may have durable writes, and it may be one in blocks.
 */
#ifndef SIMDISK_H
#define SIMDISK_H

#include <cellar/device.h>
#include <stdbool.h>
#include <stdint.h>

enum { SECTOR_BYTES = 512, SECTOR_VERSIONS_MAX = 64, SIMDISK_BYTES_MAX = 256 * 1024 };
enum { SIMDISK_SECTORS = SIMDISK_BYTES_MAX / SECTOR_BYTES };

struct sector {
    int version_count; /* versions[0] is the durable one */
    unsigned char (*versions)[SECTOR_BYTES];
};

struct simdisk {
    uint64_t size_bytes;
    uint64_t unsynced_size_bytes; /* while grow runs: the size before; otherwise size_bytes */
    struct sector sectors[SIMDISK_SECTORS];
    uint32_t block_bytes; /* set before open; 0: it is in bytes */
    bool durable_writes;  /* set before open: it has them; they count as a write and a sync */
    int fail_sync;      /* n > 0: the nth sync from now does nothing and fails, as if the process had died before it */
    bool drop_barriers; /* a mutant: sync does nothing, to see that the test notices */
    void (*event)(void *user); /* called before and after each change, NULL: not */
    void *user;
    struct cellar_device_ops ops;
};

/* An empty disk. Ended by simdisk_free, not by the device's close. */
void simdisk_init(struct simdisk *disk);
/* A disk that holds these bytes, durably. */
void simdisk_load(struct simdisk *disk, const unsigned char *bytes, uint64_t size_bytes);
void simdisk_free(struct simdisk *disk);

/* A device over it; closing leaves the disk. */
int simdisk_open(struct simdisk *disk, struct cellar_device **ret_device);

/* How many images a power loss could leave now; UINT64_MAX for more than 2^40. */
uint64_t simdisk_image_count(const struct simdisk *disk);

/* The image of that number (exhaustive), or with random != NULL one drawn by *random. bytes: SIMDISK_BYTES_MAX. */
void simdisk_image(const struct simdisk *disk, uint64_t number, uint64_t *random, unsigned char *bytes,
                   uint64_t *ret_size_bytes);

/* splitmix64 */
uint64_t simdisk_random(uint64_t *state);

#endif
