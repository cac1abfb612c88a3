/* device.h - what the device room offers the rooms above beside <cellar/device.h>. */
#ifndef CELLAR_DEVICE_DEVICE_H
#define CELLAR_DEVICE_DEVICE_H

#include <cellar/device.h>

/* The state that the device was opened with if its table is one that ends with close; NULL otherwise. */
void *cellar_device_state(const struct cellar_device *device, int (*close)(void *state));

#endif
