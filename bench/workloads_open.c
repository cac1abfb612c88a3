/* workloads_open.c - opening a store that was closed cleanly, for read and for write; the close is not timed. */
#include "workload.h"

enum { OPENED_CELLS = 16384 }; /* 1 MiB */

static uint64_t one_op(const struct bench_case *bench_case)
{
    (void)bench_case;
    return 1;
}

/* A store of 1 MiB, closed. */
static int prepare_closed(struct bench_case *bench_case)
{
    const struct bench_engine *engine = bench_case->engine;
    int status;

    bench_case->spec.expected_cells = OPENED_CELLS;
    bench_case->spec.expected_bytes = (uint64_t)OPENED_CELLS * BENCH_CELL_BYTES;
    status = bench_case_create(bench_case);
    if (status == 0)
        status = engine->append(bench_case->store, &bench_case->session->source, 0, OPENED_CELLS, BENCH_COMMIT_EVERY);
    if (status == 0)
        status = engine->close(bench_case->store);
    if (status == 0)
        bench_case->store = NULL;
    return status;
}

static int run_open_read(void *context)
{
    struct bench_case *bench_case = context;

    return bench_case->engine->open_read(bench_case->directory, &bench_case->spec, bench_case->variant->setup,
                                         &bench_case->store);
}

static int run_open_write(void *context)
{
    struct bench_case *bench_case = context;

    return bench_case->engine->open_write(bench_case->directory, &bench_case->spec, bench_case->variant->setup,
                                          &bench_case->store);
}

static int close_again(void *context)
{
    struct bench_case *bench_case = context;
    void *store = bench_case->store;

    bench_case->store = NULL;
    return bench_case->engine->close(store);
}

const struct bench_workload bench_open_for_read = {
    .heading.name = "open-read",
    .heading.title = "open a store of 1 MiB for read; the close is not timed",
    .heading.guarantee = "warm: the whole store is in the page cache",
    .operation = BENCH_OPEN_READ,
    .ops = one_op,
    .prepare = prepare_closed,
    .run = run_open_read,
    .after = close_again,
};

const struct bench_workload bench_open_for_write = {
    .heading.name = "open-write",
    .heading.title = "open a store of 1 MiB for write after a clean close; the close is not timed",
    .heading.guarantee = "ready to append",
    .operation = BENCH_OPEN_WRITE,
    .ops = one_op,
    .prepare = prepare_closed,
    .run = run_open_write,
    .after = close_again,
};
