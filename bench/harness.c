#include "harness.h"

#include <errno.h>
#include <stdlib.h>
#include <time.h>

volatile sig_atomic_t bench_interrupted;

static volatile uint64_t sink;

void bench_sink(uint64_t value)
{
    sink = value;
}

uint64_t bench_clock_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static int compare_samples(const void *left, const void *right)
{
    double a = *(const double *)left;
    double b = *(const double *)right;

    return (a > b) - (a < b);
}

/* The value below which a part (0..1) of the sorted samples lies, interpolated between the two nearest. */
static double quantile(const double *sorted, unsigned count, double part)
{
    double position = part * (double)(count - 1);
    unsigned below = (unsigned)position;
    unsigned above = below + 1 < count ? below + 1 : below;

    return sorted[below] + (sorted[above] - sorted[below]) * (position - (double)below);
}

struct bench_figures bench_summarize(double *samples_ns, unsigned sample_count)
{
    qsort(samples_ns, sample_count, sizeof samples_ns[0], compare_samples);
    return (struct bench_figures){
        .median_ns = quantile(samples_ns, sample_count, 0.5),
        .p10_ns = quantile(samples_ns, sample_count, 0.1),
        .p90_ns = quantile(samples_ns, sample_count, 0.9),
        .minimum_ns = samples_ns[0],
        .repetitions = sample_count,
    };
}

static int run_once(const struct bench_subject *subject, double *ret_elapsed_ns)
{
    uint64_t start_ns;
    int status = bench_interrupted ? -EINTR : 0;

    if (status == 0 && subject->before != NULL)
        status = subject->before(subject->context);
    if (status != 0)
        return status;
    start_ns = bench_clock_ns();
    status = subject->run(subject->context);
    *ret_elapsed_ns = (double)(bench_clock_ns() - start_ns);
    if (subject->timed_ns != NULL)
        *ret_elapsed_ns = (double)*subject->timed_ns;
    if (status == 0 && subject->after != NULL)
        status = subject->after(subject->context);
    return status;
}

int bench_measure(const struct bench_subject *subjects, size_t subject_count, const struct bench_plan *plan,
                  struct bench_figures *ret_figures, size_t *ret_failed)
{
    double *samples = calloc(subject_count * plan->repetitions_max, sizeof samples[0]);
    uint64_t start_ns = bench_clock_ns();
    unsigned repetitions = 0;
    int status = samples == NULL ? -ENOMEM : 0;

    for (; status == 0 && repetitions < plan->repetitions_max; repetitions++) {
        if (repetitions >= plan->repetitions_min && bench_clock_ns() - start_ns >= plan->budget_ns)
            break;
        for (size_t turn = 0; status == 0 && turn < subject_count; turn++) {
            size_t subject = (repetitions + turn) % subject_count;

            status = run_once(&subjects[subject], &samples[subject * plan->repetitions_max + repetitions]);
            if (status != 0)
                *ret_failed = subject;
        }
    }
    for (size_t subject = 0; status == 0 && subject < subject_count; subject++)
        ret_figures[subject] = bench_summarize(&samples[subject * plan->repetitions_max], repetitions);
    free(samples);
    return status;
}

struct bench_figures bench_figures_each(const struct bench_figures *run, uint64_t ops)
{
    double per_op = 1.0 / (double)ops;

    return (struct bench_figures){.median_ns = run->median_ns * per_op,
                                  .p10_ns = run->p10_ns * per_op,
                                  .p90_ns = run->p90_ns * per_op,
                                  .minimum_ns = run->minimum_ns * per_op,
                                  .repetitions = run->repetitions};
}
