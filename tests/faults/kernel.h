/*
 * kernel.h - what the tests of real kernel faults (kernel_*.c) share: small file systems, and a store that is filled.
 *
 * Mounts are made in a child with a mount namespace of its own, so they are gone with it. Where the user may not mount,
 * or the kernel has no such thing, the child returns KERNEL_CANNOT and has said why.
 */
#ifndef CELLAR_TESTS_FAULTS_KERNEL_H
#define CELLAR_TESTS_FAULTS_KERNEL_H

#include "support.h"

#include <cellar/store.h>
#include <stdbool.h>
#include <stdint.h>

enum { KERNEL_CANNOT = -1000, KERNEL_BYTES_PER_CELL = 64 };

/* In a child: a mount namespace of its own (and, without root, a user namespace). False: the reason is printed. */
bool kernel_enter(void);

/* In such a child: a tmpfs of that size on the folder. */
bool kernel_mount_tmpfs(const char *folder, uint64_t size_bytes, bool read_only);

/* An ext4 in a file of that size, made under image_path, on the folder. */
bool kernel_mount_ext4(const char *folder, const char *image_path, uint64_t size_bytes);

/* Fills what is left on the file system of the folder, but for about spare_bytes; unlink(2) of the path frees it. */
bool kernel_fill(const char *path, uint64_t spare_bytes);

/* Runs in a child; skips the test where it returned KERNEL_CANNOT, fails where it gave anything but 0. */
void kernel_run(int (*run)(void *user), void *user);

/* The choices that a store on a file can be opened with, and their names. */
extern const enum cellar_device_choice kernel_choices[];
extern const char *const kernel_choice_names[];
enum { KERNEL_CHOICES = 4 };

struct kernel_case {
    char *folder; /* of the test */
    char path[4096];
    enum cellar_device_choice choice;
    int kind; /* the test's own */
};

struct cellar_writer_options kernel_options(const struct kernel_case *c);
struct cellar_config kernel_config(void);

/* Appends one cell that its index names. */
int kernel_append(struct cellar_writer *writer, uint32_t *ret_index);
/* Whether cells first..end - 1 are such. */
bool kernel_holds(const struct cellar_snapshot *snapshot, uint32_t first_index, uint32_t end_index);
uint32_t kernel_start(void);

#endif
