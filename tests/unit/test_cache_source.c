/* What the cache stands on: iteration, growing sources, failing devices, map functions. */
#include "page_test.h"
#include "support.h"

#include <cellar/cache.h>

/* What an iteration delivered. */
struct seen {
    struct cellar_cache *cache; /* used from within, where it isn't NULL */
    unsigned char bytes[4096];
    size_t length, runs, stop_at;
    uint64_t next_address;
};

static int see_run(void *user, uint64_t address, const void *bytes, size_t length)
{
    struct seen *seen = user;

    assert_true(length > 0);
    assert_true(seen->runs++ == 0 || address == seen->next_address);
    if (seen->cache != NULL) {
        unsigned char first;

        cellar_cache_invalidate(seen->cache, address, length);
        assert_int_equal(cellar_cache_read(seen->cache, address ^ 512, &first, 1), 0);
    }
    memcpy(seen->bytes + seen->length, bytes, length);
    seen->length += length;
    seen->next_address = address + length;
    return seen->stop_at > 0 && seen->length >= seen->stop_at ? 42 : 0;
}

static int see_byte(void *user, uint8_t byte)
{
    struct seen *seen = user;

    seen->bytes[seen->length++] = byte;
    return seen->stop_at > 0 && seen->length == seen->stop_at ? -77 : 0;
}

static void test_iterate(void **state)
{
    unsigned char bytes[1003];

    (void)state;
    fill_random(bytes, sizeof bytes, 9);
    for (enum ground ground = 0; ground < GROUND_COUNT; ground++) {
        struct cellar_device *device = open_ground(ground, bytes, sizeof bytes);
        struct cellar_cache *cache;

        assert_int_equal(cellar_cache_open(device, 64, 2, &cache), 0);
        for (uint64_t from = 0; from < 1100; from += 61) {
            struct seen runs = {0}, each = {0};
            size_t left = from < 1003 ? 1003 - (size_t)from : 0, length = left < 200 ? left : 200;

            assert_int_equal(cellar_cache_iterate(cache, from, CELLAR_CACHE_TO_END, see_run, &runs), 0);
            assert_int_equal(cellar_cache_iterate_bytes(cache, from, CELLAR_CACHE_TO_END, see_byte, &each), 0);
            assert_true(runs.length == left && each.length == left);
            assert_true(left == 0 || memcmp(runs.bytes, bytes + from, left) == 0);
            assert_true(left == 0 || memcmp(each.bytes, bytes + from, left) == 0);
            runs.length = runs.runs = each.length = 0;
            assert_int_equal(cellar_cache_iterate(cache, from, length, see_run, &runs), 0);
            assert_int_equal(cellar_cache_iterate_bytes(cache, from, length, see_byte, &each), 0);
            assert_true(runs.length == length && each.length == length);
            /* Past the end: everything up to there, then the error. */
            runs.length = runs.runs = 0;
            assert_int_equal(cellar_cache_iterate(cache, from, left + 1, see_run, &runs), CELLAR_EBOUNDS);
            assert_int_equal(runs.length, left);
            assert_int_equal(cellar_cache_fault_address(cache), from < 1003 ? 1003 : from);
        }
        cellar_cache_close(cache);
        cellar_device_close(device);
    }
}

static void test_iterate_stops(void **state)
{
    unsigned char bytes[1003];
    struct cellar_device *device;
    struct seen runs = {.stop_at = 65}, each = {.stop_at = 65}, none = {0};
    struct cellar_cache *cache;

    (void)state;
    fill_random(bytes, sizeof bytes, 10);
    device = open_ground(ON_PREAD, bytes, sizeof bytes);
    assert_int_equal(cellar_cache_open(device, 64, 2, &cache), 0);
    assert_int_equal(cellar_cache_iterate(cache, 0, CELLAR_CACHE_TO_END, see_run, &runs), 42);
    assert_int_equal(runs.length, 128);
    assert_int_equal(cellar_cache_iterate_bytes(cache, 0, 1003, see_byte, &each), -77);
    assert_int_equal(each.length, 65);
    assert_int_equal(cellar_cache_iterate(cache, 5000, 0, see_run, &none), 0);
    assert_int_equal(none.runs, 0);
    assert_int_equal(cellar_cache_counters(cache).pinned, 0);
    cellar_cache_close(cache);
    cellar_device_close(device);
}

/* The piece stays while run uses the cache, even to invalidate that very page. */
static void test_iterate_nested(void **state)
{
    struct trial *trial = new_trial(1024, 11);
    struct cellar_device *device = open_trial(trial, TRIAL_LENDS);
    struct seen seen = {0};

    (void)state;
    assert_int_equal(cellar_cache_open(device, 64, 2, &seen.cache), 0);
    assert_int_equal(cellar_cache_iterate(seen.cache, 10, 1000, see_run, &seen), 0);
    assert_int_equal(seen.length, 1000);
    assert_memory_equal(seen.bytes, trial->bytes + 10, 1000);
    cellar_cache_close(seen.cache);
    assert_int_equal(trial->lent, 0);
    cellar_device_close(device);
    free(trial);
}

/* A short page is loaded anew only when more of it is asked for and there is more. */
static void test_growth(void **state)
{
    (void)state;
    for (enum trial_kind kind = TRIAL_LENDS; kind <= TRIAL_COPIES; kind++) {
        struct trial *trial = new_trial(100, 12);
        struct cellar_device *device = open_trial(trial, kind);
        struct cellar_fixed fixed;
        struct cellar_cache *cache;
        unsigned char got[256];
        uint64_t address = 90;
        struct cellar_slice slice;
        unsigned sizes;

        assert_int_equal(cellar_cache_open(device, 64, 2, &cache), 0);
        assert_int_equal(cellar_cache_walk(cache, &address, &slice), 0);
        assert_int_equal(slice.length, 10);
        assert_int_equal(cellar_cache_read(cache, 64, got, 37), CELLAR_EBOUNDS);
        assert_int_equal(cellar_cache_fault_address(cache), 100);
        assert_int_equal(cellar_cache_fix(cache, 64, 36, &fixed), 0);
        trial->size_bytes = 120;
        sizes = trial->sizes;
        assert_int_equal(cellar_cache_read(cache, 64, got, 36), 0); /* enough is there: nobody asks */
        assert_int_equal(trial->sizes, sizes);
        assert_int_equal(cellar_cache_walk(cache, &address, &slice), 0);
        assert_int_equal(slice.address, 100);
        assert_int_equal(slice.length, 20);
        assert_memory_equal(slice.bytes, trial->bytes + 100, 20);
        assert_int_equal(cellar_cache_walk(cache, &address, &slice), CELLAR_NONE);
        assert_int_equal(fixed.slice.length, 36);
        assert_memory_equal(fixed.slice.bytes, trial->bytes + 64, 36);
        cellar_cache_unfix(cache, &fixed);
        trial->size_bytes = 200;
        assert_int_equal(cellar_cache_read(cache, 0, got, 200), 0);
        assert_memory_equal(got, trial->bytes, 200);
        assert_int_equal(cellar_cache_read(cache, 0, got, 201), CELLAR_EBOUNDS);
        /* The same, with no frame free for it. */
        assert_int_equal(cellar_cache_fix(cache, 192, 1, &fixed), 0);
        trial->size_bytes = 210;
        {
            struct cellar_fixed other;

            assert_int_equal(cellar_cache_fix(cache, 0, 1, &other), 0);
            assert_int_equal(cellar_cache_read(cache, 192, got, 9), CELLAR_EPINNED);
            assert_int_equal(cellar_cache_read(cache, 192, got, 8), 0);
            cellar_cache_unfix(cache, &other);
        }
        assert_int_equal(cellar_cache_read(cache, 192, got, 9), 0);
        assert_memory_equal(fixed.slice.bytes, trial->bytes + 192, 8);
        cellar_cache_unfix(cache, &fixed);
        cellar_cache_close(cache);
        assert_int_equal(trial->lent, 0);
        cellar_device_close(device);
        free(trial);
    }
}

static void test_growth_of_devices(void **state)
{
    unsigned char bytes[100];

    (void)state;
    fill_random(bytes, sizeof bytes, 13);
    for (enum ground ground = 0; ground < GROUND_COUNT; ground++) {
        struct cellar_device *device = open_ground(ground, bytes, sizeof bytes);
        struct cellar_cache *cache;
        unsigned char got[8] = {1};
        struct iovec part = {.iov_base = bytes, .iov_len = 10};
        uint32_t value;

        assert_int_equal(cellar_cache_open(device, 64, 2, &cache), 0);
        assert_int_equal(cellar_cache_get_u32_le(cache, 96, &value), 0);
        assert_int_equal(cellar_cache_get_u32_le(cache, 97, &value), CELLAR_EBOUNDS);
        assert_int_equal(cellar_device_grow(device, 100, 150), 0);
        assert_int_equal(cellar_device_write(device, &part, 1, 100), 0);
        assert_int_equal(cellar_cache_read(cache, 98, got, 8), 0);
        assert_memory_equal(got, bytes + 98, 2);
        assert_memory_equal(got + 2, bytes, 6);
        assert_int_equal(cellar_cache_read(cache, 143, got, 8), CELLAR_EBOUNDS);
        assert_int_equal(cellar_cache_fault_address(cache), 150);
        cellar_cache_close(cache);
        cellar_device_close(device);
    }
}

/* A load that fails changes nothing: no page goes, and the next try succeeds. */
static void test_failures(void **state)
{
    (void)state;
    if (support_cache_debug())
        support_skip("the debug mode of the cache gives pages up at once");
    for (enum trial_kind kind = TRIAL_LENDS; kind <= TRIAL_COPIES; kind++) {
        struct trial *trial = new_trial(1000, 14);
        struct cellar_device *device = open_trial(trial, kind);
        struct cellar_cache *cache;
        unsigned char got[100];
        struct cellar_slice slice;
        struct seen seen = {0};
        uint64_t address = 500;

        assert_int_equal(cellar_cache_open(device, 64, 2, &cache), 0);
        trial->size_error = -EPIPE;
        assert_int_equal(cellar_cache_read(cache, 0, got, 1), -EPIPE);
        trial->size_error = 0;
        assert_int_equal(cellar_cache_read(cache, 60, got, 8), 0); /* both frames are full */
        trial->read_error = trial->load_error = -EIO;
        assert_int_equal(cellar_cache_read(cache, 500, got, 1), -EIO);
        assert_int_equal(cellar_cache_load(cache, 500, 1, &slice), -EIO);
        assert_int_equal(cellar_cache_walk(cache, &address, &slice), -EIO);
        assert_int_equal(cellar_cache_iterate(cache, 500, 1, see_run, &seen), -EIO);
        assert_int_equal(cellar_cache_iterate(cache, 500, CELLAR_CACHE_TO_END, see_run, &seen), -EIO);
        assert_true(cellar_cache_is_cached(cache, 0) && cellar_cache_is_cached(cache, 64));
        assert_false(cellar_cache_is_cached(cache, 500));
        assert_int_equal(cellar_cache_counters(cache).evictions, 0);
        trial->read_error = trial->load_error = 0;
        assert_int_equal(cellar_cache_read(cache, 500, got, 1), 0);
        assert_int_equal(got[0], trial->bytes[500]);
        assert_int_equal(cellar_cache_counters(cache).evictions, 1);
        /* A short page that can't be looked at again stays. */
        assert_int_equal(cellar_cache_read(cache, 960, got, 40), 0);
        trial->size_error = -EPIPE;
        assert_int_equal(cellar_cache_read(cache, 960, got, 41), -EPIPE);
        assert_int_equal(cellar_cache_read(cache, 960, got, 40), 0);
        trial->size_error = 0;
        trial->size_bytes = 1010;
        trial->read_error = trial->load_error = -EIO;
        assert_int_equal(cellar_cache_read(cache, 960, got, 41), -EIO);
        assert_int_equal(cellar_cache_read(cache, 960, got, 40), 0);
        trial->read_error = trial->load_error = 0;
        assert_int_equal(cellar_cache_read(cache, 960, got, 41), 0);
        cellar_cache_close(cache);
        assert_int_equal(trial->lent, 0);
        cellar_device_close(device);
        free(trial);
    }
}

/* Where a device has no room left to lend, the page is a copy. */
static void test_lending_gives_out(void **state)
{
    struct trial *trial = new_trial(1000, 15);
    struct cellar_device *device = open_trial(trial, TRIAL_LENDS);
    struct cellar_cache *cache;
    unsigned char got[1000];

    (void)state;
    assert_int_equal(cellar_cache_open(device, 64, 4, &cache), 0);
    assert_int_equal(cellar_cache_read(cache, 0, got, 128), 0);
    trial->load_error = -ENOMEM;
    assert_int_equal(cellar_cache_read(cache, 0, got, 1000), 0);
    assert_memory_equal(got, trial->bytes, 1000);
    assert_true(trial->reads > 0);
    trial->load_error = 0;
    cellar_cache_invalidate(cache, 0, 1000);
    assert_int_equal(cellar_cache_read(cache, 0, got, 1000), 0);
    assert_memory_equal(got, trial->bytes, 1000);
    cellar_cache_close(cache);
    assert_int_equal(trial->lent, 0);
    cellar_device_close(device);
    free(trial);
}

/* A device that was cut: the cache believes the new size, not the one that it remembers. */
static void test_shrunk(void **state)
{
    (void)state;
    for (enum trial_kind kind = TRIAL_LENDS; kind <= TRIAL_COPIES; kind++) {
        struct trial *trial = new_trial(1000, 16);
        struct cellar_device *device = open_trial(trial, kind);
        struct cellar_cache *cache;
        unsigned char got[64];

        assert_int_equal(cellar_cache_open(device, 64, 4, &cache), 0);
        assert_int_equal(cellar_cache_read(cache, 0, got, 1), 0);
        trial->size_bytes = 500;
        assert_int_equal(cellar_cache_read(cache, 448, got, 52), 0);
        assert_int_equal(cellar_cache_read(cache, 448, got, 53), CELLAR_EBOUNDS);
        assert_int_equal(cellar_cache_fault_address(cache), 500);
        assert_int_equal(cellar_cache_read(cache, 640, got, 1), CELLAR_EBOUNDS);
        cellar_cache_close(cache);
        cellar_device_close(device);
        free(trial);
    }
}

static ssize_t read_nothing(void *state, void *buffer, size_t length_bytes, uint64_t offset)
{
    (void)state, (void)buffer, (void)length_bytes, (void)offset;
    return 0;
}

/* A device that denies what lies within its own size. */
static void test_contradiction(void **state)
{
    static const struct cellar_device_ops ops = {
        .name = "liar", .size = trial_size, .read = read_nothing, .close = trial_close};
    struct trial *trial = new_trial(1000, 17);
    struct cellar_device *device;
    struct cellar_cache *cache;
    unsigned char got;

    (void)state;
    assert_int_equal(cellar_device_open(&ops, trial, &device), 0);
    assert_int_equal(cellar_cache_open(device, 64, 4, &cache), 0);
    assert_int_equal(cellar_cache_read(cache, 0, &got, 1), -EIO);
    cellar_cache_close(cache);
    cellar_device_close(device);
    free(trial);
}

static void test_no_bytes(void **state)
{
    (void)state;
    for (enum ground ground = 0; ground < GROUND_COUNT; ground++) {
        struct cellar_device *device = open_ground(ground, NULL, 0);
        struct cellar_cache *cache;
        struct cellar_slice slice;
        struct cellar_fixed run;
        struct seen seen = {0};
        uint64_t address = 0;
        unsigned char got;

        assert_int_equal(cellar_cache_open(device, 1, 1, &cache), 0);
        assert_int_equal(cellar_cache_load(cache, 0, 1, &slice), CELLAR_NONE);
        assert_int_equal(cellar_cache_load(cache, 0, 0, &slice), 0);
        assert_int_equal(slice.length, 0);
        assert_int_equal(cellar_cache_walk(cache, &address, &slice), CELLAR_NONE);
        assert_int_equal(cellar_cache_read(cache, 0, &got, 1), CELLAR_EBOUNDS);
        assert_int_equal(cellar_cache_fault_address(cache), 0);
        assert_int_equal(cellar_cache_map(cache, 0, 100, &run), 0);
        assert_int_equal(run.slice.length, 0);
        cellar_cache_unfix(cache, &run);
        assert_int_equal(cellar_cache_iterate(cache, 0, CELLAR_CACHE_TO_END, see_run, &seen), 0);
        assert_int_equal(seen.runs, 0);
        assert_int_equal(cellar_cache_counters(cache).pages, 0);
        cellar_cache_close(cache);
        cellar_device_close(device);
    }
}

/* Bare functions: what they are asked, and what becomes of what they answer. */
struct mapped {
    unsigned char bytes[1000];
    size_t length;
    int error;       /* returned */
    size_t too_much; /* given on top of what was asked */
    unsigned maps;
    int out; /* maps without an unmap */
};

static int map_mapped(void *user, uint64_t position, size_t length, const void **ret_bytes, size_t *ret_length)
{
    struct mapped *mapped = user;
    size_t there = position < mapped->length ? mapped->length - (size_t)position : 0;

    assert_true(position % 32 == 0 && length % 32 == 0 && length > 0);
    mapped->maps++;
    if (mapped->error != 0)
        return mapped->error;
    *ret_length = (there < length ? there : length) + mapped->too_much;
    *ret_bytes = mapped->bytes + (there > 0 ? position : 0);
    mapped->out += *ret_length > 0;
    return 0;
}

static void unmap_mapped(void *user, const void *bytes, size_t length)
{
    struct mapped *mapped = user;

    assert_true(bytes != NULL && length > 0);
    mapped->out--;
}

static void test_functions(void **state)
{
    struct mapped mapped = {.length = 1000};
    struct cellar_cache *cache, *copy;
    struct cellar_fixed run;
    unsigned char got[1000];
    uint32_t value;

    (void)state;
    if (support_cache_debug())
        support_skip("the debug mode of the cache gives pages up at once");
    fill_random(mapped.bytes, sizeof mapped.bytes, 18);
    assert_int_equal(cellar_cache_open_map(map_mapped, unmap_mapped, &mapped, 32, 4, &cache), 0);
    assert_int_equal(cellar_cache_read(cache, 0, got, 1000), 0);
    assert_memory_equal(got, mapped.bytes, 1000);
    assert_int_equal(mapped.maps, 32);
    assert_int_equal(mapped.out, 4);
    assert_int_equal(cellar_cache_get_u32_be(cache, 990, &value), 0);
    assert_int_equal(mapped.maps, 32);
    /* It can't be asked for its size, so asking past a short page maps again; nothing has changed. */
    assert_int_equal(cellar_cache_get_u32_be(cache, 997, &value), CELLAR_EBOUNDS);
    assert_int_equal(cellar_cache_fault_address(cache), 1000);
    assert_int_equal(mapped.maps, 33);
    assert_int_equal(mapped.out, 4);
    assert_int_equal(cellar_cache_read(cache, 2000, got, 1), CELLAR_EBOUNDS);
    assert_int_equal(mapped.maps, 34);
    assert_int_equal(cellar_cache_read(cache, (uint64_t)1 << 63, got, 1), CELLAR_EBOUNDS); /* never asked for */
    assert_int_equal(mapped.maps, 34);
    assert_int_equal(cellar_cache_map(cache, 40, 500, &run), 0);
    assert_memory_equal(run.slice.bytes, mapped.bytes + 40, 500);
    assert_int_equal(mapped.out, 5);
    cellar_cache_unfix(cache, &run);
    assert_int_equal(cellar_cache_map(cache, 2000, 500, &run), 0);
    assert_int_equal(run.slice.length, 0);
    cellar_cache_unfix(cache, &run);
    assert_int_equal(mapped.out, 4);
    assert_int_equal(cellar_cache_copy(cache, &copy), 0);
    assert_int_equal(cellar_cache_read(copy, 0, got, 64), 0);
    assert_int_equal(mapped.out, 6);
    cellar_cache_close(copy);
    cellar_cache_close(cache);
    assert_int_equal(mapped.out, 0);
}

static void test_functions_grow_and_fail(void **state)
{
    struct mapped mapped = {.length = 500};
    struct cellar_cache *cache;
    struct cellar_fixed run;
    unsigned char got[100];

    (void)state;
    if (support_cache_debug())
        support_skip("the debug mode of the cache gives pages up at once");
    assert_int_equal(cellar_cache_open_map(map_mapped, unmap_mapped, &mapped, 32, 2, &cache), 0);
    assert_int_equal(cellar_cache_read(cache, 480, got, 20), 0);
    mapped.length = 505;
    assert_int_equal(cellar_cache_read(cache, 480, got, 26), CELLAR_EBOUNDS);
    assert_int_equal(cellar_cache_fault_address(cache), 505);
    assert_int_equal(cellar_cache_read(cache, 480, got, 25), 0);
    mapped.error = -ENXIO;
    assert_int_equal(cellar_cache_read(cache, 0, got, 1), -ENXIO);
    assert_int_equal(cellar_cache_read(cache, 480, got, 26), -ENXIO);
    assert_int_equal(cellar_cache_map(cache, 0, 64, &run), -ENXIO);
    mapped.error = 3; /* no answer that a map function has */
    assert_int_equal(cellar_cache_read(cache, 0, got, 1), -EIO);
    mapped.error = 0;
    mapped.too_much = 1;
    assert_int_equal(cellar_cache_read(cache, 0, got, 1), -EINVAL);
    assert_int_equal(cellar_cache_map(cache, 0, 64, &run), -EINVAL);
    assert_int_equal(mapped.out, 1);
    mapped.too_much = 0;
    assert_int_equal(cellar_cache_read(cache, 0, got, 1), 0);
    cellar_cache_close(cache);
    assert_int_equal(mapped.out, 0);
    /* Without unmap. */
    assert_int_equal(cellar_cache_open_map(map_mapped, NULL, &mapped, 32, 2, &cache), 0);
    assert_int_equal(cellar_cache_read(cache, 0, got, 100), 0);
    cellar_cache_close(cache);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_iterate),           cmocka_unit_test(test_iterate_stops),
        cmocka_unit_test(test_iterate_nested),    cmocka_unit_test(test_growth),
        cmocka_unit_test(test_growth_of_devices), cmocka_unit_test(test_failures),
        cmocka_unit_test(test_lending_gives_out), cmocka_unit_test(test_shrunk),
        cmocka_unit_test(test_contradiction),     cmocka_unit_test(test_no_bytes),
        cmocka_unit_test(test_functions),         cmocka_unit_test(test_functions_grow_and_fail),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
