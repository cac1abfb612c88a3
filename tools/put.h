/*
 * put.h - what cellput does: inputs into values, values into the store, and a line for each once it is committed.
 *
 * Every value is in memory as a whole before anything of it reaches the store; a line of output is printed after the
 * commit (or flush) that its value came with. Whatever stops the work, what was appended before is committed and
 * flushed first.
 */
#ifndef CELLAR_TOOLS_PUT_H
#define CELLAR_TOOLS_PUT_H

#include "progress.h"

#include <cellar/store.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A buffer that grows and is kept for the next use. */
struct cellar_put_buffer {
    char *bytes;
    size_t length, capacity;
};

struct cellar_put {
    /* The command line. */
    const char *store, *key_file;
    bool create, lines, pages, checksums, verbose;
    const char *config_option;                             /* one that goes with --create, or NULL */
    uint64_t commit_every, flush_every, resize_step_bytes; /* 0: not given */
    struct cellar_config config;
    char *const *files;
    int file_count;

    /* The work. */
    struct cellar_writer *writer;
    struct cellar_put_buffer input;
    struct cellar_put_buffer output; /* the lines of values that are not committed yet */
    uint64_t value_count, line_number;
    uint32_t last_index; /* the value to become the root with the next commit, */
    bool has_new;        /* if there is one */
    bool writer_failed;  /* a commit or flush failed: no other one is worth trying */
    struct cellar_progress progress;
};

/* Opens or makes the store, the key first. 0 or the exit code (said why; nothing is left to close). */
int cellar_put_open(struct cellar_put *put);

/* Puts all inputs in, commits, flushes. 0 or the exit code (said why). */
int cellar_put_inputs(struct cellar_put *put);

/* Ends the writer and frees what the work took. 0 or the exit code (said why). */
int cellar_put_close(struct cellar_put *put);

#endif
