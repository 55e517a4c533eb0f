"""What is remembered of evicted entries: fingerprints of 8 bytes, no keys and no values.

A table of sets of eight, each in a cache line of its own. A new ghost takes a free place in its
set or that of the oldest, so the table needs no upkeep. Two keys may share a fingerprint, one pair
in some ten thousand: a habit is then credited to the wrong one, which costs a bit of precision and
nothing else.
"""

from cpython.mem cimport PyMem_RawCalloc, PyMem_RawFree
from libc.stdint cimport uint8_t, uint32_t, uint64_t, uintptr_t

from hybridcore._native.bits cimport lowest_bit

cdef enum:
    WAYS = 8
    LINE = 64               # bytes of a set
    NO_WAY = -1


cdef extern from *:
    """
    #define HC_EVERY_TAG 0x0001000100010001ull
    #define HC_EVERY_TOP 0x8000800080008000ull
    """
    const uint64_t EVERY_TAG "HC_EVERY_TAG"
    const uint64_t EVERY_TOP "HC_EVERY_TOP"


cdef struct Ghosts:
    uint64_t tags[2]        # of 16 bits, the first in the lowest; 0: no ghost
    uint32_t last[8]        # its last use, on the clock of requests
    uint8_t kind[8]
    uint8_t frequency[8]


cdef struct Graveyard:
    Ghosts* sets
    uint32_t mask           # the number of sets, a power of two, less one
    void* block             # what was allocated


cdef inline bint graveyard_init(Graveyard* graveyard, uint64_t wanted) noexcept nogil:
    """Room for at least so many; False when memory is out."""
    cdef size_t sets = 1
    while sets * WAYS < wanted:
        sets *= 2
    graveyard.mask = <uint32_t> (sets - 1)
    graveyard.block = PyMem_RawCalloc(sets + 1, LINE)
    graveyard.sets = <Ghosts*> ((<uintptr_t> graveyard.block + LINE - 1) // LINE * LINE)
    return graveyard.block != NULL


cdef inline void graveyard_free(Graveyard* graveyard) noexcept nogil:
    PyMem_RawFree(graveyard.block)


cdef inline uint64_t scatter(uint32_t hash) noexcept nogil:
    """Spread consecutive numbers, which the table of entries wants near each other."""
    return (hash ^ (hash >> 15)) * <uint64_t> 0xD6E8FEB86659FD93


cdef inline Ghosts* ghosts_of(Graveyard* graveyard, uint64_t scattered) noexcept nogil:
    """The set of a key."""
    return &graveyard.sets[<uint32_t> (scattered >> 20) & graveyard.mask]


cdef inline uint32_t tag_of(uint64_t scattered) noexcept nogil:
    return <uint32_t> (scattered >> 48) | 1


cdef inline int way_of(Ghosts* ghosts, uint32_t tag) noexcept nogil:
    """The first place with the tag, NO_WAY when there is none."""
    cdef uint64_t found = ghosts.tags[0] ^ tag * EVERY_TAG
    found = (found - EVERY_TAG) & ~found & EVERY_TOP    # the lowest bit is that of a zero
    if found:
        return lowest_bit(found) >> 4
    found = ghosts.tags[1] ^ tag * EVERY_TAG
    found = (found - EVERY_TAG) & ~found & EVERY_TOP
    if found:
        return 4 + (lowest_bit(found) >> 4)
    return NO_WAY


cdef inline void set_tag(Ghosts* ghosts, int way, uint32_t tag) noexcept nogil:
    cdef int shift = 16 * (way & 3)
    cdef uint64_t others = ghosts.tags[way >> 2] & ~(<uint64_t> 0xFFFF << shift)
    ghosts.tags[way >> 2] = others | <uint64_t> tag << shift


cdef inline bint is_ghost(Ghosts* ghosts, int way) noexcept nogil:
    return (ghosts.tags[way >> 2] >> 16 * (way & 3) & 0xFFFF) != 0


cdef inline int oldest_way(Ghosts* ghosts, uint32_t now) noexcept nogil:
    """The place of the oldest ghost, to within eight requests."""
    cdef uint32_t oldest = 0
    cdef uint32_t age
    cdef int way
    for way in range(WAYS):
        age = ((now - ghosts.last[way]) & ~<uint32_t> (WAYS - 1)) | <uint32_t> way
        oldest = age if age > oldest else oldest
    return oldest & (WAYS - 1)
