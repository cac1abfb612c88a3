/* The records of checked flushes in the header: what takes one, what is stored in which order, what failure leaves. */
#include "header_stage.h"

#include "base/bytes.h"
#include "cell/record.h"

#include <errno.h>
#include <sys/mman.h>

enum { CELL = 64, START = 4, EVENTS_MAX = 16, LARGEST = CELLAR_RECORD_CELLS_BYTES_MAX / CELL };

static struct stage *begin(bool with_window)
{
    struct cellar_state disk = state_of(START, CELLAR_ROOT_NONE);
    struct stage *stage = open_stage(with_window, false);

    support_bytes(3, stage->bytes + START * CELL, 4096 - START * CELL);
    cellar_header_start_marks(&stage->header, 1, 0);
    cellar_header_start_records(&stage->header, true, &disk);
    return stage;
}

static struct cellar_record record_at(const struct stage *stage, int place)
{
    return cellar_record_decode(stage->bytes + cellar_record_offset(place));
}

static bool is_zero(const struct stage *stage, int place)
{
    static const unsigned char zero[CELLAR_RECORD_BYTES];

    return memcmp(stage->bytes + cellar_record_offset(place), zero, sizeof zero) == 0;
}

static bool is_checked(const struct stage *stage)
{
    return (cellar_load_le32(stage->bytes + CELLAR_AT_FLAGS) & CELLAR_FLAG_CHECKED) != 0;
}

static uint32_t slot_next(const struct stage *stage, enum cellar_slot_name name)
{
    return cellar_slot_decode(stage->bytes + cellar_slot_offset(name)).state.next_index;
}

static int persist(struct stage *stage, uint32_t from_index, uint32_t next_index)
{
    struct cellar_state state = state_of(next_index, from_index);

    return cellar_header_persist_checked(&stage->header, CELL, from_index, &state);
}

/* ---- which flush takes one ---- */

static void test_takes_record(void **state)
{
    static const struct {
        bool checked, ready;
        uint32_t disk_next, from, next;
        bool taken;
    } rows[] = {
        {true, true, 4, 4, 5, true},
        {false, true, 4, 4, 5, false},
        {true, false, 4, 4, 5, false},
        {true, true, 5, 4, 5, false}, /* the state of slots is as new, */
        {true, true, 6, 4, 5, false}, /* or newer */
        {true, true, 4, 5, 5, false}, /* no cell */
        {true, true, 4, 4, 4 + LARGEST, true},
        {true, true, 4, 4, 5 + LARGEST, false},
        {true, true, 9, 4, 5 + LARGEST, false}, /* cells that are not durable count, and those the slots name, too */
        {true, true, 4, 9, 9 + LARGEST, true},  /* those that are durable don't */
    };
    struct stage *stage = begin(true);

    (void)state;
    for (size_t i = 0; i < SUPPORT_COUNT(rows); i++) {
        stage->header.checked = rows[i].checked;
        stage->header.record_ready = rows[i].ready;
        stage->header.disk = state_of(rows[i].disk_next, CELLAR_ROOT_NONE);
        assert_int_equal(cellar_header_takes_record(&stage->header, CELL, rows[i].from, rows[i].next), rows[i].taken);
    }
    close_stage(stage);
}

/* ---- what is stored ---- */

struct events {
    enum fault_call calls[EVENTS_MAX];
    uint64_t offsets[EVENTS_MAX], ends[EVENTS_MAX];
    int count;
};

static void note(void *user, enum fault_call call, uint64_t offset, uint64_t length_bytes)
{
    struct events *events = user;

    if (call == FAULT_SIZE)
        return;
    assert_true(events->count < EVENTS_MAX);
    events->calls[events->count] = call;
    events->offsets[events->count] = offset;
    events->ends[events->count++] = offset + length_bytes;
}

static void assert_event(const struct events *events, int i, enum fault_call call, uint64_t offset, uint64_t end)
{
    assert_true(i < events->count);
    assert_int_equal(events->calls[i], call);
    assert_int_equal(events->offsets[i], offset);
    assert_int_equal(events->ends[i], end);
}

/* The flag and the record, a barrier for them and the cells, then #1 and #2; and the next record in the other place. */
static void test_order(void **state)
{
    struct stage *stage = begin(false);
    struct events events = {.count = 0};
    uint64_t disk_1 = cellar_slot_offset(CELLAR_DISK_1), disk_2 = cellar_slot_offset(CELLAR_DISK_2);

    (void)state;
    stage->fault.before = note;
    stage->fault.before_user = &events;
    for (int flush = 0; flush < 3; flush++) {
        uint32_t from = START + (uint32_t)flush * 3, next = from + 3;
        uint64_t record = cellar_record_offset(flush % 2);
        int i = 0;

        events.count = 0;
        assert_done(persist(stage, from, next));
        assert_event(&events, i++, FAULT_READ, from * CELL, next * CELL);
        if (flush == 0)
            assert_event(&events, i++, FAULT_WRITE, CELLAR_AT_FLAGS, CELLAR_AT_FLAGS + 4);
        assert_event(&events, i++, FAULT_WRITE, record, record + CELLAR_RECORD_BYTES);
        assert_event(&events, i++, FAULT_SYNC, 0, next * CELL);
        assert_event(&events, i++, FAULT_WRITE, disk_1, disk_1 + CELLAR_SLOT_BYTES);
        assert_event(&events, i++, FAULT_WRITE, disk_2, disk_2 + CELLAR_SLOT_BYTES);
        assert_int_equal(events.count, i);
        assert_true(is_checked(stage) && stage->header.disk_pending && stage->header.slots_true);
        assert_true(states_equal(stage->header.disk, state_of(next, from)));
    }
    stage->fault.before = NULL;
    close_stage(stage);
}

/* Through a window nothing is read again; the record is of the cells from from_index on, whatever the slots say. */
static void test_record_of_a_window(void **state)
{
    struct stage *stage = begin(true);
    struct cellar_record record;

    (void)state;
    stage->header.disk = state_of(START + 2, CELLAR_ROOT_NONE);
    assert_done(persist(stage, START, START + 5));
    assert_int_equal(fault_calls(&stage->fault, FAULT_BIT(FAULT_READ)), 0);
    record = record_at(stage, 0);
    assert_int_equal(record.from_index, START);
    assert_true(states_equal(record.state, state_of(START + 5, START)));
    assert_int_equal(record.hash, cellar_record_hash(&record, stage->bytes + START * CELL, 5 * CELL));
    assert_true(is_zero(stage, 1));
    close_stage(stage);
}

/* Cells of a window are hashed where they are: beyond 4 GiB, too. */
static void test_cells_of_a_large_window(void **state)
{
    static const uint32_t from = 0x04000001; /* of 64 bytes: the low half of the offset is that of cell 1 */
    size_t page_bytes = 4096, reserved_bytes = (size_t)from * CELL / page_bytes * page_bytes + 2 * page_bytes;
    unsigned char *window = mmap(NULL, reserved_bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    struct stage *stage;
    struct cellar_record record;

    (void)state;
    if (window == MAP_FAILED)
        support_skip("there is no room for 4 GiB of addresses");
    assert_int_equal(mprotect(window, page_bytes, PROT_READ | PROT_WRITE), 0);
    assert_int_equal(mprotect(window + reserved_bytes - 2 * page_bytes, 2 * page_bytes, PROT_READ | PROT_WRITE), 0);
    support_bytes(5, window + (uint64_t)from * CELL, 3 * CELL);
    stage = begin(true);
    stage->header.window = window;
    assert_done(persist(stage, from, from + 3));
    record = cellar_record_decode(window + cellar_record_offset(0));
    assert_int_equal(record.hash, cellar_record_hash(&record, window + (uint64_t)from * CELL, 3 * CELL));
    close_stage(stage);
    munmap(window, reserved_bytes);
}

/* ---- failures ---- */

/* Cells that can't be read: nothing was stored. */
static void test_cells_fail(void **state)
{
    struct stage *stage = begin(false);

    (void)state;
    fault_fail(&stage->fault, FAULT_READ, 1, 1, -EIO);
    assert_result(persist(stage, START, START + 3), -EIO);
    assert_int_equal(fault_calls(&stage->fault, FAULT_BIT(FAULT_WRITE) | FAULT_BIT(FAULT_SYNC)), 0);
    assert_false(is_checked(stage) || stage->header.has_records);
    close_stage(stage);
}

static int persist_largest(void *user)
{
    return persist(user, START, START + LARGEST);
}

/* No memory to look at them: nothing was done, and the caller is told so. */
static void test_no_memory(void **state)
{
    struct stage *stage;

    (void)state;
    if (SUPPORT_SANITIZED || support_under_valgrind())
        support_skip("an allocation that fails would end the program");
    stage = begin(false);
    assert_result(support_without_memory(persist_largest, stage), CELLAR_NONE);
    assert_int_equal(fault_calls(&stage->fault, FAULT_ALL_BITS & ~FAULT_BIT(FAULT_WINDOW)), 0);
    close_stage(stage);
}

/* A barrier that fails: the slots are those of the flush before, and the next record would overwrite this one. */
static void test_barrier_fails(void **state)
{
    struct stage *stage = begin(false);

    (void)state;
    assert_done(persist(stage, START, START + 3));
    fault_fail(&stage->fault, FAULT_SYNC, 1, 1, -EIO);
    assert_result(persist(stage, START + 3, START + 6), -EIO);
    assert_int_equal(record_at(stage, 0).state.next_index, START + 3);
    assert_int_equal(slot_next(stage, CELLAR_DISK_1), START + 3);
    assert_int_equal(slot_next(stage, CELLAR_DISK_2), START + 3);
    assert_int_equal(stage->header.record_place, 1);
    close_stage(stage);
}

/* Each store of dropping fails in turn. CHECKED goes last, and they count as there until it has. */
static void test_drop_fails(void **state)
{
    (void)state;
    for (uint64_t nth = 1; nth <= 4; nth++) {
        struct stage *stage = begin(false);

        assert_done(persist(stage, START, START + 3));
        assert_done(persist(stage, START + 3, START + 6));
        fault_fail(&stage->fault, FAULT_WRITE, nth, 1, -EIO);
        assert_result(cellar_header_drop_records(&stage->header), nth < 4 ? -EIO : 0);
        assert_int_equal(is_zero(stage, 0), nth > 1);
        assert_int_equal(is_zero(stage, 1), nth > 2);
        assert_int_equal(is_checked(stage), nth < 4);
        assert_int_equal(stage->header.has_records, nth < 4);
        assert_int_equal(stage->header.record_ready, nth == 4);
        close_stage(stage);
    }
}

/* Records stay until the slots are durable. */
static void test_end(void **state)
{
    struct stage *stage = begin(false);

    (void)state;
    assert_done(cellar_header_end_records(&stage->header)); /* there are none: nothing to wait for */
    assert_int_equal(fault_calls(&stage->fault, FAULT_ALL_BITS & ~FAULT_BIT(FAULT_WINDOW)), 0);
    assert_done(persist(stage, START, START + 3));
    assert_done(persist(stage, START + 3, START + 6));
    fault_fail(&stage->fault, FAULT_SYNC, 1, 1, -EIO);
    assert_result(cellar_header_end_records(&stage->header), -EIO);
    assert_true(is_checked(stage) && stage->header.has_records);
    assert_int_equal(record_at(stage, 0).state.next_index, START + 3);
    assert_int_equal(record_at(stage, 1).state.next_index, START + 6);
    stage->header.sync_error = 0;
    fault_heal(&stage->fault);
    assert_done(cellar_header_end_records(&stage->header));
    assert_true(is_zero(stage, 0) && is_zero(stage, 1) && !is_checked(stage));
    assert_false(stage->header.has_records || stage->header.disk_pending);
    assert_int_equal(slot_next(stage, CELLAR_DISK_2), START + 6);
    close_stage(stage);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_takes_record),
        cmocka_unit_test(test_order),
        cmocka_unit_test(test_record_of_a_window),
        cmocka_unit_test(test_cells_of_a_large_window),
        cmocka_unit_test(test_cells_fail),
        cmocka_unit_test(test_no_memory),
        cmocka_unit_test(test_barrier_fails),
        cmocka_unit_test(test_drop_fails),
        cmocka_unit_test(test_end),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
