/* bits.h - runs of bits in arrays of 64-bit words, a word at a time. Bit i is bit i % 64 of word i / 64. */
#ifndef CELLAR_PAGE_BITS_H
#define CELLAR_PAGE_BITS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define CELLAR_BITS_NONE SIZE_MAX

static inline size_t cellar_bits_words(size_t bit_count)
{
    return (bit_count + 63) / 64;
}

static inline bool cellar_bits_test(const uint64_t *words, size_t index)
{
    return words[index / 64] >> index % 64 & 1;
}

/* The bits of word that lie in [from, to), which meets it. */
static inline uint64_t cellar_bits_mask(size_t word, size_t from, size_t to)
{
    uint64_t mask = UINT64_MAX;

    if (from > word * 64)
        mask &= UINT64_MAX << (from - word * 64);
    if (to < word * 64 + 64)
        mask &= UINT64_MAX >> (word * 64 + 64 - to);
    return mask;
}

/* How many bits of mask, which is one run of them, are set in changed, a part of it. Mostly all of them or none: only a
 * processor that counts bits by an instruction, which compilers must not take for granted, is as fast without. */
static inline size_t cellar_bits_count(uint64_t changed, uint64_t mask)
{
    if (changed == 0)
        return 0;
    if (changed == mask)
        return (size_t)(64 - __builtin_clzll(mask) - __builtin_ctzll(mask));
    return (size_t)__builtin_popcountll(changed);
}

/* Sets, or clears, the bits [from, to); returns how many of them changed. */
static inline size_t cellar_bits_set(uint64_t *words, size_t from, size_t to)
{
    size_t changed = 0;

    for (size_t word = from / 64; word * 64 < to; word++) {
        uint64_t mask = cellar_bits_mask(word, from, to);

        changed += cellar_bits_count(mask & ~words[word], mask);
        words[word] |= mask;
    }
    return changed;
}

static inline size_t cellar_bits_clear(uint64_t *words, size_t from, size_t to)
{
    size_t changed = 0;

    for (size_t word = from / 64; word * 64 < to; word++) {
        uint64_t mask = cellar_bits_mask(word, from, to);

        changed += cellar_bits_count(mask & words[word], mask);
        words[word] &= ~mask;
    }
    return changed;
}

/* The first bit of [from, to) that is value; CELLAR_BITS_NONE: none is. */
static inline size_t cellar_bits_next(const uint64_t *words, bool value, size_t from, size_t to)
{
    uint64_t flip = value ? 0 : UINT64_MAX;

    for (size_t word = from / 64; from < to && word * 64 < to; word++) {
        uint64_t found = (words[word] ^ flip) & cellar_bits_mask(word, from, to);

        if (found != 0)
            return word * 64 + (size_t)__builtin_ctzll(found);
    }
    return CELLAR_BITS_NONE;
}

/* The last bit of [from, to) that is value; CELLAR_BITS_NONE: none is. */
static inline size_t cellar_bits_last(const uint64_t *words, bool value, size_t from, size_t to)
{
    uint64_t flip = value ? 0 : UINT64_MAX;

    for (size_t word = cellar_bits_words(to); from < to && word * 64 > from; word--) {
        uint64_t found = (words[word - 1] ^ flip) & cellar_bits_mask(word - 1, from, to);

        if (found != 0)
            return word * 64 - 1 - (size_t)__builtin_clzll(found);
    }
    return CELLAR_BITS_NONE;
}

/* The next run of bits that are value in [*from, to): true, and the run is [*from, *ret_end). */
static inline bool cellar_bits_run(const uint64_t *words, bool value, size_t *from, size_t to, size_t *ret_end)
{
    size_t start = cellar_bits_next(words, value, *from, to), end;

    if (start == CELLAR_BITS_NONE)
        return false;
    end = cellar_bits_next(words, !value, start, to);
    *from = start;
    *ret_end = end == CELLAR_BITS_NONE ? to : end;
    return true;
}

#endif
