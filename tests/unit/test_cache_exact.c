/* Cases at the very edge: the last byte of a page, the last byte there is, a map function that gives nothing. */
#include "cache_test.h"

#include <errno.h>
#include <fcntl.h>

/* Fixes of a shared handle cost no lock as long as it has slots: an unfix gives its own back. */
static void test_slots_come_back(void **state)
{
    struct bed bed;
    struct cellar_cache *cache, *other;

    (void)state;
    skip_in_debug();
    bed_open(&bed);
    cache = bed_cache(&bed, &(struct cellar_cache_options){0});
    assert_done(cellar_cache_share(cache, &other));
    for (uint64_t round = 0; round < 200; round++) {
        struct cellar_fixed fixed;

        assert_done(cellar_cache_fix(cache, round % 8 * PAGE, PAGE, &fixed));
        assert_true(fixed.slot > 0);
        cellar_cache_unfix(cache, &fixed);
    }
    cellar_cache_close(other);
    cellar_cache_close(cache);
    bed_close(&bed);
}

/* A page's first use is its load; what is used again after another page was looked at stays longer. */
static void test_used_again(void **state)
{
    struct cellar_cache_options options = {.page_count = 4, .eviction = CELLAR_EVICT_SIEVE};
    static const uint64_t pages[] = {1, 0, 1, 0, 2, 3, 4};
    struct bed bed;
    struct cellar_cache *cache;

    (void)state;
    skip_in_debug();
    bed_open(&bed);
    cache = bed_cache(&bed, &options);
    for (size_t i = 0; i < SUPPORT_COUNT(pages); i++) {
        struct cellar_fixed fixed;

        assert_done(cellar_cache_fix(cache, pages[i] * PAGE, PAGE, &fixed));
        cellar_cache_unfix(cache, &fixed);
    }
    for (uint64_t page = 0; page < 5; page++)
        assert_int_equal(cellar_cache_is_cached(cache, page * PAGE), page != 2);
    cellar_cache_close(cache);
    bed_close(&bed);
}

/* The last page is short: what reaches past its end is not there, and nothing stays fixed. */
static void test_fix_past_the_end(void **state)
{
    struct bed bed;
    struct cellar_fixed fixed = {.slot = 4711};
    struct cellar_cache *cache;

    (void)state;
    bed_open(&bed);
    cache = bed_cache(&bed, &(struct cellar_cache_options){0});
    for (int round = 0; round < 2; round++) { /* not cached, and cached */
        assert_result(cellar_cache_fix(cache, BED_BYTES - 1, 2, &fixed), CELLAR_NONE);
        assert_int_equal(fixed.slot, 4711);
        assert_result(cellar_cache_fix(cache, BED_BYTES - 10, 11, &fixed), CELLAR_NONE);
        assert_int_equal(fixed.slot, 4711);
        assert_result(cellar_cache_fix(cache, PAGE - 1, 2, &fixed), CELLAR_NONE); /* over the edge of a page */
        assert_int_equal(fixed.slot, 4711);
        assert_result(cellar_cache_fix(cache, (BED_PAGES + 1) * PAGE + 5, 5, &fixed), CELLAR_NONE);
        assert_int_equal(fixed.slot, 4711);
    }
    assert_done(cellar_cache_fix(cache, BED_BYTES - 1, 1, &fixed));
    assert_int_equal(fixed.slice.length, PAGE - 10);
    cellar_cache_unfix(cache, &fixed);
    cellar_cache_close(cache);
    bed_close(&bed);
}

/* A range up to the last byte of its page lies in one page: it is fixed there, and costs no load of its own. */
static void test_map_to_the_end_of_a_page(void **state)
{
    struct bed bed;
    struct cellar_cache *cache;

    (void)state;
    skip_in_debug();
    bed_open(&bed);
    cache = bed_cache(&bed, &(struct cellar_cache_options){0});
    for (uint64_t from = 0; from < PAGE; from++) {
        struct cellar_fixed fixed;

        assert_done(cellar_cache_map(cache, 3 * PAGE + from, PAGE - from, &fixed));
        assert_non_null(fixed.frame);
        assert_int_equal(fixed.slice.length, PAGE - from);
        assert_memory_equal(fixed.slice.bytes, bed.bytes + 3 * PAGE + from, PAGE - from);
        cellar_cache_unfix(cache, &fixed);
    }
    assert_int_equal(bed_reads(&bed), 1);
    cellar_cache_close(cache);
    bed_close(&bed);
}

/* ---- hooks ---- */

struct validated {
    int calls;
    size_t length; /* of the last one */
};

static int note_length(void *user, uint64_t version, uint64_t page_address, const void *bytes, size_t length)
{
    struct validated *validated = user;

    (void)version;
    (void)page_address;
    (void)bytes;
    validated->calls++;
    validated->length = length;
    return 0;
}

/* A page of a single byte is looked at, too; where there is nothing, nothing is. */
static void test_validate_the_shortest(void **state)
{
    struct cellar_cache_options options = {.page_bytes = PAGE, .page_count = 4, .hooks.validate = note_length};
    struct validated validated = {.calls = 0};
    unsigned char bytes[2 * PAGE + 1] = {0};
    struct cellar_device *device;
    struct cellar_cache *cache;
    struct cellar_slice slice;

    (void)state;
    options.user = &validated;
    assert_done(cellar_device_open_memory(bytes, sizeof bytes, sizeof bytes, &device));
    assert_done(cellar_cache_open_with(device, &options, &cache));
    assert_done(cellar_cache_load(cache, 2 * PAGE, 1, &slice));
    assert_true(validated.calls == 1 && validated.length == 1);
    assert_result(cellar_cache_load(cache, 3 * PAGE, 1, &slice), CELLAR_NONE);
    assert_int_equal(validated.calls, 1);
    cellar_cache_close(cache);
    assert_done(cellar_device_close(device));
}

/* What is validated is mapped as a copy, which grows with what is there. A mapping of its own is for the debug mode. */
static void test_map_a_large_copy(void **state)
{
    enum { LARGE = 1 << 20 };
    struct cellar_cache_options options = {.page_bytes = 4096, .page_count = 4, .hooks.validate = note_length};
    unsigned char *bytes = malloc(LARGE);
    struct validated validated = {.calls = 0};
    struct cellar_device *device;
    struct cellar_cache *cache;
    struct cellar_fixed fixed;

    (void)state;
    assert_non_null(bytes);
    support_bytes(12, bytes, LARGE);
    options.user = &validated;
    assert_done(cellar_device_open_memory(bytes, LARGE, LARGE, &device));
    assert_done(cellar_cache_open_with(device, &options, &cache));
    for (size_t from = 0; from < 10000; from += 3333) {
        assert_done(cellar_cache_map(cache, from, LARGE, &fixed));
        assert_int_equal(fixed.slice.length, LARGE - from);
        assert_memory_equal(fixed.slice.bytes, bytes + from, LARGE - from);
        assert_int_equal(fixed.slot, support_cache_debug() ? 2 : 1);
        cellar_cache_unfix(cache, &fixed);
    }
    cellar_cache_close(cache);
    assert_done(cellar_device_close(device));
    free(bytes);
}

/* ---- in the background ---- */

/* Every page is fixed, and none is on its way: there is nothing to wait for. */
static void test_no_frame_for_an_async_load(void **state)
{
    struct cellar_cache_options options = {.page_count = 2, .depth = 2};
    struct bed bed;
    struct cellar_fixed fixed[2];
    struct cellar_cache *cache;

    (void)state;
    if (support_cache_debug())
        support_skip("the debug mode of the cache has four pages");
    bed_open(&bed);
    cache = bed_cache(&bed, &options);
    for (uint64_t page = 0; page < 2; page++)
        assert_done(cellar_cache_fix(cache, page * PAGE, 1, &fixed[page]));
    assert_result(load_and_wait(cache, 5 * PAGE, 1), CELLAR_EPINNED);
    assert_int_equal(cellar_cache_fault_address(cache), 5 * PAGE);
    for (int page = 0; page < 2; page++)
        cellar_cache_unfix(cache, &fixed[page]);
    cellar_cache_close(cache);
    bed_close(&bed);
}

/* A request for two pages that fails: each is asked for alone, and has its own answer. */
static void test_two_pages_fail_together(void **state)
{
    struct cellar_cache_options options = {.page_count = 8, .depth = 2};
    struct bed bed;

    (void)state;
    bed_open(&bed);
    for (uint64_t failing = 0; failing < 4; failing++) {
        struct cellar_cache *cache = bed_cache(&bed, &options);

        if (failing > 0)
            fault_fail(&bed.fault, FAULT_READ, 1, failing, -EIO);
        assert_result(load_and_wait(cache, 0, 2 * PAGE), failing < 2 ? 0 : -EIO);
        fault_heal(&bed.fault);
        assert_result(load_and_wait(cache, 0, 2 * PAGE), 0);
        cellar_cache_close(cache);
    }
    bed_close(&bed);
}

/* The same pages for all versions from the third on. */
static int place_since_three(void *user, uint64_t version, uint64_t page_address, struct cellar_place *ret_place)
{
    if (version < 3)
        return CELLAR_NONE;
    *ret_place = (struct cellar_place){.version = 3, .device = user, .offset = page_address};
    return 0;
}

/* What was loaded in the background for a version is there for it. */
static void test_async_with_versions(void **state)
{
    struct cellar_cache_options options = {.page_count = 8, .depth = 2, .hooks.place = place_since_three};
    struct bed bed;
    struct cellar_cache *cache;

    (void)state;
    skip_in_debug();
    bed_open(&bed);
    options.user = bed.device;
    cache = bed_cache(&bed, &options);
    cellar_cache_set_version(cache, 5);
    assert_done(load_and_wait(cache, 0, PAGE));
    assert_int_equal(bed_reads(&bed), 1);
    assert_true(cellar_cache_is_cached(cache, 0));
    assert_read(&bed, cache, 0, PAGE);
    assert_int_equal(bed_reads(&bed), 1);
    cellar_cache_close(cache);
    bed_close(&bed);
}

static void wait_hook(void *user)
{
    (void)user;
    sched_yield();
}

static int open_descriptors(void)
{
    int count = 0;

    for (int descriptor = 0; descriptor < 256; descriptor++)
        count += fcntl(descriptor, F_GETFD) >= 0;
    return count;
}

/* Where tasks wait in the hook, the descriptors of all handles tell what one of them has taken in; elsewhere only the
 * one that has something to do. */
static void test_descriptors_of_others(void **state)
{
    (void)state;
    skip_in_debug();
    for (int with_hook = 0; with_hook < 2; with_hook++) {
        struct cellar_cache_options options = {.page_count = 8, .depth = 2};
        struct bed bed;
        struct cellar_cache *cache, *other;
        int descriptor, open_before = open_descriptors();

        bed_open(&bed);
        options.hooks.wait = with_hook ? wait_hook : NULL;
        cache = bed_cache(&bed, &options);
        other = bed_share(cache);
        descriptor = cellar_cache_descriptor(other);
        assert_true(descriptor >= 0);
        assert_false(is_readable(descriptor, 0));
        assert_true(cellar_cache_poll(cache, false) >= 0); /* nothing is there */
        assert_false(is_readable(descriptor, 0));
        assert_done(load_and_wait(cache, 0, PAGE));
        assert_int_equal(is_readable(descriptor, 0), with_hook);
        assert_true(cellar_cache_poll(other, false) >= 0);
        assert_false(is_readable(descriptor, 0));
        cellar_cache_close(other);
        cellar_cache_close(cache);
        bed_close(&bed);
        assert_int_equal(open_descriptors(), open_before);
    }
}

/* ---- reading ahead ---- */

/* Takes in all that is under way. */
static void settle(struct cellar_cache *cache, uint64_t page_count)
{
    for (uint64_t page = 0; page < page_count; page++) {
        while (!cellar_cache_is_cached(cache, page * PAGE))
            assert_true(cellar_cache_poll(cache, true) >= 0);
    }
}

/* The window doubles, and moves on, when half of it or less is left: at once, and not before. */
static void test_when_it_reads_ahead(void **state)
{
    static const uint64_t ahead_of[] = {4,  4,  4,  11, 11, 11, 11, 11, 24, 24, 24, 24, 24, 24,
                                        24, 24, 24, 33, 33, 33, 33, 33, 33, 33, 33, 33, 42, 42};
    struct cellar_cache_options options = {.page_count = 256, .depth = 16, .read_ahead_pages = 16};
    struct bed bed;
    struct cellar_cache *cache;

    (void)state;
    skip_in_debug();
    bed_open(&bed);
    cache = bed_cache(&bed, &options);
    for (uint64_t page = 0; page < SUPPORT_COUNT(ahead_of); page++) {
        unsigned char byte;

        assert_done(cellar_cache_read(cache, page * PAGE, &byte, 1));
        assert_int_equal(cellar_cache_counters(cache).ahead, ahead_of[page]);
        settle(cache, 1 + ahead_of[page]);
    }
    cellar_cache_close(cache);
    bed_close(&bed);
}

/* ---- map functions ---- */

struct ground {
    int result, maps, unmaps;
    size_t length;
};

static int map_ground(void *user, uint64_t address, size_t length, const void **ret_bytes, size_t *ret_length)
{
    static const unsigned char bytes[PAGE];
    struct ground *ground = user;

    (void)address;
    ground->maps++;
    if (ground->result != 0)
        return ground->result;
    *ret_bytes = bytes;
    *ret_length = ground->length < length ? ground->length : length;
    return 0;
}

static void unmap_ground(void *user, const void *bytes, size_t length)
{
    struct ground *ground = user;

    (void)bytes;
    assert_true(length > 0);
    ground->unmaps++;
}

/* What a map function may not say is an error; what it lent goes back once, and nothing where it lent nothing. */
static void test_map_functions(void **state)
{
    static const struct {
        int result;
        size_t length;
        int expected, unmaps;
    } rows[] = {{0, PAGE, 0, 1}, {0, 1, 0, 1},       {0, 0, CELLAR_NONE, 0}, {1, 0, -EIO, 0},
                {2, 0, -EIO, 0}, {-EIO, 0, -EIO, 0}, {-1, 0, -1, 0}};

    (void)state;
    for (size_t i = 0; i < SUPPORT_COUNT(rows); i++) {
        struct ground ground = {.result = rows[i].result, .length = rows[i].length};
        struct cellar_slice slice;
        struct cellar_cache *cache;

        assert_done(cellar_cache_open_map(map_ground, unmap_ground, &ground, PAGE, 4, &cache));
        assert_result(cellar_cache_load(cache, 0, 1, &slice), rows[i].expected);
        assert_true(ground.maps >= 1);
        cellar_cache_close(cache);
        assert_int_equal(ground.unmaps, rows[i].unmaps);
    }
}

/* A run that has nothing of what was asked for is given back at once. */
static void test_map_past_a_short_run(void **state)
{
    (void)state;
    if (support_cache_debug())
        support_skip("the debug mode of the cache copies");
    for (size_t length = 1; length <= PAGE / 2; length++) {
        struct ground ground = {.length = length};
        struct cellar_fixed fixed;
        struct cellar_cache *cache;

        assert_done(cellar_cache_open_map(map_ground, unmap_ground, &ground, PAGE, 4, &cache));
        assert_done(cellar_cache_map(cache, PAGE / 2, PAGE, &fixed));
        assert_int_equal(fixed.slice.length, 0);
        assert_int_equal(ground.maps, 1);
        assert_int_equal(ground.unmaps, 1);
        cellar_cache_unfix(cache, &fixed);
        assert_int_equal(ground.unmaps, 1);
        cellar_cache_close(cache);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_slots_come_back),
        cmocka_unit_test(test_used_again),
        cmocka_unit_test(test_fix_past_the_end),
        cmocka_unit_test(test_map_to_the_end_of_a_page),
        cmocka_unit_test(test_validate_the_shortest),
        cmocka_unit_test(test_map_a_large_copy),
        cmocka_unit_test(test_no_frame_for_an_async_load),
        cmocka_unit_test(test_two_pages_fail_together),
        cmocka_unit_test(test_async_with_versions),
        cmocka_unit_test(test_descriptors_of_others),
        cmocka_unit_test(test_when_it_reads_ahead),
        cmocka_unit_test(test_map_functions),
        cmocka_unit_test(test_map_past_a_short_run),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
