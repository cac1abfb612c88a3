/* One writer at a time, over processes: whoever comes second is told, whoever dies lets go. */
#include "store_fixture.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static int open_is_busy(void *user)
{
    struct store_fixture *f = user;
    struct cellar_config config = store_config(32, 5000);
    struct cellar_writer_options options = store_options(f);
    struct cellar_writer *writer = NULL;

    SUPPORT_CHILD_NEEDS(cellar_writer_open(f->path, &options, &writer) == CELLAR_EBUSY);
    SUPPORT_CHILD_NEEDS(cellar_writer_open_or_create(f->path, &config, &options, &writer) == CELLAR_EBUSY);
    options.device = CELLAR_DEVICE_AUTO;
    SUPPORT_CHILD_NEEDS(cellar_writer_open(f->path, &options, &writer) == CELLAR_EBUSY);
    SUPPORT_CHILD_NEEDS(writer == NULL);
    return 0;
}

static void test_second_process_is_refused(void **state)
{
    struct store_fixture *f = *state;
    struct cellar_writer *writer = store_new(f, 32, 5000);
    struct store_image image;

    store_append(writer, 10);
    assert_done(cellar_writer_flush(writer));
    image = store_image_take(f);
    assert_int_equal(support_child(open_is_busy, f), 0);
    store_image_compare(f, image);
    store_append(writer, 10);
    store_close(writer);
    store_close(store_again(f));
}

/* Appends, commits, and dies of a signal with everything open. */
static int die_with_it(void *user)
{
    struct store_fixture *f = user;
    struct cellar_writer_options options = store_options(f);
    struct cellar_writer *writer = NULL;
    unsigned char cell[32];
    uint32_t index;

    SUPPORT_CHILD_NEEDS(cellar_writer_open(f->path, &options, &writer) == 0);
    for (int i = 0; i < 7; i++) {
        store_cell_bytes(cellar_writer_next(writer), cell, sizeof cell);
        SUPPORT_CHILD_NEEDS(cellar_writer_append(writer, cell, 1, &index) == 0);
    }
    SUPPORT_CHILD_NEEDS(cellar_writer_commit(writer) == 0);
    raise(SIGKILL);
    return 0;
}

static void test_lock_dies_with_its_process(void **state)
{
    struct store_fixture *f = *state;
    struct cellar_recovery recovery;
    struct cellar_snapshot snapshot;
    struct cellar_writer *writer;

    store_close(store_new(f, 32, 5000));
    assert_int_equal(support_child(die_with_it, f), -SIGKILL);
    writer = store_again(f);
    cellar_writer_recovery(writer, &recovery);
    assert_int_equal(recovery.found, CELLAR_FOUND_COMMITTED);
    assert_int_equal(recovery.next_index, 15);
    snapshot = cellar_writer_snapshot(writer);
    store_assert_cells(&snapshot);
    store_close(writer);
}

/* ---- other descriptors of the file ---- */

/* A POSIX lock goes when its process closes any descriptor of the file; the writer's lock must not. */
static void open_and_close(const struct store_fixture *f)
{
    struct cellar_reader_options options = store_reader_options(f);
    struct cellar_device *device;
    struct cellar_reader *reader;
    int fd = open(f->path, O_RDWR | O_CLOEXEC), twin;

    assert_true(fd >= 0);
    twin = dup(fd);
    assert_true(twin >= 0);
    assert_int_equal(close(fd), 0);
    assert_int_equal(close(twin), 0);
    assert_done(cellar_reader_open(f->path, &options, &reader));
    cellar_reader_close(reader);
    assert_done(cellar_device_open_pread(f->path, CELLAR_OPEN_WRITE, 0, &device));
    assert_done(cellar_device_close(device));
}

static void check_other_descriptors(struct store_fixture *f, bool compat)
{
    struct cellar_writer_options options = store_options(f);
    struct cellar_writer *writer = NULL, *second = NULL;

    options.compat = compat;
    store_close(store_new(f, 32, 5000));
    assert_done(store_open(f, &options, &writer));
    for (int i = 0; i < 3; i++) {
        open_and_close(f);
        assert_int_equal(support_child(open_is_busy, f), 0);
        assert_result(store_open(f, &options, &second), CELLAR_EBUSY); /* in this process neither, and that */
        assert_int_equal(support_child(open_is_busy, f), 0);           /* costs the first one nothing */
        store_append(writer, 3);
        assert_done(i == 1 ? cellar_writer_flush(writer) : cellar_writer_commit(writer));
    }
    store_close(writer);
    store_close(store_again(f));
}

static void test_other_descriptors(void **state)
{
    check_other_descriptors(*state, false);
}

static void test_other_descriptors_compat(void **state)
{
    check_other_descriptors(*state, true);
}

/* ---- many processes at one name ---- */

struct crowd {
    struct store_fixture *f;
    unsigned turns;
    bool truncates;
};

/* Takes its turns at the store, each time the first to make it or one of those who open it. */
static int take_turns(const struct crowd *crowd)
{
    struct cellar_config config = store_config(32, 5000);
    struct cellar_writer_options options = store_options(crowd->f);

    for (unsigned turn = 0; turn < crowd->turns;) {
        struct cellar_writer *writer = NULL;
        struct cellar_snapshot snapshot;
        unsigned char cell[32];
        uint32_t index;
        int error = cellar_writer_open_or_create(crowd->f->path, &config, &options, &writer);

        if (error == CELLAR_EBUSY) {
            sched_yield();
            continue;
        }
        SUPPORT_CHILD_NEEDS(error == 0);
        snapshot = cellar_writer_snapshot(writer);
        SUPPORT_CHILD_NEEDS(store_cells_hold(&snapshot, 8, snapshot.next_index - 8));
        if (crowd->truncates && turn % 3 == 2) {
            error = cellar_writer_truncate(writer, 0);
            SUPPORT_CHILD_NEEDS(error == 0 || error == CELLAR_EBUSY);
        }
        store_cell_bytes(cellar_writer_next(writer), cell, sizeof cell);
        SUPPORT_CHILD_NEEDS(cellar_writer_append(writer, cell, 1, &index) == 0);
        SUPPORT_CHILD_NEEDS(cellar_writer_close(writer) == 0);
        turn++;
    }
    return 0;
}

enum { CROWD = 6 };

static void run_crowd(const struct crowd *crowd)
{
    pid_t children[CROWD];

    fflush(NULL);
    for (int i = 0; i < CROWD; i++) {
        children[i] = fork();
        assert_true(children[i] >= 0);
        if (children[i] == 0)
            _exit(take_turns(crowd) == 0 ? 0 : 1);
    }
    for (int i = 0; i < CROWD; i++) {
        int status = 0;

        assert_int_equal(waitpid(children[i], &status, 0), children[i]);
        assert_true(WIFEXITED(status));
        assert_int_equal(WEXITSTATUS(status), 0);
    }
    assert_int_equal(store_folder_entries(crowd->f), 1);
}

/* Every turn that was taken left its cell: no two had the store at once, and it was made once. */
static void test_turns(void **state)
{
    struct crowd crowd = {.f = *state, .turns = 10};
    struct cellar_snapshot snapshot;
    struct cellar_writer *writer;

    run_crowd(&crowd);
    writer = store_again(crowd.f);
    assert_int_equal(cellar_writer_next(writer), 8 + CROWD * 10);
    snapshot = cellar_writer_snapshot(writer);
    store_assert_cells(&snapshot);
    store_close(writer);
}

/* The same where some put a new file in place of the old one, which others are just opening. */
static void test_turns_with_truncates(void **state)
{
    struct crowd crowd = {.f = *state, .turns = 15, .truncates = true};
    struct cellar_snapshot snapshot;
    struct cellar_writer *writer;

    run_crowd(&crowd);
    writer = store_again(crowd.f);
    assert_true(cellar_writer_next(writer) > 8);
    snapshot = cellar_writer_snapshot(writer);
    store_assert_cells(&snapshot);
    store_close(writer);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        STORE_ON_FILES(test_second_process_is_refused),
        STORE_ON_FILES(test_lock_dies_with_its_process),
        STORE_ON_FILES(test_other_descriptors),
        STORE_ON_FILES(test_other_descriptors_compat),
        STORE_ON_FILES(test_turns),
        STORE_ON_FILES(test_turns_with_truncates),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
