/* Which bytes of a file the operations of a log wrote. */
#include "golden.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { CHUNK_BYTES_MAX = 65535, FOOTER_BYTES = 6 };

static void mark(struct written *written, uint64_t at, size_t length)
{
    size_t end = (size_t)at + length;
    if (end > written->length) {
        bool *map = realloc(written->map, end * sizeof(bool));
        if (map == NULL) {
            fprintf(stderr, "conformance: out of memory\n");
            exit(2);
        }
        memset(map + written->length, 0, (end - written->length) * sizeof(bool));
        written->map = map;
        written->length = end;
    }
    for (size_t i = (size_t)at; i < end; i++)
        written->map[i] = true;
}

void written_cell(struct written *written, uint32_t bytes_per_cell, uint32_t index, size_t length)
{
    mark(written, (uint64_t)index * bytes_per_cell, length);
}

void written_value(struct written *written, uint32_t bytes_per_cell, uint32_t last_index, size_t length)
{
    uint64_t end = ((uint64_t)last_index + 1) * bytes_per_cell;
    uint64_t at = end - value_cells(bytes_per_cell, length) * bytes_per_cell;
    do {
        size_t part = length < CHUNK_BYTES_MAX ? length : CHUNK_BYTES_MAX;
        mark(written, at, part);
        at += value_cells(bytes_per_cell, part) * bytes_per_cell;
        mark(written, at - FOOTER_BYTES, FOOTER_BYTES);
        length -= part;
    } while (length > 0);
}

void written_forget(struct written *written, uint32_t bytes_per_cell, uint32_t next_index)
{
    uint64_t length = (uint64_t)next_index * bytes_per_cell;
    if (length < written->length)
        written->length = (size_t)length;
}

bool written_has(const struct written *written, uint64_t at)
{
    return at < written->length && written->map[at];
}

void written_end(struct written *written)
{
    free(written->map);
}
