/* The debug mode of the cache: what is used after its time crashes where it is used. */
#include "cache_test.h"

#include <cellar/pipeline.h>
#include <signal.h>
#include <unistd.h>

static int setup(void **state)
{
    (void)state;
    return setenv("CELLAR_CACHE_DEBUG", "1", 1);
}

static void test_debug_four_pages(void **state)
{
    struct cellar_cache_options options = {.page_count = 64};
    struct cellar_fixed fixed[4], other;
    struct cellar_cache *cache, *small;
    struct bed bed;

    (void)state;
    bed_open(&bed);
    cache = bed_cache(&bed, &options);
    assert_int_equal(cellar_cache_page_count(cache), 4);
    for (uint64_t i = 0; i < 4; i++)
        assert_done(cellar_cache_fix(cache, i * PAGE, PAGE, &fixed[i]));
    assert_result(cellar_cache_fix(cache, 4 * PAGE, 1, &other), CELLAR_EPINNED);
    for (uint64_t i = 0; i < 4; i++) {
        assert_bytes(&bed, fixed[i].slice.bytes, i * PAGE, PAGE);
        cellar_cache_unfix(cache, &fixed[i]);
        assert_int_equal(cellar_cache_counters(cache).pages, 3 - i); /* at once */
    }
    /* What was looked at last stays until the next call. */
    assert_read(&bed, cache, 0, 10 * PAGE);
    assert_read(&bed, cache, 0, 10 * PAGE);
    assert_true(cellar_cache_counters(cache).pages <= 1);
    assert_int_equal(cellar_cache_counters(cache).misses, 25);
    options.page_count = 2;
    small = bed_cache(&bed, &options);
    assert_int_equal(cellar_cache_page_count(small), 2);
    cellar_cache_close(small);
    cellar_cache_close(cache);
    bed_close(&bed);
}

/* A device that lends is copied all the same: also what has no copy elsewhere is out of reach after its time. */
static void test_debug_never_lends(void **state)
{
    struct cellar_device *device;
    struct cellar_cache *cache;
    struct cellar_fixed fixed;

    (void)state;
    assert_done(cellar_device_open_memory("abcdefgh", 8, 8, &device));
    assert_done(cellar_cache_open(device, 4, 16, &cache));
    assert_done(cellar_cache_fix(cache, 0, 4, &fixed));
    assert_done(support_device_write(device, "x", 1, 0));
    assert_memory_equal(fixed.slice.bytes, "abcd", 4);
    cellar_cache_unfix(cache, &fixed);
    assert_done(cellar_cache_map(cache, 0, 8, &fixed));
    assert_done(support_device_write(device, "y", 1, 0));
    assert_memory_equal(fixed.slice.bytes, "xbcdefgh", 8);
    cellar_cache_unfix(cache, &fixed);
    assert_int_equal(cellar_device_counters(device).loads, 0);
    cellar_cache_close(cache);
    cellar_device_close(device);
}

/* ---- crashes ---- */

enum misuse { AFTER_UNFIX, AFTER_UNFIX_SHARED, AFTER_NEXT_CALL, AFTER_NEXT_CALL_SHARED, AFTER_CLOSE_OF_FIX, NONE };

static volatile unsigned char sink;

static int misuse(void *user)
{
    const enum misuse *how = user;
    struct cellar_cache_options options = {.page_bytes = PAGE, .page_count = 8};
    struct cellar_cache *cache, *other;
    struct cellar_device *device;
    struct cellar_slice slice, next;
    struct cellar_fixed fixed;
    unsigned char bytes[4 * PAGE] = {0};

    /* A sanitizer's report of the fault is no news. */
    signal(SIGSEGV, SIG_DFL);
    signal(SIGBUS, SIG_DFL);
    SUPPORT_CHILD_NEEDS(cellar_device_open_memory(bytes, sizeof bytes, sizeof bytes, &device) == 0);
    SUPPORT_CHILD_NEEDS(cellar_cache_open_with(device, &options, &cache) == 0);
    if (*how == AFTER_UNFIX_SHARED || *how == AFTER_NEXT_CALL_SHARED)
        SUPPORT_CHILD_NEEDS(cellar_cache_share(cache, &other) == 0);
    if (*how == AFTER_NEXT_CALL || *how == AFTER_NEXT_CALL_SHARED) {
        SUPPORT_CHILD_NEEDS(cellar_cache_load(cache, 0, 1, &slice) == 0);
        sink = *(const unsigned char *)slice.bytes;
        SUPPORT_CHILD_NEEDS(cellar_cache_load(cache, PAGE, 1, &next) == 0);
    } else {
        SUPPORT_CHILD_NEEDS(cellar_cache_fix(cache, 0, 1, &fixed) == 0);
        SUPPORT_CHILD_NEEDS(cellar_cache_load(cache, PAGE, 1, &next) == 0);
        slice = fixed.slice;
        sink = *(const unsigned char *)slice.bytes;
        if (*how == NONE) {
            cellar_cache_unfix(cache, &fixed);
            cellar_cache_close(cache);
            return cellar_device_close(device) == 0 ? 77 : 79;
        }
        if (*how == AFTER_CLOSE_OF_FIX)
            cellar_cache_close(cache);
        else
            cellar_cache_unfix(cache, &fixed);
    }
    sink = *(const unsigned char *)slice.bytes;
    return 78;
}

static void test_debug_crashes(void **state)
{
    (void)state;
    for (enum misuse how = AFTER_UNFIX; how < NONE; how++)
        assert_int_equal(support_child(misuse, &how), -SIGSEGV);
    assert_int_equal(support_child(misuse, &(enum misuse){NONE}), 77);
}

/* A commit that changes the page is such a next call. */
static int use_after_commit(void *user)
{
    struct cellar_pipeline_options options = {.cache = {.page_bytes = PAGE, .page_count = 8}};
    struct cellar_pipeline *pipeline;
    struct cellar_device *device;
    struct cellar_slice slice;
    unsigned char bytes[4 * PAGE] = {0};

    (void)user;
    signal(SIGSEGV, SIG_DFL);
    signal(SIGBUS, SIG_DFL);
    SUPPORT_CHILD_NEEDS(cellar_device_open_memory(bytes, sizeof bytes, sizeof bytes, &device) == 0);
    SUPPORT_CHILD_NEEDS(cellar_pipeline_open_with(device, &options, &pipeline) == 0);
    SUPPORT_CHILD_NEEDS(cellar_cache_load(cellar_pipeline_cache(pipeline), 0, 1, &slice) == 0);
    sink = *(const unsigned char *)slice.bytes;
    SUPPORT_CHILD_NEEDS(cellar_pipeline_write(pipeline, 1, "x", 1) == 0);
    SUPPORT_CHILD_NEEDS(cellar_pipeline_commit(pipeline) == 0);
    sink = *(const unsigned char *)slice.bytes;
    return 78;
}

static void test_debug_commit(void **state)
{
    (void)state;
    assert_int_equal(support_child(use_after_commit, NULL), -SIGSEGV);
}

static int unfix_twice(void *user)
{
    const bool *shared = user;
    struct cellar_device *device;
    struct cellar_cache *cache, *other;
    struct cellar_fixed fixed, same;

    signal(SIGABRT, SIG_DFL);
    SUPPORT_CHILD_NEEDS(cellar_device_open_memory("abcdefgh", 8, 8, &device) == 0);
    SUPPORT_CHILD_NEEDS(cellar_cache_open(device, 4, 16, &cache) == 0);
    if (*shared)
        SUPPORT_CHILD_NEEDS(cellar_cache_share(cache, &other) == 0);
    SUPPORT_CHILD_NEEDS(cellar_cache_fix(cache, 0, 4, &fixed) == 0);
    same = fixed;
    cellar_cache_unfix(cache, &fixed);
    cellar_cache_unfix(cache, &fixed); /* a zeroed one is fine */
    cellar_cache_unfix(cache, &same);
    return 78;
}

static void test_debug_unfix_too_many(void **state)
{
    (void)state;
    assert_int_equal(support_child(unfix_twice, &(bool){false}), -SIGABRT);
    assert_int_equal(support_child(unfix_twice, &(bool){true}), -SIGABRT);
}

/* Everything else is as ever, only slow: in the background, with handles, with versions of pages' lengths. */
static void test_debug_is_right(void **state)
{
    struct bed bed;

    (void)state;
    for (unsigned variant = 0; variant < 4; variant++) {
        struct cellar_cache_options options = {
            .page_count = 64, .depth = variant % 2 * 3, .read_ahead_pages = variant % 2 * 4};
        struct cellar_cache *cache, *other = NULL;
        struct waited waited = {0};
        uint64_t seed = variant;

        bed_open(&bed);
        cache = bed_cache(&bed, &options);
        if (variant >= 2)
            other = bed_share(cache);
        for (int i = 0; i < 300; i++) {
            uint64_t address = support_random_below(&seed, BED_BYTES - 200);

            assert_read(&bed, i % 2 == 0 || other == NULL ? cache : other, address, 200);
            if (options.depth == 0)
                continue;
            cellar_cache_prefetch(cache, address, 300);
            assert_done(cellar_cache_load_async(cache, address, 150, note_done, &waited));
            (void)cellar_cache_poll(cache, i % 3 == 0);
        }
        poll_all(cache);
        assert_int_equal(waited.calls, options.depth == 0 ? 0 : 300);
        assert_int_equal(waited.error, 0);
        cellar_cache_close(other);
        cellar_cache_close(cache);
        bed_close(&bed);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_debug_four_pages), cmocka_unit_test(test_debug_never_lends),
        cmocka_unit_test(test_debug_crashes),    cmocka_unit_test(test_debug_unfix_too_many),
        cmocka_unit_test(test_debug_is_right),   cmocka_unit_test(test_debug_commit),
    };

    return cmocka_run_group_tests(tests, setup, NULL);
}
