/*
 * nbd_fixture.h - NBD servers for the tests: nbdkit on a Unix socket of the test's own, and devices on it.
 *
 *     struct cellar_device *device;
 *     struct nbd_server *server = nbd_fixture_open(1 << 20, &device);
 *     ...
 *     cellar_device_close(device);
 *     nbd_fixture_close(server);
 *
 * The socket listens before nbdkit runs, so that nobody waits for it. What can't be done fails the test. A server ends
 * with the process that started it. From the test's main thread alone.
 */
#ifndef CELLAR_TESTS_NBD_FIXTURE_H
#define CELLAR_TESTS_NBD_FIXTURE_H

#include "support.h"

#include <cellar/nbd.h>
#include <sys/types.h>

enum { NBD_EXIT_SKIPPED = 77, NBD_ARGUMENTS_MAX = 32 };

struct nbd_server {
    char *folder;
    const char *uri, *socket_path;
    char *arguments[NBD_ARGUMENTS_MAX];
    pid_t pid; /* 0: it doesn't run */
};

/* Whether nbdkit is here. */
bool nbd_is_here(void);

/* For main: runs the group, or says why not and gives NBD_EXIT_SKIPPED. */
#define nbd_run_tests(tests)                                                                                           \
    (nbd_is_here() ? cmocka_run_group_tests(tests, NULL, NULL)                                                         \
                   : (print_message("skipped: nbdkit is not here\n"), NBD_EXIT_SKIPPED))

/* Starts nbdkit with these arguments, NULL at the end; in each, "@" stands for the server's folder. There the file
 * "disk" is, empty; its length when a device is opened is the export's size (file plugin). */
struct nbd_server *nbd_server_start(const char *argument, ...) __attribute__((sentinel));

/* SIGKILL. The socket's name stays, but nobody listens. */
void nbd_server_kill(struct nbd_server *server);

/* SIGTERM: nbdkit ends in order, with its connections. */
void nbd_server_stop(struct nbd_server *server);

/* Listens and runs again, with the same arguments. */
void nbd_server_restart(struct nbd_server *server);

/* Ends the server, if it runs, and removes its folder. */
void nbd_server_end(struct nbd_server *server);

/* A path in the server's folder; valid until its end. */
const char *nbd_server_path(const struct nbd_server *server, const char *name);

/* Makes the file, empty, in the server's folder; removes it; waits until it is there. */
void nbd_server_touch(const struct nbd_server *server, const char *name);
void nbd_server_untouch(const struct nbd_server *server, const char *name);
void nbd_server_await(const struct nbd_server *server, const char *name);

/* How many lines of the log (log filter, logfile=@/log) hold all of these words, NULL at the end. */
unsigned nbd_server_logged(const struct nbd_server *server, const char *word, ...) __attribute__((sentinel));

/* Waits until the log says that so many connections have ended. */
void nbd_server_await_ends(const struct nbd_server *server, unsigned count);

/* A device on the server. options may be NULL. It must succeed. */
struct cellar_device *nbd_device(const struct nbd_server *server, int flags, const struct cellar_nbd_options *options);

/* A server with so many zero bytes in its memory, and a device to write on it. */
struct nbd_server *nbd_fixture_open(uint64_t size_bytes, struct cellar_device **ret_device);

/* Ends the server; close its devices first. */
void nbd_fixture_close(struct nbd_server *server);

#endif
