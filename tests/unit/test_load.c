/* What a cache's source is asked for: sizes, copies of parts of a page, and what it says where nothing is. */
#include "page_test.h"

#include "page/load.h"

enum { PAGE = 64, SIZE = 10 * PAGE - 10, SHORT = 3 * PAGE };

static size_t available(struct cellar_source *source, struct cellar_device *device, uint64_t offset, size_t length)
{
    const struct cellar_place place = {.device = device, .offset = offset};
    size_t got = 12345;

    assert_int_equal(cellar_source_available(source, &place, length, &got), 0);
    return got;
}

/* The size of the source's own device is remembered, that of another one is not. */
static void test_sizes_that_are_asked_for(void **state)
{
    struct trial *trial = new_trial(SIZE, 1), *beside = new_trial(SHORT, 2);
    struct cellar_device *device = open_trial(trial, TRIAL_COPIES), *other = open_trial(beside, TRIAL_COPIES);
    struct cellar_source source = {.device = device};

    (void)state;
    assert_int_equal(available(&source, device, 0, PAGE), PAGE);
    assert_int_equal(available(&source, device, 5 * PAGE, PAGE), PAGE);
    assert_int_equal(available(&source, device, SIZE - PAGE, PAGE), PAGE); /* just as many as there are */
    assert_int_equal(trial->sizes, 1);
    assert_int_equal(available(&source, device, SIZE - PAGE, PAGE + 1), PAGE);
    assert_int_equal(trial->sizes, 2);
    assert_int_equal(available(&source, device, SIZE, 1), 0);
    assert_int_equal(available(&source, device, SIZE + 1, 1), 0);
    assert_int_equal(trial->sizes, 4);
    for (unsigned asked = 1; asked <= 2; asked++) {
        assert_int_equal(available(&source, other, SHORT - 10, PAGE), 10);
        assert_int_equal(available(&source, other, 5 * PAGE, PAGE), 0);
        assert_int_equal(beside->sizes, 2 * asked);
    }
    assert_int_equal(source.size_bytes, SIZE);
    assert_int_equal(available(&source, device, 5 * PAGE, PAGE), PAGE);
    assert_int_equal(trial->sizes, 4);
    trial->size_bytes = SHORT;
    assert_int_equal(available(&source, device, 5 * PAGE, PAGE), PAGE); /* as it was */
    cellar_source_forget_size(&source);
    assert_int_equal(available(&source, device, 5 * PAGE, PAGE), 0);
    assert_int_equal(cellar_device_close(device), 0);
    assert_int_equal(cellar_device_close(other), 0);
    free(trial);
    free(beside);
}

static void test_size_that_is_unknown(void **state)
{
    struct trial *trial = new_trial(SIZE, 1);
    struct cellar_device *device = open_trial(trial, TRIAL_COPIES);
    struct cellar_source source = {.device = device};
    const struct cellar_place place = {.device = device};
    size_t length = 12345;

    (void)state;
    trial->size_error = -EIO;
    assert_int_equal(cellar_source_available(&source, &place, PAGE, &length), -EIO);
    assert_int_equal(length, 12345);
    trial->size_error = 0;
    assert_int_equal(cellar_source_available(&source, &place, PAGE, &length), 0);
    assert_int_equal(length, PAGE);
    assert_int_equal(cellar_device_close(device), 0);
    free(trial);
}

/* A device that has been cut to nothing: once that is known, not even its first byte is taken to be there. */
static void test_size_that_is_forgotten(void **state)
{
    struct trial *trial = new_trial(SIZE, 1);
    struct cellar_device *device = open_trial(trial, TRIAL_LENDS);
    struct cellar_source source = {.device = device, .lends = true};
    const void *bytes = trial;
    size_t length = 12345;

    (void)state;
    assert_int_equal(available(&source, device, 0, PAGE), PAGE);
    trial->size_bytes = 0;
    cellar_source_forget_size(&source);
    assert_int_equal(available(&source, device, 0, 1), 0);
    trial->size_bytes = SIZE;
    assert_int_equal(available(&source, device, 0, PAGE), PAGE);
    trial->size_bytes = 0;
    assert_int_equal(cellar_source_run(&source, 0, 1, &bytes, &length), 0); /* asks every time */
    assert_int_equal(length, 0);
    assert_ptr_equal(bytes, trial);
    assert_int_equal(trial->loads, 0);
    trial->size_bytes = SIZE;
    assert_int_equal(cellar_source_run(&source, SIZE - 10, PAGE, &bytes, &length), 0);
    assert_int_equal(length, 10);
    assert_memory_equal(bytes, trial->bytes + SIZE - 10, 10);
    cellar_source_end_run(&source, bytes, length);
    assert_int_equal(trial->lent, 0);
    assert_int_equal(cellar_device_close(device), 0);
    free(trial);
}

/* Behind the end a load is done at once, and leaves a frame with nothing in it. */
static void test_load_of_nothing(void **state)
{
    struct trial *trial = new_trial(SIZE, 1);

    (void)state;
    for (enum trial_kind kind = TRIAL_LENDS; kind <= TRIAL_READ_ONLY; kind++) {
        struct cellar_device *device = open_trial(trial, kind);
        struct cellar_source source = {.device = device, .lends = kind == TRIAL_LENDS};
        struct cellar_place place = {.device = device, .offset = 20 * PAGE};
        unsigned char buffer[PAGE];
        struct cellar_frame frame = {.buffer = buffer, .length = PAGE};

        assert_int_equal(cellar_source_load(&source, &place, place.offset, PAGE, &frame), 0);
        assert_int_equal(frame.length, 0);
        assert_int_equal(trial->reads, 0);
        assert_int_equal(trial->loads, 0);
        assert_int_equal(cellar_device_close(device), 0);
    }
    free(trial);
}

/* ---- a map function ---- */

struct mapping {
    unsigned char bytes[PAGE];
    size_t length; /* what it gives */
    uint64_t address;
    size_t wanted;
    int lent;
};

static int map(void *user, uint64_t address, size_t length, const void **ret_bytes, size_t *ret_length)
{
    struct mapping *mapping = user;

    mapping->address = address;
    mapping->wanted = length;
    mapping->lent++;
    *ret_bytes = mapping->bytes;
    *ret_length = mapping->length;
    return 0;
}

static void unmap(void *user, const void *bytes, size_t length)
{
    struct mapping *mapping = user;

    assert_ptr_equal(bytes, mapping->bytes);
    assert_int_equal(length, mapping->length);
    mapping->lent--;
}

/* The bytes that were asked for, in their places, and not one beside them. */
static void test_copy_of_a_part(void **state)
{
    struct mapping mapping = {.length = PAGE};
    struct cellar_source source = {.map = map, .unmap = unmap, .user = &mapping};

    (void)state;
    fill_random(mapping.bytes, PAGE, 3);
    for (size_t from = 0; from < PAGE; from += 7) {
        for (size_t to = from + 1; to <= PAGE; to++) {
            unsigned char expected[3 * PAGE] = {0}, got[3 * PAGE] = {0};

            memcpy(expected + PAGE + from, mapping.bytes + from, to - from);
            assert_int_equal(cellar_source_copy(&source, 5 * PAGE, PAGE, from, to, got + PAGE), 0);
            assert_memory_equal(got, expected, sizeof got);
            assert_int_equal(mapping.address, 5 * PAGE);
            assert_int_equal(mapping.wanted, PAGE);
            assert_int_equal(mapping.lent, 0);
        }
    }
}

/* All of them, or none. */
static void test_copy_past_the_end(void **state)
{
    struct mapping mapping = {.length = 20};
    struct cellar_source source = {.map = map, .unmap = unmap, .user = &mapping};
    unsigned char got[PAGE] = {0};

    (void)state;
    fill_random(mapping.bytes, PAGE, 4);
    assert_int_equal(cellar_source_copy(&source, 0, PAGE, 10, 21, got), CELLAR_EBOUNDS);
    for (size_t i = 0; i < PAGE; i++)
        assert_int_equal(got[i], 0);
    assert_int_equal(mapping.lent, 0);
    assert_int_equal(cellar_source_copy(&source, 0, PAGE, 10, 20, got), 0);
    assert_memory_equal(got + 10, mapping.bytes + 10, 10);
    mapping.length = 0; /* nothing to give back */
    mapping.lent = 0;
    assert_int_equal(cellar_source_copy(&source, 0, PAGE, 0, 1, got), CELLAR_EBOUNDS);
    assert_int_equal(mapping.lent, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sizes_that_are_asked_for), cmocka_unit_test(test_size_that_is_unknown),
        cmocka_unit_test(test_size_that_is_forgotten),   cmocka_unit_test(test_load_of_nothing),
        cmocka_unit_test(test_copy_of_a_part),           cmocka_unit_test(test_copy_past_the_end),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
