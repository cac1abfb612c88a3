#include "sum/sum_hash.h"

#include "base/xxh3.h"

#include <cellar/error.h>

uint64_t cellar_sum_hash(const void *bytes, size_t length_bytes)
{
    return cellar_xxh3(0, bytes, length_bytes);
}

int cellar_sum_locate(void *bytes, size_t length_bytes, uint64_t sum, size_t *ret_bit)
{
    unsigned char *at = bytes;

    for (size_t bit = 0; bit < length_bytes * 8; bit++) {
        unsigned char mask = (unsigned char)(1u << bit % 8);
        uint64_t found;

        at[bit / 8] ^= mask;
        found = cellar_xxh3(0, bytes, length_bytes);
        at[bit / 8] ^= mask;
        if (found == sum) {
            *ret_bit = bit;
            return 0;
        }
    }
    return CELLAR_NONE;
}
