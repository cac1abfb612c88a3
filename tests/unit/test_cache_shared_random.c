/*
 * Threads that do everything at once to one set of frames, whose bytes are known, on a device that fails now and then.
 * What may go wrong is an error that the device was told to give; never wrong bytes, never an error when it is healthy.
 */
#include "cache_test.h"

#include <stdio.h>

enum { THREADS = 8, STEPS = 800, FIXED_MAX = 20, FILE_PAGES = 96, FILE_BYTES = FILE_PAGES * PAGE - 10 };

struct arena {
    struct fault_device fault;
    struct cellar_device *device; /* faulty, or the file itself where the ring shall have its descriptor */
    bool faulty;
    unsigned char bytes[FILE_BYTES];
    struct cellar_cache *cache;
    bool fixes; /* the cache is large enough for what all threads may fix at once */
};

struct worker {
    struct arena *arena;
    struct cellar_cache *cache;
    uint64_t seed;
    struct cellar_fixed fixed[FIXED_MAX];
    unsigned fixed_count, awaited;
    bool faults; /* errors of the device are fine */
    int line;    /* where it first went wrong; 0: nowhere */
    int error;
    pthread_t thread;
};

static void blame(struct worker *w, int line, int error)
{
    if (w->line == 0) {
        w->line = line;
        w->error = error;
    }
}

/* The call gave bytes, or an error that is fine. True: bytes. */
static bool fine(struct worker *w, int error, int line)
{
    /* Each thread may just be looking at a page, and there are no others. */
    bool tight = cellar_cache_page_count(w->cache) <= THREADS;

    if (error != 0 && !(w->faults && error == -EIO) && !(tight && error == CELLAR_EPINNED))
        blame(w, line, error);
    return error == 0;
}

static void same(struct worker *w, const void *bytes, uint64_t address, size_t length, int line)
{
    if (address + length > FILE_BYTES || memcmp(bytes, w->arena->bytes + address, length) != 0)
        blame(w, line, 0);
}

#define FINE(call) fine(w, (call), __LINE__)
#define SAME(bytes, address, length) same(w, (bytes), (address), (length), __LINE__)

/* A third of them within a few pages. */
static uint64_t some_address(struct worker *w)
{
    return support_random_below(&w->seed, 3) == 0 ? support_random_below(&w->seed, 4 * PAGE)
                                                  : support_random_below(&w->seed, FILE_BYTES - 300);
}

static int run_piece(void *user, uint64_t address, const void *bytes, size_t length)
{
    struct worker *w = user;
    uint8_t byte;

    SAME(bytes, address, length);
    if (w->arena->fixes && FINE(cellar_cache_get_u8(w->cache, (address + 500) % FILE_BYTES, &byte)))
        SAME(&byte, (address + 500) % FILE_BYTES, 1);
    SAME(bytes, address, length);
    return 0;
}

static void note_loaded(void *user, int error)
{
    struct worker *w = user;

    w->awaited--;
    FINE(error);
}

static void read_something(struct worker *w)
{
    uint64_t address = some_address(w);
    unsigned char bytes[300];
    size_t length = 1 + support_random_below(&w->seed, sizeof bytes);
    struct cellar_slice slice;
    uint32_t value;

    switch (support_random_below(&w->seed, 6)) {
    case 0:
        if (FINE(cellar_cache_get_u32_ne(w->cache, address, &value)))
            SAME(&value, address, sizeof value);
        break;
    case 1:
        if (FINE(cellar_cache_load(w->cache, address, 1, &slice)))
            SAME(slice.bytes, slice.address, slice.length);
        break;
    case 2:
        FINE(cellar_cache_iterate(w->cache, address, length, run_piece, w));
        break;
    default:
        if (FINE(cellar_cache_read(w->cache, address, bytes, length)))
            SAME(bytes, address, length);
    }
}

static void drop_fix(struct worker *w, size_t at)
{
    struct cellar_fixed *fixed = &w->fixed[at];

    SAME(fixed->slice.bytes, fixed->slice.address, fixed->slice.length);
    cellar_cache_unfix(w->cache, fixed);
    *fixed = w->fixed[--w->fixed_count];
}

static void fix_something(struct worker *w)
{
    struct cellar_fixed *fixed = &w->fixed[w->fixed_count];
    uint64_t address = some_address(w);
    bool map = support_random_below(&w->seed, 2) == 0;

    if (!w->arena->fixes && !map)
        return;
    if (w->fixed_count == FIXED_MAX)
        drop_fix(w, support_random_below(&w->seed, FIXED_MAX));
    fixed = &w->fixed[w->fixed_count];
    if (!w->arena->fixes) /* a run of its own, of several pages */
        address = address / PAGE * PAGE + PAGE - 1;
    if (!FINE(map ? cellar_cache_map(w->cache, address, 2 + support_random_below(&w->seed, 150), fixed)
                  : cellar_cache_fix(w->cache, address, 1, fixed)))
        return;
    SAME(fixed->slice.bytes, fixed->slice.address, fixed->slice.length);
    w->fixed_count++;
}

static void start_something(struct worker *w)
{
    uint64_t address = some_address(w);
    size_t length = 1 + support_random_below(&w->seed, 20 * PAGE);
    struct cellar_cache *handle;

    switch (support_random_below(&w->seed, 5)) {
    case 0:
    case 1:
        if (length > FILE_BYTES - address)
            length = FILE_BYTES - address;
        if (FINE(cellar_cache_load_async(w->cache, address, length, note_loaded, w)))
            w->awaited++;
        break;
    case 2:
        (void)cellar_cache_poll(w->cache, support_random_below(&w->seed, 2) == 0);
        break;
    case 3: /* a handle that comes and goes, with a load that nobody waits for */
        if (!FINE(cellar_cache_share(w->cache, &handle)))
            break;
        FINE(cellar_cache_load_async(handle, address, 1, note_loaded, NULL));
        cellar_cache_close(handle);
        break;
    default:
        cellar_cache_prefetch(w->cache, address, length);
    }
}

static void *run_worker(void *user)
{
    struct worker *w = user;

    for (int step = 0; step < STEPS && w->line == 0; step++) {
        uint64_t what = support_random_below(&w->seed, 100);

        if (what < 60)
            read_something(w);
        else if (what < 75)
            fix_something(w);
        else if (what < 85 && w->fixed_count > 0)
            drop_fix(w, support_random_below(&w->seed, w->fixed_count));
        else if (what < 90)
            cellar_cache_invalidate(w->cache, some_address(w), support_random_below(&w->seed, 3 * PAGE));
        else if (what < 98)
            start_something(w);
        else if (what < 99)
            (void)cellar_cache_counters(w->cache);
        else if (w->faults && support_random_below(&w->seed, 4) == 0)
            fault_heal(&w->arena->fault);
    }
    while (w->fixed_count > 0)
        drop_fix(w, 0);
    while (cellar_cache_awaited(w->cache) > 0)
        (void)cellar_cache_poll(w->cache, true);
    if (w->awaited != 0)
        blame(w, __LINE__, 0);
    return NULL;
}

/* ---- arenas ---- */

static void arena_open(struct arena *arena, const struct cellar_cache_options *options, bool faulty, const char *folder)
{
    static unsigned count;
    struct cellar_device *inner;
    char name[32];

    snprintf(name, sizeof name, "arena-%u", count++);
    memset(arena, 0, sizeof *arena);
    support_bytes(5, arena->bytes, FILE_BYTES);
    inner = support_device_open(SUPPORT_DEVICE_PREAD, folder, name, FILE_BYTES, FILE_BYTES);
    assert_done(support_device_write(inner, arena->bytes, FILE_BYTES, 0));
    arena->faulty = faulty;
    arena->device = inner;
    if (faulty) {
        arena->fault.inner = inner;
        assert_done(fault_device_open(&arena->fault, &arena->device));
    }
    assert_done(cellar_cache_open_with(arena->device, options, &arena->cache));
    arena->fixes = cellar_cache_page_count(arena->cache) >= THREADS * (FIXED_MAX + 4);
}

/* Faults of a few reads at a time, set before the threads run; they come as the reads go on. */
static void arena_spoil(struct arena *arena)
{
    for (uint64_t i = 0; i < FAULT_RULES_MAX; i++)
        fault_fail(&arena->fault, i % 4 == 3 ? FAULT_SIZE : FAULT_READ, 5 + 60 * i, 1 + i % 3, -EIO);
}

static void run_arena(struct arena *arena, bool faults, uint64_t seed)
{
    static struct worker workers[THREADS];
    struct cellar_cache_counters counters;

    for (unsigned i = 0; i < THREADS; i++) {
        struct worker *w = &workers[i];

        memset(w, 0, sizeof *w);
        w->arena = arena;
        w->seed = seed * 1000 + i;
        w->faults = faults;
        w->cache = arena->cache;
        if (i > 0)
            assert_done(cellar_cache_share(arena->cache, &w->cache));
    }
    for (unsigned i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&workers[i].thread, NULL, run_worker, &workers[i]), 0);
    for (unsigned i = 0; i < THREADS; i++)
        assert_int_equal(pthread_join(workers[i].thread, NULL), 0);
    counters = cellar_cache_counters(arena->cache);
    for (unsigned i = 0; i < THREADS; i++) {
        if (workers[i].line != 0)
            print_error("thread %u, line %d: %s\n", i, workers[i].line, cellar_strerror(workers[i].error));
        assert_int_equal(workers[i].line, 0);
        if (i > 0)
            cellar_cache_close(workers[i].cache);
    }
    assert_int_equal(counters.pinned, 0);
    assert_true(counters.pages <= cellar_cache_page_count(arena->cache));
}

static void arena_close(struct arena *arena)
{
    unsigned char bytes[FILE_BYTES];

    /* Nothing that went wrong has left a trace. */
    if (arena->faulty)
        fault_heal(&arena->fault);
    assert_done(cellar_cache_read(arena->cache, 0, bytes, FILE_BYTES));
    assert_memory_equal(bytes, arena->bytes, FILE_BYTES);
    cellar_cache_close(arena->cache);
    assert_done(cellar_device_close(arena->device));
}

static void run_all(const char *folder, enum cellar_io io, bool faults)
{
    static const enum cellar_eviction evictions[] = {CELLAR_EVICT_SIEVE, CELLAR_EVICT_S3FIFO, CELLAR_EVICT_CLOCK};
    static const size_t page_counts[] = {1, 4, 16, 256};
    static struct arena arena;

    for (size_t variant = 0; variant < 12; variant++) {
        struct cellar_cache_options options = {.page_bytes = PAGE,
                                               .page_count = page_counts[variant % 4],
                                               .eviction = evictions[variant % 3],
                                               .depth = (unsigned)variant % 5 + 1,
                                               .io = io,
                                               .read_ahead_pages = variant % 2 == 0 ? 8 : 0};

        arena_open(&arena, &options, io == CELLAR_IO_THREADS, folder);
        if (faults)
            arena_spoil(&arena);
        run_arena(&arena, faults, variant);
        arena_close(&arena);
    }
}

static void test_random_on_threads(void **state)
{
    run_all(*state, CELLAR_IO_THREADS, false);
}

static void test_random_with_faults(void **state)
{
    run_all(*state, CELLAR_IO_THREADS, true);
}

static void test_random_on_the_ring(void **state)
{
    struct cellar_queue *queue;

    open_or_skip(1, CELLAR_IO_URING, &queue);
    cellar_queue_close(queue);
    run_all(*state, CELLAR_IO_URING, false);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_random_on_threads, support_folder_setup, support_folder_teardown),
        cmocka_unit_test_setup_teardown(test_random_with_faults, support_folder_setup, support_folder_teardown),
        cmocka_unit_test_setup_teardown(test_random_on_the_ring, support_folder_setup, support_folder_teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
