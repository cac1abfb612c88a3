/* link.c - one connection to the server, through libnbd's asynchronous calls. */
#include "nbd.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>

/* Keeps the words of libnbd's last error on this thread. Returns its code, negative. */
static int keep_error(struct nbd_link *link)
{
    const char *words = nbd_get_error();
    int code = nbd_get_errno();

    snprintf(link->message, sizeof link->message, "%s", words != NULL ? words : "libnbd gives no reason");
    return code > 0 ? -code : -EPROTO;
}

static int keep_words(struct nbd_link *link, int error, const char *words)
{
    snprintf(link->message, sizeof link->message, "%s", words);
    return error;
}

void cellar_nbd_link_init(struct nbd_link *link, const struct nbd_link_config *config)
{
    memset(link, 0, sizeof *link);
    link->config = config;
    link->state = LINK_DOWN;
    link->descriptor = -1;
    TAILQ_INIT(&link->issued);
    TAILQ_INIT(&link->answered);
}

int cellar_nbd_link_connect(struct nbd_link *link, int64_t now_ns)
{
    link->handle = nbd_create();
    if (link->handle == NULL)
        return keep_error(link);
    link->state = LINK_CONNECTING;
    link->connecting_ns = now_ns;
    if (nbd_aio_connect_uri(link->handle, link->config->uri) == -1) {
        int error = keep_error(link);

        cellar_nbd_link_drop(link, false, now_ns);
        return error;
    }
    link->descriptor = nbd_aio_get_fd(link->handle);
    return 0;
}

int cellar_nbd_link_connect_now(struct nbd_link *link)
{
    int error = cellar_nbd_link_connect(link, cellar_nbd_now_ns());

    if (error != 0)
        return error;
    error = cellar_nbd_link_proceed(link, 0); /* it may be up, or dead, already */
    while (error == 0 && link->state == LINK_CONNECTING) {
        struct pollfd wait = {.fd = nbd_aio_get_fd(link->handle), .events = cellar_nbd_link_events(link)};
        int64_t deadline_ns = cellar_nbd_link_deadline(link), now_ns = cellar_nbd_now_ns();
        int pause_ms = -1;

        if (deadline_ns != NBD_NEVER)
            pause_ms = deadline_ns <= now_ns ? 0 : (int)((deadline_ns - now_ns) / 1000000 + 1);
        if (poll(&wait, 1, pause_ms) == -1 && errno != EINTR)
            error = keep_words(link, -errno, "poll fails");
        else if (cellar_nbd_now_ns() >= deadline_ns)
            error = keep_words(link, -ETIMEDOUT, "connecting takes too long");
        else
            error = cellar_nbd_link_proceed(link, wait.revents);
    }
    if (error != 0)
        cellar_nbd_link_drop(link, false, cellar_nbd_now_ns());
    return error;
}

/* A constraint of the server's, 0 where it has none. Sizes over 2 GiB are as good as that. */
static int64_t size_of_block(struct nbd_link *link, int which)
{
    int64_t bytes = nbd_get_block_size(link->handle, which);

    return bytes > INT32_MAX ? (int64_t)INT32_MAX + 1 : bytes;
}

int cellar_nbd_link_export(struct nbd_link *link, struct nbd_export *ret_export)
{
    int64_t size_bytes = nbd_get_size(link->handle);
    int64_t minimum = size_of_block(link, LIBNBD_SIZE_MINIMUM), preferred = size_of_block(link, LIBNBD_SIZE_PREFERRED);
    int64_t maximum = size_of_block(link, LIBNBD_SIZE_MAXIMUM);
    int read_only = nbd_is_read_only(link->handle), flush = nbd_can_flush(link->handle);
    int fua = nbd_can_fua(link->handle), multi_conn = nbd_can_multi_conn(link->handle);

    if (size_bytes < 0 || minimum < 0 || preferred < 0 || maximum < 0 || read_only < 0 || flush < 0 || fua < 0 ||
        multi_conn < 0)
        return keep_error(link);
    if (minimum == 0)
        minimum = 1;
    if (minimum > CELLAR_NBD_BLOCK_BYTES_MAX || (minimum & (minimum - 1)) != 0 || (maximum > 0 && maximum < minimum))
        return keep_words(link, -EPROTO, "the server's block sizes make no sense");
    *ret_export = (struct nbd_export){
        .size_bytes = (uint64_t)size_bytes,
        .minimum_bytes = (uint32_t)minimum,
        .preferred_bytes = (uint32_t)preferred,
        .maximum_bytes = (uint32_t)maximum,
        .read_only = read_only != 0,
        .has_flush = flush != 0,
        .has_fua = fua != 0,
        .multi_conn = multi_conn != 0,
    };
    return 0;
}

unsigned cellar_nbd_link_room(const struct nbd_link *link)
{
    return link->state == LINK_UP ? link->config->in_flight - link->issued_count : 0;
}

/* The command has its answer. */
static void settle(struct nbd_link *link, struct nbd_command *command, int error)
{
    command->link = NULL;
    command->error = error;
    TAILQ_REMOVE(&link->issued, command, entry);
    link->issued_count--;
    TAILQ_INSERT_TAIL(&link->answered, command, entry);
}

/* libnbd calls this within the calls that send, proceed or issue; it locks its handle meanwhile. */
static int answered(void *user, int *error)
{
    struct nbd_command *command = user;
    struct nbd_link *link = command->link;

    if (*error == ESHUTDOWN && link->state == LINK_UP) /* the protocol wants us to leave */
        link->state = LINK_LEAVING;
    settle(link, command, -*error);
    return 1; /* libnbd forgets the command */
}

void cellar_nbd_link_issue(struct nbd_link *link, struct nbd_command *command, int64_t now_ns)
{
    nbd_completion_callback done = {.callback = answered, .user_data = command};
    uint32_t flags = command->kind == NBD_WRITE_DURABLE ? LIBNBD_CMD_FLAG_FUA : 0;
    int64_t cookie = -1;

    command->link = link;
    command->issued_ns = now_ns;
    TAILQ_INSERT_TAIL(&link->issued, command, entry);
    link->issued_count++;
    switch (command->kind) {
    case NBD_READ:
        cookie = nbd_aio_pread(link->handle, command->bytes, command->length_bytes, command->offset, done, 0);
        break;
    case NBD_WRITE:
    case NBD_WRITE_DURABLE:
        cookie = nbd_aio_pwrite(link->handle, command->bytes, command->length_bytes, command->offset, done, flags);
        break;
    case NBD_SYNC:
        cookie = nbd_aio_flush(link->handle, done, 0);
        break;
    }
    /* Refused before it was sent. A handle that is dead by now is found by proceed. */
    if (cookie == -1 && command->link == link) {
        int error = keep_error(link);

        settle(link, command,
               nbd_aio_is_ready(link->handle) || nbd_aio_is_processing(link->handle) ? error : -ENOTCONN);
    }
}

short cellar_nbd_link_events(const struct nbd_link *link)
{
    unsigned direction = nbd_aio_get_direction(link->handle);
    short events = 0;

    if ((direction & LIBNBD_AIO_DIRECTION_READ) != 0)
        events |= POLLIN;
    if ((direction & LIBNBD_AIO_DIRECTION_WRITE) != 0)
        events |= POLLOUT;
    return events;
}

/* Tells libnbd what poll saw, of which one at most: the first may change what it waits for. False: libnbd does not wait
 * for what happened, and the connection is of no use any more. */
static bool notify(struct nbd_link *link, short revents, int *error)
{
    unsigned direction = nbd_aio_get_direction(link->handle);
    int result = 0;

    if ((direction & LIBNBD_AIO_DIRECTION_READ) != 0 && (revents & (POLLIN | POLLHUP)) != 0)
        result = nbd_aio_notify_read(link->handle);
    else if ((direction & LIBNBD_AIO_DIRECTION_WRITE) != 0 && (revents & (POLLOUT | POLLERR | POLLHUP)) != 0)
        result = nbd_aio_notify_write(link->handle);
    else if ((revents & (POLLERR | POLLHUP | POLLNVAL)) != 0)
        return false;
    if (result == -1)
        *error = keep_error(link);
    return true;
}

int cellar_nbd_link_proceed(struct nbd_link *link, short revents)
{
    int error = 0;

    if (!notify(link, revents, &error))
        return keep_words(link, -ENOTCONN, "the connection broke");
    if (nbd_aio_is_dead(link->handle) || nbd_aio_is_closed(link->handle))
        return error != 0 ? error : keep_words(link, -ENOTCONN, "the server closed the connection");
    if (link->state == LINK_CONNECTING) {
        if (error != 0)
            return error;
        link->descriptor = nbd_aio_get_fd(link->handle); /* a name with several addresses: another socket */
        if (nbd_aio_is_ready(link->handle))
            link->state = LINK_UP;
    }
    /* Any other error that leaves the connection alive belongs to a command, which has it as its answer. */
    if (link->state == LINK_LEAVING && link->issued_count == 0)
        return keep_words(link, -ESHUTDOWN, "the server shuts down");
    return 0;
}

int64_t cellar_nbd_link_deadline(const struct nbd_link *link)
{
    if (link->config->timeout_ns == 0)
        return NBD_NEVER;
    if (link->state == LINK_CONNECTING)
        return link->connecting_ns + link->config->timeout_ns;
    return TAILQ_EMPTY(&link->issued) ? NBD_NEVER : TAILQ_FIRST(&link->issued)->issued_ns + link->config->timeout_ns;
}

void cellar_nbd_link_drop(struct nbd_link *link, bool polite, int64_t now_ns)
{
    struct nbd_command *command;

    if (polite && (link->state == LINK_UP || link->state == LINK_LEAVING) && link->issued_count == 0)
        nbd_aio_disconnect(link->handle, 0); /* sent at once; nobody answers it */
    link->state = LINK_DOWN;
    link->descriptor = -1;
    nbd_close(link->handle); /* from here on no bytes of a command are touched, and none is answered */
    link->handle = NULL;
    while ((command = TAILQ_FIRST(&link->issued)) != NULL) {
        bool late = link->config->timeout_ns != 0 && now_ns - command->issued_ns >= link->config->timeout_ns;

        settle(link, command, late ? -ETIMEDOUT : -ENOTCONN);
    }
}
