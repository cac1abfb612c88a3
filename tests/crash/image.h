/* image.h - a device over what a crash left. */
#ifndef CRASH_IMAGE_H
#define CRASH_IMAGE_H

#include "simdisk.h"

struct image {
    unsigned char *bytes; /* SIMDISK_BYTES_MAX; changed by who opens the store for write */
    uint64_t size_bytes, incarnation;
    const struct simdisk_kind *kind; /* of the disk */
    struct cellar_device_ops ops;
};

int image_open(struct image *image, struct cellar_device **ret_device);

#endif
