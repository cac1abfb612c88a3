/* celldump_cell.c - celldump cell: cells as bytes. */
#include "celldump.h"

#include <inttypes.h>
#include <stdio.h>

/* What the cell is, as far as the header says. */
static const char *cell_kind(const struct cellar_dump *dump, uint64_t index)
{
    const struct cellar_state *disk = cellar_dump_flushed(dump);
    const struct cellar_state *process = cellar_dump_committed(dump);

    if (index < dump->start_index)
        return "of the header";
    if (disk != NULL && index < disk->next_index)
        return "flushed";
    if (process != NULL && index < process->next_index)
        return "committed, not flushed";
    return "beyond next index: not in use";
}

static int print_cell(struct cellar_dump *dump, uint64_t index, bool raw)
{
    unsigned char bytes[CELLAR_BYTES_PER_CELL_MAX];
    uint32_t length = dump->config.bytes_per_cell;
    uint64_t offset = index * length;
    int error = cellar_dump_read(dump, offset, bytes, length);

    if (error != 0)
        return error;
    if (raw) {
        fwrite(bytes, 1, length, stdout);
        return 0;
    }
    printf("cell %" PRIu64 ": bytes %" PRIu64 "..%" PRIu64 ", %s\n", index, offset, offset + length - 1,
           cell_kind(dump, index));
    cellar_dump_print_lines(stdout, offset, bytes, length);
    return 0;
}

int cellar_dump_cell(struct cellar_dump *dump, const struct cellar_dump_options *options)
{
    uint64_t end = (uint64_t)options->index + options->count;

    cellar_dump_print_problems(dump);
    if (!dump->cells_known) {
        cellar_tool_error(dump->path, CELLAR_AT_BYTES_PER_CELL, "cells cannot be told apart without bytes per cell");
        return CELLAR_EXIT_CORRUPT;
    }
    if (end > dump->cell_count) {
        if (dump->cell_count == 0)
            cellar_tool_error(dump->path, CELLAR_OFFSET_NONE,
                              "found cell %" PRIu32 " asked for, expected none: the file holds no whole cell",
                              options->index);
        else
            cellar_tool_error(dump->path, CELLAR_OFFSET_NONE,
                              "found cells %" PRIu32 "..%" PRIu64 " asked for, expected cells within 0..%" PRIu64
                              ", those of the file",
                              options->index, end - 1, dump->cell_count - 1);
        return CELLAR_EXIT_SYSTEM;
    }
    for (uint64_t index = options->index; index < end && ferror(stdout) == 0; index++) {
        if (print_cell(dump, index, options->raw) != 0)
            return CELLAR_EXIT_SYSTEM;
    }
    return cellar_dump_exit_code(dump);
}
