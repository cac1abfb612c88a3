/* workloads_read.c - cells of 64 bytes, read at random and in order from a store that is in memory (page cache). */
#include "workload.h"

#include <errno.h>

/* A store of all the cells, closed and opened for read. */
static int prepare_cells(struct bench_case *bench_case)
{
    const struct bench_session *session = bench_case->session;
    int status;

    bench_case->spec.expected_cells = session->scale->cells;
    bench_case->spec.expected_bytes = session->scale->cells * BENCH_CELL_BYTES;
    status = bench_case_create(bench_case);
    if (status == 0)
        status = bench_case->engine->append(bench_case->store, &session->source, 0, session->scale->cells,
                                            BENCH_COMMIT_EVERY);
    if (status == 0)
        status = bench_case_reopen_for_read(bench_case);
    return status;
}

/* What a read of this cell adds to the sum. */
static uint64_t cell_first(const struct bench_case *bench_case, uint32_t index)
{
    return bench_load_first(bench_cell_at(&bench_case->session->source, index - bench_case->spec.first_index));
}

static int check_sum(void *context)
{
    struct bench_case *bench_case = context;

    bench_sink(bench_case->sum);
    return bench_case->sum == bench_case->expected_sum ? 0 : -EBADMSG;
}

static uint64_t random_ops(const struct bench_case *bench_case)
{
    return bench_case->session->scale->reads;
}

/* The next stretch of the shuffled indices. */
static int before_random(void *context)
{
    struct bench_case *bench_case = context;
    const struct bench_session *session = bench_case->session;
    uint64_t reads = session->scale->reads;

    bench_case->position += reads;
    if (bench_case->position + reads > session->scale->cells)
        bench_case->position = 0;
    bench_case->expected_sum = 0;
    for (uint64_t i = 0; i < reads; i++)
        bench_case->expected_sum += cell_first(bench_case, session->indices[bench_case->position + i]);
    return 0;
}

static int run_random(void *context)
{
    struct bench_case *bench_case = context;
    const struct bench_session *session = bench_case->session;

    return bench_case->engine->read_random(bench_case->store, session->indices + bench_case->position,
                                           session->scale->reads, &bench_case->sum);
}

static uint64_t sequential_ops(const struct bench_case *bench_case)
{
    return bench_case->session->scale->cells;
}

static int before_sequential(void *context)
{
    struct bench_case *bench_case = context;

    if (bench_case->expected_sum == 0)
        for (uint64_t i = 0; i < bench_case->session->scale->cells; i++)
            bench_case->expected_sum += cell_first(bench_case, bench_case->spec.first_index + (uint32_t)i);
    return 0;
}

static int run_sequential(void *context)
{
    struct bench_case *bench_case = context;

    return bench_case->engine->read_sequential(bench_case->store, bench_case->spec.first_index,
                                               bench_case->session->scale->cells, &bench_case->sum);
}

const struct bench_workload bench_read_random = {
    .heading.name = "read-random",
    .heading.title = "read one 64-byte cell at a random index",
    .heading.guarantee = "warm: the whole store is in the page cache",
    .operation = BENCH_READ_RANDOM,
    .ops = random_ops,
    .prepare = prepare_cells,
    .before = before_random,
    .run = run_random,
    .after = check_sum,
};

const struct bench_workload bench_read_sequential = {
    .heading.name = "read-sequential",
    .heading.title = "read one 64-byte cell, in order",
    .heading.guarantee = "warm: the whole store is in the page cache",
    .operation = BENCH_READ_SEQUENTIAL,
    .ops = sequential_ops,
    .prepare = prepare_cells,
    .before = before_sequential,
    .run = run_sequential,
    .after = check_sum,
};
