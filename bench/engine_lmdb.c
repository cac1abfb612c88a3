/*
 * engine_lmdb.c - LMDB (lmdb.h), configured as its documentation recommends for each row.
 *
 * Keys are native unsigned integers (MDB_INTEGERKEY), and every put is an MDB_APPEND: the fastest way in. Rows that
 * promise no durability run with MDB_NOSYNC, the durable ones without it; both with and without MDB_WRITEMAP.
 * Readers keep one read transaction for the whole batch, LMDB's best case; one row renews it for each read.
 */
#include "engine.h"

#include <errno.h>
#include <lmdb.h>
#include <stdlib.h>

enum {
    SETUP_NOSYNC = 1,
    SETUP_WRITEMAP = 2,
    SETUP_RENEW = 4,   /* renew and reset the read transaction for each read */
    SETUP_NOTLS = 8,   /* a thread may have several read transactions */
    SETUP_RANDOM = 16, /* no reading ahead, for stores larger than memory */
};

static const struct bench_variant lmdb_variants[] = {
    {BENCH_READ_RANDOM, SETUP_NOSYNC, "mdb_get, one read txn"},
    {BENCH_READ_RANDOM, SETUP_NOSYNC | SETUP_RENEW, "mdb_get, txn renewed for each read"},
    {BENCH_READ_RANDOM_COLD, SETUP_NOSYNC | SETUP_RANDOM, "mdb_get, one read txn, NORDAHEAD"},
    {BENCH_READ_SEQUENTIAL, SETUP_NOSYNC, "mdb_cursor_get MDB_NEXT"},
    {BENCH_GROWTH, SETUP_NOSYNC, "MDB_APPEND, NOSYNC; mdb_get, one read txn"},
    {BENCH_READ_SHARED, SETUP_NOSYNC, "mdb_get, a read txn each"},
    {BENCH_APPEND, SETUP_NOSYNC, "MDB_APPEND, NOSYNC"},
    {BENCH_APPEND, SETUP_NOSYNC | SETUP_WRITEMAP, "MDB_APPEND, NOSYNC|WRITEMAP"},
    {BENCH_COMMIT, SETUP_NOSYNC, "MDB_APPEND of one, txn commit, NOSYNC"},
    {BENCH_COMMIT, SETUP_NOSYNC | SETUP_WRITEMAP, "MDB_APPEND of one, txn commit, NOSYNC|WRITEMAP"},
    {BENCH_COMMIT_WORD, SETUP_NOSYNC | SETUP_WRITEMAP, "MDB_APPEND of one, txn commit, NOSYNC|WRITEMAP"},
    {BENCH_COMMIT_DURABLE, 0, "MDB_APPEND of one, txn commit, default sync"},
    {BENCH_COMMIT_DURABLE, SETUP_WRITEMAP, "MDB_APPEND of one, txn commit, default sync, WRITEMAP"},
    {BENCH_VALUE_WRITE, SETUP_NOSYNC, "MDB_APPEND, NOSYNC"},
    {BENCH_VALUE_WRITE, SETUP_NOSYNC | SETUP_WRITEMAP, "MDB_APPEND, NOSYNC|WRITEMAP"},
    {BENCH_VALUE_COPY, SETUP_NOSYNC, "mdb_get, memcpy, one read txn"},
    {BENCH_VALUE_PIECES, SETUP_NOSYNC, "mdb_get, one read txn"},
    {BENCH_OPEN_READ, SETUP_NOSYNC, "mdb_env_open RDONLY, txn, dbi"},
    {BENCH_OPEN_WRITE, SETUP_NOSYNC, "mdb_env_open, txn, dbi"},
    {BENCH_OPEN_CRASHED, SETUP_NOSYNC, "mdb_env_open, txn, dbi"},
    {BENCH_REFRESH_NONE, SETUP_NOSYNC | SETUP_WRITEMAP | SETUP_NOTLS, "mdb_txn_reset, mdb_txn_renew"},
    {BENCH_REFRESH_NEW, SETUP_NOSYNC | SETUP_WRITEMAP | SETUP_NOTLS, "mdb_txn_reset, mdb_txn_renew"},
};

struct store {
    MDB_env *env;
    MDB_dbi dbi;
    bool shares;      /* another store's environment */
    MDB_txn *reading; /* of a store that is open for read */
    unsigned setup;
    uint32_t next_key;
    MDB_txn **followers; /* read transactions of a store that is open for write */
    size_t *seen;        /* of each: the transaction that it saw last */
    unsigned follower_count;
};

/* MDB_ codes are negative, the system's positive: all are negative here. */
static int lmdb_error(int status)
{
    return status > 0 ? -status : status;
}

static const char *lmdb_explain(int error)
{
    return error <= MDB_LAST_ERRCODE && error >= MDB_KEYEXIST ? mdb_strerror(error) : mdb_strerror(-error);
}

static const char *lmdb_version(void)
{
    return mdb_version(NULL, NULL, NULL);
}

static int open_env(const char *directory, const struct bench_spec *spec, unsigned flags, struct store *store)
{
    uint64_t map_bytes = (spec->expected_bytes * 4 + (UINT64_C(256) << 20)) & ~UINT64_C(4095);
    int status = mdb_env_create(&store->env);

    if (status == 0)
        status = mdb_env_set_mapsize(store->env, (size_t)map_bytes);
    if (status == 0)
        status = mdb_env_open(store->env, directory, flags, 0644);
    return status;
}

static int lmdb_close(void *state)
{
    struct store *store = state;

    if (store == NULL)
        return 0;
    for (unsigned i = 0; i < store->follower_count; i++)
        mdb_txn_abort(store->followers[i]);
    free(store->followers);
    free(store->seen);
    if (store->reading != NULL)
        mdb_txn_abort(store->reading);
    if (store->env != NULL && !store->shares)
        mdb_env_close(store->env);
    free(store);
    return 0;
}

/* Goes on behind the last key. */
static int find_next_key(struct store *store, MDB_txn *txn)
{
    MDB_val key, data;
    MDB_cursor *cursor;
    int status = mdb_cursor_open(txn, store->dbi, &cursor);

    if (status != 0)
        return status;
    status = mdb_cursor_get(cursor, &key, &data, MDB_LAST);
    if (status == 0) {
        memcpy(&store->next_key, key.mv_data, sizeof store->next_key);
        store->next_key++;
    }
    mdb_cursor_close(cursor);
    return status == MDB_NOTFOUND ? 0 : status;
}

static int open_store(const char *directory, const struct bench_spec *spec, unsigned setup, unsigned env_flags,
                      void **ret_store)
{
    struct store *store = calloc(1, sizeof *store);
    unsigned dbi_flags = MDB_INTEGERKEY;
    MDB_txn *txn;
    int status;

    if (store == NULL)
        return -ENOMEM;
    store->setup = setup;
    store->next_key = spec->first_index;
    status = open_env(directory, spec, env_flags, store);
    if (status == 0)
        status = mdb_txn_begin(store->env, NULL, env_flags & MDB_RDONLY, &txn);
    if (status != 0) {
        lmdb_close(store);
        return lmdb_error(status);
    }
    if ((env_flags & MDB_RDONLY) == 0)
        dbi_flags |= MDB_CREATE;
    status = mdb_dbi_open(txn, NULL, dbi_flags, &store->dbi);
    if (status == 0 && (env_flags & MDB_RDONLY) == 0)
        status = find_next_key(store, txn);
    if (status != 0)
        mdb_txn_abort(txn);
    else if (env_flags & MDB_RDONLY)
        store->reading = txn;
    else
        status = mdb_txn_commit(txn);
    if (status != 0) {
        lmdb_close(store);
        return lmdb_error(status);
    }
    *ret_store = store;
    return 0;
}

static int lmdb_open_write(const char *directory, const struct bench_spec *spec, unsigned setup, void **ret_store)
{
    unsigned flags = 0;

    if (setup & SETUP_NOSYNC)
        flags |= MDB_NOSYNC;
    if (setup & SETUP_WRITEMAP)
        flags |= MDB_WRITEMAP;
    if (setup & SETUP_NOTLS)
        flags |= MDB_NOTLS;
    return open_store(directory, spec, setup, flags, ret_store);
}

static int lmdb_open_read(const char *directory, const struct bench_spec *spec, unsigned setup, void **ret_store)
{
    return open_store(directory, spec, setup, MDB_RDONLY | (setup & SETUP_RANDOM ? MDB_NORDAHEAD : 0), ret_store);
}

/* An environment is opened once in a process: its threads have transactions of their own. */
static int lmdb_share_read(void *state, void **ret_store)
{
    const struct store *from = state;
    struct store *store = calloc(1, sizeof *store);
    int status;

    if (store == NULL)
        return -ENOMEM;
    store->env = from->env;
    store->dbi = from->dbi;
    store->setup = from->setup;
    store->shares = true;
    status = mdb_txn_begin(store->env, NULL, MDB_RDONLY, &store->reading);
    if (status != 0) {
        free(store);
        return lmdb_error(status);
    }
    *ret_store = store;
    return 0;
}

/* Puts one entry under the next key. */
static inline int put_next(struct store *store, MDB_txn *txn, const void *bytes, size_t size_bytes)
{
    uint32_t name = store->next_key;
    MDB_val key = {sizeof name, &name};
    MDB_val data = {size_bytes, (void *)(uintptr_t)bytes};
    int status = mdb_put(txn, store->dbi, &key, &data, MDB_APPEND);

    store->next_key = name + 1;
    return status;
}

/* Puts count cells in one transaction of their own. */
static int put_cells(void *state, const struct bench_cells *source, uint64_t first_cell, uint64_t count)
{
    struct store *store = state;
    MDB_txn *txn;
    int status = mdb_txn_begin(store->env, NULL, 0, &txn);

    if (status != 0)
        return lmdb_error(status);
    for (uint64_t cell = first_cell; cell < first_cell + count && status == 0; cell++)
        status = put_next(store, txn, bench_cell_at(source, cell), BENCH_CELL_BYTES);
    if (status != 0)
        mdb_txn_abort(txn);
    else
        status = mdb_txn_commit(txn);
    return lmdb_error(status);
}

static int lmdb_append(void *state, const struct bench_cells *source, uint64_t first_cell, uint64_t count,
                       uint64_t commit_every)
{
    return bench_append_by(put_cells, state, source, first_cell, count, commit_every);
}

/* One cell a transaction; how durable it is, the environment's flags say. */
static int lmdb_commit(void *state, const struct bench_cells *source, uint64_t count)
{
    struct store *store = state;
    int status = 0;

    for (uint64_t i = 0; i < count && status == 0; i++)
        status = put_cells(store, source, store->next_key, 1);
    return status;
}

/* An environment is opened once in a process, so the readers are transactions of this one. */
static int lmdb_follow(void *state, const char *directory, const struct bench_spec *spec, unsigned reader_count)
{
    struct store *store = state;
    int status = 0;

    (void)directory;
    (void)spec;
    store->followers = calloc(reader_count, sizeof store->followers[0]);
    store->seen = calloc(reader_count, sizeof store->seen[0]);
    if (store->followers == NULL || store->seen == NULL)
        return -ENOMEM;
    while (status == 0 && store->follower_count < reader_count) {
        status = mdb_txn_begin(store->env, NULL, MDB_RDONLY, &store->followers[store->follower_count]);
        store->follower_count += status == 0;
    }
    return lmdb_error(status);
}

static int lmdb_refresh(void *state, uint64_t times, uint64_t *ret_news)
{
    struct store *store = state;
    uint64_t news = 0;

    for (uint64_t i = 0; i < times; i++)
        for (unsigned reader = 0; reader < store->follower_count; reader++) {
            MDB_txn *txn = store->followers[reader];
            size_t now;
            int status;

            mdb_txn_reset(txn);
            status = mdb_txn_renew(txn);
            if (status != 0)
                return lmdb_error(status);
            now = mdb_txn_id(txn);
            news += now != store->seen[reader];
            store->seen[reader] = now;
        }
    *ret_news = news;
    return 0;
}

static int lmdb_read_random(void *state, const uint32_t *indices, uint64_t count, uint64_t *ret_sum)
{
    struct store *store = state;
    uint64_t sum = 0;

    for (uint64_t i = 0; i < count; i++) {
        uint32_t name = indices[i];
        MDB_val key = {sizeof name, &name};
        MDB_val data;
        int status = mdb_get(store->reading, store->dbi, &key, &data);

        if (status != 0)
            return lmdb_error(status);
        sum += bench_load_first(data.mv_data);
    }
    *ret_sum = sum;
    return 0;
}

static int read_random_renewing(struct store *store, const uint32_t *indices, uint64_t count, uint64_t *ret_sum)
{
    uint64_t sum = 0;
    int status = 0;

    for (uint64_t i = 0; i < count && status == 0; i++) {
        uint32_t name = indices[i];
        MDB_val key = {sizeof name, &name};
        MDB_val data;

        mdb_txn_reset(store->reading);
        status = mdb_txn_renew(store->reading);
        if (status == 0)
            status = mdb_get(store->reading, store->dbi, &key, &data);
        if (status == 0)
            sum += bench_load_first(data.mv_data);
    }
    *ret_sum = sum;
    return lmdb_error(status);
}

static int lmdb_read_random_as_set_up(void *state, const uint32_t *indices, uint64_t count, uint64_t *ret_sum)
{
    struct store *store = state;

    return store->setup & SETUP_RENEW ? read_random_renewing(store, indices, count, ret_sum)
                                      : lmdb_read_random(store, indices, count, ret_sum);
}

static int lmdb_read_sequential(void *state, uint32_t first_index, uint64_t count, uint64_t *ret_sum)
{
    struct store *store = state;
    MDB_val key = {sizeof first_index, &first_index};
    MDB_val data;
    MDB_cursor *cursor;
    uint64_t sum = 0;
    int status = mdb_cursor_open(store->reading, store->dbi, &cursor);

    if (status != 0)
        return lmdb_error(status);
    status = mdb_cursor_get(cursor, &key, &data, MDB_SET_KEY);
    for (uint64_t i = 0; status == 0;) {
        sum += bench_load_first(data.mv_data);
        if (++i == count)
            break;
        status = mdb_cursor_get(cursor, &key, &data, MDB_NEXT);
    }
    mdb_cursor_close(cursor);
    *ret_sum = sum;
    return lmdb_error(status);
}

static int lmdb_value_write(void *state, const unsigned char *bytes, size_t size_bytes, uint64_t count,
                            uint64_t *ret_names)
{
    struct store *store = state;
    MDB_txn *txn;
    int status = mdb_txn_begin(store->env, NULL, 0, &txn);

    if (status != 0)
        return lmdb_error(status);
    for (uint64_t i = 0; i < count && status == 0; i++) {
        ret_names[i] = store->next_key;
        status = put_next(store, txn, bytes, size_bytes);
    }
    if (status != 0)
        mdb_txn_abort(txn);
    else
        status = mdb_txn_commit(txn);
    return lmdb_error(status);
}

static int lmdb_value_copy(void *state, const uint64_t *names, uint64_t count, unsigned char *buffer, size_t size_bytes,
                           uint64_t *ret_sum)
{
    struct store *store = state;
    uint64_t sum = 0;

    for (uint64_t i = 0; i < count; i++) {
        uint32_t name = (uint32_t)names[i];
        MDB_val key = {sizeof name, &name};
        MDB_val data;
        int status = mdb_get(store->reading, store->dbi, &key, &data);

        if (status != 0)
            return lmdb_error(status);
        if (data.mv_size > size_bytes)
            return -ERANGE;
        memcpy(buffer, data.mv_data, data.mv_size);
        sum += bench_load_first(buffer);
    }
    *ret_sum = sum;
    return 0;
}

static int lmdb_value_pieces(void *state, const uint64_t *names, uint64_t count, size_t size_bytes, uint64_t *ret_sum)
{
    struct store *store = state;
    uint64_t sum = 0;

    (void)size_bytes;
    for (uint64_t i = 0; i < count; i++) {
        uint32_t name = (uint32_t)names[i];
        MDB_val key = {sizeof name, &name};
        MDB_val data;
        int status = mdb_get(store->reading, store->dbi, &key, &data);

        if (status != 0)
            return lmdb_error(status);
        sum += data.mv_size;
    }
    *ret_sum = sum;
    return 0;
}

const struct bench_engine bench_engine_lmdb = {
    .name = "lmdb",
    .variants = lmdb_variants,
    .variant_count = sizeof lmdb_variants / sizeof lmdb_variants[0],
    .version = lmdb_version,
    .explain = lmdb_explain,
    .create = lmdb_open_write,
    .open_read = lmdb_open_read,
    .open_write = lmdb_open_write,
    .share_read = lmdb_share_read,
    .close = lmdb_close,
    .append = lmdb_append,
    .commit = lmdb_commit,
    .commit_durable = lmdb_commit,
    .follow = lmdb_follow,
    .refresh = lmdb_refresh,
    .read_random = lmdb_read_random_as_set_up,
    .read_sequential = lmdb_read_sequential,
    .value_write = lmdb_value_write,
    .value_copy = lmdb_value_copy,
    .value_pieces = lmdb_value_pieces,
};
