/* replay_others.c - policies to compare with: LRU, and S3-FIFO with counts, as its paper has it. */
#include "replay.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>

#define NONE UINT32_MAX /* no page */

/* Pages in a row, by links in arrays: newer and older of a page, NONE at the ends. */
struct row {
    uint32_t newest, oldest;
    size_t count;
};

struct pages {
    uint32_t *newer, *older;
    unsigned char *where; /* 0: in no row */
    unsigned char *uses;  /* since it was looked at, up to USES_MAX */
};

enum { NOWHERE, IN_SMALL, IN_MAIN, IN_GHOST, USES_MAX = 3 };

static int pages_open(struct pages *pages, size_t page_count)
{
    pages->newer = malloc(page_count * sizeof *pages->newer);
    pages->older = malloc(page_count * sizeof *pages->older);
    pages->where = calloc(page_count, 1);
    pages->uses = calloc(page_count, 1);
    return pages->newer != NULL && pages->older != NULL && pages->where != NULL && pages->uses != NULL ? 0 : -ENOMEM;
}

static void pages_close(struct pages *pages)
{
    free(pages->newer);
    free(pages->older);
    free(pages->where);
    free(pages->uses);
}

static void row_add(struct row *row, struct pages *pages, uint32_t page, unsigned char where)
{
    pages->where[page] = where;
    pages->newer[page] = NONE;
    pages->older[page] = row->newest;
    if (row->newest != NONE)
        pages->newer[row->newest] = page;
    else
        row->oldest = page;
    row->newest = page;
    row->count++;
}

static void row_remove(struct row *row, struct pages *pages, uint32_t page)
{
    const uint32_t newer = pages->newer[page], older = pages->older[page];

    if (newer != NONE)
        pages->older[newer] = older;
    else
        row->newest = older;
    if (older != NONE)
        pages->newer[older] = newer;
    else
        row->oldest = newer;
    pages->where[page] = NOWHERE;
    row->count--;
}

static const struct row row_empty = {NONE, NONE, 0};

static int replay_lru(const struct evict_trace *trace, size_t page_count, uint64_t *ret_misses)
{
    struct pages pages;
    struct row row = row_empty;
    uint64_t misses = 0;
    int status = pages_open(&pages, trace->page_count);

    for (size_t i = 0; i < trace->use_count && status == 0; i++) {
        const uint32_t page = trace->uses[i];

        if (pages.where[page] != NOWHERE) {
            row_remove(&row, &pages, page);
        } else {
            misses++;
            if (row.count == page_count)
                row_remove(&row, &pages, row.oldest);
        }
        row_add(&row, &pages, page, IN_MAIN);
    }
    pages_close(&pages);
    if (status == 0)
        *ret_misses = misses;
    return status;
}

/*
 * S3-FIFO after the paper's algorithm 1: uses are counted up to three; a page needs two to come from small to main, and
 * main takes one away each time. The ghosts are exact. Small caches share their pages as in the library, so that only
 * the counts and the ghosts differ.
 */
struct counting {
    struct pages pages;
    struct row small, main, ghost;
    size_t small_pages, ghost_pages;
};

/* True: a page was given up. */
static bool look_at_small(struct counting *counting)
{
    const uint32_t page = counting->small.oldest;

    row_remove(&counting->small, &counting->pages, page);
    if (counting->pages.uses[page] > 1) {
        counting->pages.uses[page] = 0;
        row_add(&counting->main, &counting->pages, page, IN_MAIN);
        return false;
    }
    row_add(&counting->ghost, &counting->pages, page, IN_GHOST);
    if (counting->ghost.count > counting->ghost_pages)
        row_remove(&counting->ghost, &counting->pages, counting->ghost.oldest);
    return true;
}

static bool look_at_main(struct counting *counting)
{
    const uint32_t page = counting->main.oldest;

    row_remove(&counting->main, &counting->pages, page);
    if (counting->pages.uses[page] == 0)
        return true;
    counting->pages.uses[page]--;
    row_add(&counting->main, &counting->pages, page, IN_MAIN);
    return false;
}

static void give_one_up(struct counting *counting)
{
    bool gone;

    do {
        if (counting->small.count >= counting->small_pages || counting->main.count == 0)
            gone = look_at_small(counting);
        else
            gone = look_at_main(counting);
    } while (!gone);
}

/* True: it was cached. again: the use before was of the same page. */
static bool use_page(struct counting *counting, uint32_t page, bool again, size_t page_count)
{
    const bool was_ghost = counting->pages.where[page] == IN_GHOST;

    if (counting->pages.where[page] == IN_SMALL || counting->pages.where[page] == IN_MAIN) {
        if (!again && counting->pages.uses[page] < USES_MAX)
            counting->pages.uses[page]++;
        return true;
    }
    if (was_ghost)
        row_remove(&counting->ghost, &counting->pages, page);
    if (counting->small.count + counting->main.count == page_count)
        give_one_up(counting);
    counting->pages.uses[page] = 0;
    if (was_ghost)
        row_add(&counting->main, &counting->pages, page, IN_MAIN);
    else
        row_add(&counting->small, &counting->pages, page, IN_SMALL);
    return false;
}

static int replay_counting(const struct evict_trace *trace, size_t page_count, uint64_t *ret_misses)
{
    struct counting counting = {.small = row_empty, .main = row_empty, .ghost = row_empty};
    uint64_t misses = 0;
    int status = pages_open(&counting.pages, trace->page_count);

    counting.small_pages = page_count >= 40 ? page_count / 10 : page_count >= 8 ? 4 : (page_count + 1) / 2;
    counting.ghost_pages = page_count > 1 ? page_count - counting.small_pages : 1;
    for (size_t i = 0; i < trace->use_count && status == 0; i++)
        misses += !use_page(&counting, trace->uses[i], i > 0 && trace->uses[i] == trace->uses[i - 1], page_count);
    pages_close(&counting.pages);
    if (status == 0)
        *ret_misses = misses;
    return status;
}

const struct evict_policy evict_lru = {"lru", "LRU", replay_lru};
const struct evict_policy evict_counting = {"s3fifo-counting", "S3-FIFO, counting", replay_counting};

const struct evict_policy *const evict_policies[] = {&evict_opt,   &evict_sieve, &evict_s3fifo,
                                                     &evict_clock, &evict_lru,   &evict_counting};
const size_t evict_policy_count = sizeof evict_policies / sizeof evict_policies[0];
