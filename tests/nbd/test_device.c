/* test_device.c - the NBD device over servers of many kinds: what it reads, writes and says of itself, and what an open
 * refuses. */
#include "nbd_fixture.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

/* ---- against a copy in memory ---- */

enum { MODEL_BYTES = 6 << 20, MODEL_STEPS = 120, PARTS_MAX = 9 };

static const char *const servers[][8] = {
    {"memory", "6M"},
    {"--filter=nofilter", "memory", "6M"},
    {"--filter=readahead", "memory", "6M"},
    {"file", "@/disk"},
    {"--filter=cow", "file", "@/disk"},
    {"--filter=multi-conn", "memory", "6M", "multi-conn-mode=disable"},
    {"--filter=blocksize-policy", "memory", "6M", "blocksize-minimum=512", "blocksize-error-policy=error"},
    {"--filter=blocksize-policy", "memory", "6M", "blocksize-minimum=4096", "blocksize-maximum=65536",
     "blocksize-error-policy=error"},
    {"--filter=fua", "memory", "6M"}, /* no FUA */
    {"--filter=fua", "memory", "6M", "fuamode=emulate"},
    {"--filter=fua", "file", "@/disk", "fuamode=native"},
};

/* A multiple of the block, at random. */
static size_t random_blocks(uint64_t *seed, size_t block_bytes, size_t below_bytes)
{
    return (size_t)support_random_below(seed, below_bytes / block_bytes) * block_bytes;
}

/* Short or long; never none. */
static size_t random_length(uint64_t *seed, size_t block_bytes)
{
    size_t below_bytes = support_random_below(seed, 3) == 0 ? 11 << 19 : 16 * block_bytes;

    return random_blocks(seed, block_bytes, below_bytes) + block_bytes;
}

static void write_step(struct cellar_device *device, unsigned char *model, uint64_t *seed, bool durable)
{
    size_t block_bytes = cellar_device_block_bytes(device), length_bytes = random_length(seed, block_bytes);
    size_t offset = random_blocks(seed, block_bytes, MODEL_BYTES - length_bytes + block_bytes), cut = 0;
    struct iovec parts[PARTS_MAX];
    int count = 1 + (int)support_random_below(seed, PARTS_MAX);

    support_bytes(*seed, model + offset, length_bytes);
    for (int i = 0; i < count; i++) { /* cut anywhere, also into empty parts */
        size_t end = i == count - 1 ? length_bytes : cut + (size_t)support_random_below(seed, length_bytes - cut + 1);

        parts[i] = (struct iovec){.iov_base = model + offset + cut, .iov_len = end - cut};
        cut = end;
    }
    if (durable)
        assert_done(cellar_device_write_durable(device, parts, count, offset));
    else
        assert_done(cellar_device_write(device, parts, count, offset));
}

static void read_step(struct cellar_device *device, const unsigned char *model, unsigned char *buffer, uint64_t *seed)
{
    size_t block_bytes = cellar_device_block_bytes(device), length_bytes = random_length(seed, block_bytes);
    size_t offset = random_blocks(seed, block_bytes, MODEL_BYTES - length_bytes + block_bytes);

    assert_done(cellar_device_read(device, buffer, length_bytes, offset));
    assert_memory_equal(buffer, model + offset, length_bytes);
}

static void check_model(const char *const *arguments)
{
    struct nbd_server *server =
        nbd_server_start(arguments[0], arguments[1], arguments[2], arguments[3], arguments[4], arguments[5], NULL);
    unsigned char *model = calloc(1, MODEL_BYTES), *buffer = malloc(MODEL_BYTES);
    struct cellar_device *device, *other;
    uint64_t seed = 7;

    assert_non_null(model);
    assert_non_null(buffer);
    support_file_write(nbd_server_path(server, "disk"), model, MODEL_BYTES);
    device = nbd_device(server, CELLAR_OPEN_WRITE, NULL);
    for (int step = 0; step < MODEL_STEPS; step++) {
        uint64_t dice = support_random_below(&seed, 12);

        if (dice == 0)
            assert_done(cellar_device_sync(device, 0, 1));
        else if (dice < 6)
            write_step(device, model, &seed, dice == 1);
        else
            read_step(device, model, buffer, &seed);
    }
    assert_done(cellar_device_sync(device, 0, MODEL_BYTES));
    other = nbd_device(server, CELLAR_OPEN_READ, NULL); /* what was flushed, others see */
    assert_done(cellar_device_read(other, buffer, MODEL_BYTES, 0));
    assert_memory_equal(buffer, model, MODEL_BYTES);
    assert_done(cellar_device_close(other));
    assert_done(cellar_device_close(device));
    nbd_server_end(server);
    free(buffer);
    free(model);
}

static void test_model(void **state)
{
    (void)state;
    for (size_t i = 0; i < SUPPORT_COUNT(servers); i++) {
        print_message("%s %s %s %s\n", servers[i][0], servers[i][1], servers[i][2] != NULL ? servers[i][2] : "",
                      servers[i][3] != NULL ? servers[i][3] : "");
        check_model(servers[i]);
    }
}

/* ---- what it is ---- */

static void test_bounds(void **state)
{
    struct nbd_server *server = nbd_server_start("--filter=blocksize-policy", "memory", "1049000",
                                                 "blocksize-minimum=512", "blocksize-error-policy=error", NULL);
    struct cellar_nbd_info info;
    struct cellar_nbd_options options = {.ret_info = &info};
    struct cellar_device *device = nbd_device(server, CELLAR_OPEN_WRITE, &options);
    unsigned char bytes[1024] = {1};
    uint64_t size_bytes;

    (void)state;
    assert_done(cellar_device_size(device, &size_bytes));
    assert_int_equal(size_bytes, 1049000 / 512 * 512); /* what is no whole block can't be reached */
    assert_int_equal(cellar_device_block_bytes(device), 512);
    assert_int_equal(info.size_bytes, size_bytes);
    assert_int_equal(info.block_bytes, 512);
    assert_int_equal(info.command_bytes % 512, 0);
    assert_result(cellar_device_read(device, bytes, 1024, size_bytes - 512), CELLAR_EBOUNDS);
    assert_done(cellar_device_read(device, bytes, 512, size_bytes - 512));
    assert_result(cellar_device_read(device, bytes, 512, size_bytes), CELLAR_EBOUNDS);
    assert_result(support_device_write(device, bytes, 1024, size_bytes - 512), CELLAR_EBOUNDS);
    assert_result(cellar_device_read(device, bytes, 512, 1), -EINVAL);
    assert_result(support_device_write(device, bytes, 100, 0), -EINVAL);
    assert_done(cellar_device_grow(device, 0, size_bytes)); /* of fixed size: it is all there */
    assert_result(cellar_device_grow(device, 0, size_bytes + 512), -ENOSPC);
    assert_result(cellar_device_trim(device, 512), -ENOTSUP);
    assert_done(cellar_device_close(device));
    nbd_server_end(server);
}

static void test_info(void **state)
{
    struct nbd_server *server = nbd_server_start("memory", "1M", NULL);
    struct nbd_server *alone = nbd_server_start("--filter=multi-conn", "memory", "1M", "multi-conn-mode=disable", NULL);
    struct cellar_nbd_info info;
    struct cellar_nbd_options options = {.ret_info = &info, .block_bytes = 4096};
    struct cellar_device *device = nbd_device(server, CELLAR_OPEN_WRITE, &options);

    (void)state;
    assert_string_equal(cellar_device_name(device), "nbd");
    assert_true(cellar_device_writable(device));
    assert_false(cellar_device_lends(device));
    assert_int_equal(cellar_device_block_bytes(device), 4096);
    assert_int_equal(info.connections, 4);
    assert_true(info.multi_conn && info.has_flush && info.has_fua && !info.read_only);
    assert_done(cellar_device_close(device));

    options = (struct cellar_nbd_options){.ret_info = &info, .connections = CELLAR_NBD_CONNECTIONS_MAX};
    device = nbd_device(server, CELLAR_OPEN_READ, &options);
    assert_int_equal(info.connections, CELLAR_NBD_CONNECTIONS_MAX);
    assert_int_equal(info.block_bytes, 1);
    assert_false(cellar_device_writable(device));
    assert_result(support_device_write(device, "x", 1, 0), -EROFS);
    assert_done(cellar_device_close(device));

    device = nbd_device(alone, CELLAR_OPEN_WRITE, &options); /* sixteen are asked for */
    assert_int_equal(info.connections, 1);
    assert_false(info.multi_conn);
    assert_done(cellar_device_close(device));
    nbd_server_end(alone);
    nbd_server_end(server);
}

/* Each connection ends with NBD_CMD_DISC, as the protocol wants it. */
static void test_goodbye(void **state)
{
    struct nbd_server *server = nbd_server_start("-v", "--filter=log", "memory", "1M", "logfile=@/log", NULL);
    struct cellar_nbd_options options = {.connections = 3};
    struct cellar_device *device = nbd_device(server, CELLAR_OPEN_WRITE, &options);
    const char *errors = nbd_server_path(server, "errors"), *found;
    unsigned count = 0;
    size_t length_bytes;
    unsigned char *bytes;

    (void)state;
    assert_done(support_device_write(device, "text", 4, 0));
    assert_done(cellar_device_close(device));
    nbd_server_await_ends(server, 3);
    nbd_server_stop(server);
    bytes = support_file_read(errors, &length_bytes);
    for (const char *from = (char *)bytes;
         (found = memmem(from, length_bytes - (size_t)(from - (char *)bytes), "NBD_CMD_DISC", 12)) != NULL;
         from = found + 12)
        count++;
    assert_int_equal(count, 3);
    free(bytes);
    nbd_server_end(server);
}

/* A server that gives fewer connections than the device likes to have. */
static void test_fewer(void **state)
{
    struct nbd_server *server = nbd_server_start("--filter=limit", "memory", "1M", "limit=2", NULL);
    struct cellar_nbd_info info;
    struct cellar_nbd_options options = {.ret_info = &info};
    struct cellar_device *device = nbd_device(server, CELLAR_OPEN_WRITE, &options);
    struct cellar_nbd_options three = {.connections = 3};
    struct cellar_device *none = NULL;

    (void)state;
    assert_int_equal(info.connections, 2);
    assert_done(support_device_write(device, "text", 4, 0));
    assert_done(cellar_device_close(device));
    assert_true(cellar_device_open_nbd(server->uri, CELLAR_OPEN_WRITE, &three, &none) < 0);
    assert_null(none);
    nbd_server_end(server);
}

/* ---- FLUSH and FUA, as the server saw them ---- */

static void check_durable(const char *mode, unsigned durable_writes, unsigned flushes)
{
    struct nbd_server *server =
        nbd_server_start("--filter=log", "--filter=fua", "memory", "1M", "logfile=@/log", mode, NULL);
    struct cellar_device *device = nbd_device(server, CELLAR_OPEN_WRITE, NULL);
    struct iovec part = {.iov_base = (char[]){"durable"}, .iov_len = 7};

    assert_done(support_device_write(device, "plain", 5, 0));
    assert_done(cellar_device_write_durable(device, &part, 1, 4096));
    assert_done(cellar_device_sync(device, 0, 5));
    assert_done(cellar_device_close(device));
    nbd_server_stop(server);
    assert_int_equal(nbd_server_logged(server, " Write id=", "offset=0x0 ", "fua=0", NULL), 1);
    assert_int_equal(nbd_server_logged(server, " Write id=", "offset=0x1000 ", "fua=1", NULL), durable_writes);
    assert_int_equal(nbd_server_logged(server, " Write id=", NULL), 2);
    assert_int_equal(nbd_server_logged(server, " Flush id=", NULL), flushes);
    nbd_server_end(server);
}

static void test_durable(void **state)
{
    (void)state;
    check_durable("fuamode=native", 1, 1);
    check_durable("fuamode=emulate", 1, 1); /* the server flushes, below the log */
    check_durable(NULL, 0, 2);              /* the server has no FUA: a write and a flush */
}

/* ---- what is refused ---- */

static void assert_refused(const char *uri, int flags, const struct cellar_nbd_options *options, int expected,
                           const char *word)
{
    struct cellar_nbd_options given = options != NULL ? *options : (struct cellar_nbd_options){0};
    struct cellar_diagnostic diagnostic = {.message = ""};
    struct cellar_device *device = NULL;

    given.diagnostic = &diagnostic;
    assert_result(cellar_device_open_nbd(uri, flags, &given, &device), expected);
    assert_null(device);
    assert_int_equal(diagnostic.error, expected);
    assert_true(diagnostic.file_offset == CELLAR_OFFSET_NONE);
    if (uri != NULL)
        assert_non_null(strstr(diagnostic.message, uri));
    if (strstr(diagnostic.message, word) == NULL)
        fail_msg("\"%s\" is not in: %s", word, diagnostic.message);
    assert_null(strchr(diagnostic.message, '\n'));
    assert_result(cellar_device_open_nbd(uri, flags, options, &device), expected); /* nobody asks why */
}

static void test_read_only(void **state)
{
    struct nbd_server *server = nbd_server_start("-r", "memory", "1M", NULL);
    struct cellar_device *device;
    char byte = 1;

    (void)state;
    assert_refused(server->uri, CELLAR_OPEN_WRITE, NULL, -EROFS, "read-only");
    device = nbd_device(server, CELLAR_OPEN_READ, NULL);
    assert_done(cellar_device_read(device, &byte, 1, 0));
    assert_int_equal(byte, 0);
    assert_done(cellar_device_close(device));
    nbd_server_end(server);
}

static void test_no_flush(void **state)
{
    struct nbd_server *server = nbd_server_start("eval", "get_size=echo 1M", "pread=head -c $3 /dev/zero",
                                                 "pwrite=cat > /dev/null", "can_flush=exit 3", NULL);
    struct cellar_device *device;
    char byte = 1;

    (void)state;
    assert_refused(server->uri, CELLAR_OPEN_WRITE, NULL, -ENOTSUP, "NBD_CMD_FLUSH");
    device = nbd_device(server, CELLAR_OPEN_READ, NULL);
    assert_done(cellar_device_read(device, &byte, 1, 0));
    assert_done(cellar_device_close(device));
    nbd_server_end(server);
}

static void test_arguments(void **state)
{
    struct nbd_server *server = nbd_server_start("memory", "1M", NULL);
    struct cellar_nbd_options many = {.connections = CELLAR_NBD_CONNECTIONS_MAX + 1};
    struct cellar_nbd_options deep = {.in_flight = CELLAR_NBD_IN_FLIGHT_MAX + 1};
    struct cellar_nbd_options odd = {.block_bytes = 3000}, large = {.block_bytes = 131072};

    (void)state;
    assert_refused(NULL, CELLAR_OPEN_READ, NULL, -EINVAL, "no URI");
    assert_refused(server->uri, CELLAR_OPEN_WRITE | CELLAR_OPEN_CREATE, NULL, -EINVAL, "flags");
    assert_refused(server->uri, CELLAR_OPEN_DIRECT, NULL, -EINVAL, "flags");
    assert_refused(server->uri, CELLAR_OPEN_READ, &many, -EINVAL, "connections");
    assert_refused(server->uri, CELLAR_OPEN_READ, &deep, -EINVAL, "in flight");
    assert_refused(server->uri, CELLAR_OPEN_READ, &odd, -EINVAL, "block_bytes");
    assert_refused(server->uri, CELLAR_OPEN_READ, &large, -EINVAL, "block_bytes");
    nbd_server_end(server);
}

static void test_no_server(void **state)
{
    struct nbd_server *server = nbd_server_start("memory", "1M", NULL);
    struct cellar_diagnostic diagnostic;
    struct cellar_nbd_options options = {.diagnostic = &diagnostic};
    struct cellar_device *device = NULL;

    (void)state;
    nbd_server_kill(server); /* the name stays, nobody listens */
    assert_refused(server->uri, CELLAR_OPEN_READ, NULL, -ECONNREFUSED, "connect");
    assert_int_equal(unlink(server->socket_path), 0);
    assert_refused(server->uri, CELLAR_OPEN_WRITE, NULL, -ENOENT, "connect");
    assert_refused("nbd+unix:///", CELLAR_OPEN_READ, NULL, -EINVAL, "socket");
    assert_refused("gopher://example", CELLAR_OPEN_READ, NULL, -EINVAL, "URI");
    assert_refused("", CELLAR_OPEN_READ, NULL, -EINVAL, "URI");
    assert_true(cellar_device_open_nbd("nbd+unix:///?socket=/no\n/where\x1b", CELLAR_OPEN_READ, &options, &device) < 0);
    assert_non_null(strstr(diagnostic.message, "socket=/no /where :")); /* one line, fit to be printed */
    nbd_server_end(server);
}

/* A server's first bytes are wrong, or none come. */
static void test_no_nbd(void **state)
{
    struct nbd_server *server = nbd_server_start("memory", "1M", NULL);
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    struct cellar_nbd_options soon = {.timeout_ms = 50};
    static const char text[] = "HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
    int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    pid_t child;

    (void)state;
    nbd_server_kill(server);
    unlink(server->socket_path);
    memcpy(address.sun_path, server->socket_path, strlen(server->socket_path));
    assert_int_equal(bind(listener, (struct sockaddr *)&address, sizeof address), 0);
    assert_int_equal(listen(listener, 64), 0);
    assert_refused(server->uri, CELLAR_OPEN_READ, &soon, -ETIMEDOUT, "too long"); /* nobody accepts */

    child = fork();
    assert_true(child >= 0);
    while (child == 0) {
        int connection = accept(listener, NULL, NULL);

        send(connection, text, sizeof text - 1, MSG_NOSIGNAL); /* the first one has gone already */
        close(connection);
    }
    close(listener);
    assert_refused(server->uri, CELLAR_OPEN_READ, NULL, -EPROTO, "magic");
    kill(child, SIGKILL);
    assert_int_equal(waitpid(child, NULL, 0), child);
    nbd_server_end(server);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_model),     cmocka_unit_test(test_bounds),   cmocka_unit_test(test_info),
        cmocka_unit_test(test_fewer),     cmocka_unit_test(test_goodbye),  cmocka_unit_test(test_durable),
        cmocka_unit_test(test_read_only), cmocka_unit_test(test_no_flush), cmocka_unit_test(test_arguments),
        cmocka_unit_test(test_no_server), cmocka_unit_test(test_no_nbd),
    };

    return nbd_run_tests(tests);
}
