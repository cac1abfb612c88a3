/*
 * medium.h - a device whose machine can lose its power: what was stored is in its memory, what was synced on its disk.
 *
 *     struct medium *medium = medium_new(true);
 *     ... a store on medium->device ...
 *     medium_lose_power(medium);        memory is what the disk has, and the incarnation another one
 *
 * tests/crash mixes what may be on the disk in every way; here a test says what is there.
 */
#ifndef CELLAR_TESTS_MEDIUM_H
#define CELLAR_TESTS_MEDIUM_H

#include <cellar/device.h>
#include <stdbool.h>

enum { MEDIUM_BYTES = 1 << 20, MEDIUM_HEADER_BYTES = 256, MEDIUM_SYNCS_MAX = 64, MEDIUM_PAGE_BYTES = 4096 };

struct medium {
    struct cellar_device *device; /* the one to open stores on; medium_reopen makes another of it */
    unsigned char *memory, *disk; /* MEDIUM_BYTES each */
    uint64_t memory_size_bytes, disk_size_bytes;
    uint64_t incarnation;
    int incarnation_error; /* what asking for it gives; 0: the incarnation */
    bool window;
    bool locked;
    uint64_t bytes_read;
    int fail_sync; /* n > 0: the nth sync from now fails, and nothing of it is on the disk */
    /* Pages whose write failed count as clean, as Linux has it: later syncs leave them out until somebody writes there.
     * Without a window alone: a store into it is not noticed. */
    bool lost[MEDIUM_BYTES / MEDIUM_PAGE_BYTES];
    /* Called before each sync; NULL: not. */
    void (*before_sync)(void *user);
    void *before_sync_user;
    /* The header as it stood in memory when a sync began, and how far the sync reached. */
    unsigned char headers[MEDIUM_SYNCS_MAX][MEDIUM_HEADER_BYTES];
    uint64_t ends_bytes[MEDIUM_SYNCS_MAX];
    int sync_count;
    struct cellar_device_ops ops;
};

/* An empty medium, with or without a window; ends with medium_free. */
struct medium *medium_new(bool window);
void medium_free(struct medium *medium);

/* The power is gone: what is not on the disk is lost. */
void medium_lose_power(struct medium *medium);

/* Bytes reach the disk without a sync, as they do sooner or later. */
void medium_write_back(struct medium *medium, uint64_t offset, uint64_t length_bytes);

/* The device is mounted once more: the same caches, and an incarnation of which the upper half alone is the same. */
void medium_mount_again(struct medium *medium);

/* Clean pages leave the memory: after a failed sync it is what the disk has. */
void medium_evict(struct medium *medium);

/* A device over the same medium, as another process has it; its owner closes it. */
struct cellar_device *medium_open(struct medium *medium);

#endif
