/*
 * A reader that goes by the word, and writers that close, die, follow one another and truncate in the middle of its
 * look: after the slots, before the word. And one that opens a file that is replaced meanwhile.
 */
#include "store_fixture.h"

#include "cell/header.h"

#include <string.h>

/* ---- in the middle of a look ---- */

static void (*interruption)(void); /* once */

int __real_cellar_header_look(const struct cellar_header *header, enum cellar_pair pair, const struct cellar_key *key,
                              struct cellar_seen *seen, struct cellar_state *ret_state,
                              enum cellar_key_verdict *ret_verdict);
int __wrap_cellar_header_look(const struct cellar_header *header, enum cellar_pair pair, const struct cellar_key *key,
                              struct cellar_seen *seen, struct cellar_state *ret_state,
                              enum cellar_key_verdict *ret_verdict);

/* Takes the place of the library's function (-Wl,--wrap). */
int __wrap_cellar_header_look(const struct cellar_header *header, enum cellar_pair pair, const struct cellar_key *key,
                              struct cellar_seen *seen, struct cellar_state *ret_state,
                              enum cellar_key_verdict *ret_verdict)
{
    int result = __real_cellar_header_look(header, pair, key, seen, ret_state, ret_verdict);
    void (*interrupt)(void) = interruption;

    interruption = NULL;
    if (interrupt != NULL)
        interrupt();
    return result;
}

/* ---- the store ---- */

/* For interruptions. */
static struct store_fixture *fixture;
static struct cellar_writer *writer;

static void open_writer(struct store_fixture *f, bool create, enum cellar_publish publish)
{
    struct cellar_writer_options options;
    struct cellar_config config = store_config(32, 5000);

    assert_done(cellar_key_make(&f->key));
    options = store_options(f);
    options.publish = publish;
    writer = NULL;
    fixture = f;
    assert_done(create ? store_create(f, &config, &options, &writer) : store_open(f, &options, &writer));
}

static void commit(uint32_t cells)
{
    if (cells > 0)
        store_append(writer, cells);
    assert_done(cellar_writer_set_root(writer, cellar_writer_next(writer) - 1));
    assert_done(cellar_writer_commit(writer));
}

static struct cellar_info info_of(const struct cellar_reader *reader)
{
    struct cellar_info info;

    cellar_reader_info(reader, &info);
    return info;
}

static void assert_stands(struct cellar_reader *reader, uint32_t next_index, uint32_t root_index)
{
    assert_int_equal(info_of(reader).next_index, next_index);
    assert_int_equal(info_of(reader).root_index, root_index);
}

static void close_it(void)
{
    store_close(writer);
}

/* The slots are those of the opening, the reader is ahead of them and knows less of the file: it looks at all. */
static void test_close_after_the_slots(void **state)
{
    struct store_fixture *f = *state;
    struct cellar_reader *reader;

    open_writer(f, true, CELLAR_PUBLISH_WORD);
    reader = store_reader(f, &f->key);
    commit(3);
    assert_done(cellar_reader_refresh(reader));
    assert_stands(reader, 11, 10);
    commit(3000);
    interruption = close_it;
    assert_done(cellar_reader_refresh(reader));
    assert_null(interruption);
    assert_stands(reader, 3011, 3010);
    assert_int_equal(info_of(reader).publish, CELLAR_PUBLISH_SLOTS);
    assert_result(cellar_reader_refresh(reader), CELLAR_NONE);
    cellar_reader_close(reader);
}

static void truncate_it(void)
{
    assert_done(cellar_writer_truncate(writer, 0));
}

/* RETIRED comes after the flags were read: the reader is told by the next look. */
static void test_truncate_after_the_slots(void **state)
{
    struct store_fixture *f = *state;
    struct cellar_reader *reader;
    int result;

    open_writer(f, true, CELLAR_PUBLISH_WORD);
    reader = store_reader(f, &f->key);
    commit(3000);
    interruption = truncate_it;
    result = cellar_reader_refresh(reader);
    assert_null(interruption);
    if (result == 0)
        result = cellar_reader_refresh(reader);
    assert_result(result, CELLAR_ERETIRED);
    cellar_reader_close(reader);
    store_close(writer);
}

static void die_and_come_again(void)
{
    cellar_writer_abandon(writer);
    open_writer(fixture, false, CELLAR_PUBLISH_WORD);
    commit(1);
}

/* The slots are the last writer's, the word is the next one's: the reader is told that there is another. */
static void test_next_writer_after_the_slots(void **state)
{
    struct store_fixture *f = *state;
    struct cellar_reader *reader;

    open_writer(f, true, CELLAR_PUBLISH_WORD);
    reader = store_reader(f, &f->key);
    commit(3000);
    interruption = die_and_come_again;
    assert_done(cellar_reader_refresh(reader));
    assert_null(interruption);
    assert_stands(reader, 3009, 3008);
    assert_true(info_of(reader).other_writer);
    commit(1);
    assert_done(cellar_reader_refresh(reader));
    assert_stands(reader, 3010, 3009);
    cellar_reader_close(reader);
    store_close(writer);
}

static void close_and_come_again(void)
{
    store_close(writer);
    open_writer(fixture, false, CELLAR_PUBLISH_SLOTS);
    commit(1);
}

static void test_slots_after_the_slots(void **state)
{
    struct store_fixture *f = *state;
    struct cellar_reader *reader;

    open_writer(f, true, CELLAR_PUBLISH_WORD);
    reader = store_reader(f, &f->key);
    commit(3000);
    interruption = close_and_come_again;
    assert_done(cellar_reader_refresh(reader));
    assert_null(interruption);
    assert_stands(reader, 3009, 3008);
    assert_true(info_of(reader).other_writer);
    assert_int_equal(info_of(reader).publish, CELLAR_PUBLISH_SLOTS);
    cellar_reader_close(reader);
    store_close(writer);
}

/* A power loss leaves the flag, and a word that the file was never as long for: readers with the key go by slots. */
static void test_word_beyond_the_file(void **state)
{
    static const unsigned char word[8] = {9, 0, 0, 0, 0xff, 0xff, 0, 0};
    struct store_fixture *f = *state;
    struct cellar_reader *reader;

    open_writer(f, true, CELLAR_PUBLISH_WORD);
    commit(3);
    assert_done(cellar_writer_flush(writer));
    cellar_writer_abandon(writer);
    store_patch(f, CELLAR_AT_WORD, word, sizeof word);
    reader = store_reader(f, &f->key);
    assert_stands(reader, 11, 10);
    assert_int_equal(info_of(reader).publish, CELLAR_PUBLISH_SLOTS);
    assert_result(cellar_reader_refresh(reader), CELLAR_NONE);
    store_lose_power(f);
    open_writer(f, false, CELLAR_PUBLISH_WORD);
    commit(1);
    assert_done(cellar_reader_refresh(reader));
    assert_stands(reader, 12, 11);
    assert_int_equal(info_of(reader).publish, CELLAR_PUBLISH_WORD);
    cellar_reader_close(reader);
    store_close(writer);
}

static void truncate_and_commit(void)
{
    truncate_it();
    commit(3);
}

/* The file is replaced while it is opened: nothing of what it said is left, and no page of the new one is taken for
 * whole that was read when it was not. Also where both say the same. */
static void test_truncate_while_it_is_opened(void **state)
{
    struct store_fixture *f = *state;
    struct cellar_reader *reader;
    struct cellar_snapshot snapshot;

    open_writer(f, true, CELLAR_PUBLISH_SLOTS);
    store_append(writer, 3000);
    assert_done(cellar_writer_flush(writer));
    interruption = truncate_and_commit;
    reader = store_reader(f, &f->key);
    assert_null(interruption);
    assert_stands(reader, 11, 10);
    assert_int_equal(info_of(reader).flushed_next_index, 8);
    snapshot = cellar_reader_snapshot(reader);
    store_assert_cells(&snapshot);
    commit(50);
    assert_done(cellar_reader_refresh(reader));
    assert_stands(reader, 61, 60);
    snapshot = cellar_reader_snapshot(reader);
    store_assert_cells(&snapshot);
    cellar_reader_close(reader);
    store_close(writer);
    store_remove(f);
    open_writer(f, true, CELLAR_PUBLISH_SLOTS);
    interruption = truncate_it;
    reader = store_reader(f, &f->key);
    assert_null(interruption);
    assert_true(info_of(reader).has_key);
    commit(3);
    assert_done(cellar_reader_refresh(reader));
    assert_stands(reader, 11, 10);
    cellar_reader_close(reader);
    store_close(writer);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        STORE_ON(test_close_after_the_slots, STORE_MAPPED),
        STORE_ON(test_close_after_the_slots, STORE_MEMORY_MAPPED),
        STORE_ON(test_truncate_after_the_slots, STORE_MAPPED),
        STORE_ON(test_next_writer_after_the_slots, STORE_MAPPED),
        STORE_ON(test_next_writer_after_the_slots, STORE_MEMORY_MAPPED),
        STORE_ON(test_slots_after_the_slots, STORE_MAPPED),
        STORE_ON(test_slots_after_the_slots, STORE_MEMORY_MAPPED),
        STORE_ON(test_word_beyond_the_file, STORE_MAPPED),
        STORE_ON_FILES(test_truncate_while_it_is_opened),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
