#include "base/fork.h"

#include <errno.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <unistd.h>

static size_t page_bytes(void)
{
    return (size_t)sysconf(_SC_PAGESIZE);
}

static int make_page(struct cellar_fork_page **ret_page)
{
    struct cellar_fork_page *page =
        mmap(NULL, page_bytes(), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (page == MAP_FAILED)
        return -ENOMEM;
    page->wiped = madvise(page, page_bytes(), MADV_WIPEONFORK) == 0;
    page->process = getpid();
    page->alive = 1;
    atomic_init(&page->quiet, page->wiped);
    *ret_page = page;
    return 0;
}

int cellar_fork_page_take(const struct cellar_fork_page **ret_page)
{
    static _Atomic(struct cellar_fork_page *) current;
    struct cellar_fork_page *page = atomic_load_explicit(&current, memory_order_acquire);
    struct cellar_fork_page *made;
    int error;

    if (page != NULL && !cellar_forked(page)) {
        *ret_page = page;
        return 0;
    }
    error = make_page(&made);
    if (error != 0)
        return error;
    if (!atomic_compare_exchange_strong(&current, &page, made)) { /* another thread was first; page is its */
        munmap(made, page_bytes());
        made = page;
    }
    *ret_page = made;
    return 0;
}

bool cellar_fork_page_compare_process(const struct cellar_fork_page *page)
{
    return page->process != getpid();
}
