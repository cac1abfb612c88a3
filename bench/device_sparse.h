/* device_sparse.h - a file as a device that grows by holes: a large store takes no space until cells are written. */
#ifndef BENCH_DEVICE_SPARSE_H
#define BENCH_DEVICE_SPARSE_H

#include <cellar/device.h>

/* A new file. Errors of the system. */
int device_sparse_open(const char *path, struct cellar_device **ret_device);

#endif
