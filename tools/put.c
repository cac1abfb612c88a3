/* put.c - what cellput does: inputs into values, values into the store, and a line for each once it is committed. */
#include "put.h"

#include "tool.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- buffers ---- */

/* Room for more bytes behind length. 0 or -ENOMEM. */
static int buffer_reserve(struct cellar_put_buffer *buffer, size_t more)
{
    size_t capacity = buffer->capacity < 4096 ? 4096 : buffer->capacity;
    char *grown;

    if (more <= buffer->capacity - buffer->length)
        return 0;
    if (more > SIZE_MAX / 2 - buffer->length)
        return -ENOMEM;
    while (capacity < buffer->length + more)
        capacity *= 2;
    grown = realloc(buffer->bytes, capacity);
    if (grown == NULL) {
        /* What is needed may fit where twice of it does not. */
        capacity = buffer->length + more;
        grown = realloc(buffer->bytes, capacity);
    }
    if (grown == NULL)
        return -ENOMEM;
    buffer->bytes = grown;
    buffer->capacity = capacity;
    return 0;
}

static int out_of_memory(const char *name)
{
    cellar_tool_error(name, CELLAR_OFFSET_NONE, "%s", cellar_strerror(-ENOMEM));
    return CELLAR_EXIT_SYSTEM;
}

/* ---- values: each function returns 0 or the exit code (said why) ---- */

/* Commits (or flushes) what was appended, the last value as root, then prints the lines that waited for it. */
static int put_commit(struct cellar_put *put, bool flush)
{
    int error = 0;

    if (put->has_new)
        error = cellar_writer_set_root(put->writer, put->last_index);
    if (error == 0)
        error = flush ? cellar_writer_flush(put->writer) : cellar_writer_commit(put->writer);
    if (error != 0) {
        put->writer_failed = true;
        cellar_progress_clear(&put->progress);
        return cellar_tool_store_error(put->store, error, NULL);
    }
    put->has_new = false;
    if (put->output.length == 0)
        return 0;
    cellar_progress_clear(&put->progress);
    fwrite(put->output.bytes, 1, put->output.length, stdout);
    put->output.length = 0;
    return cellar_tool_output_flush();
}

static int put_value(struct cellar_put *put, const void *bytes, size_t length, const char *name)
{
    /* INDEX, BYTES, two tabs, a newline and a 0 need less than 40 bytes beside the name. */
    size_t line_bytes = strlen(name) + 40;
    uint32_t index;
    int error;

    if (buffer_reserve(&put->output, line_bytes) != 0)
        return out_of_memory(name);
    error = cellar_writer_write_value(put->writer, bytes, length, &index);
    if (error != 0) {
        int exit_code;

        cellar_progress_clear(&put->progress);
        exit_code = cellar_tool_store_error(put->store, error, NULL);
        cellar_tool_error(name, CELLAR_OFFSET_NONE, "%zu bytes not stored, nor anything after them", length);
        return exit_code;
    }
    put->output.length += (size_t)snprintf(put->output.bytes + put->output.length, line_bytes, "%" PRIu32 "\t%zu\t%s\n",
                                           index, length, name);
    put->last_index = index;
    put->has_new = true;
    put->value_count++;
    cellar_progress_add(&put->progress, 0, 1);
    if (put->flush_every > 0 && put->value_count % put->flush_every == 0)
        return put_commit(put, true);
    if (put->commit_every > 0 && put->value_count % put->commit_every == 0)
        return put_commit(put, false);
    return 0;
}

static int input_failed(struct cellar_put *put, const char *name, int error)
{
    cellar_progress_clear(&put->progress);
    cellar_tool_error(name, CELLAR_OFFSET_NONE, "cannot read: %s", cellar_strerror(error));
    return CELLAR_EXIT_SYSTEM;
}

/* All that fd gives, to its end, as one value. */
static int put_whole(struct cellar_put *put, int fd, const char *name)
{
    struct cellar_put_buffer *input = &put->input;
    struct stat status;

    input->length = 0;
    /* One byte more than the file has: then the read that finds its end needs no more room. */
    if (fstat(fd, &status) == 0 && S_ISREG(status.st_mode) && status.st_size > 0 &&
        buffer_reserve(input, (size_t)status.st_size + 1) != 0)
        return out_of_memory(name);
    for (;;) {
        ssize_t got;

        if (buffer_reserve(input, 1) != 0)
            return out_of_memory(name);
        got = read(fd, input->bytes + input->length, input->capacity - input->length);
        if (got == 0)
            return put_value(put, input->bytes, input->length, name);
        if (got < 0 && errno != EINTR)
            return input_failed(put, name, -errno);
        if (got > 0) {
            input->length += (size_t)got;
            cellar_progress_add(&put->progress, (uint64_t)got, 0);
        }
    }
}

/* Each line of a stream as a value, as soon as it is there; a last line without newline counts. */
static int put_lines(struct cellar_put *put, FILE *stream, const char *name)
{
    struct cellar_put_buffer *input = &put->input;
    char number[24];

    for (;;) {
        ssize_t got;
        int exit_code;

        errno = 0;
        got = getline(&input->bytes, &input->capacity, stream);
        /* After an error what was read is part of a line at most. */
        if (ferror(stream) != 0)
            return input_failed(put, name, errno != 0 ? -errno : -EIO);
        if (got < 0)
            return feof(stream) != 0 ? 0 : out_of_memory(name);
        cellar_progress_add(&put->progress, (uint64_t)got, 0);
        if (got > 0 && input->bytes[got - 1] == '\n')
            got--;
        snprintf(number, sizeof number, "%" PRIu64, ++put->line_number);
        exit_code = put_value(put, input->bytes, (size_t)got, number);
        if (exit_code != 0)
            return exit_code;
    }
}

static int put_input(struct cellar_put *put, const char *name)
{
    bool is_standard = strcmp(name, "-") == 0;
    int exit_code, fd = is_standard ? STDIN_FILENO : open(name, O_RDONLY | O_CLOEXEC | O_NOCTTY);

    if (fd < 0)
        return input_failed(put, name, -errno);
    if (put->lines) {
        FILE *stream = is_standard ? stdin : fdopen(fd, "r");

        if (stream == NULL) {
            exit_code = input_failed(put, name, -errno);
            close(fd);
            return exit_code;
        }
        exit_code = put_lines(put, stream, name);
        if (!is_standard)
            fclose(stream);
        return exit_code;
    }
    exit_code = put_whole(put, fd, name);
    if (!is_standard)
        close(fd);
    return exit_code;
}

/* The bytes of all inputs, where all are regular files. */
static bool input_size(const struct cellar_put *put, uint64_t *ret_size_bytes)
{
    uint64_t total = 0;

    for (int i = 0; i < put->file_count; i++) {
        struct stat status;
        bool is_standard = strcmp(put->files[i], "-") == 0;

        if ((is_standard ? fstat(STDIN_FILENO, &status) : stat(put->files[i], &status)) != 0 ||
            !S_ISREG(status.st_mode))
            return false;
        total += (uint64_t)status.st_size;
    }
    *ret_size_bytes = total;
    return true;
}

/* Says so where the checksums could not be kept up to what was flushed; the store itself is as it should be. */
static void tell_sums(const struct cellar_put *put)
{
    struct cellar_info info;

    cellar_writer_info(put->writer, &info);
    if (info.sums_error != 0)
        cellar_tool_error(put->store, CELLAR_OFFSET_NONE, "not all that was put in has checksums: %s",
                          cellar_strerror(info.sums_error));
    if (info.renewed_blocks > 0)
        cellar_tool_error(put->store, CELLAR_OFFSET_NONE,
                          "sectors of the checksum file were broken: up to %" PRIu64
                          " blocks got new checksums, of what is there now",
                          info.renewed_blocks);
}

int cellar_put_inputs(struct cellar_put *put)
{
    uint64_t total_bytes = 0;
    bool total_known = input_size(put, &total_bytes);
    int exit_code = 0;

    cellar_progress_begin(&put->progress, total_known, total_bytes);
    for (int i = 0; i < put->file_count && exit_code == 0; i++)
        exit_code = put_input(put, put->files[i]);
    if (!put->writer_failed) {
        int flushed = put_commit(put, true);

        exit_code = exit_code != 0 ? exit_code : flushed;
    }
    cellar_progress_clear(&put->progress);
    tell_sums(put);
    return exit_code;
}

/* ---- the store and its key ---- */

/* Fills in the key: read from the file, or made and written to it, *ret_made then. 0 or the exit code (said why). */
static int get_key(const char *path, struct cellar_key *ret_key, bool *ret_made)
{
    int error = cellar_tool_key_read(path, ret_key);

    *ret_made = false;
    if (error != -ENOENT)
        return error == 0 ? 0 : CELLAR_EXIT_SYSTEM;
    error = cellar_key_make(ret_key);
    if (error != 0) {
        cellar_tool_error(NULL, CELLAR_OFFSET_NONE, "cannot make a key: %s", cellar_strerror(error));
        return CELLAR_EXIT_SYSTEM;
    }
    error = cellar_tool_key_write(path, ret_key);
    /* Something is there after all: made just now, or a link that leads nowhere. */
    if (error == -EEXIST)
        cellar_tool_error(path, CELLAR_OFFSET_NONE, "%s, expected a key or nothing", cellar_strerror(error));
    *ret_made = error == 0;
    return error == 0 ? 0 : CELLAR_EXIT_SYSTEM;
}

/* Says what opening had to do about a writer that did not end well. */
static void tell_recovery(const struct cellar_put *put)
{
    struct cellar_recovery recovery;

    cellar_writer_recovery(put->writer, &recovery);
    if (recovery.found == CELLAR_FOUND_UNFLUSHED)
        cellar_tool_error(put->store, CELLAR_OFFSET_NONE,
                          "the last writer did not flush: %" PRIu32 " committed cells are skipped%s",
                          recovery.skipped_cells, recovery.root_dropped ? ", the root is the flushed one" : "");
    else if (recovery.found == CELLAR_FOUND_COMMITTED)
        cellar_tool_error(put->store, CELLAR_OFFSET_NONE, "the last writer died: all that it had committed is kept");
    else if (recovery.found == CELLAR_FOUND_DISK_NEWER)
        cellar_tool_error(put->store, CELLAR_OFFSET_NONE, "disk sync was ahead of process sync: opened as flushed");
    else if (recovery.found == CELLAR_FOUND_PROCESS_BROKEN)
        cellar_tool_error(put->store, CELLAR_OFFSET_NONE, "both process-sync slots were broken: opened as flushed");
    if (recovery.suspect)
        cellar_tool_error(put->store, CELLAR_OFFSET_NONE,
                          "a sync of the last writer failed: what it had not flushed is not trusted");
    if (recovery.sums == CELLAR_SUMS_LOST || recovery.sums == CELLAR_SUMS_STALE)
        cellar_tool_error(put->store, CELLAR_OFFSET_NONE,
                          "its checksums are %s, and none are made: see `cellsum check`",
                          recovery.sums == CELLAR_SUMS_LOST ? "lost" : "stale");
}

static void tell_path(const struct cellar_put *put)
{
    struct cellar_info info;

    cellar_writer_info(put->writer, &info);
    cellar_tool_tell_path(&info);
}

/* Why there is no store to open, or no room for a new one. */
static int tell_missing(const struct cellar_put *put)
{
    struct stat status;
    bool dangling = lstat(put->store, &status) == 0 && S_ISLNK(status.st_mode) && stat(put->store, &status) != 0;

    if (dangling)
        cellar_tool_error(put->store, CELLAR_OFFSET_NONE, "found a symbolic link to nothing, expected %s",
                          put->create ? "nothing with --create" : "a store");
    else if (put->create)
        cellar_tool_error(put->store, CELLAR_OFFSET_NONE, "found an existing file, expected none with --create");
    else
        cellar_tool_error(put->store, CELLAR_OFFSET_NONE, "found nothing, expected a store; --create makes one");
    return CELLAR_EXIT_SYSTEM;
}

static int open_store(struct cellar_put *put, const struct cellar_key *key)
{
    struct cellar_diagnostic diagnostic = {.error = 0};
    const struct cellar_writer_options options = {
        .key = key,
        .resize_step_bytes = put->resize_step_bytes,
        .device = put->pages ? CELLAR_DEVICE_PAGES : CELLAR_DEVICE_AUTO,
        .checksums = put->checksums,
        .diagnostic = &diagnostic,
    };
    int error;

    if (put->create)
        error = cellar_writer_create(put->store, &put->config, &options, &put->writer);
    else
        error = cellar_writer_open(put->store, &options, &put->writer);
    if (error == 0) {
        tell_recovery(put);
        if (put->verbose)
            tell_path(put);
        return 0;
    }
    if (error == (put->create ? -EEXIST : -ENOENT))
        return tell_missing(put);
    return cellar_tool_store_error(put->store, error, &diagnostic);
}

/* A store is not made for a first input that isn't there: nothing would be in it, and it would be in the way. Only
 * looked at, not opened: it may be a pipe. */
static int check_first_input(struct cellar_put *put)
{
    const char *name = put->file_count > 0 ? put->files[0] : "-";

    if (!put->create || strcmp(name, "-") == 0 || access(name, R_OK) == 0)
        return 0;
    return input_failed(put, name, -errno);
}

int cellar_put_open(struct cellar_put *put)
{
    struct cellar_key key;
    bool key_made = false;
    int exit_code = check_first_input(put);

    if (exit_code != 0)
        return exit_code;
    if (put->key_file == NULL)
        return open_store(put, NULL);
    exit_code = get_key(put->key_file, &key, &key_made);
    if (exit_code != 0)
        return exit_code;
    exit_code = open_store(put, &key);
    if (exit_code != 0 && key_made)
        unlink(put->key_file);
    return exit_code;
}

int cellar_put_close(struct cellar_put *put)
{
    int error = cellar_writer_close(put->writer);
    int exit_code = 0;

    /* What a commit or flush said is not said again. */
    if (error != 0 && !put->writer_failed)
        exit_code = cellar_tool_store_error(put->store, error, NULL);
    free(put->input.bytes);
    free(put->output.bytes);
    return exit_code;
}
