/*
 * trace_file.c - recorded traces, as bytes:
 *
 *     16   "cellar trace 1", then two zeros
 *      4   page_bytes, least significant byte first
 *      4   how many uses follow, least significant byte first
 *      n   for each use the number of its page less that of the use before (0 before the first), d: as 2 d where d is
 *          not negative, else as -2 d - 1; in groups of seven bits, the lowest first, a byte each, with 0x80 added to
 *          all but the last
 */
#include "trace.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAGIC_BYTES = 16, HEAD_BYTES = 24, USES_MAX = 1 << 24 };

static const char magic[MAGIC_BYTES] = "cellar trace 1";

static const struct recorded {
    const char *name, *what;
} recorded[] = {
    {"store-append",
     "Recorded: values of up to 8 KiB are appended in chains, one for each of 64 keys; after each fourth "
     "one a value of the last 50 is read, after each tenth up to eight values of a chain."},
    {"store-random", "Recorded: values of up to 8 KiB are read at random, all as likely."},
    {"store-recent",
     "Recorded: one value is appended for nine that are read; how far back these lie is as likely to be "
     "1 as 2 to 3, 4 to 7, 8 to 15 and so on."},
    {"store-tree", "Recorded: a tree of 4,096 leaves, 16 children a node, each node a value of 576 bytes with the "
                   "indices and hashes of its children. Four lookups from the root to a leaf, then one update, which "
                   "appends the leaf and the nodes above it; some leaves are used much more than others."},
};

const size_t evict_recorded_count = sizeof recorded / sizeof recorded[0];

static uint32_t load_32(const unsigned char *bytes)
{
    return (uint32_t)bytes[0] | (uint32_t)bytes[1] << 8 | (uint32_t)bytes[2] << 16 | (uint32_t)bytes[3] << 24;
}

static void store_32(unsigned char *bytes, uint32_t value)
{
    for (unsigned i = 0; i < 4; i++)
        bytes[i] = (unsigned char)(value >> 8 * i);
}

static FILE *open_file(const char *folder, const char *name, const char *mode)
{
    char path[4096];
    int length = snprintf(path, sizeof path, "%s/%s.trace", folder, name);

    if (length < 0 || (size_t)length >= sizeof path) {
        errno = ENAMETOOLONG;
        return NULL;
    }
    return fopen(path, mode);
}

static int read_number(FILE *file, uint64_t *ret_number)
{
    uint64_t number = 0;

    for (unsigned shift = 0; shift < 63; shift += 7) {
        int byte = getc(file);

        if (byte == EOF)
            return -EBADMSG;
        number |= (uint64_t)(byte & 0x7f) << shift;
        if (byte < 0x80) {
            *ret_number = number;
            return 0;
        }
    }
    return -EBADMSG;
}

static int read_uses(FILE *file, uint64_t *numbers, size_t count)
{
    uint64_t page = 0;
    int status = 0;

    for (size_t i = 0; i < count && status == 0; i++) {
        uint64_t code = 0;

        status = read_number(file, &code);
        page += code & 1 ? ~(code >> 1) : code >> 1;
        numbers[i] = page;
    }
    if (status == 0 && getc(file) != EOF)
        status = -EBADMSG;
    return status;
}

int evict_trace_read(const char *folder, size_t index, struct evict_trace *ret_trace)
{
    const struct recorded *entry = &recorded[index];
    FILE *file = open_file(folder, entry->name, "rb");
    unsigned char head[HEAD_BYTES];
    uint64_t *numbers = NULL;
    size_t count = 0;
    int status = 0;

    if (file == NULL)
        return -errno;
    if (fread(head, sizeof head, 1, file) != 1 || memcmp(head, magic, sizeof magic) != 0)
        status = -EBADMSG;
    if (status == 0) {
        count = load_32(head + MAGIC_BYTES + 4);
        numbers = count > 0 && count <= USES_MAX ? malloc(count * sizeof *numbers) : NULL;
        status = count == 0 || count > USES_MAX ? -EBADMSG : numbers == NULL ? -ENOMEM : 0;
    }
    if (status == 0)
        status = read_uses(file, numbers, count);
    fclose(file);
    if (status == 0)
        status = evict_trace_make(entry->name, entry->what, numbers, count, ret_trace);
    free(numbers);
    return status;
}

static void write_uses(FILE *file, const uint64_t *numbers, size_t count)
{
    uint64_t page = 0;

    for (size_t i = 0; i < count; i++) {
        const uint64_t step = numbers[i] - page;
        uint64_t code = step >> 63 ? ~step << 1 | 1 : step << 1;

        for (; code >= 0x80; code >>= 7)
            putc((int)(code & 0x7f) | 0x80, file);
        putc((int)code, file);
        page = numbers[i];
    }
}

int evict_trace_write(const char *folder, const char *name, uint32_t page_bytes, const uint64_t *numbers, size_t count)
{
    unsigned char head[HEAD_BYTES];
    size_t index = 0;
    FILE *file;

    while (index < evict_recorded_count && strcmp(recorded[index].name, name) != 0)
        index++;
    if (index == evict_recorded_count)
        return -ENOENT;
    if (count > USES_MAX)
        return -EFBIG;
    file = open_file(folder, name, "wb");
    if (file == NULL)
        return -errno;
    memcpy(head, magic, sizeof magic);
    store_32(head + MAGIC_BYTES, page_bytes);
    store_32(head + MAGIC_BYTES + 4, (uint32_t)count);
    fwrite(head, sizeof head, 1, file);
    write_uses(file, numbers, count);
    if (ferror(file)) {
        fclose(file);
        return -EIO;
    }
    return fclose(file) == 0 ? 0 : -errno;
}
