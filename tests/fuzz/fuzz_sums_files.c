/*
 * fuzz_sums_files.c - files in memory. The linker puts the functions here in the place of the library's and of the C
 * library's that reach files by their names; names of other files go on to these.
 */
#include "fuzz_room.h"
#include "fuzz_sums.h"

#include "device/file.h"
#include "sum/sum_name.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { FILES_MAX = 8, NAME_BYTES_MAX = 64 };

/* Lives as long as it has a name or is open. */
struct node {
    unsigned char *bytes;
    size_t size_bytes;
    int references;
};

struct entry {
    char name[NAME_BYTES_MAX]; /* empty: free */
    struct node *node;
};

static struct entry entries[FILES_MAX];

/* The library joins the folder / and a name by another slash. */
static const char *plain(const char *path)
{
    return path[0] == '/' && path[1] == '/' ? path + 1 : path;
}

static bool is_ours(const char *path)
{
    return strncmp(plain(path), FUZZ_STORE, strlen(FUZZ_STORE)) == 0;
}

static struct entry *find(const char *name)
{
    for (int i = 0; i < FILES_MAX; i++) {
        if (strcmp(entries[i].name, plain(name)) == 0)
            return &entries[i];
    }
    return NULL;
}

static void let_go(struct node *node)
{
    if (--node->references > 0)
        return;
    fuzz_room_give(node->bytes);
    free(node);
}

static void remove_entry(struct entry *entry)
{
    let_go(entry->node);
    *entry = (struct entry){.node = NULL};
}

static struct node *make(const char *name)
{
    struct entry *entry = find(name);

    if (entry != NULL)
        remove_entry(entry);
    entry = find("");
    FUZZ_NEEDS(entry != NULL && strlen(name) < NAME_BYTES_MAX);
    strcpy(entry->name, plain(name));
    entry->node = calloc(1, sizeof *entry->node);
    FUZZ_NEEDS(entry->node != NULL);
    entry->node->references = 1;
    return entry->node;
}

static int move(const char *from, const char *to)
{
    struct entry *entry = find(from), *other = find(to);

    if (entry == NULL)
        return -ENOENT;
    if (other != NULL && other != entry)
        remove_entry(other);
    strcpy(entry->name, plain(to));
    return 0;
}

static void resize(struct node *node, size_t size_bytes)
{
    unsigned char *bytes = node->bytes;

    if (bytes == NULL || size_bytes > fuzz_room_capacity(bytes)) {
        node->bytes = fuzz_room_take(size_bytes);
        fuzz_room_show(node->bytes, size_bytes);
        if (bytes != NULL)
            memcpy(node->bytes, bytes, node->size_bytes);
        fuzz_room_give(bytes);
    } else {
        fuzz_room_show(bytes, size_bytes);
    }
    if (size_bytes > node->size_bytes)
        memset(node->bytes + node->size_bytes, 0, size_bytes - node->size_bytes);
    node->size_bytes = size_bytes;
}

/* ---- the device ---- */

static int device_size(void *state, uint64_t *ret_size_bytes)
{
    const struct node *node = state;

    *ret_size_bytes = node->size_bytes;
    return 0;
}

static ssize_t device_read(void *state, void *buffer, size_t length_bytes, uint64_t offset)
{
    const struct node *node = state;

    if (offset >= node->size_bytes)
        return 0;
    if (length_bytes > node->size_bytes - offset)
        length_bytes = (size_t)(node->size_bytes - offset);
    memcpy(buffer, node->bytes + offset, length_bytes);
    return (ssize_t)length_bytes;
}

static ssize_t device_write(void *state, uint64_t token, const struct iovec *parts, int part_count, uint64_t offset)
{
    struct node *node = state;
    uint64_t at = offset;

    (void)token;
    for (int i = 0; i < part_count; at += parts[i++].iov_len) {
        FUZZ_NEEDS(at <= node->size_bytes && parts[i].iov_len <= node->size_bytes - at);
        memcpy(node->bytes + at, parts[i].iov_base, parts[i].iov_len);
    }
    return (ssize_t)(at - offset);
}

static int device_sync(void *state, uint64_t token, uint64_t offset, uint64_t length_bytes)
{
    (void)state;
    (void)token;
    (void)offset;
    (void)length_bytes;
    return 0;
}

static int device_grow(void *state, uint64_t token, uint64_t allocate_from, uint64_t size_bytes)
{
    struct node *node = state;

    (void)token;
    (void)allocate_from;
    FUZZ_NEEDS(size_bytes < 1 << 24);
    if (size_bytes > node->size_bytes)
        resize(node, (size_t)size_bytes);
    return 0;
}

static int device_trim(void *state, uint64_t token, uint64_t size_bytes)
{
    (void)token;
    resize(state, (size_t)size_bytes);
    return 0;
}

static int device_close(void *state)
{
    let_go(state);
    return 0;
}

static const struct cellar_device_ops write_ops = {
    .name = "memory file",
    .size = device_size,
    .read = device_read,
    .write = device_write,
    .sync = device_sync,
    .grow = device_grow,
    .trim = device_trim,
    .close = device_close,
};

static const struct cellar_device_ops read_ops = {
    .name = "memory file",
    .size = device_size,
    .read = device_read,
    .close = device_close,
};

static int open_node(struct node *node, int flags, struct cellar_device **ret_device)
{
    node->references++;
    return cellar_device_open((flags & CELLAR_OPEN_WRITE) != 0 ? &write_ops : &read_ops, node, ret_device);
}

static int open_name(const char *name, int flags, struct cellar_device **ret_device)
{
    struct entry *entry = find(name);

    if (entry == NULL && (flags & CELLAR_OPEN_CREATE) == 0)
        return -ENOENT;
    if (entry != NULL && (flags & CELLAR_OPEN_EXCLUSIVE) != 0)
        return -EEXIST;
    return open_node(entry != NULL ? entry->node : make(name), flags, ret_device);
}

/* ---- in the place of the functions with these names ---- */

int __wrap_cellar_device_open_pread(const char *path, int flags, unsigned mode, struct cellar_device **ret_device);
int __wrap_cellar_file_open(const char *path, int flags, unsigned mode, enum cellar_file_kind kind,
                            struct cellar_device **ret_device);
int __wrap_cellar_file_create_hidden(const char *path, unsigned mode, enum cellar_file_kind kind,
                                     struct cellar_device **ret_device);
int __wrap_cellar_file_publish(struct cellar_device *device, const char *path, const struct cellar_device *replaced,
                               bool *ret_renamed);
void __wrap_cellar_file_discard_hidden(const char *path);
int __wrap_cellar_file_settle_name(const char *path);
int __wrap_cellar_file_is_at(const struct cellar_device *device, const char *path);
int __wrap_cellar_file_copy_mode(const struct cellar_device *from, struct cellar_device *to);
int __wrap_cellar_sum_make_identity(uint32_t *ret_identity);
char *__wrap_realpath(const char *path, char *resolved);
int __wrap_unlink(const char *path);
int __wrap_rename(const char *from, const char *to);
int __wrap_lstat(const char *path, struct stat *ret_status);
int __wrap_fsync(int fd);
int __wrap_nanosleep(const struct timespec *time, struct timespec *ret_rest);
char *__real_realpath(const char *path, char *resolved);
int __real_unlink(const char *path);
int __real_rename(const char *from, const char *to);
int __real_lstat(const char *path, struct stat *ret_status);

int __wrap_cellar_device_open_pread(const char *path, int flags, unsigned mode, struct cellar_device **ret_device)
{
    (void)mode;
    FUZZ_NEEDS(is_ours(path));
    return open_name(path, flags, ret_device);
}

int __wrap_cellar_file_open(const char *path, int flags, unsigned mode, enum cellar_file_kind kind,
                            struct cellar_device **ret_device)
{
    (void)kind;
    return __wrap_cellar_device_open_pread(path, flags, mode, ret_device);
}

static void hide(const char *path, char name[NAME_BYTES_MAX])
{
    FUZZ_NEEDS(is_ours(path) && snprintf(name, NAME_BYTES_MAX, "hidden %s", plain(path)) < NAME_BYTES_MAX);
}

int __wrap_cellar_file_create_hidden(const char *path, unsigned mode, enum cellar_file_kind kind,
                                     struct cellar_device **ret_device)
{
    char name[NAME_BYTES_MAX];

    (void)mode;
    (void)kind;
    hide(path, name);
    return open_node(make(name), CELLAR_OPEN_WRITE, ret_device);
}

int __wrap_cellar_file_publish(struct cellar_device *device, const char *path, const struct cellar_device *replaced,
                               bool *ret_renamed)
{
    char name[NAME_BYTES_MAX];

    (void)device;
    hide(path, name);
    if (replaced == NULL && find(path) != NULL)
        return -EEXIST;
    *ret_renamed = true;
    return move(name, path);
}

void __wrap_cellar_file_discard_hidden(const char *path)
{
    char name[NAME_BYTES_MAX];
    struct entry *entry;

    hide(path, name);
    entry = find(name);
    if (entry != NULL)
        remove_entry(entry);
}

int __wrap_cellar_file_settle_name(const char *path)
{
    (void)path;
    return 0;
}

int __wrap_cellar_file_is_at(const struct cellar_device *device, const char *path)
{
    (void)device;
    (void)path;
    return 0;
}

int __wrap_cellar_file_copy_mode(const struct cellar_device *from, struct cellar_device *to)
{
    (void)from;
    (void)to;
    return 0;
}

int __wrap_cellar_sum_make_identity(uint32_t *ret_identity)
{
    *ret_identity = FUZZ_IDENTITY;
    return 0;
}

char *__wrap_realpath(const char *path, char *resolved)
{
    if (!is_ours(path))
        return __real_realpath(path, resolved);
    FUZZ_NEEDS(resolved == NULL);
    if (find(path) != NULL)
        return strdup(path);
    errno = ENOENT;
    return NULL;
}

int __wrap_unlink(const char *path)
{
    struct entry *entry;

    if (!is_ours(path))
        return __real_unlink(path);
    entry = find(path);
    if (entry != NULL) {
        remove_entry(entry);
        return 0;
    }
    errno = ENOENT;
    return -1;
}

int __wrap_rename(const char *from, const char *to)
{
    if (!is_ours(from))
        return __real_rename(from, to);
    if (move(from, to) == 0)
        return 0;
    errno = ENOENT;
    return -1;
}

int __wrap_lstat(const char *path, struct stat *ret_status)
{
    if (!is_ours(path))
        return __real_lstat(path, ret_status);
    *ret_status = (struct stat){.st_mode = S_IFREG};
    if (find(path) != NULL)
        return 0;
    errno = ENOENT;
    return -1;
}

int __wrap_fsync(int fd)
{
    (void)fd;
    return 0;
}

int __wrap_nanosleep(const struct timespec *time, struct timespec *ret_rest)
{
    (void)time;
    (void)ret_rest;
    return 0;
}

/* ---- for the tests ---- */

unsigned char *fuzz_file_make(const char *path, size_t length_bytes)
{
    struct node *node = make(path);

    resize(node, length_bytes);
    return node->bytes;
}

void fuzz_file_put(const char *path, const void *bytes, size_t length_bytes)
{
    unsigned char *made = fuzz_file_make(path, length_bytes);

    if (length_bytes > 0)
        memcpy(made, bytes, length_bytes);
}

void fuzz_file_cut(const char *path, size_t length_bytes)
{
    const struct entry *entry = find(path);

    FUZZ_NEEDS(entry != NULL && length_bytes <= entry->node->size_bytes);
    resize(entry->node, length_bytes);
}

struct fuzz_bytes fuzz_file_look(const char *path)
{
    const struct entry *entry = find(path);

    if (entry == NULL)
        return (struct fuzz_bytes){.bytes = NULL};
    return (struct fuzz_bytes){.bytes = entry->node->bytes, .length_bytes = entry->node->size_bytes};
}

struct fuzz_bytes fuzz_file_copy(const char *path)
{
    struct fuzz_bytes found = fuzz_file_look(path), copy = found;

    copy.bytes = fuzz_room_take(found.length_bytes);
    fuzz_room_show(copy.bytes, found.length_bytes);
    if (found.length_bytes > 0)
        memcpy(copy.bytes, found.bytes, found.length_bytes);
    return copy;
}

void fuzz_files_clear(void)
{
    for (int i = 0; i < FILES_MAX; i++) {
        if (entries[i].node == NULL)
            continue;
        FUZZ_NEEDS(entries[i].node->references == 1);
        remove_entry(&entries[i]);
    }
}
