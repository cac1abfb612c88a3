/* cache_libuv.c - the same as cache_epoll.c on the event loop of libuv. */
#include <cellar/cache.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include <uv.h>

enum { PAGE_BYTES = 4096, PAGES = 2000, LOADS = 500, AT_A_TIME = 100, DEPTH = 16 };

#define TRY(call) try_call((call), #call)
#define EXPECT(truth) expect((truth), #truth)

static void try_call(int error, const char *call)
{
    if (error != 0) {
        fprintf(stderr, "%s: %s\n", call, cellar_strerror(error));
        exit(1);
    }
}

static void expect(bool truth, const char *what)
{
    if (!truth) {
        fprintf(stderr, "not so: %s\n", what);
        exit(1);
    }
}

/* What the program is about: it wants the first number of pages at random. */
struct work {
    struct cellar_cache *cache;
    uint64_t random;
    int started, finished;
};

struct wish {
    struct work *work;
    uint64_t page;
};

static void start_one(struct work *work);

/* Called by cellar_cache_poll: the page has come. */
static void page_is_there(void *user, int error)
{
    struct wish *wish = user;
    struct work *work = wish->work;
    uint32_t number;

    TRY(error);
    TRY(cellar_cache_get_u32_le(work->cache, wish->page * PAGE_BYTES, &number)); /* a hit, but in a very small cache */
    EXPECT(number == wish->page);
    free(wish);
    work->finished++;
    if (work->started < LOADS)
        start_one(work); /* done functions may call everything but close */
}

static void start_one(struct work *work)
{
    struct wish *wish = malloc(sizeof *wish);

    EXPECT(wish != NULL);
    work->random = work->random * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    wish->work = work;
    wish->page = (work->random >> 33) % PAGES;
    work->started++;
    TRY(cellar_cache_load_async(work->cache, wish->page * PAGE_BYTES, 4, page_is_there, wish));
}

static void cache_is_ready(uv_poll_t *poll, int status, int events)
{
    struct work *work = poll->data;

    (void)events;
    EXPECT(status == 0);
    (void)cellar_cache_poll(work->cache, false); /* calls page_is_there; CELLAR_NONE is fine */
    if (work->finished == LOADS)
        uv_close((uv_handle_t *)poll, NULL); /* before the cache, whose descriptor goes with it */
}

static void run_loop(struct work *work)
{
    int descriptor = cellar_cache_descriptor(work->cache);
    uv_poll_t poll;
    uv_loop_t loop;

    EXPECT(descriptor >= 0 && uv_loop_init(&loop) == 0 && uv_poll_init(&loop, &poll, descriptor) == 0);
    poll.data = work;
    EXPECT(uv_poll_start(&poll, UV_READABLE, cache_is_ready) == 0);
    EXPECT(uv_run(&loop, UV_RUN_DEFAULT) == 0); /* until no handle is left */
    EXPECT(uv_loop_close(&loop) == 0);
}

int main(void)
{
    struct cellar_cache_options options = {.page_bytes = PAGE_BYTES, .page_count = 256, .depth = DEPTH};
    char path[] = "/tmp/cellar-example-XXXXXX";
    struct work work = {.random = 1};
    struct cellar_device *device;
    int file = mkstemp(path);

    EXPECT(file >= 0 && ftruncate(file, (off_t)PAGES * PAGE_BYTES) == 0);
    for (int page = 0; page < PAGES; page++) {
        unsigned char bytes[2] = {(unsigned char)page, (unsigned char)(page >> 8)};

        EXPECT(pwrite(file, bytes, sizeof bytes, (off_t)page * PAGE_BYTES) == sizeof bytes);
    }
    close(file);
    TRY(cellar_device_open_pread(path, CELLAR_OPEN_READ, 0, &device));
    unlink(path);
    TRY(cellar_cache_open_with(device, &options, &work.cache));
    while (work.started < AT_A_TIME)
        start_one(&work); /* loads beyond the depth wait their turn */
    run_loop(&work);
    printf("%d loads, %d of them asked for at a time, %d at the device\n", work.finished, AT_A_TIME, DEPTH);
    EXPECT(cellar_cache_awaited(work.cache) == 0);
    cellar_cache_close(work.cache);
    TRY(cellar_device_close(device));
    return 0;
}
