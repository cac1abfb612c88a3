/* header_stage.h - what the tests of the header's slots share. */
#ifndef CELLAR_TESTS_HEADER_STAGE_H
#define CELLAR_TESTS_HEADER_STAGE_H

#include "device_fault.h"
#include "support.h"

#include "cell/header.h"

#include <stdlib.h>
#include <string.h>

/* A header on a memory device, reached through its window or by calls of a fault device over it. */
struct stage {
    struct fault_device fault;
    struct cellar_device *device;
    unsigned char *bytes; /* where the header really is */
    struct cellar_header header;
};

static inline struct stage *open_stage(bool with_window, bool compat)
{
    struct stage *stage = calloc(1, sizeof *stage);
    uint64_t capacity_bytes;
    void *base;

    assert_non_null(stage);
    assert_done(cellar_device_open_memory(NULL, 4096, 4096, &stage->fault.inner));
    assert_done(cellar_device_window(stage->fault.inner, 4096, true, &base, &capacity_bytes));
    stage->bytes = base;
    assert_done(fault_device_open(&stage->fault, &stage->device));
    assert_done(cellar_header_open(&stage->header, stage->device, with_window ? base : NULL, compat));
    return stage;
}

static inline void close_stage(struct stage *stage)
{
    cellar_header_close(&stage->header);
    assert_done(cellar_device_close(stage->device));
    free(stage);
}

static inline struct cellar_key key_of(uint64_t seed)
{
    struct cellar_key key;

    support_bytes(seed, key.bytes, sizeof key.bytes);
    return key;
}

static inline struct cellar_state state_of(uint32_t next, uint32_t root)
{
    return (struct cellar_state){.next_index = next, .root_index = root};
}

static inline bool states_equal(struct cellar_state a, struct cellar_state b)
{
    return a.next_index == b.next_index && a.root_index == b.root_index;
}

#endif
