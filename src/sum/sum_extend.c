/* sum_extend.c - the sums of what was flushed are added to a sums file. */
#include "sum/sum_file.h"

#include "sum/sum_hash.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

enum {
    BATCH_SECTORS = 128,
    SMALL_STEP_BYTES = 64 << 10,
    LARGE_STEP_BYTES = 1 << 20, /* of files that are as large as that */
};

/* The bytes of the store, in file->cells; at most CELLAR_SUM_SPAN_BYTES. */
static int load_cells(struct cellar_sum_file *file, struct cellar_device *store, uint64_t begin, uint64_t end)
{
    if (file->cells == NULL && (file->cells = malloc(CELLAR_SUM_SPAN_BYTES)) == NULL)
        return -ENOMEM;
    return cellar_device_read(store, file->cells, (size_t)(end - begin), begin);
}

/*
 * Room for the sums of all bytes below to_bytes. Growing is the moment for a barrier of this file's own, so that a scan
 * never has to go back further than the last one.
 */
static int make_room(struct cellar_sum_file *file, uint64_t to_bytes)
{
    uint64_t needed_bytes = cellar_sum_sector_offset(cellar_sum_sector_of(to_bytes - 1)) + CELLAR_SUM_SECTOR_BYTES;
    uint64_t size_bytes = needed_bytes;
    int error;

    if (needed_bytes <= file->file_bytes)
        return 0;
    size_bytes += needed_bytes < LARGE_STEP_BYTES ? SMALL_STEP_BYTES : LARGE_STEP_BYTES;
    error = cellar_device_sync(file->device, 0, file->file_bytes);
    if (error == 0)
        error = cellar_device_grow(file->device, file->file_bytes, size_bytes);
    if (error != 0)
        return error;
    file->settled_bytes = file->covered_bytes;
    file->file_bytes = size_bytes;
    return 0;
}

static int write_batch(struct cellar_sum_file *file)
{
    struct iovec part = {.iov_base = file->sectors, .iov_len = (size_t)file->sector_count * CELLAR_SUM_SECTOR_BYTES};

    if (file->sector_count == 0)
        return 0;
    file->sector_count = 0;
    return cellar_device_write(file->device, &part, 1, cellar_sum_sector_offset(file->first_sector));
}

/* The tail goes into the batch, which is written where it is full or the tail does not follow it. */
static int put_tail(struct cellar_sum_file *file)
{
    uint32_t number = file->tail.number;
    int error = 0;

    if (file->sectors == NULL && (file->sectors = malloc((size_t)BATCH_SECTORS * CELLAR_SUM_SECTOR_BYTES)) == NULL)
        return -ENOMEM;
    if (file->sector_count == BATCH_SECTORS || number != file->first_sector + file->sector_count)
        error = write_batch(file);
    if (file->sector_count == 0)
        file->first_sector = number;
    cellar_sum_sector_encode(&file->tail, file->owner.identity,
                             file->sectors + (size_t)file->sector_count * CELLAR_SUM_SECTOR_BYTES);
    file->sector_count++;
    return error;
}

/* Makes the tail the sector of covered_bytes, as it stands in the file if it was there before; its sums count. */
static int take_tail(struct cellar_sum_file *file)
{
    uint32_t number = cellar_sum_sector_of(file->covered_bytes);
    int error = CELLAR_NONE;

    if (file->tail_ready && file->tail.number == number)
        return 0;
    if (number < file->known_sectors)
        error = cellar_sum_read_sector(file, number, &file->tail);
    if (error == CELLAR_NONE || error == CELLAR_ECORRUPT)
        file->tail = (struct cellar_sum_sector){.number = number, .tail_bytes = CELLAR_SUM_BLOCK_BYTES};
    else if (error != 0)
        return error;
    if (error == CELLAR_ECORRUPT)
        file->renewed_blocks += CELLAR_SUM_PER_SECTOR;
    file->tail_ready = true;
    file->covered_bytes = cellar_sum_sector_end(&file->tail);
    return 0;
}

/* Whether the sum of the block's first part, which a longer one is about to replace, holds. */
static int check_part(const struct cellar_sum_sector *tail, const unsigned char *block)
{
    uint64_t begin, end;

    if (tail->count == 0 || tail->tail_bytes == CELLAR_SUM_BLOCK_BYTES)
        return 0;
    cellar_sum_range(tail, tail->count - 1, &begin, &end);
    return cellar_sum_hash(block, (size_t)(end - begin)) == tail->sums[tail->count - 1] ? 0 : CELLAR_ECHECKSUM;
}

/* Adds to the tail what lies below end, which is in its span. */
static int fill_tail(struct cellar_sum_file *file, struct cellar_device *store, uint64_t end)
{
    struct cellar_sum_sector *tail = &file->tail;
    uint64_t block = file->covered_bytes / CELLAR_SUM_BLOCK_BYTES;
    uint64_t at = cellar_sum_block_begin(block);
    const unsigned char *bytes;
    int error = load_cells(file, store, at, end);

    if (error == 0)
        error = check_part(tail, file->cells);
    if (error != 0)
        return error;
    bytes = file->cells;
    while (at < end) {
        uint64_t block_end = cellar_sum_min((block + 1) * CELLAR_SUM_BLOCK_BYTES, end);
        uint32_t i = (uint32_t)(block - (uint64_t)tail->number * CELLAR_SUM_PER_SECTOR);

        tail->sums[i] = cellar_sum_hash(bytes, (size_t)(block_end - at));
        tail->count = i + 1;
        tail->tail_bytes = (uint32_t)(block_end - block * CELLAR_SUM_BLOCK_BYTES);
        bytes += block_end - at;
        at = block_end;
        block++;
    }
    file->covered_bytes = end;
    return 0;
}

static int write_sums(struct cellar_sum_file *file, struct cellar_device *store, uint64_t to_bytes)
{
    int error = 0;

    while (error == 0 && file->covered_bytes < to_bytes) {
        uint64_t span_end;

        error = take_tail(file);
        span_end = ((uint64_t)file->tail.number + 1) * CELLAR_SUM_SPAN_BYTES;
        if (error != 0 || file->covered_bytes >= cellar_sum_min(to_bytes, span_end))
            continue; /* it is complete already */
        error = fill_tail(file, store, cellar_sum_min(to_bytes, span_end));
        if (error == 0)
            error = put_tail(file);
    }
    return error == 0 ? write_batch(file) : error;
}

/* Whether the sum of the first block holds. CELLAR_NONE: it is not there any more, as its sector is broken. */
static int check_first(struct cellar_sum_file *file, const unsigned char *bytes, uint64_t length_bytes)
{
    struct cellar_sum_sector sector;
    uint64_t begin, end;
    int error = cellar_sum_read_sector(file, 0, &sector);

    if (error != 0)
        return error == CELLAR_ECORRUPT ? CELLAR_NONE : error;
    cellar_sum_range(&sector, 0, &begin, &end);
    if (end - begin != length_bytes)
        return CELLAR_NONE;
    return cellar_sum_hash(bytes, (size_t)length_bytes) == sector.sums[0] ? 0 : CELLAR_ECHECKSUM;
}

/* The copy of that number is whole and has so many bytes; it may not be, where a power loss came before it. */
static bool has_copy(struct cellar_sum_file *file, uint32_t number, uint32_t length_bytes)
{
    unsigned char sector[CELLAR_SUM_SECTOR_BYTES];
    struct cellar_sum_copy copy;

    return cellar_device_read(file->device, sector, sizeof sector, cellar_sum_copy_offset(number)) == 0 &&
           cellar_sum_copy_decode(sector, file->owner.identity, number, &copy) == 0 &&
           copy.length_bytes == length_bytes;
}

/* Copies of those of the store's first 4096 bytes that have none yet; their sum has been written. */
static int write_copies(struct cellar_sum_file *file, struct cellar_device *store)
{
    unsigned char sector[CELLAR_SUM_SECTOR_BYTES];
    struct iovec part = {.iov_base = sector, .iov_len = sizeof sector};
    uint64_t begin = CELLAR_SUM_FIRST_BYTE, end = cellar_sum_min(file->covered_bytes, CELLAR_SUM_BLOCK_BYTES);
    int error;

    if (end == begin)
        return 0;
    error = load_cells(file, store, begin, end);
    if (error == 0)
        error = check_first(file, file->cells, end - begin);
    if (error == CELLAR_NONE) { /* what can't be checked is not copied; the copies there are stay */
        file->copies_ready = true;
        return 0;
    }
    for (uint32_t number = 0; error == 0 && begin < end; number++, begin += CELLAR_SUM_COPY_BYTES) {
        struct cellar_sum_copy copy = {.length_bytes = (uint32_t)cellar_sum_min(end - begin, CELLAR_SUM_COPY_BYTES)};

        if (has_copy(file, number, copy.length_bytes))
            continue;
        memcpy(copy.bytes, file->cells + (begin - CELLAR_SUM_FIRST_BYTE), copy.length_bytes);
        cellar_sum_copy_encode(&copy, file->owner.identity, number, sector);
        error = cellar_device_write(file->device, &part, 1, cellar_sum_copy_offset(number));
    }
    file->copies_ready = error == 0 && end == CELLAR_SUM_BLOCK_BYTES;
    return error;
}

/* A new head takes the place of the one that is not in force. */
static int write_head(struct cellar_sum_file *file, const unsigned char header[CELLAR_HEADER_BYTES])
{
    unsigned char bytes[CELLAR_SUM_SECTOR_BYTES];
    struct iovec part = {.iov_base = bytes, .iov_len = sizeof bytes};

    file->head.sequence++;
    file->head.covered_bytes = file->covered_bytes;
    file->head.settled_bytes = file->settled_bytes;
    memcpy(file->head.header, header, CELLAR_HEADER_BYTES);
    file->head_place = 1 - file->head_place;
    cellar_sum_head_encode(&file->head, bytes);
    return cellar_device_write(file->device, &part, 1, cellar_sum_head_offset(file->head_place));
}

int cellar_sum_extend(struct cellar_sum_file *file, struct cellar_device *store, uint64_t to_bytes,
                      const unsigned char header[CELLAR_HEADER_BYTES])
{
    int error = 0;

    if (to_bytes > file->covered_bytes) {
        error = make_room(file, to_bytes);
        if (error == 0)
            error = write_sums(file, store, to_bytes);
    }
    if (error == 0 && !file->copies_ready)
        error = write_copies(file, store);
    return error == 0 ? write_head(file, header) : error;
}
