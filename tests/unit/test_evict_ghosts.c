/* How many of the pages that were given up S3-FIFO remembers, also where their numbers meet in one bucket. */
#include "page_test.h"

#include "page/evict.h"

/* Of 160 pages the small queue has 16, the main one 144. GHOST remembers so many, in 29 buckets of eight. */
enum { PAGES = 160, GHOSTS = 144, BUCKETS = 29, BUCKET_GHOSTS = 8 };

/* The bucket of a page number: by the finalizer of SplitMix64, which is all of next_random but its step. */
static uint64_t bucket_of(uint64_t page)
{
    uint64_t before = page - UINT64_C(0x9E3779B97F4A7C15);

    return (next_random(&before) >> 32) * BUCKETS >> 32;
}

/* Page number index of those that have bucket 0. */
static uint64_t page_in_bucket(unsigned index)
{
    uint64_t page = 0;

    for (;; page++) {
        if (bucket_of(page) == 0 && index-- == 0)
            return page;
    }
}

static void *open_policy(void)
{
    void *policy;

    assert_int_equal(cellar_evict_s3fifo.open(PAGES, &policy), 0);
    return policy;
}

/* The page comes and is given up again. True: it was a ghost when it came, and stood in the main queue. */
static bool comes_and_goes(void *policy, uint64_t page)
{
    const struct cellar_evict_ops *ops = &cellar_evict_s3fifo;
    struct cellar_frame frame = {.page = page}, older = {.page = UINT64_MAX};
    bool ghost;

    ops->insert(policy, &older); /* small, whose oldest goes where nothing is in main */
    ops->insert(policy, &frame);
    ghost = ops->choose(policy) == &frame;
    older.pins = 1;
    assert_ptr_equal(ops->choose(policy), &frame);
    ops->remove(policy, &frame);
    ops->remove(policy, &older); /* it was not given up */
    return ghost;
}

/* A page is a ghost while fewer have been given up after it than the main queue has room for. */
static void test_so_many_are_remembered(void **state)
{
    (void)state;
    for (unsigned others = GHOSTS - 2; others <= GHOSTS + 1; others++) {
        void *policy = open_policy();
        unsigned left = others;

        assert_false(comes_and_goes(policy, page_in_bucket(0)));
        for (uint64_t page = 0; left > 0; page++) {
            if (bucket_of(page) == 0)
                continue; /* it might take the place of the first one */
            assert_false(comes_and_goes(policy, page));
            left--;
        }
        assert_int_equal(comes_and_goes(policy, page_in_bucket(0)), others < GHOSTS);
        cellar_evict_s3fifo.close(policy);
    }
}

/* Eight in one bucket, each of them once; the ninth takes the place of the first. */
static void test_so_many_in_one_bucket(void **state)
{
    (void)state;
    for (unsigned count = 1; count <= BUCKET_GHOSTS + 2; count++) {
        void *policy = open_policy();
        unsigned forgotten = count > BUCKET_GHOSTS ? count - BUCKET_GHOSTS : 0;

        for (unsigned i = 0; i < count; i++)
            assert_false(comes_and_goes(policy, page_in_bucket(i)));
        for (unsigned i = forgotten; i < count; i++)
            assert_true(comes_and_goes(policy, page_in_bucket(i)));
        for (unsigned i = 0; i < count; i++)
            assert_false(comes_and_goes(policy, page_in_bucket(i))); /* it has been in main since, or was forgotten */
        cellar_evict_s3fifo.close(policy);
    }
}

/* The oldest of a bucket goes, wherever in it that stands. */
static void test_oldest_ghost_goes(void **state)
{
    (void)state;
    for (unsigned taken = 0; taken < BUCKET_GHOSTS; taken++) {
        void *policy = open_policy();

        for (unsigned i = 0; i < BUCKET_GHOSTS; i++)
            assert_false(comes_and_goes(policy, page_in_bucket(i)));
        assert_true(comes_and_goes(policy, page_in_bucket(taken)));          /* and leaves its place */
        assert_false(comes_and_goes(policy, page_in_bucket(BUCKET_GHOSTS))); /* which this one takes */
        for (unsigned i = 0; i <= BUCKET_GHOSTS; i++) {
            if (i != taken)
                assert_true(comes_and_goes(policy, page_in_bucket(i)));
        }
        cellar_evict_s3fifo.close(policy);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_so_many_are_remembered),
        cmocka_unit_test(test_so_many_in_one_bucket),
        cmocka_unit_test(test_oldest_ghost_goes),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
