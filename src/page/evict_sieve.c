/*
 * evict_sieve.c - SIEVE: Zhang, Yang, Yue, Vigfusson, Rashmi, "SIEVE is Simpler than LRU: an Efficient Turn-Key
 * Eviction Algorithm for Web Caches", NSDI 2024.
 *
 * Pages stand in the order in which they came. A hand moves from the oldest towards the newest, and from there to the
 * oldest again: it takes the mark from every visited page that it passes, and gives up the first that has none.
 * A page that is used keeps its place. The hand passes pinned pages and leaves their marks.
 *
 * A choice costs one look for each mark that it takes, which some use has set, and one for each pinned page that it
 * passes. It ends after two rounds even where other threads set marks as fast as the hand takes them.
 */
#include "page/evict.h"
#include "page/evict_queue.h"

#include <errno.h>
#include <stdlib.h>

struct sieve {
    struct cellar_evict_queue queue;
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

    cellar_frame_mark(frame, false);
    cellar_evict_queue_add(&sieve->queue, frame);
}

static void sieve_remove(void *state, struct cellar_frame *frame)
{
    struct sieve *sieve = state;

    if (sieve->hand == frame)
        sieve->hand = frame->newer;
    cellar_evict_queue_remove(&sieve->queue, frame);
}

static struct cellar_frame *sieve_choose(void *state)
{
    struct sieve *sieve = state;
    struct cellar_frame *frame = sieve->hand != NULL ? sieve->hand : sieve->queue.oldest;
    const size_t round = sieve->queue.count;

    for (size_t left = 2 * round; left > 0; left--) {
        if (frame->pins == 0) {
            if (left <= round || !cellar_frame_visited(frame)) {
                sieve->hand = frame;
                return frame;
            }
            cellar_frame_mark(frame, false);
        }
        frame = frame->newer != NULL ? frame->newer : sieve->queue.oldest;
    }
    return NULL;
}

const struct cellar_evict_ops cellar_evict_sieve = {
    .name = "sieve",
    .open = sieve_open,
    .close = free,
    .insert = sieve_insert,
    .remove = sieve_remove,
    .choose = sieve_choose,
};
