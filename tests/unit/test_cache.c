/* The cache: pages, pins, ranges, maps, counters; on every device, over bare functions, and where the device fails. */
#include "page_test.h"
#include "support.h"

#include <cellar/cache.h>

enum { LENGTH = 1003, PAGE = 32 };

static void fill(unsigned char bytes[LENGTH])
{
    fill_random(bytes, LENGTH, 7);
}

static void assert_slice(const struct cellar_slice *slice, uint64_t address, const unsigned char *bytes, size_t length)
{
    assert_int_equal(slice->address, address);
    assert_int_equal(slice->length, length);
    if (length > 0)
        assert_memory_equal(slice->bytes, bytes + address, length);
}

static void test_cache_geometry(void **state)
{
    static const size_t bad[] = {0, 3, 6, 1000, (size_t)1 << 31, SIZE_MAX};
    struct cellar_device *device = open_ground(ON_MEMORY, (const unsigned char *)"abc", 3);
    struct cellar_cache *cache;

    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_int_equal(cellar_cache_open(device, bad[i], 4, &cache), -EINVAL);
        assert_int_equal(cellar_cache_open(device, 4, bad[i], &cache), -EINVAL);
    }
    assert_int_equal(cellar_cache_open_map(NULL, NULL, NULL, 4, 4, &cache), -EINVAL);
    assert_int_equal(cellar_cache_open(device, 1, 1, &cache), 0);
    assert_int_equal(cellar_cache_page_bytes(cache), 1);
    assert_int_equal(cellar_cache_page_count(cache), 1);
    cellar_cache_close(cache);
    assert_int_equal(cellar_cache_open(device, 512, 64, &cache), 0);
    assert_int_equal(cellar_cache_page_bytes(cache), 512);
    assert_int_equal(cellar_cache_page_count(cache), support_cache_debug() ? 4 : 64);
    cellar_cache_close(cache);
    cellar_cache_close(NULL);
    cellar_device_close(device);
}

static void test_cache_load(void **state)
{
    unsigned char bytes[LENGTH];

    (void)state;
    fill(bytes);
    for (enum ground ground = 0; ground < GROUND_COUNT; ground++) {
        struct cellar_device *device = open_ground(ground, bytes, LENGTH);
        struct cellar_cache *cache;
        struct cellar_slice slice, rest;

        assert_int_equal(cellar_cache_open(device, PAGE, 4, &cache), 0);
        assert_int_equal(cellar_cache_load(cache, 70, 5, &slice), 0);
        assert_slice(&slice, 64, bytes, PAGE);
        assert_int_equal(cellar_slice_rest(&slice, 70, &rest), 0);
        assert_slice(&rest, 70, bytes, 26);
        assert_int_equal(cellar_slice_rest(&slice, 64, &rest), 0);
        assert_slice(&rest, 64, bytes, PAGE);
        assert_int_equal(cellar_slice_rest(&slice, 96, &rest), 0);
        assert_int_equal(rest.length, 0);
        assert_int_equal(cellar_slice_rest(&slice, 97, &rest), -EINVAL);
        assert_int_equal(cellar_slice_rest(&slice, 63, &rest), -EINVAL);
        assert_int_equal(cellar_slice_rest(&slice, 0, &rest), -EINVAL);
        /* What fits, and what doesn't. */
        assert_int_equal(cellar_cache_load(cache, 70, 26, &slice), 0);
        assert_int_equal(cellar_cache_load(cache, 70, 27, &slice), CELLAR_NONE);
        assert_int_equal(cellar_cache_load(cache, 64, PAGE, &slice), 0);
        assert_int_equal(cellar_cache_load(cache, 64, PAGE + 1, &slice), -EINVAL);
        assert_int_equal(cellar_cache_load(cache, 5000, SIZE_MAX, &slice), -EINVAL);
        /* The short last page: 992 to 1003. */
        assert_int_equal(cellar_cache_load(cache, 1000, 3, &slice), 0);
        assert_slice(&slice, 992, bytes, 11);
        assert_int_equal(cellar_cache_load(cache, 1000, 4, &slice), CELLAR_NONE);
        assert_int_equal(cellar_cache_load(cache, 1003, 0, &slice), 0);
        assert_slice(&slice, 992, bytes, 11);
        assert_int_equal(cellar_cache_load(cache, 1004, 0, &slice), CELLAR_NONE);
        /* Beyond. */
        assert_int_equal(cellar_cache_load(cache, 1024, 0, &slice), 0);
        assert_slice(&slice, 1024, bytes, 0);
        assert_int_equal(cellar_cache_load(cache, 1025, 0, &slice), CELLAR_NONE);
        assert_int_equal(cellar_cache_load(cache, 1024, 1, &slice), CELLAR_NONE);
        assert_int_equal(cellar_cache_load(cache, UINT64_MAX, 1, &slice), CELLAR_NONE);
        assert_int_equal(cellar_cache_load(cache, (uint64_t)1 << 63, 1, &slice), CELLAR_NONE);
        cellar_cache_close(cache);
        assert_int_equal(cellar_device_close(device), 0);
    }
}

static void test_cache_next_and_walk(void **state)
{
    unsigned char bytes[LENGTH];

    (void)state;
    fill(bytes);
    for (enum ground ground = 0; ground < GROUND_COUNT; ground++) {
        struct cellar_device *device = open_ground(ground, bytes, LENGTH);
        uint64_t address = 0, walked = 17;
        struct cellar_cache *cache;
        struct cellar_slice slice, far = {.address = UINT64_MAX - 5};

        assert_int_equal(cellar_cache_open(device, PAGE, 2, &cache), 0);
        assert_int_equal(cellar_cache_load(cache, 0, 1, &slice), 0);
        do {
            assert_slice(&slice, address, bytes, address < 992 ? PAGE : 11);
            address += PAGE;
        } while (cellar_cache_next(cache, &slice, &slice) == 0);
        assert_int_equal(address, 1024);
        assert_int_equal(cellar_cache_next(cache, &slice, &slice), CELLAR_NONE);
        assert_int_equal(cellar_cache_next(cache, &far, &slice), CELLAR_NONE);
        /* A walk from the middle of a page: 15, then whole pages, then 11. */
        for (uint64_t expected = 17; expected < LENGTH; expected = walked) {
            assert_int_equal(cellar_cache_walk(cache, &walked, &slice), 0);
            assert_slice(&slice, expected, bytes, expected == 17 ? 15 : expected < 992 ? PAGE : 11);
            assert_int_equal(walked, slice.address + slice.length);
        }
        assert_int_equal(cellar_cache_walk(cache, &walked, &slice), CELLAR_NONE);
        assert_int_equal(walked, LENGTH);
        walked = 5000;
        assert_int_equal(cellar_cache_walk(cache, &walked, &slice), CELLAR_NONE);
        cellar_cache_close(cache);
        cellar_device_close(device);
    }
}

static void test_cache_read(void **state)
{
    unsigned char bytes[LENGTH], got[LENGTH];

    (void)state;
    fill(bytes);
    for (enum ground ground = 0; ground < GROUND_COUNT; ground++) {
        struct cellar_device *device = open_ground(ground, bytes, LENGTH);
        struct cellar_cache *cache;

        assert_int_equal(cellar_cache_open(device, PAGE, 2, &cache), 0);
        for (size_t from = 0; from < LENGTH; from += 13) {
            for (size_t length = 0; from + length <= LENGTH; length += 71) {
                assert_int_equal(cellar_cache_read(cache, from, got, length), 0);
                assert_memory_equal(got, bytes + from, length);
            }
        }
        assert_int_equal(cellar_cache_read(cache, 0, got, LENGTH), 0);
        assert_memory_equal(got, bytes, LENGTH);
        assert_int_equal(cellar_cache_read(cache, 900, got, 104), CELLAR_EBOUNDS);
        assert_int_equal(cellar_cache_fault_address(cache), LENGTH);
        assert_int_equal(cellar_cache_read(cache, 1010, got, 1), CELLAR_EBOUNDS);
        assert_int_equal(cellar_cache_fault_address(cache), 1010);
        assert_int_equal(cellar_cache_read(cache, 4096, got, LENGTH), CELLAR_EBOUNDS);
        assert_int_equal(cellar_cache_fault_address(cache), 4096);
        assert_int_equal(cellar_cache_read(cache, UINT64_MAX - 3, got, 100), CELLAR_EBOUNDS);
        assert_int_equal(cellar_cache_fault_address(cache), UINT64_MAX - 3);
        assert_int_equal(cellar_cache_read(cache, UINT64_MAX, NULL, 0), 0);
        cellar_cache_close(cache);
        cellar_device_close(device);
    }
}

static void test_cache_counters(void **state)
{
    unsigned char bytes[LENGTH], got[3 * PAGE];
    struct cellar_device *device;
    struct cellar_cache *cache, *copy;
    struct cellar_cache_counters counters;
    uint16_t value;

    (void)state;
    if (support_cache_debug())
        support_skip("the debug mode of the cache gives pages up at once");
    fill(bytes);
    device = open_ground(ON_PREAD, bytes, LENGTH);
    assert_int_equal(cellar_cache_open(device, PAGE, 4, &cache), 0);
    assert_int_equal(cellar_cache_read(cache, 5, got, 2 * PAGE), 0); /* pages 0, 1, 2 */
    counters = cellar_cache_counters(cache);
    assert_true(counters.hits == 0 && counters.misses == 3 && counters.evictions == 0 && counters.pages == 3);
    assert_int_equal(cellar_device_counters(device).reads, 3);
    assert_int_equal(cellar_cache_get_u16_le(cache, 31, &value), 0); /* two pages: two lookups */
    assert_int_equal(cellar_cache_get_u16_le(cache, 40, &value), 0);
    counters = cellar_cache_counters(cache);
    assert_true(counters.hits == 3 && counters.misses == 3);
    assert_int_equal(cellar_cache_read(cache, 4 * PAGE - 1, got, 2), 0); /* pages 3, 4: one too many */
    counters = cellar_cache_counters(cache);
    assert_true(counters.misses == 5 && counters.evictions == 1 && counters.pages == 4 && counters.pinned == 0);
    assert_int_equal(cellar_cache_read(cache, LENGTH, got, 1), CELLAR_EBOUNDS);
    assert_int_equal(cellar_cache_counters(cache).misses, 6);
    /* A copy is empty, and the two don't know of each other. */
    assert_int_equal(cellar_cache_copy(cache, &copy), 0);
    assert_int_equal(cellar_cache_page_bytes(copy), PAGE);
    assert_int_equal(cellar_cache_page_count(copy), 4);
    counters = cellar_cache_counters(copy);
    assert_true(counters.hits == 0 && counters.misses == 0 && counters.pages == 0);
    assert_true(cellar_cache_is_cached(cache, 4 * PAGE));
    assert_false(cellar_cache_is_cached(copy, 4 * PAGE));
    assert_int_equal(cellar_cache_read(copy, 0, got, 2), 0);
    assert_memory_equal(got, bytes, 2);
    cellar_cache_close(cache);
    assert_int_equal(cellar_cache_read(copy, 200, got, 2), 0);
    cellar_cache_close(copy);
    cellar_device_close(device);
}

static void test_cache_loads_needed(void **state)
{
    struct trial *trial = new_trial(4096, 1);
    struct cellar_device *device = open_trial(trial, TRIAL_COPIES);
    struct cellar_cache *cache, *fresh;
    unsigned char got[4096];

    (void)state;
    assert_int_equal(cellar_cache_open(device, 64, 64, &cache), 0);
    for (uint64_t address = 0; address < 300; address += 7) {
        for (size_t length = 1; length < 600; length += 37) {
            unsigned before = trial->reads;

            assert_int_equal(cellar_cache_copy(cache, &fresh), 0);
            assert_int_equal(cellar_cache_read(fresh, address, got, length), 0);
            assert_int_equal(cellar_cache_loads_needed(cache, address, length), trial->reads - before);
            cellar_cache_close(fresh);
        }
    }
    assert_int_equal(cellar_cache_loads_needed(cache, 0, 0), 0);
    assert_int_equal(cellar_cache_loads_needed(cache, 63, UINT64_MAX), (UINT64_MAX >> 6) + 2);
    cellar_cache_close(cache);
    cellar_device_close(device);
    free(trial);
}

static void test_cache_invalidate(void **state)
{
    struct trial *trial = new_trial(1024, 2);
    struct cellar_device *device = open_trial(trial, TRIAL_COPIES);
    struct cellar_cache *cache;
    unsigned char got[1024];

    (void)state;
    if (support_cache_debug())
        support_skip("the debug mode of the cache gives pages up at once");
    assert_int_equal(cellar_cache_open(device, 64, 16, &cache), 0);
    assert_int_equal(cellar_cache_read(cache, 0, got, 1024), 0);
    memset(trial->bytes, 0x55, 1024);
    assert_int_equal(cellar_cache_read(cache, 130, got, 1), 0);
    assert_int_not_equal(got[0], 0x55); /* a copy shows what was loaded */
    cellar_cache_invalidate(cache, 130, 0);
    assert_true(cellar_cache_is_cached(cache, 130));
    cellar_cache_invalidate(cache, 191, 2); /* pages 2 and 3 */
    for (uint64_t page = 0; page < 16; page++)
        assert_int_equal(cellar_cache_is_cached(cache, page * 64 + 63), page != 2 && page != 3);
    assert_int_equal(cellar_cache_read(cache, 130, got, 1), 0);
    assert_int_equal(got[0], 0x55);
    assert_int_equal(cellar_cache_counters(cache).pages, 15);
    assert_int_equal(cellar_cache_counters(cache).evictions, 0);
    cellar_cache_invalidate(cache, 1023, UINT64_MAX); /* past any end */
    assert_false(cellar_cache_is_cached(cache, 1023));
    assert_true(cellar_cache_is_cached(cache, 959));
    cellar_cache_invalidate(cache, 64, UINT64_MAX - 64);
    assert_int_equal(cellar_cache_counters(cache).pages, 1);
    cellar_cache_invalidate(cache, 5000, 100);
    cellar_cache_invalidate(cache, 0, UINT64_MAX);
    assert_int_equal(cellar_cache_counters(cache).pages, 0);
    assert_int_equal(cellar_cache_read(cache, 0, got, 1024), 0);
    assert_int_equal(got[700], 0x55);
    cellar_cache_close(cache);
    cellar_device_close(device);
    free(trial);
}

static void test_cache_fix(void **state)
{
    unsigned char bytes[LENGTH], got[2];

    (void)state;
    fill(bytes);
    for (enum ground ground = 0; ground < GROUND_COUNT; ground++) {
        struct cellar_device *device = open_ground(ground, bytes, LENGTH);
        struct cellar_fixed a, again, b, c = {0}, none;
        struct cellar_cache *cache;
        struct cellar_slice slice;

        assert_int_equal(cellar_cache_open(device, PAGE, 2, &cache), 0);
        assert_int_equal(cellar_cache_fix(cache, 3, 1, &a), 0);
        assert_slice(&a.slice, 0, bytes, PAGE);
        assert_int_equal(cellar_cache_fix(cache, 8, 8, &again), 0);
        assert_ptr_equal(again.slice.bytes, a.slice.bytes);
        for (uint64_t address = 64; address < LENGTH; address += PAGE) /* everything goes through the other frame */
            assert_int_equal(cellar_cache_read(cache, address, got, 1), 0);
        assert_slice(&a.slice, 0, bytes, PAGE);
        assert_true(cellar_cache_is_cached(cache, 0));
        assert_int_equal(cellar_cache_fix(cache, 100, 1, &b), 0);
        assert_int_equal(cellar_cache_counters(cache).pinned, 2);
        /* Nothing is left to load into; what is there can still be had. */
        assert_int_equal(cellar_cache_fix(cache, 500, 1, &c), CELLAR_EPINNED);
        assert_int_equal(cellar_cache_load(cache, 500, 1, &slice), CELLAR_EPINNED);
        assert_int_equal(cellar_cache_read(cache, 95, got, 2), CELLAR_EPINNED);
        assert_int_equal(cellar_cache_map(cache, 500, 1, &c), CELLAR_EPINNED);
        assert_int_equal(cellar_cache_read(cache, 4, got, 2), 0);
        assert_null(c.slice.bytes);
        cellar_cache_unfix(cache, &c);
        cellar_cache_unfix(cache, &a);
        assert_null(a.frame);
        assert_int_equal(cellar_cache_load(cache, 500, 1, &slice), CELLAR_EPINNED); /* fixed twice */
        cellar_cache_unfix(cache, &again);
        assert_int_equal(cellar_cache_counters(cache).pinned, 1);
        assert_int_equal(cellar_cache_load(cache, 500, 1, &slice), 0);
        assert_slice(&b.slice, 96, bytes, PAGE);
        assert_int_equal(cellar_cache_fix(cache, 1000, 4, &none), CELLAR_NONE);
        assert_int_equal(cellar_cache_fix(cache, 2048, 0, &none), 0); /* no page: nothing to pin */
        assert_int_equal(none.slice.length, 0);
        cellar_cache_unfix(cache, &none);
        cellar_cache_close(cache); /* with b fixed */
        cellar_device_close(device);
    }
}

/* Invalidated while it is fixed, a page stays for those who fixed it, and is loaded anew for others. */
static void test_cache_fix_stale(void **state)
{
    (void)state;
    for (enum trial_kind kind = TRIAL_LENDS; kind <= TRIAL_COPIES; kind++) {
        struct trial *trial = new_trial(256, 3);
        struct cellar_device *device = open_trial(trial, kind);
        struct cellar_fixed old, new;
        struct cellar_cache *cache;
        uint8_t before = trial->bytes[70], value;

        assert_int_equal(cellar_cache_open(device, 64, 2, &cache), 0);
        assert_int_equal(cellar_cache_fix(cache, 70, 1, &old), 0);
        trial->bytes[70] = (unsigned char)~before;
        cellar_cache_invalidate(cache, 70, 1);
        assert_false(cellar_cache_is_cached(cache, 70));
        assert_int_equal(cellar_cache_counters(cache).pages, 0);
        assert_int_equal(cellar_cache_counters(cache).pinned, 1);
        assert_int_equal(cellar_cache_get_u8(cache, 70, &value), 0);
        assert_int_equal(value, (uint8_t)~before);
        assert_int_equal(((const uint8_t *)old.slice.bytes)[6], before);
        assert_int_equal(cellar_cache_fix(cache, 70, 1, &new), 0);
        assert_int_equal(cellar_cache_get_u8(cache, 0, &value), CELLAR_EPINNED);
        cellar_cache_unfix(cache, &old);
        assert_int_equal(cellar_cache_get_u8(cache, 0, &value), 0);
        assert_int_equal(((const uint8_t *)new.slice.bytes)[6], (uint8_t)~before);
        cellar_cache_unfix(cache, &new);
        cellar_cache_invalidate(cache, 0, 256);
        assert_int_equal(trial->lent, 0);
        assert_int_equal(cellar_cache_fix(cache, 200, 1, &old), 0);
        cellar_cache_invalidate(cache, 200, 1);
        cellar_cache_close(cache); /* a stale frame, still fixed */
        assert_int_equal(trial->lent, 0);
        cellar_device_close(device);
        free(trial);
    }
}

/* Used again by load, which is no inline get: SIEVE keeps the page; and the next get finds it in its line. */
static void test_cache_use_is_marked(void **state)
{
    struct trial *trial = new_trial(TRIAL_BYTES, 5);
    struct cellar_device *device = open_trial(trial, TRIAL_COPIES);
    const uint64_t other = 64 * CELLAR_CACHE_LINES;
    struct cellar_fixed first, second;
    struct cellar_cache *cache;
    struct cellar_slice slice;

    (void)state;
    if (support_cache_debug())
        support_skip("the debug mode of the cache gives pages up at once");
    assert_int_equal(cellar_cache_open(device, 64, 2, &cache), 0);
    assert_int_equal(cellar_cache_load(cache, 0, 1, &slice), 0);
    assert_int_equal(cellar_cache_load(cache, other, 1, &slice), 0);
    assert_null(cellar_cache_peek(cache, 0, 1));
    assert_int_equal(cellar_cache_load(cache, 0, 1, &slice), 0);
    assert_int_equal(cellar_cache_load(cache, 2 * other, 1, &slice), 0);
    assert_true(cellar_cache_is_cached(cache, 0) && !cellar_cache_is_cached(cache, other));
    assert_null(cellar_cache_peek(cache, 0, 1));
    assert_int_equal(cellar_cache_load(cache, 0, 1, &slice), 0);
    assert_non_null(cellar_cache_peek(cache, 0, 1));
    /* With everything pinned the device isn't even asked. */
    assert_int_equal(cellar_cache_fix(cache, 0, 1, &first), 0);
    assert_int_equal(cellar_cache_fix(cache, 2 * other, 1, &second), 0);
    trial->reads = 0;
    assert_int_equal(cellar_cache_load(cache, other, 1, &slice), CELLAR_EPINNED);
    assert_int_equal(trial->reads, 0);
    cellar_cache_close(cache);
    cellar_device_close(device);
    free(trial);
}

/* More pages than one slab of buffers holds, and pages that are larger than a slab. */
static void test_cache_many_buffers(void **state)
{
    const size_t length = GROUND_CAPACITY;
    unsigned char *bytes = malloc(length), *got = malloc(length);

    (void)state;
    assert_true(bytes != NULL && got != NULL);
    fill_random(bytes, length, 6);
    for (size_t page_bytes = 1024; page_bytes <= length; page_bytes *= 32) {
        struct cellar_device *device = open_ground(ON_PREAD, bytes, length);
        struct cellar_cache *cache;

        assert_int_equal(cellar_cache_open(device, page_bytes, length / page_bytes, &cache), 0);
        for (int round = 0; round < 2; round++) {
            assert_int_equal(cellar_cache_read(cache, 0, got, length), 0);
            assert_memory_equal(got, bytes, length);
        }
        if (!support_cache_debug()) {
            assert_int_equal(cellar_cache_counters(cache).misses, length / page_bytes);
            assert_int_equal(cellar_cache_counters(cache).evictions, 0);
        }
        cellar_cache_close(cache);
        cellar_device_close(device);
    }
    free(bytes);
    free(got);
}

static void test_cache_map(void **state)
{
    unsigned char bytes[LENGTH];

    (void)state;
    fill(bytes);
    for (enum ground ground = 0; ground < GROUND_COUNT; ground++) {
        struct cellar_device *device = open_ground(ground, bytes, LENGTH);
        struct cellar_cache *cache;
        struct cellar_fixed run;

        assert_int_equal(cellar_cache_open(device, PAGE, 4, &cache), 0);
        for (uint64_t address = 0; address < LENGTH + 100; address += 11) {
            for (size_t length = 0; length < 300; length += 23) {
                size_t there = address >= LENGTH ? 0 : LENGTH - (size_t)address;

                assert_int_equal(cellar_cache_map(cache, address, length, &run), 0);
                assert_slice(&run.slice, address, bytes, there < length ? there : length);
                cellar_cache_unfix(cache, &run);
            }
        }
        assert_int_equal(cellar_cache_counters(cache).pinned, 0);
        assert_int_equal(cellar_cache_map(cache, 10, SIZE_MAX, &run), 0);
        assert_slice(&run.slice, 10, bytes, LENGTH - 10);
        cellar_cache_unfix(cache, &run);
        assert_int_equal(cellar_cache_map(cache, UINT64_MAX, 10, &run), 0);
        assert_int_equal(run.slice.length, 0);
        cellar_cache_unfix(cache, &run);
        cellar_cache_close(cache);
        cellar_device_close(device);
    }
}

/* One page goes through the cache, several go past it. */
static void test_cache_map_counts(void **state)
{
    struct trial *trial = new_trial(1000, 4);
    struct cellar_device *device = open_trial(trial, TRIAL_LENDS);
    struct cellar_cache *cache;
    struct cellar_fixed one, many;

    (void)state;
    if (support_cache_debug())
        support_skip("the debug mode of the cache gives pages up at once");
    assert_int_equal(cellar_cache_open(device, 64, 4, &cache), 0);
    assert_int_equal(cellar_cache_map(cache, 70, 50, &one), 0);
    assert_true(cellar_cache_is_cached(cache, 64));
    assert_int_equal(cellar_cache_counters(cache).pinned, 1);
    assert_int_equal(cellar_cache_map(cache, 200, 500, &many), 0);
    assert_int_equal(trial->loads, 2);
    assert_int_equal(cellar_cache_counters(cache).misses, 2);
    assert_int_equal(cellar_cache_counters(cache).pages, 1);
    assert_false(cellar_cache_is_cached(cache, 256));
    assert_memory_equal(many.slice.bytes, trial->bytes + 200, 500);
    cellar_cache_unfix(cache, &many);
    cellar_cache_unfix(cache, &one);
    trial->size_bytes = 300; /* cut: what there is now */
    assert_int_equal(cellar_cache_map(cache, 200, 500, &many), 0);
    assert_int_equal(many.slice.length, 100);
    cellar_cache_unfix(cache, &many);
    trial->load_error = -EIO;
    assert_int_equal(cellar_cache_map(cache, 200, 500, &many), -EIO);
    assert_int_equal(cellar_cache_map(cache, 200, 5, &many), -EIO);
    trial->size_error = -ESTALE;
    assert_int_equal(cellar_cache_map(cache, 200, 500, &many), -ESTALE);
    cellar_cache_close(cache);
    assert_int_equal(trial->lent, 0);
    cellar_device_close(device);
    free(trial);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cache_geometry),      cmocka_unit_test(test_cache_load),
        cmocka_unit_test(test_cache_next_and_walk), cmocka_unit_test(test_cache_read),
        cmocka_unit_test(test_cache_counters),      cmocka_unit_test(test_cache_loads_needed),
        cmocka_unit_test(test_cache_invalidate),    cmocka_unit_test(test_cache_fix),
        cmocka_unit_test(test_cache_fix_stale),     cmocka_unit_test(test_cache_map),
        cmocka_unit_test(test_cache_map_counts),    cmocka_unit_test(test_cache_use_is_marked),
        cmocka_unit_test(test_cache_many_buffers),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
