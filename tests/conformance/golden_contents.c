/*
 * The contents of a log in a snapshot: every value that it wrote and every cell as it was written last. The original
 * found some of them changed (by a length that was set back, a crash, a truncation): its "verify" lists those.
 */
#include "golden.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* How often the original found a content at an index changed. what: "chunk" or "cell". */
static unsigned listed_changes(const struct run *run, const char *what, uint32_t index)
{
    const json_t *list = json_object_get(json_object_get(run->golden->expect, "verify"), "mismatches");
    const json_t *entry;
    unsigned count = 0;
    size_t i;
    json_array_foreach(list, i, entry)
    {
        const json_t *at = json_object_get(entry, what);
        if (json_is_integer(at) && json_integer_value(at) == index)
            count++;
    }
    return count;
}

static bool value_is(const struct cellar_snapshot *snapshot, uint32_t index, const struct bytes *content, int *ret_code)
{
    void *value = NULL;
    size_t length = 0;
    *ret_code = cellar_snapshot_copy_value(snapshot, index, &value, &length);
    bool same = *ret_code == 0 && length == content->length && memcmp(value, content->at, length) == 0;
    free(value);
    return same;
}

static bool cell_is(const struct cellar_snapshot *snapshot, uint32_t index, const struct bytes *content, int *ret_code)
{
    void *cell = malloc(content->length + 1);
    *ret_code = cell == NULL ? -ENOMEM : cellar_snapshot_read(snapshot, index, 0, cell, content->length);
    bool same = *ret_code == 0 && memcmp(cell, content->at, content->length) == 0;
    free(cell);
    return same;
}

/* The index of the value or of the cell that an operation wrote; false: it wrote none. */
static bool wrote(const json_t *operation, bool is_value, uint32_t *ret_index)
{
    const json_t *ok = json_object_get(json_object_get(operation, "result"), "ok");
    const char *name = json_string_value(json_object_get(operation, "op"));
    if (ok == NULL || name == NULL || strcmp(name, is_value ? "chunk_write" : "write_cell") != 0)
        return false;
    const json_t *index = is_value ? json_object_get(ok, "last_index") : json_object_get(operation, "index");
    *ret_index = (uint32_t)json_integer_value(index);
    return true;
}

/* Whether the snapshot holds what an operation wrote. */
static bool holds(struct run *run, const struct cellar_snapshot *snapshot, const json_t *operation, bool is_value,
                  uint32_t index)
{
    struct bytes content;
    int code;
    at_expect(run, "verify");
    if (operation_content(operation, &content) != 0) {
        unreadable(run, "expected a content");
        return false;
    }
    bool same = (is_value ? value_is : cell_is)(snapshot, index, &content, &code);
    if (index >= snapshot->next_index && (is_value || content.length > 0))
        check_code(run, is_value ? "chunk" : "cell", CELLAR_EBOUNDS, code);
    free(content.at);
    return same;
}

/* Everything that the log wrote at one index, from its first operation there on. Of a cell only the last content
 * counts, as with the original. */
static void check_index(struct run *run, const struct cellar_snapshot *snapshot, size_t first, bool is_value,
                        uint32_t index)
{
    const json_t *log = run->golden->log;
    const char *what = is_value ? "chunk" : "cell";
    unsigned changed = 0, listed = listed_changes(run, what, index);
    for (size_t i = first; i < json_array_size(log); i++) {
        const json_t *operation = json_array_get(log, i);
        uint32_t at;
        if (!wrote(operation, is_value, &at) || at != index)
            continue;
        bool same = holds(run, snapshot, operation, is_value, index);
        changed = (is_value ? changed : 0) + (same ? 0 : 1);
    }
    if (index < snapshot->next_index && changed != listed)
        mismatch(run, "%s %u, expected %u contents that are not the log's, got %u", what, index, listed, changed);
    else if (index >= snapshot->next_index && changed > listed)
        apply_difference(run, DIFFERENCE_BEYOND_SNAPSHOT);
}

static bool wrote_before(const json_t *log, size_t position, bool is_value, uint32_t index)
{
    for (size_t i = 0; i < position; i++) {
        uint32_t at;
        if (wrote(json_array_get(log, i), is_value, &at) && at == index)
            return true;
    }
    return false;
}

void check_contents(struct run *run, const struct cellar_snapshot *snapshot)
{
    const json_t *log = run->golden->log;
    if (json_object_get(run->golden->expect, "verify") == NULL)
        return;
    for (size_t i = 0; i < json_array_size(log); i++) {
        for (int is_value = 0; is_value <= 1; is_value++) {
            uint32_t index;
            if (wrote(json_array_get(log, i), is_value, &index) && !wrote_before(log, i, is_value, index))
                check_index(run, snapshot, i, is_value, index);
        }
    }
}
