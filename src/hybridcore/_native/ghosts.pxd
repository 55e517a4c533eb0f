"""What is remembered of evicted entries: fingerprints of 8 bytes, no keys and no values.

A table of sets of eight. A new ghost takes a free place in its set or that of the oldest, so the
table needs no upkeep. Two keys may share a fingerprint, one pair in some ten thousand: a habit is
then credited to the wrong one, which costs a bit of precision and nothing else.
"""

from cpython.mem cimport PyMem_RawCalloc, PyMem_RawFree
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t

from hybridcore._native.entry cimport NIL

cdef enum:
    WAYS = 8


cdef struct Ghost:
    uint32_t last           # its last use, on the clock of requests
    uint16_t tag            # odd; 0: no ghost
    uint8_t kind
    uint8_t frequency


cdef struct Ghosts:
    Ghost* places
    uint32_t sets           # a power of two


cdef inline bint ghosts_init(Ghosts* ghosts, uint64_t wanted) noexcept nogil:
    """Room for at least so many; False when memory is out."""
    ghosts.sets = 1
    while <uint64_t> ghosts.sets * WAYS < wanted:
        ghosts.sets *= 2
    ghosts.places = <Ghost*> PyMem_RawCalloc(<size_t> ghosts.sets * WAYS, sizeof(Ghost))
    return ghosts.places != NULL


cdef inline void ghosts_free(Ghosts* ghosts) noexcept nogil:
    PyMem_RawFree(ghosts.places)


cdef inline uint32_t scatter(uint32_t hash) noexcept nogil:
    """Spread consecutive numbers, which the table of entries wants near each other."""
    hash = (hash ^ (hash >> 15)) * <uint32_t> 0x2C1B3C6D
    hash = (hash ^ (hash >> 12)) * <uint32_t> 0x297A2D39
    return hash ^ (hash >> 15)


cdef inline uint16_t ghost_tag(uint32_t scattered) noexcept nogil:
    return <uint16_t> ((scattered >> 16) | 1)


cdef inline Ghost* ghost_set(Ghosts* ghosts, uint32_t scattered) noexcept nogil:
    return ghosts.places + <size_t> (scattered & (ghosts.sets - 1)) * WAYS


cdef inline Ghost* ghost_find(Ghosts* ghosts, uint32_t hash) noexcept nogil:
    """The ghost of a key, NULL when there is none."""
    cdef uint32_t scattered = scatter(hash)
    cdef Ghost* places = ghost_set(ghosts, scattered)
    cdef uint16_t tag = ghost_tag(scattered)
    cdef int way
    for way in range(WAYS):
        if places[way].tag == tag:
            return &places[way]
    return NULL


cdef inline Ghost* ghost_place(Ghosts* ghosts, uint32_t hash, uint32_t now) noexcept nogil:
    """Where the ghost of a key goes: a free place, or that of the oldest of its set."""
    cdef Ghost* places = ghost_set(ghosts, scatter(hash))
    cdef uint32_t age
    cdef uint32_t most = 0
    cdef int oldest = 0
    cdef int way
    for way in range(WAYS):
        age = now - places[way].last if places[way].tag else NIL
        oldest = way if age > most else oldest
        most = age if age > most else most
    return &places[oldest]
