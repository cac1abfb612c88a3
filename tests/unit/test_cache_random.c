/* The cache against a plain array: random calls, writes past it, pins and growth, on every device. */
#include "page_test.h"

#include <cellar/cache.h>

enum { CAPACITY = 8192, PINS = 3, ROUNDS = 6000 };

struct world {
    struct cellar_device *device;
    struct cellar_cache *cache;
    unsigned char bytes[CAPACITY];
    uint64_t size_bytes, random;
    size_t page_bytes, page_count;
    struct cellar_fixed pins[PINS];
    unsigned char pinned[PINS][CAPACITY]; /* what they showed */
};

static uint64_t below(struct world *world, uint64_t limit)
{
    return next_random(&world->random) % limit;
}

static void do_read(struct world *world)
{
    unsigned char got[CAPACITY];
    uint64_t address = below(world, world->size_bytes + 50);
    size_t length = (size_t)below(world, below(world, 8) == 0 ? CAPACITY : 40);
    int error = cellar_cache_read(world->cache, address, got, length);

    if (length == 0 || address + length <= world->size_bytes) {
        assert_int_equal(error, 0);
        assert_true(length == 0 || memcmp(got, world->bytes + address, length) == 0);
    } else {
        assert_int_equal(error, CELLAR_EBOUNDS);
        assert_int_equal(cellar_cache_fault_address(world->cache),
                         address > world->size_bytes ? address : world->size_bytes);
    }
}

static void do_get(struct world *world)
{
    uint64_t address = below(world, world->size_bytes + 5);
    uint32_t value, expected;
    int error = cellar_cache_get_u32_ne(world->cache, address, &value);

    assert_int_equal(error, address + 4 <= world->size_bytes ? 0 : CELLAR_EBOUNDS);
    if (error != 0)
        return;
    memcpy(&expected, world->bytes + address, 4);
    assert_true(value == expected);
}

static void do_load(struct world *world)
{
    uint64_t address = below(world, world->size_bytes + world->page_bytes);
    size_t length = 1 + (size_t)below(world, world->page_bytes);
    uint64_t page = address / world->page_bytes * world->page_bytes;
    struct cellar_slice slice;
    int error = cellar_cache_load(world->cache, address, length, &slice);

    if (address + length > world->size_bytes || address + length > page + world->page_bytes) {
        assert_int_equal(error, CELLAR_NONE);
        return;
    }
    assert_int_equal(error, 0);
    assert_true(slice.address == page && page + slice.length >= address + length && slice.length <= world->page_bytes);
    assert_memory_equal(slice.bytes, world->bytes + page, slice.length);
}

static void do_map(struct world *world)
{
    uint64_t address = below(world, world->size_bytes + 50);
    size_t length = (size_t)below(world, 3 * world->page_bytes + 3);
    size_t there = address < world->size_bytes ? (size_t)(world->size_bytes - address) : 0;
    struct cellar_fixed run;

    assert_int_equal(cellar_cache_map(world->cache, address, length, &run), 0);
    assert_int_equal(run.slice.length, there < length ? there : length);
    assert_true(run.slice.length == 0 || memcmp(run.slice.bytes, world->bytes + address, run.slice.length) == 0);
    cellar_cache_unfix(world->cache, &run);
}

/* Fixes or unfixes. A page that is a copy must still show what it showed; it is left alone by writes otherwise. */
static void do_pin(struct world *world)
{
    size_t i = (size_t)below(world, PINS);
    struct cellar_fixed *pin = &world->pins[i];

    if (pin->frame != NULL) {
        if (!cellar_device_lends(world->device))
            assert_memory_equal(pin->slice.bytes, world->pinned[i], pin->slice.length);
        cellar_cache_unfix(world->cache, pin);
        return;
    }
    if (world->page_count <= PINS || world->size_bytes == 0)
        return;
    assert_int_equal(cellar_cache_fix(world->cache, below(world, world->size_bytes), 1, pin), 0);
    memcpy(world->pinned[i], pin->slice.bytes, pin->slice.length);
}

/* Writes past the cache, and tells it. */
static void do_write(struct world *world)
{
    uint64_t address = below(world, world->size_bytes + 1);
    size_t length = (size_t)below(world, world->size_bytes - address + 1);
    struct iovec part = {.iov_base = world->bytes + address, .iov_len = length};

    fill_random(world->bytes + address, length, next_random(&world->random));
    assert_int_equal(cellar_device_write(world->device, &part, 1, address), 0);
    cellar_cache_invalidate(world->cache, address, length);
}

static void do_grow(struct world *world)
{
    uint64_t size_bytes = world->size_bytes + below(world, 30);

    if (size_bytes > CAPACITY)
        return;
    assert_int_equal(cellar_device_grow(world->device, world->size_bytes, size_bytes), 0);
    world->size_bytes = size_bytes;
}

static void do_copy(struct world *world)
{
    struct cellar_cache *copy;

    for (size_t i = 0; i < PINS; i++)
        cellar_cache_unfix(world->cache, &world->pins[i]);
    assert_int_equal(cellar_cache_counters(world->cache).pinned, 0);
    assert_int_equal(cellar_cache_copy(world->cache, &copy), 0);
    cellar_cache_close(world->cache);
    world->cache = copy;
}

static void run(enum ground ground, size_t page_bytes, size_t page_count, uint64_t seed)
{
    static void (*const calls[])(struct world * world) = {do_read, do_read, do_get, do_get, do_get,
                                                          do_load, do_load, do_map, do_pin, do_write};
    struct world *world = calloc(1, sizeof *world);

    assert_non_null(world);
    world->random = seed;
    world->page_bytes = page_bytes;
    world->page_count = page_count;
    world->size_bytes = below(world, 500);
    fill_random(world->bytes, (size_t)world->size_bytes, seed);
    world->device = open_ground(ground, world->bytes, (size_t)world->size_bytes);
    assert_int_equal(cellar_cache_open(world->device, page_bytes, page_count, &world->cache), 0);
    for (int round = 0; round < ROUNDS; round++) {
        uint64_t which = below(world, 1000);

        if (which < 20)
            do_grow(world);
        else if (which < 22)
            do_copy(world);
        else
            calls[which % (sizeof calls / sizeof calls[0])](world);
    }
    assert_true(cellar_cache_counters(world->cache).pages <= page_count);
    cellar_cache_close(world->cache);
    cellar_device_close(world->device);
    free(world);
}

static void test_random_calls(void **state)
{
    static const struct {
        size_t page_bytes, page_count;
    } shapes[] = {{1, 1}, {1, 16}, {2, 4}, {8, 1}, {16, 256}, {64, 8}, {256, 4}, {4096, 1}, {16384, 4}};

    (void)state;
    for (enum ground ground = 0; ground < GROUND_COUNT; ground++) {
        for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++)
            run(ground, shapes[i].page_bytes, shapes[i].page_count, 1000 * ground + i);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_random_calls)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
