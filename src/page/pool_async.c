/*
 * pool_async.c - loads in the background: the requests, and those that call back. Who reads ahead is in pool_ahead.c.
 *
 * A fetch is one request of the queue, for pages that follow each other; its frames are LOADING until it is taken from
 * the queue, by whichever thread settles, one at a time. An asynchronous load (struct cellar_async) goes through its
 * pages in order: it waits in the list of a frame that is LOADING, or, where no fetch or frame is to be had, in the
 * pool's list of stalled ones, which settle tries again; done, it waits in its handle's list for the handle's poll.
 */
#include "page/pool.h"

#include "base/check.h"
#include "device/queue.h"
#include <errno.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

/* The most pages of one request. */
enum { FETCH_PAGES = 16 };

struct cellar_fetch {
    struct cellar_request request;
    struct cellar_fetch *next; /* of the free ones */
    unsigned page_count;
    struct cellar_frame *frames[FETCH_PAGES];
    struct iovec parts[FETCH_PAGES];
};

struct cellar_async {
    struct cellar_async *next;   /* of the list that it is in */
    struct cellar_cache *handle; /* NULL: closed meanwhile, nobody wants to know */
    uint64_t page, last_page;    /* the next one to look at, the last one */
    uint64_t alone_until;        /* pages below this one are loaded one by one: a request for several failed */
    uint64_t version, limit_bytes;
    uint64_t address, end; /* of the range, in bytes */
    uint64_t fault_address;
    void (*done)(void *user, int error);
    void *user;
    int error;
    bool cut; /* a load has met POOL_CUT */
};

int cellar_pool_open_queue(struct cellar_pool *pool)
{
    unsigned depth = pool->options.depth;
    int error = cellar_queue_open(depth, pool->options.io, &pool->queue);

    if (error != 0)
        return error;
    pool->fetches = calloc(depth, sizeof *pool->fetches);
    if (pool->fetches == NULL)
        return -ENOMEM;
    for (unsigned i = 0; i < depth; i++) {
        pool->fetches[i].next = pool->fetches_free;
        pool->fetches_free = &pool->fetches[i];
    }
    return 0;
}

static void free_list(struct cellar_async *list)
{
    while (list != NULL) {
        struct cellar_async *next = list->next;

        free(list);
        list = next;
    }
}

/* In a child of a fork, where nothing will ever end them. */
static void drop_asyncs(struct cellar_pool *pool)
{
    free_list(pool->stalled);
    for (size_t i = 0; i < pool->frames_touched; i++) {
        if (pool->frames[i].state == CELLAR_FRAME_LOADING)
            free_list(pool->frames[i].waits);
    }
}

void cellar_pool_close_queue(struct cellar_pool *pool)
{
    if (pool->process == getpid()) {
        cellar_pool_enter(pool);
        while (cellar_pool_is_fetching(pool) || pool->stalled != NULL)
            cellar_pool_settle(pool, true);
        cellar_pool_leave(pool);
    } else {
        drop_asyncs(pool);
    }
    cellar_queue_close(pool->queue);
    free(pool->fetches);
}

bool cellar_pool_is_fetching(const struct cellar_pool *pool)
{
    return pool->queue != NULL && cellar_queue_outstanding(pool->queue) > 0;
}

/* ---- fetches ---- */

/* Puts one more page at the end of a fetch, if it lies behind the ones before. POOL_BUSY: no frame. */
static int add_page(struct cellar_pool *pool, struct cellar_fetch *fetch, uint64_t page, uint64_t version,
                    uint64_t limit_bytes, bool ahead)
{
    struct cellar_request *request = &fetch->request;
    uint64_t end = request->offset + fetch->page_count * (uint64_t)pool->page_bytes;
    uint64_t address = page << pool->page_shift;
    size_t room = pool->page_bytes, length;
    struct cellar_place place;
    struct cellar_frame *frame;
    int error = address < limit_bytes ? cellar_pool_locate(pool, page, version, &place) : CELLAR_NONE;

    if (ahead && pool->loading > 0 && pool->loading >= pool->page_count / 2)
        return CELLAR_POOL_BUSY; /* not so much at a time that nothing else has a place */
    if (error == 0 && limit_bytes - address < room)
        room = (size_t)(limit_bytes - address);
    if (error == 0)
        error = cellar_source_available(&pool->source, &place, room, &length);
    if (error == 0 && length == 0)
        error = CELLAR_NONE;
    if (error != 0)
        return error;
    if (fetch->page_count > 0 && (place.device != request->device || place.offset != end))
        return CELLAR_POOL_BUSY;
    error = cellar_pool_take(pool, &frame);
    if (error != 0)
        return error == CELLAR_EPINNED ? CELLAR_POOL_BUSY : error;
    cellar_pool_begin(pool, frame, page, place.version, pool->options.hooks.place != NULL ? version + 1 : UINT64_MAX);
    if (fetch->page_count == 0) {
        request->device = place.device;
        request->offset = place.offset;
    }
    frame->bytes = frame->buffer;
    frame->length = length;
    cellar_frame_set_ahead(frame, ahead);
    frame->fetch = fetch;
    fetch->frames[fetch->page_count] = frame;
    fetch->parts[fetch->page_count++] =
        (struct iovec){.iov_base = frame->buffer, .iov_len = cellar_place_read_bytes(&place, length)};
    return 0;
}

static int start(struct cellar_pool *pool, uint64_t page, uint64_t page_count, uint64_t version, uint64_t limit_bytes,
                 bool ahead)
{
    struct cellar_fetch *fetch = pool->fetches_free;
    int error = 0;

    if (fetch == NULL)
        return CELLAR_POOL_BUSY;
    fetch->page_count = 0;
    for (uint64_t i = 0; i < page_count && i < FETCH_PAGES && error == 0; i++) {
        if (i > 0 &&
            (cellar_pool_lookup(pool, page + i, version) != NULL || fetch->frames[i - 1]->length < pool->page_bytes))
            break;
        error = add_page(pool, fetch, page + i, version, limit_bytes, ahead);
    }
    if (fetch->page_count == 0)
        return error;
    pool->fetches_free = fetch->next;
    if (ahead)
        pool->ahead += fetch->page_count;
    fetch->request.parts = fetch->parts;
    fetch->request.part_count = (int)fetch->page_count;
    fetch->request.user = fetch;
    fetch->request.next = NULL;
    cellar_queue_submit(pool->queue, &fetch->request);
    return 0;
}

int cellar_pool_start(struct cellar_cache *cache, uint64_t page, uint64_t page_count, uint64_t version, bool ahead)
{
    return start(cache->pool, page, page_count, version, cache->limit_bytes, ahead);
}

/* ---- asynchronous loads ---- */

static void finish(struct cellar_async *async, int error, uint64_t fault_address)
{
    struct cellar_cache *handle = async->handle;

    if (handle == NULL) {
        free(async);
        return;
    }
    async->error = error;
    async->fault_address = error == CELLAR_EBOUNDS && fault_address < async->address ? async->address : fault_address;
    async->next = NULL;
    *handle->finished_end = async;
    handle->finished_end = &async->next;
    if (handle->event >= 0)
        (void)!eventfd_write(handle->event, 1);
}

static void stall(struct cellar_pool *pool, struct cellar_async *async)
{
    async->next = NULL;
    *pool->stalled_end = async;
    pool->stalled_end = &async->next;
}

/* A page that is there, but perhaps not all that is needed of it. 0: it will do; POOL_AGAIN: it has been forgotten. */
static int check_length(struct cellar_pool *pool, const struct cellar_async *async, struct cellar_frame *frame)
{
    uint64_t address = frame->page << pool->page_shift;
    uint64_t end = async->end < async->limit_bytes ? async->end : async->limit_bytes;
    struct cellar_place place;
    size_t length = 0;
    int error = 0;

    if (async->end > async->limit_bytes && frame->page == async->last_page)
        return CELLAR_EBOUNDS;
    if (end - address <= frame->length || frame->length == pool->page_bytes)
        return 0;
    if (frame->state == CELLAR_FRAME_CACHED)
        error = cellar_pool_locate(pool, frame->page, async->version, &place);
    if (error == 0 && frame->state == CELLAR_FRAME_CACHED)
        error = cellar_source_available(&pool->source, &place, pool->page_bytes, &length);
    if (error == 0 && length <= frame->length)
        return CELLAR_EBOUNDS;
    if (error == 0)
        cellar_pool_detach(pool, frame);
    return error != 0 ? error : CELLAR_POOL_AGAIN;
}

/* The first address at which there is nothing for async, whose page it is that has an end or isn't there. */
static uint64_t end_of(const struct cellar_pool *pool, const struct cellar_async *async,
                       const struct cellar_frame *frame)
{
    uint64_t end = (async->page << pool->page_shift) + (frame != NULL ? frame->length : 0);

    return end < async->limit_bytes ? end : async->limit_bytes;
}

/* Moves on over what is there; then it waits, is stalled, or has come to its end. */
static void advance(struct cellar_pool *pool, struct cellar_async *async)
{
    while (async->page <= async->last_page && async->handle != NULL) {
        struct cellar_frame *frame = cellar_pool_lookup(pool, async->page, async->version);
        int error;

        if (frame != NULL && frame->state == CELLAR_FRAME_LOADING) {
            async->next = frame->waits;
            frame->waits = async;
            return;
        }
        if (frame != NULL) {
            error = check_length(pool, async, frame);
            async->page += error == 0;
        } else {
            uint64_t page_count = async->page < async->alone_until ? 1 : async->last_page - async->page + 1;

            error = start(pool, async->page, page_count, async->version, async->limit_bytes, false);
        }
        /* All requests are in use, or the last of them is just ending; or all frames, by loads or for good. */
        if (error == CELLAR_POOL_BUSY && (pool->loading > 0 || pool->fetches_free == NULL)) {
            stall(pool, async);
            return;
        }
        if (error == CELLAR_POOL_BUSY)
            error = CELLAR_EPINNED;
        if (error == CELLAR_NONE || error == CELLAR_EBOUNDS) {
            finish(async, CELLAR_EBOUNDS, end_of(pool, async, frame));
            return;
        }
        if (error != 0 && error != CELLAR_POOL_AGAIN) {
            finish(async, error, async->page << pool->page_shift);
            return;
        }
    }
    finish(async, 0, 0);
}

void cellar_pool_wake(struct cellar_pool *pool, struct cellar_frame *frame, int error)
{
    struct cellar_async *async = frame->waits, *next;

    frame->waits = NULL;
    for (; async != NULL; async = next) {
        next = async->next;
        if (error == CELLAR_POOL_SPLIT)
            async->alone_until = async->page + FETCH_PAGES;
        if (error < 0 || (error == CELLAR_POOL_CUT && async->cut)) {
            finish(async, error < 0 ? error : -EIO, async->page << pool->page_shift);
            continue;
        }
        async->cut = async->cut || error == CELLAR_POOL_CUT;
        advance(pool, async);
    }
}

void cellar_pool_retry(struct cellar_pool *pool)
{
    struct cellar_async *async = pool->stalled, *next;

    pool->stalled = NULL;
    pool->stalled_end = &pool->stalled;
    for (; async != NULL; async = next) {
        next = async->next;
        if (pool->fetches_free != NULL)
            advance(pool, async);
        else
            stall(pool, async);
    }
}

/* ---- settling ---- */

/* Under the lock: the request has been taken, its pages have been validated. */
static void end_fetch(struct cellar_pool *pool, struct cellar_fetch *fetch, const int errors[FETCH_PAGES])
{
    for (unsigned i = 0; i < fetch->page_count; i++) {
        struct cellar_frame *frame = fetch->frames[i];
        int error = errors[i];

        if (error != 0)
            frame->length = 0;
        /* The pin keeps the frame this one until those who wait have been told. */
        cellar_pool_pin(pool, frame);
        error = cellar_pool_arrive(pool, frame, error);
        cellar_pool_wake(pool, frame, error);
        cellar_pool_unpin(pool, frame);
    }
    fetch->next = pool->fetches_free;
    pool->fetches_free = fetch;
}

/*
 * What a request that failed means for its pages. Of several one may be to blame, and not the one that somebody waits
 * for; and what was read ahead fails silently: who waits for it asks again, for himself. A device that has been cut
 * since its size was asked for is asked again, once; -EIO if it has not been.
 */
static int judge_failure(struct cellar_pool *pool, const struct cellar_fetch *fetch)
{
    const struct cellar_request *request = &fetch->request;
    uint64_t size_bytes;
    int error = request->result;

    if (error == CELLAR_EBOUNDS)
        cellar_source_forget_size(&pool->source);
    if (fetch->page_count > 1 || cellar_frame_is_ahead(fetch->frames[0]))
        return CELLAR_POOL_SPLIT;
    if (error != CELLAR_EBOUNDS)
        return error;
    error = cellar_device_size(request->device, &size_bytes);
    if (error != 0)
        return error;
    return size_bytes >= request->offset + fetch->parts[0].iov_len ? -EIO : CELLAR_POOL_CUT;
}

static void take_in(struct cellar_pool *pool, struct cellar_request *request)
{
    struct cellar_fetch *fetch = request->user;
    int error = request->result != 0 ? judge_failure(pool, fetch) : 0;
    int errors[FETCH_PAGES];

    for (unsigned i = 0; i < fetch->page_count; i++)
        errors[i] = error != 0 ? error : cellar_pool_validate(pool, fetch->frames[i]);
    cellar_pool_enter(pool);
    end_fetch(pool, fetch, errors);
    cellar_pool_leave(pool);
}

/* Tasks that stand in the wait hook may go on, whoever took in what they wait for: their schedulers may sleep on the
 * descriptors. */
static void tell_schedulers(struct cellar_pool *pool)
{
    for (struct cellar_cache *handle = pool->handles; handle != NULL; handle = handle->next_handle) {
        if (handle->event >= 0)
            (void)!eventfd_write(handle->event, 1);
    }
}

void cellar_pool_settle(struct cellar_pool *pool, bool wait)
{
    struct cellar_request *request, *next;
    bool any;

    /* Another thread settles, or loads that threads do themselves are all that there is to wait for. */
    if (pool->taking || (wait && pool->shared && pool->loading > 0 && !cellar_pool_is_fetching(pool))) {
        if (wait && pool->shared)
            pthread_cond_wait(&pool->changed, &pool->lock);
        return;
    }
    pool->taking = true;
    cellar_pool_leave(pool);
    request = cellar_queue_take(pool->queue, wait);
    any = request != NULL;
    for (; request != NULL; request = next) {
        next = request->next;
        take_in(pool, request);
    }
    cellar_pool_enter(pool);
    pool->taking = false;
    if (any && pool->options.hooks.wait != NULL)
        tell_schedulers(pool);
    cellar_pool_retry(pool);
    if (pool->shared)
        pthread_cond_broadcast(&pool->changed);
}

/* ---- what handles ask for ---- */

int cellar_cache_load_async(struct cellar_cache *cache, uint64_t address, size_t length,
                            void (*done)(void *user, int error), void *user)
{
    struct cellar_pool *pool = cache->pool;
    struct cellar_async *async;

    if (pool->queue == NULL)
        return -ENOTSUP;
    if (length == 0)
        return -EINVAL;
    if (pool->process != getpid())
        return CELLAR_EFORKED;
    async = calloc(1, sizeof *async);
    if (async == NULL)
        return -ENOMEM;
    async->handle = cache;
    async->address = address;
    async->version = cache->version;
    async->limit_bytes = cache->limit_bytes;
    async->done = done;
    async->user = user;
    cellar_cache_let_go(cache);
    cellar_pool_enter(pool);
    cache->awaited++;
    if (address >= CELLAR_SOURCE_END) {
        finish(async, CELLAR_EBOUNDS, address);
    } else {
        async->end = length < CELLAR_SOURCE_END - address ? address + length : CELLAR_SOURCE_END;
        async->page = address >> pool->page_shift;
        async->last_page = (async->end - 1) >> pool->page_shift;
        advance(pool, async);
    }
    cellar_pool_leave(pool);
    return 0;
}

/* Under the lock: one that is done; NULL: none. */
static struct cellar_async *take_finished(struct cellar_cache *cache)
{
    struct cellar_async *async = cache->finished;
    eventfd_t count;

    if (async == NULL)
        return NULL;
    cache->finished = async->next;
    if (cache->finished == NULL) {
        cache->finished_end = &cache->finished;
        if (cache->event >= 0)
            (void)!eventfd_read(cache->event, &count);
    }
    cache->awaited--;
    return async;
}

/* Under the lock, which it leaves for each call: those that are done now, not those that come meanwhile. */
static int call_finished(struct cellar_cache *cache)
{
    struct cellar_async *async;
    size_t count = 0;

    for (async = cache->finished; async != NULL; async = async->next)
        count++;
    if (count == 0)
        return CELLAR_NONE;
    while (count-- > 0 && (async = take_finished(cache)) != NULL) {
        if (async->error != 0)
            cache->fault_address = async->fault_address;
        cellar_pool_leave(cache->pool);
        async->done(async->user, async->error);
        free(async);
        cellar_pool_enter(cache->pool);
    }
    return 0;
}

int cellar_cache_poll(struct cellar_cache *cache, bool wait)
{
    struct cellar_pool *pool = cache->pool;
    int result;

    if (pool->queue == NULL)
        return CELLAR_NONE;
    if (pool->process != getpid())
        return CELLAR_EFORKED;
    cellar_cache_let_go(cache);
    cellar_pool_enter(pool);
    /* In the wait hook a scheduler has nobody else to run: what somebody waits for has no done function. */
    cellar_pool_settle(pool, wait && pool->options.hooks.wait != NULL && cache->awaited == 0);
    while (wait && cache->finished == NULL && cache->awaited > 0)
        cellar_pool_settle(pool, true);
    if (cache->finished == NULL && cache->event >= 0) {
        eventfd_t told;

        (void)!eventfd_read(cache->event, &told);
    }
    result = call_finished(cache);
    cellar_pool_leave(pool);
    return result;
}

size_t cellar_cache_awaited(const struct cellar_cache *cache)
{
    size_t awaited;

    cellar_pool_enter(cache->pool);
    awaited = cache->awaited;
    cellar_pool_leave(cache->pool);
    return awaited;
}

static int watch(int epoll, int descriptor)
{
    struct epoll_event event = {.events = EPOLLIN};

    return epoll_ctl(epoll, EPOLL_CTL_ADD, descriptor, &event) == 0 ? 0 : -errno;
}

/* Readable by what has arrived in the queue, and by what another handle has settled for this one. */
int cellar_cache_descriptor(struct cellar_cache *cache)
{
    struct cellar_pool *pool = cache->pool;
    int error, epoll, event;

    if (pool->queue == NULL)
        return -ENOTSUP;
    if (cache->epoll >= 0)
        return cache->epoll;
    event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (event < 0)
        return -errno;
    epoll = epoll_create1(EPOLL_CLOEXEC);
    error = epoll < 0 ? -errno : watch(epoll, event);
    if (error == 0)
        error = watch(epoll, cellar_queue_descriptor(pool->queue));
    if (error != 0) {
        if (epoll >= 0)
            close(epoll);
        close(event);
        return error;
    }
    cellar_pool_enter(pool);
    cache->event = event;
    cache->epoll = epoll;
    if (cache->finished != NULL)
        (void)!eventfd_write(event, 1);
    cellar_pool_leave(pool);
    return epoll;
}

static void disown(struct cellar_async *list, const struct cellar_cache *cache)
{
    for (; list != NULL; list = list->next) {
        if (list->handle == cache)
            list->handle = NULL;
    }
}

void cellar_pool_abandon(struct cellar_cache *cache)
{
    struct cellar_pool *pool = cache->pool;
    struct cellar_async *async;

    while ((async = take_finished(cache)) != NULL)
        free(async);
    disown(pool->stalled, cache);
    for (size_t i = 0; cache->awaited > 0 && i < pool->frames_touched; i++) {
        if (pool->frames[i].state == CELLAR_FRAME_LOADING)
            disown(pool->frames[i].waits, cache);
    }
}
