/* CRC-32C (Castagnoli, reflected polynomial 0x82F63B78), as in iSCSI, RFC 3720 appendix B.4.
 *
 * Two ways to the same number. The processor's own instruction (SSE4.2) is chosen at run time by
 * cpuid, so the file needs no machine flags and the built package runs on every CPU; everything
 * else takes eight table look-ups per eight bytes (Kounavis and Berry, "slicing-by-8").
 * crc32c_setup() must have run once before anything else here is called.
 */
#ifndef PYRAFT_FAST_CRC32C_H
#define PYRAFT_FAST_CRC32C_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#if defined(__x86_64__) && (defined(__GNUC__) || defined(__clang__))
#define CRC32C_HAS_SSE42 1
#include <cpuid.h>
#include <nmmintrin.h>
#else
#define CRC32C_HAS_SSE42 0
#endif

static uint32_t crc32c_tables[8][256];
static int crc32c_uses_sse42;

/* The tables' registers are not inverted; the two public functions invert on the way in and out. */
static uint32_t crc32c_by_table(uint32_t crc, const unsigned char *data, size_t size)
{
    const uint32_t (*t)[256] = (const uint32_t (*)[256])crc32c_tables;
    crc = ~crc;
    while (size >= 8) {
        uint32_t low = crc ^ ((uint32_t)data[0] | (uint32_t)data[1] << 8 |
                              (uint32_t)data[2] << 16 | (uint32_t)data[3] << 24);
        crc = t[7][low & 0xFF] ^ t[6][(low >> 8) & 0xFF] ^ t[5][(low >> 16) & 0xFF] ^
              t[4][low >> 24] ^ t[3][data[4]] ^ t[2][data[5]] ^ t[1][data[6]] ^ t[0][data[7]];
        data += 8;
        size -= 8;
    }
    while (size--)
        crc = (crc >> 8) ^ t[0][(crc ^ *data++) & 0xFF];
    return ~crc;
}

#if CRC32C_HAS_SSE42
__attribute__((target("sse4.2")))
static uint32_t crc32c_by_sse42(uint32_t crc, const unsigned char *data, size_t size)
{
    uint64_t wide = (uint32_t)~crc;
    while (size >= 8) {
        uint64_t word;
        memcpy(&word, data, 8); /* the data need not be aligned */
        wide = _mm_crc32_u64(wide, word);
        data += 8;
        size -= 8;
    }
    crc = (uint32_t)wide;
    while (size--)
        crc = _mm_crc32_u8(crc, *data++);
    return ~crc;
}

static int crc32c_cpu_has_sse42(void)
{
    unsigned int a = 0, b = 0, c = 0, d = 0;
    return __get_cpuid(1, &a, &b, &c, &d) && (c & bit_SSE4_2) != 0;
}
#else
static uint32_t crc32c_by_sse42(uint32_t crc, const unsigned char *data, size_t size)
{
    return crc32c_by_table(crc, data, size);
}

static int crc32c_cpu_has_sse42(void)
{
    return 0;
}
#endif

static void crc32c_setup(void)
{
    for (uint32_t byte = 0; byte < 256; byte++) {
        uint32_t crc = byte;
        for (int bit = 0; bit < 8; bit++)
            crc = (crc >> 1) ^ (0x82F63B78u & (0u - (crc & 1u)));
        crc32c_tables[0][byte] = crc;
    }
    for (int slice = 1; slice < 8; slice++)
        for (int byte = 0; byte < 256; byte++) {
            uint32_t crc = crc32c_tables[slice - 1][byte];
            crc32c_tables[slice][byte] = (crc >> 8) ^ crc32c_tables[0][crc & 0xFF];
        }
    crc32c_uses_sse42 = crc32c_cpu_has_sse42();
}

/* The checksum of `data` behind bytes whose checksum is `crc` (0 for none). */
static uint32_t crc32c_extend(uint32_t crc, const unsigned char *data, size_t size)
{
    if (crc32c_uses_sse42)
        return crc32c_by_sse42(crc, data, size);
    return crc32c_by_table(crc, data, size);
}

#endif
