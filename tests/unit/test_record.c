/* What is read of records and their cells, and what becomes of it where reading fails. */
#include "support.h"

#include "base/bytes.h"
#include "cell/record.h"

#include <errno.h>
#include <string.h>

enum { CELL = 64, FILE_CELLS = 100, CELL_MAX = 1 << 16 };

/* A device of bytes that their offsets name, and what it was asked for. */
struct stage {
    struct cellar_device *device;
    uint64_t size_bytes;
    int read_error, incarnation_error;
    uint64_t incarnation;
    int reads, looks; /* at the incarnation */
    uint64_t read_offset, read_bytes;
};

static unsigned char byte_at(uint64_t offset)
{
    return (unsigned char)(offset * 31 + (offset >> 8) * 7 + (offset >> 32) * 3);
}

static int stage_size(void *state, uint64_t *ret_size_bytes)
{
    *ret_size_bytes = ((const struct stage *)state)->size_bytes;
    return 0;
}

static ssize_t stage_read(void *state, void *buffer, size_t length_bytes, uint64_t offset)
{
    struct stage *stage = state;

    stage->reads++;
    stage->read_offset = offset;
    stage->read_bytes = length_bytes;
    for (size_t i = 0; i < length_bytes; i++)
        ((unsigned char *)buffer)[i] = byte_at(offset + i);
    return stage->read_error != 0 ? stage->read_error : (ssize_t)length_bytes;
}

static int stage_incarnation(void *state, uint64_t *ret_incarnation)
{
    struct stage *stage = state;

    stage->looks++;
    *ret_incarnation = stage->incarnation;
    return stage->incarnation_error;
}

static int stage_close(void *state)
{
    (void)state;
    return 0;
}

static void open_stage(struct stage *stage, uint64_t size_bytes)
{
    static const struct cellar_device_ops ops = {.name = "stage",
                                                 .size = stage_size,
                                                 .read = stage_read,
                                                 .incarnation = stage_incarnation,
                                                 .close = stage_close};

    *stage = (struct stage){.size_bytes = size_bytes, .incarnation = (uint64_t)2 << 32 | 1};
    assert_done(cellar_device_open(&ops, stage, &stage->device));
}

static void close_stage(struct stage *stage)
{
    assert_done(cellar_device_close(stage->device));
}

static uint64_t hash_of(const struct cellar_record *record, uint32_t bytes_per_cell)
{
    static unsigned char cells[CELL_MAX];
    uint64_t from = (uint64_t)record->from_index * bytes_per_cell;
    size_t length_bytes = (size_t)(record->state.next_index - record->from_index) * bytes_per_cell;

    assert_true(length_bytes <= sizeof cells);
    for (size_t i = 0; i < length_bytes; i++)
        cells[i] = byte_at(from + i);
    return cellar_record_hash(record, cells, length_bytes);
}

/* A header with a mark of another boot: slots at cell 8, and two records that hold, to 20 and to 30. */
static void fill_header(unsigned char header[CELLAR_HEADER_BYTES], uint32_t flags)
{
    struct cellar_state state = {.next_index = 8, .root_index = CELLAR_ROOT_NONE};

    memset(header, 0, CELLAR_HEADER_BYTES);
    for (int name = 0; name < CELLAR_SLOT_COUNT; name++)
        cellar_slot_encode(&state, NULL, header + cellar_slot_offset((enum cellar_slot_name)name));
    for (int place = 0; place < CELLAR_RECORD_COUNT; place++) {
        struct cellar_record record = {.from_index = 8, .state = {.next_index = place == 0 ? 20 : 30, .root_index = 9}};

        record.hash = hash_of(&record, CELL);
        cellar_record_encode(&record, header + cellar_record_offset(place));
    }
    cellar_store_le64(header + CELLAR_AT_BOOT_MARK, (uint64_t)1 << 32 | 1);
    cellar_store_le32(header + CELLAR_AT_FLAGS, flags);
}

/* Cells are read from where they are: beyond 4 GiB, too. */
static void test_cells_of_a_large_file(void **state)
{
    struct cellar_record record = {.from_index = 0x03000005, .state = {.next_index = 0x03000009, .root_index = 0}};
    struct stage stage;
    uint64_t hash = 0;

    (void)state;
    open_stage(&stage, (uint64_t)1 << 44);
    assert_done(cellar_record_hash_read(stage.device, 1000, &record, &hash));
    assert_int_equal(stage.reads, 1);
    assert_int_equal(stage.read_offset, (uint64_t)0x03000005 * 1000);
    assert_int_equal(stage.read_bytes, 4000);
    assert_int_equal(hash, hash_of(&record, 1000));
    close_stage(&stage);
}

/* What can't be read has no hash. */
static void test_read_fails(void **state)
{
    struct cellar_record record = {.from_index = 8, .state = {.next_index = 12, .root_index = 8}};
    struct stage stage;
    uint64_t hash = 77;

    (void)state;
    open_stage(&stage, FILE_CELLS * CELL);
    stage.read_error = -EIO;
    assert_result(cellar_record_hash_read(stage.device, CELL, &record, &hash), -EIO);
    assert_int_equal(hash, 77);
    close_stage(&stage);
}

static int gather(struct stage *stage, uint32_t flags, bool reads_only, struct cellar_evidence *ret_evidence)
{
    unsigned char header[CELLAR_HEADER_BYTES];

    fill_header(header, flags);
    return cellar_evidence_gather(stage->device, header, CELL, FILE_CELLS, reads_only, ret_evidence);
}

/* A reader and a writer alike find both. */
static void test_gathers(void **state)
{
    struct cellar_evidence evidence;
    struct stage stage;

    (void)state;
    for (int reads_only = 0; reads_only < 2; reads_only++) {
        open_stage(&stage, FILE_CELLS * CELL);
        assert_done(gather(&stage, CELLAR_FLAG_CHECKED, reads_only == 1, &evidence));
        assert_int_equal(evidence.incarnation, stage.incarnation);
        assert_int_equal(evidence.start_index, 4);
        assert_int_equal(evidence.file_cells, FILE_CELLS);
        assert_int_equal(evidence.reads_only, reads_only);
        for (int name = 0; name < CELLAR_SLOT_COUNT; name++)
            assert_true(evidence.slots[name].valid && evidence.slots[name].state.next_index == 8);
        assert_true(evidence.records[0].holds && evidence.records[0].state.next_index == 20);
        assert_true(evidence.records[1].holds && evidence.records[1].state.next_index == 30);
        assert_int_equal(stage.looks, 1);
        assert_int_equal(stage.reads, 2);
        close_stage(&stage);
    }
}

/* A reader asks for the incarnation where there are records, and nowhere else: it takes system calls. */
static void test_reader_without_records_asks_nothing(void **state)
{
    static const uint32_t flags[] = {0, CELLAR_FLAG_SYNCING, CELLAR_FLAG_SUSPECT | CELLAR_FLAG_WORD};
    struct cellar_evidence evidence;
    struct stage stage;

    (void)state;
    for (size_t i = 0; i < SUPPORT_COUNT(flags); i++) {
        open_stage(&stage, FILE_CELLS * CELL);
        assert_done(gather(&stage, flags[i], true, &evidence));
        assert_int_equal(stage.looks + stage.reads, 0);
        assert_int_equal(evidence.incarnation, 0);
        assert_int_equal(evidence.records[0].state.next_index, 0);
        assert_done(gather(&stage, flags[i], false, &evidence)); /* a writer does, and reads no cells */
        assert_int_equal(stage.looks, 1);
        assert_int_equal(stage.reads, 0);
        assert_int_equal(evidence.incarnation, stage.incarnation);
        close_stage(&stage);
    }
}

/* Records of this boot don't count, and their cells are not read for nothing. */
static void test_records_that_do_not_count_are_not_read(void **state)
{
    struct cellar_evidence evidence;
    struct stage stage;

    (void)state;
    open_stage(&stage, FILE_CELLS * CELL);
    stage.incarnation = (uint64_t)1 << 32 | 1;
    assert_done(gather(&stage, CELLAR_FLAG_CHECKED, false, &evidence));
    assert_int_equal(stage.reads, 0);
    assert_false(evidence.records[0].holds || evidence.records[1].holds);
    assert_int_equal(evidence.records[1].state.next_index, 30);
    close_stage(&stage);
}

/* A reader that can't have the incarnation goes by the slots; a writer must have it. */
static void test_incarnation_fails(void **state)
{
    struct cellar_evidence evidence = {.file_cells = 77};
    struct stage stage;

    (void)state;
    open_stage(&stage, FILE_CELLS * CELL);
    stage.incarnation_error = -EMFILE;
    assert_result(gather(&stage, CELLAR_FLAG_CHECKED, false, &evidence), -EMFILE);
    assert_int_equal(evidence.file_cells, 77);
    assert_done(gather(&stage, CELLAR_FLAG_CHECKED, true, &evidence));
    assert_int_equal(evidence.incarnation, 0);
    assert_false(evidence.records[0].holds || evidence.records[1].holds);
    assert_int_equal(stage.reads, 0);
    close_stage(&stage);
}

/* Cells that can't be read are no reason to take the state before for the last. */
static void test_cells_fail(void **state)
{
    struct cellar_evidence evidence = {.file_cells = 77};
    struct stage stage;

    (void)state;
    for (int reads_only = 0; reads_only < 2; reads_only++) {
        open_stage(&stage, FILE_CELLS * CELL);
        stage.read_error = -EIO;
        assert_result(gather(&stage, CELLAR_FLAG_CHECKED, reads_only == 1, &evidence), -EIO);
        assert_int_equal(stage.reads, 1);
        assert_int_equal(evidence.file_cells, 77);
        close_stage(&stage);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cells_of_a_large_file),
        cmocka_unit_test(test_read_fails),
        cmocka_unit_test(test_gathers),
        cmocka_unit_test(test_reader_without_records_asks_nothing),
        cmocka_unit_test(test_records_that_do_not_count_are_not_read),
        cmocka_unit_test(test_incarnation_fails),
        cmocka_unit_test(test_cells_fail),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
