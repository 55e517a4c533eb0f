"""The arguments of one call as a cache key, found in the table before a key is made of them.

One positional argument that is exactly a str or an int is the key itself. Everything else is a
tuple: the positional arguments; then, if there are keywords, a mark and each name with its value,
in the order given; then, if types count, the type of every argument. Two calls are the same if
these are equal. It is the scheme of functools.lru_cache.
"""

from cpython.object cimport PyObject
from libc.stdint cimport int64_t, uint32_t

from hybridcore._native.clock cimport coarse_ns
from hybridcore._native.memory cimport MemoryStore
from hybridcore._native.objects cimport EQUAL, likely, mix, object_hash, unlikely
from hybridcore._native.outcome cimport Raised
from hybridcore._native.policy cimport policy_touch
from hybridcore._native.sections cimport Section, enter, hold, leave
from hybridcore._native.table cimport Slot, Table

cdef extern from "Python.h":
    bint PyUnicode_CheckExact(PyObject* o) noexcept
    bint PyLong_CheckExact(PyObject* o) noexcept
    bint PyTuple_CheckExact(PyObject* o) noexcept
    Py_ssize_t PyTuple_GET_SIZE(PyObject* o) noexcept
    PyObject* PyTuple_GET_ITEM(PyObject* o, Py_ssize_t i) noexcept
    PyObject* PyTuple_New(Py_ssize_t n) except NULL
    void PyTuple_SET_ITEM(PyObject* o, Py_ssize_t i, PyObject* item) noexcept
    PyObject* Py_TYPE(PyObject* o) noexcept
    void Py_INCREF(PyObject* o) noexcept
    void Py_XDECREF(PyObject* o) noexcept

cdef extern from "objects.h" nogil:
    bint is_compact "hc_long_is_compact"(PyObject* o) noexcept
    Py_ssize_t compact_value "hc_long_value"(PyObject* o) noexcept
    int equal_scalars "hc_equal_scalars"(PyObject* a, PyObject* b) noexcept
    Py_hash_t HC_TUPLE_START
    Py_hash_t tuple_hash_add "hc_tuple_hash_add"(Py_hash_t state, Py_hash_t item) noexcept
    Py_hash_t tuple_hash_end "hc_tuple_hash_end"(Py_hash_t state, Py_ssize_t count) noexcept

cdef extern from *:
    """
    #include "objects.h"

    #define hc_kept_hash(text) (((PyASCIIObject *)(text))->hash)

    /* Whether two str are equal, and short enough to be compared without a call. */
    static inline int hc_same_text(PyObject *a, PyObject *b)
    {
        Py_ssize_t length = PyUnicode_GET_LENGTH(a);
        size_t bytes = (size_t)length * PyUnicode_KIND(a);
        return a == b
               || (length == PyUnicode_GET_LENGTH(b) && PyUnicode_KIND(a) == PyUnicode_KIND(b)
                   && bytes <= 64
                   && hc_same_bytes((const char *)PyUnicode_DATA(a),
                                    (const char *)PyUnicode_DATA(b), bytes));
    }
    """
    Py_hash_t kept_hash "hc_kept_hash"(PyObject* text) noexcept
    bint same_text "hc_same_text"(PyObject* a, PyObject* b) noexcept


# -- keys ---------------------------------------------------------------------------------------

cdef inline Py_ssize_t named_in(PyObject* names) noexcept:
    """How many arguments are given by name."""
    return PyTuple_GET_SIZE(names) if unlikely(names != NULL) else 0


cdef inline bint is_own_key(
    PyObject* const* args, Py_ssize_t count, PyObject* names
) noexcept:
    """Whether the only argument is the key itself, unless types count."""
    return (
        count == 1 and named_in(names) == 0
        and (PyUnicode_CheckExact(args[0]) or PyLong_CheckExact(args[0]))
    )


cdef inline Py_ssize_t key_size(Py_ssize_t count, Py_ssize_t named) noexcept:
    return count + 2 * named + 1 if named else count


cdef inline PyObject* key_tuple(
    PyObject* const* args, Py_ssize_t count, PyObject* names, bint typed, PyObject* mark
) except NULL:
    """The key of any call but that of one str or int."""
    cdef Py_ssize_t named = named_in(names)
    cdef Py_ssize_t n = key_size(count, named)
    cdef PyObject* key = PyTuple_New(n + count + named if typed else n)
    cdef Py_ssize_t i
    for i in range(count):
        set_item(key, i, args[i])
    if named:
        set_item(key, count, mark)
        for i in range(named):
            set_item(key, count + 2 * i + 1, PyTuple_GET_ITEM(names, i))
            set_item(key, count + 2 * i + 2, args[count + i])
    if typed:
        for i in range(count + named):
            set_item(key, n + i, Py_TYPE(args[i]))
    return key


cdef inline void set_item(PyObject* new_tuple, Py_ssize_t i, PyObject* item) noexcept:
    Py_INCREF(item)
    PyTuple_SET_ITEM(new_tuple, i, item)


cdef inline Py_hash_t hash_call(
    PyObject* const* args, Py_ssize_t count, PyObject* names, Py_hash_t mark_hash
) except -1:
    """The hash of the key tuple, types not counted; asks every argument once."""
    cdef Py_ssize_t named = named_in(names)
    cdef Py_hash_t state = HC_TUPLE_START
    cdef Py_ssize_t i
    for i in range(count):
        state = tuple_hash_add(state, object_hash(args[i]))
    if named:
        state = tuple_hash_add(state, mark_hash)
        for i in range(named):
            state = tuple_hash_add(state, object_hash(PyTuple_GET_ITEM(names, i)))
            state = tuple_hash_add(state, object_hash(args[count + i]))
    return tuple_hash_end(state, key_size(count, named))


cdef inline bint equal_call(
    PyObject* key, PyObject* const* args, Py_ssize_t count, PyObject* names, PyObject* mark
) noexcept:
    """Whether the key is the tuple of this call, as can be told without Python code."""
    cdef Py_ssize_t named = named_in(names)
    cdef Py_ssize_t i
    if not PyTuple_CheckExact(key) or PyTuple_GET_SIZE(key) != key_size(count, named):
        return False
    for i in range(count):
        if equal_scalars(PyTuple_GET_ITEM(key, i), args[i]) != EQUAL:
            return False
    if named:
        if PyTuple_GET_ITEM(key, count) != mark:
            return False
        for i in range(named):
            if equal_scalars(
                PyTuple_GET_ITEM(key, count + 2 * i + 1), PyTuple_GET_ITEM(names, i)
            ) != EQUAL:
                return False
            if equal_scalars(PyTuple_GET_ITEM(key, count + 2 * i + 2), args[count + i]) != EQUAL:
                return False
    return True


# -- hits ---------------------------------------------------------------------------------------
#
# NULL, and nothing has happened, wherever it is not a plain hit or Python code has to tell.

cdef inline PyObject* known_of_one(MemoryStore store, PyObject* key) noexcept:
    """The result of a call with one str or int, a new reference."""
    cdef PyObject* value
    cdef Section section
    cdef int64_t i = -1
    enter(&section, <PyObject*> store)
    if PyUnicode_CheckExact(key):
        i = find_text(&store.table, key)
    elif PyLong_CheckExact(key):
        i = find_number(&store.table, key)
    value = known_at(store, i)
    leave(&section)
    return value


cdef inline PyObject* known_of_many(
    MemoryStore store, PyObject* const* args, Py_ssize_t count, PyObject* names, PyObject* mark,
    uint32_t hash,
) noexcept:
    """The result of a call whose key is a tuple, a new reference."""
    cdef PyObject* value
    cdef Section section
    enter(&section, <PyObject*> store)
    value = known_at(store, find_call(&store.table, args, count, names, mark, hash))
    leave(&section)
    return value


cdef inline PyObject* known_at(MemoryStore store, int64_t i) noexcept:
    cdef Table* table = &store.table
    cdef PyObject* value
    cdef int64_t deadline
    if unlikely(i < 0):
        return NULL
    value = table.entries[i].value
    if unlikely(Py_TYPE(value) == <PyObject*> Raised):
        return NULL
    if table.extras != NULL:
        deadline = table.extras[i].deadline
        if deadline and (store.timer is not None or coarse_ns() >= deadline):
            return NULL
    policy_touch(&table.policy, table.entries, <uint32_t> i)
    store.hits += 1
    hold(value)
    return value


cdef inline int64_t find_text(Table* table, PyObject* key) noexcept:
    """Index of the entry of a str, or -1 if it is not there or not found so easily."""
    cdef Py_hash_t kept = kept_hash(key)
    cdef uint32_t hash = mix(kept)
    cdef uint32_t position = hash >> table.shift
    cdef PyObject* other
    cdef Slot slot
    if unlikely(kept == -1):
        return -1
    while True:
        slot = table.slots[position]
        if slot.entry == 0:
            return -1
        if slot.hash == hash:
            other = table.entries[slot.entry - 1].key
            if likely(PyUnicode_CheckExact(other)) and likely(same_text(key, other)):
                return <int64_t> slot.entry - 1
            return -1
        position = (position + 1) & table.mask


cdef inline int64_t find_number(Table* table, PyObject* key) noexcept:
    """The same of an int."""
    cdef Py_ssize_t number
    cdef uint32_t hash
    cdef uint32_t position
    cdef PyObject* other
    cdef Slot slot
    if unlikely(not is_compact(key)):
        return -1
    number = compact_value(key)
    hash = mix(number if likely(number != -1) else -2)
    position = hash >> table.shift
    while True:
        slot = table.slots[position]
        if slot.entry == 0:
            return -1
        if slot.hash == hash:
            other = table.entries[slot.entry - 1].key
            if likely(other == key) or (
                likely(PyLong_CheckExact(other)) and likely(is_compact(other))
                and likely(compact_value(other) == number)
            ):
                return <int64_t> slot.entry - 1
            return -1
        position = (position + 1) & table.mask


cdef inline int64_t find_call(
    Table* table, PyObject* const* args, Py_ssize_t count, PyObject* names, PyObject* mark,
    uint32_t hash,
) noexcept:
    """Index of the entry of a key tuple, or -1 if it is not there or not found so easily."""
    cdef uint32_t position = hash >> table.shift
    cdef Slot slot
    while True:
        slot = table.slots[position]
        if slot.entry == 0:
            return -1
        if slot.hash == hash:
            if likely(equal_call(table.entries[slot.entry - 1].key, args, count, names, mark)):
                return <int64_t> slot.entry - 1
            return -1
        position = (position + 1) & table.mask
