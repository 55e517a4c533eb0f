"""Hits that are timed: a few that stand for all, at random, so that no pattern evades them."""

cdef int32_t NEVER = 0x7FFFFFFF


cdef int lookup_timed(MemoryStore store, PyObject* key, PyObject** value) except -1:
    """`lookup`; a hit is recorded as if there had been as many as lookups are left out."""
    cdef int64_t start, i
    cdef uint32_t hash
    cdef int found
    cdef Histogram timing = store.timing
    cdef bint is_timed = timing is not None
    store.until_timed = gap(store) if is_timed else NEVER
    start = start_timing()
    hash = mix(object_hash(key))
    found = lookup_probing(store, key, hash, value)
    if found == UNDECIDED:
        is_timed = False        # what it takes depends on the user's code
        found = lookup_asking(store, key, hash, value)
    if found and is_timed:
        end_timing(timing, start, store.one_in)
        if store.table.extras != NULL:
            with cython.critical_section(store):
                i = table_probe(&store.table, key, hash)
                if i >= 0:
                    store.hit_bytes += <uint64_t> store.table.extras[i].size * store.one_in
    if unlikely(hash < store.probe.below):
        note_lookup(store, key, hash, found)
    return found


cdef int32_t gap(MemoryStore store) noexcept:
    """How many lookups until the next that is timed: from 1 up, ``one_in`` on average."""
    store.random = store.random * <uint64_t> 6364136223846793005 + <uint64_t> 1442695040888963407
    return <int32_t> ((store.random >> 33) % (2 * <uint64_t> store.one_in - 1)) + 1
