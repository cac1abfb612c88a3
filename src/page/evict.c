/* evict.c - the policies by their numbers. docs/eviction.md has the measurements behind the default. */
#include "page/evict.h"

const struct cellar_evict_ops *cellar_evict_find(enum cellar_eviction eviction)
{
    switch (eviction) {
    case CELLAR_EVICT_SIEVE:
        return &cellar_evict_sieve;
    case CELLAR_EVICT_DEFAULT:
    case CELLAR_EVICT_S3FIFO:
        return &cellar_evict_s3fifo;
    case CELLAR_EVICT_CLOCK:
        return &cellar_evict_clock;
    }
    return NULL;
}
