/* snapshot.c - reading through a snapshot. */
#include "base/diagnose.h"
#include "cell/chunk.h"

#include <cellar/store.h>
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

int cellar_snapshot_read(const struct cellar_snapshot *snapshot, uint32_t index, uint32_t offset_bytes, void *buffer,
                         size_t length_bytes)
{
    uint64_t at = (uint64_t)index * snapshot->bytes_per_cell + offset_bytes;
    uint64_t end = (uint64_t)snapshot->next_index * snapshot->bytes_per_cell;

    if (index < snapshot->start_index || at > end || length_bytes > end - at)
        return CELLAR_EBOUNDS;
    return cellar_cells_read(snapshot->cells, at, buffer, length_bytes);
}

/* Where one chunk's bytes lie. */
struct span {
    uint32_t first_index;
    uint32_t size_bytes;
};

/* The chunks of one value as a walk found them: the first of the array is the value's last. Values of up to 64 chunks
 * (4 MiB) are walked once; of longer ones only the size and the number are kept, and the chain is walked again. */
enum { SPANS_MAX = 64 };

struct layout {
    struct cellar_chain chain;
    uint64_t size_bytes;
    size_t count;
    struct span spans[SPANS_MAX];
};

static int measure(const struct cellar_snapshot *snapshot, uint32_t index, struct layout *layout)
{
    struct cellar_chunk chunk;
    int result;

    layout->size_bytes = 0;
    layout->count = 0;
    cellar_chain_begin(&layout->chain, snapshot->cells, index, snapshot->next_index);
    while ((result = cellar_chain_step(&layout->chain, &chunk)) == 0) {
        if (layout->count < SPANS_MAX)
            layout->spans[layout->count] =
                (struct span){.first_index = chunk.first_index, .size_bytes = chunk.size_bytes};
        layout->size_bytes += chunk.size_bytes;
        layout->count++;
    }
    return result == CELLAR_NONE ? 0 : result;
}

/*
 * A value of one chunk, as values of up to 65,535 bytes are, in a window: found by one look at its footer. False says
 * only that it has to be walked: it has more chunks, is broken, or lies elsewhere.
 */
static inline bool find_single(const struct cellar_snapshot *snapshot, uint32_t index, struct cellar_chunk *ret_chunk)
{
    struct cellar_footer footer;
    uint64_t offset;

    if (snapshot->window == NULL ||
        cellar_footer_offset(snapshot->bytes_per_cell, index, snapshot->next_index, &offset) != 0)
        return false;
    footer = cellar_footer_decode(snapshot->window + offset);
    return footer.cdr == 0 && cellar_chunk_check(snapshot->bytes_per_cell, index, &footer, ret_chunk, NULL) == 0;
}

int cellar_snapshot_value_size(const struct cellar_snapshot *snapshot, uint32_t index, uint64_t *ret_size_bytes)
{
    struct layout layout;
    int error = measure(snapshot, index, &layout);

    if (error == 0)
        *ret_size_bytes = layout.size_bytes;
    return error;
}

int cellar_snapshot_value_piece_count(const struct cellar_snapshot *snapshot, uint32_t index, size_t *ret_count)
{
    struct layout layout;
    int error = measure(snapshot, index, &layout);

    if (error == 0)
        *ret_count = layout.count;
    return error;
}

static void expect_span(const struct cellar_snapshot *snapshot, uint32_t first_index, uint32_t size_bytes)
{
    cellar_cells_expect(snapshot->cells, (uint64_t)first_index * snapshot->bytes_per_cell, size_bytes);
}

/* Copies bytes that were expected. */
static int copy_span(const struct cellar_snapshot *snapshot, uint32_t first_index, void *buffer, uint32_t size_bytes)
{
    uint64_t offset = (uint64_t)first_index * snapshot->bytes_per_cell;

    if (snapshot->window == NULL)
        return cellar_cells_read(snapshot->cells, offset, buffer, size_bytes);
    memcpy(buffer, snapshot->window + offset, size_bytes);
    return 0;
}

/* A long value: from its end to its beginning, as the chain goes. */
static int copy_backward(const struct cellar_snapshot *snapshot, uint32_t index, unsigned char *buffer,
                         uint64_t size_bytes)
{
    struct cellar_chain chain;
    struct cellar_chunk chunk;
    int result;

    cellar_chain_begin(&chain, snapshot->cells, index, snapshot->next_index);
    while ((result = cellar_chain_step(&chain, &chunk)) == 0) {
        if (chunk.size_bytes > size_bytes)
            return CELLAR_ECORRUPT; /* it changed since it was measured: no store does that */
        size_bytes -= chunk.size_bytes;
        expect_span(snapshot, chunk.first_index, chunk.size_bytes);
        result = copy_span(snapshot, chunk.first_index, buffer + size_bytes, chunk.size_bytes);
        if (result != 0)
            return result;
    }
    if (result != CELLAR_NONE)
        return result;
    return size_bytes == 0 ? 0 : CELLAR_ECORRUPT;
}

/* Copies a value that was measured. */
static int copy_out(const struct cellar_snapshot *snapshot, uint32_t index, const struct layout *layout,
                    unsigned char *buffer)
{
    if (layout->count > SPANS_MAX)
        return copy_backward(snapshot, index, buffer, layout->size_bytes);
    for (size_t i = 0; i < layout->count; i++)
        expect_span(snapshot, layout->spans[i].first_index, layout->spans[i].size_bytes);
    for (size_t i = layout->count; i-- > 0;) {
        int error;

        if (layout->spans[i].size_bytes == 0)
            continue; /* the buffer of an empty value may have no address */
        error = copy_span(snapshot, layout->spans[i].first_index, buffer, layout->spans[i].size_bytes);
        if (error != 0)
            return error;
        buffer += layout->spans[i].size_bytes;
    }
    return 0;
}

int cellar_snapshot_read_value(const struct cellar_snapshot *snapshot, uint32_t index, void *buffer,
                               size_t capacity_bytes, size_t *ret_size_bytes)
{
    struct cellar_chunk chunk;
    struct layout layout;
    int error;

    if (find_single(snapshot, index, &chunk) && chunk.size_bytes <= capacity_bytes) {
        expect_span(snapshot, chunk.first_index, chunk.size_bytes);
        if (chunk.size_bytes > 0) /* the buffer of an empty value may have no address */
            memcpy(buffer, snapshot->window + (uint64_t)chunk.first_index * snapshot->bytes_per_cell, chunk.size_bytes);
        *ret_size_bytes = chunk.size_bytes;
        return 0;
    }
    error = measure(snapshot, index, &layout);
    if (error != 0)
        return error;
    if (layout.size_bytes > capacity_bytes)
        return -ERANGE;
    error = copy_out(snapshot, index, &layout, buffer);
    if (error == 0)
        *ret_size_bytes = (size_t)layout.size_bytes;
    return error;
}

int cellar_snapshot_copy_value(const struct cellar_snapshot *snapshot, uint32_t index, void **ret_bytes,
                               size_t *ret_size_bytes)
{
    struct layout layout;
    void *bytes;
    int error = measure(snapshot, index, &layout);

    if (error != 0)
        return error;
    if (layout.size_bytes > SIZE_MAX / 2)
        return -ENOMEM;
    bytes = malloc(layout.size_bytes > 0 ? (size_t)layout.size_bytes : 1);
    if (bytes == NULL)
        return -ENOMEM;
    error = copy_out(snapshot, index, &layout, bytes);
    if (error != 0) {
        free(bytes);
        return error;
    }
    *ret_bytes = bytes;
    *ret_size_bytes = (size_t)layout.size_bytes;
    return 0;
}

static struct cellar_piece piece_of(const struct cellar_snapshot *snapshot, uint32_t first_index, uint32_t size_bytes)
{
    return (struct cellar_piece){.bytes = snapshot->window + (uint64_t)first_index * snapshot->bytes_per_cell,
                                 .length_bytes = size_bytes};
}

int cellar_snapshot_value_pieces(const struct cellar_snapshot *snapshot, uint32_t index, struct cellar_piece *pieces,
                                 size_t capacity, size_t *ret_count)
{
    struct layout layout;
    struct cellar_chunk chunk;
    size_t left;
    int error;

    if (snapshot->window == NULL)
        return -ENOTSUP;
    if (capacity > 0 && find_single(snapshot, index, &chunk)) {
        pieces[0] = piece_of(snapshot, chunk.first_index, chunk.size_bytes);
        *ret_count = 1;
        return 0;
    }
    error = measure(snapshot, index, &layout);
    if (error != 0)
        return error;
    *ret_count = left = layout.count;
    if (layout.count > capacity)
        return -ERANGE;
    if (layout.count <= SPANS_MAX) {
        for (size_t i = 0; i < layout.count; i++)
            pieces[i] = piece_of(snapshot, layout.spans[layout.count - 1 - i].first_index,
                                 layout.spans[layout.count - 1 - i].size_bytes);
        return 0;
    }
    cellar_chain_begin(&layout.chain, snapshot->cells, index, snapshot->next_index);
    while (left > 0 && cellar_chain_step(&layout.chain, &chunk) == 0) {
        left--;
        pieces[left] = piece_of(snapshot, chunk.first_index, chunk.size_bytes);
    }
    return left == 0 ? 0 : CELLAR_ECORRUPT;
}

CELLAR_COLD int cellar_snapshot_check_value(const struct cellar_snapshot *snapshot, uint32_t index,
                                            struct cellar_diagnostic *ret_diagnostic)
{
    struct layout layout;
    int error = measure(snapshot, index, &layout);

    if (error == CELLAR_EBOUNDS)
        return cellar_diagnose(ret_diagnostic, error, NULL, CELLAR_OFFSET_NONE,
                               "found index %u, expected a cell from %u to below %u", index, snapshot->start_index,
                               snapshot->next_index);
    if (error == CELLAR_ECORRUPT)
        return cellar_diagnose(ret_diagnostic, error, NULL, layout.chain.problem_offset,
                               "found a broken chunk at cell %u, expected %s", layout.chain.at_index,
                               layout.chain.problem_expected);
    if (error != 0)
        return cellar_diagnose(ret_diagnostic, error, NULL, CELLAR_OFFSET_NONE, "%s", cellar_strerror(error));
    return 0;
}
