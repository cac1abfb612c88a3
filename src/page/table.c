/* table.c - see table.h. */
#include "page/table.h"

#include "base/check.h"
#include <errno.h>
#include <stdlib.h>

enum { CAPACITY_MIN = 16 };

int cellar_table_reserve(struct cellar_table *table, size_t count)
{
    struct cellar_table grown = {.capacity = table->capacity < CAPACITY_MIN ? CAPACITY_MIN : table->capacity};

    if (count > SIZE_MAX / 4)
        return -ENOMEM;
    if (table->capacity / 2 >= count && table->capacity > 0)
        return 0;
    while (grown.capacity / 2 < count)
        grown.capacity *= 2;
    grown.shift = 64 - (unsigned)__builtin_ctzll(grown.capacity);
    grown.entries = calloc(grown.capacity, sizeof *grown.entries);
    if (grown.entries == NULL)
        return -ENOMEM;
    for (size_t slot = 0; slot < table->capacity; slot++) {
        if (table->entries[slot].value != NULL)
            cellar_table_insert(&grown, table->entries[slot].key, table->entries[slot].value);
    }
    free(table->entries);
    *table = grown;
    return 0;
}

void cellar_table_clear(struct cellar_table *table)
{
    free(table->entries);
    *table = (struct cellar_table){0};
}

static inline size_t find_slot(const struct cellar_table *table, uint64_t key)
{
    size_t slot = cellar_table_slot(table, key);

    while (table->entries[slot].value != NULL && table->entries[slot].key != key)
        slot = (slot + 1) & (table->capacity - 1);
    return slot;
}

void cellar_table_insert(struct cellar_table *table, uint64_t key, void *value)
{
    size_t slot;

    CELLAR_CHECK(table->count < table->capacity / 2 && value != NULL);
    slot = find_slot(table, key);
    CELLAR_CHECK(table->entries[slot].value == NULL);
    table->entries[slot] = (struct cellar_table_entry){key, value};
    table->count++;
}

/* Closes the gap by moving back every later entry of the cluster that may stand there, so that no search ends early. */
void cellar_table_remove(struct cellar_table *table, uint64_t key)
{
    size_t mask = table->capacity - 1;
    size_t gap = find_slot(table, key);

    CELLAR_CHECK(table->entries[gap].value != NULL);
    for (size_t slot = (gap + 1) & mask; table->entries[slot].value != NULL; slot = (slot + 1) & mask) {
        size_t home = cellar_table_slot(table, table->entries[slot].key);

        if (((slot - home) & mask) >= ((slot - gap) & mask)) {
            table->entries[gap] = table->entries[slot];
            gap = slot;
        }
    }
    table->entries[gap].value = NULL;
    table->count--;
}
