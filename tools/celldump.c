/* celldump.c - the command line of celldump. */
#include "celldump.h"

#include <errno.h>
#include <getopt.h>
#include <string.h>

static const char help[] =
    "Usage: celldump info STORE [--key HEX | --key-file FILE] [--json]\n"
    "       celldump header STORE [--key HEX | --key-file FILE]\n"
    "       celldump cell STORE INDEX [--count N] [--raw]\n"
    "       celldump chunk STORE INDEX [--raw | --json]\n"
    "       celldump check STORE [--json]\n"
    "Shows what a cell store holds, also a broken one. Never changes it.\n"
    "\n"
    "  info            what the store is and stands at\n"
    "  header          every field of the header: its offset, its bytes, what they mean\n"
    "  cell            cells as bytes and text, from INDEX on\n"
    "  chunk           the value named INDEX: its chain of chunks and its content\n"
    "  check           walks what can be walked, says everything that is wrong\n"
    "\n"
    "  --key HEX       the writer's key, 64 hexadecimal digits: says whether it is the store's\n"
    "  --key-file FILE the same from a file\n"
    "  --count N       this many cells (1)\n"
    "  --raw           the bytes alone\n"
    "  --json          JSON\n"
    "  --help          this text\n"
    "  --version       the version\n"
    "\n"
    "Exit code: 0 clean or unflushed, 3 recoverable, 4 corrupt, 2 cannot open or read, 1 usage.\n";

enum { OPTION_KEY = 256, OPTION_KEY_FILE, OPTION_COUNT, OPTION_RAW, OPTION_JSON, OPTION_HELP, OPTION_VERSION };

static const struct option long_options[] = {
    {"key", required_argument, NULL, OPTION_KEY},     {"key-file", required_argument, NULL, OPTION_KEY_FILE},
    {"count", required_argument, NULL, OPTION_COUNT}, {"raw", no_argument, NULL, OPTION_RAW},
    {"json", no_argument, NULL, OPTION_JSON},         {"help", no_argument, NULL, OPTION_HELP},
    {"version", no_argument, NULL, OPTION_VERSION},   {NULL, 0, NULL, 0},
};

static const struct command {
    const char *name;
    int operand_count; /* STORE, or STORE and INDEX */
    bool takes_key, takes_count, takes_raw, takes_json;
    int (*run)(struct cellar_dump *dump, const struct cellar_dump_options *options);
} commands[] = {
    {"info", 1, .takes_key = true, .takes_json = true, .run = cellar_dump_info},
    {"header", 1, .takes_key = true, .run = cellar_dump_header},
    {"cell", 2, .takes_count = true, .takes_raw = true, .run = cellar_dump_cell},
    {"chunk", 2, .takes_raw = true, .takes_json = true, .run = cellar_dump_value},
    {"check", 1, .takes_json = true, .run = cellar_dump_check},
};

/* What stood on the command line. */
struct command_line {
    const struct command *command;
    const char *store;
    const char *key_text, *key_file;
    bool has_count;
    struct cellar_dump_options options;
};

static const struct command *find_command(const char *name)
{
    for (size_t i = 0; i < sizeof commands / sizeof commands[0]; i++) {
        if (strcmp(commands[i].name, name) == 0)
            return &commands[i];
    }
    return NULL;
}

/* -1: go on. Otherwise the exit code. */
static int read_option(int option, struct command_line *line)
{
    switch (option) {
    case OPTION_KEY:
        line->key_text = optarg;
        return -1;
    case OPTION_KEY_FILE:
        line->key_file = optarg;
        return -1;
    case OPTION_COUNT:
        line->has_count = true;
        if (cellar_tool_number_parse(optarg, 1, UINT64_C(1) << 32, &line->options.count) != 0)
            return cellar_tool_usage("--count: found '%s', expected a number of cells from 1 to 4294967296", optarg);
        return -1;
    case OPTION_RAW:
        line->options.raw = true;
        return -1;
    case OPTION_JSON:
        line->options.json = true;
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
static int check_options(const struct command_line *line)
{
    const struct command *command = line->command;
    const char *stray = NULL;

    if ((line->key_text != NULL || line->key_file != NULL) && !command->takes_key)
        stray = line->key_text != NULL ? "--key" : "--key-file";
    else if (line->has_count && !command->takes_count)
        stray = "--count";
    else if (line->options.raw && !command->takes_raw)
        stray = "--raw";
    else if (line->options.json && !command->takes_json)
        stray = "--json";
    if (stray != NULL)
        return cellar_tool_usage("%s does not take %s", command->name, stray);
    if (line->key_text != NULL && line->key_file != NULL)
        return cellar_tool_usage("found --key and --key-file, expected one of them");
    if (line->options.raw && line->options.json)
        return cellar_tool_usage("found --raw and --json, expected one of them");
    return -1;
}

/* -1: go on. Otherwise the exit code. */
static int read_operands(int count, char **operands, struct command_line *line)
{
    uint64_t index;

    if (count == 0)
        return cellar_tool_usage("expected a command");
    line->command = find_command(operands[0]);
    if (line->command == NULL)
        return cellar_tool_usage("found '%s', expected info, header, cell, chunk or check", operands[0]);
    if (count != 1 + line->command->operand_count)
        return cellar_tool_usage("%s: found %d operands, expected %s", line->command->name, count - 1,
                                 line->command->operand_count == 1 ? "STORE" : "STORE and INDEX");
    line->store = operands[1];
    if (line->command->operand_count == 2) {
        if (cellar_tool_number_parse(operands[2], 0, UINT32_MAX, &index) != 0)
            return cellar_tool_usage("found '%s', expected an index from 0 to 4294967295", operands[2]);
        line->options.index = (uint32_t)index;
    }
    return check_options(line);
}

static int run(const struct command_line *line)
{
    struct cellar_dump dump;
    struct cellar_key key;
    const struct cellar_key *given = line->key_text != NULL || line->key_file != NULL ? &key : NULL;
    int exit_code = CELLAR_EXIT_SYSTEM;

    if (line->key_text != NULL && cellar_tool_key_parse(line->key_text, &key) != 0)
        return cellar_tool_usage("--key: found '%s', expected 64 hexadecimal digits", line->key_text);
    if (line->key_file != NULL) {
        int error = cellar_tool_key_read(line->key_file, &key);

        if (error == -ENOENT)
            cellar_tool_error(line->key_file, CELLAR_OFFSET_NONE, "%s, expected a key", cellar_strerror(error));
        if (error != 0)
            return CELLAR_EXIT_SYSTEM;
    }
    if (cellar_dump_open(&dump, line->store, given) == 0)
        exit_code = line->command->run(&dump, &line->options);
    cellar_dump_close(&dump);
    return exit_code;
}

int main(int argc, char **argv)
{
    struct command_line line = {.options = {.count = 1}};
    int option, exit_code;

    cellar_tool_begin("celldump", help);
    if (argc <= 1)
        return cellar_tool_refuse();
    while ((option = getopt_long(argc, argv, "", long_options, NULL)) != -1) {
        exit_code = read_option(option, &line);
        if (exit_code >= 0)
            return exit_code;
    }
    exit_code = read_operands(argc - optind, argv + optind, &line);
    if (exit_code < 0)
        exit_code = run(&line);
    return cellar_tool_finish(exit_code);
}
