/* group_zipf.c - a skewed load (Zipf, 0.99) on caches that hold a part of the pages, with each policy of eviction. */
#include "cases.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

static const double skew = 0.99;

/* Where random falls in the sums, which rise to 1. */
static uint64_t rank_of(const double *sums, uint64_t count, double random)
{
    uint64_t low = 0;
    uint64_t high = count - 1;

    while (low < high) {
        uint64_t middle = low + (high - low) / 2;

        if (sums[middle] < random)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* The page of rank r is drawn in proportion to r^-skew; which page has which rank is shuffled. */
static uint64_t *zipf_addresses(uint64_t page_count, size_t count)
{
    uint64_t *addresses = malloc(count * sizeof addresses[0]);
    uint64_t *ranked = pages_addresses_shuffled(page_count, (size_t)page_count, PAGES_BYTES);
    double *sums = malloc((size_t)page_count * sizeof sums[0]);
    uint64_t state = 7;
    double total = 0.0;

    if (addresses == NULL || ranked == NULL || sums == NULL) {
        free(addresses);
        addresses = NULL;
    }
    for (uint64_t i = 0; addresses != NULL && i < page_count; i++)
        sums[i] = total += pow((double)(i + 1), -skew);
    for (size_t i = 0; addresses != NULL && i < count; i++) {
        double random = (double)(bench_random(&state) >> 11) * 0x1p-53 * total;

        addresses[i] = ranked[rank_of(sums, page_count, random)] + bench_random(&state) % (PAGES_BYTES / 8) * 8;
    }
    free(sums);
    free(ranked);
    return addresses;
}

/* number: how many percent of the pages fit. */
static int measure_zipf(struct pages_run *run, const struct pages_workload *workload)
{
    static const unsigned factors[] = {[1] = 1, [5] = 4, [10] = 8, [25] = 16, [50] = 32};
    size_t frames = run->scale->zipf_frames * factors[workload->number];
    uint64_t page_count = frames * 100 / (uint64_t)workload->number;
    size_t count = (size_t)run->scale->hits / 2;
    size_t few = (size_t)run->scale->direct * 4;
    size_t far = count < few * 32 ? count : few * 32;
    uint64_t *any = zipf_addresses(page_count, count);
    const struct pages_setup warm[] = {
        {.device = PAGES_PREAD, .page_count = frames, .eviction = CELLAR_EVICT_SIEVE},
        {.device = PAGES_PREAD, .page_count = frames, .eviction = CELLAR_EVICT_S3FIFO},
        {.device = PAGES_PREAD, .page_count = frames, .eviction = CELLAR_EVICT_CLOCK},
    };
    const struct pages_setup direct = {.device = PAGES_DIRECT, .page_count = frames};
    const struct pages_case cases[] = {
        {PAGES_WHO(&kind_cellar, "cellar", "get_u64, SIEVE", warm[0]), PAGES_WHAT(PAGES_GET, any, count),
         .tell_hits = true},
        {PAGES_WHO(&kind_cellar, "cellar", "get_u64, S3-FIFO", warm[1]), PAGES_WHAT(PAGES_GET, any, count),
         .tell_hits = true},
        {PAGES_WHO(&kind_cellar, "cellar", "get_u64, CLOCK", warm[2]), PAGES_WHAT(PAGES_GET, any, count),
         .tell_hits = true},
        {PAGES_WHO(&kind_cellar, "cellar", "get_u64, SIEVE, misses from the disk", direct),
         PAGES_WHAT(PAGES_GET, any, far), .window = few < far ? few : far, .tell_hits = true},
        {PAGES_WHO(pages_lmdb(), "lmdb", "mdb_get, one read txn, all in memory", {0}),
         PAGES_WHAT(PAGES_GET, any, count)},
        {PAGES_WHO(&kind_kernel, "kernel", "pread of 8 bytes, all in memory", {.device = PAGES_PREAD}),
         PAGES_WHAT(PAGES_GET, any, count)},
        {PAGES_WHO(&kind_kernel, "kernel", "pread of the page, O_DIRECT: no cache", {.device = PAGES_DIRECT}),
         PAGES_WHAT(PAGES_GET, any, few / 4)},
        {PAGES_WHO(&kind_array, "limit", "array in memory, all of it", {0}), PAGES_WHAT(PAGES_GET, any, count)},
    };
    int error = -ENOMEM;

    if (any != NULL)
        error = pages_measure(run, &workload->heading, cases, sizeof cases / sizeof cases[0]);
    free(any);
    return error;
}

#define TITLE "get a 64-bit integer, from pages drawn by Zipf 0.99"

const struct pages_workload pages_zipfs[5] = {
    {{"zipf-1", TITLE, "1 % of the pages fit; the rest is in the kernel's cache"}, measure_zipf, 1},
    {{"zipf-5", TITLE, "5 % of the pages fit; the rest is in the kernel's cache"}, measure_zipf, 5},
    {{"zipf-10", TITLE, "10 % of the pages fit; the rest is in the kernel's cache"}, measure_zipf, 10},
    {{"zipf-25", TITLE, "25 % of the pages fit; the rest is in the kernel's cache"}, measure_zipf, 25},
    {{"zipf-50", TITLE, "50 % of the pages fit; the rest is in the kernel's cache"}, measure_zipf, 50},
};
