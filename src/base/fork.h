/* fork.h - notices that this process is a child that was forked after a handle was opened. */
#ifndef CELLAR_BASE_FORK_H
#define CELLAR_BASE_FORK_H

#include "base/check.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <sys/types.h>

/* A page that the kernel clears in a child (MADV_WIPEONFORK): looking at it is one load, getpid is a system call. Where
 * the kernel can't, the process id is compared. */
struct cellar_fork_page {
    atomic_uchar quiet;           /* 1: wiped by fork, and not in a child: the answer by one load */
    volatile unsigned char alive; /* 0: we are in a child */
    bool wiped;                   /* the kernel clears the page */
    pid_t process;
};

/* The page of this process, which all handles that it opens look at. It is never given back: there is one for a
 * process, and in a child that opens handles, too, another one beside the wiped one of its parent's. Any thread. 0, or
 * -ENOMEM. */
int cellar_fork_page_take(const struct cellar_fork_page **ret_page);
bool cellar_fork_page_compare_process(const struct cellar_fork_page *page);

/* False says nothing. */
static inline bool cellar_fork_page_is_quiet(const struct cellar_fork_page *page)
{
    return CELLAR_LIKELY(atomic_load_explicit(&page->quiet, memory_order_relaxed) != 0);
}

static inline bool cellar_forked(const struct cellar_fork_page *page)
{
    if (cellar_fork_page_is_quiet(page))
        return false;
    if (page->alive == 0)
        return true;
    return !page->wiped && cellar_fork_page_compare_process(page);
}

#endif
