/* pipeline_snapshots.c - one thread commits, others read snapshots, and nobody sees half of a commit. */
#include <cellar/pipeline.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PAGE_BYTES = 4096, PAGES = 64, COMMITS = 300, READERS = 2 };

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

static atomic_bool finished;

/* Writes the number of the version that the commit will make into the first bytes of every page. */
static void write_version(struct cellar_pipeline *pipeline)
{
    uint64_t version = cellar_pipeline_version(pipeline) + 1;

    for (uint64_t page = 0; page < PAGES; page++)
        TRY(cellar_pipeline_set_u64_le(pipeline, page * PAGE_BYTES, version));
    TRY(cellar_pipeline_commit(pipeline));
}

static void *commit_often(void *argument)
{
    for (int i = 0; i < COMMITS; i++)
        write_version(argument);
    atomic_store(&finished, true);
    return NULL;
}

/* The same version twice over, whatever is committed meanwhile. */
static void *read_snapshots(void *argument)
{
    struct cellar_pipeline *pipeline = argument;
    bool last = false;

    while (!last) {
        struct cellar_cache *snapshot;

        last = atomic_load(&finished);
        TRY(cellar_pipeline_snapshot(pipeline, &snapshot));
        for (uint64_t i = 0; i < 2 * PAGES; i++) {
            uint64_t value;

            TRY(cellar_cache_get_u64_le(snapshot, i % PAGES * PAGE_BYTES, &value));
            EXPECT(value == cellar_cache_version(snapshot));
        }
        cellar_cache_close(snapshot);
    }
    return NULL;
}

/* Where old_pages is too small the commit fails, before it has written anything; the snapshot goes on. */
static void run_out_of_old_pages(struct cellar_pipeline *pipeline)
{
    struct cellar_cache *snapshots[3];
    uint64_t value, version;

    for (int i = 0; i < 2; i++) { /* each holds all pages of its version: together as many as old_pages */
        TRY(cellar_pipeline_snapshot(pipeline, &snapshots[i]));
        write_version(pipeline);
    }
    TRY(cellar_pipeline_snapshot(pipeline, &snapshots[2]));
    version = cellar_pipeline_version(pipeline);
    TRY(cellar_pipeline_set_u64_le(pipeline, 0, version + 1));
    EXPECT(cellar_pipeline_commit(pipeline) == CELLAR_EOLDPAGES);
    EXPECT(cellar_pipeline_version(pipeline) == version && cellar_pipeline_pending_bytes(pipeline) == 8);
    TRY(cellar_cache_get_u64_le(snapshots[0], 0, &value));
    EXPECT(value == version - 2);
    cellar_cache_close(snapshots[0]); /* gives its pages back */
    TRY(cellar_pipeline_commit(pipeline));
    for (int i = 1; i < 3; i++) {
        TRY(cellar_cache_get_u64_le(snapshots[i], 0, &value));
        EXPECT(value == version - 2 + (uint64_t)i);
        cellar_cache_close(snapshots[i]);
    }
}

int main(void)
{
    struct cellar_pipeline_options options = {.cache = {.page_count = 32, .old_pages = READERS * PAGES}};
    struct cellar_pipeline *pipeline;
    struct cellar_device *device;
    pthread_t writer, readers[READERS];

    TRY(cellar_device_open_memory(NULL, PAGES * PAGE_BYTES, PAGES * PAGE_BYTES, &device));
    TRY(cellar_pipeline_open_with(device, &options, &pipeline));
    write_version(pipeline);
    for (int i = 0; i < READERS; i++)
        TRY(-pthread_create(&readers[i], NULL, read_snapshots, pipeline));
    TRY(-pthread_create(&writer, NULL, commit_often, pipeline));
    TRY(-pthread_join(writer, NULL));
    for (int i = 0; i < READERS; i++)
        TRY(-pthread_join(readers[i], NULL));
    EXPECT(cellar_cache_counters(cellar_pipeline_cache(pipeline)).old_pages == 0);
    run_out_of_old_pages(pipeline);
    printf("version %llu\n", (unsigned long long)cellar_pipeline_version(pipeline));
    cellar_pipeline_close(pipeline);
    TRY(cellar_device_close(device));
    return 0;
}
