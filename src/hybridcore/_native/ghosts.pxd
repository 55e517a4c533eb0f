"""What is remembered of evicted entries: fingerprints of 8 bytes, no keys and no values.

A table of sets of eight, each in a cache line of its own. A new ghost comes first in its set and
the others move up to a free place, or the last one goes, so the table needs no upkeep. Two keys
may share a fingerprint, one pair in some ten thousand: a habit is then credited to the wrong one,
which costs a bit of precision and nothing else.
"""

from cpython.mem cimport PyMem_RawCalloc, PyMem_RawFree
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t, uintptr_t

cdef enum:
    LINE = 64               # bytes of a set
    NO_WAY = -1


cdef extern from "ghosts.h" nogil:
    enum:
        WAYS "HC_WAYS"      # 8

    ctypedef struct Ghosts "hc_ghosts":
        uint16_t tags[8]    # 0: no ghost
        uint32_t last[8]    # its last use, on the clock of requests
        uint8_t kind[8]
        uint8_t frequency[8]

    int way_of "hc_way_of"(const Ghosts* ghosts, uint16_t tag) noexcept
    void bury "hc_bury"(
        Ghosts* ghosts, uint16_t tag, uint32_t last, uint8_t kind, uint8_t frequency
    ) noexcept


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


cdef inline uint16_t tag_of(uint64_t scattered) noexcept nogil:
    return <uint16_t> (scattered >> 48) | 1
