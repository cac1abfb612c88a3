#include "model.h"

#include <stdlib.h>
#include <string.h>

uint64_t model_random(uint64_t *state)
{
    uint64_t z = (*state += UINT64_C(0x9e3779b97f4a7c15));

    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

const unsigned char *model_bytes(uint64_t seed, uint32_t length_bytes)
{
    static unsigned char bytes[MODEL_PIECE_BYTES_MAX + 8];

    for (uint32_t at = 0; at < length_bytes; at += 8) {
        uint64_t word = model_random(&seed);

        memcpy(bytes + at, &word, sizeof word);
    }
    return bytes;
}

void model_begin(struct model *model, const struct cellar_config *config)
{
    uint32_t start = (CELLAR_HEADER_BYTES + config->bytes_per_cell - 1) / config->bytes_per_cell;
    struct model_state empty = {.next_index = start, .root_index = CELLAR_ROOT_NONE};

    *model = (struct model){.bytes_per_cell = config->bytes_per_cell, .start_index = start, .version = config->version};
    model->appended = model->committed = model->flushed = model->raised = empty;
}

bool model_append(struct model *model, const struct model_piece *piece)
{
    if (model->piece_count == MODEL_PIECES_MAX)
        return false;
    model->pieces[model->piece_count++] = *piece;
    model->appended.next_index = piece->end_index;
    return true;
}

void model_commit(struct model *model)
{
    model->committed = model->appended;
    model->tried_commit = false;
}

void model_flush(struct model *model)
{
    model->flushed = model->committed;
    model->tried_flush = false;
}

void model_roll_back(struct model *model)
{
    while (model->piece_count > 0 && model->pieces[model->piece_count - 1].end_index > model->committed.next_index)
        model->piece_count--;
    model->appended = model->committed;
}

void model_skip(struct model *model, uint32_t next_index)
{
    while (model->piece_count > 0 && model->pieces[model->piece_count - 1].end_index > next_index)
        model->piece_count--;
}

static bool piece_holds(const struct model_piece *piece, const struct cellar_snapshot *snapshot, int *ret_error)
{
    static unsigned char got[MODEL_PIECE_BYTES_MAX];
    size_t length_bytes = piece->length_bytes;

    if (piece->value_index != 0)
        *ret_error = cellar_snapshot_read_value(snapshot, piece->value_index, got, sizeof got, &length_bytes);
    else
        *ret_error = cellar_snapshot_read(snapshot, piece->first_index, 0, got, piece->length_bytes);
    return *ret_error == 0 && length_bytes == piece->length_bytes &&
           memcmp(got, model_bytes(piece->seed, piece->length_bytes), length_bytes) == 0;
}

const struct model_piece *model_compare(const struct model *model, const struct cellar_snapshot *snapshot,
                                        uint32_t next_index, int *ret_error)
{
    for (unsigned i = 0; i < model->piece_count; i++) {
        if (model->pieces[i].end_index <= next_index && !piece_holds(&model->pieces[i], snapshot, ret_error))
            return &model->pieces[i];
    }
    return NULL;
}
