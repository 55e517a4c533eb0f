"""Locks of keys, for who takes them natively."""

from libc.stdint cimport uint64_t

from hybridcore._native.generation cimport hc_load

cdef extern from "pythread.h":
    ctypedef void* PyThread_type_lock


cdef class KeyLock:
    cdef PyThread_type_lock lock
    cdef uint64_t owner         # the thread that is inside, 0: nobody
    cdef unsigned int depth
    cdef uint64_t writes        # of what it guards, changed under it

    cdef int c_acquire(self) except -1
    cdef void c_release(self) noexcept


cdef inline bint is_held(KeyLock lock) noexcept:
    """Whether anybody is inside."""
    return hc_load(&lock.owner) != 0
