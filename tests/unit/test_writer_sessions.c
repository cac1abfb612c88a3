/*
 * Writers of every kind after one another, at random: by slots, by the word, with one barrier and with two, in compat
 * mode, with a window and without, and the original, which knows neither records nor the word. Each closes, dies, loses
 * power or finds the file mounted anew. What the next one opens on is what was committed, or what was flushed: never a
 * record, a word or a slot of before.
 */
#include "medium.h"
#include "store_fixture.h"

#include "format/format.h"

#include <string.h>

enum {
    BYTES_PER_CELL = 64,
    MAX_INDEX = 8000,
    START = 4,
    SESSIONS = 12,
    RUNS = 500,
};

enum kind { KIND_SLOTS, KIND_TWO_BARRIERS, KIND_WORD, KIND_COMPAT, KIND_ORIGINAL, KIND_COUNT };
enum end { END_CLOSE, END_DEATH, END_MOUNT, END_POWER, END_COUNT };

struct scene {
    uint64_t random;
    struct medium *medium;
    struct cellar_device *device; /* of the session */
    struct cellar_writer *writer;
    struct cellar_key key; /* of the last writer of Cellar's */
    struct cellar_state committed, flushed;
    uint32_t published_next; /* the largest of all */
    bool whole;              /* what was committed is there, and a writer of Cellar's committed it */
    bool holds[MAX_INDEX];   /* cells that must be what their index names */
};

static uint32_t draw(struct scene *scene, uint32_t bound)
{
    scene->random = scene->random * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (uint32_t)(scene->random >> 33) % bound;
}

static uint32_t flags_of(const struct scene *scene)
{
    return cellar_extension_decode(scene->medium->memory).flags;
}

static void assert_cells(const struct scene *scene, const struct cellar_snapshot *snapshot, uint32_t next_index)
{
    for (uint32_t i = START; i < next_index; i++)
        assert_true(!scene->holds[i] || store_cells_hold(snapshot, i, 1));
}

/* What was committed and not flushed is nobody's promise any more. */
static void give_up(struct scene *scene)
{
    scene->whole = false;
    memset(scene->holds + scene->flushed.next_index, 0, (MAX_INDEX - scene->flushed.next_index) * sizeof(bool));
}

static void note_commit(struct scene *scene, uint32_t next_index, uint32_t root_index)
{
    for (uint32_t i = scene->committed.next_index; i < next_index; i++)
        scene->holds[i] = true;
    scene->committed = (struct cellar_state){.next_index = next_index, .root_index = root_index};
    if (next_index > scene->published_next)
        scene->published_next = next_index;
}

/* ---- the original ---- */

static const struct cellar_state *pair_of(const struct scene *scene, enum cellar_slot_name first,
                                          struct cellar_slot slots[2])
{
    for (int i = 0; i < 2; i++)
        slots[i] =
            cellar_slot_decode(scene->medium->memory + cellar_slot_offset((enum cellar_slot_name)((int)first + i)));
    assert_true(slots[0].valid || slots[1].valid);
    return slots[0].valid ? &slots[0].state : &slots[1].state;
}

static void put_pair(struct scene *scene, enum cellar_slot_name first, const struct cellar_key *key)
{
    for (int i = 0; i < 2; i++)
        cellar_slot_encode(&scene->committed, key,
                           scene->medium->memory + cellar_slot_offset((enum cellar_slot_name)((int)first + i)));
}

/* Larger next, root of disk sync; then the same as the others do, in bytes 0..159 and cells alone. */
static void be_original(struct scene *scene)
{
    struct medium *medium = scene->medium;
    struct cellar_slot slots[2];
    struct cellar_state disk = *pair_of(scene, CELLAR_DISK_1, slots);
    struct cellar_state process = *pair_of(scene, CELLAR_PROCESS_1, slots);
    struct cellar_key key = store_key(draw(scene, 1000000));

    assert_true(process.next_index >= disk.next_index);
    scene->committed = (struct cellar_state){.next_index = process.next_index, .root_index = disk.root_index};
    put_pair(scene, CELLAR_PROCESS_1, &key);
    give_up(scene);
    for (uint32_t i = draw(scene, 4); i > 0; i--) {
        uint32_t next = scene->committed.next_index, end = next + draw(scene, 4);

        for (uint32_t index = next; index < end; index++)
            store_cell_bytes(index, medium->memory + (size_t)index * BYTES_PER_CELL, BYTES_PER_CELL);
        if (medium->memory_size_bytes < (uint64_t)end * BYTES_PER_CELL)
            medium->memory_size_bytes = medium->disk_size_bytes = (uint64_t)end * BYTES_PER_CELL;
        note_commit(scene, end, end > START ? START + draw(scene, end - START) : 0);
        put_pair(scene, CELLAR_PROCESS_1, &key);
        if (draw(scene, 2) == 0)
            continue;
        medium_write_back(medium, 0, medium->memory_size_bytes);
        put_pair(scene, CELLAR_DISK_1, NULL);
        medium_write_back(medium, 0, CELLAR_HEADER_BYTES);
        scene->flushed = scene->committed;
    }
}

/* ---- Cellar ---- */

static void open_writer(struct scene *scene, enum kind kind)
{
    struct cellar_writer_options options = {.key = &scene->key,
                                            .resize_step_bytes = 4096,
                                            .two_barriers = kind == KIND_TWO_BARRIERS,
                                            .compat = kind == KIND_COMPAT,
                                            .publish = kind == KIND_WORD ? CELLAR_PUBLISH_WORD : CELLAR_PUBLISH_SLOTS};
    struct cellar_snapshot snapshot;

    scene->medium->window = kind == KIND_WORD || draw(scene, 2) == 0;
    scene->device = medium_open(scene->medium);
    assert_done(cellar_key_make(&scene->key));
    assert_done(cellar_writer_open_on(scene->device, &options, &scene->writer));
    snapshot = cellar_writer_snapshot(scene->writer);
    if (scene->whole) {
        assert_int_equal(snapshot.next_index, scene->committed.next_index);
        assert_int_equal(snapshot.root_index, scene->committed.root_index);
    } else {
        assert_int_equal(snapshot.root_index, scene->flushed.root_index);
        assert_true(snapshot.next_index >= scene->flushed.next_index);
        assert_true(snapshot.next_index <= scene->published_next);
    }
    assert_cells(scene, &snapshot, scene->whole ? snapshot.next_index : scene->flushed.next_index);
    scene->committed = (struct cellar_state){.next_index = snapshot.next_index, .root_index = snapshot.root_index};
    scene->whole = true;
}

static void be_writer(struct scene *scene)
{
    for (uint32_t i = draw(scene, 5); i > 0; i--) {
        uint32_t next;

        if (draw(scene, 4) > 0)
            store_append(scene->writer, 1 + draw(scene, 90));
        next = cellar_writer_next(scene->writer);
        if (next > START)
            assert_done(cellar_writer_set_root(scene->writer, START + draw(scene, next - START)));
        assert_done(cellar_writer_commit(scene->writer));
        note_commit(scene, next, cellar_writer_root(scene->writer));
        if (draw(scene, 2) == 0)
            continue;
        assert_done(cellar_writer_flush(scene->writer));
        scene->flushed = scene->committed;
    }
}

static void end_writer(struct scene *scene, enum end end)
{
    if (end == END_CLOSE) {
        assert_done(cellar_writer_close(scene->writer));
        assert_int_equal(flags_of(scene), 0);
        scene->flushed = scene->committed;
    } else {
        cellar_writer_abandon(scene->writer);
    }
    scene->medium->locked = false;
    assert_done(cellar_device_close(scene->device));
}

/* ---- what lies between them ---- */

static void lose_power(struct scene *scene)
{
    uint32_t way = draw(scene, 3); /* nothing more reaches the disk; the header; all of it */

    if (way == 1)
        medium_write_back(scene->medium, 0, CELLAR_HEADER_BYTES);
    if (way == 2)
        medium_write_back(scene->medium, 0, MEDIUM_BYTES);
    medium_lose_power(scene->medium);
    give_up(scene);
}

static void check_readers(struct scene *scene, bool has_key)
{
    struct cellar_reader_options options = {.key = has_key ? &scene->key : NULL};
    struct cellar_device *device;
    struct cellar_snapshot snapshot;
    struct cellar_reader *reader;

    scene->medium->window = true;
    device = medium_open(scene->medium);
    assert_done(cellar_reader_open_on(device, &options, &reader));
    snapshot = cellar_reader_snapshot(reader);
    if (has_key) {
        assert_int_equal(snapshot.next_index, scene->committed.next_index);
        assert_int_equal(snapshot.root_index, scene->committed.root_index);
    } else {
        assert_int_equal(snapshot.root_index, scene->flushed.root_index);
        assert_true(snapshot.next_index >= scene->flushed.next_index);
    }
    assert_cells(scene, &snapshot, has_key ? snapshot.next_index : scene->flushed.next_index);
    cellar_reader_close(reader);
    assert_done(cellar_device_close(device));
}

static void run_session(struct scene *scene)
{
    enum kind kind = (enum kind)draw(scene, KIND_COUNT);
    enum end end = (enum end)draw(scene, END_COUNT);

    /* It must not be the first that comes after a crash of those whose marks it doesn't know. */
    if (kind == KIND_ORIGINAL && (flags_of(scene) & (CELLAR_FLAG_CHECKED | CELLAR_FLAG_WORD)) != 0)
        return;
    if (kind == KIND_ORIGINAL) {
        be_original(scene);
    } else {
        open_writer(scene, kind);
        be_writer(scene);
        end_writer(scene, end);
    }
    if (end == END_POWER)
        lose_power(scene);
    if (end == END_MOUNT) {
        medium_mount_again(scene->medium);
        give_up(scene);
    }
    check_readers(scene, false);
    if (kind != KIND_ORIGINAL && scene->whole)
        check_readers(scene, true);
}

static void test_one_after_the_other(void **state)
{
    (void)state;
    for (uint32_t run = 0; run < RUNS; run++) {
        static struct scene scene;
        struct cellar_writer_options options = {.resize_step_bytes = 4096};
        struct cellar_config config = store_config(BYTES_PER_CELL, MAX_INDEX);

        scene = (struct scene){.random = run,
                               .medium = medium_new(true),
                               .committed = {.next_index = START},
                               .flushed = {.next_index = START},
                               .published_next = START,
                               .whole = true};
        assert_done(cellar_writer_create_on(scene.medium->device, &config, &options, &scene.writer));
        assert_done(cellar_writer_close(scene.writer));
        scene.medium->locked = false;
        for (int session = 0; session < SESSIONS; session++)
            run_session(&scene);
        medium_free(scene.medium);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_one_after_the_other)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
