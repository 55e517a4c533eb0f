/* Prefetching, several words compared at once, and numbers looked at by their bits. */
#ifndef HYBRIDCORE_BITS_H
#define HYBRIDCORE_BITS_H

#include <stdint.h>
#include <string.h>

#if defined(__SSE2__) || (defined(_MSC_VER) && defined(_M_X64))
#define HC_SSE2
#include <emmintrin.h>
#endif

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

/* Four slots of a hash table at once, each a hash and a number that is 0 if it is empty: the even
   bits tell which hashes are equal, the odd ones which slots are empty. */
static inline uint32_t hc_four_slots(const void *slots, uint32_t hash)
{
#ifdef HC_SSE2
    const __m128i sought = _mm_set_epi32(0, (int)hash, 0, (int)hash);
    __m128i first = _mm_loadu_si128((const __m128i *)slots);
    __m128i second = _mm_loadu_si128((const __m128i *)slots + 1);
    first = _mm_cmpeq_epi32(first, sought);
    second = _mm_cmpeq_epi32(second, sought);
    return (uint32_t)(_mm_movemask_ps(_mm_castsi128_ps(first))
                      | _mm_movemask_ps(_mm_castsi128_ps(second)) << 4);
#else
    const uint32_t *words = (const uint32_t *)slots;
    uint32_t found = 0;
    int i;
    for (i = 0; i < 8; i += 2)
        found |= (uint32_t)(words[i] == hash) << i | (uint32_t)(words[i + 1] == 0) << (i + 1);
    return found;
#endif
}

/* The half octave of a number from 1 on: 0 for [1, 1.5), 1 for [1.5, 2), 2 for [2, 3), ... */
static inline int hc_half_octave(float number)
{
    uint32_t word;
    memcpy(&word, &number, 4);
    return (int)(word >> 22) - (127 << 1);
}

#endif
