/* workloads_read.c - cells of 64 bytes, read at random and in order, from memory (page cache) and from the disk. */
#include "workload.h"

#include <errno.h>
#include <stdio.h>

enum { COLD_PART = 4 }; /* of the cells, one of so many is read in order from the disk */

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
    const struct bench_scale *scale = bench_case->session->scale;

    return bench_case->workload == &bench_read_cold ? scale->cold_reads : scale->reads;
}

/* Where the indices of the run begin. */
static const uint32_t *next_indices(const struct bench_case *bench_case)
{
    const struct bench_session *session = bench_case->session;

    return (bench_case->workload == &bench_read_ordered ? session->ordered : session->indices) + bench_case->position;
}

/* The next stretch of the indices. */
static int before_random(void *context)
{
    struct bench_case *bench_case = context;
    uint64_t reads = random_ops(bench_case);
    const uint32_t *indices;

    bench_case->position += reads;
    if (bench_case->position + reads > bench_case->session->scale->cells)
        bench_case->position = 0;
    indices = next_indices(bench_case);
    bench_case->expected_sum = 0;
    for (uint64_t i = 0; i < reads; i++)
        bench_case->expected_sum += cell_first(bench_case, indices[i]);
    return 0;
}

static int run_random(void *context)
{
    struct bench_case *bench_case = context;

    return bench_case->engine->read_random(bench_case->store, next_indices(bench_case), random_ops(bench_case),
                                           &bench_case->sum);
}

/* From the disk a part of the store is enough. */
static uint64_t sequential_ops(const struct bench_case *bench_case)
{
    uint64_t cells = bench_case->session->scale->cells;

    return bench_case->workload == &bench_read_sequential_cold ? cells / COLD_PART : cells;
}

static int before_sequential(void *context)
{
    struct bench_case *bench_case = context;

    if (bench_case->expected_sum == 0)
        for (uint64_t i = 0; i < sequential_ops(bench_case); i++)
            bench_case->expected_sum += cell_first(bench_case, bench_case->spec.first_index + (uint32_t)i);
    return 0;
}

static int run_sequential(void *context)
{
    struct bench_case *bench_case = context;

    return bench_case->engine->read_sequential(bench_case->store, bench_case->spec.first_index,
                                               sequential_ops(bench_case), &bench_case->sum);
}

static int close_store(struct bench_case *bench_case)
{
    void *store = bench_case->store;

    bench_case->store = NULL;
    return store != NULL ? bench_case->engine->close(store) : 0;
}

/* Between the runs no store is open: pages that are mapped can't be dropped. */
static int prepare_cold(struct bench_case *bench_case)
{
    int status = prepare_cells(bench_case);

    return status == 0 ? close_store(bench_case) : status;
}

/* Drops what is cached of the store (and of the file that the limit maps instead), then opens it. */
static int before_cold(void *context)
{
    struct bench_case *bench_case = context;
    double peer_resident = 0.0;
    int status = bench_drop_cached(bench_case->directory, &bench_case->resident);

    if (status == 0 && bench_case->spec.peer_cells != NULL)
        status = bench_drop_cached(bench_case->spec.peer_cells, &peer_resident);
    if (status == 0)
        status = bench_case->workload == &bench_read_cold ? before_random(bench_case) : before_sequential(bench_case);
    if (status == 0)
        status = bench_case->engine->open_read(bench_case->directory, &bench_case->spec, bench_case->variant->setup,
                                               &bench_case->store);
    if (bench_case->resident < peer_resident)
        bench_case->resident = peer_resident;
    return status == 0 ? bench_io_count("read_bytes", &bench_case->disk_bytes) : status;
}

static int after_cold(void *context)
{
    struct bench_case *bench_case = context;
    uint64_t disk_bytes = bench_case->disk_bytes;
    int status = bench_io_count("read_bytes", &disk_bytes);
    int closed;

    if (status == 0)
        status = check_sum(bench_case);
    closed = close_store(bench_case);
    snprintf(bench_case->seen, sizeof bench_case->seen, "%.0f bytes from the disk each; %.1f %% in memory before",
             (double)(disk_bytes - bench_case->disk_bytes) / (double)bench_case->workload->ops(bench_case),
             100.0 * bench_case->resident);
    return status != 0 ? status : closed;
}

const struct bench_workload bench_read_random = {
    .heading.name = "read-random",
    .heading.title = "read one 64-byte cell at a random index",
    .heading.guarantee = "warm: the whole store is in the page cache",
    .operations = 1u << BENCH_READ_RANDOM,
    .payload_bytes = BENCH_CELL_BYTES,
    .ops = random_ops,
    .prepare = prepare_cells,
    .before = before_random,
    .run = run_random,
    .after = check_sum,
};

const struct bench_workload bench_read_ordered = {
    .heading.name = "read-ordered",
    .heading.title = "read one 64-byte cell, in order, at an index that comes from data",
    .heading.guarantee = "warm: the whole store is in the page cache",
    .operations = 1u << BENCH_READ_RANDOM,
    .payload_bytes = BENCH_CELL_BYTES,
    .ops = random_ops,
    .prepare = prepare_cells,
    .before = before_random,
    .run = run_random,
    .after = check_sum,
};

const struct bench_workload bench_read_cold = {
    .heading.name = "read-random-cold",
    .heading.title = "read one 64-byte cell at a random index, nothing of the store in memory",
    .heading.guarantee = "cold: synced, dropped from the page cache (POSIX_FADV_DONTNEED), opened anew for each run",
    .operations = 1u << BENCH_READ_RANDOM | 1u << BENCH_READ_RANDOM_COLD,
    .payload_bytes = BENCH_CELL_BYTES,
    .ops = random_ops,
    .prepare = prepare_cold,
    .before = before_cold,
    .run = run_random,
    .after = after_cold,
};

const struct bench_workload bench_read_sequential = {
    .heading.name = "read-sequential",
    .heading.title = "read one 64-byte cell, in order",
    .heading.guarantee = "warm: the whole store is in the page cache",
    .operations = 1u << BENCH_READ_SEQUENTIAL,
    .payload_bytes = BENCH_CELL_BYTES,
    .ops = sequential_ops,
    .prepare = prepare_cells,
    .before = before_sequential,
    .run = run_sequential,
    .after = check_sum,
};

const struct bench_workload bench_read_sequential_cold = {
    .heading.name = "read-sequential-cold",
    .heading.title = "read one 64-byte cell, in order, nothing of the store in memory",
    .heading.guarantee = "cold: synced, dropped from the page cache (POSIX_FADV_DONTNEED), opened anew for each run",
    .operations = 1u << BENCH_READ_SEQUENTIAL,
    .payload_bytes = BENCH_CELL_BYTES,
    .ops = sequential_ops,
    .prepare = prepare_cold,
    .before = before_cold,
    .run = run_sequential,
    .after = after_cold,
};
