/*
 * Files by O_DIRECT: whole blocks, memory that is aligned and memory that is not, and files that end within a block,
 * whose length nothing but grow, trim and bytes that are not zero may change. statx stands between this program and the
 * C library, so that blocks are found out in both ways.
 */
#include "support.h"

#include "device/device.h"

#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

enum { READ_WRITE = CELLAR_OPEN_WRITE | CELLAR_OPEN_DIRECT };

/* ---- statx ---- */

/* As the kernel says; no word of it; no O_DIRECT; a block that is none. */
static enum { ASK_KERNEL, ASK_NOBODY, ASK_NO, ASK_NONSENSE } ask;

int statx(int folder, const char *restrict path, int flags, unsigned mask, struct statx *restrict status)
{
    static int (*real)(int, const char *, int, unsigned, struct statx *);
    void *symbol;
    int result;

    if (ask == ASK_NOBODY) {
        errno = ENOSYS;
        return -1;
    }
    if (real == NULL) {
        symbol = dlsym(RTLD_NEXT, "statx");
        memcpy(&real, &symbol, sizeof symbol);
    }
    result = real(folder, path, flags, mask, status);
#ifdef STATX_DIOALIGN
    if (result == 0 && ask != ASK_KERNEL) {
        status->stx_mask |= STATX_DIOALIGN;
        status->stx_dio_offset_align = status->stx_dio_mem_align = ask == ASK_NO ? 0 : 768;
    }
#endif
    return result;
}

/* ---- pread ---- */

static ssize_t (*real_pread)(int, void *, size_t, off_t);
static int read_errors[3]; /* of the next reads, one after the other, up to the first 0 */
static size_t read_count;

ssize_t pread(int fd, void *buffer, size_t length_bytes, off_t offset)
{
    void *symbol;

    if (read_errors[read_count] != 0) {
        errno = read_errors[read_count++];
        return -1;
    }
    if (real_pread == NULL) {
        symbol = dlsym(RTLD_NEXT, "pread64");
        memcpy(&real_pread, &symbol, sizeof symbol);
    }
    return real_pread(fd, buffer, length_bytes, offset);
}

/* ---- fixtures ---- */

static int setup(void **state)
{
    ask = ASK_KERNEL;
    return support_folder_setup(state);
}

/* The device on FOLDER/file; skips the test where there is no O_DIRECT. */
static struct cellar_device *open_file(void **state, int flags)
{
    struct cellar_device *device = NULL;

    if (!support_has_direct(*state))
        support_skip("no O_DIRECT on the file system of %s", (const char *)*state);
    assert_done(cellar_device_open_pread(support_path(*state, "file"), flags, 0600, &device));
    return device;
}

static struct cellar_device *make_file(void **state)
{
    return open_file(state, READ_WRITE | CELLAR_OPEN_CREATE | CELLAR_OPEN_EXCLUSIVE);
}

static uint64_t length_of(void **state)
{
    return support_file_size(support_path(*state, "file"));
}

static uint64_t size_of(struct cellar_device *device)
{
    uint64_t size_bytes = 0;

    assert_done(cellar_device_size(device, &size_bytes));
    return size_bytes;
}

/* Memory that begins that many bytes past a multiple of 64 KiB; the multiple is for free. */
static unsigned char *memory_at(size_t past, size_t length_bytes, void **ret_memory)
{
    *ret_memory = aligned_alloc(65536, (length_bytes + past + 65535) / 65536 * 65536);
    assert_non_null(*ret_memory);
    return (unsigned char *)*ret_memory + past;
}

/* ---- tests ---- */

static void test_open(void **state)
{
    struct cellar_device *device = make_file(state);
    uint32_t block_bytes = cellar_device_block_bytes(device);
    unsigned char byte = 0;
    const char *path = support_path(*state, "file");

    assert_string_equal(cellar_device_name(device), "direct");
    assert_true(block_bytes >= 512 && (block_bytes & (block_bytes - 1)) == 0);
    assert_true(cellar_device_writable(device));
    assert_false(cellar_device_lends(device));
    assert_int_equal(size_of(device), 0);
    assert_done(cellar_device_grow(device, 0, block_bytes));
    assert_result(cellar_device_read(device, &byte, 1, 0), -EINVAL);
    assert_result(support_device_write(device, &byte, 1, 0), -EINVAL);
    assert_done(cellar_device_close(device));
    for (int flags = 0; flags < CELLAR_OPEN_DIRECT; flags++) {
        bool valid = flags == CELLAR_OPEN_READ || flags == CELLAR_OPEN_WRITE ||
                     flags == (CELLAR_OPEN_WRITE | CELLAR_OPEN_CREATE);
        int result = cellar_device_open_pread(path, flags | CELLAR_OPEN_DIRECT, 0600, &device);

        assert_int_equal(result == 0, valid);
        if (valid) {
            assert_int_equal(cellar_device_writable(device), flags != CELLAR_OPEN_READ);
            assert_done(cellar_device_close(device));
        }
        assert_result(cellar_device_open_file(path, flags | CELLAR_OPEN_DIRECT, 0600, &device), -EINVAL);
    }
}

/* What the block is: the kernel's word, or by trying; no O_DIRECT leaves no file behind that was not there. */
static void test_blocks(void **state)
{
    struct cellar_device *device = make_file(state);
    uint32_t said = cellar_device_block_bytes(device);
    const char *path = support_path(*state, "file"), *other = support_path(*state, "other");
    unsigned char byte = 7;

    assert_done(cellar_device_close(device));
    ask = ASK_NOBODY;
    device = open_file(state, READ_WRITE);
    assert_int_equal(cellar_device_block_bytes(device), 4096); /* an empty file takes everything: enough for all */
    assert_done(cellar_device_close(device));
    support_file_write(path, &byte, 1);
    device = open_file(state, READ_WRITE);
    assert_true(cellar_device_block_bytes(device) <= said || said < 512);
    assert_done(cellar_device_close(device));
#ifdef STATX_DIOALIGN
    ask = ASK_NO;
    assert_result(cellar_device_open_pread(path, READ_WRITE, 0600, &device), -EINVAL);
    assert_result(
        cellar_device_open_pread(other, READ_WRITE | CELLAR_OPEN_CREATE | CELLAR_OPEN_EXCLUSIVE, 0600, &device),
        -EINVAL);
    ask = ASK_NONSENSE;
    assert_result(cellar_device_open_pread(path, READ_WRITE, 0600, &device), -EINVAL);
#endif
    assert_int_equal(access(other, F_OK), -1);
    assert_int_equal(length_of(state), 1);
}

/* Blocks are found out by reading: what that is refused for decides. */
static void test_probe_that_fails(void **state)
{
    static const struct {
        int errors[3], result;
        uint32_t block_bytes; /* 0: what it was */
    } rows[] = {
        {{EIO, 0}, -EIO, 0},      {{EINTR, 0}, 0, 0},     {{EINTR, EIO}, -EIO, 0},    {{EINVAL, 0}, 0, 4096},
        {{EINVAL, EIO}, -EIO, 0}, {{EINTR, EINTR}, 0, 0}, {{EINVAL, EINTR}, 0, 4096}, {{EINVAL, EINVAL}, -EINVAL, 0},
        {{EBADF, 0}, -EBADF, 0},
    };
    struct cellar_device *device = make_file(state);
    uint32_t block_bytes;

    assert_done(cellar_device_grow(device, 0, 16384));
    cellar_device_close(device);
    ask = ASK_NOBODY;
    device = open_file(state, READ_WRITE);
    block_bytes = cellar_device_block_bytes(device);
    cellar_device_close(device);
    for (size_t i = 0; i < SUPPORT_COUNT(rows); i++) {
        struct cellar_device *opened = NULL;
        int result;

        memcpy(read_errors, rows[i].errors, sizeof read_errors);
        result = cellar_device_open_pread(support_path(*state, "file"), READ_WRITE, 0600, &opened);
        memset(read_errors, 0, sizeof read_errors);
        read_count = 0;
        assert_result(result, rows[i].result);
        if (result == 0)
            assert_int_equal(cellar_device_block_bytes(opened),
                             rows[i].block_bytes != 0 ? rows[i].block_bytes : block_bytes);
        if (result == 0)
            cellar_device_close(opened);
    }
}

/* Random reads and gathered writes against a plain array, from memory at every kind of address. */
static void test_random_transfers(void **state)
{
    enum { BLOCKS = 300 };

    for (unsigned way = 0; way < 2; way++) {
        struct cellar_device *device;
        uint64_t random = 20 + way, size_bytes;
        unsigned char *model, *fresh;
        void *memory;
        uint32_t block;

        ask = way == 0 ? ASK_KERNEL : ASK_NOBODY;
        device = make_file(state);
        block = cellar_device_block_bytes(device);
        size_bytes = (uint64_t)BLOCKS * block;
        model = calloc(1, size_bytes);
        assert_non_null(model);
        assert_done(cellar_device_grow(device, 0, size_bytes));
        for (int round = 0; round < 60; round++) {
            size_t past = support_random_below(&random, 3) == 0 ? 0 : (size_t)support_random_below(&random, block);
            uint64_t offset = support_random_below(&random, BLOCKS) * block;
            size_t most = (size_t)(size_bytes - offset) / block, at = 0;
            size_t length_bytes =
                block * (size_t)(1 + support_random_below(&random, round % 8 == 0 ? most : 1 + most / 9));
            struct iovec parts[4];

            fresh = memory_at(past, length_bytes, &memory);
            support_bytes(support_random(&random), fresh, length_bytes);
            for (size_t i = 0; i < SUPPORT_COUNT(parts); i++) {
                size_t left = length_bytes - at, step = (size_t)support_random_below(&random, left + 1);

                if (past == 0 && round % 2 == 0)
                    step = step / block * block; /* parts that can go as they are */
                if (i + 1 == SUPPORT_COUNT(parts))
                    step = left;
                parts[i] = (struct iovec){.iov_base = fresh + at, .iov_len = step};
                at += step;
            }
            if (round % 3 == 0)
                assert_done(cellar_device_write_durable(device, parts, SUPPORT_COUNT(parts), offset));
            else
                assert_done(cellar_device_write(device, parts, SUPPORT_COUNT(parts), offset));
            memcpy(model + offset, fresh, length_bytes);
            offset = support_random_below(&random, BLOCKS) * block;
            length_bytes = (size_t)(size_bytes - offset);
            free(memory);
            fresh = memory_at(past, length_bytes, &memory);
            assert_done(cellar_device_read(device, fresh, length_bytes, offset));
            assert_memory_equal(fresh, model + offset, length_bytes);
            free(memory);
        }
        assert_done(cellar_device_sync(device, 0, size_bytes));
        assert_done(cellar_device_close(device));
        fresh = support_file_read(support_path(*state, "file"), &(size_t){0});
        assert_memory_equal(fresh, model, size_bytes);
        free(fresh);
        free(model);
        assert_int_equal(unlink(support_path(*state, "file")), 0);
    }
}

/* A file that ends within a block: zeros follow, and its length is nobody's but grow's and trim's. */
static void test_length_stays(void **state)
{
    struct cellar_device *device = make_file(state);
    uint32_t block = cellar_device_block_bytes(device);
    uint64_t length = 2 * (uint64_t)block + 300;
    unsigned char *bytes, *got, *last;
    size_t length_bytes;
    void *memory, *other;

    bytes = memory_at(0, 3 * block, &memory);
    got = memory_at(0, 3 * block, &other);
    support_bytes(1, bytes, 3 * block);
    memset(bytes + length, 0, 3 * block - length);
    assert_done(cellar_device_grow(device, 0, length));
    assert_int_equal(length_of(state), length);
    assert_int_equal(size_of(device), 3 * block);
    for (int durable = 0; durable < 2; durable++) {
        struct iovec part = {.iov_base = bytes, .iov_len = 3 * block};

        bytes[2 * block + 1] ^= 1;
        if (durable)
            assert_done(cellar_device_write_durable(device, &part, 1, 0));
        else
            assert_done(cellar_device_write(device, &part, 1, 0));
        assert_int_equal(length_of(state), length);
        assert_done(cellar_device_read(device, got, 3 * block, 0));
        assert_memory_equal(got, bytes, 3 * block);
        assert_done(cellar_device_read(device, got, block, 2 * block));
        assert_memory_equal(got, bytes + 2 * block, block);
        assert_result(cellar_device_read(device, got, block, 3 * block), CELLAR_EBOUNDS);
        assert_result(cellar_device_read(device, got, 2 * block, 2 * block), CELLAR_EBOUNDS);
    }
    assert_done(cellar_device_sync(device, 0, 3 * block));
    assert_done(cellar_device_read(device, got, 3 * block, 0));
    free(memory);
    bytes = support_file_read(support_path(*state, "file"), &length_bytes);
    assert_int_equal(length_bytes, length);
    assert_memory_equal(bytes, got, length);
    last = got + 2 * block;
    last[7] = 9;
    assert_done(support_device_write(device, last, block, 2 * block));
    assert_int_equal(length_of(state), length);
    last[block - 1] = 9; /* past the end, and not zero: there is no other place for it */
    assert_done(support_device_write(device, last, block, 2 * block));
    assert_int_equal(length_of(state), 3 * block);
    assert_done(cellar_device_read(device, bytes, block, 2 * block));
    assert_memory_equal(bytes, last, block);
    free(bytes);
    free(other);
    assert_done(cellar_device_close(device));
}

static void test_grow_and_trim(void **state)
{
    struct cellar_device *device = make_file(state), *reader;
    unsigned char *bytes;
    uint32_t block;
    void *memory;

    assert_done(cellar_device_grow(device, 0, 1 << 20));
    assert_done(cellar_device_close(device));
    device = open_file(state, READ_WRITE); /* in an empty file blocks may be larger than they need be */
    block = cellar_device_block_bytes(device);
    assert_done(cellar_device_trim(device, block + 100));
    reader = open_file(state, CELLAR_OPEN_DIRECT);
    assert_int_equal(size_of(reader), 2 * block);
    assert_result(cellar_device_grow(reader, 0, 1), -EROFS);
    assert_done(cellar_device_grow(device, 0, block + 50)); /* it is longer */
    assert_int_equal(length_of(state), block + 100);
    assert_done(
        cellar_device_trim(device, block + 101)); /* within its size, but past its end: to trim is never to grow */
    assert_int_equal(length_of(state), block + 100);
    assert_done(cellar_device_trim(device, block + 10));
    assert_int_equal(length_of(state), block + 10);
    assert_done(cellar_device_trim(device, 10));
    assert_int_equal(size_of(reader), block);
    bytes = memory_at(0, block, &memory);
    memset(bytes, 0, block);
    memset(bytes, 0x77, 10);
    assert_done(support_device_write(device, bytes, block, 0));
    assert_done(cellar_device_grow(device, 10, 3 * block));
    assert_int_equal(length_of(state), 3 * block);
    memset(bytes, 1, block);
    assert_done(cellar_device_read(reader, bytes, block, 0));
    for (uint32_t i = 0; i < block; i++)
        assert_int_equal(bytes[i], i < 10 ? 0x77 : 0);
    free(memory);
    assert_done(cellar_device_close(reader));
    assert_done(cellar_device_close(device));
}

/* A limit on the length of files is met before the write, in the last block at the end of the file. */
static void test_size_limit(void **state)
{
    struct cellar_device *device = make_file(state);
    uint32_t block = cellar_device_block_bytes(device);
    struct rlimit before, limit;
    unsigned char *bytes;
    void *memory;

    bytes = memory_at(0, 2 * block, &memory);
    memset(bytes, 0, 2 * block);
    assert_done(cellar_device_grow(device, 0, block + 100));
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    limit = before;
    limit.rlim_cur = block + 100;
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
    assert_done(support_device_write(device, bytes, 2 * block, 0));
    bytes[2 * block - 1] = 1;
    assert_result(support_device_write(device, bytes, 2 * block, 0), -EFBIG);
    assert_result(cellar_device_grow(device, 0, 2 * block), -EFBIG);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
    assert_int_equal(length_of(state), block + 100);
    assert_done(support_device_write(device, bytes, 2 * block, 0));
    free(memory);
    assert_done(cellar_device_close(device));
}

/* The descriptor does what the device does, or there is none. */
static void test_descriptor(void **state)
{
    struct cellar_device *device = make_file(state), *reader;
    uint32_t block = cellar_device_block_bytes(device), align = 0;
    unsigned char *bytes;
    void *memory;
    int fd;

    bytes = memory_at(0, block, &memory);
    memset(bytes, 0x33, block);
    assert_done(cellar_device_grow(device, 0, 2 * block));
    fd = cellar_device_descriptor(device, &align);
    assert_true(fd >= 0 && align > 0 && align <= block && (align & (align - 1)) == 0);
    assert_int_equal(pwrite(fd, bytes, block, block), block);
    memset(bytes, 0, block);
    assert_done(cellar_device_read(device, bytes, block, block));
    assert_int_equal(bytes[block - 1], 0x33);
    reader = open_file(state, CELLAR_OPEN_DIRECT);
    assert_done(cellar_device_trim(device, 2 * block - 1));
    assert_true(cellar_device_descriptor(device, &align) < 0); /* a write of the last block would be one of all of it */
    fd = cellar_device_descriptor(reader, &align);
    assert_true(fd >= 0);
    assert_int_equal(pread(fd, bytes, block, 0), block);
    assert_done(cellar_device_grow(device, 0, 2 * block));
    assert_true(cellar_device_descriptor(device, &align) >= 0);
    free(memory);
    assert_done(cellar_device_close(reader));
    assert_done(cellar_device_close(device));
}

/* ---- threads ---- */

struct crowd {
    struct cellar_device *device;
    uint32_t block;
    int first, error;
};

/* Writes its own blocks, whose bytes say whose and which round they are of, and reads them again. */
static void *write_own(void *user)
{
    struct crowd *crowd = user;
    uint32_t block = crowd->block;
    void *memory = aligned_alloc(block, block);

    if (memory == NULL)
        crowd->error = -ENOMEM;
    for (int round = 1; round < 60 && crowd->error == 0; round++) {
        uint64_t offset = (uint64_t)(crowd->first + 4 * (round % 3)) * block;

        memset(memory, 0, block);
        memset(memory, crowd->first * 60 + round % 60 + 1, 300);
        crowd->error = support_device_write(crowd->device, memory, block, offset);
        memset(memory, 0, block);
        if (crowd->error == 0)
            crowd->error = cellar_device_read(crowd->device, memory, block, offset);
        if (crowd->error == 0 && ((unsigned char *)memory)[299] != (unsigned char)(crowd->first * 60 + round % 60 + 1))
            crowd->error = -EILSEQ;
        if (crowd->error == 0 && round % 10 == 0)
            crowd->error = cellar_device_sync(crowd->device, 0, block);
    }
    free(memory);
    return NULL;
}

/* Blocks past the page cache beside the last one, which goes through it: nobody loses a write, and no sync fails. */
static void test_threads(void **state)
{
    struct cellar_device *device = make_file(state);
    uint32_t block = cellar_device_block_bytes(device);
    struct crowd crowd[4];
    pthread_t threads[4];

    assert_done(cellar_device_grow(device, 0, 11 * (uint64_t)block + 300)); /* the last block is the fourth thread's */
    for (int i = 0; i < 4; i++) {
        crowd[i] = (struct crowd){.device = device, .block = block, .first = i};
        assert_int_equal(pthread_create(&threads[i], NULL, write_own, &crowd[i]), 0);
    }
    for (int i = 0; i < 4; i++) {
        pthread_join(threads[i], NULL);
        assert_done(crowd[i].error);
    }
    assert_int_equal(length_of(state), 11 * block + 300);
    assert_done(cellar_device_close(device));
}

#define DIRECT_TEST(test) cmocka_unit_test_setup_teardown(test, setup, support_folder_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        DIRECT_TEST(test_open),         DIRECT_TEST(test_probe_that_fails),
        DIRECT_TEST(test_blocks),       DIRECT_TEST(test_random_transfers),
        DIRECT_TEST(test_length_stays), DIRECT_TEST(test_grow_and_trim),
        DIRECT_TEST(test_size_limit),   DIRECT_TEST(test_descriptor),
        DIRECT_TEST(test_threads),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
