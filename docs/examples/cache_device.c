/* cache_device.c - a device of one's own: stripes over two files. A cache and a pipeline use it as any other one. */
#include <cellar/pipeline.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { STRIPE_BYTES = 16384, STRIPES = 40 };

#define TRY(call) try_call((call), #call)
#define EXPECT(truth) expect((truth), #truth)

static void try_call(int error, const char *call)
{
    if (error != 0) {
        fprintf(stderr, "%s: %s\n", call, cellar_strerror(error));
        exit(1);
    }
}

static void expect(bool truth, const char *what)
{
    if (!truth) {
        fprintf(stderr, "not so: %s\n", what);
        exit(1);
    }
}

/* Stripe k of the device is stripe k / 2 of file k % 2. */
struct stripes {
    int files[2];
    uint64_t size_bytes; /* a multiple of 2 * STRIPE_BYTES; fixed */
};

/* Where the byte at offset is, and how many from there on are in the same stripe: length_bytes at most. */
static int locate(const struct stripes *stripes, uint64_t offset, size_t length_bytes, off_t *ret_at, size_t *ret_there)
{
    uint64_t stripe = offset / STRIPE_BYTES, within = offset % STRIPE_BYTES;

    *ret_at = (off_t)(stripe / 2 * STRIPE_BYTES + within);
    *ret_there = length_bytes < STRIPE_BYTES - within ? length_bytes : (size_t)(STRIPE_BYTES - within);
    return stripes->files[stripe % 2];
}

static int stripes_size(void *state, uint64_t *ret_size_bytes)
{
    const struct stripes *stripes = state;

    *ret_size_bytes = stripes->size_bytes;
    return 0;
}

/* To the end of the stripe at most: the caller goes on from there, and repeats what a signal has interrupted. */
static ssize_t stripes_read(void *state, void *buffer, size_t length_bytes, uint64_t offset)
{
    size_t there;
    off_t at;
    int file = locate(state, offset, length_bytes, &at, &there);
    ssize_t count = pread(file, buffer, there, at);

    return count < 0 ? -errno : count;
}

/* The first part that has bytes, as far as its stripe goes: at least 1 byte, which is all that is asked for. */
static ssize_t stripes_write(void *state, uint64_t token, const struct iovec *parts, int part_count, uint64_t offset)
{
    (void)token; /* this device has no lock */
    for (int i = 0; i < part_count; i++) {
        size_t there;
        off_t at;
        int file = locate(state, offset, parts[i].iov_len, &at, &there);
        ssize_t count;

        if (there == 0)
            continue;
        count = pwrite(file, parts[i].iov_base, there, at);
        return count < 0 ? -errno : count;
    }
    return 0;
}

static int stripes_sync(void *state, uint64_t token, uint64_t offset, uint64_t length_bytes)
{
    const struct stripes *stripes = state;

    (void)token, (void)offset, (void)length_bytes;
    for (int i = 0; i < 2; i++) {
        if (fdatasync(stripes->files[i]) != 0)
            return -errno;
    }
    return 0;
}

static int stripes_close(void *state)
{
    struct stripes *stripes = state;
    int error = 0;

    for (int i = 0; i < 2; i++) {
        if (stripes->files[i] >= 0 && close(stripes->files[i]) != 0)
            error = -errno;
    }
    free(stripes);
    return error;
}

static const struct cellar_device_ops stripes_ops = {
    .name = "stripes",
    .size = stripes_size,
    .read = stripes_read,
    .write = stripes_write,
    .sync = stripes_sync,
    .close = stripes_close,
};

/* Takes the files over, also where it fails. */
static int open_stripes(const int files[2], struct cellar_device **ret_device)
{
    struct stripes *stripes = malloc(sizeof *stripes);
    struct stat status;

    if (stripes == NULL) {
        close(files[0]);
        close(files[1]);
        return -ENOMEM;
    }
    memcpy(stripes->files, files, sizeof stripes->files);
    if (fstat(files[0], &status) != 0) {
        int error = -errno;

        stripes_close(stripes);
        return error;
    }
    stripes->size_bytes = 2 * ((uint64_t)status.st_size / STRIPE_BYTES * STRIPE_BYTES);
    return cellar_device_open(&stripes_ops, stripes, ret_device);
}

static unsigned char byte_at(uint64_t address)
{
    return (unsigned char)(address * UINT64_C(0x9E3779B97F4A7C15) >> 56);
}

/* Everything through a pipeline, 1000 bytes at a time. */
static void write_all(struct cellar_device *device, uint64_t size_bytes)
{
    struct cellar_pipeline *pipeline;
    unsigned char bytes[1000];

    TRY(cellar_pipeline_open(device, 4096, 64, &pipeline));
    for (uint64_t address = 0; address < size_bytes; address += sizeof bytes) {
        size_t length = size_bytes - address < sizeof bytes ? (size_t)(size_bytes - address) : sizeof bytes;

        for (size_t i = 0; i < length; i++)
            bytes[i] = byte_at(address + i);
        TRY(cellar_pipeline_write(pipeline, address, bytes, length));
    }
    TRY(cellar_pipeline_commit(pipeline));
    TRY(cellar_device_sync(device, 0, size_bytes));
    cellar_pipeline_close(pipeline);
}

static int check_piece(void *user, uint64_t address, const void *bytes, size_t length)
{
    const unsigned char *from = bytes;

    (void)user;
    for (size_t i = 0; i < length; i++)
        EXPECT(from[i] == byte_at(address + i));
    return 0;
}

int main(void)
{
    char paths[2][32] = {"/tmp/cellar-example-XXXXXX", "/tmp/cellar-example-XXXXXX"};
    uint64_t size_bytes = (uint64_t)STRIPES * STRIPE_BYTES;
    struct cellar_device_counters counters;
    struct cellar_device *device;
    struct cellar_cache *cache;
    unsigned char second[STRIPE_BYTES];
    int files[2];

    for (int i = 0; i < 2; i++) {
        files[i] = mkstemp(paths[i]);
        EXPECT(files[i] >= 0 && ftruncate(files[i], STRIPES / 2 * STRIPE_BYTES) == 0);
        unlink(paths[i]);
    }
    TRY(open_stripes(files, &device));
    write_all(device, size_bytes);

    TRY(cellar_cache_open(device, 65536, 4, &cache)); /* a page is four stripes */
    TRY(cellar_cache_iterate(cache, 0, size_bytes, check_piece, NULL));
    cellar_cache_close(cache);

    EXPECT(pread(files[1], second, sizeof second, 0) == STRIPE_BYTES);
    check_piece(NULL, STRIPE_BYTES, second, sizeof second);
    counters = cellar_device_counters(device);
    printf("%llu bytes written, %llu bytes read, %llu transfers were continued in the next stripe\n",
           (unsigned long long)counters.bytes_written, (unsigned long long)counters.bytes_read,
           (unsigned long long)counters.retries);
    EXPECT(counters.bytes_written == size_bytes && counters.bytes_read == size_bytes && counters.retries > 0);
    TRY(cellar_device_close(device));
    return 0;
}
