"""C declarations of tally.h."""

from libc.stdint cimport int64_t, uint32_t, uint64_t


cdef extern from "tally.h" nogil:
    void add32 "hc_add32"(uint32_t* to, uint32_t n) noexcept
    void add64 "hc_add64"(uint64_t* to, uint64_t n) noexcept
    uint32_t get32 "hc_get32"(uint32_t* of) noexcept
    int64_t get_time "hc_get64"(int64_t* of) noexcept
    uint64_t get64 "hc_get64"(uint64_t* of) noexcept
    void set_time "hc_set64"(int64_t* to, int64_t n) noexcept
    uint32_t take32 "hc_take32"(uint32_t* of) noexcept
    uint64_t take64 "hc_take64"(uint64_t* of) noexcept
