/* fuzz_open_key.c - the key of the writers of the fuzzer of opening, also for what links no fuzzer. */
#include "fuzz_open.h"

const struct cellar_key fuzz_open_key = {.bytes = {1, 2, 3}};
