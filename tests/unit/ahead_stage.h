/* ahead_stage.h - a helper ahead of the writer, on a device that has a size and nothing else. Its steps are taken by
 * hand: there is no thread. */
#ifndef CELLAR_TESTS_AHEAD_STAGE_H
#define CELLAR_TESTS_AHEAD_STAGE_H

#include "support.h"

#include "cell/ahead.h"

#include <errno.h>
#include <string.h>

enum { CELL = 64, START = 4, MIB = 1 << 20, STEP_BYTES = 16 * MIB, STEP = STEP_BYTES / CELL, MAX = 1 << 26 };

struct range {
    uint64_t from, end;
};

/* A helper on a device that has a size and nothing else, and what it asked for last. */
struct stage {
    uint64_t size_bytes;
    int grow_error; /* of the next growth; 0: none */
    struct cellar_device *device;
    struct cellar_header header;
    struct cellar_alloc alloc; /* the writer's */
    struct cellar_ahead ahead;
    struct range populated, written;
    int grows, populates, writes, losses;
    int populate_error, write_error;
    uint64_t now_ns;
};

static inline int populate(void *user, uint64_t offset, uint64_t length_bytes)
{
    struct stage *stage = user;

    stage->populates++;
    stage->populated = (struct range){.from = offset, .end = offset + length_bytes};
    return stage->populate_error;
}

static inline int write_out(void *user, uint64_t offset, uint64_t length_bytes)
{
    struct stage *stage = user;

    stage->writes++;
    stage->written = (struct range){.from = offset, .end = offset + length_bytes};
    return stage->write_error;
}

static inline void lost(void *user, int error)
{
    struct stage *stage = user;

    assert_int_equal(error, -EIO);
    stage->losses++;
}

static inline int stage_size(void *state, uint64_t *ret_size_bytes)
{
    *ret_size_bytes = ((const struct stage *)state)->size_bytes;
    return 0;
}

static inline ssize_t stage_read(void *state, void *buffer, size_t length_bytes, uint64_t offset)
{
    (void)state;
    (void)offset;
    memset(buffer, 0, length_bytes);
    return (ssize_t)length_bytes;
}

static inline ssize_t stage_write(void *state, uint64_t token, const struct iovec *parts, int part_count,
                                  uint64_t offset)
{
    (void)state;
    (void)token;
    (void)part_count;
    (void)offset;
    return (ssize_t)parts[0].iov_len;
}

static inline int stage_grow(void *state, uint64_t token, uint64_t allocate_from, uint64_t size_bytes)
{
    struct stage *stage = state;
    int error = stage->grow_error;

    (void)token;
    assert_true(allocate_from <= stage->size_bytes && size_bytes > stage->size_bytes);
    stage->grow_error = 0;
    stage->grows++;
    if (error == 0)
        stage->size_bytes = size_bytes;
    return error;
}

static inline int stage_close(void *state)
{
    (void)state;
    return 0;
}

/* The writer begins at next_index, with that many cells ready. */
static inline void open_stage_at(struct stage *stage, unsigned parts, uint32_t next_index, uint32_t ready_index,
                                 uint32_t step_cells)
{
    static const struct cellar_device_ops ops = {.name = "stage",
                                                 .size = stage_size,
                                                 .read = stage_read,
                                                 .write = stage_write,
                                                 .grow = stage_grow,
                                                 .close = stage_close};
    struct cellar_ahead_ways ways = {.populate = populate, .write_out = write_out, .lost = lost, .user = stage};

    *stage = (struct stage){.size_bytes = (uint64_t)ready_index * CELL, .now_ns = 1000};
    assert_done(cellar_device_open(&ops, stage, &stage->device));
    assert_done(cellar_header_open(&stage->header, stage->device, NULL, false));
    stage->alloc = (struct cellar_alloc){.device = stage->device,
                                         .header = &stage->header,
                                         .bytes_per_cell = CELL,
                                         .next_index = next_index,
                                         .mark_index = next_index,
                                         .ready_index = ready_index,
                                         .max_index = MAX,
                                         .step_cells = step_cells,
                                         .most_cells = 4 * STEP,
                                         .file_bytes = (uint64_t)ready_index * CELL};
    cellar_ahead_begin(&stage->ahead, parts, &stage->alloc, &ways);
    atomic_store(&stage->ahead.thread_state, CELLAR_AHEAD_FAILED); /* no thread can be had */
}

static inline void open_stage(struct stage *stage, unsigned parts)
{
    open_stage_at(stage, parts, START, START, STEP);
}

static inline void close_stage(struct stage *stage)
{
    cellar_ahead_end(&stage->ahead, &stage->alloc);
    cellar_header_close(&stage->header);
    assert_done(cellar_device_close(stage->device));
}

/* The writer takes cells, each byte_ns per byte, and comes to its marks as writer_ahead.c does. */
static inline void append(struct stage *stage, uint64_t bytes, uint64_t byte_ns)
{
    struct cellar_alloc *alloc = &stage->alloc;
    uint32_t first;

    for (uint64_t done = 0; done < bytes; done += CELL) {
        stage->now_ns += byte_ns * CELL;
        if (alloc->next_index == alloc->mark_index) {
            cellar_ahead_begin_growth(&stage->ahead, alloc);
            assert_done(cellar_alloc_prepare(alloc, 1));
            cellar_ahead_end_growth(&stage->ahead, alloc);
            cellar_ahead_pass(&stage->ahead, alloc, alloc->next_index + 1, stage->now_ns);
        }
        assert_done(cellar_alloc_take(alloc, 1, &first));
        assert_true(alloc->next_index <= alloc->mark_index && alloc->mark_index <= alloc->ready_index);
    }
}

static inline void run_all(struct stage *stage)
{
    for (int i = 0; cellar_ahead_step(&stage->ahead) == 0; i++)
        assert_true(i < 1000);
}

static inline uint64_t ready_bytes(const struct stage *stage)
{
    return atomic_load(&stage->ahead.ready_index) * CELL;
}

static inline uint64_t position_bytes(const struct stage *stage)
{
    return (uint64_t)stage->alloc.next_index * CELL;
}

#endif
