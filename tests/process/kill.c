/*
 * kill [ROUNDS [SEED]] - a writer process is killed at a random moment, again and again, while two readers follow, one
 * with the key and one without. After each kill the next writer must find everything that was committed, whole, and a
 * root that was flushed. Some writers are killed in the middle of a truncate: then the store is the old one or empty.
 */
#include "store_fixture.h"

#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { BYTES_PER_CELL = 32, START = 8, MAX_INDEX = 60000, ROUNDS_DEFAULT = 40 };

static unsigned rounds = ROUNDS_DEFAULT;
static uint64_t first_seed = 1;

/* In memory that all processes share: what the writer that was killed had got done. */
struct shared {
    atomic_uint committed_next; /* of the last commit that returned */
    atomic_uint flushed_root, flushing_root;
    atomic_bool truncating; /* between its call and what it leaves */
    atomic_bool stop;       /* for the readers */
};

/* ---- the writer that is killed ---- */

static int append_and_root(struct cellar_writer *writer, uint64_t *seed)
{
    unsigned char cells[16 * BYTES_PER_CELL];
    uint32_t count = 1 + (uint32_t)(support_random(seed) % 16), first = cellar_writer_next(writer), index;
    int error;

    for (uint32_t i = 0; i < count; i++)
        store_cell_bytes(first + i, cells + BYTES_PER_CELL * (size_t)i, BYTES_PER_CELL);
    error = cellar_writer_append(writer, cells, count, &index);
    return error == 0 ? cellar_writer_set_root(writer, first + count - 1) : error;
}

static int truncate_store(struct cellar_writer *writer, struct shared *shared)
{
    int error;

    atomic_store(&shared->truncating, true);
    error = cellar_writer_truncate(writer, START + 100);
    atomic_store(&shared->committed_next, START);
    atomic_store(&shared->flushed_root, CELLAR_ROOT_NONE);
    atomic_store(&shared->flushing_root, CELLAR_ROOT_NONE);
    atomic_store(&shared->truncating, false);
    return error;
}

/* One append and commit, or flush, or truncate. */
static int work(struct cellar_writer *writer, struct shared *shared, uint64_t *seed)
{
    uint64_t dice = support_random(seed) % 200;
    int error = append_and_root(writer, seed);

    if (error == CELLAR_EINDEXFULL || (error == 0 && dice == 0))
        return truncate_store(writer, shared);
    if (error != 0)
        return error;
    if (dice < 20) {
        atomic_store(&shared->flushing_root, cellar_writer_root(writer));
        error = cellar_writer_flush(writer);
        if (error == 0)
            atomic_store(&shared->flushed_root, cellar_writer_root(writer));
    } else {
        error = cellar_writer_commit(writer);
    }
    if (error == 0)
        atomic_store(&shared->committed_next, cellar_writer_next(writer));
    return error;
}

static int write_until_killed(struct store_fixture *f, struct shared *shared, uint64_t seed)
{
    struct cellar_writer_options options = store_options(f);
    struct cellar_writer *writer = NULL;
    int error = cellar_writer_open(f->path, &options, &writer);

    while (error == 0)
        error = work(writer, shared, &seed);
    return error;
}

/* ---- readers ---- */

static int open_reader(struct store_fixture *f, bool with_key, struct cellar_reader **ret_reader)
{
    struct cellar_reader_options options = store_reader_options(f);

    options.key = with_key ? &f->key : NULL;
    return cellar_reader_open(f->path, &options, ret_reader);
}

/* One look; 0, or the line that says what was wrong. */
static int look(struct store_fixture *f, bool with_key, struct cellar_reader **reader, uint32_t *known_next)
{
    int result = cellar_reader_refresh(*reader);
    struct cellar_snapshot snapshot = cellar_reader_snapshot(*reader);

    if (result == CELLAR_ERETIRED) {
        SUPPORT_CHILD_NEEDS(store_cells_hold(&snapshot, START, snapshot.next_index - START)); /* stays true */
        cellar_reader_close(*reader);
        *reader = NULL;
        *known_next = START;
        SUPPORT_CHILD_NEEDS(open_reader(f, with_key, reader) == 0);
        snapshot = cellar_reader_snapshot(*reader);
        result = 0;
    }
    SUPPORT_CHILD_NEEDS(result == 0 || result == CELLAR_NONE);
    SUPPORT_CHILD_NEEDS(snapshot.next_index >= *known_next);
    SUPPORT_CHILD_NEEDS(snapshot.root_index < snapshot.next_index);
    SUPPORT_CHILD_NEEDS(store_cells_hold(&snapshot, *known_next, snapshot.next_index - *known_next));
    *known_next = snapshot.next_index;
    return 0;
}

static int read_until_stopped(struct store_fixture *f, struct shared *shared, bool with_key)
{
    struct cellar_reader *reader = NULL;
    uint32_t known_next = START;
    int line = 0;

    SUPPORT_CHILD_NEEDS(open_reader(f, with_key, &reader) == 0);
    while (line == 0 && !atomic_load(&shared->stop))
        line = look(f, with_key, &reader, &known_next);
    cellar_reader_close(reader);
    return line;
}

/* ---- */

enum role { WRITER, FOLLOWER, DURABLE_READER };

static pid_t start(struct store_fixture *f, struct shared *shared, enum role role, uint64_t seed)
{
    pid_t child;

    fflush(NULL);
    child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        int result;

        prctl(PR_SET_PDEATHSIG, SIGKILL);
        result = role == WRITER ? write_until_killed(f, shared, seed) : read_until_stopped(f, shared, role == FOLLOWER);
        if (result != 0)
            fprintf(stderr, "role %d: %d\n", (int)role, result);
        exit(result == 0 ? 0 : 1);
    }
    return child;
}

/* The store after a kill. */
static void check_store(struct store_fixture *f, struct shared *shared)
{
    struct cellar_writer *writer = store_again(f);
    struct cellar_snapshot snapshot = cellar_writer_snapshot(writer);
    struct cellar_recovery recovery;

    cellar_writer_recovery(writer, &recovery);
    assert_true(recovery.found == CELLAR_FOUND_CLEAN || recovery.found == CELLAR_FOUND_COMMITTED);
    assert_true(snapshot.root_index < snapshot.next_index);
    store_assert_cells(&snapshot);
    if (!atomic_load(&shared->truncating))
        assert_true(snapshot.next_index >= atomic_load(&shared->committed_next));
    atomic_store(&shared->committed_next, snapshot.next_index);
    atomic_store(&shared->flushed_root, snapshot.root_index);
    atomic_store(&shared->flushing_root, snapshot.root_index);
    atomic_store(&shared->truncating, false);
    cellar_writer_abandon(writer);
    assert_true(store_folder_entries(f) <= 2); /* the store, and what a killed truncate left at most */
}

static void wait_for(pid_t child, int signal_expected)
{
    int status = 0;

    assert_int_equal(waitpid(child, &status, 0), child);
    if (signal_expected != 0) {
        assert_true(WIFSIGNALED(status));
        assert_int_equal(WTERMSIG(status), signal_expected);
    } else {
        assert_true(WIFEXITED(status));
        assert_int_equal(WEXITSTATUS(status), 0);
    }
}

static void test_kill(void **state)
{
    struct store_fixture *f = *state;
    struct shared *shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    uint64_t seed = first_seed;
    pid_t follower, durable;

    assert_true(shared != MAP_FAILED);
    atomic_store(&shared->committed_next, START);
    store_close(store_new(f, BYTES_PER_CELL, MAX_INDEX));
    follower = start(f, shared, FOLLOWER, 0);
    durable = start(f, shared, DURABLE_READER, 0);
    for (unsigned round = 0; round < rounds; round++) {
        pid_t writer = start(f, shared, WRITER, support_random(&seed));
        struct timespec time = {.tv_nsec = (long)(support_random(&seed) % 20000000)};

        nanosleep(&time, NULL); /* any moment will do, in opening, too */
        kill(writer, SIGKILL);
        wait_for(writer, SIGKILL);
        check_store(f, shared);
    }
    atomic_store(&shared->stop, true);
    wait_for(follower, 0);
    wait_for(durable, 0);
    munmap(shared, sizeof *shared);
    store_close(store_again(f));
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {STORE_ON_FILES(test_kill)};

    if (argc > 1)
        rounds = (unsigned)strtoul(argv[1], NULL, 10);
    if (argc > 2)
        first_seed = strtoull(argv[2], NULL, 10);
    if (rounds == 0) {
        fprintf(stderr, "usage: %s [ROUNDS [SEED]]\n", argv[0]);
        return 1;
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
