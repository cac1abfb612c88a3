/* Versions in places of their own: a log of pages on a second device, found by the place hook. */
#include "versions_test.h"

#include <limits.h>

enum { PAGES = 16, SIZE = PAGES * PAGE, ENTRIES_MAX = 2 * IOV_MAX };

/* Where the pages of each version are. What a commit that failed has asked for is forgotten by the next one. */
struct log {
    struct stage stage;
    struct fault_device fault; /* of the second device */
    struct cellar_device *second;
    struct {
        uint64_t version, page_address, offset;
    } entries[ENTRIES_MAX];
    int entry_count;
    uint64_t next_offset, step; /* step: how far apart */
    int place_error, new_error, validate_error, calls, validations;
    uint64_t last_version, last_page;
    size_t last_length;
    unsigned char last_byte;
};

static int log_place(void *user, uint64_t version, uint64_t page_address, struct cellar_place *ret_place)
{
    struct log *log = user;

    log->calls++;
    if (log->place_error != 0)
        return log->place_error;
    *ret_place = (struct cellar_place){0, log->stage.device, page_address};
    for (int i = 0; i < log->entry_count; i++) {
        if (log->entries[i].page_address == page_address && log->entries[i].version <= version &&
            log->entries[i].version >= ret_place->version)
            *ret_place = (struct cellar_place){log->entries[i].version, log->second, log->entries[i].offset};
    }
    return 0;
}

static int log_place_new(void *user, uint64_t version, uint64_t page_address, struct cellar_place *ret_place)
{
    struct log *log = user;

    if (log->new_error != 0)
        return log->new_error;
    for (int i = 0; i < log->entry_count; i++) {
        if (log->entries[i].version == version && log->entries[i].page_address == page_address)
            log->entries[i--] = log->entries[--log->entry_count];
    }
    assert_true(log->entry_count < ENTRIES_MAX);
    log->entries[log->entry_count].version = version;
    log->entries[log->entry_count].page_address = page_address;
    log->entries[log->entry_count++].offset = log->next_offset;
    *ret_place = (struct cellar_place){version, log->second, log->next_offset};
    log->next_offset += log->step;
    return 0;
}

static int log_validate(void *user, uint64_t version, uint64_t page_address, const void *bytes, size_t length)
{
    struct log *log = user;

    log->validations++;
    log->last_version = version;
    log->last_page = page_address;
    log->last_length = length;
    log->last_byte = *(const unsigned char *)bytes;
    return log->validate_error;
}

/* The second device has room for all that a test writes. */
static void log_open(struct log *log, uint64_t size_bytes, uint64_t step, struct cellar_pipeline_options options)
{
    memset(log, 0, sizeof *log);
    log->step = step;
    assert_done(cellar_device_open_memory(NULL, 1 << 20, 1 << 20, &log->fault.inner));
    assert_done(fault_device_open(&log->fault, &log->second));
    options.cache.hooks.place = log_place;
    options.cache.hooks.validate = log_validate;
    options.cache.user = log;
    options.place_new = log_place_new;
    stage_open(&log->stage, size_bytes, &options);
}

static void log_close(struct log *log)
{
    stage_close(&log->stage);
    assert_done(cellar_device_close(log->second));
}

static void test_place_each_version(void **state)
{
    struct log log;
    struct stage *stage = &log.stage;
    struct cellar_cache *snapshots[6];

    (void)state;
    for (uint64_t step = PAGE; step <= 2 * PAGE; step += PAGE) {
        log_open(&log, SIZE, step, (struct cellar_pipeline_options){0});
        for (int version = 0; version < 6; version++) {
            snapshots[version] = take_snapshot(stage);
            assert_int_equal(cellar_cache_version(snapshots[version]), version);
            assert_done(put_commit(stage, 2 * PAGE, 4 * PAGE, version + 1));
        }
        assert_int_equal(fault_calls(&log.fault, FAULT_BIT(FAULT_WRITE)), step == PAGE ? 6 : 24);
        for (int round = 0; round < 3; round++) {
            for (int version = 5; version >= 0; version--) {
                expect(snapshots[version], 2 * PAGE, 4 * PAGE, version);
                expect(snapshots[version], 0, 2 * PAGE, 0);
                expect(snapshots[version], 6 * PAGE, SIZE - 6 * PAGE, 0);
            }
            expect_seen(stage, 2 * PAGE, 4 * PAGE, 6);
        }
        assert_int_equal(old_pages(stage), 0);
        assert_int_equal(count_writes(stage), 0); /* all of it went to the second device */
        expect_device(stage, 0, SIZE, 0);
        for (int version = 0; version < 6; version++)
            cellar_cache_close(snapshots[version]);
        expect_seen(stage, 2 * PAGE, 4 * PAGE, 6);
        log_close(&log);
    }
}

/* A part of a page goes out with all of it, from the version before; persist does the same. */
static void test_place_whole_pages(void **state)
{
    struct log log;
    struct stage *stage = &log.stage;
    struct cellar_cache *snapshot;
    unsigned char page[PAGE];

    (void)state;
    log_open(&log, SIZE, PAGE, (struct cellar_pipeline_options){0});
    assert_done(put_commit(stage, 0, SIZE, 1));
    snapshot = take_snapshot(stage);
    assert_done(put(stage, 3 * PAGE + 5, 10, 2));
    assert_done(put(stage, 9 * PAGE, 1, 2));
    assert_done(cellar_pipeline_persist(stage->pipeline, 3 * PAGE, PAGE));
    assert_int_equal(cellar_pipeline_version(stage->pipeline), 2);
    assert_int_equal(cellar_pipeline_pending_bytes(stage->pipeline), 1);
    assert_done(cellar_device_read(log.second, page, PAGE, log.entries[log.entry_count - 1].offset));
    assert_bytes(page, 5, 1);
    assert_bytes(page + 5, 10, 2);
    assert_bytes(page + 15, PAGE - 15, 1);
    expect_seen(stage, 3 * PAGE + 5, 10, 2);
    expect_seen(stage, 3 * PAGE + 15, PAGE, 1);
    expect_seen(stage, 9 * PAGE, 1, 2);
    expect(snapshot, 0, SIZE, 1);
    assert_done(cellar_pipeline_commit(stage->pipeline));
    expect(snapshot, 0, SIZE, 1);
    cellar_cache_close(snapshot);
    log_close(&log);
}

/* Pages that no commit has changed are not loaded again for each version. */
static void test_place_shares_pages(void **state)
{
    struct log log;
    struct stage *stage = &log.stage;
    struct cellar_cache *snapshot;
    uint64_t reads;

    (void)state;
    log_open(&log, SIZE, PAGE, (struct cellar_pipeline_options){0});
    snapshot = take_snapshot(stage);
    expect(snapshot, 0, 4 * PAGE, 0);
    reads = count_reads(stage);
    for (int version = 0; version < 5; version++) {
        struct cellar_cache *other;

        assert_done(put_commit(stage, 15 * PAGE, PAGE, 1));
        expect_seen(stage, 0, 4 * PAGE, 0);
        other = take_snapshot(stage);
        expect(other, 0, 4 * PAGE, 0);
        cellar_cache_close(other);
    }
    expect(snapshot, 0, 4 * PAGE, 0);
    if (!support_cache_debug())
        assert_int_equal(count_reads(stage), reads);
    cellar_cache_close(snapshot);
    log_close(&log);
}

static void test_place_validates(void **state)
{
    struct log log;
    struct stage *stage = &log.stage;
    struct cellar_cache *snapshot, *cache;
    unsigned char byte;

    (void)state;
    log_open(&log, SIZE - 10, PAGE, (struct cellar_pipeline_options){.first_version = 7});
    cache = cellar_pipeline_cache(stage->pipeline);
    snapshot = take_snapshot(stage);
    assert_done(put_commit(stage, PAGE, PAGE, 1));
    assert_done(put_commit(stage, 5 * PAGE, PAGE, 1));
    log.validations = 0;
    expect(cache, PAGE, 1, 1);
    assert_int_equal(log.validations, 1);
    assert_int_equal(log.last_version, 8); /* of the page, not of who asks */
    assert_int_equal(log.last_page, PAGE);
    assert_int_equal(log.last_length, PAGE);
    assert_int_equal(log.last_byte, 1);
    expect(snapshot, PAGE, 1, 0);
    assert_int_equal(log.validations, 2);
    assert_int_equal(log.last_version, 0);
    assert_int_equal(log.last_byte, 0);
    expect(cache, PAGES * PAGE - PAGE, 1, 0);
    assert_int_equal(log.last_length, PAGE - 10);
    /* A page that is refused is not cached, and the next look is another one. */
    log.validate_error = -EBADMSG;
    assert_result(cellar_cache_read(cache, 5 * PAGE + 3, &byte, 1), -EBADMSG);
    assert_int_equal(cellar_cache_fault_address(cache), 5 * PAGE);
    assert_false(cellar_cache_is_cached(cache, 5 * PAGE));
    assert_result(cellar_pipeline_read(stage->pipeline, 5 * PAGE + 3, &byte, 1), -EBADMSG);
    assert_done(put(stage, 5 * PAGE, 1, 2));
    assert_result(cellar_pipeline_commit(stage->pipeline), -EBADMSG); /* the rest of the page is needed */
    assert_int_equal(cellar_pipeline_version(stage->pipeline), 9);
    log.validate_error = 1; /* says no more than that it is wrong */
    assert_result(cellar_cache_read(cache, 5 * PAGE, &byte, 1), -EIO);
    log.validate_error = 0;
    expect(cache, 5 * PAGE, PAGE, 1);
    assert_done(cellar_pipeline_commit(stage->pipeline));
    expect(cache, 5 * PAGE, 1, 2);
    cellar_cache_close(snapshot);
    log_close(&log);
}

/* A commit that fails half-way has changed nothing that anybody reads, and can be made again. */
static void test_place_errors(void **state)
{
    struct log log;
    struct stage *stage = &log.stage;
    struct cellar_cache *snapshot;
    unsigned char byte;

    (void)state;
    log_open(&log, SIZE, 2 * PAGE, (struct cellar_pipeline_options){0});
    assert_done(put_commit(stage, 0, SIZE, 1));
    snapshot = take_snapshot(stage);
    assert_done(put(stage, 0, 4 * PAGE, 2));
    assert_done(put(stage, 8 * PAGE, 1, 2));
    fault_fail(&log.fault, FAULT_WRITE, 3, 1, -EIO);
    log.fault.torn_bytes = 10;
    assert_result(cellar_pipeline_commit(stage->pipeline), -EIO);
    assert_int_equal(cellar_pipeline_version(stage->pipeline), 1);
    expect_seen(stage, 0, 4 * PAGE, 2);
    expect_seen(stage, 8 * PAGE, 1, 2);
    expect_seen(stage, 8 * PAGE + 1, PAGE - 1, 1);
    expect(cellar_pipeline_cache(stage->pipeline), 0, SIZE, 1);
    expect(snapshot, 0, SIZE, 1);
    for (int error = 1; error <= 4; error++) {
        log.new_error = error;
        assert_result(cellar_pipeline_commit(stage->pipeline), -EIO);
    }
    log.new_error = -ENOSPC;
    assert_result(cellar_pipeline_commit(stage->pipeline), -ENOSPC);
    log.new_error = 0;
    assert_done(cellar_pipeline_commit(stage->pipeline));
    assert_int_equal(cellar_pipeline_version(stage->pipeline), 2);
    assert_int_equal(cellar_pipeline_pending_bytes(stage->pipeline), 0);
    expect(cellar_pipeline_cache(stage->pipeline), 0, 4 * PAGE, 2);
    expect(snapshot, 0, SIZE, 1);
    cellar_cache_invalidate(snapshot, 0, SIZE);
    for (int error = 2; error <= 5; error++) { /* nothing that a hook may say */
        log.place_error = error;
        assert_result(cellar_cache_read(snapshot, 0, &byte, 1), -EIO);
    }
    log.place_error = CELLAR_NONE;
    assert_result(cellar_cache_read(snapshot, 0, &byte, 1), CELLAR_EBOUNDS);
    log.place_error = -ESTALE;
    assert_result(cellar_cache_read(snapshot, 0, &byte, 1), -ESTALE);
    log.place_error = 0;
    expect(snapshot, 0, SIZE, 1);
    cellar_cache_close(snapshot);
    log_close(&log);
}

/* The end of the versions moves with the commits. */
static void test_place_the_end(void **state)
{
    struct log log;
    struct stage *stage = &log.stage;
    struct cellar_cache *before, *after;
    unsigned char byte;

    (void)state;
    log_open(&log, SIZE, PAGE, (struct cellar_pipeline_options){.committed_bytes = 2 * PAGE});
    before = take_snapshot(stage);
    assert_done(put_commit(stage, 5 * PAGE, PAGE, 1));
    after = take_snapshot(stage);
    assert_result(cellar_cache_read(before, 2 * PAGE, &byte, 1), CELLAR_EBOUNDS);
    expect(after, 5 * PAGE, PAGE, 1);
    expect(after, 0, 5 * PAGE, 0);
    assert_result(cellar_cache_read(after, 6 * PAGE, &byte, 1), CELLAR_EBOUNDS);
    cellar_cache_close(before);
    cellar_cache_close(after);
    log_close(&log);
}

/* A page that no version has yet begins as zeros. */
static void test_place_the_first_of_a_page(void **state)
{
    struct log log;
    struct stage *stage = &log.stage;
    struct cellar_write_frame frame;

    (void)state;
    log_open(&log, SIZE - 10, PAGE, (struct cellar_pipeline_options){0});
    log.place_error = CELLAR_NONE;
    for (int start = CELLAR_WRITE_AS_IS; start <= CELLAR_WRITE_NEW; start++) {
        assert_done(cellar_pipeline_fix_write(stage->pipeline, (3 + (uint64_t)start) * PAGE,
                                              (enum cellar_write_start)start, &frame));
        assert_bytes(frame.bytes, PAGE, 0);
        cellar_pipeline_unfix_write(stage->pipeline, &frame);
    }
    assert_done(put(stage, 5 * PAGE + 5, 5, 1));
    assert_done(put(stage, 15 * PAGE + 5, 5, 1));
    assert_done(cellar_pipeline_commit(stage->pipeline));
    log.place_error = 0;
    expect_seen(stage, 5 * PAGE, 5, 0);
    expect_seen(stage, 5 * PAGE + 5, 5, 1);
    expect_seen(stage, 5 * PAGE + 10, PAGE - 10, 0);
    expect_seen(stage, 15 * PAGE + 10, PAGE - 20, 0);
    log_close(&log);
}

/* More pages behind each other than one write takes. */
static void test_place_many_pages(void **state)
{
    struct log log;
    struct stage *stage = &log.stage;
    unsigned char bytes[4 * (IOV_MAX + 10)], got[sizeof bytes];

    (void)state;
    support_bytes(3, bytes, sizeof bytes);
    log_open(&log, sizeof bytes, 4, (struct cellar_pipeline_options){.cache.page_bytes = 4});
    assert_done(cellar_pipeline_write(stage->pipeline, 0, bytes, sizeof bytes));
    assert_done(cellar_pipeline_commit(stage->pipeline));
    assert_int_equal(cellar_device_counters(log.second).writes, 2);
    assert_done(cellar_pipeline_read(stage->pipeline, 0, got, sizeof got));
    assert_memory_equal(got, bytes, sizeof bytes);
    log_close(&log);
}

static void test_place_options(void **state)
{
    struct log log;
    struct stage *stage = &log.stage;
    struct cellar_pipeline *pipeline;
    struct cellar_pipeline_options options = {.place_new = log_place_new};

    (void)state;
    log_open(&log, SIZE, PAGE, (struct cellar_pipeline_options){0});
    assert_result(cellar_pipeline_open_with(stage->device, &options, &pipeline), -EINVAL);
    options.cache.hooks.place = log_place;
    options.eager_writes = 1;
    assert_result(cellar_pipeline_open_with(stage->device, &options, &pipeline), -EINVAL);
    options.eager_writes = 0;
    options.place_new = NULL;
    assert_result(cellar_pipeline_open_with(stage->device, &options, &pipeline), -EINVAL);
    log_close(&log);
}

/* A device whose blocks are larger than a page can't hold one. */
static void test_place_in_large_blocks(void **state)
{
    struct log log;
    struct stage *stage = &log.stage;
    unsigned char byte;

    (void)state;
    log_open(&log, SIZE, PAGE, (struct cellar_pipeline_options){0});
    assert_done(put_commit(stage, 0, PAGE, 1));
    log.fault.keep_inner = true;
    assert_done(cellar_device_close(log.second));
    log.fault.block_bytes = 2 * PAGE;
    assert_done(fault_device_open(&log.fault, &log.second));
    log.fault.keep_inner = false;
    assert_result(cellar_pipeline_read(stage->pipeline, 0, &byte, 1), -EINVAL);
    log_close(&log);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_place_each_version),
        cmocka_unit_test(test_place_whole_pages),
        cmocka_unit_test(test_place_shares_pages),
        cmocka_unit_test(test_place_validates),
        cmocka_unit_test(test_place_errors),
        cmocka_unit_test(test_place_the_end),
        cmocka_unit_test(test_place_the_first_of_a_page),
        cmocka_unit_test(test_place_many_pages),
        cmocka_unit_test(test_place_options),
        cmocka_unit_test(test_place_in_large_blocks),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
