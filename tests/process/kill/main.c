/*
 * kill [ROUNDS [SEED]] [--minutes N] [--seed SEED] - writer processes are killed at random moments, thousands of times,
 * while readers follow, with and without a key, on the same way and another. ROUNDS: kills for each way and mode; with
 * --minutes as many as there is time for. The last line says what was done.
 *
 * A writer dies by SIGKILL from its parent after a random time, in whatever it is doing: open, append, commit, flush,
 * truncate, close; or, on a mapped file, by its own hand between two stores into the header. Every third publishes by
 * the word, where it can. Each store is used for some hundred kills. Every third has checksums, which are compared with
 * the store after each kill. Times are real, so a seed names the plan, not the moments.
 */
#include "kill.h"

#include <cellar/sums.h>
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { ROUNDS_DEFAULT = 250, CASES = 6, STORE_KILLS_MIN = 40, STORE_KILLS_MAX = 400 };

static unsigned rounds = ROUNDS_DEFAULT;
static uint64_t next_seed = 1;
static double minutes;
static struct kill_board *board;
static unsigned long long kills, kills_at[KILL_STEP_COUNT], stores;
static unsigned failures;
static pid_t program;

static double now_seconds(void)
{
    struct timespec time;

    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

static void report(void)
{
    static const char *const names[KILL_STEP_COUNT] = {"open", "append", "commit", "flush", "truncate", "close"};

    if (getpid() != program)
        return;
    printf("killed in:");
    for (int step = 0; step < KILL_STEP_COUNT; step++)
        printf(" %s %llu", names[step], kills_at[step]);
    printf(
        "\nkills %llu, stores %llu, commits made %llu (by word %llu), commits verified %llu, snapshots verified %llu "
        "(by word %llu), MB summed %llu, failures %u\n",
        kills, stores, atomic_load(&board->commits), atomic_load(&board->word_commits), atomic_load(&board->verified),
        atomic_load(&board->snapshots), atomic_load(&board->word_snapshots),
        atomic_load(&board->summed_bytes) / 1000000, failures);
}

/* ---- children ---- */

static pid_t start(const struct kill_plan *plan, int reader_kind, uint64_t seed)
{
    pid_t child;

    fflush(NULL);
    child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        int result;

        prctl(PR_SET_PDEATHSIG, SIGKILL);
        result = reader_kind < 0 ? kill_write(plan, seed) : kill_read(plan, (enum kill_reader)reader_kind, seed);
        if (result == CELLAR_EINDEXFULL)
            _exit(KILL_EXIT_FULL);
        if (result != 0)
            fprintf(stderr, "%s %d: %s%d %s\n", reader_kind < 0 ? "writer" : "reader", reader_kind,
                    result > 0 ? "line " : "", result, result < 0 ? cellar_strerror(result) : "");
        _exit(result == 0 ? 0 : KILL_EXIT_WRONG);
    }
    return child;
}

/* Waits until a child changes, or for so long. */
static void wait_at_most(uint64_t nanoseconds)
{
    struct timespec time = {.tv_sec = (time_t)(nanoseconds / 1000000000), .tv_nsec = (long)(nanoseconds % 1000000000)};
    sigset_t signals;

    sigemptyset(&signals);
    sigaddset(&signals, SIGCHLD);
    sigtimedwait(&signals, NULL, &time);
}

/* Children that have ended already say nothing later. */
static void forget_children(void)
{
    struct timespec none = {0};
    sigset_t signals;

    sigemptyset(&signals);
    sigaddset(&signals, SIGCHLD);
    while (sigtimedwait(&signals, NULL, &none) > 0)
        ;
}

/* A life from some microseconds, which ends within open, to tens of milliseconds. */
static uint64_t lifetime(uint64_t *seed)
{
    static const uint64_t scales[] = {300000, 1000000, 3000000, 10000000};
    uint64_t scale = scales[support_random_below(seed, SUPPORT_COUNT(scales))];

    return 50000 + support_random_below(seed, scale);
}

static void fail_child(const char *who, int status)
{
    failures++;
    fail_msg("%s ended with status 0x%x", who, (unsigned)status);
}

/* What a writer that is dead left is not called rotten, whatever it died in; and what it had flushed has checksums. */
static void check_sums(const struct kill_plan *plan, bool closed)
{
    uint64_t flushed_bytes = (uint64_t)atomic_load(&board->flushed_next) * plan->config.bytes_per_cell;
    struct cellar_sums_report report;
    bool good;

    if (!plan->sums)
        return;
    assert_done(cellar_sums_check(plan->f->path, NULL, &report));
    good = report.state == CELLAR_SUMS_GOOD || (!closed && report.state == CELLAR_SUMS_BEHIND);
    if (atomic_load(&board->generation) % 2 == 0) /* else the store may have been truncated */
        good = good && CELLAR_HEADER_BYTES + report.verified_bytes >= flushed_bytes;
    if (!good || report.rotten_blocks > 0 || report.broken_sectors > 0) {
        failures++;
        fail_msg("state %d, %" PRIu64 " blocks rotten, %" PRIu64 " sectors broken, %" PRIu64 " of %" PRIu64
                 " flushed bytes compared",
                 (int)report.state, report.rotten_blocks, report.broken_sectors, report.verified_bytes, flushed_bytes);
    }
    atomic_fetch_add(&board->summed_bytes, report.verified_bytes);
}

/* One writer, from birth to death. False: the store is full. */
static bool kill_one(const struct kill_plan *plan, uint64_t *seed)
{
    pid_t writer;
    int status = 0;

    forget_children();
    writer = start(plan, -1, support_random(seed));
    wait_at_most(lifetime(seed));
    kill(writer, SIGKILL);
    assert_int_equal(waitpid(writer, &status, 0), writer);
    if (WIFEXITED(status) && WEXITSTATUS(status) == KILL_EXIT_FULL)
        return false;
    if (!WIFSIGNALED(status) || WTERMSIG(status) != SIGKILL)
        fail_child("the writer", status);
    kills++;
    kills_at[atomic_load(&board->step) % KILL_STEP_COUNT]++;
    check_sums(plan, false);
    return true;
}

static void stop_readers(const pid_t readers[KILL_READER_COUNT])
{
    int status, bad_status = 0;

    atomic_store(&board->stop, true);
    for (int kind = 0; kind < KILL_READER_COUNT; kind++) {
        assert_int_equal(waitpid(readers[kind], &status, 0), readers[kind]);
        if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
            bad_status = status;
    }
    if (bad_status != 0)
        fail_child("a reader", bad_status);
}

/* ---- stores ---- */

static void new_store(struct kill_plan *plan, uint64_t *seed)
{
    static const uint32_t cell_sizes[] = {32, 40, 57, 100, 256};
    static const uint64_t steps[] = {1, 4096, 65536, 1 << 20};
    struct cellar_key key = kill_key(0);
    struct cellar_writer_options options;
    struct cellar_writer *writer = NULL;
    uint32_t start_index;

    plan->config = store_config(cell_sizes[support_random_below(seed, SUPPORT_COUNT(cell_sizes))], KILL_MAX_INDEX);
    plan->resize_step_bytes = steps[support_random_below(seed, SUPPORT_COUNT(steps))];
    plan->sums = support_random_below(seed, 3) == 0;
    options = kill_options(plan, &key);
    assert_done(cellar_writer_create(plan->f->path, &plan->config, &options, &writer));
    store_close(writer);
    start_index = cellar_start_index(plan->config.bytes_per_cell);
    atomic_store(&board->done, kill_pack(start_index, CELLAR_ROOT_NONE));
    atomic_store(&board->doing, kill_pack(start_index, CELLAR_ROOT_NONE));
    atomic_store(&board->flushed_next, start_index);
    atomic_store(&board->generation, 0);
    atomic_store(&board->stop, false);
    board->known_next = start_index;
    stores++;
}

/* The last writer's store is whole from its first cell; closed, it is clean. */
static void check_store(const struct kill_plan *plan)
{
    struct cellar_key key = kill_key(0);
    struct cellar_writer_options options = kill_options(plan, &key);
    struct sealed_memory memory = {.ids = board->ids};
    struct cellar_snapshot snapshot;
    struct cellar_recovery recovery;
    struct cellar_writer *writer = NULL;

    assert_done(cellar_writer_open(plan->f->path, &options, &writer));
    assert_int_equal(kill_check_found(plan, writer), 0);
    snapshot = cellar_writer_snapshot(writer);
    memory.known_next = board->known_next;
    assert_int_equal(sealed_check_all(&snapshot, &memory), 0);
    store_close(writer);
    assert_done(cellar_writer_open(plan->f->path, &options, &writer));
    cellar_writer_recovery(writer, &recovery);
    assert_int_equal(recovery.found, CELLAR_FOUND_CLEAN);
    assert_int_equal(kill_check_found(plan, writer), 0);
    store_close(writer);
    check_sums(plan, true);
    /* The store and its checksums, and what a killed truncate left of either at most. */
    assert_true(store_folder_entries(plan->f) <= (plan->sums ? 4 : 2));
}

/* The store, and all that lies beside it. */
static void remove_store(const struct kill_plan *plan)
{
    static const char *const endings[] = {".cellar-sums", ".cellar-sums-new"};
    char path[4096];

    store_remove(plan->f);
    for (size_t i = 0; i < SUPPORT_COUNT(endings); i++) {
        snprintf(path, sizeof path, "%s%s", plan->f->path, endings[i]);
        if (unlink(path) != 0)
            assert_int_equal(errno, ENOENT);
    }
}

/* Makes a store and kills its writers; at most so many, until the time. */
static void use_store(struct kill_plan *plan, uint64_t *seed, unsigned long long kills_end, double until)
{
    uint64_t most = STORE_KILLS_MIN + support_random_below(seed, STORE_KILLS_MAX - STORE_KILLS_MIN);
    pid_t readers[KILL_READER_COUNT];
    unsigned long long store_end = kills + most < kills_end ? kills + most : kills_end;

    new_store(plan, seed);
    for (int kind = 0; kind < KILL_READER_COUNT; kind++)
        readers[kind] = start(plan, kind, support_random(seed));
    while (kills < store_end && now_seconds() < until && kill_one(plan, seed))
        ;
    stop_readers(readers);
    check_store(plan);
    remove_store(plan);
}

static void kill_many(struct store_fixture *f, bool compat)
{
    struct kill_plan plan = {.f = f, .board = board, .compat = compat};
    uint64_t seed = next_seed++;
    double until = now_seconds() + (minutes > 0 ? minutes * 60 / CASES : 1e9);
    unsigned long long kills_end = kills + (store_takes_slice(f) ? rounds / 4 : rounds);

    if (minutes > 0)
        kills_end = UINT64_MAX;
    do
        use_store(&plan, &seed, kills_end, until);
    while (kills < kills_end && now_seconds() < until);
}

static void test_kill(void **state)
{
    kill_many(*state, false);
}

static void test_kill_compat(void **state)
{
    kill_many(*state, true);
}

/* ---- */

static int usage(const char *name)
{
    fprintf(stderr, "usage: %s [ROUNDS [SEED]] [--minutes N] [--seed SEED]\n", name);
    return 2;
}

static int read_arguments(int argc, char **argv)
{
    int place = 0;

    for (int i = 1; i < argc; i++) {
        char *end = NULL;

        if (strcmp(argv[i], "--minutes") == 0 && i + 1 < argc)
            minutes = strtod(argv[++i], &end);
        else if (strcmp(argv[i], "--seed") == 0 && i + 1 < argc)
            next_seed = strtoull(argv[++i], &end, 10);
        else if (place++ == 0)
            rounds = (unsigned)strtoul(argv[i], &end, 10);
        else
            next_seed = strtoull(argv[i], &end, 10);
        if (end == NULL || *end != '\0' || end == argv[i])
            return -EINVAL;
    }
    return rounds > 0 && place <= 2 && minutes >= 0 ? 0 : -EINVAL;
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {STORE_ON_FILES(test_kill), STORE_ON_FILES(test_kill_compat)};
    sigset_t signals;

    if (read_arguments(argc, argv) != 0)
        return usage(argv[0]);
    board = mmap(NULL, sizeof *board, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (board == MAP_FAILED)
        return 1;
    sigemptyset(&signals);
    sigaddset(&signals, SIGCHLD);
    sigprocmask(SIG_BLOCK, &signals, NULL);
    program = getpid();
    atexit(report);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
