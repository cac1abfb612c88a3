/* group_miss.c - loads: pages that are not in the cache, at random and in order. */
#include "cases.h"

#include <errno.h>
#include <stdlib.h>

enum {
    FEW_FRAMES = 256,
    AHEAD_PAGES = 64,
    AHEAD_DEPTH = 16,
    LARGE_READ_BYTES = 128 << 10,
    LARGE_READ_PAGES = LARGE_READ_BYTES / PAGES_BYTES,
};

static int measure_miss(struct pages_run *run, const struct pages_workload *workload)
{
    size_t count = (size_t)run->scale->misses;
    uint64_t *any = pages_addresses_shuffled(run->scale->file_pages, count, PAGES_BYTES);
    const struct pages_setup copies = {.device = PAGES_PREAD, .page_count = FEW_FRAMES};
    const struct pages_setup lent = {.device = PAGES_MAPPED, .page_count = FEW_FRAMES};
    const struct pages_setup mapped_copies = {.device = PAGES_MAPPED, .page_count = FEW_FRAMES, .copy = true};
    const struct pages_setup shared = {.device = PAGES_PREAD, .page_count = FEW_FRAMES, .shared = true};
    const struct pages_setup others[] = {
        {.device = PAGES_PREAD, .page_count = FEW_FRAMES, .eviction = CELLAR_EVICT_S3FIFO},
        {.device = PAGES_PREAD, .page_count = FEW_FRAMES, .eviction = CELLAR_EVICT_CLOCK},
    };
    const struct pages_case cases[] = {
        {PAGES_WHO(&kind_cellar, "cellar", "fix, pread device", copies), PAGES_WHAT(PAGES_FIX, any, count),
         .empty = true},
        {PAGES_WHO(&kind_cellar, "cellar", "fix, pread device, shared handle", shared),
         PAGES_WHAT(PAGES_FIX, any, count), .empty = true},
        {PAGES_WHO(&kind_cellar, "cellar", "fix, pread device, S3-FIFO", others[0]), PAGES_WHAT(PAGES_FIX, any, count),
         .empty = true},
        {PAGES_WHO(&kind_cellar, "cellar", "fix, pread device, CLOCK", others[1]), PAGES_WHAT(PAGES_FIX, any, count),
         .empty = true},
        {PAGES_WHO(&kind_cellar, "cellar", "fix, mapped device, copied", mapped_copies),
         PAGES_WHAT(PAGES_FIX, any, count), .empty = true},
        {PAGES_WHO(&kind_cellar, "cellar", "fix, mapped device, lent", lent), PAGES_WHAT(PAGES_FIX, any, count),
         .empty = true},
        {PAGES_WHO(pages_lmdb(), "lmdb", "mdb_get, memcpy, one read txn", {0}), PAGES_WHAT(PAGES_READ, any, count)},
        {PAGES_WHO(&kind_kernel, "kernel", "pread of the page", {.device = PAGES_PREAD}),
         PAGES_WHAT(PAGES_FIX, any, count)},
        {PAGES_WHO(&kind_array, "limit", "memcpy from a mapped file", {0}), PAGES_WHAT(PAGES_READ, any, count)},
    };
    int error = -ENOMEM;

    if (any != NULL)
        error = pages_measure(run, &workload->heading, cases, sizeof cases / sizeof cases[0]);
    free(any);
    return error;
}

static int measure_miss_direct(struct pages_run *run, const struct pages_workload *workload)
{
    size_t count = (size_t)run->scale->direct;
    uint64_t *any = pages_addresses_shuffled(run->scale->file_pages, count, sizeof(uint64_t));
    const struct pages_setup direct = {.device = PAGES_DIRECT, .page_count = FEW_FRAMES};
    const struct pages_setup cold = {.device = PAGES_PREAD, .cold = true};
    const struct pages_setup deep = {.device = PAGES_DIRECT, .page_count = FEW_FRAMES, .depth = 32};
    const struct pages_case cases[] = {
        {PAGES_WHO(&kind_cellar, "cellar", "get_u64, O_DIRECT device", direct), PAGES_WHAT(PAGES_GET, any, count),
         .empty = true},
        {PAGES_WHO(&kind_async, "cellar", "load_async, 32 at a time, O_DIRECT device", deep),
         PAGES_WHAT(PAGES_GET, any, count), .empty = true},
        {PAGES_WHO(&kind_kernel, "kernel", "pread of 8 bytes, empty page cache", cold),
         PAGES_WHAT(PAGES_GET, any, count), .empty = true},
        {PAGES_WHO(&kind_kernel, "limit", "pread of the page, O_DIRECT", {.device = PAGES_DIRECT}),
         PAGES_WHAT(PAGES_GET, any, count)},
    };
    int error = -ENOMEM;

    if (any != NULL)
        error = pages_measure(run, &workload->heading, cases, sizeof cases / sizeof cases[0]);
    free(any);
    return error;
}

/* The same bytes in large reads. */
static struct pages_case large_reads(const char *engine, const char *mode, enum pages_device device,
                                     const uint64_t *addresses, size_t count, bool empty)
{
    return (struct pages_case){
        .kind = &kind_kernel,
        .engine = engine,
        .mode = mode,
        .setup = {.device = device},
        .operation = PAGES_READ,
        .addresses = addresses,
        .count = count,
        .length = LARGE_READ_BYTES,
        .ops_each = LARGE_READ_PAGES,
        .empty = empty,
    };
}

static int measure_scan(struct pages_run *run, const struct pages_workload *workload)
{
    size_t count = (size_t)run->scale->misses / LARGE_READ_PAGES * LARGE_READ_PAGES;
    uint64_t *pages = pages_addresses_in_order(count, PAGES_BYTES);
    uint64_t *batches = pages_addresses_in_order(count / LARGE_READ_PAGES, LARGE_READ_BYTES);
    const struct pages_setup copies = {.device = PAGES_PREAD, .page_count = FEW_FRAMES};
    const struct pages_setup lent = {.device = PAGES_MAPPED, .page_count = FEW_FRAMES};
    const struct pages_setup ahead = {
        .device = PAGES_PREAD, .page_count = FEW_FRAMES, .depth = AHEAD_DEPTH, .read_ahead_pages = AHEAD_PAGES};
    const struct pages_case cases[] = {
        {PAGES_WHO(&kind_cellar, "cellar", "read of 4 KiB, pread device", copies), PAGES_WHAT(PAGES_READ, pages, count),
         .empty = true},
        {PAGES_WHO(&kind_cellar, "cellar", "read of 4 KiB, pread device, read-ahead of 64", ahead),
         PAGES_WHAT(PAGES_READ, pages, count), .empty = true},
        {PAGES_WHO(&kind_cellar, "cellar", "read of 4 KiB, mapped device", lent), PAGES_WHAT(PAGES_READ, pages, count),
         .empty = true},
        {PAGES_WHO(pages_lmdb(), "lmdb", "mdb_get, memcpy, one read txn", {0}), PAGES_WHAT(PAGES_READ, pages, count)},
        {PAGES_WHO(&kind_kernel, "kernel", "pread of 4 KiB", {.device = PAGES_PREAD}),
         PAGES_WHAT(PAGES_READ, pages, count)},
        large_reads("kernel", "pread of 128 KiB", PAGES_PREAD, batches, count / LARGE_READ_PAGES, false),
        {PAGES_WHO(&kind_array, "limit", "memcpy from a mapped file", {0}), PAGES_WHAT(PAGES_READ, pages, count)},
    };
    int error = -ENOMEM;

    if (pages != NULL && batches != NULL)
        error = pages_measure(run, &workload->heading, cases, sizeof cases / sizeof cases[0]);
    free(batches);
    free(pages);
    return error;
}

/* From a device where a load takes long: number says which. */
static int measure_scan_far(struct pages_run *run, const struct pages_workload *workload)
{
    enum pages_device device = (enum pages_device)workload->number;
    uint64_t wanted = device == PAGES_DIRECT ? run->scale->direct : run->scale->delayed * 8;
    size_t count = (size_t)wanted / LARGE_READ_PAGES * LARGE_READ_PAGES;
    uint64_t *pages = pages_addresses_in_order(count, PAGES_BYTES);
    uint64_t *batches = pages_addresses_in_order(count / LARGE_READ_PAGES, LARGE_READ_BYTES);
    const struct pages_setup alone = {.device = device, .page_count = FEW_FRAMES};
    const struct pages_setup ahead = {
        .device = device, .page_count = FEW_FRAMES, .depth = AHEAD_DEPTH, .read_ahead_pages = AHEAD_PAGES};
    const struct pages_setup cold = {.device = PAGES_PREAD, .cold = true};
    const struct pages_kind *kernel = device == PAGES_DIRECT ? &kind_kernel : NULL;
    const struct pages_kind *bare = device == PAGES_DIRECT ? &kind_kernel : &kind_device;
    struct pages_case cases[] = {
        {PAGES_WHO(&kind_cellar, "cellar", "read of 4 KiB", alone), PAGES_WHAT(PAGES_READ, pages, count),
         .series = "cellar", .empty = true},
        {PAGES_WHO(&kind_cellar, "cellar", "read of 4 KiB, read-ahead of 64", ahead),
         PAGES_WHAT(PAGES_READ, pages, count), .series = "cellar", .empty = true},
        {PAGES_WHO(kernel, "kernel", "pread of 4 KiB, empty page cache", cold), PAGES_WHAT(PAGES_READ, pages, count),
         .empty = true},
        {PAGES_WHO(bare, "limit", "read of 4 KiB, bare device", {.device = device}),
         PAGES_WHAT(PAGES_READ, pages, count)},
        large_reads("limit", "read of 128 KiB, bare device", device, batches, count / LARGE_READ_PAGES, false),
    };
    int error = -ENOMEM;

    cases[4].kind = bare;
    if (pages != NULL && batches != NULL)
        error = pages_measure(run, &workload->heading, cases, sizeof cases / sizeof cases[0]);
    free(batches);
    free(pages);
    return error;
}

#define WARM "not in the engine's cache, but in the kernel's"

const struct pages_workload pages_misses[5] = {
    {{"miss", "load a page at random", WARM}, measure_miss, 0},
    {{"miss-direct", "load a page at random and read 8 bytes of it", "from the disk"}, measure_miss_direct, 0},
    {{"scan", "copy the next page out", WARM}, measure_scan, 0},
    {{"scan-direct", "copy the next page out", "from the disk"}, measure_scan_far, PAGES_DIRECT},
    {{"scan-delayed", "copy the next page out", "from a device that takes 1 ms for each read"},
     measure_scan_far,
     PAGES_DELAYED},
};
