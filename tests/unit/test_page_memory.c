/*
 * Out of memory, in every place of the page room where that can be: its sources are compiled into this test with an
 * allocator that fails the nth call.
 */
#include "page_test.h"

#include <limits.h>

/* Allocations that still succeed; negative: all do. */
static long allocations_left = -1;

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

static void *try_realloc(void *old, size_t size)
{
    return may_allocate() ? realloc(old, size) : NULL;
}

static int try_memalign(void **ret_memory, size_t alignment, size_t size)
{
    return may_allocate() ? posix_memalign(ret_memory, alignment, size) : ENOMEM;
}

#define malloc try_malloc
#define calloc try_calloc
#define realloc try_realloc
#define posix_memalign try_memalign

#include "page/cache.c"
#include "page/cache_read.c"
#include "page/evict_sieve.c"
#include "page/load.c"
#include "page/pending.c"
#include "page/pipeline.c"
#include "page/pipeline_send.c"
#include "page/table.c"

#undef malloc
#undef calloc
#undef realloc
#undef posix_memalign

enum { LENGTH = 4096 };

/* Runs step with the first, the second, ... allocation failing until it succeeds; returns how often it failed. */
static long fail_each(int (*step)(void *user), void *user)
{
    long failures = 0;
    int error;

    for (;;) {
        allocations_left = failures;
        error = step(user);
        allocations_left = -1;
        if (error == 0)
            return failures;
        assert_int_equal(error, -ENOMEM);
        failures++;
    }
}

struct world {
    struct cellar_device *device;
    struct cellar_cache *cache, *copy;
    struct cellar_pipeline *pipeline;
    unsigned char bytes[LENGTH], got[LENGTH];
};

static int step_open_cache(void *user)
{
    struct world *world = user;

    return cellar_cache_open(world->device, 64, 16, &world->cache);
}

static int step_copy(void *user)
{
    struct world *world = user;

    return cellar_cache_copy(world->cache, &world->copy);
}

static int step_open_pipeline(void *user)
{
    struct world *world = user;

    return cellar_pipeline_open(world->device, 64, 16, &world->pipeline);
}

static int map_nothing(void *user, uint64_t position, size_t length, const void **ret_bytes, size_t *ret_length)
{
    (void)user, (void)position, (void)length;
    *ret_bytes = NULL;
    *ret_length = 0;
    return 0;
}

static int size_nothing(void *user, uint64_t *ret_size_bytes)
{
    (void)user;
    *ret_size_bytes = 0;
    return 0;
}

static int step_open_functions(void *user)
{
    static const struct cellar_pipeline_functions functions = {.map = map_nothing, .size = size_nothing};
    struct world *world = user;

    return cellar_pipeline_open_functions(&functions, NULL, 64, 16, &world->pipeline);
}

static int step_read(void *user)
{
    struct world *world = user;
    int error = cellar_cache_read(world->cache, 100, world->got, 10);

    assert_int_equal(cellar_cache_is_cached(world->cache, 100), error == 0);
    return error;
}

/* A write that fails has changed nothing, also where some of its pages had been there before. */
static int step_write(void *user)
{
    struct world *world = user;
    uint64_t before = cellar_pipeline_pending_bytes(world->pipeline);
    int error = cellar_pipeline_write(world->pipeline, 30, world->bytes, LENGTH - 30);

    if (error != 0) {
        assert_int_equal(cellar_pipeline_pending_bytes(world->pipeline), before);
        assert_int_equal(world->pipeline->front.pending_pages, before == 0 ? 0 : 1);
    }
    return error;
}

static int step_write_one(void *user)
{
    struct world *world = user;

    return cellar_pipeline_write(world->pipeline, 1000, "x", 1);
}

static void test_memory_cache(void **state)
{
    struct world world;

    (void)state;
    fill_random(world.bytes, LENGTH, 1);
    world.device = open_ground(ON_PREAD, world.bytes, LENGTH);
    assert_true(fail_each(step_open_cache, &world) >= 4);
    assert_true(fail_each(step_copy, &world) >= 4);
    assert_true(fail_each(step_read, &world) >= 2);
    assert_memory_equal(world.got, world.bytes + 100, 10);
    cellar_cache_close(world.cache);
    cellar_cache_close(world.copy);
    cellar_device_close(world.device);
}

static void test_memory_pipeline(void **state)
{
    struct world world;

    (void)state;
    fill_random(world.bytes, LENGTH, 2);
    world.device = open_ground(ON_MEMORY, NULL, LENGTH);
    assert_true(fail_each(step_open_functions, &world) >= 6);
    cellar_pipeline_close(world.pipeline);
    assert_true(fail_each(step_open_pipeline, &world) >= 6);
    assert_true(fail_each(step_write_one, &world) >= 3);
    cellar_pipeline_discard(world.pipeline);
    assert_int_equal(cellar_pipeline_set_u8(world.pipeline, 200, 7), 0);
    assert_true(fail_each(step_write, &world) >= 40);
    /* Sending needs no memory at all. */
    allocations_left = 0;
    assert_int_equal(cellar_pipeline_commit(world.pipeline), 0);
    allocations_left = -1;
    assert_int_equal(cellar_device_read(world.device, world.got, LENGTH - 30, 30), 0);
    assert_memory_equal(world.got, world.bytes, LENGTH - 30);
    cellar_pipeline_close(world.pipeline);
    cellar_device_close(world.device);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_memory_cache),
        cmocka_unit_test(test_memory_pipeline),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
