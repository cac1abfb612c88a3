/*
 * cellget.c - writes values to standard output, one after the other.
 *
 * Every index is checked, its whole chain walked, before the first byte is written.
 */
#include "tool.h"

#include <cellar/store.h>
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <poll.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

static const char help[] =
    "Usage: cellget STORE INDEX...\n"
    "       cellget STORE --root\n"
    "Writes the bytes of the values to standard output, one after the other.\n"
    "\n"
    "      --root           the value that the root names\n"
    "      --key-file FILE  the writer's key: reads what is committed, not only what is flushed\n"
    "      --verify         compare what is read with the store's checksums\n"
    "      --pages          read by system calls, not through a window onto the file\n"
    "      --verbose        say which way bytes come from the store\n"
    "      --help           this text\n"
    "      --version        the version\n"
    "\n"
    "Exit code: 0 done, 1 usage, 2 no such value, no checksums or system error, 4 corrupt store,\n"
    "rotten cells or no value there.\n";

/* Pieces of a value that one system call writes: 16 MiB, and well below IOV_MAX. */
enum { PARTS_MAX = 256 };

enum { OPTION_ROOT = 256, OPTION_KEY_FILE, OPTION_VERIFY, OPTION_PAGES, OPTION_VERBOSE, OPTION_HELP, OPTION_VERSION };

static const struct option long_options[] = {
    {"root", no_argument, NULL, OPTION_ROOT},       {"key-file", required_argument, NULL, OPTION_KEY_FILE},
    {"verify", no_argument, NULL, OPTION_VERIFY},   {"pages", no_argument, NULL, OPTION_PAGES},
    {"verbose", no_argument, NULL, OPTION_VERBOSE}, {"help", no_argument, NULL, OPTION_HELP},
    {"version", no_argument, NULL, OPTION_VERSION}, {NULL, 0, NULL, 0},
};

struct get {
    const char *store, *key_file;
    bool root, verify, pages, verbose;
    uint32_t *indices;
    size_t index_count;
    struct cellar_reader *reader;
    struct cellar_snapshot snapshot;
};

/* ---- writing: 0, or a negative error ---- */

/* Waits until standard output, which may be non-blocking, takes more. */
static int wait_for_output(void)
{
    struct pollfd output = {.fd = STDOUT_FILENO, .events = POLLOUT};

    return poll(&output, 1, -1) < 0 && errno != EINTR ? -errno : 0;
}

/* Writes all of the parts, at most PARTS_MAX; they are used up. */
static int write_parts(struct iovec *parts, size_t part_count)
{
    while (part_count > 0) {
        ssize_t put;

        if (parts->iov_len == 0) {
            parts++;
            part_count--;
            continue;
        }
        put = writev(STDOUT_FILENO, parts, (int)part_count);
        if (put < 0) {
            int error = errno == EINTR ? 0 : errno == EAGAIN ? wait_for_output() : -errno;

            if (error != 0)
                return error;
            continue;
        }
        for (; put > 0; parts++, part_count--) {
            if ((size_t)put < parts->iov_len) {
                parts->iov_base = (char *)parts->iov_base + put;
                parts->iov_len -= (size_t)put;
                break;
            }
            put -= (ssize_t)parts->iov_len;
        }
    }
    return 0;
}

/* With a window: the pieces of the value, straight from the file's pages. */
static int write_pieces(const struct cellar_snapshot *snapshot, uint32_t index, bool *ret_output_failed)
{
    struct cellar_piece *pieces;
    size_t count, done = 0;
    int error = cellar_snapshot_value_piece_count(snapshot, index, &count);

    if (error != 0)
        return error;
    pieces = calloc(count, sizeof *pieces);
    if (pieces == NULL)
        return -ENOMEM;
    error = cellar_snapshot_value_pieces(snapshot, index, pieces, count, &count);
    while (error == 0 && done < count) {
        struct iovec parts[PARTS_MAX];
        size_t part_count = 0;

        for (; part_count < PARTS_MAX && done < count; part_count++, done++)
            parts[part_count] =
                (struct iovec){.iov_base = (void *)pieces[done].bytes, .iov_len = pieces[done].length_bytes};
        error = write_parts(parts, part_count);
        *ret_output_failed = error != 0;
    }
    free(pieces);
    return error;
}

static int write_copy(const struct cellar_snapshot *snapshot, uint32_t index, bool *ret_output_failed)
{
    struct iovec part;
    void *bytes;
    int error = cellar_snapshot_copy_value(snapshot, index, &bytes, &part.iov_len);

    if (error != 0)
        return error;
    part.iov_base = bytes;
    error = write_parts(&part, 1);
    *ret_output_failed = error != 0;
    free(bytes);
    return error;
}

/* ---- the work: 0, or the exit code (said why) ---- */

static int check_value(const struct get *get, uint32_t index)
{
    const struct cellar_snapshot *snapshot = &get->snapshot;
    struct cellar_diagnostic diagnostic = {.error = 0};
    int error = cellar_snapshot_check_value(snapshot, index, &diagnostic);

    if (error == 0)
        return 0;
    if (error == CELLAR_EBOUNDS && snapshot->next_index == snapshot->start_index) {
        cellar_tool_error(get->store, CELLAR_OFFSET_NONE,
                          "found index %" PRIu32 " asked for, expected none: the store is empty", index);
        return CELLAR_EXIT_SYSTEM;
    }
    if (error == CELLAR_EBOUNDS) {
        cellar_tool_error(
            get->store, CELLAR_OFFSET_NONE,
            "found index %" PRIu32 " asked for, expected one from %" PRIu32 " to %" PRIu32 ", the cells in use%s",
            index, snapshot->start_index, snapshot->next_index - 1, get->key_file == NULL ? " and flushed" : "");
        return CELLAR_EXIT_SYSTEM;
    }
    /* The snapshot does not know the file's name. */
    if (error == CELLAR_ECORRUPT && diagnostic.message[0] != '\0') {
        cellar_tool_error(get->store, CELLAR_OFFSET_NONE, "%s", diagnostic.message);
        return CELLAR_EXIT_CORRUPT;
    }
    return cellar_tool_store_error(get->store, error, NULL);
}

static int get_value(const struct get *get, uint32_t index)
{
    bool output_failed = false;
    int error;

    /* Reading the pages of a file that others cut would be a SIGBUS. A store replaced by truncate is whole. */
    error = cellar_reader_check(get->reader);
    if (error != 0 && error != CELLAR_ERETIRED)
        return cellar_tool_store_error(get->store, error, cellar_reader_diagnostic(get->reader));
    if (get->snapshot.window != NULL)
        error = write_pieces(&get->snapshot, index, &output_failed);
    else
        error = write_copy(&get->snapshot, index, &output_failed);
    if (error == 0)
        return 0;
    if (!output_failed)
        return cellar_tool_store_error(get->store, error, NULL);
    if (error != -EPIPE)
        cellar_tool_error("standard output", CELLAR_OFFSET_NONE, "%s", cellar_strerror(error));
    return CELLAR_EXIT_SYSTEM;
}

static int get_values(struct get *get)
{
    int exit_code = 0;

    get->snapshot = cellar_reader_snapshot(get->reader);
    if (get->root) {
        if (get->snapshot.root_index == CELLAR_ROOT_NONE) {
            cellar_tool_error(get->store, CELLAR_OFFSET_NONE, "found no root, expected one");
            return CELLAR_EXIT_SYSTEM;
        }
        get->indices[0] = get->snapshot.root_index;
    }
    for (size_t i = 0; i < get->index_count && exit_code == 0; i++)
        exit_code = check_value(get, get->indices[i]);
    for (size_t i = 0; i < get->index_count && exit_code == 0; i++)
        exit_code = get_value(get, get->indices[i]);
    return exit_code;
}

static int run(struct get *get)
{
    struct cellar_diagnostic diagnostic = {.error = 0};
    struct cellar_reader_options options = {
        .device = get->pages ? CELLAR_DEVICE_PAGES : CELLAR_DEVICE_AUTO,
        .verify = get->verify,
        .diagnostic = &diagnostic,
    };
    struct cellar_key key;
    int error, exit_code;

    if (get->key_file != NULL) {
        error = cellar_tool_key_read(get->key_file, &key);
        if (error == -ENOENT)
            cellar_tool_error(get->key_file, CELLAR_OFFSET_NONE, "%s, expected a key", cellar_strerror(error));
        if (error != 0)
            return CELLAR_EXIT_SYSTEM;
        options.key = &key;
    }
    error = cellar_reader_open(get->store, &options, &get->reader);
    if (error != 0)
        return cellar_tool_store_error(get->store, error, &diagnostic);
    if (get->verbose) {
        struct cellar_info info;

        cellar_reader_info(get->reader, &info);
        cellar_tool_tell_path(&info);
    }
    exit_code = get_values(get);
    cellar_reader_close(get->reader);
    return exit_code;
}

/* ---- the command line: -1 to go on, or the exit code ---- */

static int read_option(int option, struct get *get)
{
    switch (option) {
    case OPTION_ROOT:
        get->root = true;
        return -1;
    case OPTION_KEY_FILE:
        get->key_file = optarg;
        return -1;
    case OPTION_VERIFY:
        get->verify = true;
        return -1;
    case OPTION_PAGES:
        get->pages = true;
        return -1;
    case OPTION_VERBOSE:
        get->verbose = true;
        return -1;
    case OPTION_HELP:
        return cellar_tool_print_help();
    case OPTION_VERSION:
        return cellar_tool_print_version();
    default:
        return cellar_tool_usage(NULL);
    }
}

static int read_operands(int count, char **operands, struct get *get)
{
    if (count == 0)
        return cellar_tool_usage("expected STORE");
    get->store = operands[0];
    if (get->root && count > 1)
        return cellar_tool_usage("found --root and an index, expected one of them");
    if (!get->root && count == 1)
        return cellar_tool_usage("expected an index, or --root");
    get->index_count = get->root ? 1 : (size_t)count - 1;
    get->indices = calloc(get->index_count, sizeof *get->indices);
    if (get->indices == NULL) {
        cellar_tool_error(NULL, CELLAR_OFFSET_NONE, "%s", cellar_strerror(-ENOMEM));
        return CELLAR_EXIT_SYSTEM;
    }
    for (int i = 1; i < count; i++) {
        uint64_t index;

        if (cellar_tool_number_parse(operands[i], 0, UINT32_MAX, &index) != 0)
            return cellar_tool_usage("found '%s', expected an index from 0 to 4294967295", operands[i]);
        get->indices[i - 1] = (uint32_t)index;
    }
    return -1;
}

int main(int argc, char **argv)
{
    struct get get = {.store = NULL};
    int option, exit_code;

    cellar_tool_begin("cellget", help);
    if (argc <= 1)
        return cellar_tool_refuse();
    while ((option = getopt_long(argc, argv, "", long_options, NULL)) != -1) {
        exit_code = read_option(option, &get);
        if (exit_code >= 0)
            return exit_code;
    }
    exit_code = read_operands(argc - optind, argv + optind, &get);
    if (exit_code < 0)
        exit_code = run(&get);
    free(get.indices);
    return cellar_tool_finish(exit_code);
}
