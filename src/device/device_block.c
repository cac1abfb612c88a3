/* device_block.c - a block device of the system: of fixed size, through the kernel's page cache or past it. */
#include "device/file.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <unistd.h>

/* Another one may be looking at the same moment, which is not to be taken for a mount. */
enum { LOOKS_MAX = 100 };

/* Linux gives a block device with O_EXCL only to one, and to none while it is mounted, swapped to, or part of another
 * device. It is not kept: the lock of a writer is the one that all devices on files have. */
static int check_taken(const struct cellar_file *file)
{
    for (int look = 0; look < LOOKS_MAX; look++) {
        int fd = open(file->path, O_RDONLY | O_EXCL | O_CLOEXEC | O_NONBLOCK);

        if (fd >= 0) {
            close(fd);
            return 0;
        }
        if (errno != EBUSY)
            return -errno;
        sched_yield();
    }
    return -EBUSY;
}

int cellar_block_probe(struct cellar_file *file)
{
    uint64_t size_bytes;

    if (ioctl(file->fd, BLKGETSIZE64, &size_bytes) != 0)
        return -errno;
    if (file->block_bytes > 0)
        size_bytes &= ~(uint64_t)(file->block_bytes - 1);
    file->fixed_bytes = size_bytes;
    return (file->flags & CELLAR_OPEN_WRITE) != 0 ? check_taken(file) : 0;
}

static int block_size(void *state, uint64_t *ret_size_bytes)
{
    *ret_size_bytes = ((const struct cellar_file *)state)->fixed_bytes;
    return 0;
}

const struct cellar_device_ops cellar_block_ops = {
    .name = "block",
    .size = block_size,
    .read = cellar_file_read,
    .write = cellar_file_write,
    .write_durable = cellar_file_write_durable,
    .sync = cellar_file_fdatasync,
    .lock = cellar_file_lock,
    .unlock = cellar_file_unlock,
    .descriptor = cellar_file_descriptor,
    .forget = cellar_file_forget,
    .close = cellar_file_close,
};

const struct cellar_device_ops cellar_block_read_ops = {
    .name = "block",
    .size = block_size,
    .read = cellar_file_read,
    .lock = cellar_file_lock,
    .unlock = cellar_file_unlock,
    .descriptor = cellar_file_descriptor,
    .forget = cellar_file_forget,
    .close = cellar_file_close,
};

const struct cellar_device_ops cellar_block_direct_ops = {
    .name = "block direct",
    .block_bytes = cellar_direct_block_bytes,
    .size = block_size,
    .read = cellar_direct_read,
    .write = cellar_direct_write,
    .write_durable = cellar_direct_write_durable,
    .sync = cellar_file_fdatasync,
    .lock = cellar_file_lock,
    .unlock = cellar_file_unlock,
    .descriptor = cellar_direct_descriptor,
    .forget = cellar_file_forget,
    .close = cellar_file_close,
};

const struct cellar_device_ops cellar_block_direct_read_ops = {
    .name = "block direct",
    .block_bytes = cellar_direct_block_bytes,
    .size = block_size,
    .read = cellar_direct_read,
    .lock = cellar_file_lock,
    .unlock = cellar_file_unlock,
    .descriptor = cellar_direct_descriptor,
    .forget = cellar_file_forget,
    .close = cellar_file_close,
};

int cellar_device_open_block(const char *path, int flags, struct cellar_device **ret_device)
{
    if ((flags & ~(CELLAR_OPEN_WRITE | CELLAR_OPEN_DIRECT | CELLAR_OPEN_RANDOM)) != 0)
        return -EINVAL;
    return cellar_file_open(path, flags & CELLAR_OPEN_WRITE, 0,
                            (flags & CELLAR_OPEN_DIRECT) != 0 ? CELLAR_FILE_BLOCK_DIRECT : CELLAR_FILE_BLOCK,
                            ret_device);
}
