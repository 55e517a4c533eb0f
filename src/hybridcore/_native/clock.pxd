"""C declarations of clock.h."""

from libc.stdint cimport int64_t


cdef extern from "clock.h" nogil:
    int64_t coarse_ns "hc_coarse_ns"() noexcept
