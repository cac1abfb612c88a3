/*
 * replay_opt.c - the optimum: Belady, "A Study of Replacement Algorithms for a Virtual-Storage Computer", IBM Systems
 * Journal 5(2), 1966. It knows the trace to its end, and gives up the page whose next use is farthest away; no policy
 * misses less often.
 */
#include "replay.h"

#include <errno.h>
#include <stdlib.h>

/*
 * The times at which cached pages are used next, all different, as bits; above each word of bits one bit that says
 * whether there are any, and so on up to one word.
 */
struct times {
    uint64_t *levels[6]; /* 64^6 bits are enough for what memory holds */
    size_t level_count;
};

static int times_open(struct times *times, size_t limit)
{
    *times = (struct times){.level_count = 0};
    do {
        limit = limit / 64 + 1;
        times->levels[times->level_count] = calloc(limit, sizeof(uint64_t));
        if (times->levels[times->level_count++] == NULL)
            return -ENOMEM;
    } while (limit > 1);
    return 0;
}

static void times_close(struct times *times)
{
    for (size_t i = 0; i < times->level_count; i++)
        free(times->levels[i]);
}

static void times_add(struct times *times, size_t time)
{
    for (size_t i = 0; i < times->level_count; i++, time /= 64)
        times->levels[i][time / 64] |= UINT64_C(1) << time % 64;
}

static void times_remove(struct times *times, size_t time)
{
    for (size_t i = 0; i < times->level_count; i++, time /= 64) {
        times->levels[i][time / 64] &= ~(UINT64_C(1) << time % 64);
        if (times->levels[i][time / 64] != 0)
            break;
    }
}

/* There is one. */
static size_t times_last(const struct times *times)
{
    size_t word = 0;

    for (size_t i = times->level_count; i-- > 0;)
        word = word * 64 + 63 - (size_t)__builtin_clzll(times->levels[i][word]);
    return word;
}

/* For each use when its page is used next. Those that never are used again get times of their own behind the trace. */
static void find_next_uses(const struct evict_trace *trace, size_t *next, size_t *coming)
{
    for (size_t page = 0; page < trace->page_count; page++)
        coming[page] = trace->use_count + page;
    for (size_t i = trace->use_count; i-- > 0;) {
        next[i] = coming[trace->uses[i]];
        coming[trace->uses[i]] = i;
    }
}

/* coming: for each page that is cached its next use; SIZE_MAX: it isn't cached. */
static uint64_t run(const struct evict_trace *trace, size_t page_count, const size_t *next, size_t *coming,
                    struct times *times)
{
    uint64_t misses = 0;

    for (size_t page = 0; page < trace->page_count; page++)
        coming[page] = SIZE_MAX;
    for (size_t i = 0; i < trace->use_count; i++) {
        const uint32_t page = trace->uses[i];

        if (coming[page] != SIZE_MAX) {
            times_remove(times, coming[page]);
        } else if (misses++ >= page_count) {
            const size_t farthest = times_last(times);

            times_remove(times, farthest);
            if (farthest >= trace->use_count)
                coming[farthest - trace->use_count] = SIZE_MAX;
            else
                coming[trace->uses[farthest]] = SIZE_MAX;
        }
        coming[page] = next[i];
        times_add(times, next[i]);
    }
    return misses;
}

static int replay(const struct evict_trace *trace, size_t page_count, uint64_t *ret_misses)
{
    size_t *next = malloc(trace->use_count * sizeof *next);
    size_t *coming = malloc(trace->page_count * sizeof *coming);
    struct times times;
    int status = times_open(&times, trace->use_count + trace->page_count);

    if (next == NULL || coming == NULL)
        status = -ENOMEM;
    if (status == 0) {
        find_next_uses(trace, next, coming);
        *ret_misses = run(trace, page_count, next, coming, &times);
    }
    times_close(&times);
    free(next);
    free(coming);
    return status;
}

const struct evict_policy evict_opt = {"opt", "optimum", replay};
