/*
 * evict_sieve.c - SIEVE: Zhang, Yang, Yue, Vigfusson, Rashmi, "SIEVE is Simpler than LRU: an Efficient Turn-Key
 * Eviction Algorithm for Web Caches", NSDI 2024.
 *
 * Pages stand in the order in which they came. A hand moves from the oldest towards the newest, and from there to the
 * oldest again: it takes the mark from every visited page that it passes, and gives up the first that has none.
 * A page that is used keeps its place. The hand passes pinned pages and leaves their marks.
 */
#include "page/evict.h"

#include <errno.h>
#include <stdlib.h>

struct sieve {
    struct cellar_frame *newest, *oldest;
    struct cellar_frame *hand; /* the next to look at; NULL: the oldest */
};

static int sieve_open(size_t page_count, void **ret_state)
{
    struct sieve *sieve = calloc(1, sizeof *sieve);

    (void)page_count;
    if (sieve == NULL)
        return -ENOMEM;
    *ret_state = sieve;
    return 0;
}

static void sieve_insert(void *state, struct cellar_frame *frame)
{
    struct sieve *sieve = state;

    frame->visited = 0;
    frame->newer = NULL;
    frame->older = sieve->newest;
    if (sieve->newest != NULL)
        sieve->newest->newer = frame;
    else
        sieve->oldest = frame;
    sieve->newest = frame;
}

static void sieve_remove(void *state, struct cellar_frame *frame)
{
    struct sieve *sieve = state;

    if (sieve->hand == frame)
        sieve->hand = frame->newer;
    if (frame->newer != NULL)
        frame->newer->older = frame->older;
    else
        sieve->newest = frame->older;
    if (frame->older != NULL)
        frame->older->newer = frame->newer;
    else
        sieve->oldest = frame->newer;
    frame->newer = frame->older = NULL;
}

static struct cellar_frame *sieve_choose(void *state)
{
    struct sieve *sieve = state;
    struct cellar_frame *frame = sieve->hand != NULL ? sieve->hand : sieve->oldest;

    while (frame->pins > 0 || frame->visited) {
        if (frame->pins == 0)
            frame->visited = 0;
        frame = frame->newer != NULL ? frame->newer : sieve->oldest;
    }
    sieve->hand = frame;
    return frame;
}

const struct cellar_evict_ops cellar_evict_sieve = {
    .name = "sieve",
    .open = sieve_open,
    .close = free,
    .insert = sieve_insert,
    .remove = sieve_remove,
    .choose = sieve_choose,
};
