/* Checked flushes, on a device whose machine can lose its power: what they cost, what they store and when, what is
 * found after them. Where nobody can be sure of a record: test_writer_checked_doubts.c. */
#include "medium.h"
#include "store_fixture.h"

#include "cell/record.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { BYTES_PER_CELL = 64, MAX_INDEX = 12000, START = 4, FEW = 5, RECORD_CELLS_MAX = (256 << 10) / BYTES_PER_CELL };

struct scene {
    struct medium *medium;
    struct cellar_writer *writer;
};

static struct cellar_writer_options writer_options(void)
{
    return (struct cellar_writer_options){.resize_step_bytes = 512 << 10};
}

static void create_with(struct scene *scene, bool window, const struct cellar_writer_options *options)
{
    struct cellar_config config = store_config(BYTES_PER_CELL, MAX_INDEX);

    scene->medium = medium_new(window);
    assert_done(cellar_writer_create_on(scene->medium->device, &config, options, &scene->writer));
    scene->medium->sync_count = 0;
}

static void create(struct scene *scene, bool window)
{
    struct cellar_writer_options options = writer_options();

    create_with(scene, window, &options);
}

static void open_again(struct scene *scene)
{
    struct cellar_writer_options options = writer_options();

    assert_done(cellar_writer_open_on(scene->medium->device, &options, &scene->writer));
}

static void abandon(struct scene *scene)
{
    cellar_writer_abandon(scene->writer);
    scene->writer = NULL;
    scene->medium->locked = false;
}

static void end(struct scene *scene)
{
    if (scene->writer != NULL)
        abandon(scene);
    medium_free(scene->medium);
}

/* Appends cells, the first of which becomes the root, and flushes. Returns how many barriers that took. */
static int flush_cells(struct scene *scene, uint32_t cell_count)
{
    int syncs = scene->medium->sync_count;

    if (cell_count > 0)
        assert_done(cellar_writer_set_root(scene->writer, store_append(scene->writer, cell_count)));
    assert_done(cellar_writer_flush(scene->writer));
    return scene->medium->sync_count - syncs;
}

static struct cellar_record record_at(const unsigned char *header, int place)
{
    return cellar_record_decode(header + cellar_record_offset(place));
}

static bool records_are_zero(const unsigned char *header)
{
    for (int i = CELLAR_AT_RECORDS; i < CELLAR_AT_RECORDS + CELLAR_RECORD_COUNT * CELLAR_RECORD_BYTES; i++) {
        if (header[i] != 0)
            return false;
    }
    return true;
}

static void assert_slots(const unsigned char *header, uint32_t next_index)
{
    for (int name = CELLAR_DISK_1; name <= CELLAR_DISK_2; name++) {
        struct cellar_slot slot = cellar_slot_decode(header + cellar_slot_offset((enum cellar_slot_name)name));

        assert_true(slot.valid);
        assert_int_equal(slot.state.next_index, next_index);
    }
}

static uint32_t flags_of(const unsigned char *header)
{
    return cellar_extension_decode(header).flags;
}

/* ---- what a flush does ---- */

static void test_record_and_cells_go_before_the_slots(void **state)
{
    struct scene scene;

    (void)state;
    for (int window = 0; window < 2; window++) {
        create(&scene, window == 1);
        for (uint32_t flush = 0; flush < 4; flush++) {
            const unsigned char *header = scene.medium->headers[flush];
            uint32_t from = START + flush * FEW, next = from + FEW;
            struct cellar_record record;

            assert_int_equal(flush_cells(&scene, FEW), 1);
            /* As the barrier began: the record in its turn, the slots of the flush before. */
            record = record_at(header, (int)flush % 2);
            assert_int_equal(record.from_index, from);
            assert_int_equal(record.state.next_index, next);
            assert_int_equal(record.state.root_index, from);
            assert_true(record.hash == cellar_record_hash(&record, scene.medium->memory + (size_t)from * BYTES_PER_CELL,
                                                          FEW * (size_t)BYTES_PER_CELL));
            assert_int_equal(flags_of(header), CELLAR_FLAG_CHECKED | CELLAR_FLAG_SYNCING);
            assert_slots(header, from);
            assert_int_equal(scene.medium->ends_bytes[flush], (uint64_t)next * BYTES_PER_CELL);
            if (flush > 0) /* that of the flush before stays */
                assert_int_equal(record_at(header, 1 - (int)flush % 2).state.next_index, from);
            /* After it the slots, for whoever reads them. */
            assert_slots(scene.medium->memory, next);
            assert_int_equal(flags_of(scene.medium->memory), CELLAR_FLAG_CHECKED);
        }
        end(&scene);
    }
}

/* ---- what it costs ---- */

static void test_barriers_of_a_flush(void **state)
{
    struct scene scene;

    (void)state;
    for (int window = 0; window < 2; window++) {
        create(&scene, window == 1);
        assert_int_equal(flush_cells(&scene, 0), 0);
        assert_int_equal(flush_cells(&scene, 1), 1);
        assert_int_equal(flush_cells(&scene, RECORD_CELLS_MAX), 1);
        assert_int_equal(flush_cells(&scene, RECORD_CELLS_MAX + 1), 2);
        assert_true(records_are_zero(scene.medium->memory));
        assert_int_equal(flags_of(scene.medium->memory), 0);
        assert_int_equal(flush_cells(&scene, 1), 1);
        assert_done(cellar_writer_set_root(scene.writer, CELLAR_ROOT_NONE));
        assert_int_equal(flush_cells(&scene, 0), 2); /* a root alone has no cell that the hash could be of */
        assert_true(records_are_zero(scene.medium->memory));
        assert_int_equal(flush_cells(&scene, 1), 1);
        end(&scene);
    }
}

static void test_options_and_devices_that_wait_twice(void **state)
{
    struct cellar_writer_options options[3];
    struct scene scene;

    (void)state;
    for (int i = 0; i < 3; i++)
        options[i] = writer_options();
    options[0].two_barriers = true;
    options[1].compat = true;
    for (int i = 0; i < 3; i++) {
        struct cellar_config config = store_config(BYTES_PER_CELL, MAX_INDEX);

        scene.medium = medium_new(true);
        if (i == 2)
            scene.medium->incarnation = 0;
        assert_done(cellar_writer_create_on(scene.medium->device, &config, &options[i], &scene.writer));
        scene.medium->sync_count = 0;
        for (int flush = 0; flush < 3; flush++) {
            assert_int_equal(flush_cells(&scene, FEW), 2);
            assert_true(records_are_zero(scene.medium->memory));
            assert_int_equal(flags_of(scene.medium->memory), 0);
        }
        end(&scene);
    }
}

/* O_DIRECT has no cache that a record could be in and its cells not. */
static void test_direct_files_have_no_records(void **state)
{
    struct store_fixture *f = *state;
    struct cellar_writer *writer = store_new(f, BYTES_PER_CELL, MAX_INDEX);
    size_t length_bytes;
    unsigned char *bytes;

    store_append(writer, FEW);
    assert_done(cellar_writer_flush(writer));
    bytes = store_bytes(f, &length_bytes);
    assert_true(records_are_zero(bytes));
    assert_int_equal(flags_of(bytes) & CELLAR_FLAG_CHECKED, 0);
    free(bytes);
    store_close(writer);
}

/* The writer before may have left slots that are on their way, and a record that they rest on. */
static void test_next_writer_waits_twice_once(void **state)
{
    struct scene scene;

    (void)state;
    for (int lose = 0; lose < 2; lose++) {
        create(&scene, true);
        flush_cells(&scene, FEW);
        abandon(&scene);
        if (lose == 1)
            medium_lose_power(scene.medium);
        open_again(&scene);
        assert_true((flags_of(scene.medium->memory) & CELLAR_FLAG_CHECKED) != 0);
        assert_int_equal(flush_cells(&scene, FEW), 2);
        assert_true(records_are_zero(scene.medium->memory));
        assert_int_equal(flush_cells(&scene, FEW), 1);
        end(&scene);
    }
}

/* After a power loss nobody knows which cells are durable. The slots count them, and a record with their own next index
 * would count for nothing. */
static void test_cells_of_unknown_durability_take_two(void **state)
{
    struct scene scene;

    (void)state;
    create(&scene, true);
    flush_cells(&scene, FEW);
    assert_done(cellar_writer_close(scene.writer));
    medium_write_back(scene.medium, 0, CELLAR_HEADER_BYTES); /* the records' zeros, too */
    medium_lose_power(scene.medium);
    open_again(&scene);
    assert_int_equal(flags_of(scene.medium->memory), 0);
    assert_done(cellar_writer_set_root(scene.writer, CELLAR_ROOT_NONE));
    assert_int_equal(flush_cells(&scene, 0), 2);
    assert_true(records_are_zero(scene.medium->memory));
    assert_int_equal(flush_cells(&scene, FEW), 1);
    end(&scene);
}

/* What two barriers want of a writer that has them in every flush, on what one without left. */
static void test_writer_of_two_barriers_ends_records(void **state)
{
    struct cellar_writer_options options = writer_options();
    struct scene scene;

    (void)state;
    for (int compat = 0; compat < 2; compat++) {
        create(&scene, true);
        flush_cells(&scene, FEW);
        flush_cells(&scene, FEW);
        abandon(&scene);
        options.compat = compat == 1;
        options.two_barriers = compat == 0;
        assert_done(cellar_writer_open_on(scene.medium->device, &options, &scene.writer));
        assert_int_equal(flush_cells(&scene, FEW), 2);
        assert_true(records_are_zero(scene.medium->memory));
        assert_slots(scene.medium->memory, START + 3 * FEW);
        assert_int_equal(flush_cells(&scene, FEW), 2);
        end(&scene);
    }
}

/* ---- close ---- */

static void assert_closed(struct scene *scene, uint32_t next_index, int syncs, int syncs_max)
{
    assert_done(cellar_writer_close(scene->writer));
    scene->writer = NULL;
    assert_true(scene->medium->sync_count - syncs <= syncs_max);
    assert_slots(scene->medium->memory, next_index);
    assert_slots(scene->medium->disk, next_index);
    assert_true(records_are_zero(scene->medium->memory));
    store_assert_marks(scene->medium->memory);
    assert_int_equal(flags_of(scene->medium->memory), 0);
}

static void test_close_leaves_what_the_original_reads(void **state)
{
    struct scene scene;

    (void)state;
    for (int window = 0; window < 2; window++) {
        create(&scene, window == 1);
        flush_cells(&scene, FEW);
        assert_closed(&scene, START + FEW, scene.medium->sync_count, 1); /* nothing to flush: the slots alone */
        open_again(&scene);
        store_append(scene.writer, FEW);
        assert_closed(&scene, START + 2 * FEW, scene.medium->sync_count, 2);
        /* The zeros may be lost: what stands there says no more than the slots. */
        medium_lose_power(scene.medium);
        open_again(&scene);
        assert_int_equal(cellar_writer_next(scene.writer), START + 2 * FEW);
        assert_closed(&scene, START + 2 * FEW, scene.medium->sync_count, 2);
        end(&scene);
    }
}

/* ---- after a power loss ---- */

/* Three flushes, and a power loss that takes the slots of the last. */
static void leave_a_record(struct scene *scene, bool window)
{
    create(scene, window);
    for (int flush = 0; flush < 3; flush++)
        flush_cells(scene, FEW);
    store_append(scene->writer, FEW);
    assert_done(cellar_writer_commit(scene->writer));
    abandon(scene);
    medium_lose_power(scene->medium);
    assert_slots(scene->medium->memory, START + 2 * FEW);
}

static void break_slots(struct medium *medium)
{
    for (int name = CELLAR_DISK_1; name <= CELLAR_DISK_2; name++)
        medium->memory[cellar_slot_offset((enum cellar_slot_name)name) + 3] ^= 0x10;
}

static struct cellar_reader *open_reader(struct medium *medium)
{
    struct cellar_reader *reader;

    assert_done(cellar_reader_open_on(medium->device, NULL, &reader));
    return reader;
}

static void assert_reader(struct cellar_reader *reader, uint32_t next_index)
{
    struct cellar_snapshot snapshot = cellar_reader_snapshot(reader);
    struct cellar_info info;

    cellar_reader_info(reader, &info);
    assert_int_equal(snapshot.next_index, next_index);
    assert_int_equal(snapshot.root_index, next_index - FEW);
    assert_int_equal(info.flushed_next_index, next_index);
    store_assert_cells(&snapshot);
}

static void test_reader_stands_at_the_record_and_goes_on(void **state)
{
    struct scene scene;

    (void)state;
    for (int broken = 0; broken < 2; broken++) {
        struct cellar_reader *reader;

        leave_a_record(&scene, broken == 1);
        if (broken == 1)
            break_slots(scene.medium);
        reader = open_reader(scene.medium);
        assert_reader(reader, START + 3 * FEW);
        assert_result(cellar_reader_refresh(reader), CELLAR_NONE);
        open_again(&scene); /* raises the slots, to no more than they say of what was flushed */
        assert_int_equal(cellar_writer_root(scene.writer), START + 2 * FEW);
        assert_true(cellar_reader_refresh(reader) >= 0);
        assert_int_equal(cellar_reader_snapshot(reader).root_index, START + 2 * FEW);
        flush_cells(&scene, FEW);
        assert_done(cellar_reader_refresh(reader));
        assert_int_equal(cellar_reader_snapshot(reader).next_index, cellar_writer_next(scene.writer));
        assert_int_equal(cellar_reader_snapshot(reader).root_index, cellar_writer_next(scene.writer) - FEW);
        cellar_reader_close(reader);
        end(&scene);
    }
}

static void test_writer_opens_on_the_record(void **state)
{
    struct scene scene;

    (void)state;
    for (int broken = 0; broken < 2; broken++) {
        struct cellar_snapshot snapshot;
        struct cellar_recovery recovery;

        leave_a_record(&scene, broken == 0);
        if (broken == 1)
            break_slots(scene.medium);
        open_again(&scene);
        cellar_writer_recovery(scene.writer, &recovery);
        assert_int_equal(recovery.disk_next_index, START + 3 * FEW);
        assert_int_equal(recovery.disk_root_index, START + 2 * FEW);
        snapshot = cellar_writer_snapshot(scene.writer);
        assert_true(store_cells_hold(&snapshot, START, 3 * FEW));
        /* And the next power loss finds no less, whether or not anything was flushed. */
        abandon(&scene);
        medium_lose_power(scene.medium);
        open_again(&scene);
        assert_int_equal(cellar_writer_root(scene.writer), START + 2 * FEW);
        end(&scene);
    }
}

/* The record's line is on the disk, with the cells; that of the process-sync slots isn't yet. */
static void test_record_ahead_of_process_sync(void **state)
{
    struct cellar_recovery recovery;
    struct scene scene;

    (void)state;
    create(&scene, true);
    flush_cells(&scene, FEW);
    scene.medium->fail_sync = 1; /* nothing of the flush is on the disk */
    store_append(scene.writer, FEW);
    assert_result(cellar_writer_flush(scene.writer), -EIO);
    abandon(&scene);
    medium_write_back(scene.medium, CELLAR_AT_FLAGS, CELLAR_HEADER_BYTES - CELLAR_AT_FLAGS);
    medium_write_back(scene.medium, (START + FEW) * BYTES_PER_CELL, FEW * BYTES_PER_CELL);
    medium_lose_power(scene.medium);
    open_again(&scene);
    cellar_writer_recovery(scene.writer, &recovery);
    assert_int_equal(recovery.found, CELLAR_FOUND_DISK_NEWER);
    assert_int_equal(recovery.next_index, START + 2 * FEW);
    assert_int_equal(recovery.disk_next_index, START + 2 * FEW);
    assert_int_equal(recovery.process_next_index, START + FEW);
    assert_int_equal(recovery.skipped_cells, 0);
    assert_false(recovery.root_dropped);
    assert_int_equal(recovery.repaired_slots, CELLAR_SLOT_DISK_1 | CELLAR_SLOT_DISK_2);
    end(&scene);
}

/* Any bit of the record, or of its cells: the flush before is found, whatever the slots say. */
static void assert_every_flip(struct scene *scene, uint64_t offset, uint64_t length_bytes, uint32_t next_index)
{
    for (uint64_t bit = 0; bit < length_bytes * 8; bit++) {
        unsigned char *byte = scene->medium->memory + offset + bit / 8;
        struct cellar_reader *reader;

        *byte = (unsigned char)(*byte ^ 1u << bit % 8);
        reader = open_reader(scene->medium);
        assert_reader(reader, next_index);
        cellar_reader_close(reader);
        *byte = (unsigned char)(*byte ^ 1u << bit % 8);
    }
}

static void test_every_flip_of_a_record(void **state)
{
    struct scene scene;

    (void)state;
    for (int broken = 0; broken < 2; broken++) {
        leave_a_record(&scene, true);
        if (broken == 1)
            break_slots(scene.medium);
        assert_every_flip(&scene, cellar_record_offset(0), CELLAR_RECORD_BYTES, START + 2 * FEW);
        assert_every_flip(&scene, (START + 2 * FEW) * BYTES_PER_CELL, FEW * BYTES_PER_CELL, START + 2 * FEW);
        assert_every_flip(&scene, cellar_record_offset(1), CELLAR_RECORD_BYTES, START + 3 * FEW); /* the older one */
        end(&scene);
    }
}

/* A record of more cells than one may have, or of cells that the header or nobody has, though its hash is right. */
static void test_records_out_of_bounds(void **state)
{
    static const struct {
        uint32_t from, next;
    } records[] = {{0, START + 10},
                   {START - 1, START + 10},
                   {START + 10, START + 10},
                   {START + 11, START + 10},
                   {MAX_INDEX - 1, MAX_INDEX + 1}};
    struct scene scene;

    (void)state;
    leave_a_record(&scene, true);
    scene.medium->memory_size_bytes = MAX_INDEX * BYTES_PER_CELL;
    for (size_t i = 0; i < SUPPORT_COUNT(records) + 1; i++) {
        struct cellar_record record = {.from_index = START, .state = {.next_index = START + RECORD_CELLS_MAX + 1}};
        struct cellar_reader *reader;
        size_t length_bytes = 0;

        if (i < SUPPORT_COUNT(records))
            record = (struct cellar_record){.from_index = records[i].from, .state = {.next_index = records[i].next}};
        if (record.state.next_index > record.from_index)
            length_bytes = (size_t)(record.state.next_index - record.from_index) * BYTES_PER_CELL;
        record.hash = cellar_record_hash(&record, scene.medium->memory + (size_t)record.from_index * BYTES_PER_CELL,
                                         length_bytes);
        cellar_record_encode(&record, scene.medium->memory + cellar_record_offset(0));
        reader = open_reader(scene.medium);
        assert_int_equal(cellar_reader_snapshot(reader).next_index, START + 2 * FEW);
        cellar_reader_close(reader);
    }
    end(&scene);
}

/* What is read to open after a power loss: the cells of two records at most, however large the store is. */
static void test_opening_cost_is_bounded(void **state)
{
    const uint64_t most_bytes = 2 * CELLAR_RECORD_CELLS_BYTES_MAX + 4096;
    struct cellar_reader *reader;
    struct scene scene;

    (void)state;
    create(&scene, true);
    flush_cells(&scene, RECORD_CELLS_MAX + 100);
    flush_cells(&scene, RECORD_CELLS_MAX);
    flush_cells(&scene, FEW);
    abandon(&scene);
    scene.medium->bytes_read = 0;
    cellar_reader_close(open_reader(scene.medium)); /* on this boot no cell is read */
    assert_true(scene.medium->bytes_read <= 4096);
    medium_lose_power(scene.medium);
    scene.medium->bytes_read = 0;
    reader = open_reader(scene.medium);
    assert_true(scene.medium->bytes_read > CELLAR_RECORD_CELLS_BYTES_MAX);
    assert_true(scene.medium->bytes_read <= most_bytes);
    assert_reader(reader, START + 2 * RECORD_CELLS_MAX + 100 + FEW);
    cellar_reader_close(reader);
    scene.medium->bytes_read = 0;
    scene.medium->sync_count = 0;
    open_again(&scene);
    assert_true(scene.medium->bytes_read <= most_bytes);
    assert_true(scene.medium->sync_count <= 2);
    end(&scene);
}

/* ---- a barrier that fails ---- */

/* Its page is read again as the disk has it: the slots of the flush before were on their way, and are stored again. */
static void test_failed_barrier_keeps_the_flush_before(void **state)
{
    struct scene scene;

    (void)state;
    create(&scene, true);
    flush_cells(&scene, FEW);
    flush_cells(&scene, FEW);
    store_append(scene.writer, FEW);
    assert_done(cellar_writer_commit(scene.writer));
    scene.medium->fail_sync = 1;
    medium_evict(scene.medium); /* what the failure does, before the writer learns of it */
    assert_slots(scene.medium->memory, START + FEW);
    assert_result(cellar_writer_flush(scene.writer), -EIO);
    assert_slots(scene.medium->memory, START + 2 * FEW);
    assert_true((flags_of(scene.medium->memory) & CELLAR_FLAG_SUSPECT) != 0);
    end(&scene);
}

/* A record that no barrier confirmed, and whose state was given up: a power loss must not bring it back. */
static void test_what_was_given_up_stays_so(void **state)
{
    struct scene scene;

    (void)state;
    create(&scene, true);
    flush_cells(&scene, FEW);
    scene.medium->fail_sync = 1;
    assert_done(cellar_writer_set_root(scene.writer, store_append(scene.writer, FEW)));
    assert_result(cellar_writer_flush(scene.writer), -EIO);
    abandon(&scene);
    open_again(&scene); /* SUSPECT: the root falls back */
    assert_int_equal(cellar_writer_root(scene.writer), START);
    assert_int_equal(record_at(scene.medium->memory, 1).state.next_index, 0);
    abandon(&scene);
    medium_lose_power(scene.medium);
    open_again(&scene);
    assert_int_equal(cellar_writer_root(scene.writer), START);
    end(&scene);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_record_and_cells_go_before_the_slots),
        cmocka_unit_test(test_barriers_of_a_flush),
        cmocka_unit_test(test_options_and_devices_that_wait_twice),
        STORE_ON(test_direct_files_have_no_records, STORE_DIRECT),
        cmocka_unit_test(test_next_writer_waits_twice_once),
        cmocka_unit_test(test_cells_of_unknown_durability_take_two),
        cmocka_unit_test(test_writer_of_two_barriers_ends_records),
        cmocka_unit_test(test_close_leaves_what_the_original_reads),
        cmocka_unit_test(test_reader_stands_at_the_record_and_goes_on),
        cmocka_unit_test(test_writer_opens_on_the_record),
        cmocka_unit_test(test_record_ahead_of_process_sync),
        cmocka_unit_test(test_every_flip_of_a_record),
        cmocka_unit_test(test_records_out_of_bounds),
        cmocka_unit_test(test_opening_cost_is_bounded),
        cmocka_unit_test(test_failed_barrier_keeps_the_flush_before),
        cmocka_unit_test(test_what_was_given_up_stays_so),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
