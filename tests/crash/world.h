/*
 * world.h - a store on a simulated disk, what its user knows of it, and what may therefore be found after a crash.
 *
 * A world does work (work.c), and at every event of its disk all or some of the images that a power loss could leave
 * are checked against the model, and so is what a process that dies there leaves to the next (check.c). For some of
 * them the store is opened in a world of its own, which goes on and loses power again (second.c).
 */
#ifndef CRASH_WORLD_H
#define CRASH_WORLD_H

#include "random.h"
#include "simdisk.h"

#include <cellar/store.h>
#include <stdbool.h>
#include <stdint.h>

enum { MAYBE_MAX = 32, VALUES_MAX = 16, FILES_MAX = 12, DEPTH_MAX = 3, FOLLOWERS = 3 };

struct state {
    uint32_t next_index, root_index;
};

/* What the user of a store knows. */
struct model {
    unsigned char *cells; /* as they were committed; SIMDISK_BYTES_MAX */
    bool *skipped;        /* by a recovery: their content is nobody's promise; one for each cell */
    uint32_t bytes_per_cell, start_index;
    struct state flushed;          /* the last one that a flush which succeeded made durable */
    struct state maybe[MAYBE_MAX]; /* others that may be: of a flush in progress, or of one that failed */
    int maybe_count;
    struct state committed, committing; /* committing: of a commit in progress */
    bool in_commit;
    uint32_t published_next;   /* the largest that a slot ever said */
    bool opening;              /* a writer is being opened: it may raise the next index of the disk-sync state */
    struct state opening_disk; /* which was this */
    bool bound;                /* a writer with an incarnation has published: its committed state outlives it */
    bool suspect;              /* a sync failed, and no writer has been opened since */
    uint32_t values[VALUES_MAX], value_count; /* that may become the root again */
    struct cellar_key key;                    /* of the last writer */
    bool rekeyed;                             /* another one is being opened, with another key */
    uint32_t version, new_version;            /* of the config; differ while it is being changed */
};

/* The store's file, or what was under its name, or will be. */
struct world_file {
    bool used;         /* disk and model are there */
    bool may_be_named; /* a crash may leave it under the store's name; else it is free, or was replaced */
    struct simdisk disk;
    struct model model;
};

/* How a world's stores are made and opened; the same for all worlds of a run. */
struct mode {
    const char *name;
    struct simdisk_kind disk;
    bool by_path; /* in a simulated folder (folder.c), else on a device */
    enum cellar_device_choice choice;
    bool compat;
    bool failing;    /* every other flush fails */
    bool every_sync; /* with failing: not flushes alone, all that syncs */
    bool large;      /* values of several chunks */
    bool sums;       /* with checksums */
    bool ahead;      /* the writer has a helper */
};

/* One run: a mode and a seed. */
struct run {
    const struct mode *mode;
    uint64_t seed, random;
    struct simdisk_kind disk;
    struct cellar_config config;
    bool can_exchange;         /* the file system exchanges names */
    bool folder_syncs_nothing; /* a lie, to see that the test notices it */
    uint64_t images, deaths, failures;
    uint64_t recorded; /* images whose disk-sync state was in a record alone */
    const char *doing;
    bool quiet;
};

struct folder; /* folder.h */

/* A reader with the key of the writer that was there when it came. */
struct follower {
    struct cellar_reader *reader; /* NULL: none */
    struct cellar_device *device;
    struct cellar_key key;
    struct state state; /* as it saw it last */
};

struct world {
    struct run *run;
    uint64_t random;
    int depth; /* 0: the first; each crash that is followed by more work adds one */
    struct world_file files[FILES_MAX];
    int current;           /* the file that the store is on */
    int fresh;             /* in a folder: the one that was made last */
    bool created;          /* the store's creation has returned */
    struct folder *folder; /* NULL: on a device */
    struct cellar_device *device;
    struct cellar_writer *writer;
    bool quiet;       /* no images now */
    bool in_flush;    /* of the writer: its helper may take steps meanwhile */
    bool in_truncate; /* readers of the file may be told at any moment */
    struct follower followers[FOLLOWERS];
    uint64_t follow_random;
    unsigned char *image, *scratch;
    uint64_t second_budget; /* so many more images are worth a world of their own */
    /* The checksum file that check_sums looked at last, under that name; none: FOLDER_NAMES. */
    unsigned char *sums;
    uint64_t sums_bytes;
    int sums_name;
};

/* A run ends with its first failure. */
static inline bool run_stopped(const struct run *run)
{
    return run->failures > 0;
}

/* ---- model.c ---- */

void model_init(struct model *model, const struct cellar_config *config);
/* As init, once more. */
void model_reset(struct model *model, const struct cellar_config *config);
void model_free(struct model *model);
void model_copy(struct model *to, const struct model *from);

static inline bool state_equal(struct state a, struct state b)
{
    return a.next_index == b.next_index && a.root_index == b.root_index;
}

/* Whether a disk-sync state may be found: it was flushed, or may have been. */
bool model_may_be_durable(const struct model *model, struct state state);
/* The part of such a state whose cells must be there: all but what a recovery skipped. */
struct state model_promised(const struct model *model, struct state disk);
/* A flush of it begins. */
void model_add_maybe(struct model *model, struct state state);
/* Whether a writer may open on it after a power loss, with this disk-sync state. */
bool model_explains_lost(const struct model *model, struct state disk, struct state opened);
/* The same after the death of the process; *ret_whole: the committed state was kept, or the one in progress. */
bool model_explains_died(const struct model *model, struct state disk, struct state opened, bool *ret_whole);

/* What is about to be committed: from now on it may be in a slot. */
void model_remember(struct run *run, struct model *model, struct cellar_writer *writer);
/* A writer is about to be opened on a file whose disk-sync state is disk. */
void model_begin_opening(struct model *model, struct state disk);
/* The power was lost, and this disk-sync state was left. */
void model_lose_power(struct model *model, struct state disk);
/* A writer was opened on this; whole: with all cells of a committed state. */
void model_adopt(struct model *model, struct state disk, struct state opened, bool whole, bool bound);

/* ---- check.c ---- */

void fail(struct run *run, const char *what, int error, uint64_t number);

/* The options that every writer of a run gets; the key must stay until it is opened. */
struct cellar_writer_options world_options(const struct run *run, const struct cellar_key *key);
/* A key that no writer had. */
struct cellar_key world_new_key(struct run *run);

/* The cells below state's next index, and the value that its root names. */
void check_cells(struct run *run, const struct model *model, const struct cellar_snapshot *snapshot,
                 struct state state);
/* What a reader of the disk-sync state finds on a device; *ret_disk: what a writer does. */
bool check_reader(struct run *run, const struct model *model, struct cellar_device *device, struct state *ret_disk);

/* Opens an image for read and for write, and changes its bytes. False: it was not as it must be. */
bool check_image(struct world *world, const struct world_file *file, unsigned char *bytes, uint64_t size_bytes,
                 bool died, struct state *ret_disk);

/* ---- sums.c ---- */

/* An image of the store's file, before it is opened, together with one of its checksum file. False: they were not as
 * they must be. */
bool check_sums(struct world *world, const struct world_file *file, const unsigned char *bytes, uint64_t size_bytes,
                bool died);

/* ---- helper.c ---- */

/* So many steps of the writer's helper, or as many as there are to take. Where it has none: nothing. */
void world_help(struct world *world, uint32_t steps);

/* ---- follow.c ---- */

/* Readers come: before a writer opens what was left by one that died, and later. */
void world_join_followers(struct world *world);
/* The same after a power loss: until a writer opens they stand at disk sync. */
void world_join_lost_followers(struct world *world);
/* Some of them look, between any two stores. */
void world_follow(struct world *world);
/* A call of the writer's has returned: they look, and see what it did. */
void world_followed(struct world *world);
/* A truncate has returned: they are told, and go. */
void world_retire_followers(struct world *world);
/* They go. */
void world_leave_followers(struct world *world);
/* Pages are evicted. The header may be read again as it was before what readers have seen: they go first. */
void world_evict(struct world *world);

/* ---- events.c ---- */

/* The callback of every disk of a world. */
void world_event(void *user, enum simdisk_event what);

/* All images that may be left now (a sample where they are too many). */
void world_lose_power(struct world *world, uint32_t samples);
/* The next process on what this one leaves. */
void world_die(struct world *world);

/* ---- work.c ---- */

/* A file that nothing leads to, empty; its number. */
void world_use_file(struct world *world, int file); /* disk and model are there */
int world_new_file(struct world *world);
void world_init(struct world *world, struct run *run, uint64_t seed, int depth);
void world_free(struct world *world);
void world_create(struct world *world);
/* Opens the store for write and checks on what. False: that failed, and was reported. */
bool world_open(struct world *world, bool died);
void world_work(struct world *world, int steps);
/* Ends the handles without flushing. */
void world_abandon(struct world *world);

/* ---- second.c ---- */

/* Goes on in a world of its own, from an image of the current file, or (image NULL) from its view, the process being
 * dead. */
void second_from_image(struct world *world, int file, const unsigned char *image, uint64_t size_bytes,
                       struct state disk);
void second_from_death(struct world *world);
void second_free(void);

#endif
