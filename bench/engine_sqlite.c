/*
 * engine_sqlite.c - SQLite (sqlite3.h), configured as its documentation recommends for each row.
 *
 * The log is a WAL ("significantly faster in most scenarios"). Durable rows run with synchronous=FULL, which syncs the
 * WAL at each commit; rows that promise visibility alone with NORMAL (syncs at checkpoints only) and OFF. Cells lie in
 * a WITHOUT ROWID table with an integer primary key; values in a rowid table, as withoutrowid.html advises for rows
 * that are large beside a page. Statements are prepared once; reads go through mmap_size, which covers the file.
 */
#include "engine.h"

#include <errno.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>

enum {
    SETUP_OFF = 1,       /* synchronous=OFF; else NORMAL */
    SETUP_FULL = 2,      /* synchronous=FULL */
    ERROR_BASE = 100000, /* SQLite's codes are small: they are moved out of the way of the system's */
    BUSY_TIMEOUT_MS = 60000,
};

static const struct bench_variant sqlite_variants[] = {
    {BENCH_READ_RANDOM, 0, "SELECT by key, one read transaction, mmap"},
    {BENCH_READ_SEQUENTIAL, 0, "SELECT in order of the key, mmap"},
    {BENCH_GROWTH, SETUP_OFF, "INSERT, WAL, synchronous=OFF; SELECT by key, mmap"},
    {BENCH_READ_SHARED, 0, "SELECT by key, a connection each, mmap"},
    {BENCH_APPEND, SETUP_OFF, "INSERT, WAL, synchronous=OFF"},
    {BENCH_APPEND, 0, "INSERT, WAL, synchronous=NORMAL"},
    {BENCH_COMMIT, SETUP_OFF, "INSERT of one, COMMIT, WAL, synchronous=OFF"},
    {BENCH_COMMIT, 0, "INSERT of one, COMMIT, WAL, synchronous=NORMAL"},
    {BENCH_COMMIT_DURABLE, SETUP_FULL, "INSERT of one, COMMIT, WAL, synchronous=FULL"},
    {BENCH_VALUE_WRITE, SETUP_OFF, "INSERT, WAL, synchronous=OFF"},
    {BENCH_VALUE_COPY, 0, "SELECT by key, memcpy, one read transaction, mmap"},
    {BENCH_OPEN_READ, 0, "sqlite3_open_v2 READONLY, BEGIN, SELECT prepared"},
    {BENCH_OPEN_WRITE, 0, "sqlite3_open_v2, WAL, INSERT prepared"},
    {BENCH_OPEN_CRASHED, 0, "sqlite3_open_v2, WAL, INSERT prepared"},
};

struct store {
    sqlite3 *connection;
    sqlite3_stmt *insert, *select, *scan, *begin, *commit; /* NULL where they aren't needed */
    uint32_t next_name;
};

static char last_failure[256];

static const char *sqlite_explain(int error)
{
    if (error > -ERROR_BASE)
        return strerror(-error);
    return last_failure[0] != '\0' ? last_failure : sqlite3_errstr(-error - ERROR_BASE);
}

static int sqlite_error(struct store *store, int code)
{
    if (store->connection != NULL)
        snprintf(last_failure, sizeof last_failure, "%s", sqlite3_errmsg(store->connection));
    return -ERROR_BASE - code;
}

static int sqlite_close(void *state)
{
    struct store *store = state;
    sqlite3_stmt *const statements[] = {store != NULL ? store->insert : NULL, store != NULL ? store->select : NULL,
                                        store != NULL ? store->scan : NULL, store != NULL ? store->begin : NULL,
                                        store != NULL ? store->commit : NULL};
    int code;

    if (store == NULL)
        return 0;
    for (size_t i = 0; i < sizeof statements / sizeof statements[0]; i++)
        sqlite3_finalize(statements[i]);
    if (store->connection != NULL && sqlite3_get_autocommit(store->connection) == 0)
        (void)sqlite3_exec(store->connection, "ROLLBACK", NULL, NULL, NULL);
    code = sqlite3_close(store->connection);
    free(store);
    return code == SQLITE_OK ? 0 : -ERROR_BASE - code;
}

static int execute(struct store *store, const char *text)
{
    int code = sqlite3_exec(store->connection, text, NULL, NULL, NULL);

    return code == SQLITE_OK ? 0 : sqlite_error(store, code);
}

static int prepare(struct store *store, const char *text, sqlite3_stmt **ret_statement)
{
    int code = sqlite3_prepare_v3(store->connection, text, -1, SQLITE_PREPARE_PERSISTENT, ret_statement, NULL);

    return code == SQLITE_OK ? 0 : sqlite_error(store, code);
}

/* Opens the database; the mapping covers all that the store will hold, so that pages are not copied to be read. */
static int open_connection(const char *directory, const struct bench_spec *spec, int flags, unsigned setup,
                           struct store **ret_store)
{
    struct store *store = calloc(1, sizeof *store);
    char text[5000];
    int status = 0;
    int code;

    if (store == NULL)
        return -ENOMEM;
    store->next_name = spec->first_index;
    snprintf(text, sizeof text, "%s/cells.sqlite", directory);
    code = sqlite3_open_v2(text, &store->connection, flags | SQLITE_OPEN_NOMUTEX, NULL);
    if (code != SQLITE_OK)
        status = sqlite_error(store, code);
    if (status == 0)
        sqlite3_busy_timeout(store->connection, BUSY_TIMEOUT_MS);
    snprintf(text, sizeof text, "PRAGMA mmap_size=%llu;",
             (unsigned long long)(spec->expected_bytes * 2 + (UINT64_C(64) << 20)));
    if (status == 0)
        status = execute(store, text);
    if (status == 0 && (flags & SQLITE_OPEN_READWRITE))
        status = execute(store, "PRAGMA journal_mode=WAL;");
    if (status == 0 && (flags & SQLITE_OPEN_READWRITE))
        status = execute(store, setup & SETUP_FULL  ? "PRAGMA synchronous=FULL;"
                                : setup & SETUP_OFF ? "PRAGMA synchronous=OFF;"
                                                    : "PRAGMA synchronous=NORMAL;");
    if (status != 0) {
        sqlite_close(store);
        return status;
    }
    *ret_store = store;
    return 0;
}

static int prepare_writes(struct store *store)
{
    int status = prepare(store, "INSERT INTO cells (name, bytes) VALUES (?1, ?2)", &store->insert);

    if (status == 0)
        status = prepare(store, "BEGIN IMMEDIATE", &store->begin);
    if (status == 0)
        status = prepare(store, "COMMIT", &store->commit);
    return status;
}

static int sqlite_create(const char *directory, const struct bench_spec *spec, unsigned setup, void **ret_store)
{
    struct store *store;
    int status = open_connection(directory, spec, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE, setup, &store);

    if (status != 0)
        return status;
    status = execute(store, spec->expected_cells != 0
                                ? "CREATE TABLE cells (name INTEGER PRIMARY KEY, bytes BLOB NOT NULL) WITHOUT ROWID"
                                : "CREATE TABLE cells (name INTEGER PRIMARY KEY, bytes BLOB NOT NULL)");
    if (status == 0)
        status = prepare_writes(store);
    if (status != 0) {
        sqlite_close(store);
        return status;
    }
    *ret_store = store;
    return 0;
}

/* Goes on behind the last name. */
static int find_next_name(struct store *store)
{
    sqlite3_stmt *statement;
    int status = prepare(store, "SELECT max(name) FROM cells", &statement);
    int code;

    if (status != 0)
        return status;
    code = sqlite3_step(statement);
    if (code != SQLITE_ROW)
        status = sqlite_error(store, code);
    else if (sqlite3_column_type(statement, 0) != SQLITE_NULL)
        store->next_name = (uint32_t)sqlite3_column_int64(statement, 0) + 1;
    sqlite3_finalize(statement);
    return status;
}

static int sqlite_open_write(const char *directory, const struct bench_spec *spec, unsigned setup, void **ret_store)
{
    struct store *store;
    int status = open_connection(directory, spec, SQLITE_OPEN_READWRITE, setup, &store);

    if (status != 0)
        return status;
    status = find_next_name(store);
    if (status == 0)
        status = prepare_writes(store);
    if (status != 0) {
        sqlite_close(store);
        return status;
    }
    *ret_store = store;
    return 0;
}

static int sqlite_open_read(const char *directory, const struct bench_spec *spec, unsigned setup, void **ret_store)
{
    struct store *store;
    int status = open_connection(directory, spec, SQLITE_OPEN_READONLY, setup, &store);

    if (status != 0)
        return status;
    status = execute(store, "BEGIN");
    if (status == 0)
        status = prepare(store, "SELECT bytes FROM cells WHERE name = ?1", &store->select);
    if (status == 0)
        status = prepare(store, "SELECT bytes FROM cells WHERE name >= ?1 ORDER BY name", &store->scan);
    if (status != 0) {
        sqlite_close(store);
        return status;
    }
    *ret_store = store;
    return 0;
}

/* Runs a statement that gives no row, and makes it ready for the next time. */
static inline int step_once(struct store *store, sqlite3_stmt *statement)
{
    int code = sqlite3_step(statement);

    if (code != SQLITE_DONE) {
        int status = sqlite_error(store, code);

        sqlite3_reset(statement);
        return status;
    }
    sqlite3_reset(statement);
    return 0;
}

static inline int put_next(struct store *store, const void *bytes, size_t size_bytes)
{
    sqlite3_bind_int64(store->insert, 1, store->next_name++);
    sqlite3_bind_blob(store->insert, 2, bytes, (int)size_bytes, SQLITE_STATIC);
    return step_once(store, store->insert);
}

/* Puts count cells in one transaction of their own. */
static int put_cells(void *state, const struct bench_cells *source, uint64_t first_cell, uint64_t count)
{
    struct store *store = state;
    int status = step_once(store, store->begin);

    for (uint64_t cell = first_cell; cell < first_cell + count && status == 0; cell++)
        status = put_next(store, bench_cell_at(source, cell), BENCH_CELL_BYTES);
    return status == 0 ? step_once(store, store->commit) : status;
}

static int sqlite_append(void *state, const struct bench_cells *source, uint64_t first_cell, uint64_t count,
                         uint64_t commit_every)
{
    return bench_append_by(put_cells, state, source, first_cell, count, commit_every);
}

/* One cell a transaction: a single INSERT is one. How durable it is, `synchronous` says. */
static int sqlite_commit(void *state, const struct bench_cells *source, uint64_t count)
{
    struct store *store = state;
    int status = 0;

    for (uint64_t i = 0; i < count && status == 0; i++)
        status = put_next(store, bench_cell_at(source, store->next_name), BENCH_CELL_BYTES);
    return status;
}

static int sqlite_read_random(void *state, const uint32_t *indices, uint64_t count, uint64_t *ret_sum)
{
    struct store *store = state;
    uint64_t sum = 0;

    for (uint64_t i = 0; i < count; i++) {
        int code;

        sqlite3_bind_int64(store->select, 1, indices[i]);
        code = sqlite3_step(store->select);
        if (code != SQLITE_ROW)
            return sqlite_error(store, code);
        sum += bench_load_first(sqlite3_column_blob(store->select, 0));
        sqlite3_reset(store->select);
    }
    *ret_sum = sum;
    return 0;
}

static int sqlite_read_sequential(void *state, uint32_t first_index, uint64_t count, uint64_t *ret_sum)
{
    struct store *store = state;
    uint64_t sum = 0;

    sqlite3_bind_int64(store->scan, 1, first_index);
    for (uint64_t i = 0; i < count; i++) {
        int code = sqlite3_step(store->scan);

        if (code != SQLITE_ROW)
            return sqlite_error(store, code);
        sum += bench_load_first(sqlite3_column_blob(store->scan, 0));
    }
    sqlite3_reset(store->scan);
    *ret_sum = sum;
    return 0;
}

static int sqlite_value_write(void *state, const unsigned char *bytes, size_t size_bytes, uint64_t count,
                              uint64_t *ret_names)
{
    struct store *store = state;
    int status = step_once(store, store->begin);

    for (uint64_t i = 0; i < count && status == 0; i++) {
        ret_names[i] = store->next_name;
        status = put_next(store, bytes, size_bytes);
    }
    return status == 0 ? step_once(store, store->commit) : status;
}

static int sqlite_value_copy(void *state, const uint64_t *names, uint64_t count, unsigned char *buffer,
                             size_t size_bytes, uint64_t *ret_sum)
{
    struct store *store = state;
    uint64_t sum = 0;

    for (uint64_t i = 0; i < count; i++) {
        const void *bytes;
        int code;

        sqlite3_bind_int64(store->select, 1, (sqlite3_int64)names[i]);
        code = sqlite3_step(store->select);
        if (code != SQLITE_ROW)
            return sqlite_error(store, code);
        bytes = sqlite3_column_blob(store->select, 0);
        if (bytes == NULL || sqlite3_column_bytes(store->select, 0) != (int)size_bytes)
            return -ERANGE;
        memcpy(buffer, bytes, size_bytes);
        sum += bench_load_first(buffer);
        sqlite3_reset(store->select);
    }
    *ret_sum = sum;
    return 0;
}

const struct bench_engine bench_engine_sqlite = {
    .name = "sqlite",
    .variants = sqlite_variants,
    .variant_count = sizeof sqlite_variants / sizeof sqlite_variants[0],
    .version = sqlite3_libversion,
    .explain = sqlite_explain,
    .create = sqlite_create,
    .open_read = sqlite_open_read,
    .open_write = sqlite_open_write,
    .close = sqlite_close,
    .append = sqlite_append,
    .commit = sqlite_commit,
    .commit_durable = sqlite_commit,
    .read_random = sqlite_read_random,
    .read_sequential = sqlite_read_sequential,
    .value_write = sqlite_value_write,
    .value_copy = sqlite_value_copy,
};
