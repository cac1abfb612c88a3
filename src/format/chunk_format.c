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
