/* Loads in the background: load_async, poll, the descriptor, closing with loads under way. */
#include "cache_test.h"

#include <sys/epoll.h>
#include <unistd.h>

static void test_async_options(void **state)
{
    static const struct cellar_cache_options bad[] = {
        {.page_bytes = PAGE, .read_ahead_pages = 1},
        {.page_bytes = PAGE, .depth = 4097},
        {.page_bytes = PAGE, .depth = 1, .io = (enum cellar_io)9},
        {.page_bytes = PAGE, .eviction = (enum cellar_eviction)9},
        {.page_bytes = 65, .depth = 1},
    };
    struct cellar_cache_options none = {0};
    struct cellar_cache *cache;
    struct waited waited = {0};
    struct bed bed;

    (void)state;
    bed_open(&bed);
    for (size_t i = 0; i < SUPPORT_COUNT(bad); i++)
        assert_result(cellar_cache_open_with(bed.device, &bad[i], &cache), -EINVAL);
    cache = bed_cache(&bed, &none);
    assert_result(cellar_cache_load_async(cache, 0, 1, note_done, &waited), -ENOTSUP);
    assert_result(cellar_cache_descriptor(cache), -ENOTSUP);
    assert_result(cellar_cache_poll(cache, true), CELLAR_NONE);
    assert_int_equal(cellar_cache_awaited(cache), 0);
    cellar_cache_prefetch(cache, 0, 1000);
    assert_int_equal(bed_reads(&bed), 0);
    cellar_cache_close(cache);
    assert_int_equal(waited.calls, 0);
    bed_close(&bed);
}

static void test_async_load(void **state)
{
    struct cellar_cache_options options = {.page_count = 64, .depth = 4};
    struct cellar_cache *cache;
    struct waited waited = {0}, again = {0};
    struct bed bed;

    (void)state;
    skip_in_debug();
    bed_open(&bed);
    cache = bed_cache(&bed, &options);
    assert_result(cellar_cache_load_async(cache, 0, 0, note_done, &waited), -EINVAL);
    assert_result(cellar_cache_poll(cache, true), CELLAR_NONE);
    assert_done(cellar_cache_load_async(cache, 3 * PAGE + 5, 38 * PAGE, note_done, &waited));
    assert_int_equal(waited.calls, 0);
    assert_int_equal(cellar_cache_awaited(cache), 1);
    assert_done(cellar_cache_poll(cache, true));
    assert_int_equal(waited.calls, 1);
    assert_int_equal(waited.error, 0);
    assert_int_equal(cellar_cache_awaited(cache), 0);
    assert_result(cellar_cache_poll(cache, false), CELLAR_NONE);
    for (uint64_t page = 0; page < 64; page++)
        assert_int_equal(cellar_cache_is_cached(cache, page * PAGE), page >= 3 && page <= 41);
    assert_int_equal(cellar_device_counters(bed.device).bytes_read, 39 * PAGE);
    for (uint64_t page = 3; page <= 41; page++)
        assert_read(&bed, cache, page * PAGE, PAGE);
    assert_int_equal(cellar_cache_counters(cache).misses, 0);
    /* What is there calls back all the same, and not from within. */
    assert_done(cellar_cache_load_async(cache, 5 * PAGE, 1, note_done, &again));
    assert_int_equal(again.calls, 0);
    assert_done(cellar_cache_poll(cache, false));
    assert_int_equal(again.calls, 1);
    assert_int_equal(cellar_device_counters(bed.device).bytes_read, 39 * PAGE);
    cellar_cache_close(cache);
    bed_close(&bed);
}

static void test_async_end(void **state)
{
    struct cellar_cache_options options = {.page_count = 256, .depth = 2};
    struct cellar_cache *cache;
    struct bed bed;

    (void)state;
    bed_open(&bed);
    cache = bed_cache(&bed, &options);
    assert_result(load_and_wait(cache, BED_BYTES - 1, 1), 0);
    assert_result(load_and_wait(cache, BED_BYTES - 1, 2), CELLAR_EBOUNDS);
    assert_int_equal(cellar_cache_fault_address(cache), BED_BYTES);
    assert_result(load_and_wait(cache, 0, BED_BYTES), 0);
    assert_result(load_and_wait(cache, 0, BED_BYTES + 1), CELLAR_EBOUNDS);
    assert_int_equal(cellar_cache_fault_address(cache), BED_BYTES);
    assert_result(load_and_wait(cache, 0, BED_BYTES + 10), CELLAR_EBOUNDS);
    assert_result(load_and_wait(cache, 0, 3 * BED_BYTES), CELLAR_EBOUNDS);
    assert_result(load_and_wait(cache, 5 * BED_BYTES, 1), CELLAR_EBOUNDS);
    assert_int_equal(cellar_cache_fault_address(cache), 5 * BED_BYTES);
    assert_result(load_and_wait(cache, (uint64_t)1 << 63, 1), CELLAR_EBOUNDS);
    assert_result(load_and_wait(cache, UINT64_MAX, SIZE_MAX), CELLAR_EBOUNDS);
    assert_result(load_and_wait(cache, 100, SIZE_MAX), CELLAR_EBOUNDS);
    /* The device grows: what was short is loaded anew. */
    assert_done(cellar_device_grow(bed.device, BED_BYTES, BED_BYTES + 100));
    assert_done(support_device_write(bed.device, bed.bytes + BED_BYTES, 100, BED_BYTES));
    assert_result(load_and_wait(cache, BED_BYTES - 10, 110), 0);
    assert_read(&bed, cache, BED_BYTES - 10, 110);
    /* A limit is an end, too. */
    cellar_cache_set_limit(cache, 100);
    assert_result(load_and_wait(cache, 0, 100), 0);
    assert_result(load_and_wait(cache, 0, 101), CELLAR_EBOUNDS);
    assert_int_equal(cellar_cache_fault_address(cache), 100);
    assert_result(load_and_wait(cache, 50, 3 * PAGE), CELLAR_EBOUNDS);
    assert_result(load_and_wait(cache, 100, 1), CELLAR_EBOUNDS);
    cellar_cache_close(cache);
    bed_close(&bed);
}

static void test_async_errors(void **state)
{
    struct cellar_cache_options options = {.page_count = 64, .depth = 2};
    struct cellar_cache *cache;
    struct waited waited[4] = {{0}};
    struct bed bed;

    (void)state;
    bed_open(&bed);
    cache = bed_cache(&bed, &options);
    fault_fail(&bed.fault, FAULT_READ, 1, 0, -EIO);
    assert_result(load_and_wait(cache, 10 * PAGE, 20 * PAGE), -EIO);
    assert_int_equal(cellar_cache_fault_address(cache), 10 * PAGE);
    assert_int_equal(cellar_cache_counters(cache).pages, 0);
    assert_int_equal(cellar_cache_counters(cache).pinned, 0);
    /* All who wait for one load get its error. */
    fault_heal(&bed.fault);
    fault_fail(&bed.fault, FAULT_READ, 1, 1, -EIO);
    bed_hold(&bed);
    for (size_t i = 0; i < 4; i++)
        assert_done(cellar_cache_load_async(cache, 7 * PAGE + i, 1, note_done, &waited[i]));
    gate_open(&bed.gate);
    poll_all(cache);
    for (size_t i = 0; i < 4; i++) {
        assert_int_equal(waited[i].calls, 1);
        assert_result(waited[i].error, -EIO);
    }
    assert_result(load_and_wait(cache, 7 * PAGE, 1), 0);
    /* The size of the device can't be told. */
    fault_fail(&bed.fault, FAULT_SIZE, 1, 0, -ENXIO);
    assert_result(load_and_wait(cache, BED_BYTES + PAGE, 1), -ENXIO);
    fault_heal(&bed.fault);
    assert_result(load_and_wait(cache, 0, BED_BYTES), 0);
    cellar_cache_close(cache);
    bed_close(&bed);
}

/* More than one request can bring, and more requests than there may be. */
static void test_async_more_than_depth(void **state)
{
    struct bed bed;

    (void)state;
    for (unsigned depth = 1; depth <= 3; depth++) {
        struct cellar_cache_options options = {.page_count = 128, .depth = depth};
        struct waited waited[10] = {{0}};
        struct cellar_cache *cache;

        bed_open(&bed);
        cache = bed_cache(&bed, &options);
        assert_result(load_and_wait(cache, 0, 60 * PAGE), 0);
        for (size_t i = 0; i < 10; i++)
            assert_done(cellar_cache_load_async(cache, (64 + 3 * i) * PAGE, 2 * PAGE, note_done, &waited[i]));
        poll_all(cache);
        for (size_t i = 0; i < 10; i++)
            assert_true(waited[i].calls == 1 && waited[i].error == 0);
        cellar_cache_close(cache);
        bed_close(&bed);
    }
}

static void test_async_small_cache(void **state)
{
    struct bed bed;

    (void)state;
    for (size_t pages = 1; pages <= 4; pages *= 2) {
        struct cellar_cache_options options = {.page_count = pages, .depth = 8};
        struct waited waited[10] = {{0}};
        struct cellar_cache *cache;

        bed_open(&bed);
        cache = bed_cache(&bed, &options);
        assert_result(load_and_wait(cache, 0, BED_BYTES), 0);
        for (size_t i = 0; i < 10; i++)
            assert_done(cellar_cache_load_async(cache, 12 * i * PAGE, 6 * PAGE, note_done, &waited[i]));
        poll_all(cache);
        for (size_t i = 0; i < 10; i++) {
            assert_int_equal(waited[i].calls, 1);
            assert_result(waited[i].error, 0);
        }
        assert_true(cellar_cache_counters(cache).pages <= pages);
        cellar_cache_close(cache);
        bed_close(&bed);
    }
}

static void test_async_exactly_depth(void **state)
{
    struct cellar_cache_options options = {.page_count = 64, .depth = 5};
    struct waited waited = {0};
    struct cellar_cache *cache;
    struct bed bed;

    (void)state;
    skip_in_debug();
    bed_open(&bed);
    cache = bed_cache(&bed, &options);
    bed_hold(&bed);
    for (uint64_t i = 0; i < 20; i++)
        assert_done(cellar_cache_load_async(cache, 2 * i * PAGE, 1, note_done, &waited));
    assert_true(gate_wait(&bed.gate, 5));
    assert_int_equal(cellar_cache_awaited(cache), 20);
    gate_open(&bed.gate);
    poll_all(cache);
    assert_int_equal(waited.calls, 20);
    assert_int_equal(bed.gate.inside_most, 5);
    assert_int_equal(bed_reads(&bed), 20);
    cellar_cache_close(cache);
    bed_close(&bed);
}

/* ---- done functions that call the cache ---- */

struct chain {
    struct bed *bed;
    struct cellar_cache *cache, *other;
    unsigned calls, left;
};

static void load_next(void *user, int error)
{
    struct chain *chain = user;

    assert_int_equal(error, 0);
    chain->calls++;
    if (chain->other != NULL)
        cellar_cache_close(chain->other);
    chain->other = NULL;
    assert_read(chain->bed, chain->cache, chain->left * 3 * PAGE, 100);
    (void)cellar_cache_poll(chain->cache, false);
    if (chain->left == 0)
        return;
    chain->left--;
    assert_done(cellar_cache_load_async(chain->cache, chain->left * PAGE, 2 * PAGE, load_next, chain));
}

static void test_async_from_within_done(void **state)
{
    struct cellar_cache_options options = {.page_count = 8, .depth = 2};
    struct waited nobody = {0};
    struct chain chain = {.left = 30};
    struct bed bed;

    (void)state;
    bed_open(&bed);
    chain.bed = &bed;
    chain.cache = bed_cache(&bed, &options);
    chain.other = bed_share(chain.cache);
    assert_done(cellar_cache_load_async(chain.other, 50 * PAGE, 10 * PAGE, note_done, &nobody));
    assert_done(cellar_cache_load_async(chain.cache, 0, 2 * PAGE, load_next, &chain));
    poll_all(chain.cache);
    assert_int_equal(chain.calls, 31);
    assert_int_equal(nobody.calls, 0);
    cellar_cache_close(chain.cache);
    bed_close(&bed);
}

struct countdown {
    struct cellar_cache *cache;
    unsigned calls, of;
};

static void count_down(void *user, int error)
{
    struct countdown *countdown = user;

    assert_int_equal(error, 0);
    countdown->calls++;
    assert_int_equal(cellar_cache_awaited(countdown->cache), countdown->of - countdown->calls);
}

static void test_async_awaited_within_done(void **state)
{
    struct cellar_cache_options options = {.page_count = 8, .depth = 2};
    struct countdown countdown = {.of = 4};
    struct bed bed;

    (void)state;
    bed_open(&bed);
    countdown.cache = bed_cache(&bed, &options);
    for (uint64_t i = 0; i < 4; i++)
        assert_done(cellar_cache_load_async(countdown.cache, 0, 1, count_down, &countdown));
    poll_all(countdown.cache);
    assert_int_equal(countdown.calls, 4);
    cellar_cache_close(countdown.cache);
    bed_close(&bed);
}

struct repeated {
    struct cellar_cache *cache;
    unsigned calls;
};

static void load_same(void *user, int error)
{
    struct repeated *repeated = user;

    assert_done(error);
    repeated->calls++;
    assert_done(cellar_cache_load_async(repeated->cache, 0, PAGE, load_same, repeated));
}

/* A poll calls what was done when it began, not what its calls have asked for and was done at once: it comes back. */
static void test_async_done_within_done(void **state)
{
    struct cellar_cache_options options = {.page_count = 8, .depth = 2};
    struct repeated repeated = {0};
    struct bed bed;

    (void)state;
    skip_in_debug();
    bed_open(&bed);
    repeated.cache = bed_cache(&bed, &options);
    assert_read(&bed, repeated.cache, 0, PAGE);
    for (int i = 0; i < 2; i++)
        assert_done(cellar_cache_load_async(repeated.cache, 0, PAGE, load_same, &repeated));
    for (unsigned polls = 1; polls <= 3; polls++) {
        assert_done(cellar_cache_poll(repeated.cache, polls == 3));
        assert_int_equal(repeated.calls, 2 * polls);
        assert_int_equal(cellar_cache_awaited(repeated.cache), 2);
    }
    assert_int_equal(bed_reads(&bed), 1);
    cellar_cache_close(repeated.cache);
    bed_close(&bed);
}

/* Loads in the background are into memory of the cache's own, also where the device could lend its own. */
static void test_async_copies(void **state)
{
    struct cellar_cache_options options = {.page_bytes = PAGE, .page_count = 4};
    struct waited waited = {0};
    unsigned char bytes[4 * PAGE], got[PAGE];

    (void)state;
    skip_in_debug();
    support_bytes(13, bytes, sizeof bytes);
    for (options.depth = 1; options.depth <= 2; options.depth++) {
        struct cellar_device *device;
        struct cellar_cache *cache;

        assert_done(cellar_device_open_memory(bytes, sizeof bytes, sizeof bytes, &device));
        assert_done(cellar_cache_open_with(device, &options, &cache));
        assert_done(cellar_cache_load_async(cache, PAGE, PAGE, note_done, &waited));
        poll_all(cache);
        assert_done(waited.error);
        assert_done(cellar_cache_read(cache, 2 * PAGE, got, PAGE));
        assert_done(support_device_write(device, bytes, 2 * PAGE, PAGE)); /* past the cache */
        for (size_t page = 1; page <= 2; page++) {
            assert_done(cellar_cache_read(cache, page * PAGE, got, PAGE));
            assert_memory_equal(got, bytes + page * PAGE, PAGE);
        }
        cellar_cache_close(cache);
        assert_done(cellar_device_close(device));
    }
}

/* ---- the descriptor ---- */

static void test_async_descriptor(void **state)
{
    struct cellar_cache_options options = {.page_count = 8, .depth = 2};
    struct epoll_event event = {.events = EPOLLIN};
    struct waited waited = {0};
    struct cellar_cache *cache;
    struct bed bed;
    int fd, epoll = epoll_create1(EPOLL_CLOEXEC);

    (void)state;
    bed_open(&bed);
    cache = bed_cache(&bed, &options);
    fd = cellar_cache_descriptor(cache);
    assert_true(fd >= 0 && epoll >= 0);
    assert_int_equal(cellar_cache_descriptor(cache), fd);
    assert_int_equal(epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event), 0);
    bed_hold(&bed);
    for (uint64_t i = 0; i < 6; i++)
        assert_done(cellar_cache_load_async(cache, 2 * i * PAGE, 1, note_done, &waited));
    assert_true(gate_wait(&bed.gate, 2));
    assert_false(is_readable(fd, 0));
    gate_open(&bed.gate);
    while (waited.calls < 6) {
        assert_int_equal(epoll_wait(epoll, &event, 1, -1), 1);
        (void)cellar_cache_poll(cache, false);
    }
    assert_false(is_readable(fd, 0));
    /* What is there at once is told, too. */
    assert_done(cellar_cache_load_async(cache, 10 * PAGE, 1, note_done, &waited));
    assert_true(is_readable(fd, WAIT_SECONDS * 1000));
    poll_all(cache);
    assert_false(is_readable(fd, 0));
    close(epoll);
    cellar_cache_close(cache);
    bed_close(&bed);
}

/* Another handle's thread has taken in what this one waits for; also where the descriptor is made only then. */
static void test_async_settled_by_another(void **state)
{
    struct cellar_cache_options options = {.page_count = 8, .depth = 2};
    struct cellar_cache *cache, *other;
    struct bed bed;

    (void)state;
    for (int late = 0; late < 2; late++) {
        struct waited waited = {0};
        struct reading reading;
        int fd = -1;

        bed_open(&bed);
        cache = bed_cache(&bed, &options);
        other = bed_share(cache);
        if (!late)
            fd = cellar_cache_descriptor(cache);
        bed_hold(&bed);
        assert_done(cellar_cache_load_async(cache, 5 * PAGE, 1, note_done, &waited));
        reading_start(&reading, other, 5 * PAGE, PAGE);
        wait_for_pins(cache, 1);
        gate_open(&bed.gate);
        assert_done(reading_end(&reading));
        if (late)
            fd = cellar_cache_descriptor(cache);
        assert_true(is_readable(fd, 0));
        assert_done(cellar_cache_poll(cache, false));
        assert_int_equal(waited.calls, 1);
        assert_false(is_readable(fd, 0));
        assert_int_equal(bed_reads(&bed), 1);
        cellar_cache_close(other);
        cellar_cache_close(cache);
        bed_close(&bed);
    }
}

/* Every frame is taken by threads that load; nobody but they can tell the one that found none to go on. */
static void test_async_stalled_by_threads(void **state)
{
    enum { THREADS = 10 }; /* the pages of the cache, and the frames for loads beside them */
    struct cellar_cache_options options = {.page_count = 1, .depth = 2};
    struct cellar_cache *cache, *handles[THREADS];
    struct reading readings[THREADS];
    struct waited waited = {0};
    struct bed bed;
    int fd;

    (void)state;
    bed_open(&bed);
    cache = bed_cache(&bed, &options);
    fd = cellar_cache_descriptor(cache);
    bed_hold(&bed);
    for (unsigned i = 0; i < THREADS; i++) {
        handles[i] = bed_share(cache);
        reading_start(&readings[i], handles[i], i * PAGE, PAGE);
    }
    assert_true(gate_wait(&bed.gate, THREADS));
    assert_done(cellar_cache_load_async(cache, 100 * PAGE, 1, note_done, &waited));
    assert_false(is_readable(fd, 0));
    gate_open(&bed.gate);
    for (unsigned i = 0; i < THREADS; i++)
        assert_done(reading_end(&readings[i]));
    assert_true(is_readable(fd, WAIT_SECONDS * 1000));
    poll_all(cache);
    assert_int_equal(waited.calls, 1);
    assert_int_equal(waited.error, 0);
    for (unsigned i = 0; i < THREADS; i++)
        cellar_cache_close(handles[i]);
    cellar_cache_close(cache);
    bed_close(&bed);
}

/* ---- closing ---- */

static void *close_run(void *user)
{
    cellar_cache_close(user);
    return NULL;
}

static void test_async_close(void **state)
{
    struct cellar_cache_options options = {.page_count = 128, .depth = 1};
    struct waited waited = {0};
    struct cellar_cache *cache;
    pthread_t thread;
    struct bed bed;

    (void)state;
    bed_open(&bed);
    cache = bed_cache(&bed, &options);
    bed_hold(&bed);
    assert_done(cellar_cache_load_async(cache, 0, BED_BYTES, note_done, &waited));
    assert_done(cellar_cache_load_async(cache, 40 * PAGE, BED_BYTES - 40 * PAGE, note_done, &waited));
    assert_true(gate_wait(&bed.gate, 1));
    assert_int_equal(pthread_create(&thread, NULL, close_run, cache), 0);
    gate_open(&bed.gate);
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_int_equal(waited.calls, 0);
    assert_true(bed_reads(&bed) <= 16); /* of one request; what nobody wants any more is not loaded */
    bed_close(&bed);
}

static void test_async_close_one_of_two(void **state)
{
    struct cellar_cache_options options = {.page_count = 64, .depth = 2};
    struct waited gone = {0}, stays = {0};
    struct cellar_cache *cache, *other;
    struct bed bed;

    (void)state;
    bed_open(&bed);
    cache = bed_cache(&bed, &options);
    other = bed_share(cache);
    bed_hold(&bed);
    for (uint64_t i = 0; i < 6; i++) {
        assert_done(cellar_cache_load_async(cache, 2 * i * PAGE, 1, note_done, &gone));
        assert_done(cellar_cache_load_async(other, 2 * i * PAGE, 1, note_done, &stays));
    }
    assert_done(cellar_cache_load_async(cache, (uint64_t)1 << 63, 1, note_done, &gone)); /* done, and not told */
    cellar_cache_close(cache);
    gate_open(&bed.gate);
    poll_all(other);
    assert_int_equal(gone.calls, 0);
    assert_int_equal(stays.calls, 6);
    assert_int_equal(stays.error, 0);
    cellar_cache_close(other);
    bed_close(&bed);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_async_options),
        cmocka_unit_test(test_async_load),
        cmocka_unit_test(test_async_end),
        cmocka_unit_test(test_async_errors),
        cmocka_unit_test(test_async_more_than_depth),
        cmocka_unit_test(test_async_small_cache),
        cmocka_unit_test(test_async_exactly_depth),
        cmocka_unit_test(test_async_from_within_done),
        cmocka_unit_test(test_async_awaited_within_done),
        cmocka_unit_test(test_async_done_within_done),
        cmocka_unit_test(test_async_copies),
        cmocka_unit_test(test_async_descriptor),
        cmocka_unit_test(test_async_settled_by_another),
        cmocka_unit_test(test_async_stalled_by_threads),
        cmocka_unit_test(test_async_close),
        cmocka_unit_test(test_async_close_one_of_two),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
