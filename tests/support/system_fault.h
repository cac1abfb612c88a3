/*
 * system_fault.h - stands between a test program and the C library: system calls that fail when they are told to.
 *
 * It DEFINES fsync, ftruncate and others, so it is included in one file of one program, which then has them in place of
 * the library's own. A call that no plan is made for goes on to the C library. For one thread.
 *
 *     system_fail(SYSTEM_FSYNC, 2, 1, EIO);      the second fsync from now fails
 *     system_before(SYSTEM_FSTAT, 1, hook);      hook runs before the next fstat
 *     system_heal();                             no more of either
 */
#ifndef CELLAR_TESTS_SYSTEM_FAULT_H
#define CELLAR_TESTS_SYSTEM_FAULT_H

#include "support.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/vfs.h>
#include <unistd.h>

enum system_call {
    SYSTEM_OPEN,
    SYSTEM_FSTAT,
    SYSTEM_FSTATFS,
    SYSTEM_PREAD,
    SYSTEM_PWRITE,
    SYSTEM_PWRITEV,
    SYSTEM_PWRITEV2,
    SYSTEM_FSYNC,
    SYSTEM_FDATASYNC,
    SYSTEM_MSYNC,
    SYSTEM_FALLOCATE,
    SYSTEM_FTRUNCATE,
    SYSTEM_FCNTL,
    SYSTEM_RENAMEAT2,
    SYSTEM_UNLINK,
    SYSTEM_FCHOWN,
    SYSTEM_FCHMOD,
    SYSTEM_MMAP,
    SYSTEM_MUNMAP, /* unmaps all the same */
    SYSTEM_CLOSE,  /* closes all the same */
    SYSTEM_CALL_COUNT,
};

struct system_plan {
    int fail_after, fail_count, error; /* calls to let through, then calls to fail */
    int hook_after;
    void (*hook)(void);
    int calls; /* since system_heal */
};

static struct system_plan system_plans[SYSTEM_CALL_COUNT];

/* What fstatfs says of every file; 0: the truth. */
static long system_kind;

static inline void system_fail(enum system_call call, int nth, int count, int error)
{
    system_plans[call].fail_after = nth - 1;
    system_plans[call].fail_count = count;
    system_plans[call].error = error;
}

static inline void system_before(enum system_call call, int nth, void (*hook)(void))
{
    system_plans[call].hook_after = nth - 1;
    system_plans[call].hook = hook;
}

static inline void system_heal(void)
{
    memset(system_plans, 0, sizeof system_plans);
    system_kind = 0;
}

static inline int system_calls(enum system_call call)
{
    return system_plans[call].calls;
}

/* Counts; true where the call shall fail, errno is set. */
static bool system_meets(enum system_call call)
{
    struct system_plan *plan = &system_plans[call];

    plan->calls++;
    if (plan->hook != NULL && plan->hook_after-- == 0) {
        void (*hook)(void) = plan->hook;

        plan->hook = NULL;
        hook();
    }
    if (plan->fail_count == 0)
        return false;
    if (plan->fail_after > 0) {
        plan->fail_after--;
        return false;
    }
    plan->fail_count--;
    errno = plan->error;
    return true;
}

/* Fills the function pointer at *ret_function with the C library's function of that name. */
static void system_find(const char *name, void *ret_function)
{
    void *symbol = dlsym(RTLD_NEXT, name);

    if (symbol == NULL)
        abort();
    memcpy(ret_function, &symbol, sizeof symbol);
}

/* With _FILE_OFFSET_BITS 64 the functions below are called by the names with 64 in the C library. */

int open(const char *path, int flags, ...)
{
    static int (*real)(const char *, int, ...);
    va_list arguments;
    mode_t mode = 0;

    if ((flags & (O_CREAT | O_TMPFILE)) != 0) {
        va_start(arguments, flags);
        mode = va_arg(arguments, mode_t);
        va_end(arguments);
    }
    if (system_meets(SYSTEM_OPEN))
        return -1;
    if (real == NULL)
        system_find("open64", &real);
    return real(path, flags, mode);
}

int fstat(int fd, struct stat *status)
{
    static int (*real)(int, struct stat *);

    if (system_meets(SYSTEM_FSTAT))
        return -1;
    if (real == NULL)
        system_find("fstat64", &real);
    return real(fd, status);
}

int fstatfs(int fd, struct statfs *status)
{
    static int (*real)(int, struct statfs *);
    int result;

    if (system_meets(SYSTEM_FSTATFS))
        return -1;
    if (real == NULL)
        system_find("fstatfs64", &real);
    result = real(fd, status);
    if (result == 0 && system_kind != 0)
        memcpy(&status->f_type, &system_kind, sizeof status->f_type);
    return result;
}

ssize_t pread(int fd, void *buffer, size_t length_bytes, off_t offset)
{
    static ssize_t (*real)(int, void *, size_t, off_t);

    if (system_meets(SYSTEM_PREAD))
        return -1;
    if (real == NULL)
        system_find("pread64", &real);
    return real(fd, buffer, length_bytes, offset);
}

ssize_t pwrite(int fd, const void *buffer, size_t length_bytes, off_t offset)
{
    static ssize_t (*real)(int, const void *, size_t, off_t);

    if (system_meets(SYSTEM_PWRITE))
        return -1;
    if (real == NULL)
        system_find("pwrite64", &real);
    return real(fd, buffer, length_bytes, offset);
}

ssize_t pwritev(int fd, const struct iovec *parts, int part_count, off_t offset)
{
    static ssize_t (*real)(int, const struct iovec *, int, off_t);

    if (system_meets(SYSTEM_PWRITEV))
        return -1;
    if (real == NULL)
        system_find("pwritev64", &real);
    return real(fd, parts, part_count, offset);
}

ssize_t pwritev2(int fd, const struct iovec *parts, int part_count, off_t offset, int flags)
{
    static ssize_t (*real)(int, const struct iovec *, int, off_t, int);

    if (system_meets(SYSTEM_PWRITEV2))
        return -1;
    if (real == NULL)
        system_find("pwritev64v2", &real);
    return real(fd, parts, part_count, offset, flags);
}

int fsync(int fd)
{
    static int (*real)(int);

    if (system_meets(SYSTEM_FSYNC))
        return -1;
    if (real == NULL)
        system_find("fsync", &real);
    return real(fd);
}

int fdatasync(int fd)
{
    static int (*real)(int);

    if (system_meets(SYSTEM_FDATASYNC))
        return -1;
    if (real == NULL)
        system_find("fdatasync", &real);
    return real(fd);
}

int msync(void *address, size_t length_bytes, int flags)
{
    static int (*real)(void *, size_t, int);

    if (system_meets(SYSTEM_MSYNC))
        return -1;
    if (real == NULL)
        system_find("msync", &real);
    return real(address, length_bytes, flags);
}

int fallocate(int fd, int mode, off_t offset, off_t length_bytes)
{
    static int (*real)(int, int, off_t, off_t);

    if (system_meets(SYSTEM_FALLOCATE))
        return -1;
    if (real == NULL)
        system_find("fallocate64", &real);
    return real(fd, mode, offset, length_bytes);
}

int ftruncate(int fd, off_t size_bytes)
{
    static int (*real)(int, off_t);

    if (system_meets(SYSTEM_FTRUNCATE))
        return -1;
    if (real == NULL)
        system_find("ftruncate64", &real);
    return real(fd, size_bytes);
}

/* Every command that the programs here use takes a pointer or an int; a pointer carries both. */
int fcntl(int fd, int command, ...)
{
    static int (*real)(int, int, ...);
    va_list arguments;
    void *argument;

    va_start(arguments, command);
    argument = va_arg(arguments, void *);
    va_end(arguments);
    if (system_meets(SYSTEM_FCNTL))
        return -1;
    if (real == NULL)
        system_find("fcntl64", &real);
    return real(fd, command, argument);
}

int renameat2(int from_folder, const char *from, int to_folder, const char *to, unsigned flags)
{
    static int (*real)(int, const char *, int, const char *, unsigned);

    if (system_meets(SYSTEM_RENAMEAT2))
        return -1;
    if (real == NULL)
        system_find("renameat2", &real);
    return real(from_folder, from, to_folder, to, flags);
}

int fchown(int fd, uid_t owner, gid_t group)
{
    static int (*real)(int, uid_t, gid_t);

    if (system_meets(SYSTEM_FCHOWN))
        return -1;
    if (real == NULL)
        system_find("fchown", &real);
    return real(fd, owner, group);
}

int fchmod(int fd, mode_t mode)
{
    static int (*real)(int, mode_t);

    if (system_meets(SYSTEM_FCHMOD))
        return -1;
    if (real == NULL)
        system_find("fchmod", &real);
    return real(fd, mode);
}

int unlink(const char *path)
{
    static int (*real)(const char *);

    if (system_meets(SYSTEM_UNLINK))
        return -1;
    if (real == NULL)
        system_find("unlink", &real);
    return real(path);
}

void *mmap(void *address, size_t length_bytes, int protection, int flags, int fd, off_t offset)
{
    static void *(*real)(void *, size_t, int, int, int, off_t);

    if (system_meets(SYSTEM_MMAP))
        return MAP_FAILED;
    if (real == NULL)
        system_find("mmap64", &real);
    return real(address, length_bytes, protection, flags, fd, offset);
}

int munmap(void *address, size_t length_bytes)
{
    static int (*real)(void *, size_t);
    int result;

    if (real == NULL)
        system_find("munmap", &real);
    result = real(address, length_bytes);
    return system_meets(SYSTEM_MUNMAP) ? -1 : result;
}

int close(int fd)
{
    static int (*real)(int);
    int result;

    if (real == NULL)
        system_find("close", &real);
    result = real(fd);
    return system_meets(SYSTEM_CLOSE) ? -1 : result;
}

#endif
