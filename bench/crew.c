#include "crew.h"

#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>

struct crew {
    pthread_mutex_t mutex;
    pthread_cond_t called; /* a round has begun, or the end has come */
    pthread_cond_t done;   /* none is busy any more */
    int (*work)(void *context, unsigned thread);
    void *context;
    unsigned round; /* counts up */
    unsigned busy;
    unsigned numbered; /* threads that have taken their number */
    unsigned thread_count;
    bool ended;
    int error;
    pthread_t threads[];
};

static void *serve(void *state)
{
    struct crew *crew = state;
    unsigned round = 0;
    unsigned number;

    pthread_mutex_lock(&crew->mutex);
    number = crew->numbered++;
    for (;;) {
        int error;

        while (crew->round == round && !crew->ended)
            pthread_cond_wait(&crew->called, &crew->mutex);
        if (crew->ended)
            break;
        round = crew->round;
        pthread_mutex_unlock(&crew->mutex);
        error = crew->work(crew->context, number);
        pthread_mutex_lock(&crew->mutex);
        if (error != 0)
            crew->error = error;
        if (--crew->busy == 0)
            pthread_cond_signal(&crew->done);
    }
    pthread_mutex_unlock(&crew->mutex);
    return NULL;
}

int crew_open(unsigned thread_count, struct crew **ret_crew)
{
    struct crew *crew = calloc(1, sizeof *crew + thread_count * sizeof crew->threads[0]);

    if (crew == NULL)
        return -ENOMEM;
    pthread_mutex_init(&crew->mutex, NULL);
    pthread_cond_init(&crew->called, NULL);
    pthread_cond_init(&crew->done, NULL);
    for (; crew->thread_count < thread_count; crew->thread_count++) {
        int error = pthread_create(&crew->threads[crew->thread_count], NULL, serve, crew);

        if (error != 0) {
            crew_close(crew);
            return -error;
        }
    }
    *ret_crew = crew;
    return 0;
}

int crew_run(struct crew *crew, int (*work)(void *context, unsigned thread), void *context)
{
    int error;

    pthread_mutex_lock(&crew->mutex);
    crew->work = work;
    crew->context = context;
    crew->busy = crew->thread_count;
    crew->error = 0;
    crew->round++;
    pthread_cond_broadcast(&crew->called);
    while (crew->busy > 0)
        pthread_cond_wait(&crew->done, &crew->mutex);
    error = crew->error;
    pthread_mutex_unlock(&crew->mutex);
    return error;
}

void crew_close(struct crew *crew)
{
    if (crew == NULL)
        return;
    pthread_mutex_lock(&crew->mutex);
    crew->ended = true;
    pthread_cond_broadcast(&crew->called);
    pthread_mutex_unlock(&crew->mutex);
    for (unsigned i = 0; i < crew->thread_count; i++)
        pthread_join(crew->threads[i], NULL);
    pthread_cond_destroy(&crew->done);
    pthread_cond_destroy(&crew->called);
    pthread_mutex_destroy(&crew->mutex);
    free(crew);
}
