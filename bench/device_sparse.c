#include "device_sparse.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

struct sparse {
    int fd;
    void *window; /* NULL: none was asked for */
    uint64_t window_bytes;
};

static int sparse_size(void *state, uint64_t *ret_size_bytes)
{
    const struct sparse *sparse = state;
    struct stat status;

    if (fstat(sparse->fd, &status) < 0)
        return -errno;
    *ret_size_bytes = (uint64_t)status.st_size;
    return 0;
}

static ssize_t sparse_read(void *state, void *buffer, size_t length_bytes, uint64_t offset)
{
    const struct sparse *sparse = state;
    ssize_t done = pread(sparse->fd, buffer, length_bytes, (off_t)offset);

    return done < 0 ? -errno : done;
}

static ssize_t sparse_write(void *state, uint64_t token, const struct iovec *parts, int part_count, uint64_t offset)
{
    const struct sparse *sparse = state;
    ssize_t done = pwritev(sparse->fd, parts, part_count, (off_t)offset);

    (void)token;
    return done < 0 ? -errno : done;
}

static int sparse_sync(void *state, uint64_t token, uint64_t offset, uint64_t length_bytes)
{
    const struct sparse *sparse = state;

    (void)token;
    (void)offset;
    (void)length_bytes;
    return fsync(sparse->fd) < 0 ? -errno : 0;
}

/* Longer, with nothing allocated: what no file of a user's should do, as stores into it may fail for lack of space. */
static int sparse_grow(void *state, uint64_t token, uint64_t allocate_from, uint64_t size_bytes)
{
    const struct sparse *sparse = state;
    uint64_t now_bytes;
    int error = sparse_size(state, &now_bytes);

    (void)token;
    (void)allocate_from;
    if (error == 0 && size_bytes > now_bytes && ftruncate(sparse->fd, (off_t)size_bytes) < 0)
        error = -errno;
    return error;
}

static int sparse_trim(void *state, uint64_t token, uint64_t size_bytes)
{
    const struct sparse *sparse = state;

    (void)token;
    return ftruncate(sparse->fd, (off_t)size_bytes) < 0 ? -errno : 0;
}

static int sparse_window(void *state, uint64_t capacity_bytes, bool writable, void **ret_base,
                         uint64_t *ret_capacity_bytes)
{
    struct sparse *sparse = state;
    void *base = mmap(NULL, capacity_bytes, writable ? PROT_READ | PROT_WRITE : PROT_READ, MAP_SHARED | MAP_NORESERVE,
                      sparse->fd, 0);

    if (base == MAP_FAILED)
        return CELLAR_NONE;
    sparse->window = base;
    sparse->window_bytes = capacity_bytes;
    *ret_base = base;
    *ret_capacity_bytes = capacity_bytes;
    return 0;
}

static int sparse_close(void *state)
{
    struct sparse *sparse = state;
    int error;

    if (sparse->window != NULL)
        munmap(sparse->window, sparse->window_bytes);
    error = close(sparse->fd) < 0 ? -errno : 0;
    free(sparse);
    return error;
}

static const struct cellar_device_ops sparse_ops = {
    .name = "sparse",
    .size = sparse_size,
    .read = sparse_read,
    .write = sparse_write,
    .sync = sparse_sync,
    .grow = sparse_grow,
    .trim = sparse_trim,
    .window = sparse_window,
    .close = sparse_close,
};

int device_sparse_open(const char *path, struct cellar_device **ret_device)
{
    struct sparse *sparse = calloc(1, sizeof *sparse);
    int error;

    if (sparse == NULL)
        return -ENOMEM;
    sparse->fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
    if (sparse->fd < 0) {
        error = -errno;
        free(sparse);
        return error;
    }
    return cellar_device_open(&sparse_ops, sparse, ret_device);
}
