/*
 * report.h - what the replays found, as text, Markdown and JSON. Everything is computed in whole numbers, so that the
 * same results read the same everywhere.
 */
#ifndef EVICT_REPORT_H
#define EVICT_REPORT_H

#include "replay.h"

enum { EVICT_SIZES = 5, EVICT_POLICIES_MAX = 8 };

/* Cache sizes, in percent of the pages of a trace. */
extern const unsigned evict_percents[EVICT_SIZES];

struct evict_result {
    const char *name, *what; /* of the trace */
    size_t use_count, page_count;
    size_t cache_pages[EVICT_SIZES];
    uint64_t misses[EVICT_SIZES][EVICT_POLICIES_MAX]; /* by evict_policies */
};

void evict_report_text(const struct evict_result *results, size_t count);
void evict_report_markdown(const struct evict_result *results, size_t count);

/* 0 or a negative error of the system. */
int evict_report_json(const char *path, const struct evict_result *results, size_t count);

#endif
