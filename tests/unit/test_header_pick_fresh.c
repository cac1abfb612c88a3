/* What a pick says besides the state: whether what is read of the device is on its medium, and of a pair alone. */
#include "support.h"

#include "cell/header_pick.h"

enum { START = 8, FILE_CELLS = 40 };

/* All four slots hold the same state. */
static struct cellar_evidence evidence_of(uint64_t boot_mark, uint64_t incarnation)
{
    struct cellar_evidence evidence = {.extension = {.boot_mark = boot_mark},
                                       .incarnation = incarnation,
                                       .start_index = START,
                                       .file_cells = FILE_CELLS};

    for (int name = 0; name < CELLAR_SLOT_COUNT; name++)
        evidence.slots[name] = (struct cellar_slot){.valid = true, .state = {.next_index = 20, .root_index = 9}};
    return evidence;
}

/*
 * The upper halves name the boot: where both are known and differ, the caches that the last writer stored into are
 * gone. The lower halves make no difference, nor does a number that is not known.
 */
static void test_fresh(void **state)
{
    static const uint64_t boot = UINT64_C(0x12345678) << 32;
    const struct {
        uint64_t boot_mark, incarnation;
        bool fresh;
    } rows[] = {
        {0, 0, false},
        {0, boot, false},
        {boot, 0, false},
        {boot, boot, false},
        {boot, boot + 1, false},
        {boot + UINT32_MAX, boot, false},
        {boot, boot + (UINT64_C(1) << 32), true},
        {boot + (UINT64_C(1) << 32), boot, true},
        {boot, boot ^ (UINT64_C(1) << 63), true},
        {boot, 1, true}, /* 1 is a number as any other */
        {1, boot, true},
        {1, 2, false},
        {1, 1, false},
    };

    (void)state;
    for (size_t i = 0; i < SUPPORT_COUNT(rows); i++) {
        struct cellar_evidence evidence = evidence_of(rows[i].boot_mark, rows[i].incarnation);
        struct cellar_pick pick;

        assert_done(cellar_pick_writer(&evidence, &pick, NULL));
        assert_int_equal(pick.fresh, rows[i].fresh);
        /* The mark is that of another writer, who knew no marks: it says nothing. */
        evidence.extension.binding = 1;
        assert_done(cellar_pick_writer(&evidence, &pick, NULL));
        assert_false(pick.fresh);
        evidence.slots[CELLAR_PROCESS_2].keyed = 1;
        assert_done(cellar_pick_writer(&evidence, &pick, NULL));
        assert_int_equal(pick.fresh, rows[i].fresh);
    }
}

/* Of the disk-sync pair alone nothing is known of the other one. */
static void test_disk_pair_alone(void **state)
{
    struct cellar_evidence evidence = evidence_of(0, 0);
    struct cellar_pick pick;

    (void)state;
    for (int broken = 0; broken < 2; broken++) {
        evidence.slots[CELLAR_DISK_1].valid = !broken;
        assert_done(cellar_pick_disk(&evidence, &pick, NULL));
        assert_int_equal(pick.disk_in_force, broken);
        assert_int_equal(pick.process_in_force, -1);
        assert_int_equal(pick.repair, broken ? CELLAR_SLOT_DISK_1 : 0);
        assert_int_equal(pick.found, CELLAR_FOUND_CLEAN);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_fresh),
        cmocka_unit_test(test_disk_pair_alone),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
