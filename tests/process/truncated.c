/*
 * A writer that dies before every single system call of a truncate, and before the mark in the old file, while readers
 * have the store open. Refresh never fails on them but by the mark; check tells them as soon as the name leads to the
 * new store, mark or not, and not before. What they stand at stays as it was.
 */
#include "system_fault.h"

#include "store_fixture.h"

#include "cell/header_store.h"

#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>

enum {
    BYTES_PER_CELL = 40,
    MAX_INDEX = 5000,
    CELLS = 300,
    START = 7,
    HEADER_STORE = SYSTEM_CALL_COUNT,
    DEATHS_MAX = 400
};

static void die(void)
{
    raise(SIGKILL);
}

static int stores_left = -1; /* before death; negative: for ever */

void __real_cellar_header_store_window(unsigned char *window, uint64_t offset, const void *bytes, size_t length_bytes);
void __wrap_cellar_header_store_window(unsigned char *window, uint64_t offset, const void *bytes, size_t length_bytes);

/* Takes the place of the library's function (-Wl,--wrap). */
void __wrap_cellar_header_store_window(unsigned char *window, uint64_t offset, const void *bytes, size_t length_bytes)
{
    if (stores_left >= 0 && stores_left-- == 0)
        die();
    __real_cellar_header_store_window(window, offset, bytes, length_bytes);
}

/* In a child: truncates, and dies before the nth call of that kind. */
static int truncate_and_die(struct store_fixture *f, int kind, int nth)
{
    struct cellar_writer_options options = store_options(f);
    struct cellar_writer *writer = NULL;

    SUPPORT_CHILD_NEEDS(cellar_writer_open(f->path, &options, &writer) == 0);
    if (kind == HEADER_STORE)
        stores_left = nth - 1;
    else
        system_before((enum system_call)kind, nth, die);
    SUPPORT_CHILD_NEEDS(cellar_writer_truncate(writer, 0) == 0);
    return 0;
}

static uint64_t inode_at(const char *path)
{
    struct stat status;

    assert_int_equal(stat(path, &status), 0);
    return status.st_ino;
}

struct outcomes {
    int before, unmarked, marked;
};

static void assert_told(struct store_fixture *f, struct cellar_reader *reader, bool replaced, struct outcomes *outcomes)
{
    struct cellar_snapshot snapshot;
    int result = cellar_reader_refresh(reader);

    assert_true(result == CELLAR_NONE || (replaced && result == CELLAR_ERETIRED));
    assert_result(cellar_reader_check(reader), replaced ? CELLAR_ERETIRED : 0);
    if (replaced)
        assert_int_equal(cellar_reader_diagnostic(reader)->error, CELLAR_ERETIRED);
    outcomes->before += !replaced;
    outcomes->unmarked += replaced && result == CELLAR_NONE;
    outcomes->marked += result == CELLAR_ERETIRED;
    snapshot = cellar_reader_snapshot(reader);
    assert_int_equal(snapshot.next_index, START + CELLS);
    store_assert_cells(&snapshot);
    cellar_reader_close(reader);
    reader = store_reader(f, NULL);
    assert_int_equal(cellar_reader_snapshot(reader).next_index, replaced ? START : START + CELLS);
    assert_done(cellar_reader_check(reader));
    cellar_reader_close(reader);
}

/* False: the truncate had not so many calls of that kind, and came to its end. */
static bool die_once(struct store_fixture *f, int kind, int nth, struct outcomes *outcomes)
{
    struct cellar_writer *writer = store_new(f, BYTES_PER_CELL, MAX_INDEX);
    struct cellar_reader *reader;
    int status = 0;
    uint64_t inode;
    pid_t child;

    store_append(writer, CELLS);
    store_close(writer);
    inode = inode_at(f->path);
    reader = store_reader(f, NULL);
    assert_done(cellar_reader_check(reader));
    fflush(NULL);
    child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        _exit(truncate_and_die(f, kind, nth) == 0 ? 0 : 1);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFSIGNALED(status) ? WTERMSIG(status) == SIGKILL : WEXITSTATUS(status) == 0);
    assert_told(f, reader, inode_at(f->path) != inode, outcomes);
    writer = store_again(f); /* a leftover is in nobody's way */
    assert_done(cellar_writer_truncate(writer, 0));
    assert_int_equal(store_folder_entries(f), 1);
    store_close(writer);
    store_remove(f);
    return WIFSIGNALED(status);
}

static void test_deaths_in_a_truncate(void **state)
{
    struct outcomes outcomes = {.before = 0};
    int deaths = 0;

    for (int kind = 0; kind <= HEADER_STORE; kind++) {
        for (int nth = 1; die_once(*state, kind, nth, &outcomes); nth++)
            assert_true(++deaths < DEATHS_MAX);
    }
    print_message("%d deaths: %d with the old store, %d without the mark, %d truncated\n", deaths, outcomes.before,
                  outcomes.unmarked, outcomes.marked);
    assert_true(outcomes.before > 0 && outcomes.unmarked > 0 && outcomes.marked > HEADER_STORE);
}

/* A store that is moved, or removed, is what it was for who has it open; one that is replaced by hand is told. */
static void test_names(void **state)
{
    struct store_fixture *f = *state;
    const char *moved = support_path(f->folder, "moved");
    struct cellar_writer *writer = store_new(f, BYTES_PER_CELL, MAX_INDEX);
    struct cellar_reader *reader;

    store_append(writer, CELLS);
    store_close(writer);
    reader = store_reader(f, NULL);
    assert_int_equal(rename(f->path, moved), 0);
    assert_done(cellar_reader_check(reader));
    store_close(store_new(f, BYTES_PER_CELL, MAX_INDEX));
    assert_result(cellar_reader_check(reader), CELLAR_ERETIRED);
    assert_result(cellar_reader_refresh(reader), CELLAR_NONE);
    assert_int_equal(rename(moved, f->path), 0);
    assert_done(cellar_reader_check(reader));
    assert_int_equal(unlink(f->path), 0);
    assert_done(cellar_reader_check(reader));
    cellar_reader_close(reader);
}

/* The name is the one of the opening, wherever the process goes, and by whatever way it came. */
static void test_where_it_was_opened(void **state)
{
    struct store_fixture *f = *state;
    const char *link_path = support_path(f->folder, "link"), *path = f->path;
    struct cellar_writer *writer = store_new(f, BYTES_PER_CELL, MAX_INDEX);
    char before[4096];
    struct cellar_reader *reader;

    assert_non_null(getcwd(before, sizeof before));
    store_close(writer);
    assert_int_equal(chdir(f->folder), 0);
    f->path = strrchr(path, '/') + 1;
    reader = store_reader(f, NULL);
    f->path = path;
    assert_int_equal(chdir("/"), 0);
    assert_done(cellar_reader_check(reader));
    writer = store_again(f);
    assert_done(cellar_writer_truncate(writer, 0));
    system_heal();
    assert_result(cellar_reader_check(reader), CELLAR_ERETIRED);
    cellar_reader_close(reader);
    store_close(writer);
    assert_int_equal(symlink(f->path, link_path), 0);
    f->path = link_path;
    reader = store_reader(f, NULL);
    f->path = path;
    assert_done(cellar_reader_check(reader));
    store_remove(f);
    store_close(store_new(f, BYTES_PER_CELL, MAX_INDEX));
    assert_result(cellar_reader_check(reader), CELLAR_ERETIRED);
    cellar_reader_close(reader);
    assert_int_equal(unlink(link_path), 0);
    assert_int_equal(chdir(before), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {STORE_ON_FILES(test_deaths_in_a_truncate), STORE_ON_FILES(test_names),
                                       STORE_ON_FILES(test_where_it_was_opened)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
