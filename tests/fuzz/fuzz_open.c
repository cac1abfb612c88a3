/*
 * fuzz_open.c - any bytes as a store: opened for read on both data paths, which must say the same, and for write, by
 * celldump too. The input is the file. What the fuzzer does with it, it takes from the head string, whose bytes mean
 * nothing to the library; so every store is an input as it is.
 */
#include "fuzz_open.h"

#include "fuzz_device.h"
#include "fuzz_room.h"

#include "format/format.h"

#include <errno.h>
#include <string.h>

enum { FILE_BYTES_MAX = 1 << 16, CELLS_MAX = 24, VALUE_BYTES_MAX = 300, ROOM_BYTES = 1 << 12 };

/* How the input is to be used: see read_choices. */
struct choices {
    bool window, fixed, compat, small_room;
    uint32_t value_bytes, cells, dump;
};

static struct choices read_choices(const uint8_t *bytes, size_t length_bytes)
{
    uint8_t head[CELLAR_HEAD_BYTES] = {0};

    memcpy(head, bytes, length_bytes < sizeof head ? length_bytes : sizeof head);
    return (struct choices){.window = (head[0] & 1) != 0,
                            .fixed = (head[0] & 14) == 2,
                            .compat = (head[0] & 112) == 16,
                            .small_room = (head[0] & 128) != 0,
                            .value_bytes = (head[1] | (uint32_t)head[2] << 8) % VALUE_BYTES_MAX,
                            .cells = head[3] | (uint32_t)head[4] << 8,
                            .dump = head[5] | (uint32_t)head[6] << 8 | (uint32_t)head[7] << 16};
}

/* ---- reading ---- */

struct sight {
    struct fuzz_device fuzz;
    struct cellar_device *device;
    struct cellar_reader *reader;
    struct cellar_snapshot snapshot;
    int error;
};

static void open_sight(struct sight *sight, const uint8_t *bytes, size_t length_bytes, bool window)
{
    struct cellar_diagnostic diagnostic = {.error = 0};
    struct cellar_reader_options options = {
        .cache_bytes = 1, .diagnostic = &diagnostic, .device = window ? CELLAR_DEVICE_AUTO : CELLAR_DEVICE_PAGES};

    *sight = (struct sight){.fuzz = {.capacity_bytes = length_bytes,
                                     .size_bytes = length_bytes,
                                     .read_only = true,
                                     .lends = window,
                                     .has_window = window}};
    sight->device = fuzz_device_open(&sight->fuzz);
    memcpy(sight->fuzz.bytes, bytes, length_bytes);
    sight->error = cellar_reader_open_on(sight->device, &options, &sight->reader);
    if (sight->error == 0)
        sight->snapshot = cellar_reader_snapshot(sight->reader);
    else
        FUZZ_NEEDS(diagnostic.error == sight->error && diagnostic.message[0] != '\0');
}

static void close_sight(struct sight *sight)
{
    cellar_reader_close(sight->reader);
    FUZZ_NEEDS(cellar_device_close(sight->device) == 0);
}

static void check_snapshot(const struct cellar_snapshot *snapshot, uint64_t length_bytes)
{
    FUZZ_NEEDS(snapshot->bytes_per_cell >= CELLAR_BYTES_PER_CELL_MIN &&
               snapshot->bytes_per_cell <= CELLAR_BYTES_PER_CELL_MAX);
    FUZZ_NEEDS(snapshot->start_index == cellar_start_index(snapshot->bytes_per_cell));
    FUZZ_NEEDS(snapshot->next_index >= snapshot->start_index);
    FUZZ_NEEDS((uint64_t)snapshot->next_index * snapshot->bytes_per_cell <= length_bytes);
}

/* The value at index as the pieces of the window, against what was copied. */
static void check_pieces(const struct cellar_snapshot *snapshot, uint32_t index, const unsigned char *bytes,
                         size_t size_bytes)
{
    struct cellar_piece pieces[64];
    size_t count = 0, walked = 0, at = 0;
    int error = cellar_snapshot_value_pieces(snapshot, index, pieces, FUZZ_COUNT(pieces), &count);

    FUZZ_NEEDS(error == 0 || error == -ERANGE);
    FUZZ_NEEDS(cellar_snapshot_value_piece_count(snapshot, index, &walked) == 0 && walked == count);
    if (error != 0)
        return;
    for (size_t i = 0; i < count; at += pieces[i++].length_bytes) {
        FUZZ_NEEDS(pieces[i].length_bytes <= size_bytes - at);
        FUZZ_NEEDS(pieces[i].length_bytes == 0 || memcmp(pieces[i].bytes, bytes + at, pieces[i].length_bytes) == 0);
    }
    FUZZ_NEEDS(at == size_bytes);
}

/* One value on both paths: the same size, the same bytes, or the same error. */
static void compare_value(const struct cellar_snapshot *a, const struct cellar_snapshot *b, uint32_t index)
{
    struct cellar_diagnostic diagnostic = {.error = 0};
    uint64_t size = 0, other_size = 0;
    size_t got = 0, other_got = 0;
    void *bytes = NULL, *other;
    int error = cellar_snapshot_value_size(a, index, &size);

    FUZZ_NEEDS(cellar_snapshot_value_size(b, index, &other_size) == error && size == other_size);
    FUZZ_NEEDS(cellar_snapshot_check_value(a, index, &diagnostic) == error);
    FUZZ_NEEDS(error == 0 || (diagnostic.error == error && diagnostic.message[0] != '\0'));
    if (error != 0) {
        FUZZ_NEEDS(error == CELLAR_ECORRUPT || error == CELLAR_EBOUNDS);
        FUZZ_NEEDS(cellar_snapshot_copy_value(a, index, &bytes, &got) == error);
        return;
    }
    /* Chunks of a chain lie one before the other. */
    FUZZ_NEEDS(size <= (uint64_t)a->next_index * a->bytes_per_cell - CELLAR_HEADER_BYTES);
    FUZZ_NEEDS(cellar_snapshot_copy_value(a, index, &bytes, &got) == 0 && got == size);
    other = malloc((size_t)size + 1);
    FUZZ_NEEDS(other != NULL);
    if (size > 0)
        FUZZ_NEEDS(cellar_snapshot_read_value(b, index, other, (size_t)size - 1, &other_got) == -ERANGE);
    FUZZ_NEEDS(cellar_snapshot_read_value(b, index, other, (size_t)size, &other_got) == 0 && other_got == size);
    FUZZ_NEEDS(memcmp(bytes, other, (size_t)size) == 0);
    check_pieces(a, index, bytes, got);
    free(bytes);
    free(other);
}

static void compare_cell(const struct cellar_snapshot *a, const struct cellar_snapshot *b, uint32_t index)
{
    static unsigned char scratch[CELLAR_BYTES_PER_CELL_MAX];
    const void *cell = NULL, *other = NULL;
    int error = cellar_snapshot_get(a, index, NULL, &cell);

    FUZZ_NEEDS(error == (index >= a->start_index && index < a->next_index ? 0 : CELLAR_EBOUNDS));
    FUZZ_NEEDS(cellar_snapshot_get(b, index, scratch, &other) == error);
    FUZZ_NEEDS(error != 0 || memcmp(cell, other, a->bytes_per_cell) == 0);
}

/* The first cells and the last, the root, and a stretch that the input chooses. */
static void compare_cells(const struct cellar_snapshot *a, const struct cellar_snapshot *b, uint32_t choice)
{
    uint32_t cells = a->next_index - a->start_index;

    compare_value(a, b, a->root_index);
    compare_cell(a, b, a->root_index);
    for (uint32_t i = 0; i < CELLS_MAX; i++) {
        uint32_t index = i < 4                ? a->start_index + i - 1
                         : i < CELLS_MAX - 12 ? a->next_index + 1 - (i - 4)
                                              : a->start_index + (choice + i) % (cells + 1);

        compare_value(a, b, index);
        compare_cell(a, b, index);
    }
}

/* Returns what refreshing said: without a window there is no following the word of a writer that publishes by it. */
static int look_again(struct sight *sight, uint64_t length_bytes)
{
    bool word = !sight->fuzz.has_window && length_bytes >= CELLAR_HEADER_BYTES &&
                (cellar_load_le32(sight->fuzz.bytes + CELLAR_AT_FLAGS) & CELLAR_FLAG_WORD) != 0;
    int error = cellar_reader_check_key(sight->reader, &fuzz_open_key), enabled, refreshed;

    FUZZ_NEEDS(error == 0 || error == CELLAR_EBADKEY || error == CELLAR_ECORRUPT);
    enabled = cellar_reader_enable_process_sync(sight->reader, &fuzz_open_key);
    FUZZ_NEEDS(enabled == error);
    refreshed = cellar_reader_refresh(sight->reader);
    FUZZ_NEEDS(refreshed == 0 || refreshed == CELLAR_NONE || refreshed == CELLAR_ECORRUPT ||
               refreshed == CELLAR_ERETIRED || (word && enabled == 0 && refreshed == -ENOTSUP));
    sight->snapshot = cellar_reader_snapshot(sight->reader);
    check_snapshot(&sight->snapshot, length_bytes);
    error = cellar_reader_check(sight->reader);
    FUZZ_NEEDS(error == 0 || error == CELLAR_ERETIRED);
    return refreshed;
}

/* Returns what opening for read said. */
static int read_both(const uint8_t *bytes, size_t length_bytes, const struct choices *choices)
{
    struct sight window, pages;
    int error;

    open_sight(&window, bytes, length_bytes, true);
    open_sight(&pages, bytes, length_bytes, false);
    error = window.error;
    FUZZ_NEEDS(pages.error == error);
    FUZZ_NEEDS(error == 0 || error == CELLAR_ECORRUPT || error == CELLAR_ERETIRED || error == -ENOTSUP);
    if (error == 0) {
        check_snapshot(&window.snapshot, length_bytes);
        compare_cells(&window.snapshot, &pages.snapshot, choices->cells);
        FUZZ_NEEDS(look_again(&window, length_bytes) != -ENOTSUP);
        if (look_again(&pages, length_bytes) != -ENOTSUP) {
            FUZZ_NEEDS(window.snapshot.next_index == pages.snapshot.next_index &&
                       window.snapshot.root_index == pages.snapshot.root_index);
            compare_cells(&window.snapshot, &pages.snapshot, choices->cells + 1);
        }
    }
    close_sight(&window);
    close_sight(&pages);
    return error;
}

/* ---- writing ---- */

struct work {
    struct fuzz_device fuzz;
    struct cellar_device *device;
    struct cellar_writer *writer;
    struct cellar_writer_options options;
    struct cellar_diagnostic diagnostic;
    struct cellar_config config;
    uint32_t start, old_next;
    unsigned char value[VALUE_BYTES_MAX];
};

static void open_work(struct work *work, const uint8_t *bytes, size_t length_bytes, const struct choices *choices)
{
    uint32_t bytes_per_cell = length_bytes >= 24 ? cellar_load_le32(bytes + CELLAR_AT_BYTES_PER_CELL) : 0;
    size_t room_bytes = choices->small_room ? 0 : ROOM_BYTES;

    if (room_bytes > 0 && bytes_per_cell <= CELLAR_BYTES_PER_CELL_MAX)
        room_bytes += 2 * (size_t)bytes_per_cell;
    *work = (struct work){.fuzz = {.capacity_bytes = length_bytes + room_bytes,
                                   .size_bytes = length_bytes,
                                   .fixed = choices->fixed,
                                   .lends = choices->window,
                                   .has_window = choices->window,
                                   .incarnation = FUZZ_OPEN_INCARNATION}};
    work->options = (struct cellar_writer_options){.key = &fuzz_open_key,
                                                   .resize_step_bytes = 1,
                                                   .cache_bytes = 1,
                                                   .eager_writes = CELLAR_EAGER_NONE,
                                                   .compat = choices->compat,
                                                   .diagnostic = &work->diagnostic};
    work->device = fuzz_device_open(&work->fuzz);
    memcpy(work->fuzz.bytes, bytes, length_bytes);
}

static bool is_full(int error)
{
    return error == CELLAR_EINDEXFULL || error == -ENOSPC || error == -EFBIG || error == CELLAR_EWINDOW;
}

/* A reader of the device stands at this state, and reads the value that was written. */
static void check_written(struct work *work, const struct cellar_key *key, uint32_t root, size_t value_bytes)
{
    struct cellar_reader_options options = {.key = key, .cache_bytes = 1};
    struct cellar_reader *reader;
    struct cellar_snapshot snapshot;
    unsigned char bytes[VALUE_BYTES_MAX];
    size_t got = 0;

    FUZZ_NEEDS(cellar_reader_open_on(work->device, &options, &reader) == 0);
    snapshot = cellar_reader_snapshot(reader);
    FUZZ_NEEDS(snapshot.next_index >= work->old_next && snapshot.root_index == root);
    if (value_bytes != SIZE_MAX) {
        FUZZ_NEEDS(cellar_snapshot_read_value(&snapshot, root, bytes, sizeof bytes, &got) == 0 && got == value_bytes);
        FUZZ_NEEDS(memcmp(bytes, work->value, got) == 0);
    }
    cellar_reader_close(reader);
}

/* One more value, the new root, or none where there is no room for it. */
static void go_on(struct work *work, size_t value_bytes)
{
    uint32_t index = 0, root = cellar_writer_root(work->writer);
    int error;

    fuzz_fill(work->value, value_bytes, (uint32_t)value_bytes);
    error = cellar_writer_write_value(work->writer, work->value, value_bytes, &index);
    FUZZ_NEEDS(error == 0 || is_full(error));
    if (error == 0) {
        root = index;
        FUZZ_NEEDS(cellar_writer_set_root(work->writer, index) == 0);
    } else {
        value_bytes = SIZE_MAX;
    }
    FUZZ_NEEDS(cellar_writer_commit(work->writer) == 0);
    check_written(work, &fuzz_open_key, root, value_bytes);
    FUZZ_NEEDS(cellar_writer_close(work->writer) == 0);
    check_written(work, NULL, root, value_bytes);
}

static void open_again(struct work *work)
{
    struct cellar_recovery recovery;

    FUZZ_NEEDS(cellar_writer_open_on(work->device, &work->options, &work->writer) == 0);
    cellar_writer_recovery(work->writer, &recovery);
    FUZZ_NEEDS(recovery.found == CELLAR_FOUND_CLEAN && recovery.repaired_slots == 0 && recovery.skipped_cells == 0);
    cellar_writer_abandon(work->writer);
}

/* Returns what opening for write said. */
static int write_one(const uint8_t *bytes, size_t length_bytes, const struct choices *choices)
{
    struct cellar_recovery recovery;
    struct cellar_info info;
    struct work work;
    int error;

    open_work(&work, bytes, length_bytes, choices);
    error = cellar_writer_open_on(work.device, &work.options, &work.writer);
    if (error != 0) {
        FUZZ_NEEDS(error == CELLAR_ECORRUPT || error == -ENOTSUP || error == CELLAR_EWINDOW);
        FUZZ_NEEDS(work.diagnostic.error == error && work.diagnostic.message[0] != '\0');
        FUZZ_NEEDS(work.fuzz.size_bytes == length_bytes && memcmp(work.fuzz.bytes, bytes, length_bytes) == 0);
    } else {
        cellar_writer_info(work.writer, &info);
        cellar_writer_recovery(work.writer, &recovery);
        work.start = info.start_index;
        work.old_next = cellar_writer_next(work.writer);
        FUZZ_NEEDS(recovery.next_index == work.old_next && recovery.root_index == cellar_writer_root(work.writer));
        FUZZ_NEEDS(work.old_next >= recovery.disk_next_index && work.old_next >= recovery.process_next_index);
        go_on(&work, choices->value_bytes);
        if (work.old_next > work.start) { /* not a cell has changed */
            size_t from = (size_t)work.start * info.config.bytes_per_cell;
            size_t to = (size_t)work.old_next * info.config.bytes_per_cell;

            FUZZ_NEEDS(memcmp(work.fuzz.bytes + from, bytes + from, to - from) == 0);
        }
        open_again(&work);
    }
    FUZZ_NEEDS(cellar_device_close(work.device) == 0);
    return error;
}

/* The word names cells that the file has not, which a writer of the same boot wants. The device that celldump has here
 * doesn't tell its boot. */
static bool has_wild_word(const uint8_t *bytes, size_t length_bytes)
{
    uint64_t next = cellar_load_le32(bytes + CELLAR_AT_WORD + 4);

    return (cellar_load_le32(bytes + CELLAR_AT_FLAGS) & CELLAR_FLAG_WORD) != 0 &&
           next * cellar_load_le32(bytes + CELLAR_AT_BYTES_PER_CELL) > length_bytes;
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length_bytes)
{
    struct choices choices = read_choices(bytes, length_bytes);
    int dumped, opened, written;

    if (length_bytes > FILE_BYTES_MAX)
        return 0;
    opened = read_both(bytes, length_bytes, &choices);
    written = write_one(bytes, length_bytes, &choices);
    dumped = fuzz_open_dump(bytes, length_bytes, choices.dump, (choices.dump & 7) == 7 ? NULL : &fuzz_open_key);
    if (dumped != 4) { /* celldump finds nothing that could not be opened */
        FUZZ_NEEDS(opened == 0);
        FUZZ_NEEDS(written == 0 || written == -ENOTSUP || written == CELLAR_EWINDOW ||
                   (written == CELLAR_ECORRUPT && has_wild_word(bytes, length_bytes)));
    }
    FUZZ_NEEDS(fuzz_rooms_taken() == 0);
    return 0;
}
