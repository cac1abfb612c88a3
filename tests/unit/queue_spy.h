/*
 * queue_spy.h - a device that reads and writes a file, but whose descriptor is a pipe: what went by the ring and what
 * by a thread tells itself by its bytes, and the test says when a transfer ends, and how short.
 */
#ifndef QUEUE_SPY_H
#define QUEUE_SPY_H

#include "queue_test.h"

#include <stdatomic.h>
#include <unistd.h>

enum { SIZE = 8192, BLOCK = 512 };

struct spy {
    struct cellar_device *inner;
    int pipe[2];
    int descriptor; /* pipe[0] unless the test says otherwise */
    uint32_t block_bytes, align_bytes;
    atomic_uint reads, writes;
    atomic_uint_fast64_t offset; /* of the last one */
};

static inline uint32_t spy_block_bytes(void *state)
{
    const struct spy *spy = state;

    return spy->block_bytes;
}

static inline int spy_size(void *state, uint64_t *ret_size_bytes)
{
    const struct spy *spy = state;

    return cellar_device_size(spy->inner, ret_size_bytes);
}

static inline ssize_t spy_read(void *state, void *buffer, size_t length_bytes, uint64_t offset)
{
    struct spy *spy = state;
    int error = cellar_device_read(spy->inner, buffer, length_bytes, offset);

    atomic_fetch_add(&spy->reads, 1);
    atomic_store(&spy->offset, offset);
    return error == 0 ? (ssize_t)length_bytes : error == CELLAR_EBOUNDS ? 0 : error;
}

static inline ssize_t spy_write(void *state, uint64_t token, const struct iovec *parts, int part_count, uint64_t offset)
{
    struct spy *spy = state;
    ssize_t sum = 0;
    int error = cellar_device_write(spy->inner, parts, part_count, offset);

    (void)token;
    atomic_fetch_add(&spy->writes, 1);
    atomic_store(&spy->offset, offset);
    for (int i = 0; i < part_count; i++)
        sum += (ssize_t)parts[i].iov_len;
    return error == 0 ? sum : error;
}

static inline int spy_descriptor(void *state, uint32_t *ret_align_bytes)
{
    const struct spy *spy = state;

    *ret_align_bytes = spy->align_bytes;
    return spy->descriptor;
}

static inline int spy_close(void *state)
{
    struct spy *spy = state;

    for (int i = 0; i < 2; i++) {
        if (spy->pipe[i] >= 0)
            close(spy->pipe[i]);
    }
    return cellar_device_close(spy->inner);
}

static const struct cellar_device_ops spy_ops = {
    .name = "spy",
    .block_bytes = spy_block_bytes,
    .size = spy_size,
    .read = spy_read,
    .write = spy_write,
    .descriptor = spy_descriptor,
    .close = spy_close,
};

struct stage {
    char *folder;
    struct spy spy;
    struct cellar_device *device;
    struct cellar_queue *queue; /* depth 2 */
};

static inline int open_stage(void **state, uint32_t block_bytes, uint32_t align_bytes)
{
    struct stage *stage = calloc(1, sizeof *stage);
    static unsigned char bytes[SIZE];

    assert_non_null(stage);
    *state = stage;
    memset(bytes, 'f', SIZE);
    stage->folder = support_folder_make();
    stage->spy.inner = support_device_open(SUPPORT_DEVICE_PREAD, stage->folder, "device", SIZE, SIZE);
    assert_done(support_device_write(stage->spy.inner, bytes, SIZE, 0));
    assert_int_equal(pipe(stage->spy.pipe), 0);
    stage->spy.descriptor = stage->spy.pipe[0];
    stage->spy.block_bytes = block_bytes;
    stage->spy.align_bytes = align_bytes;
    assert_done(cellar_device_open(&spy_ops, &stage->spy, &stage->device));
    return 0;
}

static inline int setup(void **state)
{
    return open_stage(state, 1, 1);
}

static inline int teardown(void **state)
{
    struct stage *stage = *state;

    if (stage->spy.pipe[1] >= 0)
        close(stage->spy.pipe[1]); /* after a failure: ends what is under way */
    stage->spy.pipe[1] = -1;
    cellar_queue_close(stage->queue);
    assert_done(cellar_device_close(stage->device));
    support_folder_remove(stage->folder);
    free(stage);
    return 0;
}

/* The bytes of the pipe are all 'p', those of the file 'f'. */
static inline void fill_pipe(struct stage *stage, size_t length_bytes)
{
    unsigned char bytes[SIZE];

    memset(bytes, 'p', sizeof bytes);
    assert_int_equal(write(stage->spy.pipe[1], bytes, length_bytes), length_bytes);
}

/* The job has so many bytes by the ring, and all others by a thread. */
static inline bool has_bytes(const struct job *job, size_t by_ring)
{
    for (size_t i = 0; i < job->length_bytes; i++) {
        if (job->bytes[i] != (i < by_ring ? 'p' : 'f'))
            return false;
    }
    return true;
}

#endif
