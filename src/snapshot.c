/* snapshot.c - reading through a snapshot. */
#include "base/diagnose.h"
#include "cell/chunk.h"

#include <cellar/store.h>
#include <errno.h>
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

/* The size and the number of chunks of a value, by its chain. */
static int measure(const struct cellar_snapshot *snapshot, uint32_t index, struct cellar_chain *chain,
                   uint64_t *ret_size_bytes, size_t *ret_count)
{
    struct cellar_chunk chunk;
    uint64_t size_bytes = 0;
    size_t count = 0;
    int result;

    cellar_chain_begin(chain, snapshot->cells, index, snapshot->next_index);
    while ((result = cellar_chain_step(chain, &chunk)) == 0) {
        size_bytes += chunk.size_bytes;
        count++;
    }
    if (result != CELLAR_NONE)
        return result;
    *ret_size_bytes = size_bytes;
    *ret_count = count;
    return 0;
}

int cellar_snapshot_value_size(const struct cellar_snapshot *snapshot, uint32_t index, uint64_t *ret_size_bytes)
{
    struct cellar_chain chain;
    size_t count;

    return measure(snapshot, index, &chain, ret_size_bytes, &count);
}

int cellar_snapshot_value_piece_count(const struct cellar_snapshot *snapshot, uint32_t index, size_t *ret_count)
{
    struct cellar_chain chain;
    uint64_t size_bytes;

    return measure(snapshot, index, &chain, &size_bytes, ret_count);
}

/* Copies a value of size_bytes, which was measured: from its end to its beginning, as the chain goes. */
static int copy_out(const struct cellar_snapshot *snapshot, uint32_t index, unsigned char *buffer, uint64_t size_bytes)
{
    struct cellar_chain chain;
    struct cellar_chunk chunk;
    int result;

    cellar_chain_begin(&chain, snapshot->cells, index, snapshot->next_index);
    while ((result = cellar_chain_step(&chain, &chunk)) == 0) {
        if (chunk.size_bytes > size_bytes)
            return CELLAR_ECORRUPT; /* it changed under us: no store does that */
        size_bytes -= chunk.size_bytes;
        result = cellar_cells_read(snapshot->cells, (uint64_t)chunk.first_index * snapshot->bytes_per_cell,
                                   buffer + size_bytes, chunk.size_bytes);
        if (result != 0)
            return result;
    }
    if (result != CELLAR_NONE)
        return result;
    return size_bytes == 0 ? 0 : CELLAR_ECORRUPT;
}

int cellar_snapshot_read_value(const struct cellar_snapshot *snapshot, uint32_t index, void *buffer,
                               size_t capacity_bytes, size_t *ret_size_bytes)
{
    uint64_t size_bytes;
    int error = cellar_snapshot_value_size(snapshot, index, &size_bytes);

    if (error != 0)
        return error;
    if (size_bytes > capacity_bytes)
        return -ERANGE;
    error = copy_out(snapshot, index, buffer, size_bytes);
    if (error == 0)
        *ret_size_bytes = (size_t)size_bytes;
    return error;
}

int cellar_snapshot_copy_value(const struct cellar_snapshot *snapshot, uint32_t index, void **ret_bytes,
                               size_t *ret_size_bytes)
{
    uint64_t size_bytes;
    void *bytes;
    int error = cellar_snapshot_value_size(snapshot, index, &size_bytes);

    if (error != 0)
        return error;
    if (size_bytes > SIZE_MAX / 2)
        return -ENOMEM;
    bytes = malloc(size_bytes > 0 ? (size_t)size_bytes : 1);
    if (bytes == NULL)
        return -ENOMEM;
    error = copy_out(snapshot, index, bytes, size_bytes);
    if (error != 0) {
        free(bytes);
        return error;
    }
    *ret_bytes = bytes;
    *ret_size_bytes = (size_t)size_bytes;
    return 0;
}

int cellar_snapshot_value_pieces(const struct cellar_snapshot *snapshot, uint32_t index, struct cellar_piece *pieces,
                                 size_t capacity, size_t *ret_count)
{
    struct cellar_chain chain;
    struct cellar_chunk chunk;
    uint64_t size_bytes;
    size_t count, left;
    int result;

    if (snapshot->window == NULL)
        return -ENOTSUP;
    result = measure(snapshot, index, &chain, &size_bytes, &count);
    if (result != 0)
        return result;
    *ret_count = count;
    if (count > capacity)
        return -ERANGE;
    left = count;
    cellar_chain_begin(&chain, snapshot->cells, index, snapshot->next_index);
    while (left > 0 && (result = cellar_chain_step(&chain, &chunk)) == 0) {
        left--;
        pieces[left].bytes = snapshot->window + (uint64_t)chunk.first_index * snapshot->bytes_per_cell;
        pieces[left].length_bytes = chunk.size_bytes;
    }
    return left == 0 ? 0 : CELLAR_ECORRUPT;
}

int cellar_snapshot_check_value(const struct cellar_snapshot *snapshot, uint32_t index,
                                struct cellar_diagnostic *ret_diagnostic)
{
    struct cellar_chain chain;
    uint64_t size_bytes;
    size_t count;
    int error = measure(snapshot, index, &chain, &size_bytes, &count);

    if (error == CELLAR_EBOUNDS)
        return cellar_diagnose(ret_diagnostic, error, NULL, CELLAR_OFFSET_NONE,
                               "found index %u, expected a cell from %u to below %u", index, snapshot->start_index,
                               snapshot->next_index);
    if (error == CELLAR_ECORRUPT)
        return cellar_diagnose(ret_diagnostic, error, NULL, chain.problem_offset,
                               "found a broken chunk at cell %u, expected %s", chain.at_index, chain.problem_expected);
    if (error != 0)
        return cellar_diagnose(ret_diagnostic, error, NULL, CELLAR_OFFSET_NONE, "%s", cellar_strerror(error));
    return 0;
}
