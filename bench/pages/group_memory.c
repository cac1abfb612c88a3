/*
 * group_memory.c - what a small cache over a large file takes of memory: random reads, in a process of their own, whose
 * largest resident size (VmHWM of /proc/self/status) is a row.
 */
#include "cases.h"

#include <cellar/error.h>
#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
    CACHE_PAGES = (64 << 20) / PAGES_BYTES,
    BATCH = 256,
    SAMPLES_MAX = 4096,
    LIMIT_MIB = 80,
};

/* What the process that reads has to say. */
struct report {
    int error; /* PAGES_SKIP: not on this machine */
    struct bench_figures figures;
    uint64_t reads, batches;
    uint64_t peak_bytes;
};

/* Has the kernel count the largest size anew. */
static void restart_peak(void)
{
    int fd = open("/proc/self/clear_refs", O_WRONLY | O_CLOEXEC);

    if (fd >= 0) {
        if (write(fd, "5", 1) != 1)
            fprintf(stderr, "bench_pages: the peak of memory is that of the whole run\n");
        close(fd);
    }
}

static uint64_t peak_bytes(void)
{
    FILE *file = fopen("/proc/self/status", "re");
    char line[256];
    unsigned long long kib = 0;

    while (file != NULL && fgets(line, sizeof line, file) != NULL)
        if (sscanf(line, "VmHWM: %llu kB", &kib) == 1)
            break;
    if (file != NULL)
        fclose(file);
    return (uint64_t)kib << 10;
}

/* All of the file is a hole: every byte is 0. */
static int read_batch(struct cellar_cache *cache, uint64_t page_count, uint64_t *random)
{
    unsigned char page[PAGES_BYTES];
    int error = 0;

    for (int i = 0; i < BATCH && error == 0; i++) {
        error = cellar_cache_read(cache, bench_random(random) % page_count * PAGES_BYTES, page, sizeof page);
        if (error == 0 && (pages_load_word(page) != 0 || page[sizeof page - 1] != 0))
            error = -EBADMSG;
    }
    return error;
}

static int read_for(struct cellar_cache *cache, const struct pages_run *run, struct report *report)
{
    static double samples_ns[SAMPLES_MAX];
    uint64_t end_ns = bench_clock_ns() + (uint64_t)(run->memory_seconds * 1e9);
    uint64_t random = 11;
    uint64_t start_ns;
    int error = 0;

    do {
        start_ns = bench_clock_ns();
        error = read_batch(cache, run->scale->sparse_bytes / PAGES_BYTES, &random);
        samples_ns[report->batches++ % SAMPLES_MAX] = (double)(bench_clock_ns() - start_ns) / BATCH;
        report->reads += BATCH;
    } while (error == 0 && start_ns < end_ns && !bench_interrupted);
    report->figures =
        bench_summarize(samples_ns, report->batches < SAMPLES_MAX ? (unsigned)report->batches : SAMPLES_MAX);
    return bench_interrupted ? -EINTR : error;
}

static int read_sparse(const struct pages_run *run, int flags, struct report *report)
{
    const struct cellar_cache_options options = {.page_bytes = PAGES_BYTES, .page_count = CACHE_PAGES};
    struct cellar_device *device;
    struct cellar_cache *cache;
    char path[600];
    int fd, error;

    snprintf(path, sizeof path, "%s/sparse", run->directory);
    fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    error = fd < 0 || ftruncate(fd, (off_t)run->scale->sparse_bytes) < 0 ? -errno : 0;
    if (fd >= 0)
        close(fd);
    if (error == 0)
        error = cellar_device_open_pread(path, flags, 0, &device);
    if (error == -EINVAL && flags != 0)
        return PAGES_SKIP;
    if (error != 0)
        return error;
    error = cellar_cache_open_with(device, &options, &cache);
    if (error == 0) {
        error = read_for(cache, run, report);
        cellar_cache_close(cache);
    }
    cellar_device_close(device);
    return error;
}

static void tell_parent(struct pages_run *run, int flags, int fd)
{
    static struct report report;

    pages_data_release(run);
    restart_peak();
    report.error = read_sparse(run, flags, &report);
    report.peak_bytes = peak_bytes();
    _exit(write(fd, &report, sizeof report) == (ssize_t)sizeof report ? 0 : 1);
}

/* In a child: this process has been larger before. */
static int read_in_child(struct pages_run *run, int flags, struct report *report)
{
    int ends[2];
    ssize_t got;
    pid_t child;

    if (pipe2(ends, O_CLOEXEC) < 0)
        return -errno;
    fflush(stdout);
    malloc_trim(0);
    child = fork();
    if (child == 0)
        tell_parent(run, flags, ends[1]);
    close(ends[1]);
    got = child > 0 ? read(ends[0], report, sizeof *report) : -1;
    close(ends[0]);
    if (child > 0)
        waitpid(child, NULL, 0);
    return child < 0 ? -errno : got == (ssize_t)sizeof *report ? report->error : -EIO;
}

static void add_report(struct pages_run *run, const struct bench_heading *heading, const char *mode,
                       const struct report *report)
{
    struct bench_row *row = &run->result.rows[run->result.row_count++];
    char text[96];

    *row = (struct bench_row){
        .heading = heading,
        .engine = BENCH_NAME_CELLAR,
        .figures = report->figures,
        .ops = report->reads,
        .bytes = report->reads * PAGES_BYTES,
    };
    snprintf(row->mode, sizeof row->mode, "%s", mode);
    snprintf(row->seen, sizeof row->seen, "peak %.1f MiB after %.3g reads", (double)report->peak_bytes / (1 << 20),
             (double)report->reads);
    snprintf(text, sizeof text, "MiB at most behind a cache of 64 MiB, %s", mode);
    pages_aim(run, text, (double)report->peak_bytes / (1 << 20), LIMIT_MIB, false, NULL);
}

static int measure_memory(struct pages_run *run, const struct pages_workload *workload)
{
    static const struct {
        const char *mode;
        int flags;
    } ways[] = {{"pread device", CELLAR_OPEN_READ}, {"O_DIRECT device", CELLAR_OPEN_DIRECT}};

    for (size_t i = 0; i < sizeof ways / sizeof ways[0]; i++) {
        struct report report = {0};
        int error = read_in_child(run, ways[i].flags, &report);

        if (error == PAGES_SKIP)
            continue;
        if (error != 0)
            return pages_report(&workload->heading, BENCH_NAME_CELLAR, ways[i].mode, error);
        add_report(run, &workload->heading, ways[i].mode, &report);
    }
    return 0;
}

const struct pages_workload pages_memory = {
    {"memory", "copy a page out, at random in a file of 100 GB that is one hole", "a cache of 64 MiB"},
    measure_memory,
    0,
};
