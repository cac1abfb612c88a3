/*
 * simdisk.h - a disk that remembers what a power loss could leave of it.
 *
 * There are two of everything. The view is what the processes see: the system's page cache, or the memory of the
 * window. The disk is what a power loss leaves: what was made durable, and over it any part of what is pending.
 *
 * What is pending is kept for each line of 64 bytes: all contents that it has had since it was last durable, one for
 * every store into the header (word by word, by way of the hook) and every change of other bytes between two events,
 * torn ones too. That is finer than what any real machine mixes: a sector of 512 bytes or a page of 4096 may be torn,
 * lost, written before another that was changed earlier, or hold lines as they stood at different moments.
 *
 * A change of size is a pending item of its own. Growing is durable when it returns, as the contract says; trimming is
 * not before the next growth.
 *
 * A sync that fails leaves the pages in its range as Linux does: they count as clean, so that a later sync that
 * succeeds does not write them, until somebody stores into them again; and they may be evicted, and read back as the
 * disk has them.
 */
#ifndef CRASH_SIMDISK_H
#define CRASH_SIMDISK_H

#include <cellar/device.h>
#include <stdbool.h>
#include <stdint.h>

enum {
    LINE_BYTES = 64,
    SECTOR_BYTES = 512,
    PAGE_BYTES = 4096,
    HEADER_LINES = 4,
    SIMDISK_BYTES_MAX = 256 * 1024,
    SIMDISK_LINES = SIMDISK_BYTES_MAX / LINE_BYTES,
    SIMDISK_PAGES = SIMDISK_BYTES_MAX / PAGE_BYTES,
    SIMDISK_SIZES_MAX = 16,
    LINE_VERSIONS_MAX = 96,
};

/* A content that a line has had; the versions of a line are a list, the oldest first. */
struct simdisk_version {
    uint32_t next;   /* 0: the last */
    uint32_t moment; /* the event at which it came up */
    unsigned char bytes[LINE_BYTES];
};

struct simdisk_line {
    uint32_t first, last; /* versions; 0: none, the line is durable as it is */
    uint32_t count;
};

/* How the disk is used: set before it is opened. */
struct simdisk_kind {
    uint64_t capacity_bytes; /* it can grow so far; at most SIMDISK_BYTES_MAX */
    uint32_t block_bytes;    /* 1: in bytes */
    uint32_t atom_bytes;     /* pending bytes are counted in blocks of this: 512 or 4096 */
    bool window;             /* it lends one */
    bool durable_writes;
    bool has_incarnation;
    bool fixed; /* it can't grow */
    bool can_trim;
    bool zeroes; /* growing zeroes what it allocates, which the contract allows */
    /* Lies, to see that the test notices them. */
    bool syncs_nothing, grows_nothing;
    bool grow_syncs; /* growing is a sync of all that was written, too, and can fail as one */
};

enum simdisk_event {
    SIMDISK_STORED,  /* something became pending */
    SIMDISK_LOST,    /* a sync failed, and nobody knows yet */
    SIMDISK_BARRIER, /* something is about to become durable */
    SIMDISK_SYNCED,  /* it has become durable */
};

struct simdisk {
    struct simdisk_kind kind;
    unsigned char *view, *seen, *durable; /* SIMDISK_BYTES_MAX each; seen: the view at the last event */
    uint64_t sizes[SIMDISK_SIZES_MAX];    /* [0] is durable, the last one is that of the view */
    int size_count;
    struct simdisk_line lines[SIMDISK_LINES];
    bool lost[SIMDISK_PAGES];         /* clean in the view, but not on the disk */
    struct simdisk_version *versions; /* [0] is not used */
    uint32_t version_count, version_capacity, free_version;
    uint32_t pending[SIMDISK_LINES]; /* the lines that have versions */
    uint32_t pending_count, moment;
    uint64_t incarnation; /* of the view */
    uint64_t *random;
    int fail_sync; /* n > 0: the nth sync from now fails */
    bool locked;
    /* Called at every change, and before and after everything that makes something durable. NULL: not. */
    void (*event)(void *user, enum simdisk_event what);
    void *user;
    struct cellar_device_ops ops;
};

/* An empty disk, to be ended by simdisk_free. random draws whatever the disk does by chance. */
void simdisk_init(struct simdisk *disk, const struct simdisk_kind *kind, uint64_t *random);
void simdisk_free(struct simdisk *disk);

/* The disk holds these bytes, durably, as after a start of the machine: a new incarnation. */
void simdisk_load(struct simdisk *disk, const unsigned char *bytes, uint64_t size_bytes);

/* Makes to, which is initialised, what from is: what is pending there, too. */
void simdisk_copy(struct simdisk *to, const struct simdisk *from);

/* A device over it; closing leaves the disk. */
int simdisk_open(struct simdisk *disk, struct cellar_device **ret_device);

/* The disk that a device was opened on; NULL: it is another device. */
struct simdisk *simdisk_of(const struct cellar_device *device);

/* Notices what was stored into the window since the last event, and reports it. */
void simdisk_notice(struct simdisk *disk);

/* The same after a store into the header: it makes its page dirty also where it changes nothing. */
void simdisk_stored(struct simdisk *disk, uint64_t offset);

/* Somebody stores there: true where that was a page that was clean but not on the disk, and can be stored into now. */
bool simdisk_touched(struct simdisk *disk, const void *address);

/* Evicts pages that are clean but not on the disk: all, or by chance. */
void simdisk_evict(struct simdisk *disk);

static inline uint64_t simdisk_size(const struct simdisk *disk)
{
    return disk->sizes[disk->size_count - 1];
}

/* A number that no disk has had: of a machine that was just started. */
uint64_t simdisk_new_incarnation(void);

/* ---- images: simdisk_image.c ---- */

/* What may be there after a power loss, as a number of choices. */
struct simdisk_choices {
    uint64_t all;  /* every version of every header line, old and new of every other block; UINT64_MAX: too many */
    uint64_t ends; /* old and new of every block */
    uint32_t block_count; /* blocks that are pending; a pending size counts as one */
};

struct simdisk_choices simdisk_choices(const struct simdisk *disk);

/* The image of that number of all, or of ends. bytes: SIMDISK_BYTES_MAX. Returns its size. */
uint64_t simdisk_image_all(const struct simdisk *disk, uint64_t number, unsigned char *bytes);
uint64_t simdisk_image_ends(const struct simdisk *disk, uint64_t number, unsigned char *bytes);

/* One drawn by *random: as the disk stood at one moment, or blocks, or lines, at different ones. */
uint64_t simdisk_image_drawn(const struct simdisk *disk, uint64_t *random, unsigned char *bytes);

#endif
