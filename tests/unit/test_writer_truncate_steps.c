/*
 * Truncating, step by step: what a reader sees between two of them, what each failure leaves, and in which order things
 * go. The steps come past here.
 */
#include "store_fixture.h"

#include "store_internal.h"
#include "sum/sum_name.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- what comes past ---- */

static void (*before_flags)(void); /* once */
static int identity_error, mode_error, sums_error, publish_error;
static const char *discarding; /* the store whose hidden file must be locked when it is discarded */
static bool was_locked;
static struct cellar_writer *closing; /* whose ground, when it is closed, must have no helper any more */
static int grounds_closed, joined;
static bool closed_rightly;

int __real_cellar_header_change_flags(struct cellar_header *header, uint32_t set, uint32_t clear);
int __wrap_cellar_header_change_flags(struct cellar_header *header, uint32_t set, uint32_t clear);
int __real_cellar_sum_make_identity(uint32_t *ret_identity);
int __wrap_cellar_sum_make_identity(uint32_t *ret_identity);
int __real_cellar_writer_sums_begin(const struct cellar_writer *writer, const struct cellar_ground *ground,
                                    struct cellar_sum_file **ret_file);
int __wrap_cellar_writer_sums_begin(const struct cellar_writer *writer, const struct cellar_ground *ground,
                                    struct cellar_sum_file **ret_file);
int __real_cellar_file_publish(struct cellar_device *device, const char *path, const struct cellar_device *replaced,
                               bool *ret_renamed);
int __wrap_cellar_file_publish(struct cellar_device *device, const char *path, const struct cellar_device *replaced,
                               bool *ret_renamed);
void __real_cellar_file_discard_hidden(const char *path);
void __wrap_cellar_file_discard_hidden(const char *path);
int __real_cellar_ground_close(struct cellar_ground *ground, bool forked);
int __wrap_cellar_ground_close(struct cellar_ground *ground, bool forked);

int __real_cellar_file_copy_mode(const struct cellar_device *from, struct cellar_device *to);
int __wrap_cellar_file_copy_mode(const struct cellar_device *from, struct cellar_device *to);
int __real_pthread_join(pthread_t thread, void **ret_result);
int __wrap_pthread_join(pthread_t thread, void **ret_result);

int __wrap_cellar_header_change_flags(struct cellar_header *header, uint32_t set, uint32_t clear)
{
    void (*hook)(void) = before_flags;

    if (hook != NULL && (set & CELLAR_FLAG_RETIRED) != 0) {
        before_flags = NULL;
        hook();
    }
    return __real_cellar_header_change_flags(header, set, clear);
}

int __wrap_cellar_sum_make_identity(uint32_t *ret_identity)
{
    return identity_error != 0 ? identity_error : __real_cellar_sum_make_identity(ret_identity);
}

int __wrap_cellar_writer_sums_begin(const struct cellar_writer *writer, const struct cellar_ground *ground,
                                    struct cellar_sum_file **ret_file)
{
    return sums_error != 0 ? sums_error : __real_cellar_writer_sums_begin(writer, ground, ret_file);
}

int __wrap_cellar_file_copy_mode(const struct cellar_device *from, struct cellar_device *to)
{
    return mode_error != 0 ? mode_error : __real_cellar_file_copy_mode(from, to);
}

int __wrap_cellar_file_publish(struct cellar_device *device, const char *path, const struct cellar_device *replaced,
                               bool *ret_renamed)
{
    return publish_error != 0 ? publish_error : __real_cellar_file_publish(device, path, replaced, ret_renamed);
}

void __wrap_cellar_file_discard_hidden(const char *path)
{
    struct cellar_device *other = NULL;

    if (discarding != NULL) {
        was_locked = cellar_file_create_hidden(path, 0644, CELLAR_FILE_PREAD, &other) == CELLAR_EBUSY;
        if (other != NULL)
            cellar_device_close(other);
    }
    __real_cellar_file_discard_hidden(path);
}

int __wrap_cellar_ground_close(struct cellar_ground *ground, bool forked)
{
    if (closing != NULL && ground == closing->ground) {
        grounds_closed++;
        closed_rightly = !forked && closing->ahead.parts == 0 && joined == 1;
    }
    return __real_cellar_ground_close(ground, forked);
}

/* Of a helper that is none. */
int __wrap_pthread_join(pthread_t thread, void **ret_result)
{
    if (closing == NULL)
        return __real_pthread_join(thread, ret_result);
    joined++;
    return 0;
}

/* ---- stores ---- */

static int setup(void **state)
{
    before_flags = NULL;
    identity_error = mode_error = sums_error = publish_error = 0;
    discarding = NULL;
    closing = NULL;
    grounds_closed = joined = 0;
    return store_setup(state);
}

/* As STORE_ON, with the steps as they are. */
#define STEPS_ON(test, way)                                                                                            \
    {                                                                                                                  \
#test "[" #way "]", store_run, setup, store_teardown, &(struct store_case)                                     \
        {                                                                                                              \
            test, &store_ways[way]                                                                                     \
        }                                                                                                              \
    }

static struct cellar_writer *make(struct store_fixture *f, bool checksums, enum cellar_publish publish)
{
    struct cellar_writer_options options = store_options(f);
    struct cellar_config config = store_config(32, 5000);
    struct cellar_writer *writer = NULL;

    options.checksums = checksums;
    options.publish = publish;
    assert_done(store_create(f, &config, &options, &writer));
    return writer;
}

/* ---- the old file ---- */

static struct cellar_reader *follower;
static int follower_result;

static void follow(void)
{
    follower_result = cellar_reader_refresh(follower);
}

/* The epoch changes after RETIRED is there: who looks in between looks again. */
static void test_follower_between_the_marks(void **state)
{
    struct store_fixture *f = *state;
    struct cellar_writer *writer = make(f, false, CELLAR_PUBLISH_WORD);

    follower = store_reader(f, &f->key);
    store_append(writer, 3);
    assert_done(cellar_writer_commit(writer));
    assert_done(cellar_reader_refresh(follower));
    before_flags = follow;
    assert_done(cellar_writer_truncate(writer, 0));
    assert_null(before_flags);
    assert_result(follower_result, CELLAR_NONE);
    assert_result(cellar_reader_refresh(follower), CELLAR_ERETIRED);
    cellar_reader_close(follower);
    store_close(writer);
}

/* Under another name the old file is a store still, with all that was committed to it; and no word where none was. */
static void test_old_file_keeps_its_word(void **state)
{
    struct store_fixture *f = *state;
    const char *path = f->path, *other = support_path(f->folder, "other-name");

    for (int words = 0; words < 2; words++) {
        struct cellar_writer *writer = make(f, false, words ? CELLAR_PUBLISH_WORD : CELLAR_PUBLISH_SLOTS);
        unsigned char *bytes;
        size_t length_bytes;

        assert_int_equal(link(path, other), 0);
        store_append(writer, 7);
        assert_done(cellar_writer_commit(writer));
        assert_done(cellar_writer_truncate(writer, 0));
        store_close(writer);
        bytes = support_file_read(other, &length_bytes);
        assert_int_equal(cellar_extension_decode(bytes).epoch != 0, words);
        free(bytes);
        f->path = other;
        writer = store_again(f);
        assert_int_equal(cellar_writer_next(writer), 15);
        store_close(writer);
        assert_int_equal(unlink(other), 0);
        f->path = path;
        store_remove(f);
    }
}

/* Nothing of the old file is closed while a helper may work on it. */
static void test_helper_ends_first(void **state)
{
    struct store_fixture *f = *state;
    struct cellar_writer *writer = make(f, false, CELLAR_PUBLISH_SLOTS);

    assert_int_not_equal(writer->ahead.parts, 0);
    atomic_store(&writer->ahead.thread_state, CELLAR_AHEAD_RUNS); /* as if */
    closing = writer;
    assert_done(cellar_writer_truncate(writer, 0));
    assert_int_equal(grounds_closed, 1);
    assert_true(closed_rightly);
    closing = NULL;
    assert_int_not_equal(writer->ahead.parts, 0); /* and the new one has one */
    store_close(writer);
}

/* ---- failures ---- */

/* A step fails: the store is as it was, nothing lies beside it, and the next time goes well. */
static void expect_nothing_left(struct store_fixture *f, bool checksums, int *error)
{
    struct cellar_writer *writer = make(f, checksums, CELLAR_PUBLISH_SLOTS);
    uint32_t identity = writer->sums_identity;
    unsigned entries = store_folder_entries(f);
    int descriptors = support_open_descriptors();
    struct cellar_recovery recovery;

    assert_int_equal(identity != 0, checksums);
    store_append(writer, 7);
    assert_done(cellar_writer_flush(writer));
    *error = -EIO;
    discarding = f->path;
    was_locked = true;
    assert_result(cellar_writer_truncate(writer, 0), -EIO);
    discarding = NULL;
    *error = 0;
    assert_true(was_locked); /* what was discarded was nobody else's */
    assert_int_equal(writer->sums_identity, identity);
    assert_int_equal(store_folder_entries(f), entries);
    assert_int_equal(support_open_descriptors(), descriptors);
    store_append(writer, 2);
    assert_done(cellar_writer_flush(writer));
    store_close(writer);
    writer = store_again(f);
    cellar_writer_recovery(writer, &recovery);
    assert_int_equal(recovery.sums, checksums ? CELLAR_SUMS_GOOD : CELLAR_SUMS_NONE);
    assert_int_equal(cellar_writer_next(writer), 17);
    assert_done(cellar_writer_truncate(writer, 0));
    assert_int_equal(writer->sums_identity != 0 && writer->sums_identity != identity, checksums);
    assert_int_equal(cellar_writer_next(writer), 8);
    store_close(writer);
}

static void test_identity_fails(void **state)
{
    expect_nothing_left(*state, true, &identity_error);
}

/* Who may read the store must not change, so a mode that can't be had is no small matter. */
static void test_mode_fails(void **state)
{
    expect_nothing_left(*state, false, &mode_error);
}

static void test_sums_fail(void **state)
{
    expect_nothing_left(*state, true, &sums_error);
}

static void test_publish_fails(void **state)
{
    struct store_fixture *f = *state;

    expect_nothing_left(f, false, &publish_error);
    store_remove(f);
    expect_nothing_left(f, true, &publish_error);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        STEPS_ON(test_follower_between_the_marks, STORE_MAPPED),
        STEPS_ON(test_old_file_keeps_its_word, STORE_MAPPED),
        STEPS_ON(test_helper_ends_first, STORE_MAPPED),
        STEPS_ON(test_identity_fails, STORE_MAPPED),
        STEPS_ON(test_identity_fails, STORE_PAGES),
        STEPS_ON(test_sums_fail, STORE_MAPPED),
        STEPS_ON(test_sums_fail, STORE_PAGES),
        STEPS_ON(test_publish_fails, STORE_MAPPED),
        STEPS_ON(test_publish_fails, STORE_PAGES),
        STEPS_ON(test_mode_fails, STORE_MAPPED),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
