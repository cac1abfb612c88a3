/* sum_check.c - every flushed cell is compared with its checksum. */
#include "base/diagnose.h"
#include "sum/sum_hash.h"
#include "sum/sum_look.h"

#include <cellar/sums.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* So many sectors are read together; their cells one sector's at a time, which stay in the processor's cache. */
enum { BATCH_SECTORS = 128 };

struct check {
    const struct cellar_sums_options *options;
    struct cellar_device *device;
    struct cellar_sum_look look;
    struct cellar_sums_report report;
    unsigned char *sectors;
    unsigned char *cells;
};

/* A block whose sum does not hold; length_bytes of it could be read. */
static void report_rot(struct check *check, uint64_t begin, uint64_t end, uint64_t sum, unsigned char *bytes,
                       bool readable)
{
    uint32_t bytes_per_cell = check->look.config.bytes_per_cell;
    struct cellar_sums_rot rot = {
        .offset_bytes = begin,
        .length_bytes = end - begin,
        .first_index = (uint32_t)(begin / bytes_per_cell),
        .last_index = (uint32_t)((end - 1) / bytes_per_cell),
        .unreadable = !readable,
    };
    size_t bit;

    check->report.rotten_blocks++;
    check->report.verified_bytes += end - begin;
    if (check->options->rotten == NULL)
        return;
    if (readable && cellar_sum_locate(bytes, (size_t)(end - begin), sum, &bit) == 0) {
        rot.located = true;
        rot.bit_offset_bytes = begin + bit / 8;
        rot.bit = (unsigned)(bit % 8);
        rot.bit_index = (uint32_t)(rot.bit_offset_bytes / bytes_per_cell);
    }
    check->options->rotten(check->options->user, &rot);
}

static void compare(struct check *check, uint64_t begin, uint64_t end, uint64_t sum, unsigned char *bytes)
{
    if (cellar_sum_hash(bytes, (size_t)(end - begin)) == sum)
        check->report.verified_bytes += end - begin;
    else
        report_rot(check, begin, end, sum, bytes, true);
}

/* The blocks of one sector: read at once, or where that fails one by one. */
static void check_sector(struct check *check, const struct cellar_sum_sector *sector)
{
    uint64_t first, end, begin;
    bool whole;

    cellar_sum_range(sector, 0, &first, &end);
    end = cellar_sum_sector_end(sector);
    whole = cellar_device_read(check->device, check->cells, (size_t)(end - first), first) == 0;
    for (uint32_t i = 0; i < sector->count; i++) {
        bool readable = whole;

        cellar_sum_range(sector, i, &begin, &end);
        if (!whole)
            readable =
                cellar_device_read(check->device, check->cells + (begin - first), (size_t)(end - begin), begin) == 0;
        if (readable)
            compare(check, begin, end, sector->sums[i], check->cells + (begin - first));
        else
            report_rot(check, begin, end, sector->sums[i], NULL, false);
    }
}

/* The sector at bytes, or as it stands in the file by now. */
static int take_sector(struct check *check, const unsigned char *bytes, uint32_t number)
{
    struct cellar_sum_sector sector;
    int error = cellar_sum_sector_decode(bytes, check->look.owner.identity, number, &sector);

    if (error == CELLAR_ECORRUPT)
        error = cellar_sum_read_sector(check->look.file, number, &sector);
    if (error == 0)
        check_sector(check, &sector);
    else if (error == CELLAR_ECORRUPT)
        check->report.broken_sectors++;
    return error == CELLAR_NONE || error == CELLAR_ECORRUPT ? 0 : error;
}

static void tell(const struct check *check, uint64_t done_bytes)
{
    if (check->options->progress != NULL)
        check->options->progress(check->options->user, done_bytes, check->look.flushed_bytes);
}

static int check_all(struct check *check)
{
    uint64_t flushed_bytes = check->look.flushed_bytes;
    uint32_t needed = cellar_sum_sector_of(flushed_bytes - 1) + 1, count = cellar_sum_sector_count(check->look.file);
    int error = 0;

    if (count > needed)
        count = needed;
    for (uint32_t number = 0; error == 0 && number < count; number += BATCH_SECTORS) {
        uint32_t batch = count - number < BATCH_SECTORS ? count - number : BATCH_SECTORS;

        error = cellar_device_read(check->look.file->device, check->sectors, (size_t)batch * CELLAR_SUM_SECTOR_BYTES,
                                   cellar_sum_sector_offset(number));
        for (uint32_t i = 0; error == 0 && i < batch; i++)
            error = take_sector(check, check->sectors + (size_t)i * CELLAR_SUM_SECTOR_BYTES, number + i);
        if (error == 0)
            tell(check, cellar_sum_min((uint64_t)(number + batch) * CELLAR_SUM_SPAN_BYTES, flushed_bytes));
    }
    if (error == 0)
        tell(check, flushed_bytes); /* also where the last of it has no sums */
    return error;
}

static int run(struct check *check)
{
    struct cellar_sums_report *report = &check->report;
    uint64_t covered_bytes;
    int error = 0;

    report->state = check->look.state;
    report->why = check->look.why;
    report->flushed_bytes = check->look.flushed_bytes;
    report->tail_rotten = check->look.tail_rotten;
    covered_bytes = report->flushed_bytes - cellar_sum_min(CELLAR_SUM_FIRST_BYTE, report->flushed_bytes);
    report->uncovered_bytes = covered_bytes;
    if (check->look.file == NULL || covered_bytes == 0)
        return 0;
    check->sectors = malloc((size_t)BATCH_SECTORS * CELLAR_SUM_SECTOR_BYTES);
    check->cells = malloc(CELLAR_SUM_SPAN_BYTES);
    if (check->sectors == NULL || check->cells == NULL)
        error = -ENOMEM;
    if (error == 0)
        error = check_all(check);
    report->uncovered_bytes -= cellar_sum_min(report->verified_bytes, covered_bytes);
    if (report->uncovered_bytes > 0)
        report->state = CELLAR_SUMS_BEHIND;
    free(check->cells);
    free(check->sectors);
    return error;
}

int cellar_sums_check(const char *path, const struct cellar_sums_options *options,
                      struct cellar_sums_report *ret_report)
{
    static const struct cellar_sums_options defaults;
    struct check check = {.options = options != NULL ? options : &defaults};
    struct cellar_diagnostic *diagnostic = check.options->diagnostic;
    int error;

    if (diagnostic != NULL)
        *diagnostic = (struct cellar_diagnostic){.file_offset = CELLAR_OFFSET_NONE};
    error = cellar_device_open_pread(path, CELLAR_OPEN_READ, 0, &check.device);
    if (error == 0)
        error = cellar_sum_look(path, check.device, false, diagnostic, &check.look);
    if (error == 0)
        error = run(&check);
    cellar_sum_close(check.look.file, false);
    cellar_device_close(check.device);
    if (error == 0)
        *ret_report = check.report;
    else if (diagnostic != NULL && diagnostic->error == 0)
        cellar_diagnose(diagnostic, error, path, CELLAR_OFFSET_NONE, "can't check: %s", cellar_strerror(error));
    return error;
}
