/* output.h - the result, as a table on the terminal and as JSON. */
#ifndef BENCH_OUTPUT_H
#define BENCH_OUTPUT_H

#include "machine.h"
#include "result.h"

/* A few lines on what is measured where, on standard output. */
void bench_output_machine(const struct bench_machine *machine, const struct bench_result *result);

/*
 * The rows from first_row on, all of one group, as a table. The ratios are how many times as long a row takes as the
 * fastest row of the limit, and as the first row of cellar; with series, how many times as fast it is as the first of
 * its series.
 */
void bench_output_rows(const struct bench_result *result, size_t first_row);

/* The measures and notes from those on, below the rows from first_row on if there are some. */
void bench_output_measures(const struct bench_result *result, size_t first_row, size_t first_measure,
                           size_t first_note);

/* A duration as people read it: "19.2 ns", "5.81 us". */
void bench_format_time(double ns, char *text, size_t capacity_bytes);

/* The aims and what was measured; nothing where there are none. */
void bench_output_aims(const struct bench_result *result);

/* Writes everything to a file. 0, or -1 after saying on standard error why not. */
int bench_output_json(const char *path, const struct bench_machine *machine, const struct bench_result *result);

#endif
