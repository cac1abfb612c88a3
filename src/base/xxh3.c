#include "base/xxh3.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

uint64_t cellar_xxh3(uint64_t seed, const void *bytes, size_t length_bytes)
{
    return XXH3_64bits_withSeed(bytes, length_bytes, seed);
}
