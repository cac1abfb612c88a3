/* celldump_file.c - the file: opening it, whatever it is, and reading it. */
#include "celldump.h"

#include "cell/record.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

enum { HEADER_READS_MAX = 10, HEADER_PAUSE_MS = 2 };

static const char *kind_of(mode_t mode)
{
    switch (mode & S_IFMT) {
    case S_IFDIR:
        return "a directory";
    case S_IFIFO:
        return "a FIFO";
    case S_IFSOCK:
        return "a socket";
    case S_IFCHR:
    case S_IFBLK:
        return "a device";
    default:
        return "no regular file";
    }
}

static int open_device(struct cellar_dump *dump)
{
    struct stat status;
    int error;

    /* Not opened at all if it is no regular file: opening some devices does something. */
    if (stat(dump->path, &status) == 0 && !S_ISREG(status.st_mode)) {
        cellar_tool_error(dump->path, CELLAR_OFFSET_NONE, "found %s, expected a regular file", kind_of(status.st_mode));
        return -EINVAL;
    }
    error = cellar_device_open_pread(dump->path, CELLAR_OPEN_READ, 0, &dump->device);
    if (error != 0)
        cellar_tool_error(dump->path, CELLAR_OFFSET_NONE, "cannot open: %s, expected a readable file",
                          cellar_strerror(error));
    return error;
}

static bool slots_are_valid(const unsigned char *header)
{
    for (int i = 0; i < CELLAR_SLOT_COUNT; i++) {
        if (!cellar_slot_decode(header + cellar_slot_offset((enum cellar_slot_name)i)).valid)
            return false;
    }
    return true;
}

/* Says why bytes could not be read. Returns error. */
static int read_failed(const struct cellar_dump *dump, uint64_t offset, size_t length_bytes, int error)
{
    if (error == CELLAR_EBOUNDS)
        cellar_tool_error(dump->path, offset, "found the end of the file, expected %zu bytes: it was cut just now",
                          length_bytes);
    else
        cellar_tool_error(dump->path, offset, "cannot read %zu bytes: %s", length_bytes, cellar_strerror(error));
    return error;
}

/*
 * Reads the header. A writer may be storing into it: what holds a broken slot is read again for some milliseconds
 * before it is believed. The size is asked last, as a writer grows the file before it publishes what needs the space.
 */
static int read_header(struct cellar_dump *dump)
{
    const struct timespec pause = {.tv_nsec = HEADER_PAUSE_MS * 1000 * 1000};
    int error = 0;

    for (int i = 0; i < HEADER_READS_MAX; i++) {
        if (i > 0)
            nanosleep(&pause, NULL);
        error = cellar_device_size(dump->device, &dump->file_bytes);
        if (error != 0)
            break;
        dump->header_bytes = dump->file_bytes < sizeof dump->header ? (size_t)dump->file_bytes : sizeof dump->header;
        error = cellar_device_read(dump->device, dump->header, dump->header_bytes, 0);
        if (error == 0 && (dump->header_bytes < sizeof dump->header || slots_are_valid(dump->header)))
            break;
        if (error != 0 && error != CELLAR_EBOUNDS)
            break;
    }
    if (error == 0)
        error = cellar_device_size(dump->device, &dump->file_bytes);
    if (error != 0)
        return read_failed(dump, 0, dump->header_bytes, error);
    if (dump->file_bytes < dump->header_bytes)
        dump->header_bytes = (size_t)dump->file_bytes;
    return 0;
}

/* Whether the state that was flushed last stands in a record alone, and the committed one in the published word. */
static int find_extended(struct cellar_dump *dump)
{
    struct cellar_pick_problem problem = {.file_offset = 0};
    struct cellar_evidence evidence;
    struct cellar_config config;
    struct cellar_pick pick;
    int error;

    dump->record = -1;
    if (dump->header_bytes < sizeof dump->header)
        return 0;
    cellar_config_decode(dump->header, &config);
    if (cellar_config_check(&config, NULL, NULL) != 0)
        return 0;
    error = cellar_evidence_gather(dump->device, dump->header, config.bytes_per_cell,
                                   dump->file_bytes / config.bytes_per_cell, true, &evidence);
    if (error != 0)
        return read_failed(dump, CELLAR_AT_RECORDS, CELLAR_RECORD_COUNT * CELLAR_RECORD_BYTES, error);
    if (cellar_pick_disk(&evidence, &pick, NULL) == 0 && pick.record >= 0) {
        dump->record = pick.record;
        dump->recorded = pick.disk;
    }
    dump->word = evidence.extension.word;
    error = cellar_pick_writer(&evidence, &pick, &problem);
    dump->by_word = error == 0 && pick.word;
    dump->wild_word = error != 0 && problem.file_offset == CELLAR_AT_WORD + 4;
    return 0;
}

int cellar_dump_open(struct cellar_dump *dump, const char *path, const struct cellar_key *key)
{
    int error;

    memset(dump, 0, sizeof *dump);
    dump->path = path;
    dump->key = key;
    error = open_device(dump);
    if (error == 0)
        error = read_header(dump);
    if (error == 0)
        error = find_extended(dump);
    if (error == 0)
        cellar_dump_examine(dump);
    return error;
}

void cellar_dump_close(struct cellar_dump *dump)
{
    cellar_device_close(dump->device);
    dump->device = NULL;
}

/* Makes the block that offset lies in the one at hand. */
static int load_block(struct cellar_dump *dump, uint64_t offset)
{
    uint64_t at = offset - offset % CELLAR_DUMP_BLOCK_BYTES;
    uint64_t rest = dump->file_bytes - at;
    size_t length = rest < CELLAR_DUMP_BLOCK_BYTES ? (size_t)rest : CELLAR_DUMP_BLOCK_BYTES;
    int error;

    if (dump->block_bytes > 0 && dump->block_offset == at)
        return 0;
    dump->block_bytes = 0;
    error = cellar_device_read(dump->device, dump->block, length, at);
    if (error != 0)
        return read_failed(dump, at, length, error);
    dump->block_offset = at;
    dump->block_bytes = length;
    return 0;
}

int cellar_dump_read(struct cellar_dump *dump, uint64_t offset, void *buffer, size_t length_bytes)
{
    unsigned char *to = buffer;

    if (offset > dump->file_bytes || length_bytes > dump->file_bytes - offset)
        return read_failed(dump, offset, length_bytes, CELLAR_EBOUNDS);
    if (length_bytes >= CELLAR_DUMP_BLOCK_BYTES) {
        int error = cellar_device_read(dump->device, buffer, length_bytes, offset);

        return error == 0 ? 0 : read_failed(dump, offset, length_bytes, error);
    }
    while (length_bytes > 0) {
        int error = load_block(dump, offset);
        size_t inside, length;

        if (error != 0)
            return error;
        inside = (size_t)(offset - dump->block_offset);
        length = dump->block_bytes - inside < length_bytes ? dump->block_bytes - inside : length_bytes;
        memcpy(to, dump->block + inside, length);
        to += length;
        offset += length;
        length_bytes -= length;
    }
    return 0;
}
