/*
 * The policies of the eviction against models of them over random operations: plain arrays, oldest page first, that are
 * searched from one end to the other and know no links. And what a scan leaves of the pages in use.
 */
#include "page_test.h"

#include "page/evict.h"

enum { PAGES_MAX = 128, IN_SMALL = 0, IN_MAIN = 1 /* frame->queue of S3-FIFO */ };

struct entry {
    uint64_t page;
    bool visited;
    uint32_t pins;
};

struct row {
    struct entry entries[PAGES_MAX];
    size_t count;
};

struct model {
    enum cellar_eviction eviction;
    struct row rows[2];  /* S3-FIFO: small and main; else the first alone */
    size_t hand;         /* SIEVE: where it stands */
    size_t small_pages;  /* S3-FIFO: how many may stay in small */
    size_t ghost_window; /* how many ghosts count */
    uint64_t *ghosts;    /* all that there have been, the last one at the end */
    size_t ghost_count;
};

static const uint64_t NOBODY = UINT64_MAX;

static void row_add(struct row *row, struct entry entry)
{
    assert_true(row->count < PAGES_MAX);
    row->entries[row->count++] = entry;
}

static struct entry row_take(struct row *row, size_t at)
{
    struct entry entry = row->entries[at];

    memmove(&row->entries[at], &row->entries[at + 1], (row->count - at - 1) * sizeof row->entries[0]);
    row->count--;
    return entry;
}

/* NULL: not cached. */
static struct entry *model_find(struct model *model, uint64_t page)
{
    for (size_t r = 0; r < 2; r++) {
        for (size_t i = 0; i < model->rows[r].count; i++) {
            if (model->rows[r].entries[i].page == page)
                return &model->rows[r].entries[i];
        }
    }
    return NULL;
}

static bool model_take_ghost(struct model *model, uint64_t page)
{
    for (size_t i = 0; i < model->ghost_count && i < model->ghost_window; i++) {
        uint64_t *ghost = &model->ghosts[model->ghost_count - 1 - i];

        if (*ghost == page) {
            *ghost = NOBODY;
            return true;
        }
    }
    return false;
}

static void model_remove(struct model *model, uint64_t page, bool given_up)
{
    struct entry *entry = model_find(model, page);
    size_t r = entry >= model->rows[1].entries && entry < model->rows[1].entries + PAGES_MAX;
    size_t at = (size_t)(entry - model->rows[r].entries);

    row_take(&model->rows[r], at);
    if (at < model->hand)
        model->hand--;
    if (model->hand == model->rows[0].count)
        model->hand = 0;
    if (given_up && model->eviction == CELLAR_EVICT_S3FIFO && r == IN_SMALL)
        model->ghosts[model->ghost_count++] = page;
}

static bool all_pinned(const struct row *row)
{
    for (size_t i = 0; i < row->count; i++) {
        if (row->entries[i].pins == 0)
            return false;
    }
    return true;
}

static uint64_t sieve_choose(struct model *model)
{
    struct row *row = &model->rows[0];

    if (all_pinned(row))
        return NOBODY;
    for (;; model->hand = (model->hand + 1) % row->count) {
        struct entry *entry = &row->entries[model->hand];

        if (entry->pins == 0 && !entry->visited)
            return entry->page;
        if (entry->pins == 0)
            entry->visited = false;
    }
}

/* Second chance: who is pinned or marked goes to the end. */
static uint64_t rotate_choose(struct row *row)
{
    if (all_pinned(row))
        return NOBODY;
    while (row->entries[0].pins > 0 || row->entries[0].visited) {
        if (row->entries[0].pins == 0)
            row->entries[0].visited = false;
        row_add(row, row_take(row, 0));
    }
    return row->entries[0].page;
}

static uint64_t s3fifo_choose(struct model *model)
{
    struct row *small = &model->rows[IN_SMALL], *big = &model->rows[IN_MAIN];
    uint64_t page = NOBODY;

    while (small->count >= model->small_pages && !all_pinned(small)) {
        struct entry entry = small->entries[0];

        if (entry.pins > 0) {
            row_add(small, row_take(small, 0));
        } else if (entry.visited) {
            row_take(small, 0);
            entry.visited = false;
            row_add(big, entry);
        } else {
            return entry.page;
        }
    }
    page = rotate_choose(big);
    return page != NOBODY ? page : rotate_choose(small);
}

static uint64_t model_choose(struct model *model)
{
    if (model->eviction == CELLAR_EVICT_SIEVE)
        return sieve_choose(model);
    if (model->eviction == CELLAR_EVICT_CLOCK)
        return rotate_choose(&model->rows[0]);
    return s3fifo_choose(model);
}

/* ---- a cache with a policy, and its model ---- */

struct pair {
    const struct cellar_evict_ops *ops;
    void *state;
    size_t page_count, cached;
    struct cellar_frame frames[PAGES_MAX]; /* length > 0: cached */
    const struct cellar_frame *chosen;     /* by the last choice, and not removed since */
    struct model model;
    uint64_t misses, ghost_hits, ghosts_forgotten;
};

static void pair_open(struct pair *pair, enum cellar_eviction eviction, size_t page_count, size_t operations)
{
    memset(pair, 0, sizeof *pair);
    pair->ops = cellar_evict_find(eviction);
    pair->page_count = page_count;
    assert_int_equal(pair->ops->open(page_count, &pair->state), 0);
    pair->model.eviction = eviction;
    pair->model.small_pages = page_count < 8 ? (page_count + 1) / 2 : page_count < 40 ? 4 : page_count / 10;
    pair->model.ghost_window = page_count < 2 ? 1 : page_count - pair->model.small_pages;
    pair->model.ghosts = calloc(operations + 1, sizeof *pair->model.ghosts);
    assert_non_null(pair->model.ghosts);
}

static void pair_close(struct pair *pair)
{
    pair->ops->close(pair->state);
    free(pair->model.ghosts);
}

static struct cellar_frame *pair_find(struct pair *pair, uint64_t page)
{
    for (size_t i = 0; i < pair->page_count; i++) {
        if (pair->frames[i].length > 0 && pair->frames[i].page == page)
            return &pair->frames[i];
    }
    return NULL;
}

static struct cellar_frame *pair_choose(struct pair *pair)
{
    struct cellar_frame *frame = pair->ops->choose(pair->state);
    uint64_t page = model_choose(&pair->model);

    if (page == NOBODY) {
        assert_null(frame);
    } else {
        assert_non_null(frame);
        assert_int_equal(frame->page, page);
        assert_true(frame->length > 0);
        assert_int_equal(frame->pins, 0);
    }
    pair->chosen = frame;
    return frame;
}

/* It is given up where it was chosen, else invalidated. */
static void pair_remove(struct pair *pair, struct cellar_frame *frame)
{
    pair->ops->remove(pair->state, frame);
    model_remove(&pair->model, frame->page, frame == pair->chosen);
    if (frame == pair->chosen)
        pair->chosen = NULL;
    frame->length = 0;
    frame->pins = 0;
    pair->cached--;
}

static void pair_insert(struct pair *pair, uint64_t page)
{
    struct cellar_frame *frame = pair->frames;
    bool is_ghost = model_take_ghost(&pair->model, page);

    while (frame->length > 0)
        frame++;
    frame->page = page;
    frame->length = 1;
    frame->visited = 1; /* whatever was left there */
    pair->ops->insert(pair->state, frame);
    pair->cached++;
    if (pair->model.eviction == CELLAR_EVICT_S3FIFO) {
        pair->ghost_hits += is_ghost;
        if (is_ghost && frame->queue == IN_SMALL) { /* the table of the policy may forget a ghost too early */
            pair->ghosts_forgotten++;
            is_ghost = false;
        }
        assert_int_equal(frame->queue, is_ghost ? IN_MAIN : IN_SMALL);
    }
    row_add(&pair->model.rows[is_ghost ? IN_MAIN : 0], (struct entry){.page = page});
}

/* A page is used, and loaded for that if it must; nothing happens where all others are pinned. */
static void pair_use(struct pair *pair, uint64_t page)
{
    struct cellar_frame *frame = pair_find(pair, page);

    if (frame != NULL) {
        cellar_frame_mark(frame, true);
        model_find(&pair->model, page)->visited = true;
        return;
    }
    pair->misses++;
    if (pair->cached == pair->page_count) {
        frame = pair_choose(pair);
        if (frame == NULL)
            return;
        pair_remove(pair, frame);
    }
    pair_insert(pair, page);
}

static void pair_compare(struct pair *pair)
{
    size_t cached = 0;

    for (size_t i = 0; i < pair->page_count; i++) {
        const struct cellar_frame *frame = &pair->frames[i];
        const struct entry *entry;

        if (frame->length == 0)
            continue;
        cached++;
        entry = model_find(&pair->model, frame->page);
        assert_non_null(entry);
        assert_int_equal(frame->visited, entry->visited);
    }
    assert_int_equal(cached, pair->cached);
    assert_int_equal(cached, pair->model.rows[0].count + pair->model.rows[1].count);
}

/* ---- random operations ---- */

struct habits {
    unsigned pins;    /* of 64 operations so many pin a page, and as many unpin one */
    unsigned strikes; /* so many invalidate one, and as many ask for a choice without more */
    unsigned pin_max; /* so many pages are pinned at most */
};

static void pin_or_unpin(struct pair *pair, struct cellar_frame *frame, bool pin, size_t *pinned, size_t pin_max)
{
    struct entry *entry = model_find(&pair->model, frame->page);

    if (pin && (frame->pins > 0 || *pinned < pin_max)) {
        *pinned += frame->pins == 0;
        frame->pins++;
        entry->pins++;
    } else if (!pin && frame->pins > 0) {
        frame->pins--;
        entry->pins--;
        *pinned -= frame->pins == 0;
    }
}

static void run_random(enum cellar_eviction eviction, size_t page_count, const struct habits *habits, uint64_t seed,
                       uint64_t *ret_ghost_hits, uint64_t *ret_ghosts_forgotten)
{
    enum { OPERATIONS = 4000, LARGE = 16 };
    static struct pair pair;
    size_t pinned = 0;

    pair_open(&pair, eviction, page_count, OPERATIONS);
    for (unsigned i = 0; i < OPERATIONS; i++) {
        unsigned operation = (unsigned)(next_random(&seed) % 64);
        struct cellar_frame *any = &pair.frames[next_random(&seed) % page_count];
        uint64_t range = 1 + next_random(&seed) % (3 * page_count + 1); /* low numbers more often */

        if (operation < 2 * habits->pins) {
            if (any->length > 0)
                pin_or_unpin(&pair, any, operation < habits->pins, &pinned, habits->pin_max);
        } else if (operation < 2 * habits->pins + habits->strikes) {
            pinned -= any->pins > 0; /* a pinned one becomes stale, and is not the policy's any more */
            if (any->length > 0)
                pair_remove(&pair, any);
        } else if (operation < 2 * (habits->pins + habits->strikes)) {
            pair_choose(&pair);
        } else {
            pair_use(&pair, next_random(&seed) % range);
        }
        if (page_count <= LARGE || i % LARGE == 0)
            pair_compare(&pair);
    }
    if (page_count <= 5) /* the table has one bucket, which is more than enough */
        assert_int_equal(pair.ghosts_forgotten, 0);
    *ret_ghost_hits += pair.ghost_hits;
    *ret_ghosts_forgotten += pair.ghosts_forgotten;
    pair_close(&pair);
}

static void test_random(void **state)
{
    static const unsigned page_counts[] = {1, 2, 3, 4, 5, 7, 8, 9, 16, 39, 40, 64, 100};
    uint64_t hits = 0, forgotten = 0;

    (void)state;
    for (enum cellar_eviction eviction = CELLAR_EVICT_SIEVE; eviction <= CELLAR_EVICT_CLOCK; eviction++) {
        for (size_t i = 0; i < sizeof page_counts / sizeof page_counts[0]; i++) {
            const unsigned count = page_counts[i];
            const struct habits habits[] = {{0, 0, 0}, {6, 0, count}, {0, 1, 0}, {5, 1, count - count / 3}};

            for (size_t h = 0; h < sizeof habits / sizeof habits[0]; h++)
                run_random(eviction, count, &habits[h], 100 * h + i, &hits, &forgotten);
        }
    }
    print_message("ghosts: %u came back, %u more had been forgotten\n", (unsigned)(hits - forgotten),
                  (unsigned)forgotten);
    assert_true(hits > 5000);
    assert_true(forgotten * 20 < hits);
}

/* ---- what a scan leaves ---- */

enum { SCANNED_COUNT = 100, SCAN = 10 * SCANNED_COUNT };

enum history {
    EMPTY,   /* the pages in use come into an empty cache */
    SETTLED, /* they have been in use for long, one use in ten being of another page that is used once */
    FRESH,   /* they come into a full cache, right before the scan */
};

/* How many of the pages in use are still there after a scan of ten times the cache, each page of it used once. */
static size_t left_after_scan(enum cellar_eviction eviction, size_t hot, enum history history)
{
    static struct pair pair;
    size_t left = 0;
    uint64_t seed = 9;

    pair_open(&pair, eviction, SCANNED_COUNT, 30 * SCAN);
    for (uint64_t i = 0; i < 10 * SCAN && history == SETTLED; i++)
        pair_use(&pair, i % 10 == 0 ? 100000 + i : next_random(&seed) % hot);
    for (uint64_t i = 0; i < 10 * SCAN && history == FRESH; i++)
        pair_use(&pair, 100000 + next_random(&seed) % (3 * SCANNED_COUNT));
    for (uint64_t use = 0; use < 3; use++) {
        for (uint64_t page = 0; page < hot; page++)
            pair_use(&pair, page);
    }
    for (uint64_t page = 0; page < SCAN; page++)
        pair_use(&pair, 1000 + page);
    for (uint64_t page = 0; page < hot; page++)
        left += pair_find(&pair, page) != NULL;
    pair_close(&pair);
    return left;
}

static void test_scan(void **state)
{
    static const size_t hots[] = {9, 25, 50, 80};
    static const char *const histories[] = {"new", "settled", "fresh"};

    (void)state;
    for (size_t i = 0; i < sizeof hots / sizeof hots[0]; i++) {
        for (enum history history = EMPTY; history <= FRESH; history++) {
            size_t sieve = left_after_scan(CELLAR_EVICT_SIEVE, hots[i], history);
            size_t s3fifo = left_after_scan(CELLAR_EVICT_S3FIFO, hots[i], history);
            size_t clock = left_after_scan(CELLAR_EVICT_CLOCK, hots[i], history);

            print_message("of %zu %s pages in use a scan leaves %zu (SIEVE), %zu (S3-FIFO), %zu (CLOCK)\n", hots[i],
                          histories[history], sieve, s3fifo, clock);
            assert_true(s3fifo * 10 >= hots[i] * 9);
            /* What is fresh lies before the hand of SIEVE: it may lose its marks when the hand passes, and go in the
             * next round, if nobody uses it meanwhile. */
            assert_true(history == FRESH || sieve * 10 >= hots[i] * 9);
            assert_int_equal(clock, 0); /* it makes no difference between pages used once and those used long ago */
        }
    }
}

/* More pages than the ghosts can be counted for. */
static void test_too_many(void **state)
{
    void *evict = NULL;

    (void)state;
    if (SIZE_MAX > UINT32_MAX)
        assert_int_equal(cellar_evict_s3fifo.open(SIZE_MAX, &evict), -ENOMEM);
    assert_null(evict);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_random),
        cmocka_unit_test(test_scan),
        cmocka_unit_test(test_too_many),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
