/* Chunks as numbers: how many cells, where the footer lies, which footers are refused. All bytes per cell. */
#include "support.h"

#include "format/format.h"

/* The checks below are many millions; cmocka is asked only where one fails. */
#define NEEDS(condition)                                                                                               \
    do {                                                                                                               \
        if (!(condition))                                                                                              \
            fail_msg("%s (bytes per cell %u, case %llu)", #condition, bytes_per_cell, (unsigned long long)number);     \
    } while (0)

static void test_cells_of_a_chunk(void **state)
{
    (void)state;
    for (uint32_t bytes_per_cell = 4; bytes_per_cell <= 65535; bytes_per_cell++) {
        uint64_t sizes[40];
        size_t count = 0;

        /* One byte on either side of every edge, where the edges are few; of the first and last ones otherwise. */
        for (uint64_t cells = 1; cells <= 4; cells++) {
            for (int64_t around = -1; around <= 1; around++)
                sizes[count++] = (uint64_t)((int64_t)(cells * bytes_per_cell) - 6 + around);
        }
        for (uint64_t size = 65530; size <= 65535; size++)
            sizes[count++] = size;
        sizes[count++] = 0;
        sizes[count++] = 1;
        for (size_t i = 0; i < count; i++) {
            uint64_t number = sizes[i], cells;

            if (number > 65535) /* below 0, too */
                continue;
            cells = cellar_chunk_cells(bytes_per_cell, (uint32_t)number);
            NEEDS(cells > 0);
            NEEDS(cells * bytes_per_cell >= number + 6);
            NEEDS((cells - 1) * bytes_per_cell < number + 6);
        }
    }
}

/* One chunk after the other, as they are written. */
static uint64_t value_cells_by_adding(uint32_t bytes_per_cell, uint64_t size_bytes)
{
    uint64_t cells = 0, left = size_bytes;

    do {
        uint64_t part = left > 65535 ? 65535 : left;

        cells += (part + 6 + bytes_per_cell - 1) / bytes_per_cell;
        left -= part;
    } while (left > 0);
    return cells;
}

static void test_cells_of_a_value(void **state)
{
    (void)state;
    for (uint32_t bytes_per_cell = 4; bytes_per_cell <= 65535; bytes_per_cell++) {
        for (uint64_t chunks = 0; chunks <= 5; chunks++) {
            for (int64_t around = -7; around <= 7; around++) {
                int64_t signed_size = (int64_t)(chunks * 65535) + around;
                uint64_t number = (uint64_t)signed_size;

                if (signed_size >= 0)
                    NEEDS(cellar_value_cells(bytes_per_cell, number) == value_cells_by_adding(bytes_per_cell, number));
            }
        }
    }
}

/* More cells than 32 bits can count, and the largest size there is. */
static void test_cells_of_huge_values(void **state)
{
    (void)state;
    assert_true(cellar_value_cells(4, UINT64_C(65535) << 32) == UINT64_C(16386) << 32);
    assert_true(cellar_value_cells(65535, UINT64_MAX) > UINT64_MAX / 65535);
    assert_true(cellar_value_cells(4, UINT64_MAX) > UINT64_MAX / 4);
}

static void test_footer_bytes(void **state)
{
    static const unsigned char expected[6] = {0x34, 0x12, 0x04, 0x03, 0x02, 0x81};
    struct cellar_footer footer = {.size_bytes = 0x1234, .cdr = 0x81020304}, back;
    unsigned char bytes[7] = {[6] = 0x55};

    (void)state;
    cellar_footer_encode(&footer, bytes);
    assert_memory_equal(bytes, expected, sizeof expected);
    assert_int_equal(bytes[6], 0x55);
    back = cellar_footer_decode(bytes);
    assert_int_equal(back.size_bytes, footer.size_bytes);
    assert_int_equal(back.cdr, footer.cdr);
    for (uint32_t size = 0; size <= 65535; size++) {
        footer = (struct cellar_footer){.size_bytes = size, .cdr = ~size};
        cellar_footer_encode(&footer, bytes);
        back = cellar_footer_decode(bytes);
        assert_true(back.size_bytes == size && back.cdr == ~size);
    }
}

/* Where the cell ends, less six bytes, if all of them are in usable cells below next. */
static void check_footer_offset(uint32_t bytes_per_cell, uint32_t last, uint32_t next)
{
    int64_t start_byte = (int64_t)((256 + bytes_per_cell - 1) / bytes_per_cell) * bytes_per_cell;
    int64_t begin = ((int64_t)last + 1) * bytes_per_cell - 6;
    bool good = last < next && begin >= start_byte;
    uint64_t offset = 4242, number = last;
    int result = cellar_footer_offset(bytes_per_cell, last, next, &offset);

    NEEDS(result == (good ? 0 : CELLAR_EBOUNDS));
    NEEDS(offset == (good ? (uint64_t)begin : 4242));
}

static void test_footer_offset(void **state)
{
    (void)state;
    for (uint32_t bytes_per_cell = 4; bytes_per_cell <= 65535; bytes_per_cell++) {
        uint32_t start = cellar_start_index(bytes_per_cell);
        const uint32_t nexts[] = {0, 1, start, start + 1, start + 3, UINT32_MAX};

        for (size_t i = 0; i < SUPPORT_COUNT(nexts); i++) {
            for (uint32_t last = start - 1; last < start + 5; last++)
                check_footer_offset(bytes_per_cell, last, nexts[i]);
            check_footer_offset(bytes_per_cell, 0, nexts[i]);
            check_footer_offset(bytes_per_cell, nexts[i] - 1, nexts[i]);
            check_footer_offset(bytes_per_cell, UINT32_MAX - 1, nexts[i]);
            check_footer_offset(bytes_per_cell, UINT32_MAX, nexts[i]);
        }
    }
}

/* The rules of the format in plain signed numbers. */
static void check_chunk(uint32_t bytes_per_cell, uint32_t last, uint32_t size, uint32_t cdr)
{
    int64_t start = (256 + (int64_t)bytes_per_cell - 1) / bytes_per_cell;
    int64_t cells = ((int64_t)size + 6 + bytes_per_cell - 1) / bytes_per_cell;
    int64_t first = (int64_t)last - cells + 1;
    bool in_cells = first >= start, cdr_good = cdr == 0 || ((int64_t)cdr >= start && (int64_t)cdr < first);
    bool good = in_cells && cdr_good;
    struct cellar_footer footer = {.size_bytes = size, .cdr = cdr};
    struct cellar_chunk chunk = {.first_index = 99};
    const char *expected = NULL;
    uint64_t number = (uint64_t)last << 32 | cdr;
    int result = cellar_chunk_check(bytes_per_cell, last, &footer, &chunk, &expected);

    NEEDS(result == (good ? 0 : CELLAR_ECORRUPT));
    NEEDS((expected == NULL) == good);
    if (good)
        NEEDS(chunk.first_index == (uint32_t)first && chunk.last_index == last && chunk.size_bytes == size &&
              chunk.cdr == cdr);
    else
        NEEDS(chunk.first_index == 99);
    NEEDS(cellar_chunk_check(bytes_per_cell, last, &footer, &chunk, NULL) == result);
}

static void check_chunk_cdrs(uint32_t bytes_per_cell, uint32_t last, uint32_t size)
{
    uint32_t start = cellar_start_index(bytes_per_cell);
    uint32_t first = last - cellar_chunk_cells(bytes_per_cell, size) + 1;
    const uint32_t cdrs[] = {0,     1,         start - 1, start,    start + 1, first - 1,
                             first, first + 1, last,      last + 1, UINT32_MAX};

    for (size_t i = 0; i < SUPPORT_COUNT(cdrs); i++)
        check_chunk(bytes_per_cell, last, size, cdrs[i]);
}

static void test_hostile_footers(void **state)
{
    static const uint32_t sizes[] = {0, 1, 2, 3, 4, 5, 6, 7, 250, 256, 32768, 65529, 65530, 65534, 65535};

    (void)state;
    for (uint32_t bytes_per_cell = 4; bytes_per_cell <= 65535; bytes_per_cell += bytes_per_cell < 300 ? 1 : 97) {
        uint32_t start = cellar_start_index(bytes_per_cell);

        for (size_t i = 0; i < SUPPORT_COUNT(sizes); i++) {
            uint32_t fits = start + cellar_chunk_cells(bytes_per_cell, sizes[i]) - 1; /* first chunk that can be */
            const uint32_t lasts[] = {0,    1,        start - 1, start,          start + 1,      fits - 1,
                                      fits, fits + 1, fits + 2,  UINT32_MAX / 2, UINT32_MAX - 1, UINT32_MAX};

            for (size_t j = 0; j < SUPPORT_COUNT(lasts); j++)
                check_chunk_cdrs(bytes_per_cell, lasts[j], sizes[i]);
        }
    }
}

/* Whatever passes lies below the cell that named it, so a walk ends after at most that many steps. */
static void test_chains_of_random_footers_end(void **state)
{
    uint64_t random = 5;

    (void)state;
    for (int round = 0; round < 200000; round++) {
        uint32_t bytes_per_cell = 4 + (uint32_t)support_random_below(&random, 60);
        uint32_t last = (uint32_t)support_random_below(&random, 3000), steps = 0;

        for (;;) {
            struct cellar_footer footer = {.size_bytes = (uint32_t)support_random_below(&random, 300),
                                           .cdr = (uint32_t)support_random_below(&random, 3000)};
            struct cellar_chunk chunk;

            if (cellar_chunk_check(bytes_per_cell, last, &footer, &chunk, NULL) != 0 || chunk.cdr == 0)
                break;
            assert_true(chunk.cdr < chunk.first_index && chunk.first_index <= last);
            last = chunk.cdr;
            assert_true(++steps < 3000);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cells_of_a_chunk),
        cmocka_unit_test(test_cells_of_a_value),
        cmocka_unit_test(test_cells_of_huge_values),
        cmocka_unit_test(test_footer_bytes),
        cmocka_unit_test(test_footer_offset),
        cmocka_unit_test(test_hostile_footers),
        cmocka_unit_test(test_chains_of_random_footers_end),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
