/*
 * One writer, several readers: each reader takes snapshots and finds in every one of them exactly the pages of its
 * version, whatever the writer does meanwhile. Made for the thread sanitizer, too.
 *
 * Page p is written by each version that p + 1 divides, with it in all its words; so page p of version v holds
 * the last multiple of p + 1 up to v. Behind the pages is a log: each version appends a word to it, its number.
 */
#include "versions_test.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>

enum {
    READERS = 4,
    PAGES = 12,
    VERSIONS = 300,
    WORDS = PAGE / 8,
    LOG = PAGES * PAGE,
    SIZE = LOG + 8 * (VERSIONS + 1),
    LOOKS = 3,
};

struct show {
    struct stage stage;
    atomic_bool over;
    atomic_uint snapshots;
    const char *_Atomic wrong; /* the first thing that was */
    atomic_int error;
};

static void complain(struct show *show, const char *what, int error)
{
    const char *nothing = NULL;

    if (atomic_compare_exchange_strong(&show->wrong, &nothing, what))
        atomic_store(&show->error, error);
}

static uint64_t word_of(uint64_t page, uint64_t version)
{
    return version - version % (page + 1);
}

static void look_at_page(struct show *show, struct cellar_cache *snapshot, uint64_t page, bool fixes)
{
    uint64_t version = cellar_cache_version(snapshot), words[WORDS];
    struct cellar_fixed fixed;
    int error;

    if (fixes) {
        error = cellar_cache_fix(snapshot, page * PAGE, PAGE, &fixed);
        if (error == 0) {
            sched_yield();
            memcpy(words, fixed.slice.bytes, sizeof words);
            cellar_cache_unfix(snapshot, &fixed);
        }
    } else {
        error = cellar_cache_read(snapshot, page * PAGE, words, sizeof words);
    }
    if (error != 0) {
        complain(show, "a page can't be read", error);
        return;
    }
    for (int i = 0; i < WORDS; i++) {
        if (words[i] != word_of(page, version))
            complain(show, "a page is of another version", (int)(words[i] - word_of(page, version)));
    }
}

static void look_at_log(struct show *show, struct cellar_cache *snapshot, uint64_t index)
{
    uint64_t version = cellar_cache_version(snapshot), word = UINT64_MAX;
    int error = cellar_cache_get_u64_ne(snapshot, LOG + 8 * index, &word);

    if (error != (index <= version ? 0 : CELLAR_EBOUNDS))
        complain(show, "the log ends elsewhere", error);
    else if (error == 0 && word != index)
        complain(show, "the log has something else", (int)word);
}

static void *read_all(void *user)
{
    struct show *show = user;
    uint64_t random = 5;

    while (!atomic_load(&show->over) && atomic_load(&show->wrong) == NULL) {
        struct cellar_cache *snapshot;
        uint64_t version;
        int error = cellar_pipeline_snapshot(show->stage.pipeline, &snapshot);

        if (error != 0) {
            complain(show, "no snapshot", error);
            break;
        }
        version = cellar_cache_version(snapshot);
        atomic_fetch_add(&show->snapshots, 1);
        for (int look = 0; look < LOOKS * PAGES; look++) {
            look_at_page(show, snapshot, support_random_below(&random, PAGES), look % 4 == 0);
            look_at_log(show, snapshot, support_random_below(&random, version + 3));
            look_at_log(show, snapshot, version);
        }
        cellar_cache_set_limit(snapshot, PAGE); /* needs no more from here on */
        look_at_page(show, snapshot, 0, true);
        cellar_cache_close(snapshot);
    }
    return NULL;
}

/* Makes version number v. Counts how often it had to wait for readers. */
static void make_version(struct show *show, uint64_t version, unsigned *refused)
{
    struct cellar_pipeline *pipeline = show->stage.pipeline;
    int error = 0;

    for (uint64_t page = 0; page < PAGES; page++) {
        uint64_t words[WORDS];
        struct cellar_write_frame frame;

        if (version % (page + 1) != 0)
            continue;
        for (int i = 0; i < WORDS; i++)
            words[i] = version;
        if (page % 2 == 0) {
            error = cellar_pipeline_write(pipeline, page * PAGE, words, sizeof words);
        } else {
            error = cellar_pipeline_fix_write(pipeline, page * PAGE, CELLAR_WRITE_NEW, &frame);
            if (error == 0) {
                memcpy(frame.bytes, words, sizeof words);
                cellar_pipeline_unfix_write(pipeline, &frame);
            }
        }
        if (error != 0)
            complain(show, "a page can't be written", error);
    }
    error = cellar_pipeline_set_u64_ne(pipeline, LOG + 8 * version, version);
    if (error != 0)
        complain(show, "the log can't be written", error);
    while (atomic_load(&show->wrong) == NULL && (error = cellar_pipeline_commit(pipeline)) != 0) {
        if (error != CELLAR_EOLDPAGES)
            complain(show, "a commit fails", error);
        ++*refused;
        sched_yield();
    }
}

static void run(const struct cellar_cache_options *cache)
{
    struct show show = {0};
    struct cellar_pipeline_options options = {.cache = *cache, .committed_bytes = LOG + 8};
    pthread_t threads[READERS];
    char *folder = support_folder_make();
    unsigned refused = 0;

    /* A page may be on its way when it is overwritten. It is loaded again then; of the bytes in memory it is a race. */
    if (cache->depth > 0)
        show.stage.fault.inner = support_device_open(SUPPORT_DEVICE_PREAD, folder, "device", SIZE, SIZE);
    show.stage.fault.without = FAULT_BIT(FAULT_LOAD) | FAULT_BIT(FAULT_WINDOW);
    stage_open(&show.stage, SIZE, &options);
    for (int i = 0; i < READERS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, read_all, &show), 0);
    for (uint64_t version = 1; version <= VERSIONS && atomic_load(&show.wrong) == NULL; version++) {
        uint64_t word;

        make_version(&show, version, &refused);
        if (cellar_pipeline_get_u64_ne(show.stage.pipeline, LOG + 8 * version, &word) != 0 || word != version)
            complain(&show, "the writer sees something else", (int)word);
        if (version % 4 == 0)
            sched_yield();
    }
    while (atomic_load(&show.snapshots) < READERS && atomic_load(&show.wrong) == NULL)
        sched_yield();
    atomic_store(&show.over, true);
    for (int i = 0; i < READERS; i++)
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    if (show.wrong != NULL)
        fail_msg("%s: %d", show.wrong, show.error);
    assert_int_equal(cellar_pipeline_version(show.stage.pipeline), VERSIONS);
    assert_int_equal(old_pages(&show.stage), 0);
    assert_int_equal(cellar_cache_counters(cellar_pipeline_cache(show.stage.pipeline)).pinned, 0);
    stage_close(&show.stage);
    support_folder_remove(folder);
}

static void *take_the_first(void *user)
{
    struct show *show = user;
    struct cellar_cache *snapshot;
    int error = cellar_pipeline_snapshot(show->stage.pipeline, &snapshot);

    if (error != 0) {
        complain(show, "no snapshot", error);
    } else {
        look_at_page(show, snapshot, 1, false);
        cellar_cache_close(snapshot);
    }
    atomic_store(&show->over, true);
    return NULL;
}

/* The first snapshot of all comes from another thread, while the pipeline's own reads. */
static void test_threads_the_first_snapshot(void **state)
{
    struct cellar_pipeline_options options = {.cache.old_pages = 1};
    struct show show = {0};
    pthread_t thread;
    uint64_t word = 0, page = 0;

    (void)state;
    stage_open(&show.stage, SIZE, &options);
    assert_done(cellar_pipeline_get_u64_ne(show.stage.pipeline, 0, &word));
    assert_int_equal(pthread_create(&thread, NULL, take_the_first, &show), 0);
    while (!atomic_load_explicit(&show.over, memory_order_relaxed) && word == 0) {
        page = (page + 1) % PAGES;
        assert_done(cellar_pipeline_get_u64_ne(show.stage.pipeline, page * PAGE, &word));
    }
    assert_int_equal(pthread_join(thread, NULL), 0);
    if (show.wrong != NULL)
        fail_msg("%s: %d", show.wrong, show.error);
    assert_int_equal(word, 0);
    stage_close(&show.stage);
}

static void test_threads_all_is_cached(void **state)
{
    (void)state;
    run(&(struct cellar_cache_options){.page_count = 64, .old_pages = 200});
}

static void test_threads_pages_come_and_go(void **state)
{
    (void)state;
    run(&(struct cellar_cache_options){.page_count = 16, .old_pages = 200});
}

static void test_threads_the_writer_waits(void **state)
{
    (void)state;
    run(&(struct cellar_cache_options){.page_count = 16, .old_pages = PAGES});
}

static void test_threads_in_four_frames(void **state)
{
    (void)state;
    run(&(struct cellar_cache_options){.page_count = 4, .old_pages = 100});
}

static void test_threads_with_loads_in_the_background(void **state)
{
    (void)state;
    run(&(struct cellar_cache_options){
        .page_count = 16, .old_pages = 100, .depth = 4, .read_ahead_pages = 4, .io = CELLAR_IO_THREADS});
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_threads_the_first_snapshot), cmocka_unit_test(test_threads_all_is_cached),
        cmocka_unit_test(test_threads_pages_come_and_go),  cmocka_unit_test(test_threads_the_writer_waits),
        cmocka_unit_test(test_threads_in_four_frames),     cmocka_unit_test(test_threads_with_loads_in_the_background),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
