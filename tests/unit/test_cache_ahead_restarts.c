/* Reading ahead that ends and begins again, the least there is of it, and prefetches of nothing. */
#include "cache_test.h"

#include "page/pool.h"

static void settle(struct cellar_cache *cache)
{
    while (cellar_pool_is_fetching(cache->pool))
        assert_true(cellar_cache_poll(cache, false) >= 0);
}

/* Reads pages one after the other, each when what is ahead of it has come. */
static void read_in_order(struct bed *bed, struct cellar_cache *cache, uint64_t first, uint64_t last)
{
    for (uint64_t page = first; page <= last; page++) {
        assert_read(bed, cache, page * PAGE, PAGE);
        settle(cache);
    }
}

/* A reader that goes back, and reads in order again, is read ahead for as before. */
static void test_ahead_after_going_back(void **state)
{
    struct cellar_cache_options options = {.page_count = 64, .depth = 4, .read_ahead_pages = 8};
    struct cellar_cache *cache;
    struct bed bed;
    uint64_t ahead;

    (void)state;
    skip_in_debug();
    bed_open(&bed);
    cache = bed_cache(&bed, &options);
    read_in_order(&bed, cache, 40, 60);
    ahead = cellar_cache_counters(cache).ahead;
    assert_true(ahead >= 20);
    cellar_cache_invalidate(cache, 0, UINT64_MAX);
    read_in_order(&bed, cache, 0, 20);
    assert_true(cellar_cache_counters(cache).ahead >= ahead + 19);
    assert_int_equal(cellar_cache_counters(cache).misses, 4); /* two pages begin each row */
    cellar_cache_close(cache);
    bed_close(&bed);
}

static void test_one_page_ahead(void **state)
{
    struct cellar_cache_options options = {.page_count = 16, .depth = 4, .read_ahead_pages = 1};
    struct cellar_cache *cache;
    struct bed bed;

    (void)state;
    skip_in_debug();
    bed_open(&bed);
    cache = bed_cache(&bed, &options);
    read_in_order(&bed, cache, 10, 11);
    assert_true(cellar_cache_is_cached(cache, 12 * PAGE));
    assert_false(cellar_cache_is_cached(cache, 13 * PAGE));
    assert_int_equal(cellar_cache_counters(cache).ahead, 1);
    assert_int_equal(cellar_cache_counters(cache).misses, 2);
    read_in_order(&bed, cache, 12, 20);
    assert_int_equal(cellar_cache_counters(cache).misses, 2);
    assert_int_equal(cellar_cache_counters(cache).ahead, 10);
    cellar_cache_close(cache);
    bed_close(&bed);
}

/* Of three pages ahead more are asked for when one is left, which is less than half, and not while two are. */
static void test_odd_window(void **state)
{
    static const uint64_t ahead_at[] = {0, 3, 3, 5, 5, 7, 7, 9, 9}; /* from page 10 on */
    struct cellar_cache_options options = {.page_count = 64, .depth = 4, .read_ahead_pages = 3};
    struct cellar_cache *cache;
    struct bed bed;

    (void)state;
    skip_in_debug();
    bed_open(&bed);
    cache = bed_cache(&bed, &options);
    for (uint64_t i = 0; i < SUPPORT_COUNT(ahead_at); i++) {
        read_in_order(&bed, cache, 10 + i, 10 + i);
        assert_int_equal(cellar_cache_counters(cache).ahead, ahead_at[i]);
    }
    assert_int_equal(cellar_cache_counters(cache).misses, 2);
    cellar_cache_close(cache);
    bed_close(&bed);
}

static void test_prefetch_of_nothing(void **state)
{
    static const struct {
        uint64_t address, length;
    } ranges[] = {{0, 0},
                  {5 * PAGE, 0},
                  {5 * PAGE + 1, 0},
                  {CELLAR_SOURCE_END, PAGE},
                  {UINT64_MAX, 1},
                  {UINT64_MAX, 0},
                  {CELLAR_SOURCE_END - PAGE, UINT64_MAX},
                  {BED_PAGES * PAGE, PAGE}};
    struct cellar_cache_options options = {.page_count = 16, .depth = 4};
    struct cellar_cache *cache;
    struct bed bed;

    (void)state;
    bed_open(&bed);
    cache = bed_cache(&bed, &options);
    for (size_t i = 0; i < SUPPORT_COUNT(ranges); i++) {
        cellar_cache_prefetch(cache, ranges[i].address, ranges[i].length);
        settle(cache);
        assert_int_equal(bed_reads(&bed), 0);
        assert_int_equal(cellar_cache_counters(cache).ahead, 0);
    }
    cellar_cache_close(cache);
    bed_close(&bed);
}

/* A frame that had another page is not taken for one that has arrived, while what it loads is still on its way. */
static void test_frame_that_loads(void **state)
{
    struct cellar_cache_options options = {.page_count = 2, .depth = 2};
    struct waited waited = {0};
    struct bed bed;
    unsigned char byte;

    (void)state;
    bed_open(&bed);
    for (uint64_t wanted = 0; wanted < 3; wanted++) {
        struct cellar_cache *cache = bed_cache(&bed, &options);

        for (uint64_t page = 0; page < 20; page++)
            assert_read(&bed, cache, page * PAGE, PAGE);
        cellar_cache_invalidate(cache, 0, UINT64_MAX);
        fault_fail(&bed.fault, FAULT_READ, 1, 1, -EIO);
        waited = (struct waited){0};
        assert_done(cellar_cache_load_async(cache, wanted * PAGE, PAGE, note_done, &waited));
        assert_result(cellar_cache_read(cache, wanted * PAGE, &byte, 1),
                      -EIO); /* the load's, which it has waited for */
        poll_all(cache);
        assert_int_equal(waited.calls, 1);
        assert_result(waited.error, -EIO);
        assert_read(&bed, cache, wanted * PAGE, PAGE);
        fault_heal(&bed.fault);
        cellar_cache_close(cache);
    }
    bed_close(&bed);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ahead_after_going_back),
        cmocka_unit_test(test_one_page_ahead),
        cmocka_unit_test(test_odd_window),
        cmocka_unit_test(test_prefetch_of_nothing),
        cmocka_unit_test(test_frame_that_loads),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
