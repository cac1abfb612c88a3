/*
 * file.h - what the devices on files of the system share, and what the store needs of a file that is no business of a
 * device: its name. The device room's second door, for the store's files alone.
 */
#ifndef CELLAR_DEVICE_FILE_H
#define CELLAR_DEVICE_FILE_H

#include <cellar/device.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

/* What a path is opened as. */
enum cellar_file_kind {
    CELLAR_FILE_PREAD,
    CELLAR_FILE_MAPPED,
    CELLAR_FILE_DIRECT,
    CELLAR_FILE_BLOCK,
    CELLAR_FILE_BLOCK_DIRECT,
    CELLAR_FILE_KIND_COUNT,
};

/* The state of a device on a file of the system. */
struct cellar_file {
    enum cellar_file_kind kind;
    int fd;
    int lock_fd; /* an open file description of its own, never mapped, for the writer's lock; -1 before it is asked for
                  */
    int flags;   /* CELLAR_OPEN_ bits */

    uint64_t durable_bytes; /* a file's size is durable up to here: what this device's grow has synced */

    /* Of the direct kinds. */
    int direct_fd;              /* the same file by O_DIRECT; -1: none */
    uint32_t block_bytes;       /* what offsets and lengths are multiples of */
    uint32_t align_bytes;       /* and addresses in memory; at most block_bytes */
    pthread_rwlock_t tail_lock; /* written: by who writes through the page cache; read: by who writes past it */

    uint64_t fixed_bytes; /* of a block device: its size */

    /* Of the mapped kind. */
    void *window;
    uint64_t window_bytes;
    _Atomic(unsigned char *) loan; /* without a window: what load lends from, made by the first one */
    uint64_t loan_bytes;           /* stored before loan */
    pthread_mutex_t loan_lock;     /* while it is being made */
    char *path;                    /* for the lock's own open */
};

/* Beside the public flags: the last part of the path is no symbolic link (-ELOOP). */
enum { CELLAR_FILE_NO_LINK = 1 << 16 };

/* Opens path as a device of that kind. Errors as cellar_device_open_file and the others. */
int cellar_file_open(const char *path, int flags, unsigned mode, enum cellar_file_kind kind,
                     struct cellar_device **ret_device);

/* The state of a device on a file, also below a device in bytes; NULL: it is another kind of device. */
struct cellar_file *cellar_file_of(const struct cellar_device *device);

/* The length that the file really has. CELLAR_NONE: the device is no regular file, nor in bytes over one. */
int cellar_file_length(const struct cellar_device *device, uint64_t *ret_length_bytes);

/* True where the path names a block device. */
bool cellar_file_names_block_device(const char *path);

/*
 * A store that is being made: a file under the hidden name .NAME.cellar-new, empty, locked for its writer. A leftover
 * of a crash is removed; CELLAR_EBUSY: another process is making one just now.
 */
int cellar_file_create_hidden(const char *path, unsigned mode, enum cellar_file_kind kind,
                              struct cellar_device **ret_device);

/* Gives the hidden file its name, durably. replaced: the file that has the name now and gives way (-ESTALE: it is
 * another); NULL: there must be none (-EEXIST). *ret_renamed, also on failure: it has the name (and making that durable
 * failed). */
int cellar_file_publish(struct cellar_device *device, const char *path, const struct cellar_device *replaced,
                        bool *ret_renamed);

/* Removes the hidden file again (creation failed). */
void cellar_file_discard_hidden(const char *path);

/* Makes it durable that path names the file that it names. 0 also where the folder may not be read. */
int cellar_file_settle_name(const char *path);

/* 0: path still names the file of this device. CELLAR_NONE: it names another, or nothing. */
int cellar_file_is_at(const struct cellar_device *device, const char *path);

/* 0: path names the file of this device, or nothing, or what may not be looked at. CELLAR_NONE: another file. */
int cellar_file_check_name(const struct cellar_device *device, const char *path);

/* Gives a file the permissions, and as far as we may the owner, of another. */
int cellar_file_copy_mode(const struct cellar_device *from, struct cellar_device *to);

/* True on the kinds of file systems that copy on write: a store into a mapping can meet a full disk there. */
bool cellar_file_system_copies(int fd);

/*
 * Allocates the holes of the file in [offset, offset + length_bytes), changing no byte and not its size: without that a
 * store into a mapping can meet a full disk. 0 at once where there is none. -ENOSPC, -EOPNOTSUPP, ...
 */
int cellar_file_fill_holes(const struct cellar_device *device, uint64_t offset, uint64_t length_bytes);

/*
 * Space of the file that is allocated, made cheap to store into; both change no byte, whatever lies there and whoever
 * stores there meanwhile. Offset and length are whole pages below the file's end.
 *
 * populate brings pages of the window in, ready for stores. -ENOTSUP: no window, or the system can't.
 *
 * write_out has pages written to the disk as they are, durably, through an open file description of its own: *fd, which
 * is made where it is -1 and is the caller's to close. Errors of its sync are that description's; every other one hears
 * of them too. -ENOTSUP: nothing was tried. -EIO and others: of the sync.
 */
int cellar_file_populate(const struct cellar_device *device, uint64_t offset, uint64_t length_bytes);
int cellar_file_write_out(const struct cellar_device *device, int *fd, uint64_t offset, uint64_t length_bytes);

/* Advises the system about a mapping of the file that has just been made, for all of its life. */
void cellar_file_advise(const struct cellar_file *file, void *mapping, uint64_t length_bytes);

/* Whether the system brings in more than a page for a store into the window, or a read there, from this offset on. It
 * does in a new one. */
void cellar_file_read_around(const struct cellar_device *device, uint64_t offset, bool wanted);

/* A second open file description of the same file, with more_flags of open(2). -ESTALE: it can't be had. */
int cellar_file_open_again(const struct cellar_file *file, int more_flags, int *ret_fd);

/* For the tables. */
int cellar_file_size(void *state, uint64_t *ret_size_bytes);
ssize_t cellar_file_read(void *state, void *buffer, size_t length_bytes, uint64_t offset);
ssize_t cellar_file_write(void *state, uint64_t token, const struct iovec *parts, int part_count, uint64_t offset);
ssize_t cellar_file_write_durable(void *state, uint64_t token, const struct iovec *parts, int part_count,
                                  uint64_t offset);
int cellar_file_fdatasync(void *state, uint64_t token, uint64_t offset, uint64_t length_bytes);
int cellar_file_grow(void *state, uint64_t token, uint64_t allocate_from, uint64_t size_bytes);
int cellar_file_trim(void *state, uint64_t token, uint64_t size_bytes);
int cellar_file_lock(void *state, enum cellar_device_lock lock, uint64_t *ret_token);
int cellar_file_unlock(void *state, enum cellar_device_lock lock, uint64_t token);
int cellar_file_descriptor(void *state, uint32_t *ret_align_bytes);
int cellar_file_incarnation(void *state, uint64_t *ret_incarnation);
void cellar_file_forget(void *state);
int cellar_file_close(void *state);

/* The tables of the direct kinds share these. */
uint32_t cellar_direct_block_bytes(void *state);
ssize_t cellar_direct_read(void *state, void *buffer, size_t length_bytes, uint64_t offset);
ssize_t cellar_direct_write(void *state, uint64_t token, const struct iovec *parts, int part_count, uint64_t offset);
ssize_t cellar_direct_write_durable(void *state, uint64_t token, const struct iovec *parts, int part_count,
                                    uint64_t offset);
int cellar_direct_descriptor(void *state, uint32_t *ret_align_bytes);

/* Finds out what O_DIRECT asks of file->direct_fd: sets block_bytes and align_bytes. -EINVAL: there is none here. */
int cellar_direct_probe(struct cellar_file *file);

/* Sets file->fixed_bytes. -EBUSY: for writing, what is mounted or otherwise taken by the system. */
int cellar_block_probe(struct cellar_file *file);

/* -EFBIG where a write up to end would be beyond RLIMIT_FSIZE: a SIGXFSZ. */
int cellar_file_check_limit(const struct cellar_file *file, uint64_t end);

/* pwritev, or pwritev2 with RWF_DSYNC, with -errno for a failure. -ENOTSUP: no RWF_DSYNC. */
ssize_t cellar_file_put(int fd, const struct iovec *parts, int part_count, uint64_t offset, bool durable);

/* The tables: read-only ones have no write, grow and trim. */
extern const struct cellar_device_ops cellar_mapped_file_ops, cellar_mapped_file_read_ops;
extern const struct cellar_device_ops cellar_pread_ops, cellar_pread_read_ops;
extern const struct cellar_device_ops cellar_direct_ops, cellar_direct_read_ops;
extern const struct cellar_device_ops cellar_block_ops, cellar_block_read_ops;
extern const struct cellar_device_ops cellar_block_direct_ops, cellar_block_direct_read_ops;

#endif
