/* cellput.c - the command line of cellput: appends files, standard input, or lines of them as values. */
#include "put.h"
#include "tool.h"

#include <getopt.h>
#include <inttypes.h>
#include <signal.h>
#include <string.h>

static const char help[] =
    "Usage: cellput STORE [FILE...]\n"
    "Appends the bytes of each FILE (standard input without FILE, or where FILE is -) as\n"
    "a value, makes the last one the root, and prints INDEX<TAB>BYTES<TAB>NAME for each\n"
    "once it is committed. What was put in is committed and flushed at the end.\n"
    "\n"
    "      --lines             each line, without its newline, is a value; NAME is its number\n"
    "      --commit-every N    commit after every N values\n"
    "      --flush-every N     flush after every N values\n"
    "      --key-file FILE     the writer's key: read, or made if FILE is not there\n"
    "      --resize-step SIZE  the file grows by SIZE bytes at a time (K, M, G; default 16M)\n"
    "      --create            make the store; it must not be there\n"
    "      --cell-bytes N      with --create: bytes per cell, 4..65535 (32)\n"
    "      --max-index N       with --create: no cell has this index or a larger one (4294967039)\n"
    "      --head TEXT         with --create: up to 20 bytes that say whose file it is (CELLAR)\n"
    "      --version-number N  with --create: the application's version (1)\n"
    "      --checksums         with --create: checksums of its cells, in STORE.cellar-sums\n"
    "      --pages             write by system calls, not through a window onto the file\n"
    "      --verbose           say which way bytes go to the store\n"
    "      --help              this text\n"
    "      --version           the version\n"
    "\n"
    "Exit code: 0 done, 1 usage, 2 input or system error, 4 corrupt store, 5 busy store.\n";

enum {
    OPTION_LINES = 256,
    OPTION_COMMIT_EVERY,
    OPTION_FLUSH_EVERY,
    OPTION_KEY_FILE,
    OPTION_RESIZE_STEP,
    OPTION_CREATE,
    OPTION_CELL_BYTES,
    OPTION_MAX_INDEX,
    OPTION_HEAD,
    OPTION_VERSION_NUMBER,
    OPTION_CHECKSUMS,
    OPTION_PAGES,
    OPTION_VERBOSE,
    OPTION_HELP,
    OPTION_VERSION,
};

static const struct option long_options[] = {
    {"lines", no_argument, NULL, OPTION_LINES},
    {"commit-every", required_argument, NULL, OPTION_COMMIT_EVERY},
    {"flush-every", required_argument, NULL, OPTION_FLUSH_EVERY},
    {"key-file", required_argument, NULL, OPTION_KEY_FILE},
    {"resize-step", required_argument, NULL, OPTION_RESIZE_STEP},
    {"create", no_argument, NULL, OPTION_CREATE},
    {"cell-bytes", required_argument, NULL, OPTION_CELL_BYTES},
    {"max-index", required_argument, NULL, OPTION_MAX_INDEX},
    {"head", required_argument, NULL, OPTION_HEAD},
    {"version-number", required_argument, NULL, OPTION_VERSION_NUMBER},
    {"checksums", no_argument, NULL, OPTION_CHECKSUMS},
    {"pages", no_argument, NULL, OPTION_PAGES},
    {"verbose", no_argument, NULL, OPTION_VERBOSE},
    {"help", no_argument, NULL, OPTION_HELP},
    {"version", no_argument, NULL, OPTION_VERSION},
    {NULL, 0, NULL, 0},
};

/* Reads a number for an option. -1, or the exit code (said why). */
static int option_number(const char *option, uint64_t min, uint64_t max, uint64_t *ret_number)
{
    if (cellar_tool_number_parse(optarg, min, max, ret_number) == 0)
        return -1;
    return cellar_tool_usage("%s: found '%s', expected a number from %" PRIu64 " to %" PRIu64, option, optarg, min,
                             max);
}

static int option_number32(const char *option, uint32_t min, uint32_t max, struct cellar_put *put, uint32_t *ret_number)
{
    uint64_t number = 0;
    int exit_code = option_number(option, min, max, &number);

    put->config_option = option;
    if (exit_code < 0)
        *ret_number = (uint32_t)number;
    return exit_code;
}

static int option_head(struct cellar_put *put)
{
    size_t length = strlen(optarg);

    put->config_option = "--head";
    if (length > CELLAR_HEAD_BYTES)
        return cellar_tool_usage("--head: found %zu bytes, expected at most %d", length, CELLAR_HEAD_BYTES);
    memset(put->config.head, ' ', CELLAR_HEAD_BYTES);
    memcpy(put->config.head, optarg, length);
    return -1;
}

/* -1: go on. Otherwise the exit code. */
static int read_option(int option, struct cellar_put *put)
{
    switch (option) {
    case OPTION_LINES:
        put->lines = true;
        return -1;
    case OPTION_COMMIT_EVERY:
        return option_number("--commit-every", 1, UINT64_MAX, &put->commit_every);
    case OPTION_FLUSH_EVERY:
        return option_number("--flush-every", 1, UINT64_MAX, &put->flush_every);
    case OPTION_KEY_FILE:
        put->key_file = optarg;
        return -1;
    case OPTION_RESIZE_STEP:
        if (cellar_tool_bytes_parse(optarg, 1, INT64_MAX, &put->resize_step_bytes) == 0)
            return -1;
        return cellar_tool_usage("--resize-step: found '%s', expected bytes, such as 1048576, 1024K or 1M", optarg);
    case OPTION_CREATE:
        put->create = true;
        return -1;
    case OPTION_CELL_BYTES:
        return option_number32("--cell-bytes", CELLAR_BYTES_PER_CELL_MIN, CELLAR_BYTES_PER_CELL_MAX, put,
                               &put->config.bytes_per_cell);
    case OPTION_MAX_INDEX:
        return option_number32("--max-index", 1, UINT32_MAX, put, &put->config.max_index);
    case OPTION_HEAD:
        return option_head(put);
    case OPTION_VERSION_NUMBER:
        return option_number32("--version-number", 0, UINT32_MAX, put, &put->config.version);
    case OPTION_CHECKSUMS:
        put->config_option = "--checksums";
        put->checksums = true;
        return -1;
    case OPTION_PAGES:
        put->pages = true;
        return -1;
    case OPTION_VERBOSE:
        put->verbose = true;
        return -1;
    case OPTION_HELP:
        return cellar_tool_print_help();
    case OPTION_VERSION:
        return cellar_tool_print_version();
    default:
        return cellar_tool_usage(NULL);
    }
}

/* -1: go on. Otherwise the exit code. */
static int check_options(const struct cellar_put *put)
{
    uint32_t header_cells = (CELLAR_HEADER_BYTES + put->config.bytes_per_cell - 1) / put->config.bytes_per_cell;

    if (put->config_option != NULL && !put->create)
        return cellar_tool_usage("%s goes with --create", put->config_option);
    if (put->config.max_index <= header_cells)
        return cellar_tool_usage("--max-index: found %" PRIu32 ", expected more than the %" PRIu32
                                 " cells of the header",
                                 put->config.max_index, header_cells);
    return -1;
}

static int run(struct cellar_put *put)
{
    int closed, exit_code = cellar_put_open(put);

    if (exit_code != 0)
        return exit_code;
    exit_code = cellar_put_inputs(put);
    closed = cellar_put_close(put);
    return exit_code != 0 ? exit_code : closed;
}

int main(int argc, char **argv)
{
    static char standard_input[] = "-";
    static char *const no_files[] = {standard_input};
    struct cellar_put put = {
        .config = {
            .head = "CELLAR              ", .bytes_per_cell = 32, .max_index = CELLAR_MAX_INDEX_DEFAULT, .version = 1}};
    int option, exit_code;

    cellar_tool_begin("cellput", help);
    if (argc <= 1)
        return cellar_tool_refuse();
    while ((option = getopt_long(argc, argv, "", long_options, NULL)) != -1) {
        exit_code = read_option(option, &put);
        if (exit_code >= 0)
            return exit_code;
    }
    if (optind == argc)
        return cellar_tool_usage("expected STORE");
    exit_code = check_options(&put);
    if (exit_code >= 0)
        return exit_code;
    put.store = argv[optind];
    put.files = optind + 1 < argc ? argv + optind + 1 : no_files;
    put.file_count = optind + 1 < argc ? argc - optind - 1 : 1;
    /* A reader of the output that goes away must not end the writer before it has flushed. */
    signal(SIGPIPE, SIG_IGN);
    return cellar_tool_finish(run(&put));
}
