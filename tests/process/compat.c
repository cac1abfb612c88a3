/*
 * Compat mode beside another process that takes the original's lock, as the original does: lockf over bytes 0..255, a
 * POSIX lock. While it is held no slot is stored; otherwise the writer holds nothing that the other would wait for.
 */
#include "store_fixture.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

/* ---- the other process ---- */

/* It does what it is told by one letter, and answers each with one: 'y' done, 'n' not possible. */
struct other {
    pid_t process;
    int to, from;
};

static int lock_header(int fd, int command, short type)
{
    struct flock range = {.l_type = type, .l_whence = SEEK_SET, .l_start = 0, .l_len = 256};

    return fcntl(fd, command, &range);
}

/* 'l': locks, waiting. 't': tries to. 'u': unlocks. 'q': ends. */
static void serve(const char *path, int from, int to)
{
    int fd = open(path, O_RDWR | O_CLOEXEC);
    char command, answer;

    while (fd >= 0 && read(from, &command, 1) == 1 && command != 'q') {
        int result = 0;

        if (command == 'l')
            result = lock_header(fd, F_SETLKW, F_WRLCK);
        else if (command == 't')
            result = lock_header(fd, F_SETLK, F_WRLCK);
        else
            result = lock_header(fd, F_SETLK, F_UNLCK);
        answer = result == 0 ? 'y' : 'n';
        if (write(to, &answer, 1) != 1)
            break;
    }
    _exit(0);
}

static struct other other_start(const char *path)
{
    struct other other;
    int down[2], up[2];

    assert_int_equal(pipe2(down, O_CLOEXEC), 0);
    assert_int_equal(pipe2(up, O_CLOEXEC), 0);
    fflush(NULL);
    other.process = fork();
    assert_true(other.process >= 0);
    if (other.process == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        close(down[1]);
        close(up[0]);
        serve(path, down[0], up[1]);
    }
    close(down[0]);
    close(up[1]);
    other.to = down[1];
    other.from = up[0];
    return other;
}

static char other_tell(struct other *other, char command)
{
    char answer = '?';

    assert_int_equal(write(other->to, &command, 1), 1);
    assert_int_equal(read(other->from, &answer, 1), 1);
    return answer;
}

static void other_end(struct other *other)
{
    assert_int_equal(write(other->to, "q", 1), 1);
    assert_int_equal(waitpid(other->process, NULL, 0), other->process);
    close(other->to);
    close(other->from);
}

/* ---- whether somebody waits ---- */

/* True where the kernel lists a lock of this file that is waited for. */
static bool is_waited_for(const char *path)
{
    FILE *locks = fopen("/proc/locks", "re");
    struct stat status;
    char line[256], inode[32];
    bool found = false;

    assert_non_null(locks);
    assert_int_equal(stat(path, &status), 0);
    snprintf(inode, sizeof inode, ":%llu ", (unsigned long long)status.st_ino);
    while (fgets(line, sizeof line, locks) != NULL)
        found = found || (strstr(line, "->") != NULL && strstr(line, inode) != NULL);
    fclose(locks);
    return found;
}

struct committing {
    struct cellar_writer *writer;
    int (*call)(struct cellar_writer *writer);
    int error;
};

static void *commit_in_thread(void *user)
{
    struct committing *committing = user;

    committing->error = committing->call(committing->writer);
    return NULL;
}

/* ---- the tests ---- */

static struct cellar_writer *open_writer(struct store_fixture *f, bool compat)
{
    struct cellar_writer_options options = store_options(f);
    struct cellar_writer *writer = NULL;

    options.compat = compat;
    store_close(store_new(f, 32, 5000));
    assert_done(store_open(f, &options, &writer));
    return writer;
}

/* The call waits for the lock with the slots as they were; after it both slots of the pair hold the new state. */
static void assert_waits(struct store_fixture *f, struct committing *committing, enum cellar_slot_name first,
                         const struct cellar_state *before, const struct cellar_state *after)
{
    struct other other = other_start(f->path);
    pthread_t thread;

    assert_int_equal(other_tell(&other, 'l'), 'y');
    assert_int_equal(pthread_create(&thread, NULL, commit_in_thread, committing), 0);
    while (!is_waited_for(f->path))
        sched_yield();
    store_assert_pair(f, first, before->next_index, before->root_index);
    assert_int_equal(other_tell(&other, 'u'), 'y');
    pthread_join(thread, NULL);
    assert_int_equal(committing->error, 0);
    store_assert_pair(f, first, after->next_index, after->root_index);
    assert_int_equal(other_tell(&other, 't'), 'y'); /* and the lock is free again */
    other_end(&other);
}

static void test_slot_writes_wait(void **state)
{
    struct store_fixture *f = *state;
    struct cellar_writer *writer = open_writer(f, true);
    struct cellar_state empty = {.next_index = 8}, full = {.next_index = 18, .root_index = 12};
    struct committing commit = {.writer = writer, .call = cellar_writer_commit, .error = 1};
    struct committing flush = {.writer = writer, .call = cellar_writer_flush_committed, .error = 1};

    if (access("/proc/locks", R_OK) != 0) {
        cellar_writer_abandon(writer);
        support_skip("the kernel does not list its locks here");
    }
    store_append(writer, 10);
    assert_done(cellar_writer_set_root(writer, 12));
    assert_waits(f, &commit, CELLAR_PROCESS_1, &empty, &full);
    assert_waits(f, &flush, CELLAR_DISK_1, &empty, &full);
    store_close(writer);
}

/* Between its stores the writer holds nothing that the original would wait for. */
static void test_lock_is_free_otherwise(void **state)
{
    struct store_fixture *f = *state;
    struct cellar_writer *writer = open_writer(f, true);
    struct other other = other_start(f->path);

    for (int i = 0; i < 5; i++) {
        assert_int_equal(other_tell(&other, 't'), 'y');
        store_append(writer, 10); /* appending needs no lock */
        assert_int_equal(other_tell(&other, 'u'), 'y');
        assert_done(cellar_writer_commit(writer));
        assert_int_equal(other_tell(&other, 't'), 'y');
        assert_int_equal(other_tell(&other, 'u'), 'y');
        assert_done(cellar_writer_flush(writer));
    }
    assert_int_equal(other_tell(&other, 't'), 'y');
    assert_int_equal(other_tell(&other, 'u'), 'y');
    store_close(writer);
    other_end(&other);
}

/* Without compat mode, and for readers, the lock means nothing. */
static void test_nobody_else_waits(void **state)
{
    struct store_fixture *f = *state;
    struct cellar_writer *writer = open_writer(f, false);
    struct other other = other_start(f->path);
    struct cellar_reader *reader;

    assert_int_equal(other_tell(&other, 'l'), 'y');
    store_append(writer, 10);
    assert_done(cellar_writer_flush(writer));
    reader = store_reader(f, &f->key);
    store_append(writer, 10);
    assert_done(cellar_writer_commit(writer));
    assert_done(cellar_reader_refresh(reader));
    assert_int_equal(cellar_reader_snapshot(reader).next_index, 28);
    cellar_reader_close(reader);
    store_close(writer);
    store_close(store_again(f));
    other_end(&other);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        STORE_ON_FILES(test_slot_writes_wait),
        STORE_ON_FILES(test_lock_is_free_otherwise),
        STORE_ON_FILES(test_nobody_else_waits),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
