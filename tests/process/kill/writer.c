/* The process that is killed. What it reports it reports on the board: before a commit, and after it has returned. */
#include "kill.h"

#include "cell/header_store.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>

/* ---- death between two stores into a mapped header ---- */

static uint64_t death_seed;
static _Thread_local bool is_mortal; /* the thread that works */

void __real_cellar_header_store_window(unsigned char *window, uint64_t offset, const void *bytes, size_t length_bytes);
void __wrap_cellar_header_store_window(unsigned char *window, uint64_t offset, const void *bytes, size_t length_bytes);

/* Takes the place of the library's function (-Wl,--wrap): the same stores, and once in a while the end after one. */
void __wrap_cellar_header_store_window(unsigned char *window, uint64_t offset, const void *bytes, size_t length_bytes)
{
    const unsigned char *from = bytes;

    while (is_mortal && length_bytes > 0) {
        size_t step = offset % 8 == 0 && length_bytes >= 8 ? 8 : 4;

        if (support_random_below(&death_seed, 600) == 0)
            raise(SIGKILL);
        __real_cellar_header_store_window(window, offset, from, step);
        offset += step;
        from += step;
        length_bytes -= step;
    }
    if (length_bytes > 0)
        __real_cellar_header_store_window(window, offset, from, length_bytes);
}

/* ---- opening ---- */

struct cellar_key kill_key(uint64_t number)
{
    return store_key(1 + (unsigned)(number % KILL_KEYS));
}

struct cellar_writer_options kill_options(const struct kill_plan *plan, const struct cellar_key *key)
{
    struct cellar_writer_options options = store_options(plan->f);

    options.key = key;
    options.resize_step_bytes = plan->resize_step_bytes;
    options.compat = plan->compat;
    options.checksums = plan->sums;
    return options;
}

/* Whoever dies leaves checksums that the next writer goes on with. */
static int check_sums(const struct kill_plan *plan, const struct cellar_writer *writer)
{
    struct cellar_recovery recovery;

    cellar_writer_recovery(writer, &recovery);
    if (plan->sums && recovery.sums != CELLAR_SUMS_GOOD && recovery.sums != CELLAR_SUMS_BEHIND)
        fprintf(stderr, "found checksums in state %d\n", (int)recovery.sums);
    SUPPORT_CHILD_NEEDS(plan->sums ? recovery.sums == CELLAR_SUMS_GOOD || recovery.sums == CELLAR_SUMS_BEHIND
                                   : recovery.sums == CELLAR_SUMS_NONE);
    return 0;
}

/* A truncate that was killed has happened or not; what has begun is ended here. */
static void settle_generation(struct kill_board *board, uint64_t found, uint32_t start_index)
{
    unsigned generation = atomic_load(&board->generation);

    if (generation % 2 == 0)
        return;
    if (found == kill_pack(start_index, CELLAR_ROOT_NONE)) {
        board->known_next = start_index;
        atomic_store(&board->flushed_next, start_index);
        atomic_store(&board->done, found);
        atomic_store(&board->doing, found);
    }
    atomic_store(&board->generation, generation + 1);
}

int kill_check_found(const struct kill_plan *plan, struct cellar_writer *writer)
{
    struct kill_board *board = plan->board;
    struct cellar_snapshot snapshot = cellar_writer_snapshot(writer);
    struct sealed_memory memory = {.ids = board->ids, .known_next = board->known_next};
    uint64_t found = kill_pack(snapshot.next_index, snapshot.root_index), verified = 0;
    struct cellar_recovery recovery;
    int result;

    settle_generation(board, found, snapshot.start_index);
    memory.known_next = board->known_next;
    cellar_writer_recovery(writer, &recovery);
    if (recovery.found != CELLAR_FOUND_CLEAN && recovery.found != CELLAR_FOUND_COMMITTED)
        fprintf(stderr,
                "found %d: disk %u/%u process %u/%u adopted %u/%u repaired %x suspect %d; done %llx doing %llx\n",
                (int)recovery.found, recovery.disk_next_index, recovery.disk_root_index, recovery.process_next_index,
                recovery.process_root_index, recovery.next_index, recovery.root_index, recovery.repaired_slots,
                recovery.suspect, atomic_load(&board->done), atomic_load(&board->doing));
    SUPPORT_CHILD_NEEDS(recovery.found == CELLAR_FOUND_CLEAN || recovery.found == CELLAR_FOUND_COMMITTED);
    SUPPORT_CHILD_NEEDS(recovery.skipped_cells == 0 && !recovery.root_dropped);
    SUPPORT_CHILD_NEEDS(recovery.disk_next_index >= atomic_load(&board->flushed_next));
    SUPPORT_CHILD_NEEDS(found == atomic_load(&board->done) || found == atomic_load(&board->doing));
    SUPPORT_CHILD_NEEDS(snapshot.next_index >= memory.known_next);
    result = check_sums(plan, writer);
    if (result == 0)
        result = sealed_check(&snapshot, &memory, &verified);
    if (result != 0)
        return result;
    board->known_next = memory.known_next;
    atomic_fetch_add(&board->verified, verified);
    atomic_store(&board->done, found);
    atomic_store(&board->doing, found);
    atomic_fetch_add(&board->opens, 1);
    return 0;
}

/* ---- working ---- */

/* A second thread that flushes what is committed, beside the one that commits. */
struct flusher {
    struct cellar_writer *writer;
    struct kill_board *board;
    pthread_t thread;
    atomic_bool stop;
    bool runs;
};

static void raise_flushed(struct kill_board *board, uint32_t next_index)
{
    unsigned before = atomic_load(&board->flushed_next);

    while (before < next_index && !atomic_compare_exchange_weak(&board->flushed_next, &before, next_index))
        ;
}

static void *flush_again_and_again(void *user)
{
    struct flusher *flusher = user;

    while (!atomic_load(&flusher->stop)) {
        uint32_t next_index = (uint32_t)atomic_load(&flusher->board->done);

        if (cellar_writer_flush_committed(flusher->writer) != 0)
            return flusher;
        raise_flushed(flusher->board, next_index);
        sched_yield();
    }
    return NULL;
}

static int flusher_start(struct flusher *flusher)
{
    flusher->runs = pthread_create(&flusher->thread, NULL, flush_again_and_again, flusher) == 0;
    SUPPORT_CHILD_NEEDS(flusher->runs);
    return 0;
}

static int flusher_stop(struct flusher *flusher)
{
    void *failed = NULL;

    if (!flusher->runs)
        return 0;
    atomic_store(&flusher->stop, true);
    SUPPORT_CHILD_NEEDS(pthread_join(flusher->thread, &failed) == 0);
    flusher->runs = false;
    SUPPORT_CHILD_NEEDS(failed == NULL);
    return 0;
}

static bool publishes_by_word(const struct cellar_writer *writer)
{
    struct cellar_info info;

    cellar_writer_info(writer, &info);
    return info.publish == CELLAR_PUBLISH_WORD;
}

/* Commits, or flushes, what the writer stands at. */
static int publish(const struct kill_plan *plan, struct cellar_writer *writer, bool flushes)
{
    struct kill_board *board = plan->board;
    uint64_t state = kill_pack(cellar_writer_next(writer), cellar_writer_root(writer));
    int error;

    atomic_store(&board->doing, state);
    atomic_store(&board->step, flushes ? KILL_FLUSH : KILL_COMMIT);
    error = flushes ? cellar_writer_flush(writer) : cellar_writer_commit(writer);
    if (error != 0)
        return error;
    atomic_store(&board->done, state);
    if (flushes)
        raise_flushed(board, (uint32_t)state);
    atomic_store(&board->step, KILL_APPEND);
    atomic_fetch_add(&board->commits, 1);
    if (publishes_by_word(writer))
        atomic_fetch_add(&board->word_commits, 1);
    return 0;
}

static int truncate_store(const struct kill_plan *plan, struct cellar_writer *writer)
{
    struct kill_board *board = plan->board;
    uint32_t start_index = cellar_start_index(plan->config.bytes_per_cell);
    int error;

    atomic_store(&board->step, KILL_TRUNCATE);
    atomic_fetch_add(&board->generation, 1);
    error = cellar_writer_truncate(writer, start_index + 100);
    if (error != 0)
        return error;
    settle_generation(board, kill_pack(start_index, CELLAR_ROOT_NONE), start_index);
    atomic_store(&board->step, KILL_APPEND);
    return 0;
}

static int work(const struct kill_plan *plan, struct cellar_writer *writer, bool may_truncate, uint64_t *seed)
{
    uint64_t dice = support_random_below(seed, 1000);
    int error = 0;

    for (unsigned i = 0; error == 0 && i <= dice % 8 / 7; i++) /* now and then two at a time */
        error = sealed_append(writer, 1 + atomic_fetch_add(&plan->board->last_id, 1), seed);
    if (error == CELLAR_EINDEXFULL || (error == 0 && dice >= 988 && may_truncate)) {
        if (!may_truncate)
            return CELLAR_EINDEXFULL;
        return truncate_store(plan, writer);
    }
    if (error == 0 && dice < 20) { /* drops it */
        atomic_store(&plan->board->doing, atomic_load(&plan->board->done));
        return cellar_writer_rollback(writer);
    }
    if (error == 0)
        error = publish(plan, writer, dice < 80);
    if (error == 0 && dice >= 80 && dice < 180) {
        error = sealed_move_root(writer);
        if (error == 0)
            error = publish(plan, writer, dice < 90);
    }
    return error;
}

/* Ends the writer, with something to commit or not. */
static int end(const struct kill_plan *plan, struct cellar_writer *writer, uint64_t *seed)
{
    struct kill_board *board = plan->board;
    uint64_t dice = support_random_below(seed, 4), state;
    int error = 0;

    if (dice == 0) {
        error = sealed_append(writer, 1 + atomic_fetch_add(&board->last_id, 1), seed);
        if (error == CELLAR_EINDEXFULL)
            error = 0;
    }
    state = kill_pack(cellar_writer_next(writer), cellar_writer_root(writer));
    atomic_store(&board->step, KILL_CLOSE);
    if (dice == 1) {
        cellar_writer_abandon(writer);
        return error;
    }
    if (error != 0)
        return error;
    atomic_store(&board->doing, state);
    error = cellar_writer_close(writer);
    if (error == 0) {
        atomic_store(&board->done, state);
        raise_flushed(board, (uint32_t)state);
    }
    return error;
}

/* With any key; but who publishes by the word is refused with that of the last writer, and takes the next one. */
static int open_writer(const struct kill_plan *plan, uint64_t *seed, struct cellar_writer **ret_writer)
{
    uint64_t number = support_random(seed) % KILL_KEYS;
    bool words = !plan->compat && support_random_below(seed, 3) == 0;
    int result = -EINVAL;

    for (int i = 0; result == -EINVAL && i < KILL_KEYS; i++) {
        struct cellar_key key = kill_key(number + (uint64_t)i);
        struct cellar_writer_options options = kill_options(plan, &key);

        options.publish = words ? CELLAR_PUBLISH_WORD : CELLAR_PUBLISH_SLOTS;
        result = cellar_writer_open(plan->f->path, &options, ret_writer);
    }
    return result;
}

/* From open to close. */
static int write_once(const struct kill_plan *plan, uint64_t *seed)
{
    struct cellar_writer *writer = NULL;
    struct flusher flusher = {.board = plan->board};
    uint64_t works = 1 + support_random_below(seed, support_random_below(seed, 2) == 0 ? 20 : 400);
    bool with_flusher = support_random_below(seed, 4) == 0;
    int result, stopped;

    atomic_store(&plan->board->step, KILL_OPEN);
    result = open_writer(plan, seed, &writer);
    if (result != 0)
        return result;
    result = kill_check_found(plan, writer);
    atomic_store(&plan->board->step, KILL_APPEND);
    flusher.writer = writer;
    if (result == 0 && with_flusher)
        result = flusher_start(&flusher);
    for (uint64_t i = 0; result == 0 && i < works; i++)
        result = work(plan, writer, !plan->compat && !with_flusher, seed);
    stopped = flusher_stop(&flusher);
    if (result == CELLAR_EINDEXFULL && !plan->compat)
        result = 0; /* the next one, without a flusher, truncates */
    if (result == 0)
        result = stopped;
    return result == 0 ? end(plan, writer, seed) : result;
}

int kill_write(const struct kill_plan *plan, uint64_t seed)
{
    int result = 0;

    death_seed = ~seed;
    is_mortal = true;
    while (result == 0)
        result = write_once(plan, &seed);
    return result;
}
