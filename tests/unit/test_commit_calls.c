/*
 * What an append, a commit and a look of a reader ask of the machine: no system call, and by the published word no
 * hash. The kernel tells of each system call that this thread begins meanwhile (PR_SET_SYSCALL_USER_DISPATCH); hashes
 * come past the test (-Wl,--wrap). An append may rouse the writer's helper, where it has one: then it is not watched.
 */
#include "store_fixture.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>

#ifndef PR_SET_SYSCALL_USER_DISPATCH
#define PR_SET_SYSCALL_USER_DISPATCH 59
#define PR_SYS_DISPATCH_OFF 0
#define PR_SYS_DISPATCH_ON 1
#endif

enum {
    LET_THROUGH = 0,
    REFUSE = 1,
    CELL_BYTES = 64,
    BEFORE = 20000, /* commits, more than a MiB: with it the writer's helper begins, a thread */
    COMMITS = 30000,
    CELLS = BEFORE + COMMITS + 100, /* allocated when the store is made */
    FLUSH_EVERY = 1000,
};

static volatile char selector; /* what the kernel asks at each system call of this thread */
static volatile int refused;   /* system calls */
static volatile int last_refused;
static unsigned hashes;

/* Its own return is a system call, too. */
static void on_refused(int number, siginfo_t *info, void *context)
{
    (void)number;
    (void)context;
    refused++;
    last_refused = info->si_syscall;
    selector = LET_THROUGH;
}

int __real_blake2b_final(void *state, uint8_t *digest, size_t digest_bytes);
int __wrap_blake2b_final(void *state, uint8_t *digest, size_t digest_bytes);

/* Takes the place of libb2's (-Wl,--wrap): each hash ends here. */
int __wrap_blake2b_final(void *state, uint8_t *digest, size_t digest_bytes)
{
    hashes++;
    return __real_blake2b_final(state, digest, digest_bytes);
}

static void watch(void)
{
    struct sigaction action = {.sa_sigaction = on_refused, .sa_flags = SA_SIGINFO};

    if (support_under_valgrind())
        support_skip("valgrind makes system calls of its own");
    selector = LET_THROUGH;
    refused = 0;
    assert_int_equal(sigaction(SIGSYS, &action, NULL), 0);
    if (prctl(PR_SET_SYSCALL_USER_DISPATCH, PR_SYS_DISPATCH_ON, 0, 0, &selector) != 0)
        support_skip("this kernel does not tell of system calls");
}

static void watch_no_more(void)
{
    assert_int_equal(prctl(PR_SET_SYSCALL_USER_DISPATCH, PR_SYS_DISPATCH_OFF, 0, 0, 0), 0);
}

static struct cellar_writer *make_writer(struct store_fixture *f, enum cellar_publish publish, unsigned ahead)
{
    struct cellar_writer_options options = store_options(f);
    struct cellar_config config = store_config(CELL_BYTES, CELLS);
    struct cellar_writer *writer = NULL;

    options.publish = publish;
    options.ahead = ahead;
    options.initial_cells = CELLS;
    assert_done(store_create(f, &config, &options, &writer));
    return writer;
}

/* One cell, and the root. Asserts nothing: that may be a system call. */
static int append_one(struct cellar_writer *writer)
{
    static const unsigned char cell[CELL_BYTES] = "a cell";
    uint32_t index;
    int error = cellar_writer_append(writer, cell, 1, &index);

    return error == 0 ? cellar_writer_set_root(writer, index) : error;
}

/* The reader looks, finds the commit, and reads its cell; then there is nothing new. */
static int follow_one(struct cellar_reader *reader)
{
    struct cellar_snapshot snapshot;
    unsigned char cell[CELL_BYTES];
    int error = cellar_reader_refresh(reader);

    if (error != 0)
        return error;
    snapshot = cellar_reader_snapshot(reader);
    error = cellar_snapshot_read(&snapshot, snapshot.root_index, 0, cell, sizeof cell);
    if (error == 0 && strcmp((const char *)cell, "a cell") != 0)
        error = -EBADMSG;
    return error == 0 && cellar_reader_refresh(reader) != CELLAR_NONE ? -EBADMSG : error;
}

static int commit_watched(struct cellar_writer *writer, struct cellar_reader *reader, bool with_append)
{
    int error;

    selector = with_append ? REFUSE : LET_THROUGH;
    error = append_one(writer);
    selector = REFUSE;
    if (error == 0)
        error = cellar_writer_commit(writer);
    if (error == 0)
        error = follow_one(reader);
    selector = LET_THROUGH;
    return error;
}

/* Commits that a reader follows, with the hashes that each may ask for at most. */
static void commits_ask_for(struct store_fixture *f, enum cellar_publish publish, unsigned ahead, unsigned hashes_each)
{
    struct cellar_writer *writer = make_writer(f, publish, ahead);
    struct cellar_reader *reader = store_reader(f, &f->key);
    struct cellar_info info;

    cellar_writer_info(writer, &info);
    assert_int_equal(info.publish, publish);
    for (unsigned i = 0; i < BEFORE; i++) {
        assert_done(append_one(writer));
        assert_done(cellar_writer_commit(writer));
    }
    assert_done(cellar_reader_refresh(reader));
    watch();
    for (unsigned i = 0; i < COMMITS; i++) {
        int error;

        hashes = 0;
        error = commit_watched(writer, reader, ahead == CELLAR_AHEAD_NONE);
        if (refused > 0)
            fail_msg("system call %d in commit %u, or in a look at it", last_refused, i);
        assert_done(error);
        assert_in_range(hashes, 0, hashes_each);
        if (i % FLUSH_EVERY == 0)
            assert_done(cellar_writer_flush(writer));
    }
    watch_no_more();
    cellar_reader_close(reader);
    store_close(writer);
}

/* Two in the writer's slot, and the reader's. */
static void test_slots(void **state)
{
    commits_ask_for(*state, CELLAR_PUBLISH_SLOTS, CELLAR_AHEAD_NONE, 3);
}

static void test_slots_with_a_helper(void **state)
{
    commits_ask_for(*state, CELLAR_PUBLISH_SLOTS, 0, 3);
}

static void test_word(void **state)
{
    commits_ask_for(*state, CELLAR_PUBLISH_WORD, CELLAR_AHEAD_NONE, 0);
}

static void test_word_with_a_helper(void **state)
{
    commits_ask_for(*state, CELLAR_PUBLISH_WORD, 0, 0);
}

/* The watch sees a system call where there is one. */
static void test_watch_sees(void **state)
{
    struct store_fixture *f = *state;
    struct cellar_writer *writer = make_writer(f, CELLAR_PUBLISH_SLOTS, CELLAR_AHEAD_NONE);
    struct cellar_reader *reader = store_reader(f, &f->key);
    int error;

    watch();
    selector = REFUSE;
    error = cellar_reader_check(reader);
    selector = LET_THROUGH;
    watch_no_more();
    (void)error;
    assert_int_not_equal(refused, 0);
    cellar_reader_close(reader);
    store_close(writer);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        STORE_ON(test_watch_sees, STORE_MAPPED),          STORE_ON(test_slots, STORE_MAPPED),
        STORE_ON(test_slots_with_a_helper, STORE_MAPPED), STORE_ON(test_word, STORE_MAPPED),
        STORE_ON(test_word_with_a_helper, STORE_MAPPED),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
