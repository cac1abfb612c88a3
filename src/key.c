#include "format/format.h"

#include <cellar/store.h>
#include <errno.h>
#include <sys/random.h>

int cellar_key_make(struct cellar_key *ret_key)
{
    struct cellar_key key;
    size_t done = 0;

    while (done < sizeof key.bytes) {
        ssize_t got = getrandom(key.bytes + done, sizeof key.bytes - done, 0);

        if (got < 0 && errno != EINTR)
            return -errno;
        if (got > 0)
            done += (size_t)got;
    }
    *ret_key = key;
    return 0;
}

/* Whether the store was last published under the key. */
static bool is_key_of(const struct cellar_key *key, const char *store_path)
{
    struct cellar_reader_options options = {.device = CELLAR_DEVICE_PAGES};
    struct cellar_reader *reader;
    bool same;

    if (cellar_reader_open(store_path, &options, &reader) != 0)
        return false;
    same = cellar_reader_check_key(reader, key) == 0;
    cellar_reader_close(reader);
    return same;
}

static bool is_key_of_any(const struct cellar_key *key, const char *const *store_paths, size_t store_count)
{
    for (size_t i = 0; i < store_count; i++) {
        if (is_key_of(key, store_paths[i]))
            return true;
    }
    return false;
}

int cellar_key_make_new(const char *const *store_paths, size_t store_count, struct cellar_key *ret_key)
{
    struct cellar_key key;
    int error;

    do
        error = cellar_key_make(&key);
    while (error == 0 && is_key_of_any(&key, store_paths, store_count));
    if (error == 0)
        *ret_key = key;
    return error;
}
