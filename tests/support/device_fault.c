#include "device_fault.h"

#include "support.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

static uint64_t sum_calls(const struct fault_device *fault, unsigned call_bits)
{
    uint64_t sum = 0;

    for (unsigned call = 0; call < FAULT_CALL_COUNT; call++) {
        if ((call_bits & FAULT_BIT(call)) != 0)
            sum += fault->calls[call];
    }
    return sum;
}

/* Counts the call; the error that it shall give, or 0. */
static int meet(struct fault_device *fault, enum fault_call call, uint64_t offset, uint64_t length_bytes)
{
    const unsigned interruptible =
        FAULT_BIT(FAULT_READ) | FAULT_BIT(FAULT_WRITE) | FAULT_BIT(FAULT_GROW) | FAULT_BIT(FAULT_LOCK);
    int error = 0;

    if (fault->before != NULL)
        fault->before(fault->before_user, call, offset, length_bytes);
    pthread_mutex_lock(&fault->lock);
    fault->calls[call]++;
    for (int i = 0; i < fault->rule_count && error == 0; i++) {
        const struct fault_rule *rule = &fault->rules[i];
        uint64_t number = sum_calls(fault, rule->call_bits);

        if ((rule->call_bits & FAULT_BIT(call)) != 0 && number >= rule->first && number <= rule->last)
            error = rule->error;
    }
    if (error != 0)
        fault->failures++;
    else if (fault->interrupt_every > 0 && (FAULT_BIT(call) & interruptible) != 0 &&
             ++fault->interrupt_at % fault->interrupt_every == 0)
        error = -EINTR;
    pthread_mutex_unlock(&fault->lock);
    return error;
}

static uint64_t at_most(uint64_t bytes, uint64_t limit)
{
    return limit > 0 && bytes > limit ? limit : bytes;
}

static uint32_t fault_block_bytes(void *state)
{
    const struct fault_device *fault = state;

    return fault->block_bytes != 0 ? fault->block_bytes : cellar_device_block_bytes(fault->inner);
}

static int fault_size(void *state, uint64_t *ret_size_bytes)
{
    struct fault_device *fault = state;
    int error = meet(fault, FAULT_SIZE, 0, 0);

    return error != 0 ? error : cellar_device_size(fault->inner, ret_size_bytes);
}

static ssize_t fault_read(void *state, void *buffer, size_t length_bytes, uint64_t offset)
{
    struct fault_device *fault = state;
    uint64_t size_bytes;
    int error = meet(fault, FAULT_READ, offset, length_bytes);

    if (error == 0)
        error = cellar_device_size(fault->inner, &size_bytes);
    if (error != 0)
        return error;
    if (offset >= size_bytes)
        return 0;
    length_bytes = (size_t)at_most(length_bytes, size_bytes - offset);
    length_bytes = (size_t)at_most(length_bytes, fault->transfer_bytes_max);
    error = cellar_device_read(fault->inner, buffer, length_bytes, offset);
    return error != 0 ? error : (ssize_t)length_bytes;
}

static int fault_load(void *state, uint64_t offset, size_t length_bytes, const void **ret_bytes)
{
    struct fault_device *fault = state;
    int error = meet(fault, FAULT_LOAD, offset, length_bytes);

    return error != 0 ? error : cellar_device_load(fault->inner, offset, length_bytes, ret_bytes);
}

static void fault_release(void *state, const void *bytes, size_t length_bytes)
{
    struct fault_device *fault = state;

    cellar_device_release(fault->inner, bytes, length_bytes);
}

/* Writes the first length_bytes of the parts. */
static int write_some(struct fault_device *fault, const struct iovec *parts, int part_count, uint64_t offset,
                      uint64_t length_bytes)
{
    for (int i = 0; i < part_count && length_bytes > 0; i++) {
        struct iovec part = parts[i];
        int error;

        if (part.iov_len > length_bytes)
            part.iov_len = (size_t)length_bytes;
        error = cellar_device_write(fault->inner, &part, 1, offset);
        if (error != 0)
            return error;
        offset += part.iov_len;
        length_bytes -= part.iov_len;
    }
    return 0;
}

static ssize_t fault_write(void *state, uint64_t token, const struct iovec *parts, int part_count, uint64_t offset)
{
    struct fault_device *fault = state;
    uint64_t total = 0;
    int error;

    (void)token;
    for (int i = 0; i < part_count; i++)
        total += parts[i].iov_len;
    error = meet(fault, FAULT_WRITE, offset, total);
    if (error != 0) {
        if (error != -EINTR && fault->torn_bytes > 0 &&
            write_some(fault, parts, part_count, offset, at_most(total, fault->torn_bytes)) != 0)
            abort();
        return error;
    }
    total = at_most(total, fault->transfer_bytes_max);
    error = write_some(fault, parts, part_count, offset, total);
    return error != 0 ? error : (ssize_t)total;
}

/* A write, and a sync of what it wrote: each of them can fail. */
static ssize_t fault_write_durable(void *state, uint64_t token, const struct iovec *parts, int part_count,
                                   uint64_t offset)
{
    struct fault_device *fault = state;
    ssize_t put = fault_write(state, token, parts, part_count, offset);
    int error;

    if (put <= 0)
        return put;
    error = meet(fault, FAULT_SYNC, offset, (uint64_t)put);
    if (error == 0)
        error = cellar_device_sync(fault->inner, offset, (uint64_t)put);
    return error != 0 ? error : put;
}

static int fault_sync(void *state, uint64_t token, uint64_t offset, uint64_t length_bytes)
{
    struct fault_device *fault = state;
    int error = meet(fault, FAULT_SYNC, offset, length_bytes);

    (void)token;
    return error != 0 ? error : cellar_device_sync(fault->inner, offset, length_bytes);
}

static int fault_grow(void *state, uint64_t token, uint64_t allocate_from, uint64_t size_bytes)
{
    struct fault_device *fault = state;
    uint32_t block_bytes = fault_block_bytes(fault);
    int error = meet(fault, FAULT_GROW, allocate_from, size_bytes);

    (void)token;
    size_bytes = (size_bytes + block_bytes - 1) / block_bytes * block_bytes;
    return error != 0 ? error : cellar_device_grow(fault->inner, allocate_from, size_bytes);
}

static int fault_trim(void *state, uint64_t token, uint64_t size_bytes)
{
    struct fault_device *fault = state;
    int error = meet(fault, FAULT_TRIM, size_bytes, 0);

    (void)token;
    return error != 0 ? error : cellar_device_trim(fault->inner, size_bytes);
}

static int fault_lock(void *state, enum cellar_device_lock lock, uint64_t *ret_token)
{
    struct fault_device *fault = state;
    int error = meet(fault, FAULT_LOCK, 0, 0);

    if (error == 0)
        error = cellar_device_lock(fault->inner, lock);
    if (error == 0)
        *ret_token = 1;
    return error;
}

static int fault_unlock(void *state, enum cellar_device_lock lock, uint64_t token)
{
    struct fault_device *fault = state;
    int error = meet(fault, FAULT_UNLOCK, 0, 0);

    (void)token;
    return error != 0 ? error : cellar_device_unlock(fault->inner, lock);
}

static int fault_incarnation(void *state, uint64_t *ret_incarnation)
{
    return cellar_device_incarnation(((const struct fault_device *)state)->inner, ret_incarnation);
}

static int fault_window(void *state, uint64_t capacity_bytes, bool writable, void **ret_base,
                        uint64_t *ret_capacity_bytes)
{
    struct fault_device *fault = state;
    int error = meet(fault, FAULT_WINDOW, 0, capacity_bytes);

    return error != 0 ? error
                      : cellar_device_window(fault->inner, capacity_bytes, writable, ret_base, ret_capacity_bytes);
}

static void fault_forget(void *state)
{
    struct fault_device *fault = state;

    fault->forgotten = true;
    cellar_device_forget(fault->inner);
}

static int fault_close(void *state)
{
    struct fault_device *fault = state;
    int error = meet(fault, FAULT_CLOSE, 0, 0), inner_error = 0;

    if (!fault->keep_inner) {
        inner_error = cellar_device_close(fault->inner);
        fault->inner = NULL;
    }
    pthread_mutex_destroy(&fault->lock);
    return error != 0 ? error : inner_error;
}

static bool lacks(const struct fault_device *fault, enum fault_call call)
{
    return (fault->without & FAULT_BIT(call)) != 0;
}

int fault_device_open(struct fault_device *fault, struct cellar_device **ret_device)
{
    bool writable = cellar_device_writable(fault->inner) && !lacks(fault, FAULT_WRITE);
    bool lends = cellar_device_lends(fault->inner) && !lacks(fault, FAULT_LOAD);

    pthread_mutex_init(&fault->lock, NULL);
    fault->ops = (struct cellar_device_ops){
        .name = "fault",
        .block_bytes = fault_block_bytes,
        .size = fault_size,
        .read = fault_read,
        .load = lends ? fault_load : NULL,
        .release = lends ? fault_release : NULL,
        .write = writable ? fault_write : NULL,
        .write_durable = writable && fault->durable_writes ? fault_write_durable : NULL,
        .sync = lacks(fault, FAULT_SYNC) ? NULL : fault_sync,
        .grow = writable && !lacks(fault, FAULT_GROW) ? fault_grow : NULL,
        .trim = writable && !lacks(fault, FAULT_TRIM) ? fault_trim : NULL,
        .lock = lacks(fault, FAULT_LOCK) ? NULL : fault_lock,
        .unlock = lacks(fault, FAULT_LOCK) ? NULL : fault_unlock,
        .window = lacks(fault, FAULT_WINDOW) ? NULL : fault_window,
        .incarnation = fault_incarnation,
        .forget = fault_forget,
        .close = fault_close,
    };
    return cellar_device_open(&fault->ops, fault, ret_device);
}

void fault_fail(struct fault_device *fault, enum fault_call call, uint64_t nth, uint64_t count, int error)
{
    fault_fail_any(fault, FAULT_BIT(call), nth, count, error);
}

void fault_fail_any(struct fault_device *fault, unsigned call_bits, uint64_t nth, uint64_t count, int error)
{
    uint64_t first;

    assert_true(nth > 0 && fault->rule_count < FAULT_RULES_MAX);
    pthread_mutex_lock(&fault->lock);
    first = sum_calls(fault, call_bits) + nth;
    fault->rules[fault->rule_count++] = (struct fault_rule){
        .call_bits = call_bits, .first = first, .last = count == 0 ? UINT64_MAX : first + count - 1, .error = error};
    pthread_mutex_unlock(&fault->lock);
}

void fault_heal(struct fault_device *fault)
{
    pthread_mutex_lock(&fault->lock);
    fault->rule_count = 0;
    /* Those are read without the lock, by calls that may be under way: written only where they change. */
    if (fault->interrupt_every != 0)
        fault->interrupt_every = 0;
    if (fault->transfer_bytes_max != 0)
        fault->transfer_bytes_max = 0;
    if (fault->torn_bytes != 0)
        fault->torn_bytes = 0;
    pthread_mutex_unlock(&fault->lock);
}

uint64_t fault_calls(struct fault_device *fault, unsigned call_bits)
{
    uint64_t sum;

    pthread_mutex_lock(&fault->lock);
    sum = sum_calls(fault, call_bits);
    pthread_mutex_unlock(&fault->lock);
    return sum;
}
