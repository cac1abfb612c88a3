#include "trace.h"

#include "support.h"

#include "cell/header_store.h"

#include <stdlib.h>
#include <string.h>

struct trace_disk {
    _Alignas(8) unsigned char bytes[TRACE_BYTES];
    unsigned char noted[TRACE_BYTES];     /* the cells as they were when stores were recorded last */
    unsigned char formatted[TRACE_BYTES]; /* as it was before the first store */
    struct cellar_device *device;
    struct trace trace;
    struct cellar_recovery recovery;
    bool records, window;
};

/* Whose window stores are recorded now; tests write to one disk at a time. */
static struct trace_disk *writing;

/* ---- the device ---- */

static int disk_size(void *state, uint64_t *ret_size_bytes)
{
    (void)state;
    *ret_size_bytes = TRACE_BYTES;
    return 0;
}

static ssize_t disk_read(void *state, void *buffer, size_t length_bytes, uint64_t offset)
{
    struct trace_disk *disk = state;

    if (offset >= TRACE_BYTES)
        return 0;
    if (length_bytes > TRACE_BYTES - offset)
        length_bytes = TRACE_BYTES - (size_t)offset;
    memcpy(buffer, disk->bytes + offset, length_bytes);
    return (ssize_t)length_bytes;
}

static void record(struct trace *trace, int word, uint64_t value)
{
    assert_true(trace->store_count < TRACE_STORES_MAX);
    trace->stores[trace->store_count++] = (struct trace_store){.word = word, .value = value};
}

/* Cells that are not what they were have been stored since the last look. One that is written again as it is, as
 * recovery does to dirty its page, is no store. */
static void record_cells(struct trace_disk *disk)
{
    for (int cell = TRACE_START; cell < TRACE_CELLS; cell++) {
        size_t offset = (size_t)cell * TRACE_BYTES_PER_CELL;

        if (memcmp(disk->noted + offset, disk->bytes + offset, TRACE_BYTES_PER_CELL) == 0)
            continue;
        disk->trace.cell_stored[cell] = disk->trace.store_count;
        record(&disk->trace, -1, (uint64_t)cell);
        memcpy(disk->noted + offset, disk->bytes + offset, TRACE_BYTES_PER_CELL);
    }
}

static void record_word(struct trace_disk *disk, uint64_t offset)
{
    uint64_t value;

    memcpy(&value, disk->bytes + offset / 8 * 8, sizeof value);
    record(&disk->trace, (int)(offset / 8), value);
}

static ssize_t disk_write(void *state, uint64_t token, const struct iovec *parts, int part_count, uint64_t offset)
{
    struct trace_disk *disk = state;
    uint64_t at = offset;

    (void)token;
    for (int i = 0; i < part_count; i++) {
        assert_true(parts[i].iov_len <= TRACE_BYTES - at);
        memcpy(disk->bytes + at, parts[i].iov_base, parts[i].iov_len);
        at += parts[i].iov_len;
    }
    if (!disk->records)
        return (ssize_t)(at - offset);
    record_cells(disk);
    for (uint64_t word = offset; word < at && word < CELLAR_HEADER_BYTES; word = word / 8 * 8 + 8)
        record_word(disk, word);
    return (ssize_t)(at - offset);
}

static int disk_window(void *state, uint64_t capacity_bytes, bool writable, void **ret_base,
                       uint64_t *ret_capacity_bytes)
{
    struct trace_disk *disk = state;

    (void)writable;
    if (!disk->window)
        return CELLAR_NONE;
    *ret_base = disk->bytes;
    *ret_capacity_bytes = capacity_bytes < TRACE_BYTES ? capacity_bytes : TRACE_BYTES;
    return 0;
}

void __real_cellar_header_store_window(unsigned char *window, uint64_t offset, const void *bytes, size_t length_bytes);
void __wrap_cellar_header_store_window(unsigned char *window, uint64_t offset, const void *bytes, size_t length_bytes);

/* Takes the place of the library's function (-Wl,--wrap). */
void __wrap_cellar_header_store_window(unsigned char *window, uint64_t offset, const void *bytes, size_t length_bytes)
{
    const unsigned char *from = bytes;

    record_cells(writing);
    while (length_bytes > 0) {
        size_t step = offset % 8 == 0 && length_bytes >= 8 ? 8 : 4;

        __real_cellar_header_store_window(window, offset, from, step);
        record_word(writing, offset);
        offset += step;
        from += step;
        length_bytes -= step;
    }
}

static int disk_incarnation(void *state, uint64_t *ret_incarnation)
{
    (void)state;
    *ret_incarnation = 7;
    return 0;
}

static int disk_close(void *state)
{
    (void)state;
    return 0;
}

static const struct cellar_device_ops disk_ops = {
    .name = "trace",
    .size = disk_size,
    .read = disk_read,
    .write = disk_write,
    .window = disk_window,
    .incarnation = disk_incarnation,
    .close = disk_close,
};

/* ---- what was published ---- */

static bool publishes(const struct trace_store *store, int pair)
{
    if (trace_is_published_word(store->word))
        return pair == 1;
    return trace_is_slot(store->word) && trace_pair(store->word) == pair;
}

/* The stores since first publish this state in the pair, if any come there; those of a commit by word end with it. */
static void note_state(struct trace *trace, int pair, int first, struct cellar_state state, bool by_word)
{
    struct trace_state *noted = &trace->states[pair][trace->state_count[pair]];

    *noted = (struct trace_state){.state = state, .begin = -1};
    for (int i = first; i < trace->store_count; i++) {
        if (!publishes(&trace->stores[i], pair))
            continue;
        if (noted->begin < 0)
            noted->begin = i;
        noted->end = i;
        if (by_word && trace_is_published_word(trace->stores[i].word))
            break;
    }
    if (noted->begin >= 0)
        assert_true(++trace->state_count[pair] < TRACE_STATES_MAX);
}

static struct cellar_state state_of(const struct cellar_writer *writer)
{
    return (struct cellar_state){.next_index = cellar_writer_next(writer), .root_index = cellar_writer_root(writer)};
}

/* ---- the writer ---- */

static struct cellar_writer_options options_with(const struct cellar_key *key)
{
    return (struct cellar_writer_options){.key = key, .eager_writes = CELLAR_EAGER_NONE};
}

static void begin(struct trace_disk *disk, struct cellar_state disk_state, struct cellar_state process_state)
{
    memcpy(disk->formatted, disk->bytes, sizeof disk->formatted);
    memcpy(disk->noted, disk->bytes, sizeof disk->noted);
    memcpy(disk->trace.before, disk->bytes, sizeof disk->trace.before);
    for (int cell = 0; cell < TRACE_CELLS; cell++)
        disk->trace.cell_stored[cell] = -1;
    for (int pair = 0; pair < 2; pair++) {
        disk->trace.states[pair][0] =
            (struct trace_state){.state = pair == 0 ? disk_state : process_state, .begin = -1, .end = -1};
        disk->trace.state_count[pair] = 1;
    }
    disk->records = true;
}

struct trace_disk *trace_open(bool window)
{
    struct cellar_config config = {.bytes_per_cell = TRACE_BYTES_PER_CELL, .max_index = TRACE_CELLS};
    struct cellar_state empty = {.next_index = TRACE_START};
    struct cellar_key key = {{0}};
    struct cellar_writer_options options = options_with(&key);
    struct trace_disk *disk = calloc(1, sizeof *disk);
    struct cellar_writer *writer;

    assert_non_null(disk);
    disk->window = window;
    assert_done(cellar_device_open(&disk_ops, disk, &disk->device));
    assert_done(cellar_writer_create_on(disk->device, &config, &options, &writer));
    cellar_writer_abandon(writer);
    begin(disk, empty, empty);
    return disk;
}

struct trace_disk *trace_copy(const struct trace_disk *disk)
{
    const struct trace *trace = &disk->trace;
    struct trace_disk *copy = calloc(1, sizeof *copy);

    assert_non_null(copy);
    copy->window = disk->window;
    memcpy(copy->bytes, disk->bytes, sizeof copy->bytes);
    assert_done(cellar_device_open(&disk_ops, copy, &copy->device));
    begin(copy, trace->states[0][trace->state_count[0] - 1].state, trace->states[1][trace->state_count[1] - 1].state);
    return copy;
}

void trace_close(struct trace_disk *disk)
{
    assert_done(cellar_device_close(disk->device));
    free(disk);
}

static void step(struct trace_disk *disk, struct cellar_writer *writer, char letter)
{
    static const unsigned char cell[TRACE_BYTES_PER_CELL] = {1};
    int first = disk->trace.store_count;
    uint32_t index;

    switch (letter) {
    case 'a':
        assert_done(cellar_writer_append(writer, cell, 1, &index));
        assert_done(cellar_writer_set_root(writer, index));
        break;
    case 'b':
        assert_done(cellar_writer_set_root(writer, TRACE_START));
        break;
    case 'n':
        assert_done(cellar_writer_set_root(writer, CELLAR_ROOT_NONE));
        break;
    default:
        assert_done(letter == 'f' ? cellar_writer_flush(writer) : cellar_writer_commit(writer));
        note_state(&disk->trace, 0, first, state_of(writer), false);
        note_state(&disk->trace, 1, first, state_of(writer), true);
        break;
    }
}

static void close_writer(struct trace_disk *disk, struct cellar_writer *writer)
{
    struct cellar_state state = state_of(writer);
    int first = disk->trace.store_count;

    assert_done(cellar_writer_close(writer));
    note_state(&disk->trace, 0, first, state, false);
    note_state(&disk->trace, 1, first, state, true);
}

void trace_write(struct trace_disk *disk, const struct cellar_key *key, const char *script)
{
    struct cellar_writer_options options = options_with(key);
    int first = disk->trace.store_count, words = script[0] == 'w';
    struct cellar_writer *writer;

    options.publish = words ? CELLAR_PUBLISH_WORD : CELLAR_PUBLISH_SLOTS;
    writing = disk;
    assert_done(cellar_writer_open_on(disk->device, &options, &writer));
    cellar_writer_recovery(writer, &disk->recovery);
    /* The disk-sync slots are made alike; what they say stays. */
    note_state(&disk->trace, 0, first,
               (struct cellar_state){.next_index = disk->recovery.disk_next_index,
                                     .root_index = disk->recovery.disk_root_index},
               false);
    note_state(&disk->trace, 1, first, state_of(writer), false);
    for (const char *letter = script + words; *letter != '\0' && *letter != 'x'; letter++)
        step(disk, writer, *letter);
    if (strchr(script, 'x') == NULL)
        cellar_writer_abandon(writer);
    else
        close_writer(disk, writer);
}

void trace_cut(struct trace_disk *disk, int store_count)
{
    struct trace *trace = &disk->trace;

    trace->store_count = store_count;
    memcpy(disk->bytes, disk->formatted, CELLAR_HEADER_BYTES); /* cells stay: what was stored there is the same */
    for (int i = 0; i < store_count; i++) {
        if (trace->stores[i].word >= 0)
            memcpy(disk->bytes + 8 * trace->stores[i].word, &trace->stores[i].value, 8);
    }
    for (int pair = 0; pair < 2; pair++) {
        while (trace->states[pair][trace->state_count[pair] - 1].begin >= store_count)
            trace->state_count[pair]--;
        if (trace->states[pair][trace->state_count[pair] - 1].end >= store_count)
            trace->states[pair][trace->state_count[pair] - 1].end = TRACE_STORES_MAX;
    }
    for (int cell = 0; cell < TRACE_CELLS; cell++) {
        trace->cell_stored[cell] = -1;
        for (int i = 0; i < store_count; i++) {
            if (trace->stores[i].word < 0 && trace->stores[i].value == (uint64_t)cell)
                trace->cell_stored[cell] = i;
        }
    }
}

void trace_recovery(const struct trace_disk *disk, struct cellar_recovery *ret_recovery)
{
    *ret_recovery = disk->recovery;
}

const struct trace *trace_of(const struct trace_disk *disk)
{
    return &disk->trace;
}
