/*
 * cache_yield.c - cooperation after each load: tasks on one thread that let others run whenever a page had to be
 * loaded, and never on a hit. Loads themselves are not in the background: each runs to its end.
 */
#include <cellar/cache.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <ucontext.h>

enum { PAGE_BYTES = 4096, PAGES = 60, TASKS = 3, STACK_BYTES = 65536 };

#define TRY(call) try_call((call), #call)
#define EXPECT(truth) expect((truth), #truth)

static void try_call(int error, const char *call)
{
    if (error != 0) {
        fprintf(stderr, "%s: %s\n", call, cellar_strerror(error));
        exit(1);
    }
}

static void expect(bool truth, const char *what)
{
    if (!truth) {
        fprintf(stderr, "not so: %s\n", what);
        exit(1);
    }
}

struct task {
    ucontext_t context;
    void *stack;
    uint64_t sum;
    bool done;
};

static struct {
    ucontext_t context;
    struct cellar_cache *cache;
    struct task tasks[TASKS];
    struct task *running;
    uint64_t yields;
} scheduler;

/* The loaded hook. A scheduler that hands its tasks from thread to thread gives each thread a handle of its own. */
static void yield(void *user)
{
    (void)user;
    scheduler.yields++;
    swapcontext(&scheduler.running->context, &scheduler.context);
}

/* Each task reads a third of the pages, twice: the second time they are cached. */
static void read_pages(void)
{
    struct task *task = scheduler.running;
    uint64_t first = (uint64_t)(task - scheduler.tasks) * (PAGES / TASKS);

    for (int round = 0; round < 2; round++) {
        for (uint64_t page = first; page < first + PAGES / TASKS; page++) {
            uint8_t value = 0;

            TRY(cellar_cache_get_u8(scheduler.cache, page * PAGE_BYTES, &value));
            task->sum += value;
        }
    }
    task->done = true;
}

static void make_task(struct task *task)
{
    task->stack = malloc(STACK_BYTES);
    EXPECT(task->stack != NULL && getcontext(&task->context) == 0);
    task->context.uc_stack.ss_sp = task->stack;
    task->context.uc_stack.ss_size = STACK_BYTES;
    task->context.uc_link = &scheduler.context;
    makecontext(&task->context, read_pages, 0);
}

/* In turn, until all are done. */
static void run_tasks(void)
{
    int left = TASKS;

    for (int i = 0; i < TASKS; i++)
        make_task(&scheduler.tasks[i]);
    for (int i = 0; left > 0; i = (i + 1) % TASKS) {
        scheduler.running = &scheduler.tasks[i];
        if (scheduler.running->done)
            continue;
        swapcontext(&scheduler.context, &scheduler.running->context);
        left -= scheduler.running->done;
    }
}

int main(void)
{
    struct cellar_cache_options options = {.page_bytes = PAGE_BYTES, .page_count = 128, .hooks.loaded = yield};
    unsigned char *bytes = malloc(PAGES * PAGE_BYTES);
    struct cellar_cache_counters counters;
    struct cellar_device *device;
    uint64_t sum = 0;

    EXPECT(bytes != NULL);
    memset(bytes, 1, PAGES * PAGE_BYTES);
    TRY(cellar_device_open_memory(bytes, PAGES * PAGE_BYTES, PAGES * PAGE_BYTES, &device));
    TRY(cellar_cache_open_with(device, &options, &scheduler.cache));
    run_tasks();
    counters = cellar_cache_counters(scheduler.cache);
    printf("%llu hits, %llu misses, %llu yields\n", (unsigned long long)counters.hits,
           (unsigned long long)counters.misses, (unsigned long long)scheduler.yields);
    EXPECT(scheduler.yields == counters.misses && counters.hits + counters.misses == 2 * PAGES);
    EXPECT(cellar_cache_page_count(scheduler.cache) < PAGES || counters.misses == PAGES);
    cellar_cache_close(scheduler.cache);
    TRY(cellar_device_close(device));
    for (int i = 0; i < TASKS; i++) {
        sum += scheduler.tasks[i].sum;
        free(scheduler.tasks[i].stack);
    }
    EXPECT(sum == 2 * PAGES);
    free(bytes);
    return 0;
}
