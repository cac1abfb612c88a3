#include "progress.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { BAR_CELLS = 24, TEXT_BYTES = 32 };

static const double QUIET_SECONDS = 2.0, REDRAW_SECONDS = 0.2;

static double seconds_between(const struct timespec *from, const struct timespec *to)
{
    return (double)(to->tv_sec - from->tv_sec) + (double)(to->tv_nsec - from->tv_nsec) / 1e9;
}

/* A number of bytes for people: "12.3 MiB". text holds TEXT_BYTES; returns text. */
static const char *amount_text(double byte_count, char *text)
{
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
    size_t unit = 0;

    while (byte_count >= 1024.0 && unit + 1 < sizeof units / sizeof units[0]) {
        byte_count /= 1024.0;
        unit++;
    }
    snprintf(text, TEXT_BYTES, "%.*f %s", unit == 0 ? 0 : 1, byte_count, units[unit]);
    return text;
}

static void draw(struct cellar_progress *progress, double elapsed_seconds)
{
    char done[TEXT_BYTES], total[TEXT_BYTES], rate[TEXT_BYTES];
    double share = 0.0;

    if (progress->total_known && progress->total_bytes > 0)
        share = (double)progress->done_bytes / (double)progress->total_bytes;
    if (share > 1.0)
        share = 1.0;
    amount_text((double)progress->done_bytes, done);
    amount_text((double)progress->done_bytes / elapsed_seconds, rate);
    if (progress->total_known) {
        char bar[BAR_CELLS + 1];

        memset(bar, ' ', BAR_CELLS);
        memset(bar, '#', (size_t)(share * BAR_CELLS));
        bar[BAR_CELLS] = '\0';
        fprintf(stderr, "\r[%s] %3d%%  %s of %s  %s/s", bar, (int)(share * 100.0), done,
                amount_text((double)progress->total_bytes, total), rate);
    } else {
        fprintf(stderr, "\r%s  %s/s", done, rate);
    }
    if (progress->value_count > 0)
        fprintf(stderr, "  %" PRIu64 " values", progress->value_count);
    fputs("\033[K", stderr);
    fflush(stderr);
    progress->shown = true;
}

void cellar_progress_begin(struct cellar_progress *progress, bool total_known, uint64_t total_bytes)
{
    memset(progress, 0, sizeof *progress);
    progress->enabled = isatty(STDERR_FILENO) == 1;
    progress->total_known = total_known;
    progress->total_bytes = total_bytes;
    clock_gettime(CLOCK_MONOTONIC, &progress->begun);
    progress->drawn = progress->begun;
}

void cellar_progress_add(struct cellar_progress *progress, uint64_t byte_count, uint64_t value_count)
{
    struct timespec now;
    double elapsed_seconds;

    progress->done_bytes += byte_count;
    progress->value_count += value_count;
    if (!progress->enabled)
        return;
    clock_gettime(CLOCK_MONOTONIC, &now);
    elapsed_seconds = seconds_between(&progress->begun, &now);
    if (elapsed_seconds < QUIET_SECONDS || seconds_between(&progress->drawn, &now) < REDRAW_SECONDS)
        return;
    progress->drawn = now;
    draw(progress, elapsed_seconds);
}

void cellar_progress_clear(struct cellar_progress *progress)
{
    if (!progress->shown)
        return;
    fputs("\r\033[K", stderr);
    fflush(stderr);
    progress->shown = false;
}
