/* bench.c - measures Cellar beside other stores and beside what the machine can do at best. See docs/benchmarks.md. */
#include "goals.h"
#include "machine.h"
#include "output.h"
#include "output_goals.h"
#include "workload.h"

#include <cellar/error.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>

enum {
    EXIT_USAGE = 1,
    EXIT_MISSED = 1,
    EXIT_FAILED = 2,
};

static const struct bench_scale scale_full = {
    .name = "full",
    .cells = UINT64_C(4) << 20,
    .reads = UINT64_C(1) << 20,
    .appended = 2000000,
    .commits = 20000,
    .durable = 100,
    .written_bytes = UINT64_C(64) << 20,
    .stored_bytes = UINT64_C(256) << 20,
    .read_bytes = UINT64_C(64) << 20,
    .pages = 4096,
    .page_hits = UINT64_C(1) << 19,
    .pending = 100000,
    .space_cells = UINT64_C(1) << 20,
    .growth_min = 100000,
    .growth_max = 100000000,
    .growth_reads = UINT64_C(1) << 18,
    .growth_budget_ns = UINT64_C(120000000000),
    .readers_max = 16,
    .cold_reads = 512,
    .sparse_cells = (UINT64_C(100) << 30) / BENCH_CELL_BYTES,
    .repetitions_min = 9,
    .repetitions_max = 101,
    .budget_ns = UINT64_C(8000000000),
};

static const struct bench_scale scale_quick = {
    .name = "quick",
    .cells = UINT64_C(1) << 20,
    .reads = UINT64_C(1) << 18,
    .appended = 500000,
    .commits = 5000,
    .durable = 20,
    .written_bytes = UINT64_C(16) << 20,
    .stored_bytes = UINT64_C(64) << 20,
    .read_bytes = UINT64_C(16) << 20,
    .pages = 4096,
    .page_hits = UINT64_C(1) << 17,
    .pending = 100000,
    .space_cells = UINT64_C(1) << 18,
    .growth_min = 100000,
    .growth_max = 3000000,
    .growth_reads = UINT64_C(1) << 15,
    .growth_budget_ns = UINT64_C(5000000000),
    .readers_max = 16,
    .cold_reads = 64,
    .sparse_cells = (UINT64_C(100) << 30) / BENCH_CELL_BYTES,
    .repetitions_min = 5,
    .repetitions_max = 51,
    .budget_ns = UINT64_C(700000000),
};

static const struct bench_scale scale_tiny = {
    .name = "tiny",
    .cells = 1024,
    .reads = 256,
    .appended = 1000,
    .commits = 10,
    .durable = 1,
    .written_bytes = 2048,
    .stored_bytes = 4096,
    .read_bytes = 4096,
    .pages = 64,
    .page_hits = 512,
    .pending = 1000,
    .space_cells = 4096,
    .growth_min = 300,
    .growth_max = 1000,
    .growth_reads = 64,
    .growth_budget_ns = UINT64_C(5000000000),
    .readers_max = 2,
    .cold_reads = 8,
    .sparse_cells = 1000000,
    .repetitions_min = 1,
    .repetitions_max = 1,
    .budget_ns = 0,
};

struct options {
    const struct bench_scale *scale;
    const char *only;
    const char *engine;
    const char *mode;
    const char *parent; /* of the directory that the run makes */
    const char *json;
    bool growth;
    bool goals; /* hold the figures against the goals */
    bool done;  /* --help or --version has been answered */
};

static void print_help(FILE *file)
{
    fprintf(file,
            "Usage: bench [OPTION]...\n"
            "Measures Cellar beside other stores and beside what the machine can do at best.\n"
            "\n"
            "  --quick          small stores and few repetitions: under half a minute\n"
            "  --tiny           as little as possible: shows that everything runs, the figures mean nothing\n"
            "  --goals          hold the figures against the goals, three times where it is close, and print a table\n"
            "  --growth         with the workloads of stores that grow, to 10^8 cells: tens of GiB of disk\n"
            "  --only WORKLOAD  only this workload, or if there is none of the name, all that begin so;\n"
            "                   with --goals also those of the goals that begin so\n"
            "  --engine NAME    only this engine\n"
            "  --mode MODE      only this mode, as the tables name it before the brackets, in workloads whose rows\n"
            "                   take turns\n"
            "  --dir DIR        put the stores into a fresh directory in DIR, removed afterwards\n"
            "                   (default: $TMPDIR, or the current directory)\n"
            "  --json FILE      write the result to FILE as well\n"
            "  --help, --version\n"
            "\n"
            "Workloads:\n");
    for (size_t i = 0; i < bench_workload_count; i++)
        fprintf(file, "  %-20s %s\n", bench_workloads[i]->heading.name, bench_workloads[i]->heading.title);
    fprintf(file, "Engines:");
    for (size_t i = 0; i < bench_engine_count; i++)
        fprintf(file, " %s", bench_engines[i]->name);
    fprintf(file, "\n\nExit codes: 0 measured, 1 usage or (with --goals) a goal is missed, 2 a measurement or the "
                  "system failed.\n");
}

static bool wanted(const struct bench_session *session, const struct options *options,
                   const struct bench_workload *workload)
{
    return bench_workload_wanted(session, workload) ||
           (options->goals && options->only != NULL && bench_goals_name(options->only, workload));
}

static int check_names(const struct options *options)
{
    const struct bench_session session = {.only = options->only, .growth = options->growth};
    size_t found = 0;

    for (size_t i = 0; i < bench_workload_count; i++)
        found += wanted(&session, options, bench_workloads[i]);
    if (found == 0) {
        fprintf(stderr, "bench: no workload begins with '%s'; --help lists them\n", options->only);
        return EXIT_USAGE;
    }
    for (size_t i = 0; i < bench_engine_count; i++)
        if (options->engine == NULL || strcmp(options->engine, bench_engines[i]->name) == 0)
            return 0;
    fprintf(stderr, "bench: no engine is called '%s'; --help lists them\n", options->engine);
    return EXIT_USAGE;
}

static int parse_options(int argc, char **argv, struct options *options)
{
    static const struct option known[] = {
        {"quick", no_argument, NULL, 'q'},      {"tiny", no_argument, NULL, 't'},
        {"goals", no_argument, NULL, 'g'},      {"growth", no_argument, NULL, 'G'},
        {"only", required_argument, NULL, 'o'}, {"engine", required_argument, NULL, 'e'},
        {"mode", required_argument, NULL, 'm'}, {"dir", required_argument, NULL, 'd'},
        {"json", required_argument, NULL, 'j'}, {"help", no_argument, NULL, 'h'},
        {"version", no_argument, NULL, 'v'},    {NULL, 0, NULL, 0},
    };
    int option;

    while ((option = getopt_long(argc, argv, "", known, NULL)) != -1) {
        if (option == 'q')
            options->scale = &scale_quick;
        else if (option == 't')
            options->scale = &scale_tiny;
        else if (option == 'g')
            options->goals = true;
        else if (option == 'G')
            options->growth = true;
        else if (option == 'o')
            options->only = optarg;
        else if (option == 'e')
            options->engine = optarg;
        else if (option == 'm')
            options->mode = optarg;
        else if (option == 'd')
            options->parent = optarg;
        else if (option == 'j')
            options->json = optarg;
        else if (option == 'h')
            print_help(stdout);
        else if (option == 'v')
            printf("bench (Cellar) %s\n", cellar_version_string());
        else
            return EXIT_USAGE;
        options->done = options->done || option == 'h' || option == 'v';
    }
    if (optind < argc) {
        fprintf(stderr, "bench: unexpected argument '%s'; see --help\n", argv[optind]);
        return EXIT_USAGE;
    }
    return options->done ? 0 : check_names(options);
}

/* The engines that a bench may be built without. */
static const char *const optional_engines[] = {"lmdb", "sqlite", "rocksdb"};

static bool is_built_in(const char *engine)
{
    for (size_t i = 0; i < bench_engine_count; i++)
        if (strcmp(bench_engines[i]->name, engine) == 0)
            return true;
    return false;
}

static void describe_run(struct bench_session *session)
{
    struct bench_result *result = &session->result;

    result->program = "bench";
    result->scale = session->scale->name;
    result->repetitions_min = session->scale->repetitions_min;
    for (size_t i = 0; i < bench_engine_count; i++)
        if (bench_engines[i]->version != NULL)
            result->software[result->software_count++] =
                (struct bench_software){bench_engines[i]->name, bench_engines[i]->version()};
    for (size_t i = 0; i < sizeof optional_engines / sizeof optional_engines[0]; i++)
        if (!is_built_in(optional_engines[i]))
            result->software[result->software_count++] = (struct bench_software){optional_engines[i], NULL};
}

/* One workload: what it gives, on standard output, and what that means for the goals. */
static int run_workload(struct bench_session *session, const struct options *options,
                        const struct bench_workload *workload)
{
    size_t first_row = session->result.row_count;
    size_t first_measure = session->result.measure_count;
    size_t first_note = session->result.note_count;
    int status = bench_workload_run(session, workload);

    if (status != 0)
        return status;
    bench_output_rows(&session->result, first_row);
    bench_output_measures(&session->result, first_row, first_measure, first_note);
    return bench_goals_judge(session, workload, first_row, first_measure, options->goals);
}

static int run_workloads(struct bench_session *session, const struct options *options)
{
    struct bench_machine machine;
    int status = bench_session_prepare(session);

    if (status < 0) {
        fprintf(stderr, "bench: %s\n", strerror(-status));
        return EXIT_FAILED;
    }
    describe_run(session);
    bench_machine_describe(session->directory, &machine);
    session->result.cores = machine.cores;
    bench_output_machine(&machine, &session->result);
    fflush(stdout);
    for (size_t i = 0; i < bench_workload_count; i++)
        if (wanted(session, options, bench_workloads[i]) && run_workload(session, options, bench_workloads[i]) != 0)
            return EXIT_FAILED;
    if (options->mode != NULL && session->result.row_count == 0) {
        fprintf(stderr, "bench: there is no mode '%s' here\n", options->mode);
        return EXIT_USAGE;
    }
    if (options->goals)
        bench_output_goals(&session->result);
    if (options->json != NULL && bench_output_json(options->json, &machine, &session->result) < 0)
        return EXIT_FAILED;
    return options->goals && bench_goals_missed(&session->result) ? EXIT_MISSED : 0;
}

int main(int argc, char **argv)
{
    struct options options = {.scale = &scale_full, .parent = getenv("TMPDIR")};
    struct bench_session session = {0};
    char directory[256];
    int status = parse_options(argc, argv, &options);
    int made, removed;

    if (status != 0 || options.done)
        return status;
    made = bench_directory_make(options.parent, directory, sizeof directory);
    if (made < 0) {
        fprintf(stderr, "bench: %s: %s\n", options.parent != NULL ? options.parent : ".", strerror(-made));
        return EXIT_FAILED;
    }
    bench_catch_signals();
    session.scale = options.scale;
    session.only = options.only;
    session.engine = options.engine;
    session.mode = options.mode;
    session.growth = options.growth;
    session.directory = directory;
    status = run_workloads(&session, &options);
    bench_session_finish(&session);
    removed = bench_remove_tree(directory);
    if (removed < 0) {
        fprintf(stderr, "bench: %s: %s\n", directory, strerror(-removed));
        status = EXIT_FAILED;
    }
    return status;
}
