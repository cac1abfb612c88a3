/* The header's bytes: config, slots, which slot of a pair counts. */
#include "support.h"

#include "base/bytes.h"
#include "format/format.h"

#include <errno.h>
#include <string.h>

static const unsigned char hash_0_8[CELLAR_HASH_BYTES] = {0x21, 0x3f, 0xe8, 0xc1, 0x51, 0xfa,
                                                          0x5d, 0x61, 0x36, 0x76, 0x8b, 0x13};
static const unsigned char keyed_0_8[CELLAR_HASH_BYTES] = {0xbd, 0x55, 0xee, 0x1b, 0xfc, 0x73,
                                                           0x3e, 0x3d, 0x35, 0xad, 0x48, 0x21};

static struct cellar_key counting_key(void)
{
    struct cellar_key key;

    for (size_t i = 0; i < sizeof key.bytes; i++)
        key.bytes[i] = (unsigned char)i;
    return key;
}

static void test_config_bytes(void **state)
{
    static const unsigned char expected[32] = {'H', 'E', 'A',  'D',  0,    1,    2,    3,    4,    5,    6,
                                               7,   8,   9,    10,   11,   12,   13,   14,   0xff, 0x64, 0,
                                               0,   0,   0xef, 0xbe, 0xad, 0xde, 0x04, 0x03, 0x02, 0x01};
    struct cellar_config config = {.bytes_per_cell = 100, .max_index = 0xdeadbeef, .version = 0x01020304}, back;
    unsigned char bytes[34];

    (void)state;
    memcpy(config.head, expected, CELLAR_HEAD_BYTES);
    memset(bytes, 0x99, sizeof bytes);
    cellar_config_encode(&config, bytes + 1);
    assert_memory_equal(bytes + 1, expected, sizeof expected);
    assert_int_equal(bytes[0], 0x99);
    assert_int_equal(bytes[33], 0x99);
    cellar_config_decode(bytes + 1, &back);
    assert_true(cellar_config_equal(&config, &back));
    assert_memory_equal(back.head, config.head, CELLAR_HEAD_BYTES);
    assert_int_equal(back.bytes_per_cell, 100);
    assert_int_equal(back.max_index, 0xdeadbeef);
    assert_int_equal(back.version, 0x01020304);
}

/* Every bit of the 32 bytes counts. */
static void test_config_equal(void **state)
{
    unsigned char bytes[32];
    struct cellar_config config, other;

    (void)state;
    support_bytes(3, bytes, sizeof bytes);
    cellar_config_decode(bytes, &config);
    for (unsigned bit = 0; bit < 8 * sizeof bytes; bit++) {
        bytes[bit / 8] ^= (unsigned char)(1u << bit % 8);
        cellar_config_decode(bytes, &other);
        assert_false(cellar_config_equal(&config, &other));
        bytes[bit / 8] ^= (unsigned char)(1u << bit % 8);
    }
    cellar_config_decode(bytes, &other);
    assert_true(cellar_config_equal(&config, &other));
}

/* ceil(256 / bytes per cell), found by adding. */
static uint32_t start_by_adding(uint32_t bytes_per_cell)
{
    uint32_t cells = 0;

    while ((uint64_t)cells * bytes_per_cell < 256)
        cells++;
    return cells;
}

static void test_config_check(void **state)
{
    (void)state;
    for (uint32_t bytes_per_cell = 0; bytes_per_cell <= 65537; bytes_per_cell++) {
        struct cellar_config config = {.bytes_per_cell = bytes_per_cell};
        bool cell_good = bytes_per_cell >= 4 && bytes_per_cell <= 65535;
        uint32_t start = cell_good ? start_by_adding(bytes_per_cell) : 64;
        const uint32_t max_indices[] = {0, start - 1, start, start + 1, UINT32_MAX};

        for (size_t i = 0; i < SUPPORT_COUNT(max_indices); i++) {
            uint64_t at = 777;
            const char *expected = NULL;
            bool good = cell_good && max_indices[i] >= start;

            config.max_index = max_indices[i];
            assert_int_equal(cellar_config_check(&config, &at, &expected), good ? 0 : -EINVAL);
            assert_int_equal(cellar_config_check(&config, NULL, NULL), good ? 0 : -EINVAL);
            assert_int_equal(at, good ? 777 : cell_good ? 24 : 20);
            assert_int_equal(expected == NULL, good);
            if (!good)
                assert_non_null(strstr(expected, cell_good ? "max index" : "bytes per cell"));
        }
    }
}

static void test_start_index(void **state)
{
    static const uint32_t known[][2] = {{4, 64}, {7, 37}, {32, 8}, {64, 4}, {100, 3}, {4096, 1}, {65535, 1}};

    (void)state;
    for (size_t i = 0; i < SUPPORT_COUNT(known); i++)
        assert_int_equal(cellar_start_index(known[i][0]), known[i][1]);
    for (uint32_t bytes_per_cell = 4; bytes_per_cell <= 65535; bytes_per_cell++)
        assert_int_equal(cellar_start_index(bytes_per_cell), start_by_adding(bytes_per_cell));
}

static void test_slot_vector(void **state)
{
    struct cellar_state empty = {.next_index = 8};
    struct cellar_key key = counting_key();
    unsigned char slot[CELLAR_SLOT_BYTES];

    (void)state;
    cellar_slot_encode(&empty, NULL, slot);
    assert_memory_equal(slot, hash_0_8, CELLAR_HASH_BYTES);
    assert_memory_equal(slot + 12, hash_0_8, CELLAR_HASH_BYTES);
    assert_memory_equal(slot + 24, "\0\0\0\0\10\0\0\0", 8);
    cellar_slot_encode(&empty, &key, slot);
    assert_memory_equal(slot, hash_0_8, CELLAR_HASH_BYTES);
    assert_memory_equal(slot + 12, keyed_0_8, CELLAR_HASH_BYTES);
    assert_memory_equal(slot + 24, "\0\0\0\0\10\0\0\0", 8);
}

static void test_slot_round_trip(void **state)
{
    static const uint32_t numbers[] = {0, 1, 8, 0x01020304, 0x80000000, UINT32_MAX};
    struct cellar_key key = counting_key();
    unsigned char slot[CELLAR_SLOT_BYTES];

    (void)state;
    for (size_t i = 0; i < SUPPORT_COUNT(numbers) * SUPPORT_COUNT(numbers); i++) {
        struct cellar_state put = {.next_index = numbers[i % SUPPORT_COUNT(numbers)],
                                   .root_index = numbers[i / SUPPORT_COUNT(numbers)]};
        struct cellar_slot got;

        cellar_slot_encode(&put, i % 2 == 0 ? &key : NULL, slot);
        got = cellar_slot_decode(slot);
        assert_true(got.valid);
        assert_int_equal(got.state.next_index, put.next_index);
        assert_int_equal(got.state.root_index, put.root_index);
        assert_int_equal(cellar_load_le32(slot + 24), put.root_index);
        assert_int_equal(cellar_load_le32(slot + 28), put.next_index);
    }
}

/* Bytes 0..11 and 24..31 are under the hash; 12..23 only speak of the key. */
static void test_slot_every_bit(void **state)
{
    struct cellar_state put = {.next_index = 12345, .root_index = 678};
    struct cellar_key key = counting_key();
    unsigned char slot[CELLAR_SLOT_BYTES];

    (void)state;
    cellar_slot_encode(&put, &key, slot);
    assert_int_equal(cellar_slot_key(slot, &key), CELLAR_KEY_GOOD);
    assert_true(cellar_slot_has_key(slot, &key));
    for (unsigned bit = 0; bit < 8 * CELLAR_SLOT_BYTES; bit++) {
        bool of_key = bit / 8 >= 12 && bit / 8 < 24;

        slot[bit / 8] ^= (unsigned char)(1u << bit % 8);
        assert_int_equal(cellar_slot_decode(slot).valid, of_key);
        assert_int_equal(cellar_slot_key(slot, &key), of_key ? CELLAR_KEY_BAD : CELLAR_KEY_UNKNOWN);
        assert_true(!of_key || !cellar_slot_has_key(slot, &key));
        slot[bit / 8] ^= (unsigned char)(1u << bit % 8);
    }
    /* What a broken slot says can still be read. */
    slot[0] ^= 1;
    assert_int_equal(cellar_slot_decode(slot).state.next_index, 12345);
    assert_int_equal(cellar_slot_decode(slot).state.root_index, 678);
}

static void test_slot_every_bit_of_the_key(void **state)
{
    struct cellar_state put = {.next_index = 9, .root_index = 8};
    struct cellar_key key = counting_key();
    unsigned char slot[CELLAR_SLOT_BYTES];

    (void)state;
    cellar_slot_encode(&put, &key, slot);
    for (unsigned bit = 0; bit < 8 * CELLAR_KEY_BYTES; bit++) {
        key.bytes[bit / 8] ^= (unsigned char)(1u << bit % 8);
        assert_int_equal(cellar_slot_key(slot, &key), CELLAR_KEY_BAD);
        key.bytes[bit / 8] ^= (unsigned char)(1u << bit % 8);
    }
    assert_int_equal(cellar_slot_key(slot, &key), CELLAR_KEY_GOOD);
    assert_int_equal(cellar_slot_key(slot, NULL), CELLAR_KEY_UNKNOWN);
    cellar_slot_encode(&put, NULL, slot);
    assert_int_equal(cellar_slot_key(slot, &key), CELLAR_KEY_BAD);
}

static void test_zero_bytes_are_no_slot(void **state)
{
    static const unsigned char zeros[CELLAR_SLOT_BYTES];

    (void)state;
    assert_false(cellar_slot_decode(zeros).valid);
}

static void test_pick(void **state)
{
    (void)state;
    for (int i = 0; i < 4; i++) {
        struct cellar_slot first = {.valid = (i & 1) != 0, .state = {.next_index = 10}};
        struct cellar_slot second = {.valid = (i & 2) != 0, .state = {.next_index = 20}};

        assert_int_equal(cellar_slot_pick(&first, &second), (i & 1) != 0 ? 0 : (i & 2) != 0 ? 1 : -1);
    }
}

static void test_places_and_names(void **state)
{
    static const char *const labels[] = {"disk-sync #1", "disk-sync #2", "process-sync #1", "process-sync #2"};

    (void)state;
    for (int name = 0; name < CELLAR_SLOT_COUNT; name++) {
        assert_int_equal(cellar_slot_offset((enum cellar_slot_name)name), 32 + 32 * name);
        assert_string_equal(cellar_slot_label((enum cellar_slot_name)name), labels[name]);
    }
    assert_int_equal(cellar_slot_offset(CELLAR_PROCESS_2) + CELLAR_SLOT_BYTES, CELLAR_AT_EXTENSION);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_config_bytes),
        cmocka_unit_test(test_config_equal),
        cmocka_unit_test(test_config_check),
        cmocka_unit_test(test_start_index),
        cmocka_unit_test(test_slot_vector),
        cmocka_unit_test(test_slot_round_trip),
        cmocka_unit_test(test_slot_every_bit),
        cmocka_unit_test(test_slot_every_bit_of_the_key),
        cmocka_unit_test(test_zero_bytes_are_no_slot),
        cmocka_unit_test(test_pick),
        cmocka_unit_test(test_places_and_names),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
