/*
 * header.h - the header page: slots are published and read here, and nowhere else. It goes to the device directly, or
 * by stores into the window; never through the cache.
 */
#ifndef CELLAR_CELL_HEADER_H
#define CELLAR_CELL_HEADER_H

#include "format/format.h"

#include <cellar/device.h>
#include <pthread.h>

struct cellar_header {
    struct cellar_device *device;
    unsigned char *window;       /* NULL: by read and write */
    bool compat;                 /* take the original's lock around slot writes */
    pthread_mutex_t compat_lock; /* that lock is one for all threads of a handle */
};

enum cellar_pair { CELLAR_PAIR_DISK = CELLAR_DISK_1, CELLAR_PAIR_PROCESS = CELLAR_PROCESS_1 };

/* What a reader saw last in a pair; all zero at first. */
struct cellar_seen {
    uint64_t words[CELLAR_SLOT_BYTES / 8];
    int slot; /* 0: #1, 1: #2 of the pair */
    bool any;
};

/* 0, or -ENOMEM. */
int cellar_header_open(struct cellar_header *header, struct cellar_device *device, void *window, bool compat);
void cellar_header_close(struct cellar_header *header);

/* Every change of the header goes through this: offset and length_bytes are multiples of 4. */
int cellar_header_store(struct cellar_header *header, uint64_t offset, const void *bytes, size_t length_bytes);

/* Writes #1, then #2 of a pair. key: the writer's for process sync, NULL for disk sync. */
int cellar_header_publish(struct cellar_header *header, enum cellar_pair pair, const struct cellar_state *state,
                          const struct cellar_key *key);

/* Publishes the disk-sync pair, and makes it durable. The cells below next are durable already. */
int cellar_header_persist(struct cellar_header *header, const struct cellar_state *state);

/* Writes one slot as it is. */
int cellar_header_repair(struct cellar_header *header, enum cellar_slot_name name, const void *slot);

/* Makes the header durable. */
int cellar_header_sync(struct cellar_header *header);

/* The flags of the extension bytes now. */
int cellar_header_flags(const struct cellar_header *header, uint32_t *ret_flags);

/*
 * The state that a pair says now. 0: it is not what was seen last; *seen, *ret_state and *ret_verdict (of the key on a
 * process-sync pair; unknown without key) are set. CELLAR_NONE: the same as last. CELLAR_ECORRUPT: both slots stay
 * broken.
 */
int cellar_header_look(const struct cellar_header *header, enum cellar_pair pair, const struct cellar_key *key,
                       struct cellar_seen *seen, struct cellar_state *ret_state, enum cellar_key_verdict *ret_verdict);

#endif
