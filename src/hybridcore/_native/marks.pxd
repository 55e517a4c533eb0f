"""Marks of reads in a memory-mapped table; see marks.pyx."""

from libc.stdint cimport uint32_t, uint64_t


cdef struct Mark:
    uint32_t last         # the version of the newest record when it was read, low half
    uint32_t read         # how often, and whose mark it is: frequency | tag << 8


cdef class Marks:
    cdef object mapped        # keeps the memory
    cdef uint64_t* newest     # version of the last write, of whatever process
    cdef Mark* table
    cdef uint64_t mask

    cdef void c_used(self, const char* key, Py_ssize_t size) noexcept
    cdef Mark* c_find(self, const char* key, Py_ssize_t size, uint32_t* tag) noexcept
