/* The contest for the next eviction: entries against the holders of lanes, four at a time. */
#ifndef HYBRIDCORE_LANES_H
#define HYBRIDCORE_LANES_H

#include <stdint.h>
#include <string.h>

#include "bits.h"

#define HC_LANES 16
#define HC_AGES 33
#define HC_FREE 0x7FFFFFFF /* more than the bits of any float */

/* A rank is the worth of an entry by the bits of a float, which compare as well, with the lane in
   the lowest. */
typedef struct {
    int32_t rank[HC_LANES];
    uint32_t entry[HC_LANES];
    uint32_t last[HC_LANES]; /* its last use then: one used since is spared */
} hc_lanes;

/* What an entry is judged by, where it lies in the entry. */
typedef struct {
    uint32_t hash;
    uint32_t last;
    uint8_t kind;
    uint8_t frequency;
    uint16_t unused;
} hc_habit;

static inline int32_t hc_rank(float worth, int lane)
{
    int32_t word;
    memcpy(&word, &worth, 4);
    return (word & ~(HC_LANES - 1)) | lane;
}

/* The class of an age in 64ths of the capacity: half octaves from 1 on. */
static inline int hc_age_class(float age)
{
    int found;
    if (age < 1.0f)
        return 0;
    found = 1 + hc_half_octave(age);
    return found < HC_AGES ? found : HC_AGES - 1;
}

#ifdef HC_SSE2
static inline void hc_store_chosen(void *words, __m128i mask, __m128i yes)
{
    __m128i no = _mm_loadu_si128((const __m128i *)words);
    _mm_storeu_si128((__m128i *)words, hc_choose(mask, yes, no));
}

static inline __m128i hc_least(__m128i a, __m128i b)
{
    return hc_choose(_mm_cmplt_epi32(a, b), a, b);
}
#endif

/* Let an entry contend for a lane: of it and the holder, the one worth less stays. Where ``value``
   is not NULL, the worth is multiplied by it. */
static inline void hc_contend(hc_lanes *lanes, int lane, const void *habit, uint32_t entry,
                              uint32_t now, float scale, const float *worth, const float *value)
{
    hc_habit own;
    float gain;
    int32_t rank;
    memcpy(&own, habit, sizeof(own));
    gain = worth[own.kind * HC_AGES + hc_age_class((float)(now - own.last) * scale)];
    rank = hc_rank(value != NULL ? gain * *value : gain, lane);
    if (rank < lanes->rank[lane]) {
        lanes->rank[lane] = rank;
        lanes->entry[lane] = entry;
        lanes->last[lane] = own.last;
    }
}

/* Let four entries contend for four lanes from ``lane`` on: habits are ``stride`` bytes apart, values
   ``value_stride``. */
static inline void hc_contend_4(hc_lanes *lanes, int lane, const void *habits, size_t stride,
                                uint32_t entry, uint32_t now, float scale, const float *worth,
                                const float *value, size_t value_stride)
{
    const char *habit = (const char *)habits;
#define HC_VALUE(k) ((const float *)((const char *)value + (k) * value_stride))
#ifdef HC_SSE2
    const __m128i count = _mm_set_epi32(3, 2, 1, 0);
    const __m128i a = _mm_loadu_si128((const __m128i *)habit);
    const __m128i b = _mm_loadu_si128((const __m128i *)(habit + stride));
    const __m128i c = _mm_loadu_si128((const __m128i *)(habit + 2 * stride));
    const __m128i d = _mm_loadu_si128((const __m128i *)(habit + 3 * stride));
    const __m128i last = _mm_unpackhi_epi64(_mm_unpacklo_epi32(a, b), _mm_unpacklo_epi32(c, d));
    const __m128i kind = _mm_and_si128(
        _mm_unpacklo_epi64(_mm_unpackhi_epi32(a, b), _mm_unpackhi_epi32(c, d)),
        _mm_set1_epi32(0xFF));
    __m128i idle = _mm_sub_epi32(_mm_set1_epi32((int)now), last);
    __m128i rank, wins;
    __m128 age, gain;
    int32_t place[4];
    idle = hc_choose(_mm_srai_epi32(idle, 31), _mm_set1_epi32(INT32_MAX), idle);
    age = _mm_mul_ps(_mm_cvtepi32_ps(idle), _mm_set1_ps(scale));
    age = _mm_min_ps(_mm_max_ps(age, _mm_set1_ps(0.75f)), _mm_set1_ps(49152.0f));
    idle = _mm_sub_epi32(_mm_srli_epi32(_mm_castps_si128(age), 22), _mm_set1_epi32(253));
    idle = _mm_add_epi32(idle, _mm_add_epi32(kind, _mm_slli_epi32(kind, 5)));
    _mm_storeu_si128((__m128i *)place, idle);
    gain = _mm_set_ps(worth[place[3]], worth[place[2]], worth[place[1]], worth[place[0]]);
    if (value != NULL)
        gain = _mm_mul_ps(
            gain, _mm_set_ps(*HC_VALUE(3), *HC_VALUE(2), *HC_VALUE(1), *HC_VALUE(0)));
    rank = _mm_andnot_si128(_mm_set1_epi32(HC_LANES - 1), _mm_castps_si128(gain));
    rank = _mm_or_si128(rank, _mm_add_epi32(_mm_set1_epi32(lane), count));
    wins = _mm_cmplt_epi32(rank, _mm_loadu_si128((const __m128i *)(lanes->rank + lane)));
    hc_store_chosen(lanes->rank + lane, wins, rank);
    hc_store_chosen(lanes->entry + lane, wins, _mm_add_epi32(_mm_set1_epi32((int)entry), count));
    hc_store_chosen(lanes->last + lane, wins, last);
#else
    int k;
    for (k = 0; k < 4; k++)
        hc_contend(lanes, lane + k, habit + k * stride, entry + k, now, scale, worth,
                   value != NULL ? HC_VALUE(k) : NULL);
#endif
#undef HC_VALUE
}

/* The least rank of all lanes. */
static inline int32_t hc_first(const hc_lanes *lanes)
{
#ifdef HC_SSE2
    const __m128i *rank = (const __m128i *)lanes->rank;
    __m128i least = hc_least(
        hc_least(_mm_loadu_si128(rank), _mm_loadu_si128(rank + 1)),
        hc_least(_mm_loadu_si128(rank + 2), _mm_loadu_si128(rank + 3)));
    least = hc_least(least, _mm_shuffle_epi32(least, 0x4E));
    least = hc_least(least, _mm_shuffle_epi32(least, 0xB1));
    return _mm_cvtsi128_si32(least);
#else
    int32_t least = HC_FREE;
    int k;
    for (k = 0; k < HC_LANES; k++)
        least = lanes->rank[k] < least ? lanes->rank[k] : least;
    return least;
#endif
}

#endif
