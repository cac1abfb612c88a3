/* workloads_write.c - cells of 64 bytes: bulk append, and one-cell commits, visible or durable. */
#include "workload.h"

#include <errno.h>
#include <stdlib.h>

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

/* The same store, with room for the times of single operations. */
static int prepare_latencies(struct bench_case *bench_case)
{
    bench_case->latencies_ns = malloc(BENCH_LATENCIES_MAX * sizeof bench_case->latencies_ns[0]);
    return bench_case->latencies_ns == NULL ? -ENOMEM : prepare_commits(bench_case);
}

/* Each operation timed alone; the clock's own time is in it. */
static int run_each(struct bench_case *bench_case, uint64_t ops,
                    int (*commit)(void *store, const struct bench_cells *source, uint64_t count))
{
    int status = 0;

    for (uint64_t i = 0; i < ops && status == 0; i++) {
        uint64_t start_ns = bench_clock_ns();
        uint64_t taken_ns;

        status = commit(bench_case->store, &bench_case->session->source, 1);
        taken_ns = bench_clock_ns() - start_ns;
        if (bench_case->latency_count < BENCH_LATENCIES_MAX)
            bench_case->latencies_ns[bench_case->latency_count++] =
                taken_ns < UINT32_MAX ? (uint32_t)taken_ns : UINT32_MAX;
    }
    return status;
}

static int run_commit_each(void *context)
{
    struct bench_case *bench_case = context;

    return run_each(bench_case, commit_ops(bench_case), bench_case->engine->commit);
}

static int run_durable_each(void *context)
{
    struct bench_case *bench_case = context;

    return run_each(bench_case, durable_ops(bench_case), bench_case->engine->commit_durable);
}

const struct bench_workload bench_append = {
    .heading.name = "append",
    .heading.title = "append one 64-byte cell to a fresh store, a commit after every 100,000",
    .heading.guarantee = "committed cells are visible to other processes; nothing is durable",
    .operations = 1u << BENCH_APPEND,
    .payload_bytes = BENCH_CELL_BYTES,
    .ops = append_ops,
    .before = before_append,
    .run = run_append,
    .after = bench_case_discard,
};

const struct bench_workload bench_commit = {
    .heading.name = "commit",
    .heading.title = "append one 64-byte cell and commit it",
    .heading.guarantee = "visible to other processes; not durable",
    .operations = 1u << BENCH_COMMIT,
    .payload_bytes = BENCH_CELL_BYTES,
    .ops = commit_ops,
    .prepare = prepare_commits,
    .run = run_commit,
};

const struct bench_workload bench_commit_word = {
    .heading.name = "commit-word",
    .heading.title = "append one 64-byte cell and commit it, published by one word",
    .heading.guarantee = "visible to other processes; not durable",
    .operations = 1u << BENCH_COMMIT_WORD,
    .payload_bytes = BENCH_CELL_BYTES,
    .ops = commit_ops,
    .prepare = prepare_commits,
    .run = run_commit,
};

const struct bench_workload bench_commit_word_latency = {
    .heading.name = "commit-word-latency",
    .heading.title = "append one 64-byte cell and commit it, published by one word, each timed alone",
    .heading.guarantee = "visible to other processes; not durable",
    .operations = 1u << BENCH_COMMIT_WORD,
    .payload_bytes = BENCH_CELL_BYTES,
    .ops = commit_ops,
    .prepare = prepare_latencies,
    .run = run_commit_each,
};

const struct bench_workload bench_commit_durable = {
    .heading.name = "commit-durable",
    .heading.title = "append one 64-byte cell and make it durable",
    .heading.guarantee = "durable: survives a power loss",
    .operations = 1u << BENCH_COMMIT_DURABLE,
    .payload_bytes = BENCH_CELL_BYTES,
    .ops = durable_ops,
    .prepare = prepare_commits,
    .run = run_commit_durable,
};

const struct bench_workload bench_commit_latency = {
    .heading.name = "commit-latency",
    .heading.title = "append one 64-byte cell and commit it, each timed alone",
    .heading.guarantee = "visible to other processes; not durable",
    .operations = 1u << BENCH_COMMIT,
    .payload_bytes = BENCH_CELL_BYTES,
    .ops = commit_ops,
    .prepare = prepare_latencies,
    .run = run_commit_each,
};

const struct bench_workload bench_durable_latency = {
    .heading.name = "durable-latency",
    .heading.title = "append one 64-byte cell and make it durable, each timed alone",
    .heading.guarantee = "durable: survives a power loss",
    .operations = 1u << BENCH_COMMIT_DURABLE,
    .payload_bytes = BENCH_CELL_BYTES,
    .ops = durable_ops,
    .prepare = prepare_latencies,
    .run = run_durable_each,
};
