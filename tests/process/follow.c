/*
 * follow [COMMITS [READERS]] - one writer process and several reader processes on one file. Every reader checks at each
 * step that next never goes back, that the root lies below next, and that every cell holds what its index implies.
 * Readers differ in data path, in having the key or not, and in pace: some look all the time, some sleep over many
 * commits.
 */
#include "store_fixture.h"

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { BYTES_PER_CELL = 40, COMMITS_DEFAULT = 5000, READERS_DEFAULT = 6, READERS_MAX = 32 };

static unsigned commits = COMMITS_DEFAULT, readers = READERS_DEFAULT;

/* How many cells commit number brings; the same in every process. */
static uint32_t cells_of_commit(unsigned number)
{
    uint64_t seed = number;

    return 1 + (uint32_t)(support_random(&seed) % 12);
}

static uint32_t final_next(void)
{
    uint32_t next = cellar_start_index(BYTES_PER_CELL);

    for (unsigned number = 0; number < commits; number++)
        next += cells_of_commit(number);
    return next;
}

static void nap(long microseconds)
{
    struct timespec time = {.tv_sec = microseconds / 1000000, .tv_nsec = microseconds % 1000000 * 1000};

    nanosleep(&time, NULL);
}

/* ---- the writer ---- */

static int write_all(struct store_fixture *f)
{
    struct cellar_config config = store_config(BYTES_PER_CELL, final_next());
    struct cellar_writer_options options = store_options(f);
    unsigned char cells[12 * BYTES_PER_CELL];
    struct cellar_writer *writer = NULL;
    int error = cellar_writer_create(f->path, &config, &options, &writer);

    for (unsigned number = 0; number < commits && error == 0; number++) {
        uint32_t count = cells_of_commit(number), first = cellar_writer_next(writer), index;

        for (uint32_t i = 0; i < count; i++)
            store_cell_bytes(first + i, cells + BYTES_PER_CELL * (size_t)i, BYTES_PER_CELL);
        error = cellar_writer_append(writer, cells, count, &index);
        if (error == 0)
            error = cellar_writer_set_root(writer, first + count - 1);
        if (error == 0)
            error = number % 50 == 7 ? cellar_writer_flush(writer) : cellar_writer_commit(writer);
        if (number % 16 == 0)
            nap(200); /* lets the readers catch up */
    }
    if (error == 0)
        error = cellar_writer_close(writer);
    return error;
}

/* ---- the readers ---- */

struct looking {
    struct cellar_reader *reader;
    uint32_t known_next; /* cells below were checked */
    unsigned steps;
    const char *name; /* of its device */
    bool all;         /* check all cells now */
};

/* 0, or the line that says what was wrong. */
static int look(struct looking *looking)
{
    uint32_t before = cellar_reader_snapshot(looking->reader).next_index;
    int result = cellar_reader_refresh(looking->reader);
    struct cellar_snapshot snapshot = cellar_reader_snapshot(looking->reader);

    SUPPORT_CHILD_NEEDS(result == 0 || result == CELLAR_NONE);
    SUPPORT_CHILD_NEEDS(snapshot.next_index >= looking->known_next);
    SUPPORT_CHILD_NEEDS(snapshot.next_index <= final_next());
    SUPPORT_CHILD_NEEDS(result == 0 || snapshot.next_index == before);
    if (snapshot.next_index > snapshot.start_index) /* its root and its next are of one commit */
        SUPPORT_CHILD_NEEDS(snapshot.root_index == snapshot.next_index - 1);
    SUPPORT_CHILD_NEEDS(store_cells_hold(&snapshot, looking->known_next, snapshot.next_index - looking->known_next));
    if (looking->all || looking->steps % 100 == 99)
        SUPPORT_CHILD_NEEDS(
            store_cells_hold(&snapshot, snapshot.start_index, snapshot.next_index - snapshot.start_index));
    looking->known_next = snapshot.next_index;
    looking->steps += result == 0;
    return 0;
}

/* Opens as soon as the store is there. */
static int open_reader(struct store_fixture *f, unsigned number, struct looking *looking)
{
    struct cellar_reader_options options = {.cache_bytes = 1};
    int error;

    options.device = number % 2 == 0 ? CELLAR_DEVICE_MAPPED : CELLAR_DEVICE_PAGES;
    if (f->way->device == CELLAR_DEVICE_DIRECT)
        options.device = CELLAR_DEVICE_DIRECT; /* all on a file in the same way, as store.h says */
    options.key = number % 4 < 2 ? &f->key : NULL;
    do {
        error = cellar_reader_open(f->path, &options, &looking->reader);
        if (error == -ENOENT)
            nap(50);
    } while (error == -ENOENT);
    if (error == 0) {
        struct cellar_info info;

        cellar_reader_info(looking->reader, &info);
        looking->name = info.device_name;
    }
    return error;
}

static int read_all(struct store_fixture *f, unsigned number)
{
    struct looking looking = {.known_next = cellar_start_index(BYTES_PER_CELL)};
    uint64_t seed = number;
    int line = open_reader(f, number, &looking);

    SUPPORT_CHILD_NEEDS(line == 0);
    while (line == 0 && looking.known_next < final_next()) {
        line = look(&looking);
        if (number % 3 == 1)
            nap((long)(support_random(&seed) % 3000)); /* sleeps over many commits */
        else if (number % 3 == 2)
            sched_yield();
    }
    if (line == 0) {
        looking.all = true;
        line = look(&looking);
    }
    printf("reader %u (%s, %s): %u steps\n", number, looking.name, number % 4 < 2 ? "commits" : "flushes",
           looking.steps);
    fflush(stdout);
    cellar_reader_close(looking.reader);
    return line;
}

/* ---- */

static pid_t start(struct store_fixture *f, int number)
{
    pid_t child;

    fflush(NULL);
    child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        int result;

        prctl(PR_SET_PDEATHSIG, SIGKILL);
        result = number < 0 ? write_all(f) : read_all(f, (unsigned)number);
        if (result != 0)
            fprintf(stderr, "%s %d: %d\n", number < 0 ? "writer" : "reader", number, result);
        exit(result == 0 ? 0 : 1);
    }
    return child;
}

static void test_follow(void **state)
{
    struct store_fixture *f = *state;
    pid_t children[READERS_MAX + 1];
    unsigned failed = 0, all_commits = commits;

    if (store_takes_slice(f))
        commits /= 20;
    for (unsigned number = 0; number < readers; number++)
        children[number + 1] = start(f, (int)number);
    children[0] = start(f, -1);
    for (unsigned i = 0; i <= readers; i++) {
        int status = 0;

        assert_int_equal(waitpid(children[i], &status, 0), children[i]);
        if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) {
            failed++;
            for (unsigned k = i + 1; k <= readers; k++) /* they would wait for a writer that is gone */
                kill(children[k], SIGTERM);
        }
    }
    commits = all_commits;
    assert_int_equal(failed, 0);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {STORE_ON_FILES(test_follow)};

    if (argc > 1)
        commits = (unsigned)strtoul(argv[1], NULL, 10);
    if (argc > 2)
        readers = (unsigned)strtoul(argv[2], NULL, 10);
    if (commits == 0 || readers == 0 || readers > READERS_MAX) {
        fprintf(stderr, "usage: %s [COMMITS [READERS, at most %d]]\n", argv[0], READERS_MAX);
        return 1;
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
