/*
 * Writers that die one after the other: the first one after any store of its life, the next ones after any store of
 * their opening, each with another key or the same. Whoever opens at last finds the last commit that had returned, or
 * the one that was being made, as the first death left it: no number of deaths in a row loses it.
 */
#include "support.h"
#include "trace.h"

#include <string.h>

enum { DEATHS_MAX = 3, WORDS = 100 };

struct row {
    struct cellar_state done, doing;  /* when the first one died */
    const unsigned char *key_numbers; /* from WORDS on: that writer publishes by the word */
    unsigned long long openings;
};

static bool same(const struct cellar_state *a, const struct cellar_state *b)
{
    return a->next_index == b->next_index && a->root_index == b->root_index;
}

static struct cellar_key key_of(unsigned char number)
{
    struct cellar_key key = {{number}};

    return key;
}

/* What the opening found is the state that was there, or is as good; nothing is left out. */
static void assert_found(struct row *row, const struct trace_disk *disk, bool strict)
{
    struct cellar_recovery recovery;
    struct cellar_state found;

    trace_recovery(disk, &recovery);
    found = (struct cellar_state){.next_index = recovery.next_index, .root_index = recovery.root_index};
    assert_true(recovery.found == CELLAR_FOUND_COMMITTED || recovery.found == CELLAR_FOUND_CLEAN);
    assert_int_equal(recovery.skipped_cells, 0);
    assert_true(same(&found, &row->done) || same(&found, &row->doing));
    if (strict) { /* somebody may have seen it: it is not taken back */
        row->done = found;
        row->doing = found;
    }
    row->openings++;
}

/* Opens the store as it is left with a key, and lets that die after each of its stores in turn. */
static void die_opening(struct row row, const struct trace_disk *left, int depth, unsigned long long *openings)
{
    const char *opening = row.key_numbers[depth] >= WORDS ? "w" : "";
    struct cellar_key key = key_of(row.key_numbers[depth]);
    struct trace_disk *disk = trace_copy(left);
    int store_count;

    trace_write(disk, &key, opening);
    assert_found(&row, disk, true);
    store_count = trace_of(disk)->store_count;
    trace_close(disk);
    ++*openings;
    for (int cut = 0; depth < DEATHS_MAX && cut <= store_count; cut++) {
        disk = trace_copy(left);
        trace_write(disk, &key, opening);
        trace_cut(disk, cut);
        die_opening(row, disk, depth + 1, openings);
        trace_close(disk);
    }
}

/* What had been published by so many stores. */
static void note_published(struct row *row, const struct trace *trace)
{
    int last = trace->state_count[1] - 1;

    row->doing = trace->states[1][last].state;
    while (trace->states[1][last].end >= trace->store_count)
        last--;
    row->done = trace->states[1][last].state;
}

static void die_on(bool window, const char *before, const char *script, const unsigned char key_numbers[DEATHS_MAX + 2])
{
    struct cellar_key keys[2] = {key_of(key_numbers[0]), key_of(key_numbers[1])};
    struct row row = {.key_numbers = key_numbers + 1};
    struct trace_disk *store = trace_open(window), *disk;
    unsigned long long openings = 0;
    int store_count;

    trace_write(store, &keys[0], before);
    disk = trace_copy(store);
    trace_write(disk, &keys[1], script);
    store_count = trace_of(disk)->store_count;
    trace_close(disk);
    for (int cut = 0; cut <= store_count; cut++) {
        disk = trace_copy(store);
        trace_write(disk, &keys[1], script);
        trace_cut(disk, cut);
        note_published(&row, trace_of(disk));
        die_opening(row, disk, 1, &openings);
        trace_close(disk);
    }
    trace_close(store);
    print_message("%d stores, %llu openings\n", store_count, openings);
}

/* Into a window word by word, elsewhere by writes, which are cut at words, too. */
static void die_in_a_row(const char *before, const char *script, const unsigned char key_numbers[DEATHS_MAX + 2])
{
    die_on(true, before, script, key_numbers);
    die_on(false, before, script, key_numbers);
}

/* The last letter of a script is cut off at every store, and so are the openings after it. */
static void test_each_with_its_own_key(void **state)
{
    (void)state;
    die_in_a_row("acac", "ac", (const unsigned char[]){1, 2, 3, 4, 5});
    die_in_a_row("acfac", "acnc", (const unsigned char[]){1, 2, 3, 4, 5});
}

static void test_keys_that_come_again(void **state)
{
    (void)state;
    die_in_a_row("acac", "bc", (const unsigned char[]){1, 2, 1, 2, 1});
    die_in_a_row("afac", "ac", (const unsigned char[]){1, 2, 2, 1, 3});
    die_in_a_row("acac", "nc", (const unsigned char[]){1, 1, 1, 1, 1});
}

static void test_flushes(void **state)
{
    (void)state;
    die_in_a_row("acac", "af", (const unsigned char[]){1, 2, 3, 4, 5});
    die_in_a_row("af", "f", (const unsigned char[]){1, 2, 1, 2, 1});
    die_in_a_row("afac", "f", (const unsigned char[]){1, 2, 2, 3, 1});
}

/* Writers by the word after others and before others; also where they die while they close. */
static void test_words(void **state)
{
    (void)state;
    die_on(true, "wac", "wacnc", (const unsigned char[]){101, 102, 103, 104, 105});
    die_on(true, "wacnc", "wa", (const unsigned char[]){101, 102, 3, 104, 5});
    die_on(true, "wacfac", "bc", (const unsigned char[]){101, 2, 103, 4, 105});
    die_on(true, "acnc", "wac", (const unsigned char[]){1, 102, 3, 3, 104});
}

static void test_words_and_flushes(void **state)
{
    (void)state;
    die_on(true, "wacnc", "waf", (const unsigned char[]){101, 102, 103, 4, 105});
    die_on(true, "wac", "wafncx", (const unsigned char[]){101, 102, 3, 104, 5});
    die_on(true, "wac", "acx", (const unsigned char[]){101, 2, 103, 104, 5});
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_each_with_its_own_key),
        cmocka_unit_test(test_keys_that_come_again),
        cmocka_unit_test(test_flushes),
        cmocka_unit_test(test_words),
        cmocka_unit_test(test_words_and_flushes),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
