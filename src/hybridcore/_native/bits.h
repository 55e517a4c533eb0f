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

#ifdef HC_SSE2
/* The bits of one where those of the mask are set, else of the other. */
static inline __m128i hc_choose(__m128i mask, __m128i yes, __m128i no)
{
    return _mm_or_si128(_mm_and_si128(mask, yes), _mm_andnot_si128(mask, no));
}
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

/* The first of four slots at once that has the number, 4 when none does. */
static inline uint32_t hc_slot_with(const void *slots, uint32_t number)
{
#ifdef HC_SSE2
    const __m128 first = _mm_loadu_ps((const float *)slots);
    const __m128 second = _mm_loadu_ps((const float *)slots + 4);
    const __m128i numbers = _mm_castps_si128(_mm_shuffle_ps(first, second, 0xDD));
    const __m128i same = _mm_cmpeq_epi32(numbers, _mm_set1_epi32((int)number));
    return hc_lowest_bit((uint64_t)(_mm_movemask_ps(_mm_castsi128_ps(same)) | 0x10));
#else
    const uint32_t *words = (const uint32_t *)slots;
    uint32_t i = 0;
    while (i < 4 && words[2 * i + 1] != number)
        i++;
    return i;
#endif
}

/* Whether nothing has to move into the slot before these four, at ``position``, when it is emptied:
   there is an empty slot among them, and those up to it are as near to where they belong as they
   can be. A hash belongs at ``hash >> shift``. */
static inline int hc_stays(const void *slots, uint32_t position, uint32_t shift, uint32_t mask)
{
#ifdef HC_SSE2
    const __m128i count = _mm_set_epi32(3, 2, 1, 0);
    const __m128 first = _mm_loadu_ps((const float *)slots);
    const __m128 second = _mm_loadu_ps((const float *)slots + 4);
    const __m128i hashes = _mm_castps_si128(_mm_shuffle_ps(first, second, 0x88));
    const __m128i numbers = _mm_castps_si128(_mm_shuffle_ps(first, second, 0xDD));
    const __m128i empty = _mm_cmpeq_epi32(numbers, _mm_setzero_si128());
    const __m128i home = _mm_srl_epi32(hashes, _mm_cvtsi32_si128((int)shift));
    __m128i away = _mm_sub_epi32(_mm_add_epi32(_mm_set1_epi32((int)position), count), home);
    uint32_t gaps, moves;
    away = _mm_and_si128(away, _mm_set1_epi32((int)mask));
    gaps = (uint32_t)_mm_movemask_ps(_mm_castsi128_ps(empty));
    moves = (uint32_t)_mm_movemask_ps(_mm_castsi128_ps(_mm_cmpgt_epi32(away, count)));
    return (moves & (gaps - 1) & ~gaps) == 0 && gaps != 0; /* those before the first gap */
#else
    const uint32_t *words = (const uint32_t *)slots;
    uint32_t i;
    for (i = 0; i < 4; i++) {
        if (words[2 * i + 1] == 0)
            return 1;
        if (((position + i - (words[2 * i] >> shift)) & mask) > i)
            return 0;
    }
    return 0;
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
