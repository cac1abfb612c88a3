/*
 * quickstart_follow.c - a reader process that follows a writer, for tools/quickstart.
 *
 *     quickstart_follow STORE KEYFILE
 *
 * Waits for the store, then looks at every root that it sees a writer commit: walks the root's value and prints
 * INDEX<TAB>BYTES, as cellput does. SIGTERM: looks one last time and ends, exit code 0. It never waits for the writer,
 * nor the writer for it: roots that came and went between two looks are not seen.
 */
#include "tool.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <string.h>
#include <time.h>

static const char help[] = "Usage: quickstart_follow STORE KEYFILE\n"
                           "Follows a store's writer and prints INDEX<TAB>BYTES of every root it sees.\n";

static volatile sig_atomic_t stopping;

static void stop(int signal_number)
{
    (void)signal_number;
    stopping = 1;
}

static void pause_briefly(void)
{
    const struct timespec pause = {.tv_nsec = 50 * 1000};

    nanosleep(&pause, NULL);
}

/* Opens the store once it and its key are there. CELLAR_NONE: told to stop before. */
static int open_when_there(const char *store, const char *key_file, struct cellar_reader **ret_reader)
{
    struct cellar_diagnostic diagnostic = {.error = 0};
    struct cellar_reader_options options = {.diagnostic = &diagnostic};
    struct cellar_key key;

    do {
        int error = cellar_tool_key_read(key_file, &key);

        options.key = &key;
        if (error == 0)
            error = cellar_reader_open(store, &options, ret_reader);
        if (error != -ENOENT) {
            if (error != 0)
                cellar_tool_store_error(store, error, &diagnostic);
            return error;
        }
        pause_briefly();
    } while (!stopping);
    return CELLAR_NONE;
}

/* Prints the root of the state that the reader stands at, if it is not the one before. 0 or a negative error. */
static int look(struct cellar_reader *reader, uint32_t *last_root)
{
    struct cellar_snapshot snapshot = cellar_reader_snapshot(reader);
    uint64_t size_bytes;
    int error;

    if (snapshot.root_index == *last_root)
        return 0;
    error = cellar_snapshot_value_size(&snapshot, snapshot.root_index, &size_bytes);
    if (error != 0)
        return error;
    printf("%" PRIu32 "\t%" PRIu64 "\n", snapshot.root_index, size_bytes);
    *last_root = snapshot.root_index;
    return 0;
}

static int follow(const char *store, struct cellar_reader *reader)
{
    uint32_t last_root = CELLAR_ROOT_NONE;
    struct cellar_info info;
    int error;

    cellar_reader_info(reader, &info);
    cellar_tool_tell_path(&info);
    error = look(reader, &last_root);
    while (error == 0) {
        bool last = stopping != 0;

        error = cellar_reader_refresh(reader);
        if (error == 0)
            error = look(reader, &last_root);
        else if (error == CELLAR_NONE)
            error = 0;
        if (last)
            break;
        pause_briefly();
    }
    if (error < 0)
        return cellar_tool_store_error(store, error, cellar_reader_diagnostic(reader));
    return CELLAR_EXIT_DONE;
}

int main(int argc, char **argv)
{
    struct sigaction action = {.sa_handler = stop};
    struct cellar_reader *reader = NULL;
    int exit_code;

    cellar_tool_begin("quickstart_follow", help);
    if (argc != 3)
        return cellar_tool_refuse();
    sigaction(SIGTERM, &action, NULL);
    cellar_tool_error(argv[1], CELLAR_OFFSET_NONE, "waiting for it");
    switch (open_when_there(argv[1], argv[2], &reader)) {
    case 0:
        exit_code = follow(argv[1], reader);
        break;
    case CELLAR_NONE:
        exit_code = CELLAR_EXIT_DONE;
        break;
    default:
        exit_code = CELLAR_EXIT_SYSTEM;
        break;
    }
    cellar_reader_close(reader);
    return cellar_tool_finish(exit_code);
}
