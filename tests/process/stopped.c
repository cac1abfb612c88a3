/*
 * A writer that is stopped (SIGSTOP) after every single store into the header, word by word in a mapped file, slot by
 * slot elsewhere: while it opens, commits, flushes and closes. Readers that are open go on, from the other slot; others
 * open the store; a second writer is told CELLAR_EBUSY. What they see is the state before or the one after, whole.
 */
#include "store_fixture.h"

#include "cell/header_store.h"

#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

enum { BYTES_PER_CELL = 32, START = 8, COMMITS = 6 };

/* States as root << 32 | next, by the writer before it goes from one to the other. */
struct board {
    atomic_ullong committed, committing, flushed, flushing;
    atomic_bool opening; /* the key is the one before, the new one, or neither */
};

/* ---- the writer ---- */

static bool stops; /* in the writer's process: true between the stops */

static void stop_here(void)
{
    if (stops)
        raise(SIGSTOP);
}

void __real_cellar_header_store_window(unsigned char *window, uint64_t offset, const void *bytes, size_t length_bytes);
void __wrap_cellar_header_store_window(unsigned char *window, uint64_t offset, const void *bytes, size_t length_bytes);
int __real_cellar_device_write(struct cellar_device *device, const struct iovec *parts, int part_count,
                               uint64_t offset);
int __wrap_cellar_device_write(struct cellar_device *device, const struct iovec *parts, int part_count,
                               uint64_t offset);

/* These take the place of the library's functions (-Wl,--wrap). */
void __wrap_cellar_header_store_window(unsigned char *window, uint64_t offset, const void *bytes, size_t length_bytes)
{
    const unsigned char *from = bytes;

    while (length_bytes > 0) {
        size_t step = offset % 8 == 0 && length_bytes >= 8 ? 8 : 4;

        __real_cellar_header_store_window(window, offset, from, step);
        stop_here();
        offset += step;
        from += step;
        length_bytes -= step;
    }
}

int __wrap_cellar_device_write(struct cellar_device *device, const struct iovec *parts, int part_count, uint64_t offset)
{
    int error = __real_cellar_device_write(device, parts, part_count, offset);

    if (offset < CELLAR_HEADER_BYTES)
        stop_here();
    return error;
}

static uint64_t state_of(const struct cellar_writer *writer)
{
    return (uint64_t)cellar_writer_root(writer) << 32 | cellar_writer_next(writer);
}

static int publish(struct board *board, struct cellar_writer *writer, bool flushes)
{
    uint64_t state = state_of(writer);

    atomic_store(&board->committing, state);
    if (flushes)
        atomic_store(&board->flushing, state);
    SUPPORT_CHILD_NEEDS((flushes ? cellar_writer_flush(writer) : cellar_writer_commit(writer)) == 0);
    atomic_store(&board->committed, state);
    if (flushes)
        atomic_store(&board->flushed, state);
    return 0;
}

static int append(struct cellar_writer *writer, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        unsigned char cell[BYTES_PER_CELL];
        uint32_t index;

        store_cell_bytes(cellar_writer_next(writer), cell, sizeof cell);
        SUPPORT_CHILD_NEEDS(cellar_writer_append(writer, cell, 1, &index) == 0);
        SUPPORT_CHILD_NEEDS(cellar_writer_set_root(writer, index) == 0);
    }
    return 0;
}

static int write_with_stops(struct store_fixture *f, struct board *board, bool compat)
{
    struct cellar_writer_options options = store_options(f);
    struct cellar_key key = store_key(2);
    struct cellar_writer *writer = NULL;
    int line = 0;

    options.key = &key;
    options.compat = compat;
    stops = true;
    SUPPORT_CHILD_NEEDS(cellar_writer_open(f->path, &options, &writer) == 0);
    atomic_store(&board->opening, false);
    for (uint32_t i = 0; line == 0 && i < COMMITS; i++) {
        line = append(writer, 1 + i);
        if (line == 0)
            line = publish(board, writer, i % 3 == 1);
    }
    if (line != 0)
        return line;
    atomic_store(&board->flushing, atomic_load(&board->committed));
    SUPPORT_CHILD_NEEDS(cellar_writer_close(writer) == 0);
    atomic_store(&board->flushed, atomic_load(&board->committed));
    return 0;
}

/* ---- those who look at it while it stands ---- */

struct watch {
    struct store_fixture *f;
    struct board *board;
    struct cellar_reader *follower, *durable; /* open from the beginning */
    unsigned stops;
};

static void assert_state(const struct cellar_snapshot *snapshot, atomic_ullong *before, atomic_ullong *after)
{
    uint64_t state = (uint64_t)snapshot->root_index << 32 | snapshot->next_index;

    assert_true(state == atomic_load(before) || state == atomic_load(after));
    store_assert_cells(snapshot);
}

static void assert_refreshes(struct watch *watch, struct cellar_reader *reader, bool follows)
{
    for (int i = 0; i < 2; i++) {
        int result = cellar_reader_refresh(reader);
        struct cellar_snapshot snapshot = cellar_reader_snapshot(reader);

        assert_true(result == 0 || result == CELLAR_NONE);
        if (follows)
            assert_state(&snapshot, &watch->board->committed, &watch->board->committing);
        else
            assert_state(&snapshot, &watch->board->flushed, &watch->board->flushing);
    }
}

/* Opens a reader, with one of the keys or without. Returns the result, which is 0 or CELLAR_EBADKEY. */
static int look_afresh(struct watch *watch, const struct cellar_key *key)
{
    struct cellar_reader_options options = store_reader_options(watch->f);
    struct cellar_reader *reader = NULL;
    int error;

    options.key = key;
    error = store_read(watch->f, &options, &reader);
    if (error == 0)
        assert_refreshes(watch, reader, key != NULL);
    else
        assert_int_equal(error, CELLAR_EBADKEY);
    cellar_reader_close(reader);
    return error;
}

static void assert_goes_on(struct watch *watch)
{
    struct cellar_writer_options options = store_options(watch->f);
    struct cellar_key new_key = store_key(2);
    struct cellar_writer *second = NULL;
    int with_old, with_new;

    assert_refreshes(watch, watch->follower, true);
    assert_refreshes(watch, watch->durable, false);
    assert_done(look_afresh(watch, NULL));
    with_old = look_afresh(watch, &watch->f->key);
    with_new = look_afresh(watch, &new_key);
    if (atomic_load(&watch->board->opening))
        assert_true(with_old != 0 || with_new != 0);
    else
        assert_true(with_old == CELLAR_EBADKEY && with_new == 0);
    assert_result(store_open(watch->f, &options, &second), CELLAR_EBUSY);
    watch->stops++;
}

static pid_t start(struct watch *watch, bool compat)
{
    pid_t child;

    fflush(NULL);
    child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        int line;

        prctl(PR_SET_PDEATHSIG, SIGKILL);
        line = write_with_stops(watch->f, watch->board, compat);
        if (line != 0)
            fprintf(stderr, "writer: line %d\n", line);
        _exit(line == 0 ? 0 : 1);
    }
    return child;
}

/* Looks at every stop, until the writer has ended. */
static void watch_writer(struct watch *watch, bool compat)
{
    pid_t writer = start(watch, compat);
    int status = 0;

    for (;;) {
        assert_int_equal(waitpid(writer, &status, WUNTRACED), writer);
        if (!WIFSTOPPED(status))
            break;
        assert_goes_on(watch);
        assert_int_equal(kill(writer, SIGCONT), 0);
    }
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
}

static void check_stops(struct store_fixture *f, bool compat)
{
    struct watch watch = {.f = f};
    struct cellar_writer *writer = store_new(f, BYTES_PER_CELL, 5000);
    uint64_t state;

    watch.board = mmap(NULL, sizeof *watch.board, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_true(watch.board != MAP_FAILED);
    store_append(writer, 20);
    assert_done(cellar_writer_set_root(writer, START + 3));
    state = state_of(writer);
    *watch.board = (struct board){state, state, state, state, true};
    store_close(writer);
    watch.follower = store_reader(f, &f->key);
    watch.durable = store_reader(f, NULL);
    watch_writer(&watch, compat);
    assert_refreshes(&watch, watch.follower, true);
    assert_refreshes(&watch, watch.durable, false);
    assert_true(watch.stops >= 2 * (COMMITS + 2)); /* each of two slots, at least, by open, commits and flushes */
    cellar_reader_close(watch.follower);
    cellar_reader_close(watch.durable);
    munmap(watch.board, sizeof *watch.board);
}

static void test_stops(void **state)
{
    check_stops(*state, false);
}

static void test_stops_compat(void **state)
{
    check_stops(*state, true);
}

int main(void)
{
    const struct CMUnitTest tests[] = {STORE_ON_FILES(test_stops), STORE_ON_FILES(test_stops_compat)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
