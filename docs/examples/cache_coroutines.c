/*
 * cache_coroutines.c - a thousand tasks on one thread read at random with plain calls, and keep a slow device busy.
 *
 * A task that misses waits in the cache's wait hook, which switches to the scheduler; that runs the other tasks, and
 * when all of them wait it sleeps until a load has arrived.
 */
#include <cellar/cache.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <ucontext.h>

enum { PAGE_BYTES = 4096, PAGES = 20000, PAGE_COUNT = 256, DEPTH = 32, TASKS = 1000, READS = 8, STACK_BYTES = 65536 };

#define TRY(call) try_call((call), #call)

static void try_call(int error, const char *call)
{
    if (error != 0) {
        fprintf(stderr, "%s: %s\n", call, cellar_strerror(error));
        exit(1);
    }
}

/* ---- a slow device: page k is full of the number k; it knows how many reads are under way ---- */

struct slow {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    int under_way, most; /* reads at once: now, and at any time */
    struct timespec patience;
};

static int slow_size(void *state, uint64_t *ret_size_bytes)
{
    (void)state;
    *ret_size_bytes = (uint64_t)PAGES * PAGE_BYTES;
    return 0;
}

/* The first reads take until DEPTH of them are under way (or the patience ends), the others a tenth of a millisecond.
 */
static void take_time(struct slow *slow)
{
    int error = 0;

    pthread_mutex_lock(&slow->lock);
    slow->under_way++;
    if (slow->under_way > slow->most) {
        slow->most = slow->under_way;
        pthread_cond_broadcast(&slow->changed);
    }
    while (slow->most < DEPTH && error == 0)
        error = pthread_cond_timedwait(&slow->changed, &slow->lock, &slow->patience);
    pthread_mutex_unlock(&slow->lock);
    nanosleep(&(struct timespec){.tv_nsec = 100000}, NULL);
    pthread_mutex_lock(&slow->lock);
    slow->under_way--;
    pthread_mutex_unlock(&slow->lock);
}

/* Runs on the cache's threads, as many at once as its depth. */
static ssize_t slow_read(void *state, void *buffer, size_t length_bytes, uint64_t offset)
{
    unsigned char *to = buffer;

    take_time(state);
    for (size_t i = 0; i < length_bytes; i++)
        to[i] = (unsigned char)((offset + i) / PAGE_BYTES >> (offset + i) % 8 * 8);
    return (ssize_t)length_bytes;
}

static int slow_close(void *state)
{
    (void)state;
    return 0;
}

static const struct cellar_device_ops slow_ops = {
    .name = "slow", .size = slow_size, .read = slow_read, .close = slow_close};

/* ---- the scheduler ---- */

struct task {
    ucontext_t context;
    void *stack;
    struct cellar_cache *cache;
    uint64_t random;
    bool done;
};

struct scheduler {
    ucontext_t context;
    struct task *running;
    struct task tasks[TASKS];
    unsigned long switches;
};

/* A task's work: it knows nothing of the scheduler. */
static void read_at_random(struct task *task)
{
    for (int i = 0; i < READS; i++) {
        uint64_t page, value;

        task->random = task->random * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
        page = (task->random >> 33) % PAGES;
        TRY(cellar_cache_get_u64_le(task->cache, page * PAGE_BYTES + 1024, &value));
        if (value != page) {
            fprintf(stderr, "page %u holds %u\n", (unsigned)page, (unsigned)value);
            exit(1);
        }
    }
}

/* The wait hook, called on the stack of the task that must wait. */
static void run_others(void *user)
{
    struct scheduler *scheduler = user;
    struct task *task = scheduler->running;

    swapcontext(&task->context, &scheduler->context);
}

static void begin_task(unsigned high, unsigned low)
{
    struct scheduler *scheduler = (struct scheduler *)((uintptr_t)high << 16 << 16 | low);
    struct task *task = scheduler->running;

    read_at_random(task);
    task->done = true; /* uc_link: on with the scheduler */
}

static void make_task(struct scheduler *scheduler, struct task *task, struct cellar_cache *cache)
{
    uintptr_t address = (uintptr_t)scheduler;

    task->cache = cache;
    task->random = (uint64_t)(task - scheduler->tasks);
    task->stack = malloc(STACK_BYTES);
    if (task->stack == NULL || getcontext(&task->context) != 0)
        exit(1);
    task->context.uc_stack.ss_sp = task->stack;
    task->context.uc_stack.ss_size = STACK_BYTES;
    task->context.uc_link = &scheduler->context;
    /* makecontext hands over ints alone: the pointer goes in two. */
    makecontext(&task->context, (void (*)(void))begin_task, 2, (unsigned)(address >> 16 >> 16), (unsigned)address);
}

static void run_tasks(struct scheduler *scheduler, struct cellar_cache *cache)
{
    int left = TASKS;

    while (left > 0) {
        for (int i = 0; i < TASKS; i++) {
            scheduler->running = &scheduler->tasks[i];
            if (scheduler->running->done)
                continue;
            swapcontext(&scheduler->context, &scheduler->running->context);
            scheduler->switches++;
            left -= scheduler->running->done;
        }
        if (left > 0)
            (void)cellar_cache_poll(cache, true); /* all wait: sleep until a load has arrived */
    }
}

int main(void)
{
    struct slow slow = {.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};
    struct scheduler *scheduler = calloc(1, sizeof *scheduler);
    struct cellar_cache_options options = {
        .page_bytes = PAGE_BYTES,
        .page_count = PAGE_COUNT,
        .depth = DEPTH,
        .hooks.wait = run_others,
        .user = scheduler,
    };
    struct cellar_device *device;
    struct cellar_cache *cache;

    if (scheduler == NULL)
        return 1;
    clock_gettime(CLOCK_REALTIME, &slow.patience);
    slow.patience.tv_sec += 20;
    TRY(cellar_device_open(&slow_ops, &slow, &device));
    TRY(cellar_cache_open_with(device, &options, &cache));
    for (int i = 0; i < TASKS; i++)
        make_task(scheduler, &scheduler->tasks[i], cache);
    run_tasks(scheduler, cache);
    cellar_cache_close(cache);
    TRY(cellar_device_close(device));
    printf("%d tasks, %d reads, %lu switches; the most reads at the device at once: %d of %d\n", TASKS, TASKS * READS,
           scheduler->switches, slow.most, DEPTH);
    for (int i = 0; i < TASKS; i++)
        free(scheduler->tasks[i].stack);
    free(scheduler);
    return slow.most == DEPTH ? 0 : 1;
}
