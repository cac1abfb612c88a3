/*
 * file_access.c - the order in which a mapped file is read, told to the system.
 *
 * Where a page of a mapping isn't in memory Linux reads around it: as much as the disk's read_ahead_kb says, 128 KiB to
 * some MiB. Where a file is read at random, and is much larger than what is read of it, that is for nothing. With
 * MADV_RANDOM the page comes alone. A run of pages then waits for the disk once for each, unless it is asked for before
 * it is read (MADV_WILLNEED). A descriptor needs no such advice: a pread without a pattern reads what it asks for, and
 * little more. MADV_SEQUENTIAL changes nothing that could be measured: the system sees that a file is read in order.
 *
 * Reading around is done for stores, too, into space that is only allocated: the first one waits until megabytes of
 * zeros have been made pages, which no store may ever come to, and which large writes to the same place (cell/stage.h)
 * then find in pieces. Only who stores into all of them gains by it: his page faults are a third as dear.
 *
 * Advice that the system refuses is no error.
 */
#include "device/device.h"
#include "device/file.h"

#include <stdint.h>
#include <sys/mman.h>
#include <unistd.h>

void cellar_file_advise(const struct cellar_file *file, void *mapping, uint64_t length_bytes)
{
    madvise(mapping, (size_t)length_bytes, MADV_DONTDUMP);
    if ((file->flags & CELLAR_OPEN_RANDOM) != 0)
        madvise(mapping, (size_t)length_bytes, MADV_RANDOM);
}

void cellar_file_read_around(const struct cellar_device *device, uint64_t offset, bool wanted)
{
    const struct cellar_file *file = cellar_file_of(device);

    if (file == NULL || file->window == NULL || (file->flags & CELLAR_OPEN_RANDOM) != 0)
        return;
    offset -= offset % (uint64_t)sysconf(_SC_PAGESIZE);
    if (offset < file->window_bytes)
        madvise((unsigned char *)file->window + offset, (size_t)(file->window_bytes - offset),
                wanted ? MADV_NORMAL : MADV_RANDOM);
}

bool cellar_device_reads_by_page(const struct cellar_device *device)
{
    const struct cellar_file *file = cellar_file_of(device);

    return file != NULL && file->window != NULL && (file->flags & CELLAR_OPEN_RANDOM) != 0;
}

void cellar_device_expect(const struct cellar_device *device, uint64_t offset, size_t length_bytes)
{
    const struct cellar_file *file = cellar_file_of(device);
    size_t skip = (size_t)(offset % (uint64_t)sysconf(_SC_PAGESIZE));

    if (file != NULL && file->window != NULL && offset <= file->window_bytes &&
        length_bytes <= file->window_bytes - offset)
        madvise((unsigned char *)file->window + (offset - skip), length_bytes + skip, MADV_WILLNEED);
}
