/*
 * crash.c - what is left after a power loss, or the death of a process, at any moment.
 *
 *     crash [--seed N] [--runs N] [--minutes N] [--mode NAME] [--steps N] [--until-failure] [--trace] [--verbose]
 *           [--lie sync|grow|folder]
 *
 * A run does random work on a store over a simulated disk (simdisk.h), beside a model of what was committed and
 * flushed (world.h). Before and after every barrier it builds the images that a power loss could leave: all of them
 * while 12 or fewer blocks are pending, else a sample by the seed; after every store a few, and what a process that
 * dies there leaves. Each must open for read and for write on what the model promises; for some the store then goes on,
 * on a simulated disk again, and crashes again.
 *
 * Why before every barrier is enough: what may be on the disk only becomes more until then.
 *
 * A failure prints the mode and the seed of its run, which repeat it alone. The last line counts runs, images of power
 * losses, deaths of the process (after some the file is mounted once more), and failures. --verbose says how many
 * images had their state in a record of a checked flush alone.
 */
#include "folder.h"
#include "hook.h"
#include "trace.h"
#include "world.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { STEPS = 40, SMALL_DISK = 32 * 1024 };

static const struct mode modes[] = {
    {.name = "window", .disk = {.window = true, .has_incarnation = true}},
    {.name = "window-unmarked", .disk = {.window = true}},
    {.name = "writes", .disk = {.has_incarnation = true}},
    {.name = "durable", .disk = {.durable_writes = true, .has_incarnation = true}},
    {.name = "blocks-512", .disk = {.block_bytes = SECTOR_BYTES, .durable_writes = true, .has_incarnation = true}},
    {.name = "blocks-4096", .disk = {.block_bytes = PAGE_BYTES}},
    {.name = "path", .disk = {.window = true, .has_incarnation = true, .can_trim = true}, .by_path = true},
    {.name = "ahead",
     .disk = {.window = true, .has_incarnation = true, .can_trim = true},
     .by_path = true,
     .ahead = true},
    {.name = "failing-ahead",
     .disk = {.window = true, .has_incarnation = true, .can_trim = true, .grow_syncs = true},
     .by_path = true,
     .failing = true,
     .ahead = true},
    {.name = "path-pages",
     .disk = {.durable_writes = true, .has_incarnation = true, .can_trim = true},
     .by_path = true,
     .choice = CELLAR_DEVICE_PAGES},
    {.name = "sums",
     .disk = {.window = true, .has_incarnation = true, .can_trim = true},
     .by_path = true,
     .sums = true},
    {.name = "sums-pages",
     .disk = {.durable_writes = true, .has_incarnation = true, .can_trim = true},
     .by_path = true,
     .choice = CELLAR_DEVICE_PAGES,
     .sums = true},
    {.name = "fixed", .disk = {.block_bytes = SECTOR_BYTES, .fixed = true}},
    {.name = "compat", .disk = {.window = true, .has_incarnation = true}, .compat = true},
    {.name = "compat-writes", .disk = {.durable_writes = true}, .compat = true},
    {.name = "failing", .disk = {.window = true, .has_incarnation = true}, .failing = true},
    {.name = "failing-unmarked", .disk = {.window = true}, .failing = true},
    {.name = "failing-writes", .disk = {.has_incarnation = true}, .failing = true},
    {.name = "failing-blocks", .disk = {.block_bytes = SECTOR_BYTES, .has_incarnation = true}, .failing = true},
    {.name = "failing-syncs",
     .disk = {.window = true, .has_incarnation = true, .grow_syncs = true},
     .failing = true,
     .every_sync = true},
    {.name = "failing-syncs-writes",
     .disk = {.has_incarnation = true, .grow_syncs = true},
     .failing = true,
     .every_sync = true},
    {.name = "large", .disk = {.window = true, .has_incarnation = true}, .large = true},
    {.name = "failing-large", .disk = {.window = true, .has_incarnation = true}, .failing = true, .large = true},
};

enum { MODE_COUNT = sizeof modes / sizeof modes[0] };

struct totals {
    uint64_t runs, images, deaths, failures, recorded;
};

struct settings {
    uint64_t seed, runs, minutes;
    int steps;
    const char *mode; /* NULL: one after the other */
    const char *lie;  /* of the disk, to see that the test notices it; NULL: none */
    bool until_failure, verbose;
};

static void draw_shape(struct run *run)
{
    static const uint32_t cell_bytes[] = {32, 64, 7, 100, 24, 512, 5};
    struct simdisk_kind *disk = &run->disk;

    *disk = run->mode->disk;
    disk->capacity_bytes = run->mode->large ? SIMDISK_BYTES_MAX : SMALL_DISK;
    if (disk->block_bytes == 0)
        disk->block_bytes = 1;
    disk->atom_bytes = random_once_in(&run->random, 2) ? SECTOR_BYTES : PAGE_BYTES;
    disk->zeroes = random_once_in(&run->random, 2);
    run->config.bytes_per_cell = cell_bytes[random_below(&run->random, sizeof cell_bytes / sizeof cell_bytes[0])];
    run->config.max_index = (uint32_t)(disk->capacity_bytes / run->config.bytes_per_cell);
    run->config.version = 1;
    run->can_exchange = !random_once_in(&run->random, 3);
    memcpy(run->config.head, "CRASH TEST          ", CELLAR_HEAD_BYTES);
}

static void run_once(const struct settings *settings, const struct mode *mode, uint64_t seed, struct totals *totals)
{
    struct run run = {.mode = mode, .seed = seed, .random = seed};
    static struct world world;

    draw_shape(&run);
    if (settings->lie != NULL) {
        run.disk.syncs_nothing = strcmp(settings->lie, "sync") == 0;
        run.disk.grows_nothing = strcmp(settings->lie, "grow") == 0;
        run.folder_syncs_nothing = strcmp(settings->lie, "folder") == 0;
    }
    world_init(&world, &run, random_next(&run.random), 0);
    world_create(&world);
    if (world.created)
        world_work(&world, settings->steps);
    world_abandon(&world);
    folder_enter(NULL);
    cellar_device_close(world.device);
    world_free(&world);
    second_free();
    totals->runs++;
    totals->images += run.images;
    totals->deaths += run.deaths;
    totals->failures += run.failures;
    totals->recorded += run.recorded;
}

static uint64_t number(const char *text)
{
    char *end;
    uint64_t value = strtoull(text, &end, 10);

    if (*text == '\0' || *end != '\0') {
        fprintf(stderr, "crash: not a number: %s\n", text);
        exit(2);
    }
    return value;
}

static void read_settings(int argument_count, char **arguments, struct settings *settings)
{
    for (int i = 1; i < argument_count; i++) {
        const char *name = arguments[i], *value = i + 1 < argument_count ? arguments[i + 1] : "";

        if (strcmp(name, "--until-failure") == 0) {
            settings->until_failure = true;
            continue;
        }
        if (strcmp(name, "--verbose") == 0) {
            settings->verbose = true;
            continue;
        }
        if (strcmp(name, "--trace") == 0) {
            trace_on = true;
            continue;
        }
        i++;
        if (strcmp(name, "--seed") == 0)
            settings->seed = number(value);
        else if (strcmp(name, "--runs") == 0)
            settings->runs = number(value);
        else if (strcmp(name, "--minutes") == 0)
            settings->minutes = number(value);
        else if (strcmp(name, "--steps") == 0)
            settings->steps = (int)number(value);
        else if (strcmp(name, "--mode") == 0)
            settings->mode = value;
        else if (strcmp(name, "--lie") == 0)
            settings->lie = value;
        else {
            fprintf(stderr, "crash: what is %s?\n", name);
            exit(2);
        }
    }
}

static const struct mode *find_mode(const char *name)
{
    for (size_t i = 0; i < MODE_COUNT; i++) {
        if (strcmp(modes[i].name, name) == 0)
            return &modes[i];
    }
    fprintf(stderr, "crash: no mode %s; there are:", name);
    for (size_t i = 0; i < MODE_COUNT; i++)
        fprintf(stderr, " %s", modes[i].name);
    fprintf(stderr, "\n");
    exit(2);
}

int main(int argument_count, char **arguments)
{
    struct settings settings = {.seed = 1, .runs = 2 * MODE_COUNT, .steps = STEPS};
    struct totals totals = {.runs = 0};
    const struct mode *mode = NULL;
    time_t begin = time(NULL);

    hook_start();
    read_settings(argument_count, arguments, &settings);
    if (settings.mode != NULL)
        mode = find_mode(settings.mode);
    while (settings.minutes > 0 ? time(NULL) - begin < (time_t)settings.minutes * 60 : totals.runs < settings.runs) {
        run_once(&settings, mode != NULL ? mode : &modes[totals.runs % MODE_COUNT], settings.seed + totals.runs,
                 &totals);
        if (settings.until_failure && totals.failures > 0)
            break;
    }
    printf("%" PRIu64 " runs, %" PRIu64 " images, %" PRIu64 " deaths, %" PRIu64 " failures\n", totals.runs,
           totals.images, totals.deaths, totals.failures);
    if (settings.verbose)
        printf("%" PRIu64 " images had their state in a record alone\n", totals.recorded);
    return totals.failures > 0 ? 1 : 0;
}
