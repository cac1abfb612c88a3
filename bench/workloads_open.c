/* workloads_open.c - opening a store for read and for write: closed cleanly, small and large, and after a crash. */
#include "workload.h"

#include <errno.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
    OPENED_CELLS = 16384, /* 1 MiB */
    CRASHED_CELLS = 16,   /* that the writer commits which doesn't close */
};

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

/* A store of the scale's sparse_cells, closed. */
static int prepare_large(struct bench_case *bench_case)
{
    const struct bench_engine *engine = bench_case->engine;
    uint64_t cells = bench_case->session->scale->sparse_cells;

    bench_case->spec.expected_cells = cells;
    bench_case->spec.expected_bytes = cells * BENCH_CELL_BYTES;
    if (mkdir(bench_case->directory, 0700) < 0)
        return -errno;
    return engine->create_sparse(bench_case->directory, &bench_case->spec, cells);
}

/* Another process opens the store, commits and is gone. */
static int before_crashed(void *context)
{
    struct bench_case *bench_case = context;
    const struct bench_engine *engine = bench_case->engine;
    pid_t child = fork();
    int ended;

    if (child < 0)
        return -errno;
    if (child == 0) {
        void *store;
        int status = engine->open_write(bench_case->directory, &bench_case->spec, bench_case->variant->setup, &store);

        if (status == 0)
            status = engine->commit(store, &bench_case->session->source, CRASHED_CELLS);
        _exit(status == 0 ? 0 : 1);
    }
    while (waitpid(child, &ended, 0) < 0)
        if (errno != EINTR)
            return -errno;
    return WIFEXITED(ended) && WEXITSTATUS(ended) == 0 ? 0 : -ECHILD;
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

    if (bench_case->engine->data_path != NULL)
        bench_case->data_path = bench_case->engine->data_path(store);
    bench_case->store = NULL;
    return bench_case->engine->close(store);
}

const struct bench_workload bench_open_for_read = {
    .heading.name = "open-read",
    .heading.title = "open a store of 1 MiB for read; the close is not timed",
    .heading.guarantee = "warm: the whole store is in the page cache",
    .operations = 1u << BENCH_OPEN_READ,
    .ops = one_op,
    .prepare = prepare_closed,
    .run = run_open_read,
    .after = close_again,
};

const struct bench_workload bench_open_for_write = {
    .heading.name = "open-write",
    .heading.title = "open a store of 1 MiB for write after a clean close; the close is not timed",
    .heading.guarantee = "ready to append",
    .operations = 1u << BENCH_OPEN_WRITE,
    .ops = one_op,
    .prepare = prepare_closed,
    .run = run_open_write,
    .after = close_again,
};

const struct bench_workload bench_open_large_for_read = {
    .heading.name = "open-read-100GiB",
    .heading.title = "open a store of 100 GiB for read, its cells holes of the file; the close is not timed",
    .heading.guarantee = "warm: the header is in the page cache",
    .operations = 1u << BENCH_OPEN_READ_LARGE,
    .ops = one_op,
    .prepare = prepare_large,
    .run = run_open_read,
    .after = close_again,
};

const struct bench_workload bench_open_large_for_write = {
    .heading.name = "open-write-100GiB",
    .heading.title = "open a store of 100 GiB for write, its cells holes of the file; the close is not timed",
    .heading.guarantee = "ready to append",
    .operations = 1u << BENCH_OPEN_WRITE_LARGE,
    .ops = one_op,
    .prepare = prepare_large,
    .run = run_open_write,
    .after = close_again,
};

const struct bench_workload bench_open_crashed = {
    .heading.name = "open-write-crash",
    .heading.title = "open a store of 1 MiB for write after a process that committed and ended without closing it",
    .heading.guarantee = "ready to append; what was committed is there",
    .operations = 1u << BENCH_OPEN_CRASHED,
    .ops = one_op,
    .prepare = prepare_closed,
    .before = before_crashed,
    .run = run_open_write,
    .after = close_again,
};
