/* test_failures.c - what the NBD device makes of errors, of servers that die, come back, or never answer. */
#include "nbd_fixture.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

enum { SIZE_BYTES = 1 << 20 };

/* A server whose reads and writes say that they have begun, and then stay until the file "go" is there. */
#define HOLD(name) ": > @/" name "; until test -e @/go || test ! -d @; do sleep 0.01; done; "
#define HOLDING_SERVER                                                                                                 \
    "-t", "16", "--filter=log", "eval", "logfile=@/log", "logappend=true", "thread_model=echo parallel",               \
        "can_multi_conn=exit 0", "get_size=echo 1M", "pread=" HOLD("reading") "head -c $3 /dev/zero",                  \
        "pwrite=" HOLD("writing") "cat > /dev/null", "can_flush=exit 0", "flush=" HOLD("flushing") "exit 0", NULL

/* ---- calls on threads of their own, so that the server can die under them ---- */

enum kind { READING, WRITING, SYNCING };

struct asked {
    pthread_t thread;
    struct cellar_device *device;
    enum kind kind;
    uint64_t offset;
    unsigned char bytes[4096];
    int result;
};

static void *ask(void *user)
{
    struct asked *asked = user;

    if (asked->kind == READING)
        asked->result = cellar_device_read(asked->device, asked->bytes, sizeof asked->bytes, asked->offset);
    else if (asked->kind == WRITING)
        asked->result = support_device_write(asked->device, asked->bytes, sizeof asked->bytes, asked->offset);
    else
        asked->result = cellar_device_sync(asked->device, 0, SIZE_BYTES);
    return NULL;
}

static void begin(struct asked *asked, struct cellar_device *device, enum kind kind)
{
    *asked = (struct asked){.device = device, .kind = kind};
    assert_int_equal(pthread_create(&asked->thread, NULL, ask, asked), 0);
}

static int end(struct asked *asked)
{
    assert_int_equal(pthread_join(asked->thread, NULL), 0);
    return asked->result;
}

/* What was reported. */
struct reports {
    atomic_uint commands, connections;
    atomic_int last_error;
};

static void note(void *user, const struct cellar_diagnostic *diagnostic)
{
    struct reports *reports = user;

    atomic_fetch_add(diagnostic->file_offset == CELLAR_OFFSET_NONE ? &reports->connections : &reports->commands, 1);
    atomic_store(&reports->last_error, diagnostic->error);
}

/* A writer is over: nothing works any more, whatever the server does. */
static void assert_over(struct cellar_device *device)
{
    struct iovec part = {.iov_base = (char[]){"late"}, .iov_len = 4};
    char bytes[4];

    for (int i = 0; i < 2; i++) {
        assert_result(cellar_device_sync(device, 0, SIZE_BYTES), CELLAR_EUNKNOWN);
        assert_result(cellar_device_write(device, &part, 1, 0), CELLAR_EUNKNOWN);
        assert_result(cellar_device_write_durable(device, &part, 1, 0), CELLAR_EUNKNOWN);
        assert_result(cellar_device_read(device, bytes, 4, 0), -ENOTCONN);
    }
}

/* ---- errors that the server answers ---- */

static void check_answer(const char *name, int expected)
{
    char error_name[32];
    struct nbd_server *server;
    struct reports reports = {0};
    struct cellar_nbd_options options = {.report = note, .report_user = &reports};
    struct cellar_device *device;
    struct iovec part = {.iov_base = (char[]){"text"}, .iov_len = 4};
    char bytes[4];

    snprintf(error_name, sizeof error_name, "error=%s", name);
    server = nbd_server_start("--filter=error", "memory", "1M", error_name, "error-pread-rate=100%",
                              "error-pread-file=@/pread", "error-pwrite-rate=100%", "error-pwrite-file=@/pwrite", NULL);
    device = nbd_device(server, CELLAR_OPEN_WRITE, &options);
    nbd_server_touch(server, "pwrite");
    assert_result(cellar_device_write(device, &part, 1, 100), expected);
    assert_result(cellar_device_write_durable(device, &part, 1, 100), expected);
    assert_done(cellar_device_read(device, bytes, 4, 100));
    assert_done(cellar_device_sync(device, 0, SIZE_BYTES));
    nbd_server_touch(server, "pread");
    assert_result(cellar_device_read(device, bytes, 4, 100), expected);
    assert_int_equal(atomic_load(&reports.commands), 3);
    assert_int_equal(atomic_load(&reports.connections), 0);
    assert_int_equal(atomic_load(&reports.last_error), expected);
    nbd_server_untouch(server, "pread"); /* the connections have outlived it */
    nbd_server_untouch(server, "pwrite");
    assert_done(cellar_device_write(device, &part, 1, 100));
    assert_done(cellar_device_read(device, bytes, 4, 100));
    assert_memory_equal(bytes, "text", 4);
    assert_done(cellar_device_close(device));
    nbd_server_end(server);
}

static void test_answers(void **state)
{
    (void)state;
    check_answer("EIO", -EIO);
    check_answer("ENOSPC", -ENOSPC);
    check_answer("EPERM", -EPERM);
    check_answer("ENOMEM", -ENOMEM);
}

/* Every third command fails, the others are right: no answer goes to the wrong command. */
static void test_rates(void **state)
{
    struct nbd_server *server =
        nbd_server_start("--filter=error", "memory", "1M", "error-rate=33%", "error-file=@/now", NULL);
    struct cellar_device *device = nbd_device(server, CELLAR_OPEN_WRITE, NULL);
    unsigned char wrote[512], read[512];
    unsigned failed = 0;

    (void)state;
    nbd_server_touch(server, "now");
    for (uint64_t i = 0; i < 300; i++) {
        int error;

        support_bytes(i, wrote, sizeof wrote);
        do {
            error = support_device_write(device, wrote, sizeof wrote, i * sizeof wrote);
            failed += error != 0;
        } while (error == -EIO);
        assert_done(error);
        do {
            error = cellar_device_read(device, read, sizeof read, i * sizeof read);
            failed += error != 0;
        } while (error == -EIO);
        assert_done(error);
        assert_memory_equal(read, wrote, sizeof read);
    }
    assert_true(failed > 0);
    assert_done(cellar_device_close(device));
    nbd_server_end(server);
}

static void test_flush_fails(void **state)
{
    struct nbd_server *server =
        nbd_server_start("eval", "get_size=echo 1M", "pread=head -c $3 /dev/zero", "pwrite=cat > /dev/null",
                         "can_flush=exit 0", "flush=echo EIO disk is gone >&2; exit 1", NULL);
    struct cellar_device *device = nbd_device(server, CELLAR_OPEN_WRITE, NULL);

    (void)state;
    assert_done(support_device_write(device, "text", 4, 0));
    assert_result(cellar_device_sync(device, 0, 4), -EIO);
    assert_done(cellar_device_close(device));
    nbd_server_end(server);
}

/* ESHUTDOWN: the client must leave. */
static void test_shutdown(void **state)
{
    struct nbd_server *server = nbd_server_start("--filter=log", "--filter=error", "memory", "1M", "logfile=@/log",
                                                 "error=ESHUTDOWN", "error-rate=100%", "error-file=@/now", NULL);
    struct cellar_nbd_options options = {.connections = 1};
    struct cellar_device *writer = nbd_device(server, CELLAR_OPEN_WRITE, &options);
    struct cellar_device *reader = nbd_device(server, CELLAR_OPEN_READ, &options);
    char bytes[4];

    (void)state;
    nbd_server_touch(server, "now");
    assert_result(support_device_write(writer, "text", 4, 0), -ESHUTDOWN);
    assert_over(writer);
    assert_result(cellar_device_read(reader, bytes, 4, 0), -ENOTCONN); /* tried twice */
    nbd_server_untouch(server, "now");
    assert_done(cellar_device_read(reader, bytes, 4, 0));
    assert_over(writer);
    assert_done(cellar_device_close(reader));
    assert_done(cellar_device_close(writer));
    nbd_server_await_ends(server, 4);
    nbd_server_stop(server);
    assert_int_equal(nbd_server_logged(server, " Read id=", NULL), 3);
    assert_int_equal(nbd_server_logged(server, " Disconnect ", NULL), 4);
    nbd_server_end(server);
}

/* ---- servers that die ---- */

static void check_killed_writer(enum kind kind, const char *begun, int expected)
{
    struct nbd_server *server = nbd_server_start(HOLDING_SERVER);
    struct reports reports = {0};
    struct cellar_nbd_options options = {.report = note, .report_user = &reports, .reconnect_ms = 60000};
    struct cellar_device *device = nbd_device(server, CELLAR_OPEN_WRITE, &options);
    struct asked asked;

    begin(&asked, device, kind);
    nbd_server_await(server, begun);
    nbd_server_kill(server);
    assert_result(end(&asked), expected);
    assert_over(device);
    assert_true(atomic_load(&reports.connections) > 0);
    nbd_server_touch(server, "go");
    nbd_server_restart(server);
    assert_over(device);
    assert_done(cellar_device_close(device));
    device = nbd_device(server, CELLAR_OPEN_WRITE, NULL); /* opened again all is well */
    assert_done(support_device_write(device, "text", 4, 0));
    assert_done(cellar_device_sync(device, 0, 4));
    assert_done(cellar_device_close(device));
    nbd_server_end(server);
}

static void test_killed_in_write(void **state)
{
    (void)state;
    check_killed_writer(WRITING, "writing", CELLAR_EUNKNOWN);
}

static void test_killed_in_sync(void **state)
{
    (void)state;
    check_killed_writer(SYNCING, "flushing", CELLAR_EUNKNOWN);
}

static void test_killed_in_writers_read(void **state)
{
    (void)state;
    check_killed_writer(READING, "reading", -ENOTCONN);
}

/* What was written and answered may be gone with the server: no sync may succeed. */
static void test_killed_between(void **state)
{
    struct cellar_device *device;
    struct nbd_server *server = nbd_fixture_open(SIZE_BYTES, &device);

    (void)state;
    assert_done(support_device_write(device, "text", 4, 0));
    nbd_server_kill(server);
    nbd_server_restart(server);
    assert_result(cellar_device_sync(device, 0, 4), CELLAR_EUNKNOWN);
    assert_over(device);
    assert_done(cellar_device_close(device));
    nbd_fixture_close(server);
}

static void test_killed_in_read(void **state)
{
    struct nbd_server *server = nbd_server_start(HOLDING_SERVER);
    struct cellar_device *device = nbd_device(server, CELLAR_OPEN_READ, NULL);
    struct asked asked;

    (void)state;
    begin(&asked, device, READING);
    nbd_server_await(server, "reading");
    nbd_server_kill(server);
    assert_result(end(&asked), -ENOTCONN); /* nobody is there for the second try */
    assert_result(cellar_device_read(device, asked.bytes, 1, 0), -ENOTCONN);
    nbd_server_touch(server, "go");
    nbd_server_restart(server);
    assert_done(cellar_device_read(device, asked.bytes, sizeof asked.bytes, 0));
    assert_done(cellar_device_close(device));
    nbd_server_end(server);
}

/* A read waits for the server to come back, and gets its bytes. */
static void test_reconnect(void **state)
{
    struct nbd_server *server = nbd_server_start(HOLDING_SERVER);
    struct cellar_nbd_options options = {.reconnect_ms = 600000};
    struct cellar_device *device = nbd_device(server, CELLAR_OPEN_READ, &options);
    struct asked asked[3];

    (void)state;
    for (size_t i = 0; i < SUPPORT_COUNT(asked); i++)
        begin(&asked[i], device, READING);
    nbd_server_await(server, "reading");
    nbd_server_kill(server);
    nbd_server_touch(server, "go");
    nbd_server_restart(server);
    for (size_t i = 0; i < SUPPORT_COUNT(asked); i++)
        assert_done(end(&asked[i]));
    assert_done(cellar_device_close(device));
    nbd_server_end(server);
}

/* A server that dies of each read: a read is not tried for ever. (The first server may be stopped before the read has
 * come to it; then it is lost once less, and no third server comes.) */
static void test_deadly_read(void **state)
{
    struct nbd_server *server = nbd_server_start("--filter=log", "eval", "logfile=@/log", "get_size=echo 1M",
                                                 "pread=kill -9 $(cat @/pid)", "-P", "@/pid", NULL);
    struct cellar_nbd_options options = {.reconnect_ms = 3000};
    struct cellar_device *device = nbd_device(server, CELLAR_OPEN_READ, &options);
    struct asked asked;

    (void)state;
    nbd_server_await(server, "pid");
    begin(&asked, device, READING);
    nbd_server_stop(server); /* only waits: it may be dead by now */
    nbd_server_restart(server);
    assert_result(end(&asked), -ENOTCONN);
    assert_done(cellar_device_close(device));
    nbd_server_end(server);
}

/* Another export under the same name is not the device's. */
static void test_stale(void **state)
{
    struct nbd_server *server = nbd_server_start("file", "@/disk", NULL);
    struct cellar_device *device;
    char byte = 1;

    (void)state;
    support_file_write(nbd_server_path(server, "disk"), (char[8192]){0}, 8192);
    device = nbd_device(server, CELLAR_OPEN_READ, NULL);
    assert_done(cellar_device_read(device, &byte, 1, 0));
    nbd_server_kill(server);
    support_file_write(nbd_server_path(server, "disk"), (char[4096]){0}, 4096);
    nbd_server_restart(server);
    assert_result(cellar_device_read(device, &byte, 1, 0), -ESTALE);
    nbd_server_kill(server);
    support_file_write(nbd_server_path(server, "disk"), (char[8192]){0}, 8192);
    nbd_server_restart(server);
    assert_done(cellar_device_read(device, &byte, 1, 8191));
    assert_done(cellar_device_close(device));
    nbd_server_end(server);
}

/* ---- no answer ---- */

static void check_silence(int flags, enum kind kind, int expected)
{
    struct nbd_server *server = nbd_server_start(HOLDING_SERVER);
    struct cellar_nbd_options options = {.connections = 2, .timeout_ms = 1500};
    struct cellar_device *device = nbd_device(server, flags, &options);
    struct asked asked = {.device = device, .kind = kind};

    ask(&asked);
    assert_result(asked.result, expected);
    if (flags == CELLAR_OPEN_WRITE) {
        assert_over(device);
    } else {
        nbd_server_touch(server, "go");
        assert_done(cellar_device_read(device, asked.bytes, 1, 0));
    }
    assert_done(cellar_device_close(device));
    nbd_server_end(server);
}

static void test_silence(void **state)
{
    (void)state;
    check_silence(CELLAR_OPEN_READ, READING, -ETIMEDOUT);
    check_silence(CELLAR_OPEN_WRITE, READING, -ETIMEDOUT);
    check_silence(CELLAR_OPEN_WRITE, WRITING, CELLAR_EUNKNOWN);
    check_silence(CELLAR_OPEN_WRITE, SYNCING, CELLAR_EUNKNOWN);
}

/* ---- one connection of several ---- */

/* Cuts the nth connection of this process to the server. */
static void cut(const struct nbd_server *server, unsigned nth)
{
    unsigned found = 0;

    for (int fd = 3; fd < 256; fd++) {
        struct sockaddr_un address = {.sun_family = AF_UNSPEC};
        socklen_t length = sizeof address;

        if (getpeername(fd, (struct sockaddr *)&address, &length) != 0 || address.sun_family != AF_UNIX ||
            strcmp(address.sun_path, server->socket_path) != 0 || found++ != nth)
            continue;
        assert_int_equal(shutdown(fd, SHUT_RDWR), 0);
        return;
    }
    fail_msg("no connection %u", nth);
}

static void test_one_of_several(void **state)
{
    struct nbd_server *server = nbd_server_start(HOLDING_SERVER);
    struct cellar_nbd_options options = {.connections = 3};
    struct cellar_device *device = nbd_device(server, CELLAR_OPEN_READ, &options);
    struct asked asked[6];

    (void)state;
    for (size_t i = 0; i < SUPPORT_COUNT(asked); i++)
        begin(&asked[i], device, READING);
    nbd_server_await(server, "reading");
    cut(server, 1);
    nbd_server_touch(server, "go");
    for (size_t i = 0; i < SUPPORT_COUNT(asked); i++)
        assert_done(end(&asked[i]));
    do /* the lost connection is made again, by and by */
        assert_done(cellar_device_read(device, asked[0].bytes, 1, 0));
    while (nbd_server_logged(server, "connection=4 Connect", NULL) == 0);
    assert_done(cellar_device_close(device));
    nbd_server_end(server);
}

static void test_one_of_a_writers(void **state)
{
    struct nbd_server *server = nbd_server_start("memory", "1M", NULL);
    struct reports reports = {0};
    struct cellar_nbd_options options = {.connections = 3, .report = note, .report_user = &reports};
    struct cellar_device *device = nbd_device(server, CELLAR_OPEN_WRITE, &options);

    (void)state;
    assert_done(support_device_write(device, "text", 4, 0));
    cut(server, 2);
    while (atomic_load(&reports.connections) == 0) /* noticed without a call */
        sched_yield();
    assert_result(cellar_device_sync(device, 0, 4), CELLAR_EUNKNOWN);
    assert_over(device);
    assert_done(cellar_device_close(device));
    nbd_server_end(server);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_answers),          cmocka_unit_test(test_rates),
        cmocka_unit_test(test_flush_fails),      cmocka_unit_test(test_shutdown),
        cmocka_unit_test(test_killed_in_write),  cmocka_unit_test(test_killed_in_sync),
        cmocka_unit_test(test_killed_between),   cmocka_unit_test(test_killed_in_writers_read),
        cmocka_unit_test(test_killed_in_read),   cmocka_unit_test(test_reconnect),
        cmocka_unit_test(test_deadly_read),      cmocka_unit_test(test_stale),
        cmocka_unit_test(test_silence),          cmocka_unit_test(test_one_of_several),
        cmocka_unit_test(test_one_of_a_writers),
    };

    return nbd_run_tests(tests);
}
