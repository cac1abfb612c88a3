/*
 * fuzz_ops.c - operations on a store against a model of it in plain memory, on a device in memory, with a window and
 * without: after each of them the store, and two readers that follow it, must say what the model says. The device may
 * be full early, and may fail; then the writer is opened again, and everything committed must be there.
 */
#include "fuzz_ops_model.h"
#include "fuzz_room.h"

#include <errno.h>

enum { OPERATIONS_MAX = 300 };

/* What an append of so many cells should say. */
static int expected_of(const struct ops_model *m, uint64_t cell_count)
{
    uint64_t end = m->now.next_index + cell_count;

    if (end > m->config.max_index)
        return CELLAR_EINDEXFULL;
    return end * m->config.bytes_per_cell > m->limit_bytes ? -ENOSPC : 0;
}

/* Where the device is too small an error of it comes from growing, which leaves the writer as it is. With a window that
 * ends before, it is another one. */
static bool appended(struct ops_model *m, int result, uint64_t cell_count)
{
    int expected = expected_of(m, cell_count);

    if (expected == -ENOSPC && result == CELLAR_EWINDOW && m->fuzz.has_window)
        return false;
    return ops_went_well(m, result, expected);
}

static void do_append(struct ops_model *m)
{
    uint32_t b = m->config.bytes_per_cell, count = 1 + ops_below(m, 64), index = 0;

    if ((size_t)count * b > OPS_WRITE_BYTES_MAX)
        count = 1;
    fuzz_fill(m->buffer, (size_t)count * b, ops_below(m, 256));
    if (!appended(m, cellar_writer_append(m->writer, m->buffer, count, &index), count))
        return;
    FUZZ_NEEDS(index == m->now.next_index);
    ops_define(m, (uint64_t)index * b, m->buffer, (size_t)count * b);
    m->now.next_index += count;
}

static void do_append_bytes(struct ops_model *m)
{
    uint32_t b = m->config.bytes_per_cell, index = 0;
    size_t length_bytes = 1 + ops_below(m, 3 * b);
    uint32_t count = (uint32_t)((length_bytes + b - 1) / b);

    fuzz_fill(m->buffer, length_bytes, ops_below(m, 256));
    if (!appended(m, cellar_writer_append_bytes(m->writer, m->buffer, length_bytes, &index), count))
        return;
    for (size_t i = length_bytes; i < (size_t)count * b; i++)
        m->buffer[i] = 0;
    ops_define(m, (uint64_t)index * b, m->buffer, (size_t)count * b);
    m->now.next_index += count;
}

/* Some of the reserved bytes are filled. */
static void do_reserve(struct ops_model *m)
{
    uint32_t b = m->config.bytes_per_cell, count = 1 + ops_below(m, 8), index = 0;
    size_t offset = ops_below(m, b), length_bytes = ops_below(m, count * b - (uint32_t)offset + 1);
    void *cells = NULL;

    if (!appended(m, cellar_writer_reserve(m->writer, count, &index, &cells), count))
        return;
    FUZZ_NEEDS(index == m->now.next_index);
    ops_undefine(m, index, count);
    if (length_bytes > 0) {
        fuzz_fill((unsigned char *)cells + offset, length_bytes, index);
        ops_define(m, (uint64_t)index * b + offset, (unsigned char *)cells + offset, length_bytes);
    }
    m->now.next_index += count;
}

/* Values whose bytes are overwritten are no values of the model any more. */
static void forget_from(struct ops_model *m, uint32_t index)
{
    while (m->value_count > 0 && m->values[m->value_count - 1].index >= index)
        m->value_count--;
}

/* Also of what may not be: the header, committed cells, what is not there. */
static void do_rewrite(struct ops_model *m)
{
    uint32_t b = m->config.bytes_per_cell, span = m->now.next_index - m->committed.next_index;
    uint32_t index =
        ops_below(m, 4) == 0 ? ops_below(m, m->now.next_index + 2) : m->committed.next_index + ops_below(m, span + 1);
    size_t length_bytes = ops_below(m, 2 * b);
    uint64_t offset = (uint64_t)index * b, end = (uint64_t)m->now.next_index * b;
    int expected = 0;

    if (index < m->start || offset >= end || length_bytes > end - offset)
        expected = CELLAR_EBOUNDS;
    else if (index < m->committed.next_index)
        expected = -EINVAL;
    fuzz_fill(m->buffer, length_bytes, ops_below(m, 256));
    if (!ops_went_well(m, cellar_writer_rewrite(m->writer, index, m->buffer, length_bytes), expected))
        return;
    ops_define(m, offset, m->buffer, length_bytes);
    forget_from(m, index);
}

/* The chunks of a value, as docs/format.md has them; returns its index. */
static uint32_t define_value(struct ops_model *m, const unsigned char *bytes, size_t length_bytes)
{
    uint32_t b = m->config.bytes_per_cell, cdr = 0;

    do {
        size_t part = length_bytes < 65535 ? length_bytes : 65535;
        uint32_t cells = (uint32_t)((part + 6 + b - 1) / b), first = m->now.next_index;
        unsigned char footer[6] = {(unsigned char)part,       (unsigned char)(part >> 8), (unsigned char)cdr,
                                   (unsigned char)(cdr >> 8), (unsigned char)(cdr >> 16), (unsigned char)(cdr >> 24)};

        ops_undefine(m, first, cells);
        ops_define(m, (uint64_t)first * b, bytes, part);
        ops_define(m, (uint64_t)(first + cells) * b - 6, footer, 6);
        m->now.next_index += cells;
        cdr = m->now.next_index - 1;
        bytes += part;
        length_bytes -= part;
    } while (length_bytes > 0);
    return cdr;
}

static void do_value(struct ops_model *m)
{
    static const uint32_t most[] = {10, 100, 300, 5000};
    struct ops_value value = {.number = ops_below(m, 256)};
    uint32_t choice = ops_below(m, 64);
    struct iovec parts[2];
    size_t cut;
    int result;

    value.length_bytes = choice == 63 ? 65530 + ops_below(m, 400) : ops_below(m, most[choice % 4]);
    cut = value.length_bytes > 0 ? (choice * 37u) % value.length_bytes : 0;
    parts[0] = (struct iovec){.iov_base = m->buffer, .iov_len = cut};
    parts[1] = (struct iovec){.iov_base = m->buffer + cut, .iov_len = value.length_bytes - cut};
    fuzz_fill(m->buffer, value.length_bytes, value.number);
    if ((choice & 4) == 0)
        result = cellar_writer_write_value(m->writer, m->buffer, value.length_bytes, &value.index);
    else
        result = cellar_writer_write_value_parts(m->writer, parts, 2, &value.index);
    if (!appended(m, result, cellar_value_cells(m->config.bytes_per_cell, value.length_bytes)))
        return;
    FUZZ_NEEDS(define_value(m, m->buffer, value.length_bytes) == value.index);
    if (m->value_count == OPS_VALUES_MAX) {
        for (size_t i = 1; i < OPS_VALUES_MAX; i++)
            m->values[i - 1] = m->values[i];
        m->value_count--;
    }
    m->values[m->value_count++] = value;
}

static void do_set_root(struct ops_model *m)
{
    uint32_t root = ops_below(m, m->now.next_index + 2);
    bool good = root == CELLAR_ROOT_NONE || (root >= m->start && root < m->now.next_index);

    if (ops_went_well(m, cellar_writer_set_root(m->writer, root), good ? 0 : CELLAR_EBOUNDS))
        m->now.root_index = root;
}

static void do_commit(struct ops_model *m)
{
    if (ops_went_well(m, cellar_writer_commit(m->writer), 0))
        ops_note_commit(m);
}

static void do_flush(struct ops_model *m)
{
    bool committed = ops_below(m, 3) == 0;

    m->tried_roots[m->tried_count++ % OPS_TRIED_MAX] = committed ? m->committed.root_index : m->now.root_index;
    if (committed) {
        if (!ops_went_well(m, cellar_writer_flush_committed(m->writer), 0))
            return;
    } else {
        if (!ops_went_well(m, cellar_writer_flush(m->writer), 0))
            return;
        ops_note_commit(m);
    }
    m->flushed = m->committed;
    m->tried_count = 0;
}

static void do_rollback(struct ops_model *m)
{
    if (!ops_went_well(m, cellar_writer_rollback(m->writer), 0))
        return;
    m->now = m->committed;
    ops_forget_values(m);
}

static void do_close(struct ops_model *m)
{
    struct cellar_recovery recovery;
    struct cellar_writer *second;

    FUZZ_NEEDS(cellar_writer_open_on(m->device, &m->options, &second) == CELLAR_EBUSY);
    m->fuzz.honest = true;
    ops_note_commit(m); /* closing commits */
    m->flushed = m->committed;
    m->tried_count = 0;
    FUZZ_NEEDS(cellar_writer_close(m->writer) == 0);
    FUZZ_NEEDS(cellar_writer_open_on(m->device, &m->options, &m->writer) == 0);
    cellar_writer_recovery(m->writer, &recovery);
    FUZZ_NEEDS(recovery.found == CELLAR_FOUND_CLEAN && recovery.repaired_slots == 0);
}

static void do_abandon(struct ops_model *m)
{
    ops_open_again(m);
}

/* As if the machine had gone down, with nothing lost. */
static void do_boot(struct ops_model *m)
{
    if (m->fuzz.incarnation == 0)
        return;
    m->fuzz.incarnation += ops_below(m, 2) == 0 ? UINT64_C(1) << 32 : 1;
    m->lost_boot = true;
    ops_open_again(m);
}

static void do_override_version(struct ops_model *m)
{
    uint32_t version = ops_below(m, UINT32_MAX), before = m->config.version;
    int result = cellar_writer_override_version(m->writer, version);

    m->config.version = version;
    if (!ops_went_well(m, result, 0)) /* it may be the one or the other: to be told again, before that is asked */
        m->config.version = before;
}

/* From here on the device answers as the input says. */
static void do_fail(struct ops_model *m)
{
    m->fuzz.honest = false;
}

static void do_heal(struct ops_model *m)
{
    m->fuzz.honest = true;
}

static void (*const operations[])(struct ops_model *m) = {
    do_append, do_append,   do_append_bytes, do_reserve, do_rewrite, do_value, do_value,   do_set_root,
    do_commit, do_flush,    do_rollback,     do_close,   do_abandon, do_fail,  do_heal,    do_override_version,
    do_commit, do_set_root, do_reserve,      do_value,   do_append,  do_flush, do_rewrite, do_boot,
};

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length_bytes)
{
    struct fuzz_input input = {.bytes = bytes, .length_bytes = length_bytes};
    struct ops_model m;

    ops_begin(&m, &input);
    for (int i = 0; i < OPERATIONS_MAX && fuzz_more(&input); i++) {
        bool was_version;
        uint32_t which = ops_below(&m, FUZZ_COUNT(operations));

        was_version = operations[which] == do_override_version;
        operations[which](&m);
        if (m.failed) {
            ops_open_again(&m);
            if (was_version)
                FUZZ_NEEDS(cellar_writer_override_version(m.writer, m.config.version) == 0);
        }
        ops_check(&m);
    }
    ops_end(&m);
    FUZZ_NEEDS(fuzz_rooms_taken() == 0);
    return 0;
}
