/*
 * helper.c - the helper ahead of a writer (cell/ahead.h). It has no thread here: its steps are taken between those of
 * the work, and in the midst of flushes, where a thread of its own could take them.
 */
#include "device/file.h"
#include "store_internal.h"
#include "trace.h"
#include "world.h"

#include <inttypes.h>
#include <time.h>

void world_help(struct world *world, uint32_t steps)
{
    bool in_flush = world->in_flush;

    if (!world->run->mode->ahead || world->writer == NULL)
        return;
    world->in_flush = false;
    world->writer->ahead.flushes = UINT16_MAX; /* there were as many as it takes, of the size that it takes */
    world->writer->ahead.flush_mean_bytes = PAGE_BYTES;
    while (steps-- > 0 && !run_stopped(world->run) && cellar_ahead_step(&world->writer->ahead) == 0)
        trace("    a step of the helper: ready to %" PRIu32, (uint32_t)world->writer->ahead.ready_index);
    world->in_flush = in_flush;
}

void __wrap_cellar_ahead_start(struct cellar_ahead *ahead);
int __wrap_cellar_file_populate(const struct cellar_device *device, uint64_t offset, uint64_t length_bytes);
int __wrap_cellar_file_write_out(const struct cellar_device *device, int *fd, uint64_t offset, uint64_t length_bytes);
int __real_clock_gettime(clockid_t clock, struct timespec *ret_time);
int __wrap_clock_gettime(clockid_t clock, struct timespec *ret_time);

void __wrap_cellar_ahead_start(struct cellar_ahead *ahead)
{
    (void)ahead;
}

int __wrap_cellar_file_populate(const struct cellar_device *device, uint64_t offset, uint64_t length_bytes)
{
    (void)device;
    (void)offset;
    (void)length_bytes;
    return 0;
}

int __wrap_cellar_file_write_out(const struct cellar_device *device, int *fd, uint64_t offset, uint64_t length_bytes)
{
    (void)fd;
    trace("    the helper writes %" PRIu64 " bytes at %" PRIu64, length_bytes, offset);
    return cellar_device_sync((struct cellar_device *)(uintptr_t)device, offset, length_bytes);
}

/* A writer's clock: it goes on by a nanosecond at each look, so that cells always come fast. */
int __wrap_clock_gettime(clockid_t clock, struct timespec *ret_time)
{
    static long now;

    if (clock != CLOCK_MONOTONIC)
        return __real_clock_gettime(clock, ret_time);
    now++;
    *ret_time = (struct timespec){.tv_sec = 1 + now / 1000000000, .tv_nsec = now % 1000000000};
    return 0;
}
