/*
 * nbd.h - the three parts of the NBD device.
 *
 *     device_nbd.c   the device: calls become commands, and wait for them
 *     engine.c       one thread: takes commands from all callers, spreads them over links, waits for answers
 *     link.c         one connection: libnbd, what the export is, commands under way
 *
 * Only the engine's thread touches a link once it runs, so that libnbd is called by one thread. Callers share with it
 * what stands under engine->lock: the commands that are handed in, and the counts of their calls.
 *
 *     handed in -> waiting -> issued on a link -> answered -> finished
 *                     ^             |
 *                     +- lost once -+   (reads of a device opened to read)
 */
#ifndef CELLAR_NBD_INTERNAL_H
#define CELLAR_NBD_INTERNAL_H

#include <cellar/device.h>
#include <cellar/nbd.h>
#include <libnbd.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>
#include <sys/types.h>

/* "Never", as a time. */
#define NBD_NEVER INT64_MAX

enum nbd_kind { NBD_READ, NBD_WRITE, NBD_WRITE_DURABLE, NBD_SYNC };

/* What one caller waits for: all its commands. On its stack. */
struct nbd_call {
    pthread_cond_t done;
    unsigned left; /* commands that are not finished */
    int error;     /* of the commands; the gravest */
};

/* One command of the protocol. In the caller's memory, as the bytes are, until it is finished. */
struct nbd_command {
    TAILQ_ENTRY(nbd_command) entry; /* in the engine's or a link's list */
    struct nbd_call *call;
    enum nbd_kind kind;
    void *bytes;
    size_t length_bytes;
    uint64_t offset;
    struct nbd_link *link; /* on which it is under way; NULL otherwise */
    unsigned losses;       /* how often a connection was lost under it */
    int64_t issued_ns;
    int error; /* the answer: 0 or a negative error */
};
TAILQ_HEAD(nbd_commands, nbd_command);

/* What every connection of a device must find. */
struct nbd_export {
    uint64_t size_bytes;
    uint32_t minimum_bytes;   /* the server's smallest block; 1 where it says nothing */
    uint32_t preferred_bytes; /* 0: it says nothing */
    uint32_t maximum_bytes;   /* the longest command; 0: it says nothing */
    bool read_only, has_flush, has_fua, multi_conn;
};

/* Of a link: what it is for. Constant. */
struct nbd_link_config {
    const char *uri;
    unsigned in_flight;
    int64_t timeout_ns; /* 0: none */
};

enum nbd_link_state {
    LINK_DOWN,       /* no handle */
    LINK_CONNECTING, /* not ready for commands yet */
    LINK_UP,
    LINK_LEAVING, /* gets no more commands, and ends with those under way: the server shuts down */
};

struct nbd_link {
    const struct nbd_link_config *config;
    enum nbd_link_state state;
    struct nbd_handle *handle; /* NULL where down */
    int descriptor;            /* its socket, for the child of a fork; -1: none */
    int64_t connecting_ns;     /* since when */
    struct nbd_commands issued;
    unsigned issued_count;
    struct nbd_commands answered; /* to be taken by the engine */
    char message[400];            /* why it is down */
};

/* Makes a link that is down. */
void cellar_nbd_link_init(struct nbd_link *link, const struct nbd_link_config *config);

/* Begins to connect. 0, or an error; then it is down, with a message. */
int cellar_nbd_link_connect(struct nbd_link *link, int64_t now_ns);

/* Connects and waits until it is up. Errors as above, and -ETIMEDOUT. */
int cellar_nbd_link_connect_now(struct nbd_link *link);

/* What the export of a link that is up is. -EPROTO with a message: nothing that can be used. */
int cellar_nbd_link_export(struct nbd_link *link, struct nbd_export *ret_export);

/* Commands that it can take now. */
unsigned cellar_nbd_link_room(const struct nbd_link *link);

/* Sends the command, or queues it to be sent: it is issued, or answered already (with an error). */
void cellar_nbd_link_issue(struct nbd_link *link, struct nbd_command *command, int64_t now_ns);

/* poll(2) events to wait for. */
short cellar_nbd_link_events(const struct nbd_link *link);

/* Goes on after poll(2); a link may be up then. A negative error: the connection is lost (with a message), to be
 * dropped. */
int cellar_nbd_link_proceed(struct nbd_link *link, short revents);

/* When the oldest command, or connecting, is out of time; NBD_NEVER: it can wait. */
int64_t cellar_nbd_link_deadline(const struct nbd_link *link);

/* Closes the connection. Commands under way are answered: -ENOTCONN, and -ETIMEDOUT those that are out of time at
 * now_ns. polite: tells the server first. The message stays. */
void cellar_nbd_link_drop(struct nbd_link *link, bool polite, int64_t now_ns);

/* One connection's way back: see engine.c. */
struct nbd_slot {
    struct nbd_link link;
    int64_t retry_ns;   /* not to be connected again before */
    int64_t backoff_ns; /* the next pause */
};

struct nbd_engine {
    /* Constant while the thread runs. */
    char *uri;
    struct nbd_link_config link_config;
    struct nbd_export export;
    bool writable;
    int64_t reconnect_ns;
    void (*report)(void *user, const struct cellar_diagnostic *diagnostic);
    void *report_user;
    pthread_t thread;
    int wake_descriptor; /* an eventfd */

    /* Shared with callers. */
    pthread_mutex_t lock;
    struct nbd_commands handed_in;
    bool asleep, stopping;

    /* The thread's own. */
    struct nbd_slot slots[CELLAR_NBD_CONNECTIONS_MAX];
    unsigned slot_count;
    struct nbd_commands waiting, finished;
    int64_t give_up_ns; /* when waiting commands fail for lack of a connection; NBD_NEVER: there is no lack */
    int last_error;     /* of the last attempt to connect */
    bool over;          /* a connection was lost on a writable device */
};

/* Initializes all but what is constant, which the caller fills in before start; slots are the links that are up. */
int cellar_nbd_engine_init(struct nbd_engine *engine);

/* 0 where the link, which is up, found the export that the first one found; else -ESTALE, with a message. */
int cellar_nbd_engine_check(const struct nbd_engine *engine, struct nbd_link *link);

/* Starts the thread. */
int cellar_nbd_engine_start(struct nbd_engine *engine);

/* Hands in the commands and waits until all are finished. 0 or the gravest error. Any thread. */
int cellar_nbd_engine_run(struct nbd_engine *engine, struct nbd_command *commands, unsigned count);

/* Ends the thread, if it was started; no call may be under way. */
void cellar_nbd_engine_stop(struct nbd_engine *engine);

/* Ends what init made: links too, politely. */
void cellar_nbd_engine_end(struct nbd_engine *engine);

/* In a child after fork: closes the child's descriptors. */
void cellar_nbd_engine_forget(struct nbd_engine *engine);

/* Now, on the clock that never jumps. */
int64_t cellar_nbd_now_ns(void);

/* Fills a diagnostic with "URI: message", on one line. NULL is fine. */
void cellar_nbd_diagnose(struct cellar_diagnostic *diagnostic, const char *uri, int error, uint64_t offset,
                         const char *message);

#endif
