/*
 * A pipeline with snapshots against plain arrays: what is seen, what the device holds, and an image of it for each
 * snapshot. Random writes, write frames, commits, persists, discards, growth, snapshots opened, shared and closed, and
 * reads through all of them; on some worlds the device fails now and then.
 *
 * Without failures the model also knows what is kept: a page is, once, for each stretch of versions in which its bytes
 * that a snapshot can read were the same, and commit and persist fail exactly where that is more than the bound.
 */
#include "page/bits.h"
#include "page/pipeline.h"
#include "versions_test.h"

enum { CAPACITY = 2048, ROUNDS = 2500, SNAPSHOTS = 6, FRAMES = 3, KEPT_MAX = 4096 };

struct shape {
    size_t page_bytes, page_count;
    uint32_t block_bytes;
    unsigned old_pages, depth;
    bool faults;
};

struct snapshot {
    struct cellar_cache *cache;
    uint64_t version, limit_bytes;
    unsigned char image[CAPACITY];
    struct cellar_fixed fixed;
};

struct kept {
    uint64_t page, from, until;
};

struct world {
    struct stage stage;
    const struct shape *shape;
    uint64_t size_bytes, committed_bytes, version, random;
    unsigned char held[CAPACITY], seen[CAPACITY];
    bool pending[CAPACITY + 2];
    struct snapshot snapshots[SNAPSHOTS];
    struct cellar_write_frame frames[FRAMES];
    struct kept kept[KEPT_MAX];
    size_t kept_count;
    unsigned commits, refused, failed;
    bool may_fix; /* there are frames for one in each snapshot */
};

static uint64_t below(struct world *world, uint64_t limit)
{
    return support_random_below(&world->random, limit);
}

/* Bytes of one place often, so that pages are changed again and again. */
static uint64_t choose(struct world *world, uint64_t limit)
{
    uint64_t first = below(world, limit), second = below(world, limit);

    return first < second ? first : second;
}

static struct cellar_pipeline *pipeline_of(struct world *world)
{
    return world->stage.pipeline;
}

static bool frames_fixed(const struct world *world)
{
    for (int i = 0; i < FRAMES; i++) {
        if (world->frames[i].page != NULL)
            return true;
    }
    return false;
}

/* ---- what is kept ---- */

static bool is_needed(const struct world *world, uint64_t from, uint64_t until, uint64_t first_byte)
{
    for (int i = 0; i < SNAPSHOTS; i++) {
        const struct snapshot *snapshot = &world->snapshots[i];

        if (snapshot->cache != NULL && snapshot->version >= from && snapshot->version < until &&
            snapshot->limit_bytes > first_byte)
            return true;
    }
    return false;
}

/* Since which version the page is what it is, as far as anybody still knows. */
static uint64_t page_from(const struct world *world, uint64_t page)
{
    uint64_t from = 0;

    for (size_t i = 0; i < world->kept_count; i++) {
        if (world->kept[i].page == page && world->kept[i].until > from)
            from = world->kept[i].until;
    }
    return from;
}

static void release_kept(struct world *world)
{
    size_t count = 0;

    for (size_t i = 0; i < world->kept_count; i++) {
        struct kept kept = world->kept[i];

        if (is_needed(world, kept.from, kept.until, kept.page * world->shape->page_bytes))
            world->kept[count++] = kept;
    }
    world->kept_count = count;
}

/* The version that is about to be made overwrites what is pending in [start, end). False: too much would have to be
 * kept. */
static bool keep(struct world *world, uint64_t start, uint64_t end)
{
    size_t page_bytes = world->shape->page_bytes, before = world->kept_count;
    uint64_t last_page = UINT64_MAX;

    for (uint64_t at = start; at < end && at < world->size_bytes; at++) {
        struct kept kept = {.page = at / page_bytes, .until = world->version + 1};

        if (!world->pending[at] || kept.page == last_page)
            continue;
        last_page = kept.page;
        kept.from = page_from(world, kept.page);
        if (!is_needed(world, kept.from, UINT64_MAX, at))
            continue;
        if (world->kept_count == world->shape->old_pages) {
            world->kept_count = before;
            return false;
        }
        assert_true(world->kept_count < KEPT_MAX);
        world->kept[world->kept_count++] = kept;
    }
    return true;
}

/* ---- checks ---- */

static void check_old_pages(struct world *world)
{
    size_t old = old_pages(&world->stage);

    if (world->shape->faults)
        assert_true(old <= world->shape->old_pages);
    else
        assert_int_equal(old, world->kept_count);
}

static void check_device(struct world *world)
{
    unsigned char bytes[CAPACITY];

    assert_done(cellar_device_read(world->stage.fault.inner, bytes, (size_t)world->size_bytes, 0));
    assert_memory_equal(bytes, world->held, (size_t)world->size_bytes);
}

static void check_fixed(struct snapshot *snapshot)
{
    if (snapshot->fixed.slice.length > 0)
        assert_memory_equal(snapshot->fixed.slice.bytes, snapshot->image + snapshot->fixed.slice.address,
                            snapshot->fixed.slice.length);
}

static void check_all(struct world *world)
{
    unsigned char bytes[CAPACITY];

    assert_done(cellar_pipeline_read(pipeline_of(world), 0, bytes, (size_t)world->size_bytes));
    assert_memory_equal(bytes, world->seen, (size_t)world->size_bytes);
    for (int i = 0; i < SNAPSHOTS; i++) {
        struct snapshot *snapshot = &world->snapshots[i];

        if (snapshot->cache == NULL)
            continue;
        assert_done(cellar_cache_read(snapshot->cache, 0, bytes, (size_t)snapshot->limit_bytes));
        assert_memory_equal(bytes, snapshot->image, (size_t)snapshot->limit_bytes);
        check_fixed(snapshot);
    }
}

/* ---- writing ---- */

static void remember(struct world *world, uint64_t address, const void *bytes, size_t length)
{
    memcpy(world->seen + address, bytes, length);
    memset(world->pending + address, true, length);
}

static void do_write(struct world *world)
{
    unsigned char bytes[CAPACITY];
    uint64_t address = choose(world, world->size_bytes);
    size_t length = 1 + (size_t)below(world, below(world, 4) == 0 ? 400 : 20);

    if (length > world->size_bytes - address)
        length = (size_t)(world->size_bytes - address);
    support_bytes(below(world, UINT64_MAX), bytes, length);
    assert_done(cellar_pipeline_write(pipeline_of(world), address, bytes, length));
    remember(world, address, bytes, length);
}

/* Takes a frame, or writes to one and lets it go. */
static void do_frame(struct world *world)
{
    struct cellar_write_frame *frame = &world->frames[below(world, FRAMES)];
    uint64_t address = choose(world, world->size_bytes), from, to;
    enum cellar_write_start start = below(world, 3) == 0 ? CELLAR_WRITE_NEW : CELLAR_WRITE_AS_IS;
    int error;

    if (frame->page != NULL) {
        size_t offset = (size_t)below(world, frame->length), length = (size_t)below(world, frame->length - offset + 1);

        support_bytes(below(world, UINT64_MAX), (unsigned char *)frame->bytes + offset, length);
        remember(world, frame->address + offset, (unsigned char *)frame->bytes + offset, length);
        cellar_pipeline_unfix_write(pipeline_of(world), frame);
        return;
    }
    if (below(world, 2) == 0)
        return;
    error = cellar_pipeline_fix_write(pipeline_of(world), address, start, frame);
    if (error != 0) {
        assert_true(world->shape->faults && error == -EIO);
        return;
    }
    from = address / world->shape->page_bytes * world->shape->page_bytes;
    to = from + world->shape->page_bytes < world->size_bytes ? from + world->shape->page_bytes : world->size_bytes;
    assert_int_equal(frame->address, from);
    assert_int_equal(frame->length, to - from);
    for (uint64_t at = from; at < to; at++) {
        if (start == CELLAR_WRITE_NEW && !world->pending[at])
            world->seen[at] = 0;
        world->pending[at] = true;
    }
    assert_memory_equal(frame->bytes, world->seen + from, frame->length);
}

static void let_frames_go(struct world *world)
{
    for (int i = 0; i < FRAMES; i++)
        cellar_pipeline_unfix_write(pipeline_of(world), &world->frames[i]);
}

static void do_grow(struct world *world)
{
    unsigned char bytes[CAPACITY] = {0};
    uint64_t size_bytes = world->size_bytes + below(world, 5) * world->shape->block_bytes;

    if (size_bytes > CAPACITY || frames_fixed(world))
        return;
    assert_done(cellar_device_grow(world->stage.fault.inner, size_bytes, size_bytes));
    memcpy(world->held + world->size_bytes, bytes, (size_t)(size_bytes - world->size_bytes));
    memcpy(world->seen + world->size_bytes, bytes, (size_t)(size_bytes - world->size_bytes));
    world->size_bytes = size_bytes;
}

/* ---- sending ---- */

/* All that was to go out in [from, to) has. */
static void sent(struct world *world, uint64_t from, uint64_t to)
{
    uint64_t last = 0;
    bool any = false;

    for (uint64_t at = from; at < to && at < world->size_bytes; at++) {
        if (world->pending[at]) {
            world->held[at] = world->seen[at];
            last = at + 1;
            any = true;
        }
        world->pending[at] = false;
    }
    if (world->committed_bytes != UINT64_MAX) {
        uint64_t mask = world->shape->block_bytes - 1;

        last = (last + mask) & ~mask;
        if (any && last > world->committed_bytes)
            world->committed_bytes = last;
    }
    world->version += any;
}

/* Only what was set here: loads in the background may be under way. */
static void end_faults(struct world *world)
{
    pthread_mutex_lock(&world->stage.fault.lock);
    world->stage.fault.rule_count = 0;
    pthread_mutex_unlock(&world->stage.fault.lock);
}

static bool is_pending(struct world *world, uint64_t address)
{
    size_t page_bytes = world->shape->page_bytes;
    const struct cellar_pending *pending = cellar_pending_find(&pipeline_of(world)->pending, address / page_bytes);

    return pending != NULL && cellar_bits_test(pending->dirty, address % page_bytes);
}

/* After a failure: what the device has is what it has, what it doesn't have for sure is still pending. */
static void heal(struct world *world, bool torn)
{
    end_faults(world);
    for (uint64_t at = 0; at < world->size_bytes; at++) {
        assert_true(world->pending[at] || !is_pending(world, at));
        world->pending[at] = is_pending(world, at);
    }
    world->failed++;
    assert_done(cellar_device_read(world->stage.fault.inner, world->held, (size_t)world->size_bytes, 0));
    for (uint64_t at = 0; at < world->size_bytes; at++)
        assert_true(world->pending[at] || world->held[at] == world->seen[at]);
    assert_true(torn || cellar_pipeline_version(pipeline_of(world)) == world->version);
    world->version = cellar_pipeline_version(pipeline_of(world));
    check_all(world);
}

static bool in_stretch(const struct world *world, uint64_t at)
{
    return at < world->size_bytes + 1 && (world->pending[at] || (at > 0 && world->pending[at - 1]));
}

static void widen(const struct world *world, uint64_t *from, uint64_t *to)
{
    while (*from > 0 && in_stretch(world, *from) && in_stretch(world, *from - 1))
        --*from;
    while (in_stretch(world, *to) && in_stretch(world, *to + 1))
        ++*to;
}

/* Commits, or persists a range, perhaps on a device that fails. */
static void do_send(struct world *world)
{
    bool whole = below(world, 3) == 0, fails = world->shape->faults && below(world, 3) == 0;
    uint64_t address = choose(world, world->size_bytes), length = below(world, 60), from = address,
             to = address + length, writes = count_writes(&world->stage);
    int error, expected;

    if (whole) {
        from = 0;
        to = CAPACITY;
    } else {
        widen(world, &from, &to);
    }
    if (fails) {
        enum fault_call call = below(world, 2) == 0 ? FAULT_READ : FAULT_WRITE;

        world->stage.fault.torn_bytes = below(world, 50) / world->shape->block_bytes * world->shape->block_bytes;
        fault_fail(&world->stage.fault, call, 1 + below(world, 2), 1 + below(world, 2), -EIO);
    }
    error = whole ? cellar_pipeline_commit(pipeline_of(world))
                  : cellar_pipeline_persist(pipeline_of(world), address, length);
    if (frames_fixed(world)) {
        assert_int_equal(error, CELLAR_EPINNED);
        end_faults(world);
        return;
    }
    if (world->shape->faults) {
        expected = error;
        assert_true(error == 0 || error == CELLAR_EOLDPAGES || (fails && error == -EIO));
    } else {
        expected = keep(world, from, to) ? 0 : CELLAR_EOLDPAGES;
    }
    assert_int_equal(error, expected);
    if (error == CELLAR_EOLDPAGES) {
        assert_int_equal(count_writes(&world->stage), writes);
        world->refused++;
        end_faults(world);
    } else if (error != 0) {
        heal(world, count_writes(&world->stage) != writes);
        return;
    } else {
        sent(world, from, to);
        world->commits++;
        end_faults(world);
    }
    release_kept(world);
    assert_int_equal(cellar_pipeline_version(pipeline_of(world)), world->version);
    check_device(world);
    check_old_pages(world);
}

static void do_discard(struct world *world)
{
    cellar_pipeline_discard(pipeline_of(world));
    let_frames_go(world); /* what is written to them from here on goes nowhere */
    memcpy(world->seen, world->held, sizeof world->seen);
    memset(world->pending, 0, sizeof world->pending);
    assert_int_equal(cellar_pipeline_pending_bytes(pipeline_of(world)), 0);
}

/* ---- snapshots ---- */

static void close_snapshot(struct world *world, struct snapshot *snapshot)
{
    check_fixed(snapshot);
    cellar_cache_unfix(snapshot->cache, &snapshot->fixed);
    cellar_cache_close(snapshot->cache);
    snapshot->cache = NULL;
    release_kept(world);
    check_old_pages(world);
}

static void do_snapshot(struct world *world)
{
    struct snapshot *snapshot = &world->snapshots[below(world, SNAPSHOTS)];

    if (snapshot->cache != NULL) {
        const struct snapshot *from = snapshot;

        if (below(world, 4) != 0) {
            close_snapshot(world, snapshot);
            return;
        }
        snapshot = &world->snapshots[below(world, SNAPSHOTS)];
        if (snapshot->cache != NULL)
            return;
        assert_done(cellar_cache_share(from->cache, &snapshot->cache)); /* another one of the same */
        snapshot->version = from->version;
        snapshot->limit_bytes = from->limit_bytes;
        memcpy(snapshot->image, from->image, sizeof snapshot->image);
        return;
    }
    snapshot->cache = take_snapshot(&world->stage);
    snapshot->version = world->version;
    snapshot->limit_bytes = world->committed_bytes < world->size_bytes ? world->committed_bytes : world->size_bytes;
    memcpy(snapshot->image, world->held, sizeof snapshot->image);
    assert_int_equal(cellar_cache_version(snapshot->cache), world->version);
}

/* Reads something of a snapshot, in one of the ways that there are. */
static void do_look(struct world *world)
{
    struct snapshot *snapshot = &world->snapshots[below(world, SNAPSHOTS)];
    uint64_t address = below(world, world->size_bytes), there;
    size_t length = (size_t)below(world, 200);
    unsigned char bytes[CAPACITY];
    struct cellar_fixed fixed;

    if (snapshot->cache == NULL)
        return;
    there = address < snapshot->limit_bytes ? snapshot->limit_bytes - address : 0;
    switch (below(world, 4)) {
    case 0:
        assert_result(cellar_cache_read(snapshot->cache, address, bytes, length),
                      length == 0 || length <= there ? 0 : CELLAR_EBOUNDS);
        if (length > 0 && length <= there)
            assert_memory_equal(bytes, snapshot->image + address, length);
        break;
    case 1:
        check_fixed(snapshot);
        cellar_cache_unfix(snapshot->cache, &snapshot->fixed);
        if (there > 0 && world->may_fix)
            assert_done(cellar_cache_fix(snapshot->cache, address, 1, &snapshot->fixed));
        check_fixed(snapshot);
        break;
    case 2:
        assert_done(cellar_cache_map(snapshot->cache, address, length, &fixed));
        assert_int_equal(fixed.slice.length, length < there ? length : there);
        if (fixed.slice.length > 0)
            assert_memory_equal(fixed.slice.bytes, snapshot->image + address, fixed.slice.length);
        cellar_cache_unfix(snapshot->cache, &fixed);
        break;
    default:
        cellar_cache_prefetch(snapshot->cache, address, length);
    }
}

static void do_read(struct world *world)
{
    unsigned char bytes[CAPACITY];
    uint64_t address = choose(world, world->size_bytes);
    size_t length = (size_t)below(world, world->size_bytes - address + 1);

    assert_done(cellar_pipeline_read(pipeline_of(world), address, bytes, length));
    assert_memory_equal(bytes, world->seen + address, length);
}

/* ---- worlds ---- */

/* What happened in all worlds of a test. */
struct sum {
    unsigned refused, failed;
};

static void run(const struct shape *shape, uint64_t seed, struct sum *sum)
{
    static void (*const calls[])(struct world * world) = {do_write, do_write, do_write,   do_write, do_frame,
                                                          do_frame, do_send,  do_send,    do_look,  do_look,
                                                          do_look,  do_read,  do_snapshot};
    struct world *world = calloc(1, sizeof *world);
    struct cellar_pipeline_options options = {.cache = {.page_bytes = shape->page_bytes,
                                                        .page_count = shape->page_count,
                                                        .old_pages = shape->old_pages,
                                                        .depth = shape->depth}};
    char *folder = support_folder_make();

    assert_non_null(world);
    world->shape = shape;
    world->may_fix = shape->page_count > SNAPSHOTS && !support_cache_debug();
    world->random = seed;
    world->size_bytes = (1 + below(world, CAPACITY / 2 / shape->block_bytes)) * shape->block_bytes;
    world->committed_bytes = seed % 2 == 0 ? UINT64_MAX : 1 + below(world, world->size_bytes);
    options.committed_bytes = seed % 2 == 0 ? 0 : world->committed_bytes;
    world->stage.fault.block_bytes = shape->block_bytes;
    /* A load in the background may meet a write, and is then made again: no matter for a file, but a race in memory. */
    if (shape->depth > 0)
        world->stage.fault.inner =
            support_device_open(SUPPORT_DEVICE_PREAD, folder, "device", world->size_bytes, CAPACITY);
    stage_open(&world->stage, world->size_bytes, &options);
    for (int round = 0; round < ROUNDS; round++) {
        uint64_t which = below(world, 200);

        if (which == 0)
            do_discard(world);
        else if (which == 1)
            do_grow(world);
        else if (which == 2)
            cellar_cache_invalidate(cellar_pipeline_cache(pipeline_of(world)), choose(world, CAPACITY), 100);
        else
            calls[which % SUPPORT_COUNT(calls)](world);
        if (round % 50 == 0)
            check_all(world);
    }
    let_frames_go(world);
    check_all(world);
    for (int i = 0; i < SNAPSHOTS; i++) {
        if (world->snapshots[i].cache != NULL)
            close_snapshot(world, &world->snapshots[i]);
    }
    assert_int_equal(old_pages(&world->stage), 0);
    assert_true(world->commits > 0 && (shape->faults || world->failed == 0));
    sum->refused += world->refused;
    sum->failed += world->failed;
    stage_close(&world->stage);
    support_folder_remove(folder);
    free(world);
}

static const struct shape shapes[] = {
    {.page_bytes = 1, .page_count = 16, .block_bytes = 1, .old_pages = 500},
    {.page_bytes = 16, .page_count = 1, .block_bytes = 1, .old_pages = 3},
    {.page_bytes = 16, .page_count = 8, .block_bytes = 4, .old_pages = 20},
    {.page_bytes = 64, .page_count = 2, .block_bytes = 1, .old_pages = 100},
    {.page_bytes = 64, .page_count = 64, .block_bytes = 64, .old_pages = 5},
    {.page_bytes = 64, .page_count = 8, .block_bytes = 16, .old_pages = 30, .depth = 4},
    {.page_bytes = 256, .page_count = 8, .block_bytes = 1, .old_pages = 8},
    {.page_bytes = 1024, .page_count = 4, .block_bytes = 512, .old_pages = 1},
    {.page_bytes = 4096, .page_count = 1, .block_bytes = 1, .old_pages = 2},
};

static void test_versions_random(void **state)
{
    struct sum sum = {0};

    (void)state;
    for (uint64_t i = 0; i < SUPPORT_COUNT(shapes); i++) {
        for (uint64_t seed = 0; seed < 4; seed++)
            run(&shapes[i], 10 * i + seed, &sum);
    }
    assert_true(sum.refused > 100);
}

static void test_versions_random_with_faults(void **state)
{
    struct sum sum = {0};

    (void)state;
    for (uint64_t i = 0; i < SUPPORT_COUNT(shapes); i++) {
        struct shape shape = shapes[i];

        shape.faults = true;
        for (uint64_t seed = 0; seed < 4; seed++)
            run(&shape, 1000 + 10 * i + seed, &sum);
    }
    assert_true(sum.failed > 300);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_versions_random),
        cmocka_unit_test(test_versions_random_with_faults),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
