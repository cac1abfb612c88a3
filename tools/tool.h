/*
 * tool.h - what the tools share: exit codes, messages, numbers, keys, standard output.
 * A tool has one thread. Messages go to standard error, one line each, and begin with the tool's name.
 */
#ifndef CELLAR_TOOLS_TOOL_H
#define CELLAR_TOOLS_TOOL_H

#include <cellar/error.h>
#include <cellar/store.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#if defined(__GNUC__) || defined(__clang__)
#define CELLAR_TOOL_PRINTF(format_index, first_index) __attribute__((format(printf, format_index, first_index)))
#else
#define CELLAR_TOOL_PRINTF(format_index, first_index)
#endif

enum cellar_tool_exit {
    CELLAR_EXIT_DONE = 0,
    CELLAR_EXIT_USAGE = 1,       /* the command line is wrong */
    CELLAR_EXIT_SYSTEM = 2,      /* something can't be opened, read or written, or is not there */
    CELLAR_EXIT_RECOVERABLE = 3, /* celldump: the next writer repairs it */
    CELLAR_EXIT_CORRUPT = 4,     /* the file breaks the format */
    CELLAR_EXIT_BUSY = 5,        /* the store has a writer */
};

/*
 * The first call of every main: name and help are kept (constants). Descriptors 0..2 that are closed are taken by
 * /dev/null, opened so that writing to them fails: no file opened later can stand where messages go.
 */
void cellar_tool_begin(const char *name, const char *help);

/* --help and --version: on standard output. Return the exit code. */
int cellar_tool_print_help(void);
int cellar_tool_print_version(void);

/* No arguments at all: the help on standard error. Returns CELLAR_EXIT_USAGE. */
int cellar_tool_refuse(void);

/* "NAME: text", and where to find help. format NULL: something else (getopt) has said what is wrong. Returns
 * CELLAR_EXIT_USAGE. */
int cellar_tool_usage(const char *format, ...) CELLAR_TOOL_PRINTF(1, 2);

/* "NAME: FILE: offset N: text"; file may be NULL, offset CELLAR_OFFSET_NONE. */
void cellar_tool_error(const char *file, uint64_t offset, const char *format, ...) CELLAR_TOOL_PRINTF(3, 4);

/* Says what a call of the store on file gave: the diagnostic's text where there is one, else that of the error.
 * Returns the exit code that goes with the error. */
int cellar_tool_store_error(const char *file, int error, const struct cellar_diagnostic *diagnostic);

/* For --verbose: "NAME: FILE: ..." and which way bytes go between this process and the store. */
void cellar_tool_tell_path(const struct cellar_info *info);

/*
 * A decimal number from min to max: digits alone, no sign, no space. The second one takes a K, M or G (times 1024,
 * 1024^2, 1024^3) after the digits. 0, or -EINVAL; the caller says what was expected.
 */
int cellar_tool_number_parse(const char *text, uint64_t min, uint64_t max, uint64_t *ret_number);
int cellar_tool_bytes_parse(const char *text, uint64_t min, uint64_t max, uint64_t *ret_bytes);

/* Exactly 64 hexadecimal digits. 0, or -EINVAL. */
int cellar_tool_key_parse(const char *text, struct cellar_key *ret_key);

/* A file of 64 hexadecimal digits and a newline (which may be missing). 0, or a negative error; the message has been
 * printed, but for -ENOENT. */
int cellar_tool_key_read(const char *path, struct cellar_key *ret_key);

/* Writes a key to a file that must not be there, mode 0600; it appears whole or not at all. 0, or a negative error; the
 * message has been printed, but for -EEXIST. */
int cellar_tool_key_write(const char *path, const struct cellar_key *key);

/* Flushes standard output. 0, or CELLAR_EXIT_SYSTEM: it could not be written; said once, and not at all of a reader
 * that has gone away (EPIPE). */
int cellar_tool_output_flush(void);

/* The last call of every main: flushes standard output and gives the exit code, exit_code or what flushing made of
 * it. */
int cellar_tool_finish(int exit_code);

#endif
