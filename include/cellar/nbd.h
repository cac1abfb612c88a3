/*
 * nbd.h - a device over the network block device protocol, by libnbd.
 *
 * Not in <cellar/cellar.h>, and not in libcellar: link libcellar-nbd (pkg-config cellar-nbd, CMake cellar::nbd).
 *
 *     cellar_device_open_nbd("nbd+unix:///?socket=/run/disk.sock", CELLAR_OPEN_WRITE, NULL, &device);
 *
 * Reads and writes of all threads are under way at once, on one or several connections; one thread of the device's
 * own speaks with the server. The export's size is the device's, less what is no whole block; it never changes. There
 * is no window, no load, no growing and no lock: that one writer at most has the export open is the user's business.
 *
 * Durable is what cellar_device_sync (NBD_CMD_FLUSH) or cellar_device_write_durable (NBD_CMD_FLAG_FUA where the
 * server has it, else a write and a flush) returned 0 for. The protocol (doc/proto.md of the NBD project) promises
 * that much: "Ordering of messages and writes" that a flush covers every write that was answered before it, and the
 * transmission flag NBD_FLAG_CAN_MULTI_CONN that the effects of a flush and of FUA are seen on all connections. So
 * there are several connections only where the server has that flag. Without it another process, which has
 * connections of its own, need not see what was written; a writer and its readers in other processes want a server
 * with the flag.
 *
 * Failures. A connection is lost when it breaks, when the server says that it shuts down, and when an answer does not
 * come in time.
 *   - opened to write: the device is over with the first loss. What was written and not synced may be gone with the
 *     server, so no later sync may succeed, and no read may show the bytes of before. The write or sync that was
 *     under way may have happened or not: CELLAR_EUNKNOWN (-ESHUTDOWN if the server refused it with that), as is
 *     every later one. Reads are -ENOTCONN. Close, and open again.
 *   - opened to read: a read that was under way is tried again, on another connection or a new one, once for each of
 *     the device's connections, as they may all have died with one server; lost more often, or with no connection to be
 *     had, it is -ENOTCONN. Later reads try anew. -ESTALE: the server that came back has
 *     another export (its size or its blocks differ).
 * A write without an answer may still happen while its server lives, even after the device was opened again: see to
 * it that a server that hangs is gone before the next writer comes. A read without an answer in time is -ETIMEDOUT.
 * What the server answers is passed on: -EIO, -ENOSPC, -EPERM, -EINVAL, -ENOMEM, -EOVERFLOW, -ENOTSUP.
 *
 * fork: in the child reads, writes and syncs are CELLAR_EFORKED; cellar_device_forget and cellar_device_close give
 * the child's descriptors up and leave the parent's connections as they are. The memory of the connections stays with
 * the child until it ends or calls exec.
 *
 * There is no ABI promise before version 1.0.
 */
#ifndef CELLAR_NBD_H
#define CELLAR_NBD_H

#include <cellar/device.h>
#include <cellar/error.h>
#include <stdbool.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum {
    CELLAR_NBD_CONNECTIONS_MAX = 16,
    CELLAR_NBD_IN_FLIGHT_MAX = 1024,
    CELLAR_NBD_BLOCK_BYTES_MAX = 65536,
};

/* What a device over NBD is. */
struct cellar_nbd_info {
    uint64_t size_bytes;
    unsigned connections;
    uint32_t block_bytes;   /* offsets and lengths are multiples of it */
    uint32_t command_bytes; /* the most that one command reads or writes; longer calls are several commands at once */
    bool read_only;         /* of the export; the device is also read-only if it was opened so */
    bool has_flush, has_fua, multi_conn;
};

/* All-zero means defaults. Of its pointers only report_user is kept after the call. */
struct cellar_nbd_options {
    /* 1 to CELLAR_NBD_CONNECTIONS_MAX; 0: 4, or as many of them as the server gives. One, whatever is asked for, where
     * the server lacks NBD_FLAG_CAN_MULTI_CONN. */
    unsigned connections;

    /* The most commands under way on each connection, 1 to CELLAR_NBD_IN_FLIGHT_MAX; 0: 16. Further ones wait their
     * turn, in the order in which they came. */
    unsigned in_flight;

    /* How long a command that was sent may be without an answer, and connecting may take, in milliseconds; 0: as long
     * as it takes. The connection is lost then, with all that is under way on it: leave time for the slowest command
     * behind in_flight others. Resolving a host name is not covered. */
    unsigned timeout_ms;

    /* Devices opened to read: for how long a read waits for a server that is away, while connecting is tried again
     * and again, in milliseconds; 0: it is tried once. */
    unsigned reconnect_ms;

    /* A power of two up to CELLAR_NBD_BLOCK_BYTES_MAX: blocks are at least so long. 0: as the server says, and 1
     * where it says nothing. For servers that want larger ones without saying so. */
    uint32_t block_bytes;

    /* Called when a command fails or a connection is lost or can't be made again, after open: on the device's own
     * thread, with nothing locked; it must not use the device. file_offset is the command's, CELLAR_OFFSET_NONE for a
     * connection. NULL: nobody asks. */
    void (*report)(void *user, const struct cellar_diagnostic *diagnostic);
    void *report_user;

    struct cellar_nbd_info *ret_info;     /* filled on success; may be NULL */
    struct cellar_diagnostic *diagnostic; /* filled on failure: the URI, and what went wrong; may be NULL */
};

/*
 * Connects to the export that the NBD URI names ("nbd://host/export", "nbds://..." with TLS,
 * "nbd+unix:///export?socket=PATH"; nbd_connect_uri(3)). flags: CELLAR_OPEN_READ or CELLAR_OPEN_WRITE alone. options
 * may be NULL. The device's thread blocks all signals.
 *
 * -EINVAL: flags, options or the URI. -EROFS: to be written, but the export is read-only. -ENOTSUP: to be written,
 * but the server has no NBD_CMD_FLUSH, so that nothing would ever be durable; or libnbd lacks URIs or TLS.
 * -ETIMEDOUT. -EPROTO: the server does not speak NBD. -ENOENT, -ECONNREFUSED and others of the system. -ENOMEM.
 */
CELLAR_API CELLAR_MUST_CHECK int cellar_device_open_nbd(const char *uri, int flags,
                                                        const struct cellar_nbd_options *options,
                                                        struct cellar_device **ret_device);

#ifdef __cplusplus
}
#endif
#endif
