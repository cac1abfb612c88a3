/* What the allocator asks its device for: from where, up to where, and nothing where there is no room in the window. */
#include "device_fault.h"
#include "support.h"

#include "base/bytes.h"
#include "cell/alloc.h"

#include <errno.h>

enum { CELL = 10, START = 26, STEP = 16 };

struct asked {
    int grows;
    uint64_t from_bytes, size_bytes; /* of the last one */
};

static void note(void *user, enum fault_call call, uint64_t offset, uint64_t length_bytes)
{
    struct asked *asked = user;

    if (call != FAULT_GROW)
        return;
    asked->grows++;
    asked->from_bytes = offset;
    asked->size_bytes = length_bytes;
}

static void open_alloc(struct fault_device *fault, struct asked *asked, struct cellar_alloc *alloc)
{
    *asked = (struct asked){.grows = 0};
    *fault = (struct fault_device){.before = note, .before_user = asked};
    *alloc = (struct cellar_alloc){.bytes_per_cell = CELL,
                                   .next_index = START,
                                   .ready_index = START,
                                   .max_index = 1000,
                                   .step_cells = STEP,
                                   .file_bytes = START * CELL};
    assert_done(cellar_device_open_memory(NULL, START * CELL, 1000 * CELL, &fault->inner));
    assert_done(fault_device_open(fault, &alloc->device));
}

/* What is allocated already is not asked for again. */
static void test_from_where_it_is_ready(void **state)
{
    struct fault_device fault;
    struct asked asked;
    struct cellar_alloc alloc;
    uint32_t first;

    (void)state;
    open_alloc(&fault, &asked, &alloc);
    for (int round = 0; round < 20; round++) {
        uint64_t ready_bytes = (uint64_t)alloc.ready_index * CELL;

        assert_done(cellar_alloc_take(&alloc, STEP, &first));
        assert_int_equal(asked.grows, round + 1);
        assert_int_equal(asked.from_bytes, ready_bytes);
        assert_int_equal(asked.size_bytes, ready_bytes + STEP * CELL);
    }
    assert_done(cellar_device_close(alloc.device));
}

/* A window that holds not one cell leaves no room at all; only 0 bytes mean that there is none. */
static void test_window_of_no_cell(void **state)
{
    struct fault_device fault;
    struct asked asked;
    struct cellar_alloc alloc;
    uint32_t first = 4711;

    (void)state;
    open_alloc(&fault, &asked, &alloc);
    alloc.window_bytes = 1;
    assert_result(cellar_alloc_take(&alloc, 1, &first), CELLAR_EWINDOW);
    assert_int_equal(first, 4711);
    assert_int_equal(asked.grows, 0);
    alloc.window_bytes = 0;
    assert_done(cellar_alloc_take(&alloc, 1, &first));
    assert_int_equal(first, START);
    assert_done(cellar_device_close(alloc.device));
}

/* A store's header, which is told of growth. */
static void open_with_header(struct fault_device *fault, struct asked *asked, struct cellar_alloc *alloc,
                             struct cellar_header *header)
{
    open_alloc(fault, asked, alloc);
    assert_done(cellar_header_open(header, alloc->device, NULL, false));
    cellar_header_start_marks(header, 1, 0);
    alloc->header = header;
}

static void close_with_header(struct cellar_alloc *alloc, struct cellar_header *header)
{
    cellar_header_close(header);
    assert_done(cellar_device_close(alloc->device));
}

static uint32_t flags_of(const struct cellar_alloc *alloc)
{
    unsigned char bytes[4];

    assert_done(cellar_device_read(alloc->device, bytes, sizeof bytes, CELLAR_AT_FLAGS));
    return cellar_load_le32(bytes);
}

/* The header of the store says that a growth is under way; what is left after it depends on how it failed. */
static void test_tells_the_header(void **state)
{
    static const struct {
        int error;
        bool harmless;
    } rows[] = {
        {0, false},       {-ENOSPC, true},           {-EFBIG, true},         {-EDQUOT, true}, {-ENOMEM, true},
        {-ENOTSUP, true}, {CELLAR_EINDEXFULL, true}, {CELLAR_EWINDOW, true}, {-EIO, false},   {CELLAR_EUNKNOWN, false}};

    (void)state;
    for (size_t i = 0; i < SUPPORT_COUNT(rows); i++) {
        struct fault_device fault;
        struct asked asked;
        struct cellar_alloc alloc;
        struct cellar_header header;
        uint32_t first;

        open_with_header(&fault, &asked, &alloc, &header);
        assert_int_equal(cellar_alloc_is_harmless(rows[i].error), rows[i].harmless);
        if (rows[i].error != 0)
            fault_fail(&fault, FAULT_GROW, 1, 0, rows[i].error);
        assert_result(cellar_alloc_take(&alloc, 1, &first), rows[i].error);
        assert_int_equal(flags_of(&alloc),
                         rows[i].error == 0 || rows[i].harmless ? 0 : CELLAR_FLAG_SYNCING | CELLAR_FLAG_SUSPECT);
        assert_int_equal(alloc.next_index, rows[i].error == 0 ? START + 1 : START);
        close_with_header(&alloc, &header);
    }
}

/* Nothing grows that the file could not be told of; and what grew is not used where the end could not be. */
static void test_header_that_fails(void **state)
{
    (void)state;
    for (uint64_t nth = 1; nth <= 2; nth++) {
        struct fault_device fault;
        struct asked asked;
        struct cellar_alloc alloc;
        struct cellar_header header;
        uint32_t first;

        open_with_header(&fault, &asked, &alloc, &header);
        fault_fail(&fault, FAULT_WRITE, nth, 1, -EIO);
        assert_result(cellar_alloc_take(&alloc, 1, &first), -EIO);
        assert_int_equal(asked.grows, nth - 1);
        assert_int_equal(flags_of(&alloc), nth == 1 ? 0 : CELLAR_FLAG_SYNCING);
        assert_true(alloc.next_index == START && alloc.ready_index == START);
        close_with_header(&alloc, &header);
    }
}

/* The longer the file, the more at a time: a quarter, in whole steps, between a step and the most. */
static void test_stretches(void **state)
{
    struct cellar_alloc alloc = {.bytes_per_cell = CELL, .max_index = 100000, .step_cells = STEP, .most_cells = 100};

    (void)state;
    assert_int_equal(cellar_alloc_stretch(&alloc, START), STEP);
    assert_int_equal(cellar_alloc_stretch(&alloc, 8 * STEP - 1), STEP);
    assert_int_equal(cellar_alloc_stretch(&alloc, 8 * STEP), 2 * STEP);
    assert_int_equal(cellar_alloc_stretch(&alloc, 399), 96);
    assert_int_equal(cellar_alloc_stretch(&alloc, UINT32_MAX), 96);
    alloc.most_cells = 0;
    assert_int_equal(cellar_alloc_stretch(&alloc, UINT32_MAX), STEP);
    alloc.step_cells = 1;
    alloc.most_cells = UINT32_MAX;
    assert_int_equal(cellar_alloc_stretch(&alloc, UINT32_MAX), UINT32_MAX / 4);
}

/* Ahead of need: a stretch, or what the limit leaves of it, or nothing. */
static void test_extends(void **state)
{
    struct fault_device fault;
    struct asked asked;
    struct cellar_alloc alloc;

    (void)state;
    open_alloc(&fault, &asked, &alloc);
    alloc.most_cells = 1000;
    alloc.window_bytes = 299 * CELL + 1;
    assert_int_equal(cellar_alloc_limit(&alloc), 299);
    while (alloc.ready_index < 299) {
        uint32_t ready = alloc.ready_index, wanted = ready + cellar_alloc_stretch(&alloc, ready);

        assert_done(cellar_alloc_extend(&alloc));
        assert_int_equal(alloc.ready_index, wanted < 299 ? wanted : 299);
        assert_int_equal(asked.from_bytes, ready * CELL);
        assert_int_equal(asked.size_bytes, alloc.file_bytes);
    }
    assert_int_equal(alloc.ready_index, 299);
    asked.grows = 0;
    assert_result(cellar_alloc_extend(&alloc), CELLAR_NONE);
    alloc.ready_index = 310; /* a limit that came later */
    assert_result(cellar_alloc_extend(&alloc), CELLAR_NONE);
    assert_int_equal(asked.grows, 0);
    assert_int_equal(alloc.next_index, START);
    assert_done(cellar_device_close(alloc.device));
}

/* No room for a stretch: whole steps; no room for these: what is needed; and ahead of need nothing. */
static void test_less_where_it_is_full(void **state)
{
    struct fault_device fault;
    struct asked asked;
    struct cellar_alloc alloc;
    uint32_t first;

    (void)state;
    open_alloc(&fault, &asked, &alloc);
    alloc.most_cells = 1000;
    assert_done(cellar_alloc_take(&alloc, 300, &first));
    assert_int_equal(alloc.ready_index, START + 19 * STEP);
    fault_fail(&fault, FAULT_GROW, 1, 1, -ENOSPC);
    assert_done(cellar_alloc_take(&alloc, 5, &first));
    assert_int_equal(alloc.ready_index, START + 20 * STEP);
    fault_fail(&fault, FAULT_GROW, 1, 2, -EDQUOT);
    assert_done(cellar_alloc_take(&alloc, 18, &first));
    assert_int_equal(alloc.ready_index, START + 323);
    fault_fail(&fault, FAULT_GROW, 1, 1, -ENOSPC);
    asked.grows = 0;
    assert_result(cellar_alloc_extend(&alloc), -ENOSPC);
    assert_int_equal(asked.grows, 1);
    assert_int_equal(alloc.ready_index, START + 323);
    assert_done(cellar_device_close(alloc.device));
}

/* What somebody else made ready is never less than what was known. */
static void test_learns(void **state)
{
    struct cellar_alloc alloc = {.bytes_per_cell = CELL, .ready_index = 50, .file_bytes = 600};

    (void)state;
    cellar_alloc_learn(&alloc, 40);
    assert_int_equal(alloc.ready_index, 50);
    cellar_alloc_learn(&alloc, 55);
    assert_int_equal(alloc.ready_index, 55);
    assert_int_equal(alloc.file_bytes, 600);
    cellar_alloc_learn(&alloc, 70);
    assert_int_equal(alloc.file_bytes, 700);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_from_where_it_is_ready),
        cmocka_unit_test(test_window_of_no_cell),
        cmocka_unit_test(test_tells_the_header),
        cmocka_unit_test(test_header_that_fails),
        cmocka_unit_test(test_stretches),
        cmocka_unit_test(test_extends),
        cmocka_unit_test(test_less_where_it_is_full),
        cmocka_unit_test(test_learns),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
