/*
 * evict_s3fifo.c - S3-FIFO: Yang, Zhang, Qiu, Yue, Vigfusson, "FIFO queues are all you need for cache eviction",
 * SOSP 2023.
 *
 * Three queues, each in the order in which things came to it:
 *
 *                       used since it came
 *     load --> SMALL --------------------------> MAIN <--.
 *       |        |                                |  |___| used since it was looked at
 *       |        | not used                       | not used
 *       |        v                                v
 *       |      given up; its number to GHOST    given up
 *       +------------------------------------> MAIN, if its number is in GHOST
 *
 * While SMALL has its share, a tenth of the pages, its oldest is looked at, else that of MAIN: a page that is used once
 * passes through SMALL and leaves MAIN alone. GHOST remembers as many page numbers as MAIN has pages.
 *
 * What differs from the paper: a frame has one mark, not a count up to three, so that one use is enough to stay, and
 * several uses buy one round through MAIN; docs/eviction.md compares the two. In caches of less than 40 pages a tenth
 * is too short a time to see a second use, so SMALL has four pages or half of the cache. Pinned pages go back to the
 * end of their queue as they are.
 *
 * A choice costs one look for each mark that it takes, which some use has set, and one for each pinned page that it
 * passes; it ends even where other threads set marks as fast as they are taken.
 */
#include "page/evict.h"
#include "page/evict_queue.h"

#include <errno.h>
#include <stdlib.h>

enum {
    SMALL_PART = 10,  /* SMALL is one page in so many, */
    SMALL_LEAST = 4,  /* but so many at least, or half of the cache if that is less */
    BUCKET_GHOSTS = 8 /* a bucket is 64 bytes */
};

/*
 * GHOST is a hash table that forgets, as the paper proposes: a page number has one bucket, and takes the place of the
 * oldest there. A ghost counts while fewer than capacity pages have come after it; those that are overwritten earlier
 * are few, as the table has room for 8/5 of capacity. A number is known by 32 bits of its hash: one in about
 * 500,000,000 pages is taken for a ghost and is not.
 */
struct ghost {
    uint32_t fingerprint;
    uint32_t when; /* the count of pages that had come up to this one, modulo 2^32 */
};

struct bucket {
    struct ghost ghosts[BUCKET_GHOSTS];
};

enum queue { IN_SMALL, IN_MAIN };

struct s3fifo {
    struct cellar_evict_queue queues[2]; /* by enum queue, which a frame has in frame->queue */
    size_t small_pages;                  /* so many pages SMALL may keep */
    struct cellar_frame *chosen;         /* by the last choice; NULL: it has gone since, or there was none */
    struct bucket *buckets;
    uint32_t bucket_count;
    uint32_t ghost_capacity;
    uint32_t ghost_clock; /* when of the next ghost */
};

/* The finalizer of SplitMix64: every bit of the number reaches every bit of the hash. */
static uint64_t hash_page(uint64_t page)
{
    page = (page ^ (page >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
    page = (page ^ (page >> 27)) * UINT64_C(0x94D049BB133111EB);
    return page ^ (page >> 31);
}

static struct bucket *bucket_of(const struct s3fifo *s3fifo, uint64_t hash)
{
    return &s3fifo->buckets[(hash >> 32) * s3fifo->bucket_count >> 32];
}

/* How many ghosts have come since this one; capacity and more: it doesn't count. */
static uint32_t age_of(const struct s3fifo *s3fifo, const struct ghost *ghost)
{
    return s3fifo->ghost_clock - 1 - ghost->when;
}

static void add_ghost(struct s3fifo *s3fifo, uint64_t page)
{
    const uint64_t hash = hash_page(page);
    struct bucket *bucket = bucket_of(s3fifo, hash);
    struct ghost *place = &bucket->ghosts[0];

    for (size_t i = 1; i < BUCKET_GHOSTS; i++) {
        if (age_of(s3fifo, &bucket->ghosts[i]) > age_of(s3fifo, place))
            place = &bucket->ghosts[i];
    }
    *place = (struct ghost){.fingerprint = (uint32_t)hash, .when = s3fifo->ghost_clock++};
}

/* Whether page is a ghost; it ceases to be one. */
static bool take_ghost(struct s3fifo *s3fifo, uint64_t page)
{
    const uint64_t hash = hash_page(page);
    struct bucket *bucket = bucket_of(s3fifo, hash);

    for (size_t i = 0; i < BUCKET_GHOSTS; i++) {
        struct ghost *ghost = &bucket->ghosts[i];

        if (ghost->fingerprint == (uint32_t)hash && age_of(s3fifo, ghost) < s3fifo->ghost_capacity) {
            ghost->when = s3fifo->ghost_clock - 1 - s3fifo->ghost_capacity; /* too old to count */
            return true;
        }
    }
    return false;
}

static void s3fifo_close(void *state)
{
    struct s3fifo *s3fifo = state;

    free(s3fifo->buckets);
    free(s3fifo);
}

/* At least 1. */
static size_t share_of_small(size_t page_count)
{
    const size_t half = page_count - page_count / 2, least = half < SMALL_LEAST ? half : SMALL_LEAST;

    return page_count / SMALL_PART > least ? page_count / SMALL_PART : least;
}

static int s3fifo_open(size_t page_count, void **ret_state)
{
    const size_t small_pages = share_of_small(page_count);
    const size_t main_pages = page_count > small_pages ? page_count - small_pages : 1;
    struct s3fifo *s3fifo;

    if (main_pages > UINT32_MAX / 2)
        return -ENOMEM;
    s3fifo = calloc(1, sizeof *s3fifo);
    if (s3fifo == NULL)
        return -ENOMEM;
    s3fifo->small_pages = small_pages;
    s3fifo->ghost_capacity = (uint32_t)main_pages;
    s3fifo->ghost_clock = s3fifo->ghost_capacity + 1; /* what calloc left has when 0: too old to count */
    s3fifo->bucket_count = s3fifo->ghost_capacity / 5 + 1;
    s3fifo->buckets = calloc(s3fifo->bucket_count, sizeof *s3fifo->buckets);
    if (s3fifo->buckets == NULL) {
        s3fifo_close(s3fifo);
        return -ENOMEM;
    }
    *ret_state = s3fifo;
    return 0;
}

static void put(struct s3fifo *s3fifo, struct cellar_frame *frame, enum queue queue)
{
    frame->queue = (unsigned char)queue;
    cellar_evict_queue_add(&s3fifo->queues[queue], frame);
}

static void take(struct s3fifo *s3fifo, struct cellar_frame *frame)
{
    cellar_evict_queue_remove(&s3fifo->queues[frame->queue], frame);
}

static void s3fifo_insert(void *state, struct cellar_frame *frame)
{
    struct s3fifo *s3fifo = state;

    cellar_frame_mark(frame, false);
    put(s3fifo, frame, take_ghost(s3fifo, frame->page) ? IN_MAIN : IN_SMALL);
}

/* Only a page that was given up becomes a ghost, not one that went for other reasons. */
static void s3fifo_remove(void *state, struct cellar_frame *frame)
{
    struct s3fifo *s3fifo = state;

    take(s3fifo, frame);
    if (frame != s3fifo->chosen)
        return;
    s3fifo->chosen = NULL;
    if (frame->queue == IN_SMALL)
        add_ghost(s3fifo, frame->page);
}

/* Used pages of SMALL, from the oldest on, go to MAIN. NULL: SMALL has become small enough, or all of it is pinned. */
static struct cellar_frame *look_at_small(struct s3fifo *s3fifo)
{
    const struct cellar_evict_queue *small = &s3fifo->queues[IN_SMALL];

    for (size_t left = small->count; left > 0 && small->count >= s3fifo->small_pages; left--) {
        struct cellar_frame *frame = small->oldest;

        if (frame->pins == 0 && !cellar_frame_visited(frame))
            return frame;
        take(s3fifo, frame);
        if (frame->pins == 0)
            cellar_frame_mark(frame, false);
        put(s3fifo, frame, frame->pins == 0 ? IN_MAIN : IN_SMALL);
    }
    return NULL;
}

/* Used pages of the queue, from the oldest on, come to its end; in a second round use makes no difference. NULL: all of
 * it is pinned. */
static struct cellar_frame *look_around(struct s3fifo *s3fifo, enum queue queue)
{
    const struct cellar_evict_queue *pages = &s3fifo->queues[queue];

    for (size_t left = 2 * pages->count; left > 0; left--) {
        struct cellar_frame *frame = pages->oldest;

        if (frame->pins == 0) {
            if (left <= pages->count || !cellar_frame_visited(frame))
                return frame;
            cellar_frame_mark(frame, false);
        }
        take(s3fifo, frame);
        put(s3fifo, frame, queue);
    }
    return NULL;
}

static struct cellar_frame *s3fifo_choose(void *state)
{
    struct s3fifo *s3fifo = state;
    struct cellar_frame *frame = look_at_small(s3fifo);

    if (frame == NULL)
        frame = look_around(s3fifo, IN_MAIN);
    if (frame == NULL)
        frame = look_around(s3fifo, IN_SMALL);
    s3fifo->chosen = frame;
    return frame;
}

const struct cellar_evict_ops cellar_evict_s3fifo = {
    .name = "s3fifo",
    .open = s3fifo_open,
    .close = s3fifo_close,
    .insert = s3fifo_insert,
    .remove = s3fifo_remove,
    .choose = s3fifo_choose,
};
