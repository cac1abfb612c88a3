#include "cell/record.h"

#include "base/xxh3.h"

#include <cellar/error.h>
#include <errno.h>
#include <stdlib.h>

uint64_t cellar_record_hash(const struct cellar_record *record, const void *cells, size_t length_bytes)
{
    unsigned char numbers[CELLAR_RECORD_BYTES];

    cellar_record_encode(record, numbers);
    return cellar_xxh3(cellar_xxh3(0, numbers, CELLAR_RECORD_AT_HASH), cells, length_bytes);
}

int cellar_record_hash_read(struct cellar_device *device, uint32_t bytes_per_cell, const struct cellar_record *record,
                            uint64_t *ret_hash)
{
    size_t length_bytes = (size_t)(record->state.next_index - record->from_index) * bytes_per_cell;
    void *cells = malloc(length_bytes);
    int error = -ENOMEM;

    if (cells != NULL)
        error = cellar_device_read(device, cells, length_bytes, (uint64_t)record->from_index * bytes_per_cell);
    if (error == 0)
        *ret_hash = cellar_record_hash(record, cells, length_bytes);
    free(cells);
    return error;
}

/* Whether the record is one, of cells of this file, and its hash holds. */
static int verify(struct cellar_device *device, uint32_t bytes_per_cell, const struct cellar_evidence *evidence,
                  const struct cellar_record *record, bool *ret_holds)
{
    uint64_t hash;
    int error;

    *ret_holds = false;
    if (record->from_index < evidence->start_index || record->state.next_index > evidence->file_cells ||
        !cellar_record_fits(bytes_per_cell, record->from_index, record->state.next_index))
        return 0;
    error = cellar_record_hash_read(device, bytes_per_cell, record, &hash);
    if (error == 0)
        *ret_holds = hash == record->hash;
    return error;
}

int cellar_evidence_gather(struct cellar_device *device, const unsigned char header[CELLAR_HEADER_BYTES],
                           uint32_t bytes_per_cell, uint64_t file_cells, bool reads_only,
                           struct cellar_evidence *ret_evidence)
{
    struct cellar_evidence evidence = {.extension = cellar_extension_decode(header),
                                       .start_index = cellar_start_index(bytes_per_cell),
                                       .file_cells = file_cells,
                                       .reads_only = reads_only};
    bool checked = (evidence.extension.flags & CELLAR_FLAG_CHECKED) != 0;
    int error = 0;

    for (int name = 0; name < CELLAR_SLOT_COUNT; name++)
        evidence.slots[name] = cellar_slot_decode(header + cellar_slot_offset((enum cellar_slot_name)name));
    if (!reads_only || checked)
        error = cellar_device_incarnation(device, &evidence.incarnation);
    if (reads_only && error != 0) { /* slots are true */
        evidence.incarnation = 0;
        error = 0;
    }
    for (int place = 0; checked && place < CELLAR_RECORD_COUNT && error == 0; place++) {
        struct cellar_record record = cellar_record_decode(header + cellar_record_offset(place));

        evidence.records[place].state = record.state;
        if (cellar_records_count(&evidence))
            error = verify(device, bytes_per_cell, &evidence, &record, &evidence.records[place].holds);
    }
    if (error == 0)
        *ret_evidence = evidence;
    return error;
}
