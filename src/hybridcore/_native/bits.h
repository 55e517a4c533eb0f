/* Prefetching, and numbers looked at by their bits. */
#ifndef HYBRIDCORE_BITS_H
#define HYBRIDCORE_BITS_H

#include <stdint.h>
#include <string.h>

#if defined(_MSC_VER) && !defined(__clang__)
#include <intrin.h>
#if defined(_M_X64) || defined(_M_IX86)
#define hc_prefetch(address) _mm_prefetch((const char *)(address), _MM_HINT_T0)
#else
#define hc_prefetch(address) ((void)(address))
#endif
static inline uint32_t hc_lowest_bit(uint64_t word)
{
    unsigned long index;
    _BitScanForward64(&index, word);
    return (uint32_t)index;
}
static inline uint32_t hc_highest_bit(uint32_t word)
{
    unsigned long index;
    _BitScanReverse(&index, word);
    return (uint32_t)index;
}
#else
#define hc_prefetch(address) __builtin_prefetch(address)
#define hc_lowest_bit(word) ((uint32_t)__builtin_ctzll(word))
#define hc_highest_bit(word) (31u - (uint32_t)__builtin_clz(word))
#endif

/* The half octave of a number from 1 on: 0 for [1, 1.5), 1 for [1.5, 2), 2 for [2, 3), ... */
static inline int hc_half_octave(float number)
{
    uint32_t word;
    memcpy(&word, &number, 4);
    return (int)(word >> 22) - (127 << 1);
}

#endif
