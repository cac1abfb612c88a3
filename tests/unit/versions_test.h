/*
 * versions_test.h - what the tests of snapshots, write frames and eager writes share: a pipeline over a memory device
 * whose calls can be counted, held and failed, and pages that are told by one number in all their bytes.
 */
#ifndef VERSIONS_TEST_H
#define VERSIONS_TEST_H

#include "device_fault.h"
#include "support.h"

#include <cellar/pipeline.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { PAGE = 64 };

struct stage {
    struct fault_device fault;
    struct cellar_device *device;
    struct cellar_pipeline *pipeline;
};

/* The device holds zeros, in memory unless the stage has one. What the options leave open: eight pages of PAGE. */
static inline void stage_open(struct stage *stage, uint64_t size_bytes, const struct cellar_pipeline_options *options)
{
    struct cellar_pipeline_options complete = *options;

    if (complete.cache.page_bytes == 0)
        complete.cache.page_bytes = PAGE;
    if (complete.cache.page_count == 0)
        complete.cache.page_count = 8;
    if (stage->fault.inner == NULL)
        assert_done(cellar_device_open_memory(NULL, size_bytes, UINT64_C(1) << 27, &stage->fault.inner));
    assert_done(fault_device_open(&stage->fault, &stage->device));
    assert_done(cellar_pipeline_open_with(stage->device, &complete, &stage->pipeline));
}

static inline void stage_close(struct stage *stage)
{
    cellar_pipeline_close(stage->pipeline);
    assert_done(cellar_device_close(stage->device));
}

/* Writes length bytes of this value. */
static inline int put(struct stage *stage, uint64_t address, size_t length, int value)
{
    unsigned char *bytes = malloc(length);
    int error;

    assert_non_null(bytes);
    memset(bytes, value, length);
    error = cellar_pipeline_write(stage->pipeline, address, bytes, length);
    free(bytes);
    return error;
}

/* As put, and commits. */
static inline int put_commit(struct stage *stage, uint64_t address, size_t length, int value)
{
    int error = put(stage, address, length, value);

    return error != 0 ? error : cellar_pipeline_commit(stage->pipeline);
}

static inline void assert_bytes(const unsigned char *bytes, size_t length, int value)
{
    for (size_t i = 0; i < length; i++)
        assert_int_equal(bytes[i], value);
}

/* The handle sees this value in all of the range. */
static inline void expect(struct cellar_cache *cache, uint64_t address, size_t length, int value)
{
    unsigned char *bytes = malloc(length);

    assert_non_null(bytes);
    assert_done(cellar_cache_read(cache, address, bytes, length));
    assert_bytes(bytes, length, value);
    free(bytes);
}

/* So does who reads through the pipeline. */
static inline void expect_seen(struct stage *stage, uint64_t address, size_t length, int value)
{
    unsigned char *bytes = malloc(length);

    assert_non_null(bytes);
    assert_done(cellar_pipeline_read(stage->pipeline, address, bytes, length));
    assert_bytes(bytes, length, value);
    free(bytes);
}

/* And the device itself has it. */
static inline void expect_device(struct stage *stage, uint64_t address, size_t length, int value)
{
    unsigned char *bytes = malloc(length);

    assert_non_null(bytes);
    assert_done(cellar_device_read(stage->fault.inner, bytes, length, address));
    assert_bytes(bytes, length, value);
    free(bytes);
}

static inline struct cellar_cache *take_snapshot(struct stage *stage)
{
    struct cellar_cache *snapshot;

    assert_done(cellar_pipeline_snapshot(stage->pipeline, &snapshot));
    return snapshot;
}

static inline size_t old_pages(struct stage *stage)
{
    return cellar_cache_counters(cellar_pipeline_cache(stage->pipeline)).old_pages;
}

static inline uint64_t count_reads(struct stage *stage)
{
    return fault_calls(&stage->fault, FAULT_BIT(FAULT_READ) | FAULT_BIT(FAULT_LOAD));
}

static inline uint64_t count_writes(struct stage *stage)
{
    return fault_calls(&stage->fault, FAULT_BIT(FAULT_WRITE));
}

#endif
