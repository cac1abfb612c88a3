/* Little-endian integers at every alignment, against shifts written out. */
#include "support.h"

#include "base/bytes.h"

#include <string.h>

static uint64_t little_endian(const unsigned char *bytes, size_t count)
{
    uint64_t value = 0;

    for (size_t i = count; i > 0; i--)
        value = value << 8 | bytes[i - 1];
    return value;
}

static void test_load(void **state)
{
    unsigned char bytes[64];

    (void)state;
    support_bytes(1, bytes, sizeof bytes);
    bytes[0] = 0xff; /* a top byte that would be a sign */
    bytes[7] = 0x80;
    for (size_t at = 0; at + 8 <= sizeof bytes; at++) {
        assert_int_equal(cellar_load_le16(bytes + at), little_endian(bytes + at, 2));
        assert_int_equal(cellar_load_le32(bytes + at), little_endian(bytes + at, 4));
        assert_true(cellar_load_le64(bytes + at) == little_endian(bytes + at, 8));
    }
}

/* Each store changes its own bytes, and no others. */
static void check_store(unsigned char *bytes, size_t total, size_t at, size_t width, uint64_t value)
{
    assert_true(little_endian(bytes + at, width) == value);
    for (size_t i = 0; i < total; i++) {
        if (i < at || i >= at + width)
            assert_int_equal(bytes[i], 0xa5);
        bytes[i] = 0xa5;
    }
}

static void test_store(void **state)
{
    static const uint64_t values[] = {0, 1, 0x80, 0x0102030405060708, 0xfffefdfcfbfaf9f8, UINT64_MAX};
    unsigned char bytes[24];

    (void)state;
    memset(bytes, 0xa5, sizeof bytes);
    for (size_t i = 0; i < SUPPORT_COUNT(values); i++) {
        for (size_t at = 0; at <= 8; at++) {
            cellar_store_le16(bytes + at, (uint16_t)values[i]);
            check_store(bytes, sizeof bytes, at, 2, values[i] & 0xffff);
            cellar_store_le32(bytes + at, (uint32_t)values[i]);
            check_store(bytes, sizeof bytes, at, 4, values[i] & 0xffffffff);
            cellar_store_le64(bytes + at, values[i]);
            check_store(bytes, sizeof bytes, at, 8, values[i]);
        }
    }
}

static void test_all_16_bit_values(void **state)
{
    (void)state;
    for (uint32_t value = 0; value <= UINT16_MAX; value++) {
        unsigned char bytes[2];

        cellar_store_le16(bytes, (uint16_t)value);
        assert_int_equal(bytes[0], value & 0xff);
        assert_int_equal(bytes[1], value >> 8);
        assert_int_equal(cellar_load_le16(bytes), value);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_load),
        cmocka_unit_test(test_store),
        cmocka_unit_test(test_all_16_bit_values),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
