/* engine_cellar.c - Cellar, by its public interface alone. */
#include "device_sparse.h"
#include "engine.h"

#include <cellar/store.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

enum {
    SETUP_ALLOCATED = 1, /* the file is allocated when it is created (initial_cells) */
    SETUP_RUNS = 2,      /* append RUN_CELLS cells a call */
    SETUP_RESERVE = 4,   /* reserve RUN_CELLS cells in place and fill them */
    SETUP_CELL = 8,      /* read by cellar_snapshot_cell: windows only */
    SETUP_RUN = 16,      /* read by cellar_snapshot_run, RUN_CELLS cells at a time: windows only */
    SETUP_WORD = 32,     /* commits are published by one word */
    SETUP_TWO = 64,      /* every flush waits for the disk twice */
    SETUP_RANDOM = 128,  /* the reader says that it reads at random */
    RUN_CELLS = 256,     /* a divisor of the ring that cells come from */
    PIECES_MAX = 64,     /* pieces of the largest value, and more */
};

static const struct bench_variant cellar_variants[] = {
    {BENCH_READ_RANDOM, 0, "cellar_snapshot_get"},
    {BENCH_READ_RANDOM, SETUP_CELL, "cellar_snapshot_cell"},
    {BENCH_READ_RANDOM_COLD, SETUP_RANDOM, "cellar_snapshot_get, CELLAR_ACCESS_RANDOM"},
    {BENCH_READ_RANDOM_COLD, SETUP_RANDOM | SETUP_CELL, "cellar_snapshot_cell, CELLAR_ACCESS_RANDOM"},
    {BENCH_READ_SEQUENTIAL, 0, "cellar_snapshot_get"},
    {BENCH_READ_SEQUENTIAL, SETUP_CELL, "cellar_snapshot_cell"},
    {BENCH_READ_SEQUENTIAL, SETUP_RUN, "cellar_snapshot_run, 256 cells a call"},
    {BENCH_GROWTH, 0, "append, one cell a call, growing by the default step; cellar_snapshot_get"},
    {BENCH_READ_SHARED, SETUP_CELL, "cellar_snapshot_cell"},
    {BENCH_APPEND, SETUP_ALLOCATED, "one cell a call, into allocated space"},
    {BENCH_APPEND, SETUP_ALLOCATED | SETUP_RUNS, "256 cells a call, into allocated space"},
    {BENCH_APPEND, SETUP_ALLOCATED | SETUP_RESERVE, "256 cells reserved in place, into allocated space"},
    {BENCH_APPEND, 0, "one cell a call, growing by the default step"},
    {BENCH_COMMIT, SETUP_ALLOCATED, "append, set_root, commit"},
    {BENCH_COMMIT_DURABLE, SETUP_ALLOCATED, "append, set_root, flush"},
    {BENCH_COMMIT_DURABLE, SETUP_ALLOCATED | SETUP_TWO, "append, set_root, flush, two_barriers"},
    {BENCH_VALUE_WRITE, SETUP_ALLOCATED, "write_value, into allocated space"},
    {BENCH_VALUE_WRITE, 0, "write_value, growing by the default step"},
    {BENCH_VALUE_COPY, 0, "cellar_snapshot_read_value"},
    {BENCH_VALUE_PIECES, 0, "cellar_snapshot_value_pieces"},
    {BENCH_OPEN_READ, 0, "cellar_reader_open"},
    {BENCH_OPEN_WRITE, 0, "cellar_writer_open"},
    {BENCH_OPEN_READ_LARGE, 0, "cellar_reader_open"},
    {BENCH_OPEN_WRITE_LARGE, 0, "cellar_writer_open"},
    {BENCH_OPEN_CRASHED, 0, "cellar_writer_open"},
    {BENCH_REFRESH_NONE, SETUP_ALLOCATED, "cellar_reader_refresh, with the writer's key"},
    {BENCH_REFRESH_NEW, SETUP_ALLOCATED, "cellar_reader_refresh, with the writer's key"},
#ifdef BENCH_HAVE_WORD
    {BENCH_COMMIT_WORD, SETUP_ALLOCATED | SETUP_WORD, "append, set_root, commit, CELLAR_PUBLISH_WORD"},
    {BENCH_REFRESH_NONE, SETUP_ALLOCATED | SETUP_WORD, "cellar_reader_refresh, CELLAR_PUBLISH_WORD"},
    {BENCH_REFRESH_NEW, SETUP_ALLOCATED | SETUP_WORD, "cellar_reader_refresh, CELLAR_PUBLISH_WORD"},
#endif
};

struct store {
    struct cellar_writer *writer; /* one of the two */
    struct cellar_reader *reader;
    struct cellar_snapshot snapshot; /* of the reader */
    unsigned setup;
    uint64_t cells_committed;
    enum cellar_data_path data_path;
    struct cellar_reader **followers; /* of the writer's commits */
    unsigned follower_count;
};

static const struct cellar_config bench_config = {
    .head = "CELLAR BENCH",
    .bytes_per_cell = BENCH_CELL_BYTES,
    .max_index = CELLAR_MAX_INDEX_DEFAULT,
    .version = 1,
};

static struct cellar_diagnostic last_failure;

static const char *cellar_explain(int error)
{
    return last_failure.error == error && last_failure.message[0] != '\0' ? last_failure.message
                                                                          : cellar_strerror(error);
}

static int store_path(const char *directory, char *path, size_t capacity_bytes)
{
    int length = snprintf(path, capacity_bytes, "%s/%s", directory, bench_engine_cellar.cells_file);
    return length > 0 && (size_t)length < capacity_bytes ? 0 : -ENAMETOOLONG;
}

static int make_store(unsigned setup, struct cellar_writer *writer, struct cellar_reader *reader, void **ret_store)
{
    struct store *store = calloc(1, sizeof *store);
    struct cellar_info info;

    if (store == NULL) {
        cellar_writer_abandon(writer);
        cellar_reader_close(reader);
        return -ENOMEM;
    }
    store->writer = writer;
    store->reader = reader;
    store->setup = setup;
    if (writer != NULL) {
        cellar_writer_info(writer, &info);
    } else {
        cellar_reader_info(reader, &info);
        store->snapshot = cellar_reader_snapshot(reader);
    }
    store->data_path = info.data_path;
    *ret_store = store;
    return 0;
}

/* Cells that a store of this spec needs; for values each chunk takes its footer and the rest of its last cell. */
static uint32_t cells_needed(const struct bench_spec *spec)
{
    uint64_t cells =
        spec->expected_cells != 0 ? spec->expected_cells : spec->expected_bytes / BENCH_CELL_BYTES * 11 / 10 + 1024;
    cells += spec->first_index;
    return cells < CELLAR_MAX_INDEX_DEFAULT ? (uint32_t)cells : CELLAR_MAX_INDEX_DEFAULT;
}

/* BENCH_SKIP: this library can't. */
static int ask_for_word(unsigned setup, struct cellar_writer_options *options)
{
    if ((setup & SETUP_WORD) == 0)
        return 0;
#ifdef BENCH_HAVE_WORD
    options->publish = CELLAR_PUBLISH_WORD;
    return 0;
#else
    (void)options;
    return BENCH_SKIP;
#endif
}

/* Whether the writer publishes as it was asked to: without a window it goes by slots. */
static bool is_as_asked(unsigned setup, const struct cellar_writer *writer)
{
#ifdef BENCH_HAVE_WORD
    struct cellar_info info;

    cellar_writer_info(writer, &info);
    return (setup & SETUP_WORD) == 0 || info.publish == CELLAR_PUBLISH_WORD;
#else
    (void)writer;
    return (setup & SETUP_WORD) == 0;
#endif
}

static int cellar_create(const char *directory, const struct bench_spec *spec, unsigned setup, void **ret_store)
{
    struct cellar_writer_options options = {.diagnostic = &last_failure, .two_barriers = (setup & SETUP_TWO) != 0};
    struct cellar_writer *writer;
    char path[4096];
    int status = store_path(directory, path, sizeof path);

    if (status == 0)
        status = ask_for_word(setup, &options);
    if (status != 0)
        return status;
    if (setup & SETUP_ALLOCATED)
        options.initial_cells = cells_needed(spec);
    status = cellar_writer_create(path, &bench_config, &options, &writer);
    if (status == 0 && !is_as_asked(setup, writer)) {
        cellar_writer_abandon(writer);
        return BENCH_SKIP;
    }
    return status != 0 ? status : make_store(setup, writer, NULL, ret_store);
}

/* Reserves cells and leaves them as they are: holes. */
static int reserve_holes(struct cellar_writer *writer, uint64_t cell_count)
{
    uint32_t most = cellar_writer_reserve_max(BENCH_CELL_BYTES);
    int status = 0;

    for (uint64_t done = 0; done < cell_count && status == 0;) {
        uint32_t cells = most < cell_count - done ? most : (uint32_t)(cell_count - done);
        uint32_t index;
        void *bytes;

        status = cellar_writer_reserve(writer, cells, &index, &bytes);
        done += cells;
    }
    return status;
}

static int cellar_create_sparse(const char *directory, const struct bench_spec *spec, uint64_t cell_count)
{
    const struct cellar_writer_options options = {.initial_cells = cells_needed(spec), .diagnostic = &last_failure};
    struct cellar_device *device;
    struct cellar_writer *writer;
    char path[4096];
    int status = store_path(directory, path, sizeof path);
    int closed;

    if (status == 0)
        status = device_sparse_open(path, &device);
    if (status != 0)
        return status;
    status = cellar_writer_create_on(device, &bench_config, &options, &writer);
    if (status == 0) {
        status = reserve_holes(writer, cell_count);
        closed = cellar_writer_close(writer);
        status = status != 0 ? status : closed;
    }
    closed = cellar_device_close(device);
    return status != 0 ? status : closed;
}

static int cellar_open_write(const char *directory, const struct bench_spec *spec, unsigned setup, void **ret_store)
{
    struct cellar_writer_options options = {.diagnostic = &last_failure};
    struct cellar_writer *writer;
    char path[4096];
    int status = store_path(directory, path, sizeof path);

    (void)spec;
    if (status < 0)
        return status;
    status = cellar_writer_open(path, &options, &writer);
    return status != 0 ? status : make_store(setup, writer, NULL, ret_store);
}

static int cellar_open_read(const char *directory, const struct bench_spec *spec, unsigned setup, void **ret_store)
{
    struct cellar_reader_options options = {.diagnostic = &last_failure};
    struct cellar_reader *reader;
    char path[4096];
    int status = store_path(directory, path, sizeof path);

    (void)spec;
    if (status < 0)
        return status;
    if (setup & (SETUP_CELL | SETUP_RUN))
        options.device = CELLAR_DEVICE_MAPPED;
    if (setup & SETUP_RANDOM)
        options.access = CELLAR_ACCESS_RANDOM;
    status = cellar_reader_open(path, &options, &reader);
    if (status == -ENOTSUP && options.device == CELLAR_DEVICE_MAPPED)
        return BENCH_SKIP;
    return status != 0 ? status : make_store(setup, NULL, reader, ret_store);
}

static int cellar_close(void *state)
{
    struct store *store = state;
    int status;

    if (store == NULL)
        return 0;
    for (unsigned i = 0; i < store->follower_count; i++)
        cellar_reader_close(store->followers[i]);
    free(store->followers);
    status = cellar_writer_close(store->writer);
    cellar_reader_close(store->reader);
    free(store);
    return status;
}

static const char *cellar_data_path(const void *state)
{
    const struct store *store = state;
    return store->data_path == CELLAR_PATH_WINDOW ? "window" : "pages";
}

/* Appends cells first_cell..first_cell + count - 1 of the source, no commit. */
static int append_cells(struct store *store, const struct bench_cells *source, uint64_t first_cell, uint64_t count)
{
    struct cellar_writer *writer = store->writer;
    uint32_t index;
    int status = 0;

    if ((store->setup & (SETUP_RUNS | SETUP_RESERVE)) == 0) {
        for (uint64_t cell = first_cell; cell < first_cell + count && status == 0; cell++)
            status = cellar_writer_append(writer, bench_cell_at(source, cell), 1, &index);
        return status;
    }
    for (uint64_t done = 0; done < count && status == 0;) {
        uint64_t cell = first_cell + done;
        uint64_t run = RUN_CELLS - cell % RUN_CELLS;
        void *cells;

        if (run > count - done)
            run = count - done;
        if (store->setup & SETUP_RUNS) {
            status = cellar_writer_append(writer, bench_cell_at(source, cell), (uint32_t)run, &index);
        } else {
            status = cellar_writer_reserve(writer, (uint32_t)run, &index, &cells);
            if (status == 0)
                memcpy(cells, bench_cell_at(source, cell), (size_t)run * BENCH_CELL_BYTES);
        }
        done += run;
    }
    return status;
}

static int put_cells(void *state, const struct bench_cells *source, uint64_t first_cell, uint64_t count)
{
    struct store *store = state;
    int status = append_cells(store, source, first_cell, count);

    return status == 0 ? cellar_writer_commit(store->writer) : status;
}

static int cellar_append(void *state, const struct bench_cells *source, uint64_t first_cell, uint64_t count,
                         uint64_t commit_every)
{
    return bench_append_by(put_cells, state, source, first_cell, count, commit_every);
}

static int cellar_commit(void *state, const struct bench_cells *source, uint64_t count)
{
    struct store *store = state;
    int status = 0;

    for (uint64_t i = 0; i < count && status == 0; i++) {
        uint32_t index;

        status = cellar_writer_append(store->writer, bench_cell_at(source, store->cells_committed++), 1, &index);
        if (status == 0)
            status = cellar_writer_set_root(store->writer, index);
        if (status == 0)
            status = cellar_writer_commit(store->writer);
    }
    return status;
}

static int cellar_commit_durable(void *state, const struct bench_cells *source, uint64_t count)
{
    struct store *store = state;
    int status = 0;

    for (uint64_t i = 0; i < count && status == 0; i++) {
        uint32_t index;

        status = cellar_writer_append(store->writer, bench_cell_at(source, store->cells_committed++), 1, &index);
        if (status == 0)
            status = cellar_writer_set_root(store->writer, index);
        if (status == 0)
            status = cellar_writer_flush(store->writer);
    }
    return status;
}

static int read_random_cells(struct cellar_snapshot snapshot, const uint32_t *indices, uint64_t count,
                             uint64_t *ret_sum)
{
    uint64_t sum = 0;

    for (uint64_t i = 0; i < count; i++) {
        const void *cell = cellar_snapshot_cell(snapshot, indices[i]);

        if (cell == NULL)
            return CELLAR_EBOUNDS;
        sum += bench_load_first(cell);
    }
    *ret_sum = sum;
    return 0;
}

static int cellar_read_random(void *state, const uint32_t *indices, uint64_t count, uint64_t *ret_sum)
{
    const struct store *store = state;
    const struct cellar_snapshot snapshot = store->snapshot;
    unsigned char scratch[BENCH_CELL_BYTES];
    uint64_t sum = 0;

    if (store->setup & SETUP_CELL)
        return read_random_cells(snapshot, indices, count, ret_sum);
    for (uint64_t i = 0; i < count; i++) {
        const void *cell;
        int status = cellar_snapshot_get(&snapshot, indices[i], scratch, &cell);

        if (status != 0)
            return status;
        sum += bench_load_first(cell);
    }
    *ret_sum = sum;
    return 0;
}

static int read_cells(struct cellar_snapshot snapshot, uint32_t first_index, uint64_t count, uint64_t *ret_sum)
{
    const uint32_t end = first_index + (uint32_t)count;
    uint64_t sum = 0;

    for (uint32_t index = first_index; index < end; index++) {
        const void *cell = cellar_snapshot_cell(snapshot, index);

        if (cell == NULL)
            return CELLAR_EBOUNDS;
        sum += bench_load_first(cell);
    }
    *ret_sum = sum;
    return 0;
}

static int read_runs(struct cellar_snapshot snapshot, uint32_t first_index, uint64_t count, uint64_t *ret_sum)
{
    uint64_t sum = 0;

    for (uint64_t done = 0; done < count; done += RUN_CELLS) {
        uint32_t cells = count - done < RUN_CELLS ? (uint32_t)(count - done) : RUN_CELLS;
        const unsigned char *run = cellar_snapshot_run(snapshot, first_index + (uint32_t)done, cells);

        if (run == NULL)
            return CELLAR_EBOUNDS;
        for (uint32_t cell = 0; cell < cells; cell++)
            sum += bench_load_first(run + (size_t)cell * BENCH_CELL_BYTES);
    }
    *ret_sum = sum;
    return 0;
}

static int cellar_read_sequential(void *state, uint32_t first_index, uint64_t count, uint64_t *ret_sum)
{
    const struct store *store = state;
    const struct cellar_snapshot snapshot = store->snapshot;
    const uint32_t end = first_index + (uint32_t)count;
    unsigned char scratch[BENCH_CELL_BYTES];
    uint64_t sum = 0;

    if (store->setup & SETUP_CELL)
        return read_cells(snapshot, first_index, count, ret_sum);
    if (store->setup & SETUP_RUN)
        return read_runs(snapshot, first_index, count, ret_sum);
    for (uint32_t index = first_index; index < end; index++) {
        const void *cell;
        int status = cellar_snapshot_get(&snapshot, index, scratch, &cell);

        if (status != 0)
            return status;
        sum += bench_load_first(cell);
    }
    *ret_sum = sum;
    return 0;
}

static int cellar_follow(void *state, const char *directory, const struct bench_spec *spec, unsigned reader_count)
{
    struct store *store = state;
    struct cellar_key key;
    struct cellar_reader_options options = {.key = &key, .diagnostic = &last_failure};
    char path[4096];
    int status = store_path(directory, path, sizeof path);

    cellar_writer_key(store->writer, &key);
    options.window_bytes = (uint64_t)spec->first_index * BENCH_CELL_BYTES + spec->expected_bytes;
    store->followers = calloc(reader_count, sizeof store->followers[0]);
    if (store->followers == NULL)
        return -ENOMEM;
    while (status == 0 && store->follower_count < reader_count) {
        status = cellar_reader_open(path, &options, &store->followers[store->follower_count]);
        store->follower_count += status == 0;
    }
    return status;
}

static int cellar_refresh(void *state, uint64_t times, uint64_t *ret_news)
{
    const struct store *store = state;
    uint64_t news = 0;

    for (uint64_t i = 0; i < times; i++)
        for (unsigned reader = 0; reader < store->follower_count; reader++) {
            int status = cellar_reader_refresh(store->followers[reader]);

            if (status < 0)
                return status;
            news += status == 0;
        }
    *ret_news = news;
    return 0;
}

static int cellar_value_write(void *state, const unsigned char *bytes, size_t size_bytes, uint64_t count,
                              uint64_t *ret_names)
{
    struct store *store = state;
    int status = 0;

    for (uint64_t i = 0; i < count && status == 0; i++) {
        uint32_t index = 0;

        status = cellar_writer_write_value(store->writer, bytes, size_bytes, &index);
        ret_names[i] = index;
    }
    return status != 0 ? status : cellar_writer_commit(store->writer);
}

static int cellar_value_copy(void *state, const uint64_t *names, uint64_t count, unsigned char *buffer,
                             size_t size_bytes, uint64_t *ret_sum)
{
    struct store *store = state;
    uint64_t sum = 0;

    for (uint64_t i = 0; i < count; i++) {
        size_t length_bytes;
        int status =
            cellar_snapshot_read_value(&store->snapshot, (uint32_t)names[i], buffer, size_bytes, &length_bytes);

        if (status != 0)
            return status;
        sum += bench_load_first(buffer);
    }
    *ret_sum = sum;
    return 0;
}

static int cellar_value_pieces(void *state, const uint64_t *names, uint64_t count, size_t size_bytes, uint64_t *ret_sum)
{
    struct store *store = state;
    struct cellar_piece pieces[PIECES_MAX];
    uint64_t sum = 0;

    (void)size_bytes;
    if (store->data_path != CELLAR_PATH_WINDOW)
        return BENCH_SKIP;
    for (uint64_t i = 0; i < count; i++) {
        size_t piece_count;
        int status =
            cellar_snapshot_value_pieces(&store->snapshot, (uint32_t)names[i], pieces, PIECES_MAX, &piece_count);

        if (status != 0)
            return status;
        for (size_t piece = 0; piece < piece_count; piece++)
            sum += pieces[piece].length_bytes;
    }
    *ret_sum = sum;
    return 0;
}

const struct bench_engine bench_engine_cellar = {
    .name = "cellar",
    .variants = cellar_variants,
    .variant_count = sizeof cellar_variants / sizeof cellar_variants[0],
    .version = cellar_version_string,
    .explain = cellar_explain,
    .create = cellar_create,
    .open_read = cellar_open_read,
    .open_write = cellar_open_write,
    .close = cellar_close,
    .data_path = cellar_data_path,
    .cells_file = "cells",
    .append = cellar_append,
    .commit = cellar_commit,
    .commit_durable = cellar_commit_durable,
    .create_sparse = cellar_create_sparse,
    .follow = cellar_follow,
    .refresh = cellar_refresh,
    .read_random = cellar_read_random,
    .read_sequential = cellar_read_sequential,
    .value_write = cellar_value_write,
    .value_copy = cellar_value_copy,
    .value_pieces = cellar_value_pieces,
};
