/* The table of the frames, and what it says of a frame that a search for room has passed. */
#include "cache_test.h"

#include "page/pool.h"

/* Two heads for each frame at least, so that chains are short; and less than four. */
static void test_heads(void **state)
{
    struct bed bed;

    (void)state;
    skip_in_debug();
    bed_open(&bed);
    for (size_t page_count = 1; page_count <= 4096; page_count *= 2) {
        for (unsigned kept = 0; kept < 4000; kept += 777) {
            struct cellar_cache_options options = {.page_count = page_count, .old_pages = kept};
            struct cellar_cache *cache = bed_cache(&bed, &options);
            size_t heads = (size_t)1 << (64 - cache->pool->heads_shift), frames = cache->pool->frame_count;

            assert_true(frames > page_count + kept);
            assert_true(heads >= 2 * frames && heads < 4 * frames);
            cellar_cache_close(cache);
        }
    }
    bed_close(&bed);
}

/* A page that another handle looks at stays, and is still found without the lock. */
static void test_tag_of_what_is_passed(void **state)
{
    struct cellar_cache_options options = {.page_count = 4};
    struct cellar_cache *cache, *other;
    struct bed bed;

    (void)state;
    skip_in_debug();
    bed_open(&bed);
    for (int eviction = CELLAR_EVICT_DEFAULT; eviction <= CELLAR_EVICT_CLOCK; eviction++) {
        struct cellar_slice slice;
        struct cellar_frame *frame;

        options.eviction = (enum cellar_eviction)eviction;
        cache = bed_cache(&bed, &options);
        other = bed_share(cache);
        assert_done(cellar_cache_load(other, 0, 1, &slice));
        for (uint64_t page = 1; page < 40; page++)
            assert_read(&bed, cache, page * PAGE, PAGE);
        frame = cellar_pool_lookup(cache->pool, 0, CELLAR_VERSION_NEWEST);
        assert_non_null(frame);
        assert_int_equal(atomic_load(&frame->tag), 1);
        assert_int_equal(frame->pins, 0);
        assert_bytes(&bed, slice.bytes, 0, PAGE);
        assert_int_equal(cellar_cache_counters(cache).pages, 4);
        cellar_cache_close(other);
        cellar_cache_close(cache);
    }
    bed_close(&bed);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_heads),
        cmocka_unit_test(test_tag_of_what_is_passed),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
