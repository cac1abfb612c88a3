/*
 * threads [--minutes N] [--seed SEED] - the rules of cellar/store.h about threads, with eleven of them at one store:
 * one writes and commits, two flush what is committed beside it, four have a reader each and look again and again, four
 * read snapshots that the others hand to them: of readers, and of the writer. Every snapshot is checked whole. On every
 * way of the fixture; where the store lies in memory with a window, ThreadSanitizer sees the stores and the loads of
 * all as the same bytes. And the rules of cellar/pipeline.h and cellar/cache.h: one thread commits, eight others take
 * snapshots, read them, share them and hand the new handles on. With --minutes again and again until the time is over.
 */
#include "sealed.h"
#include "store_fixture.h"

#include <cellar/pipeline.h>
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { FLUSHERS = 2, OWNERS = 4, BORROWERS = 4, COMMITS = 300, SLICE_COMMITS = 40, BYTES_PER_CELL = 40 };

static double minutes;
static uint64_t first_seed = 1;
static unsigned long long all_snapshots, all_flushes, all_rounds;

static time_t deadline(void)
{
    return time(NULL) + (time_t)(minutes * 60);
}

/* ---- one store ---- */

/* Snapshots that are handed on. */
struct box {
    pthread_mutex_t lock;
    struct cellar_snapshot snapshots[OWNERS + 1]; /* the last one is the writer's */
    bool filled[OWNERS + 1];
};

struct scene {
    struct store_fixture *f;
    struct cellar_writer *writer;
    enum cellar_publish publish;
    unsigned commits;
    struct box box;
    atomic_bool written;        /* the last commit has returned */
    atomic_uint committed_next; /* of the last commit that has returned */
    atomic_int wrong;           /* the first error, or line, of any thread */
    atomic_ullong snapshots, flushes;
};

struct actor {
    struct scene *scene;
    int number;
    pthread_t thread;
    struct cellar_reader *reader; /* an owner's */
    bool follows;                 /* it has the key */
    struct sealed_memory memory;
};

static void complain(struct scene *scene, int result)
{
    int none = 0;

    if (result != 0)
        atomic_compare_exchange_strong(&scene->wrong, &none, result);
}

static bool goes_on(struct scene *scene)
{
    return atomic_load(&scene->wrong) == 0;
}

static void hand_on(struct scene *scene, int from, struct cellar_snapshot snapshot)
{
    pthread_mutex_lock(&scene->box.lock);
    scene->box.snapshots[from] = snapshot;
    scene->box.filled[from] = true;
    pthread_mutex_unlock(&scene->box.lock);
}

static bool take_over(struct scene *scene, int from, struct cellar_snapshot *ret_snapshot)
{
    bool filled;

    pthread_mutex_lock(&scene->box.lock);
    filled = scene->box.filled[from];
    *ret_snapshot = scene->box.snapshots[from];
    pthread_mutex_unlock(&scene->box.lock);
    return filled;
}

static void *write_commits(void *user)
{
    struct actor *actor = user;
    struct scene *scene = actor->scene;
    uint64_t seed = first_seed + all_rounds;
    int result = 0;

    for (uint32_t i = 0; result == 0 && i < scene->commits && goes_on(scene); i++) {
        result = sealed_append(scene->writer, i + 1, &seed);
        if (result == 0)
            result = i % 40 == 39 ? cellar_writer_flush(scene->writer) : cellar_writer_commit(scene->writer);
        if (result == 0 && i % 5 == 0)
            result = sealed_move_root(scene->writer);
        if (result == 0)
            result = cellar_writer_commit(scene->writer);
        if (result == 0)
            atomic_store(&scene->committed_next, cellar_writer_next(scene->writer));
        if (result == 0 && i % 7 == 0)
            hand_on(scene, OWNERS, cellar_writer_snapshot(scene->writer));
        if (i % 16 == 0)
            sched_yield();
    }
    complain(scene, result);
    atomic_store(&scene->written, true);
    return NULL;
}

static void *flush_beside(void *user)
{
    struct actor *actor = user;
    struct scene *scene = actor->scene;
    int error = 0;

    while (error == 0 && goes_on(scene) && !atomic_load(&scene->written)) {
        error = cellar_writer_flush_committed(scene->writer);
        atomic_fetch_add(&scene->flushes, 1);
        sched_yield();
    }
    complain(scene, error);
    return NULL;
}

/* One look of an owner; with the key it sees what had been committed before. */
static int look(struct actor *actor, bool follows)
{
    uint32_t committed = atomic_load(&actor->scene->committed_next);
    int result = cellar_reader_refresh(actor->reader);
    struct cellar_snapshot snapshot = cellar_reader_snapshot(actor->reader);

    SUPPORT_CHILD_NEEDS(result == 0 || result == CELLAR_NONE);
    SUPPORT_CHILD_NEEDS(snapshot.next_index >= actor->memory.known_next);
    SUPPORT_CHILD_NEEDS(!follows || snapshot.next_index >= committed);
    if (result != 0)
        return 0;
    atomic_fetch_add(&actor->scene->snapshots, 1);
    hand_on(actor->scene, actor->number, snapshot);
    return sealed_check(&snapshot, &actor->memory, NULL);
}

static void *look_again_and_again(void *user)
{
    struct actor *actor = user;
    bool last = false;

    while (goes_on(actor->scene) && !last) {
        last = atomic_load(&actor->scene->written);
        complain(actor->scene, look(actor, actor->follows));
    }
    return NULL;
}

static void *read_what_others_hand_on(void *user)
{
    struct actor *actor = user;
    struct scene *scene = actor->scene;
    uint64_t seed = (uint64_t)actor->number;
    bool last = false;

    while (goes_on(scene) && !last) {
        struct cellar_snapshot snapshot;

        last = atomic_load(&scene->written);
        if (take_over(scene, (int)support_random_below(&seed, OWNERS + 1), &snapshot)) {
            complain(scene, sealed_check_all(&snapshot, &actor->memory));
            atomic_fetch_add(&scene->snapshots, 1);
        }
        sched_yield();
    }
    return NULL;
}

/* Readers with the key and without, on files mapped and not. (Who reads whole pages of a device in memory, while a
 * writer fills cells of them through its window, reads bytes that change: it does not use them, but that is a data
 * race.) */
static void open_owner(struct scene *scene, struct actor *actor)
{
    struct cellar_reader_options options = store_reader_options(scene->f);

    if (actor->number >= OWNERS / 2 && options.device == CELLAR_DEVICE_MAPPED && !scene->f->way->memory)
        options.device = CELLAR_DEVICE_PAGES;
    actor->follows = actor->number % 2 == 0;
    if (scene->publish == CELLAR_PUBLISH_WORD) /* which wants a window */
        actor->follows = actor->follows && options.device != CELLAR_DEVICE_PAGES;
    options.key = actor->follows ? &scene->f->key : NULL;
    assert_done(store_read(scene->f, &options, &actor->reader));
}

static void open_memory(struct actor *actor, uint32_t max_index)
{
    actor->memory.ids = calloc(max_index, sizeof *actor->memory.ids);
    assert_non_null(actor->memory.ids);
    actor->memory.known_next = cellar_start_index(BYTES_PER_CELL);
}

enum { ACTORS = 1 + FLUSHERS + OWNERS + BORROWERS };

static void play(struct scene *scene, struct actor actors[ACTORS], uint32_t max_index)
{
    for (int i = 0; i < ACTORS; i++) {
        void *(*role)(void *) = i == 0                   ? write_commits
                                : i <= FLUSHERS          ? flush_beside
                                : i <= FLUSHERS + OWNERS ? look_again_and_again
                                                         : read_what_others_hand_on;

        actors[i] = (struct actor){.scene = scene, .number = i - 1 - FLUSHERS};
        if (i > FLUSHERS && i <= FLUSHERS + OWNERS) {
            open_owner(scene, &actors[i]);
            open_memory(&actors[i], max_index);
        }
        assert_int_equal(pthread_create(&actors[i].thread, NULL, role, &actors[i]), 0);
    }
    for (int i = 0; i < ACTORS; i++)
        assert_int_equal(pthread_join(actors[i].thread, NULL), 0);
}

enum { MAX_INDEX = 40000 };

static struct cellar_writer *make_store(struct store_fixture *f, enum cellar_publish publish)
{
    struct cellar_config config = store_config(BYTES_PER_CELL, MAX_INDEX);
    struct cellar_writer_options options = store_options(f);
    struct cellar_writer *writer = NULL;

    options.publish = publish;
    assert_done(store_create(f, &config, &options, &writer));
    return writer;
}

/* A store from its making to its end. */
static void play_once(struct store_fixture *f, enum cellar_publish publish)
{
    struct scene scene = {.f = f, .publish = publish, .commits = store_takes_slice(f) ? SLICE_COMMITS : COMMITS};
    struct actor actors[ACTORS];
    struct cellar_snapshot snapshot;
    struct sealed_memory nothing = {.known_next = 0};

    assert_int_equal(pthread_mutex_init(&scene.box.lock, NULL), 0);
    scene.writer = make_store(f, publish);
    play(&scene, actors, MAX_INDEX);
    assert_int_equal(atomic_load(&scene.wrong), 0);
    for (int i = 0; i < ACTORS; i++) {
        cellar_reader_close(actors[i].reader);
        free(actors[i].memory.ids);
    }
    store_close(scene.writer);
    scene.writer = store_again(f);
    snapshot = cellar_writer_snapshot(scene.writer);
    assert_int_equal(snapshot.next_index, atomic_load(&scene.committed_next));
    assert_int_equal(sealed_check_all(&snapshot, &nothing), 0);
    store_close(scene.writer);
    store_remove(f);
    pthread_mutex_destroy(&scene.box.lock);
    all_snapshots += atomic_load(&scene.snapshots);
    all_flushes += atomic_load(&scene.flushes);
    all_rounds++;
}

static void test_store(void **state)
{
    time_t until = deadline();

    do
        play_once(*state, CELLAR_PUBLISH_SLOTS);
    while (time(NULL) < until);
}

static void test_store_by_word(void **state)
{
    time_t until = deadline();

    do
        play_once(*state, CELLAR_PUBLISH_WORD);
    while (time(NULL) < until);
}

/* ---- one pipeline ---- */

enum { PAGE = 512, PAGES = 16, VERSIONS = 400, PIPELINE_READERS = 8, WORDS = PAGE / 8 };

struct show {
    struct cellar_device *device;
    struct cellar_pipeline *pipeline;
    pthread_mutex_t lock;
    struct cellar_cache *handed_on; /* a handle that one made for whoever comes; NULL: none */
    atomic_bool over;
    atomic_int wrong;
    atomic_ullong snapshots;
};

/* Page p is written by each version that p + 1 divides, with the version in all of its words. */
static uint64_t word_of(uint64_t page, uint64_t version)
{
    return version - version % (page + 1);
}

static int check_snapshot(struct cellar_cache *snapshot, uint64_t *seed)
{
    uint64_t version = cellar_cache_version(snapshot), words[WORDS];

    for (int i = 0; i < PAGES; i++) {
        uint64_t page = support_random_below(seed, PAGES);

        SUPPORT_CHILD_NEEDS(cellar_cache_read(snapshot, page * PAGE, words, sizeof words) == 0);
        for (int k = 0; k < WORDS; k++)
            SUPPORT_CHILD_NEEDS(words[k] == word_of(page, version));
    }
    return 0;
}

/* Leaves a handle for another thread, and takes what another one has left. */
static struct cellar_cache *exchange(struct show *show, struct cellar_cache *handle)
{
    struct cellar_cache *other;

    pthread_mutex_lock(&show->lock);
    other = show->handed_on;
    show->handed_on = handle;
    pthread_mutex_unlock(&show->lock);
    return other;
}

static int read_snapshots(struct show *show, uint64_t *seed)
{
    struct cellar_cache *snapshot, *twin = NULL, *other;
    int line;

    SUPPORT_CHILD_NEEDS(cellar_pipeline_snapshot(show->pipeline, &snapshot) == 0);
    line = check_snapshot(snapshot, seed);
    if (line == 0 && cellar_cache_share(snapshot, &twin) != 0)
        line = __LINE__;
    if (twin != NULL) {
        other = exchange(show, twin);
        if (line == 0 && other != NULL)
            line = check_snapshot(other, seed);
        cellar_cache_close(other);
    }
    if (line == 0)
        line = check_snapshot(snapshot, seed);
    cellar_cache_close(snapshot);
    atomic_fetch_add(&show->snapshots, 1);
    return line;
}

static void *read_until_over(void *user)
{
    struct show *show = user;
    uint64_t seed = (uint64_t)(uintptr_t)&seed;

    while (!atomic_load(&show->over) && atomic_load(&show->wrong) == 0) {
        int line = read_snapshots(show, &seed), none = 0;

        if (line != 0)
            atomic_compare_exchange_strong(&show->wrong, &none, line);
    }
    return NULL;
}

/* Where snapshots keep as many old pages as there may be, the commit waits for readers. */
static int commit_version(struct show *show, uint64_t version)
{
    int error = 0;

    for (uint64_t page = 0; error == 0 && page < PAGES; page++) {
        uint64_t words[WORDS];

        for (int i = 0; i < WORDS; i++)
            words[i] = version;
        if (version % (page + 1) == 0)
            error = cellar_pipeline_write(show->pipeline, page * PAGE, words, sizeof words);
    }
    if (error != 0)
        return error;
    while ((error = cellar_pipeline_commit(show->pipeline)) == CELLAR_EOLDPAGES && atomic_load(&show->wrong) == 0) {
        cellar_cache_close(exchange(show, NULL)); /* an old one that nobody has come for */
        sched_yield();
    }
    return error;
}

static void show_once(const struct cellar_pipeline_options *options)
{
    struct show show = {.handed_on = NULL};
    pthread_t readers[PIPELINE_READERS];
    int error = 0;

    assert_int_equal(pthread_mutex_init(&show.lock, NULL), 0);
    assert_done(cellar_device_open_memory(NULL, PAGES * PAGE, PAGES * PAGE, &show.device));
    assert_done(cellar_pipeline_open_with(show.device, options, &show.pipeline));
    for (int i = 0; i < PIPELINE_READERS; i++)
        assert_int_equal(pthread_create(&readers[i], NULL, read_until_over, &show), 0);
    for (uint64_t version = 1; error == 0 && version <= VERSIONS && atomic_load(&show.wrong) == 0; version++)
        error = commit_version(&show, version);
    atomic_store(&show.over, true);
    for (int i = 0; i < PIPELINE_READERS; i++)
        assert_int_equal(pthread_join(readers[i], NULL), 0);
    assert_int_equal(error, 0);
    assert_int_equal(atomic_load(&show.wrong), 0);
    cellar_cache_close(show.handed_on);
    cellar_pipeline_close(show.pipeline);
    assert_done(cellar_device_close(show.device));
    pthread_mutex_destroy(&show.lock);
    all_snapshots += atomic_load(&show.snapshots);
    all_rounds++;
}

static void test_pipeline(void **state)
{
    struct cellar_pipeline_options options = {.cache = {.page_bytes = PAGE, .page_count = 8, .old_pages = 64}};
    time_t until = deadline();

    (void)state;
    do {
        for (unsigned depth = 0; depth <= 4; depth += 4) {
            options.cache.depth = depth;
            show_once(&options);
        }
    } while (time(NULL) < until);
}

/* ---- */

static int read_arguments(int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        char *end = NULL;

        if (strcmp(argv[i], "--minutes") == 0 && i + 1 < argc)
            minutes = strtod(argv[++i], &end);
        else if (strcmp(argv[i], "--seed") == 0 && i + 1 < argc)
            first_seed = strtoull(argv[++i], &end, 10);
        if (end == NULL || end == argv[i] || *end != '\0')
            return -EINVAL;
    }
    return minutes >= 0 ? 0 : -EINVAL;
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {STORE_ON_ALL(test_store), STORE_ON(test_store_by_word, STORE_MAPPED),
                                       STORE_ON(test_store_by_word, STORE_MEMORY_MAPPED),
                                       cmocka_unit_test(test_pipeline)};
    int result;

    if (read_arguments(argc, argv) != 0) {
        fprintf(stderr, "usage: %s [--minutes N] [--seed SEED]\n", argv[0]);
        return 2;
    }
    minutes /= (double)SUPPORT_COUNT(tests);
    result = cmocka_run_group_tests(tests, NULL, NULL);
    printf("rounds %llu, snapshots checked %llu, flushes %llu, failures %d\n", all_rounds, all_snapshots, all_flushes,
           result);
    return result;
}
