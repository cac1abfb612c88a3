/*
 * file_name.c - a file appears under its name whole, or not at all.
 *
 * A new store is built under the hidden name .NAME.cellar-new beside it, locked from its first moment, made durable,
 * and then renamed. What can go wrong between two makers, or after a crash:
 *   - a leftover of a maker that died: its lock died with it; the next maker takes the file over;
 *   - two makers at once: the second finds the lock taken: CELLAR_EBUSY;
 *   - a maker opens the hidden name just before the other renames it, and gets the lock when the other's store is
 *     closed: it holds the lock of a file that the hidden name does not name any more, and starts again;
 *   - a name that was given by link, whose unlink failed: the hidden name is then a store's second one, and is dropped.
 */
#include "device/device.h"
#include "device/file.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* FOLDER/.NAME.cellar-new: nobody else's file. */
static char *hidden_name(const char *path)
{
    const char *slash = strrchr(path, '/');
    int folder_bytes = slash != NULL ? (int)(slash - path) + 1 : 0;
    char *name;

    if (asprintf(&name, "%.*s.%s.cellar-new", folder_bytes, path, path + folder_bytes) < 0)
        return NULL;
    return name;
}

int cellar_file_is_at(const struct cellar_device *device, const char *path)
{
    const struct cellar_file *file = cellar_device_state(device, cellar_file_close);
    struct stat here, there;

    if (file == NULL)
        return -ENOTSUP;
    if (fstat(file->fd, &here) != 0)
        return -errno;
    if (stat(path, &there) != 0)
        return errno == ENOENT ? CELLAR_NONE : -errno;
    return here.st_dev == there.st_dev && here.st_ino == there.st_ino ? 0 : CELLAR_NONE;
}

/* A hidden name that is the second name of a file belongs to a store (link did its work, unlink did not): it goes, and
 * the file stays as it is. CELLAR_NONE then, and 0 for a file with no other name. */
static int drop_second_name(const struct cellar_device *device, const char *hidden)
{
    const struct cellar_file *file = cellar_device_state(device, cellar_file_close);
    struct stat status;

    if (fstat(file->fd, &status) != 0)
        return -errno;
    if (status.st_nlink <= 1)
        return 0;
    return unlink(hidden) == 0 ? CELLAR_NONE : -errno;
}

/* Opens and locks the file of the hidden name; CELLAR_NONE: somebody renamed it meanwhile, try again. */
static int take_hidden(const char *hidden, unsigned mode, bool mapped, struct cellar_device **ret_device)
{
    struct cellar_device *device;
    int result =
        cellar_file_open(hidden, CELLAR_OPEN_WRITE | CELLAR_OPEN_CREATE | CELLAR_FILE_NO_LINK, mode, mapped, &device);

    if (result != 0)
        return result;
    result = drop_second_name(device, hidden);
    if (result == 0)
        result = cellar_device_lock(device, CELLAR_LOCK_WRITER);
    if (result == 0)
        result = cellar_file_is_at(device, hidden);
    else if (result == -ESTALE)
        result = CELLAR_NONE;
    if (result == 0)
        result = cellar_device_trim(device, 0);
    if (result != 0) {
        cellar_device_close(device);
        return result;
    }
    *ret_device = device;
    return 0;
}

int cellar_file_create_hidden(const char *path, unsigned mode, bool mapped, struct cellar_device **ret_device)
{
    char *hidden = hidden_name(path);
    int result;

    if (hidden == NULL)
        return -ENOMEM;
    do
        result = take_hidden(hidden, mode, mapped, ret_device);
    while (result == CELLAR_NONE);
    free(hidden);
    return result;
}

static int sync_folder_of(const char *path)
{
    char *copy = strdup(path);
    int fd, error = 0;

    if (copy == NULL)
        return -ENOMEM;
    fd = open(dirname(copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    free(copy);
    if (fd < 0)
        return -errno;
    if (fsync(fd) != 0 && errno != EINVAL) /* EINVAL: a file system whose folders can't be synced */
        error = -errno;
    close(fd);
    return error;
}

/* rename that never replaces. */
static int rename_new(const char *from, const char *to)
{
    if (renameat2(AT_FDCWD, from, AT_FDCWD, to, RENAME_NOREPLACE) == 0)
        return 0;
    if (errno != EINVAL && errno != ENOSYS)
        return -errno;
    if (link(from, to) != 0)
        return -errno;
    (void)unlink(from); /* it has its name; a second one that stays is dropped by the next maker */
    return 0;
}

int cellar_file_publish(struct cellar_device *device, const char *path, bool replace, bool *ret_renamed)
{
    struct cellar_file *file = cellar_device_state(device, cellar_file_close);
    char *hidden = hidden_name(path), *name = strdup(path);
    int error;

    *ret_renamed = false;
    if (hidden == NULL || name == NULL || file == NULL)
        error = file == NULL ? -ENOTSUP : -ENOMEM;
    else if (replace)
        error = rename(hidden, path) == 0 ? 0 : -errno;
    else
        error = rename_new(hidden, path);
    if (error == 0) {
        *ret_renamed = true;
        free(file->path);
        file->path = name;
        name = NULL;
        error = sync_folder_of(path);
    }
    free(hidden);
    free(name);
    return error;
}

void cellar_file_discard_hidden(const char *path)
{
    char *hidden = hidden_name(path);

    if (hidden != NULL)
        unlink(hidden);
    free(hidden);
}

int cellar_file_copy_mode(const struct cellar_device *from, struct cellar_device *to)
{
    const struct cellar_file *model = cellar_device_state(from, cellar_file_close);
    const struct cellar_file *file = cellar_device_state(to, cellar_file_close);
    struct stat status, now;

    if (model == NULL || file == NULL)
        return -ENOTSUP;
    if (fstat(model->fd, &status) != 0 || fstat(file->fd, &now) != 0)
        return -errno;
    /* The owner first: changing it clears bits of the mode. Who may not give files away keeps his own. */
    if ((status.st_uid != now.st_uid || status.st_gid != now.st_gid) &&
        fchown(file->fd, status.st_uid, status.st_gid) != 0 && errno != EPERM)
        return -errno;
    return fchmod(file->fd, status.st_mode & 07777) == 0 ? 0 : -errno;
}
