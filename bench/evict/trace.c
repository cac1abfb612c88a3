/* trace.c - a trace from page numbers. */
#include "trace.h"

#include <errno.h>
#include <stdlib.h>

uint32_t evict_random(uint64_t *state, uint32_t limit)
{
    uint64_t z = *state += UINT64_C(0x9e3779b97f4a7c15);

    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    z ^= z >> 31;
    return (uint32_t)((z >> 32) * limit >> 32);
}

/* A use of a page: where in the trace, so that equal pages can be brought together and back. */
struct use {
    uint64_t number;
    size_t at;
};

static int compare_uses(const void *left, const void *right)
{
    const struct use *a = left, *b = right;

    if (a->number != b->number)
        return a->number < b->number ? -1 : 1;
    return (a->at > b->at) - (a->at < b->at);
}

/* trace->uses: for each use the place of the first use of its page. */
static int find_first_uses(const uint64_t *numbers, struct evict_trace *trace)
{
    struct use *sorted = malloc(trace->use_count * sizeof *sorted);

    if (sorted == NULL)
        return -ENOMEM;
    for (size_t i = 0; i < trace->use_count; i++)
        sorted[i] = (struct use){numbers[i], i};
    qsort(sorted, trace->use_count, sizeof *sorted, compare_uses);
    for (size_t i = 0, first = 0; i < trace->use_count; i++) {
        if (sorted[i].number != sorted[first].number)
            first = i;
        trace->uses[sorted[i].at] = (uint32_t)sorted[first].at;
    }
    free(sorted);
    return 0;
}

/* From places of first uses to numbers in their order. */
static void number_pages(const uint64_t *numbers, struct evict_trace *trace)
{
    for (size_t i = 0; i < trace->use_count; i++) {
        if (trace->uses[i] == i) {
            trace->pages[trace->page_count] = numbers[i];
            trace->uses[i] = (uint32_t)trace->page_count++;
        } else {
            trace->uses[i] = trace->uses[trace->uses[i]];
        }
    }
}

int evict_trace_make(const char *name, const char *what, const uint64_t *numbers, size_t count,
                     struct evict_trace *ret_trace)
{
    struct evict_trace trace = {.name = name, .what = what, .use_count = count};
    int status;

    if (count == 0 || count > INT32_MAX)
        return -EINVAL;
    trace.uses = malloc(count * sizeof *trace.uses);
    trace.pages = malloc(count * sizeof *trace.pages);
    status = trace.uses == NULL || trace.pages == NULL ? -ENOMEM : find_first_uses(numbers, &trace);
    if (status < 0) {
        evict_trace_free(&trace);
        return status;
    }
    number_pages(numbers, &trace);
    *ret_trace = trace;
    return 0;
}

void evict_trace_free(struct evict_trace *trace)
{
    free(trace->uses);
    free(trace->pages);
    *trace = (struct evict_trace){.uses = NULL};
}
