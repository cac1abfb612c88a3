/*
 * file_ahead.c - pages of a file that nobody has stored into yet: brought in, or written to the disk, ahead of need.
 *
 * No byte is ever stored here. A page that is populated for writing is brought in as it is and marked dirty; what is
 * then written to the disk is what it holds by then. It has to be the pages of a mapping: zeros by write(2) would come
 * to lie in large folios, and each later flush of one cell would write the whole folio.
 */
#include "device/file.h"

#include <errno.h>
#include <sys/mman.h>
#include <unistd.h>

/* Of Linux 5.14, and not in every header. */
#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif

int cellar_file_populate(const struct cellar_device *device, uint64_t offset, uint64_t length_bytes)
{
    const struct cellar_file *file = cellar_file_of(device);

    if (file == NULL || file->window == NULL || offset > file->window_bytes ||
        length_bytes > file->window_bytes - offset)
        return -ENOTSUP;
    if (madvise((unsigned char *)file->window + offset, (size_t)length_bytes, MADV_POPULATE_WRITE) == 0)
        return 0;
    return errno == EINVAL ? -ENOTSUP : -errno;
}

/* What the sync of pages says that may hold cells by now; a full disk is no answer to that. */
static int sync_pages(void *pages, size_t length_bytes)
{
    if (msync(pages, length_bytes, MS_SYNC) == 0)
        return 0;
    return errno == ENOSPC || errno == EDQUOT || errno == ENOMEM || errno == EFBIG ? -EIO : -errno;
}

int cellar_file_write_out(const struct cellar_device *device, int *fd, uint64_t offset, uint64_t length_bytes)
{
    const struct cellar_file *file = cellar_file_of(device);
    void *pages;
    int error;

    if (file == NULL || (*fd < 0 && cellar_file_open_again(file, 0, fd) != 0))
        return -ENOTSUP;
    pages = mmap(NULL, (size_t)length_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, *fd, (off_t)offset);
    if (pages == MAP_FAILED)
        return -ENOTSUP;
    error = madvise(pages, (size_t)length_bytes, MADV_POPULATE_WRITE) == 0 ? sync_pages(pages, (size_t)length_bytes)
                                                                           : -ENOTSUP;
    munmap(pages, (size_t)length_bytes);
    return error;
}
