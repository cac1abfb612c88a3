/*
 * file_incarnation.c - since when nothing that was written to a file has been lost.
 *
 * Bytes written to a file are in the page cache until they are on the disk, and the page cache goes with the machine's
 * power and with the mount. So the number is a hash, the upper half of the first alone, of
 *   - the boot id: another boot, another page cache;
 *   - the mount id: an unmount wrote everything back, or lost it; where the kernel can, the one that is never given
 *     twice (STATX_MNT_ID_UNIQUE, Linux 6.8);
 *   - device, inode and time of birth: an inode number is soon given to another file, for example to the copy of a
 *     backup that was taken without its latest pages.
 * What it can't see: the volume below the mounted file system set back to an earlier state.
 */
#include "base/bytes.h"
#include "base/hash.h"
#include "device/file.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* From linux/stat.h of 6.8. */
#ifndef STATX_MNT_ID_UNIQUE
#define STATX_MNT_ID_UNIQUE 0x00004000U
#endif

enum { BOOT_ID_BYTES = 36 };

/* CELLAR_NONE: there is no /proc for us. */
static int read_boot_id(unsigned char boot_id[BOOT_ID_BYTES])
{
    ssize_t got;
    int fd, error;

    do
        fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
    while (fd < 0 && errno == EINTR);
    if (fd < 0)
        return errno == ENOENT || errno == ENOTDIR || errno == EACCES || errno == EPERM ? CELLAR_NONE : -errno;
    do
        got = read(fd, boot_id, BOOT_ID_BYTES);
    while (got < 0 && errno == EINTR);
    error = got < 0 ? -errno : got < BOOT_ID_BYTES ? CELLAR_NONE : 0;
    close(fd);
    return error;
}

int cellar_file_incarnation(void *state, uint64_t *ret_incarnation)
{
    const struct cellar_file *file = state;
    unsigned char known[BOOT_ID_BYTES + 40];
    struct statx status;
    int error = read_boot_id(known);

    *ret_incarnation = 0;
    if (error != 0)
        return error == CELLAR_NONE ? 0 : error;
    if (statx(file->fd, "", AT_EMPTY_PATH, STATX_INO | STATX_BTIME | STATX_MNT_ID | STATX_MNT_ID_UNIQUE, &status) != 0)
        return errno == ENOSYS ? 0 : -errno;
    if ((status.stx_mask & STATX_INO) == 0 || (status.stx_mask & (STATX_MNT_ID | STATX_MNT_ID_UNIQUE)) == 0)
        return 0;
    cellar_store_le32(known + BOOT_ID_BYTES, status.stx_dev_major);
    cellar_store_le32(known + BOOT_ID_BYTES + 4, status.stx_dev_minor);
    cellar_store_le64(known + BOOT_ID_BYTES + 8, status.stx_ino);
    cellar_store_le64(known + BOOT_ID_BYTES + 16,
                      (status.stx_mask & STATX_BTIME) != 0 ? (uint64_t)status.stx_btime.tv_sec : 0);
    cellar_store_le64(known + BOOT_ID_BYTES + 24, (status.stx_mask & STATX_BTIME) != 0 ? status.stx_btime.tv_nsec : 0);
    cellar_store_le64(known + BOOT_ID_BYTES + 32, status.stx_mnt_id);
    *ret_incarnation = (cellar_hash64(known, BOOT_ID_BYTES) & ~(uint64_t)UINT32_MAX) |
                       (cellar_hash64(known, sizeof known) & UINT32_MAX);
    return 0;
}
