/* Every comparison of the golden replay. Each prints its own mismatch and says whether there was none. */
#include "golden.h"
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void mismatch(struct run *run, const char *format, ...)
{
    va_list arguments;
    printf("%s: %s: ", run->golden->name, run->where);
    va_start(arguments, format);
    vprintf(format, arguments);
    va_end(arguments);
    printf(" [%s]\n", run->device_label);
    run->totals->mismatches++;
}

void unreadable(struct run *run, const char *format, ...)
{
    va_list arguments;
    fprintf(stderr, "conformance: %s: %s: ", run->golden->name, run->where);
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fprintf(stderr, "\n");
    run->unreadable = true;
}

void at_operation(struct run *run, size_t index, const char *operation)
{
    snprintf(run->where, sizeof(run->where), "op %zu (%s)", index, operation);
    run->totals->operations++;
}

void at_expect(struct run *run, const char *what)
{
    snprintf(run->where, sizeof(run->where), "expect (%s)", what);
    run->totals->operations++;
}

void apply_difference(struct run *run, enum difference_id id)
{
    differences_note(run->ledger, id, run->golden->name);
    if (differences[id].left_out)
        run->totals->skipped++;
    else
        run->totals->listed_differences++;
    if (run->verify_table && !differences_names(id, run->golden->name))
        mismatch(run, "%s applies, expected the table to name this file with it, got a table without it",
                 differences[id].id);
}

static const char *code_text(int code)
{
    if (code == 0)
        return "done";
    return code > 0 ? "an error of no known kind" : cellar_strerror(code);
}

bool check_code(struct run *run, const char *what, int expected, int got)
{
    if (expected == got)
        return true;
    mismatch(run, "%s, expected %d (%s), got %d (%s)", what, expected, code_text(expected), got, code_text(got));
    return false;
}

bool check_number(struct run *run, const char *what, uint64_t expected, uint64_t got)
{
    if (expected == got)
        return true;
    mismatch(run, "%s, expected %" PRIu64 ", got %" PRIu64, what, expected, got);
    return false;
}

bool check_bytes(struct run *run, const char *what, const void *expected, const void *got, size_t length)
{
    const unsigned char *a = expected, *b = got;
    for (size_t i = 0; i < length; i++) {
        if (a[i] == b[i])
            continue;
        mismatch(run, "%s, byte %zu of %zu, expected %02x, got %02x", what, i, length, a[i], b[i]);
        return false;
    }
    return true;
}

void check_path(struct run *run, const struct cellar_info *info)
{
    enum cellar_data_path expected = run->device == CELLAR_DEVICE_PAGES ? CELLAR_PATH_PAGES : CELLAR_PATH_WINDOW;
    check_number(run, "data path", expected, info->data_path);
}

const char *header_part(unsigned part, size_t *ret_at, size_t *ret_length)
{
    static const char *const names[PART_COUNT] = {"config", "disk-sync slot #1", "disk-sync slot #2",
                                                  "process-sync slot #1", "process-sync slot #2"};
    *ret_at = part == 0 ? 0 : CONFIG_BYTES + (part - 1) * (size_t)SLOT_BYTES;
    *ret_length = part == 0 ? CONFIG_BYTES : SLOT_BYTES;
    return names[part];
}

void check_header(struct run *run, const void *expected, const void *got, unsigned parts)
{
    for (unsigned part = 0; part < PART_COUNT; part++) {
        size_t at, length;
        const char *name = header_part(part, &at, &length);
        if ((parts >> part & 1) != 0)
            check_bytes(run, name, (const unsigned char *)expected + at, (const unsigned char *)got + at, length);
    }
}

/* One cell; whether it held a byte that nobody wrote and that is zero here and not there. */
static bool check_cell(struct run *run, const struct bytes *expected, const struct bytes *got, uint64_t cell,
                       uint32_t bytes_per_cell, const struct written *written, bool *ret_stale)
{
    uint64_t end = (cell + 1) * bytes_per_cell;
    for (uint64_t at = cell * bytes_per_cell; at < end; at++) {
        if (expected->at[at] == got->at[at])
            continue;
        if (written == NULL || written_has(written, at) || got->at[at] != 0) {
            mismatch(run, "cell %" PRIu64 ", byte %" PRIu64 " of %" PRIu32 ", expected %02x, got %02x", cell,
                     at % bytes_per_cell, bytes_per_cell, expected->at[at], got->at[at]);
            return false;
        }
        *ret_stale = true;
    }
    return true;
}

void check_cells(struct run *run, const struct bytes *expected, const struct bytes *got, uint32_t bytes_per_cell,
                 uint32_t next_index, const struct written *written)
{
    bool stale = false;
    for (uint64_t cell = start_index_of(bytes_per_cell); cell < next_index; cell++) {
        uint64_t end = (cell + 1) * bytes_per_cell;
        if (end > expected->length)
            break;
        if (end > got->length) {
            mismatch(run, "cell %" PRIu64 ", expected it in the file, got a file of %zu bytes", cell, got->length);
            break;
        }
        if (!check_cell(run, expected, got, cell, bytes_per_cell, written, &stale))
            break; /* one is enough: what follows is often all shifted */
    }
    if (stale)
        apply_difference(run, DIFFERENCE_STALE_BYTES);
}

void check_state(struct run *run, struct state expected, const struct cellar_info *info)
{
    uint32_t bytes_per_cell = info->config.bytes_per_cell;
    check_number(run, "next index", expected.next_index, info->next_index);
    check_number(run, "root index", expected.root_index, info->root_index);
    check_number(run, "start index", start_index_of(bytes_per_cell), info->start_index);
    check_number(run, "size", (uint64_t)expected.next_index * bytes_per_cell, info->size_bytes);
}

void check_info(struct run *run, const json_t *state, const struct cellar_info *info)
{
    struct state expected;
    const char *size = json_string_value(json_object_get(state, "size"));
    const json_t *start = json_object_get(state, "start_index");
    const json_t *step = json_object_get(state, "resize_step_cells");
    if (json_is_null(state))
        return;
    if (json_state(state, &expected) != 0) {
        unreadable(run, "expected a state");
        return;
    }
    check_number(run, "next index", expected.next_index, info->next_index);
    check_number(run, "root index", expected.root_index, info->root_index);
    if (size != NULL)
        check_number(run, "size", strtoull(size, NULL, 10), info->size_bytes);
    if (json_is_integer(start))
        check_number(run, "start index", (uint64_t)json_integer_value(start), info->start_index);
    if (json_is_integer(step) && info->mode == CELLAR_MODE_WRITER)
        check_number(run, "resize step", (uint64_t)json_integer_value(step), info->resize_step_cells);
}
