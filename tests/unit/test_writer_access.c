/* What a writer tells the system of its window: which pages are brought in around one that is stored into first. */
#include "store_fixture.h"

#include <sys/mman.h>
#include <unistd.h>

enum { CELL = 64, CELLS_MAX = 400000, MIB_CELLS = (1 << 20) / CELL };

static unsigned char *first, *behind; /* of the window from which on a page comes alone; NULL: nowhere */
static int advised;                   /* so often */
static unsigned char *next_cell;      /* where it was found to lie last */

int __real_madvise(void *address, size_t length_bytes, int advice);
int __wrap_madvise(void *address, size_t length_bytes, int advice);

int __wrap_madvise(void *address, size_t length_bytes, int advice)
{
    advised += advice == MADV_RANDOM || advice == MADV_NORMAL;
    if (advice == MADV_RANDOM) {
        first = address;
        behind = first + length_bytes;
    } else if (advice == MADV_NORMAL) {
        assert_true((unsigned char *)address <= first && (unsigned char *)address + length_bytes == behind);
        first = NULL;
    }
    return __real_madvise(address, length_bytes, advice);
}

static struct cellar_writer *new_writer(struct store_fixture *f, unsigned ahead)
{
    struct cellar_writer_options options = store_options(f);
    struct cellar_config config = store_config(CELL, CELLS_MAX);
    struct cellar_writer *writer;

    first = NULL;
    advised = 0;
    options.ahead = ahead;
    options.resize_step_bytes = 0; /* marks are a MiB apart */
    options.initial_cells = CELLS_MAX;
    assert_done(store_create(f, &config, &options, &writer));
    return writer;
}

/* Whether the page of the next cell comes alone, and no other before it. */
static bool comes_alone(struct cellar_writer *writer)
{
    unsigned char *bytes;
    uint32_t index;

    assert_done(cellar_writer_reserve(writer, 1, &index, (void **)&bytes));
    next_cell = bytes;
    if (first == NULL)
        return false;
    assert_true(bytes >= first && bytes < behind);
    assert_true(support_is_mapped_with(first, "rr"));
    assert_false(support_is_mapped_with(first - 1, "rr"));
    return true;
}

/* By commits of so many cells. */
static void append(struct cellar_writer *writer, uint32_t cell_count, uint32_t commit_cells)
{
    for (; cell_count > 0; cell_count -= commit_cells) {
        (void)store_append(writer, commit_cells);
        assert_done(cellar_writer_commit(writer));
    }
}

/* What was there before is read as ever. */
static void test_opened(void **state)
{
    struct store_fixture *f = *state;
    struct cellar_writer_options options = store_options(f);
    struct cellar_writer *writer = new_writer(f, 0);

    assert_true(comes_alone(writer));
    append(writer, 1000, 1000);
    store_close(writer);
    first = NULL;
    assert_done(store_open(f, &options, &writer));
    assert_true(comes_alone(writer));
    assert_true(next_cell - first < sysconf(_SC_PAGESIZE));
    assert_done(cellar_writer_truncate(writer, 0));
    assert_true(comes_alone(writer));
    store_close(writer);
}

static void test_not_where_nothing_is_done_ahead(void **state)
{
    struct cellar_writer *writer = new_writer(*state, CELLAR_AHEAD_NONE);

    assert_false(comes_alone(writer));
    store_close(writer);
}

/* In commits that are stored where they lie, or reserved there: after a MiB. */
static void test_stored(void **state)
{
    struct cellar_writer *writer = new_writer(*state, 0);
    uint32_t index;
    void *cells;

    append(writer, MIB_CELLS - 512, 512);
    assert_true(comes_alone(writer));
    append(writer, 1024, 512);
    assert_false(comes_alone(writer));
    append(writer, 8 * MIB_CELLS, 4 * MIB_CELLS); /* and these are gathered */
    assert_true(comes_alone(writer));
    for (int i = 0; i < 2 * MIB_CELLS / 512; i++)
        assert_done(cellar_writer_reserve(writer, 512, &index, &cells));
    assert_false(comes_alone(writer));
    store_close(writer);
}

/* Those of large commits are gathered, from the first one on. */
static void test_gathered(void **state)
{
    struct cellar_writer *writer = new_writer(*state, 0);

    append(writer, 12 * MIB_CELLS, 4 * MIB_CELLS);
    assert_true(comes_alone(writer));
    assert_int_equal(advised, 1);
    store_close(writer);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        STORE_ON(test_opened, STORE_MAPPED),
        STORE_ON(test_not_where_nothing_is_done_ahead, STORE_MAPPED),
        STORE_ON(test_stored, STORE_MAPPED),
        STORE_ON(test_gathered, STORE_MAPPED),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
