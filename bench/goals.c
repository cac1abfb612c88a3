#include "goals.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

enum {
    RUNS = 3,
    MISSES = 2, /* of RUNS make a goal missed */
};

static const double tolerance = 1.05;

/* Where a workload's figures lie in the result. */
struct range {
    const struct bench_result *result;
    size_t first_row, first_measure;
};

/* A figure of a row or of a measure. */
struct found {
    const char *mode; /* NULL: there is none */
    double figure;
};

/* The whole mode, or all of it but the data path in brackets. */
static bool is_mode(const char *mode, const char *wanted)
{
    size_t length;

    if (wanted == NULL)
        return true;
    length = strlen(wanted);
    return strncmp(mode, wanted, length) == 0 && (mode[length] == '\0' || strncmp(mode + length, " [", 2) == 0);
}

/* The first, or the fastest (smallest), figure of an engine in this mode. */
static struct found find_figure(const struct range *range, const char *workload, const char *engine, const char *mode,
                                unsigned readers, bool smallest)
{
    const struct bench_result *result = range->result;
    struct found found = {0};

    for (size_t i = range->first_row; i < result->row_count; i++) {
        const struct bench_row *row = &result->rows[i];

        if (strcmp(row->heading->name, workload) != 0 || strcmp(row->engine, engine) != 0 ||
            !is_mode(row->mode, mode) || (readers != 0 && row->readers != readers))
            continue;
        if (found.mode == NULL || (smallest && row->figures.median_ns < found.figure))
            found = (struct found){row->mode, row->figures.median_ns};
    }
    for (size_t i = range->first_measure; i < result->measure_count; i++) {
        const struct bench_measure *measure = &result->measures[i];

        if (strcmp(measure->heading->name, workload) != 0 || strcmp(measure->engine, engine) != 0 ||
            !is_mode(measure->mode, mode))
            continue;
        if (found.mode == NULL || (smallest && measure->value < found.figure))
            found = (struct found){measure->mode, measure->value};
    }
    return found;
}

static const char *kind_name(enum bench_bound_kind kind)
{
    static const char *const names[] = {"", "limit", "limit+", "peer", "absolute", "scaling"};

    return names[kind];
}

static void describe_bound(const struct bench_goal *goal, const struct bench_bound *bound, char *text,
                           size_t capacity_bytes)
{
    if (bound->text != NULL)
        snprintf(text, capacity_bytes, "%s", bound->text);
    else if (bound->bound <= 0.0)
        text[0] = '\0';
    else if (bound->kind == BENCH_BOUND_LIMIT)
        snprintf(text, capacity_bytes, "<= %g x limit", bound->bound);
    else if (bound->kind == BENCH_BOUND_PEER)
        snprintf(text, capacity_bytes, ">= %g x %s", bound->bound, bound->engine);
    else if (bound->kind == BENCH_BOUND_SCALING)
        snprintf(text, capacity_bytes, ">= %g x limit's scaling", bound->bound);
    else if (strcmp(goal->unit, "bytes") == 0)
        snprintf(text, capacity_bytes, "<= %g KiB", bound->bound / 1024.0);
    else if (strcmp(goal->unit, "ratio") == 0)
        snprintf(text, capacity_bytes, "<= %g", bound->bound);
    else if (bound->bound >= 1e3)
        snprintf(text, capacity_bytes, "<= %g us", bound->bound / 1e3);
    else
        snprintf(text, capacity_bytes, "<= %g ns", bound->bound);
}

/* What is measured against the bound, and by how much it is exceeded. */
static void compare(const struct bench_bound *bound, double figure, struct bench_bound_verdict *verdict)
{
    double reference = verdict->reference;
    double allowed = bound->bound;

    verdict->at_least = bound->kind == BENCH_BOUND_PEER || bound->kind == BENCH_BOUND_SCALING;
    if (bound->kind == BENCH_BOUND_PEER)
        verdict->measured = reference / figure;
    else if (bound->kind == BENCH_BOUND_LIMIT || bound->kind == BENCH_BOUND_SCALING)
        verdict->measured = figure / reference;
    else
        verdict->measured = figure;
    if (bound->kind == BENCH_BOUND_PLUS)
        allowed += reference;
    if (allowed > 0.0 && verdict->moot == NULL)
        verdict->excess = verdict->at_least ? allowed / verdict->measured : verdict->measured / allowed;
}

static struct bench_bound_verdict judge_bound(const struct range *range, const struct bench_goal *goal,
                                              const struct bench_bound *bound, double figure)
{
    struct bench_bound_verdict verdict = {.kind = kind_name(bound->kind), .bound = bound->bound};
    struct found reference = {0};

    describe_bound(goal, bound, verdict.text, sizeof verdict.text);
    if (bound->kind != BENCH_BOUND_ABSOLUTE) {
        const char *engine = bound->kind == BENCH_BOUND_PEER ? bound->engine : BENCH_NAME_LIMIT;

        reference = find_figure(range, goal->workload, engine, bound->mode, goal->readers, true);
        snprintf(verdict.engine, sizeof verdict.engine, "%s", engine);
        if (reference.mode == NULL || !(reference.figure > 0.0)) {
            verdict.moot = "what it is compared with was not measured";
            return verdict;
        }
        snprintf(verdict.mode, sizeof verdict.mode, "%s", reference.mode);
        verdict.reference = reference.figure;
    }
    if (bound->kind == BENCH_BOUND_SCALING) {
        struct found alone = find_figure(range, goal->workload, BENCH_NAME_LIMIT, bound->mode, 1, true);

        verdict.reference = alone.figure / reference.figure;
        if (range->result->cores < goal->readers)
            verdict.moot = "more readers than cores";
    }
    compare(bound, figure, &verdict);
    return verdict;
}

/* The goal by one run; its only run is in runs[0]. */
static struct bench_verdict judge_once(const struct range *range, const struct bench_goal *goal)
{
    struct bench_verdict verdict = {
        .name = goal->name, .row = goal->row, .text = goal->text, .workload = goal->workload, .unit = goal->unit};
    struct found own = find_figure(range, goal->workload, BENCH_NAME_CELLAR, goal->mode, goal->readers, false);

    verdict.run_count = 1;
    if (own.mode == NULL || !(own.figure > 0.0)) {
        verdict.bound_count = 1;
        verdict.bounds[0] = (struct bench_bound_verdict){.kind = kind_name(goal->bounds[0].kind),
                                                         .bound = goal->bounds[0].bound,
                                                         .moot = "Cellar's figure was not measured here"};
        describe_bound(goal, &goal->bounds[0], verdict.bounds[0].text, sizeof verdict.bounds[0].text);
        return verdict;
    }
    snprintf(verdict.mode, sizeof verdict.mode, "%s", own.mode);
    verdict.figure = own.figure;
    if (goal->bounds[0].kind == BENCH_BOUND_SCALING)
        verdict.figure =
            find_figure(range, goal->workload, BENCH_NAME_CELLAR, goal->mode, 1, false).figure / own.figure;
    for (size_t i = 0; i < BENCH_BOUNDS_MAX && goal->bounds[i].kind != BENCH_BOUND_NONE; i++) {
        struct bench_bound_verdict *bound = &verdict.bounds[verdict.bound_count++];

        *bound = judge_bound(range, goal, &goal->bounds[i], verdict.figure);
        if (bound->excess > verdict.runs[0])
            verdict.runs[0] = bound->excess;
        if (strcmp(bound->engine, BENCH_NAME_LIMIT) == 0 && bound->reference > 0.0) {
            verdict.limit = bound->reference;
            snprintf(verdict.limit_mode, sizeof verdict.limit_mode, "%s", bound->mode);
        }
    }
    return verdict;
}

/* The run in the middle is the one shown, with what became of all of them. */
static void conclude(struct bench_verdict *verdict, const struct bench_verdict *runs, unsigned run_count)
{
    unsigned misses = 0;

    for (unsigned run = 0; run < run_count; run++) {
        unsigned below = 0;

        for (unsigned other = 0; other < run_count; other++)
            below +=
                runs[other].runs[0] < runs[run].runs[0] || (runs[other].runs[0] == runs[run].runs[0] && other < run);
        if (below == run_count / 2)
            *verdict = runs[run];
        misses += runs[run].runs[0] > tolerance;
    }
    verdict->word = misses >= MISSES || (run_count == 1 && misses > 0) ? "missed"
                    : verdict->runs[0] > 1.0                           ? "close"
                    : verdict->runs[0] > 0.0                           ? "held"
                                                                       : "moot";
    verdict->run_count = run_count;
    for (unsigned run = 0; run < run_count; run++)
        verdict->runs[run] = runs[run].runs[0];
}

static void judge_all(const struct range *range, const struct bench_workload *workload,
                      struct bench_verdict (*runs)[RUNS], unsigned run)
{
    for (size_t i = 0; i < bench_goal_count; i++)
        if (strcmp(bench_goals[i].workload, workload->heading.name) == 0)
            runs[i][run] = judge_once(range, &bench_goals[i]);
}

/* Over its bound, or so near to it that further runs could say that it is missed. */
static bool any_in_doubt(struct bench_verdict (*runs)[RUNS])
{
    for (size_t i = 0; i < bench_goal_count; i++)
        if (runs[i][0].runs[0] > 1.0 / tolerance)
            return true;
    return false;
}

/* Runs the workload once more, judges by that, and drops what it added. */
static int run_again(struct bench_session *session, const struct bench_workload *workload,
                     struct bench_verdict (*runs)[RUNS], unsigned run)
{
    struct bench_result *result = &session->result;
    const struct range range = {result, result->row_count, result->measure_count};
    size_t note_count = result->note_count;
    int status = bench_workload_run(session, workload);

    if (status == 0)
        judge_all(&range, workload, runs, run);
    result->row_count = range.first_row;
    result->measure_count = range.first_measure;
    result->note_count = note_count;
    return status;
}

int bench_goals_judge(struct bench_session *session, const struct bench_workload *workload, size_t first_row,
                      size_t first_measure, bool repeat)
{
    const struct range range = {&session->result, first_row, first_measure};
    struct bench_verdict(*runs)[RUNS] = calloc(bench_goal_count, sizeof runs[0]);
    int status = runs == NULL ? -ENOMEM : 0;
    bool again = false;

    if (runs == NULL)
        return status;
    judge_all(&range, workload, runs, 0);
    again = repeat && any_in_doubt(runs);
    for (unsigned run = 1; run < RUNS && again && status == 0; run++)
        status = run_again(session, workload, runs, run);
    for (size_t i = 0; i < bench_goal_count && status == 0; i++) {
        struct bench_result *result = &session->result;

        if (strcmp(bench_goals[i].workload, workload->heading.name) == 0 && result->verdict_count < BENCH_VERDICTS_MAX)
            conclude(&result->verdicts[result->verdict_count++], runs[i], again ? RUNS : 1);
    }
    free(runs);
    return status;
}

bool bench_goals_missed(const struct bench_result *result)
{
    for (size_t i = 0; i < result->verdict_count; i++)
        if (strcmp(result->verdicts[i].word, "missed") == 0)
            return true;
    return false;
}

bool bench_goals_name(const char *only, const struct bench_workload *workload)
{
    for (size_t i = 0; i < bench_goal_count; i++)
        if (strncmp(bench_goals[i].name, only, strlen(only)) == 0 &&
            strcmp(bench_goals[i].workload, workload->heading.name) == 0)
            return true;
    return false;
}
