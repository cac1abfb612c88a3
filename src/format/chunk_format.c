#include "base/bytes.h"
#include "format/format.h"

uint64_t cellar_value_cells(uint32_t bytes_per_cell, uint64_t size_bytes)
{
    uint64_t full_chunks = size_bytes / CELLAR_CHUNK_BYTES_MAX;
    uint32_t rest_bytes = (uint32_t)(size_bytes % CELLAR_CHUNK_BYTES_MAX);
    uint64_t cells = full_chunks * cellar_chunk_cells(bytes_per_cell, CELLAR_CHUNK_BYTES_MAX);

    /* A value of 0 bytes is a chunk of its own; otherwise no empty chunk ends a value. */
    if (rest_bytes > 0 || size_bytes == 0)
        cells += cellar_chunk_cells(bytes_per_cell, rest_bytes);
    return cells;
}

void cellar_footer_encode(const struct cellar_footer *footer, void *ret_bytes)
{
    unsigned char *b = ret_bytes;

    cellar_store_le16(b, (uint16_t)footer->size_bytes);
    cellar_store_le32(b + 2, footer->cdr);
}

struct cellar_footer cellar_footer_decode(const void *bytes)
{
    const unsigned char *b = bytes;

    return (struct cellar_footer){.size_bytes = cellar_load_le16(b), .cdr = cellar_load_le32(b + 2)};
}

int cellar_footer_offset(uint32_t bytes_per_cell, uint32_t last_index, uint32_t next_index, uint64_t *ret_offset)
{
    uint64_t start_bytes = (uint64_t)cellar_start_index(bytes_per_cell) * bytes_per_cell;
    uint64_t end = ((uint64_t)last_index + 1) * bytes_per_cell;

    if (last_index >= next_index || end < start_bytes + CELLAR_FOOTER_BYTES)
        return CELLAR_EBOUNDS;
    *ret_offset = end - CELLAR_FOOTER_BYTES;
    return 0;
}

int cellar_chunk_check(uint32_t bytes_per_cell, uint32_t last_index, const struct cellar_footer *footer,
                       struct cellar_chunk *ret_chunk, const char **ret_expected)
{
    uint32_t start = cellar_start_index(bytes_per_cell);
    uint32_t cells = cellar_chunk_cells(bytes_per_cell, footer->size_bytes);
    const char *expected = NULL;
    uint32_t first = last_index - cells + 1;

    if (last_index < start || cells > last_index - start + 1)
        expected = "a chunk that begins at or after the first usable cell";
    else if (footer->cdr != 0 && (footer->cdr < start || footer->cdr >= first))
        expected = "a cdr that names a usable cell before the chunk, or 0";
    if (expected != NULL) {
        if (ret_expected != NULL)
            *ret_expected = expected;
        return CELLAR_ECORRUPT;
    }
    *ret_chunk = (struct cellar_chunk){
        .first_index = first, .last_index = last_index, .size_bytes = footer->size_bytes, .cdr = footer->cdr};
    return 0;
}
