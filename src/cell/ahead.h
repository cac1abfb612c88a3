/*
 * ahead.h - space ahead of the tail, made ready on a thread beside the writer.
 *
 * The helper takes one step after the other, each of them short, as far ahead of the writer as bounds allow:
 *     grow      allocates the next stretch of the file, so that the writer finds it there when it comes;
 *     write     while flushes are many and neither tiny nor large: has pages written to the disk as they are, so that a
 *               flush finds blocks that were written before. (Into blocks that are only allocated it is two writes: the
 *               cells, and what the file system knows of the blocks.)
 *     populate  while cells come fast, and are stored where they lie (and not gathered, cell/stage.h): brings pages of
 *               the window in, so that stores into them meet no fault.
 *
 * The sequences of events that would break it, and why there are none:
 *  1. The helper puts zeros over a cell that was just stored. It never stores a byte: pages are brought in and written
 *     as they are, with whatever the writer has stored there meanwhile.
 *  2. The writer enters space that isn't there yet, or whose size is not durable. ready_index is stored (release) after
 *     the growth has returned, and the writer enters nothing at or beyond what it has loaded from there (acquire).
 *  3. Helper and writer grow at once, and one of them makes the file shorter again when its growth fails, or has a
 *     device zero what the other has stored. Who grows holds grow_lock, and looks at ready_index first.
 *  4. A sync of the helper fails and takes the error that the writer's barrier should have heard of. A growth's is told
 *     to the barriers (cellar_header_end_growth). Pages are written through an open file description of the helper's
 *     own, which has errors of its own, and these are told to the barriers, too. While either is under way the file
 *     says SYNCING.
 *  5. The helper works on a file that is trimmed, replaced or closed. Its thread is joined before.
 *  6. A full disk: growth ahead of need takes nothing when not all of it fits, and isn't tried again until the writer
 *     itself has grown. Only what is below ready_index is brought in or written: it is allocated.
 *  7. A child after fork: it has no such thread and must not wait for it (cellar_ahead_forget).
 *
 * The writer tells where it is at marks, some MiB apart, and at flushes; between marks an append does nothing for it.
 */
#ifndef CELLAR_CELL_AHEAD_H
#define CELLAR_CELL_AHEAD_H

#include "cell/alloc.h"

#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

/* What the helper does; bits. */
enum { CELLAR_AHEAD_GROWS = 1, CELLAR_AHEAD_POPULATES = 2, CELLAR_AHEAD_WRITES = 4 };

/* How things are done to the file; all but lost by the helper's thread alone. 0, or an error: the helper does no more
 * of that. Offsets and lengths are whole pages below ready_index. */
struct cellar_ahead_ways {
    int (*populate)(void *user, uint64_t offset, uint64_t length_bytes);
    int (*write_out)(void *user, uint64_t offset, uint64_t length_bytes);
    /* A growth failed with that error in its sync: nothing may be assumed of anything written since the last that
     * succeeded. Called with no lock held. */
    void (*lost)(void *user, int error);
    void *user;
};

struct cellar_ahead {
    unsigned parts; /* 0: there is no helper, and everything below is nobody's */
    struct cellar_ahead_ways ways;
    uint64_t page_bytes;
    uint32_t bytes_per_cell, mark_cells;
    uint64_t origin_bytes;     /* where the writer began */
    pthread_mutex_t grow_lock; /* held by who grows */
    struct cellar_alloc grow;  /* the helper's: how; its next index is not used */

    /* From the writer's threads to the helper. */
    atomic_uint_fast64_t position_bytes; /* where the writer was when it told last */
    atomic_bool fast;                    /* cells come fast */
    atomic_uint_fast64_t populate_to;    /* 0: not at all */
    atomic_uint_fast64_t write_to;

    /* From the helper to them. */
    atomic_uint_fast32_t ready_index; /* cells below are allocated, durably; stored by who grows */
    atomic_uint_fast64_t populated, written;
    atomic_uint_fast32_t refused_index; /* growth from here was refused */
    atomic_uint undone;                 /* parts that can't be had */

    /* The appending thread's. */
    uint64_t marked_ns, marked_bytes; /* the last mark */
    bool stores, stores_always; /* since then cells were stored into the window, that is worth populating; always */

    /* Whoever flushes, under the writer's flush lock. */
    uint64_t flushed_bytes, flush_mean_bytes;
    unsigned flushes;

    /* The thread. */
    atomic_int thread_state; /* enum cellar_ahead_thread */
    atomic_bool stops, sleeps;
    sem_t wake;
    pthread_t thread;
};

enum cellar_ahead_thread { CELLAR_AHEAD_NO_THREAD = 0, CELLAR_AHEAD_STARTS, CELLAR_AHEAD_RUNS, CELLAR_AHEAD_FAILED };

/* A writer begins at alloc's next index. parts: bits of what a helper may do; 0: there is none. Sets
 * the first mark. No thread yet. */
void cellar_ahead_begin(struct cellar_ahead *ahead, unsigned parts, struct cellar_alloc *alloc,
                        const struct cellar_ahead_ways *ways);

/* The thread ends, when its step has; alloc learns what it grew. Then all is as if there had been no helper. Also where
 * there was none. */
void cellar_ahead_end(struct cellar_ahead *ahead, struct cellar_alloc *alloc);

/* The same in a child after fork. */
void cellar_ahead_forget(struct cellar_ahead *ahead);

/* The appending thread has come to its mark, and the cells below required_index are ready and will be its own: tells
 * the helper so, and sets the next mark. now_ns: of a clock that never goes back. */
void cellar_ahead_pass(struct cellar_ahead *ahead, struct cellar_alloc *alloc, uint32_t required_index,
                       uint64_t now_ns);

/* alloc learns what another grew. */
void cellar_ahead_learn(const struct cellar_ahead *ahead, struct cellar_alloc *alloc);

/* Around growing: waits for who grows, and learns what came of it; then what alloc grew is there for others, too. */
void cellar_ahead_begin_growth(struct cellar_ahead *ahead, struct cellar_alloc *alloc);
void cellar_ahead_end_growth(struct cellar_ahead *ahead, const struct cellar_alloc *alloc);

/* Cells below next_index were made durable by a flush. Under the writer's flush lock. */
void cellar_ahead_note_flush(struct cellar_ahead *ahead, uint32_t next_index);

/* One step, by the helper's thread; or where it has none, by who wants it. 0: it did something. CELLAR_NONE: there is
 * nothing to do now. */
int cellar_ahead_step(struct cellar_ahead *ahead);

/* Whether there is so much to do that it is worth waking the helper. */
bool cellar_ahead_is_due(const struct cellar_ahead *ahead);

/* ---- ahead_thread.c ---- */

/* Starts the thread, once; where it can't be had everything works without. Any of the writer's threads. */
void cellar_ahead_start(struct cellar_ahead *ahead);

/* Wakes it where it sleeps and there is enough to do. */
void cellar_ahead_rouse(struct cellar_ahead *ahead);

/* Ends it, and waits for that. */
void cellar_ahead_stop(struct cellar_ahead *ahead);

#endif
