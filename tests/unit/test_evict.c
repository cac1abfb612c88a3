/* The policies of the eviction, told what to do without a cache: what all of them promise, and the way of each. */
#include "page_test.h"

#include "page/evict.h"

enum { FRAMES = 8 };

struct queue {
    const struct cellar_evict_ops *ops;
    void *state;
    struct cellar_frame frames[FRAMES];
};

static const struct cellar_evict_ops *const policies[] = {&cellar_evict_sieve, &cellar_evict_s3fifo,
                                                          &cellar_evict_clock};

enum { POLICIES = sizeof policies / sizeof policies[0] };

/* For page_count pages, of which 0 to count - 1 are there. Frame i holds page i. */
static void open_queue(struct queue *queue, const struct cellar_evict_ops *ops, size_t page_count, size_t count)
{
    memset(queue, 0, sizeof *queue);
    queue->ops = ops;
    assert_int_equal(ops->open(page_count, &queue->state), 0);
    for (size_t i = 0; i < FRAMES; i++)
        queue->frames[i].page = i;
    for (size_t i = 0; i < count; i++)
        ops->insert(queue->state, &queue->frames[i]);
}

/* The number of the frame that is given up; -1: none. */
static long give_up(struct queue *queue)
{
    struct cellar_frame *frame = queue->ops->choose(queue->state);

    if (frame == NULL)
        return -1;
    queue->ops->remove(queue->state, frame);
    return frame - queue->frames;
}

static void test_find(void **state)
{
    (void)state;
    assert_ptr_equal(cellar_evict_find(CELLAR_EVICT_DEFAULT), &cellar_evict_s3fifo);
    assert_ptr_equal(cellar_evict_find(CELLAR_EVICT_SIEVE), &cellar_evict_sieve);
    assert_ptr_equal(cellar_evict_find(CELLAR_EVICT_S3FIFO), &cellar_evict_s3fifo);
    assert_ptr_equal(cellar_evict_find(CELLAR_EVICT_CLOCK), &cellar_evict_clock);
    assert_null(cellar_evict_find((enum cellar_eviction)(CELLAR_EVICT_CLOCK + 1)));
    assert_null(cellar_evict_find((enum cellar_eviction) - 1));
    assert_string_equal(cellar_evict_sieve.name, "sieve");
    assert_string_equal(cellar_evict_s3fifo.name, "s3fifo");
    assert_string_equal(cellar_evict_clock.name, "clock");
}

/* Pages that nobody uses go in the order in which they came; and an insert takes the mark of the page before away. */
static void test_oldest_first(void **state)
{
    struct queue queue;

    (void)state;
    for (size_t p = 0; p < POLICIES; p++) {
        open_queue(&queue, policies[p], FRAMES, 4);
        for (long i = 0; i < 4; i++)
            assert_int_equal(give_up(&queue), i);
        queue.frames[5].visited = 1;
        queue.ops->insert(queue.state, &queue.frames[5]);
        assert_int_equal(queue.frames[5].visited, 0);
        queue.ops->insert(queue.state, &queue.frames[6]);
        assert_int_equal(give_up(&queue), 5);
        assert_int_equal(give_up(&queue), 6);
        assert_int_equal(give_up(&queue), -1);
        queue.ops->close(queue.state);
    }
}

/* In a full cache, where another page comes for each that goes. */
static void test_used_stays(void **state)
{
    struct queue queue;

    (void)state;
    for (size_t p = 0; p < POLICIES; p++) {
        open_queue(&queue, policies[p], 5, 5);
        queue.frames[0].visited = 1;
        queue.frames[2].visited = 1;
        assert_int_equal(give_up(&queue), 1);
        queue.ops->insert(queue.state, &queue.frames[5]);
        assert_int_equal(give_up(&queue), 3);
        queue.ops->insert(queue.state, &queue.frames[6]);
        assert_int_equal(give_up(&queue), 4);
        assert_int_equal(queue.frames[0].visited, 0);
        assert_int_equal(queue.frames[2].visited, 0);
        queue.ops->close(queue.state);
    }
}

static void test_all_visited(void **state)
{
    struct queue queue;

    (void)state;
    for (size_t p = 0; p < POLICIES; p++) {
        for (long count = 1; count <= FRAMES; count++) {
            open_queue(&queue, policies[p], FRAMES, (size_t)count);
            for (long i = 0; i < count; i++)
                queue.frames[i].visited = 1;
            for (long i = 0; i < count; i++)
                assert_int_equal(give_up(&queue), i);
            assert_int_equal(give_up(&queue), -1);
            queue.ops->close(queue.state);
        }
    }
}

/* A choice without a remove is no more than a question: the next one gives the same, or heeds what has changed. */
static void test_choose_again(void **state)
{
    struct queue queue;

    (void)state;
    for (size_t p = 0; p < POLICIES; p++) {
        open_queue(&queue, policies[p], FRAMES, 3);
        assert_ptr_equal(queue.ops->choose(queue.state), &queue.frames[0]);
        assert_ptr_equal(queue.ops->choose(queue.state), &queue.frames[0]);
        queue.frames[0].pins = 1;
        assert_ptr_equal(queue.ops->choose(queue.state), &queue.frames[1]);
        queue.frames[1].visited = 1;
        assert_int_equal(give_up(&queue), 2);
        queue.ops->close(queue.state);
    }
}

static void test_pinned(void **state)
{
    struct queue queue;

    (void)state;
    for (size_t p = 0; p < POLICIES; p++) {
        open_queue(&queue, policies[p], FRAMES, 4);
        queue.frames[0].pins = 1;
        queue.frames[0].visited = 1;
        queue.frames[1].pins = 2;
        queue.frames[3].visited = 1;
        assert_int_equal(give_up(&queue), 2);
        assert_int_equal(give_up(&queue), 3);
        assert_int_equal(give_up(&queue), -1);
        assert_int_equal(give_up(&queue), -1);
        assert_int_equal(queue.frames[0].visited, 1);
        queue.frames[0].pins = 0;
        assert_int_equal(give_up(&queue), 0);
        assert_int_equal(give_up(&queue), -1);
        queue.frames[1].pins = 1;
        assert_int_equal(give_up(&queue), -1);
        queue.frames[1].pins = 0;
        assert_int_equal(give_up(&queue), 1);
        queue.ops->close(queue.state);
    }
}

/* One page that is not pinned, at every place, marked or not, is found. */
static void test_one_free(void **state)
{
    struct queue queue;

    (void)state;
    for (size_t p = 0; p < POLICIES; p++) {
        for (long lone = 0; lone < FRAMES; lone++) {
            open_queue(&queue, policies[p], FRAMES, FRAMES);
            for (long i = 0; i < FRAMES; i++) {
                queue.frames[i].pins = i != lone;
                queue.frames[i].visited = 1;
            }
            assert_int_equal(give_up(&queue), lone);
            assert_int_equal(give_up(&queue), -1);
            for (long i = 0; i < FRAMES; i++)
                assert_int_equal(queue.frames[i].visited, i != lone);
            queue.ops->close(queue.state);
        }
    }
}

/* Frames that go without being chosen, at every place and right after a choice: each of the others still goes once. */
static void test_remove(void **state)
{
    struct queue queue;

    (void)state;
    for (size_t p = 0; p < POLICIES; p++) {
        for (long gone = 0; gone < 5; gone++) {
            bool went[FRAMES] = {false};

            open_queue(&queue, policies[p], FRAMES, 5);
            queue.frames[0].visited = 1;
            assert_ptr_equal(queue.ops->choose(queue.state), &queue.frames[1]); /* frame 0 has been passed */
            queue.ops->remove(queue.state, &queue.frames[gone]);
            for (int left = 4; left > 0; left--) {
                long frame = give_up(&queue);

                assert_in_range(frame, 0, 4);
                assert_false(went[frame] || frame == gone);
                went[frame] = true;
            }
            assert_int_equal(give_up(&queue), -1);
            queue.ops->insert(queue.state, &queue.frames[gone]);
            assert_int_equal(give_up(&queue), gone);
            queue.ops->close(queue.state);
        }
    }
}

/* The example of the paper, in small: visited pages keep their place and lose their mark, and the hand goes on from
 * where it was, past newcomers at last. */
static void test_sieve_hand(void **state)
{
    struct queue queue;

    (void)state;
    open_queue(&queue, &cellar_evict_sieve, FRAMES, 5);
    queue.frames[0].visited = 1;
    queue.frames[1].visited = 1;
    assert_int_equal(give_up(&queue), 2);
    assert_int_equal(queue.frames[0].visited, 0);
    assert_int_equal(queue.frames[1].visited, 0);
    queue.ops->insert(queue.state, &queue.frames[2]); /* 0 1 | 3 4 2 */
    queue.frames[3].visited = 1;
    assert_int_equal(give_up(&queue), 4);
    assert_int_equal(give_up(&queue), 2);
    assert_int_equal(give_up(&queue), 0); /* round again */
    assert_int_equal(give_up(&queue), 1);
    assert_int_equal(give_up(&queue), 3);
    queue.ops->close(queue.state);
}

/* A newcomer is looked at last: after the pages that the hand has passed. */
static void test_clock_hand(void **state)
{
    struct queue queue;

    (void)state;
    open_queue(&queue, &cellar_evict_clock, FRAMES, 5);
    queue.frames[0].visited = 1;
    queue.frames[1].visited = 1;
    assert_int_equal(give_up(&queue), 2);
    queue.ops->insert(queue.state, &queue.frames[2]); /* 3 4 0 1 2 */
    queue.frames[3].visited = 1;
    assert_int_equal(give_up(&queue), 4); /* 0 1 2 3 */
    queue.frames[0].visited = 1;
    assert_int_equal(give_up(&queue), 1);
    assert_int_equal(give_up(&queue), 2);
    assert_int_equal(give_up(&queue), 3);
    assert_int_equal(give_up(&queue), 0);
    queue.ops->close(queue.state);
}

/* Of 8 pages four may stay in the small queue: used ones go from there to the main queue, and newcomers before them. */
static void test_s3fifo_queues(void **state)
{
    struct queue queue;

    (void)state;
    open_queue(&queue, &cellar_evict_s3fifo, FRAMES, 8);
    for (size_t i = 0; i < 3; i++)
        queue.frames[i].visited = 1;
    assert_int_equal(give_up(&queue), 3); /* main: 0 1 2; small: 4 5 6 7 */
    assert_int_equal(give_up(&queue), 4);
    queue.frames[0].visited = 1;
    assert_int_equal(give_up(&queue), 1); /* small has become short; main by second chance */
    assert_int_equal(queue.frames[0].visited, 0);
    queue.frames[4].page = 40;
    queue.ops->insert(queue.state, &queue.frames[4]); /* main: 2 0; small: 5 6 7 4 */
    assert_int_equal(give_up(&queue), 5);             /* it is newer than those of main */
    assert_int_equal(give_up(&queue), 2);
    assert_int_equal(give_up(&queue), 0);
    assert_int_equal(give_up(&queue), 6);
    assert_int_equal(give_up(&queue), 7);
    assert_int_equal(give_up(&queue), 4);
    assert_int_equal(give_up(&queue), -1);
    queue.ops->close(queue.state);
}

/* Pages 0 to 3 are put into the cache, and 0 is given up; then so many others come and go; then 0 comes back. */
static void lose_and_come_back(struct queue *queue, uint64_t others)
{
    open_queue(queue, &cellar_evict_s3fifo, FRAMES, 4);
    assert_int_equal(give_up(queue), 0);
    for (uint64_t i = 0; i < others; i++) {
        queue->frames[4].page = 100 + i;
        queue->ops->insert(queue->state, &queue->frames[4]);
        for (long pinned = 1; pinned < 4; pinned++)
            queue->frames[pinned].pins = 1;
        assert_int_equal(give_up(queue), 4);
        for (long pinned = 1; pinned < 4; pinned++)
            queue->frames[pinned].pins = 0;
    }
    queue->ops->insert(queue->state, &queue->frames[0]);
}

/* A page that was given up from the small queue comes back to the main one, once, and for as many pages given up after
 * it as the main queue has: four of eight. */
static void test_s3fifo_ghosts(void **state)
{
    struct queue queue;

    (void)state;
    for (uint64_t others = 0; others < 8; others++) {
        lose_and_come_back(&queue, others);
        assert_int_equal(give_up(&queue), others < 4 ? 0 : 1); /* main, as small has no more than three pages */
        queue.ops->close(queue.state);
    }
    lose_and_come_back(&queue, 0);
    assert_int_equal(give_up(&queue), 0);
    queue.ops->insert(queue.state, &queue.frames[0]); /* small: 1 2 3 0, as nobody becomes a ghost in main */
    for (long i = 1; i <= 4; i++)
        assert_int_equal(give_up(&queue), i % 4);
    queue.ops->close(queue.state);
}

/* Pages that were invalidated, not given up, are no ghosts. */
static void test_s3fifo_invalidated(void **state)
{
    struct queue queue;

    (void)state;
    open_queue(&queue, &cellar_evict_s3fifo, FRAMES, 4);
    assert_ptr_equal(queue.ops->choose(queue.state), &queue.frames[0]);
    queue.ops->remove(queue.state, &queue.frames[1]);
    queue.ops->insert(queue.state, &queue.frames[1]); /* small: 0 2 3 1 */
    assert_int_equal(give_up(&queue), 0);
    assert_int_equal(give_up(&queue), 2);
    assert_int_equal(give_up(&queue), 3);
    assert_int_equal(give_up(&queue), 1);
    queue.ops->close(queue.state);
}

/* A choice looks no further than the first page that it can give up, as the marks behind it show. */
static void test_work(void **state)
{
    enum { COUNT = 1000 };
    struct cellar_frame *frames = calloc(COUNT, sizeof *frames);
    void *evict;

    (void)state;
    assert_non_null(frames);
    for (size_t p = 0; p < POLICIES; p++) {
        assert_int_equal(policies[p]->open(COUNT, &evict), 0);
        for (size_t i = 0; i < COUNT; i++) {
            frames[i].page = i;
            policies[p]->insert(evict, &frames[i]);
            frames[i].visited = 1;
        }
        frames[COUNT / 2].visited = 0;
        assert_ptr_equal(policies[p]->choose(evict), &frames[COUNT / 2]);
        for (size_t i = 0; i < COUNT; i++)
            assert_int_equal(frames[i].visited, i > COUNT / 2);
        policies[p]->close(evict);
        memset(frames, 0, COUNT * sizeof *frames);
    }
    free(frames);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_find),
        cmocka_unit_test(test_oldest_first),
        cmocka_unit_test(test_used_stays),
        cmocka_unit_test(test_all_visited),
        cmocka_unit_test(test_choose_again),
        cmocka_unit_test(test_pinned),
        cmocka_unit_test(test_one_free),
        cmocka_unit_test(test_remove),
        cmocka_unit_test(test_sieve_hand),
        cmocka_unit_test(test_clock_hand),
        cmocka_unit_test(test_s3fifo_queues),
        cmocka_unit_test(test_s3fifo_ghosts),
        cmocka_unit_test(test_s3fifo_invalidated),
        cmocka_unit_test(test_work),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
