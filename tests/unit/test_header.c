/* Publishing and looking: half-written slots, keys, on the window and by read and write. */
#include "header_stage.h"

#include <errno.h>

static void test_read_and_store(void **state)
{
    unsigned char expected[256];

    (void)state;
    for (int with_window = 0; with_window < 2; with_window++) {
        struct stage *stage = open_stage(with_window, false);

        support_bytes(41, expected, sizeof expected);
        assert_done(cellar_header_store(&stage->header, 0, expected, 256));
        assert_memory_equal(stage->bytes, expected, 256);
        for (size_t offset = 0; offset < 256; offset += 4) {
            for (size_t length = 4; length <= 64 && offset + length <= 256; length += 4) {
                support_bytes(offset * 100 + length, expected + offset, length);
                assert_done(cellar_header_store(&stage->header, offset, expected + offset, length));
                assert_memory_equal(stage->bytes, expected, 256);
            }
        }
        assert_int_equal(stage->bytes[256], 0);
        close_stage(stage);
    }
}

static void test_publish_bytes(void **state)
{
    struct cellar_key key = key_of(1);
    unsigned char disk[32], process[32], zeros[4096] = {0};
    const struct cellar_state durable = state_of(20, 9), visible = state_of(30, 29);

    (void)state;
    for (int with_window = 0; with_window < 2; with_window++) {
        struct stage *stage = open_stage(with_window, false);

        cellar_slot_encode(&durable, NULL, disk);
        cellar_slot_encode(&visible, &key, process);
        assert_done(cellar_header_persist(&stage->header, &durable));
        assert_done(cellar_header_publish(&stage->header, &visible, &key));
        assert_memory_equal(stage->bytes, zeros, 32);
        assert_memory_equal(stage->bytes + 32, disk, 32);
        assert_memory_equal(stage->bytes + 64, disk, 32);
        assert_memory_equal(stage->bytes + 96, process, 32);
        assert_memory_equal(stage->bytes + 128, process, 32);
        assert_memory_equal(stage->bytes + 160, zeros, 4096 - 160);
        /* With a window nothing is asked of the device. */
        assert_int_equal(fault_calls(&stage->fault, FAULT_BIT(FAULT_WRITE)), with_window ? 0 : 4);
        assert_int_equal(fault_calls(&stage->fault, FAULT_BIT(FAULT_LOCK)), 0);
        close_stage(stage);
    }
}

/* One slot made like the other of its pair, and nothing else. */
static void test_repair(void **state)
{
    struct cellar_state put = state_of(20, 9);
    unsigned char slot[32], expected[256];

    (void)state;
    for (int with_window = 0; with_window < 2; with_window++) {
        for (int name = 0; name < CELLAR_SLOT_COUNT; name++) {
            struct stage *stage = open_stage(with_window, false);

            cellar_slot_encode(&put, NULL, slot);
            memset(expected, 0, sizeof expected);
            memcpy(expected + 32 + 32 * name, slot, 32);
            assert_done(cellar_header_repair(&stage->header, (enum cellar_slot_name)name, slot));
            assert_memory_equal(stage->bytes, expected, 256);
            close_stage(stage);
        }
    }
}

static void test_look(void **state)
{
    struct cellar_key key = key_of(1), wrong = key_of(2);

    (void)state;
    for (int with_window = 0; with_window < 2; with_window++) {
        struct stage *stage = open_stage(with_window, false);
        struct cellar_seen seen = {.any = false}, seen_wrong = {.any = false}, seen_none = {.any = false};
        struct cellar_state got = state_of(5, 5), put = state_of(8, 0);
        enum cellar_key_verdict verdict = CELLAR_KEY_UNKNOWN;
        uint64_t reads;

        assert_result(cellar_header_look(&stage->header, CELLAR_PAIR_PROCESS, &key, &seen, &got, &verdict),
                      CELLAR_ECORRUPT);
        assert_true(states_equal(got, state_of(5, 5)));
        for (uint32_t next = 8; next < 20; next++) {
            put = state_of(next, next / 2);
            assert_done(cellar_header_publish(&stage->header, &put, &key));
            assert_done(cellar_header_look(&stage->header, CELLAR_PAIR_PROCESS, &key, &seen, &got, &verdict));
            assert_true(states_equal(got, put));
            assert_int_equal(verdict, CELLAR_KEY_GOOD);
            assert_result(cellar_header_look(&stage->header, CELLAR_PAIR_PROCESS, &key, &seen, &got, &verdict),
                          CELLAR_NONE);
        }
        assert_done(cellar_header_look(&stage->header, CELLAR_PAIR_PROCESS, &wrong, &seen_wrong, &got, &verdict));
        assert_int_equal(verdict, CELLAR_KEY_BAD);
        assert_true(states_equal(got, put));
        reads = fault_calls(&stage->fault, FAULT_BIT(FAULT_READ));
        assert_result(cellar_header_look(&stage->header, CELLAR_PAIR_PROCESS, &wrong, &seen_wrong, &got, &verdict),
                      CELLAR_NONE);
        reads = fault_calls(&stage->fault, FAULT_BIT(FAULT_READ)) - reads;
        assert_int_equal(reads, with_window ? 0 : 1); /* nothing new costs one read of one slot */
        assert_done(cellar_header_look(&stage->header, CELLAR_PAIR_PROCESS, NULL, &seen_none, &got, &verdict));
        assert_int_equal(verdict, CELLAR_KEY_UNKNOWN);
        /* The same state by another writer is something new. */
        assert_done(cellar_header_publish(&stage->header, &put, &wrong));
        assert_done(cellar_header_look(&stage->header, CELLAR_PAIR_PROCESS, &key, &seen, &got, &verdict));
        assert_int_equal(verdict, CELLAR_KEY_BAD);
        assert_done(cellar_header_look(&stage->header, CELLAR_PAIR_PROCESS, &wrong, &seen_wrong, &got, &verdict));
        assert_int_equal(verdict, CELLAR_KEY_GOOD);
        close_stage(stage);
    }
}

/* The disk-sync pair has no key, and the pairs know nothing of each other. */
static void test_look_at_the_disk_pair(void **state)
{
    struct cellar_state durable = state_of(8, 0), visible = state_of(9, 8), got;
    struct cellar_key key = key_of(1);
    enum cellar_key_verdict verdict;

    (void)state;
    for (int with_window = 0; with_window < 2; with_window++) {
        struct stage *stage = open_stage(with_window, false);
        struct cellar_seen seen = {.any = false};

        assert_done(cellar_header_persist(&stage->header, &durable));
        assert_done(cellar_header_publish(&stage->header, &visible, &key));
        assert_done(cellar_header_look(&stage->header, CELLAR_PAIR_DISK, NULL, &seen, &got, &verdict));
        assert_true(states_equal(got, durable));
        assert_int_equal(verdict, CELLAR_KEY_UNKNOWN);
        visible = state_of(10, 8);
        assert_done(cellar_header_publish(&stage->header, &visible, &key));
        assert_result(cellar_header_look(&stage->header, CELLAR_PAIR_DISK, NULL, &seen, &got, &verdict), CELLAR_NONE);
        close_stage(stage);
    }
}

/* #2 speaks where #1 is broken; #1 again once it is whole, also when it says the same. */
static void test_look_at_number_two(void **state)
{
    struct cellar_state put = state_of(12, 11), got;
    struct cellar_key key = key_of(1);
    enum cellar_key_verdict verdict;

    (void)state;
    for (int with_window = 0; with_window < 2; with_window++) {
        struct stage *stage = open_stage(with_window, false);
        struct cellar_seen seen = {.any = false};

        assert_done(cellar_header_publish(&stage->header, &put, &key));
        stage->bytes[96] ^= 1;
        assert_done(cellar_header_look(&stage->header, CELLAR_PAIR_PROCESS, &key, &seen, &got, &verdict));
        assert_true(states_equal(got, put));
        assert_int_equal(seen.slot, 1);
        assert_result(cellar_header_look(&stage->header, CELLAR_PAIR_PROCESS, &key, &seen, &got, &verdict),
                      CELLAR_NONE);
        stage->bytes[96] ^= 1;
        assert_result(cellar_header_look(&stage->header, CELLAR_PAIR_PROCESS, &key, &seen, &got, &verdict),
                      CELLAR_NONE);
        assert_int_equal(seen.slot, 0);
        stage->bytes[96] ^= 1;
        stage->bytes[128] ^= 1;
        assert_result(cellar_header_look(&stage->header, CELLAR_PAIR_PROCESS, &key, &seen, &got, &verdict),
                      CELLAR_ECORRUPT);
        close_stage(stage);
    }
}

/*
 * Every half-written publication: any subset of the eight words of #1 and #2 is new, the rest is old. What is found is
 * the old state, the new one, or CORRUPT, never anything else; and CORRUPT only where no slot is whole, which a writer
 * that writes #1 before #2 can't leave.
 */
static void check_torn(struct stage *stage, const unsigned char *old_slot, const unsigned char *new_slot, unsigned bits,
                       const struct cellar_key *key)
{
    struct cellar_seen seen = {.any = false};
    struct cellar_state got, before = cellar_slot_decode(old_slot).state, after = cellar_slot_decode(new_slot).state;
    enum cellar_key_verdict verdict;
    bool whole = false, in_order = (bits & 0xf) == 0xf || bits >> 4 == 0;
    int result;

    for (unsigned word = 0; word < 8; word++)
        memcpy(stage->bytes + 96 + 8 * word, ((bits & 1u << word) != 0 ? new_slot : old_slot) + 8 * (word % 4), 8);
    for (int i = 0; i < 2; i++)
        whole = whole || cellar_slot_decode(stage->bytes + 96 + 32 * i).valid;
    result = cellar_header_look(&stage->header, CELLAR_PAIR_PROCESS, key, &seen, &got, &verdict);
    if (in_order)
        assert_true(whole);
    assert_result(result, whole ? 0 : CELLAR_ECORRUPT);
    if (result == 0)
        assert_true(states_equal(got, before) || states_equal(got, after));
    if (bits == 0)
        assert_true(states_equal(got, before));
    if (bits == 0xff || bits == 0xf)
        assert_true(states_equal(got, after));
}

static void test_torn_slots(void **state)
{
    struct cellar_key keys[2] = {key_of(1), key_of(2)};
    const struct cellar_state states[] = {state_of(100, 50), state_of(101, 50), state_of(101, 100), state_of(100, 0)};
    unsigned char old_slot[32], new_slot[32];

    (void)state;
    for (int with_window = 0; with_window < 2; with_window++) {
        struct stage *stage = open_stage(with_window, false);

        for (size_t i = 0; i < SUPPORT_COUNT(states) * 2; i++) {
            cellar_slot_encode(&states[0], &keys[0], old_slot);
            cellar_slot_encode(&states[i / 2], &keys[i % 2], new_slot);
            for (unsigned bits = 0; bits < 256; bits++) {
                check_torn(stage, old_slot, new_slot, bits, &keys[0]);
                check_torn(stage, old_slot, new_slot, bits, &keys[1]);
                check_torn(stage, old_slot, new_slot, bits, NULL);
            }
        }
        close_stage(stage);
    }
}

/* ---- errors of the device ---- */

static void test_errors(void **state)
{
    struct stage *stage = open_stage(false, false);
    struct cellar_key key = key_of(1);
    struct cellar_state put = state_of(10, 1), got = state_of(5, 5);
    struct cellar_seen seen = {.any = false};
    enum cellar_key_verdict verdict;
    uint32_t flags;

    (void)state;
    for (int nth = 1; nth <= 2; nth++) {
        fault_fail(&stage->fault, FAULT_WRITE, (uint64_t)nth, 1, -EIO);
        assert_result(cellar_header_publish(&stage->header, &put, &key), -EIO);
    }
    fault_heal(&stage->fault);
    stage->bytes[96] ^= 1;
    for (int nth = 1; nth <= 2; nth++) {
        fault_fail(&stage->fault, FAULT_READ, (uint64_t)nth, 1, -ENODEV);
        assert_result(cellar_header_look(&stage->header, CELLAR_PAIR_PROCESS, &key, &seen, &got, &verdict), -ENODEV);
        assert_false(seen.any);
        assert_true(states_equal(got, state_of(5, 5)));
    }
    stage->bytes[96] ^= 1;
    assert_done(cellar_header_look(&stage->header, CELLAR_PAIR_PROCESS, &key, &seen, &got, &verdict));
    fault_heal(&stage->fault);
    fault_fail(&stage->fault, FAULT_READ, 1, 3, -EIO);
    assert_result(cellar_header_look(&stage->header, CELLAR_PAIR_PROCESS, &key, &seen, &got, &verdict), -EIO);
    assert_result(cellar_header_flags(&stage->header, &flags), -EIO);
    fault_fail(&stage->fault, FAULT_SYNC, 1, 1, -EIO);
    assert_result(cellar_header_barrier(&stage->header, CELLAR_HEADER_BYTES), -EIO);
    assert_int_equal(stage->header.flags, CELLAR_FLAG_SUSPECT);
    assert_int_equal(stage->bytes[CELLAR_AT_FLAGS], CELLAR_FLAG_SUSPECT);
    assert_result(cellar_header_barrier(&stage->header, CELLAR_HEADER_BYTES), -EIO); /* whatever the device says */
    close_stage(stage);
}

static void test_flags(void **state)
{
    static const unsigned char put[4] = {0x08, 0x07, 0x06, 0x85};

    (void)state;
    for (int with_window = 0; with_window < 2; with_window++) {
        struct stage *stage = open_stage(with_window, false);
        uint32_t flags = 5;

        assert_done(cellar_header_flags(&stage->header, &flags));
        assert_int_equal(flags, 0);
        assert_done(cellar_header_store(&stage->header, CELLAR_AT_FLAGS, put, 4));
        assert_done(cellar_header_flags(&stage->header, &flags));
        assert_int_equal(flags, 0x85060708);
        assert_true((flags & CELLAR_FLAG_RETIRED) != 0);
        close_stage(stage);
    }
}

/* Compat: the original's lock is held while slots are written, and given back whatever happens. */
static void lock_is_held(void *user, enum fault_call call, uint64_t offset, uint64_t length_bytes)
{
    struct stage *stage = user;

    (void)length_bytes;
    if (call == FAULT_WRITE && offset >= 96)
        assert_int_equal(stage->fault.calls[FAULT_LOCK] - stage->fault.calls[FAULT_UNLOCK], 1);
}

static void test_compat_lock(void **state)
{
    struct cellar_key key = key_of(1);
    struct cellar_state put = state_of(10, 1);
    struct stage *stage = open_stage(false, true);

    (void)state;
    stage->fault.before = lock_is_held;
    stage->fault.before_user = stage;
    assert_done(cellar_header_publish(&stage->header, &put, &key));
    assert_int_equal(fault_calls(&stage->fault, FAULT_BIT(FAULT_LOCK)), 1);
    assert_int_equal(fault_calls(&stage->fault, FAULT_BIT(FAULT_UNLOCK)), 1);
    fault_fail(&stage->fault, FAULT_WRITE, 2, 1, -EIO);
    assert_result(cellar_header_publish(&stage->header, &put, &key), -EIO);
    assert_int_equal(fault_calls(&stage->fault, FAULT_BIT(FAULT_UNLOCK)), 2);
    assert_done(cellar_header_repair(&stage->header, CELLAR_DISK_2, stage->bytes + 96));
    assert_int_equal(fault_calls(&stage->fault, FAULT_BIT(FAULT_UNLOCK)), 3);
    /* No lock, no store. */
    fault_fail(&stage->fault, FAULT_LOCK, 1, 1, -ENOLCK);
    assert_result(cellar_header_publish(&stage->header, &put, &key), -ENOLCK);
    assert_int_equal(fault_calls(&stage->fault, FAULT_BIT(FAULT_WRITE)), 5);
    assert_int_equal(fault_calls(&stage->fault, FAULT_BIT(FAULT_UNLOCK)), 3);
    close_stage(stage);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_read_and_store),
        cmocka_unit_test(test_publish_bytes),
        cmocka_unit_test(test_repair),
        cmocka_unit_test(test_look),
        cmocka_unit_test(test_look_at_the_disk_pair),
        cmocka_unit_test(test_look_at_number_two),
        cmocka_unit_test(test_torn_slots),
        cmocka_unit_test(test_errors),
        cmocka_unit_test(test_flags),
        cmocka_unit_test(test_compat_lock),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
