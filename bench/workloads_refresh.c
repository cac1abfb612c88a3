/* workloads_refresh.c - a reader that looks again: at nothing new, and at a commit. */
#include "workload.h"

#include <errno.h>

enum {
    LOOKS_EACH = 4,      /* times the commits of the scale: so often a run looks where nothing is new */
    READERS = 32,        /* that look at each commit, one after the other: one clock reading for all */
    ROUNDS_PER_OPS = 64, /* one commit of the scale of so many is made */
};

static uint64_t none_ops(const struct bench_case *bench_case)
{
    return bench_case->session->scale->commits * LOOKS_EACH;
}

static uint64_t rounds(const struct bench_case *bench_case)
{
    return bench_case->session->scale->commits / ROUNDS_PER_OPS + 1;
}

static uint64_t new_ops(const struct bench_case *bench_case)
{
    return rounds(bench_case) * READERS;
}

/* A store with a commit in it, and its readers, which have seen that. */
static int prepare_readers(struct bench_case *bench_case, unsigned reader_count)
{
    const struct bench_engine *engine = bench_case->engine;
    uint64_t runs = bench_case->session->scale->repetitions_max + 1;
    uint64_t news;
    int status;

    bench_case->spec.expected_cells = rounds(bench_case) * runs + 1;
    bench_case->spec.expected_bytes = bench_case->spec.expected_cells * BENCH_CELL_BYTES;
    status = bench_case_create(bench_case);
    if (status == 0)
        status = engine->commit(bench_case->store, &bench_case->session->source, 1);
    if (status == 0)
        status = engine->follow(bench_case->store, bench_case->directory, &bench_case->spec, reader_count);
    if (status == 0)
        status = engine->refresh(bench_case->store, 1, &news);
    return status;
}

static int prepare_none(struct bench_case *bench_case)
{
    return prepare_readers(bench_case, 1);
}

static int run_none(void *context)
{
    struct bench_case *bench_case = context;

    return bench_case->engine->refresh(bench_case->store, none_ops(bench_case), &bench_case->sum);
}

static int prepare_new(struct bench_case *bench_case)
{
    return prepare_readers(bench_case, READERS);
}

/* A commit, then a look of each reader; the looks alone count. */
static int run_new(void *context)
{
    struct bench_case *bench_case = context;
    const struct bench_engine *engine = bench_case->engine;
    int status = 0;

    bench_case->sum = 0;
    bench_case->timed_ns = 0;
    for (uint64_t round = 0; round < rounds(bench_case) && status == 0; round++) {
        uint64_t start_ns;
        uint64_t news = 0;

        status = engine->commit(bench_case->store, &bench_case->session->source, 1);
        start_ns = bench_clock_ns();
        if (status == 0)
            status = engine->refresh(bench_case->store, 1, &news);
        bench_case->timed_ns += bench_clock_ns() - start_ns;
        bench_case->sum += news;
    }
    return status;
}

static int check_none(void *context)
{
    const struct bench_case *bench_case = context;

    return bench_case->sum == 0 ? 0 : -EBADMSG;
}

static int check_new(void *context)
{
    const struct bench_case *bench_case = context;

    return bench_case->sum == new_ops(bench_case) ? 0 : -EBADMSG;
}

const struct bench_workload bench_refresh_none = {
    .heading.name = "refresh-none",
    .heading.title = "a reader looks for a new commit, there is none",
    .heading.guarantee = "follows the commits of another process",
    .operations = 1u << BENCH_REFRESH_NONE,
    .ops = none_ops,
    .prepare = prepare_none,
    .run = run_none,
    .after = check_none,
};

const struct bench_workload bench_refresh_new = {
    .heading.name = "refresh-new",
    .heading.title =
        "a reader looks for a new commit and finds one; 32 readers look at each commit, which is not timed",
    .heading.guarantee = "follows the commits of another process",
    .operations = 1u << BENCH_REFRESH_NEW,
    .ops = new_ops,
    .times_itself = true,
    .prepare = prepare_new,
    .run = run_new,
    .after = check_new,
};
