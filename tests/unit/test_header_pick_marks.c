/*
 * The recovery decision over every combination of slots, boot marks, bindings, flags and confirmed next indices,
 * against the rules of docs/format.md written down once more.
 */
#include "support.h"

#include "cell/header_pick.h"

enum { START = 8, FILE_CELLS = 40, SLOT_KINDS = 7, MARKS = 3, BINDINGS = 4, FLAGS = 8, CONFIRMED = 5 };

/* What a slot may say: broken, and states round the ones that matter. Every slot's keyed hash is its own. */
static const struct cellar_slot kinds[SLOT_KINDS] = {
    {.valid = false, .state = {.next_index = 30, .root_index = 29}},
    {.valid = true, .state = {.next_index = START, .root_index = 0}},
    {.valid = true, .state = {.next_index = 20, .root_index = 0}},
    {.valid = true, .state = {.next_index = 20, .root_index = 15}},
    {.valid = true, .state = {.next_index = 20, .root_index = 9}},
    {.valid = true, .state = {.next_index = 30, .root_index = 25}},
    {.valid = true, .state = {.next_index = FILE_CELLS + 1, .root_index = 25}},
};

static const uint32_t flags_of[FLAGS] = {
    0,
    CELLAR_FLAG_SUSPECT,
    CELLAR_FLAG_SYNCING,
    CELLAR_FLAG_SUSPECT | CELLAR_FLAG_SYNCING,
    CELLAR_FLAG_RETIRED,
    CELLAR_FLAG_RETIRED | CELLAR_FLAG_SUSPECT,
    CELLAR_FLAG_RETIRED | CELLAR_FLAG_SYNCING,
    UINT32_MAX,
};

static const uint32_t confirmed_of[CONFIRMED] = {0, START, 14, 20, UINT32_MAX};

static const struct cellar_slot *in_force(const struct cellar_slot *pair)
{
    return pair[0].valid ? &pair[0] : pair[1].valid ? &pair[1] : NULL;
}

/* The rules, in the order of the document. */
struct verdict {
    bool corrupt, whole;
    enum cellar_found found;
    struct cellar_state adopted;
    uint32_t rewrite_index, confirmed_index;
};

static bool is_bound(const struct cellar_evidence *evidence)
{
    bool bound = false;

    for (int i = CELLAR_PROCESS_1; i <= CELLAR_PROCESS_2; i++)
        bound = bound || (evidence->slots[i].valid && evidence->slots[i].keyed == evidence->extension.binding);
    return bound;
}

static bool mark_holds(const struct cellar_evidence *evidence)
{
    return evidence->incarnation != 0 && evidence->incarnation == evidence->extension.boot_mark && is_bound(evidence);
}

/* Another boot since the mark: what is read is on the medium. Not where the original came in between. */
static bool is_fresh(const struct cellar_evidence *evidence)
{
    return evidence->incarnation != 0 && evidence->extension.boot_mark != 0 &&
           evidence->incarnation >> 32 != evidence->extension.boot_mark >> 32 && is_bound(evidence);
}

static struct verdict judge(const struct cellar_evidence *evidence)
{
    const struct cellar_slot *disk = in_force(evidence->slots), *process = in_force(evidence->slots + 2);
    bool suspect = (evidence->extension.flags & CELLAR_FLAG_SUSPECT) != 0;
    bool syncing = (evidence->extension.flags & CELLAR_FLAG_SYNCING) != 0;
    uint32_t confirmed = evidence->extension.confirmed_next;
    struct verdict v = {.corrupt = true};

    if (disk == NULL || disk->state.next_index > FILE_CELLS)
        return v;
    if (process != NULL && process->state.next_index > FILE_CELLS)
        return v;
    v.corrupt = false;
    v.adopted = disk->state;
    if (process == NULL) {
        v.found = CELLAR_FOUND_PROCESS_BROKEN;
    } else if (process->state.next_index < disk->state.next_index) {
        v.found = CELLAR_FOUND_DISK_NEWER;
    } else {
        v.whole = mark_holds(evidence) && !suspect;
        v.adopted.next_index = process->state.next_index;
        v.found = CELLAR_FOUND_CLEAN;
        if (process->state.root_index != disk->state.root_index ||
            process->state.next_index != disk->state.next_index) {
            v.found = v.whole ? CELLAR_FOUND_COMMITTED : CELLAR_FOUND_UNFLUSHED;
            if (v.whole)
                v.adopted.root_index = process->state.root_index;
        }
    }
    for (int i = CELLAR_PROCESS_1; process != NULL && !v.whole && i <= CELLAR_PROCESS_2; i++) {
        uint32_t next = evidence->slots[i].valid ? evidence->slots[i].state.next_index : 0;

        if (next <= FILE_CELLS && next > v.adopted.next_index) {
            v.adopted.next_index = next;
            v.found = v.found == CELLAR_FOUND_CLEAN ? CELLAR_FOUND_UNFLUSHED : v.found;
        }
    }
    confirmed = confirmed < START ? START : confirmed > v.adopted.next_index ? v.adopted.next_index : confirmed;
    v.rewrite_index = v.adopted.next_index;
    v.confirmed_index = v.whole ? confirmed : START;
    if (suspect || (v.whole && syncing)) {
        v.rewrite_index = confirmed;
        v.confirmed_index = v.adopted.next_index;
    }
    return v;
}

static void check(const struct cellar_evidence *evidence)
{
    struct verdict v = judge(evidence);
    struct cellar_pick pick = {.found = CELLAR_FOUND_NOTHING};
    struct cellar_pick_problem problem;
    int result = cellar_pick_writer(evidence, &pick, &problem);

    if (v.corrupt != (result == CELLAR_ECORRUPT) || (result != 0 && result != CELLAR_ECORRUPT))
        fail_msg("result %d", result);
    if (v.corrupt)
        return;
    if (pick.found != v.found || pick.whole != v.whole || pick.adopted.next_index != v.adopted.next_index ||
        pick.adopted.root_index != v.adopted.root_index || pick.rewrite_index != v.rewrite_index ||
        pick.confirmed_index != v.confirmed_index || pick.fresh != is_fresh(evidence) ||
        pick.suspect != ((evidence->extension.flags & CELLAR_FLAG_SUSPECT) != 0))
        fail_msg("found %d whole %d next %u root %u rewrite %u confirmed %u; expected %d %d %u %u %u %u",
                 (int)pick.found, pick.whole, pick.adopted.next_index, pick.adopted.root_index, pick.rewrite_index,
                 pick.confirmed_index, (int)v.found, v.whole, v.adopted.next_index, v.adopted.root_index,
                 v.rewrite_index, v.confirmed_index);
    /* Whatever the marks say: what is durable stays, and no root is adopted that nobody committed. */
    if (pick.adopted.next_index < pick.disk.next_index || pick.adopted.next_index < pick.process.next_index)
        fail_msg("next goes back");
    if (pick.adopted.root_index != pick.disk.root_index && pick.adopted.root_index != pick.process.root_index)
        fail_msg("a root from nowhere");
}

static void check_marks(struct cellar_evidence *evidence, int number)
{
    static const uint64_t marks[MARKS] = {0, 77, UINT64_C(1) << 32 | 77}; /* the last one of another boot */
    const uint64_t bindings[BINDINGS] = {0, evidence->slots[2].keyed, evidence->slots[3].keyed, 99};

    for (int incarnation = 0; incarnation < 2; incarnation++) {
        evidence->incarnation = marks[incarnation];
        evidence->extension = (struct cellar_extension){
            .boot_mark = marks[number % MARKS],
            .binding = bindings[number / MARKS % BINDINGS],
            .flags = flags_of[number / MARKS / BINDINGS % FLAGS],
            .confirmed_next = confirmed_of[number / MARKS / BINDINGS / FLAGS],
        };
        check(evidence);
    }
}

static void test_every_combination(void **state)
{
    struct cellar_evidence evidence = {.start_index = START, .file_cells = FILE_CELLS};

    (void)state;
    for (int number = 0; number < SLOT_KINDS * SLOT_KINDS * SLOT_KINDS * SLOT_KINDS; number++) {
        int rest = number;

        for (int i = 0; i < CELLAR_SLOT_COUNT; i++) {
            evidence.slots[i] = kinds[rest % SLOT_KINDS];
            evidence.slots[i].keyed = 1000 + (uint64_t)i;
            rest /= SLOT_KINDS;
        }
        for (int marks = 0; marks < MARKS * BINDINGS * FLAGS * CONFIRMED; marks++)
            check_marks(&evidence, marks);
    }
}

/* A file that never had a mark, or lost it to the original, is opened as the original would. */
static void test_void_marks_change_nothing(void **state)
{
    struct cellar_evidence evidence = {.incarnation = 5, .start_index = START, .file_cells = FILE_CELLS};
    struct cellar_pick pick;

    (void)state;
    evidence.slots[0] = evidence.slots[1] = kinds[1];
    evidence.slots[2] = evidence.slots[3] = kinds[5];
    assert_done(cellar_pick_writer(&evidence, &pick, NULL));
    assert_int_equal(pick.found, CELLAR_FOUND_UNFLUSHED);
    evidence.extension.boot_mark = 5;
    evidence.extension.binding = 7; /* another key published since */
    assert_done(cellar_pick_writer(&evidence, &pick, NULL));
    assert_int_equal(pick.found, CELLAR_FOUND_UNFLUSHED);
    evidence.slots[2].keyed = 7;
    assert_done(cellar_pick_writer(&evidence, &pick, NULL));
    assert_int_equal(pick.found, CELLAR_FOUND_COMMITTED);
    evidence.slots[2].valid = false; /* the next writer died in it: #2 is in force, and is bound by nothing */
    assert_done(cellar_pick_writer(&evidence, &pick, NULL));
    assert_int_equal(pick.found, CELLAR_FOUND_UNFLUSHED);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_combination),
        cmocka_unit_test(test_void_marks_change_nothing),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
