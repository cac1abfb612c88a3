/* Typed gets: every type, at every address, with pages of every size, and the lines behind the inline ones. */
#include "page_test.h"
#include "support.h"

#include <cellar/cache.h>

enum { LENGTH = 300 };

/* The integer at these bytes, put together digit by digit. order: 'l', 'b', or 'n' for this machine's. */
static uint64_t integer_at(const unsigned char *bytes, unsigned width, char order)
{
    const uint16_t one = 1;
    bool little = order == 'l' || (order == 'n' && *(const unsigned char *)&one == 1);
    uint64_t value = 0;

    for (unsigned i = 0; i < width; i++)
        value = value << 8 | bytes[little ? width - 1 - i : i];
    return value;
}

#define TYPES(X)                                                                                                       \
    X(i8, int8_t, 'l')                                                                                                 \
    X(u8, uint8_t, 'l')                                                                                                \
    X(i16_le, int16_t, 'l')                                                                                            \
    X(i16_be, int16_t, 'b')                                                                                            \
    X(i16_ne, int16_t, 'n')                                                                                            \
    X(u16_le, uint16_t, 'l')                                                                                           \
    X(u16_be, uint16_t, 'b')                                                                                           \
    X(u16_ne, uint16_t, 'n')                                                                                           \
    X(i32_le, int32_t, 'l')                                                                                            \
    X(i32_be, int32_t, 'b')                                                                                            \
    X(i32_ne, int32_t, 'n')                                                                                            \
    X(u32_le, uint32_t, 'l')                                                                                           \
    X(u32_be, uint32_t, 'b')                                                                                           \
    X(u32_ne, uint32_t, 'n')                                                                                           \
    X(i64_le, int64_t, 'l')                                                                                            \
    X(i64_be, int64_t, 'b')                                                                                            \
    X(i64_ne, int64_t, 'n')                                                                                            \
    X(u64_le, uint64_t, 'l')                                                                                           \
    X(u64_be, uint64_t, 'b')                                                                                           \
    X(u64_ne, uint64_t, 'n')

/* Each is right twice in a row (the second comes from a line where it lies in one page), or out of bounds. */
#define CHECK(name, type, order)                                                                                       \
    static void check_##name(struct cellar_cache *cache, const unsigned char *bytes, uint64_t address)                 \
    {                                                                                                                  \
        type value = 77;                                                                                               \
        for (int again = 0; again < 2; again++) {                                                                      \
            int error = cellar_cache_get_##name(cache, address, &value);                                               \
            if (address + sizeof value > LENGTH) {                                                                     \
                assert_int_equal(error, CELLAR_EBOUNDS);                                                               \
                assert_int_equal(cellar_cache_fault_address(cache), address > LENGTH ? address : LENGTH);              \
                assert_true(value == 77);                                                                              \
            } else {                                                                                                   \
                assert_int_equal(error, 0);                                                                            \
                assert_true(value == (type)integer_at(bytes + address, sizeof value, order));                          \
            }                                                                                                          \
        }                                                                                                              \
    }

TYPES(CHECK)

static void check_128(struct cellar_cache *cache, const unsigned char *bytes, uint64_t address)
{
    uint8_t value[16] = {0}, zero[16] = {0};

    for (int again = 0; again < 2; again++) {
        int error = cellar_cache_get_128(cache, address, value);

        assert_int_equal(error, address + 16 > LENGTH ? CELLAR_EBOUNDS : 0);
        assert_memory_equal(value, error == 0 ? bytes + address : zero, 16);
    }
}

static void check_all(struct cellar_cache *cache, const unsigned char *bytes, uint64_t address)
{
#define CALL(name, type, order) check_##name(cache, bytes, address);
    TYPES(CALL)
    check_128(cache, bytes, address);
}

static void test_typed_everywhere(void **state)
{
    unsigned char bytes[LENGTH];

    (void)state;
    fill_random(bytes, sizeof bytes, 21);
    for (enum ground ground = 0; ground < GROUND_COUNT; ground++) {
        struct cellar_device *device = open_ground(ground, bytes, LENGTH);

        for (size_t page_bytes = 1; page_bytes <= 1024; page_bytes *= page_bytes < 16 ? 2 : 8) {
            for (size_t page_count = 1; page_count <= 128; page_count *= 8) {
                struct cellar_cache *cache;

                assert_int_equal(cellar_cache_open(device, page_bytes, page_count, &cache), 0);
                for (uint64_t address = 0; address < LENGTH + 20; address += page_bytes < 16 ? 7 : 1)
                    check_all(cache, bytes, address);
                cellar_cache_close(cache);
            }
        }
        cellar_device_close(device);
    }
}

/* The signs and the orders of one known pattern, in words that need no second implementation. */
static void test_typed_known(void **state)
{
    static const unsigned char bytes[] = {0x80, 0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0xff};
    struct cellar_device *device = open_ground(ON_MEMORY, bytes, sizeof bytes);
    struct cellar_cache *cache;
    int8_t i8;
    uint8_t u8;
    int16_t i16;
    uint16_t u16;
    int32_t i32;
    uint64_t u64;
    int64_t i64;

    (void)state;
    assert_int_equal(cellar_cache_open(device, 4, 2, &cache), 0);
    assert_true(cellar_cache_get_i8(cache, 0, &i8) == 0 && i8 == -128);
    assert_true(cellar_cache_get_u8(cache, 0, &u8) == 0 && u8 == 128);
    assert_true(cellar_cache_get_i16_le(cache, 0, &i16) == 0 && i16 == 0x0180);
    assert_true(cellar_cache_get_i16_be(cache, 0, &i16) == 0 && i16 == -0x7fff);
    assert_true(cellar_cache_get_u16_be(cache, 0, &u16) == 0 && u16 == 0x8001);
    assert_true(cellar_cache_get_i32_le(cache, 4, &i32) == 0 && i32 == (int32_t)0xff060504 && i32 < 0);
    assert_true(cellar_cache_get_u64_be(cache, 0, &u64) == 0 && u64 == UINT64_C(0x80010203040506ff));
    assert_true(cellar_cache_get_i64_le(cache, 0, &i64) == 0 && (uint64_t)i64 == UINT64_C(0xff06050403020180));
    cellar_cache_close(cache);
    cellar_device_close(device);
}

/* A get over two pages costs a lookup for each, and a load for each that isn't there: not one for each byte. */
static void test_typed_straddle(void **state)
{
    struct trial *trial = new_trial(4096, 22);
    struct cellar_device *device = open_trial(trial, TRIAL_COPIES);
    struct cellar_cache *cache;
    struct cellar_cache_counters counters;
    uint64_t value;

    (void)state;
    if (support_cache_debug())
        support_skip("the debug mode of the cache gives pages up at once");
    assert_int_equal(cellar_cache_open(device, 64, 8, &cache), 0);
    assert_int_equal(cellar_cache_get_u64_le(cache, 60, &value), 0);
    assert_int_equal(trial->reads, 2);
    assert_int_equal(cellar_cache_get_u64_le(cache, 60, &value), 0);
    assert_int_equal(cellar_cache_get_u64_le(cache, 56, &value), 0);
    counters = cellar_cache_counters(cache);
    assert_int_equal(trial->reads, 2);
    assert_int_equal(counters.misses, 2);
    assert_int_equal(counters.hits, 3);
    cellar_cache_close(cache);
    cellar_device_close(device);
    free(trial);
}

/* Pages that share a line push each other out of it, not out of the cache; and an inline hit counts and marks. */
static void test_typed_lines(void **state)
{
    struct trial *trial = new_trial(TRIAL_BYTES, 23);
    struct cellar_device *device = open_trial(trial, TRIAL_COPIES);
    struct cellar_cache *cache;
    uint32_t value;
    const uint64_t other = CELLAR_CACHE_LINES * 16;

    (void)state;
    if (support_cache_debug())
        support_skip("the debug mode of the cache gives pages up at once");
    assert_int_equal(cellar_cache_open(device, 16, 2, &cache), 0);
    for (uint64_t i = 0; i < 10; i++) {
        assert_int_equal(cellar_cache_get_u32_ne(cache, i % 2 ? other : 0, &value), 0);
        assert_memory_equal(&value, trial->bytes + (i % 2 ? other : 0), 4);
    }
    assert_int_equal(trial->reads, 2);
    assert_int_equal(cellar_cache_counters(cache).hits, 8);
    assert_int_equal(cellar_cache_counters(cache).misses, 2);
    cellar_cache_close(cache);

    /* What is read of a page before another one is looked at is one use: 0 is given up first, as it came first. */
    assert_int_equal(cellar_cache_open(device, 16, 2, &cache), 0);
    assert_int_equal(cellar_cache_get_u32_ne(cache, 0, &value), 0);
    assert_non_null(cellar_cache_peek(cache, 4, 4));
    assert_int_equal(cellar_cache_get_u32_ne(cache, 16, &value), 0);
    assert_int_equal(cellar_cache_get_u32_ne(cache, 32, &value), 0);
    assert_true(!cellar_cache_is_cached(cache, 0) && cellar_cache_is_cached(cache, 16));
    cellar_cache_close(cache);

    /* 0 is used again, inline, after the second page and before the third: SIEVE gives up the other one. */
    assert_int_equal(cellar_cache_open(device, 16, 2, &cache), 0);
    assert_int_equal(cellar_cache_get_u32_ne(cache, 0, &value), 0);
    assert_int_equal(cellar_cache_get_u32_ne(cache, 16, &value), 0);
    assert_non_null(cellar_cache_peek(cache, 4, 4));
    assert_int_equal(cellar_cache_get_u32_ne(cache, 32, &value), 0);
    assert_true(cellar_cache_is_cached(cache, 0) && !cellar_cache_is_cached(cache, 16));
    assert_non_null(cellar_cache_peek(cache, 0, 1));
    assert_null(cellar_cache_peek(cache, 16, 1));
    /* What is gone from the cache is gone from its line. */
    cellar_cache_invalidate(cache, 0, 1);
    assert_null(cellar_cache_peek(cache, 0, 1));
    assert_int_equal(cellar_cache_get_u32_ne(cache, 0, &value), 0);
    assert_non_null(cellar_cache_peek(cache, 12, 4));
    assert_null(cellar_cache_peek(cache, 13, 4));
    cellar_cache_close(cache);
    cellar_device_close(device);
    free(trial);
}

/* Addresses at the very end of the numbers, with lines that are empty and lines that aren't. */
static void test_typed_extremes(void **state)
{
    unsigned char bytes[LENGTH];

    (void)state;
    fill_random(bytes, sizeof bytes, 24);
    for (size_t page_bytes = 1; page_bytes <= 4096; page_bytes *= 4) {
        struct cellar_device *device = open_ground(ON_MEMORY, bytes, LENGTH);
        struct cellar_cache *cache;
        uint8_t value[16];

        assert_int_equal(cellar_cache_open(device, page_bytes, 64, &cache), 0);
        for (int round = 0; round < 2; round++) {
            for (uint64_t address = UINT64_MAX - 40; address != 0; address++) {
                assert_int_equal(cellar_cache_get_128(cache, address, value), CELLAR_EBOUNDS);
                assert_int_equal(cellar_cache_fault_address(cache), address);
            }
            for (uint64_t address = 0; address < LENGTH; address++)
                assert_int_equal(cellar_cache_get_u8(cache, address, value), 0);
        }
        cellar_cache_close(cache);
        cellar_device_close(device);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_typed_everywhere), cmocka_unit_test(test_typed_known),
        cmocka_unit_test(test_typed_straddle),   cmocka_unit_test(test_typed_lines),
        cmocka_unit_test(test_typed_extremes),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
