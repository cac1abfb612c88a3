/* model.c - what the user of a store knows, and what may therefore be found. */
#include "world.h"

#include <stdlib.h>
#include <string.h>

void model_init(struct model *model, const struct cellar_config *config)
{
    model->cells = calloc(1, SIMDISK_BYTES_MAX);
    model->skipped = calloc(SIMDISK_BYTES_MAX / CELLAR_BYTES_PER_CELL_MIN, sizeof(bool));
    if (model->cells == NULL || model->skipped == NULL)
        abort();
    model_reset(model, config);
}

void model_reset(struct model *model, const struct cellar_config *config)
{
    uint32_t start = (CELLAR_HEADER_BYTES + config->bytes_per_cell - 1) / config->bytes_per_cell;

    *model = (struct model){
        .cells = model->cells,
        .skipped = model->skipped,
        .bytes_per_cell = config->bytes_per_cell,
        .start_index = start,
        .flushed = {.next_index = start},
        .committed = {.next_index = start},
        .published_next = start,
        .version = config->version,
        .new_version = config->version,
    };
}

void model_free(struct model *model)
{
    free(model->cells);
    free(model->skipped);
}

void model_copy(struct model *to, const struct model *from)
{
    unsigned char *cells = to->cells;
    bool *skipped = to->skipped;

    *to = *from;
    to->cells = cells;
    to->skipped = skipped;
    memcpy(cells, from->cells, (size_t)from->published_next * from->bytes_per_cell);
    memcpy(skipped, from->skipped, from->published_next * sizeof *skipped);
}

/* Whether it was flushed, or a flush of it began. */
static bool is_known(const struct model *model, struct state state)
{
    if (state_equal(state, model->flushed))
        return true;
    for (int i = 0; i < model->maybe_count; i++) {
        if (state_equal(state, model->maybe[i]))
            return true;
    }
    return false;
}

bool model_may_be_durable(const struct model *model, struct state state)
{
    return is_known(model, state) || (model->opening && model_explains_lost(model, model->opening_disk, state));
}

struct state model_promised(const struct model *model, struct state disk)
{
    bool raised =
        model->opening && !state_equal(disk, model->flushed) && model_explains_lost(model, model->opening_disk, disk);

    if (raised || !is_known(model, disk))
        disk.next_index = model->opening_disk.next_index;
    return disk;
}

/* Cells that a recovery leaves out. */
static void skip(struct model *model, uint32_t from, uint32_t end)
{
    if (end > from)
        memset(model->skipped + from, 1, (end - from) * sizeof *model->skipped);
}

static void drop_values(struct model *model, uint32_t next_index)
{
    for (uint32_t i = 0; i < model->value_count; i++) {
        if (model->values[i] >= next_index)
            model->value_count = i;
    }
}

void model_begin_opening(struct model *model, struct state disk)
{
    skip(model, model_promised(model, disk).next_index, disk.next_index);
    if (!model_may_be_durable(model, disk))
        abort();
    model_add_maybe(model, disk);
    model->opening = !model->bound || model->suspect;
    model->opening_disk = disk;
}

void model_lose_power(struct model *model, struct state disk)
{
    skip(model, model_promised(model, disk).next_index, disk.next_index);
    model->flushed = model->committed = disk;
    model->maybe_count = 0;
    model->in_commit = model->bound = model->suspect = model->opening = false;
}

void model_add_maybe(struct model *model, struct state state)
{
    if (is_known(model, state))
        return;
    if (model->maybe_count == MAYBE_MAX)
        abort();
    model->maybe[model->maybe_count++] = state;
}

/* Cells that were committed but not flushed are skipped, so next may be larger. */
bool model_explains_lost(const struct model *model, struct state disk, struct state opened)
{
    return opened.root_index == disk.root_index && opened.next_index >= disk.next_index &&
           opened.next_index <= model->published_next;
}

bool model_explains_died(const struct model *model, struct state disk, struct state opened, bool *ret_whole)
{
    bool loose = (!model->bound || model->suspect) && model_explains_lost(model, disk, opened);
    bool equal = state_equal(opened, model->committed) || (model->in_commit && state_equal(opened, model->committing));

    *ret_whole = equal && !loose;
    return equal || loose;
}

void model_remember(struct run *run, struct model *model, struct cellar_writer *writer)
{
    struct cellar_snapshot snapshot = cellar_writer_snapshot(writer);
    uint32_t from = model->committed.next_index, next = snapshot.next_index;
    uint32_t bytes_per_cell = model->bytes_per_cell;

    if (next > from && cellar_snapshot_read(&snapshot, from, 0, model->cells + (size_t)from * bytes_per_cell,
                                            (size_t)(next - from) * bytes_per_cell) != 0)
        fail(run, "can't read what was appended", 0, from);
    if (next > from)
        memset(model->skipped + from, 0, (next - from) * sizeof *model->skipped);
    model->committing = (struct state){next, snapshot.root_index};
    model->in_commit = true;
    if (next > model->published_next)
        model->published_next = next;
}

void model_adopt(struct model *model, struct state disk, struct state opened, bool whole, bool bound)
{
    drop_values(model, whole ? opened.next_index : disk.next_index);
    if (!whole)
        skip(model, disk.next_index, opened.next_index);
    if (model->opening)
        model_add_maybe(model, opened); /* the disk-sync slots may say so */
    model->opening = model->rekeyed = false;
    model->committed = opened;
    model->in_commit = false;
    model->bound = bound;
    model->suspect = false;
}
