/*
 * workloads_growth.c - how cost grows with size: stores from 10^5 to 10^8 cells, filled and then read at random.
 *
 * Each size of each engine is a fresh store; small ones are built several times, so that there are as many samples. A
 * size that would take an engine longer than the scale allows, or more of the disk than is free, is left out, with
 * those above it.
 */
#include "workload.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/statvfs.h>

enum {
    SAMPLES_MIN = 9,
    SAMPLES_MAX = 4096,
    BATCH_CELLS = BENCH_COMMIT_EVERY,
    DISK_BYTES_PER_CELL = 4 * BENCH_CELL_BYTES, /* what an engine may need of the disk for a cell meanwhile, at most */
};

/* What is measured of one engine, and how far it has come. */
struct growth {
    struct bench_session *session;
    const struct bench_workload *workload;
    struct bench_case source;
    bool reads; /* else: appends */
    double built_ns_per_cell;
    double samples_ns[SAMPLES_MAX]; /* for each operation */
    unsigned sample_count;
    uint64_t ops;
};

static void add_sample(struct growth *growth, uint64_t start_ns, uint64_t ops)
{
    if (growth->sample_count < SAMPLES_MAX)
        growth->samples_ns[growth->sample_count++] = (double)(bench_clock_ns() - start_ns) / (double)ops;
    growth->ops += ops;
}

/* Fills the store in batches, a commit after each; they are the samples of appends. */
static int fill(struct growth *growth, uint64_t cells)
{
    struct bench_case *source = &growth->source;
    int status = 0;

    for (uint64_t done = 0; done < cells && status == 0;) {
        uint64_t batch = cells - done < BATCH_CELLS ? cells - done : BATCH_CELLS;
        uint64_t start_ns = bench_clock_ns();

        status = source->engine->append(source->store, &growth->session->source, done, batch, batch);
        if (!growth->reads)
            add_sample(growth, start_ns, batch);
        done += batch;
        if (bench_interrupted)
            return -EINTR;
    }
    return status;
}

/* Draws indices among so many cells; returns what reading them adds up to. */
static uint64_t draw(const struct growth *growth, uint32_t *indices, uint64_t count, uint64_t cells, uint64_t *state)
{
    uint64_t sum = 0;

    for (uint64_t i = 0; i < count; i++) {
        uint64_t cell = bench_random(state) % cells;

        indices[i] = growth->source.spec.first_index + (uint32_t)cell;
        sum += bench_load_first(bench_cell_at(&growth->session->source, cell));
    }
    return sum;
}

/* Reads at random; the first round isn't counted. */
static int read_rounds(struct growth *growth, uint64_t cells)
{
    struct bench_case *source = &growth->source;
    uint64_t reads = growth->session->scale->growth_reads;
    uint32_t *indices = malloc(reads * sizeof indices[0]);
    uint64_t state = cells;
    int status = indices == NULL ? -ENOMEM : 0;

    for (unsigned round = 0; round <= SAMPLES_MIN && status == 0; round++) {
        uint64_t expected = draw(growth, indices, reads, cells, &state);
        uint64_t sum = 0;
        uint64_t start_ns = bench_clock_ns();

        status = source->engine->read_random(source->store, indices, reads, &sum);
        if (round > 0)
            add_sample(growth, start_ns, reads);
        if (status == 0 && sum != expected)
            status = -EBADMSG;
        if (bench_interrupted)
            status = -EINTR;
    }
    free(indices);
    return status;
}

/* One store of so many cells, from its creation to its end. */
static int build_once(struct growth *growth, uint64_t cells)
{
    struct bench_case *source = &growth->source;
    uint64_t start_ns = bench_clock_ns();
    int ended;
    int status;

    source->spec.expected_cells = cells;
    source->spec.expected_bytes = cells * BENCH_CELL_BYTES;
    status = bench_case_create(source);
    if (status == 0)
        status = fill(growth, cells);
    if (status == 0 && growth->reads)
        status = bench_case_reopen_for_read(source);
    if (status == 0 && growth->reads)
        status = read_rounds(growth, cells);
    ended = bench_case_discard(source);
    growth->built_ns_per_cell = (double)(bench_clock_ns() - start_ns) / (double)cells;
    return status != 0 ? status : ended;
}

/* Why this size is left out; NULL: it isn't. */
static const char *find_obstacle(const struct growth *growth, uint64_t cells)
{
    const struct bench_scale *scale = growth->session->scale;
    struct statvfs disk;

    if (growth->built_ns_per_cell * (double)cells > (double)scale->growth_budget_ns)
        return "it would take longer than this scale allows";
    if (statvfs(growth->session->directory, &disk) == 0 &&
        (double)disk.f_bavail * (double)disk.f_frsize < (double)cells * DISK_BYTES_PER_CELL)
        return "the disk is too small";
    return NULL;
}

/* The variant's mode is two: "how it appends; how it reads". */
static void name_mode(const struct growth *growth, char *mode, size_t capacity_bytes)
{
    const char *both = growth->source.variant->mode;
    const char *middle = strstr(both, "; ");
    const char *path = growth->source.data_path;

    if (middle == NULL)
        snprintf(mode, capacity_bytes, "%s", both);
    else if (growth->reads)
        snprintf(mode, capacity_bytes, "%s", middle + 2);
    else
        snprintf(mode, capacity_bytes, "%.*s", (int)(middle - both), both);
    if (path != NULL)
        snprintf(mode + strlen(mode), capacity_bytes - strlen(mode), " [%s]", path);
}

static void add_note(struct growth *growth, uint64_t cells, const char *obstacle)
{
    struct bench_note *note;
    char mode[128];

    name_mode(growth, mode, sizeof mode);
    note =
        bench_result_add_note(&growth->session->result, &growth->workload->heading, growth->source.engine->name, mode);
    if (note != NULL)
        snprintf(note->text, sizeof note->text, "%llu cells and more: %s", (unsigned long long)cells, obstacle);
}

static void add_row(struct growth *growth, uint64_t cells)
{
    const struct bench_case *source = &growth->source;
    struct bench_row *row;
    char mode[128];

    name_mode(growth, mode, sizeof mode);
    row = bench_result_add_row(&growth->session->result, &growth->workload->heading, source->engine->name, mode);
    if (row == NULL)
        return;
    snprintf(row->seen, sizeof row->seen, "%llu cells", (unsigned long long)cells);
    row->figures = bench_summarize(growth->samples_ns, growth->sample_count);
    row->ops = growth->ops;
    row->bytes = growth->ops * BENCH_CELL_BYTES;
    row->cells = cells;
    row->series = source->engine->name;
}

/* One engine, from the smallest store to the largest that is possible. */
static int grow(struct growth *growth)
{
    const struct bench_scale *scale = growth->session->scale;
    int status = 0;

    for (uint64_t cells = scale->growth_min, step = 0; cells <= scale->growth_max && status == 0; step++) {
        const char *obstacle = find_obstacle(growth, cells);

        if (obstacle != NULL) {
            add_note(growth, cells, obstacle);
            break;
        }
        growth->sample_count = 0;
        growth->ops = 0;
        do
            status = build_once(growth, cells);
        while (status == 0 && growth->sample_count < SAMPLES_MIN);
        if (status == 0)
            add_row(growth, cells);
        cells = step % 2 == 0 ? cells * 3 : cells / 3 * 10; /* 1, 3, 10, 30 ... */
    }
    return status;
}

static int measure_growth(struct bench_session *session, const struct bench_workload *workload)
{
    struct growth *growth = malloc(sizeof *growth);
    int status = growth == NULL ? -ENOMEM : 0;

    for (size_t e = 0; e < bench_engine_count; e++)
        for (size_t v = 0; v < bench_engines[e]->variant_count && status == 0; v++) {
            const struct bench_engine *engine = bench_engines[e];

            if (engine->variants[v].operation != BENCH_GROWTH ||
                (session->engine != NULL && strcmp(session->engine, engine->name) != 0))
                continue;
            *growth = (struct growth){.session = session, .workload = workload};
            growth->reads = workload == &bench_growth_read;
            growth->source = (struct bench_case){
                .session = session, .workload = workload, .engine = engine, .variant = &engine->variants[v]};
            growth->source.spec.first_index = session->ordered[0];
            snprintf(growth->source.directory, sizeof growth->source.directory, "%s/%s-%s", session->directory,
                     workload->heading.name, engine->name);
            status = grow(growth);
            if (status != 0)
                bench_case_report(&growth->source, status);
        }
    free(growth);
    return status;
}

const struct bench_workload bench_growth_append = {
    .heading = {"growth-append", "append one 64-byte cell, a commit after every 100,000, to stores of growing size",
                "committed cells are visible to other processes; nothing is durable"},
    .measure = measure_growth,
    .on_demand = true,
};

const struct bench_workload bench_growth_read = {
    .heading = {"growth-read-random", "read one 64-byte cell at a random index of stores of growing size",
                "as warm as the machine's memory has it after the store was filled"},
    .measure = measure_growth,
    .on_demand = true,
};
