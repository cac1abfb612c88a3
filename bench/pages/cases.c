#include "cases.h"

#include "crew.h"
#include "device_slow.h"

#include <errno.h>
#include <stdalign.h>
#include <stdio.h>
#include <stdlib.h>

/* What one thread does and finds; on lines of its own. */
struct share {
    alignas(128) uint64_t sum;
    struct pages_batch batch;
};

struct prepared {
    const struct pages_case *source;
    const struct pages_run *run;
    void *reader;
    struct crew *crew; /* NULL: one thread, the caller */
    struct share *shares;
    unsigned threads;
    uint64_t expected_sum;
    bool warm; /* it has run once */
};

const struct pages_kind *pages_lmdb(void)
{
#ifdef BENCH_HAVE_LMDB
    return &kind_lmdb;
#else
    return NULL;
#endif
}

int pages_device_open(const struct pages_run *run, enum pages_device device, struct cellar_device **ret_device)
{
    const struct device_delays delays = {.read_ns = PAGES_DELAY_NS};
    struct cellar_device *opened;
    int error;

    if (device == PAGES_MAPPED)
        return cellar_device_open_file(run->data_path, CELLAR_OPEN_READ, 0, ret_device);
    error = cellar_device_open_pread(run->data_path, device == PAGES_DIRECT ? CELLAR_OPEN_DIRECT : CELLAR_OPEN_READ, 0,
                                     &opened);
    if (error == -EINVAL && device == PAGES_DIRECT)
        return PAGES_SKIP;
    if (error != 0)
        return error;
    if (device == PAGES_DELAYED)
        return device_slow_open(opened, &delays, ret_device);
    *ret_device = opened;
    return 0;
}

uint64_t *pages_addresses_random(uint64_t page_count, size_t count, size_t align_bytes)
{
    uint64_t *addresses = malloc(count * sizeof addresses[0]);
    uint64_t state = 3;

    for (size_t i = 0; addresses != NULL && i < count; i++)
        addresses[i] = bench_random(&state) % (page_count * PAGES_BYTES) & ~(uint64_t)(align_bytes - 1);
    return addresses;
}

uint64_t *pages_addresses_shuffled(uint64_t page_count, size_t count, size_t align_bytes)
{
    uint64_t *addresses = malloc((size_t)page_count * sizeof addresses[0]);
    uint64_t state = 5;

    if (addresses == NULL)
        return NULL;
    for (uint64_t i = 0; i < page_count; i++)
        addresses[i] = i;
    for (size_t i = 0; i < count; i++) {
        uint64_t other = i + bench_random(&state) % (page_count - i);
        uint64_t page = addresses[other];

        addresses[other] = addresses[i];
        addresses[i] = page * PAGES_BYTES + (bench_random(&state) % PAGES_BYTES & ~(uint64_t)(align_bytes - 1));
    }
    return addresses;
}

uint64_t *pages_addresses_in_order(size_t count, size_t stride_bytes)
{
    uint64_t *addresses = malloc(count * sizeof addresses[0]);

    for (size_t i = 0; addresses != NULL && i < count; i++)
        addresses[i] = (uint64_t)i * stride_bytes;
    return addresses;
}

static int work(void *context, unsigned thread)
{
    struct prepared *prepared = context;
    struct share *share = &prepared->shares[thread];

    return prepared->source->kind->operate[prepared->source->operation](prepared->reader, thread, &share->batch,
                                                                        &share->sum);
}

static int run_case(void *context)
{
    struct prepared *prepared = context;

    return prepared->crew != NULL ? crew_run(prepared->crew, work, prepared) : work(prepared, 0);
}

/* The next part of the addresses. */
static void move_window(struct prepared *prepared)
{
    const struct pages_case *source = prepared->source;
    struct pages_batch *batch = &prepared->shares[0].batch;
    size_t next = (size_t)(batch->addresses - source->addresses) + batch->count;

    if (next + source->window > source->count)
        next = 0;
    batch->addresses = source->addresses + next;
    batch->count = source->window;
    prepared->expected_sum = 0;
    for (size_t i = 0; i < batch->count; i++)
        prepared->expected_sum += pages_word(batch->addresses[i]);
}

static int before_case(void *context)
{
    struct prepared *prepared = context;

    if (prepared->warm && prepared->source->window > 0)
        move_window(prepared);
    if (!prepared->source->empty || prepared->source->kind->empty == NULL)
        return 0;
    return prepared->source->kind->empty(prepared->reader);
}

/* Every word was the right one. */
static int after_case(void *context)
{
    struct prepared *prepared = context;
    uint64_t sum = 0;

    for (unsigned i = 0; i < prepared->threads; i++)
        sum += prepared->shares[i].sum;
    bench_sink(sum);
    return sum == prepared->expected_sum ? 0 : -EBADMSG;
}

static void see_case(void *context, char *text, size_t capacity_bytes)
{
    struct prepared *prepared = context;

    if (prepared->source->tell_hits && prepared->source->kind->see != NULL)
        prepared->source->kind->see(prepared->reader, text, capacity_bytes);
    else if (prepared->source->setup.device != PAGES_DELAYED && prepared->threads > prepared->run->cores)
        snprintf(text, capacity_bytes, "more threads than cores");
}

static void end_case(struct prepared *prepared)
{
    crew_close(prepared->crew);
    if (prepared->reader != NULL)
        prepared->source->kind->close(prepared->reader);
    for (unsigned i = 0; prepared->shares != NULL && i < prepared->threads; i++)
        free(prepared->shares[i].batch.buffer);
    free(prepared->shares);
}

/* Each thread has a part of the addresses, and a buffer of its own. */
static int deal(struct prepared *prepared)
{
    const struct pages_case *source = prepared->source;
    size_t part = source->count / prepared->threads;

    prepared->shares = aligned_alloc(alignof(struct share), prepared->threads * sizeof prepared->shares[0]);
    if (prepared->shares == NULL)
        return -ENOMEM;
    memset(prepared->shares, 0, prepared->threads * sizeof prepared->shares[0]);
    for (unsigned i = 0; i < prepared->threads; i++) {
        struct pages_batch *batch = &prepared->shares[i].batch;

        batch->addresses = source->addresses + i * part;
        batch->count = i + 1 < prepared->threads ? part : source->count - i * part;
        batch->length = source->length != 0 ? source->length : PAGES_BYTES;
        batch->buffer = aligned_alloc(PAGES_BYTES, PAGES_BUFFER_BYTES);
        if (batch->buffer == NULL)
            return -ENOMEM;
        memset(batch->buffer, 0, PAGES_BUFFER_BYTES);
    }
    for (size_t i = 0; i < source->count; i++)
        prepared->expected_sum += pages_word(source->addresses[i]);
    return 0;
}

/* Opens the reader and has it run once, which isn't counted: it warms up, and shows whether it can run here. */
static int prepare_case(const struct pages_run *run, const struct pages_case *source, struct prepared *prepared)
{
    int error;

    *prepared = (struct prepared){.source = source, .run = run, .threads = source->threads > 0 ? source->threads : 1};
    error = deal(prepared);
    if (error == 0)
        error = source->kind->open(run, &source->setup, prepared->threads, &prepared->reader);
    if (error == 0 && prepared->threads > 1)
        error = crew_open(prepared->threads, &prepared->crew);
    if (error == 0)
        error = before_case(prepared);
    if (error == 0)
        error = run_case(prepared);
    if (error == 0)
        error = after_case(prepared);
    if (error == 0 && source->kind->count != NULL)
        source->kind->count(prepared->reader);
    prepared->warm = true;
    return error;
}

static struct pages_timed timed_of(struct prepared *prepared)
{
    const struct pages_case *source = prepared->source;
    size_t count = source->window != 0 ? source->window : source->count;
    struct pages_timed timed = {
        .subject = {.context = prepared, .before = before_case, .run = run_case, .after = after_case},
        .engine = source->engine,
        .series = source->series,
        .ops = count * (source->ops_each != 0 ? source->ops_each : 1),
        .see = see_case,
    };

    snprintf(timed.mode, sizeof timed.mode, "%s", source->mode);
    if (source->operation == PAGES_READ)
        timed.bytes = count * (source->length != 0 ? source->length : PAGES_BYTES);
    return timed;
}

int pages_measure(struct pages_run *run, const struct bench_heading *heading, const struct pages_case *cases,
                  size_t case_count)
{
    struct prepared prepared[PAGES_TIMED_MAX];
    struct pages_timed timed[PAGES_TIMED_MAX];
    size_t count = 0;
    int error = 0;

    for (size_t i = 0; i < case_count && error == 0; i++) {
        if (cases[i].kind == NULL)
            continue;
        error = prepare_case(run, &cases[i], &prepared[count]);
        if (error == 0) {
            timed[count] = timed_of(&prepared[count]);
            count++;
            continue;
        }
        end_case(&prepared[count]);
        if (error == PAGES_SKIP)
            error = 0;
        else
            pages_report(heading, cases[i].engine, cases[i].mode, error);
    }
    if (error == 0)
        error = pages_time(run, heading, timed, count);
    for (size_t i = 0; i < count; i++)
        end_case(&prepared[i]);
    return error;
}
