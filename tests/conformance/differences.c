#include "differences.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define GOLDEN(...) ((const char *const[]){__VA_ARGS__})

const struct difference differences[DIFFERENCE_COUNT] = {
    [DIFFERENCE_EARLY_OVERFLOW] =
        {
            .id = "early-overflow",
            .original = "maps whole steps only, and one too many when the growth is an exact multiple of the step: the "
                        "index overflows before max index",
            .cellar = "the last step is clamped to max index, every cell below it is given out; the log is compared up "
                      "to there",
            .golden = GOLDEN("limit-maxindex-300", NULL),
        },
    [DIFFERENCE_FIRST_MAPPING] =
        {
            .id = "first-mapping",
            .original = "a first mapping larger than max index makes a store that can never be opened again",
            .cellar = "never maps past max index: the store of the same log opens again",
            .golden = GOLDEN("limit-create-over", NULL),
        },
    [DIFFERENCE_ALL_OR_NOTHING] =
        {
            .id = "all-or-nothing",
            .original = "a value of several parts that overflows midway leaves its first parts behind",
            .cellar = "index full and the next index where it was; the log is compared up to there",
            .golden = GOLDEN("limit-chunk-overflow", NULL),
        },
    [DIFFERENCE_ROOT_BACK] =
        {
            .id = "root-back",
            .original = "after a commit with a smaller root or none, and a crash, the store can't be opened for write",
            .cellar = "opens: next is the larger next, root is that of disk sync",
            .golden = GOLDEN("crash-root-back", "crash-root-none", NULL),
        },
    [DIFFERENCE_PROCESS_BROKEN] =
        {
            .id = "process-broken",
            .original = "both process-sync slots broken: does not open for write, and calls every key invalid",
            .cellar = "opens for write on the disk-sync state and reports it; asked about a key it says CORRUPT",
            .golden = GOLDEN("slot-p1p2", NULL),
        },
    [DIFFERENCE_DISK_NEWER] =
        {
            .id = "disk-newer",
            .original = "disk sync has a larger next than process sync: does not open for write",
            .cellar = "opens for write on the disk-sync state and reports it",
            .golden = GOLDEN("disk-newer", NULL),
        },
    [DIFFERENCE_BEYOND_FILE] =
        {
            .id = "beyond-file",
            .original = "opens a file that is shorter than its next index says",
            .cellar = "CORRUPT, and the file is left as it is",
            .golden = GOLDEN("size-cut", "size-cut-256", NULL),
        },
    [DIFFERENCE_CONFIG_BOUNDS] =
        {
            .id = "config-bounds",
            .original = "a config out of bounds in the file is an invalid argument",
            .cellar = "CORRUPT; a max index within the header's cells is out of bounds too",
            .golden = GOLDEN("config-bpc-3", "config-bpc-65536", "config-maxindex-0", NULL),
        },
    [DIFFERENCE_SHORT_FILE] =
        {
            .id = "short-file",
            .original =
                "a file shorter than the header is grown to 32 bytes, or opened for read, or an invalid argument",
            .cellar = "CORRUPT, and the file is left as it is",
            .golden = GOLDEN("size-0", "size-10", "size-96", NULL),
        },
    [DIFFERENCE_WRONG_KEY] =
        {
            .id = "wrong-key",
            .original = "a reader that is given a wrong key forgets the good one and falls back to disk sync",
            .cellar = "the reader stays as it was and follows process sync",
            .golden = GOLDEN("reader-sync", NULL),
        },
    [DIFFERENCE_HANDLE_KINDS] =
        {
            .id = "handle-kinds",
            .original = "a reader can be asked to allocate, write or commit, and a writer to enable process sync; most "
                        "of it is an error when it runs",
            .cellar = "the types rule it out: no call takes the other handle, and the handle stays as it was",
            .golden = GOLDEN("reader-sync", NULL),
        },
    [DIFFERENCE_TRUNCATE] =
        {
            .id = "truncate",
            .original = "truncate cuts the file under its readers, who then see the empty store",
            .cellar = "the next refresh of a reader says RETIRED; opened again it sees the empty store",
            .golden = GOLDEN(NULL),
        },
    [DIFFERENCE_VERSION_KEPT] =
        {
            .id = "version-kept",
            .original = "truncate writes the version back that the store was opened with, also after it was overridden",
            .cellar = "the overridden version stays: truncate keeps the config that the file has",
            .golden = GOLDEN(NULL),
        },
    [DIFFERENCE_ROOT_BOUNDS] =
        {
            .id = "root-bounds",
            .original = "any number can be made the root, also of a cell that was never given out",
            .cellar = "a root that is no appended cell is out of bounds and refused; the log is compared up to there",
            .golden = GOLDEN(NULL),
        },
    [DIFFERENCE_STALE_BYTES] =
        {
            .id = "stale-bytes",
            .original = "cells given out and never written, and the bytes between data and footer, hold what a writer "
                        "that crashed had left there",
            .cellar = "the same, or zeros: space behind next is given back at close, and policy anyway",
            .golden = GOLDEN(NULL),
        },
    [DIFFERENCE_LENGTH_SET_BACK] =
        {
            .id = "length-set-back",
            .original = "sets the length back, so that cells are used again",
            .cellar = "there is no such call; the log is compared up to there",
            .left_out = true,
            .golden = GOLDEN("reuse-cells", NULL),
        },
    [DIFFERENCE_BEYOND_SNAPSHOT] =
        {
            .id = "beyond-snapshot",
            .original = "reads any cell of the mapped file, published or not",
            .cellar =
                "a snapshot ends at its next index: cells beyond it are out of bounds (the replay compares them in "
                "the file)",
            .left_out = true,
            .golden = GOLDEN("crash-commit-same-root", "crash-flush-commit-write", "crash-never-flushed",
                             "crash-reopened-crash", "crash-root-back", "crash-root-none", "disk-newer", "size-more",
                             "slot-d1", "slot-d2", "slot-key-p1", "slot-keyhash", "slot-p1", "slot-p1p2", "slot-p2",
                             "torn-disk", "torn-disk-half", "torn-process", "torn-process-half", NULL),
        },
    [DIFFERENCE_CHANGED_AFTER] =
        {
            .id = "changed-after-log",
            .original = "the file was changed after its log ended: a part of it is not what the log's results imply",
            .cellar = "that part of the replayed file is compared with what the log implies only",
            .left_out = true,
            .golden = GOLDEN("config-bpc-3", "config-bpc-65536", "config-maxindex-0", "config-maxindex-100",
                             "disk-newer", "size-0", "size-10", "size-96", "size-cut", "size-cut-256", "slot-d1",
                             "slot-d1d2", "slot-d2", "slot-key-p1", "slot-keyhash", "slot-p1", "slot-p1p2", "slot-p2",
                             "torn-disk", "torn-disk-half", "torn-process", "torn-process-half", NULL),
        },
};

static size_t golden_count(const struct difference *difference)
{
    size_t count = 0;
    while (difference->golden[count] != NULL)
        count++;
    return count;
}

/* Where a name stands in the list of a difference, or its length. */
static size_t golden_position(const struct difference *difference, const char *name)
{
    size_t position = 0;
    while (difference->golden[position] != NULL && strcmp(difference->golden[position], name) != 0)
        position++;
    return position;
}

bool differences_names(enum difference_id id, const char *name)
{
    return differences[id].golden[golden_position(&differences[id], name)] != NULL;
}

void differences_note(struct difference_ledger *ledger, enum difference_id id, const char *name)
{
    ledger->applications[id]++;
    if (ledger->last_name[id] == NULL || strcmp(ledger->last_name[id], name) != 0)
        ledger->files[id]++;
    if (ledger->seen[id] == NULL)
        ledger->seen[id] = calloc(golden_count(&differences[id]) + 1, sizeof(bool));
    char *copy = strdup(name);
    if (ledger->seen[id] == NULL || copy == NULL) {
        fprintf(stderr, "conformance: out of memory\n");
        exit(2);
    }
    free(ledger->last_name[id]);
    ledger->last_name[id] = copy;
    ledger->seen[id][golden_position(&differences[id], name)] = true;
}

void differences_end(struct difference_ledger *ledger)
{
    for (int id = 0; id < DIFFERENCE_COUNT; id++) {
        free(ledger->last_name[id]);
        free(ledger->seen[id]);
    }
    memset(ledger, 0, sizeof(*ledger));
}

static void print_entries(const struct difference_ledger *ledger, bool left_out)
{
    for (int id = 0; id < DIFFERENCE_COUNT; id++) {
        const struct difference *difference = &differences[id];
        if (difference->left_out != left_out || ledger->applications[id] == 0)
            continue;
        printf("  %-18s %4lu times in %lu files\n", difference->id, ledger->applications[id], ledger->files[id]);
        printf("      the original: %s\n      Cellar: %s\n", difference->original, difference->cellar);
    }
}

void differences_print(const struct difference_ledger *ledger)
{
    printf("listed differences:\n");
    print_entries(ledger, false);
    printf("left out:\n");
    print_entries(ledger, true);
}

unsigned long differences_verify(const struct difference_ledger *ledger)
{
    unsigned long missing = 0;
    for (int id = 0; id < DIFFERENCE_COUNT; id++) {
        for (size_t i = 0; differences[id].golden[i] != NULL; i++) {
            if (ledger->seen[id] != NULL && ledger->seen[id][i])
                continue;
            printf("%s: the table names it with %s, expected to be touched, got nothing\n", differences[id].golden[i],
                   differences[id].id);
            missing++;
        }
    }
    return missing;
}
