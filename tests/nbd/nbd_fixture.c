#include "nbd_fixture.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

extern char **environ;

enum { LISTENING_DESCRIPTOR = 3, ENVIRONMENT_MAX = 512 };

/* Where nbdkit is, or NULL. */
static const char *find_nbdkit(void)
{
    static char path[4096];
    const char *folders = getenv("PATH");

    while (folders != NULL && folders[0] != '\0') {
        size_t length = strcspn(folders, ":");

        snprintf(path, sizeof path, "%.*s/nbdkit", (int)length, folders);
        if (access(path, X_OK) == 0)
            return path;
        folders += length + (folders[length] == ':');
    }
    return NULL;
}

bool nbd_is_here(void)
{
    return find_nbdkit() != NULL;
}

const char *nbd_server_path(const struct nbd_server *server, const char *name)
{
    return support_path(server->folder, name);
}

/* The argument, with the folder for every "@"; for free(3). */
static char *expand(const char *argument, const char *folder)
{
    size_t room = strlen(argument) + 1;
    char *text, *to;

    for (const char *c = argument; *c != '\0'; c++)
        room += *c == '@' ? strlen(folder) : 0;
    text = to = malloc(room);
    assert_non_null(text);
    for (const char *c = argument; *c != '\0'; c++)
        to += snprintf(to, room - (size_t)(to - text), *c == '@' ? "%s" : "%.1s", *c == '@' ? folder : c);
    return text;
}

static int listen_on(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    assert_true(listener >= 0);
    assert_true(strlen(path) < sizeof address.sun_path);
    memcpy(address.sun_path, path, strlen(path));
    unlink(path);
    assert_int_equal(bind(listener, (struct sockaddr *)&address, sizeof address), 0);
    assert_int_equal(listen(listener, 64), 0);
    return listener;
}

/* In the child: nothing but system calls. pid_text: room for "LISTEN_PID=". */
static void become_nbdkit(const char *nbdkit, struct nbd_server *server, int listener, int errors, char **environment,
                          char *pid_text)
{
    char digits[24], *to = pid_text + strlen(pid_text);
    int count = 0;

    for (pid_t pid = getpid(); pid > 0; pid /= 10)
        digits[count++] = (char)('0' + pid % 10);
    while (count > 0)
        *to++ = digits[--count];
    *to = '\0';
    if (dup2(errors, STDERR_FILENO) < 0)
        _exit(126);
    if (listener == LISTENING_DESCRIPTOR ? fcntl(listener, F_SETFD, 0) < 0 : dup2(listener, LISTENING_DESCRIPTOR) < 0)
        _exit(126);
    execve(nbdkit, server->arguments, environment);
    _exit(127);
}

void nbd_server_restart(struct nbd_server *server)
{
    char *environment[ENVIRONMENT_MAX], pid_text[48] = "LISTEN_PID=";
    const char *nbdkit = find_nbdkit();
    int listener = listen_on(server->socket_path), count = 0;
    int errors = open(nbd_server_path(server, "errors"), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);

    assert_non_null(nbdkit);
    assert_true(errors >= 0);
    for (char **variable = environ; *variable != NULL && count < ENVIRONMENT_MAX - 3; variable++)
        environment[count++] = *variable;
    environment[count++] = (char[]){"LISTEN_FDS=1"};
    environment[count++] = pid_text;
    environment[count] = NULL;
    fflush(NULL);
    server->pid = fork();
    assert_true(server->pid >= 0);
    if (server->pid == 0)
        become_nbdkit(nbdkit, server, listener, errors, environment, pid_text);
    close(listener);
    close(errors);
}

struct nbd_server *nbd_server_start(const char *argument, ...)
{
    struct nbd_server *server = calloc(1, sizeof *server);
    size_t uri_bytes;
    char *uri;
    int count = 0;
    va_list rest;

    assert_non_null(server);
    server->folder = support_folder_make();
    server->socket_path = nbd_server_path(server, "socket");
    uri_bytes = strlen(server->socket_path) + sizeof "nbd+unix:///?socket=";
    server->uri = uri = malloc(uri_bytes);
    assert_non_null(uri);
    snprintf(uri, uri_bytes, "nbd+unix:///?socket=%s", server->socket_path);
    server->arguments[count++] = expand("nbdkit", "");
    server->arguments[count++] = expand("--exit-with-parent", "");
    va_start(rest, argument);
    for (; argument != NULL; argument = va_arg(rest, const char *)) {
        assert_true(count < NBD_ARGUMENTS_MAX - 1);
        server->arguments[count++] = expand(argument, server->folder);
    }
    va_end(rest);
    nbd_server_touch(server, "disk");
    nbd_server_restart(server);
    return server;
}

static void end_by(struct nbd_server *server, int signal_number)
{
    assert_true(server->pid > 0);
    assert_int_equal(kill(server->pid, signal_number), 0);
    assert_int_equal(waitpid(server->pid, NULL, 0), server->pid);
    server->pid = 0;
}

void nbd_server_kill(struct nbd_server *server)
{
    end_by(server, SIGKILL);
}

void nbd_server_stop(struct nbd_server *server)
{
    end_by(server, SIGTERM);
}

void nbd_server_end(struct nbd_server *server)
{
    if (server->pid > 0)
        end_by(server, SIGKILL);
    for (int i = 0; server->arguments[i] != NULL; i++)
        free(server->arguments[i]);
    support_folder_remove(server->folder);
    free((void *)(uintptr_t)server->uri);
    free(server);
}

void nbd_server_touch(const struct nbd_server *server, const char *name)
{
    support_file_write(nbd_server_path(server, name), "", 0);
}

void nbd_server_untouch(const struct nbd_server *server, const char *name)
{
    assert_int_equal(unlink(nbd_server_path(server, name)), 0);
}

void nbd_server_await(const struct nbd_server *server, const char *name)
{
    const char *path = nbd_server_path(server, name);
    struct timespec nap = {.tv_nsec = 1000000};

    while (access(path, F_OK) != 0)
        nanosleep(&nap, NULL);
}

unsigned nbd_server_logged(const struct nbd_server *server, const char *word, ...)
{
    size_t length_bytes;
    char *log = (char *)support_file_read(nbd_server_path(server, "log"), &length_bytes);
    unsigned count = 0;
    char *line = log, *end;

    for (; (end = memchr(line, '\n', length_bytes - (size_t)(line - log))) != NULL; line = end + 1) {
        const char *wanted = word;
        bool all = true;
        va_list rest;

        *end = '\0';
        va_start(rest, word);
        for (; wanted != NULL; wanted = va_arg(rest, const char *))
            all = all && strstr(line, wanted) != NULL;
        va_end(rest);
        count += all;
    }
    free(log);
    return count;
}

void nbd_server_await_ends(const struct nbd_server *server, unsigned count)
{
    struct timespec nap = {.tv_nsec = 1000000};

    while (nbd_server_logged(server, " Disconnect ", NULL) < count)
        nanosleep(&nap, NULL);
}

struct cellar_device *nbd_device(const struct nbd_server *server, int flags, const struct cellar_nbd_options *options)
{
    struct cellar_nbd_options given = options != NULL ? *options : (struct cellar_nbd_options){0};
    struct cellar_diagnostic diagnostic = {.message = ""};
    struct cellar_device *device = NULL;
    int error;

    given.diagnostic = &diagnostic;
    error = cellar_device_open_nbd(server->uri, flags, &given, &device);
    if (error != 0)
        print_error("%s\n", diagnostic.message);
    assert_int_equal(error, 0);
    return device;
}

struct nbd_server *nbd_fixture_open(uint64_t size_bytes, struct cellar_device **ret_device)
{
    char size_text[24];
    struct nbd_server *server;

    snprintf(size_text, sizeof size_text, "%llu", (unsigned long long)size_bytes);
    server = nbd_server_start("memory", size_text, NULL);
    *ret_device = nbd_device(server, CELLAR_OPEN_WRITE, NULL);
    return server;
}

void nbd_fixture_close(struct nbd_server *server)
{
    nbd_server_end(server);
}
