/* A child knows that it is one. */
#include "support.h"

#include "base/fork.h"

#include <errno.h>
#include <pthread.h>
#include <stdint.h>
#include <sys/mman.h>
#include <unistd.h>

/* ---- what comes past ---- */

static bool cannot_wipe;
static const struct cellar_fork_page **ret_other; /* the page of a thread that is first while this one makes its own */
static bool watches;                              /* while there is one thread */
static void *unmapped;

int __real_madvise(void *address, size_t length_bytes, int advice);
int __wrap_madvise(void *address, size_t length_bytes, int advice);
int __real_munmap(void *address, size_t length_bytes);
int __wrap_munmap(void *address, size_t length_bytes);

int __wrap_madvise(void *address, size_t length_bytes, int advice)
{
    const struct cellar_fork_page **other = ret_other;

    if (other != NULL) {
        ret_other = NULL;
        if (cellar_fork_page_take(other) != 0)
            *other = NULL;
    }
    if (!cannot_wipe || advice != MADV_WIPEONFORK)
        return __real_madvise(address, length_bytes, advice);
    errno = EINVAL;
    return -1;
}

int __wrap_munmap(void *address, size_t length_bytes)
{
    if (watches)
        unmapped = address;
    return __real_munmap(address, length_bytes);
}

/* ---- tests ---- */

/* What this kernel can do, asked for by the test itself. */
static bool kernel_wipes(void)
{
    size_t page_bytes = (size_t)sysconf(_SC_PAGESIZE);
    void *page = mmap(NULL, page_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    bool result = madvise(page, page_bytes, MADV_WIPEONFORK) == 0;

    munmap(page, page_bytes);
    return result;
}

static int child_is_forked(void *user)
{
    const struct cellar_fork_page *page = user;

    SUPPORT_CHILD_NEEDS(cellar_forked(page));
    return 0;
}

/* The page as something to write into: what the kernel does is played. */
static struct cellar_fork_page *take_page(void)
{
    const struct cellar_fork_page *page;

    assert_done(cellar_fork_page_take(&page));
    return (struct cellar_fork_page *)(uintptr_t)page;
}

static void test_child_sees_the_fork(void **state)
{
    struct cellar_fork_page *page = take_page();

    (void)state;
    assert_int_equal(page->wiped, kernel_wipes());
    assert_int_equal(atomic_load(&page->quiet), page->wiped); /* one load says it where the kernel wipes */
    assert_false(cellar_forked(page));
    assert_int_equal(support_child(child_is_forked, page), 0);
    assert_false(cellar_forked(page)); /* the parent's page is its own */
}

static void test_one_page_for_a_process(void **state)
{
    (void)state;
    assert_ptr_equal(take_page(), take_page());
}

/* A page that a child takes belongs to the child, and its parent's stays a former process's. */
static int child_takes(void *user)
{
    const struct cellar_fork_page *former = user, *page, *again;

    SUPPORT_CHILD_NEEDS(cellar_fork_page_take(&page) == 0);
    SUPPORT_CHILD_NEEDS(page != former && !cellar_forked(page) && cellar_forked(former));
    SUPPORT_CHILD_NEEDS(cellar_fork_page_take(&again) == 0 && again == page);
    return 0;
}

static void test_page_of_a_child(void **state)
{
    (void)state;
    assert_int_equal(support_child(child_takes, take_page()), 0);
}

enum { TAKERS = 8 };

static pthread_barrier_t all_there;

static void *take_with_others(void *user)
{
    const struct cellar_fork_page **ret_page = user;

    pthread_barrier_wait(&all_there);
    if (cellar_fork_page_take(ret_page) != 0)
        *ret_page = NULL;
    return NULL;
}

/* In a child nobody has taken one before. */
static int child_takes_in_threads(void *user)
{
    const struct cellar_fork_page *pages[TAKERS];
    pthread_t threads[TAKERS];

    (void)user;
    SUPPORT_CHILD_NEEDS(pthread_barrier_init(&all_there, NULL, TAKERS) == 0);
    for (int i = 0; i < TAKERS; i++)
        SUPPORT_CHILD_NEEDS(pthread_create(&threads[i], NULL, take_with_others, &pages[i]) == 0);
    for (int i = 0; i < TAKERS; i++)
        pthread_join(threads[i], NULL);
    for (int i = 0; i < TAKERS; i++)
        SUPPORT_CHILD_NEEDS(pages[i] != NULL && pages[i] == pages[0] && !cellar_forked(pages[i]));
    return 0;
}

static void test_threads_take_one_page(void **state)
{
    (void)state;
    for (int round = 0; round < 20; round++)
        assert_int_equal(support_child(child_takes_in_threads, NULL), 0);
}

/* Where the kernel can't clear the page, the process id tells. */
static int child_compares(void *user)
{
    struct cellar_fork_page *page = user;

    page->process = getppid();
    page->wiped = false;
    atomic_store(&page->quiet, 0);
    page->alive = 1;
    SUPPORT_CHILD_NEEDS(cellar_fork_page_compare_process(page));
    SUPPORT_CHILD_NEEDS(cellar_forked(page));
    SUPPORT_CHILD_NEEDS(child_takes(page) == 0);
    page->process = getpid();
    SUPPORT_CHILD_NEEDS(!cellar_forked(page));
    return 0;
}

static void test_process_id_where_nothing_is_wiped(void **state)
{
    struct cellar_fork_page *page = take_page();
    bool wiped = page->wiped;

    (void)state;
    page->wiped = false;
    atomic_store(&page->quiet, 0);
    assert_false(cellar_forked(page));
    assert_false(cellar_fork_page_compare_process(page));
    assert_int_equal(support_child(child_compares, page), 0);
    page->wiped = wiped;
}

static void *take_alone(void *user)
{
    const struct cellar_fork_page **ret_page = user;

    if (cellar_fork_page_take(ret_page) != 0)
        *ret_page = NULL;
    return NULL;
}

static int child_compares_again(void *user)
{
    struct cellar_fork_page *page = user;

    SUPPORT_CHILD_NEEDS(cellar_forked(page));
    SUPPORT_CHILD_NEEDS(support_child(child_is_forked, page) == 0); /* and so does a child of its own */
    return 0;
}

/* A page that another thread made, of a kernel that can't clear it. */
static int child_cannot_wipe(void *user)
{
    const struct cellar_fork_page *page;
    pthread_t thread;

    (void)user;
    cannot_wipe = true;
    SUPPORT_CHILD_NEEDS(pthread_create(&thread, NULL, take_alone, &page) == 0);
    SUPPORT_CHILD_NEEDS(pthread_join(thread, NULL) == 0);
    SUPPORT_CHILD_NEEDS(page != NULL && !page->wiped && atomic_load(&page->quiet) == 0);
    SUPPORT_CHILD_NEEDS(!cellar_forked(page));
    return support_child(child_compares_again, (void *)(uintptr_t)page);
}

static void test_kernel_that_wipes_nothing(void **state)
{
    (void)state;
    assert_int_equal(support_child(child_cannot_wipe, NULL), 0);
}

/* Another thread is first: its page is the one, and the page that was made for nothing goes. */
static int child_is_second(void *user)
{
    const struct cellar_fork_page *page, *other = NULL, *again;

    (void)user;
    ret_other = &other;
    watches = true;
    SUPPORT_CHILD_NEEDS(cellar_fork_page_take(&page) == 0);
    SUPPORT_CHILD_NEEDS(other != NULL && page == other);
    SUPPORT_CHILD_NEEDS(unmapped != NULL && unmapped != page && support_is_unmapped(unmapped));
    SUPPORT_CHILD_NEEDS(!cellar_forked(page));
    SUPPORT_CHILD_NEEDS(cellar_fork_page_take(&again) == 0 && again == page);
    return 0;
}

static void test_another_is_first(void **state)
{
    (void)state;
    assert_int_equal(support_child(child_is_second, NULL), 0);
}

static int take_any(void *user)
{
    return cellar_fork_page_take(user);
}

/* The first of all: later this process has its page. */
static void test_no_memory(void **state)
{
    const struct cellar_fork_page *page = NULL;

    (void)state;
    assert_result(support_without_memory(take_any, &page), -ENOMEM);
    assert_null(page);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_no_memory),
        cmocka_unit_test(test_child_sees_the_fork),
        cmocka_unit_test(test_one_page_for_a_process),
        cmocka_unit_test(test_page_of_a_child),
        cmocka_unit_test(test_threads_take_one_page),
        cmocka_unit_test(test_process_id_where_nothing_is_wiped),
        cmocka_unit_test(test_kernel_that_wipes_nothing),
        cmocka_unit_test(test_another_is_first),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
