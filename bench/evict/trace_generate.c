/* trace_generate.c - traces of the shapes that papers about eviction measure, from fixed seeds. */
#include "trace.h"

#include <errno.h>
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>

/* What a generator draws from. */
struct maker {
    struct evict_scale scale;
    uint64_t state;     /* of the random numbers */
    uint64_t *weights;  /* Zipf: the sum of the weights of the ranks up to this one */
    uint32_t *shuffled; /* Zipf: the page of a rank */
    uint64_t *numbers;  /* what comes out */
    size_t count;
};

static void use(struct maker *maker, uint32_t page)
{
    if (maker->count < maker->scale.use_count)
        maker->numbers[maker->count++] = page;
}

static bool is_full(const struct maker *maker)
{
    return maker->count == maker->scale.use_count;
}

/* The rank k of page_count pages gets a weight of 1 / (k + 1)^skew, in whole parts, so that no machine's way to round
 * matters. */
static void prepare_zipf(struct maker *maker, uint32_t page_count, double skew)
{
    uint64_t sum = 0;

    for (uint32_t rank = 0; rank < page_count; rank++) {
        sum += (uint64_t)(pow((double)rank + 1.0, -skew) * (double)(1 << 30)) + 1;
        maker->weights[rank] = sum;
        maker->shuffled[rank] = rank;
    }
    for (uint32_t rank = page_count - 1; rank > 0; rank--) {
        uint32_t other = evict_random(&maker->state, rank + 1);
        uint32_t page = maker->shuffled[rank];

        maker->shuffled[rank] = maker->shuffled[other];
        maker->shuffled[other] = page;
    }
}

static uint32_t draw_zipf(struct maker *maker, uint32_t page_count)
{
    const uint64_t high = evict_random(&maker->state, 1 << 30), low = evict_random(&maker->state, 1 << 30);
    const uint64_t point = (high << 30 | low) % maker->weights[page_count - 1];
    uint32_t first = 0, last = page_count - 1;

    while (first < last) {
        uint32_t middle = first + (last - first) / 2;

        if (maker->weights[middle] > point)
            last = middle;
        else
            first = middle + 1;
    }
    return maker->shuffled[first];
}

static void make_zipf(struct maker *maker, double skew)
{
    prepare_zipf(maker, maker->scale.page_count, skew);
    while (!is_full(maker))
        use(maker, draw_zipf(maker, maker->scale.page_count));
}

static void make_zipf_08(struct maker *maker)
{
    make_zipf(maker, 0.8);
}

static void make_zipf_099(struct maker *maker)
{
    make_zipf(maker, 0.99);
}

static void make_zipf_12(struct maker *maker)
{
    make_zipf(maker, 1.2);
}

static void make_uniform(struct maker *maker)
{
    while (!is_full(maker))
        use(maker, evict_random(&maker->state, maker->scale.page_count));
}

static void make_scan(struct maker *maker)
{
    while (!is_full(maker))
        use(maker, (uint32_t)(maker->count % maker->scale.page_count));
}

static void make_loop(struct maker *maker)
{
    const uint32_t pages = maker->scale.page_count, length = pages * 11 / 100;

    for (uint32_t at = 0; !is_full(maker); at = (at + 1) % length) {
        use(maker, at);
        if (maker->count % 10 == 9)
            use(maker, length + evict_random(&maker->state, pages - length));
    }
}

static void make_two_loops(struct maker *maker)
{
    const uint32_t pages = maker->scale.page_count, length = pages * 8 / 100;
    uint32_t small = 0, large = length;

    while (!is_full(maker)) {
        for (int i = 0; i < 10; i++, small = small + 1 < length ? small + 1 : 0)
            use(maker, small);
        for (int i = 0; i < 10; i++, large = large + 1 < pages ? large + 1 : length)
            use(maker, large);
    }
}

static void make_zipf_scans(struct maker *maker)
{
    const uint32_t pages = maker->scale.page_count, half = pages / 2, scan = pages / 8;
    uint32_t at = 0;

    prepare_zipf(maker, half, 0.99);
    while (!is_full(maker)) {
        for (uint32_t i = 0; i < maker->scale.use_count / 20 - scan; i++)
            use(maker, draw_zipf(maker, half));
        for (uint32_t i = 0; i < scan; i++, at = (at + 1) % half)
            use(maker, half + at);
    }
}

static void make_drift(struct maker *maker)
{
    const uint32_t pages = maker->scale.page_count, hot = pages / 20, slow = maker->scale.use_count / pages;

    while (!is_full(maker)) {
        uint32_t from = (uint32_t)(maker->count / slow);

        if (evict_random(&maker->state, 10) > 0)
            use(maker, (from + evict_random(&maker->state, hot)) % pages);
        else
            use(maker, evict_random(&maker->state, pages));
    }
}

static void make_phases(struct maker *maker)
{
    const uint32_t pages = maker->scale.page_count, hot = pages / 20, length = maker->scale.use_count / 20;

    while (!is_full(maker)) {
        uint32_t phase = (uint32_t)(maker->count / length);

        if (evict_random(&maker->state, 10) > 0)
            use(maker, phase * hot % pages + evict_random(&maker->state, hot));
        else
            use(maker, evict_random(&maker->state, pages));
    }
}

static void make_mix(struct maker *maker)
{
    const uint32_t pages = maker->scale.page_count, part = pages / 4;
    uint32_t loop = 0, scan = 0;

    prepare_zipf(maker, part, 0.99);
    while (!is_full(maker)) {
        const uint32_t kind = evict_random(&maker->state, 10), length = 1 + evict_random(&maker->state, pages / 50);

        for (uint32_t i = 0; i < length; i++) {
            if (kind < 5)
                use(maker, draw_zipf(maker, part));
            else if (kind < 7)
                use(maker, part + (loop = (loop + 1) % (pages / 20)));
            else if (kind < 9)
                use(maker, 2 * part + (scan = (scan + 1) % part));
            else
                use(maker, 3 * part + evict_random(&maker->state, part));
        }
    }
}

static const struct generator {
    const char *name, *what;
    void (*make)(struct maker *maker);
} generators[] = {
    {"zipf-0.8", "Zipf's law with an exponent of 0.8.", make_zipf_08},
    {"zipf-0.99", "Zipf's law with an exponent of 0.99, as in YCSB.", make_zipf_099},
    {"zipf-1.2", "Zipf's law with an exponent of 1.2.", make_zipf_12},
    {"uniform", "Every page as often as every other.", make_uniform},
    {"scan", "All pages in order, again and again.", make_scan},
    {"loop", "A loop over 11 % of the pages, and after each nine of these uses one of the other pages at random.",
     make_loop},
    {"two-loops", "A loop over 8 % of the pages and one over the rest, ten uses of each in turn.", make_two_loops},
    {"zipf-scans",
     "Zipf's law (0.99) over half of the pages; after each twentieth of the trace an eighth of the pages, from the "
     "other "
     "half, in order, once.",
     make_zipf_scans},
    {"drift", "Nine uses in ten go to a twentieth of the pages that moves on page by page, one to any page.",
     make_drift},
    {"phases",
     "Nine uses in ten go to a twentieth of the pages, another one in each twentieth of the trace; one to any "
     "page.",
     make_phases},
    {"mix",
     "Stretches of random length: half of them by Zipf's law (0.99) over a quarter of the pages, a fifth in a loop "
     "over "
     "5 %, a fifth in a scan of a quarter, a tenth uniform over a quarter.",
     make_mix},
};

const size_t evict_generator_count = sizeof generators / sizeof generators[0];

int evict_trace_generate(size_t index, const struct evict_scale *scale, struct evict_trace *ret_trace)
{
    struct maker maker = {.scale = *scale, .state = index + 1};
    int status = -ENOMEM;

    maker.weights = malloc(scale->page_count * sizeof *maker.weights);
    maker.shuffled = malloc(scale->page_count * sizeof *maker.shuffled);
    maker.numbers = malloc(scale->use_count * sizeof *maker.numbers);
    if (maker.weights != NULL && maker.shuffled != NULL && maker.numbers != NULL) {
        generators[index].make(&maker);
        status =
            evict_trace_make(generators[index].name, generators[index].what, maker.numbers, maker.count, ret_trace);
    }
    free(maker.weights);
    free(maker.shuffled);
    free(maker.numbers);
    return status;
}
