/* Readers that ask for it compare every page with its checksum when they load it. */
#include "sums_test.h"

#include <pthread.h>
#include <stdatomic.h>

static char *store_of(void **state)
{
    return support_path(*state, "store");
}

static char *sums_of(void **state)
{
    return support_path(*state, "store.cellar-sums");
}

static struct cellar_reader_options verify_options(struct cellar_diagnostic *diagnostic)
{
    return (struct cellar_reader_options){.verify = true, .diagnostic = diagnostic};
}

static struct cellar_reader *open_reader(const char *path, enum cellar_device_choice device)
{
    struct cellar_reader_options options = verify_options(NULL);
    struct cellar_reader *reader;

    options.device = device;
    assert_done(cellar_reader_open(path, &options, &reader));
    return reader;
}

static struct cellar_info info_of(const struct cellar_reader *reader)
{
    struct cellar_info info;

    cellar_reader_info(reader, &info);
    return info;
}

static void read_all(void **state, enum cellar_device_choice device)
{
    struct cellar_snapshot snapshot;
    struct cellar_reader *reader;

    sums_make(store_of(state), 30000);
    reader = open_reader(store_of(state), device);
    assert_int_equal(info_of(reader).data_path, CELLAR_PATH_PAGES);
    assert_int_equal(info_of(reader).sums, CELLAR_SUMS_GOOD);
    snapshot = cellar_reader_snapshot(reader);
    store_assert_cells(&snapshot);
    assert_int_equal(info_of(reader).unverified_pages, 0);
    if (!support_cache_debug())
        assert_int_equal(info_of(reader).verified_pages, 30008 / 128 + 1);
    cellar_reader_close(reader);
}

static void test_all_holds(void **state)
{
    read_all(state, CELLAR_DEVICE_AUTO);
}

static void test_all_holds_directly(void **state)
{
    if (!support_has_direct(*state))
        support_skip("no O_DIRECT here");
    read_all(state, CELLAR_DEVICE_DIRECT);
}

/* The cells of the rotten page give an error, the others what they hold. */
static void test_rot_is_found_on_first_touch(void **state)
{
    struct cellar_snapshot snapshot;
    struct cellar_reader *reader;
    unsigned char cell[SUMS_BYTES_PER_CELL], expected[SUMS_BYTES_PER_CELL];

    sums_make(store_of(state), 3000);
    sums_flip(store_of(state), 20 * 4096 + 1234, 5);
    reader = open_reader(store_of(state), CELLAR_DEVICE_AUTO);
    snapshot = cellar_reader_snapshot(reader);
    for (uint32_t index = snapshot.start_index; index < snapshot.next_index; index++) {
        int error = cellar_snapshot_read(&snapshot, index, 0, cell, sizeof cell);

        assert_int_equal(error, index / 128 == 20 ? CELLAR_ECHECKSUM : 0);
        store_cell_bytes(index, expected, sizeof expected);
        if (error == 0)
            assert_memory_equal(cell, expected, sizeof cell);
    }
    /* Mended meanwhile: nothing of the error is kept. */
    sums_flip(store_of(state), 20 * 4096 + 1234, 5);
    assert_done(cellar_snapshot_read(&snapshot, 20 * 128 + 3, 0, cell, sizeof cell));
    cellar_reader_close(reader);
}

static void test_values(void **state)
{
    struct cellar_writer *writer = sums_create(store_of(state), CELLAR_DEVICE_AUTO);
    static unsigned char value[200000];
    struct cellar_snapshot snapshot;
    struct cellar_reader *reader;
    size_t size_bytes;
    uint32_t index;
    void *bytes;

    support_bytes(4, value, sizeof value);
    assert_done(cellar_writer_write_value(writer, value, sizeof value, &index));
    store_close(writer);
    reader = open_reader(store_of(state), CELLAR_DEVICE_AUTO);
    snapshot = cellar_reader_snapshot(reader);
    assert_done(cellar_snapshot_copy_value(&snapshot, index, &bytes, &size_bytes));
    assert_int_equal(size_bytes, sizeof value);
    assert_memory_equal(bytes, value, sizeof value);
    free(bytes);
    cellar_reader_close(reader);
    sums_flip(store_of(state), 100000, 1);
    reader = open_reader(store_of(state), CELLAR_DEVICE_AUTO);
    snapshot = cellar_reader_snapshot(reader);
    assert_result(cellar_snapshot_copy_value(&snapshot, index, &bytes, &size_bytes), CELLAR_ECHECKSUM);
    cellar_reader_close(reader);
}

static void test_refusals(void **state)
{
    struct cellar_diagnostic diagnostic;
    struct cellar_reader_options options = verify_options(&diagnostic);
    struct cellar_config config = store_config(32, 1000);
    struct cellar_device *device;
    struct cellar_reader *reader;
    struct cellar_writer *writer;

    assert_done(cellar_writer_create(support_path(*state, "without"), &config, NULL, &writer));
    store_close(writer);
    assert_result(cellar_reader_open(support_path(*state, "without"), &options, &reader), -ENOTSUP);
    sums_make(store_of(state), 100);
    options.device = CELLAR_DEVICE_MAPPED;
    assert_result(cellar_reader_open(store_of(state), &options, &reader), -EINVAL);
    options.device = CELLAR_DEVICE_AUTO;
    assert_done(cellar_device_open_pread(store_of(state), CELLAR_OPEN_READ, 0, &device));
    assert_result(cellar_reader_open_on(device, &options, &reader), -ENOTSUP);
    cellar_device_close(device);
    assert_int_equal(unlink(sums_of(state)), 0);
    assert_result(cellar_reader_open(store_of(state), &options, &reader), CELLAR_ESUMS);
    assert_non_null(strstr(diagnostic.message, "store.cellar-sums"));
    sums_make(support_path(*state, "other"), 100);
    sums_copy(support_path(*state, "other.cellar-sums"), sums_of(state));
    assert_result(cellar_reader_open(store_of(state), &options, &reader), CELLAR_ESUMS);
    assert_non_null(strstr(diagnostic.message, "another store"));
}

/* The last sum does not hold: the reader opens all the same, and the error comes with the page. */
static void test_rotten_tail(void **state)
{
    struct cellar_snapshot snapshot;
    struct cellar_reader *reader;
    unsigned char cell[SUMS_BYTES_PER_CELL];

    sums_make(store_of(state), 1000);
    sums_flip(store_of(state), 1007 * 32, 0);
    reader = open_reader(store_of(state), CELLAR_DEVICE_AUTO);
    snapshot = cellar_reader_snapshot(reader);
    assert_done(cellar_snapshot_read(&snapshot, 10, 0, cell, sizeof cell));
    assert_result(cellar_snapshot_read(&snapshot, 1000, 0, cell, sizeof cell), CELLAR_ECHECKSUM);
    cellar_reader_close(reader);
}

/* ---- beside a writer ---- */

enum { FLUSHES = 300, THREADS = 4 };

struct race {
    const char *path;
    const struct cellar_key *key;
    atomic_bool done;
    atomic_int problem; /* a line, or 0 */
};

/* Follows the writer, reads the newest cells and some others. Any error at all is a false alarm. */
static void *follow(void *user)
{
    struct race *race = user;
    struct cellar_reader_options options = {.verify = true, .key = race->key, .cache_bytes = 64 << 10};
    struct cellar_reader *reader;
    uint64_t random = (uint64_t)(uintptr_t)&options;

    if (cellar_reader_open(race->path, &options, &reader) != 0) {
        atomic_store(&race->problem, __LINE__);
        return NULL;
    }
    while (!atomic_load(&race->done)) {
        struct cellar_snapshot snapshot = cellar_reader_snapshot(reader);
        uint32_t cells = snapshot.next_index - snapshot.start_index;
        uint32_t last = cells > 20 ? 20 : cells;

        if (!store_cells_hold(&snapshot, snapshot.next_index - last, last))
            atomic_store(&race->problem, __LINE__);
        if (cells > 0 &&
            !store_cells_hold(&snapshot, snapshot.start_index + (uint32_t)support_random_below(&random, cells), 1))
            atomic_store(&race->problem, __LINE__);
        if (cellar_reader_refresh(reader) < 0)
            atomic_store(&race->problem, __LINE__);
    }
    cellar_reader_close(reader);
    return NULL;
}

static void run_race(void **state, enum cellar_device_choice device, bool with_key)
{
    struct cellar_writer *writer = sums_create(store_of(state), device);
    struct race race = {.path = store_of(state)};
    pthread_t threads[THREADS];
    struct cellar_key key;
    uint64_t random = 1;

    cellar_writer_key(writer, &key);
    race.key = with_key ? &key : NULL;
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, follow, &race), 0);
    for (int i = 0; i < FLUSHES && atomic_load(&race.problem) == 0; i++) {
        store_append(writer, 1 + (uint32_t)support_random_below(&random, 60));
        assert_done(cellar_writer_commit(writer));
        store_append(writer, 1 + (uint32_t)support_random_below(&random, 60));
        assert_done(cellar_writer_flush(writer));
    }
    atomic_store(&race.done, true);
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    assert_int_equal(atomic_load(&race.problem), 0);
    store_close(writer);
    sums_assert_good(store_of(state));
}

static void test_beside_a_mapped_writer(void **state)
{
    run_race(state, CELLAR_DEVICE_AUTO, false);
}

static void test_beside_a_writer_with_its_key(void **state)
{
    run_race(state, CELLAR_DEVICE_AUTO, true);
}

static void test_beside_a_writer_by_pages(void **state)
{
    run_race(state, CELLAR_DEVICE_PAGES, true);
}

/* Checks, and opens readers, again and again. Anything but good and behind is a false alarm. */
static void *check(void *user)
{
    struct race *race = user;

    while (!atomic_load(&race->done)) {
        struct cellar_reader_options options = {.verify = true};
        struct cellar_sums_report report;
        struct cellar_reader *reader;

        if (cellar_sums_check(race->path, NULL, &report) != 0 || report.rotten_blocks > 0 || report.tail_rotten ||
            report.broken_sectors > 0 || (report.state != CELLAR_SUMS_GOOD && report.state != CELLAR_SUMS_BEHIND))
            atomic_store(&race->problem, __LINE__);
        if (cellar_reader_open(race->path, &options, &reader) != 0)
            atomic_store(&race->problem, __LINE__);
        else
            cellar_reader_close(reader);
    }
    return NULL;
}

static void test_checked_beside_a_writer(void **state)
{
    struct cellar_writer *writer = sums_create(store_of(state), CELLAR_DEVICE_AUTO);
    struct race race = {.path = store_of(state)};
    pthread_t threads[2];

    for (int i = 0; i < 2; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, check, &race), 0);
    for (int i = 0; i < 4 * FLUSHES && atomic_load(&race.problem) == 0; i++) {
        store_append(writer, 7);
        assert_done(cellar_writer_flush(writer));
    }
    atomic_store(&race.done, true);
    for (int i = 0; i < 2; i++)
        pthread_join(threads[i], NULL);
    assert_int_equal(atomic_load(&race.problem), 0);
    store_close(writer);
}

/* A reader of the store before truncate keeps it, and its sums; a new one has the new. */
static void test_truncate(void **state)
{
    struct cellar_writer *writer = sums_create(store_of(state), CELLAR_DEVICE_AUTO);
    struct cellar_reader *reader, *newer;
    struct cellar_snapshot snapshot;

    store_append(writer, 2000);
    assert_done(cellar_writer_flush(writer));
    reader = open_reader(store_of(state), CELLAR_DEVICE_AUTO);
    assert_done(cellar_writer_truncate(writer, 0));
    store_append(writer, 30);
    assert_done(cellar_writer_flush(writer));
    snapshot = cellar_reader_snapshot(reader);
    store_assert_cells(&snapshot);
    assert_int_equal(info_of(reader).unverified_pages, 0);
    assert_result(cellar_reader_refresh(reader), CELLAR_ERETIRED);
    newer = open_reader(store_of(state), CELLAR_DEVICE_AUTO);
    snapshot = cellar_reader_snapshot(newer);
    assert_int_equal(snapshot.next_index, 38);
    store_assert_cells(&snapshot);
    cellar_reader_close(newer);
    cellar_reader_close(reader);
    store_close(writer);
}

#define ON_FOLDER(test) cmocka_unit_test_setup_teardown(test, support_folder_setup, support_folder_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        ON_FOLDER(test_all_holds),
        ON_FOLDER(test_all_holds_directly),
        ON_FOLDER(test_rot_is_found_on_first_touch),
        ON_FOLDER(test_values),
        ON_FOLDER(test_refusals),
        ON_FOLDER(test_rotten_tail),
        ON_FOLDER(test_beside_a_mapped_writer),
        ON_FOLDER(test_beside_a_writer_with_its_key),
        ON_FOLDER(test_beside_a_writer_by_pages),
        ON_FOLDER(test_checked_beside_a_writer),
        ON_FOLDER(test_truncate),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
