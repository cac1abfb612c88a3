/* SIEVE, told what to do without a cache. */
#include "page_test.h"

#include "page/evict.h"

enum { FRAMES = 8 };

struct queue {
    const struct cellar_evict_ops *ops;
    void *state;
    struct cellar_frame frames[FRAMES];
};

static void open_queue(struct queue *queue, size_t count)
{
    memset(queue, 0, sizeof *queue);
    queue->ops = &cellar_evict_sieve;
    assert_int_equal(queue->ops->open(FRAMES, &queue->state), 0);
    for (size_t i = 0; i < count; i++)
        queue->ops->insert(queue->state, &queue->frames[i]);
}

/* The number of the frame that is given up. */
static long give_up(struct queue *queue)
{
    struct cellar_frame *frame = queue->ops->choose(queue->state);

    queue->ops->remove(queue->state, frame);
    return frame - queue->frames;
}

static void test_sieve_oldest_first(void **state)
{
    struct queue queue;

    (void)state;
    open_queue(&queue, 4);
    assert_string_equal(queue.ops->name, "sieve");
    for (long i = 0; i < 4; i++)
        assert_int_equal(give_up(&queue), i);
    queue.frames[5].visited = 1; /* left over from the page before */
    queue.ops->insert(queue.state, &queue.frames[5]);
    assert_int_equal(queue.frames[5].visited, 0);
    assert_int_equal(give_up(&queue), 5);
    queue.ops->close(queue.state);
}

/* The example of the paper, in small: visited pages keep their place and lose their mark, and the hand goes on from
 * where it was, past newcomers at last. */
static void test_sieve_hand(void **state)
{
    struct queue queue;

    (void)state;
    open_queue(&queue, 5);
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

static void test_sieve_all_visited(void **state)
{
    struct queue queue;

    (void)state;
    open_queue(&queue, 3);
    for (size_t i = 0; i < 3; i++)
        queue.frames[i].visited = 1;
    assert_int_equal(give_up(&queue), 0);
    assert_int_equal(give_up(&queue), 1);
    queue.ops->close(queue.state);
}

static void test_sieve_pinned(void **state)
{
    struct queue queue;

    (void)state;
    open_queue(&queue, 4);
    queue.frames[0].pins = 1;
    queue.frames[0].visited = 1;
    queue.frames[1].pins = 2;
    queue.frames[3].visited = 1;
    assert_int_equal(give_up(&queue), 2);
    assert_int_equal(give_up(&queue), 3);
    assert_int_equal(queue.frames[0].visited, 1);
    queue.frames[0].pins = 0;
    assert_int_equal(give_up(&queue), 0);
    queue.ops->close(queue.state);
}

/* Frames that go without being chosen, at every place and under the hand. */
static void test_sieve_remove(void **state)
{
    struct queue queue;

    (void)state;
    for (size_t gone = 0; gone < 5; gone++) {
        open_queue(&queue, 5);
        queue.frames[0].visited = 1;
        queue.ops->choose(queue.state); /* the hand stands on 1 */
        queue.ops->remove(queue.state, &queue.frames[gone]);
        for (size_t i = 1; i <= 5; i++) {
            if (i % 5 != gone)
                assert_int_equal(give_up(&queue), i % 5);
        }
        queue.ops->insert(queue.state, &queue.frames[gone]);
        assert_int_equal(give_up(&queue), gone);
        queue.ops->close(queue.state);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sieve_oldest_first), cmocka_unit_test(test_sieve_hand),
        cmocka_unit_test(test_sieve_all_visited),  cmocka_unit_test(test_sieve_pinned),
        cmocka_unit_test(test_sieve_remove),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
