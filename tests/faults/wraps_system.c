/*
 * wraps_system.c - every system call that the library makes comes past here (--wrap, see CMakeLists.txt). With
 * _FILE_OFFSET_BITS 64 most have the names with 64.
 */
#include "wraps.h"

#include "plan.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/vfs.h>
#include <unistd.h>

static bool make_barriers;
static atomic_long mappings;

void wraps_make_barriers(bool on)
{
    make_barriers = on;
}

long wraps_mappings(void)
{
    return atomic_load(&mappings);
}

/* True where the call shall fail; errno is set. */
static bool meets(enum site site)
{
    const struct fault *fault = plan_meet(site);

    if (fault != NULL)
        errno = fault->error;
    return fault != NULL;
}

/* For calls that do their work in any case: what a fault makes of the result. */
static int after(enum site site, int result)
{
    return meets(site) ? -1 : result;
}

/* The names that the linker gives them; WRAP(type, name, (parameters)) declares both. */
#define WRAP(type, name, parameters)                                                                                   \
    type __real_##name parameters;                                                                                     \
    type __wrap_##name parameters;                                                                                     \
    type __wrap_##name parameters

WRAP(int, open64, (const char *path, int flags, ...))
{
    va_list arguments;
    mode_t mode = 0;

    if ((flags & (O_CREAT | O_TMPFILE)) != 0) {
        va_start(arguments, flags);
        mode = va_arg(arguments, mode_t);
        va_end(arguments);
    }
    return meets(SITE_OPEN) ? -1 : __real_open64(path, flags, mode);
}

WRAP(int, fstat64, (int fd, struct stat *status))
{
    return meets(SITE_FSTAT) ? -1 : __real_fstat64(fd, status);
}

WRAP(int, stat64, (const char *path, struct stat *status))
{
    return meets(SITE_STAT) ? -1 : __real_stat64(path, status);
}

WRAP(int, lstat64, (const char *path, struct stat *status))
{
    return meets(SITE_LSTAT) ? -1 : __real_lstat64(path, status);
}

WRAP(int, statx, (int folder, const char *path, int flags, unsigned mask, struct statx *status))
{
    return meets(SITE_STATX) ? -1 : __real_statx(folder, path, flags, mask, status);
}

WRAP(int, fstatfs64, (int fd, struct statfs *status))
{
    return meets(SITE_FSTATFS) ? -1 : __real_fstatfs64(fd, status);
}

/* A length cut to a part of a block: half of it, at least one byte. */
static size_t shortened(size_t length_bytes)
{
    return length_bytes > 1 ? length_bytes / 2 : length_bytes;
}

WRAP(ssize_t, read, (int fd, void *buffer, size_t length_bytes))
{
    const struct fault *fault = plan_meet(SITE_READ);

    if (fault != NULL && fault->manner == MANNER_FAIL) {
        errno = fault->error;
        return -1;
    }
    return __real_read(fd, buffer, fault != NULL ? length_bytes / 2 : length_bytes);
}

WRAP(ssize_t, pread64, (int fd, void *buffer, size_t length_bytes, off_t offset))
{
    const struct fault *fault = plan_meet(SITE_PREAD);

    if (fault != NULL && fault->manner == MANNER_FAIL) {
        errno = fault->error;
        return -1;
    }
    /* By O_DIRECT only whole blocks can be read at all. */
    if (fault != NULL && (fcntl(fd, F_GETFL) & O_DIRECT) == 0)
        length_bytes = shortened(length_bytes);
    return __real_pread64(fd, buffer, length_bytes, offset);
}

WRAP(ssize_t, pwrite64, (int fd, const void *buffer, size_t length_bytes, off_t offset))
{
    const struct fault *fault = plan_meet(SITE_PWRITE);

    if (fault != NULL && fault->manner == MANNER_FAIL) {
        errno = fault->error;
        return -1;
    }
    if (fault != NULL && (fcntl(fd, F_GETFL) & O_DIRECT) == 0)
        length_bytes = shortened(length_bytes);
    return __real_pwrite64(fd, buffer, length_bytes, offset);
}

/* The first part alone, or a half of it. */
static ssize_t put_some(int fd, const struct iovec *parts, int part_count, off_t offset)
{
    if ((fcntl(fd, F_GETFL) & O_DIRECT) != 0)
        return __real_pwrite64(fd, parts[0].iov_base, parts[0].iov_len, offset);
    return __real_pwrite64(fd, parts[0].iov_base, part_count > 1 ? parts[0].iov_len : shortened(parts[0].iov_len),
                           offset);
}

WRAP(ssize_t, pwritev64, (int fd, const struct iovec *parts, int part_count, off_t offset))
{
    const struct fault *fault = plan_meet(SITE_PWRITEV);
    ssize_t put;

    if (fault == NULL)
        return __real_pwritev64(fd, parts, part_count, offset);
    if (fault->manner == MANNER_SHORT)
        return put_some(fd, parts, part_count, offset);
    put = fault->manner == MANNER_TORN ? put_some(fd, parts, part_count, offset) : 0;
    (void)put;
    errno = fault->error;
    return -1;
}

WRAP(ssize_t, pwritev64v2, (int fd, const struct iovec *parts, int part_count, off_t offset, int flags))
{
    const struct fault *fault = plan_meet(SITE_PWRITEV2);

    if (!make_barriers)
        flags &= ~RWF_DSYNC;
    if (fault == NULL)
        return __real_pwritev64v2(fd, parts, part_count, offset, flags);
    if (fault->manner == MANNER_SHORT)
        return put_some(fd, parts, part_count, offset);
    if (fault->manner == MANNER_AFTER)
        (void)!__real_pwritev64v2(fd, parts, part_count, offset, flags);
    errno = fault->error;
    return -1;
}

WRAP(int, fsync, (int fd))
{
    if (meets(SITE_FSYNC))
        return -1;
    return make_barriers ? __real_fsync(fd) : 0;
}

WRAP(int, fdatasync, (int fd))
{
    if (meets(SITE_FDATASYNC))
        return -1;
    return make_barriers ? __real_fdatasync(fd) : 0;
}

WRAP(int, msync, (void *address, size_t length_bytes, int flags))
{
    if (meets(SITE_MSYNC))
        return -1;
    return make_barriers ? __real_msync(address, length_bytes, flags) : 0;
}

WRAP(int, fallocate64, (int fd, int mode, off_t offset, off_t length_bytes))
{
    return meets(SITE_FALLOCATE) ? -1 : __real_fallocate64(fd, mode, offset, length_bytes);
}

WRAP(int, ftruncate64, (int fd, off_t size_bytes))
{
    return meets(SITE_FTRUNCATE) ? -1 : __real_ftruncate64(fd, size_bytes);
}

/* Every command that the programs here use takes a pointer, an int or nothing; a pointer carries all. */
WRAP(int, fcntl64, (int fd, int command, ...))
{
    va_list arguments;
    void *argument;

    va_start(arguments, command);
    argument = va_arg(arguments, void *);
    va_end(arguments);
    if (command != F_GETFL && meets(SITE_FCNTL))
        return -1;
    return __real_fcntl64(fd, command, argument);
}

WRAP(int, renameat2, (int from_folder, const char *from, int to_folder, const char *to, unsigned flags))
{
    return meets(SITE_RENAMEAT2) ? -1 : __real_renameat2(from_folder, from, to_folder, to, flags);
}

WRAP(int, rename, (const char *from, const char *to))
{
    return meets(SITE_RENAME) ? -1 : __real_rename(from, to);
}

WRAP(int, link, (const char *from, const char *to))
{
    return meets(SITE_LINK) ? -1 : __real_link(from, to);
}

WRAP(int, unlink, (const char *path))
{
    return meets(SITE_UNLINK) ? -1 : __real_unlink(path);
}

WRAP(int, fchown, (int fd, uid_t owner, gid_t group))
{
    return meets(SITE_FCHOWN) ? -1 : __real_fchown(fd, owner, group);
}

WRAP(int, fchmod, (int fd, mode_t mode))
{
    return meets(SITE_FCHMOD) ? -1 : __real_fchmod(fd, mode);
}

WRAP(off_t, lseek64, (int fd, off_t offset, int from))
{
    return meets(SITE_LSEEK) ? -1 : __real_lseek64(fd, offset, from);
}

WRAP(int, ioctl, (int fd, unsigned long request, ...))
{
    va_list arguments;
    void *argument;

    va_start(arguments, request);
    argument = va_arg(arguments, void *);
    va_end(arguments);
    return meets(SITE_IOCTL) ? -1 : __real_ioctl(fd, request, argument);
}

WRAP(void *, mmap64, (void *address, size_t length_bytes, int protection, int flags, int fd, off_t offset))
{
    void *base;

    if (meets(SITE_MMAP))
        return MAP_FAILED;
    base = __real_mmap64(address, length_bytes, protection, flags, fd, offset);
    atomic_fetch_add(&mappings, base != MAP_FAILED);
    return base;
}

WRAP(int, munmap, (void *address, size_t length_bytes))
{
    int result = __real_munmap(address, length_bytes);

    atomic_fetch_sub(&mappings, result == 0);
    return after(SITE_MUNMAP, result);
}

WRAP(int, madvise, (void *address, size_t length_bytes, int advice))
{
    return meets(SITE_MADVISE) ? -1 : __real_madvise(address, length_bytes, advice);
}

WRAP(int, close, (int fd))
{
    return after(SITE_CLOSE, __real_close(fd));
}

WRAP(ssize_t, getrandom, (void *buffer, size_t length_bytes, unsigned flags))
{
    const struct fault *fault = plan_meet(SITE_RANDOM);

    if (fault != NULL && fault->manner == MANNER_FAIL) {
        errno = fault->error;
        return -1;
    }
    return __real_getrandom(buffer, fault != NULL ? shortened(length_bytes) : length_bytes, flags);
}

WRAP(int, eventfd, (unsigned count, int flags))
{
    return meets(SITE_EVENTFD) ? -1 : __real_eventfd(count, flags);
}

WRAP(int, epoll_create1, (int flags))
{
    return meets(SITE_EPOLL) ? -1 : __real_epoll_create1(flags);
}

WRAP(int, epoll_ctl, (int epoll, int operation, int fd, struct epoll_event *event))
{
    return meets(SITE_EPOLL) ? -1 : __real_epoll_ctl(epoll, operation, fd, event);
}
