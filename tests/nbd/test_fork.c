/* test_fork.c - a child of a process that has an NBD device. The children end by _exit: what the connections use of
 * memory stays with them. */
#include "nbd_fixture.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

/* How many descriptors the process has open. */
static unsigned descriptors(void)
{
    unsigned count = 0;

    for (int fd = 0; fd < 256; fd++)
        count += fcntl(fd, F_GETFD) >= 0;
    return count;
}

static int child(struct cellar_device *device, unsigned without_device, bool forget)
{
    struct iovec part = {.iov_base = (char[]){"text"}, .iov_len = 4};
    char bytes[4];

    if (forget) {
        cellar_device_forget(device);
        SUPPORT_CHILD_NEEDS(descriptors() == without_device);
    }
    SUPPORT_CHILD_NEEDS(cellar_device_read(device, bytes, 4, 0) == CELLAR_EFORKED);
    SUPPORT_CHILD_NEEDS(cellar_device_write(device, &part, 1, 0) == CELLAR_EFORKED);
    SUPPORT_CHILD_NEEDS(cellar_device_write_durable(device, &part, 1, 0) == CELLAR_EFORKED);
    SUPPORT_CHILD_NEEDS(cellar_device_sync(device, 0, 4) == CELLAR_EFORKED);
    SUPPORT_CHILD_NEEDS(cellar_device_close(device) == 0);
    SUPPORT_CHILD_NEEDS(descriptors() == without_device);
    return 0;
}

static void check_child(struct cellar_device *device, unsigned without_device, bool forget)
{
    pid_t pid;
    int status = 0;

    fflush(NULL);
    pid = fork();
    assert_true(pid >= 0);
    if (pid == 0)
        _exit(child(device, without_device, forget) & 0xff);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0); /* else: the line of what the child found wrong */
}

static void test_child(void **state)
{
    struct nbd_server *server = nbd_server_start("--filter=log", "memory", "1M", "logfile=@/log", NULL);
    unsigned before = descriptors();
    struct cellar_device *device = nbd_device(server, CELLAR_OPEN_WRITE, NULL);
    char bytes[4];

    (void)state;
    assert_int_equal(descriptors(), before + 5); /* four connections and the thread's bell */
    for (int round = 0; round < 4; round++) {
        assert_done(support_device_write(device, "text", 4, 0));
        check_child(device, before, round % 2 == 0);
        assert_done(cellar_device_sync(device, 0, 4)); /* the parent goes on */
        assert_done(cellar_device_read(device, bytes, 4, 0));
        assert_memory_equal(bytes, "text", 4);
    }
    assert_int_equal(nbd_server_logged(server, " Disconnect ", NULL), 0);
    cellar_device_forget(device); /* in no child: nothing is given up */
    assert_done(cellar_device_read(device, bytes, 4, 0));
    assert_done(cellar_device_close(device));
    assert_int_equal(descriptors(), before);
    nbd_server_await_ends(server, 4);
    nbd_server_end(server);
}

/* ---- while commands are under way ---- */

struct busy {
    struct cellar_device *device;
    atomic_bool stop;
    int error;
};

static void *keep_busy(void *user)
{
    struct busy *busy = user;
    char bytes[4096];

    while (busy->error == 0 && !atomic_load(&busy->stop))
        busy->error = cellar_device_read(busy->device, bytes, sizeof bytes, 0);
    return NULL;
}

static void test_child_of_busy(void **state)
{
    struct nbd_server *server = nbd_server_start("memory", "1M", NULL);
    struct busy busy = {.device = nbd_device(server, CELLAR_OPEN_READ, NULL)};
    pthread_t thread;

    (void)state;
    assert_int_equal(pthread_create(&thread, NULL, keep_busy, &busy), 0);
    for (int round = 0; round < 50; round++) {
        pid_t pid = fork();
        int status = 0;

        assert_true(pid >= 0);
        if (pid == 0) {
            char bytes[4];
            bool refused = cellar_device_read(busy.device, bytes, 4, 0) == CELLAR_EFORKED;

            cellar_device_forget(busy.device);
            _exit(refused && cellar_device_close(busy.device) == 0 ? 0 : 1);
        }
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_true(WIFEXITED(status));
        assert_int_equal(WEXITSTATUS(status), 0);
    }
    atomic_store(&busy.stop, true);
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_done(busy.error);
    assert_done(cellar_device_close(busy.device));
    nbd_server_end(server);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_child), cmocka_unit_test(test_child_of_busy)};

    return nbd_run_tests(tests);
}
