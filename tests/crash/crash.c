/*
 * crash.c - what is left after a power loss at any moment.
 *
 *     crash [--seed N] [--runs N] [--minutes N] [--mutant drop-barriers]
 *
 * A run does random work on a store over a simulated disk (simdisk.h), beside a model of what was committed and
 * flushed. Before and after every change of the disk it builds the images that a power loss could leave: all of them
 * while they are few, else a sample by the seed. Each image must open for read and for write, on at least the last
 * flushed state or the one that a flush in progress was making; every cell below that state's next index must be what
 * it was, and the root's value whole. For some images the disk under the recovery itself is simulated too, and loses
 * power again.
 *
 * By the seed, the disk is one in bytes, one in bytes that has durable writes, or one in blocks that has them.
 *
 * A failure prints the seed of its run, which repeats it alone. The last line counts runs, images and failures.
 */
#include "simdisk.h"

#include <cellar/store.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum {
    CELL_BYTES = 32,
    CELLS_MAX = SIMDISK_BYTES_MAX / CELL_BYTES,
    IMAGES_EXHAUSTIVE = 64,
    IMAGES_SAMPLED = 24,
    STEPS = 60,
    RECOVERY_EVERY = 16, /* one image in so many loses power again during its recovery */
};

struct state {
    uint32_t next_index, root_index;
};

struct run {
    uint64_t seed, random;
    struct simdisk disk;
    struct cellar_device *device;
    struct cellar_writer *writer;
    unsigned char cells[CELLS_MAX][CELL_BYTES]; /* as committed */
    bool skipped[CELLS_MAX];                    /* by a recovery: their content is nobody's promise */
    struct state committed, flushed, flushing;  /* flushing: what a flush in progress makes durable */
    bool in_flush, created;
    bool in_recovery; /* recovery makes a larger next index durable: readers may see it too */
    unsigned char image[SIMDISK_BYTES_MAX];
    uint64_t images, failures;
    const char *doing;
};

static void fail(struct run *run, const char *what, int error, uint32_t index)
{
    if (run->failures++ < 5)
        printf("FAILED seed %" PRIu64 " during %s: %s (error %d, index %" PRIu32 ")\n", run->seed, run->doing, what,
               error, index);
}

static bool same(struct state a, struct state b)
{
    return a.next_index == b.next_index && a.root_index == b.root_index;
}

/* Cells below next are what was committed, and the root, which is always a value here, can be read. */
static void check_cells(struct run *run, const struct cellar_snapshot *snapshot, struct state state)
{
    unsigned char cell[CELL_BYTES];
    uint64_t size_bytes;
    int error;

    for (uint32_t index = snapshot->start_index; index < state.next_index; index++) {
        if (run->skipped[index])
            continue;
        error = cellar_snapshot_read(snapshot, index, 0, cell, sizeof cell);
        if (error != 0 || memcmp(cell, run->cells[index], sizeof cell) != 0) {
            fail(run, "a flushed cell is lost", error, index);
            return;
        }
    }
    if (state.root_index == CELLAR_ROOT_NONE)
        return;
    error = cellar_snapshot_value_size(snapshot, state.root_index, &size_bytes);
    if (error != 0)
        fail(run, "the root's value is not whole", error, state.root_index);
}

/* The flushed state, or the one in the making: by its root and its next index. False: neither. */
static bool explain(const struct run *run, struct state seen, struct state *ret_state)
{
    const struct state candidates[2] = {run->flushed, run->flushing};

    for (int i = 0; i < (run->in_flush ? 2 : 1); i++) {
        /* Cells that were committed and not flushed are skipped: next may be larger. */
        if (same(seen, candidates[i]) ||
            (seen.root_index == candidates[i].root_index && seen.next_index >= candidates[i].next_index)) {
            *ret_state = candidates[i];
            return true;
        }
    }
    return false;
}

static void check_reader(struct run *run, struct cellar_device *device)
{
    struct cellar_reader *reader;
    struct state state;
    int error = cellar_reader_open_on(device, NULL, &reader);

    if (error != 0) {
        fail(run, "does not open for read", error, 0);
        return;
    }
    struct cellar_snapshot snapshot = cellar_reader_snapshot(reader);

    if (!explain(run, (struct state){snapshot.next_index, snapshot.root_index}, &state))
        fail(run, "a reader sees a state that was never flushed", 0, snapshot.next_index);
    else
        check_cells(run, &snapshot, state);
    cellar_reader_close(reader);
}

/* Opens for write and goes on a little; what was there stays. */
static void check_writer(struct run *run, struct cellar_device *device)
{
    struct cellar_writer_options options = {.resize_step_bytes = 2048, .cache_bytes = 1};
    struct cellar_writer *writer;
    struct state state;
    uint32_t index;
    int error = cellar_writer_open_on(device, &options, &writer);

    if (error != 0) {
        fail(run, "does not open for write", error, 0);
        return;
    }
    struct cellar_snapshot snapshot = cellar_writer_snapshot(writer);

    if (!explain(run, (struct state){snapshot.next_index, snapshot.root_index}, &state)) {
        fail(run, "a writer opens on a state that was never flushed", 0, snapshot.next_index);
    } else {
        check_cells(run, &snapshot, state);
        error = cellar_writer_write_value(writer, "goes on", 7, &index);
        if (error != 0 && error != -ENOSPC)
            fail(run, "can't append after recovery", error, 0);
        snapshot = cellar_writer_snapshot(writer);
        check_cells(run, &snapshot, state);
    }
    cellar_writer_abandon(writer);
}

static void check_image(struct run *run, const unsigned char *image, uint64_t size_bytes)
{
    struct cellar_device *device;

    if (size_bytes == 0)
        return; /* before the store was there */
    run->images++;
    if (cellar_device_open_memory(image, size_bytes, SIMDISK_BYTES_MAX, &device) != 0)
        abort();
    check_reader(run, device);
    check_writer(run, device);
    cellar_device_close(device);
}

struct second {
    struct run *run;
    struct simdisk disk;
    unsigned char image[SIMDISK_BYTES_MAX];
};

static void lose_power_again(void *user)
{
    struct second *second = user;
    uint64_t size_bytes;

    for (int i = 0; i < 4; i++) {
        simdisk_image(&second->disk, 0, &second->run->random, second->image, &size_bytes);
        check_image(second->run, second->image, size_bytes);
    }
}

/* One more value and a flush on a recovered store: what recovery left unrepaired would show now. */
static void go_on(struct run *run, struct cellar_writer *writer)
{
    static unsigned char cells[CELLS_MAX][CELL_BYTES];
    static bool skipped[CELLS_MAX];
    struct state committed = run->committed, flushed = run->flushed, flushing = run->flushing;
    bool in_flush = run->in_flush;
    uint32_t index;

    memcpy(cells, run->cells, sizeof cells);
    memcpy(skipped, run->skipped, sizeof skipped);
    struct cellar_snapshot snapshot = cellar_writer_snapshot(writer);

    if (explain(run, (struct state){snapshot.next_index, snapshot.root_index}, &run->flushed) &&
        cellar_writer_write_value(writer, "a value after recovery, in two cells", 37, &index) == 0 &&
        cellar_writer_set_root(writer, index) == 0) {
        for (uint32_t skip = run->flushed.next_index; skip < snapshot.next_index; skip++)
            run->skipped[skip] = true;
        snapshot = cellar_writer_snapshot(writer);
        for (uint32_t at = index - 1; at <= index; at++) {
            run->skipped[at] = false;
            if (cellar_snapshot_read(&snapshot, at, 0, run->cells[at], CELL_BYTES) != 0)
                fail(run, "can't read an appended cell", 0, at);
        }
        run->flushing = (struct state){snapshot.next_index, snapshot.root_index};
        run->in_flush = true;
        if (cellar_writer_flush(writer) != 0)
            fail(run, "can't flush after recovery", 0, index);
    }
    run->committed = committed;
    run->flushed = flushed;
    run->flushing = flushing;
    run->in_flush = in_flush;
    memcpy(run->cells, cells, sizeof cells);
    memcpy(run->skipped, skipped, sizeof skipped);
}

/* Recovers an image on a simulated disk and goes on, and loses power at every change that this makes. */
static void check_recovery(struct run *run, const unsigned char *image, uint64_t size_bytes)
{
    static struct second second;
    struct cellar_writer_options options = {.resize_step_bytes = 2048, .cache_bytes = 1};
    struct cellar_device *device;
    struct cellar_writer *writer;

    second.run = run;
    simdisk_init(&second.disk);
    simdisk_load(&second.disk, image, size_bytes);
    second.disk.durable_writes = run->disk.durable_writes;
    second.disk.block_bytes = run->disk.block_bytes;
    second.disk.event = lose_power_again;
    second.disk.user = &second;
    if (simdisk_open(&second.disk, &device) != 0)
        abort();
    bool before = run->in_recovery;

    run->in_recovery = true;
    if (cellar_writer_open_on(device, &options, &writer) == 0) {
        go_on(run, writer);
        cellar_writer_abandon(writer);
    }
    run->in_recovery = before;
    cellar_device_close(device);
    simdisk_free(&second.disk);
}

static void lose_power(void *user)
{
    struct run *run = user;
    uint64_t count = simdisk_image_count(&run->disk), size_bytes;
    uint64_t images = count <= IMAGES_EXHAUSTIVE ? count : IMAGES_SAMPLED;

    if (!run->created)
        return;
    for (uint64_t i = 0; i < images; i++) {
        simdisk_image(&run->disk, i, count <= IMAGES_EXHAUSTIVE ? NULL : &run->random, run->image, &size_bytes);
        check_image(run, run->image, size_bytes);
        if (size_bytes > 0 && simdisk_random(&run->random) % RECOVERY_EVERY == 0)
            check_recovery(run, run->image, size_bytes);
    }
}

static uint32_t below(struct run *run, uint32_t bound)
{
    return (uint32_t)(simdisk_random(&run->random) % bound);
}

/* Remembers what is about to be committed: from here on it may be in a slot. */
static void remember(struct run *run)
{
    struct cellar_snapshot snapshot = cellar_writer_snapshot(run->writer);

    for (uint32_t index = run->committed.next_index; index < snapshot.next_index; index++) {
        if (cellar_snapshot_read(&snapshot, index, 0, run->cells[index], CELL_BYTES) != 0)
            fail(run, "can't read an appended cell", 0, index);
    }
    run->committed = (struct state){snapshot.next_index, snapshot.root_index};
}

static void expect(struct run *run, int error)
{
    if (error != 0)
        fail(run, "an operation failed", error, 0);
}

static void flush(struct run *run)
{
    run->doing = "flush";
    remember(run);
    run->flushing = run->committed;
    run->in_flush = true;
    expect(run, cellar_writer_flush(run->writer));
    run->flushed = run->flushing;
    run->in_flush = false;
}

static void reopen(struct run *run)
{
    struct cellar_writer_options options = {.resize_step_bytes = 2048, .cache_bytes = 1};
    struct cellar_info info;

    /* Recovery makes the larger next index durable, with the root that was. */
    run->doing = "open";
    for (uint32_t index = run->flushed.next_index; index < run->committed.next_index; index++)
        run->skipped[index] = true;
    run->flushing = (struct state){run->committed.next_index, run->flushed.root_index};
    run->in_flush = true;
    cellar_writer_abandon(run->writer);
    run->writer = NULL;
    expect(run, cellar_writer_open_on(run->device, &options, &run->writer));
    if (run->writer == NULL)
        exit(1);
    cellar_writer_info(run->writer, &info);
    if (info.next_index != run->flushing.next_index || info.root_index != run->flushing.root_index)
        fail(run, "a reopened writer stands elsewhere", 0, info.next_index);
    run->committed = run->flushing; /* durable with the next flush */
    run->in_flush = false;
}

/*
 * A flush that dies before its first barrier (cells) or its second (header), and the next writer on the same page
 * cache: what that one flushes must be durable, whatever it found.
 */
static void die_in_flush(struct run *run)
{
    struct cellar_writer_options options = {.resize_step_bytes = 2048, .cache_bytes = 1};
    struct cellar_info info;
    int barrier = 1 + (int)below(run, 2);

    run->doing = "a flush that dies";
    remember(run);
    run->flushing = run->committed;
    run->in_flush = true;
    run->disk.fail_sync = barrier;
    (void)!cellar_writer_flush(run->writer);
    run->disk.fail_sync = 0;
    cellar_writer_abandon(run->writer);
    run->writer = NULL;
    run->in_recovery = true;
    expect(run, cellar_writer_open_on(run->device, &options, &run->writer));
    run->in_recovery = false;
    if (run->writer == NULL)
        exit(1);
    cellar_writer_info(run->writer, &info);
    if (info.root_index != run->flushing.root_index || info.next_index != run->flushing.next_index) {
        for (uint32_t index = run->flushed.next_index; index < info.next_index; index++)
            run->skipped[index] = true;
    }
    run->doing = "flush after a flush that died";
    run->committed = (struct state){info.next_index, info.root_index};
    run->flushing = run->committed;
    expect(run, cellar_writer_flush(run->writer));
    run->flushed = run->committed;
    run->in_flush = false;
    lose_power(run);
}

static void step(struct run *run)
{
    static unsigned char bytes[3000];
    uint32_t index, length = below(run, 8) == 0 ? below(run, sizeof bytes) : below(run, 100);

    for (uint32_t i = 0; i < length; i++)
        bytes[i] = (unsigned char)simdisk_random(&run->random);
    switch (below(run, 11)) {
    case 0:
    case 1:
        run->doing = "append";
        expect(run, cellar_writer_append_bytes(run->writer, bytes, length + 1, &index));
        break;
    case 2:
    case 3:
    case 4:
        run->doing = "write_value";
        expect(run, cellar_writer_write_value(run->writer, bytes, length, &index));
        expect(run, cellar_writer_set_root(run->writer, below(run, 6) == 0 ? CELLAR_ROOT_NONE : index));
        break;
    case 5:
    case 6:
        run->doing = "commit";
        remember(run);
        expect(run, cellar_writer_commit(run->writer));
        break;
    case 7:
        run->doing = "rollback";
        expect(run, cellar_writer_rollback(run->writer));
        break;
    case 8:
        flush(run);
        break;
    case 9:
        die_in_flush(run);
        break;
    default:
        reopen(run);
        break;
    }
}

static void run_once(uint64_t seed, bool drop_barriers, uint64_t *images, uint64_t *failures)
{
    static struct run run;
    struct cellar_config config = {.bytes_per_cell = CELL_BYTES, .max_index = CELLS_MAX, .version = 1};
    struct cellar_writer_options options = {.resize_step_bytes = 2048, .cache_bytes = 1};

    memset(&run, 0, sizeof run);
    run.seed = seed;
    run.random = seed;
    run.doing = "create";
    simdisk_init(&run.disk);
    run.disk.event = lose_power;
    run.disk.user = &run;
    run.disk.drop_barriers = drop_barriers;
    run.disk.durable_writes = seed % 3 > 0;
    run.disk.block_bytes = seed % 3 == 2 ? SECTOR_BYTES : 0;
    memcpy(config.head, "CRASH TEST          ", CELLAR_HEAD_BYTES);
    if (simdisk_open(&run.disk, &run.device) != 0 ||
        cellar_writer_create_on(run.device, &config, &options, &run.writer) != 0)
        abort();
    run.committed = run.flushed = (struct state){CELLAR_HEADER_BYTES / CELL_BYTES, CELLAR_ROOT_NONE};
    run.created = true;
    for (int i = 0; i < STEPS; i++)
        step(&run);
    cellar_writer_abandon(run.writer);
    cellar_device_close(run.device);
    simdisk_free(&run.disk);
    *images += run.images;
    *failures += run.failures;
}

int main(int argument_count, char **arguments)
{
    uint64_t seed = 1, runs = 20, minutes = 0, images = 0, failures = 0, done = 0;
    bool drop_barriers = false;
    time_t begin = time(NULL);

    for (int i = 1; i + 1 < argument_count; i += 2) {
        if (strcmp(arguments[i], "--seed") == 0)
            seed = strtoull(arguments[i + 1], NULL, 10);
        else if (strcmp(arguments[i], "--runs") == 0)
            runs = strtoull(arguments[i + 1], NULL, 10);
        else if (strcmp(arguments[i], "--minutes") == 0)
            minutes = strtoull(arguments[i + 1], NULL, 10);
        else if (strcmp(arguments[i], "--mutant") == 0)
            drop_barriers = strcmp(arguments[i + 1], "drop-barriers") == 0;
    }
    while (minutes > 0 ? time(NULL) - begin < (time_t)minutes * 60 : done < runs) {
        run_once(seed + done, drop_barriers, &images, &failures);
        done++;
    }
    printf("%" PRIu64 " runs, %" PRIu64 " images, %" PRIu64 " failures\n", done, images, failures);
    return failures > 0 ? 1 : 0;
}
