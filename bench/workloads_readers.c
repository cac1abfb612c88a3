/*
 * workloads_readers.c - 1 to 16 readers of one store at once, each a thread or a process with a handle of its own (or,
 * where an engine shares one among threads, what it recommends for that).
 *
 * Every reader reads as many cells, so that more readers do more work: perfect scaling is the same time for all of
 * them, and a time for each operation that goes down as readers are added.
 */
#include "crew.h"
#include "workload.h"

#include <errno.h>
#include <stdalign.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

enum {
    CROWDS_MAX = 32, /* rows of a workload */
    TRIED_READS = 1024,
};

static const double target_ns = 5e6; /* what a run of one reader takes, at most */

/* One reader; on lines of its own, in memory that is shared with it. */
struct member {
    alignas(128) void *store; /* of the thread or process that this is */
    uint64_t sum;
};

/* A row: so many readers of an engine's store. */
struct crowd {
    const struct bench_case *source; /* has the store, closed */
    void *base;                      /* that threads share; NULL: none */
    unsigned readers;
    bool processes;
    uint64_t reads; /* of each reader in a run */
    uint64_t expected_sum;
    struct crew *crew;
    struct member *members;
};

static const unsigned reader_counts[] = {1, 2, 4, 8, 16};

/* Where a reader begins in the shuffled indices. */
static uint64_t start_of(const struct crowd *crowd, unsigned number)
{
    return crowd->source->session->scale->cells / crowd->readers * number;
}

/* Opened by the thread or process that will use it. */
static int open_member(void *context, unsigned number)
{
    struct crowd *crowd = context;
    const struct bench_case *source = crowd->source;
    void **store = &crowd->members[number].store;

    if (crowd->base != NULL)
        return source->engine->share_read(crowd->base, store);
    return source->engine->open_read(source->directory, &source->spec, source->variant->setup, store);
}

static int close_member(void *context, unsigned number)
{
    struct crowd *crowd = context;
    void *store = crowd->members[number].store;

    crowd->members[number].store = NULL;
    return crowd->source->engine->close(store);
}

/* The indices from start on, round to the beginning at their end. */
static int read_member(void *context, unsigned number)
{
    struct crowd *crowd = context;
    const struct bench_session *session = crowd->source->session;
    struct member *member = &crowd->members[number];
    uint64_t start = start_of(crowd, number);
    uint64_t until_end = session->scale->cells - start;
    uint64_t first = crowd->reads < until_end ? crowd->reads : until_end;
    uint64_t sum = 0, rest = 0;
    int status = crowd->source->engine->read_random(member->store, session->indices + start, first, &sum);

    if (status == 0 && first < crowd->reads)
        status = crowd->source->engine->read_random(member->store, session->indices, crowd->reads - first, &rest);
    member->sum = sum + rest;
    return status;
}

static int run_crowd(void *context)
{
    struct crowd *crowd = context;

    return crew_run(crowd->crew, read_member, crowd);
}

static int check_crowd(void *context)
{
    struct crowd *crowd = context;
    uint64_t sum = 0;

    for (unsigned i = 0; i < crowd->readers; i++)
        sum += crowd->members[i].sum;
    bench_sink(sum);
    return sum == crowd->expected_sum ? 0 : -EBADMSG;
}

static void expect_sum(struct crowd *crowd)
{
    const struct bench_session *session = crowd->source->session;

    crowd->expected_sum = 0;
    for (unsigned number = 0; number < crowd->readers; number++)
        for (uint64_t i = 0; i < crowd->reads; i++) {
            uint32_t index = session->indices[(start_of(crowd, number) + i) % session->scale->cells];

            crowd->expected_sum +=
                bench_load_first(bench_cell_at(&session->source, index - crowd->source->spec.first_index));
        }
}

static void end_crowd(struct crowd *crowd)
{
    if (crowd->crew != NULL && crowd->members != NULL)
        (void)crew_run(crowd->crew, close_member, crowd);
    crew_close(crowd->crew);
    if (crowd->base != NULL)
        crowd->source->engine->close(crowd->base);
    if (crowd->members != NULL)
        munmap(crowd->members, crowd->readers * sizeof crowd->members[0]);
}

/* The readers open the store and read once. */
static int gather_crowd(struct crowd *crowd)
{
    const struct bench_case *source = crowd->source;
    void *members = mmap(NULL, crowd->readers * sizeof crowd->members[0], PROT_READ | PROT_WRITE,
                         MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    int status;

    if (members == MAP_FAILED)
        return -ENOMEM;
    crowd->members = members;
    expect_sum(crowd);
    status =
        crowd->processes ? crew_open_processes(crowd->readers, &crowd->crew) : crew_open(crowd->readers, &crowd->crew);
    if (status == 0 && !crowd->processes && source->engine->share_read != NULL)
        status = source->engine->open_read(source->directory, &source->spec, source->variant->setup, &crowd->base);
    if (status == 0)
        status = crew_run(crowd->crew, open_member, crowd);
    if (status == 0)
        status = run_crowd(crowd);
    return status == 0 ? check_crowd(crowd) : status;
}

/* How many reads take one reader about target_ns; the same for every number of readers. */
static int choose_reads(struct bench_case *source, uint64_t *ret_reads)
{
    const struct bench_session *session = source->session;
    const struct bench_engine *engine = source->engine;
    uint64_t tried = session->scale->reads < TRIED_READS ? session->scale->reads : TRIED_READS;
    uint64_t start_ns = 0;
    double each_ns, reads;
    uint64_t sum;
    void *store;
    int status = engine->open_read(source->directory, &source->spec, source->variant->setup, &store);

    if (status != 0)
        return status;
    for (int round = 0; round < 2 && status == 0; round++) { /* the first one warms up */
        start_ns = bench_clock_ns();
        status = engine->read_random(store, session->indices, tried, &sum);
    }
    each_ns = (double)(bench_clock_ns() - start_ns + 1) / (double)tried;
    reads = target_ns / each_ns;
    *ret_reads = reads < (double)tried                   ? tried
                 : reads < (double)session->scale->reads ? (uint64_t)reads
                                                         : session->scale->reads;
    engine->close(store);
    return status;
}

/* The engine's store, closed, and what its rows share. */
static int make_store(struct bench_session *session, const struct bench_workload *workload,
                      const struct bench_engine *engine, const struct bench_variant *variant, struct bench_case *source)
{
    int status;

    *source = (struct bench_case){.session = session, .workload = workload, .engine = engine, .variant = variant};
    source->spec = (struct bench_spec){.first_index = session->ordered[0],
                                       .expected_cells = session->scale->cells,
                                       .expected_bytes = session->scale->cells * BENCH_CELL_BYTES};
    snprintf(source->directory, sizeof source->directory, "%s/%s-%s", session->directory, workload->heading.name,
             engine->name);
    status = bench_case_create(source);
    if (status == 0)
        status = engine->append(source->store, &session->source, 0, session->scale->cells, BENCH_COMMIT_EVERY);
    if (status == 0)
        status = engine->close(source->store);
    if (status == 0)
        source->store = NULL;
    return status;
}

static int add_crowds(struct bench_case *source, bool processes, struct crowd *crowds, size_t *crowd_count)
{
    uint64_t reads;
    int status = choose_reads(source, &reads);

    for (size_t i = 0; i < sizeof reader_counts / sizeof reader_counts[0] && status == 0; i++) {
        struct crowd *crowd = &crowds[*crowd_count];

        if (reader_counts[i] > source->session->scale->readers_max || *crowd_count == CROWDS_MAX)
            break;
        *crowd = (struct crowd){.source = source, .readers = reader_counts[i], .processes = processes, .reads = reads};
        status = gather_crowd(crowd);
        ++*crowd_count;
    }
    return status;
}

static void add_row(struct bench_session *session, const struct crowd *crowd, const struct bench_figures *run)
{
    const struct bench_case *source = crowd->source;
    uint64_t ops = crowd->reads * crowd->readers;
    struct bench_row *row =
        bench_result_add_row(&session->result, &source->workload->heading, source->engine->name, source->variant->mode);
    const char *what = crowd->processes ? "processes" : "threads";

    if (row == NULL)
        return;
    if (source->data_path != NULL)
        snprintf(row->mode, sizeof row->mode, "%s, %s: %u [%s]", source->variant->mode, what, crowd->readers,
                 source->data_path);
    else
        snprintf(row->mode, sizeof row->mode, "%s, %s: %u", source->variant->mode, what, crowd->readers);
    row->figures = bench_figures_each(run, ops);
    row->ops = ops * run->repetitions;
    row->bytes = row->ops * BENCH_CELL_BYTES;
    row->readers = crowd->readers;
    row->series = source->engine->name;
    if (crowd->readers > session->result.cores)
        snprintf(row->seen, sizeof row->seen, "more readers than cores");
}

static int time_crowds(struct bench_session *session, struct crowd *crowds, size_t crowd_count)
{
    struct bench_subject subjects[CROWDS_MAX];
    struct bench_figures figures[CROWDS_MAX];
    struct bench_plan plan = {.repetitions_min = session->scale->repetitions_min,
                              .repetitions_max = session->scale->repetitions_max,
                              .budget_ns = session->scale->budget_ns};
    size_t failed = 0;
    int status;

    for (size_t i = 0; i < crowd_count; i++)
        subjects[i] = (struct bench_subject){&crowds[i], NULL, run_crowd, check_crowd, NULL};
    bench_settle(session->directory);
    status = bench_measure(subjects, crowd_count, &plan, figures, &failed);
    if (status != 0)
        bench_case_report(crowds[failed].source, status);
    for (size_t i = 0; i < crowd_count && status == 0; i++)
        add_row(session, &crowds[i], &figures[i]);
    return status;
}

/* Whether an engine's variant has a row in a workload of readers. */
static bool takes_part(const struct bench_session *session, const struct bench_engine *engine,
                       const struct bench_variant *variant, bool processes)
{
    return variant->operation == BENCH_READ_SHARED && !(processes && engine->has_threads) &&
           (session->engine == NULL || strcmp(session->engine, engine->name) == 0);
}

static int measure_readers(struct bench_session *session, const struct bench_workload *workload)
{
    bool processes = workload == &bench_readers_processes;
    struct bench_case sources[CROWDS_MAX];
    struct crowd crowds[CROWDS_MAX];
    size_t source_count = 0, crowd_count = 0;
    int status = 0;

    for (size_t e = 0; e < bench_engine_count; e++)
        for (size_t v = 0; v < bench_engines[e]->variant_count && status == 0; v++) {
            const struct bench_engine *engine = bench_engines[e];
            struct bench_case *source = &sources[source_count];

            if (!takes_part(session, engine, &engine->variants[v], processes))
                continue;
            source_count++;
            status = make_store(session, workload, engine, &engine->variants[v], source);
            if (status == 0)
                status = add_crowds(source, processes, crowds, &crowd_count);
            if (status != 0)
                bench_case_report(source, status);
        }
    if (status == 0 && crowd_count > 0)
        status = time_crowds(session, crowds, crowd_count);
    for (size_t i = 0; i < crowd_count; i++)
        end_crowd(&crowds[i]);
    for (size_t i = 0; i < source_count; i++)
        bench_case_discard(&sources[i]);
    return status;
}

#define WARM "warm: the whole store is in the page cache; time of all readers together"

const struct bench_workload bench_readers_threads = {
    .heading = {"readers-threads", "read one 64-byte cell at a random index, several threads at once", WARM},
    .measure = measure_readers,
};

const struct bench_workload bench_readers_processes = {
    .heading = {"readers-processes", "read one 64-byte cell at a random index, several processes at once", WARM},
    .measure = measure_readers,
};
