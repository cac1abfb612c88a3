/*
 * Looking while somebody writes: what a look at the slots makes of states that change between any two of its reads. By
 * read and write, where every read can be met.
 */
#include "header_stage.h"

/* A fault device's hook: at the nth read from now it puts bytes into the header. */
struct change {
    struct stage *stage;
    int at_read, reads;
    unsigned char slots[64];
};

static void change_at_read(void *user, enum fault_call call, uint64_t offset, uint64_t length_bytes)
{
    struct change *change = user;

    (void)offset;
    (void)length_bytes;
    if (call == FAULT_READ && ++change->reads == change->at_read)
        memcpy(change->stage->bytes + 96, change->slots, sizeof change->slots);
}

/* A look that finds both slots broken is overtaken, not lost: it looks again. */
static void test_overtaken_between_the_slots(void **state)
{
    struct cellar_state states[3] = {state_of(10, 1), state_of(11, 2), state_of(12, 3)}, got;
    struct cellar_key key = key_of(1);
    enum cellar_key_verdict verdict;
    struct change change = {.at_read = 2};
    struct cellar_seen seen = {.any = false};
    struct stage *stage = open_stage(false, false);
    unsigned char slots[3][32];

    (void)state;
    for (int i = 0; i < 3; i++)
        cellar_slot_encode(&states[i], &key, slots[i]);
    /* #1 half of the second publication; when #2 is read, it is half of the third. */
    memcpy(stage->bytes + 96, slots[1], 16);
    memcpy(stage->bytes + 112, slots[0] + 16, 16);
    memcpy(stage->bytes + 128, slots[0], 32);
    memcpy(change.slots, slots[2], 32);
    memcpy(change.slots + 32, slots[2], 8);
    memcpy(change.slots + 40, slots[1] + 8, 24);
    change.stage = stage;
    stage->fault.before = change_at_read;
    stage->fault.before_user = &change;
    assert_done(cellar_header_look(&stage->header, CELLAR_PAIR_PROCESS, &key, &seen, &got, &verdict));
    assert_true(states_equal(got, states[2]));
    assert_int_equal(verdict, CELLAR_KEY_GOOD);
    close_stage(stage);
}

/* The same state published under another key: half of it must not be taken for a third key. */
static void test_key_is_judged_twice(void **state)
{
    struct cellar_key old_key = key_of(1), new_key = key_of(2);
    struct cellar_state put = state_of(10, 1), got;
    enum cellar_key_verdict verdict;
    unsigned char old_slot[32], new_slot[32];

    (void)state;
    cellar_slot_encode(&put, &old_key, old_slot);
    cellar_slot_encode(&put, &new_key, new_slot);
    for (int finished = 0; finished < 2; finished++) {
        struct stage *stage = open_stage(false, false);
        struct change change = {.stage = stage, .at_read = finished ? 2 : 0};
        struct cellar_seen seen = {.any = false};

        memcpy(stage->bytes + 96, new_slot, 16);
        memcpy(stage->bytes + 112, old_slot + 16, 16);
        memcpy(stage->bytes + 128, old_slot, 32);
        memcpy(change.slots, new_slot, 32);
        memcpy(change.slots + 32, old_slot, 32);
        stage->fault.before = change_at_read;
        stage->fault.before_user = &change;
        assert_done(cellar_header_look(&stage->header, CELLAR_PAIR_PROCESS, &new_key, &seen, &got, &verdict));
        assert_true(states_equal(got, put));
        /* Finished before the second look: the key is good. Never finished (the writer died): it stays bad. */
        assert_int_equal(verdict, finished ? CELLAR_KEY_GOOD : CELLAR_KEY_BAD);
        assert_true(change.reads >= 2);
        close_stage(stage);
    }
}

/* ---- a writer that never rests ---- */

struct busy {
    struct stage *stage;
    struct cellar_key key;
    uint32_t next;
    bool broken; /* both slots of every publication */
};

static void publish_at_read(void *user, enum fault_call call, uint64_t offset, uint64_t length_bytes)
{
    struct busy *busy = user;
    struct cellar_state put;

    (void)length_bytes;
    if (call != FAULT_READ || offset != 96)
        return;
    put = state_of(++busy->next, 0);
    cellar_slot_encode(&put, &busy->key, busy->stage->bytes + 96);
    if (busy->broken)
        busy->stage->bytes[96] ^= 1;
    memcpy(busy->stage->bytes + 128, busy->stage->bytes + 96, 32);
}

/* Another writer that commits faster than a reader can look is followed: nothing is broken. */
static void test_busy_writer_with_another_key(void **state)
{
    struct stage *stage = open_stage(false, false);
    struct busy busy = {.stage = stage, .key = key_of(1), .next = 10};
    struct cellar_key mine = key_of(2);
    struct cellar_seen seen = {.any = false};
    struct cellar_state got;
    enum cellar_key_verdict verdict;

    (void)state;
    stage->fault.before = publish_at_read;
    stage->fault.before_user = &busy;
    for (int i = 0; i < 3; i++) {
        assert_done(cellar_header_look(&stage->header, CELLAR_PAIR_PROCESS, &mine, &seen, &got, &verdict));
        assert_int_equal(verdict, CELLAR_KEY_BAD);
        assert_int_equal(got.next_index, busy.next);
    }
    close_stage(stage);
}

/* What changes for ever and never holds is given up, at last. */
static void test_busy_and_broken(void **state)
{
    struct stage *stage = open_stage(false, false);
    struct busy busy = {.stage = stage, .key = key_of(1), .next = 10, .broken = true};
    struct cellar_seen seen = {.any = false};
    struct cellar_state got;
    enum cellar_key_verdict verdict;

    (void)state;
    stage->fault.before = publish_at_read;
    stage->fault.before_user = &busy;
    assert_result(cellar_header_look(&stage->header, CELLAR_PAIR_PROCESS, NULL, &seen, &got, &verdict),
                  CELLAR_ECORRUPT);
    assert_false(seen.any);
    close_stage(stage);
}

/* ---- looks by a script ---- */

/* At the nth look at #1 the pair is what step n says; the last step stays. */
enum { STEPS_MAX = 64 };

struct script {
    struct stage *stage;
    unsigned char steps[STEPS_MAX][64];
    int step_count, looks;
};

static void next_step(void *user, enum fault_call call, uint64_t offset, uint64_t length_bytes)
{
    struct script *script = user;

    (void)length_bytes;
    if (call != FAULT_READ || offset != 96)
        return;
    if (script->looks < script->step_count)
        memcpy(script->stage->bytes + 96, script->steps[script->looks], 64);
    script->looks++;
}

/* One more step: both slots say state, under key; broken: neither holds. */
static void add_step(struct script *script, uint32_t next, const struct cellar_key *key, bool broken)
{
    struct cellar_state state = state_of(next, 0);
    unsigned char *step = script->steps[script->step_count++];

    cellar_slot_encode(&state, key, step);
    if (broken)
        step[0] ^= 1;
    memcpy(step + 32, step, 32);
}

/* Runs the script against one look with this key; returns how often it looked. */
static int expect_look(struct script *script, const struct cellar_key *key, int result, uint32_t next,
                       enum cellar_key_verdict expected)
{
    struct stage *stage = open_stage(false, false);
    struct cellar_seen seen = {.any = false};
    struct cellar_state got = state_of(0, 0);
    enum cellar_key_verdict verdict = CELLAR_KEY_UNKNOWN;

    script->stage = stage;
    script->looks = 0;
    stage->fault.before = next_step;
    stage->fault.before_user = script;
    assert_result(cellar_header_look(&stage->header, CELLAR_PAIR_PROCESS, key, &seen, &got, &verdict), result);
    assert_int_equal(got.next_index, next);
    assert_int_equal(verdict, expected);
    close_stage(stage);
    return script->looks;
}

static void test_good_at_once(void **state)
{
    struct cellar_key mine = key_of(1);
    struct script script = {.step_count = 0};

    (void)state;
    add_step(&script, 10, &mine, false);
    add_step(&script, 11, &mine, false);
    assert_int_equal(expect_look(&script, &mine, 0, 10, CELLAR_KEY_GOOD), 1);
    assert_int_equal(expect_look(&script, NULL, 0, 10, CELLAR_KEY_UNKNOWN), 1);
}

/* Another key is believed when it was seen twice the same, not when it was seen twice. */
static void test_bad_when_seen_twice(void **state)
{
    struct cellar_key mine = key_of(1), others = key_of(2);
    struct script script = {.step_count = 0};

    (void)state;
    add_step(&script, 10, &others, false);
    assert_int_equal(expect_look(&script, &mine, 0, 10, CELLAR_KEY_BAD), 2);
    add_step(&script, 11, &others, false);
    assert_int_equal(expect_look(&script, &mine, 0, 11, CELLAR_KEY_BAD), 3);
    add_step(&script, 12, &mine, false);
    assert_int_equal(expect_look(&script, &mine, 0, 12, CELLAR_KEY_GOOD), 3);
}

/* Slots that stay broken are CORRUPT; those of a writer that is at work are not, however long it takes. */
static void test_broken_for_a_while(void **state)
{
    struct cellar_key mine = key_of(1);
    struct script same = {.step_count = 0}, changing = {.step_count = 0}, for_ever = {.step_count = 0};

    (void)state;
    for (uint32_t i = 0; i < 8; i++)
        add_step(&same, 10, &mine, true);
    add_step(&same, 11, &mine, false);
    assert_int_equal(expect_look(&same, &mine, 0, 11, CELLAR_KEY_GOOD), 9);
    for (uint32_t i = 0; i < 60; i++)
        add_step(&changing, i, &mine, true);
    add_step(&changing, 100, &mine, false);
    assert_int_equal(expect_look(&changing, &mine, 0, 100, CELLAR_KEY_GOOD), 61);
    add_step(&for_ever, 10, &mine, true);
    assert_true(expect_look(&for_ever, &mine, CELLAR_ECORRUPT, 0, CELLAR_KEY_UNKNOWN) < 100);
}

/*
 * A writer that republishes a state under the reader's key and stands still in the middle of #1 leaves a slot that
 * holds, says "another key", and reads the same again and again; #2 is no witness for it. When the writer goes on the
 * key is the right one. If it never does, another writer is concluded after all.
 */
static void test_standing_still_in_the_first_slot(void **state)
{
    struct stage *stage = open_stage(false, false);
    struct script script = {.stage = stage};
    struct cellar_key mine = key_of(1), old = key_of(2);
    struct cellar_seen seen = {.any = false};
    struct cellar_state got = state_of(0, 0);
    enum cellar_key_verdict verdict;

    (void)state;
    for (int i = 0; i < 6; i++) {
        add_step(&script, 10, &old, false);
        script.steps[i][12] ^= 1; /* the keyed hash of #1 is half of one, half of the other */
    }
    add_step(&script, 10, &mine, false);
    stage->fault.before = next_step;
    stage->fault.before_user = &script;
    assert_done(cellar_header_look(&stage->header, CELLAR_PAIR_PROCESS, &mine, &seen, &got, &verdict));
    assert_int_equal(verdict, CELLAR_KEY_GOOD);
    assert_int_equal(got.next_index, 10);
    script.step_count = 6;
    script.looks = 0;
    seen.any = false;
    assert_done(cellar_header_look(&stage->header, CELLAR_PAIR_PROCESS, &mine, &seen, &got, &verdict));
    assert_int_equal(verdict, CELLAR_KEY_BAD);
    close_stage(stage);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_overtaken_between_the_slots),
        cmocka_unit_test(test_key_is_judged_twice),
        cmocka_unit_test(test_busy_writer_with_another_key),
        cmocka_unit_test(test_busy_and_broken),
        cmocka_unit_test(test_good_at_once),
        cmocka_unit_test(test_bad_when_seen_twice),
        cmocka_unit_test(test_broken_for_a_while),
        cmocka_unit_test(test_standing_still_in_the_first_slot),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
