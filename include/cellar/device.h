/*
 * device.h - where bytes live.
 *
 * A device is a run of bytes, addressed from 0 to its size, that can be read, perhaps written, made
 * durable and grown. Everything else in Cellar (cache, pipeline, store) stands on this contract alone.
 * Devices for files (mapped, by pread, by O_DIRECT), block devices and memory come with the library, one for NBD beside
 * it (cellar/nbd.h); anybody can write another: fill in a
 * struct cellar_device_ops and call cellar_device_open.
 *
 * The table speaks the simple dialect (short transfers and EINTR allowed); the cellar_device_ calls
 * speak the strict one (whole or an error, bounds checked, counted). Users of a device only use the calls.
 *
 * Threads: read, load, release, size, sync and the accessors may run on any number of threads at once, beside anything
 * but close; of bytes that are being written meanwhile they give any mixture of before and after. Writes to disjoint
 * ranges may run together, and beside a grow that allocates at or past their ends.
 * lock, unlock, window, trim and forget: one thread at a time. There is no ABI promise before version 1.0.
 */
#ifndef CELLAR_DEVICE_H
#define CELLAR_DEVICE_H

#include <cellar/error.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>

#ifdef __cplusplus
extern "C" {
#endif

/* What can be locked. */
enum cellar_device_lock {
    CELLAR_LOCK_WRITER,           /* exclusive, held for the life of a writer; never waits: CELLAR_EBUSY */
    CELLAR_LOCK_HEADER_SHARED,    /* the original's lock of bytes 0..255 (compat mode); waits */
    CELLAR_LOCK_HEADER_EXCLUSIVE, /* the same, exclusive; waits */
};

/*
 * What a device must and may do. state is the device's own. Every function returns 0 (or a count)
 * for success and a negative error otherwise; a NULL function says "this device can't".
 *
 * token: what lock gave; write, sync, grow and trim carry it, so that a device whose lock is an epoch
 * (a compare-and-set on a server) can refuse a writer that has lost it. 0 without a lock.
 */
struct cellar_device_ops {
    const char *name; /* "file", "pread", "memory", ...; for messages and reports */

    /* The smallest unit of write and read, a power of two: 1 for byte-addressed devices. NULL means 1. */
    uint32_t (*block_bytes)(void *state);

    /* The size now, in bytes. Required. Others may grow the device at any time. */
    int (*size)(void *state, uint64_t *ret_size_bytes);

    /* Reads up to length_bytes at offset into buffer. Returns how many were read: at least 1 unless
     * offset is at or past the end (0), or a negative error. Required. */
    ssize_t (*read)(void *state, void *buffer, size_t length_bytes, uint64_t offset);

    /* Lends length_bytes (> 0, within the size) at offset without a copy, valid until release. The bytes
     * may change when the device is written. NULL: the device has nothing to lend. */
    int (*load)(void *state, uint64_t offset, size_t length_bytes, const void **ret_bytes);
    void (*release)(void *state, const void *bytes, size_t length_bytes);

    /* Writes the gathered bytes at offset, within the size. Returns how many were written, at least 1, or
     * a negative error. NULL: read-only. */
    ssize_t (*write)(void *state, uint64_t token, const struct iovec *parts, int part_count, uint64_t offset);

    /* As write, and durable when it returns, as by a sync of what was written (FUA). NULL, or -ENOTSUP
     * now: write, then sync. */
    ssize_t (*write_durable)(void *state, uint64_t token, const struct iovec *parts, int part_count, uint64_t offset);

    /* Makes [offset, offset + length_bytes) durable, whether it was written by write or by stores into
     * the window. NULL: nothing on this device is ever durable (memory). A failure may be told to one alone of the
     * calls (also of grow) that run at the same time, whoever's bytes were lost: with several threads, one failure is
     * that of all. */
    int (*sync)(void *state, uint64_t token, uint64_t offset, uint64_t length_bytes);

    /* Makes the device at least size_bytes long, with [allocate_from, size_bytes) really there: no later
     * write or store below size_bytes fails for lack of space. New bytes read as zero; bytes from
     * allocate_from on may be zeroed; the size is durable on return, also where
     * it was that already (whoever made it so may have died before it was). On failure nothing below the old
     * size has changed. size_bytes may end within a block: the device then is at least that long, and its size whole
     * blocks. NULL: fixed size; cellar_device_grow then succeeds up to it, and is -ENOSPC beyond. */
    int (*grow)(void *state, uint64_t token, uint64_t allocate_from, uint64_t size_bytes);

    /* Gives space at the end back: the device becomes size_bytes long. Nobody reads past that. NULL: no. */
    int (*trim)(void *state, uint64_t token, uint64_t size_bytes);

    /* NULL: exclusion is somebody else's business. */
    int (*lock)(void *state, enum cellar_device_lock lock, uint64_t *ret_token);
    int (*unlock)(void *state, enum cellar_device_lock lock, uint64_t token);

    /* Maps the device from byte 0 for its whole life: reserves up to capacity_bytes of addresses (as many as fit; may
     * reach beyond the end; at least the current size), readable and, if writable, writable below the size at any
     * time. Never moves, is never unmapped before close, and begins at a multiple of 8. CELLAR_NONE: no window here
     * (the reason is the device's: a file system that copies on write, no shared mappings, no address space). NULL:
     * never. */
    int (*window)(void *state, uint64_t capacity_bytes, bool writable, void **ret_base, uint64_t *ret_capacity_bytes);

    /* A descriptor on which preadv(2) and, unless the device is read-only, pwritev(2) do what read and write do, so
     * that io_uring can: for bytes in memory that lie at multiples of *ret_align_bytes, which is 1 or block_bytes at
     * most. It stays the device's. A negative value, or NULL: there is none. */
    int (*descriptor)(void *state, uint32_t *ret_align_bytes);

    /* A number that names the device together with the time since which nothing that was written to it has been lost,
     * durable or not: the same number means that every byte written under it is still there (a file's changes with the
     * boot of the machine and the mount). Never one that an earlier such time had. Where the upper 32 bits differ too,
     * every cache above the medium has been emptied since: what is read is on the medium (another boot). 0: it can't
     * tell. NULL: it never can. An error keeps a writer from opening: to take it for 0 would drop commits. */
    int (*incarnation)(void *state, uint64_t *ret_incarnation);

    /* The process forked and this is the child: let go of what must not be shared (close descriptors,
     * never unlock). Called instead of unlock, before close. NULL: nothing to do. */
    void (*forget)(void *state);

    /* Ends the device and frees state, also after a failure. Required. */
    int (*close)(void *state);
};

struct cellar_device;

/* What reads and writes in the background run on. */
enum cellar_io {
    CELLAR_IO_AUTO = 0, /* io_uring where the kernel has it and the device a descriptor, threads elsewhere */
    CELLAR_IO_URING,    /* io_uring, or -ENOTSUP; requests of devices without a descriptor go to threads all the same */
    CELLAR_IO_THREADS,  /* threads alone */
};

/* Calls that reached the device, since open. Bytes are those transferred by read and write. */
struct cellar_device_counters {
    uint64_t loads, reads, bytes_read;
    uint64_t writes, bytes_written;
    uint64_t syncs, grows;
    uint64_t retries; /* EINTR and short transfers that were continued */
};

/*
 * Makes a device of a table. ops must outlive the device and is not copied; state belongs to the device from
 * here on, and is closed (ops->close) even if this call fails.
 * -EINVAL: a required function is missing or block_bytes is no power of two. -ENOMEM.
 */
CELLAR_API CELLAR_MUST_CHECK int cellar_device_open(const struct cellar_device_ops *ops, void *state,
                                                    struct cellar_device **ret_device);

/* How to open a file as a device. */
enum {
    CELLAR_OPEN_READ = 0,      /* read-only: read permission is enough, nothing is ever changed */
    CELLAR_OPEN_WRITE = 1,     /* read and write */
    CELLAR_OPEN_CREATE = 2,    /* with WRITE: create it, empty, if it isn't there */
    CELLAR_OPEN_EXCLUSIVE = 4, /* with CREATE: -EEXIST if it is there */
    CELLAR_OPEN_DIRECT = 8,    /* not for the mapped file: past the kernel's page cache (O_DIRECT), in whole blocks */
    /* The mapped file is read at random: the system doesn't read ahead of what is read in the window and of what is
     * lent, nor around it (MADV_RANDOM). Not for who stores into the window in order: that is a fault for each page. It
     * changes nothing for the other devices: a pread reads what it asks for. */
    CELLAR_OPEN_RANDOM = 16,
};

/*
 * A file whose pages are lent by mapping: load without a copy, window, write by pwrite, sync by msync.
 * No window is given on file systems that copy on write (btrfs, ZFS, bcachefs) or without shared mappings.
 * Descriptors are O_CLOEXEC. flags as above; mode: permission bits of a created file, less the umask.
 * Errors: those of open(2); -EINVAL for anything but a regular file.
 */
CELLAR_API CELLAR_MUST_CHECK int cellar_device_open_file(const char *path, int flags, unsigned mode,
                                                         struct cellar_device **ret_device);

/*
 * The same file by pread and pwrite alone: no mapping, no window, sync by fdatasync. With CELLAR_OPEN_DIRECT the device
 * has blocks (cellar_device_block_bytes: what the file system asks of O_DIRECT): offsets and lengths are multiples of
 * them, a file that ends within a block reads as if zeros followed and counts as that much longer; memory may lie
 * anywhere, but is used without a copy only where it is aligned. -EINVAL: no O_DIRECT on this file system.
 */
CELLAR_API CELLAR_MUST_CHECK int cellar_device_open_pread(const char *path, int flags, unsigned mode,
                                                          struct cellar_device **ret_device);

/*
 * A block device of the system (/dev/...), by pread and pwrite: of fixed size, sync by fdatasync; with
 * CELLAR_OPEN_DIRECT in whole blocks (its logical block), else byte by byte through the kernel's page cache. flags
 * READ, WRITE, DIRECT and RANDOM alone. -ENOTBLK: something else.
 */
CELLAR_API CELLAR_MUST_CHECK int cellar_device_open_block(const char *path, int flags,
                                                          struct cellar_device **ret_device);

/*
 * A device in bytes over one in blocks: every read and write is widened to whole blocks, and what a write widens by is
 * read first and written back as it is, one such write at a time. inner belongs to the new device, also where
 * this fails; all else (name, locks, growth, size) is inner's, but a file that ends within a block is as long as it is.
 * Nobody else may write to inner meanwhile. -ENOMEM.
 */
CELLAR_API CELLAR_MUST_CHECK int cellar_device_open_bytes(struct cellar_device *inner,
                                                          struct cellar_device **ret_device);

/*
 * Bytes in this process's memory: capacity_bytes are reserved once, size_bytes of them are there at first
 * (zero, or a copy of bytes where that is not NULL); grow up to the capacity, -ENOSPC beyond. Lends, and has
 * a window. Never durable: sync does nothing. -EINVAL: size_bytes > capacity_bytes. -ENOMEM.
 */
CELLAR_API CELLAR_MUST_CHECK int cellar_device_open_memory(const void *bytes, uint64_t size_bytes,
                                                           uint64_t capacity_bytes, struct cellar_device **ret_device);

/* Ends the device: locks go, lent bytes and the window become invalid. NULL is fine. Returns the first error of
 * the device's own close; the handle is gone in any case. */
CELLAR_API int cellar_device_close(struct cellar_device *device);

/* The size now, in bytes. */
CELLAR_API CELLAR_MUST_CHECK int cellar_device_size(struct cellar_device *device, uint64_t *ret_size_bytes);

/* Copies [offset, offset + length_bytes) into buffer: all of it, or CELLAR_EBOUNDS (it reaches past the end), or the
 * device's error. */
CELLAR_API CELLAR_MUST_CHECK int cellar_device_read(struct cellar_device *device, void *buffer, size_t length_bytes,
                                                    uint64_t offset);

/* Lends [offset, offset + length_bytes) until release; bytes that the device can't lend are read into memory of their
 * own, so this works on every device. length_bytes 0 lends a valid empty run. Errors as read, and -ENOMEM. */
CELLAR_API CELLAR_MUST_CHECK int cellar_device_load(struct cellar_device *device, uint64_t offset, size_t length_bytes,
                                                    const void **ret_bytes);
CELLAR_API void cellar_device_release(struct cellar_device *device, const void *bytes, size_t length_bytes);

/* True where load can lend the device's own memory (no copy). */
CELLAR_API bool cellar_device_lends(const struct cellar_device *device);

/* Writes the gathered parts at offset: all of them, or an error (then any part of them may have been written).
 * CELLAR_EBOUNDS past the end, -EROFS on a read-only device, -EINVAL for what is not whole blocks. parts is not
 * changed. */
CELLAR_API CELLAR_MUST_CHECK int cellar_device_write(struct cellar_device *device, const struct iovec *parts,
                                                     int part_count, uint64_t offset);

/* The same, and what was written survives a power loss when this returns. Errors as write and sync: after a failure
 * nothing may be assumed. */
CELLAR_API CELLAR_MUST_CHECK int cellar_device_write_durable(struct cellar_device *device, const struct iovec *parts,
                                                             int part_count, uint64_t offset);

/* Makes the range durable: it survives a power loss from here on. After a failure nothing may be assumed of any byte
 * written since the last success, and a retry that succeeds proves nothing. */
CELLAR_API CELLAR_MUST_CHECK int cellar_device_sync(struct cellar_device *device, uint64_t offset,
                                                    uint64_t length_bytes);

/* See grow in the table. Sizes at or below the current one still allocate [allocate_from, size_bytes).
 * -ENOSPC, -EFBIG (also for RLIMIT_FSIZE: no SIGXFSZ), -EROFS, -ENOTSUP. */
CELLAR_API CELLAR_MUST_CHECK int cellar_device_grow(struct cellar_device *device, uint64_t allocate_from,
                                                    uint64_t size_bytes);
CELLAR_API CELLAR_MUST_CHECK int cellar_device_trim(struct cellar_device *device, uint64_t size_bytes);

/* Locks; held ones go with close. CELLAR_EBUSY for a writer's lock that somebody has, in this process or another
 * (also through this handle). -ESTALE: the file can't be opened a second time for its locks.
 * A device without locks succeeds at once. */
CELLAR_API CELLAR_MUST_CHECK int cellar_device_lock(struct cellar_device *device, enum cellar_device_lock lock);
CELLAR_API int cellar_device_unlock(struct cellar_device *device, enum cellar_device_lock lock);

/* See window in the table. The first call makes it, as writable as the device is; later ones give the same. -EROFS:
 * writable is asked for on a read-only device. CELLAR_NONE: there is none, use read and write. CELLAR_EWINDOW:
 * capacity_bytes is less than the device's size. */
CELLAR_API CELLAR_MUST_CHECK int cellar_device_window(struct cellar_device *device, uint64_t capacity_bytes,
                                                      bool writable, void **ret_base, uint64_t *ret_capacity_bytes);

/* In a child after fork(): gives up the device without touching the parent's locks; then close. */
CELLAR_API void cellar_device_forget(struct cellar_device *device);

CELLAR_API bool cellar_device_writable(const struct cellar_device *device);
CELLAR_API uint32_t cellar_device_block_bytes(const struct cellar_device *device);
/* See descriptor in the table; negative: none. */
CELLAR_API int cellar_device_descriptor(const struct cellar_device *device, uint32_t *ret_align_bytes);
/* See incarnation in the table. A number of 0: it can't tell. Errors of the device. */
CELLAR_API CELLAR_MUST_CHECK int cellar_device_incarnation(const struct cellar_device *device,
                                                           uint64_t *ret_incarnation);
CELLAR_API const char *cellar_device_name(const struct cellar_device *device);
CELLAR_API struct cellar_device_counters cellar_device_counters(const struct cellar_device *device);

#ifdef __cplusplus
}
#endif
#endif
