/*
 * engine_rocksdb.c - RocksDB (rocksdb/c.h), configured as its wiki recommends ("Setup Options and Basic Tuning",
 * "BlobDB") for each row.
 *
 * Block-based tables with blocks of 16 KiB, ten bits of bloom filter for a key, index and filters in the block cache,
 * and a cache that holds the whole store, blobs too; background work on all cores; no compression, as the bytes are
 * random. Values lie in blob files. Keys are big-endian, so that they sort as numbers. Durable rows write with
 * sync=true; the others with the log but without a sync (they survive the death of the process), and one bulk row
 * without the log. Nothing of this is visible to other processes while it is open for write: its rows promise less than
 * their class asks for there.
 * To find a value in a blob file is to read it, or its copy in the cache, so there are no rows of value-pieces.
 */
#include "engine.h"

#include <endian.h>
#include <errno.h>
#include <rocksdb/c.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum {
    SETUP_SYNC = 1,
    SETUP_NO_LOG = 2,
    ERROR_FAILED = 200000, /* the text is in last_failure */
    BATCH_CELLS = 10000,   /* of one write batch within a bulk append */
    BLOCK_BYTES = 16 * 1024,
    BLOOM_BITS = 10,
    BLOB_BYTES_MIN = 512, /* values from here on lie in blob files */
};

#define VISIBLE "WAL not synced, visible in this process"

static const struct bench_variant rocksdb_variants[] = {
    {BENCH_READ_RANDOM, 0, "rocksdb_get_pinned, block cache holds all"},
    {BENCH_READ_SEQUENTIAL, 0, "rocksdb_iter_next, block cache holds all"},
    {BENCH_GROWTH, 0, "write batches of 10000, " VISIBLE "; rocksdb_get_pinned"},
    {BENCH_READ_SHARED, 0, "rocksdb_get_pinned, one handle, block cache holds all"},
    {BENCH_APPEND, 0, "write batches of 10000, " VISIBLE},
    {BENCH_APPEND, SETUP_NO_LOG, "write batches of 10000, no WAL, visible in this process"},
    {BENCH_COMMIT, 0, "rocksdb_put, " VISIBLE},
    {BENCH_COMMIT_DURABLE, SETUP_SYNC, "rocksdb_put, sync=true"},
    {BENCH_VALUE_WRITE, 0, "write batch, BlobDB, " VISIBLE},
    {BENCH_VALUE_COPY, 0, "rocksdb_get_pinned, BlobDB, cache holds all, memcpy"},
    {BENCH_OPEN_READ, 0, "rocksdb_open_for_read_only"},
    {BENCH_OPEN_WRITE, 0, "rocksdb_open"},
};

struct store {
    rocksdb_t *db;
    rocksdb_options_t *options;
    rocksdb_block_based_table_options_t *table; /* of options */
    rocksdb_cache_t *cache;
    rocksdb_writeoptions_t *writing;
    rocksdb_readoptions_t *reading;
    bool writable;
    bool shares; /* all of another store's */
    uint32_t next_name;
};

static char last_failure[256];

static const char *rocks_explain(int error)
{
    return error == -ERROR_FAILED ? last_failure : strerror(-error);
}

static const char *rocks_version(void)
{
    return BENCH_ROCKSDB_VERSION;
}

/* 0, or the error for a text of the library's, which is freed. */
static int rocks_error(char *text)
{
    if (text == NULL)
        return 0;
    snprintf(last_failure, sizeof last_failure, "%s", text);
    rocksdb_free(text);
    return -ERROR_FAILED;
}

/* What was written goes into tables, so that readers don't have to replay the log. */
static int flush_tables(struct store *store)
{
    rocksdb_flushoptions_t *options = rocksdb_flushoptions_create();
    char *failure = NULL;

    rocksdb_flush(store->db, options, &failure);
    rocksdb_flushoptions_destroy(options);
    return rocks_error(failure);
}

static int rocks_close(void *state)
{
    struct store *store = state;
    int status = 0;

    if (store == NULL)
        return 0;
    if (store->shares) {
        free(store);
        return 0;
    }
    if (store->db != NULL && store->writable)
        status = flush_tables(store);
    if (store->db != NULL)
        rocksdb_close(store->db);
    rocksdb_options_destroy(store->options);
    rocksdb_block_based_options_destroy(store->table);
    rocksdb_cache_destroy(store->cache);
    rocksdb_writeoptions_destroy(store->writing);
    rocksdb_readoptions_destroy(store->reading);
    free(store);
    return status;
}

/* A cache for the whole store. One for values is in one piece, as one thread reads it, and a share of it for each of
 * many shards would be too small for the largest values. */
static rocksdb_cache_t *make_cache(const struct bench_spec *spec)
{
    rocksdb_lru_cache_options_t *options = rocksdb_lru_cache_options_create();
    rocksdb_cache_t *cache;

    rocksdb_lru_cache_options_set_capacity(options, (size_t)(spec->expected_bytes * 2 + (UINT64_C(64) << 20)));
    if (spec->expected_cells == 0)
        rocksdb_lru_cache_options_set_num_shard_bits(options, 0);
    cache = rocksdb_cache_create_lru_opts(options);
    rocksdb_lru_cache_options_destroy(options);
    return cache;
}

static void set_options(struct store *store, const struct bench_spec *spec, unsigned setup)
{
    long cores = sysconf(_SC_NPROCESSORS_ONLN);

    store->options = rocksdb_options_create();
    store->table = rocksdb_block_based_options_create();
    store->cache = make_cache(spec);
    store->writing = rocksdb_writeoptions_create();
    store->reading = rocksdb_readoptions_create();
    rocksdb_options_set_create_if_missing(store->options, 1);
    rocksdb_options_increase_parallelism(store->options, cores > 0 ? (int)cores : 1);
    rocksdb_options_set_compression(store->options, rocksdb_no_compression);
    rocksdb_options_set_level_compaction_dynamic_level_bytes(store->options, 1);
    rocksdb_options_set_bytes_per_sync(store->options, 1 << 20);
    rocksdb_block_based_options_set_block_size(store->table, BLOCK_BYTES);
    rocksdb_block_based_options_set_block_cache(store->table, store->cache);
    rocksdb_block_based_options_set_cache_index_and_filter_blocks(store->table, 1);
    rocksdb_block_based_options_set_pin_l0_filter_and_index_blocks_in_cache(store->table, 1);
    rocksdb_block_based_options_set_filter_policy(store->table, rocksdb_filterpolicy_create_bloom_full(BLOOM_BITS));
    rocksdb_options_set_block_based_table_factory(store->options, store->table);
    if (spec->expected_cells == 0) {
        rocksdb_options_set_enable_blob_files(store->options, 1);
        rocksdb_options_set_min_blob_size(store->options, BLOB_BYTES_MIN);
        rocksdb_options_set_blob_cache(store->options, store->cache);
    }
    rocksdb_writeoptions_set_sync(store->writing, (setup & SETUP_SYNC) != 0);
    rocksdb_writeoptions_disable_WAL(store->writing, (setup & SETUP_NO_LOG) != 0);
}

static int open_store(const char *directory, const struct bench_spec *spec, unsigned setup, bool writable,
                      void **ret_store)
{
    struct store *store = calloc(1, sizeof *store);
    char *failure = NULL;
    int status;

    if (store == NULL)
        return -ENOMEM;
    store->writable = writable;
    store->next_name = spec->first_index;
    set_options(store, spec, setup);
    store->db = writable ? rocksdb_open(store->options, directory, &failure)
                         : rocksdb_open_for_read_only(store->options, directory, 0, &failure);
    status = rocks_error(failure);
    if (status != 0) {
        rocks_close(store);
        return status;
    }
    *ret_store = store;
    return 0;
}

static int rocks_open_write(const char *directory, const struct bench_spec *spec, unsigned setup, void **ret_store)
{
    return open_store(directory, spec, setup, true, ret_store);
}

/* A read-only opening (of 7.8) does not find values in blob files where all tables lie in one level: stores of values
 * are opened for write to be read. */
static int rocks_open_read(const char *directory, const struct bench_spec *spec, unsigned setup, void **ret_store)
{
    return open_store(directory, spec, setup, spec->expected_cells == 0, ret_store);
}

/* A handle is for any number of threads. */
static int rocks_share_read(void *state, void **ret_store)
{
    struct store *store = malloc(sizeof *store);

    if (store == NULL)
        return -ENOMEM;
    *store = *(const struct store *)state;
    store->shares = true;
    *ret_store = store;
    return 0;
}

static int write_batch(struct store *store, rocksdb_writebatch_t *batch)
{
    char *failure = NULL;

    rocksdb_write(store->db, store->writing, batch, &failure);
    rocksdb_writebatch_clear(batch);
    return rocks_error(failure);
}

/* The log is written with each batch, so that there is nothing left to do for a commit. */
static int rocks_append(void *state, const struct bench_cells *source, uint64_t first_cell, uint64_t count,
                        uint64_t commit_every)
{
    struct store *store = state;
    rocksdb_writebatch_t *batch = rocksdb_writebatch_create();
    int status = 0;

    (void)commit_every;
    for (uint64_t cell = first_cell; cell < first_cell + count && status == 0; cell++) {
        uint32_t key = htobe32(store->next_name++);

        rocksdb_writebatch_put(batch, (const char *)&key, sizeof key, (const char *)bench_cell_at(source, cell),
                               BENCH_CELL_BYTES);
        if (rocksdb_writebatch_count(batch) == BATCH_CELLS)
            status = write_batch(store, batch);
    }
    if (status == 0)
        status = write_batch(store, batch);
    rocksdb_writebatch_destroy(batch);
    return status;
}

static int rocks_commit(void *state, const struct bench_cells *source, uint64_t count)
{
    struct store *store = state;
    char *failure = NULL;

    for (uint64_t i = 0; i < count && failure == NULL; i++) {
        uint32_t name = store->next_name++;
        uint32_t key = htobe32(name);

        rocksdb_put(store->db, store->writing, (const char *)&key, sizeof key,
                    (const char *)bench_cell_at(source, name), BENCH_CELL_BYTES, &failure);
    }
    return rocks_error(failure);
}

/* The value of a name, to be destroyed. */
static inline int get_pinned(struct store *store, uint32_t name, rocksdb_pinnableslice_t **ret_slice,
                             const char **ret_bytes, size_t *ret_size_bytes)
{
    uint32_t key = htobe32(name);
    char *failure = NULL;

    *ret_slice = rocksdb_get_pinned(store->db, store->reading, (const char *)&key, sizeof key, &failure);
    if (failure != NULL)
        return rocks_error(failure);
    *ret_bytes = rocksdb_pinnableslice_value(*ret_slice, ret_size_bytes);
    return *ret_bytes != NULL ? 0 : -ENOENT;
}

static int rocks_read_random(void *state, const uint32_t *indices, uint64_t count, uint64_t *ret_sum)
{
    struct store *store = state;
    uint64_t sum = 0;

    for (uint64_t i = 0; i < count; i++) {
        rocksdb_pinnableslice_t *slice;
        const char *bytes;
        size_t size_bytes;
        int status = get_pinned(store, indices[i], &slice, &bytes, &size_bytes);

        if (status != 0)
            return status;
        sum += bench_load_first(bytes);
        rocksdb_pinnableslice_destroy(slice);
    }
    *ret_sum = sum;
    return 0;
}

static int rocks_read_sequential(void *state, uint32_t first_index, uint64_t count, uint64_t *ret_sum)
{
    struct store *store = state;
    rocksdb_iterator_t *iterator = rocksdb_create_iterator(store->db, store->reading);
    uint32_t key = htobe32(first_index);
    char *failure = NULL;
    uint64_t sum = 0;
    uint64_t done = 0;

    for (rocksdb_iter_seek(iterator, (const char *)&key, sizeof key); done < count && rocksdb_iter_valid(iterator);
         rocksdb_iter_next(iterator)) {
        size_t size_bytes;

        sum += bench_load_first(rocksdb_iter_value(iterator, &size_bytes));
        done++;
    }
    rocksdb_iter_get_error(iterator, &failure);
    rocksdb_iter_destroy(iterator);
    *ret_sum = sum;
    return failure != NULL ? rocks_error(failure) : done == count ? 0 : -ENOENT;
}

static int rocks_value_write(void *state, const unsigned char *bytes, size_t size_bytes, uint64_t count,
                             uint64_t *ret_names)
{
    struct store *store = state;
    rocksdb_writebatch_t *batch = rocksdb_writebatch_create();
    uint64_t batch_bytes = 0;
    int status = 0;

    for (uint64_t i = 0; i < count && status == 0; i++) {
        uint32_t key = htobe32(store->next_name);

        ret_names[i] = store->next_name++;
        rocksdb_writebatch_put(batch, (const char *)&key, sizeof key, (const char *)bytes, size_bytes);
        batch_bytes += size_bytes;
        if (batch_bytes >= UINT64_C(1) << 20) {
            status = write_batch(store, batch);
            batch_bytes = 0;
        }
    }
    if (status == 0)
        status = write_batch(store, batch);
    rocksdb_writebatch_destroy(batch);
    return status;
}

static int rocks_value_copy(void *state, const uint64_t *names, uint64_t count, unsigned char *buffer,
                            size_t size_bytes, uint64_t *ret_sum)
{
    struct store *store = state;
    uint64_t sum = 0;

    for (uint64_t i = 0; i < count; i++) {
        rocksdb_pinnableslice_t *slice;
        const char *bytes;
        size_t found_bytes;
        int status = get_pinned(store, (uint32_t)names[i], &slice, &bytes, &found_bytes);

        if (status == 0 && found_bytes != size_bytes)
            status = -ERANGE;
        if (status == 0)
            memcpy(buffer, bytes, size_bytes);
        rocksdb_pinnableslice_destroy(slice);
        if (status != 0)
            return status;
        sum += bench_load_first(buffer);
    }
    *ret_sum = sum;
    return 0;
}

const struct bench_engine bench_engine_rocksdb = {
    .name = "rocksdb",
    .variants = rocksdb_variants,
    .variant_count = sizeof rocksdb_variants / sizeof rocksdb_variants[0],
    .version = rocks_version,
    .explain = rocks_explain,
    .create = rocks_open_write,
    .open_read = rocks_open_read,
    .open_write = rocks_open_write,
    .share_read = rocks_share_read,
    .has_threads = true,
    .close = rocks_close,
    .append = rocks_append,
    .commit = rocks_commit,
    .commit_durable = rocks_commit,
    .read_random = rocks_read_random,
    .read_sequential = rocks_read_sequential,
    .value_write = rocks_value_write,
    .value_copy = rocks_value_copy,
};
