/* pages.c - measures the page cache and the pipeline beside their peers. See docs/benchmarks.md. */
#include "cases.h"
#include "machine.h"
#include "output.h"

#include <cellar/error.h>
#include <getopt.h>
#include <regex.h>
#include <stdio.h>
#include <stdlib.h>

#ifdef BENCH_HAVE_LMDB
#include <lmdb.h>
#endif

enum {
    EXIT_USAGE = 1,
    EXIT_FAILED = 2,
    WORKLOADS_MAX = 32,
};

static const struct pages_scale scale_full = {
    .name = "full",
    .file_pages = 65536,
    .cached_pages = 4096,
    .hits = UINT64_C(1) << 19,
    .misses = 16384,
    .direct = 1024,
    .delayed = 48,
    .pending = 100000,
    .zipf_frames = 256,
    .eager_bytes = UINT64_C(64) << 20,
    .sparse_bytes = UINT64_C(100000000000) / PAGES_BYTES * PAGES_BYTES,
    .memory_seconds = 10.0,
    .repetitions_min = 9,
    .repetitions_max = 101,
    .budget_ns = UINT64_C(6000000000),
};

static const struct pages_scale scale_quick = {
    .name = "quick",
    .file_pages = 16384,
    .cached_pages = 4096,
    .hits = UINT64_C(1) << 17,
    .misses = 4096,
    .direct = 128,
    .delayed = 16,
    .pending = 100000,
    .zipf_frames = 64,
    .eager_bytes = UINT64_C(16) << 20,
    .sparse_bytes = UINT64_C(100000000000) / PAGES_BYTES * PAGES_BYTES,
    .memory_seconds = 1.0,
    .repetitions_min = 3,
    .repetitions_max = 51,
    .budget_ns = UINT64_C(400000000),
};

static const struct pages_scale scale_tiny = {
    .name = "tiny",
    .file_pages = 512,
    .cached_pages = 64,
    .hits = 512,
    .misses = 64,
    .direct = 32,
    .delayed = 4,
    .pending = 1000,
    .zipf_frames = 4,
    .eager_bytes = UINT64_C(1) << 20,
    .sparse_bytes = UINT64_C(100000000000) / PAGES_BYTES * PAGES_BYTES,
    .memory_seconds = 0.05,
    .repetitions_min = 1,
    .repetitions_max = 1,
    .budget_ns = 0,
};

struct options {
    const struct pages_scale *scale;
    const char *parent; /* of the directory that the run makes */
    const char *json;
    regex_t only;
    bool chosen;    /* only holds */
    double seconds; /* below 0: what the scale says */
    bool done;      /* --help or --version has been answered */
};

/* All workloads, in the order of the table. Returns how many. */
static size_t list_workloads(const struct pages_workload *workloads[WORKLOADS_MAX])
{
    static const struct {
        const struct pages_workload *first;
        size_t count;
    } groups[] = {
        {&pages_memory, 1}, /* first: later the process has grown by what is kept for reuse */
        {pages_hits, sizeof pages_hits / sizeof pages_hits[0]},
        {pages_misses, sizeof pages_misses / sizeof pages_misses[0]},
        {pages_zipfs, sizeof pages_zipfs / sizeof pages_zipfs[0]},
        {pages_depths, sizeof pages_depths / sizeof pages_depths[0]},
        {pages_threads, sizeof pages_threads / sizeof pages_threads[0]},
        {pages_pipelines, sizeof pages_pipelines / sizeof pages_pipelines[0]},
        {pages_eagers, sizeof pages_eagers / sizeof pages_eagers[0]},
    };
    size_t count = 0;

    for (size_t group = 0; group < sizeof groups / sizeof groups[0]; group++)
        for (size_t i = 0; i < groups[group].count; i++)
            workloads[count++] = &groups[group].first[i];
    return count;
}

static bool wanted(const struct options *options, const struct pages_workload *workload)
{
    return !options->chosen || regexec(&options->only, workload->heading.name, 0, NULL, 0) == 0;
}

static void print_help(FILE *file)
{
    const struct pages_workload *workloads[WORKLOADS_MAX];
    size_t count = list_workloads(workloads);

    fprintf(file, "Usage: bench_pages [OPTION]...\n"
                  "Measures the page cache and the pipeline beside the kernel's page cache and LMDB.\n"
                  "\n"
                  "  --quick          a small file and few repetitions: under half a minute\n"
                  "  --tiny           as little as possible: shows that everything runs, the figures mean nothing\n"
                  "  --only REGEX     only the workloads whose names match (extended regular expression)\n"
                  "  --seconds N      how long the workload `memory` reads from each device\n"
                  "  --dir DIR        put the files into a fresh directory in DIR, removed afterwards\n"
                  "                   (default: $TMPDIR, or the current directory)\n"
                  "  --json FILE      write the result to FILE as well\n"
                  "  --help, --version\n"
                  "\n"
                  "Workloads:\n");
    for (size_t i = 0; i < count; i++)
        fprintf(file, "  %-16s %s\n", workloads[i]->heading.name, workloads[i]->heading.title);
    fprintf(file, "\nExit codes: 0 measured, 1 usage, 2 a measurement or the system failed.\n");
}

static int choose(struct options *options, const char *pattern)
{
    const struct pages_workload *workloads[WORKLOADS_MAX];
    size_t count = list_workloads(workloads);
    size_t found = 0;

    if (options->chosen)
        regfree(&options->only);
    options->chosen = regcomp(&options->only, pattern, REG_EXTENDED | REG_NOSUB) == 0;
    for (size_t i = 0; i < count && options->chosen; i++)
        found += wanted(options, workloads[i]);
    if (found == 0)
        fprintf(stderr, "bench_pages: no workload matches '%s'; --help lists them\n", pattern);
    return found == 0 ? EXIT_USAGE : 0;
}

static int parse_seconds(const char *text, double *ret_seconds)
{
    char *end;
    double seconds = strtod(text, &end);

    if (end == text || *end != '\0' || !(seconds >= 0.0 && seconds <= 1e6)) {
        fprintf(stderr, "bench_pages: --seconds '%s': no number of seconds\n", text);
        return EXIT_USAGE;
    }
    *ret_seconds = seconds;
    return 0;
}

static int take_option(int option, struct options *options)
{
    if (option == 'q')
        options->scale = &scale_quick;
    else if (option == 't')
        options->scale = &scale_tiny;
    else if (option == 'o')
        return choose(options, optarg);
    else if (option == 's')
        return parse_seconds(optarg, &options->seconds);
    else if (option == 'd')
        options->parent = optarg;
    else if (option == 'j')
        options->json = optarg;
    else if (option == 'h')
        print_help(stdout);
    else if (option == 'v')
        printf("bench_pages (Cellar) %s\n", cellar_version_string());
    else
        return EXIT_USAGE;
    options->done = options->done || option == 'h' || option == 'v';
    return 0;
}

static int parse_options(int argc, char **argv, struct options *options)
{
    static const struct option known[] = {
        {"quick", no_argument, NULL, 'q'},
        {"tiny", no_argument, NULL, 't'},
        {"only", required_argument, NULL, 'o'},
        {"seconds", required_argument, NULL, 's'},
        {"dir", required_argument, NULL, 'd'},
        {"json", required_argument, NULL, 'j'},
        {"help", no_argument, NULL, 'h'},
        {"version", no_argument, NULL, 'v'},
        {NULL, 0, NULL, 0},
    };
    int status = 0;
    int option;

    while (status == 0 && (option = getopt_long(argc, argv, "", known, NULL)) != -1)
        status = take_option(option, options);
    if (status == 0 && optind < argc) {
        fprintf(stderr, "bench_pages: unexpected argument '%s'; see --help\n", argv[optind]);
        return EXIT_USAGE;
    }
    return status;
}

static void describe_run(struct pages_run *run)
{
    struct bench_result *result = &run->result;

    result->program = "bench_pages";
    result->scale = run->scale->name;
    result->repetitions_min = run->scale->repetitions_min;
    result->software[result->software_count++] = (struct bench_software){"cellar", cellar_version_string()};
#ifdef BENCH_HAVE_LMDB
    result->software[result->software_count++] = (struct bench_software){"lmdb", mdb_version(NULL, NULL, NULL)};
#else
    result->software[result->software_count++] = (struct bench_software){"lmdb", NULL};
#endif
}

static int run_workloads(struct pages_run *run, const struct options *options)
{
    const struct pages_workload *workloads[WORKLOADS_MAX];
    size_t count = list_workloads(workloads);
    struct bench_machine machine;
    int error = pages_run_prepare(run);

    if (error < 0) {
        fprintf(stderr, "bench_pages: %s\n", cellar_strerror(error));
        return EXIT_FAILED;
    }
    describe_run(run);
    bench_machine_describe(run->directory, &machine);
    bench_output_machine(&machine, &run->result);
    fflush(stdout);
    for (size_t i = 0; i < count; i++) {
        size_t first_row = run->result.row_count;

        if (!wanted(options, workloads[i]))
            continue;
        if (workloads[i]->measure(run, workloads[i]) != 0)
            return EXIT_FAILED;
        bench_output_rows(&run->result, first_row);
    }
    bench_output_aims(&run->result);
    if (options->json != NULL && bench_output_json(options->json, &machine, &run->result) < 0)
        return EXIT_FAILED;
    return 0;
}

static int run_in_directory(const struct options *options)
{
    struct pages_run run = {.scale = options->scale};
    char directory[256];
    int error = bench_directory_make(options->parent, directory, sizeof directory);
    int status;

    if (error < 0) {
        fprintf(stderr, "bench_pages: %s: %s\n", options->parent != NULL ? options->parent : ".",
                cellar_strerror(error));
        return EXIT_FAILED;
    }
    bench_catch_signals();
    run.directory = directory;
    run.memory_seconds = options->seconds >= 0.0 ? options->seconds : options->scale->memory_seconds;
    status = run_workloads(&run, options);
    pages_run_finish(&run);
    error = bench_remove_tree(directory);
    if (error < 0) {
        fprintf(stderr, "bench_pages: %s: %s\n", directory, cellar_strerror(error));
        status = EXIT_FAILED;
    }
    return status;
}

int main(int argc, char **argv)
{
    struct options options = {.scale = &scale_full, .parent = getenv("TMPDIR"), .seconds = -1.0};
    int status = parse_options(argc, argv, &options);

    if (status == 0 && !options.done)
        status = run_in_directory(&options);
    if (options.chosen)
        regfree(&options.only);
    return status;
}
