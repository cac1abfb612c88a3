/* pending.c - see pending.h. */
#include "page/pending.h"

#include "base/check.h"
#include "page/bits.h"
#include "page/load.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

/* What O_DIRECT mostly asks for; to a whole page of the system it would cost as much again. */
enum { BYTES_ALIGN_MAX = 512 };

enum { STRUCT_ALIGN = 64 }; /* a line of the processor's cache */

void cellar_pending_open(struct cellar_pending_set *set, size_t page_bytes, size_t spare_max)
{
    *set = (struct cellar_pending_set){
        .page_bytes = page_bytes,
        .word_count = cellar_bits_words(page_bytes),
        .page_shift = (unsigned)__builtin_ctzll(page_bytes),
        .spare_max = spare_max,
    };
}

static void *map_bytes(const struct cellar_pending_set *set)
{
    void *bytes = mmap(NULL, set->page_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    return bytes == MAP_FAILED ? NULL : bytes;
}

static void free_page(const struct cellar_pending_set *set, struct cellar_pending *pending)
{
    if (set->guarded) {
        cellar_bury(pending->bytes, set->page_bytes);
        free(pending);
    } else {
        free(pending->bytes); /* where the struct lies, too */
    }
}

/* Aligned for devices that ask for it. NULL: no memory. */
static struct cellar_pending *new_page(const struct cellar_pending_set *set)
{
    size_t align = set->page_bytes < BYTES_ALIGN_MAX ? set->page_bytes : BYTES_ALIGN_MAX;
    size_t struct_bytes = sizeof(struct cellar_pending) + set->word_count * sizeof(uint64_t);
    size_t ahead = set->page_bytes < STRUCT_ALIGN ? STRUCT_ALIGN : set->page_bytes;
    struct cellar_pending *pending;
    void *bytes;

    if (set->guarded) {
        pending = calloc(1, struct_bytes);
        bytes = pending != NULL ? map_bytes(set) : NULL;
        if (bytes == NULL) {
            free(pending);
            return NULL;
        }
    } else {
        if (posix_memalign(&bytes, align < sizeof(void *) ? sizeof(void *) : align, ahead + struct_bytes) != 0)
            return NULL;
        pending = (struct cellar_pending *)(void *)((unsigned char *)bytes + ahead);
        memset(pending, 0, struct_bytes);
    }
    pending->bytes = bytes;
    return pending;
}

void cellar_pending_close(struct cellar_pending_set *set)
{
    set->spare_max = 0;
    for (size_t i = 0; i < set->table.count; i++)
        set->pages[i]->pins = 0;
    cellar_pending_discard(set);
    while (set->spare != NULL) {
        struct cellar_pending *pending = set->spare;

        set->spare = pending->next;
        free_page(set, pending);
    }
    cellar_table_clear(&set->table);
    free(set->pages);
    free(set->order);
}

/* Room for count pages everywhere, so that neither adding one nor sorting them can fail. */
static int reserve(struct cellar_pending_set *set, size_t count)
{
    size_t room = set->room < 16 ? 16 : set->room;
    struct cellar_pending **pages, **order;

    if (count > set->room) {
        while (room < count)
            room *= 2;
        pages = realloc(set->pages, room * sizeof(struct cellar_pending *));
        if (pages == NULL)
            return -ENOMEM;
        set->pages = pages;
        order = realloc(set->order, room * sizeof(struct cellar_pending *));
        if (order == NULL)
            return -ENOMEM;
        set->order = order;
        set->room = room;
    }
    return cellar_table_reserve(&set->table, count);
}

/* Adds a page, clean. NULL: no memory. */
static struct cellar_pending *insert_page(struct cellar_pending_set *set, uint64_t page)
{
    struct cellar_pending *pending = set->spare;

    if (reserve(set, set->table.count + 1) != 0)
        return NULL;
    if (pending != NULL) {
        set->spare = pending->next;
        set->spare_count--;
    } else {
        pending = new_page(set);
        if (pending == NULL)
            return NULL;
    }
    pending->page = page;
    pending->place = set->table.count;
    set->pages[pending->place] = pending;
    cellar_table_insert(&set->table, page, pending);
    return pending;
}

static void reuse_page(struct cellar_pending_set *set, struct cellar_pending *pending)
{
    if (set->spare_count >= set->spare_max) {
        free_page(set, pending);
        return;
    }
    pending->next = set->spare;
    set->spare = pending;
    set->spare_count++;
}

/* A clean page leaves the set. */
static void drop_page(struct cellar_pending_set *set, struct cellar_pending *pending)
{
    struct cellar_pending *last;

    cellar_table_remove(&set->table, pending->page);
    last = set->pages[set->table.count];
    set->pages[pending->place] = last;
    last->place = pending->place;
    if (pending->pins > 0) {
        pending->dropped = true;
        return;
    }
    reuse_page(set, pending);
}

static void set_dirty(struct cellar_pending_set *set, struct cellar_pending *pending, size_t from, size_t to)
{
    size_t changed = cellar_bits_set(pending->dirty, from, to);

    pending->dirty_count += changed;
    set->byte_count += changed;
}

/* Pages first to last are in the set afterwards; or, without the memory, those added are gone again. */
static int add_pages(struct cellar_pending_set *set, uint64_t first, uint64_t last)
{
    int error = 0;

    for (uint64_t page = first; page <= last && error == 0; page++) {
        if (cellar_pending_find(set, page) == NULL && insert_page(set, page) == NULL)
            error = -ENOMEM;
    }
    for (uint64_t page = first; page <= last && error != 0; page++) {
        struct cellar_pending *pending = cellar_pending_find(set, page);

        if (pending != NULL && pending->dirty_count == 0)
            drop_page(set, pending);
    }
    return error;
}

static void write_page(struct cellar_pending_set *set, struct cellar_pending *pending, size_t offset,
                       const unsigned char *bytes, size_t length)
{
    memcpy(pending->bytes + offset, bytes, length);
    set_dirty(set, pending, offset, offset + length);
}

int cellar_pending_write(struct cellar_pending_set *set, uint64_t address, const void *bytes, size_t length)
{
    const unsigned char *from = bytes;
    uint64_t page = address >> set->page_shift;
    size_t offset = (size_t)(address & (set->page_bytes - 1));

    if (length == 0)
        return 0;
    if (length <= set->page_bytes - offset) {
        struct cellar_pending *pending = cellar_pending_find_at(set, address);

        if (pending == NULL)
            pending = insert_page(set, page);
        if (pending == NULL)
            return -ENOMEM;
        write_page(set, pending, offset, from, length);
        return 0;
    }
    if (add_pages(set, page, (address + length - 1) >> set->page_shift) != 0)
        return -ENOMEM;
    while (length > 0) {
        size_t part = set->page_bytes - offset < length ? set->page_bytes - offset : length;

        write_page(set, cellar_pending_find(set, page), offset, from, part);
        from += part;
        length -= part;
        page++;
        offset = 0;
    }
    return 0;
}

struct cellar_pending *cellar_pending_fill(struct cellar_pending_set *set, uint64_t page, const unsigned char *base,
                                           size_t length)
{
    struct cellar_pending *pending = cellar_pending_find(set, page);
    size_t end;

    if (pending == NULL)
        pending = insert_page(set, page);
    if (pending == NULL)
        return NULL;
    for (size_t at = 0; cellar_bits_run(pending->dirty, false, &at, length, &end); at = end) {
        if (base != NULL)
            memcpy(pending->bytes + at, base + at, end - at);
        else
            memset(pending->bytes + at, 0, end - at);
    }
    set_dirty(set, pending, 0, length);
    return pending;
}

/* Who goes on to use the bytes where they were crashes. */
static void move_bytes(const struct cellar_pending_set *set, struct cellar_pending *pending)
{
    unsigned char *bytes = map_bytes(set);

    if (bytes == NULL)
        return;
    memcpy(bytes, pending->bytes, set->page_bytes);
    cellar_bury(pending->bytes, set->page_bytes);
    pending->bytes = bytes;
}

void cellar_pending_unpin(struct cellar_pending_set *set, struct cellar_pending *pending)
{
    CELLAR_CHECK(pending->pins > 0);
    if (--pending->pins > 0)
        return;
    if (pending->dropped) {
        pending->dropped = false;
        reuse_page(set, pending);
    } else if (set->guarded) {
        move_bytes(set, pending);
    }
}

void cellar_pending_fetch(const struct cellar_pending *pending, size_t from, size_t to, const unsigned char *buffer)
{
    for (size_t word = (from + 63) / 64; word * 64 < to; word++) {
        if (pending->dirty[word] != 0) {
            __builtin_prefetch(pending->bytes + word * 64);
            __builtin_prefetch(buffer + (word * 64 - from), 1);
        }
    }
}

/* Of 64 bytes those whose bit is set in which. */
static void copy_some(uint64_t which, const unsigned char *from, unsigned char *to)
{
    while (which != 0) {
        unsigned at = (unsigned)__builtin_ctzll(which);
        uint64_t clean = ~(which >> at);
        unsigned length = clean != 0 ? (unsigned)__builtin_ctzll(clean) : 64;

        if (length == sizeof(uint64_t)) /* a number, mostly: no call */
            memcpy(to + at, from + at, sizeof(uint64_t));
        else
            memcpy(to + at, from + at, length);
        which &= at + length < 64 ? UINT64_MAX << (at + length) : 0;
    }
}

void cellar_pending_overlay(const struct cellar_pending *pending, size_t from, size_t to, unsigned char *buffer)
{
    size_t end;

    for (size_t at = from; at < to; at = end) {
        size_t word = at / 64;
        uint64_t which = pending->dirty[word] & cellar_bits_mask(word, at, to);

        end = (word + 1) * 64;
        if (which == UINT64_MAX) { /* all of this word, and of those that follow */
            end = cellar_bits_next(pending->dirty, false, at, to);
            end = end != CELLAR_BITS_NONE ? end : to;
            memcpy(buffer + (at - from), pending->bytes + at, end - at);
        } else if (which != 0) {
            copy_some(which >> at % 64, pending->bytes + at, buffer + (at - from));
        }
    }
}

static bool is_dirty(const struct cellar_pending_set *set, uint64_t address)
{
    const struct cellar_pending *pending = cellar_pending_find(set, address >> set->page_shift);

    return pending != NULL && cellar_bits_test(pending->dirty, (size_t)(address & (set->page_bytes - 1)));
}

/* The first byte of the run of dirty bytes around address, which is dirty. */
static uint64_t run_start(const struct cellar_pending_set *set, uint64_t address)
{
    for (;;) {
        const struct cellar_pending *pending = cellar_pending_find(set, address >> set->page_shift);
        size_t offset = (size_t)(address & (set->page_bytes - 1));
        size_t clean = cellar_bits_last(pending->dirty, false, 0, offset);

        if (clean != CELLAR_BITS_NONE)
            return address - offset + clean + 1;
        address -= offset;
        if (address == 0 || !is_dirty(set, address - 1))
            return address;
        address--;
    }
}

/* The byte behind the run of dirty bytes around address, which is dirty. */
static uint64_t run_end(const struct cellar_pending_set *set, uint64_t address)
{
    do {
        const struct cellar_pending *pending = cellar_pending_find(set, address >> set->page_shift);
        size_t offset = (size_t)(address & (set->page_bytes - 1));
        size_t clean = cellar_bits_next(pending->dirty, false, offset, set->page_bytes);

        if (clean != CELLAR_BITS_NONE)
            return address - offset + clean;
        address += set->page_bytes - offset;
    } while (is_dirty(set, address));
    return address;
}

void cellar_pending_widen(const struct cellar_pending_set *set, uint64_t *start, uint64_t *end)
{
    uint64_t from = *start, to = *end;

    if (is_dirty(set, from) || (from > 0 && is_dirty(set, from - 1))) {
        from = run_start(set, is_dirty(set, from) ? from : from - 1);
        while (from >= 2 && is_dirty(set, from - 2))
            from = run_start(set, from - 2);
    }
    if (is_dirty(set, to) || (to > 0 && is_dirty(set, to - 1))) {
        if (is_dirty(set, to))
            to = run_end(set, to);
        while (is_dirty(set, to + 1))
            to = run_end(set, to + 1);
    }
    *start = from;
    *end = to;
}

static int compare_pages(const void *left, const void *right)
{
    const struct cellar_pending *const *a = left, *const *b = right;

    return ((*a)->page > (*b)->page) - ((*a)->page < (*b)->page);
}

/* True if the page has a dirty byte in [start, end). */
static bool meets(const struct cellar_pending_set *set, const struct cellar_pending *pending, uint64_t start,
                  uint64_t end)
{
    uint64_t address = pending->page << set->page_shift;
    uint64_t from = start > address ? start - address : 0, to = end > address ? end - address : 0;

    if (from >= set->page_bytes)
        return false;
    if (to > set->page_bytes)
        to = set->page_bytes;
    return cellar_bits_next(pending->dirty, true, (size_t)from, (size_t)to) != CELLAR_BITS_NONE;
}

/* Looks at the pages of the range one by one, or at all pages of the set where those are fewer. */
size_t cellar_pending_collect(struct cellar_pending_set *set, uint64_t start, uint64_t end)
{
    uint64_t first = start >> set->page_shift, last;
    size_t count = 0;

    if (start >= end || set->table.count == 0)
        return 0;
    last = (end - 1) >> set->page_shift;
    if (last - first < set->table.count) {
        for (uint64_t page = first; page <= last; page++) {
            struct cellar_pending *pending = cellar_pending_find(set, page);

            if (pending != NULL && meets(set, pending, start, end))
                set->order[count++] = pending;
        }
        return count;
    }
    for (size_t i = 0; i < set->table.count; i++) {
        if (meets(set, set->pages[i], start, end))
            set->order[count++] = set->pages[i];
    }
    qsort(set->order, count, sizeof set->order[0], compare_pages);
    return count;
}

void cellar_pending_clean(struct cellar_pending_set *set, struct cellar_pending *pending, size_t from, size_t to)
{
    size_t changed = pending->dirty_count;

    if (from == 0 && to == set->page_bytes)
        memset(pending->dirty, 0, set->word_count * sizeof pending->dirty[0]);
    else
        changed = cellar_bits_clear(pending->dirty, from, to);
    pending->dirty_count -= changed;
    set->byte_count -= changed;
    if (pending->dirty_count == 0)
        drop_page(set, pending);
}

void cellar_pending_discard(struct cellar_pending_set *set)
{
    while (set->table.count > 0)
        cellar_pending_clean(set, set->pages[set->table.count - 1], 0, set->page_bytes);
    CELLAR_CHECK(set->byte_count == 0);
}
