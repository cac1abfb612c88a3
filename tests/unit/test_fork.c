/* A child knows that it is one. */
#include "support.h"

#include "base/fork.h"

#include <errno.h>
#include <sys/mman.h>
#include <unistd.h>

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

static void test_child_sees_the_fork(void **state)
{
    struct cellar_fork_page *page;

    (void)state;
    assert_done(cellar_fork_page_open(&page));
    assert_int_equal(page->wiped, kernel_wipes());
    assert_false(cellar_forked(page));
    assert_int_equal(support_child(child_is_forked, page), 0);
    assert_false(cellar_forked(page)); /* the parent's page is its own */
    cellar_fork_page_close(page);
    assert_true(support_is_unmapped(page));
}

/* A page that a child opens itself belongs to the child. */
static int child_opens(void *user)
{
    struct cellar_fork_page *page;

    (void)user;
    SUPPORT_CHILD_NEEDS(cellar_fork_page_open(&page) == 0);
    SUPPORT_CHILD_NEEDS(!cellar_forked(page));
    cellar_fork_page_close(page);
    return 0;
}

static void test_page_of_a_child(void **state)
{
    (void)state;
    assert_int_equal(support_child(child_opens, NULL), 0);
}

/* Where the kernel can't clear the page, the process id tells. */
static int child_compares(void *user)
{
    struct cellar_fork_page *page = user;

    page->process = getppid();
    page->wiped = false;
    cellar_fork_page_disturb(page);
    page->alive = 1;
    SUPPORT_CHILD_NEEDS(cellar_fork_page_compare_process(page));
    SUPPORT_CHILD_NEEDS(cellar_forked(page));
    page->process = getpid();
    SUPPORT_CHILD_NEEDS(!cellar_forked(page));
    return 0;
}

static void test_process_id_where_nothing_is_wiped(void **state)
{
    struct cellar_fork_page *page;

    (void)state;
    assert_done(cellar_fork_page_open(&page));
    page->wiped = false;
    cellar_fork_page_disturb(page);
    assert_false(cellar_forked(page));
    assert_false(cellar_fork_page_compare_process(page));
    assert_int_equal(support_child(child_compares, page), 0);
    cellar_fork_page_close(page);
}

static int open_page(void *user)
{
    return cellar_fork_page_open(user);
}

static void test_no_memory(void **state)
{
    struct cellar_fork_page *page = NULL;

    (void)state;
    assert_result(support_without_memory(open_page, &page), -ENOMEM);
    assert_null(page);
}

static void test_close_takes_null(void **state)
{
    (void)state;
    cellar_fork_page_close(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_child_sees_the_fork),
        cmocka_unit_test(test_page_of_a_child),
        cmocka_unit_test(test_process_id_where_nothing_is_wiped),
        cmocka_unit_test(test_no_memory),
        cmocka_unit_test(test_close_takes_null),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
