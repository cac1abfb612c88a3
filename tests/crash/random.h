/* random.h - splitmix64: the same numbers for the same seed, everywhere. */
#ifndef CRASH_RANDOM_H
#define CRASH_RANDOM_H

#include <stdint.h>

static inline uint64_t random_next(uint64_t *state)
{
    uint64_t z = *state += 0x9e3779b97f4a7c15U;

    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9U;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebU;
    return z ^ (z >> 31);
}

/* 0 .. bound - 1; bound > 0. */
static inline uint32_t random_below(uint64_t *state, uint32_t bound)
{
    return (uint32_t)(random_next(state) >> 32) % bound;
}

/* True once in so many times. */
static inline int random_once_in(uint64_t *state, uint32_t times)
{
    return random_below(state, times) == 0;
}

#endif
