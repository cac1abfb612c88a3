/* How often a look reads the device, and that no failing read of it is passed over. */
#include "header_stage.h"

#include <errno.h>

static uint64_t reads_of(struct stage *stage)
{
    return fault_calls(&stage->fault, FAULT_BIT(FAULT_READ));
}

/* #1 holds: #2 is read only as a witness against the key. */
static void test_reads_of_a_look(void **state)
{
    struct cellar_key key = key_of(1), wrong = key_of(2);
    struct stage *stage = open_stage(false, false);
    struct cellar_seen seen = {.any = false}, seen_wrong = {.any = false};
    struct cellar_state put = state_of(10, 1), got;
    enum cellar_key_verdict verdict;
    uint64_t before = 0;

    (void)state;
    assert_done(cellar_header_publish(&stage->header, &put, &key));
    before = reads_of(stage);
    assert_done(cellar_header_look(&stage->header, CELLAR_PAIR_PROCESS, &key, &seen, &got, &verdict));
    assert_int_equal(reads_of(stage) - before, 1);
    assert_int_equal(verdict, CELLAR_KEY_GOOD);
    before = reads_of(stage);
    assert_done(cellar_header_look(&stage->header, CELLAR_PAIR_PROCESS, &wrong, &seen_wrong, &got, &verdict));
    assert_int_equal(reads_of(stage) - before, 4); /* both slots, twice */
    assert_int_equal(verdict, CELLAR_KEY_BAD);
    close_stage(stage);
}

/* Whichever read of a look fails, the look does, and takes nothing over. */
static void test_a_read_fails(void **state)
{
    struct cellar_key key = key_of(1), wrong = key_of(2);
    struct stage *stage = open_stage(false, false);
    struct cellar_state put = state_of(10, 1), got = state_of(1, 1);
    enum cellar_key_verdict verdict = CELLAR_KEY_UNKNOWN;
    struct cellar_seen seen = {.any = false};

    (void)state;
    assert_done(cellar_header_publish(&stage->header, &put, &key));
    for (uint64_t nth = 1; nth <= 4; nth++) {
        fault_fail(&stage->fault, FAULT_READ, nth, 1, -EIO);
        assert_result(cellar_header_look(&stage->header, CELLAR_PAIR_PROCESS, &wrong, &seen, &got, &verdict), -EIO);
        fault_heal(&stage->fault);
        assert_false(seen.any);
        assert_true(states_equal(got, state_of(1, 1)));
    }
    assert_done(cellar_header_look(&stage->header, CELLAR_PAIR_PROCESS, &key, &seen, &got, &verdict));
    /* The one read that finds nothing new. */
    fault_fail(&stage->fault, FAULT_READ, 1, 1, -EIO);
    assert_result(cellar_header_look(&stage->header, CELLAR_PAIR_PROCESS, &key, &seen, &got, &verdict), -EIO);
    assert_result(cellar_header_look(&stage->header, CELLAR_PAIR_PROCESS, &key, &seen, &got, &verdict), CELLAR_NONE);
    close_stage(stage);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_reads_of_a_look),
        cmocka_unit_test(test_a_read_fails),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
