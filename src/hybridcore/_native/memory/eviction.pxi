"""Making room: what has expired goes first, then what the policy names.

Except for `expire`, `fresh_count`, `evict_batch` and those that call it, these are called within
the section of the store.
"""

from hybridcore._native.policy cimport (
    policy_evicted, policy_grade, policy_learn, policy_refuses, policy_resized, policy_victim,
)
from hybridcore._native.table cimport table_replace
from hybridcore._native.wheel cimport DUE

cdef enum:
    EVICT_PER_WRITE = 16    # entries that one write evicts at most on the way to low water
    BATCH = 1024            # entries evicted or released before other threads have a turn


cdef int expire(MemoryStore store) except -1:
    """Remove what has expired; returns how many entries."""
    cdef Removals removals
    cdef uint32_t count
    cdef int64_t now
    if store.table.wheel == NULL:
        return 0
    removals_init(&removals)
    with cython.critical_section(store):
        now = clock(store)
        if store.table.wheel == NULL:       # the timer cleared the cache
            return 0
        wheel_advance(store.table.wheel, store.table.extras, now)
        take_due(store, NIL, NIL, &removals)
    count = removals.count
    release(store, &removals)
    return count


cdef Py_ssize_t fresh_count(MemoryStore store) except -1:
    """How many entries have not expired. Those that have go, unless somebody iterates."""
    cdef Py_ssize_t count
    cdef int64_t now
    cdef uint32_t i
    if store.iterators == 0 or store.table.wheel == NULL:
        expire(store)
        return store.table.count
    with cython.critical_section(store):
        now = clock(store)
        count = store.table.count
        if store.table.wheel == NULL:       # the timer cleared the cache
            return count
        wheel_advance(store.table.wheel, store.table.extras, now)
        i = store.table.wheel.heads[DUE]
        while i != NIL:
            count -= 1
            i = store.table.extras[i].timer_next
    return count


cdef uint32_t take_due(
    MemoryStore store, uint32_t followed, uint32_t most, Removals* removals
) noexcept:
    """Take out what is due; returns where ``followed`` is then, NIL if it was among that."""
    cdef uint32_t i
    while store.table.wheel.heads[DUE] != NIL and removals.count < most:
        i = store.table.wheel.heads[DUE]
        if not take_out(store, i, EXPIRED, removals):
            break
        followed = follow(store, followed, i)
    return followed


cdef inline uint32_t follow(MemoryStore store, uint32_t followed, uint32_t removed) noexcept:
    """Where an entry is after another, or itself, was taken out: the last one fills the gap."""
    if followed == removed:
        return NIL
    return removed if followed == store.table.count else followed


cdef uint32_t victim(MemoryStore store, uint32_t spared) noexcept:
    """The entry that the policy would evict next, not ``spared``; NIL when there is no other."""
    return policy_victim(
        &store.table.policy, store.table.entries, store.table.extras, store.table.count, spared
    )


cdef inline bint is_large(MemoryStore store, uint32_t i) noexcept:
    """Whether the entry is larger than the average, and so would displace several."""
    return i != NIL and store.table.extras != NULL and (
        <uint64_t> store.table.extras[i].size > store.size // store.table.count
    )


cdef bint evict_one(MemoryStore store, uint32_t* spared, Removals* removals) noexcept:
    """Evict an entry, what is known to have expired first; False when there is none or no memory.

    ``spared`` is not evicted, and followed when it is moved.
    """
    cdef int cause = EXPIRED
    cdef uint32_t i = store.table.wheel.heads[DUE] if store.table.wheel != NULL else NIL
    if i == NIL:
        cause = SIZE
        i = spared[0]
        if not is_large(store, i) or not policy_refuses(
            &store.table.policy, store.table.entries, store.table.extras, store.table.count, i
        ):
            i = victim(store, i)
    if i == NIL:
        return False
    if cause == SIZE:
        policy_evicted(
            &store.table.policy, store.table.entries, store.table.count, &store.table.entries[i]
        )
    if not take_out(store, i, cause, removals):
        return False
    spared[0] = follow(store, spared[0], i)
    return True


cdef inline bint makes_way(MemoryStore store) noexcept:
    """Whether one entry goes, and no more, for each new one: all that is to be weighed is use."""
    return (
        store.table.extras == NULL and store.table.count > 0
        and store.size == <uint64_t> store.limit and store.low_water == store.limit
    )


cdef inline uint32_t swap(
    MemoryStore store, PyObject* key, PyObject* value, uint32_t hash, uint32_t gap, Entry* gone
) noexcept:
    """Evict an entry, ``gone``, and put a new one in its place, which is returned."""
    cdef uint32_t i = victim(store, NIL)
    gone[0] = store.table.entries[i]
    hold(key)
    hold(value)
    table_replace(&store.table, i, key, value, hash, gap)
    policy_evicted(&store.table.policy, store.table.entries, store.table.count + 1, gone)
    store.removed_size[SIZE] += 1
    store.removals[SIZE] += 1
    store.insertions += 1
    return i


cdef uint32_t make_room(MemoryStore store, uint32_t spared, Removals* removals) noexcept:
    """Evict until the bound holds, and once it was reached a few more at each write.

    While the cache is being shrunk, the bound does not hold, and a write does not wait for it.
    Returns where ``spared``, which is not evicted, is afterwards.
    """
    cdef uint64_t limit = <uint64_t> store.limit
    cdef uint32_t most = removals.count + EVICT_PER_WRITE
    if store.size > limit:
        store.above_low_water = store.low_water < store.limit
        if not store.shrinking:
            while store.size > limit:
                if not evict_one(store, &spared, removals):
                    if spared == NIL:
                        break
                    spared = NIL        # the bound was lowered while the entry came in
        else:
            store.above_low_water = True
    if store.above_low_water:
        while store.size > <uint64_t> store.low_water and removals.count < most:
            if not evict_one(store, &spared, removals):
                break
        store.above_low_water = (
            removals.count >= most and store.size > <uint64_t> store.low_water
        )
    return spared


cdef int64_t evict_batch(
    MemoryStore store, int64_t most, int64_t size, bint to_bound
) except -1:
    """Evict until so many entries are gone, so much size, or the bound holds, then let go of them.

    Returns how many there were. Other threads have a turn at the end.
    """
    cdef Removals removals
    cdef uint32_t spared = NIL
    cdef uint64_t before
    cdef int64_t evicted
    removals_init(&removals)
    with cython.critical_section(store):
        before = store.size
        while removals.count < most and before - store.size < <uint64_t> size:
            if to_bound and store.size <= <uint64_t> store.limit:
                break
            if not evict_one(store, &spared, &removals):
                break
            policy_settle(
                &store.table.policy, store.table.entries, store.table.extras, store.table.count,
                NIL,
            )
    evicted = removals.count
    release(store, &removals)
    with nogil:
        pass
    return evicted


cdef int64_t evict_some(MemoryStore store, int64_t wanted) except -1:
    """Evict so many entries; returns how many were."""
    cdef int64_t evicted = 0
    cdef int64_t some = 1
    expire(store)
    while evicted < wanted and some:
        some = evict_batch(store, min(wanted - evicted, <int64_t> BATCH), INT64_MAX, False)
        evicted += some
    return evicted


cdef object evict_bytes(MemoryStore store, uint64_t wanted):
    """Evict entries of this total size or more; returns what they counted."""
    cdef uint64_t before = store.removed_size[SIZE]
    expire(store)
    while store.removed_size[SIZE] - before < wanted and evict_batch(
        store, BATCH, <int64_t> (wanted - (store.removed_size[SIZE] - before)), False
    ):
        pass
    return store.removed_size[SIZE] - before


cdef int resize_to(MemoryStore store, int64_t bound) except -1:
    """Set a new bound and evict down to it."""
    cdef bint counted = store.sizer is None and not store.estimates
    expire(store)
    with cython.critical_section(store):
        set_limit(store, bound)
        policy_resized(&store.table.policy, bound if counted and bound != NO_LIMIT else 0)
        if store.size >= store.study_from and store.limit != NO_LIMIT:
            policy_study(&store.table.policy, capacity_of(store))
        store.shrinking += 1
    try:
        while store.size > <uint64_t> store.limit and evict_batch(store, BATCH, INT64_MAX, True):
            pass
    finally:
        with cython.critical_section(store):
            store.shrinking -= 1
    return 0


cdef uint64_t capacity_of(MemoryStore store) noexcept:
    """How many entries fit, if those to come are like those that are there."""
    if store.sizer is None and not store.estimates and store.table.extras == NULL:
        return <uint64_t> store.limit
    return <uint64_t> (
        <double> store.table.count * store.limit / fmax(<double> store.size, 1)
    )


cdef void set_limit(MemoryStore store, int64_t limit) noexcept:
    store.limit = limit
    store.low_water = limit
    if limit != NO_LIMIT and store.low_share < 1:
        store.low_water = <int64_t> (limit * store.low_share)
    store.study_from = <uint64_t> NO_LIMIT + 1 if limit == NO_LIMIT else <uint64_t> (limit // 8)


cdef int make_policy(Policy* policy, weights, adaptive, uint64_t capacity) except -1:
    """The policy that the weights and the learning ask for."""
    policy_init(policy)
    if adaptive is not None and adaptive.enabled:
        policy_learn(
            policy, adaptive.learning_rate, adaptive.performance_target or 0, False,
            adaptive.seed, capacity,
        )
    elif weights.frequency or weights.size or weights.cost or weights.importance:
        if not policy_grade(policy, weights.recency, weights.frequency):
            raise MemoryError()
    return 0
