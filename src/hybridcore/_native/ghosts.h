/* A set of eight ghosts in a cache line, the latest first. */
#ifndef HYBRIDCORE_GHOSTS_H
#define HYBRIDCORE_GHOSTS_H

#include <stdint.h>
#include <string.h>

#include "bits.h"

#define HC_WAYS 8

typedef struct {
    uint16_t tags[HC_WAYS]; /* 0: no ghost */
    uint32_t last[HC_WAYS]; /* its last use, on the clock of requests */
    uint8_t kind[HC_WAYS];
    uint8_t frequency[HC_WAYS];
} hc_ghosts;

/* The first place with the tag, -1 when there is none. */
static inline int hc_way_of(const hc_ghosts *ghosts, uint16_t tag)
{
#ifdef HC_SSE2
    const __m128i tags = _mm_loadu_si128((const __m128i *)ghosts->tags);
    const int found = _mm_movemask_epi8(_mm_cmpeq_epi16(tags, _mm_set1_epi16((short)tag)));
    return found ? (int)(hc_lowest_bit((uint64_t)found) >> 1) : -1;
#else
    int way;
    for (way = 0; way < HC_WAYS; way++)
        if (ghosts->tags[way] == tag)
            return way;
    return -1;
#endif
}

/* Put a ghost first. The others move up to the first free place; where there is none, the last one
   is gone. */
static inline void hc_bury(hc_ghosts *ghosts, uint16_t tag, uint32_t last, uint8_t kind,
                           uint8_t frequency)
{
#if defined(HC_SSE2)
    /* What moves is told by masks, as how far that is cannot be predicted. */
    const __m128i tags = _mm_loadu_si128((const __m128i *)ghosts->tags);
    const uint32_t empty =
        (uint32_t)_mm_movemask_epi8(_mm_cmpeq_epi16(tags, _mm_setzero_si128())) | 0x8000u;
    const uint32_t free = hc_lowest_bit(empty) >> 1;
    const uint64_t bytes = ~(uint64_t)0 >> (56 - 8 * free);
    const __m128i narrow = _mm_cmpgt_epi16(_mm_set1_epi16((short)(free + 1)),
                                           _mm_set_epi16(7, 6, 5, 4, 3, 2, 1, 0));
    const __m128i wide[2] = {_mm_unpacklo_epi16(narrow, narrow),
                             _mm_unpackhi_epi16(narrow, narrow)};
    const __m128i near = _mm_loadu_si128((const __m128i *)ghosts->last);
    const __m128i far = _mm_loadu_si128((const __m128i *)(ghosts->last + 4));
    const __m128i moved = _mm_loadu_si128((const __m128i *)(ghosts->last + 3));
    uint64_t word;
    _mm_storeu_si128(
        (__m128i *)ghosts->tags,
        hc_choose(narrow, _mm_insert_epi16(_mm_slli_si128(tags, 2), tag, 0), tags));
    _mm_storeu_si128((__m128i *)ghosts->last,
                     hc_choose(wide[0], _mm_or_si128(_mm_slli_si128(near, 4),
                                                     _mm_cvtsi32_si128((int)last)), near));
    _mm_storeu_si128((__m128i *)(ghosts->last + 4), hc_choose(wide[1], moved, far));
    memcpy(&word, ghosts->kind, 8);
    word = ((word << 8 | kind) & bytes) | (word & ~bytes);
    memcpy(ghosts->kind, &word, 8);
    memcpy(&word, ghosts->frequency, 8);
    word = ((word << 8 | frequency) & bytes) | (word & ~bytes);
    memcpy(ghosts->frequency, &word, 8);
#else
    int way = 0;
    while (way < HC_WAYS - 1 && ghosts->tags[way] != 0)
        way++;
    for (; way > 0; way--) {
        ghosts->tags[way] = ghosts->tags[way - 1];
        ghosts->last[way] = ghosts->last[way - 1];
        ghosts->kind[way] = ghosts->kind[way - 1];
        ghosts->frequency[way] = ghosts->frequency[way - 1];
    }
    ghosts->tags[0] = tag;
    ghosts->last[0] = last;
    ghosts->kind[0] = kind;
    ghosts->frequency[0] = frequency;
#endif
}

#endif
