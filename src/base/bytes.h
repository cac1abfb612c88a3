/* bytes.h - little-endian integers in unaligned bytes. Compilers make one load or store of each. */
#ifndef CELLAR_BASE_BYTES_H
#define CELLAR_BASE_BYTES_H

#include <stdint.h>

static inline uint16_t cellar_load_le16(const void *bytes)
{
    const uint8_t *b = bytes;
    return (uint16_t)(b[0] | (uint16_t)b[1] << 8);
}

static inline uint32_t cellar_load_le32(const void *bytes)
{
    const uint8_t *b = bytes;
    return (uint32_t)b[0] | (uint32_t)b[1] << 8 | (uint32_t)b[2] << 16 | (uint32_t)b[3] << 24;
}

static inline uint64_t cellar_load_le64(const void *bytes)
{
    const uint8_t *b = bytes;
    return (uint64_t)cellar_load_le32(b) | (uint64_t)cellar_load_le32(b + 4) << 32;
}

static inline void cellar_store_le16(void *bytes, uint16_t value)
{
    uint8_t *b = bytes;
    b[0] = (uint8_t)value;
    b[1] = (uint8_t)(value >> 8);
}

static inline void cellar_store_le32(void *bytes, uint32_t value)
{
    uint8_t *b = bytes;
    b[0] = (uint8_t)value;
    b[1] = (uint8_t)(value >> 8);
    b[2] = (uint8_t)(value >> 16);
    b[3] = (uint8_t)(value >> 24);
}

static inline void cellar_store_le64(void *bytes, uint64_t value)
{
    uint8_t *b = bytes;
    cellar_store_le32(b, (uint32_t)value);
    cellar_store_le32(b + 4, (uint32_t)(value >> 32));
}

#endif
