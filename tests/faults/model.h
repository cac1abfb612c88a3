/*
 * model.h - what a store must hold: every cell run and value that was appended, and the states that are committed and
 * flushed. Calls that succeed move it; one that fails leaves what it tried beside what was.
 */
#ifndef CELLAR_TESTS_FAULTS_MODEL_H
#define CELLAR_TESTS_FAULTS_MODEL_H

#include <cellar/store.h>
#include <stdbool.h>
#include <stdint.h>

enum { MODEL_PIECES_MAX = 256, MODEL_PIECE_BYTES_MAX = 700000 };

struct model_state {
    uint32_t next_index, root_index;
};

/* Bytes that a seed names, in cells first..end - 1: as they are, or as the value of an index. */
struct model_piece {
    uint32_t first_index, end_index;
    uint32_t value_index; /* 0: no value */
    uint32_t length_bytes;
    uint64_t seed;
};

struct model {
    uint32_t bytes_per_cell, start_index, version;
    struct model_piece pieces[MODEL_PIECES_MAX];
    unsigned piece_count;
    struct model_state appended, committed, flushed;
    struct model_state raised; /* disk sync as an opening has left it that skipped cells: the flushed one, further on */

    /* What a failed call may have brought about, or not. */
    bool tried_commit, tried_flush, tried_version;
    struct model_state trying;
    uint32_t trying_version;
};

/* The next number of the sequence that *state names. */
uint64_t model_random(uint64_t *state);

/* The bytes that a seed names; valid until the next call. length_bytes up to MODEL_PIECE_BYTES_MAX. */
const unsigned char *model_bytes(uint64_t seed, uint32_t length_bytes);

/* An empty store. */
void model_begin(struct model *model, const struct cellar_config *config);

/* A piece that was appended: next is now next_index. False: there is no room for more. */
bool model_append(struct model *model, const struct model_piece *piece);

void model_commit(struct model *model);
void model_flush(struct model *model);
void model_roll_back(struct model *model);

/* Cells from next_index on are never used again: nobody says what they hold. */
void model_skip(struct model *model, uint32_t next_index);

/* The first piece whose bytes below next_index a snapshot does not have, or NULL where all are right. *ret_error: what
 * reading it gave, 0: other bytes. */
const struct model_piece *model_compare(const struct model *model, const struct cellar_snapshot *snapshot,
                                        uint32_t next_index, int *ret_error);

#endif
