/*
 * device_fault.h - a device that passes every call on to another device, and fails when it is told to.
 *
 *     struct fault_device fault = {.inner = inner};
 *     assert_done(fault_device_open(&fault, &device));
 *     fault_fail(&fault, FAULT_SYNC, 2, 1, -EIO);    the second sync from now fails
 *
 * Stores into a window don't come past here; the sync after them does.
 */
#ifndef CELLAR_TESTS_DEVICE_FAULT_H
#define CELLAR_TESTS_DEVICE_FAULT_H

#include <cellar/device.h>
#include <pthread.h>

enum fault_call {
    FAULT_SIZE,
    FAULT_READ,
    FAULT_LOAD,
    FAULT_WRITE,
    FAULT_SYNC,
    FAULT_GROW,
    FAULT_TRIM,
    FAULT_LOCK,
    FAULT_UNLOCK,
    FAULT_WINDOW,
    FAULT_CLOSE,
    FAULT_CALL_COUNT,
};

/* As bits: of kinds of calls, or of what the device shall not have. */
#define FAULT_BIT(call) (1u << (call))
#define FAULT_ALL_BITS (FAULT_BIT(FAULT_CALL_COUNT) - 1u)

/* Calls from number first to number last (of those that the bits name, counted from 1 at open) fail. */
struct fault_rule {
    unsigned call_bits;
    uint64_t first, last;
    int error;
};

enum { FAULT_RULES_MAX = 8 };

/*
 * Belongs to the test and must outlive the device. Set the first block before open (all zero is fine); the second
 * changes it while it is open, between calls, or by the functions below.
 */
struct fault_device {
    struct cellar_device *inner;
    bool keep_inner;      /* inner stays open when this device is closed */
    unsigned without;     /* FAULT_BITs of LOAD, WRITE, SYNC, GROW, TRIM, LOCK, WINDOW: the table lacks them */
    uint32_t block_bytes; /* 0: as inner */
    bool durable_writes;  /* the table has write_durable: one is a FAULT_WRITE and, where that was done, a FAULT_SYNC */

    uint64_t transfer_bytes_max; /* of one read or write; 0: no limit */
    uint64_t interrupt_every;    /* every so many reads, writes, grows and locks give -EINTR instead; 0: none */
    uint64_t torn_bytes;         /* a write that a rule fails has written so many bytes of it */
    /* Called before every call that is passed on or failed, not under a lock. NULL: none. */
    void (*before)(void *user, enum fault_call call, uint64_t offset, uint64_t length_bytes);
    void *before_user;

    struct fault_rule rules[FAULT_RULES_MAX];
    int rule_count;
    uint64_t calls[FAULT_CALL_COUNT]; /* the table's calls since open, failed and interrupted ones included */
    uint64_t failures;                /* calls that a rule failed */
    bool forgotten;                   /* the table's forget was called */

    /* Its own. */
    uint64_t interrupt_at;
    pthread_mutex_t lock;
    struct cellar_device_ops ops;
};

/* Makes the device. Returns what cellar_device_open does; a failure closes inner, too (unless it is to be kept). */
int fault_device_open(struct fault_device *fault, struct cellar_device **ret_device);

/* The nth (1: the next) call of this kind from now fails with error, and so do the count - 1 after it. count 0: all
 * after it. At most FAULT_RULES_MAX rules. */
void fault_fail(struct fault_device *fault, enum fault_call call, uint64_t nth, uint64_t count, int error);

/* The same for calls of several kinds counted together. For sweeps: fail call 1, then call 2, ... */
void fault_fail_any(struct fault_device *fault, unsigned call_bits, uint64_t nth, uint64_t count, int error);

/* No more faults; the counts stay. */
void fault_heal(struct fault_device *fault);

/* Calls of these kinds so far. */
uint64_t fault_calls(struct fault_device *fault, unsigned call_bits);

#endif
