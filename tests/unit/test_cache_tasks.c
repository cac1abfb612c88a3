/* The wait hook: many tasks on one handle, which run in turn where one of them has to wait for the device. */
#include "cache_test.h"

#include <ucontext.h>

/* The sanitizer of threads has to be told which stack a thread runs on. */
#if defined(__SANITIZE_THREAD__)
#define TELLS_SANITIZER 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define TELLS_SANITIZER 1
#endif
#endif
#ifdef TELLS_SANITIZER
void *__tsan_get_current_fiber(void);
void *__tsan_create_fiber(unsigned flags);
void __tsan_destroy_fiber(void *fiber);
void __tsan_switch_to_fiber(void *fiber, unsigned flags);
#define fiber_current() __tsan_get_current_fiber()
#define fiber_create() __tsan_create_fiber(0)
#define fiber_destroy(fiber) __tsan_destroy_fiber(fiber)
#define fiber_switch(fiber) __tsan_switch_to_fiber((fiber), 0)
#else
#define fiber_current() NULL
#define fiber_create() NULL
#define fiber_destroy(fiber) ((void)(fiber))
#define fiber_switch(fiber) ((void)(fiber))
#endif

enum { TASKS = 50, STACK_BYTES = 128 * 1024, READS_EACH = 40 };

struct task {
    ucontext_t context;
    void *stack, *fiber;
    uint64_t seed;
    bool done;
    unsigned failures;
    int error; /* of the last failure */
};

struct scheduler {
    struct bed *bed;
    struct cellar_cache *cache;
    ucontext_t main;
    void *main_fiber;
    struct task tasks[TASKS];
    int running; /* -1: main */
    unsigned waits;
};

static struct scheduler *scheduler; /* makecontext takes no pointers */

static void to_main(struct task *task)
{
    fiber_switch(scheduler->main_fiber);
    swapcontext(&task->context, &scheduler->main);
}

static void yield_task(void *user)
{
    struct scheduler *s = user;

    s->waits++;
    if (s->running >= 0)
        to_main(&s->tasks[s->running]);
}

static void note(struct task *task, int error, const void *bytes, uint64_t address, size_t length)
{
    if (error == 0 && memcmp(bytes, scheduler->bed->bytes + address, length) == 0)
        return;
    task->failures++;
    task->error = error;
}

/* Pages at random, by different ways, the same ones now and then. */
static void run_task(int number)
{
    struct task *task = &scheduler->tasks[number];
    struct cellar_cache *cache = scheduler->cache;

    for (int i = 0; i < READS_EACH; i++) {
        uint64_t address = support_random_below(&task->seed, BED_BYTES - 200);
        unsigned char bytes[200];
        struct cellar_fixed fixed;
        int error;

        if (i % 4 == 3)
            address %= 3 * PAGE;
        if (i % 10 == 9) {
            cellar_cache_invalidate(cache, address, 100);
        } else if (i % 10 == 4) {
            error = cellar_cache_map(cache, address, 1, &fixed);
            note(task, error, fixed.slice.bytes, address, 1);
            if (error == 0)
                cellar_cache_unfix(cache, &fixed);
        } else {
            error = cellar_cache_read(cache, address, bytes, sizeof bytes);
            note(task, error, bytes, address, sizeof bytes);
        }
    }
    task->done = true;
    to_main(task);
}

static void start_tasks(struct scheduler *s)
{
    scheduler = s;
    s->running = -1;
    s->main_fiber = fiber_current();
    for (int i = 0; i < TASKS; i++) {
        struct task *task = &s->tasks[i];

        *task = (struct task){.seed = (uint64_t)i, .stack = malloc(STACK_BYTES), .fiber = fiber_create()};
        assert_non_null(task->stack);
        assert_int_equal(getcontext(&task->context), 0);
        task->context.uc_stack.ss_sp = task->stack;
        task->context.uc_stack.ss_size = STACK_BYTES;
        task->context.uc_link = &s->main;
        makecontext(&task->context, (void (*)(void))run_task, 1, i);
    }
}

/* Each in turn; when all wait, for the device. */
static void run_tasks(struct scheduler *s)
{
    unsigned left = TASKS;

    while (left > 0) {
        for (int i = 0; i < TASKS; i++) {
            struct task *task = &s->tasks[i];

            if (task->done)
                continue;
            s->running = i;
            fiber_switch(task->fiber);
            swapcontext(&s->main, &task->context);
            s->running = -1;
            left -= task->done;
        }
        (void)cellar_cache_poll(s->cache, true);
    }
    for (int i = 0; i < TASKS; i++) {
        if (s->tasks[i].failures > 0)
            print_error("task %d: %u failures, %s\n", i, s->tasks[i].failures, cellar_strerror(s->tasks[i].error));
        assert_int_equal(s->tasks[i].failures, 0);
        fiber_destroy(s->tasks[i].fiber);
        free(s->tasks[i].stack);
    }
}

static void test_tasks(void **state)
{
    static const size_t page_counts[] = {64, 4, 1};
    static const enum cellar_eviction evictions[] = {CELLAR_EVICT_SIEVE, CELLAR_EVICT_S3FIFO, CELLAR_EVICT_CLOCK};

    (void)state;
    for (size_t variant = 0; variant < 6; variant++) {
        struct cellar_cache_options options = {.page_count = page_counts[variant / 2],
                                               .eviction = evictions[variant % 3],
                                               .depth = 8,
                                               .hooks.wait = yield_task};
        struct scheduler *s = calloc(1, sizeof *s);
        struct cellar_cache *other = NULL;
        struct bed bed;

        assert_non_null(s);
        bed_open(&bed);
        options.user = s;
        s->bed = &bed;
        s->cache = bed_cache(&bed, &options);
        if (variant % 2 == 1)
            other = bed_share(s->cache);
        start_tasks(s);
        run_tasks(s);
        assert_true(s->waits > 0);
        assert_int_equal(cellar_cache_counters(s->cache).pinned, 0);
        assert_true(cellar_cache_counters(s->cache).pages <= options.page_count);
        cellar_cache_close(other);
        cellar_cache_close(s->cache);
        bed_close(&bed);
        free(s);
    }
}

/* All tasks wait, and the device has as much to do as it may have. */
static void test_tasks_keep_the_device_busy(void **state)
{
    struct cellar_cache_options options = {.page_count = 64, .depth = 8, .hooks.wait = yield_task};
    struct scheduler *s = calloc(1, sizeof *s);
    struct bed bed;

    (void)state;
    skip_in_debug();
    assert_non_null(s);
    bed_open(&bed);
    options.user = s;
    s->bed = &bed;
    s->cache = bed_cache(&bed, &options);
    start_tasks(s);
    bed_hold(&bed);
    for (int i = 0; i < TASKS; i++) {
        s->running = i;
        fiber_switch(s->tasks[i].fiber);
        swapcontext(&s->main, &s->tasks[i].context);
        s->running = -1;
    }
    assert_true(gate_wait(&bed.gate, 8));
    gate_open(&bed.gate);
    run_tasks(s);
    assert_int_equal(bed.gate.inside_most, 8);
    cellar_cache_close(s->cache);
    bed_close(&bed);
    free(s);
}

/* ---- hooks of one task ---- */

struct alone {
    struct cellar_cache *cache;
    unsigned calls;
};

static void look_away(void *user)
{
    struct alone *alone = user;

    alone->calls++;
    sched_yield();
}

static void poll_and_wait(void *user)
{
    struct alone *alone = user;

    alone->calls++;
    (void)cellar_cache_poll(alone->cache, true);
}

static void test_wait_hooks_of_one(void **state)
{
    (void)state;
    for (int polls = 0; polls < 2; polls++) {
        struct cellar_cache_options options = {
            .page_count = 4, .depth = 2, .hooks.wait = polls ? poll_and_wait : look_away};
        struct alone alone = {0};
        struct waited waited = {0};
        struct bed bed;
        uint8_t byte;

        bed_open(&bed);
        options.user = &alone;
        alone.cache = bed_cache(&bed, &options);
        for (uint64_t page = 0; page < BED_PAGES; page++)
            assert_read(&bed, alone.cache, page * PAGE, 10);
        assert_true(alone.calls >= BED_PAGES);
        if (polls) /* which waits for the load instead of turning around */
            assert_int_equal(alone.calls, BED_PAGES);
        fault_fail(&bed.fault, FAULT_READ, 1, 1, -EIO);
        assert_result(cellar_cache_get_u8(alone.cache, 5 * PAGE, &byte), -EIO);
        assert_int_equal(cellar_cache_fault_address(alone.cache), 5 * PAGE);
        assert_read(&bed, alone.cache, 5 * PAGE, 10);
        assert_result(cellar_cache_get_u8(alone.cache, BED_BYTES, &byte), CELLAR_EBOUNDS);
        assert_result(cellar_cache_get_u8(alone.cache, BED_BYTES + PAGE, &byte), CELLAR_EBOUNDS);
        assert_done(cellar_device_grow(bed.device, BED_BYTES, BED_BYTES + 4));
        assert_done(support_device_write(bed.device, bed.bytes + BED_BYTES, 4, BED_BYTES));
        assert_read(&bed, alone.cache, BED_BYTES - 3, 7);
        assert_done(cellar_cache_load_async(alone.cache, 90 * PAGE, 20 * PAGE, note_done, &waited));
        poll_all(alone.cache);
        assert_true(waited.calls == 1 && waited.error == 0);
        cellar_cache_close(alone.cache);
        bed_close(&bed);
    }
}

static void *open_later(void *user)
{
    struct gate *gate = user;

    assert_true(gate_wait(gate, 1));
    for (int i = 0; i < 1000; i++)
        sched_yield();
    gate_open(gate);
    return NULL;
}

/* A poll in the hook waits for the load that its task waits for, however long that takes. */
static void test_wait_hook_that_polls(void **state)
{
    struct cellar_cache_options options = {.page_count = 4, .depth = 2, .hooks.wait = poll_and_wait};
    struct alone alone = {0};
    pthread_t thread;
    struct bed bed;

    (void)state;
    bed_open(&bed);
    options.user = &alone;
    alone.cache = bed_cache(&bed, &options);
    bed_hold(&bed);
    assert_int_equal(pthread_create(&thread, NULL, open_later, &bed.gate), 0);
    assert_read(&bed, alone.cache, 5 * PAGE, 10);
    assert_int_equal(alone.calls, 1);
    assert_int_equal(pthread_join(thread, NULL), 0);
    cellar_cache_close(alone.cache);
    bed_close(&bed);
}

/* No other task will ever let go. */
static void test_wait_hook_and_all_pinned(void **state)
{
    struct cellar_cache_options options = {.page_count = 2, .depth = 2, .hooks.wait = look_away};
    struct cellar_fixed fixed[2];
    struct alone alone = {0};
    struct bed bed;
    uint8_t byte;

    (void)state;
    bed_open(&bed);
    options.user = &alone;
    alone.cache = bed_cache(&bed, &options);
    for (uint64_t i = 0; i < 2; i++)
        assert_done(cellar_cache_fix(alone.cache, i * PAGE, 1, &fixed[i]));
    assert_result(cellar_cache_get_u8(alone.cache, 5 * PAGE, &byte), CELLAR_EPINNED);
    cellar_cache_unfix(alone.cache, &fixed[1]);
    assert_read(&bed, alone.cache, 5 * PAGE, 1);
    cellar_cache_unfix(alone.cache, &fixed[0]);
    cellar_cache_close(alone.cache);
    bed_close(&bed);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_tasks),
        cmocka_unit_test(test_tasks_keep_the_device_busy),
        cmocka_unit_test(test_wait_hooks_of_one),
        cmocka_unit_test(test_wait_hook_that_polls),
        cmocka_unit_test(test_wait_hook_and_all_pinned),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
