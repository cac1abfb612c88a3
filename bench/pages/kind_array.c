/* kind_array.c - the limit: the same words from plain memory, the mapped file or a copy of it. */
#include "cases.h"

#include <errno.h>
#include <stdlib.h>

struct array {
    const unsigned char *bytes;
};

static int array_open(const struct pages_run *run, const struct pages_setup *setup, unsigned thread_count,
                      void **ret_reader)
{
    struct array *array = malloc(sizeof *array);

    (void)thread_count;
    if (array == NULL)
        return -ENOMEM;
    array->bytes = setup->resident ? run->resident : run->mapped;
    *ret_reader = array;
    return 0;
}

static int array_get(void *reader, unsigned thread, const struct pages_batch *batch, uint64_t *ret_sum)
{
    const unsigned char *bytes = ((const struct array *)reader)->bytes;
    uint64_t sum = 0;

    (void)thread;
    for (size_t i = 0; i < batch->count; i++)
        sum += pages_load_word(bytes + batch->addresses[i]);
    *ret_sum = sum;
    return 0;
}

static int array_read(void *reader, unsigned thread, const struct pages_batch *batch, uint64_t *ret_sum)
{
    const unsigned char *bytes = ((const struct array *)reader)->bytes;
    uint64_t sum = 0;

    (void)thread;
    for (size_t i = 0; i < batch->count; i++) {
        memcpy(batch->buffer, bytes + batch->addresses[i], batch->length);
        sum += pages_load_word(batch->buffer);
    }
    *ret_sum = sum;
    return 0;
}

const struct pages_kind kind_array = {
    .open = array_open,
    .close = free,
    .operate = {[PAGES_GET] = array_get, [PAGES_FIX] = array_get, [PAGES_READ] = array_read},
};
