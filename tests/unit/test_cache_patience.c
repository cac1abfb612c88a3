/* Who finds every page held tries again where others may let go: for as long as something happens, not for ever. */
#include "cache_test.h"

#include "page/pool.h"

enum { PAGES = 2, WANTED = 50, LOOKS = 1000 };

/* What others do while the cache waits, all of it in the hook. Their handle has fixed all pages that are there. */
struct others {
    struct cellar_cache *cache;
    struct cellar_fixed fixed[PAGES];
    unsigned turns;      /* in which nothing was on its way */
    unsigned free_at;    /* the turn at which one page is given up */
    unsigned replace_to; /* before this turn, another page takes the place of one of them in each */
    bool busy;
};

static void fix(struct others *others, int which, uint64_t page)
{
    assert_done(cellar_cache_fix(others->cache, page * PAGE, 1, &others->fixed[which]));
}

static void take_turns(void *user)
{
    struct others *others = user;
    struct cellar_pool *pool = others->cache->pool;
    bool loading;

    sched_yield();
    cellar_pool_enter(pool);
    loading = pool->loading > 0;
    cellar_pool_leave(pool);
    if (loading || others->busy) /* by their own load, too */
        return;
    others->busy = true;
    others->turns++;
    if (others->turns < others->replace_to) {
        cellar_cache_unfix(others->cache, &others->fixed[0]);
        fix(others, 0, PAGES + others->turns % 8);
    }
    if (others->turns == others->free_at) {
        uint64_t address = others->fixed[0].slice.address;

        cellar_cache_unfix(others->cache, &others->fixed[0]);
        cellar_cache_invalidate(others->cache, address, PAGE);
    }
    others->busy = false;
}

static int read_beside(struct others *others, struct bed *bed)
{
    struct cellar_cache_options options = {.page_count = PAGES, .depth = 2, .hooks.wait = take_turns, .user = others};
    struct cellar_cache *cache;
    unsigned char byte = 0;
    int error;

    cache = bed_cache(bed, &options);
    others->cache = bed_share(cache);
    others->busy = true;
    for (int i = 0; i < PAGES; i++)
        fix(others, i, (uint64_t)i);
    others->busy = false;
    error = cellar_cache_read(cache, WANTED * PAGE, &byte, 1);
    if (error == 0)
        assert_bytes(bed, &byte, WANTED * PAGE, 1);
    for (int i = 0; i < PAGES; i++)
        cellar_cache_unfix(others->cache, &others->fixed[i]);
    cellar_cache_close(others->cache);
    cellar_cache_close(cache);
    return error;
}

static void test_a_page_is_given_up(void **state)
{
    static const unsigned turns[] = {1, 2, 3, LOOKS / 2};
    struct bed bed;

    (void)state;
    skip_in_debug();
    bed_open(&bed);
    for (size_t i = 0; i < SUPPORT_COUNT(turns); i++) {
        struct others others = {.free_at = turns[i]};

        assert_done(read_beside(&others, &bed));
        assert_int_equal(others.turns, turns[i]);
    }
    bed_close(&bed);
}

static void test_nobody_lets_go(void **state)
{
    struct others others = {0};
    struct bed bed;

    (void)state;
    skip_in_debug();
    bed_open(&bed);
    assert_result(read_beside(&others, &bed), CELLAR_EPINNED);
    assert_int_equal(others.turns, LOOKS);
    assert_int_equal(bed_reads(&bed), PAGES + 1); /* not another load for nothing */
    bed_close(&bed);
}

/* While others find room it isn't given up, however long it takes. */
static void test_others_find_room(void **state)
{
    struct others others = {.replace_to = 2 * LOOKS, .free_at = 2 * LOOKS + 10};
    struct bed bed;

    (void)state;
    skip_in_debug();
    bed_open(&bed);
    assert_done(read_beside(&others, &bed));
    bed_close(&bed);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_page_is_given_up),
        cmocka_unit_test(test_nobody_lets_go),
        cmocka_unit_test(test_others_find_room),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
