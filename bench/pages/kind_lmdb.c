/*
 * kind_lmdb.c - LMDB (lmdb.h) with the same pages as values of a page each, under native integers as keys. A page of
 * PAGES_BYTES takes two pages of its file. One read transaction for each thread and all of its reads, LMDB's best case.
 */
#include "cases.h"

#include <errno.h>
#include <lmdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

struct database {
    MDB_env *env;
    MDB_dbi dbi;
    unsigned thread_count;
    MDB_txn *reading[];
};

/* MDB_ codes are negative, the system's positive. Those that are LMDB's alone are told here: others can't. */
static int lmdb_error(int status)
{
    if (status < 0)
        fprintf(stderr, "bench_pages: lmdb: %s\n", mdb_strerror(status));
    return status < 0 ? -EIO : -status;
}

static void database_close(void *reader)
{
    struct database *database = reader;

    for (unsigned i = 0; i < database->thread_count; i++)
        if (database->reading[i] != NULL)
            mdb_txn_abort(database->reading[i]);
    if (database->env != NULL)
        mdb_env_close(database->env);
    free(database);
}

static int put_pages(MDB_env *env, const struct pages_run *run)
{
    MDB_txn *txn;
    MDB_dbi dbi;
    int status = mdb_txn_begin(env, NULL, 0, &txn);

    if (status != 0)
        return status;
    status = mdb_dbi_open(txn, NULL, MDB_INTEGERKEY | MDB_CREATE, &dbi);
    for (uint64_t page = 0; page < run->scale->file_pages && status == 0; page++) {
        uint32_t number = (uint32_t)page;
        MDB_val key = {sizeof number, &number};
        MDB_val value = {PAGES_BYTES, (void *)(uintptr_t)(run->mapped + page * PAGES_BYTES)};

        status = mdb_put(txn, dbi, &key, &value, MDB_APPEND);
    }
    if (status != 0) {
        mdb_txn_abort(txn);
        return status;
    }
    return mdb_txn_commit(txn);
}

static int open_env(const struct pages_run *run, unsigned flags, MDB_env **env)
{
    int status = mdb_env_create(env);

    if (status == 0)
        status = mdb_env_set_mapsize(*env, ((size_t)run->scale->file_pages * 3 + 1024) * PAGES_BYTES);
    if (status == 0)
        status = mdb_env_set_maxreaders(*env, 64);
    if (status == 0)
        status = mdb_env_open(*env, run->lmdb_path, flags, 0644);
    return status;
}

/* The database stays for the run. */
static int make_database(const struct pages_run *run)
{
    MDB_env *env = NULL;
    int status;

    if (mkdir(run->lmdb_path, 0700) < 0)
        return errno == EEXIST ? 0 : -errno;
    status = open_env(run, MDB_NOSYNC, &env);
    if (status == 0)
        status = put_pages(env, run);
    if (env != NULL)
        mdb_env_close(env);
    bench_settle(run->directory);
    return lmdb_error(status);
}

static int database_open(const struct pages_run *run, const struct pages_setup *setup, unsigned thread_count,
                         void **ret_reader)
{
    struct database *database = calloc(1, sizeof *database + thread_count * sizeof database->reading[0]);
    int error = make_database(run);
    int status;

    (void)setup;
    if (database == NULL || error < 0) {
        free(database);
        return error < 0 ? error : -ENOMEM;
    }
    database->thread_count = thread_count;
    status = open_env(run, MDB_RDONLY | MDB_NOTLS, &database->env);
    for (unsigned i = 0; i < thread_count && status == 0; i++)
        status = mdb_txn_begin(database->env, NULL, MDB_RDONLY, &database->reading[i]);
    /* The unnamed database: its handle holds in all transactions. */
    if (status == 0)
        status = mdb_dbi_open(database->reading[0], NULL, MDB_INTEGERKEY, &database->dbi);
    if (status != 0) {
        database_close(database);
        return lmdb_error(status);
    }
    *ret_reader = database;
    return 0;
}

/* Where the page of an address lies. */
static inline int find_page(const struct database *database, unsigned thread, uint64_t address,
                            const unsigned char **ret_bytes)
{
    uint32_t number = (uint32_t)(address / PAGES_BYTES);
    MDB_val key = {sizeof number, &number};
    MDB_val value;
    int status = mdb_get(database->reading[thread], database->dbi, &key, &value);

    if (status == 0)
        *ret_bytes = value.mv_data;
    return lmdb_error(status);
}

static int database_get(void *reader, unsigned thread, const struct pages_batch *batch, uint64_t *ret_sum)
{
    uint64_t sum = 0;

    for (size_t i = 0; i < batch->count; i++) {
        const unsigned char *bytes;
        int error = find_page(reader, thread, batch->addresses[i], &bytes);

        if (error != 0)
            return error;
        sum += pages_load_word(bytes + batch->addresses[i] % PAGES_BYTES);
    }
    *ret_sum = sum;
    return 0;
}

/* Within one page. */
static int database_read(void *reader, unsigned thread, const struct pages_batch *batch, uint64_t *ret_sum)
{
    uint64_t sum = 0;

    for (size_t i = 0; i < batch->count; i++) {
        const unsigned char *bytes;
        int error = find_page(reader, thread, batch->addresses[i], &bytes);

        if (error != 0)
            return error;
        memcpy(batch->buffer, bytes + batch->addresses[i] % PAGES_BYTES, batch->length);
        sum += pages_load_word(batch->buffer);
    }
    *ret_sum = sum;
    return 0;
}

const struct pages_kind kind_lmdb = {
    .open = database_open,
    .close = database_close,
    .operate = {[PAGES_GET] = database_get, [PAGES_FIX] = database_get, [PAGES_READ] = database_read},
};
