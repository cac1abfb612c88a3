#include "base/hash.h"

#include "base/bytes.h"

#include <blake2.h>

static void hash(const void *prefix, size_t prefix_bytes, const void *bytes, size_t length_bytes, void *ret_digest,
                 size_t digest_bytes)
{
    blake2b_state state;

    blake2b_init(&state, digest_bytes);
    if (prefix_bytes > 0)
        blake2b_update(&state, prefix, prefix_bytes);
    blake2b_update(&state, bytes, length_bytes);
    blake2b_final(&state, ret_digest, digest_bytes);
}

void cellar_hash96(const void *prefix, size_t prefix_bytes, const void *bytes, size_t length_bytes, void *ret_digest)
{
    hash(prefix, prefix_bytes, bytes, length_bytes, ret_digest, CELLAR_HASH96_BYTES);
}

uint64_t cellar_hash64(const void *bytes, size_t length_bytes)
{
    unsigned char digest[CELLAR_HASH64_BYTES];

    hash(NULL, 0, bytes, length_bytes, digest, sizeof digest);
    return cellar_load_le64(digest);
}
