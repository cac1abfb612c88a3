#include "cell/chunk.h"

#include <errno.h>

uint64_t cellar_parts_bytes(const struct iovec *parts, int part_count)
{
    uint64_t sum = 0;

    for (int i = 0; i < part_count; i++) {
        if (parts[i].iov_len > (uint64_t)INT64_MAX - sum)
            return UINT64_MAX;
        sum += parts[i].iov_len;
    }
    return sum;
}

/* Where reading the parts has come to. */
struct source {
    const struct iovec *parts;
    int part_count;
    size_t used_bytes; /* of the first part */
};

/* Moves length_bytes from the source to the file. */
static int pour(struct cellar_cells *cells, struct source *source, uint64_t offset, uint64_t length_bytes)
{
    while (length_bytes > 0) {
        size_t left = source->parts->iov_len - source->used_bytes;
        size_t step = left < length_bytes ? left : (size_t)length_bytes;
        int error = 0;

        if (step > 0) /* an empty part may have no address */
            error = cellar_cells_write(cells, offset,
                                       (const unsigned char *)source->parts->iov_base + source->used_bytes, step);
        if (error != 0)
            return error;
        offset += step;
        length_bytes -= step;
        source->used_bytes += step;
        if (source->used_bytes == source->parts->iov_len) {
            source->parts++;
            source->part_count--;
            source->used_bytes = 0;
        }
    }
    return 0;
}

int cellar_chunk_write(struct cellar_cells *cells, uint32_t first_index, const struct iovec *parts, int part_count,
                       uint32_t *ret_index)
{
    struct source source = {.parts = parts, .part_count = part_count};
    uint64_t left_bytes = cellar_parts_bytes(parts, part_count);
    uint32_t bytes_per_cell = cells->bytes_per_cell, cdr = 0;

    do {
        struct cellar_footer footer = {.cdr = cdr};
        unsigned char bytes[CELLAR_FOOTER_BYTES];
        uint64_t begin = (uint64_t)first_index * bytes_per_cell, padding_at, footer_at;
        uint32_t cell_count;
        int error;

        footer.size_bytes = left_bytes < CELLAR_CHUNK_BYTES_MAX ? (uint32_t)left_bytes : CELLAR_CHUNK_BYTES_MAX;
        cell_count = cellar_chunk_cells(bytes_per_cell, footer.size_bytes);
        first_index += cell_count;
        padding_at = begin + footer.size_bytes;
        footer_at = (uint64_t)first_index * bytes_per_cell - CELLAR_FOOTER_BYTES;
        cellar_footer_encode(&footer, bytes);
        error = pour(cells, &source, begin, footer.size_bytes);
        if (error == 0)
            error = cellar_cells_zero(cells, padding_at, (size_t)(footer_at - padding_at));
        if (error == 0)
            error = cellar_cells_write(cells, footer_at, bytes, sizeof bytes);
        if (error != 0)
            return error;
        cdr = first_index - 1;
        left_bytes -= footer.size_bytes;
    } while (left_bytes > 0);
    *ret_index = cdr;
    return 0;
}

void cellar_chain_begin(struct cellar_chain *chain, struct cellar_cells *cells, uint32_t index, uint32_t next_index)
{
    *chain = (struct cellar_chain){.cells = cells, .next_index = next_index, .at_index = index};
}

int cellar_chain_step(struct cellar_chain *chain, struct cellar_chunk *ret_chunk)
{
    uint32_t bytes_per_cell = chain->cells->bytes_per_cell;
    unsigned char bytes[CELLAR_FOOTER_BYTES];
    struct cellar_footer footer;
    struct cellar_chunk chunk;
    uint64_t offset;
    int error;

    if (chain->begun && chain->at_index == 0)
        return CELLAR_NONE;
    error = cellar_footer_offset(bytes_per_cell, chain->at_index, chain->next_index, &offset);
    if (error != 0) {
        chain->problem_offset = (uint64_t)chain->at_index * bytes_per_cell;
        chain->problem_expected = "the last cell of a chunk";
        if (chain->at_index >= cellar_start_index(bytes_per_cell) && chain->at_index < chain->next_index)
            return CELLAR_ECORRUPT; /* a cell, but its chunk would begin in the header */
        return chain->begun ? CELLAR_ECORRUPT : error;
    }
    if (chain->cells->window != NULL) {
        footer = cellar_footer_decode(chain->cells->window + offset);
    } else {
        error = cellar_cells_read(chain->cells, offset, bytes, sizeof bytes);
        if (error != 0)
            return error;
        footer = cellar_footer_decode(bytes);
    }
    error = cellar_chunk_check(bytes_per_cell, chain->at_index, &footer, &chunk, &chain->problem_expected);
    if (error != 0) {
        chain->problem_offset = offset;
        return error;
    }
    chain->begun = true;
    chain->at_index = chunk.cdr;
    *ret_chunk = chunk;
    return 0;
}
