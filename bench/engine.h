/*
 * engine.h - what a store must be able to do to take part in the benchmark.
 *
 * A driver is one file, engine_NAME.c, that fills in a struct bench_engine; bench/engines.c lists them. The work
 * itself (which cells, which indices, how many) comes from the workloads and is the same for all. The functions work
 * on whole batches, so that the loop that is timed is compiled into the driver, with no call through a pointer for
 * each operation.
 *
 * Cells are named by consecutive indices from spec->first_index on, in the order they are appended; the same names in
 * every engine. Values are named by what value_write gives.
 *
 * Functions return 0, or > 0 for "this row can't run here", or < 0 for an error, which the driver's own explain speaks.
 * A function that is NULL says that the engine takes part in no workload that needs it. One thread.
 */
#ifndef BENCH_ENGINE_H
#define BENCH_ENGINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

enum {
    BENCH_CELL_BYTES = 64,
    BENCH_SKIP = 1, /* a driver's answer: this row can't run here */
};

/* What is timed; each variant of an engine is one row of one operation. */
enum bench_operation {
    BENCH_READ_RANDOM,
    BENCH_READ_RANDOM_COLD, /* ways of it that are for stores larger than memory */
    BENCH_READ_SEQUENTIAL,
    BENCH_APPEND,
    BENCH_COMMIT,
    BENCH_COMMIT_WORD, /* published by one word: see cellar_writer_options */
    BENCH_COMMIT_DURABLE,
    BENCH_VALUE_WRITE,
    BENCH_VALUE_COPY,
    BENCH_VALUE_PIECES,
    BENCH_OPEN_READ,
    BENCH_OPEN_WRITE,
    BENCH_OPEN_READ_LARGE, /* a store of many cells that are holes of its file */
    BENCH_OPEN_WRITE_LARGE,
    BENCH_OPEN_CRASHED, /* for write, after a writer that didn't close */
    BENCH_REFRESH_NONE, /* a reader looks again, and finds nothing new */
    BENCH_READ_SHARED,  /* at random, several readers at once */
    BENCH_GROWTH,       /* appends and random reads, over sizes */
    BENCH_REFRESH_NEW,  /* it finds a new commit */
};

struct bench_variant {
    enum bench_operation operation;
    unsigned setup;   /* means something to the driver only */
    const char *mode; /* how the engine is used and configured in this row */
};

struct bench_spec {
    uint32_t first_index;    /* the name of the first cell */
    uint64_t expected_cells; /* cells that are appended at most; 0 for a store of values */
    uint64_t expected_bytes; /* payload that is written at most, to size files and maps */
    const char *peer_cells;  /* a file of Cellar's with the same cells, cell i at i * 64, or values; or NULL */
};

/* Where cells to be appended come from: a ring of cell_count (a power of two) cells; the n-th cell of a store is
 * the cell n % cell_count of the ring. Small enough to stay in the processor's cache. */
struct bench_cells {
    const unsigned char *bytes;
    uint64_t cell_count;
};

struct bench_engine {
    const char *name;
    const struct bench_variant *variants;
    size_t variant_count;

    /* Name and version of what is measured; a text of the driver's, or NULL. */
    const char *(*version)(void);
    /* The text for an error of this driver. Until the next call. */
    const char *(*explain)(int error);

    /* Makes an empty store in a directory that exists and is empty, open for write. */
    int (*create)(const char *directory, const struct bench_spec *spec, unsigned setup, void **ret_store);
    /* Opens the store that create made there, for read or for write. */
    int (*open_read)(const char *directory, const struct bench_spec *spec, unsigned setup, void **ret_store);
    int (*open_write)(const char *directory, const struct bench_spec *spec, unsigned setup, void **ret_store);
    /* Another reader on a store that is open for read, for another thread, which calls this itself and closes it before
     * that store; NULL: open_read once more. */
    int (*share_read)(void *store, void **ret_store);
    bool has_threads; /* runs threads of its own: takes no part where processes fork */
    /* Ends it, everything kept. NULL is fine. */
    int (*close)(void *store);
    /* The way that bytes go to the file ("window", "pages"), a static string; NULL: there is only one. */
    const char *(*data_path)(const void *store);
    /* The name, in the store's directory, of a file that holds cell i at byte i * 64; NULL: the format is another. */
    const char *cells_file;

    /* Appends count cells, from the first_cell-th of the store on, and commits after every commit_every (0: never) and
     * at the end. Not durable. */
    int (*append)(void *store, const struct bench_cells *source, uint64_t first_cell, uint64_t count,
                  uint64_t commit_every);
    /* count times: one cell appended, then committed: visible to other processes, or durable as well. */
    int (*commit)(void *store, const struct bench_cells *source, uint64_t count);
    int (*commit_durable)(void *store, const struct bench_cells *source, uint64_t count);
    /* Makes a closed store of cell_count cells that were never touched, so that they take no space on the disk. */
    int (*create_sparse)(const char *directory, const struct bench_spec *spec, uint64_t cell_count);
    /* Opens reader_count readers, in this process, that follow the commits of a store that is open for write. They
     * belong to the store. */
    int (*follow)(void *store, const char *directory, const struct bench_spec *spec, unsigned reader_count);
    /* Each of those readers looks for something new, so many times; *ret_news: how often one found it. */
    int (*refresh)(void *store, uint64_t times, uint64_t *ret_news);
    /* Reads the first 8 bytes of count cells and adds them up: at the indices, or in order from first_index on. */
    int (*read_random)(void *store, const uint32_t *indices, uint64_t count, uint64_t *ret_sum);
    int (*read_sequential)(void *store, uint32_t first_index, uint64_t count, uint64_t *ret_sum);
    /* Writes count values of size_bytes and commits once; ret_names gets count names. Not durable. */
    int (*value_write)(void *store, const unsigned char *bytes, size_t size_bytes, uint64_t count, uint64_t *ret_names);
    /* Copies each value into buffer (of size_bytes); adds up the first 8 bytes of each. */
    int (*value_copy)(void *store, const uint64_t *names, uint64_t count, unsigned char *buffer, size_t size_bytes,
                      uint64_t *ret_sum);
    /* Finds where each value (of size_bytes) lies, as pieces, without touching its bytes; adds up their sizes. */
    int (*value_pieces)(void *store, const uint64_t *names, uint64_t count, size_t size_bytes, uint64_t *ret_sum);
};

/* Every engine that this program was built with; engine 0 is cellar. */
extern const struct bench_engine *const bench_engines[];
extern const size_t bench_engine_count;

extern const struct bench_engine bench_engine_cellar;
extern const struct bench_engine bench_engine_limit;
#ifdef BENCH_HAVE_LMDB
extern const struct bench_engine bench_engine_lmdb;
#endif
#ifdef BENCH_HAVE_SQLITE
extern const struct bench_engine bench_engine_sqlite;
#endif
#ifdef BENCH_HAVE_ROCKSDB
extern const struct bench_engine bench_engine_rocksdb;
#endif

/* Appends count cells from the first_cell-th of a store on, and commits them. */
typedef int bench_put(void *store, const struct bench_cells *source, uint64_t first_cell, uint64_t count);

/* An append (see struct bench_engine) made of puts: one for every commit_every cells, or one for all (0). */
int bench_append_by(bench_put *put, void *store, const struct bench_cells *source, uint64_t first_cell, uint64_t count,
                    uint64_t commit_every);

/* The first 8 bytes of a cell or value: what every read touches. They arrive in a register of their own, so that no
 * compiler merges the reads of several cells into one instruction: a user's reads don't come in such loops. */
static inline uint64_t bench_load_first(const void *bytes)
{
    uint64_t first;

    memcpy(&first, bytes, sizeof first);
    __asm__("" : "+r"(first));
    return first;
}

static inline const unsigned char *bench_cell_at(const struct bench_cells *source, uint64_t cell)
{
    return source->bytes + (cell & (source->cell_count - 1)) * BENCH_CELL_BYTES;
}

#endif
