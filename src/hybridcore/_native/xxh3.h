/* XXH3-64 with seed 0 of 17 bytes and more, after the specification in xxHash's repository
 * (doc/xxhash_spec.md). A record always has more; what is shorter is not implemented. */
#ifndef HYBRIDCORE_XXH3_H
#define HYBRIDCORE_XXH3_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#if defined(_MSC_VER) && !defined(__clang__)
#include <intrin.h>
#endif
#if defined(__x86_64__) && defined(__GNUC__)
#include <immintrin.h>
#define HC_XXH3_AVX2
#endif

#define HC_XXH3_SHORTEST 17

#define HC_P32_1 UINT64_C(0x9E3779B1)
#define HC_P32_2 UINT64_C(0x85EBCA77)
#define HC_P32_3 UINT64_C(0xC2B2AE3D)
#define HC_P64_1 UINT64_C(0x9E3779B185EBCA87)
#define HC_P64_2 UINT64_C(0xC2B2AE3D27D4EB4F)
#define HC_P64_3 UINT64_C(0x165667B19E3779F9)
#define HC_P64_4 UINT64_C(0x85EBCA77C2B2AE63)
#define HC_P64_5 UINT64_C(0x27D4EB2F165667C5)
#define HC_MX1 UINT64_C(0x165667919E3779F9)

enum {
    HC_STRIPE = 64,                                      /* bytes, in eight lanes */
    HC_SECRET = 192,                                     /* bytes */
    HC_STRIPES_PER_BLOCK = (HC_SECRET - HC_STRIPE) / 8,  /* then the lanes are scrambled */
    HC_BLOCK = HC_STRIPE * HC_STRIPES_PER_BLOCK,
    HC_BLOCKS_AHEAD = 4  /* asked for early: processors do not look past the end of a page */
};

static const uint8_t hc_xxh3_secret[HC_SECRET] = {
    0xb8, 0xfe, 0x6c, 0x39, 0x23, 0xa4, 0x4b, 0xbe, 0x7c, 0x01, 0x81, 0x2c, 0xf7, 0x21, 0xad, 0x1c,
    0xde, 0xd4, 0x6d, 0xe9, 0x83, 0x90, 0x97, 0xdb, 0x72, 0x40, 0xa4, 0xa4, 0xb7, 0xb3, 0x67, 0x1f,
    0xcb, 0x79, 0xe6, 0x4e, 0xcc, 0xc0, 0xe5, 0x78, 0x82, 0x5a, 0xd0, 0x7d, 0xcc, 0xff, 0x72, 0x21,
    0xb8, 0x08, 0x46, 0x74, 0xf7, 0x43, 0x24, 0x8e, 0xe0, 0x35, 0x90, 0xe6, 0x81, 0x3a, 0x26, 0x4c,
    0x3c, 0x28, 0x52, 0xbb, 0x91, 0xc3, 0x00, 0xcb, 0x88, 0xd0, 0x65, 0x8b, 0x1b, 0x53, 0x2e, 0xa3,
    0x71, 0x64, 0x48, 0x97, 0xa2, 0x0d, 0xf9, 0x4e, 0x38, 0x19, 0xef, 0x46, 0xa9, 0xde, 0xac, 0xd8,
    0xa8, 0xfa, 0x76, 0x3f, 0xe3, 0x9c, 0x34, 0x3f, 0xf9, 0xdc, 0xbb, 0xc7, 0xc7, 0x0b, 0x4f, 0x1d,
    0x8a, 0x51, 0xe0, 0x4b, 0xcd, 0xb4, 0x59, 0x31, 0xc8, 0x9f, 0x7e, 0xc9, 0xd9, 0x78, 0x73, 0x64,
    0xea, 0xc5, 0xac, 0x83, 0x34, 0xd3, 0xeb, 0xc3, 0xc5, 0x81, 0xa0, 0xff, 0xfa, 0x13, 0x63, 0xeb,
    0x17, 0x0d, 0xdd, 0x51, 0xb7, 0xf0, 0xda, 0x49, 0xd3, 0x16, 0x55, 0x26, 0x29, 0xd4, 0x68, 0x9e,
    0x2b, 0x16, 0xbe, 0x58, 0x7d, 0x47, 0xa1, 0xfc, 0x8f, 0xf8, 0xb8, 0xd1, 0x7a, 0xd0, 0x31, 0xce,
    0x45, 0xcb, 0x3a, 0x8f, 0x95, 0x16, 0x04, 0x28, 0xaf, 0xd7, 0xfb, 0xca, 0xbb, 0x4b, 0x40, 0x7e,
};

static inline uint64_t hc_little64(const uint8_t *at)
{
    uint64_t word;
    memcpy(&word, at, 8);
#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    word = __builtin_bswap64(word);
#endif
    return word;
}

static inline uint64_t hc_secret64(size_t offset) { return hc_little64(hc_xxh3_secret + offset); }

/* Both halves of the product, one xored with the other */
static inline uint64_t hc_fold(uint64_t one, uint64_t other)
{
#if defined(__SIZEOF_INT128__)
    unsigned __int128 product = (unsigned __int128)one * other;
    return (uint64_t)product ^ (uint64_t)(product >> 64);
#elif defined(_MSC_VER) && defined(_M_X64)
    uint64_t high, low = _umul128(one, other, &high);
    return low ^ high;
#else
    uint64_t one_low = (uint32_t)one, one_high = one >> 32;
    uint64_t other_low = (uint32_t)other, other_high = other >> 32;
    uint64_t low = one_low * other_low;
    uint64_t cross = one_high * other_low + (low >> 32);
    uint64_t middle = one_low * other_high + (uint32_t)cross;
    uint64_t high = one_high * other_high + (cross >> 32) + (middle >> 32);
    return (middle << 32 | (uint32_t)low) ^ high;
#endif
}

static inline uint64_t hc_avalanche(uint64_t word)
{
    word = (word ^ word >> 37) * HC_MX1;
    return word ^ word >> 32;
}

static inline uint64_t hc_mix16(const uint8_t *data, size_t secret)
{
    return hc_fold(hc_little64(data) ^ hc_secret64(secret),
                   hc_little64(data + 8) ^ hc_secret64(secret + 8));
}

static inline uint64_t hc_xxh3_to_128(const uint8_t *data, size_t size)
{
    uint64_t sum = size * HC_P64_1;
    for (size_t i = (size - 1) / 32 + 1; i-- > 0;) {
        sum += hc_mix16(data + 16 * i, 32 * i);
        sum += hc_mix16(data + size - 16 * i - 16, 32 * i + 16);
    }
    return hc_avalanche(sum);
}

static inline uint64_t hc_xxh3_to_240(const uint8_t *data, size_t size)
{
    uint64_t sum = size * HC_P64_1;
    for (size_t i = 0; i < 8; i++)
        sum += hc_mix16(data + 16 * i, 16 * i);
    sum = hc_avalanche(sum);
    for (size_t i = 8; i < size / 16; i++)
        sum += hc_mix16(data + 16 * i, 16 * (i - 8) + 3);
    sum += hc_mix16(data + size - 16, 119);
    return hc_avalanche(sum);
}

/* In pairs of lanes, and the products apart from the sums: so compilers see vectors. */
static inline void hc_accumulate(uint64_t *restrict lanes, const uint8_t *stripe, size_t secret)
{
    for (size_t i = 0; i < 8; i += 2) {
        uint64_t even = hc_little64(stripe + 8 * i), odd = hc_little64(stripe + 8 * i + 8);
        uint64_t even_key = even ^ hc_secret64(secret + 8 * i);
        uint64_t odd_key = odd ^ hc_secret64(secret + 8 * i + 8);
        lanes[i] += odd + (even_key & UINT32_MAX) * (even_key >> 32);
        lanes[i + 1] += even + (odd_key & UINT32_MAX) * (odd_key >> 32);
    }
}

static inline void hc_scramble(uint64_t *lanes)
{
    for (size_t i = 0; i < 8; i++) {
        lanes[i] ^= lanes[i] >> 47 ^ hc_secret64(HC_SECRET - HC_STRIPE + 8 * i);
        lanes[i] *= HC_P32_1;
    }
}

static inline void hc_stripes(uint64_t *lanes, const uint8_t *at, size_t count)
{
    for (size_t stripe = 0; stripe < count; stripe++)
        hc_accumulate(lanes, at + HC_STRIPE * stripe, 8 * stripe);
}

static void hc_blocks(uint64_t *lanes, const uint8_t *at, size_t count)
{
    for (; count > 0; count--, at += HC_BLOCK) {
        hc_stripes(lanes, at, HC_STRIPES_PER_BLOCK);
        hc_scramble(lanes);
    }
}

#if defined(HC_XXH3_AVX2)
__attribute__((target("avx2"))) static inline __m256i hc_added(__m256i sums, const uint8_t *at,
                                                               size_t secret)
{
    __m256i data = _mm256_loadu_si256((const __m256i *)at);
    __m256i key = _mm256_xor_si256(
        data, _mm256_loadu_si256((const __m256i *)(hc_xxh3_secret + secret)));
    __m256i product = _mm256_mul_epu32(key, _mm256_srli_epi64(key, 32));
    __m256i swapped = _mm256_shuffle_epi32(data, _MM_SHUFFLE(1, 0, 3, 2));
    return _mm256_add_epi64(sums, _mm256_add_epi64(swapped, product));
}

__attribute__((target("avx2"))) static void hc_blocks_avx2(uint64_t *lanes, const uint8_t *at,
                                                           size_t count)
{
    for (; count > 0; count--, at += HC_BLOCK) {
        __m256i low = _mm256_loadu_si256((const __m256i *)lanes);
        __m256i high = _mm256_loadu_si256((const __m256i *)(lanes + 4));
        if (count > HC_BLOCKS_AHEAD)
            for (size_t stripe = 0; stripe < HC_STRIPES_PER_BLOCK; stripe++)
                _mm_prefetch((const char *)at + HC_BLOCK * HC_BLOCKS_AHEAD + HC_STRIPE * stripe,
                             _MM_HINT_T0);
        for (size_t stripe = 0; stripe < HC_STRIPES_PER_BLOCK; stripe++) {
            low = hc_added(low, at + HC_STRIPE * stripe, 8 * stripe);
            high = hc_added(high, at + HC_STRIPE * stripe + 32, 8 * stripe + 32);
        }
        _mm256_storeu_si256((__m256i *)lanes, low);
        _mm256_storeu_si256((__m256i *)(lanes + 4), high);
        hc_scramble(lanes);
    }
}
#endif

/* Whether there are vector instructions here for what is large. */
static inline int hc_xxh3_has_vectors(void)
{
#if defined(HC_XXH3_AVX2)
    return __builtin_cpu_supports("avx2") != 0;
#else
    return 0;
#endif
}

static inline uint64_t hc_xxh3_above_240(const uint8_t *data, size_t size)
{
    uint64_t lanes[8] = {HC_P32_3, HC_P64_1, HC_P64_2, HC_P64_3,
                         HC_P64_4, HC_P32_2, HC_P64_5, HC_P32_1};
    uint64_t sum = size * HC_P64_1;
    size_t blocks = (size - 1) / HC_BLOCK, rest = (size - 1) % HC_BLOCK;
#if defined(HC_XXH3_AVX2)
    if (blocks > 0 && hc_xxh3_has_vectors())
        hc_blocks_avx2(lanes, data, blocks);
    else
#endif
        hc_blocks(lanes, data, blocks);
    hc_stripes(lanes, data + blocks * HC_BLOCK, rest / HC_STRIPE);
    hc_accumulate(lanes, data + size - HC_STRIPE, HC_SECRET - HC_STRIPE - 7);
    for (size_t i = 0; i < 8; i += 2)
        sum += hc_fold(lanes[i] ^ hc_secret64(11 + 8 * i), lanes[i + 1] ^ hc_secret64(19 + 8 * i));
    return hc_avalanche(sum);
}

/* size: at least HC_XXH3_SHORTEST */
static inline uint64_t hc_xxh3(const uint8_t *data, size_t size)
{
    if (size <= 128)
        return hc_xxh3_to_128(data, size);
    return size <= 240 ? hc_xxh3_to_240(data, size) : hc_xxh3_above_240(data, size);
}

#endif
