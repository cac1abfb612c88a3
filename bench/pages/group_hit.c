/* group_hit.c - reads of pages that are in the cache. */
#include "cases.h"

#include <errno.h>
#include <stdlib.h>

#define WARM "warm: all pages are in every engine's memory"

enum {
    NEAR_PAGES = 32, /* fewer than a handle has at hand */
};

/* Those of one operation; private and lent first, as that is what a cache is by default. */
static int measure_hits(struct pages_run *run, const struct pages_workload *workload, enum pages_operation operation,
                        size_t length, const char *const *modes, uint64_t page_count)
{
    size_t count = (size_t)run->scale->hits / (length == PAGES_BYTES ? 8 : 1);
    uint64_t *addresses = pages_addresses_random(page_count, count, length != 0 ? length : sizeof(uint64_t));
    const struct pages_setup private_copies = {.device = PAGES_PREAD};
    const struct pages_setup private_lent = {.device = PAGES_MAPPED};
    const struct pages_setup shared_copies = {.device = PAGES_PREAD, .shared = true};
    const struct pages_setup shared_lent = {.device = PAGES_MAPPED, .shared = true};
    const struct pages_case cases[] = {
        {PAGES_WHO(&kind_cellar, "cellar", modes[0], private_copies), PAGES_WHAT(operation, addresses, count),
         .length = length},
        {PAGES_WHO(&kind_cellar, "cellar", modes[1], private_lent), PAGES_WHAT(operation, addresses, count),
         .length = length},
        {PAGES_WHO(&kind_cellar, "cellar", modes[2], shared_copies), PAGES_WHAT(operation, addresses, count),
         .length = length},
        {PAGES_WHO(&kind_cellar, "cellar", modes[3], shared_lent), PAGES_WHAT(operation, addresses, count),
         .length = length},
        {PAGES_WHO(pages_lmdb(), "lmdb", modes[4], {0}), PAGES_WHAT(operation, addresses, count), .length = length},
        {PAGES_WHO(&kind_kernel, "kernel", modes[5], {.device = PAGES_PREAD}), PAGES_WHAT(operation, addresses, count),
         .length = length},
        {PAGES_WHO(&kind_array, "limit", modes[6], {.resident = true}), PAGES_WHAT(operation, addresses, count),
         .length = length},
    };
    int error = -ENOMEM;

    if (addresses != NULL)
        error = pages_measure(run, &workload->heading, cases, sizeof cases / sizeof cases[0]);
    free(addresses);
    return error;
}

static const char *const get_modes[] = {
    "get_u64, private handle, pages copied",
    "get_u64, private handle, pages lent",
    "get_u64, shared handle, pages copied",
    "get_u64, shared handle, pages lent",
    "mdb_get, one read txn",
    "pread of 8 bytes, page cache",
    "array in memory",
};

static const char *const fix_modes[] = {
    "fix, read 8 bytes, unfix, private handle, copied",
    "fix, read 8 bytes, unfix, private handle, lent",
    "fix, read 8 bytes, unfix, shared handle, copied",
    "fix, read 8 bytes, unfix, shared handle, lent",
    "mdb_get, read 8 bytes, one read txn",
    "pread of the page, page cache",
    "array in memory",
};

static const char *const read_modes[] = {
    "read, private handle, pages copied", "read, private handle, pages lent", "read, shared handle, pages copied",
    "read, shared handle, pages lent",    "mdb_get, memcpy, one read txn",    "pread, page cache",
    "memcpy from an array in memory",
};

static int measure_get_near(struct pages_run *run, const struct pages_workload *workload)
{
    uint64_t pages = run->scale->cached_pages < NEAR_PAGES ? run->scale->cached_pages : NEAR_PAGES;

    return measure_hits(run, workload, PAGES_GET, 0, get_modes, pages);
}

static int measure_get(struct pages_run *run, const struct pages_workload *workload)
{
    return measure_hits(run, workload, PAGES_GET, 0, get_modes, run->scale->cached_pages);
}

static int measure_fix_near(struct pages_run *run, const struct pages_workload *workload)
{
    uint64_t pages = run->scale->cached_pages < NEAR_PAGES ? run->scale->cached_pages : NEAR_PAGES;

    return measure_hits(run, workload, PAGES_FIX, 0, fix_modes, pages);
}

static int measure_fix(struct pages_run *run, const struct pages_workload *workload)
{
    return measure_hits(run, workload, PAGES_FIX, 0, fix_modes, run->scale->cached_pages);
}

static int measure_read(struct pages_run *run, const struct pages_workload *workload)
{
    return measure_hits(run, workload, PAGES_READ, (size_t)workload->number, read_modes, run->scale->cached_pages);
}

const struct pages_workload pages_hits[6] = {
    {{"hit-get-near", "get a 64-bit integer at random in a few pages", WARM}, measure_get_near, 0},
    {{"hit-get", "get a 64-bit integer at random in many pages", WARM}, measure_get, 0},
    {{"hit-fix-near", "hold a page at random, of a few, while 8 bytes of it are read", WARM}, measure_fix_near, 0},
    {{"hit-fix", "hold a page at random while 8 bytes of it are read", WARM}, measure_fix, 0},
    {{"hit-read-64B", "copy 64 bytes out, at random in many pages", WARM}, measure_read, 64},
    {{"hit-read-page", "copy a page of 4 KiB out, at random", WARM}, measure_read, PAGES_BYTES},
};
