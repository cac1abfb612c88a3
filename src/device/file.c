/* file.c - the descriptor under the file and pread devices: open, transfers, growth, locks. */
#include "device/file.h"

#include "device/device.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

/* Where the writer's lock lies: far past every file, so that no lock of somebody else's is met. */
static const off_t WRITER_LOCK_AT = (off_t)1 << 62;

/* The original locks these bytes around every access to the slots. */
enum { HEADER_LOCK_BYTES = 256 };

static int open_flags(int flags)
{
    int result = O_CLOEXEC | O_NOCTTY;

    result |= (flags & CELLAR_OPEN_WRITE) != 0 ? O_RDWR : O_RDONLY;
    if ((flags & CELLAR_OPEN_CREATE) != 0)
        result |= O_CREAT;
    if ((flags & CELLAR_OPEN_EXCLUSIVE) != 0)
        result |= O_EXCL;
    if ((flags & CELLAR_FILE_NO_LINK) != 0)
        result |= O_NOFOLLOW;
    return result;
}

static bool flags_are_valid(int flags)
{
    int known = CELLAR_OPEN_WRITE | CELLAR_OPEN_CREATE | CELLAR_OPEN_EXCLUSIVE | CELLAR_FILE_NO_LINK;

    if ((flags & ~known) != 0)
        return false;
    if ((flags & CELLAR_OPEN_CREATE) != 0 && (flags & CELLAR_OPEN_WRITE) == 0)
        return false;
    return (flags & CELLAR_OPEN_EXCLUSIVE) == 0 || (flags & CELLAR_OPEN_CREATE) != 0;
}

/* Opens a regular file and nothing else: O_NONBLOCK keeps a FIFO or a device from holding us up. */
static int open_regular(const char *path, int flags, unsigned mode, int *ret_fd)
{
    struct stat status;
    int error, fd = open(path, open_flags(flags) | O_NONBLOCK, (mode_t)mode);

    if (fd < 0)
        return -errno;
    if (fstat(fd, &status) != 0)
        error = -errno;
    else if (!S_ISREG(status.st_mode))
        error = S_ISDIR(status.st_mode) ? -EISDIR : -EINVAL;
    else
        error = 0;
    if (error != 0) {
        close(fd);
        return error;
    }
    *ret_fd = fd;
    return 0;
}

static const struct cellar_device_ops *table(bool mapped, int flags)
{
    bool writable = (flags & CELLAR_OPEN_WRITE) != 0;

    if (mapped)
        return writable ? &cellar_mapped_file_ops : &cellar_mapped_file_read_ops;
    return writable ? &cellar_pread_ops : &cellar_pread_read_ops;
}

int cellar_file_open(const char *path, int flags, unsigned mode, bool mapped, struct cellar_device **ret_device)
{
    struct cellar_file *file;
    int error, fd = -1;

    if (!flags_are_valid(flags))
        return -EINVAL;
    error = open_regular(path, flags, mode, &fd);
    if (error != 0)
        return error;
    file = calloc(1, sizeof *file);
    if (file != NULL)
        file->path = strdup(path);
    if (file == NULL || file->path == NULL) {
        close(fd);
        free(file);
        return -ENOMEM;
    }
    if (pthread_mutex_init(&file->loan_lock, NULL) != 0) {
        close(fd);
        free(file->path);
        free(file);
        return -ENOMEM;
    }
    file->fd = fd;
    file->lock_fd = -1;
    file->flags = flags;
    return cellar_device_open(table(mapped, flags), file, ret_device);
}

int cellar_file_size(void *state, uint64_t *ret_size_bytes)
{
    const struct cellar_file *file = state;
    struct stat status;

    if (fstat(file->fd, &status) != 0)
        return -errno;
    *ret_size_bytes = (uint64_t)status.st_size;
    return 0;
}

ssize_t cellar_file_read(void *state, void *buffer, size_t length_bytes, uint64_t offset)
{
    const struct cellar_file *file = state;
    ssize_t got = pread(file->fd, buffer, length_bytes, (off_t)offset);

    return got < 0 ? -errno : got;
}

/* -EFBIG where end lies beyond RLIMIT_FSIZE: to write there would be a SIGXFSZ. */
static int check_size_limit(uint64_t end)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_FSIZE, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY && end > limit.rlim_cur)
        return -EFBIG;
    return 0;
}

ssize_t cellar_file_write(void *state, uint64_t token, const struct iovec *parts, int part_count, uint64_t offset)
{
    const struct cellar_file *file = state;
    uint64_t end = offset;
    ssize_t put;
    int error;

    (void)token;
    for (int i = 0; i < part_count; i++)
        end += parts[i].iov_len;
    error = check_size_limit(end);
    if (error != 0)
        return error;
    put = pwritev(file->fd, parts, part_count, (off_t)offset);
    return put < 0 ? -errno : put;
}

int cellar_file_fdatasync(void *state, uint64_t token, uint64_t offset, uint64_t length_bytes)
{
    const struct cellar_file *file = state;

    (void)token;
    (void)offset;
    (void)length_bytes;
    return fdatasync(file->fd) == 0 ? 0 : -errno;
}

/* Zeros over [offset, end): what allocates where fallocate does not exist. */
static int write_zeros(int fd, uint64_t offset, uint64_t end)
{
    static const unsigned char zeros[4096];
    struct iovec parts[16];

    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++)
        parts[i] = (struct iovec){.iov_base = (void *)(uintptr_t)zeros, .iov_len = sizeof zeros};
    while (offset < end) {
        uint64_t left = end - offset;
        bool whole = left >= sizeof zeros; /* so many whole pages as fit, else the rest */
        int count = left / sizeof zeros < 16 ? (int)(left / sizeof zeros) : 16;
        ssize_t put = whole ? pwritev(fd, parts, count, (off_t)offset) : pwrite(fd, zeros, (size_t)left, (off_t)offset);

        if (put < 0 && errno != EINTR)
            return -errno;
        if (put > 0)
            offset += (uint64_t)put;
    }
    return 0;
}

/* fallocate that never changes the size, in slices: one that a signal interrupts has not to begin anew. */
static int allocate(int fd, uint64_t from, uint64_t end)
{
    const uint64_t slice_bytes = 64 << 20;

    while (from < end) {
        uint64_t step = end - from < slice_bytes ? end - from : slice_bytes;

        if (fallocate(fd, FALLOC_FL_KEEP_SIZE, (off_t)from, (off_t)step) == 0)
            from += step;
        else if (errno != EINTR)
            return -errno;
    }
    return 0;
}

/*
 * The blocks first, the size after: the size changes in one step, so a crash never leaves a file that is no whole
 * number of cells. (fallocate without KEEP_SIZE moves the size as it goes.)
 */
static int allocate_and_resize(int fd, uint64_t from, uint64_t old_size, uint64_t size_bytes)
{
    int error = allocate(fd, from, size_bytes);

    if (error != 0 && error != -EOPNOTSUPP && error != -ENOSYS)
        return error;
    if (size_bytes > old_size && ftruncate(fd, (off_t)size_bytes) != 0)
        return -errno;
    return error == 0 ? 0 : write_zeros(fd, from, size_bytes);
}

int cellar_file_fill_holes(const struct cellar_device *device, uint64_t offset, uint64_t length_bytes)
{
    struct cellar_file *file = cellar_device_state(device, cellar_file_close);
    uint64_t size_bytes, end;
    off_t hole;
    int error;

    if (file == NULL)
        return -ENOTSUP;
    error = cellar_file_size(file, &size_bytes);
    if (error != 0)
        return error;
    if (offset >= size_bytes)
        return 0;
    end = length_bytes < size_bytes - offset ? offset + length_bytes : size_bytes;
    hole = lseek(file->fd, (off_t)offset, SEEK_HOLE);
    if (hole >= 0 && (uint64_t)hole >= end)
        return 0;
    return allocate(file->fd, offset, end);
}

/*
 * Makes the size durable, not the cells: msync of one page commits the inode without writing the rest of the file first
 * (Linux: msync is fsync of a range); an fsync of the whole file would make growing as slow as the disk. A failure may
 * be about cells written before, so "disk full" must not be taken for a growth that just didn't happen: it becomes EIO.
 */
static int sync_size(const struct cellar_file *file, uint64_t old_size)
{
    bool mapped = file->window != NULL && old_size > 0;

    if ((mapped ? msync(file->window, 1, MS_SYNC) : fsync(file->fd)) == 0)
        return 0;
    return errno == ENOSPC || errno == EDQUOT || errno == ENOMEM || errno == EFBIG ? -EIO : -errno;
}

int cellar_file_grow(void *state, uint64_t token, uint64_t allocate_from, uint64_t size_bytes)
{
    const struct cellar_file *file = state;
    uint64_t old_size;
    int error = cellar_file_size(state, &old_size);

    (void)token;
    if (error == 0)
        error = check_size_limit(size_bytes);
    if (error != 0)
        return error;
    error = allocate_and_resize(file->fd, allocate_from, old_size, size_bytes);
    if (error == 0 && size_bytes > old_size)
        error = sync_size(file, old_size);
    if (error != 0) /* a size that stays grown is harmless: cells are only used once they are allocated */
        (void)!ftruncate(file->fd, (off_t)old_size);
    return error;
}

int cellar_file_trim(void *state, uint64_t token, uint64_t size_bytes)
{
    const struct cellar_file *file = state;

    (void)token;
    return ftruncate(file->fd, (off_t)size_bytes) == 0 ? 0 : -errno;
}

static bool same_file(int fd, int other_fd)
{
    struct stat a, b;

    return fstat(fd, &a) == 0 && fstat(other_fd, &b) == 0 && a.st_dev == b.st_dev && a.st_ino == b.st_ino;
}

/*
 * An open file description of its own for locks: one that is mapped would keep its lock as long as the mapping lives.
 * It is opened through /proc, where the descriptor names its file whatever became of the path; without /proc by the
 * path, which may name another file by now (-ESTALE).
 */
static int open_lock_description(struct cellar_file *file)
{
    char name[sizeof "/proc/self/fd/" + 12];
    int error;

    if (file->lock_fd >= 0)
        return 0;
    snprintf(name, sizeof name, "/proc/self/fd/%d", file->fd);
    error = open_regular(name, file->flags & CELLAR_OPEN_WRITE, 0, &file->lock_fd);
    if (error != 0)
        error = open_regular(file->path, file->flags & (CELLAR_OPEN_WRITE | CELLAR_FILE_NO_LINK), 0, &file->lock_fd);
    if (error != 0)
        return error == -ENOENT ? -ESTALE : error;
    if (!same_file(file->fd, file->lock_fd)) {
        close(file->lock_fd);
        file->lock_fd = -1;
        return -ESTALE;
    }
    return 0;
}

/* What a lock of the contract is in the file. */
static struct flock range_of(enum cellar_device_lock lock, short type)
{
    bool writer = lock == CELLAR_LOCK_WRITER;

    return (struct flock){.l_type = type,
                          .l_whence = SEEK_SET,
                          .l_start = writer ? WRITER_LOCK_AT : 0,
                          .l_len = writer ? 1 : HEADER_LOCK_BYTES};
}

int cellar_file_lock(void *state, enum cellar_device_lock lock, uint64_t *ret_token)
{
    struct cellar_file *file = state;
    struct flock range = range_of(lock, lock == CELLAR_LOCK_HEADER_SHARED ? F_RDLCK : F_WRLCK);
    int error = open_lock_description(file);

    if (error != 0)
        return error;
    if (fcntl(file->lock_fd, lock == CELLAR_LOCK_WRITER ? F_OFD_SETLK : F_OFD_SETLKW, &range) == 0) {
        *ret_token = 1;
        return 0;
    }
    return errno == EAGAIN || errno == EACCES ? CELLAR_EBUSY : -errno;
}

int cellar_file_unlock(void *state, enum cellar_device_lock lock, uint64_t token)
{
    const struct cellar_file *file = state;
    struct flock range = range_of(lock, F_UNLCK);

    (void)token;
    if (file->lock_fd < 0)
        return 0;
    return fcntl(file->lock_fd, F_OFD_SETLK, &range) == 0 ? 0 : -errno;
}

/* In a child: its copy of the descriptor goes, the lock of the parent's description stays. */
void cellar_file_forget(void *state)
{
    struct cellar_file *file = state;

    if (file->lock_fd >= 0)
        close(file->lock_fd);
    file->lock_fd = -1;
}

int cellar_file_close(void *state)
{
    struct cellar_file *file = state;
    int error = 0;

    if (file->window != NULL && munmap(file->window, file->window_bytes) != 0)
        error = -errno;
    if (file->loan != NULL)
        munmap(file->loan, file->loan_bytes);
    pthread_mutex_destroy(&file->loan_lock);
    if (file->lock_fd >= 0)
        close(file->lock_fd);
    if (close(file->fd) != 0 && error == 0 && errno != EINTR)
        error = -errno;
    free(file->path);
    free(file);
    return error;
}
