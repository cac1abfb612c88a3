/*
 * fuzz_alone.c - what the library does for other threads and processes, and costs system calls: a fuzzer has one thread
 * and no child. By the linker in the place of the library's and of the C library's functions.
 */
#include "base/fork.h"
#include "fuzz.h"

#include <unistd.h>

int __wrap_cellar_fork_page_open(struct cellar_fork_page **ret_page);
void __wrap_cellar_fork_page_close(struct cellar_fork_page *page);
pid_t __wrap_getpid(void);
pid_t __real_getpid(void);
int __wrap_sched_yield(void);

static struct cellar_fork_page page = {.alive = 1, .wiped = true};

/* One page for all handles. */
int __wrap_cellar_fork_page_open(struct cellar_fork_page **ret_page)
{
    *ret_page = &page;
    return 0;
}

void __wrap_cellar_fork_page_close(struct cellar_fork_page *closed)
{
    FUZZ_NEEDS(closed == NULL || closed == &page);
}

pid_t __wrap_getpid(void)
{
    static pid_t process;

    if (process == 0)
        process = __real_getpid();
    return process;
}

/* To wait for another thread is time lost. */
int __wrap_sched_yield(void)
{
    return 0;
}
