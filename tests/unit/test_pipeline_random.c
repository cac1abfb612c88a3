/*
 * The pipeline against two plain arrays (what the device holds, what is seen) and a set of pending bytes: random sets
 * and gets of every type, writes, reads, persists, commits, discards, failures; on every device.
 */
#include "page_test.h"

#include <cellar/pipeline.h>

enum { CAPACITY = 3000, ROUNDS = 4000 };

struct world {
    struct cellar_device *device;
    struct trial *trial; /* where the device is one */
    struct cellar_pipeline *pipeline;
    unsigned char held[CAPACITY], seen[CAPACITY];
    bool pending[CAPACITY + 2];
    uint64_t size_bytes, random, hot;
};

static uint64_t below(struct world *world, uint64_t limit)
{
    return next_random(&world->random) % limit;
}

/* Addresses keep near each other for a while, so that writes overlap and touch. */
static uint64_t choose_address(struct world *world)
{
    if (below(world, 40) == 0)
        world->hot = below(world, world->size_bytes + 1);
    if (below(world, 4) == 0)
        return below(world, world->size_bytes + 20);
    return world->hot + below(world, 60);
}

static void remember(struct world *world, uint64_t address, const void *bytes, size_t length)
{
    memcpy(world->seen + address, bytes, length);
    memset(world->pending + address, true, length);
}

static bool inside(const struct world *world, uint64_t address, size_t length)
{
    return address <= world->size_bytes && length <= world->size_bytes - address;
}

/* Sets a random value and gets one, and compares: for one type. swap: the bytes stand the other way round in memory. */
#define TYPE(name, type, swap)                                                                                         \
    static void set_##name(struct world *world, uint64_t address)                                                      \
    {                                                                                                                  \
        uint64_t random = next_random(&world->random);                                                                 \
        unsigned char bytes[sizeof(type)], in_memory[sizeof(type)];                                                    \
        type value;                                                                                                    \
        memcpy(bytes, &random, sizeof bytes);                                                                          \
        for (size_t i = 0; i < sizeof bytes; i++)                                                                      \
            in_memory[i] = bytes[(swap) ? sizeof bytes - 1 - i : i];                                                   \
        memcpy(&value, in_memory, sizeof value);                                                                       \
        if (!inside(world, address, sizeof value)) {                                                                   \
            assert_int_equal(cellar_pipeline_set_##name(world->pipeline, address, value), CELLAR_EBOUNDS);             \
            return;                                                                                                    \
        }                                                                                                              \
        assert_int_equal(cellar_pipeline_set_##name(world->pipeline, address, value), 0);                              \
        remember(world, address, bytes, sizeof bytes);                                                                 \
    }                                                                                                                  \
    static void get_##name(struct world *world, uint64_t address)                                                      \
    {                                                                                                                  \
        unsigned char in_memory[sizeof(type)];                                                                         \
        type value, expected;                                                                                          \
        int error = cellar_pipeline_get_##name(world->pipeline, address, &value);                                      \
        assert_int_equal(error, inside(world, address, sizeof value) ? 0 : CELLAR_EBOUNDS);                            \
        if (error != 0)                                                                                                \
            return;                                                                                                    \
        for (size_t i = 0; i < sizeof value; i++)                                                                      \
            in_memory[i] = world->seen[address + ((swap) ? sizeof value - 1 - i : i)];                                 \
        memcpy(&expected, in_memory, sizeof expected);                                                                 \
        assert_true(value == expected);                                                                                \
    }

#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
enum { SWAP_LE = 0, SWAP_BE = 1, SWAP_NE = 0 };
#else
enum { SWAP_LE = 1, SWAP_BE = 0, SWAP_NE = 0 };
#endif

#define TYPES(X)                                                                                                       \
    X(i8, int8_t, SWAP_NE)                                                                                             \
    X(u8, uint8_t, SWAP_NE)                                                                                            \
    X(i16_le, int16_t, SWAP_LE)                                                                                        \
    X(i16_be, int16_t, SWAP_BE)                                                                                        \
    X(i16_ne, int16_t, SWAP_NE)                                                                                        \
    X(u16_le, uint16_t, SWAP_LE)                                                                                       \
    X(u16_be, uint16_t, SWAP_BE)                                                                                       \
    X(u16_ne, uint16_t, SWAP_NE)                                                                                       \
    X(i32_le, int32_t, SWAP_LE)                                                                                        \
    X(i32_be, int32_t, SWAP_BE)                                                                                        \
    X(i32_ne, int32_t, SWAP_NE)                                                                                        \
    X(u32_le, uint32_t, SWAP_LE)                                                                                       \
    X(u32_be, uint32_t, SWAP_BE)                                                                                       \
    X(u32_ne, uint32_t, SWAP_NE)                                                                                       \
    X(i64_le, int64_t, SWAP_LE)                                                                                        \
    X(i64_be, int64_t, SWAP_BE)                                                                                        \
    X(i64_ne, int64_t, SWAP_NE)                                                                                        \
    X(u64_le, uint64_t, SWAP_LE)                                                                                       \
    X(u64_be, uint64_t, SWAP_BE)                                                                                       \
    X(u64_ne, uint64_t, SWAP_NE)

TYPES(TYPE)

static void set_128(struct world *world, uint64_t address)
{
    uint8_t bytes[16];

    fill_random(bytes, sizeof bytes, next_random(&world->random));
    if (!inside(world, address, 16)) {
        assert_int_equal(cellar_pipeline_set_128(world->pipeline, address, bytes), CELLAR_EBOUNDS);
        return;
    }
    assert_int_equal(cellar_pipeline_set_128(world->pipeline, address, bytes), 0);
    remember(world, address, bytes, sizeof bytes);
}

static void get_128(struct world *world, uint64_t address)
{
    uint8_t bytes[16];
    int error = cellar_pipeline_get_128(world->pipeline, address, bytes);

    assert_int_equal(error, inside(world, address, 16) ? 0 : CELLAR_EBOUNDS);
    if (error == 0)
        assert_memory_equal(bytes, world->seen + address, 16);
}

static const struct {
    void (*set)(struct world *world, uint64_t address);
    void (*get)(struct world *world, uint64_t address);
} types[] = {
#define ENTRY(name, type, swap) {set_##name, get_##name},
    TYPES(ENTRY){set_128, get_128},
};

enum { TYPE_COUNT = sizeof types / sizeof types[0] };

static void do_write(struct world *world)
{
    unsigned char bytes[700] = {0};
    uint64_t address = choose_address(world);
    size_t length = (size_t)below(world, sizeof bytes);

    fill_random(bytes, length, next_random(&world->random));
    if (length > 0 && !inside(world, address, length)) {
        assert_int_equal(cellar_pipeline_write(world->pipeline, address, bytes, length), CELLAR_EBOUNDS);
        assert_int_equal(cellar_pipeline_fault_address(world->pipeline),
                         address > world->size_bytes ? address : world->size_bytes);
        return;
    }
    assert_int_equal(cellar_pipeline_write(world->pipeline, address, bytes, length), 0);
    if (length > 0)
        remember(world, address, bytes, length);
}

static void do_read(struct world *world)
{
    unsigned char bytes[700];
    uint64_t address = choose_address(world);
    size_t length = (size_t)below(world, sizeof bytes);
    int error = cellar_pipeline_read(world->pipeline, address, bytes, length);

    assert_int_equal(error, length == 0 || inside(world, address, length) ? 0 : CELLAR_EBOUNDS);
    assert_true(error != 0 || length == 0 || memcmp(bytes, world->seen + address, length) == 0);
}

/* What the device should hold after [from, to) went out. */
static void send(struct world *world, uint64_t from, uint64_t to)
{
    for (uint64_t at = from; at < to && at < world->size_bytes; at++) {
        if (world->pending[at])
            world->held[at] = world->seen[at];
        world->pending[at] = false;
    }
}

static void compare(struct world *world)
{
    unsigned char bytes[CAPACITY];
    uint64_t count = 0;

    assert_int_equal(cellar_device_read(world->device, bytes, (size_t)world->size_bytes, 0), 0);
    assert_memory_equal(bytes, world->held, (size_t)world->size_bytes);
    for (uint64_t at = 0; at < world->size_bytes; at++)
        count += world->pending[at];
    assert_int_equal(cellar_pipeline_pending_bytes(world->pipeline), count);
}

static bool in_stretch(const struct world *world, uint64_t at)
{
    return at < world->size_bytes + 1 && (world->pending[at] || (at > 0 && world->pending[at - 1]));
}

static void do_persist(struct world *world)
{
    uint64_t from = choose_address(world), length = below(world, 4) == 0 ? 0 : below(world, 100), to = from + length;

    assert_int_equal(cellar_pipeline_persist(world->pipeline, from, length), 0);
    while (from > 0 && in_stretch(world, from) && in_stretch(world, from - 1))
        from--;
    while (in_stretch(world, to) && in_stretch(world, to + 1))
        to++;
    send(world, from, to);
    compare(world);
}

static void do_commit(struct world *world)
{
    assert_int_equal(cellar_pipeline_commit(world->pipeline), 0);
    send(world, 0, world->size_bytes);
    compare(world);
}

static void do_discard(struct world *world)
{
    cellar_pipeline_discard(world->pipeline);
    memcpy(world->seen, world->held, sizeof world->seen);
    memset(world->pending, 0, sizeof world->pending);
    compare(world);
}

/* A commit that fails at the first, second, ... write: nothing is lost to those who read, and the next one heals it. */
static void do_failing_commit(struct world *world)
{
    uint64_t before = cellar_pipeline_pending_bytes(world->pipeline);

    if (world->trial == NULL)
        return;
    world->trial->writes = 0;
    world->trial->writes_before_error = (unsigned)below(world, 3);
    world->trial->write_error = -EIO;
    if (cellar_pipeline_commit(world->pipeline) != 0)
        assert_true(cellar_pipeline_pending_bytes(world->pipeline) > 0 || before == 0);
    world->trial->write_error = 0;
    for (int i = 0; i < 10; i++)
        do_read(world);
    do_commit(world);
}

static void run(struct world *world, size_t page_bytes, size_t page_count)
{
    static void (*const calls[])(struct world * world) = {do_write, do_read, do_persist, do_persist, do_persist};

    memcpy(world->seen, world->held, sizeof world->seen);
    assert_int_equal(cellar_pipeline_open(world->device, page_bytes, page_count, &world->pipeline), 0);
    for (int round = 0; round < ROUNDS; round++) {
        uint64_t which = below(world, 100);

        if (world->trial != NULL)
            world->trial->writes = 0;
        if (which < 45)
            types[below(world, TYPE_COUNT)].set(world, choose_address(world));
        else if (which < 85)
            types[below(world, TYPE_COUNT)].get(world, choose_address(world));
        else if (which == 85)
            do_commit(world);
        else if (which == 86)
            do_discard(world);
        else if (which == 87)
            do_failing_commit(world);
        else
            calls[which % (sizeof calls / sizeof calls[0])](world);
    }
    do_commit(world);
    cellar_pipeline_close(world->pipeline);
    cellar_device_close(world->device);
}

static const struct {
    size_t page_bytes, page_count;
} shapes[] = {{1, 1}, {1, 64}, {4, 4}, {8, 1}, {64, 4}, {128, 256}, {1024, 2}, {4096, 8}};

enum { SHAPES = sizeof shapes / sizeof shapes[0] };

static void test_random_on_devices(void **state)
{
    (void)state;
    for (enum ground ground = 0; ground < GROUND_COUNT; ground++) {
        for (size_t i = 0; i < SHAPES; i++) {
            struct world *world = calloc(1, sizeof *world);

            assert_non_null(world);
            world->random = 100 * ground + i;
            world->size_bytes = 1 + below(world, CAPACITY);
            fill_random(world->held, (size_t)world->size_bytes, i);
            world->device = open_ground(ground, world->held, (size_t)world->size_bytes);
            run(world, shapes[i].page_bytes, shapes[i].page_count);
            free(world);
        }
    }
}

static void test_random_in_blocks(void **state)
{
    (void)state;
    for (uint32_t block_bytes = 1; block_bytes <= 64; block_bytes *= 4) {
        for (size_t i = 0; i < SHAPES; i++) {
            struct world *world = calloc(1, sizeof *world);

            assert_non_null(world);
            if (shapes[i].page_bytes >= block_bytes) {
                world->random = 1000 * block_bytes + i;
                world->size_bytes = (1 + below(world, 40)) * 64;
                world->trial = new_trial(world->size_bytes, i);
                world->trial->block_bytes = block_bytes;
                memcpy(world->held, world->trial->bytes, (size_t)world->size_bytes);
                world->device = open_trial(world->trial, i % 2 ? TRIAL_LENDS : TRIAL_COPIES);
                run(world, shapes[i].page_bytes, shapes[i].page_count);
                assert_int_equal(world->trial->lent, 0);
                free(world->trial);
            }
            free(world);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_random_on_devices),
        cmocka_unit_test(test_random_in_blocks),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
