#include "sum/sum_name.h"

#include "device/file.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

/* So often a name is looked at again: truncate may be putting another file there. */
enum { FIND_ATTEMPTS_MAX = 3 };

char *cellar_sum_path(const char *store_path, bool fresh)
{
    char *path;

    return asprintf(&path, "%s.cellar-sums%s", store_path, fresh ? "-new" : "") < 0 ? NULL : path;
}

int cellar_sum_make_identity(uint32_t *ret_identity)
{
    do {
        if (getrandom(ret_identity, sizeof *ret_identity, 0) != (ssize_t)sizeof *ret_identity)
            return -errno;
    } while (*ret_identity == 0);
    return 0;
}

int cellar_sum_create_fresh(const char *store_path, unsigned mode, const struct cellar_sum_owner *owner,
                            const unsigned char header[CELLAR_HEADER_BYTES], struct cellar_sum_file **ret_file)
{
    char *path = cellar_sum_path(store_path, true);
    int error = 0;

    if (path == NULL)
        return -ENOMEM;
    if (unlink(path) != 0 && errno != ENOENT)
        error = -errno;
    if (error == 0)
        error = cellar_sum_create(path, mode, owner, header, ret_file);
    if (error != 0)
        unlink(path);
    free(path);
    return error;
}

int cellar_sum_settle_fresh(const char *store_path)
{
    char *path = cellar_sum_path(store_path, true);
    int error = path == NULL ? -ENOMEM : cellar_file_settle_name(path);

    free(path);
    return error;
}

int cellar_sum_publish(const char *store_path)
{
    char *fresh = cellar_sum_path(store_path, true), *path = cellar_sum_path(store_path, false);
    int error = -ENOMEM;

    if (fresh != NULL && path != NULL)
        error = rename(fresh, path) == 0 ? cellar_file_settle_name(path) : -errno;
    free(fresh);
    free(path);
    return error;
}

void cellar_sum_discard(const char *store_path)
{
    char *path = cellar_sum_path(store_path, true);

    if (path != NULL)
        unlink(path);
    free(path);
}

static int open_at(const char *store_path, bool fresh, bool writable, const struct cellar_sum_owner *owner,
                   struct cellar_sum_file **ret_file)
{
    char *path = cellar_sum_path(store_path, fresh);
    int error = path == NULL ? -ENOMEM : cellar_sum_open(path, writable, owner, ret_file);

    free(path);
    return error == -ENOENT || error == CELLAR_ECORRUPT ? CELLAR_NONE : error;
}

int cellar_sum_find(const char *store_path, bool writable, const struct cellar_sum_owner *owner,
                    struct cellar_sum_file **ret_file)
{
    struct cellar_sum_file *file;
    int error = CELLAR_NONE;

    for (int i = 0; i < FIND_ATTEMPTS_MAX; i++) {
        error = open_at(store_path, false, writable, owner, ret_file);
        if (error != CELLAR_NONE && error != CELLAR_ESUMS)
            return error;
        if (open_at(store_path, true, writable, owner, &file) != 0)
            continue;
        error = writable ? cellar_sum_publish(store_path) : 0;
        if (error == -ENOMEM) { /* of other errors it keeps the name that it has: where the folder can't be written */
            cellar_sum_close(file, false);
            return error;
        }
        *ret_file = file;
        return 0;
    }
    return error;
}
