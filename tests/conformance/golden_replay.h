/* golden_replay.h - one log on one device: what its handles stand at, and the operations by kind of handle. */
#ifndef CONFORMANCE_GOLDEN_REPLAY_H
#define CONFORMANCE_GOLDEN_REPLAY_H

#include "golden.h"

enum { HANDLES_MAX = 16 };

enum handle_kind { HANDLE_UNUSED = 0, HANDLE_WRITER, HANDLE_READER };

/* A name of the log ("w", "r") and what it is now: a writer, a reader, or closed. */
struct handle {
    const char *name;
    enum handle_kind kind; /* also of a closed one */
    struct cellar_writer *writer;
    struct cellar_reader *reader;
    struct state stands_at; /* as of the last operation that could move it */
    /* A reader's. */
    struct cellar_key key;
    bool follows_process; /* process sync is enabled */
    bool original_forgot; /* the original's reader lost its key and follows disk sync */
    /* Why the original's reader stands elsewhere until it is refreshed; DIFFERENCE_NONE: it does not. */
    enum difference_id original_elsewhere;
    unsigned long truncates; /* of the store, when it was opened */
};

struct replay {
    struct run *run;
    struct handle handles[HANDLES_MAX];
    struct header_model model;
    struct written written;
    unsigned long truncates;
    bool stopped;         /* a difference shifted the indices, or the replay failed: the rest is skipped */
    bool mapped_past_max; /* the original's first mapping went past max index */
};

/* The operations on a writer's handle. Where a result differs from the log's and no difference applies it is reported;
 * where the replay can't go on it stops. */
typedef void replay_operation(struct replay *replay, struct handle *handle, const json_t *operation);
replay_operation replay_create, replay_open_write, replay_crash, replay_close;
replay_operation replay_reserve, replay_write_cell, replay_write_value, replay_set_root, replay_set_length;
replay_operation replay_commit, replay_flush, replay_truncate, replay_override_version, replay_writer_state;

/* On a reader's. */
replay_operation replay_open_read, replay_refresh, replay_enable, replay_reader_state, replay_close_reader;

/* On both. */
replay_operation replay_read_cell, replay_read_value, replay_read_footer, replay_read_bytes;

/* The result of an operation. false: it has none, which was said. */
bool replay_outcome(struct replay *replay, const json_t *operation, struct outcome *ret_outcome);

/* The code that the log expects against what came; false where they differ or both are an error. */
bool replay_succeeded(struct replay *replay, const json_t *operation, int code);

/* The content of a result ("len", "b2") against bytes. */
void replay_check_content(struct replay *replay, const json_t *content, const void *bytes, size_t length);

/* Ends a handle as a power loss after everything was written: what was appended but not committed is in the file too,
 * and nothing in the extension bytes speaks for the state. */
void replay_power_loss(struct replay *replay, struct handle *handle);

void replay_stop(struct replay *replay);

#endif
