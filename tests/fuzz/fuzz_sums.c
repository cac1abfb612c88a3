/*
 * fuzz_sums.c - any bytes as the checksum file of a store: looked at by check, by a reader that verifies, by a writer
 * that goes on, by restore and rebuild. All files are in memory. What must come out follows from the bytes alone: a
 * block whose sum is of other bytes is found and not shown, every other one is what it is, and whatever a writer does
 * makes no rot whole and nothing rotten.
 */
#include "fuzz_sums.h"
#include "fuzz_room.h"

#include "format/format.h"
#include "sum/sum_hash.h"

#include <cellar/sums.h>
#include <errno.h>
#include <string.h>

enum {
    BLOCK = CELLAR_SUM_BLOCK_BYTES,
    SECTOR = CELLAR_SUM_SECTOR_BYTES,
    CELL = FUZZ_SUMS_BYTES_PER_CELL,
    VALUE_BYTES_MAX = 9000,
    DECODED_MAX = 2,
    LOCATE_BYTES_MAX = 200, /* more takes milliseconds */
};

enum verdict { NO_SUM, HOLDS, ROTTEN };

enum change { CHANGE_FLIP = 128, CHANGE_CUT = 64 };

/* A sector of sums, or what decoding it said. */
struct decoded {
    int error;
    struct cellar_sum_sector sector;
};

/* A store and a checksum file that lie there now. */
struct pair {
    const char *path;
    struct fuzz_bytes store, sums;
    uint32_t identity;
    uint64_t flushed_bytes;
    uint32_t block_count;
    struct decoded decoded[DECODED_MAX]; /* the first sectors: each is asked for once for each of its blocks */
};

/* ---- what must come out ---- */

/* By the linker in the place of the function with this name. */
int __real_cellar_sum_locate(void *bytes, size_t length_bytes, uint64_t sum, size_t *ret_bit);
int __wrap_cellar_sum_locate(void *bytes, size_t length_bytes, uint64_t sum, size_t *ret_bit);

int __wrap_cellar_sum_locate(void *bytes, size_t length_bytes, uint64_t sum, size_t *ret_bit)
{
    FUZZ_NEEDS(length_bytes > 0 && length_bytes <= BLOCK);
    return length_bytes > LOCATE_BYTES_MAX ? CELLAR_NONE : __real_cellar_sum_locate(bytes, length_bytes, sum, ret_bit);
}

static int decode_sector(const struct pair *pair, uint32_t number, struct cellar_sum_sector *ret_sector)
{
    uint64_t at = cellar_sum_sector_offset(number);

    if (pair->sums.length_bytes < at + SECTOR)
        return CELLAR_NONE;
    return cellar_sum_sector_decode(pair->sums.bytes + at, pair->identity, number, ret_sector);
}

static struct pair look(const char *path, const char *sums_path)
{
    struct pair pair = {.path = path, .store = fuzz_file_look(path), .sums = fuzz_file_look(sums_path)};
    struct cellar_slot slots[2];
    int which;

    if (pair.store.length_bytes < CELLAR_HEADER_BYTES)
        return pair;
    for (int i = 0; i < 2; i++)
        slots[i] =
            cellar_slot_decode(pair.store.bytes + cellar_slot_offset((enum cellar_slot_name)(CELLAR_DISK_1 + i)));
    which = cellar_slot_pick(&slots[0], &slots[1]);
    FUZZ_NEEDS(which >= 0);
    pair.identity = cellar_load_le32(pair.store.bytes + CELLAR_AT_CHECKSUM_ID);
    pair.flushed_bytes = (uint64_t)slots[which].state.next_index * CELL;
    pair.block_count = (uint32_t)((pair.flushed_bytes + BLOCK - 1) / BLOCK);
    for (uint32_t i = 0; i < DECODED_MAX; i++)
        pair.decoded[i].error = decode_sector(&pair, i, &pair.decoded[i].sector);
    return pair;
}

/* other: room for a sector that is none of the first. */
static int read_sector(const struct pair *pair, uint32_t number, struct decoded *other,
                       const struct cellar_sum_sector **ret_sector)
{
    const struct decoded *decoded = other;

    if (number < DECODED_MAX)
        decoded = &pair->decoded[number];
    else
        other->error = decode_sector(pair, number, &other->sector);
    *ret_sector = &decoded->sector;
    return decoded->error;
}

/* What the sum of a block says of its bytes; it is of those from *ret_begin to *ret_end. */
static enum verdict judge(const struct pair *pair, uint32_t block, uint64_t *ret_begin, uint64_t *ret_end)
{
    uint32_t number = block / CELLAR_SUM_PER_SECTOR, i = block % CELLAR_SUM_PER_SECTOR;
    const struct cellar_sum_sector *sector;
    struct decoded other;

    *ret_begin = *ret_end = 0;
    if (read_sector(pair, number, &other, &sector) != 0 || i >= sector->count)
        return NO_SUM;
    cellar_sum_range(sector, i, ret_begin, ret_end);
    if (*ret_end > pair->store.length_bytes)
        return ROTTEN;
    return cellar_sum_hash(pair->store.bytes + *ret_begin, (size_t)(*ret_end - *ret_begin)) == sector->sums[i] ? HOLDS
                                                                                                               : ROTTEN;
}

/* ---- check ---- */

struct check {
    const struct pair *pair;
    uint64_t told;
};

static void check_rot(void *user, const struct cellar_sums_rot *rot)
{
    struct check *check = user;
    const struct pair *pair = check->pair;
    uint64_t begin, end;

    check->told++;
    FUZZ_NEEDS(judge(pair, (uint32_t)(rot->offset_bytes / BLOCK), &begin, &end) == ROTTEN);
    FUZZ_NEEDS(rot->offset_bytes == begin && rot->length_bytes == end - begin);
    FUZZ_NEEDS(rot->first_index == begin / CELL && rot->last_index == (end - 1) / CELL);
    FUZZ_NEEDS(rot->unreadable == (end > pair->store.length_bytes));
    if (rot->located) {
        FUZZ_NEEDS(!rot->unreadable && rot->bit_offset_bytes >= begin && rot->bit_offset_bytes < end && rot->bit < 8);
        FUZZ_NEEDS(rot->bit_index == rot->bit_offset_bytes / CELL);
        pair->store.bytes[rot->bit_offset_bytes] ^= (unsigned char)(1u << rot->bit);
        FUZZ_NEEDS(judge(pair, (uint32_t)(begin / BLOCK), &begin, &end) == HOLDS);
        pair->store.bytes[rot->bit_offset_bytes] ^= (unsigned char)(1u << rot->bit);
    }
}

/* The report against what the bytes say. */
static void check_report(const struct pair *pair, const struct cellar_sums_report *report)
{
    uint64_t begin, end, verified_bytes = 0, rotten = 0, broken = 0;

    for (uint32_t block = 0; block < pair->block_count; block++) {
        enum verdict verdict = judge(pair, block, &begin, &end);
        const struct cellar_sum_sector *sector;
        struct decoded other;

        rotten += verdict == ROTTEN;
        verified_bytes += verdict != NO_SUM ? end - begin : 0;
        if (block % CELLAR_SUM_PER_SECTOR == 0)
            broken += read_sector(pair, block / CELLAR_SUM_PER_SECTOR, &other, &sector) == CELLAR_ECORRUPT;
    }
    FUZZ_NEEDS(report->rotten_blocks == rotten && report->broken_sectors == broken);
    FUZZ_NEEDS(report->verified_bytes == verified_bytes);
    FUZZ_NEEDS(report->uncovered_bytes == pair->flushed_bytes - CELLAR_HEADER_BYTES - verified_bytes);
    FUZZ_NEEDS(report->state == (report->uncovered_bytes > 0 ? CELLAR_SUMS_BEHIND : CELLAR_SUMS_GOOD));
    FUZZ_NEEDS(!report->tail_rotten || rotten > 0);
}

/* Returns what check said. */
static int check(const struct pair *pair, struct cellar_sums_report *ret_report)
{
    struct cellar_diagnostic diagnostic = {.error = 0};
    struct check seen = {.pair = pair};
    struct cellar_sums_options options = {.rotten = check_rot, .user = &seen, .diagnostic = &diagnostic};
    int error = cellar_sums_check(pair->path, &options, ret_report);

    if (error != 0) {
        FUZZ_NEEDS(error == CELLAR_ECORRUPT && diagnostic.error == error && diagnostic.message[0] != '\0');
        return error;
    }
    FUZZ_NEEDS(ret_report->flushed_bytes == pair->flushed_bytes && seen.told == ret_report->rotten_blocks);
    if (ret_report->state == CELLAR_SUMS_GOOD || ret_report->state == CELLAR_SUMS_BEHIND) {
        check_report(pair, ret_report);
    } else {
        FUZZ_NEEDS(ret_report->verified_bytes == 0 && ret_report->rotten_blocks == 0);
        FUZZ_NEEDS(ret_report->state == CELLAR_SUMS_NONE || ret_report->why.error == CELLAR_ESUMS);
    }
    return 0;
}

/* ---- verify ---- */

static void check_cell(const struct pair *pair, const struct cellar_snapshot *snapshot, uint64_t offset, bool rotten)
{
    unsigned char scratch[CELL];
    const void *cell = NULL;
    int error = cellar_snapshot_get(snapshot, (uint32_t)(offset / CELL), scratch, &cell);

    FUZZ_NEEDS(error == (rotten ? CELLAR_ECHECKSUM : 0));
    FUZZ_NEEDS(error != 0 || memcmp(cell, pair->store.bytes + offset, CELL) == 0);
}

/* One of many blocks, none of them at an edge: to read them all takes long. */
static bool is_dull(const struct pair *pair, uint32_t block)
{
    uint32_t in_sector = block % CELLAR_SUM_PER_SECTOR;

    return in_sector > 2 && in_sector < CELLAR_SUM_PER_SECTOR - 1 && block + 2 < pair->block_count;
}

static void verify(const struct pair *pair, const struct cellar_sums_report *report)
{
    struct cellar_reader_options options = {.verify = true, .cache_bytes = 1};
    struct cellar_snapshot snapshot;
    struct cellar_reader *reader;
    int error = cellar_reader_open(pair->path, &options, &reader);

    if (pair->store.length_bytes < pair->flushed_bytes) {
        FUZZ_NEEDS(error == CELLAR_ECORRUPT || error == CELLAR_ESUMS || error == -ENOTSUP);
        return;
    }
    if (report->state == CELLAR_SUMS_NONE || report->state == CELLAR_SUMS_LOST || report->state == CELLAR_SUMS_STALE) {
        FUZZ_NEEDS(error == (report->state == CELLAR_SUMS_NONE ? -ENOTSUP : CELLAR_ESUMS));
        return;
    }
    FUZZ_NEEDS(error == 0);
    snapshot = cellar_reader_snapshot(reader);
    for (uint32_t block = 0; block < pair->block_count; block++) {
        uint64_t begin, end;
        bool rotten;

        if (is_dull(pair, block))
            continue;
        rotten = judge(pair, block, &begin, &end) == ROTTEN;
        check_cell(pair, &snapshot, cellar_sum_block_begin(block), rotten);
        check_cell(pair, &snapshot, cellar_sum_min((uint64_t)(block + 1) * BLOCK, pair->flushed_bytes) - CELL, rotten);
    }
    cellar_reader_close(reader);
}

/* All that only looks. Returns what check said. */
static int examine(const struct pair *pair, struct cellar_sums_report *ret_report)
{
    int error = check(pair, ret_report);

    if (error == 0)
        verify(pair, ret_report);
    return error;
}

/* ---- writing ---- */

/* No cell has changed, what was rotten still is, and what was not is not. */
static void compare(const struct pair *before, const struct pair *after)
{
    FUZZ_NEEDS(after->flushed_bytes >= before->flushed_bytes && after->identity == before->identity);
    FUZZ_NEEDS(memcmp(after->store.bytes + CELLAR_HEADER_BYTES, before->store.bytes + CELLAR_HEADER_BYTES,
                      (size_t)before->flushed_bytes - CELLAR_HEADER_BYTES) == 0);
    for (uint32_t block = 0; block < after->block_count; block++) {
        uint64_t begin, end;
        enum verdict was = judge(before, block, &begin, &end), is = judge(after, block, &begin, &end);

        FUZZ_NEEDS(was == NO_SUM ? is != ROTTEN : is == was);
    }
}

/* One value more, flushed. *ret_info: of the writer, then. */
static void write_value(struct cellar_writer *writer, uint32_t length_bytes, struct cellar_info *ret_info)
{
    static unsigned char value[VALUE_BYTES_MAX];
    uint32_t index;

    fuzz_fill(value, length_bytes, length_bytes);
    FUZZ_NEEDS(cellar_writer_write_value(writer, value, length_bytes, &index) == 0);
    FUZZ_NEEDS(cellar_writer_set_root(writer, index) == 0);
    FUZZ_NEEDS(cellar_writer_flush(writer) == 0);
    cellar_writer_info(writer, ret_info);
    FUZZ_NEEDS(cellar_writer_close(writer) == 0);
}

static bool is_usable(const struct cellar_sums_report *report)
{
    return report->state == CELLAR_SUMS_GOOD || report->state == CELLAR_SUMS_BEHIND;
}

/* A writer adds a value; before: copies of what is there. */
static void go_on(const struct pair *before, const char *sums_path, const struct cellar_sums_report *report,
                  uint32_t length_bytes)
{
    struct cellar_writer_options options = fuzz_sums_options();
    bool usable = is_usable(report) && !report->tail_rotten;
    uint64_t begin, end;
    struct cellar_recovery recovery;
    struct cellar_sums_report now;
    struct cellar_writer *writer;
    struct cellar_info info;
    struct pair after;
    int error = cellar_writer_open(before->path, &options, &writer);

    FUZZ_NEEDS(error == (before->store.length_bytes < before->flushed_bytes ? CELLAR_ECORRUPT : 0));
    if (error != 0)
        return;
    cellar_writer_recovery(writer, &recovery);
    FUZZ_NEEDS((recovery.sums == CELLAR_SUMS_GOOD || recovery.sums == CELLAR_SUMS_BEHIND) == usable);
    FUZZ_NEEDS(usable || recovery.sums == (report->tail_rotten ? CELLAR_SUMS_STALE : report->state));
    write_value(writer, length_bytes, &info);
    /* A file under the new name has got the other one where it was the store's. */
    after = look(before->path, fuzz_file_look(sums_path).bytes != NULL ? sums_path : FUZZ_STORE_SUMS);
    compare(before, &after);
    FUZZ_NEEDS(usable || (after.sums.length_bytes == before->sums.length_bytes &&
                          memcmp(after.sums.bytes, before->sums.bytes, before->sums.length_bytes) == 0));
    if (!usable)
        return;
    FUZZ_NEEDS(examine(&after, &now) == 0 && is_usable(&now));
    if (info.sums_error == 0)
        FUZZ_NEEDS(judge(&after, after.block_count - 1, &begin, &end) == HOLDS && end == after.flushed_bytes);
    else
        FUZZ_NEEDS(info.sums_error == CELLAR_ECHECKSUM && now.rotten_blocks > 0);
}

static void restore(const struct pair *pair)
{
    struct cellar_diagnostic diagnostic = {.error = 0};
    struct cellar_sums_options options = {.diagnostic = &diagnostic};
    struct cellar_sums_report report;
    struct cellar_reader *reader;
    struct cellar_config config;
    uint32_t next_index, root_index;
    struct pair made;
    int error = cellar_sums_restore(pair->path, FUZZ_MADE, &options, &config, &next_index, &root_index);

    if (error != 0) {
        FUZZ_NEEDS(error == CELLAR_ESUMS || error == CELLAR_ECORRUPT || error == -ENOTSUP);
        FUZZ_NEEDS(diagnostic.error == error && diagnostic.message[0] != '\0');
        FUZZ_NEEDS(fuzz_file_look(FUZZ_MADE).bytes == NULL && fuzz_file_look(FUZZ_MADE_SUMS).bytes == NULL &&
                   fuzz_file_look(FUZZ_MADE_FRESH).bytes == NULL);
        return;
    }
    made = look(FUZZ_MADE, FUZZ_MADE_SUMS);
    FUZZ_NEEDS(made.store.length_bytes == (uint64_t)next_index * config.bytes_per_cell && root_index < next_index);
    if (made.store.length_bytes > BLOCK)
        FUZZ_NEEDS(memcmp(made.store.bytes + BLOCK, pair->store.bytes + BLOCK, made.store.length_bytes - BLOCK) == 0);
    FUZZ_NEEDS(cellar_reader_open(FUZZ_MADE, NULL, &reader) == 0);
    cellar_reader_close(reader);
    if (config.bytes_per_cell == CELL)
        FUZZ_NEEDS(examine(&made, &report) == 0);
}

static void rebuild(const struct pair *before, const struct cellar_sums_report *report, bool force)
{
    struct cellar_sums_options options = {.force = force};
    struct cellar_sums_report now;
    struct pair after;
    int error = cellar_sums_rebuild(before->path, &options);

    after = look(before->path, FUZZ_STORE_SUMS);
    if (before->store.length_bytes < before->flushed_bytes) {
        FUZZ_NEEDS(error == CELLAR_ECORRUPT || error == CELLAR_ECHECKSUM || error == -ENOTSUP);
        return;
    }
    if (report->state == CELLAR_SUMS_NONE)
        FUZZ_NEEDS(error == -ENOTSUP);
    else if (report->rotten_blocks > 0 && !force)
        FUZZ_NEEDS(error == CELLAR_ECHECKSUM);
    else
        FUZZ_NEEDS(error == 0);
    FUZZ_NEEDS(memcmp(after.store.bytes + CELLAR_HEADER_BYTES, before->store.bytes + CELLAR_HEADER_BYTES,
                      (size_t)before->flushed_bytes - CELLAR_HEADER_BYTES) == 0);
    if (error == 0)
        FUZZ_NEEDS(examine(&after, &now) == 0 && now.state == CELLAR_SUMS_GOOD && now.rotten_blocks == 0);
}

/* ---- the input ---- */

static void change_store(unsigned char *bytes, size_t *length_bytes, const uint8_t *choices)
{
    uint32_t place = choices[FUZZ_SUMS_AT_PLACE] | (uint32_t)choices[FUZZ_SUMS_AT_PLACE + 1] << 8 |
                     (uint32_t)choices[FUZZ_SUMS_AT_PLACE + 2] << 16;
    uint8_t change = choices[FUZZ_SUMS_AT_CHANGE];

    if ((change & 16) != 0)
        cellar_store_le32(bytes + CELLAR_AT_FLAGS, 0);
    if ((change & 32) != 0)
        cellar_store_le32(bytes + CELLAR_AT_CHECKSUM_ID, 0);
    if ((change & CHANGE_FLIP) != 0)
        bytes[CELLAR_HEADER_BYTES + place % (*length_bytes - CELLAR_HEADER_BYTES)] ^=
            (unsigned char)(1u << (change & 7));
    if ((change & CHANGE_CUT) != 0)
        *length_bytes = place % *length_bytes;
}

/* Puts the store and the checksum file of the input in place. Returns the latter's name. */
static const char *put_files(const uint8_t *bytes, size_t length_bytes)
{
    const struct fuzz_sums_store *store = fuzz_sums_store(bytes[FUZZ_SUMS_AT_STORE]);
    size_t sectors = (length_bytes - FUZZ_SUMS_CHOICES) / SECTOR, rest = (length_bytes - FUZZ_SUMS_CHOICES) % SECTOR;
    size_t cut_bytes = bytes[FUZZ_SUMS_AT_CUT] | (size_t)bytes[FUZZ_SUMS_AT_CUT + 1] << 8;
    size_t file_bytes = (size_t)fuzz_sums_offset(sectors) + rest, store_bytes = store->store.length_bytes;
    unsigned char *file, *copy;
    const char *path = (bytes[FUZZ_SUMS_AT_DEED] & 128) != 0 ? FUZZ_STORE_FRESH : FUZZ_STORE_SUMS;

    file = fuzz_file_make(path, file_bytes);
    for (size_t i = 0; i <= sectors; i++)
        memcpy(file + fuzz_sums_offset(i), bytes + FUZZ_SUMS_CHOICES + i * SECTOR, i < sectors ? SECTOR : rest);
    if ((bytes[FUZZ_SUMS_AT_DEED] & 192) == 192)
        fuzz_file_put(FUZZ_STORE_SUMS, file, file_bytes < BLOCK ? 0 : 100);
    fuzz_file_cut(path, file_bytes - (cut_bytes < file_bytes ? cut_bytes : file_bytes));
    copy = fuzz_file_make(FUZZ_STORE, store_bytes);
    memcpy(copy, store->store.bytes, store_bytes);
    change_store(copy, &store_bytes, bytes);
    fuzz_file_cut(FUZZ_STORE, store_bytes);
    return path;
}

static void act(const struct pair *pair, const char *sums_path, const struct cellar_sums_report *report,
                const uint8_t *choices)
{
    uint8_t deed = choices[FUZZ_SUMS_AT_DEED];
    uint32_t length_bytes = choices[FUZZ_SUMS_AT_PLACE] | (uint32_t)choices[FUZZ_SUMS_AT_PLACE + 1] << 8;
    struct pair before = *pair;

    if ((deed & 7) == 0)
        return;
    before.store = fuzz_file_copy(pair->path);
    before.sums = fuzz_file_copy(sums_path);
    switch (deed & 7) {
    case 1:
    case 2:
    case 3:
        restore(&before);
        break;
    case 7: /* slow: it takes the default cache */
        if ((deed & 24) == 24) {
            rebuild(&before, report, (deed & 32) != 0);
            break;
        }
        /* fallthrough */
    default:
        go_on(&before, sums_path, report, 1 + length_bytes % (VALUE_BYTES_MAX - 1));
    }
    fuzz_room_give(before.store.bytes);
    fuzz_room_give(before.sums.bytes);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length_bytes)
{
    static const uint8_t no_choices[FUZZ_SUMS_CHOICES];
    struct cellar_sums_report report;
    const char *sums_path;
    struct pair pair;
    unsigned rooms;

    if (length_bytes < FUZZ_SUMS_CHOICES) {
        bytes = no_choices;
        length_bytes = FUZZ_SUMS_CHOICES;
    }
    fuzz_sums_store(0); /* makes all of them, and leaves no file */
    rooms = fuzz_rooms_taken();
    sums_path = put_files(bytes, length_bytes);
    pair = look(FUZZ_STORE, sums_path);
    if (pair.store.length_bytes < CELLAR_HEADER_BYTES) {
        FUZZ_NEEDS(cellar_sums_check(pair.path, NULL, &report) == CELLAR_ECORRUPT);
        restore(&pair);
    } else {
        FUZZ_NEEDS(examine(&pair, &report) == 0);
        act(&pair, sums_path, &report, bytes);
    }
    fuzz_files_clear();
    FUZZ_NEEDS(fuzz_rooms_taken() == rooms);
    return 0;
}
