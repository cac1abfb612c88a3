#include "base/hash.h"

#include <blake2.h>

void cellar_hash96(const void *prefix, size_t prefix_bytes, const void *bytes, size_t length_bytes, void *ret_digest)
{
    blake2b_state state;

    blake2b_init(&state, CELLAR_HASH96_BYTES);
    if (prefix_bytes > 0)
        blake2b_update(&state, prefix, prefix_bytes);
    blake2b_update(&state, bytes, length_bytes);
    blake2b_final(&state, ret_digest, CELLAR_HASH96_BYTES);
}
