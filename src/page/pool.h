/*
 * pool.h - the frames that the handles of a cache share, and everything that happens to them under one lock: looking
 * up, loading, giving up. A pool with one handle takes no lock.
 */
#ifndef CELLAR_PAGE_POOL_H
#define CELLAR_PAGE_POOL_H

#include "page/cache.h"
#include "page/evict.h"
#include "page/frame.h"
#include "page/load.h"
#include <pthread.h>
#include <sys/types.h>

/* What the parts of a pool tell each other beside 0, CELLAR_NONE (there is no such page) and negative errors. */
enum {
    CELLAR_POOL_AGAIN = 2,     /* something has changed meanwhile: look again */
    CELLAR_POOL_UNCHANGED = 3, /* the source has no more of a short page than what is cached */
    CELLAR_POOL_BUSY = 4,      /* no request or no frame is left for another load in the background */
    CELLAR_POOL_SPLIT = 5,     /* a request for several pages failed: ask for each of them alone */
    CELLAR_POOL_CUT = 6,       /* the device ended before the page, as it says by now: ask once more, and no more */
};

struct cellar_pool {
    /* What hits look at: written at open alone, but for shared, and apart from all that misses write. */
    bool shared;                         /* there has been more than one handle */
    bool debug;                          /* see the end of the comment of <cellar/cache.h> */
    unsigned page_shift;                 /* log2 of page_bytes */
    unsigned heads_shift;                /* 64 - log2 of the number of heads */
    struct cellar_frame *_Atomic *heads; /* the table: a chain for each slot */
    size_t page_bytes, page_count;

    alignas(CELLAR_FRAME_ALIGN) pthread_mutex_t lock;
    pthread_cond_t changed; /* a frame is no longer LOADING */
    pid_t process;          /* the one that opened it */
    struct cellar_cache_options options;
    struct cellar_source source;
    struct cellar_buffers buffers;
    const struct cellar_evict_ops *evict;
    void *evict_state;

    void *frames_memory;
    struct cellar_frame *frames;             /* in frames_memory, at a line of the processor's cache */
    size_t frame_count;                      /* page_count, those that loads need beside them, and old_pages */
    size_t frames_touched;                   /* the frames from here on have never been used */
    struct cellar_frame *free, *stale, *old; /* lists, linked by newer and older */

    size_t cached; /* frames that are CACHED */
    size_t stale_count;
    size_t loading;   /* frames that are LOADING */
    size_t old_count; /* frames that are OLD */
    size_t pinned;    /* frames with pins */
    uint64_t evictions, ahead;
    uint64_t arrivals; /* frames that became CACHED */

    uint64_t version;             /* of the last commit */
    struct cellar_cache *handles; /* all of them, linked by next_handle */

    /* Loads in the background: pool_async.c. */
    struct cellar_queue *queue; /* NULL: none */
    struct cellar_fetch *fetches, *fetches_free;
    struct cellar_async *stalled, **stalled_end; /* wait for a request or a frame */
    bool taking;                                 /* a thread is in cellar_queue_take */
};

static inline void cellar_pool_enter(struct cellar_pool *pool)
{
    if (pool->shared)
        pthread_mutex_lock(&pool->lock);
}

static inline void cellar_pool_leave(struct cellar_pool *pool)
{
    if (pool->shared)
        pthread_mutex_unlock(&pool->lock);
}

/* Fibonacci hashing: neighbouring pages land far from each other, and the top bits are the good ones. */
static inline struct cellar_frame *_Atomic *cellar_pool_head(const struct cellar_pool *pool, uint64_t page)
{
    return &pool->heads[(page * UINT64_C(0x9E3779B97F4A7C15)) >> pool->heads_shift];
}

/* ---- pool.c: frames; all under the lock ---- */

/* options are complete and checked. device NULL: the functions of *source. */
int cellar_pool_open(const struct cellar_source *source, const struct cellar_cache_options *options,
                     struct cellar_pool **ret_pool);
void cellar_pool_close(struct cellar_pool *pool);

/* The frame that has the page for those at version, in whatever state but FREE and STALE; NULL: none. */
struct cellar_frame *cellar_pool_lookup(const struct cellar_pool *pool, uint64_t page, uint64_t version);

/* A frame to load into: FREE before, with nothing lent, in no list. CELLAR_EPINNED: there is none, and no page can be
 * given up. -ENOMEM. */
int cellar_pool_take(struct cellar_pool *pool, struct cellar_frame **ret_frame);

/* It is LOADING the page from now on, for the versions from <= version < until. */
void cellar_pool_begin(struct cellar_pool *pool, struct cellar_frame *frame, uint64_t page, uint64_t from,
                       uint64_t until);

/*
 * The load that began has ended with error. 0: the page is CACHED; where a shorter one was, that one is not any more.
 * Others, POOL_AGAIN, POOL_CUT and POOL_UNCHANGED among them: it isn't, and the frame is FREE, or STALE with that error
 * until all who wait for it have seen it.
 */
int cellar_pool_arrive(struct cellar_pool *pool, struct cellar_frame *frame, int error);

/* CACHED or OLD to STALE if it is pinned, else to FREE. */
void cellar_pool_detach(struct cellar_pool *pool, struct cellar_frame *frame);

/* CACHED to OLD. */
void cellar_pool_to_old(struct cellar_pool *pool, struct cellar_frame *frame);

/* FREE, from a state that is in no list. */
void cellar_pool_put_free(struct cellar_pool *pool, struct cellar_frame *frame);

void cellar_pool_pin(struct cellar_pool *pool, struct cellar_frame *frame);
void cellar_pool_unpin(struct cellar_pool *pool, struct cellar_frame *frame);

/* The same set of pages, forgotten: cellar_cache_invalidate. */
void cellar_pool_invalidate(struct cellar_pool *pool, uint64_t first_page, uint64_t last_page);

/* True where one more page can be CACHED, perhaps in the place of another one. */
bool cellar_pool_has_room(struct cellar_pool *pool);

/* Gives up every page that nothing holds: the debug mode. */
void cellar_pool_sweep(struct cellar_pool *pool);

/* True if a handle's hazard points to the frame. */
bool cellar_pool_is_hazard(const struct cellar_pool *pool, const struct cellar_frame *frame);

/* ---- pool_load.c ---- */

/*
 * Where the page lies for those at version, and since which version it does: by the hook, or in the source itself.
 * POOL_AGAIN: the hook names a version that a frame has, and that frame is for them, too, from now on.
 */
int cellar_pool_locate(struct cellar_pool *pool, uint64_t page, uint64_t version, struct cellar_place *ret_place);

/* Waits until a frame that may be LOADING isn't any more; it may be gone then. Under the lock, which it leaves. */
void cellar_pool_await(struct cellar_pool *pool, struct cellar_frame *frame);

/* What the hook says of what has been loaded. */
int cellar_pool_validate(const struct cellar_pool *pool, struct cellar_frame *frame);

/* The first version for which what the device has now of the page is right. */
uint64_t cellar_pool_from(const struct cellar_pool *pool, uint64_t page);

/*
 * Finds or loads the page for the handle: at least need bytes of it if there are so many by now, room at most (the
 * handle's limit). Everything that is not a hit at the first look. The frame is the handle's hazard when it returns, or
 * valid until its next call where it is alone.
 */
int cellar_pool_get(struct cellar_cache *cache, uint64_t page, size_t need, size_t room,
                    struct cellar_frame **ret_frame);

/* ---- pool_async.c ---- */

int cellar_pool_open_queue(struct cellar_pool *pool);
/* Waits for what is under way. Without a queue it does nothing. */
void cellar_pool_close_queue(struct cellar_pool *pool);

/*
 * Starts a load of the page in the background, and of up to page_count - 1 that follow it and are not there. POOL_BUSY;
 * CELLAR_NONE: there is no such page. ahead: nobody has asked for them yet.
 */
int cellar_pool_start(struct cellar_cache *cache, uint64_t page, uint64_t page_count, uint64_t version, bool ahead);

/* Loads in the background are under way. */
bool cellar_pool_is_fetching(const struct cellar_pool *pool);

/* There is a queue. Takes in what has arrived; wait: something, if anything is under way. Leaves the lock meanwhile. */
void cellar_pool_settle(struct cellar_pool *pool, bool wait);

/* The handle goes: its asynchronous loads are nobody's. */
void cellar_pool_abandon(struct cellar_cache *cache);

/* The frame is no longer LOADING: its asynchronous loads go on. */
void cellar_pool_wake(struct cellar_pool *pool, struct cellar_frame *frame, int error);

/* Frames or requests may be had again: the asynchronous loads that found none go on. */
void cellar_pool_retry(struct cellar_pool *pool);

/* ---- pool_ahead.c ---- */

/* The handle used the page for the first time (missed: it had to wait for it): reads ahead of who reads in order. */
void cellar_pool_read_ahead(struct cellar_cache *cache, uint64_t page, bool missed);

/* ---- pool_versions.c: the pipeline's snapshots; each takes the lock itself ---- */

/*
 * Makes sure that the page stays in memory as it is now, if a snapshot needs bytes of it from first_byte (an address)
 * on: to be called before those up to end_byte are overwritten. CELLAR_EOLDPAGES: that would be too many.
 * CELLAR_EBOUNDS: the device says that it ends before end_byte. Errors of loading it.
 */
int cellar_pool_keep(struct cellar_cache *cache, uint64_t page, uint64_t first_byte, uint64_t end_byte);

/* Pages [first, last] have been overwritten, or perhaps: what is kept of them is for the versions before, and all else
 * is forgotten. */
void cellar_pool_supersede(struct cellar_pool *pool, uint64_t first_page, uint64_t last_page, uint64_t version);

/* Copies the bytes [from, to) of the page's newest version to buffer + from, if all of them are in memory. */
bool cellar_pool_copy(struct cellar_pool *pool, uint64_t page, size_t from, size_t to, unsigned char *buffer);

/* The page's copy in memory, at least length bytes of it, where the caller may change it because nobody else looks at
 * it, nor can before the caller's next call; else NULL. What is changed must be written, or forgotten. It counts as no
 * use of the page. NULL in the debug mode, too: what was lent of the page is to be out of reach there. */
unsigned char *cellar_pool_own(const struct cellar_pool *pool, uint64_t page, size_t length);

/* The page has been written with these bytes, all of it, and was superseded: it is cached at once, where there is room
 * and the pool keeps copies. */
void cellar_pool_put(struct cellar_cache *cache, uint64_t page, const void *bytes);

/* Under the lock: gives up what has been superseded and no snapshot needs any more. */
void cellar_pool_release_old(struct cellar_pool *pool);

/* The last commit is version. What was kept and not superseded is given up. */
void cellar_pool_publish(struct cellar_pool *pool, uint64_t version);

#endif
