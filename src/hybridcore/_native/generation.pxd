"""The word that tells of invalidations, for the modules that compare it on their hit path."""

from libc.stdint cimport uint64_t

cdef extern from *:
    """
    #define hc_load(word) __atomic_load_n(word, __ATOMIC_ACQUIRE)
    #define hc_swap(word, expected, wanted) \\
        __atomic_compare_exchange_n(word, expected, wanted, 0, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE)
    """
    uint64_t hc_load(const uint64_t* word) nogil
    bint hc_swap(uint64_t* word, uint64_t* expected, uint64_t wanted) nogil


cdef class Generation:
    cdef uint64_t* word         # of all processes, or of this object alone
    cdef uint64_t seen          # up to where the log was read here
    cdef uint64_t own
    cdef bint never             # whether the word never matches
    cdef public bint raised         # whether anything at all has a barrier
    cdef public bint minds_loads    # whether a load of another value may concern anybody
    cdef Py_buffer buffer       # of the memory that the word lies in, unless it is the own

    cdef void _let_go(self)


cdef inline bint is_current(Generation generation) noexcept nogil:
    """Whether nothing was invalidated elsewhere since the log was read here."""
    return hc_load(generation.word) == generation.seen
