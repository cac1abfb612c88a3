/* Room for what is prefetched: what a handle has only looked at makes way for it, what is fixed does not. */
#include "cache_test.h"

#include "page/pool.h"

/* Takes in all that is under way, by this handle; the others are as they were. */
static void settle_by(struct cellar_cache *cache)
{
    struct cellar_pool *pool = cache->pool;
    bool loading = true;

    while (loading) {
        assert_true(cellar_cache_poll(cache, false) >= 0);
        cellar_pool_enter(pool);
        loading = pool->loading > 0;
        cellar_pool_leave(pool);
        sched_yield();
    }
}

/* A cache of one page, and two handles on it. */
struct small {
    struct bed bed;
    struct cellar_cache *cache, *other;
};

static void open_small(struct small *small)
{
    struct cellar_cache_options options = {.page_count = 1, .depth = 2};

    skip_in_debug();
    bed_open(&small->bed);
    small->cache = bed_cache(&small->bed, &options);
    small->other = bed_share(small->cache);
}

static void close_small(struct small *small)
{
    cellar_cache_close(small->other);
    cellar_cache_close(small->cache);
    bed_close(&small->bed);
}

static void test_prefetch_lets_go(void **state)
{
    struct cellar_slice slice;
    struct small small;

    (void)state;
    open_small(&small);
    assert_done(cellar_cache_load(small.cache, 0, 1, &slice));
    cellar_cache_prefetch(small.cache, 5 * PAGE, PAGE);
    settle_by(small.other);
    assert_true(cellar_cache_is_cached(small.cache, 5 * PAGE));
    assert_false(cellar_cache_is_cached(small.cache, 0));
    assert_read(&small.bed, small.cache, 5 * PAGE, PAGE);
    assert_int_equal(bed_reads(&small.bed), 2);
    close_small(&small);
}

static void test_prefetch_leaves_what_is_fixed(void **state)
{
    struct cellar_fixed fixed;
    struct small small;

    (void)state;
    open_small(&small);
    assert_done(cellar_cache_fix(small.cache, 0, 1, &fixed));
    cellar_cache_prefetch(small.cache, 5 * PAGE, PAGE);
    settle_by(small.other);
    assert_false(cellar_cache_is_cached(small.cache, 5 * PAGE));
    assert_true(cellar_cache_is_cached(small.cache, 0));
    assert_bytes(&small.bed, fixed.slice.bytes, 0, PAGE);
    cellar_cache_unfix(small.cache, &fixed);
    assert_read(&small.bed, small.cache, 5 * PAGE, PAGE);
    close_small(&small);
}

/* The pages of the range and no others, wherever in a page it begins and ends. */
static void test_prefetch_of_whole_pages(void **state)
{
    static const struct {
        uint64_t address, length, first, last; /* pages */
    } ranges[] = {{5 * PAGE, PAGE, 5, 5},
                  {5 * PAGE, PAGE + 1, 5, 6},
                  {6 * PAGE - 1, 2, 5, 6},
                  {6 * PAGE - 1, 1, 5, 5},
                  {5 * PAGE, 20 * PAGE, 5, 24},
                  {5 * PAGE + 1, 20 * PAGE, 5, 25},
                  {0, 3 * PAGE, 0, 2},
                  {(BED_PAGES - 1) * PAGE, UINT64_MAX, BED_PAGES - 1, BED_PAGES - 1},
                  {(BED_PAGES - 2) * PAGE + 5, 3 * PAGE, BED_PAGES - 2, BED_PAGES - 1}};
    struct cellar_cache_options options = {.page_count = 64, .depth = 4};
    struct bed bed;

    (void)state;
    skip_in_debug();
    bed_open(&bed);
    for (size_t i = 0; i < SUPPORT_COUNT(ranges); i++) {
        struct cellar_cache *cache = bed_cache(&bed, &options);

        cellar_cache_prefetch(cache, ranges[i].address, ranges[i].length);
        settle_by(cache);
        for (uint64_t page = 0; page < BED_PAGES; page++)
            assert_int_equal(cellar_cache_is_cached(cache, page * PAGE),
                             page >= ranges[i].first && page <= ranges[i].last);
        assert_int_equal(cellar_cache_counters(cache).ahead, ranges[i].last - ranges[i].first + 1);
        cellar_cache_close(cache);
    }
    bed_close(&bed);
}

/* At a time no more are on their way than half of the cache, and one at least. */
static void test_prefetch_of_half_the_cache(void **state)
{
    struct bed bed;

    (void)state;
    skip_in_debug();
    bed_open(&bed);
    for (size_t page_count = 1; page_count <= 64; page_count *= 2) {
        struct cellar_cache_options options = {.page_count = page_count, .depth = 8};
        struct cellar_cache *cache = bed_cache(&bed, &options);

        bed_hold(&bed);
        for (int round = 0; round < 2; round++)
            cellar_cache_prefetch(cache, 0, BED_BYTES);
        assert_int_equal(cellar_cache_counters(cache).ahead, page_count > 1 ? page_count / 2 : 1);
        gate_open(&bed.gate);
        cellar_cache_close(cache);
    }
    bed_close(&bed);
}

/* Nobody has asked for what is prefetched: a poll doesn't wait for it. */
static void test_polls_pass_by(void **state)
{
    struct cellar_cache_options options = {.page_count = 8, .depth = 2};
    struct cellar_cache *cache;
    struct bed bed;

    (void)state;
    bed_open(&bed);
    cache = bed_cache(&bed, &options);
    bed_hold(&bed);
    cellar_cache_prefetch(cache, 5 * PAGE, PAGE);
    assert_true(gate_wait(&bed.gate, 1));
    assert_result(cellar_cache_poll(cache, false), CELLAR_NONE); /* if it waited: for ever */
    assert_result(cellar_cache_poll(cache, true), CELLAR_NONE);
    gate_open(&bed.gate);
    settle_by(cache);
    assert_read(&bed, cache, 5 * PAGE, PAGE);
    cellar_cache_close(cache);
    bed_close(&bed);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_prefetch_lets_go),        cmocka_unit_test(test_prefetch_leaves_what_is_fixed),
        cmocka_unit_test(test_prefetch_of_whole_pages), cmocka_unit_test(test_prefetch_of_half_the_cache),
        cmocka_unit_test(test_polls_pass_by),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
