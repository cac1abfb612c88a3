/*
 * page_test.h - what the tests of the page room share: the three devices with given bytes, a device that fails when
 * told to and writes down what it is asked, and bytes that can be foretold.
 */
#ifndef PAGE_TEST_H
#define PAGE_TEST_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka needs those before it */
#include <cmocka.h>

#include <cellar/device.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* A generator of numbers: the same seed gives the same ones (SplitMix64). */
static inline uint64_t next_random(uint64_t *state)
{
    uint64_t z = *state += UINT64_C(0x9E3779B97F4A7C15);

    z = (z ^ (z >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94D049BB133111EB);
    return z ^ (z >> 31);
}

static inline void fill_random(unsigned char *bytes, size_t length, uint64_t seed)
{
    for (size_t i = 0; i < length; i++)
        bytes[i] = (unsigned char)next_random(&seed);
}

/* The devices of the library. */
enum ground { ON_FILE, ON_PREAD, ON_MEMORY, GROUND_COUNT };

#define GROUND_CAPACITY (1 << 20)

static inline struct cellar_device *open_ground(enum ground ground, const unsigned char *bytes, size_t length)
{
    const char *folder = getenv("TMPDIR");
    struct cellar_device *device = NULL;
    char path[4096];
    int fd, error;

    if (ground == ON_MEMORY) {
        assert_int_equal(cellar_device_open_memory(bytes, length, GROUND_CAPACITY, &device), 0);
        return device;
    }
    snprintf(path, sizeof path, "%s/cellar-page-XXXXXX", folder != NULL && *folder != '\0' ? folder : "/tmp");
    fd = mkstemp(path);
    assert_true(fd >= 0);
    assert_true(length == 0 || write(fd, bytes, length) == (ssize_t)length);
    close(fd);
    error = ground == ON_FILE ? cellar_device_open_file(path, CELLAR_OPEN_WRITE, 0, &device)
                              : cellar_device_open_pread(path, CELLAR_OPEN_WRITE, 0, &device);
    unlink(path);
    assert_int_equal(error, 0);
    return device;
}

#define TRIAL_BYTES 65536
#define TRIAL_WRITES 64

/* A device whose bytes, errors and calls are in the hands of the test. */
struct trial {
    unsigned char bytes[TRIAL_BYTES];
    uint64_t size_bytes;
    uint32_t block_bytes;                                /* 0: 1 */
    int size_error, read_error, load_error, write_error; /* returned instead of doing it */
    unsigned writes_before_error;
    unsigned sizes, reads, loads, writes; /* calls */
    int lent;                             /* loads without a release */
    struct {
        uint64_t offset, length;
        int parts;
    } log[TRIAL_WRITES]; /* of the writes */
};

static inline int trial_size(void *state, uint64_t *ret_size_bytes)
{
    struct trial *trial = state;

    trial->sizes++;
    if (trial->size_error != 0)
        return trial->size_error;
    *ret_size_bytes = trial->size_bytes;
    return 0;
}

static inline uint32_t trial_block_bytes(void *state)
{
    struct trial *trial = state;

    return trial->block_bytes > 0 ? trial->block_bytes : 1;
}

static inline ssize_t trial_read(void *state, void *buffer, size_t length_bytes, uint64_t offset)
{
    struct trial *trial = state;

    trial->reads++;
    if (trial->read_error != 0)
        return trial->read_error;
    if (offset >= trial->size_bytes)
        return 0;
    if (length_bytes > trial->size_bytes - offset)
        length_bytes = (size_t)(trial->size_bytes - offset);
    memcpy(buffer, trial->bytes + offset, length_bytes);
    return (ssize_t)length_bytes;
}

/* Memory of its own for each load, so that use after release is seen by the sanitizers. */
static inline int trial_load(void *state, uint64_t offset, size_t length_bytes, const void **ret_bytes)
{
    struct trial *trial = state;
    unsigned char *bytes;

    trial->loads++;
    if (trial->load_error != 0)
        return trial->load_error;
    bytes = malloc(length_bytes);
    assert_non_null(bytes);
    memcpy(bytes, trial->bytes + offset, length_bytes);
    trial->lent++;
    *ret_bytes = bytes;
    return 0;
}

static inline void trial_release(void *state, const void *bytes, size_t length_bytes)
{
    struct trial *trial = state;

    (void)length_bytes;
    trial->lent--;
    free((void *)(uintptr_t)bytes);
}

static inline ssize_t trial_write(void *state, uint64_t token, const struct iovec *parts, int part_count,
                                  uint64_t offset)
{
    struct trial *trial = state;
    uint64_t at = offset;

    (void)token;
    if (trial->write_error != 0 && trial->writes >= trial->writes_before_error)
        return trial->write_error;
    for (int i = 0; i < part_count; i++) {
        memcpy(trial->bytes + at, parts[i].iov_base, parts[i].iov_len);
        at += parts[i].iov_len;
    }
    assert_true(trial->writes < TRIAL_WRITES);
    trial->log[trial->writes].offset = offset;
    trial->log[trial->writes].length = at - offset;
    trial->log[trial->writes++].parts = part_count;
    return (ssize_t)(at - offset);
}

static inline int trial_close(void *state)
{
    (void)state;
    return 0;
}

enum trial_kind { TRIAL_LENDS, TRIAL_COPIES, TRIAL_READ_ONLY };

static inline struct cellar_device *open_trial(struct trial *trial, enum trial_kind kind)
{
    static const struct cellar_device_ops tables[] = {
        [TRIAL_LENDS] = {.name = "lends",
                         .block_bytes = trial_block_bytes,
                         .size = trial_size,
                         .read = trial_read,
                         .load = trial_load,
                         .release = trial_release,
                         .write = trial_write,
                         .close = trial_close},
        [TRIAL_COPIES] = {.name = "copies",
                          .block_bytes = trial_block_bytes,
                          .size = trial_size,
                          .read = trial_read,
                          .write = trial_write,
                          .close = trial_close},
        [TRIAL_READ_ONLY] = {.name = "read-only", .size = trial_size, .read = trial_read, .close = trial_close},
    };
    struct cellar_device *device;

    assert_int_equal(cellar_device_open(&tables[kind], trial, &device), 0);
    return device;
}

static inline struct trial *new_trial(uint64_t size_bytes, uint64_t seed)
{
    struct trial *trial = calloc(1, sizeof *trial);

    assert_non_null(trial);
    fill_random(trial->bytes, sizeof trial->bytes, seed);
    trial->size_bytes = size_bytes;
    return trial;
}

#endif
