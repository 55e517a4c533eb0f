"""Taking entries out of the table, and telling of them and letting go of them afterwards."""

from cpython.exc cimport PyErr_WriteUnraisable
from libc.stdint cimport uint8_t

from hybridcore._native.policy cimport policy_clear
from hybridcore._native.removals cimport removal_at
from hybridcore._native.table cimport table_remove

from hybridcore.types import EvictionCause

cdef extern from "Python.h":
    PyObject* PyObject_CallFunctionObjArgs(object function, ...) noexcept

# In the order of the numbers.
cdef tuple CAUSES = (
    EvictionCause.SIZE, EvictionCause.EXPIRED, EvictionCause.EXPLICIT, EvictionCause.REPLACED,
)


cdef bint take_out(
    MemoryStore store, uint32_t i, int cause, Removals* removals
) noexcept:
    """Move an entry from the table to the removals; False when memory is out."""
    cdef Removal* removal = removals_next(removals)
    if removal == NULL:
        return False
    removal.key = store.table.entries[i].key
    removal.value = store.table.entries[i].value
    removal.note = NULL
    removal.cause = <uint8_t> cause
    cdef int64_t size = 1
    if store.table.extras != NULL:
        removal.note = store.table.extras[i].note
        size = store.table.extras[i].size
    store.size -= size
    store.removed_size[cause] += size
    store.removals[cause] += 1
    if cause != SIZE and unlikely(store.table.entries[i].hash < store.probe.below):
        probe_note(&store.probe, store.table.entries[i].hash, 0, REMOVED)
    table_remove(&store.table, i)
    return True


cdef int release(MemoryStore store, Removals* removals) except -1:
    """Tell the listener of what was removed and let it go. User code runs here, and only here."""
    cdef uint32_t i
    cdef Removal* removal
    cdef PyObject* listener
    cdef PyObject* heir
    cdef Section section
    if removals.count == 0:
        return 0
    enter(&section, <PyObject*> store)
    listener = <PyObject*> store.listener
    hold(listener)
    heir = <PyObject*> store.heir
    hold(heir)
    leave(&section)
    for i in range(removals.count):
        removal = removal_at(removals, i)
        if heir != <PyObject*> None and removal.cause == SIZE and removal.note != NULL:
            bequeath(<object> heir, removal)
        if listener != <PyObject*> None and removal.key != NULL:
            notify(<object> listener, removal.key, removal.value, removal.cause)
        Py_XDECREF(removal.key)
        Py_XDECREF(removal.value)
        Py_XDECREF(removal.note)
    Py_XDECREF(listener)
    Py_XDECREF(heir)
    PyMem_RawFree(removals.many)
    return 0


cdef void bequeath(object heir, Removal* removal) noexcept:
    """Hand an evicted entry with a note on; what that raises goes to sys.unraisablehook."""
    cdef PyObject* answer = PyObject_CallFunctionObjArgs(
        heir, removal.key, removal.value, removal.note, NULL
    )
    if answer == NULL:
        PyErr_WriteUnraisable(heir)
    Py_XDECREF(answer)


cdef void notify(object listener, PyObject* key, PyObject* value, int cause) noexcept:
    """Call the listener; what it raises goes to sys.unraisablehook."""
    # Cython's own way to ignore an exception prints it first, and that exits on SystemExit.
    cdef PyObject* answer = PyObject_CallFunctionObjArgs(
        listener, key, value, <PyObject*> CAUSES[cause], NULL
    )
    if answer == NULL:
        PyErr_WriteUnraisable(listener)
    Py_XDECREF(answer)


cdef tuple pop_victim(MemoryStore store):
    """Remove the entry that would be evicted next and return its key and value."""
    cdef Removals removals
    cdef uint32_t i
    expire(store)
    removals_init(&removals)
    with cython.critical_section(store):
        i = victim(store, NIL)
        if i == NIL:
            raise KeyError(f"popitem(): {type(store).__name__} is empty") from None
        # A new tuple may run the garbage collector, and that any code: after the entry is out.
        key = <object> store.table.entries[i].key
        value = <object> store.table.entries[i].value
        take_out(store, i, EXPLICIT, &removals)
    release(store, &removals)
    return key, value


cdef bint take_all(MemoryStore store, Table* old) noexcept:
    """Move all entries out of the store; False when memory is out."""
    old[0] = store.table
    try:
        table_init(&store.table)
    except MemoryError:
        store.table = old[0]
        return False
    store.table.version = old.version + 1
    store.table.policy = old.policy
    policy_clear(&store.table.policy)
    policy_init(&old.policy)
    store.removals[EXPLICIT] += old.count
    store.size = 0
    return True


cdef void let_go(Table* old, object listener) noexcept:
    """Tell the listener, if any, of the entries that were taken out, and let them go."""
    cdef uint32_t i
    for i in range(old.count):
        if listener is not None:
            notify(listener, old.entries[i].key, old.entries[i].value, EXPLICIT)
        Py_XDECREF(old.entries[i].key)
        Py_XDECREF(old.entries[i].value)
        if old.extras != NULL:
            Py_XDECREF(old.extras[i].note)
    table_free(old)
