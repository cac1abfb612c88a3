/*
 * fuzz_sums_mutate.c - how inputs of the fuzzer of checksum files are changed. A change alone hardly ever makes a
 * sector whose check holds. So fields get numbers that mean something, sectors come from true files, sums from the
 * store's bytes, and half of the inputs get checks that hold.
 */
#include "fuzz_sums.h"

#include "base/bytes.h"
#include "sum/sum_hash.h"

#include <string.h>

enum {
    SECTOR = CELLAR_SUM_SECTOR_BYTES,
    FIRST_SUM = CELLAR_SUM_HEAD_COUNT + CELLAR_SUM_COPY_COUNT,
    SUM_SECTORS = 2, /* of a true file that a new input has */
};

struct dice {
    uint32_t state;
};

static uint32_t roll(struct dice *dice, uint32_t limit)
{
    dice->state = dice->state * 1664525u + 1013904223u;
    return (uint32_t)((uint64_t)dice->state * limit >> 32);
}

static size_t count_sectors(size_t length_bytes)
{
    return length_bytes < FUZZ_SUMS_CHOICES ? 0 : (length_bytes - FUZZ_SUMS_CHOICES) / SECTOR;
}

static uint8_t *sector_at(uint8_t *bytes, size_t sector)
{
    return bytes + FUZZ_SUMS_CHOICES + sector * SECTOR;
}

static void take_true(uint8_t *bytes, size_t sector, uint32_t store)
{
    const struct fuzz_bytes *sums = &fuzz_sums_store(store)->sums;
    uint64_t at = fuzz_sums_offset(sector);

    memset(sector_at(bytes, sector), 0, SECTOR);
    if (at + SECTOR <= sums->length_bytes)
        memcpy(sector_at(bytes, sector), sums->bytes + at, SECTOR);
}

/* The true file of a store, as an input. */
static size_t begin(struct dice *dice, uint8_t *bytes, size_t capacity_bytes)
{
    uint32_t store = roll(dice, 16);

    if (capacity_bytes < FUZZ_SUMS_SUM_AT + SUM_SECTORS * SECTOR)
        return 0;
    memset(bytes, 0, FUZZ_SUMS_CHOICES);
    bytes[FUZZ_SUMS_AT_STORE] = (uint8_t)store;
    for (size_t i = 0; i < FIRST_SUM + SUM_SECTORS; i++)
        take_true(bytes, i, store);
    return FUZZ_SUMS_SUM_AT + SUM_SECTORS * SECTOR;
}

/* A byte of the store that is at an edge, or any. */
static uint64_t some_place(struct dice *dice, uint32_t store)
{
    uint64_t end = fuzz_sums_store(store)->store.length_bytes;

    switch (roll(dice, 10)) {
    case 0:
        return 0;
    case 1:
        return CELLAR_SUM_FIRST_BYTE + roll(dice, 2);
    case 2:
        return CELLAR_SUM_BLOCK_BYTES * roll(dice, 4) + roll(dice, 2);
    case 3:
        return (uint64_t)CELLAR_SUM_SPAN_BYTES * roll(dice, 3) + roll(dice, 2);
    case 4:
        return end;
    case 5:
        return end + 1 - 2 * (uint64_t)roll(dice, 2);
    case 6:
        return UINT64_MAX - roll(dice, 2);
    case 7:
        return (uint64_t)UINT32_MAX * FUZZ_SUMS_BYTES_PER_CELL - roll(dice, 3);
    case 8:
        return (uint64_t)FUZZ_SUMS_MAX_INDEX * FUZZ_SUMS_BYTES_PER_CELL - roll(dice, 2);
    default:
        return roll(dice, (uint32_t)end + 1);
    }
}

static void change_head(struct dice *dice, uint8_t *head, uint32_t store)
{
    switch (roll(dice, 6)) {
    case 0: /* the sequence */
        cellar_store_le64(head + 24, roll(dice, 4) == 0 ? UINT64_MAX : roll(dice, 20));
        break;
    case 1:
        cellar_store_le64(head + 32, some_place(dice, store));
        break;
    case 2:
        cellar_store_le64(head + 40, some_place(dice, store));
        break;
    case 3: /* format, identity, bytes per cell, max index */
        cellar_store_le32(head + 8 + 4 * roll(dice, 4), roll(dice, 40));
        break;
    default: /* the store's header */
        head[64 + roll(dice, CELLAR_HEADER_BYTES)] ^= (uint8_t)(1u << roll(dice, 8));
    }
}

static void change_sum_sector(struct dice *dice, uint8_t *sector)
{
    switch (roll(dice, 4)) {
    case 0:
        cellar_store_le32(sector + 8, roll(dice, CELLAR_SUM_PER_SECTOR + 3));
        break;
    case 1:
        cellar_store_le32(sector + 12, roll(dice, CELLAR_SUM_BLOCK_BYTES + 2));
        break;
    case 2:
        cellar_store_le32(sector + 4 * roll(dice, 2), roll(dice, 3));
        break;
    default:
        sector[16 + roll(dice, 8 * 4)] ^= (uint8_t)(1u << roll(dice, 8));
    }
}

/* True sums of the store, of so many of its blocks as it chooses. */
static void sum_anew(struct dice *dice, uint8_t *bytes, uint32_t number, uint32_t store)
{
    const struct fuzz_bytes *of = &fuzz_sums_store(store)->store;
    struct cellar_sum_sector sector = {.number = number, .tail_bytes = CELLAR_SUM_BLOCK_BYTES};
    uint32_t count = 1 + roll(dice, CELLAR_SUM_PER_SECTOR);
    uint64_t from, to;

    if (roll(dice, 2) == 0)
        sector.tail_bytes = CELLAR_SUM_FIRST_BYTE + 1 + roll(dice, CELLAR_SUM_BLOCK_BYTES - CELLAR_SUM_FIRST_BYTE);
    for (sector.count = 1; sector.count <= count; sector.count++) {
        cellar_sum_range(&sector, sector.count - 1, &from, &to);
        if (to > of->length_bytes)
            break;
        sector.sums[sector.count - 1] = cellar_sum_hash(of->bytes + from, (size_t)(to - from));
    }
    if (--sector.count > 0) {
        for (uint32_t i = 0; i + 1 < sector.count; i++) { /* those before the last are of whole blocks */
            cellar_sum_range(&sector, i, &from, &to);
            sector.sums[i] = cellar_sum_hash(of->bytes + from, (size_t)(to - from));
        }
        cellar_sum_sector_encode(&sector, FUZZ_IDENTITY, sector_at(bytes, FIRST_SUM + number));
    }
}

/* Makes all checks hold but one now and then. */
static void mend(struct dice *dice, uint8_t *bytes, size_t sectors)
{
    static const uint8_t zeros[SECTOR];

    for (size_t i = 0; i < sectors; i++) {
        uint8_t *sector = sector_at(bytes, i);

        if (memcmp(sector, zeros, SECTOR) != 0 && roll(dice, 8) != 0)
            cellar_store_le64(sector + SECTOR - 8, cellar_sum_hash(sector, SECTOR - 8));
    }
}

static size_t change(struct dice *dice, uint8_t *bytes, size_t length_bytes, size_t capacity_bytes)
{
    uint32_t store = bytes[FUZZ_SUMS_AT_STORE];
    size_t sectors = count_sectors(length_bytes), sector = roll(dice, (uint32_t)sectors);
    size_t sums = sectors > FIRST_SUM ? sectors - FIRST_SUM : 0;

    switch (roll(dice, 14)) {
    case 0:
    case 1: /* what is done, and to which store */
        bytes[roll(dice, FUZZ_SUMS_CHOICES)] = (uint8_t)roll(dice, 256);
        break;
    case 2:
        memcpy(sector_at(bytes, sector), sector_at(bytes, roll(dice, (uint32_t)sectors)), SECTOR - 8 * roll(dice, 2));
        break;
    case 3:
    case 4:
        take_true(bytes, sector, roll(dice, 16));
        break;
    case 5:
    case 6:
        change_head(dice, sector_at(bytes, roll(dice, sectors > 1 ? 2 : 1)), store);
        break;
    case 7:
    case 8:
        if (sums > 0)
            change_sum_sector(dice, sector_at(bytes, FIRST_SUM + roll(dice, (uint32_t)sums)));
        break;
    case 9:
        if (sums > 0)
            sum_anew(dice, bytes, roll(dice, (uint32_t)sums), store);
        break;
    case 10:
        memset(sector_at(bytes, sector), 0, SECTOR);
        break;
    case 11: /* one sector alone */
        LLVMFuzzerMutate(sector_at(bytes, sector), SECTOR, SECTOR);
        break;
    case 12: /* the choices are often what they were */
        memset(bytes + FUZZ_SUMS_AT_CHANGE, 0, FUZZ_SUMS_CHOICES - FUZZ_SUMS_AT_CHANGE);
        break;
    default:
        return LLVMFuzzerMutate(bytes, length_bytes, capacity_bytes);
    }
    return length_bytes;
}

size_t LLVMFuzzerCustomMutator(uint8_t *bytes, size_t length_bytes, size_t capacity_bytes, unsigned seed)
{
    struct dice dice = {.state = seed};

    if (count_sectors(length_bytes) == 0 || roll(&dice, 200) == 0) {
        size_t begun = begin(&dice, bytes, capacity_bytes);

        return begun > 0 ? begun : LLVMFuzzerMutate(bytes, length_bytes, capacity_bytes);
    }
    length_bytes = change(&dice, bytes, length_bytes, capacity_bytes);
    if (roll(&dice, 2) == 0)
        mend(&dice, bytes, count_sectors(length_bytes));
    return length_bytes;
}
