/*
 * celldump.h - what the parts of celldump share: a store file that may be broken in any way, opened for reading, and
 * what was found in its header. Nothing here changes the file, and nothing maps it.
 *
 * The verdict, as an exit code of every command, is the worst of what was found:
 *     clean        0   disk sync and process sync say the same
 *     unflushed    0   process sync is ahead of disk sync, or names another root
 *     recoverable  3   one slot of a pair broken, both process-sync slots broken, both disk-sync slots broken beside a
 *                      record that says the state, disk sync ahead of process sync
 *     corrupt      4   all else that breaks the format
 */
#ifndef CELLAR_TOOLS_CELLDUMP_H
#define CELLAR_TOOLS_CELLDUMP_H

#include "format/format.h"
#include "tool.h"

#include <cellar/device.h>
#include <cellar/sums.h>
#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum cellar_dump_state {
    CELLAR_DUMP_CLEAN = 0,
    CELLAR_DUMP_UNFLUSHED,
    CELLAR_DUMP_RECOVERABLE,
    CELLAR_DUMP_CORRUPT,
};

enum {
    CELLAR_DUMP_PROBLEMS_MAX = 32,
    CELLAR_DUMP_TEXT_BYTES = 240,
    CELLAR_DUMP_BLOCK_BYTES = 4096,
};

/* Something that is not as it should be: "found ..., expected ...". */
struct cellar_dump_problem {
    uint64_t file_offset;
    char text[CELLAR_DUMP_TEXT_BYTES];
};

struct cellar_dump_slot {
    bool present; /* all 32 bytes are in the file */
    struct cellar_slot slot;
    enum cellar_key_verdict key; /* process-sync slots */
};

struct cellar_dump {
    const char *path;
    struct cellar_device *device;
    const struct cellar_key *key; /* NULL: none was given */

    uint64_t file_bytes;
    unsigned char header[CELLAR_HEADER_BYTES];
    size_t header_bytes; /* how many of them are in the file */

    /* Decoded from header; a field is there if header_bytes reaches behind it, zero otherwise. */
    struct cellar_config config;
    struct cellar_dump_slot slots[CELLAR_SLOT_COUNT];

    bool cells_known;     /* bytes per cell is there and within its bounds: the next two mean something */
    uint32_t start_index; /* the first usable cell */
    uint64_t cell_count;  /* whole cells in the file */

    int disk, process; /* the slot in force of each pair, an index of slots, or -1: the pair is broken */

    /* The record of a checked flush that readers of this file go by instead of the disk-sync pair, 0 or 1, and what it
     * says; -1: they go by the pair. */
    int record;
    struct cellar_state recorded;

    /* The published word is ahead of the process-sync pair, or wild_word: lies beyond the file, which is corrupt. */
    bool by_word, wild_word;
    struct cellar_state word;

    enum cellar_dump_state state;
    struct cellar_dump_problem problems[CELLAR_DUMP_PROBLEMS_MAX];
    size_t problem_count;

    /* The block of the file that was read last. */
    unsigned char block[CELLAR_DUMP_BLOCK_BYTES];
    uint64_t block_offset;
    size_t block_bytes;
};

/* The command line. */
struct cellar_dump_options {
    uint32_t index;
    uint64_t count;
    bool raw, json;
};

/* ---- celldump_file.c ---- */

/* Opens path and reads and examines the header. 0, or a negative error (said why); close in any case. */
int cellar_dump_open(struct cellar_dump *dump, const char *path, const struct cellar_key *key);
void cellar_dump_close(struct cellar_dump *dump);

/* Copies bytes of the file as it was at open. 0, or a negative error (said why); CELLAR_EBOUNDS: it was cut since. */
int cellar_dump_read(struct cellar_dump *dump, uint64_t offset, void *buffer, size_t length_bytes);

/* ---- celldump_state.c ---- */

/* Decodes the header and fills in everything from config to problems. No I/O. */
void cellar_dump_examine(struct cellar_dump *dump);

/* Adds a problem; the state becomes at least as bad as state. */
void cellar_dump_add_problem(struct cellar_dump *dump, enum cellar_dump_state state, uint64_t file_offset,
                             const char *format, ...) CELLAR_TOOL_PRINTF(4, 5);

/* What is flushed, as a reader without key sees it: of a record, or of the disk-sync pair. NULL: neither says. */
const struct cellar_state *cellar_dump_flushed(const struct cellar_dump *dump);

/* What is committed, as a reader with the key sees it: of the published word, or of the process-sync pair. NULL:
 * neither says. */
const struct cellar_state *cellar_dump_committed(const struct cellar_dump *dump);

/* The state in force of a pair (dump->disk or dump->process): NULL if the pair is broken. */
const struct cellar_state *cellar_dump_state_of(const struct cellar_dump *dump, int slot);

/* True if the header holds the bytes from offset on. */
bool cellar_dump_has(const struct cellar_dump *dump, size_t offset, size_t length_bytes);

/* The bound of the cells in use: the larger next index of the pairs that are whole and within the file, else (both are
 * unusable) the number of cells in the file. */
uint32_t cellar_dump_bound(const struct cellar_dump *dump);

/* True if truncate put another file in this one's place. */
bool cellar_dump_is_retired(const struct cellar_dump *dump);

const char *cellar_dump_state_name(enum cellar_dump_state state);
int cellar_dump_exit_code(const struct cellar_dump *dump);

/* Every problem, on standard error. */
void cellar_dump_print_problems(const struct cellar_dump *dump);

/* ---- celldump_text.c ---- */

/* length_bytes as hexadecimal digits and a 0 into text, which holds 2 * length_bytes + 1. Returns text. */
char *cellar_dump_hex(const void *bytes, size_t length_bytes, char *text);

/* The same to a stream. */
void cellar_dump_print_hex(FILE *stream, const void *bytes, size_t length_bytes);

/* bytes in double quotes, what is no printable ASCII as \xHH. */
void cellar_dump_print_quoted(FILE *stream, const void *bytes, size_t length_bytes);

/* Lines of 16 bytes: offset, hexadecimal, text. offset is that of the first byte. */
void cellar_dump_print_lines(FILE *stream, uint64_t offset, const void *bytes, size_t length_bytes);

/* A root as text for people: its index, or "none". The text is static, valid until the second call after this one. */
const char *cellar_dump_root_text(uint32_t root_index);

/* An array of every problem's text, its offset in front. */
json_t *cellar_dump_problems_json(const struct cellar_dump *dump);

/* Writes a value to standard output and lets go of it. 0, or a negative error (said why). value NULL: no memory. */
int cellar_dump_print_json(json_t *value);

/* ---- celldump_chain.c ---- */

/* A value's chunks, walked from the last one back. */
struct cellar_dump_chain {
    uint32_t *last_indices; /* the last cell of each, in the order of the walk; NULL where they are not kept */
    size_t capacity;
    uint64_t chunk_count;
    uint64_t size_bytes;  /* of all chunks that were walked */
    uint32_t first_index; /* the lowest cell walked */
    bool broken;          /* the walk met something that is no chunk; it is the dump's last problem */
};

/* Reads and checks the chunk named last_index, a cell of the file. 0; CELLAR_NONE: it is no chunk, and *ret_problem
 * says why; or a negative error (said why). */
int cellar_dump_chunk(struct cellar_dump *dump, uint32_t last_index, struct cellar_chunk *ret_chunk,
                      struct cellar_dump_problem *ret_problem);

/* Walks the chain from last_index; keep: remember its chunks. 0, also for a broken chain, or a negative error (said
 * why). */
int cellar_dump_chain_walk(struct cellar_dump *dump, uint32_t last_index, bool keep,
                           struct cellar_dump_chain *ret_chain);
void cellar_dump_chain_free(struct cellar_dump_chain *chain);

/*
 * Whether the cell at index can be told to be the last of a value, from what both writers do: they write all chunks of
 * a value but the last 65535 bytes long, one right behind the other. A plain cell holds anything, and nothing else in
 * the format tells it from a chunk. 0 and *ret_is_value, or a negative error (said why).
 */
int cellar_dump_is_value(struct cellar_dump *dump, uint32_t index, bool *ret_is_value);

/* ---- celldump_sums.c ---- */

/* Compares all flushed cells with their checksums; what is wrong becomes problems. 0; CELLAR_NONE: the store has none,
 * or is too broken to say; or a negative error (said why). */
int cellar_dump_sums(struct cellar_dump *dump, struct cellar_sums_report *ret_report);

/* ---- the commands: each returns the exit code ---- */

int cellar_dump_info(struct cellar_dump *dump, const struct cellar_dump_options *options);
int cellar_dump_header(struct cellar_dump *dump, const struct cellar_dump_options *options);
int cellar_dump_cell(struct cellar_dump *dump, const struct cellar_dump_options *options);
int cellar_dump_value(struct cellar_dump *dump, const struct cellar_dump_options *options);
int cellar_dump_check(struct cellar_dump *dump, const struct cellar_dump_options *options);

#endif
