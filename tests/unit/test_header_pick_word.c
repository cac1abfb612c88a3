/*
 * The recovery decision with the published word, over every combination of slots, words, marks, bindings and flags,
 * against the rules of docs/format.md written down once more; and what must hold of it whatever the rules are.
 */
#include "support.h"

#include "cell/header_pick.h"

enum {
    START = 8,
    FILE_CELLS = 40,
    DISK_KINDS = 5,
    PROCESS_KINDS = 7,
    WORD_KINDS = 10,
    FLAG_KINDS = 8,
    MARK_KINDS = 3,
    BINDING_KINDS = 4,
    RECORD_KINDS = 4,
    CONFIRMED = 14,
};

static const struct cellar_slot disk_kinds[DISK_KINDS] = {
    {.valid = false, .state = {.next_index = 39, .root_index = 38}},
    {.valid = true, .state = {.next_index = START, .root_index = 0}},
    {.valid = true, .state = {.next_index = 20, .root_index = 15}},
    {.valid = true, .state = {.next_index = 30, .root_index = 25}},
    {.valid = true, .state = {.next_index = FILE_CELLS + 1, .root_index = 25}},
};

static const struct cellar_slot process_kinds[PROCESS_KINDS] = {
    {.valid = false, .state = {.next_index = 38, .root_index = 37}},
    {.valid = true, .state = {.next_index = START - 1, .root_index = 0}},
    {.valid = true, .state = {.next_index = START, .root_index = 0}},
    {.valid = true, .state = {.next_index = 20, .root_index = 15}},
    {.valid = true, .state = {.next_index = 20, .root_index = 9}},
    {.valid = true, .state = {.next_index = 30, .root_index = 29}},
    {.valid = true, .state = {.next_index = FILE_CELLS + 1, .root_index = 25}},
};

/* Never stored; below start; and round the states of the slots, and the end of the file. */
static const struct cellar_state word_kinds[WORD_KINDS] = {
    {.next_index = 0, .root_index = 0},
    {.next_index = START - 1, .root_index = 3},
    {.next_index = START, .root_index = 0},
    {.next_index = 20, .root_index = 15},
    {.next_index = 20, .root_index = 12},
    {.next_index = 25, .root_index = 24},
    {.next_index = 30, .root_index = 25},
    {.next_index = FILE_CELLS, .root_index = 39},
    {.next_index = FILE_CELLS + 1, .root_index = 40},
    {.next_index = UINT32_MAX, .root_index = UINT32_MAX},
};

static const uint32_t flags_of[FLAG_KINDS] = {
    0,
    CELLAR_FLAG_SUSPECT,
    CELLAR_FLAG_SYNCING,
    CELLAR_FLAG_SUSPECT | CELLAR_FLAG_SYNCING,
    CELLAR_FLAG_WORD,
    CELLAR_FLAG_WORD | CELLAR_FLAG_SUSPECT,
    CELLAR_FLAG_WORD | CELLAR_FLAG_SYNCING,
    CELLAR_FLAG_WORD | CELLAR_FLAG_SUSPECT | CELLAR_FLAG_SYNCING,
};

/* No record; one that doesn't hold, and two that do: below, between and above what slots and words say. */
static const struct cellar_witness record_kinds[RECORD_KINDS] = {
    {.holds = false, .state = {.next_index = 0, .root_index = 0}},
    {.holds = false, .state = {.next_index = 39, .root_index = 38}},
    {.holds = true, .state = {.next_index = 22, .root_index = 21}},
    {.holds = true, .state = {.next_index = 34, .root_index = 33}},
};

static bool states_equal(struct cellar_state a, struct cellar_state b)
{
    return a.next_index == b.next_index && a.root_index == b.root_index;
}

static bool has_flag(const struct cellar_evidence *e, uint32_t flag)
{
    return (e->extension.flags & flag) != 0;
}

/* ---- the rules ---- */

static const struct cellar_slot *slot_in_force(const struct cellar_slot *pair)
{
    return pair[0].valid ? &pair[0] : pair[1].valid ? &pair[1] : NULL;
}

static bool is_in_file(const struct cellar_evidence *e, struct cellar_state state)
{
    return state.next_index >= e->start_index && state.next_index <= e->file_cells;
}

/* Nothing that was written is lost: the mark is now's, and who bound it published last. */
static bool nothing_lost(const struct cellar_evidence *e)
{
    bool bound = false;

    for (int name = CELLAR_PROCESS_1; name <= CELLAR_PROCESS_2; name++)
        bound |= e->slots[name].valid && e->slots[name].keyed == e->extension.binding;
    return bound && e->incarnation != 0 && e->extension.boot_mark == e->incarnation;
}

/* test_header_pick_records.c has the rules. */
static bool record_counts(const struct cellar_evidence *e)
{
    return has_flag(e, CELLAR_FLAG_CHECKED) && e->records[0].holds &&
           (slot_in_force(e->slots) == NULL || slot_in_force(e->slots + CELLAR_PROCESS_1) == NULL ||
            e->incarnation == 0 || e->extension.boot_mark != e->incarnation);
}

struct verdict {
    bool corrupt, word, whole, record;
    bool by_word; /* corrupt, and the slots are not */
    struct cellar_state disk, process, adopted;
    enum cellar_found found;
    int mended_from; /* the process-sync slot that the other is made like; -1: none is whole */
};

/* "Where its next is not below start nor below that of the slots; next beyond the file is corrupt where the state is
 * whole, and says nothing elsewhere." */
static void judge_word(const struct cellar_evidence *e, const struct cellar_slot *process, struct verdict *v)
{
    struct cellar_state word = e->extension.word;
    bool stands = has_flag(e, CELLAR_FLAG_WORD) && word.next_index >= e->start_index &&
                  (process == NULL || word.next_index >= process->state.next_index);

    v->corrupt = v->by_word = stands && word.next_index > e->file_cells && nothing_lost(e);
    v->word = stands && word.next_index <= e->file_cells;
    if (v->word)
        v->process = word;
}

/* "Its next counts as that of any valid slot": what is not whole is never used again. */
static void count_cells(const struct cellar_evidence *e, struct verdict *v)
{
    if (v->word && v->process.next_index > v->adopted.next_index)
        v->adopted.next_index = v->process.next_index;
    for (int name = CELLAR_PROCESS_1; name <= CELLAR_PROCESS_2; name++) {
        if (e->slots[name].valid && e->slots[name].state.next_index <= e->file_cells &&
            e->slots[name].state.next_index > v->adopted.next_index) {
            if (v->found != CELLAR_FOUND_DISK_NEWER)
                v->found = CELLAR_FOUND_UNFLUSHED;
            v->adopted.next_index = e->slots[name].state.next_index;
            v->mended_from = name;
        }
    }
}

static struct verdict judge(const struct cellar_evidence *e)
{
    const struct cellar_slot *disk = slot_in_force(e->slots), *process = slot_in_force(e->slots + CELLAR_PROCESS_1);
    struct verdict v = {.found = CELLAR_FOUND_CLEAN, .mended_from = -1};

    v.record = record_counts(e) && (disk == NULL || e->records[0].state.next_index > disk->state.next_index);
    v.corrupt = (disk == NULL && !v.record) || (disk != NULL && !is_in_file(e, disk->state)) ||
                (process != NULL && !is_in_file(e, process->state));
    if (v.corrupt)
        return v;
    v.disk = v.adopted = v.record ? e->records[0].state : disk->state;
    if (process != NULL) {
        v.process = process->state;
        v.mended_from = (int)(process - e->slots);
    }
    judge_word(e, process, &v);
    if (v.corrupt)
        return v;
    v.whole = process != NULL && v.process.next_index >= v.disk.next_index && nothing_lost(e) &&
              !has_flag(e, CELLAR_FLAG_SUSPECT);
    if (process == NULL)
        v.found = CELLAR_FOUND_PROCESS_BROKEN;
    else if (v.process.next_index < v.disk.next_index)
        v.found = CELLAR_FOUND_DISK_NEWER;
    else if (!states_equal(v.process, v.disk))
        v.found = v.whole ? CELLAR_FOUND_COMMITTED : CELLAR_FOUND_UNFLUSHED;
    if (v.whole) {
        v.adopted = v.process;
        return v;
    }
    if (process != NULL && v.process.next_index > v.adopted.next_index)
        v.adopted.next_index = v.process.next_index;
    count_cells(e, &v);
    return v;
}

static void expect_cells(const struct cellar_evidence *e, const struct verdict *v, const struct cellar_pick *pick)
{
    bool cached = v->whole || v->record;
    bool doubtful = has_flag(e, CELLAR_FLAG_SUSPECT) || (cached && has_flag(e, CELLAR_FLAG_SYNCING));
    uint32_t adopted = v->adopted.next_index;
    uint32_t confirmed = CONFIRMED < adopted ? CONFIRMED : adopted;

    assert_int_equal(pick->rewrite_index, doubtful ? confirmed : adopted);
    assert_int_equal(pick->confirmed_index, doubtful ? adopted : v->whole ? confirmed : START);
}

/* Slots are mended from a slot: a word has no key. */
static void expect_repair(const struct cellar_evidence *e, const struct verdict *v, const struct cellar_pick *pick)
{
    for (int name = CELLAR_PROCESS_1; name <= CELLAR_PROCESS_2; name++) {
        bool same = v->mended_from >= 0 && e->slots[name].valid &&
                    states_equal(e->slots[name].state, e->slots[v->mended_from].state);

        assert_int_equal((pick->repair >> name) & 1, !same);
    }
    assert_int_equal(pick->process_in_force, v->mended_from < 0 ? -1 : v->mended_from - (int)CELLAR_PROCESS_1);
}

static void expect(const struct cellar_evidence *e)
{
    struct cellar_pick_problem problem = {.file_offset = 1};
    struct verdict v = judge(e);
    struct cellar_pick pick;
    int result = cellar_pick_writer(e, &pick, &problem);

    assert_int_equal(result, v.corrupt ? CELLAR_ECORRUPT : 0);
    if (v.by_word) {
        assert_int_equal(problem.file_offset, CELLAR_AT_WORD + 4);
        assert_int_equal(problem.found, e->extension.word.next_index);
    }
    if (v.corrupt)
        return;
    assert_int_equal(pick.found, v.found);
    assert_int_equal(pick.word, v.word);
    assert_int_equal(pick.whole, v.whole);
    assert_int_equal(pick.record >= 0, v.record);
    assert_true(states_equal(pick.disk, v.disk));
    assert_true(states_equal(pick.adopted, v.adopted));
    expect_cells(e, &v, &pick);
    expect_repair(e, &v, &pick);
}

/* ---- what must hold whatever the rules are ---- */

/* No cell that anybody counts is used again; a root is disk sync's, or that of what is whole. */
static void expect_nothing_lost(const struct cellar_evidence *e)
{
    struct cellar_state word = e->extension.word;
    bool suspect = has_flag(e, CELLAR_FLAG_SUSPECT), said;
    struct cellar_pick pick;

    if (cellar_pick_writer(e, &pick, NULL) != 0)
        return;
    for (int name = 0; name < CELLAR_SLOT_COUNT; name++) {
        const struct cellar_slot *slot = &e->slots[name];
        bool counts = name >= CELLAR_PROCESS_1 || slot == slot_in_force(e->slots);

        if (slot->valid && counts && slot->state.next_index <= e->file_cells && !pick.whole)
            assert_true(pick.adopted.next_index >= slot->state.next_index);
    }
    if (has_flag(e, CELLAR_FLAG_WORD) && is_in_file(e, word))
        assert_true(pick.adopted.next_index >= word.next_index);
    said = pick.adopted.root_index == pick.disk.root_index;
    if (nothing_lost(e) && !suspect)
        said |= states_equal(pick.adopted, pick.process);
    assert_true(said);
    assert_true(is_in_file(e, pick.adopted));
}

/* What the word says is nothing without its flag. */
static void expect_nothing_said(const struct cellar_evidence *e)
{
    struct cellar_evidence other = *e;
    struct cellar_pick pick, without;
    int result;

    if (has_flag(e, CELLAR_FLAG_WORD))
        return;
    other.extension.word = (struct cellar_state){.next_index = 0, .root_index = 0};
    result = cellar_pick_writer(e, &pick, NULL);
    assert_int_equal(cellar_pick_writer(&other, &without, NULL), result);
    if (result == 0)
        assert_true(states_equal(pick.adopted, without.adopted) && pick.found == without.found);
}

/* ---- all of them ---- */

static void for_all_words(struct cellar_evidence *e)
{
    for (int word = 0; word < WORD_KINDS; word++) {
        e->extension.word = word_kinds[word];
        for (int flags = 0; flags < FLAG_KINDS * RECORD_KINDS; flags++) {
            e->extension.flags = flags_of[flags % FLAG_KINDS] | (flags >= FLAG_KINDS ? CELLAR_FLAG_CHECKED : 0);
            e->records[0] = record_kinds[flags / FLAG_KINDS];
            expect(e);
            expect_nothing_lost(e);
            expect_nothing_said(e);
        }
    }
}

/* The marks: now's, another, now's of a device that can't tell. The bindings: of #1, of #2, of neither, none. */
static void for_all_marks(struct cellar_evidence *e)
{
    static const uint64_t bindings[BINDING_KINDS] = {100, 200, 300, 0};

    for (int mark = 0; mark < MARK_KINDS * BINDING_KINDS; mark++) {
        e->extension.boot_mark = mark % MARK_KINDS == 1 ? 6 : 7;
        e->incarnation = mark % MARK_KINDS == 2 ? 0 : 7;
        e->extension.binding = bindings[mark / MARK_KINDS];
        for_all_words(e);
    }
}

static void test_every_combination(void **state)
{
    struct cellar_evidence e = {
        .start_index = START, .file_cells = FILE_CELLS, .extension = {.confirmed_next = CONFIRMED}};

    (void)state;
    for (int disk = 0; disk < DISK_KINDS * DISK_KINDS; disk++) {
        e.slots[CELLAR_DISK_1] = disk_kinds[disk % DISK_KINDS];
        e.slots[CELLAR_DISK_2] = disk_kinds[disk / DISK_KINDS];
        for (int process = 0; process < PROCESS_KINDS * PROCESS_KINDS; process++) {
            e.slots[CELLAR_PROCESS_1] = process_kinds[process % PROCESS_KINDS];
            e.slots[CELLAR_PROCESS_2] = process_kinds[process / PROCESS_KINDS];
            e.slots[CELLAR_PROCESS_1].keyed = 100;
            e.slots[CELLAR_PROCESS_2].keyed = 200;
            for_all_marks(&e);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_every_combination)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
