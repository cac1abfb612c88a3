/* test_parallel.c - commands of many threads, and of one long call, are under way at once: counted at the server, by
 * reads that end only when enough of them have begun. */
#include "nbd_fixture.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { THREADS_MAX = 32 };

/* A read begins, and waits until COUNT have begun. */
#define MEETING_SERVER(count, size)                                                                                    \
    "-t", "64", "--filter=log", "eval", "logfile=@/log", "logappend=true", "thread_model=echo parallel",               \
        "can_multi_conn=exit 0", "get_size=echo " size,                                                                \
        "pread=mkdir -p @/in; : > @/in/$4; until test $(ls @/in | wc -l) -ge " count                                   \
        " || test ! -d @; do sleep 0.01; done; "                                                                       \
        "head -c $3 /dev/zero",                                                                                        \
        NULL

struct reading {
    pthread_t thread;
    struct cellar_device *device;
    uint64_t offset;
    int result;
};

static void *read_one(void *user)
{
    struct reading *reading = user;
    char bytes[512];

    reading->result = cellar_device_read(reading->device, bytes, sizeof bytes, reading->offset);
    return NULL;
}

static void read_at_once(struct cellar_device *device, unsigned count)
{
    struct reading readings[THREADS_MAX];

    for (unsigned i = 0; i < count; i++) {
        readings[i] = (struct reading){.device = device, .offset = i * UINT64_C(512)};
        assert_int_equal(pthread_create(&readings[i].thread, NULL, read_one, &readings[i]), 0);
    }
    for (unsigned i = 0; i < count; i++) {
        assert_int_equal(pthread_join(readings[i].thread, NULL), 0);
        assert_done(readings[i].result);
    }
}

/* 32 reads of 32 threads, all under way at once, on four connections. */
static void test_threads(void **state)
{
    struct nbd_server *server = nbd_server_start(MEETING_SERVER("32", "1M"));
    struct cellar_nbd_options options = {.connections = 4, .in_flight = 16, .timeout_ms = 120000};
    struct cellar_device *device = nbd_device(server, CELLAR_OPEN_READ, &options);

    (void)state;
    read_at_once(device, 32);
    assert_done(cellar_device_close(device));
    nbd_server_stop(server);
    for (unsigned connection = 1; connection <= 4; connection++) { /* evenly */
        char name[24];

        snprintf(name, sizeof name, "connection=%u Read ", connection);
        assert_int_equal(nbd_server_logged(server, name, "...", NULL), 8);
    }
    nbd_server_end(server);
}

/* The same on one connection. */
static void test_one_connection(void **state)
{
    struct nbd_server *server = nbd_server_start(MEETING_SERVER("16", "1M"));
    struct cellar_nbd_options options = {.connections = 1, .timeout_ms = 120000};
    struct cellar_device *device = nbd_device(server, CELLAR_OPEN_READ, &options);

    (void)state;
    read_at_once(device, 16);
    assert_done(cellar_device_close(device));
    nbd_server_end(server);
}

/* One call of one thread: 8 MiB are 8 commands, or 9 where they don't begin at a multiple. */
static void test_long_call(void **state)
{
    struct nbd_server *server = nbd_server_start(MEETING_SERVER("9", "10M"));
    struct cellar_nbd_options options = {.timeout_ms = 120000};
    struct cellar_device *device = nbd_device(server, CELLAR_OPEN_READ, &options);
    unsigned char *bytes = malloc(8 << 20);

    (void)state;
    assert_non_null(bytes);
    memset(bytes, 1, 8 << 20);
    assert_done(cellar_device_read(device, bytes, 8 << 20, 1000));
    for (size_t i = 0; i < 8 << 20; i += 4096)
        assert_int_equal(bytes[i], 0);
    free(bytes);
    assert_done(cellar_device_close(device));
    nbd_server_end(server);
}

/* in_flight holds: one at a time, though many threads ask. */
static void test_in_flight(void **state)
{
    struct nbd_server *server = nbd_server_start("-t", "64", "eval", "thread_model=echo parallel", "get_size=echo 1M",
                                                 "pread=mkdir @/busy || : > @/overlap; sleep 0.01; rmdir @/busy; "
                                                 "head -c $3 /dev/zero",
                                                 NULL);
    struct cellar_nbd_options options = {.connections = 1, .in_flight = 1};
    struct cellar_device *device = nbd_device(server, CELLAR_OPEN_READ, &options);

    (void)state;
    read_at_once(device, 12);
    assert_done(cellar_device_close(device));
    assert_int_not_equal(access(nbd_server_path(server, "overlap"), F_OK), 0);
    nbd_server_end(server);
}

/* ---- many threads, reads and writes and flushes, over a server that answers out of order ---- */

enum { HAMMER_THREADS = 8, HAMMER_STEPS = 200, HAMMER_BYTES = 64 << 10 };

struct hammer {
    pthread_t thread;
    struct cellar_device *device;
    uint64_t number;
    int failed_line;
};

static int hammer_steps(struct hammer *hammer, unsigned char *model, unsigned char *buffer)
{
    uint64_t base = hammer->number * HAMMER_BYTES, seed = hammer->number;

    for (int step = 0; step < HAMMER_STEPS; step++) {
        size_t offset = (size_t)support_random_below(&seed, HAMMER_BYTES - 4096);
        size_t length_bytes = 1 + (size_t)support_random_below(&seed, 4096);

        if (support_random_below(&seed, 2) == 0) {
            support_bytes(seed, model + offset, length_bytes);
            SUPPORT_CHILD_NEEDS(support_device_write(hammer->device, model + offset, length_bytes, base + offset) == 0);
        } else {
            SUPPORT_CHILD_NEEDS(cellar_device_read(hammer->device, buffer, length_bytes, base + offset) == 0);
            SUPPORT_CHILD_NEEDS(memcmp(buffer, model + offset, length_bytes) == 0);
        }
        if (step % 50 == 0)
            SUPPORT_CHILD_NEEDS(cellar_device_sync(hammer->device, base, HAMMER_BYTES) == 0);
    }
    return 0;
}

static void *hammer_run(void *user)
{
    struct hammer *hammer = user;
    unsigned char *model = calloc(1, HAMMER_BYTES), *buffer = malloc(HAMMER_BYTES);

    hammer->failed_line = model != NULL && buffer != NULL ? hammer_steps(hammer, model, buffer) : __LINE__;
    free(buffer);
    free(model);
    return NULL;
}

static void test_hammer(void **state)
{
    struct nbd_server *server = nbd_server_start("--filter=delay", "memory", "1M", "rdelay=1ms", "wdelay=2ms", NULL);
    struct cellar_nbd_options options = {.connections = 3, .in_flight = 2};
    struct cellar_device *device = nbd_device(server, CELLAR_OPEN_WRITE, &options);
    struct hammer hammers[HAMMER_THREADS];

    (void)state;
    for (unsigned i = 0; i < HAMMER_THREADS; i++) {
        hammers[i] = (struct hammer){.device = device, .number = i};
        assert_int_equal(pthread_create(&hammers[i].thread, NULL, hammer_run, &hammers[i]), 0);
    }
    for (unsigned i = 0; i < HAMMER_THREADS; i++) {
        assert_int_equal(pthread_join(hammers[i].thread, NULL), 0);
        assert_int_equal(hammers[i].failed_line, 0);
    }
    assert_done(cellar_device_close(device));
    nbd_server_end(server);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_threads),   cmocka_unit_test(test_one_connection), cmocka_unit_test(test_long_call),
        cmocka_unit_test(test_in_flight), cmocka_unit_test(test_hammer),
    };

    return nbd_run_tests(tests);
}
