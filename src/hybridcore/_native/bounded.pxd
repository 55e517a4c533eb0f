"""The native half of `hybridcore.compat.cachetools`, for what calls functions there."""

from hybridcore._native.memory cimport MemoryStore


cdef class NestedTimer:
    cdef object function
    cdef object time
    cdef long long depth


cdef class BoundedMapping:
    cdef MemoryStore store
    cdef object order           # the keys in the order of iteration
    cdef dict sizes             # None: every value counts 1
    cdef object total           # of the sizes
    cdef object maxsize_given
    cdef double bound           # the same
    cdef NestedTimer timer      # None: nothing expires
    cdef bint renews            # first in, first out, and a key that is set again is in again
    cdef object __weakref__


cdef MemoryStore plain_store(object cache)
