/*
 * workload.h - the work that every engine is given, one workload for each group of rows.
 *
 * A workload says what one operation is and what stands around it; the engines' variants of its operation are its
 * cases, each on a store of its own, measured side by side by the harness.
 */
#ifndef BENCH_WORKLOAD_H
#define BENCH_WORKLOAD_H

#include "engine.h"
#include "files.h"
#include "harness.h"
#include "result.h"

#include <stdbool.h>

/* How much work: --quick, --tiny and the default. */
struct bench_scale {
    const char *name;
    uint64_t cells;                  /* in the stores that cells are read from */
    uint64_t reads;                  /* random reads in one run; at most cells */
    uint64_t appended;               /* cells in one run of the bulk append */
    uint64_t commits;                /* in one run */
    uint64_t durable;                /* durable commits in one run */
    uint64_t written_bytes;          /* values written in one run, at least one of each size */
    uint64_t stored_bytes;           /* values in the stores that values are read from */
    uint64_t read_bytes;             /* values read in one run */
    uint64_t pages;                  /* of the files that caches and pipelines stand over */
    uint64_t page_hits;              /* in one run */
    uint64_t pending;                /* words that wait in a pipeline */
    uint64_t space_cells;            /* in the stores that are weighed */
    uint64_t growth_min, growth_max; /* cells of the smallest and the largest store that growth is shown by */
    uint64_t growth_reads;           /* in one run */
    uint64_t growth_budget_ns;       /* that an engine may take for one size */
    unsigned readers_max;            /* at once */
    uint64_t cold_reads;             /* random reads in one run, nothing in memory */
    uint64_t sparse_cells;           /* in the large stores that are only opened */
    unsigned repetitions_min, repetitions_max;
    uint64_t budget_ns; /* for one workload */
};

/* What is measured, and with what. */
struct bench_session {
    const struct bench_scale *scale;
    const char *only;      /* a workload's name, or the beginning of some; NULL: all */
    const char *engine;    /* NULL: all */
    const char *mode;      /* of the cases, without a data path; NULL: all */
    bool growth;           /* with those workloads, too, that only run on demand */
    const char *directory; /* a fresh one, of this run's own */
    struct bench_cells source;
    unsigned char *value; /* bytes for values, as many as the largest has */
    unsigned char *copy;  /* where values are copied to, as large */
    uint32_t *indices;    /* every cell's index once, shuffled */
    uint32_t *ordered;    /* and in order */
    struct bench_result result;
};

/* One engine's variant in one workload. */
struct bench_case {
    const struct bench_session *session;
    const struct bench_workload *workload;
    const struct bench_engine *engine;
    const struct bench_variant *variant;
    struct bench_spec spec;
    char directory[512];   /* of the store */
    char peer_cells[1024]; /* the spec's, if there are such */
    void *store;
    const char *data_path; /* the engine's, once a store was open */
    uint64_t *names;       /* of the values in the store, shuffled */
    uint64_t name_count;
    uint64_t position; /* where the next run goes on in indices or names */
    uint64_t sum;      /* what the run's reads added up to */
    uint64_t expected_sum;
    uint64_t disk_bytes;    /* that this process had read from the disk before the run */
    double resident;        /* the part of the store that was in memory then */
    uint64_t timed_ns;      /* what counts of a run's time, in workloads that say so themselves */
    uint32_t *latencies_ns; /* of single operations; NULL: they aren't timed alone */
    uint64_t latency_count; /* BENCH_LATENCIES_MAX at most */
    char seen[64];          /* what else the run showed */
};

struct bench_workload {
    struct bench_heading heading; /* its guarantee is the durability class */
    unsigned operations;          /* those whose variants take part, as bits: 1 << BENCH_... */
    size_t payload_bytes;         /* that one operation moves: of a cell, of a value; 0: none */
    size_t value_bytes;           /* of one value; 0: cells */
    bool times_itself;            /* run leaves what counts in timed_ns */

    uint64_t (*ops)(const struct bench_case *bench_case); /* in one run */
    /* Once for each case, before and after all repetitions; NULL: nothing. */
    int (*prepare)(struct bench_case *bench_case);
    /* Around each run; NULL: nothing. */
    int (*before)(void *bench_case);
    int (*run)(void *bench_case);
    int (*after)(void *bench_case);

    bool on_demand; /* only where it is named, or --growth is given */
    /* Does the whole of it in place of the above; NULL: the engines' variants of the operations are its cases. */
    int (*measure)(struct bench_session *session, const struct bench_workload *workload);
};

/* All workloads, in the order of the table; and each file's share of them. */
extern const struct bench_workload *const bench_workloads[];
extern const size_t bench_workload_count;
extern const struct bench_workload bench_read_random, bench_read_ordered, bench_read_sequential, bench_read_cold;
extern const struct bench_workload bench_read_sequential_cold;
extern const struct bench_workload bench_append, bench_commit, bench_commit_durable;
extern const struct bench_workload bench_commit_word, bench_commit_word_latency;
extern const struct bench_workload bench_commit_latency, bench_durable_latency;
extern const struct bench_workload bench_refresh_none, bench_refresh_new;
extern const struct bench_workload bench_hash;
extern const struct bench_workload bench_readers_threads, bench_readers_processes;
extern const struct bench_workload bench_value_workloads[9];
extern const struct bench_workload bench_pages_workloads[5];
extern const struct bench_workload bench_open_for_read, bench_open_for_write, bench_open_crashed;
extern const struct bench_workload bench_growth_append, bench_growth_read;
extern const struct bench_workload bench_space, bench_append_writes, bench_durable_writes, bench_size;
extern const struct bench_workload bench_open_large_for_read, bench_open_large_for_write;

enum {
    BENCH_VALUE_BYTES_MAX = 1 << 20,
    BENCH_COMMIT_EVERY = 100000, /* cells, in the bulk append */
    BENCH_LATENCIES_MAX = 1 << 20,
};

/* Makes the data that all workloads share. -ENOMEM. */
int bench_session_prepare(struct bench_session *session);
void bench_session_finish(struct bench_session *session);

/* Measures one workload; its rows go to the session. 0, or an error that has been reported on standard error. */
int bench_workload_run(struct bench_session *session, const struct bench_workload *workload);
/* Whether the session's `only` names it. */
bool bench_workload_wanted(const struct bench_session *session, const struct bench_workload *workload);

/* A fresh store for the case, open for write, in its directory; and its end, with the directory's content. */
int bench_case_create(struct bench_case *bench_case);
int bench_case_discard(void *bench_case);
/* Says on standard error what went wrong. */
void bench_case_report(const struct bench_case *bench_case, int status);
/* Closes the case's store and opens it again for read. */
int bench_case_reopen_for_read(struct bench_case *bench_case);

#endif
