/*
 * run.h - what all groups of rows of bench_pages share: the scale, the file that is read, and how rows are timed.
 *
 * The file has file_pages pages of PAGES_BYTES; the word at address a is pages_word(a), so that every row can be held
 * to what it must have read.
 */
#ifndef BENCH_PAGES_RUN_H
#define BENCH_PAGES_RUN_H

#include "files.h"
#include "harness.h"
#include "result.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    PAGES_BYTES = 4096,
    PAGES_TIMED_MAX = 40, /* rows of one workload */
    PAGES_SKIP = 1,       /* an answer: this row can't run here */
};

/* How much work: --quick, --tiny and the default. Counts are those of one run. */
struct pages_scale {
    const char *name;
    uint64_t file_pages;
    uint64_t cached_pages; /* that all fit, where only hits are wanted */
    uint64_t hits;
    uint64_t misses;      /* from the kernel's page cache */
    uint64_t direct;      /* from the disk */
    uint64_t delayed;     /* from a device that takes PAGES_DELAY_NS for each, for each load at a time */
    uint64_t pending;     /* words that wait in a pipeline */
    size_t zipf_frames;   /* of the cache that holds 1 % */
    uint64_t eager_bytes; /* appended */
    uint64_t sparse_bytes;
    double memory_seconds;
    unsigned repetitions_min, repetitions_max;
    uint64_t budget_ns; /* for one workload */
};

struct pages_run {
    const struct pages_scale *scale;
    const char *directory; /* a fresh one, of this run's own */
    char data_path[512];
    char lmdb_path[512];           /* a database of the same pages, made when it is first asked for */
    char cold_path[512];           /* the same bytes, never mapped; made when it is first asked for */
    const unsigned char *mapped;   /* the data file, read into the page cache beforehand */
    const unsigned char *resident; /* a copy of its first cached_pages pages in memory */
    unsigned cores;
    double memory_seconds;
    struct bench_result result;
};

/* One row to be. */
struct pages_timed {
    struct bench_subject subject;
    const char *engine;
    char mode[128];
    const char *series;                                            /* NULL: none */
    uint64_t ops;                                                  /* in one run */
    uint64_t bytes;                                                /* in one run; 0: not counted */
    void (*see)(void *context, char *text, size_t capacity_bytes); /* afterwards, what to say; NULL: nothing */
};

/* A group of rows: adds them to the run. 0, or an error that has been reported on standard error. */
struct pages_workload {
    struct bench_heading heading;
    int (*measure)(struct pages_run *run, const struct pages_workload *workload);
    int number; /* means something to measure only */
};

/* The workloads, by group. */
extern const struct pages_workload pages_hits[6], pages_misses[5], pages_zipfs[5], pages_depths[3], pages_threads[4];
extern const struct pages_workload pages_eagers[2], pages_pipelines[3], pages_memory;

/* Makes the data file and reads it. 0 or a negative errno. */
int pages_run_prepare(struct pages_run *run);
void pages_run_finish(struct pages_run *run);

/* Writes the data to a new file; one that is there already is left as it is. 0 or a negative errno. */
int pages_data_write(const struct pages_run *run, const char *path);
/* Gives back what the data takes of this process's memory. */
void pages_data_release(struct pages_run *run);

/* Times the rows of a workload side by side and adds them. An error has been reported. */
int pages_time(struct pages_run *run, const struct bench_heading *heading, struct pages_timed *timed, size_t count);

/* Says on standard error what went wrong in a row; returns error. */
int pages_report(const struct bench_heading *heading, const char *engine, const char *mode, int error);

/* Adds an aim. moot: why the machine has no say in it, or NULL. */
void pages_aim(struct pages_run *run, const char *text, double measured, double bound, bool at_least, const char *moot);

/* The median of the row of that engine and mode, in nanoseconds an operation; 0: there is no such row. */
double pages_median_ns(const struct pages_run *run, const struct bench_heading *heading, const char *engine,
                       const char *mode);

/* The word at an address that is a multiple of 8. */
static inline uint64_t pages_word(uint64_t address)
{
    uint64_t z = (address + 8) * UINT64_C(0x9e3779b97f4a7c15);

    return z ^ (z >> 29);
}

#endif
