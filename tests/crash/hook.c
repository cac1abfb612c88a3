/* hook.c - every store into a window's header comes past here (the linker's --wrap): an event after each word. */
#include "hook.h"

#include <signal.h>
#include <stddef.h>
#include <stdlib.h>

enum { DISKS_MAX = 16 };

static struct simdisk *disks[DISKS_MAX];

/* A store into a page that is clean but not on the disk: it is dirty from now on. */
static void on_fault(int signal_number, siginfo_t *info, void *context)
{
    (void)context;
    for (int i = 0; i < DISKS_MAX; i++) {
        if (disks[i] != NULL && simdisk_touched(disks[i], info->si_addr))
            return;
    }
    signal(signal_number, SIG_DFL); /* it was no store of that kind, and comes again */
}

void hook_start(void)
{
    struct sigaction action = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO};

    sigemptyset(&action.sa_mask);
    if (sigaction(SIGSEGV, &action, NULL) != 0)
        abort();
}

void hook_add(struct simdisk *disk)
{
    hook_remove(disk);
    for (int i = 0; i < DISKS_MAX; i++) {
        if (disks[i] == NULL) {
            disks[i] = disk;
            return;
        }
    }
    abort();
}

void hook_remove(const struct simdisk *disk)
{
    for (int i = 0; i < DISKS_MAX; i++) {
        if (disks[i] == disk)
            disks[i] = NULL;
    }
}

void __real_cellar_header_store_window(unsigned char *window, uint64_t offset, const void *bytes, size_t length_bytes);
void __wrap_cellar_header_store_window(unsigned char *window, uint64_t offset, const void *bytes, size_t length_bytes);

void __wrap_cellar_header_store_window(unsigned char *window, uint64_t offset, const void *bytes, size_t length_bytes)
{
    const unsigned char *from = bytes;
    struct simdisk *disk = NULL;

    for (int i = 0; i < DISKS_MAX && disk == NULL; i++) {
        if (disks[i] != NULL && disks[i]->view == window)
            disk = disks[i];
    }
    if (disk == NULL) { /* the window of an image */
        __real_cellar_header_store_window(window, offset, bytes, length_bytes);
        return;
    }
    while (length_bytes > 0) {
        size_t step = offset % 8 == 0 && length_bytes >= 8 ? 8 : 4;

        __real_cellar_header_store_window(window, offset, from, step);
        simdisk_stored(disk, offset);
        offset += step;
        from += step;
        length_bytes -= step;
    }
}
