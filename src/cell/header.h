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
    pthread_mutex_t sync_lock;   /* over sync_error; held by who grows */
    int sync_error;              /* of the first sync that failed, or 0 */
    pthread_mutex_t flags_lock;  /* over flags and syncs; taken last */
    /* A writer's. */
    uint64_t incarnation; /* the device's, as the mark says it; 0: it can't tell, no marks are kept */
    bool through_cache;   /* a failed sync may lose what was written: no file past the kernel's page cache */
    uint32_t flags;       /* as they stand in the file */
    unsigned syncs;       /* so many are under way: a flush, and growth beside it */
    /* Under the writer's flush lock. */
    bool disk_pending;        /* a disk-sync slot may not be durable */
    struct cellar_state disk; /* of the disk-sync slots, as they were stored last */
    bool slots_true;          /* they do, and that state is durable */
    bool checked;             /* flushes of few cells leave a record and have one barrier */
    bool has_records;         /* CHECKED is set */
    bool record_ready;        /* a record may be stored: none of the writer before is needed any more */
    int record_place;         /* of the next record: the last flush, if it left one, left it in the other */
    bool words;               /* WORD is set */
    uint32_t epoch;           /* as it stands in the file */
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

/* A writer begins: what the file's flags are, and its device's incarnation. */
void cellar_header_start_marks(struct cellar_header *header, uint64_t incarnation, uint32_t flags);

/* Every change of the header goes through this: offset and length_bytes are multiples of 4. */
int cellar_header_store(struct cellar_header *header, uint64_t offset, const void *bytes, size_t length_bytes);

/* Process sync: #1, the binding where marks are kept, #2. */
int cellar_header_publish(struct cellar_header *header, const struct cellar_state *state, const struct cellar_key *key);
/* The same without the binding. */
int cellar_header_publish_unbound(struct cellar_header *header, const struct cellar_state *state,
                                  const struct cellar_key *key);

/*
 * Disk sync: #1, durable when it returns, then #2, which the next barrier makes so. What is in the header and the cells
 * below next are durable already: cellar_header_barrier. Under the writer's flush lock.
 */
int cellar_header_persist(struct cellar_header *header, const struct cellar_state *state);

/* A writer begins, after its marks: whether it is to make checked flushes where it can. disk: what the disk-sync slots
 * say, or will when it makes the first. */
void cellar_header_start_records(struct cellar_header *header, bool wanted, const struct cellar_state *disk);

/* Whether a flush of the cells from_index..next_index - 1 can be a checked one. Under the writer's flush lock. */
bool cellar_header_takes_record(const struct cellar_header *header, uint32_t bytes_per_cell, uint32_t from_index,
                                uint32_t next_index);

/*
 * Disk sync with one barrier: a record of the cells from from_index to the state's next index (takes_record), durable
 * with them when it returns, then both slots, which the next barrier makes so. Cells below from_index are durable
 * already. Under the writer's flush lock. CELLAR_NONE: no memory to look at the cells, and nothing was done.
 */
int cellar_header_persist_checked(struct cellar_header *header, uint32_t bytes_per_cell, uint32_t from_index,
                                  const struct cellar_state *state);

/* Stores the slots of the last checked flush once more: a sync failed that was to make them durable, and their page may
 * be read again as it was before. Only their record is on the disk then. */
void cellar_header_restore_slots(struct cellar_header *header);

/* Zeroes one record, or both, and says that there are none. What they stand for is in slots that are durable, or is not
 * to come back. */
int cellar_header_drop_record(struct cellar_header *header, int place);
int cellar_header_drop_records(struct cellar_header *header);

/* Makes the slots durable that a checked flush left pending, and drops the records. Under the writer's flush lock. */
int cellar_header_end_records(struct cellar_header *header);

/* Makes the header and what follows it up to end_bytes durable. A failure leaves the mark SUSPECT, and all later ones
 * fail with it. Under the writer's flush lock. */
int cellar_header_barrier(struct cellar_header *header, uint64_t end_bytes);

/*
 * Around every sync of the file while a writer has it open: between the two the file says SYNCING. A process may die
 * when a sync has failed, its pages are clean, and nobody has stored SUSPECT; what the next writer finds must not look
 * as if it were dirty still, or durable. Any thread. begin fails: there is none to be ended. end: the sync went well;
 * after one that failed SYNCING stays.
 */
int cellar_header_begin_sync(struct cellar_header *header);
int cellar_header_end_sync(struct cellar_header *header);

/* Around growing, which syncs beside a barrier on another thread: begin_sync and end_sync, and more. Of two syncs of
 * one file at the same time the system may tell one alone of pages that both have lost; so a barrier holds only when
 * who grows has said what came of it. error: of a sync, which leaves the mark SUSPECT, or 0. */
int cellar_header_begin_growth(struct cellar_header *header);
int cellar_header_end_growth(struct cellar_header *header, int error);

/* A sync failed that somebody else made, between begin_sync and here: leaves the mark SUSPECT, and every later barrier
 * fails with it. Any thread. */
void cellar_header_fail(struct cellar_header *header, int error);

/* Says in the file that cells below confirmed_next are durable. Within the flush that made them so. */
int cellar_header_confirm(struct cellar_header *header, uint32_t confirmed_next);

/* Makes what was stored into the header durable: begin_sync, a barrier, end_sync. Under the writer's flush lock. */
int cellar_header_settle(struct cellar_header *header);

/* Stores the flags as they are: the header's page is dirty, and the next barrier makes all of it durable. After a
 * failed sync it may be clean though it is not on the disk. */
int cellar_header_touch(struct cellar_header *header);

/* Writes one slot as it is. */
int cellar_header_repair(struct cellar_header *header, enum cellar_slot_name name, const void *slot);

/* Fields of the extension bytes. Flags are changed by any thread. */
int cellar_header_change_flags(struct cellar_header *header, uint32_t set, uint32_t clear);
int cellar_header_store_word(struct cellar_header *header, uint64_t offset, uint64_t word);

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
