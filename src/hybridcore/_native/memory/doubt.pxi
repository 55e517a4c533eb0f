"""Entries that are watched: fresh only in an epoch, until they are confirmed; and notes on entries.

Called within the section of the store.
"""


cdef bint confirm(MemoryStore store, object key, uint16_t epoch) except -1:
    """Let the entry be fresh in the epoch; return whether it is there."""
    cdef int64_t i = find(store, key)
    if i < 0:
        return False
    table_need_extras(&store.table)
    store.table.extras[i].epoch = epoch
    return True


cdef int outdate_all(MemoryStore store) except -1:
    cdef uint32_t i
    table_need_extras(&store.table)
    for i in range(store.table.count):
        store.table.extras[i].epoch = OUTDATED
    return 0


cdef int doubted(MemoryStore store, object key) except -1:
    """What `MemoryStore.doubted` returns."""
    cdef int64_t i = find(store, key)
    if i < 0 or store.table.extras == NULL or not is_doubtful(store, i):
        return 0
    return 2 if store.table.extras[i].epoch == OUTDATED else 1


cdef void doubt(MemoryStore store) noexcept:
    """Begin another epoch."""
    cdef uint32_t i
    store.epoch += 1
    if store.epoch < OUTDATED:
        return
    store.epoch = 3
    if store.table.extras != NULL:       # once in 65 533 times
        for i in range(store.table.count):
            if store.table.extras[i].epoch not in (0, OUTDATED):
                store.table.extras[i].epoch = 1


cdef bint annotate(MemoryStore store, object key, object note) except -1:
    """Give the entry another note; return whether it is there."""
    cdef int64_t i = find(store, key)
    cdef PyObject* former
    if i < 0:
        return False
    table_need_extras(&store.table)
    former = store.table.extras[i].note
    Py_INCREF(note)
    store.table.extras[i].note = <PyObject*> note
    Py_XDECREF(former)
    return True


cdef tuple held(MemoryStore store, object key):
    """What `MemoryStore.held` returns."""
    cdef int64_t now = clock(store) if store.table.wheel != NULL else 0
    cdef int64_t i = find(store, key)
    cdef Extra* extra
    if i < 0:
        return None
    value = <object> store.table.entries[i].value
    if store.table.extras == NULL:
        return value, None, None
    if has_ended(store, i, now):
        return None
    extra = &store.table.extras[i]
    return (
        value,
        (extra.deadline - now) / 1e9 if extra.deadline else None,
        <object> extra.note if extra.note != NULL else None,
    )
