/*
 * fuzz_open_mutate.c - how inputs of the fuzzer of opening are changed: libFuzzer's own changes alone hardly ever
 * make a slot whose hash holds. So now and then a field gets a number that means something, a cell a footer, and half
 * of the inputs get hashes that hold.
 */
#include "fuzz_open.h"

#include "cell/record.h"
#include "format/format.h"

#include <string.h>

struct dice {
    uint32_t state;
};

static uint32_t roll(struct dice *dice, uint32_t limit)
{
    dice->state = dice->state * 1664525u + 1013904223u;
    return (uint32_t)((uint64_t)dice->state * limit >> 32);
}

static uint32_t cell_bytes_of(const uint8_t *bytes)
{
    uint32_t bytes_per_cell = cellar_load_le32(bytes + CELLAR_AT_BYTES_PER_CELL);

    return bytes_per_cell >= CELLAR_BYTES_PER_CELL_MIN && bytes_per_cell <= CELLAR_BYTES_PER_CELL_MAX ? bytes_per_cell
                                                                                                      : 32;
}

/* An index that is at an edge, or any cell of the file. */
static uint32_t some_index(struct dice *dice, const uint8_t *bytes, size_t length_bytes)
{
    uint32_t bytes_per_cell = cell_bytes_of(bytes), start = cellar_start_index(bytes_per_cell);
    uint32_t cells = (uint32_t)(length_bytes / bytes_per_cell);

    switch (roll(dice, 12)) {
    case 0:
        return 0;
    case 1:
        return start - 1;
    case 2:
        return start;
    case 3:
        return UINT32_MAX - roll(dice, 3);
    case 4:
        return cells + roll(dice, 3) - 1;
    case 5:
        return cellar_load_le32(bytes + cellar_slot_offset(CELLAR_DISK_1) + CELLAR_SLOT_AT_NEXT) - roll(dice, 2);
    default:
        return roll(dice, cells + 1);
    }
}

static void change_slot(struct dice *dice, uint8_t *bytes, size_t length_bytes)
{
    uint8_t *slot = bytes + cellar_slot_offset((enum cellar_slot_name)roll(dice, CELLAR_SLOT_COUNT));

    if (roll(dice, 4) == 0)
        memcpy(slot, bytes + cellar_slot_offset((enum cellar_slot_name)roll(dice, CELLAR_SLOT_COUNT)) + 0,
               CELLAR_SLOT_BYTES / 2);
    cellar_store_le32(slot + (roll(dice, 2) == 0 ? CELLAR_SLOT_AT_ROOT : CELLAR_SLOT_AT_NEXT),
                      some_index(dice, bytes, length_bytes));
}

static void change_config(struct dice *dice, uint8_t *bytes, size_t length_bytes)
{
    static const uint32_t cell_bytes[] = {3, 4, 5, 6, 7, 8, 32, 100, 255, 256, 257, 4096, 65535, 65536};

    if (roll(dice, 2) == 0)
        cellar_store_le32(bytes + CELLAR_AT_BYTES_PER_CELL, cell_bytes[roll(dice, FUZZ_COUNT(cell_bytes))]);
    else
        cellar_store_le32(bytes + CELLAR_AT_MAX_INDEX, some_index(dice, bytes, length_bytes));
}

/* The footer of a chunk that may be one. */
static void put_footer(struct dice *dice, uint8_t *bytes, size_t length_bytes)
{
    uint32_t bytes_per_cell = cell_bytes_of(bytes), start = cellar_start_index(bytes_per_cell);
    uint32_t cells = (uint32_t)(length_bytes / bytes_per_cell), index, most;
    struct cellar_footer footer;

    if (cells <= start)
        return;
    index = start + roll(dice, cells - start);
    most = (index - start + 1) * bytes_per_cell;
    if (most < CELLAR_FOOTER_BYTES)
        return;
    footer.size_bytes = roll(dice, 4) == 0 ? roll(dice, 65536) : roll(dice, most);
    footer.cdr = roll(dice, 3) == 0 ? 0 : some_index(dice, bytes, length_bytes);
    footer.size_bytes &= UINT16_MAX;
    cellar_footer_encode(&footer, bytes + (size_t)(index + 1) * bytes_per_cell - CELLAR_FOOTER_BYTES);
}

/* What a writer publishes by the word, or what anybody may find there. */
static void change_word(struct dice *dice, uint8_t *bytes, size_t length_bytes)
{
    cellar_store_le32(bytes + CELLAR_AT_WORD, some_index(dice, bytes, length_bytes));
    cellar_store_le32(bytes + CELLAR_AT_WORD + 4, some_index(dice, bytes, length_bytes));
    if (roll(dice, 3) == 0)
        cellar_store_le64(bytes + CELLAR_AT_EPOCH, roll(dice, 3));
    bytes[CELLAR_AT_FLAGS] |= CELLAR_FLAG_WORD;
}

/* The bytes that the original leaves zero. */
static void change_extension(struct dice *dice, uint8_t *bytes)
{
    static const uint32_t flags[] = {0, 1, 2, 4, 8, 0x10000, 0x10004, 0x80000000, 16};

    switch (roll(dice, 5)) {
    case 0:
        cellar_store_le32(bytes + CELLAR_AT_FLAGS, flags[roll(dice, FUZZ_COUNT(flags))]);
        break;
    case 1:
        cellar_store_le64(bytes + CELLAR_AT_BOOT_MARK, FUZZ_OPEN_INCARNATION);
        break;
    case 2:
        cellar_store_le32(bytes + CELLAR_AT_CONFIRMED, roll(dice, 300));
        break;
    case 3:
        memset(bytes + CELLAR_AT_EXTENSION, 0, CELLAR_HEADER_BYTES - CELLAR_AT_EXTENSION);
        break;
    default:
        memcpy(bytes + CELLAR_AT_BINDING, bytes + cellar_slot_offset(CELLAR_PROCESS_1) + CELLAR_SLOT_AT_KEYED_HASH, 8);
    }
}

/* The numbers of a record of a checked flush. */
static void change_record(struct dice *dice, uint8_t *bytes, size_t length_bytes)
{
    struct cellar_record record = {.from_index = some_index(dice, bytes, length_bytes),
                                   .state = {.next_index = some_index(dice, bytes, length_bytes),
                                             .root_index = some_index(dice, bytes, length_bytes)}};

    cellar_record_encode(&record, bytes + cellar_record_offset((int)roll(dice, CELLAR_RECORD_COUNT)));
    bytes[CELLAR_AT_FLAGS] |= CELLAR_FLAG_CHECKED;
}

/* The hash of a record whose cells are there. */
static void mend_record(uint8_t *bytes, size_t length_bytes, int place)
{
    uint32_t bytes_per_cell = cell_bytes_of(bytes);
    struct cellar_record record = cellar_record_decode(bytes + cellar_record_offset(place));
    uint64_t from = (uint64_t)record.from_index * bytes_per_cell;
    uint64_t end = (uint64_t)record.state.next_index * bytes_per_cell;

    if (from < CELLAR_HEADER_BYTES || from >= end || end > length_bytes)
        return;
    record.hash = cellar_record_hash(&record, bytes + from, (size_t)(end - from));
    cellar_record_encode(&record, bytes + cellar_record_offset(place));
}

/* Makes hashes hold, but for one of a pair now and then. */
static void mend_hashes(struct dice *dice, uint8_t *bytes, size_t length_bytes)
{
    for (int place = 0; place < CELLAR_RECORD_COUNT; place++)
        mend_record(bytes, length_bytes, place);
    for (int i = 0; i < CELLAR_SLOT_COUNT; i++) {
        uint8_t *slot = bytes + cellar_slot_offset((enum cellar_slot_name)i);
        struct cellar_state state = cellar_slot_state(slot);

        if (!cellar_slot_decode(slot).valid && roll(dice, 8) != 0)
            cellar_slot_encode(&state, i < CELLAR_PROCESS_1 ? NULL : &fuzz_open_key, slot);
    }
    if (cellar_load_le32(bytes + CELLAR_AT_CONFIG_CHECK) != 0)
        cellar_store_le32(bytes + CELLAR_AT_CONFIG_CHECK, cellar_config_hash(bytes));
    if (cellar_load_le64(bytes + CELLAR_AT_BINDING) != 0)
        memcpy(bytes + CELLAR_AT_BINDING,
               bytes + cellar_slot_offset((enum cellar_slot_name)(CELLAR_PROCESS_1 + roll(dice, 2))) +
                   CELLAR_SLOT_AT_KEYED_HASH,
               8);
}

/* A whole number of cells, as most files are. */
static size_t mend_length(const uint8_t *bytes, size_t length_bytes)
{
    size_t rest = length_bytes % cell_bytes_of(bytes);

    return length_bytes - rest >= CELLAR_HEADER_BYTES ? length_bytes - rest : length_bytes;
}

size_t LLVMFuzzerCustomMutator(uint8_t *bytes, size_t length_bytes, size_t capacity_bytes, unsigned seed)
{
    struct dice dice = {.state = seed};

    if (length_bytes < CELLAR_HEADER_BYTES)
        return LLVMFuzzerMutate(bytes, length_bytes, capacity_bytes);
    switch (roll(&dice, 16)) {
    case 0:
    case 1:
    case 2:
        change_slot(&dice, bytes, length_bytes);
        break;
    case 3:
        change_config(&dice, bytes, length_bytes);
        break;
    case 4:
    case 5:
        put_footer(&dice, bytes, length_bytes);
        break;
    case 6:
        change_extension(&dice, bytes);
        break;
    case 7: /* the head chooses what is done with the rest */
        bytes[roll(&dice, 8)] = (uint8_t)roll(&dice, 256);
        break;
    case 9:
        change_record(&dice, bytes, length_bytes);
        break;
    case 10:
        change_word(&dice, bytes, length_bytes);
        break;
    case 8: /* the header alone: it is a small part of most files */
        LLVMFuzzerMutate(bytes, CELLAR_HEADER_BYTES, CELLAR_HEADER_BYTES);
        break;
    default:
        length_bytes = LLVMFuzzerMutate(bytes, length_bytes, capacity_bytes);
    }
    if (length_bytes >= CELLAR_HEADER_BYTES && roll(&dice, 2) == 0) {
        length_bytes = mend_length(bytes, length_bytes);
        mend_hashes(&dice, bytes, length_bytes);
    }
    return length_bytes;
}
