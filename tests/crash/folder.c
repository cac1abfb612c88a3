#include "folder.h"

#include "device/device.h"
#include "device/file.h"
#include "hook.h"
#include "trace.h"
#include "world.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define FOLDER_PATH "/crash"
#define HIDDEN_PATH "/crash/.store.cellar-new"
#define SUMS_PATH FOLDER_STORE_PATH ".cellar-sums"
#define SUMS_FRESH_PATH FOLDER_STORE_PATH ".cellar-sums-new"

/* Descriptors that no process has. */
enum { FD_FOLDER = 1000000, FD_FILES };

static struct world *active;

struct world *folder_enter(struct world *world)
{
    struct world *before = active;

    active = world;
    return before;
}

void folder_init(struct folder *folder)
{
    *folder = (struct folder){.op_count = 0};
    for (int name = 0; name < FOLDER_NAMES; name++)
        folder->now[name] = folder->durable[name] = FOLDER_NOBODY;
}

static void apply(const struct folder_op *op, int names[FOLDER_NAMES])
{
    for (int name = 0; name < FOLDER_NAMES; name++) {
        if (op->sets[name])
            names[name] = op->files[name];
    }
}

uint32_t folder_image_count(const struct folder *folder)
{
    return 1u << folder->op_count;
}

void folder_image(const struct folder *folder, uint32_t number, int ret_names[FOLDER_NAMES])
{
    memcpy(ret_names, folder->durable, sizeof folder->durable);
    for (int i = 0; i < folder->op_count; i++) {
        if ((number >> i & 1) != 0)
            apply(&folder->ops[i], ret_names);
    }
}

void folder_image_drawn(const struct folder *folder, int file, uint64_t *random, int ret_names[FOLDER_NAMES])
{
    uint32_t count = folder_image_count(folder), number = random_below(random, count);

    for (folder_image(folder, number, ret_names); ret_names[FOLDER_STORE] != file; number++)
        folder_image(folder, number % count, ret_names);
}

bool folder_knows(const struct folder *folder, int file)
{
    bool known = false;

    for (int name = 0; name < FOLDER_NAMES; name++)
        known |= folder->now[name] == file || folder->durable[name] == file;
    for (int i = 0; i < folder->op_count; i++) {
        for (int name = 0; name < FOLDER_NAMES; name++)
            known |= folder->ops[i].sets[name] && folder->ops[i].files[name] == file;
    }
    return known;
}

/* Sets a name, and another (to FOLDER_NAMES: no other), to files. */
static int change(enum folder_name name, int file, enum folder_name other, int other_file)
{
    struct folder *folder = active->folder;
    struct folder_op op = {.sets = {false}};

    op.sets[name] = true;
    op.files[name] = file;
    if (other != FOLDER_NAMES) {
        op.sets[other] = true;
        op.files[other] = other_file;
    }
    if (folder->op_count == FOLDER_OPS_MAX)
        abort();
    folder->ops[folder->op_count++] = op;
    apply(&op, folder->now);
    trace("    names: store is file %d, hidden %d", folder->now[FOLDER_STORE], folder->now[FOLDER_HIDDEN]);
    world_event(active, SIMDISK_STORED);
    return 0;
}

/* As a system call that failed. */
static int refuse(int error)
{
    errno = error;
    return -1;
}

/* True where a path is in the folder; *ret_name is which. */
static bool names(const char *path, enum folder_name *ret_name)
{
    if (active == NULL || strncmp(path, FOLDER_PATH "/", sizeof FOLDER_PATH) != 0)
        return false;
    if (strcmp(path, FOLDER_STORE_PATH) == 0)
        *ret_name = FOLDER_STORE;
    else if (strcmp(path, HIDDEN_PATH) == 0)
        *ret_name = FOLDER_HIDDEN;
    else if (strcmp(path, SUMS_PATH) == 0)
        *ret_name = FOLDER_SUMS;
    else if (strcmp(path, SUMS_FRESH_PATH) == 0)
        *ret_name = FOLDER_SUMS_FRESH;
    else
        abort(); /* no other file is ever asked for */
    return true;
}

static bool is_sums(enum folder_name name)
{
    return name == FOLDER_SUMS || name == FOLDER_SUMS_FRESH;
}

/* ---- files as devices ---- */

static int file_of(const struct cellar_device *device)
{
    const struct simdisk *disk = simdisk_of(cellar_device_inner(device));

    for (int i = 0; active != NULL && disk != NULL && i < FILES_MAX; i++) {
        if (active->files[i].used && &active->files[i].disk == disk)
            return i;
    }
    return FOLDER_NOBODY;
}

int __wrap_cellar_file_open(const char *path, int flags, unsigned mode, enum cellar_file_kind kind,
                            struct cellar_device **ret_device);
int __wrap_cellar_device_open_pread(const char *path, int flags, unsigned mode, struct cellar_device **ret_device);
int __wrap_cellar_sum_make_identity(uint32_t *ret_identity);
struct cellar_file *__wrap_cellar_file_of(const struct cellar_device *device);
int __wrap_cellar_file_length(const struct cellar_device *device, uint64_t *ret_length_bytes);
int __wrap_cellar_file_fill_holes(const struct cellar_device *device, uint64_t offset, uint64_t length_bytes);

int __wrap_cellar_file_open(const char *path, int flags, unsigned mode, enum cellar_file_kind kind,
                            struct cellar_device **ret_device)
{
    enum folder_name name;
    int file;

    (void)mode;
    (void)kind;
    if (!names(path, &name))
        abort();
    file = active->folder->now[name];
    if ((flags & CELLAR_OPEN_EXCLUSIVE) != 0 && file != FOLDER_NOBODY)
        return -EEXIST;
    if (file == FOLDER_NOBODY && (flags & CELLAR_OPEN_CREATE) == 0)
        return -ENOENT;
    if (file == FOLDER_NOBODY) {
        file = world_new_file(active);
        active->files[file].disk.kind.capacity_bytes =
            is_sums(name) ? SIMDISK_BYTES_MAX : active->run->disk.capacity_bytes;
        if (!is_sums(name))
            active->fresh = file;
        (void)change(name, file, FOLDER_NAMES, 0);
    }
    if (simdisk_open(&active->files[file].disk, ret_device) != 0)
        abort();
    return 0;
}

int __wrap_cellar_device_open_pread(const char *path, int flags, unsigned mode, struct cellar_device **ret_device)
{
    return __wrap_cellar_file_open(path, flags, mode, CELLAR_FILE_PREAD, ret_device);
}

/* Drawn, so that a run is repeated by its seed. */
int __wrap_cellar_sum_make_identity(uint32_t *ret_identity)
{
    *ret_identity = 1 + random_below(&active->run->random, UINT32_MAX - 1);
    return 0;
}

struct cellar_file *__wrap_cellar_file_of(const struct cellar_device *device)
{
    static struct cellar_file handles[FILES_MAX];
    int file = file_of(device);

    if (file == FOLDER_NOBODY)
        return NULL;
    handles[file].fd = FD_FILES + file;
    return &handles[file];
}

int __wrap_cellar_file_length(const struct cellar_device *device, uint64_t *ret_length_bytes)
{
    int file = active != NULL && active->folder != NULL ? file_of(device) : FOLDER_NOBODY;

    if (file == FOLDER_NOBODY)
        return CELLAR_NONE;
    *ret_length_bytes = simdisk_size(&active->files[file].disk);
    return 0;
}

int __wrap_cellar_file_fill_holes(const struct cellar_device *device, uint64_t offset, uint64_t length_bytes)
{
    (void)device;
    (void)offset;
    (void)length_bytes;
    return 0;
}

/* ---- system calls on names ---- */

char *__real_realpath(const char *path, char *resolved);
char *__wrap_realpath(const char *path, char *resolved);
int __wrap_stat64(const char *path, struct stat *ret_status);
int __wrap_lstat64(const char *path, struct stat *ret_status);
int __real_fstat64(int fd, struct stat *ret_status);
int __wrap_fstat64(int fd, struct stat *ret_status);
int __wrap_renameat2(int from_folder, const char *from, int to_folder, const char *to, unsigned flags);
int __wrap_rename(const char *from, const char *to);
int __wrap_link(const char *from, const char *to);
int __wrap_unlink(const char *path);
int __wrap_open64(const char *path, int flags, ...);
int __wrap_fsync(int fd);
int __real_close(int fd);
int __wrap_close(int fd);
int __wrap_fchmod(int fd, mode_t mode);
int __wrap_fchown(int fd, uid_t user, gid_t group);

char *__wrap_realpath(const char *path, char *resolved)
{
    if (active == NULL || resolved != NULL || strncmp(path, FOLDER_PATH, sizeof FOLDER_PATH - 1) != 0)
        return __real_realpath(path, resolved);
    return strdup(path);
}

static int status_of(int file, struct stat *ret_status)
{
    const struct folder *folder = active->folder;

    if (file == FOLDER_NOBODY)
        return refuse(ENOENT);
    memset(ret_status, 0, sizeof *ret_status);
    ret_status->st_mode = S_IFREG | 0644;
    ret_status->st_dev = 1;
    ret_status->st_ino = (ino_t)file + 1;
    for (int name = 0; name < FOLDER_NAMES; name++)
        ret_status->st_nlink += folder->now[name] == file ? 1 : 0;
    return 0;
}

int __wrap_stat64(const char *path, struct stat *ret_status)
{
    enum folder_name name;

    if (!names(path, &name))
        abort();
    return status_of(active->folder->now[name], ret_status);
}

int __wrap_lstat64(const char *path, struct stat *ret_status)
{
    return __wrap_stat64(path, ret_status);
}

int __wrap_fstat64(int fd, struct stat *ret_status)
{
    return fd >= FD_FILES ? status_of(fd - FD_FILES, ret_status) : __real_fstat64(fd, ret_status);
}

int __wrap_renameat2(int from_folder, const char *from, int to_folder, const char *to, unsigned flags)
{
    enum folder_name name, other;
    int file, other_file;

    (void)from_folder;
    (void)to_folder;
    if (!names(from, &name) || !names(to, &other))
        abort();
    file = active->folder->now[name];
    other_file = active->folder->now[other];
    if (!active->run->can_exchange)
        return refuse(EINVAL);
    if ((flags & RENAME_NOREPLACE) != 0 && other_file != FOLDER_NOBODY)
        return refuse(EEXIST);
    if (file == FOLDER_NOBODY || ((flags & RENAME_EXCHANGE) != 0 && other_file == FOLDER_NOBODY))
        return refuse(ENOENT);
    return change(other, file, name, (flags & RENAME_EXCHANGE) != 0 ? other_file : FOLDER_NOBODY);
}

int __wrap_rename(const char *from, const char *to)
{
    enum folder_name name, other;

    if (!names(from, &name) || !names(to, &other))
        abort();
    if (active->folder->now[name] == FOLDER_NOBODY)
        return refuse(ENOENT);
    return change(other, active->folder->now[name], name, FOLDER_NOBODY);
}

int __wrap_link(const char *from, const char *to)
{
    enum folder_name name, other;

    if (!names(from, &name) || !names(to, &other))
        abort();
    if (active->folder->now[name] == FOLDER_NOBODY)
        return refuse(ENOENT);
    if (active->folder->now[other] != FOLDER_NOBODY)
        return refuse(EEXIST);
    return change(other, active->folder->now[name], FOLDER_NAMES, 0);
}

int __wrap_unlink(const char *path)
{
    enum folder_name name;

    if (!names(path, &name))
        abort();
    if (active->folder->now[name] == FOLDER_NOBODY)
        return refuse(ENOENT);
    return change(name, FOLDER_NOBODY, FOLDER_NAMES, 0);
}

int __wrap_open64(const char *path, int flags, ...)
{
    (void)flags;
    if (active == NULL || strcmp(path, FOLDER_PATH) != 0)
        abort(); /* files are opened as devices */
    return FD_FOLDER;
}

int __wrap_fsync(int fd)
{
    struct folder *folder = active->folder;

    if (fd != FD_FOLDER)
        abort();
    world_event(active, SIMDISK_BARRIER);
    trace("    sync of the folder");
    if (!active->run->folder_syncs_nothing) {
        memcpy(folder->durable, folder->now, sizeof folder->durable);
        folder->op_count = 0;
    }
    world_event(active, SIMDISK_SYNCED);
    return 0;
}

int __wrap_close(int fd)
{
    return fd >= FD_FOLDER ? 0 : __real_close(fd);
}

int __wrap_fchmod(int fd, mode_t mode)
{
    (void)mode;
    return fd >= FD_FILES ? 0 : -1;
}

int __wrap_fchown(int fd, uid_t user, gid_t group)
{
    (void)user;
    (void)group;
    return fd >= FD_FILES ? 0 : -1;
}
