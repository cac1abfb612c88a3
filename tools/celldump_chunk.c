/* celldump_chunk.c - celldump chunk: the chain of one value, its pieces, its content. */
#include "celldump.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

/* One chunk of a chain that was walked before: how it is shown. position: 0 for the first bytes of the value. 0, or a
 * negative error (said why). */
typedef int show_chunk_fn(struct cellar_dump *dump, uint64_t position, const struct cellar_chunk *chunk);

static uint64_t chunk_offset(const struct cellar_dump *dump, const struct cellar_chunk *chunk)
{
    return (uint64_t)chunk->first_index * dump->config.bytes_per_cell;
}

/* The bytes of the value that the chunk holds; bytes has room for CELLAR_CHUNK_BYTES_MAX. */
static int read_chunk(struct cellar_dump *dump, const struct cellar_chunk *chunk, unsigned char *bytes)
{
    return cellar_dump_read(dump, chunk_offset(dump, chunk), bytes, chunk->size_bytes);
}

static int show_raw(struct cellar_dump *dump, uint64_t position, const struct cellar_chunk *chunk)
{
    unsigned char bytes[CELLAR_CHUNK_BYTES_MAX];
    int error = read_chunk(dump, chunk, bytes);

    (void)position;
    if (error == 0)
        fwrite(bytes, 1, chunk->size_bytes, stdout);
    return error;
}

static int show_hex(struct cellar_dump *dump, uint64_t position, const struct cellar_chunk *chunk)
{
    unsigned char bytes[CELLAR_CHUNK_BYTES_MAX];
    int error = read_chunk(dump, chunk, bytes);

    (void)position;
    if (error == 0)
        cellar_dump_print_hex(stdout, bytes, chunk->size_bytes);
    return error;
}

static int show_text(struct cellar_dump *dump, uint64_t position, const struct cellar_chunk *chunk)
{
    unsigned char bytes[CELLAR_CHUNK_BYTES_MAX];
    uint64_t offset = chunk_offset(dump, chunk);
    int error = read_chunk(dump, chunk, bytes);

    (void)position;
    if (error != 0)
        return error;
    printf("chunk %" PRIu32 ": cells %" PRIu32 "..%" PRIu32 ", %" PRIu32 " bytes at offset %" PRIu64 ", cdr %" PRIu32
           "\n",
           chunk->last_index, chunk->first_index, chunk->last_index, chunk->size_bytes, offset, chunk->cdr);
    cellar_dump_print_lines(stdout, offset, bytes, chunk->size_bytes);
    return 0;
}

static int show_json(struct cellar_dump *dump, uint64_t position, const struct cellar_chunk *chunk)
{
    printf("%s\n    {\"last_index\": %" PRIu32 ", \"first_index\": %" PRIu32 ", \"file_offset\": %" PRIu64
           ", \"size_bytes\": %" PRIu32 ", \"cdr\": %" PRIu32 "}",
           position == 0 ? "" : ",", chunk->last_index, chunk->first_index, chunk_offset(dump, chunk),
           chunk->size_bytes, chunk->cdr);
    return 0;
}

/* Shows the chunks that were walked, in the order of the value's bytes. */
static int show_chunks(struct cellar_dump *dump, const struct cellar_dump_chain *chain, show_chunk_fn *show)
{
    for (uint64_t i = 0; i < chain->chunk_count && ferror(stdout) == 0; i++) {
        struct cellar_dump_problem problem;
        struct cellar_chunk chunk;
        int result = cellar_dump_chunk(dump, chain->last_indices[chain->chunk_count - 1 - i], &chunk, &problem);

        if (result > 0) {
            cellar_tool_error(dump->path, problem.file_offset, "%s: it was changed just now", problem.text);
            result = CELLAR_ECORRUPT;
        }
        if (result == 0)
            result = show(dump, i, &chunk);
        if (result != 0)
            return result;
    }
    return 0;
}

/* The value as JSON, written piece by piece: it may be larger than memory. */
static int print_json(struct cellar_dump *dump, uint32_t index, const struct cellar_dump_chain *chain)
{
    json_t *problems;
    int error;

    printf("{\n  \"index\": %" PRIu32 ",\n  \"size_bytes\": ", index);
    if (chain->broken)
        fputs("null", stdout);
    else
        printf("%" PRIu64, chain->size_bytes);
    fputs(",\n  \"chunks\": [", stdout);
    error = show_chunks(dump, chain, show_json);
    fputs("\n  ],\n  \"hex\": ", stdout);
    if (error == 0 && chain->broken) {
        fputs("null", stdout);
    } else if (error == 0) {
        putchar('"');
        error = show_chunks(dump, chain, show_hex);
        putchar('"');
    }
    if (error != 0)
        return error;
    fputs(",\n  \"problems\": ", stdout);
    problems = cellar_dump_problems_json(dump);
    if (json_dumpf(problems, stdout, JSON_COMPACT) != 0 && ferror(stdout) == 0)
        error = -ENOMEM;
    json_decref(problems);
    puts("\n}");
    return error;
}

static int print_text(struct cellar_dump *dump, uint32_t index, const struct cellar_dump_chain *chain)
{
    if (chain->broken)
        printf("value %" PRIu32 ": broken chain, its last %" PRIu64 " chunks (%" PRIu64 " bytes) are whole\n", index,
               chain->chunk_count, chain->size_bytes);
    else
        printf("value %" PRIu32 ": %" PRIu64 " bytes in %" PRIu64 " chunk%s\n", index, chain->size_bytes,
               chain->chunk_count, chain->chunk_count == 1 ? "" : "s");
    return show_chunks(dump, chain, show_text);
}

/* Refuses what is no cell of the store. 0, or the exit code (said why). */
static int check_index(const struct cellar_dump *dump, uint32_t index)
{
    uint32_t bound;

    if (!dump->cells_known) {
        cellar_tool_error(dump->path, CELLAR_AT_BYTES_PER_CELL, "cells cannot be told apart without bytes per cell");
        return CELLAR_EXIT_CORRUPT;
    }
    bound = cellar_dump_bound(dump);
    if (index >= dump->start_index && index < bound)
        return 0;
    if (bound <= dump->start_index)
        cellar_tool_error(dump->path, CELLAR_OFFSET_NONE,
                          "found index %" PRIu32 " asked for, expected none: the store is empty", index);
    else
        cellar_tool_error(dump->path, CELLAR_OFFSET_NONE,
                          "found index %" PRIu32 " asked for, expected one from %" PRIu32 " to %" PRIu32
                          ", the cells in use",
                          index, dump->start_index, bound - 1);
    return CELLAR_EXIT_SYSTEM;
}

int cellar_dump_value(struct cellar_dump *dump, const struct cellar_dump_options *options)
{
    int exit_code = check_index(dump, options->index);
    struct cellar_dump_chain chain;
    int error;

    if (exit_code != 0) {
        cellar_dump_print_problems(dump);
        return exit_code;
    }
    error = cellar_dump_chain_walk(dump, options->index, true, &chain);
    cellar_dump_print_problems(dump);
    if (error != 0)
        return CELLAR_EXIT_SYSTEM;
    if (options->json)
        error = print_json(dump, options->index, &chain);
    else if (!options->raw)
        error = print_text(dump, options->index, &chain);
    else if (!chain.broken)
        error = show_chunks(dump, &chain, show_raw);
    cellar_dump_chain_free(&chain);
    return error != 0 ? CELLAR_EXIT_SYSTEM : cellar_dump_exit_code(dump);
}
