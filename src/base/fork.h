/* fork.h - notices that this process is a child that was forked after a handle was opened. */
#ifndef CELLAR_BASE_FORK_H
#define CELLAR_BASE_FORK_H

#include <stdbool.h>
#include <sys/types.h>

/* A page that the kernel clears in a child (MADV_WIPEONFORK): looking at it is one load, getpid is a system call. Where
 * the kernel can't, the process id is compared. */
struct cellar_fork_page {
    volatile unsigned char alive; /* 0: we are in a child */
    bool wiped;                   /* the kernel clears the page */
    pid_t process;
};

/* 0, or -ENOMEM. */
int cellar_fork_page_open(struct cellar_fork_page **ret_page);
void cellar_fork_page_close(struct cellar_fork_page *page);
bool cellar_fork_page_compare_process(const struct cellar_fork_page *page);

static inline bool cellar_forked(const struct cellar_fork_page *page)
{
    if (page->alive == 0)
        return true;
    return !page->wiped && cellar_fork_page_compare_process(page);
}

#endif
