/* The edges of the cache: sizes asked for too early, waits for the wrong thing, ends of ranges, misuse and fork. */
#include "cache_test.h"

#include "page/pool.h"
#include <signal.h>
#include <unistd.h>

/* ---- a device whose size is told late ---- */

/* Over the device of a bed. Where a thread wants it, answers wait at the bed's gate, and may then be out of date. */
struct late {
    struct bed bed;
    struct cellar_device *device;
};

static _Thread_local bool holds_sizes;

static int late_size(void *state, uint64_t *ret_size_bytes)
{
    struct late *late = state;
    int error = cellar_device_size(late->bed.device, ret_size_bytes);

    if (holds_sizes)
        gate_pass(&late->bed.gate, FAULT_READ, 0, 0);
    return error;
}

static ssize_t late_read(void *state, void *buffer, size_t length_bytes, uint64_t offset)
{
    struct late *late = state;
    int error = cellar_device_read(late->bed.device, buffer, length_bytes, offset);

    return error != 0 ? error : (ssize_t)length_bytes;
}

static int late_close(void *state)
{
    (void)state;
    return 0;
}

/* The device ends with page BED_PAGES - 2; reads don't wait. */
static void late_open(struct late *late)
{
    static const struct cellar_device_ops ops = {
        .name = "late", .size = late_size, .read = late_read, .close = late_close};

    bed_open(&late->bed);
    late->bed.fault.before = NULL;
    assert_done(cellar_device_trim(late->bed.device, (BED_PAGES - 1) * PAGE));
    assert_done(cellar_device_open(&ops, late, &late->device));
}

static void late_close_all(struct late *late)
{
    assert_done(cellar_device_close(late->device));
    bed_close(&late->bed);
}

static void *read_late(void *user)
{
    holds_sizes = true;
    return reading_run(user);
}

/* Another thread asks for the page behind the end, and has been told that there is none, when the device grows. */
static void ask_too_early(struct late *late, struct cellar_cache *cache, struct reading *early)
{
    bed_hold(&late->bed);
    *early = (struct reading){.cache = cache, .address = (BED_PAGES - 1) * PAGE, .length = 1, .result = 12345};
    assert_int_equal(pthread_create(&early->thread, NULL, read_late, early), 0);
    assert_true(gate_wait(&late->bed.gate, 1));
    assert_done(cellar_device_grow(late->bed.device, 0, BED_PAGES * PAGE));
}

/* Who begins after the growth, and finds that load under way, gets the page. */
static void test_grown_while_waited_for(void **state)
{
    struct cellar_cache_options options = {.page_bytes = PAGE, .page_count = 8};
    struct cellar_cache *cache, *other;
    struct reading early, reading;
    struct late late;

    (void)state;
    late_open(&late);
    assert_done(cellar_cache_open_with(late.device, &options, &cache));
    other = bed_share(cache);
    ask_too_early(&late, other, &early);
    reading_start(&reading, cache, (BED_PAGES - 1) * PAGE, 1);
    wait_for_pins(other, 1);
    gate_open(&late.bed.gate);
    assert_done(reading_end(&reading));
    assert_int_equal(reading.bytes[0], 0);
    (void)reading_end(&early); /* the end was behind it when it began */
    cellar_cache_close(other);
    cellar_cache_close(cache);
    late_close_all(&late);
}

static void test_grown_while_awaited(void **state)
{
    struct cellar_cache_options options = {.page_bytes = PAGE, .page_count = 8, .depth = 2};
    struct waited waited = {0}, past = {0};
    struct cellar_cache *cache, *other;
    struct reading early;
    struct late late;

    (void)state;
    late_open(&late);
    assert_done(cellar_cache_open_with(late.device, &options, &cache));
    other = bed_share(cache);
    ask_too_early(&late, other, &early);
    assert_done(cellar_cache_load_async(cache, (BED_PAGES - 1) * PAGE, PAGE, note_done, &waited));
    assert_done(cellar_cache_load_async(cache, (BED_PAGES - 1) * PAGE, PAGE + 1, note_done, &past));
    gate_open(&late.bed.gate);
    (void)reading_end(&early);
    poll_all(cache);
    assert_int_equal(waited.calls, 1);
    assert_int_equal(waited.error, 0);
    assert_int_equal(past.error, CELLAR_EBOUNDS);
    cellar_cache_close(other);
    cellar_cache_close(cache);
    late_close_all(&late);
}

/* ---- waits for one load while another one doesn't come ---- */

enum { HELD_PAGE = 0, LOAN_PAGE = 40, LONG_PAGES = 8 };

/* Reads of HELD_PAGE and of the LONG_PAGES behind LOAN_PAGE wait at the gate; one of LOAN_PAGE until a thread waits for
 * the queue. */
struct holding {
    struct bed bed;
    struct cellar_pool *_Atomic pool;
    atomic_uint came;
};

static void hold_some(void *user, enum fault_call call, uint64_t offset, uint64_t length_bytes)
{
    struct holding *holding = user;
    struct cellar_pool *pool = holding->pool;
    uint64_t page = offset / PAGE;
    bool taking = false;

    if (call != FAULT_READ)
        return;
    if (page == HELD_PAGE || (page > LOAN_PAGE && page <= LOAN_PAGE + LONG_PAGES))
        gate_pass(&holding->bed.gate, call, offset, length_bytes);
    if (page != LOAN_PAGE)
        return;
    holding->came++;
    while (!taking) {
        cellar_pool_enter(pool);
        taking = pool->taking;
        cellar_pool_leave(pool);
        sched_yield();
    }
}

/* One request is held, as long as the gate is closed. */
static struct cellar_cache *holding_open(struct holding *holding, size_t page_count)
{
    struct cellar_cache_options options = {.page_count = page_count, .depth = 2, .io = CELLAR_IO_THREADS};
    struct cellar_cache *cache;

    bed_open(&holding->bed);
    holding->came = 0;
    holding->bed.fault.before = hold_some;
    holding->bed.fault.before_user = holding;
    bed_hold(&holding->bed);
    cache = bed_cache(&holding->bed, &options);
    holding->pool = cache->pool;
    cellar_cache_prefetch(cache, HELD_PAGE * PAGE, 1);
    assert_true(gate_wait(&holding->bed.gate, 1));
    return cache;
}

/* Another thread brings the page while this one waits for the queue. */
static void test_poll_hears_of_other_loads(void **state)
{
    struct cellar_cache *cache, *other;
    struct waited waited = {0};
    struct holding holding;
    struct reading reading;

    (void)state;
    cache = holding_open(&holding, 8);
    other = bed_share(cache);
    reading_start(&reading, other, LOAN_PAGE * PAGE, PAGE);
    while (holding.came == 0)
        sched_yield();
    assert_done(cellar_cache_load_async(cache, LOAN_PAGE * PAGE, PAGE, note_done, &waited));
    assert_done(cellar_cache_poll(cache, true)); /* without it: for ever */
    assert_int_equal(waited.calls, 1);
    assert_int_equal(waited.error, 0);
    assert_done(reading_end(&reading));
    assert_bytes(&holding.bed, reading.bytes, LOAN_PAGE * PAGE, PAGE);
    gate_open(&holding.bed.gate);
    cellar_cache_close(other);
    cellar_cache_close(cache);
    bed_close(&holding.bed);
}

/* All frames are taken by loads: who needs one waits for whichever ends first, here with an error. */
static void test_get_hears_of_other_loads(void **state)
{
    struct cellar_cache *cache, *others[LONG_PAGES + 1];
    struct reading readings[LONG_PAGES + 1];
    struct holding holding;

    (void)state;
    cache = holding_open(&holding, 1);
    fault_fail(&holding.bed.fault, FAULT_READ, 1, 1, -EIO);
    for (uint64_t i = 0; i <= LONG_PAGES; i++)
        others[i] = bed_share(cache);
    for (uint64_t i = 0; i <= LONG_PAGES; i++)
        reading_start(&readings[i], others[i], (LOAN_PAGE + i) * PAGE, PAGE);
    assert_true(gate_wait(&holding.bed.gate, 1 + LONG_PAGES));
    while (holding.came == 0)
        sched_yield();
    assert_int_equal(holding.pool->frames_touched, holding.pool->frame_count);
    assert_read(&holding.bed, cache, 100 * PAGE, PAGE); /* without it: for ever */
    gate_open(&holding.bed.gate);
    for (uint64_t i = 0; i <= LONG_PAGES; i++) {
        assert_result(reading_end(&readings[i]), i == 0 ? -EIO : 0);
        if (i > 0)
            assert_bytes(&holding.bed, readings[i].bytes, (LOAN_PAGE + i) * PAGE, PAGE);
        cellar_cache_close(others[i]);
    }
    cellar_cache_close(cache);
    bed_close(&holding.bed);
}

/* ---- reading ahead, and prefetching ---- */

/* As far ahead as the cache is large: what is hot stays, and no page comes twice. */
static void test_ahead_of_whole_cache(void **state)
{
    static const enum cellar_eviction evictions[] = {CELLAR_EVICT_SIEVE, CELLAR_EVICT_S3FIFO};
    struct bed bed;

    (void)state;
    skip_in_debug();
    for (int variant = 0; variant < 4; variant++) {
        struct cellar_cache_options options = {
            .page_count = 32, .eviction = evictions[variant % 2], .depth = 4, .read_ahead_pages = 32};
        struct cellar_cache *cache, *other = NULL;

        bed_open(&bed);
        cache = bed_cache(&bed, &options);
        if (variant >= 2)
            other = bed_share(cache);
        for (int round = 0; round < 3; round++) {
            for (uint64_t hot = 2; hot < 26; hot += 2)
                assert_read(&bed, cache, hot * PAGE, 1);
        }
        for (uint64_t page = 28; page < BED_PAGES - 1; page++) {
            assert_read(&bed, cache, page * PAGE, PAGE);
            if (page % 4 != 0)
                continue;
            for (uint64_t hot = 2; hot < 26; hot += 2) {
                assert_true(cellar_cache_is_cached(cache, hot * PAGE));
                assert_read(&bed, cache, hot * PAGE, 1);
            }
        }
        assert_read(&bed, cache, (BED_PAGES - 1) * PAGE, PAGE - 10);
        assert_true(cellar_cache_counters(cache).ahead > 50);
        assert_int_equal(cellar_device_counters(bed.device).bytes_read, BED_BYTES - 28 * PAGE + 12 * PAGE);
        cellar_cache_close(other);
        cellar_cache_close(cache);
        bed_close(&bed);
    }
}

/* A prefetch that fails is a hint that failed: who waits for its page asks for himself. */
static void test_failed_prefetch_fails_nobody(void **state)
{
    struct cellar_cache_options options = {.page_count = 8, .depth = 2};
    struct bed bed;

    (void)state;
    for (uint64_t pages = 1; pages <= 2; pages++) {
        struct waited waited = {0};
        struct cellar_cache *cache, *other;
        struct reading reading;

        bed_open(&bed);
        cache = bed_cache(&bed, &options);
        other = bed_share(cache);
        fault_fail(&bed.fault, FAULT_READ, 1, 1, -EIO);
        bed_hold(&bed);
        cellar_cache_prefetch(cache, 20 * PAGE, pages * PAGE);
        assert_true(gate_wait(&bed.gate, 1));
        reading_start(&reading, other, 20 * PAGE, PAGE);
        wait_for_pins(cache, 1);
        assert_done(cellar_cache_load_async(cache, 20 * PAGE, pages * PAGE, note_done, &waited));
        gate_open(&bed.gate);
        assert_done(reading_end(&reading));
        assert_bytes(&bed, reading.bytes, 20 * PAGE, PAGE);
        poll_all(cache);
        assert_int_equal(waited.calls, 1);
        assert_int_equal(waited.error, 0);
        assert_int_equal(bed.fault.failures, 1);
        cellar_cache_close(other);
        cellar_cache_close(cache);
        bed_close(&bed);
    }
}

/* ---- ends of ranges ---- */

/* The last page there can be is the last one to be forgotten, not the one before the first. */
static void test_invalidate_to_the_very_end(void **state)
{
    struct cellar_cache_options options = {.page_bytes = 1, .page_count = 32};
    struct cellar_cache *cache;
    struct bed bed;

    (void)state;
    bed_open(&bed);
    cache = bed_cache(&bed, &options);
    assert_read(&bed, cache, 0, 32);
    cellar_cache_invalidate(cache, UINT64_MAX - 2, 10); /* without it: for ever */
    cellar_cache_invalidate(cache, UINT64_MAX, 1);
    cellar_cache_invalidate(cache, UINT64_MAX, UINT64_MAX);
    assert_read(&bed, cache, 0, 32);
    if (!support_cache_debug())
        assert_int_equal(bed_reads(&bed), 32);
    cellar_cache_invalidate(cache, 31, 1);
    assert_false(cellar_cache_is_cached(cache, 31));
    cellar_cache_invalidate(cache, 0, UINT64_MAX);
    assert_int_equal(cellar_cache_counters(cache).pages, 0);
    cellar_cache_close(cache);
    bed_close(&bed);
}

static void test_io_out_of_range(void **state)
{
    static const int values[] = {-1, CELLAR_IO_THREADS + 1, 77};
    struct cellar_cache *cache = NULL;
    struct bed bed;

    (void)state;
    bed_open(&bed);
    for (size_t i = 0; i < SUPPORT_COUNT(values); i++) {
        for (unsigned depth = 0; depth < 2; depth++) {
            struct cellar_cache_options options = {.depth = depth};

            memcpy(&options.io, &values[i], sizeof options.io);
            assert_result(cellar_cache_open_with(bed.device, &options, &cache), -EINVAL);
            assert_null(cache);
        }
    }
    bed_close(&bed);
}

/* ---- the debug mode ---- */

static volatile unsigned char sink;

/* A run of several pages is a copy there, which ends with its unfix. */
static int use_run_after_unfix(void *user)
{
    const bool *after = user;
    unsigned char bytes[4 * PAGE] = {0};
    struct cellar_device *device;
    struct cellar_cache *cache;
    struct cellar_slice slice;
    struct cellar_fixed fixed;

    signal(SIGSEGV, SIG_DFL); /* a sanitizer's report of the fault is no news */
    signal(SIGBUS, SIG_DFL);
    SUPPORT_CHILD_NEEDS(setenv("CELLAR_CACHE_DEBUG", "1", 1) == 0);
    SUPPORT_CHILD_NEEDS(cellar_device_open_memory(bytes, sizeof bytes, sizeof bytes, &device) == 0);
    SUPPORT_CHILD_NEEDS(cellar_cache_open(device, PAGE, 8, &cache) == 0);
    SUPPORT_CHILD_NEEDS(cellar_cache_map(cache, PAGE / 2, 2 * PAGE, &fixed) == 0);
    slice = fixed.slice;
    SUPPORT_CHILD_NEEDS(slice.length == 2 * PAGE);
    sink = ((const unsigned char *)slice.bytes)[2 * PAGE - 1];
    cellar_cache_unfix(cache, &fixed);
    if (*after)
        sink = *(const unsigned char *)slice.bytes;
    cellar_cache_close(cache);
    return cellar_device_close(device) == 0 ? 77 : 78;
}

static void test_debug_run_after_unfix(void **state)
{
    (void)state;
    assert_int_equal(support_child(use_run_after_unfix, &(bool){true}), -SIGSEGV);
    assert_int_equal(support_child(use_run_after_unfix, &(bool){false}), 77);
}

/* ---- fork ---- */

/* The threads that would load are the parent's. */
static int load_in_child(void *user)
{
    struct cellar_cache *cache = user;
    struct waited waited = {0};

    SUPPORT_CHILD_NEEDS(cellar_cache_load_async(cache, 3 * PAGE, PAGE, note_done, &waited) == CELLAR_EFORKED);
    SUPPORT_CHILD_NEEDS(cellar_cache_poll(cache, false) == CELLAR_EFORKED);
    SUPPORT_CHILD_NEEDS(cellar_cache_poll(cache, true) == CELLAR_EFORKED);
    SUPPORT_CHILD_NEEDS(waited.calls == 0);
    cellar_cache_close(cache);
    return 0;
}

static void test_fork_loads(void **state)
{
    struct cellar_cache_options options = {.page_count = 8, .depth = 2};
    struct waited waited = {0};
    struct cellar_cache *cache;
    struct bed bed;

    (void)state;
    bed_open(&bed);
    cache = bed_cache(&bed, &options);
    assert_done(cellar_cache_load_async(cache, 0, PAGE, note_done, &waited));
    poll_all(cache);
    assert_int_equal(support_child(load_in_child, cache), 0); /* with nothing under way */
    bed_hold(&bed);
    cellar_cache_prefetch(cache, PAGE, PAGE);
    assert_true(gate_wait(&bed.gate, 1));
    assert_int_equal(support_child(load_in_child, cache), 0); /* with one */
    gate_open(&bed.gate);
    assert_read(&bed, cache, PAGE, PAGE);
    assert_int_equal(waited.calls, 1);
    assert_int_equal(waited.error, 0);
    assert_read(&bed, cache, 3 * PAGE, PAGE);
    cellar_cache_close(cache);
    bed_close(&bed);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_grown_while_waited_for),     cmocka_unit_test(test_grown_while_awaited),
        cmocka_unit_test(test_poll_hears_of_other_loads),  cmocka_unit_test(test_get_hears_of_other_loads),
        cmocka_unit_test(test_ahead_of_whole_cache),       cmocka_unit_test(test_failed_prefetch_fails_nobody),
        cmocka_unit_test(test_invalidate_to_the_very_end), cmocka_unit_test(test_io_out_of_range),
        cmocka_unit_test(test_debug_run_after_unfix),      cmocka_unit_test(test_fork_loads),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
