/* celldump_text.c - bytes and numbers as text and JSON. */
#include "celldump.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum { LINE_BYTES = 16 };

static const char digits[] = "0123456789abcdef";

static char printable(unsigned char byte)
{
    return byte >= 0x20 && byte < 0x7f ? (char)byte : '.';
}

char *cellar_dump_hex(const void *bytes, size_t length_bytes, char *text)
{
    const unsigned char *b = bytes;

    for (size_t i = 0; i < length_bytes; i++) {
        text[2 * i] = digits[b[i] >> 4];
        text[2 * i + 1] = digits[b[i] & 15];
    }
    text[2 * length_bytes] = '\0';
    return text;
}

void cellar_dump_print_hex(FILE *stream, const void *bytes, size_t length_bytes)
{
    const unsigned char *b = bytes;
    char text[2 * 256 + 1];

    while (length_bytes > 0) {
        size_t length = length_bytes < 256 ? length_bytes : 256;

        fputs(cellar_dump_hex(b, length, text), stream);
        b += length;
        length_bytes -= length;
    }
}

void cellar_dump_print_quoted(FILE *stream, const void *bytes, size_t length_bytes)
{
    const unsigned char *b = bytes;

    putc('"', stream);
    for (size_t i = 0; i < length_bytes; i++) {
        if (b[i] == '"' || b[i] == '\\')
            fprintf(stream, "\\%c", b[i]);
        else if (b[i] >= 0x20 && b[i] < 0x7f)
            putc(b[i], stream);
        else
            fprintf(stream, "\\x%02x", b[i]);
    }
    putc('"', stream);
}

void cellar_dump_print_lines(FILE *stream, uint64_t offset, const void *bytes, size_t length_bytes)
{
    const unsigned char *b = bytes;

    for (size_t at = 0; at < length_bytes; at += LINE_BYTES) {
        size_t length = length_bytes - at < LINE_BYTES ? length_bytes - at : LINE_BYTES;
        char line[3 * LINE_BYTES + 2], text[LINE_BYTES + 1];

        memset(line, ' ', sizeof line - 1);
        line[sizeof line - 1] = '\0';
        for (size_t i = 0; i < length; i++) {
            char *place = line + 3 * i + (i >= LINE_BYTES / 2);

            place[0] = digits[b[at + i] >> 4];
            place[1] = digits[b[at + i] & 15];
            text[i] = printable(b[at + i]);
        }
        text[length] = '\0';
        fprintf(stream, "%08" PRIx64 "  %s |%s|\n", offset + at, line, text);
    }
}

const char *cellar_dump_root_text(uint32_t root_index)
{
    static char texts[2][16];
    static unsigned turn;

    if (root_index == CELLAR_ROOT_NONE)
        return "none";
    turn ^= 1;
    snprintf(texts[turn], sizeof texts[turn], "%" PRIu32, root_index);
    return texts[turn];
}

json_t *cellar_dump_problems_json(const struct cellar_dump *dump)
{
    json_t *texts = json_array();

    for (size_t i = 0; i < dump->problem_count; i++)
        json_array_append_new(
            texts, json_sprintf("offset %" PRIu64 ": %s", dump->problems[i].file_offset, dump->problems[i].text));
    return texts;
}

int cellar_dump_print_json(json_t *value)
{
    int error = value == NULL ? -ENOMEM : 0;

    /* What can't be written is said when standard output is flushed. */
    if (error == 0 && json_dumpf(value, stdout, JSON_INDENT(2)) != 0 && ferror(stdout) == 0)
        error = -ENOMEM;
    if (error != 0)
        cellar_tool_error(NULL, CELLAR_OFFSET_NONE, "cannot make the JSON text: %s", cellar_strerror(error));
    else
        putchar('\n');
    json_decref(value);
    return error;
}
