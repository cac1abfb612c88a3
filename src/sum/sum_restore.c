/*
 * sum_restore.c - a store whose first bytes are lost, put together anew from the copy in its sums file.
 *
 * The new store stands at the flushed state that the copy knows. A power loss may have left a copy older than the
 * store was; its next index is then raised to where the sums end, so that no flushed cell that is known of is used
 * again. The sums file is copied too: what is restored can be checked.
 */
#include "base/bytes.h"
#include "base/diagnose.h"
#include "device/file.h"
#include "format/format.h"
#include "sum/sum_name.h"

#include <cellar/sums.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { STEP_BYTES = 1 << 20, FILE_MODE = 0644 };

struct restore {
    const char *path, *new_path;
    const struct cellar_sums_options *options;
    struct cellar_diagnostic *diagnostic;
    struct cellar_device *store, *made;
    struct cellar_sum_file *sums;
    struct cellar_config config;
    struct cellar_state state;
    uint64_t size_bytes;                         /* of the new file */
    unsigned char first[CELLAR_SUM_BLOCK_BYTES]; /* its first bytes */
    unsigned char *buffer;                       /* STEP_BYTES */
};

/* Takes config and state from the copy of the header; the root as it stands, which may be any: the format does not
 * bound it. */
static int take_header(struct restore *restore)
{
    const unsigned char *header = restore->sums->head.header;
    uint32_t claimed_next, check = cellar_load_le32(header + CELLAR_AT_CONFIG_CHECK);
    struct cellar_slot slots[2];
    const char *expected = NULL;
    int which;

    for (int i = 0; i < 2; i++)
        slots[i] = cellar_slot_decode(header + cellar_slot_offset((enum cellar_slot_name)(CELLAR_DISK_1 + i)));
    which = cellar_slot_pick(&slots[0], &slots[1]);
    cellar_config_decode(header, &restore->config);
    if (which < 0 || (check != 0 && check != cellar_config_hash(header)) ||
        cellar_config_check(&restore->config, NULL, &expected) != 0 ||
        restore->config.bytes_per_cell != restore->sums->owner.bytes_per_cell ||
        slots[which].state.next_index < cellar_start_index(restore->config.bytes_per_cell) ||
        cellar_sum_max(slots[which].state.next_index, restore->sums->claimed_bytes / restore->config.bytes_per_cell) >
            restore->config.max_index)
        return cellar_diagnose(restore->diagnostic, CELLAR_ESUMS, restore->path, CELLAR_OFFSET_NONE,
                               "the copy of the header in the checksum file is of no use");
    restore->state = slots[which].state;
    claimed_next = (uint32_t)(restore->sums->claimed_bytes / restore->config.bytes_per_cell);
    if (claimed_next > restore->state.next_index)
        restore->state.next_index = claimed_next;
    restore->size_bytes = (uint64_t)restore->state.next_index * restore->config.bytes_per_cell;
    return 0;
}

/* The new header: nobody has the store open, so process sync says what disk sync does, under a key of its own. */
static int make_header(struct restore *restore)
{
    const unsigned char *copy = restore->sums->head.header;
    unsigned char *header = restore->first;
    struct cellar_key key;
    int error = cellar_key_make(&key);

    if (error != 0)
        return error;
    memset(header, 0, CELLAR_HEADER_BYTES);
    cellar_config_encode(&restore->config, header);
    for (int name = 0; name < CELLAR_SLOT_COUNT; name++)
        cellar_slot_encode(&restore->state, name < CELLAR_PROCESS_1 ? NULL : &key,
                           header + cellar_slot_offset((enum cellar_slot_name)name));
    cellar_store_le32(header + CELLAR_AT_FLAGS, CELLAR_FLAG_CHECKSUMS);
    memcpy(header + CELLAR_AT_CONFIG_CHECK, copy + CELLAR_AT_CONFIG_CHECK, 4);
    cellar_store_le32(header + CELLAR_AT_CHECKSUM_ID, restore->sums->owner.identity);
    return 0;
}

/* The rest of the first 4096 bytes: from the copies, as far as there are; else what the store has there, or zeros. */
static void make_first_cells(struct restore *restore, uint64_t store_bytes)
{
    unsigned char sector[CELLAR_SUM_SECTOR_BYTES];
    unsigned char *to = restore->first + CELLAR_SUM_FIRST_BYTE;
    struct cellar_sum_copy copy;

    for (uint32_t number = 0; number < CELLAR_SUM_COPY_COUNT; number++, to += CELLAR_SUM_COPY_BYTES) {
        uint64_t offset = (uint64_t)(to - restore->first);
        uint64_t there = store_bytes - cellar_sum_min(offset, store_bytes);

        memset(to, 0, CELLAR_SUM_COPY_BYTES);
        if (cellar_device_read(restore->store, to, (size_t)cellar_sum_min(there, CELLAR_SUM_COPY_BYTES), offset) != 0)
            memset(to, 0, CELLAR_SUM_COPY_BYTES);
        if (cellar_device_read(restore->sums->device, sector, sizeof sector, cellar_sum_copy_offset(number)) == 0 &&
            cellar_sum_copy_decode(sector, restore->sums->owner.identity, number, &copy) == 0)
            memcpy(to, copy.bytes, copy.length_bytes);
    }
}

static int write_at(struct cellar_device *device, const void *bytes, size_t length_bytes, uint64_t offset)
{
    struct iovec part = {.iov_base = (void *)(uintptr_t)bytes, .iov_len = length_bytes};

    return cellar_device_write(device, &part, 1, offset);
}

/* Copies [offset, end) from one device to another. */
static int copy_bytes(struct restore *restore, struct cellar_device *from, struct cellar_device *to, uint64_t offset,
                      uint64_t end, bool tell)
{
    int error = 0;

    while (error == 0 && offset < end) {
        size_t step = end - offset < STEP_BYTES ? (size_t)(end - offset) : STEP_BYTES;

        error = cellar_device_read(from, restore->buffer, step, offset);
        if (error == 0)
            error = write_at(to, restore->buffer, step, offset);
        offset += step;
        if (error == 0 && tell && restore->options->progress != NULL)
            restore->options->progress(restore->options->user, offset, end);
    }
    return error;
}

static int fill_store(struct restore *restore)
{
    size_t first_bytes = (size_t)cellar_sum_min(sizeof restore->first, restore->size_bytes);
    int error = cellar_device_grow(restore->made, 0, restore->size_bytes);

    if (error == 0)
        error = write_at(restore->made, restore->first, first_bytes, 0);
    if (error == 0)
        error = copy_bytes(restore, restore->store, restore->made, first_bytes, restore->size_bytes, true);
    if (error == 0)
        error = cellar_device_sync(restore->made, 0, restore->size_bytes);
    return error;
}

/* The sums file as it is, under the new name of the new store. */
static int copy_sums(struct restore *restore)
{
    struct cellar_sum_file *made;
    uint64_t end = restore->sums->file_bytes;
    int error =
        cellar_sum_create_fresh(restore->new_path, FILE_MODE, &restore->sums->owner, restore->sums->head.header, &made);

    if (error != 0)
        return error;
    error = cellar_device_grow(made->device, 0, end);
    if (error == 0)
        error = copy_bytes(restore, restore->sums->device, made->device, 0, end, false);
    if (error == 0)
        error = cellar_device_sync(made->device, 0, end);
    if (error == 0)
        error = cellar_sum_settle_fresh(restore->new_path);
    if (error != 0)
        cellar_sum_discard(restore->new_path);
    cellar_sum_close(made, false);
    return error;
}

/* Both files under their new names; the store's appears whole, or not at all. */
static int make_files(struct restore *restore)
{
    bool renamed = false;
    int error = cellar_file_create_hidden(restore->new_path, FILE_MODE, CELLAR_FILE_PREAD, &restore->made);

    if (error != 0)
        return error;
    error = fill_store(restore);
    if (error == 0)
        error = cellar_file_copy_mode(restore->store, restore->made);
    if (error == 0)
        error = copy_sums(restore);
    if (error == 0) {
        error = cellar_file_publish(restore->made, restore->new_path, NULL, &renamed);
        if (error != 0 && !renamed)
            cellar_sum_discard(restore->new_path);
    }
    if (!renamed)
        cellar_file_discard_hidden(restore->new_path);
    else if (error == 0)
        error = cellar_sum_publish(restore->new_path);
    cellar_device_close(restore->made);
    return error;
}

static int check_target(const struct restore *restore)
{
    struct stat status;

    if (lstat(restore->new_path, &status) != 0)
        return errno == ENOENT ? 0 : -errno;
    return cellar_diagnose(restore->diagnostic, -EEXIST, restore->new_path, CELLAR_OFFSET_NONE,
                           "something is there, expected nothing");
}

static int run(struct restore *restore, const char *real_path)
{
    uint64_t store_bytes;
    int error = cellar_sum_find(real_path, false, NULL, &restore->sums);

    if (error != 0)
        return cellar_diagnose(restore->diagnostic, error == CELLAR_NONE ? CELLAR_ESUMS : error, restore->path,
                               CELLAR_OFFSET_NONE, "found no checksum file with a whole head beside it");
    error = cellar_sum_scan(restore->sums);
    if (error == 0)
        error = take_header(restore);
    if (error == 0)
        error = cellar_device_size(restore->store, &store_bytes);
    if (error != 0)
        return error;
    if (store_bytes < restore->size_bytes)
        return cellar_diagnose(restore->diagnostic, CELLAR_ECORRUPT, restore->path, store_bytes,
                               "found the end of the file, expected cells up to next index %" PRIu32,
                               restore->state.next_index);
    error = make_header(restore);
    if (error != 0)
        return error;
    make_first_cells(restore, store_bytes);
    return make_files(restore);
}

int cellar_sums_restore(const char *path, const char *new_path, const struct cellar_sums_options *options,
                        struct cellar_config *ret_config, uint32_t *ret_next_index, uint32_t *ret_root_index)
{
    static const struct cellar_sums_options defaults;
    struct restore restore = {.path = path, .new_path = new_path, .options = options != NULL ? options : &defaults};
    char *real_path = realpath(path, NULL);
    int error = real_path == NULL ? -errno : 0;

    restore.diagnostic = restore.options->diagnostic;
    if (restore.diagnostic != NULL)
        *restore.diagnostic = (struct cellar_diagnostic){.file_offset = CELLAR_OFFSET_NONE};
    if (error == 0)
        error = check_target(&restore);
    if (error == 0 && (restore.buffer = malloc(STEP_BYTES)) == NULL)
        error = -ENOMEM;
    if (error == 0)
        error = cellar_device_open_pread(path, CELLAR_OPEN_READ, 0, &restore.store);
    if (error == 0)
        error = run(&restore, real_path);
    cellar_sum_close(restore.sums, false);
    cellar_device_close(restore.store);
    free(restore.buffer);
    free(real_path);
    if (error == 0) {
        *ret_config = restore.config;
        *ret_next_index = restore.state.next_index;
        *ret_root_index = restore.state.root_index;
    } else if (restore.diagnostic != NULL && restore.diagnostic->error == 0) {
        cellar_diagnose(restore.diagnostic, error, path, CELLAR_OFFSET_NONE, "can't restore: %s",
                        cellar_strerror(error));
    }
    return error;
}
