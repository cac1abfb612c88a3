/* ahead_thread.c - the helper's thread: steps while there is something to do, sleep while there is not. */
#include "cell/ahead.h"

#include <errno.h>
#include <signal.h>

/* No step needs more: system calls, and the growing of a device. */
enum { STACK_BYTES = 256 << 10 };

static bool stops(const struct cellar_ahead *ahead)
{
    return atomic_load_explicit(&ahead->stops, memory_order_relaxed);
}

static void wait(struct cellar_ahead *ahead)
{
    while (sem_wait(&ahead->wake) != 0 && errno == EINTR)
        ;
}

/* The flag is raised before the helper looks for the last time, and the writer tells before it looks at the flag: one
 * of the two sees the other. Who takes the flag down posts, once. */
static void *run(void *user)
{
    struct cellar_ahead *ahead = user;

    while (!stops(ahead)) {
        if (cellar_ahead_step(ahead) == 0)
            continue;
        atomic_store(&ahead->sleeps, true);
        if ((stops(ahead) || cellar_ahead_is_due(ahead)) && atomic_exchange(&ahead->sleeps, false))
            continue;
        wait(ahead);
    }
    return NULL;
}

/* With a small stack; where the program's thread-local storage doesn't fit into that, with the usual one. */
static int create(struct cellar_ahead *ahead)
{
    pthread_attr_t attributes;
    int error = pthread_attr_init(&attributes);

    if (error != 0)
        return error;
    pthread_attr_setstacksize(&attributes, STACK_BYTES);
    error = pthread_create(&ahead->thread, &attributes, run, ahead);
    if (error == EINVAL)
        error = pthread_create(&ahead->thread, NULL, run, ahead);
    pthread_attr_destroy(&attributes);
    return error;
}

void cellar_ahead_start(struct cellar_ahead *ahead)
{
    int none = CELLAR_AHEAD_NO_THREAD, error;
    sigset_t blocked, before;

    if (atomic_load_explicit(&ahead->thread_state, memory_order_relaxed) != CELLAR_AHEAD_NO_THREAD ||
        !atomic_compare_exchange_strong(&ahead->thread_state, &none, CELLAR_AHEAD_STARTS))
        return;
    sigfillset(&blocked);
    sigdelset(&blocked, SIGSEGV);
    sigdelset(&blocked, SIGBUS);
    sigdelset(&blocked, SIGFPE);
    sigdelset(&blocked, SIGILL);
    sigdelset(&blocked, SIGSYS);
    pthread_sigmask(SIG_SETMASK, &blocked, &before);
    error = create(ahead);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    atomic_store(&ahead->thread_state, error == 0 ? CELLAR_AHEAD_RUNS : CELLAR_AHEAD_FAILED);
}

void cellar_ahead_rouse(struct cellar_ahead *ahead)
{
    if (atomic_load(&ahead->sleeps) && cellar_ahead_is_due(ahead) && atomic_exchange(&ahead->sleeps, false))
        sem_post(&ahead->wake);
}

void cellar_ahead_stop(struct cellar_ahead *ahead)
{
    if (atomic_load(&ahead->thread_state) != CELLAR_AHEAD_RUNS)
        return;
    atomic_store(&ahead->stops, true);
    if (atomic_exchange(&ahead->sleeps, false))
        sem_post(&ahead->wake);
    pthread_join(ahead->thread, NULL);
    atomic_store(&ahead->thread_state, CELLAR_AHEAD_NO_THREAD);
}
