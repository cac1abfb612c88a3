#include "result.h"

#include <stdio.h>

struct bench_row *bench_result_add_row(struct bench_result *result, const struct bench_heading *heading,
                                       const char *engine, const char *mode)
{
    struct bench_row *row;

    if (result->row_count == result->row_capacity)
        return NULL;
    row = &result->rows[result->row_count++];
    *row = (struct bench_row){.heading = heading, .engine = engine};
    snprintf(row->mode, sizeof row->mode, "%s", mode);
    return row;
}

struct bench_measure *bench_result_add_measure(struct bench_result *result, const struct bench_heading *heading,
                                               const char *engine, const char *mode)
{
    struct bench_measure *measure;

    if (result->measure_count == BENCH_MEASURES_MAX)
        return NULL;
    measure = &result->measures[result->measure_count++];
    *measure = (struct bench_measure){.heading = heading, .engine = engine};
    snprintf(measure->mode, sizeof measure->mode, "%s", mode);
    return measure;
}

struct bench_note *bench_result_add_note(struct bench_result *result, const struct bench_heading *heading,
                                         const char *engine, const char *mode)
{
    struct bench_note *note;

    if (result->note_count == BENCH_NOTES_MAX)
        return NULL;
    note = &result->notes[result->note_count++];
    *note = (struct bench_note){.heading = heading, .engine = engine};
    snprintf(note->mode, sizeof note->mode, "%s", mode);
    return note;
}
