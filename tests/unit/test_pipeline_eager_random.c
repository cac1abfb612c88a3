/*
 * A pipeline that writes eagerly against plain arrays. Whenever it goes out: what is read is what was written, what
 * versions have is on the device as the last commit left it, and snapshots see their own.
 */
#include "page/bits.h"
#include "page/pipeline.h"
#include "versions_test.h"

enum { CAPACITY = 8192, ROUNDS = 3000, SNAPSHOTS = 3 };

struct snapshot {
    struct cellar_cache *cache;
    uint64_t limit_bytes;
    unsigned char image[CAPACITY];
};

struct world {
    struct stage stage;
    uint64_t committed_bytes, frontier, version, random;
    unsigned char held[CAPACITY], seen[CAPACITY];
    bool pending[CAPACITY];
    struct snapshot snapshots[SNAPSHOTS];
};

static uint64_t below(struct world *world, uint64_t limit)
{
    return support_random_below(&world->random, limit);
}

static bool is_pending(struct world *world, uint64_t address)
{
    const struct cellar_pending *pending = cellar_pending_find(&world->stage.pipeline->pending, address / PAGE);

    return pending != NULL && cellar_bits_test(pending->dirty, address % PAGE);
}

static void read_device(struct world *world, uint64_t address, unsigned char *to, size_t length)
{
    assert_done(cellar_device_read(world->stage.fault.inner, to + address, length, address));
}

/* What versions have has not changed, whatever is on its way behind it. */
static void check_committed(struct world *world)
{
    unsigned char bytes[CAPACITY];

    read_device(world, 0, bytes, (size_t)world->committed_bytes);
    assert_memory_equal(bytes, world->held, (size_t)world->committed_bytes);
}

static void check_seen(struct world *world, uint64_t address, size_t length)
{
    unsigned char bytes[CAPACITY];

    assert_done(cellar_pipeline_read(world->stage.pipeline, address, bytes, length));
    assert_memory_equal(bytes, world->seen + address, length);
}

static void check_snapshots(struct world *world)
{
    for (int i = 0; i < SNAPSHOTS; i++) {
        struct snapshot *snapshot = &world->snapshots[i];
        unsigned char bytes[CAPACITY], byte;

        if (snapshot->cache == NULL)
            continue;
        assert_done(cellar_cache_read(snapshot->cache, 0, bytes, (size_t)snapshot->limit_bytes));
        assert_memory_equal(bytes, snapshot->image, (size_t)snapshot->limit_bytes);
        assert_result(cellar_cache_read(snapshot->cache, snapshot->limit_bytes, &byte, 1), CELLAR_EBOUNDS);
    }
}

/* Nothing is on its way: the device holds what it holds. */
static void settle(struct world *world)
{
    read_device(world, 0, world->held, CAPACITY);
    world->committed_bytes = world->stage.pipeline->committed_bytes;
    for (uint64_t at = 0; at < CAPACITY; at++) {
        assert_true(world->pending[at] || !is_pending(world, at));
        world->pending[at] = is_pending(world, at);
        assert_true(world->pending[at] || world->held[at] == world->seen[at]);
    }
}

static void do_append(struct world *world)
{
    unsigned char bytes[400];
    size_t length = 1 + (size_t)below(world, sizeof bytes);

    if (world->frontier + length > CAPACITY)
        return;
    support_bytes(below(world, UINT64_MAX), bytes, length);
    assert_done(cellar_pipeline_write(world->stage.pipeline, world->frontier, bytes, length));
    memcpy(world->seen + world->frontier, bytes, length);
    memset(world->pending + world->frontier, true, length);
    world->frontier += length;
}

static void do_overwrite(struct world *world)
{
    unsigned char bytes[100];
    uint64_t address = below(world, world->frontier + 1);
    size_t length = 1 + (size_t)below(world, sizeof bytes);

    if (address + length > CAPACITY)
        return;
    support_bytes(below(world, UINT64_MAX), bytes, length);
    assert_done(cellar_pipeline_write(world->stage.pipeline, address, bytes, length));
    memcpy(world->seen + address, bytes, length);
    memset(world->pending + address, true, length);
}

static void do_frame(struct world *world)
{
    struct cellar_write_frame frame;
    uint64_t address = below(world, 2) == 0 ? world->frontier : below(world, world->frontier + 1);

    if (address >= CAPACITY)
        return;
    assert_done(cellar_pipeline_fix_write(world->stage.pipeline, address, CELLAR_WRITE_AS_IS, &frame));
    assert_memory_equal(frame.bytes, world->seen + frame.address, frame.length);
    support_bytes(below(world, UINT64_MAX), frame.bytes, (size_t)below(world, frame.length + 1));
    memcpy(world->seen + frame.address, frame.bytes, frame.length);
    memset(world->pending + frame.address, true, frame.length);
    cellar_pipeline_unfix_write(world->stage.pipeline, &frame);
    if (world->frontier < frame.address + frame.length)
        world->frontier = frame.address + frame.length;
}

static void do_look(struct world *world)
{
    uint64_t address = below(world, CAPACITY);

    check_seen(world, address, (size_t)below(world, CAPACITY - address + 1));
}

static void do_commit(struct world *world)
{
    assert_done(cellar_pipeline_commit(world->stage.pipeline));
    assert_int_equal(cellar_pipeline_pending_bytes(world->stage.pipeline), 0);
    settle(world);
    assert_true(world->committed_bytes >= world->frontier || world->frontier == 0);
    check_snapshots(world);
}

static void do_persist(struct world *world)
{
    assert_done(cellar_pipeline_persist(world->stage.pipeline, below(world, CAPACITY), below(world, 500)));
    settle(world);
    check_snapshots(world);
}

static void do_discard(struct world *world)
{
    cellar_pipeline_discard(world->stage.pipeline);
    assert_int_equal(cellar_pipeline_pending_bytes(world->stage.pipeline), 0);
    assert_int_equal(world->stage.pipeline->committed_bytes, world->committed_bytes);
    check_committed(world);
    read_device(world, 0, world->seen, CAPACITY);
    settle(world);
    world->frontier = world->committed_bytes;
}

static void do_snapshot(struct world *world)
{
    struct snapshot *snapshot = &world->snapshots[below(world, SNAPSHOTS)];

    if (snapshot->cache != NULL) {
        check_snapshots(world);
        cellar_cache_close(snapshot->cache);
        snapshot->cache = NULL;
        return;
    }
    snapshot->cache = take_snapshot(&world->stage);
    snapshot->limit_bytes = world->committed_bytes;
    memcpy(snapshot->image, world->held, (size_t)world->committed_bytes);
}

static void end(struct world *world)
{
    do_commit(world);
    check_seen(world, 0, CAPACITY);
    for (int i = 0; i < SNAPSHOTS; i++)
        cellar_cache_close(world->snapshots[i].cache);
    assert_int_equal(old_pages(&world->stage), 0);
    stage_close(&world->stage);
    free(world);
}

static struct world *begin(const struct cellar_pipeline_options *options, uint64_t seed)
{
    struct world *world = calloc(1, sizeof *world);

    assert_non_null(world);
    world->random = seed;
    stage_open(&world->stage, CAPACITY, options);
    cellar_pipeline_set_committed(world->stage.pipeline, 0);
    return world;
}

/* A world that is full ends, and another one begins. */
static void run(const struct cellar_pipeline_options *options, uint64_t seed)
{
    static void (*const calls[])(struct world * world) = {do_append, do_append,    do_append, do_append,  do_append,
                                                          do_append, do_overwrite, do_frame,  do_look,    do_look,
                                                          do_look,   do_snapshot,  do_look,   do_snapshot};
    struct world *world = begin(options, seed);

    for (uint64_t round = 0; round < ROUNDS; round++) {
        uint64_t which = below(world, 60);

        if (which == 0)
            do_commit(world);
        else if (which == 1)
            do_persist(world);
        else if (which == 2 && below(world, 3) == 0)
            do_discard(world);
        else
            calls[which % SUPPORT_COUNT(calls)](world);
        check_committed(world);
        if (world->frontier + 100 > CAPACITY) {
            end(world);
            world = begin(options, seed + round);
        }
    }
    end(world);
}

static void test_eager_random(void **state)
{
    const struct cellar_pipeline_options options[] = {
        {.eager_writes = 1, .eager_bytes = PAGE},
        {.eager_writes = 3, .eager_bytes = 4 * PAGE},
        {.eager_writes = 2, .eager_bytes = 2 * PAGE, .pending_bytes_max = 8 * PAGE},
        {.eager_writes = 8, .eager_bytes = 8 * PAGE, .pending_bytes_max = PAGE},
    };

    (void)state;
    for (size_t i = 0; i < SUPPORT_COUNT(options); i++) {
        for (uint64_t seed = 0; seed < 3; seed++) {
            struct cellar_pipeline_options complete = options[i];

            complete.cache.old_pages = 1000;
            complete.cache.page_count = seed == 0 ? 2 : 32;
            complete.cache.io = seed == 1 ? CELLAR_IO_AUTO : CELLAR_IO_THREADS;
            run(&complete, 10 * i + seed);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_eager_random)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
