/*
 * Broken bytes, one after the other: every bit of the header of small stores, all pairs of its words, every bit of the
 * footers of their chunks. A store that was broken so is opened for read and for write and shown to celldump's check;
 * each time the damage is found and named, or does not matter: the state is one that docs/format.md foretells, and no
 * cell is another.
 */
#include "fuzz_device.h"
#include "fuzz_open.h"
#include "support.h"

#include "format/format.h"

#include <cellar/store.h>
#include <errno.h>
#include <string.h>

enum { BYTES_PER_CELL = 100, MAX_INDEX = 4000, VALUES = 7, ROOM_BYTES = 20 * BYTES_PER_CELL, WORDS = 64 };

/* Of several chunks where images are large. */
enum { LARGE_BYTES = 66000, LARGE_VALUE = 4 };
static const size_t value_bytes[VALUES] = {0, 1, 94, 700, 300, 30, 250};

/* A store in plain memory, and what it stands at. */
struct image {
    bool large, process_broken;
    unsigned char *bytes;
    size_t length_bytes;
    uint64_t incarnation;
    uint32_t values[VALUES];
    int value_count;               /* all of them */
    struct cellar_state disk;      /* flushed */
    struct cellar_state committed; /* what a writer goes on with; the same as disk where it is clean */
};

/* What a change may lead to. */
struct allowed {
    bool corrupt;     /* an error */
    bool disk_root;   /* the flushed root, after the committed cells */
    bool disk_state;  /* the flushed state alone */
    bool boot_lost;   /* the flushed state alone for readers with the key: process sync is of another boot */
    bool other_check; /* celldump finds nothing */
    bool config;      /* another config */
};

static const struct cellar_key *key = &fuzz_open_key;

/* ---- images ---- */

static struct cellar_writer_options options_of(void)
{
    return (struct cellar_writer_options){
        .key = key, .resize_step_bytes = 1, .initial_cells = 3, .cache_bytes = 1, .eager_writes = CELLAR_EAGER_NONE};
}

static struct cellar_config config_of(void)
{
    struct cellar_config config = {.bytes_per_cell = BYTES_PER_CELL, .max_index = MAX_INDEX, .version = 7};

    memcpy(config.head, "a head for the flips", CELLAR_HEAD_BYTES);
    return config;
}

static size_t length_of(const struct image *image, int value)
{
    return image->large && value == LARGE_VALUE ? LARGE_BYTES : value_bytes[value];
}

static void put_values(struct image *image, struct cellar_writer *writer, int until)
{
    unsigned char *bytes = malloc(LARGE_BYTES);

    assert_non_null(bytes);
    for (; image->value_count < until; image->value_count++) {
        size_t length_bytes = length_of(image, image->value_count);

        support_bytes((uint64_t)image->value_count, bytes, length_bytes);
        assert_done(cellar_writer_write_value(writer, bytes, length_bytes, &image->values[image->value_count]));
    }
    assert_done(cellar_writer_set_root(writer, image->values[until - 1]));
    free(bytes);
}

static struct cellar_state state_of(const struct cellar_writer *writer)
{
    return (struct cellar_state){.next_index = cellar_writer_next(writer), .root_index = cellar_writer_root(writer)};
}

/* A store whose first four values are flushed. unflushed: the rest is only committed, and its writer died. */
static void make_image(struct image *image, bool large, bool unflushed)
{
    struct fuzz_device fuzz = {
        .capacity_bytes = 2 * LARGE_BYTES, .has_window = true, .incarnation = FUZZ_OPEN_INCARNATION};
    struct cellar_device *device = fuzz_device_open(&fuzz);
    struct cellar_writer_options options = options_of();
    struct cellar_config config = config_of();
    struct cellar_writer *writer;

    *image = (struct image){.large = large, .incarnation = fuzz.incarnation};
    assert_done(cellar_writer_create_on(device, &config, &options, &writer));
    put_values(image, writer, 4);
    assert_done(cellar_writer_flush(writer));
    image->disk = state_of(writer);
    put_values(image, writer, VALUES);
    assert_done(cellar_writer_commit(writer));
    image->committed = state_of(writer);
    if (unflushed) {
        cellar_writer_abandon(writer);
    } else {
        assert_done(cellar_writer_close(writer));
        image->disk = image->committed;
    }
    image->length_bytes = (size_t)image->committed.next_index * BYTES_PER_CELL;
    image->bytes = malloc(image->length_bytes);
    assert_non_null(image->bytes);
    memcpy(image->bytes, fuzz.bytes, image->length_bytes);
    assert_done(cellar_device_close(device));
}

enum { IMAGES = 3 };

/* A clean one, one whose writer died, and one whose process-sync slots are both broken. */
static int make_images(void **state, bool large)
{
    struct image *images = calloc(IMAGES, sizeof *images);

    assert_non_null(images);
    for (int i = 0; i < IMAGES; i++)
        make_image(&images[i], large, i == 1);
    images[2].process_broken = true;
    images[2].bytes[cellar_slot_offset(CELLAR_PROCESS_1) + CELLAR_SLOT_AT_NEXT] ^= 1;
    images[2].bytes[cellar_slot_offset(CELLAR_PROCESS_2) + CELLAR_SLOT_AT_ROOT] ^= 64;
    *state = images;
    return 0;
}

static int large_setup(void **state)
{
    return make_images(state, true);
}

static int small_setup(void **state)
{
    return make_images(state, false);
}

static int images_teardown(void **state)
{
    struct image *images = *state;

    for (int i = 0; i < IMAGES; i++)
        free(images[i].bytes);
    free(images);
    return 0;
}

/* ---- looking ---- */

static bool is_state(const struct cellar_snapshot *snapshot, uint32_t next_index, uint32_t root_index)
{
    return snapshot->next_index == next_index && snapshot->root_index == root_index;
}

/* Every value that lies below next is what it was. */
static void check_values(const struct image *image, const struct cellar_snapshot *snapshot)
{
    unsigned char *expected = malloc(LARGE_BYTES);

    assert_non_null(expected);
    for (int i = 0; i < image->value_count; i++) {
        size_t got = 0;
        void *bytes = NULL;

        if (image->values[i] >= snapshot->next_index)
            continue;
        assert_done(cellar_snapshot_copy_value(snapshot, image->values[i], &bytes, &got));
        assert_int_equal(got, length_of(image, i));
        support_bytes((uint64_t)i, expected, got);
        assert_true(memcmp(bytes, expected, got) == 0);
        free(bytes);
    }
    free(expected);
}

/* An error that a change of the header may lead to says what is wrong, and where. */
static void check_refusal(int error, const struct cellar_diagnostic *diagnostic)
{
    assert_true(error == CELLAR_ECORRUPT || error == -ENOTSUP || error == CELLAR_ERETIRED);
    assert_int_equal(diagnostic->error, error);
    assert_true(diagnostic->message[0] != '\0');
    assert_true(diagnostic->file_offset < CELLAR_HEADER_BYTES);
}

static struct cellar_device *open_image(const struct image *image, struct fuzz_device *fuzz, bool read_only,
                                        bool window)
{
    struct cellar_device *device;

    *fuzz = (struct fuzz_device){.capacity_bytes = image->length_bytes + (read_only ? 0 : ROOM_BYTES),
                                 .size_bytes = image->length_bytes,
                                 .read_only = read_only,
                                 .lends = window,
                                 .has_window = window,
                                 .incarnation = image->incarnation};
    device = fuzz_device_open(fuzz);
    memcpy(fuzz->bytes, image->bytes, image->length_bytes);
    return device;
}

/* A reader without the key, and one with it. */
static void check_read(const struct image *image, const struct allowed *allowed, bool window, bool with_key)
{
    struct cellar_diagnostic diagnostic = {.error = 0};
    struct cellar_reader_options options = {.cache_bytes = 1, .diagnostic = &diagnostic, .key = with_key ? key : NULL};
    struct cellar_snapshot snapshot;
    struct cellar_reader *reader;
    struct cellar_info info;
    struct fuzz_device fuzz;
    struct cellar_device *device = open_image(image, &fuzz, true, window);
    int error = cellar_reader_open_on(device, &options, &reader);

    if (error != 0) {
        if (with_key && error == CELLAR_EBADKEY) /* what tells the key is broken, and nothing is shown */
            error = CELLAR_ECORRUPT;
        else
            check_refusal(error, &diagnostic);
        assert_true(allowed->corrupt || with_key);
    } else {
        struct cellar_config config = config_of();

        snapshot = cellar_reader_snapshot(reader);
        cellar_reader_info(reader, &info);
        config.version = info.config.version;
        assert_true(allowed->config || cellar_config_equal(&info.config, &config));
        if (with_key)
            assert_true(is_state(&snapshot, image->committed.next_index, image->committed.root_index) ||
                        (allowed->boot_lost && is_state(&snapshot, image->disk.next_index, image->disk.root_index)));
        else
            assert_true(is_state(&snapshot, image->disk.next_index, image->disk.root_index));
        check_values(image, &snapshot);
        cellar_reader_close(reader);
    }
    assert_done(cellar_device_close(device));
}

/* The writer goes on: a value more, and all the others are what they were. */
static void go_on(const struct image *image, struct cellar_device *device, struct cellar_writer *writer,
                  const struct fuzz_device *fuzz)
{
    struct cellar_reader_options options = {.cache_bytes = 1};
    uint32_t next = cellar_writer_next(writer), index = 0;
    struct cellar_snapshot snapshot;
    struct cellar_reader *reader;
    unsigned char byte = 0;
    size_t got = 0;

    assert_done(cellar_writer_write_value(writer, "*", 1, &index));
    assert_true(index >= next);
    assert_done(cellar_writer_set_root(writer, index));
    assert_done(cellar_writer_close(writer));
    assert_true(memcmp(fuzz->bytes + 3 * BYTES_PER_CELL, image->bytes + 3 * BYTES_PER_CELL,
                       (size_t)(next - 3) * BYTES_PER_CELL) == 0);
    assert_done(cellar_reader_open_on(device, &options, &reader));
    snapshot = cellar_reader_snapshot(reader);
    assert_true(is_state(&snapshot, index + 1, index));
    assert_done(cellar_snapshot_read_value(&snapshot, index, &byte, 1, &got));
    assert_int_equal(byte, '*');
    cellar_reader_close(reader);
}

static void check_write(const struct image *image, const struct allowed *allowed, bool window)
{
    struct cellar_diagnostic diagnostic = {.error = 0};
    struct cellar_writer_options options = options_of();
    struct cellar_snapshot snapshot;
    struct cellar_writer *writer;
    struct fuzz_device fuzz;
    struct cellar_device *device = open_image(image, &fuzz, false, window);
    uint32_t next = image->committed.next_index;
    int error;

    options.diagnostic = &diagnostic;
    error = cellar_writer_open_on(device, &options, &writer);
    if (error != 0) {
        assert_true(allowed->corrupt);
        check_refusal(error, &diagnostic);
        assert_true(fuzz.size_bytes == image->length_bytes &&
                    memcmp(fuzz.bytes, image->bytes, image->length_bytes) == 0);
    } else {
        snapshot = cellar_writer_snapshot(writer);
        assert_true(is_state(&snapshot, next, image->committed.root_index) ||
                    (allowed->disk_root && is_state(&snapshot, next, image->disk.root_index)) ||
                    (allowed->disk_state && is_state(&snapshot, image->disk.next_index, image->disk.root_index)));
        check_values(image, &snapshot);
        go_on(image, device, writer, &fuzz);
    }
    assert_done(cellar_device_close(device));
}

static void check_image(const struct image *image, const struct allowed *allowed)
{
    int exit_code = fuzz_open_dump(image->bytes, image->length_bytes, 6, key);

    assert_true(allowed->other_check || exit_code != 0);
    for (int window = 0; window < 2; window++) {
        check_read(image, allowed, window != 0, false);
        check_read(image, allowed, window != 0, true);
        check_write(image, allowed, window != 0);
    }
}

/* ---- the header ---- */

static bool is_within(unsigned at, unsigned first, unsigned length)
{
    return at >= first && at < first + length;
}

/* What a change at this byte of the header may lead to. */
static struct allowed allowed_at(const struct image *image, unsigned at)
{
    bool unflushed = image->committed.root_index != image->disk.root_index;
    struct allowed allowed = {.other_check = true, .disk_state = image->process_broken};

    if (at < CELLAR_AT_VERSION || is_within(at, CELLAR_AT_CONFIG_CHECK, 4)) {
        allowed.corrupt = true; /* no less: celldump must say so */
        allowed.other_check = false;
    } else if (is_within(at, CELLAR_AT_SLOTS, CELLAR_SLOT_COUNT * CELLAR_SLOT_BYTES)) {
        /* The other slot of the pair says the same. The second hash is nobody's but for the key. */
        allowed.other_check =
            is_within((at - CELLAR_AT_SLOTS) % CELLAR_SLOT_BYTES, CELLAR_SLOT_AT_KEYED_HASH, CELLAR_HASH_BYTES);
    } else if (is_within(at, CELLAR_AT_BOOT_MARK, 8) || is_within(at, CELLAR_AT_BINDING, 8)) {
        allowed.disk_root = unflushed; /* as after a power loss */
        allowed.boot_lost = is_within(at, CELLAR_AT_BOOT_MARK + 4, 4);
    } else if (is_within(at, CELLAR_AT_FLAGS, 4)) {
        allowed.corrupt = true; /* features of later versions, retired */
        allowed.disk_root = unflushed;
    }
    return allowed;
}

static void test_every_bit_of_the_header(void **state)
{
    struct image *images = *state;

    for (int i = 0; i < IMAGES; i++) {
        for (unsigned bit = 0; bit < 8 * CELLAR_HEADER_BYTES; bit++) {
            struct allowed allowed = allowed_at(&images[i], bit / 8);

            images[i].bytes[bit / 8] ^= (unsigned char)(1u << bit % 8);
            check_image(&images[i], &allowed);
            images[i].bytes[bit / 8] ^= (unsigned char)(1u << bit % 8);
        }
    }
}

/* Words a and b become fill_a and fill_b in all of their bytes. */
static void check_pair(const struct image *image, unsigned a, int fill_a, unsigned b, int fill_b)
{
    struct image broken = *image;
    struct allowed allowed = {.corrupt = true,
                              .disk_root = true,
                              .disk_state = true,
                              .boot_lost = true,
                              .other_check = true,
                              .config = a == CELLAR_AT_CONFIG_CHECK / 4 || b == CELLAR_AT_CONFIG_CHECK / 4};

    broken.bytes = malloc(image->length_bytes);
    assert_non_null(broken.bytes);
    memcpy(broken.bytes, image->bytes, image->length_bytes);
    memset(broken.bytes + (size_t)a * 4, fill_a, 4);
    memset(broken.bytes + (size_t)b * 4, fill_b, 4);
    check_read(&broken, &allowed, true, false);
    check_read(&broken, &allowed, true, true);
    check_write(&broken, &allowed, (a + b) % 2 == 0);
    free(broken.bytes);
}

static void test_pairs_of_header_words(void **state)
{
    static const int fills[] = {0, 0xff};
    const struct image *images = *state;

    for (int i = 0; i < IMAGES; i++) {
        for (unsigned a = 0; a < WORDS; a++) {
            for (unsigned b = a + 1; b < WORDS; b++) {
                for (unsigned fill = 0; fill < 4; fill++)
                    check_pair(&images[i], a, fills[fill % 2], b, fills[fill / 2]);
            }
        }
    }
}

/* ---- footers ---- */

/* Where the footers of all chunks lie. Returns how many there are. */
static size_t find_footers(const struct image *image, uint64_t offsets[], size_t capacity)
{
    size_t count = 0;

    for (int i = 0; i < image->value_count; i++) {
        uint32_t last = image->values[i];

        do {
            uint64_t offset = ((uint64_t)last + 1) * BYTES_PER_CELL - CELLAR_FOOTER_BYTES;

            assert_true(count < capacity);
            offsets[count++] = offset;
            last = cellar_footer_decode(image->bytes + offset).cdr;
        } while (last != 0);
    }
    return count;
}

/* The pieces of a value lie in the snapshot's own cells. */
static void check_pieces(const struct cellar_snapshot *snapshot, uint32_t index)
{
    const unsigned char *first = snapshot->window + (size_t)snapshot->start_index * BYTES_PER_CELL;
    const unsigned char *end = snapshot->window + (size_t)snapshot->next_index * BYTES_PER_CELL;
    struct cellar_piece pieces[64];
    size_t count = 0;

    assert_done(cellar_snapshot_value_pieces(snapshot, index, pieces, SUPPORT_COUNT(pieces), &count));
    for (size_t i = 0; i < count; i++) {
        const unsigned char *piece = pieces[i].bytes;

        assert_true(piece >= first && piece <= end && pieces[i].length_bytes <= (size_t)(end - piece));
    }
}

/* A value whose chain may be broken: an error that says where, or bytes of the snapshot's own cells. */
static void check_any_value(const struct cellar_snapshot *snapshot, uint32_t index)
{
    uint64_t end = (uint64_t)snapshot->next_index * BYTES_PER_CELL;
    struct cellar_diagnostic diagnostic = {.error = 0};
    uint64_t size_bytes = 0;
    void *bytes = NULL;
    size_t got = 0;
    int error = cellar_snapshot_value_size(snapshot, index, &size_bytes);

    assert_int_equal(cellar_snapshot_check_value(snapshot, index, &diagnostic), error);
    assert_int_equal(cellar_snapshot_copy_value(snapshot, index, &bytes, &got), error);
    if (error != 0) {
        assert_int_equal(error, CELLAR_ECORRUPT);
        assert_true(diagnostic.file_offset < end);
        return;
    }
    assert_int_equal(got, size_bytes);
    assert_true(size_bytes <= end - (uint64_t)snapshot->start_index * BYTES_PER_CELL);
    free(bytes);
    if (snapshot->window != NULL)
        check_pieces(snapshot, index);
}

static void check_broken_footer(const struct image *image, bool window)
{
    struct cellar_reader_options options = {.cache_bytes = 1, .key = key};
    struct cellar_snapshot snapshot;
    struct cellar_reader *reader;
    struct fuzz_device fuzz;
    struct cellar_device *device = open_image(image, &fuzz, true, window);

    assert_done(cellar_reader_open_on(device, &options, &reader));
    snapshot = cellar_reader_snapshot(reader);
    for (int i = 0; i < image->value_count; i++)
        check_any_value(&snapshot, image->values[i]);
    cellar_reader_close(reader);
    assert_done(cellar_device_close(device));
}

static void test_every_bit_of_footers(void **state)
{
    struct image *image = *state;
    uint64_t offsets[2 * VALUES];
    size_t count = find_footers(image, offsets, SUPPORT_COUNT(offsets));

    assert_true(count > VALUES);
    for (size_t i = 0; i < count; i++) {
        for (unsigned bit = 0; bit < 8 * CELLAR_FOOTER_BYTES; bit++) {
            unsigned char *byte = image->bytes + offsets[i] + bit / 8;

            *byte ^= (unsigned char)(1u << bit % 8);
            check_broken_footer(image, true);
            check_broken_footer(image, false);
            fuzz_open_dump(image->bytes, image->length_bytes, 3, key);
            *byte ^= (unsigned char)(1u << bit % 8);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_every_bit_of_the_header, small_setup, images_teardown),
        cmocka_unit_test_setup_teardown(test_pairs_of_header_words, small_setup, images_teardown),
        cmocka_unit_test_setup_teardown(test_every_bit_of_footers, large_setup, images_teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
