/* Versions in places of their own, where the version before has only a part of a page: what it lacks is zero. */
#include "versions_test.h"

enum { PAGES = 4, SIZE = PAGES * PAGE, TAIL_BYTES = 20 };

/* Version 0 lies on a device that ends within page 1; what is written lies where it belongs on another one. */
struct ground {
    struct stage stage;
    struct cellar_device *before, *after;
    uint64_t versions[PAGES]; /* of the last commit of each page; 0: none */
};

static int find_place(void *user, uint64_t version, uint64_t page_address, struct cellar_place *ret_place)
{
    struct ground *ground = user;
    uint64_t last = ground->versions[page_address / PAGE];

    if (last > 0 && last <= version)
        *ret_place = (struct cellar_place){last, ground->after, page_address};
    else
        *ret_place = (struct cellar_place){0, ground->before, page_address};
    return 0;
}

static int find_new_place(void *user, uint64_t version, uint64_t page_address, struct cellar_place *ret_place)
{
    struct ground *ground = user;

    ground->versions[page_address / PAGE] = version;
    *ret_place = (struct cellar_place){version, ground->after, page_address};
    return 0;
}

static void ground_open(struct ground *ground)
{
    struct cellar_pipeline_options options = {
        .cache = {.hooks.place = find_place, .user = ground}, .place_new = find_new_place, .committed_bytes = SIZE};
    unsigned char bytes[PAGE + TAIL_BYTES];

    *ground = (struct ground){0};
    memset(bytes, 1, sizeof bytes);
    assert_done(cellar_device_open_memory(bytes, sizeof bytes, SIZE, &ground->before));
    assert_done(cellar_device_open_memory(NULL, SIZE, SIZE, &ground->after));
    stage_open(&ground->stage, SIZE, &options);
}

static void ground_close(struct ground *ground)
{
    stage_close(&ground->stage);
    assert_done(cellar_device_close(ground->before));
    assert_done(cellar_device_close(ground->after));
}

static void expect_all(struct ground *ground)
{
    struct stage *stage = &ground->stage;

    expect_seen(stage, 0, 10, 1);
    expect_seen(stage, 10, 5, 2);
    expect_seen(stage, 15, PAGE - 15 + TAIL_BYTES, 1);
    expect_seen(stage, PAGE + TAIL_BYTES, 10, 0);
    expect_seen(stage, PAGE + TAIL_BYTES + 10, 10, 3);
    expect_seen(stage, PAGE + TAIL_BYTES + 20, PAGE - TAIL_BYTES - 20, 0);
    expect_seen(stage, 2 * PAGE, 5, 4);
    expect_seen(stage, 2 * PAGE + 5, PAGE - 5, 0);
}

/* One commit, so that each page comes after what was read of the one before it. */
static void test_short_pages_are_completed(void **state)
{
    struct ground ground;
    struct stage *stage = &ground.stage;

    (void)state;
    ground_open(&ground);
    assert_done(put(stage, 10, 5, 2));
    assert_done(put(stage, PAGE + TAIL_BYTES + 10, 10, 3));
    assert_done(put(stage, 2 * PAGE, 5, 4));
    assert_done(cellar_pipeline_commit(stage->pipeline));
    expect_all(&ground);
    assert_int_equal(cellar_pipeline_version(stage->pipeline), 1);
    ground_close(&ground);
}

/* The same by write frames. */
static void test_short_pages_are_fixed(void **state)
{
    static const struct {
        uint64_t address;
        size_t length;
        int value;
    } writes[] = {{10, 5, 2}, {PAGE + TAIL_BYTES + 10, 10, 3}, {2 * PAGE, 5, 4}};
    struct ground ground;
    struct stage *stage = &ground.stage;

    (void)state;
    ground_open(&ground);
    for (size_t i = 0; i < SUPPORT_COUNT(writes); i++) {
        struct cellar_write_frame frame;

        assert_done(cellar_pipeline_fix_write(stage->pipeline, writes[i].address, CELLAR_WRITE_AS_IS, &frame));
        assert_int_equal(frame.length, PAGE);
        memset((unsigned char *)frame.bytes + writes[i].address % PAGE, writes[i].value, writes[i].length);
        cellar_pipeline_unfix_write(stage->pipeline, &frame);
    }
    expect_all(&ground);
    assert_done(cellar_pipeline_commit(stage->pipeline));
    expect_all(&ground);
    ground_close(&ground);
}

/* What the version before has can't be read, though it is there. */
static void test_short_page_that_fails(void **state)
{
    struct ground ground;
    struct stage *stage = &ground.stage;
    struct fault_device fault = {.without = FAULT_BIT(FAULT_LOAD) | FAULT_BIT(FAULT_WINDOW)};

    (void)state;
    ground_open(&ground);
    fault.inner = ground.before;
    assert_done(fault_device_open(&fault, &ground.before));
    fault_fail(&fault, FAULT_READ, 1, 1, -EIO);
    assert_done(put(stage, PAGE + TAIL_BYTES + 10, 10, 3));
    assert_result(cellar_pipeline_commit(stage->pipeline), -EIO);
    assert_int_equal(cellar_pipeline_version(stage->pipeline), 0);
    assert_done(put(stage, 10, 5, 2));
    assert_done(put(stage, 2 * PAGE, 5, 4));
    assert_done(cellar_pipeline_commit(stage->pipeline));
    expect_all(&ground);
    ground_close(&ground);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_short_pages_are_completed),
        cmocka_unit_test(test_short_pages_are_fixed),
        cmocka_unit_test(test_short_page_that_fails),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
