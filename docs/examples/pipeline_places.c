/*
 * pipeline_places.c - where pages lie is the program's business: each new version of a page goes to the end of a log,
 * older versions stay where they are, and every page is checked when it comes from a device.
 */
#include <cellar/pipeline.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PAGE_BYTES = 512, PAGES = 16, VERSIONS = 5, LOG_PAGES = 100 };

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

/* Page i of the log is what entries[i] says. Version 0 of every page lies in the base, at its own address. */
struct mapping {
    pthread_mutex_t lock;
    struct cellar_device *base, *log;
    struct {
        uint64_t page_address, version;
    } entries[LOG_PAGES];
    size_t count;
};

/* The place hook: the newest entry that is not newer than version. */
static int find_place(void *user, uint64_t version, uint64_t page_address, struct cellar_place *ret_place)
{
    struct mapping *mapping = user;
    struct cellar_place place = {.version = 0, .device = mapping->base, .offset = page_address};

    pthread_mutex_lock(&mapping->lock);
    for (size_t i = 0; i < mapping->count; i++) { /* versions only go up */
        if (mapping->entries[i].page_address == page_address && mapping->entries[i].version <= version)
            place = (struct cellar_place){mapping->entries[i].version, mapping->log, i * PAGE_BYTES};
    }
    pthread_mutex_unlock(&mapping->lock);
    *ret_place = place;
    return 0;
}

/* The place_new function: the end of the log. */
static int make_place(void *user, uint64_t version, uint64_t page_address, struct cellar_place *ret_place)
{
    struct mapping *mapping = user;
    size_t i;

    pthread_mutex_lock(&mapping->lock);
    i = mapping->count++;
    EXPECT(i < LOG_PAGES);
    mapping->entries[i].page_address = page_address;
    mapping->entries[i].version = version;
    pthread_mutex_unlock(&mapping->lock);
    *ret_place = (struct cellar_place){version, mapping->log, i * PAGE_BYTES};
    return 0;
}

/* FNV-1a. */
static uint64_t checksum(const unsigned char *bytes, size_t length)
{
    uint64_t sum = UINT64_C(0xCBF29CE484222325);

    for (size_t i = 0; i < length; i++)
        sum = (sum ^ bytes[i]) * UINT64_C(0x100000001B3);
    return sum;
}

/* The validate hook: the last 8 bytes of a page are the checksum of the others. */
static int check_page(void *user, uint64_t version, uint64_t page_address, const void *bytes, size_t length)
{
    const unsigned char *page = bytes;

    (void)user, (void)version, (void)page_address;
    return length == PAGE_BYTES && cellar_decode_64_le(page + PAGE_BYTES - 8) == checksum(page, PAGE_BYTES - 8)
               ? 0
               : CELLAR_ECORRUPT;
}

static void fill_page(unsigned char *page, uint64_t number)
{
    memset(page, 0, PAGE_BYTES);
    cellar_encode_64_le(page, number);
    cellar_encode_64_le(page + PAGE_BYTES - 8, checksum(page, PAGE_BYTES - 8));
}

/* Writes page number version in a frame of its own, without loading what it overwrites. */
static void write_page(struct cellar_pipeline *pipeline, uint64_t page, uint64_t version)
{
    struct cellar_write_frame frame;

    TRY(cellar_pipeline_fix_write(pipeline, page * PAGE_BYTES, CELLAR_WRITE_NEW, &frame));
    fill_page(frame.bytes, 100 * version + page);
    cellar_pipeline_unfix_write(pipeline, &frame);
}

/* Version v has rewritten page v; each snapshot sees what was rewritten up to it. */
static void check_snapshot(struct cellar_cache *snapshot)
{
    uint64_t version = cellar_cache_version(snapshot);

    for (uint64_t page = 0; page < PAGES; page++) {
        uint64_t number;

        TRY(cellar_cache_get_u64_le(snapshot, page * PAGE_BYTES, &number));
        EXPECT(number == (page >= 1 && page <= version ? 100 * page + page : page));
    }
}

static void break_page(struct mapping *mapping, struct cellar_cache *cache)
{
    struct iovec part = {.iov_base = "?", .iov_len = 1};
    uint64_t number;

    TRY(cellar_device_write(mapping->base, &part, 1, 9 * PAGE_BYTES + 20));
    cellar_cache_invalidate(cache, 9 * PAGE_BYTES, PAGE_BYTES);
    EXPECT(cellar_cache_get_u64_le(cache, 9 * PAGE_BYTES, &number) == CELLAR_ECORRUPT);
    EXPECT(cellar_cache_fault_address(cache) == 9 * PAGE_BYTES);
    EXPECT(!cellar_cache_is_cached(cache, 9 * PAGE_BYTES));
}

static void run(struct mapping *mapping)
{
    struct cellar_pipeline_options options = {
        .cache = {.page_bytes = PAGE_BYTES,
                  .page_count = 8,
                  .hooks = {.place = find_place, .validate = check_page},
                  .user = mapping},
        .place_new = make_place,
    };
    struct cellar_cache *snapshots[VERSIONS];
    struct cellar_pipeline *pipeline;

    TRY(cellar_pipeline_open_with(mapping->base, &options, &pipeline));
    for (uint64_t i = 0; i < VERSIONS; i++) {
        TRY(cellar_pipeline_snapshot(pipeline, &snapshots[i]));
        write_page(pipeline, i + 1, i + 1);
        TRY(cellar_pipeline_commit(pipeline));
    }
    for (int i = 0; i < VERSIONS; i++) {
        check_snapshot(snapshots[i]);
        cellar_cache_close(snapshots[i]);
    }
    check_snapshot(cellar_pipeline_cache(pipeline)); /* stands at the last version */
    break_page(mapping, cellar_pipeline_cache(pipeline));
    cellar_pipeline_close(pipeline);
}

int main(void)
{
    struct mapping mapping = {.lock = PTHREAD_MUTEX_INITIALIZER};
    unsigned char bytes[PAGES * PAGE_BYTES];

    for (uint64_t page = 0; page < PAGES; page++)
        fill_page(bytes + page * PAGE_BYTES, page);
    TRY(cellar_device_open_memory(bytes, sizeof bytes, sizeof bytes, &mapping.base));
    TRY(cellar_device_open_memory(NULL, LOG_PAGES * PAGE_BYTES, LOG_PAGES * PAGE_BYTES, &mapping.log));
    run(&mapping);
    printf("%zu pages in the log\n", mapping.count);
    EXPECT(mapping.count == VERSIONS);
    TRY(cellar_device_close(mapping.log));
    TRY(cellar_device_close(mapping.base));
    return 0;
}
