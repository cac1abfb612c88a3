/*
 * sim.h - a simulated disk under a simulated page cache, as a device whose every call is a site of the plan.
 *
 * What is written, or stored into the window, is in the cache and dirty; a sync writes the dirty pages of its range to
 * the disk. After a sync that fails pages are clean all the same, as Linux has it: they are lost, no later sync writes
 * them unless they are dirtied again. They can be read until the cache drops them (evicted), and then are what the disk
 * has. Stores into the window are noticed by protection: the first one into a clean page is a fault.
 *
 * Sizes are durable at once, as the contract has it for growing. One thread at a time.
 */
#ifndef CELLAR_TESTS_FAULTS_SIM_H
#define CELLAR_TESTS_FAULTS_SIM_H

#include <cellar/device.h>
#include <stdbool.h>
#include <stdint.h>

enum { SIM_CAPACITY_BYTES = 2 << 20, SIM_PAGE_BYTES = 4096, SIM_PAGES = SIM_CAPACITY_BYTES / SIM_PAGE_BYTES };

/* What of the device is there. */
struct sim_traits {
    bool window, durable_writes;
    uint32_t block_bytes; /* 0: 1 */
    uint64_t fixed_bytes; /* of this size, and cannot grow; 0: begins empty */
};

struct sim {
    struct sim_traits traits;
    unsigned char *bytes;  /* the cache, SIM_CAPACITY_BYTES */
    unsigned char *window; /* the same memory where it is lent for stores */
    unsigned char *disk;
    uint64_t size_bytes;
    uint64_t incarnation;           /* another one after every loss of the cache */
    unsigned char dirty[SIM_PAGES]; /* 1: will be written by a sync */
    unsigned char lost[SIM_PAGES];  /* 1: clean, and not what is on the disk */
    unsigned locks;                 /* the writer's: held */
    bool sync_failed;               /* since the last sim_begin */
    struct sim *grave;              /* what a process that died has left, where there is one; NULL: not asked for */
    bool died;                      /* it is there */
};

/* Makes one, once for the program: it stays until the end. crash is called from the signal handler for a SIGSEGV that
 * is no store into a window, just before it ends the program; NULL: nothing is. Aborts where there is no memory. */
void sim_make(struct sim *sim, void (*crash)(int number));

/* An empty one, new for each run. */
void sim_begin(struct sim *sim, const struct sim_traits *traits);

/* A device on it. Any number may be open; closing leaves sim as it is. */
int sim_open(struct sim *sim, bool writable, struct cellar_device **ret_device);

enum sim_image {
    SIM_KEPT,    /* the cache goes on: a process has died */
    SIM_EVICTED, /* and has dropped what is clean */
    SIM_POWER,   /* what is on the disk alone */
    SIM_IMAGE_COUNT,
};

/* Makes to what from would be: dirty and lost pages stay so while the cache does. Locks are gone. */
void sim_copy(struct sim *to, const struct sim *from, enum sim_image image);

/* The same in place. */
void sim_happen(struct sim *sim, enum sim_image image);

#endif
