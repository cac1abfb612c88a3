/* sum_file.c - a sums file: made, opened, looked at. Extending it is sum_extend.c. */
#include "sum/sum_file.h"

#include "sum/sum_hash.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum {
    FIRST_ROOM_BYTES = 64 << 10, /* for sums, in a new file */
    SCAN_SECTORS = 128,          /* read together */
    SECTOR_READS_MAX = 10,
};

static int write_first_head(struct cellar_sum_file *file, const unsigned char header[CELLAR_HEADER_BYTES])
{
    unsigned char bytes[CELLAR_SUM_SECTOR_BYTES];
    struct iovec part = {.iov_base = bytes, .iov_len = sizeof bytes};
    int error;

    file->file_bytes = CELLAR_SUM_AT_SUMS + FIRST_ROOM_BYTES;
    error = cellar_device_grow(file->device, 0, file->file_bytes);
    if (error != 0)
        return error;
    file->head = (struct cellar_sum_head){.owner = file->owner,
                                          .sequence = 1,
                                          .covered_bytes = CELLAR_SUM_FIRST_BYTE,
                                          .settled_bytes = CELLAR_SUM_FIRST_BYTE};
    memcpy(file->head.header, header, CELLAR_HEADER_BYTES);
    file->covered_bytes = file->claimed_bytes = file->settled_bytes = CELLAR_SUM_FIRST_BYTE;
    cellar_sum_head_encode(&file->head, bytes);
    return cellar_device_write(file->device, &part, 1, cellar_sum_head_offset(0));
}

static int new_file(struct cellar_device *device, struct cellar_sum_file **ret_file)
{
    struct cellar_sum_file *file = calloc(1, sizeof *file);

    if (file == NULL) {
        cellar_device_close(device);
        return -ENOMEM;
    }
    file->device = device;
    *ret_file = file;
    return 0;
}

int cellar_sum_create_on(struct cellar_device *device, const struct cellar_sum_owner *owner,
                         const unsigned char header[CELLAR_HEADER_BYTES], struct cellar_sum_file **ret_file)
{
    struct cellar_sum_file *file;
    int error = new_file(device, &file);

    if (error != 0)
        return error;
    file->owner = *owner;
    error = write_first_head(file, header);
    if (error != 0) {
        cellar_sum_close(file, false);
        return error;
    }
    *ret_file = file;
    return 0;
}

int cellar_sum_create(const char *path, unsigned mode, const struct cellar_sum_owner *owner,
                      const unsigned char header[CELLAR_HEADER_BYTES], struct cellar_sum_file **ret_file)
{
    struct cellar_device *device;
    int error =
        cellar_device_open_pread(path, CELLAR_OPEN_WRITE | CELLAR_OPEN_CREATE | CELLAR_OPEN_EXCLUSIVE, mode, &device);

    return error != 0 ? error : cellar_sum_create_on(device, owner, header, ret_file);
}

/* ---- opening ---- */

/* One of the two heads: 0, CELLAR_NONE, CELLAR_ECORRUPT, -ENOTSUP, or an error of the device. */
static int read_head(struct cellar_sum_file *file, int place, struct cellar_sum_head *ret_head)
{
    unsigned char bytes[CELLAR_SUM_SECTOR_BYTES];
    int error = 0;

    if (cellar_sum_head_offset(place) + sizeof bytes > file->file_bytes)
        return CELLAR_NONE;
    for (int i = 0; i < SECTOR_READS_MAX; i++) { /* it may be being written */
        error = cellar_device_read(file->device, bytes, sizeof bytes, cellar_sum_head_offset(place));
        if (error == 0)
            error = cellar_sum_head_decode(bytes, ret_head);
        if (error != CELLAR_ECORRUPT)
            break;
    }
    return error;
}

static int read_heads(struct cellar_sum_file *file)
{
    struct cellar_sum_head head;
    int result = CELLAR_ECORRUPT;

    for (int place = 0; place < CELLAR_SUM_HEAD_COUNT; place++) {
        int error = read_head(file, place, &head);

        if (error == 0 && (result != 0 || head.sequence > file->head.sequence)) {
            file->head = head;
            file->head_place = place;
            result = 0;
        }
        if (error != 0 && error != CELLAR_NONE && error != CELLAR_ECORRUPT && result != 0)
            result = error;
    }
    return result;
}

static int adopt(struct cellar_sum_file *file, const struct cellar_sum_owner *owner)
{
    uint64_t room_bytes;
    int error = cellar_device_size(file->device, &file->file_bytes);

    if (error == 0)
        error = read_heads(file);
    if (error != 0)
        return error;
    file->owner = file->head.owner;
    if (owner != NULL &&
        (owner->identity != file->owner.identity || owner->bytes_per_cell != file->owner.bytes_per_cell ||
         owner->max_index != file->owner.max_index))
        return CELLAR_ESUMS;
    file->known_sectors = cellar_sum_sector_count(file);
    room_bytes = (uint64_t)file->known_sectors * CELLAR_SUM_SPAN_BYTES;
    file->settled_bytes = cellar_sum_min(file->head.settled_bytes, file->head.covered_bytes);
    file->settled_bytes = cellar_sum_min(file->settled_bytes, room_bytes); /* the file may have been cut */
    file->settled_bytes = cellar_sum_max(file->settled_bytes, CELLAR_SUM_FIRST_BYTE);
    file->covered_bytes = file->settled_bytes;
    file->claimed_bytes = cellar_sum_max(file->head.covered_bytes, file->covered_bytes);
    return 0;
}

int cellar_sum_open_on(struct cellar_device *device, const struct cellar_sum_owner *owner,
                       struct cellar_sum_file **ret_file)
{
    struct cellar_sum_file *file;
    int error = new_file(device, &file);

    if (error != 0)
        return error;
    error = adopt(file, owner);
    if (error != 0) {
        cellar_sum_close(file, false);
        return error;
    }
    *ret_file = file;
    return 0;
}

int cellar_sum_open(const char *path, bool writable, const struct cellar_sum_owner *owner,
                    struct cellar_sum_file **ret_file)
{
    struct cellar_device *device;
    int error = cellar_device_open_pread(path, writable ? CELLAR_OPEN_WRITE : CELLAR_OPEN_READ, 0, &device);

    return error != 0 ? error : cellar_sum_open_on(device, owner, ret_file);
}

uint32_t cellar_sum_sector_count(const struct cellar_sum_file *file)
{
    uint64_t count = 0;

    if (file->file_bytes > CELLAR_SUM_AT_SUMS)
        count = (file->file_bytes - CELLAR_SUM_AT_SUMS) / CELLAR_SUM_SECTOR_BYTES;
    return count > UINT32_MAX ? UINT32_MAX : (uint32_t)count;
}

/* ---- looking ---- */

/* Takes one sector of the scan into account. gap: there was one before it. */
static void take_account(struct cellar_sum_file *file, const unsigned char *bytes, uint32_t number, bool *gap)
{
    struct cellar_sum_sector sector;
    uint64_t begin = cellar_sum_block_begin((uint64_t)number * CELLAR_SUM_PER_SECTOR), end = begin;

    if (cellar_sum_sector_decode(bytes, file->owner.identity, number, &sector) == 0) {
        end = cellar_sum_sector_end(&sector);
        file->claimed_bytes = cellar_sum_max(file->claimed_bytes, end);
    }
    if (!*gap)
        file->covered_bytes = end;
    if (end < (uint64_t)(number + UINT64_C(1)) * CELLAR_SUM_SPAN_BYTES)
        *gap = true;
}

int cellar_sum_scan(struct cellar_sum_file *file)
{
    uint32_t number = cellar_sum_sector_of(file->settled_bytes), count = cellar_sum_sector_count(file);
    unsigned char *bytes = malloc((size_t)SCAN_SECTORS * CELLAR_SUM_SECTOR_BYTES);
    bool gap = false;
    int error = 0;

    if (bytes == NULL)
        return -ENOMEM;
    while (error == 0 && number < count) {
        uint32_t batch = count - number < SCAN_SECTORS ? count - number : SCAN_SECTORS;

        error = cellar_device_read(file->device, bytes, (size_t)batch * CELLAR_SUM_SECTOR_BYTES,
                                   cellar_sum_sector_offset(number));
        for (uint32_t i = 0; error == 0 && i < batch; i++)
            take_account(file, bytes + (size_t)i * CELLAR_SUM_SECTOR_BYTES, number + i, &gap);
        number += batch;
    }
    free(bytes);
    return error;
}

int cellar_sum_read_sector(struct cellar_sum_file *file, uint32_t number, struct cellar_sum_sector *ret_sector)
{
    unsigned char bytes[CELLAR_SUM_SECTOR_BYTES];
    int error = CELLAR_ECORRUPT;

    for (int i = 0; i < SECTOR_READS_MAX && error == CELLAR_ECORRUPT; i++) {
        error = cellar_device_read(file->device, bytes, sizeof bytes, cellar_sum_sector_offset(number));
        if (error == 0)
            error = cellar_sum_sector_decode(bytes, file->owner.identity, number, ret_sector);
    }
    return error == CELLAR_EBOUNDS ? CELLAR_NONE : error;
}

/* The sum of the block with the byte at offset, where that is covered. 0, CELLAR_NONE, or an error of the device. */
static int find_sum(struct cellar_sum_file *file, uint64_t offset, uint64_t *ret_sum, uint64_t *ret_begin,
                    uint64_t *ret_end)
{
    struct cellar_sum_sector sector;
    uint32_t number = cellar_sum_sector_of(offset);
    uint64_t i = offset / CELLAR_SUM_BLOCK_BYTES - (uint64_t)number * CELLAR_SUM_PER_SECTOR;
    int error = cellar_sum_read_sector(file, number, &sector);

    if (error == CELLAR_ECORRUPT || (error == 0 && i >= sector.count))
        return CELLAR_NONE;
    if (error != 0)
        return error;
    *ret_sum = sector.sums[i];
    cellar_sum_range(&sector, (uint32_t)i, ret_begin, ret_end);
    return 0;
}

static int read_and_match(struct cellar_device *store, uint64_t begin, uint64_t end, uint64_t sum)
{
    unsigned char bytes[CELLAR_SUM_BLOCK_BYTES];
    int error = cellar_device_read(store, bytes, (size_t)(end - begin), begin);

    if (error == CELLAR_EBOUNDS) /* the store was cut */
        return CELLAR_ECHECKSUM;
    if (error != 0)
        return error;
    return cellar_sum_hash(bytes, (size_t)(end - begin)) == sum ? 0 : CELLAR_ECHECKSUM;
}

int cellar_sum_match(struct cellar_sum_file *file, struct cellar_device *store)
{
    uint64_t sum, begin, end;
    int error;

    if (file->covered_bytes <= CELLAR_SUM_FIRST_BYTE)
        return 0;
    error = find_sum(file, file->covered_bytes - 1, &sum, &begin, &end);
    if (error != 0)
        return error == CELLAR_NONE ? 0 : error;
    return read_and_match(store, begin, end, sum);
}

int cellar_sum_verify(struct cellar_sum_file *file, struct cellar_device *store, uint64_t address, const void *bytes,
                      size_t length_bytes)
{
    uint64_t sum, begin, end;
    int error = find_sum(file, cellar_sum_max(address, CELLAR_SUM_FIRST_BYTE), &sum, &begin, &end);

    if (error != 0) {
        if (error == CELLAR_NONE)
            atomic_fetch_add_explicit(&file->unverified, 1, memory_order_relaxed);
        return error == CELLAR_NONE ? 0 : error;
    }
    if (end - address <= length_bytes) {
        const unsigned char *from = (const unsigned char *)bytes + (begin - address);

        if (cellar_sum_hash(from, (size_t)(end - begin)) == sum) {
            atomic_fetch_add_explicit(&file->verified, 1, memory_order_relaxed);
            return 0;
        }
    }
    /* The sum was read after the bytes, and may be of cells that came after them. */
    error = read_and_match(store, begin, end, sum);
    return error == 0 ? -EAGAIN : error;
}

/* ---- ending ---- */

int cellar_sum_sync(struct cellar_sum_file *file)
{
    return cellar_device_sync(file->device, 0, file->file_bytes);
}

int cellar_sum_trim(struct cellar_sum_file *file)
{
    uint64_t end = cellar_sum_max(file->covered_bytes, file->claimed_bytes);
    uint64_t used_bytes = cellar_sum_sector_offset(cellar_sum_sector_of(end - 1) + 1);

    return used_bytes < file->file_bytes ? cellar_device_trim(file->device, used_bytes) : 0;
}

void cellar_sum_close(struct cellar_sum_file *file, bool forked)
{
    if (file == NULL)
        return;
    if (forked)
        cellar_device_forget(file->device);
    cellar_device_close(file->device);
    free(file->cells);
    free(file->sectors);
    free(file);
}
