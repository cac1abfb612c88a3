/*
 * header_store.h - every store into a mapped header, by one function in a file of its own: the crash simulator puts
 * itself in its place when it is linked (-Wl,--wrap), and sees the header as it stands after each store.
 */
#ifndef CELLAR_CELL_HEADER_STORE_H
#define CELLAR_CELL_HEADER_STORE_H

#include <stddef.h>
#include <stdint.h>

/* Stores length_bytes at offset of the window, both multiples of 4: from front to back, in aligned words of 8 bytes (4
 * at an odd end), each a release. */
void cellar_header_store_window(unsigned char *window, uint64_t offset, const void *bytes, size_t length_bytes);

#endif
