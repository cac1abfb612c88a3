/*
 * group_eager.c - what eager writes save a commit: many bytes appended through write frames, over devices in memory
 * whose writes take long.
 */
#include "device_slow.h"
#include "run.h"

#include <cellar/pipeline.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    DELAY_NS = 2000000,
    UNIT_BYTES = 256 << 10,
    EAGER_WRITES = 32,
    EAGER_CASES = 4,
};

/* Appending begins behind one page that versions have. */
static const uint64_t first_address = PAGES_BYTES;

struct eager_case {
    const struct pages_run *run;
    bool eager;
    bool by_size; /* the delay is for each UNIT_BYTES of a write; else for each write */
    bool whole;   /* appending is timed too; else the commit alone */
    struct cellar_device *device;
    struct cellar_pipeline *pipeline;
};

static uint64_t end_address(const struct eager_case *eager)
{
    return first_address + eager->run->scale->eager_bytes;
}

static int append(struct eager_case *eager)
{
    int error = 0;

    for (uint64_t at = first_address; at < end_address(eager) && error == 0; at += PAGES_BYTES) {
        struct cellar_write_frame frame;

        error = cellar_pipeline_fix_write(eager->pipeline, at, CELLAR_WRITE_NEW, &frame);
        if (error != 0)
            break;
        memset(frame.bytes, (int)(at / PAGES_BYTES & 0xff), frame.length);
        memcpy(frame.bytes, &at, sizeof at);
        cellar_pipeline_unfix_write(eager->pipeline, &frame);
    }
    return error;
}

/* A fresh device and pipeline; the memory is touched beforehand. */
static int before_eager(void *context)
{
    struct eager_case *eager = context;
    const struct cellar_pipeline_options options = {
        .cache = {.page_bytes = PAGES_BYTES, .page_count = 1024},
        .eager_writes = eager->eager ? EAGER_WRITES : 0,
        .eager_bytes = UNIT_BYTES,
        .committed_bytes = first_address,
    };
    const struct device_delays delays = {.write_ns = DELAY_NS, .write_unit_bytes = eager->by_size ? UNIT_BYTES : 0};
    unsigned char *zeros = calloc(1, (size_t)end_address(eager));
    struct cellar_device *memory;
    int error = -ENOMEM;

    if (zeros != NULL)
        error = cellar_device_open_memory(zeros, end_address(eager), end_address(eager), &memory);
    free(zeros);
    if (error == 0)
        error = device_slow_open(memory, &delays, &eager->device);
    if (error == 0)
        error = cellar_pipeline_open_with(eager->device, &options, &eager->pipeline);
    if (error == 0 && !eager->whole)
        error = append(eager);
    return error;
}

static int run_eager(void *context)
{
    struct eager_case *eager = context;
    int error = eager->whole ? append(eager) : 0;

    return error == 0 ? cellar_pipeline_commit(eager->pipeline) : error;
}

static void end_eager(struct eager_case *eager)
{
    cellar_pipeline_close(eager->pipeline);
    cellar_device_close(eager->device);
    eager->pipeline = NULL;
    eager->device = NULL;
}

/* Everything is on the device. */
static int after_eager(void *context)
{
    struct eager_case *eager = context;
    int error = 0;

    for (uint64_t at = first_address; at < end_address(eager) && error == 0; at += PAGES_BYTES) {
        uint64_t found = 0;

        error = cellar_device_read(eager->device, &found, sizeof found, at);
        if (error == 0 && found != at)
            error = -EBADMSG;
    }
    end_eager(eager);
    return error;
}

static const char *const series_names[] = {"2 ms a write", "2 ms for each 256 KiB of a write"};

static void aim_at_commit(struct pages_run *run, const struct pages_workload *workload, const char *series)
{
    char mode[128], text[96];
    double off_ns, on_ns;

    snprintf(mode, sizeof mode, "eager writes off, %s", series);
    off_ns = pages_median_ns(run, &workload->heading, "cellar", mode);
    snprintf(mode, sizeof mode, "eager writes on, %s", series);
    on_ns = pages_median_ns(run, &workload->heading, "cellar", mode);
    snprintf(text, sizeof text, "commit with eager writes, part of that without (%s)", series);
    if (off_ns > 0.0)
        pages_aim(run, text, on_ns / off_ns, 0.1, false,
                  run->scale->eager_bytes < UINT64_C(64) << 20 ? "asked for 64 MiB, this run has less" : NULL);
}

/* number: whether appending is timed too. */
static int measure_eager(struct pages_run *run, const struct pages_workload *workload)
{
    struct eager_case cases[EAGER_CASES];
    struct pages_timed timed[EAGER_CASES];
    int error;

    for (size_t i = 0; i < EAGER_CASES; i++) {
        const char *series = series_names[i / 2];

        cases[i] = (struct eager_case){.run = run, .eager = i % 2 == 1, .by_size = i >= 2, .whole = workload->number};
        timed[i] = (struct pages_timed){
            .subject = {.context = &cases[i], .before = before_eager, .run = run_eager, .after = after_eager},
            .engine = BENCH_NAME_CELLAR,
            .series = series,
            .ops = 1,
            .bytes = run->scale->eager_bytes,
        };
        snprintf(timed[i].mode, sizeof timed[i].mode, "eager writes %s, %s", cases[i].eager ? "on" : "off", series);
    }
    error = pages_time(run, &workload->heading, timed, EAGER_CASES);
    for (size_t i = 0; i < EAGER_CASES; i++)
        end_eager(&cases[i]);
    for (size_t i = 0; i < 2 && error == 0 && !workload->number; i++)
        aim_at_commit(run, workload, series_names[i]);
    return error;
}

#define GUARANTEE "written to a device in memory that takes its time for each write; 256 KiB a write in the background"

const struct pages_workload pages_eagers[2] = {
    {{"eager-commit", "commit what has just been appended (64 MiB in full runs)", GUARANTEE}, measure_eager, 0},
    {{"eager-whole", "append through write frames and commit (64 MiB in full runs)", GUARANTEE}, measure_eager, 1},
};
