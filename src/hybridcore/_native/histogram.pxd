"""Histograms, for the modules that record natively."""

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

from hybridcore._native.buckets cimport BUCKETS

cdef enum:
    MOST_SLICES = 32
    MOST_OUTLIERS = 16


# What was recorded in a stretch of time that is over.
cdef struct Slice:
    int64_t since, until    # ns of the coarse clock
    uint64_t sum            # ns
    uint32_t size           # bytes that its packed counts take


cdef struct Outlier:
    uint64_t ns
    int64_t at              # ns of the coarse clock


cdef class Histogram:
    cdef uint32_t counts[BUCKETS]   # of the slice that is not over
    cdef uint64_t sum               # ns, of the same
    cdef int64_t since, until       # ns of the coarse clock; from `until` on it is over
    cdef int64_t made
    cdef uint64_t remarkable        # ns from which on a record is an outlier
    cdef bint knows_usual           # what is remarkable was learned of a slice that is over
    cdef uint64_t noted             # outliers ever
    cdef Outlier longest[MOST_OUTLIERS]
    cdef uint32_t slices
    cdef Slice past[MOST_SLICES]    # oldest first
    cdef uint8_t* packed            # their counts, in the same order
    cdef object timer               # callable in seconds, None: the native coarse clock
    cdef object __weakref__


cdef int64_t start_timing() noexcept
cdef double seconds_since(int64_t start) noexcept
cdef void end_timing(Histogram histogram, int64_t start, uint32_t weight) noexcept
cdef void c_record(Histogram histogram, uint64_t ns, uint32_t weight) noexcept
