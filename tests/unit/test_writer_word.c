/* Publishing by the word: what commits store, who follows, and what is left behind. */
#include "base/bytes.h"
#include "format/format.h"
#include "store_fixture.h"

#include <stdlib.h>
#include <string.h>

static struct cellar_writer *word_new(struct store_fixture *f)
{
    struct cellar_writer_options options = store_options(f);
    struct cellar_config config = store_config(32, 5000);
    struct cellar_writer *writer = NULL;

    options.publish = CELLAR_PUBLISH_WORD;
    assert_done(store_create(f, &config, &options, &writer));
    return writer;
}

static struct cellar_writer *word_again(struct store_fixture *f, enum cellar_publish publish)
{
    struct cellar_writer_options options = store_options(f);
    struct cellar_writer *writer = NULL;

    assert_done(cellar_key_make(&f->key));
    options.publish = publish;
    assert_done(store_open(f, &options, &writer));
    return writer;
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

static void commit_root(struct cellar_writer *writer, uint32_t cells)
{
    if (cells > 0)
        store_append(writer, cells);
    assert_done(cellar_writer_set_root(writer, cellar_writer_next(writer) - 1));
    assert_done(cellar_writer_commit(writer));
}

static void read_header(struct store_fixture *f, unsigned char header[CELLAR_HEADER_BYTES])
{
    size_t length_bytes;
    unsigned char *bytes = store_bytes(f, &length_bytes);

    assert_true(length_bytes >= CELLAR_HEADER_BYTES);
    memcpy(header, bytes, CELLAR_HEADER_BYTES);
    free(bytes);
}

/* A commit changes the word and nothing else of the header; a flush brings the slots. */
static void test_commit_is_one_word(void **state)
{
    unsigned char before[CELLAR_HEADER_BYTES], after[CELLAR_HEADER_BYTES];
    struct store_fixture *f = *state;
    struct cellar_writer *writer = word_new(f);
    struct cellar_info info;

    cellar_writer_info(writer, &info);
    assert_int_equal(info.publish, CELLAR_PUBLISH_WORD);
    read_header(f, before);
    commit_root(writer, 3);
    read_header(f, after);
    assert_int_equal(cellar_load_le32(after + CELLAR_AT_WORD), 10);
    assert_int_equal(cellar_load_le32(after + CELLAR_AT_WORD + 4), 11);
    memcpy(before + CELLAR_AT_WORD, after + CELLAR_AT_WORD, 8);
    assert_memory_equal(before, after, CELLAR_HEADER_BYTES);
    assert_done(cellar_writer_flush(writer));
    read_header(f, after);
    for (int name = 0; name < CELLAR_SLOT_COUNT; name++) {
        struct cellar_slot slot = cellar_slot_decode(after + cellar_slot_offset((enum cellar_slot_name)name));

        assert_true(slot.valid);
        assert_int_equal(slot.state.next_index, 11);
        assert_int_equal(slot.state.root_index, 10);
    }
    store_close(writer);
    read_header(f, after);
    assert_int_equal(cellar_extension_decode(after).flags, 0);
}

/* A reader follows words, the close of their writer, writers by slots, by words again, and truncate. */
static void test_reader_follows(void **state)
{
    struct store_fixture *f = *state;
    struct cellar_writer *writer = word_new(f);
    struct cellar_reader *reader = store_reader(f, &f->key);

    assert_int_equal(info_of(reader).publish, CELLAR_PUBLISH_WORD);
    assert_result(cellar_reader_refresh(reader), CELLAR_NONE);
    for (int i = 0; i < 600; i++) { /* the file grows meanwhile */
        commit_root(writer, 3);
        assert_done(cellar_reader_refresh(reader));
        assert_stands(reader, cellar_writer_next(writer), cellar_writer_root(writer));
        assert_result(cellar_reader_refresh(reader), CELLAR_NONE);
    }
    assert_done(cellar_writer_set_root(writer, CELLAR_ROOT_NONE)); /* the root alone */
    assert_done(cellar_writer_commit(writer));
    assert_done(cellar_reader_refresh(reader));
    assert_stands(reader, 1808, CELLAR_ROOT_NONE);
    commit_root(writer, 0);
    store_close(writer);
    assert_done(cellar_reader_refresh(reader));
    assert_stands(reader, 1808, 1807);
    assert_int_equal(info_of(reader).publish, CELLAR_PUBLISH_SLOTS);

    writer = word_again(f, CELLAR_PUBLISH_SLOTS);
    commit_root(writer, 1);
    assert_done(cellar_reader_refresh(reader));
    assert_stands(reader, 1809, 1808);
    assert_true(info_of(reader).other_writer);
    store_close(writer);
    writer = word_again(f, CELLAR_PUBLISH_WORD);
    commit_root(writer, 1);
    assert_done(cellar_reader_refresh(reader));
    assert_stands(reader, 1810, 1809);
    assert_int_equal(info_of(reader).publish, CELLAR_PUBLISH_WORD);
    cellar_writer_abandon(writer);
    writer = word_again(f, CELLAR_PUBLISH_SLOTS);
    commit_root(writer, 1);
    assert_done(cellar_reader_refresh(reader));
    assert_stands(reader, 1811, 1810);
    store_close(writer);
    cellar_reader_close(reader);
}

static void test_truncate_is_noticed(void **state)
{
    struct store_fixture *f = *state;
    struct cellar_writer *writer = word_new(f);
    struct cellar_reader *reader = store_reader(f, &f->key);

    commit_root(writer, 3);
    assert_done(cellar_reader_refresh(reader));
    assert_done(cellar_writer_truncate(writer, 0));
    assert_result(cellar_reader_refresh(reader), CELLAR_ERETIRED);
    cellar_reader_close(reader);
    reader = store_reader(f, &f->key);
    assert_int_equal(info_of(reader).publish, CELLAR_PUBLISH_WORD);
    commit_root(writer, 3);
    assert_done(cellar_reader_refresh(reader));
    assert_stands(reader, 11, 10);
    cellar_reader_close(reader);
    store_close(writer);
}

/* Without the key, flushes alone. */
static void test_reader_without_key(void **state)
{
    struct store_fixture *f = *state;
    struct cellar_writer *writer = word_new(f);
    struct cellar_reader *reader = store_reader(f, NULL);

    commit_root(writer, 3);
    assert_result(cellar_reader_refresh(reader), CELLAR_NONE);
    assert_done(cellar_writer_flush(writer));
    assert_done(cellar_reader_refresh(reader));
    assert_stands(reader, 11, 10);
    assert_done(cellar_reader_enable_process_sync(reader, &f->key));
    commit_root(writer, 1);
    assert_done(cellar_reader_refresh(reader));
    assert_stands(reader, 12, 11);
    cellar_reader_disable_process_sync(reader);
    assert_done(cellar_reader_refresh(reader)); /* back to what is durable */
    assert_stands(reader, 11, 10);
    cellar_reader_close(reader);
    store_close(writer);
}

/* A writer that dies leaves its last word; after a power loss its cells are not used again. */
static void test_death(void **state)
{
    struct store_fixture *f = *state;

    for (int lose_power = 0; lose_power < 2; lose_power++) {
        for (int words = 0; words < 2; words++) {
            struct cellar_writer *writer = word_new(f);
            struct cellar_recovery recovery;
            bool kept;

            commit_root(writer, 3);
            assert_done(cellar_writer_flush(writer));
            commit_root(writer, 5);
            cellar_writer_abandon(writer);
            if (lose_power)
                store_lose_power(f);
            writer = word_again(f, words ? CELLAR_PUBLISH_WORD : CELLAR_PUBLISH_SLOTS);
            cellar_writer_recovery(writer, &recovery);
            kept = !lose_power && store_has_mark(f);
            assert_int_equal(recovery.found, kept ? CELLAR_FOUND_COMMITTED : CELLAR_FOUND_UNFLUSHED);
            assert_int_equal(cellar_writer_next(writer), 16);
            assert_int_equal(cellar_writer_root(writer), kept ? 15 : 10);
            store_close(writer);
            store_remove(f);
        }
    }
}

/* A flush on another thread brings slots that are older than the word, never newer cells than it says. */
static void test_flush_of_older_state(void **state)
{
    struct store_fixture *f = *state;
    struct cellar_writer *writer = word_new(f);
    struct cellar_reader *reader = store_reader(f, &f->key);

    commit_root(writer, 3);
    store_append(writer, 4); /* not committed */
    assert_done(cellar_writer_flush_committed(writer));
    assert_done(cellar_reader_refresh(reader));
    assert_stands(reader, 11, 10);
    assert_done(cellar_writer_rollback(writer));
    assert_result(cellar_reader_refresh(reader), CELLAR_NONE);
    cellar_reader_close(reader);
    store_close(writer);
}

/* 0 is that of a file that never had a word: it is left out, and readers notice the change all the same. */
static void test_epoch_wraps(void **state)
{
    static const unsigned char last[4] = {0xff, 0xff, 0xff, 0xff};
    unsigned char header[CELLAR_HEADER_BYTES];
    struct store_fixture *f = *state;
    struct cellar_writer *writer = word_new(f);
    struct cellar_reader *reader;

    store_patch(f, CELLAR_AT_EPOCH, last, sizeof last);
    reader = store_reader(f, &f->key);
    cellar_writer_abandon(writer);
    writer = word_again(f, CELLAR_PUBLISH_SLOTS);
    read_header(f, header);
    assert_int_equal(cellar_extension_decode(header).epoch, 1);
    commit_root(writer, 1);
    assert_done(cellar_reader_refresh(reader));
    assert_stands(reader, 9, 8);
    cellar_reader_close(reader);
    store_close(writer);
}

static void test_refused(void **state)
{
    struct store_fixture *f = *state;
    struct cellar_writer_options options = store_options(f);
    struct cellar_diagnostic diagnostic = {.error = 0};
    struct cellar_config config = store_config(32, 5000);
    struct cellar_writer *writer = NULL;
    struct store_image image;

    options.publish = CELLAR_PUBLISH_WORD;
    options.compat = true;
    assert_result(store_create(f, &config, &options, &writer), -EINVAL);
    options.compat = false;
    options.publish = (enum cellar_publish)2;
    assert_result(store_create(f, &config, &options, &writer), -EINVAL);
    cellar_writer_abandon(word_new(f));
    image = store_image_take(f);
    options.publish = CELLAR_PUBLISH_WORD; /* the key is the last writer's */
    options.diagnostic = &diagnostic;
    assert_result(store_open(f, &options, &writer), -EINVAL);
    assert_non_null(strstr(diagnostic.message, "fresh"));
    store_image_compare(f, image); /* nor was it cut to what is used */
}

/* Without a window the writer goes by slots, and a reader says what it can't. */
static void test_without_window(void **state)
{
    struct store_fixture *f = *state;
    struct cellar_writer *writer = word_new(f);
    struct cellar_reader_options options = {.device = CELLAR_DEVICE_PAGES};
    unsigned char header[CELLAR_HEADER_BYTES];
    struct cellar_reader *reader = NULL;
    struct cellar_info info;

    cellar_writer_info(writer, &info);
    if (info.data_path != CELLAR_PATH_WINDOW) {
        assert_int_equal(info.publish, CELLAR_PUBLISH_SLOTS);
        store_close(writer);
        writer = word_again(f, CELLAR_PUBLISH_WORD); /* nor where it is opened */
        cellar_writer_info(writer, &info);
        assert_int_equal(info.publish, CELLAR_PUBLISH_SLOTS);
        read_header(f, header);
        assert_int_equal(cellar_extension_decode(header).flags & CELLAR_FLAG_WORD, 0);
        store_close(writer);
        return;
    }
    assert_done(store_read(f, &options, &reader));
    assert_result(cellar_reader_enable_process_sync(reader, &f->key), 0);
    assert_result(cellar_reader_refresh(reader), -ENOTSUP);
    cellar_reader_close(reader);
    store_close(writer);
}

/* A reader by pages beside a writer by the word, after its death, and when the next one publishes by slots. */
static void test_reader_by_pages(void **state)
{
    struct store_fixture *f = *state;
    struct cellar_reader_options options = {.device = CELLAR_DEVICE_PAGES};
    struct cellar_diagnostic diagnostic = {.error = 0};
    struct cellar_writer *writer = word_new(f);
    struct cellar_reader *reader = NULL, *other = NULL;

    assert_done(store_read(f, &options, &reader));
    commit_root(writer, 3);
    assert_done(cellar_writer_flush(writer));
    assert_done(cellar_reader_enable_process_sync(reader, &f->key));
    assert_result(cellar_reader_refresh(reader), -ENOTSUP);
    cellar_reader_disable_process_sync(reader); /* flushes it can follow */
    assert_done(cellar_reader_refresh(reader));
    assert_stands(reader, 11, 10);
    assert_done(cellar_reader_enable_process_sync(reader, &f->key));
    commit_root(writer, 5);
    cellar_writer_abandon(writer);
    assert_result(cellar_reader_refresh(reader), -ENOTSUP);
    assert_stands(reader, 11, 10);
    options.key = &f->key;
    options.diagnostic = &diagnostic;
    assert_result(store_read(f, &options, &other), -ENOTSUP);
    assert_non_null(strstr(diagnostic.message, "died"));
    writer = word_again(f, CELLAR_PUBLISH_SLOTS);
    assert_done(cellar_reader_refresh(reader));
    assert_stands(reader, 16, store_has_mark(f) ? 15 : 10);
    commit_root(writer, 1);
    assert_done(cellar_reader_refresh(reader));
    assert_stands(reader, 17, 16);
    assert_done(store_read(f, &options, &other));
    cellar_reader_close(other);
    cellar_reader_close(reader);
    store_close(writer);
}

static void set_flag(struct store_fixture *f, uint32_t flag)
{
    unsigned char header[CELLAR_HEADER_BYTES], bytes[4];

    read_header(f, header);
    cellar_store_le32(bytes, cellar_extension_decode(header).flags | flag);
    store_patch(f, CELLAR_AT_FLAGS, bytes, sizeof bytes);
}

/*
 * A writer by pages comes after a failed sync of one by the word, and goes back to the root that was flushed. It leaves
 * the word as it is: a reader that maps the file may be following it, and could find a part of what is written there.
 */
static void test_pages_after_the_word(void **state)
{
    unsigned char header[CELLAR_HEADER_BYTES];
    struct store_fixture *f = *state;
    struct cellar_writer_options options = store_options(f);
    struct cellar_writer *writer = word_new(f);
    struct cellar_reader *reader;
    struct cellar_extension found;

    commit_root(writer, 3);
    assert_done(cellar_writer_flush(writer));
    commit_root(writer, 5);
    reader = store_reader(f, &f->key);
    assert_stands(reader, 16, 15);
    cellar_writer_abandon(writer);
    set_flag(f, CELLAR_FLAG_SUSPECT);
    assert_done(cellar_key_make(&f->key));
    options.key = &f->key;
    options.device = CELLAR_DEVICE_PAGES;
    assert_done(store_open(f, &options, &writer));
    read_header(f, header);
    found = cellar_extension_decode(header);
    assert_int_equal(found.word.next_index, 16);
    assert_int_equal(found.word.root_index, 15);
    assert_int_equal(found.flags & (CELLAR_FLAG_WORD | CELLAR_FLAG_SUSPECT), 0);
    assert_true(!store_has_mark(f) || found.binding == store_slot(f, CELLAR_PROCESS_1).keyed);
    assert_done(cellar_reader_refresh(reader));
    assert_stands(reader, 16, 10);
    assert_int_equal(info_of(reader).publish, CELLAR_PUBLISH_SLOTS);
    cellar_reader_close(reader);
    store_close(writer);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        STORE_ON(test_commit_is_one_word, STORE_MAPPED),
        STORE_ON(test_commit_is_one_word, STORE_MEMORY_MAPPED),
        STORE_ON(test_reader_follows, STORE_MAPPED),
        STORE_ON(test_reader_follows, STORE_MEMORY_MAPPED),
        STORE_ON(test_truncate_is_noticed, STORE_MAPPED),
        STORE_ON(test_reader_without_key, STORE_MAPPED),
        STORE_ON(test_reader_without_key, STORE_MEMORY_MAPPED),
        STORE_ON(test_death, STORE_MAPPED),
        STORE_ON(test_death, STORE_MEMORY_MAPPED),
        STORE_ON(test_flush_of_older_state, STORE_MAPPED),
        STORE_ON(test_epoch_wraps, STORE_MAPPED),
        STORE_ON_FILES(test_refused),
        STORE_ON(test_pages_after_the_word, STORE_MAPPED),
        STORE_ON(test_reader_by_pages, STORE_MAPPED),
        STORE_ON_FILES(test_without_window),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
