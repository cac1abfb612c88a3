/* check.c - what is found on a device, compared with a model. */
#include "image.h"
#include "trace.h"
#include "world.h"

#include "cell/record.h"
#include "device/device.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void fail(struct run *run, const char *what, int error, uint64_t number)
{
    fflush(stdout);
    if (run->failures++ < 3 && !run->quiet)
        printf("FAILED --mode %s --seed %" PRIu64 " --runs 1, during %s: %s (error %d, at %" PRIu64 ")\n",
               run->mode->name, run->seed, run->doing, what, error, number);
}

struct cellar_key world_new_key(struct run *run)
{
    struct cellar_key key;

    for (int at = 0; at < CELLAR_KEY_BYTES; at += 8) {
        uint64_t word = random_next(&run->random);

        memcpy(key.bytes + at, &word, sizeof word);
    }
    return key;
}

struct cellar_writer_options world_options(const struct run *run, const struct cellar_key *key)
{
    return (struct cellar_writer_options){
        .key = key,
        /* whole pages are written ahead, but what is allocated once more shows where growth is frequent */
        .resize_step_bytes = run->mode->ahead && run->seed % 2 == 0 ? 2 * PAGE_BYTES : 1024,
        .cache_bytes = 1,
        .eager_writes = CELLAR_EAGER_NONE,
        .gather_bytes = key->bytes[2] % 2 == 0 ? 1 : CELLAR_GATHER_NONE,
        .device = run->mode->choice,
        .compat = run->mode->compat,
        .two_barriers = key->bytes[0] % 4 == 0, /* some writers after others */
        .publish = !run->mode->compat && key->bytes[1] % 3 == 0 ? CELLAR_PUBLISH_WORD : CELLAR_PUBLISH_SLOTS,
        .checksums = run->mode->sums,
        .ahead = run->mode->ahead ? 0 : CELLAR_AHEAD_NONE,
    };
}

void check_cells(struct run *run, const struct model *model, const struct cellar_snapshot *snapshot, struct state state)
{
    uint32_t bytes_per_cell = model->bytes_per_cell, from = model->start_index;
    static unsigned char bytes[SIMDISK_BYTES_MAX];
    uint64_t size_bytes;
    int error;

    while (from < state.next_index) {
        uint32_t end = from;

        while (end < state.next_index && !model->skipped[end])
            end++;
        if (end > from) {
            size_t length_bytes = (size_t)(end - from) * bytes_per_cell;

            error = cellar_snapshot_read(snapshot, from, 0, bytes, length_bytes);
            if (error != 0 || memcmp(bytes, model->cells + (size_t)from * bytes_per_cell, length_bytes) != 0) {
                uint32_t index = from;

                while (memcmp(bytes + (size_t)(index - from) * bytes_per_cell,
                              model->cells + (size_t)index * bytes_per_cell, bytes_per_cell) == 0)
                    index++;
                for (uint32_t i = 0; trace_on && i < bytes_per_cell; i++)
                    trace("  byte %" PRIu32 ": %02x, expected %02x", i, bytes[(index - from) * bytes_per_cell + i],
                          model->cells[index * bytes_per_cell + i]);
                fail(run, "a cell is lost", error, index);
                return;
            }
        }
        from = end + 1;
    }
    if (state.root_index == CELLAR_ROOT_NONE)
        return;
    error = cellar_snapshot_value_size(snapshot, state.root_index, &size_bytes);
    if (error != 0)
        fail(run, "the root's value is not whole", error, state.root_index);
}

/* What a writer takes for the disk-sync state: by another mount of the file it may know of a record that a reader does
 * not go by. */
static bool find_writers_state(struct run *run, const struct model *model, struct cellar_device *device,
                               struct state *disk)
{
    unsigned char header[CELLAR_HEADER_BYTES];
    struct cellar_evidence evidence;
    struct cellar_device *bytes;
    struct cellar_pick pick;
    struct state state;
    uint64_t size_bytes;
    bool opens;

    if (cellar_device_open_bytes_over(device, &bytes) != 0) /* as an opening does where there are blocks */
        abort();
    opens = cellar_device_size(bytes, &size_bytes) == 0 && cellar_device_read(bytes, header, sizeof header, 0) == 0 &&
            cellar_evidence_gather(bytes, header, model->bytes_per_cell, size_bytes / model->bytes_per_cell, false,
                                   &evidence) == 0 &&
            cellar_pick_disk(&evidence, &pick, NULL) == 0;
    if (cellar_device_close(bytes) != 0)
        abort();
    if (!opens)
        return true; /* opening says what is wrong */
    run->recorded += pick.record >= 0;
    state = (struct state){pick.disk.next_index, pick.disk.root_index};
    if (state_equal(state, *disk))
        return true;
    if (state.next_index < disk->next_index || !model_may_be_durable(model, state)) {
        fail(run, "a record says what was never flushed", 0, state.next_index);
        return false;
    }
    *disk = state;
    return true;
}

bool check_reader(struct run *run, const struct model *model, struct cellar_device *device, struct state *ret_disk)
{
    struct cellar_reader_options options = {.cache_bytes = 1, .device = run->mode->choice};
    struct cellar_reader *reader;
    struct cellar_info info;
    int error = cellar_reader_open_on(device, &options, &reader);

    if (error != 0) {
        fail(run, "does not open for read", error, 0);
        return false;
    }
    struct cellar_snapshot snapshot = cellar_reader_snapshot(reader);
    struct state state = {snapshot.next_index, snapshot.root_index};
    bool fine = model_may_be_durable(model, state);

    cellar_reader_info(reader, &info);
    if (info.config.version != model->version && info.config.version != model->new_version)
        fail(run, "the version is another", 0, info.config.version);
    if (!fine)
        fail(run, "a reader finds a state that was never flushed", 0, state.next_index);
    else
        check_cells(run, model, &snapshot, model_promised(model, state));
    cellar_reader_close(reader);
    fine = fine && find_writers_state(run, model, device, &state);
    *ret_disk = state;
    return fine;
}

static void check_writer(struct run *run, const struct model *model, struct cellar_device *device, struct state disk,
                         bool died)
{
    struct cellar_key key = world_new_key(run);
    struct cellar_writer_options options = world_options(run, &key);
    struct cellar_writer *writer;
    uint32_t index;
    bool whole = false;
    int error = cellar_writer_open_on(device, &options, &writer);

    if (error != 0) {
        fail(run, "does not open for write", error, 0);
        return;
    }
    struct cellar_snapshot snapshot = cellar_writer_snapshot(writer);
    struct state opened = {snapshot.next_index, snapshot.root_index}, promised = model_promised(model, disk);

    if (died ? !model_explains_died(model, disk, opened, &whole) : !model_explains_lost(model, disk, opened)) {
        fail(run,
             died ? "the next process opens on something else than what was committed"
                  : "a writer opens on a state that was never flushed",
             0, opened.next_index);
    } else {
        if (whole)
            promised = opened;
        check_cells(run, model, &snapshot, promised);
        error = cellar_writer_write_value(writer, "goes on", 7, &index);
        if (error != 0 && error != -ENOSPC && error != CELLAR_EINDEXFULL)
            fail(run, "can't append after recovery", error, 0);
        snapshot = cellar_writer_snapshot(writer);
        check_cells(run, model, &snapshot, promised);
    }
    cellar_writer_abandon(writer);
}

/* A reader that has the writer's key finds what was committed last. */
static void check_follower(struct run *run, const struct model *model, struct cellar_device *device)
{
    struct cellar_reader_options options = {.key = &model->key, .cache_bytes = 1, .device = run->mode->choice};
    struct cellar_reader *reader;
    int error = cellar_reader_open_on(device, &options, &reader);

    if (error != 0) {
        fail(run, "does not open for a reader with the key", error, 0);
        return;
    }
    struct cellar_snapshot snapshot = cellar_reader_snapshot(reader);
    struct state state = {snapshot.next_index, snapshot.root_index};

    if (!state_equal(state, model->committed) && !(model->in_commit && state_equal(state, model->committing)))
        fail(run, "a reader with the key finds something else than what was committed", 0, state.next_index);
    else
        check_cells(run, model, &snapshot, state);
    cellar_reader_close(reader);
}

/* A reader that has the writer's key, after a power loss: it finds no more than disk sync has. By what is left its key
 * may be another's, or neither slot whole. */
static void check_lost_follower(struct run *run, const struct model *model, struct cellar_device *device)
{
    struct cellar_reader_options options = {.key = &model->key, .cache_bytes = 1, .device = run->mode->choice};
    struct cellar_reader *reader;
    int error = cellar_reader_open_on(device, &options, &reader);

    if (error != 0) {
        if (error != CELLAR_EBADKEY && error != CELLAR_ECORRUPT)
            fail(run, "does not open for a reader with the key after a power loss", error, 0);
        return;
    }
    struct cellar_snapshot snapshot = cellar_reader_snapshot(reader);
    struct state state = {snapshot.next_index, snapshot.root_index};

    if (!model_may_be_durable(model, state))
        fail(run, "a reader with the key finds what a power loss took", 0, state.next_index);
    else
        check_cells(run, model, &snapshot, model_promised(model, state));
    cellar_reader_close(reader);
}

/* Of a store that is being created: the whole of it, or nothing that anybody takes for one. */
static void check_creation(struct run *run, const struct model *model, struct image *image,
                           struct cellar_device *device)
{
    static unsigned char before[SIMDISK_BYTES_MAX];
    struct cellar_writer_options options = world_options(run, &model->key);
    uint64_t size_bytes = image->size_bytes, blank_bytes = size_bytes < PAGE_BYTES ? size_bytes : PAGE_BYTES;
    struct cellar_reader *reader;
    struct cellar_writer *writer;
    struct state disk;
    bool blank = true;
    int error = cellar_reader_open_on(device, NULL, &reader);

    if (error == 0) {
        cellar_reader_close(reader);
        if (check_reader(run, model, device, &disk))
            check_writer(run, model, device, disk, false);
        return;
    }
    if (error != CELLAR_ECORRUPT)
        fail(run, "half a creation is taken for something else", error, 0);
    for (uint64_t i = 0; i < blank_bytes; i++)
        blank = blank && image->bytes[i] == 0;
    memcpy(before, image->bytes, size_bytes);
    error = cellar_writer_create_on(device, &run->config, &options, &writer);
    if (error == 0)
        cellar_writer_abandon(writer);
    if (blank ? error != 0 : error != -EEXIST)
        fail(run, "can't create again after a power loss", error, size_bytes);
    if (error != 0 && memcmp(before, image->bytes, size_bytes) != 0)
        fail(run, "a refused creation changed something", error, 0);
}

bool check_image(struct world *world, const struct world_file *file, unsigned char *bytes, uint64_t size_bytes,
                 bool died, struct state *ret_disk)
{
    struct run *run = world->run;
    struct image image = {
        .bytes = bytes,
        .size_bytes = size_bytes,
        .incarnation = died ? file->disk.incarnation : simdisk_new_incarnation(),
        .kind = &file->disk.kind,
    };
    uint64_t failures = run->failures;
    struct cellar_device *device;
    unsigned char header[CELLAR_HEADER_BYTES];

    memcpy(header, bytes, sizeof header);
    if (run->mode->sums && world->created)
        check_sums(world, file, bytes, size_bytes, died);
    if (image_open(&image, &device) != 0)
        abort();
    if (!world->created && world->folder == NULL) {
        check_creation(run, &file->model, &image, device);
        *ret_disk = file->model.flushed;
    } else if (check_reader(run, &file->model, device, ret_disk)) {
        if (died && file->model.bound && !file->model.suspect && !file->model.rekeyed)
            check_follower(run, &file->model, device);
        if (!died && run->disk.has_incarnation)
            check_lost_follower(run, &file->model, device);
        check_writer(run, &file->model, device, *ret_disk, died);
    }
    cellar_device_close(device);
    if (run->failures != failures) {
        trace_header(died ? "after a death" : "after a power loss", header);
        trace_header("the view", file->disk.view);
        trace_header("durable", file->disk.durable);
    }
    return run->failures == failures;
}
