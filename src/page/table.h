/*
 * table.h - a hash table from page numbers to pointers: open addressing, linear probing, at most half full.
 * A zeroed struct is an empty table without room.
 */
#ifndef CELLAR_PAGE_TABLE_H
#define CELLAR_PAGE_TABLE_H

#include <stddef.h>
#include <stdint.h>

struct cellar_table_entry {
    uint64_t key;
    void *value; /* NULL: no entry */
};

struct cellar_table {
    struct cellar_table_entry *entries;
    size_t capacity; /* a power of two, or 0 */
    size_t count;
    unsigned shift; /* 64 - log2(capacity) */
};

/* Makes room for count entries altogether. 0 or -ENOMEM, with nothing changed. */
int cellar_table_reserve(struct cellar_table *table, size_t count);
void cellar_table_clear(struct cellar_table *table);

/* Adds a key that isn't there, in room that was reserved. */
void cellar_table_insert(struct cellar_table *table, uint64_t key, void *value);

/* Removes a key that is there. */
void cellar_table_remove(struct cellar_table *table, uint64_t key);

/* Fibonacci hashing: neighbouring pages land far from each other, and the top bits are the good ones. */
static inline size_t cellar_table_slot(const struct cellar_table *table, uint64_t key)
{
    return (size_t)((key * UINT64_C(0x9E3779B97F4A7C15)) >> table->shift);
}

/* NULL: not there. */
static inline void *cellar_table_find(const struct cellar_table *table, uint64_t key)
{
    if (table->count == 0)
        return NULL;
    for (size_t slot = cellar_table_slot(table, key);; slot = (slot + 1) & (table->capacity - 1)) {
        const struct cellar_table_entry *entry = &table->entries[slot];

        if (entry->value == NULL || entry->key == key)
            return entry->value;
    }
}

#endif
