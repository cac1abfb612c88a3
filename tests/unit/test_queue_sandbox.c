/* A queue in a process that may not do all that others may. Each test is a child of its own. */
#include "queue_spy.h"

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>

/* From here on this process's calls of this number fail with EPERM. */
static bool forbid(unsigned number)
{
    struct sock_filter filter[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, number, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {.len = SUPPORT_COUNT(filter), .filter = filter};

    return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 && prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0;
}

enum { CHILD_SKIPS = 1 };

/* One job, without assertions. */
static int run_quietly(struct cellar_queue *queue, struct job *job)
{
    cellar_queue_submit(queue, jobs_link(job, 1));
    return cellar_queue_take(queue, true) == &job->request ? job->request.result : -1;
}

static int run_without_setup(void *user)
{
    struct stage *stage = user;
    struct cellar_queue *queue;
    struct job job;

    if (!forbid(SYS_io_uring_setup))
        return CHILD_SKIPS;
    SUPPORT_CHILD_NEEDS(cellar_queue_open(2, CELLAR_IO_URING, &queue) == -ENOTSUP);
    SUPPORT_CHILD_NEEDS(cellar_queue_open(2, CELLAR_IO_AUTO, &queue) == 0);
    SUPPORT_CHILD_NEEDS(strcmp(cellar_queue_name(queue), "threads") == 0);
    job_make(&job, stage->device, false, 0, 10, 1);
    SUPPORT_CHILD_NEEDS(run_quietly(queue, &job) == 0 && has_bytes(&job, 0));
    cellar_queue_close(queue);
    job_free(&job);
    return 0;
}

/* The ring is forbidden after open, with one request under way on it. */
static int run_without_enter(void *user)
{
    struct stage *stage = user;
    struct cellar_queue *queue;
    struct job jobs[3];

    if (cellar_queue_open(3, CELLAR_IO_URING, &queue) != 0)
        return CHILD_SKIPS;
    for (unsigned i = 0; i < 3; i++)
        job_make(&jobs[i], stage->device, false, 0, 10, 1);
    cellar_queue_submit(queue, jobs_link(&jobs[0], 1));
    if (!forbid(SYS_io_uring_enter))
        return CHILD_SKIPS;
    SUPPORT_CHILD_NEEDS(strcmp(cellar_queue_name(queue), "io_uring") == 0);
    for (unsigned i = 1; i < 3; i++) {
        SUPPORT_CHILD_NEEDS(run_quietly(queue, &jobs[i]) == 0 && has_bytes(&jobs[i], 0));
        SUPPORT_CHILD_NEEDS(strcmp(cellar_queue_name(queue), "threads") == 0);
    }
    SUPPORT_CHILD_NEEDS(write(stage->spy.pipe[1], "pppppppppp", 10) == 10);
    SUPPORT_CHILD_NEEDS(cellar_queue_take(queue, true) == &jobs[0].request);
    SUPPORT_CHILD_NEEDS(jobs[0].request.result == 0 && has_bytes(&jobs[0], 10));
    SUPPORT_CHILD_NEEDS(cellar_queue_outstanding(queue) == 0);
    cellar_queue_close(queue);
    for (unsigned i = 0; i < 3; i++)
        job_free(&jobs[i]);
    return 0;
}

/* A write past RLIMIT_FSIZE is an error, and no signal. */
static int run_limited(void *user)
{
    struct stage *stage = user;
    struct rlimit limit = {.rlim_cur = SIZE / 2, .rlim_max = SIZE / 2};
    struct cellar_queue *queue;
    struct job job;

    signal(SIGXFSZ, SIG_DFL);
    SUPPORT_CHILD_NEEDS(setrlimit(RLIMIT_FSIZE, &limit) == 0);
    SUPPORT_CHILD_NEEDS(cellar_queue_open(2, CELLAR_IO_AUTO, &queue) == 0);
    stage->spy.descriptor = stage->spy.pipe[1]; /* which has no such limit: the ring must not be asked */
    job_make(&job, stage->device, true, SIZE / 2 - 5, 10, 2);
    SUPPORT_CHILD_NEEDS(run_quietly(queue, &job) == -EFBIG);
    job.request.offset = SIZE / 2 + 5;
    SUPPORT_CHILD_NEEDS(run_quietly(queue, &job) == -EFBIG);
    job.request.offset = SIZE / 2 - 10;
    SUPPORT_CHILD_NEEDS(run_quietly(queue, &job) == 0);
    cellar_queue_close(queue);
    job_free(&job);
    return 0;
}

static void in_child(struct stage *stage, int (*run)(void *user))
{
    int result = support_child(run, stage);

    if (result == CHILD_SKIPS)
        support_skip("no io_uring, or no seccomp, here");
    assert_int_equal(result, 0);
}

static void test_setup_forbidden(void **state)
{
    in_child(*state, run_without_setup);
}

static void test_enter_forbidden(void **state)
{
    in_child(*state, run_without_enter);
}

static void test_size_limit(void **state)
{
    in_child(*state, run_limited);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_setup_forbidden, setup, teardown),
        cmocka_unit_test_setup_teardown(test_enter_forbidden, setup, teardown),
        cmocka_unit_test_setup_teardown(test_size_limit, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
