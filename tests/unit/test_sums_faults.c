/*
 * Stores with checksums under a system whose calls fail, each once: making, writing, truncating and opening one.
 * Whatever fails, the store is right, and its checksums give no false alarm.
 */
#include "system_fault.h"

#include "sums_test.h"

#include <limits.h>

enum { CANNOT_DROP = -1000 };

static const enum system_call faulty[] = {
    SYSTEM_OPEN,      SYSTEM_FSTAT,     SYSTEM_PREAD,     SYSTEM_PWRITEV, SYSTEM_FSYNC,  SYSTEM_FDATASYNC, SYSTEM_MSYNC,
    SYSTEM_FALLOCATE, SYSTEM_FTRUNCATE, SYSTEM_RENAMEAT2, SYSTEM_UNLINK,  SYSTEM_FCHMOD, SYSTEM_CLOSE,
};

static int setup(void **state)
{
    system_heal();
    return support_folder_setup(state);
}

static int teardown(void **state)
{
    system_heal();
    return support_folder_teardown(state);
}

/* After anything: no rot, nothing stale. */
static void assert_sound(const char *path)
{
    struct sums_found found = sums_check(path);

    assert_int_equal(found.rot_count, 0);
    assert_int_not_equal(found.report.state, CELLAR_SUMS_STALE);
    assert_int_equal(found.report.broken_sectors, 0);
}

/* The next writer opens it, goes on, and all is well then (a lost file stays lost until it is rebuilt). */
static void assert_goes_on(const char *path)
{
    struct cellar_writer *writer = sums_open(path);
    struct cellar_snapshot snapshot = cellar_writer_snapshot(writer);

    store_assert_cells(&snapshot);
    store_append(writer, 40);
    store_close(writer);
    assert_sound(path);
    if (sums_state(path) == CELLAR_SUMS_LOST)
        assert_done(cellar_sums_rebuild(path, NULL));
    sums_assert_good(path);
}

/* A life; the first error ends it. Asserts nothing while calls fail. */
static int live(const char *path, enum cellar_device_choice device)
{
    struct cellar_config config = store_config(SUMS_BYTES_PER_CELL, SUMS_MAX_INDEX);
    struct cellar_writer_options options = sums_options(device);
    unsigned char cells[300 * SUMS_BYTES_PER_CELL];
    struct cellar_writer *writer;
    uint32_t index;
    int close_error, error = cellar_writer_create(path, &config, &options, &writer);

    if (error != 0)
        return error;
    for (int round = 0; error == 0 && round < 2; round++) {
        for (uint32_t i = 0; i < 300; i++)
            store_cell_bytes(cellar_writer_next(writer) + i, cells + i * SUMS_BYTES_PER_CELL, SUMS_BYTES_PER_CELL);
        error = cellar_writer_append(writer, cells, 300, &index);
        if (error == 0)
            error = cellar_writer_flush(writer);
        if (error == 0 && round == 0)
            error = cellar_writer_truncate(writer, 0);
    }
    close_error = cellar_writer_close(writer);
    if (error == 0 && close_error == 0) {
        error = cellar_writer_open(path, &options, &writer);
        if (error == 0)
            error = cellar_writer_close(writer);
    }
    return error != 0 ? error : close_error;
}

static void fail_each(const char *path, enum system_call call, enum cellar_device_choice device)
{
    for (int nth = 1;; nth += nth < 20 ? 1 : 3) {
        bool reached;

        system_fail(call, nth, 1, EIO);
        (void)live(path, device);
        reached = system_calls(call) >= nth;
        system_heal();
        if (access(path, F_OK) == 0) {
            assert_sound(path);
            assert_goes_on(path);
            assert_int_equal(unlink(path), 0);
        }
        if (!reached)
            return;
    }
}

static void test_each_call_fails(void **state)
{
    for (size_t i = 0; i < SUPPORT_COUNT(faulty); i++) {
        fail_each(support_path(*state, "store"), faulty[i], CELLAR_DEVICE_AUTO);
        if (faulty[i] == SYSTEM_PREAD || faulty[i] == SYSTEM_PWRITEV || faulty[i] == SYSTEM_FDATASYNC)
            fail_each(support_path(*state, "store"), faulty[i], CELLAR_DEVICE_PAGES);
    }
}

/* No checksum file can be made: no store is, and nothing stays. */
static void test_name_too_long(void **state)
{
    struct cellar_config config = store_config(32, 1000);
    struct cellar_writer_options options = sums_options(CELLAR_DEVICE_AUTO);
    struct cellar_writer *writer;
    char name[NAME_MAX + 1];

    memset(name, 'n', sizeof name);
    name[NAME_MAX - 10] = '\0';
    assert_result(cellar_writer_create(support_path(*state, name), &config, &options, &writer), -ENAMETOOLONG);
    assert_int_not_equal(access(support_path(*state, name), F_OK), 0);
    assert_int_equal(rmdir(*state), 0); /* empty */
    assert_int_equal(mkdir(*state, 0700), 0);
}

static int write_as_anybody(void *user)
{
    struct cellar_writer_options options = sums_options(CELLAR_DEVICE_AUTO);
    unsigned char cells[100 * SUMS_BYTES_PER_CELL] = {0};
    struct cellar_writer *writer = NULL;
    uint32_t index;

    if (!support_drop_root())
        return CANNOT_DROP;
    SUPPORT_CHILD_NEEDS(cellar_writer_open(user, &options, &writer) == 0);
    SUPPORT_CHILD_NEEDS(sums_found_at_open(writer) == CELLAR_SUMS_GOOD);
    SUPPORT_CHILD_NEEDS(cellar_writer_append(writer, cells, 100, &index) == 0);
    SUPPORT_CHILD_NEEDS(cellar_writer_flush(writer) == 0);
    SUPPORT_CHILD_NEEDS(sums_info(writer).sums == CELLAR_SUMS_GOOD && sums_info(writer).sums_error == 0);
    SUPPORT_CHILD_NEEDS(cellar_writer_close(writer) == 0);
    return 0;
}

/* A crash left the checksum file under its new name, in a folder in which the next writer may not rename: it is used
 * where it lies, and gets its name from one who may. */
static void test_folder_not_writable(void **state)
{
    const char *path = support_path(*state, "store"), *sums = support_path(*state, "store.cellar-sums");
    const char *fresh = support_path(*state, "store.cellar-sums-new");
    int line;

    sums_make(path, 500);
    assert_int_equal(rename(sums, fresh), 0);
    assert_int_equal(chmod(path, 0666), 0);
    assert_int_equal(chmod(fresh, 0666), 0);
    assert_int_equal(chmod(*state, 0555), 0);
    line = support_child(write_as_anybody, (void *)(uintptr_t)path);
    assert_int_equal(chmod(*state, 0755), 0);
    if (line == CANNOT_DROP)
        support_skip("file modes mean nothing to this user");
    assert_int_equal(line, 0);
    assert_int_equal(access(fresh, F_OK), 0);
    sums_assert_good(path);
    store_close(sums_open(path));
    assert_int_not_equal(access(fresh, F_OK), 0);
    sums_assert_good(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_each_call_fails, setup, teardown),
        cmocka_unit_test_setup_teardown(test_name_too_long, setup, teardown),
        cmocka_unit_test_setup_teardown(test_folder_not_writable, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
