/* celldump_chain.c - walking the chain of a value's chunks, from the last one back. */
#include "celldump.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int not_a_chunk(struct cellar_dump_problem *problem, uint64_t file_offset, const char *text)
{
    problem->file_offset = file_offset;
    snprintf(problem->text, sizeof problem->text, "%s", text);
    return CELLAR_NONE;
}

/* The footer of the chunk that ends with last_index, a cell of the file, unchecked. As cellar_dump_chunk. */
static int read_footer(struct cellar_dump *dump, uint32_t last_index, uint64_t *ret_offset,
                       struct cellar_footer *ret_footer, struct cellar_dump_problem *ret_problem)
{
    uint32_t bytes_per_cell = dump->config.bytes_per_cell;
    unsigned char bytes[CELLAR_FOOTER_BYTES];
    char text[CELLAR_DUMP_TEXT_BYTES];
    uint64_t offset;
    int error;

    if (cellar_footer_offset(bytes_per_cell, last_index, last_index + 1, &offset) != 0) {
        snprintf(text, sizeof text,
                 "found cell %" PRIu32 ", expected one that has room for a footer of %d bytes behind the header",
                 last_index, CELLAR_FOOTER_BYTES);
        return not_a_chunk(ret_problem, (uint64_t)last_index * bytes_per_cell, text);
    }
    error = cellar_dump_read(dump, offset, bytes, sizeof bytes);
    if (error != 0)
        return error;
    *ret_offset = offset;
    *ret_footer = cellar_footer_decode(bytes);
    return 0;
}

int cellar_dump_chunk(struct cellar_dump *dump, uint32_t last_index, struct cellar_chunk *ret_chunk,
                      struct cellar_dump_problem *ret_problem)
{
    struct cellar_footer footer;
    const char *expected;
    uint64_t offset = 0;
    int result = read_footer(dump, last_index, &offset, &footer, ret_problem);

    if (result != 0)
        return result;
    if (cellar_chunk_check(dump->config.bytes_per_cell, last_index, &footer, ret_chunk, &expected) != 0) {
        char text[CELLAR_DUMP_TEXT_BYTES];

        snprintf(text, sizeof text, "found size %" PRIu32 " and cdr %" PRIu32 " at cell %" PRIu32 ", expected %s",
                 footer.size_bytes, footer.cdr, last_index, expected);
        return not_a_chunk(ret_problem, offset, text);
    }
    return 0;
}

static int keep_index(struct cellar_dump_chain *chain, uint32_t last_index)
{
    if (chain->chunk_count == chain->capacity) {
        size_t capacity = chain->capacity == 0 ? 64 : 2 * chain->capacity;
        uint32_t *grown = reallocarray(chain->last_indices, capacity, sizeof *grown);

        if (grown == NULL) {
            cellar_tool_error(NULL, CELLAR_OFFSET_NONE, "%s", cellar_strerror(-ENOMEM));
            return -ENOMEM;
        }
        chain->last_indices = grown;
        chain->capacity = capacity;
    }
    chain->last_indices[chain->chunk_count] = last_index;
    return 0;
}

int cellar_dump_chain_walk(struct cellar_dump *dump, uint32_t last_index, bool keep,
                           struct cellar_dump_chain *ret_chain)
{
    struct cellar_dump_chain chain = {.first_index = last_index};
    uint32_t index = last_index;

    /* Ends: every cdr that passes the check is smaller than the index it was found at. */
    do {
        struct cellar_dump_problem problem;
        struct cellar_chunk chunk;
        int result = cellar_dump_chunk(dump, index, &chunk, &problem);

        if (result == CELLAR_NONE) {
            cellar_dump_add_problem(dump, CELLAR_DUMP_CORRUPT, problem.file_offset, "%s", problem.text);
            chain.broken = true;
            break;
        }
        if (result == 0 && keep)
            result = keep_index(&chain, index);
        if (result != 0) {
            cellar_dump_chain_free(&chain);
            return result;
        }
        chain.chunk_count++;
        chain.size_bytes += chunk.size_bytes;
        chain.first_index = chunk.first_index;
        index = chunk.cdr;
    } while (index != 0);
    *ret_chain = chain;
    return 0;
}

void cellar_dump_chain_free(struct cellar_dump_chain *chain)
{
    free(chain->last_indices);
    chain->last_indices = NULL;
    chain->capacity = 0;
}

/* True if index ends a chunk of 65535 bytes that is the first of its value or follows right behind the one before. */
static int ends_full_chunk(struct cellar_dump *dump, uint32_t index, bool *ret_ends)
{
    struct cellar_dump_problem problem;
    struct cellar_chunk chunk;
    int result = index < dump->start_index ? CELLAR_NONE : cellar_dump_chunk(dump, index, &chunk, &problem);

    if (result < 0)
        return result;
    *ret_ends = result == 0 && chunk.size_bytes == CELLAR_CHUNK_BYTES_MAX &&
                (chunk.cdr == 0 || chunk.cdr == chunk.first_index - 1);
    return 0;
}

/* True if the footer at index, damaged or not, is still that of a chunk before the last of a value: its size says so,
 * or its cdr does. */
static int looks_like_full_chunk(struct cellar_dump *dump, uint32_t index, bool *ret_looks)
{
    struct cellar_dump_problem problem;
    struct cellar_footer footer;
    uint64_t offset;
    int result = read_footer(dump, index, &offset, &footer, &problem);

    if (result < 0)
        return result;
    *ret_looks = result == 0 && (footer.size_bytes == CELLAR_CHUNK_BYTES_MAX || footer.cdr == 0);
    if (result != 0 || *ret_looks || footer.cdr >= index)
        return 0;
    return ends_full_chunk(dump, footer.cdr, ret_looks);
}

enum { PADDING_EVIDENCE_BYTES = 8 };

/* True if between the data of the chunk, as long as its footer says, and the footer lie zeros, enough of them to mean
 * something: what a writer leaves in fresh space. */
static int has_zero_padding(struct cellar_dump *dump, uint32_t first_index, uint32_t size_bytes, uint64_t footer_offset,
                            bool *ret_has)
{
    unsigned char bytes[CELLAR_BYTES_PER_CELL_MAX];
    uint64_t from = (uint64_t)first_index * dump->config.bytes_per_cell + size_bytes;
    size_t length_bytes = (size_t)(footer_offset - from);
    int error;

    *ret_has = false;
    if (size_bytes == 0 || length_bytes < PADDING_EVIDENCE_BYTES || length_bytes > sizeof bytes)
        return 0;
    error = cellar_dump_read(dump, from, bytes, length_bytes);
    if (error == 0)
        *ret_has = bytes[0] == 0 && memcmp(bytes, bytes + 1, length_bytes - 1) == 0;
    return error;
}

int cellar_dump_is_value(struct cellar_dump *dump, uint32_t index, bool *ret_is_value)
{
    struct cellar_dump_problem problem;
    struct cellar_footer footer;
    uint64_t offset;
    uint32_t cells, first;
    int result = read_footer(dump, index, &offset, &footer, &problem);

    *ret_is_value = false;
    if (result != 0)
        return result < 0 ? result : 0;
    /* What it names ends a full chunk: this is the chunk behind that one, whatever else is wrong with it. */
    if (footer.cdr < index) {
        result = ends_full_chunk(dump, footer.cdr, ret_is_value);
        if (result != 0 || *ret_is_value)
            return result;
    }
    cells = cellar_chunk_cells(dump->config.bytes_per_cell, footer.size_bytes);
    if (index < dump->start_index || cells > index - dump->start_index + 1)
        return 0;
    first = index - cells + 1;
    if (footer.cdr == 0 || (footer.cdr >= index && footer.cdr < cellar_dump_bound(dump))) {
        *ret_is_value = true;
        return 0;
    }
    result = has_zero_padding(dump, first, footer.size_bytes, offset, ret_is_value);
    if (result != 0 || *ret_is_value)
        return result;
    if (footer.cdr == first - 1 && footer.size_bytes > 0)
        return looks_like_full_chunk(dump, footer.cdr, ret_is_value);
    return ends_full_chunk(dump, first - 1, ret_is_value);
}
