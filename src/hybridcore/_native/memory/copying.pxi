"""Entries as rows of Python objects, from which another store is made."""

from hybridcore._native.policy cimport policy_restore


@cython.critical_section
cdef list rows_of(MemoryStore store):
    """What `MemoryStore.entries` returns."""
    cdef list rows = []
    cdef int64_t now = clock(store)
    cdef uint64_t version = store.table.version
    cdef Rank* ranks = rank(store, BY_USE)
    cdef uint32_t k
    try:
        for k in range(store.table.count):
            rows.append(row_of(store, &ranks[k], now))
            if version != store.table.version:
                raise RuntimeError("the cache was changed while its entries were read")
    finally:
        PyMem_RawFree(ranks)
    return rows


cdef tuple row_of(MemoryStore store, const Rank* ranked, int64_t now):
    cdef uint32_t i = ranked.entry
    cdef uint32_t standing = ranked.standing
    cdef Extra* extra
    key = <object> store.table.entries[i].key
    value = <object> store.table.entries[i].value
    uses = policy_frequency(&store.table.policy, store.table.entries, i)
    if store.table.extras == NULL:
        return key, value, 0, 0, 1, 1.0, 1.0, uses, standing
    extra = &store.table.extras[i]
    left = max(extra.deadline - now, 1) if extra.deadline else 0
    return (
        key, value, extra.ttl, left, extra.size, extra.cost, extra.importance, uses, standing,
    )


cdef int put_back(MemoryStore store, tuple row) except -1:
    """Store an entry as it was."""
    cdef int64_t i
    key, value, ttl, left, size, cost, importance, frequency, standing = row
    store_put(store, key, value, size, left, 0, cost, importance, NULL)
    with cython.critical_section(store):
        i = find_fresh(store, key)
        if i < 0:
            return 0
        policy_restore(
            &store.table.policy, store.table.entries, <uint32_t> i, frequency, standing
        )
        if ttl and store.table.extras != NULL:
            store.table.extras[i].ttl = ttl
    return 0
