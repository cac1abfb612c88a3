/*
 * The header that a log implies, from the results in the log alone: what was the next index, the root and the key at
 * the last commit and the last flush. It is made without the library (its hash comes from libb2 directly), so that the
 * library and this program can't agree on a mistake.
 */
#include "golden.h"
#include <blake2.h>
#include <string.h>

enum {
    HASH_BYTES = 12,
    AT_VERSION = 28,
    AT_PROCESS = CONFIG_BYTES + 2 * SLOT_BYTES,
    SLOT_AT_STATE = 24, /* root, next */
    FOOTER_BYTES = 6,
    CHUNK_BYTES_MAX = 65535,
};

static void put_u32(unsigned char *at, uint32_t number)
{
    for (int i = 0; i < 4; i++)
        at[i] = (unsigned char)(number >> (8 * i));
}

static uint32_t get_u32(const unsigned char *at)
{
    return (uint32_t)at[0] | (uint32_t)at[1] << 8 | (uint32_t)at[2] << 16 | (uint32_t)at[3] << 24;
}

static void slot_encode(struct state state, const struct cellar_key *key, unsigned char *slot)
{
    unsigned char hashed[CELLAR_KEY_BYTES + 8];
    unsigned char *tail = hashed + CELLAR_KEY_BYTES;
    put_u32(tail, state.root_index);
    put_u32(tail + 4, state.next_index);
    memcpy(slot + SLOT_AT_STATE, tail, 8);
    blake2b(slot, tail, NULL, HASH_BYTES, 8, 0);
    if (key == NULL) {
        memcpy(slot + HASH_BYTES, slot, HASH_BYTES);
        return;
    }
    memcpy(hashed, key->bytes, CELLAR_KEY_BYTES);
    blake2b(slot + HASH_BYTES, hashed, NULL, HASH_BYTES, sizeof(hashed), 0);
}

bool slot_is_valid(const void *slot)
{
    const unsigned char *bytes = slot;
    unsigned char hash[HASH_BYTES];
    blake2b(hash, bytes + SLOT_AT_STATE, NULL, HASH_BYTES, 8, 0);
    return memcmp(hash, bytes, HASH_BYTES) == 0;
}

void slots_encode(struct state state, const struct cellar_key *key, void *ret_slots)
{
    unsigned char *slots = ret_slots;
    for (size_t i = 0; i < 4; i++)
        slot_encode(state, i < 2 ? NULL : key, slots + i * SLOT_BYTES);
}

struct state slot_state(const void *slot)
{
    const unsigned char *bytes = slot;
    return (struct state){.root_index = get_u32(bytes + SLOT_AT_STATE),
                          .next_index = get_u32(bytes + SLOT_AT_STATE + 4)};
}

void model_set_version(struct header_model *model, uint32_t version)
{
    put_u32(model->bytes + AT_VERSION, version);
}

void model_create(struct header_model *model, const struct cellar_config *config)
{
    model->config = *config;
    model->state = (struct state){.next_index = start_index_of(config->bytes_per_cell)};
    memcpy(model->bytes, config->head, CELLAR_HEAD_BYTES);
    put_u32(model->bytes + CELLAR_HEAD_BYTES, config->bytes_per_cell);
    put_u32(model->bytes + CELLAR_HEAD_BYTES + 4, config->max_index);
    model_set_version(model, config->version);
    model_flush(model);
}

void model_commit(struct header_model *model)
{
    for (size_t i = 0; i < 2; i++)
        slot_encode(model->state, &model->key, model->bytes + AT_PROCESS + i * SLOT_BYTES);
}

void model_flush(struct header_model *model)
{
    slots_encode(model->state, &model->key, model->bytes + CONFIG_BYTES);
}

struct state model_process_state(const struct header_model *model)
{
    return slot_state(model->bytes + AT_PROCESS);
}

struct state model_disk_state(const struct header_model *model)
{
    return slot_state(model->bytes + CONFIG_BYTES);
}

void config_read(const void *bytes, struct cellar_config *ret_config)
{
    const unsigned char *at = bytes;
    memcpy(ret_config->head, at, CELLAR_HEAD_BYTES);
    ret_config->bytes_per_cell = get_u32(at + CELLAR_HEAD_BYTES);
    ret_config->max_index = get_u32(at + CELLAR_HEAD_BYTES + 4);
    ret_config->version = get_u32(at + AT_VERSION);
}

uint32_t start_index_of(uint32_t bytes_per_cell)
{
    return (CELLAR_HEADER_BYTES + bytes_per_cell - 1) / bytes_per_cell;
}

uint64_t value_cells(uint32_t bytes_per_cell, uint64_t length)
{
    uint64_t cells = 0;
    do {
        uint64_t part = length < CHUNK_BYTES_MAX ? length : CHUNK_BYTES_MAX;
        cells += (part + FOOTER_BYTES + bytes_per_cell - 1) / bytes_per_cell;
        length -= part;
    } while (length > 0);
    return cells;
}
