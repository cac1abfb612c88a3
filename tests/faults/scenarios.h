/* scenarios.h - what a run does, and where. */
#ifndef CELLAR_TESTS_FAULTS_SCENARIOS_H
#define CELLAR_TESTS_FAULTS_SCENARIOS_H

#include "world.h"

enum { STEPS_MAX = 64 };

/* Steps up to OP_END; the first quiet_steps of them run before any call is counted. */
struct scenario {
    const char *name;
    unsigned quiet_steps;
    struct step steps[STEPS_MAX];
};

extern const struct scenario scenarios[];
extern const unsigned scenario_count;

extern const struct way ways[];
extern const unsigned way_count;

/* A sequence of operations that a seed names. */
void scenario_random(uint64_t seed, const struct way *way, struct scenario *ret_scenario);

#endif
