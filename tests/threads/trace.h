/*
 * trace.h - the stores that a real writer makes, in their order: those into the header word by word, and for every
 * cell when it was stored. A trace is recorded on a device in memory, with a window or without.
 *
 * The programs that use it are linked with -Wl,--wrap=cellar_header_store_window.
 *
 * A script says what the writer does, one letter each:
 *     a  appends a cell and makes it the root       b  the root goes back to the first cell
 *     n  no root                                    c  commits
 *     f  flushes                                    x  closes; nothing comes after it
 * A script that begins with w has the writer publish by the word: with a window, and a key that is not the last one's.
 */
#ifndef CELLAR_TESTS_TRACE_H
#define CELLAR_TESTS_TRACE_H

#include "format/format.h"

#include <cellar/store.h>

enum {
    TRACE_BYTES_PER_CELL = 32,
    TRACE_START = 8,
    TRACE_CELLS = 40,
    TRACE_BYTES = TRACE_CELLS * TRACE_BYTES_PER_CELL,
    TRACE_WORDS = CELLAR_HEADER_BYTES / 8,
    TRACE_STORES_MAX = 600,
    TRACE_STATES_MAX = 24,
};

/* One store: a word of the header, or a cell (word < 0). */
struct trace_store {
    int word;
    uint64_t value;
};

/* A state that was published in a pair. */
struct trace_state {
    struct cellar_state state;
    int begin,
        end; /* its first and last store into the pair, or that of the word; end TRACE_STORES_MAX: it was cut off */
};

struct trace {
    unsigned char before[CELLAR_HEADER_BYTES]; /* the header before the first store */
    struct trace_store stores[TRACE_STORES_MAX];
    int store_count;
    int cell_stored[TRACE_CELLS];                   /* its last store; -1: none */
    struct trace_state states[2][TRACE_STATES_MAX]; /* of the disk-sync and the process-sync pair */
    int state_count[2];                             /* the first one was there before */
};

/* 0: disk sync. */
static inline int trace_pair(int word)
{
    return word >= (int)cellar_slot_offset(CELLAR_PROCESS_1) / 8;
}

/* Of the process-sync state. */
static inline bool trace_is_published_word(int word)
{
    return word == CELLAR_AT_WORD / 8;
}

static inline bool trace_is_slot(int word)
{
    return word >= CELLAR_AT_SLOTS / 8 && word < CELLAR_AT_EXTENSION / 8;
}

struct trace_disk;

/* An empty store, and nothing recorded; asserts. window: its device has one, which writers use. */
struct trace_disk *trace_open(bool window);

/* The same store as it stands, with nothing recorded. */
struct trace_disk *trace_copy(const struct trace_disk *disk);
void trace_close(struct trace_disk *disk);

/* A writer opens the store with the key, does what the script says, and is gone as by a kill. */
void trace_write(struct trace_disk *disk, const struct cellar_key *key, const char *script);

/* What the last opening found. */
void trace_recovery(const struct trace_disk *disk, struct cellar_recovery *ret_recovery);

/* As if a kill had come after so many of the stores: the later ones never were. */
void trace_cut(struct trace_disk *disk, int store_count);

const struct trace *trace_of(const struct trace_disk *disk);

#endif
