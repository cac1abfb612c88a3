/* A table that was cleared is an empty one: nothing is found in it, and it can be used again. */
#include "support.h"

#include "page/table.h"

static void test_used_again(void **state)
{
    struct cellar_table table = {0};
    int value;

    (void)state;
    for (int round = 0; round < 3; round++) {
        assert_null(cellar_table_find(&table, 7));
        assert_done(cellar_table_reserve(&table, 40));
        for (uint64_t key = 0; key < 40; key++)
            cellar_table_insert(&table, key, &value);
        assert_int_equal(table.count, 40);
        for (uint64_t key = 0; key < 40; key++)
            assert_ptr_equal(cellar_table_find(&table, key), &value);
        cellar_table_clear(&table);
        assert_null(table.entries);
        assert_int_equal(table.capacity, 0);
        assert_int_equal(table.count, 0);
    }
    cellar_table_clear(&table); /* twice is fine */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_used_again),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
