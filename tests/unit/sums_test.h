/* sums_test.h - stores with checksums, in a folder of the test's own, for the tests of <cellar/sums.h>. */
#ifndef CELLAR_TESTS_SUMS_TEST_H
#define CELLAR_TESTS_SUMS_TEST_H

#include "store_fixture.h"

#include <cellar/sums.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { SUMS_MAX_INDEX = 200000, SUMS_BYTES_PER_CELL = 32 };

/* The rotten blocks that a check named. */
struct sums_found {
    struct cellar_sums_report report;
    struct cellar_sums_rot rots[8];
    size_t rot_count;
    uint64_t last_done, total;
};

static inline void sums_rotten(void *user, const struct cellar_sums_rot *rot)
{
    struct sums_found *found = user;

    if (found->rot_count < SUPPORT_COUNT(found->rots))
        found->rots[found->rot_count] = *rot;
    found->rot_count++;
}

static inline void sums_progress(void *user, uint64_t done_bytes, uint64_t total_bytes)
{
    struct sums_found *found = user;

    assert_true(done_bytes >= found->last_done && done_bytes <= total_bytes);
    found->last_done = done_bytes;
    found->total = total_bytes;
}

static inline struct sums_found sums_check(const char *path)
{
    struct sums_found found = {.rot_count = 0};
    struct cellar_diagnostic diagnostic;
    struct cellar_sums_options options = {
        .progress = sums_progress, .rotten = sums_rotten, .user = &found, .diagnostic = &diagnostic};
    struct cellar_sums_report report;

    assert_done(cellar_sums_check(path, &options, &report));
    assert_int_equal(report.rotten_blocks, found.rot_count);
    assert_true(found.last_done == found.total);
    found.report = report;
    return found;
}

static inline enum cellar_sums_state sums_state(const char *path)
{
    return sums_check(path).report.state;
}

/* All that is flushed is covered, and holds. */
static inline void sums_assert_good(const char *path)
{
    struct sums_found found = sums_check(path);

    assert_int_equal(found.report.state, CELLAR_SUMS_GOOD);
    assert_int_equal(found.rot_count, 0);
    assert_int_equal(found.report.uncovered_bytes, 0);
    assert_int_equal(found.report.broken_sectors, 0);
    assert_true(found.report.verified_bytes == found.report.flushed_bytes - CELLAR_HEADER_BYTES);
}

static inline struct cellar_writer_options sums_options(enum cellar_device_choice device)
{
    return (struct cellar_writer_options){.checksums = true, .device = device, .resize_step_bytes = 64 << 10};
}

static inline struct cellar_writer *sums_create(const char *path, enum cellar_device_choice device)
{
    struct cellar_config config = store_config(SUMS_BYTES_PER_CELL, SUMS_MAX_INDEX);
    struct cellar_writer_options options = sums_options(device);
    struct cellar_writer *writer;

    assert_done(cellar_writer_create(path, &config, &options, &writer));
    return writer;
}

static inline struct cellar_writer *sums_open(const char *path)
{
    struct cellar_writer_options options = sums_options(CELLAR_DEVICE_AUTO);
    struct cellar_writer *writer;

    assert_done(cellar_writer_open(path, &options, &writer));
    return writer;
}

static inline enum cellar_sums_state sums_found_at_open(const struct cellar_writer *writer)
{
    struct cellar_recovery recovery;

    cellar_writer_recovery(writer, &recovery);
    return recovery.sums;
}

static inline struct cellar_info sums_info(const struct cellar_writer *writer)
{
    struct cellar_info info;

    cellar_writer_info(writer, &info);
    return info;
}

/* A closed store with so many cells. */
static inline void sums_make(const char *path, uint32_t cell_count)
{
    struct cellar_writer *writer = sums_create(path, CELLAR_DEVICE_AUTO);

    store_append(writer, cell_count);
    assert_done(cellar_writer_set_root(writer, cellar_writer_next(writer) - 1));
    store_close(writer);
}

static inline void sums_flip(const char *path, uint64_t offset, unsigned bit)
{
    size_t length_bytes;
    unsigned char *bytes = support_file_read(path, &length_bytes);
    unsigned char byte;

    assert_true(offset < length_bytes);
    byte = (unsigned char)(bytes[offset] ^ 1u << bit);
    free(bytes);
    support_file_patch(path, offset, &byte, 1);
}

static inline void sums_copy(const char *from, const char *to)
{
    size_t length_bytes;
    unsigned char *bytes = support_file_read(from, &length_bytes);

    support_file_write(to, bytes, length_bytes);
    free(bytes);
}

#endif
