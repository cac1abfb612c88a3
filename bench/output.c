#include "output.h"

#include "output_goals.h"

#include <jansson.h>
#include <stdio.h>
#include <string.h>

/* Three digits and a unit: "19.2 ns", "5.81 us". */
void bench_format_time(double ns, char *text, size_t capacity_bytes)
{
    static const char *const units[] = {"ns", "us", "ms", "s"};
    size_t unit = 0;

    while (ns >= 999.5 && unit + 1 < sizeof units / sizeof units[0]) {
        ns /= 1000.0;
        unit++;
    }
    snprintf(text, capacity_bytes, "%.*f %s", ns < 9.995 ? 2 : ns < 99.95 ? 1 : 0, ns, units[unit]);
}

static void format_ratio(double ns, double reference_ns, char *text, size_t capacity_bytes)
{
    double ratio = reference_ns > 0.0 ? ns / reference_ns : 0.0;

    if (reference_ns > 0.0)
        snprintf(text, capacity_bytes, "%.*f", ratio < 99.95 ? 2 : 0, ratio);
    else
        snprintf(text, capacity_bytes, "-");
}

static void format_rate(const struct bench_row *row, char *text, size_t capacity_bytes)
{
    double ns = row->figures.median_ns * (double)row->ops;

    if (row->bytes != 0 && ns > 0.0)
        snprintf(text, capacity_bytes, "%.2f", (double)row->bytes / ns);
    else
        snprintf(text, capacity_bytes, "-");
}

void bench_output_machine(const struct bench_machine *machine, const struct bench_result *result)
{
    printf("machine      %s, %u cores, %.1f GiB memory\n", machine->processor, machine->cores,
           (double)machine->memory_bytes / (1 << 30));
    printf("system       %s; file system %s (%s)\n", machine->kernel, machine->file_system,
           machine->file_system_options);
    printf("built        %s, %s\n", machine->compiler, machine->build);
    for (size_t i = 0; i < result->software_count; i++)
        printf("%-12s %s\n", result->software[i].name,
               result->software[i].version != NULL ? result->software[i].version
                                                   : "not measured: this bench was built without it");
    printf("run          %s, %s; at least %u repetitions, taking turns; medians\n", result->scale, machine->date,
           result->repetitions_min);
    printf("ratios       x limit: times the fastest row of the limit; x cellar: times cellar's first row\n");
#ifndef __OPTIMIZE__
    printf("warning      this is not an optimized build: the figures say nothing\n");
#endif
}

/* What the rows of one group are compared with. */
struct references {
    double limit_ns;  /* the fastest row of the limit */
    double cellar_ns; /* the first row of cellar */
    bool series;      /* some row has one */
};

static struct references find_references(const struct bench_result *result, size_t first_row)
{
    struct references found = {0};

    for (size_t i = first_row; i < result->row_count; i++) {
        const struct bench_row *row = &result->rows[i];
        double ns = row->figures.median_ns;

        if (strcmp(row->engine, BENCH_NAME_LIMIT) == 0 && (found.limit_ns <= 0.0 || ns < found.limit_ns))
            found.limit_ns = ns;
        if (strcmp(row->engine, BENCH_NAME_CELLAR) == 0 && found.cellar_ns <= 0.0)
            found.cellar_ns = ns;
        found.series = found.series || row->series != NULL;
    }
    return found;
}

/* How many times as fast as the first row of its series. */
static void format_speed(const struct bench_result *result, size_t first_row, const struct bench_row *row, char *text,
                         size_t capacity_bytes)
{
    for (size_t i = first_row; row->series != NULL && i < result->row_count; i++)
        if (result->rows[i].series != NULL && strcmp(result->rows[i].series, row->series) == 0) {
            format_ratio(result->rows[i].figures.median_ns, row->figures.median_ns, text, capacity_bytes);
            return;
        }
    snprintf(text, capacity_bytes, "-");
}

/* A line of its own, under the row. */
static void print_latency(const struct bench_row *row)
{
    char p50[32], p99[32], p999[32], most[32];

    if (row->latency.samples == 0)
        return;
    bench_format_time(row->latency.p50_ns, p50, sizeof p50);
    bench_format_time(row->latency.p99_ns, p99, sizeof p99);
    bench_format_time(row->latency.p999_ns, p999, sizeof p999);
    bench_format_time(row->latency.max_ns, most, sizeof most);
    printf("          p50 %s, p99 %s, p99.9 %s, most %s of %llu\n", p50, p99, p999, most,
           (unsigned long long)row->latency.samples);
}

static void print_row(const struct bench_result *result, size_t first_row, const struct bench_row *row,
                      const struct references *references)
{
    char median[32], p10[32], p90[32], rate[32], to_limit[32], to_cellar[32], speed[32];

    bench_format_time(row->figures.median_ns, median, sizeof median);
    bench_format_time(row->figures.p10_ns, p10, sizeof p10);
    bench_format_time(row->figures.p90_ns, p90, sizeof p90);
    format_rate(row, rate, sizeof rate);
    format_ratio(row->figures.median_ns, references->limit_ns, to_limit, sizeof to_limit);
    format_ratio(row->figures.median_ns, references->cellar_ns, to_cellar, sizeof to_cellar);
    format_speed(result, first_row, row, speed, sizeof speed);
    printf("  %-7s %-58s %9s %9s %9s %6s %8s %8s", row->engine, row->mode, median, p10, p90, rate, to_limit, to_cellar);
    if (references->series)
        printf(" %8s", speed);
    printf("%s%s\n", row->seen[0] != '\0' ? "  " : "", row->seen);
    print_latency(row);
}

void bench_output_rows(const struct bench_result *result, size_t first_row)
{
    const struct references references = find_references(result, first_row);
    const struct bench_heading *heading;

    if (first_row >= result->row_count)
        return;
    heading = result->rows[first_row].heading;
    printf("\n%s: %s\n  (%s)\n", heading->name, heading->title, heading->guarantee);
    printf("  %-7s %-58s %9s %9s %9s %6s %8s %8s", "engine", "mode", "median", "p10", "p90", "GB/s", "x limit",
           "x cellar");
    printf("%s\n", references.series ? "    speed" : "");
    for (size_t i = first_row; i < result->row_count; i++)
        print_row(result, first_row, &result->rows[i], &references);
    fflush(stdout);
}

static void print_measure(const struct bench_measure *measure)
{
    char value[32];

    if (strcmp(measure->unit, "bytes") == 0)
        snprintf(value, sizeof value, "%.1f KiB", measure->value / 1024.0);
    else
        snprintf(value, sizeof value, "%.4f", measure->value);
    printf("  %-7s %-58s %12s%s%s\n", measure->engine, measure->mode, value, measure->seen[0] != '\0' ? "  " : "",
           measure->seen);
}

/* Unless it is the one that was printed last. */
static void print_heading(const struct bench_heading *heading, const struct bench_heading **printed)
{
    if (heading != *printed)
        printf("\n%s: %s\n  (%s)\n", heading->name, heading->title, heading->guarantee);
    *printed = heading;
}

void bench_output_measures(const struct bench_result *result, size_t first_row, size_t first_measure, size_t first_note)
{
    const struct bench_heading *heading = NULL;

    for (size_t i = first_measure; i < result->measure_count; i++) {
        print_heading(result->measures[i].heading, &heading);
        print_measure(&result->measures[i]);
    }
    for (size_t i = first_note; i < result->note_count; i++) {
        if (first_row == result->row_count)
            print_heading(result->notes[i].heading, &heading);
        printf("  %-7s %-58s left out: %s\n", result->notes[i].engine, result->notes[i].mode, result->notes[i].text);
    }
    fflush(stdout);
}

void bench_output_aims(const struct bench_result *result)
{
    if (result->aim_count > 0)
        printf("\naims\n");
    for (size_t i = 0; i < result->aim_count; i++) {
        const struct bench_aim *aim = &result->aims[i];
        const char *word = aim->moot != NULL ? aim->moot : bench_aim_met(aim) ? "met" : "missed";

        printf("  %-72s %s %-6.4g measured %-8.4g %s\n", aim->text, aim->at_least ? ">=" : "<=", aim->bound,
               aim->measured, word);
    }
}

static json_t *machine_object(const struct bench_machine *machine)
{
    return json_pack("{s:s, s:i, s:I, s:s}", "processor", machine->processor, "cores", (int)machine->cores,
                     "memory_bytes", (json_int_t)machine->memory_bytes, "kernel", machine->kernel);
}

static json_t *versions_object(const struct bench_machine *machine, const struct bench_result *result)
{
    json_t *versions = json_pack("{s:s, s:s}", "compiler", machine->compiler, "build", machine->build);

    for (size_t i = 0; i < result->software_count && versions != NULL; i++)
        if (result->software[i].version != NULL)
            json_object_set_new(versions, result->software[i].name, json_string(result->software[i].version));
    return versions;
}

static json_t *row_object(const struct bench_row *row)
{
    json_t *object =
        json_pack("{s:s, s:s, s:s, s:s, s:s, s:f, s:f, s:f, s:f, s:I, s:I, s:i}", "workload", row->heading->name,
                  "engine", row->engine, "mode", row->mode, "title", row->heading->title, "guarantee",
                  row->heading->guarantee, "ns_per_op", row->figures.median_ns, "ns_per_op_p10", row->figures.p10_ns,
                  "ns_per_op_p90", row->figures.p90_ns, "ns_per_op_minimum", row->figures.minimum_ns, "ops",
                  (json_int_t)row->ops, "bytes", (json_int_t)row->bytes, "repetitions", (int)row->figures.repetitions);

    if (object != NULL && row->series != NULL)
        json_object_set_new(object, "series", json_string(row->series));
    if (object != NULL && row->seen[0] != '\0')
        json_object_set_new(object, "seen", json_string(row->seen));
    if (object != NULL && row->readers != 0)
        json_object_set_new(object, "readers", json_integer((json_int_t)row->readers));
    if (object != NULL && row->cells != 0)
        json_object_set_new(object, "cells", json_integer((json_int_t)row->cells));
    if (object != NULL && row->latency.samples != 0)
        json_object_set_new(object, "latency",
                            json_pack("{s:I, s:f, s:f, s:f, s:f}", "samples", (json_int_t)row->latency.samples,
                                      "p50_ns", row->latency.p50_ns, "p99_ns", row->latency.p99_ns, "p999_ns",
                                      row->latency.p999_ns, "max_ns", row->latency.max_ns));
    return object;
}

static json_t *rows_array(const struct bench_result *result)
{
    json_t *rows = json_array();

    for (size_t i = 0; rows != NULL && i < result->row_count; i++)
        if (json_array_append_new(rows, row_object(&result->rows[i])) < 0) {
            json_decref(rows);
            return NULL;
        }
    return rows;
}

static json_t *measures_array(const struct bench_result *result)
{
    json_t *measures = json_array();

    for (size_t i = 0; measures != NULL && i < result->measure_count; i++) {
        const struct bench_measure *measure = &result->measures[i];
        json_t *object =
            json_pack("{s:s, s:s, s:s, s:s, s:s, s:f, s:s}", "workload", measure->heading->name, "title",
                      measure->heading->title, "guarantee", measure->heading->guarantee, "engine", measure->engine,
                      "mode", measure->mode, "value", measure->value, "unit", measure->unit);

        if (object != NULL && measure->seen[0] != '\0')
            json_object_set_new(object, "seen", json_string(measure->seen));
        if (json_array_append_new(measures, object) < 0) {
            json_decref(measures);
            return NULL;
        }
    }
    return measures;
}

static json_t *notes_array(const struct bench_result *result)
{
    json_t *notes = json_array();

    for (size_t i = 0; notes != NULL && i < result->note_count; i++) {
        const struct bench_note *note = &result->notes[i];

        if (json_array_append_new(notes, json_pack("{s:s, s:s, s:s, s:s}", "workload", note->heading->name, "engine",
                                                   note->engine, "mode", note->mode, "text", note->text)) < 0) {
            json_decref(notes);
            return NULL;
        }
    }
    return notes;
}

static json_t *aims_array(const struct bench_result *result)
{
    json_t *aims = json_array();

    for (size_t i = 0; aims != NULL && i < result->aim_count; i++) {
        const struct bench_aim *aim = &result->aims[i];
        json_t *object = json_pack("{s:s, s:f, s:f, s:b, s:b}", "text", aim->text, "measured", aim->measured, "bound",
                                   aim->bound, "at_least", aim->at_least, "met", bench_aim_met(aim));

        if (object != NULL && aim->moot != NULL)
            json_object_set_new(object, "moot", json_string(aim->moot));
        if (json_array_append_new(aims, object) < 0) {
            json_decref(aims);
            return NULL;
        }
    }
    return aims;
}

int bench_output_json(const char *path, const struct bench_machine *machine, const struct bench_result *result)
{
    json_t *root = json_pack("{s:s, s:s, s:o, s:{s:s, s:s}, s:o, s:o}", "date", machine->date, "scale", result->scale,
                             "machine", machine_object(machine), "file_system", "type", machine->file_system, "options",
                             machine->file_system_options, "versions", versions_object(machine, result), "rows",
                             rows_array(result));
    int failed;

    if (root == NULL || (result->aim_count > 0 && json_object_set_new(root, "aims", aims_array(result)) < 0) ||
        (result->measure_count > 0 && json_object_set_new(root, "measures", measures_array(result)) < 0) ||
        (result->verdict_count > 0 && json_object_set_new(root, "goals", bench_goals_array(result)) < 0) ||
        (result->note_count > 0 && json_object_set_new(root, "notes", notes_array(result)) < 0)) {
        fprintf(stderr, "%s: %s: the result can't be put into JSON (no memory, or no UTF-8)\n", result->program, path);
        json_decref(root);
        return -1;
    }
    failed = json_dump_file(root, path, JSON_INDENT(2) | JSON_REAL_PRECISION(6)) < 0;
    if (failed)
        fprintf(stderr, "%s: %s: can't be written\n", result->program, path);
    json_decref(root);
    return failed ? -1 : 0;
}
