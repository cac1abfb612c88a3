/* workloads_space.c - what a store takes of the disk, and how much is written for what is put into it. */
#include "workload.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

enum { DURABLE_RUNS = 10 }; /* times the durable commits of the scale */

/* What one variant gives: bytes for bytes; 0: nothing to be said. */
typedef int take_measure(struct bench_case *bench_case, struct bench_measure *measure);

/* Bytes that this process, with all its threads, has had sent towards the disk, in whole pages; what was taken back
 * before it got there is not in it, nor is the journal of the file system. */
static int read_written_bytes(uint64_t *ret_bytes)
{
    uint64_t written, cancelled;
    int status = bench_io_count("write_bytes", &written);

    if (status == 0)
        status = bench_io_count("cancelled_write_bytes", &cancelled);
    if (status == 0)
        *ret_bytes = written - cancelled;
    return status;
}

static int close_store(struct bench_case *bench_case)
{
    void *store = bench_case->store;
    int status = 0;

    bench_case->store = NULL;
    if (store != NULL)
        status = bench_case->engine->close(store);
    bench_settle(bench_case->session->directory);
    return status;
}

static int measure_space(struct bench_case *bench_case, struct bench_measure *measure)
{
    const struct bench_session *session = bench_case->session;
    uint64_t cells = session->scale->space_cells;
    uint64_t disk_bytes = 0, length_bytes = 0;
    int status = bench_case->engine->append(bench_case->store, &session->source, 0, cells, BENCH_COMMIT_EVERY);

    if (status == 0)
        status = close_store(bench_case);
    if (status == 0)
        status = bench_tree_bytes(bench_case->directory, &disk_bytes, &length_bytes);
    measure->value = (double)disk_bytes / (double)(cells * BENCH_CELL_BYTES);
    snprintf(measure->seen, sizeof measure->seen, "lengths of the files: %.4f",
             (double)length_bytes / (double)(cells * BENCH_CELL_BYTES));
    return status;
}

static int measure_append_writes(struct bench_case *bench_case, struct bench_measure *measure)
{
    const struct bench_session *session = bench_case->session;
    uint64_t cells = session->scale->space_cells;
    uint64_t before = 0, after = 0;
    int status = read_written_bytes(&before);

    if (status == 0)
        status = bench_case->engine->append(bench_case->store, &session->source, 0, cells, BENCH_COMMIT_EVERY);
    if (status == 0)
        status = close_store(bench_case);
    if (status == 0)
        status = read_written_bytes(&after);
    measure->value = (double)(after - before) / (double)(cells * BENCH_CELL_BYTES);
    return status;
}

static uint64_t durable_ops(const struct bench_session *session)
{
    return session->scale->durable * DURABLE_RUNS;
}

static int measure_durable_writes(struct bench_case *bench_case, struct bench_measure *measure)
{
    const struct bench_session *session = bench_case->session;
    uint64_t ops = durable_ops(session);
    uint64_t before = 0, after = 0;
    int status;

    bench_settle(session->directory);
    status = read_written_bytes(&before);
    if (status == 0)
        status = bench_case->engine->commit_durable(bench_case->store, &session->source, ops);
    if (status == 0)
        status = read_written_bytes(&after);
    measure->value = (double)(after - before) / (double)(ops * BENCH_CELL_BYTES);
    return status;
}

static take_measure *measure_of(const struct bench_workload *workload)
{
    return workload == &bench_space           ? measure_space
           : workload == &bench_append_writes ? measure_append_writes
                                              : measure_durable_writes;
}

/* Measures one variant, on a store of its own. */
static int measure_case(struct bench_session *session, struct bench_case *bench_case)
{
    uint64_t cells = bench_case->workload == &bench_durable_writes ? durable_ops(session) : session->scale->space_cells;
    struct bench_measure *added;
    struct bench_measure measure = {.heading = &bench_case->workload->heading, .unit = "ratio"};
    char mode[sizeof measure.mode];
    int status;

    bench_case->spec = (struct bench_spec){
        .first_index = session->ordered[0], .expected_cells = cells, .expected_bytes = cells * BENCH_CELL_BYTES};
    status = bench_case_create(bench_case);
    if (status == 0)
        status = measure_of(bench_case->workload)(bench_case, &measure);
    bench_case_discard(bench_case);
    if (status != 0)
        return status;
    if (bench_case->data_path != NULL)
        snprintf(mode, sizeof mode, "%s [%s]", bench_case->variant->mode, bench_case->data_path);
    else
        snprintf(mode, sizeof mode, "%s", bench_case->variant->mode);
    if (!(measure.value > 0.0)) {
        struct bench_note *note =
            bench_result_add_note(&session->result, measure.heading, bench_case->engine->name, mode);

        if (note != NULL)
            snprintf(note->text, sizeof note->text, "the file system counts nothing here");
        return 0;
    }
    added = bench_result_add_measure(&session->result, measure.heading, bench_case->engine->name, mode);
    if (added != NULL) {
        added->unit = measure.unit;
        added->value = measure.value;
        memcpy(added->seen, measure.seen, sizeof added->seen);
    }
    return 0;
}

static int measure_variants(struct bench_session *session, const struct bench_workload *workload)
{
    int status = 0;

    for (size_t e = 0; e < bench_engine_count; e++)
        for (size_t v = 0; v < bench_engines[e]->variant_count && status == 0; v++) {
            const struct bench_engine *engine = bench_engines[e];
            struct bench_case bench_case = {
                .session = session, .workload = workload, .engine = engine, .variant = &engine->variants[v]};

            if ((workload->operations & 1u << engine->variants[v].operation) == 0 ||
                (session->engine != NULL && strcmp(session->engine, engine->name) != 0))
                continue;
            if (bench_interrupted)
                status = -EINTR;
            snprintf(bench_case.directory, sizeof bench_case.directory, "%s/%s-%s-%zu", session->directory,
                     workload->heading.name, engine->name, v);
            if (status == 0)
                status = measure_case(session, &bench_case);
            if (status != 0)
                bench_case_report(&bench_case, status);
        }
    return status;
}

const struct bench_workload bench_space = {
    .heading = {"space", "bytes on the disk for each byte of 64-byte cells, after close",
                "64 MiB of cells in full runs; blocks that the file system has given, synced"},
    .operations = 1u << BENCH_APPEND,
    .measure = measure_variants,
};

const struct bench_workload bench_append_writes = {
    .heading = {"write-amplification-append", "bytes written for each byte of 64-byte cells, bulk append and close",
                "write_bytes of /proc/self/io, in whole pages, without the file system's journal"},
    .operations = 1u << BENCH_APPEND,
    .measure = measure_variants,
};

const struct bench_workload bench_durable_writes = {
    .heading = {"write-amplification-durable", "bytes written for each byte of 64-byte cells, one a durable commit",
                "write_bytes of /proc/self/io, in whole pages, without the file system's journal"},
    .operations = 1u << BENCH_COMMIT_DURABLE,
    .measure = measure_variants,
};
