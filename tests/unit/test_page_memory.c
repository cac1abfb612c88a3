/*
 * Out of memory, in every place of the page room where that can be: the program is linked so that each call of malloc
 * and its like comes here (--wrap, see tests/CMakeLists.txt), where the nth one of the test's thread fails. That stands
 * before the allocators of the sanitizers and of valgrind, too.
 */
#include "page_test.h"
#include "support.h"

#include "page/table.h"
#include <cellar/pipeline.h>

enum { LENGTH = 4096, LARGE = 1 << 20 };

/* Allocations of this thread that still succeed; negative: all do. And those that didn't. */
static _Thread_local long allocations_left = -1;
static _Thread_local long refused;
static _Thread_local bool refuse_once; /* or from then on */

static bool may_allocate(void)
{
    if (allocations_left == 0) {
        refused++;
        if (refuse_once)
            allocations_left = -1;
        return false;
    }
    allocations_left -= allocations_left > 0;
    return true;
}

/* The names that the linker gives them. */
void *__real_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
void *__real_realloc(void *old, size_t size);
int __real_posix_memalign(void **ret_memory, size_t alignment, size_t size);
void *__real_aligned_alloc(size_t alignment, size_t size);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__wrap_realloc(void *old, size_t size);
int __wrap_posix_memalign(void **ret_memory, size_t alignment, size_t size);
void *__wrap_aligned_alloc(size_t alignment, size_t size);

void *__wrap_malloc(size_t size)
{
    return may_allocate() ? __real_malloc(size) : NULL;
}

void *__wrap_calloc(size_t count, size_t size)
{
    return may_allocate() ? __real_calloc(count, size) : NULL;
}

void *__wrap_realloc(void *old, size_t size)
{
    return may_allocate() ? __real_realloc(old, size) : NULL;
}

int __wrap_posix_memalign(void **ret_memory, size_t alignment, size_t size)
{
    return may_allocate() ? __real_posix_memalign(ret_memory, alignment, size) : ENOMEM;
}

void *__wrap_aligned_alloc(size_t alignment, size_t size)
{
    return may_allocate() ? __real_aligned_alloc(alignment, size) : NULL;
}

struct world {
    struct cellar_device *device, *second;
    struct cellar_cache *cache, *copy, *snapshot;
    struct cellar_pipeline *pipeline;
    struct cellar_cache_options options;
    struct cellar_pipeline_options pipeline_options;
    struct cellar_fixed fixed;
    unsigned char bytes[LENGTH], got[LENGTH];
};

/*
 * Runs step with the first, the second, ... allocation failing, with all that follow and alone, until none had to: each
 * time it must give -ENOMEM, and must be able to run again. Returns how many of them there were.
 */
static long fail_each(int (*step)(struct world *world), struct world *world)
{
    for (long runs = 0;; runs++) {
        long failures = runs / 2;
        int error;

        allocations_left = failures;
        refused = 0;
        refuse_once = runs % 2 == 1;
        error = step(world);
        allocations_left = -1;
        refuse_once = false;
        if (refused == 0) {
            assert_done(error);
            return failures;
        }
        assert_result(error, -ENOMEM);
    }
}

/* Buffers are mappings in the debug mode, and fewer. */
static void assert_failures(long failures, long least)
{
    assert_true(failures >= least || support_cache_debug());
}

static void world_open(struct world *world, enum ground ground)
{
    memset(world, 0, sizeof *world);
    fill_random(world->bytes, LENGTH, 1);
    world->device = open_ground(ground, world->bytes, LENGTH);
    world->options.page_bytes = 64;
    world->options.page_count = 16;
    world->options.io = CELLAR_IO_THREADS;
}

static void world_close(struct world *world)
{
    cellar_cache_close(world->copy);
    cellar_cache_close(world->snapshot);
    if (world->pipeline == NULL)
        cellar_cache_close(world->cache);
    cellar_pipeline_close(world->pipeline);
    assert_done(cellar_device_close(world->device));
    assert_done(cellar_device_close(world->second));
}

/* ---- caches ---- */

static int step_open_cache(struct world *world)
{
    return cellar_cache_open_with(world->device, &world->options, &world->cache);
}

static int step_copy(struct world *world)
{
    return cellar_cache_copy(world->cache, &world->copy);
}

static int step_share(struct world *world)
{
    return cellar_cache_share(world->cache, &world->copy);
}

static int step_read(struct world *world)
{
    int error = cellar_cache_read(world->cache, 100, world->got, 10);

    if (!support_cache_debug())
        assert_int_equal(cellar_cache_is_cached(world->cache, 100), error == 0);
    return error;
}

static int step_map(struct world *world)
{
    return cellar_cache_map(world->cache, 100, 1000, &world->fixed);
}

static void test_memory_cache(void **state)
{
    struct world world;

    (void)state;
    world_open(&world, ON_PREAD);
    assert_true(fail_each(step_open_cache, &world) >= 5);
    assert_true(fail_each(step_copy, &world) >= 5);
    assert_failures(fail_each(step_read, &world), 2);
    assert_memory_equal(world.got, world.bytes + 100, 10);
    assert_int_equal(fail_each(step_map, &world), 1);
    assert_memory_equal(world.fixed.slice.bytes, world.bytes + 100, 1000);
    cellar_cache_unfix(world.cache, &world.fixed);
    world_close(&world);
}

static int accept(void *user, uint64_t version, uint64_t page_address, const void *bytes, size_t length)
{
    (void)user, (void)version, (void)page_address, (void)bytes, (void)length;
    return 0;
}

static int step_map_all(struct world *world)
{
    return cellar_cache_map(world->cache, 0, LARGE, &world->fixed);
}

/* What is validated is mapped as a copy, which grows. */
static void test_memory_large_copy(void **state)
{
    struct world world;

    (void)state;
    world_open(&world, ON_MEMORY);
    assert_done(cellar_device_open_memory(NULL, LARGE, LARGE, &world.second));
    world.options.page_bytes = 4096;
    world.options.hooks.validate = accept;
    assert_done(cellar_cache_open_with(world.second, &world.options, &world.cache));
    assert_true(fail_each(step_map_all, &world) >= 3);
    assert_int_equal(world.fixed.slice.length, LARGE);
    cellar_cache_unfix(world.cache, &world.fixed);
    world_close(&world);
}

static void test_memory_policies(void **state)
{
    (void)state;
    for (enum cellar_eviction eviction = CELLAR_EVICT_SIEVE; eviction <= CELLAR_EVICT_CLOCK; eviction++) {
        struct world world;

        world_open(&world, ON_MEMORY);
        world.options.eviction = eviction;
        assert_true(fail_each(step_open_cache, &world) >= 5);
        assert_int_equal(fail_each(step_share, &world), 1);
        assert_done(step_read(&world));
        world_close(&world);
    }
}

struct answer {
    int calls, error;
};

static void take_answer(void *user, int error)
{
    struct answer *answer = user;

    answer->calls++;
    answer->error = error;
}

/* What could not be asked for is not answered; a load whose frames find no memory is, with that; a prefetch is none. */
static void test_memory_loads_in_the_background(void **state)
{
    struct world world;
    struct answer answer = {0};

    (void)state;
    world_open(&world, ON_MEMORY);
    world.options.depth = 4;
    assert_true(fail_each(step_open_cache, &world) >= 7);
    allocations_left = 0;
    cellar_cache_prefetch(world.cache, 0, 200);
    assert_result(cellar_cache_load_async(world.cache, 0, 200, take_answer, &answer), -ENOMEM);
    assert_int_equal(cellar_cache_awaited(world.cache), 0);
    allocations_left = 1; /* what is asked for itself */
    assert_done(cellar_cache_load_async(world.cache, 0, 200, take_answer, &answer));
    allocations_left = -1;
    while (cellar_cache_awaited(world.cache) > 0)
        (void)cellar_cache_poll(world.cache, true);
    assert_int_equal(answer.calls, 1);
    if (!support_cache_debug())
        assert_int_equal(answer.error, -ENOMEM);
    assert_done(cellar_cache_read(world.cache, 0, world.got, 200));
    assert_memory_equal(world.got, world.bytes, 200);
    world_close(&world);
}

/* ---- the table ---- */

static void test_memory_table(void **state)
{
    struct cellar_table table = {0};
    int value;

    (void)state;
    for (size_t count = 5; count < 200; count *= 3) { /* each asks for a larger one */
        struct cellar_table before = table;

        allocations_left = 0;
        assert_result(cellar_table_reserve(&table, count), -ENOMEM);
        allocations_left = -1;
        assert_memory_equal(&table, &before, sizeof table);
        assert_done(cellar_table_reserve(&table, count));
        cellar_table_insert(&table, count, &value);
    }
    for (size_t count = 5; count < 200; count *= 3)
        assert_ptr_equal(cellar_table_find(&table, count), &value);
    cellar_table_clear(&table);
}

/* ---- pipelines ---- */

static int step_open_pipeline(struct world *world)
{
    world->pipeline_options.cache = world->options;
    return cellar_pipeline_open_with(world->device, &world->pipeline_options, &world->pipeline);
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

static int step_open_functions(struct world *world)
{
    static const struct cellar_pipeline_functions functions = {.map = map_nothing, .size = size_nothing};

    return cellar_pipeline_open_functions(&functions, NULL, 64, 16, &world->pipeline);
}

/* A write that fails has changed nothing, also where some of its pages had been there before. */
static int step_write(struct world *world)
{
    uint64_t before = cellar_pipeline_pending_bytes(world->pipeline);
    int error = cellar_pipeline_write(world->pipeline, 30, world->bytes, LENGTH - 30);

    if (error != 0)
        assert_int_equal(cellar_pipeline_pending_bytes(world->pipeline), before);
    return error;
}

static int step_write_one(struct world *world)
{
    return cellar_pipeline_write(world->pipeline, 1000, "x", 1);
}

/* What failed is not fixed, and nothing is pending for it. */
static int step_fix(struct world *world)
{
    struct cellar_write_frame frame;
    int error = cellar_pipeline_fix_write(world->pipeline, 2000, CELLAR_WRITE_AS_IS, &frame);

    if (error != 0)
        assert_int_equal(cellar_pipeline_pending_bytes(world->pipeline), 0);
    else
        cellar_pipeline_unfix_write(world->pipeline, &frame);
    return error;
}

static int step_snapshot(struct world *world)
{
    return cellar_pipeline_snapshot(world->pipeline, &world->snapshot);
}

/* Nothing has happened where there was no memory to keep what would be overwritten. */
static int step_commit(struct world *world)
{
    uint64_t pending = cellar_pipeline_pending_bytes(world->pipeline),
             version = cellar_pipeline_version(world->pipeline);
    int error = cellar_pipeline_commit(world->pipeline);

    assert_int_equal(cellar_pipeline_version(world->pipeline), version + (error == 0));
    if (error != 0)
        assert_true(cellar_pipeline_pending_bytes(world->pipeline) >= pending);
    return error;
}

static void test_memory_pipeline(void **state)
{
    struct world world;

    (void)state;
    world_open(&world, ON_MEMORY);
    assert_true(fail_each(step_open_functions, &world) >= 6);
    cellar_pipeline_close(world.pipeline);
    assert_true(fail_each(step_open_pipeline, &world) >= 6);
    assert_true(fail_each(step_write_one, &world) >= 2);
    cellar_pipeline_discard(world.pipeline);
    assert_done(cellar_pipeline_set_u8(world.pipeline, 200, 7));
    assert_true(fail_each(step_write, &world) >= 40);
    /* Sending needs no memory at all. */
    allocations_left = 0;
    assert_done(cellar_pipeline_commit(world.pipeline));
    allocations_left = -1;
    assert_done(cellar_device_read(world.device, world.got, LENGTH - 30, 30));
    assert_memory_equal(world.got, world.bytes, LENGTH - 30);
    world_close(&world);
}

static void test_memory_versions(void **state)
{
    struct world world;

    (void)state;
    world_open(&world, ON_MEMORY);
    world.options.page_bytes = 1024; /* so that buffers come few at a time */
    world.options.old_pages = 300;
    assert_true(fail_each(step_open_pipeline, &world) >= 6);
    assert_failures(fail_each(step_fix, &world), 3);
    cellar_pipeline_discard(world.pipeline);
    assert_int_equal(fail_each(step_snapshot, &world), 1);
    assert_done(cellar_pipeline_write(world.pipeline, 30, world.bytes, LENGTH - 30));
    fail_each(step_commit, &world);
    assert_done(cellar_cache_read(world.snapshot, 0, world.got, LENGTH));
    assert_memory_equal(world.got, world.bytes, LENGTH);
    assert_done(cellar_pipeline_read(world.pipeline, 30, world.got, LENGTH - 30));
    assert_memory_equal(world.got, world.bytes, LENGTH - 30);
    world_close(&world);
}

/* The first load of all is the one that a commit makes for a snapshot. */
static void test_memory_of_what_is_kept(void **state)
{
    struct world world;

    (void)state;
    world_open(&world, ON_MEMORY);
    world.options.old_pages = 8;
    assert_done(step_open_pipeline(&world));
    assert_done(step_snapshot(&world));
    assert_done(step_write_one(&world));
    assert_failures(fail_each(step_commit, &world), 2);
    assert_done(cellar_cache_read(world.snapshot, 0, world.got, LENGTH));
    assert_memory_equal(world.got, world.bytes, LENGTH);
    world_close(&world);
}

/* Pages that would go before commit, where so many allocations of each write succeed. True: one was refused. */
static bool write_eagerly(long allocations, bool once)
{
    struct world world;
    bool any = false;

    world_open(&world, ON_MEMORY);
    world.pipeline_options = (struct cellar_pipeline_options){
        .eager_writes = 2, .eager_bytes = 1024, .committed_bytes = 64, .pending_bytes_max = 512};
    assert_done(step_open_pipeline(&world));
    assert_done(cellar_pipeline_write(world.pipeline, 0, world.bytes + 7, 64));
    for (uint64_t at = 64; at < LENGTH - 64; at += 64) /* the memory of all pages, none of which can go yet */
        assert_done(cellar_pipeline_write(world.pipeline, at, world.bytes + 7 + at, 1));
    refuse_once = once;
    for (uint64_t at = 64; at < LENGTH - 64; at += 64) {
        allocations_left = allocations;
        refused = 0;
        assert_done(cellar_pipeline_write(world.pipeline, at + 1, world.bytes + 8 + at, 63));
        allocations_left = -1;
        any = any || refused > 0;
    }
    refuse_once = false;
    allocations_left = 0; /* it needs none */
    assert_done(cellar_pipeline_commit(world.pipeline));
    allocations_left = -1;
    assert_done(cellar_device_read(world.device, world.got, LENGTH - 64, 0));
    assert_memory_equal(world.got, world.bytes + 7, LENGTH - 64);
    world_close(&world);
    return any;
}

/* Without memory for what runs in the background all waits for commit. */
static void test_memory_eager(void **state)
{
    (void)state;
    for (int once = 0; once < 2; once++) {
        long allocations = 0;

        while (write_eagerly(allocations, once != 0))
            allocations++;
        assert_true(allocations >= 3);
    }
}

/* ---- places ---- */

static int find_place(void *user, uint64_t version, uint64_t page_address, struct cellar_place *ret_place)
{
    struct world *world = user;

    *ret_place = (struct cellar_place){version > 0, version > 0 ? world->second : world->device, page_address};
    return 0;
}

static int new_place(void *user, uint64_t version, uint64_t page_address, struct cellar_place *ret_place)
{
    return find_place(user, version, page_address, ret_place);
}

static void test_memory_places(void **state)
{
    struct world world;

    (void)state;
    world_open(&world, ON_MEMORY);
    assert_done(cellar_device_open_memory(world.bytes, LENGTH, LENGTH, &world.second));
    world.options.hooks.place = find_place;
    world.options.user = &world;
    world.pipeline_options.place_new = new_place;
    assert_true(fail_each(step_open_pipeline, &world) >= 6);
    assert_int_equal(fail_each(step_snapshot, &world), 1);
    assert_done(step_write_one(&world));
    assert_failures(fail_each(step_commit, &world), 2);
    assert_done(cellar_cache_read(world.snapshot, 0, world.got, LENGTH));
    assert_memory_equal(world.got, world.bytes, LENGTH);
    assert_done(cellar_pipeline_read(world.pipeline, 1000, world.got, 1));
    assert_int_equal(world.got[0], 'x');
    world_close(&world);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_memory_cache),    cmocka_unit_test(test_memory_large_copy),
        cmocka_unit_test(test_memory_policies), cmocka_unit_test(test_memory_loads_in_the_background),
        cmocka_unit_test(test_memory_table),    cmocka_unit_test(test_memory_pipeline),
        cmocka_unit_test(test_memory_versions), cmocka_unit_test(test_memory_of_what_is_kept),
        cmocka_unit_test(test_memory_eager),    cmocka_unit_test(test_memory_places),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
