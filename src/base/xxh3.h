/* xxh3.h - XXH3 of 64 bits (the xxHash library's, stable since 0.8): a fast hash against accidents, not against
 * somebody who means harm. The only user of xxhash. Pure, any thread. */
#ifndef CELLAR_BASE_XXH3_H
#define CELLAR_BASE_XXH3_H

#include <stddef.h>
#include <stdint.h>

uint64_t cellar_xxh3(uint64_t seed, const void *bytes, size_t length_bytes);

#endif
