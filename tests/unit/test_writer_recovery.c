/* What opening for write makes of a file: after each way that a writer can end, and of every state of the four slots.
 */
#include "store_fixture.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { BYTES_PER_CELL = 32, MAX_INDEX = 5000, START = 8 };

static struct cellar_recovery reopen(struct store_fixture *f, struct cellar_writer **ret_writer)
{
    struct cellar_recovery recovery;

    *ret_writer = store_again(f);
    cellar_writer_recovery(*ret_writer, &recovery);
    return recovery;
}

/* The writer ends here, and the machine goes down: what was stored is there, but nothing says so. */
static void crash(struct store_fixture *f, struct cellar_writer *writer)
{
    cellar_writer_abandon(writer);
    store_lose_power(f);
}

static void assert_recovery(const struct cellar_recovery *recovery, enum cellar_found found, uint32_t next_index,
                            uint32_t root_index, uint32_t skipped_cells, bool root_dropped)
{
    assert_int_equal(recovery->found, found);
    assert_int_equal(recovery->next_index, next_index);
    assert_int_equal(recovery->root_index, root_index);
    assert_int_equal(recovery->skipped_cells, skipped_cells);
    assert_int_equal(recovery->root_dropped, root_dropped);
}

/* ---- the machine went down under the last writer (its process alone: test_writer_marks.c) ---- */

static void test_abandoned_at_each_stage(void **state)
{
    struct store_fixture *f = *state;
    struct cellar_writer *writer = store_new(f, BYTES_PER_CELL, MAX_INDEX);
    struct cellar_recovery recovery;
    struct cellar_snapshot snapshot;

    crash(f, writer); /* nothing was done */
    recovery = reopen(f, &writer);
    assert_recovery(&recovery, CELLAR_FOUND_CLEAN, 8, 0, 0, false);

    store_append(writer, 4); /* not committed */
    assert_done(cellar_writer_set_root(writer, 9));
    crash(f, writer);
    recovery = reopen(f, &writer);
    assert_recovery(&recovery, CELLAR_FOUND_CLEAN, 8, 0, 0, false);

    store_append(writer, 4); /* flushed */
    assert_done(cellar_writer_set_root(writer, 10));
    assert_done(cellar_writer_flush(writer));
    crash(f, writer);
    recovery = reopen(f, &writer);
    assert_recovery(&recovery, CELLAR_FOUND_CLEAN, 12, 10, 0, false);

    store_append(writer, 5); /* committed, not flushed; then more that is not committed */
    assert_done(cellar_writer_set_root(writer, 16));
    assert_done(cellar_writer_commit(writer));
    store_append(writer, 3);
    crash(f, writer);
    recovery = reopen(f, &writer);
    assert_recovery(&recovery, CELLAR_FOUND_UNFLUSHED, 17, 10, 5, true);
    assert_int_equal(recovery.disk_next_index, 12);
    assert_int_equal(recovery.disk_root_index, 10);
    assert_int_equal(recovery.process_next_index, 17);
    assert_int_equal(recovery.process_root_index, 16);
    assert_int_equal(recovery.repaired_slots, 0);
    assert_int_equal(cellar_writer_next(writer), 17);
    assert_int_equal(cellar_writer_root(writer), 10);

    crash(f, writer); /* right after the recovery: it is durable */
    recovery = reopen(f, &writer);
    assert_recovery(&recovery, CELLAR_FOUND_CLEAN, 17, 10, 0, false);
    assert_int_equal(store_append(writer, 2), 17); /* skipped cells are never used again */
    snapshot = cellar_writer_snapshot(writer);
    store_assert_cells(&snapshot);
    store_close(writer);
    store_assert_pair(f, CELLAR_DISK_1, 19, 10);
    store_assert_pair(f, CELLAR_PROCESS_1, 19, 10);
}

/* The root alone was moved: forward, back, and to none. The original can't open the latter two. */
static void test_abandoned_with_another_root(void **state)
{
    static const uint32_t roots[] = {14, 9, CELLAR_ROOT_NONE};
    struct store_fixture *f = *state;

    for (size_t i = 0; i < SUPPORT_COUNT(roots); i++) {
        struct cellar_writer *writer = store_new(f, BYTES_PER_CELL, MAX_INDEX);
        struct cellar_recovery recovery;

        store_append(writer, 8);
        assert_done(cellar_writer_set_root(writer, 12));
        assert_done(cellar_writer_flush(writer));
        assert_done(cellar_writer_set_root(writer, roots[i]));
        assert_done(cellar_writer_commit(writer));
        crash(f, writer);
        store_assert_pair(f, CELLAR_PROCESS_1, 16, roots[i]);
        recovery = reopen(f, &writer);
        assert_recovery(&recovery, CELLAR_FOUND_UNFLUSHED, 16, 12, 0, true);
        store_append(writer, 1);
        store_close(writer);
        store_assert_pair(f, CELLAR_DISK_1, 17, 12);
        store_remove(f);
    }
}

/* Cells were committed, the root stayed: it is not dropped. */
static void test_abandoned_with_the_same_root(void **state)
{
    struct store_fixture *f = *state;
    struct cellar_writer *writer = store_new(f, BYTES_PER_CELL, MAX_INDEX);
    struct cellar_recovery recovery;

    store_append(writer, 4);
    assert_done(cellar_writer_set_root(writer, 9));
    assert_done(cellar_writer_flush(writer));
    store_append(writer, 6);
    assert_done(cellar_writer_commit(writer));
    crash(f, writer);
    recovery = reopen(f, &writer);
    assert_recovery(&recovery, CELLAR_FOUND_UNFLUSHED, 18, 9, 6, false);
    store_close(writer);
}

/* ---- every state of the slots ---- */

/* What a slot may hold: nothing valid, or a state. The file has 40 cells. */
enum content { BROKEN, OLDEST, OLD, NEW, CONTENT_COUNT };

static const struct cellar_state contents[CONTENT_COUNT] = {
    [OLDEST] = {.next_index = 14, .root_index = 9},
    [OLD] = {.next_index = 20, .root_index = 12},
    [NEW] = {.next_index = 30, .root_index = 25},
};

struct expectation {
    bool corrupt, reader_corrupt, key_reader_corrupt;
    enum cellar_found found;
    struct cellar_state disk, process, adopted;
    struct cellar_state followed; /* what a reader with the key sees before */
    unsigned repaired_slots;
};

/* The rules of docs/format.md, in words of their own. */
static struct expectation expect(const enum content slots[CELLAR_SLOT_COUNT])
{
    struct expectation e = {.found = CELLAR_FOUND_CLEAN};
    enum content disk = slots[0] != BROKEN ? slots[0] : slots[1];
    enum content process = slots[2] != BROKEN ? slots[2] : slots[3];

    if (disk == BROKEN)
        return (struct expectation){.corrupt = true, .reader_corrupt = true, .key_reader_corrupt = true};
    e.disk = contents[disk];
    e.adopted = contents[disk];
    e.key_reader_corrupt = process == BROKEN;
    if (slots[0] == BROKEN)
        e.repaired_slots |= CELLAR_SLOT_DISK_1;
    else if (slots[1] != slots[0])
        e.repaired_slots |= CELLAR_SLOT_DISK_2;
    if (process == BROKEN) {
        e.found = CELLAR_FOUND_PROCESS_BROKEN;
        e.repaired_slots |= CELLAR_SLOT_PROCESS_1 | CELLAR_SLOT_PROCESS_2;
        return e;
    }
    e.process = e.followed = contents[process];
    if (slots[2] == BROKEN)
        e.repaired_slots |= CELLAR_SLOT_PROCESS_1;
    else if (slots[3] != slots[2])
        e.repaired_slots |= CELLAR_SLOT_PROCESS_2;
    if (process > disk) {
        e.found = CELLAR_FOUND_UNFLUSHED;
        e.adopted.next_index = e.process.next_index;
    } else if (process < disk) {
        e.found = CELLAR_FOUND_DISK_NEWER;
    }
    /* Cells that a whole slot counts are not used again, whether it is in force or not. */
    if (slots[3] != BROKEN && contents[slots[3]].next_index > e.adopted.next_index) {
        e.adopted.next_index = contents[slots[3]].next_index;
        e.process = contents[slots[3]]; /* and the other is mended from that one */
        e.repaired_slots = (e.repaired_slots & 3) | CELLAR_SLOT_PROCESS_1;
        if (e.found == CELLAR_FOUND_CLEAN)
            e.found = CELLAR_FOUND_UNFLUSHED;
    }
    return e;
}

static void put_slots(struct store_fixture *f, const enum content slots[CELLAR_SLOT_COUNT])
{
    struct cellar_key key = store_key(2);

    for (int name = 0; name < CELLAR_SLOT_COUNT; name++) {
        const struct cellar_state *content = &contents[slots[name]];

        store_put_slot(f, (enum cellar_slot_name)name, content->next_index, content->root_index,
                       name < CELLAR_PROCESS_1 ? NULL : &key);
        if (slots[name] == BROKEN)
            store_break_slot(f, (enum cellar_slot_name)name);
    }
}

/* Readers of such a file, before anybody has repaired it: they change nothing. */
static void check_readers(struct store_fixture *f, const struct expectation *e)
{
    struct cellar_reader_options options = store_reader_options(f);
    struct cellar_key key = store_key(2);
    struct cellar_reader *reader = NULL;
    struct cellar_snapshot snapshot;

    assert_result(store_read(f, &options, &reader), e->reader_corrupt ? CELLAR_ECORRUPT : 0);
    if (!e->reader_corrupt) {
        snapshot = cellar_reader_snapshot(reader);
        assert_int_equal(snapshot.next_index, e->disk.next_index);
        assert_int_equal(snapshot.root_index, e->disk.root_index);
        store_assert_cells(&snapshot);
        cellar_reader_close(reader);
    }
    options.key = &key;
    assert_result(store_read(f, &options, &reader), e->key_reader_corrupt ? CELLAR_ECORRUPT : 0);
    if (!e->key_reader_corrupt) {
        snapshot = cellar_reader_snapshot(reader);
        assert_int_equal(snapshot.next_index, e->followed.next_index);
        assert_int_equal(snapshot.root_index, e->followed.root_index);
        cellar_reader_close(reader);
    }
}

static void check_writer(struct store_fixture *f, const struct expectation *e)
{
    struct cellar_recovery recovery;
    struct cellar_snapshot snapshot;
    struct cellar_writer *writer;
    struct cellar_key key = store_key(1);
    struct cellar_reader *reader;

    recovery = reopen(f, &writer);
    assert_recovery(&recovery, e->found, e->adopted.next_index, e->adopted.root_index,
                    e->adopted.next_index - e->disk.next_index,
                    e->found == CELLAR_FOUND_UNFLUSHED && e->process.root_index != e->disk.root_index);
    assert_int_equal(recovery.disk_next_index, e->disk.next_index);
    assert_int_equal(recovery.disk_root_index, e->disk.root_index);
    assert_int_equal(recovery.process_next_index, e->process.next_index);
    assert_int_equal(recovery.process_root_index, e->process.root_index);
    assert_int_equal(recovery.repaired_slots, e->repaired_slots);
    store_assert_pair(f, CELLAR_DISK_1, e->adopted.next_index, e->adopted.root_index);
    store_assert_pair(f, CELLAR_PROCESS_1, e->adopted.next_index, e->adopted.root_index);
    reader = store_reader(f, &key); /* it is published under the new key, in both slots */
    assert_done(cellar_reader_check_key(reader, &key));
    cellar_reader_close(reader);
    assert_int_equal(store_append(writer, 3), e->adopted.next_index);
    snapshot = cellar_writer_snapshot(writer);
    store_assert_cells(&snapshot);
    store_close(writer);
    store_assert_pair(f, CELLAR_DISK_1, e->adopted.next_index + 3, e->adopted.root_index);
}

/* A file of 40 cells, all of which hold what their index says. */
static struct store_image forty_cells(struct store_fixture *f)
{
    struct cellar_writer *writer = store_new(f, BYTES_PER_CELL, MAX_INDEX);

    store_append(writer, 40 - START);
    store_close(writer);
    return store_image_take(f);
}

static void test_every_state_of_the_slots(void **state)
{
    struct store_fixture *f = *state;
    struct store_image whole = forty_cells(f);
    unsigned refused = 0;

    for (unsigned number = 0; number < CONTENT_COUNT * CONTENT_COUNT * CONTENT_COUNT * CONTENT_COUNT; number++) {
        enum content slots[CELLAR_SLOT_COUNT];
        struct cellar_writer_options options = store_options(f);
        struct cellar_writer *writer = NULL;
        struct expectation e;
        struct store_image image;
        unsigned rest = number;

        if (store_takes_slice(f) && number % 7 != 0)
            continue;
        for (int name = 0; name < CELLAR_SLOT_COUNT; name++, rest /= CONTENT_COUNT)
            slots[name] = (enum content)(rest % CONTENT_COUNT);
        e = expect(slots);
        if (!f->way->memory)
            support_file_write(f->path, whole.bytes, whole.length_bytes);
        else
            store_patch(f, 0, whole.bytes, whole.length_bytes);
        put_slots(f, slots);
        image = store_image_take(f);
        check_readers(f, &e);
        if (e.corrupt)
            assert_result(store_open(f, &options, &writer), CELLAR_ECORRUPT);
        store_image_compare(f, image);
        refused += e.corrupt;
        if (!e.corrupt)
            check_writer(f, &e);
    }
    assert_int_equal(refused, store_takes_slice(f) ? 3 : 16); /* both disk-sync slots are broken */
    free(whole.bytes);
}

/* ---- what no writer leaves ---- */

struct refusal {
    const char *what;
    enum cellar_slot_name slot;
    uint32_t next_index, root_index;
    uint64_t file_offset;
    bool reader_too;
};

static void test_impossible_next(void **state)
{
    static const struct refusal cases[] = {
        {"disk next in the header", CELLAR_DISK_1, 7, 0, 32 + 28, true},
        {"disk next 0", CELLAR_DISK_1, 0, 0, 32 + 28, true},
        {"disk next beyond the file", CELLAR_DISK_1, 41, 9, 32 + 28, true},
        {"disk next far beyond the file", CELLAR_DISK_1, UINT32_MAX, 9, 32 + 28, true},
        {"process next beyond the file", CELLAR_PROCESS_1, 41, 9, 96 + 28, false},
        {"process next far beyond the file", CELLAR_PROCESS_1, UINT32_MAX, 9, 96 + 28, false},
        {"process next in the header", CELLAR_PROCESS_1, 7, 0, 96 + 28, false},
    };
    struct store_fixture *f = *state;
    struct store_image whole = forty_cells(f);

    for (size_t i = 0; i < SUPPORT_COUNT(cases); i++) {
        struct cellar_writer_options options = store_options(f);
        struct cellar_reader_options reader_options = store_reader_options(f);
        struct cellar_diagnostic diagnostic, reader_diagnostic;
        struct cellar_writer *writer = NULL;
        struct cellar_reader *reader = NULL;
        struct store_image image;

        support_file_write(f->path, whole.bytes, whole.length_bytes);
        store_put_slot(f, cases[i].slot, cases[i].next_index, cases[i].root_index,
                       cases[i].slot < CELLAR_PROCESS_1 ? NULL : &f->key);
        image = store_image_take(f);
        options.diagnostic = &diagnostic;
        reader_options.diagnostic = &reader_diagnostic;
        assert_result(store_open(f, &options, &writer), CELLAR_ECORRUPT);
        assert_int_equal(diagnostic.error, CELLAR_ECORRUPT);
        assert_int_equal(diagnostic.file_offset, cases[i].file_offset);
        assert_non_null(strstr(diagnostic.message, f->path));
        reader_options.key = cases[i].slot < CELLAR_PROCESS_1 ? NULL : &f->key;
        assert_result(store_read(f, &reader_options, &reader), CELLAR_ECORRUPT);
        assert_int_equal(reader_diagnostic.error, CELLAR_ECORRUPT);
        reader_options.key = NULL;
        assert_result(store_read(f, &reader_options, &reader), cases[i].reader_too ? CELLAR_ECORRUPT : 0);
        if (!cases[i].reader_too)
            cellar_reader_close(reader);
        store_image_compare(f, image);
    }
    free(whole.bytes);
}

/* The second slot of a pair speaks where the first is broken, and then its numbers are judged. */
static void test_second_slot_is_judged(void **state)
{
    struct store_fixture *f = *state;
    struct cellar_writer_options options = store_options(f);
    struct cellar_diagnostic diagnostic;
    struct cellar_writer *writer = NULL;

    free(forty_cells(f).bytes);
    options.diagnostic = &diagnostic;
    store_break_slot(f, CELLAR_DISK_1);
    store_put_slot(f, CELLAR_DISK_2, 50, 0, NULL);
    assert_result(store_open(f, &options, &writer), CELLAR_ECORRUPT);
    assert_int_equal(diagnostic.file_offset, 64 + 28);
    store_break_slot(f, CELLAR_DISK_2);
    assert_result(store_open(f, &options, &writer), CELLAR_ECORRUPT);
    assert_int_equal(diagnostic.file_offset, 32);
    assert_non_null(strstr(diagnostic.message, "both"));
    store_put_slot(f, CELLAR_DISK_2, 30, 0, NULL);
    store_break_slot(f, CELLAR_PROCESS_1);
    store_put_slot(f, CELLAR_PROCESS_2, 41, 0, &f->key);
    assert_result(store_open(f, &options, &writer), CELLAR_ECORRUPT);
    assert_int_equal(diagnostic.file_offset, 128 + 28);
}

/* The plain hash alone says whether a slot holds; the keyed one only whose it is. */
static void test_plain_hash_decides(void **state)
{
    struct store_fixture *f = *state;
    struct cellar_recovery recovery;
    struct cellar_writer *writer;
    struct cellar_reader *reader;
    unsigned char byte = 0;

    free(forty_cells(f).bytes);
    store_put_slot(f, CELLAR_PROCESS_1, 39, 9, &f->key);
    store_put_slot(f, CELLAR_PROCESS_2, 40, 12, &f->key);
    store_patch(f, cellar_slot_offset(CELLAR_PROCESS_1), &byte, 1); /* of the plain hash */
    assert_false(store_slot(f, CELLAR_PROCESS_1).valid);
    reader = store_reader(f, &f->key);
    assert_int_equal(cellar_reader_snapshot(reader).next_index, 40);
    assert_int_equal(cellar_reader_snapshot(reader).root_index, 12);
    cellar_reader_close(reader);
    store_put_slot(f, CELLAR_PROCESS_1, 40, 9, &f->key);
    store_patch(f, cellar_slot_offset(CELLAR_PROCESS_1) + CELLAR_SLOT_AT_KEYED_HASH, &byte, 1);
    recovery = reopen(f, &writer);
    assert_int_equal(recovery.process_root_index, 9);
    assert_int_equal(recovery.repaired_slots, CELLAR_SLOT_PROCESS_2);
    store_close(writer);
}

/* Features of a later version: a writer leaves the file alone. */
static void test_unknown_features(void **state)
{
    struct store_fixture *f = *state;
    struct cellar_writer_options options = store_options(f);
    struct cellar_diagnostic diagnostic;
    struct cellar_writer *writer = NULL;
    unsigned char flags[4] = {0, 0x80, 0, 0}, no_flags[4] = {0}, others[4] = {0, 0, 1, 0};
    struct store_image image;

    free(forty_cells(f).bytes);
    store_break_slot(f, CELLAR_DISK_2);
    store_patch(f, CELLAR_AT_FLAGS, flags, sizeof flags);
    image = store_image_take(f);
    options.diagnostic = &diagnostic;
    assert_result(store_open(f, &options, &writer), -ENOTSUP);
    assert_int_equal(diagnostic.error, -ENOTSUP);
    assert_int_equal(diagnostic.file_offset, CELLAR_AT_FLAGS);
    store_image_compare(f, image);
    store_patch(f, CELLAR_AT_FLAGS, others, sizeof others); /* bits that nobody needs to know */
    store_close(store_again(f));
    store_patch(f, CELLAR_AT_FLAGS, no_flags, sizeof no_flags);
    store_close(store_again(f));
}

/* ---- files that are no stores ---- */

static void put_u32(struct store_fixture *f, uint64_t offset, uint32_t value)
{
    unsigned char bytes[4] = {(unsigned char)value, (unsigned char)(value >> 8), (unsigned char)(value >> 16),
                              (unsigned char)(value >> 24)};

    store_patch(f, offset, bytes, sizeof bytes);
}

static void assert_no_store(struct store_fixture *f, uint64_t file_offset)
{
    struct cellar_diagnostic writer_diagnostic, reader_diagnostic;
    struct cellar_writer_options options = store_options(f);
    struct cellar_reader_options reader_options = store_reader_options(f);
    struct cellar_config config = store_config(BYTES_PER_CELL, MAX_INDEX);
    struct cellar_writer *writer = NULL;
    struct cellar_reader *reader = NULL;
    struct store_image image = store_image_take(f);

    options.diagnostic = &writer_diagnostic;
    reader_options.diagnostic = &reader_diagnostic;
    assert_result(cellar_writer_open_or_create(f->path, &config, &options, &writer), CELLAR_ECORRUPT);
    assert_result(store_open(f, &options, &writer), CELLAR_ECORRUPT);
    assert_result(store_read(f, &reader_options, &reader), CELLAR_ECORRUPT);
    assert_null(writer);
    assert_null(reader);
    assert_int_equal(writer_diagnostic.file_offset, file_offset);
    assert_int_equal(reader_diagnostic.file_offset, file_offset);
    assert_string_equal(writer_diagnostic.message, reader_diagnostic.message);
    store_image_compare(f, image);
}

static void test_no_stores(void **state)
{
    static const size_t short_lengths[] = {0, 1, 31, 32, 159, 160, 255};
    static const uint32_t bad_cell_bytes[] = {0, 1, 3, 65536, UINT32_MAX};
    static const uint32_t bad_max_indices[] = {0, 7};
    struct store_fixture *f = *state;
    struct store_image whole = forty_cells(f);
    struct cellar_writer_options options = store_options(f);
    struct cellar_reader_options reader_options = store_reader_options(f);
    struct cellar_writer *writer = NULL;
    struct cellar_reader *reader = NULL;
    unsigned char zeros[BYTES_PER_CELL] = {0};

    for (size_t i = 0; i < SUPPORT_COUNT(short_lengths); i++) {
        support_file_write(f->path, whole.bytes, short_lengths[i]);
        assert_no_store(f, short_lengths[i]);
    }
    support_file_write(f->path, whole.bytes, whole.length_bytes);
    for (size_t i = 0; i < SUPPORT_COUNT(bad_cell_bytes); i++) {
        put_u32(f, CELLAR_AT_BYTES_PER_CELL, bad_cell_bytes[i]);
        assert_no_store(f, CELLAR_AT_BYTES_PER_CELL);
    }
    put_u32(f, CELLAR_AT_BYTES_PER_CELL, BYTES_PER_CELL);
    put_u32(f, CELLAR_AT_CONFIG_CHECK, 0); /* from here on it would be the check that fails */
    for (size_t i = 0; i < SUPPORT_COUNT(bad_max_indices); i++) {
        put_u32(f, CELLAR_AT_MAX_INDEX, bad_max_indices[i]);
        assert_no_store(f, CELLAR_AT_MAX_INDEX);
    }
    put_u32(f, CELLAR_AT_MAX_INDEX, 39); /* one cell less than the file has */
    assert_no_store(f, CELLAR_AT_MAX_INDEX);
    put_u32(f, CELLAR_AT_MAX_INDEX, 40);
    store_close(store_again(f));
    support_file_write(f->path, whole.bytes, whole.length_bytes - 1);
    assert_no_store(f, whole.length_bytes - 1);
    support_file_write(f->path, whole.bytes, whole.length_bytes);
    support_file_patch(f->path, whole.length_bytes, zeros, BYTES_PER_CELL - 1);
    assert_no_store(f, whole.length_bytes + BYTES_PER_CELL - 1);
    support_file_patch(f->path, whole.length_bytes, zeros, BYTES_PER_CELL);
    store_close(store_again(f));
    support_file_write(f->path, whole.bytes, whole.length_bytes - BYTES_PER_CELL); /* the last cell is missing */
    assert_result(store_open(f, &options, &writer), CELLAR_ECORRUPT);
    assert_result(store_read(f, &reader_options, &reader), CELLAR_ECORRUPT);
    free(whole.bytes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        STORE_ON_ALL(test_abandoned_at_each_stage),
        STORE_ON_ALL(test_abandoned_with_another_root),
        STORE_ON_ALL(test_abandoned_with_the_same_root),
        STORE_ON_ALL(test_every_state_of_the_slots),
        STORE_ON_FILES(test_impossible_next),
        STORE_ON_FILES(test_second_slot_is_judged),
        STORE_ON_ALL(test_plain_hash_decides),
        STORE_ON_ALL(test_unknown_features),
        STORE_ON_FILES(test_no_stores),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
