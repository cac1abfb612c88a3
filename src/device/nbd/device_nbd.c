/* device_nbd.c - the device over NBD: what an open needs, and calls made of commands. */
#include "nbd.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
    CONNECTIONS_DEFAULT = 4,
    IN_FLIGHT_DEFAULT = 16,
    COMMANDS_MAX = 64,         /* of one call; the rest of a longer transfer is the next call's */
    GATHER_BYTES_MAX = 4 << 20 /* parts are copied together up to this; a multiple of every block */
};

/* Without another word of the server's, longer commands may end the connection (NBD protocol, "Size constraints"). */
#define COMMAND_BYTES_MAX (UINT32_C(32) << 20)
/* Long enough for a command to be worth its way, and short enough for a long call to be several at once. */
#define COMMAND_BYTES_DEFAULT (UINT32_C(1) << 20)

struct nbd_device {
    struct nbd_engine engine;
    pid_t process; /* in another one, a child, only forget and close do anything */
    uint64_t size_bytes;
    uint32_t block_bytes, command_bytes;
    bool forgotten; /* in the child */
};

static bool is_forked(const struct nbd_device *device)
{
    return device->process != getpid();
}

/* ---- the device's calls ---- */

static uint32_t device_block_bytes(void *state)
{
    const struct nbd_device *device = state;

    return device->block_bytes;
}

static int device_size(void *state, uint64_t *ret_size_bytes)
{
    const struct nbd_device *device = state;

    *ret_size_bytes = device->size_bytes;
    return 0;
}

/* Bytes at one place in memory, as several commands that end at multiples of command_bytes. Returns how many bytes were
 * transferred: all, unless there are more than COMMANDS_MAX commands carry. */
static ssize_t transfer(struct nbd_device *device, enum nbd_kind kind, unsigned char *bytes, size_t length_bytes,
                        uint64_t offset)
{
    struct nbd_command commands[COMMANDS_MAX];
    size_t done = 0;
    unsigned count = 0;
    int error;

    while (done < length_bytes && count < COMMANDS_MAX) {
        uint64_t at = offset + done;
        size_t piece_bytes = device->command_bytes - (size_t)(at % device->command_bytes);

        if (piece_bytes > length_bytes - done)
            piece_bytes = length_bytes - done;
        commands[count++] =
            (struct nbd_command){.kind = kind, .bytes = bytes + done, .length_bytes = piece_bytes, .offset = at};
        done += piece_bytes;
    }
    error = cellar_nbd_engine_run(&device->engine, commands, count);
    return error != 0 ? error : (ssize_t)done;
}

static ssize_t device_read(void *state, void *buffer, size_t length_bytes, uint64_t offset)
{
    struct nbd_device *device = state;

    if (is_forked(device))
        return CELLAR_EFORKED;
    if (offset >= device->size_bytes)
        return 0;
    if (length_bytes > device->size_bytes - offset)
        length_bytes = (size_t)(device->size_bytes - offset);
    return transfer(device, NBD_READ, buffer, length_bytes, offset);
}

/* Copies up to length_bytes of the parts into bytes. */
static void gather(const struct iovec *parts, int part_count, unsigned char *bytes, size_t length_bytes)
{
    for (int i = 0; i < part_count && length_bytes > 0; i++) {
        size_t part_bytes = parts[i].iov_len < length_bytes ? parts[i].iov_len : length_bytes;

        if (part_bytes > 0)
            memcpy(bytes, parts[i].iov_base, part_bytes);
        bytes += part_bytes;
        length_bytes -= part_bytes;
    }
}

/* A part that is long enough goes out from where it lies; small ones are copied together first. */
static ssize_t write_parts(struct nbd_device *device, enum nbd_kind kind, const struct iovec *parts, int part_count,
                           uint64_t offset)
{
    size_t whole_bytes = parts[0].iov_len & ~((size_t)device->block_bytes - 1), total_bytes = 0;
    unsigned char *copy;
    ssize_t result;

    if (is_forked(device))
        return CELLAR_EFORKED;
    if (part_count == 1 || whole_bytes >= device->command_bytes)
        return transfer(device, kind, parts[0].iov_base, whole_bytes, offset);
    for (int i = 0; i < part_count && total_bytes < GATHER_BYTES_MAX; i++)
        total_bytes += parts[i].iov_len < GATHER_BYTES_MAX ? parts[i].iov_len : GATHER_BYTES_MAX;
    if (total_bytes > GATHER_BYTES_MAX)
        total_bytes = GATHER_BYTES_MAX;
    copy = malloc(total_bytes);
    if (copy == NULL)
        return -ENOMEM;
    gather(parts, part_count, copy, total_bytes);
    result = transfer(device, kind, copy, total_bytes, offset);
    free(copy);
    return result;
}

static ssize_t device_write(void *state, uint64_t token, const struct iovec *parts, int part_count, uint64_t offset)
{
    (void)token;
    return write_parts(state, NBD_WRITE, parts, part_count, offset);
}

static ssize_t device_write_durable(void *state, uint64_t token, const struct iovec *parts, int part_count,
                                    uint64_t offset)
{
    (void)token;
    return write_parts(state, NBD_WRITE_DURABLE, parts, part_count, offset);
}

/* A flush knows no range. It covers the writes that were answered, and those of callers that have returned are. */
static int device_sync(void *state, uint64_t token, uint64_t offset, uint64_t length_bytes)
{
    struct nbd_device *device = state;
    struct nbd_command command = {.kind = NBD_SYNC};

    (void)token;
    (void)offset;
    (void)length_bytes;
    return is_forked(device) ? CELLAR_EFORKED : cellar_nbd_engine_run(&device->engine, &command, 1);
}

static void device_forget(void *state)
{
    struct nbd_device *device = state;

    if (is_forked(device) && !device->forgotten)
        cellar_nbd_engine_forget(&device->engine);
    device->forgotten = is_forked(device);
}

/* In a child nothing is freed: the parent's thread may have been in the middle of changing it when it forked. */
static int device_close(void *state)
{
    struct nbd_device *device = state;

    if (is_forked(device)) {
        device_forget(device);
        return 0;
    }
    cellar_nbd_engine_stop(&device->engine);
    cellar_nbd_engine_end(&device->engine);
    free(device->engine.uri);
    free(device);
    return 0;
}

#define NBD_READING_OPS                                                                                                \
    .name = "nbd", .block_bytes = device_block_bytes, .size = device_size, .read = device_read,                        \
    .forget = device_forget, .close = device_close

static const struct cellar_device_ops reading_ops = {NBD_READING_OPS};
static const struct cellar_device_ops writing_ops = {NBD_READING_OPS, .write = device_write, .sync = device_sync};
static const struct cellar_device_ops durable_ops = {NBD_READING_OPS, .write = device_write,
                                                     .write_durable = device_write_durable, .sync = device_sync};

/* ---- open ---- */

/* Fails an open: the code, and why. */
static int refuse(const struct cellar_nbd_options *options, const char *uri, int error, const char *message)
{
    cellar_nbd_diagnose(options->diagnostic, uri, error, CELLAR_OFFSET_NONE, message);
    return error;
}

static int check_arguments(const char *uri, int flags, const struct cellar_nbd_options *options)
{
    if (uri == NULL)
        return refuse(options, "NBD", -EINVAL, "no URI");
    if (flags != CELLAR_OPEN_READ && flags != CELLAR_OPEN_WRITE)
        return refuse(options, uri, -EINVAL, "it is opened to read or to write, no other flags");
    if (options->connections > CELLAR_NBD_CONNECTIONS_MAX || options->in_flight > CELLAR_NBD_IN_FLIGHT_MAX)
        return refuse(options, uri, -EINVAL, "more connections or commands in flight than there can be");
    if (options->block_bytes > CELLAR_NBD_BLOCK_BYTES_MAX || (options->block_bytes & (options->block_bytes - 1)) != 0)
        return refuse(options, uri, -EINVAL, "block_bytes is no power of two up to 65536");
    return 0;
}

/* What is asked of the export; and what follows from what it is. */
static int take_export(struct nbd_device *device, const struct cellar_nbd_options *options)
{
    const struct nbd_export *export = &device->engine.export;
    const char *uri = device->engine.uri;
    uint32_t most_bytes = COMMAND_BYTES_MAX, command_bytes = COMMAND_BYTES_DEFAULT;

    if (device->engine.writable && export->read_only)
        return refuse(options, uri, -EROFS, "the export is read-only");
    if (device->engine.writable && !export->has_flush)
        return refuse(options, uri, -ENOTSUP,
                      "the server has no NBD_CMD_FLUSH: nothing written there is ever known to be durable");
    device->block_bytes = options->block_bytes > export->minimum_bytes ? options->block_bytes : export->minimum_bytes;
    if (export->maximum_bytes != 0 && export->maximum_bytes < most_bytes)
        most_bytes = export->maximum_bytes;
    most_bytes &= ~(device->block_bytes - 1);
    if (most_bytes == 0)
        return refuse(options, uri, -EINVAL, "block_bytes is more than the server's longest command");
    if (command_bytes < export->preferred_bytes)
        command_bytes = export->preferred_bytes & ~(device->block_bytes - 1);
    device->command_bytes = command_bytes < most_bytes ? command_bytes : most_bytes;
    device->size_bytes = export->size_bytes & ~((uint64_t)device->block_bytes - 1);
    return 0;
}

/* The first connection says what the export is. */
static int connect_first(struct nbd_device *device, const struct cellar_nbd_options *options)
{
    struct nbd_link *link = &device->engine.slots[0].link;
    int error = cellar_nbd_link_connect_now(link);

    if (error == 0)
        error = cellar_nbd_link_export(link, &device->engine.export);
    if (error != 0)
        return refuse(options, device->engine.uri, error, link->message);
    device->engine.slot_count = 1;
    return take_export(device, options);
}

/* Further connections, where they may be. By default, as many of them as the server gives. */
static int connect_more(struct nbd_device *device, const struct cellar_nbd_options *options)
{
    struct nbd_engine *engine = &device->engine;
    unsigned wanted = options->connections != 0 ? options->connections : CONNECTIONS_DEFAULT;

    while (engine->export.multi_conn && engine->slot_count < wanted) {
        struct nbd_link *link = &engine->slots[engine->slot_count].link;
        int error = cellar_nbd_link_connect_now(link);

        if (error != 0)
            return options->connections == 0 ? 0 : refuse(options, engine->uri, error, link->message);
        engine->slot_count++;
        error = cellar_nbd_engine_check(engine, link);
        if (error != 0)
            return refuse(options, engine->uri, error, link->message);
    }
    return 0;
}

static void fill_info(const struct nbd_device *device, struct cellar_nbd_info *info)
{
    const struct nbd_export *export = &device->engine.export;

    *info = (struct cellar_nbd_info){
        .size_bytes = device->size_bytes,
        .connections = device->engine.slot_count,
        .block_bytes = device->block_bytes,
        .command_bytes = device->command_bytes,
        .read_only = export->read_only,
        .has_flush = export->has_flush,
        .has_fua = export->has_fua,
        .multi_conn = export->multi_conn,
    };
}

static int open_engine(struct nbd_device *device, const struct cellar_nbd_options *options)
{
    struct nbd_engine *engine = &device->engine;
    int error = cellar_nbd_engine_init(engine);

    if (error != 0)
        return refuse(options, engine->uri, error, cellar_strerror(error));
    error = connect_first(device, options);
    if (error == 0)
        error = connect_more(device, options);
    if (error == 0) {
        error = cellar_nbd_engine_start(engine);
        if (error != 0)
            refuse(options, engine->uri, error, "no thread can be made");
    }
    if (error != 0)
        cellar_nbd_engine_end(engine);
    return error;
}

static int new_device(const char *uri, bool writable, const struct cellar_nbd_options *options,
                      struct nbd_device **ret_device)
{
    struct nbd_device *device = calloc(1, sizeof *device);
    char *copy = strdup(uri);

    if (device == NULL || copy == NULL) {
        free(device);
        free(copy);
        return refuse(options, uri, -ENOMEM, cellar_strerror(-ENOMEM));
    }
    device->process = getpid();
    device->engine.uri = copy;
    device->engine.writable = writable;
    device->engine.reconnect_ns = (int64_t)options->reconnect_ms * 1000000;
    device->engine.report = options->report;
    device->engine.report_user = options->report_user;
    device->engine.link_config = (struct nbd_link_config){
        .uri = copy,
        .in_flight = options->in_flight != 0 ? options->in_flight : IN_FLIGHT_DEFAULT,
        .timeout_ns = (int64_t)options->timeout_ms * 1000000,
    };
    *ret_device = device;
    return 0;
}

int cellar_device_open_nbd(const char *uri, int flags, const struct cellar_nbd_options *options,
                           struct cellar_device **ret_device)
{
    static const struct cellar_nbd_options defaults;
    const struct cellar_nbd_options *given = options != NULL ? options : &defaults;
    const struct cellar_device_ops *ops = &reading_ops;
    struct cellar_nbd_info info;
    struct nbd_device *device = NULL;
    int error = check_arguments(uri, flags, given);

    if (error == 0)
        error = new_device(uri, flags == CELLAR_OPEN_WRITE, given, &device);
    if (error != 0)
        return error;
    error = open_engine(device, given);
    if (error != 0) {
        free(device->engine.uri);
        free(device);
        return error;
    }
    fill_info(device, &info);
    if (device->engine.writable)
        ops = info.has_fua ? &durable_ops : &writing_ops;
    error = cellar_device_open(ops, device, ret_device); /* closes device if it fails */
    if (error != 0)
        return refuse(given, uri, error, cellar_strerror(error));
    if (given->ret_info != NULL)
        *given->ret_info = info;
    return 0;
}
