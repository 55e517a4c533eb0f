"""Noting requests of the keys that the probe is after, and calling who is to look at them."""

from cpython.exc cimport PyErr_WriteUnraisable

from hybridcore._native.probe cimport EVENTS, LOOKUP, PUT, REMOVED, probe_note
from hybridcore._native.table cimport table_probe


cdef bint is_plain(MemoryStore store) noexcept:
    """Whether every entry counts 1, without a ttl, and nobody is told of it."""
    return (
        store.sizer is None and not store.estimates and store.ttl == 0
        and store.listener is None and store.prober is None
    )


cdef void note_lookup(MemoryStore store, PyObject* key, uint32_t hash, bint found) noexcept:
    """Have the probe note a lookup; of a miss without the size, which the put will tell."""
    cdef Section section
    cdef int64_t i
    cdef int64_t size = 0
    enter(&section, <PyObject*> store)
    i = table_probe(&store.table, key, hash)
    if found:
        size = store.table.extras[i].size if i >= 0 and store.table.extras != NULL else 1
    elif i >= 0:
        probe_note(&store.probe, hash, 0, REMOVED)      # it has expired
    probe_note(&store.probe, hash, size, LOOKUP)
    leave(&section)
    tell_prober(store, key, hash)


cdef void note_put(MemoryStore store, object key, uint32_t hash, int64_t size) noexcept:
    cdef Section section
    enter(&section, <PyObject*> store)
    probe_note(&store.probe, hash, size, PUT)
    leave(&section)
    tell_prober(store, <PyObject*> key, hash)


cdef void tell_prober(MemoryStore store, PyObject* key, uint32_t hash) noexcept:
    """Keep the key if keys are kept, and call the prober if the probe is full."""
    with cython.critical_section(store):
        prober = store.prober
        names = store.names
    try:
        if names is not None:
            names.setdefault(hash, <object> key)
        if store.probe.count == EVENTS and prober is not None:
            prober()
    except BaseException:
        PyErr_WriteUnraisable(prober)
