/* What opening costs is the same for a small store and a large one: so many calls of the device, so many bytes. */
#include "device_fault.h"
#include "store_fixture.h"

#include <stdlib.h>

enum { BYTES_PER_CELL = 64, MAX_INDEX = 400000, SMALL = 10, LARGE = 300000 };

struct cost {
    uint64_t calls, bytes_read;
};

/* A device in front of the fixture's, which counts from now on. */
static struct cellar_device *watch(struct store_fixture *f, struct fault_device *fault)
{
    struct cellar_device *device;

    *fault = (struct fault_device){.inner = f->memory, .keep_inner = true};
    assert_done(fault_device_open(fault, &device));
    return device;
}

static struct cost cost_of(struct fault_device *fault, const struct cellar_device *device)
{
    return (struct cost){.calls = fault_calls(fault, FAULT_ALL_BITS),
                         .bytes_read = cellar_device_counters(device).bytes_read};
}

static struct cost open_for_read(struct store_fixture *f)
{
    struct cellar_reader_options options = store_reader_options(f);
    struct cellar_reader *reader = NULL;
    struct fault_device fault;
    struct cellar_device *device = watch(f, &fault);
    struct cost cost;

    assert_done(cellar_reader_open_on(device, &options, &reader));
    cost = cost_of(&fault, device);
    cellar_reader_close(reader);
    cellar_device_close(device);
    return cost;
}

static struct cost open_for_write(struct store_fixture *f)
{
    struct cellar_writer_options options = store_options(f);
    struct cellar_writer *writer = NULL;
    struct fault_device fault;
    struct cellar_device *device = watch(f, &fault);
    struct cost cost;

    assert_done(cellar_writer_open_on(device, &options, &writer));
    cost = cost_of(&fault, device);
    cellar_writer_abandon(writer);
    cellar_device_close(device);
    return cost;
}

static void append_many(struct cellar_writer *writer, uint32_t cells)
{
    static const unsigned char zeros[1000 * BYTES_PER_CELL];
    uint32_t index;

    for (uint32_t done = 0, step; done < cells; done += step) {
        step = cells - done < 1000 ? cells - done : 1000;
        assert_done(cellar_writer_append(writer, zeros, step, &index));
    }
}

/* A store of so many cells, the last of them committed and not flushed; its writer is gone, the machine perhaps too. */
static void leave_store(struct store_fixture *f, uint32_t cells, bool lose_power)
{
    struct cellar_writer_options options = store_options(f);
    struct cellar_config config = store_config(BYTES_PER_CELL, MAX_INDEX);
    struct cellar_writer *writer = NULL;

    options.two_barriers = true; /* else a record's cells are read, of a small store all; test_writer_checked.c */
    assert_done(store_create(f, &config, &options, &writer));
    append_many(writer, cells);
    assert_done(cellar_writer_flush(writer));
    append_many(writer, cells / 10);
    assert_done(cellar_writer_set_root(writer, cellar_writer_next(writer) - 1));
    assert_done(cellar_writer_commit(writer));
    cellar_writer_abandon(writer);
    if (lose_power)
        store_lose_power(f);
}

static void assert_same(struct cost small, struct cost large)
{
    assert_int_equal(small.calls, large.calls);
    assert_int_equal(small.bytes_read, large.bytes_read);
    assert_true(large.calls < 40);
    assert_true(large.bytes_read <= 8192);
}

static void test_cost_is_the_same_for_every_size(void **state)
{
    struct store_fixture *f = *state;

    for (int lose_power = 0; lose_power < 2; lose_power++) {
        struct cost read[2], write[2];

        for (int large = 0; large < 2; large++) {
            leave_store(f, large ? LARGE : SMALL, lose_power);
            read[large] = open_for_read(f);
            write[large] = open_for_write(f);
            store_remove(f);
        }
        assert_same(read[0], read[1]);
        assert_same(write[0], write[1]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        STORE_ON(test_cost_is_the_same_for_every_size, STORE_MEMORY_MAPPED),
        STORE_ON(test_cost_is_the_same_for_every_size, STORE_MEMORY_PAGES),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
