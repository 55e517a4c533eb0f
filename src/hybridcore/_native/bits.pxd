"""C declarations of bits.h."""

from libc.stdint cimport uint32_t, uint64_t


cdef extern from "bits.h" nogil:
    void prefetch "hc_prefetch"(const void* address) noexcept
    uint32_t lowest_bit "hc_lowest_bit"(uint64_t word) noexcept
    uint32_t highest_bit "hc_highest_bit"(uint32_t word) noexcept
    int half_octave "hc_half_octave"(float number) noexcept
    uint32_t four_slots "hc_four_slots"(const void* slots, uint32_t hash)
    uint32_t slot_with "hc_slot_with"(const void* slots, uint32_t number) noexcept
    bint stays "hc_stays"(
        const void* slots, uint32_t position, uint32_t shift, uint32_t mask
    ) noexcept
