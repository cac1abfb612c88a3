/* load.c - see load.h. */
#include "page/load.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { SLAB_BYTES = 256 * 1024, BUFFER_ALIGN_MAX = 4096 };

void cellar_buffers_open(struct cellar_buffers *buffers, size_t page_bytes, size_t page_count, bool guarded)
{
    *buffers = (struct cellar_buffers){.page_bytes = page_bytes, .pages_left = page_count, .guarded = guarded};
}

/* In whole pages of the system. */
static size_t guarded_bytes(const struct cellar_buffers *buffers)
{
    size_t unit = (size_t)sysconf(_SC_PAGESIZE);

    return (buffers->page_bytes + unit - 1) / unit * unit;
}

void cellar_buffers_close(struct cellar_buffers *buffers, const struct cellar_frame *frames, size_t frame_count)
{
    for (size_t i = 0; i < frame_count && buffers->guarded; i++) {
        if (frames[i].buffer != NULL)
            munmap(frames[i].buffer, guarded_bytes(buffers));
    }
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

static int give_guarded(const struct cellar_buffers *buffers, struct cellar_frame *frame)
{
    size_t bytes = guarded_bytes(buffers);
    void *base;

    if (frame->buffer != NULL)
        return mprotect(frame->buffer, bytes, PROT_READ | PROT_WRITE) == 0 ? 0 : -ENOMEM;
    base = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (base == MAP_FAILED)
        return -ENOMEM;
    frame->buffer = base;
    return 0;
}

int cellar_buffers_give(struct cellar_buffers *buffers, struct cellar_frame *frame)
{
    if (buffers->guarded)
        return give_guarded(buffers, frame);
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

void cellar_bury(void *bytes, size_t length)
{
    (void)madvise(bytes, length, MADV_DONTNEED);
    (void)mprotect(bytes, length, PROT_NONE);
}

void cellar_buffers_hide(const struct cellar_buffers *buffers, const struct cellar_frame *frame)
{
    if (buffers->guarded && frame->buffer != NULL)
        (void)mprotect(frame->buffer, guarded_bytes(buffers), PROT_NONE);
}

static uint64_t known_size(const struct cellar_source *source)
{
    return __atomic_load_n(&source->size_bytes, __ATOMIC_RELAXED);
}

static void know_size(struct cellar_source *source, uint64_t size_bytes)
{
    __atomic_store_n(&source->size_bytes, size_bytes, __ATOMIC_RELAXED);
}

void cellar_source_forget_size(struct cellar_source *source)
{
    know_size(source, 0);
}

/* The size of the source's own device is asked for only where the last one known is too small. */
int cellar_source_available(struct cellar_source *source, const struct cellar_place *place, size_t length,
                            size_t *ret_length)
{
    bool own = place->device == source->device;
    uint64_t size_bytes = own ? known_size(source) : 0;

    if (size_bytes < place->offset || size_bytes - place->offset < length) {
        int error = cellar_device_size(place->device, &size_bytes);

        if (error != 0)
            return error;
        if (own)
            know_size(source, size_bytes);
    }
    if (size_bytes <= place->offset)
        *ret_length = 0;
    else
        *ret_length = size_bytes - place->offset < length ? (size_t)(size_bytes - place->offset) : length;
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
static int load_device(const struct cellar_source *source, const struct cellar_place *place, size_t length,
                       struct cellar_frame *frame)
{
    const void *bytes = frame->buffer;
    bool lent = false;
    int error = -ENOMEM;

    if (source->lends && cellar_device_lends(place->device)) {
        error = cellar_device_load(place->device, place->offset, length, &bytes);
        lent = error == 0;
    }
    if (error == -ENOMEM && frame->buffer != NULL) {
        bytes = frame->buffer;
        error = cellar_device_read(place->device, frame->buffer, cellar_place_read_bytes(place, length), place->offset);
    }
    if (error != 0)
        return error;
    frame->lent = lent;
    frame->bytes = bytes;
    frame->length = length;
    return 0;
}

static int load_mapped(const struct cellar_source *source, uint64_t page_address, size_t length,
                       struct cellar_frame *frame)
{
    const void *bytes;
    int error = map_bytes(source, page_address, length, &bytes, &frame->length);

    if (error == 0) {
        frame->bytes = bytes;
        frame->lent = frame->length > 0;
    }
    return error;
}

int cellar_source_load(struct cellar_source *source, const struct cellar_place *place, uint64_t page_address,
                       size_t length, struct cellar_frame *frame)
{
    if (source->device == NULL)
        return load_mapped(source, page_address, length, frame);
    for (int attempt = 0; attempt < 2; attempt++) {
        size_t available;
        int error = cellar_source_available(source, place, length, &available);

        if (error != 0)
            return error;
        if (available == 0) {
            frame->length = 0;
            return 0;
        }
        error = load_device(source, place, available, frame);
        if (error != CELLAR_EBOUNDS)
            return error;
        know_size(source, 0); /* the device has been cut: ask again */
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
        uint64_t size_bytes;
        int error = cellar_device_size(source->device, &size_bytes);

        if (error != 0)
            return error;
        know_size(source, size_bytes);
    }
    *ret_reaches = source->device == NULL || known_size(source) > address;
    return 0;
}

int cellar_source_run(struct cellar_source *source, uint64_t address, size_t length, const void **ret_bytes,
                      size_t *ret_length)
{
    struct cellar_place place = {.device = source->device, .offset = address};
    size_t available;
    int error;

    if (source->device == NULL)
        return map_bytes(source, address, length, ret_bytes, ret_length);
    know_size(source, 0); /* ask: what there is now */
    error = cellar_source_available(source, &place, length, &available);
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
