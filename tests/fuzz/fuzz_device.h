/*
 * fuzz_device.h - a device in memory for the fuzzers: a sanitizer sees every use of a byte past its size, and it
 * answers wrongly where the input says so, in every way that the contract of device.h leaves to a device: transfers
 * that are cut short, EINTR, errors, writes that fail after a part, a size that is not what can be read.
 */
#ifndef CELLAR_TESTS_FUZZ_DEVICE_H
#define CELLAR_TESTS_FUZZ_DEVICE_H

#include "fuzz.h"

#include <cellar/device.h>
#include <pthread.h>

/*
 * Belongs to the fuzzer and outlives the device. Fill in what stands above lock; all zero is a device of no bytes that
 * can't grow.
 */
struct fuzz_device {
    size_t capacity_bytes; /* it grows up to this */
    uint64_t size_bytes;
    uint32_t block_bytes; /* 0: 1 */
    bool read_only, lends, has_window, fixed;
    uint64_t incarnation; /* what it says to be now; 0: it can't tell */

    /* One byte of it for each call; when it is at its end, it begins again. 0 is the right answer. No bytes: all
     * answers are right. */
    struct fuzz_input answers;
    bool honest; /* answers are right for a while all the same */
    bool cut;    /* wrong answers may be a size, or an end, that is not the device's */

    uint64_t writes; /* that changed something, in whole or in part */
    uint64_t wrong;  /* answers that were not right */
    int lent;        /* loads without a release */
    bool locked;

    pthread_mutex_t lock; /* of all of it, as requests may come from threads */
    size_t next_answer;
    unsigned interrupts;  /* in a row */
    unsigned char *bytes; /* of capacity_bytes; may be read and written between calls */
    struct cellar_device_ops ops;
};

/* Makes the device; its bytes are zero. After closing it they may not be used. */
struct cellar_device *fuzz_device_open(struct fuzz_device *fuzz);

/* Makes it longer or shorter, as others could. */
void fuzz_device_resize(struct fuzz_device *fuzz, uint64_t size_bytes);

/* True for the errors that a wrong answer may be. */
bool fuzz_device_may_say(int error);

#endif
