#include "run.h"

#include <cellar/error.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

int pages_data_write(const struct pages_run *run, const char *path)
{
    enum { BATCH_PAGES = 64 };
    uint64_t *batch = malloc((size_t)BATCH_PAGES * PAGES_BYTES);
    FILE *file = fopen(path, "wbex");
    int error = batch == NULL || file == NULL ? -errno : 0;
    uint64_t address = 0;

    if (file == NULL && error == -EEXIST) {
        free(batch);
        return 0;
    }
    while (error == 0 && address < run->scale->file_pages * PAGES_BYTES) {
        uint64_t left = run->scale->file_pages * PAGES_BYTES - address;
        size_t bytes = left < (uint64_t)BATCH_PAGES * PAGES_BYTES ? (size_t)left : (size_t)BATCH_PAGES * PAGES_BYTES;

        for (size_t i = 0; i < bytes / sizeof batch[0]; i++)
            batch[i] = pages_word(address + i * sizeof batch[0]);
        if (fwrite(batch, 1, bytes, file) != bytes)
            error = -EIO;
        address += bytes;
    }
    if (file != NULL && fclose(file) != 0 && error == 0)
        error = -errno;
    free(batch);
    return error;
}

/* Maps the data file, and copies what the rows of hits read. Reading it all brings it into the page cache. */
static int map_data(struct pages_run *run)
{
    size_t bytes = (size_t)run->scale->file_pages * PAGES_BYTES;
    size_t resident_bytes = (size_t)run->scale->cached_pages * PAGES_BYTES;
    int fd = open(run->data_path, O_RDONLY | O_CLOEXEC);
    uint64_t sum = 0;
    void *mapped, *resident;

    if (fd < 0)
        return -errno;
    resident = mmap(NULL, resident_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (resident != MAP_FAILED)
        run->resident = resident;
    mapped = mmap(NULL, bytes, PROT_READ, MAP_SHARED | MAP_POPULATE, fd, 0);
    if (mapped != MAP_FAILED)
        run->mapped = mapped;
    close(fd);
    if (run->resident == NULL || run->mapped == NULL)
        return -ENOMEM;
    memcpy(resident, mapped, resident_bytes);
    for (size_t at = 0; at < bytes; at += PAGES_BYTES)
        sum += run->mapped[at];
    bench_sink(sum);
    return 0;
}

int pages_run_prepare(struct pages_run *run)
{
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
    int error;

    run->cores = cores > 0 ? (unsigned)cores : 1;
    snprintf(run->data_path, sizeof run->data_path, "%s/data", run->directory);
    snprintf(run->cold_path, sizeof run->cold_path, "%s/cold", run->directory);
    snprintf(run->lmdb_path, sizeof run->lmdb_path, "%s/lmdb", run->directory);
    run->result.row_capacity = (size_t)32 * PAGES_TIMED_MAX;
    run->result.rows = calloc(run->result.row_capacity, sizeof run->result.rows[0]);
    if (run->result.rows == NULL)
        return -ENOMEM;
    error = pages_data_write(run, run->data_path);
    return error == 0 ? map_data(run) : error;
}

static void unmap(const unsigned char **bytes, uint64_t page_count)
{
    if (*bytes != NULL)
        munmap((void *)(uintptr_t)*bytes, (size_t)page_count * PAGES_BYTES);
    *bytes = NULL;
}

void pages_data_release(struct pages_run *run)
{
    unmap(&run->mapped, run->scale->file_pages);
    unmap(&run->resident, run->scale->cached_pages);
}

void pages_run_finish(struct pages_run *run)
{
    pages_data_release(run);
    free(run->result.rows);
}

int pages_report(const struct bench_heading *heading, const char *engine, const char *mode, int error)
{
    if (error == -EINTR)
        fprintf(stderr, "bench_pages: interrupted\n");
    else
        fprintf(stderr, "bench_pages: %s, %s (%s): %s\n", heading->name, engine, mode, cellar_strerror(error));
    return error;
}

static void add_row(struct pages_run *run, const struct bench_heading *heading, const struct pages_timed *timed,
                    const struct bench_figures *figures)
{
    struct bench_row *row = &run->result.rows[run->result.row_count++];

    *row = (struct bench_row){
        .heading = heading,
        .engine = timed->engine,
        .series = timed->series,
        .figures = bench_figures_each(figures, timed->ops),
        .ops = timed->ops * figures->repetitions,
        .bytes = timed->bytes * figures->repetitions,
    };
    snprintf(row->mode, sizeof row->mode, "%s", timed->mode);
    if (timed->see != NULL)
        timed->see(timed->subject.context, row->seen, sizeof row->seen);
}

int pages_time(struct pages_run *run, const struct bench_heading *heading, struct pages_timed *timed, size_t count)
{
    struct bench_subject subjects[PAGES_TIMED_MAX];
    struct bench_figures figures[PAGES_TIMED_MAX];
    struct bench_plan plan = {
        .repetitions_min = run->scale->repetitions_min,
        .repetitions_max = run->scale->repetitions_max,
        .budget_ns = run->scale->budget_ns,
    };
    size_t failed = 0;
    int error;

    if (count == 0)
        return 0;
    for (size_t i = 0; i < count; i++)
        subjects[i] = timed[i].subject;
    bench_settle(run->directory);
    error = bench_measure(subjects, count, &plan, figures, &failed);
    if (error != 0)
        return pages_report(heading, timed[failed].engine, timed[failed].mode, error);
    for (size_t i = 0; i < count; i++)
        add_row(run, heading, &timed[i], &figures[i]);
    return 0;
}

void pages_aim(struct pages_run *run, const char *text, double measured, double bound, bool at_least, const char *moot)
{
    struct bench_aim *aim = &run->result.aims[run->result.aim_count];

    if (run->result.aim_count == BENCH_AIMS_MAX)
        return;
    run->result.aim_count++;
    *aim = (struct bench_aim){.measured = measured, .bound = bound, .at_least = at_least, .moot = moot};
    snprintf(aim->text, sizeof aim->text, "%s", text);
}

double pages_median_ns(const struct pages_run *run, const struct bench_heading *heading, const char *engine,
                       const char *mode)
{
    for (size_t i = 0; i < run->result.row_count; i++) {
        const struct bench_row *row = &run->result.rows[i];

        if (row->heading == heading && strcmp(row->engine, engine) == 0 && strcmp(row->mode, mode) == 0)
            return row->figures.median_ns;
    }
    return 0.0;
}
