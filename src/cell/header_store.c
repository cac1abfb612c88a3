#include "cell/header_store.h"

#include "base/check.h"

#include <stdatomic.h>
#include <string.h>

static void store_word(unsigned char *at, const unsigned char *bytes)
{
    uint64_t word;

    memcpy(&word, bytes, sizeof word);
    atomic_store_explicit((_Atomic uint64_t *)(void *)at, word, memory_order_release);
}

static void store_half_word(unsigned char *at, const unsigned char *bytes)
{
    uint32_t half;

    memcpy(&half, bytes, sizeof half);
    atomic_store_explicit((_Atomic uint32_t *)(void *)at, half, memory_order_release);
}

void cellar_header_store_window(unsigned char *window, uint64_t offset, const void *bytes, size_t length_bytes)
{
    const unsigned char *from = bytes;

    if (CELLAR_LIKELY(length_bytes == 8 && offset % 8 == 0)) { /* the published word */
        store_word(window + offset, from);
        return;
    }
    while (length_bytes > 0) {
        size_t step = (offset % 8 == 0 && length_bytes >= 8) ? 8 : 4;

        if (step == 8)
            store_word(window + offset, from);
        else
            store_half_word(window + offset, from);
        offset += step;
        from += step;
        length_bytes -= step;
    }
}
