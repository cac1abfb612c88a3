/*
 * goals.h - the figures that Cellar is to reach, and whether a run did.
 *
 * A goal is one figure of one row of Cellar's, held against bounds: the limit of the same workload, its peers, or a
 * number. The excess of a bound is 1 where it is just reached, 1.05 where it is missed by 5 %, less than 1 where there
 * is room. A goal that comes within 5 % of its bound, or over it, is measured three times, and with it all others of
 * its workload; it is missed where it is over 1.05 in two of them.
 */
#ifndef BENCH_GOALS_H
#define BENCH_GOALS_H

#include "workload.h"

enum bench_bound_kind {
    BENCH_BOUND_NONE = 0,
    BENCH_BOUND_LIMIT,    /* figure <= bound * the limit's */
    BENCH_BOUND_PLUS,     /* figure <= bound + the limit's */
    BENCH_BOUND_PEER,     /* the peer's figure >= bound * figure */
    BENCH_BOUND_ABSOLUTE, /* figure <= bound */
    BENCH_BOUND_SCALING,  /* speed with so many readers, times that of one: >= bound * the limit's own */
};

struct bench_bound {
    enum bench_bound_kind kind;
    double bound;       /* 0: what it is compared with is shown, and can't be missed */
    const char *engine; /* of a peer */
    const char *mode;   /* of the row that it is compared with; NULL: that engine's fastest */
    const char *text;   /* how to say it; NULL: as it is computed */
};

struct bench_goal {
    const char *name;
    unsigned row; /* of the table of goals, from 1 */
    const char *text;
    const char *workload;
    const char *mode; /* of Cellar's row; NULL: its first */
    const char *unit; /* "ns"; "bytes" and "ratio" of measures; "times" of scaling */
    unsigned readers; /* of the row; 0: any */
    struct bench_bound bounds[BENCH_BOUNDS_MAX];
};

extern const struct bench_goal bench_goals[];
extern const size_t bench_goal_count;

/* Whether `only` names a goal of this workload, or begins the name of one. */
bool bench_goals_name(const char *only, const struct bench_workload *workload);

/*
 * Judges the goals of a workload by its rows and measures in the session's result, which begin at those numbers; with
 * repeat, where one is missed or nearly, by running the workload twice more, whose rows are dropped. 0, or an error
 * that has been reported.
 */
int bench_goals_judge(struct bench_session *session, const struct bench_workload *workload, size_t first_row,
                      size_t first_measure, bool repeat);

/* Whether one of the goals judged is missed. */
bool bench_goals_missed(const struct bench_result *result);

#endif
