/* device.h - what the device room offers the rooms above beside <cellar/device.h>. */
#ifndef CELLAR_DEVICE_DEVICE_H
#define CELLAR_DEVICE_DEVICE_H

#include <cellar/device.h>

/* The state that the device was opened with if its table is one that ends with close; NULL otherwise. */
void *cellar_device_state(const struct cellar_device *device, int (*close)(void *state));

/* True for a device that can't grow. */
bool cellar_device_is_fixed(const struct cellar_device *device);

/* True for a device on a file past the kernel's page cache, also below a device in bytes. */
bool cellar_device_is_direct(const struct cellar_device *device);

/* True where the device has a window whose pages come from the disk one at a time (CELLAR_OPEN_RANDOM). */
bool cellar_device_reads_by_page(const struct cellar_device *device);

/* These bytes of such a window are about to be read: all of them begin to come from the disk, where they aren't in
 * memory. A system call. Any thread. */
void cellar_device_expect(const struct cellar_device *device, uint64_t offset, size_t length_bytes);

/* cellar_device_open_bytes that leaves inner alone, open, when it is closed or can't be made. */
int cellar_device_open_bytes_over(struct cellar_device *inner, struct cellar_device **ret_device);

/* The device that a device in bytes stands on; any other device itself. */
const struct cellar_device *cellar_device_inner(const struct cellar_device *device);

/*
 * cellar_device_read and cellar_device_write in two steps, for who moves bytes between them by the device's descriptor.
 * Both are counted as those calls are; a read fills several parts, each of whole blocks.
 *
 * begin: checks that it may start, as those calls do, and counts it; *ret_total_bytes is the sum of the parts.
 * finish: transfers what comes after the first done_bytes of them, as a whole, and counts total_bytes. done_bytes is
 * a multiple of the device's blocks, or total_bytes, where nothing is left to transfer and finish can't fail.
 */
int cellar_device_begin(struct cellar_device *device, bool writes, const struct iovec *parts, int part_count,
                        uint64_t offset, uint64_t *ret_total_bytes);
int cellar_device_finish(struct cellar_device *device, bool writes, const struct iovec *parts, int part_count,
                         uint64_t offset, uint64_t done_bytes, uint64_t total_bytes);

/* Counts a transfer that was interrupted or cut short and goes on. */
void cellar_device_count_retry(struct cellar_device *device);

#endif
