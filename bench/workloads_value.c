/* workloads_value.c - values of 1 KiB, 64 KiB and 1 MiB: written, copied out, found without a copy. */
#include "workload.h"

#include <errno.h>
#include <stdlib.h>

enum { PIECE_FINDS = 65536 }; /* in one run, about */

static uint64_t at_least_one(uint64_t count)
{
    return count != 0 ? count : 1;
}

static uint64_t write_ops(const struct bench_case *bench_case)
{
    return at_least_one(bench_case->session->scale->written_bytes / bench_case->workload->value_bytes);
}

static uint64_t stored_values(const struct bench_case *bench_case)
{
    return at_least_one(bench_case->session->scale->stored_bytes / bench_case->workload->value_bytes);
}

static uint64_t read_ops(const struct bench_case *bench_case)
{
    uint64_t reads = at_least_one(bench_case->session->scale->read_bytes / bench_case->workload->value_bytes);
    uint64_t stored = stored_values(bench_case);

    return reads < stored ? reads : stored;
}

/* The bytes of values are not touched, so one pass over a few large ones is too short to time: each run takes several
 * passes. */
static uint64_t piece_passes(const struct bench_case *bench_case)
{
    return at_least_one(PIECE_FINDS / stored_values(bench_case));
}

static uint64_t piece_ops(const struct bench_case *bench_case)
{
    return stored_values(bench_case) * piece_passes(bench_case);
}

static int reserve_names(struct bench_case *bench_case, uint64_t count)
{
    bench_case->names = calloc(count, sizeof bench_case->names[0]);
    bench_case->name_count = count;
    return bench_case->names == NULL ? -ENOMEM : 0;
}

static int prepare_writes(struct bench_case *bench_case)
{
    bench_case->spec.expected_bytes = write_ops(bench_case) * bench_case->workload->value_bytes;
    return reserve_names(bench_case, write_ops(bench_case));
}

static int before_write(void *context)
{
    return bench_case_create(context);
}

static int run_write(void *context)
{
    struct bench_case *bench_case = context;

    return bench_case->engine->value_write(bench_case->store, bench_case->session->value,
                                           bench_case->workload->value_bytes, bench_case->name_count,
                                           bench_case->names);
}

static void shuffle_names(struct bench_case *bench_case)
{
    uint64_t state = 2;

    for (uint64_t i = bench_case->name_count - 1; i > 0; i--) {
        uint64_t other = bench_random(&state) % (i + 1);
        uint64_t name = bench_case->names[i];

        bench_case->names[i] = bench_case->names[other];
        bench_case->names[other] = name;
    }
}

/* Each value is copied once, so that the first read of none is timed: page faults, and misses of an engine's cache. */
static int read_all(struct bench_case *bench_case)
{
    const struct bench_session *session = bench_case->session;
    uint64_t sum;

    return bench_case->engine->value_copy(bench_case->store, bench_case->names, bench_case->name_count, session->copy,
                                          bench_case->workload->value_bytes, &sum);
}

/* A store of values, closed and opened for read. */
static int prepare_reads(struct bench_case *bench_case)
{
    size_t value_bytes = bench_case->workload->value_bytes;
    uint64_t count = stored_values(bench_case);
    int status = reserve_names(bench_case, count);

    bench_case->spec.expected_bytes = count * value_bytes;
    if (status == 0)
        status = bench_case_create(bench_case);
    if (status == 0)
        status = bench_case->engine->value_write(bench_case->store, bench_case->session->value, value_bytes, count,
                                                 bench_case->names);
    if (status == 0)
        status = bench_case_reopen_for_read(bench_case);
    if (status == 0)
        status = read_all(bench_case);
    if (status == 0)
        shuffle_names(bench_case);
    return status;
}

static int before_copy(void *context)
{
    struct bench_case *bench_case = context;
    uint64_t reads = read_ops(bench_case);

    bench_case->position += reads;
    if (bench_case->position + reads > bench_case->name_count)
        bench_case->position = 0;
    bench_case->expected_sum = bench_load_first(bench_case->session->value) * reads;
    memset(bench_case->session->copy, 0, bench_case->workload->value_bytes);
    return 0;
}

static int run_copy(void *context)
{
    struct bench_case *bench_case = context;

    return bench_case->engine->value_copy(bench_case->store, bench_case->names + bench_case->position,
                                          read_ops(bench_case), bench_case->session->copy,
                                          bench_case->workload->value_bytes, &bench_case->sum);
}

/* The last value copied is the whole value, and every one had its first bytes. */
static int check_copy(void *context)
{
    const struct bench_case *bench_case = context;

    bench_sink(bench_case->sum);
    return bench_case->sum == bench_case->expected_sum &&
                   memcmp(bench_case->session->copy, bench_case->session->value, bench_case->workload->value_bytes) == 0
               ? 0
               : -EBADMSG;
}

static int run_pieces(void *context)
{
    struct bench_case *bench_case = context;
    uint64_t passes = piece_passes(bench_case);
    int status = 0;

    bench_case->sum = 0;
    for (uint64_t pass = 0; pass < passes && status == 0; pass++) {
        uint64_t sum = 0;

        status = bench_case->engine->value_pieces(bench_case->store, bench_case->names, bench_case->name_count,
                                                  bench_case->workload->value_bytes, &sum);
        bench_case->sum += sum;
    }
    return status;
}

static int check_pieces(void *context)
{
    const struct bench_case *bench_case = context;

    bench_sink(bench_case->sum);
    return bench_case->sum == piece_ops(bench_case) * bench_case->workload->value_bytes ? 0 : -EBADMSG;
}

#define VALUE_WRITE(SIZE_NAME, SIZE_BYTES)                                                                             \
    {                                                                                                                  \
        .heading.name = "value-write-" SIZE_NAME,                                                                      \
        .heading.title = "write a value of " SIZE_NAME " to a fresh store, one commit a run",                          \
        .heading.guarantee = "committed values are visible to other processes; nothing is durable",                    \
        .operations = 1u << BENCH_VALUE_WRITE, .payload_bytes = (SIZE_BYTES), .value_bytes = (SIZE_BYTES),             \
        .ops = write_ops, .prepare = prepare_writes, .before = before_write, .run = run_write,                         \
        .after = bench_case_discard,                                                                                   \
    }
#define VALUE_COPY(SIZE_NAME, SIZE_BYTES)                                                                              \
    {                                                                                                                  \
        .heading.name = "value-copy-" SIZE_NAME,                                                                       \
        .heading.title = "copy a value of " SIZE_NAME " into a buffer, at random",                                     \
        .heading.guarantee = "warm: the whole store is in the page cache", .operations = 1u << BENCH_VALUE_COPY,       \
        .payload_bytes = (SIZE_BYTES), .value_bytes = (SIZE_BYTES), .ops = read_ops, .prepare = prepare_reads,         \
        .before = before_copy, .run = run_copy, .after = check_copy,                                                   \
    }
#define VALUE_PIECES(SIZE_NAME, SIZE_BYTES)                                                                            \
    {                                                                                                                  \
        .heading.name = "value-pieces-" SIZE_NAME,                                                                     \
        .heading.title = "find a value of " SIZE_NAME " without touching its bytes, at random",                        \
        .heading.guarantee = "warm: the whole store is in the page cache", .operations = 1u << BENCH_VALUE_PIECES,     \
        .value_bytes = (SIZE_BYTES), .ops = piece_ops, .prepare = prepare_reads, .run = run_pieces,                    \
        .after = check_pieces,                                                                                         \
    }

const struct bench_workload bench_value_workloads[9] = {
    VALUE_WRITE("1KiB", 1 << 10),  VALUE_WRITE("64KiB", 64 << 10),  VALUE_WRITE("1MiB", 1 << 20),
    VALUE_COPY("1KiB", 1 << 10),   VALUE_COPY("64KiB", 64 << 10),   VALUE_COPY("1MiB", 1 << 20),
    VALUE_PIECES("1KiB", 1 << 10), VALUE_PIECES("64KiB", 64 << 10), VALUE_PIECES("1MiB", 1 << 20),
};
