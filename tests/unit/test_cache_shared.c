/* Handles that share frames, case by case: what two threads do to one page at the same time. */
#include "cache_test.h"

#include <unistd.h>

/* Two handles, and a third one that looks on. */
struct pair {
    struct bed bed;
    struct cellar_cache *one, *two, *watcher;
};

static void pair_open(struct pair *pair, const struct cellar_cache_options *options)
{
    bed_open(&pair->bed);
    pair->one = bed_cache(&pair->bed, options);
    pair->two = bed_share(pair->one);
    pair->watcher = bed_share(pair->two);
}

static void pair_close(struct pair *pair)
{
    cellar_cache_close(pair->one);
    cellar_cache_close(pair->watcher);
    cellar_cache_close(pair->two);
    bed_close(&pair->bed);
}

/* One read is held in the device, and another thread waits for the same page. */
static void start_both(struct pair *pair, struct reading *first, struct reading *second)
{
    bed_hold(&pair->bed);
    reading_start(first, pair->one, 3 * PAGE, PAGE);
    assert_true(gate_wait(&pair->bed.gate, 1));
    reading_start(second, pair->two, 3 * PAGE + 1, PAGE - 1);
    wait_for_pins(pair->watcher, 1);
}

static void test_shared_one_load(void **state)
{
    struct cellar_cache_options options = {.page_count = 8};
    struct reading first, second;
    struct pair pair;

    (void)state;
    pair_open(&pair, &options);
    start_both(&pair, &first, &second);
    gate_open(&pair.bed.gate);
    assert_done(reading_end(&first));
    assert_done(reading_end(&second));
    assert_bytes(&pair.bed, first.bytes, 3 * PAGE, PAGE);
    assert_bytes(&pair.bed, second.bytes, 3 * PAGE + 1, PAGE - 1);
    assert_int_equal(bed_reads(&pair.bed), 1);
    assert_int_equal(cellar_cache_counters(pair.one).misses, 1);
    assert_int_equal(cellar_cache_counters(pair.two).misses, 1);
    assert_int_equal(cellar_cache_counters(pair.two).hits, 0);
    assert_int_equal(cellar_cache_counters(pair.watcher).misses, 0);
    assert_int_equal(cellar_cache_counters(pair.watcher).pinned, 0);
    if (!support_cache_debug()) {
        assert_int_equal(cellar_cache_counters(pair.watcher).pages, 1);
        assert_read(&pair.bed, pair.watcher, 3 * PAGE, PAGE);
        assert_int_equal(cellar_cache_counters(pair.watcher).hits, 1);
    }
    pair_close(&pair);
}

static void test_shared_failed_load(void **state)
{
    struct cellar_cache_options options = {.page_count = 8};
    struct reading first, second;
    struct pair pair;

    (void)state;
    pair_open(&pair, &options);
    fault_fail(&pair.bed.fault, FAULT_READ, 1, 1, -EIO);
    start_both(&pair, &first, &second);
    gate_open(&pair.bed.gate);
    assert_result(reading_end(&first), -EIO);
    assert_result(reading_end(&second), -EIO);
    assert_int_equal(cellar_cache_fault_address(pair.one), 3 * PAGE);
    assert_int_equal(cellar_cache_fault_address(pair.two), 3 * PAGE);
    assert_int_equal(bed_reads(&pair.bed), 1);
    assert_int_equal(cellar_cache_counters(pair.watcher).pages, 0);
    assert_int_equal(cellar_cache_counters(pair.watcher).pinned, 0);
    assert_false(cellar_cache_is_cached(pair.watcher, 3 * PAGE));
    assert_read(&pair.bed, pair.two, 3 * PAGE, PAGE);
    assert_int_equal(bed_reads(&pair.bed), 2);
    pair_close(&pair);
}

/* What the device reads is what it had before the write: nobody may be given it, or find it later. */
static void test_shared_invalidated_load(void **state)
{
    struct cellar_cache_options options = {.page_count = 8};
    struct reading first, second;
    struct pair pair;

    (void)state;
    pair_open(&pair, &options);
    start_both(&pair, &first, &second);
    memset(pair.bed.bytes + 3 * PAGE, 77, PAGE);
    assert_done(support_device_write(pair.bed.fault.inner, pair.bed.bytes + 3 * PAGE, PAGE, 3 * PAGE));
    cellar_cache_invalidate(pair.watcher, 3 * PAGE + 5, 1);
    gate_open(&pair.bed.gate);
    assert_done(reading_end(&first));
    assert_done(reading_end(&second));
    assert_bytes(&pair.bed, first.bytes, 3 * PAGE, PAGE);
    assert_bytes(&pair.bed, second.bytes, 3 * PAGE + 1, PAGE - 1);
    assert_true(bed_reads(&pair.bed) >= 2); /* the doomed one, and what came instead */
    assert_read(&pair.bed, pair.watcher, 3 * PAGE, PAGE);
    pair_close(&pair);
}

/* The same for a load in the background that others wait for. */
static void test_shared_invalidated_fetch(void **state)
{
    struct cellar_cache_options options = {.page_count = 8, .depth = 2};
    struct waited waited = {0};
    struct reading second;
    struct pair pair;

    (void)state;
    skip_in_debug();
    pair_open(&pair, &options);
    bed_hold(&pair.bed);
    assert_done(cellar_cache_load_async(pair.one, 3 * PAGE, PAGE, note_done, &waited));
    reading_start(&second, pair.two, 3 * PAGE, PAGE);
    wait_for_pins(pair.watcher, 1);
    memset(pair.bed.bytes + 3 * PAGE, 77, PAGE);
    assert_done(support_device_write(pair.bed.fault.inner, pair.bed.bytes + 3 * PAGE, PAGE, 3 * PAGE));
    cellar_cache_invalidate(pair.watcher, 0, UINT64_MAX);
    gate_open(&pair.bed.gate);
    assert_done(reading_end(&second));
    assert_bytes(&pair.bed, second.bytes, 3 * PAGE, PAGE);
    poll_all(pair.one);
    assert_int_equal(waited.error, 0);
    assert_int_equal(bed_reads(&pair.bed), 2);
    assert_read(&pair.bed, pair.one, 3 * PAGE, PAGE);
    pair_close(&pair);
}

/* ---- pins ---- */

static void test_shared_fix_stays(void **state)
{
    struct cellar_cache_options options = {.page_count = 2};
    struct cellar_fixed fixed;
    unsigned char before[PAGE];
    struct pair pair;

    (void)state;
    pair_open(&pair, &options);
    assert_done(cellar_cache_fix(pair.one, 0, PAGE, &fixed));
    memcpy(before, fixed.slice.bytes, PAGE);
    assert_int_equal(cellar_cache_counters(pair.watcher).pinned, 1);
    for (uint64_t page = 1; page < 20; page++)
        assert_read(&pair.bed, pair.two, page * PAGE, PAGE);
    assert_memory_equal(fixed.slice.bytes, before, PAGE);
    /* Overwritten, invalidated, loaded anew: what is fixed stays as it was. */
    memset(pair.bed.bytes, 78, PAGE);
    assert_done(support_device_write(pair.bed.device, pair.bed.bytes, PAGE, 0));
    cellar_cache_invalidate(pair.two, 0, 1);
    assert_int_equal(cellar_cache_counters(pair.watcher).pinned, 1);
    assert_read(&pair.bed, pair.two, 0, PAGE);
    assert_read(&pair.bed, pair.one, 0, PAGE);
    assert_memory_equal(fixed.slice.bytes, before, PAGE);
    assert_true(cellar_cache_counters(pair.watcher).pages <= 1);
    cellar_cache_unfix(pair.one, &fixed);
    assert_int_equal(cellar_cache_counters(pair.watcher).pinned, 0);
    pair_close(&pair);
}

static void test_shared_growth_while_fixed(void **state)
{
    struct cellar_cache_options options = {.page_count = 4};
    struct cellar_fixed fixed, longer;
    struct pair pair;

    (void)state;
    pair_open(&pair, &options);
    assert_done(cellar_cache_fix(pair.one, 127 * PAGE, 1, &fixed));
    assert_int_equal(fixed.slice.length, PAGE - 10);
    assert_done(cellar_device_grow(pair.bed.device, BED_BYTES, BED_BYTES + 4));
    assert_done(support_device_write(pair.bed.device, pair.bed.bytes + BED_BYTES, 4, BED_BYTES));
    assert_read(&pair.bed, pair.two, 127 * PAGE, PAGE - 6);
    assert_done(cellar_cache_fix(pair.one, 127 * PAGE, PAGE - 6, &longer));
    assert_int_equal(longer.slice.length, PAGE - 6);
    assert_int_equal(fixed.slice.length, PAGE - 10);
    assert_bytes(&pair.bed, fixed.slice.bytes, 127 * PAGE, PAGE - 10);
    assert_bytes(&pair.bed, longer.slice.bytes, 127 * PAGE, PAGE - 6);
    assert_int_equal(cellar_cache_counters(pair.watcher).pinned, 2);
    cellar_cache_unfix(pair.one, &fixed);
    cellar_cache_unfix(pair.one, &longer);
    assert_int_equal(cellar_cache_counters(pair.watcher).pinned, 0);
    pair_close(&pair);
}

/* More fixes of one handle than stand in its hazards, some of the same page, undone out of order. */
static void test_shared_many_fixes(void **state)
{
    enum { FIXES = 40 };
    struct cellar_cache_options options = {.page_count = 64};
    struct cellar_fixed fixed[FIXES];
    struct pair pair;

    (void)state;
    skip_in_debug();
    pair_open(&pair, &options);
    for (uint64_t i = 0; i < FIXES; i++)
        assert_done(cellar_cache_fix(pair.one, i / 2 * PAGE, PAGE, &fixed[i]));
    assert_int_equal(cellar_cache_counters(pair.watcher).pinned, FIXES / 2);
    for (uint64_t page = FIXES; page < BED_PAGES - 1; page++)
        assert_read(&pair.bed, pair.two, page * PAGE, PAGE);
    cellar_cache_invalidate(pair.two, 0, 10 * PAGE);
    for (uint64_t page = 0; page < BED_PAGES - 1; page++)
        assert_read(&pair.bed, pair.two, page * PAGE, PAGE);
    for (size_t i = 0; i < FIXES; i++) {
        size_t at = i * 7 % FIXES;

        assert_int_equal(fixed[at].slice.address, at / 2 * PAGE);
        assert_bytes(&pair.bed, fixed[at].slice.bytes, at / 2 * PAGE, PAGE);
        cellar_cache_unfix(pair.one, &fixed[at]);
        assert_null(fixed[at].slice.bytes);
    }
    assert_int_equal(cellar_cache_counters(pair.watcher).pinned, 0);
    assert_true(cellar_cache_counters(pair.watcher).pages <= 64);
    pair_close(&pair);
}

/* Fixed by many handles, whose hazards the eviction only meets when it has chosen. */
static void test_shared_pages_beside_many_hazards(void **state)
{
    static const enum cellar_eviction evictions[] = {CELLAR_EVICT_SIEVE, CELLAR_EVICT_S3FIFO, CELLAR_EVICT_CLOCK};
    enum { HANDLES = 8, EACH = 14 };
    struct cellar_fixed fixed[HANDLES][EACH];
    struct cellar_cache *cache, *handles[HANDLES];
    struct bed bed;

    (void)state;
    skip_in_debug();
    for (size_t variant = 0; variant < SUPPORT_COUNT(evictions); variant++) {
        struct cellar_cache_options options = {.page_bytes = PAGE, .page_count = 128, .eviction = evictions[variant]};

        bed_open(&bed);
        assert_done(cellar_device_grow(bed.device, BED_BYTES, sizeof bed.bytes));
        assert_done(support_device_write(bed.device, bed.bytes, sizeof bed.bytes, 0));
        cache = bed_cache(&bed, &options);
        for (uint64_t i = 0; i < HANDLES; i++) {
            handles[i] = bed_share(cache);
            for (uint64_t k = 0; k < EACH; k++)
                assert_done(cellar_cache_fix(handles[i], (i * EACH + k) * PAGE, PAGE, &fixed[i][k]));
        }
        for (uint64_t page = 0; page < 256; page++) {
            assert_read(&bed, cache, page * PAGE, PAGE);
            assert_int_equal(bed_reads(&bed), page < HANDLES * EACH ? HANDLES * EACH : page + 1);
        }
        assert_true(cellar_cache_counters(cache).pages <= 128);
        for (size_t i = 0; i < HANDLES; i++) {
            for (size_t k = 0; k < EACH; k++) {
                assert_bytes(&bed, fixed[i][k].slice.bytes, (i * EACH + k) * PAGE, PAGE);
                cellar_cache_unfix(handles[i], &fixed[i][k]);
            }
            cellar_cache_close(handles[i]);
        }
        cellar_cache_close(cache);
        bed_close(&bed);
    }
}

static void test_shared_all_pinned(void **state)
{
    struct cellar_cache_options options = {.page_count = 4, .depth = 2};
    struct cellar_fixed fixed[4], other;
    struct waited waited = {0};
    struct pair pair;
    unsigned reads;
    uint8_t byte;

    (void)state;
    pair_open(&pair, &options);
    for (uint64_t i = 0; i < 4; i++)
        assert_done(cellar_cache_fix(i % 2 == 0 ? pair.one : pair.two, i * PAGE, PAGE, &fixed[i]));
    reads = bed_reads(&pair.bed);
    assert_result(cellar_cache_get_u8(pair.two, 4 * PAGE, &byte), CELLAR_EPINNED);
    assert_result(cellar_cache_fix(pair.one, 5 * PAGE, 1, &other), CELLAR_EPINNED);
    assert_true(bed_reads(&pair.bed) <= reads + 2); /* it tries for a while, but the device is not asked each time */
    assert_done(cellar_cache_load_async(pair.one, 6 * PAGE, 1, note_done, &waited));
    poll_all(pair.one);
    assert_int_equal(waited.error, CELLAR_EPINNED);
    cellar_cache_prefetch(pair.one, 8 * PAGE, 10 * PAGE);
    assert_read(&pair.bed, pair.two, 3 * PAGE, PAGE); /* what is there is there */
    assert_int_equal(cellar_cache_counters(pair.watcher).pinned, 4);
    cellar_cache_invalidate(pair.watcher, 0, PAGE); /* stale pages go on to count */
    assert_result(cellar_cache_get_u8(pair.two, 4 * PAGE, &byte), CELLAR_EPINNED);
    cellar_cache_unfix(pair.one, &fixed[0]);
    assert_read(&pair.bed, pair.two, 4 * PAGE, PAGE);
    for (size_t i = 1; i < 4; i++)
        cellar_cache_unfix(i % 2 == 0 ? pair.one : pair.two, &fixed[i]);
    assert_int_equal(cellar_cache_counters(pair.watcher).pinned, 0);
    pair_close(&pair);
}

/* ---- limits ---- */

static void overwrite(struct pair *pair, uint64_t address, int with, size_t length)
{
    memset(pair->bed.bytes + address, with, length);
    assert_done(support_device_write(pair->bed.device, pair->bed.bytes + address, length, address));
}

/* What lies behind a limit changes, without a word, until somebody's limit is past it. */
static void test_shared_limits(void **state)
{
    struct cellar_cache_options options = {.page_count = 16, .depth = 2};
    struct cellar_slice slice;
    struct waited waited = {0};
    struct pair pair;
    uint8_t byte;

    (void)state;
    pair_open(&pair, &options);
    cellar_cache_set_limit(pair.one, 2 * PAGE + 5);
    cellar_cache_set_limit(pair.two, 2 * PAGE + 5);
    assert_read(&pair.bed, pair.one, 0, 2 * PAGE + 5);
    assert_result(cellar_cache_get_u8(pair.one, 2 * PAGE + 5, &byte), CELLAR_EBOUNDS);
    assert_int_equal(cellar_cache_fault_address(pair.one), 2 * PAGE + 5);
    assert_done(cellar_cache_load(pair.one, 2 * PAGE, 0, &slice));
    assert_int_equal(slice.length, 5);
    /* By every way that loads: none may bring more than the limit. */
    cellar_cache_invalidate(pair.one, 0, UINT64_MAX);
    cellar_cache_prefetch(pair.one, 0, 10 * PAGE);
    assert_done(cellar_cache_load_async(pair.one, 0, 2 * PAGE + 5, note_done, &waited));
    poll_all(pair.one);
    assert_int_equal(waited.error, 0);
    overwrite(&pair, 2 * PAGE + 5, 1, 20);
    cellar_cache_set_limit(pair.two, 2 * PAGE + 15);
    assert_read(&pair.bed, pair.two, 2 * PAGE, 15);
    overwrite(&pair, 2 * PAGE + 15, 2, 2 * PAGE);
    assert_read(&pair.bed, pair.one, 2 * PAGE, 5);
    assert_result(cellar_cache_get_u8(pair.one, 2 * PAGE + 5, &byte), CELLAR_EBOUNDS);
    cellar_cache_set_limit(pair.one, 4 * PAGE);
    assert_read(&pair.bed, pair.one, 0, 4 * PAGE);
    assert_read(&pair.bed, pair.two, 0, 2 * PAGE + 15);
    assert_result(cellar_cache_get_u8(pair.two, 2 * PAGE + 15, &byte), CELLAR_EBOUNDS);
    assert_result(cellar_cache_load(pair.two, 3 * PAGE, 1, &slice), CELLAR_NONE);
    /* Lower than before. */
    cellar_cache_set_limit(pair.one, PAGE);
    assert_false(cellar_cache_is_cached(pair.one, PAGE));
    assert_result(cellar_cache_get_u8(pair.one, PAGE, &byte), CELLAR_EBOUNDS);
    cellar_cache_set_limit(pair.one, 0);
    assert_result(cellar_cache_get_u8(pair.one, 0, &byte), CELLAR_EBOUNDS);
    pair_close(&pair);
}

/* ---- handles ---- */

static void test_shared_handles(void **state)
{
    struct cellar_cache_options options = {.page_count = 8, .eviction = CELLAR_EVICT_CLOCK, .depth = 1};
    struct cellar_cache *cache, *other, *copy;
    struct cellar_slice slice;
    struct cellar_fixed fixed;
    struct bed bed;

    (void)state;
    skip_in_debug();
    bed_open(&bed);
    cache = bed_cache(&bed, &options);
    cellar_cache_set_version(cache, 7);
    cellar_cache_set_limit(cache, 4 * PAGE);
    assert_done(cellar_cache_fix(cache, 0, PAGE, &fixed)); /* before there was another handle */
    other = bed_share(cache);
    assert_int_equal(cellar_cache_version(other), 7);
    assert_result(cellar_cache_load(other, 4 * PAGE, 1, &slice), CELLAR_NONE);
    assert_read(&bed, other, 0, PAGE);
    assert_int_equal(cellar_cache_counters(other).hits, 1);
    assert_int_equal(cellar_cache_counters(cache).hits, 0);
    assert_int_equal(cellar_cache_counters(cache).misses, 1);
    cellar_cache_set_version(other, 3);
    assert_int_equal(cellar_cache_version(cache), 7);
    assert_done(cellar_cache_copy(other, &copy));
    assert_int_equal(cellar_cache_version(copy), CELLAR_VERSION_NEWEST);
    assert_int_equal(cellar_cache_counters(copy).pages, 0);
    assert_int_equal(cellar_cache_counters(copy).misses, 0);
    assert_int_equal(cellar_cache_page_count(copy), 8);
    assert_true(cellar_cache_descriptor(copy) >= 0); /* it has a queue of its own */
    assert_read(&bed, copy, 0, BED_BYTES % 1024);
    cellar_cache_close(copy);
    cellar_cache_unfix(cache, &fixed);
    cellar_cache_close(cache); /* the frames go with the last */
    assert_read(&bed, other, 0, PAGE);
    assert_int_equal(bed_reads(&bed), 1 + (BED_BYTES % 1024 + PAGE - 1) / PAGE);
    cellar_cache_close(other);
    bed_close(&bed);
}

static int close_in_child(void *user)
{
    struct pair *pair = user;

    cellar_cache_close(pair->one);
    cellar_cache_close(pair->two);
    cellar_cache_close(pair->watcher);
    return 0;
}

/* A thread waits for the load of another one, and a third forks: the child has neither. */
static void test_shared_fork(void **state)
{
    struct cellar_cache_options options = {.page_count = 8, .depth = 2};
    struct reading first, second;
    struct pair pair;

    (void)state;
    pair_open(&pair, &options);
    start_both(&pair, &first, &second);
    assert_int_equal(support_child(close_in_child, &pair), 0);
    gate_open(&pair.bed.gate);
    assert_done(reading_end(&first));
    assert_done(reading_end(&second));
    pair_close(&pair);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_shared_one_load),         cmocka_unit_test(test_shared_failed_load),
        cmocka_unit_test(test_shared_invalidated_load), cmocka_unit_test(test_shared_invalidated_fetch),
        cmocka_unit_test(test_shared_fix_stays),        cmocka_unit_test(test_shared_growth_while_fixed),
        cmocka_unit_test(test_shared_many_fixes),       cmocka_unit_test(test_shared_pages_beside_many_hazards),
        cmocka_unit_test(test_shared_all_pinned),       cmocka_unit_test(test_shared_limits),
        cmocka_unit_test(test_shared_handles),          cmocka_unit_test(test_shared_fork),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
