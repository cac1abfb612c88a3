/* pipeline_eager.c - data that is appended goes to a slow device while it is being made; commit waits for the rest. */
#include <cellar/pipeline.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { PAGE_BYTES = 4096, HEADER_BYTES = PAGE_BYTES, MIB = 1 << 20, DATA_BYTES = 16 * MIB, CHUNK_BYTES = 10000 };

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

/* Memory whose writes take a millisecond each. */
struct slow {
    pthread_mutex_t lock;
    uint64_t header_writes; /* those that touched the header */
    unsigned char bytes[HEADER_BYTES + DATA_BYTES];
};

static int slow_size(void *state, uint64_t *ret_size_bytes)
{
    (void)state;
    *ret_size_bytes = HEADER_BYTES + DATA_BYTES;
    return 0;
}

static ssize_t slow_read(void *state, void *buffer, size_t length_bytes, uint64_t offset)
{
    struct slow *slow = state;

    pthread_mutex_lock(&slow->lock);
    memcpy(buffer, slow->bytes + offset, length_bytes);
    pthread_mutex_unlock(&slow->lock);
    return (ssize_t)length_bytes;
}

static ssize_t slow_write(void *state, uint64_t token, const struct iovec *parts, int part_count, uint64_t offset)
{
    struct slow *slow = state;
    uint64_t at = offset;

    (void)token;
    nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    pthread_mutex_lock(&slow->lock);
    slow->header_writes += offset < HEADER_BYTES;
    for (int i = 0; i < part_count; i++) {
        memcpy(slow->bytes + at, parts[i].iov_base, parts[i].iov_len);
        at += parts[i].iov_len;
    }
    pthread_mutex_unlock(&slow->lock);
    return (ssize_t)(at - offset);
}

static int slow_close(void *state)
{
    free(state);
    return 0;
}

static const struct cellar_device_ops slow_ops = {
    .name = "slow", .size = slow_size, .read = slow_read, .write = slow_write, .close = slow_close};

static unsigned char byte_at(uint64_t address)
{
    return (unsigned char)(address * UINT64_C(0x9E3779B97F4A7C15) >> 56);
}

static void append_all(struct cellar_pipeline *pipeline)
{
    unsigned char chunk[CHUNK_BYTES];

    for (uint64_t at = HEADER_BYTES; at < HEADER_BYTES + DATA_BYTES; at += CHUNK_BYTES) {
        uint64_t left = HEADER_BYTES + DATA_BYTES - at;
        size_t length = left < CHUNK_BYTES ? (size_t)left : CHUNK_BYTES;

        for (size_t i = 0; i < length; i++)
            chunk[i] = byte_at(at + i);
        TRY(cellar_pipeline_write(pipeline, at, chunk, length)); /* its error may be a background write's */
    }
}

int main(void)
{
    struct cellar_pipeline_options options = {
        .eager_writes = 4,              /* so many at a time, */
        .eager_bytes = 256 * 1024,      /* of so many bytes each */
        .pending_bytes_max = MIB,       /* more than that is not left for commit: writing waits */
        .committed_bytes = HEADER_BYTES /* readers may see the header: it isn't written before commit */
    };
    struct slow *slow = calloc(1, sizeof *slow);
    struct cellar_pipeline *pipeline;
    struct cellar_device *device;
    uint64_t left_for_commit;

    EXPECT(slow != NULL && pthread_mutex_init(&slow->lock, NULL) == 0);
    TRY(cellar_device_open(&slow_ops, slow, &device));
    TRY(cellar_pipeline_open_with(device, &options, &pipeline));

    TRY(cellar_pipeline_set_u64_le(pipeline, 0, DATA_BYTES)); /* in the header: how much there is */
    append_all(pipeline);
    left_for_commit = cellar_pipeline_pending_bytes(pipeline);
    pthread_mutex_lock(&slow->lock);
    EXPECT(slow->header_writes == 0);
    pthread_mutex_unlock(&slow->lock);
    TRY(cellar_pipeline_commit(pipeline));

    printf("%d bytes were written, %llu of them were left for commit\n", DATA_BYTES + 8,
           (unsigned long long)left_for_commit);
    EXPECT(left_for_commit <= 2 * MIB && slow->header_writes == 1);
    EXPECT(cellar_pipeline_version(pipeline) == 1); /* one commit, one version */
    for (uint64_t at = HEADER_BYTES; at < HEADER_BYTES + DATA_BYTES; at++)
        EXPECT(slow->bytes[at] == byte_at(at));
    cellar_pipeline_close(pipeline);
    TRY(cellar_device_close(device));
    return 0;
}
