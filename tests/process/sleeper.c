/*
 * sleeper [COMMITS] - readers that sleep while a writer in another process makes a million commits, and then wake: what
 * they held is what it was, and one refresh brings them to the end. One has the key, one has not; one finds its store
 * truncated.
 */
#include "store_fixture.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { COMMITS_DEFAULT = 1000000, BYTES_PER_CELL = 8, START = 32, BEFORE = 1000 };

static unsigned commits = COMMITS_DEFAULT;

struct night {
    struct store_fixture *f;
    unsigned commits;
    bool truncates;
};

/* The root moves with every commit. */
static int write_through_the_night(void *user)
{
    struct night *night = user;
    struct cellar_writer_options options = store_options(night->f);
    struct cellar_writer *writer = NULL;
    unsigned char cell[BYTES_PER_CELL];
    uint32_t index = 0;

    SUPPORT_CHILD_NEEDS(cellar_writer_open(night->f->path, &options, &writer) == 0);
    for (unsigned i = 0; i < night->commits; i++) {
        store_cell_bytes(cellar_writer_next(writer), cell, sizeof cell);
        SUPPORT_CHILD_NEEDS(cellar_writer_append(writer, cell, 1, &index) == 0);
        SUPPORT_CHILD_NEEDS(cellar_writer_set_root(writer, index) == 0);
        SUPPORT_CHILD_NEEDS(cellar_writer_commit(writer) == 0);
    }
    SUPPORT_CHILD_NEEDS(cellar_writer_flush(writer) == 0);
    if (night->truncates)
        SUPPORT_CHILD_NEEDS(cellar_writer_truncate(writer, 0) == 0);
    SUPPORT_CHILD_NEEDS(cellar_writer_close(writer) == 0);
    return 0;
}

struct sleeper {
    struct cellar_reader *reader;
    struct cellar_snapshot snapshot;
};

static struct sleeper sleeper_open(struct store_fixture *f, const struct cellar_key *key)
{
    struct sleeper sleeper = {.reader = store_reader(f, key)};

    sleeper.snapshot = cellar_reader_snapshot(sleeper.reader);
    assert_int_equal(sleeper.snapshot.next_index, START + BEFORE);
    store_assert_cells(&sleeper.snapshot);
    return sleeper;
}

static void sleeper_wakes(struct sleeper *sleeper, const struct night *night)
{
    struct cellar_snapshot now;

    store_assert_cells(&sleeper->snapshot);
    assert_int_equal(cellar_reader_snapshot(sleeper->reader).next_index, START + BEFORE);
    if (night->truncates) {
        assert_result(cellar_reader_refresh(sleeper->reader), CELLAR_ERETIRED);
    } else {
        assert_done(cellar_reader_refresh(sleeper->reader));
        now = cellar_reader_snapshot(sleeper->reader);
        assert_int_equal(now.next_index, START + BEFORE + night->commits);
        assert_int_equal(now.root_index, now.next_index - 1);
        store_assert_cells(&now);
        assert_result(cellar_reader_refresh(sleeper->reader), CELLAR_NONE);
    }
    store_assert_cells(&sleeper->snapshot);
    cellar_reader_close(sleeper->reader);
}

/* Every commit on the pages path is a few system calls, past the page cache a wait for the disk. */
static unsigned commits_on(const struct store_fixture *f)
{
    if (store_takes_slice(f))
        return 1 + commits / 500;
    return f->way->window ? commits : 1 + commits / 10;
}

static void sleep_over(struct store_fixture *f, bool truncates)
{
    struct night night = {.f = f, .commits = commits_on(f), .truncates = truncates};
    struct cellar_writer *writer;
    struct sleeper with_key, without_key;

    if (truncates)
        night.commits = 1 + night.commits / 100;
    writer = store_new(f, BYTES_PER_CELL, START + BEFORE + night.commits);
    store_append(writer, BEFORE);
    store_close(writer);
    with_key = sleeper_open(f, &f->key);
    without_key = sleeper_open(f, NULL);
    assert_int_equal(support_child(write_through_the_night, &night), 0);
    sleeper_wakes(&with_key, &night);
    sleeper_wakes(&without_key, &night);
}

static void test_sleep(void **state)
{
    sleep_over(*state, false);
}

static void test_sleep_over_a_truncate(void **state)
{
    sleep_over(*state, true);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {STORE_ON_FILES(test_sleep), STORE_ON_FILES(test_sleep_over_a_truncate)};

    if (argc > 1)
        commits = (unsigned)strtoul(argv[1], NULL, 10);
    if (commits == 0) {
        fprintf(stderr, "usage: %s [COMMITS]\n", argv[0]);
        return 2;
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
