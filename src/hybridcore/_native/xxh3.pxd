"""C declarations of xxh3.h."""

from libc.stdint cimport uint8_t, uint64_t


cdef extern from "xxh3.h" nogil:
    uint64_t xxh3 "hc_xxh3"(const uint8_t* data, size_t size) noexcept
    bint xxh3_has_vectors "hc_xxh3_has_vectors"() noexcept
