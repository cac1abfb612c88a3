/* What a cache asks others: validate, loaded, place. The wait hook is in test_cache_tasks.c. */
#include "cache_test.h"

/* ---- validate ---- */

struct judge {
    struct bed *bed;
    pthread_mutex_t lock;
    unsigned calls;
    uint64_t bad_address; /* the page that is refused */
    int error;
    bool wrong; /* it was given something else than the page */
};

static int judge_page(void *user, uint64_t version, uint64_t page_address, const void *bytes, size_t length)
{
    struct judge *judge = user;
    size_t expected = page_address == 127 * PAGE ? PAGE - 10 : PAGE;
    int error;

    pthread_mutex_lock(&judge->lock);
    judge->calls++;
    if (version != 0 || length != expected || memcmp(bytes, judge->bed->bytes + page_address, length) != 0)
        judge->wrong = true;
    error = page_address == judge->bad_address ? judge->error : 0;
    pthread_mutex_unlock(&judge->lock);
    return error;
}

static void judge_open(struct judge *judge, struct bed *bed)
{
    bed_open(bed);
    *judge = (struct judge){.bed = bed, .bad_address = UINT64_MAX, .error = CELLAR_ECORRUPT};
    pthread_mutex_init(&judge->lock, NULL);
}

static void judge_close(struct judge *judge)
{
    assert_false(judge->wrong);
    pthread_mutex_destroy(&judge->lock);
    bed_close(judge->bed);
}

static void test_validate(void **state)
{
    struct cellar_cache_options options = {.page_count = 16, .hooks.validate = judge_page};
    struct cellar_fixed fixed;
    struct cellar_cache *cache;
    struct judge judge;
    struct bed bed;
    uint8_t byte;

    (void)state;
    judge_open(&judge, &bed);
    options.user = &judge;
    cache = bed_cache(&bed, &options);
    assert_read(&bed, cache, PAGE, 3 * PAGE);
    assert_int_equal(judge.calls, 3);
    assert_read(&bed, cache, 127 * PAGE, 10);
    assert_int_equal(judge.calls, 4);
    if (!support_cache_debug()) {
        assert_read(&bed, cache, PAGE, 3 * PAGE);
        assert_int_equal(judge.calls, 4);
    }
    judge.bad_address = 10 * PAGE;
    assert_result(cellar_cache_get_u8(cache, 10 * PAGE + 9, &byte), CELLAR_ECORRUPT);
    assert_int_equal(cellar_cache_fault_address(cache), 10 * PAGE);
    assert_false(cellar_cache_is_cached(cache, 10 * PAGE));
    assert_result(cellar_cache_fix(cache, 10 * PAGE, 1, &fixed), CELLAR_ECORRUPT);
    /* A map of several pages doesn't go past it. */
    assert_result(cellar_cache_map(cache, 9 * PAGE, 3 * PAGE, &fixed), CELLAR_ECORRUPT);
    assert_done(cellar_cache_map(cache, 11 * PAGE, 3 * PAGE, &fixed));
    assert_bytes(&bed, fixed.slice.bytes, 11 * PAGE, 3 * PAGE);
    cellar_cache_unfix(cache, &fixed);
    assert_done(cellar_cache_map(cache, 11 * PAGE, SIZE_MAX, &fixed)); /* as much as there is */
    assert_int_equal(fixed.slice.length, BED_BYTES - 11 * PAGE);
    assert_bytes(&bed, fixed.slice.bytes, 11 * PAGE, BED_BYTES - 11 * PAGE);
    cellar_cache_unfix(cache, &fixed);
    judge.error = 5; /* not what it may answer, and no page all the same */
    assert_result(cellar_cache_get_u8(cache, 10 * PAGE, &byte), -EIO);
    judge.bad_address = UINT64_MAX;
    assert_read(&bed, cache, 10 * PAGE, PAGE);
    assert_int_equal(cellar_cache_counters(cache).pinned, 0);
    cellar_cache_close(cache);
    judge_close(&judge);
}

/* Of pages that come together only the bad one fails, for all who wait for it. */
static void test_validate_in_background(void **state)
{
    struct cellar_cache_options options = {.page_count = 32, .depth = 2, .hooks.validate = judge_page};
    struct waited bad = {0}, good = {0};
    struct cellar_cache *cache, *other;
    struct reading reading;
    struct judge judge;
    struct bed bed;

    (void)state;
    judge_open(&judge, &bed);
    options.user = &judge;
    cache = bed_cache(&bed, &options);
    other = bed_share(cache);
    judge.bad_address = 12 * PAGE;
    bed_hold(&bed);
    assert_done(cellar_cache_load_async(cache, 10 * PAGE + 1, 5 * PAGE, note_done, &bad));
    assert_done(cellar_cache_load_async(cache, 13 * PAGE, PAGE, note_done, &good));
    reading_start(&reading, other, 12 * PAGE, PAGE);
    wait_for_pins(cache, 1);
    gate_open(&bed.gate);
    assert_result(reading_end(&reading), CELLAR_ECORRUPT);
    assert_int_equal(cellar_cache_fault_address(other), 12 * PAGE);
    poll_all(cache);
    assert_result(bad.error, CELLAR_ECORRUPT);
    assert_int_equal(cellar_cache_fault_address(cache), 12 * PAGE);
    assert_int_equal(good.error, 0);
    if (!support_cache_debug()) {
        for (uint64_t page = 10; page <= 15; page++)
            assert_int_equal(cellar_cache_is_cached(cache, page * PAGE), page != 12);
    }
    cellar_cache_prefetch(cache, 12 * PAGE, 1); /* fails silently */
    judge.bad_address = UINT64_MAX;
    cellar_cache_close(other);
    cellar_cache_close(cache);
    judge_close(&judge);
}

/* ---- loaded ---- */

struct told {
    struct bed *bed;
    struct cellar_cache *cache;
    unsigned calls, reads;
    bool inside;
};

static void tell(void *user)
{
    struct told *told = user;

    told->calls++;
}

/* Uses the cache itself, which is small: by all those calls that may be made here. */
static void tell_and_read(void *user)
{
    struct told *told = user;
    struct cellar_fixed fixed;

    told->calls++;
    if (told->inside)
        return;
    told->inside = true;
    for (uint64_t page = 50; page < 56; page++)
        assert_read(told->bed, told->cache, page * PAGE + 1, 2);
    assert_done(cellar_cache_fix(told->cache, 60 * PAGE, PAGE, &fixed));
    cellar_cache_invalidate(told->cache, 0, UINT64_MAX);
    cellar_cache_unfix(told->cache, &fixed);
    told->inside = false;
}

static void test_loaded(void **state)
{
    struct cellar_cache_options options = {.page_count = 16, .depth = 2, .hooks.loaded = tell};
    struct cellar_cache *cache;
    struct told told = {0};
    struct bed bed;
    uint8_t byte;

    (void)state;
    skip_in_debug();
    bed_open(&bed);
    options.user = &told;
    cache = bed_cache(&bed, &options);
    assert_read(&bed, cache, 0, 3 * PAGE);
    assert_int_equal(told.calls, 3);
    assert_read(&bed, cache, 0, 3 * PAGE);
    assert_int_equal(told.calls, 3);
    assert_result(cellar_cache_get_u8(cache, BED_BYTES + PAGE, &byte), CELLAR_EBOUNDS);
    assert_int_equal(told.calls, 3);
    /* A load in the background is one, if a call had to wait for it. */
    bed_hold(&bed);
    cellar_cache_prefetch(cache, 5 * PAGE, PAGE);
    assert_true(gate_wait(&bed.gate, 1));
    gate_open(&bed.gate);
    assert_read(&bed, cache, 5 * PAGE, PAGE); /* nothing has been taken in yet, so it waits */
    assert_int_equal(told.calls, 4);
    assert_int_equal(bed_reads(&bed), 4);
    assert_read(&bed, cache, 5 * PAGE, PAGE);
    assert_int_equal(told.calls, 4);
    cellar_cache_close(cache);
    bed_close(&bed);
}

static void test_loaded_calls_the_cache(void **state)
{
    struct bed bed;

    (void)state;
    for (unsigned variant = 0; variant < 4; variant++) {
        struct cellar_cache_options options = {
            .page_count = (size_t)2 << variant, .depth = variant % 2, .hooks.loaded = tell_and_read};
        struct cellar_cache *other = NULL;
        struct told told = {.bed = &bed};

        bed_open(&bed);
        options.user = &told;
        told.cache = bed_cache(&bed, &options);
        if (variant >= 2)
            other = bed_share(told.cache);
        told.inside = true;
        assert_read(&bed, told.cache, 0, PAGE);
        assert_int_equal(told.calls, 1);
        told.inside = false;
        /* The hook forgets what was just loaded, each time: it is loaded again, and in the end somebody gives in. */
        assert_int_equal(cellar_cache_counters(told.cache).pinned, 0);
        told.inside = true;
        for (uint64_t page = 0; page < 20; page++)
            assert_read(&bed, told.cache, page * PAGE, PAGE);
        cellar_cache_close(other);
        cellar_cache_close(told.cache);
        bed_close(&bed);
    }
}

/* Another byte comes to stand on the device, once, and the page is forgotten. */
static void change_and_forget(void *user)
{
    struct told *told = user;

    if (told->calls++ > 0)
        return;
    told->bed->bytes[5 * PAGE] ^= 1;
    assert_done(support_device_write(told->bed->device, told->bed->bytes + 5 * PAGE, 1, 5 * PAGE));
    cellar_cache_invalidate(told->cache, 5 * PAGE, PAGE);
}

/* A page that is forgotten before the call that waits for it has seen it is loaded again. */
static void test_loaded_forgets_the_page(void **state)
{
    struct bed bed;

    (void)state;
    for (unsigned variant = 0; variant < 4; variant++) {
        struct cellar_cache_options options = {
            .page_count = 4, .copy = true, .depth = variant % 2, .hooks.loaded = change_and_forget};
        struct cellar_cache *other = NULL;
        struct told told = {.bed = &bed};

        bed_open(&bed);
        options.user = &told;
        told.cache = bed_cache(&bed, &options);
        if (variant >= 2)
            other = bed_share(told.cache);
        assert_read(&bed, told.cache, 5 * PAGE, PAGE);
        assert_int_equal(told.calls, 2);
        assert_int_equal(bed_reads(&bed), 2);
        assert_int_equal(cellar_cache_counters(told.cache).misses, 1);
        cellar_cache_close(other);
        cellar_cache_close(told.cache);
        bed_close(&bed);
    }
}

/* ---- place ---- */

/* Pages 0 to 9: of version 0 in the bed, of version 5 in a second device; page 2 also of version 9, behind; page 9 came
 * with version 5. In the second device page 3 is shorter. */
struct map {
    struct bed *bed;
    struct cellar_device *second;
    unsigned char bytes[20 * PAGE];
    unsigned calls;
    int error;
};

enum { SECOND_BYTES = 12 * PAGE + 20 };

static int find_place(void *user, uint64_t version, uint64_t page_address, struct cellar_place *ret_place)
{
    struct map *map = user;

    map->calls++;
    if (map->error != 0)
        return map->error;
    if (page_address >= 10 * PAGE || (page_address == 9 * PAGE && version < 5))
        return CELLAR_NONE;
    if (page_address == 2 * PAGE && version >= 9)
        *ret_place = (struct cellar_place){9, map->second, 11 * PAGE};
    else if (page_address == 3 * PAGE && version >= 5)
        *ret_place = (struct cellar_place){5, map->second, 12 * PAGE};
    else if (version >= 5)
        *ret_place = (struct cellar_place){5, map->second, page_address};
    else
        *ret_place = (struct cellar_place){0, map->bed->device, page_address};
    return 0;
}

static struct cellar_cache *map_open(struct map *map, struct bed *bed, struct cellar_cache_options *options)
{
    bed_open(bed);
    *map = (struct map){.bed = bed};
    support_bytes(99, map->bytes, sizeof map->bytes);
    assert_done(cellar_device_open_memory(map->bytes, SECOND_BYTES, SECOND_BYTES, &map->second));
    options->hooks.place = find_place;
    options->user = map;
    return bed_cache(bed, options);
}

static void map_close(struct map *map, struct cellar_cache *cache)
{
    cellar_cache_close(cache);
    assert_done(cellar_device_close(map->second));
    bed_close(map->bed);
}

static void assert_page(struct map *map, struct cellar_cache *cache, uint64_t version, uint64_t page)
{
    const unsigned char *expected = version < 5 ? map->bed->bytes : map->bytes;
    size_t length = page == 3 && version >= 5 ? 20 : PAGE;
    struct cellar_slice slice;

    if (version >= 5 && page == 3)
        expected += 9 * PAGE;
    if (version >= 9 && page == 2)
        expected += 9 * PAGE;
    cellar_cache_set_version(cache, version);
    assert_done(cellar_cache_load(cache, page * PAGE, 1, &slice));
    assert_int_equal(slice.length, length);
    assert_memory_equal(slice.bytes, expected + page * PAGE, length);
}

static void test_place(void **state)
{
    static const uint64_t versions[] = {0, 5, 9, 3, 8, 4, 100, 6, CELLAR_VERSION_NEWEST, 1};

    (void)state;
    for (unsigned variant = 0; variant < 4; variant++) {
        struct cellar_cache_options options = {.page_count = 32, .depth = variant / 2};
        struct cellar_cache *cache, *other = NULL;
        struct map map;
        struct bed bed;
        uint8_t byte;

        cache = map_open(&map, &bed, &options);
        if (variant % 2 == 1)
            other = bed_share(cache);
        for (size_t i = 0; i < SUPPORT_COUNT(versions); i++) {
            for (uint64_t page = 0; page < 9; page++)
                assert_page(&map, i % 3 == 0 && other != NULL ? other : cache, versions[i], page);
        }
        /* Each version of each page was loaded once: a frame is for all versions up to the next one. */
        if (!support_cache_debug()) {
            assert_int_equal(bed_reads(&bed), 9);
            assert_int_equal(cellar_cache_counters(cache).pages, 19);
        }
        cellar_cache_set_version(cache, 4);
        assert_result(cellar_cache_get_u8(cache, 9 * PAGE, &byte), CELLAR_EBOUNDS);
        assert_page(&map, cache, 5, 9);
        assert_result(cellar_cache_get_u8(cache, 10 * PAGE, &byte), CELLAR_EBOUNDS);
        assert_result(cellar_cache_get_u8(cache, 3 * PAGE + 20, &byte), CELLAR_EBOUNDS);
        cellar_cache_invalidate(cache, 0, UINT64_MAX);
        map.error = -EIO;
        assert_result(cellar_cache_get_u8(cache, 0, &byte), -EIO);
        map.error = 0;
        assert_page(&map, cache, 7, 1);
        cellar_cache_close(other);
        map_close(&map, cache);
    }
}

static void test_place_in_background(void **state)
{
    struct cellar_cache_options options = {.page_count = 64, .depth = 1};
    struct waited waited = {0}, until_short = {0}, past_short = {0}, past_end = {0};
    struct cellar_fixed fixed;
    struct cellar_cache *cache;
    struct map map;
    struct bed bed;

    (void)state;
    skip_in_debug();
    cache = map_open(&map, &bed, &options);
    cellar_cache_set_version(cache, 6);
    assert_done(cellar_cache_load_async(cache, 0, 3 * PAGE, note_done, &waited));
    assert_done(cellar_cache_load_async(cache, 3 * PAGE, 20, note_done, &until_short));
    assert_done(cellar_cache_load_async(cache, 3 * PAGE, 21, note_done, &past_short));
    assert_done(cellar_cache_load_async(cache, 9 * PAGE, PAGE + 1, note_done, &past_end));
    poll_all(cache);
    assert_int_equal(waited.error, 0);
    assert_int_equal(until_short.error, 0);
    assert_int_equal(past_short.error, CELLAR_EBOUNDS);
    assert_int_equal(past_end.error, CELLAR_EBOUNDS);
    /* What is known at another version already is nothing to stop at. */
    cellar_cache_set_version(cache, 8);
    cellar_cache_prefetch(cache, 0, 9 * PAGE);
    assert_done(cellar_cache_load_async(cache, 4 * PAGE, 5 * PAGE, note_done, &waited));
    poll_all(cache);
    for (uint64_t page = 0; page < 9; page++)
        assert_page(&map, cache, 8, page);
    assert_int_equal(cellar_cache_counters(cache).misses, 0);
    assert_int_equal(bed_reads(&bed), 0);
    /* A map of several pages is of the handle's version, too. */
    assert_done(cellar_cache_map(cache, 0, 3 * PAGE, &fixed));
    assert_memory_equal(fixed.slice.bytes, map.bytes, 3 * PAGE);
    cellar_cache_unfix(cache, &fixed);
    map_close(&map, cache);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_validate),
        cmocka_unit_test(test_validate_in_background),
        cmocka_unit_test(test_loaded),
        cmocka_unit_test(test_loaded_calls_the_cache),
        cmocka_unit_test(test_loaded_forgets_the_page),
        cmocka_unit_test(test_place),
        cmocka_unit_test(test_place_in_background),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
