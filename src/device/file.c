/* file.c - the descriptor under the devices on files of the system: open, transfers, growth, locks. */
#include "device/file.h"

#include "device/device.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
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

struct cellar_file *cellar_file_of(const struct cellar_device *device)
{
    return cellar_device_state(cellar_device_inner(device), cellar_file_close);
}

bool cellar_file_names_block_device(const char *path)
{
    struct stat status;

    return stat(path, &status) == 0 && S_ISBLK(status.st_mode);
}

static bool flags_are_valid(int flags)
{
    int known =
        CELLAR_OPEN_WRITE | CELLAR_OPEN_CREATE | CELLAR_OPEN_EXCLUSIVE | CELLAR_OPEN_RANDOM | CELLAR_FILE_NO_LINK;

    if ((flags & ~known) != 0)
        return false;
    if ((flags & CELLAR_OPEN_CREATE) != 0 && (flags & CELLAR_OPEN_WRITE) == 0)
        return false;
    return (flags & CELLAR_OPEN_EXCLUSIVE) == 0 || (flags & CELLAR_OPEN_CREATE) != 0;
}

/* Opens a file of that type (S_IFREG, S_IFBLK) and nothing else: O_NONBLOCK keeps a FIFO or a device from holding us
 * up. It goes again, because io_uring may take it for "never wait". */
static int open_typed(const char *path, int system_flags, unsigned mode, mode_t type, int *ret_fd)
{
    struct stat status;
    int no = 0, error = 0, fd;

    do
        fd = open(path, system_flags | O_NONBLOCK, (mode_t)mode);
    while (fd < 0 && errno == EINTR);
    if (fd < 0)
        return -errno;
    if (fstat(fd, &status) != 0)
        error = -errno;
    else if ((status.st_mode & S_IFMT) != type && type == S_IFBLK)
        error = -ENOTBLK;
    else if ((status.st_mode & S_IFMT) != type)
        error = S_ISDIR(status.st_mode) ? -EISDIR : -EINVAL;
    else if (ioctl(fd, FIONBIO, &no) != 0)
        error = -errno;
    if (error != 0) {
        close(fd);
        return error;
    }
    *ret_fd = fd;
    return 0;
}

static bool is_direct(enum cellar_file_kind kind)
{
    return kind == CELLAR_FILE_DIRECT || kind == CELLAR_FILE_BLOCK_DIRECT;
}

static mode_t type_of(enum cellar_file_kind kind)
{
    return kind == CELLAR_FILE_BLOCK || kind == CELLAR_FILE_BLOCK_DIRECT ? S_IFBLK : S_IFREG;
}

/* 0, or -ESTALE: they are two files. */
static int compare_files(int fd, int other_fd)
{
    struct stat a, b;

    if (fstat(fd, &a) != 0 || fstat(other_fd, &b) != 0)
        return -errno;
    return a.st_dev == b.st_dev && a.st_ino == b.st_ino ? 0 : -ESTALE;
}

/*
 * A second open file description of the same file. It is opened through /proc, where the descriptor names its file
 * whatever became of the path; without /proc by the path, which may name another file by now (-ESTALE).
 */
int cellar_file_open_again(const struct cellar_file *file, int more_flags, int *ret_fd)
{
    char name[sizeof "/proc/self/fd/" + 12];
    int error, fd, flags = open_flags(file->flags & CELLAR_OPEN_WRITE) | more_flags;

    snprintf(name, sizeof name, "/proc/self/fd/%d", file->fd);
    error = open_typed(name, flags, 0, type_of(file->kind), &fd);
    if (error != 0)
        error = open_typed(file->path, flags | ((file->flags & CELLAR_FILE_NO_LINK) != 0 ? O_NOFOLLOW : 0), 0,
                           type_of(file->kind), &fd);
    if (error != 0)
        return error == -ENOENT ? -ESTALE : error;
    error = compare_files(file->fd, fd);
    if (error != 0) {
        close(fd);
        return error;
    }
    *ret_fd = fd;
    return 0;
}

static const struct cellar_device_ops *table(enum cellar_file_kind kind, int flags)
{
    static const struct cellar_device_ops *const tables[CELLAR_FILE_KIND_COUNT][2] = {
        [CELLAR_FILE_PREAD] = {&cellar_pread_read_ops, &cellar_pread_ops},
        [CELLAR_FILE_MAPPED] = {&cellar_mapped_file_read_ops, &cellar_mapped_file_ops},
        [CELLAR_FILE_DIRECT] = {&cellar_direct_read_ops, &cellar_direct_ops},
        [CELLAR_FILE_BLOCK] = {&cellar_block_read_ops, &cellar_block_ops},
        [CELLAR_FILE_BLOCK_DIRECT] = {&cellar_block_direct_read_ops, &cellar_block_direct_ops},
    };

    return tables[kind][(flags & CELLAR_OPEN_WRITE) != 0];
}

/* What a file that is open needs for its kind. */
static int prepare(struct cellar_file *file)
{
    int error = 0;

    if (is_direct(file->kind)) {
        error = cellar_file_open_again(file, O_DIRECT, &file->direct_fd);
        if (error == 0)
            error = cellar_direct_probe(file);
    }
    if (error == 0 && type_of(file->kind) == S_IFBLK)
        error = cellar_block_probe(file);
    return error;
}

static struct cellar_file *new_file(const char *path, int flags, enum cellar_file_kind kind)
{
    struct cellar_file *file = calloc(1, sizeof *file);

    if (file == NULL)
        return NULL;
    *file = (struct cellar_file){.kind = kind, .fd = -1, .lock_fd = -1, .flags = flags, .direct_fd = -1};
    file->path = strdup(path);
    if (file->path == NULL || pthread_mutex_init(&file->loan_lock, NULL) != 0) {
        free(file->path);
        free(file);
        return NULL;
    }
    if (pthread_rwlock_init(&file->tail_lock, NULL) != 0) {
        pthread_mutex_destroy(&file->loan_lock);
        free(file->path);
        free(file);
        return NULL;
    }
    return file;
}

int cellar_file_open(const char *path, int flags, unsigned mode, enum cellar_file_kind kind,
                     struct cellar_device **ret_device)
{
    struct cellar_file *file;
    int error, fd;

    if (!flags_are_valid(flags))
        return -EINVAL;
    error = open_typed(path, open_flags(flags), mode, type_of(kind), &fd);
    if (error != 0)
        return error;
    file = new_file(path, flags, kind);
    if (file == NULL) {
        close(fd);
        error = -ENOMEM;
    } else {
        file->fd = fd;
        error = prepare(file);
        if (error != 0)
            cellar_file_close(file);
    }
    if (error != 0 && (flags & CELLAR_OPEN_EXCLUSIVE) != 0)
        unlink(path); /* nobody else made it */
    return error != 0 ? error : cellar_device_open(table(kind, flags), file, ret_device);
}

bool cellar_device_is_direct(const struct cellar_device *device)
{
    const struct cellar_file *file = cellar_file_of(device);

    return file != NULL && is_direct(file->kind);
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

int cellar_file_check_limit(const struct cellar_file *file, uint64_t end)
{
    struct rlimit limit;

    if (type_of(file->kind) == S_IFREG && getrlimit(RLIMIT_FSIZE, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY &&
        end > limit.rlim_cur)
        return -EFBIG;
    return 0;
}

ssize_t cellar_file_put(int fd, const struct iovec *parts, int part_count, uint64_t offset, bool durable)
{
    ssize_t put = durable ? pwritev2(fd, parts, part_count, (off_t)offset, RWF_DSYNC)
                          : pwritev(fd, parts, part_count, (off_t)offset);

    if (put < 0 && durable && errno == ENOSYS)
        return -ENOTSUP;
    return put < 0 ? -errno : put;
}

static ssize_t write_parts(const struct cellar_file *file, const struct iovec *parts, int part_count, uint64_t offset,
                           bool durable)
{
    uint64_t end = offset;
    int error;

    for (int i = 0; i < part_count; i++)
        end += parts[i].iov_len;
    error = cellar_file_check_limit(file, end);
    return error != 0 ? error : cellar_file_put(file->fd, parts, part_count, offset, durable);
}

ssize_t cellar_file_write(void *state, uint64_t token, const struct iovec *parts, int part_count, uint64_t offset)
{
    (void)token;
    return write_parts(state, parts, part_count, offset, false);
}

ssize_t cellar_file_write_durable(void *state, uint64_t token, const struct iovec *parts, int part_count,
                                  uint64_t offset)
{
    (void)token;
    return write_parts(state, parts, part_count, offset, true);
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
    static unsigned char zeros[4096]; /* never written; not const: the library's file needn't hold them */
    struct iovec parts[16];

    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++)
        parts[i] = (struct iovec){.iov_base = zeros, .iov_len = sizeof zeros};
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

int cellar_file_length(const struct cellar_device *device, uint64_t *ret_length_bytes)
{
    struct cellar_file *file = cellar_file_of(device);

    if (file == NULL || type_of(file->kind) != S_IFREG)
        return CELLAR_NONE;
    return cellar_file_size(file, ret_length_bytes);
}

int cellar_file_fill_holes(const struct cellar_device *device, uint64_t offset, uint64_t length_bytes)
{
    struct cellar_file *file = cellar_file_of(device);
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
    struct cellar_file *file = state;
    uint64_t old_size;
    int error = cellar_file_size(state, &old_size);

    (void)token;
    if (error == 0)
        error = cellar_file_check_limit(file, size_bytes);
    if (error != 0)
        return error;
    error = allocate_and_resize(file->fd, allocate_from, old_size, size_bytes);
    /* A file that is that long already may have got so by a process that died before its sync. */
    if (error == 0 && (size_bytes > old_size || size_bytes > file->durable_bytes))
        error = sync_size(file, old_size);
    if (error == 0 && size_bytes > file->durable_bytes)
        file->durable_bytes = size_bytes > old_size ? size_bytes : old_size;
    if (error != 0) /* a size that stays grown is harmless: who uses it syncs it */
        (void)!ftruncate(file->fd, (off_t)old_size);
    return error;
}

int cellar_file_trim(void *state, uint64_t token, uint64_t size_bytes)
{
    struct cellar_file *file = state;
    uint64_t length_bytes;
    int error = cellar_file_size(state, &length_bytes);

    (void)token;
    if (error != 0 || size_bytes >= length_bytes) /* a file that ends within its last block is shorter than its size */
        return error;
    if (file->durable_bytes > size_bytes)
        file->durable_bytes = size_bytes;
    return ftruncate(file->fd, (off_t)size_bytes) == 0 ? 0 : -errno;
}

/* An open file description of its own for locks: one that is mapped would keep its lock as long as the mapping lives.
 * */
static int open_lock_description(struct cellar_file *file)
{
    return file->lock_fd >= 0 ? 0 : cellar_file_open_again(file, 0, &file->lock_fd);
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

int cellar_file_descriptor(void *state, uint32_t *ret_align_bytes)
{
    const struct cellar_file *file = state;

    *ret_align_bytes = 1;
    return file->fd;
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
    pthread_rwlock_destroy(&file->tail_lock);
    if (file->lock_fd >= 0)
        close(file->lock_fd);
    if (file->direct_fd >= 0)
        close(file->direct_fd);
    if (close(file->fd) != 0 && error == 0 && errno != EINTR)
        error = -errno;
    free(file->path);
    free(file);
    return error;
}
