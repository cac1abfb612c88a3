/* work.c - random work on a store, and what it does to the model. */
#include "folder.h"
#include "trace.h"
#include "world.h"

#include "format/format.h"

#include <inttypes.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { SMALL_MAX = 200, LARGE_MAX = 70000, SECOND_BUDGET = 40, GROWING_BYTES = 1200 /* more than a resize step */ };

static unsigned char random_bytes[LARGE_MAX];

static struct model *model_of(struct world *world)
{
    return &world->files[world->current].model;
}

static struct simdisk *disk_of(struct world *world)
{
    return &world->files[world->current].disk;
}

void world_use_file(struct world *world, int file)
{
    struct world_file *now = &world->files[file];

    if (now->used)
        return;
    simdisk_init(&now->disk, &world->run->disk, &world->random);
    model_init(&now->model, &world->run->config);
    now->disk.event = world_event;
    now->disk.user = world;
    now->used = true;
}

int world_new_file(struct world *world)
{
    for (int i = 0; i < FILES_MAX; i++) {
        if (i == world->current || folder_knows(world->folder, i))
            continue;
        world_use_file(world, i);
        simdisk_load(&world->files[i].disk, NULL, 0);
        model_reset(&world->files[i].model, &world->run->config);
        if (world->current != FOLDER_NOBODY) {
            world->files[i].model.key = model_of(world)->key;
            world->files[i].model.version = model_of(world)->version;
            world->files[i].model.new_version = model_of(world)->new_version;
        }
        world->files[i].may_be_named = true; /* empty as it is: its name comes when it is whole */
        return i;
    }
    abort();
}

void world_init(struct world *world, struct run *run, uint64_t seed, int depth)
{
    memset(world, 0, sizeof *world);
    world->run = run;
    world->random = seed;
    world->follow_random = ~seed;
    world->depth = depth;
    world->second_budget = SECOND_BUDGET;
    world->image = aligned_alloc(PAGE_BYTES, SIMDISK_BYTES_MAX);
    world->scratch = malloc(SIMDISK_BYTES_MAX);
    if (run->mode->by_path) {
        world->folder = malloc(sizeof *world->folder);
        world->current = world->fresh = FOLDER_NOBODY;
    }
    if (world->image == NULL || world->scratch == NULL || (run->mode->by_path && world->folder == NULL))
        abort();
    memset(world->image, 0, SIMDISK_BYTES_MAX);
    world->sums_name = FOLDER_NAMES;
    if (run->mode->sums && (world->sums = calloc(1, SIMDISK_BYTES_MAX)) == NULL)
        abort();
    if (world->folder != NULL)
        folder_init(world->folder);
    else
        world_use_file(world, 0);
}

void world_free(struct world *world)
{
    world_leave_followers(world);
    for (int i = 0; i < FILES_MAX; i++) {
        if (!world->files[i].used)
            continue;
        simdisk_free(&world->files[i].disk);
        model_free(&world->files[i].model);
    }
    free(world->image);
    free(world->scratch);
    free(world->sums);
    free(world->folder);
}

/* True where the work may go on: done, or there is no room, which changes nothing. */
static bool expect(struct world *world, int error)
{
    if (error == 0)
        return true;
    if (error != -ENOSPC && error != CELLAR_EINDEXFULL && error != CELLAR_EWINDOW)
        fail(world->run, "an operation failed", error, 0);
    return false;
}

/* The store's name leads to this file, durably. */
static void settle_on(struct world *world, int file)
{
    for (int i = 0; i < FILES_MAX; i++)
        world->files[i].may_be_named = i == file;
    world->current = file;
    model_of(world)->bound = world->run->disk.has_incarnation;
}

void world_create(struct world *world)
{
    struct cellar_key key = world_new_key(world->run);
    struct cellar_writer_options options = world_options(world->run, &key);
    int error;

    world->run->doing = "create";
    if (world->folder != NULL) {
        folder_enter(world);
        error = cellar_writer_create(FOLDER_STORE_PATH, &world->run->config, &options, &world->writer);
    } else {
        if (simdisk_open(disk_of(world), &world->device) != 0)
            abort();
        error = cellar_writer_create_on(world->device, &world->run->config, &options, &world->writer);
    }
    if (error != 0) {
        fail(world->run, "can't create", error, 0);
        return;
    }
    world->created = true;
    settle_on(world, world->folder != NULL ? world->fresh : 0);
    model_of(world)->key = key;
    world_lose_power(world, 0);
    world_join_followers(world);
}

static void truncate_store(struct world *world)
{
    if (world->folder == NULL || world->run->mode->compat)
        return;
    world->in_truncate = true;
    if (expect(world, cellar_writer_truncate(world->writer, 0))) {
        world_retire_followers(world);
        settle_on(world, world->fresh);
    }
    world->in_truncate = false;
    world_lose_power(world, 0);
    world_join_followers(world);
}

static bool check_opened(struct world *world, bool died, struct state disk)
{
    struct model *model = model_of(world);
    struct cellar_snapshot snapshot = cellar_writer_snapshot(world->writer);
    struct state opened = {snapshot.next_index, snapshot.root_index};
    bool whole = false;

    if (died ? !model_explains_died(model, disk, opened, &whole) : !model_explains_lost(model, disk, opened)) {
        fail(world->run, "opened on something that nobody left", 0, opened.next_index);
        return false;
    }
    check_cells(world->run, model, &snapshot, whole ? opened : disk);
    model_adopt(model, disk, opened, whole, world->run->disk.has_incarnation);
    return true;
}

static bool look(struct world *world, struct state *ret_disk)
{
    struct cellar_device *device;
    bool fine;

    if (simdisk_open(disk_of(world), &device) != 0)
        abort();
    fine = check_reader(world->run, model_of(world), device, ret_disk);
    cellar_device_close(device);
    return fine;
}

static int open_writer(struct world *world, struct state disk)
{
    struct model *model = model_of(world);
    bool rekeyed = random_once_in(&world->random, 2);
    struct cellar_writer_options options;

    if (rekeyed ||
        world_options(world->run, &model->key).publish == CELLAR_PUBLISH_WORD) { /* which wants a fresh one */
        model->rekeyed = true;
        model->key = world_new_key(world->run);
    }
    options = world_options(world->run, &model->key);
    model_begin_opening(model_of(world), disk);
    return world->folder != NULL ? cellar_writer_open(FOLDER_STORE_PATH, &options, &world->writer)
                                 : cellar_writer_open_on(world->device, &options, &world->writer);
}

bool world_open(struct world *world, bool died)
{
    struct state disk;
    bool suspect = false;
    int error;

    world->run->doing = "open";
    trace("depth %d: open, %s", world->depth, died ? "after a death" : "after a power loss");
    trace_header("finds", disk_of(world)->view);
    if (!look(world, &disk))
        return false;
    if (random_once_in(&world->random, 8)) {
        suspect = true;
        disk_of(world)->fail_sync = 1 + (int)random_below(&world->random, 2);
    }
    model_of(world)->suspect |= suspect;
    if (died)
        world_join_followers(world);
    else
        world_join_lost_followers(world);
    error = open_writer(world, disk);
    if (error == -EIO && suspect) {
        if (random_once_in(&world->random, 2))
            world_evict(world);
        if (!look(world, &disk))
            return false;
        error = open_writer(world, disk);
    }
    disk_of(world)->fail_sync = 0;
    if (error != 0) {
        fail(world->run, "does not open for write", error, 0);
        world->writer = NULL;
        return false;
    }
    if (check_opened(world, died, disk)) {
        world_followed(world);
        world_join_followers(world);
        return true;
    }
    world_abandon(world);
    return false;
}

void world_abandon(struct world *world)
{
    bool quiet = world->quiet;

    world->quiet = true;
    cellar_writer_abandon(world->writer);
    world->writer = NULL;
    world->quiet = quiet;
}

/* ---- steps ---- */

static void committed(struct model *model)
{
    model->committed = model->committing;
    model->in_commit = false;
}

/* What is flushed is under the store's name from now on, and no other file is. */
static void flushed(struct world *world)
{
    struct model *model = model_of(world);

    committed(model);
    model->flushed = model->committed;
    model->maybe_count = 0;
    for (int i = 0; i < FILES_MAX; i++)
        world->files[i].may_be_named = i == world->current;
}

static void commit(struct world *world)
{
    model_remember(world->run, model_of(world), world->writer);
    if (expect(world, cellar_writer_commit(world->writer))) {
        committed(model_of(world));
        world_followed(world);
    }
}

/* After a flush all has checksums. */
static void expect_sums(struct world *world)
{
    struct cellar_info info;

    if (!world->run->mode->sums || run_stopped(world->run))
        return;
    cellar_writer_info(world->writer, &info);
    if (info.sums != CELLAR_SUMS_GOOD || info.sums_error != 0)
        fail(world->run, "after a flush not all has checksums", info.sums_error, (uint64_t)info.sums);
}

static void flush(struct world *world)
{
    struct model *model = model_of(world);
    bool apart = random_once_in(&world->random, 2);
    int error;

    trace("depth %d: flush%s", world->depth, apart ? " apart" : "");
    if (apart)
        commit(world);
    else
        model_remember(world->run, model, world->writer);
    world_lose_power(world, 0);
    model_add_maybe(model, model->committing);
    world->in_flush = world->run->mode->ahead;
    error = apart ? cellar_writer_flush_committed(world->writer) : cellar_writer_flush(world->writer);
    world->in_flush = false;
    if (expect(world, error)) {
        flushed(world);
        world_followed(world);
    }
    expect_sums(world);
    world_lose_power(world, 0);
}

static void reopen(struct world *world)
{
    world->run->doing = "reopen";
    world_abandon(world);
    world_open(world, true);
}

/* Who knows nothing of records finds the last state, durable, in the slots of a store that was closed. */
static void expect_closed(struct world *world)
{
    const unsigned char *durable = disk_of(world)->durable;
    struct cellar_slot slots[2];
    int which;

    for (int i = 0; i < 2; i++)
        slots[i] = cellar_slot_decode(durable + cellar_slot_offset((enum cellar_slot_name)((int)CELLAR_DISK_1 + i)));
    which = cellar_slot_pick(&slots[0], &slots[1]);
    if (which < 0 || slots[which].state.next_index != model_of(world)->flushed.next_index ||
        slots[which].state.root_index != model_of(world)->flushed.root_index)
        fail(world->run, "close leaves another state in the slots", 0, which < 0 ? 0 : slots[which].state.next_index);
    if ((cellar_extension_decode(disk_of(world)->view).flags & (CELLAR_FLAG_CHECKED | CELLAR_FLAG_WORD)) != 0)
        fail(world->run, "close leaves records, or goes by the word", 0, 0);
}

static void close_and_open(struct world *world)
{
    struct model *model = model_of(world);
    int error;

    model_remember(world->run, model, world->writer);
    world_lose_power(world, 0);
    model_add_maybe(model, model->committing);
    error = cellar_writer_close(world->writer);
    world->writer = NULL;
    if (expect(world, error)) {
        flushed(world);
        expect_closed(world);
        world_followed(world);
    }
    world_lose_power(world, 0);
    world_open(world, true);
}

/* A sync has failed, which gave this error. */
static void go_on_after_failure(struct world *world, int error)
{
    if (error != -EIO || cellar_writer_flush(world->writer) != -EIO || cellar_writer_commit(world->writer) != -EIO)
        fail(world->run, "a failed sync does not poison", error, 0);
    world_lose_power(world, 0);
    if (random_once_in(&world->random, 2))
        world_evict(world);
    world->run->doing = "what follows a failed sync";
    world_lose_power(world, 0);
    reopen(world);
}

/* A flush that fails at one of its barriers: whatever comes after, what was flushed before is there. */
static void flush_failing(struct world *world)
{
    struct model *model = model_of(world);
    struct simdisk *disk = disk_of(world);
    int error;

    model_remember(world->run, model, world->writer);
    world_lose_power(world, 0);
    model_add_maybe(model, model->committing);
    model->suspect = true;
    disk->fail_sync = 1 + (int)random_below(&world->random, 2);
    error = cellar_writer_flush(world->writer);
    if (disk->fail_sync > 0) { /* it has fewer barriers */
        disk->fail_sync = 0;
        model->suspect = false;
        if (expect(world, error))
            flushed(world);
        return;
    }
    committed(model);
    go_on_after_failure(world, error);
}

static uint32_t draw_version(struct world *world)
{
    return random_below(&world->random, 1000);
}

/* The sync of a growth that fails, or that of a version. */
static void sync_failing(struct world *world)
{
    struct model *model = model_of(world);
    struct simdisk *disk = disk_of(world);
    uint32_t index;
    int error;

    model->suspect = true;
    disk->fail_sync = 1;
    if (model->new_version != model->version || random_once_in(&world->random, 2)) {
        error = cellar_writer_append_bytes(world->writer, random_bytes, GROWING_BYTES, &index);
    } else {
        model->new_version = draw_version(world);
        error = cellar_writer_override_version(world->writer, model->new_version);
    }
    if (disk->fail_sync == 0) {
        go_on_after_failure(world, error);
        return;
    }
    disk->fail_sync = 0; /* it had no room to grow */
    model->suspect = false;
    expect(world, error);
}

/* A sync of the helper's fails: the writer hears of it, whatever it does next. */
static void help_failing(struct world *world)
{
    struct simdisk *disk = disk_of(world);

    model_of(world)->suspect = true;
    disk->fail_sync = 1;
    world_help(world, 4);
    if (disk->fail_sync == 0) {
        go_on_after_failure(world, cellar_writer_flush(world->writer));
        return;
    }
    disk->fail_sync = 0; /* it made none */
    model_of(world)->suspect = false;
}

static void help(struct world *world)
{
    world->run->doing = "the helper";
    if (world->run->mode->failing && random_once_in(&world->random, 8))
        help_failing(world);
    else if (random_once_in(&world->random, 2))
        world_help(world, 1 + random_below(&world->random, 3));
}

static void flush_or_fail(struct world *world)
{
    if (!world->run->mode->failing || !random_once_in(&world->random, 2))
        flush(world);
    else if (world->run->mode->every_sync)
        sync_failing(world);
    else
        flush_failing(world);
}

static void override_version(struct world *world)
{
    struct model *model = model_of(world);

    if (model->new_version != model->version)
        return; /* a crash left the change in doubt */
    model->new_version = draw_version(world);
    if (expect(world, cellar_writer_override_version(world->writer, model->new_version)))
        model->version = model->new_version;
    world_lose_power(world, 0);
}

static uint32_t draw_length(struct world *world)
{
    if (world->run->mode->large && random_once_in(&world->random, 6))
        return random_below(&world->random, LARGE_MAX);
    return random_once_in(&world->random, 8) ? random_below(&world->random, SMALL_MAX * 6)
                                             : random_below(&world->random, SMALL_MAX);
}

static const unsigned char *draw_bytes(struct world *world, uint32_t length_bytes)
{
    for (uint32_t at = 0; at < length_bytes; at += 8) {
        uint64_t word = random_next(&world->random);

        memcpy(random_bytes + at, &word, length_bytes - at < 8 ? length_bytes - at : 8);
    }
    return random_bytes;
}

static void append(struct world *world)
{
    uint32_t length_bytes = 1 + draw_length(world) / 2, index, cells;
    void *place;

    if (random_once_in(&world->random, 3)) {
        cells = 1 + length_bytes / world->run->config.bytes_per_cell;
        if (expect(world, cellar_writer_reserve(world->writer, cells, &index, &place)))
            memcpy(place, draw_bytes(world, length_bytes), length_bytes);
        return;
    }
    expect(world, cellar_writer_append_bytes(world->writer, draw_bytes(world, length_bytes), length_bytes, &index));
}

static void write_value(struct world *world)
{
    struct model *model = model_of(world);
    uint32_t length_bytes = draw_length(world), index;

    if (!expect(world, cellar_writer_write_value(world->writer, draw_bytes(world, length_bytes), length_bytes, &index)))
        return;
    expect(world, cellar_writer_set_root(world->writer, index));
    if (model->value_count == VALUES_MAX)
        memmove(model->values, model->values + 1, --model->value_count * sizeof model->values[0]);
    model->values[model->value_count++] = index;
}

/* Back to a root that was, or to none. */
static void move_root(struct world *world)
{
    struct model *model = model_of(world);
    uint32_t root = CELLAR_ROOT_NONE;

    if (model->value_count > 0 && !random_once_in(&world->random, 4))
        root = model->values[random_below(&world->random, model->value_count)];
    expect(world, cellar_writer_set_root(world->writer, root));
}

static void rollback(struct world *world)
{
    struct model *model = model_of(world);

    if (!expect(world, cellar_writer_rollback(world->writer)))
        return;
    while (model->value_count > 0 && model->values[model->value_count - 1] >= model->committed.next_index)
        model->value_count--;
}

static const struct {
    const char *name;
    uint32_t weight;
    void (*work)(struct world *world);
} steps[] = {
    {"append", 4, append},
    {"write_value", 8, write_value},
    {"set_root", 2, move_root},
    {"commit", 5, commit},
    {"flush", 5, flush_or_fail},
    {"rollback", 1, rollback},
    {"override_version", 1, override_version},
    {"reopen", 2, reopen},
    {"close", 1, close_and_open},
    {"truncate", 1, truncate_store},
    {"a flush that fails", 1, flush_failing},
};

static void step(struct world *world)
{
    uint32_t sum = 0, draw;

    if (world->run->mode->ahead)
        help(world);
    if (world->writer == NULL || run_stopped(world->run))
        return;
    for (size_t i = 0; i < sizeof steps / sizeof steps[0]; i++)
        sum += steps[i].weight;
    draw = random_below(&world->random, sum);
    for (size_t i = 0; i < sizeof steps / sizeof steps[0]; i++) {
        if (draw < steps[i].weight) {
            world->run->doing = steps[i].name;
            trace("depth %d: %s (at next %" PRIu32 " root %" PRIu32 ")", world->depth, steps[i].name,
                  cellar_writer_next(world->writer), cellar_writer_root(world->writer));
            steps[i].work(world);
            return;
        }
        draw -= steps[i].weight;
    }
}

void world_work(struct world *world, int count)
{
    for (int i = 0; i < count && world->writer != NULL && !run_stopped(world->run); i++)
        step(world);
    if (world->writer != NULL && !run_stopped(world->run)) {
        world->run->doing = "the last flush";
        flush(world);
    }
}
