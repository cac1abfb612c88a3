/* hook.h - the disks whose windows are watched. */
#ifndef CRASH_HOOK_H
#define CRASH_HOOK_H

#include "simdisk.h"

/* Once, before anything else. */
void hook_start(void);

void hook_add(struct simdisk *disk);
void hook_remove(const struct simdisk *disk);

#endif
