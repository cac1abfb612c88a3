#include "sum/sum_look.h"

#include "base/bytes.h"
#include "base/diagnose.h"
#include "cell/record.h"
#include "sum/sum_name.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <time.h>

/* A header that a writer may be storing into is read again for some milliseconds before it is called broken. */
enum { HEADER_READS_MAX = 10, HEADER_PAUSE_MS = 2 };

/* A later state, of a checked flush, that a power loss left in a record alone. CELLAR_NONE: there is none. */
static int find_recorded(struct cellar_device *device, const unsigned char *header, struct cellar_state *ret_state)
{
    struct cellar_evidence evidence;
    struct cellar_config config;
    struct cellar_pick pick;
    uint64_t size_bytes;
    int error;

    cellar_config_decode(header, &config);
    if ((cellar_extension_decode(header).flags & CELLAR_FLAG_CHECKED) == 0 ||
        cellar_config_check(&config, NULL, NULL) != 0)
        return CELLAR_NONE;
    error = cellar_device_size(device, &size_bytes);
    if (error == 0)
        error = cellar_evidence_gather(device, header, config.bytes_per_cell, size_bytes / config.bytes_per_cell, true,
                                       &evidence);
    if (error != 0)
        return error;
    if (cellar_pick_disk(&evidence, &pick, NULL) != 0 || pick.record < 0)
        return CELLAR_NONE;
    *ret_state = pick.disk;
    return 0;
}

/* The disk-sync state of the header. */
static int decode_flushed(struct cellar_device *device, const unsigned char *header, struct cellar_state *ret_state)
{
    int error = find_recorded(device, header, ret_state), which;
    struct cellar_slot slots[2];

    if (error <= 0)
        return error;
    for (int i = 0; i < 2; i++)
        slots[i] = cellar_slot_decode(header + cellar_slot_offset((enum cellar_slot_name)(CELLAR_DISK_1 + i)));
    which = cellar_slot_pick(&slots[0], &slots[1]);
    if (which < 0)
        return CELLAR_ECORRUPT;
    *ret_state = slots[which].state;
    return 0;
}

static int read_header(struct cellar_device *device, const char *path, unsigned char header[CELLAR_HEADER_BYTES],
                       struct cellar_state *ret_state, struct cellar_diagnostic *diagnostic)
{
    const struct timespec pause = {.tv_nsec = HEADER_PAUSE_MS * 1000 * 1000};
    int error = 0;

    for (int i = 0; i < HEADER_READS_MAX; i++) {
        if (i > 0)
            nanosleep(&pause, NULL);
        error = cellar_device_read(device, header, CELLAR_HEADER_BYTES, 0);
        if (error == 0)
            error = decode_flushed(device, header, ret_state);
        if (error != CELLAR_ECORRUPT)
            break;
    }
    if (error == CELLAR_ECORRUPT)
        return cellar_diagnose(diagnostic, error, path, CELLAR_AT_SLOTS,
                               "found both disk-sync slots broken, expected one whose hash holds");
    if (error != 0)
        return cellar_diagnose(diagnostic, error == CELLAR_EBOUNDS ? CELLAR_ECORRUPT : error, path, 0,
                               "can't read the header: %s", cellar_strerror(error));
    return 0;
}

/* Reads the store's side of *look. */
static int read_store(struct cellar_device *device, const char *path, struct cellar_sum_look *look,
                      struct cellar_diagnostic *diagnostic)
{
    unsigned char header[CELLAR_HEADER_BYTES];
    const char *expected = NULL;
    uint64_t at = 0;
    bool marked;
    int error = read_header(device, path, header, &look->flushed, diagnostic);

    if (error != 0)
        return error;
    cellar_config_decode(header, &look->config);
    if (cellar_config_check(&look->config, &at, &expected) != 0)
        return cellar_diagnose(diagnostic, CELLAR_ECORRUPT, path, at, "found a config out of bounds, expected %s",
                               expected);
    look->flushed_bytes = (uint64_t)look->flushed.next_index * look->config.bytes_per_cell;
    look->owner = (struct cellar_sum_owner){.identity = cellar_load_le32(header + CELLAR_AT_CHECKSUM_ID),
                                            .bytes_per_cell = look->config.bytes_per_cell,
                                            .max_index = look->config.max_index};
    marked = (cellar_load_le32(header + CELLAR_AT_FLAGS) & CELLAR_FLAG_CHECKSUMS) != 0;
    if (marked == (look->owner.identity != 0)) {
        look->state = marked ? CELLAR_SUMS_GOOD : CELLAR_SUMS_NONE;
        return 0;
    }
    look->state = CELLAR_SUMS_STALE;
    cellar_diagnose(&look->why, CELLAR_ESUMS, path, marked ? CELLAR_AT_CHECKSUM_ID : CELLAR_AT_FLAGS,
                    marked ? "found no identity of a checksum file, expected one, as the store is marked to have it"
                           : "found no mark of a checksum file, expected one, as the store has its identity");
    return 0;
}

/* What became of opening the sums file, in words. */
static int refuse_file(struct cellar_sum_look *look, const char *path, int error)
{
    if (error == -ENOMEM)
        return error;
    look->state = error == CELLAR_ESUMS ? CELLAR_SUMS_STALE : CELLAR_SUMS_LOST;
    if (error == CELLAR_ESUMS)
        cellar_diagnose(&look->why, CELLAR_ESUMS, path, CELLAR_OFFSET_NONE, "it is the checksum file of another store");
    else if (error == CELLAR_NONE)
        cellar_diagnose(&look->why, CELLAR_ESUMS, path, CELLAR_OFFSET_NONE,
                        "the checksum file is not there, or both of its heads are broken");
    else
        cellar_diagnose(&look->why, CELLAR_ESUMS, path, CELLAR_OFFSET_NONE, "can't use the checksum file: %s",
                        error == -ENOTSUP ? "a later version of Cellar made it" : cellar_strerror(error));
    return 0;
}

/* Judges a file that was found and scanned; the store's header has been read since. */
static void judge(struct cellar_sum_look *look, const char *path, struct cellar_device *device)
{
    struct cellar_sum_file *file = look->file;

    look->state = cellar_sum_judge(file->covered_bytes, file->claimed_bytes, look->flushed_bytes);
    if (look->state == CELLAR_SUMS_STALE)
        cellar_diagnose(&look->why, CELLAR_ESUMS, path, CELLAR_OFFSET_NONE,
                        "it has checksums up to byte %" PRIu64 ", but the store's flushed bytes end at %" PRIu64
                        ": the store went back",
                        file->claimed_bytes, look->flushed_bytes);
    else
        look->tail_rotten = cellar_sum_match(file, device) == CELLAR_ECHECKSUM;
}

static int look_beside(const char *store_path, const char *real_path, const char *sums_path,
                       struct cellar_device *device, bool writable, struct cellar_diagnostic *diagnostic,
                       struct cellar_sum_look *look)
{
    int error = cellar_sum_find(real_path, writable, &look->owner, &look->file);

    if (error != 0)
        return refuse_file(look, sums_path, error);
    error = cellar_sum_scan(look->file);
    if (error != 0) {
        cellar_sum_close(look->file, false);
        look->file = NULL;
        return refuse_file(look, sums_path, error);
    }
    /* Again, now that the sums have been read: a writer may have flushed, and summed, meanwhile. */
    error = read_store(device, store_path, look, diagnostic);
    if (error == 0 && look->state == CELLAR_SUMS_GOOD)
        judge(look, sums_path, device);
    if (error != 0 || look->state == CELLAR_SUMS_STALE) {
        cellar_sum_close(look->file, false);
        look->file = NULL;
    }
    return error;
}

int cellar_sum_look(const char *store_path, struct cellar_device *device, bool writable,
                    struct cellar_diagnostic *diagnostic, struct cellar_sum_look *ret_look)
{
    struct cellar_sum_look look = {.why = {.file_offset = CELLAR_OFFSET_NONE}};
    char *real_path, *sums_path;
    int error = read_store(device, store_path, &look, diagnostic);

    if (error != 0 || look.state != CELLAR_SUMS_GOOD) {
        *ret_look = look;
        return error;
    }
    if (store_path == NULL) { /* a device of the caller's: nothing lies beside it */
        *ret_look = look;
        return refuse_file(ret_look, NULL, CELLAR_NONE);
    }
    real_path = realpath(store_path, NULL);
    sums_path = real_path == NULL ? NULL : cellar_sum_path(real_path, false);
    if (sums_path == NULL)
        error = real_path == NULL ? refuse_file(&look, store_path, -errno) : -ENOMEM;
    else
        error = look_beside(store_path, real_path, sums_path, device, writable, diagnostic, &look);
    free(sums_path);
    free(real_path);
    *ret_look = look;
    return error;
}
