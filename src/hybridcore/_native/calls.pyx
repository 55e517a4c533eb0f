"""What stands in the place of a function decorated by `hybridcore.compat.cachetools`.

A call looks, calls the function and stores; by itself, under a lock, or waiting for the thread
that makes the same call. It goes by the methods of the cache, which may be any mapping, but a hit
in one of ours is found without making a key.
"""

from functools import partial

from cpython.object cimport PyObject
from libc.stdint cimport int64_t

from hybridcore._native.bounded cimport plain_store
from hybridcore._native.call cimport (
    PyTuple_GET_ITEM, Py_INCREF, Py_XDECREF, hash_call, key_tuple, known_of_many, named_in,
)
from hybridcore._native.memory cimport MemoryStore
from hybridcore._native.objects cimport likely, mix

cimport cython

cdef extern from "Python.h":
    ctypedef void* vectorcallfunc
    ctypedef struct TypeSlots "PyTypeObject":
        unsigned long tp_flags
        Py_ssize_t tp_vectorcall_offset
        void* tp_call

    unsigned long Py_TPFLAGS_HAVE_VECTORCALL
    void PyType_Modified(TypeSlots* kind) noexcept
    int PyUnicode_Compare(PyObject* a, PyObject* b) noexcept
    PyObject* PyVectorcall_Call(PyObject* function, PyObject* args, PyObject* kwargs) except NULL
    Py_ssize_t PyVectorcall_NARGS(size_t nargsf) noexcept
    PyObject* PyObject_Vectorcall(
        PyObject* function, PyObject* const* args, size_t nargsf, PyObject* names
    ) except NULL


# The arguments of one call, as C has them.
cdef struct Arguments:
    PyObject* const* items
    size_t nargsf
    PyObject* names


@cython.no_gc_clear     # a call relies on its members
cdef class Calls:
    """The base of every wrapper.

    Of a method, ``cache``, ``lock`` and ``condition`` are functions of the instance. With a
    ``mark``, a key is the tuple of the positional arguments; then, if there are keywords, the
    mark and each name with its value, sorted.
    """

    cdef vectorcallfunc entry
    cdef object function
    cdef object key_function
    cdef object given_cache, given_lock, given_condition
    cdef object instance
    cdef bint bound
    cdef object mark
    cdef Py_hash_t mark_hash
    cdef int64_t hits, misses
    cdef set pending
    cdef dict __dict__
    cdef object __weakref__

    @classmethod
    def _native_own_call(cls):
        """Let the interpreter call instances of a subclass as directly as Python 3.12 does."""
        cdef TypeSlots* kind = <TypeSlots*> <PyObject*> cls
        kind.tp_flags |= Py_TPFLAGS_HAVE_VECTORCALL
        PyType_Modified(kind)

    def __cinit__(self, *args):
        self.entry = <vectorcallfunc> <void*> enter_call
        self.pending = set()

    def _native_open(self, function, cache, key, lock, condition, mark, instance=None, /):
        self.function = function
        self.key_function = key
        self.given_cache = cache
        self.given_lock = condition if lock is None else lock
        self.given_condition = condition
        self.mark = mark
        self.mark_hash = hash(mark)
        self.instance = instance
        self.bound = instance is not None
        if self.bound:
            self.key_function = partial(key, instance)

    def __call__(self, /, *args, **kwargs):
        return taken(PyVectorcall_Call(<PyObject*> self, <PyObject*> args, <PyObject*> kwargs))

    @property
    def cache(self):
        """The mapping that has the results."""
        return of_instance(self, self.given_cache)

    @property
    def cache_key(self):
        """The function that makes the key of a call."""
        return self.key_function

    @property
    def cache_lock(self):
        """What is held while the cache is looked into or changed, or None."""
        return of_instance(self, self.given_lock)

    @property
    def cache_condition(self):
        """What a call waits on while another thread makes the same one, or None."""
        return of_instance(self, self.given_condition)

    def cache_clear(self):
        """Forget every result."""
        if self.given_lock is None:
            forget(self)
        else:
            with of_instance(self, self.given_lock):
                forget(self)

    def _native_counts(self):
        return self.hits, self.misses


cdef PyObject* enter_call(
    Calls self, PyObject* const* args, size_t nargsf, PyObject* names
) except NULL:
    cdef Arguments call
    cdef PyObject* value
    call.items = args
    call.nargsf = nargsf
    call.names = names
    if self.given_lock is None:
        value = known(self, &call)
        if likely(value != NULL):
            self.hits += 1
            return value
        found = call_freely(self, &call)
    elif self.given_condition is None:
        found = call_locked(self, &call)
    else:
        found = call_waiting(self, &call)
    Py_INCREF(<PyObject*> found)
    return <PyObject*> found


cdef object call_freely(Calls self, Arguments* call):
    cache, key = of_instance(self, self.given_cache), key_of(self, call)
    try:
        value = cache[key]
    except KeyError:
        self.misses += 1
    else:
        self.hits += 1
        return value
    value = called(self, call)
    try:
        cache[key] = value
    except ValueError:      # too large
        pass
    return value


cdef object call_locked(Calls self, Arguments* call):
    """The first value stored is everyone's."""
    cdef PyObject* there
    cache, lock = of_instance(self, self.given_cache), of_instance(self, self.given_lock)
    cdef bint plain = is_plain(self, call)
    key = None if plain else key_of(self, call)
    with lock:
        there = known(self, call)
        if likely(there != NULL):
            self.hits += 1
            return taken(there)
        if plain:
            key = key_of(self, call)
        try:
            value = cache[key]
        except KeyError:
            self.misses += 1
        else:
            self.hits += 1
            return value
    value = called(self, call)
    with lock:
        try:
            return cache.setdefault(key, value)
        except ValueError:      # too large
            return value


cdef object call_waiting(Calls self, Arguments* call):
    cdef PyObject* there
    cache, lock = of_instance(self, self.given_cache), of_instance(self, self.given_lock)
    condition = of_instance(self, self.given_condition)
    cdef bint plain = is_plain(self, call)
    key = None if plain else key_of(self, call)
    with lock:
        if plain and self.pending:
            key = key_of(self, call)
        while self.pending and key in self.pending:
            condition.wait()
        there = known(self, call)
        if likely(there != NULL):
            self.hits += 1
            return taken(there)
        if plain:
            key = key_of(self, call)
        try:
            value = cache[key]
        except KeyError:
            self.pending.add(key)
            self.misses += 1
        else:
            self.hits += 1
            return value
    try:
        value = called(self, call)
        with lock:
            try:
                cache[key] = value
            except ValueError:      # too large
                pass
        return value
    finally:
        with lock:
            self.pending.remove(key)
            condition.notify_all()


cdef PyObject* known(Calls self, Arguments* call) except? NULL:
    """A new reference to the result; NULL where the cache is to be asked by its own methods."""
    cdef MemoryStore store
    cdef Py_ssize_t count = PyVectorcall_NARGS(call.nargsf)
    if not is_plain(self, call):
        return NULL
    store = plain_store(
        self.given_cache(self.instance) if self.bound else self.given_cache
    )
    if store is None:
        return NULL
    return known_of_many(
        store, call.items, count, call.names, <PyObject*> self.mark,
        mix(hash_call(call.items, count, call.names, self.mark_hash)),
    )


cdef inline bint is_plain(Calls self, Arguments* call) noexcept:
    """Whether the key of the call has its arguments in the order they are in."""
    cdef Py_ssize_t i
    if self.mark is None:
        return False
    for i in range(named_in(call.names) - 1):
        if PyUnicode_Compare(
            PyTuple_GET_ITEM(call.names, i), PyTuple_GET_ITEM(call.names, i + 1)
        ) >= 0:
            return False
    return True


cdef inline object of_instance(Calls self, object given):
    return given(self.instance) if self.bound and given is not None else given


cdef object key_of(Calls self, Arguments* call):
    if is_plain(self, call):
        return taken(key_tuple(
            call.items, PyVectorcall_NARGS(call.nargsf), call.names, False, <PyObject*> self.mark
        ))
    return taken(PyObject_Vectorcall(
        <PyObject*> self.key_function, call.items, call.nargsf, call.names
    ))


cdef object called(Calls self, Arguments* call):
    return taken(PyObject_Vectorcall(
        <PyObject*> self.function, call.items, call.nargsf, call.names
    ))


cdef int forget(Calls self) except -1:
    of_instance(self, self.given_cache).clear()
    self.hits = self.misses = 0
    return 0


cdef inline object taken(PyObject* owned):
    """An owned reference as an object."""
    found = <object> owned
    Py_XDECREF(owned)
    return found


cdef int install_slots() except -1:
    """Set what Cython has no syntax for."""
    cdef TypeSlots* kind = <TypeSlots*> <PyObject*> Calls
    cdef Calls one = Calls()
    kind.tp_vectorcall_offset = <char*> &one.entry - <char*> <PyObject*> one
    kind.tp_call = <void*> PyVectorcall_Call
    kind.tp_flags |= Py_TPFLAGS_HAVE_VECTORCALL
    PyType_Modified(kind)
    return 0


install_slots()
