/* result.h - what a run of a bench program gives: rows in groups, and the aims that they are held against. */
#ifndef BENCH_RESULT_H
#define BENCH_RESULT_H

#include "harness.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Engines by these names are what ratios are taken to. */
#define BENCH_NAME_CELLAR "cellar"
#define BENCH_NAME_LIMIT "limit"

enum {
    BENCH_SOFTWARE_MAX = 8,
    BENCH_AIMS_MAX = 16,
    BENCH_MEASURES_MAX = 128,
    BENCH_NOTES_MAX = 64,
    BENCH_BOUNDS_MAX = 5, /* of one goal */
    BENCH_VERDICTS_MAX = 64,
};

/* A group of rows that do the same work. */
struct bench_heading {
    const char *name;
    const char *title;     /* what one operation is */
    const char *guarantee; /* what is promised when it returns, or what the rows stand on: the class of the row */
};

/* How long single operations took, each timed alone. */
struct bench_latency {
    uint64_t samples; /* 0: they were not timed alone */
    double p50_ns, p99_ns, p999_ns, max_ns;
};

/* One line of the result. Times are for one operation. */
struct bench_row {
    const struct bench_heading *heading;
    const char *engine;
    char mode[128];
    const char *series; /* rows of one series are compared with its first: how many times as fast; NULL: none */
    char seen[64];      /* what else the run showed, "hits 91.2 %"; may be empty */
    struct bench_figures figures;
    uint64_t ops, bytes; /* timed in all repetitions together; bytes of payload */
    unsigned readers;    /* that read at once; 0: the row is not about that */
    uint64_t cells;      /* in the store; 0: the row is not about that */
    struct bench_latency latency;
};

/* A single figure that is no time. */
struct bench_measure {
    const struct bench_heading *heading;
    const char *engine;
    char mode[128];
    const char *unit; /* "ratio", "bytes" */
    double value;
    char seen[96]; /* may be empty */
};

/* What was left out, and why. */
struct bench_note {
    const struct bench_heading *heading;
    const char *engine;
    char mode[128];
    char text[128];
};

/* A bound that somebody set, and what was measured. */
struct bench_aim {
    char text[96];
    double measured;
    double bound;
    bool at_least;    /* else: at most */
    const char *moot; /* why this machine has no say in it; NULL: it has */
};

/* One bound of a goal, and what it was held against. */
struct bench_bound_verdict {
    char text[64];    /* "<= 1.05 x limit"; empty: it is shown, and can't be missed */
    const char *kind; /* "limit", "limit+", "peer", "absolute", "scaling" */
    char engine[16];  /* of the row that it is compared with; empty: none */
    char mode[128];
    double reference; /* that row's figure */
    double measured, bound;
    bool at_least;    /* else: at most */
    double excess;    /* 1: just reached, more: missed by so much; 0: not judged */
    const char *moot; /* why it could not be judged; NULL: it was */
};

/* What became of a goal. */
struct bench_verdict {
    const char *name;
    unsigned row;
    const char *text, *workload, *unit;
    char mode[128]; /* of cellar's row */
    double figure;  /* of the run in the middle; 0: not measured */
    char limit_mode[128];
    double limit; /* 0: none */
    struct bench_bound_verdict bounds[BENCH_BOUNDS_MAX];
    size_t bound_count;
    double runs[3]; /* the largest excess of each run */
    unsigned run_count;
    const char *word; /* "held", "close" (missed by little, or once), "missed", "moot" */
};

struct bench_software {
    const char *name;
    const char *version; /* NULL: this bench was built without it */
};

struct bench_result {
    const char *program; /* for messages */
    const char *scale;   /* "full", "quick", "tiny" */
    unsigned repetitions_min;
    struct bench_software software[BENCH_SOFTWARE_MAX];
    size_t software_count;
    struct bench_row *rows;
    size_t row_count, row_capacity;
    struct bench_aim aims[BENCH_AIMS_MAX];
    size_t aim_count;
    struct bench_measure measures[BENCH_MEASURES_MAX];
    size_t measure_count;
    struct bench_note notes[BENCH_NOTES_MAX];
    size_t note_count;
    struct bench_verdict verdicts[BENCH_VERDICTS_MAX];
    size_t verdict_count;
    unsigned cores; /* of the machine */
};

/* The next row, measure or note, all zero but for the first three fields; NULL: there is no room for more. */
struct bench_row *bench_result_add_row(struct bench_result *result, const struct bench_heading *heading,
                                       const char *engine, const char *mode);
struct bench_measure *bench_result_add_measure(struct bench_result *result, const struct bench_heading *heading,
                                               const char *engine, const char *mode);
struct bench_note *bench_result_add_note(struct bench_result *result, const struct bench_heading *heading,
                                         const char *engine, const char *mode);

/* Whether the row is worth what its aim asks for. */
static inline bool bench_aim_met(const struct bench_aim *aim)
{
    return aim->at_least ? aim->measured >= aim->bound : aim->measured <= aim->bound;
}

#endif
