# cython: freethreading_compatible=True
"""What a call is known by, what is kept of one that raised, and how a coroutine tells it."""

from cpython.object cimport PyObject

from hybridcore._native.objects cimport unlikely

cimport cython

cdef extern from "Python.h":
    ctypedef struct TypeSlots "PyTypeObject":
        void* tp_iternext

    PyObject* PyExc_StopIteration
    PyObject* PyExc_RuntimeError
    void Py_INCREF(PyObject* o) noexcept
    void PyType_Modified(TypeSlots* kind) noexcept
    PyObject* PyObject_CallOneArg(PyObject* function, PyObject* argument) noexcept
    bint PyTuple_Check(PyObject* o) noexcept
    bint PyExceptionInstance_Check(PyObject* o) noexcept
    void PyErr_SetString(PyObject* kind, const char* text) noexcept

cdef object ENDED = object()


@cython.final
cdef class Call:
    """What two calls must have in common to share one load; asks its key for a hash no more."""

    def __cinit__(self, store, era, key, Py_hash_t hash, /):
        self.store = store
        self.era = era
        self.key = key
        self.hash = hash

    def __hash__(self):
        return self.hash

    def __eq__(self, other):
        if type(other) is not Call:
            return NotImplemented
        if self.store is not (<Call> other).store or self.era is not (<Call> other).era:
            return False
        return self.key is (<Call> other).key or bool(self.key == (<Call> other).key)


@cython.final
cdef class Raised:
    """Kept in the place of a result: the error that the function raised."""

    def __init__(self, error, /):
        self.error = error


@cython.final
@cython.freelist(16)
cdef class Answered:
    """The coroutine of a hit: it ends at once, with the value."""

    def __await__(self):
        return self

    def __next__(self):
        finish(self)        # the slot itself is `next_answered`

    def send(self, value, /):
        """End with the value."""
        finish(self)

    def throw(self, kind, value=None, traceback=None, /):
        """Raise what is thrown in."""
        self.value = ENDED
        error = value if value is not None else kind
        if isinstance(error, type):
            error = error()
        raise error if traceback is None else error.with_traceback(traceback)

    def close(self):
        """End without the value."""
        self.value = ENDED


cdef int finish(Answered self) except -1:
    next_answered(self)
    return -1


cdef PyObject* next_answered(Answered self) noexcept:
    """Raise StopIteration with the value, without making one where the interpreter makes none."""
    with cython.critical_section(self):
        value = self.value
        self.value = ENDED
    if unlikely(type(value) is Raised):
        Py_INCREF(<PyObject*> value)
        raise_again(<PyObject*> value)
    elif unlikely(value is ENDED):
        PyErr_SetString(PyExc_RuntimeError, b"cannot reuse already awaited coroutine")
    else:
        stop_with(<PyObject*> value)
    return NULL


cdef void stop_with(PyObject* value) noexcept:
    """Raise StopIteration with the value, as cheaply as the interpreter does."""
    cdef PyObject* error
    if PyTuple_Check(value) or PyExceptionInstance_Check(value):
        error = PyObject_CallOneArg(PyExc_StopIteration, value)
        if error != NULL:
            PyErr_SetObject(PyExc_StopIteration, error)
            Py_XDECREF(error)
    else:
        PyErr_SetObject(PyExc_StopIteration, value)


cdef void install_next() noexcept:
    """Set the slot by hand: one that Cython makes would normalize the StopIteration."""
    cdef TypeSlots* coroutine = <TypeSlots*> <PyObject*> Answered
    coroutine.tp_iternext = <void*> next_answered
    PyType_Modified(coroutine)


install_next()
