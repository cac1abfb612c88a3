/* workloads_pages.c - rows of bench_pages that are rows of this bench, too: hits of the cache, and the pipeline. */
#include "workload.h"

#include "run.h"

#include <errno.h>
#include <stdio.h>
#include <sys/stat.h>

/* The same work as that workload of bench_pages. */
static const struct pages_workload *source_of(const struct bench_workload *workload)
{
    const struct pages_workload *const sources[] = {&pages_hits[0],     &pages_hits[1],      &pages_hits[2],
                                                    &pages_hits[3],     &pages_pipelines[0], &pages_pipelines[1],
                                                    &pages_pipelines[2]};

    for (size_t i = 0; i < sizeof sources / sizeof sources[0]; i++)
        if (strcmp(sources[i]->heading.name, workload->heading.name) == 0)
            return sources[i];
    return NULL;
}

static int copy_rows(struct bench_session *session, const struct bench_workload *workload,
                     const struct bench_result *from)
{
    for (size_t i = 0; i < from->row_count; i++) {
        const struct bench_row *row = &from->rows[i];
        struct bench_row *added;

        if (session->engine != NULL && strcmp(session->engine, row->engine) != 0)
            continue;
        added = bench_result_add_row(&session->result, &workload->heading, row->engine, row->mode);
        if (added == NULL)
            return -ENOMEM;
        *added = *row;
        added->heading = &workload->heading;
    }
    return 0;
}

static int measure_pages(struct bench_session *session, const struct bench_workload *workload)
{
    const struct pages_workload *source = source_of(workload);
    const struct pages_scale scale = {
        .name = session->scale->name,
        .file_pages = session->scale->pages,
        .cached_pages = session->scale->pages,
        .hits = session->scale->page_hits,
        .pending = session->scale->pending,
        .repetitions_min = session->scale->repetitions_min,
        .repetitions_max = session->scale->repetitions_max,
        .budget_ns = session->scale->budget_ns,
    };
    struct pages_run run = {.scale = &scale};
    char directory[512];
    int length = snprintf(directory, sizeof directory, "%s/%s", session->directory, workload->heading.name);
    int status = length > 0 && (size_t)length < sizeof directory && mkdir(directory, 0700) == 0 ? 0 : -errno;

    run.directory = directory;
    if (status == 0)
        status = pages_run_prepare(&run);
    if (status != 0)
        pages_report(&workload->heading, BENCH_NAME_CELLAR, "the file of pages", status);
    else
        status = source->measure(&run, source);
    if (status == 0)
        status = copy_rows(session, workload, &run.result);
    pages_run_finish(&run);
    bench_remove_tree(directory);
    return status;
}

#define WARM "warm: all pages are in every engine's memory"
#define WAITING "not sent before commit; 100,000 words pending in full runs"

const struct bench_workload bench_pages_workloads[5] = {
    {.heading = {"hit-get-near", "get a 64-bit integer at random in a few pages", WARM}, .measure = measure_pages},
    {.heading = {"hit-fix-near", "hold a page at random, of a few, while 8 bytes of it are read", WARM},
     .measure = measure_pages},
    {.heading = {"pipeline-set", "set a 64-bit word of a file", WAITING}, .measure = measure_pages},
    {.heading = {"pipeline-get", "get a 64-bit word that is pending", WAITING}, .measure = measure_pages},
    {.heading = {"pipeline-commit", "send a pending 64-bit word, all of them in one commit", "written, not durable"},
     .measure = measure_pages},
};
