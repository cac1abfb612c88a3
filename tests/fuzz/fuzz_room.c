/* fuzz_room.c - a few buffers, each of the size that was once asked for. */
#include "fuzz_room.h"

#if defined(__SANITIZE_ADDRESS__)
#define FUZZ_POISONS 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define FUZZ_POISONS 1
#endif
#endif

#ifdef FUZZ_POISONS
#include <sanitizer/asan_interface.h>
#else
#define ASAN_POISON_MEMORY_REGION(address, size) ((void)(address), (void)(size))
#define ASAN_UNPOISON_MEMORY_REGION(address, size) ((void)(address), (void)(size))
#endif

enum { ROOMS_MAX = 32, ROOM_BYTES_MIN = 1 << 14 };

struct room {
    unsigned char *bytes; /* NULL: not made yet */
    size_t capacity_bytes;
    bool taken;
};

static struct room rooms[ROOMS_MAX];

static struct room *find(const void *bytes)
{
    for (size_t i = 0; i < ROOMS_MAX; i++) {
        if (rooms[i].taken && rooms[i].bytes == bytes)
            return &rooms[i];
    }
    fuzz_fail(__FILE__, __LINE__, "it is a room that was taken");
    return NULL;
}

/* The smallest that is large enough, or else the largest of the others. */
static struct room *choose(size_t capacity_bytes)
{
    struct room *chosen = NULL;

    for (size_t i = 0; i < ROOMS_MAX; i++) {
        struct room *room = &rooms[i];

        if (room->taken)
            continue;
        if (chosen == NULL ||
            (chosen->capacity_bytes < capacity_bytes
                 ? room->capacity_bytes > chosen->capacity_bytes
                 : room->capacity_bytes >= capacity_bytes && room->capacity_bytes < chosen->capacity_bytes))
            chosen = room;
    }
    FUZZ_NEEDS(chosen != NULL);
    return chosen;
}

/* By calloc, as malloc may be fuzz_malloc.c's, which comes here. */
static void make(struct room *room, size_t capacity_bytes)
{
    unsigned char *old = room->bytes;
    size_t size_bytes = ROOM_BYTES_MIN;

    while (size_bytes < capacity_bytes)
        size_bytes *= 2;
    ASAN_UNPOISON_MEMORY_REGION(old, room->capacity_bytes);
    room->bytes = NULL;
    free(old);
    *room = (struct room){.bytes = calloc(1, size_bytes), .capacity_bytes = size_bytes};
    FUZZ_NEEDS(room->bytes != NULL);
}

void *fuzz_room_take(size_t capacity_bytes)
{
    struct room *room = choose(capacity_bytes);

    if (room->bytes == NULL || room->capacity_bytes < capacity_bytes)
        make(room, capacity_bytes);
    room->taken = true;
    ASAN_POISON_MEMORY_REGION(room->bytes, room->capacity_bytes);
    return room->bytes;
}

void fuzz_room_show(void *room, size_t length_bytes)
{
    const struct room *shown = find(room);

    FUZZ_NEEDS(length_bytes <= shown->capacity_bytes);
    ASAN_UNPOISON_MEMORY_REGION(shown->bytes, length_bytes);
    ASAN_POISON_MEMORY_REGION(shown->bytes + length_bytes, shown->capacity_bytes - length_bytes);
}

size_t fuzz_room_capacity(const void *room)
{
    return find(room)->capacity_bytes;
}

void fuzz_room_give(void *room)
{
    struct room *given;

    if (room == NULL)
        return;
    given = find(room);
    ASAN_POISON_MEMORY_REGION(given->bytes, given->capacity_bytes);
    given->taken = false;
}

bool fuzz_room_is(const void *bytes)
{
    for (size_t i = 0; i < ROOMS_MAX && bytes != NULL; i++) {
        if (rooms[i].bytes == bytes)
            return true;
    }
    return false;
}

unsigned fuzz_rooms_taken(void)
{
    unsigned taken = 0;

    for (size_t i = 0; i < ROOMS_MAX; i++)
        taken += rooms[i].taken;
    return taken;
}
