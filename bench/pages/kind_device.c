/* kind_device.c - a device without a cache: what it can do at best, read by read. */
#include "cases.h"

static int bare_open(const struct pages_run *run, const struct pages_setup *setup, unsigned thread_count,
                     void **ret_reader)
{
    struct cellar_device *device = NULL;
    int error = pages_device_open(run, setup->device, &device);

    (void)thread_count;
    *ret_reader = device;
    return error;
}

static void bare_close(void *reader)
{
    cellar_device_close(reader);
}

static int bare_page(void *reader, unsigned thread, const struct pages_batch *batch, uint64_t *ret_sum)
{
    uint64_t sum = 0;
    int error = 0;

    (void)thread;
    for (size_t i = 0; i < batch->count && error == 0; i++) {
        uint64_t offset = batch->addresses[i] % PAGES_BYTES;

        error = cellar_device_read(reader, batch->buffer, PAGES_BYTES, batch->addresses[i] - offset);
        sum += pages_load_word(batch->buffer + offset);
    }
    *ret_sum = sum;
    return error;
}

static int bare_read(void *reader, unsigned thread, const struct pages_batch *batch, uint64_t *ret_sum)
{
    uint64_t sum = 0;
    int error = 0;

    (void)thread;
    for (size_t i = 0; i < batch->count && error == 0; i++) {
        error = cellar_device_read(reader, batch->buffer, batch->length, batch->addresses[i]);
        sum += pages_load_word(batch->buffer);
    }
    *ret_sum = sum;
    return error;
}

const struct pages_kind kind_device = {
    .open = bare_open,
    .close = bare_close,
    .operate = {[PAGES_GET] = bare_page, [PAGES_FIX] = bare_page, [PAGES_READ] = bare_read},
};
