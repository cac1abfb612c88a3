/*
 * sealed.h - commits that say for themselves whether they are whole, whoever reads them, and whenever.
 *
 * A commit is a run of cells: single cells, then perhaps a value, and as its last cell a seal. Every cell names its
 * index and the commit that it belongs to (its id, a number that no other commit of the test has); the seal says where
 * the commit begins, where its value is, and which root the store has with it. So a reader that knows nothing but
 * a snapshot can walk from seal to seal down to the start, and finds a cell that is missing, of another commit, or
 * half written, and a root that belongs to another next index. And one who remembers the ids that he has seen finds a
 * cell that has changed.
 *
 * A commit may have a second root: the next commit, without a new cell, moves the root there (sealed_move_root).
 *
 * Nothing here asserts; it is for children and threads. What returns an int gives 0, a failure of the library (< 0),
 * or the line of what is wrong (> 0).
 */
#ifndef CELLAR_TESTS_SEALED_H
#define CELLAR_TESTS_SEALED_H

#include <cellar/store.h>

enum { SEALED_BYTES_PER_CELL_MIN = 32, SEALED_CELLS_MAX = 12, SEALED_VALUE_BYTES_MAX = 70000 };

/* What is known of the cells of one store. */
struct sealed_memory {
    uint32_t *ids;       /* of every cell below known_next: room for max_index; its owner's */
    uint32_t known_next; /* cells below were checked; the start index at first */
};

/* Appends a commit's cells and sets its root; does not commit. Where the index is full nothing is appended. */
int sealed_append(struct cellar_writer *writer, uint32_t id, uint64_t *seed);

/* Sets the second root that the last commit allows. Nothing may have been appended since. */
int sealed_move_root(struct cellar_writer *writer);

/* Checks the root and the commits that memory does not know yet, and remembers them. *ret_commits (may be NULL) grows
 * by as many as there were. */
int sealed_check(const struct cellar_snapshot *snapshot, struct sealed_memory *memory, uint64_t *ret_commits);

/* Checks the root and every commit from the start, against memory where that knows it. For a snapshot of any age. */
int sealed_check_all(const struct cellar_snapshot *snapshot, const struct sealed_memory *memory);

#endif
