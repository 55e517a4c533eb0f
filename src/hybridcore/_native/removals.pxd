"""Entries that have left the table and wait to be told of and released when it is consistent."""

from cpython.mem cimport PyMem_RawRealloc
from cpython.object cimport PyObject
from libc.stdint cimport uint8_t, uint32_t

cdef enum:
    FEW = 8                 # kept on the C stack; more go to the heap


cdef struct Removal:
    PyObject* key
    PyObject* value
    PyObject* note
    uint8_t cause


cdef struct Removals:
    Removal few[8]
    Removal* many
    uint32_t count
    uint32_t room


cdef inline void removals_init(Removals* removals) noexcept nogil:
    removals.many = NULL
    removals.count = 0
    removals.room = FEW


cdef inline Removal* removals_next(Removals* removals) noexcept nogil:
    """Where the next removal goes, NULL when memory is out."""
    cdef Removal* grown
    if removals.count == removals.room:
        grown = <Removal*> PyMem_RawRealloc(
            removals.many, 2 * removals.room * sizeof(Removal)
        )
        if grown == NULL:
            return NULL
        removals.many = grown
        removals.room = 2 * removals.room
    removals.count += 1
    if removals.count <= FEW:
        return &removals.few[removals.count - 1]
    return &removals.many[removals.count - 1]


cdef inline Removal* removal_at(Removals* removals, uint32_t i) noexcept nogil:
    return &removals.few[i] if i < FEW else &removals.many[i]
