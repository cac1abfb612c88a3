/* Handles that were opened before fork: the child can do nothing with them but close, and the parent doesn't notice. */
#include "store_fixture.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct handles {
    struct store_fixture *f;
    struct cellar_writer *writer;
    struct cellar_reader *reader;
    struct cellar_snapshot snapshot;
    bool abandon;
};

static int use_writer(struct handles *handles)
{
    struct cellar_writer *writer = handles->writer;
    unsigned char cell[32] = {0};
    struct iovec part = {cell, sizeof cell};
    uint32_t index = 77;
    void *cells = NULL;

    SUPPORT_CHILD_NEEDS(cellar_writer_append(writer, cell, 1, &index) == CELLAR_EFORKED);
    SUPPORT_CHILD_NEEDS(cellar_writer_append_bytes(writer, cell, 1, &index) == CELLAR_EFORKED);
    SUPPORT_CHILD_NEEDS(cellar_writer_reserve(writer, 1, &index, &cells) == CELLAR_EFORKED);
    SUPPORT_CHILD_NEEDS(cellar_writer_rewrite(writer, 18, cell, 1) == CELLAR_EFORKED);
    SUPPORT_CHILD_NEEDS(cellar_writer_write_value(writer, cell, 1, &index) == CELLAR_EFORKED);
    SUPPORT_CHILD_NEEDS(cellar_writer_write_value_parts(writer, &part, 1, &index) == CELLAR_EFORKED);
    SUPPORT_CHILD_NEEDS(cellar_writer_set_root(writer, CELLAR_ROOT_NONE) == CELLAR_EFORKED);
    SUPPORT_CHILD_NEEDS(cellar_writer_commit(writer) == CELLAR_EFORKED);
    SUPPORT_CHILD_NEEDS(cellar_writer_rollback(writer) == CELLAR_EFORKED);
    SUPPORT_CHILD_NEEDS(cellar_writer_flush(writer) == CELLAR_EFORKED);
    SUPPORT_CHILD_NEEDS(cellar_writer_flush_committed(writer) == CELLAR_EFORKED);
    SUPPORT_CHILD_NEEDS(cellar_writer_truncate(writer, 0) == CELLAR_EFORKED);
    SUPPORT_CHILD_NEEDS(cellar_writer_override_version(writer, 3) == CELLAR_EFORKED);
    SUPPORT_CHILD_NEEDS(index == 77 && cells == NULL);
    SUPPORT_CHILD_NEEDS(cellar_writer_next(writer) == 20);
    return 0;
}

static int use_reader(struct handles *handles)
{
    struct cellar_reader *reader = handles->reader;
    unsigned char cell[32];
    uint64_t size_bytes;

    SUPPORT_CHILD_NEEDS(cellar_reader_refresh(reader) == CELLAR_EFORKED);
    SUPPORT_CHILD_NEEDS(cellar_reader_diagnostic(reader)->error == CELLAR_EFORKED);
    SUPPORT_CHILD_NEEDS(cellar_reader_check(reader) == CELLAR_EFORKED);
    SUPPORT_CHILD_NEEDS(cellar_reader_check_key(reader, &handles->f->key) == CELLAR_EFORKED);
    SUPPORT_CHILD_NEEDS(cellar_reader_enable_process_sync(reader, &handles->f->key) == CELLAR_EFORKED);
    if (handles->snapshot.window != NULL) { /* a window stays readable; a cache has a lock that is nobody's now */
        SUPPORT_CHILD_NEEDS(store_cells_hold(&handles->snapshot, 8, 10));
        SUPPORT_CHILD_NEEDS(cellar_snapshot_value_size(&handles->snapshot, 17, &size_bytes) != CELLAR_EFORKED);
    } else {
        SUPPORT_CHILD_NEEDS(cellar_snapshot_read(&handles->snapshot, 8, 0, cell, 32) == CELLAR_EFORKED);
        SUPPORT_CHILD_NEEDS(cellar_snapshot_value_size(&handles->snapshot, 17, &size_bytes) == CELLAR_EFORKED);
    }
    return 0;
}

static int use_in_child(void *user)
{
    struct handles *handles = user;
    struct cellar_writer_options options = store_options(handles->f);
    struct cellar_writer *second = NULL;
    int line = use_writer(handles);

    if (line == 0)
        line = use_reader(handles);
    if (line != 0)
        return line;
    if (handles->abandon)
        cellar_writer_abandon(handles->writer);
    else
        SUPPORT_CHILD_NEEDS(cellar_writer_close(handles->writer) == 0);
    cellar_reader_close(handles->reader);
    /* The parent's lock is still the parent's. */
    SUPPORT_CHILD_NEEDS(cellar_writer_open(handles->f->path, &options, &second) == CELLAR_EBUSY);
    return 0;
}

static void check_fork(struct store_fixture *f, bool abandon, enum cellar_publish publish)
{
    struct cellar_config config = store_config(32, 5000);
    struct handles handles = {.f = f, .abandon = abandon};
    struct cellar_writer_options options = store_options(f);
    struct cellar_writer *second = NULL;
    struct cellar_snapshot snapshot;
    struct store_image image;

    options.publish = publish;
    assert_done(store_create(f, &config, &options, &handles.writer));
    store_append(handles.writer, 10);
    assert_done(cellar_writer_flush(handles.writer));
    handles.reader = store_reader(f, &f->key);
    handles.snapshot = cellar_reader_snapshot(handles.reader);
    store_append(handles.writer, 2); /* not committed: the child must not do that either */
    image = store_image_take(f);
    assert_int_equal(support_child(use_in_child, &handles), 0);
    store_image_compare(f, image);
    assert_result(store_open(f, &options, &second), CELLAR_EBUSY);

    assert_done(cellar_writer_set_root(handles.writer, 19)); /* the parent goes on */
    store_append(handles.writer, 10);
    assert_done(cellar_writer_commit(handles.writer));
    assert_done(cellar_reader_refresh(handles.reader));
    snapshot = cellar_reader_snapshot(handles.reader);
    assert_int_equal(snapshot.next_index, 30);
    store_assert_cells(&snapshot);
    cellar_reader_close(handles.reader);
    store_close(handles.writer);
    store_close(store_again(f));
    store_remove(f);
}

static void test_fork(void **state)
{
    check_fork(*state, false, CELLAR_PUBLISH_SLOTS);
    check_fork(*state, true, CELLAR_PUBLISH_SLOTS);
}

/* A commit in the child would be one store. */
static void test_fork_by_the_word(void **state)
{
    check_fork(*state, false, CELLAR_PUBLISH_WORD);
    check_fork(*state, true, CELLAR_PUBLISH_WORD);
}

/* In the child a device of the caller's is left to the caller. */
static int close_on_device(void *user)
{
    struct handles *handles = user;
    unsigned char cell[32] = {0};
    uint32_t index;

    SUPPORT_CHILD_NEEDS(cellar_writer_append(handles->writer, cell, 1, &index) == CELLAR_EFORKED);
    SUPPORT_CHILD_NEEDS(cellar_writer_close(handles->writer) == 0);
    cellar_reader_close(handles->reader);
    SUPPORT_CHILD_NEEDS(cellar_device_close(handles->f->memory) == 0);
    return 0;
}

static void test_fork_on_device(void **state)
{
    struct store_fixture *f = *state;
    struct handles handles = {.f = f};
    struct cellar_snapshot snapshot;

    handles.writer = store_new(f, 32, 5000);
    handles.reader = store_reader(f, &f->key);
    store_append(handles.writer, 10);
    assert_int_equal(support_child(close_on_device, &handles), 0);
    store_append(handles.writer, 10);
    assert_done(cellar_writer_flush(handles.writer));
    assert_done(cellar_reader_refresh(handles.reader));
    snapshot = cellar_reader_snapshot(handles.reader);
    store_assert_cells(&snapshot);
    cellar_reader_close(handles.reader);
    store_close(handles.writer);
}

/* A child that opens for itself is a process like any other. */
static int open_for_itself(void *user)
{
    struct store_fixture *f = user;
    struct cellar_reader_options options = store_reader_options(f);
    struct cellar_reader *reader = NULL;
    struct cellar_snapshot snapshot;

    SUPPORT_CHILD_NEEDS(cellar_reader_open(f->path, &options, &reader) == 0);
    snapshot = cellar_reader_snapshot(reader);
    SUPPORT_CHILD_NEEDS(snapshot.next_index == 18);
    SUPPORT_CHILD_NEEDS(store_cells_hold(&snapshot, 8, 10));
    SUPPORT_CHILD_NEEDS(cellar_reader_refresh(reader) == CELLAR_NONE);
    cellar_reader_close(reader);
    return 0;
}

static void test_child_opens_for_itself(void **state)
{
    struct store_fixture *f = *state;
    struct cellar_writer *writer = store_new(f, 32, 5000);

    store_append(writer, 10);
    assert_done(cellar_writer_flush(writer));
    assert_int_equal(support_child(open_for_itself, f), 0);
    store_close(writer);
}

/* ---- a child that outlives the writer's process ---- */

struct heir {
    struct store_fixture *f;
    int told[2], done[2]; /* pipes to the heir and from it */
};

/* Closes the handle when it is told to, and says so. */
static void inherit(struct heir *heir, struct cellar_writer *writer)
{
    char byte;

    close(heir->told[1]); /* else it would wait for itself, where nobody else is left */
    if (read(heir->told[0], &byte, 1) == 1 && cellar_writer_close(writer) == 0)
        (void)!write(heir->done[1], &byte, 1);
    _exit(0);
}

static int commit_fork_and_die(void *user)
{
    struct heir *heir = user;
    struct cellar_writer_options options = store_options(heir->f);
    struct cellar_writer *writer = NULL;
    unsigned char cell[32];
    uint32_t index;
    pid_t child;

    SUPPORT_CHILD_NEEDS(cellar_writer_open(heir->f->path, &options, &writer) == 0);
    store_cell_bytes(cellar_writer_next(writer), cell, sizeof cell);
    SUPPORT_CHILD_NEEDS(cellar_writer_append(writer, cell, 1, &index) == 0);
    SUPPORT_CHILD_NEEDS(cellar_writer_set_root(writer, index) == 0);
    SUPPORT_CHILD_NEEDS(cellar_writer_commit(writer) == 0);
    child = fork();
    SUPPORT_CHILD_NEEDS(child >= 0);
    if (child == 0)
        inherit(heir, writer);
    raise(SIGKILL);
    return 0;
}

/* The lock lives on in a child that has neither closed the handle nor called exec, and is free when it has. */
static void test_child_keeps_the_lock(void **state)
{
    struct store_fixture *f = *state;
    struct cellar_writer_options options = store_options(f);
    struct cellar_writer *writer = NULL;
    struct heir heir = {.f = f};
    char byte = 'c';

    assert_int_equal(pipe2(heir.told, O_CLOEXEC), 0);
    assert_int_equal(pipe2(heir.done, O_CLOEXEC), 0);
    store_close(store_new(f, 32, 5000));
    assert_int_equal(support_child(commit_fork_and_die, &heir), -SIGKILL);
    assert_result(store_open(f, &options, &writer), CELLAR_EBUSY);
    assert_int_equal(write(heir.told[1], &byte, 1), 1);
    assert_int_equal(read(heir.done[0], &byte, 1), 1);
    writer = store_again(f);
    assert_int_equal(cellar_writer_next(writer), 9); /* what was committed is there, root and all */
    assert_int_equal(cellar_writer_root(writer), 8);
    store_close(writer);
    for (int end = 0; end < 2; end++) {
        assert_int_equal(close(heir.told[end]), 0);
        assert_int_equal(close(heir.done[end]), 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        STORE_ON_FILES(test_fork),
        STORE_ON(test_fork_by_the_word, STORE_MAPPED),
        STORE_ON(test_fork_on_device, STORE_MEMORY_MAPPED),
        STORE_ON(test_fork_on_device, STORE_MEMORY_PAGES),
        STORE_ON_FILES(test_child_opens_for_itself),
        STORE_ON_FILES(test_child_keeps_the_lock),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
