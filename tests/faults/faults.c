/*
 * faults.c - every call fails once, in turn, by every way in which it can.
 *
 *     faults [--minutes N] [--seed N] [--only SCENARIO] [--way WAY] [--barriers yes]
 *
 * Without --minutes: each scenario (scenarios.c) on each way; fault number n of every kind, n rising until a run ends
 * with none fired. With --minutes: sequences of operations by seed, with one or two faults, until the time is up. What
 * goes wrong is printed with what makes it again (--only random --seed N: that one run). Barriers of the system are not
 * really made but with --barriers. The last line: faults fired, runs, failures.
 */
#include "scenarios.h"
#include "wraps.h"

#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { NUMBERS_MAX = 100000, FAILURES_MAX = 20 };

static struct {
    struct world world;
    struct sim sim, copy, grave;
    char folder[1024];
    uint64_t fired, runs, failures;
    char now[256]; /* the run that is under way, for a crash */
} all;

static void crash(int number)
{
    static const char text[] = "a signal ended: ";

    (void)number;
    (void)!write(STDOUT_FILENO, text, sizeof text - 1);
    (void)!write(STDOUT_FILENO, all.now, strlen(all.now));
}

static void crash_for_good(int number)
{
    crash(number);
    signal(number, SIG_DFL);
    raise(number);
}

static void print_faults(void)
{
    for (unsigned i = 0; i < PLAN_TARGETS_MAX; i++) {
        enum site site;
        const struct fault *fault = plan_fired(i, &site);

        if (fault != NULL)
            printf("    %s: %s, manner %d%s\n", site_name(site),
                   fault->error == 0 ? "short" : cellar_strerror(-fault->error), (int)fault->manner,
                   fault->hidden ? ", hidden" : "");
    }
}

/* One run; true where it found nothing wrong. */
static bool run(const struct scenario *scenario, const struct way *way, uint64_t seed,
                const struct plan_target *targets, unsigned target_count)
{
    struct world *world = &all.world;

    world->folder = all.folder;
    world->sim = &all.sim;
    world->copy = &all.copy;
    world->grave = &all.grave;
    snprintf(all.now, sizeof all.now,
             "--only %s --way %s --seed %" PRIu64 ", call %" PRIu64 " way %u, then call %" PRIu64 " way %u\n",
             scenario->name, way->name, seed, targets[0].number, targets[0].way,
             target_count > 1 ? targets[1].number : 0, target_count > 1 ? targets[1].way : 0);
    world_begin(world, way, seed);
    for (unsigned i = 0; i < STEPS_MAX && scenario->steps[i].operation != OP_END; i++) {
        if (i == scenario->quiet_steps)
            plan_begin(targets, target_count);
        world_step(world, &scenario->steps[i]);
    }
    world_end(world);
    all.runs++;
    all.fired += plan_fired_count();
    if (world->message[0] == '\0')
        return true;
    all.failures++;
    printf("FAILED: %s    %s: %s\n", all.now, operation_name(world->doing), world->message);
    print_faults();
    fflush(stdout);
    return false;
}

/* Every way of call after call. */
static void sweep(const struct scenario *scenario, const struct way *way, uint64_t seed)
{
    for (uint64_t number = 1; number < NUMBERS_MAX && all.failures < FAILURES_MAX; number++) {
        struct plan_target target = {.number = number};
        unsigned ways_of_call = 1;

        for (; target.way < ways_of_call; target.way++) {
            (void)run(scenario, way, seed, &target, 1);
            if (!plan_reached(&ways_of_call))
                return;
        }
    }
}

/* Runs with one fault or two, of a seed. */
static void run_random(uint64_t seed)
{
    uint64_t random = seed;
    const struct way *way = &ways[model_random(&random) % way_count];
    struct plan_target targets[PLAN_TARGETS_MAX];
    struct scenario scenario;
    unsigned target_count = 1 + model_random(&random) % 2;

    scenario_random(model_random(&random), way, &scenario);
    for (unsigned i = 0; i < PLAN_TARGETS_MAX; i++) {
        uint64_t limit = i == 0 ? 400 : 60;

        targets[i] = (struct plan_target){.number = 1 + model_random(&random) % (1 + model_random(&random) % limit),
                                          .way = (unsigned)(model_random(&random) % 64),
                                          .any = true};
    }
    (void)run(&scenario, way, seed, targets, target_count);
}

static int report(void)
{
    rmdir(all.folder);
    printf("%" PRIu64 " faults fired, %" PRIu64 " runs, %" PRIu64 " failures\n", all.fired, all.runs, all.failures);
    return all.failures > 0 ? 1 : 0;
}

static bool has_direct(void)
{
    struct cellar_device *device = NULL;
    char path[sizeof all.folder + 16];
    int error;

    snprintf(path, sizeof path, "%s/probe", all.folder);
    error = cellar_device_open_pread(path, CELLAR_OPEN_WRITE | CELLAR_OPEN_CREATE | CELLAR_OPEN_DIRECT, 0600, &device);
    cellar_device_close(device);
    unlink(path);
    return error == 0;
}

int main(int argument_count, char **arguments)
{
    const char *only = NULL, *only_way = NULL, *parent = getenv("TMPDIR");
    uint64_t seed = 1, minutes = 0;
    struct cellar_reader *reader;
    bool replay = false;
    time_t begin = time(NULL);

    for (int i = 1; i + 1 < argument_count; i += 2) {
        if (strcmp(arguments[i], "--seed") == 0)
            seed = strtoull(arguments[i + 1], NULL, 10);
        else if (strcmp(arguments[i], "--minutes") == 0)
            minutes = strtoull(arguments[i + 1], NULL, 10);
        else if (strcmp(arguments[i], "--only") == 0)
            only = arguments[i + 1];
        else if (strcmp(arguments[i], "--way") == 0)
            only_way = arguments[i + 1];
        else if (strcmp(arguments[i], "--barriers") == 0)
            wraps_make_barriers(true);
    }
    replay = only != NULL && strcmp(only, "random") == 0;
    /* What the library maps once for the process is no mapping of any run. */
    if (cellar_reader_open("", NULL, &reader) == 0)
        return 2;
    sim_make(&all.sim, crash);
    sim_make(&all.copy, NULL);
    sim_make(&all.grave, NULL);
    signal(SIGBUS, crash_for_good);
    signal(SIGABRT, crash_for_good);
    signal(SIGXFSZ, crash_for_good);
    if (parent == NULL) /* in memory, where there is a place for that */
        parent = access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp";
    snprintf(all.folder, sizeof all.folder, "%s/cellar-faults-XXXXXX", parent);
    if (mkdtemp(all.folder) == NULL) {
        perror(all.folder);
        return 2;
    }
    if (replay)
        run_random(seed);
    for (; minutes > 0 && time(NULL) - begin < (time_t)(minutes * 60) && all.failures < FAILURES_MAX; seed++)
        run_random(seed);
    for (unsigned i = 0; i < scenario_count && minutes == 0 && !replay; i++) {
        for (unsigned j = 0; j < way_count; j++) {
            if ((only != NULL && strcmp(only, scenarios[i].name) != 0) ||
                (only_way != NULL && strcmp(only_way, ways[j].name) != 0) ||
                (only_way == NULL && ways[j].variant && strcmp(scenarios[i].name, "eager") == 0))
                continue;
            if (ways[j].choice == CELLAR_DEVICE_DIRECT && !has_direct())
                printf("skipped, no O_DIRECT here: %s on direct\n", scenarios[i].name);
            else
                sweep(&scenarios[i], &ways[j], seed);
        }
    }
    return report();
}
