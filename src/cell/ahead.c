#include "cell/ahead.h"

#include <unistd.h>

enum {
    MARK_BYTES = 1 << 20,     /* between two marks, or a quarter of a resize step */
    START_BYTES = 1 << 20,    /* no thread for a writer that appends less, */
    FLUSHES_MIN = 128,        /* or flushes less often */
    FAST_BYTE_NS = 20,        /* cells come fast: a byte took less than that since the last mark */
    POPULATE_SPAN = 16 << 20, /* so far ahead of the writer, */
    POPULATE_BLOCK = 1 << 19, /* so much in a step */

    FLUSH_BYTES_MIN = 512,     /* smaller flushes come to a new block so seldom that it isn't worth it; */
    FLUSH_BYTES_MAX = 1 << 18, /* larger ones write for so long that it costs more than it saves */
    WRITE_SPAN_FLUSHES = 256,  /* so many flushes ahead, */
    WRITE_SPAN_MIN = 1 << 18,  /* but so much at least and at most, */
    WRITE_SPAN_MAX = 4 << 20,
    WRITE_BLOCK = 1 << 18, /* so much in a step */
};

/* What the helper's thread and others need to wait for each other. */
static bool open_thread(struct cellar_ahead *ahead)
{
    if (pthread_mutex_init(&ahead->grow_lock, NULL) != 0)
        return false;
    if (sem_init(&ahead->wake, 0, 0) == 0)
        return true;
    pthread_mutex_destroy(&ahead->grow_lock);
    return false;
}

static void set_mark(const struct cellar_ahead *ahead, struct cellar_alloc *alloc, uint32_t required_index)
{
    alloc->mark_index = alloc->ready_index;
    if (ahead->parts != 0 && alloc->ready_index - required_index > ahead->mark_cells)
        alloc->mark_index = required_index + ahead->mark_cells;
}

void cellar_ahead_begin(struct cellar_ahead *ahead, unsigned parts, struct cellar_alloc *alloc,
                        const struct cellar_ahead_ways *ways)
{
    uint64_t mark_bytes = (uint64_t)alloc->step_cells * alloc->bytes_per_cell / 4;

    *ahead = (struct cellar_ahead){.parts = parts};
    if (parts == 0 || !open_thread(ahead)) {
        ahead->parts = 0;
        return;
    }
    ahead->ways = *ways;
    ahead->stores = ahead->stores_always = true;
    ahead->page_bytes = (uint64_t)sysconf(_SC_PAGESIZE);
    ahead->bytes_per_cell = alloc->bytes_per_cell;
    ahead->mark_cells =
        cellar_alloc_step_cells(mark_bytes < MARK_BYTES ? mark_bytes : MARK_BYTES, alloc->bytes_per_cell);
    ahead->origin_bytes = (uint64_t)alloc->next_index * alloc->bytes_per_cell;
    ahead->grow = *alloc;
    ahead->flushed_bytes = ahead->origin_bytes;
    atomic_init(&ahead->position_bytes, ahead->origin_bytes);
    atomic_init(&ahead->ready_index, alloc->ready_index);
    set_mark(ahead, alloc, alloc->next_index);
}

void cellar_ahead_end(struct cellar_ahead *ahead, struct cellar_alloc *alloc)
{
    if (ahead->parts == 0)
        return;
    cellar_ahead_stop(ahead);
    cellar_ahead_learn(ahead, alloc);
    alloc->mark_index = alloc->ready_index;
    sem_destroy(&ahead->wake);
    pthread_mutex_destroy(&ahead->grow_lock);
    ahead->parts = 0;
}

void cellar_ahead_forget(struct cellar_ahead *ahead)
{
    ahead->parts = 0;
}

/* ---- between the writer and the helper ---- */

void cellar_ahead_learn(const struct cellar_ahead *ahead, struct cellar_alloc *alloc)
{
    if (ahead->parts != 0)
        cellar_alloc_learn(alloc, (uint32_t)atomic_load_explicit(&ahead->ready_index, memory_order_acquire));
}

void cellar_ahead_begin_growth(struct cellar_ahead *ahead, struct cellar_alloc *alloc)
{
    if (ahead->parts == 0)
        return;
    pthread_mutex_lock(&ahead->grow_lock);
    cellar_ahead_learn(ahead, alloc);
}

void cellar_ahead_end_growth(struct cellar_ahead *ahead, const struct cellar_alloc *alloc)
{
    if (ahead->parts == 0)
        return;
    atomic_store_explicit(&ahead->ready_index, alloc->ready_index, memory_order_release);
    pthread_mutex_unlock(&ahead->grow_lock);
}

static bool does(const struct cellar_ahead *ahead, unsigned part)
{
    return (ahead->parts & ~atomic_load_explicit(&ahead->undone, memory_order_relaxed) & part) != 0;
}

/* What the helper may do has changed. */
static void tell(struct cellar_ahead *ahead, uint64_t position_bytes)
{
    atomic_store(&ahead->position_bytes, position_bytes);
    cellar_ahead_rouse(ahead);
}

/* Whether cells come fast: since the last mark, which is this one from now on. */
static bool is_fast(struct cellar_ahead *ahead, uint64_t position_bytes, uint64_t now_ns)
{
    uint64_t since_ns = now_ns - ahead->marked_ns;
    bool fast = ahead->marked_ns != 0 && position_bytes > ahead->marked_bytes &&
                since_ns < (position_bytes - ahead->marked_bytes) * FAST_BYTE_NS;

    ahead->marked_ns = now_ns;
    ahead->marked_bytes = position_bytes;
    return fast;
}

void cellar_ahead_pass(struct cellar_ahead *ahead, struct cellar_alloc *alloc, uint32_t required_index, uint64_t now_ns)
{
    uint64_t position_bytes = (uint64_t)required_index * alloc->bytes_per_cell;
    bool fast;

    set_mark(ahead, alloc, required_index);
    if (ahead->parts == 0)
        return;
    fast = is_fast(ahead, position_bytes, now_ns) && atomic_load_explicit(&ahead->write_to, memory_order_relaxed) == 0;
    atomic_store_explicit(&ahead->fast, fast, memory_order_relaxed);
    atomic_store_explicit(&ahead->populate_to, fast && ahead->stores ? position_bytes + POPULATE_SPAN : 0,
                          memory_order_relaxed);
    ahead->stores = ahead->stores_always;
    if (position_bytes >= ahead->origin_bytes + START_BYTES)
        cellar_ahead_start(ahead);
    tell(ahead, position_bytes);
}

void cellar_ahead_note_flush(struct cellar_ahead *ahead, uint32_t next_index)
{
    uint64_t flushed_bytes = (uint64_t)next_index * ahead->bytes_per_cell, added_bytes, span_bytes;

    if (!does(ahead, CELLAR_AHEAD_WRITES) || flushed_bytes <= ahead->flushed_bytes)
        return;
    added_bytes = flushed_bytes - ahead->flushed_bytes;
    ahead->flushed_bytes = flushed_bytes;
    ahead->flush_mean_bytes = ahead->flushes == 0 ? added_bytes : (7 * ahead->flush_mean_bytes + added_bytes) / 8;
    if (ahead->flushes < FLUSHES_MIN)
        ahead->flushes++;
    if (ahead->flushes < FLUSHES_MIN || ahead->flush_mean_bytes < FLUSH_BYTES_MIN ||
        ahead->flush_mean_bytes > FLUSH_BYTES_MAX) {
        atomic_store_explicit(&ahead->write_to, 0, memory_order_relaxed);
        return;
    }
    span_bytes = WRITE_SPAN_FLUSHES * ahead->flush_mean_bytes;
    if (span_bytes < WRITE_SPAN_MIN)
        span_bytes = WRITE_SPAN_MIN;
    if (span_bytes > WRITE_SPAN_MAX)
        span_bytes = WRITE_SPAN_MAX;
    atomic_store_explicit(&ahead->write_to, flushed_bytes + span_bytes, memory_order_relaxed);
    cellar_ahead_start(ahead);
    tell(ahead, flushed_bytes);
}

/* ---- the steps ---- */

static uint64_t page_down(const struct cellar_ahead *ahead, uint64_t offset)
{
    return offset / ahead->page_bytes * ahead->page_bytes;
}

static uint64_t position_of(const struct cellar_ahead *ahead)
{
    return atomic_load(&ahead->position_bytes); /* before it sleeps: see ahead_thread.c */
}

static uint64_t ready_bytes_of(const struct cellar_ahead *ahead)
{
    return (uint64_t)atomic_load_explicit(&ahead->ready_index, memory_order_relaxed) * ahead->bytes_per_cell;
}

/* A stretch is ready beyond the writer, or half of one where it doesn't come fast. */
static bool wants_growth(const struct cellar_ahead *ahead)
{
    uint32_t ready = (uint32_t)atomic_load_explicit(&ahead->ready_index, memory_order_relaxed);
    uint64_t stretch_bytes = (uint64_t)cellar_alloc_stretch(&ahead->grow, ready) * ahead->bytes_per_cell;
    bool fast = atomic_load_explicit(&ahead->fast, memory_order_relaxed);

    return does(ahead, CELLAR_AHEAD_GROWS) &&
           ready != atomic_load_explicit(&ahead->refused_index, memory_order_relaxed) &&
           ready < cellar_alloc_limit(&ahead->grow) &&
           ready_bytes_of(ahead) <= position_of(ahead) + (fast ? stretch_bytes : stretch_bytes / 2);
}

/* The next block where all up to done is done; where the writer is further than that, lead_bytes before the writer.
 * False: there is none. */
static bool next_block(const struct cellar_ahead *ahead, uint64_t done, uint64_t to, uint64_t lead_bytes,
                       uint64_t block_bytes, uint64_t *ret_from, uint64_t *ret_end)
{
    uint64_t position = page_down(ahead, position_of(ahead)), ready = ready_bytes_of(ahead);
    uint64_t from = done > position ? done : position + lead_bytes;

    to = page_down(ahead, to < ready ? to : ready);
    if (from >= to)
        return false;
    *ret_from = from;
    *ret_end = to - from > block_bytes ? from + block_bytes : to;
    return true;
}

static bool next_write(const struct cellar_ahead *ahead, uint64_t *ret_from, uint64_t *ret_end)
{
    return does(ahead, CELLAR_AHEAD_WRITES) &&
           next_block(ahead, atomic_load_explicit(&ahead->written, memory_order_relaxed),
                      atomic_load_explicit(&ahead->write_to, memory_order_relaxed), ahead->page_bytes, WRITE_BLOCK,
                      ret_from, ret_end);
}

static bool next_populate(const struct cellar_ahead *ahead, uint64_t *ret_from, uint64_t *ret_end)
{
    return does(ahead, CELLAR_AHEAD_POPULATES) &&
           next_block(ahead, atomic_load_explicit(&ahead->populated, memory_order_relaxed),
                      atomic_load_explicit(&ahead->populate_to, memory_order_relaxed), POPULATE_BLOCK, POPULATE_BLOCK,
                      ret_from, ret_end);
}

/* Half of the span is used up, so that the helper isn't woken for every block. */
bool cellar_ahead_is_due(const struct cellar_ahead *ahead)
{
    uint64_t position = position_of(ahead), from, end, to;

    if (wants_growth(ahead))
        return true;
    to = atomic_load_explicit(&ahead->write_to, memory_order_relaxed);
    if (next_write(ahead, &from, &end) && from <= position + (to - position) / 2)
        return true;
    return next_populate(ahead, &from, &end) && from <= position + POPULATE_SPAN / 2;
}

static void give_up(struct cellar_ahead *ahead, unsigned parts)
{
    atomic_fetch_or_explicit(&ahead->undone, parts, memory_order_relaxed);
}

static void grow(struct cellar_ahead *ahead)
{
    int error = 0;

    cellar_ahead_begin_growth(ahead, &ahead->grow);
    if (wants_growth(ahead)) /* the writer may have grown meanwhile */
        error = cellar_alloc_extend(&ahead->grow);
    if (error != 0)
        atomic_store_explicit(&ahead->refused_index, ahead->grow.ready_index, memory_order_relaxed);
    cellar_ahead_end_growth(ahead, &ahead->grow);
    if (error >= 0 || cellar_alloc_is_harmless(error) || error == CELLAR_ECORRUPT)
        return; /* the writer will hear of it where it has to grow itself */
    give_up(ahead, ahead->parts);
    ahead->ways.lost(ahead->ways.user, error);
}

int cellar_ahead_step(struct cellar_ahead *ahead)
{
    uint64_t from, end;
    int error;

    if (ahead->parts == 0)
        return CELLAR_NONE;
    if (wants_growth(ahead)) {
        grow(ahead);
        return 0;
    }
    if (next_write(ahead, &from, &end)) {
        error = ahead->ways.write_out(ahead->ways.user, from, end - from);
        if (error != 0)
            give_up(ahead, CELLAR_AHEAD_WRITES);
        atomic_store_explicit(&ahead->written, end, memory_order_relaxed);
        return 0;
    }
    if (next_populate(ahead, &from, &end)) {
        error = ahead->ways.populate(ahead->ways.user, from, end - from);
        if (error != 0)
            give_up(ahead, CELLAR_AHEAD_POPULATES);
        atomic_store_explicit(&ahead->populated, end, memory_order_relaxed);
        return 0;
    }
    return CELLAR_NONE;
}
