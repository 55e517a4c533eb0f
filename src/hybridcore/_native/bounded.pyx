"""The native half of `hybridcore.compat.cachetools`: a mapping by the rules of that library.

Its entries are in a `MemoryStore` without a bound, which keeps the order of eviction. What bounds
it is here, since user code takes part in it: eviction calls ``popitem`` and that calls
``__delitem__``, which a subclass may override, and sizes and times are any objects that compare.
"""

from types import GenericAlias

from cpython.object cimport Py_LT, PyObject, PyObject_RichCompareBool
from cpython.ref cimport Py_INCREF, Py_XDECREF
from libc.math cimport INFINITY
from libc.stdint cimport int64_t, uint32_t, uint64_t

from hybridcore._native.entry cimport NIL
from hybridcore._native.fastcall cimport (
    METH_FASTCALL, METH_KEYWORDS, PyMethodDef, add_method, default_argument, own_method,
)
from hybridcore._native.memory cimport MemoryStore, lookup, store_put_hashed
from hybridcore._native.objects cimport likely, mix, object_hash, unlikely
from hybridcore._native.policy cimport (
    policy_coldest, policy_count_uses, policy_free, policy_init, policy_restore,
    policy_touch,
)
from hybridcore._native.recency cimport recency_add, recency_remove
from hybridcore._native.sections cimport take
from hybridcore._native.table cimport Table, table_find, table_need_extras

from hybridcore.errors import ValueTooLargeError

cimport cython

cdef extern from *:
    """
    #define HC_SUBSCRIPT(type) ((void*) (type)->tp_as_mapping->mp_subscript)
    #define HC_CONTAINS(type) ((void*) (type)->tp_as_sequence->sq_contains)
    """
    void* subscript_of "HC_SUBSCRIPT"(PyTypeObject* type)
    void* contains_of "HC_CONTAINS"(PyTypeObject* type)
    ctypedef struct PyTypeObject:
        pass
    PyTypeObject* type_of "Py_TYPE"(object obj)

cdef object MISSING = object()


@cython.final
cdef class NestedTimer:
    """A clock that stands still inside ``with``; nested blocks see the time of the outermost.

    Other attributes are those of the function it reads.
    """

    def __init__(self, function, /):
        self.function = function

    def __call__(self):
        return read(self)

    def __enter__(self):
        self.time = read(self)
        self.depth += 1
        return self.time

    def __exit__(self, *error):
        self.depth -= 1

    def __getattr__(self, str name):
        return getattr(self.function, name)

    def __reduce__(self):
        return NestedTimer, (self.function,)


cdef inline object read(NestedTimer timer):
    return timer.time if timer.depth else timer.function()


cdef bint earlier(object a, object b) except -1:
    if type(a) is float and type(b) is float:
        return (<double> a) < (<double> b)
    return PyObject_RichCompareBool(a, b, Py_LT)


@cython.no_gc_clear     # the store and the dicts break cycles; methods rely on their being there
cdef class BoundedMapping:
    """The base of every class in `hybridcore.compat.cachetools`."""

    def __cinit__(self, *args, **kwargs):
        self.store = MemoryStore.__new__(MemoryStore)
        self.order = {}
        self.total = 0
        self.bound = INFINITY
        self.maxsize_given = INFINITY

    @classmethod
    def __class_getitem__(cls, parameters, /):
        return GenericAlias(cls, parameters)

    @classmethod
    def _native_own_get(cls):
        own_method(cls, &get_definition)

    def _native_open(self, maxsize, str rule, order, timer, bint sized, /):
        """Start empty. ``rule``: lru, lfu, fifo, or arrival, which is fifo without renewal."""
        cdef double bound = maxsize
        cdef Table* table = &self.store.table
        BoundedMapping.clear(self)      # not what a subclass makes of it
        policy_free(&table.policy)
        policy_init(&table.policy)
        if rule == "lfu":
            if not policy_count_uses(&table.policy):
                raise MemoryError()
        else:
            table.policy.recency.by_arrival = rule != "lru"
        self.renews = rule == "fifo"
        self.order = order
        self.timer = None if timer is None else NestedTimer(timer)
        self.sizes = {} if sized else None
        self.maxsize_given = maxsize
        self.bound = bound

    # -- reading ----------------------------------------------------------------------------

    def __getitem__(self, key):
        cdef PyObject* value
        if unlikely(self.timer is not None):
            found = fresh(self, key, True)
            return self.__missing__(key) if found is MISSING else found
        if likely(lookup(self.store, <PyObject*> key, &value)):
            return take(value)
        found = self.__missing__(key)
        touch(self, key)        # a use, if __missing__ has stored it
        return found

    def __missing__(self, key):
        """Called by ``cache[key]`` when the key is not there; a subclass may return a value."""
        raise KeyError(key)

    def __contains__(self, key):
        if self.timer is not None:
            return fresh(self, key, False) is not MISSING
        return find(self, key) >= 0

    def __len__(self):
        return self.store.table.count

    def __iter__(self):
        return iter(self.order)

    @property
    def maxsize(self):
        """The bound."""
        return self.maxsize_given

    @property
    def currsize(self):
        """The total size of the values."""
        return self.store.table.count if self.sizes is None else self.total

    # -- writing ----------------------------------------------------------------------------

    def __setitem__(self, key, value):
        if self.sizes is not None:
            set_sized(self, key, value)
            return
        if self.bound < 1:
            raise too_large(self, 1)
        if find(self, key) < 0:
            while <double> self.store.table.count + 1 > self.bound:
                self.popitem()
        put(self, key, value)

    def __delitem__(self, key):
        if key not in self.order:
            raise KeyError(key)
        if self.sizes is not None:
            self.total -= self.sizes.pop(key, 0)
        self.order.pop(key, None)
        self.store.discard(key)

    def popitem(self):
        """Remove the entry that would be evicted next and return its ``(key, value)``.

        Raises:
            KeyError: the cache is empty.
        """
        cdef uint32_t i = policy_coldest(&self.store.table.policy)
        if i == NIL:
            raise KeyError(f"{type(self).__name__} is empty") from None
        key = <object> self.store.table.entries[i].key
        value = <object> self.store.table.entries[i].value
        del self[key]
        return key, value

    def clear(self):
        """Remove every entry."""
        if self.sizes is not None:
            self.sizes.clear()
        self.total = 0
        self.order.clear()
        self.store.clear()

    # -- for the classes in Python ----------------------------------------------------------

    @property
    def _native_order(self):
        return self.order

    @property
    def _native_timer(self):
        return self.timer

    def _native_peek(self, key, /):
        """The value, expired or not, without using it."""
        cdef int64_t i = find(self, key)
        if i < 0:
            raise KeyError(key)
        return <object> self.store.table.entries[i].value

    def _native_take_due(self, now, /):
        """Remove the first entry in the order of iteration if it has expired; None if not."""
        if self.store.table.count == 0:
            return None
        key = next(iter(self.order), None)
        deadline = deadline_of(self, key)
        if deadline is None or earlier(now, deadline):
            return None
        value = self._native_peek(key)
        BoundedMapping.__delitem__(self, key)
        return key, value

    def _native_date(self, key, deadline, mark, /):
        """Tell when the entry, if it is there, ceases to be fresh, and its mark in the order."""
        cdef int64_t i = find(self, key)
        cdef Table* table = &self.store.table
        cdef PyObject* former
        if i < 0:
            return False
        table_need_extras(table)
        former = table.extras[i].note
        Py_INCREF(deadline)
        table.extras[i].note = <PyObject*> deadline
        Py_XDECREF(former)
        self.order[key] = mark
        return True

    def _native_check(self):
        """Assert that the parts agree; for tests."""
        self.store.check()
        assert len(self.order) == self.store.table.count, "the order and the store differ"
        for key in self.order:
            assert find(self, key) >= 0, f"{key!r} is only in the order"
        if self.sizes is not None:
            assert self.sizes.keys() == self.order.keys(), "the order and the sizes differ"
            assert self.total == sum(self.sizes.values()), "the sizes do not add up"

    def _native_save(self):
        """What `_native_load` takes: maxsize, order, sizes, and the entries, coldest first."""
        rows = [
            (row[0], row[1], row[7], deadline_of(self, row[0])) for row in self.store.entries()
        ]
        sizes = None if self.sizes is None else dict(self.sizes)
        return self.maxsize_given, list(self.order.items()), sizes, rows

    def _native_load(self, state, /):
        """Fill a mapping that was opened just now."""
        cdef int64_t i
        _, order, sizes, rows = state
        for key, value, uses, deadline in rows:
            put(self, key, value)
            i = find(self, key)
            policy_restore(
                &self.store.table.policy, self.store.table.entries, <uint32_t> i, uses, 0
            )
            if deadline is not None:
                self._native_date(key, deadline, None)
        self.order.clear()
        self.order.update(order)
        if sizes is not None:
            self.sizes = dict(sizes)
            self.total = sum(sizes.values())


cdef class KeySequence:
    """The keys of a mapping, to be picked from; removing one moves the last into its place."""

    cdef MemoryStore store

    @classmethod
    def __class_getitem__(cls, parameters, /):
        return GenericAlias(cls, parameters)

    def __init__(self, BoundedMapping mapping not None, /):
        self.store = mapping.store

    def __len__(self):
        return 0 if self.store is None else self.store.table.count

    def __getitem__(self, i, /):
        cdef Py_ssize_t count = len(self)
        cdef Py_ssize_t position
        if isinstance(i, slice):
            return list(self)[i]
        position = i + count if i < 0 else i
        if not 0 <= position < count:
            raise IndexError(f"position {i} of {count} keys")
        return <object> self.store.table.entries[position].key


# -- methods by plain fastcall --------------------------------------------------------------

cdef object bounded_get(object self, PyObject* const* args, Py_ssize_t count, PyObject* names):
    cdef PyObject* value
    cdef PyObject* default = default_argument(args, count, names)
    cdef BoundedMapping mapping = <BoundedMapping> self
    cdef object key = <object> args[0]
    if unlikely(
        subscript_of(type_of(self)) != native_subscript
        or contains_of(type_of(self)) != native_contains
    ):
        return get_as_overridden(mapping, key, <object> default)
    if unlikely(mapping.timer is not None):
        found = fresh(mapping, key, True)
        return <object> default if found is MISSING else found
    if likely(lookup(mapping.store, <PyObject*> key, &value)):
        return take(value)
    return <object> default


cdef PyMethodDef get_definition = PyMethodDef(
    ml_name="get",
    ml_meth=<void*> bounded_get,
    ml_flags=METH_FASTCALL | METH_KEYWORDS,
    ml_doc=(
        "get($self, key, /, default=None)\n--\n\n"
        "Return the value of the key, or ``default`` when it is not there."
    ),
)
add_method(BoundedMapping, &get_definition)
cdef void* native_subscript = subscript_of(<PyTypeObject*> BoundedMapping)
cdef void* native_contains = contains_of(<PyTypeObject*> BoundedMapping)


cdef object get_as_overridden(BoundedMapping self, object key, object default):
    """``get`` of a subclass with a ``__getitem__`` or ``__contains__`` of its own."""
    if self.timer is None:
        return self[key] if key in self else default
    with self.timer:
        return self[key] if key in self else default


cdef MemoryStore plain_store(object cache):
    """Where a mapping keeps what ``cache[key]`` returns; None if there is more to it than that."""
    if (
        not isinstance(cache, BoundedMapping)
        or subscript_of(type_of(cache)) != native_subscript
        or (<BoundedMapping> cache).timer is not None
    ):
        return None
    return (<BoundedMapping> cache).store


# -- the steps ------------------------------------------------------------------------------

cdef inline int64_t find(BoundedMapping self, object key) except -2:
    return table_find(&self.store.table, <PyObject*> key, mix(object_hash(<PyObject*> key)))


cdef int touch(BoundedMapping self, object key) except -1:
    cdef int64_t i = find(self, key)
    if i >= 0:
        policy_touch(&self.store.table.policy, self.store.table.entries, <uint32_t> i)
    return 0


cdef object fresh(BoundedMapping self, object key, bint use):
    """The value of an entry that has not expired, else MISSING."""
    cdef Table* table = &self.store.table
    cdef object now = read(self.timer)
    cdef int64_t i = find(self, key)
    cdef uint64_t version = table.version
    if i < 0:
        return MISSING
    value = <object> table.entries[i].value
    if table.extras != NULL and table.extras[i].note != NULL:
        deadline = <object> table.extras[i].note
        if not earlier(now, deadline):
            return MISSING
    if use and version == table.version:    # else the comparison has changed the cache
        policy_touch(&table.policy, table.entries, <uint32_t> i)
    return value


cdef object deadline_of(BoundedMapping self, object key):
    cdef int64_t i = find(self, key)
    cdef Table* table = &self.store.table
    if i < 0 or table.extras == NULL or table.extras[i].note == NULL:
        return None
    return <object> table.extras[i].note


cdef object too_large(BoundedMapping self, object size):
    return ValueTooLargeError(
        f"value too large: it counts {size}, and maxsize is {self.maxsize_given}"
    )


cdef int put(BoundedMapping self, object key, object value) except -1:
    """Insert or replace, whatever the bound."""
    cdef uint32_t hash = mix(object_hash(<PyObject*> key))
    cdef Table* table = &self.store.table
    cdef uint64_t version = table.version
    cdef int64_t i
    store_put_hashed(self.store, key, hash, value, 1, 0, 0, 1.0, 1.0, NULL)
    if version != table.version:        # it is new
        if find(self, key) >= 0:        # unless the end of another object removed it
            self.order.setdefault(key, None)
    elif self.renews:
        i = table_find(table, <PyObject*> key, hash)
        if i >= 0:
            recency_remove(&table.policy.recency, table.entries, <uint32_t> i)
            recency_add(&table.policy.recency, table.entries, <uint32_t> i)
    return 0


cdef int set_sized(BoundedMapping self, object key, object value) except -1:
    """Insert or replace a value that is measured."""
    size = self.getsizeof(value)
    if size > self.maxsize_given:
        raise too_large(self, size)
    if size < 0:
        raise ValueError(f"value size must be non-negative, got {size}")
    while self.total + size - self.sizes.get(key, 0) > self.maxsize_given:
        self.popitem()
    put(self, key, value)
    self.total += size - self.sizes.get(key, 0)
    self.sizes[key] = size
    return 0
