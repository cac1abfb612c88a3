/*
 * fuzz_malloc.c - the library's large buffers come from rooms: AddressSanitizer maps each of them anew. By the linker
 * in the place of the functions with these names.
 */
#include "fuzz_room.h"

void *__wrap_malloc(size_t size_bytes);
void __wrap_free(void *bytes);
void *__real_malloc(size_t size_bytes);
void __real_free(void *bytes);

enum { LARGE_BYTES = 1 << 16 };

void *__wrap_malloc(size_t size_bytes)
{
    void *room;

    if (size_bytes < LARGE_BYTES || size_bytes > FUZZ_ROOM_BYTES_MAX)
        return __real_malloc(size_bytes);
    room = fuzz_room_take(size_bytes);
    fuzz_room_show(room, size_bytes);
    return room;
}

void __wrap_free(void *bytes)
{
    if (fuzz_room_is(bytes))
        fuzz_room_give(bytes);
    else
        __real_free(bytes);
}
