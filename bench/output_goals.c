#include "output.h"

#include "output_goals.h"

#include <stdio.h>
#include <string.h>

static void format_figure(double figure, const char *unit, char *text, size_t capacity_bytes)
{
    if (strcmp(unit, "ns") == 0)
        bench_format_time(figure, text, capacity_bytes);
    else if (strcmp(unit, "bytes") == 0)
        snprintf(text, capacity_bytes, "%.1f KiB", figure / 1024.0);
    else
        snprintf(text, capacity_bytes, "%.5g", figure);
}

static void append_text(char *text, size_t capacity_bytes, const char *more)
{
    size_t length = strlen(text);

    snprintf(text + length, capacity_bytes - length, "%s%s", length > 0 && more[0] != '\0' ? ", " : "", more);
}

static bool is_peer(const struct bench_bound_verdict *bound)
{
    return strcmp(bound->kind, "peer") == 0;
}

static void print_goal(const struct bench_verdict *verdict)
{
    char figure[32] = "-", limit[32] = "-", ratio[32] = "-", peers[128] = "", bounds[192] = "", more[64];

    if (verdict->figure > 0.0)
        format_figure(verdict->figure, verdict->unit, figure, sizeof figure);
    if (verdict->limit > 0.0) {
        format_figure(verdict->limit, verdict->unit, limit, sizeof limit);
        snprintf(ratio, sizeof ratio, "%.2f", verdict->figure / verdict->limit);
    }
    for (size_t i = 0; i < verdict->bound_count; i++) {
        const struct bench_bound_verdict *bound = &verdict->bounds[i];

        snprintf(more, sizeof more, "%s %.3g", bound->engine, bound->measured);
        if (is_peer(bound) && bound->moot == NULL)
            append_text(peers, sizeof peers, more);
        append_text(bounds, sizeof bounds, bound->text);
    }
    printf("  %-21s %9s %9s %6s  %-40s %-52s %s", verdict->name, figure, limit, ratio, peers, bounds, verdict->word);
    if (verdict->run_count > 1)
        printf(" (%.2f, %.2f, %.2f)", verdict->runs[0], verdict->runs[1], verdict->runs[2]);
    printf("\n");
    for (size_t i = 0; i < verdict->bound_count; i++)
        if (verdict->bounds[i].moot != NULL && verdict->bounds[i].bound > 0.0)
            printf("  %-21s   not judged: %s: %s\n", "", verdict->bounds[i].text, verdict->bounds[i].moot);
}

void bench_output_goals(const struct bench_result *result)
{
    unsigned missed = 0;

    printf(
        "\ngoals: peers are how many times as long as cellar they take; missed: over a bound by more than 5 %% in two "
        "of three runs\n");
    printf("  %-21s %9s %9s %6s  %-40s %-52s %s\n", "goal", "figure", "limit", "ratio", "peers", "bounds", "");
    for (size_t i = 0; i < result->verdict_count; i++) {
        print_goal(&result->verdicts[i]);
        missed += strcmp(result->verdicts[i].word, "missed") == 0;
    }
    printf("  %zu goals, %u missed\n", result->verdict_count, missed);
    fflush(stdout);
}

static json_t *bound_object(const struct bench_bound_verdict *bound)
{
    json_t *object = json_pack("{s:s, s:s, s:s, s:s, s:f, s:f, s:f, s:b, s:f, s:b}", "text", bound->text, "kind",
                               bound->kind, "engine", bound->engine, "mode", bound->mode, "reference", bound->reference,
                               "measured", bound->measured, "bound", bound->bound, "at_least", bound->at_least,
                               "excess", bound->excess, "held", bound->moot == NULL && bound->excess <= 1.0);

    if (object != NULL && bound->moot != NULL)
        json_object_set_new(object, "moot", json_string(bound->moot));
    return object;
}

static json_t *goal_object(const struct bench_verdict *verdict)
{
    json_t *object =
        json_pack("{s:s, s:i, s:s, s:s, s:s, s:s, s:f, s:s, s:[], s:[]}", "name", verdict->name, "row",
                  (int)verdict->row, "text", verdict->text, "workload", verdict->workload, "mode", verdict->mode,
                  "unit", verdict->unit, "figure", verdict->figure, "verdict", verdict->word, "bounds", "runs");

    if (object == NULL)
        return NULL;
    if (verdict->limit > 0.0) {
        json_object_set_new(object, "limit",
                            json_pack("{s:s, s:f}", "mode", verdict->limit_mode, "figure", verdict->limit));
        json_object_set_new(object, "ratio", json_real(verdict->figure / verdict->limit));
    }
    for (size_t i = 0; i < verdict->bound_count; i++)
        json_array_append_new(json_object_get(object, "bounds"), bound_object(&verdict->bounds[i]));
    for (unsigned i = 0; i < verdict->run_count; i++)
        json_array_append_new(json_object_get(object, "runs"), json_real(verdict->runs[i]));
    return object;
}

json_t *bench_goals_array(const struct bench_result *result)
{
    json_t *goals = json_array();

    for (size_t i = 0; goals != NULL && i < result->verdict_count; i++)
        if (json_array_append_new(goals, goal_object(&result->verdicts[i])) < 0) {
            json_decref(goals);
            return NULL;
        }
    return goals;
}
