#include "device_slow.h"

#include <errno.h>
#include <stdlib.h>
#include <time.h>

struct slow {
    struct cellar_device *inner;
    struct device_delays delays;
};

static void sleep_ns(uint64_t ns)
{
    struct timespec left = {.tv_sec = (time_t)(ns / 1000000000u), .tv_nsec = (long)(ns % 1000000000u)};

    while (ns > 0 && clock_nanosleep(CLOCK_MONOTONIC, 0, &left, &left) == EINTR)
        continue;
}

static int slow_size(void *state, uint64_t *ret_size_bytes)
{
    struct slow *slow = state;

    return cellar_device_size(slow->inner, ret_size_bytes);
}

static ssize_t slow_read(void *state, void *buffer, size_t length_bytes, uint64_t offset)
{
    struct slow *slow = state;
    uint64_t size_bytes;
    int error = cellar_device_size(slow->inner, &size_bytes);

    if (error == 0 && offset >= size_bytes)
        return 0;
    if (error == 0 && length_bytes > size_bytes - offset)
        length_bytes = (size_t)(size_bytes - offset);
    sleep_ns(slow->delays.read_ns);
    if (error == 0)
        error = cellar_device_read(slow->inner, buffer, length_bytes, offset);
    return error < 0 ? error : (ssize_t)length_bytes;
}

static ssize_t slow_write(void *state, uint64_t token, const struct iovec *parts, int part_count, uint64_t offset)
{
    struct slow *slow = state;
    uint64_t unit_bytes = slow->delays.write_unit_bytes;
    size_t length_bytes = 0;
    int error;

    (void)token;
    for (int i = 0; i < part_count; i++)
        length_bytes += parts[i].iov_len;
    sleep_ns(slow->delays.write_ns * (unit_bytes != 0 ? (length_bytes + unit_bytes - 1) / unit_bytes : 1));
    error = cellar_device_write(slow->inner, parts, part_count, offset);
    return error < 0 ? error : (ssize_t)length_bytes;
}

static int slow_close(void *state)
{
    struct slow *slow = state;
    int error = cellar_device_close(slow->inner);

    free(slow);
    return error;
}

static const struct cellar_device_ops slow_ops = {
    .name = "slow",
    .size = slow_size,
    .read = slow_read,
    .write = slow_write,
    .close = slow_close,
};

int device_slow_open(struct cellar_device *inner, const struct device_delays *delays, struct cellar_device **ret_device)
{
    struct slow *slow = malloc(sizeof *slow);

    if (slow == NULL) {
        cellar_device_close(inner);
        return -ENOMEM;
    }
    *slow = (struct slow){.inner = inner, .delays = *delays};
    return cellar_device_open(&slow_ops, slow, ret_device);
}
