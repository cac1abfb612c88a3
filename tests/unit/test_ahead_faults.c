/* Calls of the system that fail under the helper, whose steps are taken by hand: what the writer hears of them. */
#include "store_fixture.h"
#include "system_fault.h"

#include "store_internal.h"

enum { CELL = 64, MIB = 1 << 20, CELLS_MAX = 24 * MIB / CELL };

static struct cellar_writer *make(struct store_fixture *f)
{
    struct cellar_writer_options options = store_options(f);
    struct cellar_config config = store_config(CELL, CELLS_MAX);
    struct cellar_writer *writer;

    system_heal();
    options.resize_step_bytes = 4 * MIB;
    assert_done(store_create(f, &config, &options, &writer));
    atomic_store(&writer->ahead.thread_state, CELLAR_AHEAD_FAILED); /* no thread can be had */
    return writer;
}

/* So many flushes that the helper has pages to write. */
static void flush_often(struct cellar_writer *writer)
{
    for (int i = 0; i < 128; i++) {
        store_append(writer, 16);
        assert_done(cellar_writer_flush(writer));
    }
}

static void expect_holds(struct store_fixture *f, struct cellar_writer *writer)
{
    uint32_t next = cellar_writer_next(writer);
    struct cellar_snapshot snapshot;

    store_close(writer);
    writer = store_again(f);
    assert_int_equal(cellar_writer_next(writer), next);
    snapshot = cellar_writer_snapshot(writer);
    store_assert_cells(&snapshot);
    store_close(writer);
}

static void expect_poisoned(struct store_fixture *f, struct cellar_writer *writer, int error)
{
    unsigned char cell[CELL] = {0};
    uint32_t index;
    unsigned char *bytes;
    size_t length_bytes;

    assert_result(cellar_writer_append(writer, cell, 1, &index), error);
    assert_result(cellar_writer_commit(writer), error);
    assert_result(cellar_writer_flush_committed(writer), error);
    assert_result(cellar_writer_close(writer), error);
    bytes = store_bytes(f, &length_bytes);
    assert_int_equal(bytes[CELLAR_AT_FLAGS] & CELLAR_FLAG_SUSPECT, CELLAR_FLAG_SUSPECT);
    free(bytes);
}

/* Pages are written by a sync of their own, which changes nothing. */
static void test_writes_pages(void **state)
{
    struct store_fixture *f = *state;
    struct cellar_writer *writer = make(f);

    flush_often(writer);
    system_heal();
    assert_done(cellar_ahead_step(&writer->ahead));
    assert_int_equal(system_calls(SYSTEM_MSYNC), 1);
    assert_int_equal(system_calls(SYSTEM_OPEN), 1);
    assert_int_equal(system_calls(SYSTEM_PWRITE) + system_calls(SYSTEM_PWRITEV), 0);
    store_append(writer, 3000); /* into those pages and beyond */
    assert_done(cellar_writer_flush(writer));
    for (int i = 0; i < 200; i++) {
        store_append(writer, 16);
        assert_done(cellar_writer_flush(writer));
    }
    system_heal();
    assert_done(cellar_ahead_step(&writer->ahead));
    assert_int_equal(system_calls(SYSTEM_OPEN), 0); /* the same description */
    expect_holds(f, writer);
}

/* The file is as it was, byte for byte, and as long. */
static void test_changes_nothing(void **state)
{
    struct store_fixture *f = *state;
    struct cellar_writer *writer = make(f);
    struct store_image image;

    flush_often(writer);
    image = store_image_take(f);
    while (cellar_ahead_step(&writer->ahead) == 0)
        continue;
    assert_true(atomic_load(&writer->ahead.written) > 0);
    store_image_compare(f, image);
    expect_holds(f, writer);
}

/* Pages that can't be had, of a file that others cut: an error, and no signal. Without them all goes on. */
static void test_pages_that_are_not_there(void **state)
{
    struct store_fixture *f = *state;
    struct cellar_writer *writer = make(f);
    uint64_t file_bytes = writer->alloc.file_bytes;

    assert_true(file_bytes > MIB);
    flush_often(writer);
    assert_int_equal(truncate(f->path, MIB / 2), 0);
    assert_result(cellar_file_populate(writer->ground->device, MIB, MIB), -EFAULT);
    assert_result(cellar_file_write_out(writer->ground->device, &writer->ahead_fd, MIB, MIB), -ENOTSUP);
    assert_int_equal(truncate(f->path, (off_t)file_bytes), 0);
    assert_done(cellar_file_populate(writer->ground->device, MIB, MIB));
    flush_often(writer);
    expect_holds(f, writer);
}

/* Their sync fails: cells may lie there by now, and the writer stops, at its next call. */
static void test_write_lost(void **state)
{
    static const int errors[] = {EIO, ENOSPC}, heard[] = {-EIO, -EIO};
    struct store_fixture *f = *state;

    for (int i = 0; i < 2; i++) {
        struct cellar_writer *writer = make(f);

        flush_often(writer);
        system_fail(SYSTEM_MSYNC, 1, 1, errors[i]);
        assert_done(cellar_ahead_step(&writer->ahead));
        expect_poisoned(f, writer, heard[i]);
        system_heal();
        store_remove(f);
    }
}

/* No description, or no mapping, of its own: it goes without, and nobody is the worse for it. */
static void test_no_write(void **state)
{
    static const enum system_call calls[] = {SYSTEM_OPEN, SYSTEM_MMAP};
    struct store_fixture *f = *state;

    for (int i = 0; i < 2; i++) {
        struct cellar_writer *writer = make(f);

        flush_often(writer);
        system_fail(calls[i], 1, 2, ENOMEM);
        assert_done(cellar_ahead_step(&writer->ahead));
        system_heal();
        assert_result(cellar_ahead_step(&writer->ahead), CELLAR_NONE);
        flush_often(writer);
        assert_result(cellar_ahead_step(&writer->ahead), CELLAR_NONE);
        expect_holds(f, writer);
        store_remove(f);
    }
}

static void append_past_half(struct cellar_writer *writer)
{
    store_append(writer, 3 * MIB / CELL);
    assert_done(cellar_writer_commit(writer));
}

/* A growth of the helper whose sync fails: the same. */
static void test_growth_lost(void **state)
{
    struct store_fixture *f = *state;
    struct cellar_writer *writer = make(f);

    append_past_half(writer);
    system_fail(SYSTEM_MSYNC, 1, 1, EIO);
    assert_done(cellar_ahead_step(&writer->ahead));
    expect_poisoned(f, writer, -EIO);
    system_heal();
}

/* A disk that is full for the helper: the writer goes on, and takes what there is when it needs it. */
static void test_growth_full(void **state)
{
    struct store_fixture *f = *state;
    struct cellar_writer *writer = make(f);

    append_past_half(writer);
    system_fail(SYSTEM_FALLOCATE, 1, 1, ENOSPC);
    assert_done(cellar_ahead_step(&writer->ahead));
    assert_result(cellar_ahead_step(&writer->ahead), CELLAR_NONE);
    store_append(writer, 2 * MIB / CELL);
    assert_done(cellar_writer_flush(writer));
    expect_holds(f, writer);
    system_heal();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        STORE_ON(test_writes_pages, STORE_MAPPED),
        STORE_ON(test_changes_nothing, STORE_MAPPED),
        STORE_ON(test_write_lost, STORE_MAPPED),
        STORE_ON(test_no_write, STORE_MAPPED),
        STORE_ON(test_growth_lost, STORE_MAPPED),
        STORE_ON(test_growth_full, STORE_MAPPED),
        STORE_ON(test_pages_that_are_not_there, STORE_MAPPED),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
