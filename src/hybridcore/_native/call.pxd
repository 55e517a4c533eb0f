"""The arguments of one call as a cache key, found in the table before a key is made of them.

One positional argument that is exactly a str or an int is the key itself. Everything else is a
tuple: the positional arguments; then, if there are keywords, a mark and each name with its value,
in the order given; then, if types count, the type of every argument. Two calls are the same if
these are equal. It is the scheme of functools.lru_cache.
"""

from cpython.object cimport PyObject
from libc.stdint cimport int64_t, uint32_t

from hybridcore._native.memory cimport MemoryStore, answer, timer_now
from hybridcore._native.objects cimport ASK_PYTHON, EQUAL, likely, mix, object_hash
from hybridcore._native.table cimport Slot, Table, table_find

cdef extern from "Python.h":
    bint PyUnicode_CheckExact(PyObject* o) noexcept
    bint PyLong_CheckExact(PyObject* o) noexcept
    bint PyTuple_CheckExact(PyObject* o) noexcept
    Py_ssize_t PyTuple_GET_SIZE(PyObject* o) noexcept
    PyObject* PyTuple_GET_ITEM(PyObject* o, Py_ssize_t i) noexcept
    PyObject* Py_TYPE(PyObject* o) noexcept
    void Py_INCREF(PyObject* o) noexcept
    void Py_XDECREF(PyObject* o) noexcept

cdef extern from "objects.h" nogil:
    int equal_scalars "hc_equal_scalars"(PyObject* a, PyObject* b) noexcept
    Py_hash_t HC_TUPLE_START
    Py_hash_t tuple_hash_add "hc_tuple_hash_add"(Py_hash_t state, Py_hash_t item) noexcept
    Py_hash_t tuple_hash_end "hc_tuple_hash_end"(Py_hash_t state, Py_ssize_t count) noexcept

cdef extern from *:
    """
    /* tuple items are set once, before anybody sees the tuple */
    static inline PyObject *hc_tuple_of(PyObject **items, Py_ssize_t n)
    {
        PyObject *tuple = PyTuple_New(n);
        if (tuple != NULL)
            for (Py_ssize_t i = 0; i < n; i++) {
                Py_INCREF(items[i]);
                PyTuple_SET_ITEM(tuple, i, items[i]);
            }
        return tuple;
    }
    """
    PyObject* tuple_of "hc_tuple_of"(PyObject** items, Py_ssize_t n) except NULL

cdef enum:
    FEW = 24    # items laid out on the stack; of more a tuple is made at once


cdef inline bint is_own_key(
    PyObject* const* args, Py_ssize_t count, PyObject* names, bint typed
) noexcept:
    """Whether the only argument is the key itself."""
    return (
        likely(count == 1) and not typed
        and (likely(names == NULL) or PyTuple_GET_SIZE(names) == 0)
        and (PyUnicode_CheckExact(args[0]) or PyLong_CheckExact(args[0]))
    )


cdef inline Py_ssize_t layout_size(Py_ssize_t count, Py_ssize_t named, bint typed) noexcept:
    return count + (2 * named + 1 if named else 0) + (count + named if typed else 0)


cdef inline void lay_out(
    PyObject** items, PyObject* const* args, Py_ssize_t count, PyObject* names, Py_ssize_t named,
    bint typed, PyObject* mark,
) noexcept:
    """Write the items of the key tuple, borrowed."""
    cdef Py_ssize_t i
    for i in range(count):
        items[i] = args[i]
    items += count
    if named:
        items[0] = mark
        items += 1
        for i in range(named):
            items[0] = PyTuple_GET_ITEM(names, i)
            items[1] = args[count + i]
            items += 2
    if typed:
        for i in range(count + named):
            items[i] = Py_TYPE(args[i])


cdef inline Py_hash_t hash_items(PyObject** items, Py_ssize_t n) except -1:
    """The hash of a tuple of these; asks every item once."""
    cdef Py_hash_t state = HC_TUPLE_START
    cdef Py_ssize_t i
    for i in range(n):
        state = tuple_hash_add(state, object_hash(items[i]))
    return tuple_hash_end(state, n)


cdef inline int equal_items(PyObject* key, PyObject** items, Py_ssize_t n) noexcept:
    """Whether the key is a tuple of these, as far as it can be told without Python code."""
    cdef Py_ssize_t i
    cdef int same
    if not PyTuple_CheckExact(key):
        return ASK_PYTHON
    if PyTuple_GET_SIZE(key) != n:
        return 0
    for i in range(n):
        same = equal_scalars(PyTuple_GET_ITEM(key, i), items[i])
        if same != EQUAL:
            return same
    return EQUAL


cdef inline int64_t find_items(
    Table* table, PyObject** items, Py_ssize_t n, uint32_t hash, PyObject** key
) except -2:
    """Index of the entry, or -1; a key tuple is made only if Python code has to compare."""
    cdef uint32_t position = hash >> table.shift
    cdef Slot slot
    cdef int same
    while True:
        slot = table.slots[position]
        if slot.entry == 0:
            return -1
        if slot.hash == hash:
            same = equal_items(table.entries[slot.entry - 1].key, items, n)
            if likely(same == EQUAL):
                return <int64_t> slot.entry - 1
            if same == ASK_PYTHON:
                if key[0] == NULL:
                    key[0] = tuple_of(items, n)
                return table_find(table, key[0], hash)
        position = (position + 1) & table.mask


cdef inline int lookup_items(
    MemoryStore store, PyObject** items, Py_ssize_t n, PyObject** key, uint32_t* hash,
    PyObject** value,
) except -1:
    """1 and the value, borrowed, or 0; ``key`` may come out as a new reference in any case."""
    cdef int64_t now
    hash[0] = mix(hash_items(items, n))
    now = timer_now(store)
    return answer(store, find_items(&store.table, items, n, hash[0], key), now, value)
