/*
 * device.c - the strict side of the device contract: bounds, whole transfers, EINTR, counters. The only file that
 * calls a device's table.
 */
#include "device/device.h"

#include <errno.h>
#include <limits.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

/* The most parts that one call of a table's write gets; POSIX promises 16, Linux 1024. */
enum { WRITE_PARTS_MAX = 1024 };

/* Parts that are read together are at most so many bytes in all. */
enum { SCATTER_BYTES_MAX = 1 << 20 };

struct cellar_device {
    const struct cellar_device_ops *ops;
    void *state;
    uint32_t block_bytes;
    uint64_t token;         /* of the writer's lock */
    bool locked, forgotten; /* the writer's lock is held; a fork was noticed */
    void *window;           /* NULL: not made yet */
    uint64_t window_bytes;
    atomic_uint_fast64_t loads, reads, bytes_read, writes, bytes_written, syncs, grows, retries;
};

static void count(atomic_uint_fast64_t *counter, uint64_t amount)
{
    atomic_fetch_add_explicit(counter, amount, memory_order_relaxed);
}

int cellar_device_open(const struct cellar_device_ops *ops, void *state, struct cellar_device **ret_device)
{
    struct cellar_device *device;
    uint32_t block_bytes = ops->block_bytes != NULL ? ops->block_bytes(state) : 1;
    int error = 0;

    if (ops->size == NULL || ops->read == NULL || ops->close == NULL || (ops->load == NULL) != (ops->release == NULL) ||
        block_bytes == 0 || (block_bytes & (block_bytes - 1)) != 0)
        error = -EINVAL;
    device = error == 0 ? calloc(1, sizeof *device) : NULL;
    if (error == 0 && device == NULL)
        error = -ENOMEM;
    if (error != 0) {
        if (ops->close != NULL)
            ops->close(state);
        return error;
    }
    device->ops = ops;
    device->state = state;
    device->block_bytes = block_bytes;
    *ret_device = device;
    return 0;
}

int cellar_device_close(struct cellar_device *device)
{
    int error;

    if (device == NULL)
        return 0;
    if (device->locked && !device->forgotten)
        cellar_device_unlock(device, CELLAR_LOCK_WRITER);
    error = device->ops->close(device->state);
    free(device);
    return error;
}

void *cellar_device_state(const struct cellar_device *device, int (*close)(void *state))
{
    return device->ops->close == close ? device->state : NULL;
}

int cellar_device_size(struct cellar_device *device, uint64_t *ret_size_bytes)
{
    return device->ops->size(device->state, ret_size_bytes);
}

/* 0 where [offset, offset + length_bytes) lies within the device. */
static int check_bounds(struct cellar_device *device, uint64_t offset, uint64_t length_bytes)
{
    uint64_t size_bytes;
    int error = cellar_device_size(device, &size_bytes);

    if (error != 0)
        return error;
    return offset <= size_bytes && length_bytes <= size_bytes - offset ? 0 : CELLAR_EBOUNDS;
}

static bool is_blocks(const struct cellar_device *device, uint64_t offset, uint64_t length_bytes)
{
    return ((offset | length_bytes) & (device->block_bytes - 1)) == 0;
}

/* Fills batch with the parts from *part on, less skip_bytes of the first; returns how many there are and their sum. */
static int gather(const struct iovec *parts, int part_count, int part, size_t skip_bytes, struct iovec *batch,
                  uint64_t *ret_bytes)
{
    int count_now = 0;
    uint64_t sum = 0;

    while (part < part_count && count_now < WRITE_PARTS_MAX) {
        if (parts[part].iov_len > skip_bytes) {
            batch[count_now].iov_base = (unsigned char *)parts[part].iov_base + skip_bytes;
            batch[count_now].iov_len = parts[part].iov_len - skip_bytes;
            sum += batch[count_now].iov_len;
            count_now++;
        }
        skip_bytes = 0;
        part++;
    }
    *ret_bytes = sum;
    return count_now;
}

/* Takes what is no whole block off the end of a batch; it goes with the next one. Returns how many parts are left. */
static int cut_to_blocks(struct iovec *batch, int batch_count, uint32_t block_bytes, uint64_t *batch_bytes)
{
    size_t over_bytes = (size_t)(*batch_bytes & (block_bytes - 1));

    *batch_bytes -= over_bytes;
    while (over_bytes > 0) {
        size_t *last_bytes = &batch[batch_count - 1].iov_len;

        if (*last_bytes > over_bytes) {
            *last_bytes -= over_bytes;
            break;
        }
        over_bytes -= *last_bytes;
        batch_count--;
    }
    return batch_count;
}

/* Moves (part, skip) forward by done_bytes. */
static void advance(const struct iovec *parts, int part_count, int *part, size_t *skip_bytes, uint64_t done_bytes)
{
    while (*part < part_count) {
        size_t left = parts[*part].iov_len - *skip_bytes;

        if (done_bytes < left) {
            *skip_bytes += (size_t)done_bytes;
            return;
        }
        done_bytes -= left;
        *skip_bytes = 0;
        (*part)++;
    }
}

/* Whether a read or write of these parts may start, and how many bytes it is. No size is asked for before a read: one
 * that comes back empty has met the end. */
static int check_transfer(struct cellar_device *device, bool writes, const struct iovec *parts, int part_count,
                          uint64_t offset, uint64_t *ret_total_bytes)
{
    uint64_t total = 0;
    bool blocks = true;
    int error = 0;

    if (writes && device->ops->write == NULL)
        return -EROFS;
    if (writes && device->forgotten)
        return CELLAR_EFORKED;
    for (int i = 0; i < part_count; i++) {
        if (parts[i].iov_len > INT64_MAX - total)
            return CELLAR_EBOUNDS;
        total += parts[i].iov_len;
        blocks = blocks && (writes || is_blocks(device, 0, parts[i].iov_len));
    }
    if (!writes && total > 0 && offset > INT64_MAX - total)
        return CELLAR_EBOUNDS;
    if ((writes || total > 0) && (!blocks || !is_blocks(device, offset, total)))
        return -EINVAL;
    if (writes || total == 0)
        error = check_bounds(device, offset, total);
    if (error == 0)
        *ret_total_bytes = total;
    return error;
}

int cellar_device_begin(struct cellar_device *device, bool writes, const struct iovec *parts, int part_count,
                        uint64_t offset, uint64_t *ret_total_bytes)
{
    int error = check_transfer(device, writes, parts, part_count, offset, ret_total_bytes);

    if (error == 0 && (writes || *ret_total_bytes > 0))
        count(writes ? &device->writes : &device->reads, 1);
    return error;
}

/* One part of a read, as a whole. */
static int read_part(struct cellar_device *device, unsigned char *to, size_t length_bytes, uint64_t offset)
{
    size_t done = 0;

    while (done < length_bytes) {
        ssize_t got = device->ops->read(device->state, to + done, length_bytes - done, offset + done);

        if (got == 0)
            return CELLAR_EBOUNDS;
        if (got < 0 && got != -EINTR)
            return (int)got;
        if (got > 0)
            done += (size_t)got;
        if (done < length_bytes)
            count(&device->retries, 1);
    }
    return 0;
}

/* Many parts by one read, into memory of its own and from there; CELLAR_NONE: not these. */
static int scatter(struct cellar_device *device, const struct iovec *parts, int part_count, uint64_t offset)
{
    unsigned char *bytes;
    size_t total = 0, done = 0;
    int error;

    for (int part = 0; part < part_count && total <= SCATTER_BYTES_MAX; part++)
        total += parts[part].iov_len;
    if (part_count < 2 || total > SCATTER_BYTES_MAX || (bytes = malloc(total)) == NULL)
        return CELLAR_NONE;
    error = read_part(device, bytes, total, offset);
    for (int part = 0; part < part_count && error == 0; part++) {
        memcpy(parts[part].iov_base, bytes + done, parts[part].iov_len);
        done += parts[part].iov_len;
    }
    free(bytes);
    return error;
}

/* The parts from byte done of them on, which belongs at offset + done. */
static int read_parts(struct cellar_device *device, const struct iovec *parts, int part_count, uint64_t offset,
                      uint64_t done)
{
    size_t skip = 0;
    int error = done == 0 ? scatter(device, parts, part_count, offset) : CELLAR_NONE, part = 0;

    if (error != CELLAR_NONE)
        return error;
    error = 0;
    advance(parts, part_count, &part, &skip, done);
    for (; part < part_count && error == 0; part++) {
        size_t left = parts[part].iov_len - skip;

        error = read_part(device, (unsigned char *)parts[part].iov_base + skip, left, offset + done);
        done += left;
        skip = 0;
    }
    return error;
}

/* One block of the parts from (part, skip) on, in memory of its own, as a batch: so many parts lie in a block that no
 * batch of them reaches its end. */
static int gather_block(const struct cellar_device *device, const struct iovec *parts, int part_count, int part,
                        size_t skip_bytes, unsigned char **block, struct iovec *batch)
{
    size_t done = 0;

    if (*block == NULL)
        *block = malloc(device->block_bytes);
    if (*block == NULL)
        return -ENOMEM;
    for (; part < part_count && done < device->block_bytes; part++) {
        size_t left = parts[part].iov_len - skip_bytes, room = device->block_bytes - done;

        if (left > room)
            left = room;
        if (left > 0)
            memcpy(*block + done, (const unsigned char *)parts[part].iov_base + skip_bytes, left);
        done += left;
        skip_bytes = 0;
    }
    batch[0] = (struct iovec){.iov_base = *block, .iov_len = done};
    return 0;
}

/* The same for a write of total bytes, by the table's write_durable or its write. */
static int write_parts(struct cellar_device *device, bool durable, const struct iovec *parts, int part_count,
                       uint64_t offset, uint64_t done, uint64_t total)
{
    struct iovec batch[WRITE_PARTS_MAX];
    unsigned char *block = NULL;
    size_t skip = 0;
    int error = 0, part = 0;

    advance(parts, part_count, &part, &skip, done);
    while (error == 0 && done < total) {
        uint64_t batch_bytes;
        int batch_count = cut_to_blocks(batch, gather(parts, part_count, part, skip, batch, &batch_bytes),
                                        device->block_bytes, &batch_bytes);
        ssize_t put;

        if (batch_count == 0) {
            error = gather_block(device, parts, part_count, part, skip, &block, batch);
            if (error != 0)
                break;
            batch_bytes = batch[0].iov_len;
            batch_count = 1;
        }
        put = (durable ? device->ops->write_durable : device->ops->write)(device->state, device->token, batch,
                                                                          batch_count, offset + done);
        if (put == 0)
            error = -EIO; /* the contract says at least 1; going on would never end */
        else if (put < 0 && put != -EINTR)
            error = (int)put;
        if (put > 0) {
            advance(parts, part_count, &part, &skip, (uint64_t)put);
            done += (uint64_t)put;
        }
        if (error == 0 && (put < 0 || (uint64_t)put < batch_bytes))
            count(&device->retries, 1);
    }
    free(block);
    return error;
}

int cellar_device_finish(struct cellar_device *device, bool writes, const struct iovec *parts, int part_count,
                         uint64_t offset, uint64_t done_bytes, uint64_t total_bytes)
{
    int error = writes ? write_parts(device, false, parts, part_count, offset, done_bytes, total_bytes)
                       : read_parts(device, parts, part_count, offset, done_bytes);

    if (error == 0)
        count(writes ? &device->bytes_written : &device->bytes_read, total_bytes);
    return error;
}

void cellar_device_count_retry(struct cellar_device *device)
{
    count(&device->retries, 1);
}

static int transfer(struct cellar_device *device, bool writes, const struct iovec *parts, int part_count,
                    uint64_t offset)
{
    uint64_t total_bytes;
    int error = cellar_device_begin(device, writes, parts, part_count, offset, &total_bytes);

    return error != 0 ? error : cellar_device_finish(device, writes, parts, part_count, offset, 0, total_bytes);
}

int cellar_device_read(struct cellar_device *device, void *buffer, size_t length_bytes, uint64_t offset)
{
    struct iovec part = {.iov_base = buffer, .iov_len = length_bytes};

    return transfer(device, false, &part, 1, offset);
}

bool cellar_device_lends(const struct cellar_device *device)
{
    return device->ops->load != NULL;
}

int cellar_device_load(struct cellar_device *device, uint64_t offset, size_t length_bytes, const void **ret_bytes)
{
    static const unsigned char empty[1];
    void *copy;
    int error = check_bounds(device, offset, length_bytes);

    if (error != 0)
        return error;
    if (length_bytes == 0) {
        *ret_bytes = empty;
        return 0;
    }
    count(&device->loads, 1);
    if (device->ops->load != NULL)
        return device->ops->load(device->state, offset, length_bytes, ret_bytes);
    copy = malloc(length_bytes);
    if (copy == NULL)
        return -ENOMEM;
    error = cellar_device_read(device, copy, length_bytes, offset);
    if (error != 0) {
        free(copy);
        return error;
    }
    *ret_bytes = copy;
    return 0;
}

void cellar_device_release(struct cellar_device *device, const void *bytes, size_t length_bytes)
{
    if (length_bytes == 0)
        return;
    if (device->ops->load != NULL)
        device->ops->release(device->state, bytes, length_bytes);
    else
        free((void *)(uintptr_t)bytes);
}

int cellar_device_write(struct cellar_device *device, const struct iovec *parts, int part_count, uint64_t offset)
{
    return transfer(device, true, parts, part_count, offset);
}

int cellar_device_write_durable(struct cellar_device *device, const struct iovec *parts, int part_count,
                                uint64_t offset)
{
    uint64_t total_bytes;
    int error = cellar_device_begin(device, true, parts, part_count, offset, &total_bytes);

    if (error != 0)
        return error;
    if (device->ops->write_durable != NULL && total_bytes > 0) {
        error = write_parts(device, true, parts, part_count, offset, 0, total_bytes);
        if (error != -ENOTSUP) {
            count(&device->syncs, 1);
            if (error == 0)
                count(&device->bytes_written, total_bytes);
            return error;
        }
    }
    error = cellar_device_finish(device, true, parts, part_count, offset, 0, total_bytes);
    return error == 0 ? cellar_device_sync(device, offset, total_bytes) : error;
}

int cellar_device_sync(struct cellar_device *device, uint64_t offset, uint64_t length_bytes)
{
    if (device->forgotten)
        return CELLAR_EFORKED;
    if (device->ops->sync == NULL || length_bytes == 0)
        return 0;
    count(&device->syncs, 1);
    return device->ops->sync(device->state, device->token, offset, length_bytes);
}

bool cellar_device_is_fixed(const struct cellar_device *device)
{
    return device->ops->grow == NULL;
}

/* A device of fixed size has all the space that it will ever have. */
static int check_fixed(struct cellar_device *device, uint64_t size_bytes)
{
    int error = check_bounds(device, 0, size_bytes);

    return error == CELLAR_EBOUNDS ? -ENOSPC : error;
}

int cellar_device_grow(struct cellar_device *device, uint64_t allocate_from, uint64_t size_bytes)
{
    int error;

    if (device->ops->write == NULL)
        return -EROFS;
    if (device->forgotten)
        return CELLAR_EFORKED;
    if (size_bytes > INT64_MAX)
        return -EFBIG;
    if (device->ops->grow == NULL)
        return check_fixed(device, size_bytes);
    count(&device->grows, 1);
    do
        error = device->ops->grow(device->state, device->token, allocate_from, size_bytes);
    while (error == -EINTR);
    return error;
}

int cellar_device_trim(struct cellar_device *device, uint64_t size_bytes)
{
    uint64_t now_bytes;
    int error;

    if (device->ops->write == NULL)
        return -EROFS;
    if (device->forgotten)
        return CELLAR_EFORKED;
    if (device->ops->trim == NULL)
        return -ENOTSUP;
    error = cellar_device_size(device, &now_bytes);
    if (error != 0 || size_bytes >= now_bytes)
        return error; /* to trim is never to grow */
    do
        error = device->ops->trim(device->state, device->token, size_bytes);
    while (error == -EINTR);
    return error;
}

int cellar_device_lock(struct cellar_device *device, enum cellar_device_lock lock)
{
    uint64_t token = 0;
    int error = device->ops->lock != NULL ? -EINTR : 0;

    if (device->forgotten)
        return CELLAR_EFORKED;
    if (lock == CELLAR_LOCK_WRITER && device->locked)
        return CELLAR_EBUSY; /* a lock of the device's may not tell two users of one handle apart */
    while (error == -EINTR)
        error = device->ops->lock(device->state, lock, &token);
    if (error != 0)
        return error;
    if (lock == CELLAR_LOCK_WRITER) {
        device->token = token;
        device->locked = true;
    }
    return 0;
}

int cellar_device_unlock(struct cellar_device *device, enum cellar_device_lock lock)
{
    int error = device->ops->unlock != NULL ? -EINTR : 0;

    if (device->forgotten)
        return CELLAR_EFORKED;
    while (error == -EINTR)
        error = device->ops->unlock(device->state, lock, device->token);
    if (lock == CELLAR_LOCK_WRITER) {
        device->token = 0;
        device->locked = false;
    }
    return error;
}

int cellar_device_window(struct cellar_device *device, uint64_t capacity_bytes, bool writable, void **ret_base,
                         uint64_t *ret_capacity_bytes)
{
    uint64_t size_bytes;
    int result;

    if (writable && device->ops->write == NULL)
        return -EROFS;
    if (device->window == NULL) {
        if (device->ops->window == NULL)
            return CELLAR_NONE;
        result = device->ops->window(device->state, capacity_bytes, device->ops->write != NULL, &device->window,
                                     &device->window_bytes);
        if (result != 0)
            return result;
        if ((uintptr_t)device->window % 8 != 0) {
            device->window = NULL;
            return -EINVAL;
        }
    }
    result = cellar_device_size(device, &size_bytes);
    if (result != 0)
        return result;
    if (capacity_bytes < size_bytes)
        return CELLAR_EWINDOW;
    *ret_base = device->window;
    *ret_capacity_bytes = device->window_bytes;
    return 0;
}

void cellar_device_forget(struct cellar_device *device)
{
    if (device->forgotten)
        return;
    device->forgotten = true;
    if (device->ops->forget != NULL)
        device->ops->forget(device->state);
}

bool cellar_device_writable(const struct cellar_device *device)
{
    return device->ops->write != NULL;
}

uint32_t cellar_device_block_bytes(const struct cellar_device *device)
{
    return device->block_bytes;
}

int cellar_device_descriptor(const struct cellar_device *device, uint32_t *ret_align_bytes)
{
    return device->ops->descriptor != NULL ? device->ops->descriptor(device->state, ret_align_bytes) : -1;
}

int cellar_device_incarnation(const struct cellar_device *device, uint64_t *ret_incarnation)
{
    if (device->ops->incarnation != NULL)
        return device->ops->incarnation(device->state, ret_incarnation);
    *ret_incarnation = 0;
    return 0;
}

const char *cellar_device_name(const struct cellar_device *device)
{
    return device->ops->name;
}

struct cellar_device_counters cellar_device_counters(const struct cellar_device *device)
{
    return (struct cellar_device_counters){
        .loads = atomic_load_explicit(&device->loads, memory_order_relaxed),
        .reads = atomic_load_explicit(&device->reads, memory_order_relaxed),
        .bytes_read = atomic_load_explicit(&device->bytes_read, memory_order_relaxed),
        .writes = atomic_load_explicit(&device->writes, memory_order_relaxed),
        .bytes_written = atomic_load_explicit(&device->bytes_written, memory_order_relaxed),
        .syncs = atomic_load_explicit(&device->syncs, memory_order_relaxed),
        .grows = atomic_load_explicit(&device->grows, memory_order_relaxed),
        .retries = atomic_load_explicit(&device->retries, memory_order_relaxed),
    };
}
