/* header_pick.h - which state a file is opened with: the decision alone, as a pure function over what the header says.
 */
#ifndef CELLAR_CELL_HEADER_PICK_H
#define CELLAR_CELL_HEADER_PICK_H

#include "format/format.h"

/* A record of a checked flush. */
struct cellar_witness {
    struct cellar_state state;
    bool holds; /* its hash is that of its numbers and its cells, as they are read now */
};

/* What an opening decides by. */
struct cellar_evidence {
    struct cellar_slot slots[CELLAR_SLOT_COUNT];
    struct cellar_extension extension;
    struct cellar_witness records[CELLAR_RECORD_COUNT];
    uint64_t incarnation; /* the device's now; 0: it can't tell */
    uint32_t start_index;
    uint64_t file_cells; /* whole cells of the file */
    bool reads_only;     /* by a reader, who can't make durable what it finds */
};

struct cellar_pick {
    enum cellar_found found;
    struct cellar_state disk;    /* of the pair in force */
    struct cellar_state process; /* of the pair in force, or the word; zero where there is neither */
    struct cellar_state adopted; /* what a writer goes on with */
    unsigned repair;             /* CELLAR_SLOT_ bits: broken, or older than the slot in force of its pair */
    int disk_in_force;           /* 0: #1, 1: #2; -1: the pair is broken, and the state that of a record */
    int process_in_force;        /* 0: #1, 1: #2; -1: the pair is broken */
    bool word;                   /* process is the published word */
    int record;                  /* disk is the state of this record; -1: of a slot */
    bool fresh;                  /* what is read of the device is on its medium */
    bool suspect;                /* a sync of the last writer failed */
    bool whole;                  /* nothing that was written before has been lost since: what is committed is there */
    /* Cells from here up to adopted.next_index are to be written once more, as they are, and made durable before
     * anything else; equal: none. */
    uint32_t rewrite_index;
    uint32_t confirmed_index; /* cells below this are known to be durable */
};

/* Where a pick failed. */
struct cellar_pick_problem {
    uint64_t file_offset;
    uint32_t found;
    bool broken;          /* found is no number: both slots of the pair are broken */
    const char *expected; /* constant text */
};

/* Whether records have a say: checked flushes were made, and what is read isn't what a writer on this boot has stored
 * and not yet made durable; or no slot of a pair says anything. */
bool cellar_records_count(const struct cellar_evidence *evidence);

/* The disk-sync state alone: what a reader without a key sees. 0 or CELLAR_ECORRUPT. */
int cellar_pick_disk(const struct cellar_evidence *evidence, struct cellar_pick *ret_pick,
                     struct cellar_pick_problem *ret_problem);

/* What a writer opens with. 0 or CELLAR_ECORRUPT. */
int cellar_pick_writer(const struct cellar_evidence *evidence, struct cellar_pick *ret_pick,
                       struct cellar_pick_problem *ret_problem);

#endif
