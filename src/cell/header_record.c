/* header_record.c - the records of checked flushes in the header. cell/record.h says why they can be trusted. */
#include "cell/header.h"
#include "cell/record.h"

#include <cellar/error.h>
#include <errno.h>
#include <string.h>

void cellar_header_start_records(struct cellar_header *header, bool wanted, const struct cellar_state *disk)
{
    header->disk = *disk;
    header->slots_true = false;
    header->checked = wanted && header->incarnation != 0 && header->through_cache && !header->compat;
    header->has_records = (header->flags & CELLAR_FLAG_CHECKED) != 0;
    header->record_ready = !header->has_records;
    header->record_place = 0;
}

int cellar_header_drop_record(struct cellar_header *header, int place)
{
    static const unsigned char zero[CELLAR_RECORD_BYTES];

    return cellar_header_store(header, cellar_record_offset(place), zero, sizeof zero);
}

int cellar_header_drop_records(struct cellar_header *header)
{
    int error = 0;

    if (!header->has_records)
        return 0;
    for (int place = 0; place < CELLAR_RECORD_COUNT && error == 0; place++)
        error = cellar_header_drop_record(header, place);
    if (error == 0)
        error = cellar_header_change_flags(header, 0, CELLAR_FLAG_CHECKED);
    header->has_records = error != 0;
    header->record_ready = error == 0;
    return error;
}

bool cellar_header_takes_record(const struct cellar_header *header, uint32_t bytes_per_cell, uint32_t from_index,
                                uint32_t next_index)
{
    return header->checked && header->record_ready && next_index > header->disk.next_index &&
           cellar_record_fits(bytes_per_cell, from_index, next_index);
}

/* Both slots: readers without the key see the state, and the next barrier makes them durable. */
static int store_slots(struct cellar_header *header, const struct cellar_state *state)
{
    unsigned char slot[CELLAR_SLOT_BYTES];
    int error;

    cellar_slot_encode(state, NULL, slot);
    header->disk_pending = true;
    header->disk = *state;
    header->slots_true = true;
    error = cellar_header_repair(header, CELLAR_DISK_1, slot);
    return error == 0 ? cellar_header_repair(header, CELLAR_DISK_2, slot) : error;
}

void cellar_header_restore_slots(struct cellar_header *header)
{
    if (header->has_records && header->slots_true && header->disk_pending)
        (void)!store_slots(header, &header->disk);
}

static int hash_cells(const struct cellar_header *header, uint32_t bytes_per_cell, struct cellar_record *record)
{
    if (header->window == NULL)
        return cellar_record_hash_read(header->device, bytes_per_cell, record, &record->hash);
    record->hash = cellar_record_hash(record, header->window + (uint64_t)record->from_index * bytes_per_cell,
                                      (size_t)(record->state.next_index - record->from_index) * bytes_per_cell);
    return 0;
}

int cellar_header_persist_checked(struct cellar_header *header, uint32_t bytes_per_cell, uint32_t from_index,
                                  const struct cellar_state *state)
{
    struct cellar_record record = {.from_index = from_index, .state = *state};
    unsigned char bytes[CELLAR_RECORD_BYTES];
    int error = hash_cells(header, bytes_per_cell, &record);

    if (error == -ENOMEM)
        return CELLAR_NONE;
    if (error == 0)
        error = cellar_header_change_flags(header, CELLAR_FLAG_CHECKED, 0);
    if (error == 0) {
        header->has_records = true;
        cellar_record_encode(&record, bytes);
        error = cellar_header_store(header, cellar_record_offset(header->record_place), bytes, sizeof bytes);
    }
    if (error == 0)
        error = cellar_header_barrier(header, (uint64_t)state->next_index * bytes_per_cell);
    if (error != 0)
        return error;
    header->record_place = 1 - header->record_place;
    return store_slots(header, state);
}

int cellar_header_end_records(struct cellar_header *header)
{
    int error;

    if (!header->has_records)
        return 0;
    error = cellar_header_settle(header);
    return error == 0 ? cellar_header_drop_records(header) : error;
}
