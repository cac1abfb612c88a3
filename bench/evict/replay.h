/*
 * replay.h - a trace through a cache: how many of its uses miss.
 *
 * Every miss brings the page into the cache (demand paging); a full cache gives one up for it. A use of a page right
 * after a use of the same page hits and sets no mark, as in the library's cache.
 */
#ifndef EVICT_REPLAY_H
#define EVICT_REPLAY_H

#include "trace.h"

struct evict_policy {
    const char *name;
    const char *title; /* for the head of a column */
    int (*replay)(const struct evict_trace *trace, size_t page_count, uint64_t *ret_misses);
};

/* In the order of the report: what can't be beaten, then the library's own, then others to compare with. */
extern const struct evict_policy *const evict_policies[];
extern const size_t evict_policy_count;

extern const struct evict_policy evict_opt, evict_sieve, evict_s3fifo, evict_clock, evict_counting, evict_lru;

/* The library's own stand at these places of evict_policies. */
enum { EVICT_OPT = 0, EVICT_OWN_FIRST = 1, EVICT_OWN_END = 4 };

#endif
