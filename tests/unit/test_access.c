/* Readers that read at random: what the system is told of their mappings, and of what they are about to copy. */
#include "store_fixture.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum {
    CELL = 64,
    CELLS_MAX = 100000,
    PAGE = 4096,
    CHUNK = CELLAR_CHUNK_BYTES_MAX,
    MANY = 16,
    VALUE_MAX = 10 * CHUNK,
};

/* ---- the advice ---- */

struct advice {
    uintptr_t begin, end;
};

static struct advice expected[MANY]; /* what was asked for, the last MANY of them */
static int expected_count;
static bool is_refused;

int __real_madvise(void *address, size_t length_bytes, int advice);
int __wrap_madvise(void *address, size_t length_bytes, int advice);

int __wrap_madvise(void *address, size_t length_bytes, int advice)
{
    if (advice == MADV_WILLNEED)
        expected[expected_count++ % MANY] =
            (struct advice){.begin = (uintptr_t)address, .end = (uintptr_t)address + length_bytes};
    if (is_refused && (advice == MADV_WILLNEED || advice == MADV_RANDOM)) {
        errno = EINVAL;
        return -1;
    }
    return __real_madvise(address, length_bytes, advice);
}

static int setup(void **state)
{
    expected_count = 0;
    is_refused = false;
    return store_setup(state);
}

#define ACCESS_ON(test, way)                                                                                           \
    {                                                                                                                  \
#test "[" #way "]", store_run, setup, store_teardown, &(struct store_case)                                     \
        {                                                                                                              \
            test, &store_ways[way]                                                                                     \
        }                                                                                                              \
    }

/* The nth piece of advice from the beginning (0) covers these bytes, and little more. */
static void assert_told(int nth, const void *bytes, size_t length_bytes)
{
    assert_true(nth < expected_count);
    assert_true(expected[nth].begin % PAGE == 0);
    assert_true(expected[nth].begin <= (uintptr_t)bytes && expected[nth].begin + PAGE > (uintptr_t)bytes);
    assert_true(expected[nth].end == (uintptr_t)bytes + length_bytes);
}

static struct cellar_reader *reader_at_random(struct store_fixture *f)
{
    struct cellar_reader_options options = store_reader_options(f);
    struct cellar_reader *reader;

    options.access = CELLAR_ACCESS_RANDOM;
    assert_done(store_read(f, &options, &reader));
    return reader;
}

/* ---- devices ---- */

static bool window_is_random(const char *path, int flags)
{
    struct cellar_device *device;
    uint64_t capacity_bytes;
    const void *lent;
    void *base;
    bool result;

    assert_done(cellar_device_open_file(path, flags, 0, &device));
    assert_done(cellar_device_load(device, 0, 1, &lent)); /* before there is a window: a mapping of its own */
    assert_done(cellar_device_window(device, 1 << 20, (flags & CELLAR_OPEN_WRITE) != 0, &base, &capacity_bytes));
    assert_ptr_not_equal(lent, base);
    result = support_is_mapped_with(base, "rr");
    assert_int_equal(support_is_mapped_with((unsigned char *)base + capacity_bytes - 1, "rr"), result);
    assert_int_equal(support_is_mapped_with(lent, "rr"), result);
    assert_true(support_is_mapped_with(base, "dd")); /* left out of core dumps, whatever else was said */
    cellar_device_release(device, lent, 1);
    assert_done(cellar_device_close(device));
    return result;
}

static void test_mapped_file(void **state)
{
    struct store_fixture *f = *state;

    support_file_write(f->path, "x", 1);
    assert_true(window_is_random(f->path, CELLAR_OPEN_READ | CELLAR_OPEN_RANDOM));
    assert_true(window_is_random(f->path, CELLAR_OPEN_WRITE | CELLAR_OPEN_RANDOM));
    assert_false(window_is_random(f->path, CELLAR_OPEN_READ));
}

/* The other devices take the flag, and have no use for it. */
static void test_other_devices(void **state)
{
    struct store_fixture *f = *state;
    struct cellar_device *device;
    char byte;

    support_file_write(f->path, "x", 1);
    assert_done(cellar_device_open_pread(f->path, CELLAR_OPEN_READ | CELLAR_OPEN_RANDOM, 0, &device));
    assert_done(cellar_device_read(device, &byte, 1, 0));
    assert_int_equal(byte, 'x');
    assert_done(cellar_device_close(device));
    assert_result(cellar_device_open_block(f->path, CELLAR_OPEN_READ | CELLAR_OPEN_RANDOM, &device), -ENOTBLK);
    assert_result(cellar_device_open_file(f->path, CELLAR_OPEN_READ | CELLAR_OPEN_RANDOM << 1, 0, &device), -EINVAL);
}

/* ---- readers ---- */

static void test_unknown(void **state)
{
    struct store_fixture *f = *state;
    struct cellar_reader_options options = store_reader_options(f);
    struct cellar_diagnostic diagnostic;
    struct cellar_reader *reader;

    store_close(store_new(f, CELL, CELLS_MAX));
    options.diagnostic = &diagnostic;
    options.access = (enum cellar_access)(CELLAR_ACCESS_RANDOM + 1);
    assert_result(store_read(f, &options, &reader), -EINVAL);
    assert_int_equal(diagnostic.error, -EINVAL);
    options.access = (enum cellar_access) - 1;
    assert_result(store_read(f, &options, &reader), -EINVAL);
}

/* The window is one mapping: what the store grows into later is read at random, too. */
static void test_cells(void **state)
{
    struct store_fixture *f = *state;
    struct cellar_writer *writer = store_new(f, CELL, CELLS_MAX);
    struct cellar_reader *reader, *other;
    struct cellar_snapshot snapshot;

    store_append(writer, 100);
    assert_done(cellar_writer_flush(writer));
    reader = reader_at_random(f);
    other = store_reader(f, NULL);
    store_append(writer, 10000); /* several steps */
    assert_done(cellar_writer_flush(writer));
    assert_done(cellar_reader_refresh(reader));
    snapshot = cellar_reader_snapshot(reader);
    assert_int_equal(snapshot.next_index, cellar_writer_next(writer));
    store_assert_cells(&snapshot);
    if (f->way->window && !f->way->memory) { /* what the writer is told of its own window: test_writer_access.c */
        assert_true(support_is_mapped_with(snapshot.window, "rr"));
        assert_true(support_is_mapped_with(cellar_snapshot_cell(snapshot, snapshot.next_index - 1), "rr"));
        assert_false(support_is_mapped_with(cellar_reader_snapshot(other).window, "rr"));
    }
    cellar_reader_close(other);
    cellar_reader_close(reader);
    store_close(writer);
}

/* What one call copies, and is more than a page, is asked for before. */
static void test_copies(void **state)
{
    struct store_fixture *f = *state;
    struct cellar_writer *writer = store_new(f, CELL, CELLS_MAX);
    unsigned char buffer[3 * PAGE], wanted[CELL];
    struct cellar_snapshot snapshot;
    struct cellar_reader *reader;
    bool is_told = f->way->window && !f->way->memory;

    store_append(writer, 1000);
    store_close(writer);
    reader = store_reader(f, NULL);
    snapshot = cellar_reader_snapshot(reader);
    assert_done(cellar_snapshot_read(&snapshot, 100, 0, buffer, sizeof buffer));
    cellar_reader_close(reader);
    assert_int_equal(expected_count, 0); /* the system reads ahead by itself */

    reader = reader_at_random(f);
    snapshot = cellar_reader_snapshot(reader);
    assert_done(cellar_snapshot_read(&snapshot, 101, 5, buffer, PAGE));
    assert_int_equal(expected_count, 0);
    assert_done(cellar_snapshot_read(&snapshot, 101, 5, buffer, PAGE + 1));
    assert_done(cellar_snapshot_read(&snapshot, 200, 0, buffer, sizeof buffer));
    assert_int_equal(expected_count, is_told ? 2 : 0);
    if (is_told) {
        assert_told(0, snapshot.window + 101 * CELL + 5, PAGE + 1);
        assert_told(1, snapshot.window + 200 * CELL, sizeof buffer);
    }
    store_cell_bytes(200, wanted, CELL);
    assert_memory_equal(buffer, wanted, CELL);
    store_assert_cells(&snapshot);
    cellar_reader_close(reader);
}

/* How many pieces of a value are more than a page; they were asked for as the chain goes, from the last one on. */
static int assert_pieces_told(const struct cellar_piece *pieces, size_t count)
{
    int told = 0;

    while (count-- > 0) {
        if (pieces[count].length_bytes > PAGE)
            assert_told(told++, pieces[count].bytes, pieces[count].length_bytes);
    }
    return told;
}

static void assert_value_told(const struct cellar_snapshot *snapshot, uint32_t index, const void *bytes,
                              size_t length_bytes)
{
    static unsigned char copy[VALUE_MAX];
    static struct cellar_piece pieces[MANY];
    size_t size_bytes, count;
    void *fresh;

    expected_count = 0;
    assert_done(cellar_snapshot_value_pieces(snapshot, index, pieces, MANY, &count));
    assert_int_equal(expected_count, 0); /* no byte of it is touched */
    assert_done(cellar_snapshot_read_value(snapshot, index, copy, sizeof copy, &size_bytes));
    assert_int_equal(size_bytes, length_bytes);
    assert_memory_equal(copy, bytes, length_bytes);
    assert_int_equal(expected_count, assert_pieces_told(pieces, count));
    expected_count = 0;
    assert_done(cellar_snapshot_copy_value(snapshot, index, &fresh, &size_bytes));
    assert_int_equal(size_bytes, length_bytes);
    assert_memory_equal(fresh, bytes, length_bytes);
    assert_int_equal(expected_count, assert_pieces_told(pieces, count));
    free(fresh);
}

/* The chunks of a value are asked for before the first of them is copied. */
static void test_values(void **state)
{
    static const size_t sizes[] = {1, PAGE, PAGE + 1, CHUNK, CHUNK + 1, 2 * CHUNK, 3 * CHUNK + 5000, VALUE_MAX};
    static unsigned char bytes[VALUE_MAX];
    struct store_fixture *f = *state;
    struct cellar_writer *writer = store_new(f, CELL, CELLS_MAX);
    uint32_t indices[SUPPORT_COUNT(sizes)];
    struct cellar_snapshot snapshot;
    struct cellar_reader *reader;

    support_bytes(7, bytes, sizeof bytes);
    for (size_t i = 0; i < SUPPORT_COUNT(sizes); i++)
        assert_done(cellar_writer_write_value(writer, bytes, sizes[i], &indices[i]));
    store_close(writer);
    reader = reader_at_random(f);
    snapshot = cellar_reader_snapshot(reader);
    for (size_t i = 0; i < SUPPORT_COUNT(sizes); i++)
        assert_value_told(&snapshot, indices[i], bytes, sizes[i]);
    cellar_reader_close(reader);
}

/* A chain that is longer than what is kept of it: each chunk before it is copied. */
static void test_long_value(void **state)
{
    struct store_fixture *f = *state;
    struct cellar_writer *writer = store_new(f, CELL, CELLS_MAX);
    size_t length_bytes = (size_t)70 * CHUNK, size_bytes;
    unsigned char *bytes = malloc(length_bytes);
    struct cellar_snapshot snapshot;
    struct cellar_reader *reader;
    uint32_t index;
    void *fresh;

    assert_non_null(bytes);
    support_bytes(8, bytes, length_bytes);
    assert_done(cellar_writer_write_value(writer, bytes, length_bytes, &index));
    store_close(writer);
    reader = reader_at_random(f);
    snapshot = cellar_reader_snapshot(reader);
    assert_done(cellar_snapshot_copy_value(&snapshot, index, &fresh, &size_bytes));
    assert_int_equal(size_bytes, length_bytes);
    assert_memory_equal(fresh, bytes, length_bytes);
    assert_int_equal(expected_count, 70);
    free(fresh);
    free(bytes);
    cellar_reader_close(reader);
}

/* On a device of the caller's the device says how it is read. */
static void test_device_of_the_callers(void **state)
{
    struct store_fixture *f = *state;
    struct cellar_reader_options options = {.access = CELLAR_ACCESS_RANDOM};
    unsigned char buffer[PAGE + 1];

    store_close(store_new(f, CELL, CELLS_MAX));
    for (int flags = CELLAR_OPEN_READ; flags <= CELLAR_OPEN_RANDOM; flags += CELLAR_OPEN_RANDOM) {
        struct cellar_writer *writer = store_again(f);
        struct cellar_device *device;
        struct cellar_reader *reader;
        struct cellar_snapshot snapshot;

        store_append(writer, 200);
        store_close(writer);
        expected_count = 0;
        assert_done(cellar_device_open_file(f->path, flags, 0, &device));
        assert_done(cellar_reader_open_on(device, &options, &reader));
        snapshot = cellar_reader_snapshot(reader);
        assert_done(cellar_snapshot_read(&snapshot, 50, 0, buffer, sizeof buffer));
        assert_int_equal(support_is_mapped_with(snapshot.window, "rr"), flags == CELLAR_OPEN_RANDOM);
        assert_int_equal(expected_count, flags == CELLAR_OPEN_RANDOM ? 1 : 0);
        cellar_reader_close(reader);
        assert_done(cellar_device_close(device));
    }
}

/* A system that takes no advice reads as it likes. */
static void test_refused(void **state)
{
    struct store_fixture *f = *state;
    struct cellar_writer *writer = store_new(f, CELL, CELLS_MAX);
    unsigned char buffer[3 * PAGE], wanted[CELL];
    struct cellar_reader *reader;
    struct cellar_snapshot snapshot;

    store_append(writer, 1000);
    store_close(writer);
    is_refused = true;
    reader = reader_at_random(f);
    snapshot = cellar_reader_snapshot(reader);
    assert_false(support_is_mapped_with(snapshot.window, "rr"));
    assert_done(cellar_snapshot_read(&snapshot, 300, 0, buffer, sizeof buffer));
    assert_int_equal(expected_count, 1);
    store_cell_bytes(300, wanted, CELL);
    assert_memory_equal(buffer, wanted, CELL);
    store_assert_cells(&snapshot);
    cellar_reader_close(reader);
}

#define ON_ALL(test)                                                                                                   \
    ACCESS_ON(test, STORE_MAPPED), ACCESS_ON(test, STORE_PAGES), ACCESS_ON(test, STORE_DIRECT),                        \
        ACCESS_ON(test, STORE_MEMORY_MAPPED), ACCESS_ON(test, STORE_MEMORY_PAGES), ACCESS_ON(test, STORE_BLOCK)

int main(void)
{
    const struct CMUnitTest tests[] = {
        ACCESS_ON(test_mapped_file, STORE_MAPPED),
        ACCESS_ON(test_other_devices, STORE_MAPPED),
        ON_ALL(test_unknown),
        ON_ALL(test_cells),
        ON_ALL(test_copies),
        ACCESS_ON(test_values, STORE_MAPPED),
        ACCESS_ON(test_long_value, STORE_MAPPED),
        ACCESS_ON(test_device_of_the_callers, STORE_MAPPED),
        ACCESS_ON(test_refused, STORE_MAPPED),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
