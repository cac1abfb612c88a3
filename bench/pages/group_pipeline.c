/*
 * group_pipeline.c - writes that wait in a pipeline: setting many values, reading one of them, sending them all.
 *
 * The values are 64-bit words, evenly spread over a file that the kernel has in its page cache, none next to another;
 * each is set, or read, once a run, in an order of its own. The pipeline stands over the pread device.
 */
#include "run.h"

#include <cellar/pipeline.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum {
    BATCH_PAGES = 64, /* of one pwrite of the limit */
    ROWS = 3,
};

/* What is timed. */
enum phase { PHASE_SET, PHASE_GET, PHASE_COMMIT };

struct bed {
    char path[600];
    uint64_t page_count;
    uint64_t *addresses; /* shuffled */
    size_t count;
    struct cellar_device *device;
    struct cellar_pipeline *pipeline;
    int fd;                /* of the kernel and the limit */
    unsigned char *array;  /* as large as the file: the limit's */
    unsigned char *batch;  /* BATCH_PAGES pages */
    uint64_t salt;         /* every run sets other values */
    uint64_t sum;          /* what the run read */
    uint64_t expected_sum; /* what it should have */
};

static uint64_t value_at(const struct bed *bed, uint64_t address)
{
    return pages_word(address) + bed->salt;
}

static int make_addresses(struct bed *bed, uint64_t count)
{
    uint64_t stride_bytes = bed->page_count * PAGES_BYTES / count & ~UINT64_C(7);
    uint64_t state = 13;

    bed->addresses = malloc(count * sizeof bed->addresses[0]);
    bed->count = (size_t)count;
    if (bed->addresses == NULL)
        return -ENOMEM;
    for (size_t i = 0; i < bed->count; i++)
        bed->addresses[i] = i * stride_bytes;
    for (size_t i = bed->count - 1; i > 0; i--) {
        size_t other = (size_t)(bench_random(&state) % (i + 1));
        uint64_t address = bed->addresses[i];

        bed->addresses[i] = bed->addresses[other];
        bed->addresses[other] = address;
    }
    return 0;
}

static void close_bed(struct bed *bed)
{
    cellar_pipeline_close(bed->pipeline);
    cellar_device_close(bed->device);
    if (bed->fd >= 0)
        close(bed->fd);
    unlink(bed->path);
    free(bed->addresses);
    free(bed->array);
    free(bed->batch);
}

static int open_bed(const struct pages_run *run, struct bed *bed)
{
    size_t bytes = (size_t)run->scale->cached_pages * PAGES_BYTES;
    int error;

    *bed = (struct bed){.page_count = run->scale->cached_pages, .fd = -1};
    snprintf(bed->path, sizeof bed->path, "%s/pipeline", run->directory);
    bed->array = aligned_alloc(PAGES_BYTES, bytes);
    bed->batch = aligned_alloc(PAGES_BYTES, (size_t)BATCH_PAGES * PAGES_BYTES);
    if (bed->array == NULL || bed->batch == NULL)
        return -ENOMEM;
    memset(bed->array, 0, bytes);
    error = make_addresses(bed, run->scale->pending);
    if (error != 0)
        return error;
    bed->fd = open(bed->path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (bed->fd < 0 || pwrite(bed->fd, bed->array, bytes, 0) != (ssize_t)bytes)
        return errno != 0 ? -errno : -EIO;
    error = cellar_device_open_pread(bed->path, CELLAR_OPEN_WRITE, 0, &bed->device);
    return error == 0 ? cellar_pipeline_open(bed->device, PAGES_BYTES, (size_t)bed->page_count, &bed->pipeline) : error;
}

static int set_all(void *context)
{
    struct bed *bed = context;
    int error = 0;

    for (size_t i = 0; i < bed->count && error == 0; i++)
        error = cellar_pipeline_set_u64_ne(bed->pipeline, bed->addresses[i], value_at(bed, bed->addresses[i]));
    return error;
}

static int get_all(void *context)
{
    struct bed *bed = context;
    uint64_t sum = 0;
    int error = 0;

    for (size_t i = bed->count; i-- > 0 && error == 0;) {
        uint64_t value = 0;

        error = cellar_pipeline_get_u64_ne(bed->pipeline, bed->addresses[i], &value);
        sum += value;
    }
    bed->sum = sum;
    return error;
}

static int commit_all(void *context)
{
    struct bed *bed = context;

    return cellar_pipeline_commit(bed->pipeline);
}

/* Nothing is pending, and the next values are others. */
static int begin_round(void *context)
{
    struct bed *bed = context;

    cellar_pipeline_discard(bed->pipeline);
    bed->salt++;
    return 0;
}

static int begin_full_round(void *context)
{
    struct bed *bed = context;

    begin_round(bed);
    bed->expected_sum = 0;
    for (size_t i = 0; i < bed->count; i++)
        bed->expected_sum += value_at(bed, bed->addresses[i]);
    return set_all(bed);
}

static int check_pending(void *context)
{
    const struct bed *bed = context;

    return cellar_pipeline_pending_bytes(bed->pipeline) == bed->count * sizeof(uint64_t) ? 0 : -EBADMSG;
}

static int check_sum(void *context)
{
    const struct bed *bed = context;

    bench_sink(bed->sum);
    return bed->sum == bed->expected_sum ? 0 : -EBADMSG;
}

/* The file has every value, and nothing is pending. */
static int check_file(void *context)
{
    struct bed *bed = context;
    uint64_t word;

    for (size_t i = 0; i < bed->count; i += 97)
        if (pread(bed->fd, &word, sizeof word, (off_t)bed->addresses[i]) != (ssize_t)sizeof word ||
            word != value_at(bed, bed->addresses[i]))
            return -EBADMSG;
    return cellar_pipeline_pending_bytes(bed->pipeline) == 0 ? 0 : -EBADMSG;
}

static int kernel_set_all(void *context)
{
    struct bed *bed = context;

    for (size_t i = 0; i < bed->count; i++) {
        uint64_t word = value_at(bed, bed->addresses[i]);

        if (pwrite(bed->fd, &word, sizeof word, (off_t)bed->addresses[i]) != (ssize_t)sizeof word)
            return errno != 0 ? -errno : -EIO;
    }
    return 0;
}

static int kernel_get_all(void *context)
{
    struct bed *bed = context;

    bed->sum = 0;
    for (size_t i = bed->count; i-- > 0;) {
        uint64_t word;

        if (pread(bed->fd, &word, sizeof word, (off_t)bed->addresses[i]) != (ssize_t)sizeof word)
            return errno != 0 ? -errno : -EIO;
        bed->sum += word;
    }
    return 0;
}

static int limit_set_all(void *context)
{
    struct bed *bed = context;

    for (size_t i = 0; i < bed->count; i++) {
        uint64_t word = value_at(bed, bed->addresses[i]);

        memcpy(bed->array + bed->addresses[i], &word, sizeof word);
    }
    __asm__ volatile("" : : "r"(bed->array) : "memory");
    return 0;
}

static int limit_get_all(void *context)
{
    struct bed *bed = context;
    uint64_t sum = 0;

    for (size_t i = bed->count; i-- > 0;) {
        uint64_t word;

        memcpy(&word, bed->array + bed->addresses[i], sizeof word);
        sum += word;
    }
    bed->sum = sum;
    bench_sink(sum);
    return 0;
}

/* Every page of the array copied once, and written. */
static int limit_commit_all(void *context)
{
    struct bed *bed = context;

    for (uint64_t page = 0; page < bed->page_count; page += BATCH_PAGES) {
        uint64_t pages = bed->page_count - page < BATCH_PAGES ? bed->page_count - page : BATCH_PAGES;
        size_t bytes = (size_t)pages * PAGES_BYTES;

        for (uint64_t i = 0; i < pages; i++)
            memcpy(bed->batch + i * PAGES_BYTES, bed->array + (page + i) * PAGES_BYTES, PAGES_BYTES);
        if (pwrite(bed->fd, bed->batch, bytes, (off_t)(page * PAGES_BYTES)) != (ssize_t)bytes)
            return errno != 0 ? -errno : -EIO;
    }
    return 0;
}

/* The kernel's and the limit's values are the file's and the array's: those of the pipeline's next round. */
static int begin_kernel_get(void *context)
{
    int error = begin_full_round(context);

    return error == 0 ? kernel_set_all(context) : error;
}

static int begin_limit_get(void *context)
{
    int error = begin_full_round(context);

    return error == 0 ? limit_set_all(context) : error;
}

static size_t list_rows(enum phase phase, struct bed *bed, struct pages_timed rows[ROWS])
{
    const struct pages_timed known[][ROWS] = {
        [PHASE_SET] = {{.subject = {bed, begin_round, set_all, check_pending, NULL},
                        .engine = "cellar",
                        .mode = "cellar_pipeline_set_u64_ne"},
                       {.subject = {bed, begin_round, kernel_set_all, NULL, NULL},
                        .engine = "kernel",
                        .mode = "pwrite of 8 bytes, page cache"},
                       {.subject = {bed, begin_round, limit_set_all, NULL, NULL},
                        .engine = "limit",
                        .mode = "array in memory"}},
        [PHASE_GET] = {{.subject = {bed, begin_full_round, get_all, check_sum, NULL},
                        .engine = "cellar",
                        .mode = "cellar_pipeline_get_u64_ne, all of them pending"},
                       {.subject = {bed, begin_kernel_get, kernel_get_all, check_sum, NULL},
                        .engine = "kernel",
                        .mode = "pread of 8 bytes, page cache"},
                       {.subject = {bed, begin_limit_get, limit_get_all, check_sum, NULL},
                        .engine = "limit",
                        .mode = "array in memory"}},
        [PHASE_COMMIT] = {{.subject = {bed, begin_full_round, commit_all, check_file, NULL},
                           .engine = "cellar",
                           .mode = "cellar_pipeline_commit, pages cached"},
                          {.subject = {bed, begin_round, limit_commit_all, NULL, NULL},
                           .engine = "limit",
                           .mode = "memcpy and pwrite of the pages, 256 KiB a call"}},
    };
    size_t count = phase == PHASE_COMMIT ? 2 : ROWS;

    memcpy(rows, known[phase], sizeof known[phase]);
    for (size_t i = 0; i < count; i++)
        rows[i].ops = bed->count;
    return count;
}

/* One round that isn't counted. */
static int try_row(const struct bench_subject *subject)
{
    int error = subject->before != NULL ? subject->before(subject->context) : 0;

    if (error == 0)
        error = subject->run(subject->context);
    return error == 0 && subject->after != NULL ? subject->after(subject->context) : error;
}

static int measure_phase(struct pages_run *run, const struct pages_workload *workload)
{
    struct pages_timed rows[ROWS];
    struct bed bed;
    int error = open_bed(run, &bed);
    size_t count = list_rows((enum phase)workload->number, &bed, rows);

    if (error == 0)
        error = cellar_pipeline_read(bed.pipeline, 0, bed.array, (size_t)bed.page_count * PAGES_BYTES);
    for (size_t i = 0; i < count && error == 0; i++)
        error = try_row(&rows[i].subject);
    if (error != 0)
        pages_report(&workload->heading, "cellar", "pipeline", error);
    else
        error = pages_time(run, &workload->heading, rows, count);
    close_bed(&bed);
    return error;
}

#define WAITING "not sent before commit; 100,000 words pending in full runs"

const struct pages_workload pages_pipelines[3] = {
    {{"pipeline-set", "set a 64-bit word of a file", WAITING}, measure_phase, PHASE_SET},
    {{"pipeline-get", "get a 64-bit word that is pending", WAITING}, measure_phase, PHASE_GET},
    {{"pipeline-commit", "send a pending 64-bit word, all of them in one commit", "written, not durable"},
     measure_phase,
     PHASE_COMMIT},
};
