/* kind_cellar.h - a cache over the data file, with a handle for each thread. */
#ifndef BENCH_PAGES_KIND_CELLAR_H
#define BENCH_PAGES_KIND_CELLAR_H

#include "cases.h"

struct cached {
    struct cellar_device *device;
    unsigned depth; /* loads in the background at a time */
    unsigned handle_count;
    struct cellar_cache_counters before; /* of handle 0, when counting began */
    struct cellar_cache *handles[];
};

int cached_open(const struct pages_run *run, const struct pages_setup *setup, unsigned thread_count, void **ret_reader);
void cached_close(void *reader);
int cached_empty(void *reader);

#endif
