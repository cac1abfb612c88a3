/*
 * sum_name.h - where a store's sums file lies: STORE.cellar-sums, or while it is new STORE.cellar-sums-new.
 *
 * The new one is durable before the store's header names its identity, and gets its name after it. A crash in between
 * leaves a header that names the new one: whoever finds that the file under its name is not the store's looks under the
 * new name, so there is no moment at which a store is without its sums. Both names are the writer's who has the store's
 * lock (or who is making the store, hidden).
 */
#ifndef CELLAR_SUM_SUM_NAME_H
#define CELLAR_SUM_SUM_NAME_H

#include "sum/sum_file.h"

/* The path of the store's sums file, for free(3); store_path as the store's real path. NULL: no memory. */
char *cellar_sum_path(const char *store_path, bool fresh);

/* A random identity. */
int cellar_sum_make_identity(uint32_t *ret_identity);

/* A new file under the new name; a leftover there goes. */
int cellar_sum_create_fresh(const char *store_path, unsigned mode, const struct cellar_sum_owner *owner,
                            const unsigned char header[CELLAR_HEADER_BYTES], struct cellar_sum_file **ret_file);

/* Makes it durable that the new file has the new name: before the store's header names its identity. */
int cellar_sum_settle_fresh(const char *store_path);

/* Gives the new file its name, durably, in place of whatever has it. */
int cellar_sum_publish(const char *store_path);

/* Removes the new file again. */
void cellar_sum_discard(const char *store_path);

/*
 * Opens the file of this owner (NULL: any) under either name. A writer that finds it under the new name publishes it,
 * where it can.
 * CELLAR_NONE: there is none that is whole; CELLAR_ESUMS: there is one, of another store. -ENOTSUP, and other errors of
 * the system.
 */
int cellar_sum_find(const char *store_path, bool writable, const struct cellar_sum_owner *owner,
                    struct cellar_sum_file **ret_file);

#endif
