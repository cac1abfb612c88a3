/*
 * wraps.h - what the functions that stand before the C library's have counted: all of it is back where it was when a
 * run has closed what it opened.
 */
#ifndef CELLAR_TESTS_FAULTS_WRAPS_H
#define CELLAR_TESTS_FAULTS_WRAPS_H

#include <stdbool.h>

/* Pieces of memory not freed, threads not joined, mappings not unmapped. */
long wraps_pieces(void);
long wraps_threads(void);
long wraps_mappings(void);

/* Barriers of the system (fsync, msync, ...) are counted but not made: nothing here cuts the power, and a run takes a
 * hundredth of the time. on: they are made. */
void wraps_make_barriers(bool on);

/* Whether io_uring is there for the library; else it works on threads, whose calls can fail one by one. */
#if FAULTS_RING
void wraps_allow_ring(bool on);
#else
static inline void wraps_allow_ring(bool on)
{
    (void)on;
}
#endif

#endif
