/* test_store.c - the store over an NBD export: one writer process and reader processes, servers that die and come back,
 * writes that fail. In blocks of 1, 512 and 4096 bytes. */
#include "nbd_fixture.h"
#include "store_fixture.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
    BYTES_PER_CELL = 40,
    MAX_INDEX = 100000,
    DISK_BYTES = 8 << 20,
    COMMITS = 200,
    FLUSH_EVERY = 10,
    READERS = 3,
};

static const char *const block_arguments[] = {"blocksize-minimum=1", "blocksize-minimum=512", "blocksize-minimum=4096"};

/* A server on a file, with blocks of *state's size, and errors of writes as soon as the file "broken" is there. */
static struct nbd_server *start_server(void **state)
{
    struct nbd_server *server =
        nbd_server_start("--filter=blocksize-policy", "--filter=error", "file", "@/disk", *state,
                         "blocksize-error-policy=error", "error-pwrite-rate=100%", "error-pwrite-file=@/broken", NULL);

    assert_int_equal(truncate(nbd_server_path(server, "disk"), DISK_BYTES), 0);
    return server;
}

static struct cellar_writer_options writer_options(const struct cellar_key *key)
{
    return (struct cellar_writer_options){.key = key, .resize_step_bytes = 65536};
}

/* A new store on the device. */
static struct cellar_writer *create(struct cellar_device *device, const struct cellar_key *key)
{
    struct cellar_config config = store_config(BYTES_PER_CELL, MAX_INDEX);
    struct cellar_writer_options options = writer_options(key);
    struct cellar_writer *writer = NULL;

    assert_done(cellar_writer_create_on(device, &config, &options, &writer));
    return writer;
}

static struct cellar_writer *open_again(struct cellar_device *device, const struct cellar_key *key)
{
    struct cellar_writer_options options = writer_options(key);
    struct cellar_writer *writer = NULL;

    assert_done(cellar_writer_open_on(device, &options, &writer));
    return writer;
}

/* ---- one writer process, several reader processes ---- */

static uint32_t cells_of_commit(unsigned number)
{
    uint64_t seed = number;

    return 1 + (uint32_t)support_random_below(&seed, 12);
}

static uint32_t final_next(void)
{
    uint32_t next = cellar_start_index(BYTES_PER_CELL);

    for (unsigned number = 0; number < COMMITS; number++)
        next += cells_of_commit(number);
    return next;
}

static int write_commit(struct cellar_writer *writer, unsigned number)
{
    unsigned char cells[12 * BYTES_PER_CELL];
    uint32_t count = cells_of_commit(number), first = cellar_writer_next(writer), index;
    int error;

    for (uint32_t i = 0; i < count; i++)
        store_cell_bytes(first + i, cells + (size_t)i * BYTES_PER_CELL, BYTES_PER_CELL);
    error = cellar_writer_append(writer, cells, count, &index);
    if (error == 0)
        error = cellar_writer_set_root(writer, first + count - 1);
    if (error == 0)
        error = number % FLUSH_EVERY == 0 ? cellar_writer_flush(writer) : cellar_writer_commit(writer);
    return error;
}

static int write_all(const struct nbd_server *server, const struct cellar_key *key)
{
    struct cellar_writer_options options = writer_options(key);
    struct cellar_device *device = NULL;
    struct cellar_writer *writer = NULL;
    int error = cellar_device_open_nbd(server->uri, CELLAR_OPEN_WRITE, NULL, &device);

    if (error == 0)
        error = cellar_writer_open_on(device, &options, &writer);
    for (unsigned number = 0; number < COMMITS && error == 0; number++)
        error = write_commit(writer, number);
    if (error == 0)
        error = cellar_writer_close(writer);
    if (error == 0)
        error = cellar_device_close(device);
    return error;
}

/* 0, or the line that says what was wrong. */
static int look(struct cellar_reader *reader, uint32_t *known_next)
{
    int result = cellar_reader_refresh(reader);
    struct cellar_snapshot snapshot = cellar_reader_snapshot(reader);

    SUPPORT_CHILD_NEEDS(result == 0 || result == CELLAR_NONE);
    SUPPORT_CHILD_NEEDS(snapshot.next_index >= *known_next);
    SUPPORT_CHILD_NEEDS(snapshot.next_index <= final_next());
    if (snapshot.next_index > snapshot.start_index)
        SUPPORT_CHILD_NEEDS(snapshot.root_index == snapshot.next_index - 1);
    SUPPORT_CHILD_NEEDS(store_cells_hold(&snapshot, *known_next, snapshot.next_index - *known_next));
    *known_next = snapshot.next_index;
    return 0;
}

static int read_all(const struct nbd_server *server, const struct cellar_key *key)
{
    struct cellar_reader_options options = {.key = key, .cache_bytes = 65536};
    struct cellar_device *device = NULL;
    struct cellar_reader *reader = NULL;
    struct cellar_snapshot snapshot;
    uint32_t known_next = cellar_start_index(BYTES_PER_CELL);
    int line = 0;

    SUPPORT_CHILD_NEEDS(cellar_device_open_nbd(server->uri, CELLAR_OPEN_READ, NULL, &device) == 0);
    SUPPORT_CHILD_NEEDS(cellar_reader_open_on(device, &options, &reader) == 0);
    while (line == 0 && known_next < final_next())
        line = look(reader, &known_next);
    if (line != 0)
        return line;
    snapshot = cellar_reader_snapshot(reader);
    SUPPORT_CHILD_NEEDS(store_cells_hold(&snapshot, snapshot.start_index, snapshot.next_index - snapshot.start_index));
    cellar_reader_close(reader);
    SUPPORT_CHILD_NEEDS(cellar_device_close(device) == 0);
    return 0;
}

/* number -1: the writer. Readers with an even number follow commits, the others flushes. */
static pid_t start(const struct nbd_server *server, const struct cellar_key *key, int number)
{
    pid_t child;

    fflush(NULL);
    child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        int result;

        prctl(PR_SET_PDEATHSIG, SIGKILL);
        result = number < 0 ? write_all(server, key) : read_all(server, number % 2 == 0 ? key : NULL);
        if (result != 0)
            fprintf(stderr, "%s %d: %d\n", number < 0 ? "writer" : "reader", number, result);
        exit(result == 0 ? 0 : 1);
    }
    return child;
}

static void test_follow(void **state)
{
    struct nbd_server *server = start_server(state);
    struct cellar_device *device = nbd_device(server, CELLAR_OPEN_WRITE, NULL);
    struct cellar_key key = store_key(1);
    pid_t children[READERS + 1];
    unsigned failed = 0;

    store_close(create(device, &key));
    assert_done(cellar_device_close(device));
    for (int number = 0; number < READERS; number++)
        children[number + 1] = start(server, &key, number);
    children[0] = start(server, &key, -1);
    for (unsigned i = 0; i <= READERS; i++) {
        int status = 0;

        assert_int_equal(waitpid(children[i], &status, 0), children[i]);
        if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
            continue;
        failed++;
        for (unsigned k = i + 1; k <= READERS; k++) /* they would wait for a writer that is gone */
            kill(children[k], SIGTERM);
    }
    assert_int_equal(failed, 0);
    nbd_server_end(server);
}

/* ---- the server dies under the writer ---- */

static void test_killed_server(void **state)
{
    struct nbd_server *server = start_server(state);
    struct cellar_device *device = nbd_device(server, CELLAR_OPEN_WRITE, NULL);
    struct cellar_key key = store_key(1);
    struct cellar_writer *writer = create(device, &key);
    struct cellar_snapshot snapshot;
    uint32_t first, index;

    first = store_append(writer, 500);
    assert_done(cellar_writer_set_root(writer, first + 499));
    assert_done(cellar_writer_flush(writer));
    store_append(writer, 100);
    assert_done(cellar_writer_commit(writer));
    nbd_server_kill(server);
    assert_result(cellar_writer_flush(writer), CELLAR_EUNKNOWN);
    nbd_server_restart(server);
    assert_result(cellar_writer_append(writer, (char[BYTES_PER_CELL]){0}, 1, &index), CELLAR_EUNKNOWN);
    assert_result(cellar_writer_flush(writer), CELLAR_EUNKNOWN);
    assert_result(cellar_writer_close(writer), CELLAR_EUNKNOWN);
    assert_done(cellar_device_close(device));

    device = nbd_device(server, CELLAR_OPEN_WRITE, NULL);
    writer = open_again(device, &key);
    snapshot = cellar_writer_snapshot(writer);
    assert_int_equal(snapshot.root_index, first + 499);
    assert_true(snapshot.next_index >= first + 500);
    assert_true(store_cells_hold(&snapshot, first, 500));
    index = store_append(writer, 50);
    store_close(writer);
    assert_done(cellar_device_close(device));

    nbd_server_stop(server);
    nbd_server_restart(server);
    device = nbd_device(server, CELLAR_OPEN_WRITE, NULL);
    writer = open_again(device, &key);
    snapshot = cellar_writer_snapshot(writer);
    assert_true(store_cells_hold(&snapshot, first, 500));
    assert_true(store_cells_hold(&snapshot, index, 50));
    cellar_writer_abandon(writer);
    assert_done(cellar_device_close(device));
    nbd_server_end(server);
}

/* ---- writes fail ---- */

static void test_failed_write(void **state)
{
    struct nbd_server *server = start_server(state);
    struct cellar_device *device = nbd_device(server, CELLAR_OPEN_WRITE, NULL);
    struct cellar_key key = store_key(1);
    struct cellar_writer *writer = create(device, &key);
    struct cellar_reader *reader = NULL;
    struct cellar_snapshot snapshot;
    uint32_t first, index;

    first = store_append(writer, 300);
    assert_done(cellar_writer_flush(writer));
    nbd_server_touch(server, "broken");
    store_append(writer, 300);
    assert_result(cellar_writer_flush(writer), -EIO);
    nbd_server_untouch(server, "broken");
    assert_result(cellar_writer_append(writer, (char[BYTES_PER_CELL]){0}, 1, &index), -EIO); /* poisoned */
    assert_result(cellar_writer_commit(writer), -EIO);
    assert_result(cellar_writer_close(writer), -EIO);

    writer = open_again(device, &key);
    snapshot = cellar_writer_snapshot(writer);
    assert_true(snapshot.next_index >= first + 300);
    assert_true(store_cells_hold(&snapshot, first, 300));
    store_append(writer, 10);
    store_close(writer);
    assert_done(cellar_reader_open_on(device, NULL, &reader));
    snapshot = cellar_reader_snapshot(reader);
    assert_true(store_cells_hold(&snapshot, first, 300));
    assert_true(store_cells_hold(&snapshot, snapshot.next_index - 10, 10));
    cellar_reader_close(reader);
    assert_done(cellar_device_close(device));
    nbd_server_end(server);
}

/* ---- a disk that is full ---- */

static void test_full(void **state)
{
    struct nbd_server *server = start_server(state);
    struct cellar_device *device = nbd_device(server, CELLAR_OPEN_WRITE, NULL);
    struct cellar_key key = store_key(1);
    struct cellar_writer_options options = writer_options(&key);
    struct cellar_config config = store_config(4096, MAX_INDEX);
    unsigned char cell[4096] = {1};
    struct cellar_writer *writer = NULL;
    struct cellar_snapshot snapshot;
    uint32_t index, count = 0;
    int error;

    assert_done(cellar_writer_create_on(device, &config, &options, &writer));
    while ((error = cellar_writer_append(writer, cell, 1, &index)) == 0)
        assert_true(++count <= DISK_BYTES / sizeof cell);
    assert_int_equal(error, -ENOSPC);
    assert_true(count >= DISK_BYTES / sizeof cell * 9 / 10); /* nearly all of it can be used */
    store_close(writer);                                     /* the writer goes on with what it has */
    writer = open_again(device, &key);
    snapshot = cellar_writer_snapshot(writer);
    assert_int_equal(snapshot.next_index - snapshot.start_index, count);
    cellar_writer_abandon(writer);
    assert_done(cellar_device_close(device));
    nbd_server_end(server);
}

#define ON_BLOCKS(test, which)                                                                                         \
    {                                                                                                                  \
#test "[" #which "]", test, NULL, NULL, (void *)(uintptr_t)block_arguments[which]                              \
    }
#define ON_ALL_BLOCKS(test) ON_BLOCKS(test, 0), ON_BLOCKS(test, 1), ON_BLOCKS(test, 2)

int main(void)
{
    const struct CMUnitTest tests[] = {
        ON_ALL_BLOCKS(test_follow),
        ON_ALL_BLOCKS(test_killed_server),
        ON_ALL_BLOCKS(test_failed_write),
        ON_ALL_BLOCKS(test_full),
    };

    return nbd_run_tests(tests);
}
