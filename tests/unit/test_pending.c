/* The set of pending bytes, against one flag and one byte for each address. */
#include "page_test.h"

#include "page/pending.h"

enum { SPACE = 3000 };

struct model {
    unsigned char bytes[SPACE];
    bool dirty[SPACE + 2];
};

/* In the original's words: the stretch is the inclusive interval [address, address + length] of every write, joined
 * where one ends right before another begins. */
static bool in_stretch(const struct model *model, uint64_t at)
{
    return at < SPACE + 2 && (model->dirty[at] || (at > 0 && model->dirty[at - 1]));
}

static void widen_model(const struct model *model, uint64_t *start, uint64_t *end)
{
    uint64_t from = *start, to = *end;

    if (in_stretch(model, from)) {
        while (from > 0 && in_stretch(model, from - 1))
            from--;
    }
    if (in_stretch(model, to)) {
        while (in_stretch(model, to + 1))
            to++;
    }
    *start = from;
    *end = to;
}

static void check_collect(struct cellar_pending_set *set, const struct model *model, uint64_t start, uint64_t end)
{
    size_t count = cellar_pending_collect(set, start, end), seen = 0;
    uint64_t last_page = UINT64_MAX;

    for (uint64_t at = start; at < end && at < SPACE; at++) {
        uint64_t page = at / set->page_bytes;

        if (!model->dirty[at] || page == last_page)
            continue;
        assert_true(seen < count);
        assert_int_equal(set->order[seen++]->page, page);
        last_page = page;
    }
    assert_int_equal(seen, count);
}

static void check_bytes(const struct cellar_pending_set *set, const struct model *model)
{
    uint64_t count = 0;

    for (uint64_t page = 0; page * set->page_bytes < SPACE; page++) {
        const struct cellar_pending *pending = cellar_pending_find(set, page);
        unsigned char got[1024];
        bool any = false;

        memset(got, 0xcc, sizeof got);
        if (pending != NULL)
            cellar_pending_overlay(pending, 0, set->page_bytes, got);
        for (size_t i = 0; i < set->page_bytes && page * set->page_bytes + i < SPACE; i++) {
            uint64_t at = page * set->page_bytes + i;

            assert_int_equal(got[i], model->dirty[at] ? model->bytes[at] : 0xcc);
            any = any || model->dirty[at];
            count += model->dirty[at];
        }
        assert_int_equal(pending != NULL, any);
    }
    assert_int_equal(set->byte_count, count);
}

static void random_step(struct cellar_pending_set *set, struct model *model, uint64_t *random)
{
    uint64_t at = next_random(random) % SPACE;
    size_t length = (size_t)(next_random(random) % (next_random(random) % 10 == 0 ? 700 : 9));

    if (length > SPACE - at)
        length = (size_t)(SPACE - at);
    if (next_random(random) % 4 != 0) {
        unsigned char bytes[700];

        fill_random(bytes, length, next_random(random));
        assert_int_equal(cellar_pending_write(set, at, bytes, length), 0);
        memcpy(model->bytes + at, bytes, length);
        memset(model->dirty + at, true, length);
        return;
    }
    /* Clean a part of a page. */
    size_t from = (size_t)(next_random(random) % set->page_bytes),
           to = (size_t)(next_random(random) % set->page_bytes) + 1;
    struct cellar_pending *pending = cellar_pending_find(set, at / set->page_bytes);

    if (pending == NULL || from >= to)
        return;
    cellar_pending_clean(set, pending, from, to);
    for (size_t i = from; i < to; i++) {
        if (at / set->page_bytes * set->page_bytes + i < SPACE)
            model->dirty[at / set->page_bytes * set->page_bytes + i] = false;
    }
}

static void test_pending_random(void **state)
{
    (void)state;
    for (size_t page_bytes = 1; page_bytes <= 1024; page_bytes *= page_bytes == 1 ? 4 : 8) {
        struct cellar_pending_set set;
        struct model model = {{0}, {0}};
        uint64_t random = page_bytes;

        cellar_pending_open(&set, page_bytes, 4);
        for (int round = 0; round < 3000; round++) {
            uint64_t start = next_random(&random) % SPACE, end = start + next_random(&random) % 100;
            uint64_t model_start = start, model_end = end;

            random_step(&set, &model, &random);
            check_collect(&set, &model, start, end);
            cellar_pending_widen(&set, &start, &end);
            widen_model(&model, &model_start, &model_end);
            assert_int_equal(start, model_start);
            assert_int_equal(end, model_end);
            if (round % 100 == 0) {
                check_bytes(&set, &model);
                check_collect(&set, &model, 0, UINT64_MAX);
            }
        }
        assert_true(set.spare_count <= 4);
        cellar_pending_discard(&set);
        memset(model.dirty, 0, sizeof model.dirty);
        check_bytes(&set, &model);
        cellar_pending_close(&set);
    }
}

/* Gaps of no, one and two clean bytes, at the edges of words and pages. */
static void test_pending_widen_gaps(void **state)
{
    (void)state;
    for (uint64_t at = 1; at < 200; at++) {
        for (uint64_t gap = 0; gap < 3; gap++) {
            struct cellar_pending_set set;
            uint64_t start = at, end = at, second = at + 3 + gap;

            cellar_pending_open(&set, 64, 0);
            assert_int_equal(cellar_pending_write(&set, at, "abc", 3), 0);
            assert_int_equal(cellar_pending_write(&set, second, "de", 2), 0);
            cellar_pending_widen(&set, &start, &end);
            assert_int_equal(start, at);
            assert_int_equal(end, gap < 2 ? second + 2 : at + 3);
            start = end = second + 2; /* touches the end */
            cellar_pending_widen(&set, &start, &end);
            assert_int_equal(start, gap < 2 ? at : second);
            assert_int_equal(end, second + 2);
            start = end = second + 3; /* does not */
            cellar_pending_widen(&set, &start, &end);
            assert_int_equal(start, second + 3);
            cellar_pending_close(&set);
        }
    }
}

static void test_pending_reuse(void **state)
{
    struct cellar_pending_set set;
    unsigned char bytes[640] = {0};

    (void)state;
    cellar_pending_open(&set, 64, 3);
    assert_int_equal(cellar_pending_write(&set, 0, bytes, sizeof bytes), 0);
    assert_int_equal(cellar_pending_write(&set, 5, NULL, 0), 0);
    assert_int_equal(set.byte_count, 640);
    cellar_pending_discard(&set);
    assert_int_equal(set.spare_count, 3);
    assert_int_equal(cellar_pending_write(&set, 0, bytes, 128), 0);
    assert_int_equal(set.spare_count, 1);
    assert_int_equal(set.byte_count, 128);
    cellar_pending_close(&set);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_pending_random),
        cmocka_unit_test(test_pending_widen_gaps),
        cmocka_unit_test(test_pending_reuse),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
