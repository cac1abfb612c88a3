/* progress.h - a progress bar on standard error, where that is a terminal and the work takes over two seconds. */
#ifndef CELLAR_TOOLS_PROGRESS_H
#define CELLAR_TOOLS_PROGRESS_H

#include <stdbool.h>
#include <stdint.h>
#include <time.h>

struct cellar_progress {
    bool enabled; /* standard error is a terminal */
    bool shown;   /* the bar stands on the terminal now */
    bool total_known;
    uint64_t total_bytes;
    uint64_t done_bytes;
    uint64_t value_count;
    struct timespec begun, drawn;
};

/* total_known false: neither percent nor bar, but bytes and rate. */
void cellar_progress_begin(struct cellar_progress *progress, bool total_known, uint64_t total_bytes);

/* More was done: draws the bar anew if it is time to. */
void cellar_progress_add(struct cellar_progress *progress, uint64_t byte_count, uint64_t value_count);

/* Takes the bar off the terminal: before anything else is printed, and at the end. */
void cellar_progress_clear(struct cellar_progress *progress);

#endif
