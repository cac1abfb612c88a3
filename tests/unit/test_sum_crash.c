/*
 * Power losses. What a sums file was made durable as is there; of every sector that was written since, any of the
 * versions that it had. No such file gives a false alarm, none lacks a sum that was durable, and each can be extended.
 */
#include "sum_stage.h"

#include "sum/sum_hash.h"

enum { ROUNDS = 60, STEPS = 12, IMAGES = 12, SECTOR = CELLAR_SUM_SECTOR_BYTES, BLOCK = CELLAR_SUM_BLOCK_BYTES };

struct history {
    struct sum_image images[STEPS + 1]; /* the file after each extension since the last sync */
    uint64_t flushed_bytes[STEPS + 1];
    size_t count;
};

static void forget(struct history *history)
{
    for (size_t i = 0; i < history->count; i++)
        free(history->images[i].bytes);
    history->count = 0;
}

static void remember(struct history *history, const struct sum_stage *stage)
{
    history->images[history->count] = stage_image(stage);
    history->flushed_bytes[history->count] = stage->flushed_bytes;
    history->count++;
}

/* A file whose sectors are each of some version since the sync. Its length is durable before what lies in it. */
static struct sum_image mix(const struct history *history, uint64_t *random)
{
    const struct sum_image *last = &history->images[history->count - 1];
    struct sum_image image = {.bytes = calloc(1, last->length_bytes), .length_bytes = last->length_bytes};

    assert_non_null(image.bytes);
    for (size_t at = 0; at < image.length_bytes; at += SECTOR) {
        const struct sum_image *from = &history->images[support_random_below(random, history->count)];

        if (at + SECTOR <= from->length_bytes)
            memcpy(image.bytes + at, from->bytes + at, SECTOR);
    }
    return image;
}

/* Whether the byte had a sum in that file. */
static bool had_sum(const struct sum_image *image, uint64_t offset)
{
    struct cellar_sum_sector sector;
    uint32_t number = cellar_sum_sector_of(offset);
    size_t at = (size_t)cellar_sum_sector_offset(number);

    return at + SECTOR <= image->length_bytes &&
           cellar_sum_sector_decode(image->bytes + at, 77, number, &sector) == 0 &&
           offset < cellar_sum_sector_end(&sector);
}

/* One image: what it says is true, what was durable is in it, a flipped bit of that is found, it can be extended. */
static void judge_image(struct sum_stage *stage, const struct history *history, uint64_t *random)
{
    struct sum_stage other = *stage;
    struct sum_image image = mix(history, random);
    uint64_t flipped = CELLAR_SUM_FIRST_BYTE + support_random_below(random, stage->flushed_bytes - 256);
    bool covered;
    int verdict;

    other.sums = stage_device(image.bytes, image.length_bytes);
    assert_done(cellar_sum_open_on(other.sums, &other.owner, &other.file));
    assert_done(cellar_sum_scan(other.file));
    assert_int_not_equal(cellar_sum_judge(other.file->covered_bytes, other.file->claimed_bytes, other.flushed_bytes),
                         CELLAR_SUMS_STALE);
    assert_done(cellar_sum_match(other.file, other.store));
    stage_assert_no_alarm(&other);

    other.bytes[flipped] ^= 16;
    verdict = stage_verify(&other, flipped, &covered);
    if (had_sum(&history->images[0], flipped))
        assert_int_equal(verdict, CELLAR_ECHECKSUM);
    else
        assert_true(verdict == 0 || verdict == CELLAR_ECHECKSUM);
    other.bytes[flipped] ^= 16;

    stage_extend(&other);
    assert_true(stage_assert_no_alarm(&other) >= other.flushed_bytes);
    cellar_sum_close(other.file, false);
    free(image.bytes);
}

static void run(uint64_t seed)
{
    struct history history = {.count = 0};
    struct sum_stage stage;
    uint64_t random = seed;

    stage_open(&stage);
    remember(&history, &stage);
    for (int step = 0; step < STEPS; step++) {
        static const uint64_t sizes[] = {40, 600, 5000, CELLAR_SUM_SPAN_BYTES};

        stage_append(&stage, 1 + support_random_below(&random, sizes[support_random_below(&random, 4)]), random);
        stage_extend(&stage);
        remember(&history, &stage);
        for (int i = 0; i < IMAGES; i++)
            judge_image(&stage, &history, &random);
        switch (support_random_below(&random, 6)) {
        case 0: /* a sync */
            forget(&history);
            remember(&history, &stage);
            break;
        case 1: { /* the power loss, and on from what it left */
            struct sum_image image = mix(&history, &random);

            stage_put_back(&stage, &image);
            forget(&history);
            free(image.bytes);
            remember(&history, &stage);
            break;
        }
        default:
            break;
        }
    }
    forget(&history);
    stage_close(&stage);
}

static void test_any_subset_of_sectors(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= ROUNDS; seed++)
        run(seed);
}

/* Lines of 64 bytes within a sector mix as well (a page that was changed while it was on its way): such a sector is
 * broken, and its blocks are not covered; still nothing false is said. */
static void test_mixed_lines(void **state)
{
    uint64_t random = 5;

    (void)state;
    for (int round = 0; round < 200; round++) {
        struct sum_stage stage;
        struct sum_image before, after;

        stage_open(&stage);
        stage_append(&stage, 1 + support_random_below(&random, 20000), random);
        stage_extend(&stage);
        before = stage_image(&stage);
        stage_append(&stage, 1 + support_random_below(&random, 20000), random);
        stage_extend(&stage);
        after = stage_image(&stage);
        for (size_t at = (size_t)BLOCK; at < before.length_bytes; at += 64) {
            if (support_random_below(&random, 2) == 0)
                memcpy(after.bytes + at, before.bytes + at, 64);
        }
        if (stage_reopen(&stage, &after) == 0) { /* the other head may be the one that mixed */
            assert_done(cellar_sum_scan(stage.file));
            assert_done(cellar_sum_match(stage.file, stage.store));
            stage_assert_no_alarm(&stage);
            stage_extend(&stage);
            assert_true(stage_assert_no_alarm(&stage) >= stage.flushed_bytes);
        }
        free(before.bytes);
        free(after.bytes);
        stage_close(&stage);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_any_subset_of_sectors),
        cmocka_unit_test(test_mixed_lines),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
