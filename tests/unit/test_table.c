/* The hash table from page numbers to pointers, against a plain array. */
#include "page_test.h"

#include "page/table.h"

enum { KEYS = 512 };

static void test_table_random(void **state)
{
    static int values[KEYS];
    bool there[KEYS] = {false};
    struct cellar_table table = {0};
    uint64_t random = 3;
    size_t count = 0;

    (void)state;
    for (int round = 0; round < 50000; round++) {
        size_t i = next_random(&random) % KEYS;
        /* Half of the keys are neighbours, half lie a large power of two apart: both make clusters. */
        uint64_t key = i < KEYS / 2 ? i : (uint64_t)i << 50;

        assert_ptr_equal(cellar_table_find(&table, key), there[i] ? &values[i] : NULL);
        if (there[i]) {
            cellar_table_remove(&table, key);
            count--;
        } else {
            assert_int_equal(cellar_table_reserve(&table, count + 1), 0);
            cellar_table_insert(&table, key, &values[i]);
            count++;
        }
        there[i] = !there[i];
        assert_int_equal(table.count, count);
        assert_true(table.count <= table.capacity / 2);
    }
    for (size_t i = 0; i < KEYS; i++)
        assert_ptr_equal(cellar_table_find(&table, i < KEYS / 2 ? i : (uint64_t)i << 50), there[i] ? &values[i] : NULL);
    cellar_table_clear(&table);
    assert_int_equal(table.capacity, 0);
}

/* Neighbouring keys have their places all over the table, and nowhere else. */
static void test_table_spread(void **state)
{
    (void)state;
    for (size_t count = 8; count <= 2048; count *= 2) {
        struct cellar_table table = {0};
        size_t quarters[4] = {0};

        assert_int_equal(cellar_table_reserve(&table, count), 0);
        assert_int_equal(table.capacity, 2 * count);
        for (uint64_t key = 0; key < count; key++) {
            size_t slot = cellar_table_slot(&table, key);

            assert_true(slot < table.capacity);
            quarters[slot * 4 / table.capacity]++;
        }
        for (int i = 0; i < 4; i++)
            assert_true(quarters[i] >= count / 8);
        cellar_table_clear(&table);
    }
}

/* Every entry of a cluster that wraps around the end of the array stays found when any of them goes. */
static void test_table_clusters(void **state)
{
    static int value;

    (void)state;
    for (size_t gone = 0; gone < 8; gone++) {
        struct cellar_table table = {0};
        uint64_t keys[8], key = 0;
        size_t found = 0;

        assert_int_equal(cellar_table_reserve(&table, 8), 0);
        for (; found < 8; key++) {
            size_t slot = cellar_table_slot(&table, key);

            if (slot >= table.capacity - 2 || slot == 0)
                keys[found++] = key;
        }
        for (size_t i = 0; i < 8; i++)
            cellar_table_insert(&table, keys[i], &value);
        cellar_table_remove(&table, keys[gone]);
        for (size_t i = 0; i < 8; i++)
            assert_ptr_equal(cellar_table_find(&table, keys[i]), i == gone ? NULL : &value);
        cellar_table_clear(&table);
    }
}

static void test_table_reserve(void **state)
{
    struct cellar_table table = {0};
    struct cellar_table_entry *entries;

    (void)state;
    assert_null(cellar_table_find(&table, 0));
    assert_int_equal(cellar_table_reserve(&table, 100), 0);
    entries = table.entries;
    assert_int_equal(cellar_table_reserve(&table, 100), 0);
    assert_int_equal(cellar_table_reserve(&table, 1), 0);
    assert_ptr_equal(table.entries, entries);
    assert_int_equal(cellar_table_reserve(&table, SIZE_MAX / 2), -ENOMEM);
    assert_ptr_equal(table.entries, entries);
    cellar_table_clear(&table);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_table_random),
        cmocka_unit_test(test_table_spread),
        cmocka_unit_test(test_table_clusters),
        cmocka_unit_test(test_table_reserve),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
