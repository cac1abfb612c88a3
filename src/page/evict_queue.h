/*
 * evict_queue.h - frames in a row, from the oldest to the newest: what the policies are made of. A frame stands in one
 * queue at a time, by its links newer and older. Not for threads: the pool's lock is held.
 */
#ifndef CELLAR_PAGE_EVICT_QUEUE_H
#define CELLAR_PAGE_EVICT_QUEUE_H

#include "page/frame.h"

/* All-zero is an empty one. */
struct cellar_evict_queue {
    struct cellar_frame *newest, *oldest;
    size_t count;
};

/* frame, which stands in none, becomes the newest. */
static inline void cellar_evict_queue_add(struct cellar_evict_queue *queue, struct cellar_frame *frame)
{
    frame->newer = NULL;
    frame->older = queue->newest;
    if (queue->newest != NULL)
        queue->newest->newer = frame;
    else
        queue->oldest = frame;
    queue->newest = frame;
    queue->count++;
}

/* frame stands in queue, at any place. */
static inline void cellar_evict_queue_remove(struct cellar_evict_queue *queue, struct cellar_frame *frame)
{
    if (frame->newer != NULL)
        frame->newer->older = frame->older;
    else
        queue->newest = frame->older;
    if (frame->older != NULL)
        frame->older->newer = frame->newer;
    else
        queue->oldest = frame->newer;
    frame->newer = frame->older = NULL;
    queue->count--;
}

#endif
