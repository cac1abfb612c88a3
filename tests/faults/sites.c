/*
 * sites.c - the ways in which each call can fail.
 *
 * Of a system call: what its man page lists that can happen to correct arguments on a local file system, EINTR where
 * the page has it, and a transfer that comes short. hidden: retried or continued by the library, the caller must not
 * notice. EBADF, EFAULT and the like are no faults of the system but of the program.
 */
#include "plan.h"

#include <cellar/error.h>
#include <errno.h>

#define FAULTS_MAX 8

struct row {
    const char *name;
    struct fault faults[FAULTS_MAX];
};

#define FAIL(code)                                                                                                     \
    {                                                                                                                  \
        .error = (code)                                                                                                \
    }
#define AS(code, how)                                                                                                  \
    {                                                                                                                  \
        .error = (code), .manner = (how)                                                                               \
    }
#define HIDDEN(code)                                                                                                   \
    {                                                                                                                  \
        .error = (code), .hidden = true                                                                                \
    }
#define SHORTENED                                                                                                      \
    {                                                                                                                  \
        .manner = MANNER_SHORT, .hidden = true                                                                         \
    }

static const struct row rows[SITE_COUNT] = {
    [SITE_MALLOC] = {"malloc", {FAIL(ENOMEM)}},
    [SITE_CALLOC] = {"calloc", {FAIL(ENOMEM)}},
    [SITE_REALLOC] = {"realloc", {FAIL(ENOMEM)}},
    [SITE_ALIGNED] = {"posix_memalign", {FAIL(ENOMEM)}},
    [SITE_STRDUP] = {"strdup", {FAIL(ENOMEM)}},
    [SITE_ASPRINTF] = {"asprintf", {FAIL(ENOMEM)}},
    [SITE_REALPATH] = {"realpath", {FAIL(ENOMEM), FAIL(EACCES), FAIL(EIO), FAIL(ELOOP)}},
    [SITE_MUTEX_INIT] = {"pthread_mutex_init", {FAIL(ENOMEM), FAIL(EAGAIN)}},
    [SITE_THREAD] = {"pthread_create", {FAIL(EAGAIN)}},
    [SITE_RANDOM] = {"getrandom", {FAIL(EIO), FAIL(ENOSYS), HIDDEN(EINTR), SHORTENED}},
    [SITE_OPEN] = {"open",
                   {FAIL(EMFILE), FAIL(ENFILE), FAIL(EACCES), FAIL(EIO), FAIL(ENOMEM), FAIL(ENOSPC), FAIL(EDQUOT),
                    HIDDEN(EINTR)}},
    [SITE_FSTAT] = {"fstat", {FAIL(EIO), FAIL(ENOMEM)}},
    [SITE_STAT] = {"stat", {FAIL(EIO), FAIL(EACCES), FAIL(ENOMEM)}},
    [SITE_LSTAT] = {"lstat", {FAIL(EIO), FAIL(EACCES), FAIL(ENOMEM)}},
    [SITE_STATX] = {"statx", {FAIL(ENOSYS), FAIL(EIO), FAIL(ENOMEM)}},
    [SITE_FSTATFS] = {"fstatfs", {FAIL(EIO), FAIL(ENOSYS), FAIL(ENOMEM)}},
    [SITE_READ] = {"read", {FAIL(EIO), {.manner = MANNER_SHORT}, HIDDEN(EINTR)}}, /* of /proc: it is never short */
    [SITE_PREAD] = {"pread", {FAIL(EIO), HIDDEN(EINTR), SHORTENED}},
    [SITE_PWRITE] = {"pwrite", {FAIL(EIO), FAIL(ENOSPC), FAIL(EDQUOT), FAIL(EFBIG), HIDDEN(EINTR), SHORTENED}},
    [SITE_PWRITEV] = {"pwritev",
                      {FAIL(EIO), FAIL(ENOSPC), FAIL(EDQUOT), FAIL(EFBIG), AS(EIO, MANNER_TORN), HIDDEN(EINTR),
                       SHORTENED}},
    [SITE_PWRITEV2] = {"pwritev2",
                       {FAIL(EIO), FAIL(ENOSPC), AS(EIO, MANNER_AFTER), FAIL(EOPNOTSUPP), FAIL(ENOSYS), HIDDEN(EINTR),
                        SHORTENED}},
    [SITE_FSYNC] = {"fsync", {FAIL(EIO), FAIL(ENOSPC), FAIL(EDQUOT), FAIL(EINTR), FAIL(EROFS)}},
    [SITE_FDATASYNC] = {"fdatasync", {FAIL(EIO), FAIL(ENOSPC), FAIL(EDQUOT), FAIL(EINTR)}},
    [SITE_MSYNC] = {"msync", {FAIL(EIO), FAIL(ENOMEM), FAIL(ENOSPC)}},
    [SITE_FALLOCATE] = {"fallocate",
                        {FAIL(ENOSPC), FAIL(EIO), FAIL(EDQUOT), FAIL(EFBIG), FAIL(EOPNOTSUPP), FAIL(EPERM),
                         HIDDEN(EINTR)}},
    [SITE_FTRUNCATE] = {"ftruncate", {FAIL(EIO), FAIL(EFBIG), FAIL(EPERM), FAIL(EROFS), HIDDEN(EINTR)}},
    [SITE_FCNTL] = {"fcntl", {FAIL(EAGAIN), FAIL(EACCES), FAIL(ENOLCK), FAIL(EDEADLK), FAIL(ENOMEM), HIDDEN(EINTR)}},
    [SITE_RENAMEAT2] = {"renameat2",
                        {FAIL(EIO), FAIL(ENOSPC), FAIL(EACCES), FAIL(EINVAL), FAIL(ENOSYS), FAIL(EDQUOT), FAIL(EROFS)}},
    [SITE_RENAME] = {"rename", {FAIL(EIO), FAIL(ENOSPC), FAIL(EACCES)}},
    [SITE_LINK] = {"link", {FAIL(EIO), FAIL(EPERM), FAIL(EMLINK)}},
    [SITE_UNLINK] = {"unlink", {FAIL(EIO), FAIL(EBUSY), FAIL(EACCES)}},
    [SITE_FCHOWN] = {"fchown", {FAIL(EPERM), FAIL(EIO)}},
    [SITE_FCHMOD] = {"fchmod", {FAIL(EPERM), FAIL(EIO), FAIL(EROFS)}},
    [SITE_LSEEK] = {"lseek", {FAIL(EINVAL), FAIL(ENXIO), FAIL(EIO)}},
    [SITE_IOCTL] = {"ioctl", {FAIL(EIO), FAIL(ENOTTY)}},
    [SITE_MMAP] = {"mmap", {FAIL(ENOMEM), FAIL(EAGAIN), FAIL(ENODEV), FAIL(EPERM)}},
    [SITE_MUNMAP] = {"munmap", {AS(ENOMEM, MANNER_AFTER)}},
    [SITE_MADVISE] = {"madvise", {FAIL(EINVAL), FAIL(ENOMEM), FAIL(EAGAIN)}},
    [SITE_CLOSE] = {"close", {AS(EIO, MANNER_AFTER), AS(EINTR, MANNER_AFTER), AS(ENOSPC, MANNER_AFTER)}},
    [SITE_EVENTFD] = {"eventfd", {FAIL(EMFILE), FAIL(ENOMEM), FAIL(ENODEV)}},
    [SITE_EPOLL] = {"epoll", {FAIL(ENOMEM), FAIL(ENOSPC), FAIL(EMFILE)}},
    [SITE_RING_INIT] = {"io_uring_queue_init", {FAIL(ENOMEM), FAIL(EPERM), FAIL(ENOSYS), FAIL(EMFILE)}},
    [SITE_RING_SUBMIT] = {"io_uring_submit", {FAIL(EAGAIN), FAIL(EBUSY), HIDDEN(EINTR)}},
    [SITE_DEVICE_SIZE] = {"device size", {FAIL(EIO), FAIL(ENOMEM)}},
    [SITE_DEVICE_READ] = {"device read", {FAIL(EIO), FAIL(EAGAIN), FAIL(ENOMEM), HIDDEN(EINTR), SHORTENED}},
    [SITE_DEVICE_LOAD] = {"device load", {FAIL(EIO), FAIL(ENOMEM)}},
    [SITE_DEVICE_WRITE] = {"device write",
                           {FAIL(EIO), FAIL(ENOSPC), FAIL(EAGAIN), AS(EIO, MANNER_TORN),
                            AS(-CELLAR_EUNKNOWN, MANNER_AFTER), FAIL(ENOMEM), HIDDEN(EINTR), SHORTENED}},
    [SITE_DEVICE_WRITE_DURABLE] = {"device write_durable",
                                   {FAIL(EIO), AS(EIO, MANNER_TORN), AS(EIO, MANNER_LOST), AS(ENOSPC, MANNER_EVICTED),
                                    HIDDEN(ENOTSUP), HIDDEN(EINTR), SHORTENED}},
    [SITE_DEVICE_SYNC] = {"device sync",
                          {FAIL(EIO), AS(EIO, MANNER_LOST), AS(EIO, MANNER_EVICTED), AS(ENOSPC, MANNER_LOST),
                           AS(EDQUOT, MANNER_EVICTED), AS(EIO, MANNER_PARTLY), AS(EIO, MANNER_AFTER),
                           AS(EIO, MANNER_DIED)}},
    [SITE_DEVICE_GROW] = {"device grow",
                          {FAIL(ENOSPC), FAIL(EIO), FAIL(EFBIG), FAIL(EDQUOT), FAIL(ENOMEM), AS(EIO, MANNER_AFTER),
                           HIDDEN(EINTR)}},
    [SITE_DEVICE_TRIM] = {"device trim", {FAIL(EIO), FAIL(ENOSPC), HIDDEN(EINTR)}},
    [SITE_DEVICE_LOCK] = {"device lock", {FAIL(-CELLAR_EBUSY), FAIL(EIO), FAIL(ENOLCK), HIDDEN(EINTR)}},
    [SITE_DEVICE_UNLOCK] = {"device unlock", {FAIL(EIO), HIDDEN(EINTR)}},
    [SITE_DEVICE_WINDOW] = {"device window", {FAIL(-CELLAR_NONE), FAIL(ENOMEM), FAIL(EIO)}},
    [SITE_DEVICE_INCARNATION] = {"device incarnation", {FAIL(EIO), FAIL(ENOMEM)}},
};

const struct fault *site_faults(enum site site, unsigned *ret_count)
{
    const struct fault *faults = rows[site].faults;

    *ret_count = 0;
    while (*ret_count < FAULTS_MAX && (faults[*ret_count].error != 0 || faults[*ret_count].manner != MANNER_FAIL))
        (*ret_count)++;
    return faults;
}

const char *site_name(enum site site)
{
    return rows[site].name;
}

bool site_is_sync(enum site site)
{
    return site == SITE_FSYNC || site == SITE_FDATASYNC || site == SITE_MSYNC || site == SITE_PWRITEV2 ||
           site == SITE_DEVICE_SYNC || site == SITE_DEVICE_WRITE_DURABLE;
}

bool site_changes(enum site site)
{
    return site_is_sync(site) || site == SITE_PWRITE || site == SITE_PWRITEV || site == SITE_FALLOCATE ||
           site == SITE_FTRUNCATE || site == SITE_RENAME || site == SITE_RENAMEAT2 || site == SITE_LINK ||
           site == SITE_UNLINK || site == SITE_DEVICE_WRITE || site == SITE_DEVICE_GROW || site == SITE_DEVICE_TRIM;
}

bool site_tells_incarnation(enum site site)
{
    return site == SITE_OPEN || site == SITE_READ || site == SITE_STATX;
}

bool site_is_memory(enum site site)
{
    return site <= SITE_ASPRINTF || site == SITE_MUTEX_INIT;
}
