/* XXH3 against the values that the xxHash project publishes for its own sanity check. */
#include "support.h"

#include "base/xxh3.h"

enum { LENGTH_MAX = 2367, LONG = 70000 };

static const uint64_t prime = UINT64_C(11400714785074694797);

/* The bytes of that check. */
static void fill(unsigned char *bytes, size_t length_bytes)
{
    uint64_t generator = 2654435761;

    for (size_t i = 0; i < length_bytes; i++) {
        bytes[i] = (unsigned char)(generator >> 56);
        generator *= prime;
    }
}

static void test_published_values(void **state)
{
    static const struct {
        size_t length_bytes;
        uint64_t plain, seeded; /* by 0, by the prime */
    } rows[] = {
        {0, 0x2D06800538D394C2, 0xA8A6B918B2F0364A},    {1, 0xC44BDFF4074EECDB, 0x032BE332DD766EF8},
        {6, 0x27B56A84CD2D7325, 0x84589C116AB59AB9},    {12, 0xA713DAF0DFBB77E7, 0xE7303E1B2336DE0E},
        {24, 0xA3FE70BF9D3510EB, 0x850E80FC35BDD690},   {48, 0x397DA259ECBA1F11, 0xADC2CBAA44ACC616},
        {80, 0xBCDEFBBB2C47C90A, 0xC6DD0CB699532E73},   {195, 0xCD94217EE362EC3A, 0xBA68003D370CB3D9},
        {403, 0xCDEB804D65C6DEA4, 0x6259F6ECFD6443FD},  {512, 0x617E49599013CB6B, 0x3CE457DE14C27708},
        {2048, 0xDD59E2C3A5F038E0, 0x66F81670669ABABC}, {2367, 0xCB37AEB9E5D361ED, 0xD2DB3415B942B42A},
    };
    unsigned char bytes[LENGTH_MAX];

    (void)state;
    fill(bytes, sizeof bytes);
    for (size_t i = 0; i < SUPPORT_COUNT(rows); i++) {
        assert_true(cellar_xxh3(0, bytes, rows[i].length_bytes) == rows[i].plain);
        assert_true(cellar_xxh3(prime, bytes, rows[i].length_bytes) == rows[i].seeded);
    }
}

/* Every byte counts, and every byte of the seed. */
static void test_all_of_it_counts(void **state)
{
    static unsigned char bytes[LONG];
    uint64_t hash;

    (void)state;
    fill(bytes, sizeof bytes);
    hash = cellar_xxh3(1, bytes, LONG);
    for (size_t i = 0; i < LONG; i += 1021) {
        bytes[i] ^= 1;
        assert_true(cellar_xxh3(1, bytes, LONG) != hash);
        bytes[i] ^= 1;
    }
    for (int bit = 1; bit < 64; bit++)
        assert_true(cellar_xxh3(1 | UINT64_C(1) << bit, bytes, LONG) != hash);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_published_values),
        cmocka_unit_test(test_all_of_it_counts),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
