/* Records of checked flushes where nobody can be sure of them: another mount of the file, a machine that forgot what it
 * had, memory that is not to be had. What a reader is shown is durable; what a writer adopts becomes so. */
#include "medium.h"
#include "store_fixture.h"

#include "cell/record.h"

#include <errno.h>
#include <malloc.h>
#include <stdlib.h>
#include <string.h>

enum { BYTES_PER_CELL = 64, MAX_INDEX = 8000, START = 4 };

struct scene {
    struct medium *medium;
    struct cellar_writer *writer;
    unsigned char before[MEDIUM_BYTES]; /* the memory as a sync began */
    uint32_t seen_next;                 /* by a reader at that time */
};

static struct cellar_writer_options writer_options(void)
{
    return (struct cellar_writer_options){.resize_step_bytes = 4096};
}

static void create(struct scene *scene, bool window)
{
    struct cellar_writer_options options = writer_options();
    struct cellar_config config = store_config(BYTES_PER_CELL, MAX_INDEX);

    scene->medium = medium_new(window);
    assert_done(cellar_writer_create_on(scene->medium->device, &config, &options, &scene->writer));
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

static void flush_cells(struct scene *scene, uint32_t cell_count)
{
    uint32_t first = store_append(scene->writer, cell_count);

    assert_done(cellar_writer_set_root(scene->writer, first));
    assert_done(cellar_writer_flush(scene->writer));
}

static uint32_t reader_next(struct medium *medium)
{
    struct cellar_device *device = medium_open(medium);
    struct cellar_snapshot snapshot;
    struct cellar_reader *reader;

    assert_done(cellar_reader_open_on(device, NULL, &reader));
    snapshot = cellar_reader_snapshot(reader);
    store_assert_cells(&snapshot);
    cellar_reader_close(reader);
    assert_done(cellar_device_close(device));
    return snapshot.next_index;
}

static void look_from_another_mount(void *user)
{
    struct scene *scene = user;

    scene->medium->incarnation++;
    scene->seen_next = reader_next(scene->medium);
    scene->medium->incarnation--;
}

/* The record is in the caches, with its cells, and on no disk. */
static void test_reader_of_another_mount_waits_for_the_barrier(void **state)
{
    struct scene scene = {.seen_next = 0};

    (void)state;
    for (int window = 0; window < 2; window++) {
        create(&scene, window == 1);
        flush_cells(&scene, 5);
        scene.medium->before_sync = look_from_another_mount;
        scene.medium->before_sync_user = &scene;
        flush_cells(&scene, 5);
        assert_int_equal(scene.seen_next, START + 5);
        scene.medium->before_sync = NULL;
        abandon(&scene);
        medium_free(scene.medium);
    }
}

static void look_without_incarnation(void *user)
{
    struct scene *scene = user;
    uint64_t incarnation = scene->medium->incarnation;

    scene->medium->incarnation = 0;
    scene->seen_next = reader_next(scene->medium);
    scene->medium->incarnation = incarnation;
}

/* The same of a reader that can't tell one boot from the next: in a sandbox without /proc. */
static void test_reader_without_incarnation_waits_for_the_barrier(void **state)
{
    struct scene scene = {.seen_next = 0};

    (void)state;
    create(&scene, true);
    flush_cells(&scene, 5);
    scene.medium->before_sync = look_without_incarnation;
    scene.medium->before_sync_user = &scene;
    flush_cells(&scene, 5);
    assert_int_equal(scene.seen_next, START + 5);
    scene.medium->before_sync = NULL;
    abandon(&scene);
    medium_free(scene.medium);
}

/* Readers needed no incarnation before there were records; where it fails they go by the slots. */
static void test_reader_opens_where_the_incarnation_fails(void **state)
{
    struct scene scene = {.seen_next = 0};

    (void)state;
    create(&scene, true);
    flush_cells(&scene, 5);
    scene.medium->incarnation_error = -EMFILE;
    assert_int_equal(reader_next(scene.medium), START + 5);
    abandon(&scene);
    medium_free(scene.medium);
}

static void keep_memory(void *user)
{
    struct scene *scene = user;

    memcpy(scene->before, scene->medium->memory, MEDIUM_BYTES);
}

/* The barrier of a checked flush fails, and the writer dies before it can say so. Its pages are clean, and not on the
 * disk. Who opens the store by another mount finds the record and its cells, and adopts them: they must get there. */
static void test_cells_of_a_failed_sync_are_written_again(void **state)
{
    static struct scene scene;

    (void)state;
    create(&scene, false);
    flush_cells(&scene, 100); /* more than a page, so that the header's is another */
    scene.medium->before_sync = keep_memory;
    scene.medium->before_sync_user = &scene;
    scene.medium->fail_sync = 1;
    store_append(scene.writer, 100);
    assert_result(cellar_writer_flush(scene.writer), -EIO);
    scene.medium->before_sync = NULL;
    abandon(&scene);
    memcpy(scene.medium->memory, scene.before, MEDIUM_BYTES); /* dead before SUSPECT */
    memset(scene.medium->lost + 1, 1, sizeof scene.medium->lost - 1);
    scene.medium->lost[0] = true;

    medium_mount_again(scene.medium);
    open_again(&scene);
    assert_int_equal(cellar_writer_next(scene.writer), START + 200);
    flush_cells(&scene, 5);
    abandon(&scene);
    medium_lose_power(scene.medium);
    assert_int_equal(reader_next(scene.medium), START + 205); /* with every cell */
    medium_free(scene.medium);
}

/* The slots are raised to a record's state only when it is durable, with its cells; also where they are broken. */
static void test_slots_wait_for_a_record_of_the_caches(void **state)
{
    static struct scene scene;

    (void)state;
    for (int broken = 0; broken < 2; broken++) {
        create(&scene, true);
        flush_cells(&scene, 5);
        scene.medium->before_sync = keep_memory;
        scene.medium->before_sync_user = &scene;
        flush_cells(&scene, 5);
        scene.medium->before_sync = NULL;
        abandon(&scene);
        memcpy(scene.medium->memory, scene.before, MEDIUM_BYTES); /* dead before the barrier */
        if (broken == 1) {
            scene.medium->memory[CELLAR_AT_SLOTS] ^= 1;
            scene.medium->memory[CELLAR_AT_SLOTS + CELLAR_SLOT_BYTES] ^= 1;
        }
        medium_mount_again(scene.medium);
        scene.medium->sync_count = 0;
        open_again(&scene);
        assert_true(scene.medium->sync_count > 0);
        assert_true(scene.medium->ends_bytes[0] >= (START + 10) * BYTES_PER_CELL);
        for (int name = CELLAR_DISK_1; name <= CELLAR_DISK_2; name++) {
            const unsigned char *slot = scene.medium->headers[0] + cellar_slot_offset((enum cellar_slot_name)name);

            assert_true(!cellar_slot_decode(slot).valid || cellar_slot_decode(slot).state.next_index == START + 5);
        }
        assert_int_equal(cellar_writer_next(scene.writer), START + 10);
        abandon(&scene);
        medium_free(scene.medium);
    }
}

static uint32_t disk_next_found(struct scene *scene)
{
    struct cellar_recovery recovery;

    cellar_writer_recovery(scene->writer, &recovery);
    return recovery.disk_next_index;
}

/* A writer that has flushed twice is gone. */
static void leave_two_flushes(struct scene *scene)
{
    create(scene, true);
    flush_cells(scene, 5);
    flush_cells(scene, 5);
    abandon(scene);
}

/* A sync fails, the writer dies before it can say so, and the header is read again as the disk has it: with the record
 * of the last flush, and the slots of the one before. The record is all that the disk has of that flush. */
static void test_record_stays_where_its_slots_were_evicted(void **state)
{
    static struct scene scene;

    (void)state;
    leave_two_flushes(&scene);
    medium_evict(scene.medium);
    open_again(&scene);
    assert_int_equal(cellar_writer_next(scene.writer), START + 10);
    abandon(&scene);
    medium_write_back(scene.medium, 0, CELLAR_HEADER_BYTES);
    medium_lose_power(scene.medium);
    open_again(&scene);
    assert_int_equal(disk_next_found(&scene), START + 10);
    abandon(&scene);
    medium_free(scene.medium);
}

/* The same, and the page was written while a commit went on: the disk has both process-sync slots torn, and nothing
 * but the record says what was flushed last. No process leaves both torn, so what is read came from the disk. */
static void test_record_counts_where_process_sync_was_torn(void **state)
{
    static struct scene scene;

    (void)state;
    for (int window = 0; window < 2; window++) {
        create(&scene, window == 1);
        flush_cells(&scene, 5);
        flush_cells(&scene, 5);
        abandon(&scene);
        scene.medium->disk[cellar_slot_offset(CELLAR_PROCESS_1)] ^= 1;
        scene.medium->disk[cellar_slot_offset(CELLAR_PROCESS_2)] ^= 1;
        medium_evict(scene.medium);
        assert_int_equal(reader_next(scene.medium), START + 5);
        open_again(&scene);
        assert_int_equal(cellar_writer_next(scene.writer), START + 10);
        assert_int_equal(cellar_writer_root(scene.writer), START + 5);
        flush_cells(&scene, 5);
        abandon(&scene);
        medium_lose_power(scene.medium);
        assert_int_equal(reader_next(scene.medium), START + 15);
        medium_free(scene.medium);
    }
}

/* The same under the next writer: the slots that it found were on their way. */
static void test_next_writer_stores_evicted_slots_again(void **state)
{
    static struct scene scene;

    (void)state;
    leave_two_flushes(&scene);
    open_again(&scene);
    store_append(scene.writer, 5);
    assert_done(cellar_writer_commit(scene.writer));
    medium_evict(scene.medium); /* what the failure does, before the writer learns of it */
    scene.medium->fail_sync = 1;
    assert_result(cellar_writer_flush(scene.writer), -EIO);
    abandon(&scene);
    open_again(&scene);
    assert_int_equal(disk_next_found(&scene), START + 10);
    abandon(&scene);
    medium_free(scene.medium);
}

/* Cells may begin within the header, behind the records; a record can't be of those. */
static void test_record_of_the_header_is_none(void **state)
{
    enum { SMALL = 7, SMALL_START = 37 };
    struct medium *medium = medium_new(true);
    struct cellar_evidence evidence;

    (void)state;
    medium->memory_size_bytes = 100 * SMALL;
    medium->memory[CELLAR_AT_FLAGS] = CELLAR_FLAG_CHECKED;
    for (uint32_t from = SMALL_START - 1; from <= SMALL_START; from++) {
        struct cellar_record record = {.from_index = from, .state = {.next_index = SMALL_START + 3}};

        record.hash = cellar_record_hash(&record, medium->memory + (size_t)from * SMALL,
                                         (size_t)(record.state.next_index - from) * SMALL);
        cellar_record_encode(&record, medium->memory + cellar_record_offset(0));
        assert_done(cellar_evidence_gather(medium->device, medium->memory, SMALL, 100, false, &evidence));
        assert_int_equal(evidence.records[0].holds, from == SMALL_START);
    }
    medium_free(medium);
}

/* A mount id that is given twice: the caches are gone, and the mark says that they are not. Two broken slots can't be
 * what a writer left in memory; the record is all there is. */
static void test_both_slots_broken_under_the_same_mark(void **state)
{
    struct scene scene = {.seen_next = 0};
    uint64_t incarnation;

    (void)state;
    leave_two_flushes(&scene);
    incarnation = scene.medium->incarnation;
    medium_lose_power(scene.medium);
    scene.medium->incarnation = incarnation;
    scene.medium->memory[CELLAR_AT_SLOTS] ^= 1;
    scene.medium->memory[CELLAR_AT_SLOTS + CELLAR_SLOT_BYTES] ^= 1;
    assert_int_equal(reader_next(scene.medium), START + 10);
    open_again(&scene);
    assert_int_equal(cellar_writer_next(scene.writer), START + 10);
    abandon(&scene);
    medium_free(scene.medium);
}

static int flush_now(void *user)
{
    return cellar_writer_flush(user);
}

/* A flush never needed memory. Without any it makes do: with two barriers, or a smaller piece at a time. */
static void test_flush_without_memory(void **state)
{
    struct scene scene = {.seen_next = 0};

    (void)state;
    if (SUPPORT_SANITIZED || support_under_valgrind())
        support_skip("an allocator that fails ends the process");
    create(&scene, false);
    flush_cells(&scene, 5);
    store_append(scene.writer, 4000);
    assert_done(cellar_writer_commit(scene.writer));
    assert_done(support_without_memory(flush_now, scene.writer));
    flush_cells(&scene, 5);
    abandon(&scene);
    medium_lose_power(scene.medium);
    assert_int_equal(reader_next(scene.medium), START + 4010);
    medium_free(scene.medium);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_reader_of_another_mount_waits_for_the_barrier),
        cmocka_unit_test(test_reader_without_incarnation_waits_for_the_barrier),
        cmocka_unit_test(test_reader_opens_where_the_incarnation_fails),
        cmocka_unit_test(test_cells_of_a_failed_sync_are_written_again),
        cmocka_unit_test(test_slots_wait_for_a_record_of_the_caches),
        cmocka_unit_test(test_record_stays_where_its_slots_were_evicted),
        cmocka_unit_test(test_record_counts_where_process_sync_was_torn),
        cmocka_unit_test(test_next_writer_stores_evicted_slots_again),
        cmocka_unit_test(test_record_of_the_header_is_none),
        cmocka_unit_test(test_both_slots_broken_under_the_same_mark),
        cmocka_unit_test(test_flush_without_memory),
    };

    mallopt(M_MMAP_THRESHOLD, 64 << 10); /* what is large comes from the system, and goes back */
    return cmocka_run_group_tests(tests, NULL, NULL);
}
