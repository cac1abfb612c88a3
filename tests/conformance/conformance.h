/*
 * conformance.h - what the parts of the conformance program share. main.c says how it works.
 */
#ifndef CONFORMANCE_H
#define CONFORMANCE_H

#include <stdbool.h>

/* What has been done so far. Every part adds to it; main prints it. */
struct conformance_totals {
    unsigned long files;              /* golden files and traces read */
    unsigned long operations;         /* operations replayed and checks made, on every device */
    unsigned long mismatches;         /* each was printed when it was found */
    unsigned long listed_differences; /* results that were as the table of differences says, not as the original's */
    unsigned long skipped;            /* operations that the rules leave out, such as setting the length back */
};

/*
 * Each replays everything in a folder and adds to totals. 0: done, whether or not there were mismatches. -1: the folder
 * or a file of it can't be read or means nothing to it; that was said on standard error.
 * verify_table: the folder holds the files that the table of differences names, and a file that is named without need
 * or missing there is a mismatch.
 */
int conformance_golden(const char *folder, bool verify_table, struct conformance_totals *totals);
int conformance_traces(const char *folder, struct conformance_totals *totals);

#endif
