/*
 * Broken bits of small stores with checksums, one after the other: every bit of every flushed cell, footers of chunks
 * included, and every bit of the checksum file. A bit of a cell is found and named, and a reader that verifies shows
 * none of the bytes beside it; a bit of the checksum file is never taken for rot of a cell.
 */
#include "fuzz_sums.h"
#include "support.h"

#include "base/bytes.h"
#include "format/format.h"

#include <cellar/sums.h>
#include <errno.h>
#include <string.h>

enum { BLOCK = CELLAR_SUM_BLOCK_BYTES, CELL = FUZZ_SUMS_BYTES_PER_CELL, NAMES_EVERY = 3001 };

/* Stores of fuzz_sums_store: one block, three of them, and more than one sector has sums of. */
enum { SMALL = 0, LATER = 2, LARGE = 15 };

struct rots {
    uint64_t count;
    struct cellar_sums_rot first;
};

static void take_rot(void *user, const struct cellar_sums_rot *rot)
{
    struct rots *rots = user;

    if (rots->count++ == 0)
        rots->first = *rot;
}

static void flip(unsigned char *bytes, uint64_t bit)
{
    bytes[bit / 8] ^= (unsigned char)(1u << bit % 8);
}

/* Puts both files in place, as they are in the pair; the test changes them there. */
static void put(const struct fuzz_sums_store *pair)
{
    fuzz_files_clear();
    fuzz_file_put(FUZZ_STORE, pair->store.bytes, pair->store.length_bytes);
    fuzz_file_put(FUZZ_STORE_SUMS, pair->sums.bytes, pair->sums.length_bytes);
}

static int clear_teardown(void **state)
{
    (void)state;
    fuzz_files_clear();
    return 0;
}

static uint64_t block_end(const struct fuzz_sums_store *pair, uint64_t offset)
{
    return cellar_sum_min((offset / BLOCK + 1) * BLOCK, pair->store.length_bytes);
}

/* The cell with the byte at offset gives this result, and where that is 0 the bytes that were written. */
static void check_cell(const struct fuzz_sums_store *pair, const struct cellar_snapshot *snapshot, uint64_t offset,
                       int expected)
{
    unsigned char scratch[CELL];
    const void *cell;

    assert_result(cellar_snapshot_get(snapshot, (uint32_t)(offset / CELL), scratch, &cell), expected);
    if (expected == 0)
        assert_memory_equal(cell, pair->store.bytes + offset / CELL * CELL, CELL);
}

/* A reader that verifies; rotten: a byte of the block that it must not show, or 0. */
static void verify(const struct fuzz_sums_store *pair, uint64_t rotten)
{
    struct cellar_reader_options options = {.verify = true, .cache_bytes = 1};
    struct cellar_snapshot snapshot;
    struct cellar_reader *reader;

    assert_done(cellar_reader_open(FUZZ_STORE, &options, &reader));
    snapshot = cellar_reader_snapshot(reader);
    for (uint64_t at = CELLAR_HEADER_BYTES; at < pair->store.length_bytes; at = block_end(pair, at)) {
        int expected = rotten > 0 && rotten / BLOCK == at / BLOCK ? CELLAR_ECHECKSUM : 0;

        check_cell(pair, &snapshot, at, expected);
        check_cell(pair, &snapshot, block_end(pair, at) - 1, expected);
        if (expected != 0)
            check_cell(pair, &snapshot, rotten, expected);
    }
    cellar_reader_close(reader);
}

/* ---- cells ---- */

/* The bit is flipped there now. named: check says which it is. */
static void check_bit(const struct fuzz_sums_store *pair, uint64_t bit, bool named)
{
    uint64_t at = bit / 8, begin = cellar_sum_block_begin(at / BLOCK);
    struct rots rots = {.count = 0};
    struct cellar_sums_options options = {.rotten = named ? take_rot : NULL, .user = &rots};
    struct cellar_sums_report report;

    assert_done(cellar_sums_check(FUZZ_STORE, &options, &report));
    assert_int_equal(report.state, CELLAR_SUMS_GOOD);
    assert_int_equal(report.rotten_blocks, 1);
    assert_int_equal(report.broken_sectors, 0);
    assert_int_equal(report.uncovered_bytes, 0);
    assert_int_equal(report.verified_bytes, pair->store.length_bytes - CELLAR_HEADER_BYTES);
    assert_int_equal(report.tail_rotten, block_end(pair, at) == pair->store.length_bytes);
    if (!named)
        return;
    assert_int_equal(rots.count, 1);
    assert_int_equal(rots.first.offset_bytes, begin);
    assert_int_equal(rots.first.length_bytes, block_end(pair, at) - begin);
    assert_true(rots.first.located && !rots.first.unreadable);
    assert_int_equal(rots.first.bit_offset_bytes, at);
    assert_int_equal(rots.first.bit, bit % 8);
    assert_int_equal(rots.first.bit_index, at / CELL);
}

/* Every bit of the cells; every such many one is to be named. */
static void flip_cells(const struct fuzz_sums_store *pair, uint64_t names_every)
{
    put(pair);
    for (uint64_t bit = 8 * CELLAR_HEADER_BYTES; bit < 8 * pair->store.length_bytes; bit++) {
        flip(fuzz_file_look(FUZZ_STORE).bytes, bit);
        check_bit(pair, bit, bit % names_every == 0);
        verify(pair, bit / 8);
        flip(fuzz_file_look(FUZZ_STORE).bytes, bit);
    }
    verify(pair, 0);
}

static void test_every_bit_of_a_block_is_named(void **state)
{
    (void)state;
    flip_cells(fuzz_sums_store(SMALL), 1);
}

/* To name a bit of a whole block takes milliseconds. */
static void test_every_bit_of_blocks_is_found(void **state)
{
    (void)state;
    flip_cells(fuzz_sums_store(LATER), NAMES_EVERY);
}

/* ---- the checksum file ---- */

static bool is_head(uint64_t at)
{
    return at < CELLAR_SUM_AT_COPIES;
}

/* A writer goes on with the broken file: what it makes is sound, and nothing that was rotten before it became so. */
static void go_on(const struct fuzz_sums_store *pair)
{
    struct cellar_writer_options options = fuzz_sums_options();
    struct cellar_sums_report report;
    struct cellar_writer *writer;
    struct cellar_info info;
    uint32_t index;

    assert_done(cellar_writer_open(FUZZ_STORE, &options, &writer));
    assert_done(cellar_writer_write_value(writer, "more", 4, &index));
    assert_done(cellar_writer_flush(writer));
    cellar_writer_info(writer, &info);
    assert_int_equal(info.sums_error, 0);
    assert_done(cellar_writer_close(writer));
    assert_done(cellar_sums_check(FUZZ_STORE, NULL, &report));
    assert_int_equal(report.rotten_blocks, 0);
    assert_true(report.state == CELLAR_SUMS_GOOD || report.state == CELLAR_SUMS_BEHIND);
    verify(pair, 0);
}

/* What check says of a store whose checksum file has a broken bit at this byte. */
static void check_file(const struct fuzz_sums_store *pair, uint64_t at)
{
    bool in_sums = at >= CELLAR_SUM_AT_SUMS;
    struct cellar_sums_report report;

    assert_done(cellar_sums_check(FUZZ_STORE, NULL, &report));
    assert_int_equal(report.rotten_blocks, 0);
    assert_int_equal(report.broken_sectors, in_sums);
    assert_int_equal(report.state, in_sums ? CELLAR_SUMS_BEHIND : CELLAR_SUMS_GOOD);
    assert_int_equal(report.uncovered_bytes, in_sums ? pair->store.length_bytes - CELLAR_HEADER_BYTES : 0);
    verify(pair, 0);
}

/* Where sectors lie that were written: each is broken bit by bit. */
static void flip_sums(const struct fuzz_sums_store *pair)
{
    for (size_t sector = 0; sector <= CELLAR_SUM_HEAD_COUNT + CELLAR_SUM_COPY_COUNT; sector++) {
        uint64_t from = fuzz_sums_offset(sector);

        put(pair);
        if (cellar_load_le64(pair->sums.bytes + from) == 0)
            continue; /* a copy of cells that are not there */
        for (uint64_t bit = 8 * from; bit < 8 * (from + CELLAR_SUM_SECTOR_BYTES); bit++) {
            flip(fuzz_file_look(FUZZ_STORE_SUMS).bytes, bit);
            check_file(pair, bit / 8);
            flip(fuzz_file_look(FUZZ_STORE_SUMS).bytes, bit);
        }
        for (uint64_t bit = 8 * from; bit < 8 * (from + CELLAR_SUM_SECTOR_BYTES); bit += 37) {
            put(pair);
            flip(fuzz_file_look(FUZZ_STORE_SUMS).bytes, bit);
            go_on(pair);
        }
    }
}

static void test_every_bit_of_the_sums(void **state)
{
    (void)state;
    flip_sums(fuzz_sums_store(SMALL));
    flip_sums(fuzz_sums_store(LATER));
}

/* The first sector of several: only its own cells lose their sums, and what comes after them gets some all the same. */
static void test_the_first_of_two_sectors(void **state)
{
    const struct fuzz_sums_store *pair = fuzz_sums_store(LARGE);

    (void)state;
    for (uint64_t bit = 0; bit < 8 * CELLAR_SUM_SECTOR_BYTES; bit += 101) {
        put(pair);
        flip(fuzz_file_look(FUZZ_STORE_SUMS).bytes, 8 * CELLAR_SUM_AT_SUMS + bit);
        go_on(pair);
    }
}

/* Both heads: the file is lost, which is said, and nobody takes it for rot. */
static void test_both_heads(void **state)
{
    const struct fuzz_sums_store *pair = fuzz_sums_store(LATER);
    struct cellar_reader_options options = {.verify = true};
    struct cellar_sums_report report;
    struct cellar_reader *reader;

    (void)state;
    put(pair);
    flip(fuzz_file_look(FUZZ_STORE_SUMS).bytes, 0);
    for (uint64_t bit = 8 * BLOCK; bit < 8 * (BLOCK + CELLAR_SUM_SECTOR_BYTES); bit++) {
        flip(fuzz_file_look(FUZZ_STORE_SUMS).bytes, bit);
        assert_true(is_head(bit / 8));
        assert_done(cellar_sums_check(FUZZ_STORE, NULL, &report));
        assert_int_equal(report.state, CELLAR_SUMS_LOST);
        assert_int_equal(report.rotten_blocks, 0);
        assert_result(cellar_reader_open(FUZZ_STORE, &options, &reader), CELLAR_ESUMS);
        flip(fuzz_file_look(FUZZ_STORE_SUMS).bytes, bit);
    }
}

/* A bit of a cell and one of its checksum's sector: the cell is not covered then, and check says which is broken. */
static void test_a_cell_and_its_sums(void **state)
{
    const struct fuzz_sums_store *pair = fuzz_sums_store(LATER);
    struct cellar_sums_report report;

    (void)state;
    put(pair);
    flip(fuzz_file_look(FUZZ_STORE).bytes, 8 * 300);
    for (uint64_t bit = 8 * CELLAR_SUM_AT_SUMS; bit < 8 * (CELLAR_SUM_AT_SUMS + CELLAR_SUM_SECTOR_BYTES); bit++) {
        flip(fuzz_file_look(FUZZ_STORE_SUMS).bytes, bit);
        assert_done(cellar_sums_check(FUZZ_STORE, NULL, &report));
        assert_int_equal(report.state, CELLAR_SUMS_BEHIND);
        assert_int_equal(report.broken_sectors, 1);
        assert_int_equal(report.verified_bytes, 0);
        flip(fuzz_file_look(FUZZ_STORE_SUMS).bytes, bit);
    }
}

/* Heads whose check holds, of a header whose config was broken: no store that can't be opened is made of it. */
static void test_a_broken_config_is_not_restored(void **state)
{
    const struct fuzz_sums_store *pair = fuzz_sums_store(LATER);
    struct cellar_config config;
    uint32_t next, root;

    (void)state;
    for (uint64_t bit = 0; bit < 8 * CELLAR_AT_VERSION; bit++) {
        unsigned char *sums;

        put(pair);
        sums = fuzz_file_look(FUZZ_STORE_SUMS).bytes;
        for (int i = 0; i < CELLAR_SUM_HEAD_COUNT; i++) {
            struct cellar_sum_head head;

            assert_done(cellar_sum_head_decode(sums + cellar_sum_head_offset(i), &head));
            flip(head.header, bit);
            cellar_sum_head_encode(&head, sums + cellar_sum_head_offset(i));
        }
        assert_result(cellar_sums_restore(FUZZ_STORE, FUZZ_MADE, NULL, &config, &next, &root), CELLAR_ESUMS);
        assert_null(fuzz_file_look(FUZZ_MADE).bytes);
    }
    put(pair);
    assert_done(cellar_sums_restore(FUZZ_STORE, FUZZ_MADE, NULL, &config, &next, &root));
    assert_int_equal(next * (uint64_t)CELL, pair->store.length_bytes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(test_every_bit_of_a_block_is_named, clear_teardown),
        cmocka_unit_test_teardown(test_every_bit_of_blocks_is_found, clear_teardown),
        cmocka_unit_test_teardown(test_every_bit_of_the_sums, clear_teardown),
        cmocka_unit_test_teardown(test_the_first_of_two_sectors, clear_teardown),
        cmocka_unit_test_teardown(test_both_heads, clear_teardown),
        cmocka_unit_test_teardown(test_a_cell_and_its_sums, clear_teardown),
        cmocka_unit_test_teardown(test_a_broken_config_is_not_restored, clear_teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
