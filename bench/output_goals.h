/* output_goals.h - the goals, as a table and as JSON. */
#ifndef BENCH_OUTPUT_GOALS_H
#define BENCH_OUTPUT_GOALS_H

#include "result.h"

#include <jansson.h>

/* All goals that were judged, on standard output. */
void bench_output_goals(const struct bench_result *result);

/* The same for programs; NULL: no memory. */
json_t *bench_goals_array(const struct bench_result *result);

#endif
