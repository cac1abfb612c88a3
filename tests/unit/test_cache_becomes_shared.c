/* From the moment that a cache is shared: what was at hand before is looked up anew, and what a hit gives stays. */
#include "cache_test.h"

/* The single handle had the page at hand, and doesn't hear of what the other one does to it. */
static void test_lines_are_emptied(void **state)
{
    struct cellar_cache_options options = {.page_count = 4, .copy = true};
    struct cellar_cache *cache, *other;
    unsigned char changed;
    struct bed bed;
    uint8_t byte;

    (void)state;
    bed_open(&bed);
    cache = bed_cache(&bed, &options);
    for (int round = 0; round < 2; round++) { /* the second is inline */
        assert_done(cellar_cache_get_u8(cache, 5, &byte));
        assert_int_equal(byte, bed.bytes[5]);
    }
    other = bed_share(cache);
    changed = (unsigned char)(bed.bytes[5] + 1);
    assert_done(support_device_write(bed.device, &changed, 1, 5));
    cellar_cache_invalidate(other, 0, PAGE);
    assert_done(cellar_cache_get_u8(cache, 5, &byte));
    assert_int_equal(byte, changed);
    cellar_cache_close(other);
    cellar_cache_close(cache);
    bed_close(&bed);
}

/* The page that a handle has found, not loaded, is its own until its next call. */
static void test_hits_stay(void **state)
{
    struct cellar_cache_options options = {.page_count = 4};
    struct bed bed;

    (void)state;
    skip_in_debug();
    bed_open(&bed);
    for (int eviction = CELLAR_EVICT_DEFAULT; eviction <= CELLAR_EVICT_CLOCK; eviction++) {
        struct cellar_cache *cache, *other;
        struct cellar_slice slice;

        options.eviction = (enum cellar_eviction)eviction;
        cache = bed_cache(&bed, &options);
        other = bed_share(cache);
        for (uint64_t i = 0; i < 3; i++)
            assert_done(cellar_cache_load(cache, i % 2 * PAGE, 1, &slice));
        assert_int_equal(cellar_cache_counters(cache).hits, 1);
        for (uint64_t page = 2; page < 40; page++)
            assert_read(&bed, other, page * PAGE, PAGE);
        assert_true(cellar_cache_is_cached(cache, 0));
        assert_false(cellar_cache_is_cached(cache, PAGE));
        assert_bytes(&bed, slice.bytes, 0, PAGE);
        cellar_cache_close(other);
        cellar_cache_close(cache);
    }
    bed_close(&bed);
}

/* A fix of what isn't all there holds nothing. */
static void test_failed_fix_lets_go(void **state)
{
    struct cellar_cache_options options = {.page_count = 1};
    struct cellar_cache *cache, *other;
    struct cellar_fixed fixed;
    struct bed bed;

    (void)state;
    bed_open(&bed);
    cache = bed_cache(&bed, &options);
    other = bed_share(cache);
    assert_result(cellar_cache_fix(cache, (BED_PAGES - 1) * PAGE, PAGE, &fixed), CELLAR_NONE);
    assert_read(&bed, other, 5 * PAGE, PAGE);
    assert_int_equal(cellar_cache_counters(cache).pages, 1);
    cellar_cache_close(other);
    cellar_cache_close(cache);
    bed_close(&bed);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lines_are_emptied),
        cmocka_unit_test(test_hits_stay),
        cmocka_unit_test(test_failed_fix_lets_go),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
