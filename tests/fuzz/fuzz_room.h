/*
 * fuzz_room.h - large buffers that are kept from one input to the next: to get them from the system and to give them
 * back costs more than what most inputs do with them. A sanitizer sees every use of a byte that is not shown.
 */
#ifndef CELLAR_TESTS_FUZZ_ROOM_H
#define CELLAR_TESTS_FUZZ_ROOM_H

#include "fuzz.h"

enum { FUZZ_ROOM_BYTES_MAX = 1 << 24 };

/* A room of at least capacity_bytes, whose bytes are any and none of which is shown. To be given back. */
void *fuzz_room_take(size_t capacity_bytes);

/* The first length_bytes may be used from here on, and none behind them. */
void fuzz_room_show(void *room, size_t length_bytes);

size_t fuzz_room_capacity(const void *room);

/* No byte of it may be used any more. NULL does nothing. */
void fuzz_room_give(void *room);

/* Whether it is a room, taken or given back. */
bool fuzz_room_is(const void *bytes);

/* Those that were not given back. */
unsigned fuzz_rooms_taken(void);

#endif
