/*
 * store.h - the cell store: one writer and any number of readers, in this process and others, on one file.
 *
 * A store is an array of cells of one fixed size, addressed by a 32-bit index, that only grows. The writer
 * appends cells, or values (any bytes, kept in runs of cells and named by one index), moves the root (one index
 * that says where the latest state starts), and then
 *     commits - everything appended becomes visible to readers that hold the writer's key; mostly no system call
 *     flushes - everything committed becomes durable, and visible to every reader.
 * A reader holds a snapshot: the cells below one next index. They never change, so reading takes no lock.
 *
 *     writer                                reader
 *     cellar_writer_open_or_create          cellar_reader_open
 *     cellar_writer_append / write_value    cellar_reader_refresh        (looks again: nanoseconds)
 *     cellar_writer_set_root                cellar_reader_snapshot
 *     cellar_writer_commit / flush          cellar_snapshot_get / read_value ...
 *     cellar_writer_close                   cellar_reader_close
 *
 * Threads: a writer handle and a reader handle are each used by one thread at a time; cellar_writer_flush_committed
 * may run on any thread beside it. A snapshot is a small value that may be copied freely and used on any number
 * of threads at once, until its handle is closed.
 *
 * Fail-stop: after the first failed write or sync of a writer every later call returns that error; only close
 * works. What was flushed is safe; open again. Processes: a handle opened before fork() gives CELLAR_EFORKED in the
 * child, where only close does anything. A child that lives on without closing the handle or calling exec keeps the
 * writer's lock alive if its parent is killed: close it in the child. Nothing here prints, aborts or installs a signal
 * handler. File systems: local ones; not those of a network, where other machines' mappings are not coherent.
 */
#ifndef CELLAR_STORE_H
#define CELLAR_STORE_H

#include <cellar/device.h>
#include <cellar/error.h>
#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#ifdef __cplusplus
extern "C" {
#endif

enum {
    CELLAR_HEAD_BYTES = 20,
    CELLAR_KEY_BYTES = 32,
    CELLAR_HEADER_BYTES = 256, /* the first ceil(256 / bytes per cell) cells are the header */
    CELLAR_BYTES_PER_CELL_MIN = 4,
    CELLAR_BYTES_PER_CELL_MAX = 65535,
    CELLAR_CHUNK_BYTES_MAX = 65535, /* the bytes of a value that one chunk holds */
};

#define CELLAR_ROOT_NONE UINT32_C(0)                  /* "no root": cell 0 is the header's */
#define CELLAR_MAX_INDEX_DEFAULT UINT32_C(4294967039) /* what the original uses: 2^32 - 257 */

/* What a store is made with. Everything but version is fixed for its life. */
struct cellar_config {
    unsigned char head[CELLAR_HEAD_BYTES]; /* says whose file this is; any bytes */
    uint32_t bytes_per_cell;               /* 4..65535, any value */
    uint32_t max_index; /* exclusive: the last usable cell is max_index - 1; at least the header's cells */
    uint32_t version;   /* the application's, any value */
};

/* The writer's key: who holds it can follow commits, not only flushes. It is no secret against those who can read
 * the file; it tells one writer from the next. */
struct cellar_key {
    unsigned char bytes[CELLAR_KEY_BYTES];
};

/* A fresh key from the system's random source. Errors: those of getrandom(2). Any thread. */
CELLAR_API CELLAR_MUST_CHECK int cellar_key_make(struct cellar_key *ret_key);

/* A fresh key that is not the key of any of the stores. Stores that can't be opened or whose process-sync
 * slots are broken have none. Any thread. */
CELLAR_API CELLAR_MUST_CHECK int cellar_key_make_new(const char *const *store_paths, size_t store_count,
                                                     struct cellar_key *ret_key);

/* Which way bytes go between this process and the file; never silent, see struct cellar_info. */
enum cellar_data_path {
    CELLAR_PATH_WINDOW = 1, /* the file is mapped: reads and appends are loads and stores */
    CELLAR_PATH_PAGES,      /* page cache and write pipeline over read and write */
};

enum cellar_device_choice {
    CELLAR_DEVICE_AUTO = 0, /* the mapped file; pages where the file system can't give a window */
    CELLAR_DEVICE_MAPPED,   /* the mapped file, or -ENOTSUP */
    CELLAR_DEVICE_PAGES,    /* pread and pwrite */
    /* Past the kernel's page cache (O_DIRECT); -EINVAL where the file system has none. Who has the file open meanwhile
     * should open it in this way too: the kernel brings mappings and its page cache in line with what is written past
     * them, but not at every moment. On a device of the caller's: as PAGES. */
    CELLAR_DEVICE_DIRECT,
};

/* How a reader goes about the cells of a mapped file that aren't in memory. */
enum cellar_access {
    /* The system reads ahead, and around what is read: one cell brings in as much as the disk's read_ahead_kb says, 128
     * KiB to some MiB. For who reads in order, or most of the store, or a store that fits into memory. */
    CELLAR_ACCESS_DEFAULT = 0,
    /*
     * What is read brings in its page and no more. For single cells and values, at random, of a store that is much
     * larger than what is read of it. More than 4096 bytes that one call copies (cellar_snapshot_read, read_value,
     * copy_value) are asked for as a whole, by a system call; who reads on through pointers (runs, pieces) waits for
     * the disk at each page. Without a window, and on a device of the caller's (see CELLAR_OPEN_RANDOM), it changes
     * nothing.
     */
    CELLAR_ACCESS_RANDOM,
};

/* How commits reach readers that hold the writer's key. */
enum cellar_publish {
    CELLAR_PUBLISH_SLOTS = 0, /* hashed slots, which every program that knows the format finds */
    /*
     * One store of 8 bytes: no hash, some nanoseconds. Readers need a window (without one they are told -ENOTSUP), and
     * the slots follow at flush and close. For who commits often. Not where the original opens the file before Cellar
     * after the writer was killed: it would use cells again that readers have seen. Without a window, and on the pages
     * path, the writer goes by slots; see cellar_writer_info.
     */
    CELLAR_PUBLISH_WORD,
};

enum cellar_mode { CELLAR_MODE_WRITER = 1, CELLAR_MODE_READER };

/* What became of the checksum file of a store that was made with one. */
enum cellar_sums_state {
    CELLAR_SUMS_NONE = 0, /* the store has none */
    CELLAR_SUMS_GOOD,     /* all flushed cells have checksums */
    CELLAR_SUMS_BEHIND,   /* some have none: a power loss, or another writer; the next flush adds them */
    CELLAR_SUMS_LOST,     /* it is not there, or nothing in it can be read */
    CELLAR_SUMS_STALE,    /* it is not of this store as it is: of another one, or of a later or other state */
};

/* What a handle is and stands at. */
struct cellar_info {
    enum cellar_mode mode;
    enum cellar_data_path data_path;
    const char *device_name; /* static string: "file", "pread", "memory", ... */
    const char *path;        /* as given at open; NULL on a device of the caller's. Until close. */
    struct cellar_config config;
    uint32_t start_index;        /* the first usable cell: ceil(256 / bytes per cell) */
    uint32_t next_index;         /* the next cell to be used; header cells included */
    uint32_t root_index;         /* CELLAR_ROOT_NONE: none */
    uint32_t flushed_next_index; /* the next index of the disk-sync state as this handle last saw it: durable, but for a
                                    flush that is just being made */
    uint64_t size_bytes;         /* next_index * bytes per cell */
    uint64_t file_bytes;         /* the length of the file as this handle last saw it */
    uint64_t window_bytes;       /* reserved addresses, 0 without a window */
    uint32_t resize_step_cells;  /* writer: the file grows by this many cells at a time; reader: 0 */
    bool has_key;                /* writer: true; reader: process sync is enabled */
    bool other_writer;           /* reader: the last refresh followed a writer with another key */
    bool compat;                 /* writer: compat mode is on */
    enum cellar_publish publish; /* writer: how it does; reader with the key: how the writer does */
    enum cellar_sums_state sums; /* of its checksum file, now; see also sums_error */
    int sums_error;              /* writer: why it is not extended any more; the store is not harmed. 0: it is */
    uint64_t renewed_blocks;   /* writer: blocks of 4096 bytes, at most, whose checksums were broken themselves and that
                                    a flush summed again, as they are now: what rotted in them before isn't found */
    uint64_t verified_pages;   /* reader with verify: pages that were compared with their checksum, and held */
    uint64_t unverified_pages; /* pages that have none yet */
};

/* ---- writer ---------------------------------------------------------------------------------- */

struct cellar_writer;

#define CELLAR_EAGER_NONE UINT32_MAX
#define CELLAR_GATHER_NONE UINT32_MAX

/*
 * What a writer on a mapped file does ahead of the cells that it appends; bits that turn it off. A thread of its own
 * begins with it when the writer has appended a MiB, or flushed new cells 128 times, and ends at close. It stores no
 * byte; now and then an append wakes it by a system call. And the system is told to bring in no pages around one that
 * is stored into first (MADV_RANDOM, behind the last cell), in the first MiB, and while cells are gathered: it would be
 * as much as the disk reads ahead, some MiB. Never in compat mode, or on a device of the caller's.
 */
enum {
    /* None of it, and no thread. For a program that may have no other threads, or counts its system calls. */
    CELLAR_AHEAD_NONE = 1,
    /* The file doesn't grow ahead of need, and always by the resize step. Else by a quarter of its length, a step at
     * least and 256 MiB at most, before the writer needs it. For a disk that is nearly full, and others use. */
    CELLAR_AHEAD_NO_GROWTH = 2,
    /* Pages aren't brought in before cells that come fast (16 MiB at most), so each of them is a page fault for the
     * writer. For a machine whose other cores have better things to do. */
    CELLAR_AHEAD_NO_POPULATION = 4,
    /* Pages aren't written to the disk before frequent flushes of 512 bytes to 256 KiB (4 MiB at most), so that many of
     * these are two writes. For a disk on which every byte written counts: it is each page once more. */
    CELLAR_AHEAD_NO_WRITES = 8,
};

/* All-zero means defaults. No pointer is kept after the call. */
struct cellar_writer_options {
    const struct cellar_key *key; /* NULL: a fresh one, see cellar_writer_info */
    uint64_t resize_step_bytes;   /* 0: 16 MiB. The file grows by this or more (see ahead), really allocated, and is cut
                                     to what is used at close */
    uint32_t initial_cells;       /* create: first length of the file in cells, header included; 0: one step */
    uint64_t window_bytes;        /* most addresses to reserve; 0: max index * bytes per cell, or what fits */
    enum cellar_device_choice device;
    uint64_t cache_bytes; /* page cache of the pages path; 0: 8 MiB */
    /* Pages path: new cells go to the device in the background before they are committed, in stretches of 256 KiB, at
     * most so many at a time, so that the commit of much data waits for little. 0: 4; CELLAR_EAGER_NONE: none. */
    unsigned eager_writes;
    /* Mapped file: cells appended after so many bytes of one commit are gathered, 256 KiB at most, and go to the file
     * by large writes, which cost less than page faults; at commit, and when the writer takes a snapshot, the rest
     * goes. After a commit of a MiB all of the next are. 0: 64 KiB; CELLAR_GATHER_NONE: all are stored into the
     * mapping, and there is no system call at any commit. */
    uint32_t gather_bytes;
    unsigned ahead;     /* CELLAR_AHEAD_ bits; 0: all that pays */
    unsigned file_mode; /* permissions of a created file, less the umask; 0: 0644 */
    /* The original (Plebeia) has the file open at the same time, or may open it after a power loss: its lock is taken
     * around slot writes, and the file is not cut at close. */
    bool compat;
    /* -EINVAL: WORD in compat mode, or with a key that is the last writer's. */
    enum cellar_publish publish;
    /* Every flush waits for the disk twice, as the original's does. Else a flush of few new cells (256 KiB at most)
     * waits once, and a power loss may leave what was flushed last where only Cellar finds it (close moves it to where
     * the original does). For files that the original may open after a power loss, before Cellar has. Compat mode,
     * O_DIRECT and devices that can't tell one boot from the next always wait twice. */
    bool two_barriers;
    bool checksums; /* create: a file STORE.cellar-sums beside it has checksums of its cells, see sums.h. -ENOTSUP on a
                       device of the caller's, which has no name. A store that is opened has them, or not. */
    struct cellar_diagnostic *diagnostic; /* filled on failure; may be NULL */
};

/* What opening for write found, and did about it. */
enum cellar_found {
    CELLAR_FOUND_NOTHING = 0,    /* the store was created */
    CELLAR_FOUND_CLEAN,          /* the last writer flushed everything it committed */
    CELLAR_FOUND_UNFLUSHED,      /* process sync is ahead of disk sync, and what was committed may not be there: the
                                    machine went down since, a sync failed, the file is a copy or mounted anew. Opened
                                    on the disk-sync root, after the cells that were committed */
    CELLAR_FOUND_PROCESS_BROKEN, /* both process-sync slots are broken: opened on the disk-sync state */
    CELLAR_FOUND_DISK_NEWER,     /* disk sync is ahead of process sync, as a power loss in a flush may leave it: opened
                                    on the disk-sync state, which is all there */
    CELLAR_FOUND_COMMITTED,      /* the last writer died, the machine stayed up: opened on everything it committed */
};

/* Slots, as bits of repaired_slots. */
enum {
    CELLAR_SLOT_DISK_1 = 1,
    CELLAR_SLOT_DISK_2 = 2,
    CELLAR_SLOT_PROCESS_1 = 4,
    CELLAR_SLOT_PROCESS_2 = 8,
};

struct cellar_recovery {
    enum cellar_found found;
    uint32_t disk_next_index, disk_root_index;       /* the disk-sync state in force when it was opened */
    uint32_t process_next_index, process_root_index; /* the process-sync state, 0 where broken */
    uint32_t skipped_cells;                          /* committed but never flushed: never used again */
    bool root_dropped;                               /* a committed root was not flushed; the flushed one is back */
    uint32_t next_index, root_index;                 /* the state adopted */
    unsigned repaired_slots;                         /* CELLAR_SLOT_ bits: broken or older than the other of its pair */
    bool
        suspect; /* a sync of the last writer failed, or growing the file did: what it had not flushed is not trusted */
    uint32_t
        rewritten_cells; /* written once more and made durable at this opening: a sync was under way, or had failed */
    enum cellar_sums_state sums; /* LOST, STALE: no checksums are made until they are rebuilt, see sums.h */
};

/*
 * Creates a store at path; the file appears under its name whole, durable, or not at all. On return it is open for
 * write. -EEXIST: something is there. -EINVAL: config or options out of range. CELLAR_EBUSY: another process creates it
 * just now. -ENOSPC and other errors of the system.
 */
CELLAR_API CELLAR_MUST_CHECK int cellar_writer_create(const char *path, const struct cellar_config *config,
                                                      const struct cellar_writer_options *options,
                                                      struct cellar_writer **ret_writer);

/*
 * Opens an existing store for write, repairs what a crash left (see cellar_writer_recovery) and publishes under the new
 * key. With a window, space beyond the last cell is given back (not in compat mode), and holes of the file near its
 * header and its last cell are allocated. -ENOENT. CELLAR_EBUSY: it has a writer, in this process or another.
 * CELLAR_ECORRUPT, and -ENOTSUP for a file with features of a later version: nothing in the file was changed.
 * CELLAR_EWINDOW: window_bytes is less than the file.
 */
CELLAR_API CELLAR_MUST_CHECK int cellar_writer_open(const char *path, const struct cellar_writer_options *options,
                                                    struct cellar_writer **ret_writer);

/* Opens the store if it is there, else creates it. CELLAR_ECONFIG: it is there with another config (nothing was
 * changed). */
CELLAR_API CELLAR_MUST_CHECK int cellar_writer_open_or_create(const char *path, const struct cellar_config *config,
                                                              const struct cellar_writer_options *options,
                                                              struct cellar_writer **ret_writer);

/*
 * The same on a device of the caller's, who keeps it open until the writer is closed; of any block size. create formats
 * the device: it must be empty (size 0) and grow, or be of fixed size and begin with 4096 bytes of zeros (or all of
 * it), else -EEXIST; if formatting fails it is left so. A store on a device of fixed size ends with the device:
 * -ENOSPC. There a power loss during create may leave a header that nobody takes for a store, nor for an empty device:
 * zero it. truncate is -ENOTSUP on such a store. -EROFS: the device can't write.
 */
CELLAR_API CELLAR_MUST_CHECK int cellar_writer_create_on(struct cellar_device *device,
                                                         const struct cellar_config *config,
                                                         const struct cellar_writer_options *options,
                                                         struct cellar_writer **ret_writer);
CELLAR_API CELLAR_MUST_CHECK int cellar_writer_open_on(struct cellar_device *device,
                                                       const struct cellar_writer_options *options,
                                                       struct cellar_writer **ret_writer);

/*
 * COMMITS what was appended, flushes, and ends the writer; returns the first error (the handle is gone in any case, and
 * what was flushed before is safe). To drop uncommitted work: cellar_writer_rollback first, or abandon. NULL is fine.
 * In a child after fork it frees, touches nothing of the parent's, and returns 0.
 */
CELLAR_API int cellar_writer_close(struct cellar_writer *writer);

/* Ends the writer without commit or flush: what was not committed is dropped, what was not flushed is left to the
 * system. */
CELLAR_API void cellar_writer_abandon(struct cellar_writer *writer);

CELLAR_API void cellar_writer_info(const struct cellar_writer *writer, struct cellar_info *ret_info);
CELLAR_API void cellar_writer_recovery(const struct cellar_writer *writer, struct cellar_recovery *ret_recovery);

/* The key under which this writer publishes; hand it to readers that are to follow commits (a file with mode 0600). */
CELLAR_API void cellar_writer_key(const struct cellar_writer *writer, struct cellar_key *ret_key);

/* The next index to be used, and the root as last set. */
CELLAR_API uint32_t cellar_writer_next(const struct cellar_writer *writer);
CELLAR_API uint32_t cellar_writer_root(const struct cellar_writer *writer);

/*
 * Appends cell_count cells from cells (cell_count * bytes per cell bytes); the first gets *ret_first_index. All or
 * nothing. CELLAR_EINDEXFULL; CELLAR_EWINDOW; -EINVAL for 0 cells; -ENOSPC and -EFBIG when the file can't grow (no
 * poison: the writer goes on with what it has).
 */
CELLAR_API CELLAR_MUST_CHECK int cellar_writer_append(struct cellar_writer *writer, const void *cells,
                                                      uint32_t cell_count, uint32_t *ret_first_index);

/* Appends length_bytes (> 0) as a run of cells; the rest of the last cell is zero. Errors as append. */
CELLAR_API CELLAR_MUST_CHECK int cellar_writer_append_bytes(struct cellar_writer *writer, const void *bytes,
                                                            size_t length_bytes, uint32_t *ret_first_index);

/* The most cells that one reservation gives: 65536 + 6 / bytes_per_cell + 1, as in the original. */
CELLAR_API uint32_t cellar_writer_reserve_max(uint32_t bytes_per_cell);

/*
 * Appends cell_count cells (1..cellar_writer_reserve_max) to be filled in place: *ret_cells is their first byte,
 * contiguous, writable until the next commit (later stores are lost or worse). They hold whatever was there. Errors as
 * append.
 */
CELLAR_API CELLAR_MUST_CHECK int cellar_writer_reserve(struct cellar_writer *writer, uint32_t cell_count,
                                                       uint32_t *ret_first_index, void **ret_cells);

/* Overwrites bytes from the start of a cell that was appended but not yet committed; may run over the cells after it.
 * CELLAR_EBOUNDS: outside what was appended; -EINVAL: it is committed, and committed cells never change. */
CELLAR_API CELLAR_MUST_CHECK int cellar_writer_rewrite(struct cellar_writer *writer, uint32_t index, const void *bytes,
                                                       size_t length_bytes);

/* Appends a value of any size, 0 included, as a chain of chunks; *ret_index names it. All or nothing. Errors as append.
 */
CELLAR_API CELLAR_MUST_CHECK int cellar_writer_write_value(struct cellar_writer *writer, const void *bytes,
                                                           size_t length_bytes, uint32_t *ret_index);

/* The same for bytes that lie in several places: the value is the parts one after the other. -EINVAL: part_count < 0.
 */
CELLAR_API CELLAR_MUST_CHECK int cellar_writer_write_value_parts(struct cellar_writer *writer,
                                                                 const struct iovec *parts, int part_count,
                                                                 uint32_t *ret_index);

/* Moves the root, from the next commit on: a cell that was appended, or CELLAR_ROOT_NONE. CELLAR_EBOUNDS otherwise. */
CELLAR_API CELLAR_MUST_CHECK int cellar_writer_set_root(struct cellar_writer *writer, uint32_t root_index);

/* Back to the last commit: cells appended since are given back (their indices will be used again), the root is the
 * committed one. Pointers from cellar_writer_reserve and snapshots of this writer taken since become invalid. */
CELLAR_API CELLAR_MUST_CHECK int cellar_writer_rollback(struct cellar_writer *writer);

/* Publishes everything appended and the root to readers with the key. With a window no system call (in compat mode:
 * two, for the original's lock; after many cells one write, see gather_bytes). On the pages path what was appended
 * stays in memory until now, and is written now. */
CELLAR_API CELLAR_MUST_CHECK int cellar_writer_commit(struct cellar_writer *writer);

/* Commits, then makes it durable. The writer's thread. */
CELLAR_API CELLAR_MUST_CHECK int cellar_writer_flush(struct cellar_writer *writer);

/* Makes what is committed now durable, without committing. Any thread, beside the writer's; calls that come together
 * share one barrier. A failure poisons the writer. close, abandon and truncate must not run meanwhile. */
CELLAR_API CELLAR_MUST_CHECK int cellar_writer_flush_committed(struct cellar_writer *writer);

/*
 * Puts an empty store of the same config in place of this one: built aside, durable, then renamed over it. Readers keep
 * their snapshots; their next refresh says CELLAR_ERETIRED. Snapshots and pointers taken from this writer become
 * invalid. initial_cells as in the options. -ESTALE: the path names another file by now (the store was moved, or
 * replaced); nothing was touched. -ENOTSUP in compat mode and on a device of the caller's. On failure before the rename
 * the store, and what was appended to it, is as it was; a failure after it (the folder can't be synced) poisons.
 */
CELLAR_API CELLAR_MUST_CHECK int cellar_writer_truncate(struct cellar_writer *writer, uint32_t initial_cells);

/* Changes the version in the file, durably. */
CELLAR_API CELLAR_MUST_CHECK int cellar_writer_override_version(struct cellar_writer *writer, uint32_t version);

/* ---- reader ---------------------------------------------------------------------------------- */

struct cellar_reader;

struct cellar_reader_options {
    const struct cellar_key *key; /* not NULL: follow commits from the start (see enable_process_sync) */
    uint64_t window_bytes;        /* most addresses to reserve; 0: max index * bytes per cell, or what fits */
    enum cellar_device_choice device;
    enum cellar_access access;
    uint64_t cache_bytes; /* page cache of the pages path; 0: 8 MiB */
    /* Each page is compared with its checksum when it is loaded, and reading cells of one that is not what was written
     * is CELLAR_ECHECKSUM. On the pages path, whatever the choice but MAPPED (-EINVAL). Cells that are not flushed yet
     * have no checksum. To open a store that was made without is -ENOTSUP, as on a device of the caller's;
     * CELLAR_ESUMS: its checksum file is lost or stale. */
    bool verify;
    struct cellar_diagnostic *diagnostic;
};

/* Opens a store for read: read permission on the file is enough, nothing is changed. Stands at the disk-sync state, or
 * with a key at the process-sync one; with a key after a power loss at the disk-sync one, too, until a writer opens the
 * store: what was committed and not flushed may not be there. -ENOENT, CELLAR_ECORRUPT, CELLAR_EBADKEY. */
CELLAR_API CELLAR_MUST_CHECK int cellar_reader_open(const char *path, const struct cellar_reader_options *options,
                                                    struct cellar_reader **ret_reader);
CELLAR_API CELLAR_MUST_CHECK int cellar_reader_open_on(struct cellar_device *device,
                                                       const struct cellar_reader_options *options,
                                                       struct cellar_reader **ret_reader);

/* Ends the reader; its snapshots become invalid. NULL is fine. */
CELLAR_API void cellar_reader_close(struct cellar_reader *reader);

/* Follows commits from the next refresh on. CELLAR_EBADKEY: not the writer's key, the reader stays as it was.
 * CELLAR_ECORRUPT: both process-sync slots are broken. */
CELLAR_API CELLAR_MUST_CHECK int cellar_reader_enable_process_sync(struct cellar_reader *reader,
                                                                   const struct cellar_key *key);

/* Follows flushes only, from the next refresh on. Its next index may lie below the one that commits had reached. */
CELLAR_API void cellar_reader_disable_process_sync(struct cellar_reader *reader);

/* 0: the writer that published last has this key. CELLAR_EBADKEY: it hasn't. CELLAR_ECORRUPT: both slots are broken. */
CELLAR_API CELLAR_MUST_CHECK int cellar_reader_check_key(struct cellar_reader *reader, const struct cellar_key *key);

/*
 * Looks again: from process sync where it is enabled, else from disk sync. 0: there is something new, take a snapshot.
 * CELLAR_NONE: nothing new. With a window that is some nanoseconds and no system call, but one fstat when the store has
 * grown past the file size seen before; on the pages path it is a read. A writer with another key (every opening makes
 * one unless it is given) is followed, and reported in cellar_reader_info. CELLAR_ERETIRED: the store was truncated,
 * open it again. CELLAR_ECORRUPT. CELLAR_EWINDOW: the store outgrew the window. -ENOTSUP: the writer publishes by the
 * word (enum cellar_publish), or died while it did and no other has opened the store; and this reader, which follows
 * commits, has no window (flushes it can follow). CELLAR_EFORKED, errors of the device. After any error the reader
 * stays where it was and its snapshots remain valid.
 */
CELLAR_API CELLAR_MUST_CHECK int cellar_reader_refresh(struct cellar_reader *reader);

/* Asks the system whether the file is still as long as the reader's snapshot needs (CELLAR_ECORRUPT: others cut it;
 * through the window, cells beyond its end are a SIGBUS to read, and refresh is one if it was cut below the header) and
 * not retired (CELLAR_ERETIRED; also where another file has been put under the store's name since). */
CELLAR_API CELLAR_MUST_CHECK int cellar_reader_check(struct cellar_reader *reader);

/* What went wrong at the last call of this reader that failed; empty before. Valid until the next call on the reader.
 */
CELLAR_API const struct cellar_diagnostic *cellar_reader_diagnostic(const struct cellar_reader *reader);

CELLAR_API void cellar_reader_info(const struct cellar_reader *reader, struct cellar_info *ret_info);

/* ---- snapshots ------------------------------------------------------------------------------- */

struct cellar_cells; /* private: how to reach cells without a window */

/*
 * The cells start_index..next_index-1 of a store, and its root. Copy it freely; valid until its handle is closed (a
 * writer's also until truncate or rollback). The fields may be read; they are not to be changed. Where others cut the
 * file (see cellar_reader_check) reading through the window is a SIGBUS. In a child after fork a window stays readable.
 */
struct cellar_snapshot {
    const unsigned char *window; /* byte 0 of the file, or NULL on the pages path */
    uint32_t bytes_per_cell;
    uint32_t start_index;
    uint32_t next_index;
    uint32_t root_index; /* CELLAR_ROOT_NONE: none */
    struct cellar_cells *cells;
};

/* The state that the reader stands at. */
CELLAR_API struct cellar_snapshot cellar_reader_snapshot(struct cellar_reader *reader);

/* Everything that this writer has appended, committed or not; the uncommitted cells are those that the writer itself
 * may still change. Taken by the writer's thread. */
CELLAR_API struct cellar_snapshot cellar_writer_snapshot(struct cellar_writer *writer);

/*
 * Copies length_bytes from byte offset_bytes of cell index on; they may run over the cells after it. Any thread.
 * CELLAR_EBOUNDS: outside the snapshot (no byte is copied). Errors of the device on the pages path.
 */
CELLAR_API CELLAR_MUST_CHECK int cellar_snapshot_read(const struct cellar_snapshot *snapshot, uint32_t index,
                                                      uint32_t offset_bytes, void *buffer, size_t length_bytes);

/*
 * One cell, on every path: *ret_cell points into the mapped file (no copy, as valid as the snapshot), or on the pages
 * path to scratch, where bytes_per_cell bytes have been copied. scratch may be NULL where data_path is
 * CELLAR_PATH_WINDOW. CELLAR_EBOUNDS: not a cell of the snapshot. -EINVAL: no window and no scratch.
 */
CELLAR_MUST_CHECK static inline int cellar_snapshot_get(const struct cellar_snapshot *snapshot, uint32_t index,
                                                        void *scratch, const void **ret_cell)
{
    struct cellar_snapshot copy = *snapshot; /* the caller's never escapes, so its fields stay in registers */
    int error;

    if (index - copy.start_index >= copy.next_index - copy.start_index)
        return CELLAR_EBOUNDS;
    if (copy.window != NULL) {
        *ret_cell = copy.window + (uint64_t)index * copy.bytes_per_cell;
        return 0;
    }
    error = scratch == NULL ? -EINVAL : cellar_snapshot_read(&copy, index, 0, scratch, copy.bytes_per_cell);
    if (error == 0)
        *ret_cell = scratch;
    return error;
}

/*
 * A run of cells in the mapped file: the address of the first of cell_count cells, which lie one after the other; NULL
 * where they are not all in the snapshot or there is no window. For tight loops: by value, nothing escapes, one
 * comparison.
 */
static inline const void *cellar_snapshot_run(struct cellar_snapshot snapshot, uint32_t first_index,
                                              uint32_t cell_count)
{
    uint32_t cells = snapshot.next_index - snapshot.start_index;
    uint32_t at = first_index - snapshot.start_index;

    if (at >= cells || cell_count > cells - at || snapshot.window == NULL)
        return NULL;
    return snapshot.window + (uint64_t)first_index * snapshot.bytes_per_cell;
}

/* One cell of the mapped file, or NULL: as cellar_snapshot_run with a count of 1. */
static inline const void *cellar_snapshot_cell(struct cellar_snapshot snapshot, uint32_t index)
{
    if (index - snapshot.start_index >= snapshot.next_index - snapshot.start_index || snapshot.window == NULL)
        return NULL;
    return snapshot.window + (uint64_t)index * snapshot.bytes_per_cell;
}

/* The size of the value at index, from its chain. CELLAR_EBOUNDS: index is no cell of the snapshot. CELLAR_ECORRUPT:
 * the bytes there are no whole chain of chunks (every index that is not a value's may say so, or give bytes that mean
 * nothing). */
CELLAR_API CELLAR_MUST_CHECK int cellar_snapshot_value_size(const struct cellar_snapshot *snapshot, uint32_t index,
                                                            uint64_t *ret_size_bytes);

/* Copies the value at index into buffer. -ERANGE: it is larger than capacity_bytes (nothing is copied). Any thread. */
CELLAR_API CELLAR_MUST_CHECK int cellar_snapshot_read_value(const struct cellar_snapshot *snapshot, uint32_t index,
                                                            void *buffer, size_t capacity_bytes,
                                                            size_t *ret_size_bytes);

/* The same into fresh memory, to be given to free(3). */
CELLAR_API CELLAR_MUST_CHECK int cellar_snapshot_copy_value(const struct cellar_snapshot *snapshot, uint32_t index,
                                                            void **ret_bytes, size_t *ret_size_bytes);

/* A part of a value where it lies. */
struct cellar_piece {
    const void *bytes;
    size_t length_bytes;
};

/*
 * The value at index as pieces of the mapped file, in order, without touching its bytes: one for each 65535 bytes. They
 * are as valid as the snapshot. *ret_count is how many there are, also with -ERANGE: more than capacity. -ENOTSUP on
 * the pages path (cellar_snapshot_read_value works on both). An empty value has one piece of 0 bytes.
 */
CELLAR_API CELLAR_MUST_CHECK int cellar_snapshot_value_pieces(const struct cellar_snapshot *snapshot, uint32_t index,
                                                              struct cellar_piece *pieces, size_t capacity,
                                                              size_t *ret_count);

/* How many pieces the value at index has, on every path. */
CELLAR_API CELLAR_MUST_CHECK int cellar_snapshot_value_piece_count(const struct cellar_snapshot *snapshot,
                                                                   uint32_t index, size_t *ret_count);

/* Walks the chain of the value at index and says what is wrong with it: 0, or the error of value_size with the file
 * offset, what was found and what was expected in *ret_diagnostic. */
CELLAR_API CELLAR_MUST_CHECK int cellar_snapshot_check_value(const struct cellar_snapshot *snapshot, uint32_t index,
                                                             struct cellar_diagnostic *ret_diagnostic);

#ifdef __cplusplus
}
#endif
#endif
