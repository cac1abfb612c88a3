/* Runs of bits, against one bit at a time. */
#include "page_test.h"

#include "page/bits.h"

enum { BITS = 300 };

struct model {
    uint64_t words[(BITS + 63) / 64];
    bool bits[BITS];
};

static size_t model_next(const struct model *model, bool value, size_t from, size_t to)
{
    for (size_t i = from; i < to; i++) {
        if (model->bits[i] == value)
            return i;
    }
    return CELLAR_BITS_NONE;
}

static size_t model_last(const struct model *model, bool value, size_t from, size_t to)
{
    for (size_t i = to; i > from; i--) {
        if (model->bits[i - 1] == value)
            return i - 1;
    }
    return CELLAR_BITS_NONE;
}

static size_t model_set(struct model *model, bool value, size_t from, size_t to)
{
    size_t changed = 0;

    for (size_t i = from; i < to; i++) {
        changed += model->bits[i] != value;
        model->bits[i] = value;
    }
    return changed;
}

static void compare(const struct model *model, size_t from, size_t to)
{
    for (int value = 0; value < 2; value++) {
        size_t start = from, end = from, expected;

        assert_int_equal(cellar_bits_next(model->words, value, from, to), model_next(model, value, from, to));
        assert_int_equal(cellar_bits_last(model->words, value, from, to), model_last(model, value, from, to));
        expected = model_next(model, value, from, to);
        assert_int_equal(cellar_bits_run(model->words, value, &start, to, &end), expected != CELLAR_BITS_NONE);
        if (expected == CELLAR_BITS_NONE)
            continue;
        assert_int_equal(start, expected);
        expected = model_next(model, !value, start, to);
        assert_int_equal(end, expected == CELLAR_BITS_NONE ? to : expected);
    }
}

static void test_bits_random(void **state)
{
    struct model model = {0};
    uint64_t random = 1;

    (void)state;
    for (int round = 0; round < 20000; round++) {
        size_t from = next_random(&random) % (BITS + 1), to = next_random(&random) % (BITS + 1);
        bool value = next_random(&random) % 2;

        if (from > to)
            continue;
        if (value)
            assert_int_equal(cellar_bits_set(model.words, from, to), model_set(&model, true, from, to));
        else
            assert_int_equal(cellar_bits_clear(model.words, from, to), model_set(&model, false, from, to));
        from = next_random(&random) % (BITS + 1);
        to = next_random(&random) % (BITS + 1);
        compare(&model, from, to);
        if (from < BITS)
            assert_int_equal(cellar_bits_test(model.words, from), model.bits[from]);
    }
}

static void test_bits_edges(void **state)
{
    uint64_t words[2] = {0};

    (void)state;
    assert_int_equal(cellar_bits_words(1), 1);
    assert_int_equal(cellar_bits_words(64), 1);
    assert_int_equal(cellar_bits_words(65), 2);
    assert_int_equal(cellar_bits_set(words, 0, 128), 128);
    assert_true(words[0] == UINT64_MAX && words[1] == UINT64_MAX);
    assert_int_equal(cellar_bits_clear(words, 63, 65), 2);
    assert_true(words[0] == UINT64_MAX >> 1 && words[1] == UINT64_MAX << 1);
    assert_int_equal(cellar_bits_set(words, 5, 5), 0);
    assert_int_equal(cellar_bits_next(words, false, 0, 128), 63);
    assert_int_equal(cellar_bits_last(words, false, 0, 128), 64);
    assert_int_equal(cellar_bits_next(words, false, 65, 128), CELLAR_BITS_NONE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bits_random),
        cmocka_unit_test(test_bits_edges),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
