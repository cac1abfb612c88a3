/* goals_table.c - the goals, row by row. */
#include "goals.h"

#define LIMIT(BOUND, MODE)                                                                                             \
    {                                                                                                                  \
        BENCH_BOUND_LIMIT, (BOUND), NULL, MODE, NULL                                                                   \
    }
#define SHOWN_LIMIT(MODE)                                                                                              \
    {                                                                                                                  \
        BENCH_BOUND_LIMIT, 0.0, NULL, MODE, NULL                                                                       \
    }
#define PEER(BOUND, ENGINE, MODE)                                                                                      \
    {                                                                                                                  \
        BENCH_BOUND_PEER, (BOUND), ENGINE, MODE, NULL                                                                  \
    }
#define SHOWN_PEER(ENGINE)                                                                                             \
    {                                                                                                                  \
        BENCH_BOUND_PEER, 0.0, ENGINE, NULL, NULL                                                                      \
    }
#define AT_MOST(BOUND)                                                                                                 \
    {                                                                                                                  \
        BENCH_BOUND_ABSOLUTE, (BOUND), NULL, NULL, NULL                                                                \
    }

#define SAME_MAPPING "plain array, cellar's file mapped"
#define CELL "cellar_snapshot_cell"
#define KIB 1024.0
#define US 1e3
#define MS 1e6

/* memcpy's bandwidth: a time of at most 1 / 0.85 of its. */
#define BANDWIDTH(MODE)                                                                                                \
    {                                                                                                                  \
        BENCH_BOUND_LIMIT, 1.0 / 0.85, NULL, MODE, ">= 0.85 x memcpy's bandwidth"                                      \
    }

#define VALUES(SIZE)                                                                                                   \
    {"value-write-" SIZE,                                                                                              \
     8,                                                                                                                \
     "write a value of " SIZE,                                                                                         \
     "value-write-" SIZE,                                                                                              \
     "write_value, into allocated space",                                                                              \
     "ns",                                                                                                             \
     0,                                                                                                                \
     {BANDWIDTH("memcpy into an allocated mapping"), PEER(2, "lmdb", NULL)}},                                          \
        {"value-copy-" SIZE,                                                                                           \
         8,                                                                                                            \
         "copy a value of " SIZE " out",                                                                               \
         "value-copy-" SIZE,                                                                                           \
         NULL,                                                                                                         \
         "ns",                                                                                                         \
         0,                                                                                                            \
         {BANDWIDTH("memcpy, cellar's file mapped"), PEER(2, "lmdb", NULL)}},                                          \
    {                                                                                                                  \
        "value-pieces-" SIZE, 8, "find the pieces of a value of " SIZE, "value-pieces-" SIZE, NULL, "ns", 0,           \
        {                                                                                                              \
            SHOWN_LIMIT(NULL), PEER(2, "lmdb", NULL)                                                                   \
        }                                                                                                              \
    }

#define SCALING(WORKLOAD, WHAT, COUNT)                                                                                 \
    {                                                                                                                  \
        WORKLOAD "-" #COUNT, 11, "speed of " #COUNT " " WHAT " that read at random, to one", WORKLOAD, NULL, "times",  \
            COUNT,                                                                                                     \
        {                                                                                                              \
            {                                                                                                          \
                BENCH_BOUND_SCALING, 0.97, NULL, NULL, NULL                                                            \
            }                                                                                                          \
        }                                                                                                              \
    }
#define READERS(COUNT) SCALING("readers-threads", "threads", COUNT), SCALING("readers-processes", "processes", COUNT)

const struct bench_goal bench_goals[] = {
    {"read-random",
     1,
     "random read of cells by snapshot",
     "read-random",
     CELL,
     "ns",
     0,
     {LIMIT(1.05, SAME_MAPPING), PEER(40, "lmdb", "mdb_get, one read txn"), SHOWN_PEER("sqlite"),
      SHOWN_PEER("rocksdb")}},
    {"read-sequential",
     1,
     "sequential read of cells by snapshot",
     "read-sequential",
     CELL,
     "ns",
     0,
     {LIMIT(1.05, SAME_MAPPING), PEER(5, "lmdb", "mdb_cursor_get MDB_NEXT"), SHOWN_PEER("sqlite"),
      SHOWN_PEER("rocksdb")}},
    {"read-random-checked",
     2,
     "random read, index from data, checked",
     "read-random",
     CELL,
     "ns",
     0,
     {LIMIT(1.10, SAME_MAPPING ", index checked")}},
    {"read-ordered-checked",
     2,
     "read in order, index from data, checked",
     "read-ordered",
     CELL,
     "ns",
     0,
     {LIMIT(1.10, SAME_MAPPING ", index checked")}},
    {"append",
     3,
     "bulk append of 64-byte cells",
     "append",
     "one cell a call, into allocated space",
     "ns",
     0,
     {LIMIT(1.15, NULL), PEER(5, "lmdb", NULL), SHOWN_PEER("sqlite"), SHOWN_PEER("rocksdb")}},
    {"commit",
     4,
     "one cell + commit, published by slots",
     "commit",
     NULL,
     "ns",
     0,
     {LIMIT(1.15, "two BLAKE2b (libb2) and 128 header bytes"),
      {BENCH_BOUND_PEER, 1.25, "lmdb", "MDB_APPEND of one, txn commit, NOSYNC|WRITEMAP",
       ">= 1.25 x lmdb NOSYNC|WRITEMAP"},
      {BENCH_BOUND_PEER, 15, "lmdb", "MDB_APPEND of one, txn commit, NOSYNC", ">= 15 x lmdb NOSYNC"},
      SHOWN_PEER("sqlite"),
      SHOWN_PEER("rocksdb")}},
#ifdef BENCH_HAVE_WORD
    {"commit-word",
     5,
     "one cell + commit, published by one word",
     "commit-word",
     NULL,
     "ns",
     0,
     {LIMIT(2, NULL), PEER(20, "lmdb", NULL)}},
#endif
    {"commit-durable",
     6,
     "durable commit of one cell",
     "commit-durable",
     NULL,
     "ns",
     0,
     {LIMIT(1.15, NULL), PEER(3, "lmdb", NULL), PEER(3, "sqlite", NULL), PEER(3, "rocksdb", NULL)}},
    {"refresh-none",
     7,
     "a reader looks, nothing is new",
     "refresh-none",
     NULL,
     "ns",
     0,
     {AT_MOST(3), SHOWN_LIMIT(NULL), SHOWN_PEER("lmdb")}},
    {"refresh-slots",
     7,
     "a reader looks, a new commit by slots",
     "refresh-new",
     NULL,
     "ns",
     0,
     {LIMIT(1.3, "one BLAKE2b (libb2) of what the mapping says"), SHOWN_PEER("lmdb")}},
#ifdef BENCH_HAVE_WORD
    {"refresh-none-word",
     7,
     "a reader looks, nothing is new, published by one word",
     "refresh-none",
     "cellar_reader_refresh, CELLAR_PUBLISH_WORD",
     "ns",
     0,
     {AT_MOST(3), SHOWN_LIMIT(NULL), SHOWN_PEER("lmdb")}},
    {"refresh-word",
     7,
     "a reader looks, a new commit by one word",
     "refresh-new",
     "cellar_reader_refresh, CELLAR_PUBLISH_WORD",
     "ns",
     0,
     {AT_MOST(10), SHOWN_LIMIT("one atomic load of the mapping"), SHOWN_PEER("lmdb")}},
#endif
    VALUES("1KiB"),
    VALUES("64KiB"),
    VALUES("1MiB"),
    {"open-read",
     9,
     "open for read, 1 MiB",
     "open-read",
     NULL,
     "ns",
     0,
     {AT_MOST(100 * US), SHOWN_LIMIT(NULL), SHOWN_PEER("lmdb")}},
    {"open-write",
     9,
     "open for write after a clean close, 1 MiB",
     "open-write",
     NULL,
     "ns",
     0,
     {AT_MOST(100 * US), SHOWN_LIMIT(NULL), SHOWN_PEER("lmdb")}},
    {"open-read-100GiB",
     9,
     "open for read, 100 GiB (sparse)",
     "open-read-100GiB",
     NULL,
     "ns",
     0,
     {AT_MOST(100 * US), SHOWN_LIMIT(NULL)}},
    {"open-write-100GiB",
     9,
     "open for write after a clean close, 100 GiB (sparse)",
     "open-write-100GiB",
     NULL,
     "ns",
     0,
     {AT_MOST(100 * US), SHOWN_LIMIT(NULL)}},
    {"open-write-crash",
     10,
     "open for write after a crash",
     "open-write-crash",
     NULL,
     "ns",
     0,
     {{BENCH_BOUND_PLUS, 1 * MS, NULL, NULL, "<= 1 ms + one barrier"}, SHOWN_PEER("lmdb"), SHOWN_PEER("sqlite")}},
    READERS(2),
    READERS(4),
    READERS(8),
    READERS(16),
    {"page-fix",
     12,
     "page cache hit without a window: fix + unfix",
     "hit-fix-near",
     "fix, read 8 bytes, unfix, private handle, copied",
     "ns",
     0,
     {AT_MOST(20), SHOWN_LIMIT(NULL), SHOWN_PEER("lmdb")}},
    {"page-get",
     12,
     "page cache hit without a window: typed get",
     "hit-get-near",
     "get_u64, private handle, pages copied",
     "ns",
     0,
     {AT_MOST(5),
      {BENCH_BOUND_ABSOLUTE, 4.5, NULL, NULL, ">= 2 x cachet, at its best 9 ns"},
      SHOWN_LIMIT(NULL),
      SHOWN_PEER("lmdb")}},
    {"pipeline-set",
     13,
     "set of a value in a pipeline",
     "pipeline-set",
     NULL,
     "ns",
     0,
     {AT_MOST(100), SHOWN_LIMIT(NULL)}},
    {"pipeline-get",
     13,
     "get of a pending value, 100,000 pending",
     "pipeline-get",
     NULL,
     "ns",
     0,
     {AT_MOST(100), SHOWN_LIMIT(NULL)}},
    {"pipeline-commit",
     13,
     "commit of 100,000 pending values",
     "pipeline-commit",
     NULL,
     "ns",
     0,
     {{BENCH_BOUND_LIMIT, 2.0, NULL, NULL, ">= 0.5 x memcpy + pwrite of the pages"}}},
    {"space",
     14,
     "bytes on disk / bytes of cells, 64 MiB",
     "space",
     "one cell a call, growing by the default step",
     "ratio",
     0,
     {AT_MOST(1.001), SHOWN_PEER("lmdb"), SHOWN_PEER("sqlite"), SHOWN_PEER("rocksdb")}},
    {"library-size", 15, "the library, stripped", "size", "library, stripped", "bytes", 0, {AT_MOST(120 * KIB)}},
    {"reader-memory",
     15,
     "memory of a reader beside the mapping",
     "size",
     "memory of a reader beside the mapping",
     "bytes",
     0,
     {AT_MOST(64 * KIB), SHOWN_PEER("lmdb"), SHOWN_PEER("sqlite")}},
};

const size_t bench_goal_count = sizeof bench_goals / sizeof bench_goals[0];
