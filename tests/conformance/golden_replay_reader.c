/* The operations of a log on a reader's handle, and reading on both kinds. */
#include "golden_replay.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct cellar_info info_of(const struct handle *handle)
{
    struct cellar_info info;
    cellar_reader_info(handle->reader, &info);
    return info;
}

void replay_open_read(struct replay *replay, struct handle *handle, const json_t *operation)
{
    struct run *run = replay->run;
    struct cellar_reader_options options = reader_options(run);
    struct outcome outcome;
    struct bytes file;
    if (!replay_outcome(replay, operation, &outcome))
        return;
    if (file_read(run->path, &file) != 0) {
        mismatch(run, "store, expected a file, got none");
        return;
    }
    struct verdict verdict = judge_reader(&file);
    free(file.at);
    int code = cellar_reader_open(run->path, &options, &handle->reader);
    handle->follows_process = handle->original_forgot = false;
    handle->original_elsewhere = DIFFERENCE_NONE;
    handle->truncates = replay->truncates;
    if (verdict.id != DIFFERENCE_NONE && outcome_code(outcome) != verdict.code) {
        apply_difference(run, verdict.id);
        check_code(run, "result", verdict.code, code);
    } else if (replay_succeeded(replay, operation, code)) {
        struct cellar_info info = info_of(handle);
        check_path(run, &info);
        check_info(run, json_object_get(outcome.value, "state"), &info);
        json_state(json_object_get(outcome.value, "state"), &handle->stands_at);
    }
}

/*
 * After a truncate: the reader's file is retired, and it is opened again on the store that took the place of the old
 * one, with the key of the writer of now.
 */
static bool leave_retired(struct replay *replay, struct handle *handle)
{
    struct run *run = replay->run;
    struct cellar_reader_options options = reader_options(run);
    if (handle->truncates == replay->truncates)
        return true;
    apply_difference(run, DIFFERENCE_TRUNCATE);
    check_code(run, "refresh of a truncated store", CELLAR_ERETIRED, cellar_reader_refresh(handle->reader));
    cellar_reader_close(handle->reader);
    handle->reader = NULL;
    handle->truncates = replay->truncates;
    handle->key = replay->model.key;
    handle->stands_at =
        handle->follows_process ? model_process_state(&replay->model) : model_disk_state(&replay->model);
    handle->original_elsewhere = DIFFERENCE_TRUNCATE;
    options.key = handle->follows_process ? &handle->key : NULL;
    return check_code(run, "opening again", 0, cellar_reader_open(run->path, &options, &handle->reader));
}

static bool same_state(struct state a, struct state b)
{
    return a.next_index == b.next_index && a.root_index == b.root_index;
}

void replay_refresh(struct replay *replay, struct handle *handle, const json_t *operation)
{
    struct run *run = replay->run;
    struct outcome outcome;
    struct state expected;
    if (!leave_retired(replay, handle) || !replay_outcome(replay, operation, &outcome))
        return;
    int code = cellar_reader_refresh(handle->reader);
    if (!replay_succeeded(replay, operation, code == CELLAR_NONE ? 0 : code))
        return;
    if (json_state(outcome.value, &expected) != 0) {
        unreadable(run, "expected a state");
        return;
    }
    if (handle->original_forgot) {
        struct state published = model_process_state(&replay->model);
        if (!same_state(published, expected))
            apply_difference(run, DIFFERENCE_WRONG_KEY);
        expected = published;
    }
    struct cellar_info info = info_of(handle);
    check_state(run, expected, &info);
    handle->stands_at = expected;
    handle->original_elsewhere = DIFFERENCE_NONE;
}

void replay_enable(struct replay *replay, struct handle *handle, const json_t *operation)
{
    struct cellar_key key;
    if (json_key(operation, "key", &key) != 0) {
        unreadable(replay->run, "expected a key");
        return;
    }
    if (!leave_retired(replay, handle))
        return;
    int code = cellar_reader_enable_process_sync(handle->reader, &key);
    if (replay_succeeded(replay, operation, code)) {
        if (handle->original_forgot)
            handle->original_elsewhere = DIFFERENCE_WRONG_KEY;
        handle->key = key;
        handle->follows_process = true;
        handle->original_forgot = false;
    } else if (handle->follows_process) {
        handle->original_forgot = true;
    }
    struct cellar_info info = info_of(handle);
    check_number(replay->run, "process sync enabled", handle->follows_process, info.has_key);
}

void replay_reader_state(struct replay *replay, struct handle *handle, const json_t *operation)
{
    struct outcome outcome;
    struct state logged;
    struct cellar_info info = info_of(handle);
    if (!replay_outcome(replay, operation, &outcome) || outcome.error != NULL)
        return;
    if (json_state(outcome.value, &logged) != 0) {
        unreadable(replay->run, "expected a state");
        return;
    }
    enum difference_id elsewhere = handle->original_forgot ? DIFFERENCE_WRONG_KEY : handle->original_elsewhere;
    if (elsewhere == DIFFERENCE_NONE)
        check_info(replay->run, outcome.value, &info);
    else if (!same_state(logged, handle->stands_at))
        apply_difference(replay->run, elsewhere);
    check_state(replay->run, handle->stands_at, &info);
}

void replay_close_reader(struct replay *replay, struct handle *handle, const json_t *operation)
{
    cellar_reader_close(handle->reader);
    handle->reader = NULL;
    replay_succeeded(replay, operation, 0);
}

/* ---- reading ---- */

static struct cellar_snapshot snapshot_of(const struct handle *handle)
{
    return handle->writer != NULL ? cellar_writer_snapshot(handle->writer) : cellar_reader_snapshot(handle->reader);
}

/* Reads at a byte of a cell; outside the snapshot is what the original calls an invalid argument. */
static void read_and_check(struct replay *replay, const struct handle *handle, const json_t *operation, uint32_t index,
                           size_t length)
{
    struct cellar_snapshot snapshot = snapshot_of(handle);
    struct outcome outcome;
    void *buffer = malloc(length + 1);
    int code = buffer == NULL ? -ENOMEM : cellar_snapshot_read(&snapshot, index, 0, buffer, length);
    if (!replay_outcome(replay, operation, &outcome)) {
        free(buffer);
        return;
    }
    if (code == CELLAR_EBOUNDS && outcome.error == NULL)
        apply_difference(replay->run, DIFFERENCE_BEYOND_SNAPSHOT);
    else if (replay_succeeded(replay, operation, code == CELLAR_EBOUNDS ? -EINVAL : code))
        replay_check_content(replay, outcome.value, buffer, length);
    free(buffer);
}

static bool json_index(struct replay *replay, const json_t *operation, uint32_t *ret_index)
{
    const json_t *index = json_object_get(operation, "index");
    if (!json_is_integer(index)) {
        unreadable(replay->run, "expected an index");
        return false;
    }
    *ret_index = (uint32_t)json_integer_value(index);
    return true;
}

void replay_read_cell(struct replay *replay, struct handle *handle, const json_t *operation)
{
    uint32_t index;
    if (json_index(replay, operation, &index))
        read_and_check(replay, handle, operation, index, snapshot_of(handle).bytes_per_cell);
}

void replay_read_bytes(struct replay *replay, struct handle *handle, const json_t *operation)
{
    const json_t *length = json_object_get(operation, "n");
    uint32_t index;
    if (length == NULL)
        length = json_object_get(operation, "len");
    if (!json_is_integer(length) || json_integer_value(length) < 0)
        unreadable(replay->run, "expected a length");
    else if (json_index(replay, operation, &index))
        read_and_check(replay, handle, operation, index, (size_t)json_integer_value(length));
}

void replay_read_value(struct replay *replay, struct handle *handle, const json_t *operation)
{
    struct cellar_snapshot snapshot = snapshot_of(handle);
    struct outcome outcome;
    uint32_t index;
    void *value = NULL;
    size_t length = 0;
    if (!json_index(replay, operation, &index) || !replay_outcome(replay, operation, &outcome))
        return;
    int code = cellar_snapshot_copy_value(&snapshot, index, &value, &length);
    if (index >= snapshot.next_index && outcome.error == NULL) {
        apply_difference(replay->run, DIFFERENCE_BEYOND_SNAPSHOT);
        check_code(replay->run, "result", CELLAR_EBOUNDS, code);
    } else if (replay_succeeded(replay, operation, code)) {
        replay_check_content(replay, outcome.value, value, length);
    }
    free(value);
}

/* The last six bytes of the cell: size u16, cdr u32. */
void replay_read_footer(struct replay *replay, struct handle *handle, const json_t *operation)
{
    struct cellar_snapshot snapshot = snapshot_of(handle);
    struct outcome outcome;
    uint32_t index;
    unsigned char footer[6] = {0};
    if (!json_index(replay, operation, &index) || !replay_outcome(replay, operation, &outcome))
        return;
    uint64_t at = ((uint64_t)index + 1) * snapshot.bytes_per_cell - sizeof(footer);
    int code = cellar_snapshot_read(&snapshot, (uint32_t)(at / snapshot.bytes_per_cell),
                                    (uint32_t)(at % snapshot.bytes_per_cell), footer, sizeof(footer));
    if (!replay_succeeded(replay, operation, code))
        return;
    const json_t *size = json_object_get(outcome.value, "size"), *cdr = json_object_get(outcome.value, "cdr");
    if (json_is_integer(size))
        check_number(replay->run, "size", (uint64_t)json_integer_value(size), footer[0] | (uint64_t)footer[1] << 8);
    if (json_is_integer(cdr))
        check_number(replay->run, "cdr", (uint64_t)json_integer_value(cdr),
                     footer[2] | (uint64_t)footer[3] << 8 | (uint64_t)footer[4] << 16 | (uint64_t)footer[5] << 24);
}
