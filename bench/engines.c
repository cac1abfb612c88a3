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

int bench_append_by(bench_put *put, void *store, const struct bench_cells *source, uint64_t first_cell, uint64_t count,
                    uint64_t commit_every)
{
    uint64_t step = commit_every != 0 ? commit_every : count;
    int status = 0;

    for (uint64_t done = 0; done < count && status == 0; done += step)
        status = put(store, source, first_cell + done, step < count - done ? step : count - done);
    return status;
}
