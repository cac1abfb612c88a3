/* fuzz_open.h - what the parts of the fuzzer of opening share. */
#ifndef CELLAR_TESTS_FUZZ_OPEN_H
#define CELLAR_TESTS_FUZZ_OPEN_H

#include "fuzz.h"

#include <cellar/store.h>

/* Runs celldump's code over the bytes: check, and one more command that choice names. Returns the exit code of check.
 */
int fuzz_open_dump(const uint8_t *bytes, size_t length_bytes, uint32_t choice, const struct cellar_key *key);

/* The key of the writers here, also of slots that the mutator makes. */
extern const struct cellar_key fuzz_open_key;

/* What the fuzzer's devices say to be (see incarnation in device.h), and the mutator writes as boot mark. */
#define FUZZ_OPEN_INCARNATION UINT64_C(0x1122334455667788)

#endif
