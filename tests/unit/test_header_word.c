/* The published word in the header: what is stored, in which order, what failure leaves, and what a reader is told. */
#include "header_stage.h"

#include "base/bytes.h"
#include "cell/word.h"

#include <errno.h>

enum { WRITES_MAX = 8 };

struct writes {
    uint64_t offsets[WRITES_MAX];
    int count;
};

static void note(void *user, enum fault_call call, uint64_t offset, uint64_t length_bytes)
{
    struct writes *writes = user;

    if (call != FAULT_WRITE)
        return;
    assert_int_equal(length_bytes, 4);
    assert_true(writes->count < WRITES_MAX);
    writes->offsets[writes->count++] = offset;
}

static uint32_t number_at(const struct stage *stage, uint64_t offset)
{
    return cellar_load_le32(stage->bytes + offset);
}

static struct stage *begin(bool with_window, uint32_t flags, uint32_t epoch)
{
    struct stage *stage = open_stage(with_window, false);

    cellar_store_le32(stage->bytes + CELLAR_AT_FLAGS, flags);
    cellar_store_le32(stage->bytes + CELLAR_AT_EPOCH, epoch);
    cellar_header_start_marks(&stage->header, 1, flags);
    cellar_header_start_words(&stage->header, epoch);
    return stage;
}

static void test_starts_as_the_file_says(void **state)
{
    static const struct {
        uint32_t flags;
        bool words;
    } rows[] = {{0, false},
                {CELLAR_FLAG_WORD, true},
                {CELLAR_FLAGS_KNOWN, true},
                {CELLAR_FLAGS_KNOWN & ~(unsigned)CELLAR_FLAG_WORD, false}};

    (void)state;
    for (size_t i = 0; i < SUPPORT_COUNT(rows); i++) {
        struct stage *stage = begin(false, rows[i].flags, 7);

        assert_int_equal(stage->header.words, rows[i].words);
        assert_int_equal(stage->header.epoch, 7);
        close_stage(stage);
    }
}

/* Root, then next, as two little-endian numbers; nothing else changes. */
static void test_state_is_the_word(void **state)
{
    unsigned char expected[CELLAR_HEADER_BYTES];
    struct cellar_state published = state_of(0x01020304, 0x05060708);
    struct stage *stage;

    (void)state;
    stage = begin(true, 0, 3);
    memcpy(expected, stage->bytes, sizeof expected);
    cellar_store_le32(expected + CELLAR_AT_WORD, published.root_index);
    cellar_store_le32(expected + CELLAR_AT_WORD + 4, published.next_index);
    cellar_header_commit_word(&stage->header, published.next_index, published.root_index);
    assert_memory_equal(stage->bytes, expected, sizeof expected);
    close_stage(stage);
}

/* WORD is cleared before the epoch changes, and set after. 0 is no epoch. */
static void test_order(void **state)
{
    static const struct {
        bool words, wanted;
        uint32_t epoch, epoch_after;
        int count;
        uint64_t offsets[2];
    } rows[] = {
        {false, false, 0, 0, 0, {0}}, /* there never was a word: nothing is said of one */
        {false, false, 5, 6, 1, {CELLAR_AT_EPOCH}},
        {false, true, 0, 1, 2, {CELLAR_AT_EPOCH, CELLAR_AT_FLAGS}},
        {false, true, 0xffff, 0x10000, 2, {CELLAR_AT_EPOCH, CELLAR_AT_FLAGS}},
        {true, true, 9, 10, 1, {CELLAR_AT_EPOCH}}, /* WORD stays from one writer to the next */
        {true, true, UINT32_MAX, 1, 1, {CELLAR_AT_EPOCH}},
        {true, false, 9, 10, 2, {CELLAR_AT_FLAGS, CELLAR_AT_EPOCH}},
    };

    (void)state;
    for (size_t i = 0; i < SUPPORT_COUNT(rows); i++) {
        uint32_t others = CELLAR_FLAG_CHECKSUMS | CELLAR_FLAG_CHECKED;
        struct stage *stage = begin(false, others | (rows[i].words ? CELLAR_FLAG_WORD : 0), rows[i].epoch);
        struct writes writes = {.count = 0};

        stage->fault.before = note;
        stage->fault.before_user = &writes;
        assert_done(cellar_header_switch_words(&stage->header, rows[i].wanted));
        assert_int_equal(writes.count, rows[i].count);
        for (int k = 0; k < writes.count; k++)
            assert_int_equal(writes.offsets[k], rows[i].offsets[k]);
        assert_int_equal(number_at(stage, CELLAR_AT_EPOCH), rows[i].epoch_after);
        assert_int_equal(number_at(stage, CELLAR_AT_FLAGS), others | (rows[i].wanted ? CELLAR_FLAG_WORD : 0));
        assert_int_equal(stage->header.epoch, rows[i].epoch_after);
        assert_int_equal(stage->header.words, rows[i].wanted);
        close_stage(stage);
    }
}

/* What could not be stored is not taken to be there, and what comes after it is not stored. */
static void test_switch_fails(void **state)
{
    (void)state;
    for (int words = 0; words < 2; words++) {
        for (uint64_t nth = 1; nth <= 2; nth++) {
            uint32_t flags = words ? CELLAR_FLAG_WORD : 0;
            struct stage *stage = begin(false, flags, 5);
            bool first = nth == 1;

            fault_fail(&stage->fault, FAULT_WRITE, nth, 1, -EIO);
            assert_result(cellar_header_switch_words(&stage->header, !words), -EIO);
            assert_int_equal(stage->header.words, words);
            assert_int_equal(stage->header.epoch, !first && !words ? 6 : 5);
            assert_int_equal(number_at(stage, CELLAR_AT_EPOCH), stage->header.epoch);
            assert_int_equal(stage->header.flags, words && !first ? 0 : flags);
            assert_int_equal(number_at(stage, CELLAR_AT_FLAGS), stage->header.flags);
            close_stage(stage);
        }
    }
}

static void test_epoch_fails(void **state)
{
    struct stage *stage = begin(false, CELLAR_FLAG_WORD, 5);

    (void)state;
    fault_fail(&stage->fault, FAULT_WRITE, 1, 1, -EIO);
    assert_result(cellar_header_end_epoch(&stage->header), -EIO);
    assert_int_equal(stage->header.epoch, 5);
    assert_done(cellar_header_end_epoch(&stage->header));
    assert_int_equal(stage->header.epoch, 6);
    close_stage(stage);
}

/* ---- a reader's look ---- */

static struct stage *changes; /* its epoch changes when its flags are read */

int __real_cellar_header_flags(const struct cellar_header *header, uint32_t *ret_flags);
int __wrap_cellar_header_flags(const struct cellar_header *header, uint32_t *ret_flags);

int __wrap_cellar_header_flags(const struct cellar_header *header, uint32_t *ret_flags)
{
    if (changes != NULL)
        cellar_store_le32(changes->bytes + CELLAR_AT_EPOCH, 99);
    changes = NULL;
    return __real_cellar_header_flags(header, ret_flags);
}

static void test_look(void **state)
{
    static const uint32_t rows[] = {0, CELLAR_FLAG_WORD, CELLAR_FLAG_RETIRED, CELLAR_FLAG_RETIRED | CELLAR_FLAG_WORD};
    struct cellar_state published = state_of(20, 10), found;
    struct cellar_word word;
    uint32_t flags;

    (void)state;
    for (size_t i = 0; i < SUPPORT_COUNT(rows); i++) {
        struct stage *stage = begin(true, rows[i], 5);

        cellar_header_commit_word(&stage->header, published.next_index, published.root_index);
        assert_done(cellar_header_begin_look(&stage->header, &flags, &word));
        assert_int_equal(flags, rows[i]);
        assert_int_equal(word.followed, (rows[i] & CELLAR_FLAG_WORD) != 0);
        assert_done(cellar_header_end_look(&stage->header, &word, &found));
        assert_true(states_equal(found, published));
        assert_int_equal(word.word, cellar_word_of(20, 10));
        assert_result(cellar_header_look_at_word(&stage->header, &word, &found), CELLAR_NONE);
        close_stage(stage);
    }
}

/* The epoch is that from before the flags: whoever changed it in between is noticed at the end. */
static void test_epoch_changes_during_a_look(void **state)
{
    struct stage *stage = begin(true, CELLAR_FLAG_WORD, 5);
    struct cellar_state found = state_of(1, 1);
    struct cellar_word word;
    uint32_t flags;

    (void)state;
    changes = stage;
    assert_done(cellar_header_begin_look(&stage->header, &flags, &word));
    assert_null(changes);
    assert_result(cellar_header_end_look(&stage->header, &word, &found), -EAGAIN);
    assert_true(states_equal(found, state_of(1, 1)));
    close_stage(stage);
}

static void test_look_fails(void **state)
{
    struct stage *stage = begin(false, CELLAR_FLAG_WORD, 5);
    struct cellar_state found = state_of(1, 1);
    struct cellar_word word = {.word = 77};
    uint32_t flags = 77;

    (void)state;
    fault_fail_any(&stage->fault, FAULT_BIT(FAULT_READ) | FAULT_BIT(FAULT_LOAD), 1, 1, -EIO);
    assert_result(cellar_header_begin_look(&stage->header, &flags, &word), -EIO);
    assert_true(flags == 77 && word.word == 77);
    assert_done(cellar_header_begin_look(&stage->header, &flags, &word));
    assert_true(word.followed);
    assert_result(cellar_header_end_look(&stage->header, &word, &found), -ENOTSUP); /* without a window */
    assert_true(states_equal(found, state_of(1, 1)));
    close_stage(stage);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_starts_as_the_file_says),
        cmocka_unit_test(test_state_is_the_word),
        cmocka_unit_test(test_order),
        cmocka_unit_test(test_switch_fails),
        cmocka_unit_test(test_epoch_fails),
        cmocka_unit_test(test_look),
        cmocka_unit_test(test_epoch_changes_during_a_look),
        cmocka_unit_test(test_look_fails),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
