/* queue_threads.c - the pool of threads of a queue. */
#include "device/device.h"
#include "device/queue_internal.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>

/* Of each thread. A device's read and write are shallow: the deepest of the library gather 1024 parts, 16 KiB, on the
 * stack. */
enum { STACK_BYTES = 256 << 10 };

struct cellar_threads {
    void (*done)(void *user, struct cellar_request *request);
    void *user;
    unsigned count_max;

    pthread_mutex_t lock; /* for all below */
    pthread_cond_t given;
    bool closing;
    struct cellar_requests ready;
    unsigned idle; /* threads that run no request: they wait for one, or are about to look */
    unsigned count;
    pthread_t threads[];
};

int cellar_threads_open(unsigned count_max, void (*done)(void *user, struct cellar_request *request), void *user,
                        struct cellar_threads **ret_threads)
{
    struct cellar_threads *threads = calloc(1, sizeof *threads + count_max * sizeof threads->threads[0]);

    if (threads == NULL)
        return -ENOMEM;
    threads->done = done;
    threads->user = user;
    threads->count_max = count_max;
    pthread_mutex_init(&threads->lock, NULL);
    pthread_cond_init(&threads->given, NULL);
    *ret_threads = threads;
    return 0;
}

static int transfer(struct cellar_request *request)
{
    if (!request->begun) {
        int error = cellar_device_begin(request->device, request->writes, request->parts, request->part_count,
                                        request->offset, &request->total_bytes);

        if (error != 0)
            return error;
    }
    return cellar_device_finish(request->device, request->writes, request->parts, request->part_count, request->offset,
                                request->moved_bytes, request->total_bytes);
}

static void *run(void *user)
{
    struct cellar_threads *threads = user;
    struct cellar_request *request;

    pthread_mutex_lock(&threads->lock);
    for (;;) {
        while (threads->ready.count == 0 && !threads->closing)
            pthread_cond_wait(&threads->given, &threads->lock);
        request = cellar_requests_pop(&threads->ready);
        if (request == NULL)
            break;
        threads->idle--;
        pthread_mutex_unlock(&threads->lock);
        request->result = transfer(request);
        threads->done(threads->user, request);
        pthread_mutex_lock(&threads->lock);
        threads->idle++;
    }
    pthread_mutex_unlock(&threads->lock);
    return NULL;
}

/* A thread with a small stack; where the program's thread-local storage doesn't fit into that, with the usual one. */
static int create(struct cellar_threads *threads, pthread_t *ret_thread)
{
    pthread_attr_t attributes;
    int error = pthread_attr_init(&attributes);

    if (error != 0)
        return -error;
    pthread_attr_setstacksize(&attributes, STACK_BYTES);
    error = pthread_create(ret_thread, &attributes, run, threads);
    if (error == EINVAL)
        error = pthread_create(ret_thread, NULL, run, threads);
    pthread_attr_destroy(&attributes);
    return -error;
}

/* Starts threads until there are as many idle ones as there are requests, or as many as there may be. */
static int create_missing(struct cellar_threads *threads)
{
    sigset_t blocked, before;
    int error = 0;

    if (threads->ready.count <= threads->idle || threads->count == threads->count_max)
        return 0;
    sigfillset(&blocked);
    sigdelset(&blocked, SIGSEGV);
    sigdelset(&blocked, SIGBUS);
    sigdelset(&blocked, SIGFPE);
    sigdelset(&blocked, SIGILL);
    sigdelset(&blocked, SIGSYS);
    pthread_sigmask(SIG_SETMASK, &blocked, &before);
    while (error == 0 && threads->ready.count > threads->idle && threads->count < threads->count_max) {
        error = create(threads, &threads->threads[threads->count]);
        if (error == 0) {
            threads->count++;
            threads->idle++;
        }
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return error;
}

int cellar_threads_give(struct cellar_threads *threads, struct cellar_requests *requests)
{
    unsigned count = requests->count;
    int error;

    if (count == 0)
        return 0;
    pthread_mutex_lock(&threads->lock);
    cellar_requests_move(&threads->ready, requests);
    error = create_missing(threads);
    if (threads->count == 0)
        cellar_requests_move(requests, &threads->ready); /* nobody ever will; no others can be there */
    else
        error = 0; /* fewer threads do it, too */
    while (count-- > 0)
        pthread_cond_signal(&threads->given);
    pthread_mutex_unlock(&threads->lock);
    return error;
}

void cellar_threads_close(struct cellar_threads *threads)
{
    if (threads == NULL)
        return;
    pthread_mutex_lock(&threads->lock);
    threads->closing = true;
    pthread_cond_broadcast(&threads->given);
    pthread_mutex_unlock(&threads->lock);
    for (unsigned i = 0; i < threads->count; i++)
        pthread_join(threads->threads[i], NULL);
    pthread_cond_destroy(&threads->given);
    pthread_mutex_destroy(&threads->lock);
    free(threads);
}

void cellar_threads_forget(struct cellar_threads *threads)
{
    free(threads);
}
