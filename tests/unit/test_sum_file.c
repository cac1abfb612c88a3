/* A sums file: extended, opened, scanned, asked; and what it is when parts of it are old, broken or lost. */
#include "device_fault.h"
#include "sum_stage.h"

#include "base/bytes.h"
#include "sum/sum_hash.h"

#include <errno.h>

enum { SPAN = CELLAR_SUM_SPAN_BYTES, BLOCK = CELLAR_SUM_BLOCK_BYTES };

static enum cellar_sums_state judge(const struct sum_stage *stage)
{
    return cellar_sum_judge(stage->file->covered_bytes, stage->file->claimed_bytes, stage->flushed_bytes);
}

static void flip(struct sum_stage *stage, uint64_t offset, unsigned bit)
{
    stage->bytes[offset] ^= (unsigned char)(1u << bit);
}

/* ---- extending ---- */

static void test_covers_what_is_flushed(void **state)
{
    static const uint64_t steps[] = {1, 31, 224, 480, 1, 3000, 103, 256, 4096, 8192, 5000, SPAN, 1, 2 * SPAN + 77, 640};
    struct sum_stage stage;

    (void)state;
    stage_open(&stage);
    for (size_t i = 0; i < SUPPORT_COUNT(steps); i++) {
        stage_append(&stage, steps[i], i);
        stage_extend(&stage);
        assert_true(stage_assert_no_alarm(&stage) >= stage.flushed_bytes);
        if (i % 3 == 2) {
            stage_again(&stage);
            assert_int_equal(judge(&stage), CELLAR_SUMS_GOOD);
            assert_done(cellar_sum_match(stage.file, stage.store));
        }
    }
    stage_close(&stage);
}

/* More sectors at once than are written together, and the file grows by large steps. */
static void test_much_at_once(void **state)
{
    struct sum_stage stage;

    (void)state;
    stage_open_with(&stage, 5000);
    stage_append(&stage, (uint64_t)150 * SPAN, 2);
    stage_extend(&stage);
    assert_true(stage.file->settled_bytes == 5256); /* what was there before the file grew */
    assert_true(stage_assert_no_alarm(&stage) >= stage.flushed_bytes);
    stage_again(&stage);
    assert_int_equal(judge(&stage), CELLAR_SUMS_GOOD);
    assert_done(cellar_sum_trim(stage.file));
    stage_again(&stage);
    assert_int_equal(cellar_sum_sector_count(stage.file), 151);
    assert_int_equal(judge(&stage), CELLAR_SUMS_GOOD);
    stage_close(&stage);
}

/* Every byte that is covered, some bit of it: found, and its place too. */
static void test_every_byte_is_watched(void **state)
{
    struct sum_stage stage;
    bool covered;

    (void)state;
    stage_open_with(&stage, 2 * BLOCK + 1000);
    for (uint64_t at = CELLAR_SUM_FIRST_BYTE; at < stage.flushed_bytes; at++) {
        flip(&stage, at, at % 8);
        assert_result(stage_verify(&stage, at, &covered), CELLAR_ECHECKSUM);
        flip(&stage, at, at % 8);
    }
    flip(&stage, 255, 0); /* the header changes */
    assert_done(stage_verify(&stage, 0, &covered));
    flip(&stage, stage.flushed_bytes, 0); /* and so do cells that are not flushed */
    assert_done(stage_verify(&stage, stage.flushed_bytes, &covered));
    assert_true(covered);
    stage_close(&stage);
}

static void test_copies_of_the_first_bytes(void **state)
{
    static const uint64_t steps[] = {10, 470, 1, 2000, 1358, 5000};
    unsigned char sector[CELLAR_SUM_SECTOR_BYTES];
    struct cellar_sum_copy copy;
    struct sum_stage stage;

    (void)state;
    stage_open(&stage);
    for (size_t i = 0; i < SUPPORT_COUNT(steps); i++) {
        uint64_t at = CELLAR_SUM_FIRST_BYTE, end;

        stage_append(&stage, steps[i], i);
        stage_extend(&stage);
        end = cellar_sum_min(stage.flushed_bytes, BLOCK);
        for (uint32_t number = 0; at < end; number++, at += copy.length_bytes) {
            assert_done(cellar_device_read(stage.sums, sector, sizeof sector, cellar_sum_copy_offset(number)));
            assert_done(cellar_sum_copy_decode(sector, 77, number, &copy));
            assert_int_equal(copy.length_bytes, cellar_sum_min(end - at, CELLAR_SUM_COPY_BYTES));
            assert_memory_equal(copy.bytes, stage.bytes + at, copy.length_bytes);
        }
        assert_memory_equal(stage.file->head.header, stage.bytes, CELLAR_HEADER_BYTES);
    }
    stage_close(&stage);
}

static void test_heads_alternate(void **state)
{
    struct cellar_sum_head heads[2];
    unsigned char sector[CELLAR_SUM_SECTOR_BYTES];
    struct sum_stage stage;

    (void)state;
    stage_open(&stage);
    for (uint64_t i = 2; i < 6; i++) {
        stage_append(&stage, 100, i);
        stage.bytes[0] = (unsigned char)i;
        stage_extend(&stage);
        for (int place = 0; place < 2; place++) {
            assert_done(cellar_device_read(stage.sums, sector, sizeof sector, cellar_sum_head_offset(place)));
            assert_done(cellar_sum_head_decode(sector, &heads[place]));
        }
        assert_true(heads[i % 2 == 0].sequence == i);
        assert_true(heads[i % 2 == 1].sequence == i - 1);
        assert_int_equal(heads[i % 2 == 0].header[0], i);
        stage_again(&stage);
        assert_true(stage.file->head.sequence == i);
    }
    stage_close(&stage);
}

/* ---- what is not this store's, or not there ---- */

static void test_owners(void **state)
{
    struct sum_stage stage;
    struct sum_image image;

    (void)state;
    stage_open_with(&stage, 5000);
    image = stage_image(&stage);
    stage.owner.identity++;
    assert_result(stage_reopen(&stage, &image), CELLAR_ESUMS);
    stage.owner.identity--;
    stage.owner.bytes_per_cell++;
    assert_result(stage_reopen(&stage, &image), CELLAR_ESUMS);
    stage.owner.bytes_per_cell--;
    stage.owner.max_index--;
    assert_result(stage_reopen(&stage, &image), CELLAR_ESUMS);
    stage.owner.max_index++;
    assert_done(stage_reopen(&stage, &image));
    /* A sector of another file of the same owner but for the identity covers nothing. */
    image.bytes[CELLAR_SUM_AT_SUMS] ^= 1;
    cellar_store_le64(image.bytes + CELLAR_SUM_AT_SUMS + 504, cellar_sum_hash(image.bytes + CELLAR_SUM_AT_SUMS, 504));
    stage_put_back(&stage, &image);
    assert_true(stage_assert_no_alarm(&stage) == 0);
    free(image.bytes);
    stage_close(&stage);
}

static void test_no_head(void **state)
{
    struct sum_stage stage;
    struct sum_image image;

    (void)state;
    stage_open_with(&stage, 5000);
    image = stage_image(&stage);
    image.bytes[100] ^= 1; /* one head is enough */
    assert_done(stage_reopen(&stage, &image));
    image.bytes[BLOCK + 100] ^= 1;
    assert_result(stage_reopen(&stage, &image), CELLAR_ECORRUPT);
    image.bytes[100] ^= 1;
    assert_done(stage_reopen(&stage, &image));
    for (image.length_bytes = 0; image.length_bytes < 512; image.length_bytes += 100)
        assert_result(stage_reopen(&stage, &image), CELLAR_ECORRUPT);
    free(image.bytes);
    stage_close(&stage);
}

/* Cut anywhere behind its heads: what is left is true. */
static void test_cut(void **state)
{
    struct sum_stage stage;
    struct sum_image image;

    (void)state;
    stage_open_with(&stage, 4 * SPAN);
    image = stage_image(&stage);
    for (size_t length = BLOCK + 512; length < CELLAR_SUM_AT_SUMS + 6 * 512; length += 256) {
        struct sum_image cut = {.bytes = image.bytes, .length_bytes = length};

        stage_put_back(&stage, &cut);
        assert_int_not_equal(judge(&stage), CELLAR_SUMS_STALE);
        stage_assert_no_alarm(&stage);
        assert_done(cellar_sum_match(stage.file, stage.store));
    }
    free(image.bytes);
    stage_close(&stage);
}

/* Cut to before what its head calls settled: that is summed again. */
static void test_cut_below_settled(void **state)
{
    struct sum_stage stage;
    struct sum_image image;

    (void)state;
    stage_open_with(&stage, (uint64_t)100 * SPAN);
    stage_append(&stage, (uint64_t)40 * SPAN, 2);
    stage_extend(&stage);
    assert_true(stage.file->settled_bytes > (uint64_t)100 * SPAN);
    image = stage_image(&stage);
    image.length_bytes = (size_t)cellar_sum_sector_offset(50);
    stage_put_back(&stage, &image);
    assert_int_equal(judge(&stage), CELLAR_SUMS_BEHIND);
    stage_extend(&stage);
    assert_true(stage_assert_no_alarm(&stage) >= stage.flushed_bytes);
    free(image.bytes);
    stage_close(&stage);
}

/* ---- others at work on the store ---- */

/* Somebody who does not know of sums goes on with the store: what he wrote is covered from the next extension on. */
static void test_store_goes_on_alone(void **state)
{
    struct sum_stage stage;
    uint64_t covered;

    (void)state;
    stage_open_with(&stage, 10000);
    covered = stage.flushed_bytes;
    stage_append(&stage, 3 * SPAN, 2);
    stage_again(&stage);
    assert_int_equal(judge(&stage), CELLAR_SUMS_BEHIND);
    assert_true(stage.file->covered_bytes == covered);
    assert_done(cellar_sum_match(stage.file, stage.store));
    stage_assert_no_alarm(&stage);
    stage_append(&stage, 10, 3);
    stage_extend(&stage);
    stage_again(&stage);
    assert_int_equal(judge(&stage), CELLAR_SUMS_GOOD);
    assert_true(stage_assert_no_alarm(&stage) >= stage.flushed_bytes);
    stage_close(&stage);
}

/* An older copy of the store in its place: its sums reach beyond it. */
static void test_store_went_back(void **state)
{
    struct sum_stage stage;

    (void)state;
    stage_open_with(&stage, 10000);
    stage.flushed_bytes -= STAGE_BYTES_PER_CELL;
    stage_again(&stage);
    assert_int_equal(judge(&stage), CELLAR_SUMS_STALE);
    stage_close(&stage);
}

/* It went back and was written on, past its sums, by somebody who does not know of them: the last sum tells. */
static void test_store_took_another_way(void **state)
{
    struct sum_stage stage;

    (void)state;
    stage_open_with(&stage, 10000);
    stage.flushed_bytes -= 2048;
    stage_append(&stage, 20000, 7);
    stage_again(&stage);
    assert_int_equal(judge(&stage), CELLAR_SUMS_BEHIND);
    assert_result(cellar_sum_match(stage.file, stage.store), CELLAR_ECHECKSUM);
    stage_close(&stage);
}

/* The sums file is an older copy: true as far as it says. */
static void test_sums_went_back(void **state)
{
    struct sum_stage stage;
    struct sum_image image;

    (void)state;
    stage_open_with(&stage, 10000);
    image = stage_image(&stage);
    stage_append(&stage, SPAN, 2);
    stage_extend(&stage);
    stage_put_back(&stage, &image);
    assert_int_equal(judge(&stage), CELLAR_SUMS_BEHIND);
    stage_assert_no_alarm(&stage);
    stage_extend(&stage);
    assert_true(stage_assert_no_alarm(&stage) >= stage.flushed_bytes);
    free(image.bytes);
    stage_close(&stage);
}

/* ---- nothing rotten is summed again ---- */

static void test_rotten_first_part_is_not_summed_over(void **state)
{
    struct sum_stage stage;

    (void)state;
    for (int again = 0; again < 2; again++) {
        stage_open_with(&stage, 3 * BLOCK + 100);
        if (again != 0)
            stage_again(&stage);
        flip(&stage, stage.flushed_bytes - 50, 3);
        stage_append(&stage, 100, 2);
        assert_result(cellar_sum_extend(stage.file, stage.store, stage.flushed_bytes, stage.bytes), CELLAR_ECHECKSUM);
        stage_close(&stage);
    }
}

/* A sector is lost, the ones behind it are not: it is made anew, they are kept as they are. */
static void test_gap(void **state)
{
    struct sum_stage stage;
    struct sum_image image;
    bool covered;

    (void)state;
    for (int broken = 0; broken < 2; broken++) {
        stage_open_with(&stage, 4 * SPAN);
        image = stage_image(&stage);
        if (broken != 0)
            image.bytes[cellar_sum_sector_offset(1) + 30] ^= 4;
        else
            memset(image.bytes + cellar_sum_sector_offset(1), 0, CELLAR_SUM_SECTOR_BYTES);
        stage_put_back(&stage, &image);
        assert_int_equal(judge(&stage), CELLAR_SUMS_BEHIND);
        assert_true(stage.file->covered_bytes == SPAN);
        assert_true(stage.file->claimed_bytes == stage.flushed_bytes);
        stage_assert_no_alarm(&stage);
        flip(&stage, 2 * SPAN + 5000, 1);
        stage_extend(&stage);
        assert_int_equal(stage.file->renewed_blocks, broken != 0 ? CELLAR_SUM_PER_SECTOR : 0);
        assert_result(stage_verify(&stage, 2 * SPAN + 5000, &covered), CELLAR_ECHECKSUM);
        flip(&stage, 2 * SPAN + 5000, 1);
        assert_true(stage_assert_no_alarm(&stage) >= stage.flushed_bytes);
        stage_again(&stage);
        assert_int_equal(judge(&stage), CELLAR_SUMS_GOOD);
        free(image.bytes);
        stage_close(&stage);
    }
}

/* A copy of the first bytes was lost, and they have rotted since: the copy is not made of what they are now. */
static void test_rotten_first_block_is_not_copied(void **state)
{
    struct sum_stage stage;
    struct sum_image image;

    (void)state;
    stage_open_with(&stage, 10000);
    image = stage_image(&stage);
    memset(image.bytes + cellar_sum_copy_offset(3), 0, CELLAR_SUM_SECTOR_BYTES);
    stage_put_back(&stage, &image);
    flip(&stage, 300, 0);
    stage_append(&stage, 100, 2);
    assert_result(cellar_sum_extend(stage.file, stage.store, stage.flushed_bytes, stage.bytes), CELLAR_ECHECKSUM);
    flip(&stage, 300, 0);
    stage_put_back(&stage, &image);
    stage_extend(&stage);
    free(image.bytes);
    image = stage_image(&stage);
    assert_memory_equal(image.bytes + cellar_sum_copy_offset(3) + 24, stage.bytes + 256 + 3 * CELLAR_SUM_COPY_BYTES,
                        CELLAR_SUM_COPY_BYTES);
    free(image.bytes);
    stage_close(&stage);
}

/* ---- a reader beside the writer ---- */

/* The page was read, then cells were flushed and summed: the sum is not of what was read. Read again it is. */
static void test_page_from_before(void **state)
{
    unsigned char page[BLOCK];
    struct sum_stage stage;

    (void)state;
    stage_open_with(&stage, 1000);
    memcpy(page, stage.bytes, sizeof page);
    stage_append(&stage, 1000, 2);
    stage_extend(&stage);
    assert_result(cellar_sum_verify(stage.file, stage.store, 0, page, sizeof page), -EAGAIN);
    assert_result(cellar_sum_verify(stage.file, stage.store, 0, page, 1256), -EAGAIN); /* the file was shorter then */
    memcpy(page, stage.bytes, sizeof page);
    assert_done(cellar_sum_verify(stage.file, stage.store, 0, page, sizeof page));
    assert_done(cellar_sum_verify(stage.file, stage.store, 0, page, (size_t)stage.flushed_bytes));
    page[300] ^= 1; /* went wrong on its way, once */
    assert_result(cellar_sum_verify(stage.file, stage.store, 0, page, sizeof page), -EAGAIN);
    flip(&stage, 300, 0);
    assert_result(cellar_sum_verify(stage.file, stage.store, 0, page, sizeof page), CELLAR_ECHECKSUM);
    stage_close(&stage);
}

static void test_store_cut(void **state)
{
    struct sum_stage stage;

    (void)state;
    stage_open_with(&stage, 10000);
    assert_done(cellar_device_trim(stage.store, 9000));
    assert_result(cellar_sum_verify(stage.file, stage.store, 8192, stage.bytes + 8192, 808), CELLAR_ECHECKSUM);
    assert_result(cellar_sum_match(stage.file, stage.store), CELLAR_ECHECKSUM);
    stage_append(&stage, 100, 2);
    assert_result(cellar_sum_extend(stage.file, stage.store, stage.flushed_bytes, stage.bytes), CELLAR_EBOUNDS);
    stage_close(&stage);
}

/* ---- failing calls ---- */

/* Three extensions; every call that the device gets fails once. What is in the file is true whatever fails. */
static void test_failing_calls(void **state)
{
    static const uint64_t steps[] = {3000, 2 * SPAN, 130 * SPAN / 100};
    bool failed = true;
    uint64_t call;

    (void)state;
    for (call = 1; failed; call++) {
        struct fault_device fault = {.keep_inner = true};
        struct cellar_device *device, *inner;
        struct sum_stage stage;
        int error = 0;

        stage_open(&stage);
        cellar_sum_close(stage.file, false);
        inner = stage_device(NULL, 0);
        fault.inner = inner;
        assert_done(fault_device_open(&fault, &device));
        fault_fail_any(&fault, FAULT_ALL_BITS & ~FAULT_BIT(FAULT_CLOSE), call, 1, -EIO);
        stage.sums = device;
        stage.file = NULL;
        error = cellar_sum_create_on(device, &stage.owner, stage.bytes, &stage.file);
        for (size_t i = 0; error == 0 && i < SUPPORT_COUNT(steps); i++) {
            stage_append(&stage, steps[i], i);
            error = cellar_sum_extend(stage.file, stage.store, stage.flushed_bytes, stage.bytes);
            if (error == 0 && i == 1)
                error = cellar_sum_sync(stage.file);
        }
        failed = fault_calls(&fault, FAULT_ALL_BITS & ~FAULT_BIT(FAULT_CLOSE)) >= call;
        assert_true(error == 0 || (failed && error == -EIO));
        cellar_sum_close(stage.file, false);
        stage.file = NULL;
        if (cellar_sum_open_on(inner, &stage.owner, &stage.file) == 0) {
            assert_done(cellar_sum_scan(stage.file));
            assert_int_not_equal(judge(&stage), CELLAR_SUMS_STALE);
            stage_assert_no_alarm(&stage);
        }
        stage_close(&stage);
    }
    assert_true(call > 20); /* so many calls there are */
}

/* What a head calls settled was made durable before: growing, which moves it, begins with a barrier. */
static void test_growth_begins_with_a_barrier(void **state)
{
    struct fault_device fault = {.keep_inner = false};
    struct cellar_device *device;
    struct sum_stage stage;
    struct sum_image image;

    (void)state;
    stage_open_with(&stage, 5000);
    image = stage_image(&stage);
    cellar_sum_close(stage.file, false);
    fault.inner = stage_device(image.bytes, image.length_bytes);
    assert_done(fault_device_open(&fault, &device));
    assert_done(cellar_sum_open_on(device, &stage.owner, &stage.file));
    assert_done(cellar_sum_scan(stage.file));
    fault_fail(&fault, FAULT_SYNC, 1, 1, -EIO);
    stage_append(&stage, (uint64_t)140 * SPAN, 2);
    assert_result(cellar_sum_extend(stage.file, stage.store, stage.flushed_bytes, stage.bytes), -EIO);
    assert_true(stage.file->settled_bytes == CELLAR_SUM_FIRST_BYTE);
    free(image.bytes);
    stage_close(&stage);
}

/* A full disk: what was there before stays true, and enough. */
static void test_full_disk(void **state)
{
    struct sum_stage stage;
    struct sum_image image;

    (void)state;
    stage_open_with(&stage, 1000);
    image = stage_image(&stage);
    cellar_sum_close(stage.file, false);
    assert_done(
        cellar_device_open_memory(image.bytes, CELLAR_SUM_AT_SUMS + 1024, CELLAR_SUM_AT_SUMS + 1024, &stage.sums));
    assert_done(cellar_sum_open_on(stage.sums, &stage.owner, &stage.file));
    assert_done(cellar_sum_scan(stage.file));
    stage_append(&stage, 3 * SPAN, 2);
    assert_result(cellar_sum_extend(stage.file, stage.store, stage.flushed_bytes, stage.bytes), -ENOSPC);
    stage_again(&stage);
    assert_int_equal(judge(&stage), CELLAR_SUMS_BEHIND);
    assert_true(stage_assert_no_alarm(&stage) > 0);
    free(image.bytes);
    stage_close(&stage);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_covers_what_is_flushed),
        cmocka_unit_test(test_much_at_once),
        cmocka_unit_test(test_every_byte_is_watched),
        cmocka_unit_test(test_copies_of_the_first_bytes),
        cmocka_unit_test(test_heads_alternate),
        cmocka_unit_test(test_owners),
        cmocka_unit_test(test_no_head),
        cmocka_unit_test(test_cut),
        cmocka_unit_test(test_cut_below_settled),
        cmocka_unit_test(test_store_goes_on_alone),
        cmocka_unit_test(test_store_went_back),
        cmocka_unit_test(test_store_took_another_way),
        cmocka_unit_test(test_sums_went_back),
        cmocka_unit_test(test_rotten_first_part_is_not_summed_over),
        cmocka_unit_test(test_gap),
        cmocka_unit_test(test_rotten_first_block_is_not_copied),
        cmocka_unit_test(test_page_from_before),
        cmocka_unit_test(test_store_cut),
        cmocka_unit_test(test_failing_calls),
        cmocka_unit_test(test_growth_begins_with_a_barrier),
        cmocka_unit_test(test_full_disk),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
