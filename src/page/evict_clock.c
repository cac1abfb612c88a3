/*
 * evict_clock.c - CLOCK, or second chance: Corbato, "A Paging Experiment with the Multics System", MIT Project MAC
 * Report MAC-M-384, 1968.
 *
 * Pages stand in a ring, and a hand moves around it: it takes the mark from every visited page that it passes, and
 * gives up the first that has none. A page that comes is put right behind the hand, so that it is looked at last. It
 * comes without a mark: a page that is used once, when it is loaded, is given up after one round, not two. The hand
 * passes pinned pages and leaves their marks.
 *
 * A choice costs one look for each mark that it takes, which some use has set, and one for each pinned page that it
 * passes. It ends after two rounds even where other threads set marks as fast as the hand takes them.
 */
#include "page/evict.h"

#include <errno.h>
#include <stdlib.h>

struct clock {
    struct cellar_frame *hand; /* the next to look at; NULL: the ring is empty. The ring is closed: newer of the newest
                                  is the oldest, which is the one at the hand */
    size_t count;
};

static int clock_open(size_t page_count, void **ret_state)
{
    struct clock *clock = calloc(1, sizeof *clock);

    (void)page_count;
    if (clock == NULL)
        return -ENOMEM;
    *ret_state = clock;
    return 0;
}

static void clock_insert(void *state, struct cellar_frame *frame)
{
    struct clock *clock = state;

    cellar_frame_mark(frame, false);
    if (clock->hand == NULL) {
        clock->hand = frame->newer = frame->older = frame;
    } else {
        frame->newer = clock->hand;
        frame->older = clock->hand->older;
        frame->older->newer = frame->newer->older = frame;
    }
    clock->count++;
}

static void clock_remove(void *state, struct cellar_frame *frame)
{
    struct clock *clock = state;

    if (clock->hand == frame)
        clock->hand = frame->newer != frame ? frame->newer : NULL;
    frame->newer->older = frame->older;
    frame->older->newer = frame->newer;
    frame->newer = frame->older = NULL;
    clock->count--;
}

static struct cellar_frame *clock_choose(void *state)
{
    struct clock *clock = state;
    const size_t round = clock->count;

    for (size_t left = 2 * round; left > 0; left--) {
        struct cellar_frame *frame = clock->hand;

        if (frame->pins == 0) {
            if (left <= round || !cellar_frame_visited(frame))
                return frame;
            cellar_frame_mark(frame, false);
        }
        clock->hand = frame->newer;
    }
    return NULL;
}

const struct cellar_evict_ops cellar_evict_clock = {
    .name = "clock",
    .open = clock_open,
    .close = free,
    .insert = clock_insert,
    .remove = clock_remove,
    .choose = clock_choose,
};
