/*
 * race [ROUNDS] - two processes ask for the same store at the same moment, again and again: in every round one gets it
 * and the other one is told CELLAR_EBUSY, whoever opens first and however the last holder ended: closed, abandoned,
 * or killed with the store open.
 */
#include "store_fixture.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

enum { RACERS = 2, ROUNDS_DEFAULT = 1000 };

static unsigned rounds = ROUNDS_DEFAULT;

struct board {
    pthread_barrier_t ready, tried;
    atomic_uint inside, won, busy, wrong;
};

/* How the one who wins ends. */
enum ending { CLOSES, ABANDONS, IS_KILLED, ENDING_COUNT };

/* With the store open, and nobody else inside. */
static int hold(struct board *board, struct cellar_writer *writer, enum ending ending)
{
    unsigned char cell[32];
    uint32_t index;

    SUPPORT_CHILD_NEEDS(atomic_fetch_add(&board->inside, 1) == 0);
    atomic_fetch_add(&board->won, 1);
    store_cell_bytes(cellar_writer_next(writer), cell, sizeof cell);
    SUPPORT_CHILD_NEEDS(cellar_writer_append(writer, cell, 1, &index) == 0);
    SUPPORT_CHILD_NEEDS(cellar_writer_commit(writer) == 0);
    pthread_barrier_wait(&board->tried); /* nobody who asks meanwhile gets it */
    SUPPORT_CHILD_NEEDS(atomic_fetch_sub(&board->inside, 1) == 1);
    if (ending == IS_KILLED)
        raise(SIGKILL);
    if (ending == ABANDONS)
        cellar_writer_abandon(writer);
    else
        SUPPORT_CHILD_NEEDS(cellar_writer_close(writer) == 0);
    return 0;
}

static int race(struct store_fixture *f, struct board *board, enum ending ending, uint64_t delay)
{
    struct cellar_writer_options options = store_options(f);
    struct cellar_writer *writer = NULL;
    volatile uint64_t turns = delay;
    int error;

    pthread_barrier_wait(&board->ready);
    while (turns > 0)
        turns--;
    error = cellar_writer_open(f->path, &options, &writer);
    if (error == 0)
        return hold(board, writer, ending);
    SUPPORT_CHILD_NEEDS(error == CELLAR_EBUSY);
    atomic_fetch_add(&board->busy, 1);
    pthread_barrier_wait(&board->tried);
    return 0;
}

static pid_t start(struct store_fixture *f, struct board *board, enum ending ending, uint64_t delay)
{
    pid_t child;

    fflush(NULL);
    child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        int line;

        prctl(PR_SET_PDEATHSIG, SIGKILL);
        line = race(f, board, ending, delay);
        atomic_fetch_or(&board->wrong, (unsigned)line);
        _exit(line == 0 ? 0 : 1);
    }
    return child;
}

/* Waits for all; who failed never comes to the barrier where the others wait for it. */
static unsigned wait_for(const pid_t racers[RACERS])
{
    unsigned killed = 0;

    for (int i = 0; i < RACERS; i++) {
        int status = 0;

        assert_true(wait(&status) > 0);
        killed += WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL;
        if (WIFEXITED(status) && WEXITSTATUS(status) != 0) {
            for (int k = 0; k < RACERS; k++)
                kill(racers[k], SIGTERM);
        }
    }
    return killed;
}

static void run_round(struct store_fixture *f, struct board *board, enum ending ending, uint64_t *seed)
{
    pid_t racers[RACERS];
    unsigned killed;

    for (int i = 0; i < RACERS; i++)
        racers[i] = start(f, board, ending, support_random_below(seed, 20000));
    killed = wait_for(racers);
    assert_int_equal(atomic_load(&board->wrong), 0);
    assert_int_equal(atomic_load(&board->won), 1);
    assert_int_equal(atomic_load(&board->busy), RACERS - 1);
    assert_int_equal(killed, ending == IS_KILLED ? 1 : 0);
}

static void board_reset(struct board *board)
{
    pthread_barrierattr_t shared;

    *board = (struct board){.inside = 0};
    assert_int_equal(pthread_barrierattr_init(&shared), 0);
    assert_int_equal(pthread_barrierattr_setpshared(&shared, PTHREAD_PROCESS_SHARED), 0);
    assert_int_equal(pthread_barrier_init(&board->ready, &shared, RACERS), 0);
    assert_int_equal(pthread_barrier_init(&board->tried, &shared, RACERS), 0);
    pthread_barrierattr_destroy(&shared);
}

static void run_races(struct store_fixture *f, unsigned count)
{
    struct board *board = mmap(NULL, sizeof *board, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    struct cellar_snapshot snapshot;
    struct cellar_writer *writer;
    uint64_t seed = 1;

    assert_true(board != MAP_FAILED);
    store_close(store_new(f, 32, 100000));
    for (unsigned round = 0; round < count; round++) {
        board_reset(board);
        run_round(f, board, (enum ending)(round % ENDING_COUNT), &seed);
    }
    munmap(board, sizeof *board);
    writer = store_again(f);
    snapshot = cellar_writer_snapshot(writer);
    assert_int_equal(snapshot.next_index, snapshot.start_index + count); /* every winner left its cell */
    store_assert_cells(&snapshot);
    store_close(writer);
}

static void test_race(void **state)
{
    struct store_fixture *f = *state;

    run_races(f, store_takes_slice(f) ? 1 + rounds / 10 : f->way->window ? rounds : 1 + rounds / 8);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {STORE_ON_FILES(test_race)};

    if (argc > 1)
        rounds = (unsigned)strtoul(argv[1], NULL, 10);
    if (rounds == 0) {
        fprintf(stderr, "usage: %s [ROUNDS]\n", argv[0]);
        return 2;
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
