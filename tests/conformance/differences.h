/*
 * differences.h - the one table of where Cellar does something else than the original, on purpose.
 *
 * A difference applies by its condition, which the code derives from the bytes of the file or from the log, never by
 * the name of a file: so it holds for files that the table has never heard of. The golden files that the table names
 * with it are those of the shipped data which it touches; differences_verify compares the two.
 */
#ifndef CONFORMANCE_DIFFERENCES_H
#define CONFORMANCE_DIFFERENCES_H

#include <stdbool.h>
#include <stddef.h>

enum difference_id {
    DIFFERENCE_NONE = -1,
    DIFFERENCE_EARLY_OVERFLOW,
    DIFFERENCE_FIRST_MAPPING,
    DIFFERENCE_ALL_OR_NOTHING,
    DIFFERENCE_ROOT_BACK,
    DIFFERENCE_PROCESS_BROKEN,
    DIFFERENCE_DISK_NEWER,
    DIFFERENCE_BEYOND_FILE,
    DIFFERENCE_CONFIG_BOUNDS,
    DIFFERENCE_SHORT_FILE,
    DIFFERENCE_WRONG_KEY,
    DIFFERENCE_HANDLE_KINDS,
    DIFFERENCE_TRUNCATE,
    DIFFERENCE_VERSION_KEPT,
    DIFFERENCE_ROOT_BOUNDS,
    DIFFERENCE_STALE_BYTES,
    /* The rest says what is left out; counted as skipped. */
    DIFFERENCE_LENGTH_SET_BACK,
    DIFFERENCE_BEYOND_SNAPSHOT,
    DIFFERENCE_CHANGED_AFTER,
    DIFFERENCE_COUNT,
};

struct difference {
    const char *id;
    const char *original;      /* what the original does */
    const char *cellar;        /* what is expected instead */
    bool left_out;             /* nothing differs: the comparison can't be made, and is counted as skipped */
    const char *const *golden; /* the shipped golden files that it touches, then NULL */
};

extern const struct difference differences[DIFFERENCE_COUNT];

/* Which golden files have been touched, and how often. */
struct difference_ledger {
    unsigned long applications[DIFFERENCE_COUNT];
    unsigned long files[DIFFERENCE_COUNT];
    char *last_name[DIFFERENCE_COUNT]; /* the last file that it touched: files come one after the other */
    bool *seen[DIFFERENCE_COUNT];      /* for each file that the table names: touched */
};

/* All zero is a ledger to start with; end frees what it holds. Out of memory ends the program. */
void differences_note(struct difference_ledger *ledger, enum difference_id id, const char *name);
void differences_end(struct difference_ledger *ledger);

/* Whether the table names this golden file with this difference. */
bool differences_names(enum difference_id id, const char *name);

/* Prints those that were applied, by identifier, with counts. */
void differences_print(const struct difference_ledger *ledger);

/* Prints every golden file that the table names with a difference which never touched it; returns how many. */
unsigned long differences_verify(const struct difference_ledger *ledger);

#endif
