/* The operations of a log on a writer's handle. */
#include "golden_replay.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { WINDOW_BYTES = 1 << 30, CACHE_BYTES = 64 << 10 };

struct cellar_writer_options writer_options(const struct run *run)
{
    return (struct cellar_writer_options){
        .device = run->device, .window_bytes = WINDOW_BYTES, .cache_bytes = CACHE_BYTES};
}

struct cellar_reader_options reader_options(const struct run *run)
{
    return (struct cellar_reader_options){
        .device = run->device, .window_bytes = WINDOW_BYTES, .cache_bytes = CACHE_BYTES};
}

static struct cellar_info info_of(const struct handle *handle)
{
    struct cellar_info info;
    cellar_writer_info(handle->writer, &info);
    return info;
}

static uint64_t json_size(const json_t *operation, const char *name)
{
    json_int_t number = json_integer_value(json_object_get(operation, name));
    return number > 0 ? (uint64_t)number : 0;
}

/* A new writer stands: what it is and where. */
static void take_over(struct replay *replay, struct handle *handle, struct cellar_writer *writer, const json_t *state)
{
    handle->writer = writer;
    struct cellar_info info = info_of(handle);
    check_path(replay->run, &info);
    check_info(replay->run, state, &info);
}

void replay_create(struct replay *replay, struct handle *handle, const json_t *operation)
{
    struct run *run = replay->run;
    struct header_model *model = &replay->model;
    struct cellar_writer_options options = writer_options(run);
    struct cellar_config config;
    struct outcome outcome;
    if (operation_config(json_object_get(operation, "config"), &config) != 0 ||
        json_key(operation, "key", &model->key) != 0 || !replay_outcome(replay, operation, &outcome)) {
        unreadable(run, "expected a config and a key");
        return;
    }
    options.key = &model->key;
    options.resize_step_bytes = json_size(operation, "resize_step_bytes");
    options.initial_cells = (uint32_t)json_size(operation, "length");
    struct cellar_writer *writer = NULL;
    int code = cellar_writer_create(run->path, &config, &options, &writer);
    if (outcome.error == NULL && config.max_index <= start_index_of(config.bytes_per_cell)) {
        apply_difference(run, DIFFERENCE_CONFIG_BOUNDS);
        check_code(run, "result", -EINVAL, code);
        replay_stop(replay);
    } else if (!replay_succeeded(replay, operation, code)) {
        replay_stop(replay);
    } else {
        take_over(replay, handle, writer, outcome.value);
        model_create(model, &config);
        replay->mapped_past_max = json_size(outcome.value, "mapped_length") > config.max_index;
        return;
    }
    if (writer != NULL)
        cellar_writer_abandon(writer);
}

/* What opening reports, against the original's warning. */
static void check_recovery(struct run *run, const struct cellar_writer *writer, const json_t *logs)
{
    long skipped = logged_skipped_cells(logs);
    struct cellar_recovery recovery;
    cellar_writer_recovery(writer, &recovery);
    check_number(run, "what was found", skipped < 0 ? CELLAR_FOUND_CLEAN : CELLAR_FOUND_UNFLUSHED, recovery.found);
    check_number(run, "skipped cells", skipped < 0 ? 0 : (uint64_t)skipped, recovery.skipped_cells);
}

void replay_open_write(struct replay *replay, struct handle *handle, const json_t *operation)
{
    struct run *run = replay->run;
    struct cellar_writer_options options = writer_options(run);
    struct cellar_key key;
    struct outcome outcome;
    struct bytes file;
    if (json_key(operation, "key", &key) != 0 || !replay_outcome(replay, operation, &outcome)) {
        unreadable(run, "expected a key");
        return;
    }
    if (file_read(run->path, &file) != 0) {
        mismatch(run, "store, expected a file, got none");
        replay_stop(replay);
        return;
    }
    struct verdict verdict = judge_writer(&file);
    free(file.at);
    options.key = &key;
    options.resize_step_bytes = json_size(operation, "resize_step_bytes");
    struct cellar_writer *writer = NULL;
    int code = cellar_writer_open(run->path, &options, &writer);
    if (verdict.id == DIFFERENCE_NONE && replay->mapped_past_max && outcome.error != NULL)
        verdict = (struct verdict){.id = DIFFERENCE_FIRST_MAPPING};
    if (verdict.id != DIFFERENCE_NONE && outcome_code(outcome) != verdict.code) {
        apply_difference(run, verdict.id);
        check_code(run, "result", verdict.code, code);
        replay_stop(replay);
    } else if (!replay_succeeded(replay, operation, code)) {
        replay_stop(replay);
    } else {
        replay->model.key = key;
        json_state(json_object_get(outcome.value, "state"), &replay->model.state);
        model_flush(&replay->model);
        written_forget(&replay->written, replay->model.config.bytes_per_cell, replay->model.state.next_index);
        take_over(replay, handle, writer, json_object_get(outcome.value, "state"));
        check_recovery(run, writer, json_object_get(operation, "logs"));
        return;
    }
    if (writer != NULL)
        cellar_writer_abandon(writer);
}

void replay_close(struct replay *replay, struct handle *handle, const json_t *operation)
{
    int code = cellar_writer_close(handle->writer);
    handle->writer = NULL;
    if (replay_succeeded(replay, operation, code))
        model_flush(&replay->model);
}

void replay_crash(struct replay *replay, struct handle *handle, const json_t *operation)
{
    (void)operation;
    replay_power_loss(replay, handle);
}

/* The cells that this writer appended since its last commit: what the file gets although nobody published it. */
static struct bytes uncommitted_cells(struct replay *replay, const struct handle *handle, uint64_t *ret_at)
{
    struct cellar_snapshot snapshot = cellar_writer_snapshot(handle->writer);
    uint32_t first = model_process_state(&replay->model).next_index;
    struct bytes cells = {0};
    if (first >= snapshot.next_index)
        return cells;
    cells.length = (size_t)(snapshot.next_index - first) * snapshot.bytes_per_cell;
    cells.at = malloc(cells.length);
    int code = cells.at == NULL ? -ENOMEM : cellar_snapshot_read(&snapshot, first, 0, cells.at, cells.length);
    if (code != 0) {
        check_code(replay->run, "uncommitted cells", 0, code);
        cells.length = 0;
    }
    *ret_at = (uint64_t)first * snapshot.bytes_per_cell;
    return cells;
}

static int put(int descriptor, const void *bytes, size_t length, uint64_t at)
{
    const unsigned char *from = bytes;
    while (length > 0) {
        ssize_t put = pwrite(descriptor, from, length, (off_t)at);
        if (put < 0)
            return -errno;
        from += put;
        at += (uint64_t)put;
        length -= (size_t)put;
    }
    return 0;
}

void replay_power_loss(struct replay *replay, struct handle *handle)
{
    static const unsigned char zeros[CELLAR_HEADER_BYTES - HEADER_USED_BYTES];
    uint64_t at = 0;
    struct bytes cells = uncommitted_cells(replay, handle, &at);
    cellar_writer_abandon(handle->writer);
    handle->writer = NULL;
    int descriptor = open(replay->run->path, O_WRONLY | O_CLOEXEC);
    int error = descriptor < 0 ? -errno : put(descriptor, zeros, sizeof(zeros), HEADER_USED_BYTES);
    if (error == 0)
        error = put(descriptor, cells.at, cells.length, at);
    if (error != 0)
        mismatch(replay->run, "the store's file, expected to write it, got %s", strerror(-error));
    if (descriptor >= 0)
        close(descriptor);
    free(cells.at);
}

void replay_set_root(struct replay *replay, struct handle *handle, const json_t *operation)
{
    uint32_t root = (uint32_t)json_size(operation, "index");
    struct cellar_info info = info_of(handle);
    if (root != CELLAR_ROOT_NONE && (root < info.start_index || root >= info.next_index)) {
        check_code(replay->run, "result", CELLAR_EBOUNDS, cellar_writer_set_root(handle->writer, root));
        apply_difference(replay->run, DIFFERENCE_ROOT_BOUNDS);
        replay_stop(replay);
        return;
    }
    if (replay_succeeded(replay, operation, cellar_writer_set_root(handle->writer, root)))
        replay->model.state.root_index = root;
}

void replay_commit(struct replay *replay, struct handle *handle, const json_t *operation)
{
    if (replay_succeeded(replay, operation, cellar_writer_commit(handle->writer)))
        model_commit(&replay->model);
}

void replay_flush(struct replay *replay, struct handle *handle, const json_t *operation)
{
    if (replay_succeeded(replay, operation, cellar_writer_flush(handle->writer)))
        model_flush(&replay->model);
}

void replay_truncate(struct replay *replay, struct handle *handle, const json_t *operation)
{
    struct outcome outcome;
    int code = cellar_writer_truncate(handle->writer, (uint32_t)json_size(operation, "length"));
    if (!replay_succeeded(replay, operation, code) || !replay_outcome(replay, operation, &outcome))
        return;
    struct cellar_info info = info_of(handle);
    check_info(replay->run, outcome.value, &info);
    if (info.config.version != replay->model.config.version) {
        apply_difference(replay->run, DIFFERENCE_VERSION_KEPT);
        replay->model.config.version = info.config.version;
    }
    model_create(&replay->model, &replay->model.config);
    written_forget(&replay->written, replay->model.config.bytes_per_cell, replay->model.state.next_index);
    replay->truncates++;
}

void replay_override_version(struct replay *replay, struct handle *handle, const json_t *operation)
{
    uint32_t version = (uint32_t)json_size(operation, "version");
    if (replay_succeeded(replay, operation, cellar_writer_override_version(handle->writer, version)))
        model_set_version(&replay->model, version);
}

void replay_writer_state(struct replay *replay, struct handle *handle, const json_t *operation)
{
    struct outcome outcome;
    struct cellar_info info = info_of(handle);
    if (replay_outcome(replay, operation, &outcome) && outcome.error == NULL)
        check_info(replay->run, outcome.value, &info);
}
