/*
 * after.c - the store after a run, in every way in which it may come out of it: as the page cache has it (a process has
 * died), without the pages that a failed sync has left, and as the disk has it (the power was lost).
 *
 * It opens for read and for write, on a state that may be in force, with all the cells of that state; and it goes on: a
 * flush of the next writer is there after the next power loss, and so are the cells that it stands on.
 */
#include "world.h"

#include <stdlib.h>
#include <string.h>

static const char *const image_names[SIM_IMAGE_COUNT] = {"kept", "evicted", "after power loss"};

/* Where a store is looked at. */
struct look {
    struct world *world;
    enum sim_image image;
    struct cellar_device *device;
    struct model_state adopted;
    uint32_t sure_next; /* cells below this are known */
    int attempts;       /* to open it for write */
};

static bool open_device(struct look *look)
{
    return look->world->way->file || sim_open(look->world->copy, true, &look->device) == 0;
}

static void close_device(struct look *look)
{
    cellar_device_close(look->device);
    look->device = NULL;
}

/* A second fault may come while the first one's traces are repaired; then the same call works. */
static struct cellar_writer *open_writer(struct look *look)
{
    struct world *world = look->world;
    int error = 0;

    for (int attempt = 0; attempt < PLAN_TARGETS_MAX; attempt++) {
        struct cellar_writer_options options = world_writer_options(world);
        struct cellar_writer *writer = NULL;

        look->attempts = attempt + 1;
        if (!open_device(look))
            abort();
        if (plan_fired_count() > 0)
            plan_arm();
        error = world->way->file ? cellar_writer_open(world->path, &options, &writer)
                                 : cellar_writer_open_on(look->device, &options, &writer);
        plan_disarm();
        if (error == 0)
            return writer;
        close_device(look);
        if (!world_error_fits(world, error))
            break;
        if (!world->way->file)
            sim_happen(world->copy, look->image);
    }
    world_complain(world, "%s: opening for write gives %s (%s)", image_names[look->image], cellar_strerror(error),
                   world->diagnostic.message);
    return NULL;
}

/* Whether the page cache was there all the time, so that nothing committed can be lost. */
static bool is_whole(const struct look *look)
{
    return look->image == SIM_KEPT && world_keeps_committed(look->world);
}

static bool reaches(const struct look *look, const struct model_state *state)
{
    return look->adopted.root_index == state->root_index && look->adopted.next_index >= state->next_index;
}

/*
 * The states that the store may be found in, and how far its cells are known then. Where the page cache was there all
 * the time it is the committed one, or the one that a commit was about to publish. Where it was there, but something
 * has failed, any of those down to the flushed one. Without it the flushed one, or that of the flush that failed.
 */
static void check_state(struct look *look, const struct cellar_recovery *recovery)
{
    struct world *world = look->world;
    const struct model *model = &world->model;
    bool whole = is_whole(look), power = look->image == SIM_POWER;
    bool found = (model->tried_commit && (!power || model->tried_flush) && reaches(look, &model->trying)) ||
                 (!power && reaches(look, &model->committed)) || (!whole && reaches(look, &model->flushed));

    WORLD_NEEDS(world, found, "%s: next %u, root %u; flushed %u, root %u; committed %u, root %u; trying %u, root %u",
                image_names[look->image], look->adopted.next_index, look->adopted.root_index, model->flushed.next_index,
                model->flushed.root_index, model->committed.next_index, model->committed.root_index,
                model->trying.next_index, model->trying.root_index);
    look->sure_next = recovery->skipped_cells > 0 ? recovery->disk_next_index : look->adopted.next_index;
    /* After a failed sync a second fault may have hit the mark that says so: what was flushed alone is sure then. */
    if (!world->way->file && world->sim->sync_failed && plan_fired_count() > 1)
        look->sure_next = model->flushed.next_index;
    if (look->attempts > 1 && !whole) /* the opening that failed may have raised the disk's next over skipped cells */
        look->sure_next = model->flushed.next_index;
}

static void compare(struct look *look, struct cellar_snapshot snapshot, const char *who)
{
    struct world *world = look->world;
    int error = 0;
    const struct model_piece *piece = model_compare(&world->model, &snapshot, look->sure_next, &error);

    WORLD_NEEDS(world, piece == NULL, "%s: the %s reads cells %u..%u wrong (%d)", image_names[look->image], who,
                piece != NULL ? piece->first_index : 0, piece != NULL ? piece->end_index - 1 : 0, error);
}

/* A reader before any repair stands at the disk-sync state. */
static void check_reader(struct look *look)
{
    struct world *world = look->world;
    struct cellar_reader_options options = world_reader_options(world, false);
    struct cellar_reader *reader = NULL;
    struct cellar_snapshot snapshot;
    int error;

    if (!open_device(look))
        abort();
    error = world->way->file ? cellar_reader_open(world->path, &options, &reader)
                             : cellar_reader_open_on(look->device, &options, &reader);
    WORLD_NEEDS(world, error == 0, "%s: opening for read gives %s", image_names[look->image], cellar_strerror(error));
    if (error == 0) {
        snapshot = cellar_reader_snapshot(reader);
        WORLD_NEEDS(world, snapshot.next_index >= world->model.flushed.next_index, "%s: the reader has next %u of %u",
                    image_names[look->image], snapshot.next_index, world->model.flushed.next_index);
        look->sure_next = world->model.flushed.next_index;
        compare(look, snapshot, "reader");
    }
    cellar_reader_close(reader);
    close_device(look);
}

/* The next writer appends and flushes; that must be there after a power loss, with all that was before. */
static void go_on(struct look *look, struct cellar_writer *writer)
{
    struct world *world = look->world;
    uint64_t seed = model_random(&world->random);
    uint32_t index = 0, sure_next = look->sure_next;
    struct cellar_snapshot snapshot;
    unsigned char got[700];
    int error = cellar_writer_append_bytes(writer, model_bytes(seed, sizeof got), sizeof got, &index);

    if (error == 0)
        error = cellar_writer_set_root(writer, index);
    if (error == 0)
        error = cellar_writer_flush(writer);
    WORLD_NEEDS(world, error == 0, "%s: going on gives %s", image_names[look->image], cellar_strerror(error));
    cellar_writer_abandon(writer);
    close_device(look);
    if (error != 0)
        return;
    if (!world->way->file)
        sim_happen(world->copy, SIM_POWER);
    writer = open_writer(look);
    if (writer == NULL)
        return;
    WORLD_NEEDS(world, cellar_writer_root(writer) == index, "%s: the next flush is gone: root %u, not %u",
                image_names[look->image], cellar_writer_root(writer), index);
    look->sure_next = sure_next;
    snapshot = cellar_writer_snapshot(writer);
    compare(look, snapshot, "writer after the next");
    error = cellar_snapshot_read(&snapshot, index, 0, got, sizeof got);
    WORLD_NEEDS(world, error == 0 && memcmp(got, model_bytes(seed, sizeof got), sizeof got) == 0,
                "%s: what the next writer flushed reads wrong", image_names[look->image]);
    error = cellar_writer_close(writer);
    WORLD_NEEDS(world, error == 0, "%s: the last close gives %s", image_names[look->image], cellar_strerror(error));
    close_device(look);
}

static void check_image(struct world *world, enum sim_image image)
{
    struct look look = {.world = world, .image = image};
    struct cellar_recovery recovery;
    struct cellar_writer *writer;
    struct cellar_info info;

    if (!world->way->file)
        sim_copy(world->copy, world->sim->died ? world->grave : world->sim, image);
    check_reader(&look);
    if (world->message[0] != '\0')
        return;
    writer = open_writer(&look);
    if (writer == NULL)
        return;
    cellar_writer_info(writer, &info);
    cellar_writer_recovery(writer, &recovery);
    look.adopted = (struct model_state){info.next_index, info.root_index};
    WORLD_NEEDS(world,
                info.config.version == world->model.version ||
                    (world->model.tried_version && info.config.version != world->model.version),
                "%s: version %u, not %u", image_names[image], info.config.version, world->model.version);
    check_state(&look, &recovery);
    compare(&look, cellar_writer_snapshot(writer), "writer");
    go_on(&look, writer);
}

void world_check_store(struct world *world)
{
    world->doing = OP_END;
    for (enum sim_image image = SIM_KEPT; image < SIM_IMAGE_COUNT && world->message[0] == '\0'; image++) {
        check_image(world, image);
        if (world->way->file)
            return;
        /* Who died in a failed sync has not said so: it can only be made good while the pages are still there. */
        if (world->sim->died && image == SIM_KEPT)
            image = SIM_EVICTED;
    }
}
