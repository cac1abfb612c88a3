/* workload.c - runs a workload: a case for each variant, side by side, on stores of their own. */
#include "workload.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

enum {
    CASES_MAX = 32,
    ROWS_MAX = 4096,
    SOURCE_CELLS = 4096, /* 256 KiB: fits the second-level cache */
};

const struct bench_workload *const bench_workloads[] = {
    &bench_read_random,
    &bench_read_ordered,
    &bench_read_sequential,
    &bench_read_cold,
    &bench_read_sequential_cold,
    &bench_readers_threads,
    &bench_readers_processes,
    &bench_append,
    &bench_commit,
    &bench_commit_latency,
#ifdef BENCH_HAVE_WORD
    &bench_commit_word,
    &bench_commit_word_latency,
#endif
    &bench_commit_durable,
    &bench_durable_latency,
    &bench_refresh_none,
    &bench_refresh_new,
    &bench_hash,
    &bench_value_workloads[0],
    &bench_value_workloads[1],
    &bench_value_workloads[2],
    &bench_value_workloads[3],
    &bench_value_workloads[4],
    &bench_value_workloads[5],
    &bench_value_workloads[6],
    &bench_value_workloads[7],
    &bench_value_workloads[8],
    &bench_pages_workloads[0],
    &bench_pages_workloads[1],
    &bench_pages_workloads[2],
    &bench_pages_workloads[3],
    &bench_pages_workloads[4],
    &bench_open_for_read,
    &bench_open_for_write,
    &bench_open_large_for_read,
    &bench_open_large_for_write,
    &bench_open_crashed,
    &bench_space,
    &bench_append_writes,
    &bench_durable_writes,
    &bench_size,
    &bench_growth_append,
    &bench_growth_read,
};

const size_t bench_workload_count = sizeof bench_workloads / sizeof bench_workloads[0];

static void fill_random(unsigned char *bytes, size_t length_bytes, uint64_t *state)
{
    for (size_t at = 0; at + sizeof(uint64_t) <= length_bytes; at += sizeof(uint64_t)) {
        uint64_t word = bench_random(state);
        memcpy(bytes + at, &word, sizeof word);
    }
}

/* The index of the first cell is the same in every engine: the one that follows a header of 256 bytes. */
static uint32_t first_cell_index(void)
{
    return 256 / BENCH_CELL_BYTES;
}

int bench_session_prepare(struct bench_session *session)
{
    uint64_t cells = session->scale->cells;
    uint64_t state = 1;
    unsigned char *source = aligned_alloc(BENCH_CELL_BYTES, (size_t)SOURCE_CELLS * BENCH_CELL_BYTES);

    session->source = (struct bench_cells){.bytes = source, .cell_count = SOURCE_CELLS};
    session->value = malloc(BENCH_VALUE_BYTES_MAX);
    session->copy = malloc(BENCH_VALUE_BYTES_MAX);
    session->indices = malloc(cells * sizeof session->indices[0]);
    session->ordered = malloc(cells * sizeof session->ordered[0]);
    session->result.row_capacity = ROWS_MAX;
    session->result.rows = calloc(session->result.row_capacity, sizeof session->result.rows[0]);
    if (source == NULL || session->value == NULL || session->copy == NULL || session->indices == NULL ||
        session->ordered == NULL || session->result.rows == NULL)
        return -ENOMEM;
    fill_random(source, (size_t)SOURCE_CELLS * BENCH_CELL_BYTES, &state);
    fill_random(session->value, BENCH_VALUE_BYTES_MAX, &state);
    memset(session->copy, 0, BENCH_VALUE_BYTES_MAX);
    for (uint64_t i = 0; i < cells; i++)
        session->ordered[i] = session->indices[i] = (uint32_t)i + first_cell_index();
    for (uint64_t i = cells - 1; i > 0; i--) {
        uint64_t other = bench_random(&state) % (i + 1);
        uint32_t index = session->indices[i];

        session->indices[i] = session->indices[other];
        session->indices[other] = index;
    }
    return 0;
}

void bench_session_finish(struct bench_session *session)
{
    free((void *)(uintptr_t)session->source.bytes);
    free(session->value);
    free(session->copy);
    free(session->indices);
    free(session->ordered);
    free(session->result.rows);
}

bool bench_workload_wanted(const struct bench_session *session, const struct bench_workload *workload)
{
    if (session->only == NULL)
        return session->growth || !workload->on_demand;
    for (size_t i = 0; i < bench_workload_count; i++)
        if (strcmp(bench_workloads[i]->heading.name, session->only) == 0)
            return workload == bench_workloads[i];
    return strncmp(workload->heading.name, session->only, strlen(session->only)) == 0;
}

int bench_case_create(struct bench_case *bench_case)
{
    int status;

    if (mkdir(bench_case->directory, 0700) < 0)
        return -errno;
    status = bench_case->engine->create(bench_case->directory, &bench_case->spec, bench_case->variant->setup,
                                        &bench_case->store);
    if (status == 0 && bench_case->engine->data_path != NULL)
        bench_case->data_path = bench_case->engine->data_path(bench_case->store);
    return status;
}

int bench_case_discard(void *context)
{
    struct bench_case *bench_case = context;
    int status = bench_case->store != NULL ? bench_case->engine->close(bench_case->store) : 0;
    int removed = bench_remove_tree(bench_case->directory);

    bench_case->store = NULL;
    return status != 0 ? status : removed;
}

int bench_case_reopen_for_read(struct bench_case *bench_case)
{
    const struct bench_engine *engine = bench_case->engine;
    int status = engine->close(bench_case->store);

    bench_case->store = NULL;
    if (status == 0)
        status =
            engine->open_read(bench_case->directory, &bench_case->spec, bench_case->variant->setup, &bench_case->store);
    if (status == 0 && engine->data_path != NULL)
        bench_case->data_path = engine->data_path(bench_case->store);
    return status;
}

/* Ends a case for good. */
static void end_case(struct bench_case *bench_case)
{
    bench_case_discard(bench_case);
    free(bench_case->names);
    free(bench_case->latencies_ns);
}

void bench_case_report(const struct bench_case *bench_case, int status)
{
    if (status == -EINTR)
        fprintf(stderr, "bench: interrupted\n");
    else
        fprintf(stderr, "bench: %s, %s (%s): %s\n", bench_case->workload->heading.name, bench_case->engine->name,
                bench_case->variant->mode, bench_case->engine->explain(status));
}

/* One round that isn't counted: it warms up, and shows whether the case can run here (BENCH_SKIP: it can't). */
static int try_case(struct bench_case *bench_case)
{
    const struct bench_workload *workload = bench_case->workload;
    int status = workload->prepare != NULL ? workload->prepare(bench_case) : 0;

    if (status == 0 && workload->before != NULL)
        status = workload->before(bench_case);
    if (status == 0)
        status = workload->run(bench_case);
    if (status == 0 && workload->after != NULL)
        status = workload->after(bench_case);
    bench_case->latency_count = 0;
    return status;
}

/* Prepares the next case, with the file of the same cells ("" where there is none); those that can't run here are left
 * out. */
static int add_case(struct bench_session *session, const struct bench_workload *workload,
                    const struct bench_engine *engine, const struct bench_variant *variant, const char *peer_cells,
                    struct bench_case *cases, size_t *case_count)
{
    struct bench_case *added = &cases[*case_count];
    int status = 0;
    int length;

    *added = (struct bench_case){
        .session = session,
        .workload = workload,
        .engine = engine,
        .variant = variant,
        .spec = {.first_index = first_cell_index()},
    };
    if (peer_cells[0] != '\0') {
        snprintf(added->peer_cells, sizeof added->peer_cells, "%s", peer_cells);
        added->spec.peer_cells = added->peer_cells;
    }
    length = snprintf(added->directory, sizeof added->directory, "%s/%s-%zu", session->directory,
                      workload->heading.name, *case_count);
    if (length <= 0 || (size_t)length >= sizeof added->directory)
        status = -ENAMETOOLONG;
    if (status == 0)
        status = try_case(added);
    if (status == 0) {
        ++*case_count;
        return 0;
    }
    end_case(added);
    if (status == BENCH_SKIP)
        return 0;
    bench_case_report(added, status);
    return status;
}

static bool is_wanted(const struct bench_session *session, const struct bench_workload *workload,
                      const struct bench_variant *variant)
{
    return (workload->operations & 1u << variant->operation) != 0 &&
           (session->mode == NULL || strcmp(variant->mode, session->mode) == 0);
}

static int add_cases(struct bench_session *session, const struct bench_workload *workload, struct bench_case *cases,
                     size_t *case_count)
{
    char peer_cells[1024] = "";
    int status = 0;

    for (size_t e = 0; e < bench_engine_count && status == 0; e++) {
        const struct bench_engine *engine = bench_engines[e];
        size_t first_case = *case_count;

        if (session->engine != NULL && strcmp(session->engine, engine->name) != 0)
            continue;
        for (size_t v = 0; v < engine->variant_count && status == 0 && *case_count < CASES_MAX; v++)
            if (is_wanted(session, workload, &engine->variants[v]))
                status = add_case(session, workload, engine, &engine->variants[v], peer_cells, cases, case_count);
        if (engine->cells_file != NULL && *case_count > first_case)
            snprintf(peer_cells, sizeof peer_cells, "%s/%s", cases[first_case].directory, engine->cells_file);
    }
    return status;
}

static int compare_latencies(const void *left, const void *right)
{
    uint32_t a = *(const uint32_t *)left;
    uint32_t b = *(const uint32_t *)right;

    return (a > b) - (a < b);
}

/* The latency below which a part (0..1) of the sorted ones lies. */
static double latency_at(const struct bench_case *bench_case, double part)
{
    uint64_t at = (uint64_t)(part * (double)bench_case->latency_count);

    return bench_case->latencies_ns[at < bench_case->latency_count ? at : bench_case->latency_count - 1];
}

static struct bench_latency summarize_latencies(struct bench_case *bench_case)
{
    if (bench_case->latency_count == 0)
        return (struct bench_latency){0};
    qsort(bench_case->latencies_ns, bench_case->latency_count, sizeof bench_case->latencies_ns[0], compare_latencies);
    return (struct bench_latency){.samples = bench_case->latency_count,
                                  .p50_ns = latency_at(bench_case, 0.5),
                                  .p99_ns = latency_at(bench_case, 0.99),
                                  .p999_ns = latency_at(bench_case, 0.999),
                                  .max_ns = latency_at(bench_case, 1.0)};
}

static void add_row(struct bench_session *session, struct bench_case *bench_case, const struct bench_figures *run)
{
    const struct bench_workload *workload = bench_case->workload;
    uint64_t ops = workload->ops(bench_case);
    struct bench_row *row =
        bench_result_add_row(&session->result, &workload->heading, bench_case->engine->name, bench_case->variant->mode);

    if (row == NULL)
        return;
    row->figures = bench_figures_each(run, ops);
    row->ops = ops * run->repetitions;
    row->bytes = row->ops * workload->payload_bytes;
    row->latency = summarize_latencies(bench_case);
    if (bench_case->data_path != NULL)
        snprintf(row->mode, sizeof row->mode, "%s [%s]", bench_case->variant->mode, bench_case->data_path);
    snprintf(row->seen, sizeof row->seen, "%s", bench_case->seen);
}

static int measure_cases(struct bench_session *session, const struct bench_workload *workload, struct bench_case *cases,
                         size_t case_count)
{
    struct bench_subject subjects[CASES_MAX];
    struct bench_figures figures[CASES_MAX];
    struct bench_plan plan = {
        .repetitions_min = session->scale->repetitions_min,
        .repetitions_max = session->scale->repetitions_max,
        .budget_ns = session->scale->budget_ns,
    };
    size_t failed = 0;
    int status;

    for (size_t i = 0; i < case_count; i++)
        subjects[i] = (struct bench_subject){&cases[i], workload->before, workload->run, workload->after,
                                             workload->times_itself ? &cases[i].timed_ns : NULL};
    bench_settle(session->directory);
    status = bench_measure(subjects, case_count, &plan, figures, &failed);
    if (status != 0)
        bench_case_report(&cases[failed], status);
    for (size_t i = 0; i < case_count && status == 0; i++)
        add_row(session, &cases[i], &figures[i]);
    return status;
}

int bench_workload_run(struct bench_session *session, const struct bench_workload *workload)
{
    struct bench_case cases[CASES_MAX];
    size_t case_count = 0;
    int status;

    if (workload->measure != NULL)
        return workload->measure(session, workload);
    status = add_cases(session, workload, cases, &case_count);
    if (status == 0 && case_count > 0)
        status = measure_cases(session, workload, cases, case_count);
    for (size_t i = 0; i < case_count; i++)
        end_case(&cases[i]);
    return status;
}
