/* steps_reader.c - a reader beside the writer, and keys. */
#include "world.h"

#include <stdlib.h>
#include <string.h>

struct cellar_reader_options world_reader_options(struct world *world, bool with_key)
{
    return (struct cellar_reader_options){
        .key = with_key ? &world->key : NULL,
        .device = world->way->choice,
        .cache_bytes = 1,
        .diagnostic = &world->diagnostic,
    };
}

/* Pages that a failed sync has left may be gone: nobody can promise what they read as. */
static bool is_told_truly(const struct world *world)
{
    return world->way->file || !world->sim->sync_failed;
}

static bool same(const struct cellar_snapshot *snapshot, const struct model_state *state)
{
    return snapshot->next_index == state->next_index && snapshot->root_index == state->root_index;
}

/* The reader stands at what it follows: the last commit or the last flush, or one that failed on the way. */
static void check_state(struct world *world, bool fresh)
{
    struct cellar_snapshot snapshot = cellar_reader_snapshot(world->reader);
    const struct model *model = &world->model;
    const struct model_state *state = world->reader_has_key ? &model->committed : &model->flushed;
    bool tried = world->reader_has_key ? model->tried_commit : model->tried_flush;

    if (fresh && is_told_truly(world))
        WORLD_NEEDS(world,
                    same(&snapshot, state) || (tried && same(&snapshot, &model->trying)) ||
                        (!world->reader_has_key && same(&snapshot, &model->raised)),
                    "the reader stands at %u, root %u, not %u, root %u", snapshot.next_index, snapshot.root_index,
                    state->next_index, state->root_index);
    world->reader_state = (struct model_state){snapshot.next_index, snapshot.root_index};
}

static void open_reader(struct world *world, bool with_key)
{
    for (int attempt = 0; attempt <= PLAN_TARGETS_MAX && world->message[0] == '\0'; attempt++) {
        struct cellar_reader_options options = world_reader_options(world, with_key);
        struct cellar_reader *reader = NULL;
        int error;

        world->fired_before = plan_fired_count();
        if (!world->way->file && world->reader_device == NULL &&
            sim_open(world->sim, false, &world->reader_device) != 0)
            abort();
        if (world->way->file)
            WORLD_ARMED(error, cellar_reader_open(world->path, &options, &reader));
        else
            WORLD_ARMED(error, cellar_reader_open_on(world->reader_device, &options, &reader));
        world->reader = error == 0 ? reader : NULL;
        WORLD_NEEDS(world, error == 0 || reader == NULL, "reader_open failed and set its out-parameter");
        WORLD_NEEDS(world, error == 0 || world->diagnostic.error == error, "reader_open gave %d, the diagnostic %d",
                    error, world->diagnostic.error);
        if (world_judge(world, error)) {
            world->reader_has_key = with_key;
            world->reader_retired = false;
            check_state(world, true);
            return;
        }
        if (plan_fired_count() == world->fired_before)
            break;
    }
    world_complain(world, "reader_open never works");
}

static void follow(struct world *world, bool off)
{
    int error;

    if (off) {
        cellar_reader_disable_process_sync(world->reader);
        world->reader_has_key = false;
        return;
    }
    WORLD_ARMED(error, cellar_reader_enable_process_sync(world->reader, &world->key));
    if (world_judge(world, error))
        world->reader_has_key = true;
    else
        WORLD_NEEDS(world, cellar_reader_diagnostic(world->reader)->error == error, "no diagnostic of process sync");
}

/* After an error it stands where it stood. */
static void refresh(struct world *world)
{
    struct cellar_snapshot snapshot;
    int result;

    WORLD_ARMED(result, cellar_reader_refresh(world->reader));
    if (world->reader_retired && result == CELLAR_ERETIRED)
        return;
    if (world_judge(world, result)) {
        /* The mark on the old file may have failed: then it is never told. */
        check_state(world, !world->reader_retired);
        return;
    }
    snapshot = cellar_reader_snapshot(world->reader);
    WORLD_NEEDS(world, same(&snapshot, &world->reader_state), "refresh gave %d and has moved the reader", result);
    WORLD_NEEDS(world, cellar_reader_diagnostic(world->reader)->error == result, "no diagnostic of refresh");
}

static void check(struct world *world)
{
    int result;

    WORLD_ARMED(result, cellar_reader_check(world->reader));
    if (!world->reader_retired || result != CELLAR_ERETIRED)
        (void)world_judge(world, result);
}

/* All that the reader's snapshot has. */
static void look(struct world *world)
{
    struct cellar_snapshot snapshot = cellar_reader_snapshot(world->reader);
    const struct model_piece *piece;
    int error = 0;

    if (world->reader_retired || !is_told_truly(world))
        return;
    plan_arm();
    piece = model_compare(&world->model, &snapshot, snapshot.next_index, &error);
    plan_disarm();
    WORLD_NEEDS(world, piece == NULL || error != 0, "the reader reads cell %u wrong", piece->first_index);
    (void)world_judge(world, piece == NULL ? 0 : error);
}

/* A value in memory of its own. */
static void copy_value(struct world *world)
{
    struct cellar_snapshot snapshot = cellar_reader_snapshot(world->reader);
    const struct model *model = &world->model;

    for (unsigned i = 0; i < model->piece_count && !world->reader_retired && is_told_truly(world); i++) {
        const struct model_piece *piece = &model->pieces[i];
        size_t length_bytes = SIZE_MAX;
        void *bytes = NULL;
        int error;

        if (piece->value_index == 0 || piece->end_index > snapshot.next_index)
            continue;
        WORLD_ARMED(error, cellar_snapshot_copy_value(&snapshot, piece->value_index, &bytes, &length_bytes));
        WORLD_NEEDS(world, (error == 0) == (bytes != NULL) && (error == 0) == (length_bytes == piece->length_bytes),
                    "copy_value gave %d", error);
        WORLD_NEEDS(world,
                    error != 0 || memcmp(bytes, model_bytes(piece->seed, piece->length_bytes), length_bytes) == 0,
                    "copy_value gives other bytes");
        free(bytes);
        (void)world_judge(world, error);
        return;
    }
}

void world_reader_step(struct world *world, const struct step *step)
{
    struct cellar_writer *writer = world->writer;

    world->writer = NULL; /* what fails here is not the writer's */
    if (step->operation == OP_READER && world->reader == NULL) {
        open_reader(world, step->amount == 1);
    } else if (world->reader != NULL && step->operation == OP_FOLLOW) {
        follow(world, step->amount == 1);
    } else if (world->reader != NULL && step->operation == OP_REFRESH) {
        refresh(world);
    } else if (world->reader != NULL && step->operation == OP_CHECK) {
        check(world);
    } else if (world->reader != NULL && step->operation == OP_LOOK) {
        look(world);
        copy_value(world);
    } else if (step->operation == OP_READER_CLOSE) {
        plan_arm();
        cellar_reader_close(world->reader);
        plan_disarm();
        world->reader = NULL;
    }
    world->writer = writer;
}

/* ---- keys ---- */

static void make_key(struct world *world, bool fresh)
{
    const char *paths[2] = {world->path, world->other_path};
    struct cellar_key key, untouched;
    int error;

    memset(&key, 0x5a, sizeof key);
    untouched = key;
    if (fresh)
        WORLD_ARMED(error, cellar_key_make_new(paths, world->way->file ? 2 : 0, &key));
    else
        WORLD_ARMED(error, cellar_key_make(&key));
    WORLD_NEEDS(world, (error == 0) == (memcmp(&key, &untouched, sizeof key) != 0), "key_make gave %d", error);
    (void)world_judge(world, error);
}

void world_keys(struct world *world)
{
    struct cellar_writer *writer = world->writer;

    world->writer = NULL;
    make_key(world, false);
    world->fired_before = plan_fired_count();
    make_key(world, true);
    world->writer = writer;
}
