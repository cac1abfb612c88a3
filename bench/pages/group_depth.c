/* group_depth.c - loads in parallel: 1 to 64 at a time, on threads and on io_uring. */
#include "cases.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

enum {
    DEPTHS = 7,
    DEPTH_FRAMES = 1024,
};

#define CACHE_MODE "load_async, depth %u"
#define BARE_MODE "bare device, threads: %u"

struct rows {
    struct pages_case cases[2 * DEPTHS];
    char modes[2 * DEPTHS][32];
};

/* Each depth has as many loads more as it is deeper, so that all rows take equally long if nothing is in their way. */
static void describe_rows(struct rows *rows, const struct pages_setup *setup, const uint64_t *addresses, size_t each)
{
    for (unsigned i = 0; i < DEPTHS; i++) {
        unsigned depth = 1u << i;
        struct pages_case *cached = &rows->cases[i];
        struct pages_case *bare = &rows->cases[DEPTHS + i];

        snprintf(rows->modes[i], sizeof rows->modes[i], CACHE_MODE, depth);
        snprintf(rows->modes[DEPTHS + i], sizeof rows->modes[i], BARE_MODE, depth);
        *cached = (struct pages_case){PAGES_WHO(&kind_async, "cellar", rows->modes[i], *setup),
                                      PAGES_WHAT(PAGES_GET, addresses, each << i), .series = "cellar", .empty = true};
        cached->setup.depth = depth;
        *bare = (struct pages_case){PAGES_WHO(&kind_device, "limit", rows->modes[DEPTHS + i], *setup),
                                    PAGES_WHAT(PAGES_GET, addresses, each << i), .series = "limit", .threads = depth};
    }
}

static int measure_depths(struct pages_run *run, const struct pages_workload *workload, const struct pages_setup *setup,
                          size_t each)
{
    size_t most = (size_t)run->scale->file_pages >> (DEPTHS - 1);
    uint64_t *addresses;
    struct rows rows;
    int error = -ENOMEM;

    if (each > most)
        each = most;
    addresses = pages_addresses_shuffled(run->scale->file_pages, each << (DEPTHS - 1), sizeof(uint64_t));
    describe_rows(&rows, setup, addresses, each);
    if (addresses != NULL)
        error = pages_measure(run, &workload->heading, rows.cases, sizeof rows.cases / sizeof rows.cases[0]);
    free(addresses);
    return error;
}

static int measure_delayed(struct pages_run *run, const struct pages_workload *workload)
{
    const struct pages_setup setup = {.device = PAGES_DELAYED, .page_count = DEPTH_FRAMES};
    int error = measure_depths(run, workload, &setup, (size_t)run->scale->delayed);
    double alone_ns = pages_median_ns(run, &workload->heading, "cellar", "load_async, depth 1");
    double deep_ns = pages_median_ns(run, &workload->heading, "cellar", "load_async, depth 32");

    if (error == 0 && deep_ns > 0.0)
        pages_aim(run, "random reads at depth 32 over a device of 1 ms, times those at depth 1", alone_ns / deep_ns,
                  25.0, true, NULL);
    return error;
}

/* number: what the loads run on. */
static int measure_disk(struct pages_run *run, const struct pages_workload *workload)
{
    const struct pages_setup setup = {
        .device = PAGES_DIRECT, .page_count = DEPTH_FRAMES, .io = (enum cellar_io)workload->number};

    return measure_depths(run, workload, &setup, (size_t)(run->scale->direct + 7) / 8);
}

#define TITLE "load a page at random and read 8 bytes of it"

const struct pages_workload pages_depths[3] = {
    {{"depth-delayed", TITLE, "from a device that takes 1 ms for each read; loads on threads"}, measure_delayed, 0},
    {{"depth-threads", TITLE, "from the disk, O_DIRECT; loads on threads"}, measure_disk, CELLAR_IO_THREADS},
    {{"depth-uring", TITLE, "from the disk, O_DIRECT; loads on io_uring"}, measure_disk, CELLAR_IO_URING},
};
