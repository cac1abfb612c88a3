/*
 * follow.c - readers with the writer's key that stand while it commits, flushes, truncates, closes or dies, and while
 * the next ones open: what they see was committed, or is being; it never goes back; and when a call of the writer's has
 * returned the next look sees what it did. They draw by numbers of their own, so that a seed is the same work with them
 * and without.
 */
#include "world.h"

#include <string.h>

static struct model *model_of(struct world *world)
{
    return &world->files[world->current].model;
}

static struct state state_of(struct cellar_reader *reader)
{
    struct cellar_snapshot snapshot = cellar_reader_snapshot(reader);

    return (struct state){snapshot.next_index, snapshot.root_index};
}

static void leave(struct follower *follower)
{
    cellar_reader_close(follower->reader);
    cellar_device_close(follower->device);
    *follower = (struct follower){.reader = NULL};
}

void world_leave_followers(struct world *world)
{
    for (int i = 0; i < FOLLOWERS; i++) {
        if (world->followers[i].reader != NULL)
            leave(&world->followers[i]);
    }
}

/* A reader of what is there now. lost: a power loss has left that, and the key may be another's. */
static void join(struct world *world, struct follower *follower, bool lost)
{
    struct cellar_key key = model_of(world)->key;
    struct cellar_reader_options options = {.key = &key, .cache_bytes = 1, .device = world->run->mode->choice};
    int error;

    if (simdisk_open(&world->files[world->current].disk, &follower->device) != 0)
        return;
    error = cellar_reader_open_on(follower->device, &options, &follower->reader);
    if (error == 0) {
        follower->key = key;
        follower->state = state_of(follower->reader);
        return;
    }
    if (!lost || (error != CELLAR_EBADKEY && error != CELLAR_ECORRUPT))
        fail(world->run, "does not open for a reader who would follow", error, 0);
    cellar_device_close(follower->device);
    *follower = (struct follower){.reader = NULL};
}

static void join_some(struct world *world, bool lost)
{
    for (int i = 0; i < FOLLOWERS; i++) {
        if (world->followers[i].reader == NULL && random_once_in(&world->follow_random, 2))
            join(world, &world->followers[i], lost);
    }
}

/*
 * Those who stand are joined by others, now and then. Not where the last writer died while it opened, and nobody knows
 * whose key they have; nor after a failed sync, which may have had pages evicted.
 */
void world_join_followers(struct world *world)
{
    const struct model *model = model_of(world);

    if (!world->run->disk.window || model->suspect || run_stopped(world->run))
        return;
    if (world->writer == NULL && (!model->bound || model->rekeyed))
        return;
    join_some(world, false);
}

void world_join_lost_followers(struct world *world)
{
    if (world->run->disk.window && world->run->disk.has_incarnation && !run_stopped(world->run))
        join_some(world, true);
}

/* What may be seen between two stores of a writer that commits, or opens. */
static bool may_be_seen(const struct model *model, struct state state)
{
    bool whole;

    if (state_equal(state, model->committed) || (model->in_commit && state_equal(state, model->committing)))
        return true;
    return model->opening && model_explains_died(model, model->opening_disk, state, &whole);
}

/* False: the reader is told that it must open again, or something was wrong. */
static bool look(struct world *world, struct follower *follower)
{
    int result = cellar_reader_refresh(follower->reader);
    struct state state = state_of(follower->reader);

    if (result == CELLAR_ERETIRED)
        return false;
    if (result != 0 && result != CELLAR_NONE)
        fail(world->run, "a reader that follows can't go on", result, state.next_index);
    else if (state.next_index < follower->state.next_index)
        fail(world->run, "a reader that follows is led back", 0, state.next_index);
    else if (result == CELLAR_NONE && !state_equal(state, follower->state))
        fail(world->run, "a reader that follows is told that nothing is new", 0, state.next_index);
    follower->state = state;
    return !run_stopped(world->run);
}

static void check_followed(struct world *world, struct follower *follower)
{
    struct cellar_snapshot snapshot = cellar_reader_snapshot(follower->reader);
    struct model *model = model_of(world);

    if (!may_be_seen(model, follower->state))
        fail(world->run, "a reader that follows finds what nobody has committed", 0, follower->state.next_index);
    else if (!model->suspect && !model->opening)
        check_cells(world->run, model, &snapshot, follower->state);
}

void world_follow(struct world *world)
{
    for (int i = 0; i < FOLLOWERS && !run_stopped(world->run); i++) {
        struct follower *follower = &world->followers[i];

        if (follower->reader == NULL || !random_once_in(&world->follow_random, 3))
            continue;
        if (look(world, follower))
            check_followed(world, follower);
        else if (world->in_truncate)
            leave(follower);
        else
            fail(world->run, "a reader that follows is told of a truncate that there was not", 0, 0);
    }
}

void world_followed(struct world *world)
{
    const struct model *model = model_of(world);

    for (int i = 0; i < FOLLOWERS && !run_stopped(world->run); i++) {
        struct follower *follower = &world->followers[i];
        struct cellar_info info;

        if (follower->reader == NULL || random_once_in(&world->follow_random, 4))
            continue;
        if (!look(world, follower)) {
            fail(world->run, "a reader that follows is told of a truncate that there was not", 0, 0);
            return;
        }
        cellar_reader_info(follower->reader, &info);
        if (!state_equal(follower->state, model->committed))
            fail(world->run, "a reader that follows does not see the last commit", 0, follower->state.next_index);
        else if (info.other_writer != (memcmp(&follower->key, &model->key, sizeof model->key) != 0))
            fail(world->run, "a reader that follows takes one writer for another", 0, 0);
        else
            check_followed(world, follower);
        if (info.other_writer && random_once_in(&world->follow_random, 4))
            leave(follower);
    }
}

void world_retire_followers(struct world *world)
{
    for (int i = 0; i < FOLLOWERS && !run_stopped(world->run); i++) {
        struct follower *follower = &world->followers[i];

        if (follower->reader == NULL)
            continue;
        if (look(world, follower))
            fail(world->run, "a reader that follows is not told of a truncate", 0, follower->state.next_index);
        leave(follower);
    }
}

void world_evict(struct world *world)
{
    world_leave_followers(world);
    simdisk_evict(&world->files[world->current].disk);
}
