/* Fixed-width numbers at any address, little-endian for records and big-endian for packed values,
 * whatever the byte order of the machine. Compilers turn each into one or two instructions.
 */
#ifndef PYRAFT_FAST_ENTRY_BYTES_H
#define PYRAFT_FAST_ENTRY_BYTES_H

#include <stdint.h>
#include <string.h>

static inline void put_le(unsigned char *at, uint64_t value, int width)
{
    for (int i = 0; i < width; i++)
        at[i] = (unsigned char)(value >> (8 * i));
}

static inline uint64_t get_le(const unsigned char *at, int width)
{
    uint64_t value = 0;
    for (int i = 0; i < width; i++)
        value |= (uint64_t)at[i] << (8 * i);
    return value;
}

static inline void put_be(unsigned char *at, uint64_t value, int width)
{
    for (int i = 0; i < width; i++)
        at[i] = (unsigned char)(value >> (8 * (width - 1 - i)));
}

static inline uint64_t get_be(const unsigned char *at, int width)
{
    uint64_t value = 0;
    for (int i = 0; i < width; i++)
        value = value << 8 | at[i];
    return value;
}

static inline int is_ascii(const unsigned char *at, size_t size)
{
    uint64_t seen = 0, word;
    while (size >= 8) {
        memcpy(&word, at, 8);
        seen |= word;
        at += 8;
        size -= 8;
    }
    while (size--)
        seen |= *at++;
    return (seen & UINT64_C(0x8080808080808080)) == 0;
}

#endif
