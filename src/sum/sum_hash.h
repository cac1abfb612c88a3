/* sum_hash.h - the checksum of the sums file: XXH3, 64 bits. Pure, any thread. */
#ifndef CELLAR_SUM_SUM_HASH_H
#define CELLAR_SUM_SUM_HASH_H

#include <stddef.h>
#include <stdint.h>

uint64_t cellar_sum_hash(const void *bytes, size_t length_bytes);

/*
 * Finds the one bit that was flipped: *ret_bit is its number, bit 0 the lowest of the first byte, and the bytes with it
 * flipped back have this sum. bytes is scratch: it is changed and restored. CELLAR_NONE: no single bit explains it.
 * Some milliseconds for 4 KiB.
 */
int cellar_sum_locate(void *bytes, size_t length_bytes, uint64_t sum, size_t *ret_bit);

#endif
