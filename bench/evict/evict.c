/* evict.c - replays page traces through the policies of the cache, beside LRU and the optimum. See docs/eviction.md. */
#include "replay.h"
#include "report.h"
#include "trace.h"

#include <errno.h>
#include <getopt.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum {
    EXIT_USAGE = 1,
    EXIT_FAILED = 2,
    TRACES_MAX = 32,
};

static const struct evict_scale scale_full = {.page_count = 10000, .use_count = 200000};
static const struct evict_scale scale_quick = {.page_count = 600, .use_count = 6000};

struct options {
    struct evict_scale scale;
    const char *folder; /* of the recorded traces */
    const char *only;
    const char *json;
    bool markdown;
    bool done; /* --help has been answered */
};

struct run {
    struct evict_result results[TRACES_MAX];
    size_t count;
    double seconds[EVICT_POLICIES_MAX]; /* that a policy took in all */
    uint64_t uses, misses[EVICT_POLICIES_MAX];
};

static void print_help(void)
{
    printf("Usage: evict [OPTION]...\n"
           "Replays page traces through the policies of the cache, beside LRU and the optimum.\n"
           "\n"
           "  --quick          small generated traces\n"
           "  --only NAME      only the trace of this name\n"
           "  --traces FOLDER  where the recorded traces are (default: beside the source)\n"
           "  --markdown       print the tables of docs/eviction.md, and nothing else\n"
           "  --json FILE      write the misses to FILE as well\n"
           "  --help\n"
           "\n"
           "Exit codes: 0 done, 1 usage, 2 a trace can't be read, or a policy missed less often than the optimum.\n");
}

static int parse_options(int argc, char **argv, struct options *options)
{
    static const struct option known[] = {
        {"quick", no_argument, NULL, 'q'},
        {"only", required_argument, NULL, 'o'},
        {"traces", required_argument, NULL, 't'},
        {"markdown", no_argument, NULL, 'm'},
        {"json", required_argument, NULL, 'j'},
        {"help", no_argument, NULL, 'h'},
        {NULL, 0, NULL, 0},
    };
    int option;

    while ((option = getopt_long(argc, argv, "", known, NULL)) != -1) {
        if (option == 'q')
            options->scale = scale_quick;
        else if (option == 'o')
            options->only = optarg;
        else if (option == 't')
            options->folder = optarg;
        else if (option == 'm')
            options->markdown = true;
        else if (option == 'j')
            options->json = optarg;
        else if (option == 'h')
            print_help();
        else
            return EXIT_USAGE;
        options->done = options->done || option == 'h';
    }
    if (optind < argc) {
        fprintf(stderr, "evict: unexpected argument '%s'; see --help\n", argv[optind]);
        return EXIT_USAGE;
    }
    return 0;
}

static double now_seconds(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

/* One trace, one size of the cache, every policy. */
static int replay_all(struct run *run, const struct evict_trace *trace, size_t cache_pages, uint64_t *ret_misses)
{
    for (size_t policy = 0; policy < evict_policy_count; policy++) {
        const double start = now_seconds();
        int status = evict_policies[policy]->replay(trace, cache_pages, &ret_misses[policy]);

        if (status < 0) {
            fprintf(stderr, "evict: %s\n", strerror(-status));
            return EXIT_FAILED;
        }
        run->seconds[policy] += now_seconds() - start;
        run->misses[policy] += ret_misses[policy];
        if (ret_misses[policy] < ret_misses[EVICT_OPT]) {
            fprintf(stderr, "evict: %s, %zu pages: %s misses less often than the optimum\n", trace->name, cache_pages,
                    evict_policies[policy]->name);
            return EXIT_FAILED;
        }
    }
    run->uses += trace->use_count;
    return 0;
}

static int replay_trace(struct run *run, const struct evict_trace *trace)
{
    struct evict_result *result = &run->results[run->count++];
    int status = 0;

    *result = (struct evict_result){
        .name = trace->name, .what = trace->what, .use_count = trace->use_count, .page_count = trace->page_count};
    for (size_t size = 0; size < EVICT_SIZES && status == 0; size++) {
        const size_t pages = trace->page_count * evict_percents[size] / 100;

        result->cache_pages[size] = pages > 0 ? pages : 1;
        status = replay_all(run, trace, result->cache_pages[size], result->misses[size]);
    }
    return status;
}

static int run_traces(struct run *run, const struct options *options)
{
    const size_t total = evict_generator_count + evict_recorded_count;
    int status = 0;

    for (size_t i = 0; i < total && i < TRACES_MAX && status == 0; i++) {
        struct evict_trace trace;
        int error = i < evict_generator_count ? evict_trace_generate(i, &options->scale, &trace)
                                              : evict_trace_read(options->folder, i - evict_generator_count, &trace);

        if (error < 0) {
            fprintf(stderr, "evict: %s: trace %zu: %s\n", options->folder, i, strerror(-error));
            return EXIT_FAILED;
        }
        if (options->only == NULL || strcmp(options->only, trace.name) == 0)
            status = replay_trace(run, &trace);
        evict_trace_free(&trace);
    }
    return status;
}

/* Of the simulation, lookups and all: what differs between the policies is theirs. */
static void print_times(const struct run *run)
{
    printf("time of a use in nanoseconds, the look for the page included (all traces and sizes)\n  %10s", "");
    for (size_t policy = 0; policy < evict_policy_count; policy++)
        printf("  %17.1f", run->seconds[policy] * 1e9 / (double)run->uses);
    putchar('\n');
}

int main(int argc, char **argv)
{
    static struct run run;
    struct options options = {.scale = scale_full, .folder = EVICT_TRACES};
    int status = parse_options(argc, argv, &options);
    int error;

    if (status != 0 || options.done)
        return status;
    status = run_traces(&run, &options);
    if (status != 0)
        return status;
    if (run.count == 0) {
        fprintf(stderr, "evict: no trace is called '%s'\n", options.only);
        return EXIT_USAGE;
    }
    if (options.markdown) {
        evict_report_markdown(run.results, run.count);
    } else {
        evict_report_text(run.results, run.count);
        print_times(&run);
    }
    error = options.json != NULL ? evict_report_json(options.json, run.results, run.count) : 0;
    if (error < 0 || fflush(stdout) != 0) {
        fprintf(stderr, "evict: %s: %s\n", options.json != NULL ? options.json : "standard output",
                strerror(error < 0 ? -error : errno));
        return EXIT_FAILED;
    }
    return 0;
}
