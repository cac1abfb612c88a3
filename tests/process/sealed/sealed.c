#include "sealed.h"

#include "support.h"

#include "format/format.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { SEAL_MAGIC = 0x5ea1ed, LOOK_BACK_MAX = 8, VALUE_BYTES_MIN = 8 };

/* The last cell of a commit begins with this. */
struct seal {
    uint32_t magic;
    uint32_t id;
    uint32_t first_index; /* of the commit's cells */
    uint32_t root_index;
    uint32_t other_root_index;
    uint32_t value_index; /* CELLAR_ROOT_NONE: it has none */
    uint64_t check;       /* over the index and all of the above */
};

/* A value begins with this; bytes that its id names follow. */
struct value_head {
    uint32_t id;
    uint32_t size_bytes;
};

static uint64_t mix(uint64_t a, uint64_t b)
{
    uint64_t state = a * 0x9e3779b97f4a7c15u ^ b;

    return support_random(&state);
}

static uint64_t seal_check(const struct seal *seal, uint32_t index)
{
    uint64_t check = mix(index, seal->magic);

    check = mix(check, (uint64_t)seal->id << 32 | seal->first_index);
    check = mix(check, (uint64_t)seal->root_index << 32 | seal->other_root_index);
    return mix(check, seal->value_index);
}

/* ---- making ---- */

static void make_cell(unsigned char *cell, uint32_t bytes_per_cell, uint32_t index, uint32_t id)
{
    support_bytes(mix(index, id), cell, bytes_per_cell);
    memcpy(cell, &index, sizeof index);
    memcpy(cell + 4, &id, sizeof id);
}

static void make_value(unsigned char *bytes, uint32_t size_bytes, uint32_t id)
{
    struct value_head head = {.id = id, .size_bytes = size_bytes};

    support_bytes(id, bytes, size_bytes);
    memcpy(bytes, &head, sizeof head);
}

static uint32_t value_size(uint64_t *seed)
{
    uint64_t dice = support_random_below(seed, 500);

    if (dice == 0)
        return SEALED_VALUE_BYTES_MAX;
    return VALUE_BYTES_MIN + (uint32_t)support_random_below(seed, dice < 20 ? 4000 : 200);
}

static int append_cells(struct cellar_writer *writer, uint32_t bytes_per_cell, uint32_t id, uint64_t *seed)
{
    uint32_t count = (uint32_t)support_random_below(seed, SEALED_CELLS_MAX + 1), first = cellar_writer_next(writer);
    unsigned char *cells;
    uint32_t index;
    int error;

    if (count == 0)
        return 0;
    cells = malloc((size_t)count * bytes_per_cell);
    if (cells == NULL)
        return -ENOMEM;
    for (uint32_t i = 0; i < count; i++)
        make_cell(cells + (size_t)i * bytes_per_cell, bytes_per_cell, first + i, id);
    error = cellar_writer_append(writer, cells, count, &index);
    free(cells);
    return error;
}

static int append_value(struct cellar_writer *writer, uint32_t id, uint64_t *seed, uint32_t *ret_index)
{
    uint32_t size_bytes = value_size(seed);
    unsigned char *bytes;
    int error;

    if (support_random_below(seed, 3) == 0)
        return 0;
    bytes = malloc(size_bytes);
    if (bytes == NULL)
        return -ENOMEM;
    make_value(bytes, size_bytes, id);
    error = cellar_writer_write_value(writer, bytes, size_bytes, ret_index);
    free(bytes);
    return error;
}

static int read_seal(const struct cellar_snapshot *snapshot, uint32_t index, struct seal *ret_seal)
{
    int error = cellar_snapshot_read(snapshot, index, 0, ret_seal, sizeof *ret_seal);

    if (error != 0)
        return error;
    SUPPORT_CHILD_NEEDS(ret_seal->magic == SEAL_MAGIC);
    SUPPORT_CHILD_NEEDS(ret_seal->check == seal_check(ret_seal, index));
    SUPPORT_CHILD_NEEDS(ret_seal->first_index >= snapshot->start_index && ret_seal->first_index <= index);
    return 0;
}

/* A value of one of the commits before the cell at next_index, or none. */
static int find_old_value(struct cellar_writer *writer, uint32_t next_index, uint64_t steps, uint32_t *ret_index)
{
    struct cellar_snapshot snapshot = cellar_writer_snapshot(writer);
    struct seal seal = {.value_index = CELLAR_ROOT_NONE};

    for (uint64_t step = 0; step <= steps && next_index > snapshot.start_index; step++) {
        int error = read_seal(&snapshot, next_index - 1, &seal);

        if (error != 0)
            return error;
        next_index = seal.first_index;
    }
    *ret_index = seal.value_index;
    return 0;
}

static int choose_root(struct cellar_writer *writer, uint32_t first_index, uint32_t value_index, uint64_t *seed,
                       uint32_t *ret_root_index)
{
    switch (support_random_below(seed, 8)) {
    case 0:
        *ret_root_index = CELLAR_ROOT_NONE;
        return 0;
    case 1:
        return find_old_value(writer, first_index, support_random_below(seed, LOOK_BACK_MAX), ret_root_index);
    case 2:
        *ret_root_index = cellar_writer_root(writer);
        return 0;
    default:
        *ret_root_index = value_index != CELLAR_ROOT_NONE ? value_index : cellar_writer_root(writer);
        return 0;
    }
}

static int append_seal(struct cellar_writer *writer, uint32_t bytes_per_cell, struct seal *seal)
{
    uint32_t index = cellar_writer_next(writer), got;
    unsigned char *cell = malloc(bytes_per_cell);
    int error;

    if (cell == NULL)
        return -ENOMEM;
    make_cell(cell, bytes_per_cell, index, seal->id);
    seal->check = seal_check(seal, index);
    memcpy(cell, seal, sizeof *seal);
    error = cellar_writer_append(writer, cell, 1, &got);
    free(cell);
    return error;
}

static int append(struct cellar_writer *writer, uint32_t bytes_per_cell, uint32_t id, uint64_t *seed)
{
    struct seal seal = {.magic = SEAL_MAGIC, .id = id, .first_index = cellar_writer_next(writer)};
    int error = append_cells(writer, bytes_per_cell, id, seed);

    if (error == 0)
        error = append_value(writer, id, seed, &seal.value_index);
    if (error == 0)
        error = choose_root(writer, seal.first_index, seal.value_index, seed, &seal.root_index);
    if (error == 0)
        error = choose_root(writer, seal.first_index, seal.value_index, seed, &seal.other_root_index);
    if (error == 0)
        error = append_seal(writer, bytes_per_cell, &seal);
    return error == 0 ? cellar_writer_set_root(writer, seal.root_index) : error;
}

int sealed_append(struct cellar_writer *writer, uint32_t id, uint64_t *seed)
{
    struct cellar_info info;
    int error, undone;

    cellar_writer_info(writer, &info);
    error = append(writer, info.config.bytes_per_cell, id, seed);
    if (error != CELLAR_EINDEXFULL)
        return error;
    undone = cellar_writer_rollback(writer);
    return undone != 0 ? undone : error;
}

int sealed_move_root(struct cellar_writer *writer)
{
    struct cellar_snapshot snapshot = cellar_writer_snapshot(writer);
    struct seal seal;
    int error;

    if (snapshot.next_index == snapshot.start_index)
        return 0;
    error = read_seal(&snapshot, snapshot.next_index - 1, &seal);
    return error == 0 ? cellar_writer_set_root(writer, seal.other_root_index) : error;
}

/* ---- checking ---- */

/* Reads length_bytes from the start of cell index on into fresh memory. */
static int take_cells(const struct cellar_snapshot *snapshot, uint32_t index, uint32_t cell_count,
                      unsigned char **ret_bytes)
{
    size_t length_bytes = (size_t)cell_count * snapshot->bytes_per_cell;
    unsigned char *bytes = malloc(length_bytes > 0 ? length_bytes : 1);
    int error = bytes == NULL ? -ENOMEM : 0;

    if (error == 0 && length_bytes > 0)
        error = cellar_snapshot_read(snapshot, index, 0, bytes, length_bytes);
    if (error == 0)
        *ret_bytes = bytes;
    else
        free(bytes);
    return error;
}

static int check_cells(const struct cellar_snapshot *snapshot, uint32_t first_index, uint32_t end_index, uint32_t id)
{
    unsigned char *expected = malloc(snapshot->bytes_per_cell), *cells;
    int result = expected == NULL ? -ENOMEM : take_cells(snapshot, first_index, end_index - first_index, &cells);

    if (result != 0) {
        free(expected);
        return result;
    }
    for (uint32_t index = first_index; index < end_index; index++) {
        make_cell(expected, snapshot->bytes_per_cell, index, id);
        if (memcmp(expected, cells + (size_t)(index - first_index) * snapshot->bytes_per_cell,
                   snapshot->bytes_per_cell) != 0)
            result = __LINE__;
    }
    free(expected);
    free(cells);
    return result;
}

static int compare_value(const unsigned char *bytes, size_t size_bytes, struct value_head *ret_head)
{
    unsigned char *expected;
    bool same;

    SUPPORT_CHILD_NEEDS(size_bytes >= sizeof *ret_head);
    memcpy(ret_head, bytes, sizeof *ret_head);
    SUPPORT_CHILD_NEEDS(ret_head->size_bytes == size_bytes);
    expected = malloc(size_bytes);
    if (expected == NULL)
        return -ENOMEM;
    make_value(expected, ret_head->size_bytes, ret_head->id);
    same = memcmp(bytes, expected, size_bytes) == 0;
    free(expected);
    SUPPORT_CHILD_NEEDS(same);
    return 0;
}

/* The value is whole; of which commit it is, and how many cells it has. */
static int check_value(const struct cellar_snapshot *snapshot, uint32_t index, uint32_t *ret_id, uint32_t *ret_cells)
{
    size_t size_bytes;
    struct value_head head;
    void *bytes;
    int result = cellar_snapshot_copy_value(snapshot, index, &bytes, &size_bytes);

    if (result != 0)
        return result;
    result = compare_value(bytes, size_bytes, &head);
    free(bytes);
    if (result != 0)
        return result;
    *ret_id = head.id;
    *ret_cells = (uint32_t)cellar_value_cells(snapshot->bytes_per_cell, size_bytes);
    return 0;
}

static int check_commit(const struct cellar_snapshot *snapshot, const struct seal *seal, uint32_t seal_index)
{
    uint32_t cells_end = seal_index, id, value_cells;
    unsigned char *expected, *cell;
    int result;

    if (seal->value_index != CELLAR_ROOT_NONE) {
        SUPPORT_CHILD_NEEDS(seal->value_index == seal_index - 1);
        result = check_value(snapshot, seal->value_index, &id, &value_cells);
        if (result != 0)
            return result;
        SUPPORT_CHILD_NEEDS(id == seal->id);
        SUPPORT_CHILD_NEEDS(value_cells <= seal_index - seal->first_index);
        cells_end = seal_index - value_cells;
    }
    result = check_cells(snapshot, seal->first_index, cells_end, seal->id);
    if (result != 0)
        return result;
    result = take_cells(snapshot, seal_index, 1, &cell);
    if (result != 0)
        return result;
    expected = malloc(snapshot->bytes_per_cell);
    if (expected == NULL) {
        free(cell);
        return -ENOMEM;
    }
    make_cell(expected, snapshot->bytes_per_cell, seal_index, seal->id);
    result = memcmp(cell + sizeof *seal, expected + sizeof *seal, snapshot->bytes_per_cell - sizeof *seal) == 0
                 ? 0
                 : __LINE__;
    free(expected);
    free(cell);
    return result;
}

/* The root is one that its next index has, and names a whole value. */
static int check_root(const struct cellar_snapshot *snapshot)
{
    uint32_t id, cells;
    struct seal seal;
    int result;

    if (snapshot->next_index == snapshot->start_index) {
        SUPPORT_CHILD_NEEDS(snapshot->root_index == CELLAR_ROOT_NONE);
        return 0;
    }
    result = read_seal(snapshot, snapshot->next_index - 1, &seal);
    if (result != 0)
        return result;
    SUPPORT_CHILD_NEEDS(snapshot->root_index == seal.root_index || snapshot->root_index == seal.other_root_index);
    if (snapshot->root_index == CELLAR_ROOT_NONE)
        return 0;
    result = check_value(snapshot, snapshot->root_index, &id, &cells);
    if (result != 0)
        return result;
    SUPPORT_CHILD_NEEDS(id <= seal.id);
    return 0;
}

/* Walks from the last seal down to end_index. ids: what is known of them below known_next; what is not known is
 * remembered where remember is. */
static int walk(const struct cellar_snapshot *snapshot, uint32_t end_index, struct sealed_memory *memory, bool remember,
                uint64_t *ret_commits)
{
    uint32_t next = snapshot->next_index, last_id = UINT32_MAX;

    while (next > end_index) {
        struct seal seal;
        int result = read_seal(snapshot, next - 1, &seal);

        if (result == 0)
            result = check_commit(snapshot, &seal, next - 1);
        if (result != 0)
            return result;
        SUPPORT_CHILD_NEEDS(seal.id < last_id && seal.first_index >= end_index);
        last_id = seal.id;
        for (uint32_t index = seal.first_index; index < next; index++) {
            if (index < memory->known_next)
                SUPPORT_CHILD_NEEDS(memory->ids[index] == seal.id);
            else if (remember)
                memory->ids[index] = seal.id;
        }
        next = seal.first_index;
        if (ret_commits != NULL)
            ++*ret_commits;
    }
    if (next > snapshot->start_index) /* ids rise over what was known before, too */
        SUPPORT_CHILD_NEEDS(memory->ids[next - 1] < last_id);
    return 0;
}

int sealed_check(const struct cellar_snapshot *snapshot, struct sealed_memory *memory, uint64_t *ret_commits)
{
    int result = check_root(snapshot);

    if (result == 0)
        result = walk(snapshot, memory->known_next, memory, true, ret_commits);
    if (result == 0 && snapshot->next_index > memory->known_next)
        memory->known_next = snapshot->next_index;
    return result;
}

int sealed_check_all(const struct cellar_snapshot *snapshot, const struct sealed_memory *memory)
{
    struct sealed_memory copy = *memory;
    int result = check_root(snapshot);

    return result == 0 ? walk(snapshot, snapshot->start_index, &copy, false, NULL) : result;
}
