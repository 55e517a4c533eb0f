"""What a call is known by, what is kept of one that raised, and how a coroutine tells it."""

from cpython.object cimport PyObject

cimport cython

cdef extern from "Python.h":
    PyObject* Py_TYPE(PyObject* o) noexcept
    void Py_XDECREF(PyObject* o) noexcept
    int PyException_SetTraceback(PyObject* error, PyObject* traceback) noexcept
    void PyErr_SetObject(PyObject* kind, PyObject* value) noexcept


@cython.final
cdef class Call:
    cdef readonly object store, era, key
    cdef Py_hash_t hash


@cython.final
cdef class Raised:
    cdef readonly object error


@cython.final
cdef class Answered:
    cdef object value       # ENDED when it was awaited


cdef void stop_with(PyObject* value) noexcept


cdef inline PyObject* raise_again(PyObject* raised) noexcept:
    """Raise the error without what former callers have left in its traceback; takes ``raised``."""
    error = (<Raised> raised).error
    PyException_SetTraceback(<PyObject*> error, <PyObject*> None)
    PyErr_SetObject(Py_TYPE(<PyObject*> error), <PyObject*> error)
    Py_XDECREF(raised)
    return NULL


cdef inline Answered answered(object value):
    """The coroutine of a hit."""
    cdef Answered coroutine = Answered.__new__(Answered)
    coroutine.value = value
    return coroutine
