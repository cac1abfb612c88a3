/*
 * litmus [PUBLICATIONS] [--minutes N] [--seed SEED] - one thread publishes states in the lock-free header of a window,
 * with delays between the words of a slot; others look as fast as they can. Every cell is a function of its index and
 * the round, every root one of two that its next index has. Asserted: every state that is seen was published, its cells
 * are there, its next index never goes back; what the writer says that it has published is seen by the next look; a
 * reader with the writer's key is not told of another writer. The last line says how many looks there were and how many
 * torn slots they met: a run without any shows nothing.
 *
 * Half of the readers are bound to a processor each, as the writer is in every other round. Cells are read by plain
 * loads, so that ThreadSanitizer can say whether they race with the writer.
 */
#include "support.h"

#include "cell/header.h"
#include "cell/header_store.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum {
    READERS = 5,
    FIRST = 64,
    CELLS_AT = 256,
    ROUND_PUBLICATIONS = 6000,
    PUBLICATIONS_DEFAULT = 12000,
    SAME_LOOKS_MAX = 500
};

struct board {
    struct cellar_device *device;
    unsigned char *bytes;
    struct cellar_header header;
    struct cellar_key key;
    uint64_t round;
    uint32_t publications;      /* of this round: the last next index is FIRST + so many */
    atomic_uint published_next; /* of the last publication that has returned */
};

struct reader {
    struct board *board;
    pthread_t thread;
    int number;
    int failed_line; /* 0: all was well */
    unsigned long long looks, states, torn;
};

/* Every round's, summed up. */
static unsigned long long all_publications, all_looks, all_states, all_torn, failures;

/* ---- delays between two stores ---- */

static _Thread_local uint64_t delay_seed; /* 0: this thread does not wait */
static _Thread_local unsigned long long torn_seen;

static void delay(void)
{
    uint64_t dice = support_random_below(&delay_seed, 4000);
    volatile uint64_t turns = dice < 1000 ? support_random_below(&delay_seed, 300) : 0;

    while (turns > 0)
        turns--;
    if (dice == 3999) {
        struct timespec time = {.tv_nsec = 1000};

        nanosleep(&time, NULL);
    } else if (dice >= 3990) {
        sched_yield();
    }
}

void __real_cellar_header_store_window(unsigned char *window, uint64_t offset, const void *bytes, size_t length_bytes);
void __wrap_cellar_header_store_window(unsigned char *window, uint64_t offset, const void *bytes, size_t length_bytes);
struct cellar_slot __real_cellar_slot_decode(const void *bytes);
struct cellar_slot __wrap_cellar_slot_decode(const void *bytes);

/* These take the place of the library's functions (-Wl,--wrap): the first one waits between words, the second one
 * counts the slots that a look has found torn. */
void __wrap_cellar_header_store_window(unsigned char *window, uint64_t offset, const void *bytes, size_t length_bytes)
{
    const unsigned char *from = bytes;

    for (size_t at = 0; at < length_bytes; at += 8) {
        __real_cellar_header_store_window(window, offset + at, from + at, length_bytes - at < 8 ? 4 : 8);
        if (delay_seed != 0)
            delay();
    }
}

struct cellar_slot __wrap_cellar_slot_decode(const void *bytes)
{
    struct cellar_slot slot = __real_cellar_slot_decode(bytes);

    torn_seen += !slot.valid;
    return slot;
}

/* ---- what is published ---- */

static uint32_t root_for(const struct board *board, uint32_t next, uint32_t which)
{
    uint64_t seed = board->round << 34 | (uint64_t)next << 1 | which;

    return (uint32_t)support_random(&seed);
}

static uint64_t cell_for(const struct board *board, uint32_t index)
{
    uint64_t seed = ~(board->round << 32 | index);

    return support_random(&seed);
}

/* Cells by plain stores, then the state; now and then the other root of the same next index after it. */
static int publish(struct board *board, uint32_t next)
{
    uint64_t cell = cell_for(board, next - 1);
    int error = 0;

    memcpy(board->bytes + CELLS_AT + 8 * (uint64_t)(next - 1 - FIRST), &cell, sizeof cell);
    for (uint32_t which = 0; error == 0 && which <= (next % 5 == 0); which++) {
        struct cellar_state state = {.next_index = next, .root_index = root_for(board, next, which)};

        error = cellar_header_publish(&board->header, &state, &board->key);
        if (error == 0 && next % 3 == 0)
            error = cellar_header_persist(&board->header, &state);
    }
    atomic_store_explicit(&board->published_next, next, memory_order_release);
    return error;
}

/* ---- looking ---- */

/* Even numbers stay on one processor. */
static void bind_to(int number)
{
    long count = sysconf(_SC_NPROCESSORS_ONLN);
    cpu_set_t set;

    CPU_ZERO(&set);
    CPU_SET((size_t)(number % (count > 0 ? (int)count : 1)), &set);
    if (number % 2 == 0)
        (void)pthread_setaffinity_np(pthread_self(), sizeof set, &set); /* a hint: where it fails it stays unbound */
}

static int check_cells(const struct board *board, uint32_t from, uint32_t to)
{
    for (uint32_t index = from; index < to; index++) {
        uint64_t cell;

        memcpy(&cell, board->bytes + CELLS_AT + 8 * (uint64_t)(index - FIRST), sizeof cell);
        SUPPORT_CHILD_NEEDS(cell == cell_for(board, index));
    }
    return 0;
}

/* Reader 0 has the key; the last one follows the disk-sync pair. Until the last publication is seen. */
static int look_until_the_end(struct reader *reader)
{
    const struct board *board = reader->board;
    enum cellar_pair pair = reader->number == READERS - 1 ? CELLAR_PAIR_DISK : CELLAR_PAIR_PROCESS;
    const struct cellar_key *key = reader->number == 0 ? &board->key : NULL;
    uint32_t end = FIRST + board->publications;
    enum cellar_key_verdict verdict = CELLAR_KEY_GOOD;
    struct cellar_state state = {.next_index = FIRST};
    struct cellar_seen seen = {.any = false};
    unsigned same = 0;

    while (state.next_index < (pair == CELLAR_PAIR_DISK ? end - end % 3 : end)) {
        uint32_t before = state.next_index;
        uint32_t published = atomic_load_explicit(&board->published_next, memory_order_acquire);
        int line, result = cellar_header_look(&board->header, pair, key, &seen, &state, &verdict);

        reader->looks++;
        SUPPORT_CHILD_NEEDS(result == 0 || result == CELLAR_NONE);
        SUPPORT_CHILD_NEEDS(state.next_index >= before && state.next_index <= end);
        SUPPORT_CHILD_NEEDS(pair == CELLAR_PAIR_DISK || state.next_index >= published);
        SUPPORT_CHILD_NEEDS(key == NULL || verdict == CELLAR_KEY_GOOD);
        same = result == CELLAR_NONE ? same + 1 : 0;
        if (same % SAME_LOOKS_MAX == SAME_LOOKS_MAX - 1)
            sched_yield(); /* where there are more readers than processors the writer comes to its turn */
        if (result != 0)
            continue;
        reader->states++;
        SUPPORT_CHILD_NEEDS(state.root_index == root_for(board, state.next_index, 0) ||
                            state.root_index == root_for(board, state.next_index, 1));
        line = check_cells(board, before, state.next_index);
        if (line != 0)
            return line;
    }
    return 0;
}

static void *read_in_thread(void *user)
{
    struct reader *reader = user;

    bind_to(reader->number);
    torn_seen = 0;
    reader->failed_line = look_until_the_end(reader);
    reader->torn = torn_seen;
    return NULL;
}

/* ---- rounds ---- */

static void open_board(struct board *board)
{
    struct cellar_state empty = {.next_index = FIRST};
    uint64_t size_bytes = CELLS_AT + 8 * (uint64_t)board->publications, capacity_bytes;
    void *base;

    assert_done(cellar_device_open_memory(NULL, size_bytes, size_bytes, &board->device));
    assert_done(cellar_device_window(board->device, size_bytes, true, &base, &capacity_bytes));
    board->bytes = base;
    assert_done(cellar_header_open(&board->header, board->device, base, false));
    cellar_header_start_marks(&board->header, 1, 0); /* the binding is stored between the slots */
    support_bytes(board->round, board->key.bytes, CELLAR_KEY_BYTES);
    atomic_init(&board->published_next, FIRST);
    empty.root_index = root_for(board, FIRST, 0);
    assert_done(cellar_header_publish(&board->header, &empty, &board->key));
    assert_done(cellar_header_persist(&board->header, &empty));
}

static void *write_in_thread(void *user)
{
    struct board *board = user;

    bind_to((int)(board->round % 2) + READERS + 1);
    delay_seed = board->round + 1;
    for (uint32_t i = 1; i <= board->publications; i++) {
        if (publish(board, FIRST + i) != 0)
            return board;
    }
    return NULL;
}

static void run_round(uint64_t round, uint32_t publications)
{
    struct board board = {.round = round, .publications = publications};
    struct reader readers[READERS];
    pthread_t writer;
    void *failed;

    open_board(&board);
    for (int i = 0; i < READERS; i++) {
        readers[i] = (struct reader){.board = &board, .number = i};
        assert_int_equal(pthread_create(&readers[i].thread, NULL, read_in_thread, &readers[i]), 0);
    }
    assert_int_equal(pthread_create(&writer, NULL, write_in_thread, &board), 0);
    assert_int_equal(pthread_join(writer, &failed), 0);
    failures += failed != NULL;
    for (int i = 0; i < READERS; i++) {
        assert_int_equal(pthread_join(readers[i].thread, NULL), 0);
        if (readers[i].failed_line != 0) {
            print_message("round %llu, reader %d: line %d\n", (unsigned long long)round, i, readers[i].failed_line);
            failures++;
        }
        all_looks += readers[i].looks;
        all_states += readers[i].states;
        all_torn += readers[i].torn;
    }
    all_publications += publications;
    cellar_header_close(&board.header);
    assert_done(cellar_device_close(board.device));
}

static uint64_t publications_wanted = PUBLICATIONS_DEFAULT;
static double minutes;
static uint64_t first_seed = 1;

static void test_litmus(void **state)
{
    time_t until = time(NULL) + (time_t)(minutes * 60);
    uint64_t round = first_seed;

    (void)state;
    for (; minutes > 0 ? time(NULL) < until : all_publications < publications_wanted; round++) {
        uint64_t left = publications_wanted - all_publications;

        run_round(round, minutes > 0 || left > ROUND_PUBLICATIONS ? ROUND_PUBLICATIONS : (uint32_t)left);
        assert_int_equal(failures, 0);
    }
}

static int read_arguments(int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        char *end = NULL;

        if (strcmp(argv[i], "--minutes") == 0 && i + 1 < argc)
            minutes = strtod(argv[++i], &end);
        else if (strcmp(argv[i], "--seed") == 0 && i + 1 < argc)
            first_seed = strtoull(argv[++i], &end, 10);
        else
            publications_wanted = strtoull(argv[i], &end, 10);
        if (end == argv[i] || *end != '\0')
            return -EINVAL;
    }
    return publications_wanted > 0 && minutes >= 0 ? 0 : -EINVAL;
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_litmus)};
    int result;

    if (read_arguments(argc, argv) != 0) {
        fprintf(stderr, "usage: %s [PUBLICATIONS] [--minutes N] [--seed SEED]\n", argv[0]);
        return 2;
    }
    result = cmocka_run_group_tests(tests, NULL, NULL);
    printf("publications %llu, looks %llu, states seen %llu, torn slots met %llu, failures %llu\n", all_publications,
           all_looks, all_states, all_torn, failures);
    return result;
}
