#include "plan.h"

#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

static struct {
    pthread_mutex_t lock;
    pthread_t owner;
    atomic_bool running;
    bool armed; /* the owner's */
    struct plan_target targets[PLAN_TARGETS_MAX];
    unsigned target_count, met;
    uint64_t calls; /* since begin, or the last target met */
    uint64_t changes;
    unsigned ways; /* of the first target's site */
    const struct fault *fired[PLAN_TARGETS_MAX];
    enum site sites[PLAN_TARGETS_MAX];
} plan = {.lock = PTHREAD_MUTEX_INITIALIZER};

void plan_begin(const struct plan_target *targets, unsigned target_count)
{
    pthread_mutex_lock(&plan.lock);
    plan.owner = pthread_self();
    plan.armed = false;
    memcpy(plan.targets, targets, target_count * sizeof *targets);
    plan.target_count = target_count;
    plan.met = plan.ways = 0;
    plan.calls = plan.changes = 0;
    memset(plan.fired, 0, sizeof plan.fired);
    atomic_store(&plan.running, true);
    pthread_mutex_unlock(&plan.lock);
}

void plan_end(void)
{
    atomic_store(&plan.running, false);
}

void plan_arm(void)
{
    plan.armed = true;
}

void plan_disarm(void)
{
    plan.armed = false;
}

/* Counts the call; under the lock. */
static const struct fault *count_call(enum site site)
{
    const struct plan_target *target = &plan.targets[plan.met];
    const struct fault *faults, *fault = NULL;
    unsigned count;

    plan.changes += site_changes(site);
    if (plan.met == plan.target_count || ++plan.calls != target->number)
        return NULL;
    faults = site_faults(site, &count);
    if (plan.met == 0)
        plan.ways = count;
    if (target->any)
        fault = &faults[target->way % count];
    else if (target->way < count)
        fault = &faults[target->way];
    plan.fired[plan.met] = fault;
    plan.sites[plan.met] = site;
    plan.met++;
    plan.calls = 0;
    return fault;
}

const struct fault *plan_meet(enum site site)
{
    const struct fault *fault = NULL;

    if (!atomic_load(&plan.running))
        return NULL;
    pthread_mutex_lock(&plan.lock);
    if (plan.armed || !pthread_equal(plan.owner, pthread_self()))
        fault = count_call(site);
    pthread_mutex_unlock(&plan.lock);
    return fault;
}

const struct fault *plan_fired(unsigned index, enum site *ret_site)
{
    const struct fault *fault;

    pthread_mutex_lock(&plan.lock);
    fault = index < plan.met ? plan.fired[index] : NULL;
    if (fault != NULL && ret_site != NULL)
        *ret_site = plan.sites[index];
    pthread_mutex_unlock(&plan.lock);
    return fault;
}

unsigned plan_fired_count(void)
{
    unsigned count = 0;

    for (unsigned i = 0; i < PLAN_TARGETS_MAX; i++)
        count += plan_fired(i, NULL) != NULL;
    return count;
}

bool plan_reached(unsigned *ret_ways)
{
    bool reached;

    pthread_mutex_lock(&plan.lock);
    reached = plan.met > 0;
    *ret_ways = plan.ways;
    pthread_mutex_unlock(&plan.lock);
    return reached;
}

uint64_t plan_changes(void)
{
    uint64_t changes;

    pthread_mutex_lock(&plan.lock);
    changes = plan.changes;
    pthread_mutex_unlock(&plan.lock);
    return changes;
}
