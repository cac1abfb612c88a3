/* Stores with checksums: made, written, checked; what a check finds, and what it makes of a file that is not good. */
#include "sums_test.h"

#include "base/bytes.h"

#include <stdio.h>
#include <sys/stat.h>

static char *store_of(void **state)
{
    return support_path(*state, "store");
}

static char *sums_of(void **state)
{
    return support_path(*state, "store.cellar-sums");
}

/* ---- writing ---- */

static void write_some(void **state, enum cellar_device_choice device)
{
    static const uint32_t counts[] = {1, 3, 100, 7, 128, 5000, 1, 9000};
    const char *path = store_of(state);
    struct cellar_writer *writer = sums_create(path, device);

    sums_assert_good(path);
    for (size_t i = 0; i < SUPPORT_COUNT(counts); i++) {
        store_append(writer, counts[i]);
        assert_done(cellar_writer_commit(writer));
        if (i % 2 == 1)
            continue;
        assert_done(cellar_writer_flush(writer));
        assert_int_equal(sums_info(writer).sums, CELLAR_SUMS_GOOD);
        assert_int_equal(sums_info(writer).sums_error, 0);
        sums_assert_good(path);
    }
    store_close(writer);
    sums_assert_good(path);
    writer = sums_open(path);
    assert_int_equal(sums_found_at_open(writer), CELLAR_SUMS_GOOD);
    store_append(writer, 77);
    store_close(writer);
    sums_assert_good(path);
}

static void test_mapped(void **state)
{
    write_some(state, CELLAR_DEVICE_AUTO);
}

static void test_pages(void **state)
{
    write_some(state, CELLAR_DEVICE_PAGES);
}

static void test_direct(void **state)
{
    if (!support_has_direct(*state))
        support_skip("no O_DIRECT here");
    write_some(state, CELLAR_DEVICE_DIRECT);
}

static void test_cells_of_every_size(void **state)
{
    static const uint32_t sizes[] = {4, 7, 100, 256, 4096, 5000, 65535};
    const char *path = store_of(state);

    for (size_t i = 0; i < SUPPORT_COUNT(sizes); i++) {
        struct cellar_config config = store_config(sizes[i], 2000);
        struct cellar_writer_options options = sums_options(CELLAR_DEVICE_AUTO);
        struct cellar_writer *writer;

        assert_done(cellar_writer_create(path, &config, &options, &writer));
        sums_assert_good(path);
        store_append(writer, 20);
        assert_done(cellar_writer_flush(writer));
        store_append(writer, 21);
        store_close(writer);
        sums_assert_good(path);
        assert_int_equal(unlink(path), 0);
    }
}

static void test_only_where_asked_for(void **state)
{
    struct cellar_config config = store_config(32, 1000);
    struct cellar_writer_options options = {.checksums = true};
    struct cellar_device *device;
    struct cellar_writer *writer;

    assert_done(cellar_writer_create(store_of(state), &config, NULL, &writer));
    assert_int_equal(sums_info(writer).sums, CELLAR_SUMS_NONE);
    store_close(writer);
    assert_int_not_equal(access(sums_of(state), F_OK), 0);
    assert_int_equal(sums_state(store_of(state)), CELLAR_SUMS_NONE);
    writer = sums_open(store_of(state)); /* the option is for making a store */
    assert_int_equal(sums_found_at_open(writer), CELLAR_SUMS_NONE);
    store_close(writer);
    assert_done(cellar_device_open_memory(NULL, 0, 1 << 20, &device));
    assert_result(cellar_writer_create_on(device, &config, &options, &writer), -ENOTSUP);
    cellar_device_close(device);
}

/* A store that has checksums is opened on a device: there is nothing beside it. */
static void test_on_a_device(void **state)
{
    struct cellar_device *device;
    struct cellar_writer *writer;

    sums_make(store_of(state), 10);
    assert_done(cellar_device_open_pread(store_of(state), CELLAR_OPEN_WRITE, 0, &device));
    assert_done(cellar_writer_open_on(device, NULL, &writer));
    assert_int_equal(sums_found_at_open(writer), CELLAR_SUMS_LOST);
    store_append(writer, 5);
    store_close(writer);
    cellar_device_close(device);
    writer = sums_open(store_of(state));
    assert_int_equal(sums_found_at_open(writer), CELLAR_SUMS_BEHIND);
    store_close(writer);
    sums_assert_good(store_of(state));
}

static void test_permissions_are_the_stores(void **state)
{
    struct cellar_config config = store_config(32, 1000);
    struct cellar_writer_options options = {.checksums = true, .file_mode = 0640};
    struct cellar_writer *writer;
    struct stat store, sums;

    assert_done(cellar_writer_create(store_of(state), &config, &options, &writer));
    for (int i = 0; i < 2; i++) {
        assert_int_equal(stat(store_of(state), &store), 0);
        assert_int_equal(stat(sums_of(state), &sums), 0);
        assert_int_equal(store.st_mode, sums.st_mode);
        assert_int_equal(chmod(store_of(state), 0604), 0);
        assert_done(cellar_writer_truncate(writer, 0));
    }
    store_close(writer);
}

static void test_truncate(void **state)
{
    struct cellar_writer *writer = sums_create(store_of(state), CELLAR_DEVICE_AUTO);

    store_append(writer, 3000);
    assert_done(cellar_writer_flush(writer));
    assert_done(cellar_writer_truncate(writer, 0));
    assert_int_equal(sums_info(writer).sums, CELLAR_SUMS_GOOD);
    sums_assert_good(store_of(state));
    assert_int_equal(sums_check(store_of(state)).report.flushed_bytes, CELLAR_HEADER_BYTES);
    store_append(writer, 200);
    store_close(writer);
    sums_assert_good(store_of(state));
}

static void test_leftovers(void **state)
{
    /* Of a store that was removed, and of a creation that a crash cut off. */
    support_file_write(sums_of(state), "old", 3);
    support_file_write(support_path(*state, "store.cellar-sums-new"), "old", 3);
    sums_make(store_of(state), 100);
    sums_assert_good(store_of(state));
    assert_int_not_equal(access(support_path(*state, "store.cellar-sums-new"), F_OK), 0);
}

/* ---- what a check finds ---- */

/* Every bit of a small store's flushed cells: found, named by its cell, its byte and its bit. */
static void test_every_flipped_bit(void **state)
{
    const char *path = store_of(state);
    size_t length_bytes;
    unsigned char *bytes;

    sums_make(path, 150);
    bytes = support_file_read(path, &length_bytes);
    assert_int_equal(length_bytes, 158 * 32);
    for (size_t at = CELLAR_HEADER_BYTES; at < length_bytes; at += 61) {
        unsigned bit = (unsigned)(at / 61 % 8);
        struct sums_found found;

        sums_flip(path, at, bit);
        found = sums_check(path);
        assert_int_equal(found.rot_count, 1);
        assert_true(found.rots[0].located);
        assert_int_equal(found.rots[0].bit_offset_bytes, at);
        assert_int_equal(found.rots[0].bit, bit);
        assert_int_equal(found.rots[0].bit_index, at / 32);
        assert_int_equal(found.rots[0].offset_bytes, at < 4096 ? 256 : 4096);
        assert_int_equal(found.rots[0].length_bytes, at < 4096 ? 4096 - 256 : length_bytes - 4096);
        assert_int_equal(found.rots[0].first_index, at < 4096 ? 8 : 128);
        assert_int_equal(found.rots[0].last_index, at < 4096 ? 127 : 157);
        assert_true(found.report.tail_rotten == (at >= 4096));
        sums_flip(path, at, bit);
    }
    free(bytes);
    sums_assert_good(path);
}

static void test_more_than_a_bit(void **state)
{
    static const unsigned char zeros[512];
    const char *path = store_of(state);
    struct sums_found found;

    sums_make(path, 20000);
    support_file_patch(path, 300000, zeros, sizeof zeros);
    found = sums_check(path);
    assert_int_equal(found.rot_count, 1);
    assert_false(found.rots[0].located);
    assert_false(found.rots[0].unreadable);
    assert_int_equal(found.rots[0].offset_bytes, 73 * 4096);
    assert_int_equal(found.rots[0].first_index, 73 * 128);
    assert_int_equal(found.rots[0].last_index, 74 * 128 - 1);
}

static void test_cut_store(void **state)
{
    const char *path = store_of(state);
    struct sums_found found;

    sums_make(path, 1000);
    assert_int_equal(truncate(path, 16384 + 320), 0);
    found = sums_check(path);
    assert_int_equal(found.rot_count, 4);
    for (size_t i = 0; i < 4; i++)
        assert_true(found.rots[i].unreadable && !found.rots[i].located);
}

/* The header: every bit is harmless, or known to be wrong; never a false alarm about cells. */
static void test_every_bit_of_the_header(void **state)
{
    const char *path = store_of(state);

    sums_make(path, 200);
    for (size_t bit = 0; bit < CELLAR_HEADER_BYTES * 8; bit++) {
        struct cellar_sums_report report;
        int error;

        sums_flip(path, bit / 8, bit % 8);
        error = cellar_sums_check(path, NULL, &report);
        assert_true(error == 0 || error == CELLAR_ECORRUPT);
        if (error == 0) {
            assert_int_equal(report.rotten_blocks, 0);
            assert_int_not_equal(report.state, CELLAR_SUMS_NONE);
        }
        sums_flip(path, bit / 8, bit % 8);
    }
    sums_assert_good(path);
}

/* Rot of the sums file itself is no rot of the store. */
static void test_every_sector_of_the_sums(void **state)
{
    const char *path = store_of(state);

    sums_make(path, 30000);
    for (uint64_t at = 0; at < support_file_size(sums_of(state)); at += 256 + 40) {
        struct sums_found found;

        sums_flip(sums_of(state), at, at % 8);
        found = sums_check(path);
        assert_int_equal(found.rot_count, 0);
        if (at >= 12288) {
            assert_int_equal(found.report.broken_sectors, 1);
            assert_int_equal(found.report.state, CELLAR_SUMS_BEHIND);
            assert_int_not_equal(found.report.uncovered_bytes, 0);
        }
        sums_flip(sums_of(state), at, at % 8);
    }
    sums_assert_good(path);
}

/* ---- lost and stale ---- */

static void assert_state(void **state, enum cellar_sums_state expected)
{
    struct sums_found found = sums_check(store_of(state));
    struct cellar_writer *writer;

    assert_int_equal(found.report.state, expected);
    assert_int_equal(found.report.verified_bytes, 0);
    assert_int_equal(found.rot_count, 0);
    assert_non_null(strstr(found.report.why.message, "store"));
    writer = sums_open(store_of(state));
    assert_int_equal(sums_found_at_open(writer), expected);
    store_append(writer, 10);
    assert_done(cellar_writer_flush(writer)); /* the store goes on */
    assert_int_equal(sums_info(writer).sums, expected);
    store_close(writer);
    assert_int_equal(sums_state(store_of(state)), expected);
}

static void test_lost(void **state)
{
    sums_make(store_of(state), 500);
    assert_int_equal(unlink(sums_of(state)), 0);
    assert_state(state, CELLAR_SUMS_LOST);
    support_file_write(sums_of(state), "", 0);
    assert_state(state, CELLAR_SUMS_LOST);
    support_file_write(sums_of(state), "no such thing", 13);
    assert_state(state, CELLAR_SUMS_LOST);
    assert_int_equal(unlink(sums_of(state)), 0);
    assert_int_equal(mkdir(sums_of(state), 0700), 0);
    assert_state(state, CELLAR_SUMS_LOST);
}

static void test_of_another_store(void **state)
{
    const char *other = support_path(*state, "other");

    sums_make(store_of(state), 500);
    sums_make(other, 500);
    sums_copy(support_path(*state, "other.cellar-sums"), sums_of(state));
    assert_state(state, CELLAR_SUMS_STALE);
}

/* Both files copied are a store of its own; one of each pair is not. */
static void test_copied_pair(void **state)
{
    const char *copy = support_path(*state, "copy"), *copy_sums = support_path(*state, "copy.cellar-sums");
    struct cellar_writer *writer;

    sums_make(store_of(state), 500);
    sums_copy(store_of(state), copy);
    sums_copy(sums_of(state), copy_sums);
    for (int i = 0; i < 2; i++) {
        unsigned char cell[32];
        uint32_t index;

        writer = sums_open(i == 0 ? store_of(state) : copy);
        assert_int_equal(sums_found_at_open(writer), CELLAR_SUMS_GOOD);
        for (int cells = 0; cells < 700 + i; cells++) {
            support_bytes((uint64_t)i * 10000 + (uint64_t)cells, cell, sizeof cell);
            assert_done(cellar_writer_append(writer, cell, 1, &index));
        }
        store_close(writer);
    }
    sums_assert_good(store_of(state));
    sums_assert_good(copy);
    /* The longer one's sums beside the shorter one: ahead. The other way round: the last sum does not hold. */
    sums_copy(copy_sums, support_path(*state, "kept"));
    sums_copy(sums_of(state), copy_sums);
    assert_true(sums_check(copy).report.tail_rotten);
    writer = sums_open(copy);
    assert_int_equal(sums_found_at_open(writer), CELLAR_SUMS_STALE);
    cellar_writer_abandon(writer);
    sums_copy(support_path(*state, "kept"), sums_of(state));
    assert_int_equal(sums_state(store_of(state)), CELLAR_SUMS_STALE);
}

/* An older copy of the store is put back. */
static void test_store_put_back(void **state)
{
    const char *kept = support_path(*state, "kept");

    sums_make(store_of(state), 500);
    sums_copy(store_of(state), kept);
    for (uint32_t i = 0; i < 3; i++) {
        struct cellar_writer *writer = sums_open(store_of(state));

        store_append(writer, 300);
        store_close(writer);
    }
    sums_copy(kept, store_of(state));
    assert_state(state, CELLAR_SUMS_STALE);
}

/* Both go back together, as when a volume does: all is well. */
static void test_both_put_back(void **state)
{
    const char *kept = support_path(*state, "kept"), *kept_sums = support_path(*state, "kept.sums");
    struct cellar_writer *writer;

    sums_make(store_of(state), 500);
    sums_copy(store_of(state), kept);
    sums_copy(sums_of(state), kept_sums);
    writer = sums_open(store_of(state));
    store_append(writer, 300);
    store_close(writer);
    sums_copy(kept, store_of(state));
    sums_copy(kept_sums, sums_of(state));
    sums_assert_good(store_of(state));
    writer = sums_open(store_of(state));
    store_append(writer, 1);
    store_close(writer);
    sums_assert_good(store_of(state));
}

/* The mark in the header without the identity, or the other way round: rot, said so. */
static void test_half_a_mark(void **state)
{
    static const unsigned char zeros[4];
    struct sums_found found;

    sums_make(store_of(state), 500);
    support_file_patch(store_of(state), CELLAR_AT_FLAGS, zeros, 4);
    found = sums_check(store_of(state));
    assert_int_equal(found.report.state, CELLAR_SUMS_STALE);
    assert_int_equal(found.report.why.file_offset, CELLAR_AT_FLAGS);
    support_file_patch(store_of(state), CELLAR_AT_CHECKSUM_ID, zeros, 4);
    assert_int_equal(sums_state(store_of(state)), CELLAR_SUMS_NONE);
    support_file_patch(store_of(state), CELLAR_AT_FLAGS, "\1\0\0\0", 4);
    found = sums_check(store_of(state));
    assert_int_equal(found.report.state, CELLAR_SUMS_STALE);
    assert_int_equal(found.report.why.file_offset, CELLAR_AT_CHECKSUM_ID);
}

/* A crash between the two renames of a creation, or a truncation: the file is found under its other name. */
static void test_crash_between_the_renames(void **state)
{
    const char *fresh = support_path(*state, "store.cellar-sums-new"), *kept = support_path(*state, "kept");
    struct cellar_writer *writer;

    sums_make(store_of(state), 500);
    sums_copy(sums_of(state), kept);
    assert_int_equal(rename(sums_of(state), fresh), 0);
    sums_assert_good(store_of(state));
    assert_int_equal(access(fresh, F_OK), 0); /* a check changes nothing */
    support_file_write(sums_of(state), "old", 3);
    sums_assert_good(store_of(state));
    writer = sums_open(store_of(state));
    assert_int_equal(sums_found_at_open(writer), CELLAR_SUMS_GOOD);
    assert_int_not_equal(access(fresh, F_OK), 0);
    assert_done(cellar_writer_truncate(writer, 0));
    store_append(writer, 50);
    store_close(writer);
    sums_assert_good(store_of(state));
    assert_int_equal(rename(sums_of(state), fresh), 0);
    sums_copy(kept, sums_of(state)); /* the one of before truncate */
    sums_assert_good(store_of(state));
    writer = sums_open(store_of(state));
    assert_int_equal(sums_found_at_open(writer), CELLAR_SUMS_GOOD);
    store_close(writer);
    sums_assert_good(store_of(state));
}

/* ---- crashes of the process, and failures ---- */

/* What is committed and not flushed has no sums, and may be written again by the next writer. */
static void test_abandoned(void **state)
{
    struct cellar_writer *writer = sums_create(store_of(state), CELLAR_DEVICE_AUTO);

    store_append(writer, 300);
    assert_done(cellar_writer_flush(writer));
    store_append(writer, 300);
    assert_done(cellar_writer_commit(writer));
    cellar_writer_abandon(writer);
    sums_assert_good(store_of(state));
    writer = sums_open(store_of(state));
    /* Those cells are adopted, or skipped: either way they may count as flushed from here on. */
    assert_true(sums_found_at_open(writer) == CELLAR_SUMS_GOOD || sums_found_at_open(writer) == CELLAR_SUMS_BEHIND);
    store_append(writer, 10);
    store_close(writer);
    sums_assert_good(store_of(state));
}

/* Opening sums nothing: what was found in the file may not be durable. Only a flush of this writer's does. */
static void test_opening_sums_nothing(void **state)
{
    const char *kept = support_path(*state, "kept");
    struct cellar_writer *writer;
    struct sums_found found;

    sums_make(store_of(state), 300);
    sums_copy(sums_of(state), kept);
    writer = sums_open(store_of(state));
    store_append(writer, 700);
    store_close(writer);
    sums_copy(kept, sums_of(state)); /* as if the sums' way to the disk had been cut off */
    writer = sums_open(store_of(state));
    assert_int_equal(sums_found_at_open(writer), CELLAR_SUMS_BEHIND);
    found = sums_check(store_of(state));
    assert_int_equal(found.report.state, CELLAR_SUMS_BEHIND);
    assert_int_equal(found.report.uncovered_bytes, 700 * 32);
    assert_done(cellar_writer_flush(writer));
    sums_assert_good(store_of(state));
    store_close(writer);
    sums_assert_good(store_of(state));
}

/* The sums file can't be written: the store goes on, and says so. */
static void test_failing_sums_file(void **state)
{
    struct cellar_writer *writer = sums_create(store_of(state), CELLAR_DEVICE_AUTO);

    store_append(writer, 300);
    assert_done(cellar_writer_flush(writer));
    assert_int_equal(truncate(sums_of(state), 0), 0);
    store_append(writer, 300);
    assert_done(cellar_writer_flush(writer));
    assert_int_equal(sums_info(writer).sums_error, CELLAR_EBOUNDS);
    assert_int_equal(sums_info(writer).sums, CELLAR_SUMS_BEHIND);
    store_append(writer, 300);
    store_close(writer);
    assert_int_equal(sums_state(store_of(state)), CELLAR_SUMS_LOST);
    assert_done(cellar_sums_rebuild(store_of(state), NULL));
    sums_assert_good(store_of(state));
}

static void test_errors(void **state)
{
    struct cellar_diagnostic diagnostic;
    struct cellar_sums_options options = {.diagnostic = &diagnostic};
    struct cellar_sums_report report;
    static const unsigned char zeros[300];

    assert_result(cellar_sums_check(store_of(state), &options, &report), -ENOENT);
    assert_int_equal(diagnostic.error, -ENOENT);
    support_file_write(store_of(state), zeros, 100);
    assert_result(cellar_sums_check(store_of(state), &options, &report), CELLAR_ECORRUPT);
    support_file_write(store_of(state), zeros, 300);
    assert_result(cellar_sums_check(store_of(state), &options, &report), CELLAR_ECORRUPT);
    assert_int_equal(diagnostic.error, CELLAR_ECORRUPT);
    assert_non_null(strstr(diagnostic.message, "store"));
}

#define ON_FOLDER(test) cmocka_unit_test_setup_teardown(test, support_folder_setup, support_folder_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        ON_FOLDER(test_mapped),
        ON_FOLDER(test_pages),
        ON_FOLDER(test_direct),
        ON_FOLDER(test_cells_of_every_size),
        ON_FOLDER(test_only_where_asked_for),
        ON_FOLDER(test_on_a_device),
        ON_FOLDER(test_permissions_are_the_stores),
        ON_FOLDER(test_truncate),
        ON_FOLDER(test_leftovers),
        ON_FOLDER(test_every_flipped_bit),
        ON_FOLDER(test_more_than_a_bit),
        ON_FOLDER(test_cut_store),
        ON_FOLDER(test_every_bit_of_the_header),
        ON_FOLDER(test_every_sector_of_the_sums),
        ON_FOLDER(test_lost),
        ON_FOLDER(test_of_another_store),
        ON_FOLDER(test_copied_pair),
        ON_FOLDER(test_store_put_back),
        ON_FOLDER(test_both_put_back),
        ON_FOLDER(test_half_a_mark),
        ON_FOLDER(test_crash_between_the_renames),
        ON_FOLDER(test_abandoned),
        ON_FOLDER(test_opening_sums_nothing),
        ON_FOLDER(test_failing_sums_file),
        ON_FOLDER(test_errors),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
