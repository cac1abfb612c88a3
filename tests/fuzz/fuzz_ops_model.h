/* fuzz_ops_model.h - the store that the input works on, and what a plain array says it should hold. */
#ifndef CELLAR_TESTS_FUZZ_OPS_MODEL_H
#define CELLAR_TESTS_FUZZ_OPS_MODEL_H

#include "fuzz_device.h"

#include "format/format.h"

#include <cellar/store.h>

enum { OPS_VALUES_MAX = 16, OPS_SNAPSHOTS_MAX = 3, OPS_TRIED_MAX = 4, OPS_WRITE_BYTES_MAX = 70000 };

struct ops_value {
    uint32_t index, number; /* its bytes are those that number names, see fuzz_fill */
    size_t length_bytes;
};

struct ops_model {
    struct fuzz_device fuzz;
    struct cellar_device *device;
    struct fuzz_input *input;
    struct cellar_config config;
    uint32_t start;
    uint64_t limit_bytes; /* the device grows up to this */

    /* What is in the cells. defined: 0 for bytes that hold whatever was there, until they are committed. */
    unsigned char *bytes, *defined;
    struct cellar_state now, committed, flushed;
    struct ops_value values[OPS_VALUES_MAX]; /* in the order of their indices */
    size_t value_count;
    unsigned long_looks; /* at long values, of which not each is made */

    /* The roots of flushes that failed since the last one that did not: their records may be found all the same, when
     * the device is another one. */
    uint32_t tried_roots[OPS_TRIED_MAX];
    unsigned tried_count;
    bool lost_boot; /* the device is another one since the writer was opened: what it wrote may be lost */
    bool failed;    /* a wrong answer of the device has reached the writer: it is to be opened again */

    struct cellar_writer_options options;
    struct cellar_writer *writer;
    struct cellar_reader *follower, *durable; /* of commits, of flushes */
    struct cellar_snapshot old[OPS_SNAPSHOTS_MAX];
    unsigned char *buffer; /* OPS_WRITE_BYTES_MAX and some cells */
};

static inline uint32_t ops_below(struct ops_model *m, uint32_t limit)
{
    return fuzz_below(m->input, limit);
}

static inline bool ops_same(const struct cellar_state *a, const struct cellar_state *b)
{
    return a->next_index == b->next_index && a->root_index == b->root_index;
}

/* ---- fuzz_ops_model.c ---- */

/* Makes a store and its readers as the input says; end checks all of it once more and closes. */
void ops_begin(struct ops_model *m, struct fuzz_input *input);
void ops_end(struct ops_model *m);

/* The bytes of the file from offset on are these; or any. */
void ops_define(struct ops_model *m, uint64_t offset, const void *bytes, size_t length_bytes);
void ops_undefine(struct ops_model *m, uint32_t first_index, uint32_t cell_count);

/* A commit was done, or close made one: bytes that nobody defined are what they are from now on. */
void ops_note_commit(struct ops_model *m);

/* Values whose cells are gone are forgotten. */
void ops_forget_values(struct ops_model *m);

/* The writer ends without a commit, and another one begins. */
void ops_open_again(struct ops_model *m);

/* Whether a call did what it should: with a device that answers rightly, the result is the expected one. */
bool ops_went_well(struct ops_model *m, int result, int expected);

/* Cells first..first + count - 1 hold what the model says. */
void ops_check_cells(struct ops_model *m, const struct cellar_snapshot *snapshot, uint32_t first, uint32_t count);
/* A few cells of what the writer has, and of what the readers see. */
void ops_check(struct ops_model *m);
/* Everything. */
void ops_check_all(struct ops_model *m);

#endif
