/*
 * pending.h - the bytes that wait in a pipeline: a set of pages, each with its bytes and one bit for each byte that is
 * pending ("dirty"). Knows no device. All ranges are in bytes; addresses and their sums stay below 2^63 + 2.
 */
#ifndef CELLAR_PAGE_PENDING_H
#define CELLAR_PAGE_PENDING_H

#include "page/table.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct cellar_pending {
    uint64_t page;               /* its number: address / page_bytes */
    struct cellar_pending *next; /* links the spare ones */
    size_t place;                /* in set->pages */
    size_t dirty_count;          /* bytes */
    uint32_t pins;               /* fixes as a write frame */
    bool sending;                /* on its way in the background: not to be changed, and not to go */
    bool dropped;                /* left the set while it was pinned; the last unpin frees it */
    unsigned char *bytes;        /* page_bytes, aligned to 512 at most; only dirty ones mean something */
    uint64_t dirty[];            /* bits */
};

struct cellar_pending_set {
    size_t page_bytes, word_count;
    /* The bytes of a page are a mapping of their own, and move when the last pin goes: the debug mode. Else they lie
     * right before the page's struct, so that both can be fetched at once. */
    bool guarded;
    unsigned page_shift;
    struct cellar_table table;     /* page -> struct cellar_pending, each with a dirty byte */
    uint64_t byte_count;           /* dirty bytes */
    struct cellar_pending **pages; /* all of them, in any order */
    struct cellar_pending **order; /* room to sort all of them */
    size_t room;                   /* of pages and of order */
    struct cellar_pending *spare;
    size_t spare_count, spare_max;
};

/* page_bytes: a power of two. At most spare_max pages are kept for reuse. */
void cellar_pending_open(struct cellar_pending_set *set, size_t page_bytes, size_t spare_max);
void cellar_pending_close(struct cellar_pending_set *set);

/* Makes [address, address + length) dirty with bytes. 0 or -ENOMEM, with nothing changed. */
int cellar_pending_write(struct cellar_pending_set *set, uint64_t address, const void *bytes, size_t length);

/* Makes all of the page's first length bytes dirty: those that weren't are as in base, or zero where that is NULL.
 * NULL: no memory. */
struct cellar_pending *cellar_pending_fill(struct cellar_pending_set *set, uint64_t page, const unsigned char *base,
                                           size_t length);

void cellar_pending_unpin(struct cellar_pending_set *set, struct cellar_pending *pending);

/* NULL: nothing of the page is dirty. */
static inline struct cellar_pending *cellar_pending_find(const struct cellar_pending_set *set, uint64_t page)
{
    return cellar_table_find(&set->table, page);
}

/* The same for the page of an address whose bytes are wanted next: they are asked for from memory at once, beside the
 * struct that names them, where they lie as new_page put them. */
static inline struct cellar_pending *cellar_pending_find_at(const struct cellar_pending_set *set, uint64_t address)
{
    struct cellar_pending *pending = cellar_pending_find(set, address >> set->page_shift);
    size_t offset = (size_t)(address & (set->page_bytes - 1));

    if (pending != NULL && !set->guarded) {
        __builtin_prefetch((const unsigned char *)pending - set->page_bytes + offset);
        __builtin_prefetch(&pending->dirty[offset / 64]);
    }
    return pending;
}

/* Copies the dirty ones of the bytes [from, to) of the page to buffer + (their place - from). */
void cellar_pending_overlay(const struct cellar_pending *pending, size_t from, size_t to, unsigned char *buffer);

/* Asks memory, all at once, for what such an overlay will touch: run by run it would wait for one after the other. */
void cellar_pending_fetch(const struct cellar_pending *pending, size_t from, size_t to, const unsigned char *buffer);

/* Asks memory for what says which bytes of the page are dirty. */
static inline void cellar_pending_fetch_bits(const struct cellar_pending_set *set, const struct cellar_pending *pending)
{
    __builtin_prefetch(pending);
    for (size_t word = 0; word < set->word_count; word += 8)
        __builtin_prefetch(&pending->dirty[word]);
}

/*
 * Widens [*start, *end] by the stretches of dirty bytes that overlap or touch it at either end. In a stretch, dirty
 * bytes follow each other with at most one clean byte between.
 */
void cellar_pending_widen(const struct cellar_pending_set *set, uint64_t *start, uint64_t *end);

/* The pages with a dirty byte in [start, end), in order, in set->order; valid until the next write. Returns how many.
 */
size_t cellar_pending_collect(struct cellar_pending_set *set, uint64_t start, uint64_t end);

/* Cleans the bytes [from, to) of the page; a page without dirty bytes leaves the set. */
void cellar_pending_clean(struct cellar_pending_set *set, struct cellar_pending *pending, size_t from, size_t to);

void cellar_pending_discard(struct cellar_pending_set *set);

#endif
