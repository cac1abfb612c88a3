#include "output.h"

#include <jansson.h>
#include <stdio.h>

/* Three digits and a unit: "19.2 ns", "5.81 us". */
static void format_time(double ns, char *text, size_t capacity_bytes)
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

void bench_output_machine(const struct bench_machine *machine, const struct bench_session *session)
{
    printf("machine      %s, %u cores, %.1f GiB memory\n", machine->processor, machine->cores,
           (double)machine->memory_bytes / (1 << 30));
    printf("system       %s; file system %s (%s)\n", machine->kernel, machine->file_system,
           machine->file_system_options);
    printf("built        %s, %s\n", machine->compiler, machine->build);
    for (size_t i = 0; i < bench_engine_count; i++)
        if (bench_engines[i]->version != NULL)
            printf("%-12s %s\n", bench_engines[i]->name, bench_engines[i]->version());
#ifndef BENCH_HAVE_LMDB
    printf("lmdb         not measured: this bench was built without it\n");
#endif
    printf("run          %s, %s; at least %u repetitions, taking turns; medians\n", session->scale->name, machine->date,
           session->scale->repetitions_min);
    printf("ratios       x limit: times the fastest row of the limit; x cellar: times cellar's first row\n");
#ifndef __OPTIMIZE__
    printf("warning      this is not an optimized build: the figures say nothing\n");
#endif
}

void bench_output_rows(const struct bench_session *session, size_t first_row)
{
    double limit_ns = 0.0;
    double cellar_ns = 0.0;

    if (first_row >= session->row_count)
        return;
    for (size_t i = first_row; i < session->row_count; i++) {
        const struct bench_row *row = &session->rows[i];

        if (strcmp(row->engine, bench_engine_limit.name) == 0 && (limit_ns <= 0.0 || row->figures.median_ns < limit_ns))
            limit_ns = row->figures.median_ns;
        if (strcmp(row->engine, bench_engine_cellar.name) == 0 && cellar_ns <= 0.0)
            cellar_ns = row->figures.median_ns;
    }
    printf("\n%s: %s\n  (%s)\n", session->rows[first_row].workload->name, session->rows[first_row].workload->title,
           session->rows[first_row].workload->guarantee);
    printf("  %-7s %-58s %9s %9s %9s %6s %8s %8s\n", "engine", "mode", "median", "p10", "p90", "GB/s", "x limit",
           "x cellar");
    for (size_t i = first_row; i < session->row_count; i++) {
        const struct bench_row *row = &session->rows[i];
        char median[32], p10[32], p90[32], rate[32], to_limit[32], to_cellar[32];

        format_time(row->figures.median_ns, median, sizeof median);
        format_time(row->figures.p10_ns, p10, sizeof p10);
        format_time(row->figures.p90_ns, p90, sizeof p90);
        format_rate(row, rate, sizeof rate);
        format_ratio(row->figures.median_ns, limit_ns, to_limit, sizeof to_limit);
        format_ratio(row->figures.median_ns, cellar_ns, to_cellar, sizeof to_cellar);
        printf("  %-7s %-58s %9s %9s %9s %6s %8s %8s\n", row->engine, row->mode, median, p10, p90, rate, to_limit,
               to_cellar);
    }
    fflush(stdout);
}

static json_t *machine_object(const struct bench_machine *machine)
{
    return json_pack("{s:s, s:i, s:I, s:s}", "processor", machine->processor, "cores", (int)machine->cores,
                     "memory_bytes", (json_int_t)machine->memory_bytes, "kernel", machine->kernel);
}

static json_t *versions_object(const struct bench_machine *machine)
{
    json_t *versions = json_pack("{s:s, s:s}", "compiler", machine->compiler, "build", machine->build);

    for (size_t i = 0; i < bench_engine_count && versions != NULL; i++)
        if (bench_engines[i]->version != NULL)
            json_object_set_new(versions, bench_engines[i]->name, json_string(bench_engines[i]->version()));
    return versions;
}

static json_t *row_object(const struct bench_row *row)
{
    return json_pack("{s:s, s:s, s:s, s:s, s:s, s:f, s:f, s:f, s:f, s:I, s:I, s:i}", "workload", row->workload->name,
                     "engine", row->engine, "mode", row->mode, "title", row->workload->title, "guarantee",
                     row->workload->guarantee, "ns_per_op", row->figures.median_ns, "ns_per_op_p10",
                     row->figures.p10_ns, "ns_per_op_p90", row->figures.p90_ns, "ns_per_op_minimum",
                     row->figures.minimum_ns, "ops", (json_int_t)row->ops, "bytes", (json_int_t)row->bytes,
                     "repetitions", (int)row->figures.repetitions);
}

int bench_output_json(const char *path, const struct bench_machine *machine, const struct bench_session *session)
{
    json_t *rows = json_array();
    json_t *root;
    int failed = rows == NULL;

    for (size_t i = 0; i < session->row_count && !failed; i++)
        failed = json_array_append_new(rows, row_object(&session->rows[i])) < 0;
    root = json_pack("{s:s, s:s, s:o, s:{s:s, s:s}, s:o, s:o}", "date", machine->date, "scale", session->scale->name,
                     "machine", machine_object(machine), "file_system", "type", machine->file_system, "options",
                     machine->file_system_options, "versions", versions_object(machine), "rows", rows);
    if (root == NULL || failed) {
        fprintf(stderr, "bench: %s: the result can't be put into JSON (no memory, or no UTF-8)\n", path);
        json_decref(root);
        return -1;
    }
    failed = json_dump_file(root, path, JSON_INDENT(2) | JSON_REAL_PRECISION(6)) < 0;
    if (failed)
        fprintf(stderr, "bench: %s: can't be written\n", path);
    json_decref(root);
    return failed ? -1 : 0;
}
