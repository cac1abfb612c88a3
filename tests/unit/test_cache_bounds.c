/* The smallest and the largest numbers that caches and pipelines take. */
#include "cache_test.h"

#include <cellar/pipeline.h>
#include <limits.h>

static int map_nothing(void *user, uint64_t position, size_t length, const void **ret_bytes, size_t *ret_length)
{
    (void)user;
    (void)position;
    (void)length;
    (void)ret_bytes;
    *ret_length = 0;
    return 0;
}

static void test_pages_of_a_map(void **state)
{
    static const size_t good[] = {1, 2, 64}, bad[] = {0, 3, (size_t)1 << 31};
    struct cellar_cache *cache;

    (void)state;
    for (size_t i = 0; i < SUPPORT_COUNT(good); i++) {
        assert_done(cellar_cache_open_map(map_nothing, NULL, NULL, good[i], 1, &cache));
        cellar_cache_close(cache);
        assert_done(cellar_cache_open_map(map_nothing, NULL, NULL, 1, good[i], &cache));
        cellar_cache_close(cache);
    }
    for (size_t i = 0; i < SUPPORT_COUNT(bad); i++) {
        assert_result(cellar_cache_open_map(map_nothing, NULL, NULL, bad[i], 1, &cache), -EINVAL);
        assert_result(cellar_cache_open_map(map_nothing, NULL, NULL, 1, bad[i], &cache), -EINVAL);
    }
    assert_result(cellar_cache_open_map(NULL, NULL, NULL, 1, 1, &cache), -EINVAL);
}

static void test_pages_of_a_device(void **state)
{
    struct cellar_cache *cache;
    struct bed bed;

    (void)state;
    bed_open(&bed);
    for (size_t number = 0; number <= 9; number++) {
        bool good = number != 0 && (number & (number - 1)) == 0;

        assert_result(cellar_cache_open(bed.device, number, 4, &cache), good ? 0 : -EINVAL);
        if (good)
            cellar_cache_close(cache);
        assert_result(cellar_cache_open(bed.device, 4, number, &cache), good ? 0 : -EINVAL);
        if (good)
            cellar_cache_close(cache);
    }
    bed_close(&bed);
}

/* Numbers that no cache is large enough for. */
static void test_options_out_of_range(void **state)
{
    static const struct cellar_cache_options bad[] = {
        {.page_bytes = (size_t)1 << 31}, {.page_count = (size_t)1 << 31}, {.depth = 4097},
        {.old_pages = (1u << 30) + 1},   {.old_pages = UINT_MAX},         {.read_ahead_pages = 1}};
    struct cellar_cache *cache;
    struct bed bed;

    (void)state;
    bed_open(&bed);
    for (size_t i = 0; i < SUPPORT_COUNT(bad); i++)
        assert_result(cellar_cache_open_with(bed.device, &bad[i], &cache), -EINVAL);
    bed_close(&bed);
}

static int place_in_second(void *user, uint64_t version, uint64_t page_address, struct cellar_place *ret_place)
{
    (void)version;
    *ret_place = (struct cellar_place){.device = user, .offset = page_address};
    return 0;
}

/* A page is a block of its device at least: of the cache's, and of where its pages lie. */
static void test_pages_of_blocks(void **state)
{
    struct fault_device fault = {.block_bytes = PAGE};
    struct cellar_device *blocks;
    unsigned char byte;
    struct bed bed;

    (void)state;
    bed_open(&bed);
    assert_done(cellar_device_open_memory(NULL, 8 * PAGE, 8 * PAGE, &fault.inner));
    assert_done(fault_device_open(&fault, &blocks));
    for (size_t page_bytes = PAGE / 2; page_bytes <= 2 * PAGE; page_bytes *= 2) {
        struct cellar_cache_options options = {.page_bytes = page_bytes, .page_count = 4};
        int expected = page_bytes < PAGE ? -EINVAL : 0;
        struct cellar_cache *cache;

        assert_result(cellar_cache_open_with(blocks, &options, &cache), expected);
        if (expected == 0)
            cellar_cache_close(cache);
        options.hooks.place = place_in_second;
        options.user = blocks;
        cache = bed_cache(&bed, &options);
        assert_result(cellar_cache_read(cache, 0, &byte, 1), expected);
        cellar_cache_close(cache);
    }
    assert_done(cellar_device_close(blocks));
    bed_close(&bed);
}

/* What is asked for at once lies in one page, or can't. */
static void test_length_of_a_fix(void **state)
{
    struct cellar_cache_options options = {.page_count = 4};
    struct cellar_cache *cache;
    struct cellar_slice slice;
    struct cellar_fixed fixed;
    struct bed bed;

    (void)state;
    bed_open(&bed);
    cache = bed_cache(&bed, &options);
    for (uint64_t offset = 0; offset < PAGE; offset += 9) {
        for (size_t length = 0; length <= PAGE + 1; length++) {
            int expected = length > PAGE ? -EINVAL : offset + length > PAGE ? CELLAR_NONE : 0;

            assert_result(cellar_cache_load(cache, 3 * PAGE + offset, length, &slice), expected);
            assert_result(cellar_cache_fix(cache, 3 * PAGE + offset, length, &fixed), expected);
            if (expected == 0)
                cellar_cache_unfix(cache, &fixed);
        }
    }
    assert_int_equal(cellar_cache_counters(cache).pinned, 0);
    cellar_cache_close(cache);
    bed_close(&bed);
}

/* What a call needs of a page that was short when it was loaded, and has grown: it misses, and loads it anew. */
static void test_needs_more_than_is_cached(void **state)
{
    struct cellar_cache_options options = {.page_count = 4};
    enum { LOAD, FIX, MAP, READ, WAYS };

    (void)state;
    skip_in_debug();
    for (int way = 0; way < WAYS; way++) {
        uint64_t address = BED_BYTES - 5;
        unsigned char bytes[9];
        struct cellar_cache *cache;
        struct cellar_slice slice;
        struct cellar_fixed fixed = {.frame = NULL};
        struct bed bed;

        bed_open(&bed);
        cache = bed_cache(&bed, &options);
        assert_read(&bed, cache, BED_BYTES - 1, 1);
        assert_done(cellar_device_grow(bed.device, BED_BYTES, BED_BYTES + 4));
        assert_done(support_device_write(bed.device, bed.bytes + BED_BYTES, 4, BED_BYTES));
        switch (way) {
        case LOAD:
            assert_done(cellar_cache_load(cache, address, sizeof bytes, &slice));
            assert_int_equal(slice.length, PAGE - 6);
            break;
        case FIX:
            assert_done(cellar_cache_fix(cache, address, sizeof bytes, &fixed));
            assert_int_equal(fixed.slice.length, PAGE - 6);
            break;
        case MAP:
            assert_done(cellar_cache_map(cache, address, sizeof bytes, &fixed));
            assert_int_equal(fixed.slice.length, sizeof bytes);
            break;
        default:
            assert_read(&bed, cache, address, sizeof bytes);
        }
        assert_int_equal(cellar_cache_counters(cache).misses, 2);
        assert_int_equal(cellar_cache_counters(cache).hits, 0);
        assert_int_equal(bed_reads(&bed), 2);
        cellar_cache_unfix(cache, &fixed);
        cellar_cache_close(cache);
        bed_close(&bed);
    }
}

static void test_first_version(void **state)
{
    static const uint64_t good[] = {0, 1, CELLAR_VERSION_NEWEST / 2 - 1},
                          bad[] = {CELLAR_VERSION_NEWEST / 2, CELLAR_VERSION_NEWEST, UINT64_MAX};
    struct cellar_pipeline *pipeline;
    struct bed bed;

    (void)state;
    bed_open(&bed);
    for (size_t i = 0; i < SUPPORT_COUNT(good); i++) {
        struct cellar_pipeline_options options = {.cache.page_bytes = PAGE, .first_version = good[i]};

        assert_done(cellar_pipeline_open_with(bed.device, &options, &pipeline));
        assert_int_equal(cellar_pipeline_version(pipeline), good[i]);
        cellar_pipeline_close(pipeline);
        options.first_version = bad[i];
        assert_result(cellar_pipeline_open_with(bed.device, &options, &pipeline), -EINVAL);
    }
    bed_close(&bed);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_pages_of_a_map),       cmocka_unit_test(test_pages_of_a_device),
        cmocka_unit_test(test_options_out_of_range), cmocka_unit_test(test_pages_of_blocks),
        cmocka_unit_test(test_length_of_a_fix),      cmocka_unit_test(test_needs_more_than_is_cached),
        cmocka_unit_test(test_first_version),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
