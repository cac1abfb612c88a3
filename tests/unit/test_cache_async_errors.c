/* Errors of loads in the background: whose they are, where they say that they happened, and who takes them in. */
#include "cache_test.h"

#include "page/pool.h"
#include <fcntl.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <unistd.h>

/* ---- before anything is read ---- */

struct places {
    struct cellar_device *device;
    uint64_t bad_page;
    int error;
};

static int find_place(void *user, uint64_t version, uint64_t page_address, struct cellar_place *ret_place)
{
    const struct places *places = user;

    (void)version;
    if (page_address == places->bad_page * PAGE)
        return places->error;
    *ret_place = (struct cellar_place){.device = places->device, .offset = page_address};
    return 0;
}

/* The first page that can't be found, after others that can. */
static void test_place_that_fails(void **state)
{
    static const struct {
        int error, expected;
    } errors[] = {{-ESTALE, -ESTALE}, {1234, -EIO}, {CELLAR_NONE, CELLAR_EBOUNDS}};
    struct bed bed;

    (void)state;
    bed_open(&bed);
    for (size_t i = 0; i < SUPPORT_COUNT(errors); i++) {
        for (uint64_t first = 5; first <= 7; first++) {
            struct places places = {bed.device, 7, errors[i].error};
            struct cellar_cache_options options = {
                .page_count = 8, .depth = 2, .hooks.place = find_place, .user = &places};
            struct cellar_cache *cache = bed_cache(&bed, &options);

            cellar_cache_set_version(cache, 1);
            assert_result(load_and_wait(cache, first * PAGE, 3 * PAGE), errors[i].expected);
            assert_int_equal(cellar_cache_fault_address(cache), 7 * PAGE);
            assert_done(load_and_wait(cache, 5 * PAGE, 2 * PAGE));
            cellar_cache_close(cache);
        }
    }
    bed_close(&bed);
}

/* ---- a device that refuses what it said was there ---- */

static void test_size_after_a_refusal(void **state)
{
    enum { SAME, CUT, UNKNOWN, OUTCOMES };
    static const int expected[OUTCOMES] = {-EIO, CELLAR_EBOUNDS, -ENXIO};
    struct cellar_cache_options options = {.page_count = 8, .depth = 2};

    (void)state;
    for (int outcome = 0; outcome < OUTCOMES; outcome++) {
        struct cellar_cache *cache;
        struct waited waited = {0};
        struct bed bed;

        bed_open(&bed);
        cache = bed_cache(&bed, &options);
        bed_hold(&bed);
        fault_fail(&bed.fault, FAULT_READ, 1, 1, CELLAR_EBOUNDS);
        assert_done(cellar_cache_load_async(cache, 5 * PAGE, PAGE, note_done, &waited));
        assert_true(gate_wait(&bed.gate, 1));
        if (outcome == CUT)
            assert_done(cellar_device_trim(bed.fault.inner, 5 * PAGE));
        if (outcome == UNKNOWN)
            fault_fail(&bed.fault, FAULT_SIZE, 1, 0, -ENXIO);
        gate_open(&bed.gate);
        poll_all(cache);
        assert_int_equal(waited.calls, 1);
        assert_result(waited.error, expected[outcome]);
        assert_int_equal(cellar_cache_fault_address(cache), 5 * PAGE);
        assert_false(cellar_cache_is_cached(cache, 5 * PAGE));
        cellar_cache_close(cache);
        bed_close(&bed);
    }
}

/* ---- descriptors ---- */

/* The number of the next descriptor, behind which none is open. */
static int fill_gaps(void)
{
    int last = 0, next;

    for (int descriptor = 0; descriptor < 1024; descriptor++) {
        if (fcntl(descriptor, F_GETFD) >= 0)
            last = descriptor;
    }
    do
        next = eventfd(0, EFD_CLOEXEC);
    while (next >= 0 && next < last);
    close(next);
    return next;
}

/* So many more descriptors may be opened. */
static int ask_for_descriptor(void *user)
{
    const int *more = user;
    struct cellar_cache_options options = {.page_bytes = PAGE, .page_count = 8, .depth = 2, .io = CELLAR_IO_THREADS};
    struct rlimit limit;
    struct cellar_device *device;
    struct cellar_cache *cache;
    int result, next;
    SUPPORT_CHILD_NEEDS(cellar_device_open_memory(NULL, 4 * PAGE, 4 * PAGE, &device) == 0);
    SUPPORT_CHILD_NEEDS(cellar_cache_open_with(device, &options, &cache) == 0);
    SUPPORT_CHILD_NEEDS(getrlimit(RLIMIT_NOFILE, &limit) == 0);
    next = fill_gaps();
    limit.rlim_cur = (rlim_t)(next + *more);
    SUPPORT_CHILD_NEEDS(setrlimit(RLIMIT_NOFILE, &limit) == 0);
    for (int round = 0; round < 2; round++) {
        result = cellar_cache_descriptor(cache);
        SUPPORT_CHILD_NEEDS(*more < 2 ? result == -EMFILE : result >= 0);
    }
    result = eventfd(0, EFD_CLOEXEC); /* what failed has kept none */
    SUPPORT_CHILD_NEEDS(*more == 1 ? result == next : result < 0);
    cellar_cache_close(cache);
    return cellar_device_close(device) == 0 ? 77 : 78;
}

static void test_no_descriptors_left(void **state)
{
    (void)state;
    for (int more = 0; more <= 2; more++)
        assert_int_equal(support_child(ask_for_descriptor, &more), 77);
}

/* ---- who takes in ---- */

static void *poll_and_wait(void *user)
{
    struct cellar_cache *cache = user;

    while (cellar_cache_awaited(cache) > 0)
        (void)cellar_cache_poll(cache, true);
    return NULL;
}

static bool is_taking(struct cellar_pool *pool)
{
    bool taking;

    cellar_pool_enter(pool);
    taking = pool->taking;
    cellar_pool_leave(pool);
    return taking;
}

/* While a thread waits for the queue, the polls of others leave it to that one. */
static void test_one_takes_at_a_time(void **state)
{
    struct cellar_cache_options options = {.page_count = 8, .depth = 2};
    struct cellar_cache *cache, *other;
    struct waited waited = {0};
    struct bed bed;
    pthread_t thread;

    (void)state;
    bed_open(&bed);
    cache = bed_cache(&bed, &options);
    other = bed_share(cache);
    bed_hold(&bed);
    assert_done(cellar_cache_load_async(cache, 0, PAGE, note_done, &waited));
    assert_true(gate_wait(&bed.gate, 1));
    assert_int_equal(pthread_create(&thread, NULL, poll_and_wait, cache), 0);
    while (!is_taking(cache->pool))
        sched_yield();
    for (int round = 0; round < 3; round++) {
        assert_result(cellar_cache_poll(other, round > 0), CELLAR_NONE);
        assert_true(is_taking(cache->pool));
    }
    gate_open(&bed.gate);
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_false(is_taking(cache->pool));
    assert_int_equal(waited.calls, 1);
    assert_done(waited.error);
    cellar_cache_close(other);
    cellar_cache_close(cache);
    bed_close(&bed);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_place_that_fails),
        cmocka_unit_test(test_size_after_a_refusal),
        cmocka_unit_test(test_no_descriptors_left),
        cmocka_unit_test(test_one_takes_at_a_time),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
