/*
 * golden.h - the parts of the golden replay: loading, the header that a log implies, what a file must give when it is
 * opened, the replay and the comparison with what the original did.
 */
#ifndef CONFORMANCE_GOLDEN_H
#define CONFORMANCE_GOLDEN_H

#include "conformance.h"
#include "differences.h"
#include <cellar/store.h>
#include <jansson.h>
#include <limits.h>

enum {
    HEADER_USED_BYTES = 160, /* the rest of the header is for extensions, which the original leaves zero */
    CONFIG_BYTES = 32,
    SLOT_BYTES = 32,
    SLOTS_BYTES = 4 * SLOT_BYTES,
    DIGEST_BYTES = 32, /* of the contents in the logs: BLAKE2b-256 */
};

/* A state of a store; root 0: none. */
struct state {
    uint32_t next_index, root_index;
};

/* Bytes that the holder frees. */
struct bytes {
    unsigned char *at;
    size_t length;
};

/* One golden file and what comes with it; the parts that are missing are NULL. */
struct golden {
    char name[256];
    json_t *log;    /* NAME.ops.json: the array of operations */
    json_t *expect; /* NAME.expect.json */
    struct bytes file;
    bool has_file; /* NAME.db */
};

/* A golden file on one device of Cellar, and where in it the program is. */
struct run {
    const struct golden *golden;
    enum cellar_device_choice device;
    const char *device_label;
    const char *path; /* the store that is worked on, in a folder of its own */
    struct conformance_totals *totals;
    struct difference_ledger *ledger;
    bool verify_table;
    bool unreadable; /* the data means nothing to this program; it was said */
    char where[128]; /* "op 3 (commit)", for messages */
};

/* ---- golden_load.c ---- */

/* 0, or -1 and a line on standard error. file must be freed by golden_unload in any case. */
int golden_load(const char *folder, const char *name, struct golden *ret_golden);
void golden_unload(struct golden *golden);

/* 0, or a negative errno. */
int file_read(const char *path, struct bytes *ret_bytes);
int file_write(const char *path, const struct bytes *bytes);

/* The key at name of an object, 64 hex digits: 0 or -1. */
int json_key(const json_t *object, const char *name, struct cellar_key *ret_key);
int json_hex(const json_t *text, void *ret_bytes, size_t length);

/* The content of a write_cell or chunk_write: "hex", or "len" bytes from "seed". */
int operation_content(const json_t *operation, struct bytes *ret_content);
int operation_config(const json_t *config, struct cellar_config *ret_config);
bool digest_equals(const void *bytes, size_t length, const char *hex);

/* ---- golden_report.c: every comparison that the program makes; each prints its mismatch ---- */

void mismatch(struct run *run, const char *format, ...) __attribute__((format(printf, 2, 3)));
void unreadable(struct run *run, const char *format, ...) __attribute__((format(printf, 2, 3)));
void at_operation(struct run *run, size_t index, const char *operation);
void at_expect(struct run *run, const char *what);
void apply_difference(struct run *run, enum difference_id id);

bool check_code(struct run *run, const char *what, int expected, int got);
bool check_number(struct run *run, const char *what, uint64_t expected, uint64_t got);
bool check_bytes(struct run *run, const char *what, const void *expected, const void *got, size_t length);
void check_path(struct run *run, const struct cellar_info *info);

/* The parts of the header one by one: config and the four slots. parts is a mask of those to compare. */
enum { PART_COUNT = 5, PARTS_ALL = (1 << PART_COUNT) - 1 };
void check_header(struct run *run, const void *expected, const void *got, unsigned parts);
const char *header_part(unsigned part, size_t *ret_at, size_t *ret_length);

/* The cells start..next-1 of two files of one geometry. Where a log is given what it wrote, the other bytes may be zero
 * as well; with NULL nothing may differ. */
struct written;
void check_cells(struct run *run, const struct bytes *expected, const struct bytes *got, uint32_t bytes_per_cell,
                 uint32_t next_index, const struct written *written);

int json_state(const json_t *object, struct state *ret_state);
void check_info(struct run *run, const json_t *state, const struct cellar_info *info);
void check_state(struct run *run, struct state expected, const struct cellar_info *info);

/* What the original's result was: an error of some kind, or a value. */
struct outcome {
    const char *error;   /* the kind, NULL: none */
    const json_t *value; /* what came, where there was no error */
};
int json_outcome(const json_t *result, struct outcome *ret_outcome);

/* Cellar's code for a result, by its kind; 0 where there was no error. 1: the kind is not known. */
int outcome_code(struct outcome outcome);

/* How many cells the original says it skipped after a crash; -1: it saw no crash. */
long logged_skipped_cells(const json_t *logs);

/* ---- golden_model.c: the header that a log implies, made without the library ---- */

struct header_model {
    unsigned char bytes[HEADER_USED_BYTES];
    struct cellar_config config; /* the writer's; its version is not the file's after override_version */
    struct cellar_key key;
    struct state state;
};

void model_create(struct header_model *model, const struct cellar_config *config);
void model_commit(struct header_model *model);
void model_flush(struct header_model *model);
void model_set_version(struct header_model *model, uint32_t version);
struct state model_process_state(const struct header_model *model);
struct state model_disk_state(const struct header_model *model);

/* The four slots as one writer leaves them that flushed a state. */
void slots_encode(struct state state, const struct cellar_key *key, void *ret_slots);
bool slot_is_valid(const void *slot);
struct state slot_state(const void *slot);
void config_read(const void *bytes, struct cellar_config *ret_config);
uint32_t start_index_of(uint32_t bytes_per_cell);
uint64_t value_cells(uint32_t bytes_per_cell, uint64_t length);

/* ---- golden_written.c: which bytes of a file the operations of a log wrote; all zero to start with ---- */

struct written {
    bool *map;
    size_t length;
};

void written_cell(struct written *written, uint32_t bytes_per_cell, uint32_t index, size_t length);
void written_value(struct written *written, uint32_t bytes_per_cell, uint32_t last_index, size_t length);
/* The cells from here on are not in use any more. */
void written_forget(struct written *written, uint32_t bytes_per_cell, uint32_t next_index);
bool written_has(const struct written *written, uint64_t at);
void written_end(struct written *written);

/* ---- golden_judge.c: what a file must give, where that is not what the original gave ---- */

struct verdict {
    enum difference_id id; /* DIFFERENCE_NONE: as the original, and nothing below says anything */
    int code;
    struct state state;
    enum cellar_found found;
    uint32_t skipped_cells;
};

struct verdict judge_reader(const struct bytes *file);
struct verdict judge_process_sync(const struct bytes *file);
struct verdict judge_writer(const struct bytes *file);

/* ---- the work itself ---- */

struct cellar_reader_options reader_options(const struct run *run);
struct cellar_writer_options writer_options(const struct run *run);
void replay_log(struct run *run);
void check_reading(struct run *run);
void check_writing(struct run *run);

/* Every content of the log that the snapshot must hold, against "verify" of the expectation. */
void check_contents(struct run *run, const struct cellar_snapshot *snapshot);

#endif
