#include "sum/sum_format.h"

#include "base/bytes.h"
#include "base/check.h"
#include "sum/sum_hash.h"

#include <errno.h>
#include <string.h>

enum {
    AT_CHECK = CELLAR_SUM_SECTOR_BYTES - 8,
    MAGIC_BYTES = 8,

    HEAD_AT_FORMAT = 8,
    HEAD_AT_IDENTITY = 12,
    HEAD_AT_BYTES_PER_CELL = 16,
    HEAD_AT_MAX_INDEX = 20,
    HEAD_AT_SEQUENCE = 24,
    HEAD_AT_COVERED = 32,
    HEAD_AT_SETTLED = 40,
    HEAD_AT_HEADER = 64,

    COPY_AT_IDENTITY = 8,
    COPY_AT_NUMBER = 12,
    COPY_AT_LENGTH = 16,
    COPY_AT_BYTES = 24,

    SECTOR_AT_IDENTITY = 0,
    SECTOR_AT_NUMBER = 4,
    SECTOR_AT_COUNT = 8,
    SECTOR_AT_TAIL = 12,
    SECTOR_AT_SUMS = 16,
};

static const unsigned char head_magic[MAGIC_BYTES] = {'C', 'E', 'L', 'L', 'S', 'U', 'M', 'S'};
static const unsigned char copy_magic[MAGIC_BYTES] = {'C', 'E', 'L', 'L', 'C', 'O', 'P', 'Y'};

_Static_assert(SECTOR_AT_SUMS + 8 * CELLAR_SUM_PER_SECTOR == AT_CHECK, "sums fill a sector");
_Static_assert(COPY_AT_BYTES + CELLAR_SUM_COPY_BYTES == AT_CHECK, "a copy fills a sector");
_Static_assert(CELLAR_SUM_FIRST_BYTE + CELLAR_SUM_COPY_COUNT * CELLAR_SUM_COPY_BYTES == CELLAR_SUM_BLOCK_BYTES,
               "the copies hold the rest of the first block");

static void seal(unsigned char *bytes)
{
    cellar_store_le64(bytes + AT_CHECK, cellar_sum_hash(bytes, AT_CHECK));
}

/* 0, CELLAR_NONE or CELLAR_ECORRUPT. */
static int check_seal(const unsigned char *bytes)
{
    if (cellar_load_le64(bytes + AT_CHECK) == cellar_sum_hash(bytes, AT_CHECK))
        return 0;
    for (int i = 0; i < CELLAR_SUM_SECTOR_BYTES; i++) {
        if (bytes[i] != 0)
            return CELLAR_ECORRUPT;
    }
    return CELLAR_NONE;
}

void cellar_sum_head_encode(const struct cellar_sum_head *head, void *ret_bytes)
{
    unsigned char *bytes = ret_bytes;

    memset(bytes, 0, CELLAR_SUM_SECTOR_BYTES);
    memcpy(bytes, head_magic, MAGIC_BYTES);
    cellar_store_le32(bytes + HEAD_AT_FORMAT, CELLAR_SUM_FORMAT);
    cellar_store_le32(bytes + HEAD_AT_IDENTITY, head->owner.identity);
    cellar_store_le32(bytes + HEAD_AT_BYTES_PER_CELL, head->owner.bytes_per_cell);
    cellar_store_le32(bytes + HEAD_AT_MAX_INDEX, head->owner.max_index);
    cellar_store_le64(bytes + HEAD_AT_SEQUENCE, head->sequence);
    cellar_store_le64(bytes + HEAD_AT_COVERED, head->covered_bytes);
    cellar_store_le64(bytes + HEAD_AT_SETTLED, head->settled_bytes);
    memcpy(bytes + HEAD_AT_HEADER, head->header, CELLAR_HEADER_BYTES);
    seal(bytes);
}

int cellar_sum_head_decode(const void *bytes, struct cellar_sum_head *ret_head)
{
    const unsigned char *b = bytes;
    int error = check_seal(b);

    if (error != 0)
        return error;
    if (memcmp(b, head_magic, MAGIC_BYTES) != 0)
        return CELLAR_ECORRUPT;
    if (cellar_load_le32(b + HEAD_AT_FORMAT) != CELLAR_SUM_FORMAT)
        return -ENOTSUP;
    *ret_head = (struct cellar_sum_head){
        .owner = {.identity = cellar_load_le32(b + HEAD_AT_IDENTITY),
                  .bytes_per_cell = cellar_load_le32(b + HEAD_AT_BYTES_PER_CELL),
                  .max_index = cellar_load_le32(b + HEAD_AT_MAX_INDEX)},
        .sequence = cellar_load_le64(b + HEAD_AT_SEQUENCE),
        .covered_bytes = cellar_load_le64(b + HEAD_AT_COVERED),
        .settled_bytes = cellar_load_le64(b + HEAD_AT_SETTLED),
    };
    memcpy(ret_head->header, b + HEAD_AT_HEADER, CELLAR_HEADER_BYTES);
    return 0;
}

void cellar_sum_copy_encode(const struct cellar_sum_copy *copy, uint32_t identity, uint32_t number, void *ret_bytes)
{
    unsigned char *bytes = ret_bytes;

    CELLAR_CHECK(copy->length_bytes <= CELLAR_SUM_COPY_BYTES);
    memset(bytes, 0, CELLAR_SUM_SECTOR_BYTES);
    memcpy(bytes, copy_magic, MAGIC_BYTES);
    cellar_store_le32(bytes + COPY_AT_IDENTITY, identity);
    cellar_store_le32(bytes + COPY_AT_NUMBER, number);
    cellar_store_le32(bytes + COPY_AT_LENGTH, copy->length_bytes);
    memcpy(bytes + COPY_AT_BYTES, copy->bytes, copy->length_bytes);
    seal(bytes);
}

int cellar_sum_copy_decode(const void *bytes, uint32_t identity, uint32_t number, struct cellar_sum_copy *ret_copy)
{
    const unsigned char *b = bytes;
    uint32_t length_bytes = cellar_load_le32(b + COPY_AT_LENGTH);
    int error = check_seal(b);

    if (error != 0)
        return error;
    if (memcmp(b, copy_magic, MAGIC_BYTES) != 0 || cellar_load_le32(b + COPY_AT_IDENTITY) != identity ||
        cellar_load_le32(b + COPY_AT_NUMBER) != number || length_bytes > CELLAR_SUM_COPY_BYTES)
        return CELLAR_ECORRUPT;
    ret_copy->length_bytes = length_bytes;
    memcpy(ret_copy->bytes, b + COPY_AT_BYTES, CELLAR_SUM_COPY_BYTES);
    return 0;
}

void cellar_sum_sector_encode(const struct cellar_sum_sector *sector, uint32_t identity, void *ret_bytes)
{
    unsigned char *bytes = ret_bytes;

    CELLAR_CHECK(sector->count <= CELLAR_SUM_PER_SECTOR && sector->tail_bytes <= CELLAR_SUM_BLOCK_BYTES);
    memset(bytes, 0, CELLAR_SUM_SECTOR_BYTES);
    cellar_store_le32(bytes + SECTOR_AT_IDENTITY, identity);
    cellar_store_le32(bytes + SECTOR_AT_NUMBER, sector->number);
    cellar_store_le32(bytes + SECTOR_AT_COUNT, sector->count);
    cellar_store_le32(bytes + SECTOR_AT_TAIL, sector->tail_bytes);
    for (uint32_t i = 0; i < sector->count; i++)
        cellar_store_le64(bytes + SECTOR_AT_SUMS + 8 * i, sector->sums[i]);
    seal(bytes);
}

int cellar_sum_sector_decode(const void *bytes, uint32_t identity, uint32_t number,
                             struct cellar_sum_sector *ret_sector)
{
    const unsigned char *b = bytes;
    uint32_t count = cellar_load_le32(b + SECTOR_AT_COUNT), tail_bytes = cellar_load_le32(b + SECTOR_AT_TAIL);
    int error = check_seal(b);

    if (error != 0)
        return error;
    if (cellar_load_le32(b + SECTOR_AT_IDENTITY) != identity || cellar_load_le32(b + SECTOR_AT_NUMBER) != number ||
        count == 0 || count > CELLAR_SUM_PER_SECTOR || tail_bytes == 0 || tail_bytes > CELLAR_SUM_BLOCK_BYTES ||
        (number == 0 && count == 1 && tail_bytes <= CELLAR_SUM_FIRST_BYTE))
        return CELLAR_ECORRUPT;
    ret_sector->number = number;
    ret_sector->count = count;
    ret_sector->tail_bytes = tail_bytes;
    for (uint32_t i = 0; i < CELLAR_SUM_PER_SECTOR; i++)
        ret_sector->sums[i] = cellar_load_le64(b + SECTOR_AT_SUMS + 8 * i);
    return 0;
}

uint64_t cellar_sum_sector_end(const struct cellar_sum_sector *sector)
{
    uint64_t begin, end;

    if (sector->count == 0)
        return cellar_sum_block_begin((uint64_t)sector->number * CELLAR_SUM_PER_SECTOR);
    cellar_sum_range(sector, sector->count - 1, &begin, &end);
    return end;
}

enum cellar_sums_state cellar_sum_judge(uint64_t covered_bytes, uint64_t claimed_bytes, uint64_t flushed_bytes)
{
    if (covered_bytes > flushed_bytes || claimed_bytes > flushed_bytes)
        return CELLAR_SUMS_STALE;
    return covered_bytes < flushed_bytes ? CELLAR_SUMS_BEHIND : CELLAR_SUMS_GOOD;
}
