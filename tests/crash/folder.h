/*
 * folder.h - a folder with the store's name, its hidden name and those of its checksum file, in place of the system's.
 *
 * Stores that are opened by path go through the library's own file_name.c, writer_truncate.c and writer_open.c; the
 * system calls that these make on names, and the opening of files as devices, come here by the linker's --wrap. A file
 * is a simulated disk. Changes of names are pending until the folder is synced: a power loss may leave any subset of
 * them, each as a whole.
 */
#ifndef CRASH_FOLDER_H
#define CRASH_FOLDER_H

#include <stdbool.h>
#include <stdint.h>

#define FOLDER_STORE_PATH "/crash/store"

enum folder_name { FOLDER_STORE, FOLDER_HIDDEN, FOLDER_SUMS, FOLDER_SUMS_FRESH, FOLDER_NAMES };
enum { FOLDER_OPS_MAX = 10, FOLDER_NOBODY = -1 };

/* What a call made of the names: of those that it set, the file, or FOLDER_NOBODY. It is done as a whole. */
struct folder_op {
    bool sets[FOLDER_NAMES];
    int files[FOLDER_NAMES];
};

struct folder {
    int durable[FOLDER_NAMES]; /* the file of each name, or FOLDER_NOBODY */
    int now[FOLDER_NAMES];
    struct folder_op ops[FOLDER_OPS_MAX];
    int op_count;
};

struct world;

void folder_init(struct folder *folder);

/* The world whose folder the system's calls are about, from now on; NULL: none. Returns the one before. */
struct world *folder_enter(struct world *world);

/* How many images there are, and what one leaves of the names. */
uint32_t folder_image_count(const struct folder *folder);
void folder_image(const struct folder *folder, uint32_t number, int ret_names[FOLDER_NAMES]);

/* What a power loss may leave of the names, drawn by *random, among those where the store's name leads to file. */
void folder_image_drawn(const struct folder *folder, int file, uint64_t *random, int ret_names[FOLDER_NAMES]);

/* True while something may still lead to the file. */
bool folder_knows(const struct folder *folder, int file);

#endif
