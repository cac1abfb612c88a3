#include "crew.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* One that works. */
union member {
    pthread_t thread;
    pid_t process; /* 0: gone */
};

struct crew {
    pthread_mutex_t mutex;
    pthread_cond_t called; /* a round has begun, or the end has come */
    pthread_cond_t done;   /* none is busy any more */
    int (*work)(void *context, unsigned number);
    void *context;
    unsigned round; /* counts up */
    unsigned busy;
    unsigned numbered; /* members that have taken their number */
    unsigned member_count;
    bool processes; /* then all of this lies in a shared mapping */
    size_t mapped_bytes;
    bool ended;
    int error;
    union member members[];
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

static void init_locks(struct crew *crew)
{
    int sharing = crew->processes ? PTHREAD_PROCESS_SHARED : PTHREAD_PROCESS_PRIVATE;
    pthread_mutexattr_t mutex;
    pthread_condattr_t condition;

    pthread_mutexattr_init(&mutex);
    pthread_mutexattr_setpshared(&mutex, sharing);
    pthread_mutex_init(&crew->mutex, &mutex);
    pthread_mutexattr_destroy(&mutex);
    pthread_condattr_init(&condition);
    pthread_condattr_setpshared(&condition, sharing);
    pthread_condattr_setclock(&condition, CLOCK_MONOTONIC);
    pthread_cond_init(&crew->called, &condition);
    pthread_cond_init(&crew->done, &condition);
    pthread_condattr_destroy(&condition);
}

int crew_open(unsigned thread_count, struct crew **ret_crew)
{
    struct crew *crew = calloc(1, sizeof *crew + thread_count * sizeof crew->members[0]);

    if (crew == NULL)
        return -ENOMEM;
    init_locks(crew);
    for (; crew->member_count < thread_count; crew->member_count++) {
        int error = pthread_create(&crew->members[crew->member_count].thread, NULL, serve, crew);

        if (error != 0) {
            crew_close(crew);
            return -error;
        }
    }
    *ret_crew = crew;
    return 0;
}

/* The life of a process of the crew. */
static void live(struct crew *crew, pid_t parent)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    signal(SIGINT, SIG_IGN);
    signal(SIGTERM, SIG_IGN);
    signal(SIGHUP, SIG_IGN);
    if (getppid() == parent)
        serve(crew);
    _exit(0);
}

int crew_open_processes(unsigned process_count, struct crew **ret_crew)
{
    size_t bytes = sizeof(struct crew) + process_count * sizeof(union member);
    void *mapped = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    struct crew *crew = mapped;
    pid_t parent = getpid();

    if (mapped == MAP_FAILED)
        return -errno;
    crew->processes = true;
    crew->mapped_bytes = bytes;
    init_locks(crew);
    for (; crew->member_count < process_count; crew->member_count++) {
        pid_t process = fork();

        if (process == 0)
            live(crew, parent);
        if (process < 0) {
            int error = -errno;

            crew_close(crew);
            return error;
        }
        crew->members[crew->member_count].process = process;
    }
    *ret_crew = crew;
    return 0;
}

/* Whether a process is gone that should work. */
static bool is_member_lost(struct crew *crew)
{
    bool lost = false;

    for (unsigned i = 0; crew->processes && i < crew->member_count; i++)
        if (crew->members[i].process != 0 && waitpid(crew->members[i].process, NULL, WNOHANG) != 0) {
            crew->members[i].process = 0;
            lost = true;
        }
    return lost;
}

int crew_run(struct crew *crew, int (*work)(void *context, unsigned number), void *context)
{
    int error;

    pthread_mutex_lock(&crew->mutex);
    crew->work = work;
    crew->context = context;
    crew->busy = crew->member_count;
    crew->error = 0;
    crew->round++;
    pthread_cond_broadcast(&crew->called);
    while (crew->busy > 0) {
        struct timespec until;

        clock_gettime(CLOCK_MONOTONIC, &until);
        until.tv_sec++;
        if (pthread_cond_timedwait(&crew->done, &crew->mutex, &until) == ETIMEDOUT && is_member_lost(crew)) {
            crew->error = -ECHILD;
            break;
        }
    }
    error = crew->error;
    pthread_mutex_unlock(&crew->mutex);
    return error;
}

void crew_close(struct crew *crew)
{
    bool processes;

    if (crew == NULL)
        return;
    processes = crew->processes;
    pthread_mutex_lock(&crew->mutex);
    crew->ended = true;
    pthread_cond_broadcast(&crew->called);
    pthread_mutex_unlock(&crew->mutex);
    for (unsigned i = 0; i < crew->member_count; i++)
        if (!processes)
            pthread_join(crew->members[i].thread, NULL);
        else if (crew->members[i].process != 0)
            waitpid(crew->members[i].process, NULL, 0);
    pthread_cond_destroy(&crew->done);
    pthread_cond_destroy(&crew->called);
    pthread_mutex_destroy(&crew->mutex);
    if (processes)
        munmap(crew, crew->mapped_bytes);
    else
        free(crew);
}
