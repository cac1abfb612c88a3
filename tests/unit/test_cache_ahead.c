/* Prefetching and reading ahead: what is loaded before anybody asks, and what that must not do. */
#include "cache_test.h"

static void settle(struct cellar_cache *cache)
{
    struct waited waited = {0};

    /* What was submitted before is done when this has come, as no more than one goes on at a time. */
    assert_done(cellar_cache_load_async(cache, 127 * PAGE, 1, note_done, &waited));
    poll_all(cache);
    assert_int_equal(waited.error, 0);
}

static void test_prefetch(void **state)
{
    struct cellar_cache_options options = {.page_count = 64, .depth = 4};
    struct cellar_cache *cache;
    struct bed bed;

    (void)state;
    skip_in_debug();
    bed_open(&bed);
    cache = bed_cache(&bed, &options);
    assert_read(&bed, cache, 12 * PAGE, 1);
    bed_hold(&bed);
    cellar_cache_prefetch(cache, 10 * PAGE + 63, 4 * PAGE);
    assert_true(gate_wait(&bed.gate, 2)); /* 10 and 11, 13 and 14 */
    assert_int_equal(cellar_cache_counters(cache).ahead, 4);
    assert_false(cellar_cache_is_cached(cache, 10 * PAGE));
    cellar_cache_prefetch(cache, 10 * PAGE, 5 * PAGE); /* all known */
    cellar_cache_prefetch(cache, 10 * PAGE, 0);
    cellar_cache_prefetch(cache, (uint64_t)1 << 63, 10);
    cellar_cache_prefetch(cache, BED_PAGES * PAGE, UINT64_MAX);
    assert_int_equal(cellar_cache_counters(cache).ahead, 4);
    gate_open(&bed.gate);
    for (uint64_t page = 10; page <= 14; page++)
        assert_read(&bed, cache, page * PAGE, PAGE);
    assert_int_equal(cellar_device_counters(bed.device).bytes_read, 5 * PAGE);
    /* To the end, and past it. */
    cellar_cache_prefetch(cache, 125 * PAGE, UINT64_MAX);
    for (uint64_t page = 125; page < 127; page++)
        assert_read(&bed, cache, page * PAGE, PAGE);
    assert_read(&bed, cache, 127 * PAGE, PAGE - 10);
    assert_int_equal(cellar_device_counters(bed.device).bytes_read, 8 * PAGE - 10);
    assert_int_equal(cellar_cache_counters(cache).ahead, 7);
    cellar_cache_close(cache);
    bed_close(&bed);
}

/* A hint fails silently: one bad page of a request is no reason to refuse the others. */
static void test_prefetch_fails(void **state)
{
    struct cellar_cache_options options = {.page_count = 64, .depth = 4};
    struct waited waited = {0};
    struct cellar_cache *cache, *other;
    struct reading reading;
    struct bed bed;

    (void)state;
    skip_in_debug();
    bed_open(&bed);
    cache = bed_cache(&bed, &options);
    other = bed_share(cache);
    fault_fail(&bed.fault, FAULT_READ, 1, 1, -EIO);
    bed_hold(&bed);
    cellar_cache_prefetch(cache, 20 * PAGE, 10 * PAGE);
    reading_start(&reading, other, 22 * PAGE, PAGE);
    wait_for_pins(cache, 1);
    assert_done(cellar_cache_load_async(cache, 25 * PAGE, 4 * PAGE, note_done, &waited));
    gate_open(&bed.gate);
    assert_done(reading_end(&reading));
    assert_bytes(&bed, reading.bytes, 22 * PAGE, PAGE);
    poll_all(cache);
    assert_int_equal(waited.error, 0);
    assert_read(&bed, cache, 20 * PAGE, 10 * PAGE);
    cellar_cache_close(other);
    cellar_cache_close(cache);
    bed_close(&bed);
}

/* The device is cut, where nothing is cached, below pages that it was known to have. */
static void test_prefetch_of_cut_device(void **state)
{
    struct cellar_cache_options options = {.page_count = 64, .depth = 1};
    struct waited waited = {0};
    struct cellar_cache *cache;
    unsigned char byte;
    struct bed bed;

    (void)state;
    bed_open(&bed);
    cache = bed_cache(&bed, &options);
    assert_read(&bed, cache, 0, 1);
    assert_done(cellar_device_trim(bed.device, 24 * PAGE));
    cellar_cache_prefetch(cache, 20 * PAGE, 10 * PAGE);
    assert_read(&bed, cache, 23 * PAGE, PAGE);
    assert_result(cellar_cache_read(cache, 24 * PAGE, &byte, 1), CELLAR_EBOUNDS);
    assert_done(cellar_device_trim(bed.device, 18 * PAGE + 7));
    assert_done(cellar_cache_load_async(cache, 16 * PAGE, 2 * PAGE + 7, note_done, &waited));
    poll_all(cache);
    assert_int_equal(waited.error, 0);
    assert_done(cellar_device_trim(bed.device, 10 * PAGE + 7));
    assert_done(cellar_cache_load_async(cache, 10 * PAGE, 8, note_done, &waited));
    poll_all(cache);
    assert_int_equal(waited.error, CELLAR_EBOUNDS);
    cellar_cache_close(cache);
    bed_close(&bed);
}

/* ---- reading in order ---- */

enum way { BY_BYTES, BY_READS, BY_FIXES };

static void read_in_order(struct bed *bed, struct cellar_cache *cache, enum way way, uint64_t from, uint64_t to)
{
    while (from < to) {
        struct cellar_fixed fixed;
        size_t step = 1;
        uint8_t byte;

        if (way == BY_BYTES) {
            assert_done(cellar_cache_get_u8(cache, from, &byte));
            assert_int_equal(byte, bed->bytes[from]);
        } else if (way == BY_READS) {
            step = to - from < 100 ? (size_t)(to - from) : 100;
            assert_read(bed, cache, from, step);
        } else {
            assert_done(cellar_cache_fix(cache, from, 1, &fixed));
            assert_bytes(bed, fixed.slice.bytes, fixed.slice.address, fixed.slice.length);
            step = fixed.slice.length;
            cellar_cache_unfix(cache, &fixed);
        }
        from += step;
    }
}

static void test_ahead_in_order(void **state)
{
    struct bed bed;

    (void)state;
    skip_in_debug();
    for (int variant = 0; variant < 12; variant++) {
        struct cellar_cache_options options = {
            .page_count = 64, .depth = variant % 4 < 2 ? 1 : 4, .read_ahead_pages = variant % 4 % 2 == 0 ? 16 : 3};
        struct cellar_cache_counters counters;
        struct cellar_cache *cache;

        bed_open(&bed);
        cache = bed_cache(&bed, &options);
        read_in_order(&bed, cache, (enum way)(variant / 4), 8 * PAGE, BED_BYTES);
        counters = cellar_cache_counters(cache);
        /* Each page once, nearly all of them before they were asked for. */
        assert_int_equal(cellar_device_counters(bed.device).bytes_read, BED_BYTES - 8 * PAGE);
        assert_true(counters.ahead >= 100);
        cellar_cache_close(cache);
        bed_close(&bed);
    }
}

/* What is read ahead never takes the frame of the page that it is read ahead of. */
static void test_ahead_in_small_cache(void **state)
{
    struct bed bed;

    (void)state;
    for (unsigned variant = 0; variant < 16; variant++) {
        struct cellar_cache_options options = {
            .page_count = (size_t)1 << variant % 4, .depth = 4, .read_ahead_pages = 8};
        struct cellar_cache *cache, *other = NULL;

        bed_open(&bed);
        cache = bed_cache(&bed, &options);
        if (variant / 4 % 2 == 1)
            other = bed_share(cache);
        for (int round = 0; round < 3; round++)
            read_in_order(&bed, cache, variant < 8 ? BY_READS : BY_FIXES, 0, BED_BYTES);
        assert_true(cellar_cache_counters(cache).pages <= options.page_count);
        cellar_cache_close(other);
        cellar_cache_close(cache);
        bed_close(&bed);
    }
}

static void test_ahead_not_out_of_order(void **state)
{
    struct cellar_cache_options options = {.page_count = 32, .depth = 4, .read_ahead_pages = 16};
    struct cellar_cache *cache;
    uint64_t page = 5, loaded = 5, seed = 3;
    struct bed bed;

    (void)state;
    bed_open(&bed);
    cache = bed_cache(&bed, &options);
    for (int i = 0; i < 500; i++) {
        page = 1 + support_random_below(&seed, BED_PAGES - 2);
        if (page == loaded + 1)
            continue;
        if (!cellar_cache_is_cached(cache, page * PAGE))
            loaded = page;
        assert_read(&bed, cache, page * PAGE + 3, 10);
    }
    for (page = BED_PAGES - 2; page > 0; page--) /* backwards */
        assert_read(&bed, cache, page * PAGE + 3, 10);
    for (page = 3; page < BED_PAGES; page += 2) /* by steps */
        assert_read(&bed, cache, page * PAGE + 3, 10);
    assert_int_equal(cellar_cache_counters(cache).ahead, 0);
    cellar_cache_close(cache);
    bed_close(&bed);
}

/* A first use of what was read ahead is a first use. */
static void test_ahead_keeps_hot_pages(void **state)
{
    static const enum cellar_eviction evictions[] = {CELLAR_EVICT_SIEVE, CELLAR_EVICT_S3FIFO, CELLAR_EVICT_CLOCK};
    struct bed bed;

    (void)state;
    skip_in_debug();
    for (int variant = 0; variant < 12; variant++) {
        struct cellar_cache_options options = {
            .page_count = 32, .eviction = evictions[variant % 3], .depth = 2, .read_ahead_pages = variant < 6 ? 8 : 0};
        struct cellar_cache *cache, *other = NULL;

        bed_open(&bed);
        cache = bed_cache(&bed, &options);
        if (variant / 3 % 2 == 1)
            other = bed_share(cache);
        for (int round = 0; round < 3; round++) {
            for (uint64_t page = 0; page < 16; page += 2)
                assert_read(&bed, cache, page * PAGE, 1);
        }
        /* A scan of three times the cache, during which each hot page is used now and then. */
        for (uint64_t page = 20; page < 116; page += 8) {
            read_in_order(&bed, cache, BY_BYTES, page * PAGE, (page + 8) * PAGE);
            for (uint64_t hot = 0; hot < 16; hot += 2)
                assert_true(cellar_cache_is_cached(cache, hot * PAGE));
            for (uint64_t hot = 0; hot < 16; hot += 2)
                assert_read(&bed, cache, hot * PAGE, 1);
        }
        cellar_cache_close(other);
        cellar_cache_close(cache);
        bed_close(&bed);
    }
}

/* Failures of what nobody has asked for are silent; the end of the device, too. */
static void test_ahead_fails(void **state)
{
    struct cellar_cache_options options = {.page_count = 64, .depth = 1, .read_ahead_pages = 8};
    struct cellar_cache *cache;
    struct bed bed;

    (void)state;
    bed_open(&bed);
    cache = bed_cache(&bed, &options);
    assert_read(&bed, cache, 30 * PAGE, 1);
    fault_fail(&bed.fault, FAULT_READ, 2, 1, -EIO); /* 31 alone, then what follows */
    assert_read(&bed, cache, 31 * PAGE, 1);
    assert_read(&bed, cache, 32 * PAGE, 1);
    read_in_order(&bed, cache, BY_READS, 33 * PAGE, BED_BYTES);
    settle(cache);
    cellar_cache_close(cache);
    bed_close(&bed);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_prefetch),
        cmocka_unit_test(test_prefetch_fails),
        cmocka_unit_test(test_prefetch_of_cut_device),
        cmocka_unit_test(test_ahead_in_order),
        cmocka_unit_test(test_ahead_in_small_cache),
        cmocka_unit_test(test_ahead_not_out_of_order),
        cmocka_unit_test(test_ahead_keeps_hot_pages),
        cmocka_unit_test(test_ahead_fails),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
