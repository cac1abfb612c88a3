/* pool_ahead.c - loads of what nobody has asked for yet: prefetches, and reading ahead of who reads in order. */
#include "page/pool.h"

/* Where reading ahead begins. */
enum { AHEAD_PAGES_MIN = 4 };

void cellar_cache_prefetch(struct cellar_cache *cache, uint64_t address, uint64_t length)
{
    struct cellar_pool *pool = cache->pool;
    uint64_t page = address >> pool->page_shift, end;
    int error = 0;

    if (pool->queue == NULL || length == 0 || address >= CELLAR_SOURCE_END)
        return;
    end = length < CELLAR_SOURCE_END - address ? address + length : CELLAR_SOURCE_END;
    cellar_cache_let_go(cache);
    cellar_pool_enter(pool);
    if (pool->fetches_free == NULL)
        cellar_pool_settle(pool, false);
    for (; page <= (end - 1) >> pool->page_shift && error == 0; page++) {
        if (cellar_pool_lookup(pool, page, cache->version) == NULL)
            error = cellar_pool_start(cache, page, ((end - 1) >> pool->page_shift) - page + 1, cache->version, true);
        if (error == CELLAR_POOL_AGAIN)
            error = 0; /* it is known now */
    }
    cellar_pool_leave(pool);
}

/*
 * A first use of a page that comes next after the last such page doubles how far is read ahead, any other ends it. More
 * is asked for when less than half of it is left.
 */
void cellar_pool_read_ahead(struct cellar_cache *cache, uint64_t page, bool missed)
{
    struct cellar_pool *pool = cache->pool;
    /* What is read ahead must still be there when its turn comes, and leave the rest of the cache alone. */
    unsigned quarter = pool->page_count / 4 > AHEAD_PAGES_MIN ? (unsigned)(pool->page_count / 4) : AHEAD_PAGES_MIN;
    unsigned most = pool->options.read_ahead_pages < quarter ? pool->options.read_ahead_pages : quarter;
    /* Pages behind this one that are there, or on their way. */
    uint64_t left = cache->ahead_page > page ? cache->ahead_page - page - 1 : 0;
    uint64_t from;

    if (most == 0 || pool->queue == NULL)
        return;
    if (page != cache->next_page) {
        cache->ahead_window = 0;
        cache->ahead_page = 0;
    } else if (cache->ahead_window == 0) {
        cache->ahead_window = most < AHEAD_PAGES_MIN ? most : AHEAD_PAGES_MIN;
    } else if (missed || 2 * left < cache->ahead_window) {
        cache->ahead_window = cache->ahead_window < most / 2 ? cache->ahead_window * 2 : most;
    }
    cache->next_page = page + 1;
    if (2 * left >= cache->ahead_window)
        return;
    from = cache->ahead_page > page ? cache->ahead_page : page + 1;
    cache->ahead_page = page + 1 + cache->ahead_window;
    while (from < cache->ahead_page) {
        if (cellar_pool_lookup(pool, from, cache->version) != NULL) {
            from++;
            continue;
        }
        if (cellar_pool_start(cache, from, cache->ahead_page - from, cache->version, true) != 0)
            cache->ahead_page = from; /* from there, next time */
    }
}
