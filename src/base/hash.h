/* hash.h - the format's hash: BLAKE2b, with a digest of 12 bytes but where it says otherwise. The only user of libb2.
 */
#ifndef CELLAR_BASE_HASH_H
#define CELLAR_BASE_HASH_H

#include <stddef.h>
#include <stdint.h>

enum { CELLAR_HASH96_BYTES = 12, CELLAR_HASH64_BYTES = 8 };

/* BLAKE2b-96 of prefix followed by bytes (plain concatenation; prefix_bytes may be 0). */
void cellar_hash96(const void *prefix, size_t prefix_bytes, const void *bytes, size_t length_bytes, void *ret_digest);

/* BLAKE2b-64 of bytes, as a little-endian number. */
uint64_t cellar_hash64(const void *bytes, size_t length_bytes);

#endif
