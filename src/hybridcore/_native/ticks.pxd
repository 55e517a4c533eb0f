"""C declarations of ticks.h."""

from libc.stdint cimport int64_t


cdef extern from "ticks.h" nogil:
    ctypedef struct TickRate "hc_tick_rate":
        int counts
        double ns
    int64_t read_ticks "hc_ticks"(const TickRate* rate) noexcept
    void learn_rate "hc_learn_rate"(TickRate* rate) noexcept
