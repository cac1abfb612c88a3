/* What a handle lets go of when pages are forgotten, and what it is given at its limit. */
#include "cache_test.h"

/* Two handles, and one page between them. */
struct pair {
    struct bed bed;
    struct cellar_cache *cache, *other;
};

static void pair_open(struct pair *pair)
{
    struct cellar_cache_options options = {.page_count = 1};

    bed_open(&pair->bed);
    pair->cache = bed_cache(&pair->bed, &options);
    pair->other = bed_share(pair->cache);
}

static void pair_close(struct pair *pair)
{
    cellar_cache_close(pair->other);
    cellar_cache_close(pair->cache);
    bed_close(&pair->bed);
}

/* The page that the handle looked at last makes room for another handle's. */
static void test_invalidate_lets_go(void **state)
{
    struct pair pair;
    struct cellar_slice slice;

    (void)state;
    pair_open(&pair);
    assert_done(cellar_cache_load(pair.cache, 0, 1, &slice));
    cellar_cache_invalidate(pair.cache, 0, PAGE);
    assert_read(&pair.bed, pair.other, 5 * PAGE, PAGE);
    assert_int_equal(cellar_cache_counters(pair.cache).pages, 1);
    pair_close(&pair);
}

/* So does a handle whose limit moves. */
static void test_limit_lets_go(void **state)
{
    struct pair pair;
    struct cellar_slice slice;

    (void)state;
    pair_open(&pair);
    assert_done(cellar_cache_load(pair.cache, 0, 1, &slice));
    cellar_cache_set_limit(pair.cache, 100 * PAGE);
    assert_read(&pair.bed, pair.other, 5 * PAGE, PAGE);
    pair_close(&pair);
}

/* And one that has fixed a page, and unfixed it: the fix held it, not the look that came with it. */
static void test_unfix_lets_go(void **state)
{
    struct pair pair;
    struct cellar_fixed fixed;

    (void)state;
    pair_open(&pair);
    for (int mapped = 0; mapped < 2; mapped++) {
        if (mapped)
            assert_done(cellar_cache_map(pair.cache, 0, PAGE, &fixed));
        else
            assert_done(cellar_cache_fix(pair.cache, 0, 1, &fixed));
        cellar_cache_unfix(pair.cache, &fixed);
        assert_read(&pair.bed, pair.other, 5 * PAGE, PAGE);
    }
    pair_close(&pair);
}

/* A run that begins at the limit is empty, and costs nothing. */
static void test_map_at_the_limit(void **state)
{
    static const uint64_t limits[] = {5 * PAGE, 5 * PAGE + 1, 5 * PAGE + 10, 6 * PAGE - 1};
    struct cellar_cache_options options = {.page_count = 8};
    struct cellar_cache *cache;
    struct cellar_fixed fixed;
    struct bed bed;

    (void)state;
    bed_open(&bed);
    cache = bed_cache(&bed, &options);
    for (size_t i = 0; i < SUPPORT_COUNT(limits); i++) {
        cellar_cache_set_limit(cache, limits[i]);
        for (uint64_t address = limits[i]; address <= limits[i] + PAGE; address++) {
            for (size_t length = 0; length <= 3 * PAGE; length += PAGE) {
                assert_done(cellar_cache_map(cache, address, length, &fixed));
                assert_int_equal(fixed.slice.address, address);
                assert_int_equal(fixed.slice.length, 0);
                cellar_cache_unfix(cache, &fixed);
            }
        }
        assert_int_equal(cellar_cache_counters(cache).misses, 0);
        assert_int_equal(bed_reads(&bed), 0);
    }
    cellar_cache_close(cache);
    bed_close(&bed);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_invalidate_lets_go),
        cmocka_unit_test(test_limit_lets_go),
        cmocka_unit_test(test_unfix_lets_go),
        cmocka_unit_test(test_map_at_the_limit),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
