/*
 * harness.h - how time is measured: interleaved repetitions, medians and their spread.
 *
 * The subjects of one measurement take turns: every repetition runs each of them once, and each repetition begins with
 * another one, so that what the machine does meanwhile (clock rate, neighbours, writeback) meets them all alike.
 */
#ifndef BENCH_HARNESS_H
#define BENCH_HARNESS_H

#include <signal.h>
#include <stddef.h>
#include <stdint.h>

/* One row that is measured. The functions return 0, or an error that ends the measurement. */
struct bench_subject {
    void *context;
    int (*before)(void *context); /* not timed; NULL: nothing */
    int (*run)(void *context);    /* timed */
    int (*after)(void *context);  /* not timed; NULL: nothing */
    const uint64_t *timed_ns;     /* where run leaves how much of its time counts; NULL: all of it does */
};

struct bench_plan {
    unsigned repetitions_min; /* at least these, then until the budget is used up */
    unsigned repetitions_max;
    uint64_t budget_ns; /* for the whole measurement, all subjects and what is not timed included */
};

/* What came out, in nanoseconds for one run. */
struct bench_figures {
    double median_ns;
    double p10_ns, p90_ns; /* the spread: nine runs of ten took at least / at most this */
    double minimum_ns;
    unsigned repetitions;
};

/* The same for one of the ops operations of a run. */
struct bench_figures bench_figures_each(const struct bench_figures *run, uint64_t ops);

/* Set by a signal handler: the measurement ends with -EINTR. */
extern volatile sig_atomic_t bench_interrupted;

/* Nanoseconds of CLOCK_MONOTONIC. */
uint64_t bench_clock_ns(void);

/* Takes a result that nobody else reads, so that the work that made it isn't removed as dead. */
void bench_sink(uint64_t value);

/*
 * Measures subject_count subjects side by side; ret_figures gets as many. -ENOMEM, -EINTR, or the error of a subject,
 * whose number is then in *ret_failed.
 */
int bench_measure(const struct bench_subject *subjects, size_t subject_count, const struct bench_plan *plan,
                  struct bench_figures *ret_figures, size_t *ret_failed);

/* The figures of sample_count (> 0) samples, which get sorted. */
struct bench_figures bench_summarize(double *samples_ns, unsigned sample_count);

#endif
