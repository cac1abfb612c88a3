/* The operations of a log that append cells and fill them. */
#include "golden_replay.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>

/*
 * The original overflows early where its mapping may not grow by whole steps. true: this is such a case, Cellar was
 * checked to go on, and the replay stops here.
 */
static bool overflows_early(struct replay *replay, struct outcome outcome, uint32_t before, uint64_t cell_count,
                            int code, uint32_t last_index)
{
    struct run *run = replay->run;
    bool fits = before + cell_count <= replay->model.config.max_index;
    if (outcome_code(outcome) != CELLAR_EINDEXFULL || !fits)
        return false;
    apply_difference(run, DIFFERENCE_EARLY_OVERFLOW);
    if (check_code(run, "result", 0, code))
        check_number(run, "last index", before + cell_count - 1, last_index);
    replay_stop(replay);
    return true;
}

void replay_reserve(struct replay *replay, struct handle *handle, const json_t *operation)
{
    const json_t *count = json_object_get(operation, "n");
    json_int_t asked = count == NULL ? 1 : json_integer_value(count);
    uint32_t cell_count = asked < 0 || asked > UINT32_MAX ? UINT32_MAX : (uint32_t)asked;
    uint32_t before = cellar_writer_next(handle->writer), first = 0;
    struct outcome outcome;
    void *cells;
    if (!replay_outcome(replay, operation, &outcome))
        return;
    int code = cellar_writer_reserve(handle->writer, cell_count, &first, &cells);
    if (overflows_early(replay, outcome, before, cell_count, code, first + cell_count - 1))
        return;
    if (replay_succeeded(replay, operation, code))
        check_number(replay->run, "index", (uint64_t)json_integer_value(outcome.value), first);
}

/* The length set back is left out; set forward it reserves. */
void replay_set_length(struct replay *replay, struct handle *handle, const json_t *operation)
{
    uint64_t length = (uint64_t)json_integer_value(json_object_get(operation, "index"));
    uint64_t next = cellar_writer_next(handle->writer);
    struct cellar_info info;
    cellar_writer_info(handle->writer, &info);
    if (length < next) {
        apply_difference(replay->run, DIFFERENCE_LENGTH_SET_BACK);
        replay_stop(replay);
    }
    while (next < length) {
        uint32_t most = cellar_writer_reserve_max(info.config.bytes_per_cell), first;
        void *cells;
        uint32_t count = length - next < most ? (uint32_t)(length - next) : most;
        if (!check_code(replay->run, "result", 0, cellar_writer_reserve(handle->writer, count, &first, &cells)))
            return;
        next += count;
    }
}

void replay_write_cell(struct replay *replay, struct handle *handle, const json_t *operation)
{
    struct run *run = replay->run;
    const json_t *index = json_object_get(operation, "index");
    struct bytes content;
    struct outcome outcome;
    if (!json_is_integer(index) || operation_content(operation, &content) != 0) {
        unreadable(run, "expected an index and a content");
        return;
    }
    uint32_t cell = (uint32_t)json_integer_value(index);
    int code = cellar_writer_rewrite(handle->writer, cell, content.at, content.length);
    struct cellar_snapshot snapshot = cellar_writer_snapshot(handle->writer);
    if (replay_succeeded(replay, operation, code) && replay_outcome(replay, operation, &outcome)) {
        const json_t *length = json_object_get(outcome.value, "len");
        size_t length_back = json_is_integer(length) ? (size_t)json_integer_value(length) : content.length;
        void *back = malloc(length_back + 1);
        code = back == NULL ? -ENOMEM : cellar_snapshot_read(&snapshot, cell, 0, back, length_back);
        if (check_code(run, "reading it back", 0, code))
            replay_check_content(replay, outcome.value, back, length_back);
        free(back);
        written_cell(&replay->written, snapshot.bytes_per_cell, cell, content.length);
    }
    free(content.at);
}

static void read_value_back(struct replay *replay, const struct handle *handle, uint32_t index, const json_t *value)
{
    struct cellar_snapshot snapshot = cellar_writer_snapshot(handle->writer);
    void *back = NULL;
    size_t length = 0;
    check_number(replay->run, "last index", (uint64_t)json_integer_value(json_object_get(value, "last_index")), index);
    if (check_code(replay->run, "reading it back", 0, cellar_snapshot_copy_value(&snapshot, index, &back, &length)))
        replay_check_content(replay, json_object_get(value, "content"), back, length);
    free(back);
}

void replay_write_value(struct replay *replay, struct handle *handle, const json_t *operation)
{
    struct run *run = replay->run;
    uint32_t before = cellar_writer_next(handle->writer), index = 0;
    const json_t *logged_next = json_object_get(operation, "current_length");
    struct bytes content;
    struct outcome outcome;
    if (operation_content(operation, &content) != 0) {
        unreadable(run, "expected a content");
        return;
    }
    if (!replay_outcome(replay, operation, &outcome)) {
        free(content.at);
        return;
    }
    int code = cellar_writer_write_value(handle->writer, content.at, content.length, &index);
    size_t length = content.length;
    uint64_t cell_count = value_cells(replay->model.config.bytes_per_cell, length);
    free(content.at);
    if (overflows_early(replay, outcome, before, cell_count, code, index))
        return;
    if (replay_succeeded(replay, operation, code)) {
        read_value_back(replay, handle, index, outcome.value);
        written_value(&replay->written, replay->model.config.bytes_per_cell, index, length);
    } else if (outcome_code(outcome) == CELLAR_EINDEXFULL && json_is_integer(logged_next) &&
               json_integer_value(logged_next) != before) {
        apply_difference(run, DIFFERENCE_ALL_OR_NOTHING);
        check_number(run, "next index", before, cellar_writer_next(handle->writer));
        replay_stop(replay);
    }
}
