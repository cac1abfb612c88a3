/* Checksums made anew, added to a store without, and a store's first bytes put back from its sums file. */
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

/* ---- rebuild ---- */

static void test_rebuild_of_a_lost_one(void **state)
{
    struct sums_found found = {.rot_count = 0};
    struct cellar_sums_options options = {.progress = sums_progress, .user = &found};

    sums_make(store_of(state), 20000);
    assert_int_equal(unlink(sums_of(state)), 0);
    assert_done(cellar_sums_rebuild(store_of(state), &options));
    assert_true(found.total > 0 && found.last_done == found.total);
    sums_assert_good(store_of(state));
    sums_flip(store_of(state), 400000, 2);
    assert_int_equal(sums_check(store_of(state)).rots[0].bit_offset_bytes, 400000);
}

static void test_rebuild_of_a_stale_one(void **state)
{
    const char *other = support_path(*state, "other");
    struct cellar_writer *writer;

    sums_make(store_of(state), 500);
    sums_make(other, 800);
    sums_copy(support_path(*state, "other.cellar-sums"), sums_of(state));
    assert_done(cellar_sums_rebuild(store_of(state), NULL));
    sums_assert_good(store_of(state));
    writer = sums_open(store_of(state));
    assert_int_equal(sums_found_at_open(writer), CELLAR_SUMS_GOOD);
    store_append(writer, 500);
    store_close(writer);
    sums_assert_good(store_of(state));
}

/* Rot that checksums know of is not made good by new ones, unless asked for. */
static void test_rebuild_over_rot(void **state)
{
    struct cellar_diagnostic diagnostic;
    struct cellar_sums_options options = {.diagnostic = &diagnostic};

    sums_make(store_of(state), 5000);
    sums_flip(store_of(state), 30000, 0);
    assert_result(cellar_sums_rebuild(store_of(state), &options), CELLAR_ECHECKSUM);
    assert_int_equal(diagnostic.error, CELLAR_ECHECKSUM);
    assert_int_equal(sums_check(store_of(state)).rot_count, 1);
    options.force = true;
    assert_done(cellar_sums_rebuild(store_of(state), &options));
    sums_assert_good(store_of(state));
}

static void test_rebuild_mends_half_a_mark(void **state)
{
    static const unsigned char zeros[4];

    sums_make(store_of(state), 500);
    support_file_patch(store_of(state), CELLAR_AT_FLAGS, zeros, 4);
    assert_done(cellar_sums_rebuild(store_of(state), NULL));
    sums_assert_good(store_of(state));
    support_file_patch(store_of(state), CELLAR_AT_CHECKSUM_ID, zeros, 4);
    assert_done(cellar_sums_rebuild(store_of(state), NULL));
    sums_assert_good(store_of(state));
}

static void test_rebuild_mends_broken_sectors(void **state)
{
    sums_make(store_of(state), 30000);
    sums_flip(sums_of(state), 12288 + 700, 1);
    assert_int_equal(sums_state(store_of(state)), CELLAR_SUMS_BEHIND);
    assert_done(cellar_sums_rebuild(store_of(state), NULL));
    sums_assert_good(store_of(state));
}

/* A sector of the sums that is broken is summed again by the next flush, which does not keep it to itself. */
static void test_a_flush_tells_of_what_it_renews(void **state)
{
    struct cellar_writer *writer;

    sums_make(store_of(state), 1000);
    sums_flip(sums_of(state), 12288 + 20, 1);
    writer = sums_open(store_of(state));
    assert_int_equal(sums_found_at_open(writer), CELLAR_SUMS_BEHIND);
    assert_int_equal(sums_info(writer).renewed_blocks, 0);
    store_append(writer, 10);
    assert_done(cellar_writer_flush(writer));
    assert_int_equal(sums_info(writer).sums, CELLAR_SUMS_GOOD);
    assert_int_equal(sums_info(writer).renewed_blocks, 61);
    store_append(writer, 10);
    assert_done(cellar_writer_flush(writer));
    assert_int_equal(sums_info(writer).renewed_blocks, 61);
    store_close(writer);
    sums_assert_good(store_of(state));
    writer = sums_open(store_of(state));
    store_append(writer, 10);
    assert_done(cellar_writer_flush(writer));
    assert_int_equal(sums_info(writer).renewed_blocks, 0);
    store_close(writer);
}

static void test_rebuild_beside_others(void **state)
{
    struct cellar_config config = store_config(32, 1000);
    struct cellar_writer *writer;

    assert_result(cellar_sums_rebuild(store_of(state), NULL), -ENOENT);
    assert_done(cellar_writer_create(store_of(state), &config, NULL, &writer));
    store_close(writer);
    assert_result(cellar_sums_rebuild(store_of(state), NULL), -ENOTSUP);
    sums_make(support_path(*state, "other"), 10);
    writer = sums_open(support_path(*state, "other"));
    assert_result(cellar_sums_rebuild(support_path(*state, "other"), NULL), CELLAR_EBUSY);
    store_close(writer);
    sums_assert_good(support_path(*state, "other"));
}

/* ---- add ---- */

static void test_add(void **state)
{
    struct cellar_config config = store_config(32, 100000);
    struct cellar_writer *writer;

    assert_done(cellar_writer_create(store_of(state), &config, NULL, &writer));
    store_append(writer, 30000);
    store_close(writer);
    assert_done(cellar_sums_add(store_of(state), NULL));
    sums_assert_good(store_of(state));
    assert_result(cellar_sums_add(store_of(state), NULL), -EEXIST);
    writer = sums_open(store_of(state));
    assert_int_equal(sums_found_at_open(writer), CELLAR_SUMS_GOOD);
    store_append(writer, 300);
    store_close(writer);
    sums_assert_good(store_of(state));
    assert_int_equal(unlink(sums_of(state)), 0);
    assert_result(cellar_sums_add(store_of(state), NULL), -EEXIST);
}

/* ---- restore ---- */

/* The restored store opens, has all cells, and its checksums hold. */
static void assert_restored(void **state, uint32_t next_index, uint32_t root_index)
{
    const char *path = support_path(*state, "restored");
    struct cellar_snapshot snapshot;
    struct cellar_writer *writer;
    struct cellar_config config;
    uint32_t next, root;

    assert_done(cellar_sums_restore(store_of(state), path, NULL, &config, &next, &root));
    assert_int_equal(next, next_index);
    assert_int_equal(root, root_index);
    assert_int_equal(config.bytes_per_cell, SUMS_BYTES_PER_CELL);
    assert_int_equal(config.max_index, SUMS_MAX_INDEX);
    sums_assert_good(path);
    writer = sums_open(path);
    assert_int_equal(sums_found_at_open(writer), CELLAR_SUMS_GOOD);
    assert_int_equal(cellar_writer_root(writer), root_index);
    snapshot = cellar_writer_snapshot(writer);
    assert_int_equal(snapshot.next_index, next_index);
    store_assert_cells(&snapshot);
    store_append(writer, 9);
    store_close(writer);
    sums_assert_good(path);
    assert_result(cellar_sums_restore(store_of(state), path, NULL, &config, &next, &root), -EEXIST);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(unlink(support_path(*state, "restored.cellar-sums")), 0);
}

static void test_restore(void **state)
{
    static const uint32_t counts[] = {1, 20, 119, 120, 121, 5000};
    static const size_t lost[] = {1, 32, 96, 256, 512, 4096};
    unsigned char junk[4096];

    memset(junk, 0xa5, sizeof junk);
    for (size_t i = 0; i < SUPPORT_COUNT(counts); i++) {
        sums_make(store_of(state), counts[i]);
        for (size_t j = 0; j < SUPPORT_COUNT(lost); j++) {
            uint64_t size_bytes = support_file_size(store_of(state));

            support_file_patch(store_of(state), 0, junk, lost[j] < size_bytes ? lost[j] : (size_t)size_bytes);
            assert_restored(state, 8 + counts[i], 7 + counts[i]);
        }
        assert_int_equal(unlink(store_of(state)), 0);
    }
}

/* Zeros, as of a sector that was given up and never written. */
static void test_restore_of_zeros(void **state)
{
    static const unsigned char zeros[4096];
    struct cellar_sums_report report;

    sums_make(store_of(state), 3000);
    support_file_patch(store_of(state), 0, zeros, sizeof zeros);
    assert_result(cellar_sums_check(store_of(state), NULL, &report), CELLAR_ECORRUPT);
    assert_restored(state, 3008, 3007);
}

/* The copy of the header is as of the last flush, not of what was committed since. */
static void test_restore_while_unflushed(void **state)
{
    struct cellar_writer *writer = sums_create(store_of(state), CELLAR_DEVICE_AUTO);
    static const unsigned char zeros[256];

    store_append(writer, 100);
    assert_done(cellar_writer_set_root(writer, 50));
    assert_done(cellar_writer_flush(writer));
    store_append(writer, 100);
    assert_done(cellar_writer_set_root(writer, 150));
    assert_done(cellar_writer_commit(writer));
    cellar_writer_abandon(writer);
    support_file_patch(store_of(state), 0, zeros, sizeof zeros);
    assert_restored(state, 108, 50);
}

/* A power loss took the last head, and left the sums: no cell that has one is used again. */
static void test_restore_from_an_older_head(void **state)
{
    struct cellar_writer *writer;
    size_t length_bytes;
    unsigned char *bytes;
    int newer;

    sums_make(store_of(state), 100);
    writer = sums_open(store_of(state));
    store_append(writer, 200);
    assert_done(cellar_writer_flush(writer));
    cellar_writer_abandon(writer);
    bytes = support_file_read(sums_of(state), &length_bytes);
    newer = cellar_load_le64(bytes + 24) > cellar_load_le64(bytes + 4096 + 24) ? 0 : 1;
    free(bytes);
    sums_flip(sums_of(state), (uint64_t)newer * 4096 + 100, 0);
    support_file_patch(store_of(state), 0, "junk", 4);
    assert_restored(state, 308, 107);
}

/* The original sets any root, and it is followed as it stands. */
static void test_restore_of_a_root_beyond_next(void **state)
{
    static const uint32_t roots[] = {108, 109, UINT32_MAX};
    const char *to = support_path(*state, "restored");

    for (size_t i = 0; i < SUPPORT_COUNT(roots); i++) {
        struct cellar_state odd = {.next_index = 108, .root_index = roots[i]};
        unsigned char slot[CELLAR_SLOT_BYTES];
        struct cellar_writer *writer;
        struct cellar_config config;
        uint32_t next, root;

        sums_make(store_of(state), 100);
        for (int name = 0; name < CELLAR_SLOT_COUNT; name++) {
            cellar_slot_encode(&odd, NULL, slot);
            support_file_patch(store_of(state), cellar_slot_offset((enum cellar_slot_name)name), slot, sizeof slot);
        }
        store_close(sums_open(store_of(state))); /* the copy is made */
        support_file_patch(store_of(state), 0, "junk", 4);
        assert_done(cellar_sums_restore(store_of(state), to, NULL, &config, &next, &root));
        assert_true(next == 108 && root == roots[i]);
        sums_assert_good(to);
        writer = sums_open(to);
        assert_int_equal(cellar_writer_root(writer), roots[i]);
        store_close(writer);
        assert_int_equal(unlink(to), 0);
        assert_int_equal(unlink(support_path(*state, "restored.cellar-sums")), 0);
        assert_int_equal(unlink(store_of(state)), 0);
    }
}

static void test_restore_that_cannot_be(void **state)
{
    const char *to = support_path(*state, "restored");
    struct cellar_diagnostic diagnostic;
    struct cellar_sums_options options = {.diagnostic = &diagnostic};
    struct cellar_config config;
    uint32_t next, root;

    assert_result(cellar_sums_restore(store_of(state), to, &options, &config, &next, &root), -ENOENT);
    sums_make(store_of(state), 1000);
    assert_int_equal(truncate(store_of(state), 9000), 0);
    assert_result(cellar_sums_restore(store_of(state), to, &options, &config, &next, &root), CELLAR_ECORRUPT);
    assert_int_equal(diagnostic.file_offset, 9000);
    assert_int_equal(unlink(sums_of(state)), 0);
    assert_result(cellar_sums_restore(store_of(state), to, &options, &config, &next, &root), CELLAR_ESUMS);
    assert_int_equal(diagnostic.error, CELLAR_ESUMS);
    assert_int_not_equal(access(to, F_OK), 0);
    assert_int_not_equal(access(support_path(*state, "restored.cellar-sums-new"), F_OK), 0);
    assert_int_not_equal(access(support_path(*state, ".restored.cellar-new"), F_OK), 0);
}

#define ON_FOLDER(test) cmocka_unit_test_setup_teardown(test, support_folder_setup, support_folder_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        ON_FOLDER(test_rebuild_of_a_lost_one),
        ON_FOLDER(test_rebuild_of_a_stale_one),
        ON_FOLDER(test_rebuild_over_rot),
        ON_FOLDER(test_rebuild_mends_half_a_mark),
        ON_FOLDER(test_rebuild_mends_broken_sectors),
        ON_FOLDER(test_a_flush_tells_of_what_it_renews),
        ON_FOLDER(test_rebuild_beside_others),
        ON_FOLDER(test_add),
        ON_FOLDER(test_restore),
        ON_FOLDER(test_restore_of_zeros),
        ON_FOLDER(test_restore_while_unflushed),
        ON_FOLDER(test_restore_from_an_older_head),
        ON_FOLDER(test_restore_of_a_root_beyond_next),
        ON_FOLDER(test_restore_that_cannot_be),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
