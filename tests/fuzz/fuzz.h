/*
 * fuzz.h - what the fuzzers share. A fuzzer is LLVMFuzzerTestOneInput in a file of its own: libFuzzer calls it with
 * inputs that it makes up, replay.c with those of the corpus. What must hold is FUZZ_NEEDS: it ends the process where
 * it does not, which is what libFuzzer takes for a find.
 */
#ifndef CELLAR_TESTS_FUZZ_H
#define CELLAR_TESTS_FUZZ_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FUZZ_COUNT(array) (sizeof(array) / sizeof((array)[0]))

#define FUZZ_NEEDS(condition)                                                                                          \
    do {                                                                                                               \
        if (!(condition))                                                                                              \
            fuzz_fail(__FILE__, __LINE__, #condition);                                                                 \
    } while (0)

/* What libFuzzer calls; the last two only where a fuzzer has them. */
int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length_bytes);
size_t LLVMFuzzerCustomMutator(uint8_t *bytes, size_t length_bytes, size_t capacity_bytes, unsigned seed);
size_t LLVMFuzzerMutate(uint8_t *bytes, size_t length_bytes, size_t capacity_bytes); /* libFuzzer's own */

static inline void fuzz_fail(const char *file, int line, const char *condition)
{
    fprintf(stderr, "%s:%d: does not hold: %s\n", file, line, condition);
    abort();
}

/* An input that is read as a run of choices; at its end every choice is 0. */
struct fuzz_input {
    const uint8_t *bytes;
    size_t length_bytes;
};

static inline bool fuzz_more(const struct fuzz_input *input)
{
    return input->length_bytes > 0;
}

static inline uint8_t fuzz_byte(struct fuzz_input *input)
{
    if (input->length_bytes == 0)
        return 0;
    input->length_bytes--;
    return *input->bytes++;
}

/* A number below limit (> 0), of one byte of the input, two or four. */
static inline uint32_t fuzz_below(struct fuzz_input *input, uint32_t limit)
{
    uint32_t number = fuzz_byte(input);

    if (limit > 256)
        number |= (uint32_t)fuzz_byte(input) << 8;
    if (limit > 65536)
        number |= (uint32_t)fuzz_byte(input) << 16 | (uint32_t)fuzz_byte(input) << 24;
    return number % limit;
}

/* Takes length_bytes, or what is left, as an input of its own. */
static inline struct fuzz_input fuzz_take(struct fuzz_input *input, size_t length_bytes)
{
    struct fuzz_input part = *input;

    if (length_bytes < part.length_bytes)
        part.length_bytes = length_bytes;
    input->bytes += part.length_bytes;
    input->length_bytes -= part.length_bytes;
    return part;
}

/*
 * Bytes that number names: byte i is (number + i) * 167 + (i >> 8) + (number >> 8). As 167 * 23 is 1 (mod 256), each
 * run of 256 of them is a part of the multiples of 167, written twice one after the other.
 */
static inline void fuzz_fill(void *buffer, size_t length_bytes, uint32_t number)
{
    static unsigned char multiples[512];
    unsigned char *to = buffer;

    if (multiples[1] == 0) {
        for (size_t i = 0; i < sizeof multiples; i++)
            multiples[i] = (unsigned char)(i * 167);
    }
    for (size_t at = 0; at < length_bytes; at += 256)
        memcpy(to + at, multiples + (unsigned char)(number + 23 * ((at >> 8) + (number >> 8))),
               length_bytes - at < 256 ? length_bytes - at : 256);
}

#endif
