"""C declarations of objects.h."""

from cpython.object cimport PyObject
from libc.stdint cimport uint32_t


cdef extern from "objects.h" nogil:
    bint likely "hc_likely"(bint condition)
    bint unlikely "hc_unlikely"(bint condition)

    enum:
        DIFFERENT "HC_DIFFERENT"
        EQUAL "HC_EQUAL"
        ASK_PYTHON "HC_ASK_PYTHON"

cdef extern from "objects.h":
    Py_hash_t object_hash "hc_hash"(PyObject* obj) except -1
    uint32_t mix "hc_mix"(Py_hash_t hash) noexcept nogil
    int object_equal "hc_equal"(PyObject* a, PyObject* b) noexcept
