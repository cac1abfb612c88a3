/*
 * file_name.c - a file appears under its name whole, or not at all.
 *
 * A new store is built under the hidden name .NAME.cellar-new beside it, locked from its first moment, made durable,
 * and then renamed. What can go wrong between two makers, or after a crash:
 *   - a leftover of a maker that died: its lock died with it; the next maker removes it;
 *   - two makers at once: the second finds the lock taken: CELLAR_EBUSY;
 *   - a maker opens the hidden name just before the other renames it, and gets the lock when the other's store is
 *     closed: it holds the lock of a file that the hidden name does not name any more, and starts again;
 *   - a name that was given by link, whose unlink failed: the hidden name is then a store's second one, and is dropped.
 */
#include "base/hash.h"
#include "device/device.h"
#include "device/file.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* So often another maker may come in between. */
enum { ATTEMPTS_MAX = 100 };

/* FOLDER/.NAME.cellar-new: nobody else's file. A name that would become too long is replaced by its hash. */
static char *hidden_name(const char *path)
{
    const char *slash = strrchr(path, '/');
    const char *base = slash != NULL ? slash + 1 : path;
    int folder_bytes = (int)(base - path);
    char hashed[2 * CELLAR_HASH96_BYTES + 1];
    char *name;

    if (strlen(base) + sizeof "..cellar-new" - 1 > NAME_MAX) {
        unsigned char hash[CELLAR_HASH96_BYTES];

        cellar_hash96(NULL, 0, base, strlen(base), hash);
        for (int i = 0; i < CELLAR_HASH96_BYTES; i++)
            snprintf(hashed + 2 * i, 3, "%02x", hash[i]);
        base = hashed;
    }
    if (asprintf(&name, "%.*s.%s.cellar-new", folder_bytes, path, base) < 0)
        return NULL;
    return name;
}

/* The device's file, and the one that path names. */
static int look_at_both(const struct cellar_device *device, const char *path, struct stat *ret_here,
                        struct stat *ret_there)
{
    const struct cellar_file *file = cellar_file_of(device);

    if (file == NULL)
        return -ENOTSUP;
    return fstat(file->fd, ret_here) == 0 && stat(path, ret_there) == 0 ? 0 : -errno;
}

static bool is_same(const struct stat *a, const struct stat *b)
{
    return a->st_dev == b->st_dev && a->st_ino == b->st_ino;
}

int cellar_file_is_at(const struct cellar_device *device, const char *path)
{
    struct stat here, there;
    int error = look_at_both(device, path, &here, &there);

    if (error != 0)
        return error == -ENOENT ? CELLAR_NONE : error;
    return is_same(&here, &there) ? 0 : CELLAR_NONE;
}

int cellar_file_check_name(const struct cellar_device *device, const char *path)
{
    struct stat here, there;
    int error = look_at_both(device, path, &here, &there);

    if (error == -ENOENT || error == -ENOTDIR || error == -EACCES || error == -ELOOP)
        return 0;
    return error != 0 || is_same(&here, &there) ? error : CELLAR_NONE;
}

/*
 * A file of the hidden name that was there before: a maker at work holds its lock; a leftover goes. So does a second
 * name of a store (link did its work, unlink did not), whoever has that store open. CELLAR_NONE: it is gone, try again.
 */
static int clear_hidden(const char *hidden)
{
    struct cellar_device *device;
    const struct cellar_file *file;
    struct stat status;
    int result = cellar_file_open(hidden, CELLAR_OPEN_WRITE | CELLAR_FILE_NO_LINK, 0, CELLAR_FILE_PREAD, &device);

    if (result != 0)
        return result == -ENOENT ? CELLAR_NONE : result;
    file = cellar_file_of(device);
    if (fstat(file->fd, &status) != 0)
        result = -errno;
    else if (status.st_nlink <= 1)
        result = cellar_device_lock(device, CELLAR_LOCK_WRITER);
    if (result == 0)
        result = cellar_file_is_at(device, hidden);
    if (result == 0 && unlink(hidden) != 0 && errno != ENOENT)
        result = -errno;
    cellar_device_close(device);
    return result == 0 || result == -ESTALE ? CELLAR_NONE : result;
}

/* Makes and locks the file of the hidden name; CELLAR_NONE: there was one, try again. */
static int take_hidden(const char *hidden, unsigned mode, enum cellar_file_kind kind, struct cellar_device **ret_device)
{
    const int flags = CELLAR_OPEN_WRITE | CELLAR_OPEN_CREATE | CELLAR_OPEN_EXCLUSIVE | CELLAR_FILE_NO_LINK;
    struct cellar_device *device;
    int result = cellar_file_open(hidden, flags, mode, kind, &device);

    if (result == -EEXIST)
        return clear_hidden(hidden);
    if (result != 0)
        return result;
    result = cellar_device_lock(device, CELLAR_LOCK_WRITER);
    if (result == 0)
        result = cellar_file_is_at(device, hidden);
    else if (result == -ESTALE)
        result = CELLAR_NONE;
    if (result != 0) {
        cellar_device_close(device);
        return result;
    }
    *ret_device = device;
    return 0;
}

int cellar_file_create_hidden(const char *path, unsigned mode, enum cellar_file_kind kind,
                              struct cellar_device **ret_device)
{
    char *hidden = hidden_name(path);
    int result = CELLAR_NONE;

    if (hidden == NULL)
        return -ENOMEM;
    for (int attempt = 0; result == CELLAR_NONE && attempt < ATTEMPTS_MAX; attempt++)
        result = take_hidden(hidden, mode, kind, ret_device);
    free(hidden);
    return result == CELLAR_NONE ? CELLAR_EBUSY : result;
}

static int open_folder_of(const char *path, int *ret_fd)
{
    char *copy = strdup(path);
    int fd;

    if (copy == NULL)
        return -ENOMEM;
    do
        fd = open(dirname(copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    while (fd < 0 && errno == EINTR);
    free(copy);
    if (fd < 0)
        return -errno;
    *ret_fd = fd;
    return 0;
}

/* A file system whose folders can't be synced says EINVAL. */
static int sync_folder(int fd)
{
    return fsync(fd) == 0 || errno == EINVAL ? 0 : -errno;
}

int cellar_file_settle_name(const char *path)
{
    int folder = -1, error = open_folder_of(path, &folder);

    if (error != 0)
        return error == -EACCES ? 0 : error; /* a folder that may be searched but not read can't be synced */
    error = sync_folder(folder);
    close(folder);
    return error;
}

/* rename that never replaces. *ret_renamed becomes true where the name is given. */
static int rename_new(const char *from, const char *to, bool *ret_renamed)
{
    if (renameat2(AT_FDCWD, from, AT_FDCWD, to, RENAME_NOREPLACE) == 0) {
        *ret_renamed = true;
        return 0;
    }
    if (errno != EINVAL && errno != ENOSYS)
        return -errno;
    if (link(from, to) != 0)
        return -errno;
    *ret_renamed = true;
    (void)unlink(from); /* it has its name; a second one that stays is dropped by the next maker */
    return 0;
}

/*
 * rename over the file of replaced and no other: the names are exchanged, then the hidden one must name the old file,
 * else they are exchanged back. Where the file system can't exchange, the path is looked at just before. *ret_renamed
 * becomes true where the name is given, also with an error: the exchange that failed was the one back.
 */
static int rename_over(const char *hidden, const char *path, const struct cellar_device *replaced, bool *ret_renamed)
{
    int result;

    if (renameat2(AT_FDCWD, hidden, AT_FDCWD, path, RENAME_EXCHANGE) == 0) {
        result = cellar_file_is_at(replaced, hidden);
        *ret_renamed = result == 0;
        if (result == 0) {
            (void)unlink(hidden); /* one that stays is a leftover for the next maker */
            return 0;
        }
        if (renameat2(AT_FDCWD, hidden, AT_FDCWD, path, RENAME_EXCHANGE) != 0) {
            *ret_renamed = true; /* and the hidden name is that of a file that is somebody's, and stays */
            return -errno;
        }
        return result < 0 ? result : -ESTALE;
    }
    if (errno == ENOENT)
        return -ESTALE;
    if (errno != EINVAL && errno != ENOSYS)
        return -errno;
    result = cellar_file_is_at(replaced, path);
    if (result != 0)
        return result < 0 ? result : -ESTALE;
    if (rename(hidden, path) != 0)
        return -errno;
    *ret_renamed = true;
    return 0;
}

int cellar_file_publish(struct cellar_device *device, const char *path, const struct cellar_device *replaced,
                        bool *ret_renamed)
{
    struct cellar_file *file = cellar_file_of(device);
    char *hidden = hidden_name(path), *name = strdup(path);
    int folder = -1, error = 0;

    *ret_renamed = false;
    if (hidden == NULL || name == NULL || file == NULL)
        error = file == NULL ? -ENOTSUP : -ENOMEM;
    if (error == 0)
        error = open_folder_of(path, &folder); /* before: a name that can't be made durable is not given */
    if (error == 0)
        error =
            replaced != NULL ? rename_over(hidden, path, replaced, ret_renamed) : rename_new(hidden, path, ret_renamed);
    if (*ret_renamed) {
        free(file->path);
        file->path = name;
        name = NULL;
    }
    if (error == 0)
        error = sync_folder(folder);
    if (folder >= 0)
        close(folder);
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
    const struct cellar_file *model = cellar_file_of(from);
    const struct cellar_file *file = cellar_file_of(to);
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
