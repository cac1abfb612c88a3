/*
 * kill.h - what the processes of the kill campaign share.
 *
 * A writer process works until it is killed, at any moment: the next one must find the last commit that returned, or
 * the one that was being made, whole, and everything before it. Meanwhile reader processes follow.
 */
#ifndef CELLAR_TESTS_KILL_H
#define CELLAR_TESTS_KILL_H

#include "sealed.h"
#include "store_fixture.h"

#include <stdatomic.h>

enum { KILL_MAX_INDEX = 60000, KILL_KEYS = 3, KILL_EXIT_WRONG = 1, KILL_EXIT_FULL = 2 };

/* What a writer is doing. */
enum kill_step {
    KILL_OPEN,
    KILL_APPEND,
    KILL_COMMIT,
    KILL_FLUSH,
    KILL_TRUNCATE,
    KILL_CLOSE,
    KILL_STEP_COUNT,
};

/* Memory that all processes share, for the time of one store. */
struct kill_board {
    /* States as root << 32 | next. The last commit that returned, and the one that is being made or was. */
    atomic_ullong done, doing;
    atomic_uint flushed_next; /* of the last flush that returned */
    atomic_uint generation;   /* odd while the store is being truncated, and until it is known how that ended */
    atomic_uint last_id;      /* of commits */
    atomic_uint step;         /* enum kill_step */
    atomic_bool stop;         /* for the readers */
    /* Since the program began. Words: commits by the word, and snapshots that were found by it. */
    atomic_ullong appended_cells, commits, verified, snapshots, opens, summed_bytes, word_commits, word_snapshots;
    uint32_t known_next; /* the writers' struct sealed_memory */
    uint32_t ids[KILL_MAX_INDEX];
};

/* How a store and its writers are. */
struct kill_plan {
    struct store_fixture *f;
    struct kill_board *board;
    struct cellar_config config;
    uint64_t resize_step_bytes;
    bool compat;
    bool sums; /* the store has checksums */
};

static inline uint64_t kill_pack(uint32_t next_index, uint32_t root_index)
{
    return (uint64_t)root_index << 32 | next_index;
}

/* The keys by which writers publish in turn. */
struct cellar_key kill_key(uint64_t number);

struct cellar_writer_options kill_options(const struct kill_plan *plan, const struct cellar_key *key);

/* Opens the store, compares what is found with the board, and works on it for good; returns the line of what is wrong,
 * or an error. CELLAR_EINDEXFULL: the store is full, and can't be truncated. */
int kill_write(const struct kill_plan *plan, uint64_t seed);

/* Compares the state and the cells that a writer has found with what was reported. */
int kill_check_found(const struct kill_plan *plan, struct cellar_writer *writer);

enum kill_reader { KILL_FOLLOWER, KILL_FOLLOWER_OTHER_WAY, KILL_DURABLE, KILL_READER_COUNT };

/* Follows until board->stop. */
int kill_read(const struct kill_plan *plan, enum kill_reader kind, uint64_t seed);

#endif
