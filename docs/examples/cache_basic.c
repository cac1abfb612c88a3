/* cache_basic.c - a cache over a file: reading, fixing pages, what a cached page shows, growth, limits, counters. */
#include <cellar/cache.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { PAGE_BYTES = 4096, NUMBERS = 100000 };

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

/* Number i of the file is factor * i: 8 bytes, least significant byte first. */
static void write_numbers(int file, uint64_t first, uint64_t count, uint64_t factor)
{
    for (uint64_t i = first; i < first + count; i++) {
        unsigned char bytes[8];

        for (int k = 0; k < 8; k++)
            bytes[k] = (unsigned char)(factor * i >> 8 * k);
        EXPECT(pwrite(file, bytes, sizeof bytes, (off_t)(8 * i)) == sizeof bytes);
    }
}

static void open_and_read(struct cellar_device *device)
{
    struct cellar_cache *cache;
    uint64_t number;
    unsigned char bytes[10000];

    TRY(cellar_cache_open(device, 4096, 256, &cache)); /* 256 pages of 4096 bytes: 1 MiB */
    TRY(cellar_cache_get_u64_le(cache, 8 * 1234, &number));
    TRY(cellar_cache_read(cache, 4000, bytes, sizeof bytes)); /* four pages */
    cellar_cache_close(cache);

    EXPECT(number == 1234);
    EXPECT(bytes[0] == 500 % 256 && bytes[1] == 500 / 256);
}

/* Fix, use, unfix. */
static uint64_t sum_of_page(struct cellar_cache *cache, uint64_t address)
{
    struct cellar_fixed page;
    uint64_t sum = 0;

    TRY(cellar_cache_fix(cache, address, 1, &page)); /* at least the byte at address must be there */
    for (size_t at = 0; at + 8 <= page.slice.length; at += 8)
        sum += cellar_decode_64_le((const unsigned char *)page.slice.bytes + at);
    cellar_cache_unfix(cache, &page);
    return sum;
}

static int add_piece(void *user, uint64_t address, const void *bytes, size_t length)
{
    uint64_t *bytes_seen = user;

    (void)address;
    (void)bytes;
    *bytes_seen += length;
    return 0; /* anything else would stop the iteration */
}

static void walk(struct cellar_cache *cache)
{
    struct cellar_slice slice;
    uint64_t address = 0, walked = 0, iterated = 0;
    int error;

    while ((error = cellar_cache_walk(cache, &address, &slice)) == 0)
        walked += slice.length;
    EXPECT(error == CELLAR_NONE); /* the end of the source */

    TRY(cellar_cache_iterate(cache, 0, CELLAR_CACHE_TO_END, add_piece, &iterated));
    EXPECT(walked == 8 * NUMBERS && iterated == walked);
}

/* The device was opened by cellar_device_open_pread: pages are copies. While a page is fixed it stays in the cache. */
static void invalidate(struct cellar_cache *cache, int file)
{
    struct cellar_fixed page;
    uint64_t number;

    TRY(cellar_cache_fix(cache, 8 * 7, 8, &page));
    write_numbers(file, 7, 1, 100); /* past the cache */
    TRY(cellar_cache_get_u64_le(cache, 8 * 7, &number));
    EXPECT(number == 7); /* as it was when the page was loaded */
    cellar_cache_invalidate(cache, 8 * 7, 8);
    TRY(cellar_cache_get_u64_le(cache, 8 * 7, &number));
    EXPECT(number == 700);
    EXPECT(cellar_decode_64_le((const unsigned char *)page.slice.bytes + 8 * 7) == 7); /* what is fixed never changes */
    cellar_cache_unfix(cache, &page);
}

static void grow(struct cellar_cache *cache, int file)
{
    uint64_t number, end = 8 * NUMBERS;

    EXPECT(cellar_cache_get_u64_le(cache, end, &number) == CELLAR_EBOUNDS);
    EXPECT(cellar_cache_fault_address(cache) == end);
    write_numbers(file, NUMBERS, 1000, 1); /* the file is longer now */
    TRY(cellar_cache_get_u64_le(cache, end, &number));
    EXPECT(number == NUMBERS);
}

static void limit(struct cellar_cache *cache)
{
    uint64_t number;

    cellar_cache_set_limit(cache, 8 * 10); /* the handle sees ten numbers */
    TRY(cellar_cache_get_u64_le(cache, 8 * 9, &number));
    EXPECT(cellar_cache_get_u64_le(cache, 8 * 10, &number) == CELLAR_EBOUNDS);
    cellar_cache_set_limit(cache, 8 * 11);
    TRY(cellar_cache_get_u64_le(cache, 8 * 10, &number));
    cellar_cache_set_limit(cache, UINT64_MAX); /* all of it again */
}

static void with_options(struct cellar_device *device, int file)
{
    struct cellar_cache_options options = {
        .page_count = 64,
        .eviction = CELLAR_EVICT_SIEVE,
    }; /* what isn't set is 0, which is the default */
    struct cellar_cache_counters counters;
    struct cellar_cache *cache;

    TRY(cellar_cache_open_with(device, &options, &cache));
    walk(cache);
    EXPECT(sum_of_page(cache, 3 * PAGE_BYTES) == (1536 + 2047) * 512 / 2);
    EXPECT(cellar_cache_loads_needed(cache, 4000, 10000) == 4); /* cached or not */
    invalidate(cache, file);
    grow(cache, file);
    limit(cache);

    counters = cellar_cache_counters(cache);
    printf("%llu hits, %llu misses, %llu pages given up, %zu pages cached\n", (unsigned long long)counters.hits,
           (unsigned long long)counters.misses, (unsigned long long)counters.evictions, counters.pages);
    EXPECT(counters.pinned == 0 && counters.pages <= 64);
    cellar_cache_close(cache);
}

int main(void)
{
    char path[] = "/tmp/cellar-example-XXXXXX";
    struct cellar_device *device;
    int file = mkstemp(path);

    EXPECT(file >= 0);
    write_numbers(file, 0, NUMBERS, 1);
    TRY(cellar_device_open_pread(path, CELLAR_OPEN_READ, 0, &device));
    unlink(path);
    open_and_read(device);
    with_options(device, file);
    TRY(cellar_device_close(device));
    close(file);
    return 0;
}
