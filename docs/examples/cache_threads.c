/* cache_threads.c - four threads read through one cache, each with a handle of its own. */
#include <cellar/cache.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

enum { PAGE_BYTES = 4096, PAGES = 256, THREADS = 4, ROUNDS = 100 };

#define TRY(call) try_call((call), #call)

static void try_call(int error, const char *call)
{
    if (error != 0) {
        fprintf(stderr, "%s: %s\n", call, cellar_strerror(error));
        exit(1);
    }
}

/* Takes the handle over. */
static void *read_all(void *argument)
{
    struct cellar_cache *cache = argument;

    for (int round = 0; round < ROUNDS; round++) {
        for (uint64_t page = 0; page < PAGES; page++) {
            uint32_t value;

            TRY(cellar_cache_get_u32_le(cache, page * PAGE_BYTES, &value));
            if (value != page) {
                fprintf(stderr, "page %u holds %u\n", (unsigned)page, (unsigned)value);
                exit(1);
            }
        }
    }
    cellar_cache_close(cache);
    return NULL;
}

static void run_threads(struct cellar_cache *cache)
{
    struct cellar_cache *handles[THREADS];
    pthread_t threads[THREADS];

    for (int i = 0; i < THREADS; i++)
        TRY(cellar_cache_share(cache, &handles[i])); /* by the thread that uses cache */
    for (int i = 0; i < THREADS; i++)
        TRY(-pthread_create(&threads[i], NULL, read_all, handles[i]));
    for (int i = 0; i < THREADS; i++)
        TRY(-pthread_join(threads[i], NULL));
}

int main(void)
{
    struct cellar_cache_options options = {.page_count = 2 * PAGES, .copy = true};
    unsigned char *bytes = calloc(PAGES, PAGE_BYTES);
    struct cellar_device *device;
    struct cellar_cache *cache;
    struct cellar_device_counters counters;

    if (bytes == NULL)
        return 1;
    for (int page = 0; page < PAGES; page++) {
        bytes[page * PAGE_BYTES] = (unsigned char)(page % 256);
        bytes[page * PAGE_BYTES + 1] = (unsigned char)(page / 256);
    }
    TRY(cellar_device_open_memory(bytes, (uint64_t)PAGES * PAGE_BYTES, (uint64_t)PAGES * PAGE_BYTES, &device));
    TRY(cellar_cache_open_with(device, &options, &cache));
    run_threads(cache);
    counters = cellar_device_counters(device);
    printf("%d threads, %d lookups, %llu loads of %d pages\n", THREADS, THREADS * ROUNDS * PAGES,
           (unsigned long long)counters.reads, PAGES);
    if (counters.reads < PAGES || (cellar_cache_page_count(cache) >= PAGES && counters.reads > PAGES))
        return 1; /* two that miss the same page cause one load */
    cellar_cache_close(cache);
    TRY(cellar_device_close(device));
    free(bytes);
    return 0;
}
