/*
 * Who holds which lock: what the page room does for one thread takes each lock once and gives back no other, whatever
 * the other threads do meanwhile. The program is linked so that the calls come here (--wrap, see tests/CMakeLists.txt).
 */
#include "versions_test.h"

#include <pthread.h>
#include <stdio.h>

enum { HELD_MAX = 8 };

/* What this thread holds. */
static _Thread_local struct {
    const pthread_mutex_t *locks[HELD_MAX];
    int count;
    unsigned taken; /* so far */
} held;

/* The names that the linker gives them. */
int __real_pthread_mutex_lock(pthread_mutex_t *lock);
int __real_pthread_mutex_unlock(pthread_mutex_t *lock);
int __real_pthread_cond_wait(pthread_cond_t *condition, pthread_mutex_t *lock);
int __wrap_pthread_mutex_lock(pthread_mutex_t *lock);
int __wrap_pthread_mutex_unlock(pthread_mutex_t *lock);
int __wrap_pthread_cond_wait(pthread_cond_t *condition, pthread_mutex_t *lock);

/* Any thread, where an assertion of cmocka can't be made. */
static void need(bool right, const char *what)
{
    if (right)
        return;
    fprintf(stderr, "%s\n", what);
    abort();
}

/* Where it stands, or -1. */
static int find_held(const pthread_mutex_t *lock)
{
    int at = held.count - 1;

    while (at >= 0 && held.locks[at] != lock)
        at--;
    return at;
}

int __wrap_pthread_mutex_lock(pthread_mutex_t *lock)
{
    need(find_held(lock) < 0, "a thread locks what it holds");
    need(held.count < HELD_MAX, "a thread holds many locks");
    held.locks[held.count++] = lock;
    held.taken++;
    return __real_pthread_mutex_lock(lock);
}

int __wrap_pthread_mutex_unlock(pthread_mutex_t *lock)
{
    int at = find_held(lock);

    need(at >= 0, "a thread unlocks what it doesn't hold");
    held.locks[at] = held.locks[--held.count];
    return __real_pthread_mutex_unlock(lock);
}

int __wrap_pthread_cond_wait(pthread_cond_t *condition, pthread_mutex_t *lock)
{
    need(find_held(lock) >= 0, "a thread waits without the lock");
    return __real_pthread_cond_wait(condition, lock);
}

#define assert_free() assert_int_equal(held.count, 0)

/* Does it; the thread holds nothing afterwards. */
#define then_free(step)                                                                                                \
    do {                                                                                                               \
        step;                                                                                                          \
        assert_free();                                                                                                 \
    } while (0)

/* The same of a call that may fail. */
#define result_then_free(call)                                                                                         \
    do {                                                                                                               \
        int result_ = (call);                                                                                          \
        (void)result_;                                                                                                 \
        assert_free();                                                                                                 \
    } while (0)

enum { PAGES = 40, SIZE = PAGES * PAGE - 10 };

struct told {
    struct cellar_cache *cache;
    unsigned calls;
};

/* Every function of the caller's is called without a lock: it may call the cache. */
static void look_around(void *user)
{
    struct told *told = user;

    assert_free();
    told->calls++;
    then_free(cellar_cache_counters(told->cache));
    then_free(cellar_cache_is_cached(told->cache, 0));
}

static void note_done(void *user, int error)
{
    struct told *told = user;

    (void)error;
    look_around(told);
}

static int note_byte(void *user, uint8_t byte)
{
    (void)user;
    (void)byte;
    assert_free();
    return 0;
}

static void read_all_ways(struct cellar_cache *cache)
{
    unsigned char bytes[3 * PAGE];
    struct cellar_slice slice;
    struct cellar_fixed fixed[20]; /* more than a handle has slots */

    for (int round = 0; round < 2; round++) {
        result_then_free(cellar_cache_read(cache, 10, bytes, sizeof bytes));
        result_then_free(cellar_cache_read(cache, SIZE - 1, bytes, 2));
        result_then_free(cellar_cache_load(cache, 30 * PAGE, 1, &slice));
        result_then_free(cellar_cache_iterate_bytes(cache, 9 * PAGE, 2 * PAGE, note_byte, NULL));
        for (size_t i = 0; i < SUPPORT_COUNT(fixed); i++) {
            assert_done(cellar_cache_fix(cache, i % 2 * PAGE, 1, &fixed[i]));
            assert_free();
        }
        for (size_t i = 0; i < SUPPORT_COUNT(fixed); i++)
            then_free(cellar_cache_unfix(cache, &fixed[i]));
        assert_done(cellar_cache_map(cache, 5, 1000, &fixed[0]));
        assert_free();
        then_free(cellar_cache_unfix(cache, &fixed[0]));
        then_free(cellar_cache_invalidate(cache, 0, 5 * PAGE));
        then_free(cellar_cache_set_limit(cache, 20 * PAGE));
        then_free(cellar_cache_set_limit(cache, UINT64_MAX));
        then_free(cellar_cache_set_version(cache, CELLAR_VERSION_NEWEST));
    }
}

static void read_in_background(struct cellar_cache *cache)
{
    struct told told = {.cache = cache};

    assert_true(cellar_cache_descriptor(cache) >= 0);
    assert_free();
    for (uint64_t page = 0; page < PAGES + 2; page++) {
        assert_done(cellar_cache_load_async(cache, page * PAGE, 2 * PAGE, note_done, &told));
        assert_free();
        then_free(cellar_cache_prefetch(cache, (PAGES - page) * PAGE, PAGE));
    }
    while (cellar_cache_awaited(cache) > 0)
        result_then_free(cellar_cache_poll(cache, true));
    assert_free();
    assert_int_equal(told.calls, PAGES + 2);
    for (uint64_t page = 0; page < PAGES - 1; page++) {
        unsigned char byte;

        result_then_free(cellar_cache_read(cache, page * PAGE, &byte, 1));
    }
    /* For close to wait for. */
    result_then_free(cellar_cache_load_async(cache, 0, PAGE, note_done, &told));
    then_free(cellar_cache_prefetch(cache, 20 * PAGE, 5 * PAGE));
}

/* A cache alone and shared, with and without what runs in the background. */
static void test_cache(void **state)
{
    (void)state;
    for (int variant = 0; variant < 8; variant++) {
        struct cellar_cache_options options = {.page_bytes = PAGE,
                                               .page_count = 8,
                                               .depth = variant & 1 ? 2 : 0,
                                               .read_ahead_pages = variant & 1 ? 4 : 0,
                                               .hooks.loaded = look_around};
        struct cellar_cache *cache, *other = NULL;
        struct cellar_device *device;
        struct told told = {0};

        options.user = &told;
        assert_done(cellar_device_open_memory(NULL, SIZE, SIZE, &device));
        assert_done(cellar_cache_open_with(device, &options, &cache));
        told.cache = cache;
        if (variant & 2)
            assert_done(cellar_cache_share(cache, &other));
        assert_free();
        read_all_ways(cache);
        if (variant & 1)
            read_in_background(cache);
        if (variant & 4) {
            then_free(cellar_cache_close(other));
            other = NULL;
        }
        assert_true(told.calls > 0);
        then_free(cellar_cache_close(cache));
        then_free(cellar_cache_close(other));
        assert_done(cellar_device_close(device));
    }
}

/* Who shares the cache takes no lock for what is there, as long as it has slots for what it fixes. */
static void test_hits(void **state)
{
    struct cellar_cache_options options = {.page_bytes = PAGE, .page_count = 8, .copy = true};
    struct cellar_fixed fixed[4];
    struct cellar_cache *cache, *other;
    struct cellar_device *device;
    unsigned char bytes[4 * PAGE];
    uint8_t byte;

    (void)state;
    if (support_cache_debug())
        support_skip("the debug mode of the cache gives pages up at once");
    assert_done(cellar_device_open_memory(NULL, SIZE, SIZE, &device));
    assert_done(cellar_cache_open_with(device, &options, &cache));
    assert_done(cellar_cache_share(cache, &other));
    assert_done(cellar_cache_read(cache, 0, bytes, sizeof bytes));
    held.taken = 0;
    for (int round = 0; round < 10; round++) {
        assert_done(cellar_cache_read(other, 0, bytes, sizeof bytes));
        assert_done(cellar_cache_get_u8(other, PAGE, &byte));
        for (size_t i = 0; i < SUPPORT_COUNT(fixed); i++)
            assert_done(cellar_cache_fix(other, i * PAGE, 1, &fixed[i]));
        for (size_t i = 0; i < SUPPORT_COUNT(fixed); i++)
            cellar_cache_unfix(other, &fixed[i]);
    }
    assert_int_equal(held.taken, 0);
    assert_done(cellar_cache_read(other, 10 * PAGE, bytes, 1));
    assert_true(held.taken > 0);
    cellar_cache_close(other);
    cellar_cache_close(cache);
    assert_done(cellar_device_close(device));
}

/* Tasks that wait in the hook, and find frames and requests taken. */
static void test_wait_hook(void **state)
{
    struct cellar_cache_options options = {.page_bytes = PAGE, .page_count = 4, .depth = 1, .hooks.wait = look_around};
    struct cellar_cache *cache, *other;
    struct cellar_device *device;
    struct cellar_fixed fixed[4];
    struct told told = {0};
    unsigned char byte;

    (void)state;
    options.user = &told;
    assert_done(cellar_device_open_memory(NULL, SIZE, SIZE, &device));
    assert_done(cellar_cache_open_with(device, &options, &cache));
    told.cache = cache;
    assert_done(cellar_cache_share(cache, &other));
    read_all_ways(cache);
    read_in_background(other);
    for (uint64_t page = 0; page < 4; page++)
        assert_done(cellar_cache_fix(cache, page * PAGE, 1, &fixed[page]));
    result_then_free(cellar_cache_read(other, 20 * PAGE, &byte, 1));
    for (uint64_t page = 0; page < 4; page++)
        cellar_cache_unfix(cache, &fixed[page]);
    assert_true(told.calls > 0);
    then_free(cellar_cache_close(other));
    then_free(cellar_cache_close(cache));
    assert_done(cellar_device_close(device));
}

/* Commits, snapshots, write frames and eager writes, failing ones among them. */
static void test_pipeline(void **state)
{
    struct cellar_pipeline_options options = {.cache = {.page_count = 16, .depth = 2, .old_pages = 4},
                                              .committed_bytes = 10 * PAGE,
                                              .eager_writes = 2,
                                              .eager_bytes = 2 * PAGE};
    struct cellar_cache *snapshot = NULL;
    struct cellar_write_frame frame;
    struct stage stage = {0};

    (void)state;
    stage_open(&stage, PAGES * PAGE, &options);
    for (int round = 1; round <= 4; round++) {
        result_then_free(put(&stage, 5, 3 * PAGE, round));
        result_then_free(put(&stage, (uint64_t)(10 + 5 * round) * PAGE, 4 * PAGE, round));
        result_then_free(cellar_pipeline_snapshot(stage.pipeline, &snapshot));
        assert_done(cellar_pipeline_fix_write(stage.pipeline, 8 * PAGE, CELLAR_WRITE_AS_IS, &frame));
        assert_free();
        then_free(cellar_pipeline_unfix_write(stage.pipeline, &frame));
        result_then_free(cellar_pipeline_persist(stage.pipeline, 0, PAGE));
        if (round == 4)
            fault_fail(&stage.fault, FAULT_WRITE, 1, 1, -EIO);
        result_then_free(cellar_pipeline_commit(stage.pipeline));
        then_free(cellar_pipeline_set_committed(stage.pipeline, (uint64_t)(10 + 5 * round) * PAGE));
        then_free(cellar_pipeline_version(stage.pipeline));
        expect(snapshot, 6 * PAGE, PAGE, 0);
        assert_free();
        then_free(cellar_cache_close(snapshot));
        result_then_free(put(&stage, 5, 5 * PAGE, round));
        then_free(cellar_pipeline_discard(stage.pipeline));
    }
    stage_close(&stage);
    assert_free();
}

/* The same in the debug mode, which gives pages up all the time. */
static void test_cache_in_debug(void **state)
{
    bool already = support_cache_debug();

    assert_int_equal(setenv("CELLAR_CACHE_DEBUG", "1", 1), 0);
    test_cache(state);
    if (!already)
        unsetenv("CELLAR_CACHE_DEBUG");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cache),     cmocka_unit_test(test_cache_in_debug), cmocka_unit_test(test_hits),
        cmocka_unit_test(test_wait_hook), cmocka_unit_test(test_pipeline),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
