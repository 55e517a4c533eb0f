"""Finding an entry, and whether it is fresh.

Except for `lookup_asking`, these are called within the section of the store. The clock and the
``__eq__`` of keys may be the user's code, which may change the table then, as under the GIL.
"""


cdef int64_t clock(MemoryStore store) except? -1:
    """Nanoseconds on the store's clock."""
    return coarse_ns() if store.timer is None else read_timer(store.timer)


cdef int lookup_asking(
    MemoryStore store, PyObject* key, uint32_t hash, PyObject** value
) except -1:
    """`lookup` where the timer or a key's ``__eq__`` are Python code."""
    cdef int found
    with cython.critical_section(store):
        found = lookup_hashed(store, key, hash, value)
        if found:
            hold(value[0])
    return found


cdef int64_t find(MemoryStore store, object key) except -2:
    """Index of the entry, expired or not; -1 when it is not there."""
    return table_find(&store.table, <PyObject*> key, mix(object_hash(<PyObject*> key)))


cdef int64_t find_fresh(MemoryStore store, object key) except -2:
    """Index of the entry if it is there and has not expired, -1 otherwise; counts nothing."""
    cdef int64_t now = clock(store) if store.table.wheel != NULL else 0
    cdef int64_t i = find(store, key)
    return i if i >= 0 and is_fresh(store, i, now) else -1


cdef inline bint is_fresh(MemoryStore store, int64_t i, int64_t now) noexcept:
    return store.table.extras == NULL or (
        not is_doubtful(store, i)
        and (
            store.table.extras[i].deadline == 0 or now < store.table.extras[i].deadline
        )
    )


cdef inline bint has_ended(MemoryStore store, int64_t i, int64_t now) noexcept:
    """Whether the entry is past its ttl and the time it was to be kept stale."""
    return (
        store.table.extras != NULL and store.table.extras[i].deadline != 0
        and store.table.extras[i].until <= now
    )
