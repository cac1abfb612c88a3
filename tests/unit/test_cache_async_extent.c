/* What an asynchronous load asks the device for: the pages of its range, each once, and no others. */
#include "cache_test.h"

static uint64_t bytes_read(struct bed *bed)
{
    return cellar_device_counters(bed->device).bytes_read;
}

static void test_its_pages_alone(void **state)
{
    struct cellar_cache_options options = {.page_count = 64, .depth = 2};
    struct bed bed;

    (void)state;
    skip_in_debug();
    bed_open(&bed);
    for (uint64_t pages = 1; pages <= 20; pages++) {
        struct cellar_cache *cache = bed_cache(&bed, &options);
        uint64_t before = bytes_read(&bed);

        assert_done(load_and_wait(cache, 5 * PAGE + 10, (size_t)(pages - 1) * PAGE + 1));
        assert_int_equal(bytes_read(&bed) - before, pages * PAGE);
        for (uint64_t page = 5; page < 5 + pages; page++)
            assert_true(cellar_cache_is_cached(cache, page * PAGE));
        assert_false(cellar_cache_is_cached(cache, 4 * PAGE));
        assert_false(cellar_cache_is_cached(cache, (5 + pages) * PAGE));
        assert_done(load_and_wait(cache, 5 * PAGE, (size_t)pages * PAGE)); /* all of it is there */
        assert_int_equal(bytes_read(&bed) - before, pages * PAGE);
        cellar_cache_close(cache);
    }
    bed_close(&bed);
}

/* What is there already, anywhere in the range, isn't asked for again. */
static void test_around_what_is_there(void **state)
{
    struct cellar_cache_options options = {.page_count = 64, .depth = 2};
    struct bed bed;

    (void)state;
    skip_in_debug();
    bed_open(&bed);
    for (uint64_t there = 5; there < 10; there++) {
        struct cellar_cache *cache = bed_cache(&bed, &options);
        unsigned parts = there > 5 && there < 9 ? 2 : 1, reads = bed_reads(&bed);
        uint64_t bytes = bytes_read(&bed);

        assert_read(&bed, cache, there * PAGE, PAGE);
        assert_done(load_and_wait(cache, 5 * PAGE, 5 * PAGE));
        assert_int_equal(bytes_read(&bed) - bytes, 5 * PAGE);
        assert_int_equal(bed_reads(&bed) - reads, 1 + parts);
        assert_read(&bed, cache, 5 * PAGE, 5 * PAGE);
        assert_int_equal(bed_reads(&bed) - reads, 1 + parts);
        cellar_cache_close(cache);
    }
    bed_close(&bed);
}

/* When a request for several pages has failed, each of them is asked for alone; those that follow go together again. */
static void test_alone_after_a_failure(void **state)
{
    struct cellar_cache_options options = {.page_count = 64, .depth = 2};
    struct cellar_cache *cache;
    struct bed bed;

    (void)state;
    skip_in_debug();
    bed_open(&bed);
    cache = bed_cache(&bed, &options);
    fault_fail(&bed.fault, FAULT_READ, 1, 1, -EIO);
    assert_done(load_and_wait(cache, 5 * PAGE, 3 * PAGE));
    assert_int_equal(bed_reads(&bed), 1 + 3);
    assert_read(&bed, cache, 5 * PAGE, 3 * PAGE);
    assert_int_equal(bed_reads(&bed), 1 + 3);
    assert_done(load_and_wait(cache, 20 * PAGE, 3 * PAGE));
    assert_int_equal(bed_reads(&bed), 1 + 3 + 1);
    cellar_cache_close(cache);
    bed_close(&bed);
}

/* ---- places ---- */

struct places {
    struct cellar_device *device;
    uint64_t apart; /* pages in a row lie so many pages apart */
};

static int find_place(void *user, uint64_t version, uint64_t page_address, struct cellar_place *ret_place)
{
    const struct places *places = user;

    (void)version;
    *ret_place = (struct cellar_place){.device = places->device, .offset = page_address * places->apart};
    return 0;
}

/* Pages that lie apart take a request each, those in a row one for all. */
static void test_pages_that_lie_apart(void **state)
{
    unsigned char got[7 * PAGE];
    struct bed bed;

    (void)state;
    skip_in_debug();
    bed_open(&bed);
    for (uint64_t apart = 1; apart <= 3; apart++) {
        struct places places = {bed.device, apart};
        struct cellar_cache_options options = {
            .page_count = 16, .depth = 2, .hooks.place = find_place, .user = &places};
        struct cellar_cache *cache = bed_cache(&bed, &options);
        unsigned reads = bed_reads(&bed);

        cellar_cache_set_version(cache, 1);
        assert_done(load_and_wait(cache, 2 * PAGE, sizeof got));
        assert_int_equal(bed_reads(&bed) - reads, apart == 1 ? 1 : 7);
        assert_done(cellar_cache_read(cache, 2 * PAGE, got, sizeof got));
        for (uint64_t i = 0; i < 7; i++)
            assert_bytes(&bed, got + i * PAGE, (2 + i) * apart * PAGE, PAGE);
        assert_int_equal(bed_reads(&bed) - reads, apart == 1 ? 1 : 7);
        cellar_cache_close(cache);
    }
    bed_close(&bed);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_its_pages_alone),
        cmocka_unit_test(test_around_what_is_there),
        cmocka_unit_test(test_alone_after_a_failure),
        cmocka_unit_test(test_pages_that_lie_apart),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
