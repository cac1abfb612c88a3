/*
 * alloc.h - hands out indices in order and makes sure that their space is really there.
 *
 * Invariant: next <= ready <= max index, and every cell below ready is allocated in the file and below its durable end;
 * so a store into it meets no full disk, and publishing it leaves no header that points past the file after a crash.
 */
#ifndef CELLAR_CELL_ALLOC_H
#define CELLAR_CELL_ALLOC_H

#include "cell/header.h"

#include <cellar/device.h>
#include <stdbool.h>
#include <stdint.h>

struct cellar_alloc {
    struct cellar_device *device;
    struct cellar_header *header; /* of the store there, which says that a sync is under way; NULL: nothing does */
    uint32_t bytes_per_cell;
    uint32_t next_index;
    uint32_t mark_index;  /* at most ready: up to here its user asks for no room, see ahead.h */
    uint32_t ready_index; /* cells below this may be stored into */
    uint32_t max_index;
    uint32_t step_cells;
    uint32_t most_cells;   /* the file grows by a quarter of its length, at most by this, at least by a step */
    uint64_t window_bytes; /* 0: no window, no limit */
    uint64_t file_bytes;   /* the length of the file */
};

/* True for the errors of a device that has no room: nothing happened, and less may fit. */
bool cellar_alloc_is_full(int error);

/* True for errors of a take after which the store is as it was. Any other came from a sync, or from a file that was
 * cut. */
bool cellar_alloc_is_harmless(int error);

/* The cells of one step; at least one. */
uint32_t cellar_alloc_step_cells(uint64_t step_bytes, uint32_t bytes_per_cell);

/*
 * Makes the next cell_count (> 0) indices ready. CELLAR_EINDEXFULL; CELLAR_EWINDOW; CELLAR_ECORRUPT: the file was cut;
 * errors of growing the device. Nothing changes on failure.
 */
int cellar_alloc_prepare(struct cellar_alloc *alloc, uint64_t cell_count);

/* The same, and takes them. */
int cellar_alloc_take(struct cellar_alloc *alloc, uint64_t cell_count, uint32_t *ret_first_index);

/* Cells below ready_index are allocated, durably: somebody else saw to that. */
void cellar_alloc_learn(struct cellar_alloc *alloc, uint32_t ready_index);

/* The cells by which a file grows that is ready up to there; a whole number of steps. */
uint32_t cellar_alloc_stretch(const struct cellar_alloc *alloc, uint32_t ready_index);

/* No cell at or beyond this ever gets ready. */
uint32_t cellar_alloc_limit(const struct cellar_alloc *alloc);

/* Grows by a stretch, ahead of need: by all of it, or not at all. CELLAR_NONE: there is no room before the limit. */
int cellar_alloc_extend(struct cellar_alloc *alloc);

#endif
