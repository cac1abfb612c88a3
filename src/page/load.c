/* load.c - see load.h. */
#include "page/load.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { SLAB_BYTES = 256 * 1024, BUFFER_ALIGN_MAX = 4096 };

void cellar_buffers_open(struct cellar_buffers *buffers, size_t page_bytes, size_t page_count)
{
    *buffers = (struct cellar_buffers){.page_bytes = page_bytes, .pages_left = page_count};
}

void cellar_buffers_close(struct cellar_buffers *buffers)
{
    for (size_t i = 0; i < buffers->slab_count; i++)
        free(buffers->slabs[i]);
    free(buffers->slabs);
}

static int add_slab(struct cellar_buffers *buffers)
{
    size_t pages = buffers->page_bytes < SLAB_BYTES ? SLAB_BYTES / buffers->page_bytes : 1;
    size_t align = buffers->page_bytes < BUFFER_ALIGN_MAX ? buffers->page_bytes : BUFFER_ALIGN_MAX;
    void *slab, **slabs = realloc(buffers->slabs, (buffers->slab_count + 1) * sizeof *slabs);

    if (slabs == NULL)
        return -ENOMEM;
    buffers->slabs = slabs;
    if (pages > buffers->pages_left)
        pages = buffers->pages_left;
    if (posix_memalign(&slab, align < sizeof(void *) ? sizeof(void *) : align, pages * buffers->page_bytes) != 0)
        return -ENOMEM;
    buffers->slabs[buffers->slab_count++] = slab;
    buffers->pages_left -= pages;
    buffers->next = slab;
    buffers->next_pages = pages;
    return 0;
}

static int give_buffer(struct cellar_buffers *buffers, struct cellar_frame *frame)
{
    if (frame->buffer != NULL)
        return 0;
    if (buffers->next_pages == 0) {
        int error = add_slab(buffers);

        if (error != 0)
            return error;
    }
    frame->buffer = buffers->next;
    buffers->next += buffers->page_bytes;
    buffers->next_pages--;
    return 0;
}

static int ask_size(struct cellar_source *source)
{
    return cellar_device_size(source->device, &source->size_bytes);
}

/* How many of length bytes at address a device has; its size is asked for only where the last one known is too small.
 */
static int count_available(struct cellar_source *source, uint64_t address, size_t length, size_t *ret_length)
{
    if (source->size_bytes < address || source->size_bytes - address < length) {
        int error = ask_size(source);

        if (error != 0)
            return error;
    }
    if (source->size_bytes <= address)
        *ret_length = 0;
    else
        *ret_length = source->size_bytes - address < length ? (size_t)(source->size_bytes - address) : length;
    return 0;
}

/* What a map function gives, held to its contract. */
static int map_bytes(const struct cellar_source *source, uint64_t address, size_t length, const void **ret_bytes,
                     size_t *ret_length)
{
    const void *bytes = NULL;
    size_t got = 0;
    int error = source->map(source->user, address, length, &bytes, &got);

    if (error > 0)
        return -EIO;
    if (error < 0)
        return error;
    if (got > length) {
        cellar_source_end_run(source, bytes, got);
        return -EINVAL;
    }
    *ret_bytes = bytes;
    *ret_length = got;
    return 0;
}

/* Lends where the device can; elsewhere, or where it has no more room for mappings, copies into the frame's buffer. */
static int load_device(struct cellar_source *source, struct cellar_buffers *buffers, uint64_t address, size_t length,
                       struct cellar_frame *frame)
{
    const void *bytes;
    int error = -ENOMEM;

    if (cellar_device_lends(source->device))
        error = cellar_device_load(source->device, address, length, &bytes);
    frame->lent = error == 0;
    if (error == -ENOMEM) {
        error = give_buffer(buffers, frame);
        if (error == 0)
            error = cellar_device_read(source->device, frame->buffer, length, address);
        bytes = frame->buffer;
    }
    if (error != 0)
        return error;
    frame->bytes = bytes;
    frame->length = length;
    return 0;
}

int cellar_source_load(struct cellar_source *source, struct cellar_buffers *buffers, uint64_t address, size_t length,
                       struct cellar_frame *frame)
{
    int error = 0;

    if (source->device == NULL) {
        const void *bytes;

        error = map_bytes(source, address, length, &bytes, &frame->length);
        if (error == 0) {
            frame->bytes = bytes;
            frame->lent = frame->length > 0;
        }
        return error;
    }
    for (int attempt = 0; attempt < 2; attempt++) {
        size_t available;

        error = count_available(source, address, length, &available);
        if (error != 0)
            return error;
        if (available == 0) {
            frame->length = 0;
            return 0;
        }
        error = load_device(source, buffers, address, available, frame);
        if (error != CELLAR_EBOUNDS)
            return error;
        source->size_bytes = 0; /* the device has been cut: ask again */
    }
    return -EIO;
}

void cellar_source_release(const struct cellar_source *source, struct cellar_frame *frame)
{
    if (frame->lent)
        cellar_source_end_run(source, frame->bytes, frame->length);
    frame->bytes = NULL;
    frame->length = 0;
    frame->lent = false;
}

int cellar_source_reaches(struct cellar_source *source, uint64_t address, bool *ret_reaches)
{
    if (source->device != NULL) {
        int error = ask_size(source);

        if (error != 0)
            return error;
    }
    *ret_reaches = source->device == NULL || source->size_bytes > address;
    return 0;
}

int cellar_source_run(struct cellar_source *source, uint64_t address, size_t length, const void **ret_bytes,
                      size_t *ret_length)
{
    size_t available;
    int error;

    if (source->device == NULL)
        return map_bytes(source, address, length, ret_bytes, ret_length);
    source->size_bytes = 0; /* ask: what there is now */
    error = count_available(source, address, length, &available);
    if (error == 0 && available > 0)
        error = cellar_device_load(source->device, address, available, ret_bytes);
    if (error == 0)
        *ret_length = available;
    return error;
}

void cellar_source_end_run(const struct cellar_source *source, const void *bytes, size_t length)
{
    if (length == 0)
        return;
    if (source->device != NULL)
        cellar_device_release(source->device, bytes, length);
    else if (source->unmap != NULL)
        source->unmap(source->user, bytes, length);
}

int cellar_source_copy(struct cellar_source *source, uint64_t page_address, size_t page_bytes, size_t from, size_t to,
                       unsigned char *buffer)
{
    const void *bytes;
    size_t got;
    int error;

    if (source->device != NULL)
        return cellar_device_read(source->device, buffer + from, to - from, page_address + from);
    error = map_bytes(source, page_address, page_bytes, &bytes, &got);
    if (error != 0)
        return error;
    if (got >= to)
        memcpy(buffer + from, (const unsigned char *)bytes + from, to - from);
    cellar_source_end_run(source, bytes, got);
    return got >= to ? 0 : CELLAR_EBOUNDS;
}
