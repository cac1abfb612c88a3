/* sum_look.h - a store and its sums file together: what the one's header says, and what the other is good for. */
#ifndef CELLAR_SUM_SUM_LOOK_H
#define CELLAR_SUM_SUM_LOOK_H

#include "format/format.h"
#include "sum/sum_file.h"

struct cellar_sum_look {
    enum cellar_sums_state state;
    struct cellar_diagnostic why; /* LOST and STALE */
    struct cellar_config config;
    struct cellar_state flushed;
    uint64_t flushed_bytes;
    struct cellar_sum_owner owner; /* identity 0: the header has none */
    struct cellar_sum_file *file;  /* GOOD and BEHIND: open and scanned, the caller's to close; else NULL */
    bool tail_rotten;              /* the last sum does not hold */
};

/*
 * Looks at the store on the device, whose path is store_path (NULL: it has none), and at what lies beside it. writable:
 * for the store's writer, who has its lock. CELLAR_ECORRUPT: the store's header is broken (fills *diagnostic, which may
 * be NULL). -ENOMEM, and errors of the device.
 */
int cellar_sum_look(const char *store_path, struct cellar_device *device, bool writable,
                    struct cellar_diagnostic *diagnostic, struct cellar_sum_look *ret_look);

#endif
