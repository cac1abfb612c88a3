/*
 * format.h - what the bytes of a store mean: pure functions, no I/O, no allocation.
 * docs/format.md says the same in words. All integers are little endian.
 */
#ifndef CELLAR_FORMAT_FORMAT_H
#define CELLAR_FORMAT_FORMAT_H

#include "base/bytes.h"

#include <cellar/error.h>
#include <cellar/store.h>
#include <stdbool.h>
#include <stdint.h>

/* ---- the header: bytes 0..255, not aligned to cells ---- */

enum {
    CELLAR_AT_HEAD = 0,
    CELLAR_AT_BYTES_PER_CELL = 20,
    CELLAR_AT_MAX_INDEX = 24,
    CELLAR_AT_VERSION = 28,
    CELLAR_AT_SLOTS = 32,
    CELLAR_SLOT_BYTES = 32,
    CELLAR_HASH_BYTES = 12,
    /* Inside a slot. */
    CELLAR_SLOT_AT_HASH = 0,
    CELLAR_SLOT_AT_KEYED_HASH = 12,
    CELLAR_SLOT_AT_ROOT = 24,
    CELLAR_SLOT_AT_NEXT = 28,
    /* The extension bytes, which the original leaves zero. */
    CELLAR_AT_EXTENSION = 160,
    CELLAR_AT_WORD = 160,         /* u32 root, u32 next: the published word */
    CELLAR_AT_BOOT_MARK = 168,    /* 8 bytes */
    CELLAR_AT_EPOCH = 176,        /* u32 writer epoch, u32 generation */
    CELLAR_AT_BINDING = 184,      /* 8 bytes: the beginning of a keyed hash */
    CELLAR_AT_FLAGS = 192,        /* u32, CELLAR_FLAG_ bits */
    CELLAR_AT_WAIT = 196,         /* u32 */
    CELLAR_AT_CONFIG_CHECK = 200, /* 4 bytes */
    CELLAR_AT_CHECKSUM_ID = 204,  /* 4 bytes */
    CELLAR_AT_RECORDS = 208,      /* two of CELLAR_RECORD_BYTES: checked flushes */
    CELLAR_AT_CONFIRMED = 248,    /* u32 last confirmed durable next, u32 reserved */
};

enum {
    CELLAR_FLAG_CHECKSUMS = 1u << 0, /* a checksum file is kept */
    CELLAR_FLAG_CHECKED = 1u << 1,   /* the disk-sync state may stand in a record alone */
    CELLAR_FLAG_SUSPECT = 1u << 2,   /* a sync failed: what was not durable then may never become so */
    CELLAR_FLAG_RETIRED = 1u << 3,   /* truncate put another file in this one's place */
    CELLAR_FLAG_WORD = 1u << 4,      /* the published word is ahead of the process-sync slots, or the same */
    CELLAR_FLAG_SYNCING = 1u << 16,  /* a sync was begun, and nobody knows yet how it ended */
    CELLAR_FLAGS_KNOWN =
        CELLAR_FLAG_CHECKSUMS | CELLAR_FLAG_CHECKED | CELLAR_FLAG_SUSPECT | CELLAR_FLAG_RETIRED | CELLAR_FLAG_WORD,
    CELLAR_FLAGS_TO_KNOW = 0xffff, /* a writer that does not know one of these bits must leave the file alone */
};

/* The four slots, in the order of the file. */
enum cellar_slot_name { CELLAR_DISK_1 = 0, CELLAR_DISK_2, CELLAR_PROCESS_1, CELLAR_PROCESS_2, CELLAR_SLOT_COUNT };

/* What a slot says: one state of the store. */
struct cellar_state {
    uint32_t next_index;
    uint32_t root_index; /* CELLAR_ROOT_NONE: none */
};

/* What the keyed hash of a process-sync slot says about a key. */
enum cellar_key_verdict { CELLAR_KEY_UNKNOWN = 0, CELLAR_KEY_GOOD, CELLAR_KEY_BAD };

struct cellar_slot {
    bool valid;                /* its hash is that of its state */
    struct cellar_state state; /* as it stands there, also where not valid */
    uint64_t keyed;            /* the first 8 bytes of its second hash, what a binding repeats */
};

/*
 * The record of a checked flush: a state, and a hash by which it can be told whether it reached the disk with the cells
 * that the disk-sync state before did not have. Two of them lie at CELLAR_AT_RECORDS.
 */
enum {
    CELLAR_RECORD_BYTES = 20,
    CELLAR_RECORD_AT_FROM = 0,
    CELLAR_RECORD_AT_ROOT = 4,
    CELLAR_RECORD_AT_NEXT = 8,
    CELLAR_RECORD_AT_HASH =
        12, /* XXH3, 64 bits, of the cells from..next - 1, seeded with that of the 12 bytes before */
    CELLAR_RECORD_COUNT = 2,
    CELLAR_RECORD_CELLS_BYTES_MAX = 256 << 10, /* of cells; more is no record */
};

struct cellar_record {
    uint32_t from_index; /* cells below this were durable before */
    struct cellar_state state;
    uint64_t hash;
};

/* What recovery looks at in the extension bytes; docs/format.md has the rules. */
struct cellar_extension {
    struct cellar_state word; /* the published one */
    uint64_t boot_mark, binding;
    uint32_t epoch;
    uint32_t flags;
    uint32_t config_check;   /* 0: there is none */
    uint32_t confirmed_next; /* cells below this are durable, as far as the mark and the binding hold */
};

/* "disk-sync #1" ... "process-sync #2". */
const char *cellar_slot_label(enum cellar_slot_name name);

static inline uint64_t cellar_slot_offset(enum cellar_slot_name name)
{
    return CELLAR_AT_SLOTS + (uint64_t)name * CELLAR_SLOT_BYTES;
}

/* The first usable cell: ceil(256 / bytes_per_cell). */
static inline uint32_t cellar_start_index(uint32_t bytes_per_cell)
{
    return (CELLAR_HEADER_BYTES + bytes_per_cell - 1) / bytes_per_cell;
}

/* bytes must hold 32. Decoding never fails; check says whether the result is inside the format's bounds. */
void cellar_config_decode(const void *bytes, struct cellar_config *ret_config);
void cellar_config_encode(const struct cellar_config *config, void *ret_bytes);

/* 0, or -EINVAL; *ret_at is then the byte offset of the field, *ret_expected a constant text of what it must be. Either
 * may be NULL. */
int cellar_config_check(const struct cellar_config *config, uint64_t *ret_at, const char **ret_expected);
bool cellar_config_equal(const struct cellar_config *a, const struct cellar_config *b);

/* The check of bytes 0..27 of a header (the version may be changed by the original); never 0. */
uint32_t cellar_config_hash(const void *header);

static inline uint64_t cellar_record_offset(int place)
{
    return CELLAR_AT_RECORDS + (uint64_t)place * CELLAR_RECORD_BYTES;
}

/* A record of 20 bytes. */
void cellar_record_encode(const struct cellar_record *record, void *ret_bytes);
struct cellar_record cellar_record_decode(const void *bytes);

/* Of a whole header. */
struct cellar_extension cellar_extension_decode(const void *header);

/* One slot of 32 bytes. key NULL: a disk-sync slot (the second hash repeats the first). */
void cellar_slot_encode(const struct cellar_state *state, const struct cellar_key *key, void *ret_bytes);
struct cellar_slot cellar_slot_decode(const void *bytes);
/* The state alone, of a slot that is known to be valid: no hash. */
struct cellar_state cellar_slot_state(const void *bytes);

/* The verdict of a process-sync slot on a key; unknown where the slot is not valid or key is NULL. */
enum cellar_key_verdict cellar_slot_key(const void *bytes, const struct cellar_key *key);
/* The same for a slot that is known to be valid, and a key. */
bool cellar_slot_has_key(const void *bytes, const struct cellar_key *key);

/* Which of a pair is in force: 0 (#1), 1 (#2), or -1: the pair is broken. #1 wins where it is valid. */
int cellar_slot_pick(const struct cellar_slot *first, const struct cellar_slot *second);

/* ---- chunks ---- */

enum { CELLAR_FOOTER_BYTES = 6 };

/* The cells of a chunk that holds size_bytes (0..65535): ceil((size + 6) / bytes_per_cell). */
static inline uint32_t cellar_chunk_cells(uint32_t bytes_per_cell, uint32_t size_bytes)
{
    return (size_bytes + CELLAR_FOOTER_BYTES + bytes_per_cell - 1) / bytes_per_cell;
}

/* The cells of all chunks of a value of size_bytes; may exceed 32 bits. */
uint64_t cellar_value_cells(uint32_t bytes_per_cell, uint64_t size_bytes);

struct cellar_footer {
    uint32_t size_bytes; /* 0..65535 */
    uint32_t cdr;        /* last cell of the chunk before this one; 0: this is the first */
};

/* One chunk, after its footer was checked. */
struct cellar_chunk {
    uint32_t first_index, last_index;
    uint32_t size_bytes;
    uint32_t cdr;
};

void cellar_footer_encode(const struct cellar_footer *footer, void *ret_bytes);
static inline struct cellar_footer cellar_footer_decode(const void *bytes)
{
    const unsigned char *b = bytes;

    return (struct cellar_footer){.size_bytes = cellar_load_le16(b), .cdr = cellar_load_le32(b + 2)};
}

/* Where the footer of the chunk named last_index lies. CELLAR_EBOUNDS: last_index is outside start..next-1, or the
 * footer would begin before the first usable cell. */
static inline int cellar_footer_offset(uint32_t bytes_per_cell, uint32_t last_index, uint32_t next_index,
                                       uint64_t *ret_offset)
{
    uint64_t start_bytes = (uint64_t)cellar_start_index(bytes_per_cell) * bytes_per_cell;
    uint64_t end = ((uint64_t)last_index + 1) * bytes_per_cell;

    if (last_index >= next_index || end < start_bytes + CELLAR_FOOTER_BYTES)
        return CELLAR_EBOUNDS;
    *ret_offset = end - CELLAR_FOOTER_BYTES;
    return 0;
}

/*
 * Checks a footer read at last_index: the chunk's cells lie within start..last, and cdr names an earlier usable cell.
 * That makes every chain end. 0, or CELLAR_ECORRUPT with a constant text of what was expected in *ret_expected (may be
 * NULL).
 */
static inline int cellar_chunk_check(uint32_t bytes_per_cell, uint32_t last_index, const struct cellar_footer *footer,
                                     struct cellar_chunk *ret_chunk, const char **ret_expected)
{
    uint32_t start = cellar_start_index(bytes_per_cell);
    uint32_t cells = cellar_chunk_cells(bytes_per_cell, footer->size_bytes);
    const char *expected = NULL;
    uint32_t first = last_index - cells + 1;

    if (last_index < start || cells > last_index - start + 1)
        expected = "a chunk that begins at or after the first usable cell";
    else if (footer->cdr != 0 && (footer->cdr < start || footer->cdr >= first))
        expected = "a cdr that names a usable cell before the chunk, or 0";
    if (expected != NULL) {
        if (ret_expected != NULL)
            *ret_expected = expected;
        return CELLAR_ECORRUPT;
    }
    *ret_chunk = (struct cellar_chunk){
        .first_index = first, .last_index = last_index, .size_bytes = footer->size_bytes, .cdr = footer->cdr};
    return 0;
}

#endif
