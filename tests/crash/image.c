/* image.c - a device over an image: bytes in memory, and nothing else. Nothing of it is durable. */
#include "image.h"

#include <errno.h>
#include <string.h>

static int image_size(void *state, uint64_t *ret_size_bytes)
{
    *ret_size_bytes = ((struct image *)state)->size_bytes;
    return 0;
}

static ssize_t image_read(void *state, void *buffer, size_t length_bytes, uint64_t offset)
{
    const struct image *image = state;

    if (offset >= image->size_bytes)
        return 0;
    if (length_bytes > image->size_bytes - offset)
        length_bytes = (size_t)(image->size_bytes - offset);
    memcpy(buffer, image->bytes + offset, length_bytes);
    return (ssize_t)length_bytes;
}

static ssize_t image_write(void *state, uint64_t token, const struct iovec *parts, int part_count, uint64_t offset)
{
    struct image *image = state;
    uint64_t at = offset;

    (void)token;
    for (int part = 0; part < part_count; part++) {
        memcpy(image->bytes + at, parts[part].iov_base, parts[part].iov_len);
        at += parts[part].iov_len;
    }
    return (ssize_t)(at - offset);
}

static int image_grow(void *state, uint64_t token, uint64_t allocate_from, uint64_t size_bytes)
{
    struct image *image = state;

    (void)token;
    (void)allocate_from;
    size_bytes = (size_bytes + image->kind->block_bytes - 1) / image->kind->block_bytes * image->kind->block_bytes;
    if (size_bytes > image->kind->capacity_bytes)
        return -ENOSPC;
    if (size_bytes > image->size_bytes) {
        memset(image->bytes + image->size_bytes, 0, size_bytes - image->size_bytes);
        image->size_bytes = size_bytes;
    }
    return 0;
}

static uint32_t image_block_bytes(void *state)
{
    return ((const struct image *)state)->kind->block_bytes;
}

static int image_window(void *state, uint64_t capacity_bytes, bool writable, void **ret_base,
                        uint64_t *ret_capacity_bytes)
{
    const struct image *image = state;

    (void)writable;
    *ret_base = image->bytes;
    *ret_capacity_bytes = capacity_bytes > image->kind->capacity_bytes ? image->kind->capacity_bytes : capacity_bytes;
    return 0;
}

static int image_incarnation(void *state, uint64_t *ret_incarnation)
{
    *ret_incarnation = ((const struct image *)state)->incarnation;
    return 0;
}

static int image_close(void *state)
{
    (void)state;
    return 0;
}

int image_open(struct image *image, struct cellar_device **ret_device)
{
    const struct simdisk_kind *kind = image->kind;

    image->ops = (struct cellar_device_ops){
        .name = "image",
        .block_bytes = image_block_bytes,
        .size = image_size,
        .read = image_read,
        .write = image_write,
        .grow = kind->fixed ? NULL : image_grow,
        .window = kind->window ? image_window : NULL,
        .incarnation = kind->has_incarnation ? image_incarnation : NULL,
        .close = image_close,
    };
    return cellar_device_open(&image->ops, image, ret_device);
}
