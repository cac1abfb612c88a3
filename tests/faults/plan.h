/*
 * plan.h - which call fails, and how.
 *
 * Every call that can fail is a site: those of the C library that the wraps (wraps_*.c) stand before, and those of the
 * simulated device (sim.c). While a run is armed each of them is counted; the one that the plan names fails.
 *
 *     plan_begin(&(struct plan_target){.number = 17, .way = 2}, 1);
 *     plan_arm();    result = cellar_writer_flush(writer);    plan_disarm();
 *     plan_fired(0)  the fault that was met, or NULL
 *     plan_end();
 *
 * Threads: the one that began the plan arms and disarms it; calls of other threads count from begin to end.
 */
#ifndef CELLAR_TESTS_FAULTS_PLAN_H
#define CELLAR_TESTS_FAULTS_PLAN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum site {
    SITE_MALLOC,
    SITE_CALLOC,
    SITE_REALLOC,
    SITE_ALIGNED,
    SITE_STRDUP,
    SITE_ASPRINTF,
    SITE_REALPATH,
    SITE_MUTEX_INIT,
    SITE_THREAD,
    SITE_RANDOM,
    SITE_OPEN,
    SITE_FSTAT,
    SITE_STAT,
    SITE_LSTAT,
    SITE_STATX,
    SITE_FSTATFS,
    SITE_READ,
    SITE_PREAD,
    SITE_PWRITE,
    SITE_PWRITEV,
    SITE_PWRITEV2,
    SITE_FSYNC,
    SITE_FDATASYNC,
    SITE_MSYNC,
    SITE_FALLOCATE,
    SITE_FTRUNCATE,
    SITE_FCNTL,
    SITE_RENAMEAT2,
    SITE_RENAME,
    SITE_LINK,
    SITE_UNLINK,
    SITE_FCHOWN,
    SITE_FCHMOD,
    SITE_LSEEK,
    SITE_IOCTL,
    SITE_MMAP,
    SITE_MUNMAP,
    SITE_MADVISE,
    SITE_CLOSE,
    SITE_EVENTFD,
    SITE_EPOLL,
    SITE_RING_INIT,
    SITE_RING_SUBMIT,
    SITE_DEVICE_SIZE,
    SITE_DEVICE_READ,
    SITE_DEVICE_LOAD,
    SITE_DEVICE_WRITE,
    SITE_DEVICE_WRITE_DURABLE,
    SITE_DEVICE_SYNC,
    SITE_DEVICE_GROW,
    SITE_DEVICE_TRIM,
    SITE_DEVICE_LOCK,
    SITE_DEVICE_UNLOCK,
    SITE_DEVICE_WINDOW,
    SITE_DEVICE_INCARNATION,
    SITE_COUNT,
};

enum manner {
    MANNER_FAIL,    /* nothing is done */
    MANNER_SHORT,   /* a part is done, and said */
    MANNER_TORN,    /* a part is done, and the call fails */
    MANNER_AFTER,   /* all is done, and the call fails */
    MANNER_LOST,    /* a sync: nothing reached the disk, and the pages are clean; they can still be read */
    MANNER_EVICTED, /* the same, and what is read from now on is what was on the disk before */
    MANNER_PARTLY,  /* the same, but every other page has reached the disk */
    MANNER_DIED,    /* as LOST, and the process dies in it: what it does from then on has not happened.
                     * On a device in blocks as LOST: there no page cache is in between */
};

/* One way in which a call fails. */
struct fault {
    int error; /* an errno; 0: none */
    enum manner manner;
    bool hidden; /* the caller of the library must not notice */
};

/* The ways of a site, by its man page or by device.h; at least one. */
const struct fault *site_faults(enum site site, unsigned *ret_count);
const char *site_name(enum site site);

/* A sync: where it fails, what it was for has failed. And a call that changes what lies on the device. */
bool site_is_sync(enum site site);
bool site_changes(enum site site);
/* Where it fails the device may not be able to tell since when nothing was lost: then what was committed may be. */
bool site_tells_incarnation(enum site site);
/* Memory, as the caller sees it: -ENOMEM, and nothing has happened. */
bool site_is_memory(enum site site);

/* The number-th call (from 1 on; after the first target: counted from where that one was met) fails by that way, which
 * is taken modulo what the site has where any is set. */
struct plan_target {
    uint64_t number;
    unsigned way;
    bool any;
};

enum { PLAN_TARGETS_MAX = 2 };

void plan_begin(const struct plan_target *targets, unsigned target_count);
void plan_end(void);
void plan_arm(void);
void plan_disarm(void);

/* For a site that is being met: how it shall fail, or NULL. */
const struct fault *plan_meet(enum site site);

/* What the index-th target has met: NULL, it was not. *ret_site may be NULL. */
const struct fault *plan_fired(unsigned index, enum site *ret_site);
unsigned plan_fired_count(void);

/* Whether the first target's call came at all, and how many ways it has: none was fired where way is beyond them. */
bool plan_reached(unsigned *ret_ways);

/* Armed calls so far that change something. */
uint64_t plan_changes(void);

#endif
