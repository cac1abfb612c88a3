/* Snapshots of a pipeline: what they go on seeing, what is kept for them and how long, what fails where it can't be. */
#include "versions_test.h"

enum { PAGES = 16, SIZE = PAGES * PAGE };

static const struct cellar_pipeline_options versioned = {.cache.old_pages = 8};

static void test_versions_are_seen(void **state)
{
    struct stage stage = {0};
    struct cellar_cache *first, *second, *third;

    (void)state;
    stage_open(&stage, SIZE, &versioned);
    assert_int_equal(cellar_pipeline_version(stage.pipeline), 0);
    first = take_snapshot(&stage);
    assert_done(put(&stage, 0, 2 * PAGE, 1));
    expect(first, 0, SIZE, 0);
    assert_done(cellar_pipeline_commit(stage.pipeline));
    assert_int_equal(cellar_pipeline_version(stage.pipeline), 1);
    second = take_snapshot(&stage);
    assert_int_equal(cellar_cache_version(second), 1);
    assert_done(put(&stage, PAGE, 2 * PAGE, 2));
    assert_done(put(&stage, 10 * PAGE, PAGE, 3));
    assert_done(cellar_pipeline_persist(stage.pipeline, PAGE, 1)); /* makes a version, too */
    assert_int_equal(cellar_pipeline_version(stage.pipeline), 2);
    third = take_snapshot(&stage);
    assert_done(cellar_pipeline_commit(stage.pipeline));
    assert_done(cellar_pipeline_commit(stage.pipeline)); /* nothing to send: no version */
    assert_int_equal(cellar_pipeline_version(stage.pipeline), 3);
    for (int round = 0; round < 2; round++) {
        expect(first, 0, SIZE, 0);
        expect(second, 0, 2 * PAGE, 1);
        expect(second, 2 * PAGE, SIZE - 2 * PAGE, 0);
        expect(third, 0, PAGE, 1);
        expect(third, PAGE, 2 * PAGE, 2);
        expect(third, 3 * PAGE, SIZE - 3 * PAGE, 0);
        expect_seen(&stage, 10 * PAGE, PAGE, 3);
    }
    cellar_cache_close(second);
    expect(first, 0, SIZE, 0);
    cellar_cache_close(first);
    expect(third, 10 * PAGE, PAGE, 0);
    cellar_cache_close(third);
    assert_int_equal(old_pages(&stage), 0);
    stage_close(&stage);
}

static void test_versions_count_up_from_the_first(void **state)
{
    struct cellar_pipeline_options options = versioned;
    struct stage stage = {0};
    struct cellar_cache *snapshot;

    (void)state;
    options.first_version = 1000;
    stage_open(&stage, SIZE, &options);
    snapshot = take_snapshot(&stage);
    assert_int_equal(cellar_cache_version(snapshot), 1000);
    assert_done(put_commit(&stage, 0, PAGE, 1));
    assert_int_equal(cellar_pipeline_version(stage.pipeline), 1001);
    expect(snapshot, 0, PAGE, 0);
    cellar_cache_close(snapshot);
    stage_close(&stage);
}

/* For exactly as long as a snapshot needs it. */
static void test_versions_old_pages_come_and_go(void **state)
{
    struct stage stage = {0};
    struct cellar_cache *first, *twin, *second;

    (void)state;
    stage_open(&stage, SIZE, &versioned);
    assert_done(put_commit(&stage, 0, PAGE, 1));
    assert_int_equal(old_pages(&stage), 0); /* nobody looks */
    first = take_snapshot(&stage);
    twin = take_snapshot(&stage);
    assert_done(put_commit(&stage, 0, PAGE, 2));
    assert_int_equal(old_pages(&stage), 1); /* one for both */
    assert_done(put_commit(&stage, 0, PAGE, 3));
    assert_int_equal(old_pages(&stage), 1); /* what is between is nobody's */
    second = take_snapshot(&stage);
    assert_done(put_commit(&stage, 0, PAGE, 4));
    assert_int_equal(old_pages(&stage), 2);
    cellar_cache_close(first);
    assert_int_equal(old_pages(&stage), 2);
    expect(twin, 0, PAGE, 1);
    cellar_cache_close(twin);
    assert_int_equal(old_pages(&stage), 1);
    expect(second, 0, PAGE, 3);
    cellar_cache_close(second);
    assert_int_equal(old_pages(&stage), 0);
    expect_seen(&stage, 0, PAGE, 4);
    stage_close(&stage);
}

/* What isn't cached is loaded before the first write of the commit, not after it. */
static void test_versions_load_what_they_keep(void **state)
{
    struct stage stage = {0};
    struct cellar_cache *snapshot;
    uint64_t reads;

    (void)state;
    stage_open(&stage, SIZE, &versioned);
    assert_done(put_commit(&stage, 0, SIZE, 1));
    snapshot = take_snapshot(&stage);
    cellar_cache_invalidate(cellar_pipeline_cache(stage.pipeline), 0, SIZE);
    reads = count_reads(&stage);
    assert_done(put_commit(&stage, 3 * PAGE, PAGE, 2));
    assert_int_equal(count_reads(&stage) - reads, 1);
    assert_int_equal(old_pages(&stage), 1);
    expect(snapshot, 3 * PAGE, PAGE, 1);
    assert_int_equal(count_reads(&stage) - reads, 1);
    cellar_cache_close(snapshot);
    stage_close(&stage);
}

/* Old pages are not in the way of others, and others are not in theirs. */
static void test_versions_in_a_small_cache(void **state)
{
    struct cellar_pipeline_options options = {.cache = {.page_count = 1, .old_pages = PAGES}};
    struct stage stage = {0};
    struct cellar_cache *snapshot;

    (void)state;
    stage_open(&stage, SIZE, &options);
    snapshot = take_snapshot(&stage);
    for (int page = 0; page < PAGES; page++) {
        assert_done(put_commit(&stage, (uint64_t)page * PAGE, PAGE, 1 + page));
        expect(snapshot, 0, SIZE, 0);
        assert_int_equal(old_pages(&stage), 1 + page);
        expect_seen(&stage, (uint64_t)page * PAGE, PAGE, 1 + page);
    }
    cellar_cache_close(snapshot);
    assert_int_equal(old_pages(&stage), 0);
    stage_close(&stage);
}

static void test_versions_are_bounded(void **state)
{
    struct cellar_pipeline_options options = {.cache.old_pages = 2};
    struct stage stage = {0};
    struct cellar_cache *snapshot;
    uint64_t writes;

    (void)state;
    stage_open(&stage, SIZE, &options);
    snapshot = take_snapshot(&stage);
    for (int page = 0; page < 3; page++)
        assert_done(put(&stage, (uint64_t)page * 2 * PAGE, PAGE, 1));
    writes = count_writes(&stage);
    for (int round = 0; round < 3; round++) {
        assert_result(cellar_pipeline_commit(stage.pipeline), CELLAR_EOLDPAGES);
        assert_int_equal(cellar_pipeline_version(stage.pipeline), 0);
        assert_int_equal(cellar_pipeline_pending_bytes(stage.pipeline), 3 * PAGE);
        assert_int_equal(old_pages(&stage), 0); /* of what was not done nothing stays */
    }
    assert_int_equal(count_writes(&stage), writes);
    expect_device(&stage, 0, SIZE, 0);
    assert_done(cellar_pipeline_persist(stage.pipeline, 0, PAGE));
    assert_done(cellar_pipeline_persist(stage.pipeline, 4 * PAGE, PAGE));
    assert_result(cellar_pipeline_persist(stage.pipeline, 2 * PAGE, PAGE), CELLAR_EOLDPAGES);
    assert_result(cellar_pipeline_commit(stage.pipeline), CELLAR_EOLDPAGES);
    expect(snapshot, 0, SIZE, 0);
    expect_seen(&stage, 2 * PAGE, PAGE, 1);
    /* What is kept already costs nothing more. */
    cellar_pipeline_discard(stage.pipeline);
    assert_done(put_commit(&stage, 0, PAGE, 5));
    assert_done(put_commit(&stage, 4 * PAGE, PAGE, 5));
    expect(snapshot, 0, SIZE, 0);
    assert_done(put(&stage, 2 * PAGE, PAGE, 6));
    cellar_cache_close(snapshot);
    assert_done(cellar_pipeline_commit(stage.pipeline));
    expect_device(&stage, 2 * PAGE, PAGE, 6);
    stage_close(&stage);
}

/* Pages that are only appended to are kept for nobody; and those before the end of a snapshot are. */
static void test_versions_of_a_tail(void **state)
{
    struct cellar_pipeline_options options = {.cache.old_pages = 1, .committed_bytes = 2 * PAGE + 10};
    struct stage stage = {0};
    struct cellar_cache *first, *second;
    unsigned char byte;

    (void)state;
    stage_open(&stage, SIZE, &options);
    first = take_snapshot(&stage);
    expect(first, 0, 2 * PAGE + 10, 0);
    assert_result(cellar_cache_read(first, 2 * PAGE + 10, &byte, 1), CELLAR_EBOUNDS);
    assert_done(put_commit(&stage, 2 * PAGE + 10, 20, 1));
    assert_int_equal(old_pages(&stage), 0);
    second = take_snapshot(&stage);
    assert_done(put_commit(&stage, 2 * PAGE + 30, 2 * PAGE, 2));
    assert_int_equal(old_pages(&stage), 0);
    expect(second, 2 * PAGE + 10, 20, 1);
    assert_result(cellar_cache_read(second, 2 * PAGE + 30, &byte, 1), CELLAR_EBOUNDS);
    assert_int_equal(cellar_cache_fault_address(second), 2 * PAGE + 30);
    /* Before the end of the second, behind that of the first: kept for the second. */
    assert_done(put_commit(&stage, 2 * PAGE + 29, 1, 3));
    assert_int_equal(old_pages(&stage), 1);
    expect(second, 2 * PAGE + 10, 20, 1);
    expect(first, 2 * PAGE, 10, 0);
    assert_result(cellar_cache_read(first, 2 * PAGE + 10, &byte, 1), CELLAR_EBOUNDS);
    assert_done(put_commit(&stage, 2 * PAGE + 9, 1, 4));
    assert_int_equal(old_pages(&stage), 1);
    expect(first, 2 * PAGE, 10, 0);
    cellar_cache_close(second);
    cellar_cache_close(first);
    assert_int_equal(old_pages(&stage), 0);
    stage_close(&stage);
}

static void test_versions_without_memory_for_one(void **state)
{
    struct cellar_pipeline_options none = {0};
    struct stage stage = {0};
    struct cellar_cache *snapshot;

    (void)state;
    stage_open(&stage, SIZE, &none);
    assert_result(cellar_pipeline_snapshot(stage.pipeline, &snapshot), -ENOTSUP);
    assert_done(put_commit(&stage, 0, PAGE, 1));
    assert_int_equal(cellar_pipeline_version(stage.pipeline), 1);
    stage_close(&stage);
}

/* A page that can't be loaded can't be kept: the commit fails before it has written anything. */
static void test_versions_when_loads_fail(void **state)
{
    struct stage stage = {0};
    struct cellar_cache *snapshot;
    uint64_t writes;

    (void)state;
    stage_open(&stage, SIZE, &versioned);
    snapshot = take_snapshot(&stage);
    assert_done(put(&stage, 0, PAGE, 1));
    assert_done(put(&stage, 5 * PAGE, PAGE, 1));
    writes = count_writes(&stage);
    fault_fail(&stage.fault, FAULT_READ, 2, 0, -EIO);
    assert_result(cellar_pipeline_commit(stage.pipeline), -EIO);
    assert_result(cellar_pipeline_persist(stage.pipeline, 5 * PAGE, 1), -EIO);
    assert_int_equal(count_writes(&stage), writes);
    assert_int_equal(cellar_pipeline_version(stage.pipeline), 0);
    assert_int_equal(cellar_pipeline_pending_bytes(stage.pipeline), 2 * PAGE);
    assert_int_equal(old_pages(&stage), 0);
    fault_heal(&stage.fault);
    assert_done(cellar_pipeline_commit(stage.pipeline));
    expect(snapshot, 0, SIZE, 0);
    cellar_cache_close(snapshot);
    stage_close(&stage);
}

static int refuse(void *user, uint64_t version, uint64_t page_address, const void *bytes, size_t length)
{
    const uint64_t *refused = user;

    (void)version, (void)bytes, (void)length;
    return page_address == *refused ? -EBADMSG : 0;
}

/* Nor can one that is not what it should be. */
static void test_versions_when_pages_are_refused(void **state)
{
    uint64_t refused = 3 * PAGE;
    struct cellar_pipeline_options options = {.cache = {.old_pages = 8, .hooks.validate = refuse, .user = &refused}};
    struct stage stage = {0};
    struct cellar_cache *snapshot;

    (void)state;
    stage_open(&stage, SIZE, &options);
    assert_done(put_commit(&stage, 3 * PAGE, 1, 1)); /* nobody needs it as it was */
    snapshot = take_snapshot(&stage);
    assert_done(put(&stage, 2 * PAGE, 2 * PAGE, 2));
    assert_result(cellar_pipeline_commit(stage.pipeline), -EBADMSG);
    assert_int_equal(cellar_pipeline_version(stage.pipeline), 1);
    assert_int_equal(old_pages(&stage), 0);
    refused = UINT64_MAX;
    expect(snapshot, 3 * PAGE, 1, 1);
    assert_done(cellar_pipeline_commit(stage.pipeline));
    expect(snapshot, 3 * PAGE + 1, PAGE - 1, 0);
    cellar_cache_close(snapshot);
    stage_close(&stage);
}

/* A device that can't say how long it is has no snapshots; the pipeline goes on. */
static void test_versions_when_the_size_is_unknown(void **state)
{
    struct stage stage = {0};
    struct cellar_cache *snapshot;

    (void)state;
    stage_open(&stage, SIZE, &versioned);
    fault_fail(&stage.fault, FAULT_SIZE, 1, 1, -EIO);
    assert_result(cellar_pipeline_snapshot(stage.pipeline, &snapshot), -EIO);
    assert_done(put_commit(&stage, 0, PAGE, 1));
    snapshot = take_snapshot(&stage);
    expect(snapshot, 0, PAGE, 1);
    cellar_cache_close(snapshot);
    stage_close(&stage);
}

/* Of three runs the second fails, after a part of it is on the device. */
static void test_versions_when_writes_fail(void **state)
{
    struct stage stage = {0};
    struct cellar_cache *before, *between;

    (void)state;
    stage_open(&stage, SIZE, &versioned);
    assert_done(put_commit(&stage, 0, SIZE, 1));
    before = take_snapshot(&stage);
    for (int page = 0; page < 6; page += 2)
        assert_done(put(&stage, (uint64_t)page * PAGE, PAGE, 2));
    fault_fail(&stage.fault, FAULT_WRITE, 2, 1, -EIO);
    stage.fault.torn_bytes = PAGE / 2;
    assert_result(cellar_pipeline_commit(stage.pipeline), -EIO);
    assert_int_equal(cellar_pipeline_pending_bytes(stage.pipeline), 2 * PAGE);
    expect(before, 0, SIZE, 1);
    between = take_snapshot(&stage);
    expect(between, 0, PAGE, 2);
    expect(between, 2 * PAGE, PAGE / 2, 2); /* any part of what failed */
    expect(between, 2 * PAGE + PAGE / 2, PAGE / 2, 1);
    expect(between, 4 * PAGE, PAGE, 1);
    expect_seen(&stage, 2 * PAGE, PAGE, 2);
    assert_done(cellar_pipeline_commit(stage.pipeline));
    expect(before, 0, SIZE, 1);
    expect(between, 2 * PAGE, PAGE / 2, 2);
    expect(between, 2 * PAGE + PAGE / 2, PAGE / 2, 1);
    expect(between, 4 * PAGE, PAGE, 1);
    expect_device(&stage, 4 * PAGE, PAGE, 2);
    cellar_cache_close(before);
    cellar_cache_close(between);
    assert_int_equal(old_pages(&stage), 0);
    stage_close(&stage);
}

/* ---- while a page is being written ---- */

struct visit {
    struct stage *stage;
    struct cellar_cache *snapshot;
    struct cellar_cache *other; /* a handle that is no snapshot */
    uint64_t grow_to;
    int visits;
};

/* In the place of the write: half of the page is new already. */
static void look_while_writing(void *user, enum fault_call call, uint64_t offset, uint64_t length_bytes)
{
    struct visit *visit = user;
    unsigned char half[PAGE / 2];
    uint64_t reads;

    if (call != FAULT_WRITE || visit->snapshot == NULL)
        return;
    memset(half, 9, sizeof half);
    assert_done(support_device_write(visit->stage->fault.inner, half, sizeof half, offset));
    reads = count_reads(visit->stage);
    expect(visit->snapshot, offset, (size_t)length_bytes, 1);
    assert_int_equal(count_reads(visit->stage), reads);
    visit->visits++;
}

static void test_versions_while_writing(void **state)
{
    struct stage stage = {0};
    struct visit visit = {.stage = &stage};

    (void)state;
    stage.fault.before = look_while_writing;
    stage.fault.before_user = &visit;
    stage_open(&stage, SIZE, &versioned);
    assert_done(put_commit(&stage, 0, SIZE, 1));
    visit.snapshot = take_snapshot(&stage);
    assert_done(put(&stage, PAGE, PAGE, 2));
    assert_done(put(&stage, 6 * PAGE, 3 * PAGE, 2));
    assert_done(put(&stage, 15 * PAGE, PAGE, 2));
    assert_done(cellar_pipeline_commit(stage.pipeline));
    assert_int_equal(visit.visits, 3);
    expect(visit.snapshot, 0, SIZE, 1);
    cellar_cache_close(visit.snapshot);
    stage_close(&stage);
}

/* In the place of the write: the device grows, and somebody who has no limit asks for what is new of the kept page. */
static void grow_while_writing(void *user, enum fault_call call, uint64_t offset, uint64_t length_bytes)
{
    struct visit *visit = user;
    unsigned char bytes[PAGE];

    (void)offset, (void)length_bytes;
    if (call != FAULT_WRITE || visit->other == NULL)
        return;
    assert_done(cellar_device_grow(visit->stage->fault.inner, visit->grow_to, visit->grow_to));
    assert_true(cellar_cache_read(visit->other, visit->grow_to - PAGE, bytes, PAGE) <= 0);
    visit->visits++;
}

/* A page that is kept short stays the one that the snapshot gets, whoever would like to have more of it. */
static void test_versions_of_a_page_that_grows(void **state)
{
    struct stage stage = {0};
    struct visit visit = {.stage = &stage, .grow_to = 2 * PAGE};

    (void)state;
    stage.fault.before = grow_while_writing;
    stage.fault.before_user = &visit;
    stage_open(&stage, PAGE + 30, &versioned);
    assert_done(put_commit(&stage, 0, PAGE + 30, 1));
    visit.snapshot = take_snapshot(&stage);
    assert_done(cellar_cache_share(cellar_pipeline_cache(stage.pipeline), &visit.other));
    assert_done(put(&stage, PAGE, 30, 2));
    assert_done(cellar_pipeline_commit(stage.pipeline));
    assert_int_equal(visit.visits, 1);
    expect(visit.snapshot, 0, PAGE + 30, 1);
    expect(visit.other, PAGE, 30, 2);
    expect(visit.other, PAGE + 30, 34, 0);
    cellar_cache_close(visit.other);
    visit.other = NULL;
    cellar_cache_close(visit.snapshot);
    stage_close(&stage);
}

/* A limit past the end of the device: what that has grown by is not the snapshot's where its page was overwritten. */
static void test_versions_with_a_limit_past_the_end(void **state)
{
    struct cellar_pipeline_options options = {.cache.old_pages = 4, .committed_bytes = 2 * PAGE};
    struct stage stage = {0};
    struct cellar_cache *snapshot;
    unsigned char bytes[PAGE];

    (void)state;
    stage_open(&stage, PAGE + 30, &options);
    assert_done(put_commit(&stage, 0, PAGE + 30, 1));
    snapshot = take_snapshot(&stage);
    assert_done(put_commit(&stage, PAGE, 30, 2));
    assert_done(cellar_device_grow(stage.device, 2 * PAGE, 2 * PAGE));
    assert_done(put_commit(&stage, PAGE, PAGE, 3));
    assert_result(cellar_cache_read(snapshot, PAGE, bytes, PAGE), CELLAR_EBOUNDS);
    expect(snapshot, PAGE, 30, 1);
    cellar_cache_close(snapshot);
    stage_close(&stage);
}

/* ---- handles ---- */

/* Another handle on the version of a snapshot keeps it as the snapshot did. */
static void test_versions_are_shared(void **state)
{
    struct stage stage = {0};
    struct cellar_cache *snapshot, *other;

    (void)state;
    stage_open(&stage, SIZE, &versioned);
    snapshot = take_snapshot(&stage);
    assert_done(cellar_cache_share(snapshot, &other));
    assert_int_equal(cellar_cache_version(other), cellar_cache_version(snapshot));
    assert_done(put_commit(&stage, 0, PAGE, 1));
    cellar_cache_close(snapshot);
    expect(other, 0, PAGE, 0);
    assert_done(put_commit(&stage, 4 * PAGE, PAGE, 1));
    expect(other, 0, SIZE, 0);
    cellar_cache_close(other);
    assert_int_equal(old_pages(&stage), 0);
    stage_close(&stage);
}

/* Fixed pages, and ranges in one piece, are the version's, and stay where they are. */
static void test_versions_that_are_fixed(void **state)
{
    struct cellar_pipeline_options options = {.cache.old_pages = 8, .committed_bytes = 5 * PAGE + 10};
    struct stage stage = {0};
    struct cellar_cache *snapshot;
    struct cellar_fixed page, tail, run;

    (void)state;
    stage_open(&stage, SIZE, &options);
    assert_done(put_commit(&stage, 0, 5 * PAGE + 10, 1));
    snapshot = take_snapshot(&stage);
    assert_done(cellar_cache_fix(snapshot, PAGE, 1, &page));
    assert_done(cellar_cache_fix(snapshot, 5 * PAGE, 1, &tail));
    assert_int_equal(tail.slice.length, 10);
    assert_done(put_commit(&stage, 0, SIZE, 2));
    assert_bytes(page.slice.bytes, PAGE, 1);
    assert_bytes(tail.slice.bytes, 10, 1);
    assert_done(cellar_cache_map(snapshot, 10, SIZE, &run));
    assert_int_equal(run.slice.length, 5 * PAGE);
    assert_bytes(run.slice.bytes, run.slice.length, 1);
    cellar_cache_unfix(snapshot, &run);
    cellar_cache_unfix(snapshot, &page);
    cellar_cache_unfix(snapshot, &tail);
    cellar_cache_close(snapshot);
    assert_int_equal(old_pages(&stage), 0);
    assert_int_equal(cellar_cache_counters(cellar_pipeline_cache(stage.pipeline)).pinned, 0);
    expect_seen(&stage, 0, SIZE, 2);
    stage_close(&stage);
}

static void take_error(void *user, int error)
{
    int *taken = user;

    *taken = error;
}

/* The same page by page, and by loads in the background. */
static void load_all(struct cellar_cache *snapshot, size_t length, unsigned depth)
{
    int error = 1;

    if (depth > 0) {
        assert_done(cellar_cache_load_async(snapshot, 0, length, take_error, &error));
        while (cellar_cache_awaited(snapshot) > 0)
            (void)cellar_cache_poll(snapshot, true);
        assert_done(error);
    }
    expect(snapshot, 0, length, 0);
}

/* On a device of blocks a snapshot may end anywhere. */
static void test_versions_that_end_within_a_block(void **state)
{
    (void)state;
    for (unsigned depth = 0; depth <= 2; depth += 2) {
        struct cellar_pipeline_options options = {.cache = {.old_pages = 4, .depth = depth},
                                                  .committed_bytes = 2 * PAGE + 21};
        struct stage stage = {.fault = {.block_bytes = 16}};
        struct cellar_cache *snapshot;
        unsigned char byte;

        stage_open(&stage, SIZE, &options);
        snapshot = take_snapshot(&stage);
        load_all(snapshot, 2 * PAGE + 21, depth);
        assert_result(cellar_cache_read(snapshot, 2 * PAGE + 21, &byte, 1), CELLAR_EBOUNDS);
        assert_done(put_commit(&stage, 2 * PAGE + 21, PAGE, 1));
        load_all(snapshot, 2 * PAGE + 21, depth);
        assert_int_equal(old_pages(&stage), 0);
        cellar_cache_close(snapshot);
        snapshot = take_snapshot(&stage);
        expect(snapshot, 2 * PAGE + 21, PAGE, 1);
        cellar_cache_close(snapshot);
        stage_close(&stage);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_versions_are_seen),
        cmocka_unit_test(test_versions_count_up_from_the_first),
        cmocka_unit_test(test_versions_old_pages_come_and_go),
        cmocka_unit_test(test_versions_load_what_they_keep),
        cmocka_unit_test(test_versions_in_a_small_cache),
        cmocka_unit_test(test_versions_are_bounded),
        cmocka_unit_test(test_versions_of_a_tail),
        cmocka_unit_test(test_versions_without_memory_for_one),
        cmocka_unit_test(test_versions_when_loads_fail),
        cmocka_unit_test(test_versions_when_pages_are_refused),
        cmocka_unit_test(test_versions_when_the_size_is_unknown),
        cmocka_unit_test(test_versions_when_writes_fail),
        cmocka_unit_test(test_versions_while_writing),
        cmocka_unit_test(test_versions_of_a_page_that_grows),
        cmocka_unit_test(test_versions_with_a_limit_past_the_end),
        cmocka_unit_test(test_versions_are_shared),
        cmocka_unit_test(test_versions_that_are_fixed),
        cmocka_unit_test(test_versions_that_end_within_a_block),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
