/* writer_file.c - making the file of a store, and the handle of its writer. */
#include "base/bytes.h"
#include "device/device.h"
#include "store_internal.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

enum { RESIZE_STEP_BYTES_DEFAULT = 16 << 20, EAGER_WRITES_DEFAULT = 4, GATHER_BYTES_DEFAULT = 64 << 10 };

int cellar_writer_new(const char *path, const struct cellar_writer_options *options, struct cellar_writer **ret_writer)
{
    static const struct cellar_writer_options defaults;
    struct cellar_writer *writer;
    int error;

    if (options == NULL)
        options = &defaults;
    error = cellar_ground_check_choice(options->device);
    if (error == 0 && (options->publish < CELLAR_PUBLISH_SLOTS || options->publish > CELLAR_PUBLISH_WORD ||
                       (options->publish == CELLAR_PUBLISH_WORD && options->compat)))
        error = -EINVAL;
    if (error != 0)
        return error;
    writer = calloc(1, sizeof *writer);
    if (writer == NULL)
        return -ENOMEM;
    if (pthread_mutex_init(&writer->flush_lock, NULL) != 0) {
        free(writer);
        return -ENOMEM;
    }
    writer->resize_step_bytes = options->resize_step_bytes > 0 ? options->resize_step_bytes : RESIZE_STEP_BYTES_DEFAULT;
    writer->initial_cells = options->initial_cells;
    writer->window_limit = options->window_bytes;
    writer->cache_bytes = options->cache_bytes;
    writer->eager_writes = options->eager_writes == CELLAR_EAGER_NONE ? 0
                           : options->eager_writes > 0                ? options->eager_writes
                                                                      : EAGER_WRITES_DEFAULT;
    writer->gather_bytes = options->gather_bytes == CELLAR_GATHER_NONE ? UINT64_MAX
                           : options->gather_bytes > 0                 ? options->gather_bytes
                                                                       : GATHER_BYTES_DEFAULT;
    writer->choice = options->device;
    writer->file_mode = options->file_mode != 0 ? options->file_mode : 0644;
    writer->compat = options->compat;
    writer->two_barriers = options->two_barriers;
    writer->words_wanted = options->publish == CELLAR_PUBLISH_WORD;
    writer->ahead_options = options->ahead;
    if (options->key != NULL)
        writer->key = *options->key;
    else
        error = cellar_key_make(&writer->key);
    if (error == 0 && path != NULL && (writer->path = strdup(path)) == NULL)
        error = -ENOMEM;
    if (error == 0)
        error = cellar_fork_page_take(&writer->fork_page);
    if (error == 0)
        error = cellar_ground_new(writer->fork_page, &writer->ground);
    if (error != 0) {
        cellar_writer_free(writer);
        return error;
    }
    *ret_writer = writer;
    return 0;
}

void cellar_writer_free(struct cellar_writer *writer)
{
    cellar_writer_drop_reservations(writer);
    free(writer->ground);
    pthread_mutex_destroy(&writer->flush_lock);
    free(writer->path);
    free(writer->real_path);
    free(writer);
}

/* The first length of a store in cells: what was asked for, a step, at least the header, at most max index. */
static int first_cells(const struct cellar_writer *writer, uint32_t initial_cells, uint64_t *ret_cells)
{
    uint32_t start = cellar_start_index(writer->config.bytes_per_cell);
    uint64_t cells = initial_cells;

    if (initial_cells > 0 && initial_cells < start)
        return -EINVAL;
    if (initial_cells == 0)
        cells = cellar_alloc_step_cells(writer->resize_step_bytes, writer->config.bytes_per_cell);
    if (cells > writer->config.max_index)
        cells = writer->config.max_index;
    if (writer->window_limit > 0 && cells > writer->window_limit / writer->config.bytes_per_cell)
        cells = writer->window_limit / writer->config.bytes_per_cell;
    *ret_cells = cells < start ? start : cells;
    return 0;
}

/* The flags of a new store. */
static uint32_t flags_of(const struct cellar_writer *writer)
{
    return writer->sums_identity != 0 ? CELLAR_FLAG_CHECKSUMS : 0;
}

/* Writes the header, and on a device that may hold anything the zeros up to the first usable cell. */
static int write_header(struct cellar_ground *ground, const struct cellar_writer *writer,
                        const struct cellar_state *empty, uint64_t incarnation)
{
    size_t length_bytes = (size_t)empty->next_index * writer->config.bytes_per_cell;
    unsigned char *header = calloc(1, length_bytes);
    struct iovec part = {.iov_base = header,
                         .iov_len = cellar_device_is_fixed(ground->device) ? length_bytes : CELLAR_HEADER_BYTES};
    int error;

    if (header == NULL)
        return -ENOMEM;
    cellar_config_encode(&writer->config, header);
    for (int name = 0; name < CELLAR_SLOT_COUNT; name++)
        cellar_slot_encode(empty, name < CELLAR_PROCESS_1 ? NULL : &writer->key,
                           header + cellar_slot_offset((enum cellar_slot_name)name));
    cellar_store_le32(header + CELLAR_AT_CONFIG_CHECK, cellar_config_hash(header));
    if (incarnation != 0) {
        cellar_store_le64(header + CELLAR_AT_BOOT_MARK, incarnation);
        memcpy(header + CELLAR_AT_BINDING, header + cellar_slot_offset(CELLAR_PROCESS_1) + CELLAR_SLOT_AT_KEYED_HASH,
               sizeof incarnation);
        cellar_store_le32(header + CELLAR_AT_CONFIRMED, empty->next_index);
    }
    cellar_store_le32(header + CELLAR_AT_FLAGS, flags_of(writer));
    cellar_store_le32(header + CELLAR_AT_CHECKSUM_ID, writer->sums_identity);
    error = cellar_device_write(ground->device, &part, 1, 0);
    free(header);
    return error;
}

int cellar_ground_format(struct cellar_ground *ground, const struct cellar_writer *writer, uint32_t initial_cells,
                         uint64_t *ret_file_bytes)
{
    struct cellar_state empty = {.next_index = cellar_start_index(writer->config.bytes_per_cell)};
    uint64_t cells, file_bytes, incarnation;
    int error = first_cells(writer, initial_cells, &cells);

    if (error != 0)
        return error;
    error = cellar_device_incarnation(ground->device, &incarnation);
    if (error != 0)
        return error;
    file_bytes = cells * writer->config.bytes_per_cell;
    error = cellar_device_grow(ground->device, 0, file_bytes);
    if (cellar_alloc_is_full(error) && initial_cells == 0) { /* not a whole step, but a store */
        file_bytes = (uint64_t)empty.next_index * writer->config.bytes_per_cell;
        error = cellar_device_grow(ground->device, 0, file_bytes);
    }
    if (error == 0)
        error = cellar_ground_map(ground, &writer->config, writer->window_limit, writer->choice, true);
    if (error == 0)
        error = write_header(ground, writer, &empty, incarnation);
    if (error == 0)
        error = cellar_device_sync(ground->device, 0, file_bytes);
    if (error == 0)
        error = cellar_ground_open(ground, writer->config.bytes_per_cell, writer->cache_bytes, true,
                                   writer->eager_writes, writer->compat);
    if (error != 0)
        return error;
    cellar_header_start_marks(&ground->header, incarnation, flags_of(writer));
    cellar_header_start_records(&ground->header, !writer->two_barriers, &empty);
    ground->header.disk_pending = false;
    cellar_header_start_words(&ground->header, 0);
    if (writer->words_wanted && ground->window != NULL) {
        cellar_header_commit_word(&ground->header, empty.next_index, empty.root_index);
        error = cellar_header_switch_words(&ground->header, true);
        if (error != 0)
            return error;
    }
    *ret_file_bytes = file_bytes;
    return 0;
}

/* The permissions of a new file: those asked for, or on truncate those of the file that it replaces. */
static int take_mode(const struct cellar_ground *ground, const struct cellar_writer *writer)
{
    if (writer->ground == ground)
        return 0;
    return cellar_file_copy_mode(writer->ground->device, ground->device);
}

/* On a file system that copies on write the store runs on the pread device: a store into a mapping could meet a full
 * disk. */
static int create_as(struct cellar_ground *ground, const struct cellar_writer *writer, uint32_t initial_cells,
                     enum cellar_file_kind kind, uint64_t *ret_file_bytes)
{
    struct cellar_device *device;
    int error = cellar_file_create_hidden(writer->real_path, writer->file_mode, kind, &device);

    if (error != 0)
        return error;
    error = cellar_ground_place(ground, device, true);
    if (error == 0)
        error = take_mode(ground, writer);
    if (error == 0)
        error = cellar_ground_format(ground, writer, initial_cells, ret_file_bytes);
    if (error == 0 && kind == CELLAR_FILE_MAPPED && ground->window == NULL)
        error = CELLAR_NONE;
    if (error != 0) {
        cellar_file_discard_hidden(writer->real_path);
        cellar_ground_close(ground, false);
    }
    return error;
}

int cellar_ground_create_hidden(struct cellar_ground *ground, const struct cellar_writer *writer,
                                uint32_t initial_cells, uint64_t *ret_file_bytes)
{
    int error = create_as(ground, writer, initial_cells, cellar_ground_kind(writer->choice), ret_file_bytes);

    if (error == CELLAR_NONE)
        error = create_as(ground, writer, initial_cells, CELLAR_FILE_PREAD, ret_file_bytes);
    return error;
}
