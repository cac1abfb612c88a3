/*
 * world.h - one run: a store on one way, the operations on it, and the judgement of what each gave.
 *
 *     world_begin(&world, way, seed);
 *     for each step: world_step(&world, &step);
 *     world_end(&world);           reopens, compares, counts what is left behind
 *
 * The plan (plan.h) says which call fails meanwhile. What is wrong is kept in world.message, and ends the run.
 */
#ifndef CELLAR_TESTS_FAULTS_WORLD_H
#define CELLAR_TESTS_FAULTS_WORLD_H

#include "model.h"
#include "plan.h"
#include "sim.h"

#include <cellar/store.h>
#include <stdbool.h>
#include <stdint.h>

enum operation {
    OP_END,
    OP_CREATE,
    OP_OPEN,
    OP_OPEN_OR_CREATE,
    OP_APPEND,       /* cells */
    OP_APPEND_BYTES, /* bytes */
    OP_VALUE,        /* bytes */
    OP_VALUE_PARTS,  /* bytes */
    OP_RESERVE,      /* cells */
    OP_REWRITE,      /* the last piece, if it is not committed */
    OP_ROOT,         /* the last piece */
    OP_ROOT_NONE,
    OP_COMMIT,
    OP_FLUSH,
    OP_FLUSH_COMMITTED,
    OP_ROLLBACK,
    OP_TRUNCATE,
    OP_VERSION, /* the new one */
    OP_SNAPSHOT,
    OP_CLOSE,
    OP_ABANDON, /* the writer's process dies: no call of it is armed */
    OP_READER,  /* 1: with the key */
    OP_FOLLOW,  /* process sync on; off again with 1 */
    OP_REFRESH,
    OP_CHECK,
    OP_LOOK, /* the reader reads all */
    OP_READER_CLOSE,
    OP_KEYS,
    OP_CACHE,    /* a cache of its own over the store's device */
    OP_PIPELINE, /* and a pipeline, over another device */
    OP_BREAK,    /* slot so and so is broken by others */
    OP_COUNT,
};

struct step {
    enum operation operation;
    uint32_t amount;
};

/* Where a store lies, and what can fail under it. */
struct way {
    const char *name;
    enum cellar_device_choice choice;
    bool file;
    bool compat, ring;
    bool variant;             /* of another way, for the store much the same */
    struct sim_traits traits; /* of the simulated device, where it is no file */
};

struct world {
    const struct way *way;
    const char *folder;
    char path[4096], other_path[4096];
    struct sim *sim, *copy, *grave; /* the caller's */
    struct cellar_device *device, *reader_device;
    struct cellar_writer *writer;
    struct cellar_reader *reader;
    struct cellar_config config;
    struct cellar_key key;
    struct cellar_diagnostic diagnostic;
    struct model model;
    uint64_t random;
    bool exists;   /* the store was created */
    bool stopped;  /* the writer failed for good: what comes is the end */
    bool poisoned; /* so it did */
    bool reader_retired, reader_has_key;
    struct model_state reader_state;

    enum operation doing;
    unsigned fired_before; /* faults, at the beginning of the step */
    long pieces, threads, mappings;
    int descriptors;
    char message[512]; /* what was wrong; empty: nothing */
};

/* folder, sim, copy and grave must be set before; the rest is made anew. */
void world_begin(struct world *world, const struct way *way, uint64_t seed);
void world_step(struct world *world, const struct step *step);
void world_end(struct world *world);

const char *operation_name(enum operation operation);

/* ---- between the files of a run ---- */

/* Keeps the first complaint. */
void world_complain(struct world *world, const char *format, ...) __attribute__((format(printf, 2, 3)));
#define WORLD_NEEDS(world, condition, ...)                                                                             \
    do {                                                                                                               \
        if (!(condition))                                                                                              \
            world_complain((world), __VA_ARGS__);                                                                      \
    } while (0)

/* Runs one call of the library with the plan armed. */
#define WORLD_ARMED(result, call)                                                                                      \
    do {                                                                                                               \
        plan_arm();                                                                                                    \
        (result) = (call);                                                                                             \
        plan_disarm();                                                                                                 \
    } while (0)

/*
 * What a call gave: true where it is done. Complains where an error is none that the faults met so far can give, where
 * a hidden fault came out, where a failed sync did not; where the writer is poisoned and must not be, or the other way
 * round. A poisoned writer is tried out in full, closed, and world->writer is NULL.
 */
bool world_judge(struct world *world, int result);

/* True where one of the faults met so far can have led to this error. */
bool world_error_fits(const struct world *world, int error);

/* True where it is sure that what was committed is found as long as the page cache is there: no writer was
 * poisoned, no sync has failed, and the device could always tell that it is the same. */
bool world_keeps_committed(const struct world *world);

struct cellar_writer_options world_writer_options(struct world *world);
struct cellar_reader_options world_reader_options(struct world *world, bool with_key);

/* The reader's and the page room's operations. */
void world_reader_step(struct world *world, const struct step *step);
void world_keys(struct world *world);
void world_cache(struct world *world);
void world_pipeline(struct world *world);

/* Opens the device on sim again, for a writer; nothing on files. */
void world_open_device(struct world *world);
void world_close_writer_side(struct world *world);

/* Looks at the store in every way in which it may come out of the run; everything is closed. */
void world_check_store(struct world *world);

#endif
