/*
 * One thread publishes, others look: every state found was published, whole, with all its cells before it, and none is
 * older than one found before. Bounded by the number of publications; right on any schedule. For TSan, too.
 */
#include "support.h"

#include "cell/header.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

enum { PUBLICATIONS = 20000, READERS = 3, FIRST = 64, CELLS_AT = 256, KEY_SPAN = 500 };

struct board {
    struct cellar_device *device;
    unsigned char *bytes;
    struct cellar_header header;
    struct cellar_key keys[2]; /* they take turns, every KEY_SPAN publications */
};

struct reader {
    struct board *board;
    const struct cellar_key *key; /* NULL, or the board's first */
    int failed_line;              /* 0: all was well */
    uint32_t states_seen;
};

/* What is published with a next index: nothing of it can be guessed from the number before. */
static uint32_t root_for(uint32_t next)
{
    uint64_t seed = next;

    return (uint32_t)support_random(&seed);
}

static uint64_t cell_for(uint32_t index)
{
    uint64_t seed = ~(uint64_t)index;

    return support_random(&seed);
}

static const struct cellar_key *key_for(const struct board *board, uint32_t next)
{
    return &board->keys[(next - FIRST) / KEY_SPAN % 2];
}

/* Stores the cell before the last one by plain stores, then publishes it. */
static int publish(struct board *board, uint32_t next)
{
    struct cellar_state state = {.next_index = next, .root_index = root_for(next)};
    uint64_t cell = cell_for(next - 1);

    memcpy(board->bytes + CELLS_AT + 8 * (uint64_t)(next - 1 - FIRST), &cell, sizeof cell);
    return cellar_header_publish(&board->header, &state, key_for(board, next));
}

#define NEEDS(condition)                                                                                               \
    do {                                                                                                               \
        if (!(condition)) {                                                                                            \
            reader->failed_line = __LINE__;                                                                            \
            return NULL;                                                                                               \
        }                                                                                                              \
    } while (0)

/* Looks until the last publication has been seen. */
static void *look_until_the_end(void *user)
{
    struct reader *reader = user;
    struct board *board = reader->board;
    struct cellar_seen seen = {.any = false};
    enum cellar_key_verdict verdict = CELLAR_KEY_UNKNOWN;
    struct cellar_state state = {.next_index = FIRST};

    while (state.next_index < FIRST + PUBLICATIONS) {
        uint32_t before = state.next_index;
        int result = cellar_header_look(&board->header, CELLAR_PAIR_PROCESS, reader->key, &seen, &state, &verdict);

        NEEDS(result == 0 || result == CELLAR_NONE);
        if (result != 0)
            continue;
        NEEDS(state.next_index >= before && state.next_index <= FIRST + PUBLICATIONS);
        NEEDS(state.root_index == root_for(state.next_index));
        if (reader->key == NULL)
            NEEDS(verdict == CELLAR_KEY_UNKNOWN);
        else if (verdict == CELLAR_KEY_GOOD)
            NEEDS(key_for(board, state.next_index) == reader->key);
        reader->states_seen++;
        for (uint32_t index = before; index < state.next_index; index++) {
            uint64_t cell;

            memcpy(&cell, board->bytes + CELLS_AT + 8 * (uint64_t)(index - FIRST), sizeof cell);
            NEEDS(cell == cell_for(index));
        }
    }
    if (reader->key != NULL)
        NEEDS((verdict == CELLAR_KEY_GOOD) == (key_for(board, state.next_index) == reader->key));
    return NULL;
}

static void open_board(struct board *board)
{
    struct cellar_state empty = {.next_index = FIRST, .root_index = root_for(FIRST)};
    uint64_t size_bytes = CELLS_AT + 8 * (uint64_t)PUBLICATIONS, capacity_bytes;
    void *base;

    assert_done(cellar_device_open_memory(NULL, size_bytes, size_bytes, &board->device));
    assert_done(cellar_device_window(board->device, size_bytes, true, &base, &capacity_bytes));
    board->bytes = base;
    assert_done(cellar_header_open(&board->header, board->device, base, false));
    support_bytes(1, board->keys[0].bytes, CELLAR_KEY_BYTES);
    support_bytes(2, board->keys[1].bytes, CELLAR_KEY_BYTES);
    assert_done(cellar_header_publish(&board->header, &empty, &board->keys[0]));
}

/* with_key: one reader in three has the key that the writer uses half of the time. */
static void run_readers(bool with_key)
{
    struct board board;
    struct reader readers[READERS];
    pthread_t threads[READERS];

    open_board(&board);
    for (int i = 0; i < READERS; i++) {
        readers[i] = (struct reader){.board = &board, .key = with_key && i == 0 ? &board.keys[0] : NULL};
        assert_int_equal(pthread_create(&threads[i], NULL, look_until_the_end, &readers[i]), 0);
    }
    for (uint32_t i = 1; i <= PUBLICATIONS; i++)
        assert_done(publish(&board, FIRST + i));
    for (int i = 0; i < READERS; i++)
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    for (int i = 0; i < READERS; i++) {
        assert_int_equal(readers[i].failed_line, 0);
        assert_true(readers[i].states_seen > 0);
    }
    cellar_header_close(&board.header);
    assert_done(cellar_device_close(board.device));
}

static void test_readers_without_key(void **state)
{
    (void)state;
    run_readers(false);
}

static void test_reader_with_a_key_that_comes_and_goes(void **state)
{
    (void)state;
    run_readers(true);
}

/* ---- the pair for durable states beside the other, published by another thread ---- */

static void *publish_durable(void *user)
{
    struct board *board = user;

    for (uint32_t i = 1; i <= PUBLICATIONS; i++) {
        struct cellar_state state = {.next_index = FIRST + i, .root_index = i};

        if (cellar_header_persist(&board->header, &state) != 0)
            return board;
    }
    return NULL;
}

/* Each pair has one publisher at a time; the two pairs do not touch each other. */
static void test_two_pairs_two_threads(void **state)
{
    struct board board;
    struct cellar_seen seen = {.any = false};
    struct cellar_state got;
    enum cellar_key_verdict verdict;
    pthread_t thread;
    void *failed;

    (void)state;
    open_board(&board);
    assert_int_equal(pthread_create(&thread, NULL, publish_durable, &board), 0);
    for (uint32_t i = 1; i <= PUBLICATIONS; i++)
        assert_done(publish(&board, FIRST + i));
    assert_int_equal(pthread_join(thread, &failed), 0);
    assert_null(failed);
    assert_done(cellar_header_look(&board.header, CELLAR_PAIR_DISK, NULL, &seen, &got, &verdict));
    assert_int_equal(got.next_index, FIRST + PUBLICATIONS);
    assert_int_equal(got.root_index, PUBLICATIONS);
    seen.any = false;
    assert_done(cellar_header_look(&board.header, CELLAR_PAIR_PROCESS, NULL, &seen, &got, &verdict));
    assert_int_equal(got.next_index, FIRST + PUBLICATIONS);
    assert_int_equal(got.root_index, root_for(FIRST + PUBLICATIONS));
    cellar_header_close(&board.header);
    assert_done(cellar_device_close(board.device));
}

/* ---- single words ---- */

enum { WORD_STORES = 1000000 };

struct words {
    struct board board;
    unsigned char values[2][8];
    atomic_bool over;
    int failed_line;
};

static void *read_words(void *user)
{
    struct words *words = user;
    uint32_t got;

    while (!atomic_load(&words->over)) {
        if (cellar_header_flags(&words->board.header, &got) != 0 || (got != 0x01010101 && got != 0x02020202)) {
            words->failed_line = __LINE__;
            return NULL;
        }
    }
    return NULL;
}

/* An aligned word is stored, and read, in one piece: half of one value and half of another is never seen. */
static void test_words_do_not_tear(void **state)
{
    struct words words = {.values = {{1, 1, 1, 1, 1, 1, 1, 1}, {2, 2, 2, 2, 2, 2, 2, 2}}};
    pthread_t thread;

    (void)state;
    open_board(&words.board);
    assert_done(cellar_header_store(&words.board.header, CELLAR_AT_FLAGS, words.values[0], 8));
    assert_int_equal(pthread_create(&thread, NULL, read_words, &words), 0);
    for (int i = 0; i < WORD_STORES; i++)
        assert_done(cellar_header_store(&words.board.header, CELLAR_AT_FLAGS, words.values[i % 2], 8));
    atomic_store(&words.over, true);
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_int_equal(words.failed_line, 0);
    cellar_header_close(&words.board.header);
    assert_done(cellar_device_close(words.board.device));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_readers_without_key),
        cmocka_unit_test(test_reader_with_a_key_that_comes_and_goes),
        cmocka_unit_test(test_two_pairs_two_threads),
        cmocka_unit_test(test_words_do_not_tear),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
