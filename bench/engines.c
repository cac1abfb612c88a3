#include "engine.h"

const struct bench_engine *const bench_engines[] = {
    &bench_engine_cellar,
#ifdef BENCH_HAVE_LMDB
    &bench_engine_lmdb,
#endif
#ifdef BENCH_HAVE_SQLITE
    &bench_engine_sqlite,
#endif
#ifdef BENCH_HAVE_ROCKSDB
    &bench_engine_rocksdb,
#endif
    &bench_engine_limit,
};

const size_t bench_engine_count = sizeof bench_engines / sizeof bench_engines[0];
