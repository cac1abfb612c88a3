/* device_slow.h - a device that takes its time, as many requests at once as come: a wrapper over another one. */
#ifndef BENCH_PAGES_DEVICE_SLOW_H
#define BENCH_PAGES_DEVICE_SLOW_H

#include <cellar/device.h>

struct device_delays {
    uint64_t read_ns;          /* each read sleeps as long */
    uint64_t write_ns;         /* each write */
    uint64_t write_unit_bytes; /* as often as it has begun units of this size; 0: once */
};

/* inner is closed with it, also where this fails. */
int device_slow_open(struct cellar_device *inner, const struct device_delays *delays,
                     struct cellar_device **ret_device);

#endif
