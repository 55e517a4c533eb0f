"""Buckets of durations: 32 an octave, so that the middle of one is within 1.6 % of all in it.

Durations are in nanoseconds. Below 64 ns each has a bucket of its own; from 2**37, 137 s, on all
share the last one. A few buckets of many hold anything, so they are packed as bytes: for each that
does, how many empty ones come before it and what it holds, seven bits a byte, lowest first.
"""

from libc.stdint cimport uint8_t, uint32_t, uint64_t

from hybridcore._native.bits cimport highest_bit

cdef enum:
    BUCKETS = 1056
    MOST_PACKED = 12672     # bytes that BUCKETS pairs can take: 2 and 10 each


cdef inline uint32_t bucket_of(uint64_t ns) noexcept nogil:
    cdef uint32_t shift
    if ns < 64:
        return <uint32_t> ns
    if ns >> 37:
        return BUCKETS - 1
    if ns >> 32:
        shift = highest_bit(<uint32_t> (ns >> 32)) + 32 - 5
    else:
        shift = highest_bit(<uint32_t> ns) - 5
    return shift * 32 + <uint32_t> (ns >> shift)


cdef inline uint64_t lower_edge(uint32_t bucket) noexcept nogil:
    """The least that is in the bucket; of BUCKETS, what is too long for any."""
    if bucket < 64:
        return bucket
    return <uint64_t> (bucket % 32 + 32) << (bucket // 32 - 1)


cdef inline double middle(uint32_t bucket) noexcept nogil:
    return (<double> lower_edge(bucket) + <double> (lower_edge(bucket + 1) - 1)) / 2


cdef inline uint32_t pack_number(uint8_t* at, uint64_t number) noexcept nogil:
    cdef uint32_t size = 0
    while number >= 128:
        at[size] = <uint8_t> (number | 128)
        number >>= 7
        size += 1
    at[size] = <uint8_t> number
    return size + 1


cdef inline uint32_t pack(const uint64_t* counts, uint8_t* at) noexcept nogil:
    """Pack all the counts; return how many bytes that took."""
    cdef uint32_t size = 0
    cdef uint32_t bucket, empty = 0
    for bucket in range(BUCKETS):
        if counts[bucket]:
            size += pack_number(at + size, empty)
            size += pack_number(at + size, counts[bucket])
            empty = 0
        else:
            empty += 1
    return size


cdef inline const uint8_t* next_number(
    const uint8_t* at, const uint8_t* end, uint64_t* number
) noexcept nogil:
    cdef uint32_t shift = 0
    number[0] = 0
    while at < end:
        number[0] |= <uint64_t> (at[0] & 127) << shift
        at += 1
        if at[-1] < 128:
            break
        shift = (shift + 7) & 63
    return at


cdef inline uint64_t unpack(
    const uint8_t* packed, size_t size, uint64_t* counts
) noexcept nogil:
    """Add what was packed to the counts; return how many there were in all."""
    cdef const uint8_t* end = packed + size
    cdef uint64_t empty, count
    cdef uint64_t bucket = 0
    cdef uint64_t total = 0
    while packed < end:
        packed = next_number(packed, end, &empty)
        packed = next_number(packed, end, &count)
        bucket += empty
        if bucket >= BUCKETS:
            break
        counts[bucket] += count
        total += count
        bucket += 1
    return total
