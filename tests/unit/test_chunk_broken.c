/*
 * Chains that are broken in every way: always an error or an end, never a read outside the cells start..next-1. The
 * cells lie between two pages that nobody may touch, so a read outside ends the test.
 */
#include "support.h"

#include "base/bytes.h"
#include "cell/chunk.h"

#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { CELL_BYTES_TOTAL = 16384 };

/* Cells whose first usable byte, or whose last one, lies at a page that can't be read. */
struct arena {
    unsigned char *mapping, *usable; /* CELL_BYTES_TOTAL bytes may be read from usable on */
    struct cellar_cells cells;
    uint32_t start, next; /* as many whole cells as fit, at one end */
};

static size_t page_bytes(void)
{
    return (size_t)sysconf(_SC_PAGESIZE);
}

static void open_arena(struct arena *arena, uint32_t bytes_per_cell, bool at_the_end)
{
    uint32_t count = CELL_BYTES_TOTAL / bytes_per_cell;
    unsigned char *first_cell;

    arena->mapping = mmap(NULL, CELL_BYTES_TOTAL + 2 * page_bytes(), PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_true(arena->mapping != MAP_FAILED);
    arena->usable = arena->mapping + page_bytes();
    assert_int_equal(mprotect(arena->usable, CELL_BYTES_TOTAL, PROT_READ | PROT_WRITE), 0);
    arena->start = cellar_start_index(bytes_per_cell);
    arena->next = arena->start + count;
    first_cell = at_the_end ? arena->usable + CELL_BYTES_TOTAL - (size_t)count * bytes_per_cell : arena->usable;
    /* A window of which only these cells are ours; its header lies in the page before. */
    arena->cells = (struct cellar_cells){.bytes_per_cell = bytes_per_cell,
                                         .window = first_cell - (size_t)arena->start * bytes_per_cell};
}

static void close_arena(struct arena *arena)
{
    munmap(arena->mapping, CELL_BYTES_TOTAL + 2 * page_bytes());
}

static void put_footer(struct arena *arena, uint32_t last, uint32_t size, uint32_t cdr)
{
    unsigned char *at = arena->cells.window + ((uint64_t)last + 1) * arena->cells.bytes_per_cell - 6;

    cellar_store_le16(at, (uint16_t)size);
    cellar_store_le32(at + 2, cdr);
}

/* Walks to the end or to an error; every chunk on the way lies in the cells, below the one before. */
static int walk(struct arena *arena, uint32_t index, uint32_t next, struct cellar_chain *chain)
{
    struct cellar_chunk chunk;
    uint64_t below = (uint64_t)index + 1;
    int result;

    cellar_chain_begin(chain, &arena->cells, index, next);
    while ((result = cellar_chain_step(chain, &chunk)) == 0) {
        assert_true(chunk.first_index >= arena->start && chunk.last_index < next);
        assert_true(chunk.first_index <= chunk.last_index && chunk.last_index < below);
        assert_true((uint64_t)(chunk.last_index - chunk.first_index + 1) * arena->cells.bytes_per_cell >=
                    (uint64_t)chunk.size_bytes + 6);
        below = chunk.first_index;
    }
    assert_true(result == CELLAR_NONE || result == CELLAR_EBOUNDS || result == CELLAR_ECORRUPT);
    if (result == CELLAR_ECORRUPT)
        assert_non_null(chain->problem_expected);
    return result;
}

static void expect(struct arena *arena, uint32_t index, int result, uint64_t problem_offset)
{
    struct cellar_chain chain;

    assert_result(walk(arena, index, arena->next, &chain), result);
    if (result == CELLAR_ECORRUPT)
        assert_int_equal(chain.problem_offset, problem_offset);
}

/* The ways that can be named, cells of 32 bytes: the footer of cell i lies at 32 i + 26. */
static void test_named_ways(void **state)
{
    struct arena arena;
    uint32_t start = 8;

    (void)state;
    open_arena(&arena, 32, false);
    assert_int_equal(arena.start, start);
    expect(&arena, 20, CELLAR_NONE, 0); /* zeros are an empty value */
    put_footer(&arena, 20, 26, 20);     /* itself */
    expect(&arena, 20, CELLAR_ECORRUPT, 666);
    put_footer(&arena, 20, 27, 19); /* its own first cell */
    expect(&arena, 20, CELLAR_ECORRUPT, 666);
    put_footer(&arena, 20, 26, 21); /* forward */
    expect(&arena, 20, CELLAR_ECORRUPT, 666);
    put_footer(&arena, 21, 26, 20); /* two that name each other */
    expect(&arena, 21, CELLAR_ECORRUPT, 666);
    expect(&arena, 20, CELLAR_ECORRUPT, 666);
    put_footer(&arena, 20, 26, 7); /* into the header */
    expect(&arena, 20, CELLAR_ECORRUPT, 666);
    put_footer(&arena, 20, 26, 1);
    expect(&arena, 20, CELLAR_ECORRUPT, 666);
    put_footer(&arena, 20, 26, UINT32_MAX); /* far outside */
    expect(&arena, 20, CELLAR_ECORRUPT, 666);
    put_footer(&arena, 20, 26, arena.next);
    expect(&arena, 20, CELLAR_ECORRUPT, 666);
    put_footer(&arena, 20, 13 * 32 - 6, 0); /* the largest that begins at the first cell */
    expect(&arena, 20, CELLAR_NONE, 0);
    put_footer(&arena, 20, 13 * 32 - 5, 0);
    expect(&arena, 20, CELLAR_ECORRUPT, 666);
    put_footer(&arena, 20, 65535, 0);
    expect(&arena, 20, CELLAR_ECORRUPT, 666);
    put_footer(&arena, 20, 26, 19); /* good, but the one before is not */
    put_footer(&arena, 19, 65535, 0);
    expect(&arena, 20, CELLAR_ECORRUPT, 634);
    put_footer(&arena, 19, 300, 8);
    put_footer(&arena, 8, 26, 0);
    expect(&arena, 20, CELLAR_NONE, 0);
    close_arena(&arena);
}

static void test_where_a_walk_may_begin(void **state)
{
    static const uint32_t cell_sizes[] = {4, 5, 6, 7, 32, 100, 255, 256, 4096};

    (void)state;
    for (size_t i = 0; i < SUPPORT_COUNT(cell_sizes); i++) {
        struct arena arena;

        open_arena(&arena, cell_sizes[i], i % 2 == 0);
        for (uint32_t index = 0; index < arena.start; index++)
            expect(&arena, index, CELLAR_EBOUNDS, 0);
        /* With 4 and 5 bytes per cell the footer of the first cell would begin in the header. */
        expect(&arena, arena.start, cell_sizes[i] < 6 ? CELLAR_ECORRUPT : CELLAR_NONE,
               (uint64_t)arena.start * cell_sizes[i]);
        expect(&arena, arena.start + 1, CELLAR_NONE, 0);
        expect(&arena, arena.next - 1, CELLAR_NONE, 0);
        expect(&arena, arena.next, CELLAR_EBOUNDS, 0);
        expect(&arena, arena.next + 1, CELLAR_EBOUNDS, 0);
        expect(&arena, UINT32_MAX, CELLAR_EBOUNDS, 0);
        close_arena(&arena);
    }
}

/* A cdr that names the first cell where no footer fits is corrupt, not out of bounds: the caller asked for a value. */
static void test_cdr_to_a_cell_without_room(void **state)
{
    struct arena arena;

    (void)state;
    open_arena(&arena, 4, false);
    put_footer(&arena, 80, 3, 64);
    expect(&arena, 80, CELLAR_ECORRUPT, 64 * 4);
    close_arena(&arena);
}

/* The snapshot's next counts, not the file's: what lies above it is not read. */
static void test_snapshots_end(void **state)
{
    struct arena arena;
    struct cellar_chain chain;

    (void)state;
    open_arena(&arena, 32, false);
    assert_result(walk(&arena, 20, 20, &chain), CELLAR_EBOUNDS);
    assert_result(walk(&arena, 20, 21, &chain), CELLAR_NONE);
    assert_result(walk(&arena, 20, 0, &chain), CELLAR_EBOUNDS);
    close_arena(&arena);
}

/* Every cell of images full of footers that are wrong by a little, or by much. */
static void fill_hostile(struct arena *arena, uint64_t *random)
{
    uint32_t count = arena->next - arena->start, bytes_per_cell = arena->cells.bytes_per_cell;

    support_bytes(support_random(random), arena->usable, CELL_BYTES_TOTAL);
    for (uint32_t i = 0; i < count; i += 1 + (uint32_t)support_random_below(random, 8)) {
        uint32_t last = arena->start + i, cdr = 0;
        uint64_t size = support_random_below(random, 4 * (uint64_t)bytes_per_cell + 8);

        if ((uint64_t)(i + 1) * bytes_per_cell < 6)
            continue;
        if (support_random_below(random, 20) == 0)
            size = 65535 - support_random_below(random, 2);
        switch (support_random_below(random, 8)) {
        case 0:
            cdr = arena->start + (uint32_t)support_random_below(random, count); /* anywhere */
            break;
        case 1:
            cdr = (uint32_t)support_random(random);
            break;
        case 2:
            cdr = arena->start - (uint32_t)support_random_below(random, 3);
            break;
        case 3:
            break;
        default:
            cdr = last - (uint32_t)(size / bytes_per_cell) - (uint32_t)support_random_below(random, 4);
            break;
        }
        put_footer(arena, last, (uint32_t)size & 0xffff, cdr);
    }
}

static void test_hostile_images(void **state)
{
    static const uint32_t cell_sizes[] = {4, 5, 6, 7, 8, 13, 32, 64, 100, 255, 1000, 4096, 8192};
    uint64_t random = 81;
    int ends = 0, broken = 0;

    (void)state;
    for (size_t i = 0; i < SUPPORT_COUNT(cell_sizes); i++) {
        for (int round = 0; round < 10; round++) {
            struct cellar_chain chain;
            struct arena arena;

            open_arena(&arena, cell_sizes[i], round % 2 == 0);
            fill_hostile(&arena, &random);
            for (uint32_t index = arena.start; index < arena.next; index++) {
                uint32_t next = index + 1 + (uint32_t)support_random_below(&random, arena.next - index);
                int result = walk(&arena, index, next, &chain);

                assert_true(result == CELLAR_NONE || result == CELLAR_ECORRUPT);
                ends += result == CELLAR_NONE;
                broken += result == CELLAR_ECORRUPT;
            }
            close_arena(&arena);
        }
    }
    assert_true(ends > 1000 && broken > 1000); /* both were met */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_named_ways),
        cmocka_unit_test(test_where_a_walk_may_begin),
        cmocka_unit_test(test_cdr_to_a_cell_without_room),
        cmocka_unit_test(test_snapshots_end),
        cmocka_unit_test(test_hostile_images),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
