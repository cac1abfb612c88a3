/* Pages that lie where a place hook says, on a device that grows: the short one is asked for again. */
#include "cache_test.h"

static int find_place(void *user, uint64_t version, uint64_t page_address, struct cellar_place *ret_place)
{
    (void)version;
    *ret_place = (struct cellar_place){.device = user, .offset = page_address};
    return 0;
}

enum { TAIL = BED_BYTES % PAGE, LAST = BED_PAGES - 1 };

static void look_away(void *user)
{
    (void)user;
    sched_yield();
}

static void check_growth(unsigned depth, void (*wait)(void *user), bool in_background)
{
    struct cellar_cache_options options = {
        .page_count = 8, .depth = depth, .hooks.place = find_place, .hooks.wait = wait};
    struct waited waited = {0};
    struct cellar_cache *cache;
    unsigned char byte;
    struct bed bed;

    bed_open(&bed);
    options.user = bed.device;
    cache = bed_cache(&bed, &options);
    cellar_cache_set_version(cache, 1);
    assert_read(&bed, cache, LAST * PAGE, TAIL);
    assert_result(cellar_cache_read(cache, BED_BYTES, &byte, 1), CELLAR_EBOUNDS);
    assert_int_equal(cellar_cache_fault_address(cache), BED_BYTES);
    assert_done(cellar_device_grow(bed.device, BED_BYTES + 4, BED_BYTES + 4));
    assert_done(support_device_write(bed.device, bed.bytes + BED_BYTES, 4, BED_BYTES));
    if (in_background) {
        assert_done(cellar_cache_load_async(cache, LAST * PAGE, TAIL + 4, note_done, &waited));
        poll_all(cache);
        assert_true(waited.calls == 1 && waited.error == 0);
        if (!support_cache_debug())
            assert_true(cellar_cache_is_cached(cache, LAST * PAGE));
        assert_done(cellar_cache_load_async(cache, LAST * PAGE, TAIL + 5, note_done, &waited));
        poll_all(cache);
        assert_result(waited.error, CELLAR_EBOUNDS);
        assert_int_equal(cellar_cache_fault_address(cache), BED_BYTES + 4);
    }
    assert_read(&bed, cache, LAST * PAGE, TAIL + 4);
    assert_result(cellar_cache_read(cache, BED_BYTES + 4, &byte, 1), CELLAR_EBOUNDS);
    assert_int_equal(cellar_cache_fault_address(cache), BED_BYTES + 4);
    if (!support_cache_debug())
        assert_int_equal(cellar_cache_counters(cache).pages, 1);
    cellar_cache_close(cache);
    bed_close(&bed);
}

static void test_growth_is_seen(void **state)
{
    (void)state;
    check_growth(0, NULL, false);
    check_growth(2, NULL, false);
    check_growth(2, NULL, true);
    check_growth(2, look_away, false);
    check_growth(2, look_away, true);
}

/* Also by another handle on the same pages, which has seen the short one, and by the one that has not asked. */
static void test_growth_is_seen_by_all(void **state)
{
    struct cellar_cache_options options = {.page_count = 8, .hooks.place = find_place};
    struct cellar_cache *cache, *other;
    struct bed bed;

    (void)state;
    bed_open(&bed);
    options.user = bed.device;
    cache = bed_cache(&bed, &options);
    cellar_cache_set_version(cache, 1);
    other = bed_share(cache);
    assert_read(&bed, cache, LAST * PAGE, TAIL);
    assert_read(&bed, other, LAST * PAGE, TAIL);
    assert_done(cellar_device_grow(bed.device, BED_BYTES + 4, BED_BYTES + 4));
    assert_done(support_device_write(bed.device, bed.bytes + BED_BYTES, 4, BED_BYTES));
    assert_read(&bed, other, LAST * PAGE, TAIL + 4);
    assert_read(&bed, cache, LAST * PAGE, TAIL + 4);
    cellar_cache_close(other);
    cellar_cache_close(cache);
    bed_close(&bed);
}

/* What the hook says is the page of another version, too, is not loaded again; but the hook had to be asked. */
static void test_same_page_later(void **state)
{
    struct cellar_cache_options options = {.page_count = 8, .hooks.place = find_place};
    struct cellar_cache *cache;
    struct bed bed;

    (void)state;
    skip_in_debug();
    bed_open(&bed);
    options.user = bed.device;
    cache = bed_cache(&bed, &options);
    for (uint64_t version = 1; version <= 5; version++) {
        cellar_cache_set_version(cache, version);
        for (int round = 0; round < 2; round++)
            assert_read(&bed, cache, 5 * PAGE, PAGE);
        assert_int_equal(bed_reads(&bed), 1);
        assert_int_equal(cellar_cache_counters(cache).misses, version);
        assert_int_equal(cellar_cache_counters(cache).hits, version);
    }
    cellar_cache_close(cache);
    bed_close(&bed);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_growth_is_seen),
        cmocka_unit_test(test_growth_is_seen_by_all),
        cmocka_unit_test(test_same_page_later),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
