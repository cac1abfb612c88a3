/* The replay of one log, and the comparison of the file that it leaves with the one that the original left. */
#include "golden_replay.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* An operation by its name in the logs. NULL for a kind of handle: the types of Cellar rule it out. */
struct operation {
    const char *name;
    replay_operation *on_writer, *on_reader;
    enum handle_kind opens; /* the kind of the handle that it makes */
    bool writes;            /* the original does it with any handle, also a closed one, and the file changes */
};

static const struct operation operations[] = {
    {.name = "create", .on_writer = replay_create, .opens = HANDLE_WRITER},
    {.name = "open_write", .on_writer = replay_open_write, .opens = HANDLE_WRITER},
    {.name = "open_read", .on_reader = replay_open_read, .opens = HANDLE_READER},
    {.name = "new_index", .on_writer = replay_reserve},
    {.name = "new_indices", .on_writer = replay_reserve},
    {.name = "write_cell", .on_writer = replay_write_cell, .writes = true},
    {.name = "chunk_write", .on_writer = replay_write_value},
    {.name = "set_last_root_index", .on_writer = replay_set_root},
    {.name = "set_current_length", .on_writer = replay_set_length},
    {.name = "commit", .on_writer = replay_commit},
    {.name = "flush", .on_writer = replay_flush},
    {.name = "truncate", .on_writer = replay_truncate, .writes = true},
    {.name = "override_version", .on_writer = replay_override_version, .writes = true},
    {.name = "update_reader", .on_writer = replay_writer_state, .on_reader = replay_refresh},
    {.name = "enable_process_sync", .on_reader = replay_enable},
    {.name = "state", .on_writer = replay_writer_state, .on_reader = replay_reader_state},
    {.name = "close", .on_writer = replay_close, .on_reader = replay_close_reader},
    {.name = "crash", .on_writer = replay_crash, .on_reader = replay_close_reader},
    {.name = "read_cell", .on_writer = replay_read_cell, .on_reader = replay_read_cell},
    {.name = "chunk_read", .on_writer = replay_read_value, .on_reader = replay_read_value},
    {.name = "chunk_footer", .on_writer = replay_read_footer, .on_reader = replay_read_footer},
    {.name = "get_bytes", .on_writer = replay_read_bytes, .on_reader = replay_read_bytes},
};

void replay_stop(struct replay *replay)
{
    replay->stopped = true;
}

bool replay_outcome(struct replay *replay, const json_t *operation, struct outcome *ret_outcome)
{
    if (json_outcome(json_object_get(operation, "result"), ret_outcome) == 0)
        return true;
    unreadable(replay->run, "expected a result, ok or error");
    return false;
}

bool replay_succeeded(struct replay *replay, const json_t *operation, int code)
{
    struct outcome outcome;
    if (!replay_outcome(replay, operation, &outcome))
        return false;
    return check_code(replay->run, "result", outcome_code(outcome), code) && code == 0;
}

void replay_check_content(struct replay *replay, const json_t *content, const void *bytes, size_t length)
{
    const json_t *inner = json_object_get(content, "content");
    const json_t *digest = json_object_get(inner != NULL ? inner : content, "b2");
    const json_t *logged = json_object_get(inner != NULL ? inner : content, "len");
    if (!json_is_string(digest) || !json_is_integer(logged)) {
        unreadable(replay->run, "expected a content, \"len\" and \"b2\"");
        return;
    }
    if (check_number(replay->run, "length of the content", (uint64_t)json_integer_value(logged), length) &&
        !digest_equals(bytes, length, json_string_value(digest)))
        mismatch(replay->run, "content, expected BLAKE2b %s, got another", json_string_value(digest));
}

static struct handle *handle_named(struct replay *replay, const char *name)
{
    for (size_t i = 0; i < HANDLES_MAX; i++) {
        struct handle *handle = &replay->handles[i];
        if (handle->name == NULL)
            handle->name = name;
        if (strcmp(handle->name, name) == 0)
            return handle;
    }
    return NULL;
}

static const struct operation *operation_named(const char *name)
{
    for (size_t i = 0; i < sizeof(operations) / sizeof(operations[0]); i++) {
        if (name != NULL && strcmp(operations[i].name, name) == 0)
            return &operations[i];
    }
    return NULL;
}

static uint32_t next_of(const struct handle *handle)
{
    struct cellar_info info;
    if (handle->reader == NULL)
        return cellar_writer_next(handle->writer);
    cellar_reader_info(handle->reader, &info);
    return info.next_index;
}

/* After an operation the log says where its handle stands. */
static void check_length(struct replay *replay, const struct handle *handle, const json_t *operation)
{
    const json_t *length = json_object_get(operation, "current_length");
    if (!json_is_integer(length) || replay->stopped)
        return;
    uint32_t logged = (uint32_t)json_integer_value(length);
    bool elsewhere = handle->original_elsewhere != DIFFERENCE_NONE || handle->original_forgot;
    if (handle->writer != NULL || (handle->reader != NULL && !elsewhere))
        check_number(replay->run, "current length", logged, next_of(handle));
    if (handle->kind == HANDLE_WRITER)
        replay->model.state.next_index = logged;
}

/* An operation that no call of Cellar takes this handle for. */
static void rule_out(struct replay *replay, struct handle *handle, const struct operation *operation,
                     const json_t *logged)
{
    struct outcome outcome;
    apply_difference(replay->run, DIFFERENCE_HANDLE_KINDS);
    handle->original_elsewhere = DIFFERENCE_HANDLE_KINDS; /* it may have moved on its own */
    if (replay_outcome(replay, logged, &outcome) && outcome.error == NULL &&
        (operation->writes || handle->kind == HANDLE_WRITER))
        replay_stop(replay);
}

static void apply_operation(struct replay *replay, struct handle *handle, const struct operation *operation,
                            const json_t *logged)
{
    bool is_open = handle->writer != NULL || handle->reader != NULL;
    if (operation->opens != HANDLE_UNUSED && is_open) {
        unreadable(replay->run, "the handle is open");
        return;
    }
    if (operation->opens != HANDLE_UNUSED)
        handle->kind = operation->opens;
    if (handle->kind == HANDLE_UNUSED) {
        unreadable(replay->run, "the handle was never opened");
        return;
    }
    replay_operation *call = handle->kind == HANDLE_WRITER ? operation->on_writer : operation->on_reader;
    if (call != NULL && (is_open || operation->opens != HANDLE_UNUSED)) {
        call(replay, handle, logged);
        check_length(replay, handle, logged);
    } else if (strcmp(operation->name, "close") != 0) { /* closing twice is fine */
        rule_out(replay, handle, operation, logged);
    }
}

static void replay_one(struct replay *replay, size_t index, const json_t *logged)
{
    const char *name = json_string_value(json_object_get(logged, "op"));
    const char *handle_name = json_string_value(json_object_get(logged, "h"));
    const struct operation *operation = operation_named(name);
    struct handle *handle = handle_named(replay, handle_name == NULL ? "w" : handle_name);
    at_operation(replay->run, index, name == NULL ? "?" : name);
    if (operation == NULL || handle == NULL)
        unreadable(replay->run, operation == NULL ? "an operation that is not known" : "too many handles");
    else
        apply_operation(replay, handle, operation, logged);
}

/* The parts of the header that stand in the golden file as the log implies them; the others were changed after. */
static unsigned explained_parts(struct replay *replay)
{
    const struct bytes *file = &replay->run->golden->file;
    unsigned parts = 0;
    for (unsigned part = 0; part < PART_COUNT; part++) {
        size_t at, length;
        header_part(part, &at, &length);
        if (at + length <= file->length && memcmp(file->at + at, replay->model.bytes + at, length) == 0)
            parts |= 1u << part;
        else
            apply_difference(replay->run, DIFFERENCE_CHANGED_AFTER);
    }
    return parts;
}

/* A store whose first mapping the original made too large can be opened here. */
static void check_first_mapping(struct run *run)
{
    struct cellar_reader_options options = reader_options(run);
    struct cellar_reader *reader;
    at_expect(run, "opening the replayed store");
    apply_difference(run, DIFFERENCE_FIRST_MAPPING);
    if (check_code(run, "result", 0, cellar_reader_open(run->path, &options, &reader)))
        cellar_reader_close(reader);
}

static void compare_files(struct replay *replay)
{
    struct run *run = replay->run;
    const struct bytes *golden = &run->golden->file;
    struct bytes file;
    at_expect(run, "the file after the log");
    if (file_read(run->path, &file) != 0 || file.length < CELLAR_HEADER_BYTES) {
        mismatch(run, "expected a store, got none");
        return;
    }
    check_header(run, replay->model.bytes, file.at, PARTS_ALL);
    if (run->golden->has_file) {
        uint64_t needed = (uint64_t)replay->model.state.next_index * replay->model.config.bytes_per_cell;
        check_header(run, golden->at, file.at, explained_parts(replay));
        if (golden->length < needed)
            apply_difference(run, DIFFERENCE_CHANGED_AFTER);
        check_cells(run, golden, &file, replay->model.config.bytes_per_cell, replay->model.state.next_index,
                    &replay->written);
    }
    free(file.at);
    if (replay->mapped_past_max)
        check_first_mapping(run);
}

void replay_log(struct run *run)
{
    struct replay replay = {.run = run};
    for (size_t i = 0; i < HANDLES_MAX; i++)
        replay.handles[i].original_elsewhere = DIFFERENCE_NONE;
    size_t index;
    const json_t *logged;
    unlink(run->path);
    json_array_foreach(run->golden->log, index, logged)
    {
        if (replay.stopped)
            run->totals->skipped++;
        else if (!run->unreadable)
            replay_one(&replay, index, logged);
    }
    for (size_t i = 0; i < HANDLES_MAX; i++) {
        if (replay.handles[i].writer != NULL)
            replay_power_loss(&replay, &replay.handles[i]);
        cellar_reader_close(replay.handles[i].reader);
    }
    if (!replay.stopped && !run->unreadable && index > 0)
        compare_files(&replay);
    written_end(&replay.written);
    unlink(run->path);
}
