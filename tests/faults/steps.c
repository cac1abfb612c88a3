/* steps.c - the writer's operations, and the beginning and end of a run. */
#include "world.h"

#include "wraps.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char *const names[OP_COUNT] = {
    "end",
    "create",
    "open",
    "open_or_create",
    "append",
    "append_bytes",
    "write_value",
    "write_value_parts",
    "reserve",
    "rewrite",
    "root",
    "root none",
    "commit",
    "flush",
    "flush_committed",
    "rollback",
    "truncate",
    "version",
    "snapshot",
    "close",
    "abandon",
    "reader_open",
    "process sync",
    "refresh",
    "check",
    "look",
    "reader_close",
    "key_make",
    "cache",
    "pipeline",
    "break",
};

const char *operation_name(enum operation operation)
{
    return names[operation];
}

struct cellar_writer_options world_writer_options(struct world *world)
{
    return (struct cellar_writer_options){
        .key = &world->key,
        .resize_step_bytes = 64 * (uint64_t)world->config.bytes_per_cell,
        .initial_cells = world->way->traits.fixed_bytes > 0 ? 0 : 40,
        .device = world->way->choice,
        .cache_bytes = 1,
        .compat = world->way->compat,
        .diagnostic = &world->diagnostic,
    };
}

void world_open_device(struct world *world)
{
    if (!world->way->file && world->device == NULL && sim_open(world->sim, true, &world->device) != 0)
        abort();
}

void world_close_writer_side(struct world *world)
{
    int error = cellar_device_close(world->device);

    world->device = NULL;
    WORLD_NEEDS(world, error == 0, "closing the device gave %d", error);
}

/* ---- making and opening ---- */

static int create(struct world *world, struct cellar_writer **ret_writer)
{
    struct cellar_writer_options options = world_writer_options(world);
    int error;

    world_open_device(world);
    world->diagnostic.error = 77;
    if (!world->way->file)
        WORLD_ARMED(error, cellar_writer_create_on(world->device, &world->config, &options, ret_writer));
    else if (world->doing == OP_OPEN_OR_CREATE)
        WORLD_ARMED(error, cellar_writer_open_or_create(world->path, &world->config, &options, ret_writer));
    else
        WORLD_ARMED(error, cellar_writer_create(world->path, &world->config, &options, ret_writer));
    return error;
}

static int open_again(struct world *world, struct cellar_writer **ret_writer)
{
    struct cellar_writer_options options = world_writer_options(world);
    int error;

    world_open_device(world);
    world->diagnostic.error = 77;
    if (!world->way->file)
        WORLD_ARMED(error, cellar_writer_open_on(world->device, &options, ret_writer));
    else if (world->doing == OP_OPEN_OR_CREATE)
        WORLD_ARMED(error, cellar_writer_open_or_create(world->path, &world->config, &options, ret_writer));
    else
        WORLD_ARMED(error, cellar_writer_open(world->path, &options, ret_writer));
    return error;
}

/* An opening that failed set no writer and said why. */
static void check_refused(struct world *world, int error, const struct cellar_writer *writer)
{
    WORLD_NEEDS(world, writer == NULL, "%s failed and set its out-parameter", operation_name(world->doing));
    WORLD_NEEDS(world, world->diagnostic.error == error && world->diagnostic.message[0] != '\0',
                "%s gave %d, and the diagnostic says %d", operation_name(world->doing), error, world->diagnostic.error);
}

/* The state that an opened store may stand at is one of the model's; the model stands there from now on. */
static void adopt_state(struct world *world)
{
    struct model *model = &world->model;
    struct cellar_recovery recovery;
    struct cellar_info info;

    cellar_writer_info(world->writer, &info);
    cellar_writer_recovery(world->writer, &recovery);
    WORLD_NEEDS(world,
                (info.root_index == model->flushed.root_index && !world_keeps_committed(world)) ||
                    info.root_index == model->committed.root_index ||
                    (model->tried_commit && info.root_index == model->trying.root_index),
                "opened on root %u; flushed %u, committed %u", info.root_index, model->flushed.root_index,
                model->committed.root_index);
    WORLD_NEEDS(world, info.next_index >= model->flushed.next_index, "opened on next %u; flushed %u", info.next_index,
                model->flushed.next_index);
    WORLD_NEEDS(world, info.config.version == model->version || model->tried_version, "opened with version %u, not %u",
                info.config.version, model->version);
    WORLD_NEEDS(world, info.next_index >= model->committed.next_index || (!world->way->file && world->sim->sync_failed),
                "opened on next %u; committed %u", info.next_index, model->committed.next_index);
    model_roll_back(model); /* what was not committed is gone */
    model_skip(model, info.next_index);
    if (recovery.skipped_cells > 0) {
        model_skip(model, recovery.disk_next_index);
        model->raised = (struct model_state){info.next_index, info.root_index};
    } else if (recovery.disk_root_index == model->flushed.root_index &&
               recovery.disk_next_index > model->flushed.next_index) { /* an opening that failed after that did it */
        model->raised = (struct model_state){recovery.disk_next_index, recovery.disk_root_index};
    }
    model->version = info.config.version;
    model->appended = (struct model_state){info.next_index, info.root_index};
    model->tried_commit = model->tried_flush = model->tried_version = false;
    model->committed = model->appended;
}

/* Until it is done: a fault comes once, and then the same call works. */
static void bring_up(struct world *world, bool creating)
{
    for (int attempt = 0; attempt <= PLAN_TARGETS_MAX && world->message[0] == '\0'; attempt++) {
        struct cellar_writer *writer = NULL;
        int error;

        world->fired_before = plan_fired_count();
        if (creating && world->way->file && access(world->path, F_OK) == 0)
            creating = false; /* it has its name, but that may not be durable */
        error = creating ? create(world, &writer) : open_again(world, &writer);
        if (error == 0)
            world->writer = writer;
        else
            check_refused(world, error, writer);
        if (world_judge(world, error)) {
            world->exists = true;
            adopt_state(world);
            return;
        }
        if (plan_fired_count() == world->fired_before)
            break;
        if (!world->way->file && world->sim->died)
            return;
        if (creating && plan_fired_count() > 1) { /* what the second has left of it may be no empty device any more */
            world->stopped = true;
            return;
        }
    }
    world_complain(world, "%s never works", operation_name(world->doing));
}

/* ---- appending ---- */

static int append_whole(struct world *world, const struct step *step, struct model_piece *piece)
{
    const unsigned char *bytes;
    uint32_t index = UINT32_MAX;
    struct iovec parts[3];
    int error;

    piece->length_bytes = step->operation == OP_APPEND ? step->amount * world->config.bytes_per_cell : step->amount;
    bytes = model_bytes(piece->seed, piece->length_bytes);
    parts[0] = (struct iovec){(void *)(uintptr_t)bytes, piece->length_bytes / 3};
    parts[1] = (struct iovec){NULL, 0};
    parts[2] = (struct iovec){(void *)(uintptr_t)(bytes + parts[0].iov_len), piece->length_bytes - parts[0].iov_len};
    if (step->operation == OP_APPEND)
        WORLD_ARMED(error, cellar_writer_append(world->writer, bytes, step->amount, &index));
    else if (step->operation == OP_APPEND_BYTES)
        WORLD_ARMED(error, cellar_writer_append_bytes(world->writer, bytes, step->amount, &index));
    else if (step->operation == OP_VALUE)
        WORLD_ARMED(error, cellar_writer_write_value(world->writer, bytes, step->amount, &index));
    else
        WORLD_ARMED(error, cellar_writer_write_value_parts(world->writer, parts, 3, &index));
    if (step->operation == OP_VALUE || step->operation == OP_VALUE_PARTS)
        piece->value_index = index;
    WORLD_NEEDS(world, (error == 0) == (index != UINT32_MAX), "%s gave %d and index %u",
                operation_name(step->operation), error, index);
    WORLD_NEEDS(world, error != 0 || piece->value_index != 0 || index == piece->first_index, "appended at %u, not %u",
                index, piece->first_index);
    return error;
}

static int reserve(struct world *world, const struct step *step, struct model_piece *piece)
{
    uint32_t index = UINT32_MAX;
    void *cells = NULL;
    int error;

    piece->length_bytes = step->amount * world->config.bytes_per_cell;
    WORLD_ARMED(error, cellar_writer_reserve(world->writer, step->amount, &index, &cells));
    WORLD_NEEDS(world, (error == 0) == (cells != NULL) && (error == 0) == (index != UINT32_MAX),
                "reserve gave %d, index %u", error, index);
    if (error == 0 && cells != NULL)
        memcpy(cells, model_bytes(piece->seed, piece->length_bytes), piece->length_bytes);
    return error;
}

static void append(struct world *world, const struct step *step)
{
    struct model_piece piece = {.first_index = cellar_writer_next(world->writer), .seed = model_random(&world->random)};
    int error = step->operation == OP_RESERVE ? reserve(world, step, &piece) : append_whole(world, step, &piece);

    if (!world_judge(world, error)) {
        WORLD_NEEDS(world, world->writer == NULL || cellar_writer_next(world->writer) == piece.first_index,
                    "a failed %s has moved next", operation_name(step->operation));
        return;
    }
    piece.end_index = cellar_writer_next(world->writer);
    if (!model_append(&world->model, &piece))
        world->stopped = true;
}

/* The last piece holds other bytes from now on. */
static void rewrite(struct world *world)
{
    struct model *model = &world->model;
    struct model_piece *piece = model->piece_count > 0 ? &model->pieces[model->piece_count - 1] : NULL;
    uint64_t seed = model_random(&world->random);
    int error;

    if (piece == NULL || piece->value_index != 0 || piece->first_index < model->committed.next_index)
        return;
    WORLD_ARMED(error, cellar_writer_rewrite(world->writer, piece->first_index, model_bytes(seed, piece->length_bytes),
                                             piece->length_bytes));
    if (world_judge(world, error))
        piece->seed = seed;
    else
        world->stopped = true; /* a part of it may be there */
}

static void set_root(struct world *world, bool none)
{
    const struct model *model = &world->model;
    uint32_t root = CELLAR_ROOT_NONE;
    int error;

    if (!none && model->piece_count > 0)
        root = model->pieces[model->piece_count - 1].first_index;
    WORLD_ARMED(error, cellar_writer_set_root(world->writer, root));
    if (world_judge(world, error))
        world->model.appended.root_index = root;
}

/* ---- committing and ending ---- */

static void commit(struct world *world, enum operation operation)
{
    struct model *model = &world->model;
    int error;

    model->trying = operation == OP_FLUSH_COMMITTED ? model->committed : model->appended;
    model->tried_commit = true;
    model->tried_flush = operation != OP_COMMIT;
    if (operation == OP_COMMIT)
        WORLD_ARMED(error, cellar_writer_commit(world->writer));
    else if (operation == OP_FLUSH)
        WORLD_ARMED(error, cellar_writer_flush(world->writer));
    else
        WORLD_ARMED(error, cellar_writer_flush_committed(world->writer));
    if (!world_judge(world, error))
        return;
    if (operation != OP_FLUSH_COMMITTED)
        model_commit(model);
    if (operation != OP_COMMIT)
        model_flush(model);
    model->tried_commit = model->tried_flush = false;
}

static void roll_back(struct world *world)
{
    int error;

    WORLD_ARMED(error, cellar_writer_rollback(world->writer));
    if (world_judge(world, error))
        model_roll_back(&world->model);
}

static void truncate_store(struct world *world)
{
    int error, expected = world->way->file && !world->way->compat ? 0 : -ENOTSUP;

    WORLD_ARMED(error, cellar_writer_truncate(world->writer, 50));
    if (expected != 0) {
        WORLD_NEEDS(world, error == expected, "truncate gave %d", error);
        return;
    }
    if (error == 0 || cellar_writer_next(world->writer) < world->model.appended.next_index) {
        model_begin(&world->model, &world->config);
        world->reader_retired = world->reader != NULL;
    }
    (void)world_judge(world, error);
}

static void override_version(struct world *world, uint32_t version)
{
    int error;

    world->model.tried_version = true;
    WORLD_ARMED(error, cellar_writer_override_version(world->writer, version));
    if (!world_judge(world, error))
        return;
    world->model.version = world->config.version = version;
    world->model.tried_version = false;
}

/* What the writer itself sees is all that was appended. */
static void look(struct world *world)
{
    struct cellar_snapshot snapshot;
    const struct model_piece *piece;
    int error = 0;

    plan_arm();
    snapshot = cellar_writer_snapshot(world->writer);
    piece = model_compare(&world->model, &snapshot, snapshot.next_index, &error);
    plan_disarm();
    WORLD_NEEDS(world, piece == NULL || error != 0, "the writer reads cell %u wrong", piece->first_index);
    (void)world_judge(world, piece == NULL ? 0 : error);
}

static void close_writer(struct world *world)
{
    struct model *model = &world->model;
    struct cellar_writer *writer = world->writer;
    int error;

    model->trying = model->appended;
    model->tried_commit = model->tried_flush = true;
    world->writer = NULL;
    WORLD_ARMED(error, cellar_writer_close(writer));
    if (world_judge(world, error)) {
        model_commit(model);
        model_flush(model);
        model->tried_commit = model->tried_flush = false;
    } else {
        world->stopped = world->poisoned = true;
    }
    world_close_writer_side(world);
}

static void break_slot(struct world *world, uint32_t slot)
{
    unsigned char wrong[4] = {0xa5, 0x5a, 0xa5, 0x5a};
    struct iovec part = {wrong, sizeof wrong};
    uint64_t at = 32 + 32 * (uint64_t)slot + 4;
    struct cellar_device *device = NULL;
    int error = world->way->file ? cellar_device_open_pread(world->path, CELLAR_OPEN_WRITE, 0, &device)
                                 : sim_open(world->sim, true, &device);

    if (error == 0 && cellar_device_block_bytes(device) == 1)
        error = cellar_device_write(device, &part, 1, at);
    if (error == 0)
        error = cellar_device_close(device);
    WORLD_NEEDS(world, error == 0, "breaking a slot gave %d", error);
}

/* ---- a run ---- */

static int count_descriptors(void)
{
    DIR *folder = opendir("/proc/self/fd");
    int count = 0;

    while (folder != NULL && readdir(folder) != NULL)
        count++;
    if (folder != NULL)
        closedir(folder);
    return count;
}

void world_begin(struct world *world, const struct way *way, uint64_t seed)
{
    *world = (struct world){
        .way = way, .folder = world->folder, .sim = world->sim, .copy = world->copy, .grave = world->grave};
    world->random = seed;
    world->config = (struct cellar_config){.bytes_per_cell = 32, .max_index = 60000, .version = 1};
    memcpy(world->config.head, "FAULTS              ", CELLAR_HEAD_BYTES);
    for (int i = 0; i < CELLAR_KEY_BYTES; i++)
        world->key.bytes[i] = (unsigned char)(model_random(&seed) >> 32);
    snprintf(world->path, sizeof world->path, "%s/store", world->folder);
    snprintf(world->other_path, sizeof world->other_path, "%s/other", world->folder);
    model_begin(&world->model, &world->config);
    wraps_allow_ring(way->ring);
    world->pieces = wraps_pieces();
    world->threads = wraps_threads();
    world->mappings = wraps_mappings();
    world->descriptors = count_descriptors();
    world->sim->grave = world->grave;
    if (!way->file)
        sim_begin(world->sim, &way->traits);
}

static void writer_step(struct world *world, const struct step *step)
{
    switch (step->operation) {
    case OP_APPEND:
    case OP_APPEND_BYTES:
    case OP_VALUE:
    case OP_VALUE_PARTS:
    case OP_RESERVE:
        append(world, step);
        break;
    case OP_REWRITE:
        rewrite(world);
        break;
    case OP_ROOT:
    case OP_ROOT_NONE:
        set_root(world, step->operation == OP_ROOT_NONE);
        break;
    case OP_COMMIT:
    case OP_FLUSH:
    case OP_FLUSH_COMMITTED:
        commit(world, step->operation);
        break;
    case OP_ROLLBACK:
        roll_back(world);
        break;
    case OP_TRUNCATE:
        truncate_store(world);
        break;
    case OP_VERSION:
        override_version(world, step->amount);
        break;
    case OP_SNAPSHOT:
        look(world);
        break;
    case OP_CLOSE:
        close_writer(world);
        break;
    default: /* OP_ABANDON */
        cellar_writer_abandon(world->writer);
        world->writer = NULL;
        world_close_writer_side(world);
        break;
    }
}

void world_step(struct world *world, const struct step *step)
{
    if (world->stopped || world->message[0] != '\0')
        return;
    world->doing = step->operation;
    world->fired_before = plan_fired_count();
    if (step->operation >= OP_CREATE && step->operation <= OP_OPEN_OR_CREATE)
        bring_up(world, !world->exists);
    else if (step->operation >= OP_APPEND && step->operation <= OP_ABANDON)
        writer_step(world, step);
    else if (step->operation == OP_KEYS)
        world_keys(world);
    else if (step->operation == OP_CACHE)
        world_cache(world);
    else if (step->operation == OP_PIPELINE)
        world_pipeline(world);
    else if (step->operation == OP_BREAK)
        break_slot(world, step->amount);
    else if (step->operation != OP_END)
        world_reader_step(world, step);
    if (!world->way->file && world->sim->died)
        world->stopped = world->poisoned = true;
}

static void count_the_rest(struct world *world)
{
    WORLD_NEEDS(world, wraps_pieces() == world->pieces, "%ld pieces of memory were not freed",
                wraps_pieces() - world->pieces);
    WORLD_NEEDS(world, wraps_threads() == world->threads, "%ld threads go on", wraps_threads() - world->threads);
    WORLD_NEEDS(world, wraps_mappings() == world->mappings, "%ld mappings were not unmapped",
                wraps_mappings() - world->mappings);
    WORLD_NEEDS(world, count_descriptors() == world->descriptors, "%d descriptors were not closed",
                count_descriptors() - world->descriptors);
}

void world_end(struct world *world)
{
    const char *const leftovers[] = {"store", "other", ".store.cellar-new", ".other.cellar-new"};

    if (world->writer != NULL)
        cellar_writer_abandon(world->writer); /* its process has died */
    world->writer = NULL;
    cellar_reader_close(world->reader);
    world->reader = NULL;
    world_close_writer_side(world);
    cellar_device_close(world->reader_device);
    world->reader_device = NULL;
    if (world->message[0] == '\0' && world->exists)
        world_check_store(world);
    count_the_rest(world);
    plan_end();
    for (size_t i = 0; i < sizeof leftovers / sizeof leftovers[0]; i++) {
        char path[sizeof world->path + 32];

        snprintf(path, sizeof path, "%s/%s", world->folder, leftovers[i]);
        (void)unlink(path);
    }
}
