/* ground.c - the file under a handle, and the ways into it. */
#include "base/bytes.h"
#include "base/diagnose.h"
#include "device/device.h"
#include "store_internal.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

int cellar_ground_new(const struct cellar_fork_page *fork_page, struct cellar_ground **ret_ground)
{
    struct cellar_ground *ground = calloc(1, sizeof *ground);

    if (ground == NULL)
        return -ENOMEM;
    ground->fork_page = fork_page;
    *ret_ground = ground;
    return 0;
}

int cellar_ground_place(struct cellar_ground *ground, struct cellar_device *device, bool owned)
{
    int error;

    if (cellar_device_block_bytes(device) == 1) {
        ground->device = device;
        ground->owned = owned;
        return 0;
    }
    error = owned ? cellar_device_open_bytes(device, &ground->device)
                  : cellar_device_open_bytes_over(device, &ground->device);
    ground->owned = owned && error == 0;
    ground->wrapped = !owned && error == 0;
    return error;
}

bool cellar_ground_has_slack(const struct cellar_device *device)
{
    uint64_t length_bytes;

    if (cellar_file_length(device, &length_bytes) != CELLAR_NONE)
        return false;
    return cellar_device_is_fixed(device) || cellar_device_block_bytes(cellar_device_inner(device)) > 1;
}

/* The bytes of the cells that a device of this size can hold: whole ones, at most max index. */
static uint64_t usable_bytes(const struct cellar_config *config, uint64_t size_bytes)
{
    uint64_t most_bytes = (uint64_t)config->max_index * config->bytes_per_cell;

    if (size_bytes > most_bytes)
        return most_bytes;
    return size_bytes - size_bytes % config->bytes_per_cell;
}

int cellar_ground_file_bytes(struct cellar_device *device, const struct cellar_config *config, uint64_t *ret_file_bytes)
{
    int error = cellar_device_size(device, ret_file_bytes);

    if (error == 0 && cellar_ground_has_slack(device))
        *ret_file_bytes = usable_bytes(config, *ret_file_bytes);
    return error;
}

int cellar_ground_check_choice(enum cellar_device_choice choice)
{
    return choice >= CELLAR_DEVICE_AUTO && choice <= CELLAR_DEVICE_DIRECT ? 0 : -EINVAL;
}

enum cellar_file_kind cellar_ground_kind(enum cellar_device_choice choice)
{
    if (choice == CELLAR_DEVICE_PAGES)
        return CELLAR_FILE_PREAD;
    return choice == CELLAR_DEVICE_DIRECT ? CELLAR_FILE_DIRECT : CELLAR_FILE_MAPPED;
}

int cellar_ground_refuse_file(int error, const char *path, enum cellar_file_kind kind,
                              struct cellar_diagnostic *diagnostic)
{
    if (error == -EINVAL && cellar_file_names_block_device(path))
        return cellar_diagnose(diagnostic, error, path, CELLAR_OFFSET_NONE,
                               "found a block device, expected a regular file; open it with cellar_device_open_block, "
                               "and the store on that device");
    if (error == -EINVAL && kind == CELLAR_FILE_DIRECT)
        return cellar_diagnose(diagnostic, error, path, CELLAR_OFFSET_NONE,
                               "found no regular file, or a file system without O_DIRECT");
    return error;
}

int cellar_ground_open(struct cellar_ground *ground, uint32_t bytes_per_cell, uint64_t cache_bytes, bool writer,
                       unsigned eager_writes, bool compat)
{
    int error;

    error = cellar_header_open(&ground->header, ground->device, ground->window, compat);
    if (error != 0)
        return error;
    ground->header_ready = true;
    if (ground->hooks != NULL)
        error = cellar_cells_open_checked(&ground->cells, ground->device, bytes_per_cell, cache_bytes, ground->hooks,
                                          ground->hooks_user);
    else
        error = cellar_cells_open(&ground->cells, ground->device, bytes_per_cell, ground->window, cache_bytes, writer,
                                  eager_writes);
    ground->cells_ready = error == 0;
    ground->cells.fork_page = ground->fork_page;
    return error;
}

int cellar_ground_map(struct cellar_ground *ground, const struct cellar_config *config, uint64_t limit_bytes,
                      enum cellar_device_choice choice, bool writable)
{
    uint64_t wanted = (uint64_t)config->max_index * config->bytes_per_cell, capacity_bytes, size_bytes;
    int result;

    ground->window = NULL;
    ground->window_bytes = 0;
    if (choice == CELLAR_DEVICE_PAGES || choice == CELLAR_DEVICE_DIRECT)
        return 0;
    if (limit_bytes > 0 && limit_bytes < wanted)
        wanted = limit_bytes;
    capacity_bytes = wanted;
    if (cellar_ground_has_slack(ground->device)) { /* a window is never less than the device */
        result = cellar_device_size(ground->device, &size_bytes);
        if (result != 0)
            return result;
        if (size_bytes > capacity_bytes)
            capacity_bytes = size_bytes;
    }
    result = cellar_device_window(ground->device, capacity_bytes, writable, &ground->window, &ground->window_bytes);
    if (result == 0 && ground->window_bytes > wanted)
        ground->window_bytes = wanted;
    if (result == CELLAR_NONE)
        return choice == CELLAR_DEVICE_MAPPED ? -ENOTSUP : 0;
    return result;
}

struct cellar_snapshot cellar_ground_snapshot(struct cellar_ground *ground, uint32_t bytes_per_cell,
                                              const struct cellar_state *state)
{
    return (struct cellar_snapshot){
        .window = ground->window,
        .bytes_per_cell = bytes_per_cell,
        .start_index = cellar_start_index(bytes_per_cell),
        .next_index = state->next_index,
        .root_index = state->root_index,
        .cells = &ground->cells,
    };
}

int cellar_ground_close(struct cellar_ground *ground, bool forked)
{
    int error = 0;

    if (ground->cells_ready)
        cellar_cells_close(&ground->cells);
    if (ground->header_ready)
        cellar_header_close(&ground->header);
    if (ground->device != NULL && forked)
        cellar_device_forget(ground->device);
    if (ground->device != NULL && (ground->owned || ground->wrapped))
        error = cellar_device_close(ground->device);
    else if (ground->locked && !forked)
        cellar_device_unlock(ground->device, CELLAR_LOCK_WRITER);
    *ground = (struct cellar_ground){.fork_page = ground->fork_page};
    return error;
}

/* Reads what is there of the header; the rest is zero. */
static int read_header(struct cellar_device *device, unsigned char header[CELLAR_HEADER_BYTES],
                       uint64_t *ret_file_bytes)
{
    uint64_t file_bytes;
    int error = cellar_device_size(device, &file_bytes);

    if (error == 0 && file_bytes >= CELLAR_HEADER_BYTES)
        error = cellar_device_read(device, header, CELLAR_HEADER_BYTES, 0);
    /* Asked again after the header was read: a writer may have grown the file and published since. */
    if (error == 0)
        error = cellar_device_size(device, ret_file_bytes);
    if (error == 0 && file_bytes < CELLAR_HEADER_BYTES)
        *ret_file_bytes = file_bytes;
    return error;
}

int cellar_ground_examine(struct cellar_device *device, const char *path, unsigned char header[CELLAR_HEADER_BYTES],
                          struct cellar_config *ret_config, uint64_t *ret_file_bytes,
                          struct cellar_diagnostic *diagnostic)
{
    const char *expected = NULL;
    uint64_t at = 0, file_bytes;
    uint32_t check;
    int error = read_header(device, header, &file_bytes);

    if (error != 0)
        return cellar_diagnose(diagnostic, error, path, 0, "can't read the header: %s", cellar_strerror(error));
    if (file_bytes < CELLAR_HEADER_BYTES)
        return cellar_diagnose(diagnostic, CELLAR_ECORRUPT, path, file_bytes,
                               "found the end of the file, expected a header of %d bytes", CELLAR_HEADER_BYTES);
    cellar_config_decode(header, ret_config);
    if (cellar_config_check(ret_config, &at, &expected) != 0)
        return cellar_diagnose(diagnostic, CELLAR_ECORRUPT, path, at, "found %" PRIu32 ", expected %s",
                               at == CELLAR_AT_MAX_INDEX ? ret_config->max_index : ret_config->bytes_per_cell,
                               expected);
    check = cellar_load_le32(header + CELLAR_AT_CONFIG_CHECK);
    if (check != 0 && check != cellar_config_hash(header))
        return cellar_diagnose(diagnostic, CELLAR_ECORRUPT, path, CELLAR_AT_CONFIG_CHECK,
                               "found check %08" PRIx32 " of the config, expected %08" PRIx32
                               ", that of the bytes 0..27 there",
                               check, cellar_config_hash(header));
    if (cellar_ground_has_slack(device))
        file_bytes = usable_bytes(ret_config, file_bytes);
    if (file_bytes % ret_config->bytes_per_cell != 0)
        return cellar_diagnose(diagnostic, CELLAR_ECORRUPT, path, file_bytes,
                               "found a file of %" PRIu64 " bytes, expected a whole number of cells of %" PRIu32,
                               file_bytes, ret_config->bytes_per_cell);
    if (file_bytes / ret_config->bytes_per_cell > ret_config->max_index)
        return cellar_diagnose(diagnostic, CELLAR_ECORRUPT, path, CELLAR_AT_MAX_INDEX,
                               "found a file of %" PRIu64 " cells, expected at most max index, %" PRIu32,
                               file_bytes / ret_config->bytes_per_cell, ret_config->max_index);
    *ret_file_bytes = file_bytes;
    return 0;
}

int cellar_ground_refuse(const struct cellar_pick_problem *problem, const char *path,
                         struct cellar_diagnostic *diagnostic)
{
    if (problem->broken)
        return cellar_diagnose(diagnostic, CELLAR_ECORRUPT, path, problem->file_offset,
                               "found both disk-sync slots broken, expected %s", problem->expected);
    return cellar_diagnose(diagnostic, CELLAR_ECORRUPT, path, problem->file_offset, "found %" PRIu32 ", expected %s",
                           problem->found, problem->expected);
}
