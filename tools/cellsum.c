/* cellsum.c - the checksums of a store: check, rebuild, add, restore. */
#include "progress.h"
#include "tool.h"

#include <cellar/sums.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

static const char help[] =
    "Usage: cellsum check STORE\n"
    "       cellsum rebuild STORE [--force]\n"
    "       cellsum add STORE\n"
    "       cellsum restore STORE NEW\n"
    "Looks after the checksums of a cell store, which lie in STORE.cellar-sums.\n"
    "\n"
    "  check           compares all flushed cells with their checksums; changes nothing\n"
    "  rebuild         makes lost or stale checksums anew, from the cells as they are now\n"
    "  add             gives checksums to a store that was made without\n"
    "  restore         makes the store NEW of one whose first 4096 bytes, or some of them, are lost\n"
    "\n"
    "  --force         rebuild, although checksums say that cells are rotten\n"
    "  --help          this text\n"
    "  --version       the version\n"
    "\n"
    "Exit code: 0 done, and nothing is wrong; 1 usage, 2 system error or no checksums,\n"
    "3 the checksums are lost, stale or broken, 4 rotten cells or a corrupt store, 5 busy store.\n";

enum { OPTION_FORCE = 256, OPTION_HELP, OPTION_VERSION };

static const struct option long_options[] = {
    {"force", no_argument, NULL, OPTION_FORCE},
    {"help", no_argument, NULL, OPTION_HELP},
    {"version", no_argument, NULL, OPTION_VERSION},
    {NULL, 0, NULL, 0},
};

struct sum {
    const char *store, *made; /* made: the store that restore makes */
    bool force;
    struct cellar_progress progress;
    bool total_known; /* the progress has begun */
};

/* ---- what the library tells meanwhile ---- */

static void tell_progress(void *user, uint64_t done_bytes, uint64_t total_bytes)
{
    struct sum *sum = user;

    if (!sum->total_known || done_bytes < sum->progress.done_bytes) {
        cellar_progress_clear(&sum->progress);
        cellar_progress_begin(&sum->progress, true, total_bytes);
        sum->total_known = true;
    }
    cellar_progress_add(&sum->progress, done_bytes - sum->progress.done_bytes, 0);
}

static void tell_rot(void *user, const struct cellar_sums_rot *rot)
{
    struct sum *sum = user;

    cellar_progress_clear(&sum->progress);
    if (rot->located)
        printf("rotten   offset %" PRIu64 ": bit %u is flipped, in cell %" PRIu32 "\n", rot->bit_offset_bytes, rot->bit,
               rot->bit_index);
    else
        printf("rotten   offset %" PRIu64 ": %" PRIu64 " bytes, cells %" PRIu32 "..%" PRIu32 ", %s\n",
               rot->offset_bytes, rot->length_bytes, rot->first_index, rot->last_index,
               rot->unreadable ? "cannot be read" : "are not what was written");
}

/* ---- the commands: the exit code ---- */

static const char *state_text(enum cellar_sums_state state)
{
    switch (state) {
    case CELLAR_SUMS_GOOD:
        return "good";
    case CELLAR_SUMS_BEHIND:
        return "behind";
    case CELLAR_SUMS_LOST:
        return "lost";
    case CELLAR_SUMS_STALE:
        return "stale";
    default:
        return "none";
    }
}

static int judge(const struct sum *sum, const struct cellar_sums_report *report)
{
    if (report->state == CELLAR_SUMS_NONE) {
        cellar_tool_error(sum->store, CELLAR_OFFSET_NONE,
                          "the store was made without checksums; `cellsum add` gives it some");
        return CELLAR_EXIT_SYSTEM;
    }
    if (report->rotten_blocks > 0)
        return CELLAR_EXIT_CORRUPT;
    if (report->state == CELLAR_SUMS_LOST || report->state == CELLAR_SUMS_STALE) {
        cellar_tool_error(NULL, CELLAR_OFFSET_NONE, "%s; `cellsum rebuild` makes them anew", report->why.message);
        return CELLAR_EXIT_RECOVERABLE;
    }
    return report->broken_sectors > 0 ? CELLAR_EXIT_RECOVERABLE : CELLAR_EXIT_DONE;
}

static int check(struct sum *sum, const struct cellar_sums_options *options)
{
    struct cellar_sums_report report;
    int error = cellar_sums_check(sum->store, options, &report);

    cellar_progress_clear(&sum->progress);
    if (error != 0)
        return cellar_tool_store_error(sum->store, error, options->diagnostic);
    if (report.state != CELLAR_SUMS_NONE) {
        printf("flushed  %" PRIu64 " bytes\n", report.flushed_bytes);
        printf("compared %" PRIu64 " bytes, %" PRIu64 " rotten block%s\n", report.verified_bytes, report.rotten_blocks,
               report.rotten_blocks == 1 ? "" : "s");
        printf("without  %" PRIu64 " bytes have no checksum\n", report.uncovered_bytes);
        if (report.broken_sectors > 0)
            printf("broken   %" PRIu64 " sector%s of the checksum file\n", report.broken_sectors,
                   report.broken_sectors == 1 ? "" : "s");
        if (report.tail_rotten)
            printf("tail     the last block is rotten: if many before it are, too, the store may be an older copy\n");
    }
    printf("sums     %s\n", state_text(report.state));
    return judge(sum, &report);
}

static int rebuild(struct sum *sum, const struct cellar_sums_options *options)
{
    int error = cellar_sums_rebuild(sum->store, options);

    cellar_progress_clear(&sum->progress);
    return error == 0 ? CELLAR_EXIT_DONE : cellar_tool_store_error(sum->store, error, options->diagnostic);
}

static int add(struct sum *sum, const struct cellar_sums_options *options)
{
    int error = cellar_sums_add(sum->store, options);

    cellar_progress_clear(&sum->progress);
    return error == 0 ? CELLAR_EXIT_DONE : cellar_tool_store_error(sum->store, error, options->diagnostic);
}

static int restore(struct sum *sum, const struct cellar_sums_options *options)
{
    struct cellar_config config;
    uint32_t next_index, root_index;
    int error = cellar_sums_restore(sum->store, sum->made, options, &config, &next_index, &root_index);

    cellar_progress_clear(&sum->progress);
    if (error != 0)
        return cellar_tool_store_error(sum->store, error, options->diagnostic);
    printf("restored %s: cells of %" PRIu32 " bytes, next %" PRIu32 ", root %" PRIu32 "\n", sum->made,
           config.bytes_per_cell, next_index, root_index);
    return CELLAR_EXIT_DONE;
}

static const struct command {
    const char *name;
    int operand_count;
    bool takes_force;
    int (*run)(struct sum *sum, const struct cellar_sums_options *options);
} commands[] = {
    {"check", 1, .run = check},
    {"rebuild", 1, .takes_force = true, .run = rebuild},
    {"add", 1, .run = add},
    {"restore", 2, .run = restore},
};

/* ---- the command line ---- */

static const struct command *find_command(const char *name)
{
    for (size_t i = 0; i < sizeof commands / sizeof commands[0]; i++) {
        if (strcmp(commands[i].name, name) == 0)
            return &commands[i];
    }
    return NULL;
}

/* operands: the command and what comes after it. The exit code. */
static int run(struct sum *sum, int count, char **operands)
{
    struct cellar_diagnostic diagnostic = {.error = 0};
    struct cellar_sums_options options = {
        .progress = tell_progress, .rotten = tell_rot, .user = sum, .force = sum->force, .diagnostic = &diagnostic};
    const struct command *command;

    if (count == 0)
        return cellar_tool_usage("expected a command");
    command = find_command(operands[0]);
    if (command == NULL)
        return cellar_tool_usage("found command '%s', expected check, rebuild, add or restore", operands[0]);
    if (count - 1 != command->operand_count)
        return cellar_tool_usage("%s: found %d operand%s, expected %s", command->name, count - 1, count == 2 ? "" : "s",
                                 command->operand_count == 1 ? "STORE" : "STORE and NEW");
    if (sum->force && !command->takes_force)
        return cellar_tool_usage("%s does not take --force", command->name);
    sum->store = operands[1];
    sum->made = command->operand_count > 1 ? operands[2] : NULL;
    return command->run(sum, &options);
}

int main(int argc, char **argv)
{
    struct sum sum = {.store = NULL};
    int option;

    cellar_tool_begin("cellsum", help);
    if (argc <= 1)
        return cellar_tool_refuse();
    while ((option = getopt_long(argc, argv, "", long_options, NULL)) != -1) {
        switch (option) {
        case OPTION_FORCE:
            sum.force = true;
            break;
        case OPTION_HELP:
            return cellar_tool_print_help();
        case OPTION_VERSION:
            return cellar_tool_print_version();
        default:
            return cellar_tool_usage(NULL);
        }
    }
    return cellar_tool_finish(run(&sum, argc - optind, argv + optind));
}
