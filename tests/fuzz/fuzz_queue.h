/*
 * fuzz_queue.h - background requests without threads: by the linker in the place of the library's queue
 * (device/queue.h, which says what each of its functions does). Which request is done when, and in which order, the
 * input chooses; so every run of an input is the same.
 */
#ifndef CELLAR_TESTS_FUZZ_QUEUE_H
#define CELLAR_TESTS_FUZZ_QUEUE_H

#include "fuzz.h"

/* The choices from here on: one byte for each submit and take, from its beginning again at its end. The bytes must
 * outlive the queues. */
void fuzz_queue_schedule(struct fuzz_input schedule);

#endif
