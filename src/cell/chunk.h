/* chunk.h - values of any size as chains of chunks, see docs/format.md. */
#ifndef CELLAR_CELL_CHUNK_H
#define CELLAR_CELL_CHUNK_H

#include "cell/cells.h"
#include "format/format.h"

/* The largest sum of parts, or UINT64_MAX where it doesn't fit 63 bits. */
uint64_t cellar_parts_bytes(const struct iovec *parts, int part_count);

/* Writes the value into cells that were taken for it: cellar_value_cells of its size, from first_index on, whose
 * padding becomes zeros: a committed cell has no byte that nobody wrote. *ret_index names the value. */
int cellar_chunk_write(struct cellar_cells *cells, uint32_t first_index, const struct iovec *parts, int part_count,
                       uint32_t *ret_index);

/* A walk along a chain, from the last chunk to the first. */
struct cellar_chain {
    struct cellar_cells *cells;
    uint32_t next_index; /* the snapshot's */
    uint32_t at_index;   /* the last cell of the chunk to come; 0: the chain has ended */
    bool begun;
    uint64_t problem_offset; /* after CELLAR_ECORRUPT: where, and what was expected */
    const char *problem_expected;
};

void cellar_chain_begin(struct cellar_chain *chain, struct cellar_cells *cells, uint32_t index, uint32_t next_index);

/* 0: *ret_chunk is the next chunk. CELLAR_NONE: there are no more. CELLAR_EBOUNDS: the index that the walk began with
 * is no cell of the snapshot. CELLAR_ECORRUPT. Errors of the device. */
int cellar_chain_step(struct cellar_chain *chain, struct cellar_chunk *ret_chunk);

#endif
