/* group_threads.c - 1 to 16 threads on one cache, each with a handle of its own. */
#include "cases.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

enum {
    STEPS = 5, /* 1, 2, 4, 8, 16 threads */
    ENGINES_MAX = 4,
    FEW_FRAMES = 1024,
};

struct peer {
    const struct pages_kind *kind;
    const char *engine;
    const char *what;
    struct pages_setup setup;
    enum pages_operation operation;
    size_t count; /* reads, dealt out to the threads */
    bool empty;
};

struct rows {
    struct pages_case cases[ENGINES_MAX * STEPS];
    char modes[ENGINES_MAX * STEPS][64];
    size_t count;
};

/* scaled: peer->count is what each thread reads. */
static void describe_rows(struct rows *rows, const struct peer *peer, const uint64_t *addresses, bool scaled)
{
    for (unsigned i = 0; i < STEPS && peer->kind != NULL; i++) {
        struct pages_case *added = &rows->cases[rows->count];
        char *mode = rows->modes[rows->count++];

        snprintf(mode, sizeof rows->modes[0], "%s, threads: %u", peer->what, 1u << i);
        *added = (struct pages_case){PAGES_WHO(peer->kind, peer->engine, mode, peer->setup),
                                     PAGES_WHAT(peer->operation, addresses, scaled ? peer->count << i : peer->count),
                                     .threads = 1u << i, .series = peer->what, .empty = peer->empty};
    }
}

static int measure_peers(struct pages_run *run, const struct pages_workload *workload, const struct peer *peers,
                         size_t peer_count, uint64_t *addresses, bool scaled)
{
    struct rows rows = {.count = 0};
    int error = -ENOMEM;

    for (size_t i = 0; i < peer_count && addresses != NULL; i++)
        describe_rows(&rows, &peers[i], addresses, scaled);
    if (addresses != NULL)
        error = pages_measure(run, &workload->heading, rows.cases, rows.count);
    free(addresses);
    return error;
}

/* number: the operation. */
static int measure_hits(struct pages_run *run, const struct pages_workload *workload)
{
    static char moot[64];
    enum pages_operation operation = (enum pages_operation)workload->number;
    size_t count = (size_t)run->scale->hits * 2;
    const char *what = operation == PAGES_GET ? "get_u64" : "fix, read 8 bytes, unfix";
    const struct peer peers[] = {
        {&kind_cellar, "cellar", what, {.device = PAGES_PREAD, .shared = true}, operation, count, false},
        {pages_lmdb(), "lmdb", "mdb_get", {0}, operation, count / 2, false},
        {&kind_kernel, "kernel", "pread", {.device = PAGES_PREAD}, operation, count / 4, false},
        {&kind_array, "limit", "array in memory", {.resident = true}, operation, count, false},
    };
    int error = measure_peers(run, workload, peers, sizeof peers / sizeof peers[0],
                              pages_addresses_random(run->scale->cached_pages, count, sizeof(uint64_t)), false);
    char text[96], mode[64];
    double one_ns, all_ns;

    snprintf(mode, sizeof mode, "%s, threads: 1", what);
    one_ns = pages_median_ns(run, &workload->heading, "cellar", mode);
    snprintf(mode, sizeof mode, "%s, threads: 16", what);
    all_ns = pages_median_ns(run, &workload->heading, "cellar", mode);
    snprintf(text, sizeof text, "hits on 16 threads (%s), times those on one", what);
    if (run->cores < 16)
        snprintf(moot, sizeof moot, "this machine has %u cores", run->cores);
    if (error == 0 && all_ns > 0.0)
        pages_aim(run, text, one_ns / all_ns, 12.0, true, run->cores < 16 ? moot : NULL);
    return error;
}

static int measure_misses(struct pages_run *run, const struct pages_workload *workload)
{
    size_t count = (size_t)run->scale->misses;
    const struct pages_setup setup = {.device = PAGES_PREAD, .page_count = FEW_FRAMES, .shared = true};
    const struct peer peers[] = {
        {&kind_cellar, "cellar", "get_u64", setup, PAGES_GET, count, true},
        {&kind_kernel, "kernel", "pread of the page", {.device = PAGES_PREAD}, PAGES_FIX, count, false},
        {&kind_array, "limit", "memcpy from a mapped file", {0}, PAGES_READ, count, false},
    };

    return measure_peers(run, workload, peers, sizeof peers / sizeof peers[0],
                         pages_addresses_shuffled(run->scale->file_pages, count, PAGES_BYTES), false);
}

static int measure_delayed(struct pages_run *run, const struct pages_workload *workload)
{
    size_t most = (size_t)run->scale->file_pages >> (STEPS - 1);
    size_t count = (size_t)run->scale->delayed < most ? (size_t)run->scale->delayed : most;
    const struct pages_setup setup = {.device = PAGES_DELAYED, .page_count = FEW_FRAMES, .shared = true};
    const struct peer peers[] = {
        {&kind_cellar, "cellar", "get_u64", setup, PAGES_GET, count, true},
        {&kind_device, "limit", "bare device", {.device = PAGES_DELAYED}, PAGES_GET, count, false},
    };

    return measure_peers(run, workload, peers, sizeof peers / sizeof peers[0],
                         pages_addresses_shuffled(run->scale->file_pages, count << (STEPS - 1), 8), true);
}

#define WARM "warm: all pages are in every engine's memory; time of all threads together"

const struct pages_workload pages_threads[4] = {
    {{"threads-get", "get a 64-bit integer at random in many pages", WARM}, measure_hits, PAGES_GET},
    {{"threads-fix", "hold a page at random while 8 bytes of it are read", WARM}, measure_hits, PAGES_FIX},
    {{"threads-miss", "load a page at random", "not in the engine's cache, but in the kernel's"}, measure_misses, 0},
    {{"threads-delayed", "load a page at random", "from a device that takes 1 ms for each read"}, measure_delayed, 0},
};
