/*
 * wraps_memory.c - every allocation, mutex and thread of the program comes past here (--wrap, see CMakeLists.txt).
 *
 * What is allocated is counted, so that a run can tell to the piece what it has left behind.
 */
#include "wraps.h"

#include "plan.h"

#include <errno.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The names that the linker gives them. */
void *__real_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
void *__real_realloc(void *old, size_t size);
void __real_free(void *memory);
int __real_posix_memalign(void **ret_memory, size_t alignment, size_t size);
void *__real_aligned_alloc(size_t alignment, size_t size);
char *__real_strdup(const char *text);
char *__real_realpath(const char *path, char *resolved);
int __real_pthread_mutex_init(pthread_mutex_t *mutex, const pthread_mutexattr_t *attributes);
int __real_pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*run)(void *), void *user);
int __real_pthread_join(pthread_t thread, void **ret_result);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__wrap_realloc(void *old, size_t size);
void __wrap_free(void *memory);
int __wrap_posix_memalign(void **ret_memory, size_t alignment, size_t size);
void *__wrap_aligned_alloc(size_t alignment, size_t size);
char *__wrap_strdup(const char *text);
int __wrap_asprintf(char **ret_text, const char *format, ...) __attribute__((format(printf, 2, 3)));
char *__wrap_realpath(const char *path, char *resolved);
int __wrap_pthread_mutex_init(pthread_mutex_t *mutex, const pthread_mutexattr_t *attributes);
int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*run)(void *), void *user);
int __wrap_pthread_join(pthread_t thread, void **ret_result);

static atomic_long pieces, threads;

long wraps_pieces(void)
{
    return atomic_load(&pieces);
}

long wraps_threads(void)
{
    return atomic_load(&threads);
}

/* True where the call shall fail; errno is set. */
static bool meets(enum site site)
{
    const struct fault *fault = plan_meet(site);

    if (fault != NULL)
        errno = fault->error;
    return fault != NULL;
}

static void *counted(void *memory)
{
    atomic_fetch_add(&pieces, memory != NULL);
    return memory;
}

void *__wrap_malloc(size_t size)
{
    return meets(SITE_MALLOC) ? NULL : counted(__real_malloc(size));
}

void *__wrap_calloc(size_t count, size_t size)
{
    return meets(SITE_CALLOC) ? NULL : counted(__real_calloc(count, size));
}

void *__wrap_realloc(void *old, size_t size)
{
    void *memory;

    if (meets(SITE_REALLOC))
        return NULL;
    memory = __real_realloc(old, size);
    return old == NULL ? counted(memory) : memory;
}

void __wrap_free(void *memory)
{
    atomic_fetch_sub(&pieces, memory != NULL);
    __real_free(memory);
}

int __wrap_posix_memalign(void **ret_memory, size_t alignment, size_t size)
{
    int error = meets(SITE_ALIGNED) ? ENOMEM : __real_posix_memalign(ret_memory, alignment, size);

    if (error == 0)
        counted(*ret_memory);
    return error;
}

void *__wrap_aligned_alloc(size_t alignment, size_t size)
{
    return meets(SITE_ALIGNED) ? NULL : counted(__real_aligned_alloc(alignment, size));
}

char *__wrap_strdup(const char *text)
{
    return meets(SITE_STRDUP) ? NULL : counted(__real_strdup(text));
}

int __wrap_asprintf(char **ret_text, const char *format, ...)
{
    va_list arguments;
    int length;

    if (meets(SITE_ASPRINTF))
        return -1;
    va_start(arguments, format);
    length = vasprintf(ret_text, format, arguments);
    va_end(arguments);
    if (length >= 0)
        counted(*ret_text);
    return length;
}

char *__wrap_realpath(const char *path, char *resolved)
{
    char *result = meets(SITE_REALPATH) ? NULL : __real_realpath(path, resolved);

    return resolved == NULL ? counted(result) : result;
}

int __wrap_pthread_mutex_init(pthread_mutex_t *mutex, const pthread_mutexattr_t *attributes)
{
    const struct fault *fault = plan_meet(SITE_MUTEX_INIT);

    return fault != NULL ? fault->error : __real_pthread_mutex_init(mutex, attributes);
}

int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*run)(void *), void *user)
{
    const struct fault *fault = plan_meet(SITE_THREAD);
    int error = fault != NULL ? fault->error : __real_pthread_create(thread, attributes, run, user);

    atomic_fetch_add(&threads, error == 0);
    return error;
}

int __wrap_pthread_join(pthread_t thread, void **ret_result)
{
    int error = __real_pthread_join(thread, ret_result);

    atomic_fetch_sub(&threads, error == 0);
    return error;
}
