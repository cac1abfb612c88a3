/*
 * The helper's thread: when it is started, when it sleeps and who wakes it, and that two never grow the file at once.
 * What another thread does in between is put there by hand: the library's locks, semaphores and looks come past here.
 */
#include "device_fault.h"
#include "support.h"

#include "cell/ahead.h"

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <string.h>

enum { CELL = 64, MIB = 1 << 20, STEP = 4 * MIB / CELL, BEGIN = STEP, READY = 16 * STEP, STACK_BYTES = 256 << 10 };

/* ---- what comes past ---- */

struct bed {
    struct fault_device fault;
    struct cellar_device *device;
    struct cellar_alloc alloc; /* the writer's */
    struct cellar_ahead ahead;
    uint64_t now_ns;
    sigset_t signals; /* blocked in the helper */
    uint64_t populated;
    atomic_int inside; /* who grows now */
    bool overlap;      /* two did */

    void (*at_lock)(struct bed *bed);    /* called once, before somebody takes the lock of growing */
    void (*at_nothing)(struct bed *bed); /* once, when the helper has found nothing to do */
    void (*at_look)(struct bed *bed);    /* once, when it has looked for the last time */
    void (*at_growth)(struct bed *bed);  /* once, when somebody grows */
    bool interrupts;                     /* its next sleep is interrupted */
    uint32_t told_ready;                 /* the ready index as the lock of growing was let go */
    sem_t asleep;                        /* posted as the helper is about to sleep */
    sem_t gate;                          /* and it waits for this before it does, where */
    bool gated;
    bool lost;          /* it was about to sleep though there was something to do, and nobody had woken it */
    bool wrong_step;    /* it went on without taking down its flag */
    bool stopping;      /* the writer ends it */
    atomic_bool joined; /* and waits for that */
    sem_t joining;      /* posted when it does */
    int posts;
};

static struct bed *bed; /* of the test that runs */

static int creates, joins, create_errors[4];
static size_t created_stack_bytes[4]; /* 0: as usual */

static void call_once(void (**hook)(struct bed *bed))
{
    void (*called)(struct bed *) = *hook;

    *hook = NULL;
    if (called != NULL)
        called(bed);
}

int __real_pthread_mutex_lock(pthread_mutex_t *lock);
int __wrap_pthread_mutex_lock(pthread_mutex_t *lock);
int __real_pthread_mutex_unlock(pthread_mutex_t *lock);
int __wrap_pthread_mutex_unlock(pthread_mutex_t *lock);
int __real_sem_wait(sem_t *semaphore);
int __wrap_sem_wait(sem_t *semaphore);
int __real_sem_post(sem_t *semaphore);
int __wrap_sem_post(sem_t *semaphore);
int __real_cellar_ahead_step(struct cellar_ahead *ahead);
int __wrap_cellar_ahead_step(struct cellar_ahead *ahead);
bool __real_cellar_ahead_is_due(const struct cellar_ahead *ahead);
bool __wrap_cellar_ahead_is_due(const struct cellar_ahead *ahead);
int __real_pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*run)(void *), void *user);
int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*run)(void *), void *user);

int __real_pthread_join(pthread_t thread, void **ret_result);
int __wrap_pthread_join(pthread_t thread, void **ret_result);

int __wrap_pthread_mutex_lock(pthread_mutex_t *lock)
{
    if (bed != NULL && lock == &bed->ahead.grow_lock)
        call_once(&bed->at_lock);
    return __real_pthread_mutex_lock(lock);
}

int __wrap_pthread_mutex_unlock(pthread_mutex_t *lock)
{
    if (bed != NULL && lock == &bed->ahead.grow_lock)
        bed->told_ready = (uint32_t)atomic_load(&bed->ahead.ready_index);
    return __real_pthread_mutex_unlock(lock);
}

static bool is_helper(void)
{
    return atomic_load(&bed->ahead.thread_state) == CELLAR_AHEAD_RUNS &&
           pthread_equal(pthread_self(), bed->ahead.thread) != 0;
}

int __wrap_sem_wait(sem_t *semaphore)
{
    bool gated;
    int posted;

    if (bed == NULL || semaphore != &bed->ahead.wake)
        return __real_sem_wait(semaphore);
    if (bed->interrupts) {
        bed->interrupts = false;
        errno = EINTR;
        return -1;
    }
    sem_getvalue(semaphore, &posted);
    if (posted == 0 && (atomic_load(&bed->joined) || __real_cellar_ahead_is_due(&bed->ahead))) {
        bed->lost = true;
        __real_sem_post(semaphore);
    }
    gated = bed->gated;
    __real_sem_post(&bed->asleep);
    if (gated)
        __real_sem_wait(&bed->gate);
    return __real_sem_wait(semaphore);
}

int __wrap_sem_post(sem_t *semaphore)
{
    if (bed != NULL && semaphore == &bed->ahead.wake) {
        bed->posts++;
        if (bed->stopping && !atomic_load(&bed->ahead.stops)) /* it would go on sleeping */
            bed->lost = true;
    }
    return __real_sem_post(semaphore);
}

int __wrap_cellar_ahead_step(struct cellar_ahead *ahead)
{
    int result;

    if (atomic_load(&ahead->sleeps))
        bed->wrong_step = true;
    result = __real_cellar_ahead_step(ahead);
    if (result != 0 && is_helper())
        call_once(&bed->at_nothing);
    return result;
}

bool __wrap_cellar_ahead_is_due(const struct cellar_ahead *ahead)
{
    bool due = __real_cellar_ahead_is_due(ahead);

    if (!due && is_helper())
        call_once(&bed->at_look);
    return due;
}

int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*run)(void *), void *user)
{
    int nth = creates++;

    assert_true(nth < 4);
    created_stack_bytes[nth] = 0;
    if (attributes != NULL)
        assert_int_equal(pthread_attr_getstacksize(attributes, &created_stack_bytes[nth]), 0);
    if (create_errors[nth] != 0)
        return create_errors[nth];
    if (bed != NULL) /* the other of the writer's threads comes just now */
        cellar_ahead_start(&bed->ahead);
    return __real_pthread_create(thread, attributes, run, user);
}

int __wrap_pthread_join(pthread_t thread, void **ret_result)
{
    joins++;
    if (bed != NULL) {
        atomic_store(&bed->joined, true);
        __real_sem_post(&bed->joining);
    }
    return __real_pthread_join(thread, ret_result);
}

/* ---- the bed ---- */

static int populate(void *user, uint64_t offset, uint64_t length_bytes)
{
    struct bed *of = user;

    pthread_sigmask(SIG_BLOCK, NULL, &of->signals);
    of->populated = offset + length_bytes;
    return 0;
}

static int write_out(void *user, uint64_t offset, uint64_t length_bytes)
{
    (void)user;
    (void)offset;
    (void)length_bytes;
    return 0;
}

static void lost(void *user, int error)
{
    (void)user;
    (void)error;
}

static void note_growth(void *user, enum fault_call call, uint64_t offset, uint64_t length_bytes)
{
    struct bed *of = user;

    (void)offset;
    (void)length_bytes;
    if (call != FAULT_GROW)
        return;
    if (atomic_fetch_add(&of->inside, 1) != 0)
        of->overlap = true;
    call_once(&of->at_growth);
    atomic_fetch_sub(&of->inside, 1);
}

static void bed_make(unsigned parts, uint32_t ready_index)
{
    static struct bed made;
    struct cellar_ahead_ways ways = {.populate = populate, .write_out = write_out, .lost = lost, .user = &made};
    uint64_t size_bytes = (uint64_t)ready_index * CELL;

    made = (struct bed){.now_ns = 1000};
    creates = joins = 0;
    memset(create_errors, 0, sizeof create_errors);
    assert_done(cellar_device_open_memory(NULL, 0, (uint64_t)READY * CELL, &made.fault.inner));
    assert_done(cellar_device_grow(made.fault.inner, 0, size_bytes));
    made.fault.before = note_growth;
    made.fault.before_user = &made;
    assert_done(fault_device_open(&made.fault, &made.device));
    made.alloc = (struct cellar_alloc){.device = made.device,
                                       .bytes_per_cell = CELL,
                                       .next_index = BEGIN,
                                       .mark_index = BEGIN,
                                       .ready_index = ready_index,
                                       .max_index = READY,
                                       .step_cells = STEP,
                                       .most_cells = STEP,
                                       .file_bytes = size_bytes};
    assert_int_equal(sem_init(&made.asleep, 0, 0), 0);
    assert_int_equal(sem_init(&made.gate, 0, 0), 0);
    assert_int_equal(sem_init(&made.joining, 0, 0), 0);
    cellar_ahead_begin(&made.ahead, parts, &made.alloc, &ways);
    bed = &made;
}

static void bed_end(void)
{
    cellar_ahead_end(&bed->ahead, &bed->alloc);
    assert_false(bed->lost || bed->wrong_step || bed->overlap);
    assert_done(cellar_device_close(bed->device));
    sem_destroy(&bed->asleep);
    sem_destroy(&bed->gate);
    sem_destroy(&bed->joining);
    bed = NULL;
}

/* The writer comes to a mark so far from where it began, fast. */
static void pass(uint64_t from_begin_bytes)
{
    bed->now_ns += 1000;
    cellar_ahead_pass(&bed->ahead, &bed->alloc, BEGIN + (uint32_t)(from_begin_bytes / CELL), bed->now_ns);
}

static uint64_t at(uint64_t from_begin_bytes)
{
    return (uint64_t)BEGIN * CELL + from_begin_bytes;
}

static void start(void)
{
    pass(MIB);
    assert_int_equal(atomic_load(&bed->ahead.thread_state), CELLAR_AHEAD_RUNS);
    __real_sem_wait(&bed->asleep);
}

/* ---- starting ---- */

/* No thread for a writer that appends little, wherever it began; and one, whoever asks. */
static void test_starts(void **state)
{
    (void)state;
    bed_make(CELLAR_AHEAD_POPULATES, READY);
    pass(0);
    pass(MIB - CELL);
    assert_int_equal(creates, 0);
    pass(MIB);
    assert_int_equal(creates, 1);
    assert_int_equal(created_stack_bytes[0], STACK_BYTES);
    pass(2 * MIB);
    assert_int_equal(creates, 1);
    bed_end();
    bed_make(CELLAR_AHEAD_WRITES, READY);
    for (uint32_t i = 1; i <= 128; i++) {
        assert_int_equal(creates, 0);
        cellar_ahead_note_flush(&bed->ahead, BEGIN + i * 16);
    }
    assert_int_equal(creates, 1);
    bed_end();
}

/* No thread can be had: it isn't tried again, and there is none to wait for. */
static void test_no_thread(void **state)
{
    (void)state;
    bed_make(CELLAR_AHEAD_POPULATES, READY);
    create_errors[0] = EAGAIN;
    pass(MIB);
    assert_int_equal(atomic_load(&bed->ahead.thread_state), CELLAR_AHEAD_FAILED);
    pass(2 * MIB);
    assert_int_equal(creates, 1);
    bed_end();
    assert_int_equal(joins, 0);
}

/* A small stack is too small for what the program has in its threads: one as usual. */
static void test_usual_stack(void **state)
{
    (void)state;
    bed_make(CELLAR_AHEAD_POPULATES, READY);
    create_errors[0] = EINVAL;
    start();
    assert_int_equal(creates, 2);
    assert_int_equal(created_stack_bytes[0], STACK_BYTES);
    assert_int_equal(created_stack_bytes[1], 0);
    bed_end();
}

/* The program's signals are for the program's threads, but those that its own faults raise. */
static void test_signals(void **state)
{
    static const int blocked[] = {SIGINT, SIGTERM, SIGCHLD, SIGUSR1, SIGALRM, SIGPROF, SIGXFSZ, SIGPIPE};
    static const int own[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGSYS};
    sigset_t none, before, after;

    (void)state;
    sigemptyset(&none);
    pthread_sigmask(SIG_SETMASK, &none, &before);
    bed_make(CELLAR_AHEAD_POPULATES, READY);
    start();
    pass(2 * MIB);
    __real_sem_wait(&bed->asleep);
    pthread_sigmask(SIG_SETMASK, &before, &after);
    for (size_t i = 0; i < SUPPORT_COUNT(blocked); i++)
        assert_int_equal(sigismember(&after, blocked[i]), 0);
    assert_true(bed->populated > 0);
    for (size_t i = 0; i < SUPPORT_COUNT(blocked); i++)
        assert_int_equal(sigismember(&bed->signals, blocked[i]), 1);
    for (size_t i = 0; i < SUPPORT_COUNT(own); i++)
        assert_int_equal(sigismember(&bed->signals, own[i]), 0);
    bed_end();
}

/* ---- sleeping ---- */

/* It does all that there is to do, sleeps, and is woken when half of its span is used up; once. */
static void test_sleeps(void **state)
{
    int posts;

    (void)state;
    bed_make(CELLAR_AHEAD_POPULATES, READY);
    start();
    assert_int_equal(bed->posts, 0);
    pass(2 * MIB);
    assert_int_equal(bed->posts, 1);
    __real_sem_wait(&bed->asleep);
    assert_int_equal(bed->populated, at(2 * MIB + 16 * MIB));
    for (uint64_t mark = 3; mark <= 9; mark++)
        pass(mark * MIB);
    assert_int_equal(bed->posts, 1);
    bed->gated = true;
    pass(10 * MIB);
    assert_int_equal(bed->posts, 2);
    __real_sem_wait(&bed->asleep);
    assert_int_equal(bed->populated, at(10 * MIB + 16 * MIB));
    pass(20 * MIB); /* it stands between taking its flag up and sleeping: */
    pass(21 * MIB);
    posts = bed->posts;
    bed->gated = false;
    __real_sem_post(&bed->gate);
    assert_int_equal(posts, 3); /* who takes the flag down posts, and nobody else */
    __real_sem_wait(&bed->asleep);
    assert_int_equal(bed->populated, at(21 * MIB + 16 * MIB));
    bed_end();
}

static void pass_on(struct bed *of)
{
    (void)of;
    pass(12 * MIB);
}

/* The writer tells of more just as the helper has found nothing to do, or has looked for the last time. */
static void test_told_between_look_and_sleep(void **state)
{
    (void)state;
    for (int last = 0; last < 2; last++) {
        bed_make(CELLAR_AHEAD_POPULATES, READY);
        start();
        if (last)
            bed->at_look = pass_on;
        else
            bed->at_nothing = pass_on;
        pass(2 * MIB);
        __real_sem_wait(&bed->asleep);
        if (last) /* it was woken before it slept */
            __real_sem_wait(&bed->asleep);
        assert_int_equal(bed->populated, at(12 * MIB + 16 * MIB));
        bed_end();
    }
}

/* A signal that is not blocked ends no sleep. */
static void test_interrupted(void **state)
{
    (void)state;
    bed_make(CELLAR_AHEAD_POPULATES, READY);
    bed->interrupts = true;
    start();
    assert_false(bed->interrupts);
    pass(2 * MIB);
    __real_sem_wait(&bed->asleep);
    assert_int_equal(bed->posts, 1);
    bed_end();
}

static sem_t there, writer_came;

static void wait_for_join(struct bed *of)
{
    __real_sem_post(&there);
    __real_sem_wait(&of->joining);
}

/* It ends wherever it stands: asleep, before it looks for the last time, after that. */
static void test_stops(void **state)
{
    (void)state;
    assert_int_equal(sem_init(&there, 0, 0), 0);
    for (int where = 0; where < 3; where++) {
        bed_make(CELLAR_AHEAD_POPULATES, READY);
        start();
        if (where == 1)
            bed->at_nothing = wait_for_join;
        else if (where == 2)
            bed->at_look = wait_for_join;
        pass(2 * MIB);
        __real_sem_wait(where == 0 ? &bed->asleep : &there);
        bed->stopping = true;
        cellar_ahead_stop(&bed->ahead);
        assert_int_equal(atomic_load(&bed->ahead.thread_state), CELLAR_AHEAD_NO_THREAD);
        cellar_ahead_stop(&bed->ahead);
        bed_end();
    }
    sem_destroy(&there);
}

/* ---- growing ---- */

static void wait_for_stop(struct bed *of)
{
    while (!atomic_load(&of->ahead.stops))
        sched_yield();
}

static void stand_until_stop(struct bed *of)
{
    __real_sem_post(&there);
    wait_for_stop(of);
}

/* A growth that is under way when the helper is ended is not forgotten. */
static void test_ends_while_it_grows(void **state)
{
    (void)state;
    assert_int_equal(sem_init(&there, 0, 0), 0);
    bed_make(CELLAR_AHEAD_GROWS, BEGIN + STEP);
    bed->at_growth = stand_until_stop;
    pass(2 * MIB);
    __real_sem_wait(&there);
    cellar_ahead_end(&bed->ahead, &bed->alloc);
    assert_int_equal(bed->alloc.ready_index, BEGIN + 2 * STEP);
    assert_int_equal(bed->alloc.mark_index, bed->alloc.ready_index);
    bed_end();
    sem_destroy(&there);
}

static void say_writer_came(struct bed *of)
{
    (void)of;
    __real_sem_post(&writer_came);
}

static void stand_until_writer(struct bed *of)
{
    of->at_lock = say_writer_came;
    of->at_growth = say_writer_came;
    __real_sem_post(&there);
    __real_sem_wait(&writer_came);
}

/* The helper stands in a growth until the writer comes to its lock, or grows, too. */
static void test_one_grows_at_a_time(void **state)
{
    (void)state;
    assert_int_equal(sem_init(&there, 0, 0), 0);
    assert_int_equal(sem_init(&writer_came, 0, 0), 0);
    bed_make(CELLAR_AHEAD_GROWS, BEGIN + STEP);
    bed->at_growth = stand_until_writer;
    pass(2 * MIB);
    __real_sem_wait(&there);
    cellar_ahead_begin_growth(&bed->ahead, &bed->alloc);
    bed->at_growth = NULL;
    assert_int_equal(bed->alloc.ready_index, BEGIN + 2 * STEP); /* what the helper has grown meanwhile */
    assert_done(cellar_alloc_prepare(&bed->alloc, 2 * STEP));
    cellar_ahead_end_growth(&bed->ahead, &bed->alloc);
    bed_end();
    sem_destroy(&there);
    sem_destroy(&writer_came);
}

static void grow_by_writer(struct bed *of)
{
    cellar_ahead_begin_growth(&of->ahead, &of->alloc);
    assert_done(cellar_alloc_prepare(&of->alloc, 3 * STEP));
    cellar_ahead_end_growth(&of->ahead, &of->alloc);
}

/* The writer grows while the helper is on its way to do so: it looks again. What was grown is told under the lock. */
static void test_writer_was_first(void **state)
{
    (void)state;
    bed_make(CELLAR_AHEAD_GROWS, BEGIN + STEP);
    atomic_store(&bed->ahead.thread_state, CELLAR_AHEAD_FAILED); /* its steps are taken here */
    pass(2 * MIB);
    bed->at_lock = grow_by_writer;
    assert_done(cellar_ahead_step(&bed->ahead));
    assert_int_equal(bed->fault.calls[FAULT_GROW], 1);
    assert_int_equal(atomic_load(&bed->ahead.ready_index), BEGIN + 3 * STEP);
    pass(10 * MIB);
    assert_done(cellar_ahead_step(&bed->ahead));
    assert_int_equal(bed->told_ready, BEGIN + 4 * STEP);
    bed_end();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_starts),
        cmocka_unit_test(test_no_thread),
        cmocka_unit_test(test_usual_stack),
        cmocka_unit_test(test_signals),
        cmocka_unit_test(test_sleeps),
        cmocka_unit_test(test_told_between_look_and_sleep),
        cmocka_unit_test(test_interrupted),
        cmocka_unit_test(test_stops),
        cmocka_unit_test(test_ends_while_it_grows),
        cmocka_unit_test(test_one_grows_at_a_time),
        cmocka_unit_test(test_writer_was_first),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
