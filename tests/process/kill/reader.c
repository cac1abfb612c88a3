/* The processes that read while writers die. */
#include "kill.h"

#include <errno.h>
#include <sched.h>
#include <stdlib.h>
#include <time.h>

enum { LOOKS_PER_HANDLE = 3000, OPEN_ATTEMPTS_MAX = 100000 };

/* One reader handle, and what it has seen. */
struct looking {
    const struct kill_plan *plan;
    enum kill_reader kind;
    struct cellar_reader *reader;
    struct sealed_memory memory;
    struct cellar_snapshot old; /* of this handle, from some time ago */
    unsigned generation;        /* the board's, of the file that is open; odd: not known */
    bool follows;               /* this handle has a key */
    uint64_t seed, snapshots, word_snapshots;
};

static void nap(long microseconds)
{
    struct timespec time = {.tv_nsec = microseconds * 1000};

    nanosleep(&time, NULL);
}

static struct cellar_reader_options options_of(const struct looking *looking)
{
    struct cellar_reader_options options = store_reader_options(looking->plan->f);

    if (looking->kind != KILL_FOLLOWER_OTHER_WAY)
        return options;
    if (options.device == CELLAR_DEVICE_MAPPED) {
        options.device = CELLAR_DEVICE_PAGES;
        options.cache_bytes = 1;
    } else if (options.device == CELLAR_DEVICE_PAGES) {
        options.device = CELLAR_DEVICE_MAPPED;
    }
    return options;
}

/* Opens with the key that the writer has just now: the other ones are refused. Without one where the writer publishes
 * by the word, and this reader has no window. */
static int open_with_some_key(struct looking *looking)
{
    struct cellar_reader_options options = options_of(looking);
    int error = CELLAR_EBADKEY;

    looking->follows = looking->kind != KILL_DURABLE;

    for (uint64_t attempt = 0; error == CELLAR_EBADKEY && attempt < OPEN_ATTEMPTS_MAX; attempt++) {
        struct cellar_key key = kill_key(attempt);

        options.key = looking->follows ? &key : NULL;
        error = cellar_reader_open(looking->plan->f->path, &options, &looking->reader);
        if (error == -ENOTSUP && looking->follows && options.device != CELLAR_DEVICE_MAPPED) {
            looking->follows = false;
            error = CELLAR_EBADKEY;
        }
    }
    return error;
}

static int open_handle(struct looking *looking)
{
    struct kill_board *board = looking->plan->board;
    unsigned before = atomic_load(&board->generation);
    int result = open_with_some_key(looking);

    if (result != 0)
        return result;
    looking->generation = atomic_load(&board->generation) == before ? before : 1;
    looking->memory.known_next = cellar_start_index(looking->plan->config.bytes_per_cell);
    looking->old = cellar_reader_snapshot(looking->reader);
    SUPPORT_CHILD_NEEDS(looking->old.next_index >= looking->memory.known_next);
    looking->snapshots++;
    return sealed_check(&looking->old, &looking->memory, NULL);
}

static void close_handle(struct looking *looking)
{
    cellar_reader_close(looking->reader);
    looking->reader = NULL;
}

/* Both are what they were, cell by cell: the newest snapshot of this handle, and one from before. */
static int check_again(struct looking *looking)
{
    struct cellar_snapshot now = cellar_reader_snapshot(looking->reader);
    int result = sealed_check_all(&now, &looking->memory);

    if (result == 0)
        result = sealed_check_all(&looking->old, &looking->memory);
    looking->old = now;
    looking->snapshots += 2;
    return result;
}

/* What had returned before the look must be seen, where the store is the same one before and after it. */
static int refresh(struct looking *looking, int *ret_result)
{
    struct kill_board *board = looking->plan->board;
    unsigned generation = atomic_load(&board->generation);
    uint32_t least =
        looking->follows ? (uint32_t)atomic_load(&board->done) : (uint32_t)atomic_load(&board->flushed_next);
    int result = cellar_reader_refresh(looking->reader);

    *ret_result = result;
    if (result != 0 && result != CELLAR_NONE)
        return 0;
    if (generation == looking->generation && generation % 2 == 0 && generation == atomic_load(&board->generation))
        SUPPORT_CHILD_NEEDS(cellar_reader_snapshot(looking->reader).next_index >= least);
    return 0;
}

static int look(struct looking *looking)
{
    uint32_t before = cellar_reader_snapshot(looking->reader).next_index;
    struct cellar_snapshot snapshot;
    int result, line = refresh(looking, &result);

    if (line != 0)
        return line;
    if (result == CELLAR_ERETIRED) {
        line = check_again(looking); /* stays true */
        close_handle(looking);
        return line == 0 ? open_handle(looking) : line;
    }
    if (result == -ENOTSUP && looking->follows && options_of(looking).device != CELLAR_DEVICE_MAPPED)
        return 0; /* a writer by the word: it stays where it is */
    if (result < 0)
        return result;
    snapshot = cellar_reader_snapshot(looking->reader);
    SUPPORT_CHILD_NEEDS(snapshot.next_index >= before);
    if (result == 0) {
        struct cellar_info info;

        cellar_reader_info(looking->reader, &info);
        looking->snapshots++;
        looking->word_snapshots += info.publish == CELLAR_PUBLISH_WORD;
        line = sealed_check(&snapshot, &looking->memory, NULL);
    }
    return line;
}

/* A handle's life: many looks, some of them at everything. */
static int read_on(struct looking *looking)
{
    int line = open_handle(looking);

    for (unsigned i = 0; line == 0 && i < LOOKS_PER_HANDLE && !atomic_load(&looking->plan->board->stop); i++) {
        line = look(looking);
        if (line == 0 && support_random_below(&looking->seed, 600) == 0)
            line = check_again(looking);
        if (looking->kind == KILL_FOLLOWER)
            sched_yield();
        else
            nap((long)support_random_below(&looking->seed, 1500));
    }
    if (line == 0)
        line = check_again(looking);
    close_handle(looking);
    return line;
}

int kill_read(const struct kill_plan *plan, enum kill_reader kind, uint64_t seed)
{
    struct looking looking = {.plan = plan, .kind = kind, .seed = seed};
    int line = 0;

    looking.memory.ids = calloc(KILL_MAX_INDEX, sizeof *looking.memory.ids);
    if (looking.memory.ids == NULL)
        return -ENOMEM;
    while (line == 0 && !atomic_load(&plan->board->stop))
        line = read_on(&looking);
    atomic_fetch_add(&plan->board->snapshots, looking.snapshots);
    atomic_fetch_add(&plan->board->word_snapshots, looking.word_snapshots);
    free(looking.memory.ids);
    return line;
}
