/* Keys from the system's random source. The source itself is the test's: getrandom is defined here. */
#include "store_fixture.h"

#include <errno.h>
#include <string.h>
#include <sys/random.h>

/* What the random source gives next: errors first, then keys, then numbers that never come twice. */
static struct {
    int errors[4];
    size_t error_count;
    struct cellar_key keys[4];
    size_t key_count;
    size_t most_bytes;  /* of one call; 0: all that was asked for */
    size_t taken_bytes; /* of the first key */
    uint64_t seed;
} source;

ssize_t getrandom(void *buffer, size_t length_bytes, unsigned flags)
{
    (void)flags;
    if (source.error_count > 0) {
        errno = source.errors[0];
        memmove(source.errors, source.errors + 1, sizeof source.errors - sizeof source.errors[0]);
        source.error_count--;
        return -1;
    }
    if (source.most_bytes > 0 && length_bytes > source.most_bytes)
        length_bytes = source.most_bytes;
    if (source.key_count == 0) {
        support_bytes(0x5eed + source.seed++, buffer, length_bytes);
        return (ssize_t)length_bytes;
    }
    if (length_bytes > CELLAR_KEY_BYTES - source.taken_bytes)
        length_bytes = CELLAR_KEY_BYTES - source.taken_bytes;
    memcpy(buffer, source.keys[0].bytes + source.taken_bytes, length_bytes);
    source.taken_bytes += length_bytes;
    if (source.taken_bytes == CELLAR_KEY_BYTES) {
        memmove(source.keys, source.keys + 1, sizeof source.keys - sizeof source.keys[0]);
        source.key_count--;
        source.taken_bytes = 0;
    }
    return (ssize_t)length_bytes;
}

static void give_errors(int first, int second)
{
    source.errors[0] = first;
    source.errors[1] = second;
    source.error_count = second != 0 ? 2 : 1;
}

static void test_key_make(void **state)
{
    struct cellar_key key = store_key(9), expected = store_key(4);

    (void)state;
    give_errors(ENOSYS, 0);
    assert_result(cellar_key_make(&key), -ENOSYS);
    assert_memory_equal(key.bytes, store_key(9).bytes, CELLAR_KEY_BYTES);
    give_errors(EINTR, EINTR);
    source.keys[0] = expected;
    source.key_count = 1;
    source.most_bytes = 5; /* short answers are continued */
    assert_done(cellar_key_make(&key));
    source.most_bytes = 0;
    assert_memory_equal(key.bytes, expected.bytes, CELLAR_KEY_BYTES);
}

/* Keys of existing stores are passed over. */
static void test_key_make_new(void **state)
{
    struct store_fixture *f = *state;
    const char *broken = support_path(f->folder, "broken"), *second = support_path(f->folder, "second");
    const char *paths[] = {f->path, support_path(f->folder, "nowhere"), broken, second};
    struct cellar_config config = store_config(64, 100);
    struct cellar_writer_options options = store_options(f);
    struct cellar_writer *writer = NULL;
    struct cellar_key second_key = store_key(2), free_key = store_key(3), key;
    struct store_image image;

    store_close(store_new(f, 32, 100)); /* under store_key(1) */
    options.key = &second_key;
    assert_done(cellar_writer_create(second, &config, &options, &writer));
    support_file_write(broken, "no store", 8);
    image = store_image_take(f);
    source.keys[0] = f->key;
    source.keys[1] = second_key;
    source.keys[2] = f->key;
    source.keys[3] = free_key;
    source.key_count = 4;
    assert_done(cellar_key_make_new(paths, SUPPORT_COUNT(paths), &key));
    assert_memory_equal(key.bytes, free_key.bytes, CELLAR_KEY_BYTES);
    assert_int_equal(source.key_count, 0);
    store_image_compare(f, image);
    store_close(writer);

    source.keys[0] = f->key; /* no stores: any key will do */
    source.key_count = 1;
    assert_done(cellar_key_make_new(NULL, 0, &key));
    assert_memory_equal(key.bytes, f->key.bytes, CELLAR_KEY_BYTES);
    key = free_key;
    give_errors(EPERM, 0);
    assert_result(cellar_key_make_new(paths, SUPPORT_COUNT(paths), &key), -EPERM);
    assert_memory_equal(key.bytes, free_key.bytes, CELLAR_KEY_BYTES);
}

/* A store whose process-sync slots are broken has no key. */
static void test_key_of_broken_slots(void **state)
{
    struct store_fixture *f = *state;
    struct cellar_key key;

    store_close(store_new(f, 32, 100));
    store_break_slot(f, CELLAR_PROCESS_1);
    store_break_slot(f, CELLAR_PROCESS_2);
    source.keys[0] = f->key;
    source.key_count = 1;
    assert_done(cellar_key_make_new(&f->path, 1, &key));
    assert_memory_equal(key.bytes, f->key.bytes, CELLAR_KEY_BYTES);
}

/* A writer that is given no key can't be opened without the random source; nothing is left behind. */
static void test_writer_without_randomness(void **state)
{
    struct store_fixture *f = *state;
    struct cellar_config config = store_config(64, 100);
    struct cellar_writer *writer = NULL;

    give_errors(EIO, 0);
    assert_result(cellar_writer_create(f->path, &config, NULL, &writer), -EIO);
    assert_int_equal(store_folder_entries(f), 0);
    store_close(store_new(f, 32, 100));
    give_errors(EIO, 0);
    assert_result(cellar_writer_open(f->path, NULL, &writer), -EIO);
    assert_null(writer);
    store_close(store_again(f));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_key_make),
        STORE_ON(test_key_make_new, STORE_MAPPED),
        STORE_ON(test_key_of_broken_slots, STORE_PAGES),
        STORE_ON(test_writer_without_randomness, STORE_MAPPED),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
