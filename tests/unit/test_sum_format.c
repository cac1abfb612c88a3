/* The bytes of a sums file, and what a state is called. */
#include "support.h"

#include "base/bytes.h"
#include "sum/sum_format.h"
#include "sum/sum_hash.h"

#include <errno.h>
#include <string.h>

/* The values of the format never change: these are XXH3's own. */
static void test_hash_is_xxh3(void **state)
{
    (void)state;
    assert_true(cellar_sum_hash("", 0) == UINT64_C(0x2d06800538d394c2));
    assert_true(cellar_sum_hash("a", 1) == UINT64_C(0xe6c632b61e964e1f));
    assert_true(cellar_sum_hash("abc", 3) == UINT64_C(0x78af5f94892f3950));
}

static struct cellar_sum_head make_head(void)
{
    struct cellar_sum_head head = {.owner = {.identity = 0x12345678, .bytes_per_cell = 32, .max_index = 99},
                                   .sequence = UINT64_C(0x1122334455667788),
                                   .covered_bytes = 12345,
                                   .settled_bytes = 4096};

    support_bytes(1, head.header, sizeof head.header);
    return head;
}

static void test_head(void **state)
{
    struct cellar_sum_head head = make_head(), found;
    unsigned char bytes[CELLAR_SUM_SECTOR_BYTES], changed[CELLAR_SUM_SECTOR_BYTES];

    (void)state;
    cellar_sum_head_encode(&head, bytes);
    assert_memory_equal(bytes, "CELLSUMS", 8);
    assert_int_equal(cellar_load_le32(bytes + 8), 1);
    assert_int_equal(cellar_load_le32(bytes + 12), 0x12345678);
    assert_memory_equal(bytes + 64, head.header, CELLAR_HEADER_BYTES);
    assert_done(cellar_sum_head_decode(bytes, &found));
    assert_true(found.owner.identity == head.owner.identity && found.owner.bytes_per_cell == 32 &&
                found.owner.max_index == 99 && found.sequence == head.sequence && found.covered_bytes == 12345 &&
                found.settled_bytes == 4096);
    assert_memory_equal(found.header, head.header, CELLAR_HEADER_BYTES);
    for (size_t bit = 0; bit < sizeof bytes * 8; bit++) {
        memcpy(changed, bytes, sizeof bytes);
        changed[bit / 8] ^= (unsigned char)(1u << bit % 8);
        assert_result(cellar_sum_head_decode(changed, &found), CELLAR_ECORRUPT);
    }
    memset(changed, 0, sizeof changed);
    assert_result(cellar_sum_head_decode(changed, &found), CELLAR_NONE);
    memcpy(changed, bytes, sizeof bytes);
    cellar_store_le32(changed + 8, 2);
    cellar_store_le64(changed + 504, cellar_sum_hash(changed, 504));
    assert_result(cellar_sum_head_decode(changed, &found), -ENOTSUP);
    changed[0] = 'X';
    cellar_store_le64(changed + 504, cellar_sum_hash(changed, 504));
    assert_result(cellar_sum_head_decode(changed, &found), CELLAR_ECORRUPT);
}

static void test_copy(void **state)
{
    struct cellar_sum_copy copy = {.length_bytes = CELLAR_SUM_COPY_BYTES}, found;
    unsigned char bytes[CELLAR_SUM_SECTOR_BYTES];

    (void)state;
    support_bytes(2, copy.bytes, sizeof copy.bytes);
    cellar_sum_copy_encode(&copy, 7, 3, bytes);
    assert_memory_equal(bytes, "CELLCOPY", 8);
    assert_done(cellar_sum_copy_decode(bytes, 7, 3, &found));
    assert_int_equal(found.length_bytes, CELLAR_SUM_COPY_BYTES);
    assert_memory_equal(found.bytes, copy.bytes, sizeof copy.bytes);
    assert_result(cellar_sum_copy_decode(bytes, 8, 3, &found), CELLAR_ECORRUPT);
    assert_result(cellar_sum_copy_decode(bytes, 7, 4, &found), CELLAR_ECORRUPT);
    cellar_store_le32(bytes + 16, CELLAR_SUM_COPY_BYTES + 1);
    cellar_store_le64(bytes + 504, cellar_sum_hash(bytes, 504));
    assert_result(cellar_sum_copy_decode(bytes, 7, 3, &found), CELLAR_ECORRUPT);
    bytes[100] ^= 1;
    assert_result(cellar_sum_copy_decode(bytes, 7, 3, &found), CELLAR_ECORRUPT);
}

/* A sector whose check holds, but which says what can't be. */
static void assert_senseless(const unsigned char *bytes, unsigned at, uint32_t value)
{
    unsigned char changed[CELLAR_SUM_SECTOR_BYTES];
    struct cellar_sum_sector found;

    memcpy(changed, bytes, sizeof changed);
    cellar_store_le32(changed + at, value);
    cellar_store_le64(changed + 504, cellar_sum_hash(changed, 504));
    assert_result(cellar_sum_sector_decode(changed, 7, 5, &found), CELLAR_ECORRUPT);
}

static void test_sector(void **state)
{
    struct cellar_sum_sector sector = {.number = 5, .count = 61, .tail_bytes = 100}, found;
    unsigned char bytes[CELLAR_SUM_SECTOR_BYTES];

    (void)state;
    for (uint32_t i = 0; i < 61; i++)
        sector.sums[i] = UINT64_C(0x0101010101010101) * i;
    cellar_sum_sector_encode(&sector, 7, bytes);
    assert_done(cellar_sum_sector_decode(bytes, 7, 5, &found));
    assert_true(found.number == 5 && found.count == 61 && found.tail_bytes == 100);
    assert_memory_equal(found.sums, sector.sums, sizeof found.sums);
    assert_result(cellar_sum_sector_decode(bytes, 8, 5, &found), CELLAR_ECORRUPT);
    assert_result(cellar_sum_sector_decode(bytes, 7, 4, &found), CELLAR_ECORRUPT);
    assert_senseless(bytes, 8, 0);
    assert_senseless(bytes, 8, 62);
    assert_senseless(bytes, 12, 0);
    assert_senseless(bytes, 12, 4097);
    memset(bytes, 0, sizeof bytes);
    assert_result(cellar_sum_sector_decode(bytes, 0, 0, &found), CELLAR_NONE);
    /* Nothing of the first block is covered by a sum that ends in the header. */
    sector = (struct cellar_sum_sector){.number = 0, .count = 1, .tail_bytes = 256};
    cellar_sum_sector_encode(&sector, 7, bytes);
    assert_result(cellar_sum_sector_decode(bytes, 7, 0, &found), CELLAR_ECORRUPT);
    sector.tail_bytes = 257;
    cellar_sum_sector_encode(&sector, 7, bytes);
    assert_done(cellar_sum_sector_decode(bytes, 7, 0, &found));
}

static void test_ranges(void **state)
{
    struct cellar_sum_sector sector = {.number = 0, .count = 2, .tail_bytes = 10};
    uint64_t begin, end;

    (void)state;
    cellar_sum_range(&sector, 0, &begin, &end);
    assert_true(begin == 256 && end == 4096);
    cellar_sum_range(&sector, 1, &begin, &end);
    assert_true(begin == 4096 && end == 4106);
    assert_true(cellar_sum_sector_end(&sector) == 4106);
    sector.count = 0;
    assert_true(cellar_sum_sector_end(&sector) == 256);
    sector = (struct cellar_sum_sector){.number = UINT32_MAX, .count = 61, .tail_bytes = 4096};
    assert_true(cellar_sum_sector_end(&sector) == (UINT64_C(1) << 32) * CELLAR_SUM_SPAN_BYTES);
    sector.count = 0;
    assert_true(cellar_sum_sector_end(&sector) == UINT64_C(0xffffffff) * CELLAR_SUM_SPAN_BYTES);
    assert_int_equal(cellar_sum_sector_of(CELLAR_SUM_SPAN_BYTES - 1), 0);
    assert_int_equal(cellar_sum_sector_of(CELLAR_SUM_SPAN_BYTES), 1);
}

static void test_judge(void **state)
{
    static const struct {
        uint64_t covered, claimed, flushed;
        enum cellar_sums_state expected;
    } cases[] = {
        {256, 256, 256, CELLAR_SUMS_GOOD},   {500, 500, 500, CELLAR_SUMS_GOOD},   {400, 400, 500, CELLAR_SUMS_BEHIND},
        {400, 500, 500, CELLAR_SUMS_BEHIND}, {400, 501, 500, CELLAR_SUMS_STALE},  {501, 501, 500, CELLAR_SUMS_STALE},
        {501, 400, 500, CELLAR_SUMS_STALE},  {256, 256, 257, CELLAR_SUMS_BEHIND}, {500, 400, 500, CELLAR_SUMS_GOOD},
    };

    (void)state;
    for (size_t i = 0; i < SUPPORT_COUNT(cases); i++)
        assert_int_equal(cellar_sum_judge(cases[i].covered, cases[i].claimed, cases[i].flushed), cases[i].expected);
}

static void test_locate(void **state)
{
    unsigned char bytes[300], before[300];
    uint64_t sum;
    size_t bit;

    (void)state;
    support_bytes(3, bytes, sizeof bytes);
    memcpy(before, bytes, sizeof bytes);
    sum = cellar_sum_hash(bytes, sizeof bytes);
    for (size_t flipped = 0; flipped < sizeof bytes * 8; flipped += 7) {
        bytes[flipped / 8] ^= (unsigned char)(1u << flipped % 8);
        assert_done(cellar_sum_locate(bytes, sizeof bytes, sum, &bit));
        assert_int_equal(bit, flipped);
        bytes[flipped / 8] ^= (unsigned char)(1u << flipped % 8);
    }
    assert_memory_equal(bytes, before, sizeof bytes);
    bytes[0] ^= 3;
    assert_result(cellar_sum_locate(bytes, sizeof bytes, sum, &bit), CELLAR_NONE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_hash_is_xxh3), cmocka_unit_test(test_head),   cmocka_unit_test(test_copy),
        cmocka_unit_test(test_sector),       cmocka_unit_test(test_ranges), cmocka_unit_test(test_judge),
        cmocka_unit_test(test_locate),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
