/* fuzz_queue.c - the queue that runs requests when the input says so. */
#include "fuzz_queue.h"

#include "device/device.h"
#include "device/queue.h"

#include <errno.h>

enum { FRUITLESS_MAX = 2 };

struct cellar_queue {
    unsigned depth;
    struct cellar_request *waiting, *done; /* in the order of submit; in that of their ends */
    unsigned waiting_count, outstanding, fruitless;
    bool nudged;
};

static struct fuzz_input schedule;
static size_t schedule_at;

/* By the linker in the place of the functions with these names. */
int __wrap_cellar_queue_open(unsigned depth, enum cellar_io io, struct cellar_queue **ret_queue);
void __wrap_cellar_queue_close(struct cellar_queue *queue);
void __wrap_cellar_queue_submit(struct cellar_queue *queue, struct cellar_request *requests);
struct cellar_request *__wrap_cellar_queue_take(struct cellar_queue *queue, bool wait);
void __wrap_cellar_queue_nudge(struct cellar_queue *queue);
unsigned __wrap_cellar_queue_outstanding(const struct cellar_queue *queue);
int __wrap_cellar_queue_descriptor(const struct cellar_queue *queue);

void fuzz_queue_schedule(struct fuzz_input choices)
{
    schedule = choices;
    schedule_at = 0;
}

static unsigned next_choice(void)
{
    return schedule.length_bytes > 0 ? schedule.bytes[schedule_at++ % schedule.length_bytes] : 0;
}

static void append(struct cellar_request **list, struct cellar_request *request)
{
    while (*list != NULL)
        list = &(*list)->next;
    request->next = NULL;
    *list = request;
}

static int transfer(struct cellar_request *request)
{
    int error = cellar_device_begin(request->device, request->writes, request->parts, request->part_count,
                                    request->offset, &request->total_bytes);

    if (error != 0)
        return error;
    return cellar_device_finish(request->device, request->writes, request->parts, request->part_count, request->offset,
                                0, request->total_bytes);
}

/* Runs one of those that are under way. */
static void run_one(struct cellar_queue *queue, unsigned which)
{
    unsigned under_way = queue->waiting_count < queue->depth ? queue->waiting_count : queue->depth;
    struct cellar_request **link = &queue->waiting, *request;

    for (which %= under_way; which > 0; which--)
        link = &(*link)->next;
    request = *link;
    *link = request->next;
    queue->waiting_count--;
    request->result = transfer(request);
    append(&queue->done, request);
}

static void run_some(struct cellar_queue *queue)
{
    unsigned choice = next_choice();

    for (unsigned i = choice % 4; i > 0 && queue->waiting_count > 0; i--)
        run_one(queue, choice / 4);
}

int __wrap_cellar_queue_open(unsigned depth, enum cellar_io io, struct cellar_queue **ret_queue)
{
    struct cellar_queue *queue = calloc(1, sizeof *queue);

    (void)io;
    FUZZ_NEEDS(queue != NULL && depth > 0);
    queue->depth = depth;
    *ret_queue = queue;
    return 0;
}

void __wrap_cellar_queue_close(struct cellar_queue *queue)
{
    if (queue == NULL)
        return;
    for (unsigned i = 0; i < queue->depth && queue->waiting_count > 0; i++)
        run_one(queue, 0);
    free(queue);
}

void __wrap_cellar_queue_submit(struct cellar_queue *queue, struct cellar_request *requests)
{
    while (requests != NULL) {
        struct cellar_request *request = requests;

        requests = request->next;
        append(&queue->waiting, request);
        queue->waiting_count++;
        queue->outstanding++;
    }
    run_some(queue);
}

struct cellar_request *__wrap_cellar_queue_take(struct cellar_queue *queue, bool wait)
{
    struct cellar_request *done;

    run_some(queue);
    if (queue->done == NULL && queue->waiting_count > 0 && !queue->nudged &&
        (wait || ++queue->fruitless > FRUITLESS_MAX))
        run_one(queue, next_choice());
    done = queue->done;
    queue->done = NULL;
    queue->nudged = false;
    if (done != NULL)
        queue->fruitless = 0;
    for (const struct cellar_request *request = done; request != NULL; request = request->next)
        queue->outstanding--;
    return done;
}

void __wrap_cellar_queue_nudge(struct cellar_queue *queue)
{
    queue->nudged = true;
}

unsigned __wrap_cellar_queue_outstanding(const struct cellar_queue *queue)
{
    return queue->outstanding;
}

int __wrap_cellar_queue_descriptor(const struct cellar_queue *queue)
{
    (void)queue;
    return -ENOTSUP;
}
