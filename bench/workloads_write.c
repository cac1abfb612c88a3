/* workloads_write.c - cells of 64 bytes: bulk append, and one-cell commits, visible or durable. */
#include "workload.h"

static uint64_t append_ops(const struct bench_case *bench_case)
{
    return bench_case->session->scale->appended;
}

/* Every run fills a fresh store. */
static int before_append(void *context)
{
    struct bench_case *bench_case = context;

    bench_case->spec.expected_cells = append_ops(bench_case);
    bench_case->spec.expected_bytes = append_ops(bench_case) * BENCH_CELL_BYTES;
    return bench_case_create(bench_case);
}

static int run_append(void *context)
{
    struct bench_case *bench_case = context;

    return bench_case->engine->append(bench_case->store, &bench_case->session->source, 0, append_ops(bench_case),
                                      BENCH_COMMIT_EVERY);
}

static uint64_t commit_ops(const struct bench_case *bench_case)
{
    return bench_case->session->scale->commits;
}

static uint64_t durable_ops(const struct bench_case *bench_case)
{
    return bench_case->session->scale->durable;
}

/* One store for all runs, sized for them and the warm-up. */
static int prepare_commits(struct bench_case *bench_case)
{
    uint64_t runs = bench_case->session->scale->repetitions_max + 1;

    bench_case->spec.expected_cells = bench_case->workload->ops(bench_case) * runs;
    bench_case->spec.expected_bytes = bench_case->spec.expected_cells * BENCH_CELL_BYTES;
    return bench_case_create(bench_case);
}

static int run_commit(void *context)
{
    struct bench_case *bench_case = context;

    return bench_case->engine->commit(bench_case->store, &bench_case->session->source, commit_ops(bench_case));
}

static int run_commit_durable(void *context)
{
    struct bench_case *bench_case = context;

    return bench_case->engine->commit_durable(bench_case->store, &bench_case->session->source, durable_ops(bench_case));
}

const struct bench_workload bench_append = {
    .heading.name = "append",
    .heading.title = "append one 64-byte cell to a fresh store, a commit after every 100,000",
    .heading.guarantee = "committed cells are visible to other processes; nothing is durable",
    .operation = BENCH_APPEND,
    .ops = append_ops,
    .before = before_append,
    .run = run_append,
    .after = bench_case_discard,
};

const struct bench_workload bench_commit = {
    .heading.name = "commit",
    .heading.title = "append one 64-byte cell and commit it",
    .heading.guarantee = "visible to other processes; not durable",
    .operation = BENCH_COMMIT,
    .ops = commit_ops,
    .prepare = prepare_commits,
    .run = run_commit,
};

const struct bench_workload bench_commit_durable = {
    .heading.name = "commit-durable",
    .heading.title = "append one 64-byte cell and make it durable",
    .heading.guarantee = "durable: survives a power loss",
    .operation = BENCH_COMMIT_DURABLE,
    .ops = durable_ops,
    .prepare = prepare_commits,
    .run = run_commit_durable,
};
