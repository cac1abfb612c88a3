/* Writers with checksums that are killed at any moment: the checksums never tell of rot, and the next writer's flush
 * makes them whole. */
#include "sums_test.h"

#include <signal.h>
#include <sys/wait.h>
#include <time.h>

enum { ROUNDS = 60 };

/* The child: writes until it is killed. */
static void write_on(const char *path, uint64_t random)
{
    struct cellar_writer_options options = sums_options(CELLAR_DEVICE_AUTO);
    unsigned char cells[64 * SUMS_BYTES_PER_CELL];
    struct cellar_writer *writer;
    int error;

    if (cellar_writer_open(path, &options, &writer) != 0)
        _exit(1);
    for (;;) {
        uint32_t count = 1 + (uint32_t)support_random_below(&random, 64), index;

        for (uint32_t i = 0; i < count; i++)
            store_cell_bytes(cellar_writer_next(writer) + i, cells + i * SUMS_BYTES_PER_CELL, SUMS_BYTES_PER_CELL);
        error = cellar_writer_append(writer, cells, count, &index);
        if (error == 0 && support_random_below(&random, 3) == 0)
            error = cellar_writer_commit(writer);
        if (error == 0 && support_random_below(&random, 4) == 0)
            error = cellar_writer_flush(writer);
        if (error == 0 && support_random_below(&random, 200) == 0)
            error = cellar_writer_truncate(writer, 0);
        if (error == CELLAR_EINDEXFULL)
            error = cellar_writer_truncate(writer, 0);
        if (error != 0)
            _exit(2);
    }
}

static void kill_one(const char *path, uint64_t *random)
{
    struct timespec pause = {.tv_nsec = (long)support_random_below(random, 20 * 1000 * 1000)};
    uint64_t seed = support_random(random);
    int status;
    pid_t child = fork();

    assert_true(child >= 0);
    if (child == 0)
        write_on(path, seed);
    nanosleep(&pause, NULL);
    kill(child, SIGKILL);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFSIGNALED(status));
}

static void test_killed_writers(void **state)
{
    const char *path = support_path(*state, "store");
    uint64_t random = 3;

    sums_make(path, 100);
    for (int round = 0; round < ROUNDS; round++) {
        struct cellar_writer *writer;
        struct sums_found found;

        kill_one(path, &random);
        found = sums_check(path);
        assert_int_equal(found.rot_count, 0);
        assert_true(found.report.state == CELLAR_SUMS_GOOD || found.report.state == CELLAR_SUMS_BEHIND);
        if (round % 4 != 0)
            continue; /* the next child finds it so */
        writer = sums_open(path);
        store_append(writer, 10);
        store_close(writer);
        sums_assert_good(path);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_killed_writers, support_folder_setup, support_folder_teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
