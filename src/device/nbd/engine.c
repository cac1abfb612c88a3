/* engine.c - the thread that speaks with the server: which command goes over which connection, and what its answer, or
 * the loss of the connection, means. */
#include "nbd.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#define MILLISECOND_NS INT64_C(1000000)
#define BACKOFF_MIN_NS (10 * MILLISECOND_NS)
#define BACKOFF_MAX_NS (1000 * MILLISECOND_NS)

int64_t cellar_nbd_now_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

void cellar_nbd_diagnose(struct cellar_diagnostic *diagnostic, const char *uri, int error, uint64_t offset,
                         const char *message)
{
    if (diagnostic == NULL)
        return;
    diagnostic->error = error;
    diagnostic->file_offset = offset;
    snprintf(diagnostic->message, sizeof diagnostic->message, "%s: %s", uri, message);
    for (char *c = diagnostic->message; *c != '\0'; c++) { /* a part of it may be the server's */
        if ((unsigned char)*c < 0x20 || *c == 0x7f)
            *c = ' ';
    }
}

static void report(const struct nbd_engine *engine, int error, uint64_t offset, const char *message)
{
    struct cellar_diagnostic diagnostic;

    if (engine->report == NULL)
        return;
    cellar_nbd_diagnose(&diagnostic, engine->uri, error, offset, message);
    engine->report(engine->report_user, &diagnostic);
}

/* ---- what becomes of a command ---- */

/* The command's result is known. */
static void settle(struct nbd_engine *engine, struct nbd_command *command, int error)
{
    static const char *const names[] = {
        [NBD_READ] = "read", [NBD_WRITE] = "write", [NBD_WRITE_DURABLE] = "durable write", [NBD_SYNC] = "flush"};
    char message[160];

    command->error = error;
    TAILQ_INSERT_TAIL(&engine->finished, command, entry);
    if (error == 0)
        return;
    snprintf(message, sizeof message, "%s of %zu bytes: %s", names[command->kind], command->length_bytes,
             cellar_strerror(error));
    report(engine, error, command->kind == NBD_SYNC ? CELLAR_OFFSET_NONE : command->offset, message);
}

/* What a command that was lost, or can't be sent any more, gives. error: why, -ENOTCONN or -ETIMEDOUT. */
static int lost_result(const struct nbd_command *command, int error)
{
    return command->kind == NBD_READ ? error : CELLAR_EUNKNOWN;
}

/* An answer from the server, or the link's verdict that there will be none. */
static void take_answer(struct nbd_engine *engine, struct nbd_command *command)
{
    int error = command->error;

    if (!engine->writable && (error == -ENOTCONN || error == -ESHUTDOWN)) {
        /* One server that dies may take all connections with it, which are found dead one by one. */
        if (command->losses++ < engine->slot_count)
            TAILQ_INSERT_HEAD(&engine->waiting, command, entry);
        else
            settle(engine, command, -ENOTCONN);
    } else if (error == -ENOTCONN || error == -ETIMEDOUT) {
        settle(engine, command, lost_result(command, error));
    } else {
        settle(engine, command, error);
    }
}

static void take_answers(struct nbd_engine *engine)
{
    for (unsigned i = 0; i < engine->slot_count; i++) {
        struct nbd_commands *answered = &engine->slots[i].link.answered;
        struct nbd_command *command;

        while ((command = TAILQ_FIRST(answered)) != NULL) {
            TAILQ_REMOVE(answered, command, entry);
            take_answer(engine, command);
        }
    }
}

static void fail_waiting(struct nbd_engine *engine, int error)
{
    struct nbd_command *command;

    while ((command = TAILQ_FIRST(&engine->waiting)) != NULL) {
        TAILQ_REMOVE(&engine->waiting, command, entry);
        settle(engine, command, lost_result(command, error));
    }
}

/* Of two errors of one call, the one that its caller must know. */
static int graver(int first, int second)
{
    return first == 0 || second == CELLAR_EUNKNOWN ? second : first;
}

/* Tells the callers. */
static void finish(struct nbd_engine *engine)
{
    struct nbd_command *command;

    if (TAILQ_EMPTY(&engine->finished))
        return;
    pthread_mutex_lock(&engine->lock);
    while ((command = TAILQ_FIRST(&engine->finished)) != NULL) {
        struct nbd_call *call = command->call;

        TAILQ_REMOVE(&engine->finished, command, entry);
        if (command->error != 0)
            call->error = graver(call->error, command->error);
        if (--call->left == 0) /* the command, and soon the call, are gone from here on */
            pthread_cond_signal(&call->done);
    }
    pthread_mutex_unlock(&engine->lock);
}

/* ---- links ---- */

/* The link is of no use any more; its message says why. */
static void lose(struct nbd_engine *engine, struct nbd_slot *slot, int error, int64_t now_ns)
{
    report(engine, error, CELLAR_OFFSET_NONE, slot->link.message);
    cellar_nbd_link_drop(&slot->link, error == -ESHUTDOWN, now_ns);
    engine->last_error = error;
    slot->retry_ns = now_ns + slot->backoff_ns;
    slot->backoff_ns = slot->backoff_ns * 2 < BACKOFF_MAX_NS ? slot->backoff_ns * 2 : BACKOFF_MAX_NS;
    if (engine->writable)
        engine->over = true;
}

int cellar_nbd_engine_check(const struct nbd_engine *engine, struct nbd_link *link)
{
    struct nbd_export now;
    int error = cellar_nbd_link_export(link, &now);

    if (error != 0)
        return error;
    if (now.size_bytes == engine->export.size_bytes && now.minimum_bytes == engine->export.minimum_bytes &&
        now.maximum_bytes == engine->export.maximum_bytes && (now.multi_conn || engine->slot_count == 1))
        return 0;
    snprintf(link->message, sizeof link->message, "the export is another one now, of %llu bytes instead of %llu",
             (unsigned long long)now.size_bytes, (unsigned long long)engine->export.size_bytes);
    return -ESTALE;
}

/* After poll, or after issuing: what came of it. */
static void proceed(struct nbd_engine *engine, struct nbd_slot *slot, short revents, int64_t now_ns)
{
    struct nbd_link *link = &slot->link;
    bool was_up = link->state != LINK_CONNECTING;
    int error = cellar_nbd_link_proceed(link, revents);

    if (error == 0 && cellar_nbd_link_deadline(link) <= now_ns) {
        error = -ETIMEDOUT;
        snprintf(link->message, sizeof link->message, "no answer in time");
    }
    if (error == 0 && link->state == LINK_UP && !was_up) {
        error = cellar_nbd_engine_check(engine, link);
        if (error == 0)
            slot->backoff_ns = BACKOFF_MIN_NS;
    }
    if (error != 0)
        lose(engine, slot, error, now_ns);
}

static void tend_links(struct nbd_engine *engine, int64_t now_ns)
{
    for (unsigned i = 0; i < engine->slot_count; i++) {
        if (engine->slots[i].link.state != LINK_DOWN)
            proceed(engine, &engine->slots[i], 0, now_ns);
    }
}

static bool any_link(const struct nbd_engine *engine, enum nbd_link_state state)
{
    for (unsigned i = 0; i < engine->slot_count; i++) {
        if (engine->slots[i].link.state == state)
            return true;
    }
    return false;
}

/* Commands wait, and no link is up: from now on until give_up_ns connecting is tried. */
static void watch_for_lack(struct nbd_engine *engine, int64_t now_ns)
{
    if (TAILQ_EMPTY(&engine->waiting) || any_link(engine, LINK_UP) || any_link(engine, LINK_LEAVING)) {
        engine->give_up_ns = NBD_NEVER;
    } else if (engine->give_up_ns == NBD_NEVER) {
        engine->give_up_ns = now_ns + engine->reconnect_ns;
        for (unsigned i = 0; i < engine->slot_count; i++)
            engine->slots[i].retry_ns = now_ns;
    }
}

/* Makes links anew for the commands that wait. */
static void reconnect(struct nbd_engine *engine, int64_t now_ns)
{
    if (engine->over) {
        fail_waiting(engine, -ENOTCONN);
        return;
    }
    watch_for_lack(engine, now_ns);
    if (TAILQ_EMPTY(&engine->waiting))
        return;
    for (unsigned i = 0; i < engine->slot_count; i++) {
        struct nbd_slot *slot = &engine->slots[i];

        if (slot->link.state == LINK_DOWN && slot->retry_ns <= now_ns) {
            int error = cellar_nbd_link_connect(&slot->link, now_ns);

            if (error != 0)
                lose(engine, slot, error, now_ns);
            else
                proceed(engine, slot, 0, now_ns);
        }
    }
    if (engine->give_up_ns <= now_ns && !any_link(engine, LINK_UP) && !any_link(engine, LINK_CONNECTING)) {
        engine->give_up_ns = NBD_NEVER;
        fail_waiting(engine, engine->last_error == -ESTALE ? -ESTALE : -ENOTCONN);
    }
}

/* The link with the fewest commands under way that can take one more, or NULL. */
static struct nbd_link *least_loaded(struct nbd_engine *engine)
{
    struct nbd_link *best = NULL;

    for (unsigned i = 0; i < engine->slot_count; i++) {
        struct nbd_link *link = &engine->slots[i].link;

        if (cellar_nbd_link_room(link) > 0 && (best == NULL || link->issued_count < best->issued_count))
            best = link;
    }
    return best;
}

/* Whether any command was issued. */
static bool issue(struct nbd_engine *engine, int64_t now_ns)
{
    struct nbd_command *command;
    struct nbd_link *link;
    bool any = false;

    while ((command = TAILQ_FIRST(&engine->waiting)) != NULL && (link = least_loaded(engine)) != NULL) {
        TAILQ_REMOVE(&engine->waiting, command, entry);
        cellar_nbd_link_issue(link, command, now_ns);
        any = true;
    }
    return any;
}

/* ---- the thread ---- */

/* Takes what was handed in. False: the thread shall end. */
static bool take_in(struct nbd_engine *engine, bool *ret_any)
{
    bool stopping;

    pthread_mutex_lock(&engine->lock);
    *ret_any = !TAILQ_EMPTY(&engine->handed_in);
    TAILQ_CONCAT(&engine->waiting, &engine->handed_in, entry);
    stopping = engine->stopping;
    engine->asleep = !*ret_any && !stopping;
    pthread_mutex_unlock(&engine->lock);
    return !stopping;
}

/* How long poll may wait, in milliseconds; -1: until something comes. */
static int pause_ms(const struct nbd_engine *engine, int64_t now_ns)
{
    bool lack = engine->give_up_ns != NBD_NEVER;
    int64_t until_ns = lack && !any_link(engine, LINK_CONNECTING) ? engine->give_up_ns : NBD_NEVER, left_ms;

    for (unsigned i = 0; i < engine->slot_count; i++) {
        const struct nbd_slot *slot = &engine->slots[i];
        int64_t slot_ns = NBD_NEVER;

        if (slot->link.state != LINK_DOWN)
            slot_ns = cellar_nbd_link_deadline(&slot->link);
        else if (lack)
            slot_ns = slot->retry_ns;
        if (slot_ns < until_ns)
            until_ns = slot_ns;
    }
    if (until_ns == NBD_NEVER)
        return -1;
    left_ms = until_ns <= now_ns ? 0 : (until_ns - now_ns) / MILLISECOND_NS + 1;
    return left_ms < INT32_MAX ? (int)left_ms : INT32_MAX;
}

/* Waits for answers, for new commands, or until something is out of time. */
static void wait_for_events(struct nbd_engine *engine)
{
    struct pollfd polled[1 + CELLAR_NBD_CONNECTIONS_MAX];
    struct nbd_slot *slots[1 + CELLAR_NBD_CONNECTIONS_MAX];
    nfds_t count = 1;
    int64_t now_ns = cellar_nbd_now_ns();

    polled[0] = (struct pollfd){.fd = engine->wake_descriptor, .events = POLLIN};
    for (unsigned i = 0; i < engine->slot_count; i++) {
        struct nbd_link *link = &engine->slots[i].link;

        if (link->state == LINK_DOWN)
            continue;
        polled[count] = (struct pollfd){.fd = nbd_aio_get_fd(link->handle), .events = cellar_nbd_link_events(link)};
        slots[count++] = &engine->slots[i];
    }
    if (poll(polled, count, pause_ms(engine, now_ns)) <= 0)
        return;
    if (polled[0].revents != 0) {
        uint64_t wakes;

        if (read(engine->wake_descriptor, &wakes, sizeof wakes) < 0)
            wakes = 0; /* nothing to be read is no harm */
    }
    now_ns = cellar_nbd_now_ns();
    for (nfds_t i = 1; i < count; i++) {
        if (polled[i].revents != 0)
            proceed(engine, slots[i], polled[i].revents, now_ns);
    }
}

static void *run(void *user)
{
    struct nbd_engine *engine = user;
    bool any;

    while (take_in(engine, &any)) {
        int64_t now_ns = cellar_nbd_now_ns();

        do {
            tend_links(engine, now_ns);
            take_answers(engine);
            reconnect(engine, now_ns);
        } while (issue(engine, now_ns));
        finish(engine);
        if (!any)
            wait_for_events(engine);
    }
    return NULL;
}

int cellar_nbd_engine_init(struct nbd_engine *engine)
{
    int error;

    TAILQ_INIT(&engine->handed_in);
    TAILQ_INIT(&engine->waiting);
    TAILQ_INIT(&engine->finished);
    engine->give_up_ns = NBD_NEVER;
    for (unsigned i = 0; i < CELLAR_NBD_CONNECTIONS_MAX; i++) {
        cellar_nbd_link_init(&engine->slots[i].link, &engine->link_config);
        engine->slots[i].backoff_ns = BACKOFF_MIN_NS;
    }
    engine->wake_descriptor = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (engine->wake_descriptor < 0)
        return -errno;
    error = pthread_mutex_init(&engine->lock, NULL);
    if (error != 0)
        close(engine->wake_descriptor);
    return -error;
}

int cellar_nbd_engine_start(struct nbd_engine *engine)
{
    sigset_t all, before;
    int error;

    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    error = pthread_create(&engine->thread, NULL, run, engine);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return -error;
}

static void wake(struct nbd_engine *engine)
{
    uint64_t one = 1;

    if (write(engine->wake_descriptor, &one, sizeof one) < 0)
        return; /* the counter is full: it wakes all the same */
}

int cellar_nbd_engine_run(struct nbd_engine *engine, struct nbd_command *commands, unsigned count)
{
    struct nbd_call call = {.left = count};
    bool asleep;
    int error = pthread_cond_init(&call.done, NULL);

    if (error != 0)
        return -error;
    pthread_mutex_lock(&engine->lock);
    for (unsigned i = 0; i < count; i++) {
        commands[i].call = &call;
        TAILQ_INSERT_TAIL(&engine->handed_in, &commands[i], entry);
    }
    asleep = engine->asleep;
    engine->asleep = false;
    if (asleep) {
        pthread_mutex_unlock(&engine->lock);
        wake(engine);
        pthread_mutex_lock(&engine->lock);
    }
    while (call.left > 0)
        pthread_cond_wait(&call.done, &engine->lock);
    error = call.error;
    pthread_mutex_unlock(&engine->lock);
    pthread_cond_destroy(&call.done);
    return error;
}

void cellar_nbd_engine_stop(struct nbd_engine *engine)
{
    pthread_mutex_lock(&engine->lock);
    engine->stopping = true;
    pthread_mutex_unlock(&engine->lock);
    wake(engine);
    pthread_join(engine->thread, NULL);
}

void cellar_nbd_engine_end(struct nbd_engine *engine)
{
    for (unsigned i = 0; i < CELLAR_NBD_CONNECTIONS_MAX; i++) {
        if (engine->slots[i].link.state != LINK_DOWN)
            cellar_nbd_link_drop(&engine->slots[i].link, true, 0);
    }
    pthread_mutex_destroy(&engine->lock);
    close(engine->wake_descriptor);
}

void cellar_nbd_engine_forget(struct nbd_engine *engine)
{
    for (unsigned i = 0; i < CELLAR_NBD_CONNECTIONS_MAX; i++) {
        if (engine->slots[i].link.descriptor >= 0)
            close(engine->slots[i].link.descriptor);
    }
    close(engine->wake_descriptor);
}
