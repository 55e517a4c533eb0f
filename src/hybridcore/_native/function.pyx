"""A function with a cache: the object that ``lru_cache`` and ``cached`` put in its place."""

import weakref
from functools import partial
from types import MethodType

from cpython.object cimport PyObject
from libc.stdint cimport uint32_t, uint64_t

from hybridcore._native.call cimport (
    PyTuple_GET_SIZE, Py_INCREF, Py_TYPE, Py_XDECREF, hash_call, is_own_key, key_tuple,
    known_of_many, known_of_one,
)
from hybridcore._native.memory cimport (
    MemoryStore, lookup_asking, lookup_hashed, lookup_probing, store_put_hashed,
)
from hybridcore._native.objects cimport likely, mix, object_hash, unlikely
from hybridcore._native.outcome cimport Raised, answered, raise_again
from hybridcore._native.table cimport UNDECIDED, table_find

from hybridcore.errors import ValueTooLargeError
from hybridcore.types import CacheInfo

cimport cython

cdef extern from "Python.h":
    ctypedef void* vectorcallfunc
    ctypedef struct TypeSlots "PyTypeObject":
        unsigned long tp_flags
        Py_ssize_t tp_vectorcall_offset
        void* tp_call

    unsigned long Py_TPFLAGS_HAVE_VECTORCALL
    unsigned long Py_TPFLAGS_METHOD_DESCRIPTOR
    void PyType_Modified(TypeSlots* kind) noexcept
    PyObject* PyVectorcall_Call(PyObject* function, PyObject* args, PyObject* kwargs) except NULL
    Py_ssize_t PyVectorcall_NARGS(size_t nargsf) noexcept
    PyObject* PyObject_Vectorcall(
        PyObject* function, PyObject* const* args, size_t nargsf, PyObject* names
    ) noexcept
    PyObject* PyDict_GetItemWithError(PyObject* mapping, PyObject* key) except? NULL
    void PyErr_Fetch(PyObject** kind, PyObject** error, PyObject** traceback) noexcept
    void PyErr_NormalizeException(
        PyObject** kind, PyObject** error, PyObject** traceback
    ) noexcept
    void PyErr_Restore(PyObject* kind, PyObject* error, PyObject* traceback) noexcept
    int PyException_SetTraceback(PyObject* error, PyObject* traceback) noexcept

cdef extern from *:
    """
    #define hc_tuple_items(tuple) (((PyTupleObject *)(tuple))->ob_item)
    """
    PyObject** tuple_items "hc_tuple_items"(PyObject* items) noexcept

cdef class CachedFunction

ctypedef PyObject* (*missed)(
    CachedFunction self, PyObject* store, PyObject* new_key, uint32_t hash,
    PyObject* const* args, size_t nargsf, PyObject* names,
) noexcept

cdef object MARK = object()     # between the positional arguments and the keywords of a key
cdef PyObject* mark = <PyObject*> MARK
cdef Py_hash_t mark_hash = hash(MARK)


@cython.final
@cython.no_gc_clear     # its members stay usable: whatever cycle it is in has another way to open
cdef class CachedFunction:
    """A function that remembers its results, made by `lru_cache` and `cached`.

    Without ``loads`` it behaves as functools does: a miss calls the function and keeps the result.
    With it, a miss asks ``loads`` first, which knows who else is calling, and what is to be kept.
    """

    cdef vectorcallfunc entry
    cdef missed miss
    cdef object function
    cdef object make_store          # callable without arguments
    cdef object bound               # maxsize as cache_info() shows it
    cdef object key_function        # or None
    cdef object loads               # or None
    cdef object parameters
    cdef object instances           # {id: (weak reference, store)}, None: one store for all calls
    cdef MemoryStore store
    cdef bint typed
    cdef bint is_async
    cdef bint finds_methods         # gives every instance a store when found in a class
    cdef dict __dict__
    cdef object __weakref__

    def __cinit__(
        self, function, make_store, bound, bint typed, key_function, loads, parameters,
        bint is_async, per_instance, /,
    ):
        if not callable(function):
            raise TypeError("the first argument must be callable")
        self.function = function
        self.make_store = make_store
        self.store = make_store()
        self.bound = bound
        self.typed = typed
        self.key_function = key_function
        self.loads = loads
        self.parameters = parameters
        self.is_async = is_async
        self.finds_methods = per_instance is None
        self.instances = {} if per_instance else None
        choose_entry(self)

    def __call__(self, /, *args, **kwargs):
        return taken(PyVectorcall_Call(<PyObject*> self, <PyObject*> args, <PyObject*> kwargs))

    def __set_name__(self, owner, name, /):
        if self.finds_methods and self.instances is None:
            # A function that was made elsewhere is only called by another name here.
            if getattr(self, "__qualname__", "").rpartition(".")[0] == owner.__qualname__:
                self.instances = {}
                choose_entry(self)

    def __get__(self, instance, owner, /):
        if instance is None:
            return self
        if self.loads is None or isinstance(instance, type):
            return MethodType(self, instance)
        return self.loads.bind(self, instance)

    # -- the cache ------------------------------------------------------------------------------

    @property
    def cache(self):
        """The cache behind the function; of a method with a cache per instance, an unused one."""
        return self.store

    def cache_of(self, instance, /):
        """Return the cache of one instance; the common one if there is only that."""
        return self.store if self.instances is None else store_of(self, instance)

    def cache_info(self):
        """Return hits, misses, maxsize and currsize as functools does.

        A method with a cache per instance adds up those of the living instances.
        """
        return info(self, stores_of(self))

    def info_of(self, instance, /):
        """Return `cache_info` of one instance."""
        return info(self, [self.cache_of(instance)])

    def cache_clear(self):
        """Forget every result and set the counters to zero."""
        clear(self, stores_of(self))

    def clear_of(self, instance, /):
        """Forget the results of one instance."""
        clear(self, [self.cache_of(instance)])

    def cache_parameters(self):
        """Return what the function was decorated with, as a dict."""
        return dict(self.parameters)

    def cache_key(self, /, *args, **kwargs):
        """Return the key under which the result of this call is kept."""
        return place(self, args, kwargs)[1]

    # -- one call ---------------------------------------------------------------------------------

    def get(self, /, *args, default=None, **kwargs):
        """Return the result kept of this call, or ``default``; the function is not called.

        Counts a hit or a miss. If it is an error that is kept, raises it.
        """
        cdef PyObject* value
        store, key, hash = place(self, args, kwargs)
        if not lookup_hashed(<MemoryStore> store, <PyObject*> key, hash, &value):
            return default
        found = <object> value
        if type(found) is Raised:
            raise (<Raised> found).error.with_traceback(None)
        return found

    def set(self, value, /, *args, **kwargs):
        """Keep ``value`` as the result of this call."""
        store, key, hash = place(self, args, kwargs)
        if self.loads is None:
            keep(store, key, hash, value)
        else:
            self.loads.set(store, key, hash, value)

    def invalidate(self, /, *args, **kwargs):
        """Forget the result of this call; return whether there was one.

        What a call under way brings is handed to its callers and not kept.
        """
        store, key, hash = place(self, args, kwargs)
        if self.loads is None:
            return store.discard(key)
        return self.loads.invalidate(store, key, hash)

    def refresh(self, /, *args, **kwargs):
        """Call the function anew, keep its result, and return it.

        Until it is there, other callers get the former one.
        """
        store, key, hash = place(self, args, kwargs)
        if self.loads is None:
            value = self.function(*args, **kwargs)
            keep(store, key, hash, value)
            return value
        if self.is_async:
            return self.loads.load_async(self.function, args, kwargs, store, key, hash, True)
        return self.loads.refresh(self.function, args, kwargs, store, key, hash)

    # -- as other functions -----------------------------------------------------------------------

    def __reduce__(self):
        return self.__qualname__

    def __copy__(self):
        return self

    def __deepcopy__(self, memo, /):
        return self

    def __repr__(self):
        return f"<cached {self.function!r}>"


# -- calling ------------------------------------------------------------------------------------
#
# The decorated function is called where its error leaves as it came, without a line of ours in its
# traceback: NULL is returned by hand, and passed on by functions that are called as if they never
# raised anything. What a miss does is behind a pointer, and so outside of the frame of a hit.

ctypedef PyObject* (*passed_on)(
    CachedFunction self, PyObject* const* args, size_t nargsf, PyObject* names
) noexcept


cdef void choose_entry(CachedFunction self) noexcept:
    self.miss = <missed> (<void*> call_and_keep if self.loads is None else <void*> call_and_load)
    if self.loads is None and self.bound == 0:
        self.entry = <vectorcallfunc> <void*> call_uncached
    elif self.is_async or self.key_function is not None or self.instances is not None:
        self.entry = <vectorcallfunc> <void*> call_variously
    elif self.typed:
        self.entry = <vectorcallfunc> <void*> call_with_any
    else:
        self.entry = <vectorcallfunc> <void*> call_with_one


cdef PyObject* call_uncached(
    CachedFunction self, PyObject* const* args, size_t nargsf, PyObject* names
) except NULL:
    self.store.misses += 1
    return PyObject_Vectorcall(<PyObject*> self.function, args, nargsf, names)


cdef PyObject* call_with_one(
    CachedFunction self, PyObject* const* args, size_t nargsf, PyObject* names
) except NULL:
    """A call that may have one str or int, where a hit needs no other function."""
    cdef PyObject* store = <PyObject*> self.store       # as long as self
    cdef PyObject* value
    if likely(PyVectorcall_NARGS(nargsf) == 1 and names == NULL):
        value = known_of_one(<MemoryStore> store, args[0])
        if likely(value != NULL):
            return value
        if is_own_key(args, 1, NULL):
            return (<passed_on> <void*> call_with_any)(self, args, nargsf, names)
    return (<passed_on> <void*> call_with_many)(self, args, nargsf, names)


cdef PyObject* call_with_many(
    CachedFunction self, PyObject* const* args, size_t nargsf, PyObject* names
) except NULL:
    """A call whose key is a tuple, which a hit seldom needs to make."""
    cdef PyObject* store = <PyObject*> self.store       # as long as self
    cdef Py_ssize_t count = PyVectorcall_NARGS(nargsf)
    cdef uint32_t hash = mix(hash_call(args, count, names, mark_hash))
    cdef PyObject* value = known_of_many(<MemoryStore> store, args, count, names, mark, hash)
    cdef PyObject* key
    if likely(value != NULL):
        return value
    key = key_tuple(args, count, names, False, mark)
    return (<missed> <void*> call_with_key)(self, store, key, hash, args, nargsf, names)


cdef PyObject* call_with_any(
    CachedFunction self, PyObject* const* args, size_t nargsf, PyObject* names
) except NULL:
    cdef PyObject* store = <PyObject*> self.store       # as long as self
    cdef Py_ssize_t count = PyVectorcall_NARGS(nargsf)
    cdef PyObject* key = key_of(self, args, count, names)
    cdef Py_hash_t raw = hash_or_let_go(key)
    return (<missed> <void*> call_with_key)(self, store, key, mix(raw), args, nargsf, names)


cdef PyObject* call_with_key(
    CachedFunction self, PyObject* store, PyObject* new_key, uint32_t hash,
    PyObject* const* args, size_t nargsf, PyObject* names,
) except NULL:
    cdef PyObject* value = NULL
    if look_up_key(<MemoryStore> store, new_key, hash, &value):
        return value if likely(Py_TYPE(value) != <PyObject*> Raised) else raise_again(value)
    return self.miss(self, store, new_key, hash, args, nargsf, names)


cdef PyObject* call_and_keep(
    CachedFunction self, PyObject* store, PyObject* new_key, uint32_t hash,
    PyObject* const* args, size_t nargsf, PyObject* names,
) except NULL:
    key = taken(new_key)
    cdef PyObject* value = PyObject_Vectorcall(<PyObject*> self.function, args, nargsf, names)
    if value == NULL:
        return NULL
    result = taken(value)
    # An entry that a bounded cache has got of this key meanwhile stays.
    if self.bound is None or table_find(&self.store.table, <PyObject*> key, hash) < 0:
        keep(self.store, key, hash, result)
    return given(result)


cdef PyObject* call_and_load(
    CachedFunction self, PyObject* store, PyObject* new_key, uint32_t hash,
    PyObject* const* args, size_t nargsf, PyObject* names,
) except NULL:
    key = taken(new_key)
    load = self.loads.begin(<MemoryStore> store, key, hash, False)
    if type(load) is tuple:         # another caller has brought it
        return given((<tuple> load)[0])
    cdef PyObject* value = PyObject_Vectorcall(<PyObject*> self.function, args, nargsf, names)
    if value == NULL:
        fail(self, load)
        return NULL
    result = taken(value)
    if load is not None:
        self.loads.landed(load, result)
    return given(result)


cdef PyObject* call_variously(
    CachedFunction self, PyObject* const* args, size_t nargsf, PyObject* names
) except NULL:
    """A call of a method, of a coroutine function, or with a key function."""
    cdef Py_ssize_t count = PyVectorcall_NARGS(nargsf)
    cdef PyObject* key = NULL
    cdef PyObject* value = NULL
    cdef uint32_t hash = 0
    cdef Py_ssize_t first = 0
    cdef MemoryStore store = self.store
    cdef bint found
    if self.instances is not None and count > 0:
        store = store_of(self, <object> args[0])
        first = 1
    if self.key_function is None:
        found = look_up(self, store, args + first, count - first, names, &key, &hash, &value)
    else:
        key = PyObject_Vectorcall(<PyObject*> self.key_function, args, nargsf, names)
        if key == NULL:
            return NULL
        hash = mix(hash_or_let_go(key))
        found = look_up_key(store, key, hash, &value)
    if found:
        if self.is_async:
            return given(answered(taken(value)))
        return value if likely(Py_TYPE(value) != <PyObject*> Raised) else raise_again(value)
    if self.is_async:
        return given(self.loads.load_async(
            self.function, positional(args, count), keywords(args, count, names), store,
            taken(key), hash, False,
        ))
    return self.miss(self, <PyObject*> store, key, hash, args, nargsf, names)


cdef inline object taken(PyObject* owned):
    """An owned reference as an object."""
    found = <object> owned
    Py_XDECREF(owned)
    return found


cdef inline PyObject* given(object found) noexcept:
    """A new reference for the caller."""
    Py_INCREF(<PyObject*> found)
    return <PyObject*> found


cdef int look_up(
    CachedFunction self, MemoryStore store, PyObject* const* args, Py_ssize_t count,
    PyObject* names, PyObject** key, uint32_t* hash, PyObject** value,
) except -1:
    """1 and a new reference to the value, or 0 and one to the key."""
    if self.typed or is_own_key(args, count, names):
        key[0] = key_of(self, args, count, names)
        hash[0] = mix(hash_or_let_go(key[0]))
    else:
        hash[0] = mix(hash_call(args, count, names, mark_hash))
        value[0] = known_of_many(store, args, count, names, mark, hash[0])
        if likely(value[0] != NULL):
            return 1
        key[0] = key_tuple(args, count, names, False, mark)
    return look_up_key(store, key[0], hash[0], value)


cdef int look_up_key(
    MemoryStore store, PyObject* new_key, uint32_t hash, PyObject** value
) except -1:
    """`look_up` of a ready key, whose reference is taken unless it is a miss."""
    cdef int found = lookup_probing(store, new_key, hash, value)
    if unlikely(found == UNDECIDED):
        try:
            found = lookup_asking(store, new_key, hash, value)
        except BaseException:
            Py_XDECREF(new_key)
            raise
    if found:
        Py_XDECREF(new_key)
    return found


cdef inline PyObject* key_of(
    CachedFunction self, PyObject* const* args, Py_ssize_t count, PyObject* names
) except NULL:
    """A new reference to the key of a call."""
    if self.typed or not is_own_key(args, count, names):
        return key_tuple(args, count, names, self.typed, mark)
    Py_INCREF(args[0])
    return args[0]


cdef inline Py_hash_t hash_or_let_go(PyObject* new_key) except -1:
    try:
        return object_hash(new_key)
    except BaseException:
        Py_XDECREF(new_key)
        raise


cdef tuple place(CachedFunction self, tuple args, dict kwargs):
    """The store of a call, its key and the mixed hash of that."""
    cdef MemoryStore store = self.store
    cdef tuple names = tuple(kwargs)
    cdef tuple rest = args
    cdef tuple values
    cdef PyObject* c_names = <PyObject*> names if names else NULL
    if self.instances is not None and args:
        store = store_of(self, args[0])
        rest = args[1:]
    if self.key_function is not None:
        key = self.key_function(*args, **kwargs)
    else:
        values = rest + tuple(kwargs.values())
        key = taken(key_of(self, tuple_items(<PyObject*> values), len(rest), c_names))
    return store, key, mix(object_hash(<PyObject*> key))


cdef object info(CachedFunction self, list stores):
    cdef uint64_t hits = 0
    cdef uint64_t misses = 0
    cdef uint64_t size = 0
    cdef MemoryStore store
    for store in stores:
        store.expire()
        hits += store.hits
        misses += store.misses
        size += store.size
    return CacheInfo(hits, misses, self.bound, size)


cdef int clear(CachedFunction self, list stores) except -1:
    cdef MemoryStore store
    if self.loads is not None:
        self.loads.forget()
    for store in stores:
        store.hits = 0
        store.misses = 0
        store.clear()
    return 0


cdef list stores_of(CachedFunction self):
    """Every store of the function."""
    if self.instances is None:
        return [self.store]
    return [store for _, store in list(self.instances.values())]


cdef tuple positional(PyObject* const* args, Py_ssize_t count):
    return taken(key_tuple(args, count, NULL, False, NULL))


cdef dict keywords(PyObject* const* args, Py_ssize_t count, PyObject* names):
    cdef dict found = {}
    cdef Py_ssize_t i
    if names != NULL:
        for i in range(PyTuple_GET_SIZE(names)):
            found[(<tuple> names)[i]] = <object> args[count + i]
    return found


cdef MemoryStore store_of(CachedFunction self, object instance):
    """The store of one instance, which goes when the instance goes."""
    cdef object address = <size_t> <PyObject*> instance
    cdef PyObject* found = PyDict_GetItemWithError(
        <PyObject*> self.instances, <PyObject*> address
    )
    if likely(found != NULL):
        return <MemoryStore> (<tuple> found)[1]
    try:
        reference = weakref.ref(instance, partial(self.instances.pop, address))
    except TypeError:
        raise TypeError(
            f"{type(instance).__name__} objects cannot be weakly referenced, so they cannot each "
            'have a cache. Add "__weakref__" to __slots__, or decorate with per_instance=False.'
        ) from None
    return self.instances.setdefault(address, (reference, self.make_store()))[1]


# -- keeping ------------------------------------------------------------------------------------

cdef int keep(MemoryStore store, object key, uint32_t hash, object value) except -1:
    try:
        store_put_hashed(store, key, hash, value, 1, 0, 0, 1.0, 1.0, NULL)
    except ValueTooLargeError:      # maxsize is 0
        pass
    return 0


cdef int fail(CachedFunction self, object load) except -1:
    """Tell the loads what the function raised, and leave it raised."""
    cdef PyObject* kind
    cdef PyObject* error
    cdef PyObject* traceback
    if load is None:
        return 0
    PyErr_Fetch(&kind, &error, &traceback)
    PyErr_NormalizeException(&kind, &error, &traceback)
    if traceback != NULL:
        PyException_SetTraceback(error, traceback)
    try:
        self.loads.failed(load, <object> error)
    except BaseException:
        Py_XDECREF(kind)
        Py_XDECREF(error)
        Py_XDECREF(traceback)
        raise
    PyErr_Restore(kind, error, traceback)
    return 0


cdef int install_slots() except -1:
    """Set what Cython has no syntax for."""
    cdef TypeSlots* function = <TypeSlots*> <PyObject*> CachedFunction
    cdef CachedFunction one = CachedFunction(
        len, partial(MemoryStore.__new__, MemoryStore), None, False, None, None, None, False, False,
    )
    function.tp_vectorcall_offset = <char*> &one.entry - <char*> <PyObject*> one
    function.tp_call = <void*> PyVectorcall_Call
    function.tp_flags |= Py_TPFLAGS_HAVE_VECTORCALL | Py_TPFLAGS_METHOD_DESCRIPTOR
    PyType_Modified(function)
    return 0


install_slots()
