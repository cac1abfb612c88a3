/* What the original did with a golden file, and what Cellar does with a copy of it. */
#include "golden.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* The outcome at a name of the expectation; false: the original did not get there. */
static bool expected_outcome(struct run *run, const char *name, struct outcome *ret_outcome)
{
    const json_t *result = json_object_get(run->golden->expect, name);
    at_expect(run, name);
    if (result != NULL && json_outcome(result, ret_outcome) == 0)
        return true;
    if (result != NULL)
        unreadable(run, "expected a result, ok or error");
    return false;
}

/* Whether a verdict differs from the original's outcome; it is counted then. */
static bool differs(struct run *run, struct verdict verdict, struct outcome outcome)
{
    if (verdict.id == DIFFERENCE_NONE || outcome_code(outcome) == verdict.code)
        return false;
    apply_difference(run, verdict.id);
    return true;
}

static void copy_golden(struct run *run)
{
    unlink(run->path);
    int error = file_write(run->path, &run->golden->file);
    if (error != 0)
        unreadable(run, "%s: %s", run->path, strerror(-error));
}

/* The file must be as it was, to the byte. */
static void check_untouched(struct run *run)
{
    const struct bytes *golden = &run->golden->file;
    struct bytes file;
    int error = file_read(run->path, &file);
    if (error != 0) {
        mismatch(run, "the file, expected it unchanged, got %s", strerror(-error));
        return;
    }
    if (check_number(run, "size of the file", golden->length, file.length))
        check_bytes(run, "the file", golden->at, file.at, golden->length);
    free(file.at);
}

/* ---- reading ---- */

static void check_config(struct run *run, const json_t *config, const struct cellar_info *info)
{
    struct cellar_config expected;
    if (operation_config(config, &expected) != 0) {
        unreadable(run, "expected a config");
        return;
    }
    check_bytes(run, "head string", expected.head, info->config.head, sizeof(expected.head));
    check_number(run, "bytes per cell", expected.bytes_per_cell, info->config.bytes_per_cell);
    check_number(run, "max index", expected.max_index, info->config.max_index);
    check_number(run, "version", expected.version, info->config.version);
}

static struct cellar_reader *open_reader(struct run *run)
{
    struct cellar_reader_options options = reader_options(run);
    struct cellar_reader *reader = NULL;
    struct outcome outcome;
    if (!expected_outcome(run, "reader_open", &outcome))
        return NULL;
    struct verdict verdict = judge_reader(&run->golden->file);
    int code = cellar_reader_open(run->path, &options, &reader);
    if (differs(run, verdict, outcome)) {
        check_code(run, "result", verdict.code, code);
    } else if (check_code(run, "result", outcome_code(outcome), code) && code == 0) {
        struct cellar_info info;
        cellar_reader_info(reader, &info);
        check_path(run, &info);
        check_info(run, json_object_get(outcome.value, "state"), &info);
        check_config(run, json_object_get(outcome.value, "config"), &info);
    }
    return code == 0 ? reader : NULL;
}

/* "GoodKey", "BadKey" or an error. */
static void check_key(struct run *run, struct cellar_reader *reader, const struct cellar_key *key)
{
    struct outcome outcome;
    if (!expected_outcome(run, "check_writer_key", &outcome))
        return;
    const char *verdict = json_string_value(outcome.value);
    int expected = verdict != NULL && strcmp(verdict, "BadKey") == 0 ? CELLAR_EBADKEY : outcome_code(outcome);
    check_code(run, "result", expected, cellar_reader_check_key(reader, key));
}

/* The key is looked at before the next index that goes with it. */
static struct verdict judge_follow(const struct run *run, struct outcome outcome)
{
    struct verdict verdict = judge_process_sync(&run->golden->file);
    if (verdict.id == DIFFERENCE_BEYOND_FILE && outcome_code(outcome) == CELLAR_EBADKEY)
        verdict.id = DIFFERENCE_NONE;
    return verdict;
}

/* Follows process sync: one call in the original, two here. */
static int follow(struct cellar_reader *reader, const struct cellar_key *key)
{
    int code = cellar_reader_enable_process_sync(reader, key);
    if (code == 0)
        code = cellar_reader_refresh(reader);
    return code == CELLAR_NONE ? 0 : code;
}

static void check_follow(struct run *run, struct cellar_reader *reader, const struct cellar_key *key, const char *name)
{
    struct cellar_info before, info;
    struct outcome outcome;
    if (!expected_outcome(run, name, &outcome))
        return;
    struct verdict verdict = judge_follow(run, outcome);
    cellar_reader_info(reader, &before);
    int code = follow(reader, key);
    cellar_reader_info(reader, &info);
    bool listed = differs(run, verdict, outcome);
    check_code(run, "result", listed ? verdict.code : outcome_code(outcome), code);
    if (code == 0 && outcome.error == NULL) {
        check_info(run, outcome.value, &info);
    } else if (code != 0) {
        check_number(run, "next index as before", before.next_index, info.next_index);
        check_number(run, "root index as before", before.root_index, info.root_index);
    }
}

/* A reader that is opened with the key gets there at once. */
static void check_open_with_key(struct run *run, const struct cellar_key *key)
{
    struct cellar_reader_options options = reader_options(run);
    struct cellar_reader *reader = NULL;
    struct outcome outcome;
    if (!expected_outcome(run, "reader_process_sync_good_key", &outcome))
        return;
    struct verdict verdict = judge_follow(run, outcome);
    bool listed = differs(run, verdict, outcome);
    options.key = key;
    int code = cellar_reader_open(run->path, &options, &reader);
    check_code(run, "opening with the key", listed ? verdict.code : outcome_code(outcome), code);
    if (code == 0 && outcome.error == NULL) {
        struct cellar_info info;
        cellar_reader_info(reader, &info);
        check_info(run, outcome.value, &info);
    }
    cellar_reader_close(reader);
}

void check_reading(struct run *run)
{
    struct cellar_key key, wrong;
    copy_golden(run);
    if (json_key(run->golden->expect, "key", &key) != 0)
        unreadable(run, "expected a key");
    if (run->unreadable)
        return;
    for (size_t i = 0; i < sizeof(key.bytes); i++)
        wrong.bytes[i] = key.bytes[i] ^ 0xff;
    struct cellar_reader *reader = open_reader(run);
    if (reader != NULL) {
        struct cellar_snapshot snapshot = cellar_reader_snapshot(reader);
        check_key(run, reader, &key);
        check_follow(run, reader, &wrong, "reader_process_sync_wrong_key");
        check_contents(run, &snapshot);
        check_follow(run, reader, &key, "reader_process_sync_good_key");
        snapshot = cellar_reader_snapshot(reader);
        check_contents(run, &snapshot);
        cellar_reader_close(reader);
        check_open_with_key(run, &key);
    }
    at_expect(run, "the file after reading");
    check_untouched(run);
}

/* ---- writing ---- */

/* What a writer on a golden file must do: the original's results, or a difference and what its table says. */
struct expected_writer {
    bool listed;
    struct verdict verdict;
    struct cellar_key key;
    struct state state;
};

/* The header in the file against slots: the four of the expectation, or those of a state where a difference rules. */
static void check_slots(struct run *run, const struct expected_writer *expected, const char *name,
                        const struct bytes *file)
{
    unsigned char header[HEADER_USED_BYTES];
    const json_t *slots = json_object_get(run->golden->expect, name);
    memcpy(header, run->golden->file.at, CONFIG_BYTES);
    slots_encode(expected->state, &expected->key, header + CONFIG_BYTES);
    if (!expected->listed && slots != NULL) {
        for (size_t i = 0; i < 4; i++) {
            const json_t *raw = json_object_get(json_array_get(slots, i), "raw");
            if (json_hex(raw, header + CONFIG_BYTES + i * SLOT_BYTES, SLOT_BYTES) != 0)
                unreadable(run, "expected four slots in %s", name);
        }
    }
    check_header(run, header, file->at, PARTS_ALL);
}

static void check_file(struct run *run, const struct expected_writer *expected, const char *slots, uint32_t next_index)
{
    struct cellar_config config;
    struct bytes file;
    at_expect(run, slots);
    if (file_read(run->path, &file) != 0 || file.length < CELLAR_HEADER_BYTES) {
        mismatch(run, "expected a store, got none");
        return;
    }
    config_read(run->golden->file.at, &config);
    check_slots(run, expected, slots, &file);
    check_cells(run, &run->golden->file, &file, config.bytes_per_cell, next_index, NULL);
    free(file.at);
}

static void check_writer_state(struct run *run, struct cellar_writer *writer, struct expected_writer *expected,
                               struct outcome outcome)
{
    const json_t *logs = json_object_get(json_object_get(run->golden->expect, "writer_open_on_copy"), "logs");
    long skipped = logged_skipped_cells(logs);
    struct verdict as_original = {.found = skipped < 0 ? CELLAR_FOUND_CLEAN : CELLAR_FOUND_UNFLUSHED,
                                  .skipped_cells = skipped < 0 ? 0 : (uint32_t)skipped};
    struct verdict verdict = expected->listed ? expected->verdict : as_original;
    struct cellar_recovery recovery;
    struct cellar_info info;
    cellar_writer_info(writer, &info);
    cellar_writer_recovery(writer, &recovery);
    check_path(run, &info);
    if (expected->listed) {
        expected->state = verdict.state;
        check_state(run, verdict.state, &info);
    } else {
        json_state(json_object_get(outcome.value, "state"), &expected->state);
        check_info(run, json_object_get(outcome.value, "state"), &info);
        check_config(run, json_object_get(outcome.value, "config"), &info);
    }
    if (verdict.found != CELLAR_FOUND_NOTHING)
        check_number(run, "what was found", verdict.found, recovery.found);
    else if (recovery.found == CELLAR_FOUND_CLEAN)
        mismatch(run, "what was found, expected anything but a clean store, got that");
    check_number(run, "skipped cells", verdict.skipped_cells, recovery.skipped_cells);
}

/* A new index after opening. The original may not give one below max index; then the slots after it are not its. */
static void check_new_index(struct run *run, struct cellar_writer *writer, struct expected_writer *expected)
{
    struct outcome outcome;
    struct cellar_info info;
    uint32_t index = 0;
    void *cells;
    bool known = expected_outcome(run, "writer_then_new_index", &outcome);
    cellar_writer_info(writer, &info);
    int code = cellar_writer_reserve(writer, 1, &index, &cells);
    bool fits = expected->state.next_index < info.config.max_index;
    if (known && outcome_code(outcome) == CELLAR_EINDEXFULL && fits) {
        apply_difference(run, DIFFERENCE_EARLY_OVERFLOW);
        expected->listed = true;
    }
    if (!check_code(run, "result", fits ? 0 : CELLAR_EINDEXFULL, code) || code != 0)
        return;
    check_number(run, "index", expected->state.next_index, index);
    if (known && outcome.error == NULL)
        check_number(run, "index", (uint64_t)json_integer_value(outcome.value), index);
    expected->state.next_index++;
}

static void use_writer(struct run *run, struct cellar_writer *writer, struct expected_writer *expected,
                       struct outcome outcome)
{
    check_writer_state(run, writer, expected, outcome);
    uint32_t next_index = expected->state.next_index;
    check_file(run, expected, "writer_after_open_slots", next_index);
    struct cellar_snapshot snapshot = cellar_writer_snapshot(writer);
    check_contents(run, &snapshot);
    check_new_index(run, writer, expected);
    at_expect(run, "closing the writer");
    check_code(run, "result", 0, cellar_writer_close(writer));
    check_file(run, expected, "writer_after_close_slots", next_index);
}

void check_writing(struct run *run)
{
    struct cellar_writer_options options = writer_options(run);
    struct cellar_writer *writer = NULL;
    struct expected_writer expected = {.verdict = judge_writer(&run->golden->file)};
    struct outcome outcome;
    copy_golden(run);
    if (run->unreadable || json_key(run->golden->expect, "key", &expected.key) != 0 ||
        !expected_outcome(run, "writer_open_on_copy", &outcome))
        return;
    options.key = &expected.key;
    options.resize_step_bytes = (uint64_t)json_integer_value(json_object_get(run->golden->expect, "probe_step"));
    int code = cellar_writer_open(run->path, &options, &writer);
    expected.listed = differs(run, expected.verdict, outcome);
    int expected_code = expected.listed ? expected.verdict.code : outcome_code(outcome);
    bool opened = check_code(run, "result", expected_code, code) && code == 0;
    if (opened)
        use_writer(run, writer, &expected, outcome);
    else if (code == 0)
        cellar_writer_abandon(writer);
    else
        check_untouched(run);
    unlink(run->path);
}
