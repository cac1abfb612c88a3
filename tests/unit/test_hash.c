/* BLAKE2b-96 against the format's vectors and those of another implementation (Python's hashlib). */
#include "support.h"

#include "base/hash.h"

#include <stdio.h>

static void assert_hex(const unsigned char digest[CELLAR_HASH96_BYTES], const char *expected)
{
    char hex[2 * CELLAR_HASH96_BYTES + 1];

    for (size_t i = 0; i < CELLAR_HASH96_BYTES; i++)
        snprintf(hex + 2 * i, 3, "%02x", digest[i]);
    assert_string_equal(hex, expected);
}

/* Root 0, next 8, as in a slot; with the key 00 01 .. 1f before it. */
static void test_vectors_of_the_format(void **state)
{
    static const unsigned char fields[8] = {0, 0, 0, 0, 8, 0, 0, 0};
    unsigned char key[32], digest[CELLAR_HASH96_BYTES];

    (void)state;
    for (size_t i = 0; i < sizeof key; i++)
        key[i] = (unsigned char)i;
    cellar_hash96(NULL, 0, fields, sizeof fields, digest);
    assert_hex(digest, "213fe8c151fa5d6136768b13");
    cellar_hash96(key, sizeof key, fields, sizeof fields, digest);
    assert_hex(digest, "bd55ee1bfc733e3d35ad4821");
}

/* The bytes 00 01 02 .. of lengths round the block of 128 bytes. */
static void test_lengths(void **state)
{
    static const struct {
        size_t length_bytes;
        const char *digest;
    } vectors[] = {
        {0, "b8e1dda3ac0aa3820ad2990b"},   {1, "fff0e5a0cb8587292c8f32d9"},   {127, "8d2dac9f3ea9ada7a467d2b1"},
        {128, "21c1b69151c13981e817f5cd"}, {129, "290895de66ab4c71493eaaf0"}, {255, "e20242224dfde63c67895075"},
        {256, "ea0d4bc663b6ee89cdf6947c"},
    };
    unsigned char bytes[256], digest[CELLAR_HASH96_BYTES];

    (void)state;
    for (size_t i = 0; i < sizeof bytes; i++)
        bytes[i] = (unsigned char)i;
    for (size_t i = 0; i < SUPPORT_COUNT(vectors); i++) {
        cellar_hash96(NULL, 0, bytes, vectors[i].length_bytes, digest);
        assert_hex(digest, vectors[i].digest);
    }
}

/* Where the prefix ends makes no difference. */
static void test_prefix_is_concatenation(void **state)
{
    unsigned char bytes[200], whole[CELLAR_HASH96_BYTES], parts[CELLAR_HASH96_BYTES];

    (void)state;
    support_bytes(2, bytes, sizeof bytes);
    cellar_hash96(NULL, 0, bytes, sizeof bytes, whole);
    for (size_t cut = 0; cut <= sizeof bytes; cut++) {
        cellar_hash96(bytes, cut, bytes + cut, sizeof bytes - cut, parts);
        assert_memory_equal(parts, whole, sizeof whole);
    }
}

static void test_writes_twelve_bytes(void **state)
{
    unsigned char digest[CELLAR_HASH96_BYTES + 1];

    (void)state;
    digest[CELLAR_HASH96_BYTES] = 0x77;
    cellar_hash96(NULL, 0, "x", 1, digest);
    assert_int_equal(digest[CELLAR_HASH96_BYTES], 0x77);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_vectors_of_the_format),
        cmocka_unit_test(test_lengths),
        cmocka_unit_test(test_prefix_is_concatenation),
        cmocka_unit_test(test_writes_twelve_bytes),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
