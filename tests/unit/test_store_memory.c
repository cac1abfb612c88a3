/*
 * Out of memory, in every place of the store's own where that can be: its sources are compiled into this test with an
 * allocator that fails the nth call, and with a pipeline that refuses a write.
 */
#include "store_fixture.h"

#include <cellar/pipeline.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Allocations that still succeed; negative: all do. */
static long allocations_left = -1;

/* The same for writes into the pipeline, and what the one after them gives. */
static long writes_left = -1;
static int write_error;

static bool may_allocate(void)
{
    if (allocations_left == 0)
        return false;
    allocations_left -= allocations_left > 0;
    return true;
}

static void *try_malloc(size_t size)
{
    return may_allocate() ? malloc(size) : NULL;
}

static void *try_calloc(size_t count, size_t size)
{
    return may_allocate() ? calloc(count, size) : NULL;
}

static char *try_strdup(const char *text)
{
    return may_allocate() ? strdup(text) : NULL;
}

static char *try_realpath(const char *path, char *resolved)
{
    if (may_allocate())
        return realpath(path, resolved);
    errno = ENOMEM;
    return NULL;
}

static int try_pipeline_write(struct cellar_pipeline *pipeline, uint64_t address, const void *bytes, size_t length)
{
    if (writes_left == 0)
        return write_error;
    writes_left -= writes_left > 0;
    return cellar_pipeline_write(pipeline, address, bytes, length);
}

#define malloc try_malloc
#define calloc try_calloc
#define strdup try_strdup
#define realpath try_realpath
#define cellar_pipeline_write try_pipeline_write

#include "cell/cells.c"
#include "snapshot.c"
#include "writer.c"
#include "writer_file.c"
#include "writer_open.c"

/* reader.c has names in common with writer_open.c. */
#define adopt reader_adopt
#define open_as reader_open_as
#define settle reader_settle
#include "reader.c"

#undef malloc
#undef calloc
#undef strdup
#undef realpath
#undef cellar_pipeline_write

/* ---- allocations ---- */

static void test_create(void **state)
{
    struct store_fixture *f = *state;
    struct cellar_config config = store_config(32, 5000);
    struct cellar_writer_options options = store_options(f);
    struct cellar_diagnostic diagnostic;
    struct cellar_writer *writer = NULL;
    int error = -1;
    long left;

    options.diagnostic = &diagnostic;
    for (left = 0; error != 0; left++) {
        allocations_left = left;
        error = cellar_writer_create(f->path, &config, &options, &writer);
        allocations_left = -1;
        if (error != 0) {
            assert_int_equal(error, -ENOMEM);
            assert_int_equal(diagnostic.error, -ENOMEM);
            assert_null(writer);
            /* Its name may already be there where only the folder was still to be synced. */
            assert_true(store_folder_entries(f) <= 1);
            (void)unlink(f->path);
        }
    }
    assert_true(left > 5);
    store_append(writer, 3);
    store_close(writer);
    assert_int_equal(store_folder_entries(f), 1);
}

static void test_create_on(void **state)
{
    struct store_fixture *f = *state;
    struct cellar_config config = store_config(32, 5000);
    struct cellar_writer_options options = store_options(f);
    struct cellar_writer *writer = NULL;
    int error = -1;

    assert_done(cellar_device_open_memory(NULL, 0, 1 << 20, &f->memory));
    for (long left = 0; error != 0; left++) {
        assert_done(cellar_device_trim(f->memory, 0));
        allocations_left = left;
        error = cellar_writer_create_on(f->memory, &config, &options, &writer);
        allocations_left = -1;
        if (error != 0)
            assert_int_equal(error, -ENOMEM);
    }
    store_close(writer);
    error = -1;
    for (long left = 0; error != 0; left++) {
        allocations_left = left;
        error = cellar_writer_open_on(f->memory, &options, &writer);
        allocations_left = -1;
        if (error != 0)
            assert_int_equal(error, -ENOMEM);
    }
    store_close(writer);
}

static void test_open(void **state)
{
    struct store_fixture *f = *state;
    struct cellar_writer_options options = store_options(f);
    struct cellar_diagnostic diagnostic;
    struct cellar_writer *writer = store_new(f, 32, 5000);
    struct cellar_snapshot snapshot;
    int error = -1;
    long left;

    store_append(writer, 30);
    store_close(writer);
    writer = NULL;
    options.diagnostic = &diagnostic;
    for (left = 0; error != 0; left++) {
        struct store_image image = store_image_take(f);

        allocations_left = left;
        error = cellar_writer_open(f->path, &options, &writer);
        allocations_left = -1;
        if (error != 0) {
            assert_int_equal(error, -ENOMEM);
            assert_int_equal(diagnostic.error, -ENOMEM);
            assert_null(writer);
            store_image_compare(f, image);
        } else {
            free(image.bytes);
        }
    }
    assert_true(left > 2);
    snapshot = cellar_writer_snapshot(writer);
    store_assert_cells(&snapshot);
    store_close(writer);
}

static void test_reader(void **state)
{
    struct store_fixture *f = *state;
    struct cellar_reader_options options = store_reader_options(f);
    struct cellar_diagnostic diagnostic;
    struct cellar_reader *reader = NULL;
    struct cellar_snapshot snapshot;
    struct cellar_writer *writer = store_new(f, 32, 5000);
    size_t size_bytes = 77;
    void *copy = NULL;
    uint32_t index;
    int error = -1;

    assert_done(cellar_writer_write_value(writer, "value", 5, &index));
    store_close(writer);
    options.diagnostic = &diagnostic;
    for (long left = 0; error != 0; left++) {
        allocations_left = left;
        error = store_read(f, &options, &reader);
        allocations_left = -1;
        if (error != 0) {
            assert_int_equal(error, -ENOMEM);
            assert_int_equal(diagnostic.error, -ENOMEM);
            assert_null(reader);
        }
    }
    snapshot = cellar_reader_snapshot(reader);
    allocations_left = 0;
    assert_result(cellar_snapshot_copy_value(&snapshot, index, &copy, &size_bytes), -ENOMEM);
    allocations_left = -1;
    assert_null(copy);
    assert_int_equal(size_bytes, 77);
    store_assert_value(&snapshot, index, "value", 5);
    cellar_reader_close(reader);
}

/* ---- the pages path ---- */

/* Every way to append meets a pipeline that takes no more. No memory: nothing has changed. Else: poison. */
static int append_somehow(struct cellar_writer *writer, unsigned way, uint32_t *ret_index)
{
    static const unsigned char bytes[70000];
    struct iovec parts[2] = {{(void *)(uintptr_t)bytes, 100}, {(void *)(uintptr_t)bytes, 69900}};

    switch (way) {
    case 0:
        return cellar_writer_append(writer, bytes, 3, ret_index);
    case 1:
        return cellar_writer_append_bytes(writer, bytes, 100, ret_index);
    case 2:
        return cellar_writer_write_value(writer, bytes, 70000, ret_index);
    case 3:
        return cellar_writer_write_value_parts(writer, parts, 2, ret_index);
    default:
        *ret_index = 77;
        return cellar_writer_rewrite(writer, cellar_writer_next(writer) - 1, bytes, 32);
    }
}

static void test_refused_writes(void **state)
{
    static const int errors[] = {-ENOMEM, -EIO};
    struct store_fixture *f = *state;
    unsigned refused = 0;

    for (size_t i = 0; i < SUPPORT_COUNT(errors); i++) {
        for (unsigned way = 0; way < 5; way++) {
            int error = -1;

            for (long left = 0; error != 0; left++) {
                struct cellar_writer *writer = store_new(f, 32, 5000);
                uint32_t index = 77, next;

                store_append(writer, 20);
                next = cellar_writer_next(writer);
                write_error = errors[i];
                writes_left = left;
                error = append_somehow(writer, way, &index);
                writes_left = -1;
                if (error != 0) {
                    refused++;
                    assert_int_equal(error, errors[i]);
                    assert_int_equal(index, 77);
                    assert_int_equal(cellar_writer_next(writer), next);
                    assert_result(cellar_writer_commit(writer), error == -ENOMEM ? 0 : error);
                }
                assert_result(cellar_writer_close(writer), error == -ENOMEM ? 0 : error);
                store_remove(f);
            }
        }
    }
    assert_true(refused >= 20);
}

/* Cells that were filled in place go into the pipeline at the commit, or when the writer looks at them. */
static void test_refused_reservations(void **state)
{
    struct store_fixture *f = *state;

    for (int by_snapshot = 0; by_snapshot < 2; by_snapshot++) {
        struct cellar_writer *writer = store_new(f, 32, 5000);
        void *cells = NULL;
        uint32_t index = 77;

        allocations_left = 0;
        assert_result(cellar_writer_reserve(writer, 4, &index, &cells), -ENOMEM);
        allocations_left = -1;
        assert_int_equal(index, 77);
        assert_null(cells);
        assert_int_equal(cellar_writer_next(writer), 8);
        assert_done(cellar_writer_reserve(writer, 4, &index, &cells));
        write_error = -EIO;
        writes_left = 0;
        if (by_snapshot)
            (void)cellar_writer_snapshot(writer);
        assert_result(cellar_writer_commit(writer), -EIO);
        writes_left = -1;
        assert_result(cellar_writer_commit(writer), -EIO);
        assert_result(cellar_writer_close(writer), -EIO);
        store_remove(f);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        STORE_ON_FILES(test_create),
        STORE_ON(test_create_on, STORE_MEMORY_MAPPED),
        STORE_ON(test_create_on, STORE_MEMORY_PAGES),
        STORE_ON_FILES(test_open),
        STORE_ON_FILES(test_reader),
        STORE_ON(test_refused_writes, STORE_PAGES),
        STORE_ON(test_refused_reservations, STORE_PAGES),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
