/*
 * The recovery decision with records of checked flushes, over every combination of slots, records, marks and flags,
 * against the rules of docs/format.md written down once more; and what must hold of it whatever the rules are.
 */
#include "support.h"

#include "cell/header_pick.h"

#include <string.h>

enum {
    START = 8,
    FILE_CELLS = 40,
    SLOT_KINDS = 5,
    RECORD_KINDS = 7,
    MARKS = 4,
    FLAGS = 4,
    PROCESS_KINDS = 5,
    CONFIRMED = 25,
};

static const struct cellar_slot slot_kinds[SLOT_KINDS] = {
    {.valid = false, .state = {.next_index = 35, .root_index = 34}},
    {.valid = true, .state = {.next_index = START, .root_index = 0}},
    {.valid = true, .state = {.next_index = 20, .root_index = 15}},
    {.valid = true, .state = {.next_index = 30, .root_index = 15}},
    {.valid = true, .state = {.next_index = FILE_CELLS + 1, .root_index = 15}},
};

/* Below, at and above the slots' next; those that don't hold say large things, too. */
static const struct cellar_witness record_kinds[RECORD_KINDS] = {
    {.holds = false, .state = {.next_index = 0, .root_index = 0}},
    {.holds = false, .state = {.next_index = 39, .root_index = 38}},
    {.holds = true, .state = {.next_index = 14, .root_index = 11}},
    {.holds = true, .state = {.next_index = 20, .root_index = 12}},
    {.holds = true, .state = {.next_index = 25, .root_index = 13}},
    {.holds = true, .state = {.next_index = 30, .root_index = 14}},
    {.holds = true, .state = {.next_index = FILE_CELLS, .root_index = 16}},
};

static const struct cellar_slot process_kinds[PROCESS_KINDS] = {
    {.valid = false, .state = {.next_index = 36, .root_index = 35}},
    {.valid = true, .state = {.next_index = 20, .root_index = 15}},
    {.valid = true, .state = {.next_index = 25, .root_index = 13}},
    {.valid = true, .state = {.next_index = 30, .root_index = 20}},
    {.valid = true, .state = {.next_index = FILE_CELLS, .root_index = 21}},
};

/* The mark of a file whose device says NOW: its own, that of another mount, that of another boot, none. */
static const uint64_t now = UINT64_C(0x0000000700000003);
static const uint64_t marks[MARKS] = {UINT64_C(0x0000000700000003), UINT64_C(0x0000000700000002),
                                      UINT64_C(0x0000000600000003), 0};

static const uint32_t flags_of[FLAGS] = {0, CELLAR_FLAG_SYNCING, CELLAR_FLAG_SUSPECT,
                                         CELLAR_FLAG_SYNCING | CELLAR_FLAG_SUSPECT};

static bool states_equal(struct cellar_state a, struct cellar_state b)
{
    return a.next_index == b.next_index && a.root_index == b.root_index;
}

/* ---- the rules ---- */

static const struct cellar_slot *slot_in_force(const struct cellar_slot *pair)
{
    return pair[0].valid ? &pair[0] : pair[1].valid ? &pair[1] : NULL;
}

/* Who may go by a record: nobody without the flag; all where no slot says anything; a writer where no other writer of
 * this boot and mount can have left it, or where no process can have left both process-sync slots as they are; a reader
 * where none of this boot can, and it knows. */
static bool records_count(const struct cellar_evidence *e)
{
    if ((e->extension.flags & CELLAR_FLAG_CHECKED) == 0)
        return false;
    if (slot_in_force(e->slots) == NULL)
        return true;
    if (!e->reads_only)
        return e->incarnation == 0 || e->extension.boot_mark != e->incarnation || slot_in_force(e->slots + 2) == NULL;
    return e->incarnation != 0 && (uint32_t)(e->extension.boot_mark >> 32) != (uint32_t)(e->incarnation >> 32);
}

struct verdict {
    bool corrupt;
    int record; /* -1: a slot */
    struct cellar_state disk;
};

static struct verdict judge_disk(const struct cellar_evidence *e)
{
    const struct cellar_slot *slot = slot_in_force(e->slots);
    struct verdict v = {.record = -1};

    if (slot != NULL && (slot->state.next_index < e->start_index || slot->state.next_index > e->file_cells)) {
        v.corrupt = true;
        return v;
    }
    if (slot != NULL)
        v.disk = slot->state;
    for (int place = 0; place < CELLAR_RECORD_COUNT && records_count(e); place++) {
        const struct cellar_witness *record = &e->records[place];

        if (record->holds && (slot == NULL || record->state.next_index > slot->state.next_index) &&
            (v.record < 0 || record->state.next_index > v.disk.next_index)) {
            v.record = place;
            v.disk = record->state;
        }
    }
    v.corrupt = slot == NULL && v.record < 0;
    return v;
}

static bool is_bound(const struct cellar_evidence *e)
{
    return (e->slots[2].valid && e->slots[2].keyed == e->extension.binding) ||
           (e->slots[3].valid && e->slots[3].keyed == e->extension.binding);
}

/* What a writer goes on with, of a disk-sync state that is not corrupt. */
static void expect_adopted(const struct cellar_evidence *e, const struct verdict *v, const struct cellar_pick *pick)
{
    const struct cellar_slot *process = slot_in_force(e->slots + 2);
    bool suspect = (e->extension.flags & CELLAR_FLAG_SUSPECT) != 0;
    bool whole = process != NULL && process->state.next_index >= v->disk.next_index && e->incarnation != 0 &&
                 e->extension.boot_mark == e->incarnation && is_bound(e) && !suspect;
    struct cellar_state adopted = v->disk;
    enum cellar_found found = CELLAR_FOUND_CLEAN;

    if (process == NULL)
        found = CELLAR_FOUND_PROCESS_BROKEN;
    else if (process->state.next_index < v->disk.next_index)
        found = CELLAR_FOUND_DISK_NEWER;
    else if (!states_equal(process->state, v->disk))
        found = whole ? CELLAR_FOUND_COMMITTED : CELLAR_FOUND_UNFLUSHED;
    for (int name = CELLAR_PROCESS_1; name <= CELLAR_PROCESS_2 && !whole; name++) { /* no cell is used again */
        if (e->slots[name].valid && e->slots[name].state.next_index > adopted.next_index) {
            adopted.next_index = e->slots[name].state.next_index;
            found = found == CELLAR_FOUND_CLEAN ? CELLAR_FOUND_UNFLUSHED : found;
        }
    }
    if (whole)
        adopted = process->state;
    assert_int_equal(pick->found, found);
    assert_true(states_equal(pick->adopted, adopted));
    assert_int_equal(pick->whole, whole);
}

/* Cells that are promised and may be in caches alone, after a sync of unknown outcome, are written once more. */
static void expect_rewrite(const struct cellar_evidence *e, const struct verdict *v, const struct cellar_pick *pick)
{
    bool suspect = (e->extension.flags & CELLAR_FLAG_SUSPECT) != 0;
    bool syncing = (e->extension.flags & CELLAR_FLAG_SYNCING) != 0;
    bool other_boot = e->incarnation != 0 && e->extension.boot_mark != 0 &&
                      e->extension.boot_mark >> 32 != e->incarnation >> 32 && is_bound(e);
    bool doubtful = suspect || (syncing && (pick->whole || (v->record >= 0 && !other_boot)));
    uint32_t adopted = pick->adopted.next_index, known = CONFIRMED < adopted ? CONFIRMED : adopted;

    assert_int_equal(pick->rewrite_index, doubtful ? known : adopted);
    assert_int_equal(pick->confirmed_index, doubtful ? adopted : pick->whole ? known : START);
}

static void expect_disk(const struct cellar_evidence *e, const struct verdict *v, const struct cellar_pick *pick)
{
    unsigned repair = 0;

    assert_int_equal(pick->record, v->record);
    assert_true(states_equal(pick->disk, v->disk));
    assert_int_equal(pick->disk_in_force, e->slots[0].valid ? 0 : e->slots[1].valid ? 1 : -1);
    for (int name = 0; name < 2; name++) {
        if (!e->slots[name].valid || !states_equal(e->slots[name].state, v->disk))
            repair |= 1u << name;
    }
    assert_int_equal(pick->repair & (CELLAR_SLOT_DISK_1 | CELLAR_SLOT_DISK_2), repair);
}

static void expect(const struct cellar_evidence *e)
{
    struct cellar_pick_problem problem = {.file_offset = 1};
    struct verdict v = judge_disk(e);
    struct cellar_pick pick;
    int result = e->reads_only ? cellar_pick_disk(e, &pick, &problem) : cellar_pick_writer(e, &pick, &problem);

    assert_int_equal(cellar_records_count(e), records_count(e));
    assert_int_equal(result, v.corrupt ? CELLAR_ECORRUPT : 0);
    if (v.corrupt) {
        assert_int_equal(problem.broken, slot_in_force(e->slots) == NULL);
        return;
    }
    expect_disk(e, &v, &pick);
    if (e->reads_only)
        return;
    expect_adopted(e, &v, &pick);
    expect_rewrite(e, &v, &pick);
}

/* ---- all of them ---- */

static void set_process(struct cellar_evidence *e, int first, int second)
{
    e->slots[CELLAR_PROCESS_1] = process_kinds[first];
    e->slots[CELLAR_PROCESS_2] = process_kinds[second];
    e->slots[CELLAR_PROCESS_1].keyed = 100;
    e->slots[CELLAR_PROCESS_2].keyed = 200;
}

static void for_all_disks(struct cellar_evidence *e, void (*look)(const struct cellar_evidence *e))
{
    for (int first = 0; first < SLOT_KINDS * SLOT_KINDS; first++) {
        e->slots[CELLAR_DISK_1] = slot_kinds[first % SLOT_KINDS];
        e->slots[CELLAR_DISK_2] = slot_kinds[first / SLOT_KINDS];
        for (int record = 0; record < RECORD_KINDS * RECORD_KINDS; record++) {
            e->records[0] = record_kinds[record % RECORD_KINDS];
            e->records[1] = record_kinds[record / RECORD_KINDS];
            look(e);
        }
    }
}

static void for_all_marks(struct cellar_evidence *e, void (*look)(const struct cellar_evidence *e))
{
    for (int mark = 0; mark < MARKS * 2 * 2 * 2 * 2; mark++) {
        e->extension.boot_mark = marks[mark % MARKS];
        e->incarnation = mark / MARKS % 2 == 0 ? now : 0;
        e->reads_only = mark / MARKS / 2 % 2 == 1;
        e->extension.binding = mark / MARKS / 4 % 2 == 0 ? 200 : 300;
        e->extension.flags &= ~(uint32_t)CELLAR_FLAG_CHECKED;
        if (mark / MARKS / 8 == 0)
            e->extension.flags |= CELLAR_FLAG_CHECKED;
        for_all_disks(e, look);
    }
}

static struct cellar_evidence evidence_of_a_file(void)
{
    return (struct cellar_evidence){
        .start_index = START, .file_cells = FILE_CELLS, .extension = {.confirmed_next = CONFIRMED}};
}

static void test_every_combination(void **state)
{
    struct cellar_evidence e = evidence_of_a_file();

    (void)state;
    for (int process = 0; process < PROCESS_KINDS * PROCESS_KINDS; process++) {
        set_process(&e, process % PROCESS_KINDS, process / PROCESS_KINDS);
        for (int flags = 0; flags < FLAGS; flags++) {
            e.extension.flags = flags_of[flags];
            for_all_marks(&e, expect);
        }
    }
}

/* ---- what must hold whatever the rules are ---- */

/* 0: the store does not open. */
static uint32_t disk_next(const struct cellar_evidence *e)
{
    struct cellar_pick pick;

    return cellar_pick_disk(e, &pick, NULL) == 0 ? pick.disk.next_index : 0;
}

static void look_monotone(const struct cellar_evidence *e)
{
    struct cellar_evidence other = *e;
    uint32_t next = disk_next(e);

    /* Without its records a file opens on a smaller state, or on the same. */
    other.records[0].holds = other.records[1].holds = false;
    assert_true(disk_next(&other) <= next);
    /* What a record says that does not hold is nothing. */
    other = *e;
    for (int place = 0; place < CELLAR_RECORD_COUNT; place++) {
        if (!other.records[place].holds)
            other.records[place].state = (struct cellar_state){.next_index = UINT32_MAX, .root_index = 1};
    }
    assert_true(disk_next(&other) == next);
    /* Nor are records where the flag is clear. */
    other = *e;
    other.extension.flags &= ~(uint32_t)CELLAR_FLAG_CHECKED;
    if ((e->extension.flags & CELLAR_FLAG_CHECKED) == 0)
        assert_true(disk_next(&other) == next);
    assert_true(disk_next(&other) <= next);
    /* Their places make no difference. */
    other = *e;
    other.records[0] = e->records[1];
    other.records[1] = e->records[0];
    assert_true(disk_next(&other) == next);
    /* A reader is shown no more than a writer goes by. */
    other = *e;
    other.reads_only = true;
    assert_true(disk_next(&other) <= next);
}

/* The state never goes back while slot #1 rises, nor is one found that nothing says. */
static void look_raised(const struct cellar_evidence *e)
{
    struct cellar_evidence higher = *e;
    uint32_t next = disk_next(e);
    bool said = next == 0;

    for (int i = 0; i < 2; i++) {
        said |= e->slots[i].valid && e->slots[i].state.next_index == next;
        said |= e->records[i].holds && e->records[i].state.next_index == next;
    }
    assert_true(said);
    if (!e->slots[CELLAR_DISK_1].valid || next == 0)
        return;
    higher.slots[CELLAR_DISK_1].state.next_index++;
    assert_true(disk_next(&higher) == 0 || disk_next(&higher) >= next);
}

static void test_it_never_goes_back(void **state)
{
    struct cellar_evidence e = evidence_of_a_file();

    (void)state;
    set_process(&e, 1, 1);
    for_all_marks(&e, look_monotone);
    for_all_marks(&e, look_raised);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_combination),
        cmocka_unit_test(test_it_never_goes_back),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
