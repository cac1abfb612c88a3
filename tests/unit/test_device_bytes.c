/*
 * A device in bytes over one in blocks. The device in blocks is memory behind a wrapper that takes whole blocks alone
 * and counts; the memory itself says what really arrived.
 */
#include "device_fault.h"
#include "support.h"

#include "device/device.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>

enum { BLOCK = 512, SIZE = 64 * BLOCK };

struct stage {
    struct cellar_device *memory, *blocks, *bytes;
    struct fault_device fault;
};

/* A memory device of SIZE zeros, in blocks, in bytes. */
static void open_stage(struct stage *stage, uint32_t block_bytes, unsigned without)
{
    *stage = (struct stage){.fault = {.keep_inner = true, .block_bytes = block_bytes, .without = without}};
    stage->fault.without |= FAULT_BIT(FAULT_LOAD) | FAULT_BIT(FAULT_WINDOW);
    assert_done(cellar_device_open_memory(NULL, SIZE, 4 * SIZE, &stage->memory));
    stage->fault.inner = stage->memory;
    assert_done(fault_device_open(&stage->fault, &stage->blocks));
    assert_done(cellar_device_open_bytes(stage->blocks, &stage->bytes));
}

static void close_stage(struct stage *stage)
{
    assert_done(cellar_device_close(stage->bytes));
    assert_int_equal(stage->fault.calls[FAULT_CLOSE], 1); /* what is below belongs to it */
    assert_done(cellar_device_close(stage->memory));
}

static uint64_t size_of(struct cellar_device *device)
{
    uint64_t size_bytes = 0;

    assert_done(cellar_device_size(device, &size_bytes));
    return size_bytes;
}

static void test_what_it_is(void **state)
{
    struct stage stage;
    uint32_t align;
    void *base;
    uint64_t capacity_bytes;

    (void)state;
    open_stage(&stage, BLOCK, 0);
    assert_int_equal(cellar_device_block_bytes(stage.blocks), BLOCK);
    assert_int_equal(cellar_device_block_bytes(stage.bytes), 1);
    assert_string_equal(cellar_device_name(stage.bytes), "fault"); /* it is that device, for whom it matters */
    assert_true(cellar_device_writable(stage.bytes));
    assert_false(cellar_device_lends(stage.bytes));
    assert_int_equal(size_of(stage.bytes), SIZE);
    assert_result(cellar_device_window(stage.bytes, SIZE, false, &base, &capacity_bytes), CELLAR_NONE);
    assert_true(cellar_device_descriptor(stage.bytes, &align) < 0);
    assert_ptr_equal(cellar_device_inner(stage.bytes), stage.blocks);
    assert_ptr_equal(cellar_device_inner(stage.memory), stage.memory);
    close_stage(&stage);
}

/* What is not bytes goes on as it is. */
static void test_the_rest_is_passed_on(void **state)
{
    struct stage stage;

    (void)state;
    open_stage(&stage, BLOCK, 0);
    assert_done(cellar_device_grow(stage.bytes, SIZE, SIZE + 1));
    assert_int_equal(size_of(stage.bytes), SIZE + BLOCK);
    assert_done(cellar_device_trim(stage.bytes, SIZE));
    assert_int_equal(size_of(stage.memory), SIZE);
    assert_done(cellar_device_sync(stage.bytes, 3, 5));
    assert_int_equal(stage.fault.calls[FAULT_SYNC], 1);
    assert_done(cellar_device_lock(stage.bytes, CELLAR_LOCK_WRITER));
    assert_result(cellar_device_lock(stage.memory, CELLAR_LOCK_WRITER), CELLAR_EBUSY);
    assert_done(cellar_device_unlock(stage.bytes, CELLAR_LOCK_WRITER));
    assert_done(cellar_device_lock(stage.memory, CELLAR_LOCK_WRITER));
    assert_done(cellar_device_unlock(stage.memory, CELLAR_LOCK_WRITER));
    cellar_device_forget(stage.bytes);
    assert_true(stage.fault.forgotten);
    close_stage(&stage);
    open_stage(&stage, BLOCK, FAULT_BIT(FAULT_GROW) | FAULT_BIT(FAULT_TRIM));
    assert_true(cellar_device_is_fixed(stage.bytes));
    assert_done(cellar_device_grow(stage.bytes, 0, SIZE));
    assert_result(cellar_device_grow(stage.bytes, 0, SIZE + 1), -ENOSPC);
    assert_result(cellar_device_trim(stage.bytes, 1), -ENOTSUP);
    close_stage(&stage);
    open_stage(&stage, BLOCK, FAULT_BIT(FAULT_WRITE));
    assert_false(cellar_device_writable(stage.bytes));
    assert_result(support_device_write(stage.bytes, "x", 1, 0), -EROFS);
    close_stage(&stage);
}

static void test_keeps_what_is_not_its_own(void **state)
{
    struct stage stage;
    struct cellar_device *other;

    (void)state;
    open_stage(&stage, BLOCK, 0);
    assert_done(cellar_device_open_bytes_over(stage.blocks, &other));
    assert_done(cellar_device_lock(other, CELLAR_LOCK_WRITER));
    assert_done(cellar_device_close(other)); /* its lock goes, the device below stays */
    assert_done(cellar_device_lock(stage.bytes, CELLAR_LOCK_WRITER));
    assert_done(support_device_write(stage.bytes, "bytes", 5, 510));
    close_stage(&stage);
}

/* Random reads and gathered writes against a plain array, with blocks of all sizes. */
static void test_random_transfers(void **state)
{
    static const uint32_t blocks[] = {2, 16, BLOCK, 4096, SIZE};
    static unsigned char model[SIZE], fresh[SIZE + 1];

    (void)state;
    for (size_t i = 0; i < SUPPORT_COUNT(blocks); i++) {
        uint64_t random = i;
        struct stage stage;

        open_stage(&stage, blocks[i], 0);
        memset(model, 0, sizeof model);
        for (int round = 0; round < 500; round++) {
            uint64_t offset = support_random_below(&random, SIZE + 1);
            uint64_t most = SIZE - offset;
            size_t length_bytes = (size_t)support_random_below(&random, (round % 5 == 0 ? most : most / 20) + 1),
                   at = 0;
            struct iovec parts[70];
            size_t count = 1 + (size_t)support_random_below(&random, SUPPORT_COUNT(parts));

            support_bytes(support_random(&random), fresh, length_bytes);
            for (size_t k = 0; k < count; k++) {
                size_t step = k + 1 == count
                                  ? length_bytes - at
                                  : (size_t)support_random_below(&random, (length_bytes - at) / (count - k) + 1);

                parts[k] = (struct iovec){.iov_base = fresh + at, .iov_len = step};
                at += step;
            }
            stage.fault.transfer_bytes_max = round % 7 == 0 ? (uint64_t)3 * blocks[i] : 0;
            if (round % 4 == 0)
                assert_done(cellar_device_write_durable(stage.bytes, parts, (int)count, offset));
            else
                assert_done(cellar_device_write(stage.bytes, parts, (int)count, offset));
            memcpy(model + offset, fresh, length_bytes);
            offset = support_random_below(&random, SIZE + 1);
            length_bytes = (size_t)support_random_below(&random, SIZE - offset + 1);
            memset(fresh, 0x5a, sizeof fresh);
            assert_done(cellar_device_read(stage.bytes, fresh, length_bytes, offset));
            assert_memory_equal(fresh, model + offset, length_bytes);
            assert_int_equal(fresh[length_bytes], 0x5a);
        }
        assert_done(cellar_device_read(stage.memory, fresh, SIZE, 0));
        assert_memory_equal(fresh, model, SIZE);
        close_stage(&stage);
    }
}

static void test_bounds(void **state)
{
    static unsigned char buffer[SIZE + 1];
    struct stage stage;

    (void)state;
    open_stage(&stage, BLOCK, 0);
    assert_result(cellar_device_read(stage.bytes, buffer, SIZE + 1, 0), CELLAR_EBOUNDS);
    assert_result(cellar_device_read(stage.bytes, buffer, 2, SIZE - 1), CELLAR_EBOUNDS);
    assert_result(cellar_device_read(stage.bytes, buffer, 1, SIZE), CELLAR_EBOUNDS);
    assert_done(cellar_device_read(stage.bytes, buffer, 1, SIZE - 1));
    assert_result(support_device_write(stage.bytes, buffer, 2, SIZE - 1), CELLAR_EBOUNDS);
    assert_done(support_device_write(stage.bytes, buffer, 1, SIZE - 1));
    close_stage(&stage);
}

/* What a read or write costs below: a read-write is two calls, or three where it is widened at both ends. */
static void test_calls(void **state)
{
    static const struct {
        uint64_t offset;
        size_t length_bytes;
        unsigned reads, writes;
    } rows[] = {
        {0, BLOCK, 0, 1},     {BLOCK, 4 * BLOCK, 0, 1},     {0, 1, 1, 1},
        {BLOCK - 1, 2, 2, 1}, {BLOCK + 1, BLOCK - 1, 1, 1}, {0, 3 * BLOCK - 1, 1, 1},
        {1, BLOCK - 2, 1, 1}, {1, 5 * BLOCK, 2, 1},         {SIZE - 1, 1, 1, 1},
    };
    static unsigned char bytes[SIZE];
    struct stage stage;

    (void)state;
    open_stage(&stage, BLOCK, 0);
    for (size_t i = 0; i < SUPPORT_COUNT(rows); i++) {
        uint64_t reads = stage.fault.calls[FAULT_READ], writes = stage.fault.calls[FAULT_WRITE];

        assert_done(support_device_write(stage.bytes, bytes, rows[i].length_bytes, rows[i].offset));
        assert_int_equal(stage.fault.calls[FAULT_READ] - reads, rows[i].reads);
        assert_int_equal(stage.fault.calls[FAULT_WRITE] - writes, rows[i].writes);
        reads = stage.fault.calls[FAULT_READ];
        assert_done(cellar_device_read(stage.bytes, bytes, rows[i].length_bytes, rows[i].offset));
        assert_true(stage.fault.calls[FAULT_READ] - reads <= 2);
    }
    close_stage(&stage);
}

/* An error below is the result, nothing is left held, and what a read failed for is not written. */
static void test_errors(void **state)
{
    struct stage stage;
    unsigned char got[3] = {0};

    (void)state;
    open_stage(&stage, BLOCK, 0);
    assert_done(support_device_write(stage.bytes, "old", 3, 100));
    fault_fail(&stage.fault, FAULT_READ, 1, 1, -EIO);
    assert_result(cellar_device_read(stage.bytes, got, 3, 100), -EIO);
    fault_fail(&stage.fault, FAULT_READ, 1, 1, -EIO);
    assert_result(support_device_write(stage.bytes, "new", 3, 100), -EIO);
    fault_fail(&stage.fault, FAULT_READ, 2, 1, -EIO);
    assert_result(support_device_write(stage.bytes, "new", 3, BLOCK - 1), -EIO);
    fault_fail(&stage.fault, FAULT_WRITE, 1, 1, -ENOSPC);
    assert_result(support_device_write(stage.bytes, "new", 3, 100), -ENOSPC);
    fault_fail(&stage.fault, FAULT_SYNC, 1, 1, -EIO);
    assert_result(cellar_device_write_durable(stage.bytes, &(struct iovec){.iov_base = got, .iov_len = 3}, 1, 200),
                  -EIO);
    assert_done(cellar_device_read(stage.bytes, got, 3, 100));
    assert_memory_equal(got, "old", 3);
    fault_fail(&stage.fault, FAULT_SIZE, 1, 1, -ENODEV);
    assert_result(cellar_device_read(stage.bytes, got, 3, SIZE - 1), -ENODEV);
    assert_done(support_device_write(stage.bytes, "new", 3, 100));
    close_stage(&stage);
}

/* ---- threads ---- */

enum { THREADS = 4, ROUNDS = 60, PIECE = 50 };

struct member {
    struct cellar_device *device;
    unsigned number;
    int error;
};

/* Lets the others come in between the read and the write of a block. */
static void give_way(void *user, enum fault_call call, uint64_t offset, uint64_t length_bytes)
{
    (void)user;
    (void)offset;
    (void)length_bytes;
    if (call == FAULT_WRITE)
        sched_yield();
}

/* Pieces of the device belong to the threads in turn; four threads meet in nearly every block. They don't read: a block
 * is read as a whole, beside a neighbour's write, which memory is no place for. */
static void *write_pieces(void *user)
{
    struct member *member = user;
    unsigned char piece[PIECE];

    for (unsigned round = 0; round < ROUNDS && member->error == 0; round++) {
        for (uint64_t at = member->number * PIECE; at + PIECE <= SIZE && member->error == 0; at += THREADS * PIECE) {
            memset(piece, (int)(round * THREADS + member->number) % 251, sizeof piece);
            member->error = support_device_write(member->device, piece, sizeof piece, at);
        }
    }
    return NULL;
}

static void test_threads_in_one_block(void **state)
{
    struct member members[THREADS];
    pthread_t threads[THREADS];
    unsigned char piece[PIECE];
    struct stage stage;

    (void)state;
    open_stage(&stage, BLOCK, 0);
    stage.fault.before = give_way;
    for (unsigned i = 0; i < THREADS; i++) {
        members[i] = (struct member){.device = stage.bytes, .number = i};
        assert_int_equal(pthread_create(&threads[i], NULL, write_pieces, &members[i]), 0);
    }
    for (unsigned i = 0; i < THREADS; i++) {
        pthread_join(threads[i], NULL);
        assert_done(members[i].error);
    }
    for (unsigned k = 0; (k + 1) * PIECE <= SIZE; k++) {
        assert_done(cellar_device_read(stage.memory, piece, sizeof piece, k * PIECE));
        for (unsigned i = 0; i < PIECE; i++)
            assert_int_equal(piece[i], ((ROUNDS - 1) * THREADS + k % THREADS) % 251);
    }
    close_stage(&stage);
}

struct gate {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool reached, open;
};

/* The write of block 0 waits here. */
static void wait_at_gate(void *user, enum fault_call call, uint64_t offset, uint64_t length_bytes)
{
    struct gate *gate = user;

    (void)length_bytes;
    if (call != FAULT_WRITE || offset != 0)
        return;
    pthread_mutex_lock(&gate->lock);
    gate->reached = true;
    pthread_cond_broadcast(&gate->changed);
    while (!gate->open)
        pthread_cond_wait(&gate->changed, &gate->lock);
    pthread_mutex_unlock(&gate->lock);
}

static void *write_first(void *user)
{
    struct member *member = user;

    member->error = support_device_write(member->device, "first", 5, 10);
    return NULL;
}

/* While one write is under way, those of other blocks go on. */
static void test_other_blocks_go_on(void **state)
{
    struct gate gate = {.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};
    struct member member;
    struct stage stage;
    pthread_t thread;
    unsigned char got[6] = {0};

    (void)state;
    open_stage(&stage, BLOCK, 0);
    stage.fault.before_user = &gate;
    stage.fault.before = wait_at_gate;
    member = (struct member){.device = stage.bytes};
    assert_int_equal(pthread_create(&thread, NULL, write_first, &member), 0);
    pthread_mutex_lock(&gate.lock);
    while (!gate.reached)
        pthread_cond_wait(&gate.changed, &gate.lock);
    pthread_mutex_unlock(&gate.lock);
    assert_done(support_device_write(stage.bytes, "second", 6, BLOCK + 10));
    assert_done(cellar_device_read(stage.bytes, got, 6, BLOCK + 10));
    assert_memory_equal(got, "second", 6);
    pthread_mutex_lock(&gate.lock);
    gate.open = true;
    pthread_cond_broadcast(&gate.changed);
    pthread_mutex_unlock(&gate.lock);
    pthread_join(thread, NULL);
    assert_done(member.error);
    assert_done(support_device_write(stage.bytes, "again", 5, 20));
    close_stage(&stage);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_it_is),
        cmocka_unit_test(test_the_rest_is_passed_on),
        cmocka_unit_test(test_keeps_what_is_not_its_own),
        cmocka_unit_test(test_random_transfers),
        cmocka_unit_test(test_bounds),
        cmocka_unit_test(test_calls),
        cmocka_unit_test(test_errors),
        cmocka_unit_test(test_threads_in_one_block),
        cmocka_unit_test(test_other_blocks_go_on),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
