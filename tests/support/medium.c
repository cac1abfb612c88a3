#include "medium.h"

#include "support.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static int medium_size(void *state, uint64_t *ret_size_bytes)
{
    *ret_size_bytes = ((const struct medium *)state)->memory_size_bytes;
    return 0;
}

static ssize_t medium_read(void *state, void *buffer, size_t length_bytes, uint64_t offset)
{
    struct medium *medium = state;

    if (offset >= medium->memory_size_bytes)
        return 0;
    if (length_bytes > medium->memory_size_bytes - offset)
        length_bytes = (size_t)(medium->memory_size_bytes - offset);
    memcpy(buffer, medium->memory + offset, length_bytes);
    medium->bytes_read += length_bytes;
    return (ssize_t)length_bytes;
}

static ssize_t medium_write(void *state, uint64_t token, const struct iovec *parts, int part_count, uint64_t offset)
{
    struct medium *medium = state;
    uint64_t at = offset;

    (void)token;
    for (int i = 0; i < part_count; i++) {
        if (parts[i].iov_len == 0)
            continue;
        for (uint64_t page = at / MEDIUM_PAGE_BYTES; page <= (at + parts[i].iov_len - 1) / MEDIUM_PAGE_BYTES; page++)
            medium->lost[page] = false;
        memcpy(medium->memory + at, parts[i].iov_base, parts[i].iov_len);
        at += parts[i].iov_len;
    }
    return (ssize_t)(at - offset);
}

static void lose_pages(struct medium *medium, uint64_t offset, uint64_t length_bytes)
{
    for (uint64_t page = offset / MEDIUM_PAGE_BYTES; page * MEDIUM_PAGE_BYTES < offset + length_bytes; page++) {
        uint64_t at = page * MEDIUM_PAGE_BYTES;

        if (!medium->window && memcmp(medium->memory + at, medium->disk + at, MEDIUM_PAGE_BYTES) != 0)
            medium->lost[page] = true;
    }
}

static int medium_sync(void *state, uint64_t token, uint64_t offset, uint64_t length_bytes)
{
    struct medium *medium = state;

    (void)token;
    if (medium->before_sync != NULL)
        medium->before_sync(medium->before_sync_user);
    if (medium->sync_count < MEDIUM_SYNCS_MAX) {
        memcpy(medium->headers[medium->sync_count], medium->memory, MEDIUM_HEADER_BYTES);
        medium->ends_bytes[medium->sync_count] = offset + length_bytes;
    }
    medium->sync_count++;
    if (medium->fail_sync > 0 && --medium->fail_sync == 0) {
        lose_pages(medium, offset, length_bytes);
        return -EIO;
    }
    medium_write_back(medium, offset, length_bytes);
    return 0;
}

static int medium_grow(void *state, uint64_t token, uint64_t allocate_from, uint64_t size_bytes)
{
    struct medium *medium = state;

    (void)token;
    (void)allocate_from;
    if (size_bytes > MEDIUM_BYTES)
        return -ENOSPC;
    if (size_bytes > medium->memory_size_bytes)
        medium->memory_size_bytes = size_bytes;
    if (size_bytes > medium->disk_size_bytes)
        medium->disk_size_bytes = size_bytes;
    return 0;
}

static int medium_lock(void *state, enum cellar_device_lock lock, uint64_t *ret_token)
{
    struct medium *medium = state;

    if (lock == CELLAR_LOCK_WRITER && medium->locked)
        return CELLAR_EBUSY;
    medium->locked |= lock == CELLAR_LOCK_WRITER;
    *ret_token = 1;
    return 0;
}

static int medium_unlock(void *state, enum cellar_device_lock lock, uint64_t token)
{
    struct medium *medium = state;

    (void)token;
    if (lock == CELLAR_LOCK_WRITER)
        medium->locked = false;
    return 0;
}

static int medium_window(void *state, uint64_t capacity_bytes, bool writable, void **ret_base,
                         uint64_t *ret_capacity_bytes)
{
    struct medium *medium = state;

    (void)writable;
    if (!medium->window)
        return CELLAR_NONE;
    *ret_base = medium->memory;
    *ret_capacity_bytes = capacity_bytes < MEDIUM_BYTES ? capacity_bytes : MEDIUM_BYTES;
    return 0;
}

static int medium_incarnation(void *state, uint64_t *ret_incarnation)
{
    const struct medium *medium = state;

    *ret_incarnation = medium->incarnation;
    return medium->incarnation_error;
}

static int medium_close(void *state)
{
    (void)state;
    return 0;
}

struct medium *medium_new(bool window)
{
    struct medium *medium = calloc(1, sizeof *medium);

    assert_non_null(medium);
    medium->memory = aligned_alloc(4096, MEDIUM_BYTES);
    medium->disk = aligned_alloc(4096, MEDIUM_BYTES);
    assert_non_null(medium->memory);
    assert_non_null(medium->disk);
    memset(medium->memory, 0, MEDIUM_BYTES);
    memset(medium->disk, 0, MEDIUM_BYTES);
    medium->window = window;
    medium->incarnation = UINT64_C(0x1000000010);
    medium->ops = (struct cellar_device_ops){
        .name = "medium",
        .size = medium_size,
        .read = medium_read,
        .write = medium_write,
        .sync = medium_sync,
        .grow = medium_grow,
        .lock = medium_lock,
        .unlock = medium_unlock,
        .window = medium_window,
        .incarnation = medium_incarnation,
        .close = medium_close,
    };
    medium->device = medium_open(medium);
    return medium;
}

void medium_free(struct medium *medium)
{
    assert_done(cellar_device_close(medium->device));
    free(medium->memory);
    free(medium->disk);
    free(medium);
}

struct cellar_device *medium_open(struct medium *medium)
{
    struct cellar_device *device;

    assert_done(cellar_device_open(&medium->ops, medium, &device));
    return device;
}

void medium_write_back(struct medium *medium, uint64_t offset, uint64_t length_bytes)
{
    assert_true(offset + length_bytes <= MEDIUM_BYTES);
    for (uint64_t page = offset / MEDIUM_PAGE_BYTES; page * MEDIUM_PAGE_BYTES < offset + length_bytes; page++) {
        uint64_t from = page * MEDIUM_PAGE_BYTES, end = from + MEDIUM_PAGE_BYTES;

        from = from < offset ? offset : from;
        end = end > offset + length_bytes ? offset + length_bytes : end;
        if (!medium->lost[page])
            memcpy(medium->disk + from, medium->memory + from, (size_t)(end - from));
    }
}

void medium_evict(struct medium *medium)
{
    memcpy(medium->memory, medium->disk, MEDIUM_BYTES);
    memset(medium->lost, 0, sizeof medium->lost);
}

void medium_lose_power(struct medium *medium)
{
    medium_evict(medium);
    medium->memory_size_bytes = medium->disk_size_bytes;
    medium->locked = false;
    medium->incarnation += UINT64_C(0x100000001);
}

void medium_mount_again(struct medium *medium)
{
    medium->locked = false;
    medium->incarnation += 1;
}
