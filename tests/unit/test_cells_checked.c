/* A reader's pages that somebody looks at as they are loaded. */
#include "support.h"

#include "cell/cells.h"

#include <errno.h>
#include <string.h>

enum { SIZE_BYTES = 3 * CELLAR_CELLS_PAGE_BYTES + 100 };

/* Answers error for the first calls of a page, then 0. */
struct judge {
    int left, error, calls;
    uint64_t last_address;
    size_t last_length;
};

static int validate(void *user, uint64_t version, uint64_t page_address, const void *bytes, size_t length)
{
    struct judge *judge = user;

    (void)version;
    (void)bytes;
    judge->calls++;
    judge->last_address = page_address;
    judge->last_length = length;
    return judge->left-- > 0 ? judge->error : 0;
}

struct stage {
    struct cellar_device *device;
    struct cellar_cells cells;
    struct judge judge;
};

static void stage_open(struct stage *stage, int left, int error)
{
    static const struct cellar_cache_hooks hooks = {.validate = validate};
    static unsigned char bytes[SIZE_BYTES];

    *stage = (struct stage){.judge = {.left = left, .error = error}};
    support_bytes(1, bytes, sizeof bytes);
    assert_done(cellar_device_open_memory(bytes, SIZE_BYTES, SIZE_BYTES, &stage->device));
    assert_done(cellar_cells_open_checked(&stage->cells, stage->device, 32, 1 << 20, &hooks, &stage->judge));
}

static void stage_close(struct stage *stage)
{
    cellar_cells_close(&stage->cells);
    cellar_device_close(stage->device);
}

static int read_at(struct stage *stage, uint64_t offset)
{
    unsigned char found[10], expected[SIZE_BYTES];
    int error = cellar_cells_read(&stage->cells, offset, found, sizeof found);

    support_bytes(1, expected, sizeof expected);
    if (error == 0)
        assert_memory_equal(found, expected + offset, sizeof found);
    return error;
}

static void test_each_page_is_looked_at(void **state)
{
    struct stage stage;

    (void)state;
    if (support_cache_debug())
        support_skip("pages are given up at once");
    stage_open(&stage, 0, 0);
    for (int i = 0; i < 3; i++) {
        assert_done(read_at(&stage, 4096));
        assert_int_equal(stage.judge.calls, 1);
    }
    assert_int_equal(stage.judge.last_address, 4096);
    assert_int_equal(stage.judge.last_length, 4096);
    assert_done(read_at(&stage, 3 * 4096 + 50));
    assert_int_equal(stage.judge.calls, 2);
    assert_int_equal(stage.judge.last_length, 100);
    stage_close(&stage);
}

static void test_a_page_is_loaded_again(void **state)
{
    static const struct {
        int left, error, expected, calls;
    } cases[] = {
        {1, -EAGAIN, 0, 2},
        {50, -EAGAIN, 0, 51},
        {1000, -EAGAIN, -EIO, 101},
        {1, CELLAR_ECHECKSUM, CELLAR_ECHECKSUM, 1},
    };

    (void)state;
    for (size_t i = 0; i < SUPPORT_COUNT(cases); i++) {
        struct stage stage;

        stage_open(&stage, cases[i].left, cases[i].error);
        assert_result(read_at(&stage, 100), cases[i].expected);
        assert_int_equal(stage.judge.calls, cases[i].calls);
        stage.judge.left = 0;
        assert_done(read_at(&stage, 100)); /* nothing of a failure stays */
        stage_close(&stage);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_each_page_is_looked_at),
        cmocka_unit_test(test_a_page_is_loaded_again),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
