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
enum { WRITE_PARTS_MAX = 64 };

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

/* No size is asked for first: a read that comes back empty has met the end. */
int cellar_device_read(struct cellar_device *device, void *buffer, size_t length_bytes, uint64_t offset)
{
    unsigned char *to = buffer;
    size_t done = 0;

    if (length_bytes == 0)
        return check_bounds(device, offset, 0);
    if (length_bytes > INT64_MAX || offset > INT64_MAX - length_bytes)
        return CELLAR_EBOUNDS;
    if (!is_blocks(device, offset, length_bytes))
        return -EINVAL;
    count(&device->reads, 1);
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
    count(&device->bytes_read, length_bytes);
    return 0;
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

int cellar_device_write(struct cellar_device *device, const struct iovec *parts, int part_count, uint64_t offset)
{
    struct iovec batch[WRITE_PARTS_MAX];
    uint64_t total = 0, done = 0;
    size_t skip = 0;
    int error, part = 0;

    if (device->ops->write == NULL)
        return -EROFS;
    if (device->forgotten)
        return CELLAR_EFORKED;
    for (int i = 0; i < part_count; i++) {
        if (parts[i].iov_len > UINT64_MAX / 2 - total)
            return CELLAR_EBOUNDS;
        total += parts[i].iov_len;
    }
    if (!is_blocks(device, offset, total))
        return -EINVAL;
    error = check_bounds(device, offset, total);
    if (error != 0)
        return error;
    count(&device->writes, 1);
    while (done < total) {
        uint64_t batch_bytes;
        int batch_count = cut_to_blocks(batch, gather(parts, part_count, part, skip, batch, &batch_bytes),
                                        device->block_bytes, &batch_bytes);
        ssize_t put = device->ops->write(device->state, device->token, batch, batch_count, offset + done);

        if (put == 0)
            return -EIO; /* the contract says at least 1; going on would never end */
        if (put < 0 && put != -EINTR)
            return (int)put;
        if (put > 0) {
            advance(parts, part_count, &part, &skip, (uint64_t)put);
            done += (uint64_t)put;
        }
        if (put < 0 || (uint64_t)put < batch_bytes)
            count(&device->retries, 1);
    }
    count(&device->bytes_written, total);
    return 0;
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

int cellar_device_grow(struct cellar_device *device, uint64_t allocate_from, uint64_t size_bytes)
{
    int error;

    if (device->ops->write == NULL)
        return -EROFS;
    if (device->forgotten)
        return CELLAR_EFORKED;
    if (device->ops->grow == NULL)
        return -ENOTSUP;
    if (size_bytes > INT64_MAX || !is_blocks(device, size_bytes, 0))
        return size_bytes > INT64_MAX ? -EFBIG : -EINVAL;
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
    if (!is_blocks(device, size_bytes, 0))
        return -EINVAL;
    do
        error = device->ops->trim(device->state, device->token, size_bytes);
    while (error == -EINTR);
    return error;
}

int cellar_device_lock(struct cellar_device *device, enum cellar_device_lock lock)
{
    uint64_t token = 0;
    int error = 0;

    if (device->forgotten)
        return CELLAR_EFORKED;
    if (lock == CELLAR_LOCK_WRITER && device->locked)
        return CELLAR_EBUSY; /* a lock of the device's may not tell two users of one handle apart */
    if (device->ops->lock != NULL) {
        do
            error = device->ops->lock(device->state, lock, &token);
        while (error == -EINTR);
    }
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
    int error = 0;

    if (device->forgotten)
        return CELLAR_EFORKED;
    if (device->ops->unlock != NULL)
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
